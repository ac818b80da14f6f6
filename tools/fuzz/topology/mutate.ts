// SPDX-License-Identifier: GPL-2.0-only
/** Seeded mutations of texts and bytes. */

/** Numbers by chance, the same for the same seed. */
export class Chance {
	private state: number;

	/** @param seed - any number */
	constructor(seed: number) {
		this.state = seed | 0;
	}

	/**
	 * A whole number.
	 *
	 * @param below - the first that is too large
	 */
	below(below: number): number {
		this.state = (this.state + 0x6d2b79f5) | 0;
		let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) % below;
	}

	/**
	 * One of a list.
	 *
	 * @param list - not empty
	 */
	of<T>(list: readonly T[]): T {
		return list[this.below(list.length)] as T;
	}
}

/** Words that readers look for, and numbers at the ends of their ranges. */
const words: readonly string[] = [
	'',
	' ',
	'\n',
	'\n\n',
	'\t',
	'\r\n',
	'\0',
	'é',
	'> ',
	'ff',
	'00',
	'0',
	'-1',
	'ffffffffffffffff',
	'99999999999999999999',
	'[size=8E]',
	'[size=3M]',
	'[virtual]',
	'<access denied>',
	'!!! Unknown header type 7f',
	'Capabilities: <chain looped>',
	'ACSCtl:\tSrcValid+',
	'Bus: primary=00, secondary=00, subordinate=ff',
	'Bus: primary=00, secondary=01, subordinate=00',
	'Region 0: Memory at <ignored> (64-bit, prefetchable)',
	'00:00.0 Host bridge [0600]: x [8086:2020]\n',
	'10000:00:00.0 ',
	'{',
	'[',
	'<',
	'&#0;',
	'"',
];

type TextMutation = (text: string, chance: Chance, other: string) => string;

function cut(text: string, chance: Chance): [number, number] {
	const from = chance.below(text.length + 1);
	return [from, Math.min(text.length, from + chance.below(40))];
}

const lineMutation =
	(change: (lines: string[], at: number, chance: Chance) => void): TextMutation =>
	(text, chance) => {
		const lines = text.split('\n');
		change(lines, chance.below(lines.length), chance);
		return lines.join('\n');
	};

const textMutations: readonly TextMutation[] = [
	(text, chance) => {
		const [from, to] = cut(text, chance);
		return text.slice(0, from) + text.slice(to);
	},
	(text, chance) => {
		const [from, to] = cut(text, chance);
		return text.slice(0, to) + text.slice(from);
	},
	(text, chance) => {
		const [from, to] = cut(text, chance);
		return (
			text.slice(0, from) +
			chance.of(words) +
			text.slice(chance.below(2) === 0 ? from : to)
		);
	},
	(text, chance) => {
		const at = chance.below(text.length + 1);
		return (
			text.slice(0, at) +
			String.fromCharCode(chance.below(256)) +
			text.slice(at + 1)
		);
	},
	(text, chance) => text.slice(0, chance.below(text.length + 1)),
	(text, chance) => {
		// another digit in the place of one
		const at = chance.below(text.length + 1);
		const digit = text.slice(at).search(/[0-9a-f]/);
		if (digit < 0) return text;
		const place = at + digit;
		return (
			text.slice(0, place) +
			chance.of([...'0123456789abcdef']) +
			text.slice(place + 1)
		);
	},
	(text, chance, other) =>
		text.slice(0, chance.below(text.length + 1)) +
		other.slice(chance.below(other.length + 1)),
	lineMutation((lines, at) => lines.splice(at, 1)),
	lineMutation((lines, at) => lines.splice(at, 0, lines[at] ?? '')),
	lineMutation((lines, at, chance) => {
		const to = chance.below(lines.length);
		[lines[at], lines[to]] = [lines[to] ?? '', lines[at] ?? ''];
	}),
	lineMutation((lines, at, chance) => {
		lines[at] = chance.of(words);
	}),
];

/**
 * A text with one to eight mutations.
 *
 * @param text - the text
 * @param chance - decides
 * @param other - another text, to splice with
 */
export function mutateText(text: string, chance: Chance, other: string): string {
	let changed = text;
	for (let n = 1 + chance.below(8); n > 0; n--)
		changed = chance.of(textMutations)(changed, chance, other);
	return changed;
}

/**
 * Bytes with one to sixteen mutations, or fewer of them.
 *
 * @param bytes - the bytes; left alone
 * @param chance - decides
 */
export function mutateBytes(bytes: Uint8Array, chance: Chance): Uint8Array {
	let changed = bytes.slice();
	for (let n = 1 + chance.below(16); n > 0; n--) {
		// Headers and lists of capabilities stand at the beginning of each part.
		const near = chance.of([0, 0x34, 0x40, 0x60, 0x100, chance.below(4096)]);
		const at = near + chance.below(16);
		if (at >= changed.length) continue;
		changed[at] = chance.of([
			0,
			0xff,
			chance.below(256),
			(changed[at] ?? 0) ^ (1 << chance.below(8)),
		]);
	}
	if (chance.below(8) === 0) changed = changed.slice(0, chance.below(changed.length + 1));
	return changed;
}
