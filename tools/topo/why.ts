// SPDX-License-Identifier: GPL-2.0-only
/**
 * One pair, hop by hop: what is on the way, the ACS bits read there, and the rule that decided.
 *
 * The verdict is the kernel's; what is said about it is asked of the same kernel's functions. This is
 * what `--why --json` prints; why_text.ts puts it into sentences.
 */

import { formatBus, hex } from '../../arch/sim/description.ts';
import { pci_read_config_word } from '../../drivers/pci/access.ts';
import { pci_find_host_bridge } from '../../drivers/pci/host-bridge.ts';
import { pci_bridge_has_acs_redir } from '../../drivers/pci/p2pdma/acs.ts';
import { calc_map_type_and_dist } from '../../drivers/pci/p2pdma/distance.ts';
import {
	__host_bridge_whitelist,
	cpu_supports_p2pdma,
	pci_host_bridge_dev,
	pci_p2pdma_whitelist,
} from '../../drivers/pci/p2pdma/whitelist.ts';
import {
	PCI_ANY_ID,
	type pci_dev,
	type pci_host_bridge,
	pci_is_pcie,
	pci_name,
	pci_pcie_type,
	pci_upstream_bridge,
} from '../../include/linux/pci.ts';
import { outParam } from '../../include/linux/types.ts';
import { world } from '../../include/sim/world.ts';
import { PCI_ACS_CTRL } from '../../include/uapi/linux/pci_regs.ts';
import {
	type Answer,
	askPair,
	bootedFunction,
	type Reach,
	type Scenario,
	withKernel,
} from './kernel.ts';
import type { Named } from './select.ts';
import { candidates, forPair, unknownsOf } from './unknown.ts';

const typeNames: Readonly<Record<number, string>> = {
	0: 'endpoint',
	1: 'legacy endpoint',
	4: 'root port',
	5: 'switch upstream port',
	6: 'switch downstream port',
	7: 'PCIe-to-PCI bridge',
	8: 'PCI-to-PCIe bridge',
	9: 'root complex endpoint',
	10: 'root complex event collector',
};

const acsNames: readonly (readonly [number, string])[] = [
	[0x01, 'SrcValid'],
	[0x02, 'TransBlk'],
	[0x04, 'ReqRedir'],
	[0x08, 'CmpltRedir'],
	[0x10, 'UpstreamFwd'],
	[0x20, 'EgressCtrl'],
	[0x40, 'DirectTrans'],
];

const MAX_CHAIN = 256;

/** What an ACS control word says. */
export interface AcsWord {
	readonly control: number;
	/** Names of the bits that are set, as lspci has them. */
	readonly on: readonly string[];
}

/** One function on the way from the client to the provider. */
export interface Hop {
	readonly bdf: string;
	readonly name: string | null;
	readonly type: string;
	/** null: the function has none. */
	readonly acs: AcsWord | 'unknown' | null;
	readonly redirects: boolean;
	/** Its redirect bits count for this pair: one function is above both. */
	readonly counts: boolean;
	/** That function. */
	readonly meeting: boolean;
	readonly direction: 'from' | 'up' | 'down';
	/** Host bridges that are passed before it: none, the one of both sides, or the two. */
	readonly over: readonly string[];
}

/** Who speaks for a host bridge, and what the list says of it. */
export interface Speaker {
	readonly host: string;
	/** The first function on it; null: nothing is. */
	readonly first: string | null;
	/** null: that one is neither device 00.0 nor a root port. */
	readonly speaker: { readonly bdf: string; readonly ids: string } | null;
	/** Its row of the list, also one of a later release; null: there is none. */
	readonly entry: string | null;
	/** The list has it for this pair, for two functions below one host bridge only, or not. */
	readonly listed: 'yes' | 'same-host-bridge' | 'no';
}

/** The kernel's answer, and what it rests on. */
export interface Reason extends Answer {
	/** What was taken for granted of the parts that are unknown. */
	readonly assuming: readonly string[];
	/** PCI_P2PDMA_MAP_*. */
	readonly mapType: string;
	/** The function above both; null: the way goes over the root complex. */
	readonly meeting: string | null;
	/** Functions that send the request up to the root complex. */
	readonly redirecting: readonly string[];
	/** Any host bridge of this CPU will do; null: it was not asked. */
	readonly cpuWillDo: boolean | null;
	/** The host bridges that were asked about, the provider's first. */
	readonly hostBridges: readonly Speaker[];
	/** What the kernel itself writes when it is asked to be verbose. */
	readonly log: readonly string[];
	/** What goes wrong in the kernel while it does. */
	readonly reports: readonly string[];
}

