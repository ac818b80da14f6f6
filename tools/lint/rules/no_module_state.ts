// SPDX-License-Identifier: GPL-2.0-only
/**
 * No module keeps state: all that can change hangs from the world, where a checkpoint finds it.
 *
 * Fields are plain for the same reason: a checkpoint cannot read `#private` ones.
 */
import { ts } from 'ts-morph';
import { isModel, nodesOf, type Problem, type Rule } from '../rule.ts';

/** Objects that never change. */
const stateless = new Set(['RegExp', 'TextEncoder', 'TextDecoder', 'Error']);

export const noModuleState: Rule = {
	name: 'no-module-state',
	// the one module that holds the installed world itself
	appliesTo: (path) => isModel(path) && path !== 'include/sim/world.ts',
	*check(file) {
		for (const statement of file.statements)
			if (ts.isVariableStatement(statement)) yield* checkVariables(statement);
		for (const node of nodesOf(file)) {
			if (ts.isPrivateIdentifier(node) && ts.isPropertyDeclaration(node.parent))
				yield {
					at: node,
					text: `${node.text}: a checkpoint cannot read private fields`,
				};
			if (ts.isPropertyDeclaration(node) && isChangeableStatic(node))
				yield {
					at: node,
					text: `static ${node.name.getText(file)}: keep it in the world`,
				};
		}
	},
};

function* checkVariables({ declarationList }: ts.VariableStatement): Generator<Problem> {
	const isConst = (declarationList.flags & ts.NodeFlags.Const) !== 0;
	for (const declaration of declarationList.declarations) {
		const name = declaration.name.getText();
		if (!isConst)
			yield {
				at: declaration,
				text: `${name}: keep it in the world, by perWorld()`,
			};
		else if (isChangeable(declaration))
			yield {
				at: declaration,
				text: `${name} can change: keep it in the world, or declare it Readonly`,
			};
	}
}

/** Whether a constant holds an object that is made to be changed and not declared as read-only. */
function isChangeable({ initializer, type }: ts.VariableDeclaration): boolean {
	if (initializer === undefined || /^readonly\b|^Readonly/.test(type?.getText() ?? ''))
		return false;
	if (ts.isNewExpression(initializer))
		return !stateless.has(initializer.expression.getText());
	if (ts.isArrayLiteralExpression(initializer)) return initializer.elements.length === 0;
	return ts.isObjectLiteralExpression(initializer) && initializer.properties.length === 0;
}

function isChangeableStatic(node: ts.PropertyDeclaration): boolean {
	const kinds = (node.modifiers ?? []).map(({ kind }) => kind);
	return (
		kinds.includes(ts.SyntaxKind.StaticKeyword) &&
		!kinds.includes(ts.SyntaxKind.ReadonlyKeyword)
	);
}
