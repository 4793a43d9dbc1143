/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands that resize: virtio-mem-resize, one device; memory-resize, the machine or a node;
 * and theirs for people. What becomes of them is resize.h's, how a size is spread resize_plan.h's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/err.h"
#include "qmp/size.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/control/jobs.h"
#include "vmm/control/resize.h"
#include "vmm/control/resize_plan.h"
#include "vmm/virtio/mem.h"

/* More than 30 years; in milliseconds it is far from any limit. */
#define RESIZE_TIMEOUT_MAX_S 1000000000

/* The members job-id and timeout of a command. */
static int resize_get_options(const json_t *args, struct resize_options *ret, struct err **err)
{
	json_int_t timeout = json_integer_value(json_object_get(args, "timeout"));

	if (timeout < 0 || timeout > RESIZE_TIMEOUT_MAX_S)
		return err_set(err, EINVAL,
			       "a timeout of %" JSON_INTEGER_FORMAT " s is not possible; allowed "
			       "are 0 (none) to %d s",
			       timeout, RESIZE_TIMEOUT_MAX_S);
	ret->job_id = json_string_value(json_object_get(args, "job-id"));
	ret->timeout_ms = (uint64_t)timeout * 1000;
	return 0;
}

/* ---- one device ---- */

static const struct vm_memory_device *resize_get_device(struct control *control, const char *id,
							struct err **err)
{
	const struct vm_memory_device *d = vm_memory_device_by_id(control->vm, id);

	if (!d)
		err_set(err, ENODEV, "Device '%s' not found", id);
	return d;
}

static int resize_device(struct command_call *call, const char *id, const json_t *args,
			 const char **ret_job, struct err **err)
{
	struct control *control = command_ctx(call);
	struct resize_options options = {.type = "virtio-mem-resize"};
	struct resize_target target = {
		.device = resize_get_device(control, id, err),
		.size = control_number(args, "size"),
	};
	char prefix[256];
	int ret;

	if (!target.device)
		return -ENODEV;
	ret = resize_get_options(args, &options, err);
	if (ret)
		return ret;
	snprintf(prefix, sizeof(prefix), "resize-%s", id);
	options.prefix = prefix;
	return control_resize_start(control, &target, 1, &options, ret_job, err);
}

static int resize_run_device(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	const char *job;

	(void)ret_value;
	return resize_device(call, control_text(args, "device"), args, &job, err);
}

static int resize_human_device(struct command_call *call, const json_t *args, json_t **ret_value,
			       struct err **err)
{
	json_int_t size = json_integer_value(json_object_get(args, "size"));
	const char *id = control_text(args, "id"), *job;
	const struct vm_memory_device *d;
	int ret;

	(void)ret_value;
	if (size < 0)
		return err_set(err, EINVAL, "the size of '%s' cannot be negative", id);
	if (!control_flag(args, "wait")) {
		struct control *control = command_ctx(call);

		ret = vm_check_resize(control->vm, err);
		if (ret)
			return ret;
		d = resize_get_device(control, id, err);
		return d ? virtio_mem_resize(d->mem, (uint64_t)size, err) : -ENODEV;
	}
	ret = resize_device(call, id, args, &job, err);
	return ret ? ret : control_job_wait(call, job, err);
}

/* ---- the machine, or a node ---- */

/* What a size is spread over. */
struct resize_scope {
	struct resize_target *targets;
	struct resize_slot *slots;
	size_t nr;
	uint64_t boot_bytes, max_bytes;
	char name[32]; /* "the machine", "node 1" */
};

static void resize_scope_done(struct resize_scope *scope)
{
	free(scope->targets);
	free(scope->slots);
}

static void resize_scope_add(struct resize_scope *scope, const struct vm_memory_device *d)
{
	struct resize_slot *slot = &scope->slots[scope->nr];
	struct vmem_device_info info;

	virtio_mem_info(d->mem, &info);
	*slot = (struct resize_slot){
		.size = info.plugged_size,
		.max = info.region_size,
		.block = info.block_size,
		.driven = virtio_mem_driven(d->mem),
	};
	scope->targets[scope->nr++].device = d;
	scope->max_bytes += info.region_size;
}

/* @node: -1 for all. resize_scope_done() also after a failure. */
static int resize_scope_init(struct resize_scope *scope, const struct vm *vm, json_int_t node,
			     struct err **err)
{
	const struct vm_numa_config *numa = &vm_config(vm)->numa;
	size_t nr = vm_nr_memory_devices(vm);

