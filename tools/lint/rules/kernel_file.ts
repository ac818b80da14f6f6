// SPDX-License-Identifier: GPL-2.0-only
/**
 * `@kernel FILE` is true: that file of the kernel has the name that the comment is about.
 *
 * A tag speaks of the newest release. What an older one alone has, or has elsewhere, says so:
 * `(gone in 7.x)`, `(v6.12)`; what is spelled otherwise there, `(as NAME)`.
 */
import type { NameIndex, Places } from '../kernel/name_index.ts';
import { type KernelTag, kernelTags } from '../kernel/tag.ts';
import { isModel, type Rule } from '../rule.ts';

/** How the index is made anew. */
const remedy = 'not in the index of kernel names: `kproto lint --kernel DIR` looks it up';

/**
 * The rule.
 *
 * @param index - which names are where
 */
export function kernelFile(index: NameIndex): Rule {
	return {
		name: 'kernel-file',
		appliesTo: isModel,
		*check(file) {
			for (const tag of kernelTags(file)) {
				const subjects = tag.names.length > 0 ? tag.names : [tag.file];
				for (const subject of subjects) {
					const text = wrongTag(subject, tag, index);
					if (text !== null) yield { at: tag.at, text };
				}
			}
		},
	};
}

/** What is wrong with a tag; null: nothing. */
function wrongTag(
	subject: string,
	{ file, isOfOld }: KernelTag,
	{ releases, places }: NameIndex,
): string | null {
	if (file === '') return '@kernel: which file?';
	const where = places.get(subject);
	if (where === undefined) return `${subject}: ${remedy}`;
	const newest = where.at(-1) ?? [];
	const release = releases.at(-1);
	if (where.every((files) => files.length === 0))
		return `${subject} is in neither of ${releases.join(', ')}`;
	if (newest.includes(file))
		return isOfOld ? `${subject}: ${release} still has it in ${file}` : null;
	const isInOlder = where.some((files) => files.includes(file));
	if (isInOlder && isOfOld) return null;
	if (isInOlder && newest.length === 0)
		return `${subject} is gone in ${release}: "@kernel ${file} (gone in …)"`;
	return `${subject} is not in ${file}, but in ${told(where, releases)}`;
}

/** `mm/vma.c (v7.3), mm/mmap.c (v6.12)`: the newest first. */
function told(where: Places, releases: readonly string[]): string {
	const newestFirst = releases.map((release, i) => ({ release, files: where[i] ?? [] }));
	return newestFirst
		.reverse()
		.flatMap(({ release, files }) => files.map((file) => `${file} (${release})`))
		.join(', ');
}
