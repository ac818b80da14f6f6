// SPDX-License-Identifier: GPL-2.0-only
/** How far a long run is: one line on standard error, on a terminal only. */
import { Presets, SingleBar } from 'cli-progress';

/**
 * A bar that takes itself away when it is done; without a terminal it shows nothing.
 *
 * Runs are synchronous, so no timer could draw it: each step does, at most ten times a second,
 * because a terminal is slower than a pair.
 */
export function progressBar(): SingleBar {
	return new SingleBar(
		{
			format: '[{bar}] {value}/{total} {machine}',
			barsize: 30,
			fps: 20,
			clearOnComplete: true,
			linewrap: false,
			stream: process.stderr,
		},
		Presets.legacy,
	);
}
