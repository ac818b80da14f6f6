// SPDX-License-Identifier: GPL-2.0-only
/** A machine without devices, and what tests of mm/ ask of a process on it. */
import type { MachineDescription } from '../../arch/sim/description.ts';
import type { Signal } from '../../arch/sim/vectors.ts';
import { MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import type { mm_struct } from '../../include/linux/mm_types.ts';
import {
	mmu_interval_notifier,
	type mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import {
	pgd_none,
	pmd_none,
	pte_none,
	pte_write,
	pud_none,
	type TableEntry,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import type { int } from '../../include/linux/types.ts';
import { HarnessError } from '../../include/sim/report.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run } from '../../kernel/sched/core.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import { pgd_offset, pmd_offset, pte_offset_kernel, pud_offset } from '../../mm/pgtable.ts';
import { userMadvise, userMmap, userWrite64 } from '../../mm/syscalls.ts';

/** Bytes of a page. */
export const PAGE = 4096n;
/** Where mappings of tests start; nothing else is below its top-level entry. */
export const ARENA = 0x2000_0000_0000n;
/** Pages in a huge page of 2 MiB. */
export const HUGE = 512;
/** Readable and writable. */
export const RW = PROT_READ | PROT_WRITE;

/** Address of a page, counted from the arena. */
export function at(page: int | bigint): bigint {
	return ARENA + BigInt(page) * PAGE;
}

/**
 * A machine with RAM and two CPUs.
 *
 * @param pages - pages of RAM above the first MiB
 */
export function smallMachine(pages = 0x4000): MachineDescription {
	return {
		name: 'small',
		cpu: { vendor: 'intel', family: 6, model: 85 },
		ram: [{ start: '0x0', size: `0x${(0x100000 + pages * 4096).toString(16)}` }],
		iommu: null,
		hostBridges: [],
		devices: [],
		crossHostBridge: 'works',
	};
}

/**
 * Map pages at their place in the arena.
 *
 * @param p - whose
 * @param first - first page of the arena
 * @param pages - how many
 * @param prot - PROT_*
 * @param flags - MAP_*
 * @throws HarnessError mmap() failed
 */
export function mapPages(
	p: task_struct,
	first: number,
	pages: number,
	prot = RW,
	flags = MAP_PRIVATE,
): void {
	const ret = userMmap(p, at(first), BigInt(pages) * PAGE, prot, flags);
	if (ret !== at(first)) throw new HarnessError('mapPages()', `mmap() returned ${ret}`);
}

/**
 * Map readable and writable pages and write 1, 2, 3, … into them.
 *
 * @param p - whose
 * @param first - first page of the arena
 * @param pages - how many
 * @param flags - MAP_*
 * @throws HarnessError mmap() or a write failed
 */
export function mapWritten(
	p: task_struct,
	first: number,
	pages: number,
	flags = MAP_PRIVATE,
): void {
	mapPages(p, first, pages, RW, flags);
	for (let i = 0; i < pages; i++) {
		const signal = userWrite64(p, at(first + i), BigInt(i + 1));
		if (signal !== null) throw new HarnessError('mapWritten()', signalText(signal));
	}
}

/**
 * madvise() of pages of the arena.
 *
 * @param p - whose
 * @param first - first page of the arena
 * @param pages - how many
 * @param behavior - MADV_*
 * @returns 0 or -errno
 */
export function madvisePages(p: task_struct, first: number, pages: number, behavior: number): int {
	return userMadvise(p, at(first), BigInt(pages) * PAGE, behavior);
}

/** VMAs as text: `start-end:flags`, pages counted from the arena, flags r w x s. */
export function vmaList(mm: mm_struct): string {
	const letters = ['r', 'w', 'x', 's'];
	return mm.vmas
		.map(({ vm_start, vm_end, vm_flags }) => {
			const flags = letters.filter(
				(_, bit) => (vm_flags & (1n << BigInt(bit))) !== 0n,
			);
			return `${(vm_start - ARENA) / PAGE}-${(vm_end - ARENA) / PAGE}:${flags.join('')}`;
		})
		.join(' ');
}

/** The pte of an address, or null while it has no table. */
export function pteOf(mm: mm_struct, va: bigint): TableEntry | null {
	const pgd = pgd_offset(mm, va);
	if (pgd_none(pgd.value)) return null;
	const pud = pud_offset(pgd, va);
	if (pud_none(pud.value)) return null;
	const pmd = pmd_offset(pud, va);
	return pmd_none(pmd.value) ? null : pte_offset_kernel(pmd, va);
}

/** `M` no table, `.` empty, `r` or `w`. */
export function pteLetter(mm: mm_struct, va: bigint): string {
	const pte = pteOf(mm, va);
	if (pte === null) return 'M';
	if (pte_none(pte.value)) return '.';
	return pte_write(pte.value) ? 'w' : 'r';
}

/** Letters of some pages from the arena on. */
export function ptes(mm: mm_struct, first: number, count: number): string {
	let text = '';
	for (let i = 0; i < count; i++) text += pteLetter(mm, at(first + i));
	return text;
}

/** `sig 11 code 2`, or `none`. */
export function signalText(outcome: Signal | bigint | Uint8Array | null): string {
	if (outcome === null || typeof outcome === 'bigint' || outcome instanceof Uint8Array)
		return 'none';
	return `sig ${outcome.sig} code ${outcome.code}`;
}

/** Collects the invalidations of some pages from the arena on. */
export class InvalidationLog {
	sub = new mmu_interval_notifier();
	lock = new mutex('test notifier');
	lines: string[] = [];

	/** What is done besides. */
	also: (() => void) | null;

	/**
	 * @param mm - address space; 4 GiB from the arena on are watched
	 * @param also - done at each invalidation
	 */
	constructor(mm: mm_struct, also: (() => void) | null = null) {
		this.also = also;
		this.sub.container = this;
		run(mmu_interval_notifier_insert(this.sub, mm, ARENA, 1n << 32n, { invalidate }));
	}

	/** What came since the last call, `event start-end` each. */
	take(): string {
		const text = this.lines.join(', ');
		this.lines = [];
		return text;
	}

	/** Stop watching. */
	remove(): void {
		run(mmu_interval_notifier_remove(this.sub));
	}
}

function* invalidate(
	sub: mmu_interval_notifier,
	range: mmu_notifier_range,
	seq: bigint,
): Sim<boolean> {
	const log = sub.container as InvalidationLog;
	yield* mutex_lock(log.lock);
	mmu_interval_set_seq(sub, seq);
	yield* mutex_unlock(log.lock);
	const { event, start, end } = range;
	log.also?.();
	log.lines.push(`${event} ${(start - ARENA) / PAGE}-${(end - ARENA) / PAGE}`);
	return true;
}
