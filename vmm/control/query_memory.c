/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory: sizes, NUMA nodes, backends, memory devices.
 *
 * I1  Nothing here waits for a guest's request: sizes are those of the moment.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/memdev.h"

static struct vm *memory_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

/* ---- sizes and nodes ---- */

static uint64_t memory_plugged_bytes(const struct vm *vm, unsigned int node)
{
	return vm_node_bytes(vm, node) - vm_config(vm)->numa.nodes[node].mem_bytes;
}

static int memory_summary(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	const struct vm *vm = memory_vm(call);
	uint64_t plugged = 0;

	(void)args;
	for (unsigned int node = 0; node < vm_config(vm)->numa.nr_nodes; node++)
		plugged += memory_plugged_bytes(vm, node);
	return control_answer(json_pack("{s:I, s:I}", "base-memory",
					(json_int_t)vm_config(vm)->memory.ram_bytes,
					"plugged-memory", (json_int_t)plugged),
			      ret_value, err);
}

static void memory_print_summary(struct command_call *call, const json_t *value)
{
	command_printf(call, "base memory: %" PRIu64 "\n", control_number(value, "base-memory"));
	command_printf(call, "plugged memory: %" PRIu64 "\n",
		       control_number(value, "plugged-memory"));
}

static int memory_numa_human(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	const struct vm *vm = memory_vm(call);
	const struct vm_numa_config *numa = &vm_config(vm)->numa;

	(void)args;
	(void)ret_value;
	(void)err;
	command_printf(call, "%u nodes\n", numa->nr_nodes);
	for (unsigned int node = 0; node < numa->nr_nodes; node++) {
		command_printf(call, "node %u cpus:", node);
		for (unsigned int cpu = 0; cpu < vm_config(vm)->smp.cpus; cpu++)
			if (numa->nodes[node].cpus >> cpu & 1)
				command_printf(call, " %u", cpu);
		command_printf(call, "\n");
		command_printf(call, "node %u size: %" PRIu64 " MB\n", node,
			       vm_node_bytes(vm, node) >> 20);
		command_printf(call, "node %u plugged: %" PRIu64 " MB\n", node,
			       memory_plugged_bytes(vm, node) >> 20);
	}
	return 0;
}

/* ---- backends ---- */

static json_t *memory_host_nodes(const struct vm_memdev_config *m)
{
	struct control_list list;

	control_list_init(&list);
	for (unsigned int node = 0; node < VM_HOST_NODES_MAX; node++)
		if (m->host_nodes[node / 64] >> node % 64 & 1)
			control_list_add(&list, json_integer(node));
	return control_list_end(&list);
}

static json_t *memory_memdev(const struct vm_memdev_config *m)
{
	return json_pack("{s:s, s:I, s:b, s:b, s:b, s:b, s:b, s:o, s:s}", "id", m->id, "size",
			 (json_int_t)m->size_bytes, "merge", m->merge, "dump", m->dump, "prealloc",
			 m->prealloc, "share", m->share, "reserve", m->reserve, "host-nodes",
			 memory_host_nodes(m), "policy", vm_mem_policy_name(m->policy));
}

static int memory_memdevs(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	const struct vm_config *config = vm_config(memory_vm(call));
	struct control_list list;

	(void)args;
	control_list_init(&list);
	for (size_t i = 0; i < config->nr_memdevs; i++)
		control_list_add(&list, memory_memdev(config->memdevs[i]));
	return control_answer(control_list_end(&list), ret_value, err);
}

static void memory_print_memdev(struct command_call *call, const json_t *m)
{
	static const char *const flags[] = {"merge", "dump", "prealloc", "share", "reserve"};
	uint64_t nodes[VM_HOST_NODES_MAX / 64] = {0};
	char text[MEMDEV_NODES_TEXT_MAX];
	const json_t *node;
	size_t i;

	json_array_foreach (json_object_get(m, "host-nodes"), i, node)
		nodes[json_integer_value(node) / 64] |= UINT64_C(1)
							<< json_integer_value(node) % 64;
	command_printf(call, "memory backend: %s\n", control_text(m, "id"));
	command_printf(call, "  size:  %" PRIu64 "\n", control_number(m, "size"));
	for (i = 0; i < ARRAY_SIZE(flags); i++)
		command_printf(call, "  %s: %s\n", flags[i],
			       control_flag(m, flags[i]) ? "true" : "false");
	command_printf(call, "  policy: %s\n", control_text(m, "policy"));
	command_printf(call, "  host nodes: %s\n", memdev_nodes_text(nodes, text));
}

