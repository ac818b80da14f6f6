// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what each kind of fault leaves in the page table, in the counters and in whoever mirrors the
 * range; that a failing step leaves nothing. Method: one process, entries as text (entries.ts), the
 * invalidations of the arena; each allocation made to fail; then several threads at one page.
 */

import { _PAGE_SPECIAL } from '../../include/asm/pgtable_types.ts';
import { EBUSY, EFAULT, EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import { file } from '../../include/linux/fs.ts';
import {
	MADV_DONTNEED,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_READ,
	VM_MAYWRITE,
	VM_MIXEDMAP,
	VM_SHARED,
	VM_WRITE,
} from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_TRIED,
	FAULT_FLAG_UNSHARE,
	FAULT_FLAG_WRITE,
	MM_ANONPAGES,
	page_folio,
	VM_FAULT_DONE_COW,
	VM_FAULT_HWPOISON,
	VM_FAULT_LOCKED,
	VM_FAULT_MAJOR,
	VM_FAULT_NOPAGE,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	VM_FAULT_SIGSEGV,
	type vm_fault,
	type vm_operations_struct,
} from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_ref_count, PG_hwpoison, PG_locked } from '../../include/linux/page-flags.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { GFP_KERNEL, type int, type vm_fault_t } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { fput } from '../../mm/file_table.ts';
import { folio_lock } from '../../mm/filemap.ts';
import { forkProcess } from '../../mm/fork.ts';
import { insertPfn, remap_pfn_range, vm_insert_page, ZERO_PAGE } from '../../mm/memory.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../mm/mmap_lock.ts';
import { alloc_page } from '../../mm/page_alloc.ts';
import { folio_get, folio_put, folio_put_refs, folio_ref_add, put_page } from '../../mm/swap.ts';
import {
	exitProcess,
	loadUser64,
	storeUser64,
	userMadvise,
	userMmap,
	userMprotect,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, dump, entryAt, faultAt, folioAt, pageAt, vmaOf } from './entries.ts';
import { processFixture, RELEASES } from './process_fixture.ts';
import { InvalidationLog, mapPages, PAGE, RW, signalText } from './small_machine.ts';

/** A page whose tables are its own. */
const FAR = 1 << 20;

const memory = processFixture('memory', { releases: RELEASES });

/** Maps pages with ops of the test's own. */
function mapOps(
	p: task_struct,
	page: number,
	pages: number,
	ops: vm_operations_struct,
	flags = MAP_SHARED,
): void {
	const f = new file({
		f_op: {
			*mmap(_f, vma) {
				vma.vm_ops = ops;
				return 0;
			},
		},
	});
	userMmap(p, at(page), BigInt(pages) * PAGE, RW, flags, f);
	run(fput(f));
}

// --- anonymous memory ---

TEST_F(memory, 'read_maps_the_zero_page_and_a_write_replaces_it', ({ p }) => {
	mapPages(p, 0, 3);
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0n, userRead64(p, at(1)));
	EXPECT_STREQ('. rz! .', dump(p, 0, 3));
	EXPECT_EQ(0, p.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_STREQ('', log.take());
	EXPECT_NULL(userWrite64(p, at(1), 5n));
	EXPECT_STREQ('. waxd .', dump(p, 0, 3));
	EXPECT_STREQ('1 1-2', log.take());
	EXPECT_EQ(1, p.mm!.rss_stat[MM_ANONPAGES]);
	EXPECT_EQ(2n, p.min_flt);
	log.remove();
});

TEST_F(memory, 'zero_page_is_reserved_and_referenced_once', () => {
	const zero = ZERO_PAGE(0n);
	EXPECT_EQ(1, zero._refcount);
	EXPECT_TRUE(zero === ZERO_PAGE(at(7)));
});

TEST_F(memory, 'first_write_invalidates_nothing', ({ p }) => {
	mapPages(p, 0, 2);
	const log = new InvalidationLog(p.mm!);
	EXPECT_NULL(userWrite64(p, at(0), 1n));
	EXPECT_STREQ('waxd .', dump(p, 0, 2));
	EXPECT_STREQ('', log.take());
	log.remove();
});

