// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: hmm_range_fault() with `dma_dev` answers as the proposal says, and without it as v7.3 does.
 * Method: the standard topology, a range of private pages of GPU0, requesters of each kind.
 */
import { to_p2p_pgmap } from '../../drivers/pci/p2pdma/objects.ts';
import { EPERM } from '../../include/linux/errno.ts';
import {
	HMM_PFN_DMA_MAPPED,
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_REQ_FAULT,
	HMM_PFN_REQ_WRITE,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_pfn_to_page,
} from '../../include/linux/hmm.ts';
import type { dev_pagemap_ops } from '../../include/linux/memremap.ts';
import { PROT_READ, PROT_WRITE } from '../../include/linux/mm.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	is_device_private_page,
	is_pci_p2pdma_page,
	is_zone_device_page,
	page_pgmap,
} from '../../include/linux/page-flags.ts';
import { pci_name, to_pci_dev } from '../../include/linux/pci.ts';
import { world } from '../../include/sim/world.ts';
import { mmapAnonymous, userMprotect, userRead, userWrite } from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { PAGE, StandardWorld } from '../support/standard.ts';

const PAGES = 8;
const FAULT = HMM_PFN_REQ_FAULT;
const WRITE = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE;

interface Self {
	w: StandardWorld;
	/** Eight private pages. */
	address: bigint;
}

const private_dma_pfn = FIXTURE<Self>('private_dma_pfn', () => ({
	w: null as unknown as StandardWorld,
	address: 0n,
}));

FIXTURE_SETUP(private_dma_pfn, (self) => {
	self.w = new StandardWorld();
	self.address = self.w.mapPages(PAGES).address;
	ASSERT_EQ(self.w.toVram(self.address, PAGES), PAGES);
});

FIXTURE_TEARDOWN(private_dma_pfn, (self) => {
	self.w.close();
});

const kind = (word: bigint): string => {
	if (!(word & HMM_PFN_VALID)) return word === 0n ? '0' : 'flags';
	const p = hmm_pfn_to_page(word);
	if (is_pci_p2pdma_page(p)) return 'alias';
	if (is_device_private_page(p)) return 'private';
	return is_zone_device_page(p) ? 'device' : 'ram';
};
const kinds = (pfns: BigUint64Array): string => [...pfns].map(kind).join(' ');
const eight = (what: string): string => Array(PAGES).fill(what).join(' ');

/** The op of GPU0's pagemaps, replaced for the rest of the test. */
function replaceOp(w: StandardWorld, op: dev_pagemap_ops['device_private_dma_pfn']): void {
	for (const { pagemap } of w.gpu0.chunks)
		pagemap.ops = { ...pagemap.ops, device_private_dma_pfn: op } as dev_pagemap_ops;
}

TEST_F(private_dma_pfn, 'F22_reachable_pages_give_aliases', ({ w, address }) => {
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dma_dev: w.pdev('NIC0').dev,
		default_flags: FAULT,
	});
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('alias'));
	for (const word of pfns) EXPECT_TRUE((word & HMM_PFN_WRITE) !== 0n);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
	EXPECT_EQ(w.gpu0.counters.opCalls, PAGES);
});

TEST_F(private_dma_pfn, 'F22_a_snapshot_gives_aliases_too', ({ w, address }) => {
	const { ret, tries, pfns } = w.rangeFault(address, PAGES, { dma_dev: w.pdev('NIC1').dev });
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(tries, 1);
	EXPECT_EQ(kinds(pfns), eight('alias'));
});

TEST_F(private_dma_pfn, 'F22_without_dma_dev_it_is_todays_behaviour', ({ w, address }) => {
	const snapshot = w.rangeFault(address, PAGES);
	ASSERT_EQ(snapshot.ret, 0);
	EXPECT_EQ(kinds(snapshot.pfns), eight('0'));
	const faulted = w.rangeFault(address, PAGES, { default_flags: FAULT });
	ASSERT_EQ(faulted.ret, 0);
	EXPECT_EQ(kinds(faulted.pfns), eight('ram'));
	EXPECT_EQ(w.gpu0.counters.opCalls, 0);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
});

