// SPDX-License-Identifier: GPL-2.0-only
/** Groups of devices with a fast interconnect, which share the owner of their private pages. */
import { mutex } from '../linux/spinlock.ts';

/**
 * What the members of a group share: the `owner` of their pagemaps.
 *
 * @kernel drivers/gpu/drm/drm_pagemap_util.c
 */
export class drm_pagemap_owner {
	kref = 1;
}

/**
 * A device, or what stands for one.
 *
 * @kernel include/drm/drm_pagemap_util.h
 */
export class drm_pagemap_peer {
	list: drm_pagemap_owner_list | null = null;
	owner: drm_pagemap_owner | null = null;
	/** Whatever has_interconnect() looks at. */
	private_: unknown = null;

	/** @param init - designated initialiser */
	constructor(init: Partial<drm_pagemap_peer> = {}) {
		Object.assign(this, init);
	}
}

/**
 * Peers of all groups, members of a group next to each other.
 *
 * @kernel include/drm/drm_pagemap_util.h
 */
export class drm_pagemap_owner_list {
	lock = new mutex('&owner_list->lock');
	peers: drm_pagemap_peer[] = [];
}
