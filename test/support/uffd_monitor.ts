// SPDX-License-Identifier: GPL-2.0-only
/** A process's thread that resolves its faults, as programs of the records have one. */
import type { task_struct } from '../../include/linux/sched.ts';
import { PAGE_SIZE } from '../../include/linux/types.ts';
import type { userfaultfd_ctx } from '../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import {
	UFFD_FEATURE_SIGBUS,
	UFFD_PAGEFAULT_FLAG_RWP,
	UFFD_PAGEFAULT_FLAG_WP,
	type uffd_msg,
} from '../../include/uapi/linux/userfaultfd.ts';
import { run, runThreads, spawn } from '../../kernel/sched/core.ts';
import {
	new_userfaultfd,
	uffdFeatures,
	userfaultfd_copy,
	userfaultfd_ctx_read,
	userfaultfd_poison,
	userfaultfd_release,
	userfaultfd_rwprotect,
	userfaultfd_writeprotect,
	userfaultfd_zeropage,
	wake_userfault,
} from '../../mm/userfaultfd.ts';

/** What the monitor does about a page that is missing; `nobody`: no monitor, faults are a SIGBUS. */
export type UffdPolicy = 'nobody' | 'copy' | 'zeropage' | 'poison';

/** An open userfaultfd of a process and the thread that resolves its faults. */
export class UffdMonitor {
	readonly ctx: userfaultfd_ctx;
	/** Faults it has heard of, oldest first. */
	readonly heard: uffd_msg[] = [];
	readonly #policy: UffdPolicy;
	readonly #value: (address: bigint) => bigint;

	/**
	 * @param task - the process
	 * @param policy - what is done about missing pages
	 * @param value - 64-bit word at the start of a copied page
	 */
	constructor(task: task_struct, policy: UffdPolicy, value: (address: bigint) => bigint) {
		const all = uffdFeatures();
		const features = policy === 'nobody' ? all : all & ~UFFD_FEATURE_SIGBUS;
		// what `current` is, so that the address space is the process's
		const ctx = run(
			function* (): Sim<userfaultfd_ctx | number> {
				return new_userfaultfd(features);
			},
			{ task },
		);
		if (typeof ctx === 'number') throw new Error(`userfaultfd: ${ctx}`);
		this.ctx = ctx;
		this.#policy = policy;
		this.#value = value;
		if (policy !== 'nobody') spawn('uffd', () => this.#monitor(), { mm: task.mm });
	}

	/** Close the userfaultfd; the thread ends. */
	close(): void {
		run(userfaultfd_release(this.ctx));
		runThreads();
	}

	*#monitor(): Sim<void> {
		for (;;) {
			const msg = yield* userfaultfd_ctx_read(this.ctx);
			if (msg === null) return;
			this.heard.push(msg);
			// what cannot be resolved is looked at again by the thread itself
			if ((yield* this.#resolve(msg)) !== 0)
				wake_userfault(this.ctx, msg.address, PAGE_SIZE);
		}
	}

	*#resolve({ address, flags }: uffd_msg): Sim<number> {
		const { ctx } = this;
		if (flags & UFFD_PAGEFAULT_FLAG_RWP)
			return yield* userfaultfd_rwprotect(ctx, address, PAGE_SIZE, false);
		if (flags & UFFD_PAGEFAULT_FLAG_WP)
			return yield* userfaultfd_writeprotect(ctx, address, PAGE_SIZE, false);
		if (this.#policy === 'zeropage')
			return yield* userfaultfd_zeropage(ctx, address, PAGE_SIZE);
		if (this.#policy === 'poison')
			return yield* userfaultfd_poison(ctx, address, PAGE_SIZE);
		const bytes = new Uint8Array(Number(PAGE_SIZE));
		new DataView(bytes.buffer).setBigUint64(0, this.#value(address), true);
		return yield* userfaultfd_copy(ctx, address, bytes, false);
	}
}
