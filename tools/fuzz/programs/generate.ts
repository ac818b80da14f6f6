// SPDX-License-Identifier: GPL-2.0-only
/**
 * Programs from chance: a setup, mappings to begin with, then steps by weight.
 *
 * The writer remembers what it has mapped and whom it has forked, so that most steps meet something;
 * some do not, because kernels have to refuse as well.
 */
import type { ProfileName } from '../../../include/sim/feature.ts';
import type { Step } from '../../replay/hmm/record.ts';
import { Chance, type Source, type Weighted } from './chance.ts';
import type { Program, Setup } from './program.ts';
import { type OpName, opWeights } from './weights.ts';

/** Pages of a window with small pages only, and of one with two huge ones. */
export const SMALL = 16;
const LARGE = 1024;
const HUGE = 512;
/** One program in so many has huge pages, which take twenty times as long. */
const LARGE_ONE_IN = 125;
/** Processes beside the first. */
const PROCESSES = 4;
/** Steps beyond the least. */
const MORE_STEPS = 6;
const FIRST_VALUE = 0x1_0000;

/** What is asked of a program. */
export interface Wishes {
	/** Kernels to choose from. */
	readonly profiles: readonly ProfileName[];
	/** Least number of steps. */
	readonly steps: number;
}

/** The default: every kernel, programs of 40 steps and more. */
export const defaultWishes: Wishes = { profiles: ['v6.12', 'v7.3'], steps: 40 };

const sizes: Weighted<number> = [
	[25, 1],
	[20, 2],
	[15, 3],
	[20, 4],
	[10, 8],
	[10, 16],
];
const hugeSizes: Weighted<number> = [
	[15, 1],
	[5, 3],
	[10, 16],
	[5, 64],
	[25, 512],
	[10, 600],
	[15, 1024],
];
const protections: Weighted<number> = [
	[70, 3],
	[20, 1],
	[4, 0],
	[2, 2],
	[2, 7],
	[2, 5],
];
const smallKinds: Weighted<string> = [
	[50, 'ap'],
	[14, 'as'],
	[14, 'fp'],
	[14, 'fs'],
	[2, 'mx'],
	[1, 'pf'],
	[1, 'sp'],
	[1, 'io'],
	[1, 'pe'],
];
const advices: Weighted<number> = [
	[40, 4],
	[10, 8],
	[10, 14],
	[6, 15],
	[8, 22],
	[8, 23],
	[8, 25],
];

function setupOf(chance: Chance, { profiles }: Wishes): Setup {
	const profile = chance.of(profiles);
	const np = chance.below(LARGE_ONE_IN) === 0 ? LARGE : SMALL;
	const small = np === SMALL;
	const isProposal = profile === 'v7.3' && chance.percent(small ? 10 : 25);
	return {
		profile,
		np,
		win: small && chance.percent(40) ? HUGE - 8 : 0,
		fa: small && chance.percent(25) ? 65536 : 4096,
		dev: small && !isProposal && chance.percent(25) ? 2 : 1,
		swap: !isProposal && chance.percent(30),
		machine: isProposal ? chance.of(['sw', 'hb', 'mix', 'iommu']) : null,
	};
}

/** Writes one program. */
class Writer {
	private readonly chance: Chance;
	private readonly setup: Setup;
	private readonly steps: Step[] = [];
	/** Kind of mapping by page, as the first process made them. */
	private readonly kinds: (string | null)[];
	/** Processes by number, with the devices that each has opened. */
	private readonly alive = new Map<number, Set<number>>([[0, new Set()]]);
	/** Requesters that have a map for DMA. */
	private readonly maps = new Set<number>();
	private value = FIRST_VALUE;
	private watched = false;

	constructor(chance: Chance, setup: Setup) {
		this.chance = chance;
		this.setup = setup;
		this.kinds = new Array<string | null>(setup.np).fill(null);
	}

	write(atLeast: number): Step[] {
		const { chance, setup, steps } = this;
		const weights = opWeights(setup);
		const wanted = atLeast + chance.below(MORE_STEPS);
		this.emit(this.map(true));
		if (chance.percent(60)) this.emit(this.map(false));
		if (setup.np === LARGE && chance.percent(90)) this.emit(['madvise', 0, LARGE, 14]);
		while (steps.length < wanted) this.writers[chance.weighted(weights)]();
		return steps;
	}

	private emit(...steps: Step[]): void {
		this.steps.push(...steps);
	}

	/** Let some process execute it: mostly the first. */
	private by(step: Step): void {
		const others = [...this.alive.keys()].filter((number) => number !== 0);
		if (others.length === 0 || this.chance.percent(65)) this.emit(step);
		else this.inProcess(this.chance.of(others), step);
	}

