/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What rows of the object tree's device classes read and set: see qom.h.
 *
 * A virtio device is two nodes, the PCI function and what is behind it; a memory device has the same
 * properties on both, and programs set the requested size on either.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/cmdline/live.h"
#include "vmm/control/answer.h"
#include "vmm/control/explain.h"
#include "vmm/control/internal.h"
#include "vmm/control/qom.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/mem.h"

/* ---- every device ---- */

static json_t *device_parent_bus(const struct qom_node *node)
{
	struct qom_node bus;

	return qom_bus_of(node, &bus) ? qom_path_json(&bus) : qom_text(NULL);
}

static json_t *device_realized(const struct qom_node *node)
{
	(void)node;
	return json_true();
}

static json_t *device_hotplugged(const struct qom_node *node)
{
	const struct vm_device_config *device = node->part;

	return json_boolean((node->kind == QOM_DEVICE_NODE || node->kind == QOM_BACKEND) &&
			    device->live);
}

/* Can it leave? From a slot that lets devices go. */
static json_t *device_hotpluggable(const struct qom_node *node)
{
	const struct vm_device_config *device = node->part;

	return json_boolean(node->kind == QOM_DEVICE_NODE && vm_pci_device(node->vm, device) &&
			    cmdline_device_can_come(device) &&
			    cmdline_device_has_hotplug(vm_config(node->vm), device));
}

const struct qom_row qom_device_rows[] = {
	{.name = "parent_bus", .type = "link<bus>", .get = device_parent_bus},
	{.name = "realized", .type = "bool", .get = device_realized},
	{.name = "hotplugged", .type = "bool", .get = device_hotplugged},
	{.name = "hotpluggable", .type = "bool", .get = device_hotpluggable},
	{.name = NULL},
};

/* ---- PCI ---- */

static json_t *pci_addr(const struct qom_node *node)
{
	const struct pci_device *dev = vm_pci_device(node->vm, node->part);

	return json_integer(pci_device_slot(dev) << 3 | pci_device_function(dev));
}

static json_t *pci_legacy_addr(const struct qom_node *node)
{
	const struct pci_device *dev = vm_pci_device(node->vm, node->part);

	return json_sprintf("%02x.%x", pci_device_slot(dev), pci_device_function(dev));
}

const struct qom_row qom_pci_rows[] = {
	{.name = "addr", .type = "int32", .defval = "-1", .get = pci_addr},
	{.name = "legacy-addr", .type = "str", .get = pci_legacy_addr},
	{.name = NULL},
};

/* @size bytes at @offset of a capability, 0 without one. The list is not the guest's to change. */
static uint32_t pci_capability(const struct qom_node *node, unsigned int id, unsigned int offset,
			       unsigned int size)
{
	struct pci_device *dev = vm_pci_device(node->vm, node->part);
	unsigned int at = pci_device_config(dev, PCI_CAPABILITIES, 1);

	while (at && pci_device_config(dev, at, 1) != id)
		at = pci_device_config(dev, at + 1, 1);
	return at ? pci_device_config(dev, at + offset, size) : 0;
}

/* The number that "what the device needs" came to. */
static json_t *pci_vectors(const struct qom_node *node)
{
	const struct vm_device_config *device = node->part;
	uint32_t control = pci_capability(node, PCI_CAP_ID_MSIX, PCI_MSIX_CONTROL, 2);

	return json_integer(device->virtio.vectors ? (control & (PCI_MSIX_VECTORS_MAX - 1)) + 1
						   : 0);
}

const struct qom_row qom_virtio_pci_rows[] = {
	{.name = "vectors", .type = "uint32", .defval = "4294967295", .get = pci_vectors},
	{.name = NULL},
};

static json_t *pci_slot(const struct qom_node *node)
{
	uint32_t capabilities =
		pci_capability(node, PCI_CAP_ID_EXPRESS, PCI_EXPRESS_SLOT_CAPABILITIES, 4);

	return json_integer(capabilities / PCI_SLOT_CAP_NUMBER(1));
}

const struct qom_row qom_root_port_rows[] = {
	{.name = "slot", .type = "uint16", .get = pci_slot},
	{.name = "bus-reserve", .type = "uint32", .defval = "4294967295"},
	{.name = NULL},
};

/* ---- virtio ---- */

const struct qom_row qom_virtio_rows[] = {
	{.name = "event_idx", .type = "bool"},
	{.name = "indirect_desc", .type = "bool"},
	{.name = "iommu_platform", .type = "bool"},
	{.name = "packed", .type = "bool"},
	{.name = NULL},
};

/* A memory backend serves one device at a time: by it they are told apart, also without an id. */
const struct vm_memory_device *qom_memory_device(const struct qom_node *node)
{
	const struct vm_device_config *device = node->part;

	for (size_t i = 0; i < vm_nr_memory_devices(node->vm); i++) {
		const struct vm_memory_device *d = vm_memory_device(node->vm, i);

		if (!strcmp(d->memdev_id, device->virtio_mem.memdev_id))
			return d;
	}
	return NULL;
}

