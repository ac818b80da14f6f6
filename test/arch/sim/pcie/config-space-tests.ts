// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a kernel finds in config space what the machine's description says, read-only bits stay,
 * and the fabric follows what is written. Method: registers of an endpoint and of a port of the
 * standard machine are read and written, and BARs then accessed.
 */
import { type Machine, makeMachine } from '../../../../arch/sim/machine.ts';
import type { PcieFunction } from '../../../../arch/sim/pcie/hierarchy.ts';
import { namedMachine } from '../../../../tools/machines/index.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../../kselftest_harness.ts';
import { refusal } from '../refusal.ts';

const standard = namedMachine('standard');

interface ConfigTest {
	machine: Machine;
	gpu: PcieFunction;
	port: PcieFunction;
}

const config = FIXTURE<ConfigTest>('config', () => ({
	machine: makeMachine(standard),
	gpu: null as unknown as PcieFunction,
	port: null as unknown as PcieFunction,
}));

FIXTURE_SETUP(config, (self) => {
	self.gpu = self.machine.function('0000:03:00.0') as PcieFunction;
	self.port = self.machine.function('0000:02:00.0') as PcieFunction;
});

TEST_F(config, 'config_space_is_made_on_the_first_access', ({ gpu }) => {
	EXPECT_NULL(gpu.config);
	EXPECT_EQ(0x2330_10de, gpu.readConfig(0, 4));
	EXPECT_EQ(4096, gpu.config?.bytes.length ?? 0);
});

TEST_F(config, 'endpoint_has_the_header_of_its_description', ({ gpu }) => {
	EXPECT_EQ(0x10de, gpu.readConfig(0x00, 2));
	EXPECT_EQ(0x2330, gpu.readConfig(0x02, 2));
	EXPECT_EQ(0x0302_0000, gpu.readConfig(0x08, 4));
	EXPECT_EQ(0, gpu.readConfig(0x0e, 1));
	EXPECT_EQ(0x10, gpu.readConfig(0x06, 2) & 0x10);
	EXPECT_EQ(6, gpu.readConfig(0x04, 2));
});

TEST_F(config, 'capabilities_can_be_walked', ({ gpu, port }) => {
	const at = port.readConfig(0x34, 1);
	EXPECT_EQ(0x10, port.readConfig(at, 1));
	EXPECT_EQ(6, (port.readConfig(at + 2, 2) >> 4) & 15);
	EXPECT_EQ(0x0d, port.readConfig(0x100, 2));
	EXPECT_EQ(0, port.readConfig(0x100, 4) >>> 20);
	EXPECT_EQ(0x207f, port.readConfig(0x104, 2));
	EXPECT_EQ(0x0f, gpu.readConfig(0x100, 2));
});

TEST_F(config, 'bars_hold_bus_addresses_and_can_be_sized', ({ gpu }) => {
	EXPECT_EQ(0x8000_0000, gpu.readConfig(0x10, 4));
	EXPECT_EQ(0x0000_000c, gpu.readConfig(0x14, 4));
	EXPECT_EQ(0x4000, gpu.readConfig(0x18, 4));
	gpu.writeConfig(0x14, 4, 0xffff_ffff);
	EXPECT_EQ(0xf000_000c, gpu.readConfig(0x14, 4));
	gpu.writeConfig(0x18, 4, 0xffff_ffff);
	EXPECT_EQ(0xffff_ffff, gpu.readConfig(0x18, 4));
	gpu.writeConfig(0x10, 4, 0xffff_ffff);
	EXPECT_EQ(0xff00_0000, gpu.readConfig(0x10, 4));
	gpu.writeConfig(0x20, 4, 0xffff_ffff);
	EXPECT_EQ(0, gpu.readConfig(0x20, 4));
});

TEST_F(config, 'moved_bar_answers_at_its_new_address', ({ machine, gpu }) => {
	gpu.writeConfig(0x14, 4, 0);
	const bar = gpu.bar(1);
	EXPECT_EQ(0x4000_0000_0000n, bar?.address ?? 0n);
	gpu.writeConfig(0x18, 4, 0x4001);
	EXPECT_EQ(0x4001_0000_0000n, bar?.address ?? 0n);
	EXPECT_STREQ('UR', machine.fabric.read('0000:04:00.0', 0x4000_0000_0000n, 4).status);
});

