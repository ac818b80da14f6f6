// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a userfaultfd protects a huge page as a whole, its bit goes where the entry goes, and only
 * what has to do with a part of it splits. Method: a process with a monitor that resolves its
 * faults page by page, in both releases; huge entries as text, `u` for the uffd bit, `n` for
 * PROT_NONE, `m` for a migration entry.
 *
 *   ARENA             +2 MiB
 *   | pmd 0           | pmd 1           |
 *   0                 512               1024       pages
 */
import { Disk } from '../../arch/sim/disk.ts';
import {
	MAP_SHARED,
	MM_CP_UFFD_RWP,
	MM_CP_UFFD_RWP_RESOLVE,
	PROT_READ,
	VM_UFFD_WP,
} from '../../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_WRITE,
	VM_FAULT_RETRY,
	vm_fault,
} from '../../include/linux/mm_types.ts';
import {
	pmd_none,
	pmd_present,
	pmd_protnone,
	pmd_uffd_wp,
	pmd_write,
	pte_present,
	pte_uffd_wp,
	pte_write,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import {
	pmd_is_migration_entry,
	pmd_swp_uffd_wp,
	pte_swp_uffd_wp,
} from '../../include/linux/swapops.ts';
import type { userfaultfd_ctx } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import {
	UFFDIO_REGISTER_MODE_MISSING,
	UFFDIO_REGISTER_MODE_RWP,
	UFFDIO_REGISTER_MODE_WP,
} from '../../include/uapi/linux/userfaultfd.ts';
import { spin_unlock } from '../../kernel/locking/spinlock.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { forkProcess } from '../../mm/fork.ts';
import { remove_migration_pmd, set_pmd_migration_entry } from '../../mm/huge_memory/migrate.ts';
import { __split_huge_pmd } from '../../mm/huge_memory/split_pmd.ts';
import { MADV_HUGEPAGE, MADV_PAGEOUT } from '../../mm/madvise.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { tlb_finish_mmu, tlb_gather_mmu } from '../../mm/mmu_gather.ts';
import { change_protection } from '../../mm/mprotect.ts';
import { MREMAP_FIXED, MREMAP_MAYMOVE } from '../../mm/mremap.ts';
import { pmd_lock, pmdIsHuge, pmdp_get_lockless } from '../../mm/pgtable.ts';
import { folio_get, folio_put } from '../../mm/swap.ts';
import { swapOn } from '../../mm/swapfile.ts';
import {
	exitProcess,
	storeUser64,
	userMprotect,
	userMremap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	handle_userfault,
	new_userfaultfd,
	userfaultfd_ctx_read,
	userfaultfd_register,
	userfaultfd_release,
	userfaultfd_rwprotect,
	userfaultfd_unregister,
	userfaultfd_writeprotect,
} from '../../mm/userfaultfd.ts';
import { EXPECT_EQ, EXPECT_NULL, EXPECT_STREQ, SKIP, TEST_F } from '../kselftest_harness.ts';
import { UffdMonitor } from '../support/uffd_monitor.ts';
import { entryAt, hugeFolioAt, pmdAt, runs, vmaOf } from './entries.ts';
import { processFixture, RELEASES } from './process_fixture.ts';
import {
	at,
	HUGE,
	InvalidationLog,
	madvisePages,
	mapPages,
	mapWritten,
	PAGE,
	RW,
} from './small_machine.ts';

const MISSING = UFFDIO_REGISTER_MODE_MISSING;
const WP = UFFDIO_REGISTER_MODE_WP;
const RWP = UFFDIO_REGISTER_MODE_RWP;
const BYTES = BigInt(HUGE) * PAGE;

const thp = processFixture('uffd_thp', { releases: RELEASES });

/** Runs a test with a monitor of the process, which is closed whatever comes. */
function withMonitor(p: task_struct, test: (m: UffdMonitor) => void): void {
	const m = new UffdMonitor(p, 'copy', () => 0xb0n);
	try {
		test(m);
	} finally {
		m.close();
	}
}

/** A userfaultfd of the process that nobody reads. */
function newContext(p: task_struct): userfaultfd_ctx {
	return run(
		function* (): Sim<userfaultfd_ctx> {
			return new_userfaultfd(0n) as userfaultfd_ctx;
		},
		{ task: p },
	);
}

/** Maps the first 2 MiB by one entry, page i holding i for some of them, and has them watched. */
function mapHuge(p: task_struct, m: UffdMonitor, mode: bigint): void {
	mapPages(p, 0, HUGE);
	EXPECT_EQ(0, madvisePages(p, 0, HUGE, MADV_HUGEPAGE));
	for (const i of [1, 7, 511]) EXPECT_NULL(userWrite64(p, at(i), BigInt(i)));
	EXPECT_EQ(0, run(userfaultfd_register(m.ctx, at(0), BYTES, mode)));
}

function writeprotect(m: UffdMonitor, page: number, pages: number, on: boolean): number {
	return run(userfaultfd_writeprotect(m.ctx, at(page), BigInt(pages) * PAGE, on));
}

/** `page/flags` of the faults heard of since the last call. */
function heard(m: UffdMonitor): string {
	const text = m.heard.map(({ address, flags }) => `${(address - at(0)) / PAGE}/${flags}`);
	m.heard.length = 0;
	return text.join(' ');
}

/** The pmd of a page: `T` for a huge one, `-` for a table, `.` for nothing, and its rights. */
function pmdText(p: task_struct, page: number): string {
	const { value } = pmdAt(p, page);
	if (pmd_none(value)) return '.';
	if (!pmdIsHuge(value)) return '-';
	if (!pmd_present(value)) {
		const kind = pmd_is_migration_entry(value) ? 'm' : '?';
		return `T${kind}${pmd_swp_uffd_wp(value) ? 'u' : ''}`;
	}
	const rights = `${pmd_write(value) ? 'w' : 'r'}${pmd_protnone(value) ? 'n' : ''}`;
	return `T${rights}${pmd_uffd_wp(value) ? 'u' : ''}`;
}

/** How many ptes of 2 MiB have the uffd bit, and how many the right to write. */
function bits(p: task_struct, first = 0): string {
	let uffd = 0;
	let write = 0;
	for (let i = first; i < first + HUGE; i++) {
		const pte = entryAt(p, i).value;
		const present = pte_present(pte);
		if (present ? pte_uffd_wp(pte) : pte_swp_uffd_wp(pte)) uffd++;
		if (present && pte_write(pte)) write++;
	}
	return `u${uffd} w${write}`;
}

/** Does something to a locked pmd, of the first 2 MiB unless another page of it is named. */
function withPmd(p: task_struct, fn: () => Sim<unknown>, page = 0): void {
	run(function* () {
		const ptl = yield* pmd_lock(p.mm!, pmdAt(p, page));
		yield* fn();
		yield* spin_unlock(ptl);
	});
}

/** How many pages of the first 2 MiB change_protection() says that it changed. */
function changed(p: task_struct, cp_flags: bigint): number {
	return run(function* () {
		yield* mmap_read_lock(p.mm!);
		const tlb = tlb_gather_mmu(p.mm!);
		const pages = yield* change_protection(tlb, vmaOf(p, 0), at(0), at(HUGE), cp_flags);
		yield* tlb_finish_mmu(tlb);
		yield* mmap_read_unlock(p.mm!);
		return pages;
	});
}

/** Puts a migration entry in the place of the huge page, which keeps a reference. */
function startMigration(p: task_struct): void {
	folio_get(hugeFolioAt(p, 0));
	withPmd(p, () => set_pmd_migration_entry(vmaOf(p, 0), at(0), pmdAt(p, 0)));
}

TEST_F(thp, 'whole_huge_page_is_protected_by_one_entry', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		const log = new InvalidationLog(p.mm!);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		EXPECT_STREQ('Tru', pmdText(p, 0));
		EXPECT_STREQ('2 0-512', log.take());
		EXPECT_EQ(7n, userRead64(p, at(7)));
		EXPECT_STREQ('', heard(m));
		// exclusive: no fault is needed for the right to come back
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, false));
		EXPECT_STREQ('Tw', pmdText(p, 0));
		EXPECT_NULL(userWrite64(p, at(7), 8n));
		EXPECT_STREQ('', heard(m));
		log.remove();
	});
});

