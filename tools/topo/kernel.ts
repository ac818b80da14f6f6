// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a kernel says of every pair, asked on a booted world.
 *
 * Guarantee: verdict and distance are those of calc_map_type_and_dist() in the release's profile; nothing
 * here decides. ACS words are those of the description: an IOMMU, which would have boot switch ACS on, is
 * left out, because the words were read after a boot already and verdicts do not depend on it.
 */
import type { MachineDescription } from '../../arch/sim/description.ts';
import { pci_enable_acs } from '../../drivers/pci/acs.ts';
import { pci_find_host_bridge } from '../../drivers/pci/host-bridge.ts';
import { pci_bridge_has_acs_redir } from '../../drivers/pci/p2pdma/acs.ts';
import { calc_map_type_and_dist } from '../../drivers/pci/p2pdma/distance.ts';
import { pci_setup, pciOptions } from '../../drivers/pci/pci.ts';
import { findPciDev, pciBus } from '../../drivers/pci/search.ts';
import {
	type pci_dev,
	type pci_host_bridge,
	pci_upstream_bridge,
} from '../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
} from '../../include/linux/pci-p2pdma.ts';
import { outParam } from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { HarnessError } from '../../include/sim/report.ts';
import { world } from '../../include/sim/world.ts';
import { boot, shutdown } from '../../init/main.ts';
import { SelectError } from './select.ts';

/**
 * How a client reaches a provider's memory: within one function, turned around below the root, sent up by
 * ACS and through the host bridge, through one host bridge, from one host bridge to another, not at all.
 */
export type Reach = 'self' | 'switch' | 'redirected' | 'host' | 'across' | 'refused';

/** A kernel's answer about a pair. */
export interface Answer {
	readonly reach: Reach;
	/** Functions passed from one to the other, also where it is refused. */
	readonly hops: number;
}

function topOf(pdev: pci_dev): pci_dev {
	let top = pdev;
	for (let up = pci_upstream_bridge(top); up !== null; up = pci_upstream_bridge(top))
		top = up;
	return top;
}

/** Names of what the kernel allowed, by where the two stand. */
function reachOf(provider: pci_dev, client: pci_dev, type: number): Reach {
	if (type === PCI_P2PDMA_MAP_NOT_SUPPORTED) return 'refused';
	if (type === PCI_P2PDMA_MAP_BUS_ADDR) return provider === client ? 'self' : 'switch';
	// With one top the chains meet: only ACS sends such a request up to the root.
	if (topOf(provider) === topOf(client)) return 'redirected';
	const same = pci_find_host_bridge(provider.bus) === pci_find_host_bridge(client.bus);
	return same ? 'host' : 'across';
}

/** More than there are functions in a machine. */
const MAX_KINDS = 1 << 24;

/** A machine and the kernel on it. */
export interface Scenario {
	readonly machine: MachineDescription;
	readonly kernel: ProfileName;
	/** What follows `pci=` on the kernel's command line: disable_acs_redir=, config_acs=. */
	readonly pci: readonly string[];
}

/** What the kernel says of a function that a parameter fits. */
const CONFIGURED = /: Configured ACS to 0x[0-9a-f]{4}$/;

/** Give the kernel its `pci=` words, have every function set up by them. @returns what it says of that */
function takeParameters(pci: readonly string[]): string[] {
	const { log } = world();
	const from = log.length;
	for (const words of pci) pci_setup(words);
	for (const dev of pciBus().devices) pci_enable_acs(dev);
	return log.slice(from);
}

/**
 * Hold `pci=` words against a kernel.
 *
 * @param scenario - machine and kernel; its own words are left aside
 * @param words - what follows `pci=`
 * @throws SelectError with what the kernel complains of, or where the words mean no function that has ACS
 */
export function checkParameters(scenario: Scenario, words: string): void {
	withKernel({ ...scenario, pci: [] }, () => {
		const said = takeParameters([words]);
		const complaint = said.find((line) => !CONFIGURED.test(line));
		if (complaint !== undefined)
			throw new SelectError(`pci=${words}: the kernel says "${complaint}"`);
		const { disable_acs_redir, config_acs, noats } = pciOptions();
		const asks = disable_acs_redir !== null || config_acs !== null;
		if (asks ? said.length === 0 : !noats)
			throw new SelectError(
				`pci=${words}: it means no function here that has ACS`,
			);
	});
}

/**
 * Work on a machine whose kernel is booted, and shut it down.
 *
 * @param scenario - machine and kernel
 * @param work - called in the world
 */
export function withKernel<T>({ machine, kernel, pci }: Scenario, work: () => T): T {
	boot({ ...machine, iommu: null }, kernel);
	try {
		if (pci.length > 0) takeParameters(pci);
		return work();
	} finally {
		shutdown();
	}
}

/**
 * A function of the booted machine.
 *
 * @param bdf - its address
 * @throws HarnessError where it is not there
 */
export function bootedFunction(bdf: string): pci_dev {
	const pdev = findPciDev(bdf);
	if (pdev === null) throw new HarnessError('bootedFunction()', `${bdf} was not enumerated`);
	return pdev;
}

/**
 * Ask about one pair in a booted world.
 *
 * @param provider - whose memory it is
 * @param client - who accesses it
 */
export function askPair(provider: pci_dev, client: pci_dev): Answer {
	const hops = outParam(0);
	const type = calc_map_type_and_dist(provider, client, hops, false);
	return { reach: reachOf(provider, client, type), hops: hops.value };
}

/**
 * Functions that no pair tells apart: endpoints of one bus whose own ACS is alike have the same chain of
 * bridges above them. Bridges are each of their own kind: others may be below them.
 */
class Alike {
	private readonly kinds = new Map<string, number>();
	private readonly bridges = new Map<pci_dev | pci_host_bridge, number>();

	/** A number for each kind. */
	of(pdev: pci_dev): number {
		const above = pdev.hdr_type === 0 ? pci_upstream_bridge(pdev) : pdev;
		const place = above ?? pci_find_host_bridge(pdev.bus);
		const at = this.bridges.get(place) ?? this.bridges.size;
		this.bridges.set(place, at);
		const key = `${at} ${pdev.hdr_type} ${pci_bridge_has_acs_redir(pdev)}`;
		const kind = this.kinds.get(key) ?? this.kinds.size;
		this.kinds.set(key, kind);
		return kind;
	}
}

/**
 * Ask a kernel about pairs. Of pairs that can't differ one is asked.
 *
 * @param scenario - machine and kernel
 * @param providers - addresses; the rows
 * @param clients - addresses; the columns
 */
export function askKernel(
	scenario: Scenario,
	providers: readonly string[],
	clients: readonly string[],
): Answer[][] {
	return withKernel(scenario, () => {
		const alike = new Alike();
		const known = new Map<number, Answer>();
		const look = (bdf: string) => {
			const pdev = bootedFunction(bdf);
			return { pdev, kind: alike.of(pdev) };
		};
		const columns = clients.map(look);
		return providers.map((bdf) => {
			const { pdev: provider, kind } = look(bdf);
			return columns.map(({ pdev: client, kind: other }) => {
				if (provider === client) return askPair(provider, client);
				const key = kind * MAX_KINDS + other;
				let answer = known.get(key);
				if (answer === undefined) {
					answer = askPair(provider, client);
					known.set(key, answer);
				}
				return answer;
			});
		});
	});
}
