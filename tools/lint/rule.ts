// SPDX-License-Identifier: GPL-2.0-only
/** What a rule of the house is, and what the rules share. */
import { ts } from 'ts-morph';

/** Something that a rule does not allow. */
export interface Problem {
	/** Where; a number is a line, from 1. */
	readonly at: ts.Node | number;
	readonly text: string;
}

/** A rule: one file in rules/. */
export interface Rule {
	readonly name: string;
	/** @param path - below the root; whether the rule holds there */
	appliesTo(path: string): boolean;
	/** @param file - a file where it holds @param checker - of the whole program */
	check(file: ts.SourceFile, checker: ts.TypeChecker): Iterable<Problem>;
}

/** Whether a file simulates, as opposed to what runs, shows or tests the simulation. */
export function isModel(path: string): boolean {
	return !/^(tools|test)\/|^[^/]+$/.test(path);
}

/**
 * All nodes of a file, outer ones first.
 *
 * @param root - where to begin
 */
export function* nodesOf(root: ts.Node): Generator<ts.Node> {
	const stack: ts.Node[] = [root];
	for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
		yield node;
		const children: ts.Node[] = [];
		ts.forEachChild(node, (child) => {
			children.push(child);
		});
		stack.push(...children.reverse());
	}
}

/**
 * Whether a statement is exported by a modifier of its own.
 *
 * @param node - the declaration
 */
export function isExported(node: ts.HasModifiers): boolean {
	return (ts.getModifiers(node) ?? []).some(
		({ kind }) => kind === ts.SyntaxKind.ExportKeyword,
	);
}
