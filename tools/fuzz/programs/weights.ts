// SPDX-License-Identifier: GPL-2.0-only
/** How often each kind of step is written. */
import type { Weighted } from './chance.ts';
import type { Setup } from './program.ts';

/** Pages of a window without huge pages. */
const SMALL_WINDOW = 16;

const always = {
	access: 26,
	mmap: 3,
	munmap: 3,
	mprotect: 6,
	madvise: 9,
	mremap: 4,
	ftrunc: 1,
	lock: 2,
	fork: 5,
	open: 2,
	hmm: 9,
	mig: 13,
	sys: 4,
	dread: 6,
	dwrite: 6,
	snap: 3,
	excl: 5,
	cexcl: 1,
	rel: 1,
	/** Only where the kernel has the call, or the proposal. */
	watch: 0,
	hmmu: 0,
	dreadu: 0,
	flags: 0,
	dma: 0,
};

/** A kind of step. */
export type OpName = keyof typeof always;

type Weights = Readonly<Record<OpName, number>>;

const plain: Weights = always;
const later: Weights = { ...always, hmmu: 4, dreadu: 3, flags: 1 };
const watching: Weights = { ...later, watch: 8 };
const proposed: Weights = { ...later, flags: 0, dma: 25 };

/** With huge pages most is about where they are, and how they fall apart: single pages are dear. */
const huge: Weights = {
	...always,
	access: 16,
	mprotect: 4,
	madvise: 5,
	mremap: 3,
	hmm: 12,
	mig: 22,
	dread: 3,
	dwrite: 3,
	excl: 4,
	rel: 2,
};
const hugeLater: Weights = { ...huge, hmmu: 2, dreadu: 1, flags: 6 };
const hugeProposed: Weights = { ...huge, hmm: 4, dma: 25 };

function listOf(weights: Weights): Weighted<OpName> {
	return Object.entries(weights)
		.filter(([, weight]) => weight > 0)
		.map(([name, weight]) => [weight, name as OpName]);
}

const lists = {
	plain: listOf(plain),
	later: listOf(later),
	watching: listOf(watching),
	proposed: listOf(proposed),
	huge: listOf(huge),
	hugeLater: listOf(hugeLater),
	hugeProposed: listOf(hugeProposed),
} as const;

/**
 * The weights of a setup.
 *
 * @param setup - kernel, devices, window
 */
export function opWeights(setup: Setup): Weighted<OpName> {
	const isHuge = setup.np > SMALL_WINDOW;
	if (setup.machine !== null) return isHuge ? lists.hugeProposed : lists.proposed;
	if (setup.profile === 'v6.12') return isHuge ? lists.huge : lists.plain;
	if (isHuge) return lists.hugeLater;
	// one program in so many has a userfaultfd
	return setup.fa !== 4096 || setup.win !== 0 ? lists.watching : lists.later;
}
