// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: who accesses memory says so, by a point before it or in the footprint of the step, and two
 * that conflict name the same object, field and page. Method: accesses of threads step by step, and
 * a collector of footprints.
 */
import type { Machine } from '../../arch/sim/machine.ts';
import { default_hstate } from '../../include/linux/hugetlb.ts';
import { MAP_HUGETLB, MAP_PRIVATE } from '../../include/linux/mm.ts';
import { page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_clear_active,
	folio_clear_dirty,
	folio_clear_referenced,
	folio_set_active,
	folio_set_dirty,
	folio_set_swapbacked,
} from '../../include/linux/page-flags.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { run, spawn, stepThread } from '../../kernel/sched/core.ts';
import { setHugePages } from '../../mm/hugetlb.ts';
import { MADV_FREE, MADV_PAGEOUT } from '../../mm/madvise.ts';
import { check_stable_address_space } from '../../mm/memory/fault_common.ts';
import { copy_highpage } from '../../mm/page_alloc.ts';
import {
	createProcess,
	exitProcess,
	loadUser,
	loadUser64,
	storeUser,
	userMadvise,
	userMmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import { flush_tlb_mm, flush_tlb_page } from '../../mm/tlb.ts';
import { vm_munmap } from '../../mm/vma.ts';
import { footprintOf, type Touched, touchesOf } from '../kernel/footprint.ts';
import {
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, entryAt, pageAt, vmaOf } from './entries.ts';
import { bootMm } from './mm_world.ts';
import { mapPages, PAGE, RW } from './small_machine.ts';

const points = FIXTURE('schedule_points', () => ({
	p: null as unknown as task_struct,
	machine: null as unknown as Machine,
}));

FIXTURE_SETUP(points, (self) => {
	self.machine = bootMm('v7.3');
	self.p = createProcess('points');
	mapPages(self.p, 0, 4);
	for (let page = 0; page < 2; page++) userWrite64(self.p, at(page), BigInt(page));
});

FIXTURE_TEARDOWN(points, ({ p }) => exitProcess(p));

/** The memory and page in which a page of the process lies. */
function placeAt({ p, machine }: { p: task_struct; machine: Machine }, page: number) {
	return machine.ram.placeOf(Number(page_to_pfn(pageAt(p, page))))!;
}

/** Steps a thread to its end; gives the points of memory accesses. */
function memoryPoints(p: task_struct, body: () => Sim<unknown>): Touched[] {
	const seen: Touched[] = [];
	const task = spawn('accessor', body, { mm: p.mm, cpu: 0 });
	for (let going = true; going; ) {
		going = stepThread(task);
		if (going && /^memory-/.test(task.point!.access)) {
			const { access, object, field, index, count } = task.point!;
			seen.push({ access, object, field, index, count });
		}
	}
	return seen;
}

TEST_F(points, 'an_access_has_a_point_for_each_page', (self) => {
	for (const [kind, body] of [
		['memory-write', () => storeUser(at(1) - 4n, new Uint8Array(8))],
		['memory-read', () => loadUser(at(1) - 4n, new Uint8Array(8))],
	] as const) {
		const seen = memoryPoints(self.p, body);
		EXPECT_EQ(2, seen.length);
		for (const [page, point] of seen.entries()) {
			const { object, field, index } = placeAt(self, page);
			EXPECT_TRUE(point.object === object);
			EXPECT_STREQ(
				`${kind} ${field} ${index} 1`,
				`${point.access} ${point.field} ${point.index} ${point.count}`,
			);
		}
		EXPECT_TRUE(seen[0]!.index !== seen[1]!.index);
	}
});

TEST_F(points, 'flags_of_folios_are_said_to_change', ({ p }) => {
	const f = page_folio(pageAt(p, 0));
	for (const change of [
		() => folio_set_dirty(f),
		() => folio_clear_dirty(f),
		() => folio_set_active(f),
		() => folio_clear_active(f),
		() => folio_clear_referenced(f),
		() => folio_set_swapbacked(f),
	])
		EXPECT_STREQ('atomic flags undefined undefined', touchesOf(f, change));
	// and so they are by who advises to forget a page, or to write it out
	for (const advice of [MADV_FREE, MADV_PAGEOUT])
		EXPECT_TRUE(
			footprintOf(() => userMadvise(p, at(0), PAGE, advice)).some(
				({ object, field }) => object === f && field === 'flags',
			),
		);
});

TEST_F(points, 'promises_of_huge_pages_are_taken_back_under_the_lock_of_the_pool', ({ p }) => {
	setHugePages(2);
	userMmap(p, at(512), 512n * PAGE, RW, MAP_PRIVATE | MAP_HUGETLB);
	const h = default_hstate();
	const task = spawn('unmap', () => vm_munmap(at(512), 512n * PAGE), {
		mm: p.mm,
		cpu: 0,
	});
	let held = '';
	for (let before = h.resv_huge_pages; stepThread(task); before = h.resv_huge_pages)
		if (h.resv_huge_pages !== before) held += h.lock.owner === null ? 'free' : 'held';
	EXPECT_STREQ('held', held);
});

TEST_F(points, 'a_fault_is_followed_by_a_point_that_names_the_new_page', (self) => {
	const seen = memoryPoints(self.p, () => storeUser(at(2), Uint8Array.of(7)));
	EXPECT_EQ(1, seen.length);
	EXPECT_EQ(placeAt(self, 2).index, seen[0]!.index);
});

TEST_F(points, 'looking_for_the_page_leaves_no_trace', (self) => {
	const entry = entryAt(self.p, 0);
	const accessed = 0x20n;
	entry.value &= ~accessed;
	run(flush_tlb_mm(self.p.mm!));
	const task = spawn('reader', () => loadUser64(at(0)), { mm: self.p.mm, cpu: 0 });
	stepThread(task);
	EXPECT_STREQ('memory-read', task.point!.access);
	EXPECT_EQ(0n, entry.value & accessed);
	EXPECT_EQ(0, self.machine.cpus[0]!.tlb.count());
	stepThread(task);
	EXPECT_EQ(accessed, entry.value & accessed);
});

TEST_F(points, 'another_store_comes_between_two_pages', ({ p }) => {
	const into = new Uint8Array(16);
	const reader = spawn('reader', () => loadUser(at(1) - 8n, into), { mm: p.mm, cpu: 0 });
	// up to the second page
	for (let n = 0; n < 2; n++) stepThread(reader);
	userWrite64(p, at(1) - 8n, 0xffn);
	userWrite64(p, at(1), 0xffn);
	stepThread(reader);
	EXPECT_STREQ('0 255', `${into[0]} ${into[8]}`);
});

TEST_F(points, 'two_address_spaces_on_one_cpu_keep_their_own', ({ p }) => {
	const other = createProcess('other');
	userMmap(other, at(0), PAGE, RW, MAP_PRIVATE);
	userWrite64(other, at(0), 77n);
	userWrite64(p, at(0), 55n);
	const words: unknown[] = [];
	const threads = [p, other].map((task, i) =>
		spawn(
			'reader',
			function* () {
				words[i] = yield* loadUser64(at(0));
			},
			{ mm: task.mm, cpu: 0 },
		),
	);
	for (let n = 0; n < 2; n++) for (const task of threads) stepThread(task);
	EXPECT_STREQ('55,77', words.join());
	exitProcess(other);
});

TEST_F(points, 'a_walk_and_the_tlb_are_in_the_footprint', (self) => {
	run(flush_tlb_mm(self.p.mm!));
	const seen = footprintOf(() => userRead64(self.p, at(1)));
	const { table, index } = entryAt(self.p, 1);
	EXPECT_TRUE(
		seen.some(
			(t) => t.access === 'pte-read' && t.object === table && t.index === index,
		),
	);
	const vpn = Number(at(1) >> 12n);
	const { tlb } = self.machine.cpus[self.p.cpu]!;
	EXPECT_TRUE(seen.some((t) => t.access === 'read' && t.object === tlb && t.index === vpn));
	const { object, index: page } = placeAt(self, 1);
	EXPECT_TRUE(
		seen.some(
			(t) =>
				t.access === 'memory-read' &&
				t.object === object &&
				t.index === page,
		),
	);
	const flushed = footprintOf(() => run(flush_tlb_page(vmaOf(self.p, 1), at(1))));
	EXPECT_TRUE(
		flushed.some((t) => t.access === 'flush' && t.object === tlb && t.index === vpn),
	);
});

TEST_F(points, 'the_kernel_s_own_copy_is_in_the_footprint', (self) => {
	const seen = footprintOf(() => copy_highpage(pageAt(self.p, 1), pageAt(self.p, 0)));
	EXPECT_STREQ(
		`memory-read ${placeAt(self, 0).index},memory-write ${placeAt(self, 1).index}`,
		seen.map(({ access, index }) => `${access} ${index}`).join(),
	);
	const { mm } = self.p;
	const [flag] = footprintOf(() => check_stable_address_space(mm!));
	EXPECT_TRUE(flag?.object === mm);
	EXPECT_STREQ('read flags_unstable', `${flag?.access} ${flag?.field}`);
});
