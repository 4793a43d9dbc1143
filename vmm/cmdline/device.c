/* SPDX-License-Identifier: BSD-3-Clause */
/* -device: what devices there are and what can be said of each. See device.h and internal.h. */
#include "vmm/cmdline/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/opts.h"
#include "vmm/cmdline/internal.h"

#define PVPANIC_PORT                 0x505
#define VIRTIO_MEM_MEMSLOT_MIN_BYTES (2 * MIB)
#define ROOT_PORT_SLOT_MAX           8191 /* 13 bits */

#define FIELD(field) PROP_FIELD(struct vm_device_config, field)
#define GIVEN(field) PROP_GIVEN(struct vm_device_config, field)

static const struct prop common_list[] = {
	{.name = "id", .type = PROP_ID, FIELD(id), .help = "the name that others refer to"},
};
static const struct props common_props = {NULL, common_list, ARRAY_SIZE(common_list)};

static const struct prop pci_list[] = {
	{.name = "bus",
	 .type = PROP_ID,
	 FIELD(pci.bus),
	 .help = "the machine's root bus, or the id of a pcie-root-port"},
	{.name = "addr",
	 .type = PROP_PCI_ADDR,
	 FIELD(pci.slot),
	 PROP_SECOND(struct vm_device_config, pci.function),
	 GIVEN(pci.has_addr),
	 .help = "slot on the bus; the first free one if left out"},
	{.name = "multifunction",
	 .type = PROP_BOOL,
	 FIELD(pci.multifunction),
	 .defval = "off",
	 .help = "of function 0: there may be more functions in its slot"},
};
static const struct props pci_props = {&common_props, pci_list, ARRAY_SIZE(pci_list)};

static const struct prop virtio_list[] = {
	{.name = "packed",
	 .type = PROP_BOOL,
	 FIELD(virtio.packed),
	 .defval = "off",
	 .help = "offer packed virtqueues"},
	{.name = "event_idx",
	 .type = PROP_BOOL,
	 FIELD(virtio.event_idx),
	 .defval = "on",
	 .help = "offer event index"},
	{.name = "indirect_desc",
	 .type = PROP_BOOL,
	 FIELD(virtio.indirect_desc),
	 .defval = "on",
	 .help = "offer indirect descriptors"},
	{.name = "vectors",
	 .type = PROP_UINT,
	 FIELD(virtio.vectors),
	 .max = 2048,
	 .help = "MSI-X vectors; what the device needs if left out"},
	{.name = "disable-legacy",
	 .type = PROP_ON_OFF_AUTO,
	 .refused = "off",
	 .why = "devices speak VIRTIO 1 only",
	 .defval = "on",
	 .help = "no legacy interface"},
	{.name = "disable-modern",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "devices speak VIRTIO 1 only",
	 .defval = "off",
	 .help = "no VIRTIO 1 interface"},
	{.name = "iommu_platform",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "there is no IOMMU",
	 .defval = "off",
	 .help = "offer VIRTIO_F_ACCESS_PLATFORM"},
	{.name = "ats",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "there is no IOMMU",
	 .defval = "off",
	 .help = "address translation services"},
	{.name = "page-per-vq",
	 .type = PROP_BOOL,
	 .refused = "on",
	 .why = "all queues are notified in one page",
	 .defval = "off",
	 .help = "a page of notifications for each queue"},
};
static const struct props virtio_props = {&pci_props, virtio_list, ARRAY_SIZE(virtio_list)};

/* By enum vm_violation_action. */
static const char *const violation_actions[] = {"deny", "pause", "shutdown", NULL};

