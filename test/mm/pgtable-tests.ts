// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a page table is made once, whoever races for it, and is freed after the last who may stand
 * in it. Method: tables and entries are made, locked and changed by hand, by one thread and by two
 * under seeded schedules.
 */
import { _PAGE_DEVMAP, _PAGE_PRESENT, _PAGE_PSE } from '../../include/asm/pgtable_types.ts';
import { ENOMEM } from '../../include/linux/errno.ts';
import { VM_EXEC, VM_READ, VM_SHARED, VM_WRITE } from '../../include/linux/mm.ts';
import { type mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import {
	_PAGE_TABLE,
	PAGE_COPY,
	PAGE_NONE,
	PAGE_READONLY,
	PAGE_READONLY_EXEC,
	PAGE_SHARED,
	PAGE_SHARED_EXEC,
	pfn_pte,
	pmd_mkhuge,
	pte_mkwrite,
	pte_write,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import type { spinlock_t } from '../../include/linux/spinlock.ts';
import {
	make_readable_migration_entry,
	make_writable_device_private_entry,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import type { out } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { boot } from '../../init/main.ts';
import { spin_is_locked, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import {
	__tlb_remove_page,
	MAX_GATHER_PAGES,
	type mmu_gather,
	tlb_finish_mmu,
	tlb_flush_mmu,
	tlb_gather_mmu,
	tlb_remove_page,
	tlb_remove_table,
} from '../../mm/mmu_gather.ts';
import { alloc_page, theZone } from '../../mm/page_alloc.ts';
import * as pg from '../../mm/pgtable.ts';
import { createProcess, exitProcess } from '../../mm/syscalls.ts';
import {
	dec_tlb_flush_pending,
	inc_tlb_flush_pending,
	mm_tlb_flush_pending,
} from '../../mm/tlb.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { ARENA, smallMachine } from './small_machine.ts';

interface Self {
	p: task_struct;
	mm: mm_struct;
	pud: TableEntry;
	pmd: TableEntry;
	vma: vm_area_struct;
}

const tables = FIXTURE(
	'pgtable',
	() => ({}) as Self,
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(tables, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(tables, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(tables, function* (self, { profile }) {
	boot(smallMachine(), profile);
	self.p = createProcess('pgtable');
	self.mm = self.p.mm!;
	self.vma = new vm_area_struct({
		vm_mm: self.mm,
		vm_start: ARENA,
		vm_end: ARENA + (1n << 30n),
	});
	self.pud = (yield* pg.pud_alloc(self.mm, pg.pgd_offset(self.mm, ARENA), ARENA))!;
	self.pmd = (yield* pg.pmd_alloc(self.mm, self.pud, ARENA))!;
});

FIXTURE_TEARDOWN(tables, function* (self) {
	const { mm } = self;
	const pgd = pg.pgd_offset(mm, ARENA);
	if (pg.pmd_none_or_clear_bad(self.pmd) === false)
		yield* pg.freeTable(mm, Number(self.pmd.value >> 12n));
	yield* pg.freeTable(mm, self.pmd.pfn);
	yield* pg.freeTable(mm, self.pud.pfn);
	pgd.value = 0n;
	exitProcess(self.p);
});

TEST_F(tables, 'levels_are_made_once', function* ({ mm, pud, pmd }) {
	EXPECT_EQ(3, mm.pgtables);
	EXPECT_EQ(pud.pfn, (yield* pg.pud_alloc(mm, pg.pgd_offset(mm, ARENA), ARENA))!.pfn);
	EXPECT_EQ(pmd.pfn, (yield* pg.pmd_alloc(mm, pud, ARENA))!.pfn);
	EXPECT_EQ(0, yield* pg.pte_alloc(mm, pmd, ARENA));
	EXPECT_EQ(0, yield* pg.pte_alloc(mm, pmd));
	EXPECT_EQ(4, mm.pgtables);
	EXPECT_EQ(_PAGE_TABLE, pmd.value & 0xfffn);
});

TEST_F(tables, 'no_memory_for_a_table', function* ({ mm, pmd }) {
	injectFaults().fail('alloc_pages');
	EXPECT_EQ(-ENOMEM, yield* pg.pte_alloc(mm, pmd, ARENA));
	const far = ARENA + (1n << 40n);
	EXPECT_NULL(yield* pg.pud_alloc(mm, pg.pgd_offset(mm, far), far));
	const next = ARENA + (1n << 30n);
	EXPECT_NULL(yield* pg.pmd_alloc(mm, pg.pud_offset(pg.pgd_offset(mm, next), next), next));
	injectFaults();
	EXPECT_EQ(3, mm.pgtables);
});

TEST_F(tables, 'two_threads_that_need_a_table_make_one', ({ mm, pmd, p }) => {
	const body = function* () {
		EXPECT_EQ(0, yield* pg.pte_alloc(mm, pmd, ARENA));
	};
	for (let seed = 1; seed <= 30; seed++) {
		const before = theZone().allocated;
		spawn('a', body, { mm: p.mm });
		spawn('b', body, { mm: p.mm });
		runThreads(randomStrategy(seed));
		EXPECT_EQ(4, mm.pgtables);
		EXPECT_EQ(before + 1, theZone().allocated);
		const table = Number(pmd.value >> 12n);
		pmd.value = 0n;
		run(pg.freeTable(mm, table));
	}
});

TEST_F(tables, 'mapped_pte_is_inside_an_rcu_section', function* ({ mm, pmd }) {
	EXPECT_NULL(yield* pg.pte_offset_map(pmd, ARENA));
	yield* pg.pte_alloc(mm, pmd, ARENA);
	const pte = (yield* pg.pte_offset_map(pmd, ARENA + 0x5000n))!;
	EXPECT_EQ(5, pte.index);
	EXPECT_EQ(1, world().current.rcu_read_lock_nesting);
	EXPECT_EQ(0n, yield* pg.ptep_get_lockless(pte));
	yield* pg.pte_unmap(pte);
	EXPECT_EQ(0, world().current.rcu_read_lock_nesting);
});

TEST_F(tables, 'locked_pte_holds_the_lock_of_its_table', function* ({ mm, pmd }) {
	yield* pg.pte_alloc(mm, pmd, ARENA);
	const ptl: out<spinlock_t | null> = { value: null };
	const pte = (yield* pg.pte_offset_map_lock(mm, pmd, ARENA, ptl))!;
	EXPECT_TRUE(ptl.value === pg.pte_lockptr(mm, pmd));
	EXPECT_TRUE(spin_is_locked(ptl.value!));
	pg.assertPtl(mm, pte);
	yield* pg.pte_unmap_unlock(pte, ptl.value);
	EXPECT_FALSE(spin_is_locked(pg.pte_lockptr(mm, pmd)));
	const pmdval = { value: 0n };
	const again = (yield* pg.pte_offset_map_rw_nolock(mm, pmd, ARENA, pmdval, ptl))!;
	EXPECT_EQ(pmd.value, pmdval.value);
	EXPECT_FALSE(spin_is_locked(ptl.value!));
	yield* pg.pte_unmap(again);
	pg.assertPtl(mm, again);
	expectReport(/lockdep_assert_held\(ptlock_ptr\(ptdesc\)\)/);
});

TEST_F(tables, 'table_that_changed_while_the_lock_was_waited_for_is_left', (self) => {
	const { mm, pmd, p } = self;
	run(pg.pte_alloc(mm, pmd, ARENA));
	const table = pmd.value;
	const body = function* (): Sim<void> {
		const ptl: out<spinlock_t | null> = { value: null };
		const pte = yield* pg.pte_offset_map_lock(mm, pmd, ARENA, ptl);
		EXPECT_TRUE(pte === null || pmd.value === table);
		if (pte !== null) yield* pg.pte_unmap_unlock(pte, ptl.value);
	};
	const zapper = function* (): Sim<void> {
		const ptl = yield* pg.pmd_lock(mm, pmd);
		yield* pg.set_pmd_at(mm, ARENA, pmd, 0n);
		yield* spin_unlock(ptl);
	};
	for (let seed = 1; seed <= 30; seed++) {
		pmd.value = table;
		spawn('walker', body, { mm: p.mm });
		spawn('zapper', zapper, { mm: p.mm });
		runThreads(randomStrategy(seed));
	}
	pmd.value = table;
});

TEST_F(tables, 'leaf_or_bad_pmd_is_no_table', function* ({ pmd }) {
	pmd.value = pmd_mkhuge(pfn_pte(0x200n, PAGE_READONLY) as bigint);
	EXPECT_NULL(yield* pg.pte_offset_map(pmd, ARENA));
	pmd.value = swp_entry_to_pte(make_readable_migration_entry(0x200n)) as bigint;
	EXPECT_NULL(yield* pg.pte_offset_map(pmd, ARENA));
	pmd.value = _PAGE_PRESENT | 0x200000n;
	EXPECT_NULL(yield* pg.pte_offset_map(pmd, ARENA));
	EXPECT_EQ(0n, pmd.value);
	EXPECT_EQ(0, world().current.rcu_read_lock_nesting);
	expectReport(/mm: bad pmd 0000000000200001/);
});

TEST_F(tables, 'bad_pud_is_emptied', function* ({ pud }) {
	const other = pg.nextEntry(pud);
	EXPECT_TRUE(pg.pud_none_or_clear_bad(other));
	EXPECT_FALSE(pg.pud_none_or_clear_bad(pud));
	other.value = _PAGE_PRESENT;
	EXPECT_TRUE(pg.pud_none_or_clear_bad(other));
	EXPECT_EQ(0n, other.value);
	expectReport(/mm: bad pud/);
});

TEST_F(tables, 'huge_lock_is_taken_for_leaves_only', function* (self, { profile }) {
	const { pmd, pud, vma } = self;
	EXPECT_NULL(yield* pg.pmd_trans_huge_lock(pmd, vma));
	const leaf = function* (word: bigint): Sim<boolean> {
		pmd.value = word;
		const ptl = yield* pg.pmd_trans_huge_lock(pmd, vma);
		if (ptl !== null) yield* spin_unlock(ptl);
		pmd.value = 0n;
		return ptl !== null;
	};
	EXPECT_TRUE(yield* leaf(pmd_mkhuge(pfn_pte(0x200n, PAGE_READONLY) as bigint) as bigint));
	EXPECT_TRUE(yield* leaf(swp_entry_to_pte(make_readable_migration_entry(0x200n)) as bigint));
	const privateWord = swp_entry_to_pte(make_writable_device_private_entry(0x200n)) as bigint;
	EXPECT_EQ(profile === 'v7.3', yield* leaf(privateWord));
	const other = pg.nextEntry(pud);
	EXPECT_NULL(yield* pg.pud_trans_huge_lock(other, vma));
	other.value = _PAGE_PRESENT | _PAGE_PSE;
	const ptl = yield* pg.pud_trans_huge_lock(other, vma);
	EXPECT_TRUE(ptl === self.mm.page_table_lock);
	yield* spin_unlock(ptl!);
	other.value = _PAGE_PRESENT | _PAGE_PSE | _PAGE_DEVMAP;
	const devmap = yield* pg.pud_trans_huge_lock(other, vma);
	EXPECT_EQ(profile === 'v6.12', devmap !== null);
	if (devmap !== null) yield* spin_unlock(devmap);
	other.value = 0n;
});

TEST_F(tables, 'entries_are_changed_and_handed_out', function* ({ mm, pmd, vma }) {
	yield* pg.pte_alloc(mm, pmd, ARENA);
	const ptl: out<spinlock_t | null> = { value: null };
	const pte = (yield* pg.pte_offset_map_lock(mm, pmd, ARENA, ptl))!;
	const word = pte_mkwrite(pfn_pte(0x123n, PAGE_SHARED));
	yield* pg.set_pte_at(mm, ARENA, pte, word);
	yield* pg.ptep_set_wrprotect(mm, ARENA, pte);
	EXPECT_FALSE(pte_write(pg.ptep_get(pte)));
	EXPECT_TRUE(yield* pg.ptep_set_access_flags(vma, ARENA, pte, word, 1));
	EXPECT_FALSE(yield* pg.ptep_set_access_flags(vma, ARENA, pte, word, 1));
	// a read fault's "dirty 0" changes nothing
	EXPECT_TRUE(yield* pg.ptep_set_access_flags(vma, ARENA, pte, word | 0x40n, 0));
	EXPECT_EQ(word, pg.ptep_get(pte));
	EXPECT_EQ(word, yield* pg.ptep_modify_prot_start(vma, ARENA, pte));
	EXPECT_EQ(0n, pg.ptep_get(pte));
	yield* pg.ptep_modify_prot_commit(vma, ARENA, pte, word, word);
	EXPECT_EQ(word, yield* pg.ptep_clear_flush(vma, ARENA, pte));
	EXPECT_EQ(0n, yield* pg.ptep_clear_flush(vma, ARENA, pte));
	yield* pg.set_pte_at(mm, ARENA, pte, word);
	yield* pg.pte_clear(mm, ARENA, pte);
	EXPECT_EQ(0n, pg.ptep_get(pte));
	yield* pg.pte_unmap_unlock(pte, ptl.value);
	const table = pg.pmdp_get(pmd);
	EXPECT_EQ(table, yield* pg.pmdp_huge_get_and_clear(mm, ARENA, pmd));
	EXPECT_EQ(0n, pmd.value);
	pmd.value = table;
});

TEST_F(tables, 'protection_bits_follow_the_flags', () => {
	EXPECT_EQ(PAGE_NONE, pg.vm_get_page_prot(0n));
	EXPECT_EQ(PAGE_NONE, pg.vm_get_page_prot(VM_SHARED));
	EXPECT_EQ(PAGE_READONLY, pg.vm_get_page_prot(VM_READ));
	EXPECT_EQ(PAGE_COPY, pg.vm_get_page_prot(VM_READ | VM_WRITE));
	EXPECT_EQ(PAGE_READONLY_EXEC, pg.vm_get_page_prot(VM_EXEC | VM_WRITE));
	EXPECT_EQ(PAGE_SHARED, pg.vm_get_page_prot(VM_SHARED | VM_WRITE));
	EXPECT_EQ(PAGE_SHARED_EXEC, pg.vm_get_page_prot(VM_SHARED | VM_WRITE | VM_EXEC));
});

TEST_F(tables, 'gather_frees_after_the_flush', function* ({ mm }) {
	const before = theZone().allocated;
	const tlb = tlb_gather_mmu(mm);
	EXPECT_TRUE(mm_tlb_flush_pending(mm));
	const p = (yield* alloc_page(0xcc0))!;
	EXPECT_FALSE(__tlb_remove_page(tlb, p));
	tlb.start = ARENA;
	tlb.end = ARENA + 4096n;
	EXPECT_EQ(before + 1, theZone().allocated);
	yield* tlb_flush_mmu(tlb);
	EXPECT_EQ(before, theZone().allocated);
	yield* tlb_finish_mmu(tlb);
	EXPECT_FALSE(mm_tlb_flush_pending(mm));
});

TEST_F(tables, 'full_gather_is_flushed_at_once', function* ({ mm }) {
	const before = theZone().allocated;
	const tlb = tlb_gather_mmu(mm);
	for (let i = 0; i < MAX_GATHER_PAGES; i++)
		yield* tlb_remove_page(tlb, (yield* alloc_page(0xcc0))!);
	EXPECT_EQ(0, tlb.pages.length);
	EXPECT_EQ(before, theZone().allocated);
	yield* tlb_finish_mmu(tlb);
});

TEST_F(tables, 'nested_flush_covers_the_whole_address_space', function* ({ mm }) {
	const tlb = tlb_gather_mmu(mm);
	tlb.start = ARENA;
	tlb.end = ARENA + 4096n;
	inc_tlb_flush_pending(mm);
	yield* tlb_finish_mmu(tlb);
	EXPECT_TRUE(tlb.fullmm);
	dec_tlb_flush_pending(mm);
	EXPECT_FALSE(mm_tlb_flush_pending(mm));
});

TEST_F(tables, 'table_is_freed_after_the_readers_that_stand_in_it', (self) => {
	const { mm, pmd, p } = self;
	for (let seed = 1; seed <= 30; seed++) {
		run(pg.pte_alloc(mm, pmd, ARENA));
		let inside = false;
		const reader = function* (): Sim<void> {
			const pte = yield* pg.pte_offset_map(pmd, ARENA);
			if (pte === null) return;
			inside = true;
			yield* pg.ptep_get_lockless(pte);
			yield* pg.ptep_get_lockless(pte);
			EXPECT_EQ(0n, pte.value);
			inside = false;
			yield* pg.pte_unmap(pte);
		};
		const freer = function* (): Sim<void> {
			const tlb: mmu_gather = tlb_gather_mmu(mm);
			const table = Number(pmd.value >> 12n);
			yield* pg.set_pmd_at(mm, ARENA, pmd, 0n);
			const readerWasInside = inside;
			tlb_remove_table(tlb, table, ARENA);
			yield* tlb_finish_mmu(tlb);
			if (readerWasInside) EXPECT_FALSE(inside);
		};
		spawn('reader', reader, { mm: p.mm });
		spawn('freer', freer, { mm: p.mm });
		runThreads(randomStrategy(seed));
		EXPECT_EQ(3, mm.pgtables);
	}
});
