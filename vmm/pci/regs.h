/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Configuration registers: offsets and bits, with the specifications' names. PCI Local Bus 3.0
 * chapter 6, PCI Express Base Specification 5.0 chapter 7.
 */
#ifndef VMM_PCI_REGS_H
#define VMM_PCI_REGS_H

#define PCI_VENDOR_ID           0x00
#define PCI_DEVICE_ID           0x02
#define PCI_COMMAND             0x04
#define PCI_STATUS              0x06
#define PCI_REVISION_ID         0x08
#define PCI_CLASS_CODE          0x09 /* 3 bytes */
#define PCI_CACHE_LINE_SIZE     0x0c
#define PCI_HEADER_TYPE         0x0e
#define PCI_BAR0                0x10
#define PCI_SUBSYSTEM_VENDOR_ID 0x2c
#define PCI_SUBSYSTEM_ID        0x2e
#define PCI_CAPABILITIES        0x34
#define PCI_INTERRUPT_LINE      0x3c
#define PCI_INTERRUPT_PIN       0x3d
#define PCI_HEADER_SIZE         0x40

#define PCI_COMMAND_MEMORY       0x0002
#define PCI_COMMAND_BUS_MASTER   0x0004
#define PCI_COMMAND_PARITY       0x0040
#define PCI_COMMAND_SERR         0x0100
#define PCI_COMMAND_INTX_DISABLE 0x0400

#define PCI_STATUS_INTERRUPT    0x0008
#define PCI_STATUS_CAPABILITIES 0x0010

#define PCI_BAR_64BIT        0x4
#define PCI_BAR_PREFETCHABLE 0x8
#define PCI_BAR_FLAGS        0xf

#define PCI_CAP_ID_EXPRESS 0x10
#define PCI_CAP_ID_MSIX    0x11

/* MSI-X capability, offsets from its start. */
#define PCI_MSIX_CONTROL               0x02
#define PCI_MSIX_TABLE                 0x04
#define PCI_MSIX_PBA                   0x08
#define PCI_MSIX_SIZE                  0x0c
#define PCI_MSIX_CONTROL_FUNCTION_MASK 0x4000
#define PCI_MSIX_CONTROL_ENABLE        0x8000
#define PCI_MSIX_VECTORS_MAX           2048

/* MSI-X table entry. */
#define PCI_MSIX_ENTRY_SIZE         16
#define PCI_MSIX_ENTRY_ADDRESS_LOW  0x0
#define PCI_MSIX_ENTRY_ADDRESS_HIGH 0x4
#define PCI_MSIX_ENTRY_DATA         0x8
#define PCI_MSIX_ENTRY_CONTROL      0xc
#define PCI_MSIX_ENTRY_MASKED       0x1

/* PCI Express capability, version 2. */
#define PCI_EXPRESS_SIZE                0x3c
#define PCI_EXPRESS_CAPABILITIES        0x02
#define PCI_EXPRESS_DEVICE_CAPABILITIES 0x04
#define PCI_EXPRESS_DEVICE_CONTROL      0x08

#endif
