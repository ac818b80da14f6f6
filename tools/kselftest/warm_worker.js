// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a worker loads anyway before its suite, loaded while it waits for an edit: vitest, the runner,
 * the thread that Node resolves modules in once a hook is registered, as vitest does, and the scripts
 * of the suite that ran last.
 */
import { register } from 'node:module';
import 'vitest';
import { scripts } from './runner.js';

register('data:text/javascript,');
const { KSELFTEST_AHEAD: suite } = process.env;
// its mistakes are told when it runs
if (suite) await scripts?.prepare(suite).catch(() => {});
