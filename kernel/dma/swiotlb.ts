// SPDX-License-Identifier: GPL-2.0-only
/**
 * The bounce buffer: memory that every device reaches, for buffers that some device does not.
 *
 * Guarantee: the bytes are really there, in RAM of the simulated machine: a device that writes to a
 * bounced mapping changes the buffer only when it is unmapped or synced, in the direction that this
 * call names. Slots that a wrong unmap loses stay lost, and are counted.
 * Mechanism: slots of 2 KiB in sets of 128, searched round-robin for the first run of free ones with
 * the right alignment; `list` counts the free slots to the end of the set (include/linux/swiotlb.h
 * has the picture). There is one area: which CPU maps does not matter here.
 * Duty: boot keeps the pool's range out of the page allocator, and calls swiotlbInit().
 */
import { WARN_ON } from '../../include/linux/bug.ts';
import { dev_driver_string, dev_name, dev_warn, type device } from '../../include/linux/device.ts';
import { dma_capable, phys_to_dma_unencrypted } from '../../include/linux/dma-direct.ts';
import {
	DMA_BIDIRECTIONAL,
	DMA_FROM_DEVICE,
	DMA_TO_DEVICE,
	type dma_data_direction,
} from '../../include/linux/dma-direction.ts';
import { dma_reset_need_sync } from '../../include/linux/dma-map-ops.ts';
import {
	DMA_ATTR_NO_WARN,
	DMA_ATTR_SKIP_CPU_SYNC,
	DMA_MAPPING_ERROR,
	dma_get_min_align_mask,
	dma_get_seg_boundary,
} from '../../include/linux/dma-mapping.ts';
import {
	IO_TLB_SEGSIZE,
	IO_TLB_SHIFT,
	IO_TLB_SIZE,
	io_tlb_mem,
	type io_tlb_pool,
	ioTlbSlots,
} from '../../include/linux/swiotlb.ts';
import {
	type bool,
	type dma_addr_t,
	type int,
	PAGE_SIZE,
	type phys_addr_t,
	type size_t,
	type unsigned_long,
} from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { touch } from '../../include/sim/schedule.ts';
import { perWorld } from '../../include/sim/world.ts';
import { copyPhys } from './linear_map.ts';
import { firstTime } from './once.ts';

const SLOT_BYTES = Number(IO_TLB_SIZE);

/** The bounce buffer of the installed world. */
export const ioTlbDefaultMem = perWorld(() => new io_tlb_mem());

/** Slots that `size` bytes take. */
function nr_slots(size: size_t): number {
	return Number((size + IO_TLB_SIZE - 1n) >> IO_TLB_SHIFT);
}

/**
 * Set up the bounce buffer.
 *
 * @param start - first byte of its memory, page aligned, RAM that nobody else uses
 * @param nslabs - slots, a multiple of 128; 0: none
 * @param force - swiotlb=force: bounce everything that dma-direct maps
 */
export function swiotlbInit(start: phys_addr_t, nslabs: number, force: boolean): void {
	const mem = ioTlbDefaultMem();
	mem.nslabs = nslabs;
	mem.force_bounce = force && nslabs > 0;
	mem.defpool.start = start;
	mem.defpool.end = (start as bigint) + BigInt(nslabs) * IO_TLB_SIZE;
	mem.defpool.nslabs = nslabs;
	mem.defpool.slots = null;
}

/**
 * Whether a device's buffers can be bounced.
 *
 * @param dev - the device
 * @kernel kernel/dma/swiotlb.c
 */
export function is_swiotlb_active(dev: device): bool {
	void dev;
	return ioTlbDefaultMem().nslabs > 0;
}

/**
 * Whether everything that dma-direct maps is bounced.
 *
 * @param dev - the device
 * @kernel include/linux/swiotlb.h
 */
export function is_swiotlb_force_bounce(dev: device): bool {
	void dev;
	return ioTlbDefaultMem().force_bounce;
}

/**
 * The pool that an address lies in.
 *
 * @param dev - the device
 * @param paddr - physical address
 * @returns null: no bounce memory
 * @kernel include/linux/swiotlb.h
 */
export function swiotlb_find_pool(dev: device, paddr: phys_addr_t): io_tlb_pool | null {
	void dev;
	const { defpool } = ioTlbDefaultMem();
	return paddr >= defpool.start && paddr < defpool.end ? defpool : null;
}

/**
 * Longest buffer that can be bounced.
 *
 * @param dev - the device: its min_align_mask costs slots
 * @kernel kernel/dma/swiotlb.c
 */
