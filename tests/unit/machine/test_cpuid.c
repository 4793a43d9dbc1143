/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CPUID: a guest's way of reading topology gives back what was asked for, for every number of CPUs
 * from 1 to 64 on both vendors' leaves; nothing of the host shows; features by name.
 */
#include "tests/unit/machine/fixture.h"

#include <errno.h>
#include <string.h>

#include "vmm/machine/cpuid.h"

#define INDEXED   KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define HOST_ID   0x77u /* the host CPU on which KVM was asked */
#define SUPPORTED 32

/* What KVM says on a host with 24 cores of 2 threads; x2APIC ids and counts are the host's. */
struct host {
	struct kvm_cpuid_entry2 entries[SUPPORTED];
	size_t nr;
};

static void host_add(struct host *host, uint32_t leaf, uint32_t index, uint32_t flags, uint32_t eax,
		     uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	assert_true(host->nr < SUPPORTED);
	host->entries[host->nr++] = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = index,
		.flags = flags,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx,
	};
}

static void host_make(struct host *host, bool amd, uint32_t max_leaf)
{
	uint32_t cache = 47u << 26 | 63u << 14; /* host's sharing */
	unsigned int i;

	memset(host, 0, sizeof(*host));
	if (amd)
		host_add(host, 0, 0, 0, max_leaf, 0x68747541, 0x444d4163, 0x69746e65);
	else
		host_add(host, 0, 0, 0, max_leaf, 0x756e6547, 0x6c65746e, 0x49656e69);
	host_add(host, 1, 0, 0, 0x800F12, HOST_ID << 24 | 48u << 16 | 0x0800,
		 1u << 27 | 1u << 15 | 1u << 1 | 1u, 0x1783FBFF);
	for (i = 0; i < 4 && !amd; i++)
		host_add(host, 4, i, INDEXED, cache | (i < 3 ? i : 3) << 5 | (1 + i % 3), 63, 63,
			 0);
	host_add(host, 7, 0, INDEXED, 0, 1u << 2 | 1u << 5, 1u << 30 | 1u << 4, 0);
	host_add(host, 0xA, 0, 0, 0x07300402, 0, 0, 0);
	host_add(host, 0xB, 0, INDEXED, 1, 2, 0x100, HOST_ID);
	host_add(host, 0xB, 1, INDEXED, 7, 48, 0x201, HOST_ID);
	host_add(host, 0x12, 0, INDEXED, 3, 0, 0, 0);
	host_add(host, 0x1F, 0, INDEXED, 1, 2, 0x100, HOST_ID);
	host_add(host, 0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	host_add(host, 0x40000001, 0, 0, 0x01007EFB, 0, 0, 1);
	host_add(host, 0x80000000, 0, 0, 0x80000021, 0, 0, 0);
	host_add(host, 0x80000001, 0, 0, 0x800F12, 0, 1u << 23 | 1u << 22 | 1u << 1 | 1u,
		 0x2C500800 | (amd ? 0x0183F3FF : 0));
	host_add(host, 0x80000007, 0, 0, 0, 0, 0, 1u << 8);
	host_add(host, 0x80000008, 0, 0, 0x3028 + 8, 0, 0x702F, 0);
	for (i = 0; i < 4 && amd; i++)
		host_add(host, 0x8000001D, i, INDEXED, cache | (i < 3 ? i : 3) << 5 | (1 + i % 3),
			 63, 63, 0);
	host_add(host, 0x8000001E, 0, 0, HOST_ID, HOST_ID, HOST_ID, 0);
	host_add(host, 0x8000001F, 0, 0, 3, 0x6F, 0, 0);
	host_add(host, 0x80000026, 0, INDEXED, 1, 2, 0x100, HOST_ID);
}

struct cpu {
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
	size_t nr;
};

/* As the CPUID instruction would: zeros for what is not there. */
static struct kvm_cpuid_entry2 cpuid(const struct cpu *cpu, uint32_t leaf, uint32_t index)
{
	size_t i;

	for (i = 0; i < cpu->nr; i++) {
		const struct kvm_cpuid_entry2 *e = &cpu->entries[i];

		if (e->function == leaf && (!(e->flags & INDEXED) || e->index == index))
			return *e;
	}
	return (struct kvm_cpuid_entry2){0};
}

static void build(const struct cpuid_config *config, const struct host *host, unsigned int index,
		  struct cpu *cpu)
{
	size_t i, j;

	memset(cpu, 0xFF, sizeof(*cpu));
	assert_int_equal(cpuid_build(config, host->entries, host->nr,
				     cpuid_apic_id(&config->topology, index), cpu->entries,
				     &cpu->nr, NULL),
			 0);
	for (i = 0; i < cpu->nr; i++) {
		for (j = 0; j < i; j++)
			assert_false(cpu->entries[i].function == cpu->entries[j].function &&
				     cpu->entries[i].index == cpu->entries[j].index);
	}
}

static struct cpuid_config config_of(unsigned int sockets, unsigned int dies, unsigned int cores,
				     unsigned int threads)
{
	return (struct cpuid_config){
		.topology = {sockets, dies, cores, threads},
		.tsc_deadline = true,
		.x2apic = true,
		.kvm = true,
	};
}

/* Read sockets, cores and threads back as a guest does, from leaf @leaf. */
static void check_levels(const struct cpu *cpu, const struct cpuid_topology *t, uint32_t leaf,
			 unsigned int index)
{
	uint32_t id = cpuid_apic_id(t, index), logical = t->threads * t->cores * t->dies;
	struct kvm_cpuid_entry2 smt = cpuid(cpu, leaf, 0), level;
	unsigned int i = 0;

	assert_int_equal(smt.ecx, 0x100);
	assert_int_equal(smt.ebx, t->threads);
	assert_int_equal(id & ((1u << smt.eax) - 1), index % t->threads);
	do {
		level = cpuid(cpu, leaf, i);
		assert_int_equal(level.edx, id);
		assert_int_equal(level.ecx & 0xFF, i);
		if (level.ecx >> 8 == 2 && leaf == 0x1F) {
			assert_int_equal(level.ebx, t->threads * t->cores);
			assert_int_equal((id & ((1u << level.eax) - 1)) >> smt.eax,
					 index / t->threads % t->cores);
		}
		i++;
	} while (level.ecx >> 8 && i < 8);
	assert_true(i < 8);
	/* The last level before the end tells of the package. */
	level = cpuid(cpu, leaf, i - 2);
	assert_int_equal(level.ebx, logical);
	assert_int_equal(id >> level.eax, index / logical);
}

static unsigned int pow2(unsigned int n)
{
	unsigned int p = 1;

	while (p < n)
		p *= 2;
	return p;
}

static void check_caches(const struct cpu *cpu, const struct cpuid_topology *t, uint32_t leaf)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		struct kvm_cpuid_entry2 e = cpuid(cpu, leaf, i);
		unsigned int level = e.eax >> 5 & 7, shared = (e.eax >> 14 & 0xFFF) + 1;

		assert_int_not_equal(e.eax & 0x1F, 0);
		assert_int_equal(shared,
				 level < 3 ? pow2(t->threads) : pow2(t->threads) * pow2(t->cores));
		/* Intel's number of cores, in a field that ends at 64. */
		assert_int_equal((e.eax >> 26) + 1,
				 leaf == 4 ? num_min(pow2(t->cores) * pow2(t->dies), 64) : 1);
	}
}

