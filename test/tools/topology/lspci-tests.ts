// SPDX-License-Identifier: GPL-2.0-only
/**
 * Reading lspci text. Goal: what is there is read, what is not understood or missing is one line with
 * file, line and expectation. Method: small machines in lspci's own layout, spoilt in one place each.
 */
import type { MachineDescription } from '../../../arch/sim/description.ts';
import { type AssembleOptions, assemble } from '../../../tools/topology/assemble.ts';
import { readTopology } from '../../../tools/topology/index.ts';
import { readLspci } from '../../../tools/topology/lspci-text.ts';
import { parseCpu } from '../../../tools/topology/platform.ts';
import { refusal } from '../../arch/sim/refusal.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';

const control = '\tControl: I/O- Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- DisINTx-\n';

const small = `00:00.0 Host bridge [0600]: Intel Corporation Sky Lake-E [8086:2020] (rev 04)
${control}\tNUMA node: 0

00:01.0 PCI bridge [0604]: Intel Corporation Root Port A [8086:2030] (prog-if 00 [Normal decode])
${control}\tBus: primary=00, secondary=01, subordinate=02, sec-latency=0
\tMemory behind bridge: e0000000-e1ffffff [size=32M] [32-bit]
\tCapabilities: [90] Express (v2) Root Port (Slot+), MSI 00
\t\tDevCap:\tMaxPayload 256 bytes, PhantFunc 0
\tCapabilities: [110 v1] Access Control Services
\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-

01:00.0 3D controller [0302]: NVIDIA Corporation GA100 [10de:20b0] (rev a1)
${control}\tRegion 0: Memory at e0000000 (32-bit, non-prefetchable) [size=16M]
\tRegion 1: Memory at 6000000000 (64-bit, prefetchable) [size=64G]
\tRegion 3: Memory at <ignored> (64-bit, prefetchable)
\tRegion 5: I/O ports at 2000 [size=128]
\tIOMMU group: 12
\tCapabilities: [60] Express (v2) Endpoint, MSI 00
\tCapabilities: [100 v1] Address Translation Service (ATS)
\tCapabilities: [bcc v1] Single Root I/O Virtualization (SR-IOV)
\t\tRegion 0: Memory at 00000000e1000000 (32-bit, non-prefetchable)

`;

const read = (text: string, options: AssembleOptions = {}): MachineDescription => {
	const file = 'small.txt';
	return assemble(readLspci({ text, file }), file, { name: 'small', ...options });
};
/** Number of the line that holds a piece of the text. */
const lineOf = (piece: string) => small.slice(0, small.indexOf(piece)).split('\n').length;
const last = small.trimEnd().split('\n').length;
const complaint = (text: string) => refusal(() => read(text));

TEST('tree_ids_bars_and_acs', () => {
	const d = read(small);
	EXPECT_STREQ('small', d.name);
	const [host, port, gpu] = d.devices;
	EXPECT_STREQ(
		'0000:00:00.0 0000:00:01.0 0000:01:00.0',
		d.devices.map((v) => v.bdf).join(' '),
	);
	EXPECT_EQ(0x2020, host?.device ?? 0);
	EXPECT_EQ(4, host?.revision ?? 0);
	EXPECT_EQ(-1, host?.pcieType ?? 0);
	EXPECT_EQ(4, port?.pcieType ?? 0);
	EXPECT_EQ(0x1f, port?.acs?.cap ?? 0);
	EXPECT_EQ(0x1d, port?.acs?.control ?? 0);
	EXPECT_STREQ('0000:00:01.0', gpu?.parent ?? '');
	EXPECT_EQ(0x030200, gpu?.class ?? 0);
	EXPECT_TRUE(gpu?.ats === true);
	EXPECT_STREQ('0 1 5', gpu?.bars.map((bar) => bar.bar).join(' ') ?? '');
	EXPECT_STREQ('0x6000000000', gpu?.bars[1]?.phys ?? '');
	EXPECT_STREQ('0x1000000000', gpu?.bars[1]?.size ?? '');
	EXPECT_EQ(0, d.hostBridges[0]?.numaNode ?? -1);
});

TEST('bus_addresses_never_equal_cpu_addresses_by_default', () => {
	const d = read(small);
	for (const device of d.devices) {
		for (const bar of device.bars) if (!bar.io) EXPECT_FALSE(bar.bus === bar.phys);
	}
	const exact = read(small, { busOffset: () => 0n });
	EXPECT_STREQ('0x6000000000', exact.devices[2]?.bars[1]?.bus ?? '');
	const known = read(small, { busAddress: (_, bar) => (bar === 1 ? 0x1000000000n : null) });
	EXPECT_STREQ('0x1000000000', known.devices[2]?.bars[1]?.bus ?? '');
	EXPECT_STREQ('0x5000000000', known.hostBridges[0]?.busOffset ?? '');
});

