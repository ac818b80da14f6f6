// SPDX-License-Identifier: GPL-2.0-or-later
/**
 * hmm_range_fault(): what the CPU maps in a range, as an array of words for a device's mirror.
 *
 * Guarantee: on return 0 every word of the range says what the CPU's page tables held at some
 * moment since `notifier_seq` was read; the caller may use it only if mmu_interval_read_retry() is
 * false under its own lock. Pages that were asked for with REQ_FAULT are present, and writable if
 * REQ_WRITE was asked too. On an error the words before the failing page are outputs, the others
 * still inputs.
 * Mechanism: a page walk with callbacks; an entry that does not satisfy its request stops the walk,
 * is faulted, and the walk starts again there. v7.3 records the fault and handles it once the walk
 * has unwound; v6.12 handles it inside the callback.
 * Duty: the caller holds the mmap lock for read and a notifier over the range.
 *
 * ```
 *   range    |----------------------------------------------------------|
 *   VMA          [ A                    ) [ B: no VM_READ )   [ C       )
 *   callback hole  pmd: pte pte pte | hole  test_walk: ERROR  hole  pud
 *                             ^ last: words before it are final, from it on inputs
 * ```
 * The order of the functions is the C file's. The loops over many words are in
 * mm/hmm_fill.ts, the DMA half of the C file in mm/hmm_dma.ts.
 */

import { pci_p2pdma_state } from '../drivers/pci/p2pdma/map_type.ts';
import { WARN_ON_ONCE } from '../include/linux/bug.ts';
import type { device } from '../include/linux/device.ts';
import {
	EAGAIN,
	EBUSY,
	EFAULT,
	EINTR,
	EINVAL,
	ENOLCK,
	EOPNOTSUPP,
	EPERM,
	EREMOTEIO,
} from '../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_ERROR,
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	type hmm_range,
	mapOrderUnit,
} from '../include/linux/hmm.ts';
import { VM_IO, VM_PFNMAP, VM_READ, VM_WRITE, vm_fault_to_errno } from '../include/linux/mm.ts';
import {
	FAULT_FLAG_ALLOW_RETRY,
	FAULT_FLAG_KILLABLE,
	FAULT_FLAG_REMOTE,
	FAULT_FLAG_WRITE,
	type mm_struct,
	type page,
	page_folio,
	VM_FAULT_COMPLETED,
	VM_FAULT_ERROR,
	VM_FAULT_RETRY,
} from '../include/linux/mm_types.ts';
import { nth_page, pfn_to_page, pfn_valid } from '../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	is_pci_p2pdma_page,
	page_pgmap,
	zone_device_pages_have_same_pgmap,
} from '../include/linux/page-flags.ts';
import {
	ACTION_CONTINUE,
	ACTION_SUBTREE,
	type mm_walk,
	type mm_walk_ops,
	PGWALK_RDLOCK,
} from '../include/linux/pagewalk.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	type p2pdma_provider,
	pci_p2pdma_map_state,
} from '../include/linux/pci-p2pdma.ts';
import {
	pmd_bad,
	pmd_devmap,
	pmd_none,
	pmd_pfn,
	pmd_present,
	pmd_protnone,
	type pmd_t,
	pmd_trans_huge,
	pmd_write,
	pte_devmap,
	pte_none,
	pte_pfn,
	pte_present,
	pte_protnone,
	pte_special,
	type pte_t,
	pte_write,
	pud_devmap,
	pud_leaf,
	pud_pfn,
	pud_present,
	type pud_t,
	pud_write,
	TableEntry,
} from '../include/linux/pgtable.ts';
import { current, fatal_signal_pending } from '../include/linux/sched.ts';
import {
	softleaf_from_pmd,
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_is_marker,
	softleaf_is_migration,
	softleaf_is_swap,
	softleaf_is_uffd_wp_marker,
	softleaf_to_page,
	softleaf_to_pfn,
} from '../include/linux/swapops.ts';
import {
	type int,
	type out,
	outParam,
	PAGE_SHIFT,
	PAGE_SIZE,
	PMD_MASK,
	PMD_SHIFT,
	PMD_SIZE,
	PUD_MASK,
	PUD_SHIFT,
	type unsigned_int,
	type unsigned_long,
	type vm_fault_t,
} from '../include/linux/types.ts';
import { retryRound } from '../include/sim/retry.ts';
import {
	preemptible,
	type Sim,
	schedulePoint,
	touch,
	touchWords,
} from '../include/sim/schedule.ts';
import { feature, world } from '../include/sim/world.ts';
import { spin_unlock } from '../kernel/locking/spinlock.ts';
import { checkWords, watchUnasked } from './hmm_check.ts';
import { fillRun, PresentFill } from './hmm_fill.ts';
import { hmm_private_dma_phys } from './hmm_private.ts';
import { handle_mm_fault, is_zero_pfn } from './memory.ts';
import { migration_entry_wait, pmd_migration_entry_wait } from './migrate.ts';
import { vma_lookup } from './mmap.ts';
import { mmap_assert_locked, mmap_read_lock_killable, mmap_read_unlock } from './mmap_lock.ts';
import { mmu_interval_check_retry, mmu_interval_read_begin } from './mmu_notifier.ts';
import { walk_page_range } from './pagewalk.ts';
import {
	pmd_lock,
	pmdp_get_lockless,
	pte_offset_map,
	pte_unmap,
	ptep_get,
	pud_trans_huge_lock,
} from './pgtable.ts';

/**
 * State of one hmm_range_fault() call.
 *
 * @kernel mm/hmm.c
 */
export class hmm_vma_walk {
	range: hmm_range;
	/** Out: false once a fault handler dropped the mmap lock; null when it must not. */
	locked: out<boolean> | null;
	/** Where the walk goes on. */
	last: unsigned_long;
	/** v7.3: end of the span to fault. */
	end: unsigned_long = 0n;
	/** v7.3: HMM_NEED_* of the span. */
	required_fault: unsigned_int = 0;
	/**
	 * The P2P layer's answer for `range.dma_dev` and the provider seen last.
	 *
	 * @proposed Documentation/proposals/device-private-dma-pfn.md
	 */
	p2pdma: pci_p2pdma_map_state = new pci_p2pdma_map_state();
	/** The loop over plain present entries. */
	readonly present: PresentFill;

