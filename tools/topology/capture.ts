// SPDX-License-Identifier: GPL-2.0-only
/**
 * Recorded machines: a folder with `lspci -vvv` text and, in devs.json, what the kernel knew beyond it.
 *
 *     <folder>/lspci-D-nn-vvv.txt           the tree, ids, BARs, ACS words
 *     <folder>/lspci-D-nn-vvv-sparse.txt    the same machine with other ACS words (not everywhere)
 *     <folder>/devs.json                    CPU, bus address of each BAR, IOMMU domain types
 */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { CpuModel, MachineDescription } from '../../arch/sim/description.ts';
import { assemble } from './assemble.ts';
import { TopologyError } from './error.ts';
import { readLspci } from './lspci-text.ts';

/** The fields of devs.json that are used here. */
interface RecordedDevices {
	cpu_vendor: number;
	cpu_family: number;
	cpu_model: number;
	devs: RecordedDevice[];
}

/** A function in devs.json; numbers as hexadecimal strings unless they are small. */
export interface RecordedDevice {
	bdf: string;
	vendor: string;
	device: string;
	class: string;
	hdr: number;
	pcie_type: number;
	parent: string | null;
	host: string;
	acs_cap: string | null;
	acs_ctrl: string | null;
	sec: number;
	iommu_domain: number | null;
	bars: {
		bar: number;
		phys: string;
		bus: string;
		len: string;
		mem: number;
		pref: number;
		m64: number;
	}[];
}

/** X86_VENDOR_* of the kernel. */
const cpuVendors: Readonly<Record<number, CpuModel['vendor']>> = {
	0: 'intel',
	2: 'amd',
	5: 'centaur',
	9: 'hygon',
	10: 'zhaoxin',
};

/** How to read a capture. */
export interface CaptureOptions {
	/** ACS setting: the one found at boot, or another that was recorded. */
	state?: 'boot' | 'sparse';
	/**
	 * Take bus addresses exactly as recorded, even where they equal CPU addresses. Otherwise a recorded
	 * offset of 0 gives way to the reader's default, which is never 0.
	 */
	exactOffsets?: boolean;
}

/** Read devs.json of a capture. */
export function readRecordedDevices(folder: string): RecordedDevices {
	const file = join(folder, 'devs.json');
	try {
		return JSON.parse(readFileSync(file, 'utf8')) as RecordedDevices;
	} catch (error) {
		throw new TopologyError(
			file,
			1,
			`the devices of a capture as JSON (${String(error)})`,
		);
	}
}

/** Whether a folder has the text of an ACS setting. */
export function captureStates(folder: string): ('boot' | 'sparse')[] {
	return existsSync(join(folder, 'lspci-D-nn-vvv-sparse.txt'))
		? ['boot', 'sparse']
		: ['boot'];
}

function iommuOf(
	{ devs }: RecordedDevices,
	vendor: CpuModel['vendor'],
): MachineDescription['iommu'] {
	const types = devs
		.map((dev) => dev.iommu_domain)
		.filter((type) => type !== null && type > 0);
	if (types.length === 0) return null;
	const kind = vendor === 'amd' || vendor === 'hygon' ? 'amd' : 'intel';
	if (types.includes(3)) return { kind, domains: 'dma' };
	return { kind, domains: types.includes(11) ? 'dma-fq' : 'identity' };
}

/**
 * Read a capture.
 *
 * @param folder - its folder; the folder's name becomes the machine's
 * @param options - which ACS setting, which bus addresses
 * @throws TopologyError naming line and expectation
 */
export function readCapture(folder: string, options: CaptureOptions = {}): MachineDescription {
	const recorded = readRecordedDevices(folder);
	const buses = new Map<string, bigint>();
	for (const dev of recorded.devs) {
		for (const bar of dev.bars) {
			if (bar.mem === 0) continue;
			if (options.exactOffsets !== true && BigInt(bar.phys) === BigInt(bar.bus))
				continue;
			buses.set(`${dev.bdf} ${bar.bar}`, BigInt(bar.bus));
		}
	}
	const suffix = options.state === 'sparse' ? '-sparse' : '';
	const file = join(folder, `lspci-D-nn-vvv${suffix}.txt`);
	const vendor = cpuVendors[recorded.cpu_vendor] ?? 'intel';
	let text: string;
	try {
		text = readFileSync(file, 'utf8');
	} catch (error) {
		throw new TopologyError(file, 1, `lspci -vvv text of a capture (${String(error)})`);
	}
	return assemble(readLspci({ text, file }), file, {
		name: basename(folder) + suffix,
		cpu: { vendor, family: recorded.cpu_family, model: recorded.cpu_model },
		busAddress: (bdf, bar) => buses.get(`${bdf} ${bar}`) ?? null,
		iommu: iommuOf(recorded, vendor),
	});
}
