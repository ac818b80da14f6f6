// SPDX-License-Identifier: GPL-2.0-only
/** Mutants of the test driver, and of device-exclusive access. */
import type { Mutant } from './mutant.ts';

/** Bugs of lib/test_hmm.c and mm/rmap.c. */
export const driverMutants: readonly Mutant[] = [
	{
		name: 'close-without-evict',
		bug: 'lib: test_hmm: evict device pages on file close to avoid use-after-free (7.1)',
		does: 'a device file is closed, and private pages of its process stay',
		edits: [
			{
				file: 'lib/test_hmm.ts',
				old: 'for (const chunk of self.mdevice.devmem_chunks) yield* dmirror_device_evict_chunk(chunk);',
				new: '',
			},
		],
	},
	{
		name: 'exclusive-hugetlb',
		bug: 'mm/rmap: reject hugetlb folios in folio_make_device_exclusive() (6.15), and its sister in mm/gup',
		does: 'a hugetlb page is made exclusive as if it were a small one',
		edits: [
			{
				file: 'mm/device_exclusive.ts',
				old: 'if (!folio_test_anon(f) || folio_test_hugetlb(f)) return false;',
				new: 'if (!folio_test_anon(f)) return false;',
			},
			{
				file: 'mm/device_exclusive.ts',
				old: 'if (!folio_test_anon(f) || folio_test_hugetlb(f)) {',
				new: 'if (!folio_test_anon(f)) {',
			},
			{
				file: 'mm/gup/check.ts',
				old: 'if (gup_flags & FOLL_SPLIT_PMD && is_vm_hugetlb_page(vma)) return -EOPNOTSUPP;',
				new: '',
			},
		],
	},
];
