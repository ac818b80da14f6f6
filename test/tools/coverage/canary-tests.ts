// SPDX-License-Identifier: GPL-2.0-only
/** Goal: the canary of the coverage run is reached by half. Method: one of its two functions is called. */
import { coveredByTest } from '../../../tools/coverage/canary.ts';
import { EXPECT_EQ, TEST } from '../../kselftest_harness.ts';

TEST('canary_is_reached_by_half', () => {
	EXPECT_EQ(2, coveredByTest(1));
});
