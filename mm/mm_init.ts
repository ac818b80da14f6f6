// SPDX-License-Identifier: GPL-2.0-only
/**
 * Bringing memory management up, and checking at shutdown that nothing is left.
 *
 * Guarantee: after memInit() all RAM of the machine has struct pages and faults are handled; both
 * cost nothing for memory that is not touched. After memShutdownCheck() every page, page table,
 * VMA and mm_struct that is still in somebody's hands is in a report, with the place where it was
 * taken if the world tracks origins.
 */
import type { Machine } from '../arch/sim/machine.ts';
import { fileReport } from '../include/linux/bug.ts';
import type { mm_struct, page } from '../include/linux/mm_types.ts';
import {
	type mem_section,
	memoryMap,
	PAGES_PER_SECTION,
	page_to_pfn,
} from '../include/linux/mmzone.ts';
import { PG_hwpoison, PG_reserved, PG_table } from '../include/linux/page-flags.ts';
import type { int } from '../include/linux/types.ts';
import { captureTrace, formatTrace } from '../include/sim/origin.ts';
import { describePage } from './debug.ts';
import { installPageFaultVector } from './fault.ts';
import { releaseHugePages } from './hugetlb/pool.ts';
import { liveObjects } from './live.ts';
import { reportPagemapsLeft } from './memremap.ts';
import { reportNotifiersLeft } from './mmu_notifier.ts';
import { theZone } from './page_alloc.ts';
import { reportSwapLeft } from './swapfile.ts';

/** Leaked pages that one report describes. */
const PAGES_DESCRIBED = 8;

/**
 * Give all RAM struct pages and let page faults come to the kernel.
 *
 * @param machine - the machine of the installed world
 */
export function memInit(machine: Machine): void {
	const map = memoryMap();
	for (const { startPfn, endPfn, special } of machine.ram.ranges)
		if (!special) map.add({ start: startPfn, end: endPfn, pgmap: null, idle: 0 });
	installPageFaultVector(machine);
}

function heldPages(section: mem_section, into: page[]): void {
	for (let i = 0; i < PAGES_PER_SECTION; i++) {
		// bad memory is never given back
		if (section.refcount[i] === 0 || section.flags[i]! & (PG_reserved | PG_hwpoison))
			continue;
		into.push(section.map.page(section.base + i)!);
	}
}

/** Pages of RAM that somebody holds. */
function leakedPages(): page[] {
	const found: page[] = [];
	for (const section of memoryMap().sections.values())
		if (section.pgmap === null) heldPages(section, found);
	return found.sort((a, b) => Number(page_to_pfn(a) - page_to_pfn(b)));
}

function describeLeak(p: page): string[] {
	const origin = p.sec.origins?.[p.idx] ?? null;
	return [
		...describePage(p),
		'  taken at:',
		...formatTrace(origin).map((line) => ` ${line}`),
	];
}

function reportPages(pages: readonly page[]): int {
	if (pages.length === 0) return 0;
	const tables = pages.filter((p) => (p.flags & PG_table) !== 0).length;
	const what = tables === 0 ? '' : `, ${tables} of them page tables`;
	const more = pages.length - PAGES_DESCRIBED;
	fileReport('leak', `BUG: ${pages.length} pages still in use at shutdown${what}`, [
		...pages.slice(0, PAGES_DESCRIBED).flatMap(describeLeak),
		...(more > 0 ? [`... and ${more} more`] : []),
	]);
	return 1;
}

function reportMm(mm: mm_struct, origin: Error | null): void {
	fileReport(
		'leak',
		`BUG: mm_struct of ${mm.owner_comm === '' ? 'nobody' : mm.owner_comm} still in use at shutdown`,
		[
			`mm_users ${mm.mm_users} mm_count ${mm.mm_count} VMAs ${mm.vmas.length} page tables ${mm.pgtables}`,
		],
		origin ?? captureTrace(),
	);
}

/**
 * Report what of memory is still in use.
 *
 * @returns how many reports were filed
 * @context Every process has ended, every driver is unbound.
 */
export function memShutdownCheck(): int {
	const live = liveObjects();
	let reports = 0;
	for (const [mm, origin] of live.mms) {
		reportMm(mm, origin);
		reports += 1 + reportNotifiersLeft(mm);
	}
	reports += reportPagemapsLeft();
	if (live.vmas !== 0) {
		fileReport('leak', `BUG: ${live.vmas} vm_area_structs still in use at shutdown`);
		reports++;
	}
	reports += reportSwapLeft();
	releaseHugePages();
	return theZone().allocated === 0 ? reports : reports + reportPages(leakedPages());
}
