// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: who registered is asked, who faults waits for the answer, and the bit in an entry survives
 * what it shall survive. Method: a process with a monitor thread that resolves its faults, or with
 * none; entries are read as text, `u` for the uffd bit, `n` for PROT_NONE.
 */
import { Disk } from '../../arch/sim/disk.ts';
import {
	EAGAIN,
	EBUSY,
	EEXIST,
	EFAULT,
	EINVAL,
	ENOENT,
	ENOMEM,
	ESRCH,
} from '../../include/linux/errno.ts';
import {
	MADV_DONTNEED,
	MAP_ANONYMOUS,
	MAP_HUGETLB,
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_NONE,
	PROT_READ,
	VM_DONTEXPAND,
} from '../../include/linux/mm.ts';
import {
	PAGE_READONLY,
	pfn_pte,
	pte_mkspecial,
	pte_present,
	pte_protnone,
	pte_uffd_wp,
	pte_write,
} from '../../include/linux/pgtable.ts';
import type { task_struct } from '../../include/linux/sched.ts';
import {
	pte_swp_uffd_wp,
	softleaf_from_pte,
	softleaf_is_poison_marker,
	softleaf_is_uffd_wp_marker,
} from '../../include/linux/swapops.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import {
	UFFD_FEATURE_RWP,
	UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	UFFDIO_REGISTER_MODE_MISSING,
	UFFDIO_REGISTER_MODE_RWP,
	UFFDIO_REGISTER_MODE_WP,
} from '../../include/uapi/linux/userfaultfd.ts';
import { boot } from '../../init/main.ts';
import { run } from '../../kernel/sched/core.ts';
import { forkProcess } from '../../mm/fork.ts';
import { setHugePages } from '../../mm/hugetlb.ts';
import { MADV_PAGEOUT, MADV_POPULATE_READ } from '../../mm/madvise.ts';
import { vm_mmap_pgoff } from '../../mm/mmap.ts';
import { MREMAP_FIXED, MREMAP_MAYMOVE } from '../../mm/mremap.ts';
import { shmemTruncate } from '../../mm/shmem.ts';
import { swapOn } from '../../mm/swapfile.ts';
import {
	createProcess,
	exitProcess,
	userMadvise,
	userMprotect,
	userMremap,
	userMunmap,
	userRead64,
	userWrite64,
} from '../../mm/syscalls.ts';
import {
	new_userfaultfd,
	userfaultfd_copy,
	userfaultfd_poison,
	userfaultfd_register,
	userfaultfd_release,
	userfaultfd_rwprotect,
	userfaultfd_unregister,
	userfaultfd_writeprotect,
	userfaultfd_zeropage,
} from '../../mm/userfaultfd.ts';
import {
	EXPECT_EQ,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST,
	TEST_F,
} from '../kselftest_harness.ts';
import { UffdMonitor, type UffdPolicy } from '../support/uffd_monitor.ts';
import {
	ARENA,
	at,
	InvalidationLog,
	mapPages,
	PAGE,
	pteOf,
	RW,
	signalText,
	smallMachine,
	vmaList,
} from './small_machine.ts';

const MISSING = UFFDIO_REGISTER_MODE_MISSING;
const WP = UFFDIO_REGISTER_MODE_WP;
const RWP = UFFDIO_REGISTER_MODE_RWP;

const uffd = FIXTURE('userfaultfd', () => ({
	p: null as unknown as task_struct,
	monitor: null as UffdMonitor | null,
}));

FIXTURE_SETUP(uffd, (self) => {
	boot(smallMachine());
	self.p = createProcess('uffd');
});

FIXTURE_TEARDOWN(uffd, (self) => {
	self.monitor?.close();
	exitProcess(self.p);
});

function open(
	self: { readonly p: task_struct; monitor: UffdMonitor | null },
	policy: UffdPolicy,
): UffdMonitor {
	self.monitor = new UffdMonitor(self.p, policy, (va) => 0xb000n + (va - ARENA) / PAGE);
	return self.monitor;
}

