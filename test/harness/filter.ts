// SPDX-License-Identifier: GPL-2.0-only
/**
 * Which tests kselftest's flags select.
 *
 * The rule is test_enabled()'s: the flags are looked at in the order given, the first that matches
 * decides, lower case includes and upper case excludes; where none matches, a test runs unless some
 * flag was an including one.
 */

/** One flag of the command line with its name. */
export interface Filter {
	readonly flag: 't' | 'T' | 'v' | 'V' | 'f' | 'F' | 'r';
	readonly name: string;
}

/** The three parts of a test's name. */
export interface TestName {
	readonly fixture: string;
	readonly variant: string;
	readonly test: string;
}

/**
 * Whether a test runs.
 *
 * @param filters - the flags in their order
 * @param name - the test
 */
export function isSelected(filters: readonly Filter[], name: TestName): boolean {
	for (const filter of filters) {
		if (matches(filter, name)) return filter.flag === filter.flag.toLowerCase();
	}
	return !filters.some(({ flag }) => flag === flag.toLowerCase());
}

function matches(filter: Filter, { fixture, variant, test }: TestName): boolean {
	switch (filter.flag) {
		case 't':
		case 'T':
			return filter.name === test;
		case 'v':
		case 'V':
			return filter.name === variant;
		case 'f':
		case 'F':
			return filter.name === fixture;
		case 'r':
			return (
				filter.name ===
				[fixture, variant, test].filter((part) => part !== '').join('.')
			);
	}
}
