// SPDX-License-Identifier: GPL-2.0-only
/**
 * Which folder may import which, and that no import goes in a circle.
 *
 * Each row is a layer: a file in it may import files of its own layer and of what the row names.
 * Types may go in circles, as struct declarations do in C; what runs may not.
 */

const headers = ['include'];
const machine = [...headers, 'arch'];
const kernel = [...machine, 'kernel'];
const p2pdma = 'drivers/pci/p2pdma';
const mm = [...kernel, 'mm', p2pdma];
const base = [...kernel, 'drivers/base'];
const buses = [...mm, 'drivers/base', 'drivers/pci'];
const services = [...buses, 'drivers/iommu'];
const fabrics = ['drivers/fabric'];
const references = ['drivers/gpu', 'drivers/infiniband'];

/** @type {[layer: string, may: string[], why: string, except?: string][]} */
export const layers = [
	['include', headers, 'a header stands on headers only'],
	['arch', machine, 'the machine knows nothing of the kernel that runs on it'],
	['kernel', kernel, 'core code stands on headers and the machine', 'kernel/dma/'],
	[
		'kernel/dma',
		[...kernel, p2pdma, 'drivers/iommu'],
		'as upstream, dma/ sees p2pdma and dma-iommu',
	],
	['mm', mm, 'of the drivers mm/ sees p2pdma only, as upstream'],
	['drivers/base', base, 'the device core is under every bus'],
	['drivers/pci', buses, 'a bus knows no driver'],
	['drivers/iommu', services, 'a service knows no driver'],
	['drivers/fabric', [...services, ...fabrics], 'a fabric knows no driver of its devices'],
	...references.map((driver) => [
		driver,
		[...services, ...fabrics, driver],
		'drivers meet only through the kernel',
	]),
	['lib', [...mm, 'lib'], 'the test driver of HMM stands on mm/ alone'],
];

const model = '^(include|arch|kernel|mm|drivers|lib|init)/';

/** @param {string[]} folders */
function below(folders) {
	return `^(${[...new Set(folders)].join('|')})/`;
}

const layerRules = layers.map(([layer, may, comment, except]) => ({
	name: `layer-${layer.replaceAll('/', '-')}`,
	severity: 'error',
	comment,
	from: { path: `^${layer}/`, ...(except === undefined ? {} : { pathNot: `^${except}` }) },
	to: { path: `${model}|^(tools|test)/`, pathNot: below(may) },
}));

export default {
	forbidden: [
		...layerRules,
		{
			name: 'model-knows-no-tool',
			severity: 'error',
			comment: 'nothing that simulates knows who looks at it',
			from: { path: model },
			to: { path: '^(tools|test)/' },
		},
		{
			name: 'model-is-closed',
			severity: 'error',
			comment: 'the model is replayable: it uses nothing outside of it',
			from: { path: model },
			to: {
				dependencyTypes: [
					'npm',
					'npm-dev',
					'npm-peer',
					'npm-optional',
					'core',
				],
			},
		},
		{
			name: 'no-circle',
			severity: 'error',
			comment: 'an import that goes in a circle has no order in which it can be read',
			from: {},
			to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
		},
		{
			name: 'resolvable',
			severity: 'error',
			comment: 'an import names a file that is there',
			from: {},
			to: { couldNotResolve: true },
		},
	],
	options: {
		doNotFollow: { path: 'node_modules' },
		exclude: { path: '^test/tools/fixtures/' },
		tsPreCompilationDeps: true,
		tsConfig: { fileName: 'tsconfig.json' },
		enhancedResolveOptions: {
			extensions: ['.ts', '.js', '.mjs'],
			exportsFields: ['exports'],
			conditionNames: ['import', 'node', 'default', 'types'],
		},
	},
};
