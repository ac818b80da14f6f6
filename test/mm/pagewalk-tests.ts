// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a walk calls back for what is there and for holes, level by level, and does as it is told.
 * Method: a walk is written down as text, one word for each callback: `hole(depth)a-b`, `pmd a-b`,
 * `pte a`, … with pages counted from the arena on.
 */
import { EINVAL } from '../../include/linux/errno.ts';
import { VM_HUGETLB, VM_PFNMAP } from '../../include/linux/mm.ts';
import {
	ACTION_AGAIN,
	ACTION_CONTINUE,
	type mm_walk,
	type mm_walk_ops,
	PGWALK_RDLOCK,
	PGWALK_VMA_RDLOCK_VERIFY,
	PGWALK_WRLOCK,
	type page_walk_lock,
} from '../../include/linux/pagewalk.ts';
import { pte_none } from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import type { int } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { run } from '../../kernel/sched/core.ts';
import {
	mmap_read_lock,
	mmap_read_unlock,
	mmap_write_lock,
	mmap_write_unlock,
} from '../../mm/mmap_lock.ts';
import { walk_page_range, walk_page_range_novma, walk_page_range_vma } from '../../mm/pagewalk.ts';
import { userWrite64 } from '../../mm/syscalls.ts';
import {
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	expectReport,
	TEST_F,
} from '../kselftest_harness.ts';
import { processFixture } from './process_fixture.ts';
import { ARENA, at, mapPages, PAGE } from './small_machine.ts';

const PMD = 512;
const PUD = 512 * 512;

const walker = processFixture('pagewalk');

function page(addr: bigint): bigint {
	return (addr - ARENA) / PAGE;
}

function touch(p: task_struct, ...pages: number[]): void {
	for (const i of pages) userWrite64(p, at(i), 1n);
}

type Part = 'pgd' | 'p4d' | 'pud' | 'pmd' | 'pte' | 'hole' | 'vma' | 'hugetlb';

/** Ops that write down what they are called for. */
class Recorder {
	words: string[] = [];
	/** What pmd callbacks answer by walk.action, used up one by one. */
	actions: (0 | 1 | 2)[] = [];
	/** The word after which a callback ends the walk with 7. */
	stopAt = '';
	test: int = 0;
	ops: mm_walk_ops;

	constructor(
		parts: readonly Part[],
		walk_lock: page_walk_lock = PGWALK_RDLOCK,
		test = false,
	) {
		const self = this;
		const entry = (name: Part) =>
			parts.includes(name)
				? (_e: unknown, a: bigint, b: bigint, walk: mm_walk) =>
						self.range(name, a, b, walk)
				: undefined;
		const all = {
			pgd_entry: entry('pgd'),
			p4d_entry: entry('p4d'),
			pud_entry: entry('pud'),
			pmd_entry: entry('pmd'),
			pte_entry: parts.includes('pte')
				? (e: { value: bigint }, a: bigint) =>
						self.say(
							`pte${pte_none(e.value) ? '.' : '+'}${page(a)}`,
						)
				: undefined,
			pte_hole: parts.includes('hole')
				? (a: bigint, b: bigint, depth: int) =>
						self.say(`hole(${depth})${page(a)}-${page(b)}`)
				: undefined,
			hugetlb_entry: parts.includes('hugetlb')
				? (_e: unknown, _m: bigint, a: bigint, b: bigint) =>
						self.say(`huge${page(a)}-${page(b)}`)
				: undefined,
			pre_vma: parts.includes('vma')
				? (a: bigint, b: bigint) => self.say(`vma${page(a)}-${page(b)}`)
				: undefined,
			post_vma: parts.includes('vma')
				? function* () {
						self.words.push('end');
					}
				: undefined,
			test_walk: test ? (a: bigint, b: bigint) => self.testWalk(a, b) : undefined,
		};
		const used = Object.fromEntries(
			Object.entries(all).filter(([, f]) => f !== undefined),
		);
		this.ops = { ...used, walk_lock } as mm_walk_ops;
	}

	*say(word: string): Sim<int> {
		this.words.push(word);
		return word === this.stopAt ? 7 : 0;
	}

	*range(name: Part, a: bigint, b: bigint, walk: mm_walk): Sim<int> {
		const action = name === 'pmd' || name === 'pud' ? this.actions.shift() : undefined;
		if (action !== undefined) walk.action = action;
		return yield* this.say(`${name}${page(a)}-${page(b)}`);
	}

	*testWalk(a: bigint, b: bigint): Sim<int> {
		this.words.push(`test${page(a)}-${page(b)}`);
		return this.test;
	}
}

/** Walks pages [first, end) and returns the words and, unless 0, the result. */
function walk(p: task_struct, first: number, end: number, r: Recorder): string {
	run(mmap_read_lock(p.mm!));
	const ret = run(walk_page_range(p.mm!, at(first), at(end), r.ops, null));
	run(mmap_read_unlock(p.mm!));
	return r.words.join(' ') + (ret === 0 ? '' : ` = ${ret}`);
}

