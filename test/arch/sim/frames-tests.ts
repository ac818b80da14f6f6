// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: pages share buffers and are cleared only where somebody wrote to them, and nobody can tell: a
 * page has the bytes that its last owner left, or zeros where they were asked for, and never those of a
 * neighbour. Method: stores are written to in any order and held against a plain map of bytes; then
 * pages of a kernel are freed and given out again, to processes and as page tables.
 *
 * ```
 *   one buffer, 16 pages    | 5 | 900 | 6 | 7 | ... in the order of their first writes
 * ```
 */
import fc from 'fast-check';
import { FrameStore, PAGE_BYTES } from '../../../arch/sim/memory.ts';
import { MADV_DONTNEED } from '../../../include/linux/mm.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import { nth_page, page_to_pfn } from '../../../include/linux/mmzone.ts';
import { __GFP_COMP, __GFP_ZERO, GFP_KERNEL } from '../../../include/linux/types.ts';
import { boot, checkpoint, restore } from '../../../init/main.ts';
import { run } from '../../../kernel/sched/core.ts';
import { MADV_HUGEPAGE } from '../../../mm/madvise.ts';
import {
	__free_pages,
	alloc_pages,
	clear_highpage,
	copy_highpage,
	isZeroFilled,
	pageFrame,
	ram,
} from '../../../mm/page_alloc.ts';
import {
	createProcess,
	exitProcess,
	userRead,
	userRead64,
	userWrite,
} from '../../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_LT,
	EXPECT_NULL,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { at, HUGE, madvisePages, mapPages, PAGE, smallMachine } from '../../mm/small_machine.ts';

const PAGES = 64;

