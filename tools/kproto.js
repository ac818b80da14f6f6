#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-only
// The kproto command: lets Node read TypeScript, then hands over to tools/kproto/main.ts.
import { register } from 'tsx/esm/api';

const argv = process.argv.slice(2);

// A reader that has seen enough, such as head(1), is no failure; what is not known yet is no pass
// of the suites either: these run on, and end with their own verdict.
process.stdout.on('error', ({ code }) => {
	if (code !== 'EPIPE') process.exit(1);
	if (argv[0] !== 'kselftest') process.exit(0);
});

// Loaded through tsx, vitest's many modules take three times as long.
if (argv[0] === 'kselftest') await import('vitest/node');
register();
const { main } = await import('./kproto/main.ts');
process.exitCode = await main(argv);
