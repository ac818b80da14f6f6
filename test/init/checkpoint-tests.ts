// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a restored world is the one that was saved: the same objects with the same contents.
 * Method: random graphs, changed at random, against a copy that was made by plain recursion; then
 * the kernel's own world.
 */
import fc from 'fast-check';
import type { Machine } from '../../arch/sim/machine.ts';
import { mutex } from '../../include/linux/spinlock.ts';
import { installedWorld, world } from '../../include/sim/world.ts';
import { restoreGraph, saveGraph } from '../../init/checkpoint/graph.ts';
import { boot, checkpoint, restore, shutdown } from '../../init/main.ts';
import { lockGraph } from '../../kernel/locking/lockdep.ts';
import { mutex_lock, mutex_unlock } from '../../kernel/locking/mutex.ts';
import { run, scheduler, spawn } from '../../kernel/sched/core.ts';
import { bootTiny, messageOf, oopsOf, tinyMachine } from '../kernel/tiny_world.ts';
import { EXPECT_EQ, EXPECT_FALSE, EXPECT_STREQ, EXPECT_TRUE, TEST } from '../kselftest_harness.ts';

class Node {
	id: number;
	next: unknown = null;
	big = 0n;
	text = '';

	constructor(id: number) {
		this.id = id;
	}
}

type Graph = unknown[];

/** All nodes of a random graph; they refer to each other. */
function makeGraph(kinds: readonly number[], links: readonly number[]): Graph {
	const made: Graph = kinds.map((kind, i) => {
		switch (kind) {
			case 0:
				return new Node(i);
			case 1:
				return { id: i, label: `n${i}` };
			case 2:
				return [i, i + 1];
			case 3:
				return new Map<unknown, unknown>([
					[i, 'a'],
					['k', i],
				]);
			case 4:
				return new Set<unknown>([i, 'x']);
			case 5:
				return new Uint8Array([i, 2, 3, 4]);
			case 6: {
				const holey: unknown[] = [];
				holey[3] = i;
				return holey;
			}
			default:
				return Object.assign(Object.create(null), { id: i });
		}
	});
	for (const [i, target] of links.entries())
		link(made[i % made.length], made[target % made.length]);
	return made;
}

function link(from: unknown, to: unknown): void {
	if (from instanceof Node) from.next = to;
	else if (Array.isArray(from)) from.push(to);
	else if (from instanceof Map) from.set(to, to);
	else if (from instanceof Set) from.add(to);
	else if (!(from instanceof Uint8Array)) (from as Record<string, unknown>).to = to;
}

/** One of many ways to change a node. */
function mutate(target: unknown, how: number, value: unknown): void {
	if (target instanceof Map)
		[
			() => target.clear(),
			() => target.delete('k'),
			() => target.set('k', value),
			() => target.set(value, 1),
		][how % 4]!();
	else if (target instanceof Set)
		[() => target.clear(), () => target.delete('x'), () => target.add(value)][
			how % 3
		]!();
	else if (target instanceof Uint8Array) target[how % 4] = how;
	else if (Array.isArray(target))
		[
			() => target.push(value),
			() => target.pop(),
			() => target.reverse(),
			() => delete target[0],
			() => {
				target.length = 9;
			},
		][how % 5]!();
	else {
		const fields = target as Record<string, unknown>;
		[
			() => {
				fields.id = value;
			},
			() => {
				fields[`new${how}`] = value;
			},
			() => delete fields.id,
			() => {
				fields.next = value;
			},
		][how % 4]!();
	}
}

/** Contents as nested text, every object named by its place in the graph. */
function describeGraph(graph: Graph): string {
	const name = (v: unknown): string => {
		const at = typeof v === 'object' && v !== null ? graph.indexOf(v) : -1;
		return at >= 0 ? `@${at}` : `${typeof v}:${String(v)}`;
	};
	return graph
		.map((node) => {
			if (node instanceof Map)
				return `Map ${[...node].map(([k, v]) => `${name(k)}=${name(v)}`)}`;
			if (node instanceof Set) return `Set ${[...node].map(name)}`;
			// keys in sorted order: a key that was deleted comes back behind the others
			const keys = Object.keys(node as object).sort();
			const length = Array.isArray(node) ? node.length : '';
			return `${length}{${keys.map((k) => `${k}:${name((node as Record<string, unknown>)[k])}`)}}`;
		})
		.join('\n');
}

