/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CPU models by name: the table against numbers from elsewhere; what a guest gets of a model where
 * the host has all of it, some of it and nothing of it; what is told of what it does not get.
 */
#include "tests/unit/machine/fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/machine/cpu_models_golden.h"
#include "vmm/machine/cpu_models.h"
#include "vmm/machine/cpuid.h"

#define INDEXED   KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define SUPPORTED 40
#define AVX512F   16u /* leaf 7 EBX */

struct table {
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
	size_t nr;
};

static void add(struct table *table, uint32_t leaf, uint32_t index, uint32_t eax, uint32_t ebx,
		uint32_t ecx, uint32_t edx)
{
	assert_true(table->nr < SUPPORTED);
	table->entries[table->nr++] = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = index,
		.flags = leaf == 4 || leaf == 7 || leaf == 0xD ? INDEXED : 0,
		.eax = eax,
		.ebx = ebx,
		.ecx = ecx,
		.edx = edx,
	};
}

/* A host whose KVM offers every bit of every register with features; 46 bits of addresses. */
static void host_make(struct table *host, const char *vendor)
{
	const uint32_t all = UINT32_MAX;
	uint32_t v[3];

	memset(host, 0, sizeof(*host));
	memcpy(v, vendor, sizeof(v));
	add(host, 0, 0, 0x24, v[0], v[2], v[1]);
	add(host, 1, 0, 0x806F8, 0x800, all, all);
	add(host, 6, 0, 0x4, 0, 0, 0);
	add(host, 7, 0, 2, all, all, all);
	add(host, 7, 1, all, all, all, all);
	add(host, 7, 2, all, all, all, all);
	add(host, 0xD, 0, 0x602E7, 0x2B00, 0x2B00, 0);
	add(host, 0xD, 1, 0x1F, 0x2B00, 0x1900, 0);
	add(host, 0xD, 2, 256, 576, 0, 0);
	for (uint32_t i = 5; i <= 7; i++)
		add(host, 0xD, i,
		    i == 5   ? 64
		    : i == 6 ? 512
			     : 1024,
		    i == 5   ? 1088
		    : i == 6 ? 1152
			     : 1664,
		    0, 0);
	add(host, 0xD, 9, 8, 2688, 0, 0);
	add(host, 0xD, 11, 16, 0, 1, 0);
	add(host, 0xD, 17, 64, 2752, 2, 0);
	add(host, 0xD, 18, 8192, 2816, 6, 0);
	add(host, 0x14, 0, 1, all, all, all);
	add(host, 0x1D, 0, 1, 0, 0, 0);
	add(host, 0x1E, 0, 0, 0x4010, 0, 0);
	add(host, 0x24, 0, 0, all, 0, 0);
	add(host, 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	add(host, 0x40000001, 0, all, 0, 0, 0);
	add(host, 0x80000000, 0, 0x80000022, v[0], v[2], v[1]);
	add(host, 0x80000001, 0, 0x806F8, 0, all, all);
	for (uint32_t i = 2; i <= 4; i++)
		add(host, 0x80000000 + i, 0, 0x41414141, 0x41414141, 0x41414141, 0x41414141);
	add(host, 0x80000007, 0, 0, all, 0, all);
	add(host, 0x80000008, 0, 0x392E, all, 0, 0);
	add(host, 0x8000000A, 0, 1, 8, 0, all);
	add(host, 0x80000021, 0, all, all, all, all);
	add(host, 0x80000022, 0, 1, 0, 0, 0);
}

static uint32_t told(const struct table *cpu, uint32_t leaf, uint32_t index, enum vm_cpuid_reg reg)
{
	return cpuid_read(cpu->entries, cpu->nr, leaf, index, reg);
}

static struct cpuid_config config_of(const char *name, struct cpu_features *features)
{
	const struct cpu_model *model = cpu_model_find(name);

	assert_non_null(model);
	cpu_model_features(model, true, features);
	return (struct cpuid_config){
		.topology = {1, 1, 1, 1},
		.model = model,
		.model_features = features,
		.tsc_deadline = true,
		.x2apic = true,
		.kvm = true,
		.migratable = true,
		.phys_bits = 40,
		.arch_capabilities = UINT64_MAX,
	};
}

static void build(const struct cpuid_config *config, const struct table *host, struct table *cpu)
{
	assert_int_equal(
		cpuid_build(config, host->entries, host->nr, 0, cpu->entries, &cpu->nr, NULL), 0);
	for (size_t i = 0; i < cpu->nr; i++) {
		for (size_t j = 0; j < i; j++)
			assert_false(cpu->entries[i].function == cpu->entries[j].function &&
				     cpu->entries[i].index == cpu->entries[j].index);
	}
}

struct names {
	char text[4096];
	unsigned int count;
};

static void note(void *opaque, const char *name)
{
	struct names *names = opaque;
	size_t used = strlen(names->text);

	snprintf(names->text + used, sizeof(names->text) - used, " %s ", name);
	names->count++;
}

static struct names missing_of(const struct cpuid_config *config, const struct table *host)
{
	struct cpu_features missing;
	struct names names = {.text = ""};

	cpuid_model_missing(config, host->entries, host->nr, &missing);
	cpuid_each_missing(&missing, note, &names);
	return names;
}

/* ---- the table ---- */

static bool is_named(const char *word, size_t length)
{
	size_t nr;
	const struct cpuid_names *rows = cpuid_names(&nr);

	for (size_t i = 0; i < nr; i++) {
		for (unsigned int bit = 0; bit < 32; bit++) {
			const char *name = rows[i].names[bit];

			if (name && strlen(name) == length && !memcmp(name, word, length))
				return true;
		}
	}
	return false;
}

/* Each word is a feature, and changes something of what the model stands on. */
static void check_words(const struct cpu_model *model)
{
	for (const char *word = model->changes; *word;) {
		size_t length = strcspn(word, " ");
		bool off = *word == '-';

		if (!is_named(word + off, length - off))
			fail_msg("%s: %.*s is no feature", model->name, (int)length, word);
		for (const char *other = model->changes; other < word;) {
			size_t other_length = strcspn(other, " ");

			assert_false(other_length == length && !memcmp(word, other, length));
			other += other_length + 1;
		}
		word += length;
		if (*word)
			assert_true(*word++ == ' ' && *word && *word != ' ');
	}
}

static void test_table(void **state)
{
	size_t nr = 0;

	(void)state;
	for (; cpu_models[nr].name; nr++) {
		const struct cpu_model *m = &cpu_models[nr];

		check_words(m);
		assert_ptr_equal(cpu_model_find(m->name), m);
		assert_int_equal(strlen(m->vendor), 12);
		assert_true(*m->id && strlen(m->id) <= 48);
		assert_true(m->level >= 5 && m->level < 0x40000000);
		assert_true(m->xlevel >= 0x80000008 && m->xlevel < 0x80000100);
		assert_true(!m->like || (cpu_model_find(m->like) && cpu_model_find(m->like) < m));
	}
	assert_int_equal(nr, ARRAY_SIZE(golden_models));
	for (size_t i = 0; cpu_model_aliases[i].name; i++) {
		const struct cpu_model *version = cpu_model_find(cpu_model_aliases[i].version);

		assert_non_null(version);
		assert_string_equal(version->name, cpu_model_aliases[i].version);
		assert_ptr_equal(cpu_model_find(cpu_model_aliases[i].name), version);
	}
	assert_null(cpu_model_find("Haswell-v9"));
	assert_null(cpu_model_find("host"));
	assert_null(cpu_model_find(""));
}

/* The list of names has each model and each alias, once. */
static void test_names(void **state)
{
#define NAME(name) name
	static const char *const names[] = {CPU_MODEL_NAMES(NAME)};

	(void)state;
	assert_int_equal(ARRAY_SIZE(names), ARRAY_SIZE(golden_models) + ARRAY_SIZE(golden_aliases));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_non_null(cpu_model_find(names[i]));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(names[i], names[j]);
	}
}