	/**
	 * @param range - what is asked for
	 * @param locked - whether fault handlers may drop the mmap lock, and whether one did
	 */
	constructor(range: hmm_range, locked: out<boolean> | null) {
		this.range = range;
		this.locked = locked;
		this.last = range.start;
		this.present = new PresentFill(range);
	}
}

const HMM_NEED_FAULT = 1 << 0;
const HMM_NEED_WRITE_FAULT = 1 << 1;
const HMM_NEED_ALL_BITS = HMM_NEED_FAULT | HMM_NEED_WRITE_FAULT;

/** A callback's return: a fault was recorded, the outer loop handles it. No caller sees it. */
const HMM_FAULT_PENDING = -EAGAIN;
/** hmm_do_fault()'s return: a handler dropped the mmap lock. No caller sees it. */
const HMM_FAULT_UNLOCKED = -ENOLCK;

/** Turns of hmm_vma_walk_pmd() in which another thread may change the entry under the walker. */
const MAX_PMD_TURNS = 1000;
const NS_PER_JIFFY = 1_000_000n;
const PAGE_BYTES = Number(PAGE_SIZE);
const PMD_OFFSET = PMD_SIZE - 1n;
const PMD_ORDER = PMD_SHIFT - PAGE_SHIFT;

/**
 * Bits of a word that every store keeps: they belong to the owner of the DMA map.
 *
 * @kernel mm/hmm.c
 */
export function HMM_PFN_INOUT_FLAGS(): bigint {
	return feature('hmm_dma_flags')
		? HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS
		: 0n;
}

/** Place of an address in the range's array. */
function wordIndex(range: hmm_range, addr: unsigned_long): number {
	// Divided as a number: shifting a BigInt takes twenty times as long.
	return Number(addr - range.start) / PAGE_BYTES;
}

/**
 * Store `value` over every word of [addr, end), growing by `step` a page, and `provider` beside it;
 * sticky bits stay.
 */
function fillWords(
	range: hmm_range,
	addr: unsigned_long,
	end: unsigned_long,
	value: bigint,
	step: 0 | 1,
	provider: p2pdma_provider | null = null,
): int {
	const { hmm_pfns, hmm_providers } = range;
	const first = wordIndex(range, addr);
	const last = wordIndex(range, end);
	touchWords('write', hmm_pfns, first, last - first);
	hmm_providers?.fill(provider, first, last);
	if (fillRun(range, first, last - first, value, step)) return 0;
	const inout = HMM_PFN_INOUT_FLAGS();
	let word = value;
	for (let i = first; i < last; i++) {
		hmm_pfns[i] = (hmm_pfns[i]! & inout) | word;
		if (step !== 0) word++;
	}
	return 0;
}

/**
 * Store the same flags, without a PFN, for every page of [addr, end).
 *
 * @param addr - first address
 * @param end - exclusive
 * @param range - whose array
 * @param cpu_flags - HMM_PFN_ERROR or 0
 * @retval 0 always
 * @kernel mm/hmm.c
 */
export function hmm_pfns_fill(
	addr: unsigned_long,
	end: unsigned_long,
	range: hmm_range,
	cpu_flags: unsigned_long,
): int {
	return fillWords(range, addr, end, cpu_flags, 0);
}

/**
 * v6.12's fault, inside the walk's callback.
 *
 * @param addr - first page
 * @param end - exclusive
 * @param required_fault - HMM_NEED_*, the same for every page
 * @param walk - the walk that stopped
 * @retval -EBUSY all faulted: walk again from `addr`
 * @retval -EPERM write wanted in a VMA without VM_WRITE
 * @retval -EFAULT a fault failed
 * @kernel mm/hmm.c (gone in 7.x)
 */
export function* hmm_vma_fault(
	addr: unsigned_long,
	end: unsigned_long,
	required_fault: unsigned_int,
	walk: mm_walk,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const vma = walk.vma!;
	let fault_flags = FAULT_FLAG_REMOTE;

	hmm_walk.last = addr;
	if (required_fault & HMM_NEED_WRITE_FAULT) {
		if (!(vma.vm_flags & VM_WRITE)) return -EPERM;
		fault_flags |= FAULT_FLAG_WRITE;
	}
	const watch = watchUnasked(hmm_walk.range);
	try {
		for (let at = addr; at < end; at += PAGE_SIZE) {
			watch?.before(at);
			const fault = yield* handle_mm_fault(vma, at, fault_flags, null);
			watch?.after(at, fault);
			if (fault & VM_FAULT_ERROR) return -EFAULT;
		}
	} finally {
		watch?.done();
	}
	return -EBUSY;
}

/**
 * Remember that [addr, end) has to be faulted once the walk has unwound.
 *
 * @param addr - first page
 * @param end - exclusive
 * @param required_fault - HMM_NEED_*, the same for every page
 * @param walk - the walk that stopped
 * @retval -EAGAIN HMM_FAULT_PENDING
 * @retval -EBUSY v6.12, which faults here: walk again from `addr`
 * @retval -EPERM v6.12: write wanted in a VMA without VM_WRITE
 * @retval -EFAULT v6.12: a fault failed
 * @kernel mm/hmm.c
 * @since v7.3
 */
export function* hmm_record_fault(
	addr: unsigned_long,
	end: unsigned_long,
	required_fault: unsigned_int,
	walk: mm_walk,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;

	WARN_ON_ONCE(required_fault === 0);
	if (!feature('hmm_deferred_fault'))
		return yield* hmm_vma_fault(addr, end, required_fault, walk);
	hmm_walk.last = addr;
	hmm_walk.end = end;
	hmm_walk.required_fault = required_fault;
	return HMM_FAULT_PENDING;
}

