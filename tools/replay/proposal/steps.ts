// SPDX-License-Identifier: GPL-2.0-only
/** The steps that only the proposal's records have. */

import { to_p2p_pgmap } from '../../../drivers/pci/p2pdma/objects.ts';
import { DMA_MAPPING_ERROR, dma_use_iova } from '../../../include/linux/dma-mapping.ts';
import { EBUSY, ENOENT } from '../../../include/linux/errno.ts';
import {
	HMM_PFN_FLAGS,
	HMM_PFN_P2PDMA_BUS,
	HMM_PFN_VALID,
	hmm_pfn_to_page,
	hmm_pfn_to_phys,
} from '../../../include/linux/hmm.ts';
import { memoryMap, pfn_to_page } from '../../../include/linux/mmzone.ts';
import {
	is_device_private_page,
	is_pci_p2pdma_page,
	is_zone_device_page,
	page_pgmap,
	page_ref_count,
} from '../../../include/linux/page-flags.ts';
import { pci_p2pdma_map_state } from '../../../include/linux/pci-p2pdma.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import { PAGE_SIZE } from '../../../include/linux/types.ts';
import { hmm_dma_map_alloc, hmm_dma_map_pfn } from '../../../mm/hmm_dma.ts';
import { faultRange } from '../hmm/range.ts';
import { type Answer, runLength, type Step } from '../hmm/record.ts';
import { execute } from '../hmm/steps.ts';
import { dumpWords, pfnAt } from '../hmm/words.ts';
import { type ProposalOracle, RequesterMap } from './oracle.ts';

type Num = readonly number[];

/** Words that are not valid hold whatever PFN an earlier mapping left. */
const hideStale = (tokens: string): string =>
	tokens.replace(/-(?:[0-9a-f]+|\+|=\S+?)(?=\*| |$)/g, '-*');

function aliasReferences(words: BigUint64Array): Answer {
	let most = -1;
	for (const word of words) {
		if (!(word & HMM_PFN_VALID) || !(word & ~HMM_PFN_FLAGS())) continue;
		const p = memoryMap().page(Number(word & ~HMM_PFN_FLAGS()));
		if (p !== null && is_zone_device_page(p) && is_pci_p2pdma_page(p))
			most = Math.max(most, page_ref_count(p));
	}
	return most < 0 ? {} : { ar: most };
}

function rangeStep(oracle: ProposalOracle, task: task_struct, step: Step): Answer {
	const [op, dma, page, pages, deflt, mask, owner, ...rest] = step as unknown as [
		string,
		number,
		number,
		number,
		number,
		number,
		number,
		...(number | string)[],
	];
	const dmaDev = dma < 0 ? null : oracle.requesters[dma]!;
	const request = { page, pages, deflt, mask, owner, dmaDev };
	const seen = (words: BigUint64Array): Answer => aliasReferences(words);
	if (op === 'hmmud') {
		const [timeout, req = ''] = rest as [number, string?];
		return faultRange(
			oracle,
			task,
			{ ...request, req, seen },
			{ locked: false, timeout: BigInt(timeout) },
		);
	}
	const [maxTries, refill, req = ''] = rest as [number, number, string?];
	return faultRange(
		oracle,
		task,
		{ ...request, req, seen },
		{ locked: true, maxTries, refill: refill !== 0 },
	);
}

/** hmm_range_fault() in place, in the words of a requester's map. */
function inPlaceStep(oracle: ProposalOracle, task: task_struct, args: Num): Answer {
	const [requester = 0, page = 0, pages = 0, deflt = 0, mask = 0, owner = -1, maxTries = 1] =
		args;
	const made = oracle.maps.get(requester);
	if (made === undefined) return { oerr: 'no map' };
	const words = made.map.pfn_list!.subarray(page, page + pages);
	const answer = faultRange(
		oracle,
		task,
		{
			page,
			pages,
			deflt,
			mask,
			owner,
			req: '',
			dmaDev: made.dev,
			words,
			seen: aliasReferences,
		},
		{ locked: true, maxTries, refill: false },
	);
	return { ...answer, f: hideStale(String(answer['f'])) };
}

function winStep(oracle: ProposalOracle, [dev = 0, mode = 0]: Num): Answer {
	oracle.windows[dev]!.setMode(mode);
	return { rc: 0 };
}

/** Device pages of a stretch lose or get their alias. */
function aliasStep(
	oracle: ProposalOracle,
	task: task_struct,
	[page = 0, pages = 0, on = 0]: Num,
): Answer {
	let rc = 0;
	for (let i = page; i < page + pages; i++) {
		const pfn = pfnAt(task.mm!, oracle.address(i));
		const p = pfn === null ? null : memoryMap().page(Number(pfn));
		if (p === null || !is_zone_device_page(p) || !is_device_private_page(p)) continue;
		oracle.windowOf(p)!.setAlias(pfn_to_page(pfn as bigint), on === 0);
		rc++;
	}
	return { rc };
}

