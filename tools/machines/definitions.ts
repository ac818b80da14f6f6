// SPDX-License-Identifier: GPL-2.0-only
/**
 * The named machines, as built by hand. `generate.ts` writes them out as the JSON files beside it.
 *
 * Guarantee: all offsets between CPU and bus addresses differ from zero, and no bus address is also a CPU
 * address of RAM or of another BAR: an address of the wrong kind ends in Unsupported Request.
 */
import type { MachineDescription } from '../../arch/sim/description.ts';
import { type Slot, TopologyBuilder } from './builder.ts';

const MIB = 0x10_0000n;
const GIB = 0x4000_0000n;

/** SV, RR, CR and UF: what an IOMMU driver asks for. */
const ACS_VIRTUALISATION = 0x1d;

/**
 *     0000:17 ─ 01.0 ─ switch ─ GPU0 NIC0 GPU1 NIC1     socket 0
 *     0000:3a ─ 01.0 ─ switch ─ GPU2 NIC2 GPU3 NIC3
 *     0000:97 ─ 01.0 ─ switch ─ GPU4 NIC4 GPU5 NIC5     socket 1
 *     0000:ba ─ 01.0 ─ switch ─ GPU6 NIC6 GPU7 NIC7
 */
function hgx(name: string, virtualised: boolean): MachineDescription {
	const b = new TopologyBuilder(name, { vendor: 'intel', family: 6, model: 143 });
	const control = virtualised ? ACS_VIRTUALISATION : 0;
	b.switchAcs = { cap: 0x207f, control };
	b.rootAcs = { cap: 0x1f, control };
	b.set({
		comment: virtualised
			? 'The same set up for virtualisation: ACS redirects at every port, VT-d translates.'
			: 'Dual Sapphire Rapids, eight GPUs and eight NICs on four switches without ACS redirect.',
		crossHostBridge: 'works',
		iommu: virtualised ? { kind: 'intel', domains: 'dma' } : null,
	});
	for (const [i, bus] of [0x17, 0x3a, 0x97, 0xba].entries()) {
		const root = b.hostBridge({ bus, numaNode: i >> 1 });
		b.device(root, [0x8086, 0x09a2], '00.0', { class: 0x088000, pcieType: 9 });
		const sw = b.switchBelow(b.rootPort(root, '01.0'));
		for (const n of [2 * i, 2 * i + 1]) {
			b.gpu(b.downstreamPort(sw), `GPU${n}`, 128n * GIB);
			b.nic(b.downstreamPort(sw), `NIC${n}`);
		}
	}
	return b.finish();
}

/**
 *     0000:00 ─ 02.0 GPU0   03.0 NIC0     socket 0     8086:2f00 wants both ends below one host bridge
 *     0000:80 ─ 02.0 GPU1   03.0 NIC1     socket 1
 */
function dualXeon(): MachineDescription {
	const b = new TopologyBuilder('dual-xeon', { vendor: 'intel', family: 6, model: 63 });
	b.rootAcs = { cap: 0x1f, control: 0 };
	b.set({
		comment: 'Dual Xeon E5 v3 without switches; peer requests do not cross the sockets.',
	});
	for (const [i, bus] of [0x00, 0x80].entries()) {
		const root = b.hostBridge({ bus, numaNode: i });
		b.device(root, [0x8086, 0x2f00], '00.0', { class: 0x060000, pcieType: 4 });
		b.gpu(b.rootPort(root, '02.0', [0x8086, 0x2f04]), `GPU${i}`, 16n * GIB);
		b.nic(b.rootPort(root, '03.0', [0x8086, 0x2f08]), `NIC${i}`);
	}
	return b.finish();
}

/**
 *     0000:00 ─ 01.1 GPU0   03.1 NIC0
 *     0000:40 ─ 01.1 GPU1
 *     0000:80 ─ 01.1 NIC1
 *     0000:c0 ─ 01.1 GPU2   03.1 NIC2
 */
function epyc(): MachineDescription {
	const b = new TopologyBuilder('epyc', { vendor: 'amd', family: 0x19, model: 0x11 });
	b.rootAcs = { cap: 0x5f, control: 0 };
	b.set({
		comment: 'AMD EPYC: devices on root ports of four host bridges; the CPU allows all of them.',
		crossHostBridge: 'works',
	});
	const device: Record<number, [string, string][]> = {
		0: [
			['01.1', 'GPU0'],
			['03.1', 'NIC0'],
		],
		64: [['01.1', 'GPU1']],
		128: [['01.1', 'NIC1']],
		192: [
			['01.1', 'GPU2'],
			['03.1', 'NIC2'],
		],
	};
	for (const [i, bus] of [0x00, 0x40, 0x80, 0xc0].entries()) {
		const root = b.hostBridge({ bus, numaNode: i >> 1 });
		b.device(root, [0x1022, 0x14a4], '00.0', { class: 0x060000, pcieType: -1 });
		for (const [at, label] of device[bus] ?? []) {
			const dummy = `${at.slice(0, 2)}.0`;
			b.device(root, [0x1022, 0x149f], dummy, {
				class: 0x060000,
				pcieType: -1,
				multifunction: true,
			});
			const port = b.rootPort(root, at, [0x1022, 0x14ab]);
			if (label.startsWith('GPU')) b.gpu(port, label, 64n * GIB);
			else b.nic(port, label);
		}
	}
	return b.finish();
}

