// SPDX-License-Identifier: GPL-2.0-only
/**
 * The program as a whole: all its cases one after the other on one kernel, each with its outcome.
 *
 * Guarantee: cases meet what the cases before them left of the devices' memory, as the real program's
 * do. Mechanism: a case has a verdict of its own while it runs; an oops kills its process, and the
 * kernel goes on with what that process held lost.
 */
import { KernelOops } from '../../../include/sim/report.ts';
import { AssertionStop, SkipStop, setVerdict, Verdict, verdict } from '../../harness/verdict.ts';
import { CaseSelf, type Devices, type HmmCase } from './case.ts';
import { fixtures } from './cases.ts';
import { KilledBySignal, type TestedKernel } from './program.ts';

/** How a case ended. */
export interface CaseOutcome {
	/** `hmm.hmm_device_private.anon_read` */
	readonly name: string;
	readonly result: 'pass' | 'fail' | 'skip';
	/** Of a failure: the assertion, or the signal; of a skip: the reason; else empty. */
	readonly message: string;
}

/** SIGKILL: what a task gets that the kernel oopsed for. */
const SIGKILL = 9;

/** What an exception that ends a case says; it is thrown again if it is no end of a case. */
function messageOf(error: unknown, trial: Verdict): string {
	if (error instanceof AssertionStop) return trial.failures[0]!;
	if (error instanceof KernelOops) return `Test terminated unexpectedly by signal ${SIGKILL}`;
	if (error instanceof KilledBySignal)
		return `Test terminated unexpectedly by signal ${error.sig}`;
	throw error;
}

/** End the process of a case, in whatever state it is. */
function end(self: CaseSelf, oopsed: boolean): void {
	if (oopsed) self.process.exitAfterOops();
	else self.process.exit();
}

function runCase(
	kernel: TestedKernel,
	devices: Devices,
	{ body }: HmmCase,
): Omit<CaseOutcome, 'name'> {
	const trial = new Verdict('hmm-tests');
	const outer = verdict('runCase');
	setVerdict(trial);
	const self = new CaseSelf(kernel, devices);
	let oopsed = false;
	try {
		self.setup();
		body(self);
		self.teardown();
		return { result: 'pass', message: '' };
	} catch (error) {
		if (error instanceof SkipStop) return { result: 'skip', message: error.message };
		oopsed = error instanceof KernelOops;
		return { result: 'fail', message: messageOf(error, trial) };
	} finally {
		end(self, oopsed);
		setVerdict(outer);
	}
}

/**
 * Run the program.
 *
 * @param kernel - what it runs on, which is booted
 * @returns the outcomes, in the program's order
 */
export function runProgram(kernel: TestedKernel): CaseOutcome[] {
	const outcomes: CaseOutcome[] = [];
	for (const fixture of fixtures)
		for (const [variant, devices] of Object.entries(fixture.variants))
			for (const one of fixture.cases) {
				if (!has(kernel, one)) continue;
				const name = `${fixture.name}.${variant}.${one.name}`;
				outcomes.push({ name, ...runCase(kernel, devices, one) });
			}
	return outcomes;
}

/** Whether the program of a release has a case. */
export function has({ profile }: TestedKernel, { since }: HmmCase): boolean {
	return since === undefined || since === profile;
}
