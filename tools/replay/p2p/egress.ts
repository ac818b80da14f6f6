// SPDX-License-Identifier: GPL-2.0-only
/**
 * Replay of verdicts under egress control: the control bit redirects, the vector is never read.
 * Configuration reads are counted on their way to the functions whose capability the recorder gave
 * them: those of the others it did not see.
 */
import { pci_write_config_dword } from '../../../drivers/pci/access.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import { PCI_ACS_CTRL } from '../../../include/uapi/linux/pci_regs.ts';
import type { Comparison } from '../report.ts';
import type { Shaped } from '../shape.ts';
import type { egressShape } from './records.ts';
import type { Rig } from './rig.ts';
import { typeMatrix } from './verdicts.ts';

/** Double words of the vector that records write, and where they begin behind the control word. */
const VECTOR_DWORDS = 8;
const VECTOR = PCI_ACS_CTRL + 2;

/** Reads of ACS registers while something runs. */
class ConfigReads {
	control = 0;
	vector = 0;

	/**
	 * Count.
	 *
	 * @param devs - whose reads
	 * @param body - what reads
	 */
	during<T>(devs: readonly pci_dev[], body: () => T): T {
		const originals = devs.map(({ config }) => config.readConfig);
		for (const { config, acs_cap } of devs) {
			if (acs_cap === 0) continue;
			const read = config.readConfig.bind(config);
			config.readConfig = (where, size) => {
				const at = where - acs_cap;
				if (at === PCI_ACS_CTRL) this.control++;
				if (at >= VECTOR && at < VECTOR + 4 * VECTOR_DWORDS) this.vector++;
				return read(where, size);
			};
		}
		try {
			return body();
		} finally {
			for (const [i, { config }] of devs.entries())
				config.readConfig = originals[i]!;
		}
	}
}

/** Replay the matrix of a machine, once for every egress control vector. */
export function replayEgress(rig: Rig, r: Shaped<typeof egressShape>, found: Comparison): void {
	const { devs: records } = rig.topology(r.topology);
	const devs = rig.boot(`egress ${r.topology} ${JSON.stringify(r.acs)}`, {
		topology: r.topology,
		state: { ...r.state, acs: r.acs },
		acs_cap: records.map(() => r.cap),
	});
	const first = typeMatrix(devs);
	found.equal('type', r.type, first);
	for (const [
		i,
		{ vector, vector_reads, control_reads, type_equal },
	] of r.vectors.entries()) {
		for (const pdev of devs)
			for (let n = 0; n < VECTOR_DWORDS && pdev.acs_cap !== 0; n++)
				pci_write_config_dword(
					pdev,
					pdev.acs_cap + VECTOR + 4 * n,
					Number(vector),
				);
		const given = devs.filter((_, n) => !records[n]!.has_acs);
		const reads = new ConfigReads();
		const again = reads.during(given, () => typeMatrix(devs));
		found.equal(
			`vectors[${i}]`,
			{ type_equal: Boolean(type_equal), vector_reads, control_reads },
			{
				type_equal: JSON.stringify(again) === JSON.stringify(first),
				vector_reads: reads.vector,
				control_reads: reads.control,
			},
		);
	}
}
