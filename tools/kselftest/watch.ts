// SPDX-License-Identifier: GPL-2.0-only
/**
 * From an edited file to a run of the suites that are made of it.
 *
 * vitest knows the modules that Vite loaded, and here Vite loads none. It also waits a tenth of a
 * second for further edits before it does anything; here the file's script is made at once, and the
 * run begins soon after. An edit that comes later gets a run of its own, behind the one under way.
 */
import type { Vitest } from 'vitest/node';
import { suitesWith } from './graph.js';
import { makeScript } from './script.js';

/** Milliseconds in which the files that are saved together arrive. */
const TOGETHER = 20;

/** Runs suites again when a file of theirs changes. */
export class Rerunner {
	private readonly isAsked: (suite: string) => boolean;
	private readonly changed = new Set<string>();
	private timer: NodeJS.Timeout | null = null;
	private vitest: Vitest | null = null;
	/** The scripts that are being made. */
	private scripts: Promise<unknown> = Promise.resolve();

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
		const suites = suitesWith(file).filter(this.isAsked);
		if (suites.length === 0) return [];
		for (const suite of suites) this.changed.add(suite);
		// the worker meets the same mistake, and reports it
		const made = makeScript(file).catch(() => {});
		this.scripts = Promise.all([this.scripts, made]);
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
		await this.scripts;
		if (vitest === null || changed.size === 0) return;
		const specs = [...changed].flatMap((suite) =>
			vitest.getModuleSpecifications(suite),
		);
		changed.clear();
		await vitest.rerunTestSpecifications(specs);
	}
}
