// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: bugs of real kernels can be brought back, and random programs find them.
 * Method: each edit is made in today's source, where its text has to stand once; the command then looks for
 * some that programs find at once, in processes of its own, and for a fault that it cannot make.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { transformSync } from 'esbuild';
import { applyEdit } from '../../../tools/fuzz/mutants/hook.js';
import { hunt } from '../../../tools/fuzz/mutants/hunt.ts';
import type { Edit, Mutant } from '../../../tools/fuzz/mutants/mutant.ts';
import { parseMutantOptions } from '../../../tools/fuzz/mutants/options.ts';
import { isExpected, tableRow } from '../../../tools/fuzz/mutants/report.ts';
import { mutants } from '../../../tools/fuzz/mutants/table.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_GE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { programEnv } from '../../support/command.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** A fast mutant is found within so many programs, and shown by so few steps. */
const ENOUGH = 100;
const SMALL = 6;

function sourceOf(file: string): string {
	return readFileSync(`${root}${file}`, 'utf8');
}

/** What goes wrong when a mutant is made; '': nothing. */
function mistakeOf({ name, edits }: Mutant): string {
	const texts = new Map<string, string>();
	for (const edit of edits) {
		const before = texts.get(edit.file) ?? sourceOf(edit.file);
		try {
			texts.set(edit.file, applyEdit(before, edit));
		} catch (error) {
			return `${name}: ${(error as Error).message}`;
		}
	}
	for (const [file, text] of texts) {
		if (text === sourceOf(file)) return `${name}: ${file} stays as it is`;
		try {
			transformSync(text, { loader: 'ts' });
		} catch (error) {
			return `${name}: ${(error as Error).message}`;
		}
	}
	return '';
}

for (const mutant of mutants)
	TEST(`${mutant.name.replaceAll('-', '_')}_can_be_made`, () => {
		EXPECT_STREQ('', mistakeOf(mutant));
		EXPECT_TRUE(mutant.edits.length > 0);
	});

TEST('names_are_told_apart', () => {
	EXPECT_EQ(mutants.length, new Set(mutants.map(({ name }) => name)).size);
	EXPECT_STREQ('', mutants.filter(({ name }) => !/^[a-z]+(-[a-z]+)+$/.test(name)).join());
	// most of the table is there to be found
	EXPECT_GE(2 * mutants.filter(({ unseen }) => unseen === undefined).length, mutants.length);
});

TEST('a_text_that_is_not_there_just_once_is_no_edit', () => {
	const edit: Edit = { file: 'mm/x.ts', old: 'b', new: 'c' };
	const wrong = (source: string): string => {
		try {
			return applyEdit(source, edit);
		} catch (error) {
			return (error as Error).message;
		}
	};
	EXPECT_STREQ('aca', wrong('aba'));
	EXPECT_STREQ('mm/x.ts has this text 0 times: b', wrong('aa'));
	EXPECT_STREQ('mm/x.ts has this text 2 times: b', wrong('bb'));
});

for (const [name, invariant] of [
	['hmm-foreign-private', 'answers'],
	['pagemap-no-reference', 'counts'],
] as const)
	TEST(`${name.replaceAll('-', '_')}_is_found`, async () => {
		const mutant = mutants.find((one) => one.name === name)!;
		const outcome = await hunt(mutant, { runs: ENOUGH, seed: 1 });
		const { failure, programs } = outcome;
		ASSERT_NE(failure, 'a program shows it');
		EXPECT_STREQ(invariant, failure!.invariant);
		EXPECT_GE(SMALL, failure!.program.steps.length);
		EXPECT_GE(ENOUGH, programs);
		EXPECT_TRUE(isExpected(outcome));
		// one that is found although nothing can see it is told as well
		EXPECT_TRUE(!isExpected({ ...outcome, mutant: { ...mutant, unseen: 'why' } }));
		EXPECT_TRUE(tableRow(outcome).startsWith(`${name} `));
	});

function command(...args: string[]) {
	return spawnSync(
		process.execPath,
		['--import', 'tsx', 'tools/fuzz/mutants/main.ts', ...args],
		{ cwd: root, encoding: 'utf8', env: programEnv() },
	);
}

TEST('the_command_tells_what_was_not_found', () => {
	// too few programs for it
	const { status, stdout } = command('--runs', '1', 'hmm-pud-lock-held', 'exclusive-hugetlb');
	EXPECT_EQ(1, status);
	const lines = stdout.trimEnd().split('\n');
	EXPECT_TRUE(/^hmm-pud-lock-held .* unseen: no memory/.test(lines[1]!));
	EXPECT_TRUE(/^exclusive-hugetlb +1 +- +NOT FOUND$/.test(lines[2]!));
	EXPECT_STREQ('0 found, 1 not found', lines.at(-1)!);
});

TEST('a_process_that_cannot_make_an_edit_ends', () => {
	const edits: Edit[] = [{ file: 'mm/hmm.ts', old: 'no such text', new: '' }];
	const { status, stderr } = spawnSync(
		process.execPath,
		[
			...['--import', './tools/fuzz/mutants/register.js', '--import', 'tsx'],
			'tools/fuzz/programs/worker.ts',
		],
		{
			cwd: root,
			encoding: 'utf8',
			env: programEnv({ KPROTO_MUTANT: JSON.stringify(edits) }),
		},
	);
	EXPECT_EQ(1, status);
	EXPECT_TRUE(stderr.includes('mm/hmm.ts has this text 0 times: no such text'));
	// the command tells it so, and fails
	const broken = { mutant: mutants[0]!, broken: 'a worker ended with 1' };
	EXPECT_TRUE(!isExpected(broken));
	EXPECT_TRUE(tableRow(broken).endsWith('BROKEN: a worker ended with 1'));
});

TEST('the_command_line_is_held_to_what_there_is', () => {
	const mistake = (...args: string[]): string => {
		try {
			parseMutantOptions(args);
			return '';
		} catch (error) {
			return (error as Error).message;
		}
	};
	EXPECT_STREQ('there is no mutant "x"; --list tells them', mistake('x'));
	EXPECT_TRUE(mistake('--runs', '0').startsWith('--runs: a whole number from 1'));
	EXPECT_TRUE(mistake('--what').startsWith("Unknown option '--what'"));
	EXPECT_EQ(mutants.length, parseMutantOptions([]).mutants.length);
	EXPECT_EQ(1, parseMutantOptions(['idle-page-taken', '--seed', '3']).mutants.length);
});
