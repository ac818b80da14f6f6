// SPDX-License-Identifier: GPL-2.0-only
/** Steps of a scenario that watch, lock or poison memory: userfaultfd and mlock. */
import { PAGE_SIZE } from '../../../include/linux/types.ts';
import type { userfaultfd_ctx } from '../../../include/linux/userfaultfd_k.ts';
import { UFFDIO_COPY_MODE_WP } from '../../../include/uapi/linux/userfaultfd.ts';
import { run } from '../../../kernel/sched/core.ts';
import { userMlock, userMunlock } from '../../../mm/syscalls.ts';
import {
	userfaultfd_copy,
	userfaultfd_poison,
	userfaultfd_register,
	userfaultfd_rwprotect,
	userfaultfd_unregister,
	userfaultfd_writeprotect,
	userfaultfd_zeropage,
} from '../../../mm/userfaultfd.ts';
import { UffdMonitor, type UffdPolicy } from '../../../test/support/uffd_monitor.ts';
import { type Oracle, pageOf } from './oracle.ts';
import type { Handler } from './steps.ts';

/** What the monitor does, by the number that the step has. */
const policies: readonly UffdPolicy[] = ['nobody', 'copy', 'zeropage', 'poison'];

/** Value of a page that the monitor fills in: this, and the page's number in the window. */
const COPIED = 0xb000n;

const bytes = (pages: number): bigint => BigInt(pages) * PAGE_SIZE;

function contextOf(oracle: Oracle): userfaultfd_ctx {
	if (oracle.monitor === null) throw new Error('a step before the userfaultfd is opened');
	return oracle.monitor.ctx;
}

/** Handlers of the steps. */
export const watchSteps: Readonly<Record<string, Handler>> = {
	mlock: (o, t, [p = 0, n = 0]) => ({ rc: userMlock(t, o.address(p), bytes(n)) }),
	munlock: (o, t, [p = 0, n = 0]) => ({ rc: userMunlock(t, o.address(p), bytes(n)) }),
	uffd: (o, t, [policy = 0]) => {
		if (o.monitor !== null) throw new Error('the userfaultfd is open already');
		const value = (at: bigint): bigint => COPIED + (at - o.address(0)) / PAGE_SIZE;
		o.monitor = new UffdMonitor(t, policies[policy]!, value);
		return { rc: 0 };
	},
	ureg: (o, t, [p = 0, n = 0, mode = 0]) => ({
		rc: run(userfaultfd_register(contextOf(o), o.address(p), bytes(n), BigInt(mode)), {
			task: t,
		}),
	}),
	uunreg: (o, t, [p = 0, n = 0]) => ({
		rc: run(userfaultfd_unregister(contextOf(o), o.address(p), bytes(n)), { task: t }),
	}),
	uwp: (o, t, [p = 0, n = 0, on = 0]) => ({
		rc: run(userfaultfd_writeprotect(contextOf(o), o.address(p), bytes(n), on !== 0), {
			task: t,
		}),
	}),
	urwp: (o, t, [p = 0, n = 0, on = 0]) => ({
		rc: run(userfaultfd_rwprotect(contextOf(o), o.address(p), bytes(n), on !== 0), {
			task: t,
		}),
	}),
	ucopy: (o, t, [p = 0, value = 0, mode = 0]) => {
		const wp = (BigInt(mode) & UFFDIO_COPY_MODE_WP) !== 0n;
		const page = pageOf(BigInt(value));
		return {
			rc: run(userfaultfd_copy(contextOf(o), o.address(p), page, wp), {
				task: t,
			}),
		};
	},
	uzero: (o, t, [p = 0, n = 0]) => ({
		rc: run(userfaultfd_zeropage(contextOf(o), o.address(p), bytes(n)), { task: t }),
	}),
	upoison: (o, t, [p = 0, n = 0]) => ({
		rc: run(userfaultfd_poison(contextOf(o), o.address(p), bytes(n)), { task: t }),
	}),
};
