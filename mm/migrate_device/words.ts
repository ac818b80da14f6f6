// SPDX-License-Identifier: GPL-2.0-only
/** Filling `src` and `dst` in step, a word a page. */
import type { migrate_vma } from '../../include/linux/migrate.ts';
import type { unsigned_long } from '../../include/linux/types.ts';

/**
 * Append one word.
 *
 * @param migrate - the migration being collected
 * @param mpfn - the word for src; dst gets 0
 */
export function append(migrate: migrate_vma, mpfn: unsigned_long): void {
	const at = Number(migrate.npages++);
	migrate.dst[at] = 0n;
	migrate.src[at] = mpfn;
}

/**
 * Append words of zero for [start, end).
 *
 * @param start - first address
 * @param end - exclusive
 * @param migrate - the migration being collected
 * @kernel mm/migrate_device.c
 */
export function migrate_vma_collect_skip(
	start: unsigned_long,
	end: unsigned_long,
	migrate: migrate_vma,
): 0 {
	const at = Number(migrate.npages);
	const n = Number((end - start) >> 12n);
	migrate.dst.fill(0n, at, at + n);
	migrate.src.fill(0n, at, at + n);
	migrate.npages += BigInt(n);
	return 0;
}
