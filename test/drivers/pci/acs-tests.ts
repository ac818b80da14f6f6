// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: ACS control words after boot are those of a booted kernel with the same firmware, IOMMU and
 * command line. Method: one root port with capability 0x5f (no egress control), as the recorded
 * machines have it, and a table of command lines.
 */

import { attachWithoutProbe } from '../../../drivers/base/dd.ts';
import { pci_read_config_word, pci_write_config_word } from '../../../drivers/pci/access.ts';
import { pci_acs_enabled, pci_acs_path_enabled } from '../../../drivers/pci/acs.ts';
import { outParam } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { installWorld, world } from '../../../include/sim/world.ts';
import {
	PCI_ACS_CTRL,
	PCI_ACS_DT,
	PCI_ACS_EC,
	PCI_ACS_RR,
	PCI_ACS_SV,
} from '../../../include/uapi/linux/pci_regs.ts';
import { boot } from '../../../init/main.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { at, bootPci, dev, standardMachine } from './machines.ts';

/** ACS control word as config space shows it. */
function control(name: keyof typeof at): number {
	const word = outParam(0);
	pci_read_config_word(dev(name), dev(name).acs_cap + PCI_ACS_CTRL, word);
	return word.value;
}

const params = FIXTURE(
	'acs_params',
	() => ({}),
	FIXTURE_VARIANT({ pci: '', found: 0, bare: 0, iommu: 0, log: [] as string[] }),
);
const rp = at.RP0;
FIXTURE_VARIANT_ADD(params, 'nothing', { iommu: 0x1d });
FIXTURE_VARIANT_ADD(params, 'nothing_and_firmware_set_it', {
	found: 0x44,
	bare: 0x44,
	iommu: 0x5d,
});
FIXTURE_VARIANT_ADD(params, 'noats', { pci: 'noats', iommu: 0x1f });
FIXTURE_VARIANT_ADD(params, 'disable_by_ids', {
	pci: 'disable_acs_redir=pci:8086:0101',
	found: 0x5f,
	bare: 0x53,
	iommu: 0x53,
	log: ['Configured ACS to 0x0053'],
});
FIXTURE_VARIANT_ADD(params, 'disable_undoes_the_iommu_default', {
	pci: `disable_acs_redir=${rp}`,
	log: ['Configured ACS to 0x0000'],
});
FIXTURE_VARIANT_ADD(params, 'disable_without_domain', {
	pci: 'disable_acs_redir=00:01.0',
	log: ['Configured ACS to 0x0000'],
});
FIXTURE_VARIANT_ADD(params, 'disable_of_another_function', {
	pci: 'disable_acs_redir=0000:00:07.0',
	iommu: 0x1d,
});
FIXTURE_VARIANT_ADD(params, 'disable_second_entry', {
	pci: `disable_acs_redir=0000:00:07.0;${rp}`,
	log: ['Configured ACS to 0x0000'],
});
FIXTURE_VARIANT_ADD(params, 'disable_unreadable', {
	pci: 'disable_acs_redir=nonsense',
	iommu: 0x1d,
});
FIXTURE_VARIANT_ADD(params, 'config_x_leaves_bits_as_found', {
	pci: `config_acs=xx1x1xx@${rp}`,
	found: 0x41,
	bare: 0x55,
	iommu: 0x55,
	log: ['Configured ACS to 0x0055'],
});
FIXTURE_VARIANT_ADD(params, 'config_first_matching_entry_counts', {
	pci: `config_acs=101@${rp};0x1x0@${rp}`,
	bare: 0x05,
	iommu: 0x05,
	log: ['Configured ACS to 0x0005'],
});
FIXTURE_VARIANT_ADD(params, 'config_egress_control_is_not_implemented', {
	pci: `config_acs=0100000@${rp}`,
	log: ['Configured ACS to 0x0020'],
});
FIXTURE_VARIANT_ADD(params, 'config_after_disable', {
	pci: `disable_acs_redir=${rp},config_acs=xxx1100@${rp}`,
	bare: 0x0c,
	iommu: 0x0c,
	log: ['Configured ACS to 0x0000', 'Configured ACS to 0x000c'],
});
FIXTURE_VARIANT_ADD(params, 'config_too_many_bits', {
	pci: `config_acs=10000000@${rp}`,
	iommu: 0x1d,
	log: ['Invalid ACS flags specified'],
});
FIXTURE_VARIANT_ADD(params, 'config_bad_bit', {
	pci: `config_acs=12@${rp}`,
	iommu: 0x1d,
	log: ['Invalid ACS flags... Ignoring'],
});
FIXTURE_VARIANT_ADD(params, 'config_without_flags', {
	pci: `config_acs=${rp}`,
	iommu: 0x1d,
	log: ['ACS Flags missing'],
});

