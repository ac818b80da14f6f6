// SPDX-License-Identifier: GPL-2.0-only
/** MMU notifiers: how the owner of a mirror learns that page tables are about to change. */
import type { Sim } from '../sim/schedule.ts';
import type { mm_struct } from './mm_types.ts';
import { spinlock_t } from './spinlock.ts';
import type { int, unsigned_int, unsigned_long } from './types.ts';
import { wait_queue_head } from './wait.ts';

export const MMU_NOTIFY_UNMAP = 0;
export const MMU_NOTIFY_CLEAR = 1;
export const MMU_NOTIFY_PROTECTION_VMA = 2;
export const MMU_NOTIFY_PROTECTION_PAGE = 3;
export const MMU_NOTIFY_SOFT_DIRTY = 4;
export const MMU_NOTIFY_RELEASE = 5;
export const MMU_NOTIFY_MIGRATE = 6;
export const MMU_NOTIFY_EXCLUSIVE = 7;
/** What changes the page tables. */
export type mmu_notifier_event = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7;

export const MMU_NOTIFIER_RANGE_BLOCKABLE = 1 << 0;

/**
 * One invalidation.
 *
 * @kernel include/linux/mmu_notifier.h
 */
export class mmu_notifier_range {
	mm: mm_struct = null as unknown as mm_struct;
	start: unsigned_long = 0n;
	/** Exclusive. */
	end: unsigned_long = 0n;
	flags: unsigned_int = 0;
	event: mmu_notifier_event = MMU_NOTIFY_UNMAP;
	/** For MIGRATE and EXCLUSIVE: the pagemap owner on whose behalf. */
	owner: object | null = null;
}

/** Ops of a classic notifier. */
export interface mmu_notifier_ops {
	/** The address space goes away. */
	release?(subscription: mmu_notifier, mm: mm_struct): Sim<void>;
	/** Clear the accessed state and flush; whether it was set. */
	clear_flush_young?(s: mmu_notifier, mm: mm_struct, start: bigint, end: bigint): boolean;
	/** Clear the accessed state; whether it was set. */
	clear_young?(s: mmu_notifier, mm: mm_struct, start: bigint, end: bigint): boolean;
	/** Whether the accessed state is set. */
	test_young?(s: mmu_notifier, mm: mm_struct, address: bigint): boolean;
	/** Page tables are about to change: stop using them. -EAGAIN only when not blockable. */
	invalidate_range_start?(subscription: mmu_notifier, range: mmu_notifier_range): Sim<int>;
	/** The change is done. */
	invalidate_range_end?(subscription: mmu_notifier, range: mmu_notifier_range): Sim<void>;
	/** Flush a TLB that walks the page tables itself. */
	arch_invalidate_secondary_tlbs?(
		subscription: mmu_notifier,
		mm: mm_struct,
		start: unsigned_long,
		end: unsigned_long,
	): void;
	/** Make the notifier for mmu_notifier_get(). */
	alloc_notifier?(mm: mm_struct): mmu_notifier | int;
	/** Free what alloc_notifier made. */
	free_notifier?(subscription: mmu_notifier): void;
}

/**
 * A classic notifier: hears every invalidation of an mm.
 *
 * @kernel include/linux/mmu_notifier.h
 */
export class mmu_notifier {
	ops: mmu_notifier_ops | null = null;
	mm: mm_struct | null = null;
	users: unsigned_int = 0;
	/** The object that embeds it (container_of()). */
	container: object | null = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<mmu_notifier> = {}) {
		Object.assign(this, init);
	}
}

/**
 * What invalidate_start() hands out for the second pass.
 *
 * @kernel include/linux/mmu_notifier.h
 * @since v7.0
 */
export class mmu_interval_notifier_finish {
	notifier: mmu_interval_notifier | null = null;
	container: object | null = null;
}

/** Ops of an interval notifier. */
export interface mmu_interval_notifier_ops {
	/** Stop using the interval; false only when not blockable. */
	invalidate?(
		interval_sub: mmu_interval_notifier,
		range: mmu_notifier_range,
		cur_seq: unsigned_long,
	): Sim<boolean>;
	/** v7.3, with invalidate_finish: first pass, starts the teardown. */
	invalidate_start?(
		interval_sub: mmu_interval_notifier,
		range: mmu_notifier_range,
		cur_seq: unsigned_long,
		finish: { value: mmu_interval_notifier_finish | null },
	): Sim<boolean>;
	/** v7.3: second pass, waits for the teardown. */
	invalidate_finish?(finish: mmu_interval_notifier_finish): Sim<void>;
}

/**
 * A notifier for one interval of an mm, with the sequence count that its user checks.
 *
 * @kernel include/linux/mmu_notifier.h
 */
export class mmu_interval_notifier {
	/** The interval, inclusive at both ends as the interval tree has it. */
	interval_tree = { start: 0n, last: 0n };
	ops: mmu_interval_notifier_ops | null = null;
	mm: mm_struct | null = null;
	/** On the deferred list. */
	deferred_item: 'add' | 'remove' | null = null;
	invalidate_seq: unsigned_long = 0n;
	/** The object that embeds it (container_of()). */
	container: object | null = null;
	/** Where it was inserted, when the world tracks origins. */
	origin: Error | null = null;
	/** User locks held at the last mmu_interval_set_seq(): read_retry() needs one of them. */
	setSeqLocks: readonly object[] | null = null;
}

/**
 * What an mm keeps for its notifiers.
 *
 * @kernel mm/mmu_notifier.c
 */
export class mmu_notifier_subscriptions {
	list: mmu_notifier[] = [];
	has_itree = false;
	lock = new spinlock_t('&subscriptions->lock');
	/** Odd while an invalidation hits some interval. */
	invalidate_seq: unsigned_long = 2n;
	active_invalidate_ranges: unsigned_long = 0n;
	/** Interval notifiers by start. */
	itree: mmu_interval_notifier[] = [];
	wq = new wait_queue_head('&subscriptions->wq');
	deferred_list: mmu_interval_notifier[] = [];
}
