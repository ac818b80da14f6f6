// SPDX-License-Identifier: GPL-2.0-only
/** Replays of what the kernel says about pairs of functions: distance, map type, cache, log. */
import { cachedMapType } from '../../../drivers/pci/p2pdma/cache.ts';
import {
	calc_map_type_and_dist,
	pci_p2pdma_distance_many,
} from '../../../drivers/pci/p2pdma/distance.ts';
import { pci_p2pmem_find_many } from '../../../drivers/pci/p2pdma/find.ts';
import { mapTypeNumber } from '../../../drivers/pci/p2pdma/map_type.ts';
import { pci_p2pdma } from '../../../drivers/pci/p2pdma/objects.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import { PCI_P2PDMA_MAP_NOT_SUPPORTED } from '../../../include/linux/pci-p2pdma.ts';
import { randomSource } from '../../../include/linux/random.ts';
import { outParam } from '../../../include/linux/types.ts';
import { world } from '../../../include/sim/world.ts';
import type { Comparison } from '../report.ts';
import type { Shaped } from '../shape.ts';
import type {
	CaseRecord,
	cacheFillShape,
	findShape,
	overflowShape,
	setsShape,
	verboseShape,
	whitelistShape,
} from './records.ts';
import type { Rig } from './rig.ts';

/** A verdict as records have it. */
function judge(provider: pci_dev, client: pci_dev): { type: number; raw: number; dist: number } {
	const raw = outParam(0);
	const type = calc_map_type_and_dist(provider, client, raw, false);
	const dist = type === PCI_P2PDMA_MAP_NOT_SUPPORTED ? -1 : raw.value;
	return { type: mapTypeNumber(type), raw: raw.value, dist };
}

/**
 * All map types of a machine.
 *
 * @param devs - its functions
 * @returns row: provider
 */
export function typeMatrix(devs: readonly pci_dev[]): number[][] {
	return devs.map((provider) => devs.map((client) => judge(provider, client).type));
}

/** Replay a case: every function as provider and as client of every other. */
export function replayPairs(rig: Rig, one: CaseRecord, found: Comparison): void {
	const devs = rig.bootCase(one.case);
	for (const [p, provider] of devs.entries())
		for (const [c, client] of devs.entries()) {
			const { type, raw, dist } = judge(provider, client);
			found.equal(`type[${p}][${c}]`, one.type[p]?.[c], type);
			found.equal(`raw[${p}][${c}]`, one.raw[p]?.[c], raw);
			found.equal(`dist[${p}][${c}]`, one.dist[p]?.[c], dist);
		}
}

/** Replay questions about several clients together. */
export function replaySets(rig: Rig, r: Shaped<typeof setsShape>, found: Comparison): void {
	rig.bootCase(r.case);
	for (const [i, { p, c, d, dv }] of r.sets.entries()) {
		const clients = c.map((client) => rig.client(client));
		const ask = (verbose: boolean): number =>
			pci_p2pdma_distance_many(rig.dev(p), clients, clients.length, verbose);
		found.equal(`sets[${i}].d`, d, ask(false));
		if (dv !== undefined) found.equal(`sets[${i}].dv`, dv, ask(true));
	}
}

/** Draws of a query in the records, too few to see every one of more providers than this. */
const ALL_DRAWN = 8;

/** Every provider that a search can return: the random source gives each number once. */
function drawAll(rig: Rig, clients: readonly number[]): pci_dev[] {
	const devices = clients.map((i) => rig.dev(i).dev);
	const drawn: pci_dev[] = [];
	const source = randomSource();
	let draws = 1;
	for (let draw = 0; draw < draws; draw++) {
		source.below = (ceil) => {
			draws = ceil;
			return draw;
		};
		const one = pci_p2pmem_find_many(devices, devices.length);
		if (one !== null) drawn.push(one);
	}
	source.below = null;
	return drawn;
}

/** Replay searches for the nearest provider. */
export function replayFind(rig: Rig, r: Shaped<typeof findShape>, found: Comparison): void {
	const devs = rig.bootCase(r.case);
	for (const p of r.published)
		rig.dev(p).p2pdma = Object.assign(new pci_p2pdma(), { p2pmem_published: true });
	for (const [i, query] of r.queries.entries()) {
		const all = drawAll(rig, query.c).map((pdev) => devs.indexOf(pdev));
		all.sort((a, b) => a - b);
		const recorded = [...query.found].sort((a, b) => a - b);
		const some = all.length > ALL_DRAWN;
		const seen = some ? all.filter((p) => recorded.includes(p)) : all;
		found.equal(`queries[${i}].found`, recorded, seen);
		found.equal(`queries[${i}].none`, query.none > 0, all.length === 0);
	}
}

