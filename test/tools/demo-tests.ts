// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: `kproto demo` tells by its exit code whether every byte was right, by its JSON all that it
 * found, and by one line what is wrong with a command line or a topology file. Method: the command
 * is called as a function, its two streams caught; once for each exit code as a program.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MachineDescription } from '../../arch/sim/description.ts';
import { main } from '../../tools/demo/main.ts';
import { isGood, type MachineResult } from '../../tools/demo/result.ts';
import {
	ASSERT_EQ,
	ASSERT_STREQ,
	ASSERT_TRUE,
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../kselftest_harness.ts';
import { called, kproto, type Outcome } from '../support/command.ts';
import { configBytes } from './topology/config_bytes.ts';
import { denied } from './topology/denied.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const capture = join(root, 'test/golden/p2p/lspci/q003/lspci-D-nn-vvv.txt');

interface Self {
	/** For topology files. */
	dir: string;
}

const demo = FIXTURE<Self>('demo', () => ({ dir: '' }));

FIXTURE_SETUP(demo, (self) => {
	self.dir = mkdtempSync(join(tmpdir(), 'demo-'));
});

FIXTURE_TEARDOWN(demo, ({ dir }) => {
	rmSync(dir, { recursive: true });
});

function call(...args: string[]): Promise<Outcome> {
	return called(main, args);
}

function machinesOf({ out }: Outcome): MachineResult[] {
	const { profile, machines } = JSON.parse(out) as {
		profile: string;
		machines: MachineResult[];
	};
	ASSERT_STREQ(profile, 'v7.3');
	return machines;
}

/** One line on standard error, nothing on standard output, exit code 2. */
function expectMistake(outcome: Outcome, says: RegExp): void {
	EXPECT_EQ(outcome.code, 2);
	EXPECT_STREQ(outcome.out, '');
	EXPECT_EQ(outcome.err.split('\n').length, 2);
	EXPECT_TRUE(outcome.err.startsWith('kproto demo: '));
	if (!says.test(outcome.err)) EXPECT_STREQ(String(says), outcome.err);
}

function write(dir: string, name: string, text: string): string {
	const path = join(dir, name);
	writeFileSync(path, text);
	return path;
}

/** A named machine's description, changed, as a file. */
function topologyFile(dir: string, name: string, change: (d: MachineDescription) => void): string {
	const text = readFileSync(join(root, `tools/machines/${name}.json`), 'utf8');
	const d = JSON.parse(text) as MachineDescription;
	change(d);
	return write(dir, `${name}.json`, JSON.stringify(d, null, '\t'));
}

// --- good runs ---

TEST_F(demo, 'good_run_as_a_program_exits_with_0_and_is_silent_on_stderr', () => {
	const { code, out, err } = kproto(['demo', '--machine', 'mixed']);
	EXPECT_EQ(code, 0);
	EXPECT_STREQ(err, '');
	EXPECT_TRUE(out.includes('BUS_ADDR'));
	EXPECT_TRUE(out.includes('NOT_SUPPORTED'));
	// the traced call
	EXPECT_TRUE(/hmm_private_dma_pfn\(\) = 0/.test(out));
	EXPECT_TRUE(out.includes('Completion: successful'));
});

TEST_F(demo, 'json_has_everything_of_every_pair', async () => {
	const outcome = await call('--json', '--machine', 'mixed');
	ASSERT_EQ(outcome.code, 0);
	const [mixed] = machinesOf(outcome);
	ASSERT_TRUE(mixed !== undefined);
	EXPECT_STREQ(mixed!.name, 'mixed');
	EXPECT_TRUE(mixed!.about.length > 0);
	EXPECT_EQ(mixed!.pairs.length, mixed!.cast.gpus.length * mixed!.cast.nics.length);
	for (const pair of mixed!.pairs) {
		EXPECT_TRUE(/^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(pair.gpu));
		EXPECT_TRUE(/^0x[0-9a-f]+$/.test(pair.address));
		EXPECT_TRUE(['bus', 'IOVA', 'physical'].includes(pair.addressKind));
		EXPECT_EQ(pair.kept + pair.migrated, pair.pages);
		EXPECT_EQ(pair.bytes, 2 * pair.pages * 4096);
		EXPECT_EQ(pair.wrong, 0);
		EXPECT_EQ(pair.faults, 0);
		EXPECT_EQ(pair.reports.length, 0);
		EXPECT_TRUE(pair.distance > 0 && pair.pageFaults > 0 && pair.window);
	}
	const kinds = new Set(mixed!.pairs.map(({ path }) => path));
	EXPECT_STREQ(
		[...kinds].sort().join(', '),
		'host bridge, refused, switch, switch, ACS redirect',
	);
});

TEST_F(
	demo,
	'all_machines_have_right_bytes_and_every_kind_of_path',
	async () => {
		const outcome = await call('--json', '--machine', 'all');
		ASSERT_EQ(outcome.code, 0);
		const machines = machinesOf(outcome);
		const pairs = machines.flatMap((machine) => machine.pairs);
		EXPECT_TRUE(machines.length >= 12);
		EXPECT_TRUE(pairs.every(isGood));
		EXPECT_EQ(new Set(pairs.map(({ path }) => path)).size, 4);
		const refused = pairs.filter(({ path }) => path === 'refused');
		EXPECT_TRUE(refused.every(({ kept }) => kept === 0));
		// every pair that can be reached, and whose GPU has P2P pages, keeps all of them
		const reached = pairs.filter(({ path, window }) => path !== 'refused' && window);
		EXPECT_TRUE(reached.length > 0 && reached.every(({ migrated }) => migrated === 0));
	},
	{ speed: 'slow' },
);

TEST_F(demo, 'machine_with_many_pairs_is_a_matrix', async () => {
	const { code, out } = await call('--no-trace', '--machine', 'hgx-8x8');
	EXPECT_EQ(code, 0);
	EXPECT_TRUE(out.includes('GPU \\ NIC'));
	EXPECT_EQ([...out.matchAll(/SW 4 8\/8/g)].length, 16);
	EXPECT_FALSE(/(SW|ACS|HB|--)! /.test(out));
});

TEST_F(demo, 'lspci_text_of_any_machine_is_taken', async () => {
	const outcome = await call('--json', '--topology', capture, '--cpu', 'amd:0x19');
	ASSERT_EQ(outcome.code, 0);
	const [machine] = machinesOf(outcome);
	EXPECT_STREQ(machine!.name, 'lspci-D-nn-vvv');
	EXPECT_TRUE(machine!.pairs.length > 0);
	const { out } = await call('--no-trace', '--topology', capture, '--cpu', 'amd:0x19');
	EXPECT_TRUE(out.includes('lspci-D-nn-vvv: '));
});

TEST_F(demo, 'what_the_source_does_not_tell_is_said', async ({ dir }) => {
	const file = write(dir, 'user.txt', denied(readFileSync(capture, 'utf8')));
	const [machine] = machinesOf(await call('--json', '--topology', file, '--cpu', 'amd:0x19'));
	ASSERT_TRUE(machine!.assumed.length > 0);
	EXPECT_TRUE(/^ACS of \d+ functions is unknown and taken as off/.test(machine!.assumed[0]!));
	const { out } = await call('--no-trace', '--topology', file);
	EXPECT_TRUE(out.includes('functions is unknown and taken as off'));
	const told = machinesOf(await call('--json', '--topology', capture, '--cpu', 'amd:0x19'));
	EXPECT_EQ(0, told[0]!.assumed.length);
});

TEST_F(demo, 'folder_of_functions_is_taken_and_what_was_left_out_is_said', async ({ dir }) => {
	const at = join(dir, 'copy/sys/bus/pci/devices');
	const base = { vendor: 0x8086, device: 0x2020, class: 0x060000 };
	const gpu = { vendor: 0x10de, device: 0x20b0, class: 0x030200, type: 0 };
	const nic = { vendor: 0x15b3, device: 0x101b, class: 0x020700, type: 0 };
	const resource = [
		'0x00000000e0000000 0x00000000e0ffffff 0x0000000000040200',
		'0x00000000e0800000 0x00000000e0ffffff 0x0000000000040200',
	].join('\n');
	for (const [bdf, what] of [
		['0000:00:00.0', base],
		['0000:00:01.0', gpu],
		['0000:00:02.0', nic],
	] as const) {
		mkdirSync(join(at, bdf), { recursive: true });
		writeFileSync(join(at, bdf, 'config'), configBytes(what));
		if (what === gpu) writeFileSync(join(at, bdf, 'resource'), resource);
	}
	const outcome = await call('--json', '--topology', join(dir, 'copy'));
	ASSERT_EQ(outcome.code, 0);
	const [{ about, pairs }] = machinesOf(outcome) as [MachineResult];
	EXPECT_STREQ(
		pairs.map((pair) => `${pair.gpu} ${pair.nic}`).join(),
		'0000:00:01.0 0000:00:02.0',
	);
	EXPECT_TRUE(about.includes('BAR 1 of 0000:00:01.0 is left out'));
});

TEST_F(demo, 'cpu_decides_whether_a_host_bridge_is_allowed', async ({ dir }) => {
	const kinds = async (...args: string[]): Promise<string> => {
		const outcome = await call('--json', ...args);
		ASSERT_EQ(outcome.code, 0);
		return machinesOf(outcome)[0]!.pairs[0]!.path;
	};
	// A desktop's host bridge is refused; on a Zen CPU every one is allowed, and this one passes on.
	EXPECT_STREQ(await kinds('--machine', 'consumer'), 'refused');
	const file = topologyFile(dir, 'consumer', (d) => {
		d.hostBridges[0]!.peerToPeer = 'works';
	});
	EXPECT_STREQ(await kinds('--topology', file), 'refused');
	EXPECT_STREQ(await kinds('--topology', file, '--cpu', 'amd:0x19'), 'host bridge');
});

TEST_F(demo, 'chosen_functions_play_and_others_stand_in', async () => {
	const chosen = await call(
		...['--json', '--machine', 'mixed', '--gpu', '1a:00.0', '--nic', '0000:98:00.0'],
	);
	const [{ pairs }] = machinesOf(chosen) as [MachineResult];
	EXPECT_EQ(pairs.length, 1);
	EXPECT_STREQ(pairs[0]!.path, 'refused');
	// a GPU that plays the NIC leaves the other one to play the GPU
	const [swapped] = machinesOf(
		await call('--json', '--machine', 'mixed', '--nic', '1a:00.0'),
	);
	EXPECT_STREQ(swapped!.pairs.map(({ gpu }) => gpu).join(), '0000:1e:00.0');
	// the only NIC of a machine is asked to be its GPU: somebody else is the NIC
	const other = await call('--no-trace', '--machine', 'consumer', '--gpu', '02:00.0');
	EXPECT_EQ(other.code, 0);
	EXPECT_TRUE(other.out.includes('consumer has no NIC: '));
});

TEST_F(demo, 'who_is_a_gpu_is_what_kproto_topo_says', async ({ dir }) => {
	const [processor, vga] = [0x0b4000, 0x030000];
	const file = topologyFile(dir, 'mixed', (d) => {
		for (const device of d.devices) {
			if (device.bdf === '0000:1a:00.0') device.class = processor;
			// the screen of a management processor
			if (device.bdf === '0000:1e:00.0')
				Object.assign(device, {
					class: vga,
					vendor: 0x1a03,
					device: 0x2000,
				});
		}
	});
	const [{ cast }] = machinesOf(await call('--json', '--topology', file)) as [MachineResult];
	EXPECT_STREQ(cast.gpus.map(({ bdf }) => bdf).join(), '0000:1a:00.0');
	// functions have the names that they have there
	const named = await call('--json', '--machine', 'mixed', '--gpu', 'GPU0', '--nic', 'NIC0');
	const [{ pairs }] = machinesOf(named) as [MachineResult];
	EXPECT_EQ(pairs.length, 1);
});

TEST_F(demo, 'machines_are_listed_and_help_is_no_mistake', async () => {
	const list = await call('--list');
	EXPECT_EQ(list.code, 0);
	for (const name of ['q003', 's112', 'hgx-8x8', 'dual-xeon', 'epyc', 'consumer'])
		EXPECT_TRUE(list.out.split('\n').includes(name));
	const help = await call('-h');
	EXPECT_EQ(help.code, 0);
	EXPECT_TRUE(help.out.startsWith('usage: kproto demo'));
});

// --- a run that goes wrong ---

TEST_F(demo, 'fabric_that_contradicts_the_kernel_exits_with_1', async ({ dir }) => {
	// The kernel's list allows this host bridge; this one aborts what it is sent.
	const file = topologyFile(dir, 'mixed', (d) => {
		d.hostBridges[0]!.peerToPeer = 'aborts';
	});
	const outcome = await call('--json', '--topology', file);
	EXPECT_EQ(outcome.code, 1);
	const [{ pairs }] = machinesOf(outcome) as [MachineResult];
	for (const pair of pairs) {
		// What turns around below a switch, and what goes to RAM, never meets it.
		const meets = pair.path === 'host bridge' || pair.path === 'switch, ACS redirect';
		EXPECT_EQ(isGood(pair), !meets);
		if (meets) EXPECT_TRUE(pair.wrong > 0 && pair.faults > 0);
	}
	const shown = kproto(['demo', '--no-trace', '--topology', file]);
	EXPECT_EQ(shown.code, 1);
	EXPECT_TRUE(/host bridge .* WRONG/.test(shown.out));
	EXPECT_TRUE(/ switch .* ok /.test(shown.out));
});

// --- mistakes ---

TEST_F(demo, 'heading_names_the_cpu_that_was_asked_for', async () => {
	const outcome = await call('--json', '--machine', 'mixed', '--cpu', 'amd:0x19');
	const [{ about }] = machinesOf(outcome) as [MachineResult];
	EXPECT_TRUE(about.includes('(amd family 0x19, '));
});

TEST_F(demo, 'matrix_marks_a_gpu_without_p2p_pages', async () => {
	const { out } = await call('--no-trace', '--machine', 's112');
	EXPECT_TRUE(/SW\* \d+ 0\/8/.test(out));
	EXPECT_FALSE(/(SW|ACS|HB) \d+ 0\/8/.test(out));
});

TEST_F(demo, 'machine_without_cpus_or_ram_exits_with_2', async ({ dir }) => {
	const cpus = topologyFile(dir, 'consumer', (d) => {
		d.cpus = 0;
	});
	expectMistake(await call('--topology', cpus), /:\d+: expected .*a whole number from 1/);
	const ram = topologyFile(dir, 'mixed', (d) => {
		d.ram = [];
	});
	expectMistake(await call('--topology', ram), /:\d+: expected .*at least one range of RAM/);
});

TEST_F(demo, 'mistake_as_a_program_exits_with_2', ({ dir }) => {
	const file = write(dir, 'notes.txt', 'to do: buy a GPU\n');
	expectMistake(
		kproto(['demo', '--topology', file]),
		/notes\.txt:1: expected lspci -vvv output/,
	);
});

TEST_F(demo, 'file_that_is_not_there_or_no_file_is_one_line', async ({ dir }) => {
	expectMistake(
		await call('--topology', join(dir, 'none.txt')),
		/none\.txt:1: expected a topology file that can be read \(ENOENT\)/,
	);
	expectMistake(
		await call('--topology', dir),
		/:1: expected PCI functions such as 0000:00:00\.0 in this folder/,
	);
	expectMistake(await call('--topology', write(dir, 'empty', '')), /empty:1: expected lspci/);
});

TEST_F(demo, 'cut_off_lspci_text_names_its_last_line', async ({ dir }) => {
	const lines = readFileSync(capture, 'utf8').split('\n');
	const header = lines.findIndex((line, i) => i > 0 && /^[0-9a-f]{4}:/.test(line));
	const file = write(dir, 'cut.txt', lines.slice(0, header + 1).join('\n'));
	expectMistake(
		await call('--topology', file),
		new RegExp(`cut\\.txt:${header + 1}: expected the details that lspci -vvv prints`),
	);
});

TEST_F(demo, 'cut_off_json_names_its_line', async ({ dir }) => {
	const text = readFileSync(join(root, 'tools/machines/mixed.json'), 'utf8');
	const lines = text.split('\n').slice(0, 20);
	const file = write(dir, 'cut.json', lines.join('\n'));
	expectMistake(await call('--topology', file), /cut\.json:(19|20|21): expected /);
});

TEST_F(demo, 'cycle_of_buses_names_the_line_of_the_bridge', async ({ dir }) => {
	const lines = readFileSync(capture, 'utf8').split('\n');
	const at = lines.findIndex((line) => /secondary=(?!00)/.test(line));
	lines[at] = lines[at]!.replace(/secondary=[0-9a-f]{2}/, 'secondary=00').replace(
		/subordinate=00/,
		'subordinate=01',
	);
	const file = write(dir, 'cycle.txt', lines.join('\n'));
	expectMistake(
		await call('--topology', file),
		new RegExp(`cycle\\.txt:${at + 1}: expected .*bus numbers go in a circle`),
	);
	const json = topologyFile(dir, 'mixed', (d) => {
		const bridges = d.devices.filter(({ header }) => header === 1);
		bridges[0]!.parent = bridges[1]!.bdf;
		bridges[1]!.parent = bridges[0]!.bdf;
	});
	expectMistake(await call('--topology', json), /mixed\.json:\d+: expected /);
});

TEST_F(demo, 'command_line_that_makes_no_sense_is_one_line', async () => {
	expectMistake(await call('--machine', 'nope'), /there is no machine "nope": q000, /);
	expectMistake(await call('--colour'), /Unknown option '--colour'/);
	expectMistake(await call('--machine'), /'--machine <value>' argument missing/);
	// node's message has three lines
	expectMistake(await call('--machine', '--json'), /'--machine' argument is ambiguous/);
	expectMistake(await call('mixed'), /Unexpected argument 'mixed'/);
	expectMistake(
		await call('--topology', capture, '--machine', 'mixed'),
		/--topology and --machine exclude each other/,
	);
});

TEST_F(demo, 'cpu_that_nobody_makes_is_one_line', async () => {
	for (const cpu of ['', 'amd', 'amd:', 'amd:old', 'sparc:9', 'intel:6:1:2', 'intel:-6'])
		for (const rest of [
			['--machine', 'mixed'],
			['--topology', capture],
		])
			expectMistake(
				await call(...rest, `--cpu=${cpu}`),
				/--cpu .*expected VENDOR:FAMILY, for example amd:0x19/,
			);
});

TEST_F(demo, 'functions_that_cannot_play_are_one_line', async () => {
	const mixed = (...args: string[]): Promise<Outcome> => call('--machine', 'mixed', ...args);
	expectMistake(
		await mixed('--gpu', '99:00.0'),
		/the GPU of mixed: no function here is "99:00\.0"/,
	);
	expectMistake(await mixed('--nic', 'eth0'), /the NIC of mixed: no function here is "eth0"/);
	expectMistake(await mixed('--nic', '17:01.0'), /17:01\.0 of mixed is a bridge/);
	expectMistake(
		await call('--gpu', '99:00.0'),
		/the GPU of q000: no function here is "99:00\.0"; --machine NAME says which machine is meant/,
	);
	// a host bridge has the header of an endpoint
	expectMistake(
		await call('--machine', 'q003', '--gpu', '00:00.0'),
		/00:00\.0 of q003 is a bridge/,
	);
	expectMistake(
		await mixed('--gpu', '1a:00.0', '--nic', '0000:1a:00.0'),
		/1a:00\.0 of mixed cannot play both/,
	);
});

TEST_F(demo, 'machine_without_two_endpoints_is_one_line', async ({ dir }) => {
	const file = topologyFile(dir, 'consumer', (d) => {
		d.devices = d.devices.filter(
			(device) => device.header === 1 || device.bdf === '0000:01:00.0',
		);
	});
	expectMistake(
		await call('--topology', file),
		/consumer\.json:\d\d+: expected two endpoints at the least/,
	);
	const text = write(
		dir,
		'bare.txt',
		'00:00.0 Host bridge [0600]: A B [8086:2020]\n\tControl: I/O- Mem+\n\n',
	);
	expectMistake(
		await call('--topology', text),
		/bare\.txt:2: expected two endpoints at the least/,
	);
});
