/* SPDX-License-Identifier: BSD-3-Clause */
/* CPUID leaves, APIC ids, firmware's MSRs: see cpuid.h for the contract. */
#include "vmm/machine/cpuid.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/machine/cpuid_int.h"

#define LEVEL_SMT  1u
#define LEVEL_CORE 2u
#define LEVEL_DIE  5u

#define PHYS_BITS_DEFAULT 36

#define MSR_IA32_MISC_ENABLE     0x1A0
#define MISC_ENABLE_FAST_STRING  BIT(0)
#define MISC_ENABLE_BTS_UNAVAIL  BIT(11)
#define MISC_ENABLE_PEBS_UNAVAIL BIT(12)
#define MSR_MTRR_DEF_TYPE        0x2FF
#define MTRR_DEF_TYPE_ENABLE     BIT(11)
#define MTRR_TYPE_WB             6

static unsigned int cpuid_width(unsigned int count)
{
	unsigned int width = 0;

	while (UINT64_C(1) << width < count)
		width++;
	return width;
}

static struct cpuid_widths cpuid_widths(const struct cpuid_topology *topology)
{
	struct cpuid_widths widths;

	widths.smt = cpuid_width(topology->threads);
	widths.core = widths.smt + cpuid_width(topology->cores);
	widths.die = widths.core + cpuid_width(topology->dies);
	return widths;
}

uint32_t cpuid_apic_id(const struct cpuid_topology *topology, unsigned int cpu_index)
{
	struct cpuid_widths widths = cpuid_widths(topology);
	unsigned int thread = cpu_index % topology->threads;
	unsigned int core = cpu_index / topology->threads % topology->cores;
	unsigned int die = cpu_index / topology->threads / topology->cores % topology->dies;
	unsigned int socket = cpu_index / topology->threads / topology->cores / topology->dies;

	return socket << widths.die | die << widths.core | core << widths.smt | thread;
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid_entry2 *entries, size_t nr,
					  uint32_t leaf, uint32_t subleaf)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		const struct kvm_cpuid_entry2 *entry = &entries[i];

		if (entry->function == leaf &&
		    (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == subleaf))
			return entry;
	}
	return NULL;
}

struct kvm_cpuid_entry2 *cpuid_get(struct cpuid_job *job, uint32_t leaf, uint32_t subleaf)
{
	const struct kvm_cpuid_entry2 *entry = cpuid_find(job->out, job->nr, leaf, subleaf);

	return entry ? &job->out[entry - job->out] : NULL;
}

uint32_t *cpuid_register(struct kvm_cpuid_entry2 *entry, enum vm_cpuid_reg reg)
{
	switch (reg) {
	case VM_CPUID_EAX:
		return &entry->eax;
	case VM_CPUID_EBX:
		return &entry->ebx;
	case VM_CPUID_ECX:
		return &entry->ecx;
	case VM_CPUID_EDX:
		break;
	}
	return &entry->edx;
}

unsigned int cpuid_phys_bits(const struct kvm_cpuid_entry2 *entries, size_t nr_entries)
{
	const struct kvm_cpuid_entry2 *sizes = cpuid_find(entries, nr_entries, LEAF_SIZES, 0);
	unsigned int bits = sizes ? sizes->eax & 0xFF : 0;

	return bits ? bits : PHYS_BITS_DEFAULT;
}

static bool cpuid_vendor_is(const struct kvm_cpuid_entry2 *entries, size_t nr, const char *name)
{
	unsigned int family, model, stepping;
	char vendor[13];

	cpuid_identity(entries, nr, vendor, &family, &model, &stepping);
	return !strcmp(vendor, name);
}

static bool cpuid_is_amd(const struct cpuid_config *config,
			 const struct kvm_cpuid_entry2 *supported, size_t nr)
{
	const char *given = config->identity ? config->identity->vendor : NULL;

	if (given)
		return !strcmp(given, "AuthenticAMD") || !strcmp(given, "HygonGenuine");
	return cpuid_vendor_is(supported, nr, "AuthenticAMD") ||
	       cpuid_vendor_is(supported, nr, "HygonGenuine");
}

