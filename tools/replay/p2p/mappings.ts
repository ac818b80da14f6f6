// SPDX-License-Identifier: GPL-2.0-only
/**
 * Replays of the DMA API on P2P memory: scatterlists and single pages, direct and through an IOMMU.
 *
 * Addresses that a kernel chose are compared by what they mean: an IOVA by its offset in its range
 * and by what it translates to, one in the bounce buffer by lying there. All others are exact.
 */
import { formatHex } from '../../../arch/sim/description.ts';
import { iommu_iova_to_phys } from '../../../drivers/iommu/iommu.ts';
import { cachedMapType } from '../../../drivers/pci/p2pdma/cache.ts';
import { pci_p2pdma_distance } from '../../../drivers/pci/p2pdma/distance.ts';
import { mapTypeNumber } from '../../../drivers/pci/p2pdma/map_type.ts';
import { pci_p2pmem_virt_to_bus } from '../../../drivers/pci/p2pdma/p2pmem.ts';
import { page_to_virt } from '../../../include/asm/page.ts';
import { device } from '../../../include/linux/device.ts';
import { dma_to_phys } from '../../../include/linux/dma-direct.ts';
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE } from '../../../include/linux/dma-direction.ts';
import { dma_set_max_seg_size, dma_set_seg_boundary } from '../../../include/linux/dma-mapping.ts';
import type { iommu_domain } from '../../../include/linux/iommu.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { pfn_to_page, pfn_valid } from '../../../include/linux/mmzone.ts';
import {
	type scatterlist,
	sg_alloc_table,
	sg_dma_address,
	sg_dma_is_bus_address,
	sg_dma_len,
	sg_set_page,
	sg_table,
	sgEntries,
} from '../../../include/linux/scatterlist.ts';
import { GFP_KERNEL } from '../../../include/linux/types.ts';
import { feature } from '../../../include/sim/world.ts';
import {
	dma_map_page_attrs,
	dma_map_phys,
	dma_map_resource,
	dma_map_sg_attrs,
	dma_map_sgtable,
	dma_mapping_error,
	dma_unmap_page_attrs,
	dma_unmap_phys,
	dma_unmap_resource,
	dma_unmap_sg_attrs,
	dma_unmap_sgtable,
} from '../../../kernel/dma/mapping.ts';
import { swiotlb_find_pool } from '../../../kernel/dma/swiotlb.ts';
import type { Comparison } from '../report.ts';
import type { Shaped } from '../shape.ts';
import type {
	dmaShape,
	dmaSwiotlbShape,
	MappingRecord,
	mapPageShape,
	mapPageSwiotlbShape,
	PageMappingRecord,
	staleCacheShape,
	VariantRecord,
} from './records.ts';
import type { Rig } from './rig.ts';

const PAGE = 4096n;
const MASK_32 = '0xffffffff';
const MASK_64 = '0xffffffffffffffff';
/** ACS words of the steps of a stale_cache record. */
const ACS_REDIRECT = 0x0c;

/** The device that maps, with the limits that the record gives it. */
function mapper(rig: Rig, r: MappingRecord): device {
	const { client, client_kind } = r;
	const dev =
		client_kind === 0
			? rig.dev(client).dev
			: new device({
					init_name: 'platform',
					parent: client_kind === 1 ? rig.dev(client).dev : null,
				});
	dev.dma_mask = BigInt(r.dma_mask);
	dma_set_max_seg_size(dev, r.max_seg);
	dma_set_seg_boundary(dev, BigInt(r.seg_boundary));
	return dev;
}

function pageAt(rig: Rig, phys: bigint, what: string): page {
	const pfn = phys / PAGE;
	if (!pfn_valid(pfn)) rig.bad(`${what}: there is no memory at ${formatHex(phys)}`);
	return pfn_to_page(pfn);
}

/** The list of a record; P2P segments have their BARs registered. */
function makeList(rig: Rig, r: MappingRecord, found: Comparison): sg_table {
	const table = new sg_table();
	if (sg_alloc_table(table, r.in.length, GFP_KERNEL)) rig.bad('in: expected a segment');
	for (const [i, sg] of [...sgEntries(table.sgl, r.in.length)].entries()) {
		const { k, phys, len, p = -1, bar = -1, virt_to_bus } = r.in[i]!;
		if (k === 'p2p') rig.register(p, bar);
		const first = pageAt(rig, BigInt(phys), `in[${i}]`);
		sg_set_page(sg, first, len, Number(BigInt(phys) % PAGE));
		if (k === 'p2p' && virt_to_bus !== undefined)
			found.equal(
				`in[${i}].virt_to_bus`,
				virt_to_bus,
				formatHex(
					pci_p2pmem_virt_to_bus(
						rig.dev(p),
						page_to_virt(first),
					) as bigint,
				),
			);
	}
	return table;
}

