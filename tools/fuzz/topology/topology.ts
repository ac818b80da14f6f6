// SPDX-License-Identifier: GPL-2.0-only
/**
 * Mutated topologies: text and bytes of lspci, and every other kind of file.
 *
 * Guarantee: each gives a machine, on which a kernel boots and answers, or one line with file, line and
 * expectation. Anything else, or more than a second, is a failure with the seed that repeats it.
 * Method: what is here is valid and small; a case is one of these with some mutations, by a seed of its own.
 */

import { performance } from 'node:perf_hooks';
import { deflateSync } from 'node:zlib';
import { hex } from '../../../arch/sim/description.ts';
import { verdicts } from '../../topo/unknown.ts';
import { TopologyError } from '../../topology/error.ts';
import { parseSource } from '../../topology/source.ts';
import { Chance, mutateBytes, mutateText } from './mutate.ts';

/** How many cases of each outcome, and what failed. */
export interface FuzzResult {
	readonly machines: number;
	readonly lines: number;
	/** `seed 17: TypeError: …` */
	readonly failures: string[];
	/** Of the slowest case. */
	readonly slowestMs: number;
}

const SLOW_MS = 1000;
/** A kernel is booted on one machine in so many. */
const BOOT_EVERY = 16;
const ASKED = 6;

const control = '\tControl: I/O- Mem+ BusMaster+ SpecCycle-\n';
const acs = `\tCapabilities: [110 v1] Access Control Services
\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
`;

/** A host bridge, a switch with a GPU and a NIC, and a conventional bus, as lspci -vvv -nn shows it. */
const text = `00:00.0 Host bridge [0600]: Intel Corporation Sky Lake-E [8086:2020] (rev 04)
${control}\tNUMA node: 0

00:01.0 PCI bridge [0604]: Intel Corporation Port [8086:2030] (prog-if 00 [Normal decode])
${control}\tBus: primary=00, secondary=01, subordinate=04, sec-latency=0
\tMemory behind bridge: e0000000-e1ffffff [size=32M]
\tCapabilities: [90] Express (v2) Root Port (Slot+), MSI 00
\t\tLnkSta:\tSpeed 8GT/s, Width x16
\t\t\tTrErr- Train- SlotClk+ DLActive+ BWMgmt+ ABWMgmt-
\t\tSltSta:\tStatus: AttnBtn- PowerFlt- MRL- CmdCplt- PresDet+ Interlock-
${acs}
00:1e.0 PCI bridge [0604]: Intel Corporation 82801 PCI Bridge [8086:244e] (prog-if 01 [Subtractive decode])
${control}\tBus: primary=00, secondary=05, subordinate=05, sec-latency=32

01:00.0 PCI bridge [0604]: PLX Technology PEX 8747 [10b5:8747] (prog-if 00 [Normal decode])
${control}\tBus: primary=01, secondary=02, subordinate=04, sec-latency=0
\tCapabilities: [68] Express (v2) Upstream Port, MSI 00

02:08.0 PCI bridge [0604]: PLX Technology PEX 8747 [10b5:8747] (prog-if 00 [Normal decode])
${control}\tBus: primary=02, secondary=03, subordinate=03, sec-latency=0
\tCapabilities: [68] Express (v2) Downstream Port (Slot-), MSI 00
${acs}
02:10.0 PCI bridge [0604]: PLX Technology PEX 8747 [10b5:8747] (prog-if 00 [Normal decode])
${control}\tBus: primary=02, secondary=04, subordinate=04, sec-latency=0
\tCapabilities: <access denied>

03:00.0 3D controller [0302]: NVIDIA Corporation GA100 [10de:20b0] (rev a1)
${control}\tRegion 0: Memory at e0000000 (32-bit, non-prefetchable) [size=16M]
\tRegion 1: Memory at 6000000000 (64-bit, prefetchable) [size=64G]
\tRegion 5: I/O ports at 2000 [size=128]
\tIOMMU group: 12
\tCapabilities: [60] Express (v2) Endpoint, MSI 00

04:00.0 Infiniband controller [0207]: Mellanox Technologies MT27800 [15b3:1017]
${control}\tRegion 0: Memory at 7000000000 (64-bit, prefetchable) [size=32M]
\tCapabilities: [60] Express (v2) Endpoint, MSI 00

05:03.0 VGA compatible controller [0300]: Matrox MGA G200 [102b:0532]
${control}\tRegion 0: Memory at e2000000 (32-bit, prefetchable) [size=16M]

`;

/** Bytes of a function with PCI Express and ACS, of which mutations make all else. */
function functionBytes(bridge: boolean, classCode: number, buses: [number, number]): Uint8Array {
	const bytes = new Uint8Array(4096);
	const view = new DataView(bytes.buffer);
	bytes.set([0x86, 0x80, 0x30, 0x20, 0x07, 0x05, 0x10, 0x00]);
	view.setUint32(8, classCode << 8, true);
	bytes[0x0e] = bridge ? 1 : 0;
	if (bridge) bytes.set([0, ...buses], 0x18);
	bytes[0x34] = 0x40;
	bytes.set([0x01, 0x60, 0x03, 0x00], 0x40);
	bytes.set([0x10, 0x00, bridge ? 0x42 : 0x02, 0x00], 0x60);
	view.setUint32(0x100, 0x1401_0001, true);
	view.setUint32(0x140, 0x0001_000d, true);
	bytes.set([0x1f, 0x00, 0x1d, 0x00], 0x144);
	return bytes;
}

