// SPDX-License-Identifier: GPL-2.0-only
/**
 * The picture of `kproto topo --svg`. Goal: every label can be read: it is large enough, none lies over another,
 * none is cut off, each stands on its box with enough contrast, in light and in dark; every path is drawn in the
 * colour of its verdict. Method: a browser lays the pictures out and measures them (headless Chromium; without
 * it those tests are skipped); paths are looked up in the file.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_GT,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	SKIP,
	TEST_F,
} from '../../kselftest_harness.ts';
import { denied } from '../topology/denied.ts';
import { topo } from './command.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const chromium = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
	(path) => existsSync(path),
);

/** Machines that are drawn: a switch tree, ACS, two sockets, unknown ACS. */
const machines: readonly (readonly string[])[] = [
	[join(root, 'test/golden/p2p/lspci/s100/lspci-D-nn-vvv.txt')],
	[
		join(root, 'test/golden/p2p/lspci/s112/lspci-D-nn-vvv.txt'),
		'--from',
		'all',
		'--to',
		'all',
	],
	[join(root, 'tools/machines/hgx-8x8-acs.json')],
	[join(root, 'tools/machines/dual-xeon.json')],
];

interface Self {
	dir: string;
}

/** As the browser shows it, which asks the person for a scheme. */
const picture = FIXTURE<Self, { scheme: string; flag: string }>(
	'picture',
	() => ({ dir: '' }),
	FIXTURE_VARIANT({ scheme: '', flag: '' }),
);
FIXTURE_VARIANT_ADD(picture, 'light', { scheme: 'light', flag: 'preferredColorScheme=1' });
FIXTURE_VARIANT_ADD(picture, 'dark', { scheme: 'dark', flag: 'preferredColorScheme=0' });

/** The file itself, in which both schemes are. */
const file = FIXTURE<Self>('file', () => ({ dir: '' }));

function makeFolder(self: Self): void {
	self.dir = mkdtempSync(join(tmpdir(), 'svg-'));
}

function removeFolder({ dir }: Self): void {
	rmSync(dir, { recursive: true });
}

FIXTURE_SETUP(picture, makeFolder);
FIXTURE_TEARDOWN(picture, removeFolder);
FIXTURE_SETUP(file, makeFolder);
FIXTURE_TEARDOWN(file, removeFolder);

/** Draw a machine. */
async function draw(dir: string, args: readonly string[]): Promise<string> {
	const file = join(dir, 'picture.svg');
	const { code, err } = await topo(...args, '--svg', file);
	EXPECT_STREQ('', err);
	EXPECT_EQ(0, code);
	return readFileSync(file, 'utf8');
}

/** What the browser measured of one picture. */
interface Measured {
	dark: boolean;
	labels: number;
	devices: number;
	overlapping: string[];
	cut: string[];
	small: string[];
	/** Label and ratio, where it is too little. */
	faint: string[];
	/** Class of a stripe and ratio, where it is too little. */
	faintPaths: string[];
	paths: number;
}

/** Runs in the browser: measures each picture of the page. */
const measure = `
const rgb = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0]).slice(0, 3).map(Number);
const light = (text) => {
	const [r, g, b] = rgb(text).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
	return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
	const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
	return (x + 0.05) / (y + 0.05);
};
const over = (a, b) => a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
const inside = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
const result = [...document.querySelectorAll('svg')].map((svg) => {
	const texts = [...svg.querySelectorAll('text')].filter((text) => text.textContent !== '');
	const boxes = [...svg.querySelectorAll('rect.box')];
	const place = new Map([...texts, ...boxes].map((one) => [one, one.getBoundingClientRect()]));
	const frame = svg.getBoundingClientRect();
	const back = getComputedStyle(svg.querySelector('.back')).fill;
	const found = { dark: matchMedia('(prefers-color-scheme: dark)').matches, labels: texts.length,
		devices: svg.querySelectorAll('text.device').length, overlapping: [], cut: [], small: [], faint: [], faintPaths: [], paths: 0 };
	for (const [i, a] of texts.entries()) {
		const said = a.textContent;
		const own = boxes.find((box) => over(place.get(a), place.get(box)));
		for (const b of texts.slice(i + 1)) if (over(place.get(a), place.get(b))) found.overlapping.push(said + ' | ' + b.textContent);
		if (!inside(place.get(a), own === undefined ? frame : place.get(own))) found.cut.push(said);
		if (parseFloat(getComputedStyle(a).fontSize) < 11) found.small.push(said);
		const ratio = contrast(getComputedStyle(a).fill, own === undefined ? back : getComputedStyle(own).fill);
		if (ratio < 4.5) found.faint.push(said + ' ' + ratio.toFixed(2));
	}
	for (const path of svg.querySelectorAll('path.path')) {
		found.paths++;
		const ratio = contrast(getComputedStyle(path).stroke, back);
		if (ratio < 3) found.faintPaths.push(path.getAttribute('class') + ' ' + ratio.toFixed(2));
	}
	return found;
});
document.getElementById('result').textContent = JSON.stringify(result);
`;

