// SPDX-License-Identifier: GPL-2.0-only
/**
 * Kernels that are booted once and brought back for each scenario.
 *
 * Guarantee: what a scenario finds is, field by field, what a boot leaves: restore() writes back all
 * that hangs from the world. Each scenario still takes its kernel down with every check of it.
 * Mechanism: one checkpoint for each machine, profile and set of options; the oldest goes when there
 * are too many.
 */
import { perWorld } from '../../../include/sim/world.ts';
import { type Checkpoint, checkpoint, restore } from '../../../init/main.ts';

/** Most kernels that are kept: a run has two profiles and a few machines. */
const KEPT = 32;

interface Image<T> {
	readonly saved: Checkpoint;
	readonly content: T;
}

/** What the one who booted holds of the kernel, so that it is saved with it. */
const held = perWorld<{ content: object | null }>(() => ({ content: null }));

/** Kernels of one kind. */
export class BootImages<T extends object> {
	private readonly images = new Map<string, Image<T>>();

	/**
	 * Install a kernel that is as its boot left it.
	 *
	 * @param key - all that the boot depends on
	 * @param start - boots it, and returns what one needs of it; no thread is left running
	 * @returns what `start` returned, in the state of that moment
	 */
	open(key: string, start: () => T): T {
		const known = this.images.get(key);
		if (known !== undefined) {
			restore(known.saved);
			return known.content;
		}
		const content = start();
		held().content = content;
		const [oldest] = this.images.keys();
		if (oldest !== undefined && this.images.size >= KEPT) this.images.delete(oldest);
		this.images.set(key, { saved: checkpoint(), content });
		return content;
	}
}