static const struct prop virtio_mem_list[] = {
	{.name = "memdev",
	 .type = PROP_ID,
	 .flags = PROP_REQUIRED,
	 FIELD(virtio_mem.memdev_id),
	 .help = "the id of its memory, a memory backend"},
	{.name = "node",
	 .type = PROP_UINT,
	 FIELD(virtio_mem.node),
	 .max = VM_NUMA_NODES_MAX - 1,
	 .defval = "0",
	 .help = "NUMA node of the memory"},
	{.name = "requested-size",
	 .type = PROP_SIZE,
	 FIELD(virtio_mem.requested_size_bytes),
	 GIVEN(virtio_mem.has_requested_size),
	 .defval = "0",
	 .help = "memory that the guest is asked to use"},
	{.name = "block-size",
	 .type = PROP_SIZE,
	 .flags = PROP_POW2,
	 FIELD(virtio_mem.block_size_bytes),
	 .min = CMDLINE_PAGE_BYTES,
	 .help = "unit of plugging, a power of two; 2 MiB if left out, or a page of its memory "
		 "where that is larger"},
	{.name = "size",
	 .type = PROP_SIZE,
	 .flags = PROP_READONLY,
	 .help = "it is what the guest uses now"},
	{.name = "memaddr",
	 .type = PROP_SIZE,
	 FIELD(virtio_mem.memaddr_gpa),
	 .help = "guest physical address; chosen if left out"},
	{.name = "prealloc",
	 .type = PROP_BOOL,
	 FIELD(virtio_mem.prealloc),
	 .defval = "off",
	 .help = "allocate memory before the guest gets it"},
	{.name = "unplugged-inaccessible",
	 .type = PROP_ON_OFF_AUTO,
	 FIELD(virtio_mem.unplugged_inaccessible),
	 .defval = "auto",
	 .help = "tell the guest that unplugged memory is not there: auto offers it, on refuses "
		 "drivers that do not know it"},
	{.name = "dynamic-memslots",
	 .type = PROP_BOOL,
	 FIELD(virtio_mem.dynamic_memslots),
	 .defval = "off",
	 .help = "accepted; memory slots follow the plugged memory as they need to"},
	{.name = "guard",
	 .type = PROP_BOOL,
	 FIELD(virtio_mem.guard),
	 .defval = "on",
	 .help = "keep the guest from memory that it gave up, block by block"},
	{.name = "memslot-size",
	 .type = PROP_SIZE,
	 .flags = PROP_POW2,
	 FIELD(virtio_mem.memslot_bytes),
	 .min = VIRTIO_MEM_MEMSLOT_MIN_BYTES,
	 .help = "unit in which memory comes to the guest's address space and goes, a power of "
		 "two; chosen if left out"},
	{.name = "on-violation",
	 .type = PROP_ENUM,
	 FIELD(virtio_mem.on_violation),
	 .names = violation_actions,
	 .defval = "deny",
	 .help = "what becomes of a guest that touches unplugged memory"},
	{.name = "guest-requests",
	 .type = PROP_BOOL,
	 FIELD(virtio_mem.guest_requests),
	 .defval = "off",
	 .help = "the guest may ask for another size by itself"},
	{.name = "request-limit",
	 .type = PROP_SIZE,
	 FIELD(virtio_mem.request_limit_bytes),
	 GIVEN(virtio_mem.has_request_limit),
	 .help = "the most that it is granted, with what it has anyway; all of the memory if left "
		 "out"},
	{.name = "request-rate",
	 .type = PROP_SIZE,
	 FIELD(virtio_mem.request_rate_bytes),
	 GIVEN(virtio_mem.has_request_rate),
	 .help = "how much more it is granted in a second; no limit if left out, or 0"},
};
static const struct props virtio_mem_props = {&virtio_props, virtio_mem_list,
					      ARRAY_SIZE(virtio_mem_list)};

static const struct prop virtio_rng_list[] = {
	{.name = "rng",
	 .type = PROP_ID,
	 FIELD(virtio_rng.rng_id),
	 .help = "the id of an rng-random or rng-builtin; the host's kernel if left out"},
	{.name = "max-bytes",
	 .type = PROP_UINT,
	 FIELD(virtio_rng.max_bytes),
	 .min = 1,
	 .help = "at most so many in each period; no limit if left out"},
	{.name = "period",
	 .type = PROP_UINT,
	 FIELD(virtio_rng.period_ms),
	 .min = 1,
	 .defval = "65536",
	 .help = "in milliseconds"},
};
static const struct props virtio_rng_props = {&virtio_props, virtio_rng_list,
					      ARRAY_SIZE(virtio_rng_list)};

