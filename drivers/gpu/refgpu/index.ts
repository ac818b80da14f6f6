// SPDX-License-Identifier: GPL-2.0-only
/**
 * The reference GPU: which part lives where.
 *
 * - silicon.ts   VRAM and the copy engine
 * - gpu.ts       what the driver keeps for one GPU
 * - dmem.ts      device-private pages: chunks, allocation, freeing
 * - p2p.ts       the P2P window and the proposed op
 * - migrate.ts   to VRAM, back on a CPU fault, eviction
 * - refgpu.ts    probe and remove
 */
export { RefGpu } from './gpu.ts';
export { migrateToVram } from './migrate.ts';
export { type GpuOptions, refgpuProbe, refgpuRemove, tryRefgpuProbe } from './refgpu.ts';
