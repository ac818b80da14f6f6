// SPDX-License-Identifier: GPL-2.0-only
/** Mistakes of the user: what a command says of them, and that it ends with 2. */

/** The user's mistake, in one line. */
export class UserError extends Error {}

/**
 * Tell the user's mistake on standard error.
 *
 * @param command - name of the subcommand
 * @param error - what was thrown; what is no mistake of the user's is thrown again
 * @returns the exit code
 */
export function tellMistake(command: string, error: unknown): number {
	const parse = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true;
	if (!parse && !(error instanceof UserError)) throw error;
	// parseArgs() has messages of several lines; the first says what is wrong.
	const [what] = (error as Error).message.split('\n');
	process.stderr.write(`kproto ${command}: ${what}\n`);
	return 2;
}
