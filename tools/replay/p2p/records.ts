// SPDX-License-Identifier: GPL-2.0-only
/**
 * What P2PDMA records look like, by the name of their file.
 *
 * Every integer that names a device is its place in `devs` of the topology. A record stands on a
 * topology, and most on a case: a topology under one setting of ACS words, ids and CPU.
 */
import {
	bdf,
	bool,
	either,
	hex,
	int,
	listOf,
	mapOf,
	nullOr,
	oneOf,
	record,
	type Shaped,
	signedHex,
	text,
} from '../shape.ts';

/** X86_VENDOR_*: Intel, AMD, Centaur, Hygon, Zhaoxin. */
const cpuVendorShape = oneOf(0, 2, 5, 9, 10);

/** IOMMU_DOMAIN_*: DMA, identity, DMA with a flush queue. */
const domainTypeShape = oneOf(3, 4, 11);

const barShape = record({
	bar: int,
	phys: hex,
	bus: hex,
	len: hex,
	mem: bool,
	pref: bool,
	m64: bool,
});

const deviceShape = record(
	{
		i: int,
		bdf,
		vendor: int,
		device: int,
		class: int,
		hdr: oneOf(0, 1, 2),
		multifunction: bool,
		pcie_type: int,
		parent: nullOr(bdf),
		parent_i: int,
		host: text,
		root_bus_pos: int,
		bus: int,
		devfn: int,
		secondary: int,
		has_acs: bool,
		is_virtfn: bool,
		physfn: nullOr(bdf),
		driver: nullOr(text),
		bars: listOf(barShape),
	},
	{
		dma_mask: hex,
		max_seg: int,
		seg_boundary: hex,
		iommu_domain_type: nullOr(domainTypeShape),
		dma_iommu: bool,
		dma_pci_p2pdma_supported: bool,
	},
);

/** topologies: a device tree as the kernel enumerated it. */
export const topologyShape = record(
	{ topology: text, devs: listOf(deviceShape) },
	{
		cpu: record({ vendor: cpuVendorShape, family: int }),
		cmdline: nullOr(text),
		iommu: nullOr(oneOf('intel', 'amd')),
		host_bus_offset: nullOr(mapOf(signedHex)),
	},
);

/** The setting that questions are asked under. */
const settingFields = {
	cpu_vendor: cpuVendorShape,
	cpu_family: int,
	acs: listOf(nullOr(int)),
	ids: listOf(listOf(int, 2)),
} as const;

const matrix = listOf(listOf(int));

/** pairs: a case, and the verdicts on all of its pairs; row: provider. */
export const pairsShape = record({
	case: text,
	topology: text,
	...settingFields,
	acs_cap: listOf(nullOr(int)),
	type: matrix,
	raw: matrix,
	dist: matrix,
});

/** A function, a device below one, or one that has no PCI parent. */
const clientShape = either(int, record({ child_of: int }), record({ nonpci: bool }));

/** sets: what several clients get together. */
export const setsShape = record({
	case: text,
	sets: listOf(record({ p: int, c: listOf(clientShape), d: int }, { dv: int })),
});

/** find: which providers were drawn as the nearest. */
export const findShape = record({
	case: text,
	published: listOf(int),
	queries: listOf(record({ c: listOf(int), none: int, found: listOf(int) })),
});

/** verbose: the log of one verbose question. */
export const verboseShape = record({
	case: text,
	p: int,
	c: int,
	d: int,
	log: listOf(record({}, { driver: text, dev: text, msg: text })),
});

/** cache_fill: which cache entries a question fills. */
export const cacheFillShape = record({
	case: text,
	p: int,
	verbose: bool,
	c: listOf(int),
	before: listOf(int),
	d: int,
	after: listOf(int),
});

const segmentShape = record(
	{ k: oneOf('p2p', 'ram'), phys: hex, len: int },
	{ p: int, bar: int, bar_off: hex, bar_phys: hex, bar_bus: hex, virt_to_bus: hex },
);

const outShape = record(
	{ dma: hex, len: int, bus: bool, rel: record({ base: text }, { off: hex }) },
	{ xlat: listOf(listOf(either(hex, int), 2)) },
);

const mappingFields = {
	client: int,
	client_kind: oneOf(0, 1, 2),
	dma_mask: hex,
	max_seg: int,
	seg_boundary: hex,
	dma_iommu: bool,
	refresh: bool,
	cache: listOf(record({ p: int, d: int, cached: int })),
	in: listOf(segmentShape),
	ret: int,
	nents: int,
	out: listOf(outShape),
	ret_map_sg_attrs: int,
	restored: bool,
	sg_after_unmap: listOf(listOf(int, 3)),
} as const;
const mappingOptional = { cached_after: nullOr(listOf(int)) } as const;

/** A scatterlist that was mapped. */
const mappingShape = record(mappingFields, mappingOptional);
/** dma: a scatterlist that was mapped, in a case. */
export const dmaShape = record({ case: text, ...mappingFields }, mappingOptional);

/** stale_cache: one page mapped again and again while ACS changes. */
export const staleCacheShape = record({
	case: text,
	client: int,
	p: int,
	steps: listOf(record({ step: text, ...mappingFields }, mappingOptional)),
});

const stateShape = record(settingFields);