TEST_F(thp, 'write_is_heard_of_and_what_lifts_one_page_splits', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		EXPECT_NULL(userWrite64(p, at(7), 70n));
		EXPECT_STREQ('7/3', heard(m));
		EXPECT_STREQ('-', pmdText(p, 0));
		EXPECT_STREQ('u511 w1', bits(p));
		EXPECT_EQ(70n, userRead64(p, at(7)));
		EXPECT_EQ(511n, userRead64(p, at(511)));
		EXPECT_NULL(userWrite64(p, at(511), 1n));
		EXPECT_STREQ('511/3', heard(m));
	});
});

TEST_F(thp, 'protecting_a_part_splits_and_protects_the_part', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		const log = new InvalidationLog(p.mm!);
		EXPECT_EQ(0, writeprotect(m, 4, 8, true));
		EXPECT_STREQ('2 4-12, 1 0-512', log.take());
		EXPECT_STREQ('u8 w504', bits(p));
		log.remove();
	});
});

TEST_F(thp, 'mprotect_keeps_the_bit_and_gives_no_right_back', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		EXPECT_EQ(0, userMprotect(p, at(0), BYTES, PROT_READ));
		EXPECT_EQ(0, userMprotect(p, at(0), BYTES, RW));
		EXPECT_STREQ('Tru', pmdText(p, 0));
		EXPECT_NULL(userWrite64(p, at(1), 10n));
		EXPECT_STREQ('1/3', heard(m));
	});
});

