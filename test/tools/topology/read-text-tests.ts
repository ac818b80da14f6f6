// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a text is read as people have it: packed, with a byte order mark, in UTF-16, from a pipe.
 * Method: one small text written in each way, and what a reader of the command gets of it.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { readTextFile } from '../../../tools/topology/read-text.ts';
import { readSource } from '../../../tools/topology/source.ts';
import {
	EXPECT_EQ,
	EXPECT_STREQ,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../kselftest_harness.ts';

const text = `00:00.0 Host bridge [0600]: Intel Corporation Größe [8086:29c0]
	Control: I/O- Mem- BusMaster-

00:01.0 Ethernet controller [0200]: Intel Corporation 82540EM [8086:100e]
	Control: I/O- Mem- BusMaster-

`;
const root = fileURLToPath(new URL('../../..', import.meta.url));

const texts = FIXTURE('topology_text', () => ({ dir: '' }));
FIXTURE_SETUP(texts, (self) => {
	self.dir = mkdtempSync(join(tmpdir(), 'kproto-text-'));
});
FIXTURE_TEARDOWN(texts, ({ dir }) => {
	rmSync(dir, { recursive: true });
});

/** Text as bytes of UTF-16, big or little endian, with its mark. */
function utf16(big: boolean): Uint8Array {
	const bytes = Buffer.from(`\ufeff${text}`, 'utf16le');
	return big ? bytes.swap16() : bytes;
}

TEST_F(texts, 'marked_and_packed_texts_are_the_same_text', ({ dir }) => {
	const ways = {
		plain: Buffer.from(text),
		marked: Buffer.from(`\ufeff${text}`),
		little: utf16(false),
		big: utf16(true),
		'packed.gz': gzipSync(text),
		'both.gz': gzipSync(utf16(false)),
	};
	for (const [name, bytes] of Object.entries(ways)) {
		const path = join(dir, name);
		writeFileSync(path, bytes);
		EXPECT_STREQ(text, readTextFile(path));
		EXPECT_EQ(2, readSource([path]).description.devices.length);
	}
	writeFileSync(join(dir, 'server.txt.gz'), gzipSync(text));
	EXPECT_STREQ('server', readSource([join(dir, 'server.txt.gz')]).description.name);
});

TEST_F(texts, 'broken_package_is_one_line', ({ dir }) => {
	const path = join(dir, 'cut.gz');
	writeFileSync(path, gzipSync(text).subarray(0, 40));
	let message = '';
	try {
		readTextFile(path);
	} catch (error) {
		message = (error as Error).message;
	}
	EXPECT_STREQ(`${path}:1: expected a topology file that can be read (Z_BUF_ERROR)`, message);
});

TEST_F(texts, 'dash_is_standard_input', () => {
	const { status, stdout } = spawnSync(
		process.execPath,
		['tools/kproto.js', 'topo', '--cpu', 'intel:6', '-'],
		{ cwd: root, input: text, encoding: 'utf8' },
	);
	EXPECT_EQ(0, status);
	EXPECT_STREQ('stdin: 2 functions, 1 host bridge', stdout.split(', from')[0] ?? '');
});
