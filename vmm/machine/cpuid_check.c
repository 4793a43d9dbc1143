/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether a vCPU that was told its CPUID on another host can go on here: see cpuid.h for the
 * contract.
 *
 * What a guest was told it goes on believing. A bit that tells of something that is there needs it
 * here too; numbers that only describe (topology, caches, names, clock rates) need nothing. Bits
 * that the CPU itself changes while it runs (OSXSAVE, OSPKE) and those that tell of something that
 * is not there are no reason to refuse.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/machine/cpuid.h"
#include "vmm/machine/cpuid_names.h"

#define LEAF_VENDOR 0x0
#define LEAF_PMU    0xA
#define LEAF_XSAVE  0xD
#define LEAF_AVX10  0x24
#define LEAF_SIZES  0x80000008

#define XSAVE_FIRST 2u  /* components 0 and 1 have their places by definition */
#define XSAVE_LAST  62u /* component numbers are bits of XCR0 */

#define BIT(n) (UINT32_C(1) << (n))

/* Registers made of bits that each tell of a feature. */
static const struct cpuid_feature_register {
	uint32_t leaf, subleaf;
	enum vm_cpuid_reg reg;
	uint32_t ignored; /* bits that need nothing */
} cpuid_feature_registers[] = {
	{0x1, 0, VM_CPUID_EDX, 0},
	{0x1, 0, VM_CPUID_ECX, BIT(27)}, /* OSXSAVE */
	{0x6, 0, VM_CPUID_EAX, 0},
	{0x7, 0, VM_CPUID_EBX, BIT(6) | BIT(13)}, /* of the x87 FPU what is no longer saved */
	{0x7, 0, VM_CPUID_ECX, BIT(4)},           /* OSPKE */
	{0x7, 0, VM_CPUID_EDX, 0},
	{0x7, 1, VM_CPUID_EAX, 0},
	{0x7, 1, VM_CPUID_EBX, 0},
	{0x7, 1, VM_CPUID_ECX, 0},
	{0x7, 1, VM_CPUID_EDX, 0},
	{0x7, 2, VM_CPUID_EDX, 0},
	{LEAF_XSAVE, 0, VM_CPUID_EAX, 0},
	{LEAF_XSAVE, 0, VM_CPUID_EDX, 0},
	{LEAF_XSAVE, 1, VM_CPUID_EAX, 0},
	{LEAF_XSAVE, 1, VM_CPUID_ECX, 0},
	{LEAF_XSAVE, 1, VM_CPUID_EDX, 0},
	{0x12, 0, VM_CPUID_EAX, 0},
	{0x14, 0, VM_CPUID_EBX, 0},
	{LEAF_AVX10, 0, VM_CPUID_EBX, 0xFF}, /* a version */
	{0x14, 0, VM_CPUID_ECX, 0},
	{0x40000001, 0, VM_CPUID_EAX, 0},
	{0x80000001, 0, VM_CPUID_EDX, 0},
	{0x80000001, 0, VM_CPUID_ECX, 0},
	{0x80000007, 0, VM_CPUID_EBX, 0},
	{0x80000007, 0, VM_CPUID_EDX, 0},
	{LEAF_SIZES, 0, VM_CPUID_EBX, 0},
	{0x8000000A, 0, VM_CPUID_EDX, 0},
	{0x8000001F, 0, VM_CPUID_EAX, 0},
	{0x80000021, 0, VM_CPUID_EAX, 0},
	{0x80000022, 0, VM_CPUID_EAX, 0},
};

/* Fields that are a number: what the guest was told may not be more than what is here. */
static const struct cpuid_number {
	uint32_t leaf;
	enum vm_cpuid_reg reg;
	unsigned int shift;
	uint32_t mask;
	const char *what;
} cpuid_numbers[] = {
	{LEAF_SIZES, VM_CPUID_EAX, 0, 0xFF, "bits of physical addresses"},
	{LEAF_SIZES, VM_CPUID_EAX, 8, 0xFF, "bits of virtual addresses"},
	{LEAF_AVX10, VM_CPUID_EBX, 0, 0xFF, "as version of AVX10"},
	{LEAF_PMU, VM_CPUID_EAX, 0, 0xFF, "as version of the performance counters"},
	{LEAF_PMU, VM_CPUID_EAX, 8, 0xFF, "performance counters"},
	{LEAF_PMU, VM_CPUID_EDX, 0, 0x1F, "fixed performance counters"},
};

struct cpuid_table {
	const struct kvm_cpuid_entry2 *entries;
	size_t nr;
};

/* As the instruction would answer: zeros for what is not there. */
static struct kvm_cpuid_entry2 cpuid_ask(const struct cpuid_table *table, uint32_t leaf,
					 uint32_t subleaf)
{
	for (size_t i = 0; i < table->nr; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == leaf &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
			return *e;
	}
	return (struct kvm_cpuid_entry2){.function = leaf, .index = subleaf};
}

static uint32_t cpuid_ask_register(const struct cpuid_table *table, uint32_t leaf, uint32_t subleaf,
				   enum vm_cpuid_reg reg)
{
	const struct kvm_cpuid_entry2 e = cpuid_ask(table, leaf, subleaf);

