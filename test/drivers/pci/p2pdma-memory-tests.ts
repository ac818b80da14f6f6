// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: providers and P2P memory come, are handed out and go as in the kernel, with its errors.
 * Method: GPU0's 1 GiB BAR of the standard machine under both releases; faults injected.
 */

import { device_driver_attach, device_release_driver } from '../../../drivers/base/dd.ts';
import { devres_release_all } from '../../../drivers/base/devres.ts';
import {
	pci_p2pdma_enable_show,
	pci_p2pdma_enable_store,
} from '../../../drivers/pci/p2pdma/enable.ts';
import {
	pci_has_p2pmem,
	pci_p2pmem_find,
	pci_p2pmem_find_many,
	pci_p2pmem_publish,
} from '../../../drivers/pci/p2pdma/find.ts';
import { pci_p2pdma_add_resource } from '../../../drivers/pci/p2pdma/memory.ts';
import {
	pci_alloc_p2pmem,
	pci_free_p2pmem,
	pci_p2pmem_alloc_sgl,
	pci_p2pmem_free_sgl,
	pci_p2pmem_virt_to_bus,
} from '../../../drivers/pci/p2pdma/p2pmem.ts';
import { pcim_p2pdma_init, pcim_p2pdma_provider } from '../../../drivers/pci/p2pdma/provider.ts';
import { p2pmemAttribute } from '../../../drivers/pci/p2pdma/sysfs.ts';
import { pciShutdownCheck } from '../../../drivers/pci/shutdown.ts';
import { PAGE_OFFSET, page_to_virt, virt_to_page } from '../../../include/asm/page.ts';
import { EBUSY, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP } from '../../../include/linux/errno.ts';
import { pfn_to_page, pfn_valid } from '../../../include/linux/mmzone.ts';
import { page_pgmap, page_ref_count, set_page_count } from '../../../include/linux/page-flags.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import { randomSource } from '../../../include/linux/random.ts';
import { sg_page } from '../../../include/linux/scatterlist.ts';
import { outParam } from '../../../include/linux/types.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { KernelOops } from '../../../include/sim/report.ts';
import { feature, world } from '../../../include/sim/world.ts';
import { put_page } from '../../../mm/swap.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NE,
	EXPECT_NULL,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { switchOn } from '../../support/switch_on.ts';
import { bootPci, dev, gpuBar, standardMachine } from './machines.ts';

const MiB2 = 0x20_0000n;

const mem = FIXTURE('p2pmem', () => ({}), FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }));
FIXTURE_VARIANT_ADD(mem, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(mem, 'v7_3', { profile: 'v7.3' });
FIXTURE_SETUP(mem, (_self, { profile }) => {
	bootPci(standardMachine(), profile);
});
FIXTURE_TEARDOWN(mem, function* () {
	for (const name of ['GPU0', 'NIC0', 'NIC1', 'NIC2'] as const)
		yield* devres_release_all(dev(name).dev);
});

TEST_F(mem, 'register_refuses_what_is_not_in_a_memory_bar', function* () {
	const gpu = dev('GPU0');
	const { bar, size } = gpuBar;
	EXPECT_EQ(-EINVAL, yield* pci_p2pdma_add_resource(gpu, 0, 0n, 0n));
	EXPECT_EQ(-EINVAL, yield* pci_p2pdma_add_resource(gpu, bar, 0n, size));
	EXPECT_EQ(-EINVAL, yield* pci_p2pdma_add_resource(gpu, bar, size, MiB2));
	EXPECT_EQ(-EINVAL, yield* pci_p2pdma_add_resource(gpu, bar, (1n << 64n) - 1n, 0n));
	EXPECT_NULL(gpu.p2pdma);
});

TEST_F(mem, 'register_refuses_what_is_not_made_of_2_MiB_units', function* () {
	const gpu = dev('GPU0');
	expectReport(/Misaligned add_pages start/);
	EXPECT_EQ(-EINVAL, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, 0x10_0000n, 0n));
	EXPECT_EQ(-EINVAL, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0x10_0000n));
	EXPECT_FALSE(pfn_valid(gpuBar.phys >> 12n));
});

