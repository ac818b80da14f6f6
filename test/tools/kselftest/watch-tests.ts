// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a run that watches answers an edit, in the words of a run that does not.
 * Method: a folder of suites, one of which imports a module; the module is edited. Where words are
 * compared, the suites fail in every way that names a place, and the edit moves these places.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../kselftest_harness.ts';
import { kproto, kprotoProgram, programEnv } from '../../support/command.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

function suiteText(importing: string): string {
	const harness = join(root, 'test/kselftest_harness.ts');
	return [
		`import { EXPECT_EQ, TEST } from '${harness}';`,
		importing,
		`TEST('value_is_one', () => { EXPECT_EQ(1, value); });`,
	].join('\n');
}

/** A program that watches a folder. */
class Watching {
	private readonly child: ChildProcess;
	private output = '';
	private errors = '';
	private heard = (): void => {};
	private failed = (_why: Error): void => {};
	private ended: Error | null = null;

	constructor(dir: string) {
		this.child = spawn(
			process.execPath,
			[kprotoProgram, 'kselftest', '--dir', dir, '--watch'],
			// coverage does without bundles, and a run that watches lives on what replaces them
			{ env: programEnv(), stdio: ['pipe', 'pipe', 'pipe'] },
		);
		this.child.stdout?.on('data', (chunk: Buffer) => {
			this.output += chunk.toString();
			this.heard();
		});
		this.child.stderr?.on('data', (chunk: Buffer) => {
			this.errors += chunk.toString();
		});
		this.child.on('error', (error) => this.end(error));
		this.child.on('close', (code, signal) =>
			this.end(new Error(`it ended with ${code ?? signal}: ${this.errors}`)),
		);
	}

	private end(why: Error): void {
		this.ended ??= why;
		this.failed(this.ended);
	}

	/**
	 * What is printed from the last verdict to the next.
	 *
	 * @throws Error the program ended, with what it wrote to stderr
	 */
	async verdict(): Promise<string> {
		await new Promise<void>((resolve, reject) => {
			this.failed = reject;
			this.heard = () => {
				if (/^# Totals:.*\n/m.test(this.output)) resolve();
			};
			this.heard();
			if (this.ended !== null) reject(this.ended);
		});
		const { output } = this;
		this.output = '';
		return output;
	}

	stop(): void {
		this.child.kill();
	}
}

/** What a run that does not watch prints. */
function oneShot(dir: string): string {
	return kproto(['kselftest', '--dir', dir]).out;
}

/** A folder of suites, and who watches it. */
class Folder {
	dir!: string;
	watching!: Watching;
}

const folder = FIXTURE('folder', () => new Folder());

FIXTURE_SETUP(folder, (self) => {
	self.dir = mkdtempSync(join(tmpdir(), 'watch-'));
	writeFileSync(join(self.dir, 'one.ts'), 'export const value = 1;\n');
	writeFileSync(
		join(self.dir, 'user-tests.ts'),
		suiteText(`import { value } from './one.ts';`),
	);
	writeFileSync(join(self.dir, 'other-tests.ts'), suiteText('const value = 1;'));
	self.watching = new Watching(self.dir);
});

FIXTURE_TEARDOWN(folder, ({ dir, watching }) => {
	watching.stop();
	rmSync(dir, { recursive: true });
});

TEST_F(folder, 'edit_runs_the_suites_that_import_the_file', async ({ dir, watching }) => {
	EXPECT_TRUE((await watching.verdict()).includes('# Totals: pass:2 fail:0'));
	writeFileSync(join(dir, 'one.ts'), 'export const value = 2;\n');
	const broken = await watching.verdict();
	EXPECT_TRUE(broken.includes('not ok 1 global.value_is_one'));
	EXPECT_TRUE(broken.includes('value_is_one:Expected 1 == 2'));
	EXPECT_FALSE(broken.includes('other-tests'));
	writeFileSync(join(dir, 'one.ts'), 'export const value = 1; // again\n');
	EXPECT_TRUE((await watching.verdict()).includes('# Totals: pass:1 fail:0'));
});

/** A folder in the tree, so that places in it are told, and who watches it. */
class Places {
	dir!: string;
	watching!: Watching;
}

/** A module whose functions go wrong, and a suite that calls them. */
const wrong = `
import { WARN_ON } from '${root}include/linux/bug.ts';
export function value(): number { return 1; }
export function warns(): void { WARN_ON(value() === 1, 'here'); }
export function throws(): never { throw new RangeError('there'); }
`;
const wrongSuite = `
import { test } from 'vitest';
import { boot } from '${root}init/main.ts';
import { EXPECT_EQ, TEST } from '${root}test/kselftest_harness.ts';
import { namedMachine } from '${root}tools/machines/index.ts';
import { throws, value, warns } from './one.ts';
TEST('fails', () => { EXPECT_EQ(2, value()); });
TEST('warns', () => { boot(namedMachine('standard')); EXPECT_EQ(1, value()); warns(); });
TEST('throws', () => { EXPECT_EQ(1, value()); throws(); });
test('of vitest itself', () => { throws(); });
`;

const places = FIXTURE('places', () => new Places());

FIXTURE_SETUP(places, (self) => {
	// git, the linter and the compiler leave this folder alone
	mkdirSync(join(root, 'coverage'), { recursive: true });
	self.dir = mkdtempSync(join(root, 'coverage/watch-'));
	mkdirSync(join(self.dir, 'mm'));
	writeFileSync(join(self.dir, 'mm/one.ts'), wrong);
	writeFileSync(join(self.dir, 'mm/wrong-tests.ts'), wrongSuite);
	self.watching = new Watching(self.dir);
});

FIXTURE_TEARDOWN(places, ({ dir, watching }) => {
	watching.stop();
	rmSync(dir, { recursive: true });
});

TEST_F(places, 'failures_are_told_in_the_words_of_a_one_shot_run', async ({ dir, watching }) => {
	await watching.verdict();
	const place = `${dir.slice(root.length)}/mm/one.ts`;
	for (const lines of [1, 4]) {
		const above = '// moved\n'.repeat(lines);
		writeFileSync(join(dir, 'mm/one.ts'), above + wrong);
		const seen = await watching.verdict();
		EXPECT_TRUE(
			seen.includes(`mm/wrong-tests.ts:7:fails:Expected 2 (2) == value() (1)`),
		);
		EXPECT_TRUE(seen.includes(`WARNING: mm/one.ts:${lines + 4} at warns: here`));
		EXPECT_TRUE(seen.includes(`${place}:${lines + 5}:throws:RangeError: there`));
		EXPECT_TRUE(seen.includes(`at throws (${place}:${lines + 5}:41)`));
		EXPECT_STREQ(oneShot(dir), seen);
	}
});

TEST_F(places, 'mistake_is_told_and_its_repair_is_noticed', async ({ dir, watching }) => {
	await watching.verdict();
	writeFileSync(join(dir, 'mm/one.ts'), `${wrong}export const = 1;\n`);
	const seen = await watching.verdict();
	EXPECT_TRUE(seen.includes('not ok 1 mm/wrong-tests'));
	EXPECT_STREQ(oneShot(dir), seen);
	writeFileSync(join(dir, 'mm/one.ts'), `${wrong}// repaired\n`);
	EXPECT_TRUE((await watching.verdict()).includes('# Totals: pass:0 fail:4'));
});
