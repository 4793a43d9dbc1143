/* SPDX-License-Identifier: BSD-3-Clause */
/* The object tree's nodes, what is below them, and their paths: see qom.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "vmm/control/internal.h"
#include "vmm/control/qom.h"
#include "vmm/cmdline/params.h"

/* ---- making nodes ---- */

static struct qom_node node_make(struct vm *vm, enum qom_kind kind, const char *class,
				 const void *part, unsigned int index)
{
	return (struct qom_node){
		.vm = vm,
		.kind = kind,
		.class = qom_class_find(class),
		.part = part,
		.index = index,
	};
}

static bool machine_is_q35(const struct vm *vm)
{
	return vm_config(vm)->machine.type == VM_MACHINE_Q35;
}

struct qom_node qom_root(struct vm *vm)
{
	return node_make(vm, QOM_ROOT, "container", NULL, 0);
}

const char *qom_cpu_class(const char *model, char class[QOM_CPU_CLASS_BYTES])
{
	snprintf(class, QOM_CPU_CLASS_BYTES, "%s-x86_64-cpu", model);
	return class;
}

struct qom_node qom_cpu(struct vm *vm, unsigned int index)
{
	char class[QOM_CPU_CLASS_BYTES];

	return node_make(vm, QOM_CPU, qom_cpu_class(vm_config(vm)->cpu.name, class), NULL, index);
}

static struct qom_node node_machine(struct vm *vm)
{
	char class[64];

	snprintf(class, sizeof(class), "%s-machine", vm_config(vm)->machine.name);
	return node_make(vm, QOM_MACHINE, class, NULL, 0);
}

struct qom_node qom_device(struct vm *vm, const struct vm_device_config *device)
{
	const struct vm_config *config = vm_config(vm);
	unsigned int anonymous = 0;

	for (size_t i = 0; config->devices[i] != device; i++)
		anonymous += !config->devices[i]->id;
	return node_make(vm, QOM_DEVICE_NODE, vm_device_type_name(device->type), device, anonymous);
}

/* Another node of the same device. */
static struct qom_node node_of_device(const struct qom_node *device, enum qom_kind kind,
				      const char *class)
{
	return node_make(device->vm, kind, class, device->part, device->index);
}

struct qom_node qom_memdev(struct vm *vm, const struct vm_memdev_config *memdev)
{
	static const char *const classes[] = {
		[VM_MEMDEV_RAM] = "memory-backend-ram",
		[VM_MEMDEV_MEMFD] = "memory-backend-memfd",
		[VM_MEMDEV_FILE] = "memory-backend-file",
	};

	return node_make(vm, QOM_MEMDEV, classes[memdev->type], memdev, 0);
}

struct qom_node qom_rng(struct vm *vm, const struct vm_rng_backend_config *rng)
{
	return node_make(vm, QOM_RNG, rng->filename ? "rng-random" : "rng-builtin", rng, 0);
}

static struct qom_node node_chardev(struct vm *vm, const struct vm_chardev_config *chardev)
{
	static const char *const classes[] = {
		[VM_CHARDEV_NULL] = "chardev-null",     [VM_CHARDEV_STDIO] = "chardev-stdio",
		[VM_CHARDEV_SOCKET] = "chardev-socket", [VM_CHARDEV_FILE] = "chardev-file",
		[VM_CHARDEV_PTY] = "chardev-pty",
	};

	return node_make(vm, QOM_CHARDEV, classes[chardev->type], chardev, 0);
}

/* ---- children ---- */

const char *qom_child_name(const struct qom_child *child)
{
	return child->id ? child->id : child->text;
}

static bool child_named(struct qom_child *child, const char *name, struct qom_node node)
{
	child->id = NULL;
	snprintf(child->text, sizeof(child->text), "%s", name);
	child->node = node;
	return true;
}

static bool child_with_id(struct qom_child *child, const char *id, struct qom_node node)
{
	child->id = id;
	child->text[0] = '\0';
	child->node = node;
	return true;
}

static bool child_numbered(struct qom_child *child, unsigned int number, struct qom_node node)
{
	child->id = NULL;
	snprintf(child->text, sizeof(child->text), "device[%u]", number);
	child->node = node;
	return true;
}

static bool root_child(const struct qom_node *node, size_t index, struct qom_child *child)
{
	struct vm *vm = node->vm;

	switch (index) {
	case 0:
		return child_named(child, "machine", node_machine(vm));
	case 1:
		return child_named(child, "objects",
				   node_make(vm, QOM_OBJECTS, "container", NULL, 0));
	case 2:
		return child_named(child, "chardevs",
				   node_make(vm, QOM_CHARDEVS, "container", NULL, 0));
	default:
		return false;
	}
}

