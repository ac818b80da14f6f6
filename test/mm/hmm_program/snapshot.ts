// SPDX-License-Identifier: GPL-2.0-only
/** Cases that look at a process's memory, or share it: snapshots, two devices, exclusive access. */
import { EPERM } from '../../../include/linux/errno.ts';
import { MAP_HUGETLB, MAP_PRIVATE, PROT_NONE, PROT_READ } from '../../../include/linux/mm.ts';
import {
	HMM_DMIRROR_CHECK_EXCLUSIVE,
	HMM_DMIRROR_EXCLUSIVE,
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL,
	HMM_DMIRROR_PROT_DEV_COHERENT_REMOTE,
	HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL,
	HMM_DMIRROR_PROT_ERROR,
	HMM_DMIRROR_PROT_NONE,
	HMM_DMIRROR_PROT_PMD,
	HMM_DMIRROR_PROT_READ,
	HMM_DMIRROR_PROT_WRITE,
	HMM_DMIRROR_PROT_ZERO,
	HMM_DMIRROR_READ,
	HMM_DMIRROR_SNAPSHOT,
	HMM_DMIRROR_WRITE,
} from '../../../lib/test_hmm_uapi.ts';
import { ASSERT_EQ, SKIP } from '../../kselftest_harness.ts';
import type { CaseSelf } from './case.ts';
import { mixedPages } from './migrate.ts';
import {
	anonBuffer,
	counting,
	dmirrorCmd,
	HMM_BUFFER_SIZE,
	HmmBuffer,
	hmmBuffer,
	NPAGES,
	PAGE,
	type Process,
	pageAt,
	RW,
	TWOMEG,
	tryBuffer,
	wrongAt,
} from './program.ts';

const INTS = HMM_BUFFER_SIZE / 4;

/** A page that the driver itself maps. */
export function mixedmap({ process, fd }: CaseSelf): void {
	const npages = 1;
	const buffer = hmmBuffer(process, npages * PAGE, npages, RW, MAP_PRIVATE, fd);
	const ret = dmirrorCmd(fd, HMM_DMIRROR_SNAPSHOT, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	ASSERT_EQ(buffer.mirror[0], HMM_DMIRROR_PROT_READ);
	buffer.free();
}

export function snapshot(self: CaseSelf): void {
	const { process, fd0, fd1 } = self;
	const npages = 7;
	const buffer = hmmBuffer(process, npages * PAGE, npages, PROT_NONE, MAP_PRIVATE);
	const p = buffer.ptr;
	ASSERT_EQ(process.munmap(pageAt(buffer, 1), PAGE), 0);
	mixedPages(self, buffer, 3, [4]);
	// pages 5 and 6 were never touched: memory of the devices comes there
	let ret = 0;
	for (const [fd, page] of [
		[fd0, 5n],
		[fd1, 6n],
	] as const) {
		buffer.ptr = p + page * BigInt(PAGE);
		const data = dataPage(buffer);
		ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, data, 1);
		ASSERT_EQ(ret, 0);
		ASSERT_EQ(data.cpages, 1);
	}
	buffer.ptr = p;
	ret = dmirrorCmd(fd0, HMM_DMIRROR_SNAPSHOT, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);

	const m = buffer.mirror;
	ASSERT_EQ(m[0], HMM_DMIRROR_PROT_ERROR);
	ASSERT_EQ(m[1], HMM_DMIRROR_PROT_ERROR);
	ASSERT_EQ(m[2], HMM_DMIRROR_PROT_ZERO | HMM_DMIRROR_PROT_READ);
	ASSERT_EQ(m[3], HMM_DMIRROR_PROT_READ);
	ASSERT_EQ(m[4], HMM_DMIRROR_PROT_WRITE);
	if (self.isCoherent) {
		ASSERT_EQ(m[5], HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL | HMM_DMIRROR_PROT_WRITE);
		ASSERT_EQ(m[6], HMM_DMIRROR_PROT_DEV_COHERENT_REMOTE | HMM_DMIRROR_PROT_WRITE);
	} else {
		ASSERT_EQ(m[5], HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL | HMM_DMIRROR_PROT_WRITE);
		ASSERT_EQ(m[6], HMM_DMIRROR_PROT_NONE);
	}
	buffer.free();
}

