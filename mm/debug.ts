// SPDX-License-Identifier: GPL-2.0-only
/** What a page looks like in a report: dump_page(), and the reports of broken reference counts. */
import { fileReport } from '../include/linux/bug.ts';
import { address_space, type page, page_folio } from '../include/linux/mm_types.ts';
import { page_to_pfn } from '../include/linux/mmzone.ts';
import * as flag from '../include/linux/page-flags.ts';
import { pr_warn } from '../include/linux/printk.ts';
import { current } from '../include/linux/sched.ts';
import { formatTrace } from '../include/sim/origin.ts';

const flagNames: readonly (readonly [number, string])[] = [
	[flag.PG_locked, 'locked'],
	[flag.PG_referenced, 'referenced'],
	[flag.PG_uptodate, 'uptodate'],
	[flag.PG_dirty, 'dirty'],
	[flag.PG_lru, 'lru'],
	[flag.PG_active, 'active'],
	[flag.PG_writeback, 'writeback'],
	[flag.PG_private, 'private'],
	[flag.PG_swapbacked, 'swapbacked'],
	[flag.PG_swapcache, 'swapcache'],
	[flag.PG_reserved, 'reserved'],
	[flag.PG_anon_exclusive, 'anon_exclusive'],
	[flag.PG_hwpoison, 'hwpoison'],
	[flag.PG_mlocked, 'mlocked'],
	[flag.PG_unevictable, 'unevictable'],
	[flag.PG_large_rmappable, 'large_rmappable'],
	[flag.PG_buddy, 'buddy'],
	[flag.PG_table, 'table'],
];

function mappingKind(p: page): string {
	const { mapping } = page_folio(p);
	if (mapping === null) return '0';
	return mapping instanceof address_space ? 'address_space' : 'anon';
}

function flagList(flags: number): string {
	return flagNames
		.filter(([bit]) => (flags & bit) !== 0)
		.map(([, name]) => name)
		.join('|');
}

/**
 * The lines in which the kernel describes a page.
 *
 * @param p - the page
 */
export function describePage(p: page): string[] {
	const { flags } = p;
	const lines = [
		`page: refcount:${p._refcount} mapcount:${p._mapcount + 1} mapping:${mappingKind(p)} ` +
			`index:0x${p.index.toString(16)} pfn:0x${page_to_pfn(p).toString(16)}`,
	];
	const head = page_folio(p).page;
	if (head.compound > 0)
		lines.push(
			`head: order:${head.compound >> 1} mapcount:${head._mapcount + 1} ` +
				`refcount:${head._refcount} pfn:0x${page_to_pfn(head).toString(16)}`,
		);
	lines.push(`flags: 0x${flags.toString(16)}(${flagList(flags)})`);
	return lines;
}

/**
 * Print a page to the kernel log.
 *
 * @param p - the page
 * @param reason - why
 * @kernel mm/debug.c
 */
export function dump_page(p: page, reason: string): void {
	for (const line of describePage(p)) pr_warn(line);
	if (reason !== '') pr_warn(`page dumped because: ${reason}`);
}

/** Where the newest reference of a page was taken, as lines of a report. */
function originLines(p: page): string[] {
	const origin = p.sec.origins?.[p.idx];
	return origin ? ['last reference taken at:', ...formatTrace(origin)] : [];
}

/**
 * A reference of a page is taken or put though nobody holds one.
 *
 * @param p - head page
 * @param call - what was done
 */
export function reportUseAfterFree(p: page, call: string): void {
	const { comm, pid } = current();
	fileReport('KASAN', `BUG: KASAN: use-after-free in ${call}`, [
		`${call} of a page without references by task ${comm}/${pid}`,
		...describePage(p),
		...originLines(p),
	]);
}

/**
 * A page is freed or handed out in a state in which that must not happen.
 *
 * @param p - the page
 * @param reason - what is wrong
 * @kernel mm/page_alloc.c
 */
export function bad_page(p: page, reason: string): void {
	const pfn = page_to_pfn(p).toString(16).padStart(5, '0');
	fileReport('BUG', `BUG: Bad page state in process ${current().comm}  pfn:${pfn}`, [
		...describePage(p),
		`page dumped because: ${reason}`,
		...originLines(p),
	]);
}
