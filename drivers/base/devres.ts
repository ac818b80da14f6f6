// SPDX-License-Identifier: GPL-2.0-only
/**
 * Device resources: what a driver took for as long as it is bound.
 *
 * Guarantee: devres_release_all() undoes them in the reverse order of taking, each once.
 * Duty: an action that was taken back with devm_remove_action() or devm_release_action() is not run
 * again.
 */
import { WARN_ON } from '../../include/linux/bug.ts';
import type { device, devres_action } from '../../include/linux/device.ts';
import { ENOMEM } from '../../include/linux/errno.ts';
import type { int } from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';

/** What undoes something; it may sleep. */
export type DevresAction<T> = (data: T) => Sim<void> | undefined;

/**
 * Have an action run when the driver is unbound.
 *
 * @param dev - the device
 * @param action - what to do
 * @param data - its argument
 * @retval 0 remembered
 * @retval -ENOMEM no memory to remember it; it was not run
 * @kernel include/linux/device/devres.h
 */
export function devm_add_action<T>(dev: device, action: DevresAction<T>, data: T): int {
	if (shouldFail('devm_add_action')) return -ENOMEM;
	const entry: devres_action = {
		action: action as DevresAction<unknown>,
		data,
		name: action.name,
	};
	dev.devres.push(entry);
	return 0;
}

/**
 * Have an action run when the driver is unbound, or at once if it cannot be remembered.
 *
 * @param dev - the device
 * @param action - what to do
 * @param data - its argument
 * @retval 0 remembered
 * @retval -ENOMEM no memory to remember it; it was run
 * @kernel include/linux/device/devres.h
 */
export function* devm_add_action_or_reset<T>(
	dev: device,
	action: DevresAction<T>,
	data: T,
): Sim<int> {
	const ret = devm_add_action(dev, action, data);
	if (ret) yield* runAction(action, data);
	return ret;
}

/**
 * Forget an action without running it.
 *
 * @param dev - the device
 * @param action - as it was added
 * @param data - as it was added; the newest entry that fits is taken
 * @kernel include/linux/device/devres.h
 */
export function devm_remove_action<T>(dev: device, action: DevresAction<T>, data: T): void {
	WARN_ON(take(dev, action, data) === null, 'devres action not found');
}

/**
 * Run an action now instead of when the driver is unbound.
 *
 * @param dev - the device
 * @param action - as it was added
 * @param data - as it was added; the newest entry that fits is taken
 * @kernel drivers/base/devres.c
 */
export function* devm_release_action<T>(dev: device, action: DevresAction<T>, data: T): Sim<void> {
	const entry = take(dev, action, data);
	if (!WARN_ON(entry === null, 'devres action not found')) yield* runAction(action, data);
}

/**
 * Release everything, newest first.
 *
 * @param dev - the device
 * @kernel drivers/base/devres.c
 */
export function* devres_release_all(dev: device): Sim<void> {
	for (let entry = dev.devres.pop(); entry !== undefined; entry = dev.devres.pop())
		yield* runAction(entry.action, entry.data);
}

function* runAction<T>(action: DevresAction<T>, data: T): Sim<void> {
	yield* action(data) ?? nothing();
}

function* nothing(): Sim<void> {}

function take<T>(dev: device, action: DevresAction<T>, data: T): devres_action | null {
	const { devres } = dev;
	for (let at = devres.length - 1; at >= 0; at--) {
		const entry = devres[at]!;
		if (entry.action === action && entry.data === data) return devres.splice(at, 1)[0]!;
	}
	return null;
}