TEST_F(private_dma_pfn, 'F22_with_the_switch_off_nothing_of_it_is_seen', (self) => {
	const { w } = self;
	// Same world, the switch taken away: dma_dev is a field that nobody reads.
	turnOff();
	const { ret, pfns } = w.rangeFault(self.address, PAGES, { dma_dev: w.pdev('NIC0').dev });
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('0'));
	EXPECT_EQ(w.gpu0.counters.opCalls, 0);
});

TEST_F(private_dma_pfn, 'F22_owner_match_wins_over_the_op', ({ w, address }) => {
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dma_dev: w.pdev('NIC0').dev,
		dev_private_owner: w.gpu0,
		default_flags: WRITE,
	});
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('private'));
	EXPECT_EQ(w.gpu0.counters.opCalls, 0);
});

TEST_F(
	private_dma_pfn,
	'F22_an_op_that_says_no_migrates_that_page_and_no_other',
	({ w, address }) => {
		const { device_private_dma_pfn: op } = w.gpu0.chunks[0]!.pagemap.ops!;
		let refused = 0n;
		replaceOp(w, (p, pfn) => {
			// The third page has no alias.
			if (page_to_pfn(p) === BigInt(w.gpu0.chunks[0]!.firstPfn + 2)) {
				refused++;
				return -95;
			}
			return op!(p, pfn);
		});
		const { ret, pfns } = w.rangeFault(address, PAGES, {
			dma_dev: w.pdev('NIC0').dev,
			default_flags: FAULT,
		});
		ASSERT_EQ(ret, 0);
		EXPECT_EQ(kinds(pfns), 'alias alias ram alias alias alias alias alias');
		EXPECT_EQ(w.gpu0.counters.migrateToRam, 1);
		EXPECT_TRUE(refused > 0n);
	},
);

TEST_F(private_dma_pfn, 'F22_an_op_that_answers_nonsense_is_as_no_op', ({ w, address }) => {
	expectReport(/answered with a page that is not P2PDMA/);
	replaceOp(w, (p, pfn) => {
		pfn.value = page_to_pfn(p);
		return 0;
	});
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dma_dev: w.pdev('NIC0').dev,
		default_flags: FAULT,
	});
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('ram'));
});

TEST_F(private_dma_pfn, 'F22_a_positive_answer_is_no_answer', ({ w, address }) => {
	const { device_private_dma_pfn: op } = w.gpu0.chunks[0]!.pagemap.ops!;
	replaceOp(w, (p, pfn) => {
		op!(p, pfn);
		return 1;
	});
	const { ret, pfns } = w.rangeFault(address, PAGES, { dma_dev: w.pdev('NIC0').dev });
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('0'));
});

TEST_F(private_dma_pfn, 'F22_an_absent_op_migrates', ({ w, address }) => {
	replaceOp(w, undefined);
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dma_dev: w.pdev('NIC0').dev,
		default_flags: FAULT,
	});
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('ram'));
	EXPECT_EQ(w.gpu0.counters.opCalls, 0);
});

TEST_F(private_dma_pfn, 'F22_an_unreachable_pair_migrates_page_by_page', ({ w, address }) => {
	const dma_dev = w.pdev('NIC2').dev;
	const snapshot = w.rangeFault(address, PAGES, { dma_dev });
	ASSERT_EQ(snapshot.ret, 0);
	EXPECT_EQ(kinds(snapshot.pfns), eight('0'));
	// One page asked for: one page moves.
	const one = w.rangeFault(address + 3n * PAGE, 1, { dma_dev, default_flags: FAULT });
	ASSERT_EQ(one.ret, 0);
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 1);
});

