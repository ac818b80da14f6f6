// SPDX-License-Identifier: GPL-2.0-only
/**
 * A mirror: what an open device file knows of the process that opened it.
 *
 * Guarantee: an entry of the mirror names the page that the process has at that address, until a
 * notifier takes it away; entries hold no references.
 * Mechanism: entries are stored and taken away under the mirror's mutex, and stored only if no
 * invalidation came between the fault and the mutex.
 *
 * ```
 *   read, write:  entries ── missing ──> dmirror_fault ── hmm_range_fault ──> entries ──> again
 *   notifier:     all but migrations of its own device drop the entries of the range
 * ```
 *
 * @kernel lib/test_hmm.c
 */
import { WARN_ON } from '../../include/linux/bug.ts';
import { EBUSY, EFAULT, EINVAL, ENOENT } from '../../include/linux/errno.ts';
import {
	HMM_PFN_ERROR,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	HMM_RANGE_DEFAULT_TIMEOUT,
	hmm_pfn_to_page,
	hmm_range,
} from '../../include/linux/hmm.ts';
import { jiffies, msecs_to_jiffies, time_after } from '../../include/linux/jiffies.ts';
import type { mm_struct, page } from '../../include/linux/mm_types.ts';
import {
	MMU_NOTIFY_MIGRATE,
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
	type mmu_notifier_range,
} from '../../include/linux/mmu_notifier.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import { GFP_ATOMIC, type int, PAGE_SIZE, type unsigned_long } from '../../include/linux/types.ts';
import {
	xa_erase,
	xa_err,
	xa_for_each_range,
	xa_is_err,
	xa_load,
	xa_store,
	xarray,
} from '../../include/linux/xarray.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { feature } from '../../include/sim/world.ts';
import { mutex_lock, mutex_trylock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { mmget_not_zero, mmput } from '../../mm/exec_mm.ts';
import { hmm_range_fault, hmm_range_fault_unlocked_timeout } from '../../mm/hmm.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	mmu_interval_read_begin,
	mmu_interval_read_retry,
	mmu_interval_set_seq,
	mmu_notifier_range_blockable,
} from '../../mm/mmu_notifier.ts';
import { pageFrame, readFrame, touchFrame } from '../../mm/page_alloc.ts';
import type { hmm_dmirror_cmd } from '../test_hmm_uapi.ts';
import { BACKING_PAGE, type dmirror_device } from './device.ts';

export const DPT_XA_TAG_ATOMIC = 1;
export const DPT_XA_TAG_WRITE = 3;

/** Entry of a mirror: a tagged pointer. */
export interface dpt_entry {
	readonly page: page;
	readonly tag: int;
}

/**
 * What belongs to an open device file.
 *
 * @kernel lib/test_hmm.c
 */
export class dmirror {
	readonly mdevice: dmirror_device;
	/** Entries by page number. */
	readonly pt = new xarray<dpt_entry>();
	readonly notifier = new mmu_interval_notifier();
	readonly mutex = new mutex('dmirror->mutex');
	flags: unsigned_long = 0n;

	/** @param mdevice - the device that was opened */
	constructor(mdevice: dmirror_device) {
		this.mdevice = mdevice;
		this.notifier.container = this;
	}

	get mm(): mm_struct {
		return this.notifier.mm as mm_struct;
	}
}

const BYTES_A_PAGE = Number(PAGE_SIZE);

/** How many buffers are kept. */
const SPARE_BUFFERS = 4;

/**
 * Memory that was given back: the allocator's, no state of any world. What is in it is left over, as
 * after vmalloc(): what is copied out was copied in before.
 */
const spare: Readonly<{ buffers: ArrayBufferLike[] }> = { buffers: [] };

/**
 * Data on its way between a program and the device.
 *
 * @kernel lib/test_hmm.c
 */
export class dmirror_bounce {
	readonly ptr: Uint8Array;
	readonly addr: unsigned_long;
	cpages = 0;

