// SPDX-License-Identifier: GPL-2.0-only
/**
 * Replay of booting with ACS on the command line.
 *
 * A machine is there at boot, or its hierarchies were added to a running kernel: then the record has
 * the words after enumeration (`ctrl_scan`), and the log has also the lines of machines with the same
 * addresses that were added before and after.
 */

import type { MachineDescription } from '../../../arch/sim/description.ts';
import { makeMachine } from '../../../arch/sim/machine.ts';
import { iommu_probe_device } from '../../../drivers/iommu/probe.ts';
import { pci_read_config_word } from '../../../drivers/pci/access.ts';
import { pcie_portdrv_init } from '../../../drivers/pci/pcie/portdrv.ts';
import { pciInit } from '../../../drivers/pci/probe.ts';
import { pciBus } from '../../../drivers/pci/search.ts';
import type { pci_dev } from '../../../include/linux/pci.ts';
import { task_struct } from '../../../include/linux/sched.ts';
import { outParam } from '../../../include/linux/types.ts';
import { profiles } from '../../../include/sim/feature.ts';
import { installWorld, World, world } from '../../../include/sim/world.ts';
import { PCI_ACS_CTRL } from '../../../include/uapi/linux/pci_regs.ts';
import { parseCommandLine } from '../../../init/cmdline.ts';
import { boot } from '../../../init/main.ts';
import { memInit } from '../../../mm/mm_init.ts';
import type { Comparison } from '../report.ts';
import type { Shaped } from '../shape.ts';
import { describeMachine } from './machine.ts';
import type { acsParamsShape } from './records.ts';
import type { Rig } from './rig.ts';

type AcsParams = Shaped<typeof acsParamsShape>;

function control(pdev: pci_dev): number {
	const word = outParam(0);
	pci_read_config_word(pdev, pdev.acs_cap + PCI_ACS_CTRL, word);
	return word.value;
}

/** Lines about ACS, in order. */
function acsLines(log: readonly string[]): string[] {
	return log.filter((line) => line.includes('ACS'));
}

/** Whether the lines are among others in the same order. */
function isSubsequence(lines: readonly string[], of: readonly string[]): boolean {
	let at = 0;
	for (const line of of) if (at < lines.length && line === lines[at]) at++;
	return at === lines.length;
}

/** The machine; its firmware left the words as built. */
function machineOf(rig: Rig, r: AcsParams, added: boolean): MachineDescription {
	const topology = rig.topology(r.machine);
	const by = new Map(r.devs.map((d) => [d.bdf, d]));
	return describeMachine(
		{ ...topology, iommu: r.iommu },
		{
			cpu_vendor: 0,
			cpu_family: 6,
			acs: topology.devs.map(({ bdf }) => by.get(bdf)?.ctrl_before ?? null),
			acs_cap: topology.devs.map(({ bdf }) => by.get(bdf)?.cap ?? null),
			ids: topology.devs.map(({ vendor, device }) => [vendor, device]),
			memory: 0,
			strictAcs: !added,
		},
	);
}

/** Add the machine's hierarchies to a running kernel; no driver is bound yet. */
function addToRunning(description: MachineDescription, rig: Rig, cmdline: string): void {
	const machine = makeMachine(description);
	const { profile } = rig;
	installWorld(new World(machine, profile, profiles[profile], new task_struct()));
	parseCommandLine(cmdline);
	memInit(machine);
	pciInit(machine);
	for (const { dev } of pciBus().devices) iommu_probe_device(dev);
}

/** Replay booting with a command line. */
export function replayAcsParams(rig: Rig, r: AcsParams, found: Comparison): void {
	const added = r.devs.some(({ ctrl_scan }) => ctrl_scan !== undefined);
	rig.end();
	installWorld(null);
	if (added) {
		addToRunning(machineOf(rig, r, true), rig, r.cmdline);
		for (const { bdf, ctrl_scan } of r.devs)
			if (ctrl_scan !== undefined)
				found.equal(`${bdf} ctrl_scan`, ctrl_scan, control(rig.named(bdf)));
		pcie_portdrv_init();
	} else {
		boot(machineOf(rig, r, false), rig.profile, { cmdline: r.cmdline });
	}
	for (const { bdf, ctrl } of r.devs) {
		const pdev = rig.named(bdf);
		if (pdev.acs_cap === 0) rig.bad(`devs: ${bdf} is no PCI Express function`);
		found.equal(`${bdf} ctrl`, ctrl, control(pdev));
	}
	const lines = acsLines(world().log);
	if (added) found.equal('log has the lines', true, isSubsequence(lines, r.log));
	else found.equal('log', r.log, lines);
	installWorld(null);
}
