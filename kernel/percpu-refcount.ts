// SPDX-License-Identifier: GPL-2.0-only
/** The functions of include/linux/percpu-refcount.ts under the place of lib/percpu-refcount.c. */
export * from '../include/linux/percpu-refcount.ts';
