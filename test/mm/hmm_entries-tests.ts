// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: what hmm_range_fault() makes of each kind of page-table entry, as a snapshot, for a read
 * request and for a write request. Method: one entry of the kind in a range of one page, so that
 * nothing else is faulted; what mm/ cannot make is put in by hand. Upper levels: huge_entries.
 */
import {
	_PAGE_DEVMAP,
	_PAGE_PRESENT,
	_PAGE_PROTNONE,
	_PAGE_SPECIAL,
	_PAGE_UFFD_WP,
} from '../../include/asm/pgtable_types.ts';
import { EAGAIN, EBUSY, EFAULT, ENOMEM, EPERM } from '../../include/linux/errno.ts';
import { HMM_PFN_REQ_FAULT, HMM_PFN_REQ_WRITE, hmm_pfn_to_page } from '../../include/linux/hmm.ts';
import {
	PROT_EXEC,
	PROT_NONE,
	PROT_READ,
	PROT_WRITE,
	VM_IO,
	VM_MIXEDMAP,
	VM_PFNMAP,
	VM_WRITE,
} from '../../include/linux/mm.ts';
import { type page, page_folio, VM_FAULT_OOM } from '../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../include/linux/mmzone.ts';
import { is_device_private_page } from '../../include/linux/page-flags.ts';
import { PAGE_READONLY, PAGE_SHARED, pfn_pte, pte_wrprotect } from '../../include/linux/pgtable.ts';
import {
	make_device_exclusive_entry,
	make_hwpoison_entry,
	make_pte_marker_entry,
	make_readable_device_exclusive_entry,
	make_readable_device_private_entry,
	PTE_MARKER_GUARD,
	PTE_MARKER_POISONED,
	PTE_MARKER_UFFD_WP,
	swp_entry,
	swp_entry_to_pte,
} from '../../include/linux/swapops.ts';
import type { ProfileName } from '../../include/sim/feature.ts';
import { run, spawn } from '../../kernel/sched/core.ts';
import { folio_lock, folio_unlock } from '../../mm/filemap.ts';
import { insertPfn, zero_pfn } from '../../mm/memory.ts';
import { remove_migration_ptes } from '../../mm/migrate.ts';
import { mmap_write_lock, mmap_write_unlock } from '../../mm/mmap_lock.ts';
import { folio_remove_rmap_pte, try_to_migrate } from '../../mm/rmap.ts';
import { folio_get, folio_put } from '../../mm/swap.ts';
import { userMprotect, userRead64, userWrite64 } from '../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../kselftest_harness.ts';
import { at, HmmWorld, PAGE, RW } from './hmm_world.ts';
import { TestDevice, toDevice } from './mm_world.ts';

const READ = { default_flags: HMM_PFN_REQ_FAULT };
const WRITE = { default_flags: HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE };

interface Self {
	w: HmmWorld;
	dev: TestDevice;
}

const entries = FIXTURE<Self, { profile: ProfileName }>(
	'hmm_entries',
	() => ({ w: null as unknown as HmmWorld, dev: null as unknown as TestDevice }),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
);
FIXTURE_VARIANT_ADD(entries, 'v6_12', { profile: 'v6.12' });
FIXTURE_VARIANT_ADD(entries, 'v7_3', { profile: 'v7.3' });

FIXTURE_SETUP(entries, (self, { profile }) => {
	self.w = new HmmWorld(profile);
	self.dev = new TestDevice();
	run(self.dev.probe());
	// page 0 is there, so that page 2 has a table; what is tested is page 2
	self.w.map(0, 4);
	ASSERT_EQ(null, userWrite64(self.w.task, at(0), 1n));
});

FIXTURE_TEARDOWN(entries, ({ w, dev }) => {
	w.close();
	run(dev.remove());
});

/** Page 2 written by the process. */
function written(w: HmmWorld): bigint {
	ASSERT_EQ(null, userWrite64(w.task, at(2), 2n));
	return w.pfn(2);
}

/** PFN as wordText() shows it. */
const hex = (pfn: bigint): string => pfn.toString(16);

TEST_F(entries, 'no_vma_is_an_error_word_or_EFAULT', ({ w }) => {
	EXPECT_STREQ('E', w.call(9, 1).text);
	const { ret, faults, text } = w.call(9, 1, READ);
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(0, faults);
	EXPECT_STREQ('-', text);
	EXPECT_EQ(-EFAULT, w.call(9, 1, WRITE).ret);
});

