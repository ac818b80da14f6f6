// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: device-private pages are handed out and taken back without losing one, the P2P window shows
 * what the BAR has and no more, and a GPU that lacks one of these still works. Method: GPUs of
 * several sizes on the standard machine; pages are allocated by hand and by migrations.
 *
 * ```
 *   VRAM     | chunk 0: 512 pages | chunk 1: 512 pages | chunk 2: 3 pages |
 *   window   |<- shown by the BAR ->|
 * ```
 */
import type { MachineDescription } from '../../../../arch/sim/description.ts';
import { allocVramPage, freePage } from '../../../../drivers/gpu/refgpu/dmem.ts';
import { CHUNK_PAGES, chunkOf, vramOffset } from '../../../../drivers/gpu/refgpu/gpu.ts';
import {
	type GpuOptions,
	migrateToVram,
	refgpuProbe,
	refgpuRemove,
	tryRefgpuProbe,
} from '../../../../drivers/gpu/refgpu/index.ts';
import { devicePrivateDmaPfn, vramBar } from '../../../../drivers/gpu/refgpu/p2p.ts';
import type { pci_p2pdma } from '../../../../drivers/pci/p2pdma/objects.ts';
import { EBUSY, EIO, ENODEV, ENOMEM, EOPNOTSUPP } from '../../../../include/linux/errno.ts';
import type { page } from '../../../../include/linux/mm_types.ts';
import { page_folio } from '../../../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../../../include/linux/mmzone.ts';
import {
	is_device_private_page,
	is_pci_p2pdma_page,
	PageLocked,
	page_ref_count,
} from '../../../../include/linux/page-flags.ts';
import { pci_resource_start } from '../../../../include/linux/pci.ts';
import { outParam } from '../../../../include/linux/types.ts';
import { injectFaults } from '../../../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../../../include/sim/feature.ts';
import { HarnessError } from '../../../../include/sim/report.ts';
import { shutdown } from '../../../../init/main.ts';
import { gen_pool_avail } from '../../../../kernel/genalloc.ts';
import { mutex_lock, mutex_unlock } from '../../../../kernel/locking/mutex.ts';
import { run, runThreads, spawn, stepThread } from '../../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../../kernel/sched/strategy.ts';
import { folio_unlock } from '../../../../mm/filemap.ts';
import { put_page } from '../../../../mm/swap.ts';
import { userRead } from '../../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../../kselftest_harness.ts';
import { labelled, PAGE, StandardWorld } from '../../../support/standard.ts';

const MIB = 1n << 20n;

interface Self {
	w: StandardWorld;
}

interface Variant {
	profile: ProfileName;
}

