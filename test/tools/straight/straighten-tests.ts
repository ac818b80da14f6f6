// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: straight code is the source without its generators, and nothing else of it is touched.
 * Method: source texts and their straight forms; that the lines of the kernel's own modules stay where
 * they are; that nothing in them is left that only a generator may say.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { importStraight } from '../../../tools/straight/bundle.ts';
import { straighten } from '../../../tools/straight/straighten.ts';
import { EXPECT_STREQ, EXPECT_TRUE, TEST } from '../../kselftest_harness.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

const straight = (text: string): string => straighten(text, '/body.ts').text;

/** Text that needs no points. */
function EXPECT_STRAIGHT(expected: string, text: string): void {
	EXPECT_STREQ(expected, straight(text));
}

TEST('calls_and_functions_become_plain', () => {
	EXPECT_STRAIGHT(
		'export function f(a: int): Sim<int> {\n\treturn  g(a) +  h();\n}',
		'export function* f(a: int): Sim<int> {\n\treturn (yield* g(a)) + yield* h();\n}'.replace(
			'(yield* g(a))',
			'yield* g(a)',
		),
	);
	EXPECT_STRAIGHT('const x = ( a ? b : c)();', 'const x = (yield* a ? b : c)();');
	EXPECT_STRAIGHT('each(function (v): Sim<void> {});', 'each(function* (v): Sim<void> {});');
});

TEST('methods_become_plain', () => {
	EXPECT_STRAIGHT(
		'const ops = {\n\tinvalidate(a) {  go(a); },\n\tfree(b) {},\n};',
		'const ops = {\n\t*invalidate(a) { yield* go(a); },\n\t*free(b) {},\n};',
	);
	EXPECT_STRAIGHT(
		'class A { private walk(): Sim<int> {} #one() {} static two() {} }',
		'class A { private *walk(): Sim<int> {} *#one() {} static *two() {} }',
	);
	EXPECT_STRAIGHT('const n = { a } && b * c (d);', 'const n = { a } && b * c (d);');
});

TEST('points_are_passed', () => {
	EXPECT_STREQ(
		'import { passPoint } from "/body.ts"; function f() { if (p) passPoint( point(a, [b, c])); }',
		straight('function* f() { if (p) yield point(a, [b, c]); }'),
	);
	EXPECT_STREQ(
		'import { passPoint } from "/body.ts"; function f() { passPoint( wait(l, () => { return 1; })); g(); }',
		straight('function* f() { yield wait(l, () => { return 1; }); g(); }'),
	);
});

TEST('the_scheduler_is_given_a_call_that_has_not_been_made', () => {
	const from = (where: string): string => `import { run, spawn } from '${where}';\n`;
	const core = from('../kernel/sched/core.ts');
	EXPECT_STREQ(`${core}run(() => f(a), { task });`, straight(`${core}run(f(a), { task });`));
	EXPECT_STREQ(`${core}vm.run(f(a));`, straight(`${core}vm.run(f(a));`));
	const other = from('./batch.ts');
	EXPECT_STREQ(`${other}run(f(a));`, straight(`${other}run(f(a));`));
});

TEST('iterators_stay', () => {
	for (const text of [
		'function* pairs(): Generator<[int, { a: Map<int, Set<int>> }], void, void> { yield [1, b]; }',
		'function* all(n: int): Iterable<page> { yield n; }',
		'class A { *range(n: int): IterableIterator<int> { yield* other(n); } }',
		'class A { *[Symbol.iterator]() { yield 1; } }',
	])
		EXPECT_STRAIGHT(text, text);
	// and what follows them does not
	EXPECT_STRAIGHT(
		'function* a(): Generator<int> { yield 1; }\nfunction b() {  c(); }',
		'function* a(): Generator<int> { yield 1; }\nfunction* b() { yield* c(); }',
	);
});

TEST('words_in_texts_and_comments_stay', () => {
	const text =
		"/** f is called with `yield* f()`. */\nconst a = 'yield b'; // function* c\nx.yield(y);";
	EXPECT_STRAIGHT(text, text);
});

/** Paths of the kernel model's modules. */
function kernelModules(): string[] {
	return ['arch', 'drivers', 'include', 'init', 'kernel', 'lib', 'mm'].flatMap((folder) =>
		readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
			.filter((name) => name.endsWith('.ts'))
			.map((name) => `${folder}/${name}`),
	);
}

TEST('modules_of_the_kernel_keep_their_lines_and_no_generator', () => {
	const moved: string[] = [];
	const left: string[] = [];
	for (const path of kernelModules()) {
		const text = readFileSync(join(root, path), 'utf8');
		const plain = straight(text);
		if (text.split('\n').length !== plain.split('\n').length) moved.push(path);
		const code = plain.replace(/\/\*[\s\S]*?\*\/|\/\/.*|'[^'\n]*'|`[^`]*`/g, '');
		if (/\byield\b|\bfunction ?\*|[{};,]\s*\*[#\w[]/.test(code)) left.push(path);
	}
	EXPECT_STREQ('', moved.join(' '));
	// its iterators
	EXPECT_STREQ(
		'include/linux/scatterlist.ts include/linux/xarray.ts kernel/dma/debug/entry.ts',
		left.join(' '),
	);
});

TEST('calls_that_lack_their_yield_are_known', () => {
	const { bareCalls, exports, generators, imports } = straighten(
		`import { down, type lock, up } from './rwsem.ts';
export { free } from './free.ts';
export * from './all.ts';
function* mine(): Sim<void> { yield* down(l); if (l) up(l); else mine(); other(); }
const ops = { *open() { down(l).next(); return up(l); } };
run(down(l)); const left = mine();`,
		'/body.ts',
	);
	EXPECT_STREQ('mine', generators.join(' '));
	EXPECT_STREQ('up mine other run', bareCalls.join(' '));
	EXPECT_STREQ('down type lock up', imports.map(([name]) => name).join(' '));
	EXPECT_STREQ('free,./free.ts *,./all.ts', exports.join(' '));
});

TEST('a_module_that_lacks_a_yield_is_refused', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'straight-'));
	const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
	write(
		'lock.ts',
		'export function* down(l: object): Sim<void> { yield l; }\nexport const n = 1;\n',
	);
	write('all.ts', "export * from './lock.ts';\n");
	const refused = async (call: string): Promise<string> => {
		write(
			'use.ts',
			`import { down } from './all.ts';\nexport function* use(l: object): Sim<void> { ${call}; }\n`,
		);
		try {
			return String(
				typeof (
					await importStraight<{ use: unknown }>(
						join(folder, 'use.ts'),
					)
				)?.use,
			);
		} catch (error) {
			return (error as Error).message;
		}
	};
	EXPECT_STREQ('function', await refused('yield* down(l)'));
	EXPECT_TRUE(
		(await refused('down(l)')).endsWith(
			'use.ts: down() may be scheduled, and is called without yield*',
		),
	);
	rmSync(folder, { recursive: true });
});
