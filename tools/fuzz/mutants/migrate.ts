// SPDX-License-Identifier: GPL-2.0-only
/** Mutants of migration to and from devices, and of device pages. */
import type { Mutant } from './mutant.ts';

/** Bugs of mm/migrate_device.c, mm/memremap.c and the fault on a device page. */
export const migrateMutants: readonly Mutant[] = [
	{
		name: 'private-fault-spins',
		bug: 'mm: Fix a hmm_range_fault() livelock / starvation problem (7.0, b570f37a2ce4)',
		does: 'a fault on a private page that is locked returns at once, and is tried again',
		edits: [
			{
				file: 'mm/memory/swap_page.ts',
				old: 'yield* pte_unmap(vmf.pte!);\n\t\tyield* softleaf_entry_wait_on_locked(entry, vmf.ptl!);',
				new: 'yield* pte_unmap_unlock(vmf.pte!, vmf.ptl);',
			},
		],
		unseen: 'interleaving: between calls no page is locked',
	},
	{
		name: 'private-fault-no-reference',
		bug: 'mm/memory.c: fix race when faulting a device private page (6.1, 16ce101db85d)',
		does: "the driver's migrate_to_ram() is called for a page that nobody holds",
		edits: [
			{
				file: 'mm/memory/swap_page.ts',
				old: 'folio_get(f);\n\tyield* unmapFaultEntry(vmf);',
				new: 'yield* unmapFaultEntry(vmf);',
			},
			{
				file: 'mm/memory/swap_page.ts',
				old: 'if (locks) yield* folio_unlock(after);\n\tyield* folio_put(after);',
				new: '',
			},
			{
				file: 'lib/test_hmm/migrate.ts',
				old: 'args.fault_page = touched;',
				new: '',
			},
		],
		unseen: 'interleaving: a second CPU takes the page away',
	},
	{
		name: 'idle-page-taken',
		bug: 'mm: free device private pages have zero refcount (6.1)',
		does: 'a device that is emptied takes its idle pages for pages in use',
		edits: [
			{
				file: 'mm/migrate_device/range.ts',
				old: 'if (!folio_try_get(f)) return 0n;',
				new: 'f.page._refcount++;',
			},
		],
	},
	{
		name: 'pagemap-no-reference',
		bug: 'mm/memremap.c: take a pgmap reference on page allocation (6.1)',
		does: 'a device page in use does not keep its pagemap',
		edits: [
			{
				file: 'mm/memremap/page.ts',
				old: 'percpu_ref_tryget_many(pgmap.ref!, 1 << order)',
				new: 'percpu_ref_tryget_many(pgmap.ref!, 0)',
			},
		],
	},
	{
		name: 'migrate-late-flush',
		bug: 'mm/migrate_device.c: flush TLB while holding PTL (6.0)',
		does: 'the TLB is flushed when the page table is unlocked already',
		edits: [
			{
				file: 'mm/migrate_device/collect.ts',
				old: 'if (c.unmapped !== 0) yield* flush_tlb_range(c.vma, start, end);\n\t\t\tyield* pte_unmap_unlock(first, ptl.value);',
				new: 'yield* pte_unmap_unlock(first, ptl.value);\n\t\t\tif (c.unmapped !== 0) yield* flush_tlb_range(c.vma, start, end);',
			},
		],
		unseen: 'interleaving: a CPU writes between unlock and flush',
	},
	{
		name: 'migrate-no-flush',
		bug: 'mm/migrate_device.c: flush TLB while holding PTL (6.0), and no flush at all',
		does: 'a CPU that has a translation of a migrated page goes on with it',
		edits: [
			{
				file: 'mm/migrate_device/collect.ts',
				old: 'if (c.unmapped !== 0) yield* flush_tlb_range(c.vma, start, end);\n\t\t\tyield* pte_unmap_unlock(first, ptl.value);',
				new: 'yield* pte_unmap_unlock(first, ptl.value);',
			},
		],
	},
	{
		name: 'migrate-dirty-lost',
		bug: 'mm/migrate_device.c: copy pte dirty bit to page (6.0)',
		does: 'that a page was written is forgotten on its way to a device',
		edits: [
			{
				file: 'mm/migrate_device/collect.ts',
				old: 'if (pte_present(pte) && pte_dirty(pte)) yield* folio_mark_dirty(f);',
				new: '',
			},
		],
	},
	{
		name: 'finalize-free-page-on-lru',
		bug: "mm/migrate_device: don't add folio to be freed to LRU in migrate_device_finalize() (6.14)",
		does: 'a destination that is not needed is put on the LRU and then freed',
		edits: [
			{
				file: 'mm/migrate_device/pages.ts',
				old: 'if (dst !== null) yield* release(dst, fault_folio);\n\t\t\tdst = src;',
				new: 'if (dst !== null && !folio_is_zone_device(dst)) folio_add_lru(dst);\n\t\t\tif (dst !== null) yield* release(dst, fault_folio);\n\t\t\tdst = src;',
			},
		],
		unseen: 'interleaving: somebody takes a reference meanwhile',
	},
	{
		name: 'device-folio-stale-tails',
		bug: 'mm/zone_device: reinitialize large zone device private folios (7.0, 12b2285bf3d1)',
		does: 'of a new device folio only the first page is made new',
		edits: [
			{
				file: 'mm/memremap/page.ts',
				old: 'for (let i = 0; i < 1 << order; i++) {\n\t\tconst p = ',
				new: 'for (let i = 0; i < 1; i++) {\n\t\tconst p = ',
			},
		],
		unseen: 'the driver uses a freed huge page only as a whole',
	},
	{
		name: 'pagemap-shared-reference',
		bug: 'mm/devm_memremap_pages: fix final page put race (5.3, 50f44ee7248a)',
		does: 'two pagemaps of a device share a reference count',
		edits: [
			{
				file: 'mm/memremap/pagemap.ts',
				old: 'const ref = (pgmap.ref = new percpu_ref(pgmap));',
				new: 'const ref = (pgmap.ref = ((pgmap.owner ?? pgmap) as { ref: percpu_ref | null }).ref ??= new percpu_ref(pgmap));',
			},
		],
	},
	{
		name: 'finalize-without-pages',
		bug: '7.3: migrate_vma_finalize() with destinations, but without migrate_vma_pages(), leaves the migration entries',
		does: 'the driver finds out that it cannot copy when it has filled in its destinations',
		edits: [
			{
				file: 'lib/test_hmm/migrate.ts',
				old: 'if (failsOnce(self)) return null;',
				new: '',
			},
			{
				file: 'lib/test_hmm/migrate.ts',
				old: 'copy_highpage(nth_page(dpage, k), nth_page(spage, k));\n\t}\n\treturn nr;',
				new: 'copy_highpage(nth_page(dpage, k), nth_page(spage, k));\n\t}\n\treturn failsOnce(self) ? -1 : nr;',
			},
		],
	},
	{
		name: 'split-of-one-process',
		bug: '7.3: migrate_vma_split_unmapped_folio() splits the huge entry of one process, not of all that share the page',
		does: 'a huge page that two processes share by fork is split on its way to a device in one of them',
		edits: [
			{
				file: 'mm/migrate_device/huge.ts',
				old: "if (feature('fix_s29')) yield* splitEntries(f);",
				new: '',
			},
		],
	},
];
