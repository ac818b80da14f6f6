// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a trace shows each call with arguments, return value and virtual time, and is not there
 * unless asked for.
 * Method: a program started with the loader hook; the parts by themselves.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { device } from '../../../include/linux/device.ts';
import { EBUSY } from '../../../include/linux/errno.ts';
import { type page, vm_area_struct } from '../../../include/linux/mm_types.ts';
import { MemoryMap } from '../../../include/linux/mmzone.ts';
import { mutex } from '../../../include/linux/spinlock.ts';
import { outParam } from '../../../include/linux/types.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { run } from '../../../kernel/sched/core.ts';
import type { TraceEvent } from '../../../kernel/trace/event.ts';
import { formatFunctionGraph } from '../../../kernel/trace/function_graph.ts';
import { summarise } from '../../../kernel/trace/summary.ts';
import {
	canTrace,
	startTrace,
	stopTrace,
	Tracer,
	traceMark,
} from '../../../kernel/trace/tracer.ts';
import { tracingLines } from '../../../tools/trace/hook.js';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { bootTiny, messageOf } from '../tiny_world.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

TEST('program_started_with_the_hook_traces_both_threads', () => {
	const output = execFileSync(
		process.execPath,
		[
			'--import',
			'tsx',
			'--import',
			'./tools/trace/register.js',
			'test/kernel/trace/fixtures/traced.ts',
		],
		{ cwd: root, encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
	);
	const lines = output.trimEnd().split('\n');
	EXPECT_STREQ('# tracer: function_graph', lines[0]!);
	EXPECT_STREQ('reports: 0', lines.at(-1)!);
	EXPECT_TRUE(output.includes('0)   0.000 us    |  mutex_lock(lock=mutex(&dev->lock));'));
	EXPECT_TRUE(/^ 1\)\s+\| {2}mutex_lock\(lock=mutex\(&dev->lock\)\) \{$/m.test(output));
	EXPECT_TRUE(/^ 1\) ! 1000\.000 us \| {2}\} \/\* mutex_lock \*\/$/m.test(output));
	EXPECT_TRUE(/^ 1\) {2}a-2 {2}=> {2}b-3$/m.test(output));
	EXPECT_FALSE(output.includes('nested'));
});

TEST('without_the_hook_it_says_how_to_start', () => {
	const here = globalThis as { __ktrace?: unknown };
	EXPECT_EQ(here.__ktrace !== undefined, canTrace());
	EXPECT_TRUE(messageOf(() => startTrace()).includes('--import ./tools/trace/register.js'));
});

TEST('hook_wraps_top_level_functions_only', () => {
	const source = [
		'export function plain(a: int): int {',
		'	function inner() {}',
		'export function* sim(): Sim<void> {',
		'function helper() {',
		'const arrow = () => 0;',
		'export function plain(a: string): int;',
	].join('\n');
	EXPECT_STREQ(
		['plain', 'sim', 'helper']
			.map((n) => `${n} = globalThis.__ktrace.wrap('${n}', ${n}, 'mm/x.ts');`)
			.join('\n'),
		tracingLines(source, 'mm/x.ts'),
	);
});

/** Run something with a tracer of this test's own. */
function traced(
	filter: Parameters<typeof startTrace>[0],
	body: (tracer: Tracer) => void,
): TraceEvent[] {
	const here = globalThis as { __ktrace?: Tracer };
	const before = here.__ktrace;
	const tracer = new Tracer();
	here.__ktrace = tracer;
	try {
		startTrace(filter);
		body(tracer);
		return stopTrace();
	} finally {
		here.__ktrace = before!;
		if (before === undefined) delete here.__ktrace;
	}
}

/** outer() calls inner() twice. */
function family(tracer: Tracer, module = 'mm/x.ts'): (n: number) => number {
	const inner = tracer.wrap('inner', ((n: number) => -n) as never, module) as (
		n: number,
	) => number;
	const outer = (n: number): number => inner(n) + inner(n);
	return tracer.wrap('outer', outer as never, module) as (n: number) => number;
}

TEST('filters_choose_as_those_of_ftrace', () => {
	const names = (filter: Parameters<typeof startTrace>[0], module?: string): string =>
		traced(filter, (t) => family(t, module)(8))
			.map(({ name, depth }) => `${name}${depth}`)
			.join(' ');
	EXPECT_STREQ('outer0 inner1 inner1', names(undefined));
	EXPECT_STREQ('inner0 inner0', names({ functions: ['in*'] }));
	EXPECT_STREQ('outer0', names({ notrace: ['inne?'] }));
	EXPECT_STREQ('', names({ graph: ['elsewhere'] }));
	EXPECT_STREQ('outer0 inner1 inner1', names({ graph: ['outer'] }));
	EXPECT_STREQ('outer0', names({ maxDepth: 1 }));
	EXPECT_STREQ('', names({}, 'include/linux/x.ts'));
	EXPECT_STREQ(
		'outer0 inner1 inner1',
		names({ modules: ['include/'] }, 'include/linux/x.ts'),
	);
});

