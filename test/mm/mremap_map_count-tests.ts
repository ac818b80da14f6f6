// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: mremap() stops before an address space has too many VMAs, where each release does. Method: an
 * address space is filled with VMAs, far away, up to some below the limit; then small mappings are
 * moved, resized and left as they are.
 */
import { EFAULT, EINTR, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import { PROT_READ, VM_LOCKED } from '../../include/linux/mm.ts';
import { vm_area_struct } from '../../include/linux/mm_types.ts';
import { SIGKILL, type task_struct } from '../../include/linux/sched.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../mm/mmap_lock.ts';
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, sys_mremap } from '../../mm/mremap.ts';
import { userMremap } from '../../mm/syscalls.ts';
import { sysctl_max_map_count } from '../../mm/vma.ts';
import { EXPECT_EQ, EXPECT_STREQ, EXPECT_TRUE, SKIP, TEST_F } from '../kselftest_harness.ts';
import { processFixture, RELEASES } from './process_fixture.ts';
import { ARENA, at, mapPages, PAGE, vmaList } from './small_machine.ts';

const MOVE = MREMAP_MAYMOVE | MREMAP_FIXED;
const KEEP = MOVE | MREMAP_DONTUNMAP;
/** Far above the arena. */
const FAR = 0x6000_0000_0000n;

const count = processFixture('mremap_map_count', { releases: RELEASES });

/** Does something with so many VMAs less than the limit; without the ones in between afterwards. */
function below<T>(p: task_struct, less: number, fn: () => T): T {
	const mm = p.mm!;
	const fillers = new Set<vm_area_struct>();
	for (let i = 0n; mm.vmas.length < sysctl_max_map_count - less; i++) {
		const vm_start = FAR + 2n * i * PAGE;
		const vma = new vm_area_struct({ vm_mm: mm, vm_start, vm_end: vm_start + PAGE });
		fillers.add(vma);
		mm.vmas.push(vma);
	}
	try {
		return fn();
	} finally {
		mm.vmas = mm.vmas.filter((vma) => !fillers.has(vma));
	}
}

/** Page number of the result, or the errno. */
function mremap(p: task_struct, from: number, pages: number, to: number, flags = MOVE): number {
	const len = BigInt(pages) * PAGE;
	const ret = userMremap(p, at(from), len, len, flags, at(to));
	return typeof ret === 'number' ? ret : Number((ret - ARENA) / PAGE);
}

TEST_F(count, 'move_is_refused_while_all_is_as_it_was', ({ p }, { profile }) => {
	mapPages(p, 0, 2);
	mapPages(p, 8, 4, PROT_READ);
	const limit = profile === 'v6.12' ? 6 : 4;
	EXPECT_EQ(
		-ENOMEM,
		below(p, limit - 1, () => mremap(p, 0, 2, 9)),
	);
	EXPECT_STREQ('0-2:rw 8-12:r', vmaList(p.mm!));
	EXPECT_EQ(
		9,
		below(p, limit, () => mremap(p, 0, 2, 9)),
	);
	EXPECT_STREQ('8-9:r 9-11:rw 11-12:r', vmaList(p.mm!));
});

TEST_F(count, 'source_that_stays_takes_one_more_in_7_3', ({ p }, { profile }) => {
	mapPages(p, 0, 2);
	const limit = profile === 'v6.12' ? 6 : 5;
	EXPECT_EQ(
		-ENOMEM,
		below(p, limit - 1, () => mremap(p, 0, 2, 8, KEEP)),
	);
	EXPECT_EQ(
		8,
		below(p, limit, () => mremap(p, 0, 2, 8, KEEP)),
	);
});

TEST_F(count, 'mapping_that_has_to_move_to_grow_wants_the_same_room_in_both', ({ p }) => {
	mapPages(p, 0, 2);
	mapPages(p, 2, 2, PROT_READ);
	const grow = () => userMremap(p, at(0), 2n * PAGE, 4n * PAGE, MREMAP_MAYMOVE, 0n);
	EXPECT_EQ(-ENOMEM, Number(below(p, 3, grow)));
	EXPECT_STREQ('0-2:rw 2-4:r', vmaList(p.mm!));
	EXPECT_TRUE(below(p, 4, grow) > 0n);
	EXPECT_EQ(at(2), p.mm!.vmas[0]!.vm_start);
});

