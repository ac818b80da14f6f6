// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: system calls and hmm_range_fault() treat a driver's mappings as what they are: PFNs without
 * struct pages, pages of its own, holes of a device. Method: a driver maps one kind a file
 * (support/special_mappings.ts); calls and touches are made on each kind, and entries read.
 */
import { EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import { HMM_PFN_ERROR, HMM_PFN_REQ_FAULT, HMM_PFN_VALID } from '../../include/linux/hmm.ts';
import { MADV_DONTNEED, MAP_SHARED, PROT_READ } from '../../include/linux/mm.ts';
import { VM_FAULT_NOPAGE, VM_FAULT_SIGBUS } from '../../include/linux/mm_types.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { boot } from '../../init/main.ts';
import { run } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import { MADV_POPULATE_READ } from '../../mm/madvise.ts';
import { vmf_insert_mixed, vmf_insert_pfn } from '../../mm/memory.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from '../../mm/mremap.ts';
import {
	createProcess,
	exitProcess,
	userMadvise,
	userMlock,
	userMmap,
	userMprotect,
	userMremap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { type SpecialKind, SpecialMappings, specialKinds } from '../support/special_mappings.ts';
import { snapshot } from './hmm_world.ts';
import {
	at,
	mapPages,
	PAGE,
	ptes,
	RW,
	signalText,
	smallMachine,
	vmaList,
} from './small_machine.ts';

const MOVE = MREMAP_MAYMOVE | MREMAP_FIXED;

const special = FIXTURE('special_mappings', () => ({
	p: null as unknown as task_struct,
	driver: null as unknown as SpecialMappings,
}));

FIXTURE_SETUP(special, (self) => {
	boot(smallMachine());
	self.p = createProcess('special');
	self.driver = new SpecialMappings();
});

FIXTURE_TEARDOWN(special, (self) => {
	exitProcess(self.p);
	self.driver.close();
});

function map(
	{ p, driver }: { readonly p: task_struct; readonly driver: SpecialMappings },
	kind: SpecialKind,
	page: number,
	pages: number,
	prot = RW,
): bigint | number {
	return userMmap(p, at(page), BigInt(pages) * PAGE, prot, MAP_SHARED, driver.file(kind));
}

/** `v` valid, `e` error, `.` neither, of each page of a range; or the errno. */
function mirror(p: task_struct, page: number, pages: number, fault: boolean): string {
	const { ret, words } = snapshot(p, page, pages, fault ? HMM_PFN_REQ_FAULT : 0n);
	if (ret !== 0) return String(ret);
	const letter = (w: bigint) => (w & HMM_PFN_ERROR ? 'e' : w & HMM_PFN_VALID ? 'v' : '.');
	return [...words].map(letter).join('');
}

TEST_F(special, 'mirror_sees_only_pages_that_the_core_counts', (self) => {
	const seen = specialKinds.map((kind, i) => {
		map(self, kind, 8 * i, 2);
		return `${kind} ${mirror(self.p, 8 * i, 2, false)} ${mirror(self.p, 8 * i, 2, true)}`;
	});
	EXPECT_STREQ('pf ee -14, mx vv vv, sp ee -14, io ee -14, pe ee -14', seen.join(', '));
});

TEST_F(special, 'process_reads_and_writes_what_is_mapped', (self) => {
	const { p } = self;
	for (const [i, kind] of (['pf', 'mx', 'io'] as const).entries()) {
		map(self, kind, 8 * i, 2);
		EXPECT_EQ(
			i === 0 ? 0xcafe0001n : 0x77n + BigInt(i - 1),
			userRead64(p, at(8 * i + 1)),
		);
		// one page behind all mappings
		EXPECT_NULL(userWrite64(p, at(8 * i + 1), 0x77n + BigInt(i)));
	}
	map(self, 'pe', 40, 1);
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(p, at(40))));
});

