// SPDX-License-Identifier: GPL-2.0-only
/**
 * ZONE_DEVICE: device memory that has struct pages.
 *
 * Guarantee: a page of a pagemap is valid from memremap_pages() to memunmap_pages(), which waits
 * until every page is idle; an idle page has the reference count of its kind and release, and costs
 * nothing.
 * Mechanism: a range in the memory map with the pagemap and the idle count; sections appear when a
 * page is touched. The pagemap's reference counts its idle pages (all but private and coherent,
 * taken in bulk) or its pages in use (private and coherent, taken one by one).
 * Duty: drivers allocate private and coherent pages with zone_device_page_init() and hear of the
 * last put by folio_free (v6.12: page_free).
 *
 * ```
 *   idle count          v6.12   v7.3      pagemap reference held by
 *   PRIVATE, COHERENT     0      0        each page in use
 *   FS_DAX                1      0        each page
 *   GENERIC               1      1        each page
 *   PCI_P2PDMA            1      0        each page
 *
 *   PFNs     | RAM | hole | pgmap A: ranges[0] | hole | pgmap A: ranges[1] | pgmap B |
 *                           ^ 2 MiB aligned (one subsection)
 * ```
 *
 * The kernel's one file is a folder here:
 *
 * | file | functions |
 * | --- | --- |
 * | pagemap.ts | memremap_pages, memunmap_pages, devm_ forms, get_dev_pagemap, put_dev_pagemap |
 * | page.ts | zone_device_page_init, free_zone_device_folio, put_devmap_managed_folio_refs, folio data |
 *
 * @kernel mm/memremap.c
 */
export {
	folio_set_zone_device_data,
	folio_zone_device_data,
	free_zone_device_folio,
	put_devmap_managed_folio_refs,
	zone_device_folio_init,
	zone_device_page_init,
	zone_device_private_split_cb,
} from './memremap/page.ts';
export {
	devm_memremap_pages,
	devm_memunmap_pages,
	get_dev_pagemap,
	idleCount,
	memremap_compat_align,
	memremap_pages,
	memunmap_pages,
	pgmap_pfn_valid,
	put_dev_pagemap,
	reportPagemapsLeft,
} from './memremap/pagemap.ts';
