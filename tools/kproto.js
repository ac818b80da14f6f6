#!/usr/bin/env node
// SPDX-License-Identifier: GPL-2.0-only
// The kproto command: lets Node read TypeScript, then hands over to tools/kproto/main.ts.
import { register } from 'tsx/esm/api';

register();
const { main } = await import('./kproto/main.ts');
process.exitCode = await main(process.argv.slice(2));
