// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the driver's bounce buffers are used again, and no byte of an earlier command reaches a program
 * by that, whatever the later one ends with. Method: a command leaves a secret in a buffer that is
 * kept, then others succeed, fail on their way, or have no room; what programs and memory hold
 * afterwards is compared with what belongs there.
 *
 * ```
 *   pages      0 ............... 39 | 40 ... 63
 *   earlier    0xa5 everywhere
 *   later      0x11             no page: the device stops here with 40 pages in its buffer
 * ```
 */
import { EFAULT, EPERM } from '../../../include/linux/errno.ts';
import type { file } from '../../../include/linux/fs.ts';
import { PROT_READ, PROT_WRITE } from '../../../include/linux/mm.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import type { int } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../kernel/sched/strategy.ts';
import { dmirror_bounce } from '../../../lib/test_hmm/mirror.ts';
import { dmirror_fops_open, hmm_dmirror_exit, hmm_dmirror_init } from '../../../lib/test_hmm.ts';
import {
	HMM_DMIRROR_EXCLUSIVE,
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_READ,
	HMM_DMIRROR_WRITE,
	hmm_dmirror_cmd,
} from '../../../lib/test_hmm_uapi.ts';
import { fput } from '../../../mm/file_table.ts';
import {
	createProcess,
	exitProcess,
	userMprotect,
	userMunmap,
	userRead,
	userWrite,
} from '../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { bootMm } from '../../mm/mm_world.ts';
import { at, mapPages, PAGE } from '../../mm/small_machine.ts';

/** Pages of a command. */
const NPAGES = 64;
const BYTES = NPAGES * Number(PAGE);
const SECRET = 0xa5;
const OURS = 0x11;
/** What a program's buffer holds before a command. */
const BEFORE = 0xee;

/** A process with the device open. */
interface Program {
	task: task_struct;
	fd: file;
}

class Self {
	earlier!: Program;
	later!: Program;
}

