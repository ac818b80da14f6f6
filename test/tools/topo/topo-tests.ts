// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: `kproto topo` prints two matrices, filters them, explains a pair, shows what a change changes, saves a
 * machine; and says in one line what is wrong with a command line or a source. Method: the command is called as
 * a function, on captures and named machines.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MachineDescription } from '../../../arch/sim/description.ts';
import { main as demo } from '../../../tools/demo/main.ts';
import { releaseNames } from '../../../tools/topo/release.ts';
import type { Why } from '../../../tools/topo/why.ts';
import { readTopology } from '../../../tools/topology/index.ts';
import {
	EXPECT_EQ,
	EXPECT_FALSE,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	TEST_F,
} from '../../kselftest_harness.ts';
import { called } from '../../support/command.ts';
import { denied } from '../topology/denied.ts';
import { topo } from './command.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const capture = join(root, 'test/golden/p2p/lspci/s100/lspci-D-nn-vvv.txt');
const standard = join(root, 'tools/machines/standard.json');
const hgx = join(root, 'tools/machines/hgx-8x8-acs.json');

interface Self {
	dir: string;
}

const command = FIXTURE<Self>('command', () => ({ dir: '' }));

FIXTURE_SETUP(command, (self) => {
	self.dir = mkdtempSync(join(tmpdir(), 'topo-'));
});

FIXTURE_TEARDOWN(command, ({ dir }) => {
	rmSync(dir, { recursive: true });
});

/** The cells of a row of a matrix, by its heading. */
function cells(out: string, heading: string, row: string): string[] {
	const lines = out.slice(out.indexOf(heading)).split('\n');
	const line = lines.find((one) => one.startsWith(`${row} `)) ?? '';
	return line.split(/ {2,}/).slice(1);
}

TEST_F(command, 'two_matrices_with_their_legends', async () => {
	const { code, out, err } = await topo(standard);
	EXPECT_EQ(0, code);
	EXPECT_STREQ('', err);
	EXPECT_TRUE(out.startsWith('standard: '));
	EXPECT_STREQ('X', cells(out, 'Nearness', 'GPU0')[0] ?? '');
	EXPECT_STREQ('self', cells(out, 'What Linux v7.3', 'GPU0')[0] ?? '');
	for (const text of [
		'PIX    at most one',
		'SW     turned around',
		'no     the kernel refuses',
	])
		EXPECT_TRUE(out.replace(/ +/g, ' ').includes(text.replace(/ +/g, ' ')));
	// Only names that stand in the matrix are explained.
	EXPECT_FALSE(out.includes('A|B'));
});

TEST_F(command, 'filters_by_class_address_and_name', async () => {
	const names = async (...args: string[]) => {
		const { out } = await topo(capture, '--json', ...args);
		const { from, to } = JSON.parse(out) as Record<'from' | 'to', { name: string }[]>;
		return [from, to].map((list) => list.map(({ name }) => name).join(' ')).join(' / ');
	};
	EXPECT_STREQ(
		'ACC1 / NIC0 NIC1 NIC2 NIC3 NIC4 NIC5',
		await names('--from', 'acc1', '--to', 'nic'),
	);
	EXPECT_STREQ('NIC4 / ACC0', await names('--from', '0100:0b:05.0', '--to', '0100:01:00.1'));
	EXPECT_STREQ(
		'ACC11 ACC12 / ACC1 ACC2 NIC0',
		await names('--from', '0100:41:', '--to', '0100:04:00'),
	);
	EXPECT_STREQ('STOR0 / ACC1 NIC5', await names('--from', '0106', '--to', 'ACC1,NIC5'));
});

TEST_F(command, 'filters_that_mean_nothing_are_one_line', async () => {
	for (const [filter, said] of [
		['gpu', 'no function here is "gpu"'],
		['0000:77:00.0', 'no function here is "0000:77:00.0"'],
		[
			'?',
			'"?" is no class, address or name: gpu, nic, nvme, 0302, 3b:00.0, GPU0, all, ...',
		],
	] as const) {
		const { code, out, err } = await topo(capture, '--from', filter);
		EXPECT_EQ(2, code);
		EXPECT_STREQ('', out);
		EXPECT_STREQ(`kproto topo: ${said}\n`, err);
	}
});

