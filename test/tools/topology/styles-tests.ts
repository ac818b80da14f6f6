// SPDX-License-Identifier: GPL-2.0-only
/**
 * What old and new versions of lspci print, with various options, and what mail and shells make of it. Goal:
 * each is read as the same machine, or refused with one line that says what to do. Method: a small text for
 * each, written for it.
 */
import { askKernel } from '../../../tools/topo/kernel.ts';
import { parseSource } from '../../../tools/topology/source.ts';
import { refusal } from '../../arch/sim/refusal.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { configBytes } from './config_bytes.ts';
import { denied } from './denied.ts';

const read = (...texts: string[]) =>
	parseSource(texts.map((text, i) => ({ text, file: i === 0 ? 'a.txt' : 'b.txt' })));
const complaint = (...texts: string[]) => refusal(() => read(...texts));
/** Address, type, parent and ACS of each function. */
const tree = (...texts: string[]) =>
	read(...texts)
		.description.devices.map(
			(d) =>
				`${d.bdf} ${d.pcieType} ${d.parent} ${d.acs?.control ?? 'none'}${d.unknown === true ? ' unknown' : ''}`,
		)
		.join('\n');

const control = '\tControl: I/O- Mem+ BusMaster+ SpecCycle-\n';
const hostBridge = `00:00.0 Host bridge [0600]: Intel Corporation Sky Lake-E DMI3 [8086:2020] (rev 04)\n${control}\n`;
const rootPort = `00:01.0 PCI bridge [0604]: Intel Corporation Root Port A [8086:2030] (prog-if 00 [Normal decode])
${control}\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0
\tCapabilities: [90] Express (v2) Root Port (Slot+), MSI 00
\tCapabilities: [110 v1] Access Control Services
\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-

`;
const gpu = `01:00.0 3D controller [0302]: NVIDIA Corporation GA100 [10de:20b0] (rev a1)
${control}\tRegion 0: Memory at e0000000 (32-bit, non-prefetchable) [size=16M]
\tCapabilities: [60] Express (v2) Endpoint, MSI 00

`;
const plain = hostBridge + rootPort + gpu;
const wanted =
	'0000:00:00.0 -1 null none\n0000:00:01.0 4 null 29\n0000:01:00.0 0 0000:00:01.0 none';

TEST('with_and_without_domains', () => {
	EXPECT_STREQ(wanted, tree(plain));
	EXPECT_STREQ(wanted, tree(plain.replace(/^(?=[0-9a-f]{2}:)/gm, '0000:')));
});

TEST('numbers_instead_of_names_are_read_in_both_old_forms', () => {
	const numeric = plain.replace(/^(\S+) .*\[(\w{4})\]: .*\[(\w{4}:\w{4})\]/gm, '$1 $2: $3');
	EXPECT_TRUE(numeric.includes('00:01.0 0604: 8086:2030'));
	EXPECT_STREQ(wanted, tree(numeric));
	// Before 2.2 the word Class stood in front.
	EXPECT_STREQ(wanted, tree(numeric.replace(/^(\S+) (\w{4}):/gm, '$1 Class $2:')));
});

TEST('names_only_leave_the_host_bridge_open', () => {
	const names = plain.replace(/ \[\w{4}(?::\w{4})?\]/g, '');
	EXPECT_STREQ(wanted, tree(names));
	EXPECT_TRUE(read(names).description.hostBridges[0]?.unknown === true);
});

TEST('with_kernel_drivers_and_modules', () => {
	const drivers = plain.replace(
		/\n\n/g,
		'\n\tDeviceName: Onboard\n\tPhysical Slot: 3\n\tKernel driver in use: pcieport\n\tKernel modules: shpchp, nvidia\n\n',
	);
	EXPECT_STREQ(wanted, tree(drivers));
});

TEST('capabilities_that_may_not_be_read_leave_acs_unknown', () => {
	EXPECT_STREQ(
		'0000:00:00.0 -1 null none\n0000:00:01.0 4 null none unknown\n0000:01:00.0 0 0000:00:01.0 none unknown',
		tree(denied(plain)),
	);
});

