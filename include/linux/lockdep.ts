// SPDX-License-Identifier: GPL-2.0-only
/** The nodes of lockdep's graph, and maps: locks that exist only for the sake of ordering. */
import type { int } from './types.ts';

export const SINGLE_DEPTH_NESTING: int = 1;

/**
 * All locks of one kind, at one nesting depth: a node in the graph of lock orders.
 *
 * @kernel include/linux/lockdep_types.h
 */
export class lock_class {
	readonly id: int;
	readonly name: string;
	readonly subclass: int;
	/** Sleeping is not allowed under it. */
	readonly atomic: boolean;
	/** Classes taken while this one was held. */
	readonly after: lock_dependency[] = [];
	/** The class with the next higher subclass; null: not used so far. */
	nested: lock_class | null = null;

	/**
	 * @param id - number in the order of first use
	 * @param name - name of the kind of lock
	 * @param subclass - nesting depth
	 * @param atomic - a spin lock
	 */
	constructor(id: int, name: string, subclass: int, atomic: boolean) {
		this.id = id;
		this.name = name;
		this.subclass = subclass;
		this.atomic = atomic;
	}
}

/** That `next` was taken while `prev` was held. */
export interface lock_dependency {
	readonly prev: lock_class;
	readonly next: lock_class;
	/** `prev` was held for reading: it stops writers and plain readers, no recursive ones. */
	readonly shared: boolean;
	/** `next` was taken as a recursive read: readers that hold it do not stop it. */
	readonly recursive: boolean;
	/** Where `next` was taken, when the world tracks origins. */
	readonly trace: Error | null;
	readonly comm: string;
	readonly pid: int;
}

/**
 * A lock that exists for lockdep only: a wait that must not happen under a lock which the awaited
 * needs.
 *
 * @kernel include/linux/lockdep_types.h
 */
export class lockdep_map {
	readonly name: string;
	dep: lock_class | null = null;

	/** @param name - lockdep class */
	constructor(name: string) {
		this.name = name;
	}
}
