#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-only
// The kproto command: lets Node read TypeScript, then hands over to tools/kproto/main.ts.
import { register } from 'tsx/esm/api';

const argv = process.argv.slice(2);

// A reader that has seen enough, such as head(1), is no failure.
process.stdout.on('error', ({ code }) => process.exit(code === 'EPIPE' ? 0 : 1));

// Loaded through tsx, vitest's many modules take three times as long.
if (argv[0] === 'kselftest') await import('vitest/node');
register();
const { main } = await import('./kproto/main.ts');
process.exitCode = await main(argv);
