/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Figures for programs: query-stats and query-stats-schemas, of memory devices (provider and target
 * "virtio-mem"), and of the machine and its vCPUs (provider "kvm", targets "vm" and "vcpu"); and
 * where memory is plugged, query-virtio-mem-blocks.
 *
 * A log2-histogram of ours has one value for each power of two of microseconds: the first counts
 * what took up to one, the next up to two, then four, and so on; the last everything that took
 * longer.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/figures.h"
#include "vmm/control/internal.h"
#include "vmm/control/stats.h"

/* ---- one source of figures ---- */

enum stats_provider { STATS_KVM, STATS_MEM };

static const char *const stats_providers[] = {[STATS_KVM] = "kvm", [STATS_MEM] = "virtio-mem"};

/* The machine (both unset), a vCPU, or a memory device. */
struct stats_source {
	const struct vm *vm;
	const struct vm_memory_device *device;
	int cpu; /* -1: none */
};

static void stats_each(const struct stats_source *source, const struct figure_visit *visit)
{
	struct mem_sample sample;

	if (!source->device) {
		control_kvm_figures(source->vm, source->cpu, visit);
		return;
	}
	control_mem_sample(source->device, &sample);
	control_mem_figures(&sample, visit);
}

static enum stats_provider stats_provider(const struct stats_source *source)
{
	return source->device ? STATS_MEM : STATS_KVM;
}

/* NULL for the machine. */
static json_t *stats_path(const struct stats_source *source)
{
	if (source->device)
		return control_mem_path(source->vm, source->device);
	return source->cpu < 0 ? NULL : json_sprintf(CONTROL_CPU_PATH, (unsigned int)source->cpu);
}

static bool stats_list_has(const json_t *list, const char *text)
{
	const json_t *value;
	size_t i;

	json_array_foreach (list, i, value)
		if (!strcmp(json_string_value(value), text))
			return true;
	return false;
}

/* Call @fn with each source of a target until it fails; those of @devices, @vcpus only. */
static void stats_sources(const struct vm *vm, const json_t *args,
			  void (*fn)(void *opaque, const struct stats_source *source), void *opaque)
{
	const json_t *devices = json_object_get(args, "devices");
	const json_t *vcpus = json_object_get(args, "vcpus");
	const char *target = control_text(args, "target");
	struct stats_source source = {.vm = vm, .cpu = -1};

	if (!strcmp(target, "vm"))
		fn(opaque, &source);
	for (unsigned int i = 0; !strcmp(target, "vcpu") && i < vm_config(vm)->smp.cpus; i++) {
		char path[64];

		source.cpu = (int)i;
		snprintf(path, sizeof(path), CONTROL_CPU_PATH, i);
		if (!vcpus || stats_list_has(vcpus, path))
			fn(opaque, &source);
	}
	source.cpu = -1;
	for (size_t i = 0; !strcmp(target, "virtio-mem") && i < vm_nr_memory_devices(vm); i++) {
		source.device = vm_memory_device(vm, i);
		if (!devices || (source.device->id && stats_list_has(devices, source.device->id)))
			fn(opaque, &source);
	}
}

/* ---- query-stats ---- */

struct stats_answer {
	struct control_list results;
	const json_t *providers; /* NULL: all */
	/* of the source that is being told */
	struct control_list stats;
	const json_t *names; /* NULL: all */
	bool any;
};

static json_t *stats_value(const struct figure *figure)
{
	struct control_list list;

	if (!figure->is_list && figure->unit && !strcmp(figure->unit, "boolean"))
		return json_boolean(figure->values[0]);
	if (!figure->is_list)
		return json_integer((json_int_t)figure->values[0]);
	control_list_init(&list);
	for (size_t i = 0; i < figure->nr; i++)
		control_list_add(&list, json_integer((json_int_t)figure->values[i]));
	return control_list_end(&list);
}

static void stats_add_value(void *opaque, const struct figure *figure)
{
	struct stats_answer *answer = opaque;

	if (answer->names && !stats_list_has(answer->names, figure->name))
		return;
	answer->any = true;
	control_list_add(&answer->stats, json_pack("{s:s, s:o}", "name", figure->name, "value",
						   stats_value(figure)));
}

/* Is the provider asked for? *ret_names: which of its figures; NULL: all. */
static bool stats_wanted(const json_t *providers, enum stats_provider provider,
			 const json_t **ret_names)
{
	const json_t *request;
	size_t i;

	*ret_names = NULL;
	if (!providers)
		return true;
	json_array_foreach (providers, i, request) {
		if (strcmp(control_text(request, "provider"), stats_providers[provider]) != 0)
			continue;
		*ret_names = json_object_get(request, "names");
		return true;
	}
	return false;
}

