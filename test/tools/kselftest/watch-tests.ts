// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a run that watches answers an edit.
 * Method: a folder of two suites, one of which imports a module; the module is edited.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
	EXPECT_FALSE,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../kselftest_harness.ts';

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
	private heard = (): void => {};

	constructor(dir: string) {
		this.child = spawn(
			process.execPath,
			[join(root, 'tools/kproto.js'), 'kselftest', '--dir', dir, '--watch'],
			// coverage does without bundles, and a run that watches lives on them
			{
				env: { ...process.env, NODE_V8_COVERAGE: '' },
				stdio: ['pipe', 'pipe', 'ignore'],
			},
		);
		this.child.stdout?.on('data', (chunk: Buffer) => {
			this.output += chunk.toString();
			this.heard();
		});
	}

	/** What is printed from the last verdict to the next. */
	async verdict(): Promise<string> {
		await new Promise<void>((resolve) => {
			this.heard = () => {
				if (/^# Totals:.*\n/m.test(this.output)) resolve();
			};
			this.heard();
		});
		const { output } = this;
		this.output = '';
		return output;
	}

	stop(): void {
		this.child.kill();
	}
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
