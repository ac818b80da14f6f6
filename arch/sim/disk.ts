// SPDX-License-Identifier: GPL-2.0-only
/**
 * A disk of 4 KiB blocks, as far as a swap device needs one.
 *
 * Guarantee: a read gives what the last write of the block wrote, zeros before the first. Mechanism:
 * blocks that were written are kept, whole. Duty: who wants the time that a transfer takes to be seen
 * lets its completion come later; the bytes are there at once.
 */
import { HarnessError } from '../../include/sim/report.ts';

/** Words of 32 bits in a block. */
const BLOCK_WORDS = 1024;

/** A disk. */
export class Disk {
	/** Number of blocks. */
	size: number;
	/** Words of the blocks that were written, by number. */
	blocks: Map<number, Uint32Array> = new Map();
	/** Reads and writes so far. */
	reads = 0;
	writes = 0;

	/** @param size - number of blocks */
	constructor(size: number) {
		this.size = size;
	}

	private check(block: number): void {
		if (block < 0 || block >= this.size)
			throw new HarnessError(
				'Disk',
				`block ${block} of a disk with ${this.size}`,
			);
	}

	/**
	 * Read a block.
	 *
	 * @param block - its number
	 * @param into - 1024 words
	 * @throws HarnessError beyond the end
	 */
	read(block: number, into: Uint32Array): void {
		this.check(block);
		this.reads++;
		const words = this.blocks.get(block);
		if (words === undefined) into.fill(0);
		else into.set(words);
	}

	/**
	 * Write a block.
	 *
	 * @param block - its number
	 * @param from - 1024 words
	 * @throws HarnessError beyond the end
	 */
	write(block: number, from: Uint32Array): void {
		this.check(block);
		this.writes++;
		let words = this.blocks.get(block);
		if (words === undefined) {
			words = new Uint32Array(BLOCK_WORDS);
			this.blocks.set(block, words);
		}
		words.set(from);
	}
}
