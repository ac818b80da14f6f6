// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the proposal is small and goes through no side channel. Method: the imports and the names in
 * the sources themselves, and a traced run.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { ASSERT_EQ, ASSERT_TRUE, EXPECT_EQ, EXPECT_STREQ, TEST } from '../kselftest_harness.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** TypeScript files below a folder, from the root. */
function filesOf(folder: string): string[] {
	return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
		.filter((name) => name.endsWith('.ts'))
		.map((name) => join(folder, name));
}

const source = (path: string): string => readFileSync(join(root, path), 'utf8');

/** Files that a file imports, types included. */
function importsOf(path: string): string[] {
	return [...source(path).matchAll(/from '(\.[^']+)'/g)].map(([, target]) =>
		relative(root, join(root, dirname(path), target!)),
	);
}

/** Everything that is loaded with a file. */
function closure(start: readonly string[]): Set<string> {
	const seen = new Set<string>();
	const todo = [...start];
	for (let path = todo.pop(); path !== undefined; path = todo.pop()) {
		if (seen.has(path)) continue;
		seen.add(path);
		todo.push(...importsOf(path));
	}
	return seen;
}

const model = ['include', 'arch', 'kernel', 'mm', 'drivers', 'lib', 'init'];

/** Files of the model whose code (comments left out) has a word. */
function filesWith(word: string): string[] {
	return model
		.flatMap(filesOf)
		.filter((path) =>
			source(path)
				.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
				.includes(word),
		)
		.sort();
}

TEST('F16_no_driver_is_loaded_with_another', () => {
	const nic = closure(filesOf('drivers/infiniband'));
	const gpu = closure(filesOf('drivers/gpu'));
	ASSERT_TRUE(nic.size > 20 && gpu.size > 20);
	EXPECT_STREQ([...nic].filter((path) => path.startsWith('drivers/gpu')).join(' '), '');
	EXPECT_STREQ(
		[...gpu].filter((path) => path.startsWith('drivers/infiniband')).join(' '),
		'',
	);
});

TEST('F16_the_core_knows_no_driver', () => {
	const core = closure(['mm', 'kernel', 'drivers/pci', 'drivers/iommu'].flatMap(filesOf));
	ASSERT_TRUE(core.size > 50);
	const drivers = [...core].filter((path) => /^drivers\/(gpu|infiniband)/.test(path));
	EXPECT_STREQ(drivers.join(' '), '');
});

