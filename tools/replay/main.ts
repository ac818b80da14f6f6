// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto replay FAMILY PATH...`: ask the model what real kernels were asked, and compare answers.
 *
 * A family is a kind of records with a replayer of its own, in a folder of its own. What they share:
 * the command line (options.ts), how records are found, read and given a profile (sources.ts), what
 * a record must look like (shape.ts), and how results are told (report.ts).
 */
import { tellMistake, UserError } from '../kproto/user_error.ts';
import { replayUsage } from './options.ts';

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
	const names = Object.keys(families);
	const help = ['--help', '-h'];
	if (name === 'help' || argv.some((one) => help.includes(one))) {
		process.stdout.write(replayUsage(names));
		return 0;
	}
	try {
		if (name === undefined) throw new UserError(`which records? ${names.join(', ')}`);
		const load = Object.hasOwn(families, name) ? families[name] : undefined;
		if (load === undefined)
			throw new UserError(
				`there are no records "${name}"; there are ${names.join(', ')}`,
			);
		const family = await load();
		return await family.main(rest);
	} catch (error) {
		return tellMistake('replay', error);
	}
}
