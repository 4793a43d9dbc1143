/* SPDX-License-Identifier: BSD-3-Clause */
/* -machine, -accel and -enable-kvm. See internal.h. */
#include "vmm/cmdline/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"

#define PC(version, current)                                                                     \
	{                                                                                        \
		"pc-i440fx-" version, (current) ? "pc" : NULL, VM_MACHINE_PC, "pci.0", (current) \
	}
#define Q35(version, current)                                                                \
	{                                                                                    \
		"pc-q35-" version, (current) ? "q35" : NULL, VM_MACHINE_Q35, "pcie.0", false \
	}

const struct cmdline_machine_type cmdline_machine_types[] = {
	CMDLINE_MACHINE_VERSIONS(PC),
	CMDLINE_MACHINE_VERSIONS(Q35),
	{"none", NULL, VM_MACHINE_NONE, NULL, false},
	{NULL, NULL, 0, NULL, false},
};

static const char *const irqchip_names[] = {"on", NULL};
/* In the order of enum vm_smbios_entry. */
static const char *const smbios_entries[] = {"auto", "32", "64", NULL};

#define FIELD(field) PROP_FIELD(struct cmdline_machine, field)

static const struct prop machine_list[] = {
	{.name = "type", .type = PROP_STRING, FIELD(name), .defval = "pc", .help = "the machine"},
	{.name = "accel", .type = PROP_STRING, FIELD(accel), .help = "kvm, or a list that has it"},
	{.name = "memory-backend",
	 .type = PROP_ID,
	 FIELD(memory_backend),
	 .help = "object that boot memory comes from"},
	{.name = "dump-guest-core",
	 .type = PROP_BOOL,
	 FIELD(dump_guest_core),
	 .defval = "on",
	 .help = "guest memory is part of core dumps"},
	{.name = "mem-merge",
	 .type = PROP_BOOL,
	 FIELD(mem_merge),
	 .defval = "on",
	 .help = "the host may merge equal pages of guest memory"},
	{.name = "kernel-irqchip",
	 .type = PROP_ENUM,
	 .names = irqchip_names,
	 .defval = "on",
	 .help = "interrupt controllers in the kernel"},
	{.name = "kernel_irqchip",
	 .type = PROP_BOOL,
	 .flags = PROP_SILENT,
	 .refused = "off",
	 .why = "the interrupt controllers are in the kernel",
	 .help = "the same"},
	{.name = "usb",
	 .type = PROP_BOOL,
	 FIELD(usb),
	 .defval = "off",
	 .help = "the chipset's USB controller, as -usb; of pc only"},
	{.name = "acpi",
	 .type = PROP_BOOL,
	 .refused = "off",
	 .why = "guests learn of NUMA nodes and memory devices from ACPI",
	 .help = "ACPI tables"},
	{.name = "hpet",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "there is no HPET",
	 .help = "HPET"},
	{.name = "i8042",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "there is no PS/2 controller",
	 .help = "PS/2 keyboard and mouse"},
	{.name = "vmport",
	 .type = PROP_ON_OFF_AUTO,
	 .refused = "on",
	 .why = "there is no VMware port",
	 .help = "VMware port"},
	{.name = "smm",
	 .type = PROP_ON_OFF_AUTO,
	 .refused = "on",
	 .why = "there is no firmware that needs it",
	 .help = "system management mode"},
	{.name = "smbios-entry-point-type",
	 .type = PROP_ENUM,
	 FIELD(smbios_entry),
	 .names = smbios_entries,
	 .defval = "auto",
	 .help = "which way to the SMBIOS tables there is; auto: both"},
	{.name = "graphics", .type = PROP_BOOL, .help = "accepted; there is no display either way"},
	{.name = "nvdimm",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "there are no NVDIMMs",
	 .help = "NVDIMM"},
	{.name = "hmat",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "there is no HMAT table",
	 .help = "HMAT"},
};

const struct props cmdline_machine_props = {NULL, machine_list, ARRAY_SIZE(machine_list)};

static const struct prop accel_list[] = {
	{.name = "accel", .type = PROP_STRING, FIELD(accel), .help = "kvm"},
	{.name = "kernel-irqchip",
	 .type = PROP_ENUM,
	 .names = irqchip_names,
	 .help = "interrupt controllers in the kernel"},
	{.name = "dirty-ring-size",
	 .type = PROP_UINT,
	 FIELD(dirty_ring_entries),
	 .max = VM_DIRTY_RING_ENTRIES_MAX,
	 .defval = "0",
	 .help = "entries of each vCPU's ring of written pages, a power of two; 0: bitmaps"},
};

const struct props cmdline_accel_props = {NULL, accel_list, ARRAY_SIZE(accel_list)};

int cmdline_machine_init(struct cmdline *cl)
{
	int ret = props_init(&cmdline_machine_props, &cl->machine);

	return ret ? ret : props_init(&cmdline_accel_props, &cl->machine);
}

void cmdline_machine_done(struct cmdline *cl)
{
	props_done(&cmdline_machine_props, &cl->machine);
}

static void machine_help_line(FILE *out, const struct cmdline_machine_type *type)
{
	if (type->alias)
		fprintf(out, "  %-15s another name of %s%s\n", type->alias, type->name,
			type->is_default ? " (default)" : "");
	if (type->type == VM_MACHINE_NONE)
		fprintf(out, "  %-15s nothing: monitors that tell what ebb can do\n", type->name);
	else
		fprintf(out, "  %-15s PCI root bus %s\n", type->name, type->root_bus);
}

