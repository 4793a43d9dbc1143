/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The CPUID of a model by name: see cpuid.h for the contract.
 *
 * What the guest shall have is worked out as a set of named features: the model's, then word by
 * word what was asked for. What it gets is the part of it that KVM offers. The leaves of the host
 * are then cut down to that, so that nothing remains of features that have no name, and of leaves
 * that the model's processor does not have. Numbers that describe the host's caches stay.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/machine/cpuid_int.h"

#define LEAF_PT        0x14
#define LEAF_TILES     0x1D
#define LEAF_TMUL      0x1E
#define LEAF_AVX10     0x24
#define LEAF_SVM       0x8000000A
#define BRAND_BYTES    48u
#define REGISTER_BYTES 4u

#define EBX_AVX10_VERSION UINT32_C(0xFF)

#define VIRTUAL_BITS      48u
#define VIRTUAL_BITS_LA57 57u

/* LEAF_XSAVE: components of XCR0, and where registers without any end */
#define XSAVE_ALWAYS UINT64_C(0x3)
#define XSAVE_AVX    UINT64_C(0x4)
#define XSAVE_MPX    UINT64_C(0x18)
#define XSAVE_AVX512 UINT64_C(0xE0)
#define XSAVE_PKU    UINT64_C(0x200)
#define XSAVE_AMX    UINT64_C(0x60000)
#define XSAVE_FIRST  2u
#define XSAVE_BYTES  576u

#define ARCH_CAPABILITIES_LOW UINT64_C(0xFFFFFFFF)

/* ---- sets of named features ---- */

static const struct cpuid_names *cpuid_row(size_t row, size_t *ret_nr)
{
	const struct cpuid_names *named = cpuid_names(ret_nr);

	return row < *ret_nr ? &named[row] : NULL;
}

/* What the guest shall have: the model's features, and words behind it, in order. */
static void cpuid_wanted(const struct cpuid_config *config, struct cpu_features *ret)
{
	*ret = *config->model_features;
	for (size_t i = 0; i < config->nr_features; i++) {
		const struct vm_cpu_feature *feature = &config->features[i];
		size_t word = cpuid_names_row(feature->leaf, feature->subleaf, feature->reg);

		ret->words[word] &= ~BIT(feature->bit);
		ret->words[word] |= (uint32_t)feature->on << feature->bit;
	}
	cpu_features_follow(ret);
}

/* Of a register with features: what is ours to give, and what is not there for this guest. */
static uint32_t cpuid_offered_word(const struct cpuid_config *config, const struct cpuid_names *row,
				   uint32_t supported)
{
	if (row->leaf == LEAF_FEATURES && row->reg == VM_CPUID_ECX) {
		supported &= ~(ECX_X2APIC | ECX_TSC_DEADLINE);
		supported |= ECX_HYPERVISOR | (config->x2apic ? ECX_X2APIC : 0) |
			     (config->tsc_deadline ? ECX_TSC_DEADLINE : 0);
	} else if (row->leaf == LEAF_FEATURES && row->reg == VM_CPUID_EDX) {
		supported |= EDX_HTT;
	} else if (row->leaf == LEAF_EXT_FEATURES1 && row->reg == VM_CPUID_ECX) {
		supported |= ECX_CMP_LEGACY | ECX_TOPOEXT; /* of leaves that are made here */
	} else if (row->leaf == LEAF_HV_FEATURES) {
		/* Hints are the owner's word, not KVM's. */
		supported |= row->reg == VM_CPUID_EDX ? EDX_HINTS_REALTIME : 0;
		supported = config->kvm ? supported : 0;
	} else if (row->leaf == CPUID_ARCH_CAPABILITIES) {
		supported = (uint32_t)config->arch_capabilities;
	}
	return supported;
}

static void cpuid_offered(const struct cpuid_config *config,
			  const struct kvm_cpuid_entry2 *supported, size_t nr_supported,
			  struct cpu_features *ret)
{
	const struct cpuid_names *row;
	size_t nr;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; (row = cpuid_row(i, &nr)); i++) {
		const struct kvm_cpuid_entry2 *found =
			cpuid_find(supported, nr_supported, row->leaf, row->subleaf);
		struct kvm_cpuid_entry2 entry = {0};

		if (found)
			entry = *found;
		if (found || row->leaf == CPUID_ARCH_CAPABILITIES)
			ret->words[i] =
				cpuid_offered_word(config, row, *cpuid_register(&entry, row->reg));
	}
}

