// SPDX-License-Identifier: GPL-2.0-only
/** Replays of offering memory: registered BARs, providers without struct pages, fatal calls. */
import { formatHex } from '../../../arch/sim/description.ts';
import { devres_release_all } from '../../../drivers/base/devres.ts';
import { cachedMapType } from '../../../drivers/pci/p2pdma/cache.ts';
import { pci_has_p2pmem, pci_p2pmem_publish } from '../../../drivers/pci/p2pdma/find.ts';
import { mapTypeNumber, pci_p2pdma_map_type } from '../../../drivers/pci/p2pdma/map_type.ts';
import { pci_p2pdma_add_resource } from '../../../drivers/pci/p2pdma/memory.ts';
import type { pci_p2pdma } from '../../../drivers/pci/p2pdma/objects.ts';
import { pci_alloc_p2pmem } from '../../../drivers/pci/p2pdma/p2pmem.ts';
import { pcim_p2pdma_init, pcim_p2pdma_provider } from '../../../drivers/pci/p2pdma/provider.ts';
import { device } from '../../../include/linux/device.ts';
import { IORESOURCE_MEM } from '../../../include/linux/ioport.ts';
import { type pci_dev, pci_resource_flags, pci_resource_len } from '../../../include/linux/pci.ts';
import {
	type p2pdma_provider,
	pci_p2pdma_bus_addr_map,
} from '../../../include/linux/pci-p2pdma.ts';
import { KernelOops } from '../../../include/sim/report.ts';
import { world } from '../../../include/sim/world.ts';
import { PCI_STD_NUM_BARS } from '../../../include/uapi/linux/pci_regs.ts';
import { gen_pool_avail, gen_pool_size } from '../../../kernel/genalloc.ts';
import { run } from '../../../kernel/sched/core.ts';
import type { Comparison } from '../report.ts';
import type { Shaped } from '../shape.ts';
import { compareVariants } from './mappings.ts';
import type {
	hazardsShape,
	MapTypesRecord,
	providersShape,
	registerEdgeShape,
	registerShape,
	StateRecord,
} from './records.ts';
import type { Rig } from './rig.ts';

/** ZONE_DEVICE memory comes in pieces of 2 MiB. */
const LEAST_BAR = 0x20_0000n;

/** A setting for questions that depend on the device tree alone. */
function plainState(rig: Rig, topology: string): StateRecord {
	const { devs } = rig.topology(topology);
	return {
		cpu_vendor: 0,
		cpu_family: 6,
		acs: devs.map(() => null),
		ids: devs.map(({ vendor, device }) => [vendor, device]),
	};
}

function bootPlain(rig: Rig, topology: string): void {
	rig.boot(`plain ${topology}`, { topology, state: plainState(rig, topology) });
}

function poolOf(pdev: pci_dev): pci_p2pdma['pool'] {
	return (pdev.p2pdma as pci_p2pdma | null)?.pool ?? null;
}

/** Replay a registration of a whole BAR. */
export function replayRegister(rig: Rig, r: Shaped<typeof registerShape>, found: Comparison): void {
	bootPlain(rig, r.topology);
	const pdev = rig.named(r.dev);
	const ret = run(() => pci_p2pdma_add_resource(pdev, r.bar, BigInt(r.size), BigInt(r.off)));
	found.equal('pci_p2pdma_add_resource', r.ret, ret);
}

/** Replay a registration, and what it leaves behind. */
export function replayRegisterEdge(
	rig: Rig,
	r: Shaped<typeof registerEdgeShape>,
	found: Comparison,
): void {
	bootPlain(rig, r.topology);
	const pdev = rig.named(r.dev);
	const ret = run(() => pci_p2pdma_add_resource(pdev, r.bar, BigInt(r.size), BigInt(r.off)));
	found.equal('pci_p2pdma_add_resource', r.ret, ret);
	// The recorder undid everything after a failure.
	if (ret !== 0) run(() => devres_release_all(pdev.dev));
	const pool = poolOf(pdev);
	if (r.pool_size !== undefined)
		found.equal(
			'pool_size',
			r.pool_size,
			pool === null ? 0 : Number(gen_pool_size(pool)),
		);
	if (r.pool_avail !== undefined)
		found.equal(
			'pool_avail',
			r.pool_avail,
			pool === null ? 0 : Number(gen_pool_avail(pool)),
		);
	if (r.p2pdma_after !== undefined)
		found.equal('p2pdma_after', Boolean(r.p2pdma_after), pdev.p2pdma !== null);
	run(() => devres_release_all(pdev.dev));
	if (r.p2pdma_after_release !== undefined)
		found.equal(
			'p2pdma_after_release',
			Boolean(r.p2pdma_after_release),
			pdev.p2pdma !== null,
		);
}

/** Register the first BAR that can be, as the machine's driver did before it was asked. */
function registerAny(rig: Rig, pdev: pci_dev): void {
	for (let bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if ((pci_resource_flags(pdev, bar) & IORESOURCE_MEM) === 0n) continue;
		if ((pci_resource_len(pdev, bar) as bigint) < LEAST_BAR) continue;
		if (run(() => pci_p2pdma_add_resource(pdev, bar, 0n, 0n)) === 0) return;
	}
	rig.bad('had_p2pdma: no BAR of this device can be registered');
}

