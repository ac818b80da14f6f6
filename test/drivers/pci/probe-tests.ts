// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what enumeration makes of a machine is what its configuration space and its bridges say.
 * Method: the standard machine, and small changes of it.
 */

import {
	pci_read_config_byte,
	pci_read_config_dword,
	pci_read_config_word,
	pci_write_config_byte,
	pci_write_config_dword,
} from '../../../drivers/pci/access.ts';
import { pci_find_host_bridge } from '../../../drivers/pci/host-bridge.ts';
import { pci_find_capability, pci_find_ext_capability } from '../../../drivers/pci/pci.ts';
import { pcieFunction } from '../../../drivers/pci/probe.ts';
import {
	findPciDev,
	pci_find_bus,
	pci_get_device,
	pci_get_domain_bus_and_slot,
	pciBus,
} from '../../../drivers/pci/search.ts';
import { cpu_data, X86_VENDOR_AMD } from '../../../include/asm/processor.ts';
import {
	IORESOURCE_MEM,
	IORESOURCE_MEM_64,
	IORESOURCE_PREFETCH,
} from '../../../include/linux/ioport.ts';
import {
	dev_is_pci,
	PCI_ANY_ID,
	PCI_DEVFN,
	PCI_FUNC,
	PCI_SLOT,
	pci_bus_address,
	pci_dev_id,
	pci_domain_nr,
	pci_is_bridge,
	pci_is_pcie,
	pci_is_root_bus,
	pci_name,
	pci_pcie_type,
	pci_physfn,
	pci_resource_end,
	pci_resource_flags,
	pci_resource_len,
	pci_resource_start,
	pci_upstream_bridge,
	to_pci_dev,
} from '../../../include/linux/pci.ts';
import { outParam } from '../../../include/linux/types.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_NULL,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { at, bootPci, dev, gpuBar, standardMachine } from './machines.ts';

const probe = FIXTURE('probe', () => ({}));
FIXTURE_SETUP(probe, () => {
	bootPci(standardMachine({ cpu: { vendor: 'amd', family: 0x19 }, acs: { GPU0: 0 } }));
});

TEST_F(probe, 'bridges_lead_to_the_root_bus', () => {
	EXPECT_EQ(dev('DSP0'), pci_upstream_bridge(dev('GPU0')));
	EXPECT_EQ(dev('USP'), pci_upstream_bridge(dev('DSP0')));
	EXPECT_EQ(dev('RP0'), pci_upstream_bridge(dev('USP')));
	EXPECT_NULL(pci_upstream_bridge(dev('RP0')));
	EXPECT_TRUE(pci_is_root_bus(dev('RP0').bus));
	EXPECT_EQ(dev('DSP0').subordinate, dev('GPU0').bus);
	EXPECT_EQ(dev('RP0').dev, dev('USP').dev.parent);
	EXPECT_EQ('pci0000:00', dev('RP0').dev.parent?.init_name);
});

TEST_F(probe, 'each_host_bridge_has_its_root_bus', () => {
	const a = pci_find_host_bridge(dev('GPU0').bus);
	EXPECT_EQ(a, pci_find_host_bridge(dev('NIC1').bus));
	EXPECT_NE(a, pci_find_host_bridge(dev('NIC2').bus));
	EXPECT_EQ(dev('HB0'), a.bus?.devices[0]);
	EXPECT_EQ(pci_find_bus(0, 0x80), pci_find_host_bridge(dev('NIC2').bus).bus);
	EXPECT_EQ(dev('NIC0').bus, pci_find_bus(0, 4));
	EXPECT_NULL(pci_find_bus(1, 0));
});

TEST_F(probe, 'bar_is_a_cpu_address_with_a_bus_address_below', () => {
	const gpu = dev('GPU0');
	EXPECT_EQ(gpuBar.phys, pci_resource_start(gpu, gpuBar.bar));
	EXPECT_EQ(gpuBar.phys + gpuBar.size - 1n, pci_resource_end(gpu, gpuBar.bar));
	EXPECT_EQ(gpuBar.size, pci_resource_len(gpu, gpuBar.bar));
	EXPECT_EQ(gpuBar.bus, pci_bus_address(gpu, gpuBar.bar));
	const flags = IORESOURCE_MEM | IORESOURCE_PREFETCH | IORESOURCE_MEM_64;
	EXPECT_EQ(flags, pci_resource_flags(gpu, gpuBar.bar));
	EXPECT_EQ(0n, pci_resource_len(gpu, 0));
	EXPECT_EQ(0n, pci_resource_flags(gpu, 0));
});

