// SPDX-License-Identifier: GPL-2.0-only
/**
 * Driver of the reference RDMA NIC: probe and remove, memory regions, work requests.
 *
 * It knows user memory through ib_umem_odp and its own PCI function; it has never heard of a GPU.
 * On-demand paging is in odp.ts, the hardware in silicon.ts.
 */

import type { Machine } from '../../../../arch/sim/machine.ts';
import type { Completion } from '../../../../arch/sim/pcie/tlp.ts';
import { completion } from '../../../../include/linux/completion.ts';
import { DMA_BIT_MASK } from '../../../../include/linux/dma-mapping.ts';
import { IS_ERR } from '../../../../include/linux/err.ts';
import { ENODEV, ENOENT, ENOMEM } from '../../../../include/linux/errno.ts';
import { type pci_dev, pci_name } from '../../../../include/linux/pci.ts';
import type {
	dma_addr_t,
	errno,
	int,
	size_t,
	u64,
	unsigned_long,
} from '../../../../include/linux/types.ts';
import type { ib_umem_odp } from '../../../../include/rdma/ib_umem_odp.ts';
import {
	IB_ACCESS_LOCAL_WRITE,
	IB_ACCESS_ON_DEMAND,
	IB_ACCESS_REMOTE_READ,
	IB_ACCESS_REMOTE_WRITE,
	IB_WC_SUCCESS,
	ib_device,
	ib_odp_counters,
	type ib_wc_status,
} from '../../../../include/rdma/ib_verbs.ts';
import { shouldFail } from '../../../../include/sim/fault_injection.ts';
import { HarnessError } from '../../../../include/sim/report.ts';
import { type Sim, touch } from '../../../../include/sim/schedule.ts';
import { world } from '../../../../include/sim/world.ts';
import { dma_set_mask_and_coherent } from '../../../../kernel/dma/mapping.ts';
import { mutex_lock, mutex_unlock } from '../../../../kernel/locking/mutex.ts';
import { complete_all, wait_for_completion } from '../../../../kernel/sched/completion.ts';
import { ib_umem_odp_get, ib_umem_odp_release } from '../../core/umem_odp.ts';
import { adviseMr, pagefaultMr, rnicMnOps } from './odp.ts';
import {
	type DmaPort,
	type MemoryKey,
	type PageFault,
	type PageFaultHandler,
	RnicSilicon,
	type Transfer,
} from './silicon.ts';

/** The NIC's way into the fabric. */
class RnicPort implements DmaPort {
	readonly bdf: string;

	constructor(bdf: string) {
		this.bdf = bdf;
	}

	read(address: dma_addr_t, length: int): Completion {
		return (world().machine as Machine).fabric.read(this.bdf, address, length);
	}

	write(address: dma_addr_t, data: Uint8Array): Completion {
		return (world().machine as Machine).fabric.write(this.bdf, address, data);
	}
}

/** A memory region: user memory under a key. */
export class RnicMr {
	readonly nic: Rnic;
	readonly umem: ib_umem_odp;
	readonly key: MemoryKey;
	readonly address: unsigned_long;
	readonly length: size_t;
	/** One for the registration, and page faults and prefetches that are being answered. */
	users: int = 1;
	/** `users` is 0: the last of them has touched the region for the last time. */
	unused = new completion('&mr->unused');

	/**
	 * @param nic - whose
	 * @param umem - the user memory
	 * @param key - the NIC's key
	 * @param address - first byte
	 * @param length - bytes
	 */
	constructor(
		nic: Rnic,
		umem: ib_umem_odp,
		key: MemoryKey,
		address: unsigned_long,
		length: size_t,
	) {
		this.nic = nic;
		this.umem = umem;
		this.key = key;
		this.address = address;
		this.length = length;
	}
}

/** One NIC. */
export class Rnic implements PageFaultHandler {
	readonly pdev: pci_dev;
	readonly ibdev: ib_device;
	readonly silicon: RnicSilicon;
	/** Regions in use. Who takes one out, in one step, is the one that releases it. */
	mrs: Map<int, RnicMr> = new Map();
	/** No region is added any more; set once, together with a look at `mrs`. */
	removing = false;
	/** One for the driver that is bound, and each registration and deregistration that runs. */
	users: int = 1;
	/** `users` is 0: nothing of the driver runs for this NIC. */
	unused = new completion('&nic->unused');
	counters = new ib_odp_counters();

	/** @param pdev - its PCI function */
	constructor(pdev: pci_dev) {
		this.pdev = pdev;
		this.ibdev = new ib_device({
			name: `rnic-${pdev.dev.init_name}`,
			dma_device: pdev.dev,
		});
		this.ibdev.container = this;
		this.silicon = new RnicSilicon(new RnicPort(pdev.dev.init_name));
	}

