// SPDX-License-Identifier: GPL-2.0-only
/** Configuration spaces for tests: a header, a PCI Express capability, ACS. */

/** What a function is. */
export interface ConfigOptions {
	readonly vendor: number;
	readonly device: number;
	readonly class: number;
	/** PCIe type; absent: conventional. */
	readonly type?: number;
	/** Secondary and subordinate bus: it is a bridge. */
	readonly buses?: readonly [number, number];
	readonly acs?: { readonly cap: number; readonly control: number };
}

const EXPRESS = 0x60;

/** All 4096 bytes; of a conventional function the last 3840 are not there in reality, and 0 here. */
export function configBytes(options: ConfigOptions): Uint8Array {
	const bytes = new Uint8Array(4096);
	const view = new DataView(bytes.buffer);
	view.setUint16(0, options.vendor, true);
	view.setUint16(2, options.device, true);
	view.setUint32(8, options.class << 8, true);
	if (options.buses !== undefined) {
		bytes[0x0e] = 1;
		bytes[0x19] = options.buses[0];
		bytes[0x1a] = options.buses[1];
	}
	if (options.type === undefined) return bytes;
	bytes[0x06] = 0x10;
	bytes[0x34] = 0x40;
	// power management first, then PCI Express
	bytes.set([0x01, EXPRESS], 0x40);
	bytes.set([0x10, 0x00, (options.type << 4) | 2, 0x00], EXPRESS);
	if (options.acs === undefined) return bytes;
	// error reporting first, then ACS
	view.setUint32(0x100, 0x1400_0000 | 0x0001_0001, true);
	view.setUint32(0x140, 0x0001_000d, true);
	view.setUint16(0x144, options.acs.cap, true);
	view.setUint16(0x146, options.acs.control, true);
	return bytes;
}