TEST_F(private_dma_pfn, 'F22_sticky_flags_stay_on_an_alias', ({ w, address }) => {
	const sticky = HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS;
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dma_dev: w.pdev('NIC0').dev,
		hmm_pfns: new BigUint64Array(PAGES).fill(sticky),
	});
	ASSERT_EQ(ret, 0);
	for (const word of pfns) EXPECT_EQ(word & sticky, sticky);
	EXPECT_EQ(kinds(pfns), eight('alias'));
});

TEST_F(private_dma_pfn, 'an_alias_that_changes_under_a_mapping_is_reported', ({ w, address }) => {
	const request = { dma_dev: w.pdev('NIC0').dev };
	const { pfns } = w.rangeFault(address, PAGES, request);
	const mapped = pfns.map((word) => word | HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA_BUS);
	const again = w.rangeFault(address, PAGES, { ...request, hmm_pfns: mapped });
	ASSERT_EQ(again.ret, 0);
	EXPECT_EQ(again.pfns[0]!, mapped[0]!);
	expectReport(/alias of a DMA-mapped word changed/);
	const { device_private_dma_pfn: op } = w.gpu0.chunks[0]!.pagemap.ops!;
	replaceOp(w, (p, pfn) => {
		const ret = op!(p, pfn);
		pfn.value += 16n;
		return ret;
	});
	ASSERT_EQ(w.rangeFault(address, PAGES, { ...request, hmm_pfns: mapped }).ret, 0);
});

TEST_F(private_dma_pfn, 'F22_a_hole_before_private_pages_drags_none_of_them_along', ({ w }) => {
	// Pages 0 and 1 stay empty, 2 to 7 are in VRAM.
	const address = mmapAnonymous(w.task, BigInt(PAGES) * PAGE, PROT_READ | PROT_WRITE);
	userWrite(w.task, address + 2n * PAGE, new Uint8Array(6 * 4096).fill(7));
	ASSERT_EQ(w.toVram(address + 2n * PAGE, 6), 6);

	const request = { dma_dev: w.pdev('NIC0').dev, default_flags: FAULT };
	const { ret, pfns } = w.rangeFault(address, PAGES, request);
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), 'ram ram alias alias alias alias alias alias');
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);
});

TEST_F(private_dma_pfn, 'without_dma_dev_a_hole_drags_every_private_page_to_ram', ({ w }) => {
	const address = mmapAnonymous(w.task, BigInt(PAGES) * PAGE, PROT_READ | PROT_WRITE);
	userWrite(w.task, address + 2n * PAGE, new Uint8Array(6 * 4096).fill(7));
	ASSERT_EQ(w.toVram(address + 2n * PAGE, 6), 6);

	// Even the caller's own pages: what v7.3 does.
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dev_private_owner: w.gpu0,
		default_flags: FAULT,
	});
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('ram'));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, 6);
});

TEST_F(
	private_dma_pfn,
	'F31_write_request_on_a_read_only_entry_is_never_a_writable_alias',
	({ w, address }) => {
		const length = BigInt(PAGES) * PAGE;
		ASSERT_EQ(userMprotect(w.task, address, length, PROT_READ), 0);
		const dma_dev = w.pdev('NIC0').dev;
		// A VMA without write permission: an error before anything moves.
		const denied = w.rangeFault(address, PAGES, { dma_dev, default_flags: WRITE });
		EXPECT_EQ(denied.ret, -EPERM);
		EXPECT_EQ(w.gpu0.counters.migrateToRam, 0);

		ASSERT_EQ(userMprotect(w.task, address, length, PROT_READ | PROT_WRITE), 0);
		const read = w.rangeFault(address, PAGES, { dma_dev, default_flags: FAULT });
		ASSERT_EQ(read.ret, 0);
		EXPECT_EQ(kinds(read.pfns), eight('alias'));
		for (const word of read.pfns) EXPECT_EQ(word & HMM_PFN_WRITE, 0n);
		const write = w.rangeFault(address, PAGES, { dma_dev, default_flags: WRITE });
		ASSERT_EQ(write.ret, 0);
		EXPECT_EQ(kinds(write.pfns), eight('ram'));
		for (const word of write.pfns) EXPECT_TRUE((word & HMM_PFN_WRITE) !== 0n);
	},
);

