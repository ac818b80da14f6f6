// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the HMM test driver does to a process's memory what a program expects of it, and to the
 * kernel what the kernel's own driver does.
 * Method: ioctls on open devices, data compared wherever the pages are.
 */
import { EBUSY, EFAULT, EINVAL, ENODEV, ENOENT, EPERM } from '../../include/linux/errno.ts';
import type { file } from '../../include/linux/fs.ts';
import { MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { PAGE_SIZE } from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { run } from '../../kernel/sched/core.ts';
import { dmirror_fops_open, hmm_dmirror_exit, hmm_dmirror_init } from '../../lib/test_hmm.ts';
import {
	HMM_DMIRROR_CHECK_EXCLUSIVE,
	HMM_DMIRROR_EXCLUSIVE,
	HMM_DMIRROR_FLAG_FAIL_ALLOC,
	HMM_DMIRROR_FLAGS,
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_MIGRATE_TO_SYS,
	HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL,
	HMM_DMIRROR_PROT_WRITE,
	HMM_DMIRROR_READ,
	HMM_DMIRROR_RELEASE,
	HMM_DMIRROR_SNAPSHOT,
	HMM_DMIRROR_WRITE,
	hmm_dmirror_cmd,
} from '../../lib/test_hmm_uapi.ts';
import { fput } from '../../mm/file_table.ts';
import {
	createProcess,
	exitProcess,
	mmapAnonymous,
	userMprotect,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import {
	bootTested,
	counting,
	dmirrorCmd,
	HMM_COHERENCE_DEVICE_ONE,
	type HmmBuffer,
	hmmBuffer,
	PAGE,
	Process,
	TWOMEG,
	unloadDriver,
	wrongAt,
} from '../mm/hmm_program/program.ts';
import { bootMm } from '../mm/mm_world.ts';
import { switchOn } from '../support/switch_on.ts';

const PAGES = 4;

class Self {
	task!: task_struct;
	fd!: file;
	address = 0n;

	/** One command on pages from `page` on. */
	ioctl(
		command: number,
		page = 0,
		pages = PAGES,
		ptr = new Uint8Array(pages * PAGE),
	): number {
		return this.command(
			command,
			new hmm_dmirror_cmd({
				addr: this.address + BigInt(page) * PAGE_SIZE,
				npages: BigInt(pages),
				ptr,
			}),
		);
	}

	command(command: number, cmd: hmm_dmirror_cmd): number {
		return run(this.fd.f_op.unlocked_ioctl!(this.fd, command, cmd), {
			task: this.task,
		});
	}

	/** HMM_DMIRROR_PROT_* of each page. */
	snapshot(): string {
		const perm = new Uint8Array(PAGES);
		ASSERT_EQ(0, this.ioctl(HMM_DMIRROR_SNAPSHOT, 0, PAGES, perm));
		return perm.join();
	}

	/** The u64 at the beginning of each page. */
	read(): bigint[] {
		return Array.from(
			{ length: PAGES },
			(_, i) =>
				userRead64(
					this.task,
					this.address + BigInt(i) * PAGE_SIZE,
				) as bigint,
		);
	}
}

const dev = FIXTURE(
	'dmirror',
	() => new Self(),
	FIXTURE_VARIANT<{ profile: ProfileName }>({ profile: 'v7.3' }),
);

FIXTURE_VARIANT_ADD(dev, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(dev, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(dev, (self, { profile }) => {
	bootMm(profile, { trackOrigins: true });
	ASSERT_EQ(0, run(hmm_dmirror_init()));
	self.task = createProcess('test');
	self.fd = run(dmirror_fops_open(0), { task: self.task }) as file;
	self.address = mmapAnonymous(self.task, BigInt(PAGES) * PAGE_SIZE, PROT_READ | PROT_WRITE);
	for (let i = 0; i < PAGES; i++)
		userWrite64(self.task, self.address + BigInt(i) * PAGE_SIZE, BigInt(0x100 + i));
});

FIXTURE_TEARDOWN(dev, ({ task, fd }) => {
	run(fput(fd), { task });
	exitProcess(task);
	run(hmm_dmirror_exit());
});

/** A snapshot of writable pages of the device, and of RAM. */
const onDevice = (pages: number): string =>
	Array(pages)
		.fill(HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL | HMM_DMIRROR_PROT_WRITE)
		.join();
const inRam = (pages: number): string => Array(pages).fill(HMM_DMIRROR_PROT_WRITE).join();

const first = (bytes: Uint8Array, page: number): bigint =>
	new DataView(bytes.buffer).getBigUint64(page * PAGE, true);

TEST_F(dev, 'reads_and_writes_system_memory', (self) => {
	const buffer = new Uint8Array(PAGES * PAGE);
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_READ, 0, PAGES, buffer));
	for (let i = 0; i < PAGES; i++) EXPECT_EQ(BigInt(0x100 + i), first(buffer, i));
	for (let i = 0; i < PAGES; i++)
		new DataView(buffer.buffer).setBigUint64(i * PAGE, 7n, true);
	const cmd = new hmm_dmirror_cmd({ addr: self.address, npages: BigInt(PAGES), ptr: buffer });
	ASSERT_EQ(0, self.command(HMM_DMIRROR_WRITE, cmd));
	EXPECT_EQ(BigInt(PAGES), cmd.cpages);
	EXPECT_EQ('7,7,7,7', self.read().join());
});

TEST_F(dev, 'data_follows_the_page_to_the_device_and_back', (self) => {
	const buffer = new Uint8Array(PAGES * PAGE);
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_MIGRATE_TO_DEV, 0, PAGES, buffer));
	for (let i = 0; i < PAGES; i++) EXPECT_EQ(BigInt(0x100 + i), first(buffer, i));
	EXPECT_EQ(onDevice(PAGES), self.snapshot());
	const cmd = new hmm_dmirror_cmd({ addr: self.address, npages: BigInt(PAGES) });
	ASSERT_EQ(0, self.command(HMM_DMIRROR_MIGRATE_TO_SYS, cmd));
	EXPECT_EQ(BigInt(PAGES), cmd.cpages);
	EXPECT_EQ('256,257,258,259', self.read().join());
});