/* Leaves that are left out: made anew further on, or of things that the guest does not get. */
static bool cpuid_is_dropped(const struct cpuid_config *config, uint32_t leaf)
{
	switch (leaf) {
	case LEAF_TOPOLOGY:
	case LEAF_TOPOLOGY2:
	case LEAF_AMD_TOPOLOGY:
	case LEAF_AMD_TOPOLOGY2:
	case LEAF_SGX:        /* no enclave page cache */
	case LEAF_AMD_MEMENC: /* no encrypted memory */
		return true;
	case LEAF_PMU:
	case LEAF_AMD_PMU:
		return !config->pmu;
	default:
		return leaf >= LEAF_HV_FIRST && leaf <= LEAF_HV_LAST && !config->kvm;
	}
}

int cpuid_add(struct cpuid_job *job, const struct kvm_cpuid_entry2 *entry, struct err **err)
{
	const struct kvm_cpuid_entry2 *old = cpuid_get(job, entry->function, entry->index);

	if (old)
		return 0;
	if (job->nr == CPUID_ENTRIES_MAX)
		return err_set(err, E2BIG, "KVM supports more than %u CPUID leaves",
			       CPUID_ENTRIES_MAX);
	job->out[job->nr++] = *entry;
	return 0;
}

static void cpuid_set_features(struct cpuid_job *job)
{
	const struct cpuid_config *config = job->config;
	struct kvm_cpuid_entry2 *entry = cpuid_get(job, LEAF_FEATURES, 0);
	uint64_t ids = UINT64_C(1) << job->widths.die;

	if (entry) {
		entry->ebx = (entry->ebx & 0xFFFF) | (uint32_t)num_min(ids, 255) << 16 |
			     (job->apic_id & 0xFF) << 24;
		entry->ecx &= ~(ECX_OSXSAVE | ECX_X2APIC | ECX_TSC_DEADLINE);
		entry->ecx |= ECX_HYPERVISOR;
		if (config->x2apic)
			entry->ecx |= ECX_X2APIC;
		if (config->tsc_deadline)
			entry->ecx |= ECX_TSC_DEADLINE;
		if (!config->pmu)
			entry->ecx &= ~ECX_PDCM;
		entry->edx &= ~EDX_HTT;
		if (job->logical > 1)
			entry->edx |= EDX_HTT;
	}
	entry = cpuid_get(job, LEAF_EXT_FEATURES, 0);
	if (entry) {
		entry->ebx &= ~EBX_SGX;
		entry->ecx &= ~(ECX_SGX_LC | ECX_OSPKE);
	}
	entry = cpuid_get(job, LEAF_EXT_FEATURES1, 0);
	if (entry) {
		entry->ecx &= ~ECX_CMP_LEGACY;
		if (job->amd && job->logical > 1)
			entry->ecx |= ECX_CMP_LEGACY;
		if (!config->pmu && !config->offers)
			entry->ecx &= ~ECX_PERFCTR_CORE;
	}
	entry = cpuid_get(job, LEAF_POWER, 0);
	if (entry && config->migratable)
		entry->edx &= ~EDX_INVTSC;
	/* The monitor does not know whether vCPUs have host CPUs of their own. */
	entry = cpuid_get(job, LEAF_HV_FEATURES, 0);
	if (entry)
		entry->edx &= ~EDX_HINTS_REALTIME;
}

/*
 * How many ids share each cache: threads of a core for levels 1 and 2, of a die for level 3. Both
 * vendors have the same fields; the number of cores is Intel's only. Counts are in APIC ids, gaps
 * included, for systems derive the sharing by shifting or dividing ids.
 */
