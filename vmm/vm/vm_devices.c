/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's devices: the platform, what -device asks for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/ptrs.h"
#include "vmm/core/bus.h"
#include "vmm/core/gm.h"
#include "vmm/core/hv.h"
#include "vmm/cmdline/live.h"
#include "vmm/core/loop.h"
#include "vmm/isa/power.h"
#include "vmm/isa/pvpanic.h"
#include "vmm/isa/rtc.h"
#include "vmm/isa/serial.h"
#include "vmm/kvm/kvm.h"
#include "vmm/machine/layout.h"
#include "vmm/machine/platform.h"
#include "vmm/pci/pci.h"
#include "vmm/piix3/piix3.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/virtio.h"
#include "vmm/virtio/virtio_pci.h"
#include "vmm/vm/memslots.h"
#include "vmm/vm/vm_internal.h"

/*
 * Linux adds memory in blocks of 128 MiB (2 GiB on large machines, of which device memory is not a
 * part) and wants to choose among some: the usable region keeps room for two more than asked for.
 */
#define VM_MEM_USABLE_EXTRA_BYTES (256 * MIB)

#define VM_MEM_CLASS 0x050000 /* memory controller, RAM */

/* ---- the platform ---- */

int vm_build_platform(struct vm *vm, struct err **err)
{
	const struct machine_layout *l = vm->layout;
	const struct rtc_config rtc = {
		.localtime = vm->config->rtc.base == VM_RTC_LOCALTIME,
		.has_start = vm->config->rtc.base == VM_RTC_DATE,
		.start_s = vm->config->rtc.date_s,
		.ram_below_4g = l->low_ram.size,
		.ram_above_4g = l->high_ram.size,
		.gsi = PLATFORM_RTC_GSI,
	};
	const struct pci_host_config pci = {
		.id = vm->config->machine.root_bus,
		.mmio = vm->mmio,
		.pio = vm->pio,
		.hv = vm->hv,
		.ecam = l->ecam,
		.window32 = l->window32,
		.window64 = l->window64,
		.window_io = {PLATFORM_PCI_IO_BASE, PLATFORM_PCI_IO_SIZE},
		.intx_gsi = PLATFORM_PCI_INTX_GSI,
		.slots_port = cmdline_root_has_hotplug(vm->config) ? PLATFORM_PCI_SLOTS_PORT : 0,
		.notify = vm_slots_notify,
		.ejected = vm_slots_ejected,
		.kept = vm_slots_kept,
		.opaque = vm,
	};

	vm->power = power_new(vm->hv, vm->pio, &vm_isa_ops, vm, err);
	if (!vm->power)
		return -EIO;
	vm->rtc = rtc_new(vm->hv, vm->pio, vm->main, &rtc, err);
	if (!vm->rtc)
		return -EIO;
	vm->pci = pci_host_new(&pci, err);
	if (!vm->pci)
		return -EIO;
	if (!cmdline_root_has_piix3(vm->config))
		return 0;
	vm->piix3 = piix3_bridge_new(vm->pci, err);
	return vm->piix3 ? 0 : -EIO;
}

/* ---- -device ---- */

_Static_assert(VIRTIO_PCI_VECTORS_AUTO == UINT32_MAX, "vm_virtio_config.vectors says so");

/* The region that the layout found for the memory device with this number among its like. */
static const struct layout_device *vm_mem_place(const struct vm *vm)
{
	return &vm->layout->devices[vm->nr_memory_devices];
}

/* What is around the device: whose memory it is, and the thread of its requests. */
static int vm_prepare_mem(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct vm_virtio_mem_config *c = &d->config->virtio_mem;
	const char *name = vm_mem_place(vm)->id;
	char thread[16];

	d->guest = calloc(1, sizeof(*d->guest));
	if (!d->guest)
		return err_set(err, ENOMEM, "out of memory");
	*d->guest = (struct vm_mem){
		.vm = vm,
		.device = &d->memory,
		.name = name,
		.memdev = vm_memdev(vm, c->memdev),
		.action = c->on_violation,
	};
	snprintf(thread, sizeof(thread), "mem/%s", name);
	d->loop = loop_new_thread(thread, err);
	return d->loop ? 0 : -EIO;
}