TEST_F(mem, 'registered_memory_has_pages_and_a_pool_of_bus_addresses', function* () {
	const gpu = dev('GPU0');
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, 0n, MiB2));
	EXPECT_EQ(
		`pci 0000:03:00.0: added peer-to-peer DMA memory 0x800000200000-0x80003fffffff`,
		world().log.at(-1),
	);
	EXPECT_FALSE(pfn_valid(gpuBar.phys >> 12n));
	EXPECT_TRUE(pfn_valid((gpuBar.phys + MiB2) >> 12n));
	const addr = pci_alloc_p2pmem(gpu, 5000n);
	ASSERT_NE(null, addr);
	EXPECT_EQ(PAGE_OFFSET + gpuBar.phys + MiB2, addr);
	EXPECT_EQ(gpuBar.bus + MiB2, pci_p2pmem_virt_to_bus(gpu, addr));
	EXPECT_EQ(`${gpuBar.size - MiB2}\n`, p2pmemAttribute(gpu, 'size'));
	EXPECT_EQ(`${gpuBar.size - MiB2 - 8192n}\n`, p2pmemAttribute(gpu, 'available'));
	pci_free_p2pmem(gpu, addr, 5000n);
	EXPECT_EQ(`${gpuBar.size - MiB2}\n`, p2pmemAttribute(gpu, 'available'));
	EXPECT_EQ('0\n', p2pmemAttribute(gpu, 'published'));
	EXPECT_NULL(p2pmemAttribute(gpu, 'allocate'));
	yield* device_release_driver(gpu.dev);
	yield* devres_release_all(gpu.dev);
	EXPECT_NULL(p2pmemAttribute(gpu, 'size'));
	EXPECT_FALSE(pfn_valid((gpuBar.phys + MiB2) >> 12n));
});

TEST_F(mem, 'two_ranges_of_a_bar_share_the_pool', function* () {
	const gpu = dev('GPU0');
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 4n * MiB2));
	EXPECT_EQ(`${2n * MiB2}\n`, p2pmemAttribute(gpu, 'size'));
	const a = pci_alloc_p2pmem(gpu, MiB2);
	const b = pci_alloc_p2pmem(gpu, MiB2);
	ASSERT_NE(null, a);
	ASSERT_NE(null, b);
	EXPECT_NE(a, b);
	EXPECT_NULL(pci_alloc_p2pmem(gpu, 4096n));
	pci_free_p2pmem(gpu, a, MiB2);
	pci_free_p2pmem(gpu, b, MiB2);
});

const failingSites = [
	'devm_kzalloc',
	'gen_pool_create',
	'sysfs_create_group',
	'devm_add_action',
	'gen_pool_add_owner',
];