export function swiotlb_max_mapping_size(dev: device): size_t {
	const mask = BigInt(dma_get_min_align_mask(dev));
	const min_align = ((mask + IO_TLB_SIZE - 1n) / IO_TLB_SIZE) * IO_TLB_SIZE;
	return IO_TLB_SIZE * BigInt(IO_TLB_SEGSIZE) - min_align;
}

/** Offset that a bounce must keep: what the device asks for, below a slot or the alignment. */
function swiotlb_align_offset(dev: device, align_mask: bigint, addr: phys_addr_t): bigint {
	const keep = BigInt(dma_get_min_align_mask(dev));
	return (addr as bigint) & keep & (align_mask | (IO_TLB_SIZE - 1n));
}

function slotsOf(pool: io_tlb_pool): ioTlbSlots {
	return (pool.slots ??= new ioTlbSlots(pool.nslabs));
}

/** Copy between a buffer and its slots. */
function swiotlb_bounce(
	dev: device,
	tlb_addr: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	pool: io_tlb_pool,
): void {
	const slots = slotsOf(pool);
	const index = Number(((tlb_addr as bigint) - (pool.start as bigint)) >> IO_TLB_SHIFT);
	const slotOrig = slots.orig_addr[index]!;
	if (slotOrig < 0) return;

	// May be negative: the buffer's offset in its first slot is not the mapping's.
	const within = (tlb_addr as bigint) & (IO_TLB_SIZE - 1n);
	const tlb_offset = within - swiotlb_align_offset(dev, 0n, BigInt(slotOrig));
	const orig_addr = BigInt(slotOrig) + tlb_offset;
	const alloc_size = BigInt(slots.alloc_size[index]!) - tlb_offset;

	let length = size;
	if (size > alloc_size) {
		if (firstTime('swiotlb_bounce'))
			WARN_ON(
				true,
				`${dev_driver_string(dev)} ${dev_name(dev)}: Buffer overflow detected. ` +
					`Allocation size: ${alloc_size}. Mapping size: ${size}.`,
			);
		length = alloc_size;
	}
	if (dir === DMA_TO_DEVICE) copyPhys(tlb_addr, orig_addr, length);
	else copyPhys(orig_addr, tlb_addr, length);
}

/** Whether a run of slots would cross the device's segment boundary. */
function spansBoundary(index: number, nslots: number, shift: bigint, max_slots: bigint): boolean {
	if (max_slots === 0n) return false;
	const at = (shift + BigInt(index)) & (max_slots - 1n);
	return at + BigInt(nslots) > max_slots;
}

/**
 * Find free slots and take them.
 *
 * @param orig_addr - the buffer: its min_align_mask bits are kept
 * @param alloc_size - bytes, the offset included
 * @param align_mask - alignment of the allocation, as a mask
 * @returns index of the first slot, or -1
 */
function swiotlb_find_slots(
	dev: device,
	orig_addr: phys_addr_t,
	alloc_size: size_t,
	align_mask: bigint,
	pool: io_tlb_pool,
): int {
	const boundary_mask = dma_get_seg_boundary(dev);
	const base = (phys_to_dma_unencrypted(dev, pool.start) as bigint) & boundary_mask;
	const max_slots = (boundary_mask + 1n) >> IO_TLB_SHIFT;
	const offset = swiotlb_align_offset(dev, 0n, orig_addr);
	const nslots = nr_slots(alloc_size);
	if (nslots > IO_TLB_SEGSIZE || nslots > pool.nslabs) return -1;

	let alloc_align = align_mask;
	let iotlb_align = BigInt(dma_get_min_align_mask(dev));
	// Buffers of a page and more have always been page aligned when nobody asked for anything.
	if (alloc_align === 0n && iotlb_align === 0n && alloc_size >= PAGE_SIZE)
		alloc_align = PAGE_SIZE - 1n;
	alloc_align |= IO_TLB_SIZE - 1n;
	iotlb_align &= ~alloc_align;
	const stride = Number(alloc_align >> IO_TLB_SHIFT) + 1;

	const { list } = slotsOf(pool);
	const want = (orig_addr as bigint) & iotlb_align;
	let index = pool.index;
	for (let checked = 0; checked < pool.nslabs; ) {
		const addr = base + (BigInt(index) << IO_TLB_SHIFT);
		if ((addr & alloc_align) !== 0n || (addr & iotlb_align) !== want) {
			index = index + 1 < pool.nslabs ? index + 1 : 0;
			checked++;
			continue;
		}
		const fits = list[index]! >= nslots;
		if (fits && !spansBoundary(index, nslots, base >> IO_TLB_SHIFT, max_slots)) {
			takeSlots(pool, index, nslots, Number(alloc_size - offset));
			return index;
		}
		index = index + stride < pool.nslabs ? index + stride : 0;
		checked += stride;
	}
	return -1;
}