void cpuid_model_missing(const struct cpuid_config *config,
			 const struct kvm_cpuid_entry2 *supported, size_t nr_supported,
			 struct cpu_features *ret)
{
	struct cpu_features offered;

	memset(ret, 0, sizeof(*ret));
	if (!config->model)
		return;
	cpuid_wanted(config, ret);
	cpuid_offered(config, supported, nr_supported, &offered);
	for (size_t i = 0; i < CPUID_NAMES_MAX; i++)
		ret->words[i] &= ~offered.words[i];
}

/* Is the name of @bit that of a lower bit as well? Of those, the model has all or none. */
static bool cpuid_is_again(const struct cpuid_names *row, unsigned int bit)
{
	for (unsigned int i = 0; i < bit; i++) {
		if (row->names[i] && !strcmp(row->names[i], row->names[bit]))
			return true;
	}
	return false;
}

void cpuid_each_missing(const struct cpu_features *missing,
			void (*fn)(void *opaque, const char *name), void *opaque)
{
	size_t nr;
	const struct cpuid_names *rows = cpuid_names(&nr);

	for (size_t i = 0; i < nr; i++) {
		for (uint32_t bits = missing->words[i]; bits; bits &= bits - 1) {
			unsigned int bit = (unsigned int)__builtin_ctz(bits);

			if (!cpuid_is_again(&rows[i], bit))
				fn(opaque, rows[i].names[bit]);
		}
	}
}

/* ---- leaves ---- */

static void cpuid_drop(struct cpuid_job *job, uint32_t leaf)
{
	size_t kept = 0;

	for (size_t i = 0; i < job->nr; i++) {
		if (job->out[i].function != leaf)
			job->out[kept++] = job->out[i];
	}
	job->nr = kept;
}

/* Of XSAVE only the components of features that the guest has, and none of XSS. */
static void cpuid_set_xsave(struct cpuid_job *job, const struct cpu_features *has)
{
	uint64_t components = XSAVE_ALWAYS, bytes = XSAVE_BYTES;
	struct kvm_cpuid_entry2 *entry;
	size_t kept = 0;

	components |= cpu_features_has(has, LEAF_FEATURES, 0, VM_CPUID_ECX, 28) ? XSAVE_AVX : 0;
	components |= cpu_features_has(has, LEAF_EXT_FEATURES, 0, VM_CPUID_EBX, 14) ? XSAVE_MPX : 0;
	components |=
		cpu_features_has(has, LEAF_EXT_FEATURES, 0, VM_CPUID_EBX, 16) ? XSAVE_AVX512 : 0;
	components |= cpu_features_has(has, LEAF_EXT_FEATURES, 0, VM_CPUID_ECX, 3) ? XSAVE_PKU : 0;
	components |= cpu_features_has(has, LEAF_EXT_FEATURES, 0, VM_CPUID_EDX, 24) ? XSAVE_AMX : 0;
	entry = cpuid_get(job, LEAF_XSAVE, 0);
	components &= entry ? entry->eax : 0;
	for (size_t i = 0; i < job->nr; i++) {
		const struct kvm_cpuid_entry2 *e = &job->out[i];

		if (e->function == LEAF_XSAVE && e->index >= XSAVE_FIRST) {
			if (e->index >= 64 || !(components >> e->index & 1))
				continue;
			bytes = num_max(bytes, (uint64_t)e->eax + e->ebx);
		}
		job->out[kept++] = *e;
	}
	job->nr = kept;
	entry = cpuid_get(job, LEAF_XSAVE, 0);
	if (entry) {
		entry->eax = (uint32_t)components;
		entry->ebx = entry->ecx = (uint32_t)bytes;
		entry->edx = 0;
	}
	entry = cpuid_get(job, LEAF_XSAVE, 1);
	if (entry)
		entry->ebx = entry->ecx = entry->edx = 0;
}

