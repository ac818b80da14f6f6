// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: mappings go where mmap() says, VMAs merge and split as the kernel's do, and page tables
 * stay as long as somebody needs them. Method: sequences of calls; VMAs are compared as text,
 * `start-end:flags` in pages from the arena on.
 */
import { EEXIST, EINTR, EINVAL, ENODEV, ENOMEM, EOVERFLOW } from '../../include/linux/errno.ts';
import { file } from '../../include/linux/fs.ts';
import {
	MAP_ANONYMOUS,
	MAP_FIXED,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_NONE,
	PROT_READ,
	VM_ACCOUNT,
	VM_DONTEXPAND,
} from '../../include/linux/mm.ts';
import { address_space, type vm_area_struct } from '../../include/linux/mm_types.ts';
import { SIGKILL, type task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { find_vma, find_vma_intersection, find_vma_prev, vma_lookup } from '../../mm/find_vma.ts';
import {
	do_mmap,
	do_munmap,
	MAP_FIXED_NOREPLACE,
	MAP_NORESERVE,
	vm_mmap_pgoff,
} from '../../mm/mmap.ts';
import {
	mmap_read_lock,
	mmap_read_trylock,
	mmap_read_unlock,
	mmap_write_lock,
	mmap_write_trylock,
	mmap_write_unlock,
} from '../../mm/mmap_lock.ts';
import { MREMAP_MAYMOVE } from '../../mm/mremap.ts';
import {
	mmapAnonymous,
	userMmap,
	userMremap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import { split_vma, vm_munmap } from '../../mm/vma.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	TEST_F,
} from '../kselftest_harness.ts';
import { processFixture } from './process_fixture.ts';
import {
	ARENA,
	at,
	InvalidationLog,
	mapPages,
	PAGE,
	pteLetter,
	ptes,
	RW,
	vmaList,
} from './small_machine.ts';

/** Pages in 2 MiB and 1 GiB. */
const PMD = 512;
const PUD = 512 * 512;

const map = processFixture('mmap');

function unmap(p: task_struct, page: number, pages: number): number {
	return userMunmap(p, at(page), BigInt(pages) * PAGE);
}

function touch(p: task_struct, page: number): void {
	EXPECT_NULL(userWrite64(p, at(page), 1n));
}

TEST_F(map, 'equal_neighbours_become_one_vma', ({ p }) => {
	mapPages(p, 0, 2, RW);
	mapPages(p, 4, 2, RW);
	EXPECT_STREQ('0-2:rw 4-6:rw', vmaList(p.mm!));
	mapPages(p, 2, 2, RW);
	EXPECT_STREQ('0-6:rw', vmaList(p.mm!));
	mapPages(p, 6, 1, PROT_READ);
	EXPECT_STREQ('0-6:rw 6-7:r', vmaList(p.mm!));
	mapPages(p, 7, 1, RW);
	mapPages(p, 6, 1, RW);
	EXPECT_STREQ('0-8:rw', vmaList(p.mm!));
	EXPECT_EQ(8n, p.mm!.total_vm);
});

TEST_F(map, 'neighbour_above_grows_downwards', ({ p }) => {
	mapPages(p, 4, 2, RW);
	touch(p, 4);
	mapPages(p, 2, 2, RW);
	EXPECT_STREQ('2-6:rw', vmaList(p.mm!));
	EXPECT_EQ((ARENA >> 12n) + 2n, p.mm!.vmas[0]!.vm_pgoff);
	EXPECT_EQ(1n, userRead64(p, ARENA + 4n * PAGE));
});

TEST_F(map, 'neighbours_with_different_pages_of_their_own_stay_apart', ({ p }) => {
	mapPages(p, 0, 1, RW);
	mapPages(p, 2, 1, PROT_READ);
	mapPages(p, 2, 1, RW);
	touch(p, 0);
	touch(p, 2);
	const [left, right] = p.mm!.vmas;
	const same = left!.anon_vma === right!.anon_vma;
	mapPages(p, 1, 1, RW);
	EXPECT_STREQ(same ? '0-3:rw' : '0-2:rw 2-3:rw', vmaList(p.mm!));
});

TEST_F(map, 'merge_gives_the_anon_vma_to_the_one_without', ({ p }) => {
	mapPages(p, 2, 2, RW);
	touch(p, 2);
	mapPages(p, 0, 1, RW);
	EXPECT_NULL(p.mm!.vmas[0]!.anon_vma);
	mapPages(p, 1, 1, RW);
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
	EXPECT_TRUE(p.mm!.vmas[0]!.anon_vma !== null);
	EXPECT_EQ(1n, userRead64(p, ARENA + 2n * PAGE));
});

TEST_F(map, 'hole_in_the_middle_splits', ({ p }) => {
	mapPages(p, 0, 8, RW);
	for (let i = 0; i < 8; i++) touch(p, i);
	EXPECT_EQ(0, unmap(p, 3, 2));
	EXPECT_STREQ('0-3:rw 5-8:rw', vmaList(p.mm!));
	EXPECT_EQ((ARENA >> 12n) + 5n, p.mm!.vmas[1]!.vm_pgoff);
	EXPECT_STREQ('www..www', ptes(p.mm!, 0, 8));
	EXPECT_EQ(1n, userRead64(p, ARENA + 5n * PAGE));
	EXPECT_EQ(6n, p.mm!.total_vm);
	// the hole filled again is zero, and all is one VMA
	mapPages(p, 3, 2, RW);
	EXPECT_STREQ('0-8:rw', vmaList(p.mm!));
	EXPECT_EQ(0n, userRead64(p, ARENA + 3n * PAGE));
});

TEST_F(map, 'fixed_mapping_replaces_what_is_there', ({ p }) => {
	mapPages(p, 0, 4, RW);
	touch(p, 1);
	const log = new InvalidationLog(p.mm!);
	mapPages(p, 1, 2, PROT_READ);
	EXPECT_STREQ('0-1:rw 1-3:r 3-4:rw', vmaList(p.mm!));
	EXPECT_STREQ('0 1-3', log.take());
	EXPECT_EQ(0n, userRead64(p, ARENA + PAGE));
	// nothing is there: nobody is told
	log.take();
	mapPages(p, 8, 1, RW);
	EXPECT_STREQ('', log.take());
	log.remove();
});

TEST_F(map, 'munmap_tells_the_range_once_whatever_lies_in_it', ({ p }) => {
	mapPages(p, 0, 2, RW);
	mapPages(p, 3, 2, PROT_READ);
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0, unmap(p, 1, 7));
	EXPECT_STREQ('0 1-8', log.take());
	EXPECT_EQ(0, unmap(p, 1, 7));
	EXPECT_STREQ('', log.take());
	EXPECT_STREQ('0-1:rw', vmaList(p.mm!));
	log.remove();
});