/** Boot with words on the command line; RP0 has ACS, nobody else. */
function bootWith(profile: ProfileName, iommu: boolean, found: number, pci: string): void {
	const d = standardMachine({ iommu });
	for (const one of d.devices)
		one.acs = one.bdf === rp ? { cap: 0x5f, control: found } : null;
	installWorld(null);
	boot(d, profile, { cmdline: `pci=${pci}` });
}

/** What the log says of RP0, by the name in front. */
function said(driver: string): string {
	const front = `${driver} ${rp}: `;
	const lines = world().log.filter((line) => line.startsWith(front));
	return lines.map((line) => line.slice(front.length)).join('|');
}

TEST_F(params, 'control_word_after_boot', (_self, v) => {
	for (const profile of ['v6.12', 'v7.3'] as const)
		for (const iommu of [false, true]) {
			bootWith(profile, iommu, v.found, v.pci);
			EXPECT_EQ(iommu ? v.iommu : v.bare, control('RP0'));
		}
});

TEST_F(params, 'v6_12_configures_at_enumeration', (_self, v) => {
	for (const iommu of [false, true]) {
		bootWith('v6.12', iommu, v.found, v.pci);
		EXPECT_EQ(v.log.join('|'), said('pci'));
		EXPECT_EQ('', said('pcieport'));
	}
});

TEST_F(params, 'v7_3_configures_at_binding_and_before_that_for_an_iommu', (_self, v) => {
	bootWith('v7.3', false, v.found, v.pci);
	EXPECT_EQ('', said('pci'));
	EXPECT_EQ(v.log.join('|'), said('pcieport'));
	bootWith('v7.3', true, v.found, v.pci);
	EXPECT_EQ(v.log.join('|'), said('pci'));
	EXPECT_EQ(
		v.log.length,
		said('pcieport')
			.split('|')
			.filter((line) => line !== '').length,
	);
});

TEST('v7_3_second_time_begins_with_the_word_of_the_first', () => {
	const pci = `disable_acs_redir=${rp},config_acs=0011111@${rp}`;
	bootWith('v7.3', true, 0, pci);
	EXPECT_EQ('Configured ACS to 0x0000|Configured ACS to 0x001f', said('pci'));
	EXPECT_EQ('Configured ACS to 0x0013|Configured ACS to 0x001f', said('pcieport'));
});

TEST('v6_12_configures_a_function_at_enumeration_and_v7_3_once_a_driver_binds', () => {
	for (const [profile, word] of [
		['v6.12', 0],
		['v7.3', 0x0c],
	] as const) {
		installWorld(null);
		const d = standardMachine({ acs: { GPU0: 0x0c } });
		boot(d, profile, { cmdline: 'pci=disable_acs_redir=pci:0:0' });
		EXPECT_EQ(word, control('GPU0'));
	}
	EXPECT_EQ(0, attachWithoutProbe({ name: 'gpu' }, dev('GPU0').dev));
	EXPECT_EQ(0, control('GPU0'));
});

TEST('unreadable_parameter_is_said_once', () => {
	installWorld(null);
	boot(standardMachine(), 'v7.3', { cmdline: 'quiet pci=disable_acs_redir=nonsense' });
	const lines = world().log.filter((line) => line.includes("Can't parse ACS command line"));
	EXPECT_EQ(1, lines.length);
});

