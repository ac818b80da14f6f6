// SPDX-License-Identifier: GPL-2.0-only
/**
 * Bytes of a memory: system RAM or the memory behind a BAR.
 *
 * Guarantee: a byte that nobody wrote reads as zero and costs nothing; reading never allocates. Lookup of
 * a page is three array loads.
 *
 * Mechanism: a radix tree of plain arrays that grow only as far as the highest page touched.
 *
 *     roots[index >> 18]        1 GiB each
 *       └─ tables[(index >> 9) & 511]   2 MiB each
 *            └─ frames[index & 511]     4 KiB each, made on the first write
 *
 * Duty: whoever holds a Frame must not keep it over drop() of its page, nor over giveBack().
 */
import { footprinted, touch } from '../../include/sim/schedule.ts';

/** Where an access ends: what holds the bytes, and which page of it. As schedule points name it. */
export interface MemoryPlace {
	/** The memory, or the device model that answers. */
	readonly object: object;
	readonly field: 'bytes' | 'mmio';
	/** Page of the memory or of the BAR. */
	readonly index: number;
}

/** Bytes of the smallest page, of every frame, and of every page table. */
export const PAGE_BYTES = 4096;

const FANOUT_BITS = 9;
const FANOUT_MASK = (1 << FANOUT_BITS) - 1;
const PAGE_SHIFT = 12n;

/** Frames that share a buffer: making one of 64 KiB costs little more than one of 4 KiB. */
const FRAMES_PER_SLAB = 16;

/**
 * One 4 KiB page of bytes under three views of the same part of a buffer, all zero at first. The
 * wider views are made when first asked for: most pages hold data, and data is bytes.
 */
export class Frame {
	/** The page as bytes. */
	u8: Uint8Array;
	private words32: Uint32Array | null = null;
	private words64: BigUint64Array | null = null;

	/**
	 * @param buffer - zeros; default: one of its own
	 * @param offset - of the page's first byte
	 */
	constructor(buffer: ArrayBuffer = new ArrayBuffer(PAGE_BYTES), offset = 0) {
		this.u8 = new Uint8Array(buffer, offset, PAGE_BYTES);
	}

	/** The page as 1024 little-endian 32-bit words. */
	get u32(): Uint32Array {
		this.words32 ??= new Uint32Array(
			this.u8.buffer,
			this.u8.byteOffset,
			PAGE_BYTES / 4,
		);
		return this.words32;
	}

	/** The page as 512 64-bit words: page table entries, for one. */
	get u64(): BigUint64Array {
		this.words64 ??= new BigUint64Array(
			this.u8.buffer,
			this.u8.byteOffset,
			PAGE_BYTES / 8,
		);
		return this.words64;
	}
}

/** Frames that were made together. */
class Slab {
	readonly frames: Frame[] = [];
	private readonly bytes = new Uint8Array(FRAMES_PER_SLAB * PAGE_BYTES);
	private taken = 0;

	get isEmpty(): boolean {
		return this.taken === FRAMES_PER_SLAB;
	}

	/** The next frame. */
	take(): Frame {
		const at = this.taken++;
		this.frames[at] ??= new Frame(this.bytes.buffer, at * PAGE_BYTES);
		return this.frames[at];
	}

	/** All frames are there again, and zero. */
	renew(): void {
		this.bytes.fill(0, 0, this.taken * PAGE_BYTES);
		this.taken = 0;
	}
}

/** Slabs that a memory had for a while and gave back, and how many are kept; no state of any world. */
const spare: Readonly<{ slabs: Slab[] }> = { slabs: [] };
const MOST_SPARE = 512;

type FrameTable = (Frame | null)[];
type FrameRoot = (FrameTable | null)[];

/** Sparse bytes of one memory, numbered from 0. */
export class FrameStore {
	/** Length of the memory in bytes. */
	size: bigint;
	/** Number of frames that exist, that is: of pages ever written and not dropped. */
	count: number;
	/** Number of pages of the memory. */
	pages: number;
	/** The radix tree drawn above. */
	roots: (FrameRoot | null)[];
	/** Where the next frames come from; null: a new one is due. */
	private slab: Slab | null = null;
	/** Slabs since settle(), each once; null: it was never called. */
	private lent: Slab[] | null = null;

	/** @param size - bytes; rounded up to whole pages for storage */
	constructor(size: bigint) {
		this.size = size;
		this.count = 0;
		this.pages = Number((size + 4095n) >> PAGE_SHIFT);
		this.roots = [];
	}