TEST_F(map, 'last_vma_takes_its_page_tables_along', ({ p }) => {
	mapPages(p, 0, 2, RW);
	touch(p, 0);
	EXPECT_EQ(4, p.mm!.pgtables);
	EXPECT_EQ(0, unmap(p, 0, 2));
	EXPECT_EQ(1, p.mm!.pgtables);
	EXPECT_STREQ('M', pteLetter(p.mm!, ARENA));
});

TEST_F(map, 'neighbour_in_the_same_2_mib_keeps_the_table', ({ p }) => {
	mapPages(p, 0, 1, RW);
	mapPages(p, 8, 1, PROT_READ);
	touch(p, 0);
	EXPECT_EQ(0, unmap(p, 0, 1));
	EXPECT_STREQ('.', pteLetter(p.mm!, ARENA));
	EXPECT_EQ(4, p.mm!.pgtables);
});

TEST_F(map, 'neighbour_below_in_the_same_2_mib_keeps_the_table', ({ p }) => {
	mapPages(p, 0, 1, RW);
	mapPages(p, 8, 1, PROT_READ);
	userRead64(p, ARENA + 8n * PAGE);
	EXPECT_EQ(0, unmap(p, 8, 1));
	EXPECT_STREQ('.', pteLetter(p.mm!, ARENA));
});