static bool cpuid_is_named(const struct kvm_cpuid_entry2 *entry, enum vm_cpuid_reg reg)
{
	size_t nr;

	cpuid_names(&nr);
	return cpuid_names_row(entry->function, entry->index, reg) < nr;
}

/* Registers whose features have no names, of leaves that have nothing else. */
static void cpuid_clear_unnamed(struct cpuid_job *job)
{
	for (size_t i = 0; i < job->nr; i++) {
		struct kvm_cpuid_entry2 *e = &job->out[i];

		if (e->function != LEAF_EXT_FEATURES && e->function != LEAF_EXT_FEATURES2)
			continue;
		for (unsigned int r = VM_CPUID_EAX; r <= VM_CPUID_EDX; r++) {
			const enum vm_cpuid_reg reg = (enum vm_cpuid_reg)r;
			bool count = e->function == LEAF_EXT_FEATURES && !e->index &&
				     reg == VM_CPUID_EAX;

			if (!count && !cpuid_is_named(e, reg))
				*cpuid_register(e, reg) = 0;
		}
	}
}

/* What was worked out from the machine stays, unless somebody said otherwise. */
static uint32_t cpuid_derived(const struct cpuid_config *config, const struct cpuid_names *row)
{
	uint32_t derived = 0;

	if (row->leaf == LEAF_FEATURES)
		derived = row->reg == VM_CPUID_EDX ? EDX_HTT : ECX_HYPERVISOR;
	else if (row->leaf == LEAF_EXT_FEATURES1 && row->reg == VM_CPUID_ECX)
		derived = ECX_CMP_LEGACY;
	for (size_t i = 0; i < config->nr_features; i++) {
		const struct vm_cpu_feature *f = &config->features[i];

		if (f->leaf == row->leaf && f->subleaf == row->subleaf && f->reg == row->reg)
			derived &= ~BIT(f->bit);
	}
	return derived;
}

/* Counters are for who asks for them, whatever the model has; nobody misses them. */
static void cpuid_hide_counters(struct cpu_features *has)
{
	has->words[cpuid_names_row(LEAF_FEATURES, 0, VM_CPUID_ECX)] &= ~ECX_PDCM;
	has->words[cpuid_names_row(LEAF_EXT_FEATURES1, 0, VM_CPUID_ECX)] &= ~ECX_PERFCTR_CORE;
	has->words[cpuid_names_row(LEAF_AMD_PMU, 0, VM_CPUID_EAX)] = 0;
}

static void cpuid_set_registers(struct cpuid_job *job, const struct cpu_features *has)
{
	const struct cpuid_names *row;
	size_t nr;

	for (size_t i = 0; (row = cpuid_row(i, &nr)); i++) {
		struct kvm_cpuid_entry2 *entry = cpuid_get(job, row->leaf, row->subleaf);
		uint32_t kept = cpuid_derived(job->config, row);
		uint32_t *reg;

		if (!entry)
			continue;
		if (row->leaf == LEAF_AVX10)
			kept = EBX_AVX10_VERSION;
		reg = cpuid_register(entry, row->reg);
		*reg = (*reg & kept) | has->words[i];
		/* The copies of what is in another leaf are seen to when that is complete. */
		if (row->leaf == LEAF_EXT_FEATURES1 && row->reg == VM_CPUID_EDX)
			*reg |= EDX_AMD_ALIASES;
	}
}

