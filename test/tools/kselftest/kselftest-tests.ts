// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the runner tells what happened, in the formats that kernel developers' tools read.
 * Method: it runs the sample suites in fixtures/, which do all that can go wrong on purpose, and its
 * output is compared with what is stored beside them.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseOptions, UsageError } from '../../../tools/kselftest/options.ts';
import { isSelected } from '../../harness/filter.ts';
import {
	ASSERT_EQ,
	ASSERT_STREQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { kproto, type Outcome } from '../../support/command.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const samples = join(root, 'test/tools/fixtures/outcomes');

function kselftest(args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd = root): Outcome {
	return kproto(['kselftest', '--dir', samples, ...args], { env, cwd });
}

TEST('every_outcome_is_told_as_ktap', () => {
	const { code, out } = kselftest([]);
	const expected = readFileSync(join(samples, 'expected.ktap'), 'utf8');
	// where in itself the harness found a mistake is not what it tells
	const seen = out.replace(/(kselftest_harness\.ts):\d+:\d+/, '$1:LINE').split('\n');
	const lines = expected.split('\n');
	for (const [i, line] of lines.entries()) ASSERT_STREQ(line, seen[i] ?? null);
	EXPECT_EQ(lines.length, seen.length);
	EXPECT_EQ(1, code);
});

TEST('plans_and_numbers_agree_at_every_level', () => {
	const lines = readFileSync(join(samples, 'expected.ktap'), 'utf8').split('\n');
	const open: { plan: number; seen: number }[] = [];
	for (const line of lines) {
		const depth = (/^ */.exec(line)?.[0].length ?? 0) / 2;
		const plan = /^ *1\.\.(\d+)$/.exec(line);
		if (plan !== null) open[depth] = { plan: Number(plan[1]), seen: 0 };
		const result = /^ *(?:not )?ok (\d+) /.exec(line);
		if (result === null) continue;
		const level = open[depth];
		ASSERT_EQ(Number(result[1]), level === undefined ? -1 : ++level.seen);
		const below = open[depth + 1];
		if (below !== undefined) EXPECT_EQ(below.plan, below.seen);
		open.length = depth + 1;
	}
	EXPECT_EQ(4, open[0]?.plan ?? 0);
	EXPECT_EQ(4, open[0]?.seen ?? 0);
});

TEST('flags_select_tests_and_a_pass_exits_with_0', () => {
	const { code, out } = kselftest(['-T', 'gap_that_was_closed', '-f', 'hmm', 'mm/']);
	const names = [...out.matchAll(/^ {2}ok \d+ (\S+)/gm)].map(([, name]) => name ?? '');
	EXPECT_EQ(0, code);
	EXPECT_EQ(6, names.length);
	EXPECT_TRUE(names.every((name) => name.startsWith('hmm.') && !name.endsWith('closed')));
	EXPECT_TRUE(out.startsWith('KTAP version 1\n1..1\n'));
});

TEST('one_test_by_its_full_name', () => {
	const { code, out } = kselftest(['-r', 'hmm.hmm_device_private.opens', 'mm/']);
	EXPECT_EQ(0, code);
	EXPECT_TRUE(out.includes('  1..1\n  ok 1 hmm.hmm_device_private.opens\n'));
});

TEST('list_and_help_exit_with_4', () => {
	const list = kselftest(['-l', 'outcomes']);
	EXPECT_EQ(4, list.code);
	EXPECT_STREQ('', list.out);
	EXPECT_TRUE(list.err.includes('# FIXTURE            VARIANT                   TEST\n'));
	EXPECT_TRUE(list.err.includes('hmm                  hmm_device_private        opens\n'));
	EXPECT_TRUE(
		list.err.includes('                     hmm_device_coherent       known_gap\n'),
	);
	const help = kselftest(['-h']);
	EXPECT_EQ(4, help.code);
	EXPECT_TRUE(help.err.startsWith('Usage: '));
});

TEST('summary_has_suites_only_and_logs_the_rest', () => {
	const dir = mkdtempSync(join(tmpdir(), 'kselftest-'));
	const { code, out } = kselftest([], { TARGETS: 'mm', summary: '1' }, dir);
	const log = readFileSync(join(dir, 'output.log'), 'utf8');
	rmSync(dir, { recursive: true });
	EXPECT_EQ(1, code);
	EXPECT_STREQ(
		[
			'KTAP version 1',
			'1..2',
			'# selftests: mm: outcomes-tests',
			'not ok 1 mm/outcomes-tests',
			'# selftests: mm: skipped-tests',
			'ok 2 mm/skipped-tests # SKIP all tests skipped',
			'# Totals: pass:8 fail:7 xfail:1 xpass:1 skip:3 error:0',
			'',
		].join('\n'),
		out,
	);
	EXPECT_TRUE(log.includes('not ok 2 global.stops_at_assert\n'));
});

TEST('a_run_in_which_all_is_skipped_exits_with_4', () => {
	EXPECT_EQ(4, kselftest(['mm/skipped']).code);
});

TEST('json_is_in_the_schema_of_kunit', () => {
	const { code, out, err } = kselftest([
		'--json',
		'TARGETS=mm',
		'-t',
		'opens',
		'-t',
		'known_gap',
	]);
	const { sub_groups: groups, ...run } = JSON.parse(out);
	EXPECT_EQ(0, code);
	EXPECT_TRUE(err.startsWith('KTAP version 1\n'));
	EXPECT_STREQ('KUnit Test Group', run.name);
	EXPECT_STREQ('mm/outcomes-tests', groups[0].name);
	EXPECT_STREQ('sim', groups[0].arch);
	EXPECT_EQ(4, groups[0].test_cases.length);
	EXPECT_STREQ('hmm.hmm_device_private.opens', groups[0].test_cases[0].name);
	EXPECT_STREQ('PASS', groups[0].test_cases[3].status);
});

TEST('what_a_test_leaves_behind_fails_it', () => {
	const { code, out } = kselftest(['--dir', join(root, 'test/tools/fixtures/reports')]);
	const place = 'test/tools/fixtures/reports/kernel/reports-tests.ts';
	for (const line of [
		'  ok 1 kernel.is_clean',
		'  # leaves_a_lock_held:Unexpected report: WARNING: lock held when returning to user space!',
		'  not ok 2 kernel.leaves_a_lock_held',
		`  # WARNING: ${place}:46 at warns: not as it should be`,
		`  #  warns ${place}:46`,
		'  not ok 3 kernel.warns',
		'  ok 4 kernel.warns_as_expected',
		'  # does_not_warn_as_expected:Expected report did not occur: as it should',
		'  not ok 5 kernel.does_not_warn_as_expected',
		`  # kernel BUG at ${place}:60! the end`,
		'  not ok 6 kernel.oopses',
		'  ok 7 kernel.oopses_as_expected',
		'  ok 8 global.boots_for_itself',
		'  not ok 9 global.forgets_to_boot',
	])
		EXPECT_TRUE(out.split('\n').includes(line));
	EXPECT_TRUE(/#0: \(sample_lock\).* at: leaves_a_lock_held /.test(out));
	EXPECT_FALSE(/# {2}\S+ test\/kselftest_harness/.test(out));
	EXPECT_EQ(1, code);
});

TEST('an_unknown_target_is_named', () => {
	const { code, out, err } = kselftest(['TARGETS=mm net']);
	EXPECT_EQ(1, code);
	EXPECT_STREQ('', out);
	EXPECT_TRUE(err.startsWith('kselftest: there is no target "net": '));
});

TEST('the_first_flag_that_matches_decides', () => {
	const name = { fixture: 'hmm', variant: 'private', test: 'anon_read' };
	const include = { flag: 'v', name: 'private' } as const;
	const exclude = { flag: 'T', name: 'anon_read' } as const;
	EXPECT_TRUE(isSelected([], name));
	EXPECT_TRUE(isSelected([include, exclude], name));
	EXPECT_FALSE(isSelected([exclude, include], name));
	EXPECT_TRUE(isSelected([{ flag: 'F', name: 'other' }], name));
	EXPECT_FALSE(isSelected([{ flag: 'f', name: 'other' }], name));
	EXPECT_TRUE(isSelected([{ flag: 'r', name: 'hmm.private.anon_read' }], name));
	EXPECT_TRUE(isSelected([{ flag: 'r', name: 'hmm.anon_read' }], { ...name, variant: '' }));
});

TEST('speed_filters_compare_as_kunit_does', () => {
	const speeds = (filter: string) => parseOptions(['--filter', filter], {}).speeds.join(' ');
	EXPECT_STREQ('normal', speeds('speed>slow'));
	EXPECT_STREQ('very_slow slow', speeds('speed<=slow'));
	EXPECT_STREQ('very_slow normal', speeds('speed!=slow'));
});

TEST('a_bad_flag_is_a_usage_error', () => {
	for (const argv of [['-x'], ['-t'], ['--filter', 'speed~slow']]) {
		let message = '';
		try {
			parseOptions(argv, {});
		} catch (error) {
			if (error instanceof UsageError) message = error.message;
		}
		EXPECT_TRUE(message !== '');
	}
});
