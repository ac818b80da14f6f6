// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what memremap_pages() refuses and in which order, what it leaves behind when it fails, and
 * the reference counts of every kind of page in both releases. Method: bare pagemaps above RAM;
 * every fallible step fails once.
 *
 *	RAM 0..0x10000 | hole | A 0x100000.. | hole | B 0x200000..
 */
import { device } from '../../include/linux/device.ts';
import { EEXIST, EINVAL, ENOMEM, ENXIO } from '../../include/linux/errno.ts';
import {
	dev_pagemap,
	type dev_pagemap_ops,
	MEMORY_DEVICE_COHERENT,
	MEMORY_DEVICE_FS_DAX,
	MEMORY_DEVICE_GENERIC,
	MEMORY_DEVICE_PCI_P2PDMA,
	MEMORY_DEVICE_PRIVATE,
	type memory_type,
	type range,
} from '../../include/linux/memremap.ts';
import { anon_vma, type page, page_folio } from '../../include/linux/mm_types.ts';
import { memoryMap, nth_page, pfn_to_page, pfn_valid } from '../../include/linux/mmzone.ts';
import {
	folio_order,
	PageAnonExclusive,
	PageLocked,
	PageTail,
	PG_dirty,
	PG_locked,
	SetPageAnonExclusive,
	set_page_count,
} from '../../include/linux/page-flags.ts';
import type { int } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { feature, world } from '../../include/sim/world.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { wait_var_event } from '../../kernel/sched/wait.ts';
import {
	devm_memremap_pages,
	devm_memunmap_pages,
	folio_set_zone_device_data,
	folio_zone_device_data,
	get_dev_pagemap,
	memremap_compat_align,
	memremap_pages,
	memunmap_pages,
	pgmap_pfn_valid,
	put_dev_pagemap,
	put_devmap_managed_folio_refs,
	reportPagemapsLeft,
	zone_device_folio_init,
	zone_device_page_init,
	zone_device_private_split_cb,
} from '../../mm/memremap.ts';
import { folio_get, folio_put, put_page } from '../../mm/swap.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_LT,
	EXPECT_NE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../kselftest_harness.ts';
import { bootBare, expectList } from './bare_world.ts';

const A = 0x100000n;
const B = 0x200000n;

function pfns(start: bigint, n: bigint): range {
	return { start: start << 12n, end: ((start + n) << 12n) - 1n };
}

/** Pages that the free op was called for. */
const freed: page[] = [];

const ops: dev_pagemap_ops = {
	*folio_free(f) {
		freed.push(f.page);
	},
	*page_free(p) {
		freed.push(p);
	},
	*migrate_to_ram() {
		return 0;
	},
};

function newPgmap(type: memory_type, ranges: range[] = [pfns(A, 512n)]): dev_pagemap {
	freed.length = 0;
	return new dev_pagemap({ type, ops, owner: ops, ranges, nr_range: ranges.length });
}

function* map(pgmap: dev_pagemap): Sim<void> {
	ASSERT_EQ('bigint', typeof (yield* memremap_pages(pgmap, 0)));
}

const kinds: [string, memory_type][] = [
	['private', MEMORY_DEVICE_PRIVATE],
	['coherent', MEMORY_DEVICE_COHERENT],
	['fs_dax', MEMORY_DEVICE_FS_DAX],
	['generic', MEMORY_DEVICE_GENERIC],
	['p2pdma', MEMORY_DEVICE_PCI_P2PDMA],
];

