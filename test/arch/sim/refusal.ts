// SPDX-License-Identifier: GPL-2.0-only
/** The message with which a call refuses. */

/**
 * Message of what a call throws.
 *
 * @param call - the call
 * @returns null if it throws nothing
 */
export function refusal(call: () => unknown): string | null {
	try {
		call();
	} catch (error) {
		return (error as Error).message;
	}
	return null;
}