	private inProcess(number: number, step: Step): void {
		if (number === 0) this.emit(step);
		else if (number === 1 && step[0] !== 'dopen') this.emit(['child', ...step] as Step);
		else this.emit(['proc', number, ...step] as unknown as Step);
	}

	private page(): number {
		const { chance, kinds } = this;
		for (let tries = 0; tries < 3; tries++) {
			const page = this.anyPage();
			if (kinds[page] !== null || chance.percent(5)) return page;
		}
		return this.anyPage();
	}

	private anyPage(): number {
		const { chance, setup } = this;
		if (setup.np === SMALL) return chance.below(SMALL);
		return chance.percent(60)
			? chance.of([0, 1, 5, 256, 511, 512, 513, 1023])
			: chance.below(LARGE);
	}

	/** A first page, and how many. */
	private range(most: number): [page: number, pages: number] {
		const { chance, setup } = this;
		if (setup.np === LARGE && chance.percent(40))
			return chance.of([
				[0, HUGE],
				[HUGE, HUGE],
				[0, LARGE],
			]);
		const page = this.page();
		const pages = chance.weighted(setup.np === SMALL ? sizes : hugeSizes);
		return [page, Math.min(pages, most, setup.np - page)];
	}

	private nextValue(pages = 1): number {
		this.value += pages;
		return this.value - pages + 1;
	}

	private map(all: boolean): Step {
		const { chance, setup } = this;
		const { np } = setup;
		let [page, pages] = all && chance.percent(70) ? [0, np] : this.range(np);
		let kind = chance.weighted(smallKinds);
		if (np === LARGE) kind = chance.weighted(hugeKinds);
		if (kind[0] === 'h')
			[page, pages] = chance.of([
				[0, HUGE],
				[HUGE, HUGE],
				[0, LARGE],
			]);
		// files and drivers have a few pages only
		else if (np === LARGE && kind !== 'ap' && kind !== 'as')
			pages = Math.min(pages, 24);
		this.kinds.fill(kind, page, page + pages);
		const off = /^f/.test(kind) ? chance.of([0, 0, page % SMALL, 4, 8, 16, 20]) : 0;
		return ['mmap', page, pages, chance.weighted(protections), kind, off];
	}

	private move(): void {
		const { np } = this.setup;
		const { chance } = this;
		const [page, pages] = this.range(np / 2);
		const to = chance.below(np - pages + 1);
		const aligned = pages >= HUGE ? to & ~(HUGE - 1) : to;
		if (Math.abs(aligned - page) < pages) {
			this.access();
			return;
		}
		const keeps = chance.percent(12);
		const moved = this.kinds.slice(page, page + pages);
		for (const [i, kind] of moved.entries()) {
			this.kinds[aligned + i] = kind;
			if (!keeps) this.kinds[page + i] = null;
		}
		this.by(['mremap', page, pages, aligned, keeps ? 7 : 3]);
	}

	private access(): void {
		const isWrite = this.chance.percent(55);
		this.by(isWrite ? ['write', this.page(), this.nextValue()] : ['read', this.page()]);
	}

	/** What hmm_range_fault() is asked for, behind page and number. */
	private request(pages: number): (number | string)[] {
		const { chance } = this;
		const owner = chance.weighted([
			[40, -1],
			[40, 0],
			[15, 1],
			[5, 9],
		]);
		const tries = chance.percent(50) ? [1, 0] : [10, chance.below(2)];
		const form = chance.below(10);
		if (form < 2) return [0, 0, owner, ...tries];
		if (form < 5) return [1, 0, owner, ...tries];
		if (form < 8) return [3, 0, owner, ...tries];
		const req = Array.from({ length: Math.min(pages, SMALL) }, () =>
			chance.of([0, 0, 1, 3]),
		);
		return [chance.of([0, 1]), chance.of([3, 15]), owner, ...tries, req.join(',')];
	}

	private device(): number {
		const { chance, setup } = this;
		const all = setup.dev > 1 ? [0, 0, 1, 2, 3] : [0, 0, 0, 1];
		return chance.of(all);
	}

	/** Device steps, by the first process or one that has opened the device. */
	private onDevice(...steps: ((dev: number) => Step)[]): void {
		const { chance } = this;
		const owners = [...this.alive].filter(([, opened]) => opened.size > 0);
		if (owners.length > 0 && chance.percent(40)) {
			const [number, opened] = chance.of(owners);
			const dev = chance.of([...opened]);
			for (const step of steps) this.inProcess(number, step(dev));
		} else {
			const dev = this.device();
			this.emit(...steps.map((step) => step(dev)));
		}
	}