TEST_F(walker, 'gaps_and_vmas_come_in_order', ({ p }) => {
	mapPages(p, 2, 2);
	mapPages(p, 6, 2);
	touch(p, 2, 7);
	EXPECT_STREQ(
		'hole(-1)0-2 pte+2 pte.3 hole(-1)4-6 pte.6 pte+7 hole(-1)8-10',
		walk(p, 0, 10, new Recorder(['pte', 'hole'])),
	);
	EXPECT_STREQ('pte.3', walk(p, 3, 5, new Recorder(['pte'])));
	EXPECT_STREQ('hole(-1)4-5', walk(p, 4, 5, new Recorder(['hole'])));
});

TEST_F(walker, 'hole_is_as_large_as_its_level_is_empty', ({ p }) => {
	mapPages(p, 0, 2 * PUD);
	const levels = () => walk(p, 0, 2 * PUD, new Recorder(['pmd', 'hole']));
	EXPECT_STREQ(`hole(0)0-${2 * PUD}`, levels());
	touch(p, PMD + 3);
	const upTo = (n: number, from: number) =>
		Array.from(
			{ length: n },
			(_, i) => `hole(3)${(from + i) * PMD}-${(from + i + 1) * PMD}`,
		);
	EXPECT_STREQ(
		[
			...upTo(1, 0),
			`pmd${PMD}-${2 * PMD}`,
			...upTo(510, 2),
			`hole(2)${PUD}-${2 * PUD}`,
		].join(' '),
		levels(),
	);
});

TEST_F(walker, 'range_is_cut_at_the_ends_of_tables', ({ p }) => {
	mapPages(p, 0, 2 * PMD);
	touch(p, 0, PMD);
	EXPECT_STREQ(
		`pmd500-${PMD} pmd${PMD}-520`,
		walk(p, 500, 520, new Recorder(['pmd', 'hole'])),
	);
});

TEST_F(walker, 'every_level_is_offered', ({ p }) => {
	mapPages(p, 0, 1);
	touch(p, 0);
	EXPECT_STREQ(
		'vma0-1 pgd0-1 p4d0-1 pud0-1 pmd0-1 pte+0 end',
		walk(p, 0, 1, new Recorder(['pgd', 'p4d', 'pud', 'pmd', 'pte', 'vma', 'hole'])),
	);
	EXPECT_STREQ('pgd0-1 p4d0-1', walk(p, 0, 1, new Recorder(['pgd', 'p4d'])));
	EXPECT_STREQ('pud0-1', walk(p, 0, 1, new Recorder(['pud'])));
});

TEST_F(walker, 'again_looks_at_the_entry_anew_and_continue_leaves_it', ({ p }) => {
	mapPages(p, 0, 2);
	touch(p, 0);
	const again = new Recorder(['pmd', 'pte']);
	again.actions = [ACTION_AGAIN, ACTION_AGAIN];
	EXPECT_STREQ('pmd0-2 pmd0-2 pmd0-2 pte+0 pte.1', walk(p, 0, 2, again));
	const skip = new Recorder(['pmd', 'pte']);
	skip.actions = [ACTION_CONTINUE];
	EXPECT_STREQ('pmd0-2', walk(p, 0, 2, skip));
	const pud = new Recorder(['pud', 'pte']);
	pud.actions = [ACTION_AGAIN, ACTION_CONTINUE];
	EXPECT_STREQ('pud0-2 pud0-2', walk(p, 0, 2, pud));
});

TEST_F(walker, 'callback_ends_the_walk_at_any_level', ({ p }) => {
	mapPages(p, 0, 2);
	mapPages(p, 3, 1);
	mapPages(p, PUD, 1);
	touch(p, 0, 1, 3);
	const parts: Part[] = ['pgd', 'p4d', 'pud', 'pmd', 'pte', 'hole', 'vma'];
	const whole = walk(p, 0, PUD + 1, new Recorder(parts));
	const seen = new Set<string>();
	for (const word of whole.split(' ')) {
		if (word === 'end' || seen.has(word)) continue;
		seen.add(word);
		const r = new Recorder(parts);
		r.stopAt = word;
		const text = walk(p, 0, PUD + 1, r);
		EXPECT_TRUE(text.endsWith(' = 7'));
		// a VMA that was begun is ended, unless its begin was refused
		const words = r.words.filter((w) => w !== 'end');
		EXPECT_STREQ(word, words[words.length - 1]!);
	}
	EXPECT_TRUE(seen.size > 12);
});

TEST_F(walker, 'test_walk_chooses_the_vmas', ({ p }) => {
	mapPages(p, 0, 2);
	touch(p, 0);
	const left = new Recorder(['pte', 'hole'], PGWALK_RDLOCK, true);
	left.test = 1;
	EXPECT_STREQ('test0-2 hole(-1)2-3', walk(p, 0, 3, left));
	const refused = new Recorder(['pte'], PGWALK_RDLOCK, true);
	refused.test = -EINVAL;
	EXPECT_STREQ(`test0-2 = ${-EINVAL}`, walk(p, 0, 3, refused));
	EXPECT_STREQ(
		'test0-2 pte+0 pte.1',
		walk(p, 0, 2, new Recorder(['pte'], PGWALK_RDLOCK, true)),
	);
});