TEST_F(mem, 'every_failure_of_register_leaves_no_page', function* () {
	for (const site of failingSites) {
		injectFaults().fail(site, 1);
		const gpu = dev('GPU0');
		EXPECT_EQ(-ENOMEM, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
		EXPECT_FALSE(pfn_valid(gpuBar.phys >> 12n));
		injectFaults();
		// Nothing that was left is in the way.
		EXPECT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
		EXPECT_EQ(`${MiB2}\n`, p2pmemAttribute(gpu, 'size'));
		yield* devres_release_all(gpu.dev);
		EXPECT_NULL(gpu.p2pdma);
	}
	for (const nth of [2, 3]) {
		injectFaults().fail('devm_add_action', nth);
		const gpu = dev('GPU0');
		EXPECT_EQ(-ENOMEM, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
		EXPECT_FALSE(pfn_valid(gpuBar.phys >> 12n));
		yield* devres_release_all(gpu.dev);
	}
});

TEST_F(mem, 'allocation_is_refused_without_memory_and_on_demand', function* () {
	const gpu = dev('GPU0');
	EXPECT_NULL(pci_alloc_p2pmem(gpu, 4096n));
	EXPECT_EQ(0n, pci_p2pmem_virt_to_bus(gpu, null));
	EXPECT_EQ(0n, pci_p2pmem_virt_to_bus(gpu, 4096n));
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
	EXPECT_NULL(pci_alloc_p2pmem(gpu, 2n * MiB2));
	injectFaults().fail('pci_alloc_p2pmem', 1);
	EXPECT_NULL(pci_alloc_p2pmem(gpu, 4096n));
});

TEST_F(mem, 'last_put_of_a_page_gives_its_space_and_its_reference_back', function* () {
	const gpu = dev('GPU0');
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
	const addr = pci_alloc_p2pmem(gpu, 4096n);
	ASSERT_NE(null, addr);
	const p = virt_to_page(addr);
	const idle = feature('zone_device_zero_refcount') ? 0 : 1;
	EXPECT_EQ(idle, page_ref_count(p));
	set_page_count(p, 1);
	yield* put_page(p);
	EXPECT_EQ(idle, page_ref_count(p));
	EXPECT_EQ(`${MiB2}\n`, p2pmemAttribute(gpu, 'available'));
	// Unbinding would wait for the reference if it were still held.
	yield* devres_release_all(gpu.dev);
	EXPECT_FALSE(pfn_valid(gpuBar.phys >> 12n));
});

TEST_F(mem, 'dying_pagemap_hands_nothing_out_and_gets_its_space_back', function* () {
	const gpu = dev('GPU0');
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
	const ref = page_pgmap(pfn_to_page(gpuBar.phys >> 12n)).ref!;
	const { dying } = ref;
	ref.dying = true;
	EXPECT_NULL(pci_alloc_p2pmem(gpu, 4096n));
	ref.dying = dying;
	EXPECT_EQ(`${MiB2}\n`, p2pmemAttribute(gpu, 'available'));
});

TEST_F(mem, 'sgl_is_one_entry_of_p2p_memory', function* () {
	const gpu = dev('GPU0');
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
	const nents = outParam(0);
	const sgl = pci_p2pmem_alloc_sgl(gpu, nents, 0x3000);
	ASSERT_NE(null, sgl);
	EXPECT_EQ(1, nents.value);
	EXPECT_EQ(0x3000, sgl.length);
	EXPECT_EQ(PAGE_OFFSET + gpuBar.phys, page_to_virt(sg_page(sgl)!));
	pci_p2pmem_free_sgl(gpu, sgl);
	EXPECT_EQ(`${MiB2}\n`, p2pmemAttribute(gpu, 'available'));
	EXPECT_NULL(pci_p2pmem_alloc_sgl(gpu, nents, 0x40_0000));
	injectFaults().fail('kzalloc', 1);
	EXPECT_NULL(pci_p2pmem_alloc_sgl(gpu, nents, 0x1000));
});

TEST_F(mem, 'nearest_published_memory_is_found', function* () {
	const gpu = dev('GPU0');
	EXPECT_NULL(pci_p2pmem_find(dev('NIC0').dev));
	for (const name of ['GPU0', 'NIC0', 'NIC1'] as const) {
		const bar = name === 'GPU0' ? gpuBar.bar : 0;
		ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev(name), bar, MiB2, 0n));
	}
	EXPECT_NULL(pci_p2pmem_find(dev('NIC0').dev));
	pci_p2pmem_publish(gpu, true);
	pci_p2pmem_publish(dev('NIC1'), true);
	EXPECT_TRUE(pci_has_p2pmem(gpu));
	EXPECT_EQ('1\n', p2pmemAttribute(gpu, 'published'));
	EXPECT_EQ(gpu, pci_p2pmem_find(dev('NIC0').dev));
	EXPECT_EQ(dev('NIC1'), pci_p2pmem_find(dev('NIC1').dev));
	pci_p2pmem_publish(gpu, false);
	EXPECT_EQ(dev('NIC1'), pci_p2pmem_find(dev('NIC0').dev));
	EXPECT_NULL(pci_p2pmem_find(dev('NIC2').dev));
	EXPECT_NULL(pci_p2pmem_find_many([], 0));
	injectFaults().fail('kmalloc', 1);
	EXPECT_NULL(pci_p2pmem_find(dev('NIC0').dev));
	pci_p2pmem_publish(dev('NIC2'), true);
	EXPECT_FALSE(pci_has_p2pmem(dev('NIC2')));
});