static void test_golden(void **state)
{
	static struct cpu_features all[CPU_MODELS_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(golden_models); i++) {
		const struct golden_model *golden = &golden_models[i];
		const struct cpu_model *model = cpu_model_find(golden->name);
		struct cpu_features own;

		assert_non_null(model);
		assert_int_equal(model->family, golden->family);
		assert_int_equal(model->model, golden->model);
		assert_int_equal(model->stepping, golden->stepping);
		cpu_model_own_features(model, &own);
		for (size_t w = 0; w < GOLDEN_WORDS; w++) {
			const struct golden_register *r = &golden_registers[w];
			size_t row = cpuid_names_row(r->leaf, r->subleaf, r->reg);

			if (own.words[row] != golden->words[w])
				fail_msg("%s: leaf %#x: %#x, not %#x", golden->name, r->leaf,
					 own.words[row], golden->words[w]);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(golden_aliases); i++)
		assert_string_equal(cpu_model_find(golden_aliases[i][0])->name,
				    golden_aliases[i][1]);
	for (int kvm = 0; kvm < 2; kvm++) {
		cpu_models_features(kvm, all);
		for (size_t i = 0; cpu_models[i].name; i++) {
			struct cpu_features one;

			cpu_model_features(&cpu_models[i], kvm, &one);
			assert_memory_equal(&one, &all[i], sizeof(one));
		}
	}
}

/* ---- what a guest gets ---- */

/* Where the host has everything, each model is itself and nothing else. */
static void test_whole(void **state)
{
	static struct table host, cpu;

	(void)state;
	host_make(&host, "GenuineIntel");
	for (size_t i = 0; cpu_models[i].name; i++) {
		const struct cpu_model *m = &cpu_models[i];
		struct cpu_features features;
		struct cpuid_config config = config_of(m->name, &features);
		size_t nr;
		const struct cpuid_names *rows = cpuid_names(&nr);
		unsigned int family, model, stepping;
		char vendor[13], id[CPUID_BRAND_BYTES];

		assert_int_equal(missing_of(&config, &host).count, 0);
		build(&config, &host, &cpu);
		cpuid_identity(cpu.entries, cpu.nr, vendor, &family, &model, &stepping);
		cpuid_brand(cpu.entries, cpu.nr, id);
		assert_string_equal(vendor, "GenuineIntel");
		assert_string_equal(id, m->id);
		assert_int_equal(family, m->family);
		assert_int_equal(model, m->model);
		assert_int_equal(stepping, m->stepping);
		assert_true(told(&cpu, 0, 0, VM_CPUID_EAX) >= m->level);
		assert_int_equal(told(&cpu, 0x80000000, 0, VM_CPUID_EAX), m->xlevel);
		cpu_features_follow(&features);
		/* perfctr-core goes with pmu=on */
		features.words[cpuid_names_row(0x80000001, 0, VM_CPUID_ECX)] &= ~(1u << 23);
		for (size_t r = 0; r < nr; r++) {
			uint32_t word = told(&cpu, rows[r].leaf, rows[r].subleaf, rows[r].reg);

			if (rows[r].leaf == CPUID_ARCH_CAPABILITIES)
				continue;
			if (rows[r].leaf == 0x24)
				word &= ~UINT32_C(0xFF);
			assert_int_equal(word, features.words[r]);
		}
		assert_int_equal(told(&cpu, 0x80000008, 0, VM_CPUID_EAX) & 0xFF, 40);
		assert_int_equal(told(&cpu, 0x14, 0, VM_CPUID_EBX), 0);
		assert_int_equal(told(&cpu, 7, 1, VM_CPUID_EBX), 0);
		for (size_t e = 0; e < cpu.nr; e++) {
			uint32_t leaf = cpu.entries[e].function;

			assert_true(leaf <= told(&cpu, 0, 0, VM_CPUID_EAX) ||
				    (leaf >= 0x40000000 && leaf <= 0x40000001) ||
				    (leaf >= 0x80000000 && leaf <= m->xlevel));
		}
	}
}

/* XSAVE's leaf has the components of what the guest has, and their size. */
static void test_xsave(void **state)
{
	static const struct {
		const char *name;
		uint32_t components, bytes;
	} cases[] = {
		{"Westmere", 0, 0},
		{"SandyBridge", 7, 832},
		{"Haswell", 7, 832},
		{"Skylake-Server", 0x2E7, 2696},
		{"SapphireRapids", 0x602E7, 11008},
	};
	static struct table host, cpu;

	(void)state;
	host_make(&host, "GenuineIntel");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cpu_features features;
		struct cpuid_config config = config_of(cases[i].name, &features);

		build(&config, &host, &cpu);
		assert_int_equal(told(&cpu, 0xD, 0, VM_CPUID_EAX), cases[i].components);
		assert_int_equal(told(&cpu, 0xD, 0, VM_CPUID_ECX), cases[i].bytes);
		assert_int_equal(told(&cpu, 0xD, 1, VM_CPUID_ECX), 0);
		for (uint32_t c = 2; c < 63; c++)
			assert_int_equal(!!told(&cpu, 0xD, c, VM_CPUID_EAX),
					 c < 32 && (cases[i].components >> c & 1));
		assert_int_equal(!!told(&cpu, 0x1E, 0, VM_CPUID_EBX),
				 !strcmp(cases[i].name, "SapphireRapids"));
	}
}

