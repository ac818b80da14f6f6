// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a command line of `npm run fuzz` that makes no sense is told in one line, with where to look.
 * Method: the parser as the command calls it, its complaint caught.
 */
import { parseFuzzOptions, tellFuzzMistake } from '../../../tools/fuzz/programs/options.ts';
import { EXPECT_EQ, EXPECT_STREQ, EXPECT_TRUE, TEST } from '../../kselftest_harness.ts';
import { called } from '../../support/command.ts';

async function complaint(...argv: string[]): Promise<string> {
	const { code, out, err } = await called((args) => {
		try {
			parseFuzzOptions(args);
			return 0;
		} catch (error) {
			return tellFuzzMistake('fuzz', error);
		}
	}, argv);
	EXPECT_EQ(err === '' ? 0 : 2, code);
	EXPECT_STREQ('', out);
	return err;
}

TEST('a_mistake_is_one_line', async () => {
	const hint = '(npm run fuzz -- --help tells the options)\n';
	EXPECT_STREQ(`fuzz: Unknown option '--what' ${hint}`, await complaint('--what'));
	EXPECT_STREQ(
		`fuzz: --runs: a whole number from 1 to 2147483647, not "many" ${hint}`,
		await complaint('--runs', 'many'),
	);
	EXPECT_STREQ(`fuzz: --path: of which seed? ${hint}`, await complaint('--path', '1'));
	EXPECT_TRUE(
		(await complaint('--profile', 'v9')).startsWith('fuzz: --profile: there is no'),
	);
	EXPECT_EQ(2, (await complaint('--jobs')).split('\n').length);
	EXPECT_STREQ('', await complaint('--runs', '5', '--stats'));
});
