// SPDX-License-Identifier: GPL-2.0-only
/**
 * The machine that a record was made on.
 *
 * It has the record's device tree with its BARs, and ACS capabilities where the record has them.
 * Their control words take every bit: the recorder's own config spaces do, and what a real port
 * does not take is in no record.
 */
import {
	type CpuModel,
	formatHex,
	type MachineDescription,
	type PcieType,
} from '../../../arch/sim/description.ts';
import type { CpuVendor, DeviceRecord, DomainType, TopologyRecord } from './records.ts';

/** What a machine depends on beside its device tree. */
export interface MachineSetting {
	readonly cpu_vendor: CpuVendor;
	readonly cpu_family: number;
	/** ACS control words by device; null: no capability. */
	readonly acs: readonly (number | null)[];
	/** ACS capability words; null: no capability. */
	readonly acs_cap: readonly (number | null)[];
	readonly ids: readonly (readonly number[])[];
	/** MiB of RAM; 0: less than 2 GiB. */
	readonly memory: number;
	/** ACS control words take the bits of their capability only. */
	readonly strictAcs?: boolean;
}

const cpuVendors: Readonly<Record<CpuVendor, CpuModel['vendor']>> = {
	0: 'intel',
	2: 'amd',
	5: 'centaur',
	9: 'hygon',
	10: 'zhaoxin',
};

/** RAM below 4 GiB ends here, on the recorder's virtual machines as well. */
const LOW_END = 0x8000_0000n;
const MIB = 0x10_0000n;
const ACS_BITS = 0x7f;

/** How an IOMMU's domains are flushed, by the type that the record's devices have. */
const domainTypes: Readonly<Record<DomainType, 'dma' | 'dma-fq' | 'identity'>> = {
	3: 'dma',
	11: 'dma-fq',
	4: 'identity',
};

/** RAM that no BAR overlaps. */
function ramOf(t: TopologyRecord, memory: number): MachineDescription['ram'] {
	let end = LOW_END;
	for (const { bars } of t.devs)
		for (const { mem, phys } of bars)
			if (mem && BigInt(phys) < end) end = BigInt(phys) & ~(MIB - 1n);
	const ram = [{ start: '0x0', size: formatHex(end) }];
	const above = BigInt(memory) * MIB - LOW_END;
	if (above > 0n) ram.push({ start: '0x100000000', size: formatHex(above) });
	return ram;
}

/** The IOMMU that the recorded kernel used. */
function iommuOf(t: TopologyRecord): MachineDescription['iommu'] {
	const kind = t.iommu ?? null;
	if (kind === null) return null;
	const type = t.devs.map((d) => d.iommu_domain_type ?? null).find((d) => d !== null) ?? 3;
	return { kind, domains: domainTypes[type] };
}

/**
 * Describe the machine.
 *
 * @param t - device tree
 * @param s - setting
 */
export function describeMachine(t: TopologyRecord, s: MachineSetting): MachineDescription {
	const hosts = [...new Set(t.devs.map(({ host }) => host))];
	// On a root bus the order counts, and it is not always that of the addresses.
	const order = [...t.devs].sort((a, b) =>
		a.root_bus_pos >= 0 && b.root_bus_pos >= 0 ? a.root_bus_pos - b.root_bus_pos : 0,
	);
	return {
		name: t.topology,
		cpu: {
			vendor: cpuVendors[s.cpu_vendor],
			family: s.cpu_family,
			model: 0,
		},
		ram: ramOf(t, s.memory),
		iommu: iommuOf(t),
		crossHostBridge: 'works',
		hostBridges: hosts.map((host) => ({
			domain: Number.parseInt(host, 16),
			bus: Number.parseInt(host.slice(host.indexOf(':') + 1), 16),
			busOffset: t.host_bus_offset?.[host] ?? '0x0',
			peerToPeer: 'works',
		})),
		devices: order.map((d) => describeDevice(d, s)),
	};
}

function describeDevice(d: DeviceRecord, s: MachineSetting): MachineDescription['devices'][number] {
	const [vendor = d.vendor, device = d.device] = s.ids[d.i] ?? [];
	const control = s.acs[d.i] ?? null;
	const cap = s.acs_cap[d.i] ?? ACS_BITS;
	return {
		bdf: d.bdf,
		vendor,
		device,
		class: d.class,
		header: d.hdr === 0 ? 0 : 1,
		multifunction: Boolean(d.multifunction),
		pcieType: d.pcie_type as PcieType,
		parent: d.parent,
		...(d.secondary < 0 ? {} : { secondary: d.secondary, subordinate: 0xff }),
		...(d.physfn === null ? {} : { physfn: d.physfn }),
		acs:
			control === null
				? null
				: { cap, control, writable: s.strictAcs ? cap : ACS_BITS },
		bars: d.bars.map(({ bar, phys, bus, len, mem, pref, m64 }) => ({
			bar,
			phys,
			bus,
			size: len,
			prefetchable: Boolean(pref),
			is64: Boolean(m64),
			io: !mem,
		})),
	};
}
