// SPDX-License-Identifier: GPL-2.0-only
/**
 * C's integer types by name, so that C prototypes can be read back from the TypeScript ones.
 *
 * Guarantee: a 64-bit C integer is a `bigint`, a narrower one a `number`; the kinds of address are
 * flavours of `bigint`: sums need no cast, one kind where another is declared does not compile.
 * Mechanism: a flavour carries an optional tag that no value ever has. A device-private PFN is
 * opaque: it is no `bigint` at all and has no arithmetic.
 */

/** A `T` that is told apart from the other flavours of `T`; plain `T` values are accepted. */
export type Flavour<T, Tag extends string> = T & { readonly __flavour?: Tag };

export type bool = boolean;
export type char = number;
export type u8 = number;
export type u16 = number;
export type u32 = number;
export type s32 = number;
export type u64 = bigint;
export type s64 = bigint;
export type int = number;
export type unsigned_int = number;
export type long = bigint;
export type unsigned_long = bigint;
export type size_t = bigint;
export type ssize_t = bigint;
export type loff_t = bigint;
export type pgoff_t = bigint;

/** Allocation flags; only whether the caller may sleep is looked at. */
export type gfp_t = number;
/** Bits of `VM_FAULT_*`. */
export type vm_fault_t = number;
/** Bits of `VM_*`. */
export type vm_flags_t = bigint;
/** A negative errno, or 0. */
export type errno = number;

/** CPU physical address. */
export type phys_addr_t = Flavour<bigint, 'phys_addr'>;
/** Address that a device puts on its bus: a bus address, an IOVA, or a physical address. */
export type dma_addr_t = Flavour<bigint, 'dma_addr'>;
/** Address as PCI BARs and bridge windows hold it. */
export type pci_bus_addr_t = Flavour<bigint, 'pci_bus_addr'>;
/** CPU physical address of a resource. */
export type resource_size_t = Flavour<bigint, 'phys_addr'>;
/** Page frame number: a physical address without its low 12 bits. */
export type pfn_t = Flavour<bigint, 'pfn'>;

/** An out-parameter: what C passes as `T *` for one value. */
export interface out<T> {
	value: T;
}

/**
 * Make an out-parameter that holds `value`.
 *
 * @param value - what it holds until the callee stores to it
 */
export function outParam<T>(value: T): out<T> {
	return { value };
}

export const GFP_KERNEL: gfp_t = 0xcc0;
export const GFP_ATOMIC: gfp_t = 0x820;
export const GFP_NOWAIT: gfp_t = 0x2800;
export const GFP_USER: gfp_t = 0x100cc0;
export const GFP_HIGHUSER_MOVABLE: gfp_t = 0x100cca;
export const __GFP_DIRECT_RECLAIM: gfp_t = 0x400;
export const __GFP_ZERO: gfp_t = 0x100;
export const __GFP_COMP: gfp_t = 0x40000;
export const __GFP_NOFAIL: gfp_t = 0x8000;

export const PAGE_SHIFT = 12n;
export const PAGE_SIZE = 4096n;
export const PAGE_MASK = ~0xfffn;
export const PMD_SHIFT = 21n;
export const PMD_SIZE = 1n << PMD_SHIFT;
export const PMD_MASK = ~(PMD_SIZE - 1n);
export const PUD_SHIFT = 30n;
export const PUD_SIZE = 1n << PUD_SHIFT;
export const PUD_MASK = ~(PUD_SIZE - 1n);
export const PGDIR_SHIFT = 39n;
export const PGDIR_SIZE = 1n << PGDIR_SHIFT;
export const PGDIR_MASK = ~(PGDIR_SIZE - 1n);
export const PTRS_PER_PTE = 512;
export const HPAGE_PMD_ORDER = 9;
export const HPAGE_PMD_NR = 512;
export const HPAGE_PMD_SIZE = PMD_SIZE;
export const ULONG_MAX = (1n << 64n) - 1n;
export const U64_MAX = ULONG_MAX;
export const UINT_MAX = 0xffffffff;
export const SIZE_MAX = ULONG_MAX;
