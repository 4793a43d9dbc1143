/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory devices from the inside: how far the last resize got, how unplugged memory is kept from the
 * guest, what the guest tried; and the events that tell of it.
 *
 * I1  Nothing here waits for a guest's request: sizes and counts are those of the moment.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "vmm/control/answer.h"
#include "vmm/control/explain.h"
#include "vmm/control/internal.h"
#include "vmm/control/stats.h"
#include "vmm/virtio/mem.h"

/* At most so often a device's new size is told. */
#define VMEM_EVENT_MS 1000

/* Members of a size request. */
#define VMEM_SIZE_REQUEST                                                 \
	"wanted-size:size requested-size:size urgency:MemorySizeUrgency " \
	"reason:MemorySizeReason answer:MemorySizeAnswer *cause:MemorySizeCause"

/* In the order of enum vm_violation_action. */
static const char *const vmem_actions[] = {"deny", "pause", "shutdown"};

/*
 * The device itself, below its transport. One without an id is known by its number among all devices
 * without.
 */
json_t *control_mem_path(const struct vm *vm, const struct vm_memory_device *d)
{
	const struct vm_config *config = vm_config(vm);
	unsigned int number = 0;

	if (d->id)
		return json_sprintf("/machine/peripheral/%s/virtio-backend", d->id);
	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *c = config->devices[i];

		if (c->id)
			continue;
		/* A backend serves one device only. */
		if (c->type == VM_DEVICE_VIRTIO_MEM &&
		    !strcmp(c->virtio_mem.memdev_id, d->memdev_id))
			break;
		number++;
	}
	return json_sprintf("/machine/peripheral-anon/device[%u]/virtio-backend", number);
}

/* ---- query-virtio-mem ---- */

static json_t *vmem_violation(const struct virtio_mem_violation *v)
{
	json_t *value = json_pack("{s:I, s:i, s:b}", "address", (json_int_t)v->gpa, "size",
				  (int)v->size, "write", v->write);

	if (v->vcpu >= 0)
		control_set(&value, "cpu-index", json_integer(v->vcpu));
	return value;
}

static json_t *vmem_violations(const struct vm_memory_device *d)
{
	struct virtio_mem_violations counts;
	json_t *value;

	virtio_mem_violations(d->mem, &counts);
	value = json_pack("{s:I, s:I}", "writes", (json_int_t)counts.writes, "reads",
			  (json_int_t)counts.reads);
	if (counts.writes || counts.reads)
		control_set(&value, "last", vmem_violation(&counts.last));
	return value;
}

static json_t *vmem_guard(const struct vm_memory_device *d)
{
	struct vmem_guard_info info;

	virtio_mem_guard_info(d->mem, &info);
	return json_pack("{s:b, s:s, s:I}", "enabled", d->guard, "mechanism", info.mechanism,
			 "memslots", (json_int_t)info.memslots);
}

/* What events and queries tell of a size request alike; @data is taken over, and may be NULL. */
static json_t *vmem_size_request(json_t *data, const struct virtio_mem_size_request *r)
{
	control_set(&data, "wanted-size", json_integer((json_int_t)r->wanted_size));
	control_set(&data, "requested-size", json_integer((json_int_t)r->requested_size));
	control_set(&data, "urgency", json_string(virtio_mem_size_urgency_name(r->urgency)));
	control_set(&data, "reason", json_string(virtio_mem_size_reason_name(r->reason)));
	control_set(&data, "answer", json_string(virtio_mem_size_answer_name(r->answer)));
	if (r->cause != VMEM_SIZE_CAUSE_NONE)
		control_set(&data, "cause", json_string(virtio_mem_size_cause_name(r->cause)));
	return data;
}

