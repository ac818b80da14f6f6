// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: from a page to all who map it, and back from migration entries; what the counts refuse.
 * Method: processes that share pages by fork or by a file; a page is unmapped, moved and mapped again
 * by hand, step by step, and while others use it.
 */
import { EAGAIN, EBUSY, ENOMEM } from '../../include/linux/errno.ts';
import type { file } from '../../include/linux/fs.ts';
import { MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ } from '../../include/linux/mm.ts';
import {
	type address_space,
	type folio,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import {
	folio_ref_count,
	folio_test_anon,
	folio_test_dirty,
	PageAnonExclusive,
	PG_active,
	PG_dirty,
	PG_private,
	PG_referenced,
} from '../../include/linux/page-flags.ts';
import { pte_mkold, pte_young } from '../../include/linux/pgtable.ts';
import { TASK_DEAD, type task_struct } from '../../include/linux/sched.ts';
import {
	softleaf_from_pte,
	softleaf_is_migration_read,
	softleaf_is_migration_read_exclusive,
	softleaf_is_migration_write,
} from '../../include/linux/swapops.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { KernelOops } from '../../include/sim/report.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { down_write, up_write } from '../../kernel/locking/rwsem.ts';
import { run, runThreads, spawn, stepThread } from '../../kernel/sched/core.ts';
import { randomStrategy } from '../../kernel/sched/strategy.ts';
import { fput } from '../../mm/file_table.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import { forkProcess } from '../../mm/fork.ts';
import {
	folio_migrate_copy,
	folio_migrate_flags,
	folio_migrate_mapping,
	migration_entry_wait,
	pmd_migration_entry_wait,
	RMP_LOCKED,
	remove_migration_ptes,
} from '../../mm/migrate.ts';
import { alloc_page } from '../../mm/page_alloc.ts';
import {
	anon_vma_lock_read,
	anon_vma_unlock_read,
	folio_add_anon_rmap_pte,
	folio_add_file_rmap_pte,
	folio_add_new_anon_rmap,
	folio_mapcount,
	folio_mapped,
	folio_mapping,
	folio_move_anon_rmap,
	folio_remove_rmap_pte,
	folio_try_share_anon_rmap_pte,
	rmap_walk,
	rmap_walk_locked,
	TTU_RMAP_LOCKED,
	TTU_SYNC,
	try_to_migrate,
	vma_address,
} from '../../mm/rmap.ts';
import { shmem_file_setup, shmemRead, shmemWrite } from '../../mm/shmem.ts';
import { folio_get, folio_put, folio_put_refs, folio_ref_add } from '../../mm/swap.ts';
import {
	exitProcess,
	loadUser64,
	storeUser64,
	userMmap,
	userMprotect,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, dump, entryAt, faultAt, folioAt, pageAt, vmaOf } from './entries.ts';
import { pmdEntry } from './mm_world.ts';
import { processFixture, RELEASES } from './process_fixture.ts';
import { InvalidationLog, mapPages, PAGE, RW, vmaList } from './small_machine.ts';

const rmap = processFixture('rmap', {
	releases: RELEASES,
	ready: (p) => {
		mapPages(p, 0, 8);
		userWrite64(p, at(0), 5n);
	},
});

/** Locks the folio of a page and takes it out of all page tables. */
function* unmap(f: folio, flags = 0): Sim<void> {
	folio_get(f);
	yield* folio_lock(f);
	yield* try_to_migrate(f, flags);
}

/** Ends a migration of `from` to `to`. */
function* finish(from: folio, to: folio): Sim<void> {
	yield* remove_migration_ptes(from, to, 0);
	yield* folio_unlock(from);
	yield* folio_put(from);
	if (to === from) return;
	yield* folio_unlock(to);
	yield* folio_put(to);
}

/** Moves a folio to a new one. */
function* move(f: folio, mapping: address_space | null): Sim<folio | null> {
	const to = page_folio((yield* alloc_page(GFP_HIGHUSER_MOVABLE))!);
	yield* folio_lock(to);
	yield* unmap(f);
	const moved = (yield* folio_migrate_mapping(mapping, to, f, 0)) === 0;
	if (moved) {
		folio_migrate_copy(to, f);
		// as move_to_new_folio(): the old folio of a file is nobody's now
		if (mapping !== null) f.mapping = null;
	} else {
		yield* folio_unlock(to);
		yield* folio_put(to);
	}
	yield* finish(f, moved ? to : f);
	return moved ? to : null;
}

/** Entry of a page that is not present. */
function leaf(p: task_struct, page: number): bigint {
	return softleaf_from_pte(entryAt(p, page).value);
}

/** Whether a call stops the run, with a message that matches. */
function oopses(body: () => Sim<unknown>, pattern: RegExp): boolean {
	try {
		run(body);
	} catch (error) {
		if (!(error instanceof KernelOops)) throw error;
		expectReport(pattern);
		return pattern.test(error.message);
	}
	return false;
}

TEST_F(rmap, 'migration_entry_remembers_rights_and_bits', ({ p }) => {
	const f = folioAt(p, 0);
	const log = new InvalidationLog(p.mm!);
	run(unmap(f));
	EXPECT_TRUE(softleaf_is_migration_write(leaf(p, 0)));
	EXPECT_STREQ('1 0-1', log.take());
	EXPECT_FALSE(folio_mapped(f));
	EXPECT_EQ(1, folio_ref_count(f));
	EXPECT_TRUE(folio_test_dirty(f));
	EXPECT_FALSE(PageAnonExclusive(f.page));
	run(finish(f, f));
	// mapping it again tells nobody
	EXPECT_STREQ('', log.take());
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	EXPECT_TRUE(pte_young(entryAt(p, 0).value));
	userMprotect(p, at(0), PAGE, PROT_READ);
	entryAt(p, 0).value = pte_mkold(entryAt(p, 0).value);
	run(unmap(f, TTU_SYNC));
	EXPECT_TRUE(softleaf_is_migration_read_exclusive(leaf(p, 0)));
	run(finish(f, f));
	EXPECT_STREQ('raxd', dump(p, 0, 1));
	EXPECT_FALSE(pte_young(entryAt(p, 0).value));
	log.remove();
});

TEST_F(rmap, 'page_of_a_family_is_unmapped_in_every_process', ({ p }) => {
	const child = forkProcess(p) as task_struct;
	const grandchild = forkProcess(child) as task_struct;
	const f = folioAt(p, 0);
	EXPECT_EQ(3, folio_mapcount(f));
	run(unmap(f));
	for (const task of [p, child, grandchild])
		EXPECT_TRUE(softleaf_is_migration_read(leaf(task, 0)));
	run(finish(f, f));
	EXPECT_EQ(3, folio_mapcount(f));
	for (const task of [p, child, grandchild]) EXPECT_STREQ('rad', dump(task, 0, 1));
	exitProcess(grandchild);
	exitProcess(child);
});

TEST_F(rmap, 'page_that_may_be_pinned_stays_mapped', ({ p }) => {
	const f = folioAt(p, 0);
	folio_ref_add(f, 1024);
	run(unmap(f));
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	EXPECT_EQ(-EBUSY, folio_try_share_anon_rmap_pte(f, f.page));
	run(folio_put_refs(f, 1024));
	run(finish(f, f));
});

TEST_F(rmap, 'moved_page_keeps_bytes_and_flags', ({ p }) => {
	const f = folioAt(p, 0);
	f.flags |= PG_referenced | PG_active | PG_private;
	f.private = p;
	const to = run(() => move(f, null))!;
	EXPECT_TRUE(folioAt(p, 0) === to);
	EXPECT_EQ(PG_referenced | PG_active, to.flags & (PG_referenced | PG_active | PG_private));
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	EXPECT_EQ(5n, userRead64(p, at(0)));
	EXPECT_EQ(1, folio_ref_count(to));
});

TEST_F(rmap, 'page_that_somebody_refers_to_is_not_moved', ({ p }) => {
	const f = folioAt(p, 0);
	folio_get(f);
	EXPECT_NULL(run(() => move(f, null)));
	EXPECT_STREQ('waxd', dump(p, 0, 1));
	run(function* () {
		EXPECT_EQ(-EAGAIN, yield* folio_migrate_mapping(null, f, f, 5));
	});
	run(folio_put(f));
});

TEST_F(rmap, 'file_page_is_moved_for_all_its_mappings', ({ p }) => {
	const f = run(shmem_file_setup('f', 8n * PAGE, 0n)) as file;
	const mapping = f.f_mapping!;
	run(shmemWrite(f, 2n * PAGE, new Uint8Array([9])));
	userMmap(p, at(16), 4n * PAGE, RW, MAP_SHARED, f, 2n);
	userMmap(p, at(24), 4n * PAGE, RW, MAP_PRIVATE, f, 0n);
	// does not map it at all
	userMmap(p, at(32), PAGE, RW, MAP_SHARED, f, 7n);
	userWrite64(p, at(16), 9n);
	userRead64(p, at(26));
	const from = mapping.i_pages.get(2)!;
	EXPECT_EQ(2, folio_mapcount(from));
	EXPECT_TRUE(folio_mapping(from) === mapping);
	const to = run(() => move(from, mapping))!;
	EXPECT_TRUE(mapping.i_pages.get(2) === to);
	EXPECT_TRUE(folio_test_dirty(to));
	EXPECT_EQ(2, folio_mapcount(to));
	EXPECT_STREQ('wfd rf', `${dump(p, 16, 1)} ${dump(p, 26, 1)}`);
	const seen = new Uint8Array(1);
	run(shmemRead(f, 2n * PAGE, seen));
	EXPECT_EQ(9, seen[0]);
	run(fput(f));
});

TEST_F(rmap, 'walk_under_the_callers_lock', ({ p }) => {
	const f = folioAt(p, 0);
	const av = vmaOf(p, 0).anon_vma!;
	run(function* () {
		yield* anon_vma_lock_read(av);
		yield* unmap(f, TTU_RMAP_LOCKED);
		yield* remove_migration_ptes(f, f, RMP_LOCKED);
		yield* anon_vma_unlock_read(av);
		yield* folio_unlock(f);
		yield* folio_put(f);
	});
	EXPECT_STREQ('waxd', dump(p, 0, 1));
});

TEST_F(rmap, 'walk_ends_when_told_and_leaves_vmas_out', ({ p }) => {
	const child = forkProcess(p) as task_struct;
	const f = folioAt(p, 0);
	const seen: vm_area_struct[] = [];
	const note = function* (_f: folio, vma: vm_area_struct): Sim<boolean> {
		seen.push(vma);
		return seen.length < 9;
	};
	run(rmap_walk(f, { arg: null, rmap_one: note, invalid_vma: (vma) => vma.vm_mm === p.mm }));
	EXPECT_EQ(1, seen.length);
	run(rmap_walk(f, { arg: null, rmap_one: note, done: () => true }));
	EXPECT_EQ(2, seen.length);
	seen.length = 8;
	run(rmap_walk(f, { arg: null, rmap_one: note }));
	EXPECT_EQ(9, seen.length);
	const free = page_folio(run(alloc_page(GFP_HIGHUSER_MOVABLE))!);
	run(rmap_walk(free, { arg: null, rmap_one: note }));
	run(rmap_walk_locked(free, { arg: null, rmap_one: note }));
	EXPECT_EQ(9, seen.length);
	run(folio_put(free));
	exitProcess(child);
});

TEST_F(rmap, 'address_of_a_page_in_a_vma', ({ p }) => {
	const vma = vmaOf(p, 0);
	const first = vma.vm_pgoff;
	EXPECT_EQ(at(3), vma_address(vma, first + 3n, 1));
	EXPECT_NULL(vma_address(vma, first + 8n, 1));
	EXPECT_NULL(vma_address(vma, first - 1n, 1));
	EXPECT_EQ(at(0), vma_address(vma, first - 1n, 2));
});

TEST_F(rmap, 'unknown_flags_are_refused', ({ p }) => {
	run(try_to_migrate(folioAt(p, 0), 0x1));
	expectReport(/other TTU flags/);
	EXPECT_STREQ('waxd', dump(p, 0, 1));
});

// --- waiting ---

TEST_F(rmap, 'touch_waits_for_the_end_of_a_migration', ({ p }) => {
	for (let seed = 1; seed <= 40; seed++) {
		userWrite64(p, at(0), 5n);
		const seen: unknown[] = [];
		world().preemptible = true;
		spawn(
			'user',
			function* () {
				seen.push(yield* loadUser64(at(0)));
				yield* storeUser64(at(0), 6n);
				seen.push(yield* loadUser64(at(0)));
			},
			{ mm: p.mm, cpu: 1 },
		);
		spawn('migrator', () => move(folioAt(p, 0), null));
		runThreads(randomStrategy(seed));
		world().preemptible = false;
		EXPECT_STREQ('5,6', seen.join(','));
		EXPECT_EQ(6n, userRead64(p, at(0)));
	}
});

TEST_F(rmap, 'cpu_that_remembers_the_page_waits_too', ({ p }) => {
	const f = folioAt(p, 0);
	p.cpu = 1;
	EXPECT_NULL(userWrite64(p, at(0), 6n));
	run(unmap(f));
	let stored = false;
	const user = spawn(
		'user',
		function* () {
			yield* storeUser64(at(0), 7n);
			stored = true;
		},
		{ mm: p.mm, cpu: 1 },
	);
	while (user.__state !== TASK_DEAD && user.point?.ready?.() !== false) stepThread(user);
	EXPECT_FALSE(stored);
	run(finish(f, f));
	runThreads();
	EXPECT_EQ(7n, userRead64(p, at(0)));
});

TEST_F(rmap, 'nothing_to_wait_for', ({ p }) => {
	const pmd = pmdEntry(p, at(0));
	run(function* () {
		yield* migration_entry_wait(p.mm!, pmd, at(0));
		yield* migration_entry_wait(p.mm!, pmd, at(1));
		yield* pmd_migration_entry_wait(p.mm!, pmd);
	});
	const word = pmd.value;
	pmd.value = 0n;
	run(migration_entry_wait(p.mm!, pmd, at(0)));
	pmd.value = word;
	EXPECT_EQ(5n, userRead64(p, at(0)));
});

TEST_F(rmap, 'pmd_migration_entry_is_waited_for', ({ p }) => {
	const f = folioAt(p, 0);
	const pmd = pmdEntry(p, at(0));
	const table = pmd.value;
	run(unmap(f));
	// a migration entry of a huge page looks as that of a small one
	pmd.value = entryAtWord(p);
	spawn('waiter', () => pmd_migration_entry_wait(p.mm!, pmd));
	spawn('owner', function* () {
		pmd.value = table;
		yield* finish(f, f);
	});
	runThreads();
	EXPECT_EQ(5n, userRead64(p, at(0)));
});

function entryAtWord(p: task_struct): bigint {
	return entryAt(p, 0).value;
}

// --- anon_vmas ---

TEST_F(rmap, 'neighbours_share_an_anon_vma_so_that_they_merge_later', ({ p }) => {
	userMmap(p, at(16), 2n * PAGE, RW | PROT_EXEC, MAP_PRIVATE);
	mapPages(p, 18, 2);
	userMmap(p, at(20), 2n * PAGE, RW | PROT_EXEC, MAP_PRIVATE);
	for (const page of [18, 16, 20]) userWrite64(p, at(page), 1n);
	const av = vmaOf(p, 18).anon_vma;
	EXPECT_TRUE(vmaOf(p, 16).anon_vma === av && vmaOf(p, 20).anon_vma === av);
	userMprotect(p, at(16), 6n * PAGE, RW);
	EXPECT_STREQ('0-8:rw 16-22:rw', vmaList(p.mm!));
});

TEST_F(rmap, 'strangers_do_not_share_an_anon_vma', ({ p }) => {
	const child = forkProcess(p) as task_struct;
	// next to a VMA that belongs to a family, and next to nothing
	userMmap(child, at(8), PAGE, RW | PROT_EXEC, MAP_PRIVATE);
	mapPages(child, 12, 1);
	userWrite64(child, at(8), 1n);
	userWrite64(child, at(12), 1n);
	EXPECT_TRUE(vmaOf(child, 8).anon_vma !== vmaOf(child, 0).anon_vma);
	EXPECT_EQ(1, vmaOf(child, 12).anon_vma_chain.length);
	exitProcess(child);
});

TEST_F(rmap, 'split_that_fails_leaves_one_vma', ({ p }) => {
	injectFaults().fail('anon_vma_chain_alloc', 1);
	EXPECT_EQ(-ENOMEM, userMprotect(p, at(2), PAGE, PROT_READ));
	EXPECT_STREQ('0-8:rw', vmaList(p.mm!));
	EXPECT_EQ(1, vmaOf(p, 0).anon_vma!.num_active_vmas);
	EXPECT_EQ(1, vmaOf(p, 0).anon_vma!.chains.size);
});

TEST_F(rmap, 'whoever_changes_the_family_waits_for_walkers', ({ p }) => {
	const av = vmaOf(p, 0).anon_vma!;
	const order: string[] = [];
	spawn('walker', function* () {
		yield* anon_vma_lock_read(av);
		yield { access: 'yield', object: av };
		order.push('walked');
		yield* anon_vma_unlock_read(av);
	});
	spawn('changer', function* () {
		yield* down_write(av.root.rwsem);
		order.push('changed');
		yield* up_write(av.root.rwsem);
	});
	runThreads();
	EXPECT_STREQ('walked,changed', order.join(','));
});

// --- what must not happen ---

TEST_F(rmap, 'anonymous_page_outside_of_its_vma_is_a_bug', ({ p }) => {
	const f = page_folio(run(alloc_page(GFP_HIGHUSER_MOVABLE))!);
	const vma = vmaOf(p, 0);
	EXPECT_TRUE(oopses(() => folio_add_new_anon_rmap(f, vma, at(8), 1), /outside of its VMA/));
	mapPages(p, 16, 1);
	const bare = vmaOf(p, 16);
	EXPECT_TRUE(oopses(() => folio_add_new_anon_rmap(f, bare, at(16), 1), /without anon_vma/));
	EXPECT_TRUE(
		oopses(function* () {
			folio_move_anon_rmap(f, bare);
		}, /without anon_vma/),
	);
	EXPECT_FALSE(folio_test_anon(f));
	run(folio_put(f));
});

TEST_F(rmap, 'page_mapped_where_it_does_not_belong_is_a_bug', ({ p }) => {
	const page = pageAt(p, 0);
	const f = page_folio(page);
	const vma = vmaOf(p, 0);
	EXPECT_TRUE(
		oopses(() => folio_add_anon_rmap_pte(f, page, vma, at(1), 0), /does not belong/),
	);
	EXPECT_TRUE(
		oopses(() => folio_add_anon_rmap_pte(f, page, vma, at(0), 0), /more than once/),
	);
	page._mapcount = 0;
	mapPages(p, 16, 1);
	userWrite64(p, at(16), 1n);
	const other = vmaOf(p, 16);
	EXPECT_TRUE(
		oopses(() => folio_add_anon_rmap_pte(f, page, other, at(16), 0), /another family/),
	);
	run(folio_add_file_rmap_pte(f, page, vma));
	expectReport(/file rmap of an anonymous folio/);
	page._mapcount = 0;
	page.flags &= ~PG_dirty;
});

TEST_F(rmap, 'mapping_removed_twice_is_a_bug', ({ p }) => {
	const page = page_folio(run(alloc_page(GFP_HIGHUSER_MOVABLE))!).page;
	const f = page_folio(page);
	EXPECT_TRUE(oopses(() => folio_remove_rmap_pte(f, page, vmaOf(p, 0)), /that has none/));
	folio_try_share_anon_rmap_pte(f, page);
	expectReport(/page to be shared is not exclusive/);
	folio_migrate_flags(f, f);
	EXPECT_EQ(0, faultAt(p, 1));
	run(folio_put(f));
});
