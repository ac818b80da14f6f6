// SPDX-License-Identifier: GPL-2.0-only
/** Timing of small bodies: the median of several rounds, so that a busy machine does not decide. */
import { hrtime } from 'node:process';

/** ns since some moment. */
export function now(): number {
	return Number(hrtime.bigint());
}

/**
 * The median.
 *
 * @param values - at least one
 */
export function median(values: readonly number[]): number {
	const sorted = [...values].sort((a, b) => a - b);
	return sorted[Math.floor(sorted.length / 2)]!;
}

/**
 * ns that a body takes, the median of rounds.
 *
 * @param rounds - how many
 * @param body - what
 * @param perRound - repetitions in a round
 */
export function timed(rounds: number, body: () => void, perRound = 1): number {
	const times: number[] = [];
	for (let r = 0; r < rounds; r++) {
		const start = now();
		for (let i = 0; i < perRound; i++) body();
		times.push((now() - start) / perRound);
	}
	return median(times);
}

/** One line of the benchmark's output. */
export interface Row {
	readonly what: string;
	readonly value: string;
	/** What it should be; empty: just a figure. */
	readonly bound: string;
	readonly ok: boolean;
}

/**
 * A figure with a bound.
 *
 * @param what - name
 * @param value - figure
 * @param unit - after the figure
 * @param limit - bound
 * @param direction - whether the figure may be at most or must be at least the bound
 */
export function bounded(
	what: string,
	value: number,
	unit: string,
	limit: number,
	direction: 'most' | 'least',
): Row {
	const ok = direction === 'most' ? value <= limit : value >= limit;
	const shown = value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toFixed(2);
	return {
		what,
		value: `${shown} ${unit}`,
		bound: `${direction === 'most' ? 'at most' : 'at least'} ${limit.toLocaleString('en-US')}`,
		ok,
	};
}

/**
 * A figure without one.
 *
 * @param what - name
 * @param value - as it is shown
 */
export function figure(what: string, value: string): Row {
	return { what, value, bound: '', ok: true };
}
