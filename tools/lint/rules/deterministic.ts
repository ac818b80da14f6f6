// SPDX-License-Identifier: GPL-2.0-only
/** The model is replayable: no event loop, no clock and no chance but its own. */
import { ts } from 'ts-morph';
import { isModel, nodesOf, type Problem, type Rule } from '../rule.ts';

/** Globals that would let in what a replay cannot repeat. */
const forbidden = new Map<string, string>([
	['Promise', 'a Promise needs an event loop'],
	['Date', 'the clock is world().clock'],
	['performance', 'the clock is world().clock'],
	['setTimeout', 'timers are the scheduler of the model'],
	['setInterval', 'timers are the scheduler of the model'],
	['setImmediate', 'timers are the scheduler of the model'],
	['queueMicrotask', 'timers are the scheduler of the model'],
	['process', 'the model knows nothing of the process that it runs in'],
	['crypto', 'chance comes from a seed'],
]);

export const deterministic: Rule = {
	name: 'deterministic',
	appliesTo: isModel,
	*check(file, checker) {
		for (const node of nodesOf(file)) {
			if (node.kind === ts.SyntaxKind.AsyncKeyword)
				yield { at: node, text: 'async: what may wait is a generator' };
			else if (
				ts.isAwaitExpression(node) ||
				(ts.isForOfStatement(node) && node.awaitModifier)
			)
				yield { at: node, text: 'await: what may wait is a generator' };
			else if (ts.isIdentifier(node)) yield* checkName(node, checker);
		}
	},
};

function* checkName(node: ts.Identifier, checker: ts.TypeChecker): Generator<Problem> {
	const { parent, text } = node;
	const isMember = ts.isPropertyAccessExpression(parent) && parent.name === node;
	if (isMember && text === 'random' && parent.expression.getText() === 'Math')
		yield { at: node, text: 'Math.random: chance comes from a seed' };
	const why = forbidden.get(text);
	if (isMember || why === undefined) return;
	// a name of the model's own, a field or a parameter, is another one
	const declarations = checker.getSymbolAtLocation(node)?.declarations ?? [];
	if (declarations.some((one) => one.getSourceFile().isDeclarationFile))
		yield { at: node, text: `${text}: ${why}` };
}