/** @param alloc_size - bytes behind the mapping's first one */
function takeSlots(pool: io_tlb_pool, first: number, nslots: number, alloc_size: number): void {
	const { list, alloc_size: sizes } = slotsOf(pool);
	for (let i = first; i < first + nslots; i++) {
		list[i] = 0;
		sizes[i] = alloc_size - (i - first) * SLOT_BYTES;
	}
	for (let i = first - 1, count = 0; i >= 0 && (i + 1) % IO_TLB_SEGSIZE !== 0 && list[i]; i--)
		list[i] = ++count;
	pool.index = first + nslots < pool.nslabs ? first + nslots : 0;
	pool.used += nslots;
}

/**
 * Take slots for a buffer and copy it in, whatever the direction.
 *
 * @param dev - the device; from now on its syncs are looked at
 * @param orig_addr - the buffer
 * @param mapping_size - bytes
 * @param alloc_align_mask - alignment of the slots, as a mask
 * @param dir - direction of the mapping
 * @param attrs - DMA_ATTR_*; NO_WARN: a full buffer is not logged
 * @returns the bounce address, or DMA_MAPPING_ERROR: no buffer, or no room in it
 * @context Atomic.
 * @kernel kernel/dma/swiotlb.c
 */
export function swiotlb_tbl_map_single(
	dev: device,
	orig_addr: phys_addr_t,
	mapping_size: size_t,
	alloc_align_mask: bigint,
	dir: dma_data_direction,
	attrs: unsigned_long,
): phys_addr_t {
	void dir;
	const mem = ioTlbDefaultMem();
	if (mem.nslabs === 0) {
		dev_warn(
			dev,
			"Can not allocate SWIOTLB buffer earlier and can't now provide you with the DMA bounce buffer",
		);
		return DMA_MAPPING_ERROR as bigint;
	}
	const pool = mem.defpool;
	touch('atomic', pool, 'slots');
	let offset = swiotlb_align_offset(dev, alloc_align_mask, orig_addr);
	const size = (mapping_size + offset + alloc_align_mask) & ~alloc_align_mask;
	const index = shouldFail('swiotlb_tbl_map_single')
		? -1
		: swiotlb_find_slots(dev, orig_addr, size, alloc_align_mask, pool);
	if (index < 0) {
		if (!(attrs & DMA_ATTR_NO_WARN))
			dev_warn(
				dev,
				`swiotlb buffer is full (sz: ${size} bytes), total ${mem.nslabs} (slots), used ${pool.used} (slots)`,
			);
		return DMA_MAPPING_ERROR as bigint;
	}

	dma_reset_need_sync(dev);

	const slots = slotsOf(pool);
	const pad_slots = Number(offset >> IO_TLB_SHIFT);
	offset &= IO_TLB_SIZE - 1n;
	const first = index + pad_slots;
	slots.pad_slots[first] = pad_slots;
	const orig = Number(orig_addr);
	for (let i = 0; i < nr_slots(size) - pad_slots; i++)
		slots.orig_addr[first + i] = orig + i * SLOT_BYTES;
	const tlb_addr = (pool.start as bigint) + (BigInt(first) << IO_TLB_SHIFT) + offset;
	// Also for FROM_DEVICE: what the device leaves unwritten must come back unchanged.
	swiotlb_bounce(dev, tlb_addr, mapping_size, DMA_TO_DEVICE, pool);
	return tlb_addr;
}

function swiotlb_release_slots(dev: device, tlb_addr: phys_addr_t, pool: io_tlb_pool): void {
	const slots = slotsOf(pool);
	const { list } = slots;
	const offset = swiotlb_align_offset(dev, 0n, tlb_addr);
	let index = Number(
		((tlb_addr as bigint) - offset - (pool.start as bigint)) >> IO_TLB_SHIFT,
	);
	index -= slots.pad_slots[index]!;
	const nslots = nr_slots(BigInt(slots.alloc_size[index]!) + offset);

	const end = Math.ceil((index + 1) / IO_TLB_SEGSIZE) * IO_TLB_SEGSIZE;
	let count = index + nslots < end ? list[index + nslots]! : 0;
	for (let i = index + nslots - 1; i >= index; i--) {
		list[i] = ++count;
		slots.orig_addr[i] = -1;
		slots.alloc_size[i] = 0;
		slots.pad_slots[i] = 0;
	}
	for (let i = index - 1; i >= 0 && (i + 1) % IO_TLB_SEGSIZE !== 0 && list[i]; i--)
		list[i] = ++count;
	pool.used -= nslots;
}