function register(m: UffdMonitor, page: number, pages: number, mode: bigint): number {
	return run(userfaultfd_register(m.ctx, at(page), BigInt(pages) * PAGE, mode));
}

function unregister(m: UffdMonitor, page: number, pages: number): number {
	return run(userfaultfd_unregister(m.ctx, at(page), BigInt(pages) * PAGE));
}

function writeprotect(m: UffdMonitor, page: number, pages: number, on: boolean): number {
	return run(userfaultfd_writeprotect(m.ctx, at(page), BigInt(pages) * PAGE, on));
}

function rwprotect(m: UffdMonitor, page: number, pages: number, on: boolean): number {
	return run(userfaultfd_rwprotect(m.ctx, at(page), BigInt(pages) * PAGE, on));
}

/** `page/flags` of the faults heard of since the last call. */
function heard(m: UffdMonitor): string {
	const text = m.heard.map(({ address, flags }) => `${(address - ARENA) / PAGE}/${flags}`);
	m.heard.length = 0;
	return text.join(' ');
}

function entry(p: task_struct, page: number): string {
	const word = pteOf(p.mm!, at(page))?.value ?? 0n;
	if (word === 0n) return '.';
	if (pte_present(word)) {
		const flags = `${pte_protnone(word) ? 'n' : ''}${pte_uffd_wp(word) ? 'u' : ''}`;
		return (pte_write(word) ? 'w' : 'r') + flags;
	}
	const leaf = softleaf_from_pte(word);
	if (softleaf_is_uffd_wp_marker(leaf)) return 'ku';
	if (softleaf_is_poison_marker(leaf)) return 'kp';
	return pte_swp_uffd_wp(word) ? '?u' : '?';
}

function entries(p: task_struct, first: number, count: number): string {
	return Array.from({ length: count }, (_, i) => entry(p, first + i)).join(' ');
}

TEST_F(uffd, 'missing_page_is_what_the_monitor_copies', (self) => {
	const { p } = self;
	const m = open(self, 'copy');
	mapPages(p, 0, 4);
	userWrite64(p, at(3), 3n);
	EXPECT_EQ(0, register(m, 0, 4, MISSING));
	EXPECT_EQ(0xb001n, userRead64(p, at(1)));
	EXPECT_NULL(userWrite64(p, at(2), 9n));
	EXPECT_STREQ('1/0 2/1', heard(m));
	// the fault that was resolved is the second try
	EXPECT_EQ(2n, p.maj_flt);
	EXPECT_EQ(3n, userRead64(p, at(3)));
	EXPECT_STREQ('', heard(m));
	EXPECT_STREQ('. w w w', entries(p, 0, 4));
	// who prefaults waits as well
	EXPECT_EQ(0, userMadvise(p, at(0), PAGE, MADV_POPULATE_READ));
	EXPECT_STREQ('0/0', heard(m));
});

TEST_F(uffd, 'zero_page_and_poison_fill_what_is_missing_and_nothing_else', (self) => {
	const { p } = self;
	const m = open(self, 'poison');
	mapPages(p, 0, 4);
	EXPECT_EQ(0, register(m, 0, 4, MISSING));
	EXPECT_STREQ('sig 7 code 4', signalText(userRead64(p, at(0))));
	EXPECT_EQ(0, run(userfaultfd_zeropage(m.ctx, at(1), 2n * PAGE)));
	EXPECT_EQ(0n, userRead64(p, at(2)));
	EXPECT_STREQ('kp r r .', entries(p, 0, 4));
	// a part is filled, then nothing
	EXPECT_EQ(-EEXIST, run(userfaultfd_poison(m.ctx, at(0), 2n * PAGE)));
	EXPECT_EQ(0, userMadvise(p, at(0), PAGE, MADV_DONTNEED));
	EXPECT_EQ(-EAGAIN, run(userfaultfd_zeropage(m.ctx, at(0), 3n * PAGE)));
	EXPECT_EQ(-EEXIST, run(userfaultfd_zeropage(m.ctx, at(0), PAGE)));
});