/**
 *     0000:00 ─ 00.0 host bridge 8086:a700, in no list
 *             ├ 01.0 ─ GPU0
 *             └ 1c.0 ─ NIC0
 */
function consumer(): MachineDescription {
	const b = new TopologyBuilder('consumer', { vendor: 'intel', family: 6, model: 183 });
	b.rootAcs = { cap: 0x1f, control: 0 };
	b.set({ comment: 'A desktop board: its root complex aborts peer requests.' });
	const root = b.hostBridge({ bus: 0, peerToPeer: 'aborts' });
	b.device(root, [0x8086, 0xa700], '00.0', { class: 0x060000, pcieType: -1 });
	b.gpu(b.rootPort(root, '01.0', [0x8086, 0xa70d]), 'GPU0', 16n * GIB);
	b.nic(b.rootPort(root, '1c.0', [0x8086, 0x7ab8]), 'NIC0');
	return b.finish();
}

/**
 *     0000:00 ─ 01.0 RP0 ─ switch ─ GPU0 (DSP0)  NIC0 (DSP1)     RC0, 8086:3c00
 *             └ 02.0 RP1 ─ NIC1
 *     0000:80 ─ 01.0 RP2 ─ NIC2                                  RC1, 8086:3c00
 *             └ 02.0 RP3 ─ GPU1 (linked to GPU0 by a fabric of their own)
 */
function standard(): MachineDescription {
	const b = new TopologyBuilder('standard', { vendor: 'intel', family: 6, model: 45 });
	b.switchAcs = { cap: 0x207f, control: 0 };
	b.rootAcs = { cap: 0x207f, control: 0 };
	b.set({ comment: 'Topology of the tests: every kind of path, every port with ACS.' });
	const nic = (slot: Slot, label: string) => b.nic(slot, label);
	const rc0 = b.hostBridge({
		bus: 0,
		numaNode: 0,
		offset: 0x4000_0000_0000n,
		bus64: 0x4000_0000_0000n,
	});
	b.device(rc0, [0x8086, 0x3c00], '00.0', { class: 0x060000, pcieType: 4 });
	const sw = b.switchBelow(b.rootPort(rc0, '01.0', [0x8086, 0x3c02]));
	b.gpu(b.downstreamPort(sw), 'GPU0', 256n * MIB);
	nic(b.downstreamPort(sw), 'NIC0');
	nic(b.rootPort(rc0, '02.0', [0x8086, 0x3c04]), 'NIC1');
	const rc1 = b.hostBridge({
		bus: 0x80,
		numaNode: 1,
		offset: 0x7000_0000_0000n,
		bus64: 0x2000_0000_0000n,
	});
	b.device(rc1, [0x8086, 0x3c00], '00.0', { class: 0x060000, pcieType: 4 });
	nic(b.rootPort(rc1, '01.0', [0x8086, 0x3c02]), 'NIC2');
	b.gpu(b.rootPort(rc1, '02.0', [0x8086, 0x3c04]), 'GPU1', 256n * MIB);
	return b.finish();
}

/**
 *     0000:17 ─ 01.0 ─ switch ────── GPU0 NIC0     has no ACS, so nobody can set a redirect
 *             └ 02.0 ─ switch, ACS ─ GPU1 NIC1     redirects at every port, as an IOMMU asks for
 *     0000:97 ─ 01.0 ─ NIC2                        8086:2f00 wants both ends below one host bridge
 */
function mixed(): MachineDescription {
	const b = new TopologyBuilder('mixed', { vendor: 'intel', family: 6, model: 63 });
	b.rootAcs = { cap: 0x1f, control: 0 };
	b.set({
		comment: 'Two switches, one without ACS, one that redirects; a NIC on the other socket; VT-d.',
		iommu: { kind: 'intel', domains: 'dma' },
	});
	const near = b.hostBridge({ bus: 0x17, numaNode: 0 });
	b.device(near, [0x8086, 0x2f00], '00.0', { class: 0x060000, pcieType: 4 });
	const redirecting = { cap: 0x207f, control: ACS_VIRTUALISATION };
	for (const [i, acs] of [null, redirecting].entries()) {
		b.switchAcs = acs;
		const sw = b.switchBelow(b.rootPort(near, `0${i + 1}.0`, [0x8086, 0x2f04]));
		b.gpu(b.downstreamPort(sw), `GPU${i}`, 16n * GIB);
		b.nic(b.downstreamPort(sw), `NIC${i}`);
	}
	const far = b.hostBridge({ bus: 0x97, numaNode: 1 });
	b.device(far, [0x8086, 0x2f00], '00.0', { class: 0x060000, pcieType: 4 });
	b.nic(b.rootPort(far, '01.0', [0x8086, 0x2f08]), 'NIC2');
	return b.finish();
}

/** The named machines in the order in which they are shown. */
export function buildNamedMachines(): MachineDescription[] {
	return [
		hgx('hgx-8x8', false),
		hgx('hgx-8x8-acs', true),
		dualXeon(),
		epyc(),
		consumer(),
		mixed(),
		standard(),
	];
}
