// SPDX-License-Identifier: GPL-2.0-or-later
/**
 * What hmm_range_fault() returned and did, held against the page table and the requests.
 *
 * Guarantee: a valid word that is called wrong is wrong: it names another page than the entry under
 * it, grants more, or says an order that the entry has not. A word without VALID is never called
 * wrong, since pages may be mapped at any time without an invalidation. A page is called unasked only
 * if no word of its entry asked for a fault.
 * Mechanism: nothing of hmm.ts is used, so that a fault there does not hide itself. It runs only in a
 * world with `checks`, after a call that succeeded and whose notifier heard of no invalidation.
 *
 * ```
 *   words    VALID pfn ───┐          VALID pfn ──┐            input words   -    FAULT   -
 *   entries  pte ─────────┘ same?    pmd + offset┘ same?      private ptes  P     P      P
 *                                                             migrated      unasked      unasked
 * ```
 */
import {
	HMM_PFN_ERROR,
	HMM_PFN_FLAGS,
	HMM_PFN_ORDER_SHIFT,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_pfn_to_map_order,
	type hmm_range,
} from '../include/linux/hmm.ts';
import { VM_FAULT_ERROR } from '../include/linux/mm_types.ts';
import { memoryMap } from '../include/linux/mmzone.ts';
import {
	is_pci_p2pdma_page,
	is_zone_device_page,
	page_pgmap,
} from '../include/linux/page-flags.ts';
import {
	pgd_none,
	pmd_leaf,
	pmd_none,
	pmd_present,
	pte_index,
	pte_pfn,
	pte_present,
	pte_protnone,
	pte_write,
	pud_leaf,
	pud_none,
	type TableEntry,
} from '../include/linux/pgtable.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_to_page,
	softleaf_to_pfn,
} from '../include/linux/swapops.ts';
import {
	PAGE_SHIFT,
	PAGE_SIZE,
	PMD_SHIFT,
	PUD_SHIFT,
	type unsigned_long,
	type vm_fault_t,
} from '../include/linux/types.ts';
import type { FeatureName } from '../include/sim/feature.ts';
import { checksRun, tellFinding } from '../include/sim/finding.ts';
import { feature } from '../include/sim/world.ts';
import { mmu_interval_check_retry } from './mmu_notifier.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from './pgtable.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** High halves of a word: VALID, WRITE, the PFN's bits, the sticky bits of v7.3. */
const VALID_HIGH = 1 << 31;
const WRITE_HIGH = 1 << 30;
const PFN_HIGH = 0x1f_ffff;
const STICKY_HIGH = 0x1c00_0000;

const PGDIR_SHIFT = 39n;
const PRESENT = 1 << 0;
const RW = 1 << 1;

/** What the page table has at an address: a page table, or one entry for all up to `end`. */
type Place =
	| { readonly table: TableEntry; readonly end: unsigned_long }
	| {
			readonly table: null;
			/** 0: nothing is mapped. */
			readonly word: bigint;
			/** log2 of the bytes that it covers. */
			readonly shift: bigint;
			readonly end: unsigned_long;
	  };

function entryOf(word: bigint, shift: bigint, addr: unsigned_long): Place {
	return { table: null, word, shift, end: ((addr >> shift) + 1n) << shift };
}

/** Look an address up. */
function placeOf(range: hmm_range, addr: unsigned_long): Place {
	const pgd = pgd_offset(range.notifier.mm!, addr);
	if (pgd_none(pgd.value)) return entryOf(0n, PGDIR_SHIFT, addr);
	const pud = pud_offset(pgd, addr);
	if (pud_none(pud.value) || pud_leaf(pud.value)) return entryOf(pud.value, PUD_SHIFT, addr);
	const pmd = pmd_offset(pud, addr);
	const { value } = pmd;
	if (pmd_none(value) || !pmd_present(value) || pmd_leaf(value))
		return entryOf(value, PMD_SHIFT, addr);
	const end = ((addr >> PMD_SHIFT) + 1n) << PMD_SHIFT;
	return { table: pte_offset_kernel(pmd, addr), end };
}

/** What is wrong with a word. */
interface WrongWord {
	readonly what: string;
	readonly fix: FeatureName | null;
}

/** A word that names a device-private entry's page. */
function wrongPrivateWord(
	range: hmm_range,
	word: bigint,
	entry: bigint,
	offset: bigint,
): WrongWord | null {
	const leaf = softleaf_from_pte(entry);
	const pfn = word & ~HMM_PFN_FLAGS();
	const writable = softleaf_is_device_private_write(leaf);
	if (word & HMM_PFN_WRITE && !writable)
		return { what: 'writable word of a read-only device-private entry', fix: null };
	if (page_pgmap(softleaf_to_page(leaf)).owner !== range.dev_private_owner) {
		const alias = memoryMap().page(Number(pfn));
		// its alias: a P2P page, or memory that has no struct page at all
		if (alias === null) return null;
		if (is_zone_device_page(alias) && is_pci_p2pdma_page(alias)) return null;
		return { what: 'private page of somebody else', fix: null };
	}
	const held = (softleaf_to_pfn(leaf) as bigint) + offset;
	if (pfn === held) return null;
	return {
		what: `pfn ${hex(pfn)}, the device-private entry has ${hex(held)} there`,
		fix: offset === 0n || feature('fix_s17') ? null : 'fix_s17',
	};
}