TEST_F(dev, 'release_evicts_and_a_migration_finds_memory_again', (self) => {
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_MIGRATE_TO_DEV));
	EXPECT_EQ(onDevice(PAGES), self.snapshot());
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_RELEASE));
	EXPECT_EQ(inRam(PAGES), self.snapshot());
	EXPECT_EQ('256,257,258,259', self.read().join());
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_MIGRATE_TO_DEV));
	EXPECT_EQ(onDevice(PAGES), self.snapshot());
	EXPECT_EQ('256,257,258,259', self.read().join());
});

TEST_F(dev, 'an_allocation_that_is_to_fail_leaves_its_page', (self, { profile }) => {
	const cmd = new hmm_dmirror_cmd({ addr: self.address, npages: 1n });
	EXPECT_EQ(profile === 'v7.3' ? 0 : -EINVAL, self.command(HMM_DMIRROR_FLAGS, cmd));
	// the first page is neither migrated nor in the mirror
	EXPECT_EQ(profile === 'v7.3' ? -ENOENT : 0, self.ioctl(HMM_DMIRROR_MIGRATE_TO_DEV));
	EXPECT_EQ('256,257,258,259', self.read().join());
});

TEST_F(dev, 'exclusive_pages_are_the_devices_until_a_touch', (self, { profile }) => {
	const buffer = new Uint8Array(PAGES * PAGE);
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_EXCLUSIVE, 0, PAGES, buffer));
	for (let i = 0; i < PAGES; i++) EXPECT_EQ(BigInt(0x100 + i), first(buffer, i));
	EXPECT_EQ(-EPERM, self.ioctl(HMM_DMIRROR_CHECK_EXCLUSIVE));
	// a write of the CPU takes one page back
	userWrite64(self.task, self.address, 1n);
	EXPECT_EQ(0, self.ioctl(HMM_DMIRROR_CHECK_EXCLUSIVE, 0, 1));
	EXPECT_EQ(-EPERM, self.ioctl(HMM_DMIRROR_CHECK_EXCLUSIVE, 1, 3));
	EXPECT_EQ('1,257,258,259', self.read().join());
	// a page that must not be written: 6.12 takes all or none, 7.3 what is in front of it
	userMprotect(self.task, self.address + 2n * PAGE_SIZE, PAGE_SIZE, PROT_READ);
	const refused = self.ioctl(HMM_DMIRROR_EXCLUSIVE);
	EXPECT_EQ(profile === 'v7.3' ? -EFAULT : -EBUSY, refused);
	const left = self.ioctl(HMM_DMIRROR_CHECK_EXCLUSIVE);
	EXPECT_EQ(profile === 'v7.3' ? -EPERM : 0, left);
	EXPECT_EQ('1,257,258,259', self.read().join());
});