static void memory_print_memdevs(struct command_call *call, const json_t *value)
{
	const json_t *m;
	size_t i;

	json_array_foreach (value, i, m)
		memory_print_memdev(call, m);
	command_printf(call, "\n");
}

/* ---- memory devices ---- */

static json_t *memory_device(const struct vm_memory_device *d)
{
	struct vmem_device_info info;
	json_t *value;

	virtio_mem_info(d->mem, &info);
	value = json_pack("{s:I, s:I, s:I, s:I, s:I, s:i, s:o}", "memaddr", (json_int_t)info.addr,
			  "requested-size", (json_int_t)info.requested_size, "size",
			  (json_int_t)info.plugged_size, "max-size", (json_int_t)info.region_size,
			  "block-size", (json_int_t)info.block_size, "node", (int)d->node, "memdev",
			  json_sprintf("/objects/%s", d->memdev_id));
	if (d->id)
		control_set(&value, "id", json_string(d->id));
	return json_pack("{s:s, s:o}", "type", "virtio-mem", "data", value);
}

static int memory_devices(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	const struct vm *vm = memory_vm(call);
	struct control_list list;

	(void)args;
	control_list_init(&list);
	for (size_t i = 0; i < vm_nr_memory_devices(vm); i++)
		control_list_add(&list, memory_device(vm_memory_device(vm, i)));
	return control_answer(control_list_end(&list), ret_value, err);
}

static void memory_print_devices(struct command_call *call, const json_t *value)
{
	static const char *const sizes[] = {"requested-size", "size", "max-size", "block-size"};
	const json_t *device;
	size_t i;

	json_array_foreach (value, i, device) {
		const json_t *d = json_object_get(device, "data");

		command_printf(call, "Memory device [virtio-mem]: \"%s\"\n", control_text(d, "id"));
		command_printf(call, "  memaddr: 0x%" PRIx64 "\n", control_number(d, "memaddr"));
		command_printf(call, "  node: %" PRIu64 "\n", control_number(d, "node"));
		for (size_t k = 0; k < ARRAY_SIZE(sizes); k++)
			command_printf(call, "  %s: %" PRIu64 "\n", sizes[k],
				       control_number(d, sizes[k]));
		command_printf(call, "  memdev: %s\n", control_text(d, "memdev"));
	}
}

/* ---- the module ---- */

static const struct command memory_commands[] = {
	{
		.name = "query-memory-size-summary",
		.human = "info memory_size_summary",
		.returns = "MemoryInfo",
		.help = "show the sizes of boot memory and plugged memory",
		.run = memory_summary,
		.print = memory_print_summary,
	},
	{
		.human = "info numa",
		.help = "show the NUMA nodes, their CPUs and memory",
		.human_run = memory_numa_human,
	},
	{
		.name = "query-memdev",
		.human = "info memdev",
		.returns = "[Memdev]",
		.help = "show the memory backends",
		.run = memory_memdevs,
		.print = memory_print_memdevs,
	},
	{
		.name = "query-memory-devices",
		.human = "info memory-devices",
		.returns = "[MemoryDeviceInfo]",
		.help = "show the memory devices",
		.run = memory_devices,
		.print = memory_print_devices,
	},
	{.name = NULL},
};

static const struct qmp_type memory_types[] = {
	{
		.name = "MemoryInfo",
		.kind = QMP_STRUCT,
		.members = "base-memory:size *plugged-memory:size",
	},
	{.name = "HostMemPolicy", .kind = QMP_ENUM, .members = "default preferred bind interleave"},
	{
		.name = "Memdev",
		.kind = QMP_STRUCT,
		.members = "*id:str size:size merge:bool dump:bool prealloc:bool share:bool "
			   "*reserve:bool host-nodes:[uint16] policy:HostMemPolicy",
	},
	{.name = "MemoryDeviceInfoKind", .kind = QMP_ENUM, .members = "virtio-mem"},
	{
		.name = "VirtioMEMDeviceInfo",
		.kind = QMP_STRUCT,
		.members = "*id:str memaddr:size requested-size:size size:size max-size:size "
			   "block-size:size node:int memdev:str",
	},
	{
		.name = "VirtioMEMDeviceInfoWrapper",
		.kind = QMP_STRUCT,
		.members = "data:VirtioMEMDeviceInfo",
	},
	{
		.name = "MemoryDeviceInfo",
		.kind = QMP_UNION,
		.members = "type:MemoryDeviceInfoKind",
		.tag = "type",
		.variants = "virtio-mem:VirtioMEMDeviceInfoWrapper",
	},
	{.name = NULL},
};

const struct qmp_module control_memory_module = {memory_commands, memory_types, NULL};
