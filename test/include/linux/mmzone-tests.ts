// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a PFN leads to its page, the same each time, and to none once its memory was taken away,
 * whatever was looked up before: the memory map remembers the section that was asked for last. Method:
 * ranges come, go and come again with lookups between, held against a plain list; then the same by the
 * kernel's own way, memremap_pages().
 *
 * ```
 *   PFN    0 ........ 1023 | 0x1000 .. +511 | 0x1200 .. +511 | 0x4000 .. +511
 *          RAM, for good     come and go, each time with a pagemap of its own
 * ```
 */
import fc from 'fast-check';
import { dev_pagemap, MEMORY_DEVICE_PRIVATE, type range } from '../../../include/linux/memremap.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import {
	MemoryMap,
	memoryMap,
	nth_page,
	PAGES_PER_SECTION,
	page_to_pfn,
	pfn_to_page,
	pfn_valid,
} from '../../../include/linux/mmzone.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { checkpoint, restore } from '../../../init/main.ts';
import { run } from '../../../kernel/sched/core.ts';
import { memremap_pages, memunmap_pages } from '../../../mm/memremap.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_LT,
	EXPECT_NULL,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { bootBare } from '../../mm/bare_world.ts';

const RAM_PAGES = 1024;
const SIZE = 512;
const STARTS = [0x1000, 0x1200, 0x4000] as const;

/** What is done to the map, and looked at. */
type Step =
	| { readonly kind: 'toggle'; readonly which: number }
	| { readonly kind: 'look'; readonly pfn: number };

/** PFNs inside, at the borders and outside of all ranges. */
const pfns = fc.oneof(
	fc.integer({ min: 0, max: RAM_PAGES + 2 * PAGES_PER_SECTION }),
	...STARTS.map((start) => fc.integer({ min: start - 1, max: start + SIZE })),
);

const steps: fc.Arbitrary<Step[]> = fc.array(
	fc.oneof(
		fc.record({
			kind: fc.constant('toggle' as const),
			which: fc.integer({ min: 0, max: STARTS.length - 1 }),
		}),
		fc.record({ kind: fc.constant('look' as const), pfn: pfns }),
	),
	{ minLength: 40, maxLength: 80 },
);

/** The plain version: which pagemap a PFN has, and which page object was seen for it. */
class Plain {
	readonly live: (dev_pagemap | null)[] = STARTS.map(() => null);
	readonly seen = new Map<number, page>();

	/** undefined: no memory; null: RAM. */
	pgmapOf(pfn: number): dev_pagemap | null | undefined {
		if (pfn >= 0 && pfn < RAM_PAGES) return null;
		const i = STARTS.findIndex((start) => pfn >= start && pfn < start + SIZE);
		return i < 0 ? undefined : (this.live[i] ?? undefined);
	}

	forget(start: number): void {
		for (const pfn of [...this.seen.keys()])
			if (pfn >= start && pfn < start + SIZE) this.seen.delete(pfn);
	}
}

function toggle(map: MemoryMap, plain: Plain, which: number): void {
	const start = STARTS[which]!;
	if (plain.live[which] !== null) {
		plain.live[which] = null;
		plain.forget(start);
		map.remove(start);
		return;
	}
	const pgmap = new dev_pagemap({});
	plain.live[which] = pgmap;
	map.add({ start, end: start + SIZE, pgmap, idle: which });
}

/** Whether the map says of a PFN what the list says. */
function agrees(map: MemoryMap, plain: Plain, pfn: number): boolean {
	const expected = plain.pgmapOf(pfn);
	const found = map.page(pfn);
	if (expected === undefined) return found === null && map.find(pfn) === null;
	if (found === null || found.pgmap !== expected) return false;
	if (found.sec.base + found.idx !== pfn) return false;
	const before = plain.seen.get(pfn);
	if (before !== undefined && before !== found) return false;
	// a page that is new is idle: nothing of an earlier one at this place
	if (before === undefined && found.flags !== 0) return false;
	plain.seen.set(pfn, found);
	found.flags = 0xff;
	return true;
}

TEST('every_lookup_is_that_of_a_plain_list', () => {
	let looks = 0;
	fc.assert(
		fc.property(steps, (list) => {
			const map = new MemoryMap();
			const plain = new Plain();
			map.add({ start: 0, end: RAM_PAGES, pgmap: null, idle: 0 });
			for (const step of list)
				if (step.kind === 'toggle') toggle(map, plain, step.which);
				else if (agrees(map, plain, step.pfn)) looks++;
				else return false;
			return true;
		}),
		{ numRuns: 300, seed: 1 },
	);
	EXPECT_LT(3000, looks);
});

