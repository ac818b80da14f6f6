// SPDX-License-Identifier: GPL-2.0-only
/**
 * The recorded machines. Goal: the reader sees in lspci text what the kernel saw, and the fabric lets
 * through what that kernel would have routed. Method: compare with devs.json; for every pair that the kernel
 * allowed, read a BAR by the address that it would have handed out.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type MachineDescription, parseHex } from '../../../arch/sim/description.ts';
import { makeMachine } from '../../../arch/sim/machine.ts';
import type { Bar } from '../../../arch/sim/pcie/hierarchy.ts';
import {
	captureStates,
	type RecordedDevice,
	readCapture,
	readRecordedDevices,
} from '../../../tools/topology/capture.ts';
import { refusal } from '../../arch/sim/refusal.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_GT,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';

const base = fileURLToPath(new URL('../../golden/p2p/lspci/', import.meta.url));
/** ACS bits; the rest of the capability word is not in lspci's text. */
const ACS_BITS = 0x7f;

const capture = FIXTURE('capture', () => ({}), FIXTURE_VARIANT({ folder: '', state: 'boot' }));

for (const name of readdirSync(base)) {
	for (const state of captureStates(base + name)) {
		FIXTURE_VARIANT_ADD(capture, `${name}_${state}`, { folder: base + name, state });
	}
}

/** What devs.json says of a function, in the shape of seenAs(). */
function recordedAs(dev: RecordedDevice): string {
	const bars = dev.bars.map(
		(bar) =>
			`${bar.bar}:${bar.phys}+${bar.len} ${bar.mem ? '' : 'io'}${bar.pref ? 'p' : ''}${bar.m64 ? '64' : ''}`,
	);
	const acs = dev.acs_cap === null ? 'none' : String(Number(dev.acs_cap) & ACS_BITS);
	return [
		dev.bdf,
		Number(dev.vendor),
		Number(dev.device),
		Number(dev.class),
		dev.hdr,
		dev.pcie_type,
		dev.parent,
		dev.sec,
		acs,
		...bars,
	].join(' ');
}

/** What the reader says of a function. */
function seenAs(d: MachineDescription['devices'][0]): string {
	const bars = d.bars.map(
		(bar) =>
			`${bar.bar}:${bar.phys}+${bar.size} ${bar.io ? 'io' : ''}${bar.prefetchable ? 'p' : ''}${bar.is64 ? '64' : ''}`,
	);
	const acs = d.acs === null ? 'none' : String(d.acs.cap & ACS_BITS);
	return [
		d.bdf,
		d.vendor,
		d.device,
		d.class,
		d.header,
		d.pcieType,
		d.parent,
		d.secondary ?? -1,
		acs,
		...bars,
	].join(' ');
}

interface RecordedState {
	acs: ([number, number, number] | null)[];
	ids: [number, number][];
	cpu_vendor: number;
	cpu_family: number;
}

function json<T>(folder: string, file: string): T {
	return JSON.parse(readFileSync(`${folder}/${file}.json`, 'utf8')) as T;
}

TEST_F(capture, 'reader_sees_what_the_kernel_saw', (_self, { folder, state }) => {
	const d = readCapture(folder, { state: state as 'boot', exactOffsets: true });
	const { devs, cpu_family } = readRecordedDevices(folder);
	EXPECT_EQ(cpu_family, d.cpu.family);
	EXPECT_EQ(devs.length, d.devices.length);
	const { acs } = json<RecordedState>(folder, `state-${state}`);
	for (const [i, dev] of devs.entries()) {
		const seen = d.devices.find(({ bdf }) => bdf === dev.bdf);
		if (seen === undefined) throw new Error(`the reader lost ${dev.bdf}`);
		EXPECT_STREQ(recordedAs(dev), seenAs(seen));
		const control = acs[i]?.[1] ?? null;
		if (control !== null && seen.acs !== null) EXPECT_EQ(control, seen.acs.control);
		for (const [k, bar] of dev.bars.entries())
			EXPECT_STREQ(bar.bus, seen.bars[k]?.bus ?? '');
	}
});

TEST_F(capture, 'default_offsets_are_never_zero', (_self, { folder, state }) => {
	const d = readCapture(folder, { state: state as 'boot' });
	for (const host of d.hostBridges) EXPECT_FALSE(parseHex(host.busOffset) === 0n);
	for (const bar of d.devices.flatMap((device) => device.bars)) {
		if (!bar.io) EXPECT_FALSE(bar.phys === bar.bus);
	}
});

interface RecordedPairs {
	/** enum pci_p2pdma_map_type as v6.12 numbers it, by provider and client. */
	type: number[][];
}
const BUS_ADDR = 2;
const THRU_HOST_BRIDGE = 3;

/**
 * Endpoints only: a request from below does not reach a bridge's own BAR, though the recorded kernel
 * calls such a pair BUS_ADDR.
 */
TEST_F(capture, 'fabric_agrees_with_the_recorded_verdicts', (_self, { folder, state }) => {
	const machine = makeMachine({
		...readCapture(folder, { state: state as 'boot' }),
		iommu: null,
	});
	const { type } = json<RecordedPairs>(folder, `pairs-${state}`);
	const endpoints = readRecordedDevices(folder).devs.map(({ bdf }) => {
		const fn = machine.function(bdf);
		return fn?.headerType === 0 ? fn : null;
	});
	let allowed = 0;
	for (const [p, provider] of endpoints.entries()) {
		const bar = provider?.bars.find((one: Bar) => !one.io);
		if (bar === undefined) continue;
		for (const [c, client] of endpoints.entries()) {
			if (client === null) continue;
			const byBus = machine.fabric.read(client, bar.address, 4).status;
			const byCpu = machine.fabric.read(client, bar.phys, 4).status;
			const verdict = type[p]?.[c];
			if (verdict === BUS_ADDR) EXPECT_STREQ('SC', byBus);
			else if (verdict === THRU_HOST_BRIDGE) EXPECT_STREQ('SC', byCpu);
			else EXPECT_STREQ('UR', byCpu);
			if (verdict === BUS_ADDR || verdict === THRU_HOST_BRIDGE) allowed++;
		}
	}
	EXPECT_GT(allowed, 0);
});

TEST('capture_without_its_files', () => {
	EXPECT_TRUE(
		refusal(() => readCapture('/nowhere'))?.startsWith(
			'/nowhere/devs.json:1: expected',
		),
	);
});
