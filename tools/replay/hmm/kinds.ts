// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a page is, in the letters of the records.
 *
 * ```
 *   z Z zero, a anon, f page cache, h hugetlb, o other, p0.. private and c2.. coherent page of a device,
 *   P page of a P2P window, q none
 * ```
 */
import { type page, page_folio } from '../../../include/linux/mm_types.ts';
import { memoryMap } from '../../../include/linux/mmzone.ts';
import {
	folio_test_anon,
	folio_test_hugetlb,
	is_device_coherent_page,
	is_device_private_page,
	is_pci_p2pdma_page,
	is_zone_device_page,
} from '../../../include/linux/page-flags.ts';
import { HPAGE_PMD_NR } from '../../../include/linux/types.ts';
import { perWorld } from '../../../include/sim/world.ts';
import { type dmirror_device, dmirror_page_to_device } from '../../../lib/test_hmm/device.ts';
import { hugeZeroStart } from '../../../mm/huge_memory.ts';
import { zero_pfn } from '../../../mm/memory.ts';

/**
 * Number of the device that a device page belongs to.
 *
 * @param p - the page
 */
export function deviceNumber(p: page): number {
	return minorOf(dmirror_page_to_device(p));
}

/** What names end with: a memo. */
const minors = new Map<string, number>();

/**
 * `hmm_dmirror2` is 2.
 *
 * @param mdevice - the device
 */
export function minorOf(mdevice: dmirror_device): number {
	const { name } = mdevice;
	const known = minors.get(name);
	if (known !== undefined) return known;
	const minor = Number(/\d+$/.exec(name)?.[0]);
	minors.set(name, minor);
	return minor;
}

const privateKinds = ['p0', 'p1', 'p2', 'p3'];
const coherentKinds = ['c0', 'c1', 'c2', 'c3'];

/**
 * The letter of a page, and of a device page its device.
 *
 * @param p - the page
 */
export function kindOfPage(p: page): string {
	if (is_zone_device_page(p)) {
		if (is_device_private_page(p)) return privateKinds[deviceNumber(p)]!;
		if (is_device_coherent_page(p)) return coherentKinds[deviceNumber(p)]!;
		if (is_pci_p2pdma_page(p)) return aliasKind(p);
	}
	const f = page_folio(p);
	if (folio_test_hugetlb(f)) return 'h';
	if (folio_test_anon(f)) return 'a';
	return f.mapping === null ? 'o' : 'f';
}

/** What is known of P2P windows. */
export interface Aliases {
	/** Letter and number of a page of a window. */
	nameOf(p: page): string;
	/** The alias of a device-private page; null: nothing is known of it. */
	aliasOf(p: page): bigint | null;
}

const theAliases = perWorld<{ known: Aliases | null }>(() => ({ known: null }));

/**
 * Let dumps know of P2P windows.
 *
 * @param known - what is known
 */
export function knowAliases(known: Aliases): void {
	theAliases().known = known;
}

function aliasKind(p: page): string {
	return theAliases().known?.nameOf(p) ?? 'P';
}

/**
 * What is known of the window page that a private page is reached by; null: nothing.
 *
 * @param p - a device-private page
 */
export function aliasOfPage(p: page): bigint | null {
	return theAliases().known?.aliasOf(p) ?? null;
}

const ZERO = Number(zero_pfn);

/**
 * The letter of what a PFN is.
 *
 * @param pfn - page frame number
 */
export function kindOfPfn(pfn: number): string {
	if (pfn === ZERO) return 'z';
	const huge = hugeZeroStart();
	if (huge !== 0 && pfn >= huge && pfn < huge + HPAGE_PMD_NR) return 'Z';
	const p = memoryMap().page(pfn);
	return p === null ? 'q' : kindOfPage(p);
}