/** Lay pictures out in a browser. */
function inBrowser(dir: string, pictures: readonly string[], flag: string): Measured[] {
	const page = join(dir, 'page.html');
	writeFileSync(
		page,
		`<!doctype html><meta charset="utf-8"><body>${pictures.map((svg) => `<div>${svg}</div>`).join('')}<pre id="result"></pre><script>${measure}</script>`,
	);
	const { stdout } = spawnSync(
		chromium as string,
		[
			'--headless',
			'--no-sandbox',
			'--disable-gpu',
			`--user-data-dir=${join(dir, 'profile')}`,
			`--blink-settings=${flag}`,
			'--dump-dom',
			`file://${page}`,
		],
		{ encoding: 'utf8', timeout: 120_000, maxBuffer: 1 << 26 },
	);
	const json = /<pre id="result">([^<]+)<\/pre>/.exec(stdout ?? '')?.[1];
	ASSERT_TRUE(json !== undefined);
	return JSON.parse(
		(json ?? '[]')
			.replaceAll('&gt;', '>')
			.replaceAll('&lt;', '<')
			.replaceAll('&amp;', '&'),
	) as Measured[];
}

TEST_F(
	picture,
	'every_label_can_be_read',
	async ({ dir }, { scheme, flag }) => {
		if (chromium === undefined) SKIP('no Chromium to lay the pictures out');
		const pictures: string[] = [];
		for (const args of machines) pictures.push(await draw(dir, args));
		const measured = inBrowser(dir, pictures, flag);
		EXPECT_EQ(machines.length, measured.length);
		for (const [i, one] of measured.entries()) {
			EXPECT_EQ(scheme === 'dark', one.dark);
			// One label for each function of the picture, and the browser saw them all.
			EXPECT_EQ(
				pictures[i]?.match(/class="label device"/g)?.length ?? 0,
				one.devices,
			);
			EXPECT_GT(one.devices, 3);
			EXPECT_GT(one.paths, 0);
			for (const wrong of [
				one.overlapping,
				one.cut,
				one.small,
				one.faint,
				one.faintPaths,
			])
				EXPECT_STREQ('', wrong.slice(0, 5).join('\n'));
		}
	},
	{ timeout: 150 },
);

TEST_F(
	picture,
	'measuring_notices_what_is_wrong',
	async ({ dir }, { flag }) => {
		if (chromium === undefined) SKIP('no Chromium to lay the pictures out');
		const svg = await draw(dir, machines[0] as string[]);
		const row = (name: string) =>
			new RegExp(`y="(\\d+)">${name} `).exec(svg)?.[1] ?? '';
		const spoilt = svg
			.replace(`y="${row('ACC8')}">ACC8`, `y="${row('ACC7')}">ACC8`)
			.replace(
				'ACC0 0100:01:00.1',
				'ACC0 0100:01:00.1 with a name that leaves its box',
			)
			.replaceAll(
				/\.switch \{ stroke: #\w+ \}/g,
				'.switch { stroke: #888888; stroke-opacity: 1 }',
			)
			.replaceAll('.back { fill: #ffffff }', '.back { fill: #8a8a8a }')
			.replaceAll('.back { fill: #14171b }', '.back { fill: #8a8a8a }')
			.replaceAll(/(\.box \{ fill: )#\w+/g, '$1#777777');
		const [one] = inBrowser(dir, [spoilt], flag);
		EXPECT_GT(one?.cut.length ?? 0, 0);
		EXPECT_TRUE(one?.overlapping[0]?.startsWith('ACC7 ') === true);
		EXPECT_GT(one?.faint.length ?? 0, 0);
		EXPECT_GT(one?.faintPaths.length ?? 0, 0);
	},
	{ timeout: 150 },
);

TEST_F(file, 'paths_have_the_colours_of_their_verdicts', async ({ dir }) => {
	const [capture = ''] = machines[0] as string[];
	const stripes = async (...args: string[]) => {
		const svg = await draw(dir, [capture, ...args]);
		const tree = svg.slice(svg.indexOf('class="line"'));
		return [...tree.matchAll(/class="path ([^"]+)"/g)]
			.map(([, kind]) => kind)
			.join(' ');
	};
	const pair = ['--from', 'ACC1', '--to', 'NIC2'];
	// up from NIC2 to the meeting switch in four lines, down to ACC1 in two
	EXPECT_STREQ(Array(6).fill('switch').join(' '), await stripes(...pair));
	EXPECT_STREQ('', await stripes('--from', 'ACC11', '--to', 'NIC2'));
	// over both host bridges: seven lines on the one side, three on the other
	EXPECT_STREQ(
		Array(10).fill('across').join(' '),
		await stripes('--from', 'ACC11', '--to', 'NIC2', '--cpu', 'amd:0x19'),
	);
});

TEST_F(file, 'open_answers_are_dashed_and_said', async ({ dir }) => {
	const [capture = ''] = machines[0] as string[];
	const source = join(dir, 'denied.txt');
	writeFileSync(source, denied(readFileSync(capture, 'utf8')));
	const svg = await draw(dir, [source, '--from', 'ACC1', '--to', 'NIC2']);
	EXPECT_TRUE(svg.includes('class="path switch open"'));
	EXPECT_TRUE(svg.includes('class="path redirected open"'));
	EXPECT_TRUE(svg.includes('dashed: unknown') && svg.includes('ACS unknown'));
	const known = await draw(dir, [capture, '--from', 'ACC1', '--to', 'NIC2']);
	EXPECT_FALSE(known.includes(' open"'));
});

TEST_F(file, 'file_is_plain_svg', async ({ dir }) => {
	const svg = await draw(dir, machines[2] as string[]);
	EXPECT_TRUE(svg.startsWith('<svg xmlns="http://www.w3.org/2000/svg" '));
	EXPECT_FALSE(/<script|href=|url\(|@import/.test(svg));
	const { code, err } = await topo(
		...(machines[0] as string[]),
		'--svg',
		join(dir, 'no/where.svg'),
	);
	EXPECT_EQ(2, code);
	EXPECT_TRUE(err.endsWith("it can't be written (ENOENT)\n"));
});