/** Ranges of physical memory behind a range of IOVA, neighbours joined. */
function translated(domain: iommu_domain, iova: bigint, len: number): [string, number][] {
	const runs: { start: bigint; length: bigint }[] = [];
	for (let at = iova; at < iova + BigInt(len); ) {
		const pageEnd = (at | (PAGE - 1n)) + 1n;
		const end = pageEnd < iova + BigInt(len) ? pageEnd : iova + BigInt(len);
		const phys = iommu_iova_to_phys(domain, at) as bigint;
		const last = runs.at(-1);
		if (last !== undefined && last.start + last.length === phys)
			last.length += end - at;
		else runs.push({ start: phys, length: end - at });
		at = end;
	}
	return runs.map(({ start, length }) => [formatHex(start), Number(length)]);
}

/** The device's view of a mapped list, in the record's terms. */
function viewOf(dev: device, list: readonly scatterlist[]): unknown[] {
	const translates = dev.dma_iommu;
	const own = list.filter((sg) => !sg_dma_is_bus_address(sg));
	const start = own.length === 0 ? 0n : (sg_dma_address(own[0]!) as bigint) & ~(PAGE - 1n);
	return list.map((sg) => {
		const dma = sg_dma_address(sg) as bigint;
		const len = sg_dma_len(sg);
		if (sg_dma_is_bus_address(sg)) return { len, bus: true, dma: formatHex(dma) };
		if (translates) {
			const domain = dev.iommu_domain as iommu_domain;
			return {
				len,
				bus: false,
				iova: formatHex(dma - start),
				xlat: translated(domain, dma, len),
			};
		}
		const bounced = swiotlb_find_pool(dev, dma_to_phys(dev, dma)) !== null;
		return { len, bus: false, dma: bounced ? 'swiotlb' : formatHex(dma) };
	});
}

function recordedView(r: MappingRecord): unknown[] {
	return r.out.map(({ dma, len, bus, rel, xlat }) => {
		if (bus) return { len, bus: true, dma };
		if (rel.base === 'iova') return { len, bus: false, iova: rel.off ?? '0x0', xlat };
		return { len, bus: false, dma: rel.base === 'swiotlb' ? 'swiotlb' : dma };
	});
}

/** Each entry's offset, length and bus mark. */
function memoryView(table: sg_table): number[][] {
	return [...sgEntries(table.sgl, table.orig_nents)].map((sg) => [
		sg.offset,
		sg.length,
		sg_dma_is_bus_address(sg) ? 1 : 0,
	]);
}

/** The cache as the record has it before mapping: asked for anew, or left as it was. */
function prepareCache(rig: Rig, r: MappingRecord, prefix: string, found: Comparison): void {
	const isPci = r.client_kind !== 2;
	for (const [i, { p, d, cached }] of r.cache.entries()) {
		const client = isPci ? rig.dev(r.client) : null;
		if (!r.refresh) {
			if (client !== null && cached >= 0) rig.setCached(p, client, cached);
			continue;
		}
		const asking = client === null ? new device({ init_name: 'platform' }) : client.dev;
		found.equal(
			`${prefix}cache[${i}].d`,
			d,
			pci_p2pdma_distance(rig.dev(p), asking, false),
		);
		if (client !== null && cached >= 0)
			found.equal(
				`${prefix}cache[${i}].cached`,
				cached,
				mapTypeNumber(cachedMapType(rig.dev(p), client)),
			);
	}
}

