// SPDX-License-Identifier: GPL-2.0-only
/**
 * snake_case is the kernel's: an exported name in it says where it is in the kernel, or that it is
 * proposed.
 */
import { ts } from 'ts-morph';
import { isExported, isModel, type Rule } from '../rule.ts';

const snakeCase = /^_*[a-z][a-z0-9]*(_[a-z0-9]+)+$/;
const provenance = new Set(['kernel', 'proposed']);

export const register: Rule = {
	name: 'register',
	appliesTo: (path) => isModel(path) && !path.startsWith('include/sim/'),
	*check(file) {
		for (const statement of file.statements) {
			if (
				!ts.isFunctionDeclaration(statement) &&
				!ts.isClassDeclaration(statement)
			)
				continue;
			const { name } = statement;
			if (
				name === undefined ||
				!isExported(statement) ||
				!snakeCase.test(name.text)
			)
				continue;
			// of overloads the first carries the comment
			if (ts.isFunctionDeclaration(statement) && isLaterOverload(statement, file))
				continue;
			const tags = ts.getJSDocTags(statement).map(({ tagName }) => tagName.text);
			if (!tags.some((tag) => provenance.has(tag)))
				yield {
					at: name,
					text: `${name.text} is spelled as the kernel's: @kernel or @proposed?`,
				};
		}
	},
};

function isLaterOverload(declaration: ts.FunctionDeclaration, file: ts.SourceFile): boolean {
	const before = file.statements[file.statements.indexOf(declaration) - 1];
	return (
		before !== undefined &&
		ts.isFunctionDeclaration(before) &&
		before.body === undefined &&
		before.name?.text === declaration.name?.text
	);
}
