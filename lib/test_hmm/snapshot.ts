// SPDX-License-Identifier: GPL-2.0-only
/**
 * HMM_DMIRROR_SNAPSHOT: what the process has at each address, without a fault.
 *
 * Guarantee: the bytes of one part (32 pages, in v6.12 64) are true at one moment.
 *
 * @kernel lib/test_hmm.c
 */
import { EINVAL } from '../../include/linux/errno.ts';
import {
	HMM_PFN_ERROR,
	HMM_PFN_VALID,
	HMM_PFN_WRITE,
	hmm_pfn_to_map_order,
	hmm_pfn_to_page,
	hmm_range,
} from '../../include/linux/hmm.ts';
import {
	mmu_interval_notifier,
	type mmu_interval_notifier_ops,
} from '../../include/linux/mmu_notifier.ts';
import { page_to_pfn } from '../../include/linux/mmzone.ts';
import { is_device_coherent_page, is_device_private_page } from '../../include/linux/page-flags.ts';
import { HPAGE_PMD_ORDER, type int, PAGE_SIZE } from '../../include/linux/types.ts';
import type { Sim } from '../../include/sim/schedule.ts';
import { mutex_unlock } from '../../kernel/locking/mutex.ts';
import { mmget_not_zero, mmput } from '../../mm/exec_mm.ts';
import { is_zero_pfn } from '../../mm/memory.ts';
import {
	mmu_interval_notifier_insert,
	mmu_interval_notifier_remove,
	mmu_interval_set_seq,
} from '../../mm/mmu_notifier.ts';
import {
	HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL,
	HMM_DMIRROR_PROT_DEV_COHERENT_REMOTE,
	HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL,
	HMM_DMIRROR_PROT_DEV_PRIVATE_REMOTE,
	HMM_DMIRROR_PROT_ERROR,
	HMM_DMIRROR_PROT_NONE,
	HMM_DMIRROR_PROT_PMD,
	HMM_DMIRROR_PROT_PUD,
	HMM_DMIRROR_PROT_READ,
	HMM_DMIRROR_PROT_WRITE,
	HMM_DMIRROR_PROT_ZERO,
	type hmm_dmirror_cmd,
} from '../test_hmm_uapi.ts';
import { dmirror_page_to_device } from './device.ts';
import { copyToUser, type dmirror, faultAndLock, lockInNotifier, pagesAtOnce } from './mirror.ts';

const HPAGE_PUD_ORDER = 18;

/** Only the sequence number counts: any invalidation makes the whole part stale. */
const dmirror_mrn_ops: mmu_interval_notifier_ops = {
	*invalidate(sub, range, cur_seq) {
		const self = sub.container as dmirror;
		if (!(yield* lockInNotifier(self, range))) return false;
		mmu_interval_set_seq(sub, cur_seq);
		yield* mutex_unlock(self.mutex);
		return true;
	},
};

/** What kind of page a word names, as the snapshot tells it. */
function kindOf(self: dmirror, word: bigint): int {
	const p = hmm_pfn_to_page(word);
	if (is_device_private_page(p))
		return self.mdevice === dmirror_page_to_device(p)
			? HMM_DMIRROR_PROT_DEV_PRIVATE_LOCAL
			: HMM_DMIRROR_PROT_DEV_PRIVATE_REMOTE;
	if (is_device_coherent_page(p))
		return self.mdevice === dmirror_page_to_device(p)
			? HMM_DMIRROR_PROT_DEV_COHERENT_LOCAL
			: HMM_DMIRROR_PROT_DEV_COHERENT_REMOTE;
	return is_zero_pfn(page_to_pfn(p)) ? HMM_DMIRROR_PROT_ZERO : HMM_DMIRROR_PROT_NONE;
}

/** The byte of one page. */
function dmirror_mkentry(self: dmirror, word: bigint): int {
	if (word & HMM_PFN_ERROR) return HMM_DMIRROR_PROT_ERROR;
	if (!(word & HMM_PFN_VALID)) return HMM_DMIRROR_PROT_NONE;
	const access = word & HMM_PFN_WRITE ? HMM_DMIRROR_PROT_WRITE : HMM_DMIRROR_PROT_READ;
	const order = hmm_pfn_to_map_order(word);
	let size = 0;
	if (order === HPAGE_PMD_ORDER) size = HMM_DMIRROR_PROT_PMD;
	else if (order === HPAGE_PUD_ORDER) size = HMM_DMIRROR_PROT_PUD;
	return kindOf(self, word) | access | size;
}

function* dmirror_range_snapshot(self: dmirror, range: hmm_range, perm: Uint8Array): Sim<int> {
	const sub = new mmu_interval_notifier();
	sub.container = self;
	range.notifier = sub;
	const inserted = yield* mmu_interval_notifier_insert(
		sub,
		self.mm,
		range.start,
		range.end - range.start,
		dmirror_mrn_ops,
	);
	if (inserted) return inserted;
	const ret = yield* faultAndLock(self, range);
	if (ret === 0) {
		for (let i = 0; i < perm.length; i++)
			perm[i] = dmirror_mkentry(self, range.hmm_pfns[i]!);
		yield* mutex_unlock(self.mutex);
	}
	yield* mmu_interval_notifier_remove(sub);
	return ret;
}

/**
 * Take a snapshot.
 *
 * @param self - the mirror
 * @param cmd - range and buffer, a byte a page; out: pages
 * @returns 0 or an errno
 * @kernel lib/test_hmm.c
 */
export function* dmirror_snapshot(self: dmirror, cmd: hmm_dmirror_cmd): Sim<int> {
	const { mm } = self;
	if (!mmget_not_zero(mm)) return -EINVAL;
	const atOnce = pagesAtOnce() * PAGE_SIZE;
	const end = cmd.addr + cmd.npages * PAGE_SIZE;
	const range = new hmm_range({
		hmm_pfns: new BigUint64Array(Number(pagesAtOnce())),
		dev_private_owner: self.mdevice,
	});
	let ret = 0;
	for (let at = cmd.addr; at < end && ret === 0; at = range.end) {
		range.start = at;
		range.end = at + atOnce < end ? at + atOnce : end;
		const perm = new Uint8Array(Number((range.end - at) / PAGE_SIZE));
		ret = yield* dmirror_range_snapshot(self, range, perm);
		if (ret === 0) ret = copyToUser(cmd, perm, Number(cmd.cpages));
		if (ret === 0) cmd.cpages += BigInt(perm.length);
	}
	yield* mmput(mm);
	return ret;
}
