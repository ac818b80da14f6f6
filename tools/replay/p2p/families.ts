// SPDX-License-Identifier: GPL-2.0-only
/** The kinds of P2PDMA records: what each looks like, and who replays it. */
import type { Comparison } from '../report.ts';
import type { Shape } from '../shape.ts';
import { replayAcsParams } from './boot.ts';
import { replayEgress } from './egress.ts';
import {
	replayDma,
	replayDmaSwiotlb,
	replayMapPage,
	replayMapPageSwiotlb,
	replayStaleCache,
} from './mappings.ts';
import * as shapes from './records.ts';
import {
	replayHazards,
	replayProviders,
	replayRegister,
	replayRegisterEdge,
} from './registration.ts';
import type { Rig } from './rig.ts';
import { replayTopology } from './trees.ts';
import {
	replayCacheFill,
	replayFind,
	replayOverflow,
	replayPairs,
	replaySets,
	replayVerbose,
	replayWhitelist,
} from './verdicts.ts';

/** A kind of records. */
interface RecordFamily {
	readonly shape: Shape<unknown>;
	replay(rig: Rig, value: unknown, found: Comparison): void;
}

function family<T>(
	shape: Shape<T>,
	replay: (rig: Rig, value: T, found: Comparison) => void,
): RecordFamily {
	return { shape, replay: (rig, value, found) => replay(rig, value as T, found) };
}

/** By the name of their file, without its ending. */
export const recordFamilies: Readonly<Record<string, RecordFamily>> = {
	topologies: family(shapes.topologyShape, replayTopology),
	pairs: family(shapes.pairsShape, replayPairs),
	sets: family(shapes.setsShape, replaySets),
	find: family(shapes.findShape, replayFind),
	dma: family(shapes.dmaShape, replayDma),
	stale_cache: family(shapes.staleCacheShape, replayStaleCache),
	cache_fill: family(shapes.cacheFillShape, replayCacheFill),
	map_page: family(shapes.mapPageShape, replayMapPage),
	verbose: family(shapes.verboseShape, replayVerbose),
	register: family(shapes.registerShape, replayRegister),
	whitelist: family(shapes.whitelistShape, replayWhitelist),
	egress: family(shapes.egressShape, replayEgress),
	providers: family(shapes.providersShape, replayProviders),
	register_edge: family(shapes.registerEdgeShape, replayRegisterEdge),
	dma_swiotlb: family(shapes.dmaSwiotlbShape, replayDmaSwiotlb),
	map_page_swiotlb: family(shapes.mapPageSwiotlbShape, replayMapPageSwiotlb),
	acs_params: family(shapes.acsParamsShape, replayAcsParams),
	overflow: family(shapes.overflowShape, replayOverflow),
	hazards: family(shapes.hazardsShape, replayHazards),
};