/* What the host lacks is left out and told of; so is what hangs on it. */
static void test_masked(void **state)
{
	static struct table host, cpu;
	struct cpu_features features;
	struct cpuid_config config = config_of("Skylake-Server", &features);
	struct names names;

	(void)state;
	host_make(&host, "GenuineIntel");
	for (size_t i = 0; i < host.nr; i++) {
		struct kvm_cpuid_entry2 *e = &host.entries[i];

		if (e->function == 7 && e->index == 0)
			e->ebx &= ~(UINT32_C(1) << AVX512F);
		if (e->function == 0x40000001)
			e->eax = 0;
	}
	names = missing_of(&config, &host);
	assert_non_null(strstr(names.text, " avx512f "));
	assert_null(strstr(names.text, " avx512dq "));
	assert_non_null(strstr(names.text, " kvmclock "));
	assert_int_equal(names.count, 7);
	build(&config, &host, &cpu);
	assert_int_equal(told(&cpu, 7, 0, VM_CPUID_EBX) >> AVX512F & 1, 0);
	assert_int_equal(told(&cpu, 7, 0, VM_CPUID_EBX) >> 17 & 1, 1);
	assert_int_equal(told(&cpu, 0xD, 0, VM_CPUID_EAX), 0x207);
	assert_int_equal(told(&cpu, 0x40000001, 0, VM_CPUID_EAX), 0);

	/* A KVM that tells of nothing at all: no leaf appears. */
	host.nr = 2;
	host.entries[1].ecx = host.entries[1].edx = 0;
	build(&config, &host, &cpu);
	assert_int_equal(told(&cpu, 1, 0, VM_CPUID_EAX), 0x50654);
	assert_int_equal(told(&cpu, 7, 0, VM_CPUID_EBX), 0);
	assert_int_equal(told(&cpu, 0xD, 0, VM_CPUID_EAX), 0);
	assert_int_equal(told(&cpu, 1, 0, VM_CPUID_ECX), 0x81200000);
	assert_true(missing_of(&config, &host).count > 60);
}

