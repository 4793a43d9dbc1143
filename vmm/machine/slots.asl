/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that come to and go from slots of the PCI root bus: what the slots' objects have in
 * common. Those are in the SSDT made at run time, one for each slot that has a part in this
 * (\_SB.PCI0.Snnn), with SLNT, which notifies those of a set of slots. ACPI 6.4, 5.6.6 and 6.3.
 *
 * The registers are those of vmm/pci/root.c.
 */
#include "vmm/machine/platform.h"

DefinitionBlock ("", "SSDT", 2, "EBB", "EBBSLOTS", 1)
{
    External (\_SB.PCI0, DeviceObj)
    External (\_SB.PCI0.SLNT, MethodObj)

    Scope (\_SB.PCI0)
    {
        OperationRegion (SLRG, SystemIO, PLATFORM_PCI_SLOTS_PORT, PLATFORM_PCI_SLOTS_SIZE)
        Field (SLRG, DWordAcc, NoLock, WriteAsZeros)
        {
            CAME, 32,
            ASKD, 32,
            EJCT, 32,
            ANSW, 32
        }

        /* Of the generic event device: something is to be told. Reading takes it. */
        Method (SLEV, 0, Serialized)
        {
            SLNT (CAME, 1) /* device check */
            SLNT (ASKD, 3) /* eject request */
        }

        /* _EJ0 of the slots in this set */
        Method (SLEJ, 1, Serialized)
        {
            EJCT = Arg0
        }

        /* _OST of a slot: its number, what was asked for, how it went. */
        Method (SLOS, 3, Serialized)
        {
            If (((Arg1 & 0xFF) == 3) && ((Arg2 & 0xFF) != 0) && ((Arg2 & 0xFF) < 0x84))
            {
                ANSW = Arg0 | PLATFORM_PCI_SLOT_KEPT
            }
        }
    }

    Scope (\_SB)
    {
        /* The registers must belong to a device. */
        Device (SRES)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 2)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, PLATFORM_PCI_SLOTS_PORT, PLATFORM_PCI_SLOTS_PORT, 1,
                    PLATFORM_PCI_SLOTS_SIZE)
            })
        }
    }
}
