/* SPDX-License-Identifier: BSD-3-Clause */
/* What top shows: see top_model.h for the contract. */
#include "ebbctl/top_model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ebbctl/device.h"
#include "ebbctl/text.h"

/* A key press changes a device by this part of its size, at least by a block. */
#define TOP_STEPS 64

static char *top_clean(const char *text)
{
	return text_clean(text, strlen(text), text_locale_utf8(), 0);
}

/* NULL: none. When memory is out there is none either. */
static void top_set_text(char **where, const char *text)
{
	free(*where);
	*where = text ? top_clean(text) : NULL;
}

/* NULL is allowed. */
static void top_device_free(struct top_device *device)
{
	if (!device)
		return;
	free(device->id);
	free(device->label);
	free(device->cells);
	free(device->reason);
	free(device);
}

static void top_devices_free(struct top_device **devices, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		top_device_free(devices[i]);
	free(devices);
}

static void top_machine_forget(struct top_machine *machine)
{
	top_devices_free(machine->devices, machine->nr_devices);
	machine->devices = NULL;
	machine->nr_devices = 0;
}

int top_machine_init(struct top_machine *machine, const char *label)
{
	*machine = (struct top_machine){.label = top_clean(label)};
	return machine->label ? 0 : -ENOMEM;
}

void top_machine_done(struct top_machine *machine)
{
	top_machine_forget(machine);
	free(machine->label);
	free(machine->status);
	free(machine->problem);
}

void top_machine_set_problem(struct top_machine *machine, const char *text)
{
	top_set_text(&machine->problem, text);
	if (!text)
		return;
	top_machine_forget(machine);
	top_set_text(&machine->status, NULL);
	machine->base_known = false;
	machine->moving = false;
}

struct top_device *top_machine_device(const struct top_machine *machine, const char *id)
{
	for (size_t i = 0; i < machine->nr_devices; i++)
		if (machine->devices[i] && !strcmp(machine->devices[i]->id, id))
			return machine->devices[i];
	return NULL;
}

static struct top_device *top_device_new(const struct device_info *info)
{
	struct top_device *device = calloc(1, sizeof(*device));

	if (!device)
		return NULL;
	device->id = strdup(info->id);
	device->label = top_clean(*info->id ? info->id : "(no id)");
	device->requested_bytes = info->requested_bytes;
	if (device->id && device->label)
		return device;
	top_device_free(device);
	return NULL;
}

/* The device of @info, out of the old list if it is there. NULL when memory is out. */
static struct top_device *top_machine_take(struct top_machine *machine,
					   const struct device_info *info)
{
	for (size_t i = 0; i < machine->nr_devices; i++) {
		struct top_device *device = machine->devices[i];

		if (!device || strcmp(device->id, info->id))
			continue;
		machine->devices[i] = NULL;
		return device;
	}
	return top_device_new(info);
}

static void top_device_update(struct top_device *device, const struct device_info *info,
			      uint64_t now_ms)
{
	if (device->requested_bytes != info->requested_bytes) {
		device->from_bytes = device->plugged_bytes;
		device->from_known = true;
		top_set_text(&device->reason, NULL);
	}
	device->node = info->node;
	device->plugged_bytes = info->plugged_bytes;
	device->requested_bytes = info->requested_bytes;
	device->max_bytes = info->max_bytes;
	device->block_bytes = info->block_bytes;
	progress_rate_note(&device->plugged_rate, now_ms, info->plugged_bytes);
}

void top_machine_take_devices(struct top_machine *machine, const json_t *list, uint64_t now_ms)
{
	size_t nr = num_min(json_array_size(list), TOP_DEVICES_MAX), taken = 0;
	struct top_device **devices;
	struct device_info info;

	if (!json_is_array(list))
		return;
	devices = calloc(nr + 1, sizeof(*devices));
	for (size_t i = 0; devices && i < nr; i++) {
		if (!device_info_read(json_array_get(list, i), &info))
			continue;
		devices[taken] = top_machine_take(machine, &info);
		if (devices[taken])
			top_device_update(devices[taken++], &info, now_ms);
	}
	top_machine_forget(machine);
	machine->devices = devices;
	machine->nr_devices = taken;
}

