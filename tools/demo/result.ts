// SPDX-License-Identifier: GPL-2.0-only
/** What a run of one pair, and of one machine, has to tell. */
import type { Cast } from './roles.ts';

/** How the NIC reaches the GPU's memory. */
export type Path = 'switch' | 'switch, ACS redirect' | 'host bridge' | 'refused';

/** All paths, in the order in which they are shown. */
export const paths: readonly Path[] = ['switch', 'switch, ACS redirect', 'host bridge', 'refused'];

/** What kind of address the NIC put on its bus. */
export type AddressKind = 'bus' | 'IOVA' | 'physical';

/** One GPU and one NIC. */
export interface PairResult {
	readonly gpu: string;
	readonly nic: string;
	readonly path: Path;
	/** Hops, as the P2P layer counts them. */
	readonly distance: number;
	/** PCI_P2PDMA_MAP_*, without the prefix. */
	readonly mapType: string;
	/** Whether the GPU has P2P pages for its memory. */
	readonly window: boolean;
	/** Address of the first page, as the NIC used it. */
	readonly address: string;
	readonly addressKind: AddressKind;
	readonly pages: number;
	/** Pages that stayed in the GPU's memory while the NIC read and wrote them. */
	readonly kept: number;
	/** Pages that went back to system memory when the NIC asked for them. */
	readonly migrated: number;
	/** Bytes read and written by the NIC. */
	readonly bytes: number;
	/** Of these, bytes that were wrong. */
	readonly wrong: number;
	/** Page faults that the NIC raised. */
	readonly pageFaults: number;
	/** TLPs that nobody completed, and IOMMU faults. */
	readonly faults: number;
	/** Findings of the sanitizers and of the shutdown check. */
	readonly reports: string[];
}

/** All pairs of one machine. */
export interface MachineResult {
	readonly name: string;
	/** What it is, one line. */
	readonly about: string;
	/** What the run takes for granted because the source does not tell it. */
	readonly assumed: readonly string[];
	readonly cast: Cast;
	readonly pairs: PairResult[];
}

/** Whether every page was found, every byte was right, and nothing complained. */
export function isGood(pair: PairResult): boolean {
	return (
		pair.kept + pair.migrated === pair.pages &&
		pair.wrong === 0 &&
		pair.faults === 0 &&
		pair.reports.length === 0
	);
}
