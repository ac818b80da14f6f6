// SPDX-License-Identifier: GPL-2.0-only
/**
 * Where a range keeps its words and DMA addresses, and who maps them: the part of umem_odp that
 * differs between releases.
 *
 * | release | words | addresses | mapped by | file |
 * | --- | --- | --- | --- | --- |
 * | v7.3 | `map.pfn_list` | an IOVA range, `map.dma_list`, or none | the driver | hmm_map.ts |
 * | v6.12 | `pfn_list` | `dma_list`, permissions in its low bits | umem_odp | dma_list.ts |
 */
import type { hmm_range } from '../../../../include/linux/hmm.ts';
import type { int, size_t, u64 } from '../../../../include/linux/types.ts';
import type { ib_umem_odp } from '../../../../include/rdma/ib_umem_odp.ts';
import type { Sim } from '../../../../include/sim/schedule.ts';
import { feature } from '../../../../include/sim/world.ts';
import { dmaListPages } from './dma_list.ts';
import { hmmMapPages } from './hmm_map.ts';

/** One release's way. The caller holds umem_mutex for present(), absent() and unmap(). */
export interface OdpPages {
	/** Bit of an access mask that asks for write access. */
	readonly writeBit: u64;
	/** An access mask has to ask for something. */
	readonly needsAccess: boolean;
	/** A P2P page gets the address at which the device reaches it. */
	readonly mapsP2p: boolean;

	/** Make room for `npfns` words and for the addresses of units of `unit` bytes: 0 or an errno. */
	alloc(umem_odp: ib_umem_odp, npfns: size_t, unit: size_t): int;
	/** The other end of alloc(); nothing is mapped. */
	free(umem_odp: ib_umem_odp): void;
	/** A word a page. */
	words(umem_odp: ib_umem_odp): BigUint64Array;
	/** Fill the range's words; `began` is the clock when the caller started. */
	fault(range: hmm_range, began: bigint): Sim<int>;
	/** Take the word of unit `idx` in, for this access (null: for what it grants): 0 or an errno. */
	present(umem_odp: ib_umem_odp, idx: number, word: u64, access_mask: u64 | null): int;
	/** A snapshot found nothing at unit `idx`. */
	absent?(umem_odp: ib_umem_odp, idx: number): void;
	/** Unmap unit `idx` if it is mapped. */
	unmap(umem_odp: ib_umem_odp, idx: number): Sim<void>;
}

/** The way of the installed world. */
export function odpPages(): OdpPages {
	return feature('odp_hmm_dma_map') ? hmmMapPages : dmaListPages;
}
