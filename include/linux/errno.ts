// SPDX-License-Identifier: GPL-2.0-only
/** The kernel's error numbers, positive as in `include/uapi/asm-generic/errno*.h`; functions return them negated. */
export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOTTY = 25;
export const ENOSPC = 28;
export const EMLINK = 31;
export const ERANGE = 34;
export const ENOLCK = 37;
export const ENODATA = 61;
export const EREMOTEIO = 121;
export const EOVERFLOW = 75;
export const EOPNOTSUPP = 95;
export const EADDRINUSE = 98;
export const ETIMEDOUT = 110;
export const EHWPOISON = 133;
export const ERESTARTSYS = 512;
export const ERESTARTNOINTR = 513;
export const EPROBE_DEFER = 517;

/** Names by number, for reports and traces. */
export const errnoNames: Readonly<Record<number, string>> = {
	1: 'EPERM',
	2: 'ENOENT',
	3: 'ESRCH',
	4: 'EINTR',
	5: 'EIO',
	6: 'ENXIO',
	9: 'EBADF',
	11: 'EAGAIN',
	12: 'ENOMEM',
	13: 'EACCES',
	14: 'EFAULT',
	16: 'EBUSY',
	17: 'EEXIST',
	19: 'ENODEV',
	22: 'EINVAL',
	25: 'ENOTTY',
	28: 'ENOSPC',
	31: 'EMLINK',
	34: 'ERANGE',
	37: 'ENOLCK',
	61: 'ENODATA',
	75: 'EOVERFLOW',
	95: 'EOPNOTSUPP',
	98: 'EADDRINUSE',
	110: 'ETIMEDOUT',
	121: 'EREMOTEIO',
	133: 'EHWPOISON',
	512: 'ERESTARTSYS',
	513: 'ERESTARTNOINTR',
	517: 'EPROBE_DEFER',
};
