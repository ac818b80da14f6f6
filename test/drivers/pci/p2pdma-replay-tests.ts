// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the model answers what two real kernels answered, on every machine they were asked on.
 * Method: the records of test/golden/p2p are replayed as `kproto replay p2p` does it; differences
 * are counted, and the first ones printed.
 */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { installWorld } from '../../../include/sim/world.ts';
import { RecordCache, replayFile } from '../../../tools/replay/p2p/folder.ts';
import {
	EXPECT_EQ,
	EXPECT_GT,
	FIXTURE,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';

/** Topologies and cases are read once for all files that refer to them. */
const cache = new RecordCache();

const base = fileURLToPath(new URL('../../golden/p2p/', import.meta.url));
/** What some files hold the model to, by the name of the feature. */
const features: Readonly<Record<string, string>> = {
	pairs: 'F7_F8_pairs',
	whitelist: 'F8_whitelist',
	egress: 'F7_egress',
	providers: 'F13_providers',
	cache_fill: 'F14_cache_fill',
	stale_cache: 'F14_stale_cache',
	overflow: 'S18_overflow',
};
/** Differences printed before the count takes over. */
const DIFFERENCES_SHOWN = 5;

const replay = FIXTURE(
	'replay',
	() => ({}),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName, file: '' }),
);
for (const profile of ['v6.12', 'v7.3'] as const)
	for (const file of readdirSync(`${base}${profile}`)) {
		const name = file.replace('.jsonl.gz', '');
		FIXTURE_VARIANT_ADD(
			replay,
			`${profile.replace('.', '_')}_${features[name] ?? name}`,
			{ profile, file: `${base}${profile}/${file}` },
		);
	}
FIXTURE_TEARDOWN(replay, () => installWorld(null));

TEST_F(replay, 'every_record_passes', (_self, { profile, file }) => {
	let passed = 0;
	const different: string[] = [];
	for (const { title, mismatches } of replayFile(file, profile, cache)) {
		if (mismatches.length === 0) passed++;
		else different.push(`${title.replace(base, '')}: ${JSON.stringify(mismatches[0])}`);
	}
	EXPECT_EQ('', different.slice(0, DIFFERENCES_SHOWN).join('\n'));
	EXPECT_EQ(0, different.length);
	EXPECT_GT(passed, 0);
});

TEST('the_wrong_kernel_does_not_pass', () => {
	// The records tell the kernels apart: what is new in one is refused by the other.
	const count = (profile: ProfileName, file: string): number => {
		let failed = 0;
		for (const { mismatches } of replayFile(`${base}${file}`, profile, cache))
			if (mismatches.length > 0) failed++;
		return failed;
	};
	EXPECT_GT(count('v6.12', 'v7.3/whitelist.jsonl.gz'), 0);
	EXPECT_GT(count('v7.3', 'v6.12/cache_fill.jsonl.gz'), 0);
	installWorld(null);
});
