// SPDX-License-Identifier: GPL-2.0-only
/** Cases that read and write system memory through the device: anonymous memory, huge pages, files. */

import { EFAULT, EPERM } from '../../../include/linux/errno.ts';
import {
	MAP_HUGETLB,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_NONE,
	PROT_READ,
} from '../../../include/linux/mm.ts';
import { run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../kernel/sched/strategy.ts';
import {
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_READ,
	HMM_DMIRROR_WRITE,
	hmm_dmirror_cmd,
} from '../../../lib/test_hmm_uapi.ts';
import { MADV_HUGEPAGE } from '../../../mm/madvise.ts';
import { shmemRead, shmemWrite } from '../../../mm/shmem.ts';
import { vm_munmap } from '../../../mm/vma.ts';
import { ASSERT_EQ, ASSERT_NE, SKIP } from '../../kselftest_harness.ts';
import type { CaseSelf } from './case.ts';
import {
	align,
	alignedBuffer,
	anonBuffer,
	counting,
	countingDown,
	dmirrorCmd,
	freeAligned,
	HMM_BUFFER_SIZE,
	HMM_PRIVATE_DEVICE_ONE,
	type HmmBuffer,
	hmmBuffer,
	NPAGES,
	NTIMES,
	PAGE,
	type Process,
	pageAt,
	RW,
	TWOMEG,
	tryBuffer,
	wrongAt,
	zeros,
} from './program.ts';

const INTS = HMM_BUFFER_SIZE / 4;
const PAGE_INTS = PAGE / 4;

export function anon_read({ process, fd }: CaseSelf): void {
	const npages = NPAGES;
	const buffer = anonBuffer(process);
	// the first two pages stay what they are: an empty entry and the zero page
	const values = counting(INTS).slice();
	process.store(pageAt(buffer, 2), values.subarray(2 * PAGE_INTS));
	values.fill(0, 0, 2 * PAGE_INTS);
	ASSERT_EQ(process.mprotect(buffer.ptr, buffer.size, PROT_READ), 0);
	ASSERT_EQ(process.load(pageAt(buffer, 1), 1)[0], 0);

	const ret = dmirrorCmd(fd, HMM_DMIRROR_READ, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	ASSERT_EQ(buffer.faults, 1);
	ASSERT_EQ(wrongAt(buffer.mirrored, values), -1);
	buffer.free();
}

export function anon_read_prot({ process, fd }: CaseSelf): void {
	const npages = NPAGES;
	const buffer = anonBuffer(process);
	const values = counting(INTS);
	process.store(buffer.ptr, values);
	// what the device must not overwrite
	const untouched = countingDown(INTS);
	buffer.mirrored.set(untouched);
	ASSERT_EQ(process.mprotect(buffer.ptr, buffer.size, PROT_NONE), 0);

	const ret = dmirrorCmd(fd, HMM_DMIRROR_READ, buffer, npages);
	ASSERT_EQ(ret, -EFAULT);
	ASSERT_EQ(process.mprotect(buffer.ptr, buffer.size, PROT_READ), 0);
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, INTS), values), -1);
	ASSERT_EQ(wrongAt(buffer.mirrored, untouched), -1);
	buffer.free();
}

/** The device writes what the mirror holds, and the CPU sees it. */
function deviceWrites({ process, fd }: CaseSelf, buffer: HmmBuffer, npages: number): void {
	const values = counting((npages * PAGE) / 4);
	buffer.mirrored.set(values);
	const ret = dmirrorCmd(fd, HMM_DMIRROR_WRITE, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	ASSERT_EQ(buffer.faults, 1);
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, values.length), values), -1);
}

export function anon_write(self: CaseSelf): void {
	const buffer = anonBuffer(self.process);
	deviceWrites(self, buffer, NPAGES);
	buffer.free();
}

