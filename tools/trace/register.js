// SPDX-License-Identifier: GPL-2.0-only
// Starts a program with call tracing: node --import tsx --import ./tools/trace/register.js program.ts
import { register } from 'node:module';

// The tracer itself is loaded before the hook, so that it is not traced.
const { Tracer } = await import('../../kernel/trace/tracer.ts');
globalThis.__ktrace = new Tracer();
register('./hook.js', import.meta.url);