/**
 * Record the fault of a span in which all pages are mapped alike: all of it (7.3.4 and 6.12.117 do, if
 * any page of it asks), or with fix_s11 only the first pages in a row that ask for the same.
 *
 * ```
 *   requests   -   -   F   F   F|W  -   F
 *   as is      [ F|W for all of them      )
 *   fix_s11    words   [ F   )             the walk starts again there, and finds F|W, and F
 * ```
 *
 * @param addr - first page
 * @param end - exclusive
 * @param required_fault - HMM_NEED_*, of all of its pages together
 * @param walk - the walk that stopped
 * @param cpu_flags - what the CPU grants every page
 * @param word - what the words in front of a page that asks say; grows by `step` a page
 * @param step - 1 where `word` has a PFN
 * @param provider - whose memory without struct pages `word` names
 * @returns as hmm_record_fault()
 */
function* recordSpan(
	addr: unsigned_long,
	end: unsigned_long,
	required_fault: unsigned_int,
	walk: mm_walk,
	cpu_flags: unsigned_long,
	word = 0n,
	step: 0 | 1 = 0,
	provider: p2pdma_provider | null = null,
): Sim<int> {
	if (!feature('fix_s11')) return yield* hmm_record_fault(addr, end, required_fault, walk);
	const hmm_walk = walk.private as hmm_vma_walk;
	const { range } = hmm_walk;
	const need = (at: unsigned_long): unsigned_int =>
		hmm_pte_need_fault(hmm_walk, range.hmm_pfns[wordIndex(range, at)]!, cpu_flags);
	let first = addr;
	while (!need(first)) first += PAGE_SIZE;
	const asked = need(first);
	let last = first + PAGE_SIZE;
	while (last < end && need(last) === asked) last += PAGE_SIZE;
	fillWords(range, addr, first, word, step, provider);
	return yield* hmm_record_fault(first, last, asked, walk);
}

/**
 * What one page's request needs, given what the CPU maps.
 *
 * @param hmm_walk - the call
 * @param pfn_req_flags - the page's input word
 * @param cpu_flags - HMM_PFN_VALID and HMM_PFN_WRITE as the entry grants them
 * @returns HMM_NEED_*, 0 if nothing
 * @kernel mm/hmm.c
 */
export function hmm_pte_need_fault(
	hmm_walk: hmm_vma_walk,
	pfn_req_flags: unsigned_long,
	cpu_flags: unsigned_long,
): unsigned_int {
	const { range } = hmm_walk;
	// A per-page request counts as far as the mask lets it; the defaults always do.
	const effective = (pfn_req_flags & range.pfn_flags_mask) | range.default_flags;

	if (!(effective & HMM_PFN_REQ_FAULT)) return 0;
	if (effective & HMM_PFN_REQ_WRITE && !(cpu_flags & HMM_PFN_WRITE))
		return HMM_NEED_FAULT | HMM_NEED_WRITE_FAULT;
	if (!(cpu_flags & HMM_PFN_VALID)) return HMM_NEED_FAULT;
	return 0;
}

/**
 * The union of what the pages of [start, end) need.
 *
 * @param hmm_walk - the call
 * @param start - first address
 * @param end - exclusive
 * @param cpu_flags - what the CPU grants, the same for every page
 * @returns HMM_NEED_*, 0 if nothing
 * @kernel mm/hmm.c
 */
export function hmm_range_need_fault(
	hmm_walk: hmm_vma_walk,
	start: unsigned_long,
	end: unsigned_long,
	cpu_flags: unsigned_long,
): unsigned_int {
	const { range } = hmm_walk;
	// Nobody can have asked: spare the loop.
	if (!((range.default_flags | range.pfn_flags_mask) & HMM_PFN_REQ_FAULT)) return 0;

	let required_fault = 0;
	const last = wordIndex(range, end);
	for (let i = wordIndex(range, start); i < last; i++) {
		required_fault |= hmm_pte_need_fault(hmm_walk, range.hmm_pfns[i]!, cpu_flags);
		if (required_fault === HMM_NEED_ALL_BITS) break;
	}
	return required_fault;
}

/**
 * Nothing is mapped in [addr, end), at whatever level that showed.
 *
 * @param addr - first address
 * @param end - exclusive
 * @param _depth - level
 * @param walk - the walk; no VMA means outside of any
 * @retval 0 words are written
 * @retval -EFAULT a fault is wanted where no VMA is
 * @kernel mm/hmm.c
 */
export function* hmm_vma_walk_hole(
	addr: unsigned_long,
	end: unsigned_long,
	_depth: int,
	walk: mm_walk,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const { range } = hmm_walk;
	const required_fault = hmm_range_need_fault(hmm_walk, addr, end, 0n);

	if (walk.vma === null) {
		if (required_fault) return -EFAULT;
		return hmm_pfns_fill(addr, end, range, HMM_PFN_ERROR);
	}
	if (required_fault) return yield* recordSpan(addr, end, required_fault, walk, 0n);
	return hmm_pfns_fill(addr, end, range, 0n);
}

/** The map order in its place in a word. */
function hmm_pfn_flags_order(order: bigint): bigint {
	// a product, not a shift: see pgtable.ts
	return order * mapOrderUnit();
}

/** What a present PMD entry grants. */
function pmd_to_hmm_pfn_flags(pmd: pmd_t): unsigned_long {
	if (pmd_protnone(pmd)) return 0n;
	const access = pmd_write(pmd) ? HMM_PFN_VALID | HMM_PFN_WRITE : HMM_PFN_VALID;
	return access | hmm_pfn_flags_order(PMD_ORDER);
}

/**
 * A huge page mapped by one PMD entry.
 *
 * @param walk - the walk
 * @param addr - first address
 * @param end - exclusive, within the entry
 * @param pmd - the entry as it was read
 * @retval 0 words are written
 * @kernel mm/hmm.c
 */