TEST_F(memory, 'each_allocation_of_a_fault_may_fail', ({ p }) => {
	mapPages(p, 0, 1);
	// pud, pmd and pte table, then the page
	for (const nth of [1, 2, 3, 4]) {
		mapPages(p, 0, 1);
		injectFaults().fail('alloc_pages', nth);
		EXPECT_EQ(VM_FAULT_OOM, faultAt(p, 0, FAULT_FLAG_WRITE));
	}
	for (const site of ['anon_vma_alloc', 'anon_vma_chain_alloc', 'folio_prealloc']) {
		mapPages(p, 0, 1);
		injectFaults().fail(site, 1);
		EXPECT_EQ(VM_FAULT_OOM, faultAt(p, 0, FAULT_FLAG_WRITE));
	}
	EXPECT_EQ(0n, p.min_flt);
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE));
	EXPECT_EQ(1n, p.min_flt);
});

TEST_F(memory, 'copy_without_memory_leaves_the_zero_page', ({ p }) => {
	mapPages(p, 0, 1);
	userRead64(p, at(0));
	injectFaults().fail('folio_prealloc', 1);
	EXPECT_EQ(VM_FAULT_OOM, faultAt(p, 0, FAULT_FLAG_WRITE));
	injectFaults().fail('anon_vma_alloc', 1);
	mapPages(p, 2, 1);
	userRead64(p, at(2));
	EXPECT_EQ(VM_FAULT_OOM, faultAt(p, 2, FAULT_FLAG_WRITE));
	EXPECT_STREQ('rz!', dump(p, 0, 1));
});

TEST_F(memory, 'what_the_oom_reaper_emptied_is_not_made_anew', ({ p }) => {
	mapPages(p, 0, 2);
	p.mm!.flags_unstable = true;
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 0));
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 1, FAULT_FLAG_WRITE));
	EXPECT_STREQ('. .', dump(p, 0, 2));
});

TEST_F(memory, 'flags_that_make_no_sense_are_refused', ({ p }) => {
	mapPages(p, 0, 1);
	EXPECT_EQ(VM_FAULT_SIGSEGV, faultAt(p, 0, FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE));
	expectReport(/fault to write and to unshare/);
	vmaOf(p, 0).vm_flags &= ~VM_MAYWRITE;
	EXPECT_EQ(VM_FAULT_SIGSEGV, faultAt(p, 0, FAULT_FLAG_WRITE));
	expectReport(/write fault in a mapping that never may/);
	mapPages(p, 0, 1, PROT_READ, MAP_SHARED);
	EXPECT_EQ(VM_FAULT_SIGSEGV, faultAt(p, 0, FAULT_FLAG_WRITE));
	expectReport(/write fault forced on a shared mapping/);
});

TEST_F(memory, 'mapping_that_nobody_can_fill_in_is_sigbus', ({ p }) => {
	mapPages(p, 0, 1);
	vmaOf(p, 0).vm_flags |= VM_SHARED;
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 0));
	vmaOf(p, 0).vm_flags &= ~VM_SHARED;
});

TEST_F(memory, 'fault_that_comes_again_counts_as_a_major_one', ({ p }) => {
	mapPages(p, 0, 1);
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE));
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE));
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE | FAULT_FLAG_TRIED));
	EXPECT_EQ(0, faultAt(p, 0));
	EXPECT_EQ(3n, p.min_flt);
	EXPECT_EQ(1n, p.maj_flt);
});

// --- copy on write ---

TEST_F(memory, 'shared_page_is_copied_and_the_last_sharer_reuses_it', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 1n);
	const original = pageAt(p, 0);
	const child = forkProcess(p) as task_struct;
	const log = new InvalidationLog(p.mm!);
	EXPECT_STREQ('rad', dump(p, 0, 1));
	EXPECT_NULL(userWrite64(child, at(0), 2n));
	EXPECT_STREQ('waxd', dump(child, 0, 1));
	EXPECT_NULL(userWrite64(p, at(0), 3n));
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	EXPECT_TRUE(pageAt(p, 0) === original);
	// the copy invalidated the child only
	EXPECT_STREQ('', log.take());
	EXPECT_EQ(2n, userRead64(child, at(0)));
	EXPECT_EQ(3n, userRead64(p, at(0)));
	log.remove();
	exitProcess(child);
});

TEST_F(memory, 'copy_replaces_what_other_cpus_remember', ({ p }) => {
	mapPages(p, 0, 2);
	userWrite64(p, at(0), 1n);
	const child = forkProcess(p) as task_struct;
	p.cpu = 1;
	EXPECT_EQ(1n, userRead64(p, at(0)));
	EXPECT_EQ(0n, userRead64(p, at(1)));
	p.cpu = 0;
	EXPECT_NULL(userWrite64(p, at(0), 2n));
	EXPECT_NULL(userWrite64(p, at(1), 3n));
	p.cpu = 1;
	EXPECT_EQ(2n, userRead64(p, at(0)));
	EXPECT_EQ(3n, userRead64(p, at(1)));
	exitProcess(child);
});