export function anon_write_prot(self: CaseSelf): void {
	const { process, fd } = self;
	const buffer = anonBuffer(process, PROT_READ);
	// the device reads a page that is not there
	let ret = dmirrorCmd(fd, HMM_DMIRROR_READ, buffer, 1);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, 1);
	ASSERT_EQ(buffer.faults, 1);

	buffer.mirrored.set(counting(INTS));
	ret = dmirrorCmd(fd, HMM_DMIRROR_WRITE, buffer, NPAGES);
	ASSERT_EQ(ret, -EPERM);
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, INTS), zeros(INTS)), -1);
	// now it may, and the zero page is replaced
	ASSERT_EQ(process.mprotect(buffer.ptr, buffer.size, RW), 0);
	deviceWrites(self, buffer, NPAGES);
	buffer.free();
}

/** The child's own mirror writes the child's memory. */
function childWrites(child: Process, buffer: HmmBuffer, npages: number): HmmBuffer {
	const seen = Object.assign(Object.create(Object.getPrototypeOf(buffer)), buffer, {
		process: child,
	}) as HmmBuffer;
	const fd = child.open(HMM_PRIVATE_DEVICE_ONE);
	ASSERT_NE(null, fd);
	const ret = dmirrorCmd(fd, HMM_DMIRROR_WRITE, seen, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(seen.cpages, npages);
	ASSERT_EQ(seen.faults, 1);
	child.close(fd);
	return seen;
}

/** One round of anon_write_child. */
function writeChild(
	{ process, fd }: CaseSelf,
	how: { readonly thp: boolean; readonly migrate: boolean },
): void {
	const size = how.thp ? TWOMEG : HMM_BUFFER_SIZE;
	const npages = size / PAGE;
	const aligned = alignedBuffer(process, size);
	const { buffer, whole } = aligned;
	if (how.thp) ASSERT_EQ(process.madvise(buffer.ptr, size, MADV_HUGEPAGE), 0);
	else buffer.ptr = whole;
	const values = counting(size / 4);
	const written = countingDown(size / 4);
	process.store(buffer.ptr, values);
	buffer.mirrored.set(written);
	if (how.migrate) {
		const ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
		ASSERT_EQ(ret, 0);
		ASSERT_EQ(buffer.cpages, npages);
	}
	process.inChild((child) => {
		ASSERT_EQ(wrongAt(child.load(buffer.ptr, values.length), values), -1);
		if (!how.migrate) ASSERT_EQ(wrongAt(buffer.mirrored, written), -1);
		childWrites(child, buffer, npages);
		if (!how.migrate)
			ASSERT_EQ(wrongAt(child.load(buffer.ptr, values.length), written), -1);
	});
	// the parent's memory is what it was
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, values.length), values), -1);
	freeAligned(aligned);
}

/** 6.12 does it once; 7.3 with and without huge pages, migrated and not. */
export function anon_write_child(self: CaseSelf): void {
	const both = self.kernel.profile === 'v6.12' ? [false] : [false, true];
	for (const migrate of both) for (const thp of both) writeChild(self, { thp, migrate });
}

export function anon_write_child_shared({ process }: CaseSelf): void {
	const buffer = anonBuffer(process, RW, MAP_SHARED);
	const values = counting(INTS);
	const written = countingDown(INTS);
	process.store(buffer.ptr, values);
	buffer.mirrored.set(written);
	process.inChild((child) => {
		ASSERT_EQ(wrongAt(child.load(buffer.ptr, INTS), values), -1);
		ASSERT_EQ(wrongAt(buffer.mirrored, written), -1);
		childWrites(child, buffer, NPAGES);
		ASSERT_EQ(wrongAt(child.load(buffer.ptr, INTS), written), -1);
	});
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, INTS), written), -1);
}

export function anon_write_huge(self: CaseSelf): void {
	const { process } = self;
	const buffer = hmmBuffer(process, 2 * TWOMEG, 2 * TWOMEG, RW, MAP_PRIVATE);
	const whole = buffer.ptr;
	buffer.ptr = align(whole, TWOMEG);
	ASSERT_EQ(process.madvise(buffer.ptr, TWOMEG, MADV_HUGEPAGE), 0);
	deviceWrites(self, buffer, TWOMEG / PAGE);
	freeAligned({ buffer, whole });
}

