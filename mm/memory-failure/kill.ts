// SPDX-License-Identifier: GPL-2.0-only
/**
 * How it is told of bad memory: the current task, which was to use it, gets a SIGBUS. Others learn of
 * it when they touch it.
 *
 * @kernel mm/memory-failure.c
 */
import { EFAULT, EHWPOISON } from '../../include/linux/errno.ts';
import { TASK_SIZE } from '../../include/linux/mm.ts';
import type { page } from '../../include/linux/mm_types.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import {
	ACTION_CONTINUE,
	type mm_walk,
	type mm_walk_ops,
	PGWALK_RDLOCK,
} from '../../include/linux/pagewalk.ts';
import {
	pmd_leaf,
	pmd_pfn,
	pmd_present,
	pte_none,
	pte_pfn,
	pte_present,
	type pte_t,
} from '../../include/linux/pgtable.ts';
import { current, SIGBUS } from '../../include/linux/sched.ts';
import {
	softleaf_from_pte,
	softleaf_is_hwpoison,
	softleaf_to_pfn,
} from '../../include/linux/swapops.ts';
import { HPAGE_PMD_NR, type int } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { BUS_MCEERR_AR } from '../fault.ts';
import { mmap_read_lock, mmap_read_unlock } from '../mmap_lock.ts';
import { walk_page_range } from '../pagewalk.ts';

/**
 * A SIGBUS for the current task, unless one is pending: of a standard signal there is one at most.
 *
 * @deviates without the address, and always for the current task
 * @kernel mm/memory-failure.c
 */
export function kill_proc(): void {
	const { siginfo } = current();
	if (siginfo.some(({ sig }) => sig === SIGBUS)) return;
	siginfo.push({ sig: SIGBUS, code: BUS_MCEERR_AR });
}

/** The PFN that a pte names, of memory that is there or bad; null: none. */
function namedPfn(pte: pte_t): bigint | null {
	if (pte_none(pte)) return null;
	if (pte_present(pte)) return pte_pfn(pte) as bigint;
	const entry = softleaf_from_pte(pte);
	return softleaf_is_hwpoison(entry) ? (softleaf_to_pfn(entry) as bigint) : null;
}

const hwpoison_walk_ops: mm_walk_ops = {
	walk_lock: PGWALK_RDLOCK,
	*pmd_entry(pmd, _addr, _next, walk: mm_walk): Sim<int> {
		const { value } = pmd;
		if (!pmd_present(value) || !pmd_leaf(value)) return 0;
		const n = (walk.private as bigint) - (pmd_pfn(value) as bigint);
		if (0n <= n && n < BigInt(HPAGE_PMD_NR)) return 1;
		walk.action = ACTION_CONTINUE;
		return 0;
	},
	*pte_entry(pte, _addr, _next, walk: mm_walk): Sim<int> {
		return namedPfn(pte.value) === walk.private ? 1 : 0;
	},
};

/**
 * A SIGBUS for the current task if a page that was known to be bad is in its page tables.
 *
 * @param p - the page
 * @retval -EHWPOISON it is, and the signal is sent
 * @retval 0 it is not: it was clean, and dropped
 * @retval -EFAULT a task without address space
 * @context Process context. Sleeps.
 * @deviates always for the current task
 * @kernel mm/memory-failure.c
 */
export function* kill_accessing_process(p: page): Sim<int> {
	const { mm } = current();
	if (mm === null) return -EFAULT;
	yield* mmap_read_lock(mm);
	const pfn = page_to_pfn(p) as bigint;
	const ret = yield* walk_page_range(mm, 0n, TASK_SIZE, hwpoison_walk_ops, pfn);
	if (ret === 1) kill_proc();
	yield* mmap_read_unlock(mm);
	return ret > 0 ? -EHWPOISON : 0;
}
