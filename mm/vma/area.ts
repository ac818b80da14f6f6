// SPDX-License-Identifier: GPL-2.0-only
/** One VMA: making, copying, linking to its file's rmap, and letting it go. */
import { VM_SHARED, VM_STICKY, VM_UFFD_WP, VM_WRITE } from '../../include/linux/mm.ts';
import { type mm_struct, vm_area_struct } from '../../include/linux/mm_types.ts';
import type { pgprot_t } from '../../include/linux/pgtable.ts';
import type { bool, vm_flags_t } from '../../include/linux/types.ts';
import { type userfaultfd_ctx, userfaultfd_wp } from '../../include/linux/userfaultfd_k.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { down_write, up_write } from '../../kernel/locking/rwsem.ts';
import { fput } from '../file_table.ts';
import { liveObjects } from '../live.ts';
import { vm_get_page_prot } from '../pgtable/prot.ts';

/**
 * Make a VMA.
 *
 * @param mm - its address space
 * @returns null: made to fail at site `vm_area_alloc`
 * @kernel mm/vma_init.c
 */
export function vm_area_alloc(mm: mm_struct): vm_area_struct | null {
	if (shouldFail('vm_area_alloc')) return null;
	liveObjects().vmas++;
	return new vm_area_struct({ vm_mm: mm });
}

/**
 * Copy a VMA: no anon_vma, no reference of its file yet.
 *
 * @param orig - the VMA
 * @returns null: made to fail at site `vm_area_dup`
 * @kernel mm/vma_init.c
 */
export function vm_area_dup(orig: vm_area_struct): vm_area_struct | null {
	if (shouldFail('vm_area_dup')) return null;
	liveObjects().vmas++;
	return new vm_area_struct({ ...orig, anon_vma_chain: [] });
}

/**
 * Free a VMA.
 *
 * @param _vma - nothing refers to it
 * @kernel mm/vma_init.c
 */
export function vm_area_free(_vma: vm_area_struct): void {
	liveObjects().vmas--;
}

/**
 * Let the file's rmap know a VMA.
 *
 * @param vma - VMA of a file, else nothing happens
 * @context Sleeps.
 * @kernel mm/vma.c
 */
export function* vma_link_file(vma: vm_area_struct): Sim<void> {
	const mapping = vma.vm_file?.f_mapping;
	if (!mapping) return;
	yield* down_write(mapping.i_mmap_rwsem);
	mapping.i_mmap.add(vma);
	yield* up_write(mapping.i_mmap_rwsem);
}

/**
 * Let the file's rmap forget a VMA.
 *
 * @param vma - VMA of a file, else nothing happens
 * @context Sleeps.
 * @kernel mm/vma.c (gone in 7.x)
 */
export function* unlink_file_vma(vma: vm_area_struct): Sim<void> {
	const mapping = vma.vm_file?.f_mapping;
	if (!mapping) return;
	yield* down_write(mapping.i_mmap_rwsem);
	mapping.i_mmap.delete(vma);
	yield* up_write(mapping.i_mmap_rwsem);
}

/**
 * Let a VMA go that is unlinked from everything.
 *
 * @param vma - the VMA
 * @context Sleeps.
 * @kernel mm/vma.c
 */
export function* remove_vma(vma: vm_area_struct): Sim<void> {
	const close = vma.vm_ops?.close;
	if (close !== undefined) yield* close(vma);
	if (vma.vm_file !== null) yield* fput(vma.vm_file);
	vm_area_free(vma);
}

/**
 * Whether the first write to a page of a VMA must fault, so that somebody hears of it.
 *
 * @param vma - the VMA
 * @param vm_page_prot - its protection bits: those of its flags, or what somebody made of them
 * @deviates no soft-dirty tracking, and no file system that counts dirty pages
 * @kernel mm/vma.c
 */
export function vma_wants_writenotify(vma: vm_area_struct, vm_page_prot: pgprot_t): bool {
	// private mappings take write faults anyway
	if ((vma.vm_flags & (VM_WRITE | VM_SHARED)) !== (VM_WRITE | VM_SHARED)) return false;
	if (vma.vm_ops?.page_mkwrite !== undefined) return true;
	// a driver's own bits, or those of a watched VMA: new entries are what these say already
	if (vm_page_prot !== vm_get_page_prot(vma.vm_flags)) return false;
	return userfaultfd_wp(vma);
}

/**
 * Set the protection bits of a VMA from its flags.
 *
 * @param vma - the VMA
 * @kernel mm/mmap.c
 */
export function vma_set_page_prot(vma: vm_area_struct): void {
	let prot = vm_get_page_prot(vma.vm_flags);
	if (vma_wants_writenotify(vma, prot)) prot = vm_get_page_prot(vma.vm_flags & ~VM_SHARED);
	vma.vm_page_prot = prot;
}

/**
 * Let a userfaultfd resolve the faults of a VMA, or nobody.
 *
 * @param vma - the VMA
 * @param ctx - the userfaultfd, or null
 * @param vm_flags - flags of the VMA, with those that say what is watched
 * @context The mmap lock is held for writing.
 * @kernel mm/userfaultfd.c
 */
export function userfaultfd_set_ctx(
	vma: vm_area_struct,
	ctx: userfaultfd_ctx | null,
	vm_flags: vm_flags_t,
): void {
	const changed = ((vma.vm_flags ^ vm_flags) & VM_UFFD_WP) !== 0n;
	vma.vm_userfaultfd_ctx = ctx;
	vma.vm_flags = vm_flags | (vma.vm_flags & VM_STICKY);
	// new entries of shared memory must not be writable while writes are watched
	if ((vm_flags & VM_SHARED) !== 0n && changed) vma_set_page_prot(vma);
}

/**
 * Whether changing the protection of a VMA must look at each pte to make it writable.
 *
 * @param vma - the VMA, with its new flags
 * @kernel mm/vma.h
 */
export function vma_wants_manual_pte_write_upgrade(vma: vm_area_struct): bool {
	if ((vma.vm_flags & VM_SHARED) !== 0n) return vma_wants_writenotify(vma, vma.vm_page_prot);
	return (vma.vm_flags & VM_WRITE) !== 0n;
}

/**
 * Whether memory of a mapping is reserved when it is made.
 *
 * @param vm_flags - flags of the mapping
 * @param noreserve - VM_NORESERVE
 * @kernel mm/vma.c
 */
export function accountable_mapping(vm_flags: vm_flags_t, noreserve: vm_flags_t): bool {
	return (vm_flags & (noreserve | VM_SHARED | VM_WRITE)) === VM_WRITE;
}