TEST_F(private_dma_pfn, 'F31_owner_path_returns_read_only_without_an_error', ({ w, address }) => {
	ASSERT_EQ(userMprotect(w.task, address, BigInt(PAGES) * PAGE, PROT_READ), 0);
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dev_private_owner: w.gpu0,
		default_flags: WRITE,
	});
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('private'));
	for (const word of pfns) EXPECT_EQ(word & HMM_PFN_WRITE, 0n);
});

TEST_F(private_dma_pfn, 'F27_a_requester_on_no_pci_bus_is_not_supported', ({ w, address }) => {
	const { ret, pfns } = w.rangeFault(address, PAGES, {
		dma_dev: w.soc0,
		default_flags: FAULT,
	});
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('ram'));
	EXPECT_EQ(w.gpu0.counters.migrateToRam, PAGES);
});

TEST_F(
	private_dma_pfn,
	'F27_a_platform_child_of_a_pci_device_is_not_supported',
	({ w, address }) => {
		const child = { ...w.soc0, parent: w.pdev('NIC0').dev };
		const { ret, pfns } = w.rangeFault(address, PAGES, {
			dma_dev: child,
			default_flags: FAULT,
		});
		ASSERT_EQ(ret, 0);
		EXPECT_EQ(kinds(pfns), eight('ram'));
	},
);

TEST_F(private_dma_pfn, 'a_provider_reaches_itself', ({ w, address }) => {
	const { ret, pfns } = w.rangeFault(address, PAGES, { dma_dev: w.pdev('GPU0').dev });
	ASSERT_EQ(ret, 0);
	EXPECT_EQ(kinds(pfns), eight('alias'));
});

TEST_F(private_dma_pfn, 'F11_an_alias_leads_to_provider_bar_and_offset', ({ w, address }) => {
	const { pfns } = w.rangeFault(address, PAGES, { dma_dev: w.pdev('NIC0').dev });
	const window = w.gpu0.window!;
	for (let i = 0; i < PAGES; i++) {
		const alias = hmm_pfn_to_page(pfns[i]!);
		const { mem, pgmap } = to_p2p_pgmap(page_pgmap(alias));
		EXPECT_EQ(pci_name(to_pci_dev(mem!.owner)), pci_name(w.pdev('GPU0')));
		EXPECT_EQ(page_to_pfn(alias) - (pgmap.ranges[0]!.start >> 12n), BigInt(i));
		EXPECT_EQ(pgmap.ranges[0]!.start >> 12n, BigInt(window.firstPfn));
	}
	ASSERT_TRUE((pfns[0]! & HMM_PFN_FLAGS()) !== 0n);
});

TEST_F(
	private_dma_pfn,
	'a_cpu_touch_after_the_alias_was_given_brings_the_page_home',
	({ w, address }) => {
		const request = { dma_dev: w.pdev('NIC0').dev, default_flags: FAULT };
		w.rangeFault(address, PAGES, request);
		ASSERT_TRUE(userRead(w.task, address + PAGE, 8) instanceof Uint8Array);
		const { ret, pfns } = w.rangeFault(address, PAGES, request);
		ASSERT_EQ(ret, 0);
		EXPECT_EQ(kinds(pfns), 'alias ram alias alias alias alias alias alias');
		EXPECT_FALSE(kinds(pfns).includes('private'));
	},
);

function turnOff(): void {
	const w = world();
	w.features = Object.freeze({ ...w.features, p2p_op_dma_dev: false });
}