static int vm_build_mem(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct vm_virtio_mem_config *c = &d->config->virtio_mem;
	const struct layout_device *place = vm_mem_place(vm);
	int ret = vm_prepare_mem(vm, d, err);
	struct virtio_mem_config config;

	if (ret)
		return ret;
	config = (struct virtio_mem_config){
		.id = place->id,
		.gm = vm->gm,
		.hv = vm->hv,
		.loop = d->loop,
		.mmio = vm->mmio,
		.memory = d->guest->memdev->memory,
		.fd = d->guest->memdev->fd,
		.fd_offset = d->guest->memdev->fd_offset,
		.page_bytes = d->guest->memdev->page_bytes,
		.populate_threads = c->memdev->prealloc_threads,
		.device =
			{
				.addr = place->gpa.start,
				.region_size = c->region_size_bytes,
				.block_size = c->block_size_bytes,
				.requested_size = c->requested_size_bytes,
				.usable_extra_bytes = VM_MEM_USABLE_EXTRA_BYTES,
				.node_id = c->node,
				.has_node = true,
				.unplugged_inaccessible = c->unplugged_inaccessible != VM_OFF,
				.prealloc = c->prealloc || c->memdev->prealloc,
				.size_requests = c->guest_requests,
			},
		.request_limit = c->request_limit_bytes,
		.request_rate = c->request_rate_bytes,
		.nr_guards = d->nr_guards,
		.guard = c->guard,
		.mergeable = d->guest->memdev->merge,
		.memslot_size = d->memslot_bytes,
		.violation = vm_mem_violation,
		.changed = vm_mem_changed,
		.opaque = d->guest,
		.require_inaccessible = c->unplugged_inaccessible == VM_ON,
		.packed = d->config->virtio.packed,
		.event_idx = d->config->virtio.event_idx,
		.indirect_desc = d->config->virtio.indirect_desc,
	};
	d->mem = virtio_mem_new(&config, err);
	if (!d->mem)
		return -EIO;
	d->virtio = virtio_mem_device(d->mem);
	d->memory = (struct vm_memory_device){
		.id = d->config->id,
		.memdev_id = c->memdev->id,
		.node = c->node,
		.guard = c->guard,
		.memslot_bytes = d->memslot_bytes,
		.mem = d->mem,
	};
	d->block = (struct vm_ram_block){
		.name = place->id,
		.gpa = place->gpa,
		.host = config.memory,
		.page_bytes = d->guest->memdev->page_bytes,
		.fd = config.fd,
		.fd_offset = config.fd_offset,
		.prealloc = config.device.prealloc,
		.mem = d->mem,
	};
	if (ptrs_add(&vm->memory_devices, &vm->nr_memory_devices, d))
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static int vm_build_rng(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct vm_virtio_rng_config *c = &d->config->virtio_rng;
	const struct rng_config config = {
		.id = d->config->id ? d->config->id : "virtio-rng-pci",
		.max_bytes = num_min(c->max_bytes, RNG_MAX_BYTES_DEFAULT),
		.period_ms = c->period_ms,
		.packed = d->config->virtio.packed,
		.event_idx = d->config->virtio.event_idx,
		.indirect_desc = d->config->virtio.indirect_desc,
		.queue_reset = true,
		.gm = vm->gm,
		.loop = vm->io,
	};

	d->rng = rng_new(&config, err);
	if (!d->rng)
		return -EIO;
	d->virtio = rng_device(d->rng);
	return 0;
}

static int vm_build_balloon(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct vm_virtio_balloon_config *c = &d->config->virtio_balloon;
	const struct balloon_config config = {
		.id = d->config->id ? d->config->id : "virtio-balloon-pci",
		.ram_bytes = vm->config->memory.ram_bytes,
		.deflate_on_oom = c->deflate_on_oom,
		.free_page_hint = c->free_page_hint,
		.page_poison = c->page_poison,
		.free_page_reporting = c->free_page_reporting,
		.packed = d->config->virtio.packed,
		.event_idx = d->config->virtio.event_idx,
		.indirect_desc = d->config->virtio.indirect_desc,
		.queue_reset = true,
		.stats_interval_s = c->guest_stats_polling_interval_s,
		.gm = vm->gm,
		.loop = vm->io,
		.changed = vm_balloon_changed,
		.opaque = d,
	};

	d->vm = vm;
	d->balloon_told_bytes = config.ram_bytes;
	d->balloon = balloon_new(&config, err);
	if (!d->balloon)
		return -EIO;
	d->virtio = balloon_device(d->balloon);
	return 0;
}

/* Ports come before what is behind them. */
static struct pci_place vm_pci_place(const struct vm *vm, const struct vm_pci_config *c)
{
	return (struct pci_place){
		.bus = c->port ? pci_port_bus(vm_device_of(vm, c->port)->port)
			       : pci_host_root(vm->pci),
		.slot = c->has_addr ? c->slot : -1,
		.function = c->function,
		.multifunction = c->multifunction,
	};
}

static int vm_build_port(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct vm_root_port_config *c = &d->config->root_port;
	struct pci_port_config config = {
		.id = d->config->id ? d->config->id : vm_device_type_name(d->config->type),
		.place = vm_pci_place(vm, &d->config->pci),
		.number = c->port,
		.slot = c->slot,
		.hotplug = c->hotplug,
		.memory_reserve = c->memory_reserve,
		.prefetch_reserve = c->prefetch_reserve,
		.ejected = vm_port_ejected,
		.kept = vm_port_kept,
		.opaque = d,
	};

	d->vm = vm;
	for (size_t i = 0; !c->has_slot && vm->devices[i] != d; i++)
		if (vm->devices[i]->port)
			config.slot++;
	d->port = pci_port_new(&config, err);
	return d->port ? 0 : -EIO;
}

static int vm_build_uhci(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct pci_place place = vm_pci_place(vm, &d->config->pci);
	const char *id = d->config->id ? d->config->id : vm_device_type_name(d->config->type);

	d->uhci = piix3_uhci_new(&place, id, NULL, NULL, err);
	return d->uhci ? 0 : -EIO;
}

static int vm_plug_pci(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct virtio_pci_config config = {
		.place = vm_pci_place(vm, &d->config->pci),
		.hv = vm->hv,
		.class_code = d->mem ? VM_MEM_CLASS : VIRTIO_PCI_CLASS_OTHER,
		/* "As many as it needs" is the same number on both sides. */
		.vectors = d->config->virtio.vectors,
	};

	d->transport = virtio_pci_new(&config, d->virtio, err);
	return d->transport ? 0 : -EIO;
}

static int vm_build_serial(struct vm *vm, struct vm_device *d, struct err **err)
{
	const struct vm_isa_serial_config *c = &d->config->isa_serial;

	d->serial = serial_new(vm->hv, vm->pio, c->iobase, c->irq, vm_chardev(vm, c->chardev), err);
	return d->serial ? 0 : -EIO;
}

int vm_device_build(struct vm *vm, struct vm_device *d, struct err **err)
{
	int ret = 0;

	switch (d->config->type) {
	case VM_DEVICE_VIRTIO_MEM:
		ret = vm_build_mem(vm, d, err);
		break;
	case VM_DEVICE_VIRTIO_RNG:
		ret = vm_build_rng(vm, d, err);
		break;
	case VM_DEVICE_VIRTIO_BALLOON:
		ret = vm_build_balloon(vm, d, err);
		break;
	case VM_DEVICE_ISA_SERIAL:
		return vm_build_serial(vm, d, err);
	case VM_DEVICE_PVPANIC:
		d->pvpanic = pvpanic_new(vm->pio, &vm_isa_ops, vm, err);
		return d->pvpanic ? 0 : -EIO;
	case VM_DEVICE_ROOT_PORT:
		return vm_build_port(vm, d, err);
	case VM_DEVICE_PIIX3_UHCI:
		return vm_build_uhci(vm, d, err);
	}
	return ret ? ret : vm_plug_pci(vm, d, err);
}

struct vm_device *vm_device_new(struct vm *vm, const struct vm_device_config *config)
{
	struct vm_device *d = calloc(1, sizeof(*d));

	if (!d || ptrs_add(&vm->devices, &vm->nr_devices, d)) {
		free(d);
		return NULL;
	}
	d->config = config;
	return d;
}

void vm_device_free(struct vm *vm, struct vm_device *d)
{
	ptrs_remove(&vm->memory_devices, &vm->nr_memory_devices, d);
	ptrs_remove(&vm->devices, &vm->nr_devices, d);
	virtio_pci_free(d->transport);
	virtio_mem_free(d->mem);
	loop_free(d->loop);
	free(d->guest);
	rng_free(d->rng);
	balloon_free(d->balloon);
	serial_free(d->serial);
	pvpanic_free(d->pvpanic);
	pci_port_free(d->port);
	piix3_uhci_free(d->uhci);
	free(d);
}

struct vm_device *vm_device_of(const struct vm *vm, const struct vm_device_config *config)
{
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->config == config)
			return vm->devices[i];
	return NULL;
}

