// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: memory behind another fabric than PCIe is judged and addressed by its provider, pair by
 * pair, and a link that goes down is given up before it is lost. Method: GPU0 and GPU1 of the
 * standard machine with links between them; what an address is worth is seen by the bytes that come.
 *
 * ```
 *   RC0 ─┬─ RP0 ── SW ─┬─ GPU0 ═══════ link ═══════╗
 *        │             └─ NIC0                     ║       SOC0: no PCI device
 *        └─ RP1 ── NIC1                            ║
 *   RC1 ─┬─ RP ── NIC2                             ║
 *        └─ RP ── GPU1 ════════════════════════════╝
 * ```
 */

import { FrameStore } from '../../../arch/sim/memory.ts';
import type { XlinkPort } from '../../../arch/sim/xlink.ts';
import { CoherentMemory } from '../../../drivers/fabric/coherent.ts';
import { Xlink } from '../../../drivers/fabric/xlink.ts';
import { drm_pagemap_acquire_owner } from '../../../drivers/gpu/drm/drm_pagemap_util.ts';
import { vramOffset } from '../../../drivers/gpu/refgpu/gpu.ts';
import { type RefGpu, refgpuProbe, refgpuRemove } from '../../../drivers/gpu/refgpu/index.ts';
import { pcim_p2pdma_provider } from '../../../drivers/pci/p2pdma/provider.ts';
import {
	p2pdma_add_pages,
	p2pdma_attach,
	p2pdma_detach,
	p2pdma_ops,
	p2pdma_read_begin,
	p2pdma_read_retry,
	reachability,
} from '../../../drivers/pci/p2pdma/provider_ops.ts';
import { drm_pagemap_owner_list, drm_pagemap_peer } from '../../../include/drm/drm_pagemap_util.ts';
import { device } from '../../../include/linux/device.ts';
import { EOPNOTSUPP } from '../../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_VALID,
	hmm_pfn_to_page,
	hmm_pfn_to_phys,
} from '../../../include/linux/hmm.ts';
import { hmm_dma_map } from '../../../include/linux/hmm-dma.ts';
import type { dev_pagemap_ops, range } from '../../../include/linux/memremap.ts';
import { is_device_private_page, is_pci_p2pdma_page } from '../../../include/linux/page-flags.ts';
import {
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_NONE,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
	p2pdma_bus_addr,
	type p2pdma_provider,
	type p2pdma_user,
	pci_p2pdma_map_state,
} from '../../../include/linux/pci-p2pdma.ts';
import { mutex } from '../../../include/linux/spinlock.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { boot } from '../../../init/main.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { release_mem_region, request_free_mem_region } from '../../../kernel/resource.ts';
import { run } from '../../../kernel/sched/core.ts';
import {
	hmm_dma_map_alloc,
	hmm_dma_map_free,
	hmm_dma_map_pfn,
	hmm_dma_unmap_pfn,
} from '../../../mm/hmm_dma.ts';
import {
	ASSERT_EQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { PAGE, StandardWorld, standardMachine } from '../../support/standard.ts';

const PAGES = 4;
const FAULT = HMM_PFN_REQ_FAULT;

interface Self {
	w: StandardWorld;
	gpu1: RefGpu;
	fabric: Xlink;
	/** Pages of the process that are in GPU0's memory, and their bytes. */
	address: bigint;
	bytes: Uint8Array;
	/** Physical addresses taken for pages of the fabric. */
	region: range | null;
}

const xlink = FIXTURE<Self>('xlink', () => ({
	w: null as unknown as StandardWorld,
	gpu1: null as unknown as RefGpu,
	fabric: new Xlink(),
	address: 0n,
	bytes: new Uint8Array(),
	region: null,
}));
FIXTURE_SETUP(xlink, (self) => {
	self.w = new StandardWorld({ proposals: ['p2p_op_dma_dev', 'fabric_provider'] });
	const { gpu0 } = self.w;
	self.gpu1 = run(() => refgpuProbe(self.w.pdev('GPU1')));
	self.fabric = new Xlink();
	self.fabric.join(gpu0.pdev.dev, gpu0.silicon.vram);
	self.fabric.join(self.gpu1.pdev.dev, self.gpu1.silicon.vram);
});
FIXTURE_TEARDOWN(xlink, (self) => {
	self.w.close();
	run(() => refgpuRemove(self.gpu1));
	if (self.region !== null)
		release_mem_region(self.region.start, self.region.end - self.region.start + 1n);
});

/** Devices by name, as clients. */
function client({ w }: Self, name: string): device {
	return name === 'SOC0' ? w.soc0 : w.pdev(name).dev;
}

/** Have pages of the process in GPU0's memory. */
function toGpu0(self: Self): void {
	const { address, bytes } = self.w.mapPages(PAGES, 7);
	ASSERT_EQ(PAGES, self.w.toVram(address, PAGES));
	self.address = address;
	self.bytes = bytes;
}

/** Pages that the fabric alone reaches, for all of GPU0's memory; its op leads to them. */
function fabricPages(self: Self): p2pdma_provider {
	const { gpu0 } = self.w;
	const region = request_free_mem_region(gpu0.silicon.vram.size);
	ASSERT_TRUE(typeof region !== 'number');
	self.region = region as range;
	const { start } = self.region;
	const provider = self.fabric.xlinkProvider(gpu0.pdev.dev, start);
	const pagemap = run(() => p2pdma_add_pages(gpu0.pdev.dev, provider, region as range));
	ASSERT_TRUE(typeof pagemap !== 'number');
	const op: dev_pagemap_ops['device_private_dma_pfn'] = (p, pfn) => {
		pfn.value = (start + vramOffset(p)) >> 12n;
		return 0;
	};
	for (const { pagemap: chunk } of gpu0.chunks)
		chunk.ops = { ...chunk.ops, device_private_dma_pfn: op } as dev_pagemap_ops;
	return provider;
}

/** Provider of the BAR that shows GPU0's memory. */
function barProvider({ w }: Self): p2pdma_provider {
	return pcim_p2pdma_provider(w.gpu0.pdev, w.gpu0.window!.bar) as p2pdma_provider;
}

function linkUp({ fabric, w }: Self, from: string, to: string): void {
	run(() => fabric.linkUp(w.pdev(from).dev, w.pdev(to).dev));
}

function kindOf(word: bigint): string {
	if (!(word & HMM_PFN_VALID)) return '-';
	const p = hmm_pfn_to_page(word);
	if (is_pci_p2pdma_page(p)) return 'alias';
	return is_device_private_page(p) ? 'private' : 'ram';
}

function kinds(words: BigUint64Array): string {
	return [...new Set([...words].map(kindOf))].join(' ');
}

/** What a port reads at addresses, page by page. */
function readPages(port: XlinkPort, addresses: readonly bigint[]): Uint8Array {
	const bytes = new Uint8Array(addresses.length * 4096);
	for (const [i, address] of addresses.entries())
		EXPECT_STREQ('OK', port.read(address, bytes.subarray(4096 * i, 4096 * (i + 1))));
	return bytes;
}

/** Bytes as text, for comparing. */
function text(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString('hex');
}

/** A mirror of a process's pages in a device that goes by a provider. */
class Mirror implements p2pdma_user {
	readonly dev: device;
	lock = new mutex('mirror');
	addresses: bigint[] = [];
	/** What its device reads at its first address when it is told to stop. */
	lastWords: string[] = [];
	private readonly port: XlinkPort;

	constructor(dev: device, port: XlinkPort) {
		this.dev = dev;
		this.port = port;
	}

	*invalidate(): Sim<void> {
		yield* mutex_lock(this.lock);
		if (this.addresses.length > 0)
			this.lastWords.push(this.port.read(this.addresses[0]!, new Uint8Array(8)));
		this.addresses = [];
		yield* mutex_unlock(this.lock);
	}
}

TEST_F(xlink, 'F2_same_owner_gives_private_pages_and_the_fabric_translates', (self) => {
	const { w, gpu1, fabric } = self;
	linkUp(self, 'GPU1', 'GPU0');
	linkUp(self, 'GPU0', 'GPU1');
	const list = new drm_pagemap_owner_list();
	const linked = (a: drm_pagemap_peer, b: drm_pagemap_peer): boolean =>
		fabric
			.port((a.private_ as RefGpu).pdev.dev)
			.up.has(fabric.port((b.private_ as RefGpu).pdev.dev));
	for (const gpu of [w.gpu0, gpu1]) {
		const peer = new drm_pagemap_peer({ private_: gpu });
		ASSERT_EQ(
			0,
			run(() => drm_pagemap_acquire_owner(peer, list, linked)),
		);
		gpu.owner = peer.owner as object;
	}
	EXPECT_EQ(w.gpu0.owner, gpu1.owner);
	toGpu0(self);

	const { ret, pfns } = w.rangeFault(self.address, PAGES, {
		dev_private_owner: gpu1.owner,
		dma_dev: gpu1.pdev.dev,
		default_flags: FAULT,
	});
	ASSERT_EQ(0, ret);
	EXPECT_STREQ('private', kinds(pfns));
	EXPECT_EQ(0, w.gpu0.counters.opCalls);
	EXPECT_EQ(0, w.gpu0.counters.migrateToRam);
	const from = fabric.port(gpu1.pdev.dev);
	const to = fabric.port(w.gpu0.pdev.dev);
	const addresses = [...pfns].map((word) =>
		from.address(to, vramOffset(hmm_pfn_to_page(word))),
	);
	EXPECT_STREQ(text(self.bytes), text(readPages(from, addresses as bigint[])));
});

TEST_F(xlink, 'F2_fault_of_no_device_is_served_by_the_gpu_that_has_the_page', (self) => {
	const { w, gpu1 } = self;
	const owner = {};
	w.gpu0.owner = owner;
	gpu1.owner = owner;
	toGpu0(self);
	// A CPU access brings it back by the copy engine of the GPU that has it.
	const { address } = self;
	const { ret, pfns } = w.rangeFault(address, PAGES, { default_flags: FAULT });
	ASSERT_EQ(0, ret);
	EXPECT_STREQ('ram', kinds(pfns));
	EXPECT_EQ(PAGES, w.gpu0.counters.migrateToRam);
	EXPECT_EQ(0, gpu1.counters.migrateToRam);
});

TEST_F(xlink, 'F26_linked_gpu_is_accepted_and_a_nic_is_refused', (self) => {
	const { w, gpu1, fabric } = self;
	toGpu0(self);
	const provider = fabricPages(self);
	linkUp(self, 'GPU1', 'GPU0');

	const { ret, pfns } = w.rangeFault(self.address, PAGES, {
		dma_dev: gpu1.pdev.dev,
		default_flags: FAULT,
	});
	ASSERT_EQ(0, ret);
	EXPECT_STREQ('alias', kinds(pfns));
	EXPECT_EQ(0, w.gpu0.counters.migrateToRam);
	const addresses = [...pfns].map(
		(word) => p2pdma_bus_addr(provider, hmm_pfn_to_phys(word), gpu1.pdev.dev) as bigint,
	);
	const port = fabric.port(gpu1.pdev.dev);
	EXPECT_STREQ(text(self.bytes), text(readPages(port, addresses)));

	// A NIC below the same switch is on PCIe: its pages, and no others, go to system memory.
	const nic = w.rangeFault(self.address, 1, {
		dma_dev: client(self, 'NIC0'),
		default_flags: FAULT,
	});
	ASSERT_EQ(0, nic.ret);
	EXPECT_STREQ('ram', kinds(nic.pfns));
	EXPECT_EQ(1, w.gpu0.counters.migrateToRam);
});

TEST_F(xlink, 'F26_hmm_dma_map_gives_the_address_of_the_pair', (self) => {
	const { w, gpu1, fabric } = self;
	toGpu0(self);
	const provider = fabricPages(self);
	linkUp(self, 'GPU1', 'GPU0');
	const port = fabric.port(gpu1.pdev.dev);
	const { ret, pfns } = w.rangeFault(self.address, PAGES, {
		dma_dev: gpu1.pdev.dev,
		default_flags: FAULT,
	});
	ASSERT_EQ(0, ret);
	const map = new hmm_dma_map();
	ASSERT_EQ(0, hmm_dma_map_alloc(gpu1.pdev.dev, map, BigInt(PAGES), PAGE));
	map.pfn_list!.set(pfns);
	const state = new pci_p2pdma_map_state();
	for (let i = 0; i < PAGES; i++) {
		const at = hmm_dma_map_pfn(gpu1.pdev.dev, map, BigInt(i), state) as bigint;
		const phys = hmm_pfn_to_phys(pfns[i]!);
		EXPECT_EQ(p2pdma_bus_addr(provider, phys, gpu1.pdev.dev), at);
		const want = self.bytes.slice(4096 * i, 4096 * (i + 1));
		EXPECT_STREQ(text(want), text(readPages(port, [at])));
		EXPECT_EQ(
			HMM_PFN_P2PDMA_BUS | HMM_PFN_DMA_MAPPED,
			map.pfn_list![i]! & (HMM_PFN_P2PDMA_BUS | HMM_PFN_DMA_MAPPED),
		);
		EXPECT_TRUE(hmm_dma_unmap_pfn(gpu1.pdev.dev, map, BigInt(i)));
	}
	hmm_dma_map_free(gpu1.pdev.dev, map);
});

TEST_F(xlink, 'F26_link_down_invalidates_then_fails_then_migrates', (self) => {
	const { w, gpu1, fabric } = self;
	toGpu0(self);
	const provider = fabricPages(self);
	linkUp(self, 'GPU1', 'GPU0');
	const { dev } = gpu1.pdev;
	const port = fabric.port(dev);
	const mirror = new Mirror(dev, port);
	const other = new Mirror(client(self, 'NIC0'), port);
	for (const user of [mirror, other])
		ASSERT_EQ(
			0,
			run(() => p2pdma_attach(provider, user)),
		);
	const seq = p2pdma_read_begin(provider);
	const { ret, pfns } = w.rangeFault(self.address, PAGES, {
		dma_dev: dev,
		default_flags: FAULT,
	});
	ASSERT_EQ(0, ret);
	EXPECT_FALSE(p2pdma_read_retry(provider, seq));
	mirror.addresses = [...pfns].map(
		(word) => p2pdma_bus_addr(provider, hmm_pfn_to_phys(word), dev) as bigint,
	);
	const [first = 0n] = mirror.addresses;

	run(() => fabric.linkDown(dev, w.gpu0.pdev.dev));
	// Told once, while the link still carried what was under way; the client without one was not.
	EXPECT_STREQ('OK', mirror.lastWords.join(' '));
	EXPECT_EQ(0, mirror.addresses.length);
	EXPECT_EQ(0, other.lastWords.length);
	EXPECT_TRUE(p2pdma_read_retry(provider, seq));
	EXPECT_STREQ('LINK-DOWN', port.read(first, new Uint8Array(8)));

	const again = w.rangeFault(self.address, PAGES, { dma_dev: dev, default_flags: FAULT });
	ASSERT_EQ(0, again.ret);
	EXPECT_STREQ('ram', kinds(again.pfns));
	EXPECT_EQ(PAGES, w.gpu0.counters.migrateToRam);

	// Up again, and in GPU0's memory again: reached again.
	linkUp(self, 'GPU1', 'GPU0');
	ASSERT_EQ(PAGES, w.toVram(self.address, PAGES));
	const back = w.rangeFault(self.address, PAGES, { dma_dev: dev, default_flags: FAULT });
	ASSERT_EQ(0, back.ret);
	EXPECT_STREQ('alias', kinds(back.pfns));
	for (const user of [mirror, other]) run(() => p2pdma_detach(provider, user));
	run(() => fabric.linkDown(dev, w.gpu0.pdev.dev, true));
	EXPECT_EQ(1, mirror.lastWords.length);
});

TEST_F(xlink, 'F26_broken_link_fails_before_anybody_is_told', (self) => {
	const { w, gpu1, fabric } = self;
	toGpu0(self);
	const provider = fabricPages(self);
	linkUp(self, 'GPU1', 'GPU0');
	const { dev } = gpu1.pdev;
	const mirror = new Mirror(dev, fabric.port(dev));
	run(() => p2pdma_attach(provider, mirror));
	mirror.addresses = [p2pdma_bus_addr(provider, self.region!.start, dev) as bigint];
	run(() => fabric.linkDown(dev, w.gpu0.pdev.dev, true));
	EXPECT_STREQ('LINK-DOWN', mirror.lastWords.join(' '));
	run(() => p2pdma_detach(provider, mirror));
});

TEST_F(xlink, 'F26_state_of_a_mapping_loop_hears_of_it', (self) => {
	const { w, gpu1, fabric } = self;
	toGpu0(self);
	fabricPages(self);
	linkUp(self, 'GPU1', 'GPU0');
	const { dev } = gpu1.pdev;
	const { ret, pfns } = w.rangeFault(self.address, PAGES, {
		dma_dev: dev,
		default_flags: FAULT,
	});
	ASSERT_EQ(0, ret);
	const map = new hmm_dma_map();
	ASSERT_EQ(0, hmm_dma_map_alloc(dev, map, BigInt(PAGES), PAGE));
	map.pfn_list!.set(pfns);
	const state = new pci_p2pdma_map_state();
	EXPECT_NE((1n << 64n) - 1n, hmm_dma_map_pfn(dev, map, 0n, state));
	run(() => fabric.linkDown(dev, w.gpu0.pdev.dev));
	// The same state, the same provider: not the old answer.
	EXPECT_EQ((1n << 64n) - 1n, hmm_dma_map_pfn(dev, map, 1n, state));
	hmm_dma_unmap_pfn(dev, map, 0n);
	hmm_dma_map_free(dev, map);
});

TEST_F(xlink, 'F14_bar_with_links_has_a_way_for_each_client', (self) => {
	const { w, fabric } = self;
	toGpu0(self);
	const start = BigInt(w.gpu0.window!.firstPfn) << 12n;
	const provider = barProvider(self);
	EXPECT_STREQ('pci', p2pdma_ops(provider).name);
	const names = ['GPU0', 'GPU1', 'NIC0', 'NIC2', 'SOC0'];
	const clients = names.map((name) => client(self, name));
	const before = reachability([provider], clients)[0]!;
	EXPECT_EQ(PCI_P2PDMA_MAP_BUS_ADDR, before[2]);
	fabric.addLinks(provider, start);
	EXPECT_STREQ('xlink', p2pdma_ops(provider).name);
	// No link yet: as PCI says.
	EXPECT_STREQ(before.join(' '), reachability([provider], clients)[0]!.join(' '));
	linkUp(self, 'GPU1', 'GPU0');
	const after = reachability([provider], clients)[0]!;
	EXPECT_EQ(PCI_P2PDMA_MAP_BUS_ADDR, after[1]);
	EXPECT_STREQ(before.toSpliced(1, 1).join(' '), after.toSpliced(1, 1).join(' '));

	// One page, two clients, two addresses, the same bytes.
	const { ret, pfns } = w.rangeFault(self.address, 1, {
		dma_dev: client(self, 'GPU1'),
		default_flags: FAULT,
	});
	ASSERT_EQ(0, ret);
	const phys = hmm_pfn_to_phys(pfns[0]!);
	const byLink = p2pdma_bus_addr(provider, phys, client(self, 'GPU1')) as bigint;
	const byBus = p2pdma_bus_addr(provider, phys, client(self, 'NIC0')) as bigint;
	EXPECT_NE(byLink, byBus);
	const port = fabric.port(client(self, 'GPU1'));
	const want = text(self.bytes.slice(0, 4096));
	EXPECT_STREQ(want, text(readPages(port, [byLink])));
	const { bdf } = w.machine.function(w.pdev('NIC0').dev.init_name)!;
	EXPECT_STREQ(want, text(w.machine.fabric.read(bdf, byBus, 4096).data!));
});

TEST_F(xlink, 'F14_matrix_of_five_devices_is_not_symmetric', (self) => {
	const { w, gpu1, fabric } = self;
	toGpu0(self);
	const { gpu0 } = w;
	const soc = new FrameStore(1n << 21n);
	fabric.join(w.soc0, soc);
	const memory = new CoherentMemory(new device({ init_name: 'mem0' }), 1n << 44n, 1n << 21n);
	ASSERT_EQ(
		0,
		run(() => memory.probe()),
	);
	const providers = [
		fabric.addLinks(barProvider(self), BigInt(gpu0.window!.firstPfn) << 12n),
		fabric.xlinkProvider(gpu1.pdev.dev, 0n),
		fabric.xlinkProvider(w.soc0, 0n),
		memory.provider,
	];
	run(function* () {
		// GPU1 reads GPU0 and not the other way; SOC0 and GPU0 read each other; GPU1 -> SOC0 is missing.
		yield* fabric.linkUp(gpu1.pdev.dev, gpu0.pdev.dev);
		yield* fabric.linkUp(w.soc0, gpu0.pdev.dev);
		yield* fabric.linkUp(gpu0.pdev.dev, w.soc0);
	});
	const letters = new Map<number, string>([
		[PCI_P2PDMA_MAP_NONE, 'R'],
		[PCI_P2PDMA_MAP_NOT_SUPPORTED, '.'],
		[PCI_P2PDMA_MAP_BUS_ADDR, 'B'],
		[PCI_P2PDMA_MAP_THRU_HOST_BRIDGE, 'H'],
	]);
	const names = ['GPU0', 'GPU1', 'SOC0', 'NIC0', 'NIC2'];
	const clients = names.map((name) => client(self, name));
	const matrix = (): string =>
		reachability(providers, clients)
			.map((row) => row.map((type) => letters.get(type)).join(''))
			.join(' ');
	//           columns as above     GPU0   GPU1   SOC0   coherent memory
	EXPECT_STREQ('BBBB. ..... B.... RRRRR', matrix());
	run(() => fabric.linkDown(w.soc0, gpu0.pdev.dev));
	// SOC0 is no PCI device: without its link nothing is left. The other way it stays.
	EXPECT_STREQ('BB.B. ..... B.... RRRRR', matrix());
	run(() => memory.setOnline(false));
	EXPECT_STREQ('BB.B. ..... B.... .....', matrix());
	run(() => memory.remove());
});

TEST_F(xlink, 'F14_chain_of_two_links_is_said_pair_by_pair', () => {
	// A - B and B - C are linked, A - C is not: what owner groups cannot express.
	const fabric = new Xlink();
	const [a, b, c] = ['A', 'B', 'C'].map((init_name) => new device({ init_name })) as [
		device,
		device,
		device,
	];
	const devs = [a, b, c];
	const stores = devs.map(() => new FrameStore(1n << 21n));
	for (const [i, dev] of devs.entries()) fabric.join(dev, stores[i]!);
	const providers = devs.map((dev) => fabric.xlinkProvider(dev, 0n));
	run(function* () {
		for (const [x, y] of [
			[a, b],
			[b, c],
		] as const) {
			yield* fabric.linkUp(x, y);
			yield* fabric.linkUp(y, x);
		}
	});
	const reached = reachability(providers, devs).map((row) =>
		row.map((type) => (type === PCI_P2PDMA_MAP_BUS_ADDR ? 1 : 0)).join(''),
	);
	EXPECT_STREQ('010 101 010', reached.join(' '));
	// And both ends of the chain reach the same byte of B's memory, which nobody else has.
	const forA = p2pdma_bus_addr(providers[1]!, 0n, a) as bigint;
	const forC = p2pdma_bus_addr(providers[1]!, 0n, c) as bigint;
	EXPECT_STREQ('OK', fabric.port(c).write(forC, new Uint8Array([42])));
	const held = stores.map((store) => {
		const byte = new Uint8Array(1);
		store.read(0n, byte);
		return byte[0];
	});
	EXPECT_STREQ('0 42 0', held.join(' '));
	const byte = new Uint8Array(1);
	EXPECT_STREQ('OK', fabric.port(a).read(forA, byte));
	EXPECT_EQ(42, byte[0]);
	// What B may do does not make a way from A to C.
	EXPECT_STREQ('NO-APERTURE', fabric.port(a).read(forA + (1n << 40n), byte));
});

TEST('without_the_switch_there_are_no_such_pages', () => {
	boot(standardMachine());
	const gpu = new device({ init_name: 'gpu' });
	const fabric = new Xlink();
	fabric.join(gpu, null);
	const r = { start: 1n << 44n, end: (1n << 44n) + (1n << 21n) - 1n };
	const provider = fabric.xlinkProvider(gpu, r.start);
	EXPECT_EQ(
		-EOPNOTSUPP,
		run(() => p2pdma_add_pages(gpu, provider, r)),
	);
});
