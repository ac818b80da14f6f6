// SPDX-License-Identifier: GPL-2.0-only
/**
 * lstopo XML, NCCL XML, dumps of rdma_topo. Goal: the tree is read, what these can't tell is unknown and said,
 * what is wrong with a file is one line. Method: small files written for it.
 */
import { deflateSync } from 'node:zlib';
import { parseSource } from '../../../tools/topology/source.ts';
import { refusal } from '../../arch/sim/refusal.ts';
import { EXPECT_EQ, EXPECT_STREQ, EXPECT_TRUE, TEST } from '../../kselftest_harness.ts';
import { type ConfigOptions, configBytes } from './config_bytes.ts';

const read = (text: string) => parseSource([{ text, file: 'm' }]);
const complaint = (text: string) => refusal(() => read(text));
const tree = (text: string) =>
	read(text)
		.description.devices.map((d) =>
			`${d.bdf} ${d.pcieType} ${d.parent} ${d.label ?? ''}`.trim(),
		)
		.join('\n');

const hwloc = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" nodeset="0x00000003">
    <info name="Architecture" value="x86_64"/>
    <object type="Package" nodeset="0x00000001">
      <info name="CPUVendor" value="AuthenticAMD"/>
      <info name="CPUFamilyNumber" value="25"/>
      <info name="CPUModelNumber" value="1"/>
      <object type="NUMANode" os_index="0" nodeset="0x00000001"/>
      <object type="Bridge" bridge_type="0-1" bridge_pci="0000:[00-02]">
        <object type="Bridge" bridge_type="1-1" bridge_pci="0000:[01-02]" pci_busid="0000:00:01.0" pci_type="0604 [1022:1483] [0000:0000] 00 00">
          <object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0302 [10de:20b0] [10de:1450] a1 00">
            <object type="OSDev" name="card0" osdev_type="1"/>
            <object type="OSDev" name="cuda0" osdev_type="5"/>
          </object>
        </object>
      </object>
    </object>
    <object type="Package" nodeset="0x00000002">
      <object type="Bridge" bridge_type="0-1" bridge_pci="0000:[80-81]">
        <object type="Bridge" bridge_type="1-1" bridge_pci="0000:[81-81]" pci_busid="0000:80:01.0" pci_type="0604 [1022:1483] [0000:0000] 00 00">
          <object type="PCIDev" pci_busid="0000:81:00.0" pci_type="0207 [15b3:1017] [15b3:0008] 00 00">
            <object type="OSDev" name="mlx5_0" osdev_type="3"/>
          </object>
        </object>
      </object>
    </object>
  </object>