TEST_F(dev, 'commands_that_make_no_sense_are_refused', (self) => {
	EXPECT_EQ(-EINVAL, self.ioctl(99));
	EXPECT_EQ(-EINVAL, self.ioctl(HMM_DMIRROR_READ, 0, 0));
	const odd = new hmm_dmirror_cmd({ addr: self.address + 1n, npages: 1n });
	EXPECT_EQ(-EINVAL, self.command(HMM_DMIRROR_READ, odd));
	const wraps = new hmm_dmirror_cmd({ addr: (1n << 64n) - PAGE_SIZE, npages: 2n });
	EXPECT_EQ(-EINVAL, self.command(HMM_DMIRROR_READ, wraps));
	EXPECT_EQ(-ENODEV, run(dmirror_fops_open(7), { task: self.task }) as number);
});

TEST_F(dev, 'read_of_a_device_page_that_is_missing_in_the_mirror_is_an_oops', (self) => {
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_MIGRATE_TO_DEV));
	const length = BigInt(PAGES) * PAGE_SIZE;
	ASSERT_EQ(0, userMprotect(self.task, self.address, length, PROT_READ));
	expectReport(/unable to handle page fault: pfn 0x[0-9a-f]+ is not RAM/);
	self.ioctl(HMM_DMIRROR_READ);
	EXPECT_TRUE(false);
});

/** A coherent device of v7.3, whose one chunk has huge pages only. */
const hugeOnly = FIXTURE('coherent_huge', () => ({ process: null as Process | null }));

FIXTURE_SETUP(hugeOnly, (self) => {
	bootTested({ profile: 'v7.3', thp: 'always', coherent: true });
	self.process = new Process();
});

FIXTURE_TEARDOWN(hugeOnly, ({ process }) => {
	process!.exit();
	unloadDriver();
});

/** A huge page of memory that goes to the device, after the device has given its first chunk back. */
function hugeToDevice(process: Process): { buffer: HmmBuffer; fd: file } {
	const buffer = hmmBuffer(process, TWOMEG, TWOMEG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	process.store(buffer.ptr, counting(TWOMEG / 4));
	const fd = process.open(HMM_COHERENCE_DEVICE_ONE);
	ASSERT_NE(null, fd);
	ASSERT_EQ(0, dmirrorCmd(fd, HMM_DMIRROR_RELEASE, buffer, 1));
	ASSERT_EQ(0, dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, TWOMEG / PAGE));
	return { buffer, fd };
}

