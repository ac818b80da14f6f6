// SPDX-License-Identifier: GPL-2.0-only
/**
 * lockdep: every order in which locks are taken is remembered, and a circle is reported though no
 * thread ever hung.
 *
 * Guarantee: if two locks were taken in both orders in one world, in whatever runs, there is one
 * report. Mechanism: a graph of lock classes; each acquisition adds an edge from the lock that the
 * task took last, and a new edge that closes a circle is reported in the kernel's layout. An edge
 * knows whether its first lock was held for reading and its second one taken as a recursive read: a
 * circle in which a recursive read would have to wait for a reader is none. An edge already seen
 * costs one look-up. Duty: whoever makes a new kind of lock calls lock_acquire() and
 * lock_release().
 */
import { lock_class, type lockdep_map } from '../../include/linux/lockdep.ts';
import type { held_lock, task_struct } from '../../include/linux/sched.ts';
import type { int } from '../../include/linux/types.ts';
import { takeOrigin } from '../../include/sim/origin.ts';
import { perWorld, world } from '../../include/sim/world.ts';
import { reportBadUnlock, reportCircle, reportNotHeld, reportRecursion } from './lockdep_report.ts';

/** A lock that lockdep knows: it has a name and room for its class. */
export interface TrackedLock {
	readonly name: string;
	dep: lock_class | null;
}

/** The graph of lock orders of one world. */
export class LockGraph {
	/** Classes of subclass 0 by name. */
	classes: Map<string, lock_class> = new Map();
	/** Classes made so far. */
	count = 0;
	/** Orders seen: (class held * 65536 + class taken) * 4 + kind. */
	edges: Set<number> = new Set();
}

/** Most classes in one world; more means that a lock's name has an address or a number in it. */
export const MAX_LOCKDEP_CLASSES = 65536;

/** Kinds of order: held for reading or not, taken as a recursive read or not. */
const EDGE_KINDS = 4;

/** The installed world's graph. */
export const lockGraph = perWorld(() => new LockGraph());

function newClass(name: string, subclass: int, atomic: boolean): lock_class {
	const graph = lockGraph();
	if (graph.count >= MAX_LOCKDEP_CLASSES)
		throw new RangeError(
			'lockdep: too many lock classes: is there a number in a lock name?',
		);
	return new lock_class(graph.count++, name, subclass, atomic);
}

function classOf(lock: TrackedLock, subclass: int, atomic: boolean): lock_class {
	let found = lock.dep;
	if (found === null) {
		const { classes } = lockGraph();
		found = classes.get(lock.name) ?? null;
		if (found === null) {
			found = newClass(lock.name, 0, atomic);
			classes.set(lock.name, found);
		}
		lock.dep = found;
	}
	for (let depth = 0; depth < subclass; depth++)
		found = found.nested ??= newClass(lock.name, depth + 1, atomic);
	return found;
}

/** A class on a path, and how the path came there. */
interface path_step {
	readonly at: lock_class;
	/** By a recursive read: who holds the class for reading is not waited for. */
	readonly recursive: boolean;
	readonly from: path_step | null;
}

/**
 * The path of orders seen by which a new order `prev` -> `next` closes a circle, from `next` to
 * `prev`, both included; null: there is none. A recursive read never waits for a reader, so a path
 * ends at a class that is entered by one and left by whoever holds it for reading.
 */
function findPath(prev: held_lock, next: held_lock): lock_class[] | null {
	const first: path_step = { at: next.dep, recursive: next.recursive, from: null };
	const queue = [first];
	const seen = [new Set<lock_class>(), new Set<lock_class>()] as const;
	seen[next.recursive ? 1 : 0].add(next.dep);
	for (const here of queue) {
		if (here.at === prev.dep && !(here.recursive && prev.shared)) {
			const path: lock_class[] = [];
			for (let step: path_step | null = here; step !== null; step = step.from)
				path.unshift(step.at);
			return path;
		}
		for (const { next: at, shared, recursive } of here.at.after) {
			if ((here.recursive && shared) || seen[recursive ? 1 : 0].has(at)) continue;
			seen[recursive ? 1 : 0].add(at);
			queue.push({ at, recursive, from: here });
		}
	}
	return null;
}

function addEdge(task: task_struct, prev: held_lock, next: held_lock): void {
	const { edges } = lockGraph();
	const pair = (prev.dep.id * MAX_LOCKDEP_CLASSES + next.dep.id) * EDGE_KINDS;
	const { shared } = prev;
	const { recursive } = next;
	const key = pair + (shared ? 1 : 0) + (recursive ? 2 : 0);
	if (edges.has(key)) return;
	edges.add(key);
	const path = findPath(prev, next);
	if (path !== null) {
		reportCircle(task, prev, next, path);
		// One report for two classes, however else they meet.
		for (let kind = 0; kind < EDGE_KINDS; kind++) edges.add(pair + kind);
		return;
	}
	const { comm, pid } = task;
	const trace = next.origin;
	prev.dep.after.push({
		prev: prev.dep,
		next: next.dep,
		shared,
		recursive,
		trace,
		comm,
		pid,
	});
}