static bool machine_child(const struct qom_node *node, size_t index, struct qom_child *child)
{
	struct vm *vm = node->vm;
	bool q35 = machine_is_q35(vm);

	switch (index) {
	case 0:
		return child_named(child, "peripheral",
				   node_make(vm, QOM_PERIPHERAL, "container", NULL, 0));
	case 1:
		return child_named(child, "peripheral-anon",
				   node_make(vm, QOM_PERIPHERAL_ANON, "container", NULL, 0));
	case 2:
		return child_named(child, "unattached",
				   node_make(vm, QOM_UNATTACHED, "container", NULL, 0));
	case 3:
		return child_named(child, q35 ? "q35" : "i440fx",
				   node_make(vm, QOM_HOST_BRIDGE,
					     q35 ? "q35-pcihost" : "i440FX-pcihost", NULL, 0));
	default:
		return false;
	}
}

static bool unattached_child(const struct qom_node *node, size_t index, struct qom_child *child)
{
	struct vm *vm = node->vm;
	unsigned int cpus = vm_config(vm)->smp.cpus;

	if (index < cpus)
		return child_numbered(child, (unsigned int)index, qom_cpu(vm, (unsigned int)index));
	if (index == cpus)
		return child_named(child, "sysbus",
				   node_make(vm, QOM_SYSTEM_BUS, "System", NULL, 0));
	if (index == cpus + 1)
		return child_named(child, "isa.0", node_make(vm, QOM_ISA_BUS, "ISA", NULL, 0));
	return false;
}

static bool host_bridge_child(const struct qom_node *node, size_t index, struct qom_child *child)
{
	return !index &&
	       child_with_id(child, vm_config(node->vm)->machine.root_bus,
			     node_make(node->vm, QOM_ROOT_BUS,
				       machine_is_q35(node->vm) ? "PCIE" : "PCI", NULL, 0));
}

/* The device at @index among those with an id, or those without. */
static bool peripheral_child(const struct qom_node *node, size_t index, struct qom_child *child)
{
	const struct vm_config *config = vm_config(node->vm);
	bool anonymous = node->kind == QOM_PERIPHERAL_ANON;

	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *device = config->devices[i];

		if (!device->id != anonymous || index--)
			continue;
		child->node = qom_device(node->vm, device);
		return anonymous ? child_numbered(child, child->node.index, child->node)
				 : child_with_id(child, device->id, child->node);
	}
	return false;
}

static bool device_child(const struct qom_node *node, size_t index, struct qom_child *child)
{
	static const char *const backends[] = {
		[VM_DEVICE_VIRTIO_MEM] = "virtio-mem",
		[VM_DEVICE_VIRTIO_RNG] = "virtio-rng-device",
		[VM_DEVICE_VIRTIO_BALLOON] = "virtio-balloon-device",
	};
	const struct vm_device_config *device = node->part;

	switch (device->type) {
	case VM_DEVICE_VIRTIO_MEM:
	case VM_DEVICE_VIRTIO_RNG:
	case VM_DEVICE_VIRTIO_BALLOON:
		if (!index)
			return child_named(
				child, "virtio-backend",
				node_of_device(node, QOM_BACKEND, backends[device->type]));
		return index == 1 &&
		       child_named(child, "virtio-bus",
				   node_of_device(node, QOM_VIRTIO_BUS, "virtio-pci-bus"));
	case VM_DEVICE_ROOT_PORT:
		return !index && device->id &&
		       child_with_id(child, device->id, node_of_device(node, QOM_PORT_BUS, "PCIE"));
	case VM_DEVICE_ISA_SERIAL:
	case VM_DEVICE_PVPANIC:
	case VM_DEVICE_PIIX3_UHCI:
		break;
	}
	return false;
}

static bool objects_child(const struct qom_node *node, size_t index, struct qom_child *child)
{
	const struct vm_config *config = vm_config(node->vm);

	if (index < config->nr_memdevs)
		return child_with_id(child, config->memdevs[index]->id,
				     qom_memdev(node->vm, config->memdevs[index]));
	index -= config->nr_memdevs;
	if (index < config->nr_rngs)
		return child_with_id(child, config->rngs[index]->id,
				     qom_rng(node->vm, config->rngs[index]));
	index -= config->nr_rngs;
	if (index < config->nr_iothreads)
		return child_with_id(
			child, config->iothreads[index]->id,
			node_make(node->vm, QOM_IOTHREAD, "iothread", config->iothreads[index], 0));
	index -= config->nr_iothreads;
	if (index < config->nr_secrets)
		return child_with_id(
			child, config->secrets[index]->id,
			node_make(node->vm, QOM_SECRET, "secret", config->secrets[index], 0));
	return false;
}

static bool chardevs_child(const struct qom_node *node, size_t index, struct qom_child *child)
{
	const struct vm_config *config = vm_config(node->vm);

	return index < config->nr_chardevs &&
	       child_with_id(child, config->chardevs[index]->id,
			     node_chardev(node->vm, config->chardevs[index]));
}

bool qom_child_at(const struct qom_node *node, size_t index, struct qom_child *ret_child)
{
	switch (node->kind) {
	case QOM_ROOT:
		return root_child(node, index, ret_child);
	case QOM_OBJECTS:
		return objects_child(node, index, ret_child);
	case QOM_CHARDEVS:
		return chardevs_child(node, index, ret_child);
	case QOM_MACHINE:
		return machine_child(node, index, ret_child);
	case QOM_PERIPHERAL:
	case QOM_PERIPHERAL_ANON:
		return peripheral_child(node, index, ret_child);
	case QOM_UNATTACHED:
		return unattached_child(node, index, ret_child);
	case QOM_HOST_BRIDGE:
		return host_bridge_child(node, index, ret_child);
	case QOM_DEVICE_NODE:
		return device_child(node, index, ret_child);
	default:
		return false;
	}
}

