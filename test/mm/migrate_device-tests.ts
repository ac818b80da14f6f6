// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: pages go to a device and back with their bytes and rights, whoever shares them and whoever
 * fails, and notifiers hear of it. Method: a device whose pages hold one value each (mm_world.ts);
 * whole migrations, with the steps of setup, pages and finalize where a test needs them.
 */
import { _PAGE_RW, _PAGE_UFFD_WP } from '../../include/asm/pgtable_types.ts';
import { MIGRATE_VMA_SELECT_DEVICE_PRIVATE } from '../../include/linux/migrate.ts';
import { PROT_READ } from '../../include/linux/mm.ts';
import { MM_ANONPAGES, page_folio, VM_FAULT_SIGBUS } from '../../include/linux/mm_types.ts';
import {
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
} from '../../include/linux/mmu_notifier.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_test_lru,
	is_device_private_page,
	PageAnonExclusive,
	PageLocked,
	PG_dirty,
} from '../../include/linux/page-flags.ts';
import { pte_dirty, pte_young } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import {
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_is_migration_dirty,
	softleaf_is_migration_young,
} from '../../include/linux/swapops.ts';
import { PAGE_SIZE } from '../../include/linux/types.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import { migrate_vma_finalize } from '../../mm/migrate_device.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import {
	createProcess,
	exitProcess,
	userMprotect,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import { EXPECT_EQ, EXPECT_NE, EXPECT_TRUE, expectReport, TEST_F } from '../kselftest_harness.ts';
import { switchOn } from '../support/switch_on.ts';
import { expectList } from './bare_world.ts';
import { migrateFixture } from './migrate_device/stage.ts';
import { fillDst, pteEntry, pteOf, toDevice, valueOf } from './mm_world.ts';

const migrate = migrateFixture('migrate_device');

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

TEST_F(migrate, 'fix_s8_finalize_without_pages_maps_the_source_again', function* (s) {
	EXPECT_TRUE(switchOn('fix_s8'));
	s.fill(2);
	const args = s.args(0, 2);
	EXPECT_EQ(0, yield* s.setup(args));
	yield* fillDst(args.src, args.dst, 2, () => s.dev.alloc());
	yield* migrate_vma_finalize(args);
	expectList(['rw', 'rw', 16], [s.state(0), s.state(1), s.dev.free.length]);
});

TEST_F(migrate, 'a_read_only_page_stays_read_only_on_the_device', function* (s) {
	s.fill(1);
	EXPECT_EQ(0, userMprotect(s.task, s.at, PAGE_SIZE, PROT_READ));
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	EXPECT_EQ('Dr', s.state(0));
	EXPECT_EQ(100n, userRead64(s.task, s.at));
	EXPECT_EQ('r', s.state(0));
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