TEST_F(thp, 'huge_zero_page_is_protected_and_its_parts_after_a_split', ({ p }) => {
	withMonitor(p, (m) => {
		mapPages(p, 0, HUGE);
		EXPECT_EQ(0, madvisePages(p, 0, HUGE, MADV_HUGEPAGE));
		EXPECT_EQ(0n, userRead64(p, at(0)));
		EXPECT_STREQ('TrZ*512', runs(p, 0, HUGE));
		EXPECT_EQ(0, run(userfaultfd_register(m.ctx, at(0), BYTES, WP)));
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		EXPECT_STREQ('Tru', pmdText(p, 0));
		run(__split_huge_pmd(vmaOf(p, 0), pmdAt(p, 0), at(0), false));
		EXPECT_STREQ('rz!*512', runs(p, 0, HUGE));
		EXPECT_STREQ('u512 w0', bits(p));
		EXPECT_NULL(userWrite64(p, at(3), 3n));
		EXPECT_STREQ('3/3', heard(m));
		EXPECT_STREQ('u511 w1', bits(p));
	});
});

TEST_F(thp, 'unregistered_huge_page_is_as_it_was', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		EXPECT_EQ(0, run(userfaultfd_unregister(m.ctx, at(0), BYTES)));
		EXPECT_STREQ('Tw', pmdText(p, 0));
	});
});

TEST_F(thp, 'child_is_not_watched_and_its_entry_not_protected', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		const child = forkProcess(p) as task_struct;
		EXPECT_STREQ('Tru', pmdText(p, 0));
		EXPECT_STREQ('Tr', pmdText(child, 0));
		EXPECT_NULL(userWrite64(child, at(7), 9n));
		EXPECT_STREQ('', heard(m));
		EXPECT_EQ(7n, userRead64(p, at(7)));
		exitProcess(child);
	});
});

TEST_F(thp, 'moved_entry_loses_the_bit_as_nobody_hears_of_the_move', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		const moved = userMremap(
			p,
			at(0),
			BYTES,
			BYTES,
			MREMAP_MAYMOVE | MREMAP_FIXED,
			at(HUGE),
		);
		EXPECT_EQ(at(HUGE), moved);
		EXPECT_STREQ('Tr', pmdText(p, HUGE));
		EXPECT_NULL(userWrite64(p, at(HUGE + 7), 9n));
		EXPECT_STREQ('', heard(m));
		EXPECT_STREQ('Tw', pmdText(p, HUGE));
	});
});