TEST_F(count, 'any_call_is_refused_in_7_3_before_it_looks', ({ p }, { profile }) => {
	mapPages(p, 0, 2);
	const old = profile === 'v6.12';
	for (const [less, refused] of [
		[4, false],
		[3, !old],
	] as const)
		below(p, less, () => {
			// nothing to do, nothing there, and less of it
			EXPECT_EQ(refused ? -ENOMEM : 0, mremap(p, 0, 2, 0, 0));
			EXPECT_EQ(refused ? -ENOMEM : -EFAULT, mremap(p, 4, 2, 0, 0));
			const short = userMremap(p, at(0), 2n * PAGE, PAGE, 0, 0n);
			EXPECT_EQ(refused ? -ENOMEM : at(0), short);
			EXPECT_EQ(-EINVAL, mremap(p, 0, 2, 0, 8));
		});
});

TEST_F(count, 'who_is_killed_while_he_waits_does_not_learn_of_it', ({ p }) => {
	mapPages(p, 0, 1);
	const results: unknown[] = [];
	below(p, 1, () => {
		run(mmap_write_lock(p.mm!));
		const killed = spawn(
			'killed',
			function* () {
				results.push(yield* sys_mremap(at(0), PAGE, PAGE, MOVE, at(4)));
			},
			{ mm: p.mm! },
		);
		killed.pending.add(SIGKILL);
		runThreads();
		run(mmap_write_unlock(p.mm!));
	});
	EXPECT_EQ(-EINTR, results[0] as number);
});

/** Mappings of one page at even pages, and a large one where they go, of which a part stays each time. */
function mapSeveral(p: task_struct, n: number): void {
	for (let i = 0; i < n; i++) mapPages(p, 2 * i, 1);
	mapPages(p, 16, 16, PROT_READ);
}

TEST_F(count, 'several_are_counted_as_they_move', ({ p }, { profile }) => {
	if (profile === 'v6.12') SKIP('v6.12 moves one VMA');
	mapSeveral(p, 3);
	EXPECT_EQ(
		-ENOMEM,
		below(p, 4, () => mremap(p, 0, 5, 17)),
	);
	// two went
	EXPECT_STREQ('4-5:rw 16-17:r 17-18:rw 18-19:r 19-20:rw 20-21:r 22-32:r', vmaList(p.mm!));
});

TEST_F(count, 'locked_source_that_stays_is_split_before', ({ p }, { profile }) => {
	if (profile === 'v6.12') SKIP('v6.12 moves one VMA');
	for (const locked of [false, true]) {
		mapSeveral(p, 2);
		const lock = (on: boolean): void => {
			for (const vma of p.mm!.vmas.filter((v) => v.vm_start < at(16)))
				vma.vm_flags = on
					? vma.vm_flags | VM_LOCKED
					: vma.vm_flags & ~VM_LOCKED;
		};
		lock(locked);
		EXPECT_EQ(
			locked ? -ENOMEM : 17,
			below(p, 5, () => mremap(p, 0, 3, 17, KEEP)),
		);
		for (const vma of p.mm!.vmas) vma.vm_flags &= ~VM_LOCKED;
		p.mm!.locked_vm = 0n;
	}
});

TEST_F(count, 'lengths_are_compared_after_or_before_they_are_rounded', ({ p }, { profile }) => {
	mapPages(p, 0, 1);
	const odd = (flags: number) => userMremap(p, at(0), PAGE - 1n, PAGE, flags, at(8));
	if (profile === 'v6.12') EXPECT_EQ(-EINVAL, Number(odd(KEEP)));
	else EXPECT_EQ(at(8), odd(KEEP) as bigint);
	EXPECT_EQ(at(8), odd(MOVE) as bigint);
});
