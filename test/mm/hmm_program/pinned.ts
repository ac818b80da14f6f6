// SPDX-License-Identifier: GPL-2.0-only
/** The case that pins pages of a device by the kernel's gup_test driver. */
import { FOLL_LONGTERM, FOLL_WRITE, MAP_PRIVATE } from '../../../include/linux/mm.ts';
import { run } from '../../../kernel/sched/core.ts';
import {
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL,
	HMM_DMIRROR_PROT_WRITE,
	HMM_DMIRROR_SNAPSHOT,
} from '../../../lib/test_hmm_uapi.ts';
import {
	GUP_BASIC_TEST,
	GUP_FAST_BENCHMARK,
	gup_test,
	gup_test_ioctl,
	PIN_FAST_BENCHMARK,
	PIN_LONGTERM_BENCHMARK,
} from '../../../mm/gup_test.ts';
import { ASSERT_EQ } from '../../kselftest_harness.ts';
import type { CaseSelf } from './case.ts';
import {
	counting,
	dmirrorCmd,
	type HmmBuffer,
	hmmBuffer,
	PAGE,
	pageAt,
	RW,
	wrongAt,
} from './program.ts';

/** Get one page of the buffer by the driver, and put it back. */
function gupTest(buffer: HmmBuffer, page: number, command: number, flags = 0): number {
	const gup = new gup_test({
		nr_pages_per_call: 1n,
		addr: pageAt(buffer, page),
		gup_flags: FOLL_WRITE | flags,
		size: BigInt(PAGE),
	});
	return run(gup_test_ioctl(command, gup), { task: buffer.process.task });
}

/** A long-term pin takes the page away from the device; the others leave a coherent one there. */
export function hmm_gup_test(self: CaseSelf): void {
	const { process, fd } = self;
	const npages = 4;
	const size = npages * PAGE;
	const buffer = hmmBuffer(process, size, size, RW, MAP_PRIVATE);
	const values = counting(size / 4);
	process.store(buffer.ptr, values);
	let ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	ASSERT_EQ(wrongAt(buffer.mirrored, values), -1);

	ASSERT_EQ(gupTest(buffer, 0, GUP_BASIC_TEST), 0);
	ASSERT_EQ(gupTest(buffer, 1, GUP_FAST_BENCHMARK), 0);
	ASSERT_EQ(gupTest(buffer, 2, PIN_FAST_BENCHMARK, FOLL_LONGTERM), 0);
	ASSERT_EQ(gupTest(buffer, 3, PIN_LONGTERM_BENCHMARK), 0);

	ret = dmirrorCmd(fd, HMM_DMIRROR_SNAPSHOT, buffer, npages);
	ASSERT_EQ(ret, 0);
	ASSERT_EQ(buffer.cpages, npages);
	const m = buffer.mirror;
	const unpinned = self.isCoherent ? HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL : 0;
	ASSERT_EQ(unpinned | HMM_DMIRROR_PROT_WRITE, m[0]);
	ASSERT_EQ(unpinned | HMM_DMIRROR_PROT_WRITE, m[1]);
	ASSERT_EQ(HMM_DMIRROR_PROT_WRITE, m[2]);
	ASSERT_EQ(HMM_DMIRROR_PROT_WRITE, m[3]);
	ASSERT_EQ(wrongAt(process.load(buffer.ptr, values.length), values), -1);
	buffer.free();
}
