// SPDX-License-Identifier: GPL-2.0-only
/**
 * Configuration space of a function: real bytes with a real layout.
 *
 *     000  header type 0 or 1: ids, command, BARs, bus numbers, windows
 *     040  PCI Express capability (not on conventional functions)
 *     100  ACS extended capability, if there is one
 *     1xx  ATS extended capability, if there is one
 *
 * Guarantee: reading back gives what was written, except in read-only bits, which keep their value: BAR
 * bits below the size (so sizing by all ones works), ACS control bits without their capability bit
 * (unless the description says that this hardware takes them).
 *
 * Mechanism: the bytes are made on the first access, from the function's decoded registers; every write
 * updates the decoded registers, and the fabric routes by those.
 *
 * Duty: nobody writes `bytes` directly.
 */
import { HarnessError } from '../../../include/sim/report.ts';
import {
	PCI_ACS_EC,
	PCI_CAP_ID_EXP,
	PCI_EXT_CAP_ID_ACS,
	PCI_EXT_CAP_ID_ATS,
} from '../../../include/uapi/linux/pci_regs.ts';

/** Offset of the PCI Express capability. */
export const PCIE_CAPABILITY = 0x40;
/** Offset of the first extended capability. */
export const FIRST_EXTENDED = 0x100;

const COMMAND_WRITABLE = 0x0547;
const COMMAND = 0x04;
const BARS = 0x10;
const BUS_NUMBERS = 0x18;
const MEMORY_WINDOW = 0x20;
const PREFETCH_WINDOW = 0x24;
const PREFETCH_BASE_HIGH = 0x28;
const PREFETCH_LIMIT_HIGH = 0x2c;
const CAPABILITY_POINTER = 0x34;
const INTERRUPT = 0x3c;
const PCIE_BYTES = 0x3c;
const ACS_CONTROL_BITS = 0x7f;

/** A BAR as config space shows it. */
export interface BarRegister {
	index: number;
	size: bigint;
	/** Bus address in the register now. */
	address: bigint;
	prefetchable: boolean;
	is64: boolean;
	io: boolean;
}

/** ACS as config space shows it. */
export interface AcsRegisters {
	capability: number;
	control: number;
	/** Control bits that software can change. */
	writable: number;
	/** Egress control vector, one bit a port, in 32-bit words. */
	egress: Uint32Array;
}

/** The decoded registers of a function (class PcieFunction has them). */
export interface Registers {
	readonly vendor: number;
	readonly device: number;
	readonly classCode: number;
	readonly revision: number;
	readonly headerType: number;
	readonly multifunction: boolean;
	readonly pcieType: number;
	readonly bus: number;
	readonly devfn: number;
	command: number;
	secondary: number;
	subordinate: number;
	/** Bridge windows; a base above its limit is a closed window. */
	memoryBase: bigint;
	memoryLimit: bigint;
	prefetchBase: bigint;
	prefetchLimit: bigint;
	readonly bars: readonly BarRegister[];
	readonly acs: AcsRegisters | null;
	readonly ats: boolean;
}

/** Offset of the ACS capability; 0: none. */
export function acsOffset(r: Registers): number {
	return r.acs === null || r.pcieType === -1 ? 0 : FIRST_EXTENDED;
}

/** Offset of the ATS capability; 0: none. */
export function atsOffset(r: Registers): number {
	if (!r.ats || r.pcieType === -1) return 0;
	return r.acs === null ? FIRST_EXTENDED : FIRST_EXTENDED + 0x30;
}

/** Configuration space of one function. */
export class ConfigSpace {
	/** 256 bytes for a conventional function, 4096 for a PCI Express one. */
	bytes: Uint8Array;
	/** The function's decoded registers. */
	registers: Registers;

	/** @param registers - what the firmware left */
	constructor(registers: Registers) {
		this.registers = registers;
		this.bytes = new Uint8Array(registers.pcieType === -1 ? 256 : 4096);
		this.writeHeader();
		this.writeCapabilities();
	}

	/**
	 * Read a register.
	 *
	 * @param where - offset, a multiple of `size`
	 * @param size - 1, 2 or 4 bytes
	 * @returns all ones beyond the end, as a master abort reads
	 */
	read(where: number, size: number): number {
		checkAccess('readConfig', where, size);
		const { bytes } = this;
		if (where + size > bytes.length) return 2 ** (8 * size) - 1;
		const low = bytes[where] as number;
		if (size === 1) return low;
		const word = low | ((bytes[where + 1] as number) << 8);
		if (size === 2) return word;
		const high = (bytes[where + 2] as number) | ((bytes[where + 3] as number) << 8);
		return high * 0x1_0000 + word;
	}

