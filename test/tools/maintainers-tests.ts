// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: whoever changes a file finds who looks after it. Method: every file of the tree against the
 * patterns of MAINTAINERS, read as the kernel's get_maintainer.pl reads them.
 *
 *     F: mm/        everything below        F: mm/hmm*   names that begin so, and what is below them
 *     X: mm/foo/    not this
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ASSERT_GT, EXPECT_EQ, EXPECT_STREQ, TEST } from '../kselftest_harness.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Files that belong to nobody in particular, as in the kernel. */
const REST = [
	/^[^/]*$/,
	/^include\/linux\/(bug|err|errno|fs|printk|random|seq_buf|types)\.ts$/,
	/^test\/tools\/|^test\/include\/|^test\/drivers\/[^/]*$/,
];

interface Section {
	name: string;
	files: RegExp[];
	excluded: RegExp[];
}

/** A pattern: `*` stays within a name, and a name stands for all below it too. */
function pattern(text: string): RegExp {
	const body = text.replace(/[.+^${}()|[\]\\?]/g, '\\$&').replaceAll('*', '[^/]*');
	return new RegExp(text.endsWith('/') ? `^${body}` : `^${body}(/|$)`);
}

function sections(): Section[] {
	const [, list] = readFileSync(`${root}MAINTAINERS`, 'utf8').split(/^-+\n+(?=ARCH)/m);
	return list!
		.trim()
		.split('\n\n')
		.map((block) => {
			const [name, ...lines] = block.split('\n');
			const of = (letter: string) =>
				lines
					.filter((l) => l.startsWith(`${letter}:`))
					.map((l) => pattern(l.slice(3)));
			return { name: name!, files: of('F'), excluded: of('X') };
		});
}

/** Files of the tree as git has them, new ones included. */
function tree(): string[] {
	const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
		cwd: root,
		encoding: 'utf8',
	});
	return listed.trim().split('\n');
}

const hits = (s: Section, path: string): boolean =>
	s.files.some((p) => p.test(path)) && !s.excluded.some((p) => p.test(path));

TEST('every_file_has_a_section_that_looks_after_it', () => {
	const owners = sections().filter(({ name }) => name !== 'THE REST');
	const files = tree();
	ASSERT_GT(files.length, 500);
	const left = files.filter(
		(path) => !owners.some((s) => hits(s, path)) && !REST.some((p) => p.test(path)),
	);
	EXPECT_STREQ('', left.join('\n'));
});

TEST('every_pattern_matches_a_file', () => {
	const files = tree();
	const text = readFileSync(`${root}MAINTAINERS`, 'utf8').split('\nARCH SIM')[1]!;
	const dead = [...text.matchAll(/^[FX]:\t(.+)$/gm)]
		.map(([, p]) => p!)
		.filter((p) => !p.startsWith('*') && !files.some((path) => pattern(p).test(path)));
	EXPECT_STREQ('', dead.join('\n'));
});

TEST('sections_are_in_order', () => {
	const names = sections().map(({ name }) => name);
	EXPECT_EQ('THE REST', names.at(-1));
	const listed = names.slice(0, -1);
	EXPECT_STREQ([...listed].sort().join('\n'), listed.join('\n'));
});