	/**
	 * @param addr - first address
	 * @param npages - pages
	 */
	constructor(addr: unsigned_long, npages: unsigned_long) {
		this.addr = addr;
		const bytes = Number(npages) * Number(PAGE_SIZE);
		const last = spare.buffers.pop();
		const isWide = last !== undefined && last.byteLength >= bytes;
		this.ptr = new Uint8Array(isWide ? last : new ArrayBuffer(bytes), 0, bytes);
	}

	/** vfree() of the buffer, as dmirror_bounce_fini() does; nobody looks at it any more. */
	fini(): void {
		if (spare.buffers.length < SPARE_BUFFERS) spare.buffers.push(this.ptr.buffer);
	}

	/** Bytes of the page at an address. */
	at(addr: unsigned_long): Uint8Array {
		const from = Number(addr - this.addr);
		return this.ptr.subarray(from, from + Number(PAGE_SIZE));
	}
}

/** Pages that one fault or snapshot takes. */
export function pagesAtOnce(): bigint {
	return feature('test_hmm_large') ? 32n : 64n;
}

/**
 * Store an entry; the mirror's mutex is held.
 *
 * @param self - the mirror
 * @param pfn - page number of the address
 * @param p - the page
 * @param tag - DPT_XA_TAG_*; 0: read only
 * @returns 0 or an errno
 */
export function storeEntry(self: dmirror, pfn: unsigned_long, p: page, tag: int): int {
	const old = xa_store(self.pt, pfn, { page: p, tag }, GFP_ATOMIC);
	return xa_is_err(old) ? xa_err(old) : 0;
}

/** The page whose bytes the driver copies: it forgets that a private page has none of its own. */
function reachable(p: page): page {
	return feature('fix_s28') ? BACKING_PAGE(p) : p;
}

/** Store what a fault found; the mirror's mutex is held. */
function dmirror_do_fault(self: dmirror, range: hmm_range): int {
	for (let i = 0, at = range.start; at < range.end; i++, at += PAGE_SIZE) {
		const word = range.hmm_pfns[i]!;
		WARN_ON((word & HMM_PFN_ERROR) !== 0n, 'error word after a fault');
		WARN_ON(!(word & HMM_PFN_VALID), 'no page after a fault');
		const write = (word & HMM_PFN_WRITE) !== 0n;
		if (
			!write &&
			WARN_ON(
				(range.default_flags & HMM_PFN_WRITE) !== 0n,
				'not writable after a write fault',
			)
		)
			return -EFAULT;
		const ret = storeEntry(
			self,
			at >> 12n,
			reachable(hmm_pfn_to_page(word)),
			write ? DPT_XA_TAG_WRITE : 0,
		);
		if (ret) return ret;
	}
	return 0;
}

/** Take the entries of a range away; the mirror's mutex is held. */
function dmirror_do_update(self: dmirror, start: unsigned_long, end: unsigned_long): void {
	// The end is inclusive here: the driver drops the page behind the range as well.
	for (const [pfn] of xa_for_each_range(self.pt, start >> 12n, end >> 12n))
		xa_erase(self.pt, pfn);
}

/** Take the mirror's mutex in a notifier; false: it may not wait and would have to. */
export function* lockInNotifier(self: dmirror, range: mmu_notifier_range): Sim<boolean> {
	if (!mmu_notifier_range_blockable(range)) return mutex_trylock(self.mutex) !== 0;
	yield* mutex_lock(self.mutex);
	return true;
}

/** Ops of the notifier that keeps a mirror true. */
export const dmirror_min_ops: mmu_interval_notifier_ops = {
	*invalidate(sub, range, cur_seq) {
		const self = sub.container as dmirror;
		// Migration updates the mirror by itself.
		if (range.event === MMU_NOTIFY_MIGRATE && range.owner === self.mdevice) return true;
		if (!(yield* lockInNotifier(self, range))) return false;
		mmu_interval_set_seq(sub, cur_seq);
		dmirror_do_update(self, range.start, range.end);
		yield* mutex_unlock(self.mutex);
		return true;
	},
};

