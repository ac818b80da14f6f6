// SPDX-License-Identifier: GPL-2.0-only
/**
 * `npm run fuzz:topology [COUNT [SEED]]`: mutated topologies, 100,000 unless told otherwise.
 *
 * Exit code 0 if each gave a machine or one line, 2 if it was told no numbers.
 */
import { performance } from 'node:perf_hooks';
import { fuzzTopology } from './topology.ts';

const BATCH = 10_000;
const count = Number(process.argv[2] ?? 100_000);
const seed = Number(process.argv[3] ?? 1);
if (!Number.isInteger(count) || count < 1 || !Number.isInteger(seed) || process.argv.length > 4) {
	process.stderr.write('usage: npm run fuzz:topology -- [COUNT [SEED]]\n');
	process.exit(2);
}
const began = performance.now();
let [machines, lines, failed, slowest] = [0, 0, 0, 0];
for (let at = 0; at < count; at += BATCH) {
	const result = fuzzTopology(Math.min(BATCH, count - at), seed + at);
	machines += result.machines;
	lines += result.lines;
	failed += result.failures.length;
	slowest = Math.max(slowest, result.slowestMs);
	for (const failure of result.failures) process.stdout.write(`${failure}\n`);
}
const seconds = ((performance.now() - began) / 1000).toFixed(1);
process.stdout.write(
	`${count} inputs from seed ${seed} in ${seconds} s: ${machines} machines, ${lines} refused with one line, ` +
		`${failed} failures; slowest ${Math.round(slowest)} ms\n`,
);
process.exitCode = failed === 0 ? 0 : 1;
