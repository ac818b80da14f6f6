// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: bytes of a file in memory, by read and write and by mappings of each kind; truncation; that
 * its pages go with the last user. Method: the 24-page file of the records: 16 pages written, 8 of
 * hole; entries as text.
 */
import type { Signal } from '../../arch/sim/vectors.ts';
import { EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import type { file } from '../../include/linux/fs.ts';
import { MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED } from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_RETRY_NOWAIT,
	FAULT_FLAG_TRIED,
	FAULT_FLAG_WRITE,
	type folio,
	MM_ANONPAGES,
	MM_SHMEMPAGES,
	VM_FAULT_COMPLETED,
	VM_FAULT_LOCKED,
	VM_FAULT_OOM,
} from '../../include/linux/mm_types.ts';
import {
	folio_test_dirty,
	PG_hwpoison,
	PG_locked,
	PG_uptodate,
} from '../../include/linux/page-flags.ts';
import { pte_wrprotect } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { outParam } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { world } from '../../include/sim/world.ts';
import { boot } from '../../init/main.ts';
import { run, runThreads, spawn, stepThread } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { fput } from '../../mm/file_table.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import { faultAround, unmap_mapping_folio, unmap_mapping_range } from '../../mm/memory.ts';
import { theZone } from '../../mm/page_alloc.ts';
import { folio_mapped } from '../../mm/rmap.ts';
import {
	SGP_READ,
	shmem_file_setup,
	shmem_get_folio,
	shmem_truncate_range,
	shmemRead,
	shmemTruncate,
	shmemWrite,
	truncate_inode_folio,
} from '../../mm/shmem.ts';
import {
	createProcess,
	exitProcess,
	loadUser64,
	storeUser64,
	userMadvise,
	userMmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, dump, entryAt, faultAt } from './entries.ts';
import { InvalidationLog, mapPages, PAGE, RW, signalText, smallMachine } from './small_machine.ts';

const PAGES = 24n;
const WRITTEN = 16;

interface Self {
	p: task_struct;
	f: file;
	/** Pages in use before the file was made. */
	used: number;
}

const shmem = FIXTURE<Self, { profile: ProfileName; around: number }>(
	'shmem',
	() => ({ p: null as unknown as task_struct, f: null as unknown as file, used: 0 }),
	FIXTURE_VARIANT<{ profile: ProfileName; around: number }>({
		profile: 'v7.3',
		around: 4096,
	}),
);
FIXTURE_VARIANT_ADD(shmem, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(shmem, 'v7_3', { profile: 'v7.3' });

function word(value: bigint): Uint8Array {
	return new Uint8Array(new BigUint64Array([value]).buffer);
}

FIXTURE_SETUP(shmem, (self, { profile, around }) => {
	boot(smallMachine(), profile);
	faultAround().bytes = around;
	self.p = createProcess('shmem');
	self.used = theZone().allocated;
	self.f = run(shmem_file_setup('file', PAGES * PAGE, 0n)) as file;
	for (let i = 0n; i < WRITTEN; i++) run(shmemWrite(self.f, i * PAGE, word(0xf000n + i)));
});

FIXTURE_TEARDOWN(shmem, ({ p, f }) => {
	world().faultInjection = null;
	exitProcess(p);
	run(fput(f));
});

function map({ p, f }: Self, page: number, pages: number, flags: number, off = 0, prot = RW): void {
	userMmap(p, at(page), BigInt(pages) * PAGE, prot, flags, f, BigInt(off));
}

function read64(f: file, pos: bigint): bigint {
	const into = new BigUint64Array(1);
	EXPECT_EQ(8, run(shmemRead(f, pos, new Uint8Array(into.buffer))));
	return into[0]!;
}

TEST_F(shmem, 'written_bytes_are_read_and_holes_stay_holes', ({ f, used }) => {
	EXPECT_EQ(WRITTEN, theZone().allocated - used);
	EXPECT_EQ(0xf003n, read64(f, 3n * PAGE));
	EXPECT_EQ(0n, read64(f, 20n * PAGE));
	EXPECT_EQ(WRITTEN, theZone().allocated - used);
	// across a page border, and beyond the end
	const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i & 0xff);
	EXPECT_EQ(0, run(shmemWrite(f, PAGES * PAGE - 100n, bytes)));
	EXPECT_EQ(PAGES * PAGE + 4900n, f.f_inode!.i_size);
	const seen = new Uint8Array(8192);
	EXPECT_EQ(5000, run(shmemRead(f, PAGES * PAGE - 100n, seen)));
	EXPECT_TRUE(bytes.every((byte, i) => seen[i] === byte));
	EXPECT_EQ(0, run(shmemRead(f, 1000n * PAGE, seen)));
});