export function* hmm_vma_handle_pmd(
	walk: mm_walk,
	addr: unsigned_long,
	end: unsigned_long,
	pmd: pmd_t,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const cpu_flags = pmd_to_hmm_pfn_flags(pmd);
	const required_fault = hmm_range_need_fault(hmm_walk, addr, end, cpu_flags);

	const pfn = (pmd_pfn(pmd) as bigint) + (addr & PMD_OFFSET) / PAGE_SIZE;
	if (required_fault)
		return yield* recordSpan(
			addr,
			end,
			required_fault,
			walk,
			cpu_flags,
			pfn | cpu_flags,
			1,
		);
	return fillWords(hmm_walk.range, addr, end, pfn | cpu_flags, 1);
}

/** What a page-table entry grants. */
function pte_to_hmm_pfn_flags(pte: pte_t): unsigned_long {
	if (pte_none(pte) || !pte_present(pte) || pte_protnone(pte)) return 0n;
	return pte_write(pte) ? HMM_PFN_VALID | HMM_PFN_WRITE : HMM_PFN_VALID;
}

/** Whether hmm treats the entry as if nothing were there. */
function isEmpty(pte: pte_t): boolean {
	if (pte_none(pte)) return true;
	if (pte_present(pte)) return false;
	const entry = softleaf_from_pte(pte);
	return feature('pte_markers_empty')
		? softleaf_is_marker(entry)
		: softleaf_is_uffd_wp_marker(entry);
}

/**
 * Find the P2P pages at which the range's device reaches a run of device-private pages.
 *
 * @param hmm_walk - the call; its range's `dma_dev` is the device that will issue the DMA
 * @param p - first device-private page under the walker, without a reference
 * @param nr - pages asked about: 1, or all of the folio that a PMD entry maps
 * @param pfn - out: PFN of the P2P page of `p`; provisional until mmu_interval_read_retry()
 * @retval 0 `pfn` is set, and the aliases of the `nr` pages ascend from it
 * @retval -EOPNOTSUPP nobody asked, or the pagemap offers no P2P page, or not one for each page
 * @retval -EINVAL the op answered with something that is no P2P page, or with two pagemaps' pages
 * @retval -EREMOTEIO `dma_dev` cannot reach it: this page, and no other, migrates
 * @context Atomic: the walker stands on the entry, the page table lock is not held.
 * @proposed Documentation/proposals/device-private-dma-pfn.md
 */
export function hmm_private_dma_pfn(
	hmm_walk: hmm_vma_walk,
	p: page,
	nr: unsigned_long,
	pfn: out<unsigned_long>,
): int {
	const { dma_dev } = hmm_walk.range;

	if (!wantsAlias(dma_dev)) return -EOPNOTSUPP;
	const op = page_pgmap(p).ops?.device_private_dma_pfn;
	if (op === undefined) return -EOPNOTSUPP;

	// The driver knows its own memory: does this page have an alias at all?
	const first = outParam(0n);
	if (op(p, first) !== 0) return -EOPNOTSUPP;
	if (!isP2pPfn(first.value)) return -EINVAL;

	// One order for the whole run: its last alias must lie where an unbroken run puts it.
	if (nr > 1n) {
		const last = outParam(0n);
		if (op(nth_page(p, Number(nr) - 1), last) !== 0) return -EOPNOTSUPP;
		if (!isP2pPfn(last.value)) return -EINVAL;
		if (last.value !== first.value + nr - 1n) return -EOPNOTSUPP;
		if (
			!zone_device_pages_have_same_pgmap(
				pfn_to_page(first.value),
				pfn_to_page(last.value),
			)
		)
			return -EINVAL;
	}

	// The P2P layer knows the topology: can this device get there, by whatever address?
	switch (pci_p2pdma_state(hmm_walk.p2pdma, dma_dev, pfn_to_page(first.value))) {
		case PCI_P2PDMA_MAP_BUS_ADDR:
		case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
			pfn.value = first.value;
			return 0;
		default:
			return -EREMOTEIO;
	}
}

/**
 * Find where the range's device reaches a run of device-private pages: by provider and physical
 * address where caller and driver can do without P2P pages, else by P2P page.
 *
 * @param hmm_walk - the call
 * @param p - first device-private page
 * @param nr - pages asked about
 * @param pfn - out: PFN of the page or page frame of `p`
 * @param provider - out: its provider; null: the PFN has a P2P page
 * @returns as hmm_private_dma_pfn()
 * @context Atomic.
 * @proposed Documentation/proposals/device-private-dma-phys.md
 */
function hmm_private_alias(
	hmm_walk: hmm_vma_walk,
	p: page,
	nr: unsigned_long,
	pfn: out<unsigned_long>,
	provider: out<p2pdma_provider | null>,
): int {
	const { range, p2pdma } = hmm_walk;
	const ret = hmm_private_dma_phys(range, p2pdma, p, nr, pfn, provider);
	return ret === -EOPNOTSUPP ? hmm_private_dma_pfn(hmm_walk, p, nr, pfn) : ret;
}

/** Whether the caller asks for P2P pages at all. */
function wantsAlias(dma_dev: device | null): dma_dev is device {
	return dma_dev !== null && feature('p2p_op_dma_dev');
}

/** An op that answers with anything but a P2P page is broken: say so once, and do as without it. */
function isP2pPfn(pfn: unsigned_long): boolean {
	return !WARN_ON_ONCE(
		!pfn_valid(pfn) || !is_pci_p2pdma_page(pfn_to_page(pfn)),
		'device_private_dma_pfn() answered with a page that is not P2PDMA',
	);
}

/**
 * A word that is mapped for DMA keeps its alias until its owner has heard of an invalidation and
 * cleared the mapping: the op is a pure function of the page.
 */
function checkAlias(
	range: hmm_range,
	i: number,
	alias: unsigned_long,
	provider: p2pdma_provider | null,
): void {
	const word = range.hmm_pfns[i]!;
	const before = word & ~HMM_PFN_FLAGS();
	if (!(word & HMM_PFN_DMA_MAPPED) || before === 0n) return;
	WARN_ON_ONCE(
		before !== alias || (range.hmm_providers?.at(i) ?? null) !== provider,
		'the alias of a DMA-mapped word changed without an invalidation',
	);
}

