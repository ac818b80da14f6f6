// SPDX-License-Identifier: GPL-2.0-only
/**
 * The functions of a /sys/bus/pci/devices folder, this machine's or a copy of another's.
 *
 *     0000:3b:00.0 -> ../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0      the tree, by its links
 *     0000:3b:00.0/config       64 bytes for anybody, 4096 for root
 *     0000:3b:00.0/resource     BARs at their CPU addresses
 *     0000:3b:00.0/numa_node, local_cpus, iommu_group, physfn, class, vendor, device
 *
 * A copy without links is a tree by bus numbers. The CPU is that of proc/cpuinfo in the
 * copy; /proc/cpuinfo itself is read for the machine at hand only.
 */
import {
	type Dirent,
	existsSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	realpathSync,
} from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { type CpuModel, formatBdf, parseBdf } from '../../arch/sim/description.ts';
import {
	IORESOURCE_IO,
	IORESOURCE_MEM,
	IORESOURCE_MEM_64,
	IORESOURCE_PREFETCH,
} from '../../include/linux/ioport.ts';
import { PCI_STD_NUM_BARS } from '../../include/uapi/linux/pci_regs.ts';
import { applyConfig } from './config-space.ts';
import { TopologyError } from './error.ts';
import { emptyFunction, type FoundFunction, type FoundRegion } from './functions.ts';

/** Folder of the functions of the machine at hand. */
export const OWN_FUNCTIONS = '/sys/bus/pci/devices';
const ROOT = '/';
const CPUINFO = 'proc/cpuinfo';

const IORESOURCE_UNSET = 0x2000_0000n;
const FOUR_GIB = 0x1_0000_0000n;

/** What a folder shows. */
export interface SysfsMachine {
	functions: FoundFunction[];
	/** Null: there is no proc/cpuinfo. */
	cpu: CpuModel | null;
}

/** A file's text without the newline; null: it is not there, or not for us. */
function text(...path: string[]): string | null {
	try {
		return readFileSync(join(...path), 'utf8').trim();
	} catch {
		return null;
	}
}

function linkName(...path: string[]): string | null {
	try {
		return basename(readlinkSync(join(...path)));
	} catch {
		return null;
	}
}

/** The folder of functions below a path that a person named. */
function devicesFolder(path: string): string {
	for (const below of ['', 'bus/pci/devices', 'sys/bus/pci/devices', 'devices']) {
		const folder = join(path, below);
		const names = existsSync(folder) ? safeList(folder).map(({ name }) => name) : [];
		if (names.some((name) => parseBdf(name) !== null)) return folder;
	}
	return path;
}

function safeList(folder: string): Dirent[] {
	try {
		return readdirSync(folder, { withFileTypes: true });
	} catch {
		return [];
	}
}

/** `start end flags`, a line for each resource; the first six are the BARs. */
function regions(resource: string): FoundRegion[] {
	const found: FoundRegion[] = [];
	for (const [bar, line] of resource.split('\n').slice(0, PCI_STD_NUM_BARS).entries()) {
		const match = /^0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})$/i.exec(
			line.trim(),
		);
		if (match === null) continue;
		const [start, end, flags] = match.slice(1).map((digits) => BigInt(`0x${digits}`));
		if (start === undefined || end === undefined || flags === undefined) continue;
		const kind = flags & (IORESOURCE_IO | IORESOURCE_MEM);
		if (kind === 0n || (flags & IORESOURCE_UNSET) !== 0n || end <= start) continue;
		found.push({
			bar,
			address: start,
			size: end - start + 1n,
			prefetchable: (flags & IORESOURCE_PREFETCH) !== 0n,
			is64: (flags & IORESOURCE_MEM_64) !== 0n || start >= FOUR_GIB,
			io: (flags & IORESOURCE_IO) !== 0n,
		});
	}
	return found;
}

/** Name of the function above in the tree of /sys/devices; undefined: the path does not tell. */
function parentOf(folder: string): string | null | undefined {
	let real: string;
	try {
		real = realpathSync(folder);
	} catch {
		return undefined;
	}
	return parentInPath(real);
}

/**
 * The function above, by the path of a function in /sys/devices.
 *
 * @param path - `/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0`
 * @returns null on a root bus, undefined where the path is no such path
 */
export function parentInPath(path: string): string | null | undefined {
	const above = basename(dirname(path));
	if (/^pci[0-9a-f]{4,8}:[0-9a-f]{2}$/.test(above)) return null;
	const bdf = parseBdf(above);
	return bdf === null ? undefined : formatBdf(bdf);
}

function hexFile(folder: string, name: string): number | null {
	const value = Number(text(folder, name) ?? Number.NaN);
	return Number.isInteger(value) && value >= 0 ? value : null;
}

/** What names programs know a function by. */
function osName(folder: string): string | null {
	for (const kind of ['infiniband', 'net', 'nvme', 'drm']) {
		const names = safeList(join(folder, kind))
			.map(({ name }) => name)
			.filter((name) => kind !== 'drm' || name.startsWith('card'));
		if (names[0] !== undefined) return names.sort()[0] as string;
	}
	return null;
}

