// SPDX-License-Identifier: GPL-2.0-only
/** Replaying one file of records, with what lies next to it in the folder. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ProfileName } from '../../../include/sim/feature.ts';
import { HarnessError, KernelOops } from '../../../include/sim/report.ts';
import { Comparison, type Mismatch } from '../report.ts';
import type { Shape } from '../shape.ts';
import { familyOf, RecordError, type RecordLine, readRecordFile } from '../sources.ts';
import { recordFamilies } from './families.ts';
import { type CaseRecord, pairsShape, type TopologyRecord, topologyShape } from './records.ts';
import { type Joins, Rig } from './rig.ts';

/** How a record did. */
interface RecordOutcome {
	/** `FILE:LINE FAMILY NAME` */
	readonly title: string;
	readonly mismatches: readonly Mismatch[];
}

/** The kinds of records that the others of their folder refer to. */
const referredTo: readonly string[] = ['topologies', 'pairs'];

/** Files that are read once for all that refer to them. */
export class RecordCache {
	private readonly read: Map<string, RecordLine<unknown>[]> = new Map();
	private readonly joined: Map<string, Joins> = new Map();

	/**
	 * The records of a file.
	 *
	 * @param file - its path
	 * @param shape - what each must look like
	 */
	lines<T>(file: string, shape: Shape<T>): RecordLine<T>[] {
		const known = this.read.get(file) ?? readRecordFile(file, shape);
		if (referredTo.includes(familyOf(file))) this.read.set(file, known);
		return known as RecordLine<T>[];
	}

	/**
	 * What the records of a folder refer to.
	 *
	 * @param folder - its path
	 */
	joins(folder: string): Joins {
		const known = this.joined.get(folder);
		if (known !== undefined) return known;
		const topologies = new Map<string, TopologyRecord>();
		const cases = new Map<string, CaseRecord>();
		for (const { value } of this.beside(folder, 'topologies', topologyShape))
			topologies.set(value.topology, value);
		for (const { value } of this.beside(folder, 'pairs', pairsShape))
			cases.set(value.case, value);
		const joins = { topologies, cases };
		this.joined.set(folder, joins);
		return joins;
	}

	private beside<T>(folder: string, name: string, shape: Shape<T>): RecordLine<T>[] {
		for (const ending of ['.jsonl.gz', '.jsonl']) {
			const file = join(folder, `${name}${ending}`);
			if (existsSync(file)) return this.lines(file, shape);
		}
		return [];
	}
}

/** What a record is known by, beside its line. */
function nameOf(value: unknown): string {
	const { case: name, topology, machine } = value as Record<string, unknown>;
	return String(name ?? topology ?? machine ?? '');
}

/**
 * How a record ended that has no answer: by an oops, or by a call that the harness refuses. It fails,
 * and others go on.
 *
 * @param error - what was thrown; a fault of the program's own is thrown on, with the record's title
 */
function endOf(error: unknown, title: string): string {
	if (error instanceof KernelOops) return error.report.title;
	if (error instanceof HarnessError) return String(error);
	if (error instanceof RecordError) throw error;
	throw new Error(`the replayer fails at ${title}`, { cause: error });
}

/**
 * Replay a file.
 *
 * @param file - its path
 * @param profile - the kernel
 * @param cache - files read so far
 * @param filter - records whose title has no match are passed over
 * @returns an outcome a record, in order; made one by one
 * @throws RecordError a record makes no sense
 */
export function* replayFile(
	file: string,
	profile: ProfileName,
	cache: RecordCache,
	filter: RegExp | null = null,
): Generator<RecordOutcome> {
	const name = familyOf(file);
	const family = recordFamilies[name];
	if (family === undefined)
		throw new RecordError(
			file,
			0,
			`there are no records "${name}"; there are ${Object.keys(recordFamilies).join(', ')}`,
		);
	const lines = cache.lines(file, family.shape);
	const rig = new Rig(profile, cache.joins(dirname(file)));
	try {
		for (const line of lines) {
			const title = `${file}:${line.line} ${name} ${nameOf(line.value)}`;
			if (filter !== null && !filter.test(title)) continue;
			rig.begin(line);
			const found = new Comparison();
			try {
				family.replay(rig, line.value, found);
			} catch (error) {
				found.equal('replay', 'an answer', endOf(error, title));
				rig.end();
			}
			yield { title, mismatches: found.mismatches };
		}
	} finally {
		rig.end();
	}
}
