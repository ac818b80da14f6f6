// SPDX-License-Identifier: GPL-2.0-only
/** What the call tracer records, and which calls. */

/** One call of a kernel function. */
export interface TraceEvent {
	/** Depth among the recorded calls of its task, from 0. */
	readonly depth: number;
	/** Name of the function. */
	readonly name: string;
	/** File below the root of the tree, `mm/hmm.ts`. */
	readonly module: string;
	/** Arguments, `range=hmm_range[0x7f0000000000-0x7f0000010000]`. */
	readonly args: string;
	readonly comm: string;
	readonly pid: number;
	readonly cpu: number;
	/** Virtual time (ns) at entry. */
	readonly entered: bigint;
	/** Place among all entries and returns, of all tasks. */
	readonly entryOrder: number;
	/** Virtual time (ns) at return; null: it has not returned. */
	left: bigint | null;
	returnOrder: number;
	/** What it returned; null: nothing, or it has not returned. */
	returned: string | null;
	/** It ended by an exception: an oops, or misuse. */
	threw: boolean;
	/** No call: what traceMark() wrote down, in `name`. */
	readonly mark?: true;
}

/** Which calls are recorded. Globs as in ftrace: `hmm_*`, `*_fault`, `*pte*`. */
export interface TraceFilter {
	/** Names (set_ftrace_filter); default: all. */
	readonly functions?: readonly string[];
	/** Names that are left out (set_ftrace_notrace). */
	readonly notrace?: readonly string[];
	/** Only these functions and what they call (set_graph_function). */
	readonly graph?: readonly string[];
	/** Files by the beginning of their path; default: all but include/. */
	readonly modules?: readonly string[];
	/** How many levels of recorded calls (max_graph_depth). */
	readonly maxDepth?: number;
}

/** Most events in one trace; a longer one is cut off. The usual cause is a filter that is too wide. */
export const MAX_TRACE_EVENTS = 1_000_000;