	private fork(): void {
		const { chance, alive } = this;
		const number = 1 + chance.below(PROCESSES);
		if (alive.has(number)) {
			alive.delete(number);
			this.emit(number === 1 ? ['cexit'] : ['cexit', number]);
			return;
		}
		const parent = chance.of([...alive.keys()]);
		alive.set(number, new Set());
		this.inProcess(parent, number === 1 ? ['fork'] : ['fork', number]);
	}

	private open(): void {
		const others = [...this.alive.keys()].filter((number) => number !== 0);
		if (others.length === 0) {
			this.fork();
			return;
		}
		const number = this.chance.of(others);
		const dev = this.device();
		this.alive.get(number)!.add(dev);
		this.inProcess(number, ['dopen', dev]);
	}

	private watch(): void {
		const { chance } = this;
		if (!this.watched) {
			this.watched = true;
			this.emit(['uffd', chance.of([0, 1, 1, 2, 3])]);
		}
		const [page, pages] = this.range(SMALL);
		const on = chance.below(2);
		// there is something to fill in only where nothing is
		if (chance.percent(50)) this.emit(['madvise', page, pages, 4]);
		this.emit(
			chance.weighted<Step>([
				[40, ['ureg', page, pages, chance.of([1, 1, 2, 3])]],
				[10, ['uunreg', page, pages]],
				[15, ['uwp', page, pages, on]],
				[15, ['ucopy', page, this.nextValue(), chance.of([0, 2])]],
				[10, ['uzero', page, pages]],
				[5, ['upoison', page, 1]],
			]),
		);
	}

	private protect(): void {
		const [page, pages] = this.range(LARGE);
		this.by(['mprotect', page, pages, this.chance.weighted(protections)]);
	}

	private advise(): void {
		const { chance, setup } = this;
		const [page, pages] = this.range(LARGE);
		let advice = chance.weighted(advices);
		if (setup.swap && chance.percent(50)) advice = 21;
		else if (setup.profile === 'v7.3' && chance.percent(10))
			advice = chance.of([102, 103, 103]);
		else if (setup.profile === 'v7.3' && chance.percent(1)) advice = 100;
		this.by(['madvise', page, advice === 100 ? 1 : pages, advice]);
	}

	private unmap(): void {
		const [page, pages] = this.range(this.setup.np / 4);
		const number = this.steps.length;
		this.by(['munmap', page, pages]);
		if (this.steps[number]?.[0] === 'munmap') this.kinds.fill(null, page, page + pages);
	}

	/** Take a range to a device, often a whole huge page. */
	private migrate(): void {
		const { chance, setup } = this;
		if (setup.np !== LARGE || chance.percent(40)) {
			const [page, pages] = this.range(LARGE);
			this.onDevice((dev) => ['mig', dev, page, pages]);
			return;
		}
		const page = chance.of([0, HUGE]);
		const part = page + chance.of([1, 100, 256, 508]);
		const toDevice = (dev: number): Step => ['mig', dev, page, HUGE];
		// and what its owner, or somebody else, finds in the middle of it
		const look = (dev: number): Step => [
			'hmm',
			part,
			3,
			chance.below(2),
			0,
			chance.of([dev, dev, -1]),
			1,
			0,
		];
		if (!chance.percent(setup.machine === null ? 30 : 60)) this.onDevice(toDevice);
		else if (setup.machine === null) this.onDevice(toDevice, look);
		else {
			const dev = this.device();
			const asks = [
				'hmmd',
				chance.below(3),
				part,
				3,
				chance.below(2),
				0,
				-1,
				1,
				0,
			];
			// mostly so that the pages of the window are not in the order of the device's
			const window: Step = ['win', dev, chance.of([1, 2, 2, 2])];
			// an empty place goes to the device as a whole
			const empty: Step = ['madvise', page, HUGE, 4];
			this.emit(empty, toDevice(dev), window, asks as unknown as Step);
		}
	}

	/** The device's next allocation fails, mostly that of a huge page. */
	private failAllocation(): void {
		const { chance, setup } = this;
		const flags = (dev: number): Step => ['flags', dev, 1];
		if (setup.np !== LARGE) {
			this.onDevice(flags);
			return;
		}
		// a huge page that falls apart, of two processes mostly
		const [page, dev] = [chance.of([0, HUGE]), this.device()];
		const isBack = chance.percent(50);
		this.emit(['write', page, this.nextValue()]);
		if (isBack) this.emit(['mig', dev, page, HUGE]);
		if (this.alive.size === 1 && chance.percent(60)) this.fork();
		this.emit(flags(dev), [isBack ? 'sys' : 'mig', dev, page, HUGE]);
	}

