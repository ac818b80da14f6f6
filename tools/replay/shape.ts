// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a record must look like, as values that also give its TypeScript type.
 *
 * ```
 *   const pair = record({ p: int, c: int, log: listOf(text) }, { dv: int });
 *   type Pair = Shaped<typeof pair>;   // { p: number, c: number, log: string[], dv?: number }
 *   problemOf(pair, value)             // null, or { path: 'log[2]', expected: 'a string' }
 * ```
 *
 * Fields that no shape names are allowed: records say more than a replay needs.
 */

/** What is wrong with a value. */
export interface ShapeProblem {
	/** Where: `out[3].dma`; empty: the record itself. */
	readonly path: string;
	readonly expected: string;
}

/** A shape; `type` is there for the type system only. */
export interface Shape<T> {
	readonly expected: string;
	/** @returns null, or the first thing that is wrong */
	check(value: unknown, path: string): ShapeProblem | null;
	readonly type?: T;
}

/** The type of the values that fit. */
export type Shaped<S> = S extends Shape<infer T> ? T : never;

function simple<T>(expected: string, fits: (value: unknown) => boolean): Shape<T> {
	return {
		expected,
		check: (value, path) => (fits(value) ? null : { path, expected }),
	};
}

/** A whole number. */
export const int = simple<number>('a whole number', (v) => Number.isSafeInteger(v));
/** 0, 1, true or false. */
export const bool = simple<number | boolean>('0 or 1', (v) =>
	[0, 1, true, false].includes(v as number),
);
/** A string. */
export const text = simple<string>('a string', (v) => typeof v === 'string');
/** A 64-bit number. */
export const hex = simple<string>(
	'a hexadecimal string such as "0xfc800000"',
	(v) => typeof v === 'string' && /^0x[0-9a-f]{1,16}$/.test(v),
);
/** A difference of two 64-bit numbers. */
export const signedHex = simple<string>(
	'a hexadecimal string such as "0x0" or "-0x3800000000"',
	(v) => typeof v === 'string' && /^-?0x[0-9a-f]{1,16}$/.test(v),
);
/** The address of a PCI function. */
export const bdf = simple<string>(
	'an address of the form "0000:3b:00.0"',
	(v) => typeof v === 'string' && /^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/.test(v),
);

/**
 * One of some values.
 *
 * @param values - strings or numbers
 */
export function oneOf<const T extends string | number>(...values: T[]): Shape<T> {
	return simple(`one of ${values.map((v) => JSON.stringify(v)).join(', ')}`, (v) =>
		values.includes(v as T),
	);
}

/**
 * A value, or null.
 *
 * @param shape - of the value
 */
export function nullOr<T>(shape: Shape<T>): Shape<T | null> {
	const expected = `null or ${shape.expected}`;
	return {
		expected,
		check: (value, path) => (value === null ? null : shape.check(value, path)),
	};
}

/**
 * A value of the first shape that fits.
 *
 * @param shapes - in the order in which they are tried
 */
export function either<S extends readonly Shape<unknown>[]>(
	...shapes: S
): Shape<Shaped<S[number]>> {
	const expected = shapes.map((shape) => shape.expected).join(' or ');
	return {
		expected,
		check: (value, path) =>
			shapes.some((shape) => shape.check(value, path) === null)
				? null
				: { path, expected },
	};
}

/**
 * A list.
 *
 * @param shape - of every element
 * @param length - of the list, if it is known
 */
export function listOf<T>(shape: Shape<T>, length?: number): Shape<T[]> {
	const expected = length === undefined ? 'a list' : `a list of ${length}`;
	return {
		expected,
		check(value, path) {
			if (!Array.isArray(value)) return { path, expected };
			if (length !== undefined && value.length !== length)
				return { path, expected };
			for (let i = 0; i < value.length; i++) {
				const problem = shape.check(value[i], `${path}[${i}]`);
				if (problem !== null) return problem;
			}
			return null;
		},
	};
}

/**
 * An object whose keys are free.
 *
 * @param shape - of every value
 */
export function mapOf<T>(shape: Shape<T>): Shape<Record<string, T>> {
	const expected = 'an object';
	return {
		expected,
		check(value, path) {
			if (!isObject(value)) return { path, expected };
			for (const [key, field] of Object.entries(value)) {
				const problem = shape.check(field, `${path}["${key}"]`);
				if (problem !== null) return problem;
			}
			return null;
		},
	};
}

type Fields = Readonly<Record<string, Shape<unknown>>>;
type FieldTypes<F extends Fields> = { [K in keyof F]: Shaped<F[K]> };

/**
 * An object.
 *
 * @param needed - fields that must be there
 * @param optional - fields that may be
 */
export function record<const N extends Fields, const O extends Fields = Record<never, never>>(
	needed: N,
	optional: O = {} as O,
): Shape<FieldTypes<N> & Partial<FieldTypes<O>>> {
	const names = Object.keys(needed);
	const expected = `an object with ${names.join(', ')}`;
	return {
		expected,
		check(value, path) {
			if (!isObject(value)) return { path, expected };
			const below = (key: string): string =>
				path === '' ? key : `${path}.${key}`;
			for (const key of names) {
				if (!Object.hasOwn(value, key))
					return { path, expected: `a field "${key}"` };
				const problem = needed[key]!.check(value[key], below(key));
				if (problem !== null) return problem;
			}
			for (const [key, shape] of Object.entries(optional)) {
				if (value[key] === undefined) continue;
				const problem = shape.check(value[key], below(key));
				if (problem !== null) return problem;
			}
			return null;
		},
	};
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === 'object' && value !== null && !Array.isArray(value);
}
