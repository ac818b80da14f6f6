// SPDX-License-Identifier: GPL-2.0-only
/**
 * Routing of memory requests. Goal: the way is the one that config space, IOMMU and platform give, and an
 * address of the wrong kind never finds the right bytes. Method: the standard machine, words written
 * through config space, and bytes that tell where a request ended.
 *
 *     RC0 ─┬─ RP0 01.0 ─ switch ─┬─ DSP0 02:00.0 ─ GPU0 03:00.0
 *          │                     └─ DSP1 02:01.0 ─ NIC0 04:00.0
 *          └─ RP1 02.0 ─ NIC1 05:00.0
 *     RC1 ─┬─ 80:01.0 ─ NIC2 81:00.0
 *          └─ 80:02.0 ─ GPU1 82:00.0
 */
import type { MachineDescription } from '../../../../arch/sim/description.ts';
import { IOMMU_PROT_READ, IOMMU_PROT_WRITE, type Iommu } from '../../../../arch/sim/iommu.ts';
import { type Machine, makeMachine } from '../../../../arch/sim/machine.ts';
import { acsOffset, atsOffset } from '../../../../arch/sim/pcie/config-space.ts';
import type { Bar, BarMemory, PcieFunction } from '../../../../arch/sim/pcie/hierarchy.ts';
import type { Completion } from '../../../../arch/sim/pcie/tlp.ts';
import { world } from '../../../../include/sim/world.ts';
import {
	PCI_ACS_CR,
	PCI_ACS_DT,
	PCI_ACS_EC,
	PCI_ACS_RR,
	PCI_ACS_SV,
	PCI_ACS_TB,
	PCI_ACS_UF,
	PCI_ATS_CTRL,
	PCI_ATS_CTRL_ENABLE,
} from '../../../../include/uapi/linux/pci_regs.ts';
import { boot } from '../../../../init/main.ts';
import { TopologyBuilder } from '../../../../tools/machines/builder.ts';
import { namedMachine } from '../../../../tools/machines/index.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	TEST,
	TEST_F,
} from '../../../kselftest_harness.ts';
import { refusal } from '../refusal.ts';

const RP0 = '0000:00:01.0';
const DSP0 = '0000:02:00.0';
const DSP1 = '0000:02:01.0';
const GPU0 = '0000:03:00.0';
const NIC0 = '0000:04:00.0';
const NIC1 = '0000:05:00.0';
const NIC2 = '0000:81:00.0';
const MARK = Uint8Array.of(0xca, 0xfe, 0xba, 0xbe);

const standard = namedMachine('standard');

class FabricTest {
	machine: Machine = makeMachine(standard);

	at(bdf: string): PcieFunction {
		const fn = this.machine.function(bdf);
		if (fn === undefined) throw new Error(`no ${bdf}`);
		return fn;
	}

	/** The BAR that shows a GPU's memory. */
	get vram(): Bar {
		return this.at(GPU0).bar(1) as Bar;
	}

	/** Write the ACS control word of a port. */
	acs(bdf: string, control: number): void {
		const fn = this.at(bdf);
		fn.writeConfig(acsOffset(fn) + 6, 2, control);
	}

	read(requester: string, address: bigint, translated = false): Completion {
		return this.machine.fabric.read(requester, address, MARK.length, { translated });
	}

	/** Start again with an IOMMU. */
	withIommu(kind: Iommu['kind'] = 'intel'): void {
		this.machine = makeMachine({
			...standard,
			iommu: { kind, domains: 'dma' },
		});
		this.machine.cpuWrite(this.vram.phys, MARK);
	}
}

const fabric = FIXTURE<FabricTest>('fabric', () => new FabricTest());

FIXTURE_SETUP(fabric, (self) => {
	self.machine.cpuWrite(self.vram.phys, MARK);
});

/** The way of a request in short: `emit@… peer@…`. */
function way({ hops }: Completion): string {
	return hops.map(({ at, action }) => `${action}@${at.replace('0000:', '')}`).join(' ');
}

