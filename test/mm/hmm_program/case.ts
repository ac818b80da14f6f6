// SPDX-License-Identifier: GPL-2.0-only
/** What a case of hmm-tests is, and how it is set up and torn down. */
import type { file } from '../../../include/linux/fs.ts';
import type { int } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { ASSERT_EQ, ASSERT_NE, SKIP } from '../../kselftest_harness.ts';
import { HMM_COHERENCE_DEVICE_ONE, Process, type TestedKernel } from './program.ts';

/** The devices of a variant. */
export interface Devices {
	readonly device_number0: int;
	/** The second device of hmm2; absent: fixture hmm. */
	readonly device_number1: int | null;
}

/** One case while it runs: its process and the devices that it has open. */
export class CaseSelf {
	readonly kernel: TestedKernel;
	readonly variant: Devices;
	process!: Process;
	fd0!: file;
	fd1!: file;

	/**
	 * @param kernel - what it runs on
	 * @param variant - its devices
	 */
	constructor(kernel: TestedKernel, variant: Devices) {
		this.kernel = kernel;
		this.variant = variant;
	}

	/** The device of fixture hmm. */
	get fd(): file {
		return this.fd0;
	}

	/** Whether the devices are coherent. */
	get isCoherent(): boolean {
		return this.variant.device_number0 >= HMM_COHERENCE_DEVICE_ONE;
	}

	/** FIXTURE_SETUP: open the devices. */
	setup(): void {
		this.process = new Process();
		const { device_number0, device_number1 } = this.variant;
		const fd0 = this.process.open(device_number0);
		if (fd0 === null && this.isCoherent) SKIP('DEVICE_COHERENT not available');
		ASSERT_NE(null, fd0);
		this.fd0 = fd0;
		if (device_number1 === null) return;
		const fd1 = this.process.open(device_number1);
		ASSERT_NE(null, fd1);
		this.fd1 = fd1;
	}

	/** FIXTURE_TEARDOWN: close them. */
	teardown(): void {
		ASSERT_EQ(this.process.close(this.fd0), 0);
		if (this.variant.device_number1 !== null)
			ASSERT_EQ(this.process.close(this.fd1), 0);
	}
}

/** A case: a function on an open device. */
export interface HmmCase {
	readonly name: string;
	readonly body: (self: CaseSelf) => void;
	/** The first release whose program has it; absent: both. */
	readonly since?: ProfileName;
	/** v7.3: it gives the device a huge page, of which a coherent device has none. */
	readonly huge?: boolean;
}

/** A fixture of the program: its variants, and its cases in the program's order. */
export interface HmmFixture {
	readonly name: string;
	readonly variants: Readonly<Record<string, Devices>>;
	readonly cases: readonly HmmCase[];
}