/**
 * Where a fault at PTE level ends: at the end of the walked chunk; with `dma_dev` before the next
 * private entry, so that no page that can stay is sent to system memory; with fix_s11 before the next
 * page that does not need the same fault.
 *
 * ```
 *   ptes      .   .   P   r   .   P        . none, r read-only, P private
 *   stops at  ^                            fault [ .  . )
 *                     ^                    fault [ P  r  . )
 * ```
 */
function hmm_fault_end(
	hmm_walk: hmm_vma_walk,
	ptep: TableEntry,
	addr: unsigned_long,
	end: unsigned_long,
	required_fault: unsigned_int,
): unsigned_long {
	const { range } = hmm_walk;
	const untilPrivate = wantsAlias(range.dma_dev);
	const onlyAsked = feature('fix_s11');
	if (!untilPrivate && !onlyAsked) return end;
	const { u64 } = ptep.table;
	let index = ptep.index + 1;
	for (let at = addr + PAGE_SIZE; at < end; at += PAGE_SIZE, index++) {
		const pte = u64[index]!;
		if (untilPrivate && isPrivateEntry(pte)) return at;
		if (onlyAsked && pteNeeds(hmm_walk, pte, at) !== required_fault) return at;
	}
	return end;
}

function isPrivateEntry(pte: pte_t): boolean {
	if (pte_none(pte) || pte_present(pte)) return false;
	return softleaf_is_device_private(softleaf_from_pte(pte));
}

/** HMM_NEED_* of a page further on, as its entry is now; 0 as well where the walk has to look. */
function pteNeeds(hmm_walk: hmm_vma_walk, pte: pte_t, addr: unsigned_long): unsigned_int {
	const { range } = hmm_walk;
	const word = range.hmm_pfns[wordIndex(range, addr)]!;
	if (pte_present(pte)) return hmm_pte_need_fault(hmm_walk, word, pte_to_hmm_pfn_flags(pte));
	if (!isEmpty(pte)) {
		const entry = softleaf_from_pte(pte);
		if (softleaf_is_device_private(entry)) {
			const { owner } = page_pgmap(softleaf_to_page(entry));
			if (owner === range.dev_private_owner) return 0;
		} else if (!softleaf_is_swap(entry) && !softleaf_is_device_exclusive(entry))
			return 0;
	}
	return hmm_pte_need_fault(hmm_walk, word, 0n);
}

/**
 * One entry of a page table.
 *
 * @param walk - the walk
 * @param addr - its address
 * @param end - end of the walked chunk: a fault here takes everything up to it
 * @param pmdp - entry of the page table
 * @param ptep - the entry, mapped; unmapped here unless 0 is returned
 * @param i - place of its word
 * @retval 0 the word is written
 * @retval -EBUSY waited for a migration: walk again from here
 * @retval -EFAULT an entry that nothing can make present was wanted
 * @kernel mm/hmm.c
 */
export function* hmm_vma_handle_pte(
	walk: mm_walk,
	addr: unsigned_long,
	end: unsigned_long,
	pmdp: TableEntry,
	ptep: TableEntry,
	i: number,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const { range } = hmm_walk;
	const pfn_req_flags = range.hmm_pfns[i]!;
	const pte = ptep_get(ptep);
	const provider = outParam<p2pdma_provider | null>(null);
	let new_pfn_flags = 0n;
	let required_fault = 0;

	fault: {
		out: {
			if (isEmpty(pte)) {
				required_fault = hmm_pte_need_fault(hmm_walk, pfn_req_flags, 0n);
				if (required_fault) break fault;
				break out;
			}

			if (!pte_present(pte)) {
				const entry = softleaf_from_pte(pte);
				const isPrivate = softleaf_is_device_private(entry);

				if (isPrivate) {
					const p = softleaf_to_page(entry);
					const cpu_flags = softleaf_is_device_private_write(entry)
						? HMM_PFN_VALID | HMM_PFN_WRITE
						: HMM_PFN_VALID;

					// The caller's own page is returned as it is, whatever was asked for.
					if (page_pgmap(p).owner === range.dev_private_owner) {
						new_pfn_flags = softleaf_to_pfn(entry) | cpu_flags;
						break out;
					}

					// Somebody else's: its P2P memory, if the caller's device can reach that.
					const alias = outParam(0n);
					if (
						hmm_private_alias(
							hmm_walk,
							p,
							1n,
							alias,
							provider,
						) === 0
					) {
						required_fault = hmm_pte_need_fault(
							hmm_walk,
							pfn_req_flags,
							cpu_flags,
						);
						if (required_fault) break fault;
						checkAlias(range, i, alias.value, provider.value);
						new_pfn_flags = alias.value | cpu_flags;
						break out;
					}
				}

				required_fault = hmm_pte_need_fault(hmm_walk, pfn_req_flags, 0n);
				if (!required_fault) break out;
				if (
					isPrivate ||
					softleaf_is_swap(entry) ||
					softleaf_is_device_exclusive(entry)
				)
					break fault;
				if (softleaf_is_migration(entry)) {
					yield* pte_unmap(ptep);
					hmm_walk.last = addr;
					yield* migration_entry_wait(walk.mm, pmdp, addr);
					return -EBUSY;
				}
				// Poison, guard markers and whatever else: nothing makes it present.
				yield* pte_unmap(ptep);
				return -EFAULT;
			}

			const cpu_flags = pte_to_hmm_pfn_flags(pte);
			required_fault = hmm_pte_need_fault(hmm_walk, pfn_req_flags, cpu_flags);
			if (required_fault) break fault;

			// A special entry has no page that could be handed out; the zero page has.
			const devmap = feature('devmap_entries') && pte_devmap(pte);
			if (pte_special(pte) && !devmap && !is_zero_pfn(pte_pfn(pte))) {
				if (hmm_pte_need_fault(hmm_walk, pfn_req_flags, 0n)) {
					yield* pte_unmap(ptep);
					return -EFAULT;
				}
				new_pfn_flags = HMM_PFN_ERROR;
				break out;
			}
			new_pfn_flags = (pte_pfn(pte) as bigint) | cpu_flags;
		}
		range.hmm_pfns[i] = (pfn_req_flags & HMM_PFN_INOUT_FLAGS()) | new_pfn_flags;
		range.hmm_providers?.set(i, provider.value);
		return 0;
	}
	const span_end = hmm_fault_end(hmm_walk, ptep, addr, end, required_fault);
	yield* pte_unmap(ptep);
	return yield* hmm_record_fault(addr, span_end, required_fault, walk);
}