static json_t *vmem_guest_requests(const struct vm_memory_device *d,
				   const struct vmem_device_info *info,
				   const struct virtio_mem_size_stats *size)
{
	struct virtio_mem_stats stats;
	json_t *value, *last;

	value = json_pack("{s:I, s:I, s:I, s:I}", "limit", (json_int_t)info->request_limit, "rate",
			  (json_int_t)info->request_rate, "granted-size",
			  (json_int_t)(info->requested_size - info->owner_size), "requests",
			  (json_int_t)size->total);
	if (!size->total)
		return value;
	virtio_mem_stats(d->mem, &stats);
	last = vmem_size_request(json_object(), &size->last);
	control_set(&last, "age-ms", json_integer((json_int_t)(stats.now_ms - size->last.at_ms)));
	control_set(&value, "last", last);
	return value;
}

static json_t *vmem_device(const struct vm *vm, const struct vm_memory_device *d)
{

	enum virtio_mem_progress progress = virtio_mem_progress(d->mem);
	struct virtio_mem_size_stats size;
	struct resize_explanation why;
	struct vmem_device_info info;
	json_t *value;

	virtio_mem_info(d->mem, &info);
	value = json_pack("{s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "qom-path",
			  control_mem_path(vm, d), "status",
			  progress == VIRTIO_MEM_NO_DRIVER ? "no-driver" : "ready",
			  "request-status", virtio_mem_progress_name(progress), "block-size",
			  (json_int_t)info.block_size, "requested-size",
			  (json_int_t)info.requested_size, "size", (json_int_t)info.plugged_size,
			  "usable-size", (json_int_t)info.usable_region_size, "max-size",
			  (json_int_t)info.region_size, "guard", vmem_guard(d), "violations",
			  vmem_violations(d));
	virtio_mem_size_stats(d->mem, &size);
	if (size.on)
		control_set(&value, "guest-requests", vmem_guest_requests(d, &info, &size));
	if (d->id)
		control_set(&value, "id", json_string(d->id));
	if (control_mem_explain(vm, d, &why)) {
		control_set(&value, "reason", json_string(resize_reason_name(why.reason)));
		control_set(&value, "explanation", json_string(why.text));
	}
	return value;
}

static int vmem_query(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	const char *id = json_string_value(json_object_get(args, "device"));
	const struct control *control = command_ctx(call);
	struct vm *vm = control->vm;
	struct control_list list;

	if (id && !vm_memory_device_by_id(vm, id))
		return err_set(err, ENODEV, "Device '%s' not found", id);
	control_list_init(&list);
	for (size_t i = 0; i < vm_nr_memory_devices(vm); i++) {
		const struct vm_memory_device *d = vm_memory_device(vm, i);

		if (!id || d == vm_memory_device_by_id(vm, id))
			control_list_add(&list, vmem_device(vm, d));
	}
	return control_answer(control_list_end(&list), ret_value, err);
}

/* ---- for people ---- */

static void vmem_print_violations(struct command_call *call, const json_t *violations)
{
	const json_t *last = json_object_get(violations, "last");
	uint64_t size = control_number(last, "size");

	command_printf(call, "Violations: %" PRIu64 " writes, %" PRIu64 " reads\n",
		       control_number(violations, "writes"), control_number(violations, "reads"));
	if (!last)
		return;
	command_printf(call, "Last violation: %s of %" PRIu64 " byte%s at 0x%" PRIx64,
		       control_flag(last, "write") ? "write" : "read", size, size == 1 ? "" : "s",
		       control_number(last, "address"));
	if (json_object_get(last, "cpu-index"))
		command_printf(call, ", vCPU %" PRIu64, control_number(last, "cpu-index"));
	command_printf(call, "\n");
}

static void vmem_print_requests(struct command_call *call, const json_t *requests)
{
	const json_t *last = json_object_get(requests, "last");
	uint64_t rate = control_number(requests, "rate");

	command_printf(call, "Guest requests: up to %" PRIu64 " bytes",
		       control_number(requests, "limit"));
	if (rate)
		command_printf(call, ", by %" PRIu64 " bytes a second", rate);
	command_printf(call, "\nGranted to the guest: %" PRIu64 " bytes\n",
		       control_number(requests, "granted-size"));
	if (!last)
		return;
	command_printf(call, "Last guest request: %" PRIu64 " bytes (%s, reason %s): %s",
		       control_number(last, "wanted-size"), control_text(last, "urgency"),
		       control_text(last, "reason"), control_text(last, "answer"));
	if (json_object_get(last, "cause"))
		command_printf(call, " (%s)", control_text(last, "cause"));
	command_printf(call, ", %" PRIu64 " s ago\n", control_number(last, "age-ms") / 1000);
}