void cpuid_set_model(struct cpuid_job *job, const struct kvm_cpuid_entry2 *supported,
		     size_t nr_supported)
{
	const struct cpuid_config *config = job->config;
	struct cpu_features has, offered;
	struct kvm_cpuid_entry2 *entry;
	bool la57;

	if (!config->model)
		return;
	cpuid_wanted(config, &has);
	cpuid_offered(config, supported, nr_supported, &offered);
	for (size_t i = 0; i < CPUID_NAMES_MAX; i++)
		has.words[i] &= offered.words[i];
	cpu_features_follow(&has);
	if (!config->pmu)
		cpuid_hide_counters(&has);

	cpuid_clear_unnamed(job);
	cpuid_set_registers(job, &has);
	cpuid_drop(job, LEAF_PT);
	if (cpu_features_has(&has, LEAF_FEATURES, 0, VM_CPUID_ECX, 26))
		cpuid_set_xsave(job, &has);
	else
		cpuid_drop(job, LEAF_XSAVE);
	if (!cpu_features_has(&has, LEAF_EXT_FEATURES, 0, VM_CPUID_EDX, 24)) { /* amx-tile */
		cpuid_drop(job, LEAF_TILES);
		cpuid_drop(job, LEAF_TMUL);
	}
	if (!cpu_features_has(&has, LEAF_EXT_FEATURES, 1, VM_CPUID_EDX, 19)) /* avx10 */
		cpuid_drop(job, LEAF_AVX10);
	if (!cpu_features_has(&has, LEAF_EXT_FEATURES1, 0, VM_CPUID_ECX, 2)) /* svm */
		cpuid_drop(job, LEAF_SVM);
	la57 = cpu_features_has(&has, LEAF_EXT_FEATURES, 0, VM_CPUID_ECX, 16);
	entry = cpuid_get(job, LEAF_SIZES, 0);
	if (entry)
		entry->eax = (entry->eax & 0xFF) | (la57 ? VIRTUAL_BITS_LA57 : VIRTUAL_BITS) << 8;
}

uint64_t cpuid_arch_capabilities(const struct cpuid_config *config,
				 const struct kvm_cpuid_entry2 *entries, size_t nr_entries)
{
	const struct kvm_cpuid_entry2 *entry =
		cpuid_find(entries, nr_entries, LEAF_EXT_FEATURES, 0);
	uint64_t value = config->arch_capabilities;
	struct cpu_features wanted;

	if (!entry || !(entry->edx & BIT(29)))
		return 0;
	if (config->model) {
		cpuid_wanted(config, &wanted);
		return value &
		       wanted.words[cpuid_names_row(CPUID_ARCH_CAPABILITIES, 0, VM_CPUID_EAX)];
	}
	for (size_t i = 0; i < config->nr_features; i++) {
		const struct vm_cpu_feature *f = &config->features[i];

		if (f->leaf == CPUID_ARCH_CAPABILITIES)
			value = f->on ? value | (config->arch_capabilities & BIT(f->bit))
				      : value & ~(uint64_t)BIT(f->bit);
	}
	return value;
}

/* ---- who it is ---- */

static uint32_t cpuid_signature(unsigned int family, unsigned int model, unsigned int stepping)
{
	uint32_t base = (uint32_t)num_min(family, 0xF);

	return (family - base) << 20 | (model >> 4) << 16 | base << 8 | (model & 0xF) << 4 |
	       stepping;
}

static void cpuid_set_vendor(struct cpuid_job *job, const char *vendor)
{
	struct kvm_cpuid_entry2 *const entries[] = {
		cpuid_get(job, LEAF_VENDOR, 0),
		cpuid_get(job, LEAF_EXT_MAX, 0),
	};

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
		if (!entries[i])
			continue;
		memcpy(&entries[i]->ebx, vendor, REGISTER_BYTES);
		memcpy(&entries[i]->edx, vendor + REGISTER_BYTES, REGISTER_BYTES);
		memcpy(&entries[i]->ecx, vendor + 2 * REGISTER_BYTES, REGISTER_BYTES);
	}
}

static int cpuid_set_brand(struct cpuid_job *job, const char *id, struct err **err)
{
	const size_t length = strlen(id);
	char text[BRAND_BYTES] = {0};
	int ret = 0;

	memcpy(text, id, num_min(length, sizeof(text)));
	for (uint32_t i = 0; i < BRAND_LEAVES && !ret; i++) {
		const char *part = text + 4u * REGISTER_BYTES * i;
		struct kvm_cpuid_entry2 entry = {.function = LEAF_BRAND + i};

		memcpy(&entry.eax, part, REGISTER_BYTES);
		memcpy(&entry.ebx, part + REGISTER_BYTES, REGISTER_BYTES);
		memcpy(&entry.ecx, part + 2 * REGISTER_BYTES, REGISTER_BYTES);
		memcpy(&entry.edx, part + 3 * REGISTER_BYTES, REGISTER_BYTES);
		cpuid_drop(job, LEAF_BRAND + i);
		ret = cpuid_add(job, &entry, err);
	}
	return ret;
}