TEST_F(map, 'tables_between_two_neighbours_go', ({ p }) => {
	mapPages(p, 0, 1, RW);
	mapPages(p, PMD - 1, 3 * PMD, RW);
	mapPages(p, 5 * PMD, 1, RW);
	touch(p, 0);
	touch(p, PMD);
	touch(p, 2 * PMD);
	touch(p, 5 * PMD);
	EXPECT_EQ(7, p.mm!.pgtables);
	EXPECT_EQ(0, unmap(p, PMD - 1, 3 * PMD));
	EXPECT_EQ(5, p.mm!.pgtables);
	EXPECT_STREQ('w', pteLetter(p.mm!, ARENA));
	EXPECT_STREQ('M', pteLetter(p.mm!, at(PMD)));
	EXPECT_STREQ('w', pteLetter(p.mm!, at(5 * PMD)));
});

TEST_F(map, 'neighbour_in_another_gib_keeps_only_the_upper_levels', ({ p }) => {
	mapPages(p, 0, 1, RW);
	mapPages(p, PUD, 1, RW);
	touch(p, 0);
	touch(p, PUD);
	EXPECT_EQ(6, p.mm!.pgtables);
	EXPECT_EQ(0, unmap(p, PUD, 1));
	EXPECT_EQ(4, p.mm!.pgtables);
	mapPages(p, PUD, 1, RW);
	touch(p, PUD);
	EXPECT_EQ(0, unmap(p, 0, PUD + 1));
	EXPECT_EQ(1, p.mm!.pgtables);
});

TEST_F(map, 'addresses_are_chosen_from_the_bottom', ({ p }) => {
	EXPECT_EQ(ARENA, mmapAnonymous(p, PAGE, RW));
	mapPages(p, 3, 1, PROT_READ);
	EXPECT_EQ(ARENA + PAGE, mmapAnonymous(p, 2n * PAGE, PROT_READ));
	EXPECT_EQ(ARENA + 4n * PAGE, mmapAnonymous(p, 5n * PAGE, RW));
	// a free hint is taken, one that is not is ignored
	const hint = (at: bigint) =>
		run(vm_mmap_pgoff(null, at, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, 0n), {
			task: p,
		});
	EXPECT_EQ(ARENA + 100n * PAGE, hint(ARENA + 99n * PAGE + 1n));
	EXPECT_EQ(ARENA + 9n * PAGE, hint(ARENA));
});

TEST_F(map, 'anonymous_memory_of_whole_huge_pages_begins_at_one', ({ p }) => {
	const HUGE = 512n * PAGE;
	EXPECT_EQ(ARENA, mmapAnonymous(p, PAGE, RW));
	EXPECT_EQ(ARENA + HUGE, mmapAnonymous(p, HUGE, RW));
	// no whole huge pages, or of a file, as shared memory is: the lowest place
	EXPECT_EQ(ARENA + PAGE, mmapAnonymous(p, HUGE - PAGE, RW));
	EXPECT_EQ(ARENA + 2n * HUGE, mmapAnonymous(p, PAGE, RW));
	EXPECT_EQ(ARENA + 2n * HUGE + PAGE, mmapAnonymous(p, HUGE, RW, true));
	// what mremap() moves, too
	const grown = userMremap(p, ARENA + PAGE, HUGE - PAGE, HUGE, MREMAP_MAYMOVE);
	EXPECT_EQ(ARENA + 4n * HUGE, grown);
});