export function anon_write_hugetlbfs(self: CaseSelf): void {
	const buffer = tryBuffer(self.process, TWOMEG, TWOMEG, RW, MAP_PRIVATE | MAP_HUGETLB);
	if (buffer === null) SKIP('Huge page could not be allocated');
	deviceWrites(self, buffer, TWOMEG / PAGE);
	buffer.free();
}

/** The bytes of ints. */
function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Uint8Array {
	return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
}

export function file_read({ process, fd }: CaseSelf): void {
	const npages = NPAGES;
	const f = process.createFile(HMM_BUFFER_SIZE);
	const values = counting(INTS);
	const size = HMM_BUFFER_SIZE;
	const buffer = hmmBuffer(process, size, size, PROT_READ, MAP_SHARED, f);
	const written = run(shmemWrite(f, 0n, bytesOf(values)), { task: process.task });
	ASSERT_EQ(written, 0);

	const ret = dmirrorCmd(fd, HMM_DMIRROR_READ, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	ASSERT_EQ(buffer.faults, 1);
	ASSERT_EQ(wrongAt(buffer.mirrored, values), -1);
	buffer.free();
}

export function file_write(self: CaseSelf): void {
	const { process } = self;
	const size = HMM_BUFFER_SIZE;
	const f = process.createFile(size);
	const buffer = hmmBuffer(process, size, size, RW, MAP_SHARED, f);
	deviceWrites(self, buffer, NPAGES);
	// it has written the file
	const held = zeros(INTS);
	const read = run(shmemRead(f, 0n, bytesOf(held)), { task: process.task });
	ASSERT_EQ(read, size);
	ASSERT_EQ(wrongAt(held, counting(INTS)), -1);
	buffer.free();
}

export function anon_read_multiple({ process, fd }: CaseSelf): void {
	const npages = NPAGES;
	for (let c = 0; c < NTIMES; c++) {
		const buffer = anonBuffer(process);
		const values = counting(INTS, c);
		process.store(buffer.ptr, values);
		const ret = dmirrorCmd(fd, HMM_DMIRROR_READ, buffer, npages);
		ASSERT_EQ(ret, 0);
		ASSERT_EQ(buffer.cpages, npages);
		ASSERT_EQ(buffer.faults, 1);
		ASSERT_EQ(wrongAt(buffer.mirrored, values), -1);
		buffer.free();
	}
}

/** Half of the buffer is unmapped while the device reads it: all or an error. */
export function anon_teardown({ process, fd }: CaseSelf): void {
	const npages = NPAGES;
	for (let c = 0; c < NTIMES; c++) {
		const buffer = anonBuffer(process);
		const values = counting(INTS, c);
		process.store(buffer.ptr, values);
		const { mm } = process.task;
		const half = BigInt(buffer.size / 2);
		const { ptr, mirror } = buffer;
		const cmd = new hmm_dmirror_cmd({ addr: ptr, ptr: mirror, npages: BigInt(npages) });
		let rc: number | null = null;
		let unmapped: number | null = null;
		spawn(
			'reader',
			function* () {
				rc = yield* fd.f_op.unlocked_ioctl!(fd, HMM_DMIRROR_READ, cmd);
			},
			{ mm },
		);
		spawn(
			'unmap_buffer',
			function* () {
				unmapped = yield* vm_munmap(ptr + half, half);
			},
			{ mm },
		);
		// which of the two is ahead, and by how much
		runThreads(randomStrategy(c));
		ASSERT_EQ(unmapped, 0);
		ASSERT_NE(null, rc);
		if (rc === 0) {
			ASSERT_EQ(cmd.cpages, npages);
			ASSERT_EQ(cmd.faults, 1);
			ASSERT_EQ(wrongAt(buffer.mirrored, values), -1);
		}
		buffer.free();
	}
}
