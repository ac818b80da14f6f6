// SPDX-License-Identifier: GPL-2.0-only
/**
 * The two-step DMA API: one IOVA range, linked and unlinked piece by piece.
 *
 * Guarantee: a linked piece translates once dma_iova_sync() was called on it, and until
 * dma_iova_unlink() returned; errors and WARNs are those of the kernel, in its order of checks.
 * Mechanism: nothing of the range but its IOVA is remembered; link does not even know where it
 * ends. For an untrusted device the unaligned head and tail are bounced:
 *
 * ```
 *   buffer          |--|================|---|        -- shares a page with others: bounced
 *   IOVA       |pad |--|================|---| pad |  == whole pages: mapped directly
 *              ^ granule                 granule ^
 * ```
 * Duty: every link is undone before the range is freed, with the direction and attributes that it
 * was made with.
 */
import { WARN_ON, WARN_ON_ONCE } from '../../../include/linux/bug.ts';
import type { device } from '../../../include/linux/device.ts';
import type { dma_data_direction } from '../../../include/linux/dma-direction.ts';
import { dev_is_dma_coherent } from '../../../include/linux/dma-map-ops.ts';
import {
	DMA_ATTR_MMIO,
	DMA_ATTR_REQUIRE_COHERENT,
	DMA_ATTR_SKIP_CPU_SYNC,
	DMA_IOVA_USE_SWIOTLB,
	DMA_MAPPING_ERROR,
	dma_get_mask,
	dma_iova_size,
	type dma_iova_state,
} from '../../../include/linux/dma-mapping.ts';
import { EIO, ENOMEM, EOPNOTSUPP, EPERM } from '../../../include/linux/errno.ts';
import { type iommu_domain, iommu_iotlb_gather } from '../../../include/linux/iommu.ts';
import { use_dma_iommu } from '../../../include/linux/iommu-dma.ts';
import { iova_align, iova_offset, iova_unaligned } from '../../../include/linux/iova.ts';
import {
	type bool,
	type dma_addr_t,
	GFP_ATOMIC,
	type int,
	type phys_addr_t,
	type size_t,
	type unsigned_long,
} from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import { feature } from '../../../include/sim/world.ts';
import {
	trackIovaAlloc,
	trackIovaFree,
	trackIovaLink,
	trackIovaUnlink,
} from '../../../kernel/dma/debug/iova.ts';
import { swiotlb_tbl_unmap_single } from '../../../kernel/dma/swiotlb.ts';
import {
	iommu_get_dma_domain,
	iommu_iotlb_sync,
	iommu_iova_to_phys,
	iommu_map_nosync,
	iommu_sync_map,
	iommu_unmap_fast,
} from '../iommu.ts';
import { cookieOf, iommu_dma_alloc_iova, iommu_dma_free_iova } from './cookie.ts';
import { dev_use_swiotlb, dma_info_to_prot, iommu_dma_map_swiotlb } from './map.ts';

function iovadOf(dev: device) {
	return cookieOf(iommu_get_dma_domain(dev)).iovad;
}

/** First byte of the range's first granule. */
function startOf(dev: device, state: dma_iova_state): bigint {
	return (state.addr as bigint) - iova_offset(iovadOf(dev), state.addr);
}

/**
 * Try to get an IOVA range for a device.
 *
 * @param dev - the device
 * @param state - out: zeroed, then the range
 * @param phys - first byte to be linked; only its offset in the granule matters
 * @param size - bytes
 * @returns whether there is one: false means that the caller maps with dma_map_phys()
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_try_alloc(
	dev: device,
	state: dma_iova_state,
	phys: phys_addr_t,
	size: size_t,
): bool {
	if (!feature('dma_iova_calls'))
		throw new HarnessError(
			'dma_iova_try_alloc()',
			'this kernel has no two-step DMA API',
		);
	state.addr = 0n;
	state.__size = 0n;
	if (!use_dma_iommu(dev)) return false;

	const domain = iommu_get_dma_domain(dev);
	const { iovad } = cookieOf(domain);
	const iova_off = iova_offset(iovad, phys as bigint);

	if (WARN_ON_ONCE(size === 0n, '!size')) return false;
	// The bit is ours, and a caller that passes SIZE_MAX is not meant to get anything.
	if (WARN_ON_ONCE((size & DMA_IOVA_USE_SWIOTLB) !== 0n, 'size has DMA_IOVA_USE_SWIOTLB'))
		return false;
	if (shouldFail('dma_iova_try_alloc')) return false;

	const length = iova_align(iovad, size + iova_off);
	const addr = iommu_dma_alloc_iova(domain, length, dma_get_mask(dev), dev) as bigint;
	if (addr === 0n) return false;

	state.addr = addr + iova_off;
	state.__size = size;
	trackIovaAlloc(dev, addr, size);
	return true;
}

/**
 * Free the range; every link must be undone.
 *
 * @param dev - the device
 * @param state - the range; not zeroed
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_free(dev: device, state: dma_iova_state): void {
	const domain = iommu_get_dma_domain(dev);
	const { iovad } = cookieOf(domain);
	const iova_start_pad = iova_offset(iovad, state.addr);
	const size = iova_align(iovad, dma_iova_size(state) + iova_start_pad);
	trackIovaFree(dev, startOf(dev, state));
	iommu_dma_free_iova(domain, (state.addr as bigint) - iova_start_pad, size, null);
}

/** Map whole granules, without IOTLB sync. */
function __dma_iova_link(
	dev: device,
	addr: dma_addr_t,
	phys: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	const prot = dma_info_to_prot(dir, dev_is_dma_coherent(dev), attrs);
	const domain = iommu_get_dma_domain(dev);
	return iommu_map_nosync(domain, addr as bigint, phys, size, prot, GFP_ATOMIC);
}