TEST_F(command, 'cpu_and_release_choose_the_rules', async ({ dir }) => {
	const cell = async (...args: string[]) => {
		const { out } = await topo(capture, '--from', 'ACC11', '--to', 'NIC2', ...args);
		return cells(out, 'What Linux', 'ACC11')[0];
	};
	EXPECT_STREQ('no', (await cell()) ?? '');
	EXPECT_STREQ('XHB 8', (await cell('--cpu', 'amd:0x19')) ?? '');
	// Before Zen the list decides.
	EXPECT_STREQ('no', (await cell('--cpu', 'amd:0x15')) ?? '');
	const known = 'tools/machines/dual-xeon.json';
	const later = readTopology(join(root, known));
	for (const device of later.devices)
		if (device.parent === null && device.bdf.endsWith(':00.0'))
			Object.assign(device, { vendor: 0x8086, device: 0x0b25 });
	const file = join(dir, 'later.json');
	writeFileSync(file, JSON.stringify(later));
	const refused = async (kernel: string) => {
		const { out } = await topo(file, '--json', '--kernel', kernel);
		const { verdicts } = JSON.parse(out) as { verdicts: { may: string[] }[][] };
		return verdicts.flat().some(({ may }) => may.includes('refused'));
	};
	EXPECT_TRUE(await refused('v6.12'));
	EXPECT_FALSE(await refused('7.3'));
});

TEST_F(command, 'why_goes_hop_by_hop', async () => {
	const { out } = await topo(capture, '--why', 'ACC1', 'NIC2');
	for (const line of [
		'May NIC2 (0100:07:00.2) access the memory of ACC1 (0100:04:00.0)? Linux v7.3:',
		'from 0100:07:00.2 NIC2 legacy endpoint no ACS',
		'up 0100:06:01.0 BR11 switch downstream port ACS 0x00: all off',
		'up 0100:01:00.0 BR6 switch upstream port ACS 0x00: all off both sides meet here',
		'down 0100:02:01.0 BR8 switch downstream port no ACS',
		'0100:01:00.0 is above both, and no function up to it redirects: the request turns there.',
		'Distance 6.',
	])
		EXPECT_TRUE(out.replace(/ +/g, ' ').includes(line));
});

TEST_F(command, 'why_names_the_deciding_rule', async () => {
	const told = async (...args: string[]) =>
		(await topo(capture, ...args)).out.replace(/\s+/g, ' ');
	const refused = await told('--why', 'ACC11', 'NIC2');
	EXPECT_TRUE(refused.includes('over host bridge 0100:00 to host bridge 0100:40'));
	EXPECT_TRUE(
		refused.includes('with REQ_SAME_HOST_BRIDGE: only for two functions below one'),
	);
	EXPECT_TRUE(refused.includes('Refused (PCI_P2PDMA_MAP_NOT_SUPPORTED). Distance 8.'));
	const redirected = await told('--why', 'ACC1', 'NIC2', '--what-if', 'acs on 0100:01:00.0');
	EXPECT_TRUE(
		redirected.includes('0100:01:00.0 redirects (ReqRedir, CmpltRedir or EgressCtrl)'),
	);
	EXPECT_TRUE(redirected.includes('[8086:2032], which is on the list (Skylake-E).'));
	EXPECT_TRUE(redirected.includes('With acs on 0100:01:00.0:'));
	// The kernel's own words.
	EXPECT_TRUE(
		redirected.includes('add the kernel parameter: pci=disable_acs_redir=0100:01:00.0'),
	);
	const amd = await told('--why', 'ACC11', 'NIC2', '--cpu', 'amd:0x17');
	EXPECT_TRUE(amd.includes('The CPU is AMD of family 0x17 or later'));
	const nobody = await told('--why', '0000:00:01.0', '0000:00:1f.2');
	EXPECT_TRUE(nobody.includes("[8086:29c0], which is not on this release's list."));
});