/**
 * A PMD entry that is neither present nor empty nor migrating.
 *
 * @param walk - the walk
 * @param start - first address
 * @param end - exclusive, within the entry
 * @param pmd - the entry as it was read
 * @retval 0 words are written
 * @retval -EFAULT a fault is wanted and nothing can make it present
 * @kernel mm/hmm.c
 * @since v6.19
 */
export function* hmm_vma_handle_absent_pmd(
	walk: mm_walk,
	start: unsigned_long,
	end: unsigned_long,
	pmd: pmd_t,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const { range } = hmm_walk;
	const entry = softleaf_from_pmd(pmd);
	const isPrivate = feature('hmm_pmd_private') && softleaf_is_device_private(entry);
	let required_fault: unsigned_int;

	if (isPrivate) {
		const p = softleaf_to_page(entry);
		const access = softleaf_is_device_private_write(entry)
			? HMM_PFN_VALID | HMM_PFN_WRITE
			: HMM_PFN_VALID;
		const cpu_flags = access | hmm_pfn_flags_order(PMD_ORDER);

		if (page_pgmap(p).owner === range.dev_private_owner) {
			let first = softleaf_to_pfn(entry) as bigint;
			// 7.3.4 counts from the folio's first page, wherever `start` lies in it
			if (feature('fix_s17')) first += (start & ~PMD_MASK) >> PAGE_SHIFT;
			return fillWords(range, start, end, first | cpu_flags, 1);
		}

		const alias = outParam(0n);
		const provider = outParam<p2pdma_provider | null>(null);
		const nr = BigInt(folio_nr_pages(page_folio(p)));
		if (hmm_private_alias(hmm_walk, p, nr, alias, provider) === 0) {
			required_fault = hmm_range_need_fault(hmm_walk, start, end, cpu_flags);
			const pfn = alias.value + ((start & ~PMD_MASK) >> PAGE_SHIFT);
			const word = pfn | cpu_flags;
			if (required_fault)
				return yield* recordSpan(
					start,
					end,
					required_fault,
					walk,
					cpu_flags,
					word,
					1,
					provider.value,
				);
			return fillWords(range, start, end, word, 1, provider.value);
		}
	}

	required_fault = hmm_range_need_fault(hmm_walk, start, end, 0n);
	if (required_fault) {
		if (!isPrivate) return -EFAULT;
		return yield* recordSpan(start, end, required_fault, walk, 0n, HMM_PFN_ERROR);
	}
	return hmm_pfns_fill(start, end, range, HMM_PFN_ERROR);
}

/** A PMD leaf: a huge page, in v6.12 a devmap one as well. */
function isHuge(pmd: pmd_t): boolean {
	return pmd_trans_huge(pmd) || (feature('devmap_entries') && pmd_devmap(pmd));
}

/**
 * What one PMD entry covers of the range.
 *
 * @param pmdp - the entry
 * @param start - first address
 * @param end - exclusive
 * @param walk - the walk
 * @retval 0 words are written
 * @retval -EBUSY waited for a migration: walk again from here
 * @retval -EFAULT a fault is wanted and nothing can make it present
 * @context RCU read side while page-table entries are looked at, no page-table lock.
 * @kernel mm/hmm.c
 */
export function* hmm_vma_walk_pmd(
	pmdp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const { range } = hmm_walk;

	for (let turn = 0; turn < MAX_PMD_TURNS; turn++) {
		const pmd = preemptible() ? yield* pmdp_get_lockless(pmdp) : pmdp.value;
		if (pmd_none(pmd)) return yield* hmm_vma_walk_hole(start, end, -1, walk);

		if (!pmd_present(pmd)) {
			if (!softleaf_is_migration(softleaf_from_pmd(pmd)))
				return yield* hmm_vma_handle_absent_pmd(walk, start, end, pmd);
			if (hmm_range_need_fault(hmm_walk, start, end, 0n)) {
				hmm_walk.last = start;
				yield* pmd_migration_entry_wait(walk.mm, pmdp);
				return -EBUSY;
			}
			return hmm_pfns_fill(start, end, range, 0n);
		}

		if (isHuge(pmd)) {
			// Read again: it may have been split since, and then it points to a page table.
			const again = preemptible() ? yield* pmdp_get_lockless(pmdp) : pmdp.value;
			if (!isHuge(again)) continue;
			return yield* hmm_vma_handle_pmd(walk, start, end, again);
		}

		if (pmd_bad(pmd)) {
			if (hmm_range_need_fault(hmm_walk, start, end, 0n)) return -EFAULT;
			return hmm_pfns_fill(start, end, range, HMM_PFN_ERROR);
		}

		const ptep = yield* pte_offset_map(pmdp, start);
		if (ptep === null) continue;
		return yield* walkPtes(walk, start, end, pmdp, ptep);
	}
	WARN_ON_ONCE(true, `the pmd changed ${MAX_PMD_TURNS} times under the walk`);
	return -EBUSY;
}

