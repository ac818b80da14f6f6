// SPDX-License-Identifier: GPL-2.0-only
/**
 * Interval trees: which of many ranges touch a range.
 *
 * Guarantee: iteration is by `start`, nodes of equal start in the order of insertion, as the
 * kernel's tree iterates; insertion and removal during an iteration have the kernel's effect,
 * because the iterator is the node itself. Mechanism: a sorted array; the trees here have tens of
 * nodes, and an array is quicker to check-point than a balanced tree.
 */
import type { unsigned_long } from './types.ts';

/**
 * A node: the range [start, last]. Embed it, and name its owner in `container`.
 *
 * @kernel include/linux/interval_tree.h
 */
export class interval_tree_node {
	start: unsigned_long = 0n;
	/** Inclusive. */
	last: unsigned_long = 0n;
	/** The object that embeds it (container_of()). */
	container: object | null = null;
	/** The tree that it is in. */
	root: rb_root_cached | null = null;

	/** @param container - the object that embeds it */
	constructor(container: object | null = null) {
		this.container = container;
	}
}

/**
 * A tree.
 *
 * @kernel include/linux/rbtree_types.h
 */
export class rb_root_cached {
	/** By start; of equal starts the older first. */
	nodes: interval_tree_node[] = [];
}

/** First place whose node starts after `start`. */
function upperBound(nodes: readonly interval_tree_node[], start: unsigned_long): number {
	let low = 0;
	let high = nodes.length;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (nodes[middle]!.start <= start) low = middle + 1;
		else high = middle;
	}
	return low;
}

/**
 * Put a node into a tree.
 *
 * @param node - its range must not change while it is in
 * @param root - the tree
 * @kernel lib/interval_tree.c
 */
export function interval_tree_insert(node: interval_tree_node, root: rb_root_cached): void {
	root.nodes.splice(upperBound(root.nodes, node.start), 0, node);
	node.root = root;
}

/**
 * Take a node out of a tree.
 *
 * @param node - the node
 * @param root - the tree
 * @kernel lib/interval_tree.c
 */
export function interval_tree_remove(node: interval_tree_node, root: rb_root_cached): void {
	const at = root.nodes.indexOf(node);
	if (at >= 0) root.nodes.splice(at, 1);
	node.root = null;
}

function firstFrom(
	nodes: readonly interval_tree_node[],
	from: number,
	start: unsigned_long,
	last: unsigned_long,
): interval_tree_node | null {
	for (let i = from; i < nodes.length && nodes[i]!.start <= last; i++)
		if (nodes[i]!.last >= start) return nodes[i]!;
	return null;
}

/**
 * The first node that touches [start, last].
 *
 * @param root - the tree
 * @param start - first of the range
 * @param last - last of the range, inclusive
 * @kernel lib/interval_tree.c
 */
export function interval_tree_iter_first(
	root: rb_root_cached,
	start: unsigned_long,
	last: unsigned_long,
): interval_tree_node | null {
	return firstFrom(root.nodes, 0, start, last);
}

/**
 * The node after `node` that touches [start, last].
 *
 * @param node - a node that is in a tree
 * @param start - first of the range
 * @param last - last of the range, inclusive
 * @kernel lib/interval_tree.c
 */
export function interval_tree_iter_next(
	node: interval_tree_node,
	start: unsigned_long,
	last: unsigned_long,
): interval_tree_node | null {
	if (node.root === null) return null;
	const { nodes } = node.root;
	return firstFrom(nodes, nodes.indexOf(node) + 1, start, last);
}
