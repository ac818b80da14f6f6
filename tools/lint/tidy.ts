// SPDX-License-Identifier: GPL-2.0-only
/** Holds a program against the rules. */
import { relative, sep } from 'node:path';
import { Project, type ts } from 'ts-morph';
import type { Problem, Rule } from './rule.ts';

/** A broken rule, placed. */
export interface Finding {
	readonly path: string;
	readonly line: number;
	readonly rule: string;
	readonly text: string;
}

/** What a run found. */
export interface Tidiness {
	readonly findings: readonly Finding[];
	readonly files: number;
	readonly lines: number;
}

/**
 * Look at every file of a program.
 *
 * @param project - the program
 * @param root - what paths are told relative to
 * @param rules - the rules
 */
export function tidy(project: Project, root: string, rules: readonly Rule[]): Tidiness {
	const checker = project.getTypeChecker().compilerObject;
	const findings: Finding[] = [];
	let files = 0;
	let lines = 0;
	for (const { compilerNode: file } of project.getSourceFiles()) {
		const path = relative(root, file.fileName).split(sep).join('/');
		if (
			file.isDeclarationFile ||
			path.startsWith('..') ||
			path.includes('node_modules/')
		)
			continue;
		files++;
		lines += file.getLineStarts().length;
		for (const rule of rules) {
			if (!rule.appliesTo(path)) continue;
			for (const problem of rule.check(file, checker))
				findings.push({
					path,
					rule: rule.name,
					text: problem.text,
					line: lineOf(problem, file),
				});
		}
	}
	return { findings, files, lines };
}

function lineOf({ at }: Problem, file: ts.SourceFile): number {
	if (typeof at === 'number') return at;
	return file.getLineAndCharacterOfPosition(at.getStart(file)).line + 1;
}

/**
 * The findings as checkpatch prints its own.
 *
 * @param tidiness - what a run found
 */
export function tidyReport({ findings, files, lines }: Tidiness): string[] {
	return [
		...findings.map(
			({ path, line, rule, text }) => `${path}:${line}: ERROR: ${text} [${rule}]`,
		),
		`total: ${findings.length} errors, 0 warnings, ${lines} lines checked in ${files} files`,
	];
}

/**
 * The program of a tree.
 *
 * @param root - where tsconfig.json is
 */
export function openProject(root: string): Project {
	return new Project({ tsConfigFilePath: `${root}/tsconfig.json` });
}