static int child_order(const void *a, const void *b)
{
	return strcmp(qom_child_name(a), qom_child_name(b));
}

struct qom_child *qom_children_sorted(const struct qom_node *node, size_t *ret_count)
{
	struct qom_child *children, child;
	size_t count = 0;

	while (qom_child_at(node, count, &child))
		count++;
	children = calloc(count + 1, sizeof(*children));
	if (!children)
		return NULL;
	for (size_t i = 0; i < count; i++)
		qom_child_at(node, i, &children[i]);
	qsort(children, count, sizeof(*children), child_order);
	*ret_count = count;
	return children;
}

/* ---- from nodes to paths ---- */

__attribute__((format(printf, 1, 2))) static char *path_printf(const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	return text;
}

static char *path_device(const struct qom_node *node, const char *below)
{
	const struct vm_device_config *device = node->part;
	const char *slash = *below ? "/" : "";

	if (device->id)
		return path_printf("/machine/peripheral/%s%s%s", device->id, slash, below);
	return path_printf("/machine/peripheral-anon/device[%u]%s%s", node->index, slash, below);
}

char *qom_path(const struct qom_node *node)
{
	const struct vm_machine_config *machine = &vm_config(node->vm)->machine;
	const char *bridge = machine_is_q35(node->vm) ? "q35" : "i440fx";

	switch (node->kind) {
	case QOM_ROOT:
		return strdup("/");
	case QOM_OBJECTS:
		return strdup("/objects");
	case QOM_CHARDEVS:
		return strdup("/chardevs");
	case QOM_MACHINE:
		return strdup("/machine");
	case QOM_PERIPHERAL:
		return strdup("/machine/peripheral");
	case QOM_PERIPHERAL_ANON:
		return strdup("/machine/peripheral-anon");
	case QOM_UNATTACHED:
		return strdup("/machine/unattached");
	case QOM_SYSTEM_BUS:
		return strdup("/machine/unattached/sysbus");
	case QOM_ISA_BUS:
		return strdup("/machine/unattached/isa.0");
	case QOM_HOST_BRIDGE:
		return path_printf("/machine/%s", bridge);
	case QOM_ROOT_BUS:
		return path_printf("/machine/%s/%s", bridge, machine->root_bus);
	case QOM_CPU:
		return path_printf("/machine/unattached/device[%u]", node->index);
	case QOM_DEVICE_NODE:
		return path_device(node, "");
	case QOM_BACKEND:
		return path_device(node, "virtio-backend");
	case QOM_VIRTIO_BUS:
		return path_device(node, "virtio-bus");
	case QOM_PORT_BUS:
		return path_device(node, ((const struct vm_device_config *)node->part)->id);
	case QOM_MEMDEV:
		return path_printf("/objects/%s",
				   ((const struct vm_memdev_config *)node->part)->id);
	case QOM_RNG:
		return path_printf("/objects/%s",
				   ((const struct vm_rng_backend_config *)node->part)->id);
	case QOM_IOTHREAD:
		return path_printf("/objects/%s",
				   ((const struct vm_iothread_config *)node->part)->id);
	case QOM_SECRET:
		return path_printf("/objects/%s",
				   ((const struct vm_secret_config *)node->part)->id);
	case QOM_CHARDEV:
		break;
	}
	return path_printf("/chardevs/%s", ((const struct vm_chardev_config *)node->part)->id);
}

json_t *qom_path_json(const struct qom_node *node)
{
	char *path = qom_path(node);
	json_t *value = path ? json_string(path) : NULL;

	free(path);
	return value;
}

bool qom_bus_of(const struct qom_node *node, struct qom_node *ret_bus)
{
	const struct vm_device_config *device = node->part, *port;

	switch (node->kind) {
	case QOM_HOST_BRIDGE:
		*ret_bus = node_make(node->vm, QOM_SYSTEM_BUS, "System", NULL, 0);
		return true;
	case QOM_BACKEND:
		*ret_bus = node_of_device(node, QOM_VIRTIO_BUS, "virtio-pci-bus");
		return true;
	case QOM_DEVICE_NODE:
		break;
	default:
		return false;
	}
	if (device->type == VM_DEVICE_ISA_SERIAL || device->type == VM_DEVICE_PVPANIC) {
		*ret_bus = node_make(node->vm, QOM_ISA_BUS, "ISA", NULL, 0);
		return true;
	}
	port = device->pci.port;
	if (port) {
		struct qom_node above = qom_device(node->vm, port);

		*ret_bus = node_of_device(&above, QOM_PORT_BUS, "PCIE");
	} else {
		*ret_bus = node_make(node->vm, QOM_ROOT_BUS,
				     machine_is_q35(node->vm) ? "PCIE" : "PCI", NULL, 0);
	}
	return true;
}
