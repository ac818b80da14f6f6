// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: user space gets P2P memory by mapping p2pmem/allocate, owns it as long as it is mapped, and
 * loses it when the driver is unbound. Method: a process on the standard machine maps, stores and
 * unmaps under both releases; what it stores is looked for in the BAR.
 */

import type { Machine } from '../../../arch/sim/machine.ts';
import { device_release_driver } from '../../../drivers/base/dd.ts';
import { devres_release_all } from '../../../drivers/base/devres.ts';
import { pci_p2pdma_add_resource } from '../../../drivers/pci/p2pdma/memory.ts';
import { openP2pmemAllocate } from '../../../drivers/pci/p2pdma/mmap.ts';
import { pci_alloc_p2pmem, pci_free_p2pmem } from '../../../drivers/pci/p2pdma/p2pmem.ts';
import { pcim_p2pdma_init } from '../../../drivers/pci/p2pdma/provider.ts';
import { p2pmemAttribute } from '../../../drivers/pci/p2pdma/sysfs.ts';
import { EINVAL, ENODEV, ENOMEM, EREMOTEIO } from '../../../include/linux/errno.ts';
import type { file } from '../../../include/linux/fs.ts';
import {
	FOLL_PCI_P2PDMA,
	FOLL_WRITE,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_READ,
	PROT_WRITE,
} from '../../../include/linux/mm.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../../include/linux/mmzone.ts';
import { page_ref_count } from '../../../include/linux/page-flags.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { feature, world } from '../../../include/sim/world.ts';
import { boot } from '../../../init/main.ts';
import { run } from '../../../kernel/sched/core.ts';
import { fput } from '../../../mm/file_table.ts';
import { get_user_pages_fast, pin_user_pages_fast } from '../../../mm/gup/fast.ts';
import { unpin_user_pages } from '../../../mm/gup/pin.ts';
import { put_page } from '../../../mm/swap.ts';
import {
	createProcess,
	exitProcess,
	userMmap,
	userMunmap,
	userRead,
	userRead64,
	userWrite64,
} from '../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_NE,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	SKIP,
	TEST_F,
} from '../../kselftest_harness.ts';
import { dev, gpuBar, standardMachine } from './machines.ts';

const MiB2 = 0x20_0000n;
const PAGE = 4096n;
const RW = PROT_READ | PROT_WRITE;
const SIGBUS = 7;
const WORD = 0x1122_3344_5566_7788n;

interface Self {
	task: task_struct;
	file: file;
}

