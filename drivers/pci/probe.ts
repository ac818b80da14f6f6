// SPDX-License-Identifier: GPL-2.0-only
/**
 * Enumeration: from the functions of the machine to pci_dev, pci_bus and pci_host_bridge.
 *
 * Guarantee: after pciInit() every function of the machine has one pci_dev, with its BARs as CPU
 * addresses; the devices of a bus stand in the order in which they were found, which decides who
 * speaks for a host bridge; before v7.3 ACS is set up as an IOMMU and the command line want it.
 * Mechanism: ids, header type, capability offsets and BARs are taken from the function's decoded
 * registers, which are what its configuration space shows: booting makes no config space.
 * Duty: boot calls pciInit() once, after `pci=` was read and before drivers are bound.
 */

import type { CpuModel } from '../../arch/sim/description.ts';
import type { Machine } from '../../arch/sim/machine.ts';
import { acsOffset, atsOffset, PCIE_CAPABILITY } from '../../arch/sim/pcie/config-space.ts';
import type { Bar, HostBridge, PcieFunction } from '../../arch/sim/pcie/hierarchy.ts';
import {
	cpu_data,
	X86_VENDOR_AMD,
	X86_VENDOR_CENTAUR,
	X86_VENDOR_HYGON,
	X86_VENDOR_INTEL,
	X86_VENDOR_UNKNOWN,
	X86_VENDOR_ZHAOXIN,
} from '../../include/asm/processor.ts';
import { device } from '../../include/linux/device.ts';
import {
	IORESOURCE_IO,
	IORESOURCE_MEM,
	IORESOURCE_MEM_64,
	IORESOURCE_PREFETCH,
	resource,
} from '../../include/linux/ioport.ts';
import {
	PCI_ROM_RESOURCE,
	pci_bus,
	pci_bus_type,
	pci_dev,
	pci_host_bridge,
	pciBusOperations,
	resource_entry,
} from '../../include/linux/pci.ts';
import { feature } from '../../include/sim/world.ts';
import { pci_enable_acs, pci_request_acs } from './acs.ts';
import { pci_dma_configure } from './pci-driver.ts';
import { type PciBusState, pciBus } from './search.ts';

const vendors: Readonly<Record<CpuModel['vendor'], number>> = {
	intel: X86_VENDOR_INTEL,
	amd: X86_VENDOR_AMD,
	centaur: X86_VENDOR_CENTAUR,
	hygon: X86_VENDOR_HYGON,
	zhaoxin: X86_VENDOR_ZHAOXIN,
	other: X86_VENDOR_UNKNOWN,
};

/** What an unused BAR is: nothing is ever written to it. */
const unusedResource = Object.freeze(new resource());

/** Mask of the addresses that a PCI device is taken to reach until its driver says more. */
const DMA_MASK_32 = 0xffff_ffffn;

/**
 * Find what the machine has.
 *
 * @param machine - the machine below the installed world
 */
export function pciInit(machine: Machine): void {
	const c = cpu_data(0);
	c.x86_vendor = vendors[machine.cpuModel.vendor];
	c.x86 = machine.cpuModel.family;
	c.x86_model = machine.cpuModel.model;
	if (machine.iommu !== null) pci_request_acs();
	const state = pciBus();
	for (const host of machine.fabric.hosts)
		state.host_bridges.push(scanHostBridge(state, host));
	linkVirtualFunctions(state);
	pciBusOperations().dma_configure = pci_dma_configure;
	if (!feature('pci_acs_at_dma_configure'))
		for (const dev of state.devices) pci_enable_acs(dev);
}

/** The machine's function below a pci_dev: where device models and the fabric are found. */
export function pcieFunction(pdev: pci_dev): PcieFunction {
	return pdev.config as PcieFunction;
}

function scanHostBridge(state: PciBusState, host: HostBridge): pci_host_bridge {
	const bridge = new pci_host_bridge(
		new device({ init_name: `pci${host.name}`, numa_node: host.numaNode }),
	);
	bridge.busnr = host.bus;
	bridge.domain_nr = host.domain;
	for (const { cpu, bus, size } of host.windows) {
		const res = new resource({
			start: cpu,
			end: cpu + size - 1n,
			flags: IORESOURCE_MEM,
		});
		bridge.windows.push(new resource_entry(res, cpu - bus));
	}
	const root = new pci_bus();
	root.bridge = bridge.dev;
	root.number = host.bus;
	root.domain_nr = host.domain;
	bridge.bus = root;
	scanBus(state, root, host.children, bridge.dev);
	return bridge;
}

