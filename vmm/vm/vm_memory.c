/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine's memory: backends mapped on the host, the physical address map, boot RAM in the guest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/ptrs.h"
#include "vmm/core/gm.h"
#include "vmm/core/hv.h"
#include "vmm/machine/cpuid.h"
#include "vmm/machine/layout.h"
#include "vmm/vm/vm_internal.h"

struct memdev *vm_memdev(const struct vm *vm, const struct vm_memdev_config *config)
{
	for (size_t i = 0; i < vm->nr_memdevs; i++)
		if (vm->memdevs[i]->config == config)
			return vm->memdevs[i];
	return NULL;
}

int vm_memdev_map(struct vm *vm, const struct vm_memdev_config *config, struct err **err)
{
	struct memdev *memdev = calloc(1, sizeof(*memdev));
	int ret;

	if (!memdev)
		return err_set(err, ENOMEM, "out of memory");
	ret = memdev_map(memdev, config->id, config->size_bytes, config, config->merge,
			 config->dump, err);
	if (!ret && ptrs_add(&vm->memdevs, &vm->nr_memdevs, memdev)) {
		memdev_unmap(memdev);
		ret = err_set(err, ENOMEM, "out of memory");
	}
	if (ret)
		free(memdev);
	return ret;
}

static void vm_memdev_end(struct memdev *memdev)
{
	memdev_unmap(memdev);
	free(memdev);
}

void vm_memdev_unmap(struct vm *vm, const struct vm_memdev_config *config)
{
	struct memdev *memdev = vm_memdev(vm, config);

	ptrs_remove(&vm->memdevs, &vm->nr_memdevs, memdev);
	vm_memdev_end(memdev);
}

static int vm_map_backends(struct vm *vm, struct err **err)
{
	const struct vm_config *c = vm->config;
	bool plain = !c->memory.backend && !c->numa.nodes[0].memdev;

	for (size_t i = 0; i < c->nr_memdevs; i++) {
		int ret = vm_memdev_map(vm, c->memdevs[i], err);

		if (ret)
			return ret;
	}
	if (!plain)
		return 0;
	return memdev_map(&vm->plain_ram, "boot memory", c->memory.ram_bytes, NULL,
			  c->machine.mem_merge, c->machine.dump_guest_core, err);
}

static int vm_lay_out(struct vm *vm, struct err **err)
{
	const struct vm_config *c = vm->config;
	uint64_t node_bytes[VM_NUMA_NODES_MAX];
	struct layout_device_config *devices = calloc(c->nr_devices + 1, sizeof(*devices));
	struct layout_config layout = {
		.ram_bytes = c->memory.ram_bytes,
		.maxmem_bytes = c->memory.max_bytes,
		.phys_bits = vm_cpu_phys_bits(vm),
		.nr_nodes = c->numa.nr_nodes,
		.node_bytes = node_bytes,
		.devices = devices,
	};
	int ret;

	if (!devices)
		return err_set(err, ENOMEM, "out of memory");
	for (unsigned int i = 0; i < c->numa.nr_nodes; i++)
		node_bytes[i] = c->numa.nodes[i].mem_bytes;
	for (size_t i = 0; i < c->nr_devices; i++) {
		const struct vm_device_config *d = c->devices[i];

		layout.nr_pci_ports += d->type == VM_DEVICE_ROOT_PORT;
		if (d->type != VM_DEVICE_VIRTIO_MEM)
			continue;
		devices[layout.nr_devices++] = (struct layout_device_config){
			.id = d->id,
			.size_bytes = d->virtio_mem.region_size_bytes,
			.block_size_bytes = d->virtio_mem.block_size_bytes,
			.memaddr_gpa = d->virtio_mem.memaddr_gpa,
			.node = d->virtio_mem.node,
		};
	}
	ret = layout_new(&layout, &vm->layout, err);
	free(devices);
	return ret;
}

/* The host memory of one piece of boot RAM. */
static struct vm_ram_block vm_ram_block_of(struct vm *vm, const struct layout_ram *ram)
{
	const struct vm_config *c = vm->config;
	const struct memdev *memdev = &vm->plain_ram;
	uint64_t offset = ram->ram_offset;

