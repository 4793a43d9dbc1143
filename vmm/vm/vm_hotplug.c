/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices that come and go while the machine is there, behind root ports (vmm/pci/slot.c) and in
 * slots of a flat root bus (vmm/pci/root.c).
 *
 * I1  Adding is all or nothing: configuration, place in the address map, ACPI tables, parts, slot,
 *     in this order; a failure takes them back in reverse.
 * I2  A device leaves when the guest has given it up, or at a reset if it was asked to; a memory
 *     device that was to have memory again since then stays. Whoever waits hears
 *     VM_EVENT_DEVICE_DELETED; what it does then finds its id, port, memory backend and addresses
 *     free. During a migration nothing leaves; a reset before its end takes back what was given up.
 *     Also where that needs no guest, it happens on a later turn of the main loop: who asked has
 *     the answer before the event, for libvirt waits for an event that comes behind it.
 * I3  A guest that answers a request by keeping the device is heard:
 *     VM_EVENT_DEVICE_UNPLUG_GUEST_ERROR, and it may be asked again at once.
 * I4  What is plugged into a memory device that leaves all the same (the guest took it out of its
 *     slot with memory in use) is the host's again.
 *
 * I5  A device that comes, or is asked for, is the one function of its slot. What a guest gives up
 *     is a slot, with all functions that were in it from the start.
 *
 * Threads: the main one, with the vCPUs held while lists of devices change; vm_port_ejected(),
 * vm_port_kept() and their like for slots on a vCPU's.
 * The guest controls: when it gives a device up, also one that nobody asked for.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/num.h"
#include "base/ptrs.h"
#include "qmp/size.h"
#include "vmm/cmdline/live.h"
#include "vmm/isa/power.h"
#include "vmm/kvm/kvm.h"
#include "vmm/machine/layout.h"
#include "vmm/machine/platform.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/virtio.h"
#include "vmm/virtio/virtio_pci.h"
#include "vmm/vm/fences.h"
#include "vmm/vm/memslots.h"
#include "vmm/vm/vm_internal.h"

static uint64_t vm_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- what memory devices share ---- */

/* May a memory device come: is there address space for one, and a slot? */
static bool vm_may_grow(const struct vm *vm)
{
	const struct vm_config *c = vm->config;
	uint64_t used = c->memory.ram_bytes;
	size_t nr_free = cmdline_root_has_hotplug(c);

	for (size_t i = 0; i < c->nr_devices; i++) {
		const struct vm_device_config *d = c->devices[i];

		if (d->type == VM_DEVICE_VIRTIO_MEM)
			used += d->virtio_mem.region_size_bytes;
		nr_free += d->type == VM_DEVICE_ROOT_PORT && d->root_port.hotplug;
		nr_free -= d->pci.port && d->pci.port->root_port.hotplug && !d->pci.function;
	}
	return nr_free && used < c->memory.max_bytes;
}

void vm_choose_guards(struct vm *vm)
{
	uint32_t parts = fences_at_start(vm->layout->nr_devices, vm_may_grow(vm));

	for (size_t i = 0; i < vm->nr_devices; i++)
		vm->devices[i]->nr_guards = parts;
}

/* Memory slots and mappings for one more memory device, of what the others left. */
static int vm_share(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct vm_virtio_mem_config *c = &d->config->virtio_mem;
	const struct memslots_device device = {
		.id = d->config->id,
		.size_bytes = c->region_size_bytes,
		.block_bytes = c->block_size_bytes,
		.memslot_bytes = c->memslot_bytes,
	};
	int offered = kvm_vm_capability(vm->kvm, KVM_CAP_NR_MEMSLOTS);
	uint32_t *parts = calloc(vm->nr_memory_devices + 1, sizeof(*parts));
	uint64_t in_use = vm->layout->nr_ram;

	if (!parts)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < vm->nr_memory_devices; i++) {
		const struct vm_device *other = vm->memory_devices[i];

		parts[i] = other->nr_guards;
		in_use += other->config->virtio_mem.region_size_bytes / other->memslot_bytes + 1;
	}
	d->nr_guards = fences_later(parts, vm->nr_memory_devices);
	free(parts);
	return memslots_choose(&device, 1, (uint64_t)offered, in_use, &d->memslot_bytes, err);
}

/* ---- add ---- */

static int vm_place_add(struct vm *vm, const struct vm_device_config *config, struct err **err)
{
	const struct layout_device_config device = {
		.id = config->id,
		.size_bytes = config->virtio_mem.region_size_bytes,
		.block_size_bytes = config->virtio_mem.block_size_bytes,
		.memaddr_gpa = config->virtio_mem.memaddr_gpa,
		.node = config->virtio_mem.node,
	};
	int ret;

	if (config->type != VM_DEVICE_VIRTIO_MEM)
		return 0;
	ret = layout_device_add(vm->layout, &device, err);
	if (ret)
		return ret;
	ret = vm_build_acpi(vm, err);
	if (ret)
		layout_device_remove(vm->layout, vm->layout->nr_devices - 1);
	return ret;
}