/* What is asked for besides the model, in order; the same rules hold for it. */
static void test_choices(void **state)
{
	const struct vm_cpu_feature choices[] = {
		{"avx2", 7, 0, VM_CPUID_EBX, 5, false},
		{"svm", 0x80000001, 0, VM_CPUID_ECX, 2, true},
		{"invtsc", 0x80000007, 0, VM_CPUID_EDX, 8, true},
		{"hypervisor", 1, 0, VM_CPUID_ECX, 31, false},
		{"vmx", 1, 0, VM_CPUID_ECX, 5, true},
		{"vmx", 1, 0, VM_CPUID_ECX, 5, false},
		{"xsave", 1, 0, VM_CPUID_ECX, 26, false},
		{"kvm-hint-dedicated", 0x40000001, 0, VM_CPUID_EDX, 0, true},
	};
	static struct table host, cpu;
	struct cpu_features features;
	struct cpuid_config config = config_of("EPYC", &features);
	struct cpuid_config plain = config;

	(void)state;
	config.features = choices;
	config.nr_features = ARRAY_SIZE(choices);
	host_make(&host, "AuthenticAMD");
	build(&plain, &host, &cpu);
	assert_int_equal(told(&cpu, 0x80000001, 0, VM_CPUID_ECX) >> 2 & 1, 0);
	assert_int_equal(told(&cpu, 0x8000000A, 0, VM_CPUID_EDX), 0);
	assert_int_equal(told(&cpu, 0x80000007, 0, VM_CPUID_EDX), 0);
	build(&config, &host, &cpu);
	assert_int_equal(missing_of(&config, &host).count, 0);
	assert_int_equal(told(&cpu, 7, 0, VM_CPUID_EBX) >> 5 & 1, 0);
	assert_int_equal(told(&cpu, 0x80000001, 0, VM_CPUID_ECX) >> 2 & 1, 1);
	assert_int_equal(told(&cpu, 0x8000000A, 0, VM_CPUID_EDX), 0x9); /* npt nrip-save */
	assert_int_equal(told(&cpu, 0x80000007, 0, VM_CPUID_EDX), 0x100);
	assert_int_equal(told(&cpu, 1, 0, VM_CPUID_ECX) & (1u << 31 | 1u << 5 | 1u << 26), 0);
	assert_int_equal(told(&cpu, 0xD, 0, VM_CPUID_EAX) | told(&cpu, 0xD, 1, VM_CPUID_EAX), 0);
	assert_int_equal(told(&cpu, 0x40000001, 0, VM_CPUID_EDX), 1);
	/* AMD's copies follow what the model has. */
	assert_int_equal(told(&cpu, 0x80000001, 0, VM_CPUID_EDX) & 0x0183F3FF,
			 told(&cpu, 1, 0, VM_CPUID_EDX) & 0x0183F3FF);

	config.pmu = true;
	cpu_model_features(cpu_model_find("EPYC-v3"), true, &features);
	build(&config, &host, &cpu);
	assert_int_equal(told(&cpu, 0x80000001, 0, VM_CPUID_ECX) >> 23 & 1, 1);

	/* Without KVM's leaves nothing of them is missed. */
	plain.kvm = false;
	cpu_model_features(plain.model, false, &features);
	build(&plain, &host, &cpu);
	assert_int_equal(missing_of(&plain, &host).count, 0);
	assert_int_equal(told(&cpu, 0x40000000, 0, VM_CPUID_EBX), 0);
}

