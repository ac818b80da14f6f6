// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto replay FAMILY PATH...`: ask the model what real kernels were asked, and compare answers.
 *
 * A family is a kind of records with a replayer of its own, in a folder of its own. What they share:
 * the command line (options.ts), how records are found, read and given a profile (sources.ts), what
 * a record must look like (shape.ts), and how results are told (report.ts).
 */
import { ReplayUsageError, replayUsage } from './options.ts';
import { RecordError } from './sources.ts';

/** What a family's main.ts exports. */
interface Family {
	/** @param argv - what follows the family's name @returns the exit code */
	main(argv: string[]): Promise<number>;
}

const families: Readonly<Record<string, () => Promise<Family>>> = {
	hmm: () => import('./hmm/main.ts'),
	proposal: () => import('./proposal/main.ts'),
	p2p: () => import('./p2p/main.ts'),
};

/**
 * Replay records.
 *
 * @param argv - family, options, paths
 * @returns 0 every record passes, 1 one does not, 2 a record or the command line makes no sense
 */
export async function main(argv: string[]): Promise<number> {
	const [name, ...rest] = argv;
	const usage = replayUsage(Object.keys(families));
	if (name === 'help' || name === '--help' || name === '-h') {
		process.stdout.write(usage);
		return 0;
	}
	const load =
		name !== undefined && Object.hasOwn(families, name) ? families[name] : undefined;
	if (load === undefined) {
		const what =
			name === undefined ? 'which records?' : `there are no records "${name}"`;
		process.stderr.write(`replay: ${what}\n\n${usage}`);
		return 2;
	}
	try {
		const family = await load();
		return await family.main(rest);
	} catch (error) {
		if (error instanceof RecordError)
			process.stderr.write(`replay: ${error.message}\n`);
		else if (error instanceof ReplayUsageError)
			process.stderr.write(`replay: ${error.message}\n\n${usage}`);
		else throw error;
		return 2;
	}
}
