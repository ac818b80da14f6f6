// SPDX-License-Identifier: GPL-2.0-only
/**
 * anon_vmas: from an anonymous page to the VMAs that may map it, across forks.
 *
 * Guarantee: `folio.mapping` of an anonymous folio is an anon_vma whose `chains` hold every VMA that
 * can map the folio. Mechanism: a VMA is linked to its own anon_vma and to those of its forebears;
 * a page keeps the anon_vma of the process that made it. All anon_vmas of one family share the
 * semaphore of the root. Duty: `chains` and `num_*` change under that semaphore, held for writing.
 *
 * ```
 *   parent VMA ---- own ----> anon_vma A  (root)          pages made before the fork: A
 *                               ^  |  parent/root         pages that the parent makes later: A
 *   child VMA  --- inherits ----+  v
 *              ---- own ----> anon_vma B                  pages that the child makes: B
 * ```
 */
import { WARN_ON_ONCE } from '../../include/linux/bug.ts';
import { ENOMEM } from '../../include/linux/errno.ts';
import { VM_ACCESS_FLAGS, VM_STICKY } from '../../include/linux/mm.ts';
import { anon_vma, type vm_area_struct } from '../../include/linux/mm_types.ts';
import type { int } from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';
import { type Sim, touch } from '../../include/sim/schedule.ts';
import { down_read, down_write, up_read, up_write } from '../../kernel/locking/rwsem.ts';
import { spin_lock, spin_unlock } from '../../kernel/locking/spinlock.ts';
import { might_sleep } from '../../kernel/sched/might_sleep.ts';
import { vmaIndex } from '../find_vma.ts';

function anon_vma_alloc(): anon_vma | null {
	if (shouldFail('anon_vma_alloc')) return null;
	const made = new anon_vma();
	// a root is its own parent, which counts as a child: it is never taken for reuse
	made.parent = made;
	return made;
}

/** A link is an entry of two lists here; it can fail as the kernel's allocation of it can. */
function anon_vma_chain_alloc(): boolean {
	return !shouldFail('anon_vma_chain_alloc');
}

function anon_vma_chain_link(vma: vm_area_struct, av: anon_vma): void {
	touch('write', av, 'chains');
	vma.anon_vma_chain.unshift(av);
	av.chains.add(vma);
}

/**
 * Take a reference on an anon_vma.
 *
 * @param av - the anon_vma
 * @kernel mm/internal.h
 */
export function get_anon_vma(av: anon_vma): void {
	touch('atomic', av, 'refcount');
	av.refcount++;
}

/**
 * Put a reference on an anon_vma.
 *
 * @param av - the anon_vma
 * @kernel mm/internal.h
 */
export function put_anon_vma(av: anon_vma): void {
	touch('atomic', av, 'refcount');
	av.refcount--;
	if (av.refcount === 0 && av.root !== av) put_anon_vma(av.root);
}

/**
 * Lock a family of anon_vmas against changes.
 *
 * @param av - one of them
 * @context Sleeps.
 * @kernel mm/internal.h
 */
export function* anon_vma_lock_write(av: anon_vma): Sim<void> {
	yield* down_write(av.root.rwsem);
}

/**
 * Undo anon_vma_lock_write().
 *
 * @param av - one of the family
 * @kernel mm/internal.h
 */
export function* anon_vma_unlock_write(av: anon_vma): Sim<void> {
	yield* up_write(av.root.rwsem);
}

/**
 * Lock a family of anon_vmas for a walk.
 *
 * @param av - one of them
 * @context Sleeps.
 * @kernel mm/internal.h
 */
export function* anon_vma_lock_read(av: anon_vma): Sim<void> {
	yield* down_read(av.root.rwsem);
}

/**
 * Undo anon_vma_lock_read().
 *
 * @param av - one of the family
 * @kernel mm/internal.h
 */
export function* anon_vma_unlock_read(av: anon_vma): Sim<void> {
	yield* up_read(av.root.rwsem);
}

/** Whether two neighbours differ in nothing but protection, so that they may become one later. */
function anon_vma_compatible(a: vm_area_struct, b: vm_area_struct): boolean {
	return (
		a.vm_end === b.vm_start &&
		a.vm_file === b.vm_file &&
		((a.vm_flags ^ b.vm_flags) & ~(VM_ACCESS_FLAGS | VM_STICKY)) === 0n &&
		b.vm_pgoff === a.vm_pgoff + ((b.vm_start - a.vm_start) >> 12n)
	);
}

/** The anon_vma of `old`, a or b, if the other can share it: a fork's child must keep its own. */
function reusable_anon_vma(
	old: vm_area_struct,
	a: vm_area_struct,
	b: vm_area_struct,
): anon_vma | null {
	if (!anon_vma_compatible(a, b)) return null;
	return old.anon_vma !== null && old.anon_vma_chain.length === 1 ? old.anon_vma : null;
}

/**
 * The anon_vma of a neighbour that a VMA should share, so that the two can be merged once their
 * flags are equal.
 *
 * @param vma - VMA without an anon_vma
 * @returns null when no neighbour fits
 * @context The mmap lock is held.
 * @kernel mm/vma.c
 */
export function find_mergeable_anon_vma(vma: vm_area_struct): anon_vma | null {
	const { vmas } = vma.vm_mm;
	const at = vmaIndex(vma.vm_mm, vma.vm_start);
	const next = vmas[at + 1];
	const found = next === undefined ? null : reusable_anon_vma(next, vma, next);
	if (found !== null) return found;
	const prev = vmas[at - 1];
	return prev === undefined ? null : reusable_anon_vma(prev, prev, vma);
}