function isMark({ status, data }: Completion): boolean {
	return status === 'SC' && MARK.every((byte, i) => data?.[i] === byte);
}

function lastRule({ hops }: Completion): string {
	return hops[hops.length - 1]?.why ?? '';
}

TEST_F(fabric, 'switch_routes_a_bus_address_to_the_peer', (self) => {
	const got = self.read(NIC0, self.vram.address);
	EXPECT_TRUE(isMark(got));
	EXPECT_STREQ('emit@04:00.0 up@02:01.0 peer@02:01.0 down@02:00.0 claim@03:00.0', way(got));
});

TEST_F(fabric, 'write_reaches_the_peer_too', (self) => {
	const done = self.machine.fabric.write(NIC0, self.vram.address + 4n, MARK);
	EXPECT_STREQ('SC', done.status);
	const into = new Uint8Array(8);
	self.machine.cpuRead(self.vram.phys, into);
	EXPECT_EQ(0xca, into[4] ?? 0);
});

TEST_F(fabric, 'cpu_address_goes_over_the_host_bridge', (self) => {
	const got = self.read(NIC0, self.vram.phys);
	EXPECT_TRUE(isMark(got));
	EXPECT_TRUE(way(got).includes('root@root enter@00 down@00:01.0'));
	EXPECT_TRUE(isMark(self.read(NIC1, self.vram.phys)));
});

TEST_F(fabric, 'bus_address_means_nothing_to_another_root_port', (self) => {
	const got = self.read(NIC1, self.vram.address);
	EXPECT_STREQ('UR', got.status);
	EXPECT_EQ(self.vram.address, got.failedAt ?? 0n);
	EXPECT_STREQ(
		'neither RAM nor a host bridge window is at this physical address',
		lastRule(got),
	);
});

TEST_F(fabric, 'crossing_host_bridges_aborts_where_the_platform_says', (self) => {
	const got = self.read(NIC2, self.vram.phys);
	EXPECT_STREQ('UR', got.status);
	EXPECT_STREQ(
		'peer-to-peer does not cross from host bridge 0000:80 to 0000:00',
		lastRule(got),
	);
	self.machine.fabric.crossHostBridge = 'works';
	EXPECT_TRUE(isMark(self.read(NIC2, self.vram.phys)));
	(self.machine.fabric.hosts[1] as { crossing: string }).crossing = 'aborts';
	EXPECT_STREQ('UR', self.read(NIC2, self.vram.phys).status);
});

TEST_F(fabric, 'host_bridge_without_peer_to_peer_aborts', (self) => {
	(self.machine.fabric.hosts[0] as { peerToPeer: string }).peerToPeer = 'aborts';
	const got = self.read(NIC1, self.vram.phys);
	EXPECT_STREQ('UR', got.status);
	EXPECT_STREQ('host bridge 0000:00 does no peer-to-peer', lastRule(got));
	// RAM and the CPU are not peers.
	EXPECT_STREQ('SC', self.read(NIC1, 0x1000n).status);
	const into = new Uint8Array(4);
	EXPECT_STREQ('SC', self.machine.cpuRead(self.vram.phys, into).status);
});

TEST_F(fabric, 'request_redirect_finds_out_a_bus_address', (self) => {
	self.acs(DSP1, PCI_ACS_RR);
	const got = self.read(NIC0, self.vram.address);
	EXPECT_STREQ('UR', got.status);
	EXPECT_TRUE(way(got).includes('redirect@02:01.0 up@01:00.0 abort@00:01.0'));
	EXPECT_TRUE(isMark(self.read(NIC0, self.vram.phys)));
	self.acs(DSP1, 0);
	EXPECT_TRUE(isMark(self.read(NIC0, self.vram.address)));
});

TEST_F(fabric, 'upstream_forwarding_takes_it_to_the_root', (self) => {
	self.acs(DSP1, PCI_ACS_RR);
	self.acs(RP0, PCI_ACS_UF);
	const got = self.read(NIC0, self.vram.address);
	EXPECT_STREQ('UR', got.status);
	EXPECT_TRUE(way(got).endsWith('up@00:01.0 root@root abort@root'));
});