TEST_F(mem, 'one_of_equally_near_memories_is_drawn', function* () {
	for (const name of ['GPU0', 'NIC0'] as const) {
		const bar = name === 'GPU0' ? gpuBar.bar : 0;
		ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev(name), bar, MiB2, 0n));
		pci_p2pmem_publish(dev(name), true);
	}
	const asked: number[] = [];
	const found: (pci_dev | null)[] = [];
	for (const draw of [0, 1]) {
		randomSource().below = (ceil) => {
			asked.push(ceil);
			return draw;
		};
		found.push(pci_p2pmem_find(dev('NIC1').dev));
	}
	EXPECT_EQ('2,2', asked.join());
	EXPECT_EQ(dev('GPU0'), found[0]);
	EXPECT_EQ(dev('NIC0'), found[1]);
	randomSource().below = null;
	const drawn = new Set<pci_dev | null>();
	for (let i = 0; i < 64; i++) drawn.add(pci_p2pmem_find(dev('NIC1').dev));
	EXPECT_EQ(2, drawn.size);
});

TEST_F(mem, 'attribute_names_no_any_or_one_memory', function* () {
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, MiB2, 0n));
	const p2p = outParam<pci_dev | null>(null);
	const use = outParam(false);
	const store = (text: string) => pci_p2pdma_enable_store(text, p2p, use);
	EXPECT_EQ(-ENODEV, store('0000:03:00.0\n'));
	EXPECT_TRUE(world().log.at(-1)?.includes('PCI device has no peer-to-peer memory'));
	pci_p2pmem_publish(dev('GPU0'), true);
	EXPECT_EQ(0, store('0000:03:00.0\n'));
	EXPECT_EQ(dev('GPU0'), p2p.value);
	EXPECT_TRUE(use.value);
	EXPECT_EQ(0, store('0\n'));
	EXPECT_FALSE(use.value);
	EXPECT_EQ(0, store('y'));
	EXPECT_TRUE(use.value);
	EXPECT_EQ(0, store('off'));
	EXPECT_FALSE(use.value);
	EXPECT_EQ(0, store('1'));
	EXPECT_TRUE(use.value);
	EXPECT_EQ(-ENODEV, store('0000:77:00.0\n'));
	EXPECT_EQ('No such PCI device: 0000:77:00.0', world().log.at(-1));
	EXPECT_EQ(-ENODEV, store('maybe\n'));
	const page = outParam('');
	EXPECT_EQ(2n, pci_p2pdma_enable_show(page, null, false));
	EXPECT_EQ('0\n', page.value);
	pci_p2pdma_enable_show(page, null, true);
	EXPECT_EQ('1\n', page.value);
	EXPECT_EQ(13n, pci_p2pdma_enable_show(page, dev('GPU0'), true));
	EXPECT_EQ('0000:03:00.0\n', page.value);
});

TEST('provider_of_each_memory_bar_without_pages', function* () {
	bootPci(standardMachine());
	const gpu = dev('GPU0');
	expectReport(/WARNING/);
	EXPECT_NULL(pcim_p2pdma_provider(gpu, gpuBar.bar));
	EXPECT_EQ(0, yield* pcim_p2pdma_init(gpu));
	EXPECT_EQ(0, yield* pcim_p2pdma_init(gpu));
	const provider = pcim_p2pdma_provider(gpu, gpuBar.bar);
	EXPECT_EQ(gpu.dev, provider?.owner);
	EXPECT_EQ(provider, pcim_p2pdma_provider(gpu, gpuBar.bar));
	EXPECT_NULL(pcim_p2pdma_provider(gpu, 0));
	EXPECT_FALSE(pfn_valid(gpuBar.phys >> 12n));
	EXPECT_NULL(p2pmemAttribute(gpu, 'size'));
	pci_p2pmem_publish(gpu, true);
	EXPECT_EQ(gpu, pci_p2pmem_find(dev('NIC0').dev));
	gpu.non_mappable_bars = true;
	EXPECT_NULL(pcim_p2pdma_provider(gpu, gpuBar.bar));
	EXPECT_EQ(-EOPNOTSUPP, yield* pcim_p2pdma_init(gpu));
	EXPECT_EQ(-EOPNOTSUPP, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
	yield* devres_release_all(gpu.dev);
	EXPECT_NULL(gpu.p2pdma);
	gpu.non_mappable_bars = false;
	for (const site of ['devm_kzalloc', 'devm_add_action']) {
		injectFaults().fail(site, 1);
		EXPECT_EQ(-ENOMEM, yield* pcim_p2pdma_init(gpu));
		EXPECT_NULL(gpu.p2pdma);
	}
});

TEST('allocation_from_providers_without_pool_is_an_oops', function* () {
	bootPci(standardMachine());
	EXPECT_EQ(0, yield* pcim_p2pdma_init(dev('GPU0')));
	expectReport(/NULL pointer dereference/);
	try {
		pci_alloc_p2pmem(dev('GPU0'), 4096n);
	} catch (error) {
		EXPECT_TRUE(error instanceof KernelOops);
		yield* devres_release_all(dev('GPU0').dev);
		return;
	}
	EXPECT_TRUE(false);
});

TEST('fix_s9_allocation_from_providers_without_pool_has_nothing', function* () {
	bootPci(standardMachine());
	EXPECT_TRUE(switchOn('fix_s9'));
	EXPECT_EQ(0, yield* pcim_p2pdma_init(dev('GPU0')));
	EXPECT_NULL(pci_alloc_p2pmem(dev('GPU0'), 4096n));
	yield* devres_release_all(dev('GPU0').dev);
});

TEST_F(mem, 'fix_s19_less_than_a_page_is_refused', function* () {
	EXPECT_TRUE(switchOn('fix_s19'));
	const gpu = dev('GPU0');
	EXPECT_EQ(-EINVAL, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, 2048n, 0n));
	EXPECT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
});

