// SPDX-License-Identifier: GPL-2.0-only
/** struct device, bus types, and the resources that a driver binding owns (devres). */
import type { Sim } from '../sim/schedule.ts';
import { printk } from './printk.ts';
import type { dma_addr_t, int, u64, unsigned_int, unsigned_long } from './types.ts';

/**
 * A bus.
 *
 * @kernel include/linux/device/bus.h
 */
export interface bus_type {
	readonly name: string;
	/** Set a device's DMA up, before a driver is bound to it and when an IOMMU is looked for. */
	dma_configure?(dev: device): int;
}

/**
 * A driver.
 *
 * @kernel include/linux/device/driver.h
 */
export interface device_driver {
	readonly name: string;
}

/** An entry of a device's dma_range_map: how CPU addresses and its bus addresses relate. */
export interface bus_dma_region {
	readonly cpu_start: bigint;
	readonly dma_start: dma_addr_t;
	readonly size: u64;
}

/**
 * Limits of a device's scatterlist segments.
 *
 * @kernel include/linux/device.h
 */
export class device_dma_parameters {
	max_segment_size: unsigned_int = 65536;
	min_align_mask: unsigned_int = 0;
	segment_boundary_mask: unsigned_long = 0xffffffffn;
}

/** What devm_add_action() remembers. */
export interface devres_action {
	/** What runs. */
	readonly action: (data: unknown) => Sim<void> | undefined;
	readonly data: unknown;
	readonly name: string;
}

/**
 * A device.
 *
 * @kernel include/linux/device.h
 */
export class device {
	init_name = '';
	parent: device | null = null;
	bus: bus_type | null = null;
	driver: device_driver | null = null;
	driver_data: unknown = null;
	/** Reachable addresses; null: DMA is not set up. */
	dma_mask: u64 | null = (1n << 64n) - 1n;
	coherent_dma_mask: u64 = (1n << 64n) - 1n;
	bus_dma_limit: u64 = 0n;
	dma_range_map: bus_dma_region[] | null = null;
	dma_parms: device_dma_parameters = new device_dma_parameters();
	/** DMA goes through dma-iommu. */
	dma_iommu = false;
	/** Device-specific DMA ops; null on every device of x86-64. */
	dma_ops: object | null = null;
	dma_coherent = true;
	/** No cache sync and no bounce slot was ever needed (CONFIG_DMA_NEED_SYNC). */
	dma_skip_sync = true;
	/** IOMMU domain it is attached to (drivers/iommu). */
	iommu_domain: object | null = null;
	numa_node: int = -1;
	/** The object that embeds this device (container_of()): its pci_dev, for example. */
	container: object | null = null;
	devres: devres_action[] = [];

	/** @param init - designated initialiser */
	constructor(init: Partial<device> = {}) {
		Object.assign(this, init);
	}
}

/**
 * Name of a device.
 *
 * @param dev - the device
 * @kernel include/linux/device.h
 */
export function dev_name(dev: device): string {
	return dev.init_name;
}

/**
 * Name of a device's driver, else of its bus.
 *
 * @param dev - the device
 * @kernel drivers/base/core.c
 */
export function dev_driver_string(dev: device): string {
	return dev.driver?.name ?? dev.bus?.name ?? '';
}

/**
 * Print a line about a device to the kernel log.
 *
 * @param dev - the device
 * @param message - one line
 * @kernel include/linux/dev_printk.h
 */
export function dev_info(dev: device, message: string): void {
	printk(`${dev_driver_string(dev)} ${dev_name(dev)}: ${message}`);
}

/**
 * Print a warning about a device to the kernel log.
 *
 * @param dev - the device
 * @param message - one line
 * @kernel include/linux/dev_printk.h
 */
export function dev_warn(dev: device, message: string): void {
	printk(`${dev_driver_string(dev)} ${dev_name(dev)}: ${message}`);
}

/**
 * Print an error about a device to the kernel log.
 *
 * @param dev - the device
 * @param message - one line
 * @kernel include/linux/dev_printk.h
 */
export function dev_err(dev: device, message: string): void {
	printk(`${dev_driver_string(dev)} ${dev_name(dev)}: ${message}`);
}