/** hmm_range_fault() until nothing comes between; the mutex is held when it returns 0. */
export function* faultAndLock(self: dmirror, range: hmm_range): Sim<int> {
	const { mm } = self;
	const timeout = jiffies() + msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	for (;;) {
		if (time_after(jiffies(), timeout)) return -EBUSY;
		range.notifier_seq = yield* mmu_interval_read_begin(range.notifier);
		yield* mmap_read_lock(mm);
		const ret = yield* hmm_range_fault(range);
		yield* mmap_read_unlock(mm);
		if (ret === -EBUSY) continue;
		if (ret) return ret;
		yield* mutex_lock(self.mutex);
		if (!mmu_interval_read_retry(range.notifier, range.notifier_seq)) return 0;
		yield* mutex_unlock(self.mutex);
	}
}

/** The same by the call that takes the mmap lock itself. */
function* faultUnlockedAndLock(self: dmirror, range: hmm_range): Sim<int> {
	for (;;) {
		const ret = yield* hmm_range_fault_unlocked_timeout(range, 0n);
		if (ret) return ret;
		yield* mutex_lock(self.mutex);
		if (!mmu_interval_read_retry(range.notifier, range.notifier_seq)) return 0;
		yield* mutex_unlock(self.mutex);
	}
}

/**
 * Bring the pages of a range into the mirror.
 *
 * @param self - the mirror
 * @param start - first address
 * @param end - exclusive
 * @param write - they shall be writable
 * @param unlocked - by hmm_range_fault_unlocked_timeout()
 * @returns 0 or an errno
 */
function* dmirror_fault(
	self: dmirror,
	start: unsigned_long,
	end: unsigned_long,
	write: boolean,
	unlocked: boolean,
): Sim<int> {
	const { mm } = self;
	if (!mmget_not_zero(mm)) return feature('test_hmm_large') ? -EFAULT : 0;
	const atOnce = pagesAtOnce() * PAGE_SIZE;
	const range = new hmm_range({
		notifier: self.notifier,
		hmm_pfns: new BigUint64Array(Number(pagesAtOnce())),
		default_flags: HMM_PFN_REQ_FAULT | (write ? HMM_PFN_REQ_WRITE : 0n),
		dev_private_owner: self.mdevice,
	});
	let ret = 0;
	for (let at = start; at < end && ret === 0; at = range.end) {
		range.start = at;
		range.end = at + atOnce < end ? at + atOnce : end;
		ret = yield* (unlocked ? faultUnlockedAndLock : faultAndLock)(self, range);
		if (ret) break;
		ret = dmirror_do_fault(self, range);
		yield* mutex_unlock(self.mutex);
	}
	yield* mmput(mm);
	return ret;
}

/**
 * Copy pages of the mirror; the mutex is held.
 *
 * @param self - the mirror
 * @param start - first address
 * @param end - exclusive
 * @param bounce - where to; counts the pages
 * @retval -ENOENT the next page is not in the mirror
 * @kernel lib/test_hmm.c
 */
export function dmirror_do_read(
	self: dmirror,
	start: unsigned_long,
	end: unsigned_long,
	bounce: dmirror_bounce,
): int {
	let offset = Number(start - bounce.addr);
	for (let at = start; at < end; at += PAGE_SIZE, offset += BYTES_A_PAGE) {
		const entry = xa_load(self.pt, at >> 12n);
		if (entry === null) return -ENOENT;
		readFrame(entry.page, bounce.ptr, offset);
		bounce.cpages++;
	}
	return 0;
}

function dmirror_do_write(
	self: dmirror,
	start: unsigned_long,
	end: unsigned_long,
	bounce: dmirror_bounce,
): int {
	for (let at = start; at < end; at += PAGE_SIZE) {
		const entry = xa_load(self.pt, at >> 12n);
		if (entry === null || entry.tag !== DPT_XA_TAG_WRITE) return -ENOENT;
		const { sec, idx } = entry.page;
		touchFrame('memory-write', sec.base + idx);
		pageFrame(entry.page).u8.set(bounce.at(at));
		bounce.cpages++;
	}
	return 0;
}

