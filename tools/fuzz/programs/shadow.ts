// SPDX-License-Identifier: GPL-2.0-only
/**
 * What each process must read, by the calls that were made and what they returned.
 *
 * Guarantee: a value or signal that the shadow calls wrong is wrong, wherever the page lies: it knows
 * nothing of page tables, devices, huge pages or swap. What it cannot know it allows.
 */
import { type Contents, either, nothing, Store, zero } from './contents.ts';
import { Slot } from './slot.ts';

/** Pages of the file, and those in its page cache at the start, with their first value. */
const FILE_PAGES = 24;
const CACHED_PAGES = 16;
const FILE_VALUE = 0xf000;
/** Pages of the special mappings' driver, with their first value. */
const SPECIAL_PAGES = 64;
const SPECIAL_VALUE = 0xcafe_0000;

/** Pages of a window; null: not mapped. */
export type Space = (Slot | null)[];

/** All processes. */
export class Shadow {
	readonly np: number;
	readonly spaces = new Map<number, Space>();
	readonly file = new Store(
		Array.from({ length: FILE_PAGES }, (_, i) =>
			i < CACHED_PAGES ? [FILE_VALUE + i] : zero,
		),
	);
	readonly special = new Store(
		Array.from({ length: SPECIAL_PAGES }, (_, i) => [SPECIAL_VALUE + i]),
	);
	/** What the userfaultfd's monitor fills a page with. */
	fills: (page: number) => Contents = () => nothing;
	/** Some page was poisoned: who else has it is not followed. */
	poisoned = false;

	/** @param np - pages of the window */
	constructor(np: number) {
		this.np = np;
		this.spaces.set(0, new Array<Slot | null>(np).fill(null));
	}

	/** Address space of a process. */
	space(number: number): Space {
		return this.spaces.get(number)!;
	}

	/** The mapped pages of a range. */
	*range(number: number, page: number, pages: number): Generator<[Slot, number]> {
		const space = this.space(number);
		for (let i = page; i < Math.min(page + pages, this.np); i++) {
			const slot = space[i];
			if (slot) yield [slot, i];
		}
	}

	/** mmap(). */
	map(number: number, page: number, pages: number, prot: number, kind: string, off: number) {
		const space = this.space(number);
		const store = this.storeOf(kind, pages);
		const shared = kind[1] === 's' || !/^[afh]/.test(kind);
		const fragile = !/^[af]/.test(kind);
		// neither has pages of its own: what is there is not memory
		const opaque = kind === 'sp' || kind === 'pe';
		for (let i = 0; i < pages; i++) {
			const index = store === this.file ? off + i : i;
			space[page + i] = new Slot({ prot, store, index, shared, fragile, opaque });
		}
	}

	private storeOf(kind: string, pages: number): Store | null {
		if (kind === 'ap' || kind === 'ht') return null;
		if (kind === 'fp' || kind === 'fs') return this.file;
		if (kind === 'as' || kind === 'hs')
			return new Store(new Array<Contents>(pages).fill(zero));
		return kind === 'sp' || kind === 'pe' ? null : this.special;
	}

	/** munmap(). */
	unmap(number: number, page: number, pages: number): void {
		this.space(number).fill(null, page, Math.min(page + pages, this.np));
	}

	/** mremap() to the same length. */
	move(number: number, from: number, pages: number, to: number, keeps: boolean): void {
		const space = this.space(number);
		const moved = space.slice(from, from + pages);
		for (const [i, slot] of moved.entries()) {
			if (slot === null) continue;
			space[to + i] = slot;
			if (!keeps) {
				space[from + i] = null;
				continue;
			}
			const left = new Slot(slot);
			left.fills = slot.fills;
			space[from + i] = left;
		}
	}

	/** mremap() that failed: single mappings may have moved. */
	mayMove(
		number: number,
		from: number,
		pages: number,
		to: number,
		isMapped: (page: number) => boolean,
	): void {
		const space = this.space(number);
		const moved = space.slice(from, from + pages);
		for (const [i, slot] of moved.entries()) {
			if (slot === null || isMapped(from + i) || !isMapped(to + i)) continue;
			space[to + i] = slot;
			space[from + i] = null;
		}
	}

	/** fork(). */
	fork(parent: number, child: number): void {
		this.spaces.set(
			child,
			this.space(parent).map((slot) => slot?.clone() ?? null),
		);
	}

	/** ftruncate() of the file: private copies go as well, in all processes. */
	truncate(pages: number): void {
		this.file.resize(pages);
		for (const space of this.spaces.values())
			for (const slot of space) {
				if (slot?.store !== this.file) continue;
				slot.mayFill();
				if (slot.index < pages) continue;
				slot.drop();
				if (slot.guard === 'yes') slot.guard = 'maybe';
			}
	}

	/** A call failed: whatever it did on the way is allowed, as long as the mappings fit. */
	resync(number: number, isMapped: (page: number) => number | null): void {
		const space = this.space(number);
		for (let i = 0; i < this.np; i++) {
			const prot = isMapped(i);
			if (prot === null) {
				space[i] = null;
				continue;
			}
			space[i] ??= unknownSlot(prot);
			space[i]!.prot = prot;
		}
	}
}

function unknownSlot(prot: number): Slot {
	return new Slot({
		prot,
		store: null,
		index: 0,
		shared: false,
		fragile: true,
		opaque: true,
	});
}

/** Both what a page holds and zeros, which is what an absent page reads as. */
export function orZero(contents: Contents): Contents {
	return either(contents, zero);
}