/** dma_swiotlb: as dma, where a bounce buffer is active. */
export const dmaSwiotlbShape = record(
	{ topology: text, state: stateShape, vm_mem_mb: int, ...mappingFields },
	mappingOptional,
);

const variantShape = record(
	{
		api: oneOf('dma_map_page_attrs', 'dma_map_phys', 'dma_map_resource'),
		attrs: int,
		off: int,
		len: int,
		err: bool,
		dma: hex,
	},
	{ xlat: hex, swiotlb: bool },
);

const mapPageFields = {
	client: int,
	p: int,
	d: int,
	type: int,
	phys: hex,
	err: bool,
	dma: hex,
	dma_iommu: bool,
} as const;
const mapPageOptional = {
	xlat: hex,
	swiotlb: bool,
	dma_mask: hex,
	variants: listOf(variantShape),
} as const;

/** A P2P page that was mapped by itself. */
const pageMappingShape = record(mapPageFields, mapPageOptional);
/** map_page: a P2P page that was mapped by itself, in a case. */
export const mapPageShape = record({ case: text, ...mapPageFields }, mapPageOptional);
/** map_page_swiotlb: as map_page, where a bounce buffer is active. */
export const mapPageSwiotlbShape = record(
	{ topology: text, state: stateShape, vm_mem_mb: int, ...mapPageFields },
	mapPageOptional,
);

/** register: what registering memory returned. */
export const registerShape = record({
	topology: text,
	dev: bdf,
	bar: int,
	size: hex,
	off: hex,
	ret: int,
});

/** register_edge: the same with chosen sizes and offsets. */
export const registerEdgeShape = record(
	{ topology: text, dev: bdf, bar: int, size: hex, off: hex, ret: int },
	{ pool_size: int, pool_avail: int, p2pdma_after: bool, p2pdma_after_release: bool },
);

const mapTypesShape = record({
	bar: int,
	cached_before: listOf(int),
	type: listOf(int),
	cached_after: listOf(int),
	child_of_provider: int,
	nonpci: int,
});

/** providers: memory without struct pages. */
export const providersShape = record(
	{
		topology: text,
		state: stateShape,
		p: int,
		had_p2pdma: bool,
		pool: bool,
		init: int,
		init_again: int,
		bars: listOf(
			record(
				{ bar: int, phys: hex, provider: bool },
				{ owner_is_dev: bool, bus_offset: hex, bus_addr_map_start: hex },
			),
		),
		mmio: listOf(
			record({
				bar: int,
				client: int,
				dma_iommu: bool,
				dma_mask: hex,
				cached: int,
				phys: hex,
				maps: listOf(variantShape),
			}),
		),
		published_before: bool,
		published_after: bool,
	},
	{ map_type: mapTypesShape, map_type2: mapTypesShape },
);

/** whitelist: host bridges with other identities. */
export const whitelistShape = record({
	topology: text,
	cpu_vendor: cpuVendorShape,
	cpu_family: int,
	hosts: listOf(record({ host: text, first: int, vendor: int, device: int })),
	pairs: listOf(record({ p: int, c: int, type: int, raw: int, dist: int })),
});

/** egress: verdicts under one ACS control word, whatever the egress control vector is. */
export const egressShape = record({
	topology: text,
	state: stateShape,
	acs: listOf(nullOr(int)),
	cap: int,
	type: matrix,
	vectors: listOf(
		record({ vector: hex, vector_reads: int, control_reads: int, type_equal: bool }),
	),
});

/** acs_params: ACS control words after booting with a command line. */
export const acsParamsShape = record({
	machine: text,
	cmdline: text,
	iommu: nullOr(oneOf('intel', 'amd')),
	devs: listOf(
		record(
			{ bdf, cap: int, ctrl: int, ctrl_before: int, driver: nullOr(text) },
			{ ctrl_scan: int },
		),
	),
	log: listOf(text),
});

/** overflow: verbose questions about paths with many redirecting functions. */
export const overflowShape = record({
	topology: text,
	redirecting: int,
	pairs: listOf(listOf(int, 2)),
	functions: listOf(listOf(bdf)),
	log: listOf(text),
});

/** hazards: calls that a kernel does not survive. */
export const hazardsShape = record({
	topology: text,
	hazard: text,
	cmds: listOf(text),
	survived: bool,
	regs: listOf(record({ dev: bdf, bar: int, size: hex, off: hex, ret: int })),
});

/** The maker of a CPU. */
export type CpuVendor = Shaped<typeof cpuVendorShape>;
/** How an IOMMU translates for a device. */
export type DomainType = Shaped<typeof domainTypeShape>;
/** A device tree. */
export type TopologyRecord = Shaped<typeof topologyShape>;
/** A function of it. */
export type DeviceRecord = Shaped<typeof deviceShape>;
/** A case. */
export type CaseRecord = Shaped<typeof pairsShape>;
/** A setting without a case's name. */
export type StateRecord = Shaped<typeof stateShape>;
/** A client of a question. */
export type ClientRecord = Shaped<typeof clientShape>;
/** A scatterlist that was mapped. */
export type MappingRecord = Shaped<typeof mappingShape>;
/** A page that was mapped. */
export type PageMappingRecord = Shaped<typeof pageMappingShape>;
/** One way to map one range. */
export type VariantRecord = Shaped<typeof variantShape>;
/** Map types that a provider gave its clients. */
export type MapTypesRecord = Shaped<typeof mapTypesShape>;