/* As given; else the model's, and as far as its features need. What lies beyond is not there. */
static void cpuid_set_levels(struct cpuid_job *job, uint32_t level, uint32_t xlevel,
			     bool level_fixed, bool xlevel_fixed)
{
	struct kvm_cpuid_entry2 *basic, *extended;
	const struct cpuid_names *row;
	size_t nr, kept = 0;

	for (size_t i = 0; (row = cpuid_row(i, &nr)); i++) {
		struct kvm_cpuid_entry2 *entry = cpuid_get(job, row->leaf, row->subleaf);

		if (!entry || !*cpuid_register(entry, row->reg))
			continue;
		if (row->leaf < LEAF_HV_FIRST && !level_fixed)
			level = (uint32_t)num_max(level, row->leaf);
		else if (row->leaf >= LEAF_EXT_MAX && !xlevel_fixed)
			xlevel = (uint32_t)num_max(xlevel, row->leaf);
	}
	for (size_t i = 0; i < job->nr; i++) {
		const uint32_t leaf = job->out[i].function;
		bool kvm = leaf >= LEAF_HV_FIRST && leaf <= LEAF_HV_LAST;

		if (kvm || leaf <= level || (leaf >= LEAF_EXT_MAX && leaf <= xlevel))
			job->out[kept++] = job->out[i];
	}
	job->nr = kept;
	basic = cpuid_get(job, LEAF_VENDOR, 0);
	extended = cpuid_get(job, LEAF_EXT_MAX, 0);
	if (basic)
		basic->eax = level;
	if (extended)
		extended->eax = xlevel;
}

static void cpuid_set_version(struct cpuid_job *job)
{
	static const struct vm_cpu_identity nothing;
	const struct vm_cpu_identity *given =
		job->config->identity ? job->config->identity : &nothing;
	const struct cpu_model *named = job->config->model;
	struct kvm_cpuid_entry2 *copy = cpuid_get(job, LEAF_EXT_FEATURES1, 0);
	struct kvm_cpuid_entry2 *entry = cpuid_get(job, LEAF_FEATURES, 0);
	unsigned int family, model, stepping;
	char vendor[13];

	cpuid_identity(job->out, job->nr, vendor, &family, &model, &stepping);
	if (named) {
		family = named->family;
		model = named->model;
		stepping = named->stepping;
	}
	family = given->family_given ? given->family : family;
	model = given->model_given ? given->model : model;
	stepping = given->stepping_given ? given->stepping : stepping;
	if (!entry ||
	    (!named && !given->family_given && !given->model_given && !given->stepping_given))
		return;
	entry->eax = cpuid_signature(family, model, stepping);
	if (copy)
		copy->eax = entry->eax;
}

int cpuid_set_identity(struct cpuid_job *job, struct err **err)
{
	static const struct vm_cpu_identity nothing;
	const struct vm_cpu_identity *given =
		job->config->identity ? job->config->identity : &nothing;
	const struct cpu_model *model = job->config->model;
	const char *id = given->model_id ? given->model_id : model ? model->id : NULL;
	const struct kvm_cpuid_entry2 *basic = cpuid_get(job, LEAF_VENDOR, 0);
	const struct kvm_cpuid_entry2 *extended = cpuid_get(job, LEAF_EXT_MAX, 0);
	uint32_t level = basic ? basic->eax : 0, xlevel = extended ? extended->eax : 0;

	if (given->vendor)
		cpuid_set_vendor(job, given->vendor);
	cpuid_set_version(job);
	if (model) {
		level = model->level;
		xlevel = model->xlevel;
	}
	level = given->level_given ? given->level : level;
	xlevel = given->xlevel_given ? given->xlevel : xlevel;
	if (model || given->level_given || given->xlevel_given)
		cpuid_set_levels(job, level, xlevel, given->level_given || !model,
				 given->xlevel_given || !model);
	return id ? cpuid_set_brand(job, id, err) : 0;
}
