// SPDX-License-Identifier: GPL-2.0-only
/**
 * A function's struct pci_p2pdma, and the providers in it: P2P memory without struct pages.
 *
 * Guarantee: from pcim_p2pdma_init() until the driver is unbound every memory BAR has one provider,
 * the same object each time.
 * Duty: whoever holds a provider is made to give it up before the driver's remove() returns.
 */
import { fileReport, WARN_ON } from '../../../include/linux/bug.ts';
import { ENOMEM, EOPNOTSUPP } from '../../../include/linux/errno.ts';
import { IORESOURCE_MEM } from '../../../include/linux/ioport.ts';
import {
	PCI_STD_NUM_BARS,
	pci_bus_address,
	type pci_dev,
	pci_resource_flags,
	pci_resource_start,
} from '../../../include/linux/pci.ts';
import { p2pdma_provider } from '../../../include/linux/pci-p2pdma.ts';
import type { int } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { type Sim, touch } from '../../../include/sim/schedule.ts';
import { feature } from '../../../include/sim/world.ts';
import { gen_pool_destroy } from '../../../kernel/genalloc.ts';
import { synchronize_rcu } from '../../../kernel/rcu/tree.ts';
import { devm_add_action_or_reset } from '../../base/devres.ts';
import { reportUsers } from './live.ts';
import { p2pdmaOf, pci_p2pdma } from './objects.ts';

/**
 * Take a function's struct pci_p2pdma away: the devres action of pcim_p2pdma_init().
 *
 * @param pdev - the function
 * @context May sleep.
 * @kernel drivers/pci/p2pdma.c
 */
export function* pci_p2pdma_release(pdev: pci_dev): Sim<void> {
	const p2pdma = p2pdmaOf(pdev);
	if (p2pdma === null) return;
	pdev.p2pdma = null;
	for (const provider of p2pdma.mem) if (provider !== null) reportUsers(provider);
	// Without a pool nobody reads the pointer under RCU alone. v6.12 always has one.
	if (p2pdma.pool !== null) yield* synchronize_rcu();
	touch('write', p2pdma, 'map_types');
	p2pdma.map_types.clear();
	if (p2pdma.pool !== null) gen_pool_destroy(p2pdma.pool);
}

/**
 * The provider of a BAR.
 *
 * @param pdev - the function
 * @param bar - 0 to 5
 */
export function makeProvider(pdev: pci_dev, bar: int): p2pdma_provider {
	const offset =
		(pci_bus_address(pdev, bar) as bigint) - (pci_resource_start(pdev, bar) as bigint);
	return new p2pdma_provider(pdev.dev, BigInt.asUintN(64, offset));
}

/**
 * Give a function its providers. They go when the driver is unbound.
 *
 * @param pdev - the function
 * @retval 0 done, now or before
 * @retval -EOPNOTSUPP its BARs must not be mapped
 * @retval -ENOMEM no memory
 * @context May sleep.
 * @kernel drivers/pci/p2pdma.c
 * @since v6.19
 */
export function* pcim_p2pdma_init(pdev: pci_dev): Sim<int> {
	if (pdev.non_mappable_bars) return -EOPNOTSUPP;
	if (pdev.p2pdma !== null) return 0;
	if (shouldFail('devm_kzalloc')) return -ENOMEM;
	const p2p = new pci_p2pdma();
	for (let bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if ((pci_resource_flags(pdev, bar) & IORESOURCE_MEM) === 0n) continue;
		p2p.mem[bar] = makeProvider(pdev, bar);
	}
	const ret = yield* devm_add_action_or_reset(pdev.dev, pci_p2pdma_release, pdev);
	if (ret) return ret;
	pdev.p2pdma = p2p;
	return 0;
}

/**
 * The provider of a BAR.
 *
 * @param pdev - the function; pcim_p2pdma_init() must have been called
 * @param bar - 0 to 5, which is not checked
 * @returns null where the BAR is no memory, or must not be mapped
 * @kernel drivers/pci/p2pdma.c
 * @since v6.19
 */
export function pcim_p2pdma_provider(pdev: pci_dev, bar: int): p2pdma_provider | null {
	if (feature('fix_s20') && (bar < 0 || bar >= PCI_STD_NUM_BARS)) return null;
	if ((pci_resource_flags(pdev, bar) & IORESOURCE_MEM) === 0n) return null;
	if (pdev.non_mappable_bars) return null;
	const p2p = p2pdmaOf(pdev);
	if (WARN_ON(p2p === null) || p2p === null) return null;
	if (bar < 0 || bar >= PCI_STD_NUM_BARS) {
		fileReport('KASAN', 'BUG: KASAN: slab-out-of-bounds in pcim_p2pdma_provider', [
			`Read of p2pdma->mem[${bar}]: there are ${PCI_STD_NUM_BARS} BARs`,
		]);
		return null;
	}
	return p2p.mem[bar] ?? null;
}
