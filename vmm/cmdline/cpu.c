/* SPDX-License-Identifier: BSD-3-Clause */
/* -cpu: the model, and CPUID bits by name. See internal.h. */
#include "vmm/cmdline/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"
#include "vmm/machine/cpu_models.h"

#define FIELD(field) PROP_FIELD(struct vm_cpu_config, field)

#define CPU_KEY             "name" /* of what stands first */
#define VENDOR_LENGTH       12u
#define MODEL_ID_LENGTH_MAX 48u

#define NAME(name) name

const char *const cmdline_cpu_models[] = {"host", "max", CPU_MODEL_NAMES(NAME), NULL};

static const struct prop cpu_list[] = {
	{.name = "check",
	 .type = PROP_BOOL,
	 FIELD(check),
	 .defval = "on",
	 .help = "say at the start which features of the model the host does not have"},
	{.name = "enforce",
	 .type = PROP_BOOL,
	 FIELD(enforce),
	 .defval = "off",
	 .help = "do not start without them"},
	{.name = "vendor",
	 .type = PROP_STRING,
	 FIELD(identity.vendor),
	 .help = "the maker, 12 letters, instead of the host's"},
	{.name = "model-id",
	 .type = PROP_STRING,
	 .flags = PROP_EMPTY,
	 FIELD(identity.model_id),
	 .help = "the name, up to 48 letters"},
	{.name = "family",
	 .type = PROP_UINT,
	 FIELD(identity.family),
	 PROP_GIVEN(struct vm_cpu_config, identity.family_given),
	 .max = 0xFF + 0xF},
	{.name = "model",
	 .type = PROP_UINT,
	 FIELD(identity.model),
	 PROP_GIVEN(struct vm_cpu_config, identity.model_given),
	 .max = 0xFF},
	{.name = "stepping",
	 .type = PROP_UINT,
	 FIELD(identity.stepping),
	 PROP_GIVEN(struct vm_cpu_config, identity.stepping_given),
	 .max = 0xF},
	{.name = "level",
	 .type = PROP_UINT,
	 FIELD(identity.level),
	 PROP_GIVEN(struct vm_cpu_config, identity.level_given),
	 .max = 0x3FFFFFFF,
	 .help = "the last leaf of CPUID; more where the topology needs it"},
	{.name = "xlevel",
	 .type = PROP_UINT,
	 FIELD(identity.xlevel),
	 PROP_GIVEN(struct vm_cpu_config, identity.xlevel_given),
	 .min = 0x80000000,
	 .max = 0x8FFFFFFF,
	 .help = "the last one from 0x80000000 on"},
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
	 .help = "physical addresses as wide as the host's; with a model by name: off, 40 bits"},
	{.name = "host-phys-bits-limit",
	 .type = PROP_UINT,
	 FIELD(phys_bits_limit),
	 .max = 52,
	 .help = "but no wider than this; 0: no limit"},
	{.name = "phys-bits",
	 .type = PROP_UINT,
	 FIELD(phys_bits),
	 .min = 36,
	 .max = 52,
	 .help = "width of physical addresses; implies host-phys-bits=off"},
	{.name = "host-cache-info",
	 .type = PROP_BOOL,
	 .refused = "off",
	 .why = "guests see the caches of the host",
	 .help = "caches are described as the host's"},
	{.name = "l3-cache",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "guests see the caches of the host",
	 .help = "a level 3 cache that the host need not have"},
};

const struct props cmdline_cpu_props = {NULL, cpu_list, ARRAY_SIZE(cpu_list)};

int cmdline_cpu_init(struct cmdline *cl)
{
	cl->config->cpu.name = cmdline_cpu_models[0];
	return props_init(&cmdline_cpu_props, &cl->config->cpu);
}