TEST_F(walker, 'mapping_without_struct_pages_is_a_hole', ({ p }) => {
	mapPages(p, 0, 2);
	touch(p, 0);
	const vma = p.mm!.vmas[0]!;
	vma.vm_flags |= VM_PFNMAP;
	EXPECT_STREQ('hole(-1)0-2', walk(p, 0, 2, new Recorder(['pte', 'hole'])));
	EXPECT_STREQ('', walk(p, 0, 2, new Recorder(['pte'])));
	const stop = new Recorder(['hole']);
	stop.stopAt = 'hole(-1)0-2';
	// a positive answer only says to leave the VMA out, as one of test_walk does
	EXPECT_STREQ('hole(-1)0-2', walk(p, 0, 2, stop));
	vma.vm_flags &= ~VM_PFNMAP;
});

TEST_F(walker, 'hugetlb_mapping_is_offered_page_by_page', ({ p }) => {
	mapPages(p, 0, 2 * PMD);
	const vma = p.mm!.vmas[0]!;
	vma.vm_flags |= VM_HUGETLB;
	const text = () => walk(p, 0, 2 * PMD, new Recorder(['hugetlb', 'hole']));
	EXPECT_STREQ(`hole(-1)0-${PMD} hole(-1)${PMD}-${2 * PMD}`, text());
	EXPECT_STREQ('', walk(p, 0, PMD, new Recorder(['pte'])));
	vma.vm_flags &= ~VM_HUGETLB;
	touch(p, 0);
	vma.vm_flags |= VM_HUGETLB;
	EXPECT_STREQ(`huge0-${PMD} huge${PMD}-${2 * PMD}`, text());
	const stop = new Recorder(['hugetlb']);
	stop.stopAt = `huge0-${PMD}`;
	EXPECT_STREQ(`huge0-${PMD} = 7`, walk(p, 0, 2 * PMD, stop));
	vma.vm_flags &= ~VM_HUGETLB;
});

TEST_F(walker, 'empty_range_is_einval', ({ p }) => {
	mapPages(p, 0, 2);
	EXPECT_STREQ(` = ${-EINVAL}`, walk(p, 1, 1, new Recorder(['pte'])));
	const vma = p.mm!.vmas[0]!;
	const part = (from: number, to: number) => {
		run(mmap_read_lock(p.mm!));
		const ret = run(
			walk_page_range_vma(vma, at(from), at(to), new Recorder(['pte']).ops, null),
		);
		run(mmap_read_unlock(p.mm!));
		return ret;
	};
	EXPECT_EQ(0, part(0, 2));
	EXPECT_EQ(-EINVAL, part(1, 1));
	EXPECT_EQ(-EINVAL, part(-1, 1));
	EXPECT_EQ(-EINVAL, part(1, 3));
});

TEST_F(walker, 'walk_checks_the_mmap_lock', ({ p }) => {
	mapPages(p, 0, 1);
	touch(p, 0);
	const { mm } = p;
	run(walk_page_range(mm!, at(0), at(1), new Recorder(['pte']).ops, null));
	expectReport(/lockdep_assert_held\(&mm->mmap_lock\)/);
	walk(p, 0, 1, new Recorder(['pte'], PGWALK_WRLOCK));
	expectReport(/lockdep_assert_held_write\(&mm->mmap_lock\)/);
	run(mmap_write_lock(mm!));
	EXPECT_EQ(
		0,
		run(
			walk_page_range(
				mm!,
				at(0),
				at(1),
				new Recorder(['pte'], PGWALK_WRLOCK).ops,
				null,
			),
		),
	);
	EXPECT_EQ(
		0,
		run(
			walk_page_range(
				mm!,
				at(0),
				at(1),
				new Recorder(['pte'], PGWALK_VMA_RDLOCK_VERIFY).ops,
				null,
			),
		),
	);
	run(mmap_write_unlock(mm!));
});

TEST_F(walker, 'walk_without_vmas_sees_tables_that_no_mapping_covers', ({ p }) => {
	mapPages(p, 0, 3);
	touch(p, 1);
	const r = new Recorder(['pmd', 'pte', 'hole']);
	run(mmap_write_lock(p.mm!));
	EXPECT_EQ(0, run(walk_page_range_novma(p.mm!, at(0), at(PMD + 1), r.ops, null)));
	EXPECT_EQ(-EINVAL, run(walk_page_range_novma(p.mm!, at(0), at(0), r.ops, null)));
	run(mmap_write_unlock(p.mm!));
	EXPECT_STREQ('pmd0-512 pte.0 pte+1 pte.2 pte.3', r.words.slice(0, 5).join(' '));
	EXPECT_STREQ('hole(3)512-513', r.words[r.words.length - 1]!);
	const stop = new Recorder(['pte']);
	stop.stopAt = 'pte+1';
	run(mmap_write_lock(p.mm!));
	EXPECT_EQ(7, run(walk_page_range_novma(p.mm!, at(0), at(4), stop.ops, null)));
	run(mmap_write_unlock(p.mm!));
});
