/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Configuration registers: offsets and bits, with the specifications' names. PCI Local Bus 3.0
 * chapter 6, PCI Express Base Specification 5.0 chapter 7.
 */
#ifndef VMM_PCI_REGS_H
#define VMM_PCI_REGS_H

#define PCI_VENDOR_ID       0x00
#define PCI_DEVICE_ID       0x02
#define PCI_COMMAND         0x04
#define PCI_STATUS          0x06
#define PCI_REVISION_ID     0x08
#define PCI_CLASS_CODE      0x09 /* 3 bytes */
#define PCI_CACHE_LINE_SIZE 0x0c
#define PCI_HEADER_TYPE     0x0e
#define PCI_BAR0            0x10
/* Type 0 header. */
#define PCI_SUBSYSTEM_VENDOR_ID 0x2c
#define PCI_SUBSYSTEM_ID        0x2e
/* Type 1 header (bridges). */
#define PCI_PRIMARY_BUS         0x18
#define PCI_SECONDARY_BUS       0x19
#define PCI_SUBORDINATE_BUS     0x1a
#define PCI_IO_BASE             0x1c
#define PCI_IO_LIMIT            0x1d
#define PCI_MEMORY_BASE         0x20
#define PCI_MEMORY_LIMIT        0x22
#define PCI_PREFETCH_BASE       0x24
#define PCI_PREFETCH_LIMIT      0x26
#define PCI_PREFETCH_BASE_HIGH  0x28
#define PCI_PREFETCH_LIMIT_HIGH 0x2c
#define PCI_BRIDGE_CONTROL      0x3e
/* Both. */
#define PCI_CAPABILITIES   0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN  0x3d
#define PCI_HEADER_SIZE    0x40

#define PCI_COMMAND_IO           0x0001
#define PCI_COMMAND_MEMORY       0x0002
#define PCI_COMMAND_BUS_MASTER   0x0004
#define PCI_COMMAND_PARITY       0x0040
#define PCI_COMMAND_SERR         0x0100
#define PCI_COMMAND_INTX_DISABLE 0x0400

#define PCI_STATUS_INTERRUPT    0x0008
#define PCI_STATUS_CAPABILITIES 0x0010

#define PCI_HEADER_TYPE_BRIDGE   0x01
#define PCI_HEADER_MULTIFUNCTION 0x80

#define PCI_WINDOW_MASK      0xfff0 /* of memory base and limit: address bits 31:20 */
#define PCI_PREFETCH_64BIT   0x1    /* in the low nibble of base and limit */
#define PCI_BRIDGE_PARITY    0x01
#define PCI_BRIDGE_SERR      0x02
#define PCI_BRIDGE_RESET     0x40 /* of the secondary bus */
#define PCI_BRIDGE_BARS      2
#define PCI_CLASS_PCI_BRIDGE 0x060400

#define PCI_BAR_IO           0x1
#define PCI_BAR_64BIT        0x4
#define PCI_BAR_PREFETCHABLE 0x8
#define PCI_BAR_FLAGS        0xf
#define PCI_BAR_IO_FLAGS     0x3

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

/* PCI Express capability, version 2 (PCI Express 5.0, 7.5.3). */
#define PCI_EXPRESS_SIZE                0x3c
#define PCI_EXPRESS_CAPABILITIES        0x02
#define PCI_EXPRESS_DEVICE_CAPABILITIES 0x04
#define PCI_EXPRESS_DEVICE_CONTROL      0x08
#define PCI_EXPRESS_LINK_CAPABILITIES   0x0c
#define PCI_EXPRESS_LINK_CONTROL        0x10
#define PCI_EXPRESS_LINK_STATUS         0x12
#define PCI_EXPRESS_SLOT_CAPABILITIES   0x14
#define PCI_EXPRESS_SLOT_CONTROL        0x18
#define PCI_EXPRESS_SLOT_STATUS         0x1a
#define PCI_EXPRESS_ROOT_CONTROL        0x1c
#define PCI_EXPRESS_LINK_CAPABILITIES_2 0x2c
#define PCI_EXPRESS_LINK_CONTROL_2      0x30

#define PCI_EXPRESS_VERSION        0x0002
#define PCI_EXPRESS_TYPE_ENDPOINT  0x0000
#define PCI_EXPRESS_TYPE_ROOT_PORT 0x0040
#define PCI_EXPRESS_TYPE_ROOT_END  0x0090 /* root complex integrated endpoint */
#define PCI_EXPRESS_SLOT           0x0100 /* the port's link is connected to a slot */

/* One lane of 2.5 GT/s: what is emulated has no speed. */
#define PCI_LINK_SPEED         0x0001
#define PCI_LINK_WIDTH         0x0010
#define PCI_LINK_CAP_REPORTING 0x00100000 /* Data Link Layer Link Active Reporting Capable */
#define PCI_LINK_CAP_PORT(n)   ((uint32_t)(n) << 24)
#define PCI_LINK_DISABLE       0x0010
#define PCI_LINK_CLOCK         0x0040 /* Common Clock Configuration */
#define PCI_LINK_SYNCH         0x0080 /* Extended Synch */
#define PCI_LINK_ACTIVE        0x2000 /* Link Status: Data Link Layer Link Active */
#define PCI_LINK_2_SPEEDS      0x00000002

#define PCI_SLOT_CAP_BUTTON          0x00000001
#define PCI_SLOT_CAP_POWER           0x00000002 /* controller */
#define PCI_SLOT_CAP_ATTENTION       0x00000008 /* indicator */
#define PCI_SLOT_CAP_POWER_INDICATOR 0x00000010
#define PCI_SLOT_CAP_HOTPLUG         0x00000040
#define PCI_SLOT_CAP_NUMBER(n)       ((uint32_t)(n) << 19)

/* Slot Control: an enable for each event in Slot Status, what drives the slot. */
#define PCI_SLOT_ENABLE_BUTTON    0x0001
#define PCI_SLOT_ENABLE_PRESENCE  0x0008
#define PCI_SLOT_ENABLE_COMMAND   0x0010
#define PCI_SLOT_ENABLE_INTERRUPT 0x0020
#define PCI_SLOT_ENABLE_LINK      0x1000
#define PCI_SLOT_ATTENTION        0x00c0 /* indicator: the values below, two bits lower */
#define PCI_SLOT_ATTENTION_OFF    0x00c0
#define PCI_SLOT_INDICATOR        0x0300 /* of power */
#define PCI_SLOT_INDICATOR_ON     0x0100
#define PCI_SLOT_INDICATOR_BLINK  0x0200
#define PCI_SLOT_INDICATOR_OFF    0x0300
#define PCI_SLOT_POWER_OFF        0x0400 /* Power Controller Control */

#define PCI_SLOT_STATUS_BUTTON   0x0001
#define PCI_SLOT_STATUS_PRESENCE 0x0008 /* changed */
#define PCI_SLOT_STATUS_COMMAND  0x0010 /* completed */
#define PCI_SLOT_STATUS_PRESENT  0x0040
#define PCI_SLOT_STATUS_LINK     0x0100 /* Data Link Layer State Changed */

#endif