static void stats_add_result(void *opaque, const struct stats_source *source)
{
	struct stats_answer *answer = opaque;
	const struct figure_visit visit = {stats_add_value, answer};
	enum stats_provider provider = stats_provider(source);
	json_t *stats, *path = NULL, *value;

	if (!stats_wanted(answer->providers, provider, &answer->names))
		return;
	answer->any = false;
	control_list_init(&answer->stats);
	stats_each(source, &visit);
	stats = control_list_end(&answer->stats);
	/* A kernel that tells nothing is no source. */
	if (stats && !answer->any) {
		json_decref(stats);
		return;
	}
	value = json_pack("{s:s, s:o}", "provider", stats_providers[provider], "stats", stats);
	if (source->device || source->cpu >= 0) {
		path = stats_path(source);
		control_set(&value, "qom-path", path);
	}
	control_list_add(&answer->results, value);
}

static int stats_check_devices(const struct vm *vm, const json_t *devices, struct err **err)
{
	const json_t *id;
	size_t i;

	json_array_foreach (devices, i, id)
		if (!vm_memory_device_by_id(vm, json_string_value(id)))
			return err_set(err, ENODEV, "Device '%s' not found", json_string_value(id));
	return 0;
}

static int stats_run(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	const struct control *control = command_ctx(call);
	struct stats_answer answer = {.providers = json_object_get(args, "providers")};
	int ret = stats_check_devices(control->vm, json_object_get(args, "devices"), err);

	if (ret)
		return ret;
	control_list_init(&answer.results);
	stats_sources(control->vm, args, stats_add_result, &answer);
	return control_answer(control_list_end(&answer.results), ret_value, err);
}

/* ---- query-stats-schemas ---- */

static void stats_add_schema_value(void *opaque, const struct figure *figure)
{
	struct stats_answer *answer = opaque;
	json_t *value = json_pack("{s:s, s:s, s:i}", "name", figure->name, "type", figure->type,
				  "exponent", figure->exponent);

	if (figure->unit)
		control_set(&value, "unit", json_string(figure->unit));
	if (figure->exponent)
		control_set(&value, "base", json_integer(figure->base));
	if (figure->bucket_size)
		control_set(&value, "bucket-size", json_integer(figure->bucket_size));
	answer->any = true;
	control_list_add(&answer->stats, value);
}

static void stats_end_schema(struct stats_answer *answer, enum stats_provider provider,
			     const char *target)
{
	json_t *stats = control_list_end(&answer->stats);

	if (stats && !answer->any)
		json_decref(stats);
	else
		control_list_add(&answer->results,
				 json_pack("{s:s, s:s, s:o}", "provider", stats_providers[provider],
					   "target", target, "stats", stats));
}

static int stats_run_schemas(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	static const struct mem_sample none = {.size = {.on = true}};
	static const char *const targets[] = {"vm", "vcpu"}; /* -1, and any vCPU */
	const struct control *control = command_ctx(call);
	const char *provider = json_string_value(json_object_get(args, "provider"));
	struct stats_answer answer = {.any = false};
	const struct figure_visit visit = {stats_add_schema_value, &answer};

	control_list_init(&answer.results);
	for (int i = 0; i < 2 && (!provider || !strcmp(provider, stats_providers[STATS_KVM]));
	     i++) {
		answer.any = false;
		control_list_init(&answer.stats);
		control_kvm_figures(control->vm, i - 1, &visit);
		stats_end_schema(&answer, STATS_KVM, targets[i]);
	}
	if (!provider || !strcmp(provider, stats_providers[STATS_MEM])) {
		control_list_init(&answer.stats);
		control_mem_figures(&none, &visit);
		stats_end_schema(&answer, STATS_MEM, stats_providers[STATS_MEM]);
	}
	return control_answer(control_list_end(&answer.results), ret_value, err);
}

/* ---- info stats ---- */