static const struct prop virtio_balloon_list[] = {
	{.name = "deflate-on-oom",
	 .type = PROP_BOOL,
	 FIELD(virtio_balloon.deflate_on_oom),
	 .defval = "off",
	 .help = "the guest may take pages back when it is out of memory"},
	{.name = "free-page-reporting",
	 .type = PROP_BOOL,
	 FIELD(virtio_balloon.free_page_reporting),
	 .defval = "off",
	 .help = "the guest says which pages it has no use for, and the host takes them"},
	{.name = "free-page-hint",
	 .type = PROP_BOOL,
	 FIELD(virtio_balloon.free_page_hint),
	 .defval = "off",
	 .help = "a migration asks which pages need not be sent"},
	{.name = "page-poison",
	 .type = PROP_BOOL,
	 FIELD(virtio_balloon.page_poison),
	 .defval = "on",
	 .help = "the guest says what it fills free pages with"},
	{.name = "guest-stats-polling-interval",
	 .type = PROP_UINT,
	 FIELD(virtio_balloon.guest_stats_polling_interval_s),
	 .defval = "0",
	 .help = "ask for the guest's statistics so often, in seconds; 0: not"},
	{.name = "iothread",
	 .type = PROP_ID,
	 FIELD(virtio_balloon.iothread_id),
	 .help = "accepted; the id of an iothread"},
};
static const struct props virtio_balloon_props = {&virtio_props, virtio_balloon_list,
						  ARRAY_SIZE(virtio_balloon_list)};

static const struct prop isa_serial_list[] = {
	{.name = "chardev",
	 .type = PROP_ID,
	 .flags = PROP_REQUIRED,
	 FIELD(isa_serial.chardev_id),
	 .help = "the id of a character device"},
	{.name = "index",
	 .type = PROP_UINT,
	 FIELD(isa_serial.index),
	 GIVEN(isa_serial.has_index),
	 .max = VM_SERIAL_MAX - 1,
	 .help = "0 is COM1; the lowest free one if left out"},
	{.name = "iobase",
	 .type = PROP_UINT,
	 FIELD(isa_serial.iobase),
	 GIVEN(isa_serial.has_iobase),
	 .min = 0x100,
	 .max = 0xfff8,
	 .help = "first port; that of the index if left out"},
	{.name = "irq",
	 .type = PROP_UINT,
	 FIELD(isa_serial.irq),
	 GIVEN(isa_serial.has_irq),
	 .min = 3,
	 .max = 15,
	 .help = "interrupt; that of the index if left out"},
};
static const struct props isa_serial_props = {&common_props, isa_serial_list,
					      ARRAY_SIZE(isa_serial_list)};

static const struct prop pvpanic_list[] = {
	{.name = "ioport",
	 .type = PROP_UINT,
	 FIELD(pvpanic.ioport),
	 .min = PVPANIC_PORT,
	 .max = PVPANIC_PORT,
	 .defval = "0x505",
	 .help = "its port"},
};
static const struct props pvpanic_props = {&common_props, pvpanic_list, ARRAY_SIZE(pvpanic_list)};

