// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a wrong answer is told with its step and its page, and nothing else is called wrong.
 * Method: one small scenario, right and then with answers changed.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import {
	expandRuns,
	runLength,
	type Scenario,
	scenarioShape,
} from '../../../tools/replay/hmm/record.ts';
import { replayScenario } from '../../../tools/replay/hmm/scenario.ts';
import type { Mismatch } from '../../../tools/replay/report.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { called } from './called.ts';

const good: Scenario = {
	id: 'X-1',
	fam: 'X',
	win: 0,
	np: 8,
	fa: 4096,
	dev: 1,
	steps: [
		['mmap', 0, 8, 3, 'ap', 0],
		['write', 1, 17],
		['hmm', 0, 4, 0, 0, -1, 10, 1],
		['mig', 0, 1, 1],
		['fork'],
		['child', 'read', 1],
	],
	r: [
		{ rc: 0, pt: 'P*8', vma: '0-8:rwA' },
		{ rc: 0, nf: 1, pt: '. waxd .*6', vma: '0-8:rwAa' },
		{ ret: 0, ret0: 0, tries: 1, nf: 0, ni: 0, f: '00- c0a 00-*2' },
		{ rc: 0, cp: 1, d: [17], pt: '. Dw0x .*6', inv: [[6, 1, 2, 0]] },
		{ rc: 0, pt: '. Dr0 .*6', inv: [[3, 0, 8, -1]] },
		{
			c: { rc: 0, v: 17, nf: 1, pt: '. ra .*6', vma: '0-8:rwAa' },
			pt: '. ra .*6',
			inv: [[1, 1, 2, -1]],
		},
	],
};

/** The mismatches of the scenario with one answer changed. */
function changed(step: number, change: Record<string, unknown>): readonly Mismatch[] {
	const r = good.r.map((answer, i) => (i === step ? { ...answer, ...change } : answer));
	return replayScenario({ ...good, r }, 'v7.3').mismatches;
}

TEST('answers_of_the_kernel_pass', () => {
	const { mismatches, strict } = replayScenario(good, 'v7.3');
	EXPECT_STREQ('[]', JSON.stringify(mismatches));
	EXPECT_STREQ('[]', JSON.stringify(strict));
});

TEST('wrong_word_names_its_step_and_page', () => {
	const found = changed(2, { f: '00- 80a 00-*2' });
	EXPECT_EQ(1, found.length);
	EXPECT_STREQ('2 ["hmm",0,4,0,0,-1,10,1] f page 1', found[0]?.step ?? '');
	EXPECT_STREQ('80a', String(found[0]?.expected));
	EXPECT_STREQ('c0a', String(found[0]?.got));
});

TEST('every_kind_of_field_is_compared', () => {
	const wrong: [number, Record<string, unknown>, string][] = [
		[0, { rc: -22 }, 'rc'],
		[0, { vma: '0-9:rwA' }, 'vma page 0'],
		[1, { pt: '. ra .*6' }, 'pt page 1'],
		[1, { nf: 2 }, 'nf'],
		[2, { ni: 1 }, 'ni'],
		[2, { cls: [0, 0] }, 'cls'],
		[3, { d: [18] }, 'd'],
		[3, { inv: [[6, 1, 2, 1]] }, 'inv'],
		[5, { c: { rc: 0, v: 18, nf: 1, pt: '. ra .*6', vma: '0-8:rwAa' } }, 'c.v'],
		[5, { c: { rc: 0, v: 17, nf: 1, pt: '. wa .*6', vma: '0-8:rwAa' } }, 'c.pt page 1'],
	];
	for (const [step, change, field] of wrong) {
		const found = changed(step, change);
		const title = `${step} ${JSON.stringify(good.steps[step])}`;
		EXPECT_STREQ(`${title} ${field}`, found.map((one) => one.step).join());
	}
});

TEST('letters_that_are_compared_apart_do_not_fail', () => {
	const r = good.r.map((answer, i) =>
		i === 1 ? { ...answer, pt: '. wa .*6', vma: '0-8:rw' } : answer,
	);
	const { mismatches, strict } = replayScenario({ ...good, r }, 'v7.3');
	EXPECT_EQ(0, mismatches.length);
	EXPECT_TRUE(strict.length > 0);
});

TEST('step_that_is_not_known_is_a_failure', () => {
	const steps = [['dance', 1], ...good.steps.slice(1)] as Scenario['steps'];
	const [found] = replayScenario({ ...good, steps }, 'v7.3').mismatches;
	EXPECT_STREQ('has no step dance', String(found?.got));
});

