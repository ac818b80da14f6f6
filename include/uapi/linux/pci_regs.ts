// SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note
/** Offsets and bits of PCI configuration space, as far as the model reads it. */

export const PCI_CFG_SPACE_SIZE = 256;
export const PCI_CFG_SPACE_EXP_SIZE = 4096;
export const PCI_STD_NUM_BARS = 6;

export const PCI_VENDOR_ID = 0x00;
export const PCI_DEVICE_ID = 0x02;
export const PCI_COMMAND = 0x04;
export const PCI_COMMAND_IO = 0x1;
export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const PCI_STATUS = 0x06;
export const PCI_STATUS_CAP_LIST = 0x10;
export const PCI_CLASS_REVISION = 0x08;
export const PCI_HEADER_TYPE = 0x0e;
export const PCI_HEADER_TYPE_MASK = 0x7f;
export const PCI_HEADER_TYPE_NORMAL = 0;
export const PCI_HEADER_TYPE_BRIDGE = 1;
export const PCI_HEADER_TYPE_CARDBUS = 2;
export const PCI_HEADER_TYPE_MFD = 0x80;
export const PCI_BASE_ADDRESS_0 = 0x10;
export const PCI_SECONDARY_BUS = 0x19;
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_CAP_LIST_ID = 0;
export const PCI_CAP_LIST_NEXT = 1;

export const PCI_CAP_ID_EXP = 0x10;
/** PCI Express capabilities register, below the capability. */
export const PCI_EXP_FLAGS = 0x02;
export const PCI_EXP_FLAGS_TYPE = 0x00f0;
export const PCI_EXP_TYPE_ENDPOINT = 0x0;
export const PCI_EXP_TYPE_LEG_END = 0x1;
export const PCI_EXP_TYPE_ROOT_PORT = 0x4;
export const PCI_EXP_TYPE_UPSTREAM = 0x5;
export const PCI_EXP_TYPE_DOWNSTREAM = 0x6;
export const PCI_EXP_TYPE_PCI_BRIDGE = 0x7;
export const PCI_EXP_TYPE_PCIE_BRIDGE = 0x8;
export const PCI_EXP_TYPE_RC_END = 0x9;
export const PCI_EXP_TYPE_RC_EC = 0xa;

export const PCI_EXT_CAP_ID_ACS = 0x0d;
export const PCI_EXT_CAP_ID_ATS = 0x0f;
/** ATS control word, from the start of its capability. */
export const PCI_ATS_CTRL = 0x06;
/** The function may issue translation requests and translated requests. */
export const PCI_ATS_CTRL_ENABLE = 0x8000;
export const PCI_EXT_CAP_ID_SRIOV = 0x10;

/** ACS capability register, below the capability. */
export const PCI_ACS_CAP = 0x04;
/** ACS control register, below the capability. */
export const PCI_ACS_CTRL = 0x06;
/** Source validation. */
export const PCI_ACS_SV = 0x0001;
/** Translation blocking. */
export const PCI_ACS_TB = 0x0002;
/** P2P request redirect. */
export const PCI_ACS_RR = 0x0004;
/** P2P completion redirect. */
export const PCI_ACS_CR = 0x0008;
/** Upstream forwarding. */
export const PCI_ACS_UF = 0x0010;
/** P2P egress control. */
export const PCI_ACS_EC = 0x0020;
/** Direct translated P2P. */
export const PCI_ACS_DT = 0x0040;