TEST_F(thp, 'migration_entry_remembers_the_protection', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		const f = hugeFolioAt(p, 0);
		startMigration(p);
		EXPECT_STREQ('Tmu', pmdText(p, 0));
		// lifted and put on again while it migrates
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, false));
		EXPECT_STREQ('Tm', pmdText(p, 0));
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		withPmd(p, () => remove_migration_pmd(vmaOf(p, 0), at(0), pmdAt(p, 0), f));
		EXPECT_STREQ('Tru', pmdText(p, 0));
		run(folio_put(f));
		EXPECT_NULL(userWrite64(p, at(7), 9n));
		EXPECT_STREQ('7/3', heard(m));
	});
});

TEST_F(thp, 'writable_migration_entry_that_is_protected_comes_back_read_only', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		const f = hugeFolioAt(p, 0);
		startMigration(p);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		withPmd(p, () => remove_migration_pmd(vmaOf(p, 0), at(0), pmdAt(p, 0), f));
		EXPECT_STREQ('Tru', pmdText(p, 0));
		run(folio_put(f));
	});
});

TEST_F(thp, 'protected_migration_entry_splits_and_forks_with_its_bit', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		const f = hugeFolioAt(p, 0);
		startMigration(p);
		const child = forkProcess(p) as task_struct;
		// both are shared from now on
		EXPECT_STREQ('Tmu', pmdText(p, 0));
		EXPECT_STREQ('Tm', pmdText(child, 0));
		for (const task of [child, p])
			withPmd(task, () =>
				remove_migration_pmd(vmaOf(task, 0), at(0), pmdAt(task, 0), f),
			);
		EXPECT_STREQ('Tru', pmdText(p, 0));
		EXPECT_STREQ('Tr', pmdText(child, 0));
		exitProcess(child);
		withPmd(p, () => set_pmd_migration_entry(vmaOf(p, 0), at(0), pmdAt(p, 0)));
		run(__split_huge_pmd(vmaOf(p, 0), pmdAt(p, 0), at(0), false));
		EXPECT_STREQ('m*512', runs(p, 0, HUGE));
		EXPECT_STREQ('u512 w0', bits(p));
		EXPECT_EQ(0, userMunmap(p, at(0), BYTES));
		run(folio_put(f));
	});
});

TEST_F(thp, 'all_accesses_of_a_protected_huge_page_are_heard_of', ({ p }, { profile }) => {
	if (profile === 'v6.12') SKIP('v6.12 protects against writes only');
	withMonitor(p, (m) => {
		mapHuge(p, m, RWP);
		EXPECT_EQ(0, run(userfaultfd_rwprotect(m.ctx, at(0), BYTES, true)));
		EXPECT_STREQ('Trnu', pmdText(p, 0));
		// what the protection of the VMA becomes changes nothing
		EXPECT_EQ(0, userMprotect(p, at(0), BYTES, PROT_READ));
		EXPECT_EQ(0, userMprotect(p, at(0), BYTES, RW));
		EXPECT_STREQ('Trnu', pmdText(p, 0));
		EXPECT_EQ(7n, userRead64(p, at(7)));
		EXPECT_STREQ('7/8', heard(m));
		EXPECT_STREQ('u511 w1', bits(p));
		// the others of the table are protected against reads as well
		EXPECT_EQ(511n, userRead64(p, at(511)));
		EXPECT_STREQ('511/8', heard(m));
		EXPECT_STREQ('u510 w2', bits(p));
		EXPECT_EQ(0, run(userfaultfd_rwprotect(m.ctx, at(0), BYTES, false)));
		EXPECT_STREQ('u0 w512', bits(p));
	});
});

TEST_F(thp, 'what_is_protected_already_is_left_alone', ({ p }, { profile }) => {
	if (profile === 'v6.12') SKIP('v6.12 protects against writes only');
	withMonitor(p, (m) => {
		mapHuge(p, m, RWP);
		EXPECT_EQ(HUGE, changed(p, MM_CP_UFFD_RWP));
		EXPECT_EQ(0, changed(p, MM_CP_UFFD_RWP));
		EXPECT_STREQ('Trnu', pmdText(p, 0));
		EXPECT_EQ(HUGE, changed(p, MM_CP_UFFD_RWP_RESOLVE));
		EXPECT_EQ(HUGE, changed(p, MM_CP_UFFD_RWP));
	});
});

