/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The classes of the object tree: see qom.h. Names and parents are QEMU's, as far as clients ask for
 * them; a class that is not abstract can be made, or is part of every machine.
 *
 * Some are neither: there is no i8042 to be had, nor what is listed beside it. Programs give every x86
 * machine a PS/2 keyboard and mouse without being asked, and refuse to define any machine where the
 * emulator does not know the controller. What they then start has neither, and they do not mind. In the
 * same way they say of a machine that it shall have no VMware port, and cannot suspend, only where they
 * find the parts that would do that; asking for either is refused when the machine is started.
 */
#include <string.h>

#include "base/num.h"
#include "vmm/cmdline/device.h"
#include "vmm/cmdline/object.h"
#include "vmm/cmdline/params.h"
#include "vmm/control/qom.h"
#include "vmm/machine/cpu_models.h"

/* Handles of the command line, which are no properties: an id is the last part of the path. */
#define HIDDEN_ALWAYS "id bus model"

/* A child that every object of a class has. */
static const struct qom_row virtio_mem_pci_rows[] = {
	{.name = "virtio-backend", .type = "child<virtio-mem>"},
	{.name = NULL},
};
static const struct qom_row virtio_rng_pci_rows[] = {
	{.name = "virtio-backend", .type = "child<virtio-rng-device>"},
	{.name = NULL},
};
static const struct qom_row virtio_balloon_pci_rows[] = {
	{.name = "virtio-backend", .type = "child<virtio-balloon-device>"},
	{.name = NULL},
};

/* What of -machine is no property of a machine. */
#define MACHINE_HIDDEN "type accel kernel-irqchip kernel_irqchip"

#define MACHINE(machine)                                                    \
	{                                                                   \
		.name = machine "-machine", .parent = "generic-pc-machine", \
		.table = &cmdline_machine_props, .hidden = MACHINE_HIDDEN   \
	}
#define PC_MACHINE(version, current)  MACHINE("pc-i440fx-" version)
#define Q35_MACHINE(version, current) MACHINE("pc-q35-" version)
#define CPU_MODEL(model)                                                                         \
	{                                                                                        \
		.name = model "-x86_64-cpu", .parent = "x86_64-cpu", .table = &cmdline_cpu_props \
	}
#define ABSTRACT(name_, parent_)                                        \
	{                                                               \
		.name = name_, .parent = parent_, .flags = QOM_ABSTRACT \
	}
#define PLAIN(name_, parent_)                    \
	{                                        \
		.name = name_, .parent = parent_ \
	}

