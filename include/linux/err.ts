// SPDX-License-Identifier: GPL-2.0-only
/** `ERR_PTR` is the union `T | errno`: a pointer is an object, an error a negative number. */
import type { errno } from './types.ts';

/**
 * Whether a returned pointer is an error.
 *
 * @param ptr - an object, NULL or a negative errno
 * @kernel include/linux/err.h
 */
export function IS_ERR<T extends object | null>(ptr: T | errno): ptr is errno {
	return typeof ptr === 'number';
}