static void check_cpu(const struct cpu *cpu, const struct cpuid_topology *t, unsigned int index,
		      bool amd)
{
	uint32_t id = cpuid_apic_id(t, index), logical = t->threads * t->cores * t->dies;
	struct kvm_cpuid_entry2 e = cpuid(cpu, 1, 0);

	assert_int_equal(e.ebx >> 24, id & 0xFF);
	assert_true((e.ebx >> 16 & 0xFF) >= logical);
	assert_int_equal(e.ebx & 0xFFFF, 0x0800);
	assert_int_equal(e.edx >> 28 & 1, logical > 1);
	check_levels(cpu, t, 0xB, index);
	if (cpuid(cpu, 0, 0).eax >= 0x1F)
		check_levels(cpu, t, 0x1F, index);
	check_caches(cpu, t, amd ? 0x8000001D : 4);
	e = cpuid(cpu, 0x80000001, 0);
	assert_int_equal(e.ecx >> 1 & 1, amd && logical > 1);
	e = cpuid(cpu, 0x80000008, 0);
	if (!amd) {
		assert_int_equal(e.ecx, 0);
		assert_int_equal(cpuid(cpu, 0x8000001E, 0).eax, 0);
		return;
	}
	assert_int_equal((e.ecx & 0xFF) + 1, logical);
	assert_int_equal(id >> (e.ecx >> 12), index / logical);
	e = cpuid(cpu, 0x8000001E, 0);
	assert_int_equal(e.eax, id);
	assert_int_equal((e.ebx >> 8) + 1, t->threads);
	assert_int_equal((e.ecx >> 8) + 1, t->dies);
}