TEST_F(map, 'mmap_refuses_what_makes_no_sense', ({ p }) => {
	const mmap = (at: bigint, len: bigint, flags: number, pgoff = 0n, f: file | null = null) =>
		run(vm_mmap_pgoff(f, at, len, RW, flags, pgoff), { task: p });
	const anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
	EXPECT_EQ(-EINVAL, mmap(0n, 0n, anonymous));
	EXPECT_EQ(-EINVAL, mmap(ARENA + 1n, PAGE, anonymous | MAP_FIXED));
	EXPECT_EQ(-ENOMEM, mmap(0x7fff_ffff_f000n, PAGE, anonymous | MAP_FIXED));
	EXPECT_EQ(-ENOMEM, mmap(0n, 1n << 48n, anonymous));
	EXPECT_EQ(-ENOMEM, mmap(0n, 0x7fff_ffff_f000n, anonymous));
	EXPECT_EQ(-EOVERFLOW, mmap(0n, PAGE, anonymous, 1n << 52n));
	EXPECT_EQ(-EINVAL, mmap(0n, PAGE, MAP_ANONYMOUS));
	EXPECT_EQ(-EINVAL, mmap(0n, PAGE, anonymous, 0n, new file()));
	EXPECT_EQ(-ENODEV, mmap(0n, PAGE, MAP_PRIVATE, 0n, new file()));
	EXPECT_EQ(-EINVAL, mmap(0n, PAGE, 0, 0n, new file({ f_op: { mmap: refuse } })));
	mapPages(p, 0, 1, RW);
	EXPECT_EQ(-EEXIST, mmap(ARENA, PAGE, anonymous | MAP_FIXED_NOREPLACE));
	EXPECT_STREQ('0-1:rw', vmaList(p.mm!));
});

TEST_F(map, 'munmap_refuses_what_makes_no_sense', ({ p }) => {
	EXPECT_EQ(-EINVAL, userMunmap(p, ARENA + 1n, PAGE));
	EXPECT_EQ(-EINVAL, userMunmap(p, ARENA, 0n));
	EXPECT_EQ(-EINVAL, userMunmap(p, 1n << 47n, PAGE));
	EXPECT_EQ(-EINVAL, userMunmap(p, ARENA, 1n << 47n));
	EXPECT_EQ(0, userMunmap(p, ARENA, PAGE));
});

TEST_F(map, 'private_writable_memory_is_accounted_unless_asked_not_to', ({ p }) => {
	mapPages(p, 0, 1, RW);
	userMmap(p, ARENA + 2n * PAGE, PAGE, RW, MAP_PRIVATE | MAP_NORESERVE);
	EXPECT_TRUE((p.mm!.vmas[0]!.vm_flags & VM_ACCOUNT) !== 0n);
	EXPECT_EQ(0n, p.mm!.vmas[1]!.vm_flags & VM_ACCOUNT);
});

TEST_F(map, 'failed_split_leaves_everything_as_it_was', ({ p }) => {
	mapPages(p, 0, 4, RW);
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-ENOMEM, unmap(p, 1, 1));
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-ENOMEM, unmap(p, 0, 1));
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-ENOMEM, userMmap(p, at(1), PAGE, PROT_READ, MAP_PRIVATE));
	EXPECT_STREQ('0-4:rw', vmaList(p.mm!));
});

TEST_F(map, 'failed_vma_allocation_is_enomem', ({ p }) => {
	injectFaults().fail('vm_area_alloc', 1);
	EXPECT_EQ(-ENOMEM, userMmap(p, at(0), PAGE, RW, MAP_PRIVATE));
	EXPECT_STREQ('', vmaList(p.mm!));
	EXPECT_EQ(0n, p.mm!.total_vm);
});

TEST_F(map, 'killed_task_does_not_wait_for_the_mmap_lock', ({ p }) => {
	const mm = p.mm!;
	run(mmap_write_lock(mm));
	const rets: unknown[] = [];
	const body = function* () {
		rets.push(
			yield* vm_mmap_pgoff(null, 0n, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, 0n),
		);
		rets.push(yield* vm_munmap(ARENA, PAGE));
	};
	spawn('killed', body, { mm }).pending.add(SIGKILL);
	runThreads();
	EXPECT_STREQ(`${-EINTR},${-EINTR}`, rets.join());
	run(mmap_write_unlock(mm));
});