TEST_F(command, 'why_as_json_has_what_the_text_says', async ({ dir }) => {
	const asked = async (source: string, ...args: string[]): Promise<Why> =>
		JSON.parse((await topo(source, '--why', ...args, '--json')).out) as Why;
	const below = await asked(capture, 'ACC1', 'NIC2');
	EXPECT_STREQ('ACC1 NIC2', `${below.provider.name} ${below.client.name}`);
	EXPECT_STREQ(
		'0100:07:00.2 0100:06:01.0 0100:05:00.0 0100:02:03.0 0100:01:00.0 0100:02:01.0 0100:04:00.0',
		below.way.map(({ bdf }) => bdf).join(' '),
	);
	EXPECT_STREQ('from up up up up down down', below.way.map((hop) => hop.direction).join(' '));
	EXPECT_EQ(
		4,
		below.way.findIndex(({ meeting }) => meeting),
	);
	EXPECT_STREQ('{"control":0,"on":[]}', JSON.stringify(below.way[1]?.acs));
	EXPECT_EQ(1, below.reasons.length);
	EXPECT_STREQ('switch', below.reasons[0]!.reach);
	EXPECT_EQ(6, below.reasons[0]!.hops);
	EXPECT_EQ(null, below.reasons[0]!.cpuWillDo);
	const across = await asked(capture, 'ACC11', 'NIC2', '--what-if', 'kernel v6.12');
	EXPECT_STREQ('v6.12', across.kernel);
	EXPECT_STREQ(
		'0100:00 0100:40',
		[...new Set(across.way.flatMap(({ over }) => over))].join(' '),
	);
	const [refused] = across.reasons;
	EXPECT_STREQ(
		'refused PCI_P2PDMA_MAP_NOT_SUPPORTED',
		`${refused?.reach} ${refused?.mapType}`,
	);
	EXPECT_STREQ(
		'same-host-bridge yes',
		refused!.hostBridges.map(({ listed }) => listed).join(' '),
	);
	const turned = await asked(capture, 'ACC1', 'NIC2', '--what-if', 'acs on 0100:01:00.0');
	EXPECT_STREQ('0100:01:00.0', turned.reasons[0]!.redirecting.join(' '));
	EXPECT_STREQ(
		'yes Skylake-E',
		[turned.reasons[0]!.hostBridges[0]!]
			.map((one) => `${one.listed} ${one.entry}`)
			.join(),
	);
	EXPECT_TRUE(turned.reasons[0]!.log.some((line) => line.includes('pci=disable_acs_redir=')));
	const file = join(dir, 'denied.txt');
	writeFileSync(file, denied(readFileSync(capture, 'utf8')));
	const open = await asked(file, 'ACC1', 'NIC2');
	EXPECT_TRUE(open.open);
	EXPECT_STREQ(
		'unknown ACS is off,unknown ACS redirects',
		open.reasons.flatMap(({ assuming }) => assuming.slice(0, 1)).join(),
	);
	EXPECT_TRUE(open.way.some(({ acs }) => acs === 'unknown'));
});

TEST_F(command, 'what_if_shows_only_what_changes', async () => {
	const { out } = await topo(
		hgx,
		'--what-if',
		'acs off all',
		'--from',
		'GPU0',
		'--to',
		'nic',
	);
	EXPECT_TRUE(/With acs off all: \d+ of \d+ pairs change/.test(out));
	const rows = out.split('\n').filter((line) => line.includes('<-'));
	EXPECT_TRUE(rows.length > 0 && rows.every((line) => /GPU0 +<-- +NIC\d/.test(line)));
	EXPECT_TRUE(
		rows.every((line) => /ACS \d+ +SW \d+$/.test(line) || / no +SW \d+$/.test(line)),
	);
	const nothing = await topo(capture, '--what-if', 'acs off 0100:01:00.0');
	EXPECT_TRUE(nothing.out.endsWith('With acs off 0100:01:00.0: nothing changes\n'));
});

TEST_F(command, 'acs_on_leaves_what_redirects_already', async ({ dir }) => {
	// egress control alone, which pci_std_enable_acs() lets be
	const text = readFileSync(join(root, 'tools/machines/mixed.json'), 'utf8');
	const d = JSON.parse(text) as MachineDescription;
	const devices = d.devices.map((device) =>
		device.acs === null ? device : { ...device, acs: { cap: 0x21, control: 0x20 } },
	);
	const file = join(dir, 'egress.json');
	writeFileSync(file, JSON.stringify({ ...d, devices }));
	const { code, out } = await topo(file, '--json', '--what-if', 'acs on all');
	EXPECT_EQ(0, code);
	const { changed } = JSON.parse(out) as { changed: { after: { may: string[] } }[] };
	EXPECT_FALSE(changed.some(({ after }) => after.may.includes('switch')));
});

