// SPDX-License-Identifier: GPL-2.0-only
/**
 * How far apart two functions are, and by which path peer traffic between them goes.
 *
 * Guarantee: the answer is computed from the bridges above both functions, their ACS control words
 * of this moment, the CPU and the host bridges; it is stored in the provider's cache, and from then
 * on pci_p2pdma_map_type() gives what is stored, whatever the control words become.
 * Mechanism: calc_map_type_and_dist(), atomic.
 */
import { dev_warn, type device } from '../../../include/linux/device.ts';
import {
	dev_is_pci,
	type pci_dev,
	pci_name,
	pci_physfn,
	pci_upstream_bridge,
	to_pci_dev,
} from '../../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	type pci_p2pdma_map_type,
} from '../../../include/linux/pci-p2pdma.ts';
import type { seq_buf } from '../../../include/linux/seq_buf.ts';
import { type bool, type int, type out, outParam } from '../../../include/linux/types.ts';
import {
	endAcsList,
	makeAcsList,
	pci_bridge_has_acs_redir,
	seq_buf_print_bus_devfn,
} from './acs.ts';
import { map_types_idx, storeMapType } from './cache.ts';
import { p2pdmaOf } from './objects.ts';
import { cpu_supports_p2pdma, host_bridge_whitelist } from './whitelist.ts';

/**
 * The PCI function that a device is, or sits on.
 *
 * @param dev - any device
 * @returns null when neither it nor any of its parents is one
 * @kernel drivers/pci/p2pdma.c
 */
export function find_parent_pci_dev(dev: device): pci_dev | null {
	let at: device | null = dev;
	while (at !== null && !dev_is_pci(at)) at = at.parent;
	return at === null ? null : to_pci_dev(at);
}

/**
 * Find the path between two functions.
 *
 * ```
 *            root bus                          hops are counted up from both sides to where the
 *       ┌───────┴───────┐                      chains meet:
 *      RP0             RP1                       A - A   0
 *       │               │                        A - B   4  (A DSP0 USP, B DSP1 USP)
 *      USP              D                        A - D   6  (A DSP0 USP RP0, D RP1: both whole)
 *    ┌──┴──┐                                     B - C   2  (B DSP1, C DSP1)
 *  DSP0  DSP1   <- ACS is switched on here
 *    │   ┌─┴─┐
 *    A   B   C
 * ```
 *
 * 1. The chains meet, and no function on them redirects: the request is turned around where they
 *    meet. BUS_ADDR. The meeting function counts as redirecting, and so do both ends; what lies
 *    above it does not.
 * 2. They meet, and some function redirects: the request goes up to the root. As 4.
 * 3. They do not meet: different root ports, or different host bridges. As 4.
 * 4. Through the host bridge, if the CPU or the list of host bridges allows it:
 *    THRU_HOST_BRIDGE. Otherwise NOT_SUPPORTED.
 *
 * @param provider - whose memory it is
 * @param client - who accesses it
 * @param dist - out: hops
 * @param verbose - say in the log why not
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 */
export function calc_map_type_and_dist(
	provider: pci_dev,
	client: pci_dev,
	dist: out<int>,
	verbose: bool,
): pci_p2pdma_map_type {
	const common = meetingOf(provider, client);
	const above = common === null ? 0 : depthOf(common);
	let map_type: pci_p2pdma_map_type = PCI_P2PDMA_MAP_BUS_ADDR;
	let acs_redirects = false;
	dist.value = depthOf(provider) + depthOf(client) - 2 * above;
	const acs_list = verbose && common !== null ? makeAcsList() : null;
	// The provider's side has the function where they meet. Its control words are read all the way
	// up also where they do not, as C does it on its way.
	const end = common === null ? null : pci_upstream_bridge(common);
	let acs_cnt = countRedirects(provider, end, acs_list);
	if (common !== null) {
		acs_cnt += countRedirects(client, common, acs_list);
		acs_redirects = acs_cnt > 0;
		if (acs_redirects && acs_list !== null) warnAcsRedirect(provider, client, acs_list);
	}
	if (common === null || acs_redirects) {
		map_type = PCI_P2PDMA_MAP_THRU_HOST_BRIDGE;
		if (
			!cpu_supports_p2pdma() &&
			!host_bridge_whitelist(provider, client, acs_redirects)
		) {
			map_type = PCI_P2PDMA_MAP_NOT_SUPPORTED;
			if (verbose)
				dev_warn(
					client.dev,
					`cannot be used for peer-to-peer DMA as the client and provider (${pci_name(provider)}) do not share an upstream bridge or whitelisted host bridge`,
				);
		}
	}
	const p2pdma = p2pdmaOf(provider);
	if (p2pdma !== null) storeMapType(p2pdma, map_types_idx(client), map_type);
	return map_type;
}

