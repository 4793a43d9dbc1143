/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What there is besides CPUs, memory and PCI: the machine's names and types, the accelerator, threads
 * and character devices; and what there is none of, for programs that ask anyway.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/chardev/chardev.h"
#include "vmm/cmdline/params.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"

static struct vm *misc_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

/* ---- who and what ---- */

static int misc_name(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	const char *name = vm_config(misc_vm(call))->name;

	(void)args;
	return control_answer(json_pack("{s:s*}", "name", name), ret_value, err);
}

static void misc_print_name(struct command_call *call, const json_t *value)
{
	if (json_object_get(value, "name"))
		command_printf(call, "%s\n", control_text(value, "name"));
}

#define UUID_TEXT_BYTES 37

static int misc_uuid(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	const uint8_t *u = vm_config(misc_vm(call))->uuid;
	char text[UUID_TEXT_BYTES];

	(void)args;
	snprintf(text, sizeof(text),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
		 u[15]);
	return control_answer(json_pack("{s:s}", "UUID", text), ret_value, err);
}

static void misc_print_uuid(struct command_call *call, const json_t *value)
{
	command_printf(call, "%s\n", control_text(value, "UUID"));
}

static int misc_kvm(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	(void)args;
	return control_answer(
		json_pack("{s:b, s:b}", "enabled", vm_has_kvm(misc_vm(call)), "present", 1),
		ret_value, err);
}

static void misc_print_kvm(struct command_call *call, const json_t *value)
{
	command_printf(call, "kvm support: %s\n",
		       control_flag(value, "enabled") ? "enabled" : "disabled");
}

static int misc_target(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	(void)call;
	(void)args;
	return control_answer(json_pack("{s:s}", "arch", "x86_64"), ret_value, err);
}

static int misc_version_human(struct command_call *call, const json_t *args, json_t **ret_value,
			      struct err **err)
{
	(void)args;
	(void)ret_value;
	(void)err;
	command_printf(call, "%s\n", EBB_VERSION);
	return 0;
}

/* ---- machine types ---- */

/*
 * CPUs neither come nor go, and no CPU model is the default that a program might have to name:
 * hotpluggable-cpus is false and default-cpu-type left out. Nodes may have memory by -numa mem=, but
 * programs that give them backends can say more of it, and do so where they are told that they must.
 */
static json_t *misc_machine(const struct cmdline_machine_type *type)
{
	json_t *machine =
		json_pack("{s:s, s:i, s:b, s:b, s:b}", "name", type->name, "cpu-max", VM_CPUS_MAX,
			  "hotpluggable-cpus", 0, "numa-mem-supported", 0, "deprecated", 0);

	if (type->type == VM_MACHINE_NONE)
		control_set(&machine, "cpu-max", json_integer(1));
	else
		control_set(&machine, "default-ram-id", json_string("pc.ram"));
	if (type->alias)
		control_set(&machine, "alias", json_string(type->alias));
	if (type->is_default)
		control_set(&machine, "is-default", json_true());
	return machine;
}

static int misc_machines(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err)
{
	struct control_list list;

	(void)call;
	(void)args;
	control_list_init(&list);
	for (const struct cmdline_machine_type *type = cmdline_machine_types; type->name; type++)
		control_list_add(&list, misc_machine(type));
	return control_answer(control_list_end(&list), ret_value, err);
}

static int misc_current_machine(struct command_call *call, const json_t *args, json_t **ret_value,
				struct err **err)
{
	(void)call;
	(void)args;
	return control_answer(json_pack("{s:b}", "wakeup-suspend-support", 0), ret_value, err);
}

/* ---- threads and character devices ---- */

/* All of them stand for the one thread that works on virtqueues, which never polls. */
static json_t *misc_iothread(const struct vm *vm, const struct vm_iothread_config *config)
{
	return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "id", config->id, "thread-id",
			 (int)vm_io_thread_id(vm), "poll-max-ns", 0, "poll-grow", 0, "poll-shrink",
			 0, "aio-max-batch", 0);
}

static int misc_iothreads(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	const struct vm *vm = misc_vm(call);
	struct control_list list;

	(void)args;
	control_list_init(&list);
	for (size_t i = 0; i < vm_config(vm)->nr_iothreads; i++)
		control_list_add(&list, misc_iothread(vm, vm_config(vm)->iothreads[i]));
	return control_answer(control_list_end(&list), ret_value, err);
}

static void misc_print_iothreads(struct command_call *call, const json_t *value)
{
	static const char *const names[] = {"poll-max-ns", "poll-grow", "poll-shrink",
					    "aio-max-batch"};
	const json_t *thread;
	size_t i;

	json_array_foreach (value, i, thread) {
		command_printf(call, "%s:\n", control_text(thread, "id"));
		command_printf(call, "  thread_id=%" PRIu64 "\n",
			       control_number(thread, "thread-id"));
		for (size_t k = 0; k < ARRAY_SIZE(names); k++)
			command_printf(call, "  %s=%" PRIu64 "\n", names[k],
				       control_number(thread, names[k]));
	}
}

static json_t *misc_chardev(const struct chardev *chr)
{
	char *filename = chardev_filename(chr);
	json_t *value = filename
				? json_pack("{s:s, s:s, s:b}", "label", chardev_id(chr), "filename",
					    filename, "frontend-open", chardev_in_use(chr))
				: NULL;

	free(filename);
	return value;
}