	switch (reg) {
	case VM_CPUID_EAX:
		return e.eax;
	case VM_CPUID_EBX:
		return e.ebx;
	case VM_CPUID_ECX:
		return e.ecx;
	case VM_CPUID_EDX:
		break;
	}
	return e.edx;
}

static int cpuid_missing(const struct cpuid_feature_register *r, unsigned int bit, struct err **err)
{
	static const char *const regs[] = {"EAX", "EBX", "ECX", "EDX"};
	const char *name = cpuid_feature_name(r->leaf, r->subleaf, r->reg, bit);

	if (name)
		return err_set(err, EINVAL,
			       "the guest uses the CPU feature '%s', which this host's KVM does "
			       "not offer",
			       name);
	return err_set(err, EINVAL,
		       "the guest was told of a CPU feature that this host's KVM does not offer "
		       "(CPUID leaf %#x, subleaf %u, %s bit %u)",
		       r->leaf, r->subleaf, regs[r->reg], bit);
}

static bool cpuid_vendor_equal(const struct cpuid_table *a, const struct cpuid_table *b)
{
	const struct kvm_cpuid_entry2 x = cpuid_ask(a, LEAF_VENDOR, 0);
	const struct kvm_cpuid_entry2 y = cpuid_ask(b, LEAF_VENDOR, 0);

	return x.ebx == y.ebx && x.ecx == y.ecx && x.edx == y.edx;
}

/* The host's, or the one that was asked for here, too. */
static int cpuid_check_vendor(const struct cpuid_table *wanted, const struct cpuid_table *supported,
			      const struct cpuid_table *own, struct err **err)
{
	if (cpuid_vendor_equal(wanted, supported) || cpuid_vendor_equal(wanted, own))
		return 0;
	return err_set(err, EINVAL, "the guest's CPU is of another maker than this host's");
}

static int cpuid_check_features(const struct cpuid_table *wanted,
				const struct cpuid_table *supported, const struct cpuid_table *own,
				struct err **err)
{
	for (size_t i = 0; i < ARRAY_SIZE(cpuid_feature_registers); i++) {
		const struct cpuid_feature_register *r = &cpuid_feature_registers[i];
		uint32_t missing = cpuid_ask_register(wanted, r->leaf, r->subleaf, r->reg);

		missing &= ~r->ignored;
		missing &= ~cpuid_ask_register(supported, r->leaf, r->subleaf, r->reg);
		missing &= ~cpuid_ask_register(own, r->leaf, r->subleaf, r->reg);
		if (missing)
			return cpuid_missing(r, (unsigned int)__builtin_ctz(missing), err);
	}
	return 0;
}

static int cpuid_check_numbers(const struct cpuid_table *wanted,
			       const struct cpuid_table *supported, const struct cpuid_table *own,
			       struct err **err)
{
	for (size_t i = 0; i < ARRAY_SIZE(cpuid_numbers); i++) {
		const struct cpuid_number *n = &cpuid_numbers[i];
		uint32_t w = cpuid_ask_register(wanted, n->leaf, 0, n->reg) >> n->shift & n->mask;
		uint32_t s =
			cpuid_ask_register(supported, n->leaf, 0, n->reg) >> n->shift & n->mask;
		uint32_t o = cpuid_ask_register(own, n->leaf, 0, n->reg) >> n->shift & n->mask;

		if (w > s && w > o)
			return err_set(err, EINVAL,
				       "the guest was told of %u %s; this host's KVM offers %u", w,
				       n->what, s > o ? s : o);
	}
	return 0;
}

/* Programs keep registers in the layout that their CPU told them of. */
static int cpuid_check_xsave(const struct cpuid_table *wanted, const struct cpuid_table *supported,
			     struct err **err)
{
	const struct kvm_cpuid_entry2 base = cpuid_ask(wanted, LEAF_XSAVE, 0);
	const struct kvm_cpuid_entry2 more = cpuid_ask(wanted, LEAF_XSAVE, 1);
	uint64_t used =
		((uint64_t)base.edx << 32 | base.eax) | ((uint64_t)more.edx << 32 | more.ecx);

	for (uint32_t i = XSAVE_FIRST; i <= XSAVE_LAST; i++) {
		const struct kvm_cpuid_entry2 w = cpuid_ask(wanted, LEAF_XSAVE, i);
		const struct kvm_cpuid_entry2 s = cpuid_ask(supported, LEAF_XSAVE, i);

		if ((used >> i & 1) && (w.eax != s.eax || w.ebx != s.ebx))
			return err_set(
				err, EINVAL,
				"this host's CPU keeps component %u of XSAVE in another place "
				"than the guest was told",
				i);
	}
	return 0;
}

int cpuid_check(const struct kvm_cpuid_entry2 *wanted, size_t nr_wanted,
		const struct kvm_cpuid_entry2 *supported, size_t nr_supported,
		const struct kvm_cpuid_entry2 *own, size_t nr_own, struct err **err)
{
	const struct cpuid_table w = {wanted, nr_wanted}, s = {supported, nr_supported},
				 o = {own, nr_own};
	int ret = cpuid_check_vendor(&w, &s, &o, err);

	if (!ret)
		ret = cpuid_check_features(&w, &s, &o, err);
	if (!ret)
		ret = cpuid_check_numbers(&w, &s, &o, err);
	if (!ret)
		ret = cpuid_check_xsave(&w, &s, err);
	return ret;
}