/* The place of the memory device with this number. Tables that name it too long do no harm. */
static void vm_place_remove(struct vm *vm, size_t index)
{
	struct err *err = NULL;

	layout_device_remove(vm->layout, index);
	if (vm_build_acpi(vm, &err))
		err_free(err);
}

/* The device's parts, and into its slot. vCPUs are held. */
static int vm_parts_add(struct vm *vm, const struct vm_device_config *config, struct err **err)
{
	struct vm_device *d = vm_device_new(vm, config);
	int ret;

	if (!d)
		return err_set(err, ENOMEM, "out of memory");
	ret = config->type == VM_DEVICE_VIRTIO_MEM ? vm_share(vm, d, err) : 0;
	if (!ret)
		ret = vm_device_build(vm, d, err);
	if (!ret)
		ret = config->pci.port
			      ? pci_port_plug(vm_device_of(vm, config->pci.port)->port, err)
			      : pci_root_plug(virtio_pci_device(d->transport), err);
	if (ret) {
		vm_device_free(vm, d);
		return ret;
	}
	if (d->mem && vm->state != VM_RUNNING)
		virtio_mem_stop(d->mem);
	memset(vm->faults, 0, sizeof(vm->faults));
	return 0;
}

static int vm_config_add(struct vm *vm, const struct vm_device_config *config, struct err **err)
{
	int ret = vm_can_halt(vm) ? vm_place_add(vm, config, err)
				  : err_set(err, EBUSY,
					    "the guest waits for memory that is on its way; try "
					    "again when it is there");

	if (ret) {
		vm_forget_halt(vm);
		return ret;
	}
	vm_hold(vm);
	ret = vm_parts_add(vm, config, err);
	vm_release(vm);
	if (ret && config->type == VM_DEVICE_VIRTIO_MEM)
		vm_place_remove(vm, vm->layout->nr_devices - 1);
	return ret;
}

int vm_device_add(struct vm *vm, const json_t *values, struct err **err)
{
	struct vm_device_config *config;
	int ret = vm_check_settled(vm, "device_add", err);

	if (ret)
		return ret;
	/* Its port may be one that the guest has just cleared. */
	vm_remove_ejected(vm);
	ret = cmdline_device_add(vm->config, values, &config, err);
	if (ret)
		return ret;
	ret = vm_config_add(vm, config, err);
	if (ret)
		cmdline_device_remove(vm->config, config);
	return ret;
}

/* ---- remove ---- */

/* In the object tree, allocated; NULL when memory is out. */
static char *vm_device_path(const struct vm *vm, const struct vm_device_config *config)
{
	unsigned int number = 0;
	char *path = NULL;
	int n;

	for (size_t i = 0; vm->config->devices[i] != config; i++)
		number += !vm->config->devices[i]->id;
	if (config->id)
		n = asprintf(&path, "/machine/peripheral/%s", config->id);
	else
		n = asprintf(&path, "/machine/peripheral-anon/device[%u]", number);
	return n < 0 ? NULL : path;
}

/* I4, and what was done to the memory is told. vCPUs are held. */
static void vm_mem_clear(struct vm *vm, struct vm_device *d)
{
	struct vmem_device_info info;

	vm_tell_violations(vm, true);
	virtio_mem_info(d->mem, &info);
	if (info.plugged_size)
		virtio_system_reset(d->virtio);
}

static struct vm_device_config *vm_config_of(const struct vm *vm, const struct vm_device *d)
{
	size_t i = 0;

	while (vm->config->devices[i] != d->config)
		i++;
	return vm->config->devices[i];
}

static size_t vm_memory_index(const struct vm *vm, const struct vm_device *d)
{
	size_t i = 0;

	while (vm->memory_devices[i] != d)
		i++;
	return i;
}

/*
 * Everything of the device goes; nobody finds it any more when the event says so, though what it
 * was is still there to look at.
 */
