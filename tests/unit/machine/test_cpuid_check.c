/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest was told of its CPU against what another host offers: each bit and number alone makes
 * the difference, and the sentence names it.
 */
#include "tests/unit/machine/fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/machine/cpuid.h"
#include "vmm/machine/cpuid_names.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

struct table {
	struct kvm_cpuid_entry2 entries[24];
	size_t nr;
};

static const struct table host = {
	.entries = {{.function = 0,
		     .eax = 0x1F,
		     .ebx = 0x756e6547,
		     .ecx = 0x6c65746e,
		     .edx = 0x49656e69},
		    {.function = 1, .eax = 0x806F8, .ebx = 0x11000800, .ecx = 0x3, .edx = 0x30},
		    {.function = 6, .eax = 4},
		    {.function = 7, .flags = INDEXED, .eax = 2, .ebx = 0x20, .ecx = 2},
		    {.function = 7, .index = 1, .flags = INDEXED, .eax = 0x10},
		    {.function = 0xA, .eax = 0x07300402, .edx = 0x603},
		    {.function = 0xD, .flags = INDEXED, .eax = 0x7, .ebx = 0x340, .ecx = 0x340},
		    {.function = 0xD, .index = 1, .flags = INDEXED, .eax = 0xF, .ecx = 0x800},
		    {.function = 0xD, .index = 2, .flags = INDEXED, .eax = 0x100, .ebx = 0x240},
		    {.function = 0xD, .index = 11, .flags = INDEXED, .eax = 0x10, .ecx = 1},
		    {.function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b},
		    {.function = 0x40000001, .eax = 0x01007EFB},
		    {.function = 0x80000001, .ecx = 0x121, .edx = 0x2C100800},
		    {.function = 0x80000008, .eax = 0x302E}},
	.nr = 14,
};

static struct kvm_cpuid_entry2 *find(struct table *table, uint32_t leaf, uint32_t index)
{
	for (size_t i = 0; i < table->nr; i++)
		if (table->entries[i].function == leaf && table->entries[i].index == index)
			return &table->entries[i];
	table->entries[table->nr] = (struct kvm_cpuid_entry2){
		.function = leaf, .index = index, .flags = index ? INDEXED : 0};
	return &table->entries[table->nr++];
}

static int check(const struct table *wanted, const struct table *supported, const struct table *own,
		 struct err **err)
{
	return cpuid_check(wanted->entries, wanted->nr, supported->entries, supported->nr,
			   own->entries, own->nr, err);
}

static void expect_refused(const struct table *wanted, const char *part)
{
	struct err *err = NULL;

	assert_int_equal(check(wanted, &host, &host, &err), -EINVAL);
	if (!strstr(err_message(err), part))
		fail_msg("'%s' does not say '%s'", err_message(err), part);
	err_free(err);
	assert_int_equal(check(wanted, wanted, &host, NULL), 0);
}

static void test_same_and_less(void **state)
{
	struct table wanted = host;

	(void)state;
	assert_int_equal(check(&host, &host, &host, NULL), 0);
	find(&wanted, 7, 0)->ebx = 0;
	find(&wanted, 1, 0)->ecx = 1;
	find(&wanted, 0x40000001, 0)->eax = 0;
	find(&wanted, 0x80000008, 0)->eax = 0x2827;
	/* What only describes may be anything. */
	find(&wanted, 1, 0)->eax = 0x12345;
	find(&wanted, 1, 0)->ebx = 0xFFFFFFFF;
	find(&wanted, 4, 0)->eax = 0xFFFFFFFF;
	find(&wanted, 0xB, 1)->ebx = 99;
	find(&wanted, 0x80000002, 0)->eax = 0x20202020;
	find(&wanted, 1, 0)->ecx |= 1u << 27;
	find(&wanted, 7, 0)->ecx |= 1u << 4;
	assert_int_equal(check(&wanted, &host, &host, NULL), 0);
}

