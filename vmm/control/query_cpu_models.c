/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CPU models: which there are, what the host lacks of each, and what each consists of.
 *
 * The first two names are the host itself. All others are as they are on every host
 * (vmm/machine/cpu_models.h), which is why a program may store them and find them elsewhere.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/cmdline/params.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/control/qom.h"
#include "vmm/machine/cpu_models.h"
#include "vmm/machine/cpuid.h"
#include "vmm/vm/vm.h"

static struct vm *models_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

/* People write dashes, programs the names of the processors' makers. */
static const char *models_feature(const char *feature)
{
	if (!strcmp(feature, "sse4-1"))
		return "sse4.1";
	return strcmp(feature, "sse4-2") ? feature : "sse4.2";
}

/* ---- query-cpu-definitions ---- */

static void models_note_missing(void *opaque, const char *name)
{
	control_list_add(opaque, json_string(models_feature(name)));
}

/* @missing is of all models, in their order; NULL: KVM cannot be asked. */
static json_t *models_definition(const char *name, const struct cpu_features *missing)
{
	const struct cpu_model *model = cpu_model_find(name);
	char class[QOM_CPU_CLASS_BYTES];
	json_t *definition =
		json_pack("{s:s, s:b, s:b, s:s, s:b}", "name", name, "migration-safe", !!model,
			  "static", 0, "typename", qom_cpu_class(name, class), "deprecated", 0);
	struct control_list list;

	if (model && strcmp(model->name, name))
		control_set(&definition, "alias-of", json_string(model->name));
	if (!missing)
		return definition;
	control_list_init(&list);
	if (model)
		cpuid_each_missing(&missing[model - cpu_models], models_note_missing, &list);
	control_set(&definition, "unavailable-features", control_list_end(&list));
	return definition;
}

/* Where KVM cannot be asked there is no list of what is missing, which says just that. */
static int models_query_definitions(struct command_call *call, const json_t *args,
				    json_t **ret_value, struct err **err)
{
	struct cpu_features missing[CPU_MODELS_MAX];
	struct err *why = NULL;
	struct control_list list;
	bool known = vm_cpu_models_missing(models_vm(call), missing, &why) == 0;

	(void)args;
	err_free(why);
	control_list_init(&list);
	for (const char *const *name = cmdline_cpu_models; *name; name++)
		control_list_add(&list, models_definition(*name, known ? missing : NULL));
	return control_answer(control_list_end(&list), ret_value, err);
}

/* ---- query-cpu-model-expansion ---- */

static void models_note_feature(void *opaque, const char *feature, bool on)
{
	control_set(opaque, models_feature(feature), json_boolean(on));
}

static void models_ignore_feature(void *opaque, const char *feature, bool on)
{
	(void)opaque;
	(void)feature;
	(void)on;
}

/* All that the host's CPU is made of. */
static int models_expand_host(const struct vm *vm, const json_t *asked, json_t **ret_props,
			      struct err **err)
{
	const json_t *wish = json_object_get(asked, "migratable");
	json_t *props = json_object();
	struct vm_host_cpu cpu;
	int ret = vm_host_cpu(vm, !wish || json_is_true(wish), models_note_feature, &props, &cpu,
			      err);

	if (ret) {
		json_decref(props);
		return ret;
	}
	control_set(&props, "vendor", json_string(cpu.vendor));
	control_set(&props, "family", json_integer(cpu.family));
	control_set(&props, "model", json_integer(cpu.model));
	control_set(&props, "stepping", json_integer(cpu.stepping));
	*ret_props = props;
	return 0;
}

/* The same on each host, but for the maker. */
static json_t *models_expand_named(const struct vm *vm, const struct cpu_model *model, bool full)
{
	size_t nr;
	const struct cpuid_names *named = cpuid_names(&nr);
	json_t *props = json_object();
	struct cpu_features features;
	struct err *why = NULL;
	struct vm_host_cpu cpu;
	bool known = vm_host_cpu(vm, true, models_ignore_feature, NULL, &cpu, &why) == 0;

	err_free(why);
	cpu_model_features(model, true, &features);
	cpu_features_follow(&features);
	for (size_t i = 0; i < nr; i++) {
		for (unsigned int bit = 0; bit < 32; bit++) {
			if (named[i].names[bit])
				models_note_feature(&props, named[i].names[bit],
						    features.words[i] >> bit & 1);
		}
	}
	control_set(&props, "vendor", json_string(known ? cpu.vendor : model->vendor));
	control_set(&props, "family", json_integer(model->family));
	control_set(&props, "model", json_integer(model->model));
	control_set(&props, "stepping", json_integer(model->stepping));
	control_set(&props, "model-id", json_string(model->id));
	control_set(&props, full ? "level" : "min-level", json_integer(model->level));
	control_set(&props, full ? "xlevel" : "min-xlevel", json_integer(model->xlevel));
	return props;
}

/*
 * A static expansion is of the model "base", which has nothing but what its properties say: what
 * comes back for it is what was given.
 */
static int models_query_expansion(struct command_call *call, const json_t *args, json_t **ret_value,
				  struct err **err)
{
	const json_t *model = json_object_get(args, "model");
	const json_t *asked = json_object_get(model, "props");
	bool full = strcmp(control_text(args, "type"), "static") != 0;
	const char *name = control_text(model, "name");
	const struct cpu_model *known = cpu_model_find(name);
	json_t *props = NULL;
	int ret = 0;

	if (asked && !json_is_object(asked))
		return err_set(err, EINVAL, "model.props: is no object of properties");
	if (!strcmp(name, "base"))
		props = json_object();
	else if (!strcmp(name, "host") || !strcmp(name, "max"))
		ret = models_expand_host(models_vm(call), asked, &props, err);
	else if (known)
		props = models_expand_named(models_vm(call), known, full);
	else
		return err_set(err, EINVAL,
			       "model.name: there is no model %s; allowed: base, and those of "
			       "query-cpu-definitions",
			       name);
	if (ret)
		return ret;
	if (props && asked && json_object_update(props, (json_t *)asked)) {
		json_decref(props);
		props = NULL;
	}
	return control_answer(
		json_pack("{s:{s:s, s:o}}", "model", "name", full ? name : "base", "props", props),
		ret_value, err);
}

static const struct command models_commands[] = {
	{
		.name = "query-cpu-model-expansion",
		.args = "type:CpuModelExpansionType model:CpuModelInfo",
		.returns = "CpuModelExpansionInfo",
		.help = "show what a CPU model consists of",
		.flags = COMMAND_BARE,
		.run = models_query_expansion,
	},
	{
		.name = "query-cpu-definitions",
		.returns = "[CpuDefinitionInfo]",
		.help = "show the CPU models, and what this host lacks of each",
		.flags = COMMAND_BARE,
		.run = models_query_definitions,
	},
	{.name = NULL},
};

static const struct qmp_type models_types[] = {
	{.name = "CpuModelExpansionType", .kind = QMP_ENUM, .members = "static full"},
	{.name = "CpuModelInfo", .kind = QMP_STRUCT, .members = "name:str *props:any"},
	{.name = "CpuModelExpansionInfo", .kind = QMP_STRUCT, .members = "model:CpuModelInfo"},
	{
		.name = "CpuDefinitionInfo",
		.kind = QMP_STRUCT,
		.members = "name:str *migration-safe:bool static:bool *unavailable-features:[str] "
			   "typename:str *alias-of:str deprecated:bool",
	},
	{.name = NULL},
};

const struct qmp_module control_cpu_models_module = {models_commands, models_types, NULL};
