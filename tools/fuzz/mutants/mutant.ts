// SPDX-License-Identifier: GPL-2.0-only
/** A mutant: a bug that a kernel had or has, brought back by a small edit of the model. */

/** A text of a file, and what takes its place. */
export interface Edit {
	/** Path below the root. */
	readonly file: string;
	/** Text that occurs once in the file. */
	readonly old: string;
	readonly new: string;
}

/** A mutant. */
export interface Mutant {
	/** What it is called on the command line and in the table. */
	readonly name: string;
	/** The bug upstream: subject of the fix, with its commit where that is known, or what the bug is. */
	readonly bug: string;
	/** What the model does wrong then. */
	readonly does: string;
	/** Mostly one; more where the mistake shows only with a driver that makes one of its own. */
	readonly edits: readonly Edit[];
	/** Why no program can show it; absent: one can, and has to be found. */
	readonly unseen?: string;
}
