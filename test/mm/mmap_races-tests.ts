// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: whatever happens first, nobody sees bytes of another page, writes what it may not, or
 * leaves something behind (the end of each test looks for that). Method: threads of one process
 * touch memory while others change the mapping, under seeded schedules at every schedule point.
 */
import type { Signal } from '../../arch/sim/vectors.ts';
import {
	MADV_DONTNEED,
	MAP_ANONYMOUS,
	MAP_FIXED,
	MAP_PRIVATE,
	PROT_READ,
} from '../../include/linux/mm.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { do_madvise } from '../../mm/madvise.ts';
import { vm_mmap_pgoff, vm_munmap } from '../../mm/mmap.ts';
import { do_mprotect_pkey } from '../../mm/mprotect.ts';
import { loadUser64, storeUser64, userMunmap, userRead64 } from '../../mm/syscalls.ts';
import { EXPECT_EQ, EXPECT_TRUE, TEST_F } from '../kselftest_harness.ts';
import { processFixture } from './process_fixture.ts';
import { ARENA, mapPages, PAGE, pteLetter, RW } from './small_machine.ts';

const SEEDS = 40;

const races = processFixture('mmap_races');

/** Runs threads of the process to their ends under one seed. */
function together(p: task_struct, seed: number, bodies: (() => Sim<unknown>)[]): void {
	bodies.forEach((body, cpu) => {
		spawn(`t${cpu}`, body, { mm: p.mm, cpu });
	});
	runThreads(randomStrategy(seed));
}

function isSignal(x: bigint | Signal | null): x is Signal {
	return x !== null && typeof x !== 'bigint';
}

TEST_F(races, 'two_first_touches_of_a_page_make_one_page', ({ p }) => {
	for (let seed = 1; seed <= SEEDS; seed++) {
		mapPages(p, 0, 2);
		const body = (word: bigint) =>
			function* () {
				EXPECT_TRUE((yield* storeUser64(ARENA + 8n * word, word)) === null);
				EXPECT_EQ(word, yield* loadUser64(ARENA + 8n * word));
			};
		together(p, seed, [body(1n), body(2n)]);
		EXPECT_EQ(1n, userRead64(p, ARENA + 8n));
		EXPECT_EQ(2n, userRead64(p, ARENA + 16n));
		userMunmap(p, ARENA, 2n * PAGE);
	}
});

TEST_F(races, 'touch_races_with_munmap', ({ p }) => {
	let signals = 0;
	for (let seed = 1; seed <= SEEDS; seed++) {
		mapPages(p, 0, 4);
		const toucher = function* () {
			for (let i = 0n; i < 4n; i++) {
				const x = yield* storeUser64(ARENA + i * PAGE, i);
				if (isSignal(x)) signals++;
				if (isSignal(x)) EXPECT_EQ(11, x.sig);
			}
		};
		const unmapper = function* () {
			EXPECT_EQ(0, yield* vm_munmap(ARENA, 4n * PAGE));
		};
		together(p, seed, [toucher, unmapper]);
		EXPECT_EQ(0, p.mm!.vmas.length);
		EXPECT_EQ(1, p.mm!.pgtables);
		EXPECT_TRUE(isSignal(userRead64(p, ARENA)));
	}
	EXPECT_TRUE(signals > 0);
});

TEST_F(races, 'no_write_after_mprotect_returned', ({ p }) => {
	for (let seed = 1; seed <= SEEDS; seed++) {
		mapPages(p, 0, 1);
		let isProtected = false;
		const writer = function* () {
			for (let i = 1n; i < 6n; i++) {
				const late = isProtected;
				const x = yield* storeUser64(ARENA, i);
				if (late) EXPECT_TRUE(isSignal(x));
			}
		};
		const protector = function* () {
			EXPECT_EQ(0, yield* do_mprotect_pkey(ARENA, PAGE, PROT_READ, -1));
			isProtected = true;
		};
		together(p, seed, [writer, protector]);
		EXPECT_EQ('w' === pteLetter(p.mm!, ARENA), false);
		userMunmap(p, ARENA, PAGE);
	}
});

TEST_F(races, 'dontneed_gives_the_old_value_or_zero', ({ p }) => {
	for (let seed = 1; seed <= SEEDS; seed++) {
		mapPages(p, 0, 2);
		let dropped = false;
		const reader = function* () {
			EXPECT_TRUE((yield* storeUser64(ARENA, 5n)) === null);
			for (let i = 0; i < 4; i++) {
				const x = yield* loadUser64(ARENA);
				EXPECT_TRUE(x === 5n || x === 0n);
			}
		};
		const dropper = function* () {
			EXPECT_EQ(0, yield* do_madvise(p.mm!, ARENA, 2n * PAGE, MADV_DONTNEED));
			dropped = true;
		};
		together(p, seed, [reader, dropper]);
		EXPECT_TRUE(dropped);
		userMunmap(p, ARENA, 2n * PAGE);
	}
});

TEST_F(races, 'many_threads_map_and_unmap_the_same_place', ({ p }) => {
	for (let seed = 1; seed <= SEEDS; seed++) {
		const body = (word: bigint) =>
			function* () {
				const at = ARENA + word * PAGE;
				const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
				EXPECT_EQ(
					at,
					yield* vm_mmap_pgoff(null, at, 3n * PAGE, RW, flags, 0n),
				);
				const x = yield* storeUser64(at + PAGE, word);
				EXPECT_TRUE(x === null || x.sig === 11);
				yield* vm_munmap(at + PAGE, PAGE);
			};
		together(p, seed, [body(0n), body(1n), body(2n), body(3n)]);
		userMunmap(p, ARENA, 8n * PAGE);
		EXPECT_EQ(0, p.mm!.vmas.length);
		EXPECT_EQ(0n, p.mm!.total_vm);
	}
});
