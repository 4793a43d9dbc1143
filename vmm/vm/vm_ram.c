/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's memory as it is carried elsewhere: see vm_ram.h for the contract. */
#include "vmm/vm/vm_ram.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/layout.h"
#include "vmm/vm/report.h"
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

/* As MADV_DONTNEED, where the memory is locked. */
static int ram_drop_locked(void *memory, uint64_t size)
{
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif
	return madvise(memory, size, MADV_DONTNEED_LOCKED);
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
		if (ret < 0 && errno == EINVAL && block->fd < 0)
			ret = ram_drop_locked((char *)block->host + offset, size);
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

/* ---- memory that stays ---- */

static int ram_lock_failed(int code, struct err **err)
{
	struct rlimit limit;
	const char *words = "-overcommit mem-lock=on: cannot lock the machine's memory: ";

	if (!getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur != RLIM_INFINITY && code != EINVAL)
		return err_set(err, code,
			       "%s%s; the limit is %" PRIu64 " KiB (ulimit -l; with libvirt, "
			       "<memtune><hard_limit>)",
			       words, strerror(code), (uint64_t)limit.rlim_cur / 1024);
	return err_set(err, code, "%s%s", words, strerror(code));
}

int vm_lock_memory(struct vm *vm, struct err **err)
{
	/* stacks and what is only reserved are not to be filled */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		return ram_lock_failed(errno, err);
	for (size_t i = 0; i < vm->layout->nr_ram; i++) {
		const struct vm_ram_block *block = &vm->ram_blocks[i];

		if (mlock(block->host, block->gpa.size) < 0)
			return ram_lock_failed(errno, err);
	}
	return 0;
}

int vm_check_lock(struct err **err)
{
	if (mlockall(MCL_CURRENT | MCL_ONFAULT) < 0)
		return ram_lock_failed(errno, err);
	munlockall();
	return 0;
}

void vm_lock_loaded(struct vm *vm)
{
	struct err *err = NULL;

	if (!vm->config->mem_lock || vm->memory_arrives || !vm_lock_memory(vm, &err))
		return;
	report(vm->config, "%s", err_message(err));
	err_free(err);
}