/** What is done to a store. */
type Step =
	| { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
	| {
			readonly kind: 'word';
			readonly page: number;
			readonly index: number;
			readonly value: bigint;
	  }
	| { readonly kind: 'drop'; readonly page: number }
	| { readonly kind: 'make'; readonly page: number };

const pageNumbers = fc.integer({ min: 0, max: PAGES - 1 });
const steps: fc.Arbitrary<Step[]> = fc.array(
	fc.oneof(
		fc.record({
			kind: fc.constant('write' as const),
			offset: fc.integer({ min: 0, max: (PAGES - 3) * PAGE_BYTES }),
			bytes: fc.uint8Array({ minLength: 1, maxLength: 32 }),
		}),
		fc.record({
			kind: fc.constant('word' as const),
			page: pageNumbers,
			index: fc.integer({ min: 0, max: 511 }),
			value: fc.bigInt({ min: 1n, max: (1n << 64n) - 1n }),
		}),
		fc.record({ kind: fc.constant('drop' as const), page: pageNumbers }),
		fc.record({ kind: fc.constant('make' as const), page: pageNumbers }),
	),
	{ maxLength: 80 },
);

/** The same done to plain bytes. */
function plainly(bytes: Uint8Array, step: Step): void {
	if (step.kind === 'write') bytes.set(step.bytes, step.offset);
	else if (step.kind === 'drop')
		bytes.fill(0, step.page * PAGE_BYTES, (step.page + 1) * PAGE_BYTES);
	else if (step.kind === 'word')
		new DataView(bytes.buffer).setBigUint64(
			step.page * PAGE_BYTES + 8 * step.index,
			step.value,
			true,
		);
}

function stepOf(store: FrameStore, step: Step): void {
	if (step.kind === 'write') store.write(BigInt(step.offset), step.bytes);
	else if (step.kind === 'drop') store.drop(step.page);
	else if (step.kind === 'make') store.frame(step.page);
	else store.frame(step.page).u64[step.index] = step.value;
}

TEST('store_holds_what_plain_bytes_would', () => {
	let runs = 0;
	fc.assert(
		fc.property(steps, (list) => {
			const store = new FrameStore(BigInt(PAGES * PAGE_BYTES));
			const plain = new Uint8Array(PAGES * PAGE_BYTES);
			for (const step of list) {
				stepOf(store, step);
				plainly(plain, step);
			}
			const into = new Uint8Array(plain.length).fill(0xff);
			store.read(0n, into);
			runs++;
			return Buffer.compare(into, plain) === 0;
		}),
		{ numRuns: 100, seed: 1 },
	);
	EXPECT_LT(99, runs);
});

TEST('views_of_a_page_end_where_the_next_page_begins', () => {
	const store = new FrameStore(BigInt(PAGES * PAGE_BYTES));
	for (let i = 0; i < PAGES; i++) {
		const { u8, u32, u64 } = store.frame(PAGES - 1 - i);
		EXPECT_TRUE(u8.length === 4096 && u32.length === 1024 && u64.length === 512);
		u64.fill(BigInt(i + 1));
	}
	for (let i = 0; i < PAGES; i++) {
		const { u8, u32 } = store.frame(PAGES - 1 - i);
		EXPECT_TRUE(u32.every((word, at) => word === (at % 2 === 0 ? i + 1 : 0)));
		EXPECT_EQ(i + 1, u8[4088]);
	}
	// one place at most in each buffer for each page
	const places = new Set<string>();
	const buffers = new Map<ArrayBufferLike, number>();
	for (let i = 0; i < PAGES; i++) {
		const { u8 } = store.frame(i);
		if (!buffers.has(u8.buffer)) buffers.set(u8.buffer, buffers.size);
		places.add(`${buffers.get(u8.buffer)}:${u8.byteOffset}`);
	}
	EXPECT_EQ(PAGES, places.size);
});

TEST('dropped_page_is_made_anew_and_who_kept_it_changes_nothing', () => {
	const store = new FrameStore(BigInt(PAGES * PAGE_BYTES));
	const old = store.frame(3);
	old.u8.fill(1);
	store.frame(4).u8.fill(2);
	store.drop(3);
	const again = store.frame(3);
	EXPECT_FALSE(again === old);
	EXPECT_TRUE(again.u8.every((byte) => byte === 0));
	old.u8.fill(9);
	EXPECT_TRUE(again.u8.every((byte) => byte === 0));
	EXPECT_TRUE(store.frame(4).u8.every((byte) => byte === 2));
});

TEST('pages_made_after_a_checkpoint_are_zeros_when_they_are_made_again', () => {
	boot(smallMachine());
	const { store } = ram().ranges[0]!;
	// a buffer that is taken in part
	store.frame(0x200).u8.fill(1);
	const c = checkpoint();
	for (let round = 0; round < 2; round++) {
		for (let i = 1; i < 40; i++) {
			const { u8 } = store.frame(0x200 + i);
			EXPECT_TRUE(u8.every((byte) => byte === 0));
			u8.fill(0xa5);
		}
		restore(c);
		EXPECT_NULL(store.peek(0x201));
		EXPECT_TRUE(store.frame(0x200).u8.every((byte) => byte === 1));
	}
});

/** Allocates pages and runs something on them; they are free again afterwards. */
function withPages<T>(order: number, gfp: number, body: (first: page) => T): T {
	const first = run(alloc_pages(gfp, order)) as page;
	const ret = body(first);
	run(__free_pages(first, order));
	return ret;
}

TEST('given_out_again_a_page_has_old_bytes_or_zeros_as_asked', () => {
	boot(smallMachine());
	const at7 = withPages(0, GFP_KERNEL, (p) => {
		pageFrame(p).u8.fill(0xa5);
		return page_to_pfn(p);
	});
	withPages(0, GFP_KERNEL, (p) => {
		EXPECT_EQ(at7, page_to_pfn(p));
		EXPECT_TRUE(pageFrame(p).u8.every((byte) => byte === 0xa5));
	});
	withPages(0, GFP_KERNEL | __GFP_ZERO, (p) => {
		EXPECT_EQ(at7, page_to_pfn(p));
		EXPECT_TRUE(isZeroFilled(p));
		EXPECT_TRUE(pageFrame(p).u8.every((byte) => byte === 0));
	});
});

TEST('zeroing_a_large_block_clears_what_was_written_and_makes_nothing', () => {
	boot(smallMachine());
	const gfp = GFP_KERNEL | __GFP_COMP;
	const { store } = ram().ranges[0]!;
	const before = store.count;
	withPages(9, gfp, (first) => {
		for (const i of [0, 1, 255, 511]) pageFrame(nth_page(first, i)).u64[511] = 7n;
		EXPECT_EQ(before + 4, store.count);
	});
	withPages(9, gfp | __GFP_ZERO, (first) => {
		for (let i = 0; i < 512; i++) EXPECT_TRUE(isZeroFilled(nth_page(first, i)));
		EXPECT_EQ(before + 4, store.count);
	});
});

TEST('copy_of_a_page_that_nobody_wrote_is_zeros_over_old_bytes', () => {
	boot(smallMachine());
	withPages(1, GFP_KERNEL, (first) => {
		const second = nth_page(first, 1);
		pageFrame(second).u8.fill(3);
		copy_highpage(second, first);
		EXPECT_TRUE(isZeroFilled(second));
		pageFrame(second).u8.fill(4);
		clear_highpage(second);
		EXPECT_TRUE(isZeroFilled(second));
		EXPECT_NULL(ram().peek(Number(page_to_pfn(first))));
	});
});

TEST('process_never_sees_what_another_one_left', () => {
	boot(smallMachine());
	const bytes = 2 * HUGE * Number(PAGE);
	const first = createProcess('first');
	mapPages(first, 0, 2 * HUGE);
	EXPECT_EQ(0, madvisePages(first, 0, HUGE, MADV_HUGEPAGE));
	userWrite(first, at(0), new Uint8Array(bytes).fill(0xa5));
	exitProcess(first);
	// what held data becomes tables of the next one, and data of another kind
	const second = createProcess('second');
	mapPages(second, 0, 2 * HUGE);
	EXPECT_EQ(0, madvisePages(second, HUGE, HUGE, MADV_HUGEPAGE));
	for (let i = 0; i < 2 * HUGE; i += 37) userWrite(second, at(i) + 8n, Uint8Array.of(1));
	const seen = userRead(second, at(0), bytes) as Uint8Array;
	let foreign = 0;
	for (const [i, byte] of seen.entries()) {
		const ours = i % 4096 === 8 && (i >> 12) % 37 === 0;
		if (byte !== (ours ? 1 : 0)) foreign++;
	}
	EXPECT_EQ(0, foreign);
	// nor what it threw away itself
	EXPECT_EQ(0, madvisePages(second, 0, 2 * HUGE, MADV_DONTNEED));
	EXPECT_EQ(0n, userRead64(second, at(37) + 8n));
	exitProcess(second);
});
