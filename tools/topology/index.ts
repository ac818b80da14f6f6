// SPDX-License-Identifier: GPL-2.0-only
/**
 * Read a topology file, whatever its format: our JSON or `lspci -vvv` text.
 *
 * Guarantee: what is returned builds; what does not is one TopologyError with file, line and expectation.
 */
import { basename } from 'node:path';
import type { MachineDescription } from '../../arch/sim/description.ts';
import { parseJsonTopology } from './json.ts';
import { type LspciOptions, parseLspciTopology } from './lspci.ts';
import { readTextFile } from './read-text.ts';

export { TopologyError } from './error.ts';
export { formatTopology, parseJsonTopology } from './json.ts';
export { type LspciOptions, parseCpu, parseLspciTopology } from './lspci.ts';

/**
 * Read a topology from text.
 *
 * @param text - JSON if it begins with a brace, else lspci output
 * @param file - its name, for messages and as the machine's name
 * @param options - what lspci does not tell
 * @throws TopologyError naming line and expectation
 */
export function parseTopology(
	text: string,
	file: string,
	options: LspciOptions = {},
): MachineDescription {
	if (text.trimStart().startsWith('{')) return parseJsonTopology(text, file);
	const name = options.name ?? basename(file).replace(/\.(txt|lspci|log)$/, '');
	return parseLspciTopology(text, file, { ...options, name });
}

/**
 * Read a topology file.
 *
 * @param path - the file
 * @param options - what lspci does not tell
 * @throws TopologyError naming line and expectation; a file that cannot be read is one too
 */
export function readTopology(path: string, options: LspciOptions = {}): MachineDescription {
	return parseTopology(readTextFile(path), path, options);
}
