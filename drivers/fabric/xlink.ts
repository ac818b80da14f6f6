// SPDX-License-Identifier: GPL-2.0-only
/**
 * A link fabric as a provider: devices with ports reach each other's memory without PCIe.
 *
 * Two kinds of providers:
 *
 * - xlinkProvider(): memory that only the fabric reaches; whoever has no link to it is refused.
 * - addLinks(): memory behind a BAR that has links as well. Who is linked goes by the link, all
 *   others by PCI: one page, one provider, and for each client the way that it has.
 *
 * Guarantee: a link that is taken down is given up by every attached client before it is lost.
 * Duty: devices are joined to the fabric before they are asked about.
 * @proposed Documentation/proposals/fabric-provider.md
 */

import type { FrameStore } from '../../arch/sim/memory.ts';
import { XlinkPort } from '../../arch/sim/xlink.ts';
import { dev_name, type device } from '../../include/linux/device.ts';
import { DMA_MAPPING_ERROR } from '../../include/linux/dma-mapping.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	p2pdma_provider,
	type p2pdma_provider_ops,
	type pci_p2pdma_map_type,
} from '../../include/linux/pci-p2pdma.ts';
import type { dma_addr_t, phys_addr_t } from '../../include/linux/types.ts';
import { HarnessError } from '../../include/sim/report.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import {
	p2pdma_reachability_changed,
	pci_p2pdma_provider_ops,
} from '../pci/p2pdma/provider_ops.ts';

/** What a provider of the fabric keeps. */
interface XlinkMemory {
	readonly fabric: Xlink;
	readonly port: XlinkPort;
	/** CPU physical address that stands for byte 0 of the port's memory. */
	readonly base: bigint;
	/** Who has no link goes by PCI. */
	readonly viaPci: boolean;
}

function memoryOf(provider: p2pdma_provider): XlinkMemory {
	return provider.priv as XlinkMemory;
}

/** The client's port, if it has a link that is up. */
function linkedPort(provider: p2pdma_provider, dev: device): XlinkPort | null {
	const { fabric, port } = memoryOf(provider);
	const from = fabric.ports.get(dev) ?? null;
	if (from === null) return null;
	touch('read', from, 'up');
	return from.up.has(port) ? from : null;
}

const xlinkOps: p2pdma_provider_ops = Object.freeze({
	name: 'xlink',
	map_type(provider: p2pdma_provider, dev: device): pci_p2pdma_map_type {
		if (linkedPort(provider, dev) !== null) return PCI_P2PDMA_MAP_BUS_ADDR;
		return memoryOf(provider).viaPci
			? pci_p2pdma_provider_ops.map_type(provider, dev)
			: PCI_P2PDMA_MAP_NOT_SUPPORTED;
	},
	bus_addr(provider: p2pdma_provider, paddr: phys_addr_t, dev: device): dma_addr_t {
		const from = linkedPort(provider, dev);
		const { port, base, viaPci } = memoryOf(provider);
		if (from === null)
			return viaPci
				? pci_p2pdma_provider_ops.bus_addr(provider, paddr, dev)
				: DMA_MAPPING_ERROR;
		return from.address(port, (paddr as bigint) - base) as bigint;
	},
});

/** A fabric: its ports by device. */
export class Xlink {
	ports: Map<device, XlinkPort> = new Map();
	private readonly providers: p2pdma_provider[] = [];

	/**
	 * Join a device to the fabric.
	 *
	 * @param dev - any device
	 * @param memory - what others may reach; null: it only asks
	 */
	join(dev: device, memory: FrameStore | null): XlinkPort {
		const port = new XlinkPort(dev_name(dev), memory);
		this.ports.set(dev, port);
		return port;
	}

	/**
	 * The port of a device.
	 *
	 * @param dev - a device
	 * @throws HarnessError it was not joined
	 */
	port(dev: device): XlinkPort {
		const port = this.ports.get(dev);
		if (port === undefined)
			throw new HarnessError('Xlink.port()', `${dev_name(dev)} is not joined`);
		return port;
	}

	/**
	 * Memory that the fabric alone reaches.
	 *
	 * @param dev - whose memory
	 * @param base - CPU physical address that stands for its byte 0
	 */
	xlinkProvider(dev: device, base: bigint): p2pdma_provider {
		const provider = new p2pdma_provider(dev, 0n);
		return this.serve(provider, base, false);
	}

	/**
	 * Let clients that are linked reach a BAR's memory by the link.
	 *
	 * @param provider - the BAR's; nobody has asked it yet
	 * @param base - CPU physical address of byte 0 of the port's memory
	 */
	addLinks(provider: p2pdma_provider, base: bigint): p2pdma_provider {
		return this.serve(provider, base, true);
	}

	private serve(provider: p2pdma_provider, base: bigint, viaPci: boolean): p2pdma_provider {
		const memory: XlinkMemory = {
			fabric: this,
			port: this.port(provider.owner),
			base,
			viaPci,
		};
		provider.ops = xlinkOps;
		provider.priv = memory;
		this.providers.push(provider);
		return provider;
	}

	/** Every provider whose memory is behind a port. */
	private behind(port: XlinkPort): p2pdma_provider[] {
		return this.providers.filter((provider) => memoryOf(provider).port === port);
	}

	/**
	 * A link comes up, one way. Who went by another way keeps it until it asks again.
	 *
	 * @param from - who asks
	 * @param to - whose memory
	 */
	*linkUp(from: device, to: device): Sim<void> {
		const port = this.port(to);
		const asks = this.port(from);
		touch('write', asks, 'up');
		asks.train(port);
		for (const provider of this.behind(port))
			yield* p2pdma_reachability_changed(provider, from);
	}

	/**
	 * A link goes down, one way: the answer changes, then every holder lets go, then the link is lost.
	 *
	 * @param from - who asks
	 * @param to - whose memory
	 * @param broken - it is lost already: requests fail from the start
	 */
	*linkDown(from: device, to: device, broken = false): Sim<void> {
		const port = this.port(to);
		const asks = this.port(from);
		touch('write', asks, 'up');
		asks.up.delete(port);
		// The wire carries what is under way until the holders have let go.
		const draining = broken ? null : asks;
		if (draining !== null) draining.draining.add(port);
		for (const provider of this.behind(port))
			yield* p2pdma_reachability_changed(provider, from);
		if (draining !== null) draining.draining.delete(port);
	}
}
