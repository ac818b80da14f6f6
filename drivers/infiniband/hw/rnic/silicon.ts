// SPDX-License-Identifier: GPL-2.0-only
/**
 * The NIC's own hardware: memory keys, their translation tables, and the DMA engine.
 *
 * Guarantee: the NIC touches memory at the addresses of its translation table and nowhere else, by
 * TLPs through the fabric. An entry that is not there raises a page fault and holds the work
 * request until it is answered.
 * Mechanism: a key has one entry for each page, the word that the driver would program: DMA address
 * with READ and WRITE in its low bits. Looking the entry up and issuing the TLP is one step, so once
 * the driver has zapped an entry no later TLP uses it.
 *
 * ```
 *   key 0x1700   iova  |------|------|------|------|
 *                mtt   [ addr | 0    | addr | addr ]     0: page fault
 *                         |RW           |R
 *                         v             v
 *                      TLP to a bus address, an IOVA, or a physical address
 * ```
 */
import type { Completion } from '../../../../arch/sim/pcie/tlp.ts';
import { fileReport } from '../../../../include/linux/bug.ts';
import type { dma_addr_t, int, u64 } from '../../../../include/linux/types.ts';
import {
	IB_WC_LOC_PROT_ERR,
	IB_WC_LOC_QP_OP_ERR,
	IB_WC_REM_ACCESS_ERR,
	IB_WC_REM_OP_ERR,
	IB_WC_SUCCESS,
	type ib_wc_status,
} from '../../../../include/rdma/ib_verbs.ts';
import { preemptible, type Sim, schedulePoint } from '../../../../include/sim/schedule.ts';

/** The device may read through this entry. */
export const MTT_READ = 1n;
/** The device may write through this entry. */
export const MTT_WRITE = 2n;
const MTT_FLAGS = MTT_READ | MTT_WRITE;

/** Faults of one page of one work request, at the most: each must have brought it nearer. */
export const MAX_FAULTS_PER_PAGE = 64;

/** A TLP that did not complete successfully. */
export interface DmaFault {
	readonly address: dma_addr_t;
	/** Issue a write. */
	readonly write: boolean;
	readonly status: string;
}

/** Where TLPs go: the machine's fabric, from this NIC's function. */
export interface DmaPort {
	/** Issue a read. */
	read(address: dma_addr_t, length: int): Completion;
	/** Issue a write. */
	write(address: dma_addr_t, data: Uint8Array): Completion;
}

/** A page fault that the NIC raises. */
export interface PageFault {
	readonly key: int;
	/** First byte that cannot be reached. */
	readonly iova: u64;
	/** Bytes that are left of the request. */
	readonly length: int;
	/** Issue a write. */
	readonly write: boolean;
}

/** Who answers page faults. */
export interface PageFaultHandler {
	/** Bring the page within reach: 0, or a negative errno that fails the work request. */
	pageFault(fault: PageFault): Sim<int>;
}

/** A memory key and its translation table. */
export class MemoryKey {
	readonly key: int;
	readonly iova: u64;
	readonly length: u64;
	/** Peers may read, write. */
	remoteRead = false;
	remoteWrite = false;
	localWrite = false;
	/** log2 of the bytes that one entry maps. */
	readonly pageShift: int;
	readonly mtt: BigUint64Array;
	/** False once revoked: every access fails. */
	live = true;

	/**
	 * @param key - lkey and rkey
	 * @param iova - address of its first byte in work requests
	 * @param length - bytes
	 * @param pageShift - log2 of an entry's bytes
	 */
	constructor(key: int, iova: u64, length: u64, pageShift: int) {
		const unit = 1n << BigInt(pageShift);
		const first = iova & ~(unit - 1n);
		this.key = key;
		this.iova = iova;
		this.length = length;
		this.pageShift = pageShift;
		this.mtt = new BigUint64Array(Number((iova + length - first + unit - 1n) / unit));
	}

	/**
	 * Place of an address in the table.
	 *
	 * @param iova - address inside the key
	 */
	index(iova: u64): number {
		const shift = BigInt(this.pageShift);
		return Number((iova >> shift) - (this.iova >> shift));
	}
}

/** Result of moving bytes. */
export interface Transfer {
	readonly status: ib_wc_status;
	/** Bytes read; empty for a write. */
	readonly data: Uint8Array;
}

/** One NIC's hardware. */
export class RnicSilicon {
	readonly port: DmaPort;
	keys: Map<int, MemoryKey> = new Map();
	nextKey = 0x1700;
	/** Answers page faults; the driver, once it is bound. */
	faultHandler: PageFaultHandler | null = null;
	/** TLPs that failed, in order. */
	faults: DmaFault[] = [];
	bytesRead = 0;
	bytesWritten = 0;
	/** Addresses used by the TLPs of the last work request, in order. */
	lastAddresses: dma_addr_t[] = [];

	/** @param port - where TLPs go */
	constructor(port: DmaPort) {
		this.port = port;
	}

	/**
	 * Make a memory key.
	 *
	 * @param iova - address of its first byte
	 * @param length - bytes
	 * @param pageShift - log2 of an entry's bytes
	 */
	createKey(iova: u64, length: u64, pageShift: int): MemoryKey {
		const key = new MemoryKey(this.nextKey, iova, length, pageShift);
		this.keys.set(key.key, key);
		this.nextKey += 0x100;
		return key;
	}

