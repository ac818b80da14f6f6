// SPDX-License-Identifier: GPL-2.0-only
/**
 * Scenarios of `kproto replay hmm` a second: all records of both kernels under test/golden/hmm, on one
 * core, with every check and every comparison that the command makes.
 *
 * Steady state: all records are replayed in one thread WARM times, so that the compiler knows the code,
 * then MEASURED times. What counts is the CPU time of the whole program, the compiler's and the garbage
 * collector's threads included, so that what else the machine does has no say. Reading the files is not
 * in it.
 */
import { fileURLToPath } from 'node:url';
import { quickReplay } from '../replay/hmm/quick.ts';
import { type Scenario, scenarioShape } from '../replay/hmm/record.ts';
import { plainReplayer, type Replayer } from '../replay/hmm/scenario.ts';
import { profileOf, readRecordFile, recordFiles } from '../replay/sources.ts';
import { bounded, figure, median, type Row } from './timing.ts';

const records = fileURLToPath(new URL('../../test/golden/hmm', import.meta.url));
const WARM = 2;
const MEASURED = 3;
/** Scenarios a second that there must be. */
const LIMIT = 2500;

function cpuSeconds(): number {
	const { user, system } = process.cpuUsage();
	return (user + system) / 1e6;
}

/** The rows of this benchmark. */
export async function replayRows(): Promise<Row[]> {
	const all = recordFiles(records).flatMap((file) =>
		readRecordFile<Scenario>(file, scenarioShape).map(({ value }) => ({
			scenario: value,
			profile: profileOf(file, null),
		})),
	);
	const replay = await quickReplay(plainReplayer as Replayer<never>, {}, all.length);
	const once = (): number => {
		const start = cpuSeconds();
		for (const { scenario, profile } of all) {
			const { mismatches } = replay(scenario, profile);
			if (mismatches.length > 0) throw new Error(`${scenario.id} does not pass`);
		}
		return all.length / (cpuSeconds() - start);
	};
	for (let i = 0; i < WARM; i++) once();
	const rates = Array.from({ length: MEASURED }, once);
	return [
		figure('scenarios under test/golden/hmm', all.length.toLocaleString('en-US')),
		bounded('  replayed on one core', median(rates), 'a second', LIMIT, 'least'),
	];
}