/**
 * Copy a bounced buffer back, where the direction asks for it, and give its slots back.
 *
 * @param dev - the device
 * @param addr - any physical address: one outside the pool is left alone
 * @param size - bytes
 * @param dir - direction
 * @param attrs - SKIP_CPU_SYNC: no copy
 * @context Atomic.
 * @kernel include/linux/swiotlb.h
 */
export function swiotlb_tbl_unmap_single(
	dev: device,
	addr: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	const pool = swiotlb_find_pool(dev, addr);
	if (pool === null) return;
	touch('atomic', pool, 'slots');
	if (
		!(attrs & DMA_ATTR_SKIP_CPU_SYNC) &&
		(dir === DMA_FROM_DEVICE || dir === DMA_BIDIRECTIONAL)
	)
		swiotlb_bounce(dev, addr, size, DMA_FROM_DEVICE, pool);
	swiotlb_release_slots(dev, addr, pool);
}

/**
 * Copy a bounced buffer to its slots, where the direction asks for it.
 *
 * @param dev - the device
 * @param addr - any physical address
 * @param size - bytes
 * @param dir - direction
 * @kernel include/linux/swiotlb.h
 */
export function swiotlb_sync_single_for_device(
	dev: device,
	addr: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	const pool = swiotlb_find_pool(dev, addr);
	if (pool === null) return;
	if (dir === DMA_TO_DEVICE || dir === DMA_BIDIRECTIONAL)
		swiotlb_bounce(dev, addr, size, DMA_TO_DEVICE, pool);
}

/**
 * Copy a bounced buffer back from its slots, where the direction asks for it.
 *
 * @param dev - the device
 * @param addr - any physical address
 * @param size - bytes
 * @param dir - direction
 * @kernel include/linux/swiotlb.h
 */
export function swiotlb_sync_single_for_cpu(
	dev: device,
	addr: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
): void {
	const pool = swiotlb_find_pool(dev, addr);
	if (pool === null) return;
	if (dir === DMA_FROM_DEVICE || dir === DMA_BIDIRECTIONAL)
		swiotlb_bounce(dev, addr, size, DMA_FROM_DEVICE, pool);
}

/**
 * Bounce a buffer for dma-direct.
 *
 * @param dev - the device
 * @param paddr - the buffer
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @returns the device's address of the slots, or DMA_MAPPING_ERROR: no room, or even the pool is
 *   beyond the device's mask (a WARN)
 * @context Atomic.
 * @kernel kernel/dma/swiotlb.c
 */
export function swiotlb_map(
	dev: device,
	paddr: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): dma_addr_t {
	const swiotlb_addr = swiotlb_tbl_map_single(dev, paddr, size, 0n, dir, attrs);
	if (swiotlb_addr === DMA_MAPPING_ERROR) return DMA_MAPPING_ERROR;
	const dma_addr = phys_to_dma_unencrypted(dev, swiotlb_addr);
	if (!dma_capable(dev, dma_addr, size, true, attrs)) {
		swiotlb_tbl_unmap_single(
			dev,
			swiotlb_addr,
			size,
			dir,
			attrs | DMA_ATTR_SKIP_CPU_SYNC,
		);
		if (firstTime('swiotlb_map'))
			WARN_ON(true, overflowText(dev, 'swiotlb addr', dma_addr, size));
		return DMA_MAPPING_ERROR;
	}
	return dma_addr;
}

/**
 * What the kernel says of an address that a device cannot put on its bus.
 *
 * @param dev - the device
 * @param what - `DMA addr`, `swiotlb addr`
 * @param addr - first address
 * @param size - bytes
 */
export function overflowText(dev: device, what: string, addr: dma_addr_t, size: size_t): string {
	const hex = addr.toString(16).padStart(16, '0');
	const mask = (dev.dma_mask ?? 0n).toString(16);
	return (
		`${dev_driver_string(dev)} ${dev_name(dev)}: ${what} 0x${hex}+${size} overflow ` +
		`(mask ${mask}, bus limit ${dev.bus_dma_limit.toString(16)}).`
	);
}