/* All memory devices share what KVM has of memory slots. */
static int vm_choose_memslots(struct vm *vm, struct err **err)
{
	struct memslots_device *devices = calloc(vm->nr_devices + 1, sizeof(*devices));
	uint64_t *bytes = calloc(vm->nr_devices + 1, sizeof(*bytes));
	int offered = kvm_vm_capability(vm->kvm, KVM_CAP_NR_MEMSLOTS);
	size_t nr = 0;
	int ret = 0;

	if (!devices || !bytes)
		ret = err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < vm->nr_devices && !ret; i++) {
		const struct vm_device_config *c = vm->devices[i]->config;

		if (c->type == VM_DEVICE_VIRTIO_MEM)
			devices[nr++] = (struct memslots_device){
				.id = c->id,
				.size_bytes = c->virtio_mem.region_size_bytes,
				.block_bytes = c->virtio_mem.block_size_bytes,
				.memslot_bytes = c->virtio_mem.memslot_bytes,
			};
	}
	if (!ret)
		ret = memslots_choose(devices, nr, (uint64_t)offered, vm->layout->nr_ram, bytes,
				      err);
	for (size_t i = 0, chosen = 0; i < vm->nr_devices && !ret; i++)
		if (vm->devices[i]->config->type == VM_DEVICE_VIRTIO_MEM)
			vm->devices[i]->memslot_bytes = bytes[chosen++];
	free(devices);
	free(bytes);
	return ret;
}