TEST_F(map, 'lookups_find_the_vma_or_the_next', ({ p }) => {
	mapPages(p, 0, 2, RW);
	mapPages(p, 4, 2, PROT_READ);
	const mm = p.mm!;
	run(mmap_read_lock(mm));
	const [first, second] = mm.vmas as [vm_area_struct, vm_area_struct];
	EXPECT_TRUE(find_vma(mm, 0n) === first);
	EXPECT_TRUE(find_vma(mm, ARENA + 2n * PAGE) === second);
	EXPECT_NULL(find_vma(mm, ARENA + 6n * PAGE));
	EXPECT_NULL(vma_lookup(mm, ARENA + 2n * PAGE));
	EXPECT_TRUE(vma_lookup(mm, ARENA + 5n * PAGE + 17n) === second);
	EXPECT_NULL(find_vma_intersection(mm, ARENA + 2n * PAGE, ARENA + 4n * PAGE));
	EXPECT_TRUE(find_vma_intersection(mm, ARENA + 2n * PAGE, ARENA + 5n * PAGE) === second);
	const prev = { value: null as vm_area_struct | null };
	EXPECT_TRUE(find_vma_prev(mm, ARENA + 3n * PAGE, prev) === second);
	EXPECT_TRUE(prev.value === first);
	EXPECT_NULL(find_vma_prev(mm, ARENA + 9n * PAGE, prev));
	EXPECT_TRUE(prev.value === second);
	run(mmap_read_unlock(mm));
});

TEST_F(map, 'lookup_without_the_mmap_lock_is_reported', ({ p }) => {
	find_vma(p.mm!, ARENA);
	expectReport(/lockdep_assert_held\(&mm->mmap_lock\)/);
});

TEST_F(map, 'split_makes_the_upper_or_the_lower_part_new', ({ p }) => {
	mapPages(p, 0, 4, RW);
	const mm = p.mm!;
	const old = mm.vmas[0]!;
	run(mmap_write_lock(mm));
	EXPECT_EQ(0, run(split_vma(old, ARENA + PAGE, 1)));
	EXPECT_TRUE(mm.vmas[1] === old);
	EXPECT_EQ(0, run(split_vma(old, ARENA + 2n * PAGE, 0)));
	EXPECT_TRUE(mm.vmas[1] === old);
	EXPECT_STREQ('0-1:rw 1-2:rw 2-4:rw', vmaList(mm));
	EXPECT_EQ(0, run(do_munmap(mm, ARENA, 4n * PAGE)));
	run(mmap_write_unlock(mm));
	EXPECT_STREQ('', vmaList(mm));
});

function* refuse(): Generator<never, number> {
	return -EINVAL;
}

/** A file whose driver counts what is opened and closed. */
class CountingFile {
	opened = 0;
	closed = 0;
	released = 0;
	special: bigint;
	handle: file;

	constructor(special = 0n, withClose = true) {
		this.special = special;
		const self = this;
		const ops = withClose
			? {
					open: () => self.opened++,
					*close(): Sim<void> {
						self.closed++;
					},
				}
			: {};
		this.handle = new file({
			f_mapping: new address_space(),
			f_op: {
				*mmap(_f, vma) {
					vma.vm_flags |= self.special;
					vma.vm_ops = ops as never;
					return 0;
				},
				*release() {
					self.released++;
					return 0;
				},
			},
		});
	}
}

