// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: each rule of the house finds what it is for and leaves alone what is allowed; the tree keeps
 * all of them. Method: small programs in memory, in each of which a comment says on which lines a
 * finding is expected.
 */
import { fileURLToPath } from 'node:url';
import { Project, ts } from 'ts-morph';
import { parseNameIndex } from '../../../tools/lint/kernel/name_index.ts';
import type { Rule } from '../../../tools/lint/rule.ts';
import { deterministic } from '../../../tools/lint/rules/deterministic.ts';
import { flavour } from '../../../tools/lint/rules/flavour.ts';
import { rules } from '../../../tools/lint/rules/index.ts';
import { kernelFile } from '../../../tools/lint/rules/kernel_file.ts';
import { noModuleState } from '../../../tools/lint/rules/no_module_state.ts';
import { register } from '../../../tools/lint/rules/register.ts';
import { spdx } from '../../../tools/lint/rules/spdx.ts';
import { yieldStar } from '../../../tools/lint/rules/yield_star.ts';
import { openProject, tidy, tidyReport } from '../../../tools/lint/tidy.ts';
import { EXPECT_EQ, EXPECT_STREQ, EXPECT_TRUE, TEST } from '../../kselftest_harness.ts';

/** What every sample may use. */
const prelude = `
interface SchedulePoint { readonly access: string; readonly object: object }
type Sim<T> = Generator<SchedulePoint, T, void>;
type Flavour<T, Tag extends string> = T & { readonly __flavour?: Tag };
type dma_addr_t = Flavour<bigint, 'dma_addr'>;
type phys_addr_t = Flavour<bigint, 'phys_addr'>;
declare function mutex_lock(lock: object): Sim<void>;
declare function msleep(ms: number): Sim<number>;
declare function run<T>(body: () => Sim<T>): T;
declare function spawn(body: Sim<number>): void;
`;

/** Expect findings exactly on the lines that end in `// error`. */
function expectFindings(rule: Rule, path: string, source: string): void {
	const project = new Project({
		useInMemoryFileSystem: true,
		compilerOptions: { target: ts.ScriptTarget.ES2022, strict: true },
	});
	project.createSourceFile('/prelude.d.ts', prelude);
	project.createSourceFile(`/${path}`, source);
	const { findings } = tidy(project, '/', [rule]);
	const expected = source
		.split('\n')
		.flatMap((line, i) => (line.endsWith('// error') ? [i + 1] : []));
	const seen = [...new Set(findings.map(({ line }) => line))].sort((a, b) => a - b);
	EXPECT_STREQ(expected.join(' '), seen.join(' '));
	EXPECT_TRUE(findings.every((one) => one.path === path && one.text !== ''));
}

TEST('yield_star_is_missed_wherever_the_generator_is_dropped', () => {
	expectFindings(
		yieldStar,
		'mm/hmm.ts',
		`
export function* f(lock: object, ops: { open?(): Sim<number> }): Sim<number> {
	mutex_lock(lock); // error
	yield* mutex_lock(lock);
	const ret = msleep(1); // error
	const declared: Sim<number> = msleep(1);
	if (lock) ops.open?.(); // error
	console.assert(msleep(2)); // error
	spawn(msleep(3));
	run(() => msleep(4));
	void (lock ? msleep(5) : null); // error
	for (const n of [1].values()) console.log(n, ret, declared);
	for (const point of msleep(9)) console.log(point, [...msleep(10)], msleep(11).next());
	return yield* (lock ? msleep(6) : msleep(7));
}
export function g(): Sim<number> {
	return msleep(8);
}
export function* returned(lock: object): Sim<unknown> {
	if (lock) return () => msleep(12);
	return msleep(13); // error
}
`,
	);
});

TEST('kernel_names_say_where_they_are_from', () => {
	const source = `
/** Exists. @kernel mm/hmm.c */
export function hmm_range_fault(): void {}
/** Comes with a patch. @proposed Documentation/proposals/x.md */
export class dma_op {}
/** Nobody knows. */
export function hmm_other(): void {} // error
export class vm_thing {} // error
export function oursIsFree(): void {}
export const HMM_PFN_VALID = 1n;
function static_helper(): void {}
/** @kernel mm/hmm.c */
export function over_loaded(a: number): void;
export function over_loaded(a: string): void;
export function over_loaded(a: unknown): void { static_helper(); }
`;
	expectFindings(register, 'mm/hmm.ts', source);
	expectFindings(register, 'include/sim/world.ts', source.replaceAll('// error', ''));
});

/** What is where, for the sample below. */
const index = parseNameIndex(`name	v6.12	v7.3
hmm_range_fault	mm/hmm.c
hmm_vma_fault	mm/hmm.c	-
handle_userfault	fs/userfaultfd.c	include/linux/userfaultfd_k.h mm/userfaultfd.c
page_vma_mapped_walk	include/linux/rmap.h
nowhere	-
mm/hmm.c	mm/hmm.c
fs/userfaultfd.c	fs/userfaultfd.c	-
`);