static void cpuid_set_caches(struct cpuid_job *job)
{
	const unsigned int cores_width = job->widths.die - job->widths.smt;
	size_t i;

	for (i = 0; i < job->nr; i++) {
		struct kvm_cpuid_entry2 *entry = &job->out[i];
		unsigned int type = entry->eax & 0x1F, level = entry->eax >> 5 & 0x7;
		unsigned int width = level < 3 ? job->widths.smt : job->widths.core;
		uint64_t shared = num_min(UINT64_C(1) << width, 1u << 12);
		uint64_t cores = num_min(UINT64_C(1) << cores_width, 1u << 6);

		if ((entry->function != LEAF_CACHE && entry->function != LEAF_AMD_CACHE) || !type)
			continue;
		entry->eax &= 0x3FFF;
		entry->eax |= (uint32_t)(shared - 1) << 14;
		if (entry->function == LEAF_CACHE)
			entry->eax |= (uint32_t)(cores - 1) << 26;
	}
}

/* One level of LEAF_TOPOLOGY or LEAF_TOPOLOGY2: @below threads in @width bits; type 0 ends it. */
static int cpuid_add_level(struct cpuid_job *job, uint32_t leaf, uint32_t index, uint32_t type,
			   unsigned int width, unsigned int below, struct err **err)
{
	const struct kvm_cpuid_entry2 entry = {
		.function = leaf,
		.index = index,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = width,
		.ebx = below,
		.ecx = type << 8 | index,
		.edx = job->apic_id,
	};

	return cpuid_add(job, &entry, err);
}

static int cpuid_set_topology(struct cpuid_job *job, struct err **err)
{
	const struct cpuid_topology *t = &job->config->topology;
	struct kvm_cpuid_entry2 *vendor = cpuid_get(job, LEAF_VENDOR, 0);
	const uint32_t last_leaf = t->dies > 1 ? LEAF_TOPOLOGY2 : LEAF_TOPOLOGY;
	uint32_t index = 0;
	int ret;

	if (vendor && vendor->eax < last_leaf)
		vendor->eax = last_leaf;
	/* The older leaf has no dies: their cores count as the socket's. */
	ret = cpuid_add_level(job, LEAF_TOPOLOGY, 0, LEVEL_SMT, job->widths.smt, t->threads, err);
	if (!ret)
		ret = cpuid_add_level(job, LEAF_TOPOLOGY, 1, LEVEL_CORE, job->widths.die,
				      job->logical, err);
	if (!ret)
		ret = cpuid_add_level(job, LEAF_TOPOLOGY, 2, 0, 0, 0, err);
	if (ret || !vendor || vendor->eax < LEAF_TOPOLOGY2)
		return ret;
	ret = cpuid_add_level(job, LEAF_TOPOLOGY2, index++, LEVEL_SMT, job->widths.smt, t->threads,
			      err);
	if (!ret)
		ret = cpuid_add_level(job, LEAF_TOPOLOGY2, index++, LEVEL_CORE, job->widths.core,
				      t->threads * t->cores, err);
	if (!ret && t->dies > 1)
		ret = cpuid_add_level(job, LEAF_TOPOLOGY2, index++, LEVEL_DIE, job->widths.die,
				      job->logical, err);
	if (!ret)
		ret = cpuid_add_level(job, LEAF_TOPOLOGY2, index, 0, 0, 0, err);
	return ret;
}

