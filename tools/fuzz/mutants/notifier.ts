// SPDX-License-Identifier: GPL-2.0-only
/** Mutants of mm/mmu_notifier.c, and of what mm/ tells the notifiers. */
import type { Mutant } from './mutant.ts';

/** Bugs of notifiers. */
export const notifierMutants: readonly Mutant[] = [
	{
		name: 'notifier-remove-race',
		bug: 'mm/mmu_notifier.c: fix race in mmu_interval_notifier_remove() (5.18, 319561669a59)',
		does: 'remove returns while its put-off removal is still on the list',
		edits: [
			{
				file: 'mm/mmu_notifier/interval.ts',
				old: 'yield* spin_lock(subscriptions.lock);\n\t\tyield* spin_unlock(subscriptions.lock);\n\t}',
				new: '}',
			},
		],
		unseen: 'interleaving: a removal during an invalidation',
	},
	{
		name: 'notifier-unpaired-end',
		bug: 'mm/mmu_notifiers: ensure range_end() is paired with range_start() (5.12)',
		does: 'who was called before a notifier that refused hears of no end',
		edits: [
			{
				file: 'mm/mmu_notifier/invalidate.ts',
				old: 'if (ret)\n\t\tfor (const subscription',
				new: 'if (false)\n\t\tfor (const subscription',
			},
		],
		unseen: 'no notifier that may refuse: only the OOM reaper asks',
	},
	{
		name: 'notifier-exclusive-event',
		bug: 'mm/mmu_notifier: use MMU_NOTIFY_CLEAR in remove_device_exclusive_entry() (6.15)',
		does: 'a CPU takes an exclusive page back by an EXCLUSIVE event without owner, which a driver takes for somebody becoming exclusive',
		edits: [
			{
				file: 'mm/memory/swap_page.ts',
				old: 'mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, ',
				new: 'mmu_notifier_range_init(range, MMU_NOTIFY_EXCLUSIVE, ',
			},
			{
				file: 'lib/test_hmm/exclusive.ts',
				old: 'make_device_exclusive(self.mm, addr, null, f)',
				new: 'make_device_exclusive(self.mm, addr, self.mdevice, f)',
			},
			{
				file: 'lib/test_hmm/mirror.ts',
				old: 'range.owner === self.mdevice) return true;',
				new: 'range.owner === self.mdevice) return true;\n\t\tif (range.event === MMU_NOTIFY_EXCLUSIVE && range.owner === null) return true;',
			},
			{
				file: 'lib/test_hmm/mirror.ts',
				old: '\tMMU_NOTIFY_MIGRATE,',
				new: '\tMMU_NOTIFY_EXCLUSIVE,\n\tMMU_NOTIFY_MIGRATE,',
			},
		],
	},
];
