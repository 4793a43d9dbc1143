/* SPDX-License-Identifier: BSD-3-Clause */
/* The human monitor's "info" commands; layouts as clients of this kind of monitor parse them. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "qmp/monitor/hmp.h"
#include "vmm/chardev/chardev.h"
#include "vmm/control/commands.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/memdev.h"
#include "vmm/vm/vm.h"

static int info_memory_devices(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct vm *vm = hmp_call_ctx(call);

	(void)args;
	(void)err;
	for (size_t i = 0; i < vm_nr_memory_devices(vm); i++) {
		const struct vm_memory_device *d = vm_memory_device(vm, i);
		struct vmem_device_info info;

		virtio_mem_info(d->mem, &info);
		hmp_printf(call, "Memory device [virtio-mem]: \"%s\"\n", d->id ? d->id : "");
		hmp_printf(call, "  memaddr: 0x%" PRIx64 "\n", info.addr);
		hmp_printf(call, "  node: %u\n", d->node);
		hmp_printf(call, "  requested-size: %" PRIu64 "\n", info.requested_size);
		hmp_printf(call, "  size: %" PRIu64 "\n", info.plugged_size);
		hmp_printf(call, "  max-size: %" PRIu64 "\n", info.region_size);
		hmp_printf(call, "  block-size: %" PRIu64 "\n", info.block_size);
		hmp_printf(call, "  memdev: /objects/%s\n", d->memdev_id);
	}
	return 0;
}

static const char *info_bool(bool value)
{
	return value ? "true" : "false";
}

static int info_memdev(struct hmp_call *call, const json_t *args, struct err **err)
{
	const struct vm_config *config = vm_config(hmp_call_ctx(call));
	char nodes[MEMDEV_NODES_TEXT_MAX];

	(void)args;
	(void)err;
	for (size_t i = 0; i < config->nr_memdevs; i++) {
		const struct vm_memdev_config *m = config->memdevs[i];

		hmp_printf(call, "memory backend: %s\n", m->id);
		hmp_printf(call, "  size:  %" PRIu64 "\n", m->size_bytes);
		hmp_printf(call, "  merge: %s\n", info_bool(m->merge));
		hmp_printf(call, "  dump: %s\n", info_bool(m->dump));
		hmp_printf(call, "  prealloc: %s\n", info_bool(m->prealloc));
		hmp_printf(call, "  share: %s\n", info_bool(m->share));
		hmp_printf(call, "  reserve: %s\n", info_bool(m->reserve));
		hmp_printf(call, "  policy: %s\n", vm_mem_policy_name(m->policy));
		hmp_printf(call, "  host nodes: %s\n", memdev_nodes_text(m->host_nodes, nodes));
	}
	hmp_printf(call, "\n");
	return 0;
}

static uint64_t info_plugged_bytes(const struct vm *vm, unsigned int node)
{
	return vm_node_bytes(vm, node) - vm_config(vm)->numa.nodes[node].mem_bytes;
}

static int info_numa(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct vm *vm = hmp_call_ctx(call);
	const struct vm_numa_config *numa = &vm_config(vm)->numa;

	(void)args;
	(void)err;
	hmp_printf(call, "%u nodes\n", numa->nr_nodes);
	for (unsigned int node = 0; node < numa->nr_nodes; node++) {
		hmp_printf(call, "node %u cpus:", node);
		for (unsigned int cpu = 0; cpu < vm_config(vm)->smp.cpus; cpu++)
			if (numa->nodes[node].cpus >> cpu & 1)
				hmp_printf(call, " %u", cpu);
		hmp_printf(call, "\n");
		hmp_printf(call, "node %u size: %" PRIu64 " MB\n", node,
			   vm_node_bytes(vm, node) >> 20);
		hmp_printf(call, "node %u plugged: %" PRIu64 " MB\n", node,
			   info_plugged_bytes(vm, node) >> 20);
	}
	return 0;
}

/* How unplugged memory is kept from the guest, and how often it tried. */
static void info_virtio_mem_guard(struct hmp_call *call, const struct vm_memory_device *d)
{
	struct virtio_mem_violations violations;
	const struct virtio_mem_violation *last = &violations.last;
	struct vmem_guard_info guard;

	virtio_mem_guard_info(d->mem, &guard);
	virtio_mem_violations(d->mem, &violations);
	if (d->guard)
		hmp_printf(call, "Guard: on (%s)\n", guard.mechanism);
	else
		hmp_printf(call, "Guard: off\n");
	hmp_printf(call, "Memory slots: %" PRIu32 "\n", guard.memslots);
	hmp_printf(call, "Violations: %" PRIu64 " writes, %" PRIu64 " reads\n", violations.writes,
		   violations.reads);
	if (!violations.writes && !violations.reads)
		return;
	hmp_printf(call, "Last violation: %s of %u byte%s at 0x%" PRIx64,
		   last->write ? "write" : "read", last->size, last->size == 1 ? "" : "s",
		   last->gpa);
	if (last->vcpu >= 0)
		hmp_printf(call, ", vCPU %d", last->vcpu);
	hmp_printf(call, "\n");
}

