// SPDX-License-Identifier: GPL-2.0-only
/** Makes a forked worker write its coverage: vitest ends it before V8 would do so at exit. */
import { takeCoverage } from 'node:v8';
import { afterAll } from 'vitest';

afterAll(() => takeCoverage());
