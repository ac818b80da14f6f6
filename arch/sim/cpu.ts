// SPDX-License-Identifier: GPL-2.0-only
/**
 * A CPU: loads and stores of user memory through its TLB and the page tables in RAM.
 *
 * Guarantee: what a load returns is what the hardware would return, stale TLB entries included. A fault
 * goes to the kernel through the page fault vector, and the access is tried again after it.
 *
 * Mechanism: TLB, else walk (A and D are set in the tables), else fault. A TLB entry that lacks a right or
 * the D bit is dropped and the tables are walked again, so a right that was *added* needs no flush, while
 * one that was *taken away* stays until invlpg() or flushTlb(). An access is a step for each page, with a
 * schedule point before it where somebody looks for interleavings.
 *
 * Duty: the kernel loads cr3 at a switch and flushes where it must; loads and stores are called with
 * `yield*`, since the fault handler may sleep.
 */
import { HarnessError } from '../../include/sim/report.ts';
import {
	preemptible,
	type SchedulePoint,
	type Sim,
	schedulePoint,
	touch,
} from '../../include/sim/schedule.ts';
import { type MemoryPlace, PAGE_BYTES, type PhysicalRam } from './memory.ts';
import { Tlb, type TlbEntry } from './tlb.ts';
import type { Signal, TrappedCpu, Vectors } from './vectors.ts';
import { ACCESS_READ, ACCESS_USER, ACCESS_WRITE, accessAllowed, walkPageTable } from './walk.ts';

/** How often one access may fault before the run is stopped. */
export const FAULTS_MAX = 64;

/** Result of a physical access: successful, or nobody answers at the address. */
export type PhysicalStatus = 'SC' | 'UR' | 'CA';

/** What a CPU needs of its machine (class Machine is one). */
export interface CpuSockets {
	readonly ram: PhysicalRam;
	readonly vectors: Vectors;
	/** What holds the bytes at a physical address; null: nobody answers. */
	placeOf(phys: bigint): MemoryPlace | null;
	/** Read physical addresses: RAM or MMIO. */
	cpuRead(phys: bigint, into: Uint8Array): { status: PhysicalStatus };
	/** Write physical addresses: RAM or MMIO. */
	cpuWrite(phys: bigint, from: Uint8Array): { status: PhysicalStatus };
}

/** One CPU. */
export class Cpu implements TrappedCpu {
	/** Number of the CPU. */
	id: number;
	/** Page frame number of the top-level page table of what runs here; 0: none. */
	cr3: number;
	/** Translations that it remembers. */
	tlb: Tlb;
	/** Page faults taken so far. */
	faults: number;
	/** The machine that it sits in. */
	machine: CpuSockets;

	/**
	 * @param machine - RAM, vectors and physical addresses
	 * @param id - its number
	 */
	constructor(machine: CpuSockets, id: number) {
		this.id = id;
		this.cr3 = 0;
		this.tlb = new Tlb();
		this.faults = 0;
		this.machine = machine;
	}

	/**
	 * Translate as the CPU does for an access: TLB, else page walk.
	 *
	 * @param vpn - virtual page number
	 * @param access - ACCESS_* bits of walk.ts
	 * @returns the translation in force, or the error code of a page fault
	 */
	translate(vpn: number, access: number): TlbEntry | number {
		const asid = this.cr3;
		touch('read', this.tlb, 'entries', vpn, 1);
		const cached = this.tlb.lookup(asid, vpn);
		if (cached !== null) {
			const dirtyKnown = (access & ACCESS_WRITE) === 0 || cached.dirty;
			if (
				dirtyKnown &&
				accessAllowed(
					access,
					cached.writable,
					cached.user,
					cached.noExecute,
				)
			) {
				return cached;
			}
			this.tlb.drop(asid, vpn);
		}
		const walked = walkPageTable(this.machine.ram, asid, vpn, access);
		if (typeof walked !== 'number') this.tlb.insert(asid, vpn, walked);
		return walked;
	}

