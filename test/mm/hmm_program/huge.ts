// SPDX-License-Identifier: GPL-2.0-only
/**
 * Cases that migrate huge pages, and move and unmap what was migrated.
 *
 * A buffer is twice as large as what is used of it, so that this begins at a huge page:
 *
 *	mapped   |------- 2 * size -------|
 *	used        |--- size ---|
 *	            `- aligned to size
 */
import { MAP_PRIVATE, PROT_READ } from '../../../include/linux/mm.ts';
import type { unsigned_long } from '../../../include/linux/types.ts';
import {
	HMM_DMIRROR_FLAG_FAIL_ALLOC,
	HMM_DMIRROR_FLAGS,
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_MIGRATE_TO_SYS,
	HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL,
	HMM_DMIRROR_PROT_PMD,
	HMM_DMIRROR_PROT_WRITE,
	HMM_DMIRROR_SNAPSHOT,
} from '../../../lib/test_hmm_uapi.ts';
import { MADV_COLLAPSE, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE } from '../../../mm/madvise.ts';
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from '../../../mm/mremap.ts';
import { ASSERT_EQ, ASSERT_FALSE, ASSERT_NE, ASSERT_TRUE } from '../../kselftest_harness.ts';
import type { CaseSelf } from './case.ts';
import { PM_PRESENT, PM_SWAP, pagemapEntry } from './pagemap.ts';
import {
	type AlignedBuffer,
	align,
	alignedBuffer,
	counting,
	dmirrorCmd,
	freeAligned,
	type HmmBuffer,
	hmmBuffer,
	PAGE,
	pageAt,
	RW,
	TWOMEG,
	wrongAt,
	zeros,
} from './program.ts';

const size = TWOMEG;
const npages = size / PAGE;
const INTS = size / 4;

/** An aligned buffer that asks for huge pages; its mirror is full of ones. */
function hugeBuffer({ process }: CaseSelf, prot: number = RW): AlignedBuffer {
	const aligned = alignedBuffer(process, size, prot);
	aligned.buffer.mirror.fill(0xff);
	ASSERT_EQ(process.madvise(aligned.buffer.ptr, size, MADV_HUGEPAGE), 0);
	return aligned;
}

/** To the device, which must have read `values`. */
function toDevice({ fd }: CaseSelf, buffer: HmmBuffer, values: Int32Array): void {
	const ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	ASSERT_EQ(wrongAt(buffer.mirrored.subarray(0, INTS), values), -1);
}

/** The CPU finds `values` in what is used of the buffer. */
function comesBack({ process }: CaseSelf, buffer: HmmBuffer, values: Int32Array): void {
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, INTS), values), -1);
}

export function migrate_anon_huge_empty(self: CaseSelf): void {
	const aligned = hugeBuffer(self, PROT_READ);
	toDevice(self, aligned.buffer, zeros(INTS));
	freeAligned(aligned);
}

export function migrate_anon_huge_zero(self: CaseSelf): void {
	const aligned = hugeBuffer(self, PROT_READ);
	const { buffer } = aligned;
	// the huge zero page
	ASSERT_EQ(self.process.load(buffer.ptr, 1)[0], 0);
	toDevice(self, buffer, zeros(INTS));
	comesBack(self, buffer, zeros(INTS));
	freeAligned(aligned);
}

export function migrate_anon_huge_free(self: CaseSelf): void {
	const aligned = hugeBuffer(self);
	const { buffer } = aligned;
	self.process.store(buffer.ptr, counting(INTS));
	toDevice(self, buffer, counting(INTS));
	ASSERT_EQ(self.process.madvise(buffer.ptr, size, MADV_FREE), 0);
	freeAligned(aligned);
}