/**
 * A task takes a lock. Called before it waits for it.
 *
 * @param lock - the lock
 * @param subclass - nesting depth, SINGLE_DEPTH_NESTING for the inner of two of a class
 * @param trylock - it does not wait: no order follows from it
 * @param shared - for reading
 * @param atomic - sleeping is not allowed under it
 * @param recursive - for reading, and no reader is waited for
 * @deviates parameters: what the kernel packs in `read`, `check` and `ip`
 * @kernel kernel/locking/lockdep.c
 */
export function lock_acquire(
	lock: TrackedLock,
	subclass: int,
	trylock: boolean,
	shared: boolean,
	atomic: boolean,
	recursive = false,
): void {
	const w = world();
	const task = w.current;
	const dep =
		subclass === 0 && lock.dep !== null ? lock.dep : classOf(lock, subclass, atomic);
	const held: held_lock = {
		instance: lock,
		lockClass: lock.name,
		dep,
		subclass,
		shared,
		recursive,
		atomic,
		trylock,
		origin: w.trackOrigins ? takeOrigin() : null,
	};
	const stack = task.held_locks;
	const depth = stack.length;
	if (depth !== 0 && !trylock) {
		for (let i = 0; i < depth; i++) {
			if (stack[i]!.dep !== dep) continue;
			// A reader again: the order is that of the first time.
			if (!(recursive && stack[i]!.shared))
				reportRecursion(task, stack[i]!, held);
			stack.push(held);
			return;
		}
		// A trylock brought no order to what was held below it: go on down to the first real lock.
		for (let i = depth - 1; i >= 0; i--) {
			addEdge(task, stack[i]!, held);
			if (!stack[i]!.trylock) break;
		}
	}
	stack.push(held);
}

/**
 * A task leaves a lock.
 *
 * @param lock - the lock
 * @kernel kernel/locking/lockdep.c
 */
export function lock_release(lock: TrackedLock): void {
	const task = world().current;
	const stack = task.held_locks;
	let at = stack.length - 1;
	if (at >= 0 && stack[at]!.instance === lock) {
		stack.pop();
		return;
	}
	while (at >= 0 && stack[at]!.instance !== lock) at--;
	if (at < 0) reportBadUnlock(task, lock);
	else stack.splice(at, 1);
}

/**
 * A lock is held for writing no longer, but for reading.
 *
 * @param lock - the lock
 * @kernel kernel/locking/lockdep.c
 */
export function lock_downgrade(lock: TrackedLock): void {
	const stack = world().current.held_locks;
	for (let i = stack.length - 1; i >= 0; i--) {
		const held = stack[i]!;
		if (held.instance !== lock) continue;
		stack[i] = { ...held, shared: true };
		return;
	}
}

/**
 * Whether the current task holds a lock.
 *
 * @param lock - the lock
 * @kernel include/linux/lockdep.h
 */
export function lockdep_is_held(lock: object): boolean {
	const stack = world().current.held_locks;
	for (let i = stack.length - 1; i >= 0; i--) if (stack[i]!.instance === lock) return true;
	return false;
}

function heldFor(lock: object, shared: boolean): boolean {
	return world().current.held_locks.some((h) => h.instance === lock && h.shared === shared);
}

/**
 * Report if the current task does not hold a lock.
 *
 * @param lock - the lock
 * @kernel include/linux/lockdep.h
 */
export function lockdep_assert_held(lock: TrackedLock | lockdep_map): void {
	if (!lockdep_is_held(lock)) reportNotHeld('lockdep_assert_held', lock, 'held');
}

/**
 * Report if the current task does not hold a lock for writing.
 *
 * @param lock - the lock
 * @kernel include/linux/lockdep.h
 */
export function lockdep_assert_held_write(lock: TrackedLock): void {
	if (!heldFor(lock, false))
		reportNotHeld('lockdep_assert_held_write', lock, 'held for writing');
}

/**
 * Report if the current task does not hold a lock for reading.
 *
 * @param lock - the lock
 * @kernel include/linux/lockdep.h
 */
export function lockdep_assert_held_read(lock: TrackedLock): void {
	if (!heldFor(lock, true))
		reportNotHeld('lockdep_assert_held_read', lock, 'held for reading');
}

/**
 * Report if the current task holds a lock.
 *
 * @param lock - the lock
 * @kernel include/linux/lockdep.h
 */
export function lockdep_assert_not_held(lock: TrackedLock): void {
	if (lockdep_is_held(lock)) reportNotHeld('lockdep_assert_not_held', lock, 'not held');
}

/**
 * Enter a section that is ordered like a lock.
 *
 * @param map - the map
 * @kernel include/linux/lockdep.h
 */
export function lock_map_acquire(map: lockdep_map): void {
	lock_acquire(map, 0, false, false, false);
}

/**
 * Enter a section that is ordered like a lock taken for reading, recursively: sections nest, and
 * none waits for another.
 *
 * @param map - the map
 * @kernel include/linux/lockdep.h
 */
export function lock_map_acquire_read(map: lockdep_map): void {
	lock_acquire(map, 0, false, true, false, true);
}

/**
 * Leave a section that is ordered like a lock.
 *
 * @param map - the map
 * @kernel include/linux/lockdep.h
 */
export function lock_map_release(map: lockdep_map): void {
	lock_release(map);
}

/**
 * Say that a lock may be taken here, so that its order is checked though it is not.
 *
 * @param lock - the lock
 * @kernel include/linux/lockdep.h
 */
export function might_lock(lock: TrackedLock): void {
	lock_acquire(lock, 0, false, false, false);
	lock_release(lock);
}
