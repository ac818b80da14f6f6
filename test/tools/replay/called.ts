// SPDX-License-Identifier: GPL-2.0-only
/** Calls `kproto replay`. */
import { main } from '../../../tools/replay/main.ts';
import * as command from '../../support/command.ts';

export type { Outcome } from '../../support/command.ts';

/**
 * Run the command.
 *
 * @param argv - what follows `kproto replay`
 */
export function called(...argv: string[]): Promise<command.Outcome> {
	return command.called(main, argv);
}
