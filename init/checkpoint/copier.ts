// SPDX-License-Identifier: GPL-2.0-only
/**
 * Copiers: per class and set of own keys, a pair of loops that copy the fields of many objects to a
 * flat array and back.
 *
 * Mechanism: `new Function` writes out each field, so that V8 sees one shape per loop and no keyed
 * access. The cache of copiers is a memo of code, not state: it holds nothing of any world.
 */

/** Copies objects of one class and key set. */
export interface Copier {
	/** Own, writable data properties. */
	readonly keys: readonly (string | symbol)[];
	/** Enumerable string keys, written or not: what for-in must count. */
	readonly enumerable: number;
	/**
	 * Take fields.
	 *
	 * @param objects - objects of this shape
	 * @param values - what is filled, field after field, object after object
	 */
	save(objects: readonly object[], values: unknown[]): void;
	/**
	 * Put fields back.
	 *
	 * @param objects - as given to save()
	 * @param values - as filled by save()
	 */
	restore(objects: readonly object[], values: readonly unknown[]): void;
}

type Fields = Record<string | symbol, unknown>;

/** Copiers by prototype, then by own keys; null-prototype objects have a map of their own. */
const memo: Readonly<{
	byPrototype: WeakMap<object, Map<string, Copier>>;
	withoutPrototype: Map<string, Copier>;
}> = { byPrototype: new WeakMap(), withoutPrototype: new Map() };

/**
 * The copier of an object's shape; null: it has nothing that could change.
 *
 * @param object - any object that is no container
 */
export function copierOf(object: object): Copier | null {
	const prototype = Object.getPrototypeOf(object) as object | null;
	let byKeys = prototype === null ? memo.withoutPrototype : memo.byPrototype.get(prototype);
	if (byKeys === undefined) {
		byKeys = new Map<string, Copier>();
		memo.byPrototype.set(prototype as object, byKeys);
	}
	const keys: (string | symbol)[] = [];
	let enumerable = 0;
	let signature = '';
	for (const key of Reflect.ownKeys(object)) {
		const property = Object.getOwnPropertyDescriptor(object, key)!;
		const counted = property.enumerable === true && typeof key === 'string';
		if (counted) enumerable++;
		const copied = property.writable === true;
		if (copied) keys.push(key);
		signature += `${String(key)}${copied ? '' : '!'}${counted ? '' : '~'},`;
	}
	if (Object.isFrozen(object)) return null;
	if (keys.some((key) => typeof key === 'symbol')) return slowCopier(keys, enumerable);
	let copier = byKeys.get(signature);
	if (copier === undefined) {
		copier = compile(keys as string[], enumerable);
		byKeys.set(signature, copier);
	}
	return copier;
}

/** Take keys away that were not there. */
function dropNewKeys(object: Fields, keys: readonly (string | symbol)[]): void {
	for (const key of Object.keys(object)) {
		if (keys.includes(key)) continue;
		const property = Object.getOwnPropertyDescriptor(object, key);
		if (property?.configurable === true && property.writable === true)
			delete object[key];
	}
}

function compile(keys: readonly string[], enumerable: number): Copier {
	const names = keys.map((key) => `o[${JSON.stringify(key)}]`);
	const save = new Function(
		'objects',
		'values',
		`let j = values.length;
		for (let i = 0; i < objects.length; i++) {
			const o = objects[i];
			${names.map((name) => `values[j++] = ${name};`).join('\n')}
		}`,
	) as Copier['save'];
	const restore = new Function(
		'dropNewKeys',
		'keys',
		`return function restore(objects, values) {
			let j = 0;
			for (let i = 0; i < objects.length; i++) {
				const o = objects[i];
				${names.map((name) => `${name} = values[j++];`).join('\n')}
				let n = 0;
				for (const key in o) n++;
				if (n !== ${enumerable}) dropNewKeys(o, keys);
			}
		}`,
	)(dropNewKeys, keys) as Copier['restore'];
	return { keys, enumerable, save, restore };
}

/** For shapes that are too odd to compile. */
function slowCopier(keys: readonly (string | symbol)[], enumerable: number): Copier {
	return {
		keys,
		enumerable,
		save(objects, values) {
			for (const object of objects as readonly Fields[])
				for (const key of keys) values.push(object[key]);
		},
		restore(objects, values) {
			let j = 0;
			for (const object of objects as readonly Fields[]) {
				for (const key of keys) object[key] = values[j++];
				dropNewKeys(object, keys);
			}
		},
	};
}
