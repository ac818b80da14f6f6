// SPDX-License-Identifier: GPL-2.0-only
/**
 * The command line: the flags of kselftest_harness.h, the variables of kselftest's Makefile, and
 * those of run_kselftest.sh and kunit.py that mean something here.
 */
import { parseArgs } from 'node:util';
import type { Filter } from '../../test/harness/filter.ts';
import type { Speed } from '../../test/harness/verdict.ts';

/** What to run, and how to tell. */
export interface Options {
	help: boolean;
	list: boolean;
	watch: boolean;
	summary: boolean;
	/** Null: none; '': to standard output; else the file to write. */
	json: string | null;
	/** Suites lie below this folder; null: `test/` of this tree. */
	dir: string | null;
	/** Flags that select tests, in their order. */
	filters: Filter[];
	speeds: Speed[];
	targets: string[];
	skipTargets: string[];
	/** Parts of paths: suites whose path has one of them run. */
	paths: string[];
}

/** A command line that makes no sense. */
export class UsageError extends Error {}

/** What -h prints; the first half is kselftest's own. */
export const usage = `Usage: kselftest [-h|-l] [-t|-T|-v|-V|-f|-F|-r name] [VARIABLE=value] [path]
	-h       print help
	-l       list all tests

	-t name  include test
	-T name  exclude test
	-v name  include variant
	-V name  exclude variant
	-f name  include fixture
	-F name  exclude fixture
	-r name  run specified test

Test filter options can be specified multiple times. The filtering stops
at the first match. For example to include all tests from variant 'bla'
but not test 'foo' specify '-T foo -v bla'.

	-c dir, TARGETS="dir dir"  suites below these folders of test/
	-t dir:suite               one suite
	SKIP_TARGETS="dir dir"     none below these
	-s, summary=1              results of suites only, the rest to output.log
	path                       suites whose path has this part

	--filter 'speed<=slow'     by speed: normal, slow, very_slow
	--json[=FILE]              results in the schema of kunit.py
	--watch                    run again what an edit touches
	--dir DIR                  suites below DIR instead of test/
`;

const flagOption = { type: 'string', multiple: true } as const;

const config = {
	h: { type: 'boolean', short: 'h' },
	help: { type: 'boolean' },
	l: { type: 'boolean', short: 'l' },
	s: { type: 'boolean', short: 's' },
	c: { ...flagOption, short: 'c' },
	t: { ...flagOption, short: 't' },
	T: { ...flagOption, short: 'T' },
	v: { ...flagOption, short: 'v' },
	V: { ...flagOption, short: 'V' },
	f: { ...flagOption, short: 'f' },
	F: { ...flagOption, short: 'F' },
	r: { ...flagOption, short: 'r' },
	filter: { type: 'string' },
	watch: { type: 'boolean' },
	dir: { type: 'string' },
} as const;

/**
 * Read the command line.
 *
 * @param argv - the arguments
 * @param env - where TARGETS, SKIP_TARGETS and summary may also come from
 * @throws UsageError
 */
export function parseOptions(argv: readonly string[], env: NodeJS.ProcessEnv): Options {
	// --json takes its value only after `=`, which parseArgs has no word for
	const json = argv.filter((arg) => arg === '--json' || arg.startsWith('--json=')).at(-1);
	const args = argv.filter((arg) => arg !== json);
	const { values, tokens } = parse(args);
	const variables = new Map<string, string>();
	for (const name of ['TARGETS', 'SKIP_TARGETS', 'summary'])
		if (env[name] !== undefined) variables.set(name, env[name]);
	const options: Options = {
		help: Boolean(values.h || values.help),
		list: Boolean(values.l),
		watch: Boolean(values.watch),
		summary: Boolean(values.s),
		json: json === undefined ? null : json.slice('--json='.length),
		dir: values.dir ?? null,
		filters: [],
		speeds: speedsOf(values.filter),
		targets: [],
		skipTargets: [],
		paths: [],
	};
	for (const token of tokens) {
		if (token.kind === 'positional') readPositional(token.value, variables, options);
		else if (token.kind === 'option' && token.value !== undefined)
			readFlag(token.name, token.value, options);
	}
	options.targets.push(...words(variables.get('TARGETS')));
	options.skipTargets.push(...words(variables.get('SKIP_TARGETS')));
	options.summary ||= words(variables.get('summary')).some((word) => word !== '0');
	return options;
}

function parse(args: string[]) {
	try {
		return parseArgs({ args, options: config, allowPositionals: true, tokens: true });
	} catch (error) {
		throw new UsageError((error as Error).message);
	}
}

function readPositional(text: string, variables: Map<string, string>, options: Options): void {
	const assignment = /^(TARGETS|SKIP_TARGETS|summary)=(.*)$/.exec(text);
	if (assignment === null) options.paths.push(text);
	else variables.set(assignment[1] ?? '', assignment[2] ?? '');
}

function readFlag(name: string, value: string, options: Options): void {
	if (name === 'c') options.targets.push(value);
	else if (name === 't' && value.includes(':')) options.paths.push(value.replace(':', '/'));
	else if (/^[tTvVfFr]$/.test(name))
		options.filters.push({ flag: name as Filter['flag'], name: value });
}

function words(text = ''): string[] {
	return text.split(/\s+/).filter((word) => word !== '');
}

/** KUnit's filter by attribute, of which there is one: speed, where slower is less. */
function speedsOf(filter: string | undefined): Speed[] {
	const order: Speed[] = ['very_slow', 'slow', 'normal'];
	if (filter === undefined) return order;
	const [, operator = '', name = ''] = /^speed(<=|>=|!=|=|<|>)(\w+)$/.exec(filter) ?? [];
	const bound = order.indexOf(name as Speed);
	if (bound < 0)
		throw new UsageError(
			`--filter: expected speed, a comparison and a speed, not "${filter}"`,
		);
	return order.filter((_, at) => {
		if (operator === '!=') return at !== bound;
		const equal = operator.includes('=') && at === bound;
		return (
			equal ||
			(operator.startsWith('<') && at < bound) ||
			(operator.startsWith('>') && at > bound)
		);
	});
}
