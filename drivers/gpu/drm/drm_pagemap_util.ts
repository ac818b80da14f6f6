// SPDX-License-Identifier: GPL-2.0-only
/**
 * Owner groups: who may map whose device-private pages without asking.
 *
 * ```
 *   peers   | A  B | C  D  E | F |        one owner a group, members next to each other
 *                ^ a newcomer joins the first group all of whose members it is linked with
 * ```
 *
 * Guarantee: any two members of a group were linked when the later one joined. Nothing more: a link
 * that goes down later changes no group, a peer is in one group only, and links are taken to go both
 * ways.
 */
import {
	drm_pagemap_owner,
	type drm_pagemap_owner_list,
	type drm_pagemap_peer,
} from '../../../include/drm/drm_pagemap_util.ts';
import { ENOMEM } from '../../../include/linux/errno.ts';
import type { bool, int } from '../../../include/linux/types.ts';
import { shouldFail } from '../../../include/sim/fault_injection.ts';
import type { Sim } from '../../../include/sim/schedule.ts';
import { mutex_lock, mutex_unlock } from '../../../kernel/locking/mutex.ts';

/** Whether two peers reach each other's memory. */
export type HasInterconnect = (peer1: drm_pagemap_peer, peer2: drm_pagemap_peer) => bool;

/** Where the first fitting group ends in the list; null: there is none. */
function endOfGroup(
	peer: drm_pagemap_peer,
	{ peers }: drm_pagemap_owner_list,
	has_interconnect: HasInterconnect,
): number | null {
	let owner: drm_pagemap_owner | null = null;
	let interconnect = false;
	for (const [at, cur] of peers.entries()) {
		if (cur.owner !== owner) {
			if (owner !== null && interconnect) return at;
			owner = cur.owner;
			interconnect = true;
		}
		if (interconnect && !has_interconnect(peer, cur)) interconnect = false;
	}
	return interconnect ? peers.length : null;
}

/**
 * Join a group, or begin one.
 *
 * @param peer - who joins; `owner` is set
 * @param owner_list - the groups
 * @param has_interconnect - asked for the newcomer and each member of a group, in this order
 * @retval 0 joined
 * @retval -ENOMEM no memory for a new owner
 * @context May sleep.
 * @kernel drivers/gpu/drm/drm_pagemap_util.c
 * @since v6.19
 */
export function* drm_pagemap_acquire_owner(
	peer: drm_pagemap_peer,
	owner_list: drm_pagemap_owner_list,
	has_interconnect: HasInterconnect,
): Sim<int> {
	yield* mutex_lock(owner_list.lock);
	const at = endOfGroup(peer, owner_list, has_interconnect);
	let ret = 0;
	if (at !== null) {
		peer.owner = owner_list.peers[at - 1]!.owner as drm_pagemap_owner;
		peer.owner.kref++;
	} else if (shouldFail('drm_pagemap_acquire_owner')) {
		ret = -ENOMEM;
	} else {
		peer.owner = new drm_pagemap_owner();
	}
	if (ret === 0) {
		owner_list.peers.splice(at ?? owner_list.peers.length, 0, peer);
		peer.list = owner_list;
	}
	yield* mutex_unlock(owner_list.lock);
	return ret;
}

/**
 * Leave the group.
 *
 * @param peer - who leaves; nothing happens if it never joined
 * @context May sleep.
 * @kernel drivers/gpu/drm/drm_pagemap_util.c
 * @since v6.19
 */
export function* drm_pagemap_release_owner(peer: drm_pagemap_peer): Sim<void> {
	const { list } = peer;
	if (list === null) return;
	yield* mutex_lock(list.lock);
	list.peers.splice(list.peers.indexOf(peer), 1);
	if (peer.owner !== null) peer.owner.kref--;
	peer.owner = null;
	peer.list = null;
	yield* mutex_unlock(list.lock);
}