/** What is wrong with a valid word; `offset` and `shift` say where in what entry the page lies. */
function wrongWord(
	range: hmm_range,
	word: bigint,
	entry: bigint,
	offset: bigint,
	shift: bigint,
): WrongWord | null {
	const is = (what: string): WrongWord => ({ what, fix: null });
	if (word & HMM_PFN_ERROR) return is('both VALID and ERROR');
	if (entry === 0n) return is('nothing is mapped');
	const order = hmm_pfn_to_map_order(word);
	const most = Number(shift - PAGE_SHIFT);
	if (order !== most) return is(`order ${order}, the entry has ${most}`);
	if (!pte_present(entry)) {
		if (softleaf_is_device_private(softleaf_from_pte(entry)))
			return wrongPrivateWord(range, word, entry, offset);
		return is('the entry is neither present nor device-private');
	}
	if (pte_protnone(entry)) return is('the entry grants nothing');
	if (word & HMM_PFN_WRITE && !pte_write(entry))
		return is('writable word of a read-only entry');
	const pfn = word & ~HMM_PFN_FLAGS();
	const mapped = (pte_pfn(entry) as bigint) + offset;
	return pfn === mapped ? null : is(`pfn ${hex(pfn)}, ${hex(mapped)} is mapped`);
}

/** What is wrong, whichever page it is. */
const kindOf = ({ what, fix }: WrongWord): string => what.replace(/0x[0-9a-f]+/g, 'X') + fix;

/** Collects wrong words, and tells a run of pages at a time. */
class WrongRun {
	private first: unsigned_long = 0n;
	private pages = 0;
	private wrong: WrongWord | null = null;

	add(addr: unsigned_long, wrong: WrongWord): void {
		const follows = addr === this.first + BigInt(this.pages) * PAGE_SIZE;
		if (this.wrong === null || !follows || kindOf(this.wrong) !== kindOf(wrong)) {
			this.tell();
			this.first = addr;
			this.wrong = wrong;
			this.pages = 0;
		}
		this.pages++;
	}

	tell(): void {
		if (this.wrong === null) return;
		const more = this.pages === 1 ? '' : `, and ${this.pages - 1} more behind it`;
		const text = `${hex(this.first)}: ${this.wrong.what}${more}`;
		tellFinding('word against page table', this.wrong.fix, text);
		this.wrong = null;
	}
}

/** The words of a range by halves, and which bits of a high half are not compared. */
interface Halves {
	readonly words: Uint32Array;
	/** High half: the sticky bits. */
	readonly sticky: number;
	/** Where the order lies in a high half. */
	readonly orderShift: number;
}

/** Words from `first` on that name plain present ptes rightly; stops at one that has to be looked at. */
function rightPteWords(
	{ words, sticky }: Halves,
	u32: Uint32Array,
	index: number,
	first: number,
	count: number,
): number {
	const plain = VALID_HIGH | WRITE_HIGH | PFN_HIGH | sticky;
	for (let n = 0, e = 2 * index, w = 2 * first; n < count; n++, e += 2, w += 2) {
		const high = words[w + 1]!;
		if ((high & VALID_HIGH) === 0) continue;
		const low = u32[e]!;
		const entryHigh = u32[e + 1]!;
		if (
			(low & PRESENT) === 0 ||
			(high & ~plain) !== 0 ||
			((high & WRITE_HIGH) !== 0 && (low & RW) === 0) ||
			words[w] !== ((low >>> 12) | (entryHigh << 20)) >>> 0 ||
			(high & PFN_HIGH) !== ((entryHigh >>> 12) & 0xff)
		)
			return n;
	}
	return count;
}

/** The same for the pages of one huge entry, whose first page here has `pfn`. */
function rightHugeWords(
	{ words, sticky, orderShift }: Halves,
	pfn: number,
	order: number,
	writable: boolean,
	first: number,
	count: number,
): number {
	const free = sticky | (writable ? WRITE_HIGH : 0);
	for (let n = 0, w = 2 * first; n < count; n++, w += 2) {
		const high = words[w + 1]!;
		if ((high & VALID_HIGH) === 0) continue;
		const at = pfn + n;
		const expected = VALID_HIGH | (order << orderShift) | Math.floor(at / 2 ** 32);
		if (((high ^ expected) & ~free) !== 0 || words[w] !== at >>> 0) return n;
	}
	return count;
}

