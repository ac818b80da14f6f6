// SPDX-License-Identifier: GPL-2.0-only
/** How the kernel's command line names functions. */
import { type pci_dev, pci_domain_nr, pci_upstream_bridge } from '../../include/linux/pci.ts';
import type { bool } from '../../include/linux/types.ts';

/**
 * Whether a word of the command line names a function (pci_dev_str_match() of drivers/pci/pci.c).
 *
 * | form | names |
 * | --- | --- |
 * | `pci:<vendor>:<device>` | every function with these ids; 0 is any |
 * | `[<domain>:]<bus>:<dev>.<fn>` | the function at this address |
 * | `[<domain>:]<bus>:<dev>.<fn>/<dev>.<fn>…` | the function below it by this path |
 *
 * @param dev - the function
 * @param p - the word
 * @returns null when the word has neither form
 */
export function matchDevice(dev: pci_dev, p: string): bool | null {
	if (p.startsWith('pci:')) return matchIds(dev, p);
	const hops = p.split('/');
	const first = /^(?:([0-9a-f]+):)?([0-9a-f]+):([0-9a-f]+)\.([0-7])$/i.exec(hops[0]!);
	if (first === null) return null;
	let at: pci_dev | null = dev;
	for (let hop = hops.length - 1; hop > 0; hop--) {
		const place = /^([0-9a-f]+)\.([0-7])$/i.exec(hops[hop]!);
		if (place === null) return null;
		if (at !== null && at.devfn !== devfnOf(place[1]!, place[2]!)) return false;
		at = at === null ? null : pci_upstream_bridge(at);
	}
	if (at === null) return false;
	return (
		pci_domain_nr(at.bus) === Number.parseInt(first[1] ?? '0', 16) &&
		at.bus.number === Number.parseInt(first[2]!, 16) &&
		at.devfn === devfnOf(first[3]!, first[4]!)
	);
}

function devfnOf(slot: string, fn: string): number {
	return (Number.parseInt(slot, 16) << 3) | Number.parseInt(fn, 8);
}

function matchIds(dev: pci_dev, p: string): bool | null {
	const ids = /^pci:([0-9a-f]+):([0-9a-f]+)(?::[0-9a-f]+:[0-9a-f]+)?$/i.exec(p);
	if (ids === null) return null;
	const vendor = Number.parseInt(ids[1]!, 16);
	const device = Number.parseInt(ids[2]!, 16);
	return (vendor === 0 || vendor === dev.vendor) && (device === 0 || device === dev.device);
}
