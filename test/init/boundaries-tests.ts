// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the proposal is small and goes through no side channel. Method: the imports and the names in
 * the sources themselves.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
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

const model = ['include', 'arch', 'kernel', 'mm', 'drivers', 'init'];

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

TEST('F23_the_requester_only_names_its_device', () => {
	const odp = source('drivers/infiniband/core/umem_odp.ts');
	ASSERT_EQ([...odp.matchAll(/\bdma_dev\b/g)].length, 1);
	EXPECT_EQ([...odp.matchAll(/range\.dma_dev = dev\.dma_device;/g)].length, 1);
	for (const path of filesOf('drivers/infiniband/hw'))
		EXPECT_EQ([...source(path).matchAll(/\bdma_dev\b/g)].length, 0);
});