TEST('step_whose_arguments_make_no_sense_fails_its_record_only', () => {
	const twice = [
		['uffd', 1],
		['uffd', 0],
	];
	for (const change of [
		{ steps: [['mmap', 0, 8], ...good.steps.slice(1)] },
		{ steps: twice, r: twice.map(() => ({ rc: 0, pt: 'P*8', vma: '' })) },
		{ dev: 9 },
	]) {
		const { mismatches } = replayScenario({ ...good, ...change } as Scenario, 'v7.3');
		EXPECT_STREQ('the replay', mismatches.map(({ step }) => step).join());
	}
	EXPECT_EQ(0, replayScenario(good, 'v7.3').mismatches.length);
});

TEST('record_may_say_which_kernel_it_is_of', async () => {
	const file = fileURLToPath(
		new URL('../../golden/hmm/v6.12/corner-public.jsonl.gz', import.meta.url),
	);
	const line = gunzipSync(readFileSync(file))
		.toString()
		.split('\n')
		.find((text) => text.includes('"K-100-'))!;
	const folder = mkdtempSync(join(tmpdir(), 'record-'));
	const replayed = async (text: string): Promise<number | null> => {
		writeFileSync(join(folder, 'a.jsonl'), `${text}\n`);
		return (await called('hmm', folder)).code;
	};
	EXPECT_EQ(1, await replayed(line));
	mkdirSync(join(folder, 'b.jsonl'));
	EXPECT_EQ(0, await replayed(line.replace('{', '{"profile":"v6.12",')));
	rmSync(folder, { recursive: true });
});

TEST('proposal_can_be_switched_off', async () => {
	const records = fileURLToPath(new URL('../../golden/proposal', import.meta.url));
	const off = ['--feature', 'p2p_op_dma_dev=off'];
	const { code, out } = await called('proposal', '--filter', ' PK-00', ...off, records);
	EXPECT_EQ(1, code);
	EXPECT_TRUE(/^not ok/m.test(out));
	EXPECT_EQ(0, (await called('proposal', '--filter', ' PK-00', records)).code);
	const { code: older, err } = await called('proposal', '--profile', 'v6.12', records);
	EXPECT_EQ(2, older);
	EXPECT_TRUE(err.includes('needs "hmm_dma_flags", which v6.12 has not'));
});

TEST('oops_is_told_and_not_thrown', () => {
	const steps: Scenario['steps'] = [
		['mmap', 0, 8, 3, 'ap', 0],
		['mig', 0, 0, 4],
		['mprotect', 0, 4, 1],
		['dread', 0, 0, 4],
	];
	const r: Scenario['r'] = [
		{ rc: 0, pt: 'P*8', vma: '0-8:rwA' },
		{
			...{ rc: 0, cp: 4, d: [0, 0, 0, 0], pt: 'Dw0x*4 .*4', vma: '0-8:rwAa' },
			inv: [
				[6, 0, 4, 0],
				[6, 0, 4, 0],
			],
		},
		{ rc: 0, pt: 'Dr0x*4 .*4', vma: '0-4:rAa 4-8:rwAa', inv: [[2, 0, 4, -1]] },
		{ rc: 0 },
	];
	const { mismatches } = replayScenario({ ...good, steps, r }, 'v7.3');
	EXPECT_EQ(1, mismatches.length);
	EXPECT_STREQ('the kernel', mismatches[0]?.step ?? '');
	EXPECT_TRUE(String(mismatches[0]?.got).includes('is not RAM'));
});

TEST('runs_expand_to_what_they_were', () => {
	const tokens = ['a', 'a', 'b', '00-*', '00-*', 'c'];
	EXPECT_STREQ('a*2 b 00-**2 c', runLength(tokens));
	EXPECT_STREQ(tokens.join(), expandRuns(runLength(tokens)).join());
	EXPECT_EQ(0, expandRuns('').length);
});

TEST('line_that_is_no_scenario_is_said_to_be_none', () => {
	EXPECT_NULL(scenarioShape.check(good, ''));
	for (const [change, expected] of [
		[{ id: 1 }, 'fields "id" and "fam"'],
		[{ np: 'x' }, 'a number "np"'],
		[{ steps: null }, 'lists "steps" and "r"'],
		[{ r: [] }, 'as many answers as steps'],
		[{ steps: good.steps.map(() => 1) }, 'steps that begin with a name'],
		[{ steps: good.steps.map(() => ['read', 0.5]) }, 'steps whose numbers are whole'],
		[{ r: good.r.map(() => 5) }, 'answers that are objects'],
		[{ np: 1e9 }, '"np" from 0 to 1048576'],
		[{ profile: 'v5.0' }, 'a profile that there is'],
	] as const)
		EXPECT_STREQ(
			expected,
			scenarioShape.check({ ...good, ...change }, '')?.expected ?? '',
		);
});
