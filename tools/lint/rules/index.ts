// SPDX-License-Identifier: GPL-2.0-only
/** The rules of the house that no common linter has. */
import { readNameIndex } from '../kernel/name_index.ts';
import type { Rule } from '../rule.ts';
import { deterministic } from './deterministic.ts';
import { flavour } from './flavour.ts';
import { kernelFile } from './kernel_file.ts';
import { noModuleState } from './no_module_state.ts';
import { register } from './register.ts';
import { spdx } from './spdx.ts';
import { yieldStar } from './yield_star.ts';

/** In the order in which they are looked at. */
export const rules: readonly Rule[] = [
	spdx,
	yieldStar,
	register,
	kernelFile(readNameIndex()),
	deterministic,
	flavour,
	noModuleState,
];
