// SPDX-License-Identifier: GPL-2.0-only
/** How the kernel of a proposal's record is set up, and what its steps do. */
import type { Replayer } from '../hmm/scenario.ts';
import { ProposalOracle } from './oracle.ts';
import { executeProposal } from './steps.ts';
import { opNotP2p } from './windows.ts';

/** The kernel with the proposal, on the machine that a scenario names. */
export const proposalReplayer: Replayer<ProposalOracle> = {
	family: 'proposal',
	boot: { checks: true, proposals: ['p2p_op_dma_dev'] },
	open: (scenario, profile, options) => new ProposalOracle(scenario, profile, options),
	execute: executeProposal,
	// a window that answers with the wrong kind of page is warned of
	isExpected: ({ message }, { steps }) =>
		message?.includes('answered with a page that is not P2PDMA') === true &&
		steps.some(([op, , mode]) => op === 'win' && mode === opNotP2p),
};
