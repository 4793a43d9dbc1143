/* SPDX-License-Identifier: BSD-3-Clause */
/* A small KVM virtual machine: see vm.h. */
#define _GNU_SOURCE
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define VM_CODE      0x1000
#define VM_CODE_SIZE 0x1000

/* Intel's KVM wants three pages for itself, beside any memory. */
#define VM_TSS_ADDR 0xfffbd000UL

static int vm_make_vcpu(struct vm *vm)
{
	int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (size < 0 || vm->vcpu < 0)
		return -errno;
	vm->run_size = (size_t)size;
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	return vm->run == MAP_FAILED ? -errno : 0;
}

int vm_init(struct vm *vm, const void *code, size_t size)
{
	int ret;

	*vm = (struct vm){.fd = -1, .vcpu = -1, .run = MAP_FAILED, .code = MAP_FAILED};
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return -ENODEV;
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0 || ioctl(vm->fd, KVM_SET_TSS_ADDR, VM_TSS_ADDR) < 0)
		return -errno;
	vm->code = mmap(NULL, VM_CODE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0);
	if (vm->code == MAP_FAILED)
		return -errno;
	if (size > VM_CODE_SIZE)
		return -E2BIG;
	memcpy(vm->code, code, size);
	ret = vm_slot_set(vm, 0, VM_CODE, VM_CODE_SIZE, vm->code);
	return ret ? ret : vm_make_vcpu(vm);
}

void vm_done(struct vm *vm)
{
	if (vm->run != MAP_FAILED)
		munmap(vm->run, vm->run_size);
	if (vm->vcpu >= 0)
		close(vm->vcpu);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->code != MAP_FAILED)
		munmap(vm->code, VM_CODE_SIZE);
	if (vm->kvm >= 0)
		close(vm->kvm);
}

int vm_slot_set(struct vm *vm, uint32_t slot, uint64_t gpa, uint64_t size, void *host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	if (slot >= VM_SLOTS)
		return -ENOSPC;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	vm->slots.region[slot] = region;
	return 0;
}

int vm_slots_restore(struct vm *vm, const struct vm_slots *was)
{
	const struct kvm_userspace_memory_region *now = vm->slots.region, *old = was->region;
	int ret = 0;

	/* Take away first: what comes back may lie where something else is now. */
	for (uint32_t i = 0; i < VM_SLOTS && !ret; i++)
		if (now[i].memory_size && now[i].memory_size != old[i].memory_size)
			ret = vm_slot_set(vm, i, 0, 0, NULL);
	for (uint32_t i = 0; i < VM_SLOTS && !ret; i++)
		if (now[i].memory_size != old[i].memory_size)
			ret = vm_slot_set(vm, i, old[i].guest_phys_addr, old[i].memory_size,
					  (void *)(uintptr_t)old[i].userspace_addr);
	return ret;
}

int vm_restart(struct vm *vm)
{
	const struct kvm_regs regs = {.rip = VM_CODE, .rflags = 2};
	const struct kvm_segment code = {
		.limit = 0xffffffff,
		.selector = 8,
		.type = 11,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
	struct kvm_segment data = code;
	struct kvm_sregs sregs;

	data.selector = 16;
	data.type = 3;
	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 |= 1;
	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vm->vcpu, KVM_SET_REGS, &regs) < 0)
		return -errno;
	return 0;
}

int vm_run(struct vm *vm)
{
	while (ioctl(vm->vcpu, KVM_RUN, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int64_t vm_held_kib(const void *start, uint64_t size)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	uintptr_t first, end;
	int64_t held = 0, kib;
	bool inside = false;
	char line[256];

	if (!smaps)
		return -errno;
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &first, &end) == 2)
			inside = first >= (uintptr_t)start && end <= (uintptr_t)start + size;
		else if (inside && sscanf(line, "Anonymous: %" SCNd64, &kib) == 1)
			held += kib;
	}
	fclose(smaps);
	return held;
}