TEST('section_that_was_asked_for_last_is_forgotten_with_its_range', () => {
	const map = new MemoryMap();
	const first = new dev_pagemap({});
	map.add({ start: 0x1000, end: 0x1200, pgmap: first, idle: 1 });
	const old = map.page(0x1005)!;
	EXPECT_TRUE(map.page(0x1006)!.sec === old.sec);
	map.remove(0x1000);
	EXPECT_NULL(map.page(0x1005));
	EXPECT_NULL(map.section(0x1006));
	const second = new dev_pagemap({});
	map.add({ start: 0x1000, end: 0x1200, pgmap: second, idle: 0 });
	const again = map.page(0x1005)!;
	EXPECT_FALSE(again === old);
	EXPECT_TRUE(again.pgmap === second);
	EXPECT_EQ(0, again._refcount);
	// who kept the old one has no way to the new
	EXPECT_EQ(1, old._refcount);
});

TEST('range_that_comes_does_not_hide_behind_the_last_miss_or_hit', () => {
	const map = new MemoryMap();
	map.add({ start: 0, end: 0x80, pgmap: null, idle: 0 });
	EXPECT_NULL(map.page(0x1000));
	const ram = map.page(0x7f)!;
	map.add({ start: 0x1000, end: 0x1200, pgmap: null, idle: 0 });
	EXPECT_TRUE(map.page(0x1000) !== null);
	EXPECT_NULL(map.page(0x0fff));
	EXPECT_TRUE(map.page(0x7f) === ram);
});

const A = 0x100000n;

function pgmapAt(pfn: bigint): dev_pagemap {
	const where: range = { start: pfn << 12n, end: ((pfn + 512n) << 12n) - 1n };
	const ops = {
		*folio_free(): Sim<void> {},
		*page_free(): Sim<void> {},
		*migrate_to_ram(): Sim<number> {
			return 0;
		},
	};
	return new dev_pagemap({
		type: MEMORY_DEVICE_PRIVATE,
		ops,
		owner: ops,
		ranges: [where],
		nr_range: 1,
	});
}

/** The message of what pfn_to_page() throws, or nothing. */
function refusal(pfn: bigint): string {
	try {
		pfn_to_page(pfn);
	} catch (e) {
		return (e as Error).message;
	}
	return '';
}

TEST('unplugged_memory_has_no_pages', () => {
	bootBare('v7.3');
	const first = pgmapAt(A);
	run(memremap_pages(first, 0));
	const p = pfn_to_page(A + 7n);
	p.zone_device_data = first;
	EXPECT_TRUE(nth_page(p, 1) === pfn_to_page(A + 8n));
	run(memunmap_pages(first));
	EXPECT_FALSE(pfn_valid(A + 7n));
	EXPECT_EQ('pfn_to_page: pfn 0x100007 has no struct page', refusal(A + 7n));
	// another device at the same place
	const second = pgmapAt(A);
	run(memremap_pages(second, 0));
	const q = pfn_to_page(A + 7n);
	EXPECT_FALSE(q === p);
	EXPECT_TRUE(q.pgmap === second);
	EXPECT_TRUE(q.zone_device_data !== first);
	EXPECT_EQ(A + 7n, page_to_pfn(q) as bigint);
	run(memunmap_pages(second));
});

TEST('restored_world_finds_the_pages_that_it_had', () => {
	bootBare('v7.3');
	const first = pgmapAt(A);
	run(memremap_pages(first, 0));
	const p = pfn_to_page(A);
	const c = checkpoint();
	run(memunmap_pages(first));
	const other = pgmapAt(A);
	run(memremap_pages(other, 0));
	EXPECT_TRUE(pfn_to_page(A).pgmap === other);
	restore(c);
	// the section of the other one was asked for last
	EXPECT_TRUE(pfn_to_page(A) === p);
	EXPECT_TRUE(p.pgmap === first);
	EXPECT_EQ(1, memoryMap().ranges.filter(({ pgmap }) => pgmap !== null).length);
	run(memunmap_pages(first));
	EXPECT_FALSE(pfn_valid(A));
});
