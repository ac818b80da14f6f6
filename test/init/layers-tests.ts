// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the table of layers in Documentation/design.md is what is enforced. Method: its rows against
 * the rules of `npm run layers`, and both against the folders that there are.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ASSERT_GT, ASSERT_TRUE, EXPECT_STREQ, EXPECT_TRUE, TEST } from '../kselftest_harness.ts';

type Layer = [layer: string, may: string[], why: string, except?: string];

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Rows for what is not part of the model's layers. */
const ABOVE = ['init', 'tools', 'test'];

/** Folders named in a cell. */
function folders(cell: string): string[] {
	return [...cell.matchAll(/`([a-z0-9/]+)\/`/g)].map(([, name]) => name!);
}

/** What each folder of the table may import; `as X, and Y` is all that X may, X's own row and Y. */
function table(): Map<string, Set<string>> {
	const rows = new Map<string, Set<string>>();
	for (const line of readFileSync(`${root}Documentation/design.md`, 'utf8').split('\n')) {
		const cells = line.split('|').map((cell) => cell.trim());
		if (cells.length !== 5 || !/^`/.test(cells[1]!)) continue;
		const [, own, , may] = cells;
		const [, like] = /^as `([a-z0-9/]+)\/`/.exec(may!) ?? [];
		for (const folder of folders(own!))
			rows.set(
				folder,
				new Set([
					...(like === undefined ? [] : rows.get(like)!),
					...folders(may!),
					folder,
				]),
			);
	}
	return rows;
}

/** The parts of a set that no other folder of it has below it already. */
function outermost(may: Iterable<string>): string {
	const all = [...new Set(may)];
	return all
		.filter((name) => !all.some((other) => name.startsWith(`${other}/`)))
		.sort()
		.join(' ');
}

TEST('the_table_of_layers_is_what_npm_run_layers_checks', async () => {
	const config = `${root}.dependency-cruiser.mjs`;
	const { layers } = (await import(config)) as { layers: Layer[] };
	const rows = table();
	ASSERT_GT(layers.length, 8);
	for (const [layer, may] of layers) {
		ASSERT_TRUE(rows.has(layer));
		EXPECT_STREQ(outermost([...may, layer]), outermost(rows.get(layer)!));
	}
	const known = [...layers.map(([layer]) => layer), ...ABOVE].sort().join(' ');
	EXPECT_STREQ(known, [...rows.keys()].sort().join(' '));
	for (const folder of rows.keys()) EXPECT_TRUE(existsSync(`${root}${folder}`));
});