TEST('device_that_fell_off_the_bus', () => {
	const gone = plain.replace(
		/01:00\.0 [\s\S]*$/,
		`01:00.0 3D controller [0302]: NVIDIA Corporation GA100 [10de:20b0] (rev ff) (prog-if ff)
\t!!! Unknown header type 7f
${control}\tKernel driver in use: nvidia

`,
	);
	EXPECT_STREQ(`${wanted} unknown`, tree(gone));
	// A bridge that fell off shows no bus numbers, and leads nowhere.
	const bridge = plain.replace(/\tBus: [\s\S]*?\n\n/, '\t!!! Unknown header type 7f\n\n');
	EXPECT_STREQ(
		'0000:00:00.0 0000:00:01.0 0000:01:00.0',
		read(bridge)
			.description.devices.map(({ bdf }) => bdf)
			.join(' '),
	);
});

TEST('capabilities_that_nobody_knows', () => {
	const odd = plain.replace(
		/\n\n$/,
		'\n\tCapabilities: [e0] #19 [0001]\n\tCapabilities: [400 v1] Vendor Specific Information: ID=0002 Rev=4 Len=100 <?>\n\tCapabilities: [520 v1] Extended Capability ID 0x2f\n\tCapabilities: [640 v0] Null\n\tCapabilities: [700 v1] <chain looped>\n\n',
	);
	EXPECT_STREQ(wanted, tree(odd));
});

TEST('wrapped_by_mail', () => {
	const wrapped = plain
		.split('\n')
		.map((line) => (line.length > 60 ? line.replace(/^(.{40,60}) /, '$1\n') : line))
		.join('\n');
	EXPECT_TRUE(wrapped !== plain);
	EXPECT_STREQ(wanted, tree(wrapped));
	EXPECT_STREQ(wanted, tree(wrapped.replace(/^/gm, '> > ')));
	// format=flowed
	EXPECT_STREQ(wanted, tree(wrapped.replace(/$/gm, ' ')));
});

TEST('pasted_from_a_shell', () => {
	EXPECT_STREQ(
		wanted,
		tree(
			`# lspci -vvv -nn\npcilib: sysfs_read_vpd: read failed: No such device\n${plain}# \n`,
		),
	);
	const prompts = [
		['$ sudo lspci -vvv\n[sudo] password for joe: \n', 'joe@host:~$ \n'],
		['[root@host ~]# lspci -vvv\n', '[root@host ~]# exit\n$ \n'],
		['```\n', '```\n\n'],
	] as const;
	for (const [before, after] of prompts)
		EXPECT_STREQ(wanted, tree(`${before}${plain}${after}`));
	EXPECT_STREQ(wanted, tree(plain.replaceAll('\n', '\r\n')));
});

TEST('domains_of_16_and_32_bits', () => {
	const moved = plain.replace(/^(?=[0-9a-f]{2}:)/gm, '10000:');
	EXPECT_STREQ(wanted.replaceAll('0000:0', '10000:0'), tree(moved));
	const { hostBridges } = read(
		plain.replace(/^(?=[0-9a-f]{2}:)/gm, '0000:') + moved,
	).description;
	EXPECT_STREQ('0 65536', hostBridges.map(({ domain }) => domain).join(' '));
});

TEST('volume_management_domain_starts_at_a_root_port', () => {
	// Behind VMD no function 00.0 speaks for the bus: its first root port does.
	const vmd = `${plain.replace(/^(?=[0-9a-f]{2}:)/gm, '0000:')}10000:e0:06.0 PCI bridge [0604]: Intel Corporation Device [8086:2030]
${control}\tBus: primary=e0, secondary=e1, subordinate=e1, sec-latency=0
\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00

10000:e1:00.0 Non-Volatile memory controller [0108]: Intel Corporation NVMe [8086:0b60] (prog-if 02 [NVM Express])
${control}\tCapabilities: [60] Express (v2) Endpoint, MSI 00

`;
	const { devices, hostBridges } = read(vmd).description;
	EXPECT_STREQ('10000:e0:06.0', devices[4]?.parent ?? '');
	EXPECT_STREQ('0:0 65536:224', hostBridges.map((h) => `${h.domain}:${h.bus}`).join(' '));
});