const pagemap = FIXTURE(
	'memremap',
	() => ({}),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(pagemap, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(pagemap, 'v7_3', { profile: 'v7.3' });
FIXTURE_SETUP(pagemap, (_self, { profile }) => {
	bootBare(profile);
});

TEST_F(pagemap, 'pages_are_valid_from_map_to_unmap', function* () {
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE, [pfns(A, 512n), pfns(B, 1024n)]);
	EXPECT_FALSE(pfn_valid(A));
	EXPECT_EQ(0xffff_8880_0000_0000n + (A << 12n), yield* memremap_pages(pgmap, -1));
	EXPECT_EQ(2, pgmap.nr_range);
	EXPECT_TRUE(pfn_valid(A + 511n));
	EXPECT_FALSE(pfn_valid(A + 512n));
	EXPECT_TRUE(pgmap_pfn_valid(pgmap, B + 1023n));
	EXPECT_FALSE(pgmap_pfn_valid(pgmap, B + 1024n));
	EXPECT_EQ(pgmap, pfn_to_page(B).pgmap);
	yield* memunmap_pages(pgmap);
	EXPECT_FALSE(pfn_valid(A));
	EXPECT_FALSE(pfn_valid(B));
	EXPECT_EQ(0x200000n, memremap_compat_align());
});

TEST_F(pagemap, 'a_pagemap_can_be_mapped_again', function* () {
	const pgmap = newPgmap(MEMORY_DEVICE_PCI_P2PDMA);
	for (let i = 0; i < 2; i++) {
		yield* map(pgmap);
		yield* memunmap_pages(pgmap);
	}
	EXPECT_EQ(1, memoryMap().ranges.length);
});

TEST_F(pagemap, 'a_private_pagemap_needs_its_ops_and_owner_in_this_order', function* () {
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE);
	const free = feature('pgmap_folio_ops') ? 'folio_free' : 'page_free';
	pgmap.owner = null;
	const steps: [dev_pagemap_ops | null, string][] = [
		[null, 'Missing migrate_to_ram method'],
		[{}, 'Missing migrate_to_ram method'],
		[{ migrate_to_ram: ops.migrate_to_ram! }, `Missing ${free} method`],
		[ops, 'Missing owner'],
	];
	for (const [given, message] of steps) {
		pgmap.ops = given;
		const before = world().reports.length;
		expectReport(message);
		EXPECT_EQ(-EINVAL, yield* memremap_pages(pgmap, 0));
		EXPECT_EQ(before + 1, world().reports.length);
		EXPECT_TRUE(world().reports[before]!.title.includes(message));
	}
	EXPECT_EQ(null, pgmap.ref);
});

TEST_F(pagemap, 'a_coherent_pagemap_needs_free_op_and_owner', function* () {
	const pgmap = newPgmap(MEMORY_DEVICE_COHERENT);
	pgmap.ops = {};
	expectReport(feature('pgmap_folio_ops') ? 'Missing folio_free' : 'Missing page_free');
	EXPECT_EQ(-EINVAL, yield* memremap_pages(pgmap, 0));
	pgmap.ops = ops;
	pgmap.owner = null;
	expectReport('Missing owner');
	EXPECT_EQ(-EINVAL, yield* memremap_pages(pgmap, 0));
});

TEST_F(pagemap, 'an_unknown_type_warns_and_goes_on', function* () {
	const pgmap = newPgmap(0);
	expectReport('Invalid pgmap type 0');
	yield* map(pgmap);
	yield* memunmap_pages(pgmap);
});

TEST_F(pagemap, 'no_range_is_invalid', function* () {
	expectReport('nr_range must be specified');
	EXPECT_EQ(-EINVAL, yield* memremap_pages(newPgmap(MEMORY_DEVICE_GENERIC, []), 0));
});

TEST_F(pagemap, 'a_huge_vmemmap_shift_is_invalid_since_7_3', function* (_self, { profile }) {
	const pgmap = newPgmap(MEMORY_DEVICE_GENERIC, [pfns(A, 1n << 19n)]);
	pgmap.vmemmap_shift = 19n;
	if (profile === 'v7.3') {
		expectReport('requested folio size unsupported');
		EXPECT_EQ(-EINVAL, yield* memremap_pages(pgmap, 0));
		return;
	}
	yield* map(pgmap);
	EXPECT_EQ(2, pgmap.ref!.count);
	yield* memunmap_pages(pgmap);
});

TEST_F(pagemap, 'system_ram_is_refused', function* () {
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE, [pfns(A, 512n), pfns(0xfe00n, 1024n)]);
	expectReport('attempted on ram region');
	EXPECT_EQ(-ENXIO, yield* memremap_pages(pgmap, 0));
	EXPECT_EQ(2, pgmap.nr_range);
	EXPECT_EQ(1, memoryMap().ranges.length);
});

