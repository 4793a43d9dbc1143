/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's physical address map: see layout.h for the contract. */
#include "vmm/machine/layout.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/machine/platform.h"

#define RAM_MIN            (2 * MIB)
#define HIGH_BASE          (4 * GIB)
#define DEVICE_MEMORY_UNIT GIB
/* Room in the device memory for devices that come later and for their alignment. */
#define DEVICE_MEMORY_SPARE (4 * GIB)
#define WINDOW64_MAX        (512 * GIB)
#define WINDOW64_MIN        GIB
#define ECAM_BUS_BYTES      MIB

static uint64_t layout_limit(const struct machine_layout *layout)
{
	return UINT64_C(1) << layout->phys_bits;
}

static uint64_t layout_device_align(const struct layout_device_config *device)
{
	return num_max(device->block_size_bytes, LAYOUT_DEVICE_ALIGN);
}

static const char *layout_device_name(const struct layout_device_config *device)
{
	return device->id ? device->id : "(no id)";
}

static int layout_check_config(const struct layout_config *config, struct err **err)
{
	uint64_t sum = 0;
	unsigned int i;

	if (config->ram_bytes < RAM_MIN || !num_is_aligned(config->ram_bytes, 4 * KIB))
		return err_set(err, EINVAL,
			       "-m size: %" PRIu64
			       " bytes of boot memory; it must be a multiple of 4 KiB and at least "
			       "2 MiB",
			       config->ram_bytes);
	if (config->maxmem_bytes < config->ram_bytes)
		return err_set(err, EINVAL,
			       "-m maxmem: %" PRIu64 " bytes is less than the boot memory, %" PRIu64
			       " bytes",
			       config->maxmem_bytes, config->ram_bytes);
	if (config->phys_bits < LAYOUT_PHYS_BITS_MIN || config->phys_bits > LAYOUT_PHYS_BITS_MAX)
		return err_set(err, EINVAL,
			       "-cpu phys-bits: %u bits of physical address; allowed are %u to %u",
			       config->phys_bits, LAYOUT_PHYS_BITS_MIN, LAYOUT_PHYS_BITS_MAX);
	if (!config->nr_nodes || config->nr_nodes > LAYOUT_NODES_MAX)
		return err_set(err, EINVAL, "-numa: %u nodes; allowed are 1 to %u",
			       config->nr_nodes, LAYOUT_NODES_MAX);
	if (config->nr_pci_ports > PLATFORM_PCI_BUSES - 1)
		return err_set(err, EINVAL,
			       "-device pcie-root-port: %u root ports; allowed are up to %u",
			       config->nr_pci_ports, PLATFORM_PCI_BUSES - 1);
	for (i = 0; i < config->nr_nodes; i++) {
		if (!num_is_aligned(config->node_bytes[i], 4 * KIB))
			return err_set(err, EINVAL,
				       "-numa: the boot memory of node %u, %" PRIu64
				       " bytes, must be a multiple of 4 KiB",
				       i, config->node_bytes[i]);
		if (!num_add(sum, config->node_bytes[i], &sum))
			sum = UINT64_MAX;
	}
	if (sum != config->ram_bytes)
		return err_set(err, EINVAL,
			       "-numa: the nodes have %" PRIu64
			       " bytes of boot memory together; it must be %" PRIu64
			       ", the size given with -m",
			       sum, config->ram_bytes);
	return 0;
}

/* Cut the nodes' RAM at the hole below 4 GiB. ram_bytes is known to fit below the limit. */
static int layout_set_ram(struct machine_layout *layout, const uint64_t *node_bytes)
{
	uint64_t low = num_min(layout->ram_bytes, PLATFORM_LOW_RAM_END);
	uint64_t ram_offset = 0;
	unsigned int node;

	layout->low_ram = (struct range){0, low};
	layout->high_ram = (struct range){HIGH_BASE, layout->ram_bytes - low};
	layout->ram = calloc(layout->nr_nodes + 1, sizeof(*layout->ram));
	if (!layout->ram)
		return -ENOMEM;
	for (node = 0; node < layout->nr_nodes; node++) {
		uint64_t done = 0;

		while (done < node_bytes[node]) {
			uint64_t size = node_bytes[node] - done;
			uint64_t gpa = ram_offset;

			if (ram_offset < low)
				size = num_min(size, low - ram_offset);
			else
				gpa = HIGH_BASE + (ram_offset - low);
			layout->ram[layout->nr_ram++] = (struct layout_ram){
				.gpa = {gpa, size},
				.ram_offset = ram_offset,
				.node_offset = done,
				.node = node,
			};
			ram_offset += size;
			done += size;
		}
	}
	return 0;
}

