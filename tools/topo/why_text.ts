// SPDX-License-Identifier: GPL-2.0-only
/** Why a pair may, or may not, in sentences. */
import { hex } from '../../arch/sim/description.ts';
import { columns, wrap } from '../kproto/table.ts';
import type { Reach } from './kernel.ts';
import type { Hop, Reason, Speaker, Why } from './why.ts';

function acsWords(acs: Hop['acs']): string {
	if (acs === 'unknown') return 'ACS unknown';
	if (acs === null) return 'no ACS';
	const { control, on } = acs;
	return `ACS 0x${hex(control, 2)}: ${on.length === 0 ? 'all off' : on.join(' ')}`;
}

function noteOf({ meeting, redirects, counts }: Hop, isAlone: boolean): string {
	const notes: string[] = [];
	if (meeting && !isAlone) notes.push('both sides meet here');
	if (redirects) notes.push(counts ? 'redirects' : 'redirects, which does not matter here');
	return notes.join('; ');
}

/** The rows of the way, in columns. */
function wayLines(way: readonly Hop[]): string[] {
	const rows = columns(
		way.map((hop) => [
			hop.direction,
			`${hop.bdf} ${hop.name ?? ''}`.trim(),
			hop.type,
			acsWords(hop.acs),
			noteOf(hop, way.length === 1),
		]),
	);
	return way.flatMap(({ over }, i) => {
		const hosts = over.map((host) => `host bridge ${host}`).join(' to ');
		return [...(hosts === '' ? [] : [`  over  ${hosts}`]), rows[i] ?? ''];
	});
}

/** Who speaks for a host bridge, and what the list says of it. */
function speakerLine({ host, first, speaker, entry, listed }: Speaker): string {
	const name = `Host bridge ${host}`;
	if (speaker === null) {
		const who =
			first === null
				? 'nothing is on it'
				: `the first function on it is ${first}`;
		return `${name} is known by nobody: ${who}, neither device 00.0 nor a root port.`;
	}
	const known = `${name} is known by ${speaker.bdf} [${speaker.ids}]`;
	if (listed === 'yes') return `${known}, which is on the list (${entry}).`;
	if (listed === 'same-host-bridge')
		return `${known}, which is on the list (${entry}) with REQ_SAME_HOST_BRIDGE: only for two functions below one host bridge.`;
	const later = entry === null ? '' : ` (a later one has it: ${entry})`;
	return `${known}, which is not on this release's list${later}.`;
}

function hostRule({ cpuWillDo, hostBridges }: Reason): string[] {
	if (cpuWillDo === null) return [];
	if (cpuWillDo)
		return ['The CPU is AMD of family 0x17 or later: any host bridge of it will do.'];
	return [
		'The CPU is not AMD of family 0x17 or later, so the list of host bridges decides.',
		...hostBridges.map(speakerLine),
	];
}

const results: Readonly<Record<Reach, string>> = {
	self: 'Allowed: the function reaches its own memory',
	switch: 'Allowed, by bus address, below the root',
	redirected: 'Allowed, through the host bridge',
	host: 'Allowed, through the host bridge',
	across: 'Allowed, from host bridge to host bridge',
	refused: 'Refused',
};

/** How the request turns. */
function turnLine({ meeting, redirecting }: Reason, isAlone: boolean): string {
	if (meeting === null)
		return 'No function is above both: the request goes over the root complex.';
	if (redirecting.length > 0)
		return `${redirecting.join(', ')} ${redirecting.length === 1 ? 'redirects' : 'redirect'} (ReqRedir, CmpltRedir or EgressCtrl): the request goes up to the root complex.`;
	return isAlone
		? 'It is one function, and its ACS does not redirect.'
		: `${meeting} is above both, and no function up to it redirects: the request turns there.`;
}

/** Why, in sentences. */
function ruleLines(reason: Reason, isAlone: boolean): string[] {
	const { reach, mapType, hops } = reason;
	return [
		turnLine(reason, isAlone),
		...hostRule(reason),
		`${results[reach]} (${mapType}). Distance ${hops}.`,
	].flatMap((line) => wrap(line));
}

function logLines({ log, reports }: Reason): string[] {
	const indented = (lines: readonly string[]) => lines.map((line) => `  ${line}`);
	const said = ['', "The kernel's log, when it is asked to be verbose:", ...indented(log)];
	const wrong = [
		'',
		'The verbose query itself goes wrong in this kernel: its list is cut off, and what it',
		"answers is not to be trusted (the answer above is the quiet query's):",
		...indented(reports),
	];
	return [...(log.length === 0 ? [] : said), ...(reports.length === 0 ? [] : wrong)];
}

/**
 * An explanation, as text.
 *
 * @param why - of explain()
 */
export function whyLines({ kernel, provider, client, way, open, reasons }: Why): string[] {
	const lines = [
		`May ${client.name} (${client.bdf}) access the memory of ${provider.name} (${provider.bdf})? Linux ${kernel}:`,
		'',
		...wayLines(way),
	];
	for (const reason of reasons) {
		lines.push('');
		if (open) lines.push(`If ${reason.assuming.join(', and ')}:`);
		lines.push(...ruleLines(reason, way.length === 1), ...logLines(reason));
	}
	if (open && reasons.length === 1)
		lines.push('', 'So it is whatever the unknown parts are.');
	return lines;
}