TEST_F(uffd, 'poison_may_be_copied_over_and_not_poisoned_again', (self) => {
	const { p } = self;
	const m = open(self, 'nobody');
	mapPages(p, 0, 2);
	EXPECT_EQ(0, register(m, 0, 2, MISSING));
	EXPECT_EQ(0, run(userfaultfd_poison(m.ctx, at(0), PAGE)));
	EXPECT_EQ(-EEXIST, run(userfaultfd_poison(m.ctx, at(0), PAGE)));
	EXPECT_EQ(0, run(userfaultfd_copy(m.ctx, at(0), new Uint8Array(4096).fill(1), false)));
	EXPECT_EQ(0x0101010101010101n, userRead64(p, at(0)));
});

TEST_F(uffd, 'nobody_to_ask_is_a_bus_error', (self) => {
	const { p } = self;
	const m = open(self, 'nobody');
	mapPages(p, 0, 1);
	EXPECT_EQ(0, register(m, 0, 1, MISSING | WP));
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(p, at(0))));
	EXPECT_STREQ('sig 7 code 2', signalText(userWrite64(p, at(0), 1n)));
	EXPECT_EQ(0, run(userfaultfd_copy(m.ctx, at(0), new Uint8Array(4096), true)));
	EXPECT_STREQ('ru', entries(p, 0, 1));
	EXPECT_STREQ('sig 7 code 2', signalText(userWrite64(p, at(0), 1n)));
});

