// SPDX-License-Identifier: GPL-2.0-only
/** Calls `kproto topo`. */
import { main } from '../../../tools/topo/main.ts';
import { called, type Outcome } from '../../support/command.ts';

/** Run the command with arguments. */
export function topo(...args: string[]): Promise<Outcome> {
	return called(main, args);
}
