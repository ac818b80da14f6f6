// SPDX-License-Identifier: GPL-2.0-only
/** Values in a trace: an errno by name, a pointer by class and what tells it apart, words in hex. */
import { errnoNames } from '../../include/linux/errno.ts';

function hex(value: bigint): string {
	return value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}

function number(value: number): string {
	const name = value < 0 ? errnoNames[-value] : undefined;
	return name === undefined ? String(value) : `-${name}`;
}

/** Fields that tell one object of a kind from another, in the order in which they are looked for. */
const telling = ['name', 'init_name', 'comm', 'bdf', 'driver_name'] as const;

/** Pairs of fields that bound what an object covers. */
const bounds = [
	['vm_start', 'vm_end'],
	['start', 'end'],
	['start', 'last'],
] as const;

function detail(object: Record<string, unknown>): string {
	for (const field of telling) {
		const value = object[field];
		if (typeof value === 'string' && value !== '') return `(${value})`;
	}
	for (const [first, last] of bounds) {
		const [from, to] = [object[first], object[last]];
		if (typeof from === 'bigint' && typeof to === 'bigint')
			return `[${hex(from)}-${hex(to)}]`;
	}
	const { sec, idx } = object as { sec?: { base?: unknown }; idx?: unknown };
	if (typeof sec?.base === 'number' && typeof idx === 'number')
		return `(pfn ${hex(BigInt(sec.base + idx))})`;
	return '';
}

/**
 * One value in a few characters.
 *
 * @param value - argument or return value
 * @param depth - how far nested objects are followed
 */
export function summarise(value: unknown, depth = 2): string {
	switch (typeof value) {
		case 'bigint':
			return hex(value);
		case 'number':
			return number(value);
		case 'string':
			return JSON.stringify(
				value.length > 40 ? `${value.slice(0, 37)}...` : value,
			);
		case 'undefined':
			return '';
		case 'function':
			return value.name === '' ? 'function' : value.name;
		case 'object':
			return value === null ? 'NULL' : object(value, depth);
		default:
			return String(value);
	}
}

function object(value: object, depth: number): string {
	if (Array.isArray(value)) return `array[${value.length}]`;
	if (ArrayBuffer.isView(value))
		return `${value.constructor.name}[${(value as Uint8Array).length ?? value.byteLength}]`;
	const fields = value as Record<string, unknown>;
	const kind = value.constructor?.name ?? 'Object';
	const keys = Object.keys(value);
	if (kind === 'Object' && keys.length === 1 && keys[0] === 'value' && depth > 0)
		return `&${summarise(fields.value, depth - 1)}`;
	const own = detail(fields);
	if (own !== '' || depth === 0)
		return kind === 'Object' ? own.slice(1, -1) || '{}' : `${kind}${own}`;
	// struct folio is known by its page, a pci_dev by its device, an embedded object by its owner.
	for (const inner of ['page', 'dev', 'pdev', 'range'] as const) {
		const part = fields[inner];
		if (typeof part === 'object' && part !== null) {
			const of = detail(part as Record<string, unknown>);
			if (of !== '') return `${kind}${of}`;
		}
	}
	return kind === 'Object' ? '{}' : kind;
}