/**
 * Give a VMA an anon_vma.
 *
 * @param vma - the VMA
 * @retval 0 it has one
 * @retval -ENOMEM no memory
 * @context Sleeps. The mmap lock is held.
 * @kernel mm/rmap.c
 */
export function* __anon_vma_prepare(vma: vm_area_struct): Sim<int> {
	might_sleep();
	if (!anon_vma_chain_alloc()) return -ENOMEM;
	let av = find_mergeable_anon_vma(vma);
	if (av === null) {
		av = anon_vma_alloc();
		if (av === null) return -ENOMEM;
		av.num_children++;
	}
	yield* anon_vma_lock_write(av);
	const lock = vma.vm_mm.page_table_lock;
	yield* spin_lock(lock);
	if (vma.anon_vma === null) {
		vma.anon_vma = av;
		anon_vma_chain_link(vma, av);
		av.num_active_vmas++;
	}
	yield* spin_unlock(lock);
	yield* anon_vma_unlock_write(av);
	return 0;
}

/**
 * See to it that a VMA has an anon_vma.
 *
 * @param vma - the VMA
 * @retval 0 it has one
 * @retval -ENOMEM no memory
 * @context Sleeps. The mmap lock is held.
 * @kernel include/linux/rmap.h
 */
export function* anon_vma_prepare(vma: vm_area_struct): Sim<int> {
	return vma.anon_vma !== null ? 0 : yield* __anon_vma_prepare(vma);
}

/**
 * Link a VMA to every anon_vma of another one.
 *
 * @param dst - copy of `src`: its anon_vma is that of `src`, or null in a fork, where it then may
 *   get one of the forebears' that nobody uses any more
 * @param src - the VMA
 * @retval 0 done
 * @retval -ENOMEM no memory; nothing is linked and dst has no anon_vma
 * @context Sleeps. The mmap lock is held for writing.
 * @kernel mm/rmap.c
 */
export function* anon_vma_clone(dst: vm_area_struct, src: vm_area_struct): Sim<int> {
	const root = src.anon_vma_chain[0]?.root;
	if (root === undefined) return 0;
	yield* down_write(root.rwsem);
	for (let i = src.anon_vma_chain.length - 1; i >= 0; i--) {
		const av = src.anon_vma_chain[i]!;
		if (!anon_vma_chain_alloc()) {
			yield* up_write(root.rwsem);
			// or unlinking would take away an active VMA that was never added
			dst.anon_vma = null;
			yield* unlink_anon_vmas(dst);
			return -ENOMEM;
		}
		anon_vma_chain_link(dst, av);
		if (
			dst.anon_vma === null &&
			src.anon_vma !== null &&
			av.num_children < 2 &&
			av.num_active_vmas === 0
		)
			dst.anon_vma = av;
	}
	if (dst.anon_vma !== null) dst.anon_vma.num_active_vmas++;
	yield* up_write(root.rwsem);
	return 0;
}

/**
 * Give the VMA of a child its anon_vmas: those of the parent's VMA and one of its own.
 *
 * @param vma - the child's
 * @param pvma - the parent's
 * @retval 0 done
 * @retval -ENOMEM no memory; the child's VMA is linked to nothing
 * @context Sleeps. Both mmap locks are held for writing.
 * @kernel mm/rmap.c
 */
export function* anon_vma_fork(vma: vm_area_struct, pvma: vm_area_struct): Sim<int> {
	if (pvma.anon_vma === null) return 0;
	vma.anon_vma = null;
	const error = yield* anon_vma_clone(vma, pvma);
	if (error !== 0) return error;
	// one of the forebears' was free
	if (vma.anon_vma !== null) return 0;
	const av = anon_vma_alloc();
	if (av === null || !anon_vma_chain_alloc()) {
		yield* unlink_anon_vmas(vma);
		return -ENOMEM;
	}
	av.num_active_vmas++;
	av.root = pvma.anon_vma.root;
	av.parent = pvma.anon_vma;
	get_anon_vma(av.root);
	vma.anon_vma = av;
	yield* anon_vma_lock_write(av);
	anon_vma_chain_link(vma, av);
	av.parent.num_children++;
	yield* anon_vma_unlock_write(av);
	return 0;
}

/**
 * Unlink a VMA from all its anon_vmas; those that nobody is linked to any more go.
 *
 * @param vma - the VMA
 * @context Sleeps. The mmap lock is held, or nobody else knows the VMA.
 * @kernel mm/rmap.c
 */
export function* unlink_anon_vmas(vma: vm_area_struct): Sim<void> {
	const links = vma.anon_vma_chain;
	const root = links[0]?.root;
	if (root === undefined) return;
	yield* down_write(root.rwsem);
	const empty: anon_vma[] = [];
	// newest first: a child's anon_vma is counted off before its parent is looked at
	for (const av of links) {
		touch('write', av, 'chains');
		av.chains.delete(vma);
		if (av.chains.size > 0) continue;
		av.parent!.num_children--;
		empty.push(av);
	}
	vma.anon_vma_chain = [];
	if (vma.anon_vma !== null) {
		vma.anon_vma.num_active_vmas--;
		vma.anon_vma = null;
	}
	yield* up_write(root.rwsem);
	for (const av of empty) {
		WARN_ON_ONCE(av.num_children !== 0, 'anon_vma without VMAs has children');
		WARN_ON_ONCE(av.num_active_vmas !== 0, 'anon_vma without VMAs has active ones');
		put_anon_vma(av);
	}
}