/** Replay one scatterlist; the machine is as it should be. */
function replayMapping(rig: Rig, r: MappingRecord, prefix: string, found: Comparison): void {
	const table = makeList(rig, r, found);
	prepareCache(rig, r, prefix, found);
	const dev = mapper(rig, r);
	found.equal(`${prefix}dma_iommu`, Boolean(r.dma_iommu), dev.dma_iommu);
	const before = memoryView(table);

	const ret = dma_map_sgtable(dev, table, DMA_BIDIRECTIONAL, 0n);
	found.equal(`${prefix}dma_map_sgtable`, r.ret, ret);
	const nents = ret === 0 ? table.nents : 0;
	found.equal(`${prefix}nents`, r.nents, nents);
	const view = viewOf(dev, [...sgEntries(table.sgl, nents)]);
	for (const [i, want] of recordedView(r).entries())
		found.equal(`${prefix}out[${i}]`, want, view[i]);
	if (r.client_kind !== 2)
		for (const [i, cached] of (r.cached_after ?? []).entries())
			if (cached >= 0)
				found.equal(
					`${prefix}cached_after[${i}]`,
					cached,
					mapTypeNumber(
						cachedMapType(
							rig.dev(r.cache[i]?.p ?? -1),
							rig.dev(r.client),
						),
					),
				);
	if (ret === 0) dma_unmap_sgtable(dev, table, DMA_BIDIRECTIONAL, 0n);
	const after = memoryView(table);
	found.equal(`${prefix}sg_after_unmap`, r.sg_after_unmap, after);
	found.equal(
		`${prefix}restored`,
		Boolean(r.restored),
		JSON.stringify(after) === JSON.stringify(before),
	);

	const sgl = table.sgl as scatterlist;
	const ents = dma_map_sg_attrs(dev, sgl, table.orig_nents, DMA_BIDIRECTIONAL, 0n);
	found.equal(`${prefix}dma_map_sg_attrs`, r.ret_map_sg_attrs, ents);
	if (ents > 0) dma_unmap_sg_attrs(dev, sgl, table.orig_nents, DMA_BIDIRECTIONAL, 0n);
}

/** Replay a scatterlist of a case. */
export function replayDma(rig: Rig, r: Shaped<typeof dmaShape>, found: Comparison): void {
	rig.keepCase(r.case);
	replayMapping(rig, r, '', found);
}

/** Replay a page that is mapped while ACS changes and the cache does not. */
export function replayStaleCache(
	rig: Rig,
	r: Shaped<typeof staleCacheShape>,
	found: Comparison,
): void {
	rig.keepCase(r.case);
	const { acs } = rig.case(r.case);
	for (const step of r.steps) {
		const word = step.step.startsWith('acs_redir') ? ACS_REDIRECT : 0;
		rig.writeAcs(acs.map((a) => (a === null ? null : word)));
		if (!step.refresh)
			// Left as it was: by the step before, which must be what the record says.
			for (const [i, { p, cached }] of step.cache.entries())
				found.equal(
					`${step.step}: cache[${i}].cached`,
					cached,
					mapTypeNumber(
						cachedMapType(rig.dev(p), rig.dev(step.client)),
					),
				);
		replayMapping(rig, step, `${step.step}: `, found);
	}
}

/** Replay a scatterlist where a bounce buffer is active. */
export function replayDmaSwiotlb(
	rig: Rig,
	r: Shaped<typeof dmaSwiotlbShape>,
	found: Comparison,
): void {
	bootWithMemory(rig, r);
	replayMapping(rig, r, '', found);
}

function bootWithMemory(
	rig: Rig,
	r: Shaped<typeof dmaSwiotlbShape> | Shaped<typeof mapPageSwiotlbShape>,
): void {
	const { topology, state, vm_mem_mb: memory } = r;
	const key = `memory ${memory} ${topology} ${JSON.stringify([state.acs, state.ids])}`;
	rig.boot(key, { topology, state, memory });
}

/** Map a range in one way, and say where it went; it is unmapped again. */
function mapVariant(
	dev: device,
	first: page | null,
	phys: bigint,
	v: Pick<VariantRecord, 'api' | 'attrs' | 'off' | 'len'>,
): unknown {
	const attrs = BigInt(v.attrs);
	const len = BigInt(v.len);
	const at = phys + BigInt(v.off);
	let dma: bigint;
	if (v.api === 'dma_map_page_attrs')
		dma = dma_map_page_attrs(
			dev,
			first as page,
			BigInt(v.off),
			len,
			DMA_TO_DEVICE,
			attrs,
		) as bigint;
	else if (v.api === 'dma_map_phys')
		dma = dma_map_phys(dev, at, len, DMA_TO_DEVICE, attrs) as bigint;
	else dma = dma_map_resource(dev, at, len, DMA_TO_DEVICE, attrs) as bigint;
	if (dma_mapping_error(dev, dma)) return { err: true };
	const place = placeOf(dev, dma);
	if (v.api === 'dma_map_page_attrs')
		dma_unmap_page_attrs(dev, dma, len, DMA_TO_DEVICE, attrs);
	else if (v.api === 'dma_map_phys') dma_unmap_phys(dev, dma, len, DMA_TO_DEVICE, attrs);
	else dma_unmap_resource(dev, dma, len, DMA_TO_DEVICE, attrs);
	return place;
}

