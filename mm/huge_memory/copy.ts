// SPDX-License-Identifier: GPL-2.0-only
/**
 * A huge pmd and fork.
 *
 * ```
 *   parent's pmd        parent after it     child
 *   huge page           read-only           read-only, not young
 *   huge zero page      as it was           the same
 *   MIGRATION_*         MIGRATION_READ      MIGRATION_READ
 *   DEVICE_WRITE        DEVICE_READ         DEVICE_READ
 *   maybe pinned        split               page by page
 * ```
 */
import { EAGAIN, ENOMEM } from '../../include/linux/errno.ts';
import { SINGLE_DEPTH_NESTING } from '../../include/linux/lockdep.ts';
import { vma_is_anonymous } from '../../include/linux/mm.ts';
import { MM_ANONPAGES, page_folio, type vm_area_struct } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	pmd_clear_uffd_wp,
	pmd_mkold,
	pmd_modify,
	pmd_pfn,
	type pmd_t,
	pmd_trans_huge,
	pmd_wrprotect,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import {
	make_readable_device_private_entry,
	make_readable_migration_entry,
	pmd_is_device_private_entry,
	pmd_is_migration_entry,
	pmd_swp_clear_uffd_wp,
	pmd_swp_mkuffd_wp,
	pmd_swp_uffd_wp,
	softleaf_from_pmd,
	softleaf_is_device_private_write,
	softleaf_is_migration_read,
	softleaf_to_folio,
	softleaf_to_pmd,
	swp_offset,
} from '../../include/linux/swapops.ts';
import { HPAGE_PMD_NR, type int, type unsigned_long } from '../../include/linux/types.ts';
import {
	userfaultfd_huge_pmd_rwp,
	userfaultfd_protected,
} from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { spin_lock_nested, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { add_mm_counter } from '../memory/counter.ts';
import {
	freeTable,
	pmd_lock,
	pmd_lockptr,
	pmdp_set_wrprotect,
	pte_alloc_one,
	set_pmd_at,
} from '../pgtable.ts';
import { folio_try_dup_anon_rmap_pmd } from '../rmap/mapcount.ts';
import { folio_get, folio_put } from '../swap.ts';
import { pgtable_trans_huge_deposit } from './deposit.ts';
import { __split_huge_pmd } from './split_pmd.ts';
import { is_huge_zero_pmd } from './zero.ts';

/** One pmd and its twin. */
interface HugeTwins {
	readonly dst: TableEntry;
	readonly src: TableEntry;
	readonly dst_vma: vm_area_struct;
	readonly src_vma: vm_area_struct;
	readonly addr: bigint;
}

/** An entry in place of another that is not present. */
function keepUffd(old: pmd_t, pmd: pmd_t): pmd_t {
	return pmd_swp_uffd_wp(old) ? pmd_swp_mkuffd_wp(pmd) : pmd;
}

/** The child's entry for one that is not present, whose parent's becomes read-only as well. */
function* copy_huge_non_present_pmd(at: HugeTwins): Sim<pmd_t> {
	const { src, dst_vma, src_vma, addr } = at;
	const { vm_mm: src_mm } = src_vma;
	let pmd = src.value;
	const entry = softleaf_from_pmd(pmd);
	const offset = swp_offset(entry);
	if (pmd_is_migration_entry(pmd)) {
		if (softleaf_is_migration_read(entry)) return pmd;
		pmd = keepUffd(pmd, softleaf_to_pmd(make_readable_migration_entry(offset)));
		yield* set_pmd_at(src_mm, addr, src, pmd);
		return pmd;
	}
	if (softleaf_is_device_private_write(entry)) {
		pmd = keepUffd(pmd, softleaf_to_pmd(make_readable_device_private_entry(offset)));
		yield* set_pmd_at(src_mm, addr, src, pmd);
	}
	const f = softleaf_to_folio(entry);
	folio_get(f);
	// cannot fail: nobody can pin what no CPU can address
	yield* folio_try_dup_anon_rmap_pmd(f, dst_vma, src_vma);
	return pmd;
}

/** Without the protection by a userfaultfd that does not watch the child. */
function presentForChild({ dst_vma, src_vma }: HugeTwins, pmd: pmd_t): pmd_t {
	if (userfaultfd_protected(dst_vma)) return pmd;
	const open = userfaultfd_huge_pmd_rwp(src_vma, pmd)
		? pmd_modify(pmd, dst_vma.vm_page_prot)
		: pmd;
	return pmd_clear_uffd_wp(open);
}

/** The child's entry for a present one; null: the folio may be pinned. */
function* copyPresent(at: HugeTwins): Sim<pmd_t | null> {
	const { src, dst_vma, src_vma, addr } = at;
	const pmd = src.value;
	if (!is_huge_zero_pmd(pmd)) {
		const f = page_folio(pfn_to_page(pmd_pfn(pmd)));
		folio_get(f);
		if ((yield* folio_try_dup_anon_rmap_pmd(f, dst_vma, src_vma)) !== 0) {
			yield* folio_put(f);
			return null;
		}
		add_mm_counter(dst_vma.vm_mm, MM_ANONPAGES, HPAGE_PMD_NR);
	}
	yield* pmdp_set_wrprotect(src_vma.vm_mm, addr, src);
	return pmd_mkold(pmd_wrprotect(presentForChild(at, pmd)));
}

/** Both entries are locked: 0 copied, -EAGAIN look again, -ENOMEM is never. */
function* copyLocked(at: HugeTwins, pgtable: number): Sim<int | 'split'> {
	const { src, dst, dst_vma, addr } = at;
	const { vm_mm: dst_mm } = dst_vma;
	const was = src.value;
	const absent = pmd_is_migration_entry(was) || pmd_is_device_private_entry(was);
	if (!absent && !pmd_trans_huge(was)) return -EAGAIN;
	let pmd = absent ? yield* copy_huge_non_present_pmd(at) : yield* copyPresent(at);
	if (pmd === null) return 'split';
	if (absent) {
		add_mm_counter(dst_mm, MM_ANONPAGES, HPAGE_PMD_NR);
		if (!userfaultfd_protected(dst_vma)) pmd = pmd_swp_clear_uffd_wp(pmd);
	}
	pgtable_trans_huge_deposit(dst_mm, dst, pgtable);
	yield* set_pmd_at(dst_mm, addr, dst, pmd);
	return 0;
}

/**
 * Copy a huge pmd for a fork.
 *
 * @param dst_pmd - the child's entry
 * @param src_pmd - the parent's entry
 * @param addr - first address
 * @param dst_vma - the child's VMA
 * @param src_vma - the parent's VMA
 * @retval 0 copied, or to be filled in by a fault
 * @retval -EAGAIN it is no huge pmd any more: copy page by page
 * @retval -ENOMEM no memory
 * @context Sleeps. Both mmap locks are held for writing.
 * @deviates without the mms, which are those of the VMAs
 * @kernel mm/huge_memory.c
 */
export function* copy_huge_pmd(
	dst_pmd: TableEntry,
	src_pmd: TableEntry,
	addr: unsigned_long,
	dst_vma: vm_area_struct,
	src_vma: vm_area_struct,
): Sim<int> {
	const { vm_mm: dst_mm } = dst_vma;
	if (!vma_is_anonymous(dst_vma)) return 0;
	const pgtable = yield* pte_alloc_one(dst_mm);
	if (pgtable === 0) return -ENOMEM;
	const dst_ptl = yield* pmd_lock(dst_mm, dst_pmd);
	const src_ptl = pmd_lockptr(src_vma.vm_mm, src_pmd);
	yield* spin_lock_nested(src_ptl, SINGLE_DEPTH_NESTING);
	const at = { dst: dst_pmd, src: src_pmd, dst_vma, src_vma, addr };
	const ret = yield* copyLocked(at, pgtable);
	yield* spin_unlock(src_ptl);
	yield* spin_unlock(dst_ptl);
	if (ret !== 0) yield* freeTable(dst_mm, pgtable);
	if (ret !== 'split') return ret;
	yield* __split_huge_pmd(src_vma, src_pmd, addr, false);
	return -EAGAIN;
}
