// SPDX-License-Identifier: GPL-2.0-only
/**
 * How vitest runs the suites.
 *
 * Modules are loaded by tsx in forked processes and not by Vite: V8's coverage is then that of the
 * source itself, line by line, and a stack trace has the real position without a source map server.
 */
import { defineConfig } from 'vitest/config';
import { warmPool } from './tools/kselftest/warm_pool.ts';

export default defineConfig({
	test: {
		include: ['test/**/*-tests.ts'],
		exclude: ['**/node_modules/**', 'test/tools/fixtures/**'],
		pool: process.env['KSELFTEST_WATCH'] ? warmPool() : 'forks',
		execArgv: ['--import', 'tsx'],
		experimental: { viteModuleRunner: false, nodeLoader: false },
		// a fork ends before V8 writes what it counted
		setupFiles: process.env['NODE_V8_COVERAGE'] ? ['test/setup/coverage.ts'] : [],
		expect: { requireAssertions: true },
		testTimeout: 30_000,
		hookTimeout: 30_000,
	},
});
