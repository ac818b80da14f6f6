// SPDX-License-Identifier: GPL-2.0-only
/** A file begins with its licence, as checkpatch asks for. */
import type { Rule } from '../rule.ts';

const licence =
	/^\/\/ SPDX-License-Identifier: GPL-2\.0(-only|-or-later)?( WITH Linux-syscall-note)?$/;

export const spdx: Rule = {
	name: 'spdx',
	appliesTo: () => true,
	*check({ text }) {
		const [first = '', second = ''] = text.split('\n', 2);
		// the interpreter line of a command comes before
		if (!licence.test(first.startsWith('#!') ? second : first))
			yield {
				at: 1,
				text: 'Missing or malformed SPDX-License-Identifier tag in line 1',
			};
	},
};