TEST_F(memory, 'page_with_another_reference_is_copied', ({ p }) => {
	mapPages(p, 0, 2);
	for (let i = 0; i < 2; i++) userWrite64(p, at(i), 1n + BigInt(i));
	exitProcess(forkProcess(p) as task_struct);
	const folios = [0, 1].map((i) => folioAt(p, i));
	folio_get(folios[0]!);
	folio_ref_add(folios[1]!, 5);
	const log = new InvalidationLog(p.mm!);
	for (let i = 0; i < 2; i++) userWrite64(p, at(i), 10n);
	EXPECT_STREQ('waxd waxd', dump(p, 0, 2));
	EXPECT_STREQ('1 0-1, 1 1-2', log.take());
	for (let i = 0; i < 2; i++) EXPECT_TRUE(folioAt(p, i) !== folios[i]);
	EXPECT_EQ(1, folio_ref_count(folios[0]!));
	run(folio_put(folios[0]!));
	run(folio_put_refs(folios[1]!, 5));
	log.remove();
});

TEST_F(memory, 'locked_page_is_copied', ({ p }) => {
	mapPages(p, 0, 1);
	userWrite64(p, at(0), 1n);
	exitProcess(forkProcess(p) as task_struct);
	const f = folioAt(p, 0);
	f.flags |= PG_locked;
	// whoever holds the lock leaves it while the copy is made
	const log = new InvalidationLog(p.mm!, () => {
		f.flags &= ~PG_locked;
	});
	EXPECT_NULL(userWrite64(p, at(0), 10n));
	EXPECT_STREQ('1 0-1', log.take());
	EXPECT_TRUE(folioAt(p, 0) !== f);
	log.remove();
});

TEST_F(memory, 'unsharing_makes_a_page_exclusive_but_not_writable', ({ p }) => {
	mapPages(p, 0, 2);
	userWrite64(p, at(0), 1n);
	const child = forkProcess(p) as task_struct;
	const shared = pageAt(p, 0);
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_UNSHARE));
	EXPECT_STREQ('rax', dump(p, 0, 1));
	EXPECT_TRUE(pageAt(p, 0) !== shared);
	exitProcess(child);
	// nothing to do for what is exclusive, nor in a shared mapping
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_UNSHARE));
	EXPECT_STREQ('rax', dump(p, 0, 1));
	mapPages(p, 8, 1, PROT_READ, MAP_SHARED);
	EXPECT_EQ(VM_FAULT_LOCKED, faultAt(p, 8, FAULT_FLAG_UNSHARE));
	EXPECT_STREQ('rf', dump(p, 8, 1));
});

TEST_F(memory, 'mprotect_gives_the_write_bit_back_to_exclusive_pages_only', ({ p }) => {
	mapPages(p, 0, 2);
	userWrite64(p, at(0), 1n);
	userRead64(p, at(1));
	userMprotect(p, at(0), 2n * PAGE, PROT_READ);
	EXPECT_STREQ('raxd rz!', dump(p, 0, 2));
	userMprotect(p, at(0), 2n * PAGE, RW);
	EXPECT_STREQ('waxd rz!', dump(p, 0, 2));
});

TEST_F(memory, 'write_to_a_special_pfn', ({ p }) => {
	mapPages(p, 0, 2, PROT_READ, MAP_SHARED);
	const vma = vmaOf(p, 0);
	run(function* () {
		yield* mmap_write_lock(p.mm!);
		vma.vm_flags |= VM_MIXEDMAP;
		EXPECT_EQ(0, yield* insertPfn(vma, at(0), 0xfee00n));
		EXPECT_EQ(-EBUSY, yield* insertPfn(vma, at(0), 0xfee00n));
		EXPECT_EQ(-EFAULT, yield* insertPfn(vma, at(2), 0xfee00n));
		yield* mmap_write_unlock(p.mm!);
	});
	EXPECT_STREQ('rq! .', dump(p, 0, 2));
	vma.vm_flags |= VM_WRITE;
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE));
	EXPECT_STREQ('wqd! .', dump(p, 0, 2));
});