static void vm_device_remove(struct vm *vm, struct vm_device *d)
{
	struct vm_device_config *config = vm_config_of(vm, d);
	bool is_memory = d->mem;
	size_t index = is_memory ? vm_memory_index(vm, d) : 0;
	char *path = vm_device_path(vm, config);
	struct vm_event event = {
		.type = VM_EVENT_DEVICE_DELETED,
		.id = config->id,
		.path = path,
		.memory_device = is_memory ? &d->memory : NULL,
	};

	vm_hold(vm);
	if (is_memory)
		vm_mem_clear(vm, d);
	ptrs_remove(&vm->memory_devices, &vm->nr_memory_devices, d);
	ptrs_remove(&vm->devices, &vm->nr_devices, d);
	memset(vm->faults, 0, sizeof(vm->faults));
	if (path)
		vm_emit(vm, &event);
	vm_device_free(vm, d);
	vm_release(vm);
	/* The place's name was the device's. */
	if (is_memory)
		vm_place_remove(vm, index);
	cmdline_device_remove(vm->config, config);
	free(path);
}

void vm_port_ejected(void *opaque)
{
	struct vm_device *port = opaque;

	port->ejected = true;
	vm_request(port->vm, VM_REQUEST_EJECTED);
}

void vm_port_kept(void *opaque)
{
	struct vm_device *port = opaque;

	port->kept = true;
	vm_request(port->vm, VM_REQUEST_EJECTED);
}

void vm_slots_notify(void *opaque)
{
	struct vm *vm = opaque;

	power_notify(vm->power, PLATFORM_GED_EVENT_PCI_SLOTS);
}

void vm_slots_ejected(void *opaque, uint32_t slots)
{
	struct vm *vm = opaque;

	atomic_fetch_or(&vm->slots_ejected, slots);
	vm_request(vm, VM_REQUEST_EJECTED);
}

void vm_slots_kept(void *opaque, uint32_t slots)
{
	struct vm *vm = opaque;

	atomic_fetch_or(&vm->slots_kept, slots);
	vm_request(vm, VM_REQUEST_EJECTED);
}

/* The first device that is behind a port; NULL: none. */
static struct vm_device *vm_device_behind(const struct vm *vm, const struct vm_device *port)
{
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->config->pci.port == port->config)
			return vm->devices[i];
	return NULL;
}

/* The first device that is in one of @slots of the root bus; NULL: none. */
static struct vm_device *vm_device_in(const struct vm *vm, uint32_t slots)
{
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_device *d = vm->devices[i];

		if (d->transport && !d->config->pci.port &&
		    slots >> pci_device_slot(virtio_pci_device(d->transport)) & 1)
			return d;
	}
	return NULL;
}

/* I3 */
static void vm_tell_kept(struct vm *vm, struct vm_device *d)
{
	char *path = vm_device_path(vm, d->config);
	struct vm_event event = {
		.type = VM_EVENT_DEVICE_UNPLUG_GUEST_ERROR,
		.id = d->config->id,
		.path = path,
		.memory_device = d->mem ? &d->memory : NULL,
	};

	d->unplug_requested = false;
	if (path)
		vm_emit(vm, &event);
	free(path);
}

static void vm_tell_all_kept(struct vm *vm)
{
	uint32_t slots = atomic_exchange(&vm->slots_kept, 0);

	for (; slots; slots &= slots - 1) {
		struct vm_device *d = vm_device_in(vm, slots & -slots);

		if (d && d->unplug_requested)
			vm_tell_kept(vm, d);
	}
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_device *port = vm->devices[i], *behind;

		if (!port->port || !atomic_exchange(&port->kept, false))
			continue;
		behind = vm_device_behind(vm, port);
		if (behind && behind->unplug_requested)
			vm_tell_kept(vm, behind);
	}
}

static void vm_remove_slots(struct vm *vm)
{
	struct vm_device *d;
	uint32_t slots;

	if (!vm->slots_ejected || !vm_can_halt(vm))
		return;
	slots = atomic_exchange(&vm->slots_ejected, 0);
	while ((d = vm_device_in(vm, slots)))
		vm_device_remove(vm, d);
}

void vm_remove_ejected(struct vm *vm)
{
	/* It waits until it is known who has the guest (vm_migrate.h), or a dump is over. */
	if (vm->migrating || vm->dumping || vm->handed_over || vm->state == VM_INMIGRATE)
		return;
	vm_tell_all_kept(vm);
	for (size_t i = 0; i < vm->nr_devices; i++) {
		struct vm_device *port = vm->devices[i], *behind;

		if (!port->port || !port->ejected)
			continue;
		if (!vm_can_halt(vm))
			return;
		port->ejected = false;
		while ((behind = vm_device_behind(vm, port)))
			vm_device_remove(vm, behind);
		/* Those behind @port in the list moved up; so may have @port. */
		i = SIZE_MAX;
	}
	vm_remove_slots(vm);
}

/*
 * Is the device still to go? An owner that asked a memory device to have memory since then wants it; what
 * the guest asked for by itself does not keep it.
 */
static bool vm_is_unwanted(struct vm_device *d)
{
	struct vmem_device_info info;

	if (d->unplug_requested && d->mem) {
		virtio_mem_info(d->mem, &info);
		d->unplug_requested = !info.owner_size;
	}
	return d->unplug_requested;
}