static void test_topologies(void **state)
{
	static struct host host;
	static struct cpu cpu;
	unsigned int sockets, cores, threads, dies, i, amd, built = 0;

	(void)state;
	for (amd = 0; amd < 2; amd++) {
		host_make(&host, amd, amd ? 0x10 : 0x1F);
		for (sockets = 1; sockets <= 64; sockets = sockets < 4 ? sockets + 1 : sockets * 4)
			for (dies = 1; dies <= 3; dies++)
				for (cores = 1; cores <= 64; cores++)
					for (threads = 1; threads <= 2; threads++) {
						struct cpuid_config config =
							config_of(sockets, dies, cores, threads);
						unsigned int nr = sockets * dies * cores * threads;

						if (nr > 64)
							continue;
						for (i = 0; i < nr; i += 1 + nr / 7) {
							build(&config, &host, i, &cpu);
							check_cpu(&cpu, &config.topology, i, amd);
							built++;
						}
					}
	}
	assert_true(built > 1000);
}

static void test_apic_ids(void **state)
{
	static const struct cpuid_topology t3 = {2, 1, 3, 2}, rfc = {2, 1, 2, 1};
	static const uint32_t expect[] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13};
	unsigned int i, sockets, cores, threads;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(expect); i++)
		assert_int_equal(cpuid_apic_id(&t3, i), expect[i]);
	for (i = 0; i < 4; i++)
		assert_int_equal(cpuid_apic_id(&rfc, i), i);
	/* Ascending, hence unique, whatever the counts. */
	for (sockets = 1; sockets < 6; sockets++)
		for (cores = 1; cores < 9; cores++)
			for (threads = 1; threads < 4; threads++) {
				struct cpuid_topology t = {sockets, 1, cores, threads};

				for (i = 1; i < sockets * cores * threads; i++)
					assert_true(cpuid_apic_id(&t, i) >
						    cpuid_apic_id(&t, i - 1));
			}
}

/* The host's CPU count, ids and sharing are in no leaf; what guests do not get is gone. */
static void test_no_leaks(void **state)
{
	static const uint32_t gone[] = {0x12, 0x8000001F, 0x80000026};
	static struct host host;
	static struct cpu cpu;
	struct cpuid_config config = config_of(1, 1, 1, 1);
	unsigned int amd;
	size_t i;

	(void)state;
	for (amd = 0; amd < 2; amd++) {
		host_make(&host, amd, 0x1F);
		build(&config, &host, 0, &cpu);
		for (i = 0; i < cpu.nr; i++) {
			assert_int_not_equal(cpu.entries[i].edx, HOST_ID);
			assert_int_not_equal(cpu.entries[i].eax, HOST_ID);
		}
		for (i = 0; i < ARRAY_SIZE(gone); i++)
			assert_int_equal(cpuid(&cpu, gone[i], 0).eax, 0);
		assert_int_equal(cpuid(&cpu, 7, 0).ebx, 1u << 5);
		assert_int_equal(cpuid(&cpu, 7, 0).ecx, 0);
		assert_int_equal(cpuid(&cpu, 1, 0).ecx >> 27 & 1, 0);
		assert_int_equal(cpuid(&cpu, 0xA, 0).eax, 0);
		assert_int_equal(cpuid(&cpu, 1, 0).ecx >> 15 & 1, 0);
		assert_int_equal(cpuid(&cpu, 0x80000001, 0).ecx >> 23 & 1, 0);
	}
}

