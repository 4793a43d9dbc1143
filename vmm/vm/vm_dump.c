/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's run state around a dump: see vm_dump.h for the contract. */
#include "vmm/vm/vm_dump.h"

#include <errno.h>

#include "base/err.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/vm/vm_internal.h"

int vm_dump_begin(struct vm *vm, struct err **err)
{
	int ret;

	if (vm->ended)
		return err_set(err, ESHUTDOWN, "the machine has ended");
	ret = vm_check_here(vm, err);
	if (ret)
		return ret;
	if (vm->migrating)
		return err_set(err, EBUSY,
			       "a migration is under way; memory can be dumped when it is over");
	if (vm->memory_arrives)
		return err_set(
			err, EBUSY,
			"the guest's memory is still on its way; it can be dumped when it is "
			"there");
	vm->dumping = true;
	return 0;
}

void vm_dump_halt(struct vm *vm)
{
	vm->dump_halted = true;
	if (vm->ended || !vm_halt(vm, vm->state == VM_RUNNING ? VM_SAVE_VM : vm->state))
		return;
	vm->state_before = vm_take_stops(vm);
	vm_tell_violations(vm, true);
	vm_emit_plain(vm, VM_EVENT_STOP);
}

int vm_dump_vcpu(struct vm *vm, unsigned int index, struct vcpu_registers *ret_registers,
		 struct err **err)
{
	return vcpus_registers(vm->vcpus, index, ret_registers, err);
}

unsigned int vm_nr_vcpus(const struct vm *vm)
{
	return vm->vcpus ? vcpus_count(vm->vcpus) : 0;
}

void vm_dump_end(struct vm *vm)
{
	vm->dumping = vm->dump_halted = false;
	/* After vm_quit() there is nothing that could go on. */
	if (vm->ended)
		return;
	if (vm->state == VM_SAVE_VM && vm->state_before == VM_RUNNING) {
		vm_run(vm);
		vm_emit_plain(vm, VM_EVENT_RESUME);
	} else if (vm->state == VM_SAVE_VM) {
		vm->state = vm->state_before;
	}
	/* What waited. */
	vm_request(vm, VM_REQUEST_EJECTED);
}