/** The entries of one page table: plain present ones in bulk, others by hmm_vma_handle_pte(). */
function* walkPtes(
	walk: mm_walk,
	start: unsigned_long,
	end: unsigned_long,
	pmdp: TableEntry,
	first: TableEntry,
): Sim<int> {
	const { range, present } = walk.private as hmm_vma_walk;
	const { table, pfn } = first;
	const count = Number((end - start) >> PAGE_SHIFT);
	const word = wordIndex(range, start);

	if (preemptible()) yield schedulePoint('pte-read', table, 'entries', first.index, count);
	for (let n = 0; n < count; n++) {
		// Once a chunk: what is behind an entry that is not plain may be another step.
		touchWords('write', range.hmm_pfns, word + n, count - n);
		const plain = present.run(table, first.index + n, word + n, count - n);
		range.hmm_providers?.fill(null, word + n, word + n + plain);
		n += plain;
		if (n === count) break;
		const addr = start + (BigInt(n) << PAGE_SHIFT);
		const ptep = new TableEntry(table, pfn, first.index + n);
		const ret = yield* hmm_vma_handle_pte(walk, addr, end, pmdp, ptep, word + n);
		// It has unmapped the page table already.
		if (ret) return ret;
	}
	yield* pte_unmap(first);
	return 0;
}

/** What a PUD entry grants. */
function pud_to_hmm_pfn_flags(pud: pud_t): unsigned_long {
	const access = pud_write(pud) ? HMM_PFN_VALID | HMM_PFN_WRITE : HMM_PFN_VALID;
	return access | hmm_pfn_flags_order(PUD_SHIFT - PAGE_SHIFT);
}

/**
 * What one PUD entry covers of the range; anything but a leaf is left to the levels below.
 *
 * @param pudp - the entry
 * @param start - first address
 * @param end - exclusive
 * @param walk - the walk
 * @retval 0 words are written, or the walk goes down
 * @kernel mm/hmm.c
 */
export function* hmm_vma_walk_pud(
	pudp: TableEntry,
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const ptl = yield* pud_trans_huge_lock(pudp, walk.vma!);
	if (ptl === null) return 0;

	walk.action = ACTION_CONTINUE;
	const pud = pudp.value;
	if (!pud_present(pud)) {
		yield* spin_unlock(ptl);
		return yield* hmm_vma_walk_hole(start, end, -1, walk);
	}
	if (pud_leaf(pud) && (!feature('devmap_entries') || pud_devmap(pud))) {
		const cpu_flags = pud_to_hmm_pfn_flags(pud);
		const required_fault = hmm_range_need_fault(hmm_walk, start, end, cpu_flags);
		if (required_fault) {
			yield* spin_unlock(ptl);
			return yield* hmm_record_fault(start, end, required_fault, walk);
		}
		const pfn = (pud_pfn(pud) as bigint) + ((start & ~PUD_MASK) >> PAGE_SHIFT);
		fillWords(hmm_walk.range, start, end, pfn | cpu_flags, 1);
	} else {
		walk.action = ACTION_SUBTREE;
	}
	yield* spin_unlock(ptl);
	return 0;
}

/**
 * What one hugetlb page covers of the range. Only the first page's request counts, and the order is
 * in the word even where nothing is mapped.
 *
 * @param pte - the huge page's entry
 * @param hmask - mask of the huge page size
 * @param start - first address
 * @param end - exclusive
 * @param walk - the walk
 * @retval 0 words are written
 * @kernel mm/hmm.c
 */
export function* hmm_vma_walk_hugetlb_entry(
	pte: TableEntry,
	hmask: unsigned_long,
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const { range } = hmm_walk;
	const ptl = yield* pmd_lock(walk.mm, pte);
	const entry = pte.value;
	const cpu_flags = pte_to_hmm_pfn_flags(entry) | hmm_pfn_flags_order(hugePageOrder(hmask));
	const required_fault = hmm_pte_need_fault(
		hmm_walk,
		range.hmm_pfns[wordIndex(range, start)]!,
		cpu_flags,
	);

	if (required_fault) {
		yield* spin_unlock(ptl);
		return yield* hmm_record_fault(start, end, required_fault, walk);
	}
	const pfn = (pte_pfn(entry) as bigint) + ((start & ~hmask) >> PAGE_SHIFT);
	fillWords(range, start, end, pfn | cpu_flags, 1);
	yield* spin_unlock(ptl);
	return 0;
}

/** log2 of the pages in a huge page, from the mask of its size. */
function hugePageOrder(hmask: unsigned_long): bigint {
	const size = BigInt.asUintN(64, ~hmask) + 1n;
	return BigInt(size.toString(2).length - 1) - PAGE_SHIFT;
}

/**
 * Whether a VMA is walked at all.
 *
 * @param start - first address
 * @param end - exclusive
 * @param walk - the walk, its VMA set
 * @retval 0 walk it
 * @retval 1 skip it: its words are HMM_PFN_ERROR
 * @retval -EFAULT it cannot be mirrored, and one of its pages was asked for
 * @kernel mm/hmm.c
 */
export function* hmm_vma_walk_test(
	start: unsigned_long,
	end: unsigned_long,
	walk: mm_walk,
): Sim<int> {
	const hmm_walk = walk.private as hmm_vma_walk;
	const { vm_flags } = walk.vma!;

	if (!(vm_flags & (VM_IO | VM_PFNMAP)) && vm_flags & VM_READ) return 0;
	if (hmm_range_need_fault(hmm_walk, start, end, 0n)) return -EFAULT;
	hmm_pfns_fill(start, end, hmm_walk.range, HMM_PFN_ERROR);
	return 1;
}

const hmm_walk_ops: mm_walk_ops = Object.freeze({
	pud_entry: hmm_vma_walk_pud,
	pmd_entry: hmm_vma_walk_pmd,
	pte_hole: hmm_vma_walk_hole,
	hugetlb_entry: hmm_vma_walk_hugetlb_entry,
	test_walk: hmm_vma_walk_test,
	walk_lock: PGWALK_RDLOCK,
});

/**
 * Handle the fault that the walk recorded.
 *
 * @param mm - the address space
 * @param hmm_walk - the call
 * @retval -EBUSY all faulted: walk again from `last`
 * @retval -ENOLCK HMM_FAULT_UNLOCKED: a handler dropped the mmap lock
 * @retval -EFAULT the VMA is gone, or a fault failed
 * @retval -EPERM write wanted in a VMA without VM_WRITE
 * @retval -ENOMEM a fault failed for lack of memory
 * @retval -EINVAL a handler answered with a failure that has no errno
 * @context mmap lock held for read; a handler may drop it if `locked` is there.
 * @kernel mm/hmm.c
 * @since v7.3
 */
