// SPDX-License-Identifier: GPL-2.0-only
/** Booted kernels, one a setup, each brought back to its first moment for the next program. */

import type { task_struct } from '../../../include/linux/sched.ts';
import { installWorld, perWorld } from '../../../include/sim/world.ts';
import { type BootOptions, type Checkpoint, checkpoint, restore } from '../../../init/main.ts';
import { scheduler } from '../../../kernel/sched/core.ts';
import { Oracle } from '../../replay/hmm/oracle.ts';
import type { Answer, Step } from '../../replay/hmm/record.ts';
import { execute } from '../../replay/hmm/steps.ts';
import { ProposalOracle } from '../../replay/proposal/oracle.ts';
import { executeProposal } from '../../replay/proposal/steps.ts';
import { type Program, type Setup, scenarioOf } from './program.ts';

/** Keeps what the tools know of a kernel with it, so that a checkpoint has it too. */
const keeper = perWorld<{ oracle: Oracle | null }>(() => ({ oracle: null }));

/** Schedule points of one step without progress, after which it is called a livelock. */
const POINTS = 300_000;

/** A kernel as it was when it had booted. */
export interface Kernel {
	readonly oracle: Oracle;
	execute(task: task_struct, step: Step): Answer;
}

interface Kept extends Kernel {
	readonly saved: Checkpoint;
}

/** Kernels by setup. */
export class Kernels {
	private readonly kept = new Map<string, Kept>();

	/** The kernel of a setup, booted. */
	get(program: Program): Kernel {
		const key = JSON.stringify(program.setup);
		const known = this.kept.get(key);
		if (known !== undefined) {
			restore(known.saved);
			return known;
		}
		const made = bootKernel(program);
		keeper().oracle = made.oracle;
		scheduler().maxPoints = POINTS;
		const kept = { ...made, saved: checkpoint() };
		this.kept.set(key, kept);
		return kept;
	}

	/** Take the kernel of a program away; `isSound` false: it is not used again. */
	put({ setup }: Program, isSound: boolean): void {
		installWorld(null);
		if (!isSound) this.kept.delete(JSON.stringify(setup));
	}
}

/** Faults of a released kernel that programs come upon are put right: they would end every run. */
function bootOptions({ profile }: Setup): BootOptions {
	return profile === 'v6.12' ? {} : { features: { fix_s17: true, fix_s29: true } };
}

function bootKernel(program: Program): Kernel {
	const { setup } = program;
	const options = bootOptions(setup);
	const scenario = scenarioOf(program);
	if (setup.machine === null) {
		const oracle = new Oracle(scenario, setup.profile, options);
		return { oracle, execute: (task, step) => execute(oracle, task, step) };
	}
	const proposals = ['p2p_op_dma_dev'] as const;
	const oracle = new ProposalOracle(scenario, setup.profile, { ...options, proposals });
	return { oracle, execute: (task, step) => executeProposal(oracle, task, step) };
}