	*scope = (struct resize_scope){
		.targets = calloc(nr + 1, sizeof(*scope->targets)),
		.slots = calloc(nr + 1, sizeof(*scope->slots)),
		.name = "the machine",
	};
	if (!scope->targets || !scope->slots)
		return err_set(err, ENOMEM, "out of memory");
	if (node < -1 || node >= (json_int_t)numa->nr_nodes)
		return err_set(err, EINVAL,
			       "there is no node %" JSON_INTEGER_FORMAT "; nodes are 0 to %u", node,
			       numa->nr_nodes - 1);
	for (unsigned int n = 0; n < numa->nr_nodes; n++)
		if (node == -1 || node == n)
			scope->boot_bytes += numa->nodes[n].mem_bytes;
	for (size_t i = 0; i < nr; i++)
		if (node == -1 || node == vm_memory_device(vm, i)->node)
			resize_scope_add(scope, vm_memory_device(vm, i));
	if (node != -1)
		snprintf(scope->name, sizeof(scope->name), "node %u", (unsigned int)node);
	if (!scope->nr)
		return err_set(err, EINVAL, "%s has no memory device that could be resized",
			       scope->name);
	return 0;
}

static int resize_scope_plan(struct resize_scope *scope, uint64_t total, struct err **err)
{
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX], c[SIZE_TEXT_MAX];
	uint64_t boot = scope->boot_bytes, near;
	int ret = -ERANGE;

	if (total >= boot)
		ret = resize_plan(scope->slots, scope->nr, total - boot, &near);
	switch (ret) {
	case 0:
		break;
	case -ERANGE:
		return err_set(err, EINVAL, "%s cannot have %s; between %s and %s is possible",
			       scope->name, size_format(total, a), size_format(boot, b),
			       size_format(boot + scope->max_bytes, c));
	case -EINVAL:
		return err_set(err, EINVAL,
			       "%s cannot have %s because of its devices' block sizes; %s is the "
			       "next size that it can",
			       scope->name, size_format(total, a), size_format(boot + near, b));
	default:
		return err_set(err, -ret, "out of memory");
	}
	for (size_t i = 0; i < scope->nr; i++)
		scope->targets[i].size = scope->slots[i].target;
	return 0;
}

static int resize_total(struct command_call *call, const json_t *args, const char **ret_job,
			struct err **err)
{
	struct control *control = command_ctx(call);
	const json_t *node = json_object_get(args, "node");
	struct resize_options options = {.prefix = "resize-memory", .type = "memory-resize"};
	struct resize_scope scope;
	int ret = resize_get_options(args, &options, err);

	if (ret)
		return ret;
	if (node && json_integer_value(node) < 0)
		return err_set(err, EINVAL, "the number of a node cannot be negative");
	ret = resize_scope_init(&scope, control->vm, node ? json_integer_value(node) : -1, err);
	if (!ret)
		ret = resize_scope_plan(&scope, control_number(args, "total"), err);
	if (!ret)
		ret = control_resize_start(control, scope.targets, scope.nr, &options, ret_job,
					   err);
	resize_scope_done(&scope);
	return ret;
}

static int resize_run_total(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	const char *job;

	(void)ret_value;
	return resize_total(call, args, &job, err);
}

static int resize_human_total(struct command_call *call, const json_t *args, json_t **ret_value,
			      struct err **err)
{
	const char *job;
	int ret;

	(void)ret_value;
	if (json_integer_value(json_object_get(args, "total")) < 0)
		return err_set(err, EINVAL, "the size of the memory cannot be negative");
	ret = resize_total(call, args, &job, err);
	if (!ret && control_flag(args, "wait"))
		ret = control_job_wait(call, job, err);
	return ret;
}

/* ---- the module ---- */

static const struct command resize_commands[] = {
	{
		.name = "virtio-mem-resize",
		.args = "device:str size:size *timeout:int *job-id:str",
		.help = "ask the guest for another size of a memory device, as a job",
		.run = resize_run_device,
	},
	{
		.human = "virtio-mem",
		.human_args = "id:s,size:M,wait:-w",
		.params = "id size [-w]",
		.help = "ask the guest for another size of a memory device, in MiB; with -w wait "
			"until it is there",
		.human_run = resize_human_device,
		.complete = control_complete_memory_device,
	},
	{
		.name = "memory-resize",
		.human = "memory_resize",
		.args = "total:size *node:int *timeout:int *job-id:str",
		.human_args = "total:M,node:i?,wait:-w",
		.params = "total [node] [-w]",
		.help = "ask the guest for another size of all memory, or of a node's, in MiB; "
			"boot memory is a part of it",
		.run = resize_run_total,
		.human_run = resize_human_total,
	},
	{.name = NULL},
};

const struct qmp_module control_resize_module = {resize_commands, NULL, NULL};