TEST_F(command, 'what_if_takes_kernel_parameters', async () => {
	const json = async (...args: string[]) => {
		const { out } = await topo(
			capture,
			'--json',
			'--from',
			'ACC1',
			'--to',
			'NIC2',
			...args,
		);
		return (JSON.parse(out) as { changed: { after: { may: string[] } }[] }).changed;
	};
	const on = await json('--what-if', 'acs on 0100:01:00.0');
	EXPECT_STREQ('redirected', on[0]?.after.may.join() ?? '');
	const undone = await json(
		'--what-if',
		'acs on 0100:01:00.0',
		'--what-if',
		'pci=disable_acs_redir=0100:01:00.0',
	);
	EXPECT_EQ(0, undone.length);
	const config = await json('--what-if', 'pci=config_acs=xxx11xx@0100:01:00.0');
	EXPECT_STREQ('redirected', config[0]?.after.may.join() ?? '');
});

TEST_F(command, 'what_if_that_makes_no_sense_is_one_line', async () => {
	for (const [change, said] of [
		['acs', '"acs" is no change'],
		['acs off 0100:04:00.0', '0100:04:00.0 has no ACS to change'],
		['acs off nowhere', 'no function here is "nowhere"'],
		['kernel v5.0', '"kernel v5.0" is no change'],
		['cpu via', '"cpu via" is no change'],
		['acs 0x40 0100:01:00.0', 'acs 0x40: 0100:01:00.0 has no bit 0x40'],
		// a bit of the egress vector's size, which the capability word has and the control word has not
		['acs 0x100 0100:01:00.0', 'acs 0x100: 0100:01:00.0 has no bit 0x100'],
		['pci=foo', 'pci=foo: the kernel says "PCI: Unknown option `foo\'"'],
		['pci=', 'pci=: it means no function'],
		[
			'pci=config_acs=zzz',
			'pci=config_acs=zzz: the kernel says "pcieport 0100:00:03.0: ACS Flags missing"',
		],
		[
			'pci=disable_acs_redir=',
			'pci=disable_acs_redir=: the kernel says "PCI: Can\'t parse ACS command line parameter"',
		],
		[
			'pci=disable_acs_redir=0077:01:00.0',
			'pci=disable_acs_redir=0077:01:00.0: it means no function here that has ACS',
		],
	] as const) {
		const { code, err } = await topo(capture, '--what-if', change);
		EXPECT_EQ(2, code);
		EXPECT_TRUE(err.startsWith(`kproto topo: ${said}`));
		EXPECT_EQ(1, err.trimEnd().split('\n').length);
	}
});

TEST_F(command, 'what_if_takes_several_functions_with_blanks_or_commas', async () => {
	const changedBy = async (who: string) => {
		const { code, out } = await topo(hgx, '--json', '--what-if', `acs off ${who}`);
		EXPECT_EQ(0, code);
		return JSON.stringify((JSON.parse(out) as { changed: unknown }).changed);
	};
	const [a, b] = ['bridge', 'GPU0'];
	EXPECT_STREQ(await changedBy(`${a},${b}`), await changedBy(`${a} ${b}`));
	EXPECT_STREQ(await changedBy(`${a},${b}`), await changedBy(`${a}, ${b}`));
});

TEST_F(
	command,
	'what_if_takes_parameters_for_acs_that_the_source_does_not_tell',
	async ({ dir }) => {
		const file = join(dir, 'denied.txt');
		writeFileSync(file, denied(readFileSync(capture, 'utf8')));
		const parameter = 'pci=disable_acs_redir=0100:01:00.0';
		for (const more of [[], ['--why', 'ACC1', 'NIC2'], ['--why', 'ACC11', 'NIC2']]) {
			const { code, err } = await topo(file, '--what-if', parameter, ...more);
			EXPECT_STREQ('', err);
			EXPECT_EQ(0, code);
		}
	},
);

