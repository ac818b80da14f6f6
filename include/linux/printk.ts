// SPDX-License-Identifier: GPL-2.0-only
/** printk(): lines go to the world's log, where dmesg would show them. */
import { world } from '../sim/world.ts';

/**
 * Print a line to the kernel log.
 *
 * @param message - one line, without the newline
 * @kernel include/linux/printk.h
 */
export function printk(message: string): void {
	world().log.push(message);
}

/**
 * Print a line at level INFO.
 *
 * @param message - one line
 * @kernel include/linux/printk.h
 */
export function pr_info(message: string): void {
	printk(message);
}

/**
 * Print a line at level WARNING.
 *
 * @param message - one line
 * @kernel include/linux/printk.h
 */
export function pr_warn(message: string): void {
	printk(message);
}

/**
 * Print a line at level ERR.
 *
 * @param message - one line
 * @kernel include/linux/printk.h
 */
export function pr_err(message: string): void {
	printk(message);
}