TEST_F(hugeOnly, 'first_allocation_decides_what_a_coherent_device_has', ({ process }) => {
	const { buffer, fd } = hugeToDevice(process!);
	ASSERT_EQ(TWOMEG / PAGE, buffer.cpages);
	EXPECT_EQ(-1, wrongAt(process!.load(buffer.ptr, TWOMEG / 4), counting(TWOMEG / 4)));
	// it does not come back: the driver does not ask for huge pages that the CPU can reach
	ASSERT_EQ(0, dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_SYS, buffer, TWOMEG / PAGE));
	EXPECT_EQ(0, buffer.cpages);
	// and there is no small page, nor room for a chunk of them
	expectReport('Conflicting mapping in same section');
	const small = hmmBuffer(process!, PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	EXPECT_EQ(-ENOENT, dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, small, 1));
});

TEST_F(
	hugeOnly,
	'small_page_in_place_of_a_huge_one_that_cannot_be_had_is_an_oops',
	({ process }) => {
		const { fd } = hugeToDevice(process!);
		const second = hmmBuffer(
			process!,
			TWOMEG,
			TWOMEG,
			PROT_READ | PROT_WRITE,
			MAP_PRIVATE,
		);
		process!.store(second.ptr, counting(1));
		const fail = Number(HMM_DMIRROR_FLAG_FAIL_ALLOC);
		ASSERT_EQ(0, dmirrorCmd(fd, HMM_DMIRROR_FLAGS, second, fail));
		expectReport('Conflicting mapping in same section');
		expectReport('NULL pointer dereference in dmirror_migrate_to_device');
		dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, second, TWOMEG / PAGE);
		EXPECT_TRUE(false);
	},
);

TEST_F(hugeOnly, 'fix_s28_small_page_that_cannot_be_had_stays_in_memory', ({ process }) => {
	ASSERT_TRUE(switchOn('fix_s28'));
	const { fd } = hugeToDevice(process!);
	const second = hmmBuffer(process!, TWOMEG, TWOMEG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	const { ptr: at } = second;
	process!.store(at, counting(TWOMEG / 4));
	const fail = Number(HMM_DMIRROR_FLAG_FAIL_ALLOC);
	ASSERT_EQ(0, dmirrorCmd(fd, HMM_DMIRROR_FLAGS, second, fail));
	expectReport('Conflicting mapping in same section');
	EXPECT_EQ(-ENOENT, dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, second, TWOMEG / PAGE));
	EXPECT_EQ(-1, wrongAt(process!.load(at, TWOMEG / 4), counting(TWOMEG / 4)));
});

TEST_F(dev, 'fix_s28_device_page_that_is_missing_in_the_mirror_is_read_and_written', (self) => {
	ASSERT_TRUE(switchOn('fix_s28'));
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_MIGRATE_TO_DEV));
	// a mapping that loses its mirror and stays writable
	const length = BigInt(PAGES) * PAGE_SIZE;
	ASSERT_EQ(0, userMprotect(self.task, self.address, length, PROT_READ));
	const buffer = new Uint8Array(PAGES * PAGE);
	ASSERT_EQ(0, self.ioctl(HMM_DMIRROR_READ, 0, PAGES, buffer));
	for (let i = 0; i < PAGES; i++) EXPECT_EQ(BigInt(0x100 + i), first(buffer, i));
});

TEST_F(dev, 'fix_s28_device_page_made_from_a_hole_is_written', (self) => {
	ASSERT_TRUE(switchOn('fix_s28'));
	const length = BigInt(PAGES) * PAGE_SIZE;
	const hole = mmapAnonymous(self.task, length, PROT_READ | PROT_WRITE);
	const cmd = (ptr: Uint8Array): hmm_dmirror_cmd =>
		new hmm_dmirror_cmd({ addr: hole, npages: BigInt(PAGES), ptr });
	ASSERT_EQ(0, self.command(HMM_DMIRROR_MIGRATE_TO_DEV, cmd(new Uint8Array(PAGES * PAGE))));
	ASSERT_EQ(0, self.command(HMM_DMIRROR_WRITE, cmd(new Uint8Array(PAGES * PAGE).fill(3))));
	EXPECT_EQ(0x0303_0303_0303_0303n, userRead64(self.task, hole) as bigint);
});
