// SPDX-License-Identifier: GPL-2.0-only
/** XML files as elements with the lines on which they stand. */
import { DOMParser, type Element } from '@xmldom/xmldom';
import { TopologyError } from './error.ts';

/** An element of a file. */
export interface XmlElement {
	readonly name: string;
	readonly attributes: ReadonlyMap<string, string>;
	readonly children: readonly XmlElement[];
	/** Counted from 1. */
	readonly line: number;
}

/** No file of a machine is deeper. */
const MAX_DEPTH = 200;

/**
 * Read an XML file.
 *
 * @param text - the file
 * @param file - its name, for messages
 * @returns its outermost element
 * @throws TopologyError where it is not well formed
 */
export function readXml(text: string, file: string): XmlElement {
	let problem: string | null = null;
	const parser = new DOMParser({
		locator: true,
		onError: (_level, message) => {
			problem ??= message;
		},
	});
	let root: Element | null = null;
	try {
		root = parser.parseFromString(text, 'text/xml').documentElement;
	} catch (error) {
		problem ??= (error as Error).message;
	}
	if (root === null || problem !== null)
		throw new TopologyError(file, lineIn(problem ?? ''), 'well-formed XML');
	return convert(root, file, 0);
}

/** The parser's messages end in `@#[line:3,col:7]`. */
function lineIn(message: string): number {
	return Number(/\[line:(\d+)/.exec(message)?.[1] ?? 1);
}

function convert(element: Element, file: string, depth: number): XmlElement {
	const line = element.lineNumber ?? 1;
	if (depth > MAX_DEPTH)
		throw new TopologyError(
			file,
			line,
			`at most ${MAX_DEPTH} elements within each other`,
		);
	const children: XmlElement[] = [];
	for (let child = element.firstChild; child !== null; child = child.nextSibling)
		if (child.nodeType === child.ELEMENT_NODE)
			children.push(convert(child as Element, file, depth + 1));
	const attributes = new Map<string, string>();
	for (let i = 0; i < element.attributes.length; i++) {
		const attribute = element.attributes.item(i);
		if (attribute !== null) attributes.set(attribute.name, attribute.value);
	}
	return { name: element.tagName, attributes, children, line };
}
