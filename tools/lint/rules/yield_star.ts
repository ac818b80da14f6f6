// SPDX-License-Identifier: GPL-2.0-only
/**
 * A call of what may be scheduled stands under `yield*`.
 *
 * Without it nothing runs, and nothing says so: the generator is made and dropped. Handing one on, by a
 * return of a plain function or to something that declares that it takes one, is allowed.
 */
import { ts } from 'ts-morph';
import { nodesOf, type Rule } from '../rule.ts';

/** Whether a value of the type may be a simulated thread's code, `Sim<T>`. */
function isSim(type: ts.Type, checker: ts.TypeChecker): boolean {
	if (type.isUnion()) return type.types.some((one) => isSim(one, checker));
	if (type.getSymbol()?.name !== 'Generator') return false;
	const [point] = checker.getTypeArguments(type as ts.TypeReference);
	const parts = point?.isUnion() ? point.types : [point];
	return parts.some((part) => part?.getSymbol()?.name === 'SchedulePoint');
}

/** The expression that a call is the value of, for example the whole of `c ? call() : null`. */
function wholeExpression(call: ts.Node): ts.Node {
	let node = call;
	for (;;) {
		const { parent } = node;
		const passesOn =
			ts.isParenthesizedExpression(parent) ||
			ts.isAsExpression(parent) ||
			ts.isNonNullExpression(parent) ||
			ts.isSatisfiesExpression(parent) ||
			(ts.isConditionalExpression(parent) && parent.condition !== node) ||
			(ts.isBinaryExpression(parent) &&
				parent.right === node &&
				parent.operatorToken.kind === ts.SyntaxKind.QuestionQuestionToken);
		if (!passesOn) return node;
		node = parent;
	}
}

/** Whether somebody looks at each step: `[...call()]`, `for (const point of call())`, `call().next()`. */
function isDriven(whole: ts.Node): boolean {
	const { parent } = whole;
	if (ts.isSpreadElement(parent)) return true;
	if (ts.isForOfStatement(parent)) return parent.expression === whole;
	return ts.isPropertyAccessExpression(parent) && parent.name.text === 'next';
}

/** Whether a return is a generator's own: what it returns is never run. */
function isInGenerator(statement: ts.ReturnStatement): boolean {
	let node: ts.Node = statement;
	while (!ts.isFunctionLike(node)) node = node.parent;
	return 'asteriskToken' in node && node.asteriskToken !== undefined;
}

function isHandedOn(call: ts.CallExpression, checker: ts.TypeChecker): boolean {
	const whole = wholeExpression(call);
	const { parent } = whole;
	if (ts.isYieldExpression(parent)) return parent.asteriskToken !== undefined;
	if (ts.isReturnStatement(parent)) return !isInGenerator(parent);
	if (isDriven(whole)) return true;
	if (ts.isArrowFunction(parent) && parent.body === whole) {
		const expected = checker.getContextualType(parent);
		const results =
			expected?.getCallSignatures().map((one) => one.getReturnType()) ?? [];
		return results.length === 0 || results.some((one) => isSim(one, checker));
	}
	const expected = checker.getContextualType(whole as ts.Expression);
	return expected !== undefined && isSim(expected, checker);
}

export const yieldStar: Rule = {
	name: 'yield-star',
	appliesTo: () => true,
	*check(file, checker) {
		for (const node of nodesOf(file)) {
			if (
				!ts.isCallExpression(node) ||
				!isSim(checker.getTypeAtLocation(node), checker)
			)
				continue;
			if (isHandedOn(node, checker)) continue;
			const callee = node.expression.getText(file);
			yield {
				at: node,
				text: `${callee}() may be scheduled: call it with yield*`,
			};
		}
	},
};
