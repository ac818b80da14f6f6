// SPDX-License-Identifier: GPL-2.0-only
/** Cases that migrate small pages between the system and a device. */
import { EINVAL, ENOENT } from '../../../include/linux/errno.ts';
import { MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ } from '../../../include/linux/mm.ts';
import {
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_MIGRATE_TO_SYS,
	HMM_DMIRROR_PROT_WRITE,
	HMM_DMIRROR_RELEASE,
	HMM_DMIRROR_SNAPSHOT,
} from '../../../lib/test_hmm_uapi.ts';
import { ASSERT_EQ } from '../../kselftest_harness.ts';
import type { CaseSelf } from './case.ts';
import {
	anonBuffer,
	counting,
	dmirrorCmd,
	HMM_BUFFER_SIZE,
	type HmmBuffer,
	hmmBuffer,
	NPAGES,
	NTIMES,
	PAGE,
	pageAt,
	RW,
	wrongAt,
} from './program.ts';

const INTS = HMM_BUFFER_SIZE / 4;

/** To the device, whose data must be the values that the CPU stored. */
function toDevice({ fd }: CaseSelf, buffer: HmmBuffer, npages: number = NPAGES): void {
	const ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	const n = (npages * PAGE) / 4;
	ASSERT_EQ(wrongAt(buffer.mirrored, counting(n)), -1);
}

/** A buffer with 0, 1, 2, … in it. */
function filled({ process }: CaseSelf): HmmBuffer {
	const buffer = anonBuffer(process);
	process.store(buffer.ptr, counting(INTS));
	return buffer;
}

/** The CPU sees what it stored, in the first half of the buffer. */
function halfIsThere({ process }: CaseSelf, buffer: HmmBuffer): void {
	const n = INTS / 2;
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, n), counting(n)), -1);
}

export function migrate(self: CaseSelf): void {
	const buffer = filled(self);
	toDevice(self, buffer);
	buffer.free();
}

export function migrate_file_private(self: CaseSelf): void {
	const { process } = self;
	const size = HMM_BUFFER_SIZE;
	const f = process.createFile(size);
	const buffer = hmmBuffer(process, size, size, RW, MAP_PRIVATE, f);
	process.store(buffer.ptr, counting(INTS));
	toDevice(self, buffer);
	buffer.free();
}

export function migrate_fault(self: CaseSelf): void {
	const buffer = filled(self);
	toDevice(self, buffer);
	halfIsThere(self, buffer);
	// what is still on the device stays, the rest joins it
	toDevice(self, buffer);
	buffer.free();
}

export function migrate_release(self: CaseSelf): void {
	const buffer = filled(self);
	toDevice(self, buffer);
	const ret = dmirrorCmd(self.fd, HMM_DMIRROR_RELEASE, buffer, NPAGES);
	ASSERT_EQ(ret, 0);
	halfIsThere(self, buffer);
	buffer.free();
}

export function migrate_shared({ process, fd }: CaseSelf): void {
	const buffer = anonBuffer(process, RW, MAP_SHARED);
	const ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, NPAGES);
	ASSERT_EQ(ret, -ENOENT);
	buffer.free();
}

export function migrate_multiple(self: CaseSelf): void {
	const { process, fd, isCoherent } = self;
	const npages = NPAGES;
	for (let c = 0; c < NTIMES; c++) {
		const buffer = filled(self);
		toDevice(self, buffer);
		// the CPU's touch brings private memory back; coherent memory it just reads
		if (isCoherent) {
			const ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_SYS, buffer, npages);
			ASSERT_EQ(ret, 0);
			ASSERT_EQ(buffer.cpages, npages);
		}
		ASSERT_EQ(wrongAt(process.load(buffer.ptr, INTS), counting(INTS)), -1);
		buffer.free();
	}
}

/** An int in a page of a buffer; the page is first made writable. */
export function storeInPage(
	{ process }: CaseSelf,
	buffer: HmmBuffer,
	page: number,
	value: number,
): void {
	process.store(pageAt(buffer, page), Int32Array.of(value));
}

/**
 * What the kinds of page are made of:
 *
 *	page  0  no access      1  hole      2  read-only, zero page      3  read-only, 3 in it
 *	      4 …  writable, 3 in those that `stored` names
 */
export function mixedPages(
	self: CaseSelf,
	buffer: HmmBuffer,
	writable: number,
	stored: readonly number[],
): void {
	const { process } = self;
	ASSERT_EQ(process.mprotect(pageAt(buffer, 2), PAGE, PROT_READ), 0);
	const val = process.load(pageAt(buffer, 2), 1)[0]! + 3;
	ASSERT_EQ(val, 3);
	ASSERT_EQ(process.mprotect(pageAt(buffer, 3), PAGE, RW), 0);
	storeInPage(self, buffer, 3, val);
	ASSERT_EQ(process.mprotect(pageAt(buffer, 3), PAGE, PROT_READ), 0);
	ASSERT_EQ(process.mprotect(pageAt(buffer, 4), writable * PAGE, RW), 0);
	for (const page of stored) storeInPage(self, buffer, page, val);
}

export function migrate_mixed(self: CaseSelf): void {
	const { process, fd0, fd1 } = self;
	const npages = 6;
	const size = npages * PAGE;
	const buffer = hmmBuffer(process, size, size, PROT_NONE, MAP_PRIVATE);
	const p = buffer.ptr;
	// memory without access
	let ret = dmirrorCmd(fd1, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
	ASSERT_EQ(ret, -EINVAL);
	// a hole in the range
	ASSERT_EQ(process.munmap(pageAt(buffer, 1), PAGE), 0);
	ret = dmirrorCmd(fd1, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, 3);
	ASSERT_EQ(ret, -EINVAL);

	mixedPages(self, buffer, 2, [4, 5]);
	buffer.ptr = p + 2n * BigInt(PAGE);
	ret = dmirrorCmd(fd1, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, 4);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, 4);
	// another device cannot take what is on this one
	buffer.ptr = p + 5n * BigInt(PAGE);
	ret = dmirrorCmd(fd0, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, 1);
	ASSERT_EQ(ret, -ENOENT);
	buffer.ptr = p;
	buffer.free();
}

/** The parent writes memory that a child shares, and gets copies in the system. */
export function hmm_cow_in_device(self: CaseSelf): void {
	const { process, fd } = self;
	const npages = 4;
	const size = npages * PAGE;
	const buffer = hmmBuffer(process, size, size, RW, MAP_PRIVATE);
	const values = counting(size / 4);
	process.store(buffer.ptr, values);
	let ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	// the child does nothing until it is killed
	process.inChild(() => process.store(buffer.ptr, values));

	ret = dmirrorCmd(fd, HMM_DMIRROR_SNAPSHOT, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	const m = buffer.mirror;
	for (let i = 0; i < npages; i++) ASSERT_EQ(HMM_DMIRROR_PROT_WRITE, m[i]);
	buffer.free();
}
