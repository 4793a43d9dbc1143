/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The functions on the PCI buses, as their registers are now: numbers of buses and addresses are
 * what the guest wrote there.
 *
 * I1  A BAR that is not decoded has the address -1.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"

#define PCI_DEVFNS 256

struct buses_class {
	unsigned int class;
	const char *desc;
};

/* Those that a function here can have. */
static const struct buses_class buses_classes[] = {
	{0x0500, "RAM controller"}, {0x0600, "Host bridge"},    {0x0601, "ISA bridge"},
	{0x0604, "PCI bridge"},     {0x0c03, "USB controller"},
};

const char *control_pci_class_desc(unsigned int class)
{
	for (size_t i = 0; i < ARRAY_SIZE(buses_classes); i++)
		if (buses_classes[i].class == class)
			return buses_classes[i].desc;
	return NULL;
}

static json_t *buses_class_info(struct pci_device *dev)
{
	/* Class and subclass, behind the interface. */
	unsigned int class = pci_device_config(dev, PCI_CLASS_CODE + 1, 1) |
			     pci_device_config(dev, PCI_CLASS_CODE + 2, 1) << 8;
	json_t *info = json_pack("{s:i}", "class", class);

	if (control_pci_class_desc(class))
		control_set(&info, "desc", json_string(control_pci_class_desc(class)));
	return info;
}

static json_t *buses_identity(struct pci_device *dev)
{
	json_t *id =
		json_pack("{s:i, s:i}", "vendor", (int)pci_device_config(dev, PCI_VENDOR_ID, 2),
			  "device", (int)pci_device_config(dev, PCI_DEVICE_ID, 2));

	/* Only headers of type 0 have them. */
	if (!pci_device_port(dev)) {
		control_set(&id, "subsystem-vendor",
			    json_integer(pci_device_config(dev, PCI_SUBSYSTEM_VENDOR_ID, 2)));
		control_set(&id, "subsystem",
			    json_integer(pci_device_config(dev, PCI_SUBSYSTEM_ID, 2)));
	}
	return id;
}

static json_t *buses_region(unsigned int bar, const struct pci_bar_info *info)
{
	json_t *region =
		json_pack("{s:i, s:s, s:I, s:I}", "bar", bar, "type", info->is_io ? "io" : "memory",
			  "address", info->mapped ? (json_int_t)info->gpa.start : -1, "size",
			  (json_int_t)info->gpa.size);

	if (!info->is_io) {
		control_set(&region, "prefetch", json_boolean(info->prefetchable));
		control_set(&region, "mem_type_64", json_boolean(info->is_64bit));
	}
	return region;
}

static json_t *buses_regions(struct pci_device *dev)
{
	struct control_list list;
	struct pci_bar_info info;

	control_list_init(&list);
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		if (pci_device_bar(dev, bar, &info))
			control_list_add(&list, buses_region(bar, &info));
	return control_list_end(&list);
}

static json_t *buses_range(uint64_t base, uint64_t limit)
{
	return json_pack("{s:I, s:I}", "base", (json_int_t)base, "limit", (json_int_t)limit);
}

/* A window's end is the last byte of the unit that its register names. */
static json_t *buses_io_range(struct pci_device *dev)
{
	uint64_t base = pci_device_config(dev, PCI_IO_BASE, 1) & 0xf0;
	uint64_t limit = pci_device_config(dev, PCI_IO_LIMIT, 1) & 0xf0;

	return buses_range(base << 8, limit << 8 | 0xfff);
}

static json_t *buses_memory_range(struct pci_device *dev)
{
	uint64_t base = pci_device_config(dev, PCI_MEMORY_BASE, 2) & PCI_WINDOW_MASK;
	uint64_t limit = pci_device_config(dev, PCI_MEMORY_LIMIT, 2) & PCI_WINDOW_MASK;

	return buses_range(base << 16, limit << 16 | 0xfffff);
}

static json_t *buses_prefetch_range(struct pci_device *dev)
{
	uint64_t base = pci_device_config(dev, PCI_PREFETCH_BASE, 2) & PCI_WINDOW_MASK;
	uint64_t limit = pci_device_config(dev, PCI_PREFETCH_LIMIT, 2) & PCI_WINDOW_MASK;
	uint64_t base_high = pci_device_config(dev, PCI_PREFETCH_BASE_HIGH, 4);
	uint64_t limit_high = pci_device_config(dev, PCI_PREFETCH_LIMIT_HIGH, 4);

	return buses_range(base_high << 32 | base << 16, limit_high << 32 | limit << 16 | 0xfffff);
}

static json_t *buses_devices(const struct vm *vm, const struct pci_bus *bus);