TEST_F(entries, 'gap_counts_only_if_one_of_its_own_pages_was_asked_for', ({ w }) => {
	// pages 3 and 4, the second is in the gap
	const words = BigUint64Array.of(HMM_PFN_REQ_FAULT, 0n);
	const { ret, flags } = w.call(3, 2, { words, pfn_flags_mask: (1n << 64n) - 1n });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('V E', flags);
	const inGap = BigUint64Array.of(0n, HMM_PFN_REQ_FAULT);
	EXPECT_EQ(-EFAULT, w.call(3, 2, { words: inGap, pfn_flags_mask: HMM_PFN_REQ_FAULT }).ret);
});

for (const [name, flag] of [
	['io', VM_IO],
	['pfnmap', VM_PFNMAP],
] as const)
	TEST_F(entries, `vma_${name}_is_an_error_word_or_EFAULT`, ({ w }) => {
		w.map(6, 2);
		const vma = w.vma(6);
		vma.vm_flags |= flag;
		const { ret, flags } = w.call(3, 4);
		EXPECT_EQ(0, ret);
		EXPECT_STREQ('- E*3', flags);
		// its neighbours do not matter
		EXPECT_EQ(-EFAULT, w.call(6, 1, READ).ret);
		EXPECT_EQ(0, w.call(6, 1, { default_flags: HMM_PFN_REQ_WRITE }).ret);
		vma.vm_flags &= ~flag;
	});

for (const [name, prot] of [
	['none', PROT_NONE],
	['write', PROT_WRITE],
	['exec', PROT_EXEC],
] as const)
	TEST_F(entries, `vma_with_${name}_alone_is_an_error_word_or_EFAULT`, ({ w }) => {
		written(w);
		EXPECT_EQ(0, userMprotect(w.task, at(2), PAGE, prot));
		EXPECT_STREQ('E', w.call(2, 1).text);
		EXPECT_EQ(-EFAULT, w.call(2, 1, READ).ret);
		EXPECT_STREQ('VW - E -', w.call(0, 4).flags);
	});

TEST_F(entries, 'empty_entry_is_0_or_is_faulted', ({ w }) => {
	EXPECT_STREQ('-', w.call(2, 1).text);
	const read = w.call(2, 1, READ);
	EXPECT_EQ(0, read.ret);
	EXPECT_STREQ(`V@${hex(zero_pfn)}`, read.text);
	EXPECT_EQ(1, read.faults);
	EXPECT_STREQ('', read.events);
	EXPECT_EQ(0, w.call(3, 1, WRITE).ret);
	EXPECT_STREQ('w.rw', w.ptes(0, 4));
});

TEST_F(entries, 'uffd_wp_marker_is_as_an_empty_entry', ({ w }) => {
	w.setPte(2, swp_entry_to_pte(make_pte_marker_entry(PTE_MARKER_UFFD_WP)));
	EXPECT_STREQ('-', w.call(2, 1).text);
	// nobody watches the VMA: the fault removes the marker, the next one maps a page
	const { ret, flags, faults } = w.call(2, 1, READ);
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('V', flags);
	EXPECT_EQ(2, faults);
	w.keep();
});

for (const [name, marker] of [
	['guard', PTE_MARKER_GUARD],
	['poison', PTE_MARKER_POISONED],
] as const)
	TEST_F(entries, `${name}_marker_is_0_or_EFAULT`, ({ w }, { profile }) => {
		w.setPte(2, swp_entry_to_pte(make_pte_marker_entry(marker)));
		EXPECT_STREQ('-', w.call(2, 1).text);
		// v6.12 asks the fault handler, which refuses; v7.3 knows that there is no point in it
		const { ret, faults } = w.call(2, 1, READ);
		EXPECT_EQ(-EFAULT, ret);
		EXPECT_EQ(0, faults);
		EXPECT_EQ(0, w.walkPmd(2, 1, READ).required);
		// so there the VMA's rights are looked at first
		w.vma().vm_flags &= ~VM_WRITE;
		EXPECT_EQ(profile === 'v7.3' ? -EFAULT : -EPERM, w.call(2, 1, WRITE).ret);
		w.vma().vm_flags |= VM_WRITE;
	});