	/**
	 * The frame of a page, or null while nobody has written to it.
	 *
	 * @param index - number of the page within this memory
	 */
	peek(index: number): Frame | null {
		// Not >>>: an index may be wider than 32 bits only when it is out of range.
		if (index < 0 || index >= this.pages) return null;
		const top = Math.floor(index / 0x40000);
		if (top >= this.roots.length) return null;
		const root = this.roots[top] as FrameRoot | null;
		if (root === null) return null;
		const middle = (index >>> FANOUT_BITS) & FANOUT_MASK;
		if (middle >= root.length) return null;
		const table = root[middle] as FrameTable | null;
		if (table === null) return null;
		const low = index & FANOUT_MASK;
		return low < table.length ? (table[low] as Frame | null) : null;
	}

	/**
	 * The frame of a page, made if it does not exist yet.
	 *
	 * @param index - number of the page within this memory
	 */
	frame(index: number): Frame {
		return this.peek(index) ?? this.make(index);
	}

	private make(index: number): Frame {
		if (!Number.isInteger(index) || index < 0 || index >= this.pages) {
			throw new RangeError(
				`FrameStore.frame(${index}): page numbers of this memory are 0..${this.pages - 1}`,
			);
		}
		const top = Math.floor(index / 0x40000);
		while (this.roots.length <= top) this.roots.push(null);
		const root = this.roots[top] ?? [];
		this.roots[top] = root;
		const middle = (index >>> FANOUT_BITS) & FANOUT_MASK;
		while (root.length <= middle) root.push(null);
		const table = root[middle] ?? [];
		root[middle] = table;
		const low = index & FANOUT_MASK;
		while (table.length <= low) table.push(null);
		this.slab ??= this.nextSlab();
		const frame = this.slab.take();
		if (this.slab.isEmpty) this.slab = null;
		table[low] = frame;
		this.count++;
		return frame;
	}

	private nextSlab(): Slab {
		if (this.lent === null) return new Slab();
		const slab = spare.slabs.pop() ?? new Slab();
		this.lent.push(slab);
		return slab;
	}

	/** The memory will come back to what it is now: slabs from here on are only lent to it. */
	settle(): void {
		this.slab = null;
		this.lent = [];
	}

	/** The memory is about to come back: what it was lent is for others to use. */
	giveBack(): void {
		if (this.lent === null) return;
		for (const slab of this.lent)
			if (spare.slabs.length < MOST_SPARE) {
				slab.renew();
				spare.slabs.push(slab);
			}
		this.lent.length = 0;
	}

	/**
	 * Forget a page's bytes: it reads as zeros again and costs nothing.
	 *
	 * @param index - number of the page within this memory
	 */
	drop(index: number): void {
		if (this.peek(index) === null) return;
		const root = this.roots[Math.floor(index / 0x40000)] as FrameRoot;
		const table = root[(index >>> FANOUT_BITS) & FANOUT_MASK] as FrameTable;
		table[index & FANOUT_MASK] = null;
		this.count--;
	}

	/**
	 * Copy bytes out. Pages never written give zeros and stay unmade.
	 *
	 * @param offset - first byte
	 * @param into - where to; its length says how much
	 */
	read(offset: bigint, into: Uint8Array): void {
		this.check('read', offset, into.length);
		let page = Number(offset >> PAGE_SHIFT);
		let within = Number(offset & 4095n);
		for (let done = 0; done < into.length; page++, within = 0) {
			const part = Math.min(PAGE_BYTES - within, into.length - done);
			const frame = this.peek(page);
			if (frame === null) into.fill(0, done, done + part);
			else into.set(frame.u8.subarray(within, within + part), done);
			done += part;
		}
	}

	/**
	 * Copy bytes in, making the pages that they touch.
	 *
	 * @param offset - first byte
	 * @param from - what; its length says how much
	 */
	write(offset: bigint, from: Uint8Array): void {
		this.check('write', offset, from.length);
		let page = Number(offset >> PAGE_SHIFT);
		let within = Number(offset & 4095n);
		for (let done = 0; done < from.length; page++, within = 0) {
			const part = Math.min(PAGE_BYTES - within, from.length - done);
			this.frame(page).u8.set(from.subarray(done, done + part), within);
			done += part;
		}
	}

	private check(call: string, offset: bigint, length: number): void {
		if (offset < 0n || offset + BigInt(length) > this.size) {
			throw new RangeError(
				`FrameStore.${call}(0x${offset.toString(16)}, ${length} bytes): ` +
					`this memory ends at 0x${this.size.toString(16)}`,
			);
		}
	}
}

/**
 * How many pages some bytes lie in.
 *
 * @param offset - first byte
 * @param length - bytes, at least 1
 */
export function pagesOf(offset: bigint, length: number): number {
	return Math.ceil((Number(offset & 4095n) + Math.max(length, 1)) / PAGE_BYTES);
}

/** A stretch of physical addresses. */
export interface MemoryRange {
	/** First address. */
	start: bigint;
	/** Length in bytes. */
	size: bigint;
	/** The firmware keeps it for a driver. */
	special?: boolean;
}

