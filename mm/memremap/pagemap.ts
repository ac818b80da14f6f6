// SPDX-License-Identifier: GPL-2.0-only
/**
 * Pagemaps: making struct pages for ranges of device memory, and taking them away.
 *
 * ```
 *   memremap_pages   check type ── ref init ── for each range: conflict? RAM? allowed? plug ── va
 *                                              any failure: memunmap_pages() of the ranges done
 *   memunmap_pages   kill ref ── put the idle pages' refs ── wait for 0 ── unplug
 * ```
 */
import { fileReport, oops, WARN_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { completion, init_completion } from '../../include/linux/completion.ts';
import type { device } from '../../include/linux/device.ts';
import { EEXIST, EINVAL, ENOMEM, ENXIO } from '../../include/linux/errno.ts';
import {
	type dev_pagemap,
	MEMORY_DEVICE_COHERENT,
	MEMORY_DEVICE_FS_DAX,
	MEMORY_DEVICE_GENERIC,
	MEMORY_DEVICE_PCI_P2PDMA,
	MEMORY_DEVICE_PRIVATE,
	type range,
} from '../../include/linux/memremap.ts';
import { memoryMap, pfn_valid } from '../../include/linux/mmzone.ts';
import {
	percpu_ref,
	percpu_ref_exit,
	percpu_ref_get_many,
	percpu_ref_init,
	percpu_ref_kill,
	percpu_ref_put,
	percpu_ref_put_many,
	percpu_ref_tryget_live,
} from '../../include/linux/percpu-refcount.ts';
import { type errno, GFP_KERNEL, type int, type unsigned_long } from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { formatTrace } from '../../include/sim/origin.ts';
import { preemptible, type Sim, schedulePoint } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { synchronize_rcu } from '../../kernel/rcu/tree.ts';
import { complete, wait_for_completion } from '../../kernel/sched/completion.ts';

/** Pages and alignment of a subsection: the smallest piece of memory map that can be plugged. */
const PAGES_PER_SUBSECTION = 512n;
const SUBSECTION_SIZE = PAGES_PER_SUBSECTION << 12n;
/** Physical addresses end here. */
const MAX_PHYSMEM_BITS = 52n;
/** Where the kernel's linear mapping of physical memory begins. */
const PAGE_OFFSET = 0xffff_8880_0000_0000n;
/** dev_pagemap.flags: part of the range holds its own memory map. */
const PGMAP_ALTMAP_VALID = 1 << 0;

/**
 * The alignment that a namespace needs to be mapped on every configuration.
 *
 * @kernel mm/memremap.c
 */
export function memremap_compat_align(): unsigned_long {
	return SUBSECTION_SIZE;
}

function range_len(r: range): bigint {
	return r.end - r.start + 1n;
}

function pfn_first(pgmap: dev_pagemap, range_id: int): bigint {
	return pgmap.ranges[range_id]!.start >> 12n;
}

function pfn_end(pgmap: dev_pagemap, range_id: int): bigint {
	const r = pgmap.ranges[range_id]!;
	return (r.start + range_len(r)) >> 12n;
}

/** How many references a range takes when it is set up: one a page, or one a compound page. */
function pfn_len(pgmap: dev_pagemap, range_id: int): number {
	return Number(
		(pfn_end(pgmap, range_id) - pfn_first(pgmap, range_id)) >> pgmap.vmemmap_shift,
	);
}

/**
 * Whether a pagemap's reference counts its pages in use: private and coherent ones.
 *
 * @param pgmap - the pagemap
 */
export function countsPagesInUse(pgmap: dev_pagemap): boolean {
	return pgmap.type === MEMORY_DEVICE_PRIVATE || pgmap.type === MEMORY_DEVICE_COHERENT;
}

/**
 * Reference count of an idle page.
 *
 * @param pgmap - its pagemap
 */
export function idleCount(pgmap: dev_pagemap): int {
	if (countsPagesInUse(pgmap)) return 0;
	if (!feature('zone_device_zero_refcount')) return 1;
	return pgmap.type === MEMORY_DEVICE_FS_DAX || pgmap.type === MEMORY_DEVICE_PCI_P2PDMA
		? 0
		: 1;
}

/**
 * Whether a PFN is one of a pagemap.
 *
 * @param pgmap - the pagemap
 * @param pfn - page frame number
 * @kernel mm/memremap.c
 */
export function pgmap_pfn_valid(pgmap: dev_pagemap, pfn: unsigned_long): boolean {
	for (let i = 0; i < pgmap.nr_range; i++)
		if (pfn >= pfn_first(pgmap, i) && pfn < pfn_end(pgmap, i)) return true;
	return false;
}

/** Where the struct pages are: vmemmap_base of x86-64 without KASLR, 64 bytes each. */
const VMEMMAP_BASE = 0xffff_ea00_0000_0000n;

/**
 * Take a range out of the memory map, and with it out of the look-up by PFN. The kernels look at the
 * zone of its first page; a range of less than a page has been given none.
 */
function* pageunmap_range(pgmap: dev_pagemap, range_id: int): Sim<void> {
	const first = pfn_first(pgmap, range_id);
	if (!pfn_valid(first))
		oops(
			`BUG: unable to handle page fault for address: ${(VMEMMAP_BASE + first * 64n).toString(16)}`,
			['The range is shorter than a page: it has no struct page to look at.'],
		);
	memoryMap().remove(Number(first));
	yield* synchronize_rcu();
}

/**
 * Take a pagemap down: no new references, wait for those that are there, unmap.
 *
 * @param pgmap - the pagemap; usable again afterwards
 * @context Process context. Sleeps until every page is idle.
 * @kernel mm/memremap.c
 */
export function* memunmap_pages(pgmap: dev_pagemap): Sim<void> {
	const ref = pgmap.ref as percpu_ref;
	percpu_ref_kill(ref);
	if (!countsPagesInUse(pgmap))
		for (let i = 0; i < pgmap.nr_range; i++)
			percpu_ref_put_many(ref, pfn_len(pgmap, i));
	yield* wait_for_completion(pgmap.done as completion);
	percpu_ref_exit(ref);
	for (let i = 0; i < pgmap.nr_range; i++) yield* pageunmap_range(pgmap, i);
}

/** Whether a range meets a range that is in the memory map: RAM, or of any pagemap. */
function intersects(r: range, ram: boolean): boolean {
	const first = Number(r.start >> 12n);
	const last = Number(r.end >> 12n);
	for (const other of memoryMap().ranges)
		if (other.start <= last && other.end > first && (other.pgmap === null) === ram)
			return true;
	return false;
}

/** Plug the struct pages of a range. */
function add_pages(pgmap: dev_pagemap, r: range): int {
	if (shouldFail('add_pages')) return -ENOMEM;
	const start = r.start >> 12n;
	const end = (r.end + 1n) >> 12n;
	const misaligned = (start | end) & (PAGES_PER_SUBSECTION - 1n);
	if (
		WARN_ON(
			misaligned !== 0n,
			`Misaligned add_pages start: ${hex(start)} end: ${hex(end - 1n)}`,
		)
	)
		return -EINVAL;
	if (start === end) return 0;
	if (intersects(r, false)) return -EEXIST;
	memoryMap().add({
		start: Number(start),
		end: Number(end),
		pgmap,
		idle: idleCount(pgmap),
	});
	return 0;
}

function hex(n: bigint): string {
	return `0x${n.toString(16)}`;
}

/** Whether another pagemap, alive, has a PFN. */
function conflict(pfn: bigint): boolean {
	const conflict_pgmap = get_dev_pagemap(pfn);
	if (conflict_pgmap === null) return false;
	WARN_ON(true, 'Conflicting mapping in same section');
	put_dev_pagemap(conflict_pgmap);
	return true;
}

function pagemap_range(pgmap: dev_pagemap, range_id: int): int {
	const r = pgmap.ranges[range_id]!;
	const altmap = (pgmap.flags & PGMAP_ALTMAP_VALID) !== 0;
	if (WARN_ON_ONCE(altmap && range_id > 0, 'altmap not supported for multiple ranges'))
		return -EINVAL;
	if (conflict(r.start >> 12n) || conflict(r.end >> 12n)) return -ENOMEM;
	if (intersects(r, true)) {
		WARN_ON_ONCE(true, `attempted on ram region ${hex(r.start)}-${hex(r.end)}`);
		return -ENXIO;
	}
	if (shouldFail('pgmap_array')) return -ENOMEM;
	if (shouldFail('mhp_range_allowed') || r.end >> MAX_PHYSMEM_BITS !== 0n || r.end < r.start)
		return -EINVAL;
	const error = add_pages(pgmap, r);
	if (error) return error;
	if (!countsPagesInUse(pgmap)) percpu_ref_get_many(pgmap.ref!, pfn_len(pgmap, range_id));
	return 0;
}

/** Whether a private pagemap has all that it must have, in the order in which C asks. */
function checkPrivate(pgmap: dev_pagemap): boolean {
	if (WARN_ON(!pgmap.ops?.migrate_to_ram, 'Missing migrate_to_ram method')) return false;
	if (WARN_ON(!hasFreeOp(pgmap), `Missing ${freeOpName()} method`)) return false;
	return !WARN_ON(pgmap.owner === null, 'Missing owner');
}

function hasFreeOp(pgmap: dev_pagemap): boolean {
	const { ops } = pgmap;
	if (ops === null) return false;
	return (feature('pgmap_folio_ops') ? ops.folio_free : ops.page_free) !== undefined;
}

function freeOpName(): string {
	return feature('pgmap_folio_ops') ? 'folio_free' : 'page_free';
}

/** The pagemap's type-specific demands. */
function checkType(pgmap: dev_pagemap): boolean {
	switch (pgmap.type) {
		case MEMORY_DEVICE_PRIVATE:
			return checkPrivate(pgmap);
		case MEMORY_DEVICE_COHERENT:
			if (WARN_ON(!hasFreeOp(pgmap), `Missing ${freeOpName()} method`))
				return false;
			return !WARN_ON(pgmap.owner === null, 'Missing owner');
		case MEMORY_DEVICE_FS_DAX:
		case MEMORY_DEVICE_GENERIC:
		case MEMORY_DEVICE_PCI_P2PDMA:
			return true;
		default:
			WARN_ON(true, `Invalid pgmap type ${pgmap.type}`);
			return true;
	}
}

/** The last reference of a dying pagemap is gone. */
function dev_pagemap_percpu_release(ref: percpu_ref): void {
	complete((ref.container as dev_pagemap).done as completion);
}

/**
 * Give physical ranges struct pages.
 *
 * @param pgmap - type, ops, owner and ranges are filled in
 * @param _nid - NUMA node
 * @returns kernel virtual address of the first range
 * @retval -EINVAL no range; an op or the owner is missing; a range is not allowed or not aligned
 * @retval -ENOMEM no memory; the first or last page belongs to another pagemap
 * @retval -ENXIO a range touches RAM
 * @retval -EEXIST a range meets one that has struct pages
 * @context Process context. Sleeps.
 * @kernel mm/memremap.c
 */
export function* memremap_pages(pgmap: dev_pagemap, _nid: int): Sim<unsigned_long | errno> {
	const { nr_range } = pgmap;
	if (WARN_ON_ONCE(nr_range === 0, 'nr_range must be specified')) return -EINVAL;
	// MAX_FOLIO_ORDER is that of a PUD.
	if (
		feature('pgmap_folio_ops') &&
		WARN_ON_ONCE(pgmap.vmemmap_shift > 18n, 'requested folio size unsupported')
	)
		return -EINVAL;
	if (!checkType(pgmap)) return -EINVAL;

	pgmap.done ??= new completion('pgmap->done');
	init_completion(pgmap.done);
	const ref = (pgmap.ref = new percpu_ref(pgmap));
	const ret = percpu_ref_init(ref, dev_pagemap_percpu_release, 0, GFP_KERNEL);
	if (ret) return ret;

	// nr_range counts the ranges done, for the unwinding.
	pgmap.nr_range = 0;
	for (let i = 0; i < nr_range; i++) {
		if (preemptible()) yield schedulePoint('write', memoryMap());
		const error = pagemap_range(pgmap, i);
		if (error) {
			yield* memunmap_pages(pgmap);
			pgmap.nr_range = nr_range;
			return error;
		}
		pgmap.nr_range++;
	}
	return PAGE_OFFSET + pgmap.ranges[0]!.start;
}

function devm_memremap_pages_release(data: unknown): Sim<void> {
	return memunmap_pages(data as dev_pagemap);
}

/**
 * memremap_pages() for as long as a driver is bound.
 *
 * @param dev - the device
 * @param pgmap - type, ops, owner and ranges are filled in
 * @returns kernel virtual address of the first range
 * @retval -EINVAL no range; an op or the owner is missing; a range is not allowed or not aligned
 * @retval -ENOMEM no memory; the first or last page belongs to another pagemap
 * @retval -ENXIO a range touches RAM
 * @retval -EEXIST a range meets one that has struct pages
 * @context Process context. Sleeps.
 * @kernel mm/memremap.c
 */
export function* devm_memremap_pages(dev: device, pgmap: dev_pagemap): Sim<unsigned_long | errno> {
	const ret = yield* memremap_pages(pgmap, dev.numa_node);
	if (typeof ret === 'number') return ret;
	// devm_add_action_or_reset(), written out: mm does not import drivers/base.
	if (shouldFail('devm_add_action')) {
		yield* memunmap_pages(pgmap);
		return -ENOMEM;
	}
	const action = devm_memremap_pages_release;
	dev.devres.push({ action, data: pgmap, name: action.name });
	return ret;
}

/**
 * Undo devm_memremap_pages() before the driver is unbound.
 *
 * @param dev - the device
 * @param pgmap - the pagemap
 * @context Process context. Sleeps until every page is idle.
 * @kernel mm/memremap.c
 */
export function* devm_memunmap_pages(dev: device, pgmap: dev_pagemap): Sim<void> {
	const at = dev.devres.findLastIndex(
		(entry) => entry.action === devm_memremap_pages_release && entry.data === pgmap,
	);
	if (WARN_ON(at < 0, 'devres action not found')) return;
	dev.devres.splice(at, 1);
	yield* memunmap_pages(pgmap);
}

/**
 * Take a reference of the pagemap of a PFN.
 *
 * @param pfn - page frame number
 * @param pgmap - v6.12: a pagemap on which the caller has a reference; it is returned as it is if
 *   it covers the PFN, else its reference is put
 * @returns the pagemap; null when there is none, or when it is being taken down
 * @kernel mm/memremap.c
 */
export function get_dev_pagemap(
	pfn: unsigned_long,
	pgmap: dev_pagemap | null = null,
): dev_pagemap | null {
	if (pgmap !== null) {
		const { start, end } = pgmap.ranges[0]!;
		if (pfn << 12n >= start && pfn << 12n <= end) return pgmap;
		put_dev_pagemap(pgmap);
	}
	const found = memoryMap().find(Number(pfn))?.pgmap ?? null;
	return found !== null && percpu_ref_tryget_live(found.ref!) ? found : null;
}

/**
 * Put a reference of a pagemap.
 *
 * @param pgmap - the pagemap, or null
 * @kernel include/linux/memremap.h
 */
export function put_dev_pagemap(pgmap: dev_pagemap | null): void {
	if (pgmap !== null) percpu_ref_put(pgmap.ref!);
}

/**
 * Report the pagemaps that were not taken down, with the pages that are in use.
 *
 * @returns how many ranges are left
 * @context Shutdown of the world.
 */
export function reportPagemapsLeft(): number {
	const map = memoryMap();
	let left = 0;
	for (const { start, end, pgmap, idle } of map.ranges) {
		if (pgmap === null) continue;
		left++;
		const lines: string[] = [];
		for (const section of map.sections.values()) {
			if (section.base < start || section.base >= end) continue;
			for (let at = 0; at < section.refcount.length; at++) {
				const count = section.refcount[at]!;
				if (count === idle || lines.length > 32) continue;
				lines.push(
					`page pfn ${hex(BigInt(section.base + at))} count ${count}, taken at:`,
				);
				lines.push(...formatTrace(section.origins?.[at] ?? null));
			}
		}
		fileReport(
			'leak',
			`pagemap still mapped: pfns ${hex(BigInt(start))}-${hex(BigInt(end - 1))}`,
			lines,
		);
	}
	return left;
}
