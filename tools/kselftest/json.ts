// SPDX-License-Identifier: GPL-2.0-only
/** Results in the schema of the kernel's kunit_json.py, which KernelCI reads. */
import type { Result, Status } from './results.ts';

interface JsonGroup {
	name: string;
	arch: string;
	defconfig: string;
	build_environment: string;
	lab_name: null;
	kernel: null;
	job: null;
	git_branch: string;
	sub_groups: JsonGroup[];
	test_cases: { name: string; status: string }[];
}

/** As _status_map: what it does not name is a failure, an expected one counts as success. */
const statusMap: Readonly<Record<Status, string>> = {
	pass: 'PASS',
	xfail: 'PASS',
	skip: 'SKIP',
	error: 'ERROR',
	fail: 'FAIL',
	xpass: 'FAIL',
	timeout: 'FAIL',
};

function group(name: string, results: readonly Result[]): JsonGroup {
	return {
		name,
		arch: 'sim',
		defconfig: 'kselftest',
		build_environment: '.',
		lab_name: null,
		kernel: null,
		job: null,
		git_branch: 'kselftest',
		sub_groups: results
			.filter(({ children }) => children.length > 0)
			.map((result) => group(result.name, result.children)),
		test_cases: results
			.filter(({ children }) => children.length === 0)
			.map((result) => ({ name: result.name, status: statusMap[result.status] })),
	};
}

/**
 * The whole run as JSON text.
 *
 * @param results - the suites
 */
export function jsonResult(results: readonly Result[]): string {
	return JSON.stringify(group('KUnit Test Group', results), null, 4);
}
