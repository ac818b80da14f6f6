// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what is pinned stays, and what is pinned without end does not lie on a device. Method: pages
 * in each state are got and pinned, with and without the lock; references, entries and devices are
 * looked at, and unpinning leaves no trace.
 */
import { EBUSY, EFAULT, EINVAL } from '../../include/linux/errno.ts';
import { FOLL_LONGTERM, FOLL_WRITE, MAP_PRIVATE, PROT_READ } from '../../include/linux/mm.ts';
import { type page, page_folio } from '../../include/linux/mm_types.ts';
import {
	folio_ref_count,
	is_device_coherent_page,
	PageAnonExclusive,
} from '../../include/linux/page-flags.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { run } from '../../kernel/sched/core.ts';
import { HMM_DMIRROR_MIGRATE_TO_DEV } from '../../lib/test_hmm_uapi.ts';
import { get_user_pages_fast, pin_user_pages_fast } from '../../mm/gup/fast.ts';
import { get_user_pages, pin_user_pages, unpin_user_pages } from '../../mm/gup/pin.ts';
import {
	GUP_BASIC_TEST,
	GUP_FAST_BENCHMARK,
	gup_test,
	gup_test_ioctl,
	PIN_BASIC_TEST,
	PIN_FAST_BENCHMARK,
	PIN_LONGTERM_BENCHMARK,
} from '../../mm/gup_test.ts';
import { MADV_HUGEPAGE } from '../../mm/madvise.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { folio_maybe_dma_pinned, GUP_PIN_COUNTING_BIAS } from '../../mm/rmap.ts';
import { put_page } from '../../mm/swap.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import {
	alignedBuffer,
	bootTested,
	counting,
	dmirrorCmd,
	freeAligned,
	HMM_COHERENCE_DEVICE_ONE,
	HMM_PRIVATE_DEVICE_ONE,
	type HmmBuffer,
	hmmBuffer,
	PAGE,
	Process,
	pageAt,
	RW,
	type TestedKernel,
	TWOMEG,
	unloadDriver,
	wrongAt,
} from './hmm_program/program.ts';

const NPAGES = 4;
const INTS = (NPAGES * PAGE) / 4;

class Self {
	process!: Process;
	buffer!: HmmBuffer;

	/** Pages of the buffer, by a call; it may want the lock. */
	get(call: typeof pin_user_pages, flags: number, first = 0, n = NPAGES): number | page[] {
		const pages: page[] = [];
		const locks = call === pin_user_pages || call === get_user_pages;
		const { task } = this.process;
		const start = pageAt(this.buffer, first);
		const got = run(
			function* (): Sim<number> {
				if (locks) yield* mmap_read_lock(task.mm!);
				const ret = yield* call(start, BigInt(n), flags, pages);
				if (locks) yield* mmap_read_unlock(task.mm!);
				return ret;
			},
			{ task },
		);
		if (got < 0) return got;
		ASSERT_EQ(got, pages.length);
		return pages;
	}

	/** The same, which must give all pages. */
	all(call: typeof pin_user_pages, flags: number): page[] {
		const got = this.get(call, flags) as page[];
		ASSERT_EQ(NPAGES, got.length);
		return got;
	}

	/** To a device. */
	migrate(unit: number): void {
		const fd = this.process.open(unit);
		ASSERT_NE(null, fd);
		ASSERT_EQ(0, dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, this.buffer, NPAGES));
	}

	/** What the process has stored is there. */
	isIntact(): boolean {
		return wrongAt(this.process.load(this.buffer.ptr, INTS), counting(INTS)) === -1;
	}
}

const pins = FIXTURE(
	'pins',
	() => new Self(),
	FIXTURE_VARIANT<TestedKernel>({ profile: 'v7.3', thp: 'madvise', coherent: true }),
);

