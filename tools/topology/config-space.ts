// SPDX-License-Identifier: GPL-2.0-only
/**
 * What the bytes of a configuration space say, as far as they go.
 *
 *     64 bytes     header: ids, class, BAR addresses, bus numbers
 *     256 bytes    and capabilities: PCIe type
 *     4096 bytes   and extended capabilities: ACS, ATS
 *
 * Guarantee: any bytes give an answer. A list of capabilities that leads astray, or in a circle, ends
 * there, and what was not found on it counts as unknown.
 */
import {
	PCI_CAP_ID_EXP,
	PCI_EXT_CAP_ID_ACS,
	PCI_EXT_CAP_ID_ATS,
} from '../../include/uapi/linux/pci_regs.ts';
import type { FoundFunction, PcieTypeNumber } from './functions.ts';

const HEADER_BYTES = 64;
const CONVENTIONAL_BYTES = 256;
/** No list is longer: a capability takes four bytes at the least. */
const MAX_CAPABILITIES = 48;
const MAX_EXTENDED = 1024;
const pcieTypes: readonly number[] = [0, 1, 4, 5, 6, 7, 8, 9, 10];

/** What was read. */
export interface DecodedConfig {
	vendor: number;
	device: number;
	/** Base class, sub-class, programming interface. */
	class: number;
	revision: number;
	/** 0 endpoint, 1 bridge, 2 CardBus bridge; anything else: nobody answered. */
	headerType: number;
	multifunction: boolean;
	/** Secondary and subordinate bus of a bridge. */
	buses: { secondary: number; subordinate: number } | null;
	/** Null: conventional, or not known. */
	pcieType: PcieTypeNumber | null;
	acs: { cap: number; control: number } | null;
	ats: boolean;
	/** The bytes end before what would tell PCIe type or ACS, or nobody answered. */
	unknown: boolean;
}

/** Offset of the PCI Express capability; 0: there is none; -1: the list can't be followed. */
function findExpress(view: DataView): number {
	const CAP_LIST = 0x10;
	if ((view.getUint16(0x06, true) & CAP_LIST) === 0) return 0;
	let at = view.getUint8(0x34) & 0xfc;
	for (let i = 0; i < MAX_CAPABILITIES; i++) {
		if (at === 0) return 0;
		if (at < HEADER_BYTES || at + 4 > view.byteLength) return -1;
		if (view.getUint8(at) === PCI_CAP_ID_EXP) return at;
		at = view.getUint8(at + 1) & 0xfc;
	}
	return -1;
}

/** Offsets of the extended capabilities by id; null: the list can't be followed. */
function extendedCapabilities(view: DataView): Map<number, number> | null {
	const found = new Map<number, number>();
	let at = CONVENTIONAL_BYTES;
	for (let i = 0; i < MAX_EXTENDED; i++) {
		if (at + 4 > view.byteLength) return null;
		const header = view.getUint32(at, true);
		if (header === 0 || header === 0xffff_ffff) return found;
		const id = header & 0xffff;
		if (!found.has(id)) found.set(id, at);
		at = (header >>> 20) & 0xffc;
		if (at === 0) return found;
		if (at < CONVENTIONAL_BYTES) return null;
	}
	return null;
}

function decodeExtended(view: DataView, out: DecodedConfig): void {
	if (view.byteLength < CONVENTIONAL_BYTES + 4) {
		out.unknown = true;
		return;
	}
	const found = extendedCapabilities(view);
	if (found === null) {
		out.unknown = true;
		return;
	}
	out.ats = found.has(PCI_EXT_CAP_ID_ATS);
	const acs = found.get(PCI_EXT_CAP_ID_ACS);
	if (acs === undefined) return;
	if (acs + 8 > view.byteLength) out.unknown = true;
	else
		out.acs = {
			cap: view.getUint16(acs + 4, true),
			control: view.getUint16(acs + 6, true),
		};
}

/**
 * Decode a configuration space.
 *
 * @param bytes - from offset 0, as many as there are
 * @returns null where there is no whole header
 */
export function decodeConfig(bytes: Uint8Array): DecodedConfig | null {
	if (bytes.length < HEADER_BYTES) return null;
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	const header = view.getUint8(0x0e);
	const classRevision = view.getUint32(0x08, true);
	const out: DecodedConfig = {
		vendor: view.getUint16(0, true),
		device: view.getUint16(2, true),
		class: classRevision >>> 8,
		revision: classRevision & 0xff,
		headerType: header & 0x7f,
		multifunction: (header & 0x80) !== 0,
		buses: null,
		pcieType: null,
		acs: null,
		ats: false,
		unknown: false,
	};
	if (out.headerType > 2) {
		out.multifunction = false;
		out.unknown = true;
		return out;
	}
	if (out.headerType !== 0)
		out.buses = { secondary: view.getUint8(0x19), subordinate: view.getUint8(0x1a) };
	if (view.byteLength < CONVENTIONAL_BYTES) {
		// Without a list of capabilities it is conventional; with one, it is cut off.
		out.unknown = (view.getUint16(0x06, true) & 0x10) !== 0;
		return out;
	}
	const express = findExpress(view);
	if (express < 0) out.unknown = true;
	if (express <= 0) return out;
	const type = (view.getUint16(express + 2, true) >> 4) & 0xf;
	if (pcieTypes.includes(type)) out.pcieType = type as PcieTypeNumber;
	else out.unknown = true;
	decodeExtended(view, out);
	return out;
}

/**
 * Let the bytes of a function's configuration space overrule what else was said of it.
 *
 * @param fn - the function, `unknown` if nobody told its capabilities yet; its BARs are left alone: the
 *   bytes do not tell sizes
 * @param bytes - from offset 0
 * @returns whether there was a whole header
 */
export function applyConfig(fn: FoundFunction, bytes: Uint8Array): boolean {
	const config = decodeConfig(bytes);
	if (config === null) return false;
	// A virtual function's own ids read as all ones; who answers nothing has none either.
	if (config.vendor !== 0xffff) {
		fn.vendor = config.vendor;
		fn.device = config.device;
		fn.unknownIds = false;
	}
	if (config.headerType > 2) {
		fn.unknown = true;
		return true;
	}
	fn.class = config.class;
	fn.revision = config.revision;
	// A function beside function 0 proves it, whatever its own bit says.
	fn.multifunction = config.multifunction || !fn.bdf.endsWith('.0');
	if (config.buses !== null) fn.buses = { ...config.buses, line: fn.buses?.line ?? fn.line };
	// What a short dump leaves open was told before.
	if (config.unknown && !fn.unknown) return true;
	if (config.pcieType !== null || !config.unknown) fn.pcieType = config.pcieType;
	if (!config.unknown || config.acs !== null) fn.acs = config.acs;
	fn.ats ||= config.ats;
	fn.unknown = config.unknown;
	return true;
}
