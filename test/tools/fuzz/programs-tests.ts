// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the model stands random programs, and the checker finds a model that does not.
 * Method: a part of what `npm run fuzz` runs, with the same generator; then the same kernels with one fault
 * put in by hand, each of which must be found, made small, and named for what it is.
 */

import { MMU_NOTIFY_RELEASE } from '../../../include/linux/mmu_notifier.ts';
import { memoryMap } from '../../../include/linux/mmzone.ts';
import type { dmirror } from '../../../lib/test_hmm/mirror.ts';
import { mmu_interval_set_seq } from '../../../mm/mmu_notifier.ts';
import { frameOf } from '../../../mm/page_alloc.ts';
import { runBatch } from '../../../tools/fuzz/programs/batch.ts';
import { defaultWishes, type Wishes } from '../../../tools/fuzz/programs/generate.ts';
import { Kernels } from '../../../tools/fuzz/programs/kernels.ts';
import { type Program, parseProgram } from '../../../tools/fuzz/programs/program.ts';
import { type RunOptions, runProgram } from '../../../tools/fuzz/programs/run.ts';
import { Statistics } from '../../../tools/fuzz/programs/statistics.ts';
import type { Scenario, Step } from '../../../tools/replay/hmm/record.ts';
import { replayScenario } from '../../../tools/replay/hmm/scenario.ts';
import { pfnAt } from '../../../tools/replay/hmm/words.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_GE,
	EXPECT_GT,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';

/** Programs of each seed. */
const PROGRAMS = 250;
const LEAST_STEPS = 40;
/** A fault that is put in by hand is found within so many programs. */
const ENOUGH = 500;
/** Most steps of a program that was made small. */
const SMALL = 10;

for (const seed of [101, 102, 103, 104])
	TEST(
		`programs_of_seed_${seed}`,
		() => {
			const statistics = new Statistics();
			const batch = { seed, runs: PROGRAMS, path: null, wishes: defaultWishes };
			const failure = runBatch(batch, new Kernels(), { statistics });
			const found = failure === null ? '' : `${failure.what}\n${failure.text}`;
			EXPECT_STREQ('', found);
			// deep states were reached, not only refused calls
			const { figures } = statistics;
			EXPECT_EQ(PROGRAMS, figures.programs);
			EXPECT_GT(figures.privateFaults, PROGRAMS);
			EXPECT_GT(figures.retries, 0);
			for (const state of ['privatePages', 'exclusive', 'swapped', 'processes'])
				EXPECT_GT(figures.states[state]?.[0] ?? 0, 0);
			for (const op of ['mig', 'excl', 'dwrite', 'mremap', 'fork', 'sys', 'hmm'])
				EXPECT_GT(figures.steps[op]?.[1] ?? 0, PROGRAMS / 10);
		},
		{ speed: 'slow' },
	);

TEST('programs_are_long', () => {
	const last: number[] = [];
	const wishes: Wishes = { ...defaultWishes, steps: LEAST_STEPS };
	// it is told of the end as well, by the number behind the last step
	const tamper: RunOptions['tamper'] = (_kernel, at, _step, answer) => {
		last.push(at);
		return answer;
	};
	EXPECT_NULL(runBatch({ seed: 1, runs: 20, path: null, wishes }, new Kernels(), { tamper }));
	const lengths = last.filter((at, i) => (last[i + 1] ?? -1) < at);
	EXPECT_EQ(20, lengths.length);
	EXPECT_GE(Math.min(...lengths), LEAST_STEPS);
});

/** Run programs on kernels with a fault; the smallest program that shows it. */
function find(tamper: RunOptions['tamper']) {
	const kernels = new Kernels();
	const wishes: Wishes = { ...defaultWishes, profiles: ['v7.3'] };
	const batch = { seed: 7, runs: ENOUGH, path: null, wishes };
	const failure = runBatch(batch, kernels, { tamper });
	ASSERT_NE(failure, 'the fault is found');
	EXPECT_GE(SMALL, failure!.program.steps.length);
	return failure!;
}

TEST('a_notifier_that_forgets_a_mirror_is_found', () => {
	const found = find(({ oracle }, at, _step, answer) => {
		if (at !== 0) return answer;
		for (const filp of oracle.dmirrors) {
			const { notifier } = filp.private_data as dmirror;
			const { invalidate } = notifier.ops!;
			notifier.ops = {
				*invalidate(sub, range, seq) {
					// the number is right, the entries stay
					if (range.event === MMU_NOTIFY_RELEASE)
						return yield* invalidate!(sub, range, seq);
					mmu_interval_set_seq(sub, seq);
					return true;
				},
			};
		}
		return answer;
	});
	// whichever shows first: the stale entry, or a value read or written through it
	EXPECT_TRUE(/the mirror has page|expected|KASAN|BUG/.test(found.what));
});

TEST('a_lost_write_is_found', () => {
	const found = find(({ oracle }, _at, step, answer) => {
		if (step[0] !== 'mig' || answer['rc'] !== 0) return answer;
		// what was copied to the device is not what was in the page
		const { mdevice } = oracle.dmirrors[step[1] as number]!.private_data as dmirror;
		const pfn = pfnAt(oracle.parent.mm!, oracle.address(step[2] as number));
		const p = pfn === null ? null : memoryMap().page(Number(pfn));
		const backing = p?.pgmap === null ? null : p?.zone_device_data;
		if (backing && mdevice.name.endsWith('0')) {
			const { sec, idx } = backing as { sec: { base: number }; idx: number };
			frameOf(sec.base + idx).u32[0]! ^= 1;
		}
		return answer;
	});
	EXPECT_TRUE(/expected/.test(found.what));
});

