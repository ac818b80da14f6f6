// SPDX-License-Identifier: GPL-2.0-only
/** `kproto replay proposal PATH...`: what a kernel answers that has the proposal in C. */
import { replayFiles } from '../hmm/main.ts';
import { proposalReplayer } from './replayer.ts';

/**
 * Replay scenarios of the proposal.
 *
 * @param argv - options and paths
 * @returns the exit code
 * @throws UserError
 */
export async function main(argv: string[]): Promise<number> {
	return replayFiles(argv, proposalReplayer);
}
