// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: bad memory of a device is its driver's affair; where the driver says nothing, memory that the
 * device uses by itself is refused, and a file's page is taken from everybody. Method: pages of each
 * kind of pagemap, with and without an op, in both releases; entries and references are looked at.
 */
import { EBUSY, ENXIO, EOPNOTSUPP } from '../../../include/linux/errno.ts';
import { file } from '../../../include/linux/fs.ts';
import { dev_pagemap, MEMORY_DEVICE_FS_DAX } from '../../../include/linux/memremap.ts';
import { FOLL_WRITE, MAP_PRIVATE, MAP_SHARED } from '../../../include/linux/mm.ts';
import {
	address_space,
	FAULT_FLAG_WRITE,
	type page,
	type vm_area_struct,
	type vm_fault,
	type vm_operations_struct,
} from '../../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../../include/linux/mmzone.ts';
import { PG_hwpoison } from '../../../include/linux/page-flags.ts';
import { pte_none } from '../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { softleaf_from_pte, softleaf_to_page } from '../../../include/linux/swapops.ts';
import type { int, unsigned_long, vm_fault_t } from '../../../include/linux/types.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { feature } from '../../../include/sim/world.ts';
import { run } from '../../../kernel/sched/core.ts';
import { fput } from '../../../mm/file_table.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { MADV_HWPOISON } from '../../../mm/madvise.ts';
import { insertDevmap, vmf_insert_page_mkwrite } from '../../../mm/memory.ts';
import { memory_failure } from '../../../mm/memory-failure.ts';
import { memremap_pages, memunmap_pages } from '../../../mm/memremap.ts';
import { get_page, put_page } from '../../../mm/swap.ts';
import {
	createProcess,
	exitProcess,
	userMmap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST_F,
} from '../../kselftest_harness.ts';
import { at, entryAt, getUserPages, pageAt, runs } from '../entries.ts';
import { bootMm, TestDevice, toDevice } from '../mm_world.ts';
import { processFixture, RELEASES } from '../process_fixture.ts';
import { madvisePages, mapWritten, PAGE, RW } from '../small_machine.ts';

/** First PFN of the memory of a device or file system. */
const BASE = 0x100000n;

const device = processFixture('memory_failure_device', { releases: RELEASES, boot: bootMm });

/** memory_failure() for a task, with a reference of its own where pages in use have some. */
function machineCheck(p: task_struct, bad: page): int {
	get_page(bad);
	return run(memory_failure(bad), { task: p });
}

/** A device with one page of the process, at page 0, in its memory; afterwards it is gone. */
function withMigrated(
	p: task_struct,
	coherent: boolean,
	test: (dev: TestDevice, moved: page) => void,
): void {
	const dev = new TestDevice(BASE, coherent);
	run(dev.probe());
	mapWritten(p, 0, 2);
	EXPECT_EQ(1, run(toDevice(dev, p.mm!, at(0), 1)));
	const word = entryAt(p, 0).value;
	test(dev, coherent ? pageAt(p, 0) : softleaf_to_page(softleaf_from_pte(word)));
	EXPECT_EQ(0, userMunmap(p, at(0), 2n * PAGE));
	run(dev.remove());
}

TEST_F(device, 'coherent_memory_is_ENXIO_and_stays_mapped', ({ p }) => {
	withMigrated(p, true, (_dev, moved) => {
		EXPECT_EQ(-ENXIO, madvisePages(p, 0, 1, MADV_HWPOISON));
		EXPECT_TRUE((moved.flags & PG_hwpoison) === 0);
		EXPECT_EQ(1, moved._refcount);
		EXPECT_TRUE(pageAt(p, 0) === moved);
		EXPECT_EQ(0, p.siginfo.length);
	});
});

TEST_F(device, 'private_memory_is_ENXIO_and_stays_with_the_device', ({ p }) => {
	withMigrated(p, false, (_dev, moved) => {
		EXPECT_EQ(-ENXIO, machineCheck(p, moved));
		EXPECT_EQ(1, moved._refcount);
		EXPECT_STREQ('D', runs(p, 0, 1));
	});
});

TEST_F(device, 'driver_decides_first', ({ p }) => {
	const calls: string[] = [];
	withMigrated(p, true, (dev, moved) => {
		let answer = 0;
		dev.pgmap.ops = {
			...dev.pgmap.ops,
			memory_failure(
				pgmap: dev_pagemap,
				pfn: unsigned_long,
				n: unsigned_long,
			): int {
				EXPECT_TRUE(pgmap === dev.pgmap);
				calls.push(`${pfn - BASE}+${n}`);
				return answer;
			},
		};
		EXPECT_EQ(0, machineCheck(p, moved));
		EXPECT_EQ(1, moved._refcount);
		answer = -EBUSY;
		EXPECT_EQ(-EBUSY, machineCheck(p, moved));
		// it leaves it to the kernel
		answer = -EOPNOTSUPP;
		EXPECT_EQ(-ENXIO, machineCheck(p, moved));
		EXPECT_STREQ('0+1 0+1 0+1', calls.join(' '));
	});
});

