// SPDX-License-Identifier: GPL-2.0-only
/**
 * Real machines, as others published them. Goal: each gives both matrices, what its source can't tell is said,
 * and its tree and nearness are those that the source's own bus ranges give. Method: a folder beside the project
 * (KPROTO_CAPTURES, by default ../shared/captures) that is not part of it; without it the suite is skipped.
 *
 *     sysfs/*.tar.gz   links of the tree against bus numbers in the configuration space
 *     hwloc/*.xml      nesting of the objects against bus ranges
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
	type DeviceDescription,
	type MachineDescription,
	parseBdf,
} from '../../../arch/sim/description.ts';
import { type Classic, ClassicMap } from '../../../tools/topo/classic.ts';
import { readSource } from '../../../tools/topology/source.ts';
import {
	EXPECT_EQ,
	EXPECT_GT,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	SKIP,
	TEST_F,
} from '../../kselftest_harness.ts';
import { topo } from './command.ts';

const captures =
	process.env.KPROTO_CAPTURES ??
	fileURLToPath(new URL('../../../../shared/captures/', import.meta.url));
const there = existsSync(captures);

interface Self {
	dir: string;
	/** What the command is given. */
	path: string;
}

const machine = FIXTURE<Self, { file: string }>(
	'machine',
	() => ({ dir: '', path: '' }),
	FIXTURE_VARIANT({ file: '' }),
);

for (const folder of there ? ['sysfs', 'hwloc', 'nccl'] : [])
	for (const name of readdirSync(join(captures, folder)))
		FIXTURE_VARIANT_ADD(machine, name.replace(/\W+/g, '_'), {
			file: join(folder, name),
		});

FIXTURE_SETUP(machine, (self, { file }) => {
	if (file === '') SKIP(`no captures of real machines in ${captures}`);
	self.dir = mkdtempSync(join(tmpdir(), 'captures-'));
	self.path = join(captures, file);
});

FIXTURE_TEARDOWN(machine, ({ dir }) => {
	if (dir !== '') rmSync(dir, { recursive: true });
});

/** Whether a file has PCI in it at all: one of them is of a machine whose lstopo was told to leave it out. */
function hasPci(file: string): boolean {
	return (
		!file.endsWith('.xml') ||
		/PCIDev|<pci /.test(readFileSync(join(captures, file), 'utf8'))
	);
}

TEST_F(machine, 'gives_its_matrices', async ({ path }, { file }) => {
	const { code, out, err } = await topo(path, '--json');
	if (!hasPci(file)) {
		EXPECT_EQ(2, code);
		EXPECT_TRUE(
			err.endsWith(
				'expected PCI objects: lstopo writes them unless it is told --no-io\n',
			),
		);
		SKIP('its XML has no PCI in it, and is refused with one line');
	}
	EXPECT_EQ(0, code);
	const answer = JSON.parse(out) as {
		unknown: { acs: string[] };
		from: unknown[];
		to: unknown[];
		classic: string[][];
		verdicts: { may: string[] }[][];
	};
	EXPECT_GT(answer.from.length, 1);
	EXPECT_GT(answer.to.length, 0);
	for (const matrix of [answer.classic, answer.verdicts]) {
		EXPECT_EQ(answer.from.length, matrix.length);
		EXPECT_EQ(answer.to.length, matrix[0]?.length ?? 0);
	}
	// No source here tells ACS: where it decides, the answer is a set.
	EXPECT_GT(answer.unknown.acs.length, 0);
	const text = await topo(path);
	EXPECT_TRUE(/; ACS unknown of \d+/.test(text.out));
	for (const verdict of answer.verdicts.flat()) {
		EXPECT_GT(verdict.may.length, 0);
		if (verdict.may.includes('switch')) EXPECT_GT(verdict.may.length, 1);
	}
});

/** The tree that bus ranges alone give. */
function byRanges(d: MachineDescription): Map<string, string | null> {
	const bridges = d.devices.filter(
		({ header, secondary = 0 }) => header === 1 && secondary !== 0,
	);
	const domainOf = (bdf: string) => parseBdf(bdf)?.domain;
	const parents = new Map<string, string | null>();
	for (const { bdf } of d.devices) {
		const bus = parseBdf(bdf)?.bus ?? -1;
		let nearest: DeviceDescription | null = null;
		for (const bridge of bridges) {
			const { secondary = 0, subordinate = 0 } = bridge;
			if (domainOf(bridge.bdf) !== domainOf(bdf)) continue;
			if (bus < secondary || bus > subordinate) continue;
			if (nearest === null || secondary > (nearest.secondary ?? 0))
				nearest = bridge;
		}
		parents.set(bdf, nearest?.bdf ?? null);
	}
	return parents;
}

/** Nearness below the root by bus ranges: functions and switches between two, counted anew. */
function nearness(
	d: MachineDescription,
	parents: Map<string, string | null>,
	a: string,
	b: string,
): Classic | 'far' {
	if (a === b) return 'X';
	const above = (bdf: string): string[] => {
		const parent = parents.get(bdf) ?? null;
		return parent === null ? [bdf] : [bdf, ...above(parent)];
	};
	const [x, y] = [above(a), above(b)];
	const meeting = x.find((bdf) => y.includes(bdf));
	if (meeting === undefined)
		return x.at(-1)?.slice(0, -5) === y.at(-1)?.slice(0, -5) ? 'PHB' : 'far';
	const way = [...x.slice(0, x.indexOf(meeting) + 1), ...y.slice(0, y.indexOf(meeting))];
	const port = (bdf: string) => d.devices.find((device) => device.bdf === bdf);
	const bridges = way.filter((bdf) => {
		const device = port(bdf);
		return device?.header === 1 && device.pcieType !== 4 && device.pcieType !== 6;
	});
	return bridges.length <= 1 ? 'PIX' : 'PXB';
}

TEST_F(machine, 'tree_and_nearness_are_those_of_the_bus_ranges', ({ path }, { file }) => {
	if (file.startsWith('nccl')) SKIP('NCCL files have no bus ranges');
	if (!hasPci(file)) SKIP('the file has no PCI');
	const { description: d } = readSource([path]);
	const parents = byRanges(d);
	const tree = (parent: (device: DeviceDescription) => string | null | undefined) =>
		d.devices.map((device) => `${device.bdf} below ${parent(device)}`).join('\n');
	EXPECT_STREQ(
		tree(({ bdf }) => parents.get(bdf)),
		tree(({ parent }) => parent),
	);
	const map = new ClassicMap(d);
	for (const { bdf: a } of d.devices)
		for (const { bdf: b } of d.devices) {
			const [want, is] = [nearness(d, parents, a, b), map.between(a, b)];
			if (want !== (/NODE|SYS/.test(is) ? 'far' : is))
				EXPECT_STREQ(`${a} ${b} ${want}`, is);
		}
	EXPECT_GT(d.devices.length, 1);
});