const dmem = FIXTURE<Self, Variant>(
	'refgpu_dmem',
	() => ({ w: null as unknown as StandardWorld }),
	FIXTURE_VARIANT<Variant>({ profile: 'v7.3' }),
);
FIXTURE_VARIANT_ADD(dmem, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(dmem, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(dmem, (self, { profile }) => {
	const proposals = profile === 'v7.3' ? (['p2p_op_dma_dev'] as const) : [];
	self.w = new StandardWorld({ profile, proposals });
});

FIXTURE_TEARDOWN(dmem, ({ w }) => {
	w.close();
});

/** The fixture's world once more, with another GPU. */
function reboot(
	self: Self,
	{ profile }: Variant,
	gpu: GpuOptions,
	machine?: (d: MachineDescription) => void,
): StandardWorld {
	self.w.close();
	ASSERT_EQ(shutdown().length, 0);
	const proposals = profile === 'v7.3' ? (['p2p_op_dma_dev'] as const) : [];
	self.w = new StandardWorld({
		profile,
		proposals,
		gpu,
		...(machine === undefined ? {} : { machine }),
	});
	return self.w;
}

function take(w: StandardWorld): page | null {
	const { engineMutex } = w.gpu0;
	return run(function* () {
		yield* mutex_lock(engineMutex);
		const p = yield* allocVramPage(w.gpu0);
		yield* mutex_unlock(engineMutex);
		return p;
	});
}

function give(p: page): void {
	run(function* () {
		yield* folio_unlock(page_folio(p));
		yield* put_page(p);
	});
}

TEST_F(dmem, 'page_is_handed_out_locked_with_one_reference', ({ w }) => {
	const p = take(w);
	ASSERT_NE(null, p);
	EXPECT_TRUE(is_device_private_page(p));
	EXPECT_TRUE(PageLocked(p));
	EXPECT_EQ(page_ref_count(p), 1);
	EXPECT_EQ(vramOffset(p), 0n);
	EXPECT_EQ(chunkOf(p).callocated, 1);
	EXPECT_EQ(w.gpu0.freePages.length, 0);
	give(p);
	EXPECT_EQ(w.gpu0.chunks[0]!.callocated, 0);
	EXPECT_EQ(w.gpu0.freePages.length, 1);
	EXPECT_EQ(page_ref_count(p), 0);
});

TEST_F(dmem, 'freed_page_is_the_next_one_handed_out', ({ w }) => {
	const first = take(w)!;
	const second = take(w)!;
	EXPECT_EQ(vramOffset(second) - vramOffset(first), PAGE);
	give(first);
	const third = take(w)!;
	EXPECT_TRUE(third === first);
	EXPECT_EQ(w.gpu0.chunks.length, 1);
	give(third);
	give(second);
});

TEST_F(dmem, 'vram_is_exhausted_page_by_page_and_comes_back', (self, variant) => {
	// Two chunks, the second of three pages.
	const w = reboot(self, variant, { vramSize: 2n * MIB + 3n * PAGE });
	const pages: page[] = [];
	for (let p = take(w); p !== null; p = take(w)) pages.push(p);
	EXPECT_EQ(pages.length, CHUNK_PAGES + 3);
	EXPECT_EQ(w.gpu0.chunks.length, 2);
	EXPECT_EQ(w.gpu0.chunks[1]!.callocated, 3);
	// Each page stands for bytes of its own.
	EXPECT_EQ(new Set(pages.map(vramOffset)).size, pages.length);
	EXPECT_NULL(take(w));
	// The driver's own memory cannot be evicted by anybody: migrations take what there is.
	give(pages.pop()!);
	const { address, bytes } = w.mapPages(4);
	EXPECT_EQ(w.toVram(address, 4), 1);
	for (const p of pages) give(p);
	EXPECT_EQ(w.toVram(address, 4), 3);
	EXPECT_TRUE(
		Buffer.compare(bytes, userRead(w.task, address, bytes.length) as Uint8Array) === 0,
	);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 4);
});

TEST_F(dmem, 'chunk_that_cannot_be_made_is_no_page_and_leaves_nothing', ({ w }) => {
	for (const site of [
		'addChunk:chunk',
		'request_free_mem_region',
		'percpu_ref_init',
		'add_pages',
	]) {
		const faults = injectFaults().fail(site, 1);
		EXPECT_NULL(take(w));
		EXPECT_EQ(faults.seen.get(site) ?? 0, 1);
		EXPECT_EQ(w.gpu0.chunks.length, 0);
		EXPECT_EQ(w.gpu0.nextVramPage, 0);
	}
	// A migration that gets no page moves none, and breaks none.
	injectFaults().fail('request_free_mem_region');
	const { address, bytes } = w.mapPages(2);
	EXPECT_EQ(w.toVram(address, 2), 0);
	EXPECT_EQ(Buffer.compare(bytes, userRead(w.task, address, 8192) as Uint8Array), 0);
	injectFaults();
	EXPECT_EQ(w.toVram(address, 2), 2);
});

TEST_F(dmem, 'page_freed_twice_is_reported', ({ w }) => {
	const p = take(w)!;
	give(p);
	expectReport(/a page of a chunk without pages in use is freed/);
	run(() => freePage(p));
	// put right what the second free has broken
	const { gpu0 } = w;
	gpu0.freePages.pop();
	gpu0.chunks[0]!.callocated = 0;
});

TEST_F(dmem, 'unbound_gpu_hands_out_nothing_and_can_be_bound_again', ({ w }) => {
	const { address, bytes } = w.mapPages(2);
	ASSERT_EQ(w.toVram(address, 2), 2);
	EXPECT_EQ(
		run(() => refgpuRemove(w.gpu0)),
		0,
	);
	EXPECT_EQ(w.gpu0.chunks.length, 0);
	EXPECT_NULL(w.gpu0.window);
	EXPECT_NULL(take(w));
	EXPECT_EQ(w.toVram(address, 2), 0);
	const again = run(() => refgpuProbe(w.pdev('GPU0')));
	EXPECT_EQ(w.toVram(address, 2, again), 2);
	EXPECT_EQ(Buffer.compare(bytes, userRead(w.task, address, 8192) as Uint8Array), 0);
	EXPECT_EQ(again.counters.migrateToRam, 2);
	EXPECT_EQ(
		run(() => refgpuRemove(again)),
		0,
	);
});

TEST_F(dmem, 'page_that_somebody_holds_keeps_the_gpu_bound', ({ w }) => {
	const p = take(w)!;
	EXPECT_EQ(
		run(() => refgpuRemove(w.gpu0)),
		-EBUSY,
	);
	EXPECT_TRUE(w.pdev('GPU0').dev.driver_data === w.gpu0);
	EXPECT_NULL(take(w));
	give(p);
	EXPECT_EQ(
		run(() => refgpuRemove(w.gpu0)),
		0,
	);
	EXPECT_NULL(w.pdev('GPU0').dev.driver_data);
});

TEST_F(dmem, 'allocation_without_the_mutex_that_stopping_is_set_under_is_reported', ({ w }) => {
	expectReport(/WARNING/);
	const p = run(() => allocVramPage(w.gpu0));
	give(p!);
});

TEST_F(dmem, 'unload_after_any_step_of_a_migration_leaves_no_chunk', ({ w }) => {
	const { address, bytes } = w.mapPages(2);
	const { mm } = w.task;
	run(() => refgpuRemove(w.gpu0));
	let isRunning = true;
	let moved = 0;
	for (let steps = 1; isRunning; steps++) {
		const gpu = run(() => refgpuProbe(w.pdev('GPU0')));
		const migration = spawn(
			'migration',
			() => migrateToVram(gpu, mm!, address, address + 2n * PAGE),
			{ mm, cpu: 0 },
		);
		for (let i = 0; i < steps && isRunning; i++) isRunning = stepThread(migration);
		let removed = -1;
		let left = -1;
		spawn(
			'unload',
			function* () {
				removed = yield* refgpuRemove(gpu);
				left = gpu.chunks.length + gpu.nextVramPage + gpu.freePages.length;
			},
			{ cpu: 1 },
		);
		runThreads(randomStrategy(steps));
		ASSERT_EQ(removed, 0);
		ASSERT_EQ(left, 0);
		// Nothing comes after it either.
		ASSERT_EQ(gpu.chunks.length, 0);
		ASSERT_EQ(gpu.nextVramPage, 0);
		moved += gpu.counters.pagesToVram;
		ASSERT_EQ(Buffer.compare(bytes, userRead(w.task, address, 8192) as Uint8Array), 0);
	}
	// Some schedules moved pages, and these came back.
	EXPECT_TRUE(moved > 0);
});

// --- the window ---

TEST_F(dmem, 'window_shows_the_start_of_vram_by_p2p_pages', ({ w }, { profile }) => {
	const { gpu0 } = w;
	const { bar, firstPfn, pages } = gpu0.window!;
	EXPECT_EQ(BigInt(firstPfn) << 12n, pci_resource_start(gpu0.pdev, bar));
	const alias = pfn_to_page(BigInt(firstPfn + pages - 1));
	EXPECT_TRUE(is_pci_p2pdma_page(alias));
	EXPECT_EQ(page_ref_count(alias), profile === 'v7.3' ? 0 : 1);
	// The same bytes from both sides.
	gpu0.silicon.vram.write(5n << 12n, new Uint8Array([1, 2, 3, 4]));
	const { status, data } = w.machine.fabric.read(
		w.pdev('NIC1').dev.init_name,
		BigInt(firstPfn + 5) << 12n,
		4,
	);
	EXPECT_EQ(status === 'SC' ? 1 : 0, 1);
	EXPECT_EQ(Buffer.compare(data!, new Uint8Array([1, 2, 3, 4])), 0);
});

TEST_F(dmem, 'op_knows_pages_of_the_window_and_no_others', (self, variant) => {
	const w = reboot(self, variant, { windowSize: 2n * MIB, vramSize: 4n * MIB });
	const pages: page[] = [];
	for (let p = take(w); p !== null; p = take(w)) pages.push(p);
	const pfn = outParam(7n);
	for (const p of pages) {
		pfn.value = 7n;
		const at = Number(vramOffset(p) >> 12n);
		if (at < CHUNK_PAGES) {
			ASSERT_EQ(devicePrivateDmaPfn(p, pfn), 0);
			ASSERT_EQ(pfn.value, BigInt(w.gpu0.window!.firstPfn + at));
		} else {
			// P5: the first page behind the window is outside as well
			ASSERT_EQ(devicePrivateDmaPfn(p, pfn), -EOPNOTSUPP);
			ASSERT_EQ(pfn.value, 7n);
		}
	}
	for (const p of pages) give(p);
});

TEST_F(dmem, 'op_without_a_window_has_no_answer', (self, variant) => {
	const w = reboot(self, variant, { windowSize: 0n });
	EXPECT_NULL(w.gpu0.window);
	const p = take(w)!;
	EXPECT_EQ(devicePrivateDmaPfn(p, outParam(0n)), -EOPNOTSUPP);
	give(p);
});

TEST_F(dmem, 'only_the_proposal_has_the_op', ({ w }, { profile }) => {
	const { pagemapOps } = w.gpu0;
	EXPECT_EQ(pagemapOps.device_private_dma_pfn !== undefined, profile === 'v7.3');
});

TEST_F(dmem, 'gpu_whose_window_cannot_be_made_works_without', (self, variant) => {
	for (const site of [
		'addWindow:window',
		'devm_kzalloc',
		'gen_pool_create',
		'gen_pool_alloc',
		'add_pages',
	]) {
		const { w } = self;
		run(() => refgpuRemove(w.gpu0));
		injectFaults().fail(site);
		const gpu = run(() => refgpuProbe(w.pdev('GPU0')));
		injectFaults();
		EXPECT_NULL(gpu.window);
		// Nobody else may have what this GPU could not reserve.
		const pool = (gpu.pdev.p2pdma as pci_p2pdma | null)?.pool ?? null;
		EXPECT_EQ(pool === null ? 0n : gen_pool_avail(pool), 0n);
		const { address, bytes } = w.mapPages(1);
		EXPECT_EQ(w.toVram(address, 1, gpu), 1);
		EXPECT_EQ(Buffer.compare(bytes, userRead(w.task, address, 4096) as Uint8Array), 0);
		run(() => refgpuRemove(gpu));
		reboot(self, variant, {});
	}
});

TEST_F(dmem, 'window_is_in_units_of_two_mebibytes', (self, variant) => {
	let w = reboot(self, variant, { windowSize: 3n * MIB + PAGE });
	EXPECT_EQ(w.gpu0.window?.pages ?? 0, 512);
	w = reboot(self, variant, { windowSize: 2n * MIB - 1n });
	EXPECT_NULL(w.gpu0.window);
	// A window that is asked to be larger than VRAM ends with it.
	w = reboot(self, variant, { vramSize: 4n * MIB, windowSize: 1n << 40n });
	EXPECT_EQ(w.gpu0.window?.pages ?? 0, 1024);
});

TEST_F(dmem, 'gpu_without_a_bar_works_without_a_window', (self, variant) => {
	const w = reboot(self, variant, {}, (d) => {
		labelled(d, 'GPU0').bars = [];
	});
	EXPECT_EQ(vramBar(w.pdev('GPU0')), -ENODEV);
	EXPECT_NULL(w.gpu0.window);
	EXPECT_EQ(w.gpu0.vramPages, 4096);
	const { address, bytes } = w.mapPages(2);
	EXPECT_EQ(w.toVram(address, 2), 2);
	EXPECT_EQ(Buffer.compare(bytes, userRead(w.task, address, 8192) as Uint8Array), 0);
});

TEST_F(dmem, 'vram_is_behind_the_largest_prefetchable_memory_bar', ({ w }) => {
	const gpu = w.pdev('GPU0');
	const bar = vramBar(gpu);
	const bars = labelled(w.machine.description, 'GPU0').bars.filter(({ io }) => io !== true);
	const prefetchable = bars.filter((one) => one.prefetchable === true);
	const candidates = prefetchable.length > 0 ? prefetchable : bars;
	const largest = candidates.reduce((a, b) => (BigInt(b.size) > BigInt(a.size) ? b : a));
	EXPECT_EQ(bar, largest.bar);
	EXPECT_FALSE(page_to_pfn(pfn_to_page(BigInt(w.gpu0.window!.firstPfn))) === 0n);
});

TEST_F(dmem, 'probe_that_fails_binds_nothing', ({ w }) => {
	const pdev = w.pdev('GPU1');
	const { dev } = pdev;
	injectFaults().fail('refgpuProbe:gpu', 1);
	EXPECT_EQ(
		run(() => tryRefgpuProbe(pdev)),
		-ENOMEM,
	);
	const mask = dev.dma_mask;
	// A device that can't do DMA has no mask to set.
	dev.dma_mask = null;
	EXPECT_EQ(
		run(() => tryRefgpuProbe(pdev)),
		-EIO,
	);
	EXPECT_NULL(dev.driver_data);
	let rule = '';
	try {
		run(() => refgpuProbe(pdev));
	} catch (error) {
		if (error instanceof HarnessError) rule = error.message;
	}
	EXPECT_EQ(rule, `refgpuProbe(): ${dev.init_name} cannot be bound: ${-EIO}`);
	dev.dma_mask = mask;
});

TEST_F(dmem, 'function_that_the_machine_does_not_have_is_a_misuse', ({ w }) => {
	const gpu = w.pdev('GPU0');
	const { dev } = gpu;
	const name = dev.init_name;
	let rule = '';
	dev.init_name = '0000:ff:1f.7';
	try {
		run(() => refgpuProbe(gpu));
	} catch (error) {
		if (error instanceof HarnessError) rule = error.message;
	}
	dev.init_name = name;
	EXPECT_EQ(rule, 'refgpuProbe(): 0000:ff:1f.7 is not a function of the machine');
});
