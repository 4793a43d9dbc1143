/* SPDX-License-Identifier: BSD-3-Clause */
/* The blocks of memory that a migration carries: see blocks.h. */
#include "vmm/migration/blocks.h"

#include <errno.h>
#include <stdlib.h>

#include <vmem/device.h>

#include "base/err.h"
#include "vmm/virtio/mem.h"

struct block *blocks_of_vm(const struct vm *vm, size_t *ret_nr, struct err **err)
{
	size_t nr = vm_nr_ram_blocks(vm);
	struct block *blocks = calloc(nr + 1, sizeof(*blocks));

	if (!blocks) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	for (size_t i = 0; i < nr; i++) {
		struct block *b = &blocks[i];
		struct vmem_device_info info;

		b->ram = *vm_ram_block(vm, i);
		b->nr_pages = b->ram.gpa.size / PAGE_BYTES;
		if (b->ram.mem) {
			virtio_mem_info(b->ram.mem, &info);
			b->unit_bytes = info.block_size;
		}
	}
	*ret_nr = nr;
	return blocks;
}
