// SPDX-License-Identifier: GPL-2.0-only
/**
 * kselftest's harness: fixtures, variants and tests that read like the kernel's own.
 *
 *	const hmm = FIXTURE('hmm', () => ({ fd: -1 }), FIXTURE_VARIANT({ device_number: 0 }));
 *
 *	FIXTURE_VARIANT_ADD(hmm, 'hmm_device_private', { device_number: 0 });
 *	FIXTURE_VARIANT_ADD(hmm, 'hmm_device_coherent', { device_number: 2 });
 *
 *	FIXTURE_SETUP(hmm, (self, variant) => {
 *		boot(machine);
 *		self.fd = hmm_open(variant.device_number);
 *		ASSERT_GE(self.fd, 0);
 *	});
 *
 *	TEST_F(hmm, 'open_close', function* (self) {
 *		EXPECT_EQ(0, yield* hmm_close(self.fd));
 *	});
 *
 * Guarantee: a test passes only if it asserted something, no assertion failed, and the booted world
 * could be shut down with nothing leaked and no report that the test did not expect.
 * Mechanism: tests become vitest's when the file has been read, in kselftest's order: a fixture's
 * variants, in each its tests. A generator body is simulated kernel code and goes through `run()`.
 * Duty: `boot()` comes before the first `yield`, best in FIXTURE_SETUP; a test boots for itself.
 */
import vm from 'node:vm';
import { describe, inject, test as vitestTest } from 'vitest';
import { HarnessError, KernelOops, type Report } from '../include/sim/report.ts';
import type { Sim } from '../include/sim/schedule.ts';
import { installedWorld, installWorld } from '../include/sim/world.ts';
import type { run as Run } from '../kernel/sched/core.ts';
import { type Filter, isSelected } from './harness/filter.ts';
import { treePlaces } from './harness/source.ts';
import {
	AssertionStop,
	type KselftestMeta,
	type ReportPattern,
	SkipStop,
	type Speed,
	setVerdict,
	Verdict,
	verdict,
} from './harness/verdict.ts';

export * from './harness/assert.ts';
export type { ReportPattern, Speed } from './harness/verdict.ts';

declare module 'vitest' {
	interface TaskMeta {
		kselftest?: KselftestMeta;
	}
	interface ProvidedContext {
		kselftestFilters: Filter[];
		kselftestSpeeds: Speed[];
	}
}

/** Seconds that a test may take, as in kselftest_harness.h. */
export const TEST_TIMEOUT_DEFAULT = 30;

/** By how much a slow test may take longer, as KUnit scales its timeouts. */
const speedFactor: Readonly<Record<Speed, number>> = { normal: 1, slow: 3, very_slow: 12 };

/** A generator body is simulated kernel code; a promise is for tests of the tools. */
export type Body<Args extends unknown[]> = (...args: Args) => Sim<void> | Promise<void> | void;

/** Attributes of a test. */
export interface Attributes {
	readonly speed?: Speed;
	/** Seconds, in place of TEST_TIMEOUT_DEFAULT by speed. */
	readonly timeout?: number;
}

interface RegisteredTest<Self, Variant> {
	readonly name: string;
	readonly body: Body<[self: Self, variant: Variant]>;
	readonly attributes: Attributes;
}

/** What FIXTURE() makes: the tests that share a setup. */
export class Fixture<Self, Variant> {
	readonly name: string;
	readonly make: () => Self;
	readonly zero: Variant;
	readonly variants = new Map<string, Variant>();
	readonly tests: RegisteredTest<Self, Variant>[] = [];
	readonly xfails = new Map<string, string>();
	setup: Body<[self: Self, variant: Variant]> | null = null;
	teardown: Body<[self: Self, variant: Variant]> | null = null;

	constructor(name: string, make: () => Self, zero: Variant) {
		this.name = name;
		this.make = make;
		this.zero = zero;
		describe(name, () => register(this));
	}
}

/** The struct that FIXTURE_VARIANT() declares. */
export interface VariantStruct<Variant> {
	readonly zero: Variant;
}

/**
 * Declare a fixture.
 *
 * @param name - its name
 * @param fields - makes the `self` of one test
 * @param variant - the fields of its variants, by FIXTURE_VARIANT()
 */
export function FIXTURE<Self, Variant = null>(
	name: string,
	fields: () => Self,
	variant?: VariantStruct<Variant>,
): Fixture<Self, Variant> {
	return new Fixture(checkName('FIXTURE', name), fields, variant?.zero ?? (null as Variant));
}

/**
 * Declare the fields of a fixture's variants.
 *
 * @param zero - every field, with the value it has where a variant does not name it
 */