TEST_F(pagemap, 'a_conflict_at_the_first_or_last_page_is_enomem', function* () {
	const first = newPgmap(MEMORY_DEVICE_GENERIC, [pfns(A, 1024n)]);
	yield* map(first);
	const before = first.ref!.count;
	expectReport('Conflicting mapping in same section');
	for (const place of [pfns(A + 512n, 1024n), pfns(A - 512n, 1024n)])
		EXPECT_EQ(
			-ENOMEM,
			yield* memremap_pages(newPgmap(MEMORY_DEVICE_GENERIC, [place]), 0),
		);
	EXPECT_EQ(before, first.ref!.count);
	// A conflict in the middle is found only when the pages are plugged.
	const around = newPgmap(MEMORY_DEVICE_GENERIC, [pfns(A - 512n, 2048n)]);
	EXPECT_EQ(-EEXIST, yield* memremap_pages(around, 0));
	yield* memunmap_pages(first);
});

TEST_F(pagemap, 'ranges_are_whole_subsections_below_the_physical_limit', function* () {
	expectReport('Misaligned add_pages');
	EXPECT_EQ(
		-EINVAL,
		yield* memremap_pages(newPgmap(MEMORY_DEVICE_GENERIC, [pfns(A + 1n, 512n)]), 0),
	);
	const far = newPgmap(MEMORY_DEVICE_GENERIC, [pfns(1n << 40n, 512n)]);
	EXPECT_EQ(-EINVAL, yield* memremap_pages(far, 0));
});

TEST_F(pagemap, 'an_altmap_goes_with_one_range_only', function* () {
	const pgmap = newPgmap(MEMORY_DEVICE_GENERIC, [pfns(A, 512n), pfns(B, 512n)]);
	pgmap.flags = 1;
	expectReport('altmap not supported for multiple ranges');
	EXPECT_EQ(-EINVAL, yield* memremap_pages(pgmap, 0));
	EXPECT_FALSE(pfn_valid(A));
});

TEST_F(pagemap, 'every_failing_step_unwinds_the_ranges_done', function* () {
	const dev = new device();
	for (const [site, ordinal, error] of [
		['percpu_ref_init', 1, -ENOMEM],
		['pgmap_array', 2, -ENOMEM],
		['mhp_range_allowed', 2, -EINVAL],
		['add_pages', 2, -ENOMEM],
		['devm_add_action', 1, -ENOMEM],
	] as const) {
		const pgmap = newPgmap(MEMORY_DEVICE_PCI_P2PDMA, [pfns(A, 512n), pfns(B, 512n)]);
		injectFaults().fail(site, ordinal);
		EXPECT_EQ(error, yield* devm_memremap_pages(dev, pgmap));
		EXPECT_EQ(2, pgmap.nr_range);
		EXPECT_EQ(1, memoryMap().ranges.length);
		EXPECT_EQ(0, dev.devres.length);
	}
});

TEST_F(pagemap, 'devm_remembers_the_pagemap', function* () {
	const dev = new device({ numa_node: 1 });
	const pgmap = newPgmap(MEMORY_DEVICE_PCI_P2PDMA);
	EXPECT_EQ('bigint', typeof (yield* devm_memremap_pages(dev, pgmap)));
	EXPECT_EQ(1, dev.devres.length);
	yield* devm_memunmap_pages(dev, pgmap);
	EXPECT_EQ(0, dev.devres.length);
	EXPECT_FALSE(pfn_valid(A));
	EXPECT_EQ('bigint', typeof (yield* devm_memremap_pages(dev, pgmap)));
	const { action, data } = dev.devres.pop()!;
	yield* action(data)!;
	expectReport('devres action not found');
	yield* devm_memunmap_pages(dev, pgmap);
});

