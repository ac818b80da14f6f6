// SPDX-License-Identifier: GPL-2.0-only
/**
 * What holds whenever no call is under way, whatever the program did.
 *
 * | | |
 * | --- | --- |
 * | counts | a folio has the references and mappings that the page tables, the page cache and the swap cache explain, an address space the counters, a device the pages, a swap slot the entries |
 * | mirrors | an entry is the page that the process has there, writable only if it may write it |
 * | sequence | no invalidation is counted as under way, the number of an mm is even, that of each interval odd and not ahead |
 * | locks | nobody holds any; no folio is locked |
 */
import type { file } from '../../../include/linux/fs.ts';
import type { mm_struct, page } from '../../../include/linux/mm_types.ts';
import { page_folio } from '../../../include/linux/mm_types.ts';
import { memoryMap, nth_page, page_to_pfn } from '../../../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	folio_order,
	folio_test_anon,
	folio_test_hugetlb,
	folio_test_swapcache,
	is_device_private_page,
	is_zone_device_page,
	PG_hwpoison,
	PG_locked,
} from '../../../include/linux/page-flags.ts';
import { pte_pfn, pte_present, pte_write } from '../../../include/linux/pgtable.ts';
import { swap_info } from '../../../include/linux/swap.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_exclusive,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_to_pfn,
	swp_offset,
	swp_type,
} from '../../../include/linux/swapops.ts';
import { ULONG_MAX } from '../../../include/linux/types.ts';
import { xa_for_each_range } from '../../../include/linux/xarray.ts';
import { feature } from '../../../include/sim/world.ts';
import { BACKING_PAGE } from '../../../lib/test_hmm/device.ts';
import { DPT_XA_TAG_ATOMIC, DPT_XA_TAG_WRITE, dmirror } from '../../../lib/test_hmm/mirror.ts';
import { dmirrorDevice } from '../../../lib/test_hmm.ts';
import { folio_mapcount } from '../../../mm/rmap/mapcount.ts';
import type { Oracle } from '../../replay/hmm/oracle.ts';
import { processes } from '../../replay/hmm/processes.ts';
import { lookUpWord } from '../../replay/hmm/words.ts';
import { Census, type Uses } from './census.ts';

const DEVICES = 4;

/** Complaints of a check; null: it holds. */
type Complaint = string | null;

function describe(p: page): string {
	return `page 0x${page_to_pfn(p).toString(16)}`;
}

/** The number of references that can be explained. */
function explained({ ptes, pmds }: Uses, head: page, specials: ReadonlySet<page>): number {
	const f = page_folio(head);
	const cached =
		!folio_test_anon(f) && f.mapping !== null && !folio_test_hugetlb(f)
			? folio_nr_pages(f)
			: 0;
	const swapped = folio_test_anon(f) && folio_test_swapcache(f) ? folio_nr_pages(f) : 0;
	// who found a page to be bad keeps it, so that nobody gets it again
	const poisoned = head.flags & PG_hwpoison ? 1 : 0;
	return ptes + pmds + cached + swapped + (specials.has(head) ? 1 : 0) + poisoned;
}

/** Reference and mapping counts of one folio. */
function checkFolio(uses: Uses, specials: ReadonlySet<page>): Complaint {
	const { head, ptes, pmds, exclusive } = uses;
	const f = page_folio(head);
	if (f.flags & PG_locked) return `${describe(head)} is locked`;
	if (folio_test_hugetlb(f)) return null;
	// 6.12 takes the mapping away when a page becomes exclusive
	const unmapped = feature('device_exclusive_single') ? 0 : exclusive;
	const special = specials.has(head);
	const mappings = ptes + pmds - unmapped;
	if (!special && folio_mapcount(f) !== mappings)
		return `${describe(head)} of order ${folio_order(f)} has mapcount ${folio_mapcount(f)}, ${mappings} entries map it`;
	const refs = explained(uses, head, specials);
	if (special ? f._refcount > refs : f._refcount !== refs)
		return `${describe(head)} of order ${folio_order(f)} has ${f._refcount} references, ${refs} are known`;
	return null;
}

