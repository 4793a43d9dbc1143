/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that come and go: device_add, device_del, and the event that tells when one is gone.
 *
 * I1  device_del's answer means that the guest was asked. DEVICE_DELETED means that the device, its
 *     place and what it used are free.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "qmp/opts.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"

#define DEVICES_WITH_ID "/machine/peripheral/"

static struct vm *devices_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

static int devices_add(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	(void)ret_value;
	return vm_device_add(devices_vm(call), args, err);
}

/* People write the device as after -device. */
static int devices_add_human(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	json_t *values;
	int ret = opts_parse("device_add", control_text(args, "device"), "driver", OPTS_JSON,
			     &values, err);

	(void)ret_value;
	if (ret)
		return ret;
	ret = vm_device_add(devices_vm(call), values, err);
	json_decref(values);
	return ret;
}

/* Programs may give the path of a device that has an id. */
static int devices_del(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	const char *id = control_text(args, "id");

	(void)ret_value;
	if (!strncmp(id, DEVICES_WITH_ID, strlen(DEVICES_WITH_ID)))
		id += strlen(DEVICES_WITH_ID);
	return vm_device_del(devices_vm(call), id, err);
}

void control_devices_event(struct control *control, const struct vm_event *event)
{
	const char *name;
	json_t *data;

	if (event->type == VM_EVENT_DEVICE_DELETED)
		name = "DEVICE_DELETED";
	else if (event->type == VM_EVENT_DEVICE_UNPLUG_GUEST_ERROR)
		name = "DEVICE_UNPLUG_GUEST_ERROR";
	else
		return;
	data = json_pack("{s:s}", "path", event->path);
	if (event->id)
		control_set(&data, "device", json_string(event->id));
	control_emit(control, name, data);
}

static const struct command devices_commands[] = {
	{
		.name = "device_add",
		.human = "device_add",
		.args = "driver:str *bus:str *id:str",
		.human_args = "device:S",
		.params = "driver[,prop=value][,...]",
		.help = "plug a device, as -device does",
		.features = "json-cli json-cli-hotplug",
		.flags = COMMAND_ANY_ARGS,
		.run = devices_add,
		.human_run = devices_add_human,
		.complete = control_complete_driver,
	},
	{
		.name = "device_del",
		.human = "device_del",
		.args = "id:str",
		.human_args = "id:s",
		.params = "id",
		.help = "ask the guest to give a device up",
		.run = devices_del,
		.complete = control_complete_device,
	},
	{.name = NULL},
};

static const struct qmp_event devices_events[] = {
	{.name = "DEVICE_DELETED", .data = "*device:str path:str"},
	{.name = "DEVICE_UNPLUG_GUEST_ERROR", .data = "*device:str path:str"},
	{.name = NULL},
};

const struct qmp_module control_devices_module = {devices_commands, NULL, devices_events};
