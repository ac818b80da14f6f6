// SPDX-License-Identifier: GPL-2.0-only
/** All cases of the kernel's hmm-tests, in the order in which the program runs them. */
import {
	anon_read,
	anon_read_multiple,
	anon_read_prot,
	anon_teardown,
	anon_write,
	anon_write_child,
	anon_write_child_shared,
	anon_write_huge,
	anon_write_hugetlbfs,
	anon_write_prot,
	file_read,
	file_write,
} from './anon.ts';
import { benchmark_thp_migration } from './benchmark.ts';
import type { CaseSelf, HmmCase, HmmFixture } from './case.ts';
import {
	migrate_anon_huge_empty,
	migrate_anon_huge_err,
	migrate_anon_huge_fault,
	migrate_anon_huge_free,
	migrate_anon_huge_zero,
	migrate_anon_huge_zero_err,
	migrate_partial_unmap_fault,
	migrate_remap_fault,
} from './huge.ts';
import {
	hmm_cow_in_device,
	migrate,
	migrate_fault,
	migrate_file_private,
	migrate_mixed,
	migrate_multiple,
	migrate_release,
	migrate_shared,
} from './migrate.ts';
import { hmm_gup_test } from './pinned.ts';
import {
	HMM_COHERENCE_DEVICE_ONE,
	HMM_COHERENCE_DEVICE_TWO,
	HMM_PRIVATE_DEVICE_ONE,
	HMM_PRIVATE_DEVICE_TWO,
} from './program.ts';
import {
	compound,
	double_map,
	exclusive,
	exclusive_cow,
	exclusive_mprotect,
	mixedmap,
	snapshot,
} from './snapshot.ts';
import { userfaultfd_read } from './userfault.ts';

/** A device is opened and closed. */
function open_close(_self: CaseSelf): void {}

/** Cases that give the device a huge page in 7.3. */
const huge: ReadonlySet<HmmCase['body']> = new Set([
	anon_write_child,
	migrate_anon_huge_empty,
	migrate_anon_huge_zero,
	migrate_anon_huge_free,
	migrate_anon_huge_fault,
	migrate_partial_unmap_fault,
	migrate_remap_fault,
	migrate_anon_huge_err,
	benchmark_thp_migration,
]);

function all(
	bodies: Readonly<Record<string, HmmCase['body']>>,
	since?: HmmCase['since'],
): HmmCase[] {
	return Object.entries(bodies).map(([name, body]) => ({
		name,
		body,
		huge: huge.has(body),
		...(since === undefined ? {} : { since }),
	}));
}

/** Cases with one device. */
const one: readonly HmmCase[] = [
	...all({
		open_close,
		anon_read,
		anon_read_prot,
		anon_write,
		anon_write_prot,
		anon_write_child,
		anon_write_child_shared,
		anon_write_huge,
		anon_write_hugetlbfs,
		file_read,
		file_write,
		migrate,
		migrate_file_private,
		migrate_fault,
		migrate_release,
		migrate_shared,
		migrate_multiple,
		anon_read_multiple,
		anon_teardown,
		mixedmap,
		compound,
		exclusive,
		exclusive_mprotect,
		exclusive_cow,
		hmm_gup_test,
		hmm_cow_in_device,
	}),
	...all(
		{
			migrate_anon_huge_empty,
			migrate_anon_huge_zero,
			migrate_anon_huge_free,
			migrate_anon_huge_fault,
			migrate_partial_unmap_fault,
			migrate_remap_fault,
			migrate_anon_huge_err,
			migrate_anon_huge_zero_err,
			benchmark_thp_migration,
			userfaultfd_read,
		},
		'v7.3',
	),
];

/** The program's two fixtures. */
export const fixtures: readonly HmmFixture[] = [
	{
		name: 'hmm',
		variants: {
			hmm_device_private: {
				device_number0: HMM_PRIVATE_DEVICE_ONE,
				device_number1: null,
			},
			hmm_device_coherent: {
				device_number0: HMM_COHERENCE_DEVICE_ONE,
				device_number1: null,
			},
		},
		cases: one,
	},
	{
		name: 'hmm2',
		variants: {
			hmm2_device_private: {
				device_number0: HMM_PRIVATE_DEVICE_ONE,
				device_number1: HMM_PRIVATE_DEVICE_TWO,
			},
			hmm2_device_coherent: {
				device_number0: HMM_COHERENCE_DEVICE_ONE,
				device_number1: HMM_COHERENCE_DEVICE_TWO,
			},
		},
		cases: all({ migrate_mixed, snapshot, double_map }),
	},
];