	private dma(): void {
		const { chance, maps } = this;
		const [page, pages] = this.range(SMALL);
		const any = chance.below(3);
		const fault = ['hmmd', any, page, pages, ...this.request(pages)] as unknown as Step;
		const noAlias: Step = ['noal', page, pages, chance.below(2)];
		const window: Step = ['win', chance.below(2), chance.of([0, 1, 1, 2, 3])];
		const step = chance.weighted<Step | null>([
			[30, fault],
			[62, null],
			[5, noAlias],
			[3, window],
		]);
		if (step !== null) this.emit(step);
		else if (maps.size === 0 || chance.percent(10)) {
			maps.add(any);
			this.emit(['dalloc', any]);
		} else this.onMap(chance.of([...maps]), page, pages);
	}

	/** A step of a requester with its map: mostly it maps what it has just faulted in, some of it again. */
	private onMap(requester: number, page: number, pages: number): void {
		const { chance } = this;
		const map: Step = ['dmap', requester, page, pages];
		const inPlace = (deflt: number): Step => [
			'hmmm',
			requester,
			page,
			pages,
			deflt,
			0,
			-1,
			3,
		];
		switch (
			chance.weighted<'map' | 'more' | 'unmap' | 'free'>([
				[60, 'map'],
				[20, 'more'],
				[15, 'unmap'],
				[5, 'free'],
			])
		) {
			case 'map':
				this.emit(inPlace(chance.of([1, 3])), map);
				break;
			case 'more':
				this.emit(inPlace(1), map, inPlace(3), map);
				break;
			case 'unmap':
				this.emit(['dunmap', requester, page, pages]);
				break;
			default:
				this.maps.delete(requester);
				this.emit(['dfree', requester]);
		}
	}

	private lock(): void {
		this.by([this.chance.of(['mlock', 'munlock']), ...this.range(LARGE)]);
	}

	private fault(): void {
		const [page, pages] = this.range(LARGE);
		this.by(['hmm', page, pages, ...this.request(pages)]);
	}

	private unlockedFault(): void {
		const [page, pages] = this.range(LARGE);
		const [deflt = 0, mask = 0, owner = 0] = this.request(pages);
		this.by(['hmmu', page, pages, deflt, mask, owner, 0]);
	}

	private deviceWrite(): void {
		const [page, pages] = this.range(SMALL * 4);
		const value = this.nextValue(pages);
		this.onDevice((dev) => ['dwrite', dev, page, pages, value]);
	}

	/** A device step that has a range and nothing else. */
	private deviceRange(op: string): void {
		const [page, pages] = this.range(SMALL * 4);
		this.onDevice((dev) => [op, dev, page, pages]);
	}

	private readonly writers: Readonly<Record<OpName, () => void>> = {
		access: () => this.access(),
		mmap: () => this.by(this.map(false)),
		munmap: () => this.unmap(),
		mprotect: () => this.protect(),
		madvise: () => this.advise(),
		mremap: () => this.move(),
		ftrunc: () => this.emit(['ftrunc', this.chance.of([0, 4, 8, 12, 16, 24, 24])]),
		lock: () => this.lock(),
		fork: () => this.fork(),
		open: () => this.open(),
		watch: () => this.watch(),
		dma: () => this.dma(),
		mig: () => this.migrate(),
		rel: () => this.onDevice((dev) => ['rel', dev]),
		flags: () => this.failAllocation(),
		hmm: () => this.fault(),
		hmmu: () => this.unlockedFault(),
		dwrite: () => this.deviceWrite(),
		dread: () => this.deviceRange('dread'),
		dreadu: () => this.deviceRange('dreadu'),
		sys: () => this.deviceRange('sys'),
		snap: () => this.deviceRange('snap'),
		excl: () => this.deviceRange('excl'),
		cexcl: () => this.deviceRange('cexcl'),
	};
}

const hugeKinds: Weighted<string> = [
	[70, 'ap'],
	[5, 'as'],
	[4, 'fp'],
	[4, 'fs'],
	[12, 'ht'],
	[5, 'hs'],
];

/**
 * Write a program.
 *
 * @param source - where chance comes from
 * @param wishes - what is asked of it
 */
export function generateProgram(source: Source, wishes: Wishes): Program {
	const chance = new Chance(source);
	const setup = setupOf(chance, wishes);
	return { setup, steps: new Writer(chance, setup).write(wishes.steps) };
}