/** A private huge page is one entry, which /proc/PID/pagemap shows as swapped out. */
function isHugeOnDevice({ process, fd }: CaseSelf, buffer: HmmBuffer): void {
	const ret = dmirrorCmd(fd, HMM_DMIRROR_SNAPSHOT, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	const prot =
		HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL | HMM_DMIRROR_PROT_WRITE | HMM_DMIRROR_PROT_PMD;
	const m = buffer.mirror;
	for (let i = 0; i < npages; i++) {
		ASSERT_EQ(m[i], prot);
		const entry = pagemapEntry(process.task, pageAt(buffer, i));
		ASSERT_NE(entry & PM_SWAP, 0n);
		ASSERT_FALSE((entry & PM_PRESENT) !== 0n);
	}
}

export function migrate_anon_huge_fault(self: CaseSelf): void {
	const { process } = self;
	const aligned = alignedBuffer(process, size);
	const { buffer } = aligned;
	buffer.mirror.fill(0xff);
	process.store(buffer.ptr, counting(INTS));
	ASSERT_EQ(process.madvise(buffer.ptr, size, MADV_COLLAPSE), 0);
	toDevice(self, buffer, counting(INTS));
	if (!self.isCoherent) isHugeOnDevice(self, buffer);
	comesBack(self, buffer, counting(INTS));
	freeAligned(aligned);
}

/** Where the half that is unmapped, or the place that is moved to, begins. */
const offsets = [0, size / 4, size / 2];

/** Half of the migrated buffer is unmapped; the rest must come back. */
function unmapHalf(self: CaseSelf, offset: number, advice: number): void {
	const { process } = self;
	const aligned = alignedBuffer(process, size);
	const { buffer } = aligned;
	buffer.mirror.fill(0xff);
	ASSERT_EQ(process.madvise(buffer.ptr, size, advice), 0);
	const values = counting(INTS);
	process.store(buffer.ptr, values);
	toDevice(self, buffer, values);
	process.munmap(buffer.ptr + BigInt(offset), size / 2);
	for (const [from, to] of [
		[0, offset],
		[offset + size / 2, size],
	] as const) {
		const there = process.load(buffer.ptr + BigInt(from), (to - from) / 4);
		ASSERT_EQ(wrongAt(there, values.subarray(from / 4, to / 4)), -1);
	}
	freeAligned(aligned);
}

export function migrate_partial_unmap_fault(self: CaseSelf): void {
	for (const advice of [MADV_NOHUGEPAGE, MADV_HUGEPAGE])
		for (const offset of offsets) unmapHalf(self, offset, advice);
}

/** What a round of migrate_remap_fault does. */
interface Remap {
	/** It moves before it is migrated, or after. */
	readonly before: boolean;
	readonly flags: number;
	readonly advice: number;
	readonly offset: number;
}

/**
 * A buffer is moved next to where it was, before it is migrated or after that.
 *
 *	mapped   |--------------------- 8 * size ---------------------|
 *	            |- size -|     hole, 2 * size    |
 *	            `- from  `- + offset: to
 */
function remap(self: CaseSelf, { before, flags, advice, offset }: Remap): void {
	const { process } = self;
	const buffer = hmmBuffer(process, 8 * size, size, RW, MAP_PRIVATE);
	buffer.mirror.fill(0xff);
	const whole = buffer.ptr;
	const from = align(whole, size);
	ASSERT_EQ(process.madvise(from, size, advice), 0);
	process.munmap(from + BigInt(size), 2 * size);
	buffer.ptr = from;
	const values = counting(INTS);
	process.store(buffer.ptr, values);
	const move = (): unsigned_long => {
		const to = process.mremap(from, size, flags, from + BigInt(size + offset));
		ASSERT_NE(null, to);
		return to;
	};
	if (before) buffer.ptr = move();
	toDevice(self, buffer, values);
	if (!before) buffer.ptr = move();
	comesBack(self, buffer, values);
	process.munmap(buffer.ptr, size);
	freeAligned({ buffer, whole });
}

export function migrate_remap_fault(self: CaseSelf): void {
	const move = MREMAP_MAYMOVE | MREMAP_FIXED;
	for (const before of [false, true])
		for (const flags of [move, move | MREMAP_DONTUNMAP])
			for (const advice of [MADV_NOHUGEPAGE, MADV_HUGEPAGE])
				for (const offset of offsets)
					remap(self, { before, flags, advice, offset });
}

/** The next page for a migration, in either direction, cannot be had. */
function failNextAlloc({ fd }: CaseSelf, buffer: HmmBuffer): void {
	const flags = Number(HMM_DMIRROR_FLAG_FAIL_ALLOC);
	const ret = dmirrorCmd(fd, HMM_DMIRROR_FLAGS, buffer, flags);
	ASSERT_EQ(ret, 0);
}

/** Int 2048 of the buffer, which lies in its third page. */
function touchOne({ process }: CaseSelf, buffer: HmmBuffer): number {
	return process.load(buffer.ptr + 4n * 2048n, 1)[0]!;
}

/** A fresh mapping in the buffer's place. */
function renew(self: CaseSelf, aligned: AlignedBuffer, prot: number): AlignedBuffer {
	const { buffer, whole } = aligned;
	ASSERT_EQ(self.process.munmap(whole, 2 * size), 0);
	ASSERT_TRUE(buffer.ptr >= whole);
	return hugeBuffer(self, prot);
}

export function migrate_anon_huge_err(self: CaseSelf): void {
	const { process, fd } = self;
	const first = hugeBuffer(self);
	process.store(first.buffer.ptr, counting(INTS));
	failNextAlloc(self, first.buffer);
	// it goes as small pages
	toDevice(self, first.buffer, counting(INTS));
	ASSERT_EQ(touchOne(self, first.buffer), 2048);

	const second = renew(self, first, RW);
	const { buffer } = second;
	process.store(buffer.ptr, counting(INTS));
	let ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	failNextAlloc(self, buffer);
	ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_SYS, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(touchOne(self, buffer), 2048);
	freeAligned(second);
}

export function migrate_anon_huge_zero_err(self: CaseSelf): void {
	const { process, fd } = self;
	const first = hugeBuffer(self, PROT_READ);
	failNextAlloc(self, first.buffer);
	toDevice(self, first.buffer, zeros(INTS));
	ASSERT_EQ(touchOne(self, first.buffer), 0);

	const second = renew(self, first, PROT_READ);
	const { buffer } = second;
	ASSERT_EQ(process.load(buffer.ptr, 1)[0], 0);
	failNextAlloc(self, buffer);
	const ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	comesBack(self, buffer, zeros(INTS));
	freeAligned(second);
}