TEST('missing_bridge_is_said_and_skipped', () => {
	// The upstream port 01:00.0 of a switch is not there, its downstream port on bus 02 is.
	const port = rootPort.replace('subordinate=01', 'subordinate=03');
	const down = `02:00.0 PCI bridge [0604]: PLX Technology PEX 8747 [10b5:8747]
${control}\tBus: primary=02, secondary=03, subordinate=03, sec-latency=0
\tCapabilities: [68] Express (v2) Downstream Port (Slot-), MSI 00

`;
	const source = read(hostBridge + port + down + gpu.replace('01:00.0', '03:00.0'));
	EXPECT_STREQ(
		'No bridge leads to bus 0000:02: 0000:02:00.0 is taken as right below 0000:00:01.0.',
		source.notes.join('\n'),
	);
	const [path] = askKernel(
		{ machine: source.description, kernel: 'v7.3', pci: [] },
		['0000:03:00.0'],
		['0000:00:01.0'],
	);
	EXPECT_EQ(2, path![0]!.hops);
});

TEST('virtual_functions_on_a_bus_of_their_own_hang_from_the_same_bridge', () => {
	const port = rootPort.replace('subordinate=01', 'subordinate=02');
	const virtual = gpu.replace('01:00.0', '02:00.1').replace('e0000000', 'e1000000');
	const source = read(hostBridge + port + gpu + virtual);
	EXPECT_EQ(0, source.notes.length);
	const scenario = { machine: source.description, kernel: 'v7.3' as const, pci: [] };
	const [row] = askKernel(scenario, ['0000:01:00.0'], ['0000:02:00.1']);
	// Up to the port and down again, as from function to function of one bus.
	EXPECT_EQ(2, row![0]!.hops);
	EXPECT_STREQ('redirected', row![0]!.reach);
});

TEST('several_hosts_in_one_file_are_refused', () => {
	EXPECT_STREQ(
		`a.txt:${plain.split('\n').length}: expected 0000:00:00.0 only once, not the output of a second host: each needs a file of its own`,
		complaint(plain + plain),
	);
	EXPECT_TRUE(
		complaint(`$ ssh a lspci -vvv\n${plain}$ ssh b lspci -vvv\n${plain}`)?.includes(
			'only once',
		) === true,
	);
});

/** Rows of `lspci -xxxx`. */
function rows(bytes: Uint8Array): string {
	const lines: string[] = [];
	for (let at = 0; at < bytes.length; at += 16) {
		const row = [...bytes.subarray(at, at + 16)].map((b) =>
			b.toString(16).padStart(2, '0'),
		);
		lines.push(`${at.toString(16).padStart(2, '0')}: ${row.join(' ')}`);
	}
	return `${lines.join('\n')}\n\n`;
}

const acs = { cap: 0x1f, control: 0x1d };
const portBytes = configBytes({
	vendor: 0x8086,
	device: 0x2030,
	class: 0x060400,
	type: 4,
	buses: [1, 1],
	acs,
});
const gpuBytes = configBytes({ vendor: 0x10de, device: 0x20b0, class: 0x030200, type: 0 });
const hostBytes = configBytes({ vendor: 0x8086, device: 0x2020, class: 0x060000 }).subarray(0, 256);
const hex = `00:00.0 0600: 8086:2020\n${rows(hostBytes)}00:01.0 0604: 8086:2030\n${rows(portBytes)}01:00.0 0302: 10de:20b0\n${rows(gpuBytes)}`;

