// SPDX-License-Identifier: GPL-2.0-only
/** Replay of enumeration: what the kernel made of a device tree, read off its own structures. */

import { formatBus, formatHex } from '../../../arch/sim/description.ts';
import { pci_find_host_bridge } from '../../../drivers/pci/host-bridge.ts';
import { cpu_data } from '../../../include/asm/processor.ts';
import type { iommu_domain } from '../../../include/linux/iommu.ts';
import {
	IORESOURCE_MEM,
	IORESOURCE_MEM_64,
	IORESOURCE_PREFETCH,
} from '../../../include/linux/ioport.ts';
import {
	dev_is_pci,
	pci_bus_address,
	type pci_dev,
	pci_is_pcie,
	pci_is_root_bus,
	pci_name,
	pci_pcie_type,
	pci_resource_flags,
	pci_resource_len,
	pci_resource_start,
	pci_upstream_bridge,
} from '../../../include/linux/pci.ts';
import { dma_pci_p2pdma_supported } from '../../../kernel/dma/mapping.ts';
import type { Comparison } from '../report.ts';
import type { DeviceRecord, TopologyRecord } from './records.ts';
import type { Rig } from './rig.ts';

function barsOf(pdev: pci_dev, d: DeviceRecord): unknown[] {
	return d.bars.map(({ bar }) => {
		const flags = pci_resource_flags(pdev, bar);
		return {
			bar,
			phys: formatHex(pci_resource_start(pdev, bar) as bigint),
			bus: formatHex(pci_bus_address(pdev, bar) as bigint),
			len: formatHex(pci_resource_len(pdev, bar) as bigint),
			mem: (flags & IORESOURCE_MEM) !== 0n,
			pref: (flags & IORESOURCE_PREFETCH) !== 0n,
			m64: (flags & IORESOURCE_MEM_64) !== 0n,
		};
	});
}

/** A function as the model's kernel has it, in the record's terms. */
function enumerated(pdev: pci_dev, devs: readonly pci_dev[], d: DeviceRecord): unknown {
	const bridge = pci_upstream_bridge(pdev);
	const { dev, bus } = pdev;
	const { domain_nr, busnr } = pci_find_host_bridge(bus);
	return {
		bdf: pci_name(pdev),
		ids: [pdev.vendor, pdev.device, pdev.class],
		hdr: pdev.hdr_type,
		multifunction: pdev.multifunction,
		pcie_type: pci_is_pcie(pdev) ? pci_pcie_type(pdev) : -1,
		parent: bridge === null ? null : pci_name(bridge),
		parent_i: bridge === null ? -1 : devs.indexOf(bridge),
		host: formatBus(domain_nr, busnr),
		root_bus_pos: pci_is_root_bus(bus) ? bus.devices.indexOf(pdev) : -1,
		bus: bus.number,
		devfn: pdev.devfn,
		secondary: pdev.subordinate?.number ?? -1,
		has_acs: pdev.acs_cap !== 0,
		is_virtfn: pdev.is_virtfn,
		physfn: pdev.physfn === null ? null : pci_name(pdev.physfn),
		bars: barsOf(pdev, d),
		dma_iommu: dev.dma_iommu,
		dma_pci_p2pdma_supported: dma_pci_p2pdma_supported(dev),
	};
}

function recorded(d: DeviceRecord): unknown {
	return {
		bdf: d.bdf,
		ids: [d.vendor, d.device, d.class],
		hdr: d.hdr,
		multifunction: Boolean(d.multifunction),
		pcie_type: d.pcie_type,
		parent: d.parent,
		parent_i: d.parent_i,
		host: d.host,
		root_bus_pos: d.root_bus_pos,
		bus: d.bus,
		devfn: d.devfn,
		secondary: d.secondary,
		has_acs: Boolean(d.has_acs),
		is_virtfn: Boolean(d.is_virtfn),
		physfn: d.physfn,
		bars: d.bars.map((b) => ({
			bar: b.bar,
			phys: b.phys,
			bus: b.bus,
			len: b.len,
			mem: Boolean(b.mem),
			pref: Boolean(b.pref),
			m64: Boolean(b.m64),
		})),
		dma_iommu: Boolean(d.dma_iommu),
		dma_pci_p2pdma_supported: Boolean(d.dma_pci_p2pdma_supported ?? 1),
	};
}

/** Replay the enumeration of a machine. */
export function replayTopology(rig: Rig, t: TopologyRecord, found: Comparison): void {
	const cpu_vendor = t.cpu?.vendor ?? 0;
	const cpu_family = t.cpu?.family ?? 6;
	const devs = rig.boot(`topology ${t.topology}`, {
		topology: t.topology,
		state: {
			cpu_vendor,
			cpu_family,
			acs: t.devs.map(({ has_acs }) => (has_acs ? 0 : null)),
			ids: t.devs.map(({ vendor, device }) => [vendor, device]),
		},
	});
	const { x86_vendor, x86 } = cpu_data(0);
	found.equal('cpu', [cpu_vendor, cpu_family], [x86_vendor, x86]);
	for (const d of t.devs) {
		const pdev = devs[d.i];
		if (pdev === undefined || !dev_is_pci(pdev.dev)) {
			found.equal(`devs[${d.i}]`, d.bdf, null);
			continue;
		}
		const want = recorded(d) as Record<string, unknown>;
		const have = enumerated(pdev, devs, d) as Record<string, unknown>;
		for (const key of Object.keys(want))
			found.equal(`devs[${d.i}].${key}`, want[key], have[key]);
		// A device without a domain of its own is one that no IOMMU translates for.
		const type = d.iommu_domain_type ?? null;
		const domain = pdev.dev.iommu_domain as iommu_domain | null;
		if (type !== null && d.dma_iommu)
			found.equal(`devs[${d.i}].iommu_domain_type`, type, domain?.type ?? null);
	}
}