TEST_F(entries, 'own_private_page_is_returned_whatever_is_asked', ({ w, dev }) => {
	written(w);
	ASSERT_EQ(
		1,
		w.run(() => toDevice(dev, w.task.mm!, at(2), 1)),
	);
	for (const request of [{}, READ, WRITE]) {
		const { ret, words, flags, faults } = w.call(2, 1, {
			...request,
			dev_private_owner: dev,
		});
		EXPECT_EQ(0, ret);
		EXPECT_STREQ('VW', flags);
		EXPECT_TRUE(is_device_private_page(hmm_pfn_to_page(words[0]!)));
		EXPECT_EQ(0, faults);
	}
});

TEST_F(entries, 'own_private_page_that_is_read_only_stays_so', ({ w, dev }) => {
	written(w);
	ASSERT_EQ(
		1,
		w.run(() => toDevice(dev, w.task.mm!, at(2), 1)),
	);
	EXPECT_EQ(0, userMprotect(w.task, at(2), PAGE, PROT_READ));
	EXPECT_EQ(0, userMprotect(w.task, at(2), PAGE, RW));
	const { ret, flags, faults } = w.call(2, 1, { ...WRITE, dev_private_owner: dev });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('V', flags);
	EXPECT_EQ(0, faults);
});

for (const [name, owner] of [
	['no_owner', null],
	['another_owner', {}],
] as const)
	TEST_F(entries, `foreign_private_page_is_0_or_comes_back_for_${name}`, ({ w, dev }) => {
		written(w);
		ASSERT_EQ(
			1,
			w.run(() => toDevice(dev, w.task.mm!, at(2), 1)),
		);
		EXPECT_STREQ('-', w.call(2, 1, { dev_private_owner: owner }).text);
		EXPECT_EQ(0, dev.faults);
		// its return invalidates the very range: the first call must start over
		const first = w.call(2, 1, { ...READ, dev_private_owner: owner });
		EXPECT_EQ(-EBUSY, first.ret);
		EXPECT_STREQ('6 2-3', first.events);
		const { ret, flags, faults } = w.call(2, 1, READ);
		EXPECT_EQ(0, ret);
		EXPECT_STREQ('VW', flags);
		EXPECT_EQ(0, faults);
		EXPECT_EQ(1, dev.faults);
		EXPECT_EQ(2n, userRead64(w.task, at(2)));
	});

TEST_F(entries, 'private_page_whose_device_fails_is_an_error', ({ w, dev }, { profile }) => {
	written(w);
	ASSERT_EQ(
		1,
		w.run(() => toDevice(dev, w.task.mm!, at(2), 1)),
	);
	dev.failure = VM_FAULT_OOM;
	EXPECT_EQ(profile === 'v7.3' ? -ENOMEM : -EFAULT, w.call(2, 1, READ).ret);
	dev.failure = 0;
});

TEST_F(entries, 'swap_entry_is_0_or_is_faulted', ({ w }) => {
	// there are no swap files: the handler says that the entry is bad
	expectReport(/Bad page map/);
	w.setPte(2, swp_entry_to_pte(swp_entry(0, 9n)));
	EXPECT_STREQ('-', w.call(2, 1).text);
	EXPECT_EQ(-EFAULT, w.call(2, 1, READ).ret);
});

TEST_F(entries, 'device_exclusive_page_is_0_or_is_taken_back', ({ w }, { profile }) => {
	const pfn = written(w);
	const p = pfn_to_page(pfn);
	const entry = w.pte(2);
	entry.value = swp_entry_to_pte(make_device_exclusive_entry(pfn));
	// v6.12 does not count the entry as a mapping
	if (profile === 'v6.12') w.run(() => folio_remove_rmap_pte(page_folio(p), p, w.vma()));
	EXPECT_STREQ('-', w.call(2, 1).text);
	const first = w.call(2, 1, READ);
	EXPECT_EQ(-EBUSY, first.ret);
	EXPECT_STREQ(profile === 'v7.3' ? '1 2-3' : '7 2-3', first.events);
	EXPECT_STREQ(`VW@${hex(pfn)}`, w.call(2, 1, READ).text);
	EXPECT_EQ(2n, userRead64(w.task, at(2)));
});