TEST('ram_lies_clear_of_windows', () => {
	const [low, high] = read(small).ram;
	EXPECT_STREQ('0x0', low?.start ?? '');
	EXPECT_STREQ('0x80000000', low?.size ?? '');
	EXPECT_STREQ('0x100000000', high?.start ?? '');
	const crowded = small
		.replace('6000000000 (64', '1000000000 (64')
		.replace('e0000000 (32', '1000000 (32');
	const ram = read(crowded).ram;
	EXPECT_STREQ(
		'0x0:0x1000000 0x100000000:0x80000000',
		ram.map((r) => `${r.start}:${r.size}`).join(' '),
	);
	EXPECT_STREQ(
		`small.txt:${lineOf('NVIDIA')}: expected BARs above the first megabyte, which is RAM`,
		complaint(
			crowded
				.replace('1000000 (32', '80000 (32')
				.replace('[size=16M]', '[size=64K]'),
		),
	);
});

TEST('cpu_and_iommu_are_guessed_or_given', () => {
	EXPECT_STREQ('intel', read(small).cpu.vendor);
	EXPECT_STREQ('intel dma', Object.values(read(small).iommu ?? {}).join(' '));
	EXPECT_NULL(read(small, { iommu: null }).iommu);
	const beside = (ids: string) => read(small.replace('[8086:2020]', ids)).cpu;
	EXPECT_STREQ('amd 23', Object.values(beside('[1022:1480]')).slice(0, 2).join(' '));
	// Before Zen, and what an emulator shows beside any CPU.
	EXPECT_STREQ('amd 21', Object.values(beside('[1002:5a13]')).slice(0, 2).join(' '));
	EXPECT_TRUE(read(small).cpu.unknown === undefined);
	EXPECT_TRUE(beside('[8086:29c0]').unknown === true);
	const zen = parseCpu('amd:0x19:0x11');
	EXPECT_EQ(0x19, zen?.family ?? 0);
	EXPECT_EQ(0x11, zen?.model ?? 0);
	EXPECT_EQ(6, parseCpu('intel:6')?.family ?? 0);
	for (const bad of ['intel', 'intel:', 'via:6', 'amd:x', 'amd:1:2:3'])
		EXPECT_NULL(parseCpu(bad));
});

TEST('lines_wrapped_and_quoted_by_mail', () => {
	const wrapped = small
		.replace('Sky Lake-E [8086:2020]', 'Sky Lake-E\n[8086:2020]')
		.replace(
			'UpstreamFwd+ EgressCtrl- DirectTrans-\n\t\tACSCtl',
			'UpstreamFwd+\nEgressCtrl- DirectTrans-\n\t\tACSCtl',
		)
		.replace('(64-bit, prefetchable) [size=64G]', '(64-bit,\nprefetchable) [size=64G]');
	EXPECT_STREQ(JSON.stringify(read(small)), JSON.stringify(read(wrapped)));
	const quoted = small.replace(/^/gm, '> ');
	EXPECT_STREQ(JSON.stringify(read(small)), JSON.stringify(read(quoted)));
	const windows = small.replaceAll('\n', '\r\n');
	EXPECT_STREQ(JSON.stringify(read(small)), JSON.stringify(read(windows)));
});

TEST('access_denied_is_unknown_and_never_off', () => {
	const denied = small.replace(
		/\tCapabilities: \[90\][\s\S]*?\n\n/,
		'\tCapabilities: <access denied>\n\n',
	);
	const port = read(denied).devices[1];
	EXPECT_TRUE(port?.unknown === true);
	EXPECT_EQ(4, port?.pcieType ?? 0);
	EXPECT_NULL(port?.acs ?? null);
});

TEST('names_without_numbers', () => {
	const plain = small.replace(/ \[[0-9a-f]{4}(:[0-9a-f]{4})?\]/g, '');
	const d = read(plain);
	EXPECT_EQ(0x030200, d.devices[2]?.class ?? 0);
	EXPECT_EQ(0x10de, d.devices[2]?.vendor ?? 0);
	EXPECT_EQ(0, d.devices[2]?.device ?? -1);
	// Capabilities were told; who speaks for the host bridge was not.
	EXPECT_TRUE(d.devices[2]?.unknown !== true);
	EXPECT_TRUE(d.hostBridges[0]?.unknown === true);
});

TEST('bridge_that_nobody_configured_leads_nowhere', () => {
	const d = read(
		small.replace(
			'00:01.0 PCI',
			`00:02.0 PCI bridge [0604]: X Y [8086:2031]\n${control}\tBus: primary=00, secondary=00, subordinate=00, sec-latency=0\n\n00:01.0 PCI`,
		),
	);
	EXPECT_EQ(4, d.devices.length);
});

TEST('not_lspci_output', () => {
	EXPECT_STREQ(
		'small.txt:1: expected lspci -vvv output, a line such as `00:00.0 Host bridge [0600]: … [8086:29c0]`',
		complaint('GPU0\tNIC0\n'),
	);
	EXPECT_TRUE(complaint('')?.startsWith('small.txt:1: expected lspci -vvv output'));
	EXPECT_TRUE(
		complaint('00:00.0 nothing\n\n')?.startsWith('small.txt:1: expected class, colon'),
	);
	EXPECT_TRUE(
		complaint('00:00.0 Host bridge [0600]: A B [8086:2020]\n\n')?.startsWith(
			'small.txt:1: expected the details that lspci -vvv prints for 0000:00:00.0',
		),
	);
});

