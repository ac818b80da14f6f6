// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: device-private memory in folios of 2 MiB, from the migration that fills one to the last page
 * that is given back. Method: a device with four such folios, whose driver moves them whole unless a
 * test tells it otherwise; words, entries, invalidations and calls of its folio_free and folio_split.
 */

import {
	dev_pagemap,
	type dev_pagemap_ops,
	MEMORY_DEVICE_PRIVATE,
} from '../../include/linux/memremap.ts';
import {
	MIGRATE_PFN_COMPOUND,
	MIGRATE_PFN_MIGRATE,
	MIGRATE_PFN_VALID,
	MIGRATE_VMA_SELECT_COMPOUND,
	MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	MIGRATE_VMA_SELECT_SYSTEM,
	migrate_pfn,
	migrate_pfn_to_page,
	type migrate_vma,
} from '../../include/linux/migrate.ts';
import { PROT_READ } from '../../include/linux/mm.ts';
import {
	MM_ANONPAGES,
	type page,
	page_folio,
	VM_FAULT_OOM,
	VM_FAULT_SIGBUS,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { nth_page, page_to_pfn, pfn_to_page } from '../../include/linux/mmzone.ts';
import {
	folio_nr_pages,
	folio_order,
	folio_ref_count,
	is_zone_device_page,
} from '../../include/linux/page-flags.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import {
	pmd_is_device_private_entry,
	pmd_swp_mkuffd_wp,
	pmd_swp_uffd_wp,
	softleaf_from_pmd,
	softleaf_from_pte,
	softleaf_is_device_private_write,
	softleaf_to_folio,
} from '../../include/linux/swapops.ts';
import {
	GFP_HIGHUSER_MOVABLE,
	HPAGE_PMD_ORDER,
	PMD_MASK,
	type vm_fault_t,
} from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { boot } from '../../init/main.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import { forkProcess } from '../../mm/fork.ts';
import { MADV_HUGEPAGE } from '../../mm/madvise.ts';
import { handle_mm_fault } from '../../mm/memory.ts';
import { memremap_pages, memunmap_pages, zone_device_folio_init } from '../../mm/memremap.ts';
import {
	migrate_vma_finalize,
	migrate_vma_pages,
	migrate_vma_setup,
} from '../../mm/migrate_device.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../mm/mmap_lock.ts';
import { folio_alloc } from '../../mm/page_alloc.ts';
import { folio_entire_mapcount, folio_mapcount } from '../../mm/rmap.ts';
import {
	createProcess,
	exitProcess,
	userMprotect,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { switchOn } from '../support/switch_on.ts';
import { at, entryAt, pmdAt, runs, vmaOf } from './entries.ts';
import { copyValue, migration, TestDevice, valueOf, vmaAt } from './mm_world.ts';
import {
	HUGE,
	InvalidationLog,
	madvisePages,
	mapPages,
	PAGE,
	RW,
	smallMachine,
} from './small_machine.ts';

const M = MIGRATE_PFN_MIGRATE;
const C = MIGRATE_PFN_COMPOUND;

/** A device with huge folios; the pages' values are kept as TestDevice keeps them. */
class HugeDevice extends TestDevice {
	/** First pages of idle folios, next one last. */
	idle: page[] = [];
	/** Destinations are small pages from now on. */
	small = false;
	/** Pages given back, and splits told: parts, then the end. */
	freed = 0;
	parts = 0;
	ends = 0;

	constructor() {
		super();
		const start = this.base << 12n;
		this.pgmap = new dev_pagemap({
			type: MEMORY_DEVICE_PRIVATE,
			ops: hugeOps,
			owner: this,
			ranges: [{ start, end: start + (4n << 21n) - 1n }],
			nr_range: 1,
			container: this,
		});
	}

	override *probe(): Sim<void> {
		yield* memremap_pages(this.pgmap, 0);
		for (let i = 3n; i >= 0n; i--) this.idle.push(pfn_to_page(this.base + i * 512n));
	}

	/** A locked folio of its own. */
	*allocFolio(order: number): Sim<page> {
		const p = order === 0 ? this.free.pop() : this.idle.pop();
		if (p === undefined) {
			const from = this.idle.pop()!;
			for (let i = HUGE - 1; i > 0; i--) this.free.push(nth_page(from, i));
			yield* zone_device_folio_init(page_folio(from), this.pgmap, 0);
			return from;
		}
		yield* zone_device_folio_init(page_folio(p), this.pgmap, order);
		return p;
	}
}

function deviceOf(p: page): HugeDevice {
	return p.pgmap!.container as HugeDevice;
}

const hugeOps: dev_pagemap_ops = {
	*folio_free(f) {
		const dev = deviceOf(f.page);
		dev.freed += folio_nr_pages(f);
		(folio_order(f) === 0 ? dev.free : dev.idle).push(f.page);
	},
	*folio_split(original, fresh) {
		const dev = deviceOf(original.page);
		if (fresh === null) {
			dev.ends++;
			return;
		}
		dev.parts++;
		fresh.page.pgmap = original.page.pgmap;
	},
	migrate_to_ram(vmf) {
		return toRam(vmf);
	},
};

/** Fills in destinations: whole ones for whole sources, unless the device says small. */
function* fill(args: migrate_vma, dev: HugeDevice, ram: boolean): Sim<void> {
	const n = args.src.length;
	for (let i = 0; i < n; i++) {
		const word = args.src[i]!;
		if (!(word & M)) continue;
		const whole = (word & C) !== 0n && !dev.small;
		const count = word & C ? HUGE : 1;
		for (let k = 0; k < count; k += whole ? HUGE : 1) {
			const order = whole ? HPAGE_PMD_ORDER : 0;
			let to: page;
			if (ram) {
				to = (yield* folio_alloc(GFP_HIGHUSER_MOVABLE, order))!.page;
				yield* folio_lock(page_folio(to));
			} else to = yield* dev.allocFolio(order);
			args.dst[i + k] = migrate_pfn(page_to_pfn(to)) | (whole ? C : 0n);
			const from = migrate_pfn_to_page(word);
			for (let j = 0; j < (whole ? HUGE : 1); j++)
				copyValue(
					nth_page(to, j),
					from === null ? null : nth_page(from, k + j),
				);
		}
		i += count - 1;
	}
}

/** The words of a migration to the device after each step. */
interface Moved {
	setup: bigint[];
	pages: bigint[];
}

function toDevice(p: task_struct, dev: HugeDevice, first: number, pages: number): Moved {
	const flags = MIGRATE_VMA_SELECT_SYSTEM | MIGRATE_VMA_SELECT_COMPOUND;
	const args = migration(dev, vmaOf(p, first), at(first), at(first + pages), flags);
	return run(
		function* () {
			yield* mmap_read_lock(p.mm!);
			EXPECT_EQ(0, yield* migrate_vma_setup(args));
			const setup = [...args.src];
			yield* fill(args, dev, false);
			yield* migrate_vma_pages(args);
			const after = [...args.src];
			yield* migrate_vma_finalize(args);
			yield* mmap_read_unlock(p.mm!);
			return { setup, pages: after };
		},
		{ task: p },
	);
}

/** The CPU touched a page: its folio comes back, whole if it is mapped whole. */
function* toRam(vmf: vm_fault): Sim<vm_fault_t> {
	const dev = deviceOf(vmf.page!);
	dev.faults++;
	const whole = vmf.pte === null;
	const start = whole ? vmf.address & PMD_MASK : vmf.address;
	const n = whole ? HUGE : 1;
	const flags =
		MIGRATE_VMA_SELECT_DEVICE_PRIVATE | (whole ? MIGRATE_VMA_SELECT_COMPOUND : 0n);
	const args = migration(dev, vmf.vma, start, start + BigInt(n) * PAGE, flags);
	args.fault_page = vmf.page;
	if (yield* migrate_vma_setup(args)) return VM_FAULT_SIGBUS;
	yield* fill(args, dev, true);
	yield* migrate_vma_pages(args);
	const failed = args.cpages !== 0n && args.dst[0] === 0n;
	yield* migrate_vma_finalize(args);
	return failed ? VM_FAULT_OOM : 0;
}

interface Self {
	p: task_struct;
	dev: HugeDevice;
	log: InvalidationLog;
}

const thp = FIXTURE<Self>('device_private_thp', () => ({
	p: null as unknown as task_struct,
	dev: null as unknown as HugeDevice,
	log: null as unknown as InvalidationLog,
}));

FIXTURE_SETUP(thp, (self) => {
	boot(smallMachine(), 'v7.3');
	self.p = createProcess('parent');
	self.log = new InvalidationLog(self.p.mm!);
	self.dev = new HugeDevice();
	run(self.dev.probe());
	mapPages(self.p, 0, 2 * HUGE);
	EXPECT_EQ(0, madvisePages(self.p, 0, 2 * HUGE, MADV_HUGEPAGE));
});

FIXTURE_TEARDOWN(thp, ({ p, dev, log }) => {
	log.remove();
	exitProcess(p);
	run(memunmap_pages(dev.pgmap));
});

/** A folio of the device, by its place. */
function folioOf(dev: HugeDevice, index: number) {
	return page_folio(pfn_to_page(dev.base + BigInt(index) * 512n));
}

TEST_F(thp, 'whole_huge_page_moves_as_one_folio', ({ p, dev, log }) => {
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(511), 2n);
	const { setup, pages } = toDevice(p, dev, 0, HUGE);
	EXPECT_EQ(M | C | MIGRATE_PFN_VALID, setup[0]! & (M | C | MIGRATE_PFN_VALID));
	EXPECT_TRUE(setup.slice(1).every((word) => word === 0n));
	EXPECT_EQ(M, pages[0]! & M);
	EXPECT_STREQ('6 0-512', log.take());
	EXPECT_STREQ('TD*512', runs(p, 0, HUGE));
	const f = folioOf(dev, 0);
	EXPECT_EQ(1, folio_ref_count(f));
	EXPECT_EQ(1, folio_entire_mapcount(f));
	EXPECT_EQ(1, folio_mapcount(f));
	EXPECT_EQ(2n, valueOf(nth_page(f.page, 511)));
	EXPECT_EQ(HUGE, p.mm!.rss_stat[MM_ANONPAGES]);
});