/**
 * Copy all pages of a range, faulting them in where they are missing.
 *
 * @param self - the mirror
 * @param cmd - range; out: pages and faults
 * @param bounce - the data
 * @param how - the direction, and which call faults
 * @returns 0 or an errno
 */
function* transfer(
	self: dmirror,
	cmd: hmm_dmirror_cmd,
	bounce: dmirror_bounce,
	how: { readonly write: boolean; readonly unlocked: boolean },
): Sim<int> {
	const end = cmd.addr + cmd.npages * PAGE_SIZE;
	const copy = how.write ? dmirror_do_write : dmirror_do_read;
	for (let start = cmd.addr; ; ) {
		yield* mutex_lock(self.mutex);
		const ret = copy(self, start, end, bounce);
		yield* mutex_unlock(self.mutex);
		cmd.cpages = BigInt(bounce.cpages);
		if (ret !== -ENOENT) return ret;
		start = cmd.addr + BigInt(bounce.cpages) * PAGE_SIZE;
		const fault = yield* dmirror_fault(self, start, end, how.write, how.unlocked);
		if (fault) return fault;
		cmd.faults++;
	}
}

/**
 * The device reads the process's memory into the program's buffer.
 *
 * @param self - the mirror
 * @param cmd - range and buffer
 * @param unlocked - by hmm_range_fault_unlocked_timeout()
 * @returns 0 or an errno
 * @kernel lib/test_hmm.c
 */
export function* dmirror_read(self: dmirror, cmd: hmm_dmirror_cmd, unlocked: boolean): Sim<int> {
	const bounce = new dmirror_bounce(cmd.addr, cmd.npages);
	let ret = yield* transfer(self, cmd, bounce, { write: false, unlocked });
	if (ret === 0) ret = copyToUser(cmd, bounce.ptr);
	bounce.fini();
	return ret;
}

/**
 * The device writes the program's buffer to the process's memory.
 *
 * @param self - the mirror
 * @param cmd - range and buffer
 * @returns 0 or an errno
 * @kernel lib/test_hmm.c
 */
export function* dmirror_write(self: dmirror, cmd: hmm_dmirror_cmd): Sim<int> {
	const bounce = new dmirror_bounce(cmd.addr, cmd.npages);
	if (cmd.ptr.length < bounce.ptr.length) return -EFAULT;
	bounce.ptr.set(cmd.ptr.subarray(0, bounce.ptr.length));
	const ret = yield* transfer(self, cmd, bounce, { write: true, unlocked: false });
	bounce.fini();
	return ret;
}

/**
 * copy_to_user() of a command's data.
 *
 * @param cmd - the command
 * @param data - what the program gets
 * @param offset - from where in its buffer
 * @returns 0, or -EFAULT when its buffer is too small
 */
export function copyToUser(cmd: hmm_dmirror_cmd, data: Uint8Array, offset = 0): int {
	if (cmd.ptr.length < offset + data.length) return -EFAULT;
	cmd.ptr.set(data, offset);
	return 0;
}

/**
 * Read the mirror without faulting, for the program to compare.
 *
 * @param self - the mirror
 * @param cmd - range and buffer; out: pages
 * @retval -ENOENT a page is not in the mirror
 */
export function* readBack(self: dmirror, cmd: hmm_dmirror_cmd): Sim<int> {
	const bounce = new dmirror_bounce(cmd.addr, cmd.npages);
	yield* mutex_lock(self.mutex);
	let ret = dmirror_do_read(self, cmd.addr, cmd.addr + cmd.npages * PAGE_SIZE, bounce);
	yield* mutex_unlock(self.mutex);
	cmd.cpages = BigInt(bounce.cpages);
	if (ret === 0) ret = copyToUser(cmd, bounce.ptr);
	bounce.fini();
	return ret;
}

/** Whether a command's range wraps around. */
export function rangeWraps({ addr, npages }: hmm_dmirror_cmd): boolean {
	return BigInt.asUintN(64, addr + npages * PAGE_SIZE) < addr;
}

export const badRange = -EINVAL;
