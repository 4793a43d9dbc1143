/* SPDX-License-Identifier: BSD-3-Clause */
/* Devices: resolving what they refer to, and what only all of them together can tell. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/num.h"
#include "qmp/size.h"
#include "vmm/cmdline/internal.h"
#include "vmm/cmdline/memdev.h"

/* A huge page of the host: unplugging gives whole ones back. */
#define VIRTIO_MEM_BLOCK_BYTES (2 * MIB)

struct serial_place {
	uint16_t iobase;
	uint8_t irq;
};

/* COM1 to COM4 */
static const struct serial_place serial_places[VM_SERIAL_MAX] = {
	{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};

static int virtio_mem_find_memdev(const struct vm_config *config, const char *what,
				  struct vm_virtio_mem_config *mem, struct err **err)
{
	struct vm_memdev_config *memdev = memdev_find(config, mem->memdev_id);

	if (!memdev)
		return err_set(
			err, ENOENT,
			"%s: there is no object %s; memdev= takes the id of a memory backend "
			"(-object)",
			what, mem->memdev_id);
	if (memdev->user != VM_MEMDEV_UNUSED)
		return err_set(err, EBUSY, "%s: memdev=%s is in use already", what, memdev->id);
	mem->memdev = memdev;
	mem->region_size_bytes = memdev->size_bytes;
	if (!mem->block_size_bytes)
		mem->block_size_bytes = num_max(VIRTIO_MEM_BLOCK_BYTES, memdev->page_bytes);
	if (!memdev->has_requested_size)
		return 0;
	if (mem->has_requested_size && mem->requested_size_bytes != memdev->requested_size_bytes)
		return err_set(err, EINVAL,
			       "%s: requested-size contradicts size= next to max-size= of object "
			       "%s; give one of the two",
			       what, memdev->id);
	mem->requested_size_bytes = memdev->requested_size_bytes;
	return 0;
}

/* Whether a device's memory of this backend is a file, with a name or without. */
static bool memdev_is_file(const struct vm_memdev_config *memdev)
{
	return memdev->type == VM_MEMDEV_FILE || memdev->share || memdev->hugetlb;
}

/* The sizes against each other, and against the memory's. */
static int virtio_mem_check_sizes(const char *what, const struct vm_virtio_mem_config *mem,
				  struct err **err)
{
	uint64_t block = mem->block_size_bytes;
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];

	if (block < mem->memdev->page_bytes)
		return err_set(err, EINVAL, "%s: block-size (%s) is less than a page of %s (%s)",
			       what, size_format(block, a), mem->memdev->id,
			       size_format(mem->memdev->page_bytes, b));
	if (mem->region_size_bytes % block)
		return err_set(err, EINVAL,
			       "%s: the size of %s (%s) is not a multiple of block-size (%s)", what,
			       mem->memdev->id, size_format(mem->region_size_bytes, a),
			       size_format(block, b));
	if (mem->requested_size_bytes % block)
		return err_set(err, EINVAL,
			       "%s: requested-size (%s) is not a multiple of block-size (%s)", what,
			       size_format(mem->requested_size_bytes, a), size_format(block, b));
	if (mem->requested_size_bytes > mem->region_size_bytes)
		return err_set(err, ERANGE, "%s: requested-size (%s) exceeds the size of %s (%s)",
			       what, size_format(mem->requested_size_bytes, a), mem->memdev->id,
			       size_format(mem->region_size_bytes, b));
	if (mem->memaddr_gpa % block)
		return err_set(err, EINVAL,
			       "%s: memaddr=0x%" PRIx64 " is not a multiple of block-size (%s)",
			       what, mem->memaddr_gpa, size_format(block, b));
	if (mem->memslot_bytes && mem->memslot_bytes < block)
		return err_set(err, EINVAL, "%s: memslot-size (%s) is less than block-size (%s)",
			       what, size_format(mem->memslot_bytes, a), size_format(block, b));
	return 0;
}

/* What the guest may ask for by itself. */
static int virtio_mem_finish_requests(const char *what, struct vm_virtio_mem_config *mem,
				      struct err **err)
{
	uint64_t block = mem->block_size_bytes, limit = mem->request_limit_bytes;
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];

	if (!mem->guest_requests && (mem->has_request_limit || mem->has_request_rate))
		return err_set(err, EINVAL, "%s: %s needs guest-requests=on", what,
			       mem->has_request_limit ? "request-limit" : "request-rate");
	if (!mem->guest_requests)
		return 0;
	if (!mem->has_request_limit)
		mem->request_limit_bytes = limit = mem->region_size_bytes;
	if (limit % block)
		return err_set(err, EINVAL,
			       "%s: request-limit (%s) is not a multiple of block-size (%s)", what,
			       size_format(limit, a), size_format(block, b));
	if (limit > mem->region_size_bytes)
		return err_set(err, ERANGE, "%s: request-limit (%s) exceeds the size of %s (%s)",
			       what, size_format(limit, a), mem->memdev->id,
			       size_format(mem->region_size_bytes, b));
	return 0;
}

