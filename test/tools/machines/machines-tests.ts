// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the named machines are the files that are kept, and their fabric behaves as they are
 * described. Method: files are compared with what their definitions give; on each machine devices
 * read each other's memory.
 */
import { readFileSync } from 'node:fs';
import { makeMachine } from '../../../arch/sim/machine.ts';
import type { Bar } from '../../../arch/sim/pcie/hierarchy.ts';
import { buildNamedMachines } from '../../../tools/machines/definitions.ts';
import {
	machineFile,
	machineNames,
	namedMachine,
	namedMachines,
} from '../../../tools/machines/index.ts';
import { formatTopology } from '../../../tools/topology/index.ts';
import { EXPECT_EQ, EXPECT_FALSE, EXPECT_STREQ, TEST } from '../../kselftest_harness.ts';

/** Read a GPU's first bytes by a NIC, named by label, by bus or by CPU address. */
function probe(name: (typeof machineNames)[number], gpu: string, nic: string, kind: 'bus' | 'cpu') {
	const machine = makeMachine(namedMachine(name));
	const find = (label: string) =>
		[...machine.fabric.functions.values()].find((fn) => fn.label === label);
	const [provider, client] = [find(gpu), find(nic)];
	if (provider === undefined || client === undefined) throw new Error(`no ${gpu} or ${nic}`);
	const bar = provider.bar(1) as Bar;
	return machine.fabric.read(client, kind === 'bus' ? bar.address : bar.phys, 64).status;
}

TEST('files_equal_definitions', () => {
	for (const machine of buildNamedMachines()) {
		const name = machine.name as (typeof machineNames)[number];
		EXPECT_STREQ(formatTopology(machine), readFileSync(machineFile(name), 'utf8'));
	}
	EXPECT_STREQ(
		machineNames.join(' '),
		namedMachines()
			.map((d) => d.name)
			.join(' '),
	);
});

TEST('hgx_reaches_peers_by_switch_and_over_the_root', () => {
	EXPECT_STREQ('SC', probe('hgx-8x8', 'GPU0', 'NIC0', 'bus'));
	EXPECT_STREQ('SC', probe('hgx-8x8', 'GPU0', 'NIC1', 'bus'));
	EXPECT_STREQ('UR', probe('hgx-8x8', 'GPU0', 'NIC2', 'bus'));
	EXPECT_STREQ('SC', probe('hgx-8x8', 'GPU0', 'NIC2', 'cpu'));
	EXPECT_STREQ('SC', probe('hgx-8x8', 'GPU0', 'NIC7', 'cpu'));
});

TEST('hgx_with_acs_lets_nothing_past_the_iommu', () => {
	EXPECT_STREQ('UR', probe('hgx-8x8-acs', 'GPU0', 'NIC0', 'bus'));
	EXPECT_STREQ('UR', probe('hgx-8x8-acs', 'GPU0', 'NIC0', 'cpu'));
});

TEST('dual_xeon_stays_within_a_socket', () => {
	EXPECT_STREQ('SC', probe('dual-xeon', 'GPU0', 'NIC0', 'cpu'));
	EXPECT_STREQ('UR', probe('dual-xeon', 'GPU0', 'NIC0', 'bus'));
	EXPECT_STREQ('UR', probe('dual-xeon', 'GPU0', 'NIC1', 'cpu'));
});

TEST('epyc_crosses_its_host_bridges', () => {
	EXPECT_STREQ('SC', probe('epyc', 'GPU0', 'NIC0', 'cpu'));
	EXPECT_STREQ('SC', probe('epyc', 'GPU1', 'NIC2', 'cpu'));
});

TEST('consumer_board_aborts_peers', () => {
	EXPECT_STREQ('UR', probe('consumer', 'GPU0', 'NIC0', 'cpu'));
});

TEST('standard_bar_has_another_address_on_the_bus_than_for_the_cpu', () => {
	const gpu = namedMachine('standard').devices.find((device) => device.label === 'GPU0');
	EXPECT_STREQ('0x800000000000', gpu?.bars[1]?.phys ?? '');
	EXPECT_STREQ('0x400000000000', gpu?.bars[1]?.bus ?? '');
});

/** A bus address that is also a CPU address would let a wrong decision pass. */
TEST('no_bus_address_is_a_cpu_address', () => {
	for (const d of namedMachines()) {
		const machine = makeMachine(d);
		for (const fn of machine.fabric.functions.values()) {
			for (const bar of fn.bars) {
				EXPECT_FALSE(machine.ram.has(Number(bar.address >> 12n)));
				for (const host of machine.fabric.hosts)
					EXPECT_EQ(null, host.cpuToBus(bar.address));
			}
		}
	}
});
