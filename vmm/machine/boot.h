/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loading a kernel for direct boot, and the state in which the first CPU starts it.
 *
 * Two formats: a Linux bzImage by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst,
 * version 2.12 or later with a 64-bit entry), and an ELF vmlinux with a PVH entry note
 * (XEN_ELFNOTE_PHYS32_ENTRY; Xen docs/misc/pvh.pandoc), started in 32-bit protected mode.
 *
 *	0x001000  GDT, PVH start information
 *	0x007000  zero page (struct boot_params)
 *	0x009000  identity page tables of the first 4 GiB, 2 MiB pages
 *	0x020000  command line, 64 KiB at most
 *	0x0E0000  ACPI tables
 *	0x0F0000  SMBIOS entry points and tables, where kernels look for them
 *	0x0FFFF0  reset vector of the firmware that is not there: a few instructions that reset. A
 *	          kernel told of no other way jumps there (Linux with hardware-reduced ACPI does)
 *	0x100000  and up: kernel; initrd as high as its limit and low RAM allow, else above 4 GiB
 *
 * I1  Nothing is placed over anything else, and all of it is in RAM.
 * I2  The files are read straight into guest memory at each call and never changed; what a file
 *     says about sizes is checked against the file's size and the RAM before it is used.
 * I3  Everything a kernel may assume zero is written as zero, so that a second call on used memory
 *     (a reset) gives the same start as the first.
 *
 * Threads: none; no vCPU runs. Whoever made the kernel and initrd files is not trusted.
 */
#ifndef VMM_MACHINE_BOOT_H
#define VMM_MACHINE_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "base/num.h"

struct err;
struct gm;
struct machine_layout;

/* Where the ACPI tables go; reserved in every memory map given to the guest. */
#define BOOT_ACPI_BASE 0xE0000
#define BOOT_ACPI_SIZE 0x10000

/* And the SMBIOS tables: behind each other, at the start of the 64 KiB that are searched for them. */
#define BOOT_SMBIOS_BASE 0xF0000
#define BOOT_SMBIOS_SIZE 0xF000

/* Where a PC in real mode starts, and what a kernel jumps to for a reset; reserved likewise. */
#define BOOT_RESET_VECTOR_GPA 0xFFFF0

struct boot_config {
	const struct machine_layout *layout;
	int kernel_fd;                         /* regular files, read at explicit offsets */
	int initrd_fd;                         /* -1: none */
	const char *kernel_path, *initrd_path; /* for messages */
	const char *cmdline;
	uint64_t acpi_rsdp_gpa; /* 0: none */
};

/* How the first CPU starts. The other CPUs wait for INIT and SIPI as after any reset. */
struct boot_cpu_state {
	bool long_mode; /* else 32-bit protected mode without paging */
	uint64_t entry_gpa;
	uint64_t info_gpa;  /* zero page in RSI, or PVH start information in EBX */
	uint64_t stack_gpa; /* grows down */
	uint64_t gdt_gpa;
	uint64_t pml4_gpa; /* long mode only */
};

/*
 * Write kernel, initrd, command line and boot information into guest memory. 0 or -EINVAL, -EFBIG
 * (does not fit), -EIO and other read errors, with a sentence. After failure guest memory holds
 * parts of the files; *ret_state is not written.
 */
int boot_load(struct gm *gm, const struct boot_config *config, struct boot_cpu_state *ret_state,
	      struct err **err);

/*
 * Set the registers that decide how the CPU runs: segments, descriptor tables, control registers,
 * EFER, and all general registers. @sregs comes filled in by KVM_GET_SREGS; APIC base and pending
 * interrupts in it stay.
 */
void boot_cpu_apply(const struct boot_cpu_state *state, struct kvm_regs *regs,
		    struct kvm_sregs *sregs);

#endif
