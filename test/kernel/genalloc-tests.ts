// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: gen_pool answers as the kernel's bitmap with first fit does.
 * Method: random allocations and frees against a naive bitmap; each misuse one by one.
 */
import fc from 'fast-check';
import { ENOMEM } from '../../include/linux/errno.ts';
import { gen_pool } from '../../include/linux/genalloc.ts';
import { outParam } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import {
	gen_pool_add,
	gen_pool_add_owner,
	gen_pool_add_virt,
	gen_pool_alloc,
	gen_pool_alloc_owner,
	gen_pool_avail,
	gen_pool_create,
	gen_pool_destroy,
	gen_pool_free,
	gen_pool_free_owner,
	gen_pool_has_addr,
	gen_pool_size,
	gen_pool_virt_to_phys,
} from '../../kernel/genalloc.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../kselftest_harness.ts';
import { bootTiny, oopsOf } from './tiny_world.ts';

const genalloc = FIXTURE('genalloc', () => ({ pool: new gen_pool(12) }));

FIXTURE_SETUP(genalloc, (self) => {
	bootTiny();
	self.pool = gen_pool_create(12, -1)!;
});

const BASE = 0x10_0000n;
const PAGE = 4096n;

/** A bitmap with bitmap_find_next_zero_area(). */
class NaiveChunk {
	readonly bits: boolean[];
	readonly base: bigint;

	constructor(base: bigint, pages: number) {
		this.base = base;
		this.bits = Array<boolean>(pages).fill(false);
	}

	alloc(pages: number): bigint {
		for (let at = 0; at + pages <= this.bits.length; at++)
			if (!this.bits.slice(at, at + pages).includes(true)) {
				this.bits.fill(true, at, at + pages);
				return this.base + BigInt(at) * PAGE;
			}
		return 0n;
	}

	free(addr: bigint, pages: number): boolean {
		const at = Number((addr - this.base) / PAGE);
		if (at < 0 || at >= this.bits.length) return false;
		this.bits.fill(false, at, at + pages);
		return true;
	}
}

TEST_F(genalloc, 'answers_as_a_bitmap_with_first_fit', ({ pool: unused }) => {
	EXPECT_EQ(0n, gen_pool_size(unused));
	const operation = fc.record({ pages: fc.integer({ min: 1, max: 5 }), free: fc.nat(7) });
	fc.assert(
		fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
			const pool = gen_pool_create(12, -1)!;
			const chunks = [new NaiveChunk(BASE, 12), new NaiveChunk(4n * BASE, 9)];
			for (const { base, bits } of chunks)
				gen_pool_add(pool, base, BigInt(bits.length) * PAGE, -1);
			chunks.reverse(); // the newest chunk is asked first
			const live: [bigint, number][] = [];
			for (const { pages, free } of operations) {
				if (free < live.length) {
					const [addr, size] = live.splice(free, 1)[0]!;
					gen_pool_free(pool, addr, BigInt(size) * PAGE);
					chunks.some((c) => c.free(addr, size));
				} else {
					const expected = chunks.reduce(
						(got, c) => (got === 0n ? c.alloc(pages) : got),
						0n,
					);
					// a size that is no multiple of the block is rounded up
					const got = gen_pool_alloc(pool, BigInt(pages) * PAGE - 1n);
					if (got !== expected) return false;
					if (got !== 0n) live.push([got, pages]);
				}
				const used = chunks
					.flatMap((c) => c.bits)
					.filter((bit) => bit).length;
				if (
					gen_pool_avail(pool) !==
					gen_pool_size(pool) - BigInt(used) * PAGE
				)
					return false;
			}
			return true;
		}),
	);
});

TEST_F(genalloc, 'owner_and_physical_address_are_the_chunks', ({ pool }) => {
	const [one, two] = [{ ref: 1 }, { ref: 2 }];
	EXPECT_EQ(0, gen_pool_add_owner(pool, BASE, 0xf000_0000n, PAGE, -1, one));
	EXPECT_EQ(0, gen_pool_add_owner(pool, 2n * BASE, 0xe000_0000n, 2n * PAGE, -1, two));
	const owner = outParam<unknown>(null);
	const addr = gen_pool_alloc_owner(pool, 2n * PAGE, owner);
	EXPECT_EQ(2n * BASE, addr);
	EXPECT_EQ(two, owner.value);
	EXPECT_EQ(0xe000_0010n, gen_pool_virt_to_phys(pool, addr + 16n));
	EXPECT_EQ(-1n, gen_pool_virt_to_phys(pool, 0n));
	EXPECT_EQ(BASE, gen_pool_alloc_owner(pool, PAGE, owner));
	EXPECT_EQ(one, owner.value);
	EXPECT_EQ(0n, gen_pool_alloc_owner(pool, PAGE, owner));
	EXPECT_NULL(owner.value);
	EXPECT_EQ(0n, gen_pool_alloc(pool, 0n));
	gen_pool_free_owner(pool, addr, 2n * PAGE, owner);
	EXPECT_EQ(two, owner.value);
	gen_pool_free(pool, BASE, PAGE);
	EXPECT_TRUE(gen_pool_has_addr(pool, 2n * BASE + PAGE, PAGE));
	EXPECT_FALSE(gen_pool_has_addr(pool, 2n * BASE + PAGE, 2n * PAGE));
	gen_pool_destroy(pool);
	EXPECT_EQ(0n, gen_pool_size(pool));
});

TEST_F(genalloc, 'pool_of_256_gib_costs_nothing', ({ pool }) => {
	const size = 256n << 30n;
	gen_pool_add_virt(pool, 1n << 40n, 1n << 41n, size, -1);
	const all = gen_pool_alloc(pool, size);
	EXPECT_EQ(1n << 40n, all);
	EXPECT_EQ(0n, gen_pool_avail(pool));
	EXPECT_EQ(1, pool.chunks[0]?.used.length);
	gen_pool_free(pool, all, size);
});

TEST_F(genalloc, 'what_is_not_allocated_cannot_be_freed', ({ pool }) => {
	gen_pool_add(pool, BASE, 8n * PAGE, -1);
	const addr = gen_pool_alloc(pool, 2n * PAGE);
	const bad: [bigint, bigint][] = [
		[addr + 2n * PAGE, PAGE],
		[addr, 3n * PAGE],
		[addr, 100n * PAGE],
		[0n, PAGE],
	];
	for (const [at, size] of bad)
		EXPECT_TRUE(
			oopsOf(() => gen_pool_free(pool, at, size)).title.includes(
				'gen_pool_free: [',
			),
		);
	EXPECT_TRUE(oopsOf(() => gen_pool_destroy(pool)).title.includes('gen_pool_destroy'));
	for (const text of [
		'is not allocated as a whole',
		'leaves its chunk',
		'is not of this pool',
		'1 allocated extents',
	])
		expectReport(text);
});

TEST_F(genalloc, 'each_allocation_can_fail', ({ pool }) => {
	injectFaults()
		.fail('gen_pool_create')
		.fail('gen_pool_add_owner', 1)
		.fail('gen_pool_alloc', 1);
	EXPECT_NULL(gen_pool_create(12, -1));
	EXPECT_EQ(-ENOMEM, gen_pool_add(pool, BASE, PAGE, -1));
	EXPECT_EQ(0, gen_pool_add(pool, BASE, PAGE, -1));
	EXPECT_EQ(0n, gen_pool_alloc(pool, PAGE));
	EXPECT_EQ(BASE, gen_pool_alloc(pool, PAGE));
});