TEST_F(
	entries,
	'read_only_exclusive_page_of_v6_12_is_taken_back_read_only',
	({ w }, { profile }) => {
		const pfn = written(w);
		const p = pfn_to_page(pfn);
		const word = swp_entry_to_pte(make_readable_device_exclusive_entry(pfn));
		if (profile === 'v7.3') {
			// no such kind: the number is that of the markers
			w.setPte(2, word);
			EXPECT_STREQ('-', w.call(2, 1).text);
			return;
		}
		w.pte(2).value = word;
		w.run(() => folio_remove_rmap_pte(page_folio(p), p, w.vma()));
		EXPECT_EQ(-EBUSY, w.call(2, 1, READ).ret);
		EXPECT_STREQ(`V@${hex(pfn)}`, w.call(2, 1, READ).text);
	},
);

/** Page 2 between try_to_migrate() and remove_migration_ptes(), until a thread ends that. */
function migrating(w: HmmWorld): page {
	const p = pfn_to_page(written(w));
	const f = page_folio(p);
	w.run(function* () {
		folio_get(f);
		yield* folio_lock(f);
		yield* try_to_migrate(f, 0);
	});
	return p;
}

function endMigration(w: HmmWorld, p: page, first = () => {}): void {
	const f = page_folio(p);
	spawn('migrator', function* () {
		first();
		// nobody else unlocks it: by now somebody waits, or nobody ever will
		yield* remove_migration_ptes(f, f, 0);
		yield* folio_unlock(f);
		yield* folio_put(f);
	});
}

TEST_F(entries, 'migration_entry_is_0_or_waited_for', ({ w }) => {
	const p = migrating(w);
	EXPECT_STREQ('-', w.call(2, 1).text);
	endMigration(w, p);
	const { ret, flags, faults } = w.call(2, 1, READ);
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW', flags);
	// waited, not faulted
	EXPECT_EQ(0, faults);
});

TEST_F(entries, 'walk_goes_on_behind_a_migration_where_it_stopped', ({ w }) => {
	const p = migrating(w);
	// the words before it are final: that page 0 is gone meanwhile is the notifier's business
	const before = w.pte(0);
	endMigration(w, p, () => w.set(before, 0n));
	const words = BigUint64Array.of(HMM_PFN_REQ_FAULT, 0n, HMM_PFN_REQ_FAULT, 0n);
	const { ret, flags, faults } = w.call(0, 4, { words, pfn_flags_mask: HMM_PFN_REQ_FAULT });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ('VW - VW -', flags);
	EXPECT_EQ(0, faults);
});

TEST_F(entries, 'hwpoison_entry_is_0_or_EFAULT', ({ w }) => {
	w.setPte(2, swp_entry_to_pte(make_hwpoison_entry(0x99n)));
	EXPECT_STREQ('-', w.call(2, 1).text);
	const { ret, faults, words } = w.call(2, 1, READ);
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(0, faults);
	EXPECT_EQ(0n, words[0]!);
});

TEST_F(entries, 'present_page_gives_its_pfn_and_rights', ({ w }) => {
	const pfn = written(w);
	for (const request of [{}, READ, WRITE]) {
		const { ret, text, faults } = w.call(2, 1, request);
		EXPECT_EQ(0, ret);
		EXPECT_STREQ(`VW@${hex(pfn)}`, text);
		EXPECT_EQ(0, faults);
	}
});

TEST_F(entries, 'read_only_page_is_enough_for_reading_and_faulted_for_writing', ({ w }) => {
	const pfn = written(w);
	w.set(w.pte(2), pte_wrprotect(w.pte(2).value));
	EXPECT_STREQ(`V@${hex(pfn)}`, w.call(2, 1, READ).text);
	const { ret, text, faults, events } = w.call(2, 1, WRITE);
	EXPECT_EQ(0, ret);
	// it is the process's own: used again, nobody is invalidated
	EXPECT_STREQ(`VW@${hex(pfn)}`, text);
	EXPECT_EQ(1, faults);
	EXPECT_STREQ('', events);
});

TEST_F(entries, 'write_request_in_a_read_only_vma_is_EPERM', ({ w }) => {
	written(w);
	EXPECT_EQ(0, userMprotect(w.task, at(2), 2n * PAGE, PROT_READ));
	for (const page of [2, 3]) {
		const { ret, faults } = w.call(page, 1, WRITE);
		EXPECT_EQ(-EPERM, ret);
		EXPECT_EQ(0, faults);
	}
	EXPECT_EQ(0, w.call(2, 1, READ).ret);
});

