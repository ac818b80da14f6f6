// SPDX-License-Identifier: GPL-2.0-only
/**
 * What lspci does not tell about a platform: its CPU, and whether its root complex passes peer requests on.
 *
 * These are facts about hardware as far as they are known, kept apart from the kernel's list on purpose: the
 * model of the kernel decides by its own, and the fabric shows where the two differ. A host bridge that is
 * not known to pass peer requests aborts them.
 */
import type { CpuModel, Passage } from '../../arch/sim/description.ts';
import { UserError } from '../kproto/user_error.ts';

const cpuVendors = ['intel', 'amd', 'hygon', 'zhaoxin', 'centaur', 'other'] as const;

/**
 * Read a CPU as given on a command line: `vendor:family` or `vendor:family:model`, numbers in any base.
 * `other` is what has no x86 vendor of these, an Arm CPU for example; it needs no family.
 *
 * @returns null if the text is not of that form
 */
export function parseCpu(text: string): CpuModel | null {
	const [vendor = '', family = '', model = '0', ...rest] = text.toLowerCase().split(':');
	const known = cpuVendors.find((name) => name === vendor);
	if (known === 'other' && family === '') return { vendor: known, family: 0, model: 0 };
	const [f, m] = [Number(family), Number(model)];
	const whole =
		family !== '' &&
		Number.isInteger(f) &&
		Number.isInteger(m) &&
		f >= 0 &&
		m >= 0 &&
		f <= MOST &&
		m <= MOST;
	if (known === undefined || !whole || rest.length > 0) return null;
	return { vendor: known, family: f, model: m };
}

/** What CPUID's fields for family and model can add up to, generously. */
const MOST = 0xffff;

/** Host bridges of AMD before Zen, and of ATI: K8, families 10h to 16h. */
const amdBeforeZen: readonly number[] = [
	0x1100, 0x1200, 0x1300, 0x1410, 0x1422, 0x1510, 0x1536, 0x1566, 0x1576, 0x1705,
];
const VENDOR_AMD = 0x1022;
const VENDOR_ATI = 0x1002;
const VENDOR_INTEL = 0x8086;
const VENDOR_HYGON = 0x1d94;
const CLASS_HOST_BRIDGE = 0x0600;

/** Host bridges of Intel's that emulators show whatever the CPU is: 440FX, Q35. */
const emulatedIntel: readonly number[] = [0x1237, 0x29c0];
const VENDOR_REDHAT = 0x1b36;
/** Makers of root ports beside Arm cores: NVIDIA, Ampere, Cavium and Marvell, HiSilicon, Arm, Qualcomm. */
const armMakers: readonly number[] = [0x10de, 0x1def, 0x177d, 0x19e5, 0x13b5, 0x17cb];
const ROOT_PORT = 4;

/** What guessCpu() looks at. */
interface Shown {
	vendor: number;
	device: number;
	class: number;
	pcieType: number | null;
}

function isEmulated({ vendor, device }: Shown): boolean {
	return (
		vendor === VENDOR_REDHAT ||
		(vendor === VENDOR_INTEL && emulatedIntel.includes(device))
	);
}

/**
 * The CPU that the host bridges of a machine suggest, where the source does not tell it.
 *
 * @param functions - of the machine
 * @returns a CPU marked unknown where they suggest none: an emulated chipset stands beside any CPU
 */
export function guessCpu(functions: readonly Shown[]): CpuModel {
	// Some sources leave host bridges out: then any bridge will do.
	const named = functions.filter((fn) => fn.class >> 8 === CLASS_HOST_BRIDGE);
	const all = named.length > 0 ? named : functions.filter((fn) => fn.class >> 16 === 0x06);
	const hosts = all.filter((fn) => !isEmulated(fn));
	const has = (vendor: number) => hosts.filter((fn) => fn.vendor === vendor);
	if (has(VENDOR_HYGON).length > 0) return { vendor: 'hygon', family: 0x18, model: 0 };
	const amd = has(VENDOR_AMD);
	const old = amd.some((fn) => amdBeforeZen.includes(fn.device));
	if (old || (amd.length === 0 && has(VENDOR_ATI).length > 0))
		return { vendor: 'amd', family: 0x15, model: 0 };
	if (amd.length > 0) return { vendor: 'amd', family: 0x17, model: 0 };
	if (has(VENDOR_INTEL).length > 0) return { vendor: 'intel', family: 6, model: 0 };
	if (functions.some((fn) => fn.pcieType === ROOT_PORT && armMakers.includes(fn.vendor)))
		return { vendor: 'other', family: 0, model: 0 };
	const intel = all.some((fn) => fn.vendor === VENDOR_INTEL);
	return {
		vendor: intel ? 'intel' : 'other',
		family: intel ? 6 : 0,
		model: 0,
		unknown: true,
	};
}

/** Intel root complexes that pass peer requests on within one host bridge only. */
const intelWithinOne: readonly number[] = [0x3c00, 0x3c01, 0x2f00, 0x2f01];

/** Intel root complexes that pass peer requests on, to other host bridges too. */
const intelAll: readonly number[] = [
	0x2030, 0x2031, 0x2032, 0x2033, 0x2020, 0x09a2, 0x0b25, 0x0cfe, 0x11fb, 0x1212, 0x1216,
	0x4940, 0x4942, 0x4944, 0x4946, 0x4948,
];
const nvidiaAll: readonly number[] = [0x2f95, 0x2f96, 0x2f97, 0x2f98];

/** What a root complex does with peer requests. */
export interface PeerRouting {
	/** Turning around inside the host bridge. */
	within: Passage;
	/** Leaving for, or coming from, another host bridge. */
	across: Passage;
}

/**
 * What a host bridge does with peer requests.
 *
 * @param cpu - the machine's CPU
 * @param vendor - vendor of the first function on the root bus
 * @param device - its device id
 */
export function peerRouting(cpu: CpuModel, vendor: number, device: number): PeerRouting {
	if (cpu.vendor === 'amd' && cpu.family >= 0x17) return { within: 'works', across: 'works' };
	if (vendor === 0x8086 && intelWithinOne.includes(device)) {
		return { within: 'works', across: 'aborts' };
	}
	const all =
		(vendor === 0x8086 && intelAll.includes(device)) ||
		(vendor === 0x10de && nvidiaAll.includes(device)) ||
		vendor === 0x1ae0;
	return all ? { within: 'works', across: 'works' } : { within: 'aborts', across: 'aborts' };
}

/**
 * The CPU that an option names.
 *
 * @param text - `intel:6`, `amd:0x19`
 * @throws UserError
 */
export function cpuOption(text: string): CpuModel {
	const cpu = parseCpu(text);
	if (cpu === null)
		throw new UserError(`--cpu ${text}: expected VENDOR:FAMILY, for example amd:0x19`);
	return cpu;
}
