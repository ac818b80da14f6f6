// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: migration by PFN takes every page of a device that is in use, and no other. Method: device
 * pages that are free, locked, mapped and large; their words, and what the processes have after an
 * eviction.
 */
import { MIGRATE_PFN_COMPOUND, migrate_pfn } from '../../../include/linux/migrate.ts';
import { page_folio } from '../../../include/linux/mm_types.ts';
import { page_to_pfn, pfn_to_page } from '../../../include/linux/mmzone.ts';
import { PG_locked } from '../../../include/linux/page-flags.ts';
import { folio_unlock } from '../../../mm/filemap.ts';
import { zone_device_folio_init } from '../../../mm/memremap.ts';
import {
	migrate_device_finalize,
	migrate_device_pages,
	migrate_device_pfns,
	migrate_device_range,
} from '../../../mm/migrate_device.ts';
import { put_page } from '../../../mm/swap.ts';
import { userRead64 } from '../../../mm/syscalls.ts';
import { EXPECT_EQ, SKIP, TEST_F } from '../../kselftest_harness.ts';
import { switchOn } from '../../support/switch_on.ts';
import { expectList } from '../bare_world.ts';
import { evict, lockedRamPage, toDevice } from '../mm_world.ts';
import { M, migrateFixture } from './stage.ts';

const migrate = migrateFixture('migrate_device');

TEST_F(migrate, 'eviction_takes_every_page_in_use', function* (s) {
	s.fill(3);
	EXPECT_EQ(3, yield* toDevice(s.dev, s.task.mm!, s.at, 3));
	const busy = s.page(1);
	busy.flags |= PG_locked;
	EXPECT_EQ(2, yield* evict(s.dev));
	expectList(['rw', 'Dw', 'rw'], s.states(3));
	yield* folio_unlock(page_folio(busy));
	EXPECT_EQ(1, yield* evict(s.dev));
	EXPECT_EQ(0, yield* evict(s.dev));
	expectList(['rw', 'rw', 'rw'], s.states(3));
	for (let i = 0; i < 3; i++) EXPECT_EQ(BigInt(100 + i), userRead64(s.task, s.address(i)));
	EXPECT_EQ(0, s.dev.faults);
});

TEST_F(migrate, 'range_words_are_zero_for_free_and_locked_pages', function* (s) {
	s.fill(1);
	EXPECT_EQ(1, yield* toDevice(s.dev, s.task.mm!, s.at, 1));
	const pfn = page_to_pfn(s.page(0)) as bigint;
	const src = new BigUint64Array(2).fill(~0n);
	EXPECT_EQ(0, yield* migrate_device_range(src, pfn, 2n));
	expectList([migrate_pfn(pfn) | M, 0n], [...src]);
	EXPECT_EQ('Mw', s.state(0));
	const again = new BigUint64Array([pfn + 1n, pfn]);
	EXPECT_EQ(0, yield* migrate_device_pfns(again, 2n));
	expectList([0n, 0n], [...again]);
	// No destination: it stays on the device.
	const dst = new BigUint64Array(2);
	yield* migrate_device_pages(src, dst, 2n);
	yield* migrate_device_finalize(src, dst, 2n);
	EXPECT_EQ('Dw', s.state(0));
	EXPECT_EQ(1, s.page(0)._refcount);
});

TEST_F(migrate, 'a_range_meets_large_device_folios', function* (s, { profile }) {
	if (profile === 'v6.12') {
		// There are none: their pages would be 6.12's tails.
		const src = new BigUint64Array(1);
		s.dev.free[0]!.compound = -1;
		EXPECT_EQ(
			0,
			yield* migrate_device_range(src, page_to_pfn(s.dev.free[0]!) as bigint, 1n),
		);
		EXPECT_EQ(0n, src[0]);
		s.dev.free[0]!.compound = 0;
		return;
	}
	const head = pfn_to_page(s.dev.base);
	yield* zone_device_folio_init(page_folio(head), s.dev.pgmap, 2);
	const C = MIGRATE_PFN_COMPOUND;
	const locked = new BigUint64Array(6).fill(7n);
	EXPECT_EQ(0, yield* migrate_device_range(locked, s.dev.base, 6n));
	expectList([C, 0n, 0n, 0n, 0n, 0n], [...locked]);
	yield* folio_unlock(page_folio(head));
	// A folio that reaches past the end.
	const src = new BigUint64Array(2).fill(7n);
	const dst = new BigUint64Array(2);
	EXPECT_EQ(0, yield* migrate_device_range(src, s.dev.base, 2n));
	expectList([migrate_pfn(s.dev.base) | M | C, 0n], [...src]);
	dst[0] = migrate_pfn(page_to_pfn((yield* lockedRamPage())!));
	yield* migrate_device_pages(src, dst, 2n);
	// Without a VMA it cannot be split.
	EXPECT_EQ(migrate_pfn(s.dev.base), src[0]);
	yield* migrate_device_finalize(src, dst, 2n);
	EXPECT_EQ(1, head._refcount);
	yield* put_page(head);
	s.dev.free = s.dev.free.filter((p) => p !== head);
	s.dev.free.push(head);
});

TEST_F(migrate, 'fix_s15_large_folio_that_is_locked_has_the_word_0', function* (s) {
	if (!switchOn('fix_s15')) SKIP('there are no large device folios');
	const head = pfn_to_page(s.dev.base);
	yield* zone_device_folio_init(page_folio(head), s.dev.pgmap, 2);
	const words = new BigUint64Array(6).fill(7n);
	EXPECT_EQ(0, yield* migrate_device_range(words, s.dev.base, 6n));
	expectList([0n, 0n, 0n, 0n, 0n, 0n], [...words]);
	yield* folio_unlock(page_folio(head));
	yield* put_page(head);
	s.dev.free = s.dev.free.filter((p) => p !== head);
	s.dev.free.push(head);
});