/** The program gives a page's data room that it has not; here it gets some. */
function dataPage({ process, ptr }: HmmBuffer): HmmBuffer {
	return new HmmBuffer(process, ptr, PAGE, PAGE);
}

/** Every page of the range is part of a huge one, with this access. */
function allHuge({ fd }: CaseSelf, buffer: HmmBuffer, npages: number, access: number): void {
	const ret = dmirrorCmd(fd, HMM_DMIRROR_SNAPSHOT, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	const m = buffer.mirror;
	const prot = access | HMM_DMIRROR_PROT_PMD;
	for (let i = 0; i < npages; i++) ASSERT_EQ(m[i], prot);
}

export function compound(self: CaseSelf): void {
	const { process } = self;
	const npages = TWOMEG / PAGE;
	const buffer = tryBuffer(process, TWOMEG, npages, RW, MAP_PRIVATE | MAP_HUGETLB);
	if (buffer === null) SKIP('Huge page could not be allocated');
	process.store(buffer.ptr, counting(TWOMEG / 4));
	allHuge(self, buffer, npages, HMM_DMIRROR_PROT_WRITE);
	ASSERT_EQ(process.mprotect(buffer.ptr, TWOMEG, PROT_READ), 0);
	allHuge(self, buffer, npages, HMM_DMIRROR_PROT_READ);
	buffer.free();
}

export function double_map({ process, fd0, fd1 }: CaseSelf): void {
	const npages = 6;
	const size = npages * PAGE;
	const buffer = hmmBuffer(process, size, size, RW, MAP_PRIVATE);
	const values = counting(size / 4);
	process.store(buffer.ptr, values);
	ASSERT_EQ(process.mprotect(buffer.ptr, size, PROT_READ), 0);
	const reads = (fd: typeof fd0): void => {
		buffer.mirror.fill(0);
		const ret = dmirrorCmd(fd, HMM_DMIRROR_READ, buffer, npages);
		ASSERT_EQ(ret, 0);
		ASSERT_EQ(buffer.cpages, npages);
		ASSERT_EQ(buffer.faults, 1);
		ASSERT_EQ(wrongAt(buffer.mirrored, values), -1);
	};
	reads(fd0);
	reads(fd1);
	const ret = dmirrorCmd(fd1, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	// what is on the other device comes back to be read
	reads(fd0);
	buffer.free();
}

/** A filled buffer that the device has for itself. */
function exclusiveBuffer({ process, fd }: CaseSelf): HmmBuffer {
	const npages = NPAGES;
	const buffer = anonBuffer(process);
	process.store(buffer.ptr, counting(INTS));
	const ret = dmirrorCmd(fd, HMM_DMIRROR_EXCLUSIVE, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	return buffer;
}

/** The CPU reads each int, finds what was stored, and adds one; page by page. */
function increment(process: Process, buffer: HmmBuffer): void {
	const n = PAGE / 4;
	for (let page = 0; page < NPAGES; page++) {
		const at = pageAt(buffer, page);
		ASSERT_EQ(wrongAt(process.load(at, n), counting(n, page * n)), -1);
		process.store(at, counting(n, page * n + 1));
	}
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, INTS), counting(INTS, 1)), -1);
}

export function exclusive(self: CaseSelf): void {
	const { process, fd } = self;
	const buffer = exclusiveBuffer(self);
	ASSERT_EQ(wrongAt(buffer.mirrored, counting(INTS)), -1);
	increment(process, buffer);
	// the touch has taken the access away from the device
	const ret = dmirrorCmd(fd, HMM_DMIRROR_CHECK_EXCLUSIVE, buffer, NPAGES);
	ASSERT_EQ(ret, 0);
	buffer.free();
}

export function exclusive_mprotect(self: CaseSelf): void {
	const { process, fd } = self;
	const buffer = exclusiveBuffer(self);
	ASSERT_EQ(wrongAt(buffer.mirrored, counting(INTS)), -1);
	ASSERT_EQ(process.mprotect(buffer.ptr, buffer.size, PROT_READ), 0);
	const ret = dmirrorCmd(fd, HMM_DMIRROR_WRITE, buffer, NPAGES);
	ASSERT_EQ(ret, -EPERM);
	buffer.free();
}

export function exclusive_cow(self: CaseSelf): void {
	const { process } = self;
	const buffer = exclusiveBuffer(self);
	process.inChild((child) => {
		increment(process, buffer);
		increment(child, buffer);
	});
	buffer.free();
}
