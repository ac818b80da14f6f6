// SPDX-License-Identifier: GPL-2.0-only
/** A line that says how far a long run is; on a terminal only. */

/** Progress of a run of known length. */
export class Progress {
	private count = 0;
	private shown = 0;
	private readonly total: number;
	private readonly live = process.stderr.isTTY === true;

	/** @param total - steps */
	constructor(total: number) {
		this.total = total;
	}

	/**
	 * One step is done.
	 *
	 * @param what - what it was part of
	 */
	step(what: string): void {
		this.count++;
		if (!this.live) return;
		const now = Date.now();
		// A terminal is slower than a pair.
		if (now - this.shown < 50 && this.count < this.total) return;
		this.shown = now;
		const width = 30;
		const filled = Math.round((this.count / this.total) * width);
		const bar = '#'.repeat(filled) + '.'.repeat(width - filled);
		process.stderr.write(`\r[${bar}] ${this.count}/${this.total} ${what.padEnd(16)}`);
	}

	/** Take the line away. */
	done(): void {
		if (this.live && this.count > 0) process.stderr.write(`\r${' '.repeat(70)}\r`);
	}
}