TEST_F(memory, 'private_mapping_of_pfns_is_copied_page_by_page', ({ p }) => {
	mapPages(p, 0, 2);
	const source = run(alloc_page(GFP_KERNEL))!;
	const vma = vmaOf(p, 0);
	run(function* () {
		yield* mmap_write_lock(p.mm!);
		const prot = vma.vm_page_prot;
		const pfn = page_to_pfn(source);
		EXPECT_EQ(-EINVAL, yield* remap_pfn_range(vma, at(0), pfn, PAGE, prot));
		EXPECT_EQ(-EINVAL, yield* remap_pfn_range(vma, at(0) + 1n, pfn, 2n * PAGE, prot));
		EXPECT_EQ(0, yield* remap_pfn_range(vma, at(0), pfn, 2n * PAGE, prot));
		yield* mmap_write_unlock(p.mm!);
	});
	EXPECT_EQ(page_to_pfn(source) as bigint, vma.vm_pgoff);
	EXPECT_NULL(userWrite64(p, at(0), 9n));
	EXPECT_EQ(9n, userRead64(p, at(0)));
	EXPECT_STREQ('waxd ro!', dump(p, 0, 2));
	run(put_page(source));
});

// --- mappings with ops ---

TEST_F(memory, 'mapping_without_a_fault_op_is_filled_in_or_sigbus', ({ p }) => {
	mapOps(p, 0, 2, {});
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 0));
	const page = run(alloc_page(GFP_KERNEL))!;
	run(function* () {
		yield* mmap_write_lock(p.mm!);
		EXPECT_EQ(0, yield* vm_insert_page(vmaOf(p, 0), at(0), page));
		yield* mmap_write_unlock(p.mm!);
	});
	EXPECT_STREQ('wo .', dump(p, 0, 2));
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 1));
	EXPECT_EQ(0, faultAt(p, 0));
	run(put_page(page));
});

TEST_F(memory, 'vm_insert_page_refuses', ({ p }) => {
	mapOps(p, 0, 1, {});
	mapOps(p, FAR, 1, {});
	mapPages(p, 4, 1);
	userWrite64(p, at(4), 1n);
	const page = run(alloc_page(GFP_KERNEL))!;
	run(function* () {
		yield* mmap_write_lock(p.mm!);
		const vma = vmaOf(p, 0);
		EXPECT_EQ(-EFAULT, yield* vm_insert_page(vma, at(1), page));
		EXPECT_EQ(-EINVAL, yield* vm_insert_page(vma, at(0), pageAt(p, 4)));
		injectFaults().fail('alloc_pages', 1);
		EXPECT_EQ(-ENOMEM, yield* vm_insert_page(vmaOf(p, FAR), at(FAR), page));
		EXPECT_EQ(0, yield* vm_insert_page(vma, at(0), page));
		EXPECT_EQ(-EBUSY, yield* vm_insert_page(vma, at(0), page));
		yield* mmap_write_unlock(p.mm!);
	});
	run(put_page(page));
});

/** Ops whose fault hands out pages of the test's. */
function pageOps(result: vm_fault_t, onFault?: (vmf: vm_fault) => void): vm_operations_struct {
	return {
		*fault(vmf): Sim<vm_fault_t> {
			onFault?.(vmf);
			if (result & (VM_FAULT_NOPAGE | VM_FAULT_SIGBUS)) return result;
			const page = (yield* alloc_page(GFP_KERNEL))!;
			vmf.page = page;
			if (result & VM_FAULT_LOCKED) yield* folio_lock(page_folio(page));
			if (result & VM_FAULT_HWPOISON) page.flags |= PG_hwpoison;
			return result & ~VM_FAULT_HWPOISON;
		},
	};
}

TEST_F(memory, 'fault_op_decides_what_a_touch_is', ({ p }) => {
	const cases: [vm_fault_t, vm_fault_t][] = [
		[VM_FAULT_SIGBUS, VM_FAULT_SIGBUS],
		[VM_FAULT_NOPAGE, VM_FAULT_NOPAGE],
		[VM_FAULT_HWPOISON, VM_FAULT_HWPOISON],
		[VM_FAULT_HWPOISON | VM_FAULT_LOCKED, VM_FAULT_HWPOISON],
	];
	for (const flags of [MAP_SHARED, MAP_PRIVATE])
		for (const write of [0, FAULT_FLAG_WRITE])
			for (const [said, seen] of cases) {
				mapOps(p, 0, 1, pageOps(said), flags);
				EXPECT_EQ(seen, faultAt(p, 0, write));
			}
	mapOps(p, 0, 1, pageOps(VM_FAULT_MAJOR));
	EXPECT_EQ(VM_FAULT_MAJOR, faultAt(p, 0));
	EXPECT_EQ(1n, p.maj_flt);
	EXPECT_STREQ('wo', dump(p, 0, 1));
});

