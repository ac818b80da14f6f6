// SPDX-License-Identifier: GPL-2.0-only
/**
 * The annotated trace of one pair: each kernel call from the NIC's page fault to the completion.
 *
 * Tracing re-binds functions when their modules are loaded, so the pair runs once more in a program
 * of its own (traced.ts) that was started with the hook.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { DemoMachine } from './machines.ts';
import type { MachineResult, PairResult, Path } from './result.ts';
import type { TracedRun } from './traced.ts';

/** What to say of a call, the functions in the order of their first call. */
export const notes: Readonly<Record<string, string>> = {
	pagefaultMr: "NIC: no entry for this page, the driver's handler runs",
	pagefaultRealMr: '',
	ib_umem_odp_map_dma_and_lock: 'umem_odp: names its device in range.dma_dev',
	hmm_range_fault_unlocked_timeout: '',
	mmu_interval_read_begin: 'sequence before the walk',
	hmm_range_fault_locked: '',
	hmm_vma_handle_pte: 'a device-private entry, of another owner',
	hmm_private_dma_pfn: 'the proposal',
	devicePrivateDmaPfn: 'GPU driver: which P2P page has these bytes',
	pci_p2pdma_state: 'P2P layer: can this device reach it',
	pci_p2pdma_map_type: '',
	calc_map_type_and_dist: 'walks both chains of bridges',
	hmm_do_fault: 'no alias that can be reached: fault this page only',
	do_swap_page: '',
	migrateToRam: 'GPU driver: copies the page to system memory',
	migrate_vma_setup: '',
	migrate_vma_pages: '',
	migrate_vma_finalize: '',
	mmu_interval_read_retry: 'under umem_mutex: did anything change',
	hmm_dma_map_pfn: 'DMA API: the address for this device',
	dma_iova_link: 'through the IOMMU, as MMIO',
	dma_map_phys: 'no IOMMU: the physical address',
	writeTable: "into the NIC's translation table",
};

/** The pair that is traced: one that stays in place below a switch, if there is one. */
function pickPair(
	results: readonly MachineResult[],
): { machine: MachineResult; pair: PairResult } | null {
	const order: readonly Path[] = ['switch', 'switch, ACS redirect', 'host bridge', 'refused'];
	for (const path of order)
		for (const machine of results)
			for (const pair of machine.pairs)
				if (pair.path === path && (pair.kept > 0 || path === 'refused'))
					return { machine, pair };
	return null;
}

function runTraced(machine: DemoMachine, pair: PairResult): TracedRun | null {
	const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
	const child = spawnSync(
		process.execPath,
		['--import', 'tsx', '--import', path('../trace/register.js'), path('traced.ts')],
		{
			input: JSON.stringify({
				description: machine.description,
				gpu: pair.gpu,
				nic: pair.nic,
			}),
			encoding: 'utf8',
			maxBuffer: 1 << 24,
			cwd: path('../..'),
		},
	);
	if (child.status !== 0) {
		process.stderr.write(`kproto demo: the traced run failed\n${child.stderr}`);
		return null;
	}
	return JSON.parse(child.stdout) as TracedRun;
}

/** Column of the notes. */
const NOTE_AT = 66;

function renderRun({ calls, hops, status }: TracedRun): string[] {
	const lines = calls.map(({ depth, name, returned }) => {
		const call = `  ${'  '.repeat(depth)}${name}()${returned === null ? '' : ` = ${returned}`}`;
		const note = notes[name] ?? '';
		return note === '' ? call : `${call.padEnd(NOTE_AT)} ${note}`;
	});
	lines.push('', '  The NIC issues the read; hop by hop:');
	for (const { at, action, address, why } of hops)
		lines.push(
			`    ${at.padEnd(14)} ${action.padEnd(22)} ${address}${why === null ? '' : `  ${why}`}`,
		);
	lines.push(`  Completion: ${status}`);
	return lines;
}

/**
 * Trace one pair.
 *
 * @param machines - descriptions, in the order of the results
 * @param results - what was run
 */
export function renderTrace(
	machines: readonly DemoMachine[],
	results: readonly MachineResult[],
): string[] {
	const picked = pickPair(results);
	if (picked === null) return [];
	const { machine, pair } = picked;
	const demo = machines.find(({ description }) => description.name === machine.name)!;
	const traced = runTraced(demo, pair);
	if (traced === null) return [];
	return [
		`One page, call by call: GPU ${pair.gpu}, NIC ${pair.nic} of ${machine.name} (${pair.path}), RDMA READ of 4096 bytes`,
		'',
		...renderRun(traced),
	];
}
