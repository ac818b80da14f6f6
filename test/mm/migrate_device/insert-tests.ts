// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: holes and zero pages are filled by what the driver brings, and a destination that cannot be
 * used loses nothing. Method: each step of an insertion fails once, and meanwhile the hole is
 * filled by others.
 */
import { dev_pagemap, MEMORY_DEVICE_PCI_P2PDMA } from '../../../include/linux/memremap.ts';
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_VMA_SELECT_COMPOUND,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
	migrate_pfn_to_page,
} from '../../../include/linux/migrate.ts';
import { PROT_READ, VM_UFFD_MISSING } from '../../../include/linux/mm.ts';
import { MM_ANONPAGES, type page, page_folio } from '../../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../../include/linux/mmzone.ts';
import { folio_test_lru, PG_locked, set_page_count } from '../../../include/linux/page-flags.ts';
import { PAGE_SIZE, PMD_SIZE } from '../../../include/linux/types.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { world } from '../../../include/sim/world.ts';
import { memremap_pages, memunmap_pages } from '../../../mm/memremap.ts';
import { migrate_device_pages } from '../../../mm/migrate_device.ts';
import { get_page, put_page } from '../../../mm/swap.ts';
import { mmapAnonymous, userMprotect, userRead64, userWrite64 } from '../../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_NE,
	EXPECT_TRUE,
	expectReport,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { expectList } from '../bare_world.ts';
import { fillDst, lockedRamPage, migration, toDevice, vmaAt } from '../mm_world.ts';
import { RW } from '../small_machine.ts';
import { FLAGS, M, migrateFixture, Stage, VALID, W } from './stage.ts';

const migrate = migrateFixture('migrate_device');

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

TEST('a_compound_destination_for_small_pages_is_not_mapped', function* () {
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
