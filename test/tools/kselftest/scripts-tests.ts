// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: modules loaded as scripts mean what they mean as modules; a script is used as long as its
 * file is what it was made of, and no longer.
 * Method: modules in a folder, loaded by the loader of runs that watch.
 */
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isCurrent, keptScript, makeScript, NoScript } from '../../../tools/kselftest/script.js';
import { Scripts } from '../../../tools/kselftest/scripts.js';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../kselftest_harness.ts';

/** A folder of modules. */
class Folder {
	dir!: string;

	/** Write a module. */
	write(name: string, text: string): string {
		const path = join(this.dir, name);
		writeFileSync(path, text);
		return path;
	}

	/** The exports of a module, by a loader of its own. */
	async load(path: string): Promise<Record<string, unknown>> {
		const scripts = new Scripts();
		await scripts.load(path);
		return scripts.exports(path);
	}
}

const folder = FIXTURE('folder', () => new Folder());

FIXTURE_SETUP(folder, (self) => {
	self.dir = mkdtempSync(join(tmpdir(), 'scripts-'));
});

FIXTURE_TEARDOWN(folder, ({ dir }) => {
	rmSync(dir, { recursive: true });
});

/** The error of a promise, or null. */
async function errorOf(promise: Promise<unknown>): Promise<unknown> {
	return promise.then(
		() => null,
		(error: unknown) => error,
	);
}

TEST_F(folder, 'imports_and_exports_of_every_form', async (self) => {
	self.write('a.ts', 'export const one = 1; export default class Named {}');
	self.write('all.ts', `export * from './a.ts'; export * as a from './a.ts';`);
	const path = self.write(
		'user.ts',
		`import fs, { readFileSync } from 'node:fs';
		import tokens from 'js-tokens';
		import Named, { one } from './a.ts';
		import { a, one as again } from './all.ts';
		import * as all from './all.ts';
		import type { Missing } from './missing.ts';
		export const same = fs.readFileSync === readFileSync;
		export const kinds = [typeof tokens, Named.name, one, again, a.one, all.one].join();
		export const hasDefault = 'default' in all;
		export const isStrict = (function () { return this === undefined; })();`,
	);
	const { same, kinds, hasDefault, isStrict } = await self.load(path);
	EXPECT_EQ(true, same);
	EXPECT_STREQ('function,Named,1,1,1,1', String(kinds));
	EXPECT_EQ(false, hasDefault);
	EXPECT_EQ(true, isStrict);
});

TEST_F(folder, 'binding_that_is_assigned_to_is_seen_through_reexports', async (self) => {
	self.write('a.ts', 'export let count = 0; export function add() { count++; }');
	self.write('b.ts', `export * from './a.ts';`);
	self.write('c.ts', `export { add, count as of_c } from './b.ts';`);
	const path = self.write(
		'user.ts',
		`import { add, of_c } from './c.ts';
		const before = of_c;
		add();
		export const counts = [before, of_c].join();`,
	);
	EXPECT_STREQ('0,1', String((await self.load(path))['counts']));
});

TEST_F(folder, 'each_module_is_evaluated_once_behind_its_imports', async (self) => {
	self.write('log.ts', 'export const log: string[] = [];');
	for (const [name, imports] of [
		['a', ''],
		['b', `import './a.ts';`],
		['c', `import './a.ts'; import './b.ts';`],
	])
		self.write(
			`${name}.ts`,
			`import { log } from './log.ts'; ${imports} log.push('${name}');`,
		);
	const path = self.write(
		'user.ts',
		`import './c.ts'; import './b.ts'; import { log } from './log.ts';
		export const order = log.join();`,
	);
	EXPECT_STREQ('a,b,c', String((await self.load(path))['order']));
});

TEST_F(folder, 'dynamic_import_evaluates_when_it_is_reached', async (self) => {
	self.write('log.ts', 'export const log: string[] = [];');
	self.write(
		'late.ts',
		`import { log } from './log.ts'; log.push('late'); export const it = 1;`,
	);
	const path = self.write(
		'user.ts',
		`import { log } from './log.ts';
		log.push('user');
		export const late = async () => {
			const { it } = await import('./late.ts');
			const { join } = await import('node:path');
			return [...log, it, join('x', 'y')].join();
		};`,
	);
	const { late } = (await self.load(path)) as { late(): Promise<string> };
	EXPECT_STREQ('user,late,1,x/y', await late());
});

TEST_F(folder, 'import_meta_is_about_the_source', async (self) => {
	// written so that the loader of this suite does not take it for its own
	const meta = 'import.meta';
	const path = self.write(
		'user.ts',
		`export const url = ${meta}.url, name = ${meta}.filename, dir = ${meta}.dirname;`,
	);
	const { url, name, dir } = await self.load(path);
	EXPECT_STREQ(pathToFileURL(path).href, String(url));
	EXPECT_STREQ(path, String(name));
	EXPECT_STREQ(self.dir, String(dir));
});

TEST_F(folder, 'what_no_script_can_express_is_refused', async (self) => {
	self.write('a.ts', `import { b } from './b.ts'; export const a = () => b;`);
	self.write('b.ts', `import { a } from './a.ts'; export const b = () => a;`);
	const circle = self.write('circle.ts', `export { a } from './a.ts';`);
	EXPECT_TRUE((await errorOf(self.load(circle))) instanceof NoScript);
	const resolve = self.write('resolve.ts', `export const a = import.meta.resolve('./a.ts');`);
	EXPECT_TRUE((await errorOf(self.load(resolve))) instanceof NoScript);
	const awaits = self.write('awaits.ts', 'export const a = await Promise.resolve(1);');
	EXPECT_TRUE((await errorOf(self.load(awaits))) instanceof Error);
});

TEST_F(folder, 'edit_of_the_same_length_at_the_same_time_makes_another_script', async (self) => {
	const path = self.write('a.ts', 'export const a = () => 1;');
	const first = new Scripts();
	await first.load(path);
	EXPECT_EQ(1, (first.exports(path)['a'] as () => number)());
	first.keepByteCode();
	const made = await makeScript(path);
	EXPECT_TRUE(isCurrent(made));
	self.write('a.ts', 'export const a = () => 2;');
	utimesSync(path, 1, 1);
	EXPECT_FALSE(isCurrent(made));
	EXPECT_EQ(null, keptScript(path));
	// V8 would take the byte code: it compares lengths
	EXPECT_EQ(2, ((await self.load(path))['a'] as () => number)());
});

TEST_F(folder, 'byte_code_is_taken_up_by_the_next_load', async (self) => {
	const path = self.write('a.ts', 'export const a = () => 1;');
	const first = new Scripts();
	await first.load(path);
	EXPECT_TRUE(first.compiled(path).isNew);
	first.keepByteCode();
	const second = new Scripts();
	await second.load(path);
	EXPECT_FALSE(second.compiled(path).isNew);
});

TEST_F(folder, 'script_is_kept_while_its_file_is_the_same', async (self) => {
	const path = self.write('a.ts', 'export const a = 1;');
	const made = await makeScript(path);
	EXPECT_STREQ(made.code, keptScript(path)?.code ?? null);
	// touched, and not changed
	utimesSync(path, 1, 1);
	EXPECT_STREQ(made.code, keptScript(path)?.code ?? null);
	rmSync(path);
	EXPECT_EQ(null, keptScript(path));
});
