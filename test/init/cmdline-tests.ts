// SPDX-License-Identifier: GPL-2.0-only
/** The command line: words of the bounce buffer in all their forms. */
import { parseCommandLine } from '../../init/cmdline.ts';
import { EXPECT_STREQ, TEST } from '../kselftest_harness.ts';

function swiotlbOf(text: string): string {
	return parseCommandLine(text).swiotlb ?? 'as needed';
}

TEST('swiotlb_is_a_comma_list', () => {
	EXPECT_STREQ('force', swiotlbOf('swiotlb=force'));
	EXPECT_STREQ('noforce', swiotlbOf('quiet swiotlb=noforce ro'));
	EXPECT_STREQ('force', swiotlbOf('swiotlb=65536,force'));
	EXPECT_STREQ('noforce', swiotlbOf('swiotlb=65536,4,noforce'));
	EXPECT_STREQ('as needed', swiotlbOf('swiotlb=65536'));
	EXPECT_STREQ('as needed', swiotlbOf('swiotlb=65536,4'));
	EXPECT_STREQ('as needed', swiotlbOf('swiotlb=often'));
	// the last word that says so wins; one that only names a size changes nothing
	EXPECT_STREQ('noforce', swiotlbOf('swiotlb=force swiotlb=noforce swiotlb=1024'));
});
