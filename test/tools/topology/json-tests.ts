// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: a topology file is read as it was written, and whatever is wrong in one is told by its
 * line, its place and what was expected. Method: the standard machine as JSON, written and read;
 * then one thing changed at a time.
 */
import type { MachineDescription } from '../../../arch/sim/description.ts';
import { validateDescription } from '../../../arch/sim/validate.ts';
import { namedMachine } from '../../../tools/machines/index.ts';
import { formatTopology, parseJsonTopology } from '../../../tools/topology/json.ts';
import { refusal } from '../../arch/sim/refusal.ts';
import { EXPECT_NULL, EXPECT_STREQ, EXPECT_TRUE, TEST } from '../../kselftest_harness.ts';

const standard = namedMachine('standard');
const text = formatTopology(standard);

/** The complaint about a file, with the line that it names. */
function complaint(changed: string): string | null {
	return refusal(() => parseJsonTopology(changed, 'm.json'));
}

/** The complaint about a description that was changed. */
function problem(change: (d: MachineDescription) => void): string {
	const d = structuredClone(standard);
	change(d);
	const found = validateDescription(d);
	return found === null ? '' : `${found.path.join('.')}: ${found.expected}`;
}

function device(d: MachineDescription, label: string) {
	const found = d.devices.find((one) => one.label === label);
	if (found === undefined) throw new Error(`no ${label}`);
	return found;
}

TEST('machine_written_and_read_is_the_same', () => {
	EXPECT_STREQ(text, formatTopology(parseJsonTopology(text, 'm.json')));
	EXPECT_NULL(validateDescription(standard));
});

TEST('syntax_errors_name_the_line', () => {
	const lines = text.split('\n');
	EXPECT_TRUE(
		complaint(lines.slice(0, 40).join('\n'))?.startsWith(
			'm.json:40: expected the rest of the JSON: the file is cut off',
		),
	);
	lines[9] = '\t"oops" 3,';
	EXPECT_STREQ('m.json:10: expected valid JSON', complaint(lines.join('\n')));
});

TEST('wrong_value_names_its_line_and_place', () => {
	const line = text.slice(0, text.indexOf('"pcieType": 5')).split('\n').length;
	EXPECT_TRUE(
		complaint(text.replace('"pcieType": 5', '"pcieType": 55'))?.startsWith(
			`m.json:${line}: expected one of -1, 0, 1, 4, 5, 6, 7, 8, 9, 10 (at devices[`,
		),
	);
	EXPECT_STREQ(
		'm.json:2: expected a string (at name)',
		complaint(text.replace('"standard"', '[1, {"a": "\\"}"}]')),
	);
	EXPECT_TRUE(
		complaint(text.replace('"cpus": 2', '"cores": 2'))?.includes(
			'one of the fields name',
		),
	);
	EXPECT_TRUE(complaint('{}')?.startsWith('m.json:1: expected a field "name"'));
});

TEST('parent_that_is_not_there_is_named', () => {
	const said = problem((d) => {
		device(d, 'GPU0').parent = '0000:77:00.0';
	});
	EXPECT_TRUE(said.endsWith('.parent: a device of this file, not 0000:77:00.0'));
});

TEST('endpoint_is_no_parent', () => {
	const said = problem((d) => {
		device(d, 'GPU0').parent = device(d, 'NIC0').bdf;
	});
	EXPECT_TRUE(said.endsWith('a bridge; 0000:04:00.0 is an endpoint'));
});

TEST('cycle_of_parents_is_found', () => {
	const said = problem((d) => {
		const port = d.devices.find((one) => one.bdf === '0000:01:00.0');
		if (port !== undefined) port.parent = '0000:02:00.0';
	});
	EXPECT_TRUE(said.includes('no cycle among the parents of'));
});

TEST('bus_numbers_that_do_not_nest_are_told_with_what_they_should_be', () => {
	const said = problem((d) => {
		const port = d.devices.find((one) => one.bdf === '0000:01:00.0');
		if (port !== undefined) port.secondary = 1;
	});
	EXPECT_TRUE(said.includes('bus 1 < secondary <= subordinate <= 255'));
	const outside = problem((d) => {
		const port = d.devices.find((one) => one.bdf === '0000:01:00.0');
		if (port !== undefined) port.subordinate = 9;
	});
	EXPECT_TRUE(outside.includes("buses up to 9 of 0000:01:00.0 within the bridge's 1..4"));
	const below = problem((d) => {
		device(d, 'GPU0').parent = '0000:02:01.0';
	});
	EXPECT_TRUE(below.includes("bus 3 of 0000:03:00.0 within the bridge's buses 4..4"));
	const nameless = problem((d) => {
		const port = d.devices.find((one) => one.bdf === '0000:01:00.0');
		delete port?.secondary;
	});
	EXPECT_TRUE(nameless.includes('secondary and subordinate bus numbers of the bridge'));
});

TEST('addresses_that_cannot_be_are_told_with_what_they_should_be', () => {
	const bar = (change: (bar: MachineDescription['devices'][0]['bars'][0]) => void) =>
		problem((d) => {
			const [, memory] = device(d, 'GPU0').bars;
			if (memory !== undefined) change(memory);
		});
	EXPECT_TRUE(bar((b) => void (b.size = '0x3000')).endsWith('size: a power of two'));
	EXPECT_TRUE(bar((b) => void (b.bus = '0x1000')).includes('a multiple of the size'));
	EXPECT_TRUE(bar((b) => void (b.is64 = false)).includes('below 4 GiB: the BAR has 32 bits'));
	EXPECT_TRUE(
		bar((b) => void (b.phys = '0x123450000000')).includes(
			'a window of the host bridge',
		),
	);
	EXPECT_TRUE(bar((b) => void (b.phys = '0x0')).includes('apart from'));
	EXPECT_TRUE(
		problem((d) => void (d.ram[0] = { start: '0x10', size: '0x1000' })).includes(
			'whole pages',
		),
	);
	for (const ram of [
		{ start: '0x1000', size: '0x80000000' },
		{ start: '0x0', size: '0xff000' },
	])
		EXPECT_TRUE(
			problem((d) => void (d.ram[0] = ram)).includes(
				'RAM from address 0 on, at least 1 MiB of it',
			),
		);
});

TEST('function_without_a_root_or_twice_is_found', () => {
	const said = problem((d) => {
		d.hostBridges.pop();
	});
	EXPECT_TRUE(said.includes('a host bridge with the root bus of 0000:80:00.0, or a parent'));
	const twice = problem((d) => {
		d.devices.push(structuredClone(device(d, 'NIC2')));
	});
	EXPECT_TRUE(twice.includes('0000:81:00.0 only once'));
	const domain = problem((d) => {
		device(d, 'NIC2').bdf = '0001:81:00.0';
	});
	EXPECT_TRUE(domain.includes('a bridge in the same domain as 0001:81:00.0'));
});
