// SPDX-License-Identifier: GPL-2.0-only
/** What is asked of the fuzzer's kernels in straight form; this module is imported as such only (quick.ts). */
export { Kernels } from './kernels.ts';
export { runProgram } from './run.ts';
