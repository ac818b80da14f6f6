// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto kselftest`: the suites, run by vitest, told as kselftest tells them.
 *
 * Exit codes are kselftest's: 0 passed, 1 failed, 4 nothing ran or help was asked for.
 */
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type CliOptions, createVitest, startVitest, type Vite } from 'vitest/node';
import { jsonResult } from './json.ts';
import { listTests } from './list.ts';
import { type Options, parseOptions, UsageError, usage } from './options.ts';
import { KtapReporter } from './reporter.ts';
import { isFailure, totalsOf } from './results.ts';
import { Rerunner } from './watch.ts';

const KSFT_PASS = 0;
const KSFT_FAIL = 1;
const KSFT_SKIP = 4;

const root = fileURLToPath(new URL('../..', import.meta.url));
const logFile = 'output.log';

/**
 * Run, watch or list the suites.
 *
 * @param argv - the flags, see `usage`
 * @returns the exit code
 */
export async function main(argv: string[]): Promise<number> {
	try {
		const options = parseOptions(argv, process.env);
		if (options.help) {
			process.stderr.write(usage);
			return KSFT_SKIP;
		}
		const dir = options.dir === null ? resolve(root, 'test') : resolve(options.dir);
		checkTargets(options, dir);
		return options.list ? await list(options, dir) : await run(options, dir);
	} catch (error) {
		if (!(error instanceof UsageError)) throw error;
		process.stderr.write(`kselftest: ${error.message}\n`);
		return KSFT_FAIL;
	}
}

function checkTargets({ targets, skipTargets }: Options, dir: string): void {
	if (!existsSync(dir)) throw new UsageError(`there is no folder ${dir}`);
	for (const target of [...targets, ...skipTargets])
		if (!existsSync(resolve(dir, target)))
			throw new UsageError(
				`there is no target "${target}": ${resolve(dir, target)} is missing`,
			);
}

/** What vitest is told for both running and listing. */
function vitestOptions(options: Options, dir: string, rerunner: Rerunner | null): CliOptions {
	const targets = options.targets.length === 0 ? ['.'] : options.targets;
	// the samples of the harness's own tests fail on purpose
	const samples = options.dir === null ? [resolve(dir, 'tools/fixtures/**')] : [];
	return {
		root,
		config: resolve(root, 'vitest.config.ts'),
		include: targets.map((target) => resolve(dir, target, '**/*-tests.ts')),
		exclude: [
			...samples,
			...options.skipTargets.map((target) => resolve(dir, target, '**')),
		],
		provide: { kselftestFilters: options.filters, kselftestSpeeds: options.speeds },
		passWithNoTests: true,
		watch: options.watch,
		...(process.env['NODE_V8_COVERAGE'] ? {} : bundled(rerunner)),
	};
}

/** Suites as bundles; an edit runs those whose bundle has the edited file in it. */
function bundled(rerunner: Rerunner | null): CliOptions {
	const testsToRun = (file: string): string[] | null => rerunner?.edited(file) ?? null;
	return {
		runner: fileURLToPath(new URL('runner.js', import.meta.url)),
		execArgv: [],
		watchTriggerPatterns: [{ pattern: /\.ts$/, testsToRun }],
	} as CliOptions;
}

/** Whether a run is about a suite. */
function askedFor({ paths, targets }: Options, dir: string): (suite: string) => boolean {
	const folders =
		targets.length === 0 ? [dir] : targets.map((target) => resolve(dir, target));
	return (suite) =>
		folders.some((folder) => suite.startsWith(`${folder}/`)) &&
		(paths.length === 0 || paths.some((path) => suite.includes(path)));
}

/** Vite watches the tree; suites may lie elsewhere. */
function watching(dir: string): Vite.Plugin {
	return { name: 'watch-dir', configureServer: ({ watcher }) => void watcher.add(dir) };
}

// vitest's own words must not get between the lines of KTAP
const streams = { stdout: process.stderr, stderr: process.stderr };

async function list(options: Options, dir: string): Promise<number> {
	const vitest = await createVitest(
		'test',
		{ ...vitestOptions(options, dir, null), watch: false, reporters: [{}] },
		{},
		streams,
	);
	const { testModules } = await vitest.collect(options.paths);
	process.stderr.write(`${listTests(testModules).join('\n')}\n`);
	await vitest.close();
	return KSFT_SKIP;
}

async function run(options: Options, dir: string): Promise<number> {
	const ktap = options.json === '' ? process.stderr : process.stdout;
	if (options.summary) writeFileSync(logFile, '');
	// read by vitest.config.ts: a pool of one's own cannot be given here
	if (options.watch) process.env['KSELFTEST_WATCH'] = '1';
	else delete process.env['KSELFTEST_WATCH'];
	const reporter = new KtapReporter({
		dir,
		summary: options.summary,
		selective: options.filters.length > 0 || options.speeds.length < 3,
		print: (lines) => ktap.write(`${lines.join('\n')}\n`),
		detail: (lines) => appendFileSync(logFile, `${lines.join('\n')}\n`),
	});
	const rerunner = options.watch ? new Rerunner(askedFor(options, dir)) : null;
	const vitest = await startVitest(
		'test',
		options.paths,
		{
			...vitestOptions(options, dir, rerunner),
			reporters: [reporter],
		},
		{ plugins: [watching(dir)] },
		streams,
	);
	if (rerunner !== null) {
		rerunner.ready(vitest);
		await new Promise<void>((resolve) => vitest.onClose(resolve));
		return KSFT_PASS;
	}
	await vitest.close();
	if (options.json === '') process.stdout.write(`${jsonResult(reporter.results)}\n`);
	else if (options.json !== null)
		writeFileSync(options.json, `${jsonResult(reporter.results)}\n`);
	return exitCode(reporter);
}

function exitCode({ results }: KtapReporter): number {
	if (results.some(({ status }) => isFailure(status))) return KSFT_FAIL;
	const { pass, xfail } = totalsOf(results);
	return pass + xfail === 0 ? KSFT_SKIP : KSFT_PASS;
}
