// SPDX-License-Identifier: GPL-2.0-only
/** Configuration space accesses of a function. */
import type { pci_dev } from '../../include/linux/pci.ts';
import type { int, out, u8, u16, u32 } from '../../include/linux/types.ts';
import { shouldFail } from '../../include/sim/fault_injection.ts';

/** No error. */
export const PCIBIOS_SUCCESSFUL = 0;
/** The offset is not a multiple of the size. */
export const PCIBIOS_BAD_REGISTER_NUMBER = 0x87;
/** Nobody answers. */
export const PCIBIOS_DEVICE_NOT_FOUND = 0x86;

function read(dev: pci_dev, where: int, size: number, val: out<number>): int {
	if (where & (size - 1)) return PCIBIOS_BAD_REGISTER_NUMBER;
	if (shouldFail('pci_read_config')) {
		val.value = 2 ** (8 * size) - 1;
		return PCIBIOS_DEVICE_NOT_FOUND;
	}
	val.value = dev.config.readConfig(where, size);
	return PCIBIOS_SUCCESSFUL;
}

function write(dev: pci_dev, where: int, size: number, val: number): int {
	if (where & (size - 1)) return PCIBIOS_BAD_REGISTER_NUMBER;
	if (shouldFail('pci_write_config')) return PCIBIOS_DEVICE_NOT_FOUND;
	dev.config.writeConfig(where, size, val);
	return PCIBIOS_SUCCESSFUL;
}

/**
 * Read a byte of configuration space.
 *
 * @param dev - the function
 * @param where - offset
 * @param val - out: the byte; all ones when nobody answers
 * @retval 0 read
 * @retval 0x86 PCIBIOS_DEVICE_NOT_FOUND: nobody answers
 * @kernel drivers/pci/access.c
 */
export function pci_read_config_byte(dev: pci_dev, where: int, val: out<u8>): int {
	return read(dev, where, 1, val);
}

/**
 * Read a word of configuration space.
 *
 * @param dev - the function
 * @param where - offset
 * @param val - out: the word; all ones when nobody answers
 * @retval 0 read
 * @retval 0x86 PCIBIOS_DEVICE_NOT_FOUND: nobody answers
 * @retval 0x87 PCIBIOS_BAD_REGISTER_NUMBER: odd offset; `val` is left alone
 * @kernel drivers/pci/access.c
 */
export function pci_read_config_word(dev: pci_dev, where: int, val: out<u16>): int {
	return read(dev, where, 2, val);
}

/**
 * Read a double word of configuration space.
 *
 * @param dev - the function
 * @param where - offset
 * @param val - out: the double word; all ones when nobody answers
 * @retval 0 read
 * @retval 0x86 PCIBIOS_DEVICE_NOT_FOUND: nobody answers
 * @retval 0x87 PCIBIOS_BAD_REGISTER_NUMBER: unaligned offset; `val` is left alone
 * @kernel drivers/pci/access.c
 */
export function pci_read_config_dword(dev: pci_dev, where: int, val: out<u32>): int {
	return read(dev, where, 4, val);
}

/**
 * Write a byte of configuration space.
 *
 * @param dev - the function
 * @param where - offset
 * @param val - the byte
 * @retval 0 written
 * @retval 0x86 PCIBIOS_DEVICE_NOT_FOUND: nobody answers
 * @kernel drivers/pci/access.c
 */
export function pci_write_config_byte(dev: pci_dev, where: int, val: u8): int {
	return write(dev, where, 1, val);
}

/**
 * Write a word of configuration space.
 *
 * @param dev - the function
 * @param where - offset
 * @param val - the word
 * @retval 0 written
 * @retval 0x86 PCIBIOS_DEVICE_NOT_FOUND: nobody answers
 * @retval 0x87 PCIBIOS_BAD_REGISTER_NUMBER: odd offset
 * @kernel drivers/pci/access.c
 */
export function pci_write_config_word(dev: pci_dev, where: int, val: u16): int {
	return write(dev, where, 2, val);
}

/**
 * Write a double word of configuration space.
 *
 * @param dev - the function
 * @param where - offset
 * @param val - the double word
 * @retval 0 written
 * @retval 0x86 PCIBIOS_DEVICE_NOT_FOUND: nobody answers
 * @retval 0x87 PCIBIOS_BAD_REGISTER_NUMBER: unaligned offset
 * @kernel drivers/pci/access.c
 */
export function pci_write_config_dword(dev: pci_dev, where: int, val: u32): int {
	return write(dev, where, 4, val);
}