/* A model of the other maker: the host's name by itself, the one that is asked for else. */
static void test_identity(void **state)
{
	static char other[] = "AuthenticAMD", name[] = "A name";
	struct vm_cpu_identity identity = {
		.vendor = other,
		.model_id = name,
		.family = 0x19,
		.model = 0x61,
		.stepping = 2,
		.level = 7,
		.xlevel = 0x80000004,
		.family_given = true,
		.model_given = true,
		.stepping_given = true,
		.level_given = true,
		.xlevel_given = true,
	};
	static struct table host, cpu;
	struct cpu_features features;
	struct cpuid_config config = config_of("EPYC-Milan", &features);
	unsigned int family, model, stepping;
	char vendor[13], id[CPUID_BRAND_BYTES];

	(void)state;
	host_make(&host, "GenuineIntel");
	build(&config, &host, &cpu);
	cpuid_identity(cpu.entries, cpu.nr, vendor, &family, &model, &stepping);
	assert_string_equal(vendor, "GenuineIntel");
	assert_int_equal(told(&cpu, 0x80000001, 0, VM_CPUID_EDX) & 0x0183F3FF, 0);
	for (int host_model = 0; host_model < 2; host_model++) {
		config.identity = &identity;
		config.model = host_model ? NULL : config.model;
		build(&config, &host, &cpu);
		cpuid_identity(cpu.entries, cpu.nr, vendor, &family, &model, &stepping);
		cpuid_brand(cpu.entries, cpu.nr, id);
		assert_string_equal(vendor, "AuthenticAMD");
		assert_string_equal(id, "A name");
		assert_int_equal(family, 0x19);
		assert_int_equal(model, 0x61);
		assert_int_equal(stepping, 2);
		/* as far down as the leaf of the topology, which there always is */
		assert_int_equal(told(&cpu, 0, 0, VM_CPUID_EAX), 0xB);
		assert_int_equal(told(&cpu, 0x80000000, 0, VM_CPUID_EAX), 0x80000004);
		assert_int_equal(told(&cpu, 0x80000008, 0, VM_CPUID_EAX), 0);
		assert_int_equal(told(&cpu, 0xD, 0, VM_CPUID_EAX), 0);
		if (!host_model)
			assert_int_equal(told(&cpu, 0x80000001, 0, VM_CPUID_EDX) & 0x0183F3FF,
					 told(&cpu, 1, 0, VM_CPUID_EDX) & 0x0183F3FF);
	}
	/* A name of 48 letters fills its leaves. */
	identity.model_id = (char[]){"123456789012345678901234567890123456789012345678"};
	build(&config, &host, &cpu);
	cpuid_brand(cpu.entries, cpu.nr, id);
	assert_string_equal(id, identity.model_id);
}

