// SPDX-License-Identifier: GPL-2.0-only
/**
 * Layout of x86-64 page-table entries, as hardware and kernel share it.
 *
 * ```
 *   63  62..59  58..52  51........12  11..9   8   7   6   5   4   3   2   1   0
 *  | NX |  pkey | soft |     PFN     | soft | G |PSE| D | A |PCD|PWT| U |RW | P |
 *
 *  soft bits used: 9 special, 10 uffd-wp, 58 (SOFTW4) devmap
 *  PROT_NONE: bit 8 (G) set while P is clear
 *
 *  non-present, bits P and PROT_NONE clear:
 *   63..59   58..........9   8   7   6   5   4   3   2   1   0
 *  |  type | ~offset       | 0 | 0 | 0 | 0 | 0 | E | F | SD| 0 |   E exclusive, F uffd-wp
 * ```
 */
export const _PAGE_PRESENT = 1n << 0n;
export const _PAGE_RW = 1n << 1n;
export const _PAGE_USER = 1n << 2n;
export const _PAGE_PWT = 1n << 3n;
export const _PAGE_PCD = 1n << 4n;
export const _PAGE_ACCESSED = 1n << 5n;
export const _PAGE_DIRTY = 1n << 6n;
export const _PAGE_PSE = 1n << 7n;
export const _PAGE_GLOBAL = 1n << 8n;
export const _PAGE_PROTNONE = 1n << 8n;
export const _PAGE_SPECIAL = 1n << 9n;
export const _PAGE_UFFD_WP = 1n << 10n;
export const _PAGE_DEVMAP = 1n << 58n;
export const _PAGE_NX = 1n << 63n;
/** Bits 51..12. */
export const PTE_PFN_MASK = 0x000f_ffff_ffff_f000n;
export const PTE_FLAGS_MASK = ~PTE_PFN_MASK & 0xffff_ffff_ffff_ffffn;

export const _PAGE_SWP_EXCLUSIVE = 1n << 3n;
export const _PAGE_SWP_UFFD_WP = 1n << 2n;
export const _PAGE_SWP_SOFT_DIRTY = 1n << 1n;
export const SWP_TYPE_BITS = 5n;
export const SWP_OFFSET_FIRST_BIT = 9n;
export const SWP_OFFSET_BITS = 50n;

/** Error code of a page fault as x86 pushes it. */
export const X86_PF_PROT = 1 << 0;
export const X86_PF_WRITE = 1 << 1;
export const X86_PF_USER = 1 << 2;
export const X86_PF_INSTR = 1 << 4;