static int machine_help(struct vm_config *config, struct err **err)
{
	char *props = props_help(&cmdline_machine_props);
	char *names = NULL;
	size_t size;
	FILE *out = open_memstream(&names, &size);

	if (out) {
		fprintf(out, "Machines:\n");
		for (const struct cmdline_machine_type *t = cmdline_machine_types; t->name; t++)
			machine_help_line(out, t);
		fprintf(out, "Properties:\n%s", props ? props : "");
		if (fclose(out) || !props) {
			free(names);
			names = NULL;
		}
	}
	free(props);
	config->output = names;
	return names ? 0 : cmdline_oom(err);
}

int cmdline_machine(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	json_t *values;
	int ret;

	ret = opts_parse(option, arg, "type", 0, &values, err);
	if (ret < 0)
		return ret;
	if (opts_wants_help(values, "type"))
		ret = machine_help(cl->config, err);
	else
		ret = props_apply(&cmdline_machine_props, option, values, &cl->machine, err);
	json_decref(values);
	return ret;
}

/* Is "kvm" an item of "kvm:tcg"? */
static bool accel_has_kvm(const char *list)
{
	while (*list) {
		size_t len = strcspn(list, ":");

		if (len == 3 && !strncmp(list, "kvm", 3))
			return true;
		list += len + (list[len] == ':');
	}
	return false;
}

static int accel_check(const char *what, const char *accel, struct err **err)
{
	if (accel_has_kvm(accel))
		return 0;
	return err_set(err, EINVAL, "%s: accel=%s is not there; allowed: kvm", what, accel);
}

static int accel_help(struct vm_config *config, struct err **err)
{
	char *props = props_help(&cmdline_accel_props);
	char *text = NULL;

	if (props && asprintf(&text, "Accelerators:\n  kvm\nProperties:\n%s", props) < 0)
		text = NULL;
	free(props);
	config->output = text;
	return text ? 0 : cmdline_oom(err);
}

int cmdline_accel(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	uint32_t entries;
	int ret;

	if (!strcmp(arg, "help") || !strcmp(arg, "?"))
		return accel_help(cl->config, err);
	ret = cmdline_apply(&cmdline_accel_props, option, arg, "accel", &cl->machine, err);
	if (ret < 0)
		return ret;
	entries = cl->machine.dirty_ring_entries;
	if (entries && !num_is_pow2(entries))
		return err_set(
			err, EINVAL,
			"%s: dirty-ring-size=%u is not possible; allowed: a power of two up to "
			"%u, or 0",
			option, entries, VM_DIRTY_RING_ENTRIES_MAX);
	return cl->machine.accel ? accel_check(option, cl->machine.accel, err) : 0;
}

int cmdline_usb(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	(void)err;
	cl->machine.usb = true;
	return 0;
}

int cmdline_enable_kvm(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	(void)option;
	(void)arg;
	return cmdline_set_string(&cl->machine.accel, "kvm", err);
}

bool cmdline_option_is_bare(const char *name)
{
	static const char *const bare[] = {
		"machine",   "M",           "accel",           "enable-kvm", "nodefaults",
		"nographic", "chardev",     "monitor",         "qmp",        "qmp-pretty",
		"mon",       "display",     "add-fd",          "name",       "uuid",
		"S",         "pidfile",     "daemonize",       "msg",        "no-reboot",
		"help",      "no-shutdown", "no-user-config",  "h",          "version",
		"sandbox",   "audiodev",    "only-migratable", "vga",        "net",
		"nic",       "parallel",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bare); i++) {
		if (!strcmp(bare[i], name))
			return true;
	}
	return false;
}

static const struct cmdline_machine_type *machine_find(const char *name)
{
	const struct cmdline_machine_type *type = cmdline_machine_types;

	while (type->name && strcmp(type->name, name) &&
	       (!type->alias || strcmp(type->alias, name)))
		type++;
	return type->name ? type : NULL;
}

int cmdline_machine_finish(struct cmdline *cl, struct err **err)
{
	struct vm_machine_config *machine = &cl->config->machine;
	const struct cmdline_machine_type *type = machine_find(cl->machine.name);

	if (!type)
		return err_set(err, EINVAL,
			       "-machine: type=%s is unknown; allowed: pc, q35, both with a "
			       "version, none; `-machine help` lists all",
			       cl->machine.name);
	if (type->type == VM_MACHINE_NONE && cl->needs_machine)
		return err_set(err, EINVAL,
			       "-%s: -machine none has no CPUs, memory or devices, and starts "
			       "nothing: its monitors tell what ebb can do",
			       cl->needs_machine);
	if (type->type != VM_MACHINE_PC && cl->machine.usb)
		return err_set(err, ENOTSUP,
			       "-machine: usb=on (and -usb) is not possible with %s: only the "
			       "machine pc has a USB controller in this version",
			       type->name);
	machine->type = type->type;
	machine->name = type->name;
	machine->root_bus = type->root_bus;
	machine->root_fixed = cl->machine.root_fixed;
	machine->usb = cl->machine.usb;
	machine->dump_guest_core = cl->machine.dump_guest_core;
	machine->mem_merge = cl->machine.mem_merge;
	cl->config->smbios.entry = cl->machine.smbios_entry;
	machine->dirty_ring_entries = cl->machine.dirty_ring_entries;
	machine->memory_backend = cl->machine.memory_backend;
	cl->machine.memory_backend = NULL;
	return cl->machine.accel ? accel_check("-machine", cl->machine.accel, err) : 0;
}
