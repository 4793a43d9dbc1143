/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options that other monitors have, and management programs write, and what to say of them: which
 * thing is not there, and where there is one, the way to do without. See internal.h.
 */
#include "base/num.h"
#include "qmp/words.h"
#include "vmm/cmdline/internal.h"

static const struct {
	const char *names; /* words */
	const char *reason;
} missing_options[] = {
	{"drive blockdev hda hdb hdc hdd fda fdb sd mtdblock cdrom", "there are no disks in this "
								     "version"},
	{"netdev", "there is no network in this version"},
	{"bios pflash", "there is no firmware; allowed: -kernel"},
	{"option-rom no-fd-bootchk win2k-hack", "there is no firmware"},
	{"no-acpi", "guests learn of CPUs, NUMA nodes and memory devices from ACPI; libvirt gives "
		    "them ACPI with <features><acpi/></features>"},
	{"acpitable", "there are no other ACPI tables than the machine's own"},
	{"fw_cfg", "there is no firmware, and so no channel for its files; allowed: -append"},
	{"dtb", "a PC has no device tree"},
	{"usbdevice", "nothing can be connected to USB ports in this version; the serial console "
		      "takes input"},
	{"vnc spice k alt-grab ctrl-grab full-screen", "there is no display"},
	{"soundhw", "there is no sound"},
	{"fsdev virtfs", "no folders of the host are shared in this version"},
	{"tpmdev", "there is no TPM in this version"},
	{"watchdog", "there is no watchdog in this version"},
	{"gdb s", "there is no debugger's stub in this version"},
	{"loadvm", "there are no snapshots in this version; a machine that was saved to a file is "
		   "loaded by -incoming file:PATH"},
	{"snapshot", "there are no disks in this version"},
	{"runas chroot", "ebb keeps the user and the folder that it is started with"},
	{"readconfig writeconfig set", "options are read from the command line only"},
	{"icount", "guests run on the processor itself"},
	{"trace d D", "there is no such log; -metrics and the monitors tell what happens"},
};

const char *cmdline_missing_reason(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(missing_options); i++) {
		if (words_have(missing_options[i].names, name))
			return missing_options[i].reason;
	}
	return NULL;
}
