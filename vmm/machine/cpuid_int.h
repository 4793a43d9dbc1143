/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What cpuid.c (leaves of this machine) and cpuid_model.c (leaves of a model by name) share: the
 * vCPU's table under construction. See cpuid.h.
 */
#ifndef VMM_MACHINE_CPUID_INT_H
#define VMM_MACHINE_CPUID_INT_H

#include "vmm/machine/cpu_models.h"
#include "vmm/machine/cpuid.h"

#define LEAF_VENDOR        0x0
#define LEAF_FEATURES      0x1
#define LEAF_CACHE         0x4
#define LEAF_EXT_FEATURES  0x7
#define LEAF_XSAVE         0xD
#define LEAF_PMU           0xA
#define LEAF_TOPOLOGY      0xB
#define LEAF_SGX           0x12
#define LEAF_TOPOLOGY2     0x1F
#define LEAF_HV_FIRST      0x40000000
#define LEAF_HV_FEATURES   0x40000001
#define LEAF_HV_LAST       0x4FFFFFFF
#define LEAF_EXT_MAX       0x80000000
#define LEAF_EXT_FEATURES1 0x80000001
#define LEAF_BRAND         0x80000002
#define LEAF_POWER         0x80000007
#define LEAF_SIZES         0x80000008
#define LEAF_AMD_CACHE     0x8000001D
#define LEAF_AMD_TOPOLOGY  0x8000001E
#define LEAF_AMD_MEMENC    0x8000001F
#define LEAF_EXT_FEATURES2 0x80000021
#define LEAF_AMD_PMU       0x80000022
#define LEAF_AMD_TOPOLOGY2 0x80000026

#define BRAND_LEAVES 3u

#define BIT(n) (UINT32_C(1) << (n))

/* LEAF_FEATURES */
#define ECX_PDCM         BIT(15)
#define ECX_X2APIC       BIT(21)
#define ECX_TSC_DEADLINE BIT(24)
#define ECX_OSXSAVE      BIT(27)
#define ECX_HYPERVISOR   BIT(31)
#define EDX_MTRR         BIT(12)
#define EDX_HTT          BIT(28)
/* LEAF_EXT_FEATURES */
#define EBX_SGX    BIT(2)
#define ECX_OSPKE  BIT(4)
#define ECX_SGX_LC BIT(30)
/* LEAF_EXT_FEATURES1 */
#define ECX_CMP_LEGACY   BIT(1)
#define ECX_TOPOEXT      BIT(22)
#define ECX_PERFCTR_CORE BIT(23)
#define EDX_AMD_ALIASES  UINT32_C(0x0183F3FF) /* repeat those bits of LEAF_FEATURES EDX */
/* LEAF_POWER */
#define EDX_INVTSC BIT(8)
/* LEAF_HV_FEATURES */
#define EDX_HINTS_REALTIME BIT(0)

/* Bits of the APIC id below and including each level. */
struct cpuid_widths {
	unsigned int smt, core, die; /* die: all that is below the socket */
};

struct cpuid_job {
	const struct cpuid_config *config;
	struct cpuid_widths widths;
	uint32_t apic_id;
	unsigned int logical; /* threads in a socket */
	bool amd;             /* or of its kind */
	struct kvm_cpuid_entry2 *out;
	size_t nr;
};

/* ---- cpuid.c ---- */

/* The entry that tells of @leaf and @subleaf; NULL: none. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid_entry2 *entries, size_t nr,
					  uint32_t leaf, uint32_t subleaf);
/* That of the vCPU under construction, or NULL. */
struct kvm_cpuid_entry2 *cpuid_get(struct cpuid_job *job, uint32_t leaf, uint32_t subleaf);
/* Unless it is there. -E2BIG when there is no room. */
int cpuid_add(struct cpuid_job *job, const struct kvm_cpuid_entry2 *entry, struct err **err);
uint32_t *cpuid_register(struct kvm_cpuid_entry2 *entry, enum vm_cpuid_reg reg);

/* ---- cpuid_model.c ---- */

/*
 * Features, and what follows from them, of the job's model; nothing without one. Comes after what
 * depends on the machine was set in registers with features, and before what depends on the leaves
 * that there are.
 */
void cpuid_set_model(struct cpuid_job *job, const struct kvm_cpuid_entry2 *supported,
		     size_t nr_supported);
/* Maker, version, name and last leaves, of the model and of what was given besides. */
int cpuid_set_identity(struct cpuid_job *job, struct err **err);

#endif