static int virtio_mem_check(const struct vm_config *config, const char *what,
			    const struct vm_virtio_mem_config *mem, struct err **err)
{
	if (mem->node >= config->numa.nr_nodes)
		return err_set(err, EINVAL, "%s: there is no node %u; allowed: below %u", what,
			       mem->node, config->numa.nr_nodes);
	if (mem->dynamic_memslots && mem->unplugged_inaccessible == VM_OFF)
		return err_set(err, EINVAL,
			       "%s: dynamic-memslots=on and unplugged-inaccessible=off exclude "
			       "each other",
			       what);
	/* There a read of a hole would put a page into it, so the guard lets none happen. */
	if (mem->unplugged_inaccessible == VM_OFF && mem->guard && memdev_is_file(mem->memdev))
		return err_set(err, EINVAL,
			       "%s: unplugged-inaccessible=off is not possible with the memory of "
			       "%s, which is a file's, so that unplugged blocks cannot be read; "
			       "allowed: auto, on, or guard=off",
			       what, mem->memdev->id);
	return virtio_mem_check_sizes(what, mem, err);
}

/* Memory devices together, those before @index and this one, fit between the boot memory and maxmem. */
static int virtio_mem_check_capacity(const struct vm_config *config, size_t index, const char *what,
				     struct err **err)
{
	uint64_t left = config->memory.max_bytes - config->memory.ram_bytes;
	uint64_t size = config->devices[index]->virtio_mem.region_size_bytes;
	char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];

	if (!left)
		return err_set(err, ENOSPC,
			       "%s: a memory device needs -m maxmem=, the boot memory and all "
			       "memory devices together",
			       what);
	for (size_t i = 0; i < index; i++) {
		if (config->devices[i]->type == VM_DEVICE_VIRTIO_MEM)
			left -= config->devices[i]->virtio_mem.region_size_bytes;
	}
	if (size <= left)
		return 0;
	return err_set(err, ENOSPC,
		       "%s: %s do not fit: of what -m maxmem= exceeds the boot memory by, %s are "
		       "left",
		       what, size_format(size, a), size_format(left, b));
}

static int virtio_mem_finish(const struct vm_config *config, size_t index, const char *what,
			     struct err **err)
{
	struct vm_virtio_mem_config *mem = &config->devices[index]->virtio_mem;
	int ret;

	if (config->mem_lock)
		return err_set(err, EINVAL,
			       "%s: is not possible with -overcommit mem-lock=on: memory that is "
			       "locked does not go back to the host; libvirt writes that for "
			       "<memoryBacking><locked/>",
			       what);
	ret = virtio_mem_find_memdev(config, what, mem, err);
	if (!ret)
		ret = virtio_mem_check(config, what, mem, err);
	if (!ret)
		ret = virtio_mem_finish_requests(what, mem, err);
	return ret < 0 ? ret : virtio_mem_check_capacity(config, index, what, err);
}

static int virtio_rng_finish(const struct vm_config *config, const char *what,
			     struct vm_virtio_rng_config *rng, struct err **err)
{
	if (!rng->rng_id)
		return 0;
	for (size_t i = 0; i < config->nr_rngs; i++) {
		if (!strcmp(config->rngs[i]->id, rng->rng_id)) {
			rng->rng = config->rngs[i];
			return 0;
		}
	}
	return err_set(err, ENOENT,
		       "%s: there is no object %s; rng= takes the id of an -object rng-random or "
		       "rng-builtin",
		       what, rng->rng_id);
}

static int virtio_balloon_finish(const struct vm_config *config, const char *what,
				 const struct vm_virtio_balloon_config *balloon, struct err **err)
{
	if (!balloon->iothread_id)
		return 0;
	for (size_t i = 0; i < config->nr_iothreads; i++)
		if (!strcmp(config->iothreads[i]->id, balloon->iothread_id))
			return 0;
	return err_set(err, ENOENT,
		       "%s: there is no object %s; iothread= takes the id of an -object iothread",
		       what, balloon->iothread_id);
}