/** Functions from a device up to the root bus, itself included. */
function depthOf(pdev: pci_dev): int {
	return pci_physfn(pdev).bus.bridgesAbove + 1;
}

/**
 * The function at which the chains of two functions meet.
 *
 * @returns null: they do not meet
 * @deviates C looks for each function of one chain in the whole of the other. Only the one that is
 *   as deep can be the same, so here both chains are walked once, and not at all where they end at
 *   different root buses.
 */
function meetingOf(a: pci_dev, b: pci_dev): pci_dev | null {
	if (pci_physfn(a).bus.rootBus !== pci_physfn(b).bus.rootBus) return null;
	let up_a: pci_dev | null = a;
	let up_b: pci_dev | null = b;
	let deeper = depthOf(a) - depthOf(b);
	for (; deeper > 0; deeper--) up_a = pci_upstream_bridge(up_a as pci_dev);
	for (; deeper < 0; deeper++) up_b = pci_upstream_bridge(up_b as pci_dev);
	while (up_a !== up_b) {
		up_a = pci_upstream_bridge(up_a as pci_dev);
		up_b = pci_upstream_bridge(up_b as pci_dev);
	}
	return up_a;
}

/** Count the functions of a chain that redirect, from `pdev` up to `end`, which does not count. */
function countRedirects(pdev: pci_dev, end: pci_dev | null, acs_list: seq_buf | null): int {
	let acs_cnt = 0;
	for (let at: pci_dev | null = pdev; at !== end; at = pci_upstream_bridge(at as pci_dev)) {
		if (pci_bridge_has_acs_redir(at as pci_dev) === 0) continue;
		seq_buf_print_bus_devfn(acs_list, at as pci_dev);
		acs_cnt++;
	}
	return acs_cnt;
}

function warnAcsRedirect(provider: pci_dev, client: pci_dev, acs_list: seq_buf): void {
	const list = endAcsList(acs_list, 'calc_map_type_and_dist');
	dev_warn(
		client.dev,
		`ACS redirect is set between the client and provider (${pci_name(provider)})`,
	);
	dev_warn(
		client.dev,
		`to disable ACS redirect for this path, add the kernel parameter: pci=disable_acs_redir=${list}`,
	);
}

/**
 * How far a provider is from all of its clients together.
 *
 * @param provider - whose memory it is; needs not have registered any
 * @param clients - devices that access it; one that is no PCI function counts as its next parent
 *   that is
 * @param num_clients - how many of them
 * @param verbose - say in the log why not, for every client
 * @returns the sum of all hops; -1 when there is no client, or when one of them cannot reach it
 * @context Atomic.
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_p2pdma_distance_many(
	provider: pci_dev,
	clients: readonly device[],
	num_clients: int,
	verbose: bool,
): int {
	let not_supported = false;
	let total_dist = 0;
	const distance = outParam(0);
	if (num_clients === 0) return -1;
	for (let i = 0; i < num_clients; i++) {
		const client = clients[i]!;
		const pci_client = find_parent_pci_dev(client);
		if (pci_client === null) {
			if (verbose)
				dev_warn(
					client,
					'cannot be used for peer-to-peer DMA as it is not a PCI device',
				);
			return -1;
		}
		const map = calc_map_type_and_dist(provider, pci_client, distance, verbose);
		if (map === PCI_P2PDMA_MAP_NOT_SUPPORTED) not_supported = true;
		if (not_supported && !verbose) break;
		total_dist += distance.value;
	}
	return not_supported ? -1 : total_dist;
}

/**
 * How far a provider is from one client.
 *
 * @param provider - whose memory it is
 * @param client - who accesses it
 * @param verbose - say in the log why not
 * @returns hops; -1 when the client cannot reach it
 * @kernel include/linux/pci-p2pdma.h
 */
export function pci_p2pdma_distance(provider: pci_dev, client: device, verbose: bool): int {
	return pci_p2pdma_distance_many(provider, [client], 1, verbose);
}