void top_machine_take_status(struct top_machine *machine, const json_t *status)
{
	const char *text = json_string_value(json_object_get(status, "status"));

	if (text)
		top_set_text(&machine->status, text);
}

void top_machine_take_summary(struct top_machine *machine, const json_t *summary)
{
	machine->base_known = device_number(summary, "base-memory", &machine->base_bytes);
}

/* How full a cell of @bytes is with @plugged. */
static uint8_t top_cell(uint64_t plugged, uint64_t bytes)
{
	unsigned int fill;

	if (!plugged || !bytes)
		return 0;
	if (plugged >= bytes)
		return TOP_FILL_FULL;
	fill = (unsigned int)((double)plugged * TOP_FILL_FULL / (double)bytes);
	return (uint8_t)num_min(num_max(fill, 1), TOP_FILL_FULL - 1);
}

void top_machine_take_blocks(struct top_machine *machine, const char *id, const json_t *blocks)
{
	struct top_device *device = top_machine_device(machine, id);
	const json_t *list = json_object_get(blocks, "cells");
	size_t nr = num_min(json_array_size(list), TOP_CELLS_MAX);
	uint64_t cell_bytes, region_bytes;
	uint8_t *cells;

	if (!device || !nr || !device_number(blocks, "cell-size", &cell_bytes) ||
	    !device_number(blocks, "region-size", &region_bytes))
		return;
	cells = malloc(nr);
	for (size_t i = 0; cells && i < nr; i++) {
		json_int_t plugged = json_integer_value(json_array_get(list, i));
		uint64_t before = 0, bytes;

		/* The last cell may be a part of one. */
		if (!num_mul(cell_bytes, i, &before) || before > region_bytes)
			before = region_bytes;
		bytes = num_min(cell_bytes, region_bytes - before);
		cells[i] = top_cell(plugged > 0 ? (uint64_t)plugged : 0, bytes);
	}
	free(device->cells);
	device->cells = cells;
	device->nr_cells = cells ? nr : 0;
}

/* Why the size is not what was asked for, in a person's words: the monitor's, or ours. */
static const char *top_request_reason(const char *explanation, const char *status)
{
	static const struct {
		const char *status, *reason;
	} reasons[] = {
		{"vm-oom", "the guest does nothing about it"},
		{"host-oom", "the host has not the memory for it"},
		{"no-driver", "the guest has no driver for it"},
	};

	if (explanation)
		return explanation;
	for (size_t i = 0; status && i < ARRAY_SIZE(reasons); i++)
		if (!strcmp(status, reasons[i].status))
			return reasons[i].reason;
	return NULL;
}

void top_machine_take_virtio_mem(struct top_machine *machine, const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *element = json_array_get(list, i);
		const json_t *violations = json_object_get(element, "violations");
		const char *id = json_string_value(json_object_get(element, "id"));
		const char *status = json_string_value(json_object_get(element, "request-status"));
		const char *why = json_string_value(json_object_get(element, "explanation"));
		struct top_device *device = top_machine_device(machine, id ? id : "");
		uint64_t writes = 0, reads = 0;

		if (!device)
			continue;
		top_set_text(&device->reason, top_request_reason(why, status));
		device->granted_bytes = 0;
		(void)device_number(json_object_get(element, "guest-requests"), "granted-size",
				    &device->granted_bytes);
		if (!device_number(violations, "writes", &writes) ||
		    !device_number(violations, "reads", &reads))
			continue;
		device->violations_known = num_add(writes, reads, &device->violations);
	}
}

/* The device whose "/machine/peripheral/ID/virtio-backend" this is. */
static struct top_device *top_machine_device_by_path(const struct top_machine *machine,
						     const char *path)
{
	static const char before[] = "/machine/peripheral/";
	size_t size;

	if (!path || strncmp(path, before, sizeof(before) - 1))
		return NULL;
	path += sizeof(before) - 1;
	size = strcspn(path, "/");
	for (size_t i = 0; i < machine->nr_devices; i++)
		if (strlen(machine->devices[i]->id) == size &&
		    !strncmp(machine->devices[i]->id, path, size))
			return machine->devices[i];
	return NULL;
}