/* The MSR tells of what the model has and the host, too; of the host's own, what was not taken. */
static void test_capabilities(void **state)
{
	const struct vm_cpu_feature off = {"rdctl-no", CPUID_ARCH_CAPABILITIES, 0, VM_CPUID_EAX, 0,
					   false};
	static struct table host, cpu;
	struct cpu_features features;
	struct cpuid_config config = config_of("Cascadelake-Server-v2", &features);

	(void)state;
	host_make(&host, "GenuineIntel");
	config.arch_capabilities = UINT64_C(1) << 62 | 0x2B;
	build(&config, &host, &cpu);
	assert_int_equal(cpuid_arch_capabilities(&config, cpu.entries, cpu.nr), 0x2B);
	config.arch_capabilities = 0x100000B;
	assert_int_equal(cpuid_arch_capabilities(&config, cpu.entries, cpu.nr), 0xB);
	assert_non_null(strstr(missing_of(&config, &host).text, " mds-no "));
	config.model = NULL;
	config.features = &off;
	config.nr_features = 1;
	assert_int_equal(cpuid_arch_capabilities(&config, cpu.entries, cpu.nr), 0x100000A);
	config = config_of("Haswell", &features);
	build(&config, &host, &cpu);
	assert_int_equal(cpuid_arch_capabilities(&config, cpu.entries, cpu.nr), 0);
}

/* A guest goes from a host that has more to one that has just its model, and not to less. */
static void test_moves(void **state)
{
	static struct table rich, poor, wanted, own;
	struct cpu_features features;
	struct cpuid_config config = config_of("Haswell", &features);
	struct err *err = NULL;
	int ret;

	(void)state;
	host_make(&rich, "GenuineIntel");
	host_make(&poor, "GenuineIntel");
	for (size_t i = 0; i < poor.nr; i++) {
		struct kvm_cpuid_entry2 *e = &poor.entries[i];

		if (e->function == 7 && e->index == 0)
			e->ebx &= 0xFFFF; /* no AVX-512 */
	}
	build(&config, &rich, &wanted);
	build(&config, &poor, &own);
	assert_int_equal(cpuid_check(wanted.entries, wanted.nr, poor.entries, poor.nr, own.entries,
				     own.nr, NULL),
			 0);
	config = config_of("Skylake-Server", &features);
	build(&config, &rich, &wanted);
	build(&config, &poor, &own);
	ret = cpuid_check(wanted.entries, wanted.nr, poor.entries, poor.nr, own.entries, own.nr,
			  &err);
	assert_refused(ret, EINVAL, err, "avx512f", "does not offer");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),        cmocka_unit_test(test_names),
		cmocka_unit_test(test_golden),       cmocka_unit_test(test_whole),
		cmocka_unit_test(test_xsave),        cmocka_unit_test(test_masked),
		cmocka_unit_test(test_choices),      cmocka_unit_test(test_identity),
		cmocka_unit_test(test_capabilities), cmocka_unit_test(test_moves),
	};

	return cmocka_run_group_tests_name("machine: cpu_models", tests, NULL, NULL);
}