function allocStep(oracle: ProposalOracle, [requester = 0]: Num): Answer {
	if (oracle.maps.has(requester)) return { rc: -EBUSY };
	const made = new RequesterMap(oracle, oracle.requesters[requester]!);
	const np = BigInt(oracle.window.np);
	const rc = hmm_dma_map_alloc(made.dev, made.map, np, PAGE_SIZE);
	if (rc) return { rc };
	oracle.maps.set(requester, made);
	oracle.watch(made);
	return { rc, list: made.map.dma_list === null ? 0 : 1 };
}

/** What kind of address an entry got. */
function addressKind(made: RequesterMap, index: number, addr: bigint): string {
	const word = made.map.pfn_list![index]!;
	if (addr === DMA_MAPPING_ERROR) return 'E';
	const phys = hmm_pfn_to_phys(word) as bigint;
	if (word & HMM_PFN_P2PDMA_BUS) {
		const { bus_offset } = to_p2p_pgmap(page_pgmap(hmm_pfn_to_page(word))).mem;
		return addr === BigInt.asUintN(64, phys + (bus_offset as bigint)) ? 'b' : '?';
	}
	const { state } = made.map;
	if (dma_use_iova(state))
		return addr === (state.addr as bigint) + BigInt(index) * PAGE_SIZE ? 'i' : '?';
	return addr === phys ? 'p' : '?';
}

function wordsText(
	oracle: ProposalOracle,
	made: RequesterMap,
	page: number,
	pages: number,
): string {
	const words = made.map.pfn_list!.subarray(page, page + pages);
	return hideStale(dumpWords(oracle.parent.mm!, oracle.address(page), words));
}

function mapStep(oracle: ProposalOracle, [requester = 0, page = 0, pages = 0]: Num): Answer {
	const made = oracle.maps.get(requester);
	if (made === undefined) return { rc: -ENOENT };
	const state = new pci_p2pdma_map_state();
	const kinds: string[] = [];
	for (let i = page; i < page + pages; i++) {
		if (!(made.map.pfn_list![i]! & HMM_PFN_VALID)) kinds.push('-');
		else
			kinds.push(
				addressKind(
					made,
					i,
					hmm_dma_map_pfn(
						made.dev,
						made.map,
						BigInt(i),
						state,
					) as bigint,
				),
			);
	}
	return { rc: 0, a: runLength(kinds), w: wordsText(oracle, made, page, pages) };
}

function unmapStep(oracle: ProposalOracle, [requester = 0, page = 0, pages = 0]: Num): Answer {
	const made = oracle.maps.get(requester);
	if (made === undefined) return { rc: -ENOENT };
	const done: string[] = [];
	for (let i = page; i < page + pages; i++) done.push(String(made.unmap(i, i + 1)));
	return { rc: 0, a: runLength(done), w: wordsText(oracle, made, page, pages) };
}

function freeStep(oracle: ProposalOracle, [requester = 0]: Num): Answer {
	if (!oracle.maps.has(requester)) return { rc: -ENOENT };
	oracle.freeMap(requester);
	return { rc: 0 };
}

function perform(oracle: ProposalOracle, task: task_struct, step: Step): Answer {
	const [op, ...args] = step as [string, ...number[]];
	switch (op) {
		case 'hmmd':
		case 'hmmud':
			return rangeStep(oracle, task, step);
		case 'hmmm':
			return inPlaceStep(oracle, task, args);
		case 'win':
			return winStep(oracle, args);
		case 'noal':
			return aliasStep(oracle, task, args);
		case 'dalloc':
			return allocStep(oracle, args);
		case 'dmap':
			return mapStep(oracle, args);
		case 'dunmap':
			return unmapStep(oracle, args);
		case 'dfree':
			return freeStep(oracle, args);
		default:
			return execute(oracle, task, step);
	}
}

interface Counts {
	readonly faults: number;
	readonly pages: number;
	readonly calls: number;
	readonly unmapped: number;
}

function countsOf({ windows, unmapped }: ProposalOracle): Counts {
	const sum = (of: (one: (typeof windows)[number]) => number): number =>
		windows.reduce((total, one) => total + of(one), 0);
	return {
		faults: sum(({ mdevice }) => mdevice.ramFaults),
		pages: sum(({ mdevice }) => mdevice.ramPages),
		calls: sum(({ calls }) => calls),
		unmapped,
	};
}

/**
 * Execute a step, and count what it made the devices do.
 *
 * @param oracle - the scenario's kernel
 * @param task - who makes the call
 * @param step - name and arguments
 */
export function executeProposal(oracle: ProposalOracle, task: task_struct, step: Step): Answer {
	const before = countsOf(oracle);
	const answer = perform(oracle, task, step);
	const after = countsOf(oracle);
	const faults = after.faults - before.faults;
	const calls = after.calls - before.calls;
	return {
		...answer,
		...(faults === 0 ? {} : { mr: [faults, after.pages - before.pages] }),
		...(calls === 0 ? {} : { oc: calls }),
		...(after.unmapped === before.unmapped
			? {}
			: { du: after.unmapped - before.unmapped }),
	};
}
