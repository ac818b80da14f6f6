// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the model answers what two real kernels answered, on every machine they were asked on.
 * Method: each record's machine is built and booted, its question asked, its answer compared;
 * differences are counted, and the first ones printed.
 */
import { cachedMapType, map_types_idx } from '../../../drivers/pci/p2pdma/cache.ts';
import {
	calc_map_type_and_dist,
	pci_p2pdma_distance_many,
} from '../../../drivers/pci/p2pdma/distance.ts';
import { pci_p2pmem_find_many } from '../../../drivers/pci/p2pdma/find.ts';
import { mapTypeNumber } from '../../../drivers/pci/p2pdma/map_type.ts';
import { pci_p2pdma } from '../../../drivers/pci/p2pdma/objects.ts';
import { device } from '../../../include/linux/device.ts';
import {
	pci_bus_address,
	type pci_dev,
	pci_is_pcie,
	pci_name,
	pci_pcie_type,
	pci_resource_len,
	pci_resource_start,
	pci_upstream_bridge,
} from '../../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	type pci_p2pdma_map_type,
} from '../../../include/linux/pci-p2pdma.ts';
import { randomSource } from '../../../include/linux/random.ts';
import { outParam } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { feature, installWorld, world } from '../../../include/sim/world.ts';
import {
	EXPECT_EQ,
	EXPECT_GT,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { RecordSet, readRecords } from './records.ts';

/** Read once, when the first test of a variant wants them. */
const recordSets = new Map<ProfileName, RecordSet>();

/** Differences printed before the count takes over. */
const DIFFERENCES_SHOWN = 5;

const replay = FIXTURE(
	'replay',
	() => ({ records: null as unknown as RecordSet, asked: 0, different: [] as string[] }),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(replay, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(replay, 'v7_3', { profile: 'v7.3' });
FIXTURE_SETUP(replay, (self, { profile }) => {
	const known = recordSets.get(profile) ?? new RecordSet(profile);
	recordSets.set(profile, known);
	self.records = known;
});
FIXTURE_TEARDOWN(replay, (self) => {
	EXPECT_GT(self.asked, 0);
	EXPECT_EQ('', self.different.slice(0, DIFFERENCES_SHOWN).join('\n'));
	EXPECT_EQ(0, self.different.length);
	installWorld(null);
});

type Self = { asked: number; different: string[] };

function compare(self: Self, expected: unknown, seen: unknown, what: string): void {
	self.asked++;
	const [a, b] = [JSON.stringify(expected), JSON.stringify(seen)];
	if (a !== b) self.different.push(`${what}: recorded ${a}, model ${b}`);
}

/** A client of a record: a function, a device below one, or one that has no PCI parent. */
type ClientRecord = number | { child_of: number } | { nonpci: true };

function clientDevice(devs: readonly pci_dev[], client: ClientRecord): device {
	if (typeof client === 'number') return devs[client]!.dev;
	if ('nonpci' in client) return new device({ init_name: 'nonpci' });
	return new device({ init_name: 'child', parent: devs[client.child_of]!.dev });
}

TEST_F(replay, 'device_trees', (self) => {
	const seen = new Set<string>();
	for (const { case: name, topology } of self.records.cases.values()) {
		if (seen.has(topology)) continue;
		seen.add(topology);
		const devs = self.records.boot(name);
		for (const d of self.records.topologies.get(topology)!.devs) {
			const pdev = devs[d.i]!;
			const bridge = pci_upstream_bridge(pdev);
			const type = pci_is_pcie(pdev) ? pci_pcie_type(pdev) : -1;
			const bars = d.bars.map(({ bar }) => ({
				bus: `0x${pci_bus_address(pdev, bar).toString(16)}`,
				phys: `0x${pci_resource_start(pdev, bar).toString(16)}`,
				len: `0x${pci_resource_len(pdev, bar).toString(16)}`,
			}));
			compare(
				self,
				[
					d.parent,
					d.pcie_type,
					d.bus,
					d.devfn,
					d.bars.map(({ bus, phys, len }) => ({ bus, phys, len })),
				],
				[
					bridge === null ? null : pci_name(bridge),
					type,
					pdev.bus.number,
					pdev.devfn,
					bars,
				],
				`${topology} ${d.bdf}`,
			);
		}
	}
});

TEST_F(replay, 'F7_F8_pairs', (self) => {
	const raw = outParam(0);
	for (const one of self.records.cases.values()) {
		const devs = self.records.boot(one.case);
		for (const [p, provider] of devs.entries()) {
			const types = one.type[p]!;
			const raws = one.raw[p]!;
			const dists = one.dist[p]!;
			for (const [c, client] of devs.entries()) {
				const type = calc_map_type_and_dist(provider, client, raw, false);
				const dist = type === PCI_P2PDMA_MAP_NOT_SUPPORTED ? -1 : raw.value;
				self.asked++;
				if (
					mapTypeNumber(type) !== types[c] ||
					raw.value !== raws[c] ||
					dist !== dists[c]
				)
					self.different.push(
						`${one.case} ${p} ${c}: ${type} ${raw.value}`,
					);
			}
		}
	}
});

interface SetsRecord {
	readonly case: string;
	readonly sets: readonly { p: number; c: ClientRecord[]; d: number; dv?: number }[];
}

TEST_F(replay, 'client_sets', (self, { profile }) => {
	for (const { case: name, sets } of readRecords<SetsRecord>(profile, 'sets')) {
		const devs = self.records.boot(name);
		for (const { p, c, d, dv } of sets) {
			const clients = c.map((client) => clientDevice(devs, client));
			const ask = (verbose: boolean) =>
				pci_p2pdma_distance_many(
					devs[p]!,
					clients,
					clients.length,
					verbose,
				);
			compare(self, d, ask(false), `${name} ${p} ${JSON.stringify(c)}`);
			if (dv !== undefined) compare(self, dv, ask(true), `${name} ${p} verbose`);
		}
	}
});

interface FindRecord {
	readonly case: string;
	readonly published: readonly number[];
	readonly queries: readonly { c: number[]; none: number; found: number[] }[];
}

/** Draws of a query in the records, too few to see every one of more providers than this. */
const ALL_DRAWN = 8;

TEST_F(replay, 'nearest_providers', (self, { profile }) => {
	for (const { case: name, published, queries } of readRecords<FindRecord>(profile, 'find')) {
		const devs = self.records.boot(name);
		for (const p of published)
			devs[p]!.p2pdma = Object.assign(new pci_p2pdma(), {
				p2pmem_published: true,
			});
		for (const { c, none, found } of queries) {
			const clients = c.map((i) => devs[i]!.dev);
			const drawn = new Set<number>();
			let draws = 1;
			for (let draw = 0; draw < draws; draw++) {
				randomSource().below = (ceil) => {
					draws = ceil;
					return draw;
				};
				const one = pci_p2pmem_find_many(clients, clients.length);
				if (one !== null) drawn.add(devs.indexOf(one));
			}
			const sorted = [...drawn].sort((a, b) => a - b);
			const expected = [...found].sort((a, b) => a - b);
			const seen =
				sorted.length > ALL_DRAWN
					? expected.filter((i) => drawn.has(i))
					: sorted;
			compare(
				self,
				[none === 0, expected],
				[drawn.size > 0, seen],
				`${name} ${c}`,
			);
		}
	}
});

interface VerboseRecord {
	readonly case: string;
	readonly p: number;
	readonly c: number;
	readonly d: number;
	readonly log: readonly { driver?: string; dev?: string; msg: string }[];
}

TEST_F(replay, 'verbose_log_word_for_word', (self, { profile }) => {
	for (const { case: name, p, c, d, log } of readRecords<VerboseRecord>(profile, 'verbose')) {
		const devs = self.records.boot(name);
		world().log.length = 0;
		const dist = pci_p2pdma_distance_many(devs[p]!, [devs[c]!.dev], 1, true);
		const lines = log.filter(({ dev }) => dev !== undefined);
		const expected = lines.map(({ driver, dev, msg }) => `${driver} ${dev}: ${msg}`);
		compare(self, [d, expected], [dist, world().log], `${name} ${p} ${c}`);
		EXPECT_EQ(0, world().reports.length);
	}
});

interface CacheRecord {
	readonly case: string;
	readonly p: number;
	readonly verbose: number;
	readonly c: readonly number[];
	readonly before: readonly number[];
	readonly d: number;
	readonly after: readonly number[];
}

TEST_F(replay, 'cache_entries_that_a_query_fills', (self, { profile }) => {
	for (const { case: name, p, verbose, c, before, d, after } of readRecords<CacheRecord>(
		profile,
		'cache_fill',
	)) {
		const devs = self.records.boot(name);
		const provider = devs[p]!;
		const p2pdma = new pci_p2pdma();
		provider.p2pdma = p2pdma;
		const shift = feature('p2pdma_map_none') ? 0 : 1;
		for (const [n, i] of c.entries())
			if (before[n] !== 0)
				p2pdma.map_types.set(
					map_types_idx(devs[i]!),
					(before[n]! + shift) as pci_p2pdma_map_type,
				);
		const clients = c.map((i) => devs[i]!.dev);
		const dist = pci_p2pdma_distance_many(
			provider,
			clients,
			clients.length,
			verbose !== 0,
		);
		const seen = c.map((i) => mapTypeNumber(cachedMapType(provider, devs[i]!)));
		compare(self, [d, after], [dist, seen], `${name} ${p} ${c}`);
	}
});
