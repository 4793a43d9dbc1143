/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The object tree for people: info qom-tree shows which things there are, info qtree how devices
 * hang on buses, with what was said of them. See qom.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/control/qom.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"

#define INDENT 2

static struct vm *show_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

/* ---- info qom-tree ---- */

static int tree_print(struct command_call *call, const struct qom_node *node, const char *name,
		      int indent, struct err **err)
{
	struct qom_child *children;
	size_t count;
	int ret = 0;

	command_printf(call, "%*s/%s (%s)\n", indent, "", name, node->class->name);
	children = qom_children_sorted(node, &count);
	if (!children)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count && !ret; i++)
		ret = tree_print(call, &children[i].node, qom_child_name(&children[i]),
				 indent + INDENT, err);
	free(children);
	return ret;
}

int qom_show_tree(struct command_call *call, const json_t *args, json_t **ret_value,
		  struct err **err)
{
	const char *asked = json_string_value(json_object_get(args, "path"));
	struct qom_node node;
	char *path;
	int ret;

	(void)ret_value;
	switch (qom_resolve(show_vm(call), asked ? asked : "/machine", &node)) {
	case QOM_NOT_FOUND:
		command_printf(call, "Path '%s' could not be resolved.\n", asked);
		return 0;
	case QOM_AMBIGUOUS:
		command_printf(call, "Path '%s' is ambiguous.\n", asked);
		return 0;
	case QOM_FOUND:
		break;
	}
	path = qom_path(&node);
	if (!path)
		return err_set(err, ENOMEM, "out of memory");
	ret = tree_print(call, &node, strrchr(path, '/') + 1, 0, err);
	free(path);
	return ret;
}

/* ---- info qtree ---- */

/* Three digits of it, in the unit in which it is below 1000. */
static void qtree_print_size(struct command_call *call, uint64_t size)
{
	static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
	double value = (double)size;
	size_t unit = 0;

	for (; value >= 1000 && unit < ARRAY_SIZE(units) - 1; unit++)
		value /= 1024;
	command_printf(call, "%" PRIu64 " (%0.3g %sB)\n", size, value, units[unit]);
}

static void qtree_print_value(struct command_call *call, const struct qom_prop *prop,
			      const json_t *value)
{
	json_int_t number;

	if (json_is_boolean(value)) {
		command_printf(call, "%s\n", json_is_true(value) ? "true" : "false");
	} else if (json_is_integer(value)) {
		number = json_integer_value(value);
		if (!strcmp(prop->type, "size"))
			qtree_print_size(call, (uint64_t)number);
		else
			command_printf(call, "%" JSON_INTEGER_FORMAT " (0x%" PRIx64 ")\n", number,
				       (uint64_t)number);
	} else if (json_is_string(value)) {
		command_printf(call, "\"%s\"\n", json_string_value(value));
	}
}

/*
 * What every device has is not shown, nor links, nor what is no property of a command line's; an
 * address as there.
 */
static bool qtree_shows(const struct qom_node *node, const struct qom_class *behind,
			const struct qom_prop *prop)
{
	struct qom_prop other;

	return !qom_prop_find(qom_class_find("device"), prop->name, &other) &&
	       strcmp(prop->name, "type") && strcmp(prop->name, "addr") &&
	       strncmp(prop->type, "link<", 5) && strcmp(prop->type, "guest statistics") &&
	       !(behind && qom_prop_find(behind, prop->name, &other)) &&
	       qom_prop_is_readable(node, prop);
}

static int qtree_print_props(struct command_call *call, const struct qom_node *node,
			     const struct qom_class *behind, int indent, struct err **err)
{
	struct qom_props props;
	struct qom_prop prop;

	qom_props_start(&props, node->class);
	while (qom_props_next(&props, &prop)) {
		bool addr = !strcmp(prop.name, "legacy-addr");
		json_t *value;

		if (!qtree_shows(node, behind, &prop))
			continue;
		value = qom_prop_get(node, &prop);
		if (!value)
			return err_set(err, ENOMEM, "out of memory");
		command_printf(call, "%*s%s = ", indent, "", addr ? "addr" : prop.name);
		if (addr)
			command_printf(call, "%s\n", json_string_value(value));
		else
			qtree_print_value(call, &prop, value);
		json_decref(value);
	}
	return 0;
}

