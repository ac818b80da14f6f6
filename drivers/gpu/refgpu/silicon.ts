// SPDX-License-Identifier: GPL-2.0-only
/**
 * The GPU's own hardware: its memory behind a BAR, and a copy engine.
 *
 * Guarantee: VRAM is one store of bytes; whoever reaches the BAR reaches the same bytes. The copy
 * engine moves real bytes between VRAM and DMA addresses, by TLPs through the fabric, or fails as a
 * whole page.
 *
 * ```
 *   VRAM   0 |------------ shown by the BAR ------------|---- not shown ----| vramSize
 *   BAR      |------------------------------------------|
 * ```
 */
import type { Machine } from '../../../arch/sim/machine.ts';
import { FrameStore, PAGE_BYTES } from '../../../arch/sim/memory.ts';
import { EIO } from '../../../include/linux/errno.ts';
import type { dma_addr_t, int } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import {
	preemptible,
	type SchedulePoint,
	type Sim,
	schedulePoint,
	touch,
} from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';

/** A TLP of the copy engine that did not complete successfully. */
export interface CopyFault {
	readonly address: dma_addr_t;
	readonly write: boolean;
	readonly status: string;
}

/** One GPU's hardware. */
export class GpuSilicon {
	/** Its function on the bus: the requester of its TLPs. */
	readonly bdf: string;
	readonly vram: FrameStore;
	/** Copies that will fail: how many of the next ones. Others fail by fault injection. */
	failCopies = 0;
	copies = 0;
	bytesCopied = 0;
	faults: CopyFault[] = [];

	/**
	 * @param bdf - its function
	 * @param vramSize - bytes of device memory
	 */
	constructor(bdf: string, vramSize: bigint) {
		this.bdf = bdf;
		this.vram = new FrameStore(vramSize);
	}

	/**
	 * Copy one page of VRAM to a DMA address.
	 *
	 * @param offset - byte of VRAM
	 * @param to - where, as this GPU addresses it
	 * @retval -EIO the engine failed, or nobody answered at `to`
	 */
	*copyOut(offset: bigint, to: dma_addr_t): Sim<int> {
		if (preemptible()) yield this.vramPoint('memory-read', offset);
		if (this.engineFails()) return -EIO;
		const page = new Uint8Array(PAGE_BYTES);
		this.vram.read(offset, page);
		const { fabric } = world().machine as Machine;
		const completion = fabric.write(this.bdf, to, page);
		return this.finish(to, true, completion.status);
	}

	/**
	 * Copy one page from a DMA address to VRAM.
	 *
	 * @param from - where, as this GPU addresses it
	 * @param offset - byte of VRAM
	 * @retval -EIO the engine failed, or nobody answered at `from`
	 */
	*copyIn(from: dma_addr_t, offset: bigint): Sim<int> {
		if (preemptible()) yield this.vramPoint('memory-write', offset);
		if (this.engineFails()) return -EIO;
		const { fabric } = world().machine as Machine;
		const completion = fabric.read(this.bdf, from, PAGE_BYTES);
		const ret = this.finish(from, false, completion.status);
		if (ret === 0) this.vram.write(offset, completion.data!);
		return ret;
	}

	/**
	 * Fill one page of VRAM with zeros.
	 *
	 * @param offset - byte of VRAM
	 */
	*clear(offset: bigint): Sim<void> {
		if (preemptible()) yield this.vramPoint('memory-write', offset);
		this.vram.drop(Number(offset / BigInt(PAGE_BYTES)));
	}

	/** The point before a step of the engine: its page of VRAM. What a TLP touches, the fabric says. */
	private vramPoint(access: 'memory-read' | 'memory-write', offset: bigint): SchedulePoint {
		return schedulePoint(access, this.vram, 'bytes', Number(offset >> 12n), 1);
	}

	private engineFails(): boolean {
		this.copies++;
		if (this.failCopies === 0) return shouldFail('copy_engine');
		// Which copy it is that fails depends on the order.
		touch('atomic', this, 'failCopies');
		this.failCopies--;
		return true;
	}

	private finish(address: dma_addr_t, write: boolean, status: string): int {
		if (status !== 'SC') {
			this.faults.push({ address, write, status });
			return -EIO;
		}
		this.bytesCopied += PAGE_BYTES;
		return 0;
	}
}
