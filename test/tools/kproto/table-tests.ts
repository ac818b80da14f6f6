// SPDX-License-Identifier: GPL-2.0-only
/** Goal: columns stand below each other, whatever is in them. Method: small tables, whole. */
import { columns, table, wrap } from '../../../tools/kproto/table.ts';
import { EXPECT_EQ, EXPECT_STREQ, TEST } from '../../kselftest_harness.ts';

TEST('columns_are_as_wide_as_their_widest_cell', () => {
	EXPECT_STREQ(
		'  a    bb  c\n  aaa  b   cc',
		columns([
			['a', 'bb', 'c'],
			['aaa', 'b', 'cc'],
		]).join('\n'),
	);
});

TEST('numbers_stand_at_the_right_and_no_line_ends_in_blanks', () => {
	EXPECT_STREQ(
		'name     n\nx        1\nlong  1000',
		table(
			[{ title: 'name' }, { title: 'n', right: true }],
			[
				['x', '1'],
				['long', '1000'],
			],
			0,
		).join('\n'),
	);
	EXPECT_STREQ(
		'a\nbb  c',
		columns(
			[
				['a', ''],
				['bb', 'c'],
			],
			[],
			0,
		).join('\n'),
	);
	EXPECT_STREQ(
		'  only\n  head',
		['  only', ...columns([['head'], []])].slice(0, 2).join('\n'),
	);
});

TEST('a_text_is_broken_between_words', () => {
	EXPECT_STREQ('one two\nthree', wrap('one two three', 8).join('\n'));
	EXPECT_STREQ('  one\n  enormous', wrap('one enormous', 6, '  ').join('\n'));
	EXPECT_EQ(0, wrap('').length);
});
