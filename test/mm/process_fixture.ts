// SPDX-License-Identifier: GPL-2.0-only
/**
 * The fixture of suites of mm/ that need a process and nothing else.
 *
 *	const advise = processFixture('madvise');
 *	const fork = processFixture('fork', { releases: RELEASES });
 *	const move = watchedProcessFixture('mremap', { releases: RELEASES });
 *
 *	TEST_F(advise, 'free_is_for_anonymous_memory', ({ p }) => { … });
 *	TEST_F(move, 'entries_move_with_their_pages', ({ p, log }, { profile }) => { … });
 *
 * Guarantee: each test has a machine of its own, and what it leaves shows at shutdown: the process has
 * exited by then, with fault injection off.
 */
import type { task_struct } from '../../include/linux/sched.ts';
import { defaultProfile, type ProfileName } from '../../include/sim/feature.ts';
import { world } from '../../include/sim/world.ts';
import { boot } from '../../init/main.ts';
import { createProcess, exitProcess } from '../../mm/syscalls.ts';
import {
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	type Fixture,
} from '../kselftest_harness.ts';
import { InvalidationLog, smallMachine } from './small_machine.ts';

/** Releases that a suite runs under where they differ. */
export const RELEASES: readonly ProfileName[] = ['v6.12', 'v7.3'];

/** What a test gets. */
export interface ProcessSelf {
	p: task_struct;
}

/** What a test gets that looks at invalidations. */
export interface WatchedProcessSelf extends ProcessSelf {
	/** Begins when the process is ready. */
	log: InvalidationLog;
}

/** How a suite wants it. */
export interface ProcessOptions {
	/** A variant each (`v6_12`); default: one run of each test, under the default release. */
	readonly releases?: readonly ProfileName[];
	/** Boots the machine; default: the small one. */
	readonly boot?: (profile: ProfileName) => unknown;
	/** Makes of the process what every test finds. */
	readonly ready?: (p: task_struct) => void;
}

interface Release {
	profile: ProfileName;
}

/** The fixture with its releases, without what runs before and after its tests. */
function declared<Self extends ProcessSelf>(
	name: string,
	fields: () => Self,
	releases: readonly ProfileName[],
): Fixture<Self, Release> {
	const variant = FIXTURE_VARIANT<Release>({ profile: defaultProfile });
	const fixture = FIXTURE(name, fields, variant);
	for (const profile of releases)
		FIXTURE_VARIANT_ADD(fixture, profile.replace('.', '_'), { profile });
	return fixture;
}

function setUp(self: ProcessSelf, name: string, profile: ProfileName, options: ProcessOptions) {
	if (options.boot === undefined) boot(smallMachine(), profile);
	else options.boot(profile);
	self.p = createProcess(name);
	options.ready?.(self.p);
}

function tearDown({ p }: ProcessSelf): void {
	world().faultInjection = null;
	if (p.mm !== null) exitProcess(p);
}

/**
 * Declare a fixture with a process.
 *
 * @param name - of the fixture and the process
 * @param options - how the suite wants it
 */
export function processFixture(
	name: string,
	options: ProcessOptions = {},
): Fixture<ProcessSelf, Release> {
	const fields = () => ({ p: null as unknown as task_struct });
	const fixture = declared<ProcessSelf>(name, fields, options.releases ?? []);
	FIXTURE_SETUP(fixture, (self, { profile }) => setUp(self, name, profile, options));
	FIXTURE_TEARDOWN(fixture, tearDown);
	return fixture;
}

/**
 * Declare a fixture with a process and a log of what is invalidated in its arena.
 *
 * @param name - of the fixture and the process
 * @param options - how the suite wants it
 */
export function watchedProcessFixture(
	name: string,
	options: ProcessOptions = {},
): Fixture<WatchedProcessSelf, Release> {
	const fields = () => ({
		p: null as unknown as task_struct,
		log: null as unknown as InvalidationLog,
	});
	const fixture = declared<WatchedProcessSelf>(name, fields, options.releases ?? []);
	FIXTURE_SETUP(fixture, (self, { profile }) => {
		setUp(self, name, profile, options);
		self.log = new InvalidationLog(self.p.mm!);
	});
	FIXTURE_TEARDOWN(fixture, (self) => {
		self.log.remove();
		tearDown(self);
	});
	return fixture;
}
