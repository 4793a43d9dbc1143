/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's memory as it is carried elsewhere: see vm_ram.h for the contract. */
#include "vmm/vm/vm_ram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/layout.h"
#include "vmm/vm/vm_internal.h"

size_t vm_nr_ram_blocks(const struct vm *vm)
{
	return vm->layout->nr_ram + vm->nr_memory_devices;
}

const struct vm_ram_block *vm_ram_block(const struct vm *vm, size_t index)
{
	size_t nr_ram = vm->layout->nr_ram;

	return index < nr_ram ? &vm->ram_blocks[index] : &vm->memory_devices[index - nr_ram]->block;
}

struct gm *vm_gm(const struct vm *vm)
{
	return vm->gm;
}

int vm_dirty_start(struct vm *vm, struct err **err)
{
	int ret = gm_dirty_start(vm->gm);

	if (ret)
		return err_set(err, -ret, "written memory cannot be noted: %s", strerror(-ret));
	ret = kvm_dirty_start(vm->kvm, vm->gm, err);
	if (ret)
		gm_dirty_stop(vm->gm);
	return ret;
}

int vm_dirty_sync(struct vm *vm)
{
	return kvm_dirty_sync(vm->kvm);
}

void vm_dirty_stop(struct vm *vm)
{
	kvm_dirty_stop(vm->kvm);
	gm_dirty_stop(vm->gm);
}

int vm_ram_discard(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes)
{
	const struct vm_ram_block *block = opaque;
	int ret;

	do {
		if (block->fd >= 0)
			ret = fallocate(block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)(block->fd_offset + offset), (off_t)size);
		else
			ret = madvise((char *)block->host + offset, size, MADV_DONTNEED);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return errno == EAGAIN ? -EIO : -errno;
	*ret_bytes = size;
	return 0;
}

void vm_throttle(struct vm *vm, unsigned int percent)
{
	vcpus_throttle(vm->vcpus, percent);
}
