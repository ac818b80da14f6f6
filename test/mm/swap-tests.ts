// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the last reference frees a page, no other does, and whoever miscounts is reported. Method:
 * references are taken and put in the right number, then one too many.
 */
import { page_folio, vm_area_struct } from '../../include/linux/mm_types.ts';
import { folio_ref_count, folio_test_lru } from '../../include/linux/page-flags.ts';
import { GFP_KERNEL } from '../../include/linux/types.ts';
import { boot } from '../../init/main.ts';
import { __free_page, alloc_page, folio_alloc, theZone } from '../../mm/page_alloc.ts';
import {
	folio_add_lru,
	folio_add_lru_vma,
	folio_get,
	folio_isolate_lru,
	folio_put,
	folio_put_refs,
	folio_putback_lru,
	folio_ref_add,
	folio_try_get,
	get_page,
	lru_add_drain,
	lru_add_drain_all,
	put_page,
	try_get_page,
} from '../../mm/swap.ts';
import {
	ASSERT_NE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../kselftest_harness.ts';
import { smallMachine } from './small_machine.ts';

const refs = FIXTURE('page_refs', () => ({}));

FIXTURE_SETUP(refs, () => {
	boot(smallMachine(), 'v7.3', { trackOrigins: true });
});

TEST_F(refs, 'last_put_frees', function* () {
	const f = yield* folio_alloc(GFP_KERNEL, 0);
	ASSERT_NE(null, f);
	folio_get(f);
	folio_ref_add(f, 3);
	EXPECT_EQ(5, folio_ref_count(f));
	yield* folio_put_refs(f, 4);
	EXPECT_EQ(1, theZone().allocated);
	yield* folio_put(f);
	EXPECT_EQ(0, theZone().allocated);
});

TEST_F(refs, 'free_page_cannot_be_gotten', function* () {
	const p = yield* alloc_page(GFP_KERNEL);
	ASSERT_NE(null, p);
	EXPECT_TRUE(try_get_page(p));
	yield* put_page(p);
	yield* put_page(p);
	EXPECT_FALSE(try_get_page(p));
	EXPECT_FALSE(folio_try_get(page_folio(p)));
});

TEST_F(refs, 'get_of_a_free_page_is_a_use_after_free', function* () {
	const p = yield* alloc_page(GFP_KERNEL);
	yield* __free_page(p!);
	get_page(p!);
	expectReport(/KASAN: use-after-free in folio_get/);
	p!._refcount = 0;
	EXPECT_EQ(0, theZone().allocated);
});

TEST_F(refs, 'put_too_many_is_a_use_after_free', function* () {
	const f = yield* folio_alloc(GFP_KERNEL, 0);
	yield* folio_put_refs(f!, 2);
	expectReport(/KASAN: use-after-free in folio_put[\s\S]*last reference taken at:/);
	EXPECT_EQ(1, folio_ref_count(f!));
	yield* folio_put(f!);
});

TEST_F(refs, 'isolation_takes_a_folio_off_the_lru_once', function* () {
	const f = yield* folio_alloc(GFP_KERNEL, 0);
	ASSERT_NE(null, f);
	EXPECT_FALSE(folio_isolate_lru(f));
	folio_add_lru(f);
	EXPECT_TRUE(folio_test_lru(f));
	EXPECT_TRUE(folio_isolate_lru(f));
	EXPECT_EQ(2, folio_ref_count(f));
	EXPECT_FALSE(folio_isolate_lru(f));
	yield* folio_putback_lru(f);
	EXPECT_TRUE(folio_test_lru(f));
	lru_add_drain();
	yield* lru_add_drain_all();
	// the last put takes it off the LRU
	yield* folio_put(f);
	EXPECT_EQ(0, theZone().allocated);
});

TEST_F(refs, 'folio_on_the_lru_is_not_added_again', function* () {
	const f = yield* folio_alloc(GFP_KERNEL, 0);
	folio_add_lru_vma(f!, new vm_area_struct());
	folio_add_lru(f!);
	expectReport(/folio_add_lru\(\) of a folio that is on the LRU/);
	yield* folio_put(f!);
});