TEST_F(memory, 'fault_op_may_have_made_the_copy_itself', ({ p }) => {
	const ops: vm_operations_struct = {
		*fault(vmf): Sim<vm_fault_t> {
			// it keeps the copy and maps it in its own time; here: never
			yield* put_page(vmf.cow_page!);
			return VM_FAULT_DONE_COW;
		},
	};
	mapOps(p, 0, 1, ops, MAP_PRIVATE);
	EXPECT_EQ(VM_FAULT_DONE_COW, faultAt(p, 0, FAULT_FLAG_WRITE));
});

TEST_F(memory, 'entry_that_appears_meanwhile_wins', ({ p }) => {
	for (const flags of [MAP_SHARED, MAP_PRIVATE])
		for (const write of [0, FAULT_FLAG_WRITE]) {
			mapPages(p, 4, 1);
			userRead64(p, at(4));
			const appear = (): void => {
				entryAt(p, 0).value = entryAt(p, 4).value;
			};
			mapOps(p, 0, 1, pageOps(0, appear), flags);
			EXPECT_EQ(VM_FAULT_NOPAGE, faultAt(p, 0, write) & VM_FAULT_NOPAGE);
			entryAt(p, 0).value = 0n;
		}
});

TEST_F(memory, 'file_fault_without_memory', ({ p }) => {
	mapOps(p, 0, 1, pageOps(0), MAP_PRIVATE);
	// pud and pmd, the page of the file, then the pte table
	injectFaults().fail('alloc_pages', 4);
	EXPECT_EQ(VM_FAULT_OOM, faultAt(p, 0) & VM_FAULT_OOM);
	injectFaults().fail('anon_vma_alloc', 1);
	EXPECT_EQ(VM_FAULT_OOM, faultAt(p, 0, FAULT_FLAG_WRITE));
	injectFaults().fail('folio_prealloc', 1);
	EXPECT_EQ(VM_FAULT_OOM, faultAt(p, 0, FAULT_FLAG_WRITE));
	world().faultInjection = null;
	p.mm!.flags_unstable = true;
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 0, FAULT_FLAG_WRITE) & VM_FAULT_SIGBUS);
	p.mm!.flags_unstable = false;
});

/** A page that page_mkwrite() judges. */
class Judged {
	/** What it says. */
	answer: vm_fault_t = VM_FAULT_LOCKED;
	/** It locks the page itself. */
	locks = true;
	calls: int = 0;
	meanwhile: (() => void) | null = null;
	ops: vm_operations_struct;

	constructor() {
		const self = this;
		this.ops = {
			*fault(vmf): Sim<vm_fault_t> {
				vmf.page = (yield* alloc_page(GFP_KERNEL))!;
				return 0;
			},
			*page_mkwrite(vmf): Sim<vm_fault_t> {
				self.calls++;
				self.meanwhile?.();
				if (self.answer & VM_FAULT_LOCKED)
					yield* folio_lock(page_folio(vmf.page!));
				return self.answer;
			},
		};
	}
}

TEST_F(memory, 'page_mkwrite_hears_of_the_first_write', ({ p }) => {
	const judged = new Judged();
	mapOps(p, 0, 2, judged.ops);
	EXPECT_EQ(0, faultAt(p, 0));
	EXPECT_STREQ('ro', dump(p, 0, 1));
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE));
	EXPECT_STREQ('wod', dump(p, 0, 1));
	EXPECT_EQ(1, judged.calls);
	EXPECT_EQ(0, faultAt(p, 1, FAULT_FLAG_WRITE) & ~VM_FAULT_LOCKED);
	EXPECT_STREQ('wod wod', dump(p, 0, 2));
	EXPECT_EQ(2, judged.calls);
});

