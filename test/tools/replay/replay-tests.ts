// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: `kproto replay` tells by its exit code and last line whether every record passed, by each
 * difference's step what was expected and what came, and by file and line what is wrong with a
 * record. Method: the command is called as a function on small files made from the records of the
 * tree; its two streams are caught.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { HarnessError } from '../../../include/sim/report.ts';
import { installWorld } from '../../../include/sim/world.ts';
import { recordFamilies } from '../../../tools/replay/p2p/families.ts';
import { RecordCache, replayFile } from '../../../tools/replay/p2p/folder.ts';
import { profileOf } from '../../../tools/replay/sources.ts';
import {
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../kselftest_harness.ts';
import { called } from './called.ts';

const golden = fileURLToPath(new URL('../../golden/p2p/', import.meta.url));

interface Self {
	dir: string;
}

const replay = FIXTURE<Self>('replay', () => ({ dir: '' }));
FIXTURE_SETUP(replay, (self) => {
	self.dir = mkdtempSync(join(tmpdir(), 'replay-'));
});
FIXTURE_TEARDOWN(replay, ({ dir }) => {
	rmSync(dir, { recursive: true });
	installWorld(null);
});

function lines(file: string): string[] {
	return gunzipSync(readFileSync(golden + file))
		.toString()
		.trimEnd()
		.split('\n');
}

type Fields = Record<string, unknown>;
type RecordOutcomes = { mismatches: readonly { step: string }[] }[];

/** A folder with one topology of a kernel, its first case, and what the test wants beside them. */
function folder(self: Self, profile: string, files: Record<string, string[]>): string {
	const topology = lines(`${profile}/topologies.jsonl.gz`).find((line) =>
		line.includes('"topology":"s002"'),
	)!;
	const one = lines(`${profile}/pairs.jsonl.gz`).find((line) =>
		line.includes('"topology":"s002"'),
	)!;
	const all = { topologies: [topology], pairs: [one], ...files };
	const dir = join(self.dir, profile);
	mkdirSync(dir, { recursive: true });
	for (const [name, content] of Object.entries(all))
		writeFileSync(join(dir, `${name}.jsonl`), `${content.join('\n')}\n`);
	return dir;
}

/** The first pairs record of the small machine, changed. */
function pairs(profile: string, change: (value: Fields) => void): string {
	const line = lines(`${profile}/pairs.jsonl.gz`).find((l) =>
		l.includes('"topology":"s002"'),
	)!;
	const value = JSON.parse(line) as Fields;
	change(value);
	return JSON.stringify(value);
}

TEST_F(replay, 'all_pass_is_exit_code_0_and_one_line', async (self) => {
	const { code, out, err } = await called('p2p', folder(self, 'v6.12', {}));
	EXPECT_EQ(0, code);
	EXPECT_STREQ('2 passed, 0 failed\n', out);
	EXPECT_STREQ('', err);
});

TEST_F(replay, 'difference_names_step_expected_and_got', async (self) => {
	const wrong = pairs('v7.3', (v) => {
		(v.raw as number[][])[0]![1] = 77;
	});
	const dir = folder(self, 'v7.3', { pairs: [wrong] });
	const { code, out } = await called('p2p', dir);
	EXPECT_EQ(1, code);
	const [first = '', second = '', last = ''] = out.split('\n');
	EXPECT_TRUE(first.startsWith(`not ok ${join(dir, 'pairs.jsonl')}:1 pairs s002/`));
	EXPECT_TRUE(/^ {2}step raw\[0\]\[1\]: expected 77, got \d+$/.test(second));
	EXPECT_STREQ('1 passed, 1 failed', last);
});

TEST_F(replay, 'json_is_one_document', async (self) => {
	const wrong = pairs('v7.3', (v) => {
		(v.raw as number[][])[0]![1] = 77;
	});
	const { code, out } = await called(
		'p2p',
		'--json',
		folder(self, 'v7.3', { pairs: [wrong] }),
	);
	EXPECT_EQ(1, code);
	const document = JSON.parse(out) as {
		passed: number;
		failed: number;
		records: { title: string; mismatches: { step: string; expected: number }[] }[];
	};
	EXPECT_EQ(1, document.passed);
	EXPECT_EQ(1, document.failed);
	EXPECT_STREQ('raw[0][1]', document.records[0]!.mismatches[0]!.step);
	EXPECT_EQ(77, document.records[0]!.mismatches[0]!.expected);
});

TEST_F(replay, 'filter_passes_records_over', async (self) => {
	const dir = folder(self, 'v7.3', {});
	EXPECT_STREQ('1 passed, 0 failed\n', (await called('p2p', '--filter', ' pairs ', dir)).out);
	EXPECT_STREQ('0 passed, 0 failed\n', (await called('p2p', '--filter', 'nobody', dir)).out);
	EXPECT_EQ(2, (await called('p2p', '--filter', '(', dir)).code);
});

TEST_F(replay, 'profile_is_that_of_the_nearest_folder', (self) => {
	const at = (path: string) => profileOf(join(self.dir, path), null);
	EXPECT_STREQ('v6.12', at('v6.12/x.jsonl'));
	EXPECT_STREQ('v6.12', at('v7.3/a/v6.12/b/x.jsonl'));
	EXPECT_STREQ('v7.3', at('x.jsonl'));
	EXPECT_STREQ('v6.12', profileOf(join(self.dir, 'v7.3/x.jsonl'), 'v6.12'));
});

TEST_F(replay, 'forced_profile_shows_in_the_numbers_of_map_types', async (self) => {
	const dir = folder(self, 'v6.12', {});
	EXPECT_EQ(1, (await called('p2p', '--profile', 'v7.3', dir)).code);
	EXPECT_EQ(2, (await called('p2p', '--profile', 'v5.0', dir)).code);
});

TEST_F(replay, 'bad_records_are_exit_code_2_with_their_line', async (self) => {
	const good = pairs('v7.3', () => undefined);
	const bad: [string, string][] = [
		['{"case":', 'no JSON'],
		[pairs('v7.3', (v) => delete v.acs), 'expected a field "acs"'],
		[
			pairs('v7.3', (v) => {
				(v.raw as unknown[][])[0]![1] = 'far';
			}),
			'raw[0][1]: expected a whole number',
		],
		[
			pairs('v7.3', (v) => {
				v.case = 's999/boot';
				v.topology = 's999';
			}),
			'there is no topology "s999"',
		],
		[
			pairs('v7.3', (v) => {
				v.case = 's002/short';
				v.acs = [];
			}),
			'acs: expected a list of ',
		],
		[
			pairs('v7.3', (v) => {
				v.cpu_vendor = 1;
			}),
			'cpu_vendor: expected one of 0, 2, 5, 9, 10',
		],
	];
	for (const [line, what] of bad) {
		const dir = folder(self, 'v7.3', { pairs: [good, '', line] });
		const { code, err } = await called('p2p', join(dir, 'pairs.jsonl'));
		EXPECT_EQ(2, code);
		EXPECT_TRUE(
			err.startsWith(`kproto replay: ${join(dir, 'pairs.jsonl')}:3: ${what}`),
		);
		EXPECT_EQ(1, err.trimEnd().split('\n').length);
	}
});

TEST_F(replay, 'bad_files_are_one_line', async (self) => {
	const dir = folder(self, 'v7.3', {});
	const wrong: [name: string, content: string | Buffer, what: string][] = [
		['pairs.jsonl.gz', gzipSync('{}').subarray(0, 12), 'cannot be unpacked'],
		['sets.jsonl', '', 'there is no record in it'],
		['songs.jsonl', '{}\n', 'there are no records "songs"'],
	];
	for (const [name, content, what] of wrong) {
		const file = join(dir, 'other', name);
		mkdirSync(dirname(file), { recursive: true });
		writeFileSync(file, content);
		const { code, err } = await called('p2p', file);
		EXPECT_EQ(2, code);
		EXPECT_TRUE(err.startsWith(`kproto replay: ${file}: ${what}`));
	}
	EXPECT_EQ(2, (await called('p2p', join(self.dir, 'nothing'))).code);
	EXPECT_EQ(2, (await called('p2p')).code);
	EXPECT_EQ(2, (await called('songs')).code);
});

TEST_F(replay, 'help_is_for_every_family_and_what_a_family_cannot_is_one_line', async (self) => {
	for (const args of [['--help'], ['p2p', '--help'], ['p2p', '-h'], ['hmm', '--help']]) {
		const { code, out, err } = await called(...args);
		EXPECT_EQ(0, code);
		EXPECT_TRUE(out.startsWith('usage: kproto replay FAMILY'));
		EXPECT_STREQ('', err);
	}
	const dir = folder(self, 'v7.3', {});
	const refused: [args: string[], says: string][] = [
		[['p2p', '--strict', dir], '--strict: not with records of p2p'],
		[['p2p', '--loud', dir], "Unknown option '--loud'"],
		[['p2p'], 'which files or folders?'],
		[['songs'], 'there are no records "songs"; there are hmm, proposal, p2p'],
		[[], 'which records? hmm, proposal, p2p'],
	];
	for (const [args, says] of refused) {
		const { code, out, err } = await called(...args);
		EXPECT_EQ(2, code);
		EXPECT_STREQ('', out);
		EXPECT_TRUE(err.startsWith(`kproto replay: ${says}`));
		EXPECT_EQ(1, err.trimEnd().split('\n').length);
	}
});

TEST_F(replay, 'a_machine_is_added_to_a_running_kernel_where_the_record_says_so', async (self) => {
	const acs = lines('v7.3/acs_params.jsonl.gz').find((l) => l.includes('"machine":"s'))!;
	const { machine } = JSON.parse(acs) as { machine: string };
	const tree = lines('v7.3/topologies.jsonl.gz').find((l) =>
		l.includes(`"topology":"${machine}"`),
	)!;
	const named = (line: string): string =>
		line.replaceAll(`"${machine}"`, `"q${machine.slice(1)}"`);
	for (const name of [(line: string) => line, named]) {
		const dir = folder(self, 'v7.3', {
			topologies: [name(tree)],
			acs_params: [name(acs)],
		});
		const { out } = await called('p2p', join(dir, 'acs_params.jsonl'));
		EXPECT_STREQ('1 passed, 0 failed\n', out);
	}
});

TEST_F(replay, 'a_fault_of_the_replayer_is_no_answer_of_the_kernel', async (self) => {
	const file = join(folder(self, 'v7.3', {}), 'pairs.jsonl');
	const { shape, replay: plain } = recordFamilies['pairs']!;
	const families = recordFamilies as Record<string, unknown>;
	const outcomes = (thrown: Error): RecordOutcomes => {
		families['pairs'] = {
			shape,
			replay: (): never => {
				throw thrown;
			},
		};
		try {
			return [...replayFile(file, 'v7.3', new RecordCache())];
		} finally {
			families['pairs'] = { shape, replay: plain };
		}
	};
	const [refused] = outcomes(new HarnessError('boot', 'there is no such machine'));
	EXPECT_STREQ('replay', refused?.mismatches[0]?.step ?? null);
	const fault = new TypeError('x is undefined');
	let seen: unknown = null;
	try {
		outcomes(fault);
	} catch (error) {
		seen = error;
	}
	EXPECT_TRUE(seen instanceof Error && seen.cause === fault);
	EXPECT_TRUE((seen as Error).message.includes(`${file}:1 pairs s002/`));
});
