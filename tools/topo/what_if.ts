// SPDX-License-Identifier: GPL-2.0-only
/**
 * Changes to a machine or its kernel, and which pairs they change.
 *
 *     acs off 0000:01:00.0        every ACS bit of the function off (or of all: acs off all)
 *     acs on 0000:01:00.0         what a kernel with an IOMMU sets too: SV RR CR UF, as far as it has them
 *     acs 0x05 0000:01:00.0       that word
 *     acs on GPU0 NIC0            several, with blanks or commas
 *     cpu amd:0x19 | kernel v6.12
 *     pci=disable_acs_redir=0000:01:00.0 | pci=config_acs=…       kernel command line
 */
import { type DeviceDescription, hex } from '../../arch/sim/description.ts';
import {
	PCI_ACS_CR,
	PCI_ACS_DT,
	PCI_ACS_EC,
	PCI_ACS_RR,
	PCI_ACS_SV,
	PCI_ACS_TB,
	PCI_ACS_UF,
} from '../../include/uapi/linux/pci_regs.ts';
import { table } from '../kproto/table.ts';
import { parseCpu } from '../topology/platform.ts';
import { checkParameters, type Scenario } from './kernel.ts';
import { reachCode, verdictCell } from './matrix.ts';
import { kernelNamed } from './release.ts';
import { type Named, SelectError, select } from './select.ts';
import { candidates, type Verdict } from './unknown.ts';

/** What a kernel with an IOMMU sets. */
const ACS_STANDARD = PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF;
/** The bits of the control word; the capability word goes on with the size of the egress vector. */
const ACS_ALL = ACS_STANDARD | PCI_ACS_TB | PCI_ACS_EC | PCI_ACS_DT;

const capOf = ({ acs }: DeviceDescription): number => acs?.cap ?? ACS_ALL;

function wordOf(device: DeviceDescription, what: string): number {
	const found = device.acs?.control ?? 0;
	if (what === 'on') return found | (capOf(device) & ACS_STANDARD);
	return what === 'off' ? 0 : Number(what);
}

function withWord(device: DeviceDescription, what: string): DeviceDescription {
	return { ...device, acs: { cap: capOf(device), control: wordOf(device, what) } };
}

/** A word must not ask for what a function does not have: hardware would drop it, and the answer be another's. */
function checkWord(device: DeviceDescription, what: string): void {
	if (what === 'on' || what === 'off') return;
	const has = capOf(device) & ACS_ALL;
	const lacks = wordOf(device, what) & ~has;
	if (lacks !== 0)
		throw new SelectError(
			`acs ${what}: ${device.bdf} has no bit 0x${hex(lacks, 2)}, all that it has is 0x${hex(has, 2)}`,
		);
}

function changeAcs(scenario: Scenario, all: readonly Named[], what: string, who: string): Scenario {
	const hasAcs = ({ device }: Named) => device.acs !== null || device.unknown === true;
	const chosen = select(all, who);
	const able = new Set(chosen.filter(hasAcs).map(({ bdf }) => bdf));
	if (able.size === 0)
		throw new SelectError(
			chosen.length === 1
				? `${chosen[0]?.bdf} has no ACS to change`
				: `none of ${who} has ACS to change`,
		);
	const devices = scenario.machine.devices.map((device) => {
		if (!able.has(device.bdf)) return device;
		checkWord(device, what);
		return withWord(device, what);
	});
	return { ...scenario, machine: { ...scenario.machine, devices } };
}

function changeParameters(scenario: Scenario, words: string): Scenario {
	// Functions may have the ACS that the source does not tell of.
	const most = candidates(scenario.machine).at(-1)?.machine ?? scenario.machine;
	checkParameters({ ...scenario, machine: most }, words);
	return { ...scenario, pci: [...scenario.pci, words] };
}

/**
 * A scenario with one change.
 *
 * @param scenario - machine and kernel
 * @param all - names of all functions
 * @param change - as above
 * @throws SelectError where it can't be understood, or changes nothing that is there
 */
export function changed(scenario: Scenario, all: readonly Named[], change: string): Scenario {
	const text = change.trim();
	if (text.startsWith('pci=')) return changeParameters(scenario, text.slice(4));
	const [verb = '', what = '', ...rest] = text.split(/\s+/);
	const who = rest
		.join(',')
		.split(/,+/)
		.filter((word) => word !== '')
		.join(',');
	if (verb === 'acs' && /^(?:on|off|0x[0-9a-f]{1,4})$/i.test(what) && who !== '')
		return changeAcs(scenario, all, what.toLowerCase(), who);
	if (verb === 'cpu' && who === '') {
		const cpu = parseCpu(what);
		if (cpu !== null) return { ...scenario, machine: { ...scenario.machine, cpu } };
	}
	if (verb === 'kernel' && who === '') {
		const kernel = kernelNamed(what);
		if (kernel !== null) return { ...scenario, kernel };
	}
	throw new SelectError(
		`"${change}" is no change: acs off 0000:01:00.0, acs on all, acs 0x05 0000:01:00.0, cpu amd:0x19, kernel v6.12, pci=disable_acs_redir=...`,
	);
}

/** A pair whose verdict a change alters. */
export interface ChangedPair {
	readonly provider: Named;
	readonly client: Named;
	readonly before: Verdict;
	readonly after: Verdict;
}

const same = (a: Verdict, b: Verdict): boolean =>
	a.hops === b.hops && a.may.length === b.may.length && a.may.every((r, i) => r === b.may[i]);

/**
 * The pairs that differ.
 *
 * @param rows - providers
 * @param columns - clients
 * @param before - verdicts by row and column
 * @param after - the same with the change
 */
export function changedPairs(
	rows: readonly Named[],
	columns: readonly Named[],
	before: readonly (readonly Verdict[])[],
	after: readonly (readonly Verdict[])[],
): ChangedPair[] {
	const found: ChangedPair[] = [];
	for (const [r, provider] of rows.entries())
		for (const [c, client] of columns.entries()) {
			const [was, is] = [before[r]?.[c] as Verdict, after[r]?.[c] as Verdict];
			if (!same(was, is))
				found.push({ provider, client, before: was, after: is });
		}
	return found;
}

/**
 * What a change changes, as text.
 *
 * @param changes - what was changed
 * @param pairs - of changedPairs()
 * @param total - pairs that were asked about
 */
export function whatIfLines(
	changes: readonly string[],
	pairs: readonly ChangedPair[],
	total: number,
): string[] {
	const head = `With ${changes.join(', ')}: ${pairs.length} of ${total} pairs change`;
	if (pairs.length === 0) return [`With ${changes.join(', ')}: nothing changes`];
	const key = (a: Named, b: Named, { before, after }: ChangedPair) =>
		`${a.bdf} ${b.bdf} ${verdictCell(before)} ${verdictCell(after)}`;
	const there = new Set(pairs.map((pair) => key(pair.provider, pair.client, pair)));
	const rows: string[][] = [];
	for (const pair of pairs) {
		const { provider, client, before, after } = pair;
		const both = provider !== client && there.has(key(client, provider, pair));
		// Shown from its first side.
		if (both && provider.bdf > client.bdf) continue;
		const way = both ? '<->' : '<--';
		rows.push([
			provider.name,
			way,
			client.name,
			verdictCell(before),
			verdictCell(after),
		]);
	}
	const titles = ['memory', '', 'client', 'was', 'is'].map((title) => ({ title }));
	const codes = `(${Object.values(reachCode).join(', ')}: see the legend of the matrix)`;
	return [head, '', ...table(titles, rows), '', `  ${codes}`];
}
