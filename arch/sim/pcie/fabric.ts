// SPDX-License-Identifier: GPL-2.0-only
/**
 * The fabric: routes every memory request by its address, hop by hop.
 *
 * Guarantee: the way depends only on what config space, the IOMMU and the platform say at that moment.
 * No kernel decision is known here, so a wrong one ends in Unsupported Request or in other bytes.
 *
 *     up from the requester, on each bus:          at the root:                 down to the target:
 *       a peer claims the address?                   IOMMU, or ATS is on           BAR claims, or
 *         ACS of the ingress: direct, up, violation    and AT=translated           bridge window forwards
 *       else through the bridge above:               RAM?
 *         SV, TB; own window: UF or unsupported      MMIO of a host bridge?
 *                                                      may peers turn around / cross?
 *
 * Inside a hierarchy addresses are bus addresses. What reaches the root is taken as an IOVA (IOMMU) or as
 * a CPU physical address; a host bridge turns the latter into a bus address of its hierarchy. The root bus
 * itself does no peer routing by bus address: functions there meet at the root complex.
 *
 * Duty: the caller is the DMA engine of a device model; what a completion other than SC means is its
 * affair.
 */
import { HarnessError } from '../../../include/sim/report.ts';
import { footprinted, touch } from '../../../include/sim/schedule.ts';
import { PCI_COMMAND_MASTER } from '../../../include/uapi/linux/pci_regs.ts';
import type { Passage } from '../description.ts';
import type { Iommu } from '../iommu.ts';
import { type MemoryPlace, PAGE_BYTES, type PhysicalRam, pagesOf } from '../memory.ts';
import {
	completionRedirected,
	forwardsUpstream,
	ingressViolation,
	isDownstreamPort,
	peerRequestHandling,
} from './acs.ts';
import type { HostBridge, PcieFunction } from './hierarchy.ts';
import { type Completion, Request, type RequestOptions } from './tlp.ts';

/** Bridges on a way; more of them means a cycle, which validation refuses. */
const DEPTH_MAX = 256;

/** All hierarchies of a machine with the root complex that joins them. */
export class Fabric {
	hosts: HostBridge[];
	/** By `dddd:bb:dd.f`. */
	functions: Map<string, PcieFunction>;
	ram: PhysicalRam;
	iommu: Iommu | null;
	/** Whether peer requests cross from one host bridge to another. */
	crossHostBridge: Passage;
	/** Requests routed so far. */
	requests: number;

	constructor(
		hosts: HostBridge[],
		functions: Map<string, PcieFunction>,
		ram: PhysicalRam,
		iommu: Iommu | null,
	) {
		this.hosts = hosts;
		this.functions = functions;
		this.ram = ram;
		this.iommu = iommu;
		this.crossHostBridge = 'aborts';
		this.requests = 0;
	}

	/**
	 * DMA read by a function.
	 *
	 * @param requester - the function, or its address `dddd:bb:dd.f`
	 * @param address - what it puts on its bus: a bus address, an IOVA or a physical address
	 * @param length - bytes; split into requests at every 4 KiB
	 * @param options - AT field, false requester id
	 */
	read(
		requester: PcieFunction | string,
		address: bigint,
		length: number,
		options?: RequestOptions,
	): Completion {
		const data = new Uint8Array(length);
		const completion = this.transfer(requester, address, data, false, options);
		if (completion.status === 'SC') completion.data = data;
		return completion;
	}

	/**
	 * DMA write by a function.
	 *
	 * @param requester - the function, or its address `dddd:bb:dd.f`
	 * @param address - what it puts on its bus
	 * @param data - bytes; split into requests at every 4 KiB
	 * @param options - AT field, false requester id
	 */
	write(
		requester: PcieFunction | string,
		address: bigint,
		data: Uint8Array,
		options?: RequestOptions,
	): Completion {
		return this.transfer(requester, address, data, true, options);
	}

	/** MMIO read by a CPU. */
	cpuRead(phys: bigint, into: Uint8Array): Completion {
		return this.fromCpu(phys, into, false);
	}

	/** MMIO write by a CPU. */
	cpuWrite(phys: bigint, from: Uint8Array): Completion {
		return this.fromCpu(phys, from, true);
	}

	/** A function by its address, or the function itself. */
	private find(requester: PcieFunction | string, call: string): PcieFunction {
		if (typeof requester !== 'string') return requester;
		const fn = this.functions.get(requester);
		if (fn !== undefined) return fn;
		throw new HarnessError(
			`${call}('${requester}')`,
			'this machine has no such function',
		);
	}

	private transfer(
		requester: PcieFunction | string,
		address: bigint,
		bytes: Uint8Array,
		write: boolean,
		options: RequestOptions | undefined,
	): Completion {
		const fn = this.find(requester, write ? 'Fabric.write' : 'Fabric.read');
		const translated = options?.translated === true;
		const id = options?.requesterId ?? fn.requesterId;
		let first: Request | null = null;
		for (let done = 0; done < bytes.length || first === null; ) {
			const at = address + BigInt(done);
			const part = Math.min(PAGE_BYTES - Number(at & 4095n), bytes.length - done);
			const request = new Request(at, part, write, translated, id);
			this.requests++;
			this.routeFrom(fn, request);
			if (request.status !== 'SC') {
				return { status: request.status, hops: request.hops, failedAt: at };
			}
			first ??= request;
			moveBytes(request, bytes.subarray(done, done + part));
			done += part;
		}
		return { status: 'SC', hops: first.hops };
	}