/* The unit with its SI prefix, "us", where there is one; else "* 10^-5 seconds". */
static void stats_print_unit(struct command_call *call, const struct figure *figure)
{
	static const char *const small[] = {"", "m", "u", "n"};
	bool seconds = figure->unit && !strcmp(figure->unit, "seconds");
	int thousands = -figure->exponent / 3;

	if (!figure->unit && !figure->exponent)
		return;
	command_printf(call, ", ");
	if (seconds && figure->base == 10 && figure->exponent <= 0 && figure->exponent % 3 == 0 &&
	    thousands < (int)ARRAY_SIZE(small)) {
		command_printf(call, "%ss", small[thousands]);
		return;
	}
	if (figure->exponent)
		command_printf(call, "* %d^%d%s", figure->base, figure->exponent,
			       figure->unit ? " " : "");
	if (figure->unit)
		command_printf(call, "%s",
			       strcmp(figure->unit, "bytes") || figure->exponent ? figure->unit
										 : "B");
}

static void stats_print_one(void *opaque, const struct figure *figure)
{
	struct command_call *call = opaque;

	command_printf(call, "    %s (%s", figure->name, figure->type);
	stats_print_unit(call, figure);
	if (figure->bucket_size)
		command_printf(call, ", bucket size=%" PRIu32, figure->bucket_size);
	command_printf(call, "): ");
	if (figure->is_list)
		for (size_t i = 0; i < figure->nr; i++)
			command_printf(call, "[%zu]=%" PRIu64 " ", i, figure->values[i]);
	else if (figure->unit && !strcmp(figure->unit, "boolean"))
		command_printf(call, "%s", figure->values[0] ? "yes" : "no");
	else
		command_printf(call, "%" PRIu64, figure->values[0]);
	command_printf(call, "\n");
}

static void stats_print_source(void *opaque, const struct stats_source *source)
{
	const struct figure_visit visit = {stats_print_one, opaque};
	json_t *path = stats_path(source);

	command_printf(opaque, "provider: %s\n", stats_providers[stats_provider(source)]);
	if (path)
		command_printf(opaque, "  %s\n", json_string_value(path));
	stats_each(source, &visit);
	json_decref(path);
}

static int stats_human(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	const struct control *control = command_ctx(call);
	const char *target = control_text(args, "target");

	(void)ret_value;
	if (strcmp(target, "vm") && strcmp(target, "vcpu") && strcmp(target, "virtio-mem"))
		return err_set(err, EINVAL,
			       "'%s' is no target of figures; allowed are vm, vcpu and virtio-mem",
			       target);
	stats_sources(control->vm, args, stats_print_source, call);
	return 0;
}

static void stats_complete(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	for (size_t i = 0; index == 0 && i < 3; i++)
		hmp_words_add(words, (const char *const[]){"vm", "vcpu", "virtio-mem"}[i]);
}

/* ---- query-virtio-mem-blocks ---- */

#define BLOCKS_CELLS_DEFAULT 256
#define BLOCKS_CELLS_MAX     4096

static json_t *blocks_json(const struct vm_memory_device *d, size_t max)
{
	uint64_t bytes[BLOCKS_CELLS_MAX], cell_size;
	size_t nr = virtio_mem_cells(d->mem, bytes, max, &cell_size);
	struct vmem_device_info info;
	struct control_list list;

	virtio_mem_info(d->mem, &info);
	control_list_init(&list);
	for (size_t i = 0; i < nr; i++)
		control_list_add(&list, json_integer((json_int_t)bytes[i]));
	return json_pack("{s:I, s:I, s:I, s:I, s:o}", "block-size", (json_int_t)info.block_size,
			 "region-size", (json_int_t)info.region_size, "usable-size",
			 (json_int_t)info.usable_region_size, "cell-size", (json_int_t)cell_size,
			 "cells", control_list_end(&list));
}

static int blocks_run(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	const struct control *control = command_ctx(call);
	const char *id = control_text(args, "device");
	const struct vm_memory_device *d = vm_memory_device_by_id(control->vm, id);
	const json_t *cells = json_object_get(args, "cells");
	json_int_t max = cells ? json_integer_value(cells) : BLOCKS_CELLS_DEFAULT;

	if (!d)
		return err_set(err, ENODEV, "Device '%s' not found", id);
	if (max < 1 || max > BLOCKS_CELLS_MAX)
		return err_set(err, EINVAL,
			       "%" JSON_INTEGER_FORMAT " cells are not possible; 1 to %d are", max,
			       BLOCKS_CELLS_MAX);
	return control_answer(blocks_json(d, (size_t)max), ret_value, err);
}

/* Cells of a line of the map. */
#define BLOCKS_LINE 64

