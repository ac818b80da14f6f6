// SPDX-License-Identifier: GPL-2.0-only
/** What functions of a machine are called, and which of them are asked about. */
import {
	type DeviceDescription,
	hex,
	type MachineDescription,
	parseBdf,
} from '../../arch/sim/description.ts';
import { UserError } from '../kproto/user_error.ts';

/** A function with the name that the tables use. */
export interface Named {
	readonly name: string;
	readonly bdf: string;
	/** `GPU 10de:2330`, with what else the source calls it. */
	readonly what: string;
	readonly kind: Kind;
	readonly device: DeviceDescription;
}

/** What a person would call a function. */
export type Kind = 'GPU' | 'ACC' | 'NIC' | 'NVME' | 'STOR' | 'VGA' | 'BR' | 'DEV';

/** A choice that makes no sense, in one line. */
export class SelectError extends UserError {}

/** Kinds in the order of the tables. */
const kinds: readonly Kind[] = ['GPU', 'ACC', 'NIC', 'NVME', 'STOR', 'VGA', 'DEV', 'BR'];
/** What is shown unless something else is asked for. */
const usual: readonly Kind[] = ['GPU', 'ACC', 'NIC', 'NVME'];
/** Makers of the display controllers of management processors: ASPEED, Matrox, Huawei. */
const consoleMakers: readonly number[] = [0x1a03, 0x102b, 0x19e5];

/** Words for kinds on the command line. */
const words: Readonly<Record<string, readonly Kind[]>> = {
	gpu: ['GPU'],
	acc: ['ACC'],
	accelerator: ['ACC'],
	nic: ['NIC'],
	net: ['NIC'],
	nvme: ['NVME'],
	storage: ['NVME', 'STOR'],
	vga: ['VGA'],
	bridge: ['BR'],
	endpoint: ['GPU', 'ACC', 'NIC', 'NVME', 'STOR', 'VGA', 'DEV'],
	all: kinds,
};

/**
 * The kind of a function.
 *
 * @param device - the function
 */
export function kindOf(device: DeviceDescription): Kind {
	const [base, sub] = [device.class >> 16, device.class >> 8];
	if (device.header !== 0 || base === 0x06) return 'BR';
	if (base === 0x03) return consoleMakers.includes(device.vendor) ? 'VGA' : 'GPU';
	if (base === 0x12 || sub === 0x0b40) return 'ACC';
	if (base === 0x02) return 'NIC';
	if (sub === 0x0108) return 'NVME';
	return base === 0x01 ? 'STOR' : 'DEV';
}

/** `GPU0` and the like: labels of our own machines, which may stand in place of numbers. */
const ownLabel = /^[A-Z]+\d+$/;

/**
 * Name all functions of a machine, in the order of the tables.
 *
 * @param d - the machine
 */
export function nameAll(d: MachineDescription): Named[] {
	const labels = new Set(d.devices.map(({ label }) => label).filter(isOwn));
	const named: Named[] = [];
	for (const kind of kinds) {
		let number = 0;
		for (const device of d.devices) {
			if (kindOf(device) !== kind) continue;
			const { bdf, label } = device;
			let name = isOwn(label) ? label : `${kind}${number++}`;
			while (!isOwn(label) && labels.has(name)) name = `${kind}${number++}`;
			const ids =
				device.vendor === 0 && device.device === 0
					? 'ids not told'
					: `${hex(device.vendor, 4)}:${hex(device.device, 4)}`;
			const called = label === undefined || isOwn(label) ? '' : ` ${label}`;
			const what = `${ids} class ${hex(device.class >> 8, 4)}${called}`;
			named.push({ name, bdf, what, kind, device });
		}
	}
	return named;
}

function isOwn(label: string | undefined): label is string {
	return label !== undefined && ownLabel.test(label);
}

/** An address as a person writes it: with or without domain, function or device. */
function addressTest(word: string): ((bdf: string) => boolean) | null {
	const match =
		/^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):(?:([01][0-9a-f])(?:\.([0-7]))?)?$/i.exec(
			word,
		);
	if (match === null) return null;
	const [, domain = '0000', bus = '', device, fn] = match;
	const want = { domain: Number.parseInt(domain, 16), bus: Number.parseInt(bus, 16) };
	return (bdf) => {
		const at = parseBdf(bdf);
		if (at === null || at.domain !== want.domain || at.bus !== want.bus) return false;
		if (device !== undefined && at.devfn >> 3 !== Number.parseInt(device, 16))
			return false;
		return fn === undefined || (at.devfn & 7) === Number(fn);
	};
}

function wordTest(word: string, all: readonly Named[]): ((one: Named) => boolean) | null {
	// A name first: ACC1 could be a class as well.
	const isName = ({ name, device }: Named) =>
		name.toLowerCase() === word.toLowerCase() || device.label === word;
	if (all.some(isName)) return isName;
	const byKind = words[word.toLowerCase()];
	if (byKind !== undefined) return ({ kind }) => byKind.includes(kind);
	const byAddress = addressTest(word);
	if (byAddress !== null) return ({ bdf }) => byAddress(bdf);
	if (/^[0-9a-f]{2}$/i.test(word)) {
		const base = Number.parseInt(word, 16);
		return ({ device }) => device.class >> 16 === base;
	}
	if (/^[0-9a-f]{4}$/i.test(word)) {
		const sub = Number.parseInt(word, 16);
		return ({ device }) => device.class >> 8 === sub;
	}
	return /^[a-z][\w.-]*$/i.test(word) ? isName : null;
}

/**
 * The functions that a filter means.
 *
 * @param all - of nameAll()
 * @param filter - kinds, classes (02, 0302), addresses (3b:00.0, 0000:3b:), names (GPU0), with commas
 * @throws SelectError where a part of it means nothing here
 */
export function select(all: readonly Named[], filter: string): Named[] {
	const tests = filter.split(',').map((part) => {
		const word = part.trim();
		const test = wordTest(word, all);
		if (test === null)
			throw new SelectError(
				`"${word}" is no class, address or name: gpu, nic, nvme, 0302, 3b:00.0, GPU0, all, ...`,
			);
		if (!all.some(test)) throw new SelectError(`no function here is "${word}"`);
		return test;
	});
	return all.filter((one) => tests.some((test) => test(one)));
}

/**
 * One function.
 *
 * @param all - of nameAll()
 * @param word - address or name
 * @throws SelectError where it means none, or several
 */
export function selectOne(all: readonly Named[], word: string): Named {
	const found = select(all, word);
	if (found.length > 1)
		throw new SelectError(
			`"${word}" means ${found.length} functions, ${found[0]?.bdf} the first: name one`,
		);
	return found[0] as Named;
}

/**
 * What is asked about unless a person says otherwise: GPUs, accelerators, NICs and NVMe drives; where there
 * are not two of them, every endpoint; where there are not two of those, everything.
 *
 * @param all - of nameAll()
 */
export function selectUsual(all: readonly Named[]): Named[] {
	const first = all.filter(({ kind }) => usual.includes(kind));
	if (first.length > 1) return first;
	const endpoints = all.filter(({ kind }) => kind !== 'BR');
	return endpoints.length > 1 ? endpoints : [...all];
}