TEST_F(fabric, 'redirect_at_the_other_port_does_not_touch_requests', (self) => {
	self.acs(DSP0, PCI_ACS_RR);
	EXPECT_TRUE(isMark(self.read(NIC0, self.vram.address)));
});

TEST_F(fabric, 'egress_control_table', (self) => {
	const dsp1 = self.at(DSP1);
	const vector = acsOffset(dsp1) + 8;
	self.acs(DSP1, PCI_ACS_EC | PCI_ACS_RR);
	EXPECT_TRUE(isMark(self.read(NIC0, self.vram.address)));
	dsp1.writeConfig(vector, 4, 1 << 0);
	EXPECT_TRUE(way(self.read(NIC0, self.vram.address)).includes('redirect@02:01.0'));
	self.acs(DSP1, PCI_ACS_EC);
	const got = self.read(NIC0, self.vram.address);
	EXPECT_STREQ('CA', got.status);
	EXPECT_STREQ('ACS egress control forbids this peer', lastRule(got));
	dsp1.writeConfig(vector, 4, 1 << 5);
	EXPECT_TRUE(isMark(self.read(NIC0, self.vram.address)));
});

TEST_F(fabric, 'direct_translated_overrides_redirect_for_translated_requests', (self) => {
	self.acs(DSP1, PCI_ACS_RR | PCI_ACS_DT);
	EXPECT_TRUE(isMark(self.read(NIC0, self.vram.address, true)));
	EXPECT_STREQ('UR', self.read(NIC0, self.vram.address).status);
});

TEST_F(fabric, 'translation_blocking_stops_translated_requests', (self) => {
	self.acs(DSP1, PCI_ACS_TB);
	EXPECT_STREQ('CA', self.read(NIC0, self.vram.address, true).status);
	EXPECT_TRUE(isMark(self.read(NIC0, self.vram.address)));
});

TEST_F(fabric, 'what_a_request_touches_is_in_the_footprint', (self) => {
	const { store } = self.vram.backing as BarMemory;
	boot(self.machine);
	const seen: string[] = [];
	const names = new Map<object, string>([
		[store, 'vram'],
		[self.machine.ram.ranges[0]!.store, 'ram'],
	]);
	world().footprint = {
		touch: (access, object, field, index, count) =>
			seen.push(`${access} ${names.get(object)} ${field} ${index} ${count}`),
	};
	const { fabric: f } = self.machine;
	// By the peer, by the root, by a CPU: all name the memory that holds the bytes.
	f.read(NIC0, self.vram.address + 0x1000n, 4);
	f.write(NIC1, self.vram.phys + 0x2000n, MARK);
	self.machine.cpuRead(self.vram.phys + 0x3000n, new Uint8Array(4));
	f.write(NIC0, 0x4ffen, MARK);
	self.machine.cpuWrite(0x5000n, MARK);
	world().footprint = null;
	EXPECT_STREQ(
		[
			'memory-read vram bytes 1 1',
			'memory-write vram bytes 2 1',
			'memory-read vram bytes 3 1',
			'memory-write ram bytes 4 1',
			'memory-write ram bytes 5 1',
			'memory-write ram bytes 5 1',
		].join(', '),
		seen.join(', '),
	);
	EXPECT_EQ(store, self.machine.placeOf(self.vram.phys)?.object);
	EXPECT_EQ(3, self.machine.placeOf(self.vram.phys + 0x3000n)?.index);
	EXPECT_EQ(null, self.machine.placeOf(0xff_0000_0000_0000n));
});

TEST_F(fabric, 'source_validation_stops_a_false_requester_id', (self) => {
	const lie = { requesterId: 0x0300 };
	EXPECT_STREQ('SC', self.machine.fabric.read(NIC0, 0x1000n, 4, lie).status);
	self.acs(DSP1, PCI_ACS_SV);
	const got = self.machine.fabric.read(NIC0, 0x1000n, 4, lie);
	EXPECT_STREQ('CA', got.status);
	EXPECT_STREQ('ACS source validation: bus 3 is not below this port', lastRule(got));
	EXPECT_STREQ('SC', self.machine.fabric.read(NIC0, 0x1000n, 4).status);
});