/** The PFN that an entry has for its first page, if its words are to name just that; -1: look. */
function plainPfn(range: hmm_range, word: bigint): number {
	if (word === 0n) return -1;
	if (pte_present(word)) return pte_protnone(word) ? -1 : Number(pte_pfn(word));
	const leaf = softleaf_from_pte(word);
	if (!softleaf_is_device_private(leaf)) return -1;
	const { owner } = page_pgmap(softleaf_to_page(leaf));
	return owner === range.dev_private_owner ? Number(softleaf_to_pfn(leaf)) : -1;
}

function isWritable(word: bigint): boolean {
	if (pte_present(word)) return pte_write(word);
	return softleaf_is_device_private_write(softleaf_from_pte(word));
}

/** Makes the function that passes over right words of what a place covers. */
function passerOf(
	range: hmm_range,
	halves: Halves,
	place: Place,
	at: unsigned_long,
	first: number,
): (n: number, count: number) => number {
	if (place.table !== null) {
		const { table, index } = place.table;
		return (n, count) => rightPteWords(halves, table.u32, index + n, first + n, count);
	}
	const { word, shift } = place;
	const pfn = plainPfn(range, word);
	if (pfn < 0) return () => 0;
	const base = pfn + Number((at & ((1n << shift) - 1n)) >> PAGE_SHIFT);
	const order = Number(shift - PAGE_SHIFT);
	const writable = isWritable(word);
	return (n, count) => rightHugeWords(halves, base + n, order, writable, first + n, count);
}

/**
 * Hold every word of a call that returned 0 against the page table; nothing where no checks run.
 *
 * @param range - the call's range; its notifier says whether the words are still good
 * @context The mmap lock is held for read.
 */
export function checkWords(range: hmm_range): void {
	if (!checksRun()) return;
	if (mmu_interval_check_retry(range.notifier, range.notifier_seq)) return;
	const { hmm_pfns, start, end } = range;
	const halves: Halves = {
		words: new Uint32Array(hmm_pfns.buffer, hmm_pfns.byteOffset, hmm_pfns.length * 2),
		sticky: feature('hmm_dma_flags') ? STICKY_HIGH : 0,
		orderShift: Number(HMM_PFN_ORDER_SHIFT()) - 32,
	};
	const run = new WrongRun();
	for (let at = start; at < end; ) {
		const place = placeOf(range, at);
		const stop = place.end < end ? place.end : end;
		const first = Number((at - start) >> PAGE_SHIFT);
		const count = Number((stop - at) >> PAGE_SHIFT);
		const pass = passerOf(range, halves, place, at, first);
		for (let n = pass(0, count); n < count; n++, n += pass(n, count - n)) {
			const word = hmm_pfns[first + n]!;
			if (!(word & HMM_PFN_VALID)) continue;
			const addr = at + (BigInt(n) << PAGE_SHIFT);
			const wrong = wrongAt(range, place, addr, word, n);
			if (wrong !== null) run.add(addr, wrong);
		}
		at = stop;
	}
	run.tell();
}

/** What is wrong with the valid word of the page `n` pages into a place. */
function wrongAt(
	range: hmm_range,
	place: Place,
	addr: unsigned_long,
	word: bigint,
	n: number,
): WrongWord | null {
	if (place.table !== null) {
		const { table, index } = place.table;
		return wrongWord(range, word, table.u64[index + n]!, 0n, PAGE_SHIFT);
	}
	const { shift } = place;
	const offset = (addr & ((1n << shift) - 1n)) >> PAGE_SHIFT;
	return wrongWord(range, word, place.word, offset, shift);
}

/** Whether a word asks for a fault where the CPU grants `flags`. */
function asks(range: hmm_range, addr: unsigned_long, flags: bigint): boolean {
	const word = range.hmm_pfns[Number((addr - range.start) >> PAGE_SHIFT)]!;
	const request = (word & range.pfn_flags_mask) | range.default_flags;
	if (!(request & HMM_PFN_REQ_FAULT)) return false;
	if (!(flags & HMM_PFN_VALID)) return true;
	return (request & HMM_PFN_REQ_WRITE) !== 0n && !(flags & HMM_PFN_WRITE);
}

/** What an entry covers of the range. */
interface Covered {
	readonly word: bigint;
	readonly first: unsigned_long;
	readonly end: unsigned_long;
}

/** The entry at an address, and what it covers of the range. */
function coveredBy(range: hmm_range, addr: unsigned_long): Covered {
	const place = placeOf(range, addr);
	if (place.table !== null)
		return { word: place.table.value, first: addr, end: addr + PAGE_SIZE };
	const { word, shift } = place;
	const start = (addr >> shift) << shift;
	return {
		word,
		first: start < range.start ? range.start : start,
		end: place.end < range.end ? place.end : range.end,
	};
}