/* Is this the number of requests of one kind that were answered in one way? */
static bool top_is_requests(const char *name)
{
	static const char *const answers[] = {"-ack", "-nack", "-busy", "-error", "-broken"};
	size_t size = strlen(name), end;

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		end = strlen(answers[i]);
		if (size > end && !strcmp(name + size - end, answers[i]))
			return true;
	}
	return false;
}

static void top_device_take_stats(struct top_device *device, const json_t *stats, uint64_t now_ms)
{
	uint64_t requests = 0, value;
	bool known = false;

	for (size_t i = 0; i < json_array_size(stats); i++) {
		const json_t *stat = json_array_get(stats, i);
		const char *name = json_string_value(json_object_get(stat, "name"));

		if (!name || !device_number(stat, "value", &value))
			continue;
		if (top_is_requests(name))
			known = num_add(requests, value, &requests);
	}
	if (!known)
		return;
	device->requests_known = true;
	device->requests = requests;
	progress_rate_note(&device->requests_rate, now_ms, requests);
}

void top_machine_take_stats(struct top_machine *machine, const json_t *list, uint64_t now_ms)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *element = json_array_get(list, i);
		const char *path = json_string_value(json_object_get(element, "qom-path"));
		struct top_device *device = top_machine_device_by_path(machine, path);

		if (device)
			top_device_take_stats(device, json_object_get(element, "stats"), now_ms);
	}
}

int64_t top_device_rate(const struct top_device *device, uint64_t now_ms)
{
	return progress_rate_get(&device->plugged_rate, now_ms);
}

int top_device_percent(const struct top_device *device)
{
	uint64_t plugged = device->plugged_bytes, requested = device->requested_bytes;
	uint64_t from = device->from_bytes;

	if (plugged < requested) {
		from = num_min(from, plugged);
		return (int)progress_percent(plugged - from, requested - from);
	}
	if (!device->from_known && plugged > requested)
		return -1;
	from = num_max(from, plugged);
	return (int)progress_percent(from - plugged, from - requested);
}

enum top_state top_device_state(const struct top_device *device, uint64_t now_ms)
{
	if (device->plugged_bytes == device->requested_bytes)
		return TOP_STEADY;
	if (!top_device_rate(device, now_ms))
		return TOP_STUCK;
	return device->plugged_bytes < device->requested_bytes ? TOP_GROWING : TOP_SHRINKING;
}

uint64_t top_device_step(const struct top_device *device)
{
	uint64_t block = num_max(device->block_bytes, 1);
	uint64_t part = device->max_bytes / TOP_STEPS;

	return num_max(part - part % block, block);
}

uint64_t top_device_stepped(const struct top_device *device, bool more)
{
	uint64_t step = top_device_step(device), now = device->requested_bytes;

	if (!more)
		return now > step ? now - step : 0;
	if (now >= device->max_bytes)
		return device->max_bytes;
	return now + num_min(step, device->max_bytes - now);
}

void top_device_ask(struct top_device *device, uint64_t bytes)
{
	device->from_bytes = device->plugged_bytes;
	device->from_known = true;
	device->requested_bytes = bytes;
	top_set_text(&device->reason, NULL);
}

unsigned int top_device_fill(const struct top_device *device, size_t at, size_t parts)
{
	size_t first, end;
	unsigned int sum = 0;
	bool empty = true, full = true;

	if (!device->nr_cells)
		return (double)at * (double)device->max_bytes <
				       (double)device->plugged_bytes * (double)parts
			       ? TOP_FILL_FULL
			       : 0;
	first = at * device->nr_cells / parts;
	end = num_max((at + 1) * device->nr_cells / parts, first + 1);
	for (size_t i = first; i < end; i++) {
		sum += device->cells[i];
		empty = empty && !device->cells[i];
		full = full && device->cells[i] == TOP_FILL_FULL;
	}
	if (empty || full)
		return empty ? 0 : TOP_FILL_FULL;
	return (unsigned int)num_min(num_max(sum / (end - first), 1), TOP_FILL_FULL - 1);
}

unsigned int top_shade(unsigned int fill)
{
	if (!fill)
		return 0;
	if (fill >= TOP_FILL_FULL)
		return TOP_SHADES - 1;
	return 1 + (fill - 1) * (TOP_SHADES - 2) / (TOP_FILL_FULL - 1);
}
