/* SPDX-License-Identifier: BSD-3-Clause */
/* -cpu: the model, and CPUID bits by name. Intel SDM volume 2 and AMD APM volume 3, CPUID. */
#include "vmm/cmdline/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"

/* The names of one register, by bit; NULL where there is none to be set by hand. */
struct cpu_register {
	uint32_t leaf, subleaf;
	enum vm_cpuid_reg reg;
	const char *names[32];
};

static const struct cpu_register cpu_registers[] = {
	{1,
	 0,
	 VM_CPUID_EDX,
	 {[0] = "fpu",
	  [4] = "tsc",
	  [5] = "msr",
	  [6] = "pae",
	  [8] = "cx8",
	  [11] = "sep",
	  [12] = "mtrr",
	  [13] = "pge",
	  [14] = "mca",
	  [15] = "cmov",
	  [16] = "pat",
	  [17] = "pse36",
	  [19] = "clflush",
	  [23] = "mmx",
	  [24] = "fxsr",
	  [25] = "sse",
	  [26] = "sse2",
	  [27] = "ss"}},
	{1,
	 0,
	 VM_CPUID_ECX,
	 {[0] = "pni",     [1] = "pclmulqdq",     [3] = "monitor", [5] = "vmx",
	  [9] = "ssse3",   [12] = "fma",          [13] = "cx16",   [17] = "pcid",
	  [19] = "sse4-1", [20] = "sse4-2",       [21] = "x2apic", [22] = "movbe",
	  [23] = "popcnt", [24] = "tsc-deadline", [25] = "aes",    [26] = "xsave",
	  [28] = "avx",    [29] = "f16c",         [30] = "rdrand", [31] = "hypervisor"}},
	{7,
	 0,
	 VM_CPUID_EBX,
	 {[0] = "fsgsbase",    [1] = "tsc-adjust", [3] = "bmi1",      [4] = "hle",
	  [5] = "avx2",        [7] = "smep",       [8] = "bmi2",      [9] = "erms",
	  [10] = "invpcid",    [11] = "rtm",       [16] = "avx512f",  [17] = "avx512dq",
	  [18] = "rdseed",     [19] = "adx",       [20] = "smap",     [21] = "avx512ifma",
	  [23] = "clflushopt", [24] = "clwb",      [28] = "avx512cd", [29] = "sha-ni",
	  [30] = "avx512bw",   [31] = "avx512vl"}},
	{7,
	 0,
	 VM_CPUID_ECX,
	 {[1] = "avx512vbmi",
	  [2] = "umip",
	  [3] = "pku",
	  [5] = "waitpkg",
	  [6] = "avx512-vbmi2",
	  [8] = "gfni",
	  [9] = "vaes",
	  [10] = "vpclmulqdq",
	  [11] = "avx512vnni",
	  [12] = "avx512bitalg",
	  [14] = "avx512-vpopcntdq",
	  [16] = "la57",
	  [22] = "rdpid",
	  [24] = "bus-lock-detect",
	  [25] = "cldemote",
	  [27] = "movdiri",
	  [28] = "movdir64b"}},
	{7,
	 0,
	 VM_CPUID_EDX,
	 {[4] = "fsrm",
	  [10] = "md-clear",
	  [14] = "serialize",
	  [16] = "tsx-ldtrk",
	  [22] = "amx-bf16",
	  [23] = "avx512-fp16",
	  [24] = "amx-tile",
	  [25] = "amx-int8",
	  [26] = "spec-ctrl",
	  [27] = "stibp",
	  [28] = "flush-l1d",
	  [29] = "arch-capabilities",
	  [31] = "ssbd"}},
	{7, 1, VM_CPUID_EAX, {[4] = "avx-vnni", [5] = "avx512-bf16"}},
	{0xd, 1, VM_CPUID_EAX, {[0] = "xsaveopt", [1] = "xsavec", [2] = "xgetbv1", [3] = "xsaves"}},
	{0x80000001,
	 0,
	 VM_CPUID_EDX,
	 {[11] = "syscall",
	  [20] = "nx",
	  [22] = "mmxext",
	  [25] = "fxsr-opt",
	  [26] = "pdpe1gb",
	  [27] = "rdtscp",
	  [29] = "lm"}},
	{0x80000001,
	 0,
	 VM_CPUID_ECX,
	 {[0] = "lahf-lm",
	  [2] = "svm",
	  [4] = "cr8legacy",
	  [5] = "abm",
	  [6] = "sse4a",
	  [7] = "misalignsse",
	  [8] = "3dnowprefetch",
	  [9] = "osvw",
	  [11] = "xop",
	  [16] = "fma4",
	  [21] = "tbm",
	  [22] = "topoext",
	  [23] = "perfctr-core"}},
	{0x80000007, 0, VM_CPUID_EDX, {[8] = "invtsc"}},
	{0x80000008,
	 0,
	 VM_CPUID_EBX,
	 {[0] = "clzero",
	  [2] = "xsaveerptr",
	  [9] = "wbnoinvd",
	  [12] = "ibpb",
	  [14] = "ibrs",
	  [15] = "amd-stibp",
	  [24] = "amd-ssbd",
	  [25] = "virt-ssbd"}},
};

#define FIELD(field) PROP_FIELD(struct vm_cpu_config, field)

/* Both are the host's CPU as far as KVM shows it. */
static const char *const cpu_models[] = {"host", "max", NULL};

