// SPDX-License-Identifier: GPL-2.0-only
/** The second and third step of a migration, with a VMA or without. */
import { BUG_ON, WARN_ON_ONCE } from '../../include/linux/bug.ts';
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	migrate_pfn_to_page,
	type migrate_vma,
} from '../../include/linux/migrate.ts';
import {
	address_space,
	type folio,
	type page,
	page_folio,
	type vm_area_struct,
} from '../../include/linux/mm_types.ts';
import { MMU_NOTIFY_MIGRATE, mmu_notifier_range } from '../../include/linux/mmu_notifier.ts';
import {
	folio_is_device_coherent,
	folio_is_device_private,
	folio_is_zone_device,
	folio_test_anon,
	PG_writeback,
} from '../../include/linux/page-flags.ts';
import { PAGE_SIZE } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { folio_unlock } from '../filemap.ts';
import { folio_migrate_flags, folio_migrate_mapping, remove_migration_ptes } from '../migrate.ts';
import {
	mmu_notifier_invalidate_range_end,
	mmu_notifier_invalidate_range_start,
	mmu_notifier_range_init_owner,
} from '../mmu_notifier.ts';
import { folio_mapping } from '../rmap.ts';
import { folio_add_lru, folio_put } from '../swap.ts';
import { folio_free_swap } from '../swapfile.ts';
import { migrate_vma_nr_pages, migrate_vma_split_unmapped_folio } from './huge.ts';
import { migrate_vma_insert_page } from './insert.ts';

/** State of one __migrate_device_pages(). */
class pages_walk {
	src: BigUint64Array;
	dst: BigUint64Array;
	npages: number;
	migrate: migrate_vma | null;
	/** The invalidation that covers inserted pages, once there is one. */
	range: mmu_notifier_range | null = null;

	/**
	 * @param src - words of the sources
	 * @param dst - words of the destinations
	 * @param npages - how many
	 * @param migrate - the migration; null without VMA
	 */
	constructor(
		src: BigUint64Array,
		dst: BigUint64Array,
		npages: number,
		migrate: migrate_vma | null,
	) {
		this.src = src;
		this.dst = dst;
		this.npages = npages;
		this.migrate = migrate;
	}
}

/** Where nothing was: map the destination. One invalidation from the first such address to the end. */
function* insertAt(w: pages_walk, i: number): Sim<number> {
	const { src, dst, migrate } = w;
	if (!(src[i]! & MIGRATE_PFN_MIGRATE)) return 1;
	BUG_ON(migrate === null, 'a word without page needs a VMA');
	const { start, end, vma, pgmap_owner } = migrate!;
	const addr = start + BigInt(i) * PAGE_SIZE;
	if (w.range === null) {
		w.range = new mmu_notifier_range();
		const { vm_mm } = vma as vm_area_struct;
		mmu_notifier_range_init_owner(
			w.range,
			MMU_NOTIFY_MIGRATE,
			0,
			vm_mm,
			addr,
			end,
			pgmap_owner,
		);
		yield* mmu_notifier_invalidate_range_start(w.range);
	}
	let nr = 1;
	if (src[i]! & MIGRATE_PFN_COMPOUND && !(dst[i]! & MIGRATE_PFN_COMPOUND)) {
		nr = migrate_vma_nr_pages(src[i]!);
		src[i]! &= ~MIGRATE_PFN_COMPOUND;
	}
	for (let j = 0; j < nr && i + j < w.npages; j++) {
		src[i + j]! |= MIGRATE_PFN_MIGRATE;
		yield* migrate_vma_insert_page(migrate!, addr + BigInt(j) * PAGE_SIZE, i + j);
	}
	return nr;
}

/** v7.3: make source and destination the same size; 0 means that the source stays. */
function* matchSizes(w: pages_walk, i: number, f: folio): Sim<number> {
	const { src, dst, migrate } = w;
	if (!feature('device_private_thp') || !(src[i]! & MIGRATE_PFN_MIGRATE)) return 1;
	const large = (src[i]! & MIGRATE_PFN_COMPOUND) !== 0n;
	const largeDst = (dst[i]! & MIGRATE_PFN_COMPOUND) !== 0n;
	if (large && !largeDst) {
		if (migrate !== null) {
			const addr = migrate.start + BigInt(i) * PAGE_SIZE;
			// then only the first of its parts is next
			if (!(yield* migrate_vma_split_unmapped_folio(migrate, i, addr, f)))
				return 1;
		}
		src[i]! &= ~(MIGRATE_PFN_MIGRATE | MIGRATE_PFN_COMPOUND);
		return 0;
	}
	if (largeDst && !large) {
		src[i]! &= ~MIGRATE_PFN_MIGRATE;
		return 0;
	}
	return 1;
}