TEST_F(thp, 'page_that_migrated_is_protected_against_reads_again', ({ p }, { profile }) => {
	if (profile === 'v6.12') SKIP('v6.12 protects against writes only');
	withMonitor(p, (m) => {
		mapHuge(p, m, RWP);
		EXPECT_EQ(0, run(userfaultfd_rwprotect(m.ctx, at(0), BYTES, true)));
		const f = hugeFolioAt(p, 0);
		startMigration(p);
		EXPECT_STREQ('Tmu', pmdText(p, 0));
		withPmd(p, () => remove_migration_pmd(vmaOf(p, 0), at(0), pmdAt(p, 0), f));
		EXPECT_STREQ('Trnu', pmdText(p, 0));
		run(folio_put(f));
		EXPECT_EQ(7n, userRead64(p, at(7)));
		EXPECT_STREQ('7/8', heard(m));
	});
});

TEST_F(thp, 'moved_migration_entry_loses_the_bit', ({ p }) => {
	withMonitor(p, (m) => {
		mapHuge(p, m, WP);
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		const f = hugeFolioAt(p, 0);
		startMigration(p);
		EXPECT_STREQ('Tmu', pmdText(p, 0));
		userMremap(p, at(0), BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, at(HUGE));
		EXPECT_STREQ('Tm', pmdText(p, HUGE));
		const [vma, pmd] = [vmaOf(p, HUGE), pmdAt(p, HUGE)];
		withPmd(p, () => remove_migration_pmd(vma, at(HUGE), pmd, f), HUGE);
		EXPECT_STREQ('Tr', pmdText(p, HUGE));
		run(folio_put(f));
		EXPECT_NULL(userWrite64(p, at(HUGE + 7), 9n));
		EXPECT_STREQ('', heard(m));
	});
});

TEST_F(thp, 'child_and_moved_entry_may_be_accessed', ({ p }, { profile }) => {
	if (profile === 'v6.12') SKIP('v6.12 protects against writes only');
	withMonitor(p, (m) => {
		mapHuge(p, m, RWP);
		EXPECT_EQ(0, run(userfaultfd_rwprotect(m.ctx, at(0), BYTES, true)));
		const child = forkProcess(p) as task_struct;
		EXPECT_STREQ('Trnu', pmdText(p, 0));
		EXPECT_STREQ('Tr', pmdText(child, 0));
		exitProcess(child);
		userMremap(p, at(0), BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, at(HUGE));
		EXPECT_STREQ('Tr', pmdText(p, HUGE));
		EXPECT_EQ(7n, userRead64(p, at(HUGE + 7)));
		EXPECT_STREQ('', heard(m));
	});
});

TEST_F(thp, 'missing_huge_page_is_asked_for_and_filled_page_by_page', ({ p }) => {
	withMonitor(p, (m) => {
		mapPages(p, 0, HUGE);
		EXPECT_EQ(0, madvisePages(p, 0, HUGE, MADV_HUGEPAGE));
		EXPECT_EQ(0, run(userfaultfd_register(m.ctx, at(0), BYTES, MISSING)));
		EXPECT_EQ(0xb0n, userRead64(p, at(9)));
		EXPECT_NULL(userWrite64(p, at(10), 1n));
		EXPECT_STREQ('9/0 10/1', heard(m));
		EXPECT_STREQ('.*9 waxd*2 .*501', runs(p, 0, HUGE));
	});
});

TEST_F(thp, 'page_that_was_swapped_out_meanwhile_is_not_waited_for', ({ p }) => {
	EXPECT_EQ(0, swapOn(new Disk(16)));
	withMonitor(p, (m) => {
		mapWritten(p, 0, 1);
		EXPECT_EQ(0, run(userfaultfd_register(m.ctx, at(0), PAGE, WP)));
		EXPECT_EQ(0, writeprotect(m, 0, 1, true));
		EXPECT_EQ(0, madvisePages(p, 0, 1, MADV_PAGEOUT));
		EXPECT_STREQ('s', runs(p, 0, 1));
		const flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_WRITE;
		const vmf = new vm_fault({ vma: vmaOf(p, 0), address: at(0), flags });
		const ret = run(
			function* () {
				yield* mmap_read_lock(p.mm!);
				return yield* handle_userfault(vmf, VM_UFFD_WP);
			},
			{ task: p },
		);
		EXPECT_EQ(VM_FAULT_RETRY, ret);
		EXPECT_STREQ('', heard(m));
		// the access itself brings it back protected, and asks then
		EXPECT_NULL(userWrite64(p, at(0), 2n));
		EXPECT_STREQ('0/3', heard(m));
	});
});