function placeOf(dev: device, dma: bigint): unknown {
	if (dev.dma_iommu)
		return {
			err: false,
			xlat: formatHex(
				iommu_iova_to_phys(dev.iommu_domain as iommu_domain, dma) as bigint,
			),
		};
	const bounced = swiotlb_find_pool(dev, dma_to_phys(dev, dma)) !== null;
	return { err: false, dma: bounced ? 'swiotlb' : formatHex(dma) };
}

function recordedPlace(v: Pick<VariantRecord, 'err' | 'dma' | 'xlat' | 'swiotlb'>): unknown {
	if (v.err) return { err: true };
	if (v.xlat !== undefined) return { err: false, xlat: v.xlat };
	return { err: false, dma: v.swiotlb ? 'swiotlb' : v.dma };
}

/**
 * Compare one range mapped in several ways.
 *
 * @param dev - who maps
 * @param first - its page; null: it has none
 * @param phys - its first byte
 * @param variants - the ways
 * @param prefix - what the steps are named by
 * @param found - gets the differences
 */
export function compareVariants(
	dev: device,
	first: page | null,
	phys: bigint,
	variants: readonly VariantRecord[],
	prefix: string,
	found: Comparison,
): void {
	for (const [i, v] of variants.entries())
		found.equal(
			`${prefix}[${i}] ${v.api} attrs 0x${v.attrs.toString(16)}`,
			recordedPlace(v),
			mapVariant(dev, first, phys, v),
		);
}

/**
 * Replay a page; the machine is as it should be.
 *
 * @param masks - DMA masks that the client may have had: more than one where nobody wrote it down,
 *   and then the first one with the recorded answer counts
 */
function replayPageMapping(
	rig: Rig,
	r: PageMappingRecord,
	masks: readonly string[],
	found: Comparison,
): void {
	const provider = rig.dev(r.p);
	const { dev } = rig.dev(r.client);
	const phys = BigInt(r.phys);
	const bar = provider.resource.findIndex(
		({ start, end, flags }) =>
			flags !== 0n && phys >= (start as bigint) && phys <= (end as bigint),
	);
	if (bar < 0) rig.bad(`phys: no BAR of device ${r.p} has ${r.phys}`);
	rig.register(r.p, bar);
	found.equal('d', r.d, pci_p2pdma_distance(provider, dev, false));
	found.equal('type', r.type, mapTypeNumber(cachedMapType(provider, rig.dev(r.client))));
	found.equal('dma_iommu', Boolean(r.dma_iommu), dev.dma_iommu);
	const first = pageAt(rig, phys, 'phys');
	const whole = { api: 'dma_map_page_attrs', attrs: 0, off: 0, len: Number(PAGE) } as const;
	const want = recordedPlace(r);
	let got: unknown;
	for (const mask of masks) {
		dev.dma_mask = BigInt(mask);
		got = mapVariant(dev, first, phys, whole);
		if (JSON.stringify(got) === JSON.stringify(want)) break;
	}
	found.equal('dma_map_page', want, got);
	const variants = r.variants ?? [];
	if (!feature('dma_map_phys') && variants.some(({ api }) => api === 'dma_map_phys'))
		rig.bad('variants: this kernel has no dma_map_phys()');
	compareVariants(dev, first, phys, variants, 'variants', found);
}

/** Replay a page of a case. */
export function replayMapPage(rig: Rig, r: Shaped<typeof mapPageShape>, found: Comparison): void {
	rig.keepCase(r.case);
	const { topology } = rig.case(r.case);
	const atDump = rig.topology(topology).devs[r.client]?.dma_mask ?? MASK_32;
	// The recorder widens masks now and then; v6.12's records do not say when.
	const masks = r.dma_mask === undefined ? [atDump, MASK_64] : [r.dma_mask];
	replayPageMapping(rig, r, masks, found);
}

/** Replay a page where a bounce buffer is active. */
export function replayMapPageSwiotlb(
	rig: Rig,
	r: Shaped<typeof mapPageSwiotlbShape>,
	found: Comparison,
): void {
	bootWithMemory(rig, r);
	replayPageMapping(rig, r, [r.dma_mask ?? MASK_32], found);
}