static void vmem_print_one(struct command_call *call, const json_t *d)
{
	const json_t *guard = json_object_get(d, "guard");

	command_printf(call, "Status: %s\n", control_text(d, "status"));
	command_printf(call, "Request status: %s\n", control_text(d, "request-status"));
	if (json_object_get(d, "explanation"))
		command_printf(call, "Explanation: %s\n", control_text(d, "explanation"));
	command_printf(call, "Page size: %" PRIu64 " bytes\n", control_number(d, "block-size"));
	command_printf(call, "Requested size: %" PRIu64 " bytes\n",
		       control_number(d, "requested-size"));
	command_printf(call, "Plugged size: %" PRIu64 " bytes\n", control_number(d, "size"));
	command_printf(call, "Usable region size: %" PRIu64 " bytes\n",
		       control_number(d, "usable-size"));
	command_printf(call, "Region size: %" PRIu64 " bytes\n", control_number(d, "max-size"));
	if (control_flag(guard, "enabled"))
		command_printf(call, "Guard: on (%s)\n", control_text(guard, "mechanism"));
	else
		command_printf(call, "Guard: off\n");
	command_printf(call, "Memory slots: %" PRIu64 "\n", control_number(guard, "memslots"));
	if (json_object_get(d, "guest-requests"))
		vmem_print_requests(call, json_object_get(d, "guest-requests"));
	vmem_print_violations(call, json_object_get(d, "violations"));
}

/* Of one device, asked for by its id; or of all, each below its name. */
static int vmem_human(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	json_t *devices = NULL;
	const json_t *d;
	size_t i;
	int ret = vmem_query(call, args, &devices, err);

	(void)ret_value;
	json_array_foreach (devices, i, d) {
		if (!json_object_get(args, "device"))
			command_printf(call, "Memory device \"%s\":\n", control_text(d, "id"));
		vmem_print_one(call, d);
	}
	json_decref(devices);
	return ret;
}

/* ---- events ---- */

static json_t *vmem_event(const struct vm *vm, const struct vm_memory_device *d)
{
	json_t *data = json_pack("{s:o}", "qom-path", control_mem_path(vm, d));

	if (d->id)
		control_set(&data, "id", json_string(d->id));
	return data;
}

static void vmem_tell_violation(struct control *control, const struct vm_violation *v)
{
	json_t *data = vmem_event(control->vm, v->device);

	control_set(&data, "address", json_integer((json_int_t)v->gpa));
	control_set(&data, "size", json_integer(v->size));
	control_set(&data, "write", json_boolean(v->write));
	if (v->vcpu >= 0)
		control_set(&data, "cpu-index", json_integer(v->vcpu));
	control_set(&data, "writes", json_integer((json_int_t)v->writes));
	control_set(&data, "reads", json_integer((json_int_t)v->reads));
	control_set(&data, "action", json_string(vmem_actions[v->action]));
	control_emit(control, "MEMORY_DEVICE_VIOLATION", data);
}

static void vmem_tell_size_request(struct control *control, const struct vm_event *event)
{
	const struct virtio_mem_size_stats *size = event->size_requests;
	json_t *data = vmem_event(control->vm, event->memory_device);

	data = vmem_size_request(data, &size->last);
	control_set(&data, "requests", json_integer((json_int_t)size->total));
	control_emit(control, "MEMORY_DEVICE_SIZE_REQUEST", data);
}

void control_virtio_mem_event(struct control *control, const struct vm_event *event)
{
	json_t *data;

	if (event->type == VM_EVENT_VIOLATION)
		vmem_tell_violation(control, event->violation);
	if (event->type == VM_EVENT_MEMORY_DEVICE && event->size_requests)
		vmem_tell_size_request(control, event);
	if (event->type != VM_EVENT_MEMORY_DEVICE || !event->resized)
		return;
	data = vmem_event(control->vm, event->memory_device);
	control_set(&data, "size", json_integer((json_int_t)event->plugged_bytes));
	if (event->arrived)
		control_emit_now(control, "MEMORY_DEVICE_SIZE_CHANGE", data);
	else
		control_emit(control, "MEMORY_DEVICE_SIZE_CHANGE", data);
}