TEST('unknown_pci_option_is_said', () => {
	bootPci(standardMachine(), 'v7.3', 'pcie_bus_perf');
	EXPECT_TRUE(
		world().log.some((line) => line.includes("PCI: Unknown option `pcie_bus_perf'")),
	);
});

TEST('path_form_names_the_function_below', () => {
	const below = `${at.RP0}/00.0/01.0`;
	const d = standardMachine({ acs: { DSP0: 0x0c, DSP1: 0x0c } });
	installWorld(null);
	boot(d, 'v7.3', { cmdline: `pci=noats pci=disable_acs_redir=${below}` });
	EXPECT_EQ(0x0c, control('DSP0'));
	EXPECT_EQ(0, control('DSP1'));
});

const enabled = FIXTURE('acs_enabled', () => ({}));
FIXTURE_SETUP(enabled, () => {
	bootPci(standardMachine({ acs: { RP0: 0x1d, DSP0: 0x05, DSP1: 0x04 } }));
});

TEST_F(enabled, 'ports_need_every_bit_that_they_have', () => {
	EXPECT_TRUE(pci_acs_enabled(dev('DSP0'), PCI_ACS_SV | PCI_ACS_RR));
	EXPECT_FALSE(pci_acs_enabled(dev('DSP1'), PCI_ACS_SV | PCI_ACS_RR));
	EXPECT_FALSE(pci_acs_enabled(dev('DSP0'), PCI_ACS_DT));
});

TEST_F(enabled, 'bits_without_capability_are_not_asked_for_but_egress_control_is', () => {
	const d = standardMachine({ acs: { DSP0: 0x1d } });
	for (const one of d.devices) if (one.acs !== null) one.acs.cap = 0x1f;
	bootPci(d);
	EXPECT_TRUE(pci_acs_enabled(dev('DSP0'), PCI_ACS_SV | PCI_ACS_DT));
	EXPECT_FALSE(pci_acs_enabled(dev('DSP0'), PCI_ACS_SV | PCI_ACS_EC));
});

TEST_F(enabled, 'single_function_has_no_peer_inside_its_device', () => {
	EXPECT_TRUE(pci_acs_enabled(dev('GPU0'), PCI_ACS_RR));
	dev('GPU0').multifunction = true;
	EXPECT_FALSE(pci_acs_enabled(dev('GPU0'), PCI_ACS_RR));
});

TEST_F(enabled, 'conventional_functions_and_bridges_never_are', () => {
	EXPECT_FALSE(pci_acs_enabled(dev('HB0'), 0));
	dev('DSP0').pcie_flags_reg = 0x72;
	EXPECT_FALSE(pci_acs_enabled(dev('DSP0'), 0));
	dev('DSP0').pcie_flags_reg = 0xb2;
	EXPECT_TRUE(pci_acs_enabled(dev('DSP0'), 0));
});

TEST_F(enabled, 'path_is_asked_up_to_its_end', () => {
	EXPECT_TRUE(pci_acs_path_enabled(dev('GPU0'), dev('USP'), PCI_ACS_RR));
	EXPECT_TRUE(pci_acs_path_enabled(dev('GPU0'), null, PCI_ACS_RR));
	EXPECT_FALSE(pci_acs_path_enabled(dev('NIC0'), null, PCI_ACS_SV));
	// The end is not on the way up.
	EXPECT_FALSE(pci_acs_path_enabled(dev('GPU0'), dev('RP1'), PCI_ACS_RR));
});

TEST_F(enabled, 'control_word_is_routed_by_as_soon_as_it_is_written', () => {
	pci_write_config_word(dev('DSP0'), dev('DSP0').acs_cap + PCI_ACS_CTRL, 0x7f);
	EXPECT_EQ(0x7f, control('DSP0'));
	EXPECT_EQ(0x87, pci_write_config_word(dev('DSP0'), 0x101, 0));
});
