// SPDX-License-Identifier: GPL-2.0-only
/**
 * The hardware page walk: four levels of x86-64 tables in RAM.
 *
 *     va 47..39    38..30      29..21      20..12      11..0
 *        [pgd] ──> [pud] ────> [pmd] ────> [pte] ────> byte
 *                    PSE: 1 GiB  PSE: 2 MiB
 *
 * Guarantee: entries are read where the kernel wrote them, and A and D are set there, as hardware does: A
 * in every entry that a successful walk used, D in the leaf on a write.
 *
 * Duty: the caller owns the TLB; this function neither reads nor fills it.
 */

import {
	X86_PF_INSTR,
	X86_PF_PROT,
	X86_PF_USER,
	X86_PF_WRITE,
} from '../../include/asm/pgtable_types.ts';
import { footprinted, touch } from '../../include/sim/schedule.ts';
import type { Frame, PhysicalRam } from './memory.ts';
import { HUGE_PAGES, LARGE_PAGES, TlbEntry } from './tlb.ts';

/** What an access wants to do; bits as in a page fault's error code. */
export const ACCESS_READ = 0;
/** A write. */
export const ACCESS_WRITE = X86_PF_WRITE;
/** From user mode. */
export const ACCESS_USER = X86_PF_USER;
/** An instruction fetch. */
export const ACCESS_FETCH = X86_PF_INSTR;

// Low and high 32-bit halves of the entry bits; see include/asm/pgtable_types.ts.
const PRESENT = 1 << 0;
const WRITABLE = 1 << 1;
const USER = 1 << 2;
const ACCESSED = 1 << 5;
const DIRTY = 1 << 6;
const PAGE_SIZE_BIT = 1 << 7;
const HIGH_PFN_MASK = 0x000f_ffff;
const HIGH_NO_EXECUTE = 0x8000_0000;

const LEVELS = 4;

/** Outcome of a walk: either a translation, or the error code of the fault. */
export type WalkResult = TlbEntry | number;

/** Page frame number in an entry given by its two halves. */
function entryPfn(low: number, high: number): number {
	return (high & HIGH_PFN_MASK) * 0x10_0000 + (low >>> 12);
}

/** Index into the table of a level: 3 is the top-level table, 0 the last one. */
function tableIndex(vpn: number, level: number): number {
	return Math.floor(vpn / 2 ** (9 * level)) % 512;
}

/**
 * Whether an access is allowed by rights that all levels agree on.
 *
 * @param access - ACCESS_* bits
 */
export function accessAllowed(
	access: number,
	writable: boolean,
	user: boolean,
	noExecute: boolean,
): boolean {
	if ((access & ACCESS_WRITE) !== 0 && !writable) return false;
	if ((access & ACCESS_USER) !== 0 && !user) return false;
	return (access & ACCESS_FETCH) === 0 || !noExecute;
}

/**
 * Translate one virtual page.
 *
 * @param ram - where the tables are
 * @param cr3 - page frame number of the top-level table
 * @param vpn - virtual page number, 36 bits
 * @param access - ACCESS_* bits
 * @param probe - only look: the accessed and dirty bits stay as they are
 * @returns the translation, or the error code (X86_PF_* bits) of the page fault
 */
export function walkPageTable(
	ram: PhysicalRam,
	cr3: number,
	vpn: number,
	access: number,
	probe = false,
): WalkResult {
	let writable = true;
	let user = true;
	let noExecute = false;
	let table: Frame | null = ram.peek(cr3);
	const used: Frame[] = [];
	const usedIndex: number[] = [];
	const traced = !probe && footprinted();

	for (let level = LEVELS - 1; level >= 0; level--) {
		if (table === null) return access;
		const index = tableIndex(vpn, level) * 2;
		const low = table.u32[index] as number;
		const high = table.u32[index + 1] as number;
		if (traced) touch('pte-read', table, 'entries', index / 2, 1);
		if ((low & PRESENT) === 0) return access;
		writable = writable && (low & WRITABLE) !== 0;
		user = user && (low & USER) !== 0;
		noExecute = noExecute || (high & HIGH_NO_EXECUTE) !== 0;
		used.push(table);
		usedIndex.push(index);
		const leaf = level === 0 || (level <= 2 && (low & PAGE_SIZE_BIT) !== 0);
		if (!leaf) {
			table = ram.peek(entryPfn(low, high));
			continue;
		}
		if (!accessAllowed(access, writable, user, noExecute)) return access | X86_PF_PROT;
		const write = (access & ACCESS_WRITE) !== 0;
		for (let i = 0; i < used.length && !probe; i++) {
			const frame = used[i] as Frame;
			const at = usedIndex[i] as number;
			const old = frame.u32[at] as number;
			const bits =
				write && frame === table && at === index
					? ACCESSED | DIRTY
					: ACCESSED;
			if ((old & bits) === bits) continue;
			if (traced) touch('pte-write', frame, 'entries', at / 2, 1);
			frame.u32[at] = old | bits;
		}
		const pages = level === 0 ? 1 : level === 1 ? LARGE_PAGES : HUGE_PAGES;
		// A large leaf's low PFN bits are reserved or PAT: not part of the address.
		const pfn = Math.floor(entryPfn(low, high) / pages) * pages;
		return new TlbEntry(
			pfn,
			pages,
			writable,
			user,
			noExecute,
			write || (low & DIRTY) !== 0,
		);
	}
	return access;
}