static const struct prop root_port_list[] = {
	{.name = "port",
	 .type = PROP_UINT,
	 FIELD(root_port.port),
	 .defval = "0",
	 .help = "number of the port, for the guest to read"},
	{.name = "chassis",
	 .type = PROP_UINT,
	 FIELD(root_port.chassis),
	 .defval = "0",
	 .help = "accepted; where several boxes have slots"},
	{.name = "slot",
	 .type = PROP_UINT,
	 FIELD(root_port.slot),
	 GIVEN(root_port.has_slot),
	 .max = ROOT_PORT_SLOT_MAX,
	 .help = "number of the slot, for the guest to read; chosen if left out"},
	{.name = "hotplug",
	 .type = PROP_BOOL,
	 FIELD(root_port.hotplug),
	 .defval = "on",
	 .help = "devices may come and go while the guest runs"},
	{.name = "mem-reserve",
	 .type = PROP_SIZE,
	 FIELD(root_port.memory_reserve),
	 .help = "room for BARs below 4 GiB; what hot-plug needs if left out"},
	{.name = "pref64-reserve",
	 .type = PROP_SIZE,
	 FIELD(root_port.prefetch_reserve),
	 .help = "room for 64-bit BARs; what hot-plug needs if left out"},
	{.name = "io-reserve",
	 .type = PROP_SIZE,
	 .flags = PROP_SILENT,
	 .help = "accepted; no device here has ports behind one"},
	{.name = "bus-reserve",
	 .type = PROP_UINT,
	 .flags = PROP_SILENT,
	 .max = 255,
	 .help = "accepted; there are no bridges behind one"},
};
static const struct props root_port_props = {&pci_props, root_port_list,
					     ARRAY_SIZE(root_port_list)};

static const struct prop piix3_uhci_list[] = {
	{.name = "bandwidth",
	 .type = PROP_UINT,
	 .flags = PROP_SILENT,
	 .max = UINT32_MAX,
	 .help = "accepted; nothing is transferred"},
	{.name = "maxframes",
	 .type = PROP_UINT,
	 .flags = PROP_SILENT,
	 .max = UINT32_MAX,
	 .help = "accepted; nothing is transferred"},
};
static const struct props piix3_uhci_props = {&pci_props, piix3_uhci_list,
					      ARRAY_SIZE(piix3_uhci_list)};

const struct device_class device_classes[] = {
	{"isa-serial", VM_DEVICE_ISA_SERIAL, "ISA", "serial port 16550A", &isa_serial_props},
	{"pcie-root-port", VM_DEVICE_ROOT_PORT, "PCI", "a bus of its own with a slot",
	 &root_port_props},
	{"piix3-usb-uhci", VM_DEVICE_PIIX3_UHCI, "PCI", "USB controller with two empty ports",
	 &piix3_uhci_props},
	{"pvpanic", VM_DEVICE_PVPANIC, "ISA", "port by which a guest reports its panic",
	 &pvpanic_props},
	{"virtio-balloon-pci", VM_DEVICE_VIRTIO_BALLOON, "PCI", "memory that the guest gives up",
	 &virtio_balloon_props},
	{"virtio-balloon-pci-non-transitional", VM_DEVICE_VIRTIO_BALLOON, "PCI", NULL,
	 &virtio_balloon_props},
	{"virtio-mem-pci", VM_DEVICE_VIRTIO_MEM, "PCI", "memory that grows and shrinks",
	 &virtio_mem_props},
	{"virtio-rng-pci", VM_DEVICE_VIRTIO_RNG, "PCI", "source of random bytes",
	 &virtio_rng_props},
	{"virtio-rng-pci-non-transitional", VM_DEVICE_VIRTIO_RNG, "PCI", NULL, &virtio_rng_props},
	{NULL, 0, NULL, NULL, NULL},
};

const struct device_class *device_class_find(const char *name)
{
	for (const struct device_class *class = device_classes; class->name; class ++) {
		if (!strcmp(class->name, name))
			return class;
	}
	return NULL;
}

static int device_class_unknown(const char *option, const char *name, struct err **err)
{
	char list[256];
	size_t len = 0;

	for (const struct device_class *class = device_classes; class->name; class ++) {
		if (class->help)
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
						len ? ", " : "", class->name);
	}
	return device_unknown(option, name, list, err);
}

static const struct device_class *device_class_of(enum vm_device_type type)
{
	const struct device_class *class = device_classes;

	while (class->type != type)
		class ++;
	return class;
}

