// SPDX-License-Identifier: GPL-2.0-only
/**
 * The recorded machines, as `kproto topo` reads them. Goal: from lspci's text, from its bytes, and from both,
 * comes the machine that the kernel had, and the verdicts that it gave. Method: devs.json and pairs-*.json
 * beside the captures.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CpuModel, DeviceDescription } from '../../../arch/sim/description.ts';
import { askKernel, askPair, bootedFunction, withKernel } from '../../../tools/topo/kernel.ts';
import { verdicts } from '../../../tools/topo/unknown.ts';
import { captureStates, readRecordedDevices } from '../../../tools/topology/capture.ts';
import { readSource, type SourceMachine } from '../../../tools/topology/source.ts';
import {
	EXPECT_EQ,
	EXPECT_GT,
	EXPECT_STREQ,
	FIXTURE,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';

const base = fileURLToPath(new URL('../../golden/p2p/lspci/', import.meta.url));
/** lspci's text tells these bits of an ACS capability, its bytes all. */
const ACS_BITS = 0x7f;
const REFUSED = 1;
const BUS_ADDR = 2;
const makers: Readonly<Record<number, CpuModel['vendor']>> = { 0: 'intel', 2: 'amd', 9: 'hygon' };

const record = FIXTURE('record', () => ({}), FIXTURE_VARIANT({ folder: '', state: 'boot' }));
for (const name of readdirSync(base))
	for (const state of captureStates(base + name))
		FIXTURE_VARIANT_ADD(record, `${name}_${state}`, { folder: base + name, state });

function json<T>(folder: string, name: string): T {
	return JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as T;
}

/** Read a capture by its files, with the CPU that was recorded. */
function read(folder: string, ...files: string[]): SourceMachine {
	const { cpu_vendor, cpu_family, cpu_model } = readRecordedDevices(folder);
	const vendor = makers[cpu_vendor];
	if (vendor === undefined) throw new Error(`CPU vendor ${cpu_vendor} in ${folder}`);
	const cpu = { vendor, family: cpu_family, model: cpu_model };
	return readSource(
		files.map((file) => join(folder, file)),
		{ cpu },
	);
}

const textOf = (state: string) =>
	state === 'boot' ? 'lspci-D-nn-vvv.txt' : `lspci-D-nn-vvv-${state}.txt`;
const bytes = 'lspci-D-n-xxxx.txt';

function acsText(cap: number | null, control: number | null, mask: number): string {
	return cap === null || control === null ? 'none' : `${cap & mask}/${control}`;
}

function seen(device: DeviceDescription, mask: number, bars: boolean): string {
	return [
		device.bdf,
		device.vendor,
		device.device,
		device.class,
		device.header,
		device.multifunction === true,
		device.pcieType,
		device.parent,
		device.secondary ?? -1,
		acsText(device.acs?.cap ?? null, device.acs?.control ?? null, mask),
		...(bars
			? device.bars.map(
					(bar) =>
						`${bar.bar}:${bar.phys}+${bar.size} ${bar.io === true} ${bar.prefetchable} ${bar.is64}`,
				)
			: []),
	].join(' ');
}

function recorded(folder: string, state: string, mask: number, bars: boolean): string[] {
	const { acs } = json<{ acs: ([number, number] | null)[] }>(folder, `state-${state}`);
	return readRecordedDevices(folder).devs.map((dev, i) =>
		[
			dev.bdf,
			Number(dev.vendor),
			Number(dev.device),
			Number(dev.class),
			dev.hdr,
			(dev as unknown as { mf: number }).mf === 1,
			dev.pcie_type,
			dev.parent,
			dev.sec,
			acsText(acs[i]?.[0] ?? null, acs[i]?.[1] ?? null, mask),
			...(bars
				? dev.bars.map(
						(bar) =>
							`${bar.bar}:${bar.phys}+${bar.len} ${bar.mem === 0} ${bar.pref === 1} ${bar.m64 === 1}`,
					)
				: []),
		].join(' '),
	);
}

TEST_F(record, 'text_and_bytes_give_the_recorded_machine', (_self, { folder, state }) => {
	const sources: [SourceMachine, number, boolean][] = [
		[read(folder, textOf(state)), ACS_BITS, true],
	];
	// The bytes were dumped after boot.
	if (state === 'boot') {
		sources.push([read(folder, textOf(state), bytes), 0xffff, true]);
		sources.push([read(folder, bytes), 0xffff, false]);
	}
	for (const [source, mask, bars] of sources) {
		// Firmware may have the kernel begin with another host bridge than the lowest.
		const want = recorded(folder, state, mask, bars).sort();
		EXPECT_STREQ(
			want.join('\n'),
			source.description.devices
				.map((device) => seen(device, mask, bars))
				.sort()
				.join('\n'),
		);
	}
});

interface RecordedPairs {
	type: number[][];
	dist: number[][];
}

TEST_F(record, 'verdicts_are_the_recorded_ones', (_self, { folder, state }) => {
	const pairs = json<RecordedPairs>(folder, `pairs-${state}`);
	const sources = [read(folder, textOf(state))];
	if (state === 'boot') sources.push(read(folder, textOf(state), bytes), read(folder, bytes));
	const addresses = readRecordedDevices(folder).devs.map(({ bdf }) => bdf);
	let allowed = 0;
	for (const { description } of sources) {
		const answers = verdicts(
			{ machine: description, kernel: 'v6.12', pci: [] },
			addresses,
			addresses,
		);
		for (const [p, row] of answers.entries()) {
			for (const [c, { may, hops }] of row.entries()) {
				EXPECT_EQ(1, may.length);
				const type = pairs.type[p]?.[c];
				const by =
					type === BUS_ADDR
						? ['self', 'switch']
						: type === REFUSED
							? ['refused']
							: ['redirected', 'host', 'across'];
				if (!by.includes(may[0] ?? ''))
					EXPECT_STREQ(
						`${addresses[p]} ${addresses[c]} ${by}`,
						may[0] ?? '',
					);
				if (type !== REFUSED) {
					EXPECT_EQ(pairs.dist[p]?.[c] ?? -2, hops);
					allowed++;
				}
			}
		}
	}
	EXPECT_GT(allowed, 0);
});

TEST_F(record, 'one_of_many_pairs_alike_is_enough_to_ask', (_self, { folder, state }) => {
	const { description: machine } = read(folder, textOf(state));
	const scenario = { machine, kernel: 'v7.3', pci: [] } as const;
	const addresses = machine.devices.map(({ bdf }) => bdf);
	const together = askKernel(scenario, addresses, addresses);
	const each = withKernel(scenario, () => {
		const functions = addresses.map(bootedFunction);
		return functions.map((p) => functions.map((c) => askPair(p, c)));
	});
	EXPECT_STREQ(JSON.stringify(each), JSON.stringify(together));
});
