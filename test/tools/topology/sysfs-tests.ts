// SPDX-License-Identifier: GPL-2.0-only
/**
 * Copies of /sys/bus/pci/devices. Goal: the tree is that of the links, or of the bus numbers where a copy has
 * none; what 64, 256 and 4096 bytes of configuration space leave open is open; what is missing is one line.
 * Method: small trees made in a temporary folder.
 */
import { spawnSync } from 'node:child_process';
import {
	mkdirSync,
	mkdtempSync,
	readFileSync,
	renameSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readSource } from '../../../tools/topology/source.ts';
import { cpuFromCpuinfo, parentInPath } from '../../../tools/topology/sysfs.ts';
import { refusal } from '../../arch/sim/refusal.ts';
import {
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { kproto } from '../../support/command.ts';
import { type ConfigOptions, configBytes } from './config_bytes.ts';

interface Self {
	root: string;
}

const sysfs = FIXTURE<Self>('sysfs', () => ({ root: '' }));

FIXTURE_SETUP(sysfs, (self) => {
	self.root = mkdtempSync(join(tmpdir(), 'sysfs-'));
});

FIXTURE_TEARDOWN(sysfs, ({ root }) => {
	rmSync(root, { recursive: true });
});

interface Put extends ConfigOptions {
	/** Folders above it in /sys/devices: `pci0000:00/0000:00:01.0`. */
	readonly above: string;
	/** Bytes of configuration space that the copy has. */
	readonly length: number;
	readonly files?: Readonly<Record<string, string>>;
}

/** Put a function into a copy, behind a link unless it is to be flat. */
function put(root: string, bdf: string, what: Put, flat = false): void {
	const links = join(root, 'sys/bus/pci/devices');
	const folder = flat ? join(links, bdf) : join(root, 'sys/devices', what.above, bdf);
	mkdirSync(folder, { recursive: true });
	writeFileSync(join(folder, 'config'), configBytes(what).subarray(0, what.length));
	for (const [name, text] of Object.entries(what.files ?? {})) {
		mkdirSync(dirname(join(folder, name)), { recursive: true });
		writeFileSync(join(folder, name), text);
	}
	if (flat) return;
	mkdirSync(links, { recursive: true });
	symlinkSync(`../../../devices/${what.above}/${bdf}`, join(links, bdf));
}

const port = { vendor: 0x8086, device: 0x2030, class: 0x060400, type: 4, buses: [1, 2] as const };
const gpu = { vendor: 0x10de, device: 0x20b0, class: 0x030200, type: 0 };
const acs = { cap: 0x1f, control: 0x1d };

/** A root port and a GPU. */
function small(root: string, length: number, flat = false): void {
	put(
		root,
		'0000:00:00.0',
		{ above: 'pci0000:00', length, vendor: 0x8086, device: 0x2020, class: 0x060000 },
		flat,
	);
	put(root, '0000:00:01.0', { above: 'pci0000:00', length, ...port, acs }, flat);
	put(
		root,
		'0000:01:00.0',
		{
			above: 'pci0000:00/0000:00:01.0',
			length,
			...gpu,
			files: {
				resource: [
					'0x00000000e0000000 0x00000000e0ffffff 0x0000000000040200',
					'0x0000006000000000 0x0000006fffffffff 0x000000000014220c',
					'0x0000000000000000 0x0000000000000000 0x0000000000000000',
					'0x0000000000002000 0x000000000000207f 0x0000000000040101',
				].join('\n'),
				numa_node: '1\n',
				'drm/card1/dev': '',
			},
		},
		flat,
	);
}

TEST_F(sysfs, 'root_reads_it_all', ({ root }) => {
	small(root, 4096);
	const { description: d, kind, cpuTold } = readSource([root]);
	EXPECT_STREQ('sysfs', kind);
	EXPECT_TRUE(!cpuTold);
	const [host, bridge, device] = d.devices;
	EXPECT_STREQ('0000:00:00.0', host?.bdf ?? '');
	EXPECT_EQ(-1, host?.pcieType ?? 0);
	EXPECT_TRUE(host?.unknown === undefined);
	EXPECT_EQ(4, bridge?.pcieType ?? -1);
	EXPECT_EQ(0x1d, bridge?.acs?.control ?? 0);
	EXPECT_STREQ('0000:00:01.0', device?.parent ?? '');
	EXPECT_STREQ('card1', device?.label ?? '');
	EXPECT_STREQ(
		'0:0xe0000000+0x1000000 1:0x6000000000+0x1000000000 3:0x2000+0x80',
		device?.bars.map((bar) => `${bar.bar}:${bar.phys}+${bar.size}`).join(' ') ?? '',
	);
	EXPECT_TRUE(device?.bars[1]?.is64 === true && device.bars[1].prefetchable);
	EXPECT_TRUE(device?.bars[2]?.io === true);
});

TEST_F(sysfs, 'others_read_64_bytes_and_the_rest_is_unknown', ({ root }) => {
	small(root, 64);
	const [host, bridge, device] = readSource([join(root, 'sys/bus/pci/devices')]).description
		.devices;
	// Without a list of capabilities it is conventional, and has no ACS.
	EXPECT_TRUE(host?.unknown === undefined);
	EXPECT_TRUE(bridge?.unknown === true && device?.unknown === true);
	EXPECT_NULL(bridge?.acs ?? null);
	// The type that the place suggests.
	EXPECT_EQ(4, bridge?.pcieType ?? -1);
	EXPECT_STREQ('0000:00:01.0', device?.parent ?? '');
});

TEST_F(sysfs, 'without_extended_space_the_type_is_known_and_acs_is_not', ({ root }) => {
	small(root, 256);
	const bridge = readSource([root]).description.devices[1];
	EXPECT_EQ(4, bridge?.pcieType ?? -1);
	EXPECT_TRUE(bridge?.unknown === true);
	EXPECT_NULL(bridge?.acs ?? null);
});

TEST_F(sysfs, 'copy_without_links_is_a_tree_by_bus_numbers', ({ root }) => {
	small(root, 4096, true);
	const { devices } = readSource([root]).description;
	EXPECT_STREQ('0000:00:01.0', devices[2]?.parent ?? '');
});

TEST_F(sysfs, 'copy_made_as_the_documentation_says_tells_the_same', ({ root }) => {
	small(root, 4096);
	writeFileSync(join(root, 'cpuinfo'), 'vendor_id\t: AuthenticAMD\ncpu family\t: 25\n');
	const guide = readFileSync(
		new URL('../../../Documentation/topology.md', import.meta.url),
		'utf8',
	);
	const [, script] = /^A copy of sysfs[\s\S]*?```sh\n([\s\S]*?)```/m.exec(guide) ?? [];
	ASSERT_TRUE(script !== undefined);
	const here = script!
		.replaceAll('/sys/bus/pci/devices', `${root}/sys/bus/pci/devices`)
		.replace('/proc/cpuinfo', `${root}/cpuinfo`);
	spawnSync('bash', ['-c', here], { cwd: root });
	const { description: copied, cpuTold } = readSource([join(root, 'copy')]);
	EXPECT_TRUE(cpuTold);
	EXPECT_STREQ('amd', copied.cpu.vendor);
	// the name that the OS gave is not copied
	const told = readSource([join(root, 'sys/bus/pci/devices')]).description.devices;
	const wanted = told.map(({ label: _, ...device }) => device);
	EXPECT_STREQ(
		JSON.stringify(wanted),
		JSON.stringify(copied.devices.map(({ label: _, ...device }) => device)),
	);
});

TEST_F(sysfs, 'domain_of_32_bits_below_a_volume_management_device', ({ root }) => {
	put(root, '0000:00:0e.0', {
		above: 'pci0000:00',
		length: 4096,
		vendor: 0x8086,
		device: 0x201d,
		class: 0x010400,
	});
	const above = 'pci0000:00/0000:00:0e.0/pci10000:e0';
	put(root, '10000:e0:06.0', { above, length: 4096, ...port, buses: [0xe1, 0xe1] });
	put(root, '10000:e1:00.0', {
		above: `${above}/10000:e0:06.0`,
		length: 4096,
		...gpu,
		class: 0x010802,
	});
	const { devices, hostBridges } = readSource([root]).description;
	EXPECT_STREQ('10000:e0:06.0', devices[2]?.parent ?? '');
	EXPECT_NULL(devices[1]?.parent ?? null);
	EXPECT_STREQ('0:0 65536:224', hostBridges.map((h) => `${h.domain}:${h.bus}`).join(' '));
});

TEST_F(sysfs, 'numa_nodes_by_local_cpus_where_firmware_names_none', ({ root }) => {
	const host = { length: 4096, vendor: 0x8086, device: 0x2020, class: 0x060000 };
	const files = (local_cpus: string) => ({ numa_node: '-1\n', local_cpus });
	put(root, '0000:00:00.0', { above: 'pci0000:00', ...host, files: files('00ff\n') });
	put(root, '0000:80:00.0', { above: 'pci0000:80', ...host, files: files('ff00\n') });
	const nodes = readSource([root]).description.hostBridges.map(({ numaNode }) => numaNode);
	EXPECT_STREQ('0 1', nodes.join(' '));
});

TEST_F(sysfs, 'virtual_functions_have_their_ids_in_files', ({ root }) => {
	small(root, 4096);
	put(root, '0000:01:00.4', {
		above: 'pci0000:00/0000:00:01.0',
		length: 4096,
		...gpu,
		vendor: 0xffff,
		device: 0xffff,
		files: { vendor: '0x10de\n', device: '0x20b1\n', class: '0x030200\n' },
	});
	symlinkSync(
		'../0000:01:00.0',
		join(root, 'sys/devices/pci0000:00/0000:00:01.0/0000:01:00.4/physfn'),
	);
	const vf = readSource([root]).description.devices[3];
	EXPECT_STREQ('0000:01:00.0', vf?.physfn ?? '');
	EXPECT_EQ(0x20b1, vf?.device ?? 0);
});

TEST_F(sysfs, 'cpu_is_that_of_cpuinfo_beside_it', ({ root }) => {
	small(root, 4096);
	mkdirSync(join(root, 'proc'));
	writeFileSync(
		join(root, 'proc/cpuinfo'),
		'processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: EPYC\n',
	);
	const { description, cpuTold } = readSource([root]);
	EXPECT_TRUE(cpuTold);
	EXPECT_STREQ('amd 25 17', Object.values(description.cpu).join(' '));
	// What the person says goes first.
	const other = readSource([root], { cpu: { vendor: 'intel', family: 6, model: 0 } });
	EXPECT_STREQ('intel', other.description.cpu.vendor);
});

/** An EPYC's, which no other machine of these tests has. */
const epyc = 'processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\n';

TEST_F(sysfs, 'cpu_of_a_copy_is_not_looked_for_where_no_sys_is', ({ root }) => {
	// Four folders above root/a/b/copy/devices is root: a machine that the copy is no part of.
	mkdirSync(join(root, 'proc'));
	writeFileSync(join(root, 'proc/cpuinfo'), epyc);
	const copy = join(root, 'a/b/copy');
	small(copy, 4096, true);
	renameSync(join(copy, 'sys/bus/pci/devices'), join(copy, 'devices'));
	for (const named of [copy, join(copy, 'devices')]) {
		const { cpuTold, description } = readSource([named]);
		EXPECT_FALSE(cpuTold);
		EXPECT_STREQ('intel', description.cpu.vendor);
	}
	writeFileSync(join(copy, 'devices/cpuinfo'), epyc);
	EXPECT_TRUE(readSource([join(copy, 'devices')]).cpuTold);
});

TEST_F(sysfs, 'cpu_beside_the_sys_of_the_folder_that_was_named', ({ root }) => {
	small(root, 4096);
	mkdirSync(join(root, 'proc'));
	writeFileSync(join(root, 'proc/cpuinfo'), epyc);
	const { cpuTold, description } = readSource([join(root, 'sys/bus/pci/devices')]);
	EXPECT_TRUE(cpuTold);
	EXPECT_STREQ('amd', description.cpu.vendor);
});

TEST_F(sysfs, 'cpu_behind_a_link_out_of_the_copy_is_another_machine_s', ({ root }) => {
	small(join(root, 'copy'), 4096);
	mkdirSync(join(root, 'proc'));
	writeFileSync(join(root, 'proc/cpuinfo'), epyc);
	symlinkSync(join(root, 'proc'), join(root, 'copy/proc'));
	EXPECT_FALSE(readSource([join(root, 'copy')]).cpuTold);
});

TEST('cpuinfo_of_a_zhaoxin_cpu', () => {
	// With the blanks that the CPU itself has around its name.
	const cpu = cpuFromCpuinfo('vendor_id\t:   Shanghai  \ncpu family\t: 7\nmodel\t\t: 59\n');
	EXPECT_STREQ('zhaoxin 7 59', Object.values(cpu).join(' '));
});

TEST('cpuinfo_of_an_arm_cpu', () => {
	EXPECT_STREQ('other', cpuFromCpuinfo('processor\t: 0\nCPU implementer\t: 0x41\n').vendor);
});

TEST('parents_in_paths', () => {
	EXPECT_NULL(parentInPath('/sys/devices/pci0000:3a/0000:3a:00.0') ?? null);
	EXPECT_STREQ(
		'0000:3a:00.0',
		parentInPath('/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0') ?? '',
	);
	EXPECT_TRUE(parentInPath('/tmp/copy/0000:3b:00.0') === undefined);
});

TEST_F(sysfs, 'impossible_bars_are_left_out_and_said', ({ root }) => {
	const files = {
		resource: '0x00000000e0000000 0x00000000e0ffffff 0x0000000000040200\n0x00000000e0800000 0x00000000e0ffffff 0x0000000000040200\n',
	};
	put(root, '0000:00:02.0', { above: 'pci0000:00', length: 4096, ...gpu, files });
	const { description, notes } = readSource([root]);
	EXPECT_EQ(1, description.devices[0]?.bars.length ?? 0);
	EXPECT_STREQ(
		'BAR 1 of 0000:00:02.0 is left out: it lies over BAR 0 of 0000:00:02.0',
		notes.join(),
	);
});

TEST_F(sysfs, 'archive_of_a_copy', ({ root }) => {
	small(root, 4096);
	const file = join(root, 'machine.tar.gz');
	spawnSync('tar', ['-czf', file, '-C', root, 'sys']);
	const { description } = readSource([file]);
	EXPECT_STREQ('machine', description.name);
	EXPECT_STREQ('0000:00:01.0', description.devices[2]?.parent ?? '');
	writeFileSync(file, 'no archive');
	EXPECT_STREQ(
		`${file}:1: expected an archive that tar can unpack`,
		refusal(() => readSource([file])),
	);
});

TEST_F(sysfs, 'archive_with_a_colon_in_its_name_is_a_file', ({ root }) => {
	small(root, 4096);
	spawnSync('tar', ['-czf', join(root, 'host.tgz'), '-C', root, 'sys']);
	renameSync(join(root, 'host.tgz'), join(root, 'host:1.tgz'));
	const { code, out, err } = kproto(['topo', 'host:1.tgz'], { cwd: root });
	EXPECT_STREQ('', err);
	EXPECT_EQ(0, code ?? -1);
	EXPECT_TRUE(out.startsWith('host:1: 3 functions'));
});

TEST_F(sysfs, 'archive_where_there_is_no_tar', ({ root }) => {
	small(root, 4096);
	const file = join(root, 'machine.tar.gz');
	spawnSync('tar', ['-czf', file, '-C', root, 'sys']);
	const { code, err } = kproto(['topo', file], { env: { PATH: root } });
	EXPECT_EQ(2, code ?? -1);
	EXPECT_STREQ(
		`kproto topo: ${file}:1: expected the program tar here to unpack it (ENOENT), or the folder that it was made of\n`,
		err,
	);
});

TEST_F(sysfs, 'what_is_missing_is_one_line', ({ root }) => {
	EXPECT_STREQ(
		`${root}:1: expected PCI functions such as 0000:00:00.0 in this folder, or in bus/pci/devices below it`,
		refusal(() => readSource([root])),
	);
	mkdirSync(join(root, 'sys/bus/pci/devices'), { recursive: true });
	symlinkSync(
		'../../../devices/pci0000:00/0000:00:00.0',
		join(root, 'sys/bus/pci/devices/0000:00:00.0'),
	);
	EXPECT_TRUE(
		refusal(() => readSource([root]))?.includes(
			'Documentation/topology.md says how to copy it',
		),
	);
});
