/* SPDX-License-Identifier: BSD-3-Clause */
/* -cpu: the model, and CPUID bits by name. See internal.h. */
#include "vmm/cmdline/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"
#include "vmm/machine/cpuid_names.h"

#define FIELD(field) PROP_FIELD(struct vm_cpu_config, field)

const char *const cmdline_cpu_models[] = {"host", "max", "kvm64", NULL};

static const struct prop cpu_list[] = {
	{.name = "model",
	 .type = PROP_ENUM,
	 FIELD(model),
	 .names = cmdline_cpu_models,
	 .defval = "host",
	 .help = "what KVM offers of the host's CPU; kvm64: as little of it as there may be"},
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

/* A name may stand for several bits. */
static int feature_add(struct vm_cpu_config *cpu, const char *name, bool on, struct err **err)
{
	size_t nr;
	const struct cpuid_names *named = cpuid_names(&nr);
	struct vm_cpu_feature *feature;
	bool found = false;

	for (size_t i = 0; i < nr; i++) {
		const struct cpuid_names *r = &named[i];

		for (uint8_t bit = 0; bit < 32; bit++) {
			if (!r->names[bit] || !feature_name_equal(name, r->names[bit]))
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
	if (!strncmp(name, "hv-", 3) || !strncmp(name, "hv_", 3))
		return err_set(err, ENOTSUP,
			       "-cpu: %s: there are no Hyper-V enlightenments in this version",
			       name);
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