static int misc_chardevs(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err)
{
	const struct vm *vm = misc_vm(call);
	struct control_list list;

	(void)args;
	control_list_init(&list);
	for (size_t i = 0; i < vm_config(vm)->nr_chardevs; i++)
		control_list_add(&list, misc_chardev(vm_chardev(vm, vm_config(vm)->chardevs[i])));
	return control_answer(control_list_end(&list), ret_value, err);
}

static void misc_print_chardevs(struct command_call *call, const json_t *value)
{
	const json_t *chr;
	size_t i;

	json_array_foreach (value, i, chr)
		command_printf(call, "%s: filename=%s\n", control_text(chr, "label"),
			       control_text(chr, "filename"));
}

/* ---- what there is none of ---- */

static int misc_none(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	(void)call;
	(void)args;
	return control_answer(json_array(), ret_value, err);
}

/* People see an empty list. */
static int misc_none_human(struct command_call *call, const json_t *args, json_t **ret_value,
			   struct err **err)
{
	(void)call;
	(void)args;
	(void)ret_value;
	(void)err;
	return 0;
}

/* ---- the module ---- */

static const struct command misc_commands[] = {
	{
		.name = "query-name",
		.human = "info name",
		.returns = "NameInfo",
		.help = "show the machine's name",
		.flags = COMMAND_BARE,
		.run = misc_name,
		.print = misc_print_name,
	},
	{
		.name = "query-uuid",
		.human = "info uuid",
		.returns = "UuidInfo",
		.help = "show the machine's UUID",
		.flags = COMMAND_BARE,
		.run = misc_uuid,
		.print = misc_print_uuid,
	},
	{
		.name = "query-kvm",
		.human = "info kvm",
		.returns = "KvmInfo",
		.help = "show whether KVM is used",
		.flags = COMMAND_BARE,
		.run = misc_kvm,
		.print = misc_print_kvm,
	},
	{
		.name = "query-target",
		.returns = "TargetInfo",
		.help = "show the architecture of the guest",
		.flags = COMMAND_BARE,
		.run = misc_target,
	},
	{
		.human = "info version",
		.help = "show the version of ebb",
		.human_run = misc_version_human,
	},
	{
		.name = "query-machines",
		.returns = "[MachineInfo]",
		.help = "show the machine types",
		.flags = COMMAND_BARE,
		.run = misc_machines,
	},
	{
		.name = "query-current-machine",
		.returns = "CurrentMachineParams",
		.help = "show what the machine can do",
		.run = misc_current_machine,
	},
	{
		.name = "query-iothreads",
		.human = "info iothreads",
		.returns = "[IOThreadInfo]",
		.help = "show the I/O threads",
		.flags = COMMAND_BARE,
		.run = misc_iothreads,
		.print = misc_print_iothreads,
	},
	{
		.name = "query-chardev",
		.human = "info chardev",
		.returns = "[ChardevInfo]",
		.help = "show the character devices",
		.flags = COMMAND_BARE,
		.run = misc_chardevs,
		.print = misc_print_chardevs,
	},
	{
		.name = "query-block",
		.human = "info block",
		.returns = "[BlockInfo]",
		.help = "show the disks: there are none",
		.flags = COMMAND_BARE,
		.run = misc_none,
		.human_run = misc_none_human,
	},
	{
		.name = "query-blockstats",
		.human = "info blockstats",
		.args = "*query-nodes:bool",
		.returns = "[BlockStats]",
		.help = "show what disks did: there are none",
		.flags = COMMAND_BARE,
		.run = misc_none,
		.human_run = misc_none_human,
	},
	{
		.name = "query-named-block-nodes",
		.args = "*flat:bool",
		.returns = "[BlockDeviceInfo]",
		.help = "show the nodes of disk images: there are none",
		.flags = COMMAND_BARE,
		.run = misc_none,
	},
	{.name = NULL},
};

static const struct qmp_type misc_types[] = {
	{.name = "NameInfo", .kind = QMP_STRUCT, .members = "*name:str"},
	{.name = "UuidInfo", .kind = QMP_STRUCT, .members = "UUID:str"},
	{.name = "KvmInfo", .kind = QMP_STRUCT, .members = "enabled:bool present:bool"},
	{
		.name = "MachineInfo",
		.kind = QMP_STRUCT,
		.members =
			"name:str *alias:str *is-default:bool cpu-max:int hotpluggable-cpus:bool "
			"numa-mem-supported:bool deprecated:bool *default-cpu-type:str "
			"*default-ram-id:str",
	},
	{
		.name = "CurrentMachineParams",
		.kind = QMP_STRUCT,
		.members = "wakeup-suspend-support:bool",
	},
	{
		.name = "IOThreadInfo",
		.kind = QMP_STRUCT,
		.members = "id:str thread-id:int poll-max-ns:int poll-grow:int poll-shrink:int "
			   "aio-max-batch:int",
	},
	{
		.name = "ChardevInfo",
		.kind = QMP_STRUCT,
		.members = "label:str filename:str frontend-open:bool",
	},
	/* What is said of every disk, should there be one. */
	{
		.name = "BlockInfo",
		.kind = QMP_STRUCT,
		.members = "device:str *qdev:str type:str removable:bool locked:bool",
	},
	{.name = "BlockStats",
	 .kind = QMP_STRUCT,
	 .members = "*device:str *qdev:str *node-name:str"},
	{
		.name = "BlockDeviceInfo",
		.kind = QMP_STRUCT,
		.members = "file:str *node-name:str ro:bool drv:str *backing_file:str",
	},
	{.name = NULL},
};

const struct qmp_module control_misc_module = {misc_commands, misc_types, NULL};
