/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine's part in a dump of its memory: its run state, and what waits until the dump is over.
 *
 * I1  From vm_dump_begin() to vm_dump_end() no device comes or goes and no migration begins; a machine
 *     that is being migrated, or whose memory is still on its way, is not dumped.
 * I2  From vm_dump_halt() on no instruction of the guest is executed, no device writes to its memory,
 *     and nothing is plugged or unplugged: commands that would have it otherwise are refused. A stop is
 *     taken for the time afterwards, and so is a size for a memory device: its guest hears of it when it
 *     goes on.
 * I3  After vm_dump_end() the guest is as it was found. What it asked for just before it was halted is
 *     carried out then.
 *
 * Threads: the main one.
 */
#ifndef VMM_VM_VM_DUMP_H
#define VMM_VM_VM_DUMP_H

struct err;
struct vcpu_registers;
struct vm;

/* -EBUSY, -EPERM, -ESHUTDOWN and a sentence where there is nothing to be dumped now. */
int vm_dump_begin(struct vm *vm, struct err **err);
/* After vm_dump_begin(). A guest that runs is stopped: VM_SAVE_VM. Any other state stays. */
void vm_dump_halt(struct vm *vm);
/* After vm_dump_halt(): what is in vCPU @index of vm_nr_vcpus(). 0 or -errno. */
int vm_dump_vcpu(struct vm *vm, unsigned int index, struct vcpu_registers *ret_registers,
		 struct err **err);
unsigned int vm_nr_vcpus(const struct vm *vm);
/* After vm_dump_begin(), halted or not. */
void vm_dump_end(struct vm *vm);

#endif
