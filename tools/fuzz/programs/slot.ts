// SPDX-License-Identifier: GPL-2.0-only
/**
 * One page of an address space, as its process knows it.
 *
 * ```
 *   private anon   own = what was written, [0] at first
 *   shared         linked: what the store holds
 *   private file   linked until the first write, then own; between a write fault and the
 *                  write nobody can tell, so both
 * ```
 */
import { BUS, type Contents, either, nothing, type Store, zero } from './contents.ts';

/** Whether there is a guard entry. */
export type Guard = 'no' | 'maybe' | 'yes';

/** A page that is mapped. */
export class Slot {
	prot: number;
	/** What it shares with others, or copies when written; null: private anonymous memory. */
	readonly store: Store | null;
	readonly index: number;
	readonly shared: boolean;
	/** A page of its own may hold this. */
	own: Contents;
	/** It may be the store's page. */
	linked: boolean;
	guard: Guard = 'no';
	/** The kernel may drop it at any time. */
	lazy = false;
	/** What a monitor may fill in where nothing is; empty: nobody watches. */
	fills: Contents = nothing;
	/** It can go away without anybody's doing: special and hugetlb mappings. */
	readonly fragile: boolean;
	/** Nobody knows what it holds, or with whom it is shared. */
	readonly opaque: boolean;

	/**
	 * @param init - prot, store, index, shared, fragile, opaque
	 */
	constructor(
		init: Pick<Slot, 'prot' | 'store' | 'index' | 'shared' | 'fragile' | 'opaque'>,
	) {
		this.prot = init.prot;
		this.store = init.store;
		this.index = init.index;
		this.shared = init.shared;
		this.fragile = init.fragile;
		this.opaque = init.opaque;
		this.own = init.store === null ? zero : nothing;
		this.linked = init.store !== null;
	}

	/** What the child of a fork has. */
	clone(): Slot {
		const made = new Slot(this);
		made.own = this.own;
		made.linked = this.linked;
		made.lazy = this.lazy;
		made.fills = this.fills;
		// entries of what is not anonymous need not be copied
		made.guard = this.guard !== 'no' && this.store !== null ? 'maybe' : this.guard;
		return made;
	}

	/** What an access may give. */
	contents(): Contents {
		if (this.opaque) return null;
		let found = this.linked ? either(this.own, this.store!.at(this.index)) : this.own;
		if (this.fills?.length !== 0) found = either(found, this.fills);
		return this.fragile ? either(found, [BUS]) : found;
	}

	/** A value is stored. */
	write(value: number): void {
		if (this.shared) {
			this.store?.set(this.index, [value]);
			if (!this.fragile) this.own = nothing;
			return;
		}
		this.own = [value];
		this.linked = false;
		this.lazy = false;
	}

	/** A value may have been stored. */
	mayWrite(value: number): void {
		if (this.shared) {
			if (this.store !== null)
				this.store.set(
					this.index,
					either(this.store.at(this.index), [value]),
				);
			return;
		}
		this.mayCopy();
		this.own = either(this.own, [value]);
	}

	/** A write fault may have copied the store's page, which then no longer changes with it. */
	mayCopy(): void {
		if (this.shared || !this.linked || !(this.prot & 2)) return;
		if (this.index < this.store!.size)
			this.own = either(this.own, this.store!.at(this.index));
	}

	/** The page's own copy is dropped. */
	drop(): void {
		this.own = this.store === null ? zero : nothing;
		this.linked = this.store !== null;
		this.lazy = false;
	}

	/** The page's own copy may have been dropped. */
	mayDrop(): void {
		if (this.store === null) this.own = either(this.own, zero);
		else this.linked = true;
		this.lazy = true;
	}

	/** What a monitor fills into shared memory is there for all. */
	mayFill(): void {
		if (!this.shared || this.store === null || this.fills === null) return;
		const values = this.fills.filter((one) => one >= 0);
		if (values.length > 0)
			this.store.set(this.index, either(this.store.at(this.index), values));
	}

	/** A read gave a value that was one of several. */
	saw(value: number): void {
		if (this.lazy || this.fragile || this.fills?.length !== 0) return;
		if (this.store === null) this.own = [value];
		else if (this.shared) this.store.set(this.index, [value]);
		else if (!this.linked) this.own = [value];
	}
}