	/**
	 * Write a register; read-only bits keep their value.
	 *
	 * @param where - offset, a multiple of `size`
	 * @param size - 1, 2 or 4 bytes
	 * @param value - what is written
	 */
	write(where: number, size: number, value: number): void {
		checkAccess('writeConfig', where, size);
		if (where + size > this.bytes.length) return;
		const dword = where & ~3;
		const shift = 8 * (where & 3);
		const lanes = size === 4 ? 0xffff_ffff : ((2 ** (8 * size) - 1) << shift) >>> 0;
		const mask = (this.writableBits(dword) & lanes) >>> 0;
		if (mask === 0) return;
		const old = this.read(dword, 4);
		const written = size === 4 ? value >>> 0 : (value << shift) >>> 0;
		this.put32(dword, ((old & ~mask) | (written & mask)) >>> 0);
		this.decode(dword);
	}

	private put16(where: number, value: number): void {
		this.bytes[where] = value & 0xff;
		this.bytes[where + 1] = (value >>> 8) & 0xff;
	}

	private put32(where: number, value: number): void {
		this.put16(where, value & 0xffff);
		this.put16(where + 2, value >>> 16);
	}

	private writeHeader(): void {
		const r = this.registers;
		const bytes = this.bytes;
		this.put16(0x00, r.vendor);
		this.put16(0x02, r.device);
		this.put16(COMMAND, r.command);
		this.put16(0x06, r.pcieType === -1 ? 0 : 0x0010);
		this.put32(0x08, r.classCode * 256 + r.revision);
		bytes[0x0e] = r.headerType | (r.multifunction ? 0x80 : 0);
		for (const bar of r.bars) {
			const at = BARS + 4 * bar.index;
			const type = bar.io ? 1 : (bar.is64 ? 4 : 0) | (bar.prefetchable ? 8 : 0);
			this.put32(at, Number(bar.address & 0xffff_ffffn) + type);
			if (bar.is64) this.put32(at + 4, Number(bar.address >> 32n));
		}
		if (r.headerType === 1) this.writeBridgeHeader();
		if (r.pcieType !== -1) bytes[CAPABILITY_POINTER] = PCIE_CAPABILITY;
	}

	private writeBridgeHeader(): void {
		const r = this.registers;
		this.bytes[BUS_NUMBERS] = r.bus;
		this.bytes[BUS_NUMBERS + 1] = r.secondary;
		this.bytes[BUS_NUMBERS + 2] = r.subordinate;
		this.put16(MEMORY_WINDOW, Number((r.memoryBase >> 16n) & 0xfff0n));
		this.put16(MEMORY_WINDOW + 2, Number((r.memoryLimit >> 16n) & 0xfff0n));
		this.put16(PREFETCH_WINDOW, Number((r.prefetchBase >> 16n) & 0xfff0n) | 1);
		this.put16(PREFETCH_WINDOW + 2, Number((r.prefetchLimit >> 16n) & 0xfff0n) | 1);
		this.put32(PREFETCH_BASE_HIGH, Number(r.prefetchBase >> 32n));
		this.put32(PREFETCH_LIMIT_HIGH, Number(r.prefetchLimit >> 32n));
	}

	private writeCapabilities(): void {
		const r = this.registers;
		if (r.pcieType === -1) return;
		this.bytes[PCIE_CAPABILITY] = PCI_CAP_ID_EXP;
		const slot = r.pcieType === 4 || r.pcieType === 6 ? 0x100 : 0;
		this.put16(PCIE_CAPABILITY + 2, 2 | (r.pcieType << 4) | slot);
		// Link capabilities: the port number is the device number.
		this.bytes[PCIE_CAPABILITY + 0x0f] = r.devfn >> 3;
		const acs = acsOffset(r);
		const ats = atsOffset(r);
		if (acs !== 0 && r.acs !== null) {
			this.put32(acs, PCI_EXT_CAP_ID_ACS + 0x1_0000 + ats * 0x10_0000);
			this.put16(acs + 4, r.acs.capability);
			this.put16(acs + 6, r.acs.control);
			for (let i = 0; i < r.acs.egress.length; i++) {
				this.put32(acs + 8 + 4 * i, r.acs.egress[i] as number);
			}
		}
		if (ats !== 0) this.put32(ats, PCI_EXT_CAP_ID_ATS + 0x1_0000);
	}