TEST_F(thp, 'touch_of_one_page_brings_all_back_as_a_huge_page', ({ p, dev, log }) => {
	userWrite64(p, at(7), 1n);
	toDevice(p, dev, 0, HUGE);
	log.take();
	EXPECT_EQ(1n, userRead64(p, at(7)));
	EXPECT_EQ(1, dev.faults);
	EXPECT_STREQ('6 0-512', log.take());
	EXPECT_STREQ('Twax*512', runs(p, 0, HUGE));
	EXPECT_EQ(HUGE, dev.freed);
	EXPECT_EQ(4, dev.idle.length);
});

/** Whether a fault on the first folio of the device returns while somebody holds its lock. */
function returnsWhileLocked(p: task_struct, dev: HugeDevice): boolean {
	const f = folioOf(dev, 0);
	const mm = p.mm!;
	run(folio_lock(f));
	let isHeld = true;
	let early = false;
	spawn(
		'toucher',
		function* () {
			yield* mmap_read_lock(mm);
			EXPECT_EQ(0, yield* handle_mm_fault(vmaAt(p, at(7)), at(7), 0, null));
			early = isHeld;
			yield* mmap_read_unlock(mm);
		},
		{ mm },
	);
	spawn('holder', function* () {
		isHeld = false;
		yield* folio_unlock(f);
	});
	runThreads();
	return early;
}