/** Replay a verbose question: its answer and the lines that it logs, word for word. */
export function replayVerbose(rig: Rig, r: Shaped<typeof verboseShape>, found: Comparison): void {
	rig.bootCase(r.case);
	const { log, reports } = world();
	log.length = 0;
	reports.length = 0;
	const d = pci_p2pdma_distance_many(rig.dev(r.p), [rig.dev(r.c).dev], 1, true);
	const lines = r.log.filter(({ dev }) => dev !== undefined);
	found.equal('d', r.d, d);
	found.equal(
		'log',
		lines.map(({ driver, dev, msg }) => `${driver} ${dev}: ${msg}`),
		log,
	);
	found.equal(
		'reports',
		[],
		reports.map(({ title }) => title),
	);
}

/** Replay a question, and look at the cache of the provider. */
export function replayCacheFill(
	rig: Rig,
	r: Shaped<typeof cacheFillShape>,
	found: Comparison,
): void {
	rig.bootCase(r.case);
	const provider = rig.dev(r.p);
	provider.p2pdma = new pci_p2pdma();
	const clients = r.c.map((i) => rig.dev(i));
	const cached = (): number[] =>
		clients.map((client) => mapTypeNumber(cachedMapType(provider, client)));
	for (const [n, client] of clients.entries()) rig.setCached(r.p, client, r.before[n] ?? 0);
	const devices = clients.map(({ dev }) => dev);
	const d = pci_p2pdma_distance_many(provider, devices, devices.length, Boolean(r.verbose));
	found.equal('d', r.d, d);
	found.equal('after', r.after, cached());
}

/** Replay verdicts across host bridges of other identities. */
export function replayWhitelist(
	rig: Rig,
	r: Shaped<typeof whitelistShape>,
	found: Comparison,
): void {
	const { devs } = rig.topology(r.topology);
	const ids = devs.map(({ vendor, device }) => [vendor, device]);
	for (const { first, vendor, device } of r.hosts)
		if (first >= 0) ids[first] = [vendor, device];
	const { cpu_vendor, cpu_family } = r;
	const state = { cpu_vendor, cpu_family, ids, acs: devs.map(() => null) };
	rig.boot(`whitelist ${r.topology} ${JSON.stringify(r.hosts)}`, {
		topology: r.topology,
		state,
	});
	for (const [i, { p, c, type, raw, dist }] of r.pairs.entries())
		found.equal(`pairs[${i}]`, { type, raw, dist }, judge(rig.dev(p), rig.dev(c)));
}

/**
 * Replay verbose questions about long paths. With ten redirecting functions and more the kernels
 * write behind a buffer; what that breaks was up to the compiler, so what is held against the
 * record is the log up to there, and that the model finds the store.
 */
export function replayOverflow(rig: Rig, r: Shaped<typeof overflowShape>, found: Comparison): void {
	const { devs } = rig.topology(r.topology);
	const ids = devs.map(({ vendor, device }) => [vendor, device]);
	const answers = r.log.join('\n').split(/^p2p_oracle: VP done .*$/m);
	for (const [i, [p = -1, c = -1]] of r.pairs.entries()) {
		const on = new Set(r.functions[i]);
		const acs = devs.map(({ bdf }) => (on.has(bdf) ? 0x0c : null));
		// A CPU that passes peer traffic on: the host bridges were not the question.
		const state = { cpu_vendor: 2, cpu_family: 0x17, ids, acs } as const;
		rig.boot(`overflow ${r.topology} ${r.redirecting} ${i}`, {
			topology: r.topology,
			state,
		});
		const quiet = Number(
			/quiet: distance (-?\d+)/.exec(answers[i] ?? '')?.[1] ?? Number.NaN,
		);
		const clients = [rig.dev(c).dev];
		const ask = (verbose: boolean): number =>
			pci_p2pdma_distance_many(rig.dev(p), clients, 1, verbose);
		found.equal(`pairs[${i}] quiet`, quiet, ask(false));
		const { log, reports } = world();
		log.length = 0;
		reports.length = 0;
		found.equal(`pairs[${i}] verbose`, quiet, ask(true));
		const lines = (answers[i] ?? '')
			.split('\n')
			.filter((line) => line.includes('ACS redirect'));
		found.equal(`pairs[${i}] log`, lines, log);
		found.equal(
			`pairs[${i}] reports`,
			r.redirecting >= 10 ? ['KASAN'] : [],
			reports.map(({ kind }) => kind),
		);
	}
}