function readFunction(folder: string, bdf: string): FoundFunction {
	const fn = emptyFunction(bdf, 1);
	fn.unknown = true;
	let config: Uint8Array;
	try {
		config = readFileSync(join(folder, 'config'));
	} catch (error) {
		const { code } = error as { code?: string };
		throw new TopologyError(
			join(folder, 'config'),
			1,
			`the configuration space of ${bdf} (${code ?? 'error'}); Documentation/topology.md says how to copy it`,
		);
	}
	const classCode = hexFile(folder, 'class');
	if (classCode !== null) fn.class = classCode & 0xff_ffff;
	if (!applyConfig(fn, config)) {
		throw new TopologyError(
			join(folder, 'config'),
			1,
			`at least the 64 bytes of a header, not ${config.length}`,
		);
	}
	fn.vendor = hexFile(folder, 'vendor') ?? fn.vendor;
	fn.device = hexFile(folder, 'device') ?? fn.device;
	fn.regions = regions(text(folder, 'resource') ?? '');
	const node = Number(text(folder, 'numa_node') ?? -1);
	if (Number.isInteger(node) && node >= 0) fn.numaNode = node;
	const group = linkName(folder, 'iommu_group');
	if (group !== null && /^\d+$/.test(group)) fn.iommuGroup = Number(group);
	const physfn = parseBdf(linkName(folder, 'physfn') ?? '');
	if (physfn !== null) fn.physfn = formatBdf(physfn);
	const parent = parentOf(folder);
	if (parent !== undefined) fn.parent = parent;
	const name = osName(folder);
	if (name !== null) fn.label = name;
	return fn;
}

/**
 * Where firmware names no NUMA node, the CPUs that are near a function tell the same: functions with the
 * same local CPUs are on one node.
 */
function nodesFromCpus(
	functions: readonly FoundFunction[],
	cpus: ReadonlyMap<string, string>,
): void {
	if (functions.some(({ numaNode }) => numaNode !== null)) return;
	const sets = [...new Set(cpus.values())].sort();
	if (sets.length < 2) return;
	for (const fn of functions) {
		const local = cpus.get(fn.bdf);
		if (local !== undefined) fn.numaNode = sets.indexOf(local);
	}
}

/**
 * The CPU of a /proc/cpuinfo.
 *
 * @param cpuinfo - its text
 * @returns `other` where it is not an x86 CPU of a known make
 */
export function cpuFromCpuinfo(cpuinfo: string): CpuModel {
	const field = (name: string) =>
		new RegExp(`^${name}\\s*:\\s*(.+)$`, 'm').exec(cpuinfo)?.[1]?.trim();
	const makers: Readonly<Record<string, CpuModel['vendor']>> = {
		GenuineIntel: 'intel',
		AuthenticAMD: 'amd',
		HygonGenuine: 'hygon',
		CentaurHauls: 'centaur',
		// the CPU says it with blanks around, which field() took away
		Shanghai: 'zhaoxin',
	};
	const vendor = makers[field('vendor_id') ?? ''] ?? 'other';
	const number = (name: string) => {
		const value = Number(field(name) ?? 0);
		return Number.isInteger(value) && value >= 0 ? value : 0;
	};
	return { vendor, family: number('cpu family'), model: number('model') };
}

/** The CPU of a file; null: it is not there, or a link leads out of the folder that it should be in. */
function cpuIn(root: string, name: string): CpuModel | null {
	try {
		const file = realpathSync(join(root, name));
		if (!file.startsWith(join(realpathSync(root), sep))) return null;
		const cpuinfo = readFileSync(file, 'utf8').trim();
		return cpuinfo === '' ? null : cpuFromCpuinfo(cpuinfo);
	} catch {
		return null;
	}
}

/**
 * The CPU that a copy tells: proc/cpuinfo or cpuinfo in the folder that was named, or proc/cpuinfo beside
 * the sys that the folder of functions is in.
 *
 * Never this machine's own: the copy of another may lie directly below the root.
 */
function cpuOfCopy(path: string, folder: string): CpuModel | null {
	const named = resolve(path);
	if (named !== ROOT) {
		const cpu = cpuIn(named, CPUINFO) ?? cpuIn(named, 'cpuinfo');
		if (cpu !== null) return cpu;
	}
	const full = resolve(folder);
	if (!full.endsWith(OWN_FUNCTIONS)) return null;
	const above = full.slice(0, -OWN_FUNCTIONS.length);
	return above === '' ? null : cpuIn(above, CPUINFO);
}

/** Read the functions of a folder, without the CPU. */
function readFunctions(path: string, folder: string): FoundFunction[] {
	const cpus = new Map<string, string>();
	const functions: FoundFunction[] = [];
	for (const { name } of safeList(folder).sort((a, b) => (a.name < b.name ? -1 : 1))) {
		const bdf = parseBdf(name);
		if (bdf === null) continue;
		const fn = readFunction(join(folder, name), formatBdf(bdf));
		const local = text(folder, name, 'local_cpus');
		if (local !== null) cpus.set(fn.bdf, local);
		functions.push(fn);
	}
	if (functions.length === 0) {
		throw new TopologyError(
			path,
			1,
			'PCI functions such as 0000:00:00.0 in this folder, or in bus/pci/devices below it',
		);
	}
	nodesFromCpus(functions, cpus);
	return functions;
}

/**
 * Read the functions of a folder.
 *
 * @param path - /sys/bus/pci/devices, or the folder of a copy that has it somewhere below
 * @throws TopologyError where there is no function, or one has no configuration space
 */
export function readSysfs(path: string): SysfsMachine {
	const folder = devicesFolder(path);
	const functions = readFunctions(path, folder);
	// Who names the folder of the machine at hand means the machine at hand.
	if (resolve(folder) === OWN_FUNCTIONS) return { functions, cpu: cpuIn(ROOT, CPUINFO) };
	return { functions, cpu: cpuOfCopy(path, folder) };
}