int vm_build_devices(struct vm *vm, struct err **err)
{
	const struct vm_config *c = vm->config;
	int ret;

	for (size_t i = 0; i < c->nr_devices; i++)
		if (!vm_device_new(vm, c->devices[i]))
			return err_set(err, ENOMEM, "out of memory");
	ret = vm_choose_memslots(vm, err);
	vm_choose_guards(vm);
	for (size_t i = 0; i < vm->nr_devices && !ret; i++) {
		ret = vm_device_build(vm, vm->devices[i], err);
		if (ret)
			err_prefix(err, "-device %s%s%s", vm_device_type_name(c->devices[i]->type),
				   c->devices[i]->id ? ",id=" : "",
				   c->devices[i]->id ? c->devices[i]->id : "");
	}
	return ret ? ret : pci_host_assign(vm->pci, err);
}

void vm_free_devices(struct vm *vm)
{
	while (vm->nr_devices)
		vm_device_free(vm, vm->devices[vm->nr_devices - 1]);
	free(vm->devices);
	free(vm->memory_devices);
	piix3_bridge_free(vm->piix3);
	pci_host_free(vm->pci);
	rtc_free(vm->rtc);
	power_free(vm->power);
	vm_free_chardevs(vm);
}

const char *vm_device_name(const struct vm *vm, const struct vm_device *d,
			   char buf[VM_DEVICE_NAME_MAX])
{
	unsigned int number = 0;

	if (d->config->id) {
		snprintf(buf, VM_DEVICE_NAME_MAX, "%s", d->config->id);
		return buf;
	}
	for (size_t i = 0; vm->devices[i] != d; i++)
		number += vm->devices[i]->config->type == d->config->type &&
			  !vm->devices[i]->config->id;
	snprintf(buf, VM_DEVICE_NAME_MAX, "%s:%u", vm_device_type_name(d->config->type), number);
	return buf;
}

/* ---- for monitors ---- */

struct balloon *vm_balloon(const struct vm *vm)
{
	for (size_t i = 0; i < vm->nr_devices; i++)
		if (vm->devices[i]->balloon)
			return vm->devices[i]->balloon;
	return NULL;
}

size_t vm_nr_memory_devices(const struct vm *vm)
{
	return vm->nr_memory_devices;
}

const struct vm_memory_device *vm_memory_device(const struct vm *vm, size_t index)
{
	return &vm->memory_devices[index]->memory;
}

const struct vm_memory_device *vm_memory_device_by_id(const struct vm *vm, const char *id)
{
	for (size_t i = 0; i < vm->nr_memory_devices; i++)
		if (vm->memory_devices[i]->memory.id &&
		    !strcmp(vm->memory_devices[i]->memory.id, id))
			return &vm->memory_devices[i]->memory;
	return NULL;
}

uint64_t vm_node_bytes(const struct vm *vm, unsigned int node)
{
	uint64_t bytes = vm->config->numa.nodes[node].mem_bytes;

	for (size_t i = 0; i < vm->nr_memory_devices; i++) {
		struct vmem_device_info info;

		if (vm->memory_devices[i]->memory.node != node)
			continue;
		virtio_mem_info(vm->memory_devices[i]->mem, &info);
		bytes += info.plugged_size;
	}
	return bytes;
}

struct pci_device *vm_pci_device(const struct vm *vm, const struct vm_device_config *config)
{
	const struct vm_device *d = vm_device_of(vm, config);

	if (d && d->uhci)
		return piix3_uhci_device(d->uhci);
	if (!d || (!d->transport && !d->port))
		return NULL;
	return d->port ? pci_port_device(d->port) : virtio_pci_device(d->transport);
}
