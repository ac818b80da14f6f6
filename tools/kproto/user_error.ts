// SPDX-License-Identifier: GPL-2.0-only
/** Mistakes of the user: what a command says of them, and that it ends with 2. */

/** The user's mistake, in one line. */
export class UserError extends Error {}

/**
 * The user's mistake.
 *
 * @param error - what was thrown; what is no mistake of the user's is thrown again
 * @returns one line
 */
export function mistakeOf(error: unknown): string {
	const parse = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true;
	if (!parse && !(error instanceof UserError)) throw error;
	// parseArgs() has messages of several lines; the first says what is wrong.
	return (error as Error).message.split('\n')[0]!;
}

/**
 * Tell the user's mistake on standard error.
 *
 * @param command - name of the subcommand
 * @param error - what was thrown; what is no mistake of the user's is thrown again
 * @returns the exit code
 */
export function tellMistake(command: string, error: unknown): number {
	process.stderr.write(`kproto ${command}: ${mistakeOf(error)}\n`);
	return 2;
}