TEST_F(shmem, 'shared_read_maps_writable_and_dirty_if_the_page_is', (self, { profile }) => {
	map(self, 0, 20, MAP_SHARED);
	EXPECT_EQ(0xf000n, userRead64(self.p, at(0)));
	EXPECT_EQ(0n, userRead64(self.p, at(18)));
	// 6.12 maps both clean
	EXPECT_STREQ(profile === 'v7.3' ? 'wfd' : 'wf', dump(self.p, 0, 1));
	EXPECT_STREQ('wf', dump(self.p, 18, 1));
	EXPECT_EQ(2, self.p.mm!.rss_stat[MM_SHMEMPAGES]);
});

TEST_F(shmem, 'shared_write_is_seen_by_read_and_by_other_mappings', (self) => {
	map(self, 0, 4, MAP_SHARED);
	map(self, 8, 4, MAP_SHARED);
	EXPECT_NULL(userWrite64(self.p, at(1), 7n));
	EXPECT_EQ(7n, userRead64(self.p, at(9)));
	EXPECT_EQ(7n, read64(self.f, PAGE));
	run(shmemWrite(self.f, PAGE, word(8n)));
	EXPECT_EQ(8n, userRead64(self.p, at(1)));
});

TEST_F(shmem, 'private_write_is_a_copy', (self) => {
	map(self, 0, 4, MAP_PRIVATE);
	const log = new InvalidationLog(self.p.mm!);
	EXPECT_EQ(0xf000n, userRead64(self.p, at(0)));
	EXPECT_STREQ('rf . . .', dump(self.p, 0, 4));
	EXPECT_STREQ('', log.take());
	EXPECT_NULL(userWrite64(self.p, at(0), 1n));
	EXPECT_STREQ('1 0-1', log.take());
	EXPECT_NULL(userWrite64(self.p, at(1) + 8n, 2n));
	EXPECT_STREQ('', log.take());
	EXPECT_STREQ('waxd waxd . .', dump(self.p, 0, 4));
	EXPECT_EQ(0xf001n, userRead64(self.p, at(1)));
	EXPECT_EQ(0xf000n, read64(self.f, 0n));
	EXPECT_EQ(2, self.p.mm!.rss_stat[MM_ANONPAGES]);
	// the copy goes, the file comes back
	userMadvise(self.p, at(0), PAGE, MADV_DONTNEED);
	EXPECT_EQ(0xf000n, userRead64(self.p, at(0)));
	log.remove();
});

TEST_F(shmem, 'beyond_the_end_is_sigbus', (self) => {
	map(self, 0, 30, MAP_SHARED);
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(self.p, at(24))));
	EXPECT_STREQ('sig 7 code 2', signalText(userWrite64(self.p, at(29), 1n)));
	EXPECT_STREQ('M', dump(self.p, 24, 1));
	EXPECT_EQ(0n, self.p.min_flt);
});

TEST_F(shmem, 'first_write_that_dirties_may_drop_the_mmap_lock', (self) => {
	map(self, 0, 24, MAP_SHARED);
	const retry = FAULT_FLAG_WRITE | FAULT_FLAG_ALLOW_RETRY;
	EXPECT_EQ(VM_FAULT_LOCKED | VM_FAULT_COMPLETED, faultAt(self.p, 20, retry));
	EXPECT_EQ(VM_FAULT_LOCKED, faultAt(self.p, 21, retry | FAULT_FLAG_RETRY_NOWAIT));
	EXPECT_EQ(VM_FAULT_LOCKED, faultAt(self.p, 22, retry | FAULT_FLAG_TRIED));
	// dirty before
	EXPECT_EQ(VM_FAULT_LOCKED, faultAt(self.p, 0, retry));
	EXPECT_STREQ('wfd wfd wfd', dump(self.p, 20, 3));
});