/* '.' nothing, '#' all of it, '-' and '+' less and more than half of it. */
static char blocks_mark(uint64_t bytes, uint64_t cell_size)
{
	if (!bytes)
		return '.';
	if (bytes == cell_size)
		return '#';
	return bytes < cell_size / 2 ? '-' : '+';
}

static void blocks_print(struct command_call *call, const json_t *value)
{
	const json_t *cells = json_object_get(value, "cells"), *cell;
	uint64_t cell_size = control_number(value, "cell-size");
	uint64_t region_size = control_number(value, "region-size");
	size_t i;

	command_printf(call, "Each cell: %" PRIu64 " KiB\n", cell_size / KIB);
	json_array_foreach (cells, i, cell) {
		uint64_t offset = i * cell_size;

		if (i % BLOCKS_LINE == 0)
			command_printf(call, "%s0x%012" PRIx64 " ", i ? "\n" : "", offset);
		command_printf(call, "%c",
			       blocks_mark((uint64_t)json_integer_value(cell),
					   num_min(cell_size, region_size - offset)));
	}
	command_printf(call, "\n");
}

/* ---- the module ---- */

static const struct command stats_commands[] = {
	{
		.name = "query-stats",
		.args = "StatsFilter",
		.returns = "[StatsResult]",
		.help = "show figures of memory devices",
		.run = stats_run,
	},
	{
		.human = "info stats",
		.human_args = "target:s",
		.params = "target",
		.help = "show what is counted of the machine (vm), its vCPUs (vcpu), its memory "
			"devices (virtio-mem)",
		.human_run = stats_human,
		.complete = stats_complete,
	},
	{
		.name = "query-stats-schemas",
		.args = "*provider:StatsProvider",
		.returns = "[StatsSchema]",
		.help = "show which figures there are",
		.run = stats_run_schemas,
	},
	{
		.name = "query-virtio-mem-blocks",
		.human = "info virtio-mem-blocks",
		.args = "device:str *cells:int",
		.returns = "VirtioMemBlocks",
		.human_args = "device:s,cells:i?",
		.params = "id [cells]",
		.help = "show where in a memory device's region memory is plugged",
		.run = blocks_run,
		.print = blocks_print,
		.complete = control_complete_memory_device,
	},
	{.name = NULL},
};

static const struct qmp_type stats_types[] = {
	{.name = "StatsProvider", .kind = QMP_ENUM, .members = "kvm virtio-mem"},
	{.name = "StatsTarget", .kind = QMP_ENUM, .members = "vm vcpu virtio-mem"},
	{
		.name = "StatsType",
		.kind = QMP_ENUM,
		.members = "cumulative instant peak linear-histogram log2-histogram",
	},
	{.name = "StatsUnit", .kind = QMP_ENUM, .members = "bytes seconds cycles boolean"},
	{
		.name = "StatsRequest",
		.kind = QMP_STRUCT,
		.members = "provider:StatsProvider *names:[str]",
	},
	{.name = "StatsVCPUFilter", .kind = QMP_STRUCT, .members = "*vcpus:[str]"},
	{.name = "StatsVirtioMemFilter", .kind = QMP_STRUCT, .members = "*devices:[str]"},
	{
		.name = "StatsFilter",
		.kind = QMP_UNION,
		.members = "target:StatsTarget *providers:[StatsRequest]",
		.tag = "target",
		.variants = "vcpu:StatsVCPUFilter virtio-mem:StatsVirtioMemFilter",
	},
	{
		.name = "StatsValue",
		.kind = QMP_ALTERNATE,
		.members = "scalar:uint64 boolean:bool list:[uint64]",
	},
	{.name = "Stats", .kind = QMP_STRUCT, .members = "name:str value:StatsValue"},
	{
		.name = "StatsResult",
		.kind = QMP_STRUCT,
		.members = "provider:StatsProvider *qom-path:str stats:[Stats]",
	},
	{
		.name = "StatsSchemaValue",
		.kind = QMP_STRUCT,
		.members = "name:str type:StatsType *unit:StatsUnit *base:int8 exponent:int16 "
			   "*bucket-size:uint32",
	},
	{
		.name = "StatsSchema",
		.kind = QMP_STRUCT,
		.members = "provider:StatsProvider target:StatsTarget stats:[StatsSchemaValue]",
	},
	{
		.name = "VirtioMemBlocks",
		.kind = QMP_STRUCT,
		.members = "block-size:size region-size:size usable-size:size cell-size:size "
			   "cells:[uint64]",
	},
	{.name = NULL},
};

const struct qmp_module control_stats_module = {stats_commands, stats_types, NULL};
