/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of the ACPI namespace that every machine has: sleep state S5, the PCI root bridge, the
 * configuration space it claims, the clock, and the generic event device with the power button.
 * ACPI 6.4, PCI Firmware Specification 3.3 section 4.
 *
 * slots.asl has what is there only where devices come to and go from the PCI root bus.
 * What differs between machines is in the SSDT that acpi_aml.c encodes: PCI windows and interrupt
 * routing (\_SB.PCI0._CRS, _PRT), serial ports, the panic device, processors.
 *
 * The guest interprets this code; it trusts it. Nothing here writes to registers other than those
 * named in platform.h.
 */
#include "vmm/machine/platform.h"

DefinitionBlock ("", "DSDT", 2, "EBB", "EBBDSDT", 1)
{
    External (\_SB.PCI0.SLEV, MethodObj)

    /* SLP_TYP for both sleep registers; with hardware-reduced ACPI only the first counts. */
    Name (\_S5, Package () { PLATFORM_SLEEP_TYPE_S5, 0, 0, 0 })

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_UID, 0)

            /*
             * The system may take over hot-plug, power management events, error reporting and the
             * capability structure; not the standard hot-plug controller, for there is none.
             */
            Method (_OSC, 4, NotSerialized)
            {
                CreateDWordField (Arg3, 0, CDW1)
                If (Arg0 != ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
                {
                    CDW1 |= 0x04 /* unrecognized UUID */
                    Return (Arg3)
                }
                If ((Arg1 != 1) || (Arg2 < 3))
                {
                    CDW1 |= 0x08 /* unrecognized revision */
                    Return (Arg3)
                }
                CreateDWordField (Arg3, 8, CDW3)
                Local0 = CDW3 & 0x1D
                If (Local0 != CDW3)
                {
                    CDW1 |= 0x10 /* capabilities masked */
                }
                CDW3 = Local0
                Return (Arg3)
            }
        }

        /* The configuration space of MCFG, here of the largest machine, must belong to a device. */
        Device (MRES)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, PLATFORM_ECAM_BASE, PLATFORM_ECAM_SIZE)
                IO (Decode16, PLATFORM_SLEEP_CONTROL_PORT, PLATFORM_SLEEP_CONTROL_PORT, 1, 2)
                IO (Decode16, PLATFORM_GED_PORT, PLATFORM_GED_PORT, 1, PLATFORM_GED_SIZE)
            })
        }

        Device (RTC)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, PLATFORM_RTC_PORT, PLATFORM_RTC_PORT, 1, PLATFORM_RTC_SIZE)
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { PLATFORM_RTC_GSI }
            })
        }

        Device (PWRB)
        {
            Name (_HID, EisaId ("PNP0C0C"))
            Name (_UID, 0)
        }

        Device (GED)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { PLATFORM_GED_GSI }
            })
            OperationRegion (EVTR, SystemIO, PLATFORM_GED_PORT, PLATFORM_GED_SIZE)
            Field (EVTR, ByteAcc, NoLock, WriteAsZeros)
            {
                EVTS, 8
            }

            /* Reading the register takes all pending events. */
            Method (_EVT, 1, Serialized)
            {
                Local0 = EVTS
                If (Local0 & PLATFORM_GED_EVENT_POWER_BUTTON)
                {
                    Notify (PWRB, 0x80)
                }
                If ((Local0 & PLATFORM_GED_EVENT_PCI_SLOTS) && CondRefOf (\_SB.PCI0.SLEV))
                {
                    \_SB.PCI0.SLEV ()
                }
            }
        }
    }
}
