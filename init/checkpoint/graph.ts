// SPDX-License-Identifier: GPL-2.0-only
/**
 * Every object that can be reached from a root, saved so that it can be written back.
 *
 * Guarantee: after restore() each object that was there has the fields, elements and entries it had,
 * with the same identities. Skipped, as they can't change: functions, frozen objects (their fields
 * are followed), Errors, RegExps, and fields that a class lists in `static constantFields`.
 * Duty: state is in plain fields; what hides in closures, `#private` or a generator is not seen. A
 * generator is refused.
 */
import { HarnessError } from '../../include/sim/report.ts';
import { type Copier, copierOf } from './copier.ts';

/** Objects of one shape and their fields. */
interface ShapeGroup {
	readonly copier: Copier;
	readonly objects: object[];
	readonly values: unknown[];
}

interface SavedMap {
	readonly map: Map<unknown, unknown>;
	readonly keys: unknown[];
	readonly values: unknown[];
}

interface SavedSet {
	readonly set: Set<unknown>;
	readonly values: unknown[];
}

/** What a walk found. */
export class SavedGraph {
	shapes: ShapeGroup[] = [];
	/** Arrays without holes, and their elements one array after the other. */
	arrays: unknown[][] = [];
	lengths: number[] = [];
	elements: unknown[] = [];
	/** Arrays with holes. */
	holey: unknown[][] = [];
	holeyElements: unknown[][] = [];
	maps: SavedMap[] = [];
	sets: SavedSet[] = [];
	/** Whole buffers, however many views they have. */
	buffers: Uint8Array[] = [];
	bytes: Uint8Array[] = [];

	/** How many objects, and how many bytes of typed arrays. */
	get size(): { objects: number; bytes: number } {
		const objects =
			this.shapes.reduce((sum, s) => sum + s.objects.length, 0) +
			this.arrays.length +
			this.holey.length +
			this.maps.length +
			this.sets.length;
		return { objects, bytes: this.bytes.reduce((sum, b) => sum + b.length, 0) };
	}
}

interface WithConstants {
	readonly constantFields?: readonly string[];
}

class Walk {
	readonly graph = new SavedGraph();
	readonly seen = new Set<object>();
	readonly queue: object[] = [];
	readonly groups = new Map<Copier, ShapeGroup>();

	/** Put a value on the list of what is to be saved. */
	reach(value: unknown): void {
		if (typeof value !== 'object' || value === null || this.seen.has(value)) return;
		this.seen.add(value);
		this.queue.push(value);
	}

	visit(value: object): void {
		if (Array.isArray(value)) this.array(value);
		else if (value instanceof Map) this.map(value);
		else if (value instanceof Set) this.set(value);
		else if (ArrayBuffer.isView(value)) this.reach(value.buffer);
		else if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer)
			this.buffer(value);
		else if (value instanceof Error || value instanceof RegExp) return;
		else this.fields(value);
	}

	array(value: unknown[]): void {
		const { graph } = this;
		let holes = false;
		for (let i = 0; i < value.length; i++) {
			if (!(i in value)) holes = true;
			this.reach(value[i]);
		}
		if (Object.isFrozen(value)) return;
		if (holes) {
			graph.holey.push(value);
			graph.holeyElements.push(value.slice());
			return;
		}
		graph.arrays.push(value);
		graph.lengths.push(value.length);
		for (let i = 0; i < value.length; i++) graph.elements.push(value[i]);
	}

	map(map: Map<unknown, unknown>): void {
		const keys = [...map.keys()];
		const values = [...map.values()];
		for (const key of keys) this.reach(key);
		for (const value of values) this.reach(value);
		this.graph.maps.push({ map, keys, values });
	}

	set(set: Set<unknown>): void {
		const values = [...set];
		for (const value of values) this.reach(value);
		this.graph.sets.push({ set, values });
	}

	buffer(buffer: ArrayBufferLike): void {
		const view = new Uint8Array(buffer);
		this.graph.buffers.push(view);
		this.graph.bytes.push(view.slice());
	}

	fields(object: object): void {
		const tag = Object.prototype.toString.call(object);
		if (
			/^\[object (Generator|AsyncGenerator|.* Iterator|WeakMap|WeakSet|WeakRef|Promise)\]$/.test(
				tag,
			)
		)
			throw new HarnessError(
				'checkpoint()',
				`a ${tag.slice(8, -1)} can be reached from the world: it can't be copied`,
			);
		const constants = (object.constructor as WithConstants | undefined)?.constantFields;
		for (const key of Reflect.ownKeys(object)) {
			if (typeof key === 'string' && constants?.includes(key)) continue;
			const property = Object.getOwnPropertyDescriptor(object, key)!;
			if ('value' in property) this.reach(property.value);
		}
		const copier = copierOf(object);
		if (copier === null) return;
		let group = this.groups.get(copier);
		if (group === undefined) {
			group = { copier, objects: [], values: [] };
			this.groups.set(copier, group);
		}
		group.objects.push(object);
	}
}