TEST_F(fabric, 'completion_redirect_goes_over_the_root', (self) => {
	self.acs(DSP0, PCI_ACS_CR);
	EXPECT_FALSE(isMark(self.read(NIC0, self.vram.address)));
	self.acs(RP0, PCI_ACS_UF);
	const got = self.read(NIC0, self.vram.address);
	EXPECT_TRUE(isMark(got));
	EXPECT_TRUE(way(got).endsWith('completion-redirect@02:00.0'));
	(self.machine.fabric.hosts[0] as { peerToPeer: string }).peerToPeer = 'aborts';
	EXPECT_STREQ('UR', self.read(NIC0, self.vram.address).status);
	// A write has no completion.
	EXPECT_STREQ('SC', self.machine.fabric.write(NIC0, self.vram.address, MARK).status);
});

TEST_F(fabric, 'own_window_without_a_device_is_unsupported', (self) => {
	const own = self.at(NIC0).bar(0) as Bar;
	self.at(NIC0).writeConfig(0x10, 4, 0);
	const got = self.read(NIC0, own.size + self.vram.address + 0x1000_0000n - own.size);
	EXPECT_STREQ('UR', got.status);
	EXPECT_TRUE(way(got).endsWith('abort@02:01.0'));
});

TEST_F(fabric, 'function_reaches_its_own_bar', (self) => {
	EXPECT_TRUE(isMark(self.read(GPU0, self.vram.address)));
});

TEST_F(fabric, 'dma_to_ram_is_identity_without_iommu', (self) => {
	self.machine.cpuWrite(0x12_3ffen, MARK);
	const got = self.read(NIC0, 0x12_3ffen);
	EXPECT_TRUE(isMark(got));
	EXPECT_TRUE(way(got).endsWith('root@root claim@root'));
});

TEST_F(fabric, 'transfer_is_split_at_pages', (self) => {
	const before = self.machine.fabric.requests;
	const done = self.machine.fabric.write(NIC0, 0x1ff0n, new Uint8Array(0x2020).fill(5));
	EXPECT_STREQ('SC', done.status);
	EXPECT_EQ(before + 4, self.machine.fabric.requests);
	const over = self.machine.fabric.read(NIC0, 0x1_7fff_ff00n, 0x200);
	EXPECT_STREQ('UR', over.status);
	EXPECT_EQ(0x1_8000_0000n, over.failedAt ?? 0n);
});

TEST_F(fabric, 'iommu_translates_to_ram_and_to_a_peer', (self) => {
	self.withIommu();
	const { iommu } = self.machine;
	const domain = iommu?.makeDomain();
	if (iommu === null || domain === undefined) throw new Error('no IOMMU');
	iommu.attach(0, self.at(NIC0).requesterId, domain);
	iommu.map(domain, 0xabc000n, self.vram.phys, 0x1000n, IOMMU_PROT_READ);
	iommu.map(domain, 0xabd000n, 0x5000n, 0x1000n, IOMMU_PROT_READ | IOMMU_PROT_WRITE);
	const got = self.read(NIC0, 0xabc000n);
	EXPECT_TRUE(isMark(got));
	EXPECT_TRUE(way(got).includes('root@root translate@root enter@00'));
	EXPECT_STREQ('SC', self.machine.fabric.write(NIC0, 0xabd000n, MARK).status);
	EXPECT_EQ(0xca, self.machine.ram.peek(5)?.u8[0] ?? 0);
	EXPECT_STREQ('UR', self.machine.fabric.write(NIC0, 0xabc000n, MARK).status);
});