function rows(bytes: Uint8Array): string {
	const lines: string[] = [];
	for (let at = 0; at < bytes.length; at += 16) {
		const row = [...bytes.subarray(at, at + 16)].map((b) => hex(b, 2));
		lines.push(`${hex(at, 2)}: ${row.join(' ')}`);
	}
	return lines.join('\n');
}

const functions: readonly (readonly [string, Uint8Array])[] = [
	['00:01.0 0604: 8086:2030', functionBytes(true, 0x060400, [1, 1])],
	['01:00.0 0302: 10de:20b0', functionBytes(false, 0x030200, [0, 0])],
];

/** Dumps of mutated bytes: 4096 of them, or what a user sees. */
function dump(chance: Chance): string {
	const length = chance.of([64, 256, 256, 4096]);
	return functions
		.map(([title, bytes]) => {
			const changed = chance.below(4) === 0 ? bytes : mutateBytes(bytes, chance);
			return `${title}\n${rows(changed.subarray(0, length))}\n\n`;
		})
		.join('');
}

const sysfsPath = '/sys/devices/pci0000:00/0000:00:01.0';

/** A dump of rdma_topo with mutated bytes. */
function rdmaTopo(chance: Chance): string {
	const element = (realpath: string, bytes: Uint8Array) => ({
		realpath,
		config: deflateSync(mutateBytes(bytes, chance), { level: 1 }).toString('base64'),
		modalias: 'pci:v000015B3d00001021sv0sd0bc02sc07i00',
		numa_node: 0,
	});
	const [port, endpoint] = functions as [
		readonly [string, Uint8Array],
		readonly [string, Uint8Array],
	];
	return JSON.stringify(
		[element(sysfsPath, port[1]), element(`${sysfsPath}/0000:01:00.0`, endpoint[1])],
		null,
		2,
	);
}

const hwloc = `<?xml version="1.0"?>
<topology version="2.0">
 <object type="Machine" nodeset="0x1">
  <object type="Bridge" bridge_type="0-1" bridge_pci="0000:[00-02]">
   <object type="Bridge" bridge_type="1-1" bridge_pci="0000:[01-02]" pci_busid="0000:00:01.0" pci_type="0604 [8086:2030] [0000:0000] 00 00">
    <object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0302 [10de:20b0] [0000:0000] a1 00">
     <object type="OSDev" name="cuda0" osdev_type="5"/>
    </object>
   </object>
  </object>
 </object>
</topology>
`;
const nccl = `<system version="1">
 <cpu numaid="0" vendor="AuthenticAMD" familyid="175" modelid="1">
  <pci busid="ffff:ff:01.0" class="0x060400">
   <pci busid="0001:00:00.0" class="0x030200"/>
   <pci busid="0101:00:00.0" class="0x020700"/>
  </pci>
 </cpu>
</system>
`;

/** What a case is made of. */
function makeCase(chance: Chance): string {
	const kind = chance.below(16);
	if (kind < 8) return mutateText(text, chance, dump(chance));
	if (kind < 11) return dump(chance);
	if (kind < 12) return mutateText(dump(chance), chance, text);
	if (kind < 13) return `${text}${dump(chance)}`;
	if (kind < 14) return rdmaTopo(chance);
	return mutateText(kind === 14 ? hwloc : nccl, chance, text);
}

const oneLine = /^[^\n]+:\d+: expected [^\n]+$/;

/** Boot what was read, and ask. */
function tryKernel(machine: Parameters<typeof verdicts>[0]['machine']): void {
	const some = machine.devices.slice(0, ASKED).map(({ bdf }) => bdf);
	for (const { may } of verdicts({ machine, kernel: 'v7.3', pci: [] }, some, some).flat())
		if (may.length === 0) throw new Error('a pair without a verdict');
}

/**
 * Run cases.
 *
 * @param count - how many
 * @param seed - of the first
 */
export function fuzzTopology(count: number, seed: number): FuzzResult {
	let [machines, lines, slowestMs] = [0, 0, 0];
	const failures: string[] = [];
	for (let i = 0; i < count; i++) {
		const input = makeCase(new Chance(seed + i));
		const began = performance.now();
		try {
			const { description } = parseSource([{ text: input, file: 'f' }]);
			if (machines++ % BOOT_EVERY === 0) tryKernel(description);
		} catch (error) {
			lines++;
			if (!(error instanceof TopologyError) || !oneLine.test(error.message))
				failures.push(`seed ${seed + i}: ${String(error)}`);
		}
		const took = performance.now() - began;
		if (took > SLOW_MS) failures.push(`seed ${seed + i}: took ${Math.round(took)} ms`);
		slowestMs = Math.max(slowestMs, took);
	}
	return { machines, lines, failures, slowestMs };
}
