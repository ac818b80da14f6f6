// SPDX-License-Identifier: GPL-2.0-only
/**
 * Who has mapped memory of a provider: a sanitizer, since nothing of the kernel knows.
 *
 * Guarantee: at the end of a provider every client is named that has entries of a mirror mapped to
 * it, or is attached to it. A P2P page would keep its pagemap alive; a provider without pages has
 * nothing that could wait for its users.
 */
import { fileReport, WARN_ON } from '../../../include/linux/bug.ts';
import { dev_name, type device } from '../../../include/linux/device.ts';
import type { p2pdma_provider } from '../../../include/linux/pci-p2pdma.ts';

/**
 * A client has mapped one more entry.
 *
 * @param provider - whose memory
 * @param dev - the client
 */
export function countMapping({ mapped }: p2pdma_provider, dev: device): void {
	mapped.set(dev, (mapped.get(dev) ?? 0) + 1);
}

/**
 * A client has unmapped an entry.
 *
 * @param provider - whose memory
 * @param dev - the client
 */
export function uncountMapping({ mapped }: p2pdma_provider, dev: device): void {
	const left = (mapped.get(dev) ?? 0) - 1;
	if (WARN_ON(left < 0, 'an entry of a provider is unmapped that was never mapped')) return;
	if (left === 0) mapped.delete(dev);
	else mapped.set(dev, left);
}

/**
 * Name everybody who would go on using addresses of memory that is nobody's.
 *
 * @param provider - it goes now
 */
export function reportUsers({ owner, users, mapped }: p2pdma_provider): void {
	for (const { dev } of users)
		fileReport(
			'leak',
			`provider of ${dev_name(owner)} goes while ${dev_name(dev)} holds addresses of it`,
		);
	for (const [dev, entries] of mapped)
		fileReport(
			'leak',
			`provider of ${dev_name(owner)} goes while ${dev_name(dev)} has ${entries} entries mapped to it`,
		);
}