	/**
	 * The NIC could not reach a page: the fault's key leads to its region.
	 *
	 * @param fault - what was touched
	 */
	*pageFault(fault: PageFault): Sim<int> {
		const mr = getMr(this, fault.key);
		if (mr === null) return -ENOENT;
		const ret = yield* pagefaultMr(mr, fault);
		putMr(mr);
		return ret;
	}
}

/** The region of a key; it stays until putMr(). */
function getMr(nic: Rnic, key: int): RnicMr | null {
	const mr = nic.mrs.get(key) ?? null;
	touch('atomic', nic.mrs);
	if (mr !== null) mr.users++;
	return mr;
}

/** The other end of getMr(). */
function putMr(mr: RnicMr): void {
	touch('atomic', mr.nic.mrs);
	if (--mr.users === 0) complete_all(mr.unused);
}

/** Keep rnicRemove() from returning until putNic(). */
function getNic(nic: Rnic): void {
	touch('atomic', nic.mrs);
	nic.users++;
}

/** The other end of getNic(). */
function putNic(nic: Rnic): void {
	touch('atomic', nic.mrs);
	if (--nic.users === 0) complete_all(nic.unused);
}

/**
 * Bind the driver to a NIC.
 *
 * @param pdev - its PCI function
 * @retval -EIO the platform serves no mask that the NIC has; nothing is bound
 * @retval -ENOMEM no memory; nothing is bound
 */
export function* tryRnicProbe(pdev: pci_dev): Sim<Rnic | errno> {
	const err = dma_set_mask_and_coherent(pdev.dev, DMA_BIT_MASK(64));
	if (err) return err;
	if (shouldFail('rnicProbe:nic')) return -ENOMEM;
	const nic = new Rnic(pdev);
	nic.silicon.faultHandler = nic;
	pdev.dev.driver_data = nic;
	return nic;
}

/**
 * Bind the driver to a NIC that can be bound: for the set-up of a test or tool.
 *
 * @param pdev - its PCI function
 * @throws HarnessError the probe failed
 */
export function* rnicProbe(pdev: pci_dev): Sim<Rnic> {
	const nic = yield* tryRnicProbe(pdev);
	if (IS_ERR(nic))
		throw new HarnessError('rnicProbe()', `${pci_name(pdev)} cannot be bound: ${nic}`);
	return nic;
}

/**
 * Unbind the driver: every region goes first, also those that others register or deregister.
 *
 * @param nic - the NIC
 * @context Process context; sleeps until what runs for the NIC has ended. May be called again.
 */
export function* rnicRemove(nic: Rnic): Sim<void> {
	touch('atomic', nic.mrs);
	const isFirst = !nic.removing;
	nic.removing = true;
	for (const mr of [...nic.mrs.values()]) yield* deregMr(mr);
	if (isFirst) putNic(nic);
	yield* wait_for_completion(nic.unused);
	nic.silicon.faultHandler = null;
	nic.pdev.dev.driver_data = null;
}

/** A region that page faults do not find yet. */
function* createMr(
	nic: Rnic,
	start: unsigned_long,
	length: size_t,
	access: int,
): Sim<RnicMr | errno> {
	const umem = yield* ib_umem_odp_get(nic.ibdev, start, length, access, rnicMnOps);
	if (IS_ERR(umem)) return umem;
	// The region's own memory, then the NIC's command that makes the key.
	if (shouldFail('regMr:mr') || shouldFail('regMr:key')) {
		yield* ib_umem_odp_release(umem);
		return -ENOMEM;
	}

	const key = nic.silicon.createKey(start, length, umem.page_shift);
	key.localWrite = (access & IB_ACCESS_LOCAL_WRITE) !== 0;
	key.remoteRead = (access & IB_ACCESS_REMOTE_READ) !== 0;
	key.remoteWrite = (access & IB_ACCESS_REMOTE_WRITE) !== 0;
	const mr = new RnicMr(nic, umem, key, start, length);
	// From here on invalidations find the region.
	yield* mutex_lock(umem.umem_mutex);
	umem.private = mr;
	yield* mutex_unlock(umem.umem_mutex);
	return mr;
}

/** Take a region apart that nobody finds any more; by the one that took it out of `mrs`. */
function* releaseMr(mr: RnicMr): Sim<void> {
	const { nic, umem } = mr;
	// Under the mutex: an invalidation must not program a key that is being revoked.
	yield* mutex_lock(umem.umem_mutex);
	umem.private = null;
	yield* nic.silicon.revokeKey(mr.key);
	yield* mutex_unlock(umem.umem_mutex);
	// Who found it before still walks its words.
	putMr(mr);
	yield* wait_for_completion(mr.unused);
	yield* ib_umem_odp_release(umem);
}

/** Let page faults find a new region, unless the NIC is being removed. */
function addMr(nic: Rnic, mr: RnicMr): int {
	touch('atomic', nic.mrs);
	if (nic.removing) return -ENODEV;
	nic.mrs.set(mr.key.key, mr);
	return 0;
}

