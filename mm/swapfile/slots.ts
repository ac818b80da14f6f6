// SPDX-License-Identifier: GPL-2.0-only
/**
 * Slots of swap devices: who uses each, and which is free.
 *
 * Guarantee: a slot is given out again when no entry names it and the swap cache has no folio for it.
 * Mechanism: a count and a mark for each slot, under the device's lock; free slots are taken in turn.
 * Duty: whoever copies an entry counts it with swap_duplicate(), whoever drops one with swap_free().
 * Both releases run on the slot map of 6.12 here: 7.3 keeps counts and folios in its swap table.
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { EBUSY, EEXIST, EINVAL, ENOENT, ENOMEM } from '../../include/linux/errno.ts';
import type { folio } from '../../include/linux/mm_types.ts';
import {
	SWP_WRITEOK,
	type SwapDisk,
	swap_cache_index,
	swap_info,
	swap_info_struct,
	swp_swap_info,
} from '../../include/linux/swap.ts';
import { MAX_SWAPFILES, swp_entry, type swp_entry_t } from '../../include/linux/swapops.ts';
import type { errno, int, unsigned_int } from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';

/**
 * Swap to a disk from now on: swapon().
 *
 * @param disk - its first page is the header
 * @param flags - SWP_SYNCHRONOUS_IO, SWP_STABLE_WRITES
 * @returns number of the device
 * @retval -EINVAL too small
 * @retval -EBUSY too many devices
 * @retval -ENOMEM made to fail at site `swapon`
 */
export function swapOn(disk: SwapDisk, flags: unsigned_int = 0): int | errno {
	const devices = swap_info();
	if (disk.size < 2) return -EINVAL;
	if (devices.length >= MAX_SWAPFILES()) return -EBUSY;
	if (shouldFail('swapon')) return -ENOMEM;
	devices.push(new swap_info_struct(devices.length, disk, flags | SWP_WRITEOK));
	return devices.length - 1;
}

/**
 * Keep a device from going away.
 *
 * @param entry - one of its entries
 * @returns null when no device has the entry
 * @kernel mm/swapfile.c
 */
export function get_swap_device(entry: swp_entry_t): swap_info_struct | null {
	const si = swp_swap_info(entry);
	if (si === null || swap_cache_index(entry) >= si.max) return null;
	touch('atomic', si, 'users');
	si.users++;
	return si;
}

/**
 * Undo get_swap_device().
 *
 * @param si - the device
 * @kernel include/linux/swap.h
 */
export function put_swap_device(si: swap_info_struct): void {
	touch('atomic', si, 'users');
	si.users--;
}

/** First free slot from cluster_next on, once around; 0: none. */
function scanSlots(si: swap_info_struct): int {
	const { max, swap_map, has_cache } = si;
	for (let n = 0; n < max - 1; n++) {
		const slot = ((si.cluster_next - 1 + n) % (max - 1)) + 1;
		if (swap_map[slot] === 0 && has_cache[slot] === 0) return slot;
	}
	return 0;
}

/**
 * Take a slot for a folio that is on its way to the swap cache.
 *
 * @param _f - the folio, small
 * @returns its entry, for the swap cache only; null: swap is full, or made to fail at site
 *   `folio_alloc_swap`
 * @deviates an entry of value 0 is null here; 7.3 also adds the folio to the swap cache
 * @kernel mm/swapfile.c
 */
export function* folio_alloc_swap(_f: folio): Sim<swp_entry_t | null> {
	if (shouldFail('folio_alloc_swap')) return null;
	for (const si of swap_info()) {
		yield* spin_lock(si.lock);
		const slot = scanSlots(si);
		if (slot !== 0) {
			si.has_cache[slot] = 1;
			si.inuse_pages++;
			si.cluster_next = slot + 1 < si.max ? slot + 1 : 1;
		}
		yield* spin_unlock(si.lock);
		if (slot !== 0) return swp_entry(si.type, BigInt(slot));
	}
	return null;
}

/** What happens to a slot under its device's lock; for one that nobody uses any more it is free. */
function* changeSlot(
	entry: swp_entry_t,
	change: (si: swap_info_struct, slot: int) => int,
): Sim<int> {
	const si = swp_swap_info(entry);
	if (WARN_ON_ONCE(si === null, 'swap entry of no device')) return -EINVAL;
	const slot = swap_cache_index(entry);
	yield* spin_lock(si!.lock);
	const used = si!.swap_map[slot] !== 0 || si!.has_cache[slot] !== 0;
	const ret = change(si!, slot);
	if (used && si!.swap_map[slot] === 0 && si!.has_cache[slot] === 0) si!.inuse_pages--;
	yield* spin_unlock(si!.lock);
	return ret;
}

/**
 * Count one more page-table entry that names a slot.
 *
 * @param entry - its entry
 * @retval 0 counted
 * @retval -ENOENT the slot is free
 * @retval -EINVAL no device has it
 * @deviates counts need no continuation: they are wide enough
 * @kernel mm/swapfile.c (gone in 7.x)
 */
export function* swap_duplicate(entry: swp_entry_t): Sim<int> {
	return yield* changeSlot(entry, (si, slot) => {
		if (si.swap_map[slot] === 0 && si.has_cache[slot] === 0) return -ENOENT;
		si.swap_map[slot]!++;
		return 0;
	});
}

/**
 * Count the shmem file that a page was swapped out of.
 *
 * @param entry - of the page
 * @kernel mm/swapfile.c (gone in 7.x)
 */
export function* swap_shmem_alloc(entry: swp_entry_t): Sim<void> {
	yield* swap_duplicate(entry);
}

/**
 * Reserve a slot's place in the swap cache.
 *
 * @param entry - its entry
 * @retval 0 it is the caller's
 * @retval -EEXIST it is somebody else's
 * @retval -ENOENT the slot is free
 * @kernel mm/swapfile.c (gone in 7.x)
 */
export function* swapcache_prepare(entry: swp_entry_t): Sim<int> {
	return yield* changeSlot(entry, (si, slot) => {
		if (si.has_cache[slot] !== 0) return -EEXIST;
		if (si.swap_map[slot] === 0) return -ENOENT;
		si.has_cache[slot] = 1;
		return 0;
	});
}

/**
 * Drop a page-table entry's count.
 *
 * @param entry - the entry
 * @kernel include/linux/swap.h (gone in 7.x)
 */
export function* swap_free(entry: swp_entry_t): Sim<void> {
	yield* changeSlot(entry, (si, slot) => {
		if (WARN_ON_ONCE(si.swap_map[slot] === 0, 'Unused swap offset entry is freed'))
			return -ENOENT;
		si.swap_map[slot]!--;
		return 0;
	});
}

/**
 * The swap cache has no folio for a slot any more.
 *
 * @param _f - the folio that it had
 * @param entry - of the slot
 * @kernel mm/swapfile.c (gone in 7.x)
 */
export function* put_swap_folio(_f: folio, entry: swp_entry_t): Sim<void> {
	yield* changeSlot(entry, (si, slot) => {
		si.has_cache[slot] = 0;
		return 0;
	});
}

/**
 * How many page-table entries, or files, name a slot.
 *
 * @param entry - its entry
 * @kernel mm/swapfile.c
 */
export function __swap_count(entry: swp_entry_t): int {
	const si = swp_swap_info(entry);
	if (si === null) return 0;
	const slot = swap_cache_index(entry);
	touch('read', si, 'swap_map', slot, 1);
	return si.swap_map[slot]!;
}
