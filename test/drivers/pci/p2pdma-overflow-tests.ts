// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the verbose query that writes behind its list of redirecting functions is found by the
 * model's own bounds check. Method: a chain of switches, ACS redirect on as many ports as asked for;
 * the kernels were recorded with 8 to 11.
 */

import type { DeviceDescription } from '../../../arch/sim/description.ts';
import { pci_p2pdma_distance } from '../../../drivers/pci/p2pdma/distance.ts';
import { pci_p2pdma_map_type } from '../../../drivers/pci/p2pdma/map_type.ts';
import { pci_p2pdma } from '../../../drivers/pci/p2pdma/objects.ts';
import { makeProvider } from '../../../drivers/pci/p2pdma/provider.ts';
import { findPciDev } from '../../../drivers/pci/search.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { world } from '../../../include/sim/world.ts';
import {
	EXPECT_EQ,
	EXPECT_TRUE,
	expectReport,
	FIXTURE,
	FIXTURE_VARIANT,
	FIXTURE_VARIANT_ADD,
	TEST_F,
} from '../../kselftest_harness.ts';
import { switchOn } from '../../support/switch_on.ts';
import { bootPci } from './machines.ts';

/** A root port and `depth` bridges in a row, the endpoint below the last: `depth + 2` functions. */
function chain(redirecting: number) {
	const devices: DeviceDescription[] = [];
	const depth = redirecting;
	for (let i = 0; i <= depth; i++)
		devices.push({
			bdf: `0000:${i.toString(16).padStart(2, '0')}:01.0`,
			vendor: 0x8086,
			device: 0x2030,
			class: i < depth ? 0x060400 : 0x020000,
			header: i < depth ? 1 : 0,
			pcieType: i === 0 ? 4 : i === depth ? 0 : i % 2 === 1 ? 5 : 6,
			parent:
				i === 0
					? null
					: `0000:${(i - 1).toString(16).padStart(2, '0')}:01.0`,
			secondary: i < depth ? i + 1 : undefined,
			subordinate: i < depth ? depth : undefined,
			acs: i < redirecting ? { cap: 0x7f, control: 0x04 } : null,
			bars:
				i < depth
					? []
					: [
							{
								bar: 0,
								phys: '0x80000000',
								bus: '0x80000000',
								size: '0x200000',
								prefetchable: false,
								is64: false,
							},
						],
		});
	return {
		name: 'chain',
		cpu: { vendor: 'intel' as const, family: 6, model: 0 },
		ram: [{ start: '0x0', size: '0x1000000' }],
		iommu: null,
		crossHostBridge: 'works' as const,
		hostBridges: [
			{ domain: 0, bus: 0, busOffset: '0x0', peerToPeer: 'works' as const },
		],
		devices,
	};
}

function ends(redirecting: number): [endpoint: pci_dev, rootPort: pci_dev] {
	const last = redirecting.toString(16).padStart(2, '0');
	return [findPciDev(`0000:${last}:01.0`)!, findPciDev('0000:00:01.0')!];
}

const overflow = FIXTURE(
	'acs_list',
	() => ({}),
	FIXTURE_VARIANT({ redirecting: 0, profile: 'v7.3' as ProfileName }),
);
for (const profile of ['v6.12', 'v7.3'] as const)
	for (const redirecting of [8, 9, 10, 11])
		FIXTURE_VARIANT_ADD(
			overflow,
			`${profile.replace('.', '_')}_with_${redirecting}_redirecting_functions`,
			{ redirecting, profile },
		);

TEST_F(overflow, 'S18_ten_redirecting_functions_overflow_the_list', (_self, v) => {
	bootPci(chain(v.redirecting), v.profile);
	const [provider, client] = ends(v.redirecting);
	EXPECT_EQ(v.redirecting, pci_p2pdma_distance(provider, client.dev, false));
	EXPECT_EQ(0, world().reports.length);
	if (v.redirecting >= 10)
		expectReport('BUG: KASAN: stack-out-of-bounds in calc_map_type_and_dist');
	EXPECT_EQ(v.redirecting, pci_p2pdma_distance(provider, client.dev, true));
	EXPECT_EQ(v.redirecting >= 10 ? 1 : 0, world().reports.length);
	const list = world().log.at(-1)?.split('disable_acs_redir=')[1] ?? '';
	// The text is cut at the end of the buffer: 127 characters.
	EXPECT_EQ(Math.min(13 * v.redirecting - 1, 127), list.length);
});

TEST_F(overflow, 'S18_cold_cache_reaches_it_too', (_self, v) => {
	bootPci(chain(v.redirecting), v.profile);
	const [provider, client] = ends(v.redirecting);
	provider.p2pdma = new pci_p2pdma();
	if (v.redirecting >= 10) expectReport(/KASAN: stack-out-of-bounds/);
	pci_p2pdma_map_type(makeProvider(provider, 0), client.dev);
	EXPECT_EQ(v.redirecting >= 10 ? 1 : 0, world().reports.length);
	provider.p2pdma = null;
});

TEST_F(overflow, 'fix_s18_list_keeps_to_its_buffer', (_self, v) => {
	bootPci(chain(v.redirecting), v.profile);
	EXPECT_TRUE(switchOn('fix_s18'));
	const [provider, client] = ends(v.redirecting);
	EXPECT_EQ(v.redirecting, pci_p2pdma_distance(provider, client.dev, true));
	EXPECT_EQ(0, world().reports.length);
	EXPECT_TRUE(world().log.some((line) => line.includes('disable_acs_redir=')));
});
