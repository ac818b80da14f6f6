// SPDX-License-Identifier: GPL-2.0-only
/** Runs `kproto topo` as a function and catches what it writes. */
import { main } from '../../../tools/topo/main.ts';

/** What a run gave. */
export interface Outcome {
	readonly code: number;
	readonly out: string;
	readonly err: string;
}

function caught(stream: NodeJS.WriteStream): { text: () => string; release: () => void } {
	const { write } = stream;
	let text = '';
	stream.write = (chunk: string | Uint8Array): boolean => {
		text += String(chunk);
		return true;
	};
	return {
		text: () => text,
		release: () => {
			stream.write = write;
		},
	};
}

/** Run the command with arguments. */
export async function topo(...args: string[]): Promise<Outcome> {
	const out = caught(process.stdout);
	const err = caught(process.stderr);
	try {
		const code = await main(args);
		return { code, out: out.text(), err: err.text() };
	} finally {
		out.release();
		err.release();
	}
}