static json_t *buses_bridge(const struct vm *vm, struct pci_device *dev)
{
	unsigned int secondary = pci_device_config(dev, PCI_SECONDARY_BUS, 1);
	json_t *bridge = json_pack("{s:{s:i, s:i, s:i, s:o, s:o, s:o}}", "bus", "number",
				   (int)pci_device_config(dev, PCI_PRIMARY_BUS, 1), "secondary",
				   (int)secondary, "subordinate",
				   (int)pci_device_config(dev, PCI_SUBORDINATE_BUS, 1), "io_range",
				   buses_io_range(dev), "memory_range", buses_memory_range(dev),
				   "prefetchable_range", buses_prefetch_range(dev));

	/* A bus without a number cannot be reached. */
	if (secondary)
		control_set(&bridge, "devices",
			    buses_devices(vm, pci_port_bus(pci_device_port(dev))));
	return bridge;
}

/* The id of the device that the function is; "" for one without. */
static const char *buses_id(const struct vm *vm, const struct pci_device *dev)
{
	const struct vm_config *config = vm_config(vm);

	for (size_t i = 0; i < config->nr_devices; i++)
		if (vm_pci_device(vm, config->devices[i]) == dev && config->devices[i]->id)
			return config->devices[i]->id;
	return "";
}

static json_t *buses_function(const struct vm *vm, struct pci_device *dev)
{
	unsigned int pin = pci_device_config(dev, PCI_INTERRUPT_PIN, 1);
	json_t *function =
		json_pack("{s:i, s:i, s:i, s:o, s:o, s:i, s:s, s:o}", "bus",
			  (int)pci_bus_number(pci_device_bus(dev)), "slot",
			  (int)pci_device_slot(dev), "function", (int)pci_device_function(dev),
			  "class_info", buses_class_info(dev), "id", buses_identity(dev), "irq_pin",
			  (int)pin, "qdev_id", buses_id(vm, dev), "regions", buses_regions(dev));

	if (pin)
		control_set(&function, "irq",
			    json_integer(pci_device_config(dev, PCI_INTERRUPT_LINE, 1)));
	if (pci_device_port(dev))
		control_set(&function, "pci_bridge", buses_bridge(vm, dev));
	return function;
}

/* A port is on the root bus, and none is behind a port: this nests twice at most. */
static json_t *buses_devices(const struct vm *vm, const struct pci_bus *bus)
{
	struct control_list list;

	control_list_init(&list);
	for (unsigned int devfn = 0; devfn < PCI_DEVFNS; devfn++)
		if (pci_bus_device(bus, devfn))
			control_list_add(&list, buses_function(vm, pci_bus_device(bus, devfn)));
	return control_list_end(&list);
}

static int buses_query(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	const struct control *control = command_ctx(call);
	struct pci_bus *root = pci_host_root(vm_pci_host(control->vm));

	(void)args;
	return control_answer(json_pack("[{s:i, s:o}]", "bus", (int)pci_bus_number(root), "devices",
					buses_devices(control->vm, root)),
			      ret_value, err);
}

/* ---- for people ---- */

static void buses_print_range(struct command_call *call, const char *name, int digits,
			      const json_t *range)
{
	command_printf(call, "      %s range [0x%0*" PRIx64 ", 0x%0*" PRIx64 "]\n", name, digits,
		       control_number(range, "base"), digits, control_number(range, "limit"));
}

static void buses_print_bridge(struct command_call *call, const json_t *bus)
{
	command_printf(call, "      BUS %" PRIu64 ".\n", control_number(bus, "number"));
	command_printf(call, "      secondary bus %" PRIu64 ".\n",
		       control_number(bus, "secondary"));
	command_printf(call, "      subordinate bus %" PRIu64 ".\n",
		       control_number(bus, "subordinate"));
	buses_print_range(call, "IO", 4, json_object_get(bus, "io_range"));
	buses_print_range(call, "memory", 8, json_object_get(bus, "memory_range"));
	buses_print_range(call, "prefetchable memory", 8,
			  json_object_get(bus, "prefetchable_range"));
}

static void buses_print_region(struct command_call *call, const json_t *region)
{
	uint64_t address = control_number(region, "address");

	if (!json_object_get(region, "mem_type_64")) {
		command_printf(call,
			       "      BAR%" PRIu64 ": I/O at 0x%04" PRIx64 " [0x%04" PRIx64 "].\n",
			       control_number(region, "bar"), address,
			       address + control_number(region, "size") - 1);
		return;
	}
	command_printf(call,
		       "      BAR%" PRIu64 ": %d bit%s memory at 0x%08" PRIx64 " [0x%08" PRIx64
		       "].\n",
		       control_number(region, "bar"), control_flag(region, "mem_type_64") ? 64 : 32,
		       control_flag(region, "prefetch") ? " prefetchable" : "", address,
		       address + control_number(region, "size") - 1);
}