static const struct prop cpu_list[] = {
	{.name = "model",
	 .type = PROP_ENUM,
	 .names = cpu_models,
	 .defval = "host",
	 .help = "what KVM offers of the host's CPU"},
	{.name = "migratable",
	 .type = PROP_BOOL,
	 FIELD(migratable),
	 .defval = "on",
	 .help = "without what a migration would lose (invariant TSC)"},
	{.name = "kvm",
	 .type = PROP_BOOL,
	 FIELD(kvm),
	 .defval = "on",
	 .help = "show KVM's own leaves to the guest"},
	{.name = "pmu",
	 .type = PROP_BOOL,
	 FIELD(pmu),
	 .defval = "off",
	 .help = "show the performance counters"},
	{.name = "host-phys-bits",
	 .type = PROP_BOOL,
	 FIELD(host_phys_bits),
	 .defval = "on",
	 .help = "physical addresses as wide as the host's"},
	{.name = "phys-bits",
	 .type = PROP_UINT,
	 FIELD(phys_bits),
	 .min = 36,
	 .max = 52,
	 .help = "width of physical addresses; implies host-phys-bits=off"},
};

const struct props cmdline_cpu_props = {NULL, cpu_list, ARRAY_SIZE(cpu_list)};

int cmdline_cpu_init(struct cmdline *cl)
{
	return props_init(&cmdline_cpu_props, &cl->config->cpu);
}

void cmdline_cpu_done(struct vm_cpu_config *cpu)
{
	free(cpu->features);
	cpu->features = NULL;
	cpu->nr_features = 0;
	cpu->phys_bits = 0;
}

/* "sse4.1", "sse4_1" and "sse4-1" are one name. */
static bool feature_name_equal(const char *a, const char *b)
{
	for (; *a && *b; a++, b++) {
		char x = *a == '_' || *a == '.' ? '-' : *a;

		if (x != *b)
			return false;
	}
	return !*a && !*b;
}

static int feature_add(struct vm_cpu_config *cpu, const char *name, bool on, struct err **err)
{
	struct vm_cpu_feature *feature;

	for (size_t i = 0; i < ARRAY_SIZE(cpu_registers); i++) {
		const struct cpu_register *r = &cpu_registers[i];

		for (uint8_t bit = 0; bit < 32; bit++) {
			if (!r->names[bit] || !feature_name_equal(name, r->names[bit]))
				continue;
			feature = cmdline_array_add(&cpu->features, &cpu->nr_features,
						    sizeof(*feature));
			if (!feature)
				return cmdline_oom(err);
			*feature = (struct vm_cpu_feature){r->names[bit], r->leaf, r->subleaf,
							   r->reg,        bit,     on};
			return 0;
		}
	}
	return err_set(err, EINVAL,
		       "-cpu: there is no property or feature %s; `-cpu help` lists "
		       "them",
		       name);
}

/* "feature=on" or "feature=off"; the value goes through a property of that name. */
static int feature_set(struct vm_cpu_config *cpu, const char *name, const json_t *value,
		       struct err **err)
{
	struct {
		bool on;
	} target = {false};
	struct prop prop = {
		.name = name, .type = PROP_BOOL, .offset = 0, .width = sizeof(target.on)};
	struct props table = {NULL, &prop, 1};
	int ret = props_set(&table, "-cpu", name, value, &target, err);

	return ret < 0 ? ret : feature_add(cpu, name, target.on, err);
}

static int cpu_help(struct vm_config *config, struct err **err)
{
	char *props = props_help(&cmdline_cpu_props);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out) {
		fprintf(out, "Properties:\n%sFeatures (+NAME, -NAME, NAME=on, NAME=off):\n",
			props ? props : "");
		for (size_t i = 0; i < ARRAY_SIZE(cpu_registers); i++) {
			for (unsigned int bit = 0; bit < 32; bit++) {
				if (cpu_registers[i].names[bit])
					fprintf(out, " %s", cpu_registers[i].names[bit]);
			}
			fprintf(out, "\n");
		}
		if (fclose(out) || !props) {
			free(text);
			text = NULL;
		}
	}
	free(props);
	config->output = text;
	return text ? 0 : cmdline_oom(err);
}

static int cpu_apply(struct vm_cpu_config *cpu, json_t *values, struct err **err)
{
	const char *key;
	json_t *value;
	int ret;

	json_object_foreach (values, key, value) {
		if (props_find(&cmdline_cpu_props, key))
			ret = props_set(&cmdline_cpu_props, "-cpu", key, value, cpu, err);
		else if (*key == '+' || *key == '-')
			ret = feature_add(cpu, key + 1, *key == '+', err);
		else
			ret = feature_set(cpu, key, value, err);
		if (ret < 0)
			return ret;
	}
	if (json_object_get(values, "phys-bits"))
		cpu->host_phys_bits = false;
	return 0;
}

int cmdline_cpu(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	struct vm_cpu_config *cpu = &cl->config->cpu;
	json_t *values;
	int ret;

	ret = opts_parse(option, arg, "model", OPTS_PLAIN, &values, err);
	if (ret < 0)
		return ret;
	if (opts_wants_help(values, "model")) {
		ret = cpu_help(cl->config, err);
	} else {
		/* A second -cpu replaces the first. */
		cmdline_cpu_done(cpu);
		ret = props_init(&cmdline_cpu_props, cpu) ? cmdline_oom(err)
							  : cpu_apply(cpu, values, err);
	}
	json_decref(values);
	return ret;
}
