/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PC platform's fixed numbers: physical addresses, I/O ports, interrupt inputs, register bits.
 *
 * Read by the emulated devices, the ACPI generator and the DSDT source, so that all agree. The
 * DSDT is compiled by iasl, whose preprocessor knows `#define NAME number` only: no casts, no
 * suffixes, no expressions in here.
 *
 * GSI n is input n of the one I/O APIC; hardware-reduced ACPI shows the guest no 8259 pair.
 */
#ifndef VMM_MACHINE_PLATFORM_H
#define VMM_MACHINE_PLATFORM_H

/* Physical addresses below 4 GiB. RAM ends at PLATFORM_LOW_RAM_END at the latest. */
#define PLATFORM_LOW_RAM_END   0xC0000000
#define PLATFORM_WINDOW32_BASE 0xC0000000 /* 32-bit PCI memory window, 512 MiB */
#define PLATFORM_WINDOW32_SIZE 0x20000000
/*
 * PCI configuration space, 1 MiB a bus; reserved is what 256 of them take. Only the buses that exist
 * are announced: Linux looks for devices on every bus up to the last one, 32 accesses each, and each
 * of them leaves the guest.
 */
#define PLATFORM_ECAM_BASE   0xE0000000
#define PLATFORM_ECAM_SIZE   0x10000000
#define PLATFORM_PCI_BUSES   256
#define PLATFORM_IOAPIC_BASE 0xFEC00000
#define PLATFORM_IOAPIC_SIZE 0x00001000
#define PLATFORM_LAPIC_BASE  0xFEE00000
#define PLATFORM_LAPIC_SIZE  0x00100000 /* also where MSI addresses point */
/* KVM on Intel hosts keeps three pages and one page here for real mode. Nothing else is there. */
#define PLATFORM_KVM_TSS_BASE      0xFFFBD000
#define PLATFORM_KVM_IDENTITY_BASE 0xFFFBC000

/* ISA devices. */
#define PLATFORM_COM1_PORT 0x3F8
#define PLATFORM_COM2_PORT 0x2F8
#define PLATFORM_COM3_PORT 0x3E8
#define PLATFORM_COM4_PORT 0x2E8
#define PLATFORM_COM_SIZE  8
#define PLATFORM_COM1_GSI  4 /* COM3 too; edge, active high */
#define PLATFORM_COM2_GSI  3 /* COM4 too */

#define PLATFORM_RTC_PORT 0x70 /* index; data at +1 */
#define PLATFORM_RTC_SIZE 2
#define PLATFORM_RTC_GSI  8 /* edge, active high */

#define PLATFORM_PVPANIC_PORT 0x505

/*
 * PCI: configuration address at 0xCF8 (dwords only), data at 0xCFC. The byte at 0xCF9 is the reset
 * register; its region must be put on the port bus before the address register's.
 */
#define PLATFORM_PCI_ADDRESS_PORT 0xCF8
#define PLATFORM_PCI_DATA_PORT    0xCFC
#define PLATFORM_PCI_IO_BASE      0xD00 /* ports of BARs: from here to the last one */
#define PLATFORM_PCI_IO_SIZE      0xF300
#define PLATFORM_PCI_INTX_GSI     16 /* 16..19; pin p of slot s is 16 + (s + p - 1) % 4; level */
#define PLATFORM_PCI_INTX_COUNT   4

/* Reset register (FADT RESET_REG): writing this byte resets the machine; reads as 0. */
#define PLATFORM_RESET_PORT  0xCF9
#define PLATFORM_RESET_VALUE 0x06

/*
 * ACPI sleep control and status registers, one byte each (ACPI 6.4, 4.8.3.7). Control: bit 5
 * SLP_EN, bits 4:2 SLP_TYP; a write with SLP_EN and type 5 powers the machine off. Reads as 0.
 * Status: reads as 0 (WAK_STS never set), writes do nothing.
 */
#define PLATFORM_SLEEP_CONTROL_PORT 0x600
#define PLATFORM_SLEEP_STATUS_PORT  0x601
#define PLATFORM_SLEEP_ENABLE       0x20
#define PLATFORM_SLEEP_TYPE_SHIFT   2
#define PLATFORM_SLEEP_TYPE_MASK    0x07
#define PLATFORM_SLEEP_TYPE_S5      5

/*
 * Generic event device: one byte of pending events, cleared by reading it. The source sets its bit,
 * then pulses the GSI (edge, active high). Writes do nothing.
 */
#define PLATFORM_GED_PORT               0x604
#define PLATFORM_GED_SIZE               1
#define PLATFORM_GED_GSI                9
#define PLATFORM_GED_EVENT_POWER_BUTTON 0x01
#define PLATFORM_GED_EVENT_PCI_SLOTS    0x02

/*
 * Slots of the PCI root bus that devices come to and go from: four registers of 32 bits
 * (vmm/pci/root.c). Only in machines whose root bus has such slots.
 */
#define PLATFORM_PCI_SLOTS_PORT 0x610
#define PLATFORM_PCI_SLOTS_SIZE 16
#define PLATFORM_PCI_SLOT_KEPT  0x100

#endif
