// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the path between two functions is judged as a kernel judges it. Method: the standard
 * machine, one thing changed at a time: ACS words, host bridges, CPU, release.
 */
import { cachedMapType } from '../../../drivers/pci/p2pdma/cache.ts';
import {
	calc_map_type_and_dist,
	pci_p2pdma_distance,
	pci_p2pdma_distance_many,
} from '../../../drivers/pci/p2pdma/distance.ts';
import { pci_p2pdma } from '../../../drivers/pci/p2pdma/objects.ts';
import {
	pci_p2pdma_whitelist,
	REQ_SAME_HOST_BRIDGE,
} from '../../../drivers/pci/p2pdma/whitelist.ts';
import { device } from '../../../include/linux/device.ts';
import { PCI_ANY_ID } from '../../../include/linux/pci.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	PCI_P2PDMA_MAP_UNKNOWN,
} from '../../../include/linux/pci-p2pdma.ts';
import { outParam } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { world } from '../../../include/sim/world.ts';
import {
	EXPECT_EQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { at, bootPci, type Change, dev, standardMachine } from './machines.ts';

type Name = keyof typeof at;

/** Map type and distance of a pair on a machine. */
function judge(change: Change, provider: Name, client: Name, profile: ProfileName = 'v7.3') {
	bootPci(standardMachine(change), profile);
	const dist = outParam(-1);
	const type = calc_map_type_and_dist(dev(provider), dev(client), dist, false);
	return { type, dist: dist.value };
}

const BUS = PCI_P2PDMA_MAP_BUS_ADDR;
const THRU = PCI_P2PDMA_MAP_THRU_HOST_BRIDGE;
const NO = PCI_P2PDMA_MAP_NOT_SUPPORTED;
const unknownBridge = [0x8086, 0x1237] as const;

const acs = FIXTURE(
	'acs',
	() => ({}),
	FIXTURE_VARIANT({ where: 'DSP0' as Name, bits: 0, type: BUS as number }),
);
FIXTURE_VARIANT_ADD(acs, 'none', {});
FIXTURE_VARIANT_ADD(acs, 'SV', { bits: 0x01 });
FIXTURE_VARIANT_ADD(acs, 'TB', { bits: 0x02 });
FIXTURE_VARIANT_ADD(acs, 'RR', { bits: 0x04, type: THRU });
FIXTURE_VARIANT_ADD(acs, 'CR', { bits: 0x08, type: THRU });
FIXTURE_VARIANT_ADD(acs, 'UF', { bits: 0x10 });
FIXTURE_VARIANT_ADD(acs, 'EC', { bits: 0x20, type: THRU });
FIXTURE_VARIANT_ADD(acs, 'DT', { bits: 0x40 });
FIXTURE_VARIANT_ADD(acs, 'RR_on_the_clients_port', { where: 'DSP1', bits: 0x04, type: THRU });
FIXTURE_VARIANT_ADD(acs, 'RR_on_the_common_port', { where: 'USP', bits: 0x04, type: THRU });
FIXTURE_VARIANT_ADD(acs, 'RR_on_the_endpoint', { where: 'GPU0', bits: 0x04, type: THRU });
FIXTURE_VARIANT_ADD(acs, 'RR_above_the_common_port', { where: 'RP0', bits: 0x04 });

TEST_F(acs, 'F7_acs_redirect_decides_between_bus_address_and_host_bridge', (_self, v) => {
	const seen = judge({ acs: { [v.where]: v.bits } }, 'GPU0', 'NIC0');
	EXPECT_EQ(v.type, seen.type);
	EXPECT_EQ(4, seen.dist);
});

TEST_F(acs, 'F7_acs_redirect_needs_an_allowed_host_bridge', (_self, v) => {
	const change = { acs: { [v.where]: v.bits }, hostBridge: unknownBridge };
	const seen = judge(change, 'GPU0', 'NIC0');
	EXPECT_EQ(v.type === THRU ? NO : v.type, seen.type);
	EXPECT_EQ(
		v.type === THRU ? -1 : 4,
		pci_p2pdma_distance(dev('GPU0'), dev('NIC0').dev, false),
	);
});

TEST('F7_egress_vector_is_not_looked_at', () => {
	const machine = bootPci(standardMachine({ acs: { DSP0: 0x20 } }));
	const port = machine.function(at.DSP0);
	port?.acs?.egress.fill(0xffff_ffff);
	const dist = outParam(0);
	EXPECT_EQ(THRU, calc_map_type_and_dist(dev('GPU0'), dev('NIC0'), dist, false));
	port?.acs?.egress.fill(0);
	EXPECT_EQ(THRU, calc_map_type_and_dist(dev('GPU0'), dev('NIC0'), dist, false));
});

const path = FIXTURE(
	'path',
	() => ({}),
	FIXTURE_VARIANT({ a: 'GPU0' as Name, b: 'GPU0' as Name, dist: 0, type: BUS as number }),
);
FIXTURE_VARIANT_ADD(path, 'same_function', {});
FIXTURE_VARIANT_ADD(path, 'bridge_and_function', { b: 'DSP0', dist: 1 });
FIXTURE_VARIANT_ADD(path, 'two_ports_of_a_switch', { b: 'NIC0', dist: 4 });
FIXTURE_VARIANT_ADD(path, 'two_root_ports', { b: 'NIC1', dist: 6, type: THRU });
FIXTURE_VARIANT_ADD(path, 'two_host_bridges', { b: 'NIC2', dist: 6, type: NO });

TEST_F(path, 'distance_counts_hops_to_the_meeting_point', (_self, v) => {
	for (const profile of ['v6.12', 'v7.3'] as const) {
		const there = judge({}, v.a, v.b, profile);
		EXPECT_EQ(v.dist, there.dist);
		EXPECT_EQ(v.type, there.type);
		const back = judge({}, v.b, v.a, profile);
		EXPECT_EQ(v.dist, back.dist);
		EXPECT_EQ(v.type, back.type);
	}
});

TEST('F8_other_root_port_passes_an_allowed_host_bridge', () => {
	EXPECT_EQ(THRU, judge({}, 'GPU0', 'NIC1').type);
});

TEST('F8_other_host_bridge_is_refused_where_the_same_is_required', () => {
	EXPECT_EQ(NO, judge({}, 'GPU0', 'NIC2').type);
	EXPECT_EQ(THRU, judge({ hostBridge: [0x8086, 0x2030] }, 'GPU0', 'NIC2').type);
});

TEST('F8_unknown_host_bridge_is_refused', () => {
	EXPECT_EQ(NO, judge({ hostBridge: unknownBridge }, 'GPU0', 'NIC1').type);
	EXPECT_EQ(NO, judge({ hostBridge: unknownBridge }, 'GPU0', 'NIC2').type);
});

TEST('F8_amd_zen_passes_every_host_bridge', () => {
	const zen = { cpu: { vendor: 'amd', family: 0x17 }, hostBridge: unknownBridge } as const;
	EXPECT_EQ(THRU, judge(zen, 'GPU0', 'NIC1').type);
	EXPECT_EQ(THRU, judge(zen, 'GPU0', 'NIC2').type);
	const later = { cpu: { vendor: 'amd', family: 0x1a }, hostBridge: unknownBridge } as const;
	EXPECT_EQ(THRU, judge(later, 'GPU0', 'NIC2').type);
});

TEST('F8_older_amd_and_hygon_are_judged_by_host_bridge', () => {
	const opteron = {
		cpu: { vendor: 'amd', family: 0x15 },
		hostBridge: unknownBridge,
	} as const;
	EXPECT_EQ(NO, judge(opteron, 'GPU0', 'NIC1').type);
	const hygon = {
		cpu: { vendor: 'hygon', family: 0x18 },
		hostBridge: unknownBridge,
	} as const;
	EXPECT_EQ(NO, judge(hygon, 'GPU0', 'NIC1').type);
});

const rows = FIXTURE(
	'whitelist',
	() => ({}),
	FIXTURE_VARIANT({ vendor: 0, device: 0, flags: 0, old: true }),
);
for (const { vendor, device: id, flags, since } of pci_p2pdma_whitelist) {
	const device = id === PCI_ANY_ID ? 0x4242 : id;
	const name = `row_${vendor.toString(16)}_${device.toString(16).padStart(4, '0')}`;
	FIXTURE_VARIANT_ADD(rows, name, { vendor, device, flags, old: since === null });
}

TEST_F(rows, 'F8_row_allows_its_host_bridge', (_self, { vendor, device: id, flags }) => {
	const hostBridge = [vendor, id] as const;
	EXPECT_EQ(THRU, judge({ hostBridge }, 'GPU0', 'NIC1').type);
	const across = (flags & REQ_SAME_HOST_BRIDGE) === 0 ? THRU : NO;
	EXPECT_EQ(across, judge({ hostBridge }, 'GPU0', 'NIC2').type);
	EXPECT_EQ(across, judge({ hostBridge }, 'NIC2', 'GPU0').type);
});

TEST_F(rows, 'F8_row_is_there_since_its_release', (_self, { vendor, device: id, old }) => {
	const seen = judge({ hostBridge: [vendor, id] }, 'GPU0', 'NIC1', 'v6.12');
	EXPECT_EQ(old ? THRU : NO, seen.type);
});

const nearMisses = FIXTURE('near_miss', () => ({}), FIXTURE_VARIANT({ vendor: 0, device: 0 }));
for (const [vendor, id] of [
	[0x8086, 0x0b24],
	[0x8086, 0x4941],
	[0x8086, 0x4949],
	[0x8086, 0x2f95],
	[0x8086, 0x2034],
	[0x10de, 0x2f94],
	[0x10de, 0x2f99],
	[0x10de, 0x2330],
	[0x1022, 0x2f95],
	[0x1ae1, 0x0001],
] as const)
	FIXTURE_VARIANT_ADD(nearMisses, `id_${vendor.toString(16)}_${id.toString(16)}`, {
		vendor,
		device: id,
	});

TEST_F(nearMisses, 'F8_neighbour_of_a_row_is_refused', (_self, v) => {
	EXPECT_EQ(NO, judge({ hostBridge: [v.vendor, v.device] }, 'GPU0', 'NIC1').type);
});

TEST('F8_first_device_of_the_root_bus_speaks_for_the_host_bridge', () => {
	const d = standardMachine();
	// Without 00.0 the first device is a root port, which counts; here it is in no row.
	d.devices = d.devices.filter(({ bdf }) => bdf !== at.HB0);
	bootPci(d);
	EXPECT_EQ(-1, pci_p2pdma_distance(dev('GPU0'), dev('NIC1').dev, false));
	dev('RP0').device = 0x2030;
	EXPECT_EQ(6, pci_p2pdma_distance(dev('GPU0'), dev('NIC1').dev, false));
	// A later root port does not.
	dev('RP0').device = 0x1234;
	dev('RP1').device = 0x2030;
	EXPECT_EQ(-1, pci_p2pdma_distance(dev('GPU0'), dev('NIC1').dev, false));
});

TEST('F8_first_device_that_is_no_root_port_and_not_00_0_does_not_count', () => {
	const d = standardMachine({ hostBridge: [0x8086, 0x2030] });
	for (const one of d.devices) if (one.bdf === at.HB0) one.bdf = '0000:00:00.1';
	bootPci(d);
	EXPECT_EQ(-1, pci_p2pdma_distance(dev('GPU0'), dev('NIC1').dev, false));
});

const many = FIXTURE('distance_many', () => ({}));
FIXTURE_SETUP(many, () => {
	bootPci(standardMachine());
});

TEST_F(many, 'no_client_is_minus_one', () => {
	EXPECT_EQ(-1, pci_p2pdma_distance_many(dev('GPU0'), [], 0, true));
});

TEST_F(many, 'sum_over_all_clients', () => {
	const clients = [dev('NIC0').dev, dev('NIC1').dev];
	EXPECT_EQ(10, pci_p2pdma_distance_many(dev('GPU0'), clients, 2, false));
	EXPECT_EQ(4, pci_p2pdma_distance_many(dev('GPU0'), clients, 1, false));
});

TEST_F(many, 'child_of_a_function_counts_as_the_function', () => {
	const child = new device({ init_name: 'mlx5_0', parent: dev('NIC0').dev });
	const grandchild = new device({ init_name: 'ibp4s0', parent: child });
	EXPECT_EQ(4, pci_p2pdma_distance(dev('GPU0'), grandchild, false));
});

TEST_F(many, 'F27_soc_device_ends_the_query', () => {
	const soc = new device({ init_name: 'soc0' });
	EXPECT_EQ(-1, pci_p2pdma_distance_many(dev('GPU0'), [soc, dev('NIC0').dev], 2, true));
	EXPECT_EQ(
		' soc0: cannot be used for peer-to-peer DMA as it is not a PCI device',
		world().log.at(-1),
	);
});

TEST_F(many, 'quiet_query_stops_at_the_first_refusal_and_a_verbose_one_goes_on', () => {
	const clients = [dev('NIC2').dev, dev('NIC0').dev];
	dev('GPU0').p2pdma = new pci_p2pdma();
	EXPECT_EQ(-1, pci_p2pdma_distance_many(dev('GPU0'), clients, 2, false));
	EXPECT_EQ(NO, cachedMapType(dev('GPU0'), dev('NIC2')));
	EXPECT_EQ(PCI_P2PDMA_MAP_UNKNOWN, cachedMapType(dev('GPU0'), dev('NIC0')));
	EXPECT_EQ(-1, pci_p2pdma_distance_many(dev('GPU0'), clients, 2, true));
	EXPECT_EQ(BUS, cachedMapType(dev('GPU0'), dev('NIC0')));
});

TEST('verbose_names_redirecting_functions_host_bridge_and_refusal_in_this_order', () => {
	const words = { DSP0: 0x1d, USP: 0x04, DSP1: 0x08 };
	bootPci(standardMachine({ acs: words, hostBridge: unknownBridge }));
	world().log.length = 0;
	EXPECT_EQ(-1, pci_p2pdma_distance(dev('GPU0'), dev('NIC0').dev, true));
	const [first, second, third, fourth, ...rest] = world().log;
	const client = `pci ${at.NIC0}: `;
	EXPECT_EQ(
		`${client}ACS redirect is set between the client and provider (${at.GPU0})`,
		first,
	);
	EXPECT_EQ(
		`${client}to disable ACS redirect for this path, add the kernel parameter: pci=disable_acs_redir=${at.DSP0};${at.USP};${at.DSP1}`,
		second,
	);
	EXPECT_EQ(`pci ${at.HB0}: Host bridge not in P2PDMA whitelist: 8086:1237`, third);
	EXPECT_EQ(
		`${client}cannot be used for peer-to-peer DMA as the client and provider (${at.GPU0}) do not share an upstream bridge or whitelisted host bridge`,
		fourth,
	);
	EXPECT_EQ(0, rest.length);
});

TEST('host_bridge_is_named_even_by_a_quiet_query_but_only_after_acs', () => {
	bootPci(standardMachine({ hostBridge: unknownBridge }));
	world().log.length = 0;
	pci_p2pdma_distance(dev('GPU0'), dev('NIC1').dev, false);
	EXPECT_EQ(0, world().log.length);
	bootPci(standardMachine({ hostBridge: unknownBridge, acs: { DSP0: 4 } }));
	world().log.length = 0;
	pci_p2pdma_distance(dev('GPU0'), dev('NIC0').dev, false);
	EXPECT_EQ(1, world().log.length);
	EXPECT_TRUE(world().log[0]?.includes('Host bridge not in P2PDMA whitelist'));
});