function* daxFault(vmf: vm_fault): Sim<vm_fault_t> {
	const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
	const pfn = BASE + vmf.pgoff;
	if (feature('devmap_entries')) return yield* insertDevmap(vmf, pfn, write);
	const p = pfn_to_page(pfn);
	// the page cache's entry holds no reference: it is idle until it is mapped
	p._refcount++;
	const ret = yield* vmf_insert_page_mkwrite(vmf, p, write);
	yield* put_page(p);
	return ret;
}

const daxOps: vm_operations_struct = { name: 'dax', fault: daxFault };

/** A file of a DAX file system, its first page mapped by the process; afterwards it is gone. */
function withDax(p: task_struct, test: (mapping: address_space, f: file) => void): void {
	const pgmap = new dev_pagemap({
		type: MEMORY_DEVICE_FS_DAX,
		ranges: [{ start: BASE << 12n, end: ((BASE + 512n) << 12n) - 1n }],
		nr_range: 1,
	});
	run(memremap_pages(pgmap, 0));
	const mapping = new address_space();
	const f = new file({
		f_mapping: mapping,
		f_op: {
			*mmap(_f: file, vma: vm_area_struct): Sim<int> {
				vma.vm_ops = daxOps;
				return 0;
			},
		},
	});
	EXPECT_EQ(at(0), userMmap(p, at(0), 4n * PAGE, RW, MAP_SHARED, f) as bigint);
	EXPECT_EQ(4, getUserPages(p, 0, 4, FOLL_WRITE, null));
	test(mapping, f);
	if (p.mm !== null) userMunmap(p, at(0), 4n * PAGE);
	run(fput(f));
	run(memunmap_pages(pgmap));
}

/** What fs/dax.c does when a page of a file gets its place: the page knows it. */
function placed(index: bigint, mapping: address_space): page {
	const p = pfn_to_page(BASE + index);
	p.mapping = mapping;
	p.index = index;
	return p;
}

TEST_F(device, 'page_of_a_file_is_unmapped_and_who_uses_it_is_told', ({ p }) => {
	withDax(p, (mapping) => {
		const bad = placed(1n, mapping);
		const other = createProcess('other');
		EXPECT_EQ(0, machineCheck(other, bad));
		EXPECT_EQ(0, other.siginfo.length);
		EXPECT_STREQ('1011', mappedText(p));
		EXPECT_TRUE((bad.flags & PG_hwpoison) !== 0);
		exitProcess(other);
		const next = placed(2n, mapping);
		EXPECT_EQ(0, machineCheck(p, next));
		EXPECT_STREQ('{"sig":7,"code":4}', JSON.stringify(p.siginfo.shift()));
		EXPECT_STREQ('1001', mappedText(p));
		for (const q of [bad, next]) q.mapping = null;
	});
});

TEST_F(device, 'who_covers_a_page_of_a_file_but_does_not_map_it_is_not_told', ({ p }) => {
	withDax(p, (mapping) => {
		const bad = placed(1n, mapping);
		const other = forkProcess(p) as task_struct;
		EXPECT_EQ(0, machineCheck(other, bad));
		EXPECT_EQ(0, other.siginfo.length);
		EXPECT_STREQ('1011', mappedText(p));
		const next = placed(2n, mapping);
		EXPECT_EQ(1, getUserPages(other, 2, 1, FOLL_WRITE, null));
		EXPECT_EQ(0, machineCheck(other, next));
		EXPECT_EQ(1, other.siginfo.length);
		EXPECT_EQ(0, p.siginfo.length);
		exitProcess(other);
		for (const q of [bad, next]) q.mapping = null;
	});
});

TEST_F(device, 'who_has_a_copy_of_his_own_is_told_by_7_3_only', ({ p }, { profile }) => {
	withDax(p, (mapping, f) => {
		const other = createProcess('other');
		EXPECT_EQ(at(0), userMmap(other, at(0), 4n * PAGE, RW, MAP_PRIVATE, f) as bigint);
		EXPECT_EQ(1, getUserPages(other, 1, 1, 0, null));
		EXPECT_NULL(userWrite64(other, at(1), 1n));
		const bad = placed(1n, mapping);
		EXPECT_FALSE(page_to_pfn(pageAt(other, 1)) === page_to_pfn(bad));
		// both look at the address alone, and 6.12 for the devmap bit of its entry
		EXPECT_EQ(0, machineCheck(other, bad));
		EXPECT_EQ(profile === 'v6.12' ? 0 : 1, other.siginfo.length);
		EXPECT_EQ(1n, userRead64(other, at(1)));
		exitProcess(other);
		bad.mapping = null;
	});
});

TEST_F(device, 'page_that_no_file_has_is_EBUSY', ({ p }) => {
	withDax(p, () => {
		const p3 = pfn_to_page(BASE + 3n);
		EXPECT_EQ(-EBUSY, machineCheck(p, p3));
		EXPECT_TRUE((p3.flags & PG_hwpoison) === 0);
		EXPECT_STREQ('1111', mappedText(p));
	});
});

/** `1` for each of the first four pages that is mapped. */
function mappedText(p: task_struct): string {
	return [0, 1, 2, 3].map((i) => (pte_none(entryAt(p, i).value) ? '0' : '1')).join('');
}