TEST_F(command, 'picture_with_what_if_is_of_the_machine_after_it', async ({ dir }) => {
	const drawn = async (name: string, source: string, ...args: string[]) => {
		const file = join(dir, name);
		EXPECT_EQ(0, (await topo(source, '--svg', file, ...args)).code);
		return readFileSync(file, 'utf8');
	};
	const before = await drawn('before.svg', hgx);
	const after = await drawn('after.svg', hgx, '--what-if', 'acs off all');
	EXPECT_TRUE(before.includes('up to the root by ACS redirect'));
	EXPECT_FALSE(after.includes('up to the root by ACS redirect'));
	EXPECT_FALSE(before.includes('with acs off all'));
	EXPECT_TRUE(after.includes('Linux v7.3, with acs off all'));
});

TEST_F(command, 'unknown_acs_is_said_and_answered_by_a_set', async ({ dir }) => {
	const text = denied(readFileSync(capture, 'utf8'));
	const file = join(dir, 'denied.txt');
	writeFileSync(file, text);
	const { code, out } = await topo(file);
	EXPECT_EQ(0, code);
	EXPECT_TRUE(/ACS words of 0 functions; ACS unknown of \d+/.test(out));
	EXPECT_TRUE(out.includes('SW|ACS 6'));
	EXPECT_TRUE(out.includes('A|B   one of these: the source does not tell what decides'));
	// What does not depend on ACS is one answer.
	EXPECT_STREQ('HB 6', cells(out, 'What Linux', 'ACC1')[7] ?? '');
	const why = await topo(file, '--why', 'ACC1', 'NIC2');
	EXPECT_TRUE(why.out.includes('If unknown ACS is off:'));
	EXPECT_TRUE(why.out.includes('If unknown ACS redirects:'));
	const settled = await topo(
		file,
		'--what-if',
		'acs off all',
		'--from',
		'ACC1',
		'--to',
		'NIC2',
	);
	EXPECT_TRUE(/SW\|ACS 6 +SW 6/.test(settled.out));
});

TEST_F(command, 'emulated_chipset_leaves_the_cpu_open', async () => {
	const guest = join(root, 'test/golden/p2p/lspci/q003/lspci-D-nn-vvv.txt');
	const { out } = await topo(guest, '--json', '--from', 'all', '--to', 'all');
	const { unknown, verdicts } = JSON.parse(out) as {
		unknown: { cpu: boolean };
		verdicts: { may: string[] }[][];
	};
	EXPECT_TRUE(unknown.cpu);
	EXPECT_TRUE(verdicts.flat().some(({ may }) => may.join() === 'host,refused'));
	const told = await topo(
		guest,
		'--json',
		'--cpu',
		'intel:6',
		'--from',
		'all',
		'--to',
		'all',
	);
	const known = JSON.parse(told.out) as { verdicts: { may: string[] }[][] };
	EXPECT_TRUE(known.verdicts.flat().every(({ may }) => may.length === 1));
	EXPECT_TRUE((await topo(guest)).out.includes('CPU unknown: the source does not tell it'));
});

TEST_F(command, 'saved_machine_is_read_again_and_runs', async ({ dir }) => {
	const file = join(dir, 'saved.json');
	const first = await topo(capture, '--json', '--save', file);
	const again = await topo(file, '--json');
	const verdicts = (out: string) =>
		JSON.stringify((JSON.parse(out) as { verdicts: unknown }).verdicts);
	EXPECT_STREQ(verdicts(first.out), verdicts(again.out));
	const ran = await called(demo, [
		'--topology',
		file,
		'--no-trace',
		'--gpu',
		'0100:04:00.0',
		'--nic',
		'0100:07:00.2',
	]);
	EXPECT_EQ(0, ran.code);
	EXPECT_STREQ('', ran.err);
	const { code, err } = await topo(capture, '--save', join(dir, 'no/such/folder.json'));
	EXPECT_EQ(2, code);
	EXPECT_TRUE(err.endsWith("it can't be written (ENOENT)\n"));
});