static struct vmem_device_info mem_info(const struct qom_node *node)
{
	struct vmem_device_info info;

	virtio_mem_info(qom_memory_device(node)->mem, &info);
	return info;
}

static json_t *mem_memaddr(const struct qom_node *node)
{
	return json_integer((json_int_t)mem_info(node).addr);
}

static json_t *mem_size(const struct qom_node *node)
{
	return json_integer((json_int_t)mem_info(node).plugged_size);
}

static json_t *mem_requested_size(const struct qom_node *node)
{
	return json_integer((json_int_t)mem_info(node).requested_size);
}

static int mem_set_requested_size(const struct qom_node *node, const json_t *value,
				  struct err **err)
{
	int ret;

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return err_set(err, EINVAL, "Parameter 'requested-size' expects uint64");
	ret = vm_check_resize(node->vm, err);
	if (ret)
		return ret;
	return virtio_mem_resize(qom_memory_device(node)->mem, (uint64_t)json_integer_value(value),
				 err);
}

static json_t *mem_block_size(const struct qom_node *node)
{
	return json_integer((json_int_t)mem_info(node).block_size);
}

static json_t *mem_region_size(const struct qom_node *node)
{
	return json_integer((json_int_t)mem_info(node).region_size);
}

static json_t *mem_usable_region_size(const struct qom_node *node)
{
	return json_integer((json_int_t)mem_info(node).usable_region_size);
}

static json_t *mem_memslot_size(const struct qom_node *node)
{
	return json_integer((json_int_t)qom_memory_device(node)->memslot_bytes);
}

static json_t *mem_request_limit(const struct qom_node *node)
{
	return json_integer((json_int_t)mem_info(node).request_limit);
}

static json_t *mem_request_rate(const struct qom_node *node)
{
	return json_integer((json_int_t)mem_info(node).request_rate);
}

static json_t *mem_granted_size(const struct qom_node *node)
{
	struct vmem_device_info info = mem_info(node);

	return json_integer((json_int_t)(info.requested_size - info.owner_size));
}

static int mem_set_request_limit(const struct qom_node *node, const json_t *value, struct err **err)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return err_set(err, EINVAL, "Parameter 'request-limit' expects uint64");
	return virtio_mem_set_request_policy(qom_memory_device(node)->mem,
					     (uint64_t)json_integer_value(value),
					     mem_info(node).request_rate, err);
}

static int mem_set_request_rate(const struct qom_node *node, const json_t *value, struct err **err)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return err_set(err, EINVAL, "Parameter 'request-rate' expects uint64");
	return virtio_mem_set_request_policy(qom_memory_device(node)->mem,
					     mem_info(node).request_limit,
					     (uint64_t)json_integer_value(value), err);
}

static json_t *mem_memdev(const struct qom_node *node)
{
	const struct vm_device_config *device = node->part;
	struct qom_node memdev = qom_memdev(node->vm, device->virtio_mem.memdev);

	return qom_path_json(&memdev);
}

static json_t *mem_request_status(const struct qom_node *node)
{
	struct virtio_mem *mem = qom_memory_device(node)->mem;

	return json_string(virtio_mem_progress_name(virtio_mem_progress(mem)));
}

/* "" when there is nothing to explain. */
static json_t *mem_request_explanation(const struct qom_node *node)
{
	struct resize_explanation explanation;

	if (!control_mem_explain(node->vm, qom_memory_device(node), &explanation))
		return qom_text(NULL);
	return qom_text(explanation.text);
}

static json_t *mem_guard_mechanism(const struct qom_node *node)
{
	struct vmem_guard_info info;

	virtio_mem_guard_info(qom_memory_device(node)->mem, &info);
	return json_string(info.mechanism);
}

static json_t *mem_guard_memslots(const struct qom_node *node)
{
	struct vmem_guard_info info;

	virtio_mem_guard_info(qom_memory_device(node)->mem, &info);
	return json_integer(info.memslots);
}

static json_t *mem_violation_writes(const struct qom_node *node)
{
	struct virtio_mem_violations violations;

	virtio_mem_violations(qom_memory_device(node)->mem, &violations);
	return json_integer((json_int_t)violations.writes);
}

static json_t *mem_violation_reads(const struct qom_node *node)
{
	struct virtio_mem_violations violations;

	virtio_mem_violations(qom_memory_device(node)->mem, &violations);
	return json_integer((json_int_t)violations.reads);
}