/* ---- the module ---- */

static const struct command vmem_commands[] = {
	{
		.name = "query-virtio-mem",
		.human = "info virtio-mem",
		.args = "*device:str",
		.returns = "[VirtioMemInfo]",
		.human_args = "device:s?",
		.params = "[id]",
		.help = "show how far the last resize of a memory device got",
		.run = vmem_query,
		.human_run = vmem_human,
		.complete = control_complete_memory_device,
	},
	{.name = NULL},
};

static const struct qmp_type vmem_types[] = {
	{.name = "VirtioMemStatus", .kind = QMP_ENUM, .members = "no-driver ready"},
	{
		.name = "VirtioMemRequestStatus",
		.kind = QMP_ENUM,
		.members = "done in-progress vm-oom host-oom no-driver",
	},
	{
		.name = "VirtioMemGuard",
		.kind = QMP_STRUCT,
		.members = "enabled:bool mechanism:str memslots:int",
	},
	{
		.name = "VirtioMemViolation",
		.kind = QMP_STRUCT,
		.members = "address:size size:size write:bool *cpu-index:int",
	},
	{
		.name = "VirtioMemViolations",
		.kind = QMP_STRUCT,
		.members = "writes:int reads:int *last:VirtioMemViolation",
	},
	{
		.name = "VirtioMemInfo",
		.kind = QMP_STRUCT,
		.members = "*id:str qom-path:str status:VirtioMemStatus "
			   "request-status:VirtioMemRequestStatus block-size:size "
			   "requested-size:size size:size usable-size:size max-size:size "
			   "guard:VirtioMemGuard violations:VirtioMemViolations "
			   "*reason:ResizeReason *explanation:str "
			   "*guest-requests:VirtioMemGuestRequests",
	},
	{.name = "MemorySizeUrgency", .kind = QMP_ENUM, .members = "low normal high critical"},
	{
		.name = "MemorySizeReason",
		.kind = QMP_ENUM,
		.members = "none pressure allocation oom idle",
	},
	{
		.name = "MemorySizeAnswer",
		.kind = QMP_ENUM,
		.members = "granted partly refused later",
	},
	{.name = "MemorySizeCause", .kind = QMP_ENUM, .members = "limit rate floor host"},
	{
		.name = "VirtioMemSizeRequest",
		.kind = QMP_STRUCT,
		.members = VMEM_SIZE_REQUEST " age-ms:int",
	},
	{
		.name = "VirtioMemGuestRequests",
		.kind = QMP_STRUCT,
		.members = "limit:size rate:size granted-size:size requests:int "
			   "*last:VirtioMemSizeRequest",
	},
	{.name = "ViolationAction", .kind = QMP_ENUM, .members = "deny pause shutdown"},
	{.name = NULL},
};

static const struct qmp_event vmem_events[] = {
	{
		.name = "MEMORY_DEVICE_SIZE_CHANGE",
		.data = "*id:str size:size qom-path:str",
		.rate_ms = VMEM_EVENT_MS,
		.key = "qom-path",
	},
	{
		.name = "MEMORY_DEVICE_SIZE_REQUEST",
		.data = "*id:str qom-path:str requests:int " VMEM_SIZE_REQUEST,
		.rate_ms = VMEM_EVENT_MS,
		.key = "qom-path",
	},
	/* Comes seldom enough by itself: vm.h, I5. */
	{
		.name = "MEMORY_DEVICE_VIOLATION",
		.data = "*id:str qom-path:str address:size size:size write:bool *cpu-index:int "
			"writes:int reads:int action:ViolationAction",
	},
	{.name = NULL},
};

const struct qmp_module control_virtio_mem_module = {vmem_commands, vmem_types, vmem_events};