/** __dma_iova_link(), entered in the harness's book. */
function linkTracked(
	dev: device,
	state: dma_iova_state,
	addr: dma_addr_t,
	phys: phys_addr_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	const ret = __dma_iova_link(dev, addr, phys, size, dir, attrs);
	if (ret === 0) trackIovaLink(dev, startOf(dev, state), addr, size, dir, attrs);
	return ret;
}

function iommu_dma_iova_bounce_and_link(
	dev: device,
	state: dma_iova_state,
	addr: dma_addr_t,
	phys: phys_addr_t,
	bounce_len: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
	iova_start_pad: size_t,
): int {
	const bounce_phys = iommu_dma_map_swiotlb(dev, phys, bounce_len, dir, attrs);
	if (bounce_phys === DMA_MAPPING_ERROR) return -ENOMEM;

	const first = (addr as bigint) - iova_start_pad;
	const from = (bounce_phys as bigint) - iova_start_pad;
	const length = iova_align(iovadOf(dev), bounce_len + iova_start_pad);
	const error = linkTracked(dev, state, first, from, length, dir, attrs);
	if (error) swiotlb_tbl_unmap_single(dev, bounce_phys, bounce_len, dir, attrs);
	return error;
}

function iommu_dma_iova_link_swiotlb(
	dev: device,
	state: dma_iova_state,
	phys: phys_addr_t,
	offset: size_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	const iovad = iovadOf(dev);
	const start = phys as bigint;
	const iova_start_pad = iova_offset(iovad, start);
	const iova_end_pad = iova_offset(iovad, start + size);
	const addr = (state.addr as bigint) + offset;
	let left = size;
	let mapped = 0n;
	let error: int;

	if (iova_start_pad > 0n) {
		const room = iovad.granule - iova_start_pad;
		const len = left < room ? left : room;
		error = iommu_dma_iova_bounce_and_link(
			dev,
			state,
			addr,
			start,
			len,
			dir,
			attrs,
			iova_start_pad,
		);
		if (error) return error;
		state.__size |= DMA_IOVA_USE_SWIOTLB;
		mapped += len;
		left -= len;
		if (left === 0n) return 0;
	}

	out_unmap: {
		left -= iova_end_pad;
		if (left > 0n) {
			error = linkTracked(
				dev,
				state,
				addr + mapped,
				start + mapped,
				left,
				dir,
				attrs,
			);
			if (error) break out_unmap;
			mapped += left;
		}
		if (iova_end_pad > 0n) {
			error = iommu_dma_iova_bounce_and_link(
				dev,
				state,
				addr + mapped,
				start + mapped,
				iova_end_pad,
				dir,
				attrs,
				0n,
			);
			if (error) break out_unmap;
			state.__size |= DMA_IOVA_USE_SWIOTLB;
		}
		return 0;
	}
	if (mapped > 0n) dma_iova_unlink(dev, state, offset, mapped, dir, attrs);
	return error;
}