const struct qom_row qom_virtio_mem_rows[] = {
	{.name = "memdev", .type = "link<memory-backend>", .get = mem_memdev},
	{.name = "node", .type = "uint32"},
	{.name = "size", .type = "size", .help = "memory that the guest uses now", .get = mem_size},
	/* Where there is none, the memory backend may have one: no default. */
	{.name = "requested-size",
	 .type = "size",
	 .get = mem_requested_size,
	 .set = mem_set_requested_size},
	/* Where the guest may not ask for another size, both are 0. */
	{.name = "request-limit",
	 .type = "size",
	 .get = mem_request_limit,
	 .set = mem_set_request_limit},
	{.name = "request-rate",
	 .type = "size",
	 .get = mem_request_rate,
	 .set = mem_set_request_rate},
	{.name = "granted-size",
	 .type = "size",
	 .help = "part of requested-size that the guest was granted when it asked for more",
	 .get = mem_granted_size},
	{.name = "block-size", .type = "size", .get = mem_block_size},
	{.name = "memaddr", .type = "uint64", .defval = "0", .get = mem_memaddr},
	{.name = "on-violation", .type = "VirtioMemViolationAction"},
	{.name = "memslot-size", .type = "size", .get = mem_memslot_size},
	{.name = "region-size",
	 .type = "size",
	 .help = "memory that there is at most",
	 .get = mem_region_size},
	{.name = "usable-region-size",
	 .type = "size",
	 .help = "part of the region in which the guest may ask for blocks",
	 .get = mem_usable_region_size},
	{.name = "request-status",
	 .type = "VirtioMemRequestStatus",
	 .help = "how far the last change of requested-size got",
	 .get = mem_request_status},
	{.name = "request-explanation",
	 .type = "string",
	 .help = "why the size is not the requested one, as far as a host can know",
	 .get = mem_request_explanation},
	{.name = "guard-mechanism",
	 .type = "string",
	 .help = "what keeps the guest from unplugged blocks",
	 .get = mem_guard_mechanism},
	{.name = "guard-memslots",
	 .type = "uint32",
	 .help = "memory slots of the hypervisor in use",
	 .get = mem_guard_memslots},
	{.name = "violation-writes",
	 .type = "uint64",
	 .help = "writes of the guest to unplugged blocks",
	 .get = mem_violation_writes},
	{.name = "violation-reads",
	 .type = "uint64",
	 .help = "reads of the guest from unplugged blocks",
	 .get = mem_violation_reads},
	{.name = NULL},
};

static json_t *rng_rng(const struct qom_node *node)
{
	const struct vm_device_config *device = node->part;
	struct qom_node rng;

	if (!device->virtio_rng.rng)
		return qom_text(NULL);
	rng = qom_rng(node->vm, device->virtio_rng.rng);
	return qom_path_json(&rng);
}

const struct qom_row qom_virtio_rng_rows[] = {
	{.name = "rng", .type = "link<rng-backend>", .get = rng_rng},
	{.name = "max-bytes", .type = "uint64", .defval = "9223372036854775807"},
	{.name = NULL},
};

/* ---- the balloon, one of a machine ---- */

/* What the guest did not say is not in it. */
static json_t *balloon_guest_stats(const struct qom_node *node)
{
	struct balloon_stats stats;
	json_t *values = json_object(), *value;

	balloon_stats(vm_balloon(node->vm), &stats);
	for (enum balloon_stat s = 0; s < BALLOON_STATS; s++) {
		if (stats.values[s] != BALLOON_STAT_UNKNOWN)
			control_set(&values, balloon_stat_name(s),
				    json_integer((json_int_t)num_min(stats.values[s], INT64_MAX)));
	}
	value = json_pack("{s:I}", "last-update", (json_int_t)stats.last_update_s);
	control_set(&value, "stats", values);
	return value;
}

static json_t *balloon_polling_interval(const struct qom_node *node)
{
	struct balloon_stats stats;

	balloon_stats(vm_balloon(node->vm), &stats);
	return json_integer(stats.interval_s);
}

static int balloon_set_polling_interval(const struct qom_node *node, const json_t *value,
					struct err **err)
{
	json_int_t seconds = json_integer_value(value);

	if (!json_is_integer(value) || seconds < 0 || seconds > UINT32_MAX)
		return err_set(
			err, EINVAL,
			"Parameter 'guest-stats-polling-interval' expects seconds, from 0 to "
			"%u",
			UINT32_MAX);
	balloon_set_stats_interval(vm_balloon(node->vm), (uint32_t)seconds);
	return 0;
}

static json_t *balloon_iothread(const struct qom_node *node)
{
	const struct vm_device_config *device = node->part;
	const char *id = device->virtio_balloon.iothread_id;

	return id ? json_sprintf("/objects/%s", id) : qom_text(NULL);
}

const struct qom_row qom_virtio_balloon_rows[] = {
	{.name = "iothread", .type = "link<iothread>", .get = balloon_iothread},
	{.name = "guest-stats",
	 .type = "guest statistics",
	 .help = "what the guest says of its memory, and when",
	 .get = balloon_guest_stats},
	{.name = "guest-stats-polling-interval",
	 .type = "int",
	 .help = "seconds from one question to the next; 0: the guest is not asked",
	 .get = balloon_polling_interval,
	 .set = balloon_set_polling_interval},
	{.name = NULL},
};

/* ---- ISA ---- */

const struct qom_row qom_isa_serial_rows[] = {
	{.name = "index", .type = "uint32"},
	{.name = "iobase", .type = "uint32"},
	{.name = "irq", .type = "uint32"},
	{.name = NULL},
};