/* Address widths, and what AMD says of topology next to them and in a leaf of its own. */
static int cpuid_set_sizes(struct cpuid_job *job, struct err **err)
{
	const struct cpuid_topology *t = &job->config->topology;
	struct kvm_cpuid_entry2 *entry = cpuid_get(job, LEAF_SIZES, 0);
	const struct kvm_cpuid_entry2 *max = cpuid_get(job, LEAF_EXT_MAX, 0);
	uint32_t node = job->apic_id >> job->widths.core;
	struct kvm_cpuid_entry2 ids = {.function = LEAF_AMD_TOPOLOGY};

	if (entry) {
		if (job->config->phys_bits)
			entry->eax = (entry->eax & ~UINT32_C(0xFF)) | job->config->phys_bits;
		entry->ecx = job->amd ? (uint32_t)num_min(job->logical - 1, 0xFF) | job->widths.die
											    << 12
				      : 0;
	}
	if (!job->amd || !max || max->eax < LEAF_AMD_TOPOLOGY)
		return 0;
	ids.eax = job->apic_id;
	ids.ebx = (job->apic_id >> job->widths.smt & 0xFF) | (t->threads - 1) << 8;
	ids.ecx = (node & 0xFF) | (t->dies - 1) << 8;
	return cpuid_add(job, &ids, err);
}

static int cpuid_not_offered(const struct vm_cpu_feature *feature, struct err **err)
{
	return err_set(err, EINVAL, "-cpu: this host's KVM does not offer the feature '%s'",
		       feature->name);
}

/* -cpu host,+x,-y, in order. */
static int cpuid_set_choices(struct cpuid_job *job, const struct kvm_cpuid_entry2 *supported,
			     size_t nr_supported, struct err **err)
{
	size_t i;

	for (i = 0; i < job->config->nr_features; i++) {
		const struct vm_cpu_feature *feature = &job->config->features[i];
		struct kvm_cpuid_entry2 *entry = cpuid_get(job, feature->leaf, feature->subleaf);
		const struct kvm_cpuid_entry2 *found =
			cpuid_find(supported, nr_supported, feature->leaf, feature->subleaf);
		struct kvm_cpuid_entry2 host = {0};
		uint32_t mask = BIT(feature->bit);

		if (feature->leaf == CPUID_ARCH_CAPABILITIES) {
			if (!feature->on || (job->config->arch_capabilities & mask))
				continue;
			return cpuid_not_offered(feature, err);
		}
		if (found)
			host = *found;
		/* Hints are the owner's word, not KVM's. */
		if (feature->leaf == LEAF_HV_FEATURES && feature->reg == VM_CPUID_EDX)
			host.edx |= mask;
		if (!feature->on) {
			if (entry)
				*cpuid_register(entry, feature->reg) &= ~mask;
			continue;
		}
		if (entry && (*cpuid_register(&host, feature->reg) & mask))
			*cpuid_register(entry, feature->reg) |= mask;
		if (!entry || !(*cpuid_register(entry, feature->reg) & mask))
			return cpuid_not_offered(feature, err);
	}
	return 0;
}

/* AMD repeats some feature bits; the copy follows what was chosen. */
static void cpuid_set_aliases(struct cpuid_job *job)
{
	const struct kvm_cpuid_entry2 *features = cpuid_get(job, LEAF_FEATURES, 0);
	struct kvm_cpuid_entry2 *copy = cpuid_get(job, LEAF_EXT_FEATURES1, 0);

	if (features && copy)
		copy->edx &= ~EDX_AMD_ALIASES | (job->amd ? features->edx : 0);
}

int cpuid_build(const struct cpuid_config *config, const struct kvm_cpuid_entry2 *supported,
		size_t nr_supported, uint32_t apic_id, struct kvm_cpuid_entry2 *out, size_t *ret_nr,
		struct err **err)
{
	const struct cpuid_topology *t = &config->topology;
	struct cpuid_job job = {
		.config = config,
		.widths = cpuid_widths(t),
		.apic_id = apic_id,
		.logical = t->threads * t->cores * t->dies,
		.amd = cpuid_is_amd(config, supported, nr_supported),
		.out = out,
	};
	size_t i;
	int ret = 0;

