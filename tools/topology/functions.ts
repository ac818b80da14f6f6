// SPDX-License-Identifier: GPL-2.0-only
/**
 * A function as a source shows it, whatever the source: what assemble.ts builds a machine from.
 *
 * What a source does not tell stays open here (null, or `unknown`); nothing is guessed.
 */

/** A base address register that somebody assigned. */
export interface FoundRegion {
	bar: number;
	/** CPU address. */
	address: bigint;
	size: bigint;
	prefetchable: boolean;
	is64: boolean;
	io: boolean;
}

/** PCIe device/port type, as in the PCI Express capability. */
export type PcieTypeNumber = 0 | 1 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/** One function. */
export interface FoundFunction {
	/** With domain. */
	bdf: string;
	/** Where the source begins to speak of it, counted from 1. */
	line: number;
	class: number;
	vendor: number;
	device: number;
	revision: number;
	/** The source could not or was not allowed to tell its capabilities: PCIe type and ACS are open. */
	unknown: boolean;
	/** The source gives names in place of vendor and device id. */
	unknownIds: boolean;
	/** PCIe type; null: conventional, or unknown. */
	pcieType: PcieTypeNumber | null;
	acs: { cap: number; control: number } | null;
	ats: boolean;
	/** Bus numbers of a bridge. */
	buses: { secondary: number; subordinate: number; line: number } | null;
	/** A port that sees somebody at the other end of its link. */
	linkUp: boolean;
	regions: FoundRegion[];
	numaNode: number | null;
	iommuGroup: number | null;
	/** The bridge above, where the source states it (null: none); else it follows from bus numbers. */
	parent?: string | null;
	/** The physical function of a virtual one. */
	physfn?: string | null;
	/** Stated by the source; else it follows from who else is in the slot. */
	multifunction?: boolean;
	/** A name for people. */
	label?: string;
}

/**
 * A function of which nothing is known but its address.
 *
 * @param bdf - with domain
 * @param line - where the source begins to speak of it
 */
export function emptyFunction(bdf: string, line: number): FoundFunction {
	return {
		bdf,
		line,
		class: 0,
		vendor: 0,
		device: 0,
		revision: 0,
		unknown: false,
		unknownIds: false,
		pcieType: null,
		acs: null,
		ats: false,
		buses: null,
		linkUp: false,
		regions: [],
		numaNode: null,
		iommuGroup: null,
	};
}