TEST_F(shmem, 'truncation_takes_pages_and_copies_away_twice_over', (self) => {
	map(self, 0, 8, MAP_SHARED);
	map(self, 8, 8, MAP_PRIVATE);
	for (const page of [1, 2, 4]) userRead64(self.p, at(page));
	userWrite64(self.p, at(12), 5n);
	const log = new InvalidationLog(self.p.mm!);
	run(shmemTruncate(self.f, 2n * PAGE + 4n));
	EXPECT_STREQ('1 3-8, 1 11-16, 1 3-8, 1 11-16', log.take());
	EXPECT_STREQ('. f f . . .', dump(self.p, 0, 6).replaceAll(/[wd]/g, ''));
	EXPECT_STREQ('. .', dump(self.p, 11, 2));
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(self.p, at(12))));
	// what is behind the end in the last page is zero, also when the file grows again
	EXPECT_EQ(0xf002n, userRead64(self.p, at(2)));
	run(shmemTruncate(self.f, 8n * PAGE));
	EXPECT_EQ(0n, userRead64(self.p, at(2) + 8n));
	EXPECT_EQ(0n, userRead64(self.p, at(4)));
	log.remove();
});

TEST_F(shmem, 'growing_invalidates_nothing', (self) => {
	map(self, 0, 30, MAP_SHARED);
	const log = new InvalidationLog(self.p.mm!);
	run(shmemTruncate(self.f, 30n * PAGE));
	EXPECT_STREQ('', log.take());
	EXPECT_EQ(0n, userRead64(self.p, at(29)));
	// within the last page: nothing is unmapped
	run(shmemTruncate(self.f, 29n * PAGE + 8n));
	EXPECT_STREQ('', log.take());
	EXPECT_EQ(0n, userRead64(self.p, at(29)));
	log.remove();
});

TEST_F(shmem, 'hole_is_punched_up_to_its_last_byte', ({ f }) => {
	run(shmemWrite(f, 0n, new Uint8Array(3 * 4096).fill(0xaa)));
	run(shmem_truncate_range(f.f_inode!, 100n, 2n * PAGE - 1n));
	const seen = new Uint8Array(3 * 4096);
	run(shmemRead(f, 0n, seen));
	EXPECT_TRUE(seen.every((b, i) => b === (i >= 100 && i < 8192 ? 0 : 0xaa)));
	run(shmem_truncate_range(f.f_inode!, 2n * PAGE + 8n, 2n * PAGE + 15n));
	run(shmemRead(f, 2n * PAGE, seen));
	EXPECT_TRUE(seen.subarray(0, 4096).every((b, i) => b === (i >= 8 && i < 16 ? 0 : 0xaa)));
	// pages of which both ends stay
	run(shmemWrite(f, 4n * PAGE, new Uint8Array(3 * 4096).fill(0xaa)));
	run(shmem_truncate_range(f.f_inode!, 4n * PAGE + 100n, 6n * PAGE + 99n));
	run(shmemRead(f, 4n * PAGE, seen));
	EXPECT_TRUE(seen.every((b, i) => b === (i >= 100 && i < 8292 ? 0 : 0xaa)));
	run(shmem_truncate_range(f.f_inode!, 5n * PAGE, 6n * PAGE + 199n));
	run(shmemRead(f, 6n * PAGE, seen));
	EXPECT_TRUE(seen.subarray(0, 4096).every((b, i) => b === (i < 200 ? 0 : 0xaa)));
	// in a hole there is nothing to zero
	run(shmem_truncate_range(f.f_inode!, PAGE + 8n, PAGE + 15n));
});

TEST_F(shmem, 'unmapping_a_range_can_leave_copies', (self) => {
	map(self, 0, 2, MAP_PRIVATE);
	map(self, 8, 2, MAP_SHARED);
	userWrite64(self.p, at(0), 1n);
	userRead64(self.p, at(1));
	userRead64(self.p, at(8));
	run(unmap_mapping_range(self.f.f_mapping!, 0n, 2n * PAGE, false));
	EXPECT_STREQ('waxd . . .', [dump(self.p, 0, 2), dump(self.p, 8, 2)].join(' '));
	userRead64(self.p, at(9));
	run(unmap_mapping_range(self.f.f_mapping!, PAGE, PAGE, true));
	EXPECT_STREQ('waxd . . .', [dump(self.p, 0, 2), dump(self.p, 8, 2)].join(' '));
});

TEST_F(shmem, 'one_folio_is_unmapped_everywhere_and_copies_of_it_stay', (self) => {
	map(self, 0, 2, MAP_SHARED);
	map(self, 8, 2, MAP_PRIVATE);
	map(self, 16, 2, MAP_PRIVATE);
	for (const page of [0, 1, 8, 9]) userRead64(self.p, at(page));
	userWrite64(self.p, at(16), 1n);
	const f = self.f.f_mapping!.i_pages.get(0)!;
	run(unmap_mapping_folio(f));
	EXPECT_FALSE(folio_mapped(f));
	EXPECT_STREQ('. f', dump(self.p, 0, 2).replaceAll(/[wd]/g, ''));
	EXPECT_STREQ('. rf', dump(self.p, 8, 2));
	EXPECT_STREQ('waxd .', dump(self.p, 16, 2));
});