	/** Bits of a 32-bit word that software can change. */
	private writableBits(dword: number): number {
		const r = this.registers;
		if (dword === COMMAND) return COMMAND_WRITABLE;
		if (dword === 0x0c || dword === INTERRUPT) return 0xff;
		const barEnd = r.headerType === 1 ? 0x18 : 0x28;
		if (dword >= BARS && dword < barEnd) return this.barBits((dword - BARS) >> 2);
		if (r.headerType === 1) {
			if (dword === BUS_NUMBERS) return 0x00ff_ffff;
			if (dword === MEMORY_WINDOW || dword === PREFETCH_WINDOW)
				return 0xfff0_fff0;
			if (dword === PREFETCH_BASE_HIGH || dword === PREFETCH_LIMIT_HIGH)
				return 0xffff_ffff;
		}
		return this.capabilityBits(dword);
	}

	private barBits(index: number): number {
		for (const bar of this.registers.bars) {
			const mask = ~(bar.size - 1n);
			if (bar.index === index) return Number(mask & 0xffff_ffffn);
			if (bar.is64 && bar.index + 1 === index)
				return Number((mask >> 32n) & 0xffff_ffffn);
		}
		return 0;
	}

	private capabilityBits(dword: number): number {
		const r = this.registers;
		if (r.pcieType === -1) return 0;
		const inPcie = dword - PCIE_CAPABILITY;
		if (inPcie > 0 && inPcie < PCIE_BYTES) {
			// The control registers: device, link, slot, root, device 2, link 2.
			return [0x08, 0x10, 0x18, 0x1c, 0x28, 0x30].includes(inPcie) ? 0xffff : 0;
		}
		const acs = acsOffset(r);
		if (acs !== 0 && r.acs !== null) {
			if (dword === acs + 4)
				return ((r.acs.writable & ACS_CONTROL_BITS) << 16) >>> 0;
			const word = (dword - acs - 8) >> 2;
			const egress = r.acs.capability & PCI_ACS_EC ? r.acs.egress.length : 0;
			if (dword >= acs + 8 && word < egress) return 0xffff_ffff;
		}
		const ats = atsOffset(r);
		return ats !== 0 && dword === ats + 4 ? 0x801f_0000 : 0;
	}

	/** Carry a changed word over into the decoded registers. */
	private decode(dword: number): void {
		const r = this.registers;
		if (dword === COMMAND) r.command = this.read(COMMAND, 2);
		else if (dword >= BARS && dword < (r.headerType === 1 ? 0x18 : 0x28))
			this.decodeBars();
		else if (
			r.headerType === 1 &&
			dword >= BUS_NUMBERS &&
			dword <= PREFETCH_LIMIT_HIGH
		) {
			this.decodeBridge();
		}
		const acs = acsOffset(r);
		if (acs === 0 || r.acs === null) return;
		if (dword === acs + 4) r.acs.control = this.read(acs + 6, 2);
		const word = (dword - acs - 8) >> 2;
		if (dword >= acs + 8 && word < r.acs.egress.length) {
			r.acs.egress[word] = this.read(dword, 4);
		}
	}

	private decodeBars(): void {
		for (const bar of this.registers.bars) {
			const at = BARS + 4 * bar.index;
			const low = BigInt(this.read(at, 4)) & (bar.io ? ~3n : ~15n);
			bar.address = bar.is64 ? (BigInt(this.read(at + 4, 4)) << 32n) | low : low;
		}
	}

	private decodeBridge(): void {
		const r = this.registers;
		const megabytes = (where: number) => BigInt(this.read(where, 2) & 0xfff0) << 16n;
		r.secondary = this.read(BUS_NUMBERS + 1, 1);
		r.subordinate = this.read(BUS_NUMBERS + 2, 1);
		r.memoryBase = megabytes(MEMORY_WINDOW);
		r.memoryLimit = megabytes(MEMORY_WINDOW + 2) | 0xf_ffffn;
		r.prefetchBase =
			(BigInt(this.read(PREFETCH_BASE_HIGH, 4)) << 32n) |
			megabytes(PREFETCH_WINDOW);
		r.prefetchLimit =
			(BigInt(this.read(PREFETCH_LIMIT_HIGH, 4)) << 32n) |
			megabytes(PREFETCH_WINDOW + 2) |
			0xf_ffffn;
	}
}

function checkAccess(call: string, where: number, size: number): void {
	if (size !== 1 && size !== 2 && size !== 4) {
		throw new HarnessError(`${call}(${where}, ${size})`, 'the size is 1, 2 or 4 bytes');
	}
	if (where < 0 || where >= 4096 || where % size !== 0) {
		throw new HarnessError(
			`${call}(${where}, ${size})`,
			'the offset lies in 0..4095 and is a multiple of the size',
		);
	}
}