TEST('any_change_of_any_graph_is_undone', () => {
	const change = fc.record({ target: fc.nat(), how: fc.nat(19), value: fc.nat() });
	fc.assert(
		fc.property(
			fc.array(fc.nat(7), { minLength: 1, maxLength: 20 }),
			fc.array(fc.nat(19), { maxLength: 20 }),
			fc.array(fc.array(change, { maxLength: 20 }), { maxLength: 3 }),
			(kinds, links, rounds) => {
				const graph = makeGraph(kinds, links);
				const before = describeGraph(graph);
				const root = { graph: [...graph] };
				const saved = saveGraph(root);
				for (const changes of rounds) {
					for (const { target, how, value } of changes) {
						const other =
							value % 2 === 0
								? graph[value % graph.length]
								: value;
						mutate(graph[target % graph.length], how, other);
					}
					root.graph.length = 0;
					restoreGraph(saved);
					if (describeGraph(graph) !== before) return false;
					if (root.graph.some((node, i) => node !== graph[i]))
						return false;
				}
				return true;
			},
		),
	);
	EXPECT_EQ(1, saveGraph({}).size.objects);
});

TEST('views_of_one_buffer_are_copied_once', () => {
	const buffer = new ArrayBuffer(64);
	const root = { u8: new Uint8Array(buffer, 8, 8), u64: new BigUint64Array(buffer) };
	root.u64[1] = 7n;
	const saved = saveGraph(root);
	EXPECT_EQ(64, saved.size.bytes);
	root.u8.fill(255);
	root.u8 = new Uint8Array(4);
	restoreGraph(saved);
	EXPECT_EQ(7n, root.u64[1]);
	EXPECT_EQ(buffer, root.u8.buffer);
});

TEST('frozen_and_read_only_things_are_followed', () => {
	const inner = { n: 1 };
	const symbol = Symbol('key');
	const root = {
		frozen: Object.freeze({ inner }),
		list: Object.freeze([inner]),
		[symbol]: 1,
		get computed() {
			return 1;
		},
		regexp: /x/g,
		error: new Error('trace'),
		fn: () => inner,
	};
	Object.defineProperty(root, 'constant', { value: { n: 5 }, enumerable: true });
	const saved = saveGraph(root);
	inner.n = 2;
	root[symbol] = 2;
	(root as unknown as { constant: { n: number } }).constant.n = 6;
	restoreGraph(saved);
	EXPECT_EQ(1, inner.n);
	EXPECT_EQ(1, root[symbol]);
	EXPECT_EQ(5, (root as unknown as { constant: { n: number } }).constant.n);
});

class WithConstant {
	static readonly constantFields = ['table'];
	table = { n: 1 };
	n = 1;
}

TEST('constant_fields_are_not_looked_into', () => {
	const root = new WithConstant();
	const saved = saveGraph(root);
	EXPECT_EQ(1, saved.size.objects);
	root.table.n = 2;
	root.n = 2;
	restoreGraph(saved);
	EXPECT_EQ('2 1', `${root.table.n} ${root.n}`);
});

TEST('generator_in_the_graph_is_refused', () => {
	const generator = (function* () {})();
	EXPECT_TRUE(
		messageOf(() => saveGraph({ generator })).includes('a Generator can be reached'),
	);
	EXPECT_TRUE(messageOf(() => saveGraph({ w: new WeakMap() })).includes('a WeakMap can be'));
});

TEST('world_and_machine_come_back', () => {
	bootTiny();
	const machine = world().machine as {
		ram: {
			write(at: bigint, from: Uint8Array): void;
			read(at: bigint, into: Uint8Array): void;
		};
	};
	const byte = (): number => {
		const into = new Uint8Array(1);
		machine.ram.read(0x1000n, into);
		return into[0]!;
	};
	machine.ram.write(0x1000n, new Uint8Array([1]));
	const lock = new mutex('&dev->lock');
	const c = checkpoint();
	for (let round = 0; round < 3; round++) {
		machine.ram.write(0x1000n, new Uint8Array([2]));
		machine.ram.write(0x2000n, new Uint8Array([2]));
		run(mutex_lock(lock));
		world().clock += 5n;
		world().log.push('changed');
		spawn('left over', function* () {});
		EXPECT_EQ(1, lockGraph().count);
		restore(c);
		EXPECT_EQ(1, byte());
		EXPECT_EQ(0n, world().clock);
		EXPECT_EQ(0, world().log.length + world().current.held_locks.length);
		EXPECT_EQ(0, scheduler().threads.length);
		EXPECT_EQ(2, scheduler().nextPid);
		// what a test made itself is not the world's
		lock.owner = null;
		lock.dep = null;
	}
	run(mutex_lock(lock));
	run(mutex_unlock(lock));
});

