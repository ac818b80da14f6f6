// SPDX-License-Identifier: GPL-2.0-only
/**
 * `kproto replay hmm --trace ID`: every kernel call of one scenario, step by step.
 *
 * Tracing re-binds functions when their modules are loaded, so the scenario is replayed in a program
 * of its own (traced.ts) that is started with the hook.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FeatureSet, ProfileName } from '../../../include/sim/feature.ts';
import { RecordError } from '../sources.ts';
import type { Scenario } from './record.ts';

/** A scenario, and the kernel that it is replayed under. */
export interface TracedRecord {
	/** `FILE:LINE FAMILY NAME` */
	readonly title: string;
	readonly profile: ProfileName;
	readonly scenario: Scenario;
}

/** What traced.ts reads from its standard input. */
export interface TraceOrder {
	/** Name of the replayer. */
	readonly family: string;
	readonly json: boolean;
	readonly features: Partial<FeatureSet>;
	readonly records: readonly TracedRecord[];
}

/**
 * Replay scenarios with every call printed.
 *
 * @param id - name of the scenario; `K-052` is enough for `K-052-mig-owned-none-neighbour`
 * @param order - which there are; the ones of another name are passed over
 * @param paths - where they are from
 * @returns the exit code of traced.ts: 0 all passed, 1 one did not
 * @throws RecordError there is no such scenario
 */
export async function traceScenarios(
	id: string,
	order: TraceOrder,
	paths: readonly string[],
): Promise<number> {
	const records = order.records.filter(
		({ scenario }) => scenario.id === id || scenario.id.startsWith(`${id}-`),
	);
	if (records.length === 0) throw new RecordError(paths.join(' '), 0, `no scenario "${id}"`);
	const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
	const child = spawn(
		process.execPath,
		['--import', 'tsx', '--import', path('../../trace/register.js'), path('traced.ts')],
		{ stdio: ['pipe', 'pipe', 'inherit'], cwd: path('../../..') },
	);
	child.stdin.end(JSON.stringify({ ...order, records }));
	for await (const chunk of child.stdout) process.stdout.write(chunk as Buffer);
	if (child.exitCode !== null) return child.exitCode;
	return new Promise((done) => {
		child.once('close', (code) => done(code ?? 1));
	});
}