TEST_F(fabric, 'iova_of_another_device_faults', (self) => {
	self.withIommu();
	const { iommu } = self.machine;
	const domain = iommu?.makeDomain();
	if (iommu === null || domain === undefined) throw new Error('no IOMMU');
	iommu.attach(0, self.at(NIC0).requesterId, domain);
	iommu.map(domain, 0xabc000n, self.vram.phys, 0x1000n, IOMMU_PROT_READ);
	const got = self.read(NIC1, 0xabc000n);
	EXPECT_STREQ('UR', got.status);
	EXPECT_EQ(1, iommu.faultLog.length);
	EXPECT_STREQ(iommu.faultLog[0]?.text ?? '', lastRule(got));
	// A bus address is peer traffic: the IOMMU never sees it.
	EXPECT_TRUE(isMark(self.read(NIC0, self.vram.address)));
	EXPECT_EQ(1, iommu.faultLog.length);
});

for (const kind of ['intel', 'amd'] as const)
	TEST_F(fabric, `translated_request_needs_ats_at_the_root_${kind}`, (self) => {
		self.withIommu(kind);
		const iommu = self.machine.iommu as Iommu;
		const nic = self.at(NIC0);
		// It has ATS; nobody has turned it on.
		EXPECT_TRUE(nic.ats);
		iommu.attach(0, nic.requesterId, iommu.makeDomain());
		const blocked = self.read(NIC0, self.vram.phys, true);
		EXPECT_STREQ('UR', blocked.status);
		EXPECT_STREQ(
			kind === 'intel'
				? 'DMAR: [DMA Read NO_PASID] Request device [04:00.0] fault addr ' +
						`0x${self.vram.phys.toString(16)} [fault reason 0x0d] ` +
						'PCE for translation request specifies blocking'
				: 'AMD-Vi: Event logged [INVALID_DEVICE_REQUEST device=0000:04:00.0 pasid=0x00000 ' +
						`address=0x${self.vram.phys.toString(16)} flags=0x0000 tag=0x000]`,
			lastRule(blocked),
		);
		nic.writeConfig(atsOffset(nic) + PCI_ATS_CTRL, 2, PCI_ATS_CTRL_ENABLE);
		// An address that the device translated itself is not translated again.
		EXPECT_TRUE(isMark(self.read(NIC0, self.vram.phys, true)));
		EXPECT_EQ(1, iommu.faultLog.length);
		// Without a domain nobody has said that its word is good.
		iommu.attach(0, nic.requesterId, null);
		EXPECT_STREQ('UR', self.read(NIC0, self.vram.phys, true).status);
		EXPECT_EQ(2, iommu.faultLog[1]?.reason);
		// A function without the capability has no control word that could let it.
		const other = self.at(NIC1);
		iommu.attach(0, other.requesterId, iommu.makeDomain());
		other.ats = false;
		EXPECT_EQ(0, atsOffset(other));
		EXPECT_STREQ('UR', self.read(NIC1, self.vram.phys, true).status);
		EXPECT_EQ(0x0d, iommu.faultLog[2]?.reason);
	});

TEST_F(fabric, 'unclaimed_address_inside_a_bridge_window', (self) => {
	// 1 MiB granularity: the window of RP1 is as long as NIC1's BAR; move the BAR away.
	const bar = self.at(NIC1).bar(0) as Bar;
	const host = self.machine.fabric.hosts[0];
	const phys = host?.busToCpu(bar.address) ?? 0n;
	self.at(NIC1).writeConfig(0x14, 4, 0);
	const got = self.read(NIC0, phys);
	EXPECT_STREQ('UR', got.status);
	EXPECT_STREQ('inside the bridge window, but no device claims it', lastRule(got));
	self.at('0000:00:02.0').writeConfig(0x04, 2, 0);
	EXPECT_STREQ('nothing on the root bus claims it', lastRule(self.read(NIC0, phys)));
});

TEST_F(fabric, 'bus_mastering_off', (self) => {
	self.at(NIC0).writeConfig(0x04, 2, 0x2);
	EXPECT_STREQ('bus mastering is off', lastRule(self.read(NIC0, 0x1000n)));
	self.at(NIC0).writeConfig(0x04, 2, 0x6);
	self.at(DSP1).writeConfig(0x04, 2, 0x2);
	EXPECT_STREQ('bus mastering of the bridge is off', lastRule(self.read(NIC0, 0x1000n)));
});

