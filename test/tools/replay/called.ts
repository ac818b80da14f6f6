// SPDX-License-Identifier: GPL-2.0-only
/** Runs `kproto replay` as a function, its two streams caught. */
import { main } from '../../../tools/replay/main.ts';

/** How a command ended. */
export interface Outcome {
	readonly code: number;
	readonly out: string;
	readonly err: string;
}

/**
 * Run the command.
 *
 * @param argv - what follows `kproto replay`
 */
export async function called(...argv: string[]): Promise<Outcome> {
	const kept = { out: '', err: '' };
	const { stdout, stderr } = process;
	const writes = [stdout.write, stderr.write] as const;
	const keep =
		(name: 'out' | 'err') =>
		(chunk: string | Uint8Array): boolean => {
			kept[name] +=
				typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
			return true;
		};
	stdout.write = keep('out');
	stderr.write = keep('err');
	try {
		const code = await main(argv);
		return { code, ...kept };
	} finally {
		[stdout.write, stderr.write] = writes;
	}
}
