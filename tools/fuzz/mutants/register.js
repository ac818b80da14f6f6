// SPDX-License-Identifier: GPL-2.0-only
// Starts a program with the edits of a mutant, which are in KPROTO_MUTANT, in front of the TypeScript loader:
// node --import ./tools/fuzz/mutants/register.js --import tsx program.ts
import { register } from 'node:module';

register('./hook.js', import.meta.url, { data: JSON.parse(process.env['KPROTO_MUTANT'] ?? '[]') });