TEST_F(memory, 'page_mkwrite_may_refuse', ({ p }) => {
	const judged = new Judged();
	mapOps(p, 0, 2, judged.ops);
	faultAt(p, 0);
	judged.answer = VM_FAULT_SIGBUS;
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 0, FAULT_FLAG_WRITE));
	EXPECT_EQ(VM_FAULT_SIGBUS, faultAt(p, 1, FAULT_FLAG_WRITE));
	// not locked by it, and truncated: the mapping is gone
	judged.answer = 0;
	EXPECT_EQ(0, faultAt(p, 0, FAULT_FLAG_WRITE));
	EXPECT_STREQ('ro .', dump(p, 0, 2));
	// the entry changed while it was asked
	judged.answer = VM_FAULT_LOCKED;
	const word = entryAt(p, 0).value;
	judged.meanwhile = (): void => {
		entryAt(p, 0).value = 0n;
	};
	EXPECT_EQ(VM_FAULT_NOPAGE, faultAt(p, 0, FAULT_FLAG_WRITE));
	entryAt(p, 0).value = word;
});

// --- bad entries ---

TEST_F(memory, 'special_entry_in_an_ordinary_mapping_is_reported', ({ p }) => {
	mapPages(p, 0, 2);
	userWrite64(p, at(0), 1n);
	const word = entryAt(p, 0).value;
	entryAt(p, 0).value = word | _PAGE_SPECIAL;
	userMadvise(p, at(0), PAGE, MADV_DONTNEED);
	expectReport(/Bad page map in process memory/);
	entryAt(p, 0).value = (0xfee00n << 12n) | (word & 0xfffn);
	userMadvise(p, at(0), PAGE, MADV_DONTNEED);
	expectReport(/Bad page map in process memory/);
	EXPECT_STREQ('. .', dump(p, 0, 2));
	entryAt(p, 0).value = word;
});

// --- races ---

function threads(p: task_struct, bodies: (() => Sim<unknown>)[], seed: number): void {
	world().preemptible = true;
	for (const [i, body] of bodies.entries()) spawn(`t${i}`, body, { mm: p.mm, cpu: i });
	runThreads(randomStrategy(seed));
	world().preemptible = false;
}

TEST_F(memory, 'threads_that_touch_one_page_see_one_page', ({ p }) => {
	for (let seed = 1; seed <= 40; seed++) {
		mapPages(p, 0, 1);
		const seen: unknown[] = [];
		threads(
			p,
			[
				() => storeUser64(at(0), 7n),
				function* () {
					seen.push(yield* loadUser64(at(0)));
					seen.push(yield* loadUser64(at(0)));
				},
			],
			seed,
		);
		EXPECT_TRUE(seen.every((word) => word === 0n || word === 7n));
		// once 7, always 7: a stale translation of the zero page would show
		EXPECT_TRUE(!(seen[0] === 7n && seen[1] === 0n));
		EXPECT_EQ(7n, userRead64(p, at(0)));
		EXPECT_EQ(1, p.mm!.rss_stat[MM_ANONPAGES]);
	}
});

TEST_F(memory, 'writers_of_a_shared_page_lose_nothing', ({ p }) => {
	for (let seed = 1; seed <= 40; seed++) {
		mapPages(p, 0, 1);
		userWrite64(p, at(0), 1n);
		const child = forkProcess(p) as task_struct;
		threads(
			p,
			[() => storeUser64(at(0) + 8n, 2n), () => storeUser64(at(0) + 16n, 3n)],
			seed,
		);
		EXPECT_EQ(1n, userRead64(p, at(0)));
		EXPECT_EQ(2n, userRead64(p, at(0) + 8n));
		EXPECT_EQ(3n, userRead64(p, at(0) + 16n));
		EXPECT_EQ(0n, userRead64(child, at(0) + 8n));
		EXPECT_STREQ('waxd', dump(p, 0, 1));
		exitProcess(child);
	}
});

TEST_F(memory, 'unmapped_page_is_not_reused_while_a_cpu_knows_it', ({ p }) => {
	for (let seed = 1; seed <= 40; seed++) {
		mapPages(p, 0, 2);
		userWrite64(p, at(0), 5n);
		const seen: unknown[] = [];
		threads(
			p,
			[
				function* () {
					for (let i = 0; i < 3; i++)
						seen.push(yield* loadUser64(at(0)));
				},
				function* () {
					userMadvise(p, at(0), PAGE, MADV_DONTNEED);
					yield* storeUser64(at(1), 99n);
				},
			],
			seed,
		);
		EXPECT_TRUE(seen.every((word) => word === 5n || word === 0n));
		EXPECT_STREQ('none', signalText(userRead64(p, at(1))));
	}
});