TEST('mark_stands_between_the_calls_as_a_comment', () => {
	traceMark(() => {
		throw new Error('nobody records');
	});
	const events = traced({}, (tracer) => {
		const inner = tracer.wrap('inner', (() => 0) as never, 'mm/x.ts');
		const body = (): void => {
			inner();
			traceMark(() => 'invalidate');
			inner();
		};
		tracer.wrap('outer', body as never, 'mm/x.ts')();
	});
	const [, first = '', mark = '', second = ''] = formatFunctionGraph(events).slice(4);
	EXPECT_STREQ(' 0)   0.000 us    |    inner();', first);
	EXPECT_STREQ(' 0)               |    /* invalidate */', mark);
	EXPECT_STREQ(first, second);
});

TEST('wrapped_function_is_the_same_from_outside', () => {
	bootTiny();
	const tracer = new Tracer();
	const outer = family(tracer);
	EXPECT_STREQ('outer 1', `${outer.name} ${outer.length}`);
	EXPECT_EQ(-16, outer(8));
	const sim = function* (n: number): Sim<number> {
		yield { access: 'yield', object: tracer };
		return n + 1;
	};
	const wrapped = tracer.wrap('sim', sim as never, 'mm/x.ts') as typeof sim;
	EXPECT_EQ(3, run(wrapped(2)));
	const events = traced({}, (t) => {
		run((t.wrap('sim', sim as never, 'mm/x.ts') as typeof sim)(2));
		const fail = t.wrap(
			'fail',
			(() => {
				throw new RangeError('x');
			}) as never,
			'mm/x.ts',
		);
		const failSim = t.wrap(
			'failSim',
			function* () {
				yield { access: 'yield', object: tracer };
				throw new RangeError('y');
			} as never,
			'mm/x.ts',
		) as () => Sim<void>;
		messageOf(() => fail());
		messageOf(() => run(failSim()));
	});
	EXPECT_STREQ(
		'sim:3:false fail:null:true failSim:null:true',
		events.map(({ name, returned, threw }) => `${name}:${returned}:${threw}`).join(' '),
	);
	EXPECT_EQ(1000n, events[0]!.left! - events[0]!.entered);
	EXPECT_TRUE(formatFunctionGraph(events).at(-1)!.endsWith('failSim(); /* oops */'));
});

TEST('misuse_names_the_call', () => {
	traced({}, () => {
		EXPECT_TRUE(messageOf(() => startTrace()).includes('a trace is running'));
	});
	traced({}, () => {
		stopTrace();
		EXPECT_TRUE(messageOf(stopTrace).includes('no trace is running'));
		startTrace();
	});
});

TEST('call_that_has_not_returned_is_left_open', () => {
	const events = traced({}, (t) => {
		const stuck = t.wrap(
			'stuck',
			function* () {
				yield { access: 'yield', object: t };
			} as never,
			'mm/x.ts',
		) as () => Sim<void>;
		stuck().next();
	});
	EXPECT_NULL(events[0]!.left);
	EXPECT_STREQ(
		' 0)               |  stuck() {  # mm/x.ts',
		formatFunctionGraph(events, { modules: true }).at(-1)!,
	);
});

TEST('values_are_told_in_a_few_characters', () => {
	const map = new MemoryMap();
	map.add({ start: 0, end: 256, pgmap: null, idle: 0 });
	const p = map.page(0x81) as page;
	const told: [unknown, string][] = [
		[-EBUSY, '-EBUSY'],
		[-1000, '-1000'],
		[7, '7'],
		[0x1234n, '0x1234'],
		[-1n, '-0x1'],
		[null, 'NULL'],
		[undefined, ''],
		[true, 'true'],
		['x'.repeat(50), `"${'x'.repeat(37)}..."`],
		[messageOf, 'messageOf'],
		[() => 0, 'function'],
		[[1, 2], 'array[2]'],
		[new BigUint64Array(4), 'BigUint64Array[4]'],
		[outParam(5n), '&0x5'],
		[outParam(p), '&page(pfn 0x81)'],
		[p, 'page(pfn 0x81)'],
		[new mutex('m'), 'mutex(m)'],
		[new device({ init_name: '0000:01:00.0' }), 'device(0000:01:00.0)'],
		[
			new vm_area_struct({ vm_start: 0x1000n, vm_end: 0x2000n }),
			'vm_area_struct[0x1000-0x2000]',
		],
		[{ start: 1n, end: 2n }, '0x1-0x2'],
		[{ a: 1, b: 2 }, '{}'],
		[new MemoryMap(), 'MemoryMap'],
	];
	for (const [value, text] of told) EXPECT_STREQ(text, summarise(value));
	class pci_dev {
		dev = new device({ init_name: '0000:02:00.0' });
	}
	EXPECT_STREQ('pci_dev(0000:02:00.0)', summarise(new pci_dev()));
});