TEST_F(pagemap, 'get_dev_pagemap_counts_and_knows_the_one_before', function* () {
	const [a, b] = [
		newPgmap(MEMORY_DEVICE_PRIVATE),
		newPgmap(MEMORY_DEVICE_PRIVATE, [pfns(B, 512n)]),
	];
	yield* map(a);
	yield* map(b);
	EXPECT_EQ(null, get_dev_pagemap(0n));
	EXPECT_EQ(null, get_dev_pagemap(A + 512n));
	EXPECT_EQ(a, get_dev_pagemap(A));
	EXPECT_EQ(2, a.ref!.count);
	EXPECT_EQ(a, get_dev_pagemap(A + 1n, a));
	EXPECT_EQ(2, a.ref!.count);
	EXPECT_EQ(b, get_dev_pagemap(B, a));
	expectList([1, 2], [a.ref!.count, b.ref!.count]);
	put_dev_pagemap(b);
	put_dev_pagemap(null);
	yield* memunmap_pages(a);
	yield* memunmap_pages(b);
});

TEST_F(pagemap, 'unmap_waits_for_the_last_reference_and_gives_no_new_one', () => {
	const order: string[] = [];
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE);
	spawn('driver', function* () {
		yield* map(pgmap);
		const p = pfn_to_page(A);
		yield* zone_device_page_init(p, pgmap, 0);
		spawn('unload', function* () {
			yield* memunmap_pages(pgmap);
			order.push('unmapped');
		});
		while (!pgmap.ref!.dying) yield schedulePoint('yield', pgmap);
		EXPECT_EQ(null, get_dev_pagemap(A));
		p.flags &= ~PG_locked;
		order.push('put');
		yield* put_page(p);
	});
	runThreads(randomStrategy(5));
	expectList(['put', 'unmapped'], order);
	EXPECT_EQ(1, freed.length);
});

TEST_F(pagemap, 'pagemaps_left_are_reported_with_their_pages', function* () {
	world().trackOrigins = true;
	EXPECT_EQ(0, reportPagemapsLeft());
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE);
	yield* map(pgmap);
	const p = pfn_to_page(A + 3n);
	yield* zone_device_page_init(p, pgmap, 0);
	expectReport('pagemap still mapped: pfns 0x100000-0x1001ff');
	expectReport('page pfn 0x100003 count 1, taken at:');
	EXPECT_EQ(1, reportPagemapsLeft());
	p.flags &= ~PG_locked;
	yield* put_page(p);
	yield* memunmap_pages(pgmap);
});

/** Idle count, pagemap references of 512 idle pages, and what the last put leaves. */
interface Counts {
	readonly idle: int;
	readonly refs: int;
}

const table: Record<ProfileName, Record<string, Counts>> = {
	'v6.12': {
		private: { idle: 0, refs: 1 },
		coherent: { idle: 0, refs: 1 },
		fs_dax: { idle: 1, refs: 513 },
		generic: { idle: 1, refs: 513 },
		p2pdma: { idle: 1, refs: 513 },
	},
	'v7.3': {
		private: { idle: 0, refs: 1 },
		coherent: { idle: 0, refs: 1 },
		fs_dax: { idle: 0, refs: 513 },
		generic: { idle: 1, refs: 513 },
		p2pdma: { idle: 0, refs: 513 },
	},
};

TEST_F(pagemap, 'F18_idle_counts_are_those_of_the_release', function* (_self, { profile }) {
	for (const [name, type] of kinds) {
		const pgmap = newPgmap(type);
		yield* map(pgmap);
		const { idle, refs } = table[profile][name]!;
		expectList([name, idle, refs], [name, pfn_to_page(A)._refcount, pgmap.ref!.count]);
		yield* memunmap_pages(pgmap);
	}
});

TEST_F(pagemap, 'a_private_or_coherent_page_lives_from_init_to_the_last_put', function* () {
	for (const type of [MEMORY_DEVICE_PRIVATE, MEMORY_DEVICE_COHERENT] as const) {
		const pgmap = newPgmap(type);
		yield* map(pgmap);
		const p = pfn_to_page(A + 7n);
		yield* zone_device_page_init(p);
		expectList([1, true, 2], [p._refcount, PageLocked(p), pgmap.ref!.count]);
		p.mapping = new anon_vma();
		SetPageAnonExclusive(p);
		p.flags &= ~PG_locked;
		folio_get(page_folio(p));
		yield* put_page(p);
		EXPECT_EQ(0, freed.length);
		yield* put_page(p);
		expectList([0, 1], [p._refcount, pgmap.ref!.count]);
		EXPECT_EQ(p, freed[0]);
		EXPECT_EQ(null, p.mapping);
		EXPECT_FALSE(PageAnonExclusive(p));
		yield* memunmap_pages(pgmap);
	}
});