export function FIXTURE_VARIANT<Variant extends object>(zero: Variant): VariantStruct<Variant> {
	return { zero };
}

/**
 * Add a variant: every test of the fixture runs once in each.
 *
 * @param fixture - the fixture
 * @param name - the variant's name
 * @param fields - what differs from the zero that FIXTURE_VARIANT() declared
 */
export function FIXTURE_VARIANT_ADD<Self, Variant extends object>(
	fixture: Fixture<Self, Variant>,
	name: string,
	fields: Partial<Variant>,
): void {
	if (fixture.zero === null)
		throw new HarnessError(
			'FIXTURE_VARIANT_ADD',
			`${fixture.name} has no FIXTURE_VARIANT`,
		);
	if (fixture.variants.has(checkName('FIXTURE_VARIANT_ADD', name)))
		throw new HarnessError(
			'FIXTURE_VARIANT_ADD',
			`${fixture.name} has a variant ${name} already`,
		);
	fixture.variants.set(name, { ...fixture.zero, ...fields });
}

/**
 * What runs before each test of the fixture; where it fails, the test does not run.
 *
 * @param fixture - the fixture
 * @param body - the setup
 */
export function FIXTURE_SETUP<Self, Variant>(
	fixture: Fixture<Self, Variant>,
	body: Body<[self: Self, variant: Variant]>,
): void {
	fixture.setup = body;
}

/**
 * What runs after each test of the fixture whose setup succeeded, also when the test failed.
 *
 * @param fixture - the fixture
 * @param body - the teardown
 */
export function FIXTURE_TEARDOWN<Self, Variant>(
	fixture: Fixture<Self, Variant>,
	body: Body<[self: Self, variant: Variant]>,
): void {
	fixture.teardown = body;
}

/**
 * A test of a fixture.
 *
 * @param fixture - the fixture
 * @param name - the behaviour that it shows
 * @param body - the test
 * @param attributes - speed and timeout
 */
export function TEST_F<Self, Variant>(
	fixture: Fixture<Self, Variant>,
	name: string,
	body: Body<[self: Self, variant: Variant]>,
	attributes: Attributes = {},
): void {
	if (fixture.tests.some((one) => one.name === checkName('TEST_F', name)))
		throw new HarnessError('TEST_F', `${fixture.name} has a test ${name} already`);
	nameInTraces(body, name);
	fixture.tests.push({ name, body, attributes });
}

/** Tests without a fixture belong to this one, as in the kernel; one for each file. */
let global: Fixture<null, null> | null = null;

/**
 * A test without a fixture.
 *
 * @param name - the behaviour that it shows
 * @param body - the test
 * @param attributes - speed and timeout
 */
export function TEST(name: string, body: Body<[]>, attributes: Attributes = {}): void {
	global ??= new Fixture('global', () => null, null);
	nameInTraces(body, name);
	TEST_F(global, name, () => body(), attributes);
}

/**
 * Expect a test to fail: a known gap. That it passes is then a failure, too.
 *
 * @param fixture - its fixture; null for a TEST()
 * @param variant - its variant; null where the fixture has none
 * @param name - its name
 * @param reason - what is missing
 */
export function XFAIL_ADD<Self, Variant>(
	fixture: Fixture<Self, Variant> | null,
	variant: string | null,
	name: string,
	reason: string,
): void {
	const owner = fixture ?? global;
	if (owner === null) throw new HarnessError('XFAIL_ADD', `comes after its TEST(): ${name}`);
	if (reason === '') throw new HarnessError('XFAIL_ADD', `${name} needs a reason`);
	owner.xfails.set(fullName(owner.name, variant ?? '', name), reason);
}

/**
 * End the test as skipped.
 *
 * @param reason - why it cannot run here
 */
export function SKIP(reason: string): never {
	if (reason === '') throw new HarnessError('SKIP', 'needs a reason');
	throw new SkipStop(reason);
}

/**
 * Announce a report that the test provokes; that it does not occur is a failure.
 *
 * @param pattern - matches the report's title or text
 */
export function expectReport(pattern: ReportPattern): void {
	const test = verdict('expectReport');
	test.asserted = true;
	test.expected.push(pattern);
}

/** Call traces show the test by its name, as C would the function. */
function nameInTraces(body: object, name: string): void {
	Object.defineProperty(body, 'name', { value: name });
}

function checkName(call: string, name: string): string {
	if (!/^\w+$/.test(name))
		throw new HarnessError(
			call,
			`a name is letters, digits and underscores, not "${name}"`,
		);
	return name;
}