FIXTURE_VARIANT_ADD(pins, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(pins, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(pins, (self, kernel) => {
	bootTested(kernel);
	self.process = new Process();
	const size = NPAGES * PAGE;
	self.buffer = hmmBuffer(self.process, size, size, RW, MAP_PRIVATE);
	self.process.store(self.buffer.ptr, counting(INTS));
});

FIXTURE_TEARDOWN(pins, ({ process }) => {
	process.exit();
	unloadDriver();
});

function refs(task: task_struct, buffer: HmmBuffer, page: number): number {
	return folio_ref_count(page_folio(pageOfTask(task, pageAt(buffer, page))));
}

function pageOfTask(task: task_struct, addr: bigint): page {
	let found: page | null = null;
	const pages: page[] = [];
	run(() => get_user_pages_fast(addr, 1n, 0, pages), { task });
	[found = null] = pages;
	ASSERT_NE(null, found);
	run(put_page(found));
	return found;
}

function unpin(pages: readonly page[]): void {
	run(unpin_user_pages(pages, BigInt(pages.length)));
}

TEST_F(pins, 'pins_count_and_are_taken_back', (self) => {
	const { process, buffer } = self;
	for (const call of [pin_user_pages, pin_user_pages_fast]) {
		const pages = self.all(call, FOLL_WRITE);
		for (const p of pages) {
			EXPECT_TRUE(folio_maybe_dma_pinned(page_folio(p)));
			EXPECT_EQ(1 + GUP_PIN_COUNTING_BIAS, folio_ref_count(page_folio(p)));
		}
		unpin(pages);
		for (const p of pages) EXPECT_FALSE(folio_maybe_dma_pinned(page_folio(p)));
	}
	for (const call of [get_user_pages, get_user_pages_fast]) {
		const pages = self.all(call, FOLL_WRITE);
		for (const p of pages) EXPECT_EQ(2, folio_ref_count(page_folio(p)));
		for (const p of pages) run(put_page(p));
	}
	EXPECT_EQ(1, refs(process.task, buffer, 0));
});

TEST_F(pins, 'what_is_not_there_is_faulted_in_also_without_the_lock', (self) => {
	const { process, buffer } = self;
	buffer.free();
	const size = NPAGES * PAGE;
	self.buffer = hmmBuffer(process, size, size, RW, MAP_PRIVATE);
	process.store(pageAt(self.buffer, 0), counting(1, 7));
	// the first page needs no lock, the others do
	const pages = self.all(pin_user_pages_fast, FOLL_WRITE);
	EXPECT_EQ(7, process.load(self.buffer.ptr, 1)[0]);
	unpin(pages);
	process.munmap(pageAt(self.buffer, 2), PAGE);
	const there = self.get(get_user_pages_fast, FOLL_WRITE, 0, 2) as page[];
	EXPECT_EQ(2, there.length);
	for (const p of there) run(put_page(p));
	EXPECT_EQ(-EFAULT, self.get(pin_user_pages_fast, FOLL_WRITE, 2, 1) as number);
});

TEST_F(pins, 'coherent_page_stays_for_a_while_and_leaves_for_ever', (self) => {
	self.migrate(HMM_COHERENCE_DEVICE_ONE);
	for (const call of [pin_user_pages, pin_user_pages_fast]) {
		const pages = self.all(call, FOLL_WRITE);
		for (const p of pages) EXPECT_TRUE(is_device_coherent_page(p));
		unpin(pages);
	}
	const pages = self.all(pin_user_pages, FOLL_WRITE | FOLL_LONGTERM);
	for (const p of pages) {
		EXPECT_FALSE(is_device_coherent_page(p));
		EXPECT_TRUE(folio_maybe_dma_pinned(page_folio(p)));
	}
	EXPECT_TRUE(self.isIntact());
	unpin(pages);
});

TEST_F(pins, 'fast_call_leaves_a_long_term_pin_of_a_coherent_page_to_the_slow_one', (self) => {
	self.migrate(HMM_COHERENCE_DEVICE_ONE);
	const pages = self.all(pin_user_pages_fast, FOLL_WRITE | FOLL_LONGTERM);
	for (const p of pages) EXPECT_FALSE(is_device_coherent_page(p));
	EXPECT_TRUE(self.isIntact());
	unpin(pages);
});

TEST_F(pins, 'private_page_comes_back_whatever_the_pin', (self) => {
	self.migrate(HMM_PRIVATE_DEVICE_ONE);
	const pages = self.all(pin_user_pages_fast, FOLL_WRITE);
	EXPECT_TRUE(self.isIntact());
	unpin(pages);
});

TEST_F(pins, 'coherent_page_that_another_has_pinned_cannot_leave', (self) => {
	self.migrate(HMM_COHERENCE_DEVICE_ONE);
	const before = self.all(pin_user_pages, FOLL_WRITE);
	EXPECT_EQ(-EBUSY, self.get(pin_user_pages, FOLL_WRITE | FOLL_LONGTERM) as number);
	// nothing of the failed call is left
	for (const p of before)
		EXPECT_EQ(1 + GUP_PIN_COUNTING_BIAS, folio_ref_count(page_folio(p)));
	unpin(before);
	EXPECT_TRUE(self.isIntact());
});

TEST_F(pins, 'coherent_page_stays_where_no_system_page_can_be_had', (self) => {
	self.migrate(HMM_COHERENCE_DEVICE_ONE);
	injectFaults().fail('alloc_pages', 1);
	EXPECT_EQ(-EBUSY, self.get(pin_user_pages, FOLL_WRITE | FOLL_LONGTERM) as number);
	EXPECT_TRUE(self.isIntact());
	EXPECT_TRUE(is_device_coherent_page(pageOfTask(self.process.task, self.buffer.ptr)));
});

TEST_F(pins, 'reader_of_a_page_that_is_shared_gets_one_of_its_own', (self) => {
	const { process, buffer } = self;
	const shared = pageOfTask(process.task, buffer.ptr);
	process.inChild((child) => {
		EXPECT_FALSE(PageAnonExclusive(shared));
		const got = self.all(get_user_pages, 0);
		EXPECT_TRUE(got[0] === shared);
		for (const p of got) run(put_page(p));
		const pinned = self.all(pin_user_pages_fast, 0);
		for (const p of pinned) EXPECT_TRUE(PageAnonExclusive(p));
		// what the child writes goes to another page now
		child.store(buffer.ptr, counting(INTS, 5));
		EXPECT_TRUE(self.isIntact());
		unpin(pinned);
	});
	EXPECT_TRUE(self.isIntact());
});

TEST_F(pins, 'pages_of_a_huge_page_are_got_one_by_one', (self) => {
	const aligned = alignedBuffer(self.process, TWOMEG);
	const { buffer } = aligned;
	EXPECT_EQ(0, self.process.madvise(buffer.ptr, TWOMEG, MADV_HUGEPAGE));
	self.process.store(buffer.ptr, counting(1));
	self.buffer = buffer;
	const pages = self.all(pin_user_pages_fast, FOLL_WRITE);
	for (const p of pages) EXPECT_TRUE(page_folio(p) === page_folio(pages[0]!));
	const f = page_folio(pages[0]!);
	EXPECT_EQ(1 + NPAGES, folio_ref_count(f));
	EXPECT_EQ(NPAGES, f._pincount);
	unpin(pages);
	freeAligned(aligned);
});

TEST_F(pins, 'driver_puts_back_what_it_got', (self) => {
	const { process, buffer } = self;
	const size = BigInt(NPAGES * PAGE);
	const commands = [
		GUP_FAST_BENCHMARK,
		PIN_FAST_BENCHMARK,
		PIN_LONGTERM_BENCHMARK,
		GUP_BASIC_TEST,
		PIN_BASIC_TEST,
	];
	for (const command of commands)
		for (const nr_pages_per_call of [1n, 3n, 4n]) {
			const gup = new gup_test({
				addr: buffer.ptr,
				size,
				nr_pages_per_call,
				gup_flags: FOLL_WRITE,
			});
			EXPECT_EQ(0, run(gup_test_ioctl(command, gup), { task: process.task }));
			EXPECT_EQ(size, gup.size);
		}
	for (let i = 0; i < NPAGES; i++) EXPECT_EQ(1, refs(process.task, buffer, i));
	// a page that must not be written ends it
	process.mprotect(pageAt(buffer, 2), PAGE, PROT_READ);
	const gup = new gup_test({
		addr: buffer.ptr,
		size,
		nr_pages_per_call: 1n,
		gup_flags: FOLL_WRITE,
	});
	EXPECT_EQ(0, run(gup_test_ioctl(GUP_BASIC_TEST, gup), { task: process.task }));
	EXPECT_EQ(2n * BigInt(PAGE), gup.size);
	EXPECT_EQ(-EINVAL, run(gup_test_ioctl(99, gup), { task: process.task }));
	const wraps = new gup_test({ addr: (1n << 64n) - 4096n, size: 8192n });
	EXPECT_EQ(-EINVAL, run(gup_test_ioctl(GUP_BASIC_TEST, wraps), { task: process.task }));
});
