/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CPU features by name, as people ask for them and read of them. Intel SDM volume 2 and AMD APM
 * volume 3, CPUID.
 */
#ifndef VMM_MACHINE_CPUID_NAMES_H
#define VMM_MACHINE_CPUID_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/cmdline/config.h"

/* The names of one register, by bit; NULL where there is none to be set by hand. */
struct cpuid_names {
	uint32_t leaf, subleaf;
	enum vm_cpuid_reg reg;
	const char *names[32];
};

/* All that have names, in the order in which people read them; static. */
const struct cpuid_names *cpuid_names(size_t *ret_nr);

/* The name of @bit (0 to 31) of a register; NULL when it has none. */
const char *cpuid_feature_name(uint32_t leaf, uint32_t subleaf, enum vm_cpuid_reg reg,
			       unsigned int bit);

#endif
