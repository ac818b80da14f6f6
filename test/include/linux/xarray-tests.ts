// SPDX-License-Identifier: GPL-2.0-only
/** Goal: an xarray is a map by index, ranges included. Method: random operations against a Map. */
import fc from 'fast-check';
import { EBUSY, ENOMEM } from '../../../include/linux/errno.ts';
import { GFP_KERNEL, ULONG_MAX } from '../../../include/linux/types.ts';
import {
	xa_cmpxchg,
	xa_destroy,
	xa_empty,
	xa_erase,
	xa_err,
	xa_for_each,
	xa_for_each_range,
	xa_insert,
	xa_is_err,
	xa_load,
	xa_store,
	xa_store_range,
	xarray,
} from '../../../include/linux/xarray.ts';
import { injectFaults } from '../../../include/sim/fault_injection.ts';
import { bootTiny } from '../../kernel/tiny_world.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../kselftest_harness.ts';

interface Entry {
	readonly name: string;
}

const arrays = FIXTURE('xarray', () => ({ xa: new xarray<Entry>() }));

FIXTURE_SETUP(arrays, () => bootTiny());

const [a, b] = [{ name: 'a' }, { name: 'b' }] as const;
const LIMIT = 24n;
const index = fc.bigInt(0n, LIMIT - 1n);
const operation = fc.record({
	kind: fc.constantFrom('store', 'range', 'erase', 'insert', 'cmpxchg'),
	first: index,
	length: fc.bigInt(0n, 6n),
	entry: fc.constantFrom<Entry | null>(a, b, null),
});

TEST_F(arrays, 'is_a_map_by_index', ({ xa: empty }) => {
	EXPECT_TRUE(xa_empty(empty));
	fc.assert(
		fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
			const xa = new xarray<Entry>();
			const naive = new Map<bigint, Entry>();
			const set = (at: bigint, entry: Entry | null): void => {
				if (entry === null) naive.delete(at);
				else naive.set(at, entry);
			};
			const get = (at: bigint): Entry | null => naive.get(at) ?? null;
			for (const { kind, first, length, entry } of operations) {
				const there = get(first);
				if (kind === 'store') {
					if (xa_store(xa, first, entry, GFP_KERNEL) !== there)
						return false;
					set(first, entry);
				} else if (kind === 'range') {
					xa_store_range(
						xa,
						first,
						first + length,
						entry,
						GFP_KERNEL,
					);
					for (let at = first; at <= first + length; at++)
						set(at, entry);
				} else if (kind === 'erase') {
					if (xa_erase(xa, first) !== there) return false;
					set(first, null);
				} else if (kind === 'insert' && entry !== null) {
					const expected = there === null ? 0 : -EBUSY;
					if (xa_insert(xa, first, entry, GFP_KERNEL) !== expected)
						return false;
					if (expected === 0) set(first, entry);
				} else if (kind === 'cmpxchg') {
					if (xa_cmpxchg(xa, first, a, entry, GFP_KERNEL) !== there)
						return false;
					if (there === a) set(first, entry);
				}
				for (let at = 0n; at < LIMIT + 8n; at++)
					if (xa_load(xa, at) !== get(at)) return false;
				if (xa_empty(xa) !== (naive.size === 0)) return false;
			}
			return true;
		}),
	);
});

TEST_F(arrays, 'iteration_is_by_index_and_survives_changes', ({ xa }) => {
	for (const at of [30n, 10n, 20n]) xa_store(xa, at, a, GFP_KERNEL);
	xa_store_range(xa, 40n, 49n, b, GFP_KERNEL);
	const seen: string[] = [];
	for (const [at, { name }] of xa_for_each(xa)) {
		seen.push(`${at}${name}`);
		if (at === 10n) xa_erase(xa, 20n);
		if (at === 30n) xa_store(xa, 35n, b, GFP_KERNEL);
	}
	EXPECT_EQ('10a 30a 35b 40b', seen.join(' '));
	EXPECT_EQ('45', [...xa_for_each_range(xa, 45n, 60n)].map(([at]) => at).join());
	xa_store(xa, ULONG_MAX, a, GFP_KERNEL);
	EXPECT_EQ(ULONG_MAX, [...xa_for_each(xa)].at(-1)?.[0]);
	xa_destroy(xa);
	EXPECT_TRUE(xa_empty(xa));
});

TEST_F(arrays, 'store_can_fail_but_never_to_erase', ({ xa }) => {
	injectFaults().fail('xa_store');
	const failed = xa_store(xa, 1n, a, GFP_KERNEL);
	EXPECT_TRUE(xa_is_err(failed));
	EXPECT_EQ(-ENOMEM, xa_err(failed));
	EXPECT_EQ(-ENOMEM, xa_insert(xa, 1n, a, GFP_KERNEL));
	EXPECT_NULL(xa_store(xa, 1n, null, GFP_KERNEL));
	EXPECT_FALSE(xa_is_err(a));
});
