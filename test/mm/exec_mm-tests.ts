// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: an address space takes with it all that it had, and the check at shutdown names what is
 * left. Method: processes come and go and the allocator is counted before and after; then things
 * are left behind on purpose, with and without recorded origins.
 */
import { MAP_PRIVATE, PROT_READ } from '../../include/linux/mm.ts';
import { MM_ANONPAGES } from '../../include/linux/mm_types.ts';
import { PG_reserved } from '../../include/linux/page-flags.ts';
import { GFP_KERNEL } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import { world } from '../../include/sim/world.ts';
import { boot } from '../../init/main.ts';
import { run } from '../../kernel/sched/core.ts';
import { mm_alloc, mmdrop, mmget, mmget_not_zero, mmgrab, mmput } from '../../mm/exec_mm.ts';
import { liveObjects } from '../../mm/live.ts';
import { memShutdownCheck } from '../../mm/mm_init.ts';
import { alloc_page, alloc_pages, theZone } from '../../mm/page_alloc.ts';
import { put_page } from '../../mm/swap.ts';
import {
	createProcess,
	exitProcess,
	mmapAnonymous,
	userMmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../kselftest_harness.ts';
import { ARENA, PAGE, RW, smallMachine } from './small_machine.ts';

const life = FIXTURE('mm_life', () => ({}), FIXTURE_VARIANT({ trackOrigins: false }));
FIXTURE_VARIANT_ADD(life, 'plain', {});
FIXTURE_VARIANT_ADD(life, 'with_origins', { trackOrigins: true });

FIXTURE_SETUP(life, (_self, { trackOrigins }) => {
	boot(smallMachine(), 'v7.3', { trackOrigins });
});

/** Pages in use that are no part of the kernel itself. */
function pagesInUse(before: number): number {
	return theZone().allocated - before;
}

TEST_F(life, 'exit_gives_everything_back', () => {
	const before = theZone().allocated;
	const p = createProcess('p');
	const va = mmapAnonymous(p, 64n * PAGE, RW);
	for (let i = 0n; i < 64n; i += 3n) userWrite64(p, va + i * PAGE, i);
	userMmap(p, ARENA + (1n << 31n), PAGE, PROT_READ, MAP_PRIVATE);
	userRead64(p, ARENA + (1n << 31n));
	EXPECT_EQ(2, liveObjects().vmas);
	exitProcess(p);
	EXPECT_EQ(0, liveObjects().vmas);
	EXPECT_EQ(0, liveObjects().mms.size);
	EXPECT_EQ(0, pagesInUse(before));
	EXPECT_EQ(0, memShutdownCheck());
});

TEST_F(life, 'users_keep_the_contents_and_holders_the_struct', function* () {
	const mm = (yield* mm_alloc())!;
	mmget(mm);
	mmgrab(mm);
	yield* mmput(mm);
	EXPECT_TRUE(mmget_not_zero(mm));
	yield* mmput(mm);
	yield* mmput(mm);
	EXPECT_FALSE(mmget_not_zero(mm));
	EXPECT_EQ(1, mm.pgtables);
	yield* mmdrop(mm);
	EXPECT_EQ(0, mm.pgtables);
	EXPECT_EQ(0, liveObjects().mms.size);
});

TEST_F(life, 'no_memory_no_address_space', function* () {
	injectFaults().fail('mm_alloc', 1).fail('alloc_pages', 1);
	EXPECT_NULL(yield* mm_alloc());
	EXPECT_NULL(yield* mm_alloc());
	let message = '';
	injectFaults().fail('mm_alloc');
	try {
		createProcess('p');
	} catch (error) {
		message = String(error);
	}
	EXPECT_TRUE(message.includes('createProcess()'));
});

TEST_F(life, 'miscounted_pages_are_reported_at_exit', () => {
	const p = createProcess('p');
	p.mm!.rss_stat[MM_ANONPAGES] = 3;
	p.mm!.pgtables++;
	exitProcess(p);
	expectReport(/Bad rss-counter state type:MM_ANONPAGES val:3 Comm:p/);
	expectReport(/non-zero pgtables_bytes on freeing mm: 4096/);
	EXPECT_EQ(0, liveObjects().mms.size);
});

TEST_F(life, 'exited_process_cannot_be_used', () => {
	const p = createProcess('p');
	exitProcess(p);
	let message = '';
	try {
		userRead64(p, ARENA);
	} catch (error) {
		message = String(error);
	}
	EXPECT_TRUE(message.includes('has no mm'));
});

TEST_F(life, 'forgotten_process_is_reported_with_its_pages', () => {
	const p = createProcess('forgetful');
	const va = mmapAnonymous(p, 16n * PAGE, RW);
	for (let i = 0n; i < 16n; i++) userWrite64(p, va + i * PAGE, 1n);
	EXPECT_EQ(3, memShutdownCheck());
	const { reports } = world();
	const [mm, vmas, pages] = reports;
	EXPECT_TRUE(mm!.title === 'BUG: mm_struct of forgetful still in use at shutdown');
	EXPECT_TRUE(vmas!.title === 'BUG: 1 vm_area_structs still in use at shutdown');
	EXPECT_TRUE(
		/BUG: \d+ pages still in use at shutdown, 4 of them page tables/.test(pages!.title),
	);
	EXPECT_TRUE(pages!.text.includes('... and '));
	reports.length = 0;
	exitProcess(p);
	EXPECT_EQ(0, memShutdownCheck());
});

TEST_F(life, 'forgotten_page_is_reported_with_its_origin', function* (_self, { trackOrigins }) {
	const p = yield* alloc_page(GFP_KERNEL);
	ASSERT_NE(null, p);
	EXPECT_EQ(1, memShutdownCheck());
	const { reports } = world();
	EXPECT_TRUE(/BUG: 1 pages still in use at shutdown$/.test(reports[0]!.title));
	EXPECT_EQ(trackOrigins, reports[0]!.text.includes('alloc_pages mm/page_alloc.ts'));
	reports.length = 0;
	// what the kernel keeps for itself is no leak
	p.flags |= PG_reserved;
	EXPECT_EQ(0, memShutdownCheck());
	p.flags = 0;
	yield* put_page(p);
});

TEST_F(life, 'nameless_address_space_is_reported_too', () => {
	const mm = run(mm_alloc())!;
	EXPECT_EQ(2, memShutdownCheck());
	EXPECT_TRUE(world().reports[0]!.title.includes('of nobody'));
	world().reports.length = 0;
	run(mmput(mm));
	EXPECT_EQ(0, memShutdownCheck());
});

TEST('processes_need_ram_at_the_bottom', () => {
	const machine = smallMachine();
	boot({ ...machine, ram: [{ start: '0x100000', size: '0x1000000' }] });
	let message = '';
	try {
		createProcess('p');
	} catch (error) {
		message = String(error);
	}
	EXPECT_TRUE(message.includes('its first RAM range must begin at 0'));
});

TEST('ram_with_a_hole_is_used_on_both_sides', function* () {
	const low = { start: '0x0', size: '0x110000' };
	boot({ ...smallMachine(), ram: [low, { start: '0x200000', size: '0x40000' }] });
	const pages = [];
	for (;;) {
		const p = yield* alloc_page(GFP_KERNEL);
		if (p === null) break;
		pages.push(p);
	}
	EXPECT_EQ(16 + 64, pages.length);
	const block = yield* alloc_pages(GFP_KERNEL, 5);
	EXPECT_NULL(block);
	for (const p of pages) yield* put_page(p);
	EXPECT_EQ(0, theZone().allocated);
});
