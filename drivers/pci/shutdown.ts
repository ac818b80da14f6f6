// SPDX-License-Identifier: GPL-2.0-only
/** What PCI code finds amiss when a world ends. */
import { fileReport } from '../../include/linux/bug.ts';
import { gen_pool_avail, gen_pool_size } from '../../kernel/genalloc.ts';
import { p2pdmaOf } from './p2pdma/objects.ts';
import { pciBus } from './search.ts';

/** Report drivers that are still bound, resources that nobody released, and P2P memory not freed. */
export function pciShutdownCheck(): void {
	for (const pdev of pciBus().devices) {
		const { dev } = pdev;
		const pool = p2pdmaOf(pdev)?.pool ?? null;
		if (pool !== null && gen_pool_avail(pool) !== gen_pool_size(pool)) {
			const lost = gen_pool_size(pool) - gen_pool_avail(pool);
			fileReport(
				'leak',
				`leak: ${lost} bytes of P2P memory of ${dev.init_name} in use`,
			);
		}
		if (dev.devres.length > 0) {
			const names = dev.devres.map(({ name }) => name).join(', ');
			fileReport(
				'leak',
				`leak: ${dev.init_name} keeps device resources: ${names}`,
			);
		}
	}
}
