// SPDX-License-Identifier: GPL-2.0-only
/**
 * Two kinds of address have no sum and no difference.
 *
 * TypeScript sees two bigints. Where the sum is meant, as in the offset between a bus and a CPU
 * address, one of them is first made plain: `(addr as bigint)`.
 */
import { ts } from 'ts-morph';
import { nodesOf, type Rule } from '../rule.ts';

const operators = new Set([
	ts.SyntaxKind.PlusToken,
	ts.SyntaxKind.MinusToken,
	ts.SyntaxKind.PlusEqualsToken,
	ts.SyntaxKind.MinusEqualsToken,
]);

/** The tag of a flavoured type, as `dma_addr`; null where there is none. */
function flavourOf(node: ts.Expression, checker: ts.TypeChecker): string | null {
	const type = checker.getTypeAtLocation(node);
	const tag = checker.getPropertyOfType(type, '__flavour');
	if (tag === undefined) return null;
	const tagType = checker.getNonNullableType(checker.getTypeOfSymbolAtLocation(tag, node));
	return tagType.isStringLiteral() ? tagType.value : null;
}

export const flavour: Rule = {
	name: 'flavour',
	appliesTo: () => true,
	*check(file, checker) {
		for (const node of nodesOf(file)) {
			if (!ts.isBinaryExpression(node) || !operators.has(node.operatorToken.kind))
				continue;
			const left = flavourOf(node.left, checker);
			const right = left === null ? null : flavourOf(node.right, checker);
			if (left === null || right === null || left === right) continue;
			const operator = node.operatorToken.getText(file);
			yield {
				at: node,
				text: `${left} ${operator} ${right}: two kinds of address`,
			};
		}
	},
};
