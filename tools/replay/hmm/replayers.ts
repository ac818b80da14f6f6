// SPDX-License-Identifier: GPL-2.0-only
/** The replayers of records that are programs, by the name of their family. */
import { proposalReplayer } from '../proposal/replayer.ts';
import { plainReplayer, type Replayer } from './scenario.ts';

/** By what the command line calls the family. */
export const replayers: Readonly<Record<string, Replayer<never>>> = {
	hmm: plainReplayer as Replayer<never>,
	proposal: proposalReplayer as Replayer<never>,
};
