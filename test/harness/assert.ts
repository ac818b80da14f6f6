// SPDX-License-Identifier: GPL-2.0-only
/**
 * ASSERT_* and EXPECT_*: comparison as C does it, messages in kselftest's words.
 *
 * An ASSERT ends its test, an EXPECT lets it go on and fails it at its end. `bigint` and `number`
 * compare by value, a truth value as 0 or 1, everything else by identity. `undefined` is nothing
 * that C has: an operand with that value is a mistake in the test and throws.
 */
import { inspect } from 'node:util';
import { HarnessError } from '../../include/sim/report.ts';
import { argumentTexts, treePlaces } from './source.ts';
import { AssertionStop, verdict } from './verdict.ts';

type Operator = '==' | '!=' | '<' | '<=' | '>' | '>=';

/** What has an order. */
export type Scalar = number | bigint | boolean;

function asC(value: unknown): unknown {
	if (typeof value === 'boolean') return value ? 1 : 0;
	return value;
}

/** Compare two operands as C would: numbers by value whatever their width, the rest by identity. */
function holds(expected: unknown, operator: Operator, seen: unknown): boolean {
	const left = asC(expected) as Scalar;
	const right = asC(seen) as Scalar;
	const numbers = isNumber(left) && isNumber(right);
	switch (operator) {
		case '==':
			// biome-ignore lint/suspicious/noDoubleEquals: 1n == 1 holds, as between C's widths
			return numbers ? left == right : left === right;
		case '!=':
			// biome-ignore lint/suspicious/noDoubleEquals: as above
			return numbers ? left != right : left !== right;
		case '<':
			return left < right;
		case '<=':
			return left <= right;
		case '>':
			return left > right;
		case '>=':
			return left >= right;
	}
}

function isNumber(value: unknown): boolean {
	return typeof value === 'number' || typeof value === 'bigint';
}

/** A value as the message shows it: 64-bit in hex, the rest as C's %d, %s and %p would tell most. */
function show(value: unknown): string {
	if (value === null) return 'NULL';
	if (typeof value === 'bigint')
		return value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
	if (typeof value === 'function') return `${value.name || 'anonymous'}()`;
	if (typeof value === 'object') return `struct ${value.constructor?.name ?? 'object'}`;
	return inspect(value);
}

/** The message of a failed comparison, with the operands as the test has them. */
function comparison(texts: string[] | null, from: number, values: unknown[], op: string): string {
	const [left, right] = values.map((value, i) => {
		const text = texts?.[from + i];
		return text === undefined ? show(value) : `${text} (${show(value)})`;
	});
	return `Expected ${left} ${op} ${right}`;
}

function judge(call: string, good: boolean, message: (texts: string[] | null) => string): void {
	const test = verdict(call);
	test.asserted = true;
	if (good) return;
	const { stack = '' } = new Error('failed');
	const [place] = treePlaces(stack);
	const texts = place === undefined ? null : argumentTexts(place, call);
	test.fail(message(texts), stack);
	if (!call.startsWith('ASSERT')) return;
	test.failures.push(`${test.test}: Test terminated by assertion`);
	throw new AssertionStop(test.failures.join('\n'));
}

function compare(call: string, expected: unknown, operator: Operator, seen: unknown): void {
	if (expected === undefined || seen === undefined)
		throw new HarnessError(
			call,
			'an operand is undefined; what is absent is NULL, `null`',
		);
	judge(call, holds(expected, operator, seen), (texts) =>
		comparison(texts, 0, [expected, seen], operator),
	);
}

function truth(call: string, seen: unknown, wanted: boolean): void {
	judge(call, Boolean(seen) === wanted, (texts) =>
		// kselftest's macro compares with 0 and says so
		comparison(
			['0', ...(texts ?? [show(seen)])],
			0,
			[0, asC(seen)],
			wanted ? '!=' : '==',
		),
	);
}

function sameString(call: string, expected: string | null, seen: string | null, same: boolean) {
	judge(call, (expected === seen) === same, (texts) =>
		comparison(texts, 0, [expected, seen], same ? '==' : '!='),
	);
}

