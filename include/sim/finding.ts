// SPDX-License-Identifier: GPL-2.0-only
/**
 * Checks that know better than the kernel: what a released kernel does, and should not do.
 *
 * Guarantee: a finding is no report. A model that behaves as its kernel does is right, though the
 * kernel is wrong: no test and no replay fails by a finding, and with the switch that puts the fault
 * right the same check is silent.
 * Mechanism: the checks run only in a world that was booted with `checks`; where the fault is one
 * that has a switch, the finding names it.
 */
import type { FeatureName } from './feature.ts';
import { world } from './world.ts';

/** Every check: its name, and what it holds against what. */
export const checks = {
	'word against page table':
		'after hmm_range_fault() each valid word names the page, the access and the order of the entry under it',
	'pages migrated that nobody asked for':
		'a fault of hmm_range_fault() brings no device-private page back whose word did not ask for it',
	'call failed by a page that nobody asked for':
		'hmm_range_fault() fails only by a page whose word asked for a fault',
} as const;

/** Name of a check. */
export type CheckName = keyof typeof checks;

/** What a check found. */
export interface Finding {
	readonly check: CheckName;
	/** The switch that puts it right; null: none is known. */
	readonly fix: FeatureName | null;
	/** One line: what was found, where. */
	readonly text: string;
}

/** Whether the checks run in the installed world. */
export function checksRun(): boolean {
	return world().findings !== null;
}

/**
 * Tell a finding; nothing where no checks run.
 *
 * @param check - who found it
 * @param fix - the switch that puts it right, if one is known
 * @param text - one line
 */
export function tellFinding(check: CheckName, fix: FeatureName | null, text: string): void {
	world().findings?.push({ check, fix, text });
}
