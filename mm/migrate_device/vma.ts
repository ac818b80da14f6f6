// SPDX-License-Identifier: GPL-2.0-only
/** Migration of a range of a VMA. */
import { EINVAL } from '../../include/linux/errno.ts';
import type { migrate_vma } from '../../include/linux/migrate.ts';
import { is_vm_hugetlb_page, VM_SPECIAL } from '../../include/linux/mm.ts';
import type { vm_area_struct } from '../../include/linux/mm_types.ts';
import { is_device_private_page, PageLocked } from '../../include/linux/page-flags.ts';
import { type int, PAGE_MASK } from '../../include/linux/types.ts';
import { HarnessError } from '../../include/sim/report.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { migrate_vma_collect } from './collect.ts';
import { __migrate_device_finalize, __migrate_device_pages } from './pages.ts';
import { migrate_device_unmap } from './unmap.ts';

/** Whether the range is whole inside a VMA that can be migrated. */
function rangeIsValid(args: migrate_vma): boolean {
	const vma = args.vma as vm_area_struct | null;
	if (vma === null || is_vm_hugetlb_page(vma) || vma.vm_flags & VM_SPECIAL) return false;
	if (args.end - args.start <= 0n) return false;
	if (args.start < vma.vm_start || args.start >= vma.vm_end) return false;
	return args.end > vma.vm_start && args.end <= vma.vm_end;
}

/** Whether the page of the CPU fault is what the release expects. */
function faultPageIsValid(args: migrate_vma): boolean {
	const { fault_page } = args;
	if (fault_page === null) return true;
	if (!is_device_private_page(fault_page)) return false;
	return !feature('migrate_fault_page_locked') || PageLocked(fault_page);
}

/**
 * Collect and unmap what can be migrated in a range.
 *
 * @param args - vma, start, end, src, dst, flags, pgmap_owner and fault_page are filled in; src,
 *   cpages and npages are set
 * @retval 0 whatever could be collected is in src; cpages tells how much that is
 * @retval -EINVAL no or a special VMA; the range is not inside it; no src or dst; the fault page is
 *   not device-private, v7.3: or not locked
 * @context mmap_lock held. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_setup(args: migrate_vma): Sim<int> {
	args.start &= PAGE_MASK;
	args.end &= PAGE_MASK;
	if (!rangeIsValid(args)) return -EINVAL;
	const src = args.src as BigUint64Array | null;
	const dst = args.dst as BigUint64Array | null;
	if (src === null || dst === null) return -EINVAL;
	if (!faultPageIsValid(args)) return -EINVAL;

	const nr_pages = Number((args.end - args.start) >> 12n);
	if (src.length < nr_pages || dst.length < nr_pages)
		throw new HarnessError('migrate_vma_setup()', `src and dst need ${nr_pages} words`);
	src.fill(0n, 0, nr_pages);
	args.cpages = 0n;
	args.npages = 0n;
	yield* migrate_vma_collect(args);
	if (args.cpages !== 0n)
		args.cpages = yield* migrate_device_unmap(
			src,
			Number(args.npages),
			args.fault_page,
		);
	return 0;
}

/**
 * Move the struct pages' contents, and map destinations where nothing was.
 *
 * @param migrate - after migrate_vma_setup(), dst filled in; MIGRATE is cleared in src where it fails
 * @context mmap_lock held. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_pages(migrate: migrate_vma): Sim<void> {
	const { src, dst, npages } = migrate;
	yield* __migrate_device_pages(src, dst, Number(npages), migrate);
}

/**
 * End a migration: page tables, locks, references.
 *
 * @param migrate - after migrate_vma_pages()
 * @context mmap_lock held. Sleeps.
 * @kernel mm/migrate_device.c
 */
export function* migrate_vma_finalize(migrate: migrate_vma): Sim<void> {
	const { src, dst, npages, fault_page } = migrate;
	yield* __migrate_device_finalize(src, dst, Number(npages), fault_page);
}
