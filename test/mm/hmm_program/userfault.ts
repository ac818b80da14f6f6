// SPDX-License-Identifier: GPL-2.0-only
/** The case whose memory comes from a userfaultfd, by the call that may drop the mmap lock. */
import { MAP_PRIVATE } from '../../../include/linux/mm.ts';
import { PAGE_SIZE } from '../../../include/linux/types.ts';
import type { userfaultfd_ctx } from '../../../include/linux/userfaultfd_k.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { UFFDIO_REGISTER_MODE_MISSING } from '../../../include/uapi/linux/userfaultfd.ts';
import { run, runThreads, spawn } from '../../../kernel/sched/core.ts';
import { HMM_DMIRROR_READ_UNLOCKED } from '../../../lib/test_hmm_uapi.ts';
import {
	new_userfaultfd,
	userfaultfd_copy,
	userfaultfd_ctx_read,
	userfaultfd_register,
	userfaultfd_release,
} from '../../../mm/userfaultfd.ts';
import { ASSERT_EQ, SKIP } from '../../kselftest_harness.ts';
import type { CaseSelf } from './case.ts';
import { dmirrorCmd, hmmBuffer, PAGE, RW } from './program.ts';

/** The thread that fills what is missing. */
function* handler(ctx: userfaultfd_ctx): Sim<void> {
	const filled = new Uint8Array(PAGE).fill(0xab);
	for (;;) {
		const msg = yield* userfaultfd_ctx_read(ctx);
		if (msg === null) return;
		const page = msg.address & ~(PAGE_SIZE - 1n);
		if ((yield* userfaultfd_copy(ctx, page, filled, false)) !== 0) return;
	}
}

export function userfaultfd_read({ process, fd }: CaseSelf): void {
	const npages = 4;
	const size = npages * PAGE;
	const { task } = process;
	const ctx = run(
		function* (): Sim<userfaultfd_ctx | number> {
			return new_userfaultfd(0n);
		},
		{ task },
	);
	if (typeof ctx === 'number') SKIP('userfaultfd not available');
	const buffer = hmmBuffer(process, size, size, RW, MAP_PRIVATE);
	const registered = run(
		userfaultfd_register(ctx, buffer.ptr, BigInt(size), UFFDIO_REGISTER_MODE_MISSING),
		{ task },
	);
	ASSERT_EQ(registered, 0);
	spawn('uffd_handler', () => handler(ctx), { mm: task.mm });

	const ret = dmirrorCmd(fd, HMM_DMIRROR_READ_UNLOCKED, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	ASSERT_EQ(
		buffer.mirror.findIndex((byte) => byte !== 0xab),
		-1,
	);
	run(userfaultfd_release(ctx), { task });
	runThreads();
	buffer.free();
}