	if (c->memory.backend) {
		memdev = vm_memdev(vm, c->memory.backend);
	} else if (c->numa.nodes[ram->node].memdev) {
		memdev = vm_memdev(vm, c->numa.nodes[ram->node].memdev);
		offset = ram->node_offset;
	}
	return (struct vm_ram_block){
		.gpa = ram->gpa,
		.host = (char *)memdev->memory + offset,
		.page_bytes = memdev->page_bytes,
		.fd = memdev->fd,
		.fd_offset = memdev->fd_offset + offset,
		.prealloc = memdev->config && memdev->config->prealloc,
		.copy = memdev->copy,
	};
}

static int vm_name_ram(struct vm *vm, struct err **err)
{
	const struct machine_layout *l = vm->layout;

	vm->ram_blocks = calloc(l->nr_ram, sizeof(*vm->ram_blocks));
	vm->ram_names = calloc(l->nr_ram, sizeof(*vm->ram_names));
	if (!vm->ram_blocks || !vm->ram_names)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < l->nr_ram; i++) {
		snprintf(vm->ram_names[i], sizeof(vm->ram_names[i]), "ram.%zu", i);
		vm->ram_blocks[i] = vm_ram_block_of(vm, &l->ram[i]);
		vm->ram_blocks[i].name = vm->ram_names[i];
	}
	return 0;
}

/* Give the guest @size bytes from @block on, which are one run on the host as well. */
static int vm_add_ram(struct vm *vm, struct vm_ram_block *block, uint64_t size, struct err **err)
{
	const struct gm_discard discard = {block->page_bytes, vm_ram_discard, block};
	struct range gpa = {block->gpa.start, size};
	uint32_t slot;
	int ret = vm->hv->ops->slot_add(vm->hv, gpa, block->host, false, &slot);

	if (!ret)
		ret = gm_add_ram(vm->gm, gpa, block->host);
	if (ret)
		return err_set(err, -ret, "boot memory cannot be given to the guest: %s",
			       strerror(-ret));
	/* A piece that begins inside a huge page gives none back: -EINVAL. */
	if (!block->copy && !vm->config->mem_lock)
		(void)gm_set_discard(vm->gm, gpa.start, &discard);
	return 0;
}

/* Does @next go on where @size bytes from @block on end, in the guest, on the host and in the file? */
static bool vm_ram_adjoins(const struct vm_ram_block *block, uint64_t size,
			   const struct vm_ram_block *next)
{
	return block->gpa.start + size == next->gpa.start &&
	       (char *)block->host + size == next->host && block->fd == next->fd &&
	       (block->fd < 0 || block->fd_offset + size == next->fd_offset) &&
	       block->page_bytes == next->page_bytes && block->copy == next->copy;
}

/* Pieces that adjoin become one slot. */
static int vm_place_ram(struct vm *vm, struct err **err)
{
	struct vm_ram_block *run = NULL;
	uint64_t size = 0;
	int ret = vm_name_ram(vm, err);

	for (size_t i = 0; i < vm->layout->nr_ram && !ret; i++) {
		struct vm_ram_block *block = &vm->ram_blocks[i];

		if (run && vm_ram_adjoins(run, size, block)) {
			size += block->gpa.size;
			continue;
		}
		if (run)
			ret = vm_add_ram(vm, run, size, err);
		run = block;
		size = block->gpa.size;
	}
	return ret || !run ? ret : vm_add_ram(vm, run, size, err);
}

int vm_build_memory(struct vm *vm, struct err **err)
{
	int ret = vm_lay_out(vm, err);

	if (!ret)
		ret = vm_map_backends(vm, err);
	if (ret)
		return ret;
	vm->gm = gm_new();
	if (!vm->gm)
		return err_set(err, ENOMEM, "out of memory");
	return vm_place_ram(vm, err);
}

void vm_free_memory(struct vm *vm)
{
	gm_free(vm->gm);
	free(vm->ram_blocks);
	free(vm->ram_names);
	layout_free(vm->layout);
	for (size_t i = 0; i < vm->nr_memdevs; i++)
		vm_memdev_end(vm->memdevs[i]);
	free(vm->memdevs);
	memdev_unmap(&vm->plain_ram);
}