TEST_F(thp, 'S7_fault_on_a_locked_folio_comes_again_at_once', ({ p, dev }) => {
	userWrite64(p, at(7), 1n);
	toDevice(p, dev, 0, HUGE);
	EXPECT_TRUE(returnsWhileLocked(p, dev));
	// nothing was done, and the next one starts over
	EXPECT_EQ(0, dev.faults);
	EXPECT_EQ(1n, userRead64(p, at(7)));
});

TEST_F(thp, 'fix_s7_fault_on_a_locked_folio_waits', ({ p, dev }) => {
	EXPECT_TRUE(switchOn('fix_s7'));
	userWrite64(p, at(7), 1n);
	toDevice(p, dev, 0, HUGE);
	EXPECT_FALSE(returnsWhileLocked(p, dev));
	EXPECT_EQ(1n, userRead64(p, at(7)));
	EXPECT_EQ(1, dev.faults);
});

TEST_F(thp, 'small_destinations_split_the_unmapped_folio', ({ p, dev }) => {
	userWrite64(p, at(3), 9n);
	dev.small = true;
	const { setup, pages } = toDevice(p, dev, 0, HUGE);
	EXPECT_EQ(C, setup[0]! & C);
	EXPECT_EQ(HUGE, pages.filter((word) => (word & (M | C)) === M).length);
	EXPECT_STREQ('D*512', runs(p, 0, HUGE));
	EXPECT_EQ(9n, userRead64(p, at(3)));
	EXPECT_STREQ('D*3 wax D*508', runs(p, 0, HUGE));
	EXPECT_EQ(HUGE, p.mm!.rss_stat[MM_ANONPAGES]);
});