export function* hmm_do_fault(mm: mm_struct, hmm_walk: hmm_vma_walk): Sim<int> {
	const { locked, end, required_fault } = hmm_walk;
	let fault_flags = FAULT_FLAG_REMOTE;

	if (locked !== null) fault_flags |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
	const vma = vma_lookup(mm, hmm_walk.last);
	if (vma === null) return -EFAULT;
	if (required_fault & HMM_NEED_WRITE_FAULT) {
		if (!(vma.vm_flags & VM_WRITE)) return -EPERM;
		fault_flags |= FAULT_FLAG_WRITE;
	}

	const watch = watchUnasked(hmm_walk.range);
	try {
		for (let addr = hmm_walk.last; addr < end; addr += PAGE_SIZE) {
			watch?.before(addr);
			const fault: vm_fault_t = yield* handle_mm_fault(
				vma,
				addr,
				fault_flags,
				null,
			);
			watch?.after(addr, fault);
			if (fault & (VM_FAULT_COMPLETED | VM_FAULT_RETRY)) {
				WARN_ON_ONCE(
					locked === null,
					'a fault handler dropped the mmap lock unasked',
				);
				if (locked !== null) locked.value = false;
				return HMM_FAULT_UNLOCKED;
			}
			if (fault & VM_FAULT_ERROR) {
				const err = vm_fault_to_errno(fault, 0);
				if (err) return err;
				WARN_ON_ONCE(true, `fault 0x${fault.toString(16)} has no errno`);
				return -EINVAL;
			}
		}
	} finally {
		watch?.done();
	}
	return -EBUSY;
}

/**
 * Walk and fault until the range is satisfied.
 *
 * @param range - what is asked for
 * @param locked - as in struct hmm_vma_walk
 * @returns as hmm_range_fault(), and -EINTR
 * @kernel mm/hmm.c
 * @since v7.3
 */
export function* hmm_range_fault_locked(range: hmm_range, locked: out<boolean> | null): Sim<int> {
	const hmm_walk = new hmm_vma_walk(range, locked);
	const mm = range.notifier.mm as mm_struct;
	let ret: int;

	// Every page may be faulted once, a round each.
	let round = -wordIndex(range, range.end);

	mmap_assert_locked(mm);
	do {
		retryRound(
			round++,
			'hmm_range_fault',
			'a fault handler that reports success and maps nothing',
		);
		// An invalidation came since the caller read the sequence: its turn to start over.
		if (mmu_interval_check_retry(range.notifier, range.notifier_seq)) return -EBUSY;
		ret = yield* walk_page_range(mm, hmm_walk.last, range.end, hmm_walk_ops, hmm_walk);
		if (ret === HMM_FAULT_PENDING) ret = yield* hmm_do_fault(mm, hmm_walk);
		if (ret === HMM_FAULT_UNLOCKED)
			return fatal_signal_pending(current()) ? -EINTR : -EBUSY;
	} while (ret === -EBUSY);
	if (ret === 0) checkWords(range);
	return ret;
}

/**
 * Make the pages of a range present as asked, and tell what the CPU maps.
 *
 * @param range - what is asked for; words in and out
 * @retval 0 every word is an output
 * @retval -EBUSY an invalidation hit the range: read the sequence again and call again
 * @retval -EFAULT a page was asked for that cannot be made present
 * @retval -EPERM write was asked for in a VMA without VM_WRITE
 * @retval -ENOMEM v7.3: a fault ran out of memory
 * @retval -EINVAL the range is empty
 * @context Process context. Caller holds the mmap lock for read; may sleep. Still held on return.
 * @kernel mm/hmm.c
 */
export function* hmm_range_fault(range: hmm_range): Sim<int> {
	return yield* hmm_range_fault_locked(range, null);
}

/**
 * hmm_range_fault() that takes the mmap lock itself, lets fault handlers drop it, and retries.
 *
 * @param range - what is asked for; `notifier_seq` is set here
 * @param timeout - jiffies; 0: no limit
 * @retval 0 every word is an output; mmu_interval_read_retry() is still the caller's to check
 * @retval -EBUSY time is up
 * @retval -EINTR a fatal signal is pending
 * @retval -EFAULT the address space is being torn down, or as hmm_range_fault()
 * @retval -EPERM as hmm_range_fault()
 * @retval -ENOMEM as hmm_range_fault()
 * @retval -EINVAL as hmm_range_fault()
 * @context Process context, mmap lock not held. The caller holds mm_users.
 * @kernel mm/hmm.c
 * @since v7.3
 */
export function* hmm_range_fault_unlocked_timeout(
	range: hmm_range,
	timeout: unsigned_long,
): Sim<int> {
	const mm = range.notifier.mm as mm_struct;
	const locked = outParam(false);
	let deadline = 0n;
	// Every page may be faulted once, and the lock be dropped each time.
	let round = -wordIndex(range, range.end);
	let ret: int;

	do {
		retryRound(
			round++,
			'hmm_range_fault_unlocked_timeout',
			'an invalidation that keeps coming',
		);
		// A round that ended with the lock dropped made progress: it gets its time anew.
		if (timeout && !locked.value) deadline = world().clock + timeout * NS_PER_JIFFY;
		range.notifier_seq = yield* mmu_interval_read_begin(range.notifier);
		if (yield* mmap_read_lock_killable(mm)) return -EINTR;
		locked.value = true;
		touch('read', mm, 'flags_unstable');
		if (mm.flags_unstable) {
			yield* mmap_read_unlock(mm);
			return -EFAULT;
		}
		if (timeout && world().clock > deadline) {
			yield* mmap_read_unlock(mm);
			return -EBUSY;
		}
		ret = yield* hmm_range_fault_locked(range, locked);
		if (locked.value) yield* mmap_read_unlock(mm);
	} while (ret === -EBUSY);
	return ret;
}