TEST('a_reference_too_many_is_found', () => {
	const found = find(({ oracle }, _at, step, answer) => {
		if (step[0] !== 'write' || answer['rc'] !== 0) return answer;
		const pfn = pfnAt(oracle.parent.mm!, oracle.address(step[1] as number));
		if (pfn !== null) memoryMap().page(Number(pfn))!._refcount++;
		return answer;
	});
	EXPECT_TRUE(/references/.test(found.what));
});

TEST('a_counter_that_is_wrong_is_found', () => {
	const found = find(({ oracle }, _at, step, answer) => {
		if (step[0] === 'sys' && answer['rc'] === 0) oracle.parent.mm!.rss_stat[1]!--;
		return answer;
	});
	EXPECT_TRUE(/pages by its counter/.test(found.what));
});

TEST('a_sequence_number_of_the_wrong_parity_is_found', () => {
	const found = find(({ oracle }, _at, step, answer) => {
		if (step[0] === 'munmap' && answer['rc'] === 0)
			oracle.parent.mm!.notifier_subscriptions!.invalidate_seq |= 1n;
		return answer;
	});
	EXPECT_TRUE(/is odd/.test(found.what));
});

TEST('a_lock_that_is_kept_is_found', () => {
	const found = find(({ oracle }, _at, step, answer) => {
		if (step[0] === 'mprotect') oracle.parent.mm!.mmap_lock.readers++;
		return answer;
	});
	EXPECT_TRUE(/mmap lock is held/.test(found.what));
});

TEST('a_failure_without_reason_is_found', () => {
	const found = find((_kernel, _at, step, answer) =>
		step[0] === 'dread' && answer['rc'] === 0 ? { rc: -14 } : answer,
	);
	EXPECT_STREQ('answers', found.invariant);
	EXPECT_TRUE(/-14, though each may be accessed/.test(found.what));
});

TEST('a_request_that_is_not_granted_is_found', () => {
	const found = find((_kernel, _at, step, answer) =>
		step[0] === 'hmm' && answer['ret'] === 0
			? { ...answer, f: String(answer['f']).replaceAll(/\b[c-f]/g, '8') }
			: answer,
	);
	EXPECT_STREQ('answers', found.invariant);
	EXPECT_TRUE(/was asked for writable/.test(found.what));
});

TEST('a_wrong_value_is_found_again_by_seed_and_path', () => {
	const tamper: RunOptions['tamper'] = (_kernel, _at, step, answer) =>
		step[0] === 'read' && typeof answer['v'] === 'number'
			? { ...answer, v: answer['v'] + 1 }
			: answer;
	const { seed, path, text } = find(tamper);
	const wishes: Wishes = { ...defaultWishes, profiles: ['v7.3'] };
	const again = runBatch({ seed, path, runs: 1, wishes }, new Kernels(), { tamper });
	EXPECT_STREQ(text, again?.text ?? '');
});

TEST('found_exclusive_access_to_a_hugetlb_page_is_refused', () => {
	const found: Program = {
		setup: {
			profile: 'v7.3',
			win: 0,
			np: 1024,
			fa: 4096,
			dev: 1,
			swap: false,
			machine: null,
		},
		steps: [
			['mmap', 0, 1, 1, 'hs', 0],
			['mprotect', 0, 512, 2],
			['excl', 1, 0, 1],
		],
	};
	EXPECT_NULL(runProgram(found, new Kernels()));
});

/** A program of several processes, with the answers that the model gave. */
function recorded(steps: readonly Step[]): Scenario {
	const program: Program = {
		setup: {
			profile: 'v7.3',
			win: 0,
			np: 16,
			fa: 4096,
			dev: 1,
			swap: false,
			machine: null,
		},
		steps,
	};
	const lie: RunOptions['tamper'] = (_kernel, at, _step, answer) =>
		at === steps.length - 1 ? { ...answer, v: -1 } : answer;
	const found = runBatchOf(program, lie);
	return JSON.parse(found) as Scenario;
}

function runBatchOf(program: Program, tamper: RunOptions['tamper']): string {
	const kernels = new Kernels();
	const found = runProgram(program, kernels, { tamper, closely: true });
	ASSERT_NE(found, 'the last answer is no value');
	const { steps } = program;
	const { setup } = program;
	const r = steps.map((_, i) => found!.answers[i] ?? {});
	return JSON.stringify({ ...setup, id: 'X', fam: 'E', steps, r });
}

const several: readonly Step[] = [
	['mmap', 0, 4, 3, 'ap', 0],
	['write', 1, 65537],
	['fork'],
	['child', 'fork', 2],
	['proc', 2, 'dopen', 1],
	['proc', 2, 'mig', 1, 1, 1],
	['proc', 2, 'dread', 1, 1, 1],
	['cexit', 2],
	['child', 'read', 1],
];

TEST('the_text_of_a_program_is_a_record_that_replays', () => {
	const record = recorded(several);
	// all but the last answer, which the test had made wrong, are the model's own
	const steps = several.slice(0, -1);
	const { mismatches } = replayScenario(
		{ ...record, steps, r: record.r.slice(0, -1) },
		'v7.3',
	);
	EXPECT_STREQ('', JSON.stringify(mismatches.slice(0, 1)).replace('[]', ''));
	const wrong = replayScenario(record, 'v7.3').mismatches;
	EXPECT_EQ(1, wrong.length);
	const read = parseProgram(JSON.stringify({ ...record, profile: 'v6.12' }), 'v7.3');
	EXPECT_STREQ('v6.12', read.setup.profile);
	EXPECT_NULL(runProgram(read, new Kernels()));
});
