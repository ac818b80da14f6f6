// SPDX-License-Identifier: GPL-2.0-only
/** Which functions on a path send peer traffic up to the root, and the list of them for the log. */

import { fileReport } from '../../../include/linux/bug.ts';
import { type pci_dev, pci_name } from '../../../include/linux/pci.ts';
import { seq_buf, seq_buf_puts } from '../../../include/linux/seq_buf.ts';
import { type int, outParam } from '../../../include/linux/types.ts';
import { feature } from '../../../include/sim/world.ts';
import {
	PCI_ACS_CR,
	PCI_ACS_CTRL,
	PCI_ACS_EC,
	PCI_ACS_RR,
} from '../../../include/uapi/linux/pci_regs.ts';
import { pci_read_config_word } from '../access.ts';

/** Bytes of the list of redirecting functions. */
const ACS_LIST_BYTES = 128n;

/**
 * Whether a function redirects peer traffic: request redirect, completion redirect or egress
 * control is on. The other ACS bits do not matter here, and the egress vector is not looked at.
 *
 * @param pdev - any function; an endpoint counts as well as a port
 * @retval 1 it does
 * @retval 0 it does not, or has no ACS capability
 * @kernel drivers/pci/p2pdma.c
 */
export function pci_bridge_has_acs_redir(pdev: pci_dev): int {
	const pos = pdev.acs_cap;
	if (pos === 0) return 0;
	const ctrl = outParam(0);
	pci_read_config_word(pdev, pos + PCI_ACS_CTRL, ctrl);
	return (ctrl.value & (PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC)) !== 0 ? 1 : 0;
}

/** An empty list of redirecting functions, as it lies on the stack of the query. */
export function makeAcsList(): seq_buf {
	return new seq_buf(ACS_LIST_BYTES);
}

/**
 * Append a function to the list.
 *
 * @param buf - the list; null when nobody wants it
 * @param pdev - the function
 * @kernel drivers/pci/p2pdma.c
 */
export function seq_buf_print_bus_devfn(buf: seq_buf | null, pdev: pci_dev): void {
	if (buf !== null) seq_buf_puts(buf, `${pci_name(pdev)};`);
}

/**
 * Drop the last separator, as the kernels do it: a zero is stored at `buffer[len - 1]`.
 *
 * After an overflow `len` is one more than the buffer holds, so the zero lands on the stack behind
 * it. Ten names do that. What the stray byte then breaks depends on the compiler (one build
 * panicked, another answered -1), so the model reports the store and goes on with its state intact.
 *
 * @param buf - the list, not empty
 * @param query - the function whose stack holds it
 * @returns the text that is printed
 */
export function endAcsList(buf: seq_buf, query: string): string {
	const at = buf.len - 1n;
	if (at < buf.size) return buf.text.slice(0, Number(at));
	if (feature('fix_s18')) return buf.text;
	fileReport('KASAN', `BUG: KASAN: stack-out-of-bounds in ${query}`, [
		'Write of size 1',
		`The buggy store is ${at - buf.size} bytes to the right of the ${buf.size}-byte list of`,
		'functions with ACS redirect: more than nine of them are on the path.',
	]);
	return buf.text;
}