	/**
	 * Program entries of a key's table. That a dead key is programmed is reported.
	 *
	 * @param key - the key
	 * @param first - first entry
	 * @param words - address | MTT_*; 0 makes an entry fault
	 */
	*writeTable(key: MemoryKey, first: number, words: ArrayLike<bigint>): Sim<void> {
		if (preemptible())
			yield schedulePoint('write', key.mtt, 'entries', first, words.length);
		if (!key.live) {
			fileReport(
				'fabric',
				`CQE with error: key 0x${key.key.toString(16)} is programmed after it was revoked`,
			);
			return;
		}
		for (let i = 0; i < words.length; i++) key.mtt[first + i] = words[i]!;
	}

	/**
	 * Make a key unusable.
	 *
	 * @param key - the key
	 */
	*revokeKey(key: MemoryKey): Sim<void> {
		if (preemptible()) yield schedulePoint('write', key, 'live');
		key.live = false;
		key.mtt.fill(0n);
		this.keys.delete(key.key);
	}

	/**
	 * Read bytes for a work request.
	 *
	 * @param lkey - key
	 * @param iova - first byte
	 * @param length - bytes
	 * @param remote - a peer asks, with an rkey
	 */
	*read(lkey: int, iova: u64, length: int, remote: boolean): Sim<Transfer> {
		const data = new Uint8Array(length);
		const status = yield* this.move(lkey, iova, data, false, remote);
		return { status, data: status === IB_WC_SUCCESS ? data : new Uint8Array(0) };
	}

	/**
	 * Write bytes for a work request.
	 *
	 * @param lkey - key
	 * @param iova - first byte
	 * @param data - bytes
	 * @param remote - a peer asks, with an rkey
	 */
	*write(lkey: int, iova: u64, data: Uint8Array, remote: boolean): Sim<ib_wc_status> {
		return yield* this.move(lkey, iova, data, true, remote);
	}

	private *move(
		name: int,
		iova: u64,
		bytes: Uint8Array,
		write: boolean,
		remote: boolean,
	): Sim<ib_wc_status> {
		const refused = remote ? IB_WC_REM_ACCESS_ERR : IB_WC_LOC_PROT_ERR;
		const key = this.keys.get(name);

		this.lastAddresses = [];
		if (key === undefined || !mayAccess(key, write, remote)) return refused;
		if (iova < key.iova || iova + BigInt(bytes.length) > key.iova + key.length)
			return refused;

		const unit = 1 << key.pageShift;
		for (let done = 0; done < bytes.length; ) {
			const at = iova + BigInt(done);
			const offset = Number(at & BigInt(unit - 1));
			const part = bytes.subarray(
				done,
				Math.min(bytes.length, done + unit - offset),
			);
			const status = yield* this.movePage(key, at, offset, part, write, remote);
			if (status !== IB_WC_SUCCESS) return status;
			done += part.length;
		}
		return IB_WC_SUCCESS;
	}

	/** Bytes within one entry: look it up and issue the TLP in one step, or fault and look again. */
	private *movePage(
		key: MemoryKey,
		iova: u64,
		offset: int,
		bytes: Uint8Array,
		write: boolean,
		remote: boolean,
	): Sim<ib_wc_status> {
		const failed = remote ? IB_WC_REM_OP_ERR : IB_WC_LOC_QP_OP_ERR;
		const needed = write ? MTT_WRITE : MTT_READ;

		for (let turn = 0; turn < MAX_FAULTS_PER_PAGE; turn++) {
			if (preemptible())
				yield schedulePoint('read', key.mtt, 'entries', key.index(iova), 1);
			if (!key.live) return remote ? IB_WC_REM_ACCESS_ERR : IB_WC_LOC_PROT_ERR;
			const entry = key.mtt[key.index(iova)]!;
			if (entry & needed)
				return this.issue(
					(entry & ~MTT_FLAGS) + BigInt(offset),
					bytes,
					write,
					failed,
				);
			if (this.faultHandler === null) return failed;
			const fault = { key: key.key, iova, length: bytes.length, write };
			const err = yield* this.faultHandler.pageFault(fault);
			if (err) return remote ? IB_WC_REM_ACCESS_ERR : IB_WC_LOC_PROT_ERR;
		}
		return failed;
	}

	private issue(
		address: dma_addr_t,
		bytes: Uint8Array,
		write: boolean,
		failed: ib_wc_status,
	): ib_wc_status {
		this.lastAddresses.push(address);
		const completion = write
			? this.port.write(address, bytes)
			: this.port.read(address, bytes.length);
		if (completion.status !== 'SC') {
			this.faults.push({ address, write, status: completion.status });
			return failed;
		}
		if (write) this.bytesWritten += bytes.length;
		else {
			bytes.set(completion.data!);
			this.bytesRead += bytes.length;
		}
		return IB_WC_SUCCESS;
	}
}

/** Whether a key lets its holder do this. */
function mayAccess(key: MemoryKey, write: boolean, remote: boolean): boolean {
	if (!key.live) return false;
	if (remote) return write ? key.remoteWrite : key.remoteRead;
	return write ? key.localWrite : true;
}