const char *vm_device_type_name(enum vm_device_type type)
{
	return device_class_of(type)->name;
}

/* What a table cannot say: fields whose default is no value that can be given. */
static int device_config_init(const struct device_class *class, struct vm_device_config *device)
{
	device->type = class->type;
	device->virtio.vectors = UINT32_MAX;
	if (class->type == VM_DEVICE_VIRTIO_RNG)
		device->virtio_rng.max_bytes = UINT64_MAX;
	if (class->type == VM_DEVICE_ROOT_PORT)
		device->root_port.memory_reserve = device->root_port.prefetch_reserve = UINT64_MAX;
	return props_init(class->props, device);
}

static int device_config_check(const char *what, const struct vm_device_config *device,
			       struct err **err)
{
	if (device->type == VM_DEVICE_ISA_SERIAL && device->isa_serial.iobase % 8)
		return err_set(err, EINVAL, "%s: iobase=0x%x is not a multiple of 8", what,
			       device->isa_serial.iobase);
	return 0;
}

int device_config_parse(const char *option, json_t *values, struct vm_device_config *ret_device,
			struct err **err)
{
	const char *name = opts_string(values, "driver");
	struct vm_device_config device = {0};
	const struct device_class *class;
	char what[CMDLINE_WHAT_MAX];
	int ret;

	if (!name)
		return err_set(err, EINVAL, "%s: needs driver=, the name of the device", option);
	class = device_class_find(name);
	if (!class)
		return device_class_unknown(option, name, err);
	cmdline_what(what, option, class->name, opts_string(values, "id"));
	json_object_del(values, "driver");
	ret = device_config_init(class, &device) < 0 ? cmdline_oom(err) : 0;
	if (!ret)
		ret = props_apply(class->props, what, values, &device, err);
	if (!ret)
		ret = cmdline_check_id(what, device.id, err);
	if (!ret)
		ret = device_config_check(what, &device, err);
	if (ret < 0)
		device_config_done(&device);
	else
		*ret_device = device;
	return ret;
}

void device_config_done(struct vm_device_config *device)
{
	props_done(device_class_of(device->type)->props, device);
}

static int device_help(struct vm_config *config, const struct device_class *one, struct err **err)
{
	char *props = one ? props_help(one->props) : NULL;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out || (one && !props)) {
		if (out)
			fclose(out);
		free(text);
		free(props);
		return cmdline_oom(err);
	}
	if (one) {
		fprintf(out, "%s: %s (%s)\nProperties:\n%s", one->name,
			device_class_of(one->type)->help, one->bus, props);
	} else {
		fprintf(out, "Devices:\n");
		for (const struct device_class *class = device_classes; class->name; class ++) {
			if (class->help)
				fprintf(out, "  %-18s  %s (%s)\n", class->name, class->help,
					class->bus);
		}
	}
	fclose(out);
	free(props);
	config->output = text;
	return 0;
}

int cmdline_device(struct cmdline *cl, const char *option, const char *arg, struct err **err)
{
	struct vm_device_config *slot;
	const struct device_class *class;
	struct vm_device_config device;
	const char *name;
	json_t *values;
	int ret;

	ret = opts_parse(option, arg, "driver", OPTS_JSON, &values, err);
	if (ret < 0)
		return ret;
	name = opts_string(values, "driver");
	class = name ? device_class_find(name) : NULL;
	if (opts_wants_help(values, "driver") && (class || !json_object_get(values, "help"))) {
		ret = device_help(cl->config, class, err);
		json_decref(values);
		return ret;
	}
	ret = device_config_parse(option, values, &device, err);
	json_decref(values);
	if (ret < 0)
		return ret;
	slot = cmdline_part_add(&cl->config->devices, &cl->config->nr_devices, sizeof(*slot));
	if (!slot) {
		device_config_done(&device);
		return cmdline_oom(err);
	}
	*slot = device;
	return 0;
}
