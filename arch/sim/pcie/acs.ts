// SPDX-License-Identifier: GPL-2.0-only
/**
 * Access Control Services: what a port or a function does with a request or completion of a peer.
 *
 * The rules are those of the PCI Express Base Specification, section 6.12. For a peer-to-peer request at
 * the port through which it came in (the ingress port):
 *
 *     EC  vector bit of target  RR   handling
 *     0            -            0    route directly to the peer
 *     0            -            1    redirect upstream
 *     1            0            -    route directly to the peer
 *     1            1            0    ACS violation
 *     1            1            1    redirect upstream
 *
 * DT overrides the table for translated requests: they go directly. An ACS violation completes as Completer
 * Abort. Words are taken from the control register as it is; that software cannot set a bit without its
 * capability is config space's concern.
 */
import {
	PCI_ACS_CR,
	PCI_ACS_DT,
	PCI_ACS_EC,
	PCI_ACS_RR,
	PCI_ACS_SV,
	PCI_ACS_TB,
	PCI_ACS_UF,
} from '../../../include/uapi/linux/pci_regs.ts';
import type { PcieFunction } from './hierarchy.ts';
import type { Request } from './tlp.ts';

/** A switch downstream port or a root port: a port whose link leads away from the root. */
export function isDownstreamPort(fn: PcieFunction): boolean {
	return fn.pcieType === 6 || fn.pcieType === 4;
}

/** Number of the target in the egress control vector: port number, or function number in a device. */
function egressNumber(ingress: PcieFunction, target: PcieFunction): number {
	return isDownstreamPort(ingress) ? target.devfn >> 3 : target.devfn & 7;
}

/** What the ingress does with a request that a peer claims. */
export type PeerHandling = 'direct' | 'redirect' | 'violation';

/**
 * Apply the table above.
 *
 * @param ingress - port (or function of a multi-function device) through which the request came
 * @param target - who claims the address
 * @param request - the request
 */
export function peerRequestHandling(
	ingress: PcieFunction,
	target: PcieFunction,
	request: Request,
): PeerHandling {
	const { acs } = ingress;
	if (acs === null) return 'direct';
	if (request.translated && (acs.control & PCI_ACS_DT) !== 0) return 'direct';
	const redirect = (acs.control & PCI_ACS_RR) !== 0;
	if ((acs.control & PCI_ACS_EC) === 0) return redirect ? 'redirect' : 'direct';
	const number = egressNumber(ingress, target);
	const word = acs.egress[number >> 5] ?? 0;
	if (((word >>> (number & 31)) & 1) === 0) return 'direct';
	return redirect ? 'redirect' : 'violation';
}

/** Whether the completion of a peer request goes upstream at the port (or function) it enters by. */
export function completionRedirected(ingress: PcieFunction): boolean {
	return ingress.acs !== null && (ingress.acs.control & PCI_ACS_CR) !== 0;
}

/**
 * Source validation and translation blocking at a downstream port.
 *
 * @returns the rule that the request breaks, or null
 */
export function ingressViolation(port: PcieFunction, request: Request): string | null {
	if (!isDownstreamPort(port) || port.acs === null) return null;
	const { control } = port.acs;
	if ((control & PCI_ACS_SV) !== 0) {
		const bus = request.requesterId >> 8;
		if (bus < port.secondary || bus > port.subordinate) {
			return `ACS source validation: bus ${bus} is not below this port`;
		}
	}
	if ((control & PCI_ACS_TB) !== 0 && request.translated) {
		return 'ACS translation blocking: the address is marked translated';
	}
	return null;
}

/**
 * Whether something that came from below, and whose address or id routes back below, goes on upstream.
 * A switch port does that only with upstream forwarding on; so does a root port that implements it. A
 * root port that does not leaves the decision to its root complex.
 */
export function forwardsUpstream(port: PcieFunction): boolean {
	const { acs } = port;
	if (port.pcieType === 4) {
		if (acs === null || (acs.capability & PCI_ACS_UF) === 0) return true;
	}
	return acs !== null && (acs.control & PCI_ACS_UF) !== 0;
}