TEST_F(pagemap, 'a_p2p_page_goes_back_to_its_idle_count', function* (_self, { profile }) {
	const pgmap = newPgmap(MEMORY_DEVICE_PCI_P2PDMA);
	yield* map(pgmap);
	const p = pfn_to_page(A);
	if (profile === 'v7.3') set_page_count(p, 1);
	yield* put_page(p);
	expectList([profile === 'v7.3' ? 0 : 1, 513], [p._refcount, pgmap.ref!.count]);
	EXPECT_EQ(p, freed[0]);
	yield* memunmap_pages(pgmap);
});

TEST_F(pagemap, 'a_generic_page_is_at_one_again', function* (_self, { profile }) {
	const pgmap = newPgmap(MEMORY_DEVICE_GENERIC);
	yield* map(pgmap);
	const p = pfn_to_page(A);
	yield* put_page(p);
	expectList([1, profile === 'v7.3' ? 0 : 1], [p._refcount, freed.length]);
	yield* memunmap_pages(pgmap);
});

TEST_F(pagemap, 'a_dax_waiter_wakes_when_the_page_is_idle', (_self, { profile }) => {
	const pgmap = newPgmap(MEMORY_DEVICE_FS_DAX);
	const idle = table[profile]['fs_dax']!.idle;
	const order: string[] = [];
	spawn('dax', function* () {
		yield* map(pgmap);
		const p = pfn_to_page(A);
		const f = page_folio(p);
		set_page_count(p, idle + 1);
		spawn('waiter', function* () {
			yield* wait_var_event(p, () => p._refcount === idle);
			order.push('idle');
		});
		for (let i = 0; i < 20; i++) yield schedulePoint('yield', p);
		order.push('put');
		if (!put_devmap_managed_folio_refs(f, 1)) yield* folio_put(f);
	});
	runThreads(randomStrategy(2));
	expectList(['put', 'idle'], order);
	EXPECT_EQ(0, freed.length);
	run(memunmap_pages(pgmap));
});

TEST_F(pagemap, 'only_a_6_12_dax_page_is_put_by_the_devmap_path', function* (_self, { profile }) {
	for (const [name, type] of kinds) {
		const pgmap = newPgmap(type);
		yield* map(pgmap);
		const p = pfn_to_page(A);
		set_page_count(p, 3);
		const managed = profile === 'v6.12' && name === 'fs_dax';
		EXPECT_EQ(managed, put_devmap_managed_folio_refs(page_folio(p), 2));
		EXPECT_EQ(managed ? 1 : 3, p._refcount);
		yield* memunmap_pages(pgmap);
	}
});

TEST_F(pagemap, 'a_missing_free_op_warns_at_the_last_put', function* (_self, { profile }) {
	const pgmap = newPgmap(MEMORY_DEVICE_PCI_P2PDMA);
	pgmap.ops = null;
	yield* map(pgmap);
	const p = pfn_to_page(A);
	set_page_count(p, 1);
	expectReport(profile === 'v7.3' ? 'Missing folio_free method' : 'Missing page_free method');
	yield* put_page(p);
	EXPECT_EQ(0, p._refcount);
	yield* memunmap_pages(pgmap);
});

TEST_F(pagemap, 'init_while_the_pagemap_dies', function* (_self, { profile }) {
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE);
	yield* map(pgmap);
	const held = pfn_to_page(A);
	yield* zone_device_page_init(held);
	pgmap.ref!.dying = true;
	pgmap.ref!.count--;
	const late = pfn_to_page(A + 1n);
	// v7.3 takes a reference as long as there is one; v6.12 only of a live pagemap.
	if (profile === 'v6.12') expectReport('pgmap is dying');
	yield* zone_device_page_init(late);
	EXPECT_EQ(profile === 'v7.3' ? 2 : 1, pgmap.ref!.count);
	EXPECT_TRUE(PageLocked(late));
	pgmap.ref!.dying = false;
	pgmap.ref!.count = 3;
	for (const p of [held, late]) {
		p.flags &= ~PG_locked;
		yield* put_page(p);
	}
	yield* memunmap_pages(pgmap);
});

