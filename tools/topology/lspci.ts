// SPDX-License-Identifier: GPL-2.0-only
/** A machine from what lspci prints: text (-vvv), bytes (-xxxx), or both. */
import type { MachineDescription } from '../../arch/sim/description.ts';
import { type AssembleOptions, assemble } from './assemble.ts';
import { readLspci } from './lspci-text.ts';

export type { AssembleOptions as LspciOptions } from './assemble.ts';
export { parseCpu } from './platform.ts';

/**
 * Read a machine from the output of `lspci -vvv`, with or without -nn and -D, of `lspci -xxxx`, or both.
 *
 * @param text - the output
 * @param file - its name, for messages
 * @param options - what lspci does not tell
 * @throws TopologyError naming line and expectation
 */
export function parseLspciTopology(
	text: string,
	file: string,
	options: AssembleOptions = {},
): MachineDescription {
	return assemble(readLspci({ text, file }), file, options);
}