TEST_F(command, 'saved_machine_says_what_was_made_up', async ({ dir }) => {
	const [file, xml] = [join(dir, 'saved.json'), join(dir, 'nccl.xml')];
	const gpu = '<pci busid="0000:01:00.0" class="0x030200" vendor="0x10de" device="0x20b0"/>';
	const nic = '<pci busid="0000:02:00.0" class="0x020700" vendor="0x15b3" device="0x101b"/>';
	writeFileSync(
		xml,
		`<system version="1"><cpu numaid="0" arch="x86_64" vendor="AuthenticAMD">${gpu}${nic}</cpu></system>`,
	);
	const first = await topo(xml, '--save', file);
	EXPECT_EQ(0, first.code);
	const again = await topo(file);
	EXPECT_EQ(0, again.code);
	for (const { out } of [first, again])
		EXPECT_TRUE(out.includes('ports and bus numbers are made up'));
	const ran = await called(demo, ['--topology', file, '--no-trace']);
	EXPECT_TRUE(ran.out.includes('ports and bus numbers are made up'));
});

TEST_F(command, 'sources_and_command_lines_that_make_no_sense_are_one_line', async ({ dir }) => {
	mkdirSync(join(dir, 'empty'));
	for (const [args, said] of [
		[
			[join(dir, 'nothing.txt')],
			`${dir}/nothing.txt:1: expected a topology file that can be read (ENOENT)`,
		],
		[
			[join(dir, 'empty')],
			`${dir}/empty:1: expected PCI functions such as 0000:00:00.0 in this folder, or in bus/pci/devices below it`,
		],
		[
			[standard, capture],
			`${standard}:1: expected lspci output: only text and bytes of lspci can be taken together`,
		],
		[
			[capture, '--kernel', 'v1'],
			`--kernel v1: expected one of ${releaseNames.join(', ')}`,
		],
		[
			[capture, '--cpu', 'fast'],
			'--cpu fast: expected VENDOR:FAMILY, for example amd:0x19',
		],
		[
			[capture, '--why', 'GPU0'],
			'--why: expected two functions, as addresses or names',
		],
		[
			[capture, '--why', 'GPU0', '--json'],
			'--why: expected two functions, as addresses or names',
		],
		...(['from', 'to', 'svg'] as const).map(
			(option) =>
				[
					[capture, '--why', 'ACC1', 'NIC2', `--${option}`, 'nic'],
					`--${option} and --why exclude each other`,
				] as const,
		),
		[
			[capture, '--why', 'nic', 'ACC1'],
			'"nic" means 6 functions, 0100:04:00.1 the first: name one',
		],
		[[standard, '--save', '-'], '--save -: expected the name of a file'],
		[[standard, '--save', 'x', '--svg', 'x'], '--save and --svg: expected two files'],
		[
			[standard, '--cpu', 'amd:99999999999'],
			'--cpu amd:99999999999: expected VENDOR:FAMILY, for example amd:0x19',
		],
		[[standard, '--svg', '-'], '--svg -: expected the name of a file'],
	] as const) {
		const { code, out, err } = await topo(...args);
		EXPECT_EQ(2, code);
		EXPECT_STREQ('', out);
		EXPECT_STREQ(`kproto topo: ${said}\n`, err);
	}
	// the rest of the sentence is Node's
	const { code, out, err } = await topo(capture, '--frobnicate');
	EXPECT_EQ(2, code);
	EXPECT_STREQ('', out);
	EXPECT_TRUE(/^kproto topo: Unknown option '--frobnicate'.*\n$/.test(err));
});

TEST_F(command, 'without_a_source_matrices_or_one_line_say_what_is_here', async () => {
	// Whatever it is: matrices, or one line where there is no PCI, or no two functions.
	const { code, out, err } = await topo();
	if (code === 0) {
		EXPECT_TRUE(out.startsWith('here: '));
		EXPECT_STREQ('', err);
	} else {
		EXPECT_EQ(2, code);
		EXPECT_STREQ('', out);
		EXPECT_TRUE(/^kproto topo: .+\n$/.test(err));
	}
});

TEST_F(command, 'help_is_no_mistake', async () => {
	const { code, out } = await topo('--help');
	EXPECT_EQ(0, code);
	EXPECT_TRUE(out.startsWith('usage: kproto topo'));
});