/** The folio of a device-private entry. */
function privateAt(p: task_struct, page: number) {
	return softleaf_to_folio(softleaf_from_pte(entryAt(p, page).value));
}

TEST_F(thp, 'S29_split_leaves_the_huge_entry_of_a_process_that_shares_the_page', ({ p, dev }) => {
	userWrite64(p, at(3), 9n);
	const child = forkProcess(p) as task_struct;
	dev.small = true;
	toDevice(p, dev, 0, HUGE);
	// 2 MiB of the device by a folio of one page
	EXPECT_STREQ('TD*512', runs(child, 0, HUGE));
	EXPECT_EQ(0, folio_order(privateAt(p, 0)));
	EXPECT_EQ(1, folio_mapcount(privateAt(p, 0)));
	expectReport('Bad rss-counter state type:MM_FILEPAGES');
	expectReport('Bad rss-counter state type:MM_ANONPAGES');
	exitProcess(child);
});

TEST_F(thp, 'fix_s29_split_reaches_all_who_share_the_page', ({ p, dev }) => {
	EXPECT_TRUE(switchOn('fix_s29'));
	userWrite64(p, at(3), 9n);
	userWrite64(p, at(HUGE - 1), 8n);
	const child = forkProcess(p) as task_struct;
	dev.small = true;
	toDevice(p, dev, 0, HUGE);
	EXPECT_STREQ('D*512', runs(p, 0, HUGE));
	EXPECT_STREQ('D*512', runs(child, 0, HUGE));
	for (const page of [0, 3, HUGE - 1]) EXPECT_EQ(2, folio_mapcount(privateAt(p, page)));
	EXPECT_EQ(9n, userRead64(child, at(3)));
	EXPECT_EQ(8n, userRead64(child, at(HUGE - 1)));
	EXPECT_EQ(9n, userRead64(p, at(3)));
	exitProcess(child);
});

TEST_F(thp, 'hole_and_huge_zero_page_become_huge_device_pages', ({ p, dev, log }) => {
	EXPECT_EQ(0n, userRead64(p, at(600)));
	const { setup } = toDevice(p, dev, 0, 2 * HUGE);
	EXPECT_EQ(M | C, setup[0]);
	EXPECT_EQ(M | C, setup[HUGE]);
	EXPECT_STREQ('6 0-1024, 6 0-1024', log.take());
	EXPECT_STREQ('TD*1024', runs(p, 0, 2 * HUGE));
	userWrite64(p, at(600), 4n);
	EXPECT_STREQ('TD*512 Twaxd*512', runs(p, 0, 2 * HUGE));
});