TEST('cut_between_functions_is_noticed_where_a_port_has_somebody_behind_it', () => {
	const port = (status: string): string =>
		[
			'00:01.0 PCI bridge [0604]: A B [8086:2030] (prog-if 00 [Normal decode])',
			'\tControl: I/O+ Mem+ BusMaster+',
			'\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0',
			'\tCapabilities: [40] Express (v2) Root Port (Slot-), MSI 00',
			`\t\t\t${status}`,
			'',
			'',
		].join('\n');
	EXPECT_STREQ(null, complaint(port('TrErr- Train- SlotClk+ DLActive- BWMgmt-')));
	for (const status of [
		'TrErr- Train- SlotClk+ DLActive+ BWMgmt-',
		'SltSta:\tStatus: AttnBtn- PowerFlt- MRL- CmdCplt- PresDet+ Interlock-',
	])
		EXPECT_STREQ(
			'small.txt:5: expected what is behind 0000:00:01.0, whose link is up: the file is cut off',
			complaint(port(status)),
		);
});

TEST('cut_off_anywhere_is_noticed', () => {
	const whole = small.trimEnd();
	// In the middle of a line, at the end of a line, in the middle of the ACS words.
	for (const cut of [whole.length, whole.length - 9, whole.lastIndexOf('\n') + 1]) {
		const said = complaint(small.slice(0, cut)) ?? '';
		EXPECT_TRUE(said.includes('the file is cut off'));
		EXPECT_TRUE(/^small\.txt:\d+: /.test(said));
	}
	const atAcs = small.slice(0, small.indexOf('ACSCtl:'));
	EXPECT_STREQ(
		`small.txt:${lineOf('ACSCap')}: expected both ACSCap: and ACSCtl: of 0000:00:01.0`,
		complaint(atAcs),
	);
	const atRegion = small.slice(0, small.indexOf('64-bit, pref'));
	EXPECT_TRUE(
		complaint(atRegion)?.startsWith(
			`small.txt:${lineOf('64-bit, pref')}: expected a region such as`,
		),
	);
	const atBus = small.slice(0, small.indexOf('Bus: primary'));
	EXPECT_TRUE(
		complaint(atBus)?.startsWith(
			`small.txt:${lineOf('Bus: ') - 1}: expected bus numbers of the bridge`,
		),
	);
	const inBus = small.slice(0, small.indexOf('subordinate'));
	EXPECT_TRUE(
		complaint(inBus)?.startsWith(
			`small.txt:${lineOf('Bus: ')}: expected bus numbers such as`,
		),
	);
	const inWord = small.replace('UpstreamFwd+ EgressCtrl- DirectTrans-', 'UpstreamFwd+ Eg');
	EXPECT_TRUE(
		complaint(inWord)?.startsWith(
			`small.txt:${lineOf('ACSCap')}: expected EgressCtrl+ or EgressCtrl-`,
		),
	);
});

TEST('impossible_bus_trees', () => {
	const buses = 'secondary=01, subordinate=02';
	EXPECT_STREQ(
		`small.txt:${lineOf('Bus: ')}: expected a secondary bus above 00, the bridge's own bus: bus numbers go in a circle`,
		complaint(small.replace(buses, 'secondary=00, subordinate=02')),
	);
	EXPECT_STREQ(
		`small.txt:${lineOf('Bus: ')}: expected a subordinate bus of at least 03, the secondary bus`,
		complaint(small.replace(buses, 'secondary=03, subordinate=02')),
	);
	const bridge = (at: string, second: string) =>
		`${at} PCI bridge [0604]: X Y [8086:2031]\n${control}\tBus: primary=00, ${second}, sec-latency=0\n\n`;
	EXPECT_STREQ(
		`small.txt:${last + 4}: expected a secondary bus of its own: bus 01 is behind 0000:00:01.0 already`,
		complaint(small + bridge('00:02.0', 'secondary=01, subordinate=01')),
	);
	EXPECT_STREQ(
		`small.txt:${last + 4}: expected a subordinate bus up to 02, where 0000:00:01.0 above ends`,
		complaint(small + bridge('01:01.0', 'secondary=02, subordinate=05')),
	);
});

TEST('overlapping_bars_name_the_function', () => {
	const said = complaint(
		`${small}01:01.0 Ethernet controller [0200]: A B [15b3:1021]\n${control}` +
			'\tRegion 0: Memory at 6000100000 (64-bit, prefetchable) [size=1M]\n\n',
	);
	EXPECT_TRUE(
		said?.startsWith(
			`small.txt:${last + 2}: expected BAR 0 of 0000:01:01.0 apart from BAR 1`,
		),
	);
});

TEST('file_that_is_not_there', () => {
	EXPECT_STREQ(
		'/nowhere/at-all.txt:1: expected a topology file that can be read (ENOENT)',
		refusal(() => readTopology('/nowhere/at-all.txt')),
	);
});
