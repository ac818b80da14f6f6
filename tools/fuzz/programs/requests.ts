// SPDX-License-Identifier: GPL-2.0-only
/**
 * What hmm_range_fault() and the accesses of devices must answer.
 *
 * Guarantee: a call that succeeded gave what was asked for, and one that failed had a reason that the
 * program can know: a page of its range that is not mapped, may not be accessed like that, or ends in
 * a signal.
 */
import { EBUSY } from '../../../include/linux/errno.ts';
import { type Answer, expandRuns, type Step } from '../../replay/hmm/record.ts';
import { BUS, mayBe, SEGV } from './contents.ts';
import type { Shadow } from './shadow.ts';
import type { Slot } from './slot.ts';

/** Bits of requests. */
const FAULT = 1;
const WRITE = 2;
/** A mask of all ones. */
const ALL = 15;
const READABLE = 1;
const WRITABLE = 2;

/** Digit of a word, as the records have it. */
const VALID_DIGIT = 8;
const WRITE_DIGIT = 4;

/** What a call asks of a range. */
interface Request {
	readonly page: number;
	readonly pages: number;
	readonly deflt: number;
	readonly mask: number;
	/** By page. */
	readonly words: readonly number[];
}

type Args = readonly (number | string)[];

function rangeRequest([page, pages, deflt, mask, , ...rest]: Args): Request {
	const last = rest.at(-1);
	const words =
		typeof last === 'string' && last !== ''
			? last.split(',').map((item) => Number.parseInt(item, 10))
			: [];
	return { page, pages, deflt, mask, words } as Request;
}

function accessRequest([, page, pages]: Args, deflt: number): Request {
	return { page, pages, deflt, mask: 0, words: [] } as unknown as Request;
}

/** What a step asks for; null: it is no such call. */
function requestOf([op, ...args]: Step): Request | null {
	switch (op) {
		case 'hmm':
		case 'hmmu':
			return rangeRequest(args as Args);
		case 'hmmd':
		case 'hmmud':
		case 'hmmm':
			return rangeRequest(args.slice(1) as Args);
		case 'dread':
		case 'dreadu':
			return accessRequest(args as Args, FAULT);
		case 'dwrite':
			return accessRequest(args as Args, FAULT | WRITE);
		default:
			return null;
	}
}

function effective({ deflt, mask, words }: Request, i: number): number {
	const word = words[i] ?? 0;
	const request = deflt | (mask === ALL ? word : word & mask);
	return request & FAULT ? request & (FAULT | WRITE) : 0;
}

/** Whether a page makes a call fail that asks for any page around it. */
function explains(slot: Slot | null, asksWrite: boolean): boolean {
	if (slot === null || !(slot.prot & READABLE)) return true;
	if (asksWrite && !(slot.prot & WRITABLE)) return true;
	if (slot.guard !== 'no' || slot.fragile || slot.fills?.length !== 0) return true;
	const contents = slot.contents();
	return mayBe(contents, BUS) || mayBe(contents, SEGV);
}

function checkFailure(shadow: Shadow, by: number, request: Request, ret: number): string | null {
	const { page, pages } = request;
	let asked = 0;
	for (let i = 0; i < pages; i++) asked |= effective(request, i);
	const space = shadow.space(by);
	if (asked !== 0)
		for (let i = page; i < page + pages; i++)
			if (explains(space[i] ?? null, (asked & WRITE) !== 0)) return null;
	return `pages ${page} to ${page + pages - 1}: ${ret}, though each may be accessed like that`;
}

/** The words of a call that succeeded. */
function checkWords(shadow: Shadow, by: number, request: Request, f: string): string | null {
	const { page } = request;
	const space = shadow.space(by);
	for (const [i, token] of expandRuns(f).entries()) {
		const asked = effective(request, i);
		// only the request for the first page of a hugetlb page counts
		if (asked === 0 || space[page + i]?.fragile !== false) continue;
		const digit = Number.parseInt(token[0]!, 16);
		if (!(digit & VALID_DIGIT))
			return `page ${page + i} was asked for, its word is ${token}`;
		// a device's own page is returned as it is
		const isPrivate = /^..[MPB]*p/.test(token);
		if (asked & WRITE && !(digit & WRITE_DIGIT) && !isPrivate)
			return `page ${page + i} was asked for writable, its word is ${token}`;
	}
	return null;
}

/**
 * Hold the answer of a call that asks for pages against what it asked for.
 *
 * @param shadow - what the program knows; nothing of it may be poisoned
 * @param by - number of the process whose pages are asked for
 * @param step - the call
 * @param answer - its answer
 * @returns null, or what is wrong
 */
export function checkRequest(
	shadow: Shadow,
	by: number,
	step: Step,
	answer: Answer,
): string | null {
	const request = requestOf(step);
	if (request === null) return null;
	const ret = (answer['ret'] ?? answer['rc']) as number | undefined;
	if (ret === undefined || ret === -EBUSY) return null;
	if (ret !== 0) return checkFailure(shadow, by, request, ret);
	return answer['f'] === undefined
		? null
		: checkWords(shadow, by, request, String(answer['f']));
}