static void test_flags(void **state)
{
	static struct host host;
	static struct cpu cpu;
	struct cpuid_config config = config_of(1, 1, 2, 1);

	(void)state;
	host_make(&host, false, 4);
	build(&config, &host, 0, &cpu);
	/* A leaf that was not there before is within the limit now. */
	assert_int_equal(cpuid(&cpu, 0, 0).eax, 0xB);
	assert_int_equal(cpuid(&cpu, 1, 0).ecx & (1u << 31 | 1u << 24 | 1u << 21),
			 1u << 31 | 1u << 24 | 1u << 21);
	assert_int_equal(cpuid(&cpu, 0x40000000, 0).ebx, 0x4b4d564b);
	assert_int_equal(cpuid(&cpu, 0x40000001, 0).eax, 0x01007EFB);
	assert_int_equal(cpuid(&cpu, 0x40000001, 0).edx, 0);
	assert_int_equal(cpuid(&cpu, 0x80000007, 0).edx, 1u << 8);
	assert_int_equal(cpuid_phys_bits(cpu.entries, cpu.nr), 0x30);

	config.tsc_deadline = config.x2apic = config.kvm = false;
	config.pmu = config.migratable = true;
	config.phys_bits = 40;
	build(&config, &host, 0, &cpu);
	assert_int_equal(cpuid(&cpu, 1, 0).ecx & (1u << 31 | 1u << 24 | 1u << 21), 1u << 31);
	assert_int_equal(cpuid(&cpu, 0x40000000, 0).eax, 0);
	assert_int_equal(cpuid(&cpu, 0x40000001, 0).eax, 0);
	assert_int_equal(cpuid(&cpu, 0xA, 0).eax, 0x07300402);
	assert_int_equal(cpuid(&cpu, 0x80000007, 0).edx, 0);
	assert_int_equal(cpuid_phys_bits(cpu.entries, cpu.nr), 40);
	assert_int_equal(cpuid(&cpu, 0x80000008, 0).eax >> 8, 0x30);
	assert_int_equal(cpuid_phys_bits(NULL, 0), 36);
}

static void test_features(void **state)
{
	static struct host host;
	static struct cpu cpu;
	const struct vm_cpu_feature choices[] = {
		{"sse", 1, 0, VM_CPUID_EDX, 25, false},
		{"avx2", 7, 0, VM_CPUID_EBX, 5, false},
		{"avx2", 7, 0, VM_CPUID_EBX, 5, true},
		{"tsc-deadline", 1, 0, VM_CPUID_ECX, 24, true},
		{"hypervisor", 1, 0, VM_CPUID_ECX, 31, false},
		{"invtsc", 0x80000007, 0, VM_CPUID_EDX, 8, true},
		{"avx-vnni", 7, 1, VM_CPUID_EAX, 4, false},
	};
	const struct vm_cpu_feature impossible[] = {
		{"rdrand", 1, 0, VM_CPUID_ECX, 30, true},
		{"avx-vnni", 7, 1, VM_CPUID_EAX, 4, true},
	};
	struct cpuid_config config = config_of(1, 1, 1, 1);
	struct err *err;
	size_t i, nr = 12345;
	int ret;

	(void)state;
	config.features = choices;
	config.nr_features = ARRAY_SIZE(choices);
	config.migratable = true;
	host_make(&host, true, 0x10);
	build(&config, &host, 0, &cpu);
	assert_int_equal(cpuid(&cpu, 1, 0).edx >> 25 & 1, 0);
	assert_int_equal(cpuid(&cpu, 7, 0).ebx >> 5 & 1, 1);
	assert_int_equal(cpuid(&cpu, 1, 0).ecx >> 24 & 1, 1);
	assert_int_equal(cpuid(&cpu, 1, 0).ecx >> 31, 0);
	assert_int_equal(cpuid(&cpu, 0x80000007, 0).edx >> 8 & 1, 1);
	/* AMD's second copy of a bit follows, other bits of that register stay. */
	assert_int_equal(cpuid(&cpu, 0x80000001, 0).edx & 0x0183F3FF,
			 cpuid(&cpu, 1, 0).edx & 0x0183F3FF);
	assert_int_equal(cpuid(&cpu, 0x80000001, 0).edx & 0x2C500800, 0x2C500800);
	for (i = 0; i < ARRAY_SIZE(impossible); i++) {
		config.features = &impossible[i];
		config.nr_features = 1;
		err = NULL;
		ret = cpuid_build(&config, host.entries, host.nr, 0, cpu.entries, &nr, &err);
		assert_refused(ret, EINVAL, err, "-cpu", impossible[i].name);
		assert_int_equal(nr, 12345);
	}
}

