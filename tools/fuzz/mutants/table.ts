// SPDX-License-Identifier: GPL-2.0-only
/**
 * All mutants: bugs of kernels that concern what random programs run on, which is mm/ and the test
 * driver of HMM. Bugs of other drivers, of RDMA and of the DMA layer are not among them.
 */
import { driverMutants } from './driver.ts';
import { hmmMutants } from './hmm.ts';
import { migrateMutants } from './migrate.ts';
import type { Mutant } from './mutant.ts';
import { notifierMutants } from './notifier.ts';
import { proposalMutants } from './proposal.ts';

/** In the order in which they are told. */
export const mutants: readonly Mutant[] = [
	...hmmMutants,
	...notifierMutants,
	...migrateMutants,
	...driverMutants,
	...proposalMutants,
];