	assert(t->sockets && t->dies && t->cores && t->threads);
	for (i = 0; i < nr_supported && !ret; i++) {
		if (!cpuid_is_dropped(config, supported[i].function))
			ret = cpuid_add(&job, &supported[i], err);
	}
	if (ret)
		return ret;
	cpuid_set_features(&job);
	cpuid_set_model(&job, supported, nr_supported);
	ret = cpuid_set_identity(&job, err);
	cpuid_set_caches(&job);
	if (!ret)
		ret = cpuid_set_topology(&job, err);
	if (!ret)
		ret = cpuid_set_sizes(&job, err);
	if (!ret && !config->model)
		ret = cpuid_set_choices(&job, supported, nr_supported, err);
	if (ret)
		return ret;
	cpuid_set_aliases(&job);
	*ret_nr = job.nr;
	return 0;
}

size_t cpuid_msrs(const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		  struct kvm_msr_entry *out)
{
	const struct kvm_cpuid_entry2 *features = cpuid_find(entries, nr_entries, LEAF_FEATURES, 0);
	size_t nr = 0;

	if (cpuid_vendor_is(entries, nr_entries, "GenuineIntel"))
		out[nr++] = (struct kvm_msr_entry){
			.index = MSR_IA32_MISC_ENABLE,
			.data = MISC_ENABLE_FAST_STRING | MISC_ENABLE_BTS_UNAVAIL |
				MISC_ENABLE_PEBS_UNAVAIL,
		};
	/* All memory is write-back; systems map device registers uncached by their page tables. */
	if (features && (features->edx & EDX_MTRR))
		out[nr++] = (struct kvm_msr_entry){
			.index = MSR_MTRR_DEF_TYPE,
			.data = MTRR_DEF_TYPE_ENABLE | MTRR_TYPE_WB,
		};
	assert(nr <= CPUID_MSRS_MAX);
	return nr;
}

void cpuid_identity(const struct kvm_cpuid_entry2 *entries, size_t nr_entries, char ret_vendor[13],
		    unsigned int *ret_family, unsigned int *ret_model, unsigned int *ret_stepping)
{
	const struct kvm_cpuid_entry2 *vendor = cpuid_find(entries, nr_entries, LEAF_VENDOR, 0);
	const struct kvm_cpuid_entry2 *version = cpuid_find(entries, nr_entries, LEAF_FEATURES, 0);
	uint32_t signature = version ? version->eax : 0;
	uint32_t family = signature >> 8 & 0xF, model = signature >> 4 & 0xF;

	memset(ret_vendor, 0, 13);
	if (vendor) {
		memcpy(ret_vendor, &vendor->ebx, 4);
		memcpy(ret_vendor + 4, &vendor->edx, 4);
		memcpy(ret_vendor + 8, &vendor->ecx, 4);
	}
	if (family == 6 || family == 15)
		model |= signature >> 12 & 0xF0;
	if (family == 15)
		family += signature >> 20 & 0xFF;
	*ret_family = family;
	*ret_model = model;
	*ret_stepping = signature & 0xF;
}

uint32_t cpuid_read(const struct kvm_cpuid_entry2 *entries, size_t nr_entries, uint32_t leaf,
		    uint32_t subleaf, enum vm_cpuid_reg reg)
{
	const struct kvm_cpuid_entry2 *found = cpuid_find(entries, nr_entries, leaf, subleaf);
	struct kvm_cpuid_entry2 entry = {0};

	if (found)
		entry = *found;
	return *cpuid_register(&entry, reg);
}

void cpuid_brand(const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		 char ret_id[CPUID_BRAND_BYTES])
{
	char *at = ret_id;

	memset(ret_id, 0, CPUID_BRAND_BYTES);
	for (uint32_t leaf = LEAF_BRAND; leaf < LEAF_BRAND + BRAND_LEAVES; leaf++) {
		for (unsigned int r = VM_CPUID_EAX; r <= VM_CPUID_EDX; r++, at += 4) {
			uint32_t word =
				cpuid_read(entries, nr_entries, leaf, 0, (enum vm_cpuid_reg)r);

			memcpy(at, &word, sizeof(word));
		}
	}
}
