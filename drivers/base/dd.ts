// SPDX-License-Identifier: GPL-2.0-only
/**
 * Binding of drivers to devices.
 *
 * Guarantee: unbinding runs the driver's remove() first and then releases what it had taken,
 * newest first; a probe() that fails leaves nothing behind.
 */
import type { device, device_driver } from '../../include/linux/device.ts';
import { EBUSY } from '../../include/linux/errno.ts';
import type { int } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { devres_release_all } from './devres.ts';

/** What binding calls; a driver that has neither is bound by name only. */
export interface BoundDriver extends device_driver {
	/** @retval 0 bound; negative: it does not want the device */
	probe?(dev: device): Sim<int>;
	/** Let the device go. */
	remove?(dev: device): Sim<void>;
}

/**
 * Bind a driver that has no probe(): what the core does before it would call it.
 *
 * @param drv - the driver
 * @param dev - a device without one
 * @returns what configuring its DMA returned; other than 0: it is not bound
 */
export function attachWithoutProbe(drv: device_driver, dev: device): int {
	dev.driver = drv;
	const ret = dev.bus?.dma_configure?.(dev) ?? 0;
	if (ret) dev.driver = null;
	return ret;
}

/**
 * Bind a driver to a device.
 *
 * @param drv - the driver
 * @param dev - the device
 * @retval 0 bound
 * @retval -EBUSY another driver is bound
 * @returns else what configuring the device's DMA or probe() returned
 * @context May sleep.
 * @kernel drivers/base/dd.c
 */
export function* device_driver_attach(drv: BoundDriver, dev: device): Sim<int> {
	if (dev.driver !== null) return -EBUSY;
	const error = attachWithoutProbe(drv, dev);
	if (error) return error;
	const ret = drv.probe === undefined ? 0 : yield* drv.probe(dev);
	if (ret === 0) return 0;
	yield* devres_release_all(dev);
	dev.driver = null;
	dev.driver_data = null;
	return ret;
}

/**
 * Unbind a device's driver, if it has one.
 *
 * @param dev - the device
 * @context May sleep.
 * @kernel drivers/base/dd.c
 */
export function* device_release_driver(dev: device): Sim<void> {
	const drv = dev.driver as BoundDriver | null;
	if (drv === null) return;
	if (drv.remove !== undefined) yield* drv.remove(dev);
	yield* devres_release_all(dev);
	dev.driver = null;
	dev.driver_data = null;
}
