// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: `.ci/run` counts a run of the suites that failed although its totals are clean, and a failed test
 * once. Method: the script's own function, cut out of it, with an npm that prints and ends as it is told.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
	ASSERT_TRUE,
	EXPECT_STREQ,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { programEnv } from '../support/command.ts';

const script = fileURLToPath(new URL('../../.ci/run', import.meta.url));

interface Self {
	dir: string;
}

const ci = FIXTURE<Self>('ci', () => ({ dir: '' }));

FIXTURE_SETUP(ci, (self) => {
	self.dir = mkdtempSync(join(tmpdir(), 'ci-'));
});

FIXTURE_TEARDOWN(ci, ({ dir }) => {
	rmSync(dir, { recursive: true });
});

/** `passed failed: failures`, as the script counts a run that prints a line and ends with a code. */
function counted(dir: string, line: string, code: number): string {
	const npm = join(dir, 'npm');
	writeFileSync(npm, `#!/bin/sh\necho '${line}'\nexit ${code}\n`);
	chmodSync(npm, 0o755);
	const suites = /^suites\(\) \{.*?^\}/ms.exec(readFileSync(script, 'utf8'));
	ASSERT_TRUE(suites !== null);
	const program = `set -uo pipefail
passed=0 failed=0 failures=() step_limit=60 work=${dir}
${suites?.[0]}
suites >/dev/null
echo "$passed $failed: \${failures[*]:-}"`;
	const { stdout } = spawnSync('bash', ['-c', program], {
		encoding: 'utf8',
		env: programEnv({ PATH: `${dir}:${process.env['PATH']}` }),
	});
	return stdout.trimEnd();
}

const clean = '# Totals: pass:7 fail:0 xfail:1 xpass:0 skip:2 error:0';

TEST_F(ci, 'clean_run_is_its_tests', ({ dir }) => {
	EXPECT_STREQ('8 0:', counted(dir, clean, 0).trimEnd());
});

TEST_F(ci, 'run_that_failed_with_clean_totals_is_one_failure', ({ dir }) => {
	EXPECT_STREQ('8 1: suites: npm test ended with 3', counted(dir, clean, 3));
});

TEST_F(ci, 'failed_tests_are_counted_once', ({ dir }) => {
	const line = '# Totals: pass:7 fail:2 xfail:0 xpass:0 skip:0 error:0';
	EXPECT_STREQ('7 2: 2 tests', counted(dir, line, 1));
});

TEST_F(ci, 'run_without_totals_is_one_failure', ({ dir }) => {
	EXPECT_STREQ('0 1: suites: no totals line', counted(dir, 'Killed', 137));
});
