/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of the example that has nothing to do with libvmem: a KVM virtual machine with one vCPU
 * and one page of code, in 32-bit protected mode without paging, without interrupts.
 *
 * Threads: one. All return 0 or -errno.
 */
#ifndef EXAMPLES_LIBVMEM_VM_H
#define EXAMPLES_LIBVMEM_VM_H

#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#define VM_SLOTS 64

/* By number; a size of 0 is no slot. A slot of one number and size is always at one place. */
struct vm_slots {
	struct kvm_userspace_memory_region region[VM_SLOTS];
};

struct vm {
	int kvm, fd, vcpu; /* -1: not open */
	struct kvm_run *run;
	size_t run_size;
	struct vm_slots slots;
	void *code;
};

/* @code, at most a page, is at guest address 0x1000 in memory slot 0. -ENODEV: there is no KVM. */
int vm_init(struct vm *vm, const void *code, size_t size);
/* For every vm that vm_init() was called for, also where that failed. */
void vm_done(struct vm *vm);
/* Put host memory at a guest address; @size 0 takes the slot away. */
int vm_slot_set(struct vm *vm, uint32_t slot, uint64_t gpa, uint64_t size, void *host);
/* Put back the slots as they were in an earlier copy of vm->slots. */
int vm_slots_restore(struct vm *vm, const struct vm_slots *was);
/* The vCPU goes on at the first instruction. */
int vm_restart(struct vm *vm);
/* Until the guest leaves; vm->run tells why. */
int vm_run(struct vm *vm);

/* KiB of anonymous memory that the host holds for [start, start + size). */
int64_t vm_held_kib(const void *start, uint64_t size);

#endif