struct told {
	unsigned int names, on, clocks;
	bool lm, avx2, clock;
};

static void tell(void *opaque, const char *name, bool on)
{
	struct told *told = opaque;

	told->names++;
	told->on += on;
	told->clocks += !strcmp(name, "kvmclock");
	told->lm |= on && !strcmp(name, "lm");
	told->avx2 |= on && !strcmp(name, "avx2");
	told->clock |= on && !strcmp(name, "kvmclock");
}

static void test_told(void **state)
{
	static struct host host;
	struct told told = {0}, nothing = {0};
	unsigned int family, model, stepping;
	char vendor[13];

	(void)state;
	host_make(&host, false, 0x10);
	cpuid_each_name(host.entries, host.nr, 0, tell, &told);
	assert_true(told.lm && told.avx2 && told.clock);
	assert_int_equal(told.clocks, 1);
	cpuid_each_name(NULL, 0, 0, tell, &nothing);
	assert_int_equal(nothing.names, told.names);
	assert_int_equal(nothing.on, 0);
	cpuid_identity(host.entries, host.nr, vendor, &family, &model, &stepping);
	assert_string_equal(vendor, "GenuineIntel");
	assert_int_equal(family, 0x17);
	assert_int_equal(model, 1);
	assert_int_equal(stepping, 2);
	cpuid_identity(NULL, 0, vendor, &family, &model, &stepping);
	assert_string_equal(vendor, "");
	assert_int_equal(family | model | stepping, 0);
}

/* More leaves than KVM takes: refused, not overrun. */
static void test_too_many(void **state)
{
	static struct kvm_cpuid_entry2 many[CPUID_ENTRIES_MAX + 1];
	static struct cpu cpu;
	struct cpuid_config config = config_of(1, 1, 1, 1);
	struct err *err = NULL;
	size_t i;
	int ret;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct kvm_cpuid_entry2){
			.function = 0xD, .index = (uint32_t)i, .flags = INDEXED};
	for (i = CPUID_ENTRIES_MAX - 2; i <= ARRAY_SIZE(many); i++) {
		err = NULL;
		ret = cpuid_build(&config, many, i, 0, cpu.entries, &cpu.nr, &err);
		assert_refused(ret, E2BIG, err, "CPUID", "256");
	}
}

static void test_msrs(void **state)
{
	struct kvm_msr_entry msrs[CPUID_MSRS_MAX];
	struct host host;

	(void)state;
	host_make(&host, false, 0x1F);
	assert_int_equal(cpuid_msrs(host.entries, host.nr, msrs), 2);
	assert_int_equal(msrs[0].index, 0x1A0);
	assert_int_equal(msrs[0].data & 1, 1);
	assert_int_equal(msrs[1].index, 0x2FF);
	assert_int_equal(msrs[1].data, 0x806);
	host_make(&host, true, 0x10);
	assert_int_equal(cpuid_msrs(host.entries, host.nr, msrs), 1);
	assert_int_equal(msrs[0].index, 0x2FF);
	assert_int_equal(cpuid_msrs(NULL, 0, msrs), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_topologies), cmocka_unit_test(test_apic_ids),
		cmocka_unit_test(test_no_leaks),   cmocka_unit_test(test_flags),
		cmocka_unit_test(test_features),   cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_msrs),       cmocka_unit_test(test_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
