// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a CPU's access ends in the page that the VMA promises, or in the right signal, whatever its
 * TLB still has. Method: loads and stores of a process on each kind of mapping; entries are changed
 * behind the TLB's back.
 */

import type { Machine } from '../../arch/sim/machine.ts';
import { X86_PF_INSTR, X86_PF_USER } from '../../include/asm/pgtable_types.ts';
import { file } from '../../include/linux/fs.ts';
import {
	MAP_PRIVATE,
	MAP_SHARED,
	PROT_EXEC,
	PROT_NONE,
	PROT_READ,
	PROT_WRITE,
} from '../../include/linux/mm.ts';
import {
	VM_FAULT_COMPLETED,
	VM_FAULT_HWPOISON,
	VM_FAULT_NOPAGE,
	VM_FAULT_RETRY,
	VM_FAULT_SIGBUS,
	VM_FAULT_SIGSEGV,
	type vm_fault,
} from '../../include/linux/mm_types.ts';
import { SIGKILL, task_struct } from '../../include/linux/sched.ts';
import type { vm_fault_t } from '../../include/linux/types.ts';
import { injectFaults } from '../../include/sim/fault_injection.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { world } from '../../include/sim/world.ts';
import { boot } from '../../init/main.ts';
import { run } from '../../kernel/sched/core.ts';
import { do_user_addr_fault } from '../../mm/fault.ts';
import { mmap_read_unlock } from '../../mm/mmap_lock.ts';
import {
	createProcess,
	exitProcess,
	mmapAnonymous,
	userMmap,
	userMunmap,
	userRead,
	userRead64,
	userWrite,
	userWrite64,
} from '../../mm/syscalls.ts';
import { flush_tlb_mm, flush_tlb_range } from '../../mm/tlb.ts';
import { EXPECT_EQ, EXPECT_NULL, EXPECT_STREQ, EXPECT_TRUE, TEST_F } from '../kselftest_harness.ts';
import { processFixture } from './process_fixture.ts';
import { ARENA, PAGE, pteOf, RW, signalText, smallMachine } from './small_machine.ts';

const faults = processFixture('fault', {
	boot: (profile) => boot(smallMachine(0x1000), profile),
});

TEST_F(faults, 'bytes_go_through_the_page_tables_and_back', ({ p }) => {
	const va = mmapAnonymous(p, 4n * PAGE, RW);
	const bytes = Uint8Array.from({ length: 6000 }, (_, i) => i % 251);
	EXPECT_NULL(userWrite(p, va + 100n, bytes));
	const seen = userRead(p, va + 100n, 6000) as Uint8Array;
	EXPECT_TRUE(seen.every((byte, i) => byte === i % 251));
	EXPECT_EQ(0n, userRead64(p, va + 3n * PAGE));
	EXPECT_EQ(3n, p.min_flt);
});

TEST_F(faults, 'address_without_mapping_is_maperr', ({ p }) => {
	EXPECT_STREQ('sig 11 code 1', signalText(userRead64(p, ARENA)));
	EXPECT_STREQ('sig 11 code 1', signalText(userWrite64(p, ARENA, 1n)));
	EXPECT_STREQ('sig 11 code 1', signalText(userRead(p, ARENA, 8)));
	const va = mmapAnonymous(p, PAGE, RW);
	EXPECT_NULL(userWrite64(p, va, 1n));
	EXPECT_EQ(0, userMunmap(p, va, PAGE));
	// the TLB had the page
	EXPECT_STREQ('sig 11 code 1', signalText(userRead64(p, va)));
});

TEST_F(faults, 'right_that_the_mapping_lacks_is_accerr', ({ p }) => {
	const none = mmapAnonymous(p, PAGE, PROT_NONE);
	EXPECT_STREQ('sig 11 code 2', signalText(userRead64(p, none)));
	const read = mmapAnonymous(p, PAGE, PROT_READ);
	EXPECT_EQ(0n, userRead64(p, read));
	EXPECT_STREQ('sig 11 code 2', signalText(userWrite64(p, read, 1n)));
});

TEST_F(faults, 'write_only_and_exec_only_mappings_can_be_read', ({ p }) => {
	EXPECT_EQ(0n, userRead64(p, mmapAnonymous(p, PAGE, PROT_WRITE)));
	EXPECT_EQ(0n, userRead64(p, mmapAnonymous(p, PAGE, PROT_EXEC)));
});

TEST_F(faults, 'instruction_fetch_is_handled_like_a_read', ({ p }) => {
	const va = mmapAnonymous(p, PAGE, PROT_EXEC);
	EXPECT_EQ(0, run(do_user_addr_fault({}, X86_PF_USER | X86_PF_INSTR, va), { task: p }));
});

TEST_F(faults, 'task_without_address_space_gets_a_signal', () => {
	const kernel = new task_struct({ pid: 99, comm: 'kernel' });
	const outcome = run(do_user_addr_fault({}, X86_PF_USER, ARENA), { task: kernel });
	EXPECT_STREQ('sig 11 code 1', signalText(outcome === 0 ? null : outcome));
});

TEST_F(faults, 'failed_allocation_is_tried_again', ({ p }) => {
	const va = mmapAnonymous(p, PAGE, RW);
	injectFaults().fail('alloc_pages', 1);
	EXPECT_NULL(userWrite64(p, va, 3n));
	EXPECT_EQ(3n, userRead64(p, va));
	EXPECT_TRUE(world().log.some((line) => line.includes('VM_FAULT_OOM leaked out')));
});