/** Whether an address may have a private entry, told fast for most: tables are remembered. */
class PrivateGlance {
	private readonly range: hmm_range;
	/** The pmd entry looked at last, by halves, and what it says. */
	private unit = -1n;
	private pmd: TableEntry | null = null;
	private pmdWord = 0n;
	private ptes: Uint32Array | null = null;

	constructor(range: hmm_range) {
		this.range = range;
	}

	/** false: there is none. */
	may(addr: unsigned_long): boolean {
		const unit = addr >> PMD_SHIFT;
		if (unit !== this.unit || this.pmd === null) {
			this.unit = unit;
			this.pmd = this.find(addr);
			this.pmdWord = 0n;
		}
		if (this.pmd === null) return false;
		const word = this.pmd.value;
		if (word === 0n) return false;
		if (word !== this.pmdWord) {
			this.pmdWord = word;
			const isTable = pmd_present(word) && !pmd_leaf(word);
			this.ptes = isTable ? pte_offset_kernel(this.pmd, addr).table.u32 : null;
		}
		if (this.ptes === null) return !pmd_present(word);
		const low = this.ptes[2 * pte_index(addr)]!;
		return (low & PRESENT) === 0 && (low | this.ptes[2 * pte_index(addr) + 1]!) !== 0;
	}

	private find(addr: unsigned_long): TableEntry | null {
		const pgd = pgd_offset(this.range.notifier.mm!, addr);
		if (pgd_none(pgd.value)) return null;
		const pud = pud_offset(pgd, addr);
		return pud_none(pud.value) || pud_leaf(pud.value) ? null : pmd_offset(pud, addr);
	}
}

/** Whether any page of an entry asked for what a fault gives. */
function anyAsks(
	range: hmm_range,
	word: bigint,
	first: unsigned_long,
	end: unsigned_long,
): boolean {
	let flags = 0n;
	if (pte_present(word) && !pte_protnone(word))
		flags = pte_write(word) ? HMM_PFN_VALID | HMM_PFN_WRITE : HMM_PFN_VALID;
	for (let at = first; at < end; at += PAGE_SIZE) if (asks(range, at, flags)) return true;
	return false;
}

/** Watches the faults of one span. */
export class UnaskedFaults {
	private readonly range: hmm_range;
	/** A private entry that nobody asked about, about to be faulted; 0: none. */
	private pending = 0n;
	private first: unsigned_long = 0n;
	private pages = 0;
	private own = 0;
	private isOwn = false;
	private readonly glance: PrivateGlance;

	/** @param range - the call's range, its words still inputs from the span on */
	constructor(range: hmm_range) {
		this.range = range;
		this.glance = new PrivateGlance(range);
	}

	/** A page is about to be faulted. */
	before(addr: unsigned_long): void {
		this.pending = 0n;
		if (!this.glance.may(addr)) return;
		const { word, first, end } = coveredBy(this.range, addr);
		if (word === 0n || pte_present(word)) return;
		const leaf = softleaf_from_pte(word);
		if (!softleaf_is_device_private(leaf)) return;
		// the caller's own page satisfies whatever was asked for
		this.isOwn =
			page_pgmap(softleaf_to_page(leaf)).owner === this.range.dev_private_owner;
		if (this.isOwn || !anyAsks(this.range, word, first, end)) this.pending = word;
	}

	/** It was. */
	after(addr: unsigned_long, fault: vm_fault_t): void {
		if (fault & VM_FAULT_ERROR) {
			const { word, first, end } = coveredBy(this.range, addr);
			if (!anyAsks(this.range, word, first, end))
				tellFinding(
					'call failed by a page that nobody asked for',
					feature('fix_s11') ? null : 'fix_s11',
					`${hex(addr)}: its fault failed, the call fails with it`,
				);
			return;
		}
		if (this.pending === 0n || coveredBy(this.range, addr).word === this.pending)
			return;
		if (this.pages === 0) this.first = addr;
		this.pages++;
		if (this.isOwn) this.own++;
	}

	/** The span is through, or failed. */
	done(): void {
		if (this.pages === 0) return;
		const own = this.own === 0 ? '' : `, ${this.own} of them the caller's own`;
		tellFinding(
			'pages migrated that nobody asked for',
			feature('fix_s11') ? null : 'fix_s11',
			`${hex(this.first)}: ${this.pages} device-private page(s) sent to system memory${own}`,
		);
	}
}

/**
 * Watch the faults of a span.
 *
 * @param range - the call's range
 * @returns null where no checks run
 */
export function watchUnasked(range: hmm_range): UnaskedFaults | null {
	return checksRun() ? new UnaskedFaults(range) : null;
}