const mapped = FIXTURE(
	'p2pmem_mmap',
	(): Self => ({ task: null as unknown as task_struct, file: null as unknown as file }),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(mapped, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(mapped, 'v7_3', { profile: 'v7.3' });
FIXTURE_SETUP(mapped, (self, { profile }) => {
	boot(standardMachine(), profile);
	ASSERT_EQ(
		0,
		run(() => pci_p2pdma_add_resource(dev('GPU0'), gpuBar.bar, MiB2, 0n)),
	);
	self.task = createProcess('user');
	const opened = openP2pmemAllocate(dev('GPU0'));
	ASSERT_NE(null, opened);
	self.file = opened as file;
});
FIXTURE_TEARDOWN(mapped, ({ task, file }) => {
	exitProcess(task);
	run(() => fput(file));
	run(() => devres_release_all(dev('GPU0').dev));
});

/** mmap() of the file. */
function map({ task, file }: Self, len: bigint, flags: number = MAP_SHARED, pgoff = 0n): bigint {
	return BigInt(userMmap(task, null, len, RW, flags, file, pgoff));
}

function available(): string | null {
	return p2pmemAttribute(dev('GPU0'), 'available');
}

/** First page of the BAR. */
function firstPage() {
	return pfn_to_page(gpuBar.phys / PAGE);
}

TEST_F(mapped, 'stores_land_in_the_bar', (self) => {
	const at = map(self, 3n * PAGE);
	ASSERT_TRUE(at > 0n);
	EXPECT_EQ(`${MiB2 - 3n * PAGE}\n`, available());
	EXPECT_NULL(userWrite64(self.task, at + PAGE, WORD));
	const bytes = new Uint8Array(8);
	(world().machine as Machine).cpuRead(gpuBar.phys + PAGE, bytes);
	EXPECT_EQ(WORD, new DataView(bytes.buffer).getBigUint64(0, true));
	EXPECT_EQ(1, page_ref_count(firstPage()));
});

TEST_F(mapped, 'pages_are_handed_out_to_who_knows_what_they_are', (self) => {
	const { task } = self;
	const at = map(self, PAGE);
	for (const call of [get_user_pages_fast, pin_user_pages_fast]) {
		const pages: page[] = [];
		EXPECT_EQ(-EREMOTEIO, run(call(at, 1n, FOLL_WRITE, pages), { task }));
		EXPECT_EQ(0, pages.length);
		EXPECT_EQ(1, page_ref_count(firstPage()));
		const flags = FOLL_WRITE | FOLL_PCI_P2PDMA;
		EXPECT_EQ(1, run(call(at, 1n, flags, pages), { task }));
		EXPECT_TRUE(pages[0] === firstPage());
		EXPECT_TRUE(page_ref_count(firstPage()) > 1);
		if (call === pin_user_pages_fast) run(unpin_user_pages(pages, 1n));
		else run(put_page(firstPage()));
		EXPECT_EQ(1, page_ref_count(firstPage()));
	}
});

TEST_F(mapped, 'memory_goes_back_page_by_page_as_it_is_unmapped', (self) => {
	const at = map(self, 3n * PAGE);
	EXPECT_EQ(0, userMunmap(self.task, at + PAGE, PAGE));
	EXPECT_EQ(`${MiB2 - 2n * PAGE}\n`, available());
	EXPECT_EQ(0, userMunmap(self.task, at, 3n * PAGE));
	EXPECT_EQ(`${MiB2}\n`, available());
	EXPECT_EQ(feature('zone_device_zero_refcount') ? 0 : 1, page_ref_count(firstPage()));
	// And can be had again.
	const whole = pci_alloc_p2pmem(dev('GPU0'), MiB2);
	ASSERT_NE(null, whole);
	pci_free_p2pmem(dev('GPU0'), whole, MiB2);
});

TEST_F(mapped, 'every_mapping_has_memory_of_its_own', (self) => {
	const a = map(self, PAGE);
	const b = map(self, PAGE);
	EXPECT_NULL(userWrite64(self.task, a, WORD));
	EXPECT_NULL(userWrite64(self.task, b, 1n));
	EXPECT_EQ(WORD, userRead64(self.task, a));
});

TEST_F(mapped, 'private_and_shifted_mappings_are_refused', (self) => {
	EXPECT_EQ(BigInt(-EINVAL), map(self, PAGE, MAP_PRIVATE));
	EXPECT_EQ('pci 0000:03:00.0: user: fail, attempted private mapping', world().log.at(-1));
	EXPECT_EQ(BigInt(-EINVAL), map(self, PAGE, MAP_SHARED, 1n));
	EXPECT_EQ(
		'pci 0000:03:00.0: user: fail, attempted mapping with non-zero offset',
		world().log.at(-1),
	);
});

TEST_F(mapped, 'pool_without_space_is_ENOMEM', (self) => {
	EXPECT_EQ(BigInt(-ENOMEM), map(self, MiB2 + PAGE));
	const all = map(self, MiB2);
	ASSERT_TRUE(all > 0n);
	EXPECT_EQ(BigInt(-ENOMEM), map(self, PAGE));
	EXPECT_EQ('0\n', available());
});

TEST_F(mapped, 'failure_in_the_middle_gives_everything_back', (self) => {
	// Two pages on either side of a page table's end: the second table is one of the allocations.
	const edge = 0x4000_0000n + MiB2 - 2n * PAGE;
	const results: bigint[] = [];
	for (let nth = 1; nth <= 5; nth++) {
		injectFaults().fail('alloc_pages', nth);
		const at = BigInt(userMmap(self.task, edge, 4n * PAGE, RW, MAP_SHARED, self.file));
		world().faultInjection = null;
		results.push(at);
		if (at > 0n) EXPECT_EQ(0, userMunmap(self.task, at, 4n * PAGE));
		EXPECT_EQ(`${MiB2}\n`, available());
		EXPECT_EQ(
			feature('zone_device_zero_refcount') ? 0 : 1,
			page_ref_count(firstPage()),
		);
	}
	EXPECT_EQ(BigInt(-ENOMEM), results[0]);
	EXPECT_EQ(4, results.filter((at) => at === BigInt(-ENOMEM)).length);
	EXPECT_EQ(edge, results[4]);
});

TEST_F(mapped, 'unbinding_takes_it_away_from_the_user', (self) => {
	const at = map(self, 2n * PAGE);
	EXPECT_NULL(userWrite64(self.task, at, WORD));
	run(() => device_release_driver(dev('GPU0').dev));
	run(() => devres_release_all(dev('GPU0').dev));
	EXPECT_NULL(dev('GPU0').p2pdma);
	const read = userRead(self.task, at, 8);
	EXPECT_EQ(SIGBUS, 'sig' in read ? read.sig : 0);
	EXPECT_EQ(BigInt(-ENODEV), map(self, PAGE));
	EXPECT_NULL(openP2pmemAllocate(dev('GPU0')));
});

TEST_F(mapped, 'providers_alone_have_no_such_file', () => {
	if (!feature('p2pdma_provider')) SKIP('this release has no providers');
	EXPECT_EQ(
		0,
		run(() => pcim_p2pdma_init(dev('NIC0'))),
	);
	EXPECT_NULL(openP2pmemAllocate(dev('NIC0')));
	run(() => devres_release_all(dev('NIC0').dev));
});