/**
 * Save everything that can be reached from an object.
 *
 * @param root - where to begin
 */
export function saveGraph(root: object): SavedGraph {
	const walk = new Walk();
	walk.reach(root);
	for (let next = walk.queue.pop(); next !== undefined; next = walk.queue.pop())
		walk.visit(next);
	walk.graph.shapes = [...walk.groups.values()];
	for (const { copier, objects, values } of walk.graph.shapes) copier.save(objects, values);
	return walk.graph;
}

/**
 * Write everything back.
 *
 * @param graph - what saveGraph() returned; can be used any number of times
 */
export function restoreGraph(graph: SavedGraph): void {
	const { shapes, buffers, bytes, maps, sets, holey, holeyElements } = graph;
	for (let i = 0; i < shapes.length; i++) {
		const { copier, objects, values } = shapes[i]!;
		copier.restore(objects, values);
	}
	restoreArrays(graph);
	for (let i = 0; i < holey.length; i++) restoreHoley(holey[i]!, holeyElements[i]!);
	for (let i = 0; i < maps.length; i++) restoreMap(maps[i]!);
	for (let i = 0; i < sets.length; i++) restoreSet(sets[i]!);
	for (let i = 0; i < buffers.length; i++) buffers[i]!.set(bytes[i]!);
}

function restoreArrays({ arrays, lengths, elements }: SavedGraph): void {
	let j = 0;
	for (let i = 0; i < arrays.length; i++) {
		const array = arrays[i]!;
		const length = lengths[i]!;
		if (array.length !== length) array.length = length;
		for (let k = 0; k < length; k++, j++)
			if (array[k] !== elements[j]) array[k] = elements[j];
	}
}

function restoreHoley(array: unknown[], saved: readonly unknown[]): void {
	if (array.length !== saved.length) array.length = saved.length;
	for (let i = 0; i < saved.length; i++) {
		const value = saved[i];
		if (value !== undefined || i in saved) array[i] = value;
		else if (array[i] !== undefined || i in array) delete array[i];
	}
}

function restoreMap({ map, keys, values }: SavedMap): void {
	if (map.size === keys.length) {
		let i = 0;
		for (const [key, value] of map) {
			if (key !== keys[i] || value !== values[i]) break;
			i++;
		}
		if (i === keys.length) return;
	}
	map.clear();
	for (let i = 0; i < keys.length; i++) map.set(keys[i], values[i]);
}

function restoreSet({ set, values }: SavedSet): void {
	if (set.size === values.length) {
		let i = 0;
		for (const value of set) {
			if (value !== values[i]) break;
			i++;
		}
		if (i === values.length) return;
	}
	set.clear();
	for (let i = 0; i < values.length; i++) set.add(values[i]);
}
