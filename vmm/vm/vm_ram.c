/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's memory as it is carried elsewhere: see vm_ram.h for the contract. */
#include "vmm/vm/vm_ram.h"

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