TEST_F(map, 'file_is_held_by_each_vma_and_released_by_the_last', ({ p }) => {
	const f = new CountingFile();
	const va = ARENA;
	EXPECT_EQ(va, userMmap(p, va, 4n * PAGE, PROT_READ, MAP_SHARED, f.handle));
	EXPECT_EQ(2, f.handle.f_count);
	EXPECT_EQ(1, f.handle.f_mapping!.i_mmap.size);
	EXPECT_EQ(0, unmap(p, 1, 1));
	EXPECT_STREQ('0-1:rs 2-4:rs', vmaList(p.mm!));
	EXPECT_EQ(3, f.handle.f_count);
	EXPECT_EQ(2, f.handle.f_mapping!.i_mmap.size);
	EXPECT_EQ(2n, p.mm!.vmas[1]!.vm_pgoff);
	EXPECT_EQ(2, f.opened);
	EXPECT_EQ(1, f.closed);
	EXPECT_EQ(0, unmap(p, 0, 4));
	EXPECT_EQ(3, f.closed);
	EXPECT_EQ(1, f.handle.f_count);
	EXPECT_EQ(0, f.handle.f_mapping!.i_mmap.size);
	EXPECT_EQ(0, f.released);
});

TEST_F(map, 'file_mappings_merge_where_the_offsets_continue', ({ p }) => {
	const f = new CountingFile(0n, false);
	userMmap(p, ARENA, PAGE, PROT_READ, MAP_SHARED, f.handle, 0n);
	userMmap(p, ARENA + PAGE, PAGE, PROT_READ, MAP_SHARED, f.handle, 1n);
	EXPECT_STREQ('0-2:rs', vmaList(p.mm!));
	userMmap(p, ARENA + 2n * PAGE, PAGE, PROT_READ, MAP_SHARED, f.handle, 7n);
	EXPECT_STREQ('0-2:rs 2-3:rs', vmaList(p.mm!));
	EXPECT_EQ(3, f.handle.f_count);
});

TEST_F(map, 'vma_with_something_to_do_at_its_end_is_not_merged_away', ({ p }) => {
	const f = new CountingFile();
	userMmap(p, ARENA, PAGE, PROT_READ, MAP_SHARED, f.handle, 0n);
	userMmap(p, ARENA + 2n * PAGE, PAGE, PROT_READ, MAP_SHARED, f.handle, 2n);
	userMmap(p, ARENA + PAGE, PAGE, PROT_READ, MAP_SHARED, f.handle, 1n);
	EXPECT_STREQ('0-2:rs 2-3:rs', vmaList(p.mm!));
	EXPECT_EQ(0, f.closed);
});

TEST_F(map, 'special_mappings_never_merge', ({ p }) => {
	const f = new CountingFile(VM_DONTEXPAND, false);
	userMmap(p, ARENA, PAGE, PROT_READ, MAP_SHARED, f.handle, 0n);
	userMmap(p, ARENA + PAGE, PAGE, PROT_READ, MAP_SHARED, f.handle, 1n);
	EXPECT_STREQ('0-1:rs 1-2:rs', vmaList(p.mm!));
});

TEST_F(map, 'error_of_the_files_mmap_is_passed_on', ({ p }) => {
	const f = new file({ f_op: { mmap: refuse } });
	EXPECT_EQ(-EINVAL, userMmap(p, ARENA, PAGE, PROT_READ, MAP_SHARED, f));
	EXPECT_EQ(1, f.f_count);
	EXPECT_STREQ('', vmaList(p.mm!));
});

TEST_F(map, 'do_mmap_acts_on_the_current_task', ({ p }) => {
	const body = function* () {
		yield* mmap_write_lock(p.mm!);
		const va = yield* do_mmap(
			null,
			0n,
			PAGE,
			PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS,
			0n,
		);
		yield* mmap_write_unlock(p.mm!);
		return va;
	};
	EXPECT_EQ(ARENA, run(body(), { task: p }));
	EXPECT_STREQ('0-1:', vmaList(p.mm!));
});

TEST_F(map, 'trylock_of_the_mmap_lock_says_who_is_inside', ({ p }) => {
	const mm = p.mm!;
	EXPECT_TRUE(mmap_read_trylock(mm));
	EXPECT_TRUE(!mmap_write_trylock(mm));
	run(mmap_read_unlock(mm));
	EXPECT_TRUE(mmap_write_trylock(mm));
	EXPECT_TRUE(!mmap_read_trylock(mm));
	run(mmap_write_unlock(mm));
});
