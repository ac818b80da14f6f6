// SPDX-License-Identifier: GPL-2.0-only
/**
 * Bad memory of devices.
 *
 * ```
 *   op of the pagemap                                 what it says, unless -EOPNOTSUPP; else:
 *   page that no file and no process has              -EBUSY
 *   device-private, device-coherent                   -ENXIO: nobody knows how to keep the device from it
 *   page of a file                                    PG_hwpoison, unmapped wherever it is, who uses it is told
 * ```
 *
 * @kernel mm/memory-failure.c
 */
import { EBUSY, ENXIO, EOPNOTSUPP } from '../../include/linux/errno.ts';
import {
	type dev_pagemap,
	MEMORY_DEVICE_COHERENT,
	MEMORY_DEVICE_PRIVATE,
} from '../../include/linux/memremap.ts';
import { address_space, type page, page_folio } from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { folio_nr_pages, PG_hwpoison } from '../../include/linux/page-flags.ts';
import { type int, PAGE_SIZE, type unsigned_long } from '../../include/linux/types.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { unmap_mapping_range } from '../memory/unmap_mapping.ts';
import { pgmap_pfn_valid, put_dev_pagemap } from '../memremap.ts';
import { collect_procs } from './collect.ts';
import { kill_proc } from './kill.ts';

function* mf_generic_kill_procs(p: page, pgmap: dev_pagemap): Sim<int> {
	const f = page_folio(p);
	const { mapping } = f;
	if (mapping === null) return -EBUSY;
	if (pgmap.type === MEMORY_DEVICE_PRIVATE || pgmap.type === MEMORY_DEVICE_COHERENT)
		return -ENXIO;
	if (!(mapping instanceof address_space)) return -EBUSY;
	touch('atomic', f, 'flags');
	f.flags |= PG_hwpoison;
	// no other page can take its place: whoever uses the address is told
	const uses = yield* collect_procs(f, f.page);
	const length = BigInt(folio_nr_pages(f)) * PAGE_SIZE;
	yield* unmap_mapping_range(mapping, f.index * PAGE_SIZE, length, false);
	if (uses) kill_proc();
	return 0;
}

/**
 * Handle bad memory of a device.
 *
 * @param p - the page, whose reference was put already
 * @param pgmap - its pagemap, with a reference, which is put
 * @param flags - MF_* bits for the pagemap's op
 * @retval 0 it is out of use
 * @retval -ENXIO the pagemap's metadata, or memory that a device uses by itself
 * @retval -EBUSY nobody has it
 * @returns else what the pagemap's memory_failure() says
 * @context Process context. Sleeps.
 * @deviates the page, not its PFN; a page that is anonymous memory is -ENXIO: the releases take its
 *   anon_vma for the mapping of a file, and read beyond it before they come to that line
 * @kernel mm/memory-failure.c
 */
export function* memory_failure_dev_pagemap(p: page, flags: int, pgmap: dev_pagemap): Sim<int> {
	const pfn = page_to_pfn(p) as unsigned_long;
	let rc: int = -ENXIO;
	if (pgmap_pfn_valid(pgmap, pfn)) {
		rc = pgmap.ops?.memory_failure?.(pgmap, pfn, 1n, flags) ?? -EOPNOTSUPP;
		if (rc === -EOPNOTSUPP) rc = yield* mf_generic_kill_procs(p, pgmap);
	}
	put_dev_pagemap(pgmap);
	return rc;
}
