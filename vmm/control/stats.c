/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Figures of memory devices for programs: query-stats and query-stats-schemas, provider and target
 * "virtio-mem"; and where memory is plugged, query-virtio-mem-blocks.
 *
 * A log2-histogram has one value for each power of two of microseconds: the first counts what took
 * up to one, the next up to two, then four, and so on; the last everything that took longer.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/control/stats.h"

#define STATS_PROVIDER "virtio-mem"

/* ---- what there is ---- */

void control_mem_sample(const struct vm_memory_device *device, struct mem_sample *ret)
{
	virtio_mem_info(device->mem, &ret->info);
	virtio_mem_stats(device->mem, &ret->stats);
	virtio_mem_violations(device->mem, &ret->violations);
	virtio_mem_guard_info(device->mem, &ret->guard);
}

struct figure {
	const char *name, *type;
	const char *unit; /* NULL: none */
	int base, exponent;
	const uint64_t *values;
	size_t nr; /* 1: a scalar */
};

struct stats_visit {
	void (*fn)(void *opaque, const struct figure *figure);
	void *opaque;
};

static void stats_scalar(const struct stats_visit *v, const char *name, const char *type,
			 const char *unit, uint64_t value)
{
	const struct figure figure = {
		.name = name, .type = type, .unit = unit, .values = &value, .nr = 1};

	v->fn(v->opaque, &figure);
}

static void stats_requests(const struct stats_visit *v, const struct virtio_mem_requests *r,
			   enum virtio_mem_kind kind)
{
	struct figure figure = {
		.type = "log2-histogram",
		.unit = "seconds",
		.base = 10,
		.exponent = -6,
		.values = r->latency,
		.nr = VIRTIO_MEM_BUCKETS,
	};
	char name[64];

	for (unsigned int a = 0; a < VIRTIO_MEM_ANSWERS; a++) {
		snprintf(name, sizeof(name), "%s-%s", virtio_mem_kind_name(kind),
			 virtio_mem_answer_name(a));
		stats_scalar(v, name, "cumulative", NULL, r->answers[a]);
	}
	snprintf(name, sizeof(name), "%s-latency", virtio_mem_kind_name(kind));
	figure.name = name;
	v->fn(v->opaque, &figure);
}

/* Everything there is about a device, in one order. */
static void stats_each(const struct mem_sample *s, const struct stats_visit *v)
{
	stats_scalar(v, "plugged-size", "instant", "bytes", s->info.plugged_size);
	stats_scalar(v, "requested-size", "instant", "bytes", s->info.requested_size);
	stats_scalar(v, "usable-size", "instant", "bytes", s->info.usable_region_size);
	stats_scalar(v, "max-size", "instant", "bytes", s->info.region_size);
	stats_scalar(v, "faulted-size", "instant", "bytes", s->info.faulted_size);
	stats_scalar(v, "plug-bytes", "cumulative", "bytes", s->stats.plugged_bytes);
	stats_scalar(v, "unplug-bytes", "cumulative", "bytes", s->stats.unplugged_bytes);
	stats_scalar(v, "reset-bytes", "cumulative", "bytes", s->stats.reset_bytes);
	for (unsigned int k = 0; k < VIRTIO_MEM_KINDS; k++)
		stats_requests(v, &s->stats.requests[k], k);
	stats_scalar(v, "host-refusals", "cumulative", NULL, s->stats.refusals);
	stats_scalar(v, "violation-writes", "cumulative", NULL, s->violations.writes);
	stats_scalar(v, "violation-reads", "cumulative", NULL, s->violations.reads);
	stats_scalar(v, "memory-slots", "instant", NULL, s->guard.memslots);
}

/* ---- query-stats ---- */

struct stats_answer {
	struct control_list list;
	const json_t *names; /* NULL: all */
};

static bool stats_list_has(const json_t *list, const char *text)
{
	const json_t *value;
	size_t i;

	json_array_foreach (list, i, value)
		if (!strcmp(json_string_value(value), text))
			return true;
	return false;
}

static json_t *stats_value(const struct figure *figure)
{
	struct control_list list;

	if (figure->nr == 1)
		return json_integer((json_int_t)figure->values[0]);
	control_list_init(&list);
	for (size_t i = 0; i < figure->nr; i++)
		control_list_add(&list, json_integer((json_int_t)figure->values[i]));
	return control_list_end(&list);
}

static void stats_add_value(void *opaque, const struct figure *figure)
{
	struct stats_answer *answer = opaque;

	if (!answer->names || stats_list_has(answer->names, figure->name))
		control_list_add(&answer->list, json_pack("{s:s, s:o}", "name", figure->name,
							  "value", stats_value(figure)));
}