/** Why one pair may, or may not. */
export interface Why {
	readonly kernel: string;
	readonly provider: { readonly name: string; readonly bdf: string };
	readonly client: { readonly name: string; readonly bdf: string };
	readonly way: readonly Hop[];
	/** Something is unknown that could count. */
	readonly open: boolean;
	/** One for each different answer; one alone holds whatever is unknown. */
	readonly reasons: readonly Reason[];
}

/** One function on the way, in the booted world. */
interface Step {
	readonly pdev: pci_dev;
	readonly counts: boolean;
	readonly meeting: boolean;
}

function chainOf(pdev: pci_dev): pci_dev[] {
	const chain: pci_dev[] = [];
	for (let at: pci_dev | null = pdev; at !== null && chain.length < MAX_CHAIN; ) {
		chain.push(at);
		at = pci_upstream_bridge(at);
	}
	return chain;
}

/** The way from the client up, and down to the provider; `meeting` is null where it goes over the root. */
function wayOf(provider: pci_dev, client: pci_dev): { way: Step[]; meeting: pci_dev | null } {
	const [up, down] = [chainOf(client), chainOf(provider)];
	const meeting = down.find((pdev) => up.includes(pdev)) ?? null;
	const cut = (chain: pci_dev[]) =>
		meeting === null ? chain : chain.slice(0, chain.indexOf(meeting));
	const counts = meeting !== null;
	const hop = (pdev: pci_dev): Step => ({ pdev, counts, meeting: pdev === meeting });
	const middle = meeting === null ? [] : [hop(meeting)];
	return { way: [...cut(up).map(hop), ...middle, ...cut(down).reverse().map(hop)], meeting };
}

function acsWord(pdev: pci_dev): AcsWord | null {
	if (pdev.acs_cap === 0) return null;
	const word = outParam(0);
	pci_read_config_word(pdev, pdev.acs_cap + PCI_ACS_CTRL, word);
	const on = acsNames.filter(([bit]) => (word.value & bit) !== 0).map(([, name]) => name);
	return { control: word.value, on };
}

function typeName(pdev: pci_dev): string {
	if (!pci_is_pcie(pdev)) return pdev.hdr_type === 0 ? 'conventional' : 'PCI bridge';
	return typeNames[pci_pcie_type(pdev)] ?? 'function';
}

function hostName({ domain_nr, busnr }: pci_host_bridge): string {
	return formatBus(domain_nr, busnr);
}

/** Host bridges between two functions of which neither is above the other. */
function hostsBetween(last: pci_dev, next: pci_dev): string[] {
	const hosts = [pci_find_host_bridge(last.bus), pci_find_host_bridge(next.bus)];
	return [...new Set(hosts.map(hostName))];
}

/** The way as it is told. */
function hopsOf(
	way: readonly Step[],
	names: ReadonlyMap<string, string>,
	unknown: ReadonlySet<string>,
): Hop[] {
	return way.map(({ pdev, counts, meeting }, i) => {
		const bdf = pci_name(pdev);
		const before = way[i - 1]?.pdev ?? null;
		const up = before !== null && pci_upstream_bridge(before) === pdev;
		// Neither is above the other: between them is the root complex.
		const isOver = before !== null && !up && pci_upstream_bridge(pdev) !== before;
		return {
			bdf,
			name: names.get(bdf) ?? null,
			type: typeName(pdev),
			acs: unknown.has(bdf) ? 'unknown' : acsWord(pdev),
			redirects: pci_bridge_has_acs_redir(pdev) !== 0,
			counts,
			meeting,
			direction: before === null ? 'from' : up ? 'up' : 'down',
			over: isOver ? hostsBetween(before, pdev) : [],
		};
	});
}