void cmdline_cpu_done(struct vm_cpu_config *cpu)
{
	props_done(&cmdline_cpu_props, cpu);
	free(cpu->features);
	*cpu = (struct vm_cpu_config){.name = cmdline_cpu_models[0]};
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

/* Older names of some features; a name of KVM's may have an underscore as well. */
static const char *feature_name(const char *name)
{
	static const struct {
		const char *old, *name;
	} others[] = {
		{"sse3", "pni"}, {"pclmuldq", "pclmulqdq"}, {"xd", "nx"},
		{"i64", "lm"},   {"ffxsr", "fxsr-opt"},     {"avx512-vbmi2", "avx512vbmi2"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (feature_name_equal(name, others[i].old))
			return others[i].name;
	}
	return name;
}

/*
 * What other monitors know one by one and that is not here so, or not at all. To go without is
 * nothing to refuse: programs name all that a guest shall not have. 1: that is so; 0: no such name.
 */
static int feature_absent(const char *name, bool on, struct err **err)
{
	static const struct {
		const char *prefix, *why;
	} absent[] = {
		{"hv-", "there are no Hyper-V enlightenments in this version"},
		{"hv_", "there are no Hyper-V enlightenments in this version"},
		{"sgx", "guests have no enclaves in this version"},
		{"intel-pt", "guests have no processor trace in this version"},
		{"split-lock-detect", "KVM does not offer it"},
		{"lmce", "KVM is not asked for local machine checks in this version"},
	};

	/* With vmx it is what KVM offers, all of it; without there is nothing of it. */
	if (!strncmp(name, "vmx-", 4))
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
		if (strncmp(name, absent[i].prefix, strlen(absent[i].prefix)))
			continue;
		return on ? err_set(err, ENOTSUP, "-cpu: %s: %s", name, absent[i].why) : 1;
	}
	return 0;
}

/* A name may stand for several bits. */
static int feature_add(struct vm_cpu_config *cpu, const char *name, bool on, struct err **err)
{
	size_t nr;
	const struct cpuid_names *named = cpuid_names(&nr);
	const char *known = feature_name(name);
	struct vm_cpu_feature *feature;
	bool found = false;
	int ret;

	for (size_t i = 0; i < nr; i++) {
		const struct cpuid_names *r = &named[i];

		for (uint8_t bit = 0; bit < 32; bit++) {
			if (!r->names[bit] || !feature_name_equal(known, r->names[bit]))
				continue;
			feature = cmdline_array_add(&cpu->features, &cpu->nr_features,
						    sizeof(*feature));
			if (!feature)
				return cmdline_oom(err);
			*feature = (struct vm_cpu_feature){r->names[bit], r->leaf, r->subleaf,
							   r->reg,        bit,     on};
			found = true;
		}
	}
	if (found)
		return 0;
	ret = feature_absent(name, on, err);
	if (ret)
		return ret < 0 ? ret : 0;
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
	size_t nr, size;
	const struct cpuid_names *named = cpuid_names(&nr);
	char *props = props_help(&cmdline_cpu_props);
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);

	if (out) {
		fprintf(out, "Models (NAME: whose version it is):\n");
		for (const char *const *name = cmdline_cpu_models; *name; name++) {
			const struct cpu_model *model = cpu_model_find(*name);

			if (!model)
				fprintf(out, " %-26s what KVM offers of the host's CPU\n", *name);
			else if (strcmp(model->name, *name))
				fprintf(out, " %-26s %s\n", *name, model->name);
			else
				fprintf(out, " %-26s %s\n", *name, model->id);
		}
		fprintf(out, "Properties:\n%sFeatures (+NAME, -NAME, NAME=on, NAME=off):\n",
			props ? props : "");
		for (size_t i = 0; i < nr; i++) {
			for (unsigned int bit = 0; bit < 32; bit++) {
				if (named[i].names[bit])
					fprintf(out, " %s", named[i].names[bit]);
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

/* By its name; the names of classes, which programs read of a machine, will do as well. */
static int cpu_model(struct vm_cpu_config *cpu, const json_t *value, struct err **err)
{
	static const char suffix[] = "-x86_64-cpu";
	const char *name = json_string_value(value);
	size_t length = name ? strlen(name) : 0;

	if (length > strlen(suffix) && !strcmp(name + length - strlen(suffix), suffix))
		length -= strlen(suffix);
	for (const char *const *known = cmdline_cpu_models; name && *known; known++) {
		if (strlen(*known) != length || strncmp(*known, name, length))
			continue;
		cpu->name = *known;
		cpu->model = cpu_model_find(*known);
		return 0;
	}
	return err_set(err, EINVAL,
		       "-cpu: there is no model %s; allowed: host, max, and those that `-cpu help` "
		       "lists",
		       name ? name : "without a name");
}

static int cpu_check_identity(const struct vm_cpu_identity *id, struct err **err)
{
	if (id->vendor && strlen(id->vendor) != VENDOR_LENGTH)
		return err_set(err, EINVAL,
			       "-cpu: vendor=%s is no maker's name; allowed: %u letters "
			       "(GenuineIntel, AuthenticAMD)",
			       id->vendor, VENDOR_LENGTH);
	if (id->model_id && strlen(id->model_id) > MODEL_ID_LENGTH_MAX)
		return err_set(err, EINVAL, "-cpu: model-id=%s is too long; allowed: %u letters",
			       id->model_id, MODEL_ID_LENGTH_MAX);
	return 0;
}

static int cpu_apply(struct vm_cpu_config *cpu, json_t *values, struct err **err)
{
	const char *key;
	json_t *value;
	int ret;

	json_object_foreach (values, key, value) {
		if (!strcmp(key, CPU_KEY))
			ret = cpu_model(cpu, value, err);
		else if (props_find(&cmdline_cpu_props, key))
			ret = props_set(&cmdline_cpu_props, "-cpu", key, value, cpu, err);
		else if (*key == '+' || *key == '-')
			ret = feature_add(cpu, key + 1, *key == '+', err);
		else
			ret = feature_set(cpu, key, value, err);
		if (ret < 0)
			return ret;
	}
	if (json_object_get(values, "phys-bits") ||
	    (cpu->model && !json_object_get(values, "host-phys-bits")))
		cpu->host_phys_bits = false;
	return cpu_check_identity(&cpu->identity, err);
}

int cmdline_cpu(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	struct vm_cpu_config *cpu = &cl->config->cpu;
	json_t *values;
	int ret;

	ret = opts_parse(option, arg, CPU_KEY, OPTS_PLAIN, &values, err);
	if (ret < 0)
		return ret;
	if (opts_wants_help(values, CPU_KEY)) {
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
