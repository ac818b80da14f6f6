// SPDX-License-Identifier: GPL-2.0-only
/** The list of tests as test_harness_list_tests() prints it. */
import type { TestModule } from 'vitest/node';
import type { TestName } from '../../test/harness/filter.ts';

/**
 * A table for each suite: its fixtures, their variants, their tests.
 *
 * @param modules - the suites, collected
 */
export function listTests(modules: readonly TestModule[]): string[] {
	const lines: string[] = [];
	for (const module of modules) {
		const names: TestName[] = [];
		for (const test of module.children.allTests()) {
			const { kselftest } = test.meta();
			if (kselftest !== undefined) names.push(kselftest);
		}
		if (names.length > 0)
			lines.push(`# ${module.relativeModuleId}`, ...suiteTable(names));
	}
	return lines;
}

function suiteTable(names: readonly TestName[]): string[] {
	const lines = [row('# FIXTURE', 'VARIANT', 'TEST')];
	for (const fixture of new Set(names.map((name) => name.fixture))) {
		const own = names.filter((name) => name.fixture === fixture);
		const variants = [...new Set(own.map(({ variant }) => variant))];
		const tests = [...new Set(own.map(({ test }) => test))];
		if (lines.length > 1) lines.push('-'.repeat(80));
		for (let i = 0; i < Math.max(variants.length, tests.length); i++)
			lines.push(row(i === 0 ? fixture : '', variants[i] ?? '', tests[i] ?? ''));
	}
	return lines;
}

function row(fixture: string, variant: string, test: string): string {
	return `${fixture.padEnd(20)} ${variant.padEnd(25)} ${test}`.trimEnd();
}