TEST('bytes_alone_and_beside_the_text', () => {
	EXPECT_STREQ(wanted, tree(hex));
	for (const text of [denied(plain), plain]) {
		EXPECT_STREQ(wanted, tree(text, hex));
		EXPECT_STREQ(wanted, tree(hex, text));
		EXPECT_STREQ(wanted, tree(text + hex));
	}
	// lspci -vvvxxxx prints both in one.
	const both = plain.replace(/\n\n$/, `\n${rows(gpuBytes)}`);
	EXPECT_STREQ(wanted, tree(both));
	// BARs come from the text, where sizes are.
	EXPECT_EQ(1, read(plain, hex).description.devices[2]?.bars.length ?? 0);
});

TEST('short_dumps_leave_acs_open', () => {
	const cut = (bytes: Uint8Array, length: number) => rows(bytes.subarray(0, length));
	const short = (length: number) =>
		`00:01.0 0604: 8086:2030\n${cut(portBytes, length)}01:00.0 0302: 10de:20b0\n${cut(gpuBytes, length)}`;
	for (const length of [64, 256]) {
		const [port] = read(short(length)).description.devices;
		EXPECT_TRUE(port?.unknown === true);
		EXPECT_EQ(4, port?.pcieType ?? -1);
		EXPECT_NULL(port?.acs ?? null);
	}
	// Text of root's beside such a dump: the text knows.
	EXPECT_STREQ(wanted, tree(plain, short(64)));
	EXPECT_STREQ(
		'a.txt:3: expected at least 64 bytes of 0000:00:01.0, in rows such as `00: 86 80 …`',
		complaint(`00:01.0 0604: 8086:2030\n${cut(portBytes, 32)}`),
	);
});

TEST('rows_follow_each_other', () => {
	const missing = hex.replace(/^20: .*\n/m, '');
	EXPECT_STREQ('a.txt:4: expected the row of bytes at offset 20:', complaint(missing));
});

TEST('what_is_not_enough', () => {
	const listing =
		'00:00.0 Host bridge: Intel Corporation Sky Lake-E\n00:01.0 PCI bridge: Intel Corporation Root Port\n\n';
	EXPECT_STREQ(
		'a.txt:1: expected the details that lspci -vvv prints for 0000:00:00.0, beginning with a "Control:" line',
		complaint(listing),
	);
	const brief = plain.replace(
		/\tControl: .*/g,
		'\tFlags: bus master, fast devsel, latency 0',
	);
	EXPECT_TRUE(
		complaint(brief)?.startsWith(
			'a.txt:2: expected the details that lspci -vvv prints',
		) === true,
	);
	EXPECT_TRUE(
		complaint('-[0000:00]-+-00.0  Intel Corporation\n')?.startsWith(
			'a.txt:1: expected lspci -vvv output',
		),
	);
	EXPECT_TRUE(
		complaint(plain, '{}')?.startsWith(
			'b.txt:1: expected lspci output: only text and bytes',
		),
	);
});

TEST('empty_slots_are_no_cut_off_file', () => {
	// The slot wants to be told of cards (SltCtl), and has one whose link is down (SltSta).
	const slot = (state: string) =>
		`${plain}00:1c.0 PCI bridge [0604]: Intel Corporation Port [8086:2031]
${control}\tBus: primary=00, secondary=05, subordinate=05, sec-latency=0
\tCapabilities: [90] Express (v2) Root Port (Slot+), MSI 00
\t\tLnkSta:\tSpeed 2.5GT/s, Width x0
\t\t\tTrErr- Train- SlotClk+ DLActive- BWMgmt- ABWMgmt-
\t\tSltCtl:\tEnable: AttnBtn- PwrFlt- MRL- PresDet+ CmdCplt- HPIrq+ LinkChg+
\t\tSltSta:\tStatus: AttnBtn- PowerFlt- MRL- CmdCplt- ${state} Interlock-

`;
	EXPECT_NULL(complaint(slot('PresDet-')));
	EXPECT_NULL(complaint(slot('PresDet+')));
});
