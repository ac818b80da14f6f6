// SPDX-License-Identifier: GPL-2.0-only
/** Who does a device's DMA: dma-direct, dma-iommu, or operations of its own. */
import type { device } from '../../../include/linux/device.ts';
import {
	dev_assign_dma_skip_sync,
	dev_is_dma_coherent,
	type dma_map_ops,
	get_dma_ops,
} from '../../../include/linux/dma-map-ops.ts';
import { use_dma_iommu } from '../../../include/linux/iommu-dma.ts';
import type { bool } from '../../../include/linux/types.ts';
import { HarnessError } from '../../../include/sim/report.ts';
import { feature } from '../../../include/sim/world.ts';
import { dmaApiDebug } from '../debug.ts';

/**
 * Whether the device's mappings are dma-direct's.
 *
 * @param dev - the device
 * @param ops - its own operations, or null
 * @kernel kernel/dma/mapping.c
 */
export function dma_map_direct(dev: device, ops: dma_map_ops | null): bool {
	return !use_dma_iommu(dev) && ops === null;
}

/**
 * Whether P2P segments may be in a list that is mapped for this device.
 *
 * @param dev - the device
 * @kernel kernel/dma/mapping.c
 */
export function dma_pci_p2pdma_supported(dev: device): bool {
	return get_dma_ops(dev) === null;
}

/**
 * Whether addresses must be kept for unmapping.
 *
 * @param dev - the device; ask after mapping: the first bounce changes the answer
 * @kernel kernel/dma/mapping.c
 * @since v6.16
 */
export function dma_need_unmap(dev: device): bool {
	if (!dma_map_direct(dev, get_dma_ops(dev))) return true;
	if (!dev.dma_skip_sync) return true;
	return dmaApiDebug();
}

/**
 * Decide anew whether syncs do nothing.
 *
 * @param dev - the device, whose mask was set
 * @kernel kernel/dma/mapping.c
 */
export function dma_setup_need_sync(dev: device): void {
	const ops = get_dma_ops(dev);
	if (dma_map_direct(dev, ops) || use_dma_iommu(dev))
		dev_assign_dma_skip_sync(dev, dev_is_dma_coherent(dev));
	else
		dev_assign_dma_skip_sync(
			dev,
			ops?.sync_single_for_device === undefined &&
				ops?.sync_single_for_cpu === undefined &&
				ops?.sync_sg_for_device === undefined &&
				ops?.sync_sg_for_cpu === undefined,
		);
}

/**
 * A call that this kernel does not have.
 *
 * @param call - its name
 */
export function needsMapPhys(call: string): void {
	if (!feature('dma_map_phys'))
		throw new HarnessError(
			`${call}()`,
			'this kernel maps pages: use dma_map_page_attrs()',
		);
}
