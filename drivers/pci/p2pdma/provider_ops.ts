// SPDX-License-Identifier: GPL-2.0-only
/**
 * Providers of any fabric: who holds addresses of them, and what happens when a way is lost.
 *
 * ```
 *   client   seq = p2pdma_read_begin()     fabric   p2pdma_reachability_changed()
 *            attach, once                             seq++            new questions, new answers
 *            map_type, bus_addr                       users' invalidate()
 *            own lock                                 (only now the way may really go)
 *              p2pdma_read_retry(seq)? again
 *              use the address
 * ```
 *
 * Guarantee: when p2pdma_reachability_changed() returns, nobody who is attached uses an address that
 * was had before it was called.
 * Duty: a client attaches before it asks, uses an address only under the lock that its invalidate()
 * takes, and does not attach or detach under that lock.
 */
import type { device } from '../../../include/linux/device.ts';
import { ENOMEM, EOPNOTSUPP } from '../../../include/linux/errno.ts';
import {
	type dev_pagemap,
	type MEMORY_DEVICE_COHERENT,
	MEMORY_DEVICE_PCI_P2PDMA,
	type range,
} from '../../../include/linux/memremap.ts';
import {
	type p2pdma_provider,
	type p2pdma_provider_ops,
	type p2pdma_user,
	pci_p2pdma_bus_addr_map,
	type pci_p2pdma_map_type,
} from '../../../include/linux/pci-p2pdma.ts';
import type { errno, int, u64 } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import { type Sim, touch } from '../../../include/sim/schedule.ts';
import { feature } from '../../../include/sim/world.ts';
import { lockdep_assert_held } from '../../../kernel/locking/lockdep.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { devm_memremap_pages } from '../../../mm/memremap.ts';
import { pci_p2pdma_map_type as mapTypeOf, pciMapType } from './map_type.ts';
import { pci_p2pdma_pagemap } from './objects.ts';

/** PCI as a fabric among others; a provider without ops has these. */
export const pci_p2pdma_provider_ops: p2pdma_provider_ops = Object.freeze({
	name: 'pci',
	map_type: pciMapType,
	bus_addr: pci_p2pdma_bus_addr_map,
});

/**
 * The ops of a provider.
 *
 * @param provider - any provider
 * @proposed Documentation/proposals/fabric-provider.md
 */
export function p2pdma_ops(provider: p2pdma_provider): p2pdma_provider_ops {
	return provider.ops ?? pci_p2pdma_provider_ops;
}

/**
 * Begin to use a provider's answers.
 *
 * @param provider - the provider
 * @returns what p2pdma_read_retry() is to be given
 * @proposed Documentation/proposals/fabric-provider.md
 */
export function p2pdma_read_begin(provider: p2pdma_provider): u64 {
	touch('read', provider, 'seq');
	return provider.seq;
}

/**
 * Whether answers had since p2pdma_read_begin() may be out of date.
 *
 * @param provider - the provider
 * @param seq - what p2pdma_read_begin() returned
 * @context Under the lock that the client's invalidate() takes.
 * @proposed Documentation/proposals/fabric-provider.md
 */
export function p2pdma_read_retry(provider: p2pdma_provider, seq: u64): boolean {
	touch('read', provider, 'seq');
	return provider.seq !== seq;
}

/**
 * Be told when answers change.
 *
 * @param provider - the provider
 * @param user - who; may be attached once only
 * @retval 0 attached
 * @retval -ENOMEM no memory to remember it
 * @context May sleep. Not under the lock that invalidate() takes.
 * @proposed Documentation/proposals/fabric-provider.md
 */
export function* p2pdma_attach(provider: p2pdma_provider, user: p2pdma_user): Sim<int> {
	if (shouldFail('p2pdma_attach')) return -ENOMEM;
	yield* mutex_lock(provider.lock);
	if (!provider.users.includes(user)) provider.users.push(user);
	yield* mutex_unlock(provider.lock);
	return 0;
}

/**
 * Hold no addresses any more. Nobody calls invalidate() after this.
 *
 * @param provider - the provider
 * @param user - as it was attached
 * @context May sleep. Not under the lock that invalidate() takes.
 * @proposed Documentation/proposals/fabric-provider.md
 */
export function* p2pdma_detach(provider: p2pdma_provider, user: p2pdma_user): Sim<void> {
	yield* mutex_lock(provider.lock);
	provider.users = provider.users.filter((other) => other !== user);
	yield* mutex_unlock(provider.lock);
}

function* invalidateUsers(provider: p2pdma_provider, dev: device | null): Sim<void> {
	lockdep_assert_held(provider.lock);
	for (const user of provider.users)
		if (dev === null || user.dev === dev) yield* user.invalidate(provider);
}

/**
 * Answers are other ones from now on: have every address given up that was had before.
 *
 * @param provider - the provider; its map_type() and bus_addr() answer anew already
 * @param dev - the only client that this is about; null: all
 * @context May sleep.
 * @proposed Documentation/proposals/fabric-provider.md
 */
export function* p2pdma_reachability_changed(
	provider: p2pdma_provider,
	dev: device | null,
): Sim<void> {
	yield* mutex_lock(provider.lock);
	touch('write', provider, 'seq');
	provider.seq++;
	yield* invalidateUsers(provider, dev);
	yield* mutex_unlock(provider.lock);
}

/** Ops of the pages: nobody takes references of what is only an address. */
const pagemapOps = Object.freeze({
	*folio_free(): Sim<void> {
		// The memory is the driver's; its pages were never handed out.
	},
});

/**
 * Give memory of a fabric struct pages, so that a page leads to its provider.
 *
 * @param dev - device whose driver does it; they go when it is unbound
 * @param provider - whose memory
 * @param r - CPU physical addresses, in units of 2 MiB
 * @param type - MEMORY_DEVICE_PCI_P2PDMA: addresses only; MEMORY_DEVICE_COHERENT: memory that the
 *   CPU uses as well
 * @param init - ops and owner of coherent memory
 * @returns the pagemap
 * @retval -EOPNOTSUPP this kernel knows PCI only
 * @returns else what devm_memremap_pages() returned
 * @context May sleep.
 * @proposed Documentation/proposals/fabric-provider.md
 */
export function* p2pdma_add_pages(
	dev: device,
	provider: p2pdma_provider,
	r: range,
	type:
		| typeof MEMORY_DEVICE_PCI_P2PDMA
		| typeof MEMORY_DEVICE_COHERENT = MEMORY_DEVICE_PCI_P2PDMA,
	init: Partial<dev_pagemap> = {},
): Sim<dev_pagemap | errno> {
	if (!feature('fabric_provider')) return -EOPNOTSUPP;
	if (shouldFail('devm_kzalloc')) return -ENOMEM;
	const { pgmap } = new pci_p2pdma_pagemap(provider);
	Object.assign(pgmap, { ops: pagemapOps, ...init, type, ranges: [r], nr_range: 1 });
	const addr = yield* devm_memremap_pages(dev, pgmap);
	return typeof addr === 'number' ? addr : pgmap;
}

/**
 * Who reaches whose memory, all pairs.
 *
 * @param providers - rows
 * @param clients - columns
 * @returns map types; not symmetric
 */
export function reachability(
	providers: readonly p2pdma_provider[],
	clients: readonly device[],
): pci_p2pdma_map_type[][] {
	return providers.map((provider) => clients.map((dev) => mapTypeOf(provider, dev)));
}
