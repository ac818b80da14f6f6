// SPDX-License-Identifier: GPL-2.0-only
/**
 * The kernel of a scenario of the proposal: the devices' windows, the requesters and their DMA maps.
 *
 * A map does on invalidation what ODP does: each page of the range is unmapped and its word loses all
 * but the PFN.
 */

import { findPciDev } from '../../../drivers/pci/search.ts';
import { device } from '../../../include/linux/device.ts';
import { DMA_BIT_MASK } from '../../../include/linux/dma-mapping.ts';
import { HMM_PFN_FLAGS } from '../../../include/linux/hmm.ts';
import { hmm_dma_map } from '../../../include/linux/hmm-dma.ts';
import type { page } from '../../../include/linux/mm_types.ts';
import {
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
} from '../../../include/linux/mmu_notifier.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import { mutex } from '../../../include/linux/spinlock.ts';
import { PAGE_SIZE } from '../../../include/linux/types.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { Report } from '../../../include/sim/report.ts';
import type { BootOptions } from '../../../init/main.ts';
import { dma_set_mask } from '../../../kernel/dma/mapping.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';
import { run } from '../../../kernel/sched/core.ts';
import { dmirror_page_to_device } from '../../../lib/test_hmm/device.ts';
import { dmirrorDevice } from '../../../lib/test_hmm.ts';
import { hmm_dma_map_free, hmm_dma_unmap_pfn } from '../../../mm/hmm_dma.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_set_seq,
} from '../../../mm/mmu_notifier.ts';
import { knowAliases, minorOf } from '../hmm/kinds.ts';
import { Oracle } from '../hmm/oracle.ts';
import type { Scenario } from '../hmm/record.ts';
import { labelledFunction } from './lookup.ts';
import { type ProposalMachine, proposalMachine } from './machines.ts';
import { AliasWindow } from './windows.ts';

/** A requester's map of the whole window. */
export class RequesterMap {
	readonly map = new hmm_dma_map();
	readonly sub = new mmu_interval_notifier();
	readonly lock = new mutex('umem_mutex');
	readonly dev: device;
	readonly oracle: ProposalOracle;

	/**
	 * @param oracle - the scenario's kernel
	 * @param dev - who does the DMA
	 */
	constructor(oracle: ProposalOracle, dev: device) {
		this.oracle = oracle;
		this.dev = dev;
		this.sub.container = this;
	}

	/** Unmap pages [from, to); how many were mapped. */
	unmap(from: number, to: number): number {
		let mapped = 0;
		for (let i = from; i < to; i++)
			if (hmm_dma_unmap_pfn(this.dev, this.map, BigInt(i))) mapped++;
		return mapped;
	}
}

/** Ops of a map's notifier. */
export const mapOps: mmu_interval_notifier_ops = {
	*invalidate(sub, range, seq) {
		const self = sub.container as RequesterMap;
		const { base, np } = self.oracle.window;
		const clip = (at: bigint): number =>
			Math.max(0, Math.min(np, Number((at - base) / PAGE_SIZE)));
		yield* mutex_lock(self.lock);
		mmu_interval_set_seq(sub, seq);
		const words = self.map.pfn_list!;
		for (let i = clip(range.start); i < clip(range.end); i++) {
			self.oracle.unmapped += self.unmap(i, i + 1);
			words[i]! &= ~HMM_PFN_FLAGS();
		}
		yield* mutex_unlock(self.lock);
		return true;
	},
};

/** A booted kernel with the proposal, on one of its machines. */
export class ProposalOracle extends Oracle {
	readonly windows: readonly AliasWindow[];
	/** By number: two PCI functions, one that is none, the providers themselves. */
	readonly requesters: readonly device[];
	readonly maps = new Map<number, RequesterMap>();
	/** Pages that the maps' notifiers unmapped. */
	unmapped = 0;

	/**
	 * @param scenario - what is to be set up
	 * @param profile - the kernel
	 * @param options - of boot()
	 */
	constructor(scenario: Scenario, profile: ProfileName, options: BootOptions) {
		const machine = proposalMachine(scenario.mach as ProposalMachine);
		super(scenario, profile, options, machine);
		const of = (label: string) =>
			findPciDev(labelledFunction(machine, label).bdf) as pci_dev;
		this.windows = ['P0', 'P1'].map(
			(label, i) => new AliasWindow(dmirrorDevice(i)!, of(label)),
		);
		this.requesters = [
			of('R0').dev,
			of('R1').dev,
			new device({ init_name: 'soc0' }),
			of('P0').dev,
			of('P1').dev,
		];
		for (const dev of this.requesters) dma_set_mask(dev, DMA_BIT_MASK(64));
		knowAliases({
			nameOf: (p) => `A${this.windows.findIndex((one) => one.holds(p))}`,
			aliasOf: (p) => this.windowOf(p)?.aliasOf(p) ?? null,
		});
	}

	/** The window of a private page's device. */
	windowOf(p: page): AliasWindow | undefined {
		return this.windows[minorOf(dmirror_page_to_device(p))];
	}

	/** Make a map's notifier. */
	watch(made: RequesterMap): void {
		const length = BigInt(this.window.np) * PAGE_SIZE;
		run(
			mmu_interval_notifier_insert(
				made.sub,
				this.parent.mm!,
				this.window.base,
				length,
				mapOps,
			),
		);
	}

	/** Unmap all of a requester's map and free it. */
	freeMap(requester: number): void {
		const made = this.maps.get(requester);
		if (made === undefined) return;
		this.maps.delete(requester);
		run(mmu_interval_notifier_remove(made.sub));
		made.unmap(0, this.window.np);
		hmm_dma_map_free(made.dev, made.map);
	}

	override close(filesFirst: boolean = false): readonly Report[] {
		for (const requester of [...this.maps.keys()]) this.freeMap(requester);
		return super.close(filesFirst);
	}

	protected override removeDevices(): void {
		super.removeDevices();
		for (const window of this.windows) window.close();
	}
}