</topology>
`;

TEST('lstopo_xml_gives_tree_nodes_and_cpu_and_no_acs', () => {
	const { description: d, kind, cpuTold, notes } = read(hwloc);
	EXPECT_STREQ('lstopo XML (hwloc)', kind);
	EXPECT_STREQ(
		'0000:00:01.0 4 null\n0000:01:00.0 0 0000:00:01.0 card0\n0000:80:01.0 4 null\n0000:81:00.0 0 0000:80:01.0 mlx5_0',
		tree(hwloc),
	);
	EXPECT_TRUE(cpuTold);
	EXPECT_STREQ('amd 25 1', Object.values(d.cpu).join(' '));
	EXPECT_STREQ('0 1', d.hostBridges.map(({ numaNode }) => numaNode).join(' '));
	EXPECT_TRUE(d.hostBridges.every(({ unknown }) => unknown === true));
	EXPECT_TRUE(d.devices.every(({ unknown, acs }) => unknown === true && acs === null));
	EXPECT_TRUE(notes[0]?.includes('knows no ACS') === true);
});

TEST('lstopo_xml_that_puts_a_function_twice', () => {
	const twice = hwloc.replace('pci_busid="0000:81:00.0"', 'pci_busid="0000:01:00.0"');
	const { description: d, notes } = read(twice);
	EXPECT_STREQ('0000:81:00.0 0000:01:00.0', `${d.devices[3]?.bdf} ${d.devices[3]?.label}`);
	EXPECT_TRUE(notes.some((note) => note.startsWith('0000:01:00.0 stands twice in the file')));
});

TEST('lstopo_xml_of_an_arm_machine', () => {
	EXPECT_STREQ('other', read(hwloc.replace('x86_64', 'aarch64')).description.cpu.vendor);
});

TEST('lstopo_xml_that_is_wrong', () => {
	const line = (piece: string) => hwloc.slice(0, hwloc.indexOf(piece)).split('\n').length;
	EXPECT_STREQ(
		`m:${line('0302 [10de')}: expected class and ids such as pci_type="0302 [10de:1094] [00de:0088] a1 00"`,
		complaint(hwloc.replace('0302 [10de:20b0]', '0302 [GPU]')),
	);
	EXPECT_STREQ(
		`m:${line('[01-02]')}: expected the buses of a bridge such as bridge_pci="0000:[03-05]"`,
		complaint(hwloc.replace('0000:[01-02]', '1-2')),
	);
	EXPECT_STREQ(
		'm:3: expected PCI objects: lstopo writes them unless it is told --no-io',
		complaint(
			hwloc
				.replace(
					/ *<object type="(?:Bridge|PCIDev|OSDev)"[^>]*>\n| {8,12}<\/object>\n/g,
					'',
				)
				.replace(
					/(<object type="NUMANode"[^/]*\/>\n)[\s\S]*$/,
					'$1</object></object></topology>',
				),
		),
	);
	EXPECT_TRUE(complaint(hwloc.slice(0, 900))?.endsWith('expected well-formed XML') === true);
	EXPECT_STREQ(
		'm:1: expected an element "topology" (lstopo) or "system" (NCCL), not "html"',
		complaint('<html></html>'),
	);
});

const nccl = `<system version="1">
  <cpu numaid="0" arch="x86_64" vendor="AuthenticAMD" familyid="175" modelid="1">
    <pci busid="ffff:ff:01.0" class="0x060400" link_width="16">
      <pci busid="0001:00:00.0" class="0x030200" vendor="0x10de" device="0x20b0"><gpu dev="0"/></pci>
      <pci busid="0101:00:00.0" class="0x020700"><nic/></pci>
    </pci>
    <nic><net name="eth0"/></nic>
  </cpu>
  <cpu numaid="1" arch="x86_64" vendor="AuthenticAMD" familyid="175" modelid="1">
    <pci busid="0002:00:00.0" class="0x030200"/>
  </cpu>