/* What stands between a function's place and what is behind it. */
static void buses_print_function(struct command_call *call, const json_t *dev)
{
	const json_t *class = json_object_get(dev, "class_info"), *id = json_object_get(dev, "id");
	const json_t *bridge = json_object_get(dev, "pci_bridge"), *region;
	size_t i;

	command_printf(call, "  Bus %2" PRIu64 ", device %3" PRIu64 ", function %" PRIu64 ":\n",
		       control_number(dev, "bus"), control_number(dev, "slot"),
		       control_number(dev, "function"));
	if (json_object_get(class, "desc"))
		command_printf(call, "    %s", control_text(class, "desc"));
	else
		command_printf(call, "    Class %04" PRIu64, control_number(class, "class"));
	command_printf(call, ": PCI device %04" PRIx64 ":%04" PRIx64 "\n",
		       control_number(id, "vendor"), control_number(id, "device"));
	if (json_object_get(id, "subsystem-vendor"))
		command_printf(call, "      PCI subsystem %04" PRIx64 ":%04" PRIx64 "\n",
			       control_number(id, "subsystem-vendor"),
			       control_number(id, "subsystem"));
	if (control_number(dev, "irq_pin"))
		command_printf(call, "      IRQ %" PRIu64 ", pin %c\n", control_number(dev, "irq"),
			       (char)('A' + control_number(dev, "irq_pin") - 1));
	if (bridge)
		buses_print_bridge(call, json_object_get(bridge, "bus"));
	json_array_foreach (json_object_get(dev, "regions"), i, region)
		buses_print_region(call, region);
	command_printf(call, "      id \"%s\"\n", control_text(dev, "qdev_id"));
}

static void buses_print_devices(struct command_call *call, const json_t *devices)
{
	const json_t *dev;
	size_t i;

	json_array_foreach (devices, i, dev) {
		buses_print_function(call, dev);
		buses_print_devices(call,
				    json_object_get(json_object_get(dev, "pci_bridge"), "devices"));
	}
}

static void buses_print(struct command_call *call, const json_t *value)
{
	const json_t *bus;
	size_t i;

	json_array_foreach (value, i, bus)
		buses_print_devices(call, json_object_get(bus, "devices"));
}

/* Of each device that is connected a line: none is. */
static int usb_show(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	const struct control *control = command_ctx(call);
	const struct vm_config *config = vm_config(control->vm);

	(void)args;
	(void)ret_value;
	for (size_t i = 0; i < config->nr_devices; i++)
		if (config->devices[i]->type == VM_DEVICE_PIIX3_UHCI)
			return 0;
	return err_set(err, ENODEV, "USB support not enabled");
}

static const struct command buses_commands[] = {
	{
		.name = "query-pci",
		.human = "info pci",
		.returns = "[PciInfo]",
		.help = "show the PCI devices",
		.run = buses_query,
		.print = buses_print,
	},
	{
		.human = "info usb",
		.help = "show what is connected to USB ports: nothing",
		.human_run = usb_show,
	},
	{.name = NULL},
};

static const struct qmp_type buses_types[] = {
	{.name = "PciInfo", .kind = QMP_STRUCT, .members = "bus:int devices:[PciDeviceInfo]"},
	{
		.name = "PciDeviceInfo",
		.kind = QMP_STRUCT,
		.members = "bus:int slot:int function:int class_info:PciDeviceClass id:PciDeviceId "
			   "*irq:int irq_pin:int qdev_id:str *pci_bridge:PciBridgeInfo "
			   "regions:[PciMemoryRegion]",
	},
	{.name = "PciDeviceClass", .kind = QMP_STRUCT, .members = "*desc:str class:int"},
	{
		.name = "PciDeviceId",
		.kind = QMP_STRUCT,
		.members = "device:int vendor:int *subsystem:int *subsystem-vendor:int",
	},
	{
		.name = "PciBridgeInfo",
		.kind = QMP_STRUCT,
		.members = "bus:PciBusInfo *devices:[PciDeviceInfo]",
	},
	{
		.name = "PciBusInfo",
		.kind = QMP_STRUCT,
		.members = "number:int secondary:int subordinate:int io_range:PciMemoryRange "
			   "memory_range:PciMemoryRange prefetchable_range:PciMemoryRange",
	},
	{.name = "PciMemoryRange", .kind = QMP_STRUCT, .members = "base:int limit:int"},
	{
		.name = "PciMemoryRegion",
		.kind = QMP_STRUCT,
		.members = "bar:int type:str address:int size:int *prefetch:bool *mem_type_64:bool",
	},
	{.name = NULL},
};

const struct qmp_module control_pci_module = {buses_commands, buses_types, NULL};