TEST('F23_the_rest_exists_already', () => {
	EXPECT_STREQ(
		filesWith('p2p_op_dma_dev').join(' '),
		'drivers/gpu/refgpu/refgpu.ts drivers/infiniband/core/umem_odp.ts include/sim/feature.ts mm/hmm.ts',
	);
	EXPECT_STREQ(
		filesWith('device_private_dma_pfn')
			.filter((path) => !/^(drivers\/gpu|include\/sim)\//.test(path))
			.join(' '),
		'include/linux/memremap.ts mm/hmm.ts',
	);
});

/** The proposal's own words: the switch, the op, the field. */
const words = ['p2p_op_dma_dev', 'device_private_dma_pfn', 'dma_dev'];
/** Those of its second step: the switch, the op, the fields, what both ops are asked through. */
const providerWords = [
	'p2p_provider_only',
	'device_private_dma_phys',
	'hmm_providers',
	'provider_list',
];

/** Rows of a proposal's table of changes: `file name`, and the names that are new. */
function documentedChange(proposal: string): { changed: string[]; added: string[] } {
	const text = source(`Documentation/proposals/${proposal}.md`);
	const changed: string[] = [];
	const added: string[] = [];
	for (const [, path, name, what] of text.matchAll(
		/^\| `([^`]+)`, `(\w+)(?:\(\))?` \| (.*) \|$/gm,
	)) {
		changed.push(`${path} ${name}`);
		if (!what!.startsWith('new') || what!.startsWith('new member')) continue;
		added.push(name!);
		for (const [, helper] of what!.matchAll(/`(\w+)\(\)`/g)) {
			changed.push(`${path} ${helper}`);
			added.push(helper!);
		}
	}
	return { changed, added };
}

/** Top-level declarations of a file, with their names. */
function declarations(path: string): { name: string; code: string }[] {
	const file = ts.createSourceFile(path, source(path), ts.ScriptTarget.Latest, true);
	return file.statements.flatMap((statement) => {
		if (ts.isImportDeclaration(statement)) return [];
		const code = withoutComments(statement.getText());
		if (ts.isVariableStatement(statement))
			return statement.declarationList.declarations.map((one) => ({
				name: one.name.getText(),
				code,
			}));
		const { name } = statement as ts.DeclarationStatement;
		return [{ name: name?.getText() ?? '', code }];
	});
}

const withoutComments = (code: string): string => code.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');

const mentions = (code: string, names: readonly string[]): boolean =>
	names.some((name) => new RegExp(`\\b${name}\\b`).test(code));

const unique = (names: readonly string[]): string => [...new Set(names)].sort().join('\n');

TEST('F23_what_mentions_the_proposal_is_what_its_documentation_lists', () => {
	const steps = ['device-private-dma-pfn', 'device-private-dma-phys'].map(documentedChange);
	const changed = steps.flatMap((step) => step.changed);
	const added = steps.flatMap((step) => step.added);
	ASSERT_TRUE(added.includes('hmm_private_dma_pfn'));
	ASSERT_TRUE(added.includes('hmm_private_dma_phys'));
	const names = [...words, ...providerWords, ...added];
	const touched = model
		.flatMap(filesOf)
		// the exporting driver's row names no function, the switch is not the kernel's
		.filter((path) => !/^(drivers\/gpu|include\/sim)\//.test(path))
		.filter((path) => mentions(source(path), names))
		.flatMap((path) =>
			declarations(path)
				.filter(
					({ code }) =>
						mentions(code, names) ||
						// the member that keeps the P2P layer's answer
						(path === 'mm/hmm.ts' &&
							mentions(code, ['p2pdma'])),
				)
				.map(({ name }) => `${path} ${name}`),
		);
	EXPECT_STREQ(unique(touched), unique(changed));
});

TEST('F23_what_exists_already_neither_names_nor_branches_on_the_proposal', () => {
	const { added } = documentedChange('device-private-dma-pfn');
	const untouched = model
		.flatMap(filesOf)
		.filter((path) =>
			/^(kernel|drivers\/pci|drivers\/iommu|drivers\/infiniband\/hw|arch)\/|^mm\/(memory|migrate|hmm_dma|memremap|mmu_notifier)/.test(
				path,
			),
		);
	ASSERT_TRUE(untouched.length > 60);
	for (const path of untouched) {
		const code = withoutComments(source(path));
		EXPECT_STREQ(mentions(code, [...words, ...added]) ? path : '', '');
		// A branch that is not spelled out could be on anything; the whitelist's names are in its file.
		for (const [call, name] of code.matchAll(/\bfeature\(\s*([^)]*?),?\s*\)/g))
			EXPECT_STREQ(
				/^('\w+'|entry\.since)$/.test(name!) ? '' : `${path}: ${call}`,
				'',
			);
	}
});

/** What a traced run printed: each call from outside into a driver. */
function tracedCrossings(...args: string[]): string[] {
	const output = execFileSync(
		process.execPath,
		[
			'--import',
			'tsx',
			'--import',
			'./tools/trace/register.js',
			'test/init/fixtures/crossings.ts',
			...args,
		],
		{ cwd: root, encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
	);
	return JSON.parse(output) as string[];
}

/** All of the ways into a driver while the NIC is at work: pagemap ops, notifiers, nothing else. */
const CROSSINGS = [
	'mm/hmm.ts -> drivers/gpu devicePrivateDmaPfn',
	'mm/memory/swap_page.ts -> drivers/gpu migrateToRam',
	'mm/memremap/page.ts -> drivers/gpu freeFolio',
	'mm/mmu_notifier/invalidate.ts -> drivers/infiniband ib_umem_odp_unmap_dma_pages',
];

const fromDriver = (crossing: string): boolean => /^drivers\/(gpu|infiniband)/.test(crossing);

TEST('F16_a_run_crosses_into_a_driver_through_its_ops_only', () => {
	const found = tracedCrossings();
	EXPECT_STREQ(found.filter(fromDriver).join(', '), '');
	EXPECT_STREQ(found.join('\n'), CROSSINGS.join('\n'));
});

TEST('F16_a_look_into_the_other_driver_is_noticed', () => {
	EXPECT_STREQ(
		tracedCrossings('side-channel').filter(fromDriver)[0] ?? '',
		'drivers/infiniband/core/umem_odp.ts -> drivers/gpu vramOffset',
	);
});

TEST('F23_the_requester_only_names_its_device', () => {
	const odp = source('drivers/infiniband/core/umem_odp.ts');
	ASSERT_EQ([...odp.matchAll(/\bdma_dev\b/g)].length, 1);
	EXPECT_EQ([...odp.matchAll(/range\.dma_dev = dev\.dma_device;/g)].length, 1);
	for (const path of filesOf('drivers/infiniband/hw'))
		EXPECT_EQ([...source(path).matchAll(/\bdma_dev\b/g)].length, 0);
});