</system>
`;

TEST('nccl_xml_gives_a_tree_with_addresses_made_up', () => {
	const { description: d, kind } = read(nccl);
	EXPECT_STREQ('NCCL topology XML', kind);
	EXPECT_STREQ(
		[
			'0000:00:01.0 4 null',
			'0000:01:00.0 5 0000:00:01.0 ffff:ff:01.0',
			'0000:02:00.0 6 0000:01:00.0',
			'0000:02:01.0 6 0000:01:00.0',
			'0000:03:00.0 0 0000:02:00.0 0001:00:00.0',
			'0000:04:00.0 0 0000:02:01.0 0101:00:00.0',
			'0001:00:01.0 4 null',
			'0001:01:00.0 0 0001:00:01.0 0002:00:00.0',
		].join('\n'),
		tree(nccl),
	);
	// NCCL writes base and extended family as one number.
	EXPECT_STREQ('amd 25 1', Object.values(d.cpu).join(' '));
	EXPECT_EQ(0x10de, d.devices[4]?.vendor ?? 0);
	EXPECT_TRUE(d.hostBridges.every(({ unknown }) => unknown === true));
});

TEST('nccl_xml_that_is_wrong', () => {
	EXPECT_STREQ(
		'm:4: expected an address such as busid="0001:00:00.0"',
		complaint(nccl.replace('busid="0001:00:00.0"', 'busid="GPU"')),
	);
	EXPECT_STREQ(
		'm:5: expected a class such as class="0x030200"',
		complaint(nccl.replace('class="0x020700"', '')),
	);
	EXPECT_STREQ(
		'm:1: expected elements pci within elements cpu',
		complaint('<system version="1"><cpu numaid="0"/></system>'),
	);
	const many = Array.from(
		{ length: 32 },
		() => '<pci busid="0001:00:00.0" class="0x030200"/>',
	);
	EXPECT_STREQ(
		'm:1: expected at most 31 elements pci within another',
		complaint(`<system><cpu>${many.join('')}</cpu></system>`),
	);
});

function element(path: string, options: ConfigOptions, more: object = {}): object {
	const hex8 = (n: number) => n.toString(16).toUpperCase().padStart(8, '0');
	return {
		realpath: `/sys/devices/${path}`,
		config: deflateSync(configBytes(options)).toString('base64'),
		modalias: `pci:v${hex8(options.vendor)}d${hex8(options.device)}sv00000000sd00000000bc00sc00i00`,
		numa_node: 0,
		iommu_group: 7,
		...more,
	};
}

const acs = { cap: 0x5f, control: 0x1d };
const dumped = [
	element('pci0002:00/0002:00:00.0', {
		vendor: 0x10de,
		device: 0x22b1,
		class: 0x060400,
		type: 4,
		buses: [1, 1],
		acs,
	}),
	element(
		'pci0002:00/0002:00:00.0/0002:01:00.0',
		{ vendor: 0x15b3, device: 0x1023, class: 0x020700, type: 0 },
		{ subsystems: { net: ['eth0'], infiniband: ['mlx5_0'] } },
	),
];
const dump = JSON.stringify(dumped, null, 4);

TEST('rdma_topo_dump_gives_tree_and_acs', () => {
	const { description: d, kind } = read(dump);
	EXPECT_STREQ('rdma_topo dump', kind);
	EXPECT_STREQ('0002:00:00.0 4 null\n0002:01:00.0 0 0002:00:00.0 mlx5_0', tree(dump));
	EXPECT_EQ(0x1d, d.devices[0]?.acs?.control ?? 0);
	EXPECT_TRUE(d.devices.every(({ unknown }) => unknown === undefined));
	// The root port is 00.0: it speaks for its host bridge.
	EXPECT_TRUE(d.hostBridges[0]?.unknown === undefined);
	EXPECT_EQ(0, d.hostBridges[0]?.numaNode ?? -1);
	const hidden = read(dump.replaceAll('0002:00:00.0', '0002:00:01.0')).description;
	EXPECT_TRUE(hidden.hostBridges[0]?.unknown === true);
});

TEST('rdma_topo_dump_that_is_wrong', () => {
	const spoil = (change: object) =>
		JSON.stringify([dumped[0], { ...dumped[1], ...change }], null, 4);
	EXPECT_STREQ(
		'm:1: expected a list of functions, as `rdma_topo dump` writes it',
		complaint('[]'),
	);
	EXPECT_STREQ(
		'm:11: expected a configuration space, as base64 of zlib',
		complaint(spoil({ config: 'eJz' })),
	);
	EXPECT_STREQ(
		'm:10: expected a path that ends in an address such as 0000:3b:00.0',
		complaint(spoil({ realpath: '/sys/x' })),
	);
	const bomb = deflateSync(Buffer.alloc(1 << 20)).toString('base64');
	EXPECT_STREQ(
		'm:11: expected a configuration space, as base64 of zlib',
		complaint(spoil({ config: bomb })),
	);
	EXPECT_STREQ(
		'm:9: expected 0002:00:00.0 only once',
		complaint(JSON.stringify([dumped[0], dumped[0]], null, 4)),
	);
	EXPECT_TRUE(complaint(dump.slice(0, 200))?.includes('the file is cut off') === true);
});