/** One stretch of RAM with its bytes. */
export class RamRange implements MemoryRange {
	start: bigint;
	size: bigint;
	special: boolean;
	/** First page frame number. */
	startPfn: number;
	/** One past the last page frame number. */
	endPfn: number;
	/** The bytes. */
	store: FrameStore;

	/** @param range - page-aligned start and size */
	constructor(range: MemoryRange) {
		this.start = range.start;
		this.size = range.size;
		this.special = range.special ?? false;
		this.startPfn = Number(range.start >> PAGE_SHIFT);
		this.endPfn = Number((range.start + range.size) >> PAGE_SHIFT);
		this.store = new FrameStore(range.size);
	}
}

/**
 * System RAM: ranges of CPU physical addresses with holes between them.
 *
 *     0          2 GiB      4 GiB       6 GiB
 *     |== range ==|  MMIO    |== range ==|     null in the holes
 */
export class PhysicalRam {
	/** The ranges, by rising address, disjoint. */
	ranges: RamRange[];

	/** @param ranges - page-aligned, in any order, disjoint */
	constructor(ranges: readonly MemoryRange[]) {
		this.ranges = [];
		for (const range of ranges) this.ranges.push(new RamRange(range));
		if (ranges.length > 1) this.ranges.sort((a, b) => a.startPfn - b.startPfn);
	}

	/**
	 * Add memory that a device decodes at host physical addresses.
	 *
	 * @param range - page-aligned, apart from all that is there
	 */
	add(range: MemoryRange): void {
		this.ranges.push(new RamRange(range));
		this.ranges.sort((a, b) => a.startPfn - b.startPfn);
	}

	/**
	 * Take away what was added; its bytes are gone.
	 *
	 * @param start - where it begins
	 */
	remove(start: bigint): void {
		this.ranges = this.ranges.filter((range) => range.start !== start);
	}

	/** The range that a page frame number lies in, or null where there is no RAM. */
	rangeOf(pfn: number): RamRange | null {
		const ranges = this.ranges;
		for (let i = 0; i < ranges.length; i++) {
			const range = ranges[i] as RamRange;
			if (pfn >= range.startPfn && pfn < range.endPfn) return range;
		}
		return null;
	}

	/** Where the bytes of a page frame number are, or null where there is no RAM. */
	placeOf(pfn: number): MemoryPlace | null {
		const range = this.rangeOf(pfn);
		if (range === null) return null;
		return { object: range.store, field: 'bytes', index: pfn - range.startPfn };
	}

	/**
	 * Say that bytes of RAM are accessed as a part of the present step; what is no RAM is passed by.
	 *
	 * @param access - how
	 * @param phys - first address
	 * @param length - bytes
	 */
	touch(access: 'memory-read' | 'memory-write', phys: bigint, length: number): void {
		if (!footprinted()) return;
		const first = Number(phys >> PAGE_SHIFT);
		const count = pagesOf(phys, length);
		const place = this.placeOf(first);
		if (place !== null) touch(access, place.object, place.field, place.index, count);
	}

	/** Whether there is RAM at a page frame number. */
	has(pfn: number): boolean {
		return this.rangeOf(pfn) !== null;
	}

	/** The frame at a page frame number, made on first use; null where there is no RAM. */
	frame(pfn: number): Frame | null {
		const range = this.rangeOf(pfn);
		return range === null ? null : range.store.frame(pfn - range.startPfn);
	}

	/** As frame(), but null also for a page that nobody has written to yet. */
	peek(pfn: number): Frame | null {
		const range = this.rangeOf(pfn);
		return range === null ? null : range.store.peek(pfn - range.startPfn);
	}

	/** Forget a page's bytes: it reads as zeros again. */
	drop(pfn: number): void {
		const range = this.rangeOf(pfn);
		if (range !== null) range.store.drop(pfn - range.startPfn);
	}

	/**
	 * Copy bytes out of RAM.
	 *
	 * @returns false, with nothing copied, unless all of them lie in one range
	 */
	read(phys: bigint, into: Uint8Array): boolean {
		const range = this.rangeOf(Number(phys >> PAGE_SHIFT));
		if (range === null || phys + BigInt(into.length) > range.start + range.size)
			return false;
		range.store.read(phys - range.start, into);
		return true;
	}

	/**
	 * Copy bytes into RAM.
	 *
	 * @returns false, with nothing copied, unless all of them lie in one range
	 */
	write(phys: bigint, from: Uint8Array): boolean {
		const range = this.rangeOf(Number(phys >> PAGE_SHIFT));
		if (range === null || phys + BigInt(from.length) > range.start + range.size)
			return false;
		range.store.write(phys - range.start, from);
		return true;
	}
}