TEST_F(shmem, 'shared_page_that_lost_its_write_bit_gets_it_back', (self) => {
	map(self, 0, 24, MAP_SHARED);
	userRead64(self.p, at(20));
	const entry = entryAt(self.p, 20);
	entry.value = pte_wrprotect(entry.value);
	const log = new InvalidationLog(self.p.mm!);
	EXPECT_EQ(0, faultAt(self.p, 20, FAULT_FLAG_WRITE));
	EXPECT_STREQ('wfd', dump(self.p, 20, 1));
	EXPECT_STREQ('', log.take());
	EXPECT_TRUE(folio_test_dirty(self.f.f_mapping!.i_pages.get(20)!));
	log.remove();
});

TEST_F(shmem, 'no_memory_for_a_page_or_a_file_is_an_errno', (self) => {
	map(self, 0, 24, MAP_SHARED);
	injectFaults().fail('shmem_alloc_folio', 1);
	EXPECT_EQ(VM_FAULT_OOM, faultAt(self.p, 20));
	injectFaults().fail('alloc_pages', 1);
	EXPECT_EQ(-ENOMEM, run(shmemWrite(self.f, 20n * PAGE, word(1n))));
	injectFaults().fail('shmem_file_setup');
	EXPECT_EQ(-ENOMEM, run(shmem_file_setup('file', PAGE, 0n)));
	EXPECT_EQ(-ENOMEM, userMmap(self.p, at(40), PAGE, RW, MAP_SHARED));
	EXPECT_EQ(-EINVAL, run(shmem_file_setup('file', -1n, 0n)));
	EXPECT_EQ(-EINVAL, run(shmem_file_setup('file', 1n << 63n, 0n)));
});

TEST_F(shmem, 'pages_live_as_long_as_a_mapping', ({ p, used }) => {
	const f = run(shmem_file_setup('other', 4n * PAGE, 0n)) as file;
	run(shmemWrite(f, 0n, word(1n)));
	userMmap(p, at(0), 4n * PAGE, RW, MAP_SHARED, f);
	run(fput(f));
	EXPECT_EQ(1n, userRead64(p, at(0)));
	const tables = p.mm!.pgtables - 1;
	EXPECT_EQ(WRITTEN + 1 + tables, theZone().allocated - used);
	mapPages(p, 0, 4);
	EXPECT_EQ(WRITTEN + p.mm!.pgtables - 1, theZone().allocated - used);
});

TEST_F(shmem, 'folio_of_another_page_cache_is_left', ({ f }) => {
	const found = outParam<folio | null>(null);
	EXPECT_EQ(0, run(shmem_get_folio(f.f_inode!, 0n, found, SGP_READ)));
	const page = found.value!;
	const other = run(shmem_file_setup('other', PAGE, 0n)) as file;
	EXPECT_EQ(-5, run(truncate_inode_folio(other.f_mapping!, page)));
	run(folio_unlock(page));
	page.page._refcount--;
	run(fput(other));
	EXPECT_EQ(0xf000n, read64(f, 0n));
});

// --- fault-around ---

TEST_F(shmem, 'neighbours_in_the_page_cache_are_mapped_too', (self) => {
	faultAround().bytes = 65536;
	map(self, 0, 24, MAP_PRIVATE);
	userRead64(self.p, at(3));
	EXPECT_STREQ(Array(16).fill('rf').join(' '), dump(self.p, 0, 16));
	EXPECT_EQ(16, self.p.mm!.rss_stat[MM_SHMEMPAGES]);
	EXPECT_EQ(1n, self.p.min_flt);
	// nothing of the second block is there: only the touched page is made
	userRead64(self.p, at(18));
	EXPECT_STREQ('. . rf .', dump(self.p, 16, 4));
});

TEST_F(shmem, 'neighbours_are_clipped_to_vma_file_and_what_is_mapped', (self) => {
	faultAround().bytes = 65536;
	map(self, 4, 3, MAP_SHARED, 14);
	userRead64(self.p, at(4));
	EXPECT_STREQ('f f .', dump(self.p, 4, 3).replaceAll(/[wd]/g, ''));
	map(self, 8, 4, MAP_PRIVATE, 0);
	userWrite64(self.p, at(9), 1n);
	userRead64(self.p, at(8));
	EXPECT_STREQ('rf waxd rf rf', dump(self.p, 8, 4));
	run(shmemTruncate(self.f, PAGE));
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(self.p, at(9))));
});

