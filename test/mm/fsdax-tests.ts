// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: memory of a file system (FS_DAX) is mapped, mirrored and held in a process with the reference
 * counts of its release.
 *
 * ```
 *   count of the page      6.12                    7.3
 *   idle                   1                       0
 *   mapped by n entries    1: devmap, not counted  n: with rmap
 *   held by get_user_pages 1 more                  1 more
 *   who truncates waits    until it is 1           until it is 0
 * ```
 *
 * Method: a file whose faults map pages of a FS_DAX pagemap as fs/dax.c does.
 */

import type { Machine } from '../../arch/sim/machine.ts';
import { EOPNOTSUPP } from '../../include/linux/errno.ts';
import { file, inode, S_DAX } from '../../include/linux/fs.ts';
import { HMM_PFN_REQ_FAULT, HMM_PFN_REQ_WRITE } from '../../include/linux/hmm.ts';
import { dev_pagemap, MEMORY_DEVICE_FS_DAX } from '../../include/linux/memremap.ts';
import { FOLL_GET, FOLL_LONGTERM, FOLL_WRITE, MAP_SHARED } from '../../include/linux/mm.ts';
import {
	address_space,
	FAULT_FLAG_WRITE,
	type page,
	page_folio,
	type vm_area_struct,
	type vm_fault,
	type vm_operations_struct,
} from '../../include/linux/mm_types.ts';
import { memoryMap, page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import { is_fsdax_page } from '../../include/linux/page-flags.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import type { int, vm_fault_t } from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature, world } from '../../include/sim/world.ts';
import { boot } from '../../init/main.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { wait_var_event } from '../../kernel/sched/wait.ts';
import { fput } from '../../mm/file_table.ts';
import { forkProcess } from '../../mm/fork.ts';
import { pin_user_pages_fast } from '../../mm/gup/fast.ts';
import { pin_user_pages, unpin_user_pages } from '../../mm/gup/pin.ts';
import { insertDevmap, unmap_mapping_range, vmf_insert_page_mkwrite } from '../../mm/memory.ts';
import { memremap_pages, memunmap_pages } from '../../mm/memremap.ts';
import { memInit } from '../../mm/mm_init.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { put_page } from '../../mm/swap.ts';
import { createProcess, exitProcess, userMmap, userMunmap } from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { getUserPages } from './entries.ts';
import { snapshot } from './hmm_world.ts';
import { ARENA, PAGE, ptes, RW, smallMachine } from './small_machine.ts';

/** First PFN of the file system's memory. */
const PMEM = 0x100000n;

function* daxFault(vmf: vm_fault): Sim<vm_fault_t> {
	const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
	const p = pfn_to_page(PMEM + vmf.pgoff);
	if (feature('devmap_entries')) return yield* insertDevmap(vmf, PMEM + vmf.pgoff, write);
	// the page cache's entry holds no reference: it is idle until it is mapped
	p._refcount++;
	const ret = yield* vmf_insert_page_mkwrite(vmf, p, write);
	yield* put_page(p);
	return ret;
}

const dax_vm_ops: vm_operations_struct = {
	name: 'dax',
	fault: daxFault,
	*page_mkwrite(vmf) {
		return yield* daxFault(vmf);
	},
};

const dax = FIXTURE(
	'fsdax',
	() => ({
		p: null as unknown as task_struct,
		pgmap: null as unknown as dev_pagemap,
		file: null as unknown as file,
	}),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName, idle: 0 }),
);
FIXTURE_VARIANT_ADD(dax, 'v6_12', { profile: 'v6.12', idle: 1 });
FIXTURE_VARIANT_ADD(dax, 'v7_3', { profile: 'v7.3', idle: 0 });

FIXTURE_SETUP(dax, (self, { profile }) => {
	boot(smallMachine(), profile);
	if (memoryMap().ranges.length === 0) memInit(world().machine as Machine);
	self.p = createProcess('dax');
	self.pgmap = new dev_pagemap({
		type: MEMORY_DEVICE_FS_DAX,
		ranges: [{ start: PMEM << 12n, end: ((PMEM + 512n) << 12n) - 1n }],
		nr_range: 1,
	});
	run(memremap_pages(self.pgmap, 0));
	self.file = new file({
		f_mapping: new address_space(),
		f_op: {
			*mmap(_f: file, vma: vm_area_struct): Sim<int> {
				vma.vm_ops = dax_vm_ops;
				return 0;
			},
		},
	});
	EXPECT_EQ(ARENA, userMmap(self.p, ARENA, 4n * PAGE, RW, MAP_SHARED, self.file) as bigint);
});

FIXTURE_TEARDOWN(dax, (self) => {
	exitProcess(self.p);
	run(fput(self.file));
	run(memunmap_pages(self.pgmap));
});

/** Flags of hmm_range_fault() for one page. */
function mirror(p: task_struct, index: number, flags: bigint): bigint {
	const { ret, words } = snapshot(p, index, 1, flags);
	EXPECT_EQ(0, ret);
	return words[0]!;
}

