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
import { calc_map_type_and_dist } from '../../drivers/pci/p2pdma/distance.ts';
import { pci_setup } from '../../drivers/pci/pci.ts';
import { findPciDev, pciBus } from '../../drivers/pci/search.ts';
import { type pci_dev, pci_upstream_bridge } from '../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
} from '../../include/linux/pci-p2pdma.ts';
import { outParam } from '../../include/linux/types.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { HarnessError } from '../../include/sim/report.ts';
import { boot, shutdown } from '../../init/main.ts';

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

/** A machine and the kernel on it. */
export interface Scenario {
	readonly machine: MachineDescription;
	readonly kernel: ProfileName;
	/** What follows `pci=` on the kernel's command line: disable_acs_redir=, config_acs=. */
	readonly pci: readonly string[];
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
		for (const words of pci) pci_setup(words);
		if (pci.length > 0) for (const dev of pciBus().devices) pci_enable_acs(dev);
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
 * Ask a kernel about pairs.
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
		const columns = clients.map(bootedFunction);
		return providers.map((bdf) => {
			const provider = bootedFunction(bdf);
			return columns.map((client) => askPair(provider, client));
		});
	});
}