/**
 * Register user memory of the current process, on demand. Nothing is faulted.
 *
 * @param nic - the NIC
 * @param start - first byte
 * @param length - bytes
 * @param access - IB_ACCESS_*, with IB_ACCESS_ON_DEMAND
 * @retval -EINVAL not on demand, or empty
 * @retval -ENODEV the NIC is being removed
 * @retval -ENOMEM no memory
 * @retval -EOVERFLOW the range wraps
 * @retval -EOPNOTSUPP the NIC needs cache syncs or bounce buffers
 */
export function* regMr(
	nic: Rnic,
	start: unsigned_long,
	length: size_t,
	access: int,
): Sim<RnicMr | errno> {
	if (nic.removing) return -ENODEV;
	getNic(nic);
	let mr = yield* createMr(nic, start, length, access);
	if (!IS_ERR(mr)) {
		const err = addMr(nic, mr);
		if (err) {
			yield* releaseMr(mr);
			mr = err;
		}
	}
	putNic(nic);
	return mr;
}

/**
 * Take a region away from the NIC.
 *
 * @param mr - the region
 * @retval 0 done
 * @retval -ENOENT somebody else has taken it away, or is about to
 */
export function* deregMr(mr: RnicMr): Sim<int> {
	const { nic } = mr;
	touch('atomic', nic.mrs);
	if (nic.mrs.get(mr.key.key) !== mr) return -ENOENT;
	nic.mrs.delete(mr.key.key);
	// In the same step: rnicRemove() finds the region, or waits for this.
	getNic(nic);
	yield* releaseMr(mr);
	putNic(nic);
	return 0;
}

/**
 * Prefetch, by one scatter entry.
 *
 * @param nic - the NIC
 * @param advice - IB_UVERBS_ADVISE_MR_ADVICE_*
 * @param lkey - key
 * @param address - first byte
 * @param length - bytes
 * @returns as adviseMr()
 */
export function* rnicAdviseMr(
	nic: Rnic,
	advice: int,
	lkey: int,
	address: u64,
	length: u64,
): Sim<int> {
	const mr = getMr(nic, lkey);
	const ret = yield* adviseMr(mr, advice, address, length);
	if (mr !== null) putMr(mr);
	return ret;
}

/**
 * A peer's RDMA READ arrives: the NIC reads memory under an rkey.
 *
 * @param nic - the NIC that responds
 * @param rkey - key
 * @param address - first byte
 * @param length - bytes
 */
export function* rdmaReadResponder(nic: Rnic, rkey: int, address: u64, length: int): Sim<Transfer> {
	return yield* nic.silicon.read(rkey, address, length, true);
}

/**
 * A peer's RDMA WRITE arrives: the NIC writes memory under an rkey.
 *
 * @param nic - the NIC that responds
 * @param rkey - key
 * @param address - first byte
 * @param data - bytes on the wire
 */
export function* rdmaWriteResponder(
	nic: Rnic,
	rkey: int,
	address: u64,
	data: Uint8Array,
): Sim<ib_wc_status> {
	return yield* nic.silicon.write(rkey, address, data, true);
}

/** A work request between two NICs. */
export interface WorkRequest {
	readonly opcode: 'RDMA_READ' | 'RDMA_WRITE';
	readonly lkey: int;
	readonly laddr: u64;
	readonly rkey: int;
	readonly raddr: u64;
	readonly length: int;
}

/**
 * Carry a work request out: bytes go from one NIC's memory over the wire into the other's.
 *
 * @param nic - the NIC that asks
 * @param peer - the NIC at the other end of the wire
 * @param wr - the request
 * @throws HarnessError a length that is not positive
 */
export function* postSend(nic: Rnic, peer: Rnic, wr: WorkRequest): Sim<ib_wc_status> {
	if (wr.length <= 0) throw new HarnessError('postSend()', 'length must be positive');
	if (wr.opcode === 'RDMA_READ') {
		const { status, data } = yield* rdmaReadResponder(
			peer,
			wr.rkey,
			wr.raddr,
			wr.length,
		);
		if (status !== IB_WC_SUCCESS) return status;
		return yield* nic.silicon.write(wr.lkey, wr.laddr, data, false);
	}
	const { status, data } = yield* nic.silicon.read(wr.lkey, wr.laddr, wr.length, false);
	if (status !== IB_WC_SUCCESS) return status;
	return yield* rdmaWriteResponder(peer, wr.rkey, wr.raddr, data);
}

/** Access flags of a region that peers may read and write on demand. */
export const RNIC_ACCESS_ALL =
	IB_ACCESS_ON_DEMAND |
	IB_ACCESS_LOCAL_WRITE |
	IB_ACCESS_REMOTE_READ |
	IB_ACCESS_REMOTE_WRITE;