/** Whether a folio may move to where its destination is. */
function* allowed(f: folio, newfolio: folio): Sim<boolean> {
	if (!folio_is_device_private(newfolio) && !folio_is_device_coherent(newfolio))
		return !folio_is_zone_device(newfolio);
	// only anonymous memory goes to a device, and leaves the swap cache before
	if (folio_mapping(f) === null) return true;
	return folio_test_anon(f) && (yield* folio_free_swap(f));
}

/** Move the struct page's contents of a source to its destination. */
function* moveAt(w: pages_walk, i: number, p: page, newpage: page): Sim<number> {
	const { src, dst, migrate } = w;
	const f = page_folio(p);
	const nr = yield* matchSizes(w, i, f);
	if (nr === 0) return 1;
	if (!(yield* allowed(f, page_folio(newpage)))) {
		src[i]! &= ~MIGRATE_PFN_MIGRATE;
		return nr;
	}
	BUG_ON((f.flags & PG_writeback) !== 0, 'a folio under writeback is migrated');
	const mapping = f.mapping instanceof address_space ? f.mapping : null;
	const extra_cnt = migrate !== null && migrate.fault_page === p ? 1 : 0;
	for (let j = 0; j < nr && i + j < w.npages; j++) {
		const from = page_folio(migrate_pfn_to_page(src[i + j]!) as page);
		const to = page_folio(migrate_pfn_to_page(dst[i + j]!) as page);
		if (yield* folio_migrate_mapping(mapping, to, from, extra_cnt))
			src[i + j]! &= ~MIGRATE_PFN_MIGRATE;
		else folio_migrate_flags(to, from);
	}
	return nr;
}

/**
 * Move the struct pages' contents, and map destinations where nothing was.
 *
 * @param src_pfns - words of the sources; MIGRATE is cleared where it fails
 * @param dst_pfns - words of the destinations, locked pages of the driver
 * @param npages - how many words
 * @param migrate - the migration; null without VMA
 * @context Process context; with a VMA mmap_lock is held. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* __migrate_device_pages(
	src_pfns: BigUint64Array,
	dst_pfns: BigUint64Array,
	npages: number,
	migrate: migrate_vma | null,
): Sim<void> {
	const w = new pages_walk(src_pfns, dst_pfns, npages, migrate);
	for (let i = 0; i < npages; ) {
		const newpage = migrate_pfn_to_page(dst_pfns[i]!);
		const p = migrate_pfn_to_page(src_pfns[i]!);
		if (newpage === null) {
			src_pfns[i]! &= ~MIGRATE_PFN_MIGRATE;
			i++;
		} else if (p === null) i += yield* insertAt(w, i);
		else i += yield* moveAt(w, i, p, newpage);
	}
	if (w.range !== null) yield* mmu_notifier_invalidate_range_end(w.range);
}

/** A destination is not needed, or mapped now: the driver's lock and reference go. */
function* release(dst: folio, fault_folio: folio | null): Sim<void> {
	WARN_ON_ONCE(fault_folio === dst, 'the fault page is a destination');
	yield* folio_unlock(dst);
	yield* folio_put(dst);
}

/**
 * A destination that migrate_vma_pages() was never called for: the kernels map it all the same, find
 * nothing that maps it, and leave the migration entries of the source behind.
 */
function neverMoved(src: folio, dst: folio): boolean {
	return dst.mapping === null && src.mapping !== null && feature('fix_s8');
}

/**
 * Put destinations, or sources where it failed, into the page tables; unlock and put everything.
 *
 * @param src_pfns - words of the sources
 * @param dst_pfns - words of the destinations
 * @param npages - how many words
 * @param fault_page - v7.3: its folio stays locked, for the CPU fault
 * @context Process context. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* __migrate_device_finalize(
	src_pfns: BigUint64Array,
	dst_pfns: BigUint64Array,
	npages: number,
	fault_page: page | null,
): Sim<void> {
	const locked = feature('migrate_fault_page_locked');
	const fault_folio = fault_page !== null && locked ? page_folio(fault_page) : null;
	for (let i = 0; i < npages; i++) {
		const newpage = migrate_pfn_to_page(dst_pfns[i]!);
		const p = migrate_pfn_to_page(src_pfns[i]!);
		let dst = newpage === null ? null : page_folio(newpage);
		if (p === null) {
			if (dst !== null) yield* release(dst, fault_folio);
			continue;
		}
		const src = page_folio(p);
		if (!(src_pfns[i]! & MIGRATE_PFN_MIGRATE) || dst === null || neverMoved(src, dst)) {
			if (dst !== null) yield* release(dst, fault_folio);
			dst = src;
		}
		if (!folio_is_zone_device(dst)) folio_add_lru(dst);
		yield* remove_migration_ptes(src, dst, 0);
		if (src !== fault_folio) yield* folio_unlock(src);
		yield* folio_put(src);
		if (dst !== src) yield* release(dst, fault_folio);
	}
}