/** The mirror that a private page was migrated by, whom a CPU's touch asks, is open. */
function checkKeeper({ head }: Uses, open: ReadonlySet<unknown>): Complaint {
	if (!is_device_private_page(head)) return null;
	const keeper = BACKING_PAGE(head).zone_device_data;
	return keeper instanceof dmirror && open.has(keeper)
		? null
		: `${describe(head)} is private memory of a device file that was closed`;
}

const counterNames = ['file', 'anon', 'swap', 'shmem'];

function checkRss(mm: mm_struct, expected: readonly number[], who: number): Complaint {
	for (const [i, count] of expected.entries())
		if (mm.rss_stat[i] !== count)
			return `process ${who} has ${mm.rss_stat[i]} ${counterNames[i]} pages by its counter, ${count} by its page table`;
	return null;
}

function checkDevices(census: Census): Complaint {
	for (let minor = 0; minor < DEVICES; minor++) {
		const mdevice = dmirrorDevice(minor);
		if (mdevice === null) continue;
		for (const { pagemap } of mdevice.devmem_chunks) {
			const used = Number(pagemap.ref!.count) - 1;
			const seen = census.devicePages.get(pagemap) ?? 0;
			if (used !== seen)
				return `device ${minor} has ${used} pages in use, page tables name ${seen}`;
		}
	}
	return null;
}

/** Shared memory that is swapped out has one entry a slot. */
function checkSwap(census: Census, files: Iterable<{ readonly swapped: Map<number, bigint> }>) {
	const expected = new Map<bigint, number>(census.swap);
	for (const { swapped } of files)
		for (const entry of swapped.values())
			expected.set(entry, (expected.get(entry) ?? 0) + 1);
	for (const [entry, count] of expected) {
		const has = swap_info()[swp_type(entry)]?.swap_map[Number(swp_offset(entry))];
		if (has !== count)
			return `swap slot 0x${entry.toString(16)} counts ${has}, ${count} entries name it`;
	}
	return null;
}

/** The page caches that are mapped or open. */
function* caches(oracle: Oracle): Generator<{ readonly swapped: Map<number, bigint> }> {
	const seen = new Set<object>();
	const files: (file | null)[] = [oracle.file];
	for (const [, task] of processes(oracle))
		for (const vma of task.mm!.vmas) files.push(vma.vm_file);
	for (const one of files) {
		const mapping = one?.f_mapping;
		if (!mapping || seen.has(mapping)) continue;
		seen.add(mapping);
		yield mapping;
	}
}

/**
 * Count everything.
 *
 * @param oracle - the kernel; no call is under way
 * @param specials - pages that a driver holds
 * @returns what was counted, and null or what is wrong
 */
export function checkCounts(
	oracle: Oracle,
	specials: ReadonlySet<page>,
): { readonly census: Census; readonly complaint: Complaint } {
	const census = new Census();
	let complaint: Complaint = null;
	for (const [number, task] of processes(oracle)) {
		census.add(task.mm!, oracle.window);
		complaint ??= checkRss(task.mm!, census.rss, number);
	}
	if (census.migrating > 0) complaint ??= `${census.migrating} migration entries are left`;
	const open = new Set([...openMirrors(oracle)].map(([, { private_data }]) => private_data));
	for (const uses of census.folios.values())
		complaint ??= checkFolio(uses, specials) ?? checkKeeper(uses, open);
	complaint ??= checkDevices(census) ?? checkSwap(census, caches(oracle));
	return { census, complaint };
}

