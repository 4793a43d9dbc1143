/* SPDX-License-Identifier: BSD-3-Clause */
/* What rows of the object tree's classes read: the machine, objects, character devices. See qom.h. */
#include <stdlib.h>
#include <string.h>

#include "vmm/chardev/chardev.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/control/qom.h"

json_t *qom_text(const char *text)
{
	json_t *value = json_string(text ? text : "");
	char *copy;

	if (value)
		return value;
	copy = strdup(text);
	if (!copy)
		return NULL;
	for (char *p = copy; *p; p++) {
		if (*p & 0x80)
			*p = '?';
	}
	value = json_string(copy);
	free(copy);
	return value;
}

static json_t *object_type(const struct qom_node *node)
{
	return json_string(node->class->name);
}

const struct qom_row qom_object_rows[] = {
	{.name = "type", .type = "string", .get = object_type},
	{.name = NULL},
};

/* ---- the machine ---- */

static json_t *machine_kernel(const struct qom_node *node)
{
	return qom_text(vm_config(node->vm)->kernel);
}

static json_t *machine_initrd(const struct qom_node *node)
{
	return qom_text(vm_config(node->vm)->initrd);
}

static json_t *machine_append(const struct qom_node *node)
{
	return qom_text(vm_config(node->vm)->append);
}

static json_t *machine_dump_guest_core(const struct qom_node *node)
{
	return json_boolean(vm_config(node->vm)->machine.dump_guest_core);
}

static json_t *machine_mem_merge(const struct qom_node *node)
{
	return json_boolean(vm_config(node->vm)->machine.mem_merge);
}

static json_t *machine_usb(const struct qom_node *node)
{
	return json_boolean(vm_config(node->vm)->machine.usb);
}

static json_t *machine_memory(const struct qom_node *node)
{
	const struct vm_memory_config *memory = &vm_config(node->vm)->memory;
	json_t *value = json_pack("{s:I}", "size", (json_int_t)memory->ram_bytes);

	if (memory->max_bytes > memory->ram_bytes) {
		control_set(&value, "max-size", json_integer((json_int_t)memory->max_bytes));
		control_set(&value, "slots", json_integer(memory->slots));
	}
	return value;
}

static json_t *machine_memory_backend(const struct qom_node *node)
{
	const struct vm_memdev_config *backend = vm_config(node->vm)->memory.backend;
	struct qom_node object;

	if (!backend)
		return qom_text(NULL);
	object = qom_memdev(node->vm, backend);
	return qom_path_json(&object);
}

static json_t *machine_device_memory(const struct qom_node *node)
{
	const struct vm_memory_config *memory = &vm_config(node->vm)->memory;

	return json_integer((json_int_t)(memory->max_bytes - memory->ram_bytes));
}

static json_t *machine_acpi(const struct qom_node *node)
{
	(void)node;
	return json_string("on");
}

static json_t *machine_smp(const struct qom_node *node)
{
	const struct vm_smp_config *smp = &vm_config(node->vm)->smp;

	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "cpus", smp->cpus, "sockets",
			 smp->sockets, "dies", smp->dies, "cores", smp->cores, "threads",
			 smp->threads, "maxcpus", smp->max_cpus);
}

const struct qom_row qom_machine_rows[] = {
	{.name = "kernel",
	 .type = "string",
	 .help = "the Linux kernel that is started",
	 .get = machine_kernel},
	{.name = "initrd", .type = "string", .help = "its initial RAM disk", .get = machine_initrd},
	{.name = "append", .type = "string", .help = "its command line", .get = machine_append},
	{.name = "memory",
	 .type = "MemorySizeConfiguration",
	 .help = "boot memory, and all memory there may be",
	 .get = machine_memory},
	{.name = "memory-backend", .type = "link<memory-backend>", .get = machine_memory_backend},
	{.name = "device-memory-region-size",
	 .type = "int",
	 .help = "what memory devices have together at most",
	 .get = machine_device_memory},
	{.name = "smp",
	 .type = "SMPConfiguration",
	 .help = "CPUs and how they are arranged",
	 .get = machine_smp},
	{.name = "acpi", .type = "OnOffAuto", .get = machine_acpi},
	{.name = "dump-guest-core", .type = "bool", .get = machine_dump_guest_core},
	{.name = "mem-merge", .type = "bool", .get = machine_mem_merge},
	{.name = "usb", .type = "bool", .get = machine_usb},
	{.name = NULL},
};

/* ---- memory backends ---- */

static json_t *memdev_size(const struct qom_node *node)
{
	const struct vm_memdev_config *memdev = node->part;

	return json_integer((json_int_t)memdev->size_bytes);
}

const struct qom_row qom_memdev_rows[] = {
	{.name = "size", .type = "int", .help = "of the memory", .get = memdev_size},
	{.name = "max-size",
	 .type = "int",
	 .help = "of the memory, where size was given as what a device starts with",
	 .get = memdev_size},
	{.name = "prealloc", .type = "bool"},
	{.name = "prealloc-threads", .type = "int"},
	{.name = "merge", .type = "bool"},
	{.name = "dump", .type = "bool"},
	{.name = "share", .type = "bool"},
	{.name = "reserve", .type = "bool"},
	{.name = "host-nodes", .type = "int"},
	{.name = "policy", .type = "HostMemPolicy"},
	{.name = NULL},
};

static json_t *memfd_hugetlbsize(const struct qom_node *node)
{
	const struct vm_memdev_config *memdev = node->part;

	return json_integer(memdev->hugetlb ? (json_int_t)memdev->page_bytes : 0);
}

const struct qom_row qom_memfd_rows[] = {
	{.name = "hugetlbsize", .type = "int", .get = memfd_hugetlbsize},
	{.name = NULL},
};

const struct qom_row qom_file_rows[] = {
	{.name = "align", .type = "int"},
	{.name = "offset", .type = "int"},
	{.name = NULL},
};

/* ---- character devices ---- */

static json_t *socket_connected(const struct qom_node *node)
{
	static const char nobody[] = "disconnected:";
	char *name = chardev_filename(vm_chardev(node->vm, node->part));
	json_t *value = name ? json_boolean(strncmp(name, nobody, strlen(nobody))) : NULL;

	free(name);
	return value;
}

static json_t *socket_addr(const struct qom_node *node)
{
	const struct vm_chardev_config *c = node->part;

	if (c->path)
		return json_pack("{s:s, s:o}", "type", "unix", "path", qom_text(c->path));
	if (c->port)
		return json_pack("{s:s, s:o, s:o}", "type", "inet", "host", qom_text(c->host),
				 "port", qom_text(c->port));
	return json_pack("{s:s, s:o}", "type", "fd", "str", json_sprintf("%d", c->fd));
}

const struct qom_row qom_chardev_socket_rows[] = {
	{.name = "connected",
	 .type = "bool",
	 .help = "somebody is at the other end",
	 .get = socket_connected},
	{.name = "addr",
	 .type = "SocketAddress",
	 .help = "where it listens, or is connected to",
	 .get = socket_addr},
	{.name = NULL},
};
