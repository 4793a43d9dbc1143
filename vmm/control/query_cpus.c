/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtual CPUs: where each stands in the topology, and which thread it is.
 *
 * CPU numbers count threads first, then cores, dies and sockets, as the guest's APIC ids do.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/control/qom.h"

#define CPU_PATH_BYTES 64

static struct vm *cpus_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

/* Where CPU @index is in the object tree. */
static const char *cpus_path(unsigned int index, char path[CPU_PATH_BYTES])
{
	snprintf(path, CPU_PATH_BYTES, CONTROL_CPU_PATH, index);
	return path;
}

/* The node is a property only where nodes were asked for. */
static json_t *cpus_props(const struct vm_config *config, unsigned int index)
{
	const struct vm_smp_config *smp = &config->smp;
	unsigned int core = index / smp->threads, die = core / smp->cores, socket = die / smp->dies;
	json_t *props = json_pack("{s:i, s:i, s:i}", "socket-id", socket, "core-id",
				  core % smp->cores, "thread-id", index % smp->threads);

	if (smp->dies > 1)
		control_set(&props, "die-id", json_integer(die % smp->dies));
	for (unsigned int node = 0; config->numa.given && node < config->numa.nr_nodes; node++)
		if (config->numa.nodes[node].cpus >> index & 1)
			control_set(&props, "node-id", json_integer(node));
	return props;
}

static json_t *cpus_fast(const struct vm *vm, unsigned int index)
{
	char path[CPU_PATH_BYTES];

	return json_pack("{s:i, s:s, s:i, s:o, s:s}", "cpu-index", index, "qom-path",
			 cpus_path(index, path), "thread-id", (int)vm_vcpu_thread_id(vm, index),
			 "props", cpus_props(vm_config(vm), index), "target", "x86_64");
}

static json_t *cpus_slot(const struct vm *vm, unsigned int index)
{
	char path[CPU_PATH_BYTES], class[QOM_CPU_CLASS_BYTES];

	return json_pack("{s:s, s:i, s:o, s:s}", "type",
			 qom_cpu_class(vm_config(vm)->cpu.name, class), "vcpus-count", 1, "props",
			 cpus_props(vm_config(vm), index), "qom-path", cpus_path(index, path));
}

/* What @make tells of each CPU that is there; none can be added or removed. */
static int cpus_each(struct command_call *call,
		     json_t *(*make)(const struct vm *vm, unsigned int index), json_t **ret_value,
		     struct err **err)
{
	const struct vm *vm = cpus_vm(call);
	struct control_list list;

	control_list_init(&list);
	for (unsigned int i = 0; i < vm_config(vm)->smp.cpus; i++)
		control_list_add(&list, make(vm, i));
	return control_answer(control_list_end(&list), ret_value, err);
}

static int cpus_query_fast(struct command_call *call, const json_t *args, json_t **ret_value,
			   struct err **err)
{
	(void)args;
	return cpus_each(call, cpus_fast, ret_value, err);
}

static void cpus_print_fast(struct command_call *call, const json_t *value)
{
	const json_t *cpu;
	size_t i;

	json_array_foreach (value, i, cpu)
		command_printf(call, "%s CPU #%" PRIu64 ": thread_id=%" PRIu64 "\n", i ? " " : "*",
			       control_number(cpu, "cpu-index"), control_number(cpu, "thread-id"));
}

static int cpus_query_slots(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	(void)args;
	return cpus_each(call, cpus_slot, ret_value, err);
}

static void cpus_print_slots(struct command_call *call, const json_t *value)
{
	static const char *const ids[] = {"node-id", "socket-id", "die-id", "core-id", "thread-id"};
	const json_t *slot;
	size_t i;

	command_printf(call, "Hotpluggable CPUs:\n");
	json_array_foreach (value, i, slot) {
		const json_t *props = json_object_get(slot, "props");

		command_printf(call, "  type: \"%s\"\n", control_text(slot, "type"));
		command_printf(call, "  vcpus_count: \"%" PRIu64 "\"\n",
			       control_number(slot, "vcpus-count"));
		command_printf(call, "  qom_path: \"%s\"\n", control_text(slot, "qom-path"));
		command_printf(call, "  CPUInstance Properties:\n");
		for (size_t k = 0; k < ARRAY_SIZE(ids); k++)
			if (json_object_get(props, ids[k]))
				command_printf(call, "    %s: \"%" PRIu64 "\"\n", ids[k],
					       control_number(props, ids[k]));
	}
}

static const struct command cpus_commands[] = {
	{
		.name = "query-cpus-fast",
		.human = "info cpus",
		.returns = "[CpuInfoFast]",
		.help = "show the vCPUs and their threads",
		.flags = COMMAND_BARE,
		.run = cpus_query_fast,
		.print = cpus_print_fast,
	},
	{
		.name = "query-hotpluggable-cpus",
		.human = "info hotpluggable-cpus",
		.returns = "[HotpluggableCPU]",
		.help = "show the places of vCPUs: all of them are taken",
		.flags = COMMAND_BARE,
		.run = cpus_query_slots,
		.print = cpus_print_slots,
	},
	{.name = NULL},
};

static const struct qmp_type cpus_types[] = {
	{
		.name = "SysEmuTarget",
		.kind = QMP_ENUM,
		.members =
			"aarch64 alpha arm avr cris hppa i386 loongarch64 m68k microblaze "
			"microblazeel mips mips64 mips64el mipsel nios2 or1k ppc ppc64 riscv32 "
			"riscv64 rx s390x sh4 sh4eb sparc sparc64 tricore x86_64 xtensa xtensaeb",
	},
	{.name = "TargetInfo", .kind = QMP_STRUCT, .members = "arch:SysEmuTarget"},
	{
		.name = "CpuInstanceProperties",
		.kind = QMP_STRUCT,
		.members = "*node-id:int *socket-id:int *die-id:int *cluster-id:int *core-id:int "
			   "*thread-id:int",
	},
	{
		.name = "CpuInfoFast",
		.kind = QMP_UNION,
		.members = "cpu-index:int qom-path:str thread-id:int *props:CpuInstanceProperties "
			   "target:SysEmuTarget",
		.tag = "target",
		.variants = "",
	},
	{
		.name = "HotpluggableCPU",
		.kind = QMP_STRUCT,
		.members = "type:str vcpus-count:int props:CpuInstanceProperties *qom-path:str",
	},
	{.name = NULL},
};

const struct qmp_module control_cpus_module = {cpus_commands, cpus_types, NULL};
