// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the IOVA allocator hands out aligned ranges from the top, never two that overlap, and finds
 * what is free. Method: the allocator alone; random allocation and freeing against a list of what is
 * taken.
 */
import {
	alloc_iova,
	alloc_iova_fast,
	free_iova,
	free_iova_fast,
	init_iova_domain,
	iova_rcache_range,
	reserve_iova,
} from '../../../drivers/iommu/iova.ts';
import { iova_domain, orderOf } from '../../../include/linux/iova.ts';
import {
	EXPECT_EQ,
	EXPECT_NE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';

const LIMIT = 0xf_ffff;

const iova = FIXTURE('iova_allocator', () => ({ iovad: new iova_domain() }));
FIXTURE_SETUP(iova, ({ iovad }) => {
	init_iova_domain(iovad, 4096n, 1);
});

TEST_F(iova, 'top_down_and_naturally_aligned', ({ iovad }) => {
	EXPECT_EQ(0xf_ffff, alloc_iova(iovad, 1, LIMIT, true));
	EXPECT_EQ(0xf_fffc, alloc_iova(iovad, 3, LIMIT, true));
	EXPECT_EQ(0xf_fff0, alloc_iova(iovad, 8, LIMIT, true));
	EXPECT_EQ(0xf_ff00, alloc_iova(iovad, 200, LIMIT, true));
	EXPECT_EQ(0x20000n, iova_rcache_range());
});

TEST_F(iova, 'page_zero_is_never_handed_out', ({ iovad }) => {
	EXPECT_EQ(8, alloc_iova(iovad, 8, 15, true));
	EXPECT_EQ(0, alloc_iova(iovad, 8, 15, true));
	EXPECT_EQ(7, alloc_iova(iovad, 1, 15, true));
});

TEST_F(iova, 'reserved_ranges_are_left_out_and_merged', ({ iovad }) => {
	reserve_iova(iovad, 0xf_fff0, 0xf_ffff);
	reserve_iova(iovad, 0xf_ffe8, 0xf_fff3);
	reserve_iova(iovad, 0xf_0000, 0xf_0000);
	EXPECT_EQ(2, iovad.lo.length);
	EXPECT_EQ(0xf_ffe7, alloc_iova(iovad, 1, LIMIT, true));
	EXPECT_EQ(0xf_ffe0, alloc_iova(iovad, 4, LIMIT, true));
});

TEST_F(iova, 'a_hole_above_the_last_search_is_found_when_the_rest_is_full', ({ iovad }) => {
	const first = alloc_iova(iovad, 8, 31, true);
	alloc_iova(iovad, 8, 31, true);
	alloc_iova(iovad, 8, 31, true);
	EXPECT_EQ(24, first);
	EXPECT_EQ(0, alloc_iova(iovad, 8, 31, true));
	free_iova(iovad, first);
	EXPECT_EQ(24, alloc_iova(iovad, 8, 31, true));
});

TEST_F(iova, 'freed_ranges_come_back_last_first', ({ iovad }) => {
	const a = alloc_iova_fast(iovad, 1, LIMIT, true);
	const b = alloc_iova_fast(iovad, 1, LIMIT, true);
	free_iova_fast(iovad, a, 1);
	free_iova_fast(iovad, b, 1);
	EXPECT_EQ(b, alloc_iova_fast(iovad, 1, LIMIT, true));
	// One that is above the limit is passed over.
	EXPECT_NE(a, alloc_iova_fast(iovad, 1, 0xff, true));
	EXPECT_EQ(a, alloc_iova_fast(iovad, 1, LIMIT, true));
});

TEST_F(iova, 'cached_ranges_are_given_up_when_space_runs_out', ({ iovad }) => {
	const taken = Array.from({ length: 31 }, () => alloc_iova_fast(iovad, 1, 31, true));
	EXPECT_EQ(31, new Set(taken).size);
	EXPECT_EQ(0, alloc_iova_fast(iovad, 1, 31, true));
	for (const pfn of taken) free_iova_fast(iovad, pfn, 1);
	EXPECT_EQ(0, alloc_iova_fast(iovad, 16, 31, false));
	EXPECT_EQ(16, alloc_iova_fast(iovad, 16, 31, true));
});

TEST_F(iova, 'freed_twice_is_handed_out_twice', ({ iovad }) => {
	const pfn = alloc_iova_fast(iovad, 1, LIMIT, true);
	free_iova_fast(iovad, pfn, 1);
	free_iova_fast(iovad, pfn, 1);
	EXPECT_EQ(pfn, alloc_iova_fast(iovad, 1, LIMIT, true));
	EXPECT_EQ(pfn, alloc_iova_fast(iovad, 1, LIMIT, true));
});

TEST_F(iova, 'random_use_never_overlaps', ({ iovad }) => {
	let seed = 12345;
	const random = (n: number) => {
		seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
		return (seed >>> 8) % n;
	};
	const live: { pfn: number; pages: number; size: number }[] = [];
	const wrong: string[] = [];
	for (let i = 0; i < 3000; i++) {
		if (live.length > 0 && random(100) < 45) {
			const [gone] = live.splice(random(live.length), 1);
			free_iova_fast(iovad, gone!.pfn, gone!.size);
			continue;
		}
		const size = 1 + random(random(8) === 0 ? 300 : 20);
		const pfn = alloc_iova_fast(iovad, size, random(2) ? 0xfff : LIMIT, true);
		if (pfn === 0) continue;
		const pages = size < 32 ? 2 ** orderOf(size) : size;
		if (pfn % 2 ** orderOf(size) !== 0) wrong.push(`${pfn} unaligned for ${size}`);
		for (const other of live)
			if (pfn < other.pfn + other.pages && other.pfn < pfn + pages)
				wrong.push(`${pfn}+${pages} overlaps ${other.pfn}+${other.pages}`);
		live.push({ pfn, pages, size });
	}
	EXPECT_STREQ('', wrong.join('; '));
	EXPECT_TRUE(live.length > 100);
	const sorted = iovad.lo.every((lo, at) => at === 0 || lo > iovad.hi[at - 1]!);
	EXPECT_TRUE(sorted);
});
