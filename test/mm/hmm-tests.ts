// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: every case of the kernel's own hmm-tests (tools/testing/selftests/mm/hmm-tests.c of 7.3),
 * under its own name.
 * Method: each on a kernel of its own, v7.3 with huge pages where they are asked for and with
 * coherent devices. The cases are in hmm_program/; hmm_taps-tests.ts runs them one after the other on
 * each kernel of which the real program's output is recorded.
 */
import {
	expectReport,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
	XFAIL_ADD,
} from '../kselftest_harness.ts';
import { benchmark_thp_migration } from './hmm_program/benchmark.ts';
import { CaseSelf, type Devices, type HmmFixture } from './hmm_program/case.ts';
import { fixtures } from './hmm_program/cases.ts';
import {
	bootTested,
	conflictingMapping,
	type TestedKernel,
	unloadDriver,
} from './hmm_program/program.ts';

const kernel: TestedKernel = { profile: 'v7.3', thp: 'madvise', coherent: true };

/** What the real kernel fails in as well, and why. */
const knownFailures: Readonly<Record<string, Readonly<Record<string, string>>>> = {
	hmm_device_coherent: {
		migrate_anon_huge_err:
			'fails in 7.3.4 too: a small page that cannot be had is not replaced by anything (-ENOMEM)',
	},
};

function register({ name, variants, cases }: HmmFixture): void {
	const fixture = FIXTURE(
		name,
		() => ({ running: null as CaseSelf | null }),
		FIXTURE_VARIANT<Devices>({ device_number0: 0, device_number1: null }),
	);
	for (const [variant, devices] of Object.entries(variants))
		FIXTURE_VARIANT_ADD(fixture, variant, devices);
	FIXTURE_SETUP(fixture, (self, variant) => {
		bootTested(kernel);
		self.running = new CaseSelf(kernel, variant);
		self.running.setup();
	});
	FIXTURE_TEARDOWN(fixture, ({ running }) => {
		running!.teardown();
		running!.process.exit();
		unloadDriver();
	});
	for (const one of cases)
		TEST_F(
			fixture,
			one.name,
			({ running }) => {
				// a coherent device has one chunk, and that of small pages
				if (one.huge && running!.isCoherent)
					expectReport(conflictingMapping);
				one.body(running!);
			},
			{ speed: one.body === benchmark_thp_migration ? 'slow' : 'normal' },
		);
	const failing = Object.keys(variants).find((variant) => variant in knownFailures);
	for (const [test, reason] of Object.entries(knownFailures[failing ?? ''] ?? {}))
		XFAIL_ADD(fixture, failing!, test, reason);
}

for (const fixture of fixtures) register(fixture);
