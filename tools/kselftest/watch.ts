// SPDX-License-Identifier: GPL-2.0-only
/**
 * From an edited file to a run of the suites that have it in their bundle.
 *
 * vitest knows the modules that Vite loaded, and here Vite loads none. It also waits a tenth of a
 * second for further edits before it does anything; here the bundle is begun with the first edit, and
 * the run soon after. An edit that comes later gets a run of its own, behind the one under way.
 */
import type { Vitest } from 'vitest/node';
import { bundleAhead, suitesWith } from './bundle.js';

/** Milliseconds in which the files that are saved together arrive. */
const TOGETHER = 20;

/** Runs suites again when a file of theirs changes. */
export class Rerunner {
	private readonly isAsked: (suite: string) => boolean;
	private readonly changed = new Set<string>();
	private timer: NodeJS.Timeout | null = null;
	private vitest: Vitest | null = null;

	/** @param isAsked - whether this run is about a suite */
	constructor(isAsked: (suite: string) => boolean) {
		this.isAsked = isAsked;
	}

	/**
	 * A file has changed: vitest's `testsToRun`.
	 *
	 * @param file - absolute path
	 * @returns what vitest itself should run: nothing
	 */
	edited(file: string): string[] {
		for (const suite of suitesWith(file).filter(this.isAsked)) {
			this.changed.add(suite);
			void bundleAhead(suite);
		}
		this.schedule();
		return [];
	}

	/**
	 * The first run is over.
	 *
	 * @param vitest - who runs the suites
	 */
	ready(vitest: Vitest): void {
		this.vitest = vitest;
		this.schedule();
	}

	private schedule(): void {
		if (this.timer !== null) clearTimeout(this.timer);
		this.timer = setTimeout(() => void this.rerun(), TOGETHER);
	}

	private async rerun(): Promise<void> {
		const { vitest, changed } = this;
		if (vitest === null || changed.size === 0) return;
		const specs = [...changed].flatMap((suite) =>
			vitest.getModuleSpecifications(suite),
		);
		changed.clear();
		await vitest.rerunTestSpecifications(specs);
	}
}