TEST_F(thp, 'part_of_a_hole_is_not_huge', ({ p, dev }) => {
	const { setup } = toDevice(p, dev, 1, 4);
	EXPECT_TRUE(setup.every((word) => word === M));
	EXPECT_STREQ('. D*4 .*507', runs(p, 0, HUGE));
});

TEST_F(thp, 'unmapping_a_part_splits_the_entry_and_a_touch_the_folio', ({ p, dev, log }) => {
	userWrite64(p, at(7), 1n);
	toDevice(p, dev, 0, HUGE);
	log.take();
	EXPECT_EQ(0, userMunmap(p, at(100), 100n * PAGE));
	const f = folioOf(dev, 0);
	EXPECT_EQ(412, folio_mapcount(f));
	EXPECT_EQ(412, folio_ref_count(f));
	EXPECT_EQ(0, dev.freed);
	log.take();
	EXPECT_EQ(1n, userRead64(p, at(7)));
	EXPECT_STREQ('D*7 wax D*92', runs(p, 0, 100));
	// once for each part, and once at the end
	EXPECT_EQ(511, dev.parts);
	EXPECT_EQ(1, dev.ends);
	// those that nothing maps, and the one that came back
	EXPECT_EQ(101, dev.freed);
	EXPECT_EQ(0, userMunmap(p, at(0), BigInt(HUGE) * PAGE));
	EXPECT_EQ(HUGE, dev.freed);
});

TEST_F(thp, 'protection_and_fork_make_it_read_only', ({ p, dev }) => {
	userWrite64(p, at(7), 1n);
	toDevice(p, dev, 0, HUGE);
	EXPECT_EQ(0, userMprotect(p, at(0), BigInt(HUGE) * PAGE, PROT_READ));
	EXPECT_STREQ('TD*512', runs(p, 0, HUGE));
	EXPECT_EQ(0, userMprotect(p, at(0), BigInt(HUGE) * PAGE, RW));
	const child = forkProcess(p) as task_struct;
	EXPECT_STREQ('TD*512', runs(child, 0, HUGE));
	const f = folioOf(dev, 0);
	EXPECT_EQ(2, folio_entire_mapcount(f));
	EXPECT_EQ(2, folio_ref_count(f));
	EXPECT_EQ(1n, userRead64(child, at(7)));
	// the page of both is one
	EXPECT_STREQ('Tra*512', runs(child, 0, HUGE));
	EXPECT_STREQ('Tra*512', runs(p, 0, HUGE));
	exitProcess(child);
	userWrite64(p, at(7), 2n);
	EXPECT_STREQ('Twaxd*512', runs(p, 0, HUGE));
});

TEST_F(thp, 'entry_that_loses_its_right_to_write_keeps_the_uffd_bit', ({ p, dev }) => {
	userWrite64(p, at(7), 70n);
	toDevice(p, dev, 0, HUGE);
	const pmd = pmdAt(p, 0);
	EXPECT_TRUE(softleaf_is_device_private_write(softleaf_from_pmd(pmd.value)));
	// by hand: protecting it would have taken the right along with it
	pmd.value = pmd_swp_mkuffd_wp(pmd.value);
	EXPECT_EQ(0, userMprotect(p, at(0), BigInt(HUGE) * PAGE, PROT_READ));
	EXPECT_TRUE(pmd_is_device_private_entry(pmd.value));
	EXPECT_FALSE(softleaf_is_device_private_write(softleaf_from_pmd(pmd.value)));
	EXPECT_TRUE(pmd_swp_uffd_wp(pmd.value));
});

TEST_F(thp, 'pages_of_a_former_huge_folio_are_small_again', ({ p, dev }) => {
	toDevice(p, dev, 0, HUGE);
	userWrite64(p, at(0), 1n);
	userWrite64(p, at(600), 2n);
	dev.small = true;
	toDevice(p, dev, 600, 1);
	const small = nth_page(folioOf(dev, 0).page, 0);
	EXPECT_EQ(0, folio_order(page_folio(small)));
	EXPECT_TRUE(is_zone_device_page(small));
	EXPECT_EQ(2n, userRead64(p, at(600)));
});
