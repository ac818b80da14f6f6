// SPDX-License-Identifier: GPL-2.0-only
/** The program's benchmark: what it does, without the times, which a simulated machine has none of. */
import { MAP_PRIVATE } from '../../../include/linux/mm.ts';
import {
	HMM_DMIRROR_MIGRATE_TO_DEV,
	HMM_DMIRROR_MIGRATE_TO_SYS,
} from '../../../lib/test_hmm_uapi.ts';
import { MADV_HUGEPAGE, MADV_NOHUGEPAGE } from '../../../mm/madvise.ts';
import { ASSERT_EQ } from '../../kselftest_harness.ts';
import type { CaseSelf } from './case.ts';
import { dmirrorCmd, PAGE, RW, TWOMEG, tryBuffer } from './program.ts';

/** Sizes in huge pages, up to all that a device's chunk has, and rounds after one that warms up. */
const sizes: readonly [hugePages: number, iterations: number][] = [
	[1 / 4, 5],
	[1 / 2, 5],
	[1, 5],
	[2, 5],
	[4, 5],
	[8, 5],
	// the program does 5 here, too, for the times; each of them is what the first is
	[128, 0],
];

/** Bytes that are stored at once; sizes are multiples. */
const FILL = TWOMEG / 4;
/** What the program stores: each int its index, the lowest byte of it. */
const pattern = new Int32Array(FILL / 4).map((_, i) => i & 0xff);

/** To the device and back, as often as the program does; 0, or what went wrong. */
function runMigrationBenchmark(
	{ process, fd }: CaseSelf,
	useThp: boolean,
	size: number,
	iterations: number,
): number {
	const buffer = tryBuffer(process, size, size, RW, MAP_PRIVATE);
	if (buffer === null) return -1;
	const npages = size / PAGE;
	let ret = process.madvise(buffer.ptr, size, useThp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (let at = 0; ret === 0 && at < size; at += FILL)
		process.store(buffer.ptr + BigInt(at), pattern);
	for (let i = 0; ret === 0 && i <= iterations; i++) {
		ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_DEV, buffer, npages);
		if (ret === 0) ret = dmirrorCmd(fd, HMM_DMIRROR_MIGRATE_TO_SYS, buffer, npages);
	}
	buffer.free();
	return ret;
}

export function benchmark_thp_migration(self: CaseSelf): void {
	const { largest = 128 } = self.kernel;
	for (const [hugePages, iterations] of sizes) {
		if (hugePages > largest) break;
		const size = hugePages * TWOMEG;
		ASSERT_EQ(runMigrationBenchmark(self, true, size, iterations), 0);
		ASSERT_EQ(runMigrationBenchmark(self, false, size, iterations), 0);
	}
}
