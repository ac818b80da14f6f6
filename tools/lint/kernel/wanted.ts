// SPDX-License-Identifier: GPL-2.0-only
/** What the index of kernel names has to know of: the tags of the tree. */
import { relative, sep } from 'node:path';
import type { Project } from 'ts-morph';
import { isModel } from '../rule.ts';
import type { Wanted } from './build.ts';
import { kernelTags } from './tag.ts';

/**
 * The names and files that @kernel tags speak of.
 *
 * @param project - the program
 * @param root - where it is
 */
export function wantedOf(project: Project, root: string): Wanted {
	const names = new Set<string>();
	const files = new Set<string>();
	for (const { compilerNode: source } of project.getSourceFiles()) {
		const path = relative(root, source.fileName).split(sep).join('/');
		if (source.isDeclarationFile || !isModel(path)) continue;
		for (const tag of kernelTags(source)) {
			for (const name of tag.names) names.add(name);
			if (tag.file !== '') files.add(tag.file);
		}
	}
	return { names, files };
}
