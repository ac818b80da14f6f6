// SPDX-License-Identifier: GPL-2.0-only
/** The @kernel tags of a file. */
import { ts } from 'ts-morph';
import { nodesOf } from '../rule.ts';

/** `@kernel FILE (REMARK; REMARK)`. */
export interface KernelTag {
	readonly at: ts.Node;
	/** What the comment is about, as the kernel calls it; empty: the whole file. */
	readonly names: readonly string[];
	/** Path in the kernel's tree; empty where the tag names none. */
	readonly file: string;
	/** The tag says that an older release has it: `(gone in 7.x)`, `(v6.12)`. */
	readonly isOfOld: boolean;
}

/**
 * All @kernel tags.
 *
 * @param file - the file
 */
export function* kernelTags(file: ts.SourceFile): Generator<KernelTag> {
	for (const node of nodesOf(file)) {
		if (ts.getJSDocCommentsAndTags(node).length === 0) continue;
		// that function leaves out the head of a file that stands before a declaration's own
		const comments = node.getChildren(file).filter(ts.isJSDoc);
		for (const comment of comments) {
			// of several the last is about the declaration, those before are about the file
			const names = comment === comments.at(-1) ? namesOfNode(node) : [];
			for (const tag of comment.tags ?? []) {
				if (tag.tagName.text !== 'kernel') continue;
				const text = ts.getTextOfJSDocComment(tag.comment)?.trim() ?? '';
				const [, path = '', list = ''] =
					/^(\S*)\s*(?:\(([^)]*)\))?/.exec(text) ?? [];
				const remarks = list.split(/\s*;\s*/);
				const as = remarks.flatMap(
					(one) => /^as (\w+)$/.exec(one)?.[1] ?? [],
				);
				yield {
					at: tag,
					names: as.length > 0 ? as : names,
					file: path,
					isOfOld: remarks.some((one) =>
						/^(v\d[\d.]*$|gone in )/.test(one),
					),
				};
			}
		}
	}
}

/** The names that a declaration of the outermost level gives. */
function namesOfNode(node: ts.Node): string[] {
	if (!ts.isSourceFile(node.parent)) return [];
	if (ts.isVariableStatement(node))
		return node.declarationList.declarations.map(({ name }) => name.getText());
	const isNamed =
		ts.isFunctionDeclaration(node) ||
		ts.isClassDeclaration(node) ||
		ts.isInterfaceDeclaration(node) ||
		ts.isTypeAliasDeclaration(node) ||
		ts.isEnumDeclaration(node);
	return isNamed && node.name !== undefined ? [node.name.text] : [];
}
