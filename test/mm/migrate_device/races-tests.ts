// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: no byte and no reference is lost while pages move under the feet of a process. Method:
 * threads count in pages that are moved and evicted all the time, under seeded schedules.
 */
import type { task_struct } from '../../../include/linux/sched.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { schedulePoint } from '../../../include/sim/schedule.ts';
import { world } from '../../../include/sim/world.ts';
import { runThreads, spawn } from '../../../kernel/sched/core.ts';
import { randomStrategy } from '../../../kernel/sched/strategy.ts';
import { forkProcess } from '../../../mm/fork.ts';
import { exitProcess, loadUser64, storeUser64, userRead64 } from '../../../mm/syscalls.ts';
import {
	ASSERT_EQ,
	EXPECT_GT,
	FIXTURE,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { evict, toDevice } from '../mm_world.ts';
import { Stage } from './stage.ts';

/** A process counts in one page while others move it: how often it was moved. */
function counting(seed: number, profile: ProfileName): number {
	const s = new Stage();
	s.setUp(profile);
	s.fill(1);
	const child = forkProcess(s.task) as task_struct;
	let done = 0;
	let moved = 0;
	const rounds = 6;
	for (let i = 0; i < 2; i++)
		spawn(
			`counter/${i}`,
			function* () {
				for (let n = 0; n < rounds; n++) {
					const place = s.address(i);
					const seen = yield* loadUser64(place);
					ASSERT_EQ('bigint', typeof seen);
					ASSERT_EQ(
						null,
						yield* storeUser64(place, (seen as bigint) + 1n),
					);
				}
				done++;
			},
			{ mm: s.task.mm, cpu: i },
		);
	spawn('mover', function* () {
		while (done < 2) {
			moved += yield* toDevice(s.dev, s.task.mm!, s.at, 2);
			yield schedulePoint('yield', s);
		}
	});
	spawn(
		'child',
		function* () {
			for (let n = 0; n < rounds; n++) ASSERT_EQ(100n, yield* loadUser64(s.at));
		},
		{ mm: child.mm, cpu: 1 },
	);
	spawn('evictor', function* () {
		while (done < 2) {
			yield* evict(s.dev);
			yield schedulePoint('yield', s);
		}
	});
	runThreads(randomStrategy(seed));
	ASSERT_EQ(100n + BigInt(rounds), userRead64(s.task, s.address(0)));
	ASSERT_EQ(BigInt(rounds), userRead64(s.task, s.address(1)));
	ASSERT_EQ(100n, userRead64(child, s.at));
	ASSERT_EQ(0, world().reports.length);
	exitProcess(child);
	s.tearDown();
	return moved;
}

const racing = FIXTURE(
	'migrate_device_race',
	() => ({}),
	FIXTURE_VARIANT({ profile: 'v7.3' as ProfileName, seed: 0 }),
);
for (const profile of ['v6.12', 'v7.3'] as const)
	for (let seed = 0; seed < 20; seed++)
		FIXTURE_VARIANT_ADD(racing, `${profile.replace('.', '_')}_${seed}`, {
			profile,
			seed,
		});

TEST_F(racing, 'no_count_is_lost_while_pages_move', (_self, { profile, seed }) => {
	EXPECT_GT(counting(seed, profile), 0);
});
