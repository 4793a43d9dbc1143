/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CPU features by name, as people ask for them and read of them. Intel SDM volume 2 and AMD APM
 * volume 3, CPUID.
 */
#ifndef VMM_MACHINE_CPUID_NAMES_H
#define VMM_MACHINE_CPUID_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/cmdline/config.h"

/*
 * The lower half of the MSR IA32_ARCH_CAPABILITIES, whose bits have names as well: in tables of
 * CPUID it is EAX of a leaf that no CPU has.
 */
#define CPUID_ARCH_CAPABILITIES UINT32_C(0xFFFF010A)

#define CPUID_NAMES_MAX 24 /* registers with names; fewer than this */

/* The names of one register, by bit; NULL where there is none to be set by hand. */
struct cpuid_names {
	uint32_t leaf, subleaf;
	enum vm_cpuid_reg reg;
	const char *names[32];
};

/* All that have names, in the order in which people read them; static. */
const struct cpuid_names *cpuid_names(size_t *ret_nr);

/* The index of a register in cpuid_names(); their number when nothing in it has a name. */
size_t cpuid_names_row(uint32_t leaf, uint32_t subleaf, enum vm_cpuid_reg reg);

/* The name of @bit (0 to 31) of a register; NULL when it has none. */
const char *cpuid_feature_name(uint32_t leaf, uint32_t subleaf, enum vm_cpuid_reg reg,
			       unsigned int bit);

#endif