/* What waits for the end of a migration or a dump to go is back in its slot after a reset, and in use again. */
static void vm_forget_ejected(struct vm *vm)
{
	vm->slots_ejected = 0;
	for (size_t i = 0; i < vm->nr_devices; i++)
		vm->devices[i]->ejected = false;
}

void vm_remove_requested(struct vm *vm)
{
	vm_remove_ejected(vm);
	if (vm->migrating || vm->dumping) {
		vm_forget_ejected(vm);
		return;
	}
	for (size_t i = vm->nr_devices; i-- > 0;)
		if (vm_is_unwanted(vm->devices[i]))
			vm_device_remove(vm, vm->devices[i]);
}

/* ---- ask for removal ---- */

static int vm_del_check_mem(const struct vm_device *d, const char *id, struct err **err)
{
	char plugged[SIZE_TEXT_MAX], requested[SIZE_TEXT_MAX];
	struct vmem_device_info info;

	if (!d->mem)
		return 0;
	virtio_mem_info(d->mem, &info);
	if (!info.plugged_size && !info.owner_size)
		return 0;
	return err_set(
		err, EBUSY,
		"device_del: device '%s' has %s of memory plugged and is to have %s; set its "
		"requested-size to 0 and wait until its size is 0",
		id, size_format(info.plugged_size, plugged),
		size_format(info.requested_size, requested));
}

/* Another device with a function of @d's slot; NULL: none. */
static const struct vm_device *vm_device_beside(const struct vm *vm, const struct vm_device *d)
{
	const struct pci_device *own = vm_pci_device(vm, d->config);

	for (size_t i = 0; i < vm->nr_devices; i++) {
		const struct pci_device *dev = vm_pci_device(vm, vm->devices[i]->config);

		if (dev && dev != own && pci_device_bus(dev) == pci_device_bus(own) &&
		    pci_device_slot(dev) == pci_device_slot(own))
			return vm->devices[i];
	}
	return NULL;
}

static int vm_del_check_place(const struct vm *vm, const struct vm_device *d, const char *id,
			      struct err **err)
{
	const struct vm_device *beside;
	char name[VM_DEVICE_NAME_MAX];

	if (!cmdline_device_can_come(d->config))
		return err_set(err, ENOTSUP,
			       "device_del: device '%s' is a %s, and such a one stays while the "
			       "machine is there",
			       id, vm_device_type_name(d->config->type));
	if (!d->transport || !cmdline_device_has_hotplug(vm->config, d->config))
		return err_set(err, ENOTSUP,
			       "device_del: device '%s' is not in a slot with hot-plug (behind a "
			       "root port with hotplug=on, or on the root bus of machine pc), and "
			       "stays while the machine is there",
			       id);
	beside = vm_device_beside(vm, d);
	if (beside)
		return err_set(err, ENOTSUP,
			       "device_del: device '%s' shares its slot with '%s', and a slot is "
			       "taken out as a whole",
			       id, vm_device_name(vm, beside, name));
	return 0;
}

static int vm_del_check(const struct vm *vm, const struct vm_device *d, const char *id,
			uint64_t now_ms, struct err **err)
{
	int ret = vm_del_check_place(vm, d, id, err);

	if (ret)
		return ret;
	if (d->unplug_requested && now_ms - d->unplug_asked_ms < VM_UNPLUG_WAIT_MS)
		return err_set(err, EBUSY,
			       "device_del: the guest was asked for device '%s' %" PRIu64
			       " ms ago; it can be asked again %d ms after that",
			       id, now_ms - d->unplug_asked_ms, VM_UNPLUG_WAIT_MS);
	return vm_del_check_mem(d, id, err);
}

int vm_device_del(struct vm *vm, const char *id, struct err **err)
{
	struct vm_device_config *config;
	uint64_t now_ms = vm_now_ms();
	int ret = vm_check_settled(vm, "device_del", err);
	struct vm_device *d;

	if (ret)
		return ret;
	vm_remove_ejected(vm);
	config = cmdline_device_find(vm->config, id);
	if (!config)
		return err_set(err, ENODEV, "Device '%s' not found", id);
	d = vm_device_of(vm, config);
	ret = vm_del_check(vm, d, id, now_ms, err);
	if (ret)
		return ret;
	ret = config->pci.port
		      ? pci_port_request_unplug(vm_device_of(vm, config->pci.port)->port, err)
		      : pci_root_request_unplug(virtio_pci_device(d->transport), err);
	if (ret)
		return ret;
	d->unplug_requested = true;
	d->unplug_asked_ms = now_ms;
	return 0;
}