TEST_F(fabric, 'device_model_behind_a_bar', (self) => {
	const seen: string[] = [];
	self.vram.backing = {
		mmio: {
			mmioRead: (offset, into) => void into.fill(Number(offset)),
			mmioWrite: (offset, from) => void seen.push(`${offset}:${from.length}`),
		},
	};
	EXPECT_EQ(9, self.machine.fabric.read(NIC0, self.vram.address + 9n, 2).data?.[1] ?? 0);
	self.machine.fabric.write(NIC0, self.vram.address + 8n, MARK);
	self.machine.cpuWrite(self.vram.phys + 16n, MARK);
	EXPECT_STREQ('8:4 16:4', seen.join(' '));
});

TEST_F(fabric, 'unknown_requester_is_misuse', (self) => {
	EXPECT_STREQ(
		"Fabric.read('0000:77:00.0'): this machine has no such function",
		refusal(() => self.machine.fabric.read('0000:77:00.0', 0n, 4)),
	);
});

/** A machine with a PCIe-to-PCI bridge and a multi-function device. */
function mixedMachine(): MachineDescription {
	const b = new TopologyBuilder('mixed', { vendor: 'intel', family: 6, model: 85 });
	b.set({ iommu: { kind: 'intel', domains: 'dma' } });
	const root = b.hostBridge({ bus: 0 });
	const pci = b.bridge(b.rootPort(root, '01.0'), [0x10b5, 0x8112], '00.0', 7, null);
	for (const at of ['00.0', '01.0']) {
		const card = b.device(pci, [0x1234, 0x11e8], at, { pcieType: -1 });
		b.bar(pci, card, { bar: 0, size: 0x20_0000n, is64: false });
	}
	const port = b.rootPort(root, '02.0');
	for (const at of ['00.0', '00.1']) {
		const fn = b.device(port, [0x1b36, 0x10], at, {
			multifunction: true,
			acs: { cap: 0x7f, control: 0 },
		});
		b.bar(port, fn, { bar: 0, size: 0x20_0000n, is64: true });
	}
	return b.finish();
}

TEST('pci_bridge_puts_its_own_id_into_requests', () => {
	const machine = makeMachine(mixedMachine());
	const { iommu } = machine;
	const domain = iommu?.makeDomain();
	if (iommu === null || domain === undefined) throw new Error('no IOMMU');
	iommu.map(domain, 0n, 0x7000n, 0x1000n, IOMMU_PROT_READ);
	iommu.attach(0, 0x0200, domain);
	EXPECT_STREQ('SC', machine.fabric.read('0000:02:01.0', 0n, 4).status);
	EXPECT_STREQ('SC', machine.fabric.read('0000:02:00.0', 0n, 4).status);
	iommu.attach(0, 0x0200, null);
	iommu.attach(0, 0x0208, domain);
	EXPECT_STREQ('UR', machine.fabric.read('0000:02:01.0', 0n, 4).status);
	// Peers on the conventional bus see each other's addresses.
	const peer = machine.function('0000:02:00.0')?.bar(0)?.address ?? 0n;
	EXPECT_STREQ('SC', machine.fabric.read('0000:02:01.0', peer, 4).status);
});

TEST('functions_of_a_device_reach_each_other_unless_redirected', () => {
	const machine = makeMachine(mixedMachine());
	const [one, other] = ['0000:03:00.0', '0000:03:00.1'].map((bdf) => machine.function(bdf));
	if (one === undefined || other === undefined) throw new Error('no functions');
	const target = other.bar(0)?.address ?? 0n;
	EXPECT_STREQ(
		'emit@03:00.0 peer@03:00.0 claim@03:00.1',
		way(machine.fabric.read(one, target, 4)),
	);
	one.writeConfig(0x106, 2, PCI_ACS_RR);
	EXPECT_TRUE(way(machine.fabric.read(one, target, 4)).includes('redirect@03:00.0'));
	one.writeConfig(0x106, 2, PCI_ACS_EC);
	one.writeConfig(0x108, 4, 1 << 1);
	EXPECT_STREQ('CA', machine.fabric.read(one, target, 4).status);
});
