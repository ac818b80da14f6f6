// SPDX-License-Identifier: GPL-2.0-only
/**
 * Migration to the device and back: by command, by a CPU's touch, and when a device goes.
 *
 * Guarantee: data follows the page; the mirror has a device page's entry from the moment that it is
 * mapped by a device entry, and never the entry of a page that went back.
 * Mechanism: a folio of PMD size (v7.3) is one word in front of 511 empty ones, and moves whole or, if
 * no large destination can be had, as small pages.
 *
 * ```
 *   src   [ COMPOUND pfn ][ 0 ][ 0 ] …        dst   [ COMPOUND pfn ][ 0 ] …      moved whole
 *                                              dst   [ pfn ][ pfn ][ pfn ] …      no large page
 * ```
 *
 * @kernel lib/test_hmm.c
 */
import { oops, WARN_ON } from '../../include/linux/bug.ts';
import { EINVAL, ENOMEM } from '../../include/linux/errno.ts';
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	MIGRATE_PFN_VALID,
	MIGRATE_PFN_WRITE,
	MIGRATE_VMA_SELECT_COMPOUND,
	MIGRATE_VMA_SELECT_DEVICE_COHERENT,
	MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
	migrate_pfn_to_page,
	migrate_vma,
} from '../../include/linux/migrate.ts';
import { VM_READ, VM_WRITE } from '../../include/linux/mm.ts';
import {
	type page,
	page_folio,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { nth_page, page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	folio_order,
	is_device_coherent_page,
	is_device_private_page,
	is_zone_device_page,
} from '../../include/linux/page-flags.ts';
import {
	__GFP_NOFAIL,
	GFP_HIGHUSER_MOVABLE,
	HPAGE_PMD_NR,
	type int,
	PAGE_SIZE,
	PTRS_PER_PTE,
	type unsigned_long,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import { xa_erase } from '../../include/linux/xarray.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { mmget_not_zero, mmput } from '../../mm/exec_mm.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import {
	migrate_device_finalize,
	migrate_device_pages,
	migrate_device_range,
	migrate_vma_finalize,
	migrate_vma_pages,
	migrate_vma_setup,
} from '../../mm/migrate_device.ts';
import { vma_lookup } from '../../mm/mmap.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	__free_page,
	alloc_page,
	clear_highpage,
	copy_highpage,
	folio_alloc,
} from '../../mm/page_alloc.ts';
import { HMM_DMIRROR_FLAG_FAIL_ALLOC, type hmm_dmirror_cmd } from '../test_hmm_uapi.ts';
import {
	BACKING_PAGE,
	type dmirror_chunk,
	dmirror_devmem_alloc_page,
	dmirror_is_private_zone,
} from './device.ts';
import { DPT_XA_TAG_WRITE, type dmirror, readBack, storeEntry } from './mirror.ts';

/** Pages that one migration takes. */
function pagesAtOnce(): bigint {
	return feature('test_hmm_large') ? BigInt(PTRS_PER_PTE) : 64n;
}

/** Whether an allocation is refused because the program asked for it, once. */
function failsOnce(self: dmirror): boolean {
	if (!(self.flags & HMM_DMIRROR_FLAG_FAIL_ALLOC)) return false;
	self.flags &= ~HMM_DMIRROR_FLAG_FAIL_ALLOC;
	return true;
}

function selectOwn(self: dmirror): unsigned_long {
	return dmirror_is_private_zone(self.mdevice)
		? MIGRATE_VMA_SELECT_DEVICE_PRIVATE
		: MIGRATE_VMA_SELECT_DEVICE_COHERENT;
}

function copyOrClear(to: page, from: page | null): void {
	if (from === null) clear_highpage(to);
	else copy_highpage(to, from);
}

/** Word of a page that was allocated for the migration. */
function wordOf(p: page, write: bigint): bigint {
	return migrate_pfn(page_to_pfn(p)) | write;
}

/** A large destination could not be had: as many small ones. */
function* smallDevicePages(
	self: dmirror,
	args: migrate_vma,
	at: int,
	spage: page | null,
	write: bigint,
): Sim<int> {
	const nr = spage === null ? HPAGE_PMD_NR : folio_nr_pages(page_folio(spage));
	const n = Math.min(nr, args.src.length - at);
	for (let i = 0; i < n; i++) {
		const dpage = yield* dmirror_devmem_alloc_page(self.mdevice, false);
		if (dpage === null && feature('fix_s28')) continue;
		if (dpage === null)
			return oops(
				'BUG: kernel NULL pointer dereference in dmirror_migrate_to_device',
				['The driver does not look whether it got a small page.'],
			);
		const rpage = BACKING_PAGE(dpage);
		if (rpage !== dpage) rpage.zone_device_data = self;
		args.dst[at + i] = wordOf(dpage, write);
		copyOrClear(rpage, spage === null ? null : nth_page(spage, i));
	}
	return n;
}

/** Whether the device may write the page that this word moves. */
function writeBit(args: migrate_vma, word: bigint, spage: page | null): bigint {
	if (word & MIGRATE_PFN_WRITE) return MIGRATE_PFN_WRITE;
	if (spage !== null || (feature('test_hmm_large') && !feature('fix_s28'))) return 0n;
	return args.vma!.vm_flags & VM_WRITE ? MIGRATE_PFN_WRITE : 0n;
}

/** Destination and data of one word; returns the words that it stands for. */
function* toDeviceWord(self: dmirror, args: migrate_vma, i: int): Sim<int> {
	const word = args.src[i]!;
	if (!(word & MIGRATE_PFN_MIGRATE)) return 1;
	const large = (word & MIGRATE_PFN_COMPOUND) !== 0n;
	// null: nothing was there, or a zero page
	const spage = migrate_pfn_to_page(word);
	if (
		spage !== null &&
		WARN_ON(
			is_zone_device_page(spage),
			`page already in device spage pfn: 0x${page_to_pfn(spage).toString(16)}`,
		)
	)
		return 1;
	const write = writeBit(args, word, spage);
	const dpage = failsOnce(self)
		? null
		: yield* dmirror_devmem_alloc_page(self.mdevice, large);
	if (dpage === null) return large ? yield* smallDevicePages(self, args, i, spage, write) : 1;
	const rpage = BACKING_PAGE(dpage);
	if (rpage !== dpage) rpage.zone_device_data = self;
	args.dst[i] = wordOf(dpage, write) | (large ? MIGRATE_PFN_COMPOUND : 0n);
	const nr = large ? folio_nr_pages(page_folio(dpage)) : 1;
	for (let k = 0; k < nr; k++)
		copyOrClear(nth_page(rpage, k), spage === null ? null : nth_page(spage, k));
	return nr;
}

/** The mirror's entries of what went to the device. */
function* dmirror_migrate_finalize_and_map(args: migrate_vma, self: dmirror): Sim<int> {
	yield* mutex_lock(self.mutex);
	let ret = 0;
	for (let i = 0; i < args.src.length && ret === 0; i++) {
		if (!(args.src[i]! & MIGRATE_PFN_MIGRATE)) continue;
		const dst = args.dst[i]!;
		const dpage = migrate_pfn_to_page(dst);
		if (dpage === null) continue;
		const nr = dst & MIGRATE_PFN_COMPOUND ? folio_nr_pages(page_folio(dpage)) : 1;
		const rpage = BACKING_PAGE(dpage);
		const tag = dst & MIGRATE_PFN_WRITE ? DPT_XA_TAG_WRITE : 0;
		for (let k = 0; k < nr && ret === 0; k++)
			ret = storeEntry(
				self,
				(args.start >> 12n) + BigInt(i + k),
				nth_page(rpage, k),
				tag,
			);
	}
	yield* mutex_unlock(self.mutex);
	return ret;
}

/** One destination page for a small source; null: out of memory. */
function* systemPage(self: dmirror, order: int): Sim<page | null> {
	if (failsOnce(self)) return null;
	if (order === 0) return yield* alloc_page(GFP_HIGHUSER_MOVABLE);
	return (yield* folio_alloc(GFP_HIGHUSER_MOVABLE, order))?.page ?? null;
}

/** A large page of the device goes to small ones; false: not even those could be had. */
function* splitToSystem(
	self: dmirror,
	args: migrate_vma,
	at: int,
	spage: page,
	nr: int,
): Sim<boolean> {
	for (let i = 0; i < nr; i++) {
		const dpage = yield* alloc_page(GFP_HIGHUSER_MOVABLE);
		if (dpage === null) {
			for (let k = i - 1; k >= 0; k--) {
				const given = migrate_pfn_to_page(args.dst[at + k]!) as page;
				yield* folio_unlock(page_folio(given));
				yield* __free_page(given);
			}
			args.dst.fill(0n, at, at + nr);
			return false;
		}
		yield* folio_lock(page_folio(dpage));
		// The first word keeps its WRITE bit, the others have none.
		args.dst[at + i] = wordOf(dpage, i === 0 ? args.dst[at]! & MIGRATE_PFN_WRITE : 0n);
		xa_erase(self.pt, (args.start >> 12n) + BigInt(at + i));
		copy_highpage(dpage, nth_page(spage, i));
	}
	return true;
}

/** Destination and data of one word on its way back; a negative count: out of memory. */
function* toSystemWord(self: dmirror, args: migrate_vma, i: int): Sim<int> {
	const word = args.src[i]!;
	const found = migrate_pfn_to_page(word);
	if (found === null || !(word & MIGRATE_PFN_MIGRATE)) return 1;
	if (
		WARN_ON(
			!is_device_private_page(found) && !is_device_coherent_page(found),
			'a page of the system is on its way to the system',
		)
	)
		return 1;
	const spage = BACKING_PAGE(found);
	const order = feature('test_hmm_large') ? folio_order(page_folio(spage)) : 0;
	const nr = 1 << order;
	const write = word & MIGRATE_PFN_WRITE ? MIGRATE_PFN_WRITE : 0n;
	const dpage = yield* systemPage(self, order);
	if (dpage === null) {
		if (order === 0) return feature('test_hmm_large') ? -1 : 1;
		args.dst[i] = write;
		return (yield* splitToSystem(self, args, i, spage, nr)) ? nr : -1;
	}
	yield* folio_lock(page_folio(dpage));
	args.dst[i] = wordOf(dpage, write) | (order === 0 ? 0n : MIGRATE_PFN_COMPOUND);
	for (let k = 0; k < nr; k++) {
		xa_erase(self.pt, (args.start >> 12n) + BigInt(i + k));
		copy_highpage(nth_page(dpage, k), nth_page(spage, k));
	}
	return nr;
}

/** All words on their way back. */
function* dmirror_devmem_fault_alloc_and_copy(args: migrate_vma, self: dmirror): Sim<vm_fault_t> {
	for (let i = 0; i < args.src.length; ) {
		const done = yield* toSystemWord(self, args, i);
		if (done < 0) return VM_FAULT_OOM;
		i += done;
	}
	return 0;
}

/** A migration of part of a VMA. */
function migrationOf(
	self: dmirror,
	vma: migrate_vma['vma'],
	start: unsigned_long,
	end: unsigned_long,
	flags: unsigned_long,
): migrate_vma {
	const n = Number((end - start) / PAGE_SIZE);
	return new migrate_vma({
		vma,
		start,
		end,
		src: new BigUint64Array(n),
		dst: new BigUint64Array(n),
		pgmap_owner: self.mdevice,
		flags,
	});
}

/** Do `body` for each part of a range, VMA by VMA. */
function* forEachPart(
	self: dmirror,
	cmd: hmm_dmirror_cmd,
	flags: unsigned_long,
	body: (args: migrate_vma) => Sim<int>,
): Sim<int> {
	const { mm } = self;
	if (!mmget_not_zero(mm)) return -EINVAL;
	const end = cmd.addr + cmd.npages * PAGE_SIZE;
	const atOnce = pagesAtOnce() * PAGE_SIZE;
	const compound = feature('test_hmm_large') ? MIGRATE_VMA_SELECT_COMPOUND : 0n;
	yield* mmap_read_lock(mm);
	let ret = 0;
	for (let at = cmd.addr; at < end && ret === 0; ) {
		const vma = vma_lookup(mm, at);
		if (vma === null || !(vma.vm_flags & VM_READ)) {
			ret = -EINVAL;
			break;
		}
		let next = at + atOnce < end ? at + atOnce : end;
		if (next > vma.vm_end) next = vma.vm_end;
		const args = migrationOf(self, vma, at, next, flags | compound);
		ret = yield* migrate_vma_setup(args);
		if (ret === 0) ret = yield* body(args);
		at = next;
	}
	yield* mmap_read_unlock(mm);
	yield* mmput(mm);
	return ret;
}

/**
 * HMM_DMIRROR_MIGRATE_TO_SYS.
 *
 * @param self - the mirror
 * @param cmd - range; out: pages that moved
 * @returns 0 or an errno
 * @kernel lib/test_hmm.c
 */
export function* dmirror_migrate_to_system(self: dmirror, cmd: hmm_dmirror_cmd): Sim<int> {
	return yield* forEachPart(self, cmd, selectOwn(self), function* (args) {
		if (yield* dmirror_devmem_fault_alloc_and_copy(args, self)) {
			yield* migrate_vma_finalize(args);
			return -ENOMEM;
		}
		yield* migrate_vma_pages(args);
		const moved = MIGRATE_PFN_VALID | MIGRATE_PFN_MIGRATE;
		for (const word of args.src) if ((word & moved) === moved) cmd.cpages++;
		yield* migrate_vma_finalize(args);
		return 0;
	});
}

/**
 * HMM_DMIRROR_MIGRATE_TO_DEV.
 *
 * @param self - the mirror
 * @param cmd - range and buffer; out: pages that are on the device
 * @retval -ENOENT not all of them are
 * @kernel lib/test_hmm.c
 */
export function* dmirror_migrate_to_device(self: dmirror, cmd: hmm_dmirror_cmd): Sim<int> {
	const ret = yield* forEachPart(self, cmd, MIGRATE_VMA_SELECT_SYSTEM, function* (args) {
		for (let i = 0; i < args.src.length; ) i += yield* toDeviceWord(self, args, i);
		yield* migrate_vma_pages(args);
		yield* dmirror_migrate_finalize_and_map(args, self);
		yield* migrate_vma_finalize(args);
		return 0;
	});
	return ret === 0 ? yield* readBack(self, cmd) : ret;
}

/**
 * A CPU touched a private page: `migrate_to_ram`.
 *
 * @param vmf - the fault
 * @kernel lib/test_hmm.c
 */
export function* dmirror_devmem_fault(vmf: vm_fault): Sim<vm_fault_t> {
	const touched = vmf.page as page;
	const rpage = page_folio(touched).page.zone_device_data as page;
	const self = rpage.zone_device_data as dmirror;
	self.mdevice.ramFaults++;
	// A folio that is mapped by ptes may be split soon: only the page comes.
	const order =
		feature('test_hmm_large') && vmf.pte === null
			? folio_order(page_folio(touched))
			: 0;
	const size = PAGE_SIZE << BigInt(order);
	const start = vmf.address & ~(size - 1n);
	const flags = selectOwn(self) | (order === 0 ? 0n : MIGRATE_VMA_SELECT_COMPOUND);
	const args = migrationOf(self, vmf.vma, start, start + size, flags);
	args.fault_page = touched;
	if (yield* migrate_vma_setup(args)) return VM_FAULT_SIGBUS;
	const ret = yield* dmirror_devmem_fault_alloc_and_copy(args, self);
	if (ret === 0) {
		yield* migrate_vma_pages(args);
		for (const word of args.src)
			if (word & MIGRATE_PFN_MIGRATE) self.mdevice.ramPages += 1 << order;
	}
	if (ret === 0 || feature('test_hmm_large')) yield* migrate_vma_finalize(args);
	return ret;
}

/**
 * Bring everything of a chunk back to system memory.
 *
 * @param chunk - the chunk
 * @kernel lib/test_hmm.c
 */
export function* dmirror_device_evict_chunk(chunk: dmirror_chunk): Sim<void> {
	const { end } = chunk.pagemap.ranges[0]!;
	// what was never handed out holds nothing
	const first = BigInt(chunk.untouchedEnd);
	const npages = (end >> 12n) + 1n - first;
	const n = Number(npages);
	if (n === 0) return;
	const src = new BigUint64Array(n);
	const dst = new BigUint64Array(n);
	yield* migrate_device_range(src, first, npages);
	for (let i = 0; i < n; i++) {
		const word = src[i]!;
		const found = migrate_pfn_to_page(word);
		if (found === null || !(word & MIGRATE_PFN_MIGRATE)) continue;
		const spage = BACKING_PAGE(found);
		const order = word & MIGRATE_PFN_COMPOUND ? folio_order(page_folio(found)) : 0;
		const dpage = (yield* folio_alloc(GFP_HIGHUSER_MOVABLE | __GFP_NOFAIL, order))!
			.page;
		yield* folio_lock(page_folio(dpage));
		dst[i] =
			wordOf(dpage, word & MIGRATE_PFN_WRITE) |
			(order === 0 ? 0n : MIGRATE_PFN_COMPOUND);
		for (let k = 0; k < 1 << order; k++)
			copy_highpage(nth_page(dpage, k), nth_page(spage, k));
	}
	yield* migrate_device_pages(src, dst, npages);
	yield* migrate_device_finalize(src, dst, npages);
}