TEST_F(config, 'identity_is_read_only', ({ gpu }) => {
	gpu.writeConfig(0x00, 4, 0x1234_5678);
	gpu.writeConfig(0x08, 4, 0);
	gpu.writeConfig(0x34, 1, 0);
	EXPECT_EQ(0x2330_10de, gpu.readConfig(0, 4));
	EXPECT_EQ(0x0302_0000, gpu.readConfig(8, 4));
	EXPECT_EQ(0x40, gpu.readConfig(0x34, 1));
});

TEST_F(config, 'acs_control_has_only_the_bits_of_its_capability', ({ machine }) => {
	const hgx = makeMachine(namedMachine('hgx-8x8'));
	const root = hgx.function('0000:17:01.0') as PcieFunction;
	root.writeConfig(0x106, 2, 0xffff);
	EXPECT_EQ(0x1f, root.readConfig(0x106, 2));
	EXPECT_EQ(0x1f, root.acs?.control ?? 0);
	root.writeConfig(0x104, 2, 0);
	EXPECT_EQ(0x1f, root.readConfig(0x104, 2));
	// No egress control: no vector.
	root.writeConfig(0x108, 4, 0xffff_ffff);
	EXPECT_EQ(0, root.readConfig(0x108, 4));
	const port = machine.function('0000:02:00.0') as PcieFunction;
	port.writeConfig(0x106, 2, 0xffff);
	EXPECT_EQ(0x7f, port.readConfig(0x106, 2));
	port.writeConfig(0x108, 4, 0xf000_000f);
	EXPECT_EQ(0xf000_000f, port.acs?.egress[0] ?? 0);
});

TEST_F(config, 'bridge_forwards_what_its_registers_say', ({ port }) => {
	EXPECT_EQ(0x01, port.readConfig(0x0e, 1));
	EXPECT_EQ(0x0003_0302, port.readConfig(0x18, 4));
	EXPECT_EQ(0x80f0_8000, port.readConfig(0x20, 4));
	EXPECT_EQ(0x0ff1_0001, port.readConfig(0x24, 4));
	EXPECT_EQ(0x4000, port.readConfig(0x28, 4));
	port.writeConfig(0x19, 1, 9);
	port.writeConfig(0x1a, 1, 11);
	EXPECT_EQ(9, port.secondary);
	EXPECT_EQ(11, port.subordinate);
	port.writeConfig(0x26, 2, 0xffff);
	EXPECT_EQ(0x4000_ffff_ffffn, port.prefetchLimit);
	EXPECT_EQ(0xfff1, port.readConfig(0x26, 2));
	EXPECT_TRUE(port.forwards(0x4000_8000_0000n));
});

TEST_F(config, 'conventional_function_has_256_bytes', () => {
	const fn = makeMachine(namedMachine('consumer')).function('0000:00:00.0') as PcieFunction;
	EXPECT_EQ(0x0600, fn.readConfig(0x0a, 2));
	EXPECT_EQ(0, fn.readConfig(0x34, 1));
	EXPECT_EQ(0xffff_ffff, fn.readConfig(0x100, 4));
	EXPECT_EQ(0xff, fn.readConfig(0x100, 1));
	fn.writeConfig(0x100, 4, 0);
	EXPECT_EQ(256, fn.config?.bytes.length ?? 0);
});

TEST_F(config, 'misaligned_access_is_misuse', ({ gpu }) => {
	EXPECT_STREQ(
		'readConfig(1, 2): the offset lies in 0..4095 and is a multiple of the size',
		refusal(() => gpu.readConfig(1, 2)),
	);
	EXPECT_STREQ(
		'writeConfig(0, 3): the size is 1, 2 or 4 bytes',
		refusal(() => gpu.writeConfig(0, 3, 0)),
	);
});