TEST('fix_s20_there_are_six_bars', function* () {
	bootPci(standardMachine());
	const gpu = dev('GPU0');
	EXPECT_EQ(0, yield* pcim_p2pdma_init(gpu));
	const own = pcim_p2pdma_provider(gpu, gpuBar.bar);
	// behind the BARs comes the option ROM's resource
	gpu.resource[6] = gpu.resource[gpuBar.bar]!;
	expectReport(/slab-out-of-bounds in pcim_p2pdma_provider/);
	EXPECT_NULL(pcim_p2pdma_provider(gpu, 6));
	EXPECT_EQ(1, world().reports.length);
	EXPECT_TRUE(switchOn('fix_s20'));
	EXPECT_NULL(pcim_p2pdma_provider(gpu, 6));
	EXPECT_EQ(1, world().reports.length);
	EXPECT_TRUE(pcim_p2pdma_provider(gpu, gpuBar.bar) === own);
	yield* devres_release_all(gpu.dev);
});

TEST('driver_binding_releases_memory_after_remove_in_reverse_order', function* () {
	bootPci(standardMachine());
	const gpu = dev('GPU0');
	const driver = {
		name: 'gpu',
		*probe() {
			return yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n);
		},
		*remove() {
			EXPECT_TRUE(pfn_valid(gpuBar.phys >> 12n));
		},
	};
	EXPECT_EQ(0, yield* device_driver_attach(driver, gpu.dev));
	EXPECT_EQ(-EBUSY, yield* device_driver_attach(driver, gpu.dev));
	EXPECT_TRUE(gpu.dev.devres.length > 0);
	yield* device_release_driver(gpu.dev);
	EXPECT_FALSE(pfn_valid(gpuBar.phys >> 12n));
	EXPECT_NULL(gpu.dev.driver);
	yield* device_release_driver(gpu.dev);
	injectFaults().fail('gen_pool_add_owner', 1);
	EXPECT_EQ(-ENOMEM, yield* device_driver_attach(driver, gpu.dev));
	EXPECT_NULL(gpu.dev.driver);
	EXPECT_EQ(0, gpu.dev.devres.length);
});

TEST('shutdown_reports_what_drivers_left', function* () {
	bootPci(standardMachine());
	const gpu = dev('GPU0');
	ASSERT_EQ(0, yield* pci_p2pdma_add_resource(gpu, gpuBar.bar, MiB2, 0n));
	const addr = pci_alloc_p2pmem(gpu, 4096n);
	ASSERT_NE(null, addr);
	expectReport('leak: 4096 bytes of P2P memory of 0000:03:00.0 in use');
	expectReport('leak: 0000:03:00.0 keeps device resources');
	pciShutdownCheck();
	pci_free_p2pmem(gpu, addr, 4096n);
	yield* devres_release_all(gpu.dev);
	const before = world().reports.length;
	pciShutdownCheck();
	EXPECT_EQ(before, world().reports.length);
});