TEST('world_comes_back_after_shutdown_and_after_an_oops', () => {
	const w = boot(tinyMachine);
	const c = checkpoint();
	w.log.push('x');
	EXPECT_EQ(0, shutdown().length);
	restore(c);
	EXPECT_EQ(w, world());
	EXPECT_EQ(0, w.log.length);
	const lock = new mutex('m');
	spawn('a', () => mutex_lock(lock));
	oopsOf(() =>
		run(function* () {
			yield* mutex_lock(lock);
			yield { access: 'wait', object: lock, ready: () => false };
		}),
	);
	restore(c);
	EXPECT_EQ(0, world().reports.length);
	EXPECT_FALSE(scheduler().crashed);
});

TEST('refused_restore_leaves_no_world_installed', () => {
	boot(tinyMachine);
	const c = checkpoint();
	let message = '';
	run(function* () {
		// Misuse as well, which takes the world away.
		messageOf(shutdown);
		message = messageOf(() => restore(c));
	});
	EXPECT_TRUE(message.includes('must not be called inside run()'));
	EXPECT_EQ(null, installedWorld());
	restore(c);
	EXPECT_EQ(c.world, installedWorld());
});

TEST('misuse_names_the_call_and_the_rule', () => {
	EXPECT_STREQ(
		'HarnessError: checkpoint(): no kernel is booted: call boot() first',
		messageOf(checkpoint),
	);
	boot(tinyMachine);
	const c = checkpoint();
	EXPECT_TRUE(
		messageOf(() =>
			run(function* () {
				restore(c);
			}),
		).includes('must not be called inside run()'),
	);
	EXPECT_TRUE(
		messageOf(() =>
			run(function* () {
				checkpoint();
			}),
		).includes('thread init/1 has not ended'),
	);
	spawn('worker', function* () {});
	EXPECT_TRUE(messageOf(checkpoint).includes('thread worker/2 has not ended'));
	shutdown();
	boot(tinyMachine);
	EXPECT_TRUE(messageOf(() => restore(c)).includes('another kernel is booted'));
});

TEST('pages_of_nested_checkpoints_are_nobody_elses', () => {
	bootTiny();
	const { ram } = world().machine as Machine;
	const first = ram.ranges[0]!.startPfn;
	const pages = 40;
	const fill = (value: number): void => {
		for (let i = 0; i < pages; i++) ram.frame(first + i)!.u8.fill(value + i);
	};
	const shows = (value: number): boolean =>
		Array.from({ length: pages }, (_, i) => ram.peek(first + i)).every((frame, i) =>
			frame!.u8.every((byte) => byte === value + i),
		);
	fill(1);
	const a = checkpoint();
	fill(2);
	// more pages, which the second checkpoint keeps and the first never had
	for (let i = pages; i < 2 * pages; i++) ram.frame(first + i)!.u8.fill(7);
	const b = checkpoint();
	for (let round = 0; round < 3; round++) {
		restore(a);
		EXPECT_TRUE(shows(1));
		EXPECT_EQ(null, ram.peek(first + pages));
		for (let i = pages; i < 3 * pages; i++) {
			const { u8 } = ram.frame(first + i)!;
			EXPECT_TRUE(u8.every((byte) => byte === 0));
			u8.fill(90 + round);
		}
		EXPECT_TRUE(shows(1));
		restore(b);
		EXPECT_TRUE(shows(2));
		EXPECT_EQ(7, ram.peek(first + pages)!.u8[4095]!);
		for (let i = 2 * pages; i < 3 * pages; i++) ram.frame(first + i)!.u8.fill(50);
		EXPECT_EQ(7, ram.peek(first + 2 * pages - 1)!.u8[0]!);
	}
	shutdown();
});