TEST_F(entries, 'protnone_entry_has_a_pfn_and_is_not_valid', ({ w }, { profile }) => {
	const pfn = written(w);
	w.set(w.pte(2), (w.pte(2).value & ~_PAGE_PRESENT) | _PAGE_PROTNONE);
	EXPECT_STREQ(`@${hex(pfn)}`, w.call(2, 1).text);
	// a read request faults it; what the walk of the one pmd answers tells
	const { ret, required } = w.walkPmd(2, 1, READ);
	EXPECT_EQ(profile === 'v7.3' ? -EAGAIN : -EBUSY, ret);
	if (profile === 'v7.3') EXPECT_EQ(1, required);
});

TEST_F(entries, 'special_entry_without_page_is_an_error_word', ({ w }) => {
	w.vma().vm_flags |= VM_MIXEDMAP;
	const { mm } = w.task;
	const inserted = w.run(function* () {
		yield* mmap_write_lock(mm!);
		const err = yield* insertPfn(w.vma(), at(2), 0xfed00n);
		yield* mmap_write_unlock(mm!);
		return err;
	});
	ASSERT_EQ(0, inserted);
	EXPECT_STREQ('E', w.call(2, 1).text);
	// the ordinary need is satisfied, and still nothing can be handed out
	const { ret, faults } = w.call(2, 1, READ);
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(0, faults);
});

TEST_F(entries, 'special_devmap_entry_is_a_page_in_v6_12_only', ({ w }, { profile }) => {
	w.vma().vm_flags |= VM_MIXEDMAP;
	const word = pfn_pte(0xfed00n, PAGE_SHARED) | _PAGE_SPECIAL | _PAGE_DEVMAP;
	w.setPte(2, word);
	EXPECT_STREQ(profile === 'v6.12' ? 'VW@fed00' : 'E', w.call(2, 1).text);
	EXPECT_EQ(profile === 'v6.12' ? 0 : -EFAULT, w.call(2, 1, READ).ret);
});

TEST_F(entries, 'mixedmap_page_with_struct_page_is_a_page', ({ w }) => {
	const pfn = written(w);
	w.vma().vm_flags |= VM_MIXEDMAP;
	EXPECT_STREQ(`VW@${hex(pfn)}`, w.call(2, 1, WRITE).text);
});

TEST_F(entries, 'zero_page_is_a_readable_page_and_copied_for_writing', ({ w }) => {
	EXPECT_EQ(0n, userRead64(w.task, at(2)));
	const read = w.call(2, 1, READ);
	EXPECT_STREQ(`V@${hex(zero_pfn)}`, read.text);
	EXPECT_EQ(0, read.faults);
	const first = w.call(2, 1, WRITE);
	// the copy invalidates the range itself
	EXPECT_EQ(-EBUSY, first.ret);
	EXPECT_STREQ('1 2-3', first.events);
	EXPECT_EQ(1, first.faults);
	const again = w.call(2, 1, WRITE);
	EXPECT_EQ(0, again.ret);
	EXPECT_STREQ('VW', again.flags);
	EXPECT_EQ(0, again.faults);
});

TEST_F(entries, 'soft_bits_and_nx_of_an_entry_do_not_show', ({ w }) => {
	const word = pfn_pte(0xab_cdef_0123n, PAGE_READONLY) | _PAGE_UFFD_WP;
	w.setPte(2, word);
	EXPECT_STREQ('V@abcdef0123', w.call(2, 1).text);
	EXPECT_FALSE((w.call(2, 1).words[0]! & (1n << 62n)) !== 0n);
});

TEST_F(entries, 'private_entry_made_by_hand_needs_its_pagemap', ({ w, dev }) => {
	// the entry alone is looked at, no reference of the page is taken
	const pfn = dev.base + 8n;
	w.setPte(2, swp_entry_to_pte(make_readable_device_private_entry(pfn)));
	const { ret, text } = w.call(2, 1, { ...WRITE, dev_private_owner: dev });
	EXPECT_EQ(0, ret);
	EXPECT_STREQ(`V@${hex(pfn)}`, text);
	EXPECT_EQ(0, pfn_to_page(pfn)._refcount);
});
