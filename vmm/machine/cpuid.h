/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a vCPU says of itself: CPUID leaves, APIC ids, and the MSRs that firmware would have set.
 * Intel SDM volume 2, CPUID, and volume 3 chapter 9; AMD APM volume 3 appendix E.
 *
 * The starting point is what KVM supports on this host; each leaf that tells of topology is made
 * anew from the guest's own. Of a model by name (cpu_models.h) features, version and name are the
 * model's, as far as the host has them; caches stay the host's.
 *
 * I1  APIC ids are bit fields, from the top: socket, die, core, thread, each as wide as its count
 *     needs. With counts that are not powers of two there are gaps; ids are never reused.
 * I2  Nothing of the host's topology or of the CPU on which KVM was asked remains.
 * I3  A feature bit is set only if KVM supports it or provides it in its local APIC (TSC deadline,
 *     x2APIC), or to say that this is a virtual machine.
 * I4  No leaf and subleaf comes out twice.
 *
 * Threads: none, all functions are pure. Nothing in here comes from the guest.
 */
#ifndef VMM_MACHINE_CPUID_H
#define VMM_MACHINE_CPUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "vmm/cmdline/config.h"

struct cpu_model;
struct err;

/* Room for the entries of any vCPU: KVM's own limit. */
#define CPUID_ENTRIES_MAX 256u
#define CPUID_MSRS_MAX    8u

struct cpu_features;

struct cpuid_topology {
	unsigned int sockets, dies, cores, threads; /* of the next larger; 1 or more */
};

struct cpuid_config {
	struct cpuid_topology topology;
	const struct cpu_model *model;             /* NULL: the host's */
	const struct cpu_features *model_features; /* its, with what all models have; or NULL */
	/* instead of what the model, or the host, says; NULL: nothing. As checked by -cpu */
	const struct vm_cpu_identity *identity;
	bool tsc_deadline;      /* KVM_CAP_TSC_DEADLINE_TIMER */
	bool x2apic;            /* the in-kernel APIC */
	bool kvm;               /* show the paravirtual leaves 0x40000000 and up */
	bool pmu;               /* show the performance counters */
	bool offers;            /* AMD's counters are there if KVM has them, though nobody asked */
	bool migratable;        /* hide what ties the guest to this host (invariant TSC) */
	unsigned int phys_bits; /* 0: as supported */
	uint64_t arch_capabilities; /* IA32_ARCH_CAPABILITIES as KVM gives it; 0: it does not */
	const struct vm_cpu_feature *features; /* later entries win */
	size_t nr_features;
};

/* Of the CPU with this index (0 .. product of the counts - 1), threads counting fastest. */
uint32_t cpuid_apic_id(const struct cpuid_topology *topology, unsigned int cpu_index);

/* Width of physical addresses that @entries tell of; 36 when they do not. */
unsigned int cpuid_phys_bits(const struct kvm_cpuid_entry2 *entries, size_t nr_entries);

/*
 * Fill @out (CPUID_ENTRIES_MAX entries) for the vCPU with @apic_id from @supported
 * (KVM_GET_SUPPORTED_CPUID). Of a named model, what the host does not have is left out. Without
 * one, a feature that was asked for and that the host does not have is refused with -EINVAL.
 */
int cpuid_build(const struct cpuid_config *config, const struct kvm_cpuid_entry2 *supported,
		size_t nr_supported, uint32_t apic_id, struct kvm_cpuid_entry2 *out, size_t *ret_nr,
		struct err **err);

/*
 * What a named model, and what was asked for besides, has that the host does not; all zeros without
 * a model. @fn is called once for each name.
 */
void cpuid_model_missing(const struct cpuid_config *config,
			 const struct kvm_cpuid_entry2 *supported, size_t nr_supported,
			 struct cpu_features *ret);
void cpuid_each_missing(const struct cpu_features *missing,
			void (*fn)(void *opaque, const char *name), void *opaque);

/* What a vCPU with @entries finds in IA32_ARCH_CAPABILITIES. */
uint64_t cpuid_arch_capabilities(const struct cpuid_config *config,
				 const struct kvm_cpuid_entry2 *entries, size_t nr_entries);

/* A register as the instruction would answer: 0 for what is not there. */
uint32_t cpuid_read(const struct kvm_cpuid_entry2 *entries, size_t nr_entries, uint32_t leaf,
		    uint32_t subleaf, enum vm_cpuid_reg reg);

/* Its name, up to the first NUL. */
#define CPUID_BRAND_BYTES 49u
void cpuid_brand(const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		 char ret_id[CPUID_BRAND_BYTES]);

/* Who made a CPU with @entries, and its version; 0 and "" where they do not tell. */
void cpuid_identity(const struct kvm_cpuid_entry2 *entries, size_t nr_entries, char ret_vendor[13],
		    unsigned int *ret_family, unsigned int *ret_model, unsigned int *ret_stepping);

/*
 * Each feature that has a name (cpuid_names.h), once, and whether @entries have it, and
 * @arch_capabilities those that are its bits.
 */
void cpuid_each_name(const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		     uint64_t arch_capabilities,
		     void (*fn)(void *opaque, const char *name, bool on), void *opaque);

/*
 * MSRs to set at each reset of a vCPU that has @entries; returns how many of @out (CPUID_MSRS_MAX)
 * were filled in.
 */
size_t cpuid_msrs(const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		  struct kvm_msr_entry *out);

/*
 * Can a vCPU that was told @wanted elsewhere go on where KVM supports @supported, and where it would
 * be told @own? 0 when each feature is there and what tells of widths and layouts fits; else
 * -EINVAL and a sentence that names what is missing first. @wanted may be anything.
 */
int cpuid_check(const struct kvm_cpuid_entry2 *wanted, size_t nr_wanted,
		const struct kvm_cpuid_entry2 *supported, size_t nr_supported,
		const struct kvm_cpuid_entry2 *own, size_t nr_own, struct err **err);

#endif