TEST_F(uffd, 'shared_memory_is_missing_where_the_page_cache_has_nothing', (self) => {
	const { p } = self;
	const m = open(self, 'copy');
	mapPages(p, 0, 4, RW, MAP_SHARED);
	const file = p.mm!.vmas[0]!.vm_file!;
	userWrite64(p, at(0), 5n);
	EXPECT_EQ(0, userMadvise(p, at(0), PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, register(m, 0, 4, MISSING));
	EXPECT_EQ(5n, userRead64(p, at(0)));
	EXPECT_STREQ('', heard(m));
	EXPECT_EQ(0xb001n, userRead64(p, at(1)));
	EXPECT_STREQ('1/0', heard(m));
	// in the cache, though not mapped here
	EXPECT_EQ(0, userMadvise(p, at(1), PAGE, MADV_DONTNEED));
	EXPECT_EQ(-EEXIST, run(userfaultfd_zeropage(m.ctx, at(1), PAGE)));
	EXPECT_EQ(0, run(userfaultfd_zeropage(m.ctx, at(2), PAGE)));
	EXPECT_EQ(0n, userRead64(p, at(2)));
	run(shmemTruncate(file, 3n * PAGE));
	EXPECT_EQ(-EFAULT, run(userfaultfd_copy(m.ctx, at(3), new Uint8Array(4096), false)));
	EXPECT_EQ(-EFAULT, run(userfaultfd_poison(m.ctx, at(3), PAGE)));
	EXPECT_STREQ('sig 7 code 2', signalText(userRead64(p, at(3))));
	EXPECT_STREQ('', heard(m));
	injectFaults().fail('shmem_alloc_folio', 1);
	run(shmemTruncate(file, 4n * PAGE));
	EXPECT_EQ(-ENOMEM, run(userfaultfd_zeropage(m.ctx, at(3), PAGE)));
});

TEST_F(uffd, 'failed_filling_leaves_no_page_in_the_cache', (self) => {
	const { p } = self;
	const m = open(self, 'nobody');
	mapPages(p, 0, 1, RW, MAP_SHARED);
	EXPECT_EQ(0, register(m, 0, 1, MISSING));
	// the entry is taken, the page cache is empty
	EXPECT_EQ(0, run(userfaultfd_poison(m.ctx, at(0), PAGE)));
	const { f_mapping: mapping } = p.mm!.vmas[0]!.vm_file!;
	pteOf(p.mm!, at(0))!.value = pte_mkspecial(pfn_pte(0x10n, PAGE_READONLY));
	EXPECT_EQ(-EEXIST, run(userfaultfd_zeropage(m.ctx, at(0), PAGE)));
	EXPECT_EQ(0, mapping!.i_pages.size);
	pteOf(p.mm!, at(0))!.value = 0n;
});

TEST_F(uffd, 'writes_to_protected_pages_are_heard_of', (self) => {
	const { p } = self;
	const m = open(self, 'copy');
	mapPages(p, 0, 4);
	userWrite64(p, at(0), 1n);
	userRead64(p, at(1));
	EXPECT_EQ(0, register(m, 0, 4, WP));
	const log = new InvalidationLog(p.mm!);
	EXPECT_EQ(0, writeprotect(m, 0, 3, true));
	EXPECT_STREQ('2 0-3', log.take());
	EXPECT_STREQ('ru ru ku .', entries(p, 0, 4));
	EXPECT_EQ(1n, userRead64(p, at(0)));
	EXPECT_STREQ('', heard(m));
	EXPECT_NULL(userWrite64(p, at(0), 2n));
	// the zero page: unprotected first, then copied
	EXPECT_NULL(userWrite64(p, at(1), 2n));
	// nothing there: the zero page comes protected, then as above
	EXPECT_EQ(0n, userRead64(p, at(2)));
	EXPECT_STREQ('w w ru .', entries(p, 0, 4));
	EXPECT_NULL(userWrite64(p, at(2), 2n));
	EXPECT_STREQ('0/3 1/3 2/3', heard(m));
	EXPECT_NULL(userWrite64(p, at(3), 2n));
	EXPECT_STREQ('', heard(m));
	log.remove();
});

TEST_F(uffd, 'protection_of_shared_memory_outlives_its_entries', (self) => {
	const { p } = self;
	const m = open(self, 'copy');
	mapPages(p, 0, 3, RW, MAP_SHARED);
	userWrite64(p, at(0), 1n);
	EXPECT_EQ(0, register(m, 0, 3, WP));
	EXPECT_EQ(0, writeprotect(m, 0, 2, true));
	EXPECT_STREQ('ru ku .', entries(p, 0, 3));
	// a read maps nothing writable, although the VMA is
	EXPECT_EQ(0n, userRead64(p, at(2)));
	EXPECT_STREQ('ru ku r', entries(p, 0, 3));
	EXPECT_EQ(0, userMadvise(p, at(0), 3n * PAGE, MADV_DONTNEED));
	EXPECT_STREQ('ku ku .', entries(p, 0, 3));
	EXPECT_EQ(1n, userRead64(p, at(0)));
	EXPECT_STREQ('ru ku .', entries(p, 0, 3));
	EXPECT_EQ(0, userMprotect(p, at(0), PAGE, PROT_READ));
	EXPECT_EQ(0, userMprotect(p, at(0), PAGE, RW));
	EXPECT_STREQ('ru ku .', entries(p, 0, 3));
	EXPECT_NULL(userWrite64(p, at(0), 2n));
	EXPECT_NULL(userWrite64(p, at(2), 2n));
	EXPECT_STREQ('0/3', heard(m));
	// their bits are still those of a watched VMA: the next write gives the right back
	EXPECT_EQ(0, unregister(m, 0, 3));
	EXPECT_STREQ('r . r', entries(p, 0, 3));
	EXPECT_NULL(userWrite64(p, at(0), 3n));
	EXPECT_STREQ('w . r', entries(p, 0, 3));
	EXPECT_EQ(0, userMunmap(p, at(0), 3n * PAGE));
});

TEST_F(uffd, 'accesses_of_protected_pages_are_heard_of', (self) => {
	const { p } = self;
	const m = open(self, 'copy');
	mapPages(p, 0, 4);
	for (let i = 0; i < 3; i++) userWrite64(p, at(i), BigInt(i));
	EXPECT_EQ(0, register(m, 0, 4, RWP));
	EXPECT_EQ(0, rwprotect(m, 0, 4, true));
	EXPECT_STREQ('rnu rnu rnu .', entries(p, 0, 4));
	EXPECT_EQ(0, rwprotect(m, 0, 4, true));
	EXPECT_EQ(0n, userRead64(p, at(0)));
	EXPECT_NULL(userWrite64(p, at(1), 7n));
	EXPECT_STREQ('0/8 1/9', heard(m));
	EXPECT_STREQ('w w rnu .', entries(p, 0, 4));
	// mprotect() does not open it
	EXPECT_EQ(0, userMprotect(p, at(2), PAGE, PROT_READ));
	EXPECT_STREQ('rnu', entries(p, 2, 1));
	EXPECT_EQ(2n, userRead64(p, at(2)));
	EXPECT_STREQ('2/8', heard(m));
	EXPECT_STREQ('r', entries(p, 2, 1));
	// a hole behind is passed over, nothing but a hole is not
	EXPECT_EQ(0, rwprotect(m, 3, 2, true));
	EXPECT_EQ(-ENOENT, rwprotect(m, 4, 2, true));
	EXPECT_EQ(0, rwprotect(m, 0, 3, true));
	EXPECT_EQ(0, unregister(m, 0, 4));
	EXPECT_STREQ('w w r .', entries(p, 0, 4));
});

TEST_F(uffd, 'neither_a_child_nor_a_new_address_is_watched', (self) => {
	const { p } = self;
	const m = open(self, 'copy');
	mapPages(p, 0, 4);
	for (let i = 0; i < 3; i++) userWrite64(p, at(i), BigInt(i + 1));
	EXPECT_EQ(0, register(m, 0, 4, RWP));
	EXPECT_EQ(0, rwprotect(m, 0, 2, true));
	const child = forkProcess(p) as task_struct;
	EXPECT_STREQ('rnu rnu r .', entries(p, 0, 4));
	EXPECT_STREQ('r r r .', entries(child, 0, 4));
	EXPECT_EQ(1n, userRead64(child, at(0)));
	EXPECT_NULL(child.mm!.vmas[0]!.vm_userfaultfd_ctx);
	exitProcess(child);
	const move = MREMAP_MAYMOVE | MREMAP_FIXED;
	EXPECT_EQ(at(8), userMremap(p, at(1), 3n * PAGE, 3n * PAGE, move, at(8)) as bigint);
	EXPECT_STREQ('r r .', entries(p, 8, 3));
	EXPECT_EQ(2n, userRead64(p, at(8)));
	EXPECT_STREQ('', heard(m));
	EXPECT_STREQ('0-1:rw 8-11:rw', vmaList(p.mm!));
	EXPECT_NULL(p.mm!.vmas[1]!.vm_userfaultfd_ctx);
	// markers stay behind
	EXPECT_EQ(0, register(m, 8, 3, WP));
	EXPECT_EQ(0, writeprotect(m, 8, 3, true));
	EXPECT_STREQ('ru ru ku', entries(p, 8, 3));
	EXPECT_EQ(at(16), userMremap(p, at(8), 3n * PAGE, 3n * PAGE, move, at(16)) as bigint);
	EXPECT_STREQ('r r .', entries(p, 16, 3));
});

TEST_F(uffd, 'range_of_several_vmas_is_not_moved_while_one_is_watched', (self) => {
	const { p } = self;
	const m = open(self, 'copy');
	mapPages(p, 0, 2);
	mapPages(p, 2, 2, PROT_READ);
	EXPECT_EQ(0, register(m, 2, 1, WP));
	const move = MREMAP_MAYMOVE | MREMAP_FIXED;
	EXPECT_EQ(-EFAULT, Number(userMremap(p, at(0), 4n * PAGE, 4n * PAGE, move, at(8))));
	// what lies before it is
	EXPECT_STREQ('2-3:r 3-4:r 8-10:rw', vmaList(p.mm!));
	EXPECT_EQ(-EFAULT, Number(userMremap(p, at(2), 2n * PAGE, 2n * PAGE, move, at(16))));
	EXPECT_EQ(at(16), userMremap(p, at(2), PAGE, PAGE, move, at(16)) as bigint);
});

TEST_F(uffd, 'registering_splits_and_merges', (self) => {
	const { p } = self;
	const m = open(self, 'copy');
	mapPages(p, 0, 8);
	EXPECT_EQ(0, register(m, 2, 2, MISSING));
	EXPECT_STREQ('0-2:rw 2-4:rw 4-8:rw', vmaList(p.mm!));
	EXPECT_EQ(0, register(m, 0, 8, MISSING));
	EXPECT_STREQ('0-8:rw', vmaList(p.mm!));
	// more of the same, and a mode that goes beyond it
	EXPECT_EQ(0, register(m, 0, 8, MISSING | WP));
	EXPECT_EQ(-EBUSY, register(m, 6, 4, MISSING));
	EXPECT_EQ(0, register(m, 0, 8, WP));
	EXPECT_EQ(0, unregister(m, 0, 4));
	EXPECT_STREQ('0-4:rw 4-8:rw', vmaList(p.mm!));
	// equal but for the userfaultfd: two VMAs
	const other = run(
		function* (): Sim<unknown> {
			return new_userfaultfd(0n);
		},
		{ task: p },
	) as UffdMonitor['ctx'];
	EXPECT_EQ(-EBUSY, run(userfaultfd_register(other, at(0), 8n * PAGE, WP)));
	EXPECT_EQ(0, run(userfaultfd_register(other, at(0), 4n * PAGE, MISSING | WP)));
	EXPECT_STREQ('0-4:rw 4-8:rw', vmaList(p.mm!));
	EXPECT_EQ(-ENOENT, run(userfaultfd_copy(other, at(9), new Uint8Array(4096), false)));
	run(userfaultfd_release(other));
	EXPECT_EQ(0, unregister(m, 0, 8));
	EXPECT_STREQ('0-8:rw', vmaList(p.mm!));
});

TEST_F(uffd, 'ranges_modes_and_states_that_make_no_sense_are_refused', (self) => {
	const { p } = self;
	const m = open(self, 'nobody');
	mapPages(p, 0, 2);
	EXPECT_EQ(-EINVAL, register(m, 0, 2, 0n));
	EXPECT_EQ(-EINVAL, register(m, 0, 2, 1n << 5n));
	EXPECT_EQ(-EINVAL, register(m, 0, 2, WP | RWP));
	EXPECT_EQ(-EINVAL, register(m, 0, 0, WP));
	EXPECT_EQ(-EINVAL, register(m, 4, 2, WP));
	EXPECT_EQ(-EINVAL, run(userfaultfd_register(m.ctx, at(0) + 1n, PAGE, WP)));
	EXPECT_EQ(-EINVAL, unregister(m, 4, 2));
	p.mm!.vmas[0]!.vm_flags |= VM_DONTEXPAND;
	EXPECT_EQ(-EINVAL, register(m, 0, 2, WP));
	EXPECT_EQ(-EINVAL, unregister(m, 0, 2));
	p.mm!.vmas[0]!.vm_flags &= ~VM_DONTEXPAND;
	EXPECT_EQ(0, userMprotect(p, at(0), PAGE, PROT_NONE));
	EXPECT_EQ(-EINVAL, register(m, 0, 2, RWP));
	EXPECT_EQ(0, register(m, 1, 1, MISSING));
	EXPECT_EQ(-EINVAL, run(userfaultfd_copy(m.ctx, at(1), new Uint8Array(4096), true)));
	EXPECT_EQ(-ENOENT, writeprotect(m, 1, 1, true));
	EXPECT_EQ(-ENOENT, run(userfaultfd_zeropage(m.ctx, at(1), 2n * PAGE)));
	EXPECT_EQ(-ENOENT, run(userfaultfd_zeropage(m.ctx, at(0), PAGE)));
	injectFaults().fail('alloc_pages', 1);
	EXPECT_EQ(-ENOMEM, run(userfaultfd_zeropage(m.ctx, at(1), PAGE)));
	injectFaults().fail('anon_vma_alloc', 1);
	mapPages(p, 16, 1);
	EXPECT_EQ(0, register(m, 16, 1, MISSING));
	EXPECT_NULL(p.mm!.vmas.at(-1)!.anon_vma);
	EXPECT_EQ(-ENOMEM, run(userfaultfd_poison(m.ctx, at(16), PAGE)));
	EXPECT_EQ(0, run(userfaultfd_poison(m.ctx, at(16), PAGE)));
	mapPages(p, 8, 4);
	injectFaults().fail('vm_area_dup', 1);
	EXPECT_EQ(-ENOMEM, register(m, 9, 1, WP));
});

TEST('closed_userfaultfd_watches_nothing_and_outlives_its_process', () => {
	boot(smallMachine());
	const p = createProcess('uffd');
	mapPages(p, 0, 2);
	const m = new UffdMonitor(p, 'nobody', () => 0n);
	EXPECT_EQ(0, register(m, 0, 2, MISSING));
	m.close();
	EXPECT_EQ(0n, userRead64(p, at(0)));
	const again = new UffdMonitor(p, 'nobody', () => 0n);
	exitProcess(p);
	EXPECT_EQ(-ENOMEM, register(again, 0, 2, MISSING));
	EXPECT_EQ(-ENOMEM, unregister(again, 0, 2));
	EXPECT_EQ(-ESRCH, writeprotect(again, 0, 2, true));
	EXPECT_EQ(-ESRCH, run(userfaultfd_zeropage(again.ctx, at(0), PAGE)));
	again.close();
});

TEST('releases_before_rwp_refuse_it', () => {
	boot(smallMachine(), 'v6.12');
	const p = createProcess('uffd');
	mapPages(p, 0, 2);
	const make = function* (): Sim<unknown> {
		return new_userfaultfd(UFFD_FEATURE_RWP);
	};
	EXPECT_EQ(-EINVAL, run(make, { task: p }) as number);
	const m = new UffdMonitor(p, 'nobody', () => 0n);
	EXPECT_EQ(-EINVAL, register(m, 0, 2, RWP));
	EXPECT_EQ(0, register(m, 0, 2, MISSING | WP));
	// a mode may be dropped
	EXPECT_EQ(0, register(m, 0, 2, MISSING));
	EXPECT_TRUE(p.mm!.vmas[0]!.vm_userfaultfd_ctx === m.ctx);
	m.close();
	exitProcess(p);
});

TEST('hugetlb_is_refused_and_not_promised', () => {
	boot(smallMachine());
	const p = createProcess('uffd');
	setHugePages(2);
	const len = 2n << 20n;
	const how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
	const va = run(() => vm_mmap_pgoff(null, 0n, len, RW, how, 0n), { task: p }) as bigint;
	const m = new UffdMonitor(p, 'nobody', () => 0n);
	for (const mode of [MISSING, WP]) {
		EXPECT_EQ(-EINVAL, run(userfaultfd_register(m.ctx, va, len, mode)));
		EXPECT_EQ(-EINVAL, run(userfaultfd_unregister(m.ctx, va, len)));
	}
	EXPECT_NULL(userWrite64(p, va, 1n));
	const make = function* (): Sim<unknown> {
		return new_userfaultfd(UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
	};
	EXPECT_EQ(-EINVAL, run(make, { task: p }) as number);
	m.close();
	exitProcess(p);
});

TEST_F(uffd, 'protected_page_of_a_file_is_protected_after_reclaim', (self) => {
	swapOn(new Disk(16));
	mapPages(self.p, 0, 2, RW, MAP_SHARED);
	for (let i = 0; i < 2; i++) userWrite64(self.p, at(i), 5n);
	const m = open(self, 'nobody');
	EXPECT_EQ(0, register(m, 0, 2, WP));
	EXPECT_EQ(0, writeprotect(m, 0, 1, true));
	EXPECT_EQ(0, userMadvise(self.p, at(0), 2n * PAGE, MADV_PAGEOUT));
	EXPECT_TRUE(softleaf_is_uffd_wp_marker(softleaf_from_pte(pteOf(self.p.mm!, at(0))!.value)));
	EXPECT_EQ(0n, pteOf(self.p.mm!, at(1))!.value);
	EXPECT_EQ(5n, userRead64(self.p, at(0)));
	EXPECT_TRUE(pte_uffd_wp(pteOf(self.p.mm!, at(0))!.value));
});