	/**
	 * Load bytes of user memory.
	 *
	 * @param va - first virtual address
	 * @param into - where to; its length says how much
	 * @returns null, or the signal that the kernel sent instead of a mapping
	 * @context May sleep: page faults.
	 */
	*load(va: bigint, into: Uint8Array): Sim<Signal | null> {
		const { cr3 } = this;
		for (let done = 0; done < into.length; ) {
			const at = va + BigInt(done);
			const part = Math.min(PAGE_BYTES - Number(at & 4095n), into.length - done);
			const phys = yield* this.resolve(cr3, at, ACCESS_READ | ACCESS_USER);
			if (typeof phys !== 'bigint') return phys;
			this.machine.cpuRead(phys, into.subarray(done, done + part));
			done += part;
		}
		return null;
	}

	/**
	 * Store bytes to user memory.
	 *
	 * @param va - first virtual address
	 * @param from - what; its length says how much
	 * @returns null, or the signal that the kernel sent; bytes before the faulting page are stored
	 * @context May sleep: page faults.
	 */
	*store(va: bigint, from: Uint8Array): Sim<Signal | null> {
		const { cr3 } = this;
		for (let done = 0; done < from.length; ) {
			const at = va + BigInt(done);
			const part = Math.min(PAGE_BYTES - Number(at & 4095n), from.length - done);
			const phys = yield* this.resolve(cr3, at, ACCESS_WRITE | ACCESS_USER);
			if (typeof phys !== 'bigint') return phys;
			this.machine.cpuWrite(phys, from.subarray(done, done + part));
			done += part;
		}
		return null;
	}

	/**
	 * Physical address of a virtual one, faulting it in where needed. The translation and the access
	 * that the caller makes of it are one step.
	 */
	private *resolve(cr3: number, va: bigint, access: number): Sim<bigint | Signal> {
		const vpn = Number((va >> 12n) & 0xf_ffff_ffffn);
		for (let tries = 0; tries <= FAULTS_MAX; tries++) {
			// Another address space may have been on this CPU since the last step.
			this.cr3 = cr3;
			if (preemptible()) {
				yield this.accessPoint(vpn, access);
				this.cr3 = cr3;
			}
			const entry = cr3 === 0 ? access : this.translate(vpn, access);
			if (typeof entry !== 'number') {
				const pfn = entry.pfn + (vpn % entry.pages);
				return (BigInt(pfn) << 12n) | (va & 4095n);
			}
			this.faults++;
			const outcome = yield* this.machine.vectors.pageFault(this, va, entry);
			if (outcome !== 0) return outcome;
		}
		throw new HarnessError(
			access & ACCESS_WRITE ? 'Cpu.store' : 'Cpu.load',
			`${FAULTS_MAX} page faults in a row at 0x${va.toString(16)}: the usual cause is a fault ` +
				'handler that reports success without making the entry present with the right asked for',
		);
	}

	/**
	 * The point before an access: it names the page that the access ends in as things are. Where it
	 * would fault, and where nobody answers, it names the translation that it asks for.
	 */
	private accessPoint(vpn: number, access: number): SchedulePoint {
		const kind = (access & ACCESS_WRITE) !== 0 ? 'memory-write' : 'memory-read';
		const entry = this.probe(vpn, access);
		if (entry !== null) {
			const pfn = BigInt(entry.pfn + (vpn % entry.pages));
			const place = this.machine.placeOf(pfn << 12n);
			if (place !== null)
				return schedulePoint(
					kind,
					place.object,
					place.field,
					place.index,
					1,
				);
		}
		return schedulePoint('read', this.tlb, 'entries', vpn, 1);
	}

	/** What translate() would find, without a trace in TLB and tables; null: a page fault. */
	private probe(vpn: number, access: number): TlbEntry | null {
		const { cr3 } = this;
		if (cr3 === 0) return null;
		const cached = this.tlb.lookup(cr3, vpn);
		const write = (access & ACCESS_WRITE) !== 0;
		if (
			cached !== null &&
			(!write || cached.dirty) &&
			accessAllowed(access, cached.writable, cached.user, cached.noExecute)
		)
			return cached;
		const walked = walkPageTable(this.machine.ram, cr3, vpn, access, true);
		return typeof walked === 'number' ? null : walked;
	}

	/** Drop the present address space's entries for one address. */
	invlpg(va: bigint): void {
		this.tlb.invalidate(this.cr3, Number((va >> 12n) & 0xf_ffff_ffffn));
	}

	/**
	 * Drop entries.
	 *
	 * @param asid - page frame number of the top-level table of the address space; absent: all
	 */
	flushTlb(asid?: number): void {
		this.tlb.flush(asid);
	}
}