function compareBars(
	pdev: pci_dev,
	bars: Shaped<typeof providersShape>['bars'],
	found: Comparison,
): void {
	for (const [i, b] of bars.entries()) {
		const provider = pcim_p2pdma_provider(pdev, b.bar);
		found.equal(`bars[${i}].provider`, Boolean(b.provider), provider !== null);
		if (provider === null || !b.provider) continue;
		found.equal(
			`bars[${i}].owner_is_dev`,
			Boolean(b.owner_is_dev),
			provider.owner === pdev.dev,
		);
		found.equal(`bars[${i}].bus_offset`, b.bus_offset, formatHex(provider.bus_offset));
		const start = pci_p2pdma_bus_addr_map(provider, BigInt(b.phys)) as bigint;
		found.equal(
			`bars[${i}].bus_addr_map_start`,
			b.bus_addr_map_start,
			formatHex(start),
		);
	}
}

function compareMapTypes(
	rig: Rig,
	p: number,
	what: string,
	q: MapTypesRecord,
	found: Comparison,
): void {
	const pdev = rig.dev(p);
	const provider = pcim_p2pdma_provider(pdev, q.bar) as p2pdma_provider;
	for (const [i, cached] of q.cached_before.entries()) rig.setCached(p, rig.dev(i), cached);
	for (const [i, type] of q.type.entries()) {
		if (type < 0) continue;
		const client = rig.dev(i);
		const got = mapTypeNumber(pci_p2pdma_map_type(provider, client.dev));
		found.equal(`${what}.type[${i}]`, type, got);
		const cached = mapTypeNumber(cachedMapType(pdev, client));
		found.equal(`${what}.cached_after[${i}]`, q.cached_after[i], cached);
	}
	const child = new device({ init_name: 'child', parent: pdev.dev });
	found.equal(
		`${what}.child_of_provider`,
		q.child_of_provider,
		mapTypeNumber(pci_p2pdma_map_type(provider, child)),
	);
	const other = new device({ init_name: 'nonpci' });
	found.equal(
		`${what}.nonpci`,
		q.nonpci,
		mapTypeNumber(pci_p2pdma_map_type(provider, other)),
	);
}

/** Replay what a function without struct pages offers. */
export function replayProviders(
	rig: Rig,
	r: Shaped<typeof providersShape>,
	found: Comparison,
): void {
	const key = JSON.stringify([r.topology, r.state.acs, r.state.ids]);
	rig.boot(`providers ${key}`, { topology: r.topology, state: r.state });
	const pdev = rig.dev(r.p);
	if (r.had_p2pdma) registerAny(rig, pdev);
	if (r.published_before) pci_p2pmem_publish(pdev, true);
	found.equal('published_before', Boolean(r.published_before), pci_has_p2pmem(pdev));
	found.equal(
		'init',
		r.init,
		run(() => pcim_p2pdma_init(pdev)),
	);
	const first = pdev.p2pdma;
	found.equal(
		'init_again',
		r.init_again,
		run(() => pcim_p2pdma_init(pdev)),
	);
	found.equal('init_again keeps it', true, pdev.p2pdma === first);
	found.equal('pool', Boolean(r.pool), poolOf(pdev) !== null);
	compareBars(pdev, r.bars, found);
	if (r.map_type !== undefined) compareMapTypes(rig, r.p, 'map_type', r.map_type, found);
	if (r.map_type2 !== undefined) compareMapTypes(rig, r.p, 'map_type2', r.map_type2, found);
	for (const [i, m] of r.mmio.entries()) {
		const client = rig.dev(m.client);
		client.dev.dma_mask = BigInt(m.dma_mask);
		found.equal(`mmio[${i}].dma_iommu`, Boolean(m.dma_iommu), client.dev.dma_iommu);
		const provider = pcim_p2pdma_provider(pdev, m.bar);
		if (provider === null) rig.bad(`mmio[${i}]: BAR ${m.bar} is no memory`);
		const type = pci_p2pdma_map_type(provider, client.dev);
		found.equal(`mmio[${i}].cached`, m.cached, mapTypeNumber(type));
		compareVariants(client.dev, null, BigInt(m.phys), m.maps, `mmio[${i}].maps`, found);
	}
	pci_p2pmem_publish(pdev, true);
	found.equal('published_after', Boolean(r.published_after), pci_has_p2pmem(pdev));
}

/** One command of a hazard; returns what registering returned, or null. */
function runCommand(rig: Rig, command: string): number | null {
	const [verb, bdf = '', ...numbers] = command.split(' ');
	if (verb === 'unreg') {
		for (const pdev of rig.all()) run(() => devres_release_all(pdev.dev));
		return null;
	}
	const pdev = rig.named(bdf);
	if (!numbers.every((n) => /^(?:0x[0-9a-f]+|\d+)$/.test(n)))
		rig.bad(`cmds: expected numbers in "${command}"`);
	const [first = 0n, second = 0n, third = 0n] = numbers.map(BigInt);
	switch (verb) {
		case 'reg':
			return run(() =>
				pci_p2pdma_add_resource(pdev, Number(first), second, third),
			);
		case 'nomapbars':
			pdev.non_mappable_bars = first !== 0n;
			return null;
		case 'nopool':
			run(() => pcim_p2pdma_init(pdev));
			pci_alloc_p2pmem(pdev, 4096n);
			return null;
		default:
			return rig.bad(`cmds: there is no command "${verb}"`);
	}
}

/** Replay calls that a kernel may not survive: the model must say so where the kernel did not. */
export function replayHazards(rig: Rig, r: Shaped<typeof hazardsShape>, found: Comparison): void {
	bootPlain(rig, r.topology);
	world().reports.length = 0;
	const returned: number[] = [];
	let survived = true;
	try {
		for (const command of r.cmds) {
			const ret = runCommand(rig, command);
			if (ret !== null) returned.push(ret);
		}
	} catch (error) {
		if (!(error instanceof KernelOops)) throw error;
		survived = false;
	}
	found.equal(
		'regs',
		r.regs.map(({ ret }) => ret),
		returned,
	);
	found.equal('survived', Boolean(r.survived), survived);
	if (!survived) rig.end();
}