function fullName(fixture: string, variant: string, test: string): string {
	return [fixture, variant, test].filter((part) => part !== '').join('.');
}

/** Hand the tests of a fixture to vitest; runs when the whole file has been read. */
function register<Self, Variant>(fixture: Fixture<Self, Variant>): void {
	const filters = inject('kselftestFilters') ?? [];
	const speeds = inject('kselftestSpeeds') ?? ['normal', 'slow', 'very_slow'];
	const xfails = new Set(fixture.xfails.keys());
	const variants: [string, Variant][] =
		fixture.variants.size === 0 ? [['', fixture.zero]] : [...fixture.variants];
	for (const [variantName, variant] of variants) {
		for (const { name, body, attributes } of fixture.tests) {
			const full = fullName(fixture.name, variantName, name);
			const { speed = 'normal' } = attributes;
			xfails.delete(full);
			const meta: KselftestMeta = {
				fixture: fixture.name,
				variant: variantName,
				test: name,
				speed,
			};
			if (!isSelected(filters, meta) || !speeds.includes(speed)) continue;
			const seconds =
				attributes.timeout ?? TEST_TIMEOUT_DEFAULT * speedFactor[speed];
			const options = {
				meta: { kselftest: meta },
				timeout: (seconds + 5) * 1000,
			};
			vitestTest(full, options, async ({ task, skip, expect }) => {
				const trial = new Trial(fixture, variant, name, body, seconds);
				await trial.perform();
				const result = trial.outcome(fixture.xfails.get(full) ?? null);
				Object.assign(task.meta.kselftest ?? {}, result);
				// the configuration wants an assertion of vitest's own in each test
				expect(result.outcome).toBeTypeOf('string');
				if (result.outcome === 'skip') skip(result.reason);
				if (result.outcome === 'fail' || result.outcome === 'xpass')
					throw new TestFailure(result.diagnostics ?? []);
			});
		}
	}
	const [unknown] = xfails;
	if (unknown !== undefined)
		throw new HarnessError('XFAIL_ADD', `there is no test ${unknown}`);
}

/** What vitest is told of a failed test: the diagnostics are the message, there is no stack. */
class TestFailure extends Error {
	constructor(diagnostics: string[]) {
		super(diagnostics.join('\n'));
		this.stack = this.message;
	}
}

type Result = Pick<KselftestMeta, 'outcome' | 'reason' | 'diagnostics' | 'timeout'>;

/** One test in one variant, from its setup to the check of the world it leaves. */
class Trial<Self, Variant> {
	readonly verdict: Verdict;
	skipped: string | null = null;
	timedOut = false;
	/** The simulated kernel cannot go on: nothing more is run in it, and its leaks say nothing. */
	dead = false;
	oopses: Report[] = [];
	readonly fixture: Fixture<Self, Variant>;
	readonly variant: Variant;
	readonly body: Body<[self: Self, variant: Variant]>;
	readonly seconds: number;

	constructor(
		fixture: Fixture<Self, Variant>,
		variant: Variant,
		name: string,
		body: Body<[self: Self, variant: Variant]>,
		seconds: number,
	) {
		this.fixture = fixture;
		this.variant = variant;
		this.verdict = new Verdict(name);
		this.body = body;
		this.seconds = seconds;
	}

	async perform(): Promise<void> {
		setVerdict(this.verdict);
		try {
			const { run } = await import('../kernel/sched/core.ts');
			await bounded(this.bodies(run), this.seconds);
		} catch (error) {
			this.note(error);
		}
		this.verdict.sumUp();
		await this.checkWorld();
		setVerdict(null);
	}

	/** Setup, test and teardown in the order and under the conditions of kselftest. */
	*bodies(run: typeof Run): Pending<void> {
		const { setup, teardown, make } = this.fixture;
		const self = make();
		if (setup !== null && !(yield* this.attempt(run, setup, self))) return;
		if (this.verdict.failures.length > 0) return;
		yield* this.attempt(run, this.body, self);
		if (teardown !== null && !this.dead) yield* this.attempt(run, teardown, self);
	}

	/** Run one of the three; false: it did not get to its end. */
	*attempt(
		run: typeof Run,
		body: Body<[self: Self, variant: Variant]>,
		self: Self,
	): Pending<boolean> {
		try {
			const result: ReturnType<Body<[]>> = body(self, this.variant);
			if (result instanceof Promise) yield result;
			else if (result) runKernelCode(run, result);
			return true;
		} catch (error) {
			this.note(error);
			return false;
		}
	}