TEST_F(shmem, 'neighbours_that_are_busy_or_bad_are_left_out', (self) => {
	faultAround().bytes = 65536;
	map(self, 0, 8, MAP_PRIVATE);
	const { i_pages } = self.f.f_mapping!;
	const [locked, old, bad, gone, free] = [1, 2, 3, 5, 6].map((i) => i_pages.get(i)!);
	run(folio_lock(locked!));
	old!.flags &= ~PG_uptodate;
	bad!.flags |= PG_hwpoison;
	const mapping = gone!.mapping;
	gone!.mapping = null;
	const refs = free!.page._refcount;
	free!.page._refcount = 0;
	userRead64(self.p, at(0));
	EXPECT_STREQ('rf . . . rf . . rf', dump(self.p, 0, 8));
	gone!.mapping = mapping;
	free!.page._refcount = refs;
	locked!.flags &= ~PG_locked;
	bad!.flags &= ~PG_hwpoison;
	old!.flags |= PG_uptodate;
	// the one that faults is not among them: it is asked for
	bad!.flags |= PG_locked;
	spawn('owner', function* () {
		yield* folio_unlock(bad!);
	});
	EXPECT_EQ(0xf003n, userRead64(self.p, at(3)));
});

TEST_F(shmem, 'no_memory_for_the_table_of_the_neighbours', (self) => {
	faultAround().bytes = 65536;
	map(self, 0, 8, MAP_PRIVATE);
	injectFaults().fail('alloc_pages', 3);
	EXPECT_EQ(VM_FAULT_OOM, faultAt(self.p, 0));
});

// --- races ---

TEST_F(shmem, 'hole_touched_by_two_becomes_one_page', (self) => {
	for (let seed = 1; seed <= 30; seed++) {
		run(shmemTruncate(self.f, 16n * PAGE));
		run(shmemTruncate(self.f, PAGES * PAGE));
		map(self, 0, 24, MAP_SHARED);
		world().preemptible = true;
		spawn('a', () => storeUser64(at(20), 1n), { mm: self.p.mm, cpu: 0 });
		spawn('b', () => storeUser64(at(20) + 8n, 2n), { mm: self.p.mm, cpu: 1 });
		runThreads(randomStrategy(seed));
		world().preemptible = false;
		EXPECT_EQ(1n, read64(self.f, 20n * PAGE));
		EXPECT_EQ(2n, read64(self.f, 20n * PAGE + 8n));
	}
});

TEST_F(shmem, 'page_made_while_the_file_is_truncated_does_not_stay', (self) => {
	map(self, 0, 24, MAP_SHARED);
	let outcome: unknown = 'none';
	const toucher = spawn(
		'toucher',
		function* () {
			outcome = yield* loadUser64(at(20));
		},
		{ mm: self.p.mm, cpu: 1 },
	);
	const { f_mapping } = self.f;
	// it has seen the old size and is about to put its page into the page cache
	while (!(toucher.point?.object === f_mapping && toucher.point.access === 'write'))
		stepThread(toucher);
	run(shmemTruncate(self.f, 4n * PAGE));
	runThreads();
	EXPECT_STREQ('sig 7 code 2', signalText(outcome as Signal));
	EXPECT_EQ(4, f_mapping!.i_pages.size);
});

TEST_F(shmem, 'truncation_leaves_no_page_behind_the_end', (self) => {
	for (let seed = 1; seed <= 60; seed++) {
		run(shmemTruncate(self.f, PAGES * PAGE));
		map(self, 0, 24, seed & 1 ? MAP_SHARED : MAP_PRIVATE);
		faultAround().bytes = seed & 2 ? 65536 : 4096;
		world().preemptible = true;
		spawn(
			'toucher',
			function* () {
				yield* loadUser64(at(20));
				yield* storeUser64(at(21), 1n);
				yield* loadUser64(at(10));
			},
			{ mm: self.p.mm, cpu: 1 },
		);
		spawn('truncator', () => shmemTruncate(self.f, 4n * PAGE));
		runThreads(randomStrategy(seed));
		world().preemptible = false;
		EXPECT_TRUE([...self.f.f_mapping!.i_pages.keys()].every((index) => index < 4));
		EXPECT_STREQ('sig 7 code 2', signalText(userRead64(self.p, at(20))));
		EXPECT_STREQ('sig 7 code 2', signalText(userRead64(self.p, at(21))));
	}
});
