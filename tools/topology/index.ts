// SPDX-License-Identifier: GPL-2.0-only
/**
 * Read a topology, whatever it is of: a file of any kind that source.ts knows, a folder, an archive of one.
 *
 * Guarantee: what is returned builds; what does not is one TopologyError with file, line and expectation.
 */
import type { MachineDescription } from '../../arch/sim/description.ts';
import { readSource } from './source.ts';

export { TopologyError } from './error.ts';
export { formatTopology } from './json.ts';

/**
 * Read a topology where nothing has to be said of it but the machine.
 *
 * @param path - file, folder or archive
 * @throws TopologyError naming line and expectation; a file that cannot be read is one too
 */
export function readTopology(path: string): MachineDescription {
	return readSource([path]).description;
}