function speakerOf(host: pci_host_bridge, same: boolean): Speaker {
	const pdev = pci_host_bridge_dev(host);
	const first = host.bus?.devices[0];
	const known = { host: hostName(host), first: first === undefined ? null : pci_name(first) };
	if (pdev === null) return { ...known, speaker: null, entry: null, listed: 'no' };
	const { vendor, device } = pdev;
	const row = pci_p2pdma_whitelist.find(
		(entry) =>
			entry.vendor === vendor &&
			(entry.device === PCI_ANY_ID || entry.device === device),
	);
	const isListed = (below: boolean): boolean => __host_bridge_whitelist(host, below, false);
	return {
		...known,
		speaker: { bdf: pci_name(pdev), ids: `${hex(vendor, 4)}:${hex(device, 4)}` },
		entry: row?.name ?? null,
		listed: isListed(same) ? 'yes' : isListed(true) ? 'same-host-bridge' : 'no',
	};
}

function speakersOf(provider: pci_dev, client: pci_dev): Speaker[] {
	const [a, b] = [pci_find_host_bridge(provider.bus), pci_find_host_bridge(client.bus)];
	return a === b ? [speakerOf(a, true)] : [speakerOf(a, false), speakerOf(b, false)];
}

/** What the kernel itself writes when it is asked to be verbose, and what goes wrong with that. */
function verboseQuery(provider: pci_dev, client: pci_dev): { log: string[]; reports: string[] } {
	const { log, reports } = world();
	const [before, reported] = [log.length, reports.length];
	calc_map_type_and_dist(provider, client, outParam(0), true);
	return {
		log: log.slice(before),
		reports: reports.slice(reported).map(({ title }) => title),
	};
}

const mapTypes: Readonly<Record<Reach, string>> = {
	self: 'PCI_P2PDMA_MAP_BUS_ADDR',
	switch: 'PCI_P2PDMA_MAP_BUS_ADDR',
	redirected: 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE',
	host: 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE',
	across: 'PCI_P2PDMA_MAP_THRU_HOST_BRIDGE',
	refused: 'PCI_P2PDMA_MAP_NOT_SUPPORTED',
};

/** Called in a booted world. */
function reasonOf(
	provider: pci_dev,
	client: pci_dev,
	answer: Answer,
	assuming: readonly string[],
): Reason {
	const { way, meeting } = wayOf(provider, client);
	const redirecting = way.filter(
		({ pdev, counts }) => counts && pci_bridge_has_acs_redir(pdev) !== 0,
	);
	const isOverRoot = meeting === null || redirecting.length > 0;
	const cpuWillDo = isOverRoot ? cpu_supports_p2pdma() : null;
	return {
		assuming,
		...answer,
		mapType: mapTypes[answer.reach],
		meeting: meeting === null ? null : pci_name(meeting),
		redirecting: redirecting.map(({ pdev }) => pci_name(pdev)),
		cpuWillDo,
		hostBridges: cpuWillDo === false ? speakersOf(provider, client) : [],
		...verboseQuery(provider, client),
	};
}

/**
 * Explain one pair.
 *
 * @param scenario - machine and kernel
 * @param provider - whose memory it is
 * @param client - who accesses it
 * @param all - names of all functions
 */
export function explain(
	scenario: Scenario,
	provider: Named,
	client: Named,
	all: readonly Named[],
): Why {
	const names = new Map(all.map(({ bdf, name }) => [bdf, name]));
	const unknown = new Set(unknownsOf(scenario.machine).acs);
	const reasons: Reason[] = [];
	let way: readonly Hop[] = [];
	const possible = candidates(forPair(scenario.machine, [provider.bdf, client.bdf]));
	for (const { machine, assuming } of possible) {
		withKernel({ ...scenario, machine }, () => {
			const [p, c] = [bootedFunction(provider.bdf), bootedFunction(client.bdf)];
			if (reasons.length === 0) way = hopsOf(wayOf(p, c).way, names, unknown);
			const answer = askPair(p, c);
			if (reasons.some(({ reach }) => reach === answer.reach)) return;
			reasons.push(reasonOf(p, c, answer, assuming));
		});
	}
	return {
		kernel: scenario.kernel,
		provider: { name: provider.name, bdf: provider.bdf },
		client: { name: client.name, bdf: client.bdf },
		way,
		open: possible.length > 1,
		reasons,
	};
}