/* Each bit of each register that has names, one at a time. */
static void test_named_features(void **state)
{
	size_t nr;
	const struct cpuid_names *named = cpuid_names(&nr);

	(void)state;
	for (size_t i = 0; i < nr; i++) {
		const struct cpuid_names *r = &named[i];

		for (unsigned int bit = 0; bit < 32; bit++) {
			struct table wanted = host;
			struct kvm_cpuid_entry2 *e = find(&wanted, r->leaf, r->subleaf);
			uint32_t *reg = r->reg == VM_CPUID_EAX   ? &e->eax
					: r->reg == VM_CPUID_EBX ? &e->ebx
					: r->reg == VM_CPUID_ECX ? &e->ecx
								 : &e->edx;
			char quoted[40];

			if (!r->names[bit] || *reg >> bit & 1)
				continue;
			if (r->leaf == CPUID_ARCH_CAPABILITIES)
				continue; /* is no leaf */
			if (r->leaf == 7 && r->reg == VM_CPUID_EBX && (bit == 6 || bit == 13))
				continue; /* tell of what is not there */
			/* A hint is the owner's, and every host can give it. */
			if (r->leaf == 0x40000001 && r->reg == VM_CPUID_EDX)
				continue;
			*reg |= 1u << bit;
			snprintf(quoted, sizeof(quoted), "'%s'", r->names[bit]);
			expect_refused(&wanted, quoted);
		}
	}
}

static void test_other_features(void **state)
{
	struct table wanted = host;

	(void)state;
	find(&wanted, 7, 1)->eax |= 1u << 22;
	expect_refused(&wanted, "leaf 0x7, subleaf 1, EAX bit 22");
	wanted = host;
	find(&wanted, 0x40000001, 0)->eax |= 1u << 20;
	expect_refused(&wanted, "leaf 0x40000001, subleaf 0, EAX bit 20");
	wanted = host;
	find(&wanted, 0x80000021, 0)->eax = 1u << 31;
	expect_refused(&wanted, "leaf 0x80000021");
	wanted = host;
	find(&wanted, 0xD, 0)->edx = 1u << 31;
	expect_refused(&wanted, "leaf 0xd, subleaf 0, EDX bit 31");
}

/* What KVM does not list but the monitor adds on its own is there as well. */
static void test_own_features(void **state)
{
	struct table wanted = host, own = host;

	(void)state;
	find(&wanted, 1, 0)->ecx |= 1u << 24 | 1u << 21;
	expect_refused(&wanted, "'x2apic'");
	find(&own, 1, 0)->ecx |= 1u << 21;
	assert_int_equal(check(&wanted, &host, &own, NULL), -EINVAL);
	find(&own, 1, 0)->ecx |= 1u << 24;
	assert_int_equal(check(&wanted, &host, &own, NULL), 0);
}

static void test_numbers(void **state)
{
	struct table wanted = host, own = host;

	(void)state;
	find(&wanted, 0x80000008, 0)->eax = 0x3030;
	expect_refused(&wanted, "48 bits of physical addresses; this host's KVM offers 46");
	find(&own, 0x80000008, 0)->eax = 0x3034;
	assert_int_equal(check(&wanted, &host, &own, NULL), 0);
	wanted = host;
	find(&wanted, 0x80000008, 0)->eax = 0x392E;
	expect_refused(&wanted, "57 bits of virtual addresses");
	wanted = host;
	find(&wanted, 0xA, 0)->eax = 0x07300802;
	expect_refused(&wanted, "8 performance counters; this host's KVM offers 4");
	wanted = host;
	find(&wanted, 0xA, 0)->edx = 4;
	expect_refused(&wanted, "4 fixed performance counters");
}

static void test_layout_and_maker(void **state)
{
	struct table wanted = host;
	struct err *err = NULL;

	(void)state;
	find(&wanted, 0xD, 2)->ebx = 0x380;
	expect_refused(&wanted, "component 2 of XSAVE");
	/* A place that is not used may be anywhere. */
	find(&wanted, 0xD, 0)->eax = 3;
	assert_int_equal(check(&wanted, &host, &host, NULL), 0);
	wanted = host;
	find(&wanted, 0xD, 11)->eax = 0x18;
	expect_refused(&wanted, "component 11 of XSAVE");
	wanted = host;
	find(&wanted, 0, 0)->ecx = 0x444d4163;
	assert_int_equal(check(&wanted, &host, &host, &err), -EINVAL);
	assert_non_null(strstr(err_message(err), "another maker"));
	err_free(err);
	/* Nothing told at all. */
	wanted.nr = 0;
	assert_int_equal(check(&wanted, &host, &host, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_and_less),  cmocka_unit_test(test_named_features),
		cmocka_unit_test(test_other_features), cmocka_unit_test(test_own_features),
		cmocka_unit_test(test_numbers),        cmocka_unit_test(test_layout_and_maker),
	};

	return cmocka_run_group_tests_name("machine: cpuid_check", tests, NULL, NULL);
}
