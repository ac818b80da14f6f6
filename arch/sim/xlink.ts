// SPDX-License-Identifier: GPL-2.0-only
/**
 * A link fabric beside PCIe, as NVLink and xGMI are: ports, directed links, addresses of its own.
 *
 * ```
 *   port A ──link──> port B            A's view      aperture of B    aperture of C
 *     │                │               addresses   |------- 1 ------|------- 2 ------|
 *     └── memory       └── memory      C's view      aperture of B = 1, of A = 2: another number
 * ```
 *
 * Guarantee: a request moves real bytes if its link is up, and fails as a whole if it is not; an
 * address means something only together with the port that uses it. No request goes by way of a
 * third port.
 */
import type { FrameStore } from './memory.ts';

/** Bytes of an aperture. */
export const XLINK_APERTURE = 1n << 40n;

/** How a request ended: successful, or no such place by this way. */
export type XlinkStatus = 'OK' | 'LINK-DOWN' | 'NO-APERTURE' | 'BEYOND-MEMORY';

/** One device's end of the fabric. */
export class XlinkPort {
	readonly name: string;
	/** What others reach through this port; null: it only asks. */
	readonly memory: FrameStore | null;
	/** Aperture numbers by the port behind them, in the order in which links were trained. */
	apertures: XlinkPort[] = [];
	/** Ports to which new addresses may be used. */
	up: Set<XlinkPort> = new Set();
	/** Ports whose link is being taken down: requests still get through. */
	draining: Set<XlinkPort> = new Set();

	/**
	 * @param name - for people
	 * @param memory - what others reach
	 */
	constructor(name: string, memory: FrameStore | null) {
		this.name = name;
		this.memory = memory;
	}

	/**
	 * Train a link, one way: requests from here to there.
	 *
	 * @param to - port with memory
	 */
	train(to: XlinkPort): void {
		if (!this.apertures.includes(to)) this.apertures.push(to);
		this.up.add(to);
	}

	/**
	 * The address that this port uses for a byte of another's memory.
	 *
	 * @param to - the other port
	 * @param offset - byte of its memory
	 * @returns null: no link was ever trained
	 */
	address(to: XlinkPort, offset: bigint): bigint | null {
		const at = this.apertures.indexOf(to);
		return at < 0 ? null : BigInt(at + 1) * XLINK_APERTURE + offset;
	}

	/**
	 * Read.
	 *
	 * @param address - as this port uses it
	 * @param into - where to; left alone unless all of it was read
	 */
	read(address: bigint, into: Uint8Array): XlinkStatus {
		const target = this.route(address, into.length);
		if (typeof target === 'string') return target;
		target.store.read(target.offset, into);
		return 'OK';
	}

	/**
	 * Write.
	 *
	 * @param address - as this port uses it
	 * @param from - what is written
	 */
	write(address: bigint, from: Uint8Array): XlinkStatus {
		const target = this.route(address, from.length);
		if (typeof target === 'string') return target;
		target.store.write(target.offset, from);
		return 'OK';
	}

	private route(
		address: bigint,
		length: number,
	): XlinkStatus | { store: FrameStore; offset: bigint } {
		const to = this.apertures[Number(address / XLINK_APERTURE) - 1];
		if (to === undefined || to.memory === null) return 'NO-APERTURE';
		if (!this.up.has(to) && !this.draining.has(to)) return 'LINK-DOWN';
		const offset = address % XLINK_APERTURE;
		if (offset + BigInt(length) > to.memory.size) return 'BEYOND-MEMORY';
		return { store: to.memory, offset };
	}
}