TEST_F(faults, 'process_that_touches_more_than_there_is_is_killed', ({ p }) => {
	const va = mmapAnonymous(p, 0x8000n * PAGE, RW);
	let page = 0n;
	let outcome = userWrite64(p, va, 1n);
	while (outcome === null) outcome = userWrite64(p, va + ++page * PAGE, 1n);
	EXPECT_STREQ('sig 9 code 0', signalText(outcome));
	EXPECT_TRUE(world().log.some((line) => line.startsWith('Out of memory: Killed process')));
	// memory that comes back can be used again
	EXPECT_EQ(0, userMunmap(p, va, 0x800n * PAGE));
	EXPECT_NULL(userWrite64(p, va + page * PAGE, 2n));
	EXPECT_EQ(2n, userRead64(p, va + page * PAGE));
});

/** A mapped device whose fault handler answers by a list. */
class Device {
	answers: vm_fault_t[];
	calls = 0;
	handle: file;

	constructor(answers: vm_fault_t[]) {
		this.answers = answers;
		const self = this;
		this.handle = new file({
			f_op: {
				*mmap(_f, vma) {
					vma.vm_ops = { fault: (vmf) => self.fault(vmf) };
					return 0;
				},
			},
		});
	}

	*fault({ vma }: vm_fault): Sim<vm_fault_t> {
		const answer = this.answers[Math.min(this.calls++, this.answers.length - 1)]!;
		if (answer & (VM_FAULT_RETRY | VM_FAULT_COMPLETED))
			yield* mmap_read_unlock(vma.vm_mm);
		return answer;
	}
}

function touchDevice(p: task_struct, answers: vm_fault_t[]): string {
	const device = new Device(answers);
	const va = userMmap(p, null, PAGE, PROT_READ, MAP_SHARED, device.handle) as bigint;
	const text = signalText(userRead64(p, va));
	userMunmap(p, va, PAGE);
	return `${text} after ${device.calls}`;
}

TEST_F(faults, 'failed_fault_becomes_the_right_signal', ({ p }) => {
	EXPECT_STREQ('sig 7 code 2 after 1', touchDevice(p, [VM_FAULT_SIGBUS]));
	EXPECT_STREQ('sig 7 code 4 after 1', touchDevice(p, [VM_FAULT_HWPOISON]));
	EXPECT_STREQ('sig 11 code 1 after 1', touchDevice(p, [VM_FAULT_SIGSEGV]));
	EXPECT_STREQ(
		'sig 7 code 2 after 3',
		touchDevice(p, [VM_FAULT_NOPAGE, VM_FAULT_NOPAGE, VM_FAULT_SIGBUS]),
	);
});

TEST_F(faults, 'handler_that_drops_the_mmap_lock_is_called_again', ({ p }) => {
	EXPECT_STREQ('sig 7 code 2 after 2', touchDevice(p, [VM_FAULT_RETRY, VM_FAULT_SIGBUS]));
	EXPECT_STREQ(
		'sig 7 code 2 after 2',
		touchDevice(p, [VM_FAULT_COMPLETED | VM_FAULT_NOPAGE, VM_FAULT_SIGBUS]),
	);
	p.pending.add(SIGKILL);
	EXPECT_STREQ('sig 9 code 0 after 1', touchDevice(p, [VM_FAULT_RETRY]));
});

TEST_F(faults, 'stale_translation_stays_until_it_is_flushed', ({ p }) => {
	const va = mmapAnonymous(p, 2n * PAGE, RW);
	userWrite64(p, va, 1n);
	userWrite64(p, va + PAGE, 2n);
	const first = pteOf(p.mm!, va)!;
	const second = pteOf(p.mm!, va + PAGE)!;
	const [one, two] = [first.value, second.value];
	first.value = two;
	EXPECT_EQ(1n, userRead64(p, va));
	run(flush_tlb_range(p.mm!.vmas[0]!, va, va + 2n * PAGE));
	EXPECT_EQ(2n, userRead64(p, va));
	first.value = one;
	EXPECT_EQ(2n, userRead64(p, va));
	run(flush_tlb_mm(p.mm!));
	EXPECT_EQ(1n, userRead64(p, va));
});

TEST_F(faults, 'flush_of_a_large_range_empties_the_address_space_only', ({ p }) => {
	const other = createProcess('other');
	const va = mmapAnonymous(p, 64n * PAGE, RW);
	const theirs = mmapAnonymous(other, PAGE, RW);
	userWrite64(p, va, 1n);
	userWrite64(other, theirs, 2n);
	const { tlb } = (world().machine as Machine).cpus[0]!;
	EXPECT_TRUE(tlb.count(p.mm!.pgd) > 0);
	run(flush_tlb_range(p.mm!.vmas[0]!, va, va + 64n * PAGE));
	EXPECT_EQ(0, tlb.count(p.mm!.pgd));
	EXPECT_TRUE(tlb.count(other.mm!.pgd) > 0);
	const { pgd } = other.mm!;
	exitProcess(other);
	EXPECT_EQ(0, tlb.count(pgd));
	// nobody has run there: nothing to flush
	const idle = createProcess('idle');
	run(flush_tlb_mm(idle.mm!));
	exitProcess(idle);
});

TEST_F(faults, 'processes_do_not_see_each_other', ({ p }) => {
	const other = createProcess('other', 1);
	const va = mmapAnonymous(p, PAGE, RW);
	EXPECT_EQ(va, userMmap(other, va, PAGE, RW, MAP_PRIVATE));
	userWrite64(p, va, 1n);
	userWrite64(other, va, 2n);
	EXPECT_EQ(1n, userRead64(p, va));
	EXPECT_EQ(2n, userRead64(other, va));
	exitProcess(other);
});