/* Whether an isa-serial other than @device has @index. */
static bool serial_index_taken(const struct vm_config *config,
			       const struct vm_device_config *device, uint32_t index)
{
	for (size_t i = 0; i < config->nr_devices; i++) {
		const struct vm_device_config *other = config->devices[i];

		if (other != device && other->type == VM_DEVICE_ISA_SERIAL &&
		    other->isa_serial.has_index && other->isa_serial.index == index)
			return true;
	}
	return false;
}

static int serial_choose_index(const struct vm_config *config, struct vm_device_config *device,
			       const char *what, struct err **err)
{
	struct vm_isa_serial_config *serial = &device->isa_serial;
	uint32_t index = 0;

	if (serial->has_index) {
		if (!serial_index_taken(config, device, serial->index))
			return 0;
		return err_set(err, EEXIST, "%s: index=%" PRIu32 " is in use already", what,
			       serial->index);
	}
	while (index < VM_SERIAL_MAX && serial_index_taken(config, device, index))
		index++;
	if (index == VM_SERIAL_MAX)
		return err_set(err, ENOSPC, "%s: too many serial ports; allowed: %u", what,
			       VM_SERIAL_MAX);
	serial->index = index;
	serial->has_index = true;
	return 0;
}

static int serial_finish(const struct vm_config *config, struct vm_device_config *device,
			 const char *what, struct err **err)
{
	struct vm_isa_serial_config *serial = &device->isa_serial;
	int ret;

	ret = serial_choose_index(config, device, what, err);
	if (ret < 0)
		return ret;
	if (!serial->has_iobase)
		serial->iobase = serial_places[serial->index].iobase;
	if (!serial->has_irq)
		serial->irq = serial_places[serial->index].irq;
	return 0;
}

/* Against all devices before it. */
static int device_check_others(const struct vm_config *config, size_t index, const char *option,
			       const char *what, struct err **err)
{
	const struct vm_device_config *device = config->devices[index];

	for (size_t i = 0; i < index; i++) {
		const struct vm_device_config *other = config->devices[i];

		if (device->id && other->id && !strcmp(device->id, other->id))
			return err_set(err, EEXIST, "%s: id=%s is in use already", option,
				       device->id);
		if (device->type != other->type)
			continue;
		if (device->type == VM_DEVICE_PVPANIC || device->type == VM_DEVICE_VIRTIO_BALLOON)
			return err_set(err, EEXIST, "%s: there is one already", what);
		if (device->type == VM_DEVICE_ISA_SERIAL &&
		    device->isa_serial.iobase == other->isa_serial.iobase)
			return err_set(err, EBUSY, "%s: iobase=0x%x is in use already", what,
				       device->isa_serial.iobase);
	}
	return 0;
}

/* Mark what the device uses. */
static int device_take(struct vm_config *config, struct vm_device_config *device, const char *what,
		       struct err **err)
{
	if (device->type == VM_DEVICE_ISA_SERIAL)
		return cmdline_chardev_use(config, what, device->isa_serial.chardev_id,
					   &device->isa_serial.chardev, err);
	if (device->type == VM_DEVICE_VIRTIO_MEM)
		memdev_find(config, device->virtio_mem.memdev_id)->user = VM_MEMDEV_DEVICE;
	return 0;
}

int cmdline_device_finish(struct vm_config *config, size_t index, const char *option,
			  struct err **err)
{
	struct vm_device_config *device = config->devices[index];
	char what[CMDLINE_WHAT_MAX];
	int ret = 0;

	cmdline_what(what, option, vm_device_type_name(device->type), device->id);
	if (device->type == VM_DEVICE_VIRTIO_MEM)
		ret = virtio_mem_finish(config, index, what, err);
	else if (device->type == VM_DEVICE_VIRTIO_RNG)
		ret = virtio_rng_finish(config, what, &device->virtio_rng, err);
	else if (device->type == VM_DEVICE_VIRTIO_BALLOON)
		ret = virtio_balloon_finish(config, what, &device->virtio_balloon, err);
	else if (device->type == VM_DEVICE_ISA_SERIAL)
		ret = serial_finish(config, device, what, err);
	if (!ret)
		ret = device_check_others(config, index, option, what, err);
	if (!ret && cmdline_device_is_pci(device))
		ret = cmdline_device_find_place(config, index, what, err);
	return ret < 0 ? ret : device_take(config, device, what, err);
}

int cmdline_devices_finish(struct cmdline *cl, struct err **err)
{
	struct vm_config *config = cl->config;
	int ret = 0;

	for (size_t i = 0; i < config->nr_devices && !ret; i++)
		ret = cmdline_device_finish(config, i, "-device", err);
	return ret < 0 ? ret : cmdline_devices_check_functions(config, err);
}
