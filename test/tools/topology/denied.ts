// SPDX-License-Identifier: GPL-2.0-only
/** What lspci shows to somebody who is not root. */

/**
 * A capture as it would be without the right to read capabilities.
 *
 * @param text - output of `lspci -vvv` of root
 */
export function denied(text: string): string {
	return text.replace(
		/(\tCapabilities: .*\n(?:\t\t.*\n)*)+/g,
		'\tCapabilities: <access denied>\n',
	);
}
