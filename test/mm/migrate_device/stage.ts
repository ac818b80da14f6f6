// SPDX-License-Identifier: GPL-2.0-only
/**
 * A process with eight pages and a device, for the suites of migrate_device: each entry in one
 * word, and each step of a migration.
 */
import type { Machine } from '../../../arch/sim/machine.ts';
import {
	MIGRATE_PFN_MIGRATE,
	MIGRATE_PFN_VALID,
	MIGRATE_PFN_WRITE,
	type migrate_vma,
} from '../../../include/linux/migrate.ts';
import type { page, vm_area_struct } from '../../../include/linux/mm_types.ts';
import { pfn_to_page } from '../../../include/linux/mmzone.ts';
import { pte_pfn, pte_present, pte_write } from '../../../include/linux/pgtable.ts';
import type { task_struct } from '../../../include/linux/sched.ts';
import {
	softleaf_from_pte,
	softleaf_is_device_private,
	softleaf_is_device_private_write,
	softleaf_is_migration,
	softleaf_is_migration_write,
	softleaf_to_page,
} from '../../../include/linux/swapops.ts';
import { PAGE_SIZE } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { run } from '../../../kernel/sched/core.ts';
import {
	migrate_vma_finalize,
	migrate_vma_pages,
	migrate_vma_setup,
} from '../../../mm/migrate_device.ts';
import { mmap_read_lock, mmap_read_unlock } from '../../../mm/mmap_lock.ts';
import { createProcess, exitProcess, mmapAnonymous, userWrite64 } from '../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	type Fixture,
} from '../../kselftest_harness.ts';
import { bootMm, migration, pteOf, TestDevice, vmaAt } from '../mm_world.ts';
import { RW } from '../small_machine.ts';

/** Flag of a word: it is migrated. */
export const M = MIGRATE_PFN_MIGRATE;
/** Flag of a word: there is a page. */
export const VALID = MIGRATE_PFN_VALID;
/** Flag of a word: its entry is writable. */
export const W = MIGRATE_PFN_WRITE;
/** All flags of a word. */
export const FLAGS = 0x3fn;

/** A process with eight pages, and a device. */
export class Stage {
	machine: Machine = null as unknown as Machine;
	task: task_struct = null as unknown as task_struct;
	dev: TestDevice = null as unknown as TestDevice;
	/** First address of the eight pages. */
	at = 0n;

	profile: ProfileName = 'v7.3';

	setUp(profile: ProfileName, coherent = false): void {
		this.profile = profile;
		this.machine = bootMm(profile);
		this.task = createProcess('test');
		this.dev = new TestDevice(0x100000n, coherent);
		run(this.dev.probe());
		this.at = mmapAnonymous(this.task, 8n * PAGE_SIZE, RW);
	}

	tearDown(): void {
		exitProcess(this.task);
		run(this.dev.remove());
		EXPECT_EQ(16, this.dev.free.length);
	}

	address(i: number): bigint {
		return this.at + BigInt(i) * PAGE_SIZE;
	}
	vma(): vm_area_struct {
		return vmaAt(this.task, this.at);
	}
	pte(i: number): bigint {
		return pteOf(this.task, this.address(i));
	}
	/** The page that an entry maps or stands for. */
	page(i: number): page {
		const pte = this.pte(i);
		return pte_present(pte)
			? pfn_to_page(pte_pfn(pte))
			: softleaf_to_page(softleaf_from_pte(pte));
	}
	/** Give each of the first n pages the value 100 + i. */
	fill(n: number): void {
		for (let i = 0; i < n; i++)
			ASSERT_EQ(null, userWrite64(this.task, this.address(i), BigInt(100 + i)));
	}
	args(first: number, end: number, flags?: bigint): migrate_vma {
		return migration(
			this.dev,
			this.vma(),
			this.address(first),
			this.address(end),
			flags,
		);
	}
	*setup(args: migrate_vma): Sim<number> {
		yield* mmap_read_lock(this.task.mm!);
		const ret = yield* migrate_vma_setup(args);
		yield* mmap_read_unlock(this.task.mm!);
		return ret;
	}
	*finish(args: migrate_vma): Sim<void> {
		yield* mmap_read_lock(this.task.mm!);
		yield* migrate_vma_pages(args);
		yield* migrate_vma_finalize(args);
		yield* mmap_read_unlock(this.task.mm!);
	}
	/** State of an entry in one word. */
	state(i: number): string {
		const pte = this.pte(i);
		if (pte === 0n) return 'none';
		if (pte_present(pte)) return pte_write(pte) ? 'rw' : 'r';
		const entry = softleaf_from_pte(pte);
		if (softleaf_is_device_private(entry))
			return softleaf_is_device_private_write(entry) ? 'Dw' : 'Dr';
		if (softleaf_is_migration(entry))
			return softleaf_is_migration_write(entry) ? 'Mw' : 'Mr';
		return 'other';
	}
	states(n: number): string[] {
		return Array.from({ length: n }, (_, i) => this.state(i));
	}
}

/**
 * Declare a fixture with a stage, under both releases.
 *
 * @param name - its name
 */
export function migrateFixture(name: string): Fixture<Stage, { profile: ProfileName }> {
	const migrate = FIXTURE(
		name,
		() => new Stage(),
		FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName }),
	);
	FIXTURE_VARIANT_ADD(migrate, 'v6_12', { profile: 'v6.12' });
	FIXTURE_VARIANT_ADD(migrate, 'v7_3', { profile: 'v7.3' });
	FIXTURE_SETUP(migrate, (self, { profile }) => self.setUp(profile));
	FIXTURE_TEARDOWN(migrate, (self) => self.tearDown());
	return migrate;
}