const READ = HMM_PFN_REQ_FAULT;
const WRITE = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;

/** The page that an index of the file is mapped to, with a reference. */
function hold(p: task_struct, index: number): page {
	const pages: page[] = [];
	EXPECT_EQ(1, getUserPages(p, index, 1, FOLL_GET, pages));
	return pages[0]!;
}

TEST_F(dax, 'counts_of_a_page_from_idle_to_idle', ({ p }, { idle }) => {
	const it = pfn_to_page(PMEM + 1n);
	const counted = idle === 0 ? 1 : 0;
	EXPECT_TRUE(is_fsdax_page(it));
	EXPECT_EQ(idle, it._refcount);
	EXPECT_EQ(PMEM + 1n, mirror(p, 1, READ) & 0xffff_ffffffn);
	// page_mkwrite() is to hear of the first write
	EXPECT_STREQ('.r..', ptes(p.mm!, 0, 4));
	EXPECT_EQ(idle + counted, it._refcount);
	EXPECT_EQ(counted - 1, it._mapcount);
	const held = hold(p, 1);
	EXPECT_TRUE(held === it);
	EXPECT_EQ(idle + counted + 1, it._refcount);
	EXPECT_EQ(0, userMunmap(p, ARENA, 4n * PAGE));
	EXPECT_EQ(idle + 1, it._refcount);
	EXPECT_EQ(-1, it._mapcount);
	run(put_page(held));
	EXPECT_EQ(idle, it._refcount);
});

TEST_F(dax, 'child_faults_the_page_in_by_itself', ({ p }, { idle }) => {
	const it = pfn_to_page(PMEM);
	const counted = idle === 0 ? 1 : 0;
	mirror(p, 0, WRITE);
	const child = forkProcess(p) as task_struct;
	EXPECT_EQ(idle + counted, it._refcount);
	const word = mirror(child, 0, WRITE);
	EXPECT_EQ(idle + 2 * counted, it._refcount);
	EXPECT_EQ(PMEM, word & 0xffff_ffffffn);
	exitProcess(child);
	EXPECT_EQ(idle + counted, it._refcount);
});

TEST_F(dax, 'mirror_has_the_page_with_its_rights', ({ p }) => {
	const valid = 1n << 63n;
	const write = 1n << 62n;
	const snapshot = mirror(p, 2, 0n);
	EXPECT_EQ(0n, snapshot);
	EXPECT_EQ(valid | write, mirror(p, 2, WRITE) & (valid | write));
	EXPECT_EQ(valid | write, mirror(p, 2, 0n) & (valid | write));
	EXPECT_EQ(page_to_pfn(pfn_to_page(PMEM + 2n)) as bigint, mirror(p, 2, 0n) & 0xffff_ffffffn);
});

TEST_F(dax, 'truncation_waits_for_who_holds_the_page', ({ p, file: f }, { idle }) => {
	const it = pfn_to_page(PMEM + 3n);
	mirror(p, 3, WRITE);
	const held = hold(p, 3);
	const order: string[] = [];
	spawn('truncate', function* () {
		yield* unmap_mapping_range(f.f_mapping!, 0n, 0n, true);
		order.push(`unmapped ${it._refcount - idle}`);
		yield* wait_var_event(it, () => it._refcount === idle);
		order.push('idle');
	});
	spawn('holder', function* () {
		while (order.length === 0) yield { access: 'yield', object: it };
		order.push('put');
		yield* put_page(held);
	});
	runThreads();
	EXPECT_STREQ('unmapped 1, put, idle', order.join(', '));
	EXPECT_EQ(PMEM + 3n, page_to_pfn(page_folio(it).page) as bigint);
	EXPECT_STREQ('....', ptes(p.mm!, 0, 4));
});

TEST_F(dax, 'pin_without_end_is_refused_and_a_short_one_is_not', ({ p, file: f }, { idle }) => {
	const host = new inode(f.f_mapping!);
	host.i_flags |= S_DAX;
	const it = pfn_to_page(PMEM);
	mirror(p, 0, WRITE);
	const counted = it._refcount - idle;
	for (const call of [pin_user_pages, pin_user_pages_fast]) {
		const pin = (flags: int, pages: page[]): number =>
			run(
				function* (): Sim<number> {
					const locks = call === pin_user_pages;
					if (locks) yield* mmap_read_lock(p.mm!);
					const got = yield* call(ARENA, 1n, flags, pages);
					if (locks) yield* mmap_read_unlock(p.mm!);
					return got;
				},
				{ task: p },
			);
		const pages: page[] = [];
		EXPECT_EQ(-EOPNOTSUPP, pin(FOLL_WRITE | FOLL_LONGTERM, pages));
		EXPECT_EQ(0, pages.length);
		EXPECT_EQ(idle + counted, it._refcount);
		EXPECT_EQ(1, pin(FOLL_WRITE, pages));
		EXPECT_TRUE(pages[0] === it);
		run(unpin_user_pages(pages, 1n));
		EXPECT_EQ(idle + counted, it._refcount);
	}
});
