// SPDX-License-Identifier: GPL-2.0-only
/**
 * A CPU's translation lookaside buffer.
 *
 * Guarantee: an entry stays, right or stale, until it is invalidated. A kernel that forgets a flush reads
 * and writes the old page through it, as on hardware.
 *
 * Mechanism: for each address space (its identifier is the page frame number of its top-level table) one
 * map a page size, keyed by the page's number at that size.
 *
 * Duty: the kernel calls invlpg() or flush() wherever it takes a right or a page away. There is no
 * eviction: a TLB never loses a stale entry by luck, so a missing flush shows every time.
 */

/** One translation. */
export class TlbEntry {
	/** Page frame number that the first byte of the (small, large or huge) page maps to. */
	pfn: number;
	/** Number of 4 KiB pages that the entry spans: 1, 512 or 262144. */
	pages: number;
	/** Every level of the walk allowed writing. */
	writable: boolean;
	/** Every level of the walk allowed user mode. */
	user: boolean;
	/** Some level forbade execution. */
	noExecute: boolean;
	/** The D bit of the leaf was set when the entry was made; without it a write walks again. */
	dirty: boolean;

	constructor(
		pfn: number,
		pages: number,
		writable: boolean,
		user: boolean,
		noExecute: boolean,
		dirty: boolean,
	) {
		this.pfn = pfn;
		this.pages = pages;
		this.writable = writable;
		this.user = user;
		this.noExecute = noExecute;
		this.dirty = dirty;
	}
}

/** 4 KiB pages in a large (2 MiB) page. */
export const LARGE_PAGES = 512;
/** 4 KiB pages in a huge (1 GiB) page. */
export const HUGE_PAGES = 262144;

/** The entries of one address space, by page size. */
export class TlbSpace {
	small: Map<number, TlbEntry> = new Map();
	large: Map<number, TlbEntry> = new Map();
	huge: Map<number, TlbEntry> = new Map();
}

/** All entries of one CPU. */
export class Tlb {
	/** By address space identifier. */
	spaces: Map<number, TlbSpace> = new Map();
	/** Flushes that the kernel asked for, for the cost counters of a scenario. */
	flushes = 0;
	/** Invalidations of a single page that the kernel asked for. */
	invalidations = 0;

	/**
	 * The entry that covers a virtual page, or null.
	 *
	 * @param asid - page frame number of the address space's top-level table
	 * @param vpn - virtual page number, 36 bits
	 */
	lookup(asid: number, vpn: number): TlbEntry | null {
		const space = this.spaces.get(asid);
		if (space === undefined) return null;
		const small = space.small.get(vpn);
		if (small !== undefined) return small;
		if (space.large.size !== 0) {
			const large = space.large.get(Math.floor(vpn / LARGE_PAGES));
			if (large !== undefined) return large;
		}
		if (space.huge.size === 0) return null;
		return space.huge.get(Math.floor(vpn / HUGE_PAGES)) ?? null;
	}

	/** Remember a translation for the page of its size that covers `vpn`. */
	insert(asid: number, vpn: number, entry: TlbEntry): void {
		let space = this.spaces.get(asid);
		if (space === undefined) {
			space = new TlbSpace();
			this.spaces.set(asid, space);
		}
		if (entry.pages === 1) space.small.set(vpn, entry);
		else if (entry.pages === LARGE_PAGES) {
			space.large.set(Math.floor(vpn / LARGE_PAGES), entry);
		} else space.huge.set(Math.floor(vpn / HUGE_PAGES), entry);
	}

	/** What the kernel asks for: drop() and count it. */
	invalidate(asid: number, vpn: number): void {
		this.invalidations++;
		this.drop(asid, vpn);
	}

	/** Drop every entry, of any size, that covers a virtual page of one address space. */
	drop(asid: number, vpn: number): void {
		const space = this.spaces.get(asid);
		if (space === undefined) return;
		space.small.delete(vpn);
		space.large.delete(Math.floor(vpn / LARGE_PAGES));
		space.huge.delete(Math.floor(vpn / HUGE_PAGES));
	}

	/** Drop all entries of one address space, or of all of them. */
	flush(asid?: number): void {
		this.flushes++;
		if (asid === undefined) this.spaces.clear();
		else this.spaces.delete(asid);
	}

	/** Number of entries, of one address space or of all. */
	count(asid?: number): number {
		let n = 0;
		for (const [id, space] of this.spaces) {
			if (asid === undefined || asid === id) {
				n += space.small.size + space.large.size + space.huge.size;
			}
		}
		return n;
	}
}