const bounce = FIXTURE(
	'bounce',
	() => new Self(),
	FIXTURE_VARIANT<{ profile: ProfileName }>({ profile: 'v7.3' }),
);
FIXTURE_VARIANT_ADD(bounce, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(bounce, 'v7_3', { profile: 'v7.3' });

function start(name: string, fill: number): Program {
	const task = createProcess(name);
	const fd = run(dmirror_fops_open(0), { task }) as file;
	mapPages(task, 0, NPAGES);
	userWrite(task, at(0), new Uint8Array(BYTES).fill(fill));
	return { task, fd };
}

FIXTURE_SETUP(bounce, (self, { profile }) => {
	bootMm(profile);
	ASSERT_EQ(0, run(hmm_dmirror_init()));
	self.earlier = start('earlier', SECRET);
	self.later = start('later', OURS);
});

FIXTURE_TEARDOWN(bounce, ({ earlier, later }) => {
	for (const { task, fd } of [earlier, later]) {
		run(fput(fd), { task });
		exitProcess(task);
	}
	run(hmm_dmirror_exit());
});

/** One command of all pages. */
function command(p: Program, code: int, ptr: Uint8Array): { ret: int; cpages: bigint } {
	const cmd = new hmm_dmirror_cmd({ addr: at(0), npages: BigInt(NPAGES), ptr });
	const ret = run(p.fd.f_op.unlocked_ioctl!(p.fd, code, cmd), { task: p.task });
	return { ret: Number(ret), cpages: cmd.cpages };
}

function fresh(bytes = BYTES): Uint8Array {
	return new Uint8Array(bytes).fill(BEFORE);
}

const isAll = (bytes: Uint8Array, value: number): boolean => bytes.every((b) => b === value);

/** Values of some bytes, runs of equal ones as `value*pages`. */
function pagesText(bytes: Uint8Array): string {
	const out: string[] = [];
	const size = Number(PAGE);
	let value = -1;
	let n = 0;
	const flush = (): void => {
		if (n > 0) out.push(`${value.toString(16)}*${n}`);
	};
	for (let i = 0; i < bytes.length; i += size) {
		const page = bytes.subarray(i, i + size);
		const found = isAll(page, page[0]!) ? page[0]! : -2;
		if (found !== value) {
			flush();
			value = found;
			n = 0;
		}
		n++;
	}
	flush();
	return out.join(' ');
}

/** The earlier process's bytes pass through a buffer. */
function leaveSecret({ earlier }: Self): void {
	const got = fresh();
	EXPECT_EQ(0, command(earlier, HMM_DMIRROR_READ, got).ret);
	EXPECT_TRUE(isAll(got, SECRET));
}

/** A buffer of a command with so many pages. */
const bufferOf = (pages: number): dmirror_bounce => new dmirror_bounce(0n, BigInt(pages));

TEST_F(bounce, 'memory_of_a_buffer_is_used_again_and_its_end_is_kept', () => {
	// those that tests before this one left
	for (let i = 0; i < 16; i++) bufferOf(1);
	const one = bufferOf(NPAGES);
	one.ptr.fill(SECRET);
	one.fini();
	const two = bufferOf(NPAGES);
	// what the other tests take for granted: old bytes are in it
	EXPECT_TRUE(two.ptr.buffer === one.ptr.buffer);
	EXPECT_TRUE(isAll(two.ptr, SECRET));
	// one command's at a time
	EXPECT_FALSE(bufferOf(NPAGES).ptr.buffer === two.ptr.buffer);
	two.fini();
	for (const pages of [NPAGES + 1, NPAGES - 1, 1]) {
		const other = bufferOf(pages);
		EXPECT_EQ(pages * Number(PAGE), other.ptr.length);
		EXPECT_EQ(Number(PAGE), other.at(BigInt(pages - 1) * PAGE).length);
		EXPECT_EQ(0, other.at(BigInt(pages) * PAGE).length);
		other.fini();
	}
});

TEST_F(bounce, 'read_gives_the_later_program_its_own_pages', (self) => {
	leaveSecret(self);
	const got = fresh();
	const { ret, cpages } = command(self.later, HMM_DMIRROR_READ, got);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(BigInt(NPAGES), cpages);
	EXPECT_STREQ('11*64', pagesText(got));
});

TEST_F(bounce, 'smaller_command_gives_no_byte_beyond_its_own', (self) => {
	leaveSecret(self);
	const got = fresh();
	const cmd = new hmm_dmirror_cmd({ addr: at(0), npages: 3n, ptr: got });
	const { task, fd } = self.later;
	EXPECT_EQ(0, Number(run(fd.f_op.unlocked_ioctl!(fd, HMM_DMIRROR_READ, cmd), { task })));
	EXPECT_STREQ('11*3 ee*61', pagesText(got));
});

TEST_F(bounce, 'untouched_memory_is_read_as_zeros', (self) => {
	const { task } = self.later;
	EXPECT_EQ(0, userMunmap(task, at(8), 8n * PAGE));
	mapPages(task, 8, 8);
	leaveSecret(self);
	const got = fresh();
	EXPECT_EQ(0, command(self.later, HMM_DMIRROR_READ, got).ret);
	EXPECT_STREQ('11*8 0*8 11*48', pagesText(got));
});

TEST_F(bounce, 'read_that_fails_on_its_way_gives_nothing', (self) => {
	EXPECT_EQ(0, userMunmap(self.later.task, at(40), 24n * PAGE));
	leaveSecret(self);
	const got = fresh();
	// twice: by then the device has the pages in front of the hole, and copies them first
	for (let i = 0; i < 2; i++) {
		EXPECT_EQ(-EFAULT, command(self.later, HMM_DMIRROR_READ, got).ret);
		EXPECT_TRUE(isAll(got, BEFORE));
	}
});

TEST_F(bounce, 'program_without_room_gets_nothing', (self) => {
	leaveSecret(self);
	for (const short of [0, Number(PAGE), BYTES - 1]) {
		const got = fresh(short);
		const { ret, cpages } = command(self.later, HMM_DMIRROR_READ, got);
		EXPECT_EQ(-EFAULT, ret);
		EXPECT_EQ(BigInt(NPAGES), cpages);
		EXPECT_TRUE(isAll(got, BEFORE));
	}
});

TEST_F(bounce, 'write_writes_what_the_later_program_says', (self) => {
	leaveSecret(self);
	const { ret } = command(self.later, HMM_DMIRROR_WRITE, new Uint8Array(BYTES).fill(0x22));
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('22*64', pagesText(userRead(self.later.task, at(0), BYTES) as Uint8Array));
	EXPECT_TRUE(isAll(userRead(self.earlier.task, at(0), BYTES) as Uint8Array, SECRET));
});

TEST_F(bounce, 'write_that_has_too_little_writes_nothing', (self) => {
	leaveSecret(self);
	for (const short of [0, Number(PAGE), BYTES - 1]) {
		const { ret, cpages } = command(self.later, HMM_DMIRROR_WRITE, fresh(short));
		EXPECT_EQ(-EFAULT, ret);
		EXPECT_EQ(0n, cpages);
	}
	EXPECT_STREQ('11*64', pagesText(userRead(self.later.task, at(0), BYTES) as Uint8Array));
});

TEST_F(bounce, 'write_that_fails_on_its_way_leaves_the_rest_as_it_was', (self) => {
	const { task } = self.later;
	EXPECT_EQ(0, userMprotect(task, at(40), 24n * PAGE, PROT_READ));
	leaveSecret(self);
	const mine = new Uint8Array(BYTES).fill(0x22);
	EXPECT_EQ(-EPERM, command(self.later, HMM_DMIRROR_WRITE, mine).ret);
	EXPECT_STREQ('11*64', pagesText(userRead(task, at(0), BYTES) as Uint8Array));
	// the device has some pages by now, and writes to these before it stops
	EXPECT_EQ(0, userMprotect(task, at(40), 24n * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, command(self.later, HMM_DMIRROR_WRITE, mine).ret);
	EXPECT_EQ(0, userMunmap(task, at(40), 24n * PAGE));
	const other = new Uint8Array(BYTES).fill(0x33);
	EXPECT_EQ(-EFAULT, command(self.later, HMM_DMIRROR_WRITE, other).ret);
	const written = pagesText(userRead(task, at(0), 40 * Number(PAGE)) as Uint8Array);
	EXPECT_STREQ('33*40', written);
	EXPECT_TRUE(isAll(other, 0x33));
	EXPECT_STREQ('22*64', pagesText(mine));
});

TEST_F(bounce, 'buffers_of_migration_and_exclusive_access_hold_their_own', (self) => {
	leaveSecret(self);
	const moved = fresh();
	EXPECT_EQ(0, command(self.later, HMM_DMIRROR_MIGRATE_TO_DEV, moved).ret);
	EXPECT_STREQ('11*64', pagesText(moved));
	leaveSecret(self);
	const short = fresh(BYTES - 1);
	EXPECT_EQ(-EFAULT, command(self.later, HMM_DMIRROR_READ, short).ret);
	EXPECT_TRUE(isAll(short, BEFORE));
	// back by the touch, then for the device alone
	EXPECT_STREQ('11*64', pagesText(userRead(self.later.task, at(0), BYTES) as Uint8Array));
	leaveSecret(self);
	const exclusive = fresh();
	EXPECT_EQ(0, command(self.later, HMM_DMIRROR_EXCLUSIVE, exclusive).ret);
	EXPECT_STREQ('11*64', pagesText(exclusive));
});

TEST_F(bounce, 'commands_at_the_same_time_have_buffers_of_their_own', (self) => {
	leaveSecret(self);
	for (let seed = 1; seed <= 8; seed++) {
		const got = [fresh(), fresh()] as const;
		for (const [i, p] of [self.earlier, self.later].entries()) {
			// nothing in the mirror: both stop between their pages, to fault
			userMprotect(p.task, at(0), BigInt(BYTES), PROT_READ);
			const cmd = new hmm_dmirror_cmd({
				addr: at(0),
				npages: BigInt(NPAGES),
				ptr: got[i]!,
			});
			spawn(
				`reader${i}`,
				function* () {
					const ioctl = p.fd.f_op.unlocked_ioctl!;
					EXPECT_EQ(
						0,
						Number(yield* ioctl(p.fd, HMM_DMIRROR_READ, cmd)),
					);
				},
				{ mm: p.task.mm },
			);
		}
		runThreads(randomStrategy(seed));
		EXPECT_STREQ('a5*64 11*64', got.map(pagesText).join(' '));
	}
});
