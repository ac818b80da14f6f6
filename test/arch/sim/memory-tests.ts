// SPDX-License-Identifier: GPL-2.0-only
/**
 * Bytes of RAM and of device memory. Goal: untouched pages cost nothing and read as zero. Method: stores
 * far larger than the host's memory, looked at through `count`.
 */
import { Frame, FrameStore, PhysicalRam } from '../../../arch/sim/memory.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	TEST,
} from '../../kselftest_harness.ts';
import { refusal } from './refusal.ts';

const GIB = 0x4000_0000n;

TEST('reading_untouched_memory_gives_zeros_and_makes_nothing', () => {
	const store = new FrameStore(141n * GIB);
	const into = new Uint8Array(10000).fill(7);
	store.read(140n * GIB + 4000n, into);
	EXPECT_TRUE(into.every((byte) => byte === 0));
	EXPECT_EQ(0, store.count);
	EXPECT_EQ(0, store.roots.length);
});

TEST('bytes_across_pages_come_back', () => {
	const store = new FrameStore(141n * GIB);
	const from = Uint8Array.from({ length: 9000 }, (_, i) => i & 255);
	store.write(140n * GIB + 4090n, from);
	EXPECT_EQ(4, store.count);
	const into = new Uint8Array(9002);
	store.read(140n * GIB + 4089n, into);
	EXPECT_EQ(0, into[0] ?? -1);
	EXPECT_TRUE(from.every((byte, i) => byte === into[i + 1]));
	EXPECT_EQ(0, into[9001] ?? -1);
});

TEST('dropped_page_reads_as_zero_again', () => {
	const store = new FrameStore(GIB);
	store.write(8192n, Uint8Array.of(1, 2, 3));
	store.drop(2);
	store.drop(3);
	EXPECT_EQ(0, store.count);
	EXPECT_NULL(store.peek(2));
	const into = new Uint8Array(3).fill(9);
	store.read(8192n, into);
	EXPECT_EQ(0, into[0] ?? -1);
});

TEST('access_beyond_the_end_names_call_and_rule', () => {
	const store = new FrameStore(8192n);
	EXPECT_STREQ(
		'FrameStore.read(0x1fff, 2 bytes): this memory ends at 0x2000',
		refusal(() => store.read(8191n, new Uint8Array(2))),
	);
	EXPECT_STREQ(
		'FrameStore.frame(2): page numbers of this memory are 0..1',
		refusal(() => store.frame(2)),
	);
	EXPECT_NULL(store.peek(2));
	EXPECT_NULL(store.peek(-1));
});

TEST('views_of_a_frame_share_their_bytes', () => {
	const frame = new Frame();
	frame.u64[1] = 0x8000_0000_1234_5067n;
	EXPECT_EQ(0x1234_5067, frame.u32[2] ?? 0);
	EXPECT_EQ(0x67, frame.u8[8] ?? 0);
});

TEST('holes_of_the_ram_have_no_frames', () => {
	const ram = new PhysicalRam([
		{ start: 4n * GIB, size: GIB },
		{ start: 0n, size: GIB },
	]);
	EXPECT_TRUE(ram.has(0x3_ffff));
	EXPECT_FALSE(ram.has(0x4_0000));
	EXPECT_NULL(ram.frame(0x4_0000));
	const frame = ram.frame(0x10_0001);
	ASSERT_NE(null, frame);
	frame.u8[5] = 42;
	const into = new Uint8Array(1);
	EXPECT_TRUE(ram.read(4n * GIB + 4096n + 5n, into));
	EXPECT_EQ(42, into[0] ?? 0);
	EXPECT_TRUE(ram.peek(0x10_0001) === frame);
	EXPECT_NULL(ram.peek(0x4_0000));
	ram.drop(0x10_0001);
	EXPECT_NULL(ram.peek(0x10_0001));
});

TEST('access_across_the_end_of_ram_moves_nothing', () => {
	const ram = new PhysicalRam([{ start: 0n, size: GIB }]);
	EXPECT_FALSE(ram.write(GIB - 1n, Uint8Array.of(1, 2)));
	EXPECT_FALSE(ram.read(GIB - 1n, new Uint8Array(2)));
	EXPECT_FALSE(ram.read(2n * GIB, new Uint8Array(2)));
	EXPECT_NULL(ram.peek(0x3_ffff));
});