TEST_F(probe, 'fields_are_what_config_space_shows', () => {
	const word = outParam(0);
	for (const pdev of pciBus().devices) {
		pci_read_config_word(pdev, 0, word);
		EXPECT_EQ(pdev.vendor, word.value);
		pci_read_config_dword(pdev, 8, word);
		EXPECT_EQ(pdev.class, word.value >>> 8);
		pci_read_config_byte(pdev, 0x0e, word);
		EXPECT_EQ(pdev.hdr_type, word.value & 0x7f);
		EXPECT_EQ(pdev.pcie_cap, pci_find_capability(pdev, 0x10));
		EXPECT_EQ(pdev.acs_cap, pci_find_ext_capability(pdev, 0x0d));
		EXPECT_EQ(pdev.ats_cap, pci_find_ext_capability(pdev, 0x0f));
		if (!pci_is_pcie(pdev)) continue;
		pci_read_config_word(pdev, pdev.pcie_cap + 2, word);
		EXPECT_EQ((word.value >> 4) & 15, pci_pcie_type(pdev));
	}
});

TEST_F(probe, 'names_and_numbers', () => {
	const nic = dev('NIC2');
	EXPECT_EQ(at.NIC2, pci_name(nic));
	EXPECT_EQ(0x8100, pci_dev_id(nic));
	EXPECT_EQ(0, pci_domain_nr(nic.bus));
	EXPECT_EQ(nic, pci_get_domain_bus_and_slot(0, 0x81, PCI_DEVFN(0, 0)));
	EXPECT_NULL(pci_get_domain_bus_and_slot(1, 0x81, 0));
	EXPECT_EQ(nic, findPciDev('81:00.0'));
	EXPECT_EQ(1, PCI_SLOT(dev('RP0').devfn));
	EXPECT_EQ(0, PCI_FUNC(dev('RP0').devfn));
	EXPECT_TRUE(pci_is_bridge(dev('DSP1')));
	EXPECT_FALSE(pci_is_bridge(nic));
	EXPECT_TRUE(dev_is_pci(nic.dev));
	EXPECT_EQ(nic, to_pci_dev(nic.dev));
	EXPECT_EQ(at.NIC2, pcieFunction(nic).bdf);
});

TEST_F(probe, 'every_function_is_found_once', () => {
	const seen = [];
	let d = pci_get_device(PCI_ANY_ID, PCI_ANY_ID, null);
	for (; d !== null; d = pci_get_device(PCI_ANY_ID, PCI_ANY_ID, d)) seen.push(d);
	EXPECT_EQ(Object.keys(at).length, seen.length);
	EXPECT_EQ(seen.length, new Set(seen).size);
	EXPECT_EQ(dev('GPU0'), pci_get_device(0x10de, PCI_ANY_ID, null));
	EXPECT_NULL(pci_get_device(0x10de, 0x4242, null));
});

TEST_F(probe, 'cpu_is_what_the_machine_has', () => {
	EXPECT_EQ(X86_VENDOR_AMD, cpu_data(0).x86_vendor);
	EXPECT_EQ(0x19, cpu_data(0).x86);
});

TEST_F(probe, 'dma_mask_is_32_bits_until_a_driver_says_more', () => {
	EXPECT_EQ(0xffff_ffffn, dev('NIC0').dev.dma_mask);
});

TEST_F(probe, 'config_writes_of_every_size_land_where_they_may', () => {
	const value = outParam(0);
	EXPECT_EQ(0, pci_write_config_byte(dev('GPU0'), 0x3c, 0x2a));
	pci_read_config_byte(dev('GPU0'), 0x3c, value);
	EXPECT_EQ(0x2a, value.value);
	// Sizing a BAR: the bits below its size do not change.
	EXPECT_EQ(0, pci_write_config_dword(dev('GPU0'), 0x14, 0xffff_ffff));
	pci_read_config_dword(dev('GPU0'), 0x14, value);
	EXPECT_EQ(0xc000_000c, value.value);
	injectFaults().fail('pci_write_config', 1);
	EXPECT_EQ(0x86, pci_write_config_byte(dev('GPU0'), 0x3c, 0));
});

TEST_F(probe, 'unanswered_config_read_is_all_ones', () => {
	injectFaults().fail('pci_read_config', 1);
	const word = outParam(0);
	EXPECT_EQ(0x86, pci_read_config_word(dev('GPU0'), 0, word));
	EXPECT_EQ(0xffff, word.value);
	EXPECT_EQ(0x87, pci_read_config_dword(dev('GPU0'), 2, word));
});

TEST('vf_is_below_the_bridge_of_its_pf', () => {
	const d = standardMachine();
	const nic = d.devices.find(({ bdf }) => bdf === at.NIC0)!;
	d.devices.push(
		{ ...nic, bdf: '0000:04:00.1', bars: [], physfn: at.NIC0 },
		{ ...nic, bdf: '0000:0a:01.0', bars: [], physfn: at.NIC0 },
	);
	bootPci(d);
	for (const name of ['0000:04:00.1', '0000:0a:01.0']) {
		const vf = findPciDev(name)!;
		EXPECT_TRUE(vf.is_virtfn);
		EXPECT_EQ(dev('NIC0'), pci_physfn(vf));
		EXPECT_EQ(dev('DSP1'), pci_upstream_bridge(vf));
		EXPECT_EQ(Number.parseInt(name.slice(5, 7), 16), vf.bus.number);
	}
	EXPECT_TRUE(dev('NIC0').is_physfn);
});