static void info_virtio_mem_one(struct hmp_call *call, const struct vm_memory_device *d)
{
	enum virtio_mem_progress progress = virtio_mem_progress(d->mem);
	struct vmem_device_info info;

	virtio_mem_info(d->mem, &info);
	hmp_printf(call, "Status: %s\n", progress == VIRTIO_MEM_NO_DRIVER ? "no-driver" : "ready");
	hmp_printf(call, "Request status: %s\n", virtio_mem_progress_name(progress));
	hmp_printf(call, "Page size: %" PRIu64 " bytes\n", info.block_size);
	hmp_printf(call, "Requested size: %" PRIu64 " bytes\n", info.requested_size);
	hmp_printf(call, "Plugged size: %" PRIu64 " bytes\n", info.plugged_size);
	hmp_printf(call, "Usable region size: %" PRIu64 " bytes\n", info.usable_region_size);
	hmp_printf(call, "Region size: %" PRIu64 " bytes\n", info.region_size);
	info_virtio_mem_guard(call, d);
}

static int info_virtio_mem(struct hmp_call *call, const json_t *args, struct err **err)
{
	const char *id = json_string_value(json_object_get(args, "id"));
	struct vm *vm = hmp_call_ctx(call);
	const struct vm_memory_device *d;

	if (id) {
		d = vm_memory_device_by_id(vm, id);
		if (!d)
			return err_set(err, ENODEV, "Device '%s' not found", id);
		info_virtio_mem_one(call, d);
		return 0;
	}
	for (size_t i = 0; i < vm_nr_memory_devices(vm); i++) {
		d = vm_memory_device(vm, i);
		hmp_printf(call, "Memory device \"%s\":\n", d->id ? d->id : "");
		info_virtio_mem_one(call, d);
	}
	return 0;
}

static int info_status(struct hmp_call *call, const json_t *args, struct err **err)
{
	enum vm_state state = vm_state(hmp_call_ctx(call));

	(void)args;
	(void)err;
	if (state == VM_RUNNING || state == VM_PAUSED)
		hmp_printf(call, "VM status: %s\n", vm_state_name(state));
	else
		hmp_printf(call, "VM status: paused (%s)\n", vm_state_name(state));
	return 0;
}

static int info_version(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	(void)err;
	hmp_printf(call, "%s\n", EBB_VERSION);
	return 0;
}

static int info_name(struct hmp_call *call, const json_t *args, struct err **err)
{
	const char *name = vm_config(hmp_call_ctx(call))->name;

	(void)args;
	(void)err;
	if (name)
		hmp_printf(call, "%s\n", name);
	return 0;
}

static int info_uuid(struct hmp_call *call, const json_t *args, struct err **err)
{
	const uint8_t *u = vm_config(hmp_call_ctx(call))->uuid;

	(void)args;
	(void)err;
	for (int i = 0; i < 16; i++)
		hmp_printf(call, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
	hmp_printf(call, "\n");
	return 0;
}

static int info_kvm(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	(void)err;
	hmp_printf(call, "kvm support: enabled\n");
	return 0;
}

static int info_cpus(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct vm *vm = hmp_call_ctx(call);

	(void)args;
	(void)err;
	for (unsigned int i = 0; i < vm_config(vm)->smp.cpus; i++)
		hmp_printf(call, "%s CPU #%u: thread_id=%d\n", i ? " " : "*", i,
			   (int)vm_vcpu_thread_id(vm, i));
	return 0;
}

static int info_chardev(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct vm *vm = hmp_call_ctx(call);

	(void)args;
	(void)err;
	for (size_t i = 0; i < vm_config(vm)->nr_chardevs; i++) {
		struct chardev *chr = vm_chardev(vm, vm_config(vm)->chardevs[i]);
		char *filename = chardev_filename(chr);

		hmp_printf(call, "%s: filename=%s\n", chardev_id(chr), filename ? filename : "");
		free(filename);
	}
	return 0;
}

static int info_memory_size_summary(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct vm *vm = hmp_call_ctx(call);
	uint64_t plugged = 0;

	(void)args;
	(void)err;
	for (unsigned int node = 0; node < vm_config(vm)->numa.nr_nodes; node++)
		plugged += info_plugged_bytes(vm, node);
	hmp_printf(call, "base memory: %" PRIu64 "\n", vm_config(vm)->memory.ram_bytes);
	hmp_printf(call, "plugged memory: %" PRIu64 "\n", plugged);
	return 0;
}

const struct hmp_command control_info_commands[] = {
	{.name = "chardev", .help = "show the character devices", .run = info_chardev},
	{.name = "cpus", .help = "show the vCPUs and their threads", .run = info_cpus},
	{.name = "kvm", .help = "show whether KVM is used", .run = info_kvm},
	{.name = "memdev", .help = "show the memory backends", .run = info_memdev},
	{
		.name = "memory-devices",
		.help = "show the memory devices",
		.run = info_memory_devices,
	},
	{
		.name = "memory_size_summary",
		.help = "show the sizes of boot memory and plugged memory",
		.run = info_memory_size_summary,
	},
	{.name = "name", .help = "show the machine's name", .run = info_name},
	{.name = "numa", .help = "show the NUMA nodes, their CPUs and memory", .run = info_numa},
	{.name = "status", .help = "show whether the machine runs", .run = info_status},
	{.name = "uuid", .help = "show the machine's UUID", .run = info_uuid},
	{.name = "version", .help = "show the version of ebb", .run = info_version},
	{
		.name = "virtio-mem",
		.args = "id:s?",
		.params = "[id]",
		.help = "show how far the last resize of a memory device got",
		.run = info_virtio_mem,
		.complete = control_complete_memory_device,
	},
	{.name = NULL},
};