	private fromCpu(phys: bigint, bytes: Uint8Array, write: boolean): Completion {
		const request = new Request(phys, bytes.length, write, true, 0);
		this.intoHierarchy(request, null);
		if (request.status === 'SC') moveBytes(request, bytes);
		return { status: request.status, hops: request.hops };
	}

	/**
	 * Where an access of a CPU at a physical address of a device ends, without moving bytes.
	 *
	 * @param phys - the address
	 * @returns null: nobody answers
	 */
	placeOf(phys: bigint): MemoryPlace | null {
		const request = new Request(phys, 1, false, true, 0);
		this.intoHierarchy(request, null);
		return request.status === 'SC' ? placeOf(request) : null;
	}

	/**
	 * Find where a request ends, without moving bytes.
	 *
	 * @param fn - the requester
	 * @param request - out: status, hops, and who claimed it
	 */
	routeFrom(fn: PcieFunction, request: Request): void {
		request.hop(fn.bdf, 'emit');
		if ((fn.command & PCI_COMMAND_MASTER) === 0) {
			request.abort(fn.bdf, 'UR', 'bus mastering is off');
			return;
		}
		let ingress = fn;
		for (let depth = 0; depth < DEPTH_MAX; depth++) {
			const peer = peerOn(ingress, request.address);
			if (peer !== null) {
				const handling = peerRequestHandling(ingress, peer, request);
				if (handling === 'direct') {
					request.hop(ingress.bdf, 'peer');
					this.down(peer, request);
					this.completeFrom(peer, request);
					return;
				}
				if (handling === 'violation') {
					request.abort(
						ingress.bdf,
						'CA',
						'ACS egress control forbids this peer',
					);
					return;
				}
				request.redirected = true;
				request.hop(ingress.bdf, 'redirect', 'ACS request redirect');
			}
			const bridge = ingress.parent;
			if (bridge === null) {
				this.atRoot(fn, ingress, request);
				return;
			}
			if (!throughBridge(bridge, request)) return;
			ingress = bridge;
		}
		throw new HarnessError(
			'Fabric',
			`${fn.bdf} hangs below more than ${DEPTH_MAX} bridges`,
		);
	}

	/**
	 * The root complex: translate, then RAM or out again through a host bridge.
	 *
	 * @param fn - the requester
	 * @param port - function on the root bus through which the request came
	 * @param request - the request
	 */
	private atRoot(fn: PcieFunction, port: PcieFunction, request: Request): void {
		const { host } = port;
		request.hop('root', 'root');
		if (this.iommu !== null) {
			const { requesterId, address, write, translated } = request;
			const phys = translated
				? this.iommu.passTranslated(
						host.domain,
						requesterId,
						address,
						write,
						fn.atsEnabled(),
					)
				: this.iommu.translate(host.domain, requesterId, address, write);
			if (phys === null) {
				request.abort('root', 'UR', this.iommu.lastFault());
				return;
			}
			if (phys !== request.address) {
				request.address = phys;
				request.hop('root', 'translate');
			}
		}
		const range = this.ram.rangeOf(Number(request.address >> 12n));
		if (range !== null) {
			request.ram = range.store;
			request.offset = request.address - range.start;
			request.status = 'SC';
			request.hop('root', 'claim', 'RAM');
			return;
		}
		this.intoHierarchy(request, host);
	}

	/**
	 * Send a request to a CPU physical address of a device.
	 *
	 * @param from - host bridge that it came from; null: a CPU
	 */
	private intoHierarchy(request: Request, from: HostBridge | null): void {
		for (const host of this.hosts) {
			const bus = host.cpuToBus(request.address);
			if (bus === null) continue;
			const refusal = this.refusal(from, host);
			if (refusal !== null) {
				request.abort('root', 'UR', refusal);
				return;
			}
			request.address = bus;
			request.hop(host.name, 'enter');
			const target = claimant(host.children, bus, null);
			if (target === null)
				request.abort(host.name, 'UR', 'nothing on the root bus claims it');
			else this.down(target, request);
			return;
		}
		request.abort(
			'root',
			'UR',
			'neither RAM nor a host bridge window is at this physical address',
		);
	}

	/** Why the platform does not let a peer request through; null if it does. */
	private refusal(from: HostBridge | null, to: HostBridge): string | null {
		if (from === null) return null;
		for (const host of from === to ? [to] : [from, to]) {
			if (host.peerToPeer !== 'works') {
				return `host bridge ${host.name} does no peer-to-peer`;
			}
		}
		if (from === to) return null;
		const crosses =
			this.crossHostBridge === 'works' &&
			from.crossing === 'works' &&
			to.crossing === 'works';
		if (!crosses) {
			return `peer-to-peer does not cross from host bridge ${from.name} to ${to.name}`;
		}
		return null;
	}

