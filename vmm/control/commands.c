/* SPDX-License-Identifier: BSD-3-Clause */
/* The human monitor's commands that do something; those that tell are in commands_info.c. */
#include "vmm/control/commands.h"

#include <errno.h>

#include "base/err.h"
#include "qmp/monitor/hmp.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/vm.h"

static int control_stop(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	(void)err;
	vm_stop(hmp_call_ctx(call));
	return 0;
}

static int control_cont(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	return vm_cont(hmp_call_ctx(call), err);
}

static int control_reset(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	return vm_reset(hmp_call_ctx(call), VM_CAUSE_HOST_QMP_SYSTEM_RESET, err);
}

static int control_powerdown(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	(void)err;
	vm_powerdown(hmp_call_ctx(call));
	return 0;
}

static int control_quit(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	(void)err;
	vm_quit(hmp_call_ctx(call), 0, VM_CAUSE_HOST_QMP_QUIT);
	return 0;
}

static int control_virtio_mem(struct hmp_call *call, const json_t *args, struct err **err)
{
	const char *id = json_string_value(json_object_get(args, "id"));
	json_int_t size = json_integer_value(json_object_get(args, "size"));
	const struct vm_memory_device *d = vm_memory_device_by_id(hmp_call_ctx(call), id);

	if (!d)
		return err_set(err, ENODEV, "Device '%s' not found", id);
	if (size < 0)
		return err_set(err, EINVAL, "the size of '%s' cannot be negative", id);
	return virtio_mem_resize(d->mem, (uint64_t)size, err);
}

void control_complete_memory_device(void *ctx, unsigned int index, struct hmp_words *words)
{
	for (size_t i = 0; index == 0 && i < vm_nr_memory_devices(ctx); i++)
		if (vm_memory_device(ctx, i)->id)
			hmp_words_add(words, vm_memory_device(ctx, i)->id);
}

const struct hmp_command control_commands[] = {
	{
		.name = "cont|c",
		.help = "let the stopped machine go on",
		.run = control_cont,
	},
	{
		.name = "info",
		.params = "[subcommand]",
		.help = "show information about the machine",
		.sub = control_info_commands,
	},
	{
		.name = "quit|q",
		.help = "end the machine and the monitor",
		.run = control_quit,
	},
	{
		.name = "stop|s",
		.help = "stop the machine",
		.run = control_stop,
	},
	{
		.name = "system_powerdown",
		.help = "press the power button",
		.run = control_powerdown,
	},
	{
		.name = "system_reset",
		.help = "reset the machine",
		.run = control_reset,
	},
	{
		.name = "virtio-mem",
		.args = "id:s,size:M",
		.params = "id size",
		.help = "ask the guest for another size of a memory device, in MiB",
		.run = control_virtio_mem,
		.complete = control_complete_memory_device,
	},
	{.name = NULL},
};