/** One entry of a mirror against the page table. */
function checkEntry(mm: mm_struct, at: bigint, p: page, tag: number): Complaint {
	const where = `the mirror has ${describe(p)} at 0x${at.toString(16)}`;
	const found = lookUpWord(mm, at);
	if (found === null) return `${where}, the process has nothing`;
	const { word, offset } = found;
	if (pte_present(word)) {
		if ((pte_pfn(word) as bigint) + offset !== page_to_pfn(p))
			return `${where}, the process has page 0x${((pte_pfn(word) as bigint) + offset).toString(16)}`;
		if (tag === DPT_XA_TAG_ATOMIC)
			return `${where} exclusively, the process has it too`;
		return tag === DPT_XA_TAG_WRITE && !pte_write(word)
			? `${where} writable, the process may only read it`
			: null;
	}
	const entry = softleaf_from_pte(word);
	const isPrivate = softleaf_is_device_private(entry);
	if (!isPrivate && !softleaf_is_device_exclusive(entry))
		return `${where}, the process has another entry`;
	const pfn = (softleaf_to_pfn(entry) as bigint) + offset;
	if (!isPrivate)
		return pfn === page_to_pfn(p) ? null : `${where}, another page is exclusive`;
	const device = memoryPage(pfn);
	if (device !== p && backing(device) !== p)
		return `${where}, the process has another page of the device`;
	return tag === DPT_XA_TAG_WRITE && !softleaf_is_device_private_write(entry)
		? `${where} writable, the process's entry is not`
		: null;
}

/**
 * Hold the mirrors against the page tables.
 *
 * @param oracle - the kernel; no call is under way
 * @returns null, or what is wrong
 */
export function checkMirrors(oracle: Oracle): Complaint {
	for (const [mm, filp, who] of openMirrors(oracle)) {
		const self = filp.private_data as dmirror;
		if (self.mutex.owner !== null) return `${who}: the mirror's mutex is held`;
		for (const [pfn, entry] of xa_for_each_range(self.pt, 0n, ULONG_MAX)) {
			const complaint = checkEntry(mm, pfn << 12n, entry.page, entry.tag);
			if (complaint !== null) return `${who}: ${complaint}`;
		}
	}
	return null;
}

function* openMirrors(oracle: Oracle): Generator<[mm_struct, file, string]> {
	for (const [i, filp] of oracle.dmirrors.entries())
		yield [oracle.parent.mm!, filp, `device ${i} of process 0`];
	for (const [number, task] of processes(oracle))
		for (const [i, filp] of oracle.opened.get(task) ?? [])
			yield [task.mm!, filp, `device ${i} of process ${number}`];
}

/**
 * Sequence numbers and locks of all address spaces.
 *
 * @param oracle - the kernel; no call is under way
 * @returns null, or what is wrong
 */
export function checkIdle(oracle: Oracle): Complaint {
	for (const [number, task] of processes(oracle)) {
		const who = `process ${number}`;
		const mm = task.mm!;
		const { mmap_lock: lock, notifier_subscriptions: subs } = mm;
		if (lock.owner !== null || lock.readers !== 0)
			return `${who}: the mmap lock is held`;
		if (task.held_locks.length > 0)
			return `${who} holds ${task.held_locks.length} locks`;
		if (mm.page_table_lock.owner !== null) return `${who}: the page table lock is held`;
		for (const ptl of mm.ptl.values())
			if (ptl.owner !== null) return `${who}: the lock of a page table is held`;
		if (mm.tlb_flush_pending !== 0) return `${who}: a TLB flush is pending`;
		if (subs === null) continue;
		if (subs.active_invalidate_ranges !== 0n)
			return `${who}: ${subs.active_invalidate_ranges} invalidations never ended`;
		if (subs.invalidate_seq & 1n)
			return `${who}: sequence number ${subs.invalidate_seq} is odd`;
		if (subs.deferred_list.length > 0)
			return `${who}: notifiers are left on the deferred list`;
		for (const sub of subs.itree)
			if (!(sub.invalidate_seq & 1n) || sub.invalidate_seq > subs.invalidate_seq)
				return `${who}: an interval has sequence number ${sub.invalidate_seq} of ${subs.invalidate_seq}`;
	}
	return null;
}

/** Device pages are backed by system pages, which a mirror names; a folio by as many. */
function backing(p: page | null): page | null {
	if (p === null || !is_zone_device_page(p)) return null;
	const head = page_folio(p).page;
	const nth = Number((page_to_pfn(p) as bigint) - (page_to_pfn(head) as bigint));
	const first = BACKING_PAGE(head) as page | null;
	return first === null ? null : nth_page(first, nth);
}

function memoryPage(pfn: bigint): page | null {
	return memoryMap().page(Number(pfn));
}