/** @param expected - what it shall equal @param seen - what it is */
export function ASSERT_EQ(expected: unknown, seen: unknown): void {
	compare('ASSERT_EQ', expected, '==', seen);
}
/** @param expected - what it shall not equal @param seen - what it is */
export function ASSERT_NE<T>(expected: null, seen: T): asserts seen is NonNullable<T>;
export function ASSERT_NE(expected: unknown, seen: unknown): void;
export function ASSERT_NE(expected: unknown, seen: unknown): void {
	compare('ASSERT_NE', expected, '!=', seen);
}
/** As in C the first operand is the smaller one. */
export function ASSERT_LT(expected: Scalar, seen: Scalar): void {
	compare('ASSERT_LT', expected, '<', seen);
}
/** As in C the first operand is the smaller one. */
export function ASSERT_LE(expected: Scalar, seen: Scalar): void {
	compare('ASSERT_LE', expected, '<=', seen);
}
/** As in C the first operand is the greater one. */
export function ASSERT_GT(expected: Scalar, seen: Scalar): void {
	compare('ASSERT_GT', expected, '>', seen);
}
/** As in C the first operand is the greater one. */
export function ASSERT_GE(expected: Scalar, seen: Scalar): void {
	compare('ASSERT_GE', expected, '>=', seen);
}
/** @param seen - what shall be NULL */
export function ASSERT_NULL(seen: unknown): void {
	judge('ASSERT_NULL', seen === null, (texts) =>
		comparison(['NULL', ...(texts ?? [show(seen)])], 0, [null, seen], '=='),
	);
}
/** @param seen - what shall be true, or not 0 */
export function ASSERT_TRUE(seen: unknown): void {
	truth('ASSERT_TRUE', seen, true);
}
/** @param seen - what shall be false, or 0 */
export function ASSERT_FALSE(seen: unknown): void {
	truth('ASSERT_FALSE', seen, false);
}
/** @param expected - the string @param seen - what it is */
export function ASSERT_STREQ(expected: string | null, seen: string | null): void {
	sameString('ASSERT_STREQ', expected, seen, true);
}
/** @param expected - what it shall not be @param seen - what it is */
export function ASSERT_STRNE(expected: string | null, seen: string | null): void {
	sameString('ASSERT_STRNE', expected, seen, false);
}

/** ASSERT_EQ() that lets the test go on. */
export function EXPECT_EQ(expected: unknown, seen: unknown): void {
	compare('EXPECT_EQ', expected, '==', seen);
}
/** ASSERT_NE() that lets the test go on. */
export function EXPECT_NE(expected: unknown, seen: unknown): void {
	compare('EXPECT_NE', expected, '!=', seen);
}
/** ASSERT_LT() that lets the test go on. */
export function EXPECT_LT(expected: Scalar, seen: Scalar): void {
	compare('EXPECT_LT', expected, '<', seen);
}
/** ASSERT_LE() that lets the test go on. */
export function EXPECT_LE(expected: Scalar, seen: Scalar): void {
	compare('EXPECT_LE', expected, '<=', seen);
}
/** ASSERT_GT() that lets the test go on. */
export function EXPECT_GT(expected: Scalar, seen: Scalar): void {
	compare('EXPECT_GT', expected, '>', seen);
}
/** ASSERT_GE() that lets the test go on. */
export function EXPECT_GE(expected: Scalar, seen: Scalar): void {
	compare('EXPECT_GE', expected, '>=', seen);
}
/** ASSERT_NULL() that lets the test go on. */
export function EXPECT_NULL(seen: unknown): void {
	judge('EXPECT_NULL', seen === null, (texts) =>
		comparison(['NULL', ...(texts ?? [show(seen)])], 0, [null, seen], '=='),
	);
}
/** ASSERT_TRUE() that lets the test go on. */
export function EXPECT_TRUE(seen: unknown): void {
	truth('EXPECT_TRUE', seen, true);
}
/** ASSERT_FALSE() that lets the test go on. */
export function EXPECT_FALSE(seen: unknown): void {
	truth('EXPECT_FALSE', seen, false);
}
/** ASSERT_STREQ() that lets the test go on. */
export function EXPECT_STREQ(expected: string | null, seen: string | null): void {
	sameString('EXPECT_STREQ', expected, seen, true);
}
/** ASSERT_STRNE() that lets the test go on. */
export function EXPECT_STRNE(expected: string | null, seen: string | null): void {
	sameString('EXPECT_STRNE', expected, seen, false);
}
