// SPDX-License-Identifier: GPL-2.0-only
/**
 * Findings of the checks that know better than the kernel, told beside the result.
 *
 * ```
 *   finding FILE:41 Q Q-0013 step 5 ["hmm",5,2,…]
 *     word against page table (fix_s17): 0x200000005000: pfn 0x…, the device-private entry has 0x… there
 *   findings: 150 word against page table (fix_s17); 812 pages migrated that nobody asked for (fix_s11)
 * ```
 */
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { Finding } from '../../../include/sim/finding.ts';
import type { ReplayResults } from '../report.ts';
import type { StepFinding } from './scenario.ts';

function nameOf({ check, fix }: Finding): string {
	return fix === null ? check : `${check} (${fix})`;
}

/** Collects findings of scenarios. */
export class FindingList {
	private readonly results: ReplayResults;
	private readonly isEach: boolean;
	private readonly counts = new Map<string, number>();
	private readonly list: object[] = [];

	/**
	 * @param results - where they are told
	 * @param isEach - each one, at once
	 */
	constructor(results: ReplayResults, isEach: boolean) {
		this.results = results;
		this.isEach = isEach;
	}

	/**
	 * Add what was found in a scenario.
	 *
	 * @param title - its file, line and name
	 * @param profile - the kernel
	 * @param findings - in the order of the steps
	 */
	add(title: string, profile: ProfileName, findings: readonly StepFinding[]): void {
		for (const one of findings) {
			const name = nameOf(one);
			this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
			this.list.push({ title, profile, ...one });
			if (this.isEach)
				this.results.tell(
					`finding ${title} step ${one.step}`,
					`${name}: ${one.text}`,
				);
		}
	}

	/** Tell how many there are of each; nothing if there are none. */
	finish(): void {
		const counts = [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1));
		const line = counts.map(([name, count]) => `${count} ${name}`).join('; ');
		this.results.tellBeside(
			line === '' ? '' : `findings: ${line}`,
			'findings',
			this.list,
		);
	}
}
