// SPDX-License-Identifier: GPL-2.0-only
/**
 * Write the named machines as JSON files beside this one: `npx tsx tools/machines/generate.ts`.
 * A test holds the files equal to the definitions.
 */
import { writeFileSync } from 'node:fs';
import { formatTopology } from '../topology/json.ts';
import { buildNamedMachines } from './definitions.ts';

for (const machine of buildNamedMachines()) {
	const file = new URL(`${machine.name}.json`, import.meta.url);
	writeFileSync(file, formatTopology(machine));
	console.log(file.pathname);
}
