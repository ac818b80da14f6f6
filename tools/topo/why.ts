// SPDX-License-Identifier: GPL-2.0-only
/**
 * One pair, hop by hop: what is on the way, the ACS bits read there, and the rule that decided.
 *
 * The verdict is the kernel's; what is said about it is asked of the same kernel's functions.
 */

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
import { wrap } from '../demo/table.ts';
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

/** One function on the way. */
interface Hop {
	readonly pdev: pci_dev;
	/** Its redirect bits count for this pair. */
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
function wayOf(provider: pci_dev, client: pci_dev): { way: Hop[]; meeting: pci_dev | null } {
	const [up, down] = [chainOf(client), chainOf(provider)];
	const meeting = down.find((pdev) => up.includes(pdev)) ?? null;
	const cut = (chain: pci_dev[]) =>
		meeting === null ? chain : chain.slice(0, chain.indexOf(meeting));
	const counts = meeting !== null;
	const hop = (pdev: pci_dev): Hop => ({ pdev, counts, meeting: pdev === meeting });
	const middle = meeting === null ? [] : [hop(meeting)];
	return { way: [...cut(up).map(hop), ...middle, ...cut(down).reverse().map(hop)], meeting };
}

function acsWords(pdev: pci_dev): string {
	if (pdev.acs_cap === 0) return 'no ACS';
	const word = outParam(0);
	pci_read_config_word(pdev, pdev.acs_cap + PCI_ACS_CTRL, word);
	const on = acsNames.filter(([bit]) => (word.value & bit) !== 0).map(([, name]) => name);
	const hex = word.value.toString(16).padStart(2, '0');
	return `ACS 0x${hex}: ${on.length === 0 ? 'all off' : on.join(' ')}`;
}

function typeName(pdev: pci_dev): string {
	if (!pci_is_pcie(pdev)) return pdev.hdr_type === 0 ? 'conventional' : 'PCI bridge';
	return typeNames[pci_pcie_type(pdev)] ?? 'function';
}

const hex4 = (n: number): string => n.toString(16).padStart(4, '0');

/** The rows of the way, in columns. */
function wayLines(
	way: readonly Hop[],
	names: ReadonlyMap<string, string>,
	unknown: ReadonlySet<string>,
): string[] {
	const rows = way.map(({ pdev, counts, meeting }) => {
		const bdf = pci_name(pdev);
		const redirects = pci_bridge_has_acs_redir(pdev) !== 0;
		return {
			name: `${bdf} ${names.get(bdf) ?? ''}`.trim(),
			type: typeName(pdev),
			acs: unknown.has(bdf) ? 'ACS unknown' : acsWords(pdev),
			note: [
				...(meeting && way.length > 1 ? ['both sides meet here'] : []),
				...(redirects
					? [
							counts
								? 'redirects'
								: 'redirects, which does not matter here',
						]
					: []),
			].join('; '),
		};
	});
	const width = (key: 'name' | 'type' | 'acs') =>
		Math.max(...rows.map((row) => row[key].length));
	const [nameWidth, typeWidth, acsWidth] = [width('name'), width('type'), width('acs')];
	return rows.flatMap((row, i) => {
		const pdev = (way[i] as Hop).pdev;
		const before = way[i - 1]?.pdev ?? null;
		const up = before !== null && pci_upstream_bridge(before) === pdev;
		// Neither is above the other: between them is the root complex.
		const over = before !== null && !up && pci_upstream_bridge(pdev) !== before;
		const word = before === null ? 'from' : up ? 'up' : 'down';
		const line = `  ${word.padEnd(4)}  ${row.name.padEnd(nameWidth)}  ${row.type.padEnd(typeWidth)}  ${row.acs.padEnd(acsWidth)}  ${row.note}`;
		return [...(over ? [rootLine(before, pdev)] : []), line.trimEnd()];
	});
}

function hostName(host: pci_host_bridge): string {
	return `${hex4(host.domain_nr)}:${host.busnr.toString(16).padStart(2, '0')}`;
}

function rootLine(last: pci_dev, next: pci_dev): string {
	const [a, b] = [pci_find_host_bridge(last.bus), pci_find_host_bridge(next.bus)];
	return a === b
		? `  over  host bridge ${hostName(a)}`
		: `  over  host bridge ${hostName(a)} to host bridge ${hostName(b)}`;
}

/** Who speaks for a host bridge, and what the list says of it. */
function speakerLines(host: pci_host_bridge, same: boolean): string[] {
	const speaker = pci_host_bridge_dev(host);
	const name = `Host bridge ${hostName(host)}`;
	const first = host.bus?.devices[0];
	if (speaker === null) {
		const who =
			first === undefined
				? 'nothing is on it'
				: `the first function on it is ${pci_name(first)}`;
		return [`${name} is known by nobody: ${who}, neither device 00.0 nor a root port.`];
	}
	const { vendor, device } = speaker;
	const ids = `${hex4(vendor)}:${hex4(device)}`;
	const known = `${name} is known by ${pci_name(speaker)} [${ids}]`;
	const row = pci_p2pdma_whitelist.find(
		(entry) =>
			entry.vendor === vendor &&
			(entry.device === PCI_ANY_ID || entry.device === device),
	);
	if (__host_bridge_whitelist(host, same, false))
		return [`${known}, which is on the list (${row?.name}).`];
	if (__host_bridge_whitelist(host, true, false))
		return [
			`${known}, which is on the list (${row?.name}) with REQ_SAME_HOST_BRIDGE: only for two functions below one host bridge.`,
		];
	return [
		`${known}, which is not on this release's list${row === undefined ? '' : ` (a later one has it: ${row.name})`}.`,
	];
}

function hostRule(provider: pci_dev, client: pci_dev): string[] {
	if (cpu_supports_p2pdma())
		return ['The CPU is AMD of family 0x17 or later: any host bridge of it will do.'];
	const [a, b] = [pci_find_host_bridge(provider.bus), pci_find_host_bridge(client.bus)];
	const cpu =
		'The CPU is not AMD of family 0x17 or later, so the list of host bridges decides.';
	if (a === b) return [cpu, ...speakerLines(a, true)];
	return [cpu, ...speakerLines(a, false), ...speakerLines(b, false)];
}

const results: Readonly<Record<Reach, string>> = {
	self: 'Allowed: the function reaches its own memory (PCI_P2PDMA_MAP_BUS_ADDR).',
	switch: 'Allowed, by bus address, below the root (PCI_P2PDMA_MAP_BUS_ADDR).',
	redirected: 'Allowed, through the host bridge (PCI_P2PDMA_MAP_THRU_HOST_BRIDGE).',
	host: 'Allowed, through the host bridge (PCI_P2PDMA_MAP_THRU_HOST_BRIDGE).',
	across: 'Allowed, from host bridge to host bridge (PCI_P2PDMA_MAP_THRU_HOST_BRIDGE).',
	refused: 'Refused (PCI_P2PDMA_MAP_NOT_SUPPORTED).',
};

/** Why, in sentences; called in a booted world. */
function ruleLines(provider: pci_dev, client: pci_dev, answer: Answer): string[] {
	const { way, meeting } = wayOf(provider, client);
	const redirecting = way.filter(
		({ pdev, counts }) => counts && pci_bridge_has_acs_redir(pdev) !== 0,
	);
	const lines: string[] = [];
	if (meeting === null)
		lines.push('No function is above both: the request goes over the root complex.');
	else if (redirecting.length === 0)
		lines.push(
			way.length === 1
				? 'It is one function, and its ACS does not redirect.'
				: `${pci_name(meeting)} is above both, and no function up to it redirects: the request turns there.`,
		);
	else
		lines.push(
			`${redirecting.map(({ pdev }) => pci_name(pdev)).join(', ')} ${redirecting.length === 1 ? 'redirects' : 'redirect'} (ReqRedir, CmpltRedir or EgressCtrl): the request goes up to the root complex.`,
		);
	if (meeting === null || redirecting.length > 0) lines.push(...hostRule(provider, client));
	lines.push(`${results[answer.reach]} Distance ${answer.hops}.`);
	return lines;
}

/** What the kernel itself writes when it is asked to be verbose. */
function logLines(provider: pci_dev, client: pci_dev): string[] {
	const { log, reports } = world();
	const [before, reported] = [log.length, reports.length];
	calc_map_type_and_dist(provider, client, outParam(0), true);
	const said = log.slice(before).map((line) => `  ${line}`);
	const wrong = reports.slice(reported).map(({ title }) => `  ${title}`);
	return [
		...(said.length === 0
			? []
			: ['', "The kernel's log, when it is asked to be verbose:", ...said]),
		...(wrong.length === 0
			? []
			: [
					'',
					'The verbose query itself goes wrong in this kernel: its list is cut off, and what it',
					"answers is not to be trusted (the answer above is the quiet query's):",
					...wrong,
				]),
	];
}

/**
 * Explain one pair.
 *
 * @param scenario - machine and kernel
 * @param provider - whose memory it is
 * @param client - who accesses it
 * @param all - names of all functions
 */
export function whyLines(
	scenario: Scenario,
	provider: Named,
	client: Named,
	all: readonly Named[],
): string[] {
	const names = new Map(all.map(({ bdf, name }) => [bdf, name]));
	const unknown = new Set(unknownsOf(scenario.machine).acs);
	const lines = [
		`May ${client.name} (${client.bdf}) access the memory of ${provider.name} (${provider.bdf})? Linux ${scenario.kernel}:`,
		'',
	];
	const said = new Set<Reach>();
	const possible = candidates(forPair(scenario.machine, [provider.bdf, client.bdf]));
	for (const { machine, assuming } of possible) {
		withKernel({ ...scenario, machine }, () => {
			const [p, c] = [bootedFunction(provider.bdf), bootedFunction(client.bdf)];
			if (said.size === 0)
				lines.push(...wayLines(wayOf(p, c).way, names, unknown));
			const answer = askPair(p, c);
			if (said.has(answer.reach)) return;
			said.add(answer.reach);
			lines.push('');
			if (possible.length > 1) lines.push(`If ${assuming.join(', and ')}:`);
			lines.push(
				...ruleLines(p, c, answer).flatMap((line) => wrap(line)),
				...logLines(p, c),
			);
		});
	}
	if (possible.length > 1 && said.size === 1)
		lines.push('', 'So it is whatever the unknown parts are.');
	return lines;
}