TEST('F_large_private_folio_is_initialised_whole', function* () {
	bootBare('v7.3');
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE);
	yield* map(pgmap);
	const head = pfn_to_page(A);
	const tail = nth_page(head, 5);
	tail.flags |= PG_dirty | PG_locked;
	tail.mapping = new anon_vma();
	yield* zone_device_folio_init(page_folio(head), pgmap, 9);
	EXPECT_EQ(9, folio_order(page_folio(head)));
	EXPECT_TRUE(PageTail(tail));
	EXPECT_EQ(head, page_folio(nth_page(head, 511)).page);
	expectList([0, null, 0], [tail.flags & PG_dirty, tail.mapping, tail._refcount]);
	EXPECT_EQ(513, pgmap.ref!.count);
	head.flags &= ~PG_locked;
	head.mapping = new anon_vma();
	SetPageAnonExclusive(tail);
	yield* folio_put(page_folio(head));
	EXPECT_FALSE(PageAnonExclusive(tail));
	EXPECT_EQ(1, pgmap.ref!.count);
	// The pages may be handed out one by one next.
	yield* zone_device_page_init(tail, pgmap, 0);
	EXPECT_FALSE(PageTail(tail));
	EXPECT_EQ(tail, page_folio(tail).page);
	tail.flags &= ~PG_locked;
	yield* put_page(tail);
	yield* memunmap_pages(pgmap);
});

TEST('init_of_a_page_in_use_warns', function* () {
	bootBare('v7.3');
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE);
	yield* map(pgmap);
	const p = pfn_to_page(A);
	set_page_count(p, 2);
	expectReport('allocated device page is in use');
	yield* zone_device_page_init(p);
	p.flags &= ~PG_locked;
	yield* put_page(p);
	yield* memunmap_pages(pgmap);
	expectReport('not a device page');
	expectReport('pgmap is gone');
	const ram = pfn_to_page(0x300n);
	yield* zone_device_page_init(ram, pgmap, 0);
	ram.flags &= ~PG_locked;
	set_page_count(ram, 0);
});

TEST('a_split_tells_the_driver_or_copies', function* () {
	bootBare('v7.3');
	const told: unknown[] = [];
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE);
	yield* map(pgmap);
	const [head, tail] = [page_folio(pfn_to_page(A)), page_folio(pfn_to_page(A + 1n))];
	folio_set_zone_device_data(head, 'zdd');
	EXPECT_EQ('zdd', folio_zone_device_data(head));
	head.mapping = new anon_vma();
	yield* zone_device_private_split_cb(head, tail);
	EXPECT_EQ(head.mapping, tail.mapping);
	yield* zone_device_private_split_cb(head, null);
	pgmap.ops = {
		...ops,
		*folio_split(h, t) {
			told.push(h === head, t);
		},
	};
	yield* zone_device_private_split_cb(head, tail);
	yield* zone_device_private_split_cb(head, null);
	EXPECT_EQ(4, told.length);
	EXPECT_EQ(tail, told[1]);
	EXPECT_EQ(null, told[3]);
	head.mapping = null;
	tail.mapping = null;
	yield* memunmap_pages(pgmap);
	yield* zone_device_private_split_cb(page_folio(pfn_to_page(1n)), null);
});

TEST('thirty_seven_million_pages_cost_nothing', function* () {
	bootBare('v7.3');
	const n = 37n << 20n;
	const pgmap = newPgmap(MEMORY_DEVICE_PRIVATE, [pfns(A, n)]);
	const before = process.memoryUsage().heapUsed;
	yield* map(pgmap);
	EXPECT_NE(null, pfn_to_page(A + n - 1n));
	EXPECT_EQ(1, memoryMap().sections.size);
	EXPECT_LT(process.memoryUsage().heapUsed - before, 1 << 20);
	yield* memunmap_pages(pgmap);
	EXPECT_EQ(0, memoryMap().sections.size);
});