	note(error: unknown): void {
		const { failures, test } = this.verdict;
		if (error instanceof AssertionStop) return;
		if (error instanceof SkipStop) {
			this.skipped = error.message;
		} else if (error instanceof KernelOops) {
			this.dead = true;
			this.oopses.push(error.report);
		} else if (error instanceof Timeout) {
			this.dead = true;
			this.timedOut = true;
			failures.push(`${test}: Test terminated by timeout`);
		} else {
			failures.push(...describeException(error, test));
		}
	}

	/** Shut the world down and hold all that was reported against what the test expected. */
	async checkWorld(): Promise<void> {
		const reports = new Set<Report>(this.oopses);
		const world = installedWorld();
		if (world !== null) {
			for (const report of world.reports) reports.add(report);
			if (!this.dead)
				for (const report of await this.shutDown()) reports.add(report);
			installWorld(null);
		}
		if (this.skipped === null || reports.size > 0)
			this.verdict.judgeReports([...reports]);
	}

	async shutDown(): Promise<readonly Report[]> {
		try {
			const { shutdown } = await import('../init/main.ts');
			return shutdown();
		} catch (error) {
			this.note(error);
			return this.oopses;
		}
	}

	/** @param xfail - why the test is expected to fail; null: it is not */
	outcome(xfail: string | null): Result {
		const { failures, asserted, test } = this.verdict;
		if (failures.length === 0 && this.skipped !== null)
			return { outcome: 'skip', reason: this.skipped };
		if (failures.length === 0 && !asserted) failures.push(`${test}:no assertion`);
		if (failures.length === 0) {
			if (xfail === null) return { outcome: 'pass' };
			const diagnostics = [
				`${test}:passed where a failure was expected; drop its XFAIL_ADD`,
			];
			return { outcome: 'xpass', reason: xfail, diagnostics };
		}
		const diagnostics = failures;
		if (xfail !== null) return { outcome: 'xfail', reason: xfail, diagnostics };
		if (this.timedOut) return { outcome: 'fail', diagnostics, timeout: this.seconds };
		return { outcome: 'fail', diagnostics };
	}
}

/** An exception that is neither an assertion nor the kernel's: what it says and where from. */
function describeException(error: unknown, test: string): string[] {
	if (!(error instanceof Error)) return [`${test}:thrown: ${String(error)}`];
	const places = treePlaces(error.stack ?? '');
	const where = places[0] === undefined ? '' : `${places[0].path}:${places[0].line}:`;
	return [
		...`${where}${test}:${error.name}: ${error.message}`.split('\n'),
		...places.slice(1).map(({ path, line }) => `  called from ${path}:${line}`),
	];
}

/** A test that did not come to its end in time. */
class Timeout extends Error {}

const slot = Symbol.for('kselftest.body');
const call = new vm.Script(`globalThis[Symbol.for('kselftest.body')]()`);

/** Code that hands out the promises that it waits for. */
type Pending<T> = Generator<Promise<void>, T, void>;

/**
 * Bring `code` to its end, and end it if a part of it takes longer than `seconds`.
 *
 * Test bodies are synchronous, so no timer could: V8's own watchdog does, even in an endless loop. It
 * costs half a millisecond, so setup, body and teardown share one.
 */
async function bounded(code: Pending<void>, seconds: number): Promise<void> {
	let resume = () => code.next();
	for (;;) {
		const step = watched(resume, seconds);
		if (step.done) return;
		resume = await withinTime(step.value, seconds).then(
			() => () => code.next(),
			(error) => () => code.throw(error),
		);
	}
}

/** Call `body` under the watchdog. */
function watched<T>(body: () => T, seconds: number): T {
	Object.assign(globalThis, { [slot]: body });
	try {
		return call.runInThisContext({ timeout: seconds * 1000 });
	} catch (error) {
		const { code } = error as { code?: string };
		if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw new Timeout();
		throw error;
	}
}

/** Run a generator as a thread of the booted kernel, which it may itself boot at its beginning. */
function runKernelCode(run: typeof Run, code: Sim<void>): void {
	if (installedWorld() !== null) {
		run(() => code);
		return;
	}
	const first = code.next();
	if (first.done) return;
	run(function* () {
		yield first.value;
		yield* code;
	});
}

async function withinTime(result: Promise<void>, seconds: number): Promise<void> {
	let timer: NodeJS.Timeout | undefined;
	const late = new Promise<never>((_, reject) => {
		timer = setTimeout(() => reject(new Timeout()), seconds * 1000);
	});
	try {
		await Promise.race([result, late]);
	} finally {
		clearTimeout(timer);
	}
}