/**
 * Map a physical range at an offset of the IOVA range, without flushing the IOTLB.
 *
 * @param dev - the device
 * @param state - the range
 * @param phys - first byte
 * @param offset - where in the range
 * @param size - bytes
 * @param dir - direction
 * @param attrs - DMA_ATTR_*
 * @retval 0 linked; the device may use it after dma_iova_sync()
 * @retval -EIO `phys` is unaligned and `offset` is not 0
 * @retval -EOPNOTSUPP REQUIRE_COHERENT on a non-coherent device, or after something was bounced
 * @retval -EPERM it would have to be bounced, and MMIO or REQUIRE_COHERENT forbids that
 * @retval -ENOMEM no bounce slot, or no page table
 * @retval -ENXIO the IOVA would not be aligned to the granule
 * @retval -EINVAL size 0, or no direction
 * @retval -EADDRINUSE some page of it is linked already
 * @retval -ERANGE beyond the IOMMU's aperture
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_link(
	dev: device,
	state: dma_iova_state,
	phys: phys_addr_t,
	offset: size_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): int {
	if (!use_dma_iommu(dev)) return -EOPNOTSUPP;
	const iovad = iovadOf(dev);
	const iova_start_pad = iova_offset(iovad, phys as bigint);

	if (WARN_ON_ONCE(iova_start_pad > 0n && offset > 0n, 'iova_start_pad && offset > 0'))
		return -EIO;
	const bounced = (state.__size & DMA_IOVA_USE_SWIOTLB) !== 0n;
	const coherentOnly = (attrs & DMA_ATTR_REQUIRE_COHERENT) !== 0n;
	if (WARN_ON_ONCE(bounced && coherentOnly, 'REQUIRE_COHERENT after a bounce'))
		return -EOPNOTSUPP;
	if (coherentOnly && !dev_is_dma_coherent(dev)) return -EOPNOTSUPP;

	if (dev_use_swiotlb(dev, size, dir) && iova_unaligned(iovad, phys as bigint, size)) {
		if (attrs & (DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT)) return -EPERM;
		return iommu_dma_iova_link_swiotlb(dev, state, phys, offset, size, dir, attrs);
	}
	const addr = (state.addr as bigint) + offset - iova_start_pad;
	const length = iova_align(iovad, size + iova_start_pad);
	return linkTracked(dev, state, addr, (phys as bigint) - iova_start_pad, length, dir, attrs);
}

/**
 * Make links visible to the device.
 *
 * @param dev - the device
 * @param state - the range
 * @param offset - first byte
 * @param size - bytes
 * @retval 0 the device may use them; not checked whether anything is linked
 * @retval -ENOMEM only when made to fail at site `dma_iova_sync`
 * @retval -EOPNOTSUPP the device does not use dma-iommu
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_sync(
	dev: device,
	state: dma_iova_state,
	offset: size_t,
	size: size_t,
): int {
	if (!use_dma_iommu(dev)) return -EOPNOTSUPP;
	const iovad = iovadOf(dev);
	const addr = (state.addr as bigint) + offset;
	const iova_start_pad = iova_offset(iovad, addr);
	if (shouldFail('dma_iova_sync')) return -ENOMEM;
	return iommu_sync_map(
		iommu_get_dma_domain(dev),
		addr - iova_start_pad,
		iova_align(iovad, size + iova_start_pad),
	);
}

/**
 * Undo links; the range stays allocated.
 *
 * @param dev - the device
 * @param state - the range
 * @param offset - first byte
 * @param size - bytes
 * @param dir - as linked
 * @param attrs - as linked
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_unlink(
	dev: device,
	state: dma_iova_state,
	offset: size_t,
	size: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	if (!use_dma_iommu(dev)) return;
	const domain = iommu_get_dma_domain(dev);
	const { iovad } = cookieOf(domain);
	const addr = (state.addr as bigint) + offset;
	const iova_start_pad = iova_offset(iovad, addr);

	slow: if (
		state.__size & DMA_IOVA_USE_SWIOTLB ||
		(!dev_is_dma_coherent(dev) && !(attrs & (DMA_ATTR_SKIP_CPU_SYNC | DMA_ATTR_MMIO)))
	) {
		// Granule by granule: each may have a bounce slot of its own.
		const end = addr + size;
		let at = addr;
		let pad = iova_start_pad;
		do {
			const phys = iommu_iova_to_phys(domain, at);
			if (WARN_ON(phys === 0n, '!phys')) break slow;
			const rest = iovad.granule - pad;
			const len = end - at < rest ? end - at : rest;
			swiotlb_tbl_unmap_single(dev, phys, len, dir, attrs);
			at += len;
			pad = 0n;
		} while (at < end);
	}

	const first = addr - iova_start_pad;
	const length = iova_align(iovad, size + iova_start_pad);
	const gather = new iommu_iotlb_gather();
	const unmapped = iommu_unmap_fast(domain, first, length, gather);
	trackIovaUnlink(dev, startOf(dev, state), first, unmapped, dir, attrs);
	WARN_ON(unmapped !== length, 'unmapped != size');
	iommu_iotlb_sync(domain, gather);
	// The kernels never forget that something was bounced once.
	if (feature('fix_s24') && !anyLinked(domain, state)) state.__size &= ~DMA_IOVA_USE_SWIOTLB;
}

/** Whether anything of a range is linked. */
function anyLinked(domain: iommu_domain, state: dma_iova_state): boolean {
	const { granule } = cookieOf(domain).iovad;
	const end = (state.addr as bigint) + dma_iova_size(state);
	for (let at = (state.addr as bigint) & ~(granule - 1n); at < end; at += granule)
		if (iommu_iova_to_phys(domain, at) !== 0n) return true;
	return false;
}

/**
 * Undo all links and free the range.
 *
 * @param dev - the device
 * @param state - the range
 * @param mapped_len - bytes from the start that are linked, exactly
 * @param dir - as linked
 * @param attrs - as linked
 * @context Atomic.
 * @kernel drivers/iommu/dma-iommu.c
 * @since v6.16
 */
export function dma_iova_destroy(
	dev: device,
	state: dma_iova_state,
	mapped_len: size_t,
	dir: dma_data_direction,
	attrs: unsigned_long,
): void {
	// Only what the caller says is linked is looked at: the rest would stay in the page table.
	if (mapped_len > 0n) dma_iova_unlink(dev, state, 0n, mapped_len, dir, attrs);
	dma_iova_free(dev, state);
}