	/** Away from the root, from a function that claims the address. */
	private down(from: PcieFunction, request: Request): void {
		let fn = from;
		for (let depth = 0; depth < DEPTH_MAX; depth++) {
			const bar = fn.barAt(request.address);
			if (bar !== null) {
				request.bar = bar;
				request.offset = request.address - bar.address;
				request.status = 'SC';
				request.hop(fn.bdf, 'claim', `BAR ${bar.index}`);
				return;
			}
			request.hop(fn.bdf, 'down');
			const next = claimant(fn.children, request.address, null);
			if (next === null) {
				request.abort(
					fn.bdf,
					'UR',
					'inside the bridge window, but no device claims it',
				);
				return;
			}
			fn = next;
		}
	}

	/**
	 * The completion of a read that went directly to a peer.
	 *
	 * @param port - function on the bus where the request turned: the completion enters there
	 */
	private completeFrom(port: PcieFunction, request: Request): void {
		if (request.write || request.status !== 'SC' || !completionRedirected(port)) return;
		request.hop(port.bdf, 'completion-redirect', 'ACS completion redirect');
		let bridge = port.parent;
		for (
			let depth = 0;
			bridge !== null && depth < DEPTH_MAX;
			depth++, bridge = bridge.parent
		) {
			if (isDownstreamPort(bridge) && !forwardsUpstream(bridge)) {
				request.abort(
					bridge.bdf,
					'UR',
					'completion lost: upstream forwarding is off',
				);
				return;
			}
		}
		const refusal = this.refusal(port.host, port.host);
		if (refusal !== null) request.abort('root', 'UR', `completion lost: ${refusal}`);
	}
}

/** The function of a bus that claims a bus address, by BAR or by bridge window. */
function claimant(
	functions: readonly PcieFunction[],
	address: bigint,
	except: PcieFunction | null,
): PcieFunction | null {
	for (const fn of functions) {
		if (fn !== except && (fn.forwards(address) || fn.barAt(address) !== null))
			return fn;
	}
	return null;
}

/**
 * Who on the ingress's own bus claims an address. A request that came up through a bridge does not go
 * back through it; one that an endpoint sends may be to its own BAR. On the root bus only the latter is
 * settled without the root complex.
 */
function peerOn(ingress: PcieFunction, address: bigint): PcieFunction | null {
	const bridge = ingress.headerType === 1;
	if (!bridge && ingress.barAt(address) !== null) return ingress;
	if (ingress.parent === null) return null;
	return claimant(ingress.parent.children, address, ingress);
}

/**
 * Pass a request from the secondary side of a bridge to its primary side.
 *
 * @returns false if it ended here
 */
function throughBridge(bridge: PcieFunction, request: Request): boolean {
	if ((bridge.command & PCI_COMMAND_MASTER) === 0) {
		request.abort(bridge.bdf, 'UR', 'bus mastering of the bridge is off');
		return false;
	}
	// Bridges between PCI and PCI Express put their own id in place of the requester's.
	if (bridge.pcieType === 7) request.requesterId = bridge.secondary << 8;
	else if (bridge.pcieType === 8 || bridge.pcieType === -1) {
		request.requesterId = bridge.requesterId;
	}
	const violation = ingressViolation(bridge, request);
	if (violation !== null) {
		request.abort(bridge.bdf, 'CA', violation);
		return false;
	}
	if (bridge.forwards(request.address)) {
		const passes = isDownstreamPort(bridge)
			? forwardsUpstream(bridge)
			: bridge.pcieType === 5 && request.redirected;
		if (!passes) {
			request.abort(
				bridge.bdf,
				'UR',
				'the address routes back below and nobody there claims it',
			);
			return false;
		}
		request.redirected = true;
	}
	request.hop(bridge.bdf, 'up');
	return true;
}

/** What a routed request touches. */
function placeOf({ ram, bar, offset }: Request): MemoryPlace {
	const page = (at: bigint): number => Number(at >> 12n);
	if (ram !== null) return { object: ram, field: 'bytes', index: page(offset) };
	const { backing } = bar as NonNullable<Request['bar']>;
	return 'mmio' in backing
		? { object: backing.mmio, field: 'mmio', index: page(offset) }
		: { object: backing.store, field: 'bytes', index: page(backing.offset + offset) };
}

/** Read or write the bytes that a routed request is about. */
function moveBytes(request: Request, bytes: Uint8Array): void {
	if (footprinted()) {
		const { object, field, index } = placeOf(request);
		const access = request.write ? 'memory-write' : 'memory-read';
		touch(access, object, field, index, pagesOf(request.offset, bytes.length));
	}
	const { offset } = request;
	let store = request.ram;
	let base = offset;
	if (store === null) {
		const { backing } = request.bar as NonNullable<Request['bar']>;
		if ('mmio' in backing) {
			if (request.write) backing.mmio.mmioWrite(offset, bytes);
			else backing.mmio.mmioRead(offset, bytes);
			return;
		}
		store = backing.store;
		base = backing.offset + offset;
	}
	if (request.write) store.write(base, bytes);
	else store.read(base, bytes);
}