const struct qom_class qom_classes[] = {
	{.name = "object", .flags = QOM_ABSTRACT, .rows = qom_object_rows},
	PLAIN("container", "object"),

	/* machines and what is in each */
	{.name = "machine", .parent = "object", .flags = QOM_ABSTRACT, .rows = qom_machine_rows},
	ABSTRACT("x86-machine", "machine"),
	{.name = "generic-pc-machine",
	 .parent = "x86-machine",
	 .flags = QOM_ABSTRACT,
	 .table = &cmdline_machine_props,
	 .hidden = MACHINE_HIDDEN},
	CMDLINE_MACHINE_VERSIONS(PC_MACHINE),
	CMDLINE_MACHINE_VERSIONS(Q35_MACHINE),
	PLAIN("none-machine", "machine"),
	PLAIN("accel", "object"), /* a parent only, but not said to be abstract */
	PLAIN("kvm-accel", "accel"),
	ABSTRACT("bus", "object"),
	PLAIN("System", "bus"),
	PLAIN("ISA", "bus"),
	PLAIN("PCI", "bus"),
	PLAIN("PCIE", "PCI"),
	ABSTRACT("virtio-bus", "bus"),
	PLAIN("virtio-pci-bus", "virtio-bus"),

	/* devices */
	{.name = "device", .parent = "object", .flags = QOM_ABSTRACT, .rows = qom_device_rows},
	ABSTRACT("sys-bus-device", "device"),
	ABSTRACT("pci-host-bridge", "sys-bus-device"),
	ABSTRACT("pcie-host-bridge", "pci-host-bridge"),
	PLAIN("q35-pcihost", "pcie-host-bridge"),
	PLAIN("i440FX-pcihost", "pci-host-bridge"),
	{.name = "cpu", .parent = "device", .flags = QOM_ABSTRACT, .rows = qom_cpu_rows},
	ABSTRACT("x86_64-cpu", "cpu"),
	{.name = "max-x86_64-cpu", .parent = "x86_64-cpu", .table = &cmdline_cpu_props},
	{.name = "host-x86_64-cpu", .parent = "max-x86_64-cpu", .table = &cmdline_cpu_props},
	CPU_MODEL_NAMES(CPU_MODEL),
	{.name = "pci-device", .parent = "device", .flags = QOM_ABSTRACT, .rows = qom_pci_rows},
	ABSTRACT("base-pci-bridge", "pci-device"),
	ABSTRACT("pcie-port", "base-pci-bridge"),
	ABSTRACT("pcie-slot", "pcie-port"),
	{.name = "pcie-root-port-base",
	 .parent = "pcie-slot",
	 .flags = QOM_ABSTRACT,
	 .rows = qom_root_port_rows},
	PLAIN("pcie-root-port", "pcie-root-port-base"),
	{.name = "virtio-pci",
	 .parent = "pci-device",
	 .flags = QOM_ABSTRACT,
	 .rows = qom_virtio_pci_rows},
	{.name = "virtio-mem-pci-base",
	 .parent = "virtio-pci",
	 .flags = QOM_ABSTRACT,
	 .rows = virtio_mem_pci_rows},
	{.name = "virtio-mem-pci", .parent = "virtio-mem-pci-base", .rows = qom_virtio_mem_rows},
	{.name = "virtio-rng-pci-base",
	 .parent = "virtio-pci",
	 .flags = QOM_ABSTRACT,
	 .rows = virtio_rng_pci_rows},
	{.name = "virtio-rng-pci", .parent = "virtio-rng-pci-base", .rows = qom_virtio_rng_rows},
	{.name = "virtio-rng-pci-non-transitional",
	 .parent = "virtio-rng-pci-base",
	 .rows = qom_virtio_rng_rows},
	{.name = "virtio-balloon-pci-base",
	 .parent = "virtio-pci",
	 .flags = QOM_ABSTRACT,
	 .rows = virtio_balloon_pci_rows},
	{.name = "virtio-balloon-pci",
	 .parent = "virtio-balloon-pci-base",
	 .rows = qom_virtio_balloon_rows},
	{.name = "virtio-balloon-pci-non-transitional",
	 .parent = "virtio-balloon-pci-base",
	 .rows = qom_virtio_balloon_rows},
	{.name = "virtio-device",
	 .parent = "device",
	 .flags = QOM_ABSTRACT,
	 .rows = qom_virtio_rows},
	{.name = "virtio-mem",
	 .parent = "virtio-device",
	 .like = "virtio-mem-pci",
	 .rows = qom_virtio_mem_rows},
	{.name = "virtio-rng-device",
	 .parent = "virtio-device",
	 .like = "virtio-rng-pci",
	 .rows = qom_virtio_rng_rows},
	{.name = "virtio-balloon-device",
	 .parent = "virtio-device",
	 .like = "virtio-balloon-pci",
	 .rows = qom_virtio_balloon_rows},
	ABSTRACT("isa-device", "device"),
	{.name = "isa-serial", .parent = "isa-device", .rows = qom_isa_serial_rows},
	PLAIN("pvpanic", "isa-device"),
	PLAIN("i8042", "isa-device"),
	PLAIN("vmport", "isa-device"),
	{.name = "ICH9-LPC", .parent = "pci-device", .table = &cmdline_ich9_props},
	{.name = "PIIX4_PM", .parent = "pci-device", .table = &cmdline_piix4_props},
	PLAIN("pcie-pci-bridge", "base-pci-bridge"),
	ABSTRACT("pci-uhci-usb", "pci-device"),
	PLAIN("piix3-usb-uhci", "pci-uhci-usb"),

	/* objects */
	{.name = "memory-backend",
	 .parent = "object",
	 .flags = QOM_ABSTRACT,
	 .rows = qom_memdev_rows},
	PLAIN("memory-backend-ram", "memory-backend"),
	{.name = "memory-backend-memfd", .parent = "memory-backend", .rows = qom_memfd_rows},
	{.name = "memory-backend-file", .parent = "memory-backend", .rows = qom_file_rows},
	ABSTRACT("rng-backend", "object"),
	PLAIN("rng-builtin", "rng-backend"),
	PLAIN("rng-random", "rng-backend"),
	ABSTRACT("event-loop-base", "object"),
	PLAIN("iothread", "event-loop-base"),
	ABSTRACT("secret_common", "object"),
	PLAIN("secret", "secret_common"),

	/* character devices */
	ABSTRACT("chardev", "object"),
	ABSTRACT("chardev-fd", "chardev"),
	PLAIN("chardev-file", "chardev-fd"),
	PLAIN("chardev-null", "chardev"),
	PLAIN("chardev-pty", "chardev"),
	{.name = "chardev-socket", .parent = "chardev", .rows = qom_chardev_socket_rows},
	PLAIN("chardev-stdio", "chardev-fd"),
	{.name = NULL},
};

const struct qom_class *qom_class_find(const char *name)
{
	for (const struct qom_class *class = qom_classes; class->name; class ++) {
		if (!strcmp(class->name, name))
			return class;
	}
	return NULL;
}

const struct qom_class *qom_class_parent(const struct qom_class *class)
{
	return class->parent ? qom_class_find(class->parent) : NULL;
}

bool qom_class_is(const struct qom_class *class, const char *ancestor)
{
	for (; class; class = qom_class_parent(class)) {
		if (!strcmp(class->name, ancestor))
			return true;
	}
	return false;
}

const struct props *qom_class_table(const struct qom_class *class)
{
	const char *name = class->like ? class->like : class->name;
	const struct device_class *device = device_class_find(name);

	if (class->table || device)
		return class->table ? class->table : device->props;
	for (const struct object_class *object = object_classes; object->name; object++) {
		if (!strcmp(object->name, name))
			return object->props;
	}
	return NULL;
}

bool qom_class_hides(const struct qom_class *class, const char *name)
{
	const char *words[] = {HIDDEN_ALWAYS, class->hidden ? class->hidden : ""};
	size_t size = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		for (const char *word = words[i]; *word;) {
			size_t length = strcspn(word, " ");

			if (length == size && !memcmp(word, name, size))
				return true;
			word += length + (word[length] == ' ');
		}
	}
	return false;
}