/* Device memory and the 64-bit window, above RAM. */
static int layout_set_high(struct machine_layout *layout, const struct layout_config *config,
			   struct err **err)
{
	uint64_t capacity = layout->maxmem_bytes - layout->ram_bytes;
	uint64_t limit = layout_limit(layout);
	uint64_t base = HIGH_BASE, size = 0, end, window, start;
	bool fits;
	size_t i;

	fits = num_add(HIGH_BASE, layout->high_ram.size, &base) &&
	       num_align_up(base, DEVICE_MEMORY_UNIT, &base);
	if (capacity) {
		fits = fits && num_align_up(capacity, DEVICE_MEMORY_UNIT, &size) &&
		       num_add(size, DEVICE_MEMORY_SPARE, &size);
		for (i = 0; i < config->nr_devices; i++)
			fits = fits && num_add(size,
					       num_max(config->devices[i].block_size_bytes,
						       DEVICE_MEMORY_UNIT),
					       &size);
	}
	fits = fits && num_add(base, size, &end);
	layout->device_memory = (struct range){base, size};
	for (window = WINDOW64_MAX; fits && window >= WINDOW64_MIN; window /= 2) {
		if (!num_align_up(end, window, &start) || start > limit || limit - start < window)
			continue;
		layout->window64 = (struct range){start, window};
		return 0;
	}
	return err_set(err, EINVAL,
		       "-m: %" PRIu64 " MiB of boot memory and maxmem of %" PRIu64
		       " MiB do not fit with the PCI window below %" PRIu64
		       " MiB, the end of the guest's %u bits of physical address",
		       layout->ram_bytes / MIB, layout->maxmem_bytes / MIB, limit / MIB,
		       layout->phys_bits);
}

static int layout_check_device(const struct machine_layout *layout,
			       const struct layout_device_config *device, struct err **err)
{
	const char *name = layout_device_name(device);
	uint64_t capacity = layout->maxmem_bytes - layout->ram_bytes, used = 0;
	size_t i;

	if (!num_is_pow2(device->block_size_bytes))
		return err_set(err, EINVAL,
			       "device '%s': block size %" PRIu64 " is not a power of two", name,
			       device->block_size_bytes);
	if (!device->size_bytes || !num_is_aligned(device->size_bytes, device->block_size_bytes))
		return err_set(err, EINVAL,
			       "device '%s': its memory has %" PRIu64
			       " bytes; it must be a multiple of the block size, %" PRIu64
			       ", and not 0",
			       name, device->size_bytes, device->block_size_bytes);
	if (device->node >= layout->nr_nodes)
		return err_set(err, EINVAL, "device '%s': there is no node %u; nodes are 0 to %u",
			       name, device->node, layout->nr_nodes - 1);
	for (i = 0; i < layout->nr_devices; i++)
		used += layout->devices[i].gpa.size;
	if (device->size_bytes > capacity - used)
		return err_set(err, EINVAL,
			       "device '%s': %" PRIu64
			       " MiB of memory do not fit; -m maxmem leaves %" PRIu64
			       " MiB for memory devices, %" PRIu64 " MiB of them in use",
			       name, device->size_bytes / MIB, capacity / MIB, used / MIB);
	return 0;
}

/* The device that overlaps @gpa, or NULL. Devices without an address yet are empty and overlap
 * none. */
static const struct layout_device *layout_find_overlap(const struct machine_layout *layout,
						       struct range gpa)
{
	size_t i;

	for (i = 0; i < layout->nr_devices; i++) {
		if (range_overlaps(layout->devices[i].gpa, gpa))
			return &layout->devices[i];
	}
	return NULL;
}

static int layout_place_fixed(const struct machine_layout *layout,
			      const struct layout_device_config *device, struct range *ret_gpa,
			      struct err **err)
{
	struct range gpa = {device->memaddr_gpa, device->size_bytes};
	const struct layout_device *other;
	const char *name = layout_device_name(device);

	if (!num_is_aligned(gpa.start, device->block_size_bytes))
		return err_set(err, EINVAL,
			       "device '%s': memaddr 0x%" PRIx64
			       " must be a multiple of the block size, 0x%" PRIx64,
			       name, gpa.start, device->block_size_bytes);
	if (!range_contains(layout->device_memory, gpa))
		return err_set(err, EINVAL,
			       "device '%s': memaddr 0x%" PRIx64 " with size 0x%" PRIx64
			       " must be inside the device memory, 0x%" PRIx64 " to 0x%" PRIx64,
			       name, gpa.start, gpa.size, layout->device_memory.start,
			       range_end(layout->device_memory) - 1);
	other = layout_find_overlap(layout, gpa);
	if (other)
		return err_set(err, EINVAL,
			       "device '%s': memaddr 0x%" PRIx64 " with size 0x%" PRIx64
			       " overlaps device '%s' at 0x%" PRIx64,
			       name, gpa.start, gpa.size, other->id, other->gpa.start);
	*ret_gpa = gpa;
	return 0;
}

