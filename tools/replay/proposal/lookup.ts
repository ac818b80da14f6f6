// SPDX-License-Identifier: GPL-2.0-only
/** Functions of a machine by label. */
import type { DeviceDescription, MachineDescription } from '../../../arch/sim/description.ts';

/**
 * A function by its label.
 *
 * @param machine - where
 * @param label - its label
 */
export function labelledFunction(machine: MachineDescription, label: string): DeviceDescription {
	const found = machine.devices.find((d) => d.label === label);
	if (found === undefined) throw new Error(`${machine.name} has no ${label}`);
	return found;
}
