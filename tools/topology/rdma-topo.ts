// SPDX-License-Identifier: GPL-2.0-only
/**
 * The functions of a dump made by rdma-core's `rdma_topo dump`.
 *
 *     [{ "realpath": "/sys/devices/pci0000:00/0000:00:00.0/0000:01:00.0",
 *        "config": "eJz7…",                  base64 of zlib
 *        "modalias": "pci:v000015B3d00001021sv…bc02sc07i00",
 *        "iommu_group": 12, "numa_node": 0, "subsystems": { "net": ["eth0"] } }, …]
 *
 * Host bridges and system peripherals are left out of a dump, and BARs are not told.
 */

import { basename } from 'node:path';
import { inflateSync } from 'node:zlib';
import { formatBdf, parseBdf } from '../../arch/sim/description.ts';
import { applyConfig } from './config-space.ts';
import { TopologyError } from './error.ts';
import { emptyFunction, type FoundFunction } from './functions.ts';
import { lineOfPath, readJson } from './json.ts';
import { parentInPath } from './sysfs.ts';

const CONFIG_BYTES = 4096;

/** Reads the elements of a dump. */
class DumpReader {
	private readonly text: string;
	private readonly file: string;

	constructor(text: string, file: string) {
		this.text = text;
		this.file = file;
	}

	private fail(path: (string | number)[], expected: string): never {
		throw new TopologyError(this.file, lineOfPath(this.text, path), expected);
	}

	/** One function. */
	element(value: unknown, i: number): FoundFunction {
		if (typeof value !== 'object' || value === null)
			this.fail([i], 'an object with realpath, config and modalias');
		const fields = value as Record<string, unknown>;
		const { realpath, config, modalias } = fields;
		if (typeof realpath !== 'string')
			this.fail(
				[i],
				'a field "realpath", the path of a function in /sys/devices',
			);
		const at = parseBdf(basename(realpath).toLowerCase());
		if (at === null)
			this.fail(
				[i, 'realpath'],
				'a path that ends in an address such as 0000:3b:00.0',
			);
		const fn = emptyFunction(formatBdf(at), lineOfPath(this.text, [i]));
		fn.unknown = true;
		if (typeof config !== 'string' || !applyConfig(fn, this.bytes(config, i)))
			this.fail([i, 'config'], 'a configuration space, as base64 of zlib');
		const ids = /^pci:v0000([0-9A-F]{4})d0000([0-9A-F]{4})/i.exec(String(modalias));
		if (ids !== null) {
			fn.vendor = Number.parseInt(ids[1] as string, 16);
			fn.device = Number.parseInt(ids[2] as string, 16);
		}
		const parent = parentInPath(realpath);
		if (parent !== undefined) fn.parent = parent;
		fn.numaNode = whole(fields.numa_node);
		fn.iommuGroup = whole(fields.iommu_group);
		const name = firstName(fields.subsystems);
		if (name !== null) fn.label = name;
		return fn;
	}

	private bytes(config: string, i: number): Uint8Array {
		try {
			return inflateSync(Buffer.from(config, 'base64'), {
				maxOutputLength: CONFIG_BYTES,
			});
		} catch {
			return this.fail([i, 'config'], 'a configuration space, as base64 of zlib');
		}
	}
}

function whole(value: unknown): number | null {
	return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : null;
}

function firstName(subsystems: unknown): string | null {
	if (typeof subsystems !== 'object' || subsystems === null) return null;
	const names = subsystems as Record<string, unknown>;
	for (const kind of ['infiniband', 'net', 'nvme', 'drm']) {
		const list = names[kind];
		if (Array.isArray(list) && typeof list[0] === 'string') return list[0];
	}
	return null;
}

/**
 * Read the functions of a dump.
 *
 * @param text - the dump
 * @param file - its name, for messages
 * @throws TopologyError naming line and expectation
 */
export function readRdmaTopo(text: string, file: string): FoundFunction[] {
	const value = readJson(text, file);
	if (!Array.isArray(value) || value.length === 0)
		throw new TopologyError(
			file,
			1,
			'a list of functions, as `rdma_topo dump` writes it',
		);
	const reader = new DumpReader(text, file);
	const functions = value.map((element, i) => reader.element(element, i));
	const seen = new Set<string>();
	for (const { bdf, line } of functions) {
		if (seen.has(bdf)) throw new TopologyError(file, line, `${bdf} only once`);
		seen.add(bdf);
	}
	return functions;
}
