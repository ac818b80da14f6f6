// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: `kproto replay hmm --trace ID` prints every kernel call of that scenario and of no other, in
 * ftrace's layout below a heading for each step, with invalidations between the calls; a wrong ID is
 * one line. Method: the command on a recorded scenario, and on a small one with a wrong answer.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { called } from './called.ts';

const records = fileURLToPath(
	new URL('../../golden/hmm/v7.3/corner-public.jsonl.gz', import.meta.url),
);

/** Two steps, and answers to them. */
const wrong = {
	id: 'X-1',
	fam: 'X',
	win: 0,
	np: 2,
	fa: 4096,
	dev: 1,
	steps: [
		['mmap', 0, 2, 3, 'ap', 0],
		['write', 1, 17],
		['dread', 0, 0, 1],
	],
	r: [
		{ rc: 0, pt: 'P*2', vma: '0-2:rwA' },
		{ rc: 0, nf: 2, pt: '. waxd', vma: '0-2:rwAa' },
		{ skip: 'guard' },
	],
};

/** Lines of the calls of each step. */
function steps(out: string): string[][] {
	return out
		.split(/^# step \d+ /m)
		.slice(1)
		.map((text) => text.split('\n'));
}

TEST('each_step_is_a_heading_above_its_calls', async () => {
	// a hole before a page of the caller's own device: the fault drags that page back
	const { code, out } = await called('hmm', '--trace', 'K-052', records);
	EXPECT_EQ(0, code);
	const all = steps(out);
	ASSERT_EQ(5, all.length);
	EXPECT_TRUE(all[0]![0]!.startsWith('["mmap",0,8,3,"ap",0]'));
	EXPECT_TRUE(all[3]![0]!.startsWith('["mig",0,2,1]'));
	const [mig, hmm] = [all[3]!.join('\n'), all[4]!.join('\n')];
	EXPECT_TRUE(/dmirror_migrate_to_device\(self=dmirror.* \{\n/.test(mig));
	EXPECT_TRUE(/ {6}migrate_vma_setup\(args=migrate_vma\[0x200000002000-0x20/.test(mig));
	EXPECT_TRUE(mig.includes('/* window: invalidate MIGRATE pages [2, 3) owner 0 */'));
	EXPECT_TRUE(/\} \/\* dmirror_migrate_to_device \*\/ \/\* = 0 \*\//.test(mig));
	EXPECT_TRUE(
		hmm.includes('hmm_range_fault(range=hmm_range[0x200000000000-0x200000004000])'),
	);
	EXPECT_EQ(4, hmm.match(/ handle_mm_fault\(.*\{$/gm)?.length ?? 0);
	EXPECT_TRUE(hmm.includes('/* range: invalidate MIGRATE pages [2, 3) owner 0 */'));
	EXPECT_TRUE(hmm.includes('/* = -EBUSY */'));
	EXPECT_TRUE(hmm.includes('# = {"ret":0,"ret0":-16,"tries":2,"nf":4,"ni":1,'));
	EXPECT_STREQ('1 passed, 0 failed', out.trimEnd().split('\n').at(-1)!);
	// what the replay itself reads of the page table is no call of the kernel
	EXPECT_FALSE(out.includes('dumpPageTable'));
});

TEST('json_has_the_same_calls', async () => {
	const { code, out } = await called('hmm', '--json', '--trace', 'K-052', records);
	EXPECT_EQ(0, code);
	const document = JSON.parse(out) as {
		passed: number;
		records: {
			profile: string;
			steps: {
				op: unknown[];
				answer: { rc?: number };
				calls: { name?: string; depth: number; mark?: string }[];
			}[];
		}[];
	};
	EXPECT_EQ(1, document.passed);
	const [record] = document.records;
	EXPECT_STREQ('v7.3', record!.profile);
	const { op, answer, calls } = record!.steps[3]!;
	EXPECT_STREQ('["mig",0,2,1]', JSON.stringify(op));
	EXPECT_EQ(0, answer.rc);
	EXPECT_TRUE(calls.some(({ name, depth }) => name === 'migrate_vma_setup' && depth > 0));
	EXPECT_TRUE(calls.some(({ mark }) => mark?.startsWith('window: invalidate') === true));
});

TEST('difference_and_steps_that_are_not_executed_are_told', async () => {
	const dir = mkdtempSync(join(tmpdir(), 'trace-'));
	const file = join(dir, 'wrong.jsonl');
	const right = { ...wrong, id: 'X-2', r: wrong.r.map((r) => ({ ...r, nf: r.nf && 1 })) };
	writeFileSync(file, `${JSON.stringify(wrong)}\n${JSON.stringify(right)}\n`);
	try {
		const one = await called('hmm', '--trace', 'X-1', file);
		EXPECT_EQ(1, one.code);
		EXPECT_TRUE(one.out.includes('# step 1 ["write",1,17] nf: expected 2, got 1'));
		EXPECT_TRUE(/# step 2 .*\n# skipped: the replay ended before/.test(one.out));
		EXPECT_TRUE(one.out.endsWith('0 passed, 1 failed\n'));
		const two = await called('hmm', '--trace', 'X-2', file);
		EXPECT_EQ(0, two.code);
		EXPECT_TRUE(/# step 2 .*\n# skipped: guard/.test(two.out));
	} finally {
		rmSync(dir, { recursive: true });
	}
});

TEST('unknown_scenario_is_one_line_and_2', async () => {
	const { code, out, err } = await called('hmm', '--trace', 'K-999', records);
	EXPECT_EQ(2, code);
	EXPECT_STREQ('', out);
	EXPECT_STREQ(`kproto replay: ${records}: no scenario "K-999"\n`, err);
	EXPECT_EQ(2, (await called('hmm', '--trace', 'K-052', '--filter', 'K-053', records)).code);
	const p2p = await called('p2p', '--trace', 'K-052', records);
	EXPECT_EQ(2, p2p.code);
	EXPECT_TRUE(p2p.err.startsWith('kproto replay: --trace: not with records of p2p\n'));
});

TEST('filter_that_matches_nothing_is_a_mistake', async () => {
	const { code, out, err } = await called('hmm', '--filter', 'K-999', records);
	EXPECT_EQ(2, code);
	EXPECT_TRUE(out.endsWith('0 passed, 0 failed\n'));
	EXPECT_STREQ('kproto replay: no record matches\n', err);
});

TEST('switches_are_checked', async () => {
	const told = async (...given: string[]): Promise<string> => {
		const { code, err } = await called('hmm', ...given, records);
		EXPECT_EQ(2, code);
		return err.split('\n')[0]!;
	};
	EXPECT_STREQ(
		'kproto replay: --feature: there is no switch "fix_s99"; kproto profiles tells them',
		await told('--feature', 'fix_s99'),
	);
	EXPECT_STREQ(
		'kproto replay: --feature: fix_s17 is on or off, not "fix_s17=maybe"',
		await told('--feature', 'fix_s17=maybe'),
	);
	EXPECT_STREQ(
		'kproto replay: --feature: "fix_s17" needs "hmm_pmd_private", which v6.12 has not',
		await told('--feature', 'fix_s17', '--profile', 'v6.12'),
	);
	// a switch that is taken away shows in the answers
	const thp = ['--filter', ' K-104-', records];
	EXPECT_STREQ('1 passed, 0 failed\n', (await called('hmm', ...thp)).out);
	EXPECT_EQ(1, (await called('hmm', '--feature', 'huge_zero_wp_thp=off', ...thp)).code);
});
