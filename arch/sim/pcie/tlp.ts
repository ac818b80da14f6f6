// SPDX-License-Identifier: GPL-2.0-only
/** What travels through the fabric: memory requests, their hops, their completions. */

import type { FrameStore } from '../memory.ts';
import type { Bar } from './hierarchy.ts';

/** Completion status: successful, unsupported request, completer abort. */
export type CompletionStatus = 'SC' | 'UR' | 'CA';

/** What happened to a request at one place. */
export type HopAction =
	/** the requester sent it */
	| 'emit'
	/** a bridge passed it towards the root */
	| 'up'
	/** ACS sent it up although a peer claims the address */
	| 'redirect'
	/** routed directly to a peer on the same bus, or in the same device */
	| 'peer'
	/** the root complex took it */
	| 'root'
	/** the IOMMU translated it: `address` is the CPU physical address */
	| 'translate'
	/** a host bridge sent it into its hierarchy: `address` is the bus address */
	| 'enter'
	/** a bridge passed it away from the root */
	| 'down'
	/** RAM or a BAR took it */
	| 'claim'
	/** ACS sent the completion up instead of directly */
	| 'completion-redirect'
	/** it ended here; `why` says the rule */
	| 'abort';

/** One step of a request's way. */
export interface Hop {
	/** `dddd:bb:dd.f` of a function, `dddd:bb` of a host bridge, or `root`. */
	at: string;
	action: HopAction;
	/** The address that it carries from here on. */
	address: bigint;
	/** The rule, for hops that are not plain routing. */
	why?: string;
}

/** How a request ended. */
export interface Completion {
	status: CompletionStatus;
	/** Bytes of a successful read. */
	data?: Uint8Array;
	/** Way of the request; of the failed one, or else of the first where a transfer needed several. */
	hops: Hop[];
	/** Address of the request that failed. */
	failedAt?: bigint;
}

/** What a requester may say beyond address and data. */
export interface RequestOptions {
	/** The address has been translated by ATS: AT field "translated". */
	translated?: boolean;
	/** A requester id that is not the function's own: a device that lies. */
	requesterId?: number;
}

/** A memory request on its way, and where it ended. It does not outlive the call that made it. */
export class Request {
	address: bigint;
	length: number;
	write: boolean;
	translated: boolean;
	/** Bus number and devfn of who seems to have sent it; bridges to PCI put their own in. */
	requesterId: number;
	/** ACS has sent it upstream past a peer that claims the address. */
	redirected = false;
	hops: Hop[] = [];
	status: CompletionStatus = 'UR';
	/** RAM that claimed it, and the byte in it. */
	ram: FrameStore | null = null;
	/** BAR that claimed it. */
	bar: Bar | null = null;
	/** Byte of the RAM or the BAR. */
	offset = 0n;

	constructor(
		address: bigint,
		length: number,
		write: boolean,
		translated: boolean,
		requesterId: number,
	) {
		this.address = address;
		this.length = length;
		this.write = write;
		this.translated = translated;
		this.requesterId = requesterId;
	}

	/** Note a step. */
	hop(at: string, action: HopAction, why?: string): void {
		const { address } = this;
		this.hops.push(
			why === undefined ? { at, action, address } : { at, action, address, why },
		);
	}

	/** End without success. */
	abort(at: string, status: 'UR' | 'CA', why: string): void {
		this.status = status;
		this.hop(at, 'abort', why);
	}
}
