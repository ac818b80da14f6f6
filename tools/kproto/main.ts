// SPDX-License-Identifier: GPL-2.0-only
/**
 * The kproto command: one folder of tools/ for each subcommand.
 *
 * A subcommand's modules are loaded only when it is asked for, so that a one-shot test run does not
 * pay for the tools of the others.
 */

/** What a subcommand's main.ts exports. */
interface Subcommand {
	/** @param argv - what follows the subcommand @returns the exit code */
	main(argv: string[]): Promise<number>;
}

interface Entry {
	readonly brief: string;
	load(): Promise<Subcommand>;
}

const subcommands: Readonly<Record<string, Entry>> = {
	demo: {
		brief: 'follow one page from a GPU to a NIC, on every machine',
		load: () => import('../demo/main.ts'),
	},
	topo: {
		brief: 'who reaches whose memory on a machine, and by which path',
		load: () => import('../topo/main.ts'),
	},
	kselftest: {
		brief: 'run the suites, KTAP on standard output',
		load: () => import('../kselftest/main.ts'),
	},
	replay: {
		brief: 'ask the model what real kernels were asked, and compare answers',
		load: () => import('../replay/main.ts'),
	},
	profiles: {
		brief: 'the feature switches, and which released kernel has each',
		load: () => import('../profiles/main.ts'),
	},
	lint: {
		brief: 'hold the tree against the rules that only this project has',
		load: () => import('../lint/main.ts'),
	},
	coverage: {
		brief: 'run the suites and tell what they did not reach',
		load: () => import('../coverage/main.ts'),
	},
};

function usage(): string {
	const rows = Object.entries(subcommands).map(
		([name, { brief }]) => `  ${name.padEnd(12)}${brief}`,
	);
	return ['usage: kproto COMMAND [ARGUMENT...]', '', ...rows, ''].join('\n');
}

/**
 * Run a subcommand.
 *
 * @param argv - the command line without the command itself
 * @returns the exit code; 2 for a command line that makes no sense
 */
export async function main(argv: string[]): Promise<number> {
	const [name, ...rest] = argv;
	if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
		process.stdout.write(usage());
		return name === undefined ? 2 : 0;
	}
	const entry = Object.hasOwn(subcommands, name) ? subcommands[name] : undefined;
	if (entry === undefined) {
		process.stderr.write(`kproto: there is no command "${name}"\n\n${usage()}`);
		return 2;
	}
	const { main: run } = await entry.load();
	return run(rest);
}
