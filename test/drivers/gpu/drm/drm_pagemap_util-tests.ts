// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: owner groups are formed as drm_pagemap forms them, and what they cannot say is seen. Method:
 * peers with drawn links join in every order; groups are compared with the links.
 */

import {
	drm_pagemap_acquire_owner,
	drm_pagemap_release_owner,
	type HasInterconnect,
} from '../../../../drivers/gpu/drm/drm_pagemap_util.ts';
import {
	drm_pagemap_owner_list,
	drm_pagemap_peer,
} from '../../../../include/drm/drm_pagemap_util.ts';
import { ENOMEM } from '../../../../include/linux/errno.ts';
import { injectFaults } from '../../../../include/sim/fault_injection.ts';
import { boot } from '../../../../init/main.ts';
import { run } from '../../../../kernel/sched/core.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_NULL,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	TEST_F,
} from '../../../kselftest_harness.ts';
import { standardMachine } from '../../pci/machines.ts';

const groups = FIXTURE('owner_groups', () => ({ list: null as unknown as drm_pagemap_owner_list }));
FIXTURE_SETUP(groups, (self) => {
	boot(standardMachine());
	self.list = new drm_pagemap_owner_list();
});

type Self = { list: drm_pagemap_owner_list };

/** Links by pairs of names, `AB` for both ways. */
function linkedBy(links: readonly string[]): HasInterconnect {
	return (a, b) =>
		links.includes(`${a.private_}${b.private_}`) ||
		links.includes(`${b.private_}${a.private_}`);
}

/** Peers that join in the order of their names, linked as linkedBy() says. */
function join({ list }: Self, names: string, links: string[]): Map<string, drm_pagemap_peer> {
	const linked = linkedBy(links);
	const peers = new Map<string, drm_pagemap_peer>();
	for (const name of names) {
		const peer = new drm_pagemap_peer({ private_: name });
		ASSERT_EQ(
			0,
			run(() => drm_pagemap_acquire_owner(peer, list, linked)),
		);
		peers.set(name, peer);
	}
	return peers;
}

/** The groups of a list: `AB C`. */
function shown({ list }: Self): string {
	let text = '';
	for (const [i, peer] of list.peers.entries()) {
		if (i > 0 && peer.owner !== list.peers[i - 1]!.owner) text += ' ';
		text += peer.private_;
	}
	return text;
}

const orders = ['ABC', 'ACB', 'BAC', 'BCA', 'CAB', 'CBA'];

TEST_F(groups, 'F2_all_linked_is_one_group', (self) => {
	for (const order of orders) {
		self.list = new drm_pagemap_owner_list();
		join(self, order, ['AB', 'BC', 'AC']);
		EXPECT_STREQ(order, shown(self));
		EXPECT_EQ(3, self.list.peers[0]!.owner!.kref);
	}
});

TEST_F(groups, 'F14_chain_of_two_links_is_no_group_and_one_link_is_lost', (self) => {
	const seen = new Set<string>();
	for (const order of orders) {
		self.list = new drm_pagemap_owner_list();
		const peers = join(self, order, ['AB', 'BC']);
		const share = (a: string, b: string) => peers.get(a)!.owner === peers.get(b)!.owner;
		// What must not be: A and C have no link.
		EXPECT_FALSE(share('A', 'C'));
		// B has two links and shares with one of the two: which one, the order decides.
		EXPECT_TRUE(share('A', 'B') !== share('B', 'C'));
		seen.add(share('A', 'B') ? 'AB' : 'BC');
	}
	EXPECT_EQ(2, seen.size);
});

TEST_F(groups, 'first_fitting_group_is_joined', (self) => {
	join(self, 'ABCD', ['AB', 'CD', 'AD', 'BD']);
	EXPECT_STREQ('ABD C', shown(self));
});

TEST_F(groups, 'F14_link_that_goes_down_changes_no_group', (self) => {
	const links = ['AC', 'BC', 'AB'];
	const peers = join(self, 'AB', links);
	EXPECT_STREQ('AB', shown(self));
	links.pop();
	// C asks about its own links only: A and B share with it, and still with each other
	join(self, 'C', links);
	EXPECT_STREQ('ABC', shown(self));
	// who leaves and comes back is asked anew
	const a = peers.get('A')!;
	run(() => drm_pagemap_release_owner(a));
	ASSERT_EQ(
		0,
		run(() => drm_pagemap_acquire_owner(a, self.list, linkedBy(links))),
	);
	EXPECT_STREQ('BC A', shown(self));
});

TEST_F(groups, 'F14_one_way_link_is_taken_as_the_newcomer_asks', () => {
	const oneWay = (a: drm_pagemap_peer, b: drm_pagemap_peer): boolean =>
		a.private_ === 'A' && b.private_ === 'B';
	const pair = (first: string, second: string): boolean => {
		const one = new drm_pagemap_peer({ private_: first });
		const other = new drm_pagemap_peer({ private_: second });
		const own = new drm_pagemap_owner_list();
		run(() => drm_pagemap_acquire_owner(one, own, oneWay));
		run(() => drm_pagemap_acquire_owner(other, own, oneWay));
		return one.owner === other.owner;
	};
	// The same link, and it is the order that decides whether both may use it or neither.
	EXPECT_TRUE(pair('B', 'A'));
	EXPECT_FALSE(pair('A', 'B'));
});

TEST_F(groups, 'who_leaves_or_fails_to_join_has_no_owner', (self) => {
	const peers = join(self, 'AB', ['AB']);
	const a = peers.get('A')!;
	run(() => drm_pagemap_release_owner(a));
	EXPECT_NULL(a.owner);
	EXPECT_STREQ('B', shown(self));
	run(() => drm_pagemap_release_owner(a));
	EXPECT_EQ(1, peers.get('B')!.owner!.kref);
	injectFaults().fail('drm_pagemap_acquire_owner');
	EXPECT_EQ(
		-ENOMEM,
		run(() => drm_pagemap_acquire_owner(a, self.list, () => false)),
	);
	EXPECT_NULL(a.owner);
	// To join an old group takes no memory.
	EXPECT_EQ(
		0,
		run(() => drm_pagemap_acquire_owner(a, self.list, () => true)),
	);
	EXPECT_STREQ('BA', shown(self));
});