TEST_F(thp, 'table_that_becomes_a_huge_page_between_two_looks_is_looked_at_again', ({ p }) => {
	const ctx = newContext(p);
	mapPages(p, 0, HUGE);
	EXPECT_EQ(0, madvisePages(p, 0, HUGE, MADV_HUGEPAGE));
	EXPECT_NULL(userWrite64(p, at(7), 7n));
	EXPECT_EQ(0, run(userfaultfd_register(ctx, at(0), BYTES, WP)));
	const pmd = pmdAt(p, 0);
	const whole = pmd.value;
	run(__split_huge_pmd(vmaOf(p, 0), pmd, at(0), false));
	const table = pmd.value;
	const flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_WRITE;
	const results: number[] = [];
	for (let seed = 1; seed <= 40; seed++) {
		spawn(
			'writer',
			function* () {
				const vmf = new vm_fault({
					vma: vmaOf(p, 0),
					address: at(7),
					flags,
				});
				yield* mmap_read_lock(p.mm!);
				results.push(yield* handle_userfault(vmf, VM_UFFD_WP));
			},
			{ mm: p.mm },
		);
		spawn('collapse', function* () {
			for (let i = 0; i < 3; i++) yield* pmdp_get_lockless(pmd);
			pmd.value = whole;
		});
		runThreads(randomStrategy(seed));
		pmd.value = table;
	}
	// who looks may write, in the table and in the huge page: nobody is waited for
	EXPECT_EQ(40, results.filter((ret) => ret === VM_FAULT_RETRY).length);
	run(userfaultfd_release(ctx));
	runThreads();
});

TEST_F(thp, 'shared_memory_has_no_huge_entries_to_protect', ({ p }) => {
	withMonitor(p, (m) => {
		mapPages(p, 0, HUGE, RW, MAP_SHARED);
		userWrite64(p, at(3), 1n);
		EXPECT_EQ(0, run(userfaultfd_register(m.ctx, at(0), BYTES, WP)));
		EXPECT_EQ(0, writeprotect(m, 0, HUGE, true));
		EXPECT_STREQ('-', pmdText(p, 0));
		EXPECT_NULL(userWrite64(p, at(3), 2n));
		EXPECT_STREQ('3/3', heard(m));
	});
});

TEST_F(thp, 'whole_page_that_is_lifted_lets_all_its_writers_go_on', ({ p }) => {
	for (let seed = 1; seed <= 12; seed++) {
		const ctx = newContext(p);
		mapPages(p, 0, HUGE);
		EXPECT_EQ(0, madvisePages(p, 0, HUGE, MADV_HUGEPAGE));
		EXPECT_NULL(userWrite64(p, at(0), 1n));
		EXPECT_EQ(0, run(userfaultfd_register(ctx, at(0), BYTES, WP)));
		EXPECT_EQ(0, run(userfaultfd_writeprotect(ctx, at(0), BYTES, true)));
		let lifted = false;
		const order: string[] = [];
		for (const page of [3, 500])
			spawn(
				`writer ${page}`,
				function* () {
					yield* storeUser64(at(page), BigInt(page));
					order.push(lifted ? 'after' : 'before');
				},
				{ mm: p.mm },
			);
		spawn('monitor', function* () {
			yield* userfaultfd_ctx_read(ctx);
			lifted = true;
			EXPECT_EQ(0, yield* userfaultfd_writeprotect(ctx, at(0), BYTES, false));
		});
		runThreads(randomStrategy(seed));
		EXPECT_STREQ('after after', order.join(' '));
		EXPECT_STREQ('Tw', pmdText(p, 0));
		EXPECT_EQ(3n, userRead64(p, at(3)));
		EXPECT_EQ(500n, userRead64(p, at(500)));
		EXPECT_EQ(0, ctx.faults.length);
		run(userfaultfd_release(ctx));
		EXPECT_EQ(0, userMunmap(p, at(0), BYTES));
	}
});