TEST('a_kernel_name_is_in_the_file_that_its_comment_tells', () => {
	const source = `
/**
 * A file. @kernel mm/hmm.c
 * @kernel fs/userfaultfd.c // error
 * @kernel mm/absent.c // error
 */

/** Right. @kernel mm/hmm.c */
export function hmm_range_fault(): void {}
/** Of old. @kernel mm/hmm.c (gone in 7.x) */
export function hmm_vma_fault(): void {}
/**
 * Moved.
 * @kernel mm/userfaultfd.c
 * @kernel include/linux/userfaultfd_k.h
 * @kernel fs/userfaultfd.c (v6.12)
 * @kernel fs/userfaultfd.c // error
 * @kernel mm/hmm.c (v6.12) // error
 * @kernel mm/userfaultfd.c (gone in 7.x) // error
 * @kernel // error
 */
export function handle_userfault(): void {}
/**
 * Spelled otherwise there.
 * @kernel include/linux/rmap.h (as page_vma_mapped_walk)
 * @kernel mm/rmap.c (as page_vma_mapped_walk) // error
 * @kernel include/linux/rmap.h // error
 */
export class folio_vma_mapped_walk {
	/** @kernel mm/hmm.c */
	hmm_vma_fault = 0;
}
/**
 * Not there.
 * @kernel mm/hmm.c // error
 */
export const nowhere = 1;
`;
	expectFindings(kernelFile(index), 'mm/hmm.ts', source);
	expectFindings(kernelFile(index), 'tools/x.ts', source.replaceAll('// error', ''));
});

TEST('a_wrong_kernel_file_is_told_with_the_right_one', () => {
	const project = new Project({ useInMemoryFileSystem: true });
	const sample = [
		['handle_userfault', 'fs/userfaultfd.c'],
		['hmm_vma_fault', 'mm/hmm.c'],
		['nowhere', 'mm/hmm.c'],
		['unheard_of', 'mm/hmm.c'],
	].map(([name, file]) => `/** @kernel ${file} */\nexport function ${name}(): void {}\n`);
	project.createSourceFile('/mm/x.ts', `import './y.ts';\n${sample.join('')}`);
	const { findings } = tidy(project, '/', [kernelFile(index)]);
	const told = findings.map(({ text }) => text);
	EXPECT_STREQ(
		'handle_userfault is not in fs/userfaultfd.c, but in include/linux/userfaultfd_k.h (v7.3), ' +
			'mm/userfaultfd.c (v7.3), fs/userfaultfd.c (v6.12)',
		told[0] ?? null,
	);
	EXPECT_STREQ(
		'hmm_vma_fault is gone in v7.3: "@kernel mm/hmm.c (gone in …)"',
		told[1] ?? null,
	);
	EXPECT_STREQ('nowhere is in neither of v6.12, v7.3', told[2] ?? null);
	EXPECT_TRUE(told[3]?.includes('kproto lint --kernel DIR') ?? false);
	EXPECT_EQ(4, told.length);
});

TEST('the_model_knows_no_event_loop_clock_or_chance', () => {
	const source = `
export async function f(): // error
	Promise<void> { // error
	await null; // error
	setTimeout(() => {}, Math.random()); // error
	const now = Date.now(); // error
	const own = { Date: 1, random: 2 };
	console.log(now, own.Date, own.random);
}
`;
	expectFindings(deterministic, 'kernel/sched/core.ts', source);
	expectFindings(deterministic, 'tools/demo/main.ts', source.replaceAll('// error', ''));
});

TEST('two_kinds_of_address_are_not_added', () => {
	expectFindings(
		flavour,
		'kernel/dma/direct.ts',
		`
export function f(dma: dma_addr_t, phys: phys_addr_t, len: bigint): bigint {
	const both = dma + phys; // error
	let sum = dma - phys; // error
	dma += phys; // error
	sum = dma + len + 4096n - (phys as bigint);
	return both + sum + (dma - dma) + ((dma as bigint) - phys);
}
`,
	);
});

TEST('modules_keep_no_state', () => {
	const source = `
export let count = 0; // error
var old = 1; // error
const cache = new Map<string, number>(); // error
const list: number[] = []; // error
const names: ReadonlyMap<string, number> = new Map([['a', 1]]);
const none: readonly number[] = [];
const pattern = new RegExp('x');
const sizes = [1, 2, 4];
export class page {
	static made = 0; // error
	static readonly size = 64;
	#index = 0; // error
	flags = this.#index;
}
export const all = { old, cache, list, names, none, pattern, sizes };
`;
	expectFindings(noModuleState, 'mm/page_alloc.ts', source);
	expectFindings(noModuleState, 'include/sim/world.ts', source.replaceAll('// error', ''));
});

TEST('a_file_begins_with_its_licence', () => {
	expectFindings(spdx, 'mm/a.ts', '// SPDX-License-Identifier: GPL-2.0-or-later\n');
	expectFindings(
		spdx,
		'tools/b.ts',
		'#!/usr/bin/env node\n// SPDX-License-Identifier: GPL-2.0\n',
	);
	expectFindings(spdx, 'mm/c.ts', 'export const MIT = 1; // error\n');
});

TEST('findings_are_told_as_checkpatch_does', () => {
	const findings = [{ path: 'mm/hmm.ts', line: 7, rule: 'spdx', text: 'what is wrong' }];
	const report = tidyReport({ findings, files: 2, lines: 90 });
	EXPECT_STREQ('mm/hmm.ts:7: ERROR: what is wrong [spdx]', report[0] ?? null);
	EXPECT_STREQ('total: 1 errors, 0 warnings, 90 lines checked in 2 files', report[1] ?? null);
});

TEST(
	'the_tree_is_tidy',
	() => {
		const root = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');
		const tidiness = tidy(openProject(root), root, rules);
		for (const finding of tidyReport(tidiness).slice(0, -1)) EXPECT_STREQ('', finding);
		EXPECT_EQ(0, tidiness.findings.length);
	},
	{ speed: 'slow' },
);
