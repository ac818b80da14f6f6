// SPDX-License-Identifier: GPL-2.0-only
/** `kproto replay p2p PATH...`: records of P2PDMA on many machines. */
import { progressBar } from '../../kproto/progress.ts';
import { parseReplayOptions, refuseOptions } from '../options.ts';
import { ReplayResults } from '../report.ts';
import { profileOf, recordFiles } from '../sources.ts';
import { RecordCache, replayFile } from './folder.ts';

/**
 * Replay.
 *
 * @param argv - options and paths
 * @returns 0 every record passes, 1 one does not
 * @throws UserError
 */
export async function main(argv: string[]): Promise<number> {
	const options = parseReplayOptions(argv);
	refuseOptions(options, 'p2p', ['strict', 'features', 'trace', 'findings', 'unguarded']);
	const files = options.paths.flatMap(recordFiles);
	const results = new ReplayResults(options.json);
	const cache = new RecordCache();
	const bar = progressBar();
	bar.start(files.length, 0, { machine: '' });
	for (const [i, file] of files.entries()) {
		const profile = profileOf(file, options.profile);
		let count = 0;
		for (const { title, mismatches } of replayFile(
			file,
			profile,
			cache,
			options.filter,
		)) {
			results.add(title, profile, mismatches);
			bar.update(i, { machine: `${file} ${++count}` });
		}
	}
	bar.stop();
	return results.finish();
}
