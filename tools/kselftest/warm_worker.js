// SPDX-License-Identifier: GPL-2.0-only
/**
 * What a worker loads anyway before its suite, loaded while it waits for an edit: vitest, the runner,
 * and the thread that Node resolves modules in once a hook is registered, as vitest does.
 */
import { register } from 'node:module';
import 'vitest';
import './runner.js';

register('data:text/javascript,');