/** All functions of a bus first, then what is below its bridges. */
function scanBus(
	state: PciBusState,
	bus: pci_bus,
	functions: readonly PcieFunction[],
	parent: device,
): void {
	const found = functions.map((fn) => addDevice(state, bus, fn, parent));
	for (const dev of found) {
		const fn = dev.config as PcieFunction;
		if (fn.headerType !== 1) continue;
		const child = new pci_bus();
		child.parent = bus;
		child.self = dev;
		child.bridgesAbove = bus.bridgesAbove + 1;
		child.rootBus = bus.rootBus;
		child.number = fn.secondary;
		child.domain_nr = bus.domain_nr;
		bus.children.push(child);
		dev.subordinate = child;
		if (fn.children.length > 0) scanBus(state, child, fn.children, dev.dev);
	}
}

function addDevice(state: PciBusState, bus: pci_bus, fn: PcieFunction, parent: device): pci_dev {
	const dev = new device({
		init_name: fn.bdf,
		bus: pci_bus_type,
		parent,
		numa_node: parent.numa_node,
		dma_mask: DMA_MASK_32,
		coherent_dma_mask: DMA_MASK_32,
	});
	const pdev = new pci_dev(bus, dev, fn, makeResources(fn));
	pdev.devfn = fn.devfn;
	pdev.vendor = fn.vendor;
	pdev.device = fn.device;
	pdev.class = fn.classCode;
	pdev.revision = fn.revision;
	pdev.hdr_type = fn.headerType;
	pdev.multifunction = fn.multifunction;
	if (fn.pcieType !== -1) {
		pdev.pcie_cap = PCIE_CAPABILITY;
		pdev.pcie_flags_reg = 2 | (fn.pcieType << 4);
		pdev.acs_cap = acsOffset(fn);
		pdev.ats_cap = atsOffset(fn);
	}
	if (fn.bus !== bus.number)
		pdev.bus = fn.physfn !== null ? virtualBus(bus, fn.bus) : hiddenBus(bus, fn.bus);
	pdev.bus.devices.push(pdev);
	state.devices.push(pdev);
	state.byName.set(fn.bdf, pdev);
	return pdev;
}

/** The bus of VFs whose numbers overflow the bus of their PF: nothing bridges to it. */
function virtualBus(bus: pci_bus, number: number): pci_bus {
	for (const child of bus.children)
		if (child.self === null && child.number === number) return child;
	const child = new pci_bus();
	child.parent = bus;
	child.rootBus = bus.rootBus;
	child.number = number;
	child.domain_nr = bus.domain_nr;
	bus.children.push(child);
	return child;
}

/**
 * A bus to which a description has no bridge: its functions stand right below the one that is known. They
 * are VFs of which nobody told whose, or a bridge is missing.
 */
function hiddenBus(bus: pci_bus, number: number): pci_bus {
	for (const child of bus.children)
		if (child.self === bus.self && child.number === number) return child;
	const child = new pci_bus();
	child.parent = bus;
	child.rootBus = bus.rootBus;
	child.self = bus.self;
	child.bridgesAbove = bus.bridgesAbove;
	child.number = number;
	child.domain_nr = bus.domain_nr;
	bus.children.push(child);
	return child;
}

function makeResources(fn: PcieFunction): resource[] {
	const resources: resource[] = [];
	for (let at = 0; at <= PCI_ROM_RESOURCE; at++) resources.push(unusedResource);
	for (const bar of fn.bars) resources[bar.index] = makeResource(fn, bar);
	return resources;
}

function makeResource(fn: PcieFunction, bar: Bar): resource {
	const res = new resource();
	res.start = bar.phys;
	res.end = bar.phys + bar.size - 1n;
	res.name = fn.bdf;
	if (bar.io) res.flags = IORESOURCE_IO;
	else {
		res.flags = IORESOURCE_MEM;
		if (bar.prefetchable) res.flags |= IORESOURCE_PREFETCH;
		if (bar.is64) res.flags |= IORESOURCE_MEM_64;
	}
	return res;
}

function linkVirtualFunctions(state: PciBusState): void {
	for (const dev of state.devices) {
		const { physfn } = dev.config as PcieFunction;
		if (physfn === null) continue;
		const pf = state.byName.get(physfn) ?? null;
		dev.is_virtfn = true;
		dev.physfn = pf;
		if (pf !== null) pf.is_physfn = true;
	}
}