TEST_F(special, 'advice_and_locks_are_taken_or_refused_by_the_kind_of_mapping', (self) => {
	const { p } = self;
	for (const [i, kind] of specialKinds.entries()) map(self, kind, 8 * i, 2);
	const advised = specialKinds.map((_, i) =>
		[
			userMadvise(p, at(8 * i), PAGE, MADV_POPULATE_READ),
			userMlock(p, at(8 * i), PAGE),
			userMadvise(p, at(8 * i), PAGE, MADV_DONTNEED),
		].join(' '),
	);
	EXPECT_STREQ(
		[
			`${-EINVAL} 0 ${-EINVAL}`,
			'0 0 0',
			'0 0 0',
			`${-EINVAL} 0 0`,
			`${-EINVAL} 0 ${-EINVAL}`,
		].join(', '),
		advised.join(', '),
	);
	EXPECT_STREQ('ww .w .w .w ..', specialKinds.map((_, i) => ptes(p.mm!, 8 * i, 2)).join(' '));
	EXPECT_EQ(0n, p.mm!.locked_vm);
	// nobody brings it back
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(p, at(8))));
});

TEST_F(special, 'mappings_move_and_are_not_doubled', (self) => {
	const { p } = self;
	for (const [i, kind] of specialKinds.entries()) map(self, kind, 8 * i, 2);
	const moved = specialKinds.map((_, i) => {
		const from = at(8 * i);
		const kept = userMremap(
			p,
			from,
			PAGE,
			PAGE,
			MOVE | MREMAP_DONTUNMAP,
			at(8 * i + 4),
		);
		const ret = userMremap(p, from + PAGE, PAGE, PAGE, MOVE, at(8 * i + 5));
		return `${typeof kept === 'number' ? kept : 'kept'} ${ret === at(8 * i + 5)}`;
	});
	// remap_pfn_range() says VM_DONTEXPAND
	EXPECT_STREQ('-22 true, kept true, kept true, kept true, -22 true', moved.join(', '));
	EXPECT_STREQ('ww', ptes(p.mm!, 12, 2));
	EXPECT_EQ(0xcafe0001n, userRead64(p, at(5)));
	EXPECT_EQ(0xcafe0001n, userRead64(p, at(13)));
});

TEST_F(special, 'child_has_the_entries_and_mprotect_changes_them', (self) => {
	const { p } = self;
	map(self, 'pf', 0, 2);
	map(self, 'mx', 4, 2);
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(0xcafe0001n, userRead64(child, at(1)));
	EXPECT_EQ(0xcafe0001n, userRead64(child, at(5)));
	exitProcess(child);
	// a gap in it: what lies before is changed
	EXPECT_EQ(-ENOMEM, userMprotect(p, at(0), 6n * PAGE, PROT_READ));
	EXPECT_STREQ('rr', ptes(p.mm!, 0, 2));
	EXPECT_STREQ('sig 11 code 2', signalText(userWrite64(p, at(1), 1n)));
	EXPECT_EQ(0, userMunmap(p, at(0), 8n * PAGE));
	for (const page of self.driver.pages) EXPECT_EQ(1, page._refcount);
});

TEST_F(special, 'driver_that_fails_half_way_leaves_nothing', (self) => {
	const { p, driver } = self;
	EXPECT_EQ(-EINVAL, map(self, 'mx', 0, 65) as number);
	const { pgtables } = p.mm!;
	// the second table is not to be had: the first page is mapped already
	injectFaults().fail('alloc_pages', 4);
	EXPECT_EQ(-ENOMEM, map(self, 'mx', 511, 2) as number);
	EXPECT_STREQ('', vmaList(p.mm!));
	EXPECT_EQ(pgtables, p.mm!.pgtables);
	EXPECT_EQ(1, driver.pages[0]!._refcount);
	EXPECT_EQ(1, driver.file('mx').f_count);
});

TEST_F(special, 'entry_that_a_fault_handler_inserts_is_not_inserted_twice', (self) => {
	const { p } = self;
	map(self, 'pe', 0, 1);
	map(self, 'sp', 4, 1);
	mapPages(p, 8, 1);
	const [pe, sp] = p.mm!.vmas;
	run(function* () {
		yield* mmap_read_lock(p.mm!);
		EXPECT_EQ(VM_FAULT_NOPAGE, yield* vmf_insert_pfn(pe!, at(0), 0xfe000n));
		// somebody was faster
		EXPECT_EQ(VM_FAULT_NOPAGE, yield* vmf_insert_pfn(pe!, at(0), 0xfe000n));
		EXPECT_EQ(VM_FAULT_SIGBUS, yield* vmf_insert_pfn(pe!, at(1), 0xfe000n));
		EXPECT_EQ(VM_FAULT_NOPAGE, yield* vmf_insert_mixed(sp!, at(4), 0xfe000n));
		yield* mmap_read_unlock(p.mm!);
	});
	EXPECT_STREQ('w', ptes(p.mm!, 0, 1));
});