static int layout_place_first_fit(const struct machine_layout *layout,
				  const struct layout_device_config *device, struct range *ret_gpa,
				  struct err **err)
{
	uint64_t align = layout_device_align(device);
	struct range gpa = {layout->device_memory.start, device->size_bytes};
	const struct layout_device *other;

	while (num_align_up(gpa.start, align, &gpa.start) &&
	       range_contains(layout->device_memory, gpa)) {
		other = layout_find_overlap(layout, gpa);
		if (!other) {
			*ret_gpa = gpa;
			return 0;
		}
		gpa.start = range_end(other->gpa);
	}
	return err_set(err, EINVAL,
		       "device '%s': the device memory, 0x%" PRIx64 " to 0x%" PRIx64
		       ", has no free range of %" PRIu64 " MiB",
		       layout_device_name(device), layout->device_memory.start,
		       range_end(layout->device_memory) - 1, gpa.size / MIB);
}

/* Place @device and make it devices[index], which is an unplaced entry of the array. */
static int layout_place(struct machine_layout *layout, const struct layout_device_config *device,
			size_t index, struct err **err)
{
	struct layout_device *slot = &layout->devices[index];
	struct range gpa;
	char *id;
	int ret;

	ret = layout_check_device(layout, device, err);
	if (ret)
		return ret;
	if (device->memaddr_gpa)
		ret = layout_place_fixed(layout, device, &gpa, err);
	else
		ret = layout_place_first_fit(layout, device, &gpa, err);
	if (ret)
		return ret;
	id = strdup(device->id ? device->id : "");
	if (!id)
		return err_set(err, ENOMEM, "out of memory");
	*slot = (struct layout_device){.id = id, .gpa = gpa, .node = device->node};
	return 0;
}

static int layout_place_all(struct machine_layout *layout, const struct layout_config *config,
			    struct err **err)
{
	size_t i;
	int pass, ret;

	layout->devices = calloc(config->nr_devices + 1, sizeof(*layout->devices));
	if (!layout->devices)
		return err_set(err, ENOMEM, "out of memory");
	layout->nr_devices = config->nr_devices;
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < config->nr_devices; i++) {
			if ((config->devices[i].memaddr_gpa == 0) != (pass == 1))
				continue;
			ret = layout_place(layout, &config->devices[i], i, err);
			if (ret)
				return ret;
		}
	}
	return 0;
}

int layout_new(const struct layout_config *config, struct machine_layout **ret_layout,
	       struct err **err)
{
	struct machine_layout *layout;
	int ret = layout_check_config(config, err);

	if (ret)
		return ret;
	layout = calloc(1, sizeof(*layout));
	if (!layout)
		return err_set(err, ENOMEM, "out of memory");
	layout->ram_bytes = config->ram_bytes;
	layout->maxmem_bytes = config->maxmem_bytes;
	layout->phys_bits = config->phys_bits;
	layout->nr_nodes = config->nr_nodes;
	layout->ecam =
		(struct range){PLATFORM_ECAM_BASE, (config->nr_pci_ports + 1) * ECAM_BUS_BYTES};
	layout->window32 = (struct range){PLATFORM_WINDOW32_BASE, PLATFORM_WINDOW32_SIZE};
	ret = layout_set_ram(layout, config->node_bytes);
	if (ret)
		ret = err_set(err, ENOMEM, "out of memory");
	if (!ret)
		ret = layout_set_high(layout, config, err);
	if (!ret)
		ret = layout_place_all(layout, config, err);
	if (ret) {
		layout_free(layout);
		return ret;
	}
	*ret_layout = layout;
	return 0;
}

void layout_free(struct machine_layout *layout)
{
	size_t i;

	if (!layout)
		return;
	for (i = 0; layout->devices && i < layout->nr_devices; i++)
		free(layout->devices[i].id);
	free(layout->devices);
	free(layout->ram);
	free(layout);
}

int layout_device_add(struct machine_layout *layout, const struct layout_device_config *device,
		      struct err **err)
{
	struct layout_device *devices;
	size_t nr = layout->nr_devices;
	int ret;

	devices = realloc(layout->devices, (nr + 1) * sizeof(*devices));
	if (!devices)
		return err_set(err, ENOMEM, "out of memory");
	layout->devices = devices;
	devices[nr] = (struct layout_device){0};
	ret = layout_place(layout, device, nr, err);
	if (!ret)
		layout->nr_devices = nr + 1;
	return ret;
}

void layout_device_remove(struct machine_layout *layout, size_t index)
{
	assert(index < layout->nr_devices);
	free(layout->devices[index].id);
	layout->nr_devices--;
	memmove(&layout->devices[index], &layout->devices[index + 1],
		(layout->nr_devices - index) * sizeof(*layout->devices));
}
