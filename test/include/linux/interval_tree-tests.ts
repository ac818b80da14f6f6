// SPDX-License-Identifier: GPL-2.0-only
/** Goal: iteration finds what a filter over all nodes finds, by start. Method: random trees. */
import fc from 'fast-check';
import {
	interval_tree_insert,
	interval_tree_iter_first,
	interval_tree_iter_next,
	interval_tree_node,
	interval_tree_remove,
	rb_root_cached,
} from '../../../include/linux/interval_tree.ts';
import { EXPECT_NULL, EXPECT_TRUE, TEST } from '../../kselftest_harness.ts';

const range = fc
	.tuple(fc.bigInt(0n, 40n), fc.bigInt(0n, 10n))
	.map(([start, length]) => ({ start, last: start + length }));

TEST('iteration_finds_what_touches_the_range_by_start', () => {
	fc.assert(
		fc.property(
			fc.array(range, { maxLength: 30 }),
			fc.array(fc.nat(29)),
			range,
			(ranges, removed, asked) => {
				const root = new rb_root_cached();
				let naive = ranges.map((r) =>
					Object.assign(new interval_tree_node(), r),
				);
				for (const node of naive) interval_tree_insert(node, root);
				for (const index of removed) {
					const node = naive[index];
					if (node === undefined) continue;
					interval_tree_remove(node, root);
					naive = naive.filter((n) => n !== node);
				}
				const { start, last } = asked;
				const expected = naive
					.filter((n) => n.start <= last && n.last >= start)
					.sort((a, b) => Number(a.start - b.start));
				const found: interval_tree_node[] = [];
				for (
					let node = interval_tree_iter_first(root, start, last);
					node !== null;
					node = interval_tree_iter_next(node, start, last)
				)
					found.push(node);
				return (
					found.length === expected.length &&
					found.every((n, i) => n === expected[i])
				);
			},
		),
	);
	EXPECT_NULL(interval_tree_iter_next(new interval_tree_node(), 0n, 1n));
	EXPECT_TRUE(new interval_tree_node(world).container === world);
});

const world = {};
