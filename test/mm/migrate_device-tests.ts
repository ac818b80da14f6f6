// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the words that setup, pages and finalize leave in `src`, what the page table holds then, and
 * that no byte, reference or lock is lost, whoever fails and whoever runs at the same time. Method:
 * a device whose pages hold one value each (mm_world.ts); every state of an entry once; every
 * failing step; then a process that counts in a page which is moved all the time.
 */
import type { Machine } from '../../arch/sim/machine.ts';
import {
	_PAGE_PSE,
	_PAGE_RW,
	_PAGE_SPECIAL,
	_PAGE_UFFD_WP,
} from '../../include/asm/pgtable_types.ts';
import { EINVAL } from '../../include/linux/errno.ts';
import { dev_pagemap, MEMORY_DEVICE_PCI_P2PDMA } from '../../include/linux/memremap.ts';
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	MIGRATE_PFN_VALID,
	MIGRATE_PFN_WRITE,
	MIGRATE_VMA_SELECT_COMPOUND,
	MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
	migrate_pfn_to_page,
	type migrate_vma,
} from '../../include/linux/migrate.ts';
import { PROT_READ, VM_HUGETLB, VM_IO, VM_UFFD_MISSING } from '../../include/linux/mm.ts';
import {
	MM_ANONPAGES,
	type page,
	page_folio,
	VM_FAULT_SIGBUS,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import {
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
} from '../../include/linux/mmu_notifier.ts';
import { page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_test_lru,
	is_device_private_page,
	PageAnonExclusive,
	PageLocked,
	PG_dirty,
	PG_locked,
	set_page_count,
} from '../../include/linux/page-flags.ts';
import {
	_PAGE_TABLE,
	PAGE_SHARED,
	pte_dirty,
	pte_pfn,
	pte_present,
	pte_write,
	pte_young,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import {
	make_hwpoison_entry,
	make_pte_marker_entry,
	make_readable_migration_entry,
	make_writable_device_private_entry,
	PTE_MARKER_POISONED,
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_is_migration,
	softleaf_is_migration_dirty,
	softleaf_is_migration_write,
	softleaf_is_migration_young,
	softleaf_to_page,
	softleaf_to_pmd,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import { PAGE_SIZE, PMD_SIZE } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { HarnessError } from '../../include/sim/report.ts';
import { type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { folio_unlock } from '../../mm/filemap.ts';
import { forkProcess } from '../../mm/fork.ts';
import { memremap_pages, memunmap_pages, zone_device_folio_init } from '../../mm/memremap.ts';
import {
	migrate_device_finalize,
	migrate_device_pages,
	migrate_device_pfns,
	migrate_device_range,
	migrate_vma_finalize,
	migrate_vma_pages,
	migrate_vma_setup,
} from '../../mm/migrate_device.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import { get_page, put_page } from '../../mm/swap.ts';
import {
	createProcess,
	exitProcess,
	loadUser64,
	mmapAnonymous,
	storeUser64,
	userMprotect,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_GT,
	EXPECT_NE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../kselftest_harness.ts';
import { expectList } from './bare_world.ts';
import {
	bootMm,
	dropPage,
	evict,
	fillDst,
	lockedRamPage,
	migration,
	pmdEntry,
	pteEntry,
	pteOf,
	SELECT_COHERENT,
	TestDevice,
	toDevice,
	valueOf,
	vmaAt,
} from './mm_world.ts';
import { RW } from './small_machine.ts';

const M = MIGRATE_PFN_MIGRATE;
const VALID = MIGRATE_PFN_VALID;
const W = MIGRATE_PFN_WRITE;
/** The flags of a word. */
const FLAGS = 0x3fn;

/** A process with eight pages, and a device. */
class Stage {
	machine: Machine = null as unknown as Machine;
	task: task_struct = null as unknown as task_struct;
	dev: TestDevice = null as unknown as TestDevice;
	/** First address of the eight pages. */
	at = 0n;

	profile: ProfileName = 'v7.3';

	setUp(profile: ProfileName, coherent = false): void {
		this.profile = profile;
		this.machine = bootMm(profile);
		this.task = createProcess('test');
		this.dev = new TestDevice(0x100000n, coherent);
		run(this.dev.probe());
		this.at = mmapAnonymous(this.task, 8n * PAGE_SIZE, RW);
	}

	tearDown(): void {
		exitProcess(this.task);
		run(this.dev.remove());
		EXPECT_EQ(16, this.dev.free.length);
	}

	address(i: number): bigint {
		return this.at + BigInt(i) * PAGE_SIZE;
	}
	vma(): vm_area_struct {
		return vmaAt(this.task, this.at);
	}
	pte(i: number): bigint {
		return pteOf(this.task, this.address(i));
	}
	/** The page that an entry maps or stands for. */
	page(i: number): page {
		const pte = this.pte(i);
		return pte_present(pte)
			? pfn_to_page(pte_pfn(pte))
			: softleaf_to_page(softleaf_from_pte(pte));
	}
	/** Give each of the first n pages the value 100 + i. */
	fill(n: number): void {
		for (let i = 0; i < n; i++)
			ASSERT_EQ(null, userWrite64(this.task, this.address(i), BigInt(100 + i)));
	}
	args(first: number, end: number, flags?: bigint): migrate_vma {
		return migration(
			this.dev,
			this.vma(),
			this.address(first),
			this.address(end),
			flags,
		);
	}
	*setup(args: migrate_vma): Sim<number> {
		yield* mmap_read_lock(this.task.mm!);
		const ret = yield* migrate_vma_setup(args);
		yield* mmap_read_unlock(this.task.mm!);
		return ret;
	}
	*finish(args: migrate_vma): Sim<void> {
		yield* mmap_read_lock(this.task.mm!);
		yield* migrate_vma_pages(args);
		yield* migrate_vma_finalize(args);
		yield* mmap_read_unlock(this.task.mm!);
	}
	/** State of an entry in one word. */
	state(i: number): string {
		const pte = this.pte(i);
		if (pte === 0n) return 'none';
		if (pte_present(pte)) return pte_write(pte) ? 'rw' : 'r';
		const entry = softleaf_from_pte(pte);
		if (softleaf_is_device_private(entry))
			return softleaf_is_device_private_write(entry) ? 'Dw' : 'Dr';
		if (softleaf_is_migration(entry))
			return softleaf_is_migration_write(entry) ? 'Mw' : 'Mr';
		return 'other';
	}
	states(n: number): string[] {
		return Array.from({ length: n }, (_, i) => this.state(i));
	}
}

const migrate = FIXTURE(
	'migrate_device',
	() => new Stage(),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(migrate, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(migrate, 'v7_3', { profile: 'v7.3' });
FIXTURE_SETUP(migrate, (self, { profile }) => self.setUp(profile));
FIXTURE_TEARDOWN(migrate, (self) => self.tearDown());

TEST_F(migrate, 'pages_go_to_the_device_and_back_with_their_bytes', (s) => {
	s.fill(3);
	const ram = [s.page(0), s.page(1), s.page(2)];
	EXPECT_EQ(3, run(toDevice(s.dev, s.task.mm!, s.at, 3)));
	expectList(['Dw', 'Dw', 'Dw', 'none'], s.states(4));
	for (let i = 0; i < 3; i++) {
		const p = s.page(i);
		EXPECT_TRUE(is_device_private_page(p));
		expectList(
			[1, 1, true, false],
			[p._refcount, p._mapcount + 1, PageAnonExclusive(p), PageLocked(p)],
		);
		EXPECT_EQ(0, ram[i]!._refcount);
		EXPECT_EQ(BigInt(100 + i), valueOf(p));
	}
	EXPECT_EQ(3, s.task.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_EQ(101n, userRead64(s.task, s.address(1)));
	expectList(['Dw', 'rw', 'Dw'], s.states(3));
	EXPECT_EQ(null, userWrite64(s.task, s.address(0), 7n));
	EXPECT_EQ(7n, userRead64(s.task, s.address(0)));
	EXPECT_EQ(2, s.dev.faults);
	EXPECT_EQ(3, s.task.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_TRUE(folio_test_lru(page_folio(s.page(0))));
	EXPECT_EQ(1, s.page(0)._refcount);
});

TEST_F(migrate, 'setup_words_say_what_is_there', function* (s) {
	const { task } = s;
	s.fill(2);
	EXPECT_EQ(0, userMprotect(task, s.address(1), PAGE_SIZE, PROT_READ));
	EXPECT_EQ(0, userMprotect(task, s.address(1), PAGE_SIZE, RW));
	EXPECT_EQ(0n, userRead64(task, s.address(2)));
	EXPECT_EQ(null, userWrite64(task, s.address(4), 1n));
	EXPECT_EQ(1, yield* toDevice(s.dev, task.mm!, s.address(4), 1));
	const ram0 = page_to_pfn(s.page(0));
	const args = s.args(0, 6);
	EXPECT_EQ(0, yield* s.setup(args));
	// present, present, zero page, hole, private (SYSTEM only selected), hole
	EXPECT_EQ(migrate_pfn(ram0) | M | W, args.src[0]);
	EXPECT_EQ(VALID | M, args.src[1]! & (FLAGS & ~W));
	expectList([M, M, 0n, M], [...args.src.subarray(2, 6)]);
	expectList([0n, 0n, 0n, 0n, 0n, 0n], [...args.dst]);
	EXPECT_EQ(5n, args.cpages);
	EXPECT_EQ(6n, args.npages);
	expectList(['Mw', 'Dw'], [s.state(0), s.state(4)]);
	EXPECT_TRUE(PageLocked(migrate_pfn_to_page(args.src[0]!) as page));
	// Nothing is given: everything goes back as it was.
	yield* s.finish(args);
	EXPECT_EQ(0n, args.src[0]! & M);
	expectList(['rw', 'none', 'Dw', 'none'], [s.state(0), s.state(3), s.state(4), s.state(5)]);
	EXPECT_EQ(100n, userRead64(task, s.at));
});

TEST_F(migrate, 'a_read_only_page_stays_read_only_on_the_device', function* (s) {
	s.fill(1);
	EXPECT_EQ(0, userMprotect(s.task, s.at, PAGE_SIZE, PROT_READ));
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	EXPECT_EQ('Dr', s.state(0));
	EXPECT_EQ(100n, userRead64(s.task, s.at));
	EXPECT_EQ('r', s.state(0));
});

TEST_F(migrate, 'holes_and_zero_pages_become_device_pages_writable_by_the_vma', function* (s) {
	EXPECT_EQ(0n, userRead64(s.task, s.at));
	EXPECT_EQ(2, yield* toDevice(s.dev, s.task.mm!, s.at, 2));
	expectList(['Dw', 'Dw'], s.states(2));
	EXPECT_EQ(2, s.task.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_EQ(1, s.page(0)._refcount);
	EXPECT_EQ(0n, userRead64(s.task, s.address(1)));
	EXPECT_EQ(0, userMprotect(s.task, s.address(4), 4n * PAGE_SIZE, PROT_READ));
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.address(4), 1));
	EXPECT_EQ('Dr', s.state(4));
});

TEST_F(migrate, 'system_pages_fill_holes_as_well', function* (s) {
	const args = s.args(0, 1);
	EXPECT_EQ(0, yield* s.setup(args));
	yield* fillDst(args.src, args.dst, 1, lockedRamPage);
	yield* s.finish(args);
	EXPECT_EQ('rw', s.state(0));
	EXPECT_TRUE(folio_test_lru(page_folio(s.page(0))));
	EXPECT_EQ(1, s.page(0)._refcount);
});

TEST_F(migrate, 'a_pinned_page_goes_back', function* (s) {
	s.fill(2);
	const pinned = s.page(0);
	get_page(pinned);
	const args = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(args));
	EXPECT_EQ(0n, args.src[0]);
	EXPECT_EQ(1n, args.cpages);
	expectList(['rw', 'Mw'], s.states(2));
	expectList(
		[2, false, true],
		[pinned._refcount, PageLocked(pinned), folio_test_lru(page_folio(pinned))],
	);
	yield* fillDst(args.src, args.dst, 2, () => s.dev.alloc());
	yield* s.finish(args);
	expectList(['rw', 'Dw'], s.states(2));
	yield* put_page(pinned);
});

TEST_F(migrate, 'a_locked_page_is_passed_by', function* (s) {
	s.fill(1);
	s.page(0).flags |= PG_locked;
	EXPECT_EQ(0, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	EXPECT_EQ('rw', s.state(0));
	EXPECT_EQ(1, s.page(0)._refcount);
	yield* folio_unlock(page_folio(s.page(0)));
});

TEST_F(migrate, 'a_page_off_the_lru_goes_back', function* (s) {
	s.fill(1);
	const f = page_folio(s.page(0));
	const { flags } = f;
	f.flags = flags & ~(flags & 0x10);
	EXPECT_EQ(0, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	EXPECT_EQ('rw', s.state(0));
	f.flags = flags;
});

TEST_F(migrate, 'only_the_owner_takes_private_pages', function* (s) {
	s.fill(1);
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	const other = new TestDevice(0x200000n);
	const flags = MIGRATE_VMA_SELECT_DEVICE_PRIVATE | MIGRATE_VMA_SELECT_SYSTEM;
	const theirs = migration(other, s.vma(), s.at, s.address(1), flags);
	EXPECT_EQ(0, yield* s.setup(theirs));
	EXPECT_EQ(0n, theirs.src[0]);
	const ours = s.args(0, 1, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
	EXPECT_EQ(0, yield* s.setup(ours));
	EXPECT_EQ(VALID | M | W, ours.src[0]! & FLAGS);
	yield* s.finish(ours);
	EXPECT_EQ('Dw', s.state(0));
});

TEST_F(migrate, 'system_pages_are_left_when_not_selected', function* (s) {
	s.fill(1);
	EXPECT_EQ(0n, userRead64(s.task, s.address(1)));
	const args = s.args(0, 3, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
	EXPECT_EQ(0, yield* s.setup(args));
	// The zero page is no candidate then; a hole always is.
	expectList([0n, 0n, M], [...args.src]);
	yield* s.finish(args);
});

TEST_F(migrate, 'coherent_pages_need_their_flag_and_owner', function* (s) {
	const dev = new TestDevice(0x200000n, true);
	yield* dev.probe();
	s.fill(1);
	EXPECT_EQ(1, yield* toDevice(dev, s.task.mm!, s.at, 1));
	EXPECT_EQ('rw', s.state(0));
	EXPECT_EQ(dev.base, pte_pfn(s.pte(0)));
	for (const [who, flags] of [
		[dev, MIGRATE_VMA_SELECT_SYSTEM],
		[s.dev, SELECT_COHERENT],
	] as const) {
		const args = migration(who, s.vma(), s.at, s.address(1), flags);
		EXPECT_EQ(0, yield* s.setup(args));
		EXPECT_EQ(0n, args.src[0]);
	}
	const args = migration(dev, s.vma(), s.at, s.address(2), SELECT_COHERENT);
	EXPECT_EQ(0, yield* s.setup(args));
	EXPECT_EQ(VALID | M | W, args.src[0]! & FLAGS);
	yield* fillDst(args.src, args.dst, 2, lockedRamPage);
	yield* s.finish(args);
	expectList(['rw', 'rw'], s.states(2));
	// A hole takes a coherent page too.
	EXPECT_EQ(1, yield* toDevice(dev, s.task.mm!, s.address(2), 1));
	EXPECT_EQ('rw', s.state(2));
	exitProcess(s.task);
	s.task = createProcess('next');
	yield* dev.remove();
});

TEST_F(migrate, 'setup_refuses_what_it_cannot_migrate', function* (s, { profile }) {
	s.fill(1);
	const cases: [string, (a: migrate_vma) => void][] = [
		['no VMA', (a) => (a.vma = null)],
		['hugetlb', (a) => (a.vma!.vm_flags |= VM_HUGETLB)],
		['special', (a) => (a.vma!.vm_flags |= VM_IO)],
		['empty', (a) => (a.end = a.start)],
		['part of a page', (a) => (a.end = a.start + 1n)],
		['backwards', (a) => (a.end = a.start - PAGE_SIZE)],
		['before the VMA', (a) => (a.start -= PAGE_SIZE)],
		['behind the VMA', (a) => (a.start = s.address(8))],
		['past the end', (a) => (a.end = s.address(9))],
		['no src', (a) => (a.src = null as unknown as BigUint64Array)],
		['no dst', (a) => (a.dst = null as unknown as BigUint64Array)],
		['fault page of RAM', (a) => (a.fault_page = s.page(0))],
	];
	for (const [, spoil] of cases) {
		const args = s.args(0, 1);
		const { vm_flags } = args.vma!;
		const { vma } = args;
		spoil(args);
		EXPECT_EQ(-EINVAL, yield* s.setup(args));
		vma!.vm_flags = vm_flags;
	}
	EXPECT_EQ('rw', s.state(0));
	const args = s.args(0, 2);
	args.src = new BigUint64Array(1);
	let thrown: unknown = null;
	try {
		yield* migrate_vma_setup(args);
	} catch (error) {
		thrown = error;
	}
	EXPECT_TRUE(thrown instanceof HarnessError);
	// The fault page: v7.3 wants it locked, v6.12 does not ask.
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	const fault = s.args(0, 1, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
	fault.fault_page = s.page(0);
	const ret = yield* s.setup(fault);
	EXPECT_EQ(profile === 'v7.3' ? -EINVAL : 0, ret);
	if (ret === 0) yield* s.finish(fault);
});

TEST_F(
	migrate,
	'a_locked_fault_page_is_taken_in_7_3_and_passed_by_in_6_12',
	function* (s, { profile }) {
		s.fill(1);
		EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
		const p = s.page(0);
		get_page(p);
		p.flags |= PG_locked;
		const args = s.args(0, 1, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
		args.fault_page = p;
		EXPECT_EQ(0, yield* s.setup(args));
		EXPECT_EQ(profile === 'v7.3' ? VALID | M | W : 0n, args.src[0]! & FLAGS);
		yield* fillDst(args.src, args.dst, 1, lockedRamPage);
		yield* s.finish(args);
		EXPECT_EQ(profile === 'v7.3' ? 'rw' : 'Dw', s.state(0));
		// The lock is the caller's in both.
		EXPECT_TRUE(PageLocked(p));
		yield* dropPage(p);
	},
);

TEST_F(migrate, 'every_hole_insertion_may_fail', function* (s) {
	const far = mmapAnonymous(s.task, PAGE_SIZE, RW);
	s.fill(1);
	const vma = s.vma();
	const failures: [string, () => void, () => void][] = [
		['charge', () => injectFaults().fail('mem_cgroup_charge'), () => injectFaults()],
		[
			'userfaultfd',
			() => (vma.vm_flags |= VM_UFFD_MISSING),
			() => (vma.vm_flags &= ~VM_UFFD_MISSING),
		],
		[
			'unstable',
			() => (s.task.mm!.flags_unstable = true),
			() => (s.task.mm!.flags_unstable = false),
		],
	];
	for (const [, spoil, undo] of failures) {
		const args = s.args(1, 2);
		EXPECT_EQ(0, yield* s.setup(args));
		yield* fillDst(args.src, args.dst, 1, () => s.dev.alloc());
		spoil();
		yield* s.finish(args);
		undo();
		expectList([0n, 'none', 16], [args.src[0], s.state(1), s.dev.free.length]);
	}
	EXPECT_NE(0n, far);
});

TEST_F(migrate, 'a_hole_that_was_filled_meanwhile_is_left', function* (s) {
	const args = s.args(0, 2);
	EXPECT_EQ(0n, userRead64(s.task, s.at));
	EXPECT_EQ(0, yield* s.setup(args));
	yield* fillDst(args.src, args.dst, 2, () => s.dev.alloc());
	EXPECT_EQ(null, userWrite64(s.task, s.at, 5n));
	yield* s.finish(args);
	expectList(['rw', 'Dw'], s.states(2));
	expectList([0n, M], [...args.src]);
	EXPECT_EQ(5n, userRead64(s.task, s.at));
});

TEST_F(migrate, 'p2p_memory_is_no_destination', function* (s) {
	const pgmap = new dev_pagemap({
		type: MEMORY_DEVICE_PCI_P2PDMA,
		ops: { *folio_free() {}, *page_free() {} },
		ranges: [{ start: 0x200000n << 12n, end: (0x200200n << 12n) - 1n }],
		nr_range: 1,
	});
	yield* memremap_pages(pgmap, 0);
	s.fill(1);
	const args = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(args));
	for (let i = 0; i < 2; i++) {
		const p = pfn_to_page(0x200000n + BigInt(i));
		set_page_count(p, 1);
		p.flags |= PG_locked;
		args.dst[i] = migrate_pfn(page_to_pfn(p));
	}
	yield* s.finish(args);
	expectList(['rw', 'none'], s.states(2));
	EXPECT_TRUE(world().log.includes('Unsupported ZONE_DEVICE page type.'));
	yield* memunmap_pages(pgmap);
});

TEST_F(migrate, 'a_destination_that_lost_is_unlocked_and_freed', function* (s) {
	s.fill(1);
	const args = s.args(0, 1);
	EXPECT_EQ(0, yield* s.setup(args));
	yield* fillDst(args.src, args.dst, 1, () => s.dev.alloc());
	// Somebody takes a reference between setup and pages.
	const ram = migrate_pfn_to_page(args.src[0]!) as page;
	get_page(ram);
	yield* s.finish(args);
	expectList([VALID | W, 'rw', 16], [args.src[0]! & FLAGS, s.state(0), s.dev.free.length]);
	yield* put_page(ram);
});

TEST_F(migrate, 'notifiers_hear_collect_and_the_first_hole', function* (s) {
	const heard: string[] = [];
	const lock = new mutex('mirror->lock');
	const ops: mmu_interval_notifier_ops = {
		*invalidate(sub, range, cur_seq) {
			const page = (a: bigint): bigint => (a - s.at) >> 12n;
			heard.push(
				`${range.event} ${page(range.start)}-${page(range.end)} ${range.owner === s.dev}`,
			);
			yield* mutex_lock(lock);
			mmu_interval_set_seq(sub, cur_seq);
			yield* mutex_unlock(lock);
			return true;
		},
	};
	const sub = new mmu_interval_notifier();
	s.fill(2);
	EXPECT_EQ(null, userWrite64(s.task, s.address(3), 3n));
	yield* mmu_interval_notifier_insert(sub, s.task.mm!, s.at, 8n * PAGE_SIZE, ops);
	EXPECT_EQ(5, yield* toDevice(s.dev, s.task.mm!, s.at, 5));
	expectList(['6 0-5 true', '6 2-5 true'], heard);
	heard.length = 0;
	EXPECT_EQ(100n, userRead64(s.task, s.at));
	expectList(['6 0-1 true'], heard);
	yield* mmu_interval_notifier_remove(sub);
});

TEST_F(migrate, 'eviction_takes_every_page_in_use', function* (s) {
	s.fill(3);
	EXPECT_EQ(3, yield* toDevice(s.dev, s.task.mm!, s.at, 3));
	const busy = s.page(1);
	busy.flags |= PG_locked;
	EXPECT_EQ(2, yield* evict(s.dev));
	expectList(['rw', 'Dw', 'rw'], s.states(3));
	yield* folio_unlock(page_folio(busy));
	EXPECT_EQ(1, yield* evict(s.dev));
	EXPECT_EQ(0, yield* evict(s.dev));
	expectList(['rw', 'rw', 'rw'], s.states(3));
	for (let i = 0; i < 3; i++) EXPECT_EQ(BigInt(100 + i), userRead64(s.task, s.address(i)));
	EXPECT_EQ(0, s.dev.faults);
});

TEST_F(migrate, 'range_words_are_zero_for_free_and_locked_pages', function* (s) {
	s.fill(1);
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	const pfn = page_to_pfn(s.page(0)) as bigint;
	const src = new BigUint64Array(2).fill(~0n);
	EXPECT_EQ(0, yield* migrate_device_range(src, pfn, 2n));
	expectList([migrate_pfn(pfn) | M, 0n], [...src]);
	EXPECT_EQ('Mw', s.state(0));
	const again = new BigUint64Array([pfn + 1n, pfn]);
	EXPECT_EQ(0, yield* migrate_device_pfns(again, 2n));
	expectList([0n, 0n], [...again]);
	// No destination: it stays on the device.
	const dst = new BigUint64Array(2);
	yield* migrate_device_pages(src, dst, 2n);
	yield* migrate_device_finalize(src, dst, 2n);
	EXPECT_EQ('Dw', s.state(0));
	EXPECT_EQ(1, s.page(0)._refcount);
});

TEST_F(migrate, 'a_failing_driver_gives_the_process_a_signal_and_keeps_the_data', function* (s) {
	s.fill(1);
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	s.dev.failure = VM_FAULT_SIGBUS;
	EXPECT_NE('bigint', typeof userRead64(s.task, s.at));
	EXPECT_EQ('Dw', s.state(0));
	s.dev.failure = 0;
	EXPECT_EQ(100n, userRead64(s.task, s.at));
});

TEST_F(migrate, 'a_full_device_leaves_the_rest', function* (s) {
	s.fill(4);
	s.dev.free.splice(0, 14);
	EXPECT_EQ(2, yield* toDevice(s.dev, s.task.mm!, s.at, 4));
	expectList(['Dw', 'Dw', 'rw', 'rw'], s.states(4));
	exitProcess(s.task);
	s.task = createProcess('next');
	for (let i = 0n; i < 14n; i++) s.dev.free.push(pfn_to_page(s.dev.base + 2n + i));
});

TEST_F(migrate, 'a_page_pinned_for_dma_is_not_even_unmapped', function* (s) {
	s.fill(1);
	const p = s.page(0);
	set_page_count(p, 1 + 1024);
	const args = s.args(0, 1);
	EXPECT_EQ(0, yield* s.setup(args));
	expectList([0n, 0n, 'rw', 1025], [args.src[0], args.cpages, s.state(0), p._refcount]);
	expectList([true, false], [PageAnonExclusive(p), PageLocked(p)]);
	set_page_count(p, 1);
});

TEST_F(migrate, 'the_uffd_bit_goes_along', function* (s) {
	s.fill(1);
	const entry = pteEntry(s.task, s.at)!;
	entry.value |= _PAGE_UFFD_WP;
	entry.value &= ~_PAGE_RW;
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	expectList(['Dr', true], [s.state(0), pte_swp_uffd_wp(s.pte(0))]);
	const args = s.args(0, 1, MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
	EXPECT_EQ(0, yield* s.setup(args));
	EXPECT_TRUE(pte_swp_uffd_wp(s.pte(0)));
	yield* s.finish(args);
	EXPECT_TRUE(pte_swp_uffd_wp(s.pte(0)));
});

TEST_F(migrate, 'a_hole_stays_where_a_table_or_the_anon_vma_cannot_be_made', function* (s) {
	for (const site of ['alloc_pages', 'anon_vma_chain_alloc'] as const) {
		const args = s.args(0, 1);
		EXPECT_EQ(0, yield* s.setup(args));
		yield* fillDst(args.src, args.dst, 1, () => s.dev.alloc());
		injectFaults().fail(site);
		yield* s.finish(args);
		injectFaults();
		expectList([0n, 'none', 16], [args.src[0], s.state(0), s.dev.free.length]);
	}
});

TEST_F(migrate, 'a_file_mapping_has_no_holes', function* (s) {
	const vma = s.vma();
	vma.vm_ops = {};
	const args = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(args));
	expectList([0n, 0n, 0n, 2n], [...args.src, args.cpages, args.npages]);
	s.dev.free.length = 0;
	vma.vm_ops = null;
	s.fill(1);
	vma.vm_ops = {};
	const again = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(again));
	expectList([VALID | M | W, 0n], [again.src[0]! & FLAGS, again.src[1]]);
	yield* s.finish(again);
	vma.vm_ops = null;
	for (let i = 0n; i < 16n; i++) s.dev.free.push(pfn_to_page(s.dev.base + i));
});

TEST_F(migrate, 'other_entries_are_left_alone', function* (s) {
	s.fill(2);
	const entry = pteEntry(s.task, s.at)!;
	const { value } = entry;
	expectReport('Bad page map');
	for (const other of [
		swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_POISONED)),
		swp_entry_to_pte(make_hwpoison_entry(0x500n)),
		// a special entry where the VMA has none: reported, and no page
		0x900_0000_0000n | _PAGE_SPECIAL | PAGE_SHARED,
	]) {
		entry.value = other;
		const args = s.args(0, 1);
		EXPECT_EQ(0, yield* s.setup(args));
		EXPECT_EQ(0n, args.src[0]);
		EXPECT_EQ(other, entry.value);
	}
	entry.value = value;
	// A page that is mapped without rmap.
	const p = s.page(1);
	const { mapping } = p;
	p.mapping = null;
	EXPECT_EQ(0, yield* toDevice(s.dev, s.task.mm!, s.address(1), 1));
	p.mapping = mapping;
});

TEST_F(migrate, 'a_large_folio_that_cannot_be_split_stays', function* (s, { profile }) {
	s.fill(4);
	const p = s.page(2);
	p.compound = (1 << 1) | 1;
	const args = s.args(0, 4);
	EXPECT_EQ(0, yield* s.setup(args));
	// v6.12 passes by that page only, v7.3 gives the rest of the table up.
	expectList(['Mw', 'Mw', 'rw', profile === 'v7.3' ? 'rw' : 'Mw'], s.states(4));
	expectList([0n, 4n], [args.src[2], args.npages]);
	p.compound = 0;
	yield* s.finish(args);
	expectList(['rw', 'rw', 'rw', 'rw'], s.states(4));
	const first = s.args(2, 4);
	p.compound = (1 << 1) | 1;
	EXPECT_EQ(0, yield* s.setup(first));
	EXPECT_EQ(0n, first.src[0]);
	p.compound = 0;
	yield* s.finish(first);
});

TEST_F(migrate, 'a_huge_entry_that_is_not_selected_stays', function* (s) {
	s.fill(1);
	const entry = pmdEntry(s.task, s.at);
	const { value } = entry;
	const present = _PAGE_TABLE | _PAGE_PSE | 0x400_0000n;
	const isPrivate = softleaf_to_pmd(make_writable_device_private_entry(0x100000n));
	const migrating = softleaf_to_pmd(make_readable_migration_entry(0x100000n));
	const cases: [bigint, bigint][] = [[migrating, MIGRATE_VMA_SELECT_SYSTEM]];
	if (s.profile === 'v7.3')
		cases.push(
			[present, MIGRATE_VMA_SELECT_DEVICE_PRIVATE],
			[isPrivate, MIGRATE_VMA_SELECT_SYSTEM],
		);
	for (const [pmd, flags] of cases) {
		entry.value = pmd;
		const args = s.args(0, 2, flags);
		EXPECT_EQ(0, yield* s.setup(args));
		expectList([0n, 0n, 2n], [...args.src, args.npages]);
		EXPECT_EQ(pmd, entry.value);
	}
	entry.value = value;
});

TEST_F(migrate, 'a_range_meets_large_device_folios', function* (s, { profile }) {
	if (profile === 'v6.12') {
		// There are none: their pages would be 6.12's tails.
		const src = new BigUint64Array(1);
		s.dev.free[0]!.compound = -1;
		EXPECT_EQ(
			0,
			yield* migrate_device_range(src, page_to_pfn(s.dev.free[0]!) as bigint, 1n),
		);
		EXPECT_EQ(0n, src[0]);
		s.dev.free[0]!.compound = 0;
		return;
	}
	const head = pfn_to_page(s.dev.base);
	yield* zone_device_folio_init(page_folio(head), s.dev.pgmap, 2);
	const C = MIGRATE_PFN_COMPOUND;
	const locked = new BigUint64Array(6).fill(7n);
	EXPECT_EQ(0, yield* migrate_device_range(locked, s.dev.base, 6n));
	expectList([C, 0n, 0n, 0n, 0n, 0n], [...locked]);
	yield* folio_unlock(page_folio(head));
	// A folio that reaches past the end.
	const src = new BigUint64Array(2).fill(7n);
	const dst = new BigUint64Array(2);
	EXPECT_EQ(0, yield* migrate_device_range(src, s.dev.base, 2n));
	expectList([migrate_pfn(s.dev.base) | M | C, 0n], [...src]);
	dst[0] = migrate_pfn(page_to_pfn((yield* lockedRamPage())!));
	yield* migrate_device_pages(src, dst, 2n);
	// Without a VMA it cannot be split.
	EXPECT_EQ(migrate_pfn(s.dev.base), src[0]);
	yield* migrate_device_finalize(src, dst, 2n);
	EXPECT_EQ(1, head._refcount);
	yield* put_page(head);
	s.dev.free = s.dev.free.filter((p) => p !== head);
	s.dev.free.push(head);
});

TEST_F(migrate, 'finalize_without_pages_leaves_migration_entries', function* (s) {
	s.fill(1);
	const args = s.args(0, 1);
	EXPECT_EQ(0, yield* s.setup(args));
	yield* fillDst(args.src, args.dst, 1, () => s.dev.alloc());
	// The destination has no rmap yet, so nothing finds the entry: what a booted v7.3.4 does too.
	yield* migrate_vma_finalize(args);
	expectList(['Mw', 16], [s.state(0), s.dev.free.length]);
	expectReport('Bad rss-counter state type:MM_ANONPAGES val:1');
	expectReport('Bad rss-counter state type:MM_FILEPAGES val:-1');
	exitProcess(s.task);
	s.task = createProcess('next');
});

TEST_F(migrate, 'a_page_shared_by_fork_moves_in_both_processes', function* (s) {
	s.fill(1);
	const child = forkProcess(s.task) as task_struct;
	const heard: number[] = [];
	const lock = new mutex('mirror->lock');
	const sub = new mmu_interval_notifier();
	yield* mmu_interval_notifier_insert(sub, child.mm!, s.at, PAGE_SIZE, {
		*invalidate(notifier, range, cur_seq) {
			heard.push(range.event);
			yield* mutex_lock(lock);
			mmu_interval_set_seq(notifier, cur_seq);
			yield* mutex_unlock(lock);
			return true;
		},
	});
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	expectList(['Dr'], s.states(1));
	expectList([2, 2], [s.page(0)._refcount, s.page(0)._mapcount + 1]);
	EXPECT_EQ(s.pte(0), pteOf(child, s.at));
	// The child is told by the rmap walk, of a CLEAR; its own fault is a MIGRATE.
	expectList([1], heard);
	EXPECT_EQ(100n, userRead64(child, s.at));
	expectList([1, 6], heard);
	EXPECT_EQ('r', s.state(0));
	EXPECT_EQ(s.pte(0) & ~0x60n, pteOf(child, s.at) & ~0x60n);
	EXPECT_EQ(1, s.dev.faults);
	EXPECT_EQ(null, userWrite64(s.task, s.at, 5n));
	EXPECT_EQ(100n, userRead64(child, s.at));
	EXPECT_EQ(5n, userRead64(s.task, s.at));
	yield* mmu_interval_notifier_remove(sub);
	exitProcess(child);
});

TEST_F(migrate, 'file_pages_do_not_go_to_a_device', function* (s) {
	const at = mmapAnonymous(s.task, 2n * PAGE_SIZE, RW, true);
	EXPECT_EQ(null, userWrite64(s.task, at, 9n));
	EXPECT_EQ(0, yield* toDevice(s.dev, s.task.mm!, at, 2));
	EXPECT_EQ(16, s.dev.free.length);
	const before = pte_pfn(pteOf(s.task, at));
	const args = migration(s.dev, vmaAt(s.task, at), at, at + 2n * PAGE_SIZE);
	EXPECT_EQ(0, yield* s.setup(args));
	// A hole of a file is not filled.
	expectList([VALID | M | W, 0n], [args.src[0]! & FLAGS, args.src[1]]);
	yield* s.finish(args);
	EXPECT_EQ(before, pte_pfn(pteOf(s.task, at)));
	EXPECT_EQ(9n, userRead64(s.task, at));
});

TEST_F(migrate, 'no_cpu_keeps_a_translation_that_collecting_took_away', function* (s) {
	s.fill(2);
	const child = forkProcess(s.task) as task_struct;
	// Both processes have the pages in the TLB of their CPU, shared and read-only.
	for (const task of [s.task, child])
		for (let i = 0; i < 2; i++)
			EXPECT_EQ(BigInt(100 + i), userRead64(task, s.address(i)));
	EXPECT_EQ(2, yield* toDevice(s.dev, s.task.mm!, s.at, 2));
	EXPECT_EQ(100n, userRead64(s.task, s.address(0)));
	EXPECT_EQ(1, s.dev.faults);
	EXPECT_EQ(101n, userRead64(child, s.address(1)));
	EXPECT_EQ(2, s.dev.faults);
	exitProcess(child);
});

TEST_F(migrate, 'a_failed_split_flushes_what_was_collected_before_it', function* (s) {
	s.fill(3);
	// Collected after fork, the entries are cleared without a flush of their own.
	const child = forkProcess(s.task) as task_struct;
	EXPECT_EQ(100n, userRead64(s.task, s.address(0)));
	const p = s.page(2);
	p.compound = (1 << 1) | 1;
	const args = s.args(0, 3);
	EXPECT_EQ(0, yield* s.setup(args));
	const vpn = Number(s.address(0) >> 12n);
	for (const { tlb } of (world().machine as Machine).cpus)
		EXPECT_EQ(null, tlb.lookup(s.task.mm!.pgd, vpn));
	p.compound = 0;
	yield* s.finish(args);
	exitProcess(child);
});

TEST_F(migrate, 'young_and_dirty_go_along', function* (s) {
	s.fill(1);
	const f = page_folio(s.page(0));
	f.flags &= ~PG_dirty;
	const args = s.args(0, 1);
	EXPECT_EQ(0, yield* s.setup(args));
	const entry = softleaf_from_pte(s.pte(0));
	expectList(
		[true, true, PG_dirty],
		[
			softleaf_is_migration_young(entry),
			softleaf_is_migration_dirty(entry),
			f.flags & PG_dirty,
		],
	);
	yield* s.finish(args);
	expectList([true, true], [pte_young(s.pte(0)), pte_dirty(s.pte(0))]);
});

TEST('an_aligned_hole_is_one_compound_word', function* () {
	const s = new Stage();
	s.setUp('v7.3');
	const big = mmapAnonymous(s.task, 2n * PMD_SIZE, RW);
	const start = (big + PMD_SIZE - 1n) & ~(PMD_SIZE - 1n);
	// A neighbour in the same table, so that the hole is that of one pmd.
	EXPECT_EQ(
		null,
		userWrite64(s.task, start === big ? start + PMD_SIZE : start - PAGE_SIZE, 1n),
	);
	const vma = vmaAt(s.task, start);
	const flags = MIGRATE_VMA_SELECT_SYSTEM | MIGRATE_VMA_SELECT_COMPOUND;
	const args = migration(s.dev, vma, start, start + PMD_SIZE, flags);
	EXPECT_EQ(0, yield* s.setup(args));
	EXPECT_EQ(M | MIGRATE_PFN_COMPOUND, args.src[0]);
	EXPECT_TRUE(args.src.subarray(1).every((word) => word === 0n));
	expectList([1n, 512n], [args.cpages, args.npages]);
	// Small destinations: the compound word falls apart.
	for (let i = 0; i < 3; i++) {
		const p = (yield* s.dev.alloc()) as page;
		s.dev.memory.set(page_to_pfn(p), 0n);
		args.dst[i] = migrate_pfn(page_to_pfn(p));
	}
	yield* s.finish(args);
	expectList([M, M, M, 0n], [...args.src.subarray(0, 4)]);
	EXPECT_EQ(0n, userRead64(s.task, start + PAGE_SIZE));
	EXPECT_EQ(1, s.dev.faults);
	s.tearDown();
});

TEST('a_compound_destination_is_not_mapped_yet', function* () {
	const s = new Stage();
	s.setUp('v7.3');
	s.fill(1);
	const args = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(args));
	for (let i = 0; i < 2; i++) {
		const p = (yield* s.dev.alloc()) as page;
		args.dst[i] = migrate_pfn(page_to_pfn(p)) | MIGRATE_PFN_COMPOUND;
	}
	yield* s.finish(args);
	expectList(['rw', 'none'], s.states(2));
	s.tearDown();
});

TEST('a_word_without_page_needs_a_vma', function* () {
	const s = new Stage();
	s.setUp('v7.3');
	const p = (yield* s.dev.alloc()) as page;
	expectReport('a word without page needs a VMA');
	yield* migrate_device_pages(
		new BigUint64Array([M]),
		new BigUint64Array([migrate_pfn(page_to_pfn(p))]),
		1n,
	);
});

/** A process counts in one page while others move it. */
function counting(seed: number, profile: ProfileName): { faults: number; moved: number } {
	const s = new Stage();
	s.setUp(profile);
	s.fill(1);
	const child = forkProcess(s.task) as task_struct;
	let done = 0;
	let moved = 0;
	const rounds = 6;
	for (let i = 0; i < 2; i++)
		spawn(
			`counter/${i}`,
			function* () {
				for (let n = 0; n < rounds; n++) {
					const place = s.address(i);
					const seen = yield* loadUser64(place);
					ASSERT_EQ('bigint', typeof seen);
					ASSERT_EQ(
						null,
						yield* storeUser64(place, (seen as bigint) + 1n),
					);
				}
				done++;
			},
			{ mm: s.task.mm, cpu: i },
		);
	spawn('mover', function* () {
		while (done < 2) {
			moved += yield* toDevice(s.dev, s.task.mm!, s.at, 2);
			yield schedulePoint('yield', s);
		}
	});
	spawn(
		'child',
		function* () {
			for (let n = 0; n < rounds; n++) ASSERT_EQ(100n, yield* loadUser64(s.at));
		},
		{ mm: child.mm, cpu: 1 },
	);
	spawn('evictor', function* () {
		while (done < 2) {
			yield* evict(s.dev);
			yield schedulePoint('yield', s);
		}
	});
	runThreads(randomStrategy(seed));
	ASSERT_EQ(100n + BigInt(rounds), userRead64(s.task, s.address(0)));
	ASSERT_EQ(BigInt(rounds), userRead64(s.task, s.address(1)));
	ASSERT_EQ(100n, userRead64(child, s.at));
	ASSERT_EQ(0, world().reports.length);
	exitProcess(child);
	s.tearDown();
	return { faults: s.dev.faults, moved };
}

const racing = FIXTURE(
	'migrate_device_race',
	() => ({}),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName, seed: 0 }),
);
for (const profile of ['v6.12', 'v7.3'] as const)
	for (let seed = 0; seed < 20; seed++)
		FIXTURE_VARIANT_ADD(racing, `${profile.replace('.', '_')}_${seed}`, {
			profile,
			seed,
		});

TEST_F(racing, 'no_count_is_lost_while_pages_move', (_self, { profile, seed }) => {
	const { moved } = counting(seed, profile);
	EXPECT_GT(moved, 0);
	EXPECT_FALSE(moved < 0);
});