static void qtree_print_pci(struct command_call *call, struct pci_device *dev, int indent)
{
	unsigned int class = pci_device_config(dev, PCI_CLASS_CODE + 1, 1) |
			     pci_device_config(dev, PCI_CLASS_CODE + 2, 1) << 8;
	struct pci_bar_info bar;

	command_printf(call, "%*sclass ", indent, "");
	if (control_pci_class_desc(class))
		command_printf(call, "%s", control_pci_class_desc(class));
	else
		command_printf(call, "Class %04x", class);
	command_printf(call, ", addr %02x:%02x.%x, pci id %04x:%04x",
		       pci_bus_number(pci_device_bus(dev)), pci_device_slot(dev),
		       pci_device_function(dev), pci_device_config(dev, PCI_VENDOR_ID, 2),
		       pci_device_config(dev, PCI_DEVICE_ID, 2));
	/* The header of a port has no subsystem. */
	command_printf(call, " (sub %04x:%04x)\n",
		       pci_device_port(dev) ? 0
					    : pci_device_config(dev, PCI_SUBSYSTEM_VENDOR_ID, 2),
		       pci_device_port(dev) ? 0 : pci_device_config(dev, PCI_SUBSYSTEM_ID, 2));
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		if (pci_device_bar(dev, i, &bar))
			command_printf(call, "%*sbar %u: %s at 0x%" PRIx64 " [0x%" PRIx64 "]\n",
				       indent, "", i, bar.is_io ? "i/o" : "mem", bar.gpa.start,
				       bar.gpa.start + bar.gpa.size - 1);
	}
}

static int qtree_print_bus(struct command_call *call, const struct qom_node *bus, int indent,
			   struct err **err);

/* The bus that comes with a device. */
static bool device_bus(const struct qom_node *device, struct qom_child *ret_bus)
{
	for (size_t i = 0; qom_child_at(device, i, ret_bus); i++) {
		if (qom_class_is(ret_bus->node.class, "bus"))
			return true;
	}
	return false;
}

static int qtree_print_device(struct command_call *call, const struct qom_node *device, int indent,
			      struct err **err)
{
	const struct vm_device_config *config = device->part;
	const struct qom_class *behind = NULL;
	struct pci_device *dev = NULL;
	struct qom_child child;
	const char *id = NULL;
	int ret;

	if (device->kind == QOM_DEVICE_NODE) {
		id = config->id;
		dev = vm_pci_device(device->vm, config);
	}
	for (size_t i = 0; !behind && qom_child_at(device, i, &child); i++)
		behind = child.node.kind == QOM_BACKEND ? child.node.class : NULL;
	command_printf(call, "%*sdev: %s, id \"%s\"\n", indent, "", device->class->name,
		       id ? id : "");
	ret = qtree_print_props(call, device, behind, indent + INDENT, err);
	if (ret < 0)
		return ret;
	if (dev)
		qtree_print_pci(call, dev, indent + INDENT);
	return device_bus(device, &child) ? qtree_print_bus(call, &child.node, indent + INDENT, err)
					  : 0;
}

/* Print what is on @bus of @node and of all nodes below it. */
static int qtree_print_on(struct command_call *call, const struct qom_node *bus,
			  const struct qom_node *node, int indent, struct err **err)
{
	struct qom_node on;
	struct qom_child child;
	int ret = 0;

	if (qom_bus_of(node, &on) && qom_node_equal(&on, bus))
		ret = qtree_print_device(call, node, indent, err);
	for (size_t i = 0; !ret && qom_child_at(node, i, &child); i++)
		ret = qtree_print_on(call, bus, &child.node, indent, err);
	return ret;
}

static int qtree_print_bus(struct command_call *call, const struct qom_node *bus, int indent,
			   struct err **err)
{
	struct qom_node root = qom_root(bus->vm);
	char *path = qom_path(bus);

	if (!path)
		return err_set(err, ENOMEM, "out of memory");
	command_printf(call, "%*sbus: %s\n", indent, "",
		       bus->kind == QOM_SYSTEM_BUS ? "main-system-bus" : strrchr(path, '/') + 1);
	command_printf(call, "%*stype %s\n", indent + INDENT, "", bus->class->name);
	free(path);
	return qtree_print_on(call, bus, &root, indent + INDENT, err);
}

/* Devices on the ISA bus hang on no other: there is no bridge to it. */
int qom_show_qtree(struct command_call *call, const json_t *args, json_t **ret_value,
		   struct err **err)
{
	struct qom_node unattached;
	struct qom_child child;
	int ret = 0;

	(void)args;
	(void)ret_value;
	if (qom_resolve(show_vm(call), "/machine/unattached", &unattached) != QOM_FOUND)
		return 0;
	for (size_t i = 0; !ret && qom_child_at(&unattached, i, &child); i++) {
		if (child.node.kind == QOM_SYSTEM_BUS || child.node.kind == QOM_ISA_BUS)
			ret = qtree_print_bus(call, &child.node, 0, err);
	}
	return ret;
}
