// SPDX-License-Identifier: GPL-2.0-only
/**
 * Output of the real hmm-tests, as the records have it.
 *
 *	# tools/testing/selftests/mm/hmm-tests.c:1817:exclusive:Expected ret (-16) == 0 (0)
 *	# exclusive: Test terminated by assertion
 *	#          FAIL  hmm.hmm_device_private.exclusive
 *	not ok 22 hmm.hmm_device_private.exclusive
 *	ok 27 hmm.hmm_device_coherent.open_close # SKIP DEVICE_COHERENT not available
 */
import type { CaseOutcome } from './outcome.ts';

const resultLine = /^(?<not>not )?ok \d+ (?<name>[\w.]+)(?: # SKIP (?<reason>.*))?$/;
const expectedLine = /^# \S+:\d+:\w+:(?<message>Expected .*)$/;
const signalLine = /^# \w+: (?<message>Test terminated unexpectedly by signal \d+)$/;

/**
 * Read the outcomes of a record.
 *
 * @param text - the file
 * @returns the outcomes, in its order
 * @throws Error the plan is not what follows
 */
export function readTap(text: string): CaseOutcome[] {
	const outcomes: CaseOutcome[] = [];
	let said = '';
	for (const line of text.split('\n')) {
		const message = (expectedLine.exec(line) ?? signalLine.exec(line))?.groups;
		if (message) said = message['message']!;
		const found = resultLine.exec(line)?.groups;
		if (!found) continue;
		const { name = '', not, reason } = found;
		if (not) outcomes.push({ name, result: 'fail', message: said });
		else if (reason === undefined) outcomes.push({ name, result: 'pass', message: '' });
		else outcomes.push({ name, result: 'skip', message: reason });
		said = '';
	}
	const planned = Number(/^1\.\.(\d+)$/m.exec(text)?.[1]);
	if (planned !== outcomes.length)
		throw new Error(`the plan is ${planned} tests, there are ${outcomes.length}`);
	return outcomes;
}

/**
 * What a failed assertion says, in the form that C and this have in common: the name of what was
 * looked at, and the values.
 *
 *	Expected buffer->cpages (0) == npages (1024)        buffer.cpages (0) == npages (1024)
 *	test/mm/…:120:migrate:Expected ret (-16) == 0 (0)   ret (-16) == 0 (0)
 *	Expected run_it(self->fd, 1) (-2) == 0 (0)          runit (-2) == 0 (0)
 */
export function comparable(message: string): string {
	const seen = message.replace(/^.*?Expected /, '').replaceAll('->', '.');
	const call = /^(?<callee>\w+)\(.*\) (?<values>\(\S+\) == .*)$/.exec(seen)?.groups;
	if (!call) return seen;
	return `${call['callee']!.replaceAll('_', '').toLowerCase()} ${call['values']}`;
}