static json_t *stats_device(const struct vm *vm, const struct vm_memory_device *d,
			    const json_t *names)
{
	struct stats_answer answer = {.names = names};
	const struct stats_visit visit = {stats_add_value, &answer};
	struct mem_sample sample;

	control_list_init(&answer.list);
	control_mem_sample(d, &sample);
	stats_each(&sample, &visit);
	return json_pack("{s:s, s:o, s:o}", "provider", STATS_PROVIDER, "qom-path",
			 control_mem_path(vm, d), "stats", control_list_end(&answer.list));
}

/* Is our provider asked for? *ret_names: which of its figures; NULL: all. */
static bool stats_wanted(const json_t *args, const json_t **ret_names)
{
	const json_t *providers = json_object_get(args, "providers"), *request;
	size_t i;

	*ret_names = NULL;
	if (strcmp(control_text(args, "target"), STATS_PROVIDER) != 0)
		return false;
	if (!providers)
		return true;
	json_array_foreach (providers, i, request) {
		if (strcmp(control_text(request, "provider"), STATS_PROVIDER) != 0)
			continue;
		*ret_names = json_object_get(request, "names");
		return true;
	}
	return false;
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
	const json_t *devices = json_object_get(args, "devices"), *names;
	struct control_list list;
	int ret = stats_check_devices(control->vm, devices, err);

	if (ret)
		return ret;
	control_list_init(&list);
	for (size_t i = 0; stats_wanted(args, &names) && i < vm_nr_memory_devices(control->vm);
	     i++) {
		const struct vm_memory_device *d = vm_memory_device(control->vm, i);

		if (!devices || (d->id && stats_list_has(devices, d->id)))
			control_list_add(&list, stats_device(control->vm, d, names));
	}
	return control_answer(control_list_end(&list), ret_value, err);
}

/* ---- query-stats-schemas ---- */

static void stats_add_schema(void *opaque, const struct figure *figure)
{
	struct control_list *list = opaque;
	json_t *value = json_pack("{s:s, s:s, s:i}", "name", figure->name, "type", figure->type,
				  "exponent", figure->exponent);

	if (figure->unit)
		control_set(&value, "unit", json_string(figure->unit));
	if (figure->base)
		control_set(&value, "base", json_integer(figure->base));
	control_list_add(list, value);
}

static int stats_run_schemas(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	static const struct mem_sample none;
	struct control_list schemas, stats;
	const struct stats_visit visit = {stats_add_schema, &stats};

	(void)call;
	(void)args;
	control_list_init(&stats);
	stats_each(&none, &visit);
	control_list_init(&schemas);
	control_list_add(&schemas,
			 json_pack("{s:s, s:s, s:o}", "provider", STATS_PROVIDER, "target",
				   STATS_PROVIDER, "stats", control_list_end(&stats)));
	return control_answer(control_list_end(&schemas), ret_value, err);
}

/* ---- info stats ---- */

static void stats_print_one(void *opaque, const struct figure *figure)
{
	struct command_call *call = opaque;
	bool seconds = figure->unit && !strcmp(figure->unit, "seconds");

	command_printf(call, "    %s (%s%s%s):", figure->name, figure->type,
		       figure->unit ? ", " : "",
		       seconds        ? "microseconds"
		       : figure->unit ? figure->unit
				      : "");
	for (size_t i = 0; i < figure->nr; i++)
		command_printf(call, " %s%" PRIu64, figure->nr > 1 && !i ? "[" : "",
			       figure->values[i]);
	command_printf(call, "%s\n", figure->nr > 1 ? "]" : "");
}

static int stats_human(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	const char *id = json_string_value(json_object_get(args, "id"));
	const struct control *control = command_ctx(call);
	const struct stats_visit visit = {stats_print_one, call};

	(void)ret_value;
	if (id && !vm_memory_device_by_id(control->vm, id))
		return err_set(err, ENODEV, "Device '%s' not found", id);
	for (size_t i = 0; i < vm_nr_memory_devices(control->vm); i++) {
		const struct vm_memory_device *d = vm_memory_device(control->vm, i);
		struct mem_sample sample;

		if (id && d != vm_memory_device_by_id(control->vm, id))
			continue;
		control_mem_sample(d, &sample);
		command_printf(call, "provider: %s\n  \"%s\":\n", STATS_PROVIDER,
			       d->id ? d->id : "");
		stats_each(&sample, &visit);
	}
	return 0;
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
		.human_args = "id:s?",
		.params = "[id]",
		.help = "show what the guest asked of its memory devices, and how long it took",
		.human_run = stats_human,
		.complete = control_complete_memory_device,
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
	{.name = "StatsProvider", .kind = QMP_ENUM, .members = STATS_PROVIDER},
	{.name = "StatsTarget", .kind = QMP_ENUM, .members = "vm vcpu " STATS_PROVIDER},
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
		.variants = "vcpu:StatsVCPUFilter " STATS_PROVIDER ":StatsVirtioMemFilter",
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
