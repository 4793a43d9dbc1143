/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine for loading: see fake_machine.h. */
#include "fake_machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/migration/image.h"
#include "vmm/migration/later.h"
#include "vmm/migration/onmain.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/vm_migrate.h"
#include "vmm/vm/vm_state.h"

void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

struct machine machine;

void machine_init(struct machine *m)
{
	static const char *const names[MACHINE_BLOCKS] = {"ram.0", "vmem0", "vmem1"};

	memset(m, 0, sizeof(*m));
	m->vm.config = &m->config;
	m->vm.layout = &m->layout;
	m->vm.gm = gm_new();
	for (unsigned int i = 0; i < MACHINE_BLOCKS; i++) {
		struct range gpa = {i * MIB, PAGES * PAGE_BYTES};
		struct virtio_mem *mem = i ? &m->mems[i - 1] : NULL;

		m->blocks[i] = (struct vm_ram_block){
			.name = names[i],
			.gpa = gpa,
			.host = m->memory[i],
			.page_bytes = PAGE_BYTES,
			.fd = -1,
			.mem = mem,
		};
		if (mem)
			mem->host = m->memory[i];
		if (mem)
			check(!gm_add_device_memory(m->vm.gm, gpa, m->memory[i],
						    UNIT_PAGES * PAGE_BYTES, &mem->region),
			      "device memory");
		else
			check(!gm_add_ram(m->vm.gm, gpa, m->memory[i]), "memory");
	}
}

void machine_done(struct machine *m)
{
	for (unsigned int i = 0; i < 2; i++)
		gm_remove_device_memory(m->vm.gm, m->mems[i].region);
	gm_free(m->vm.gm);
}

void machine_check(const struct machine *m)
{
	static const uint8_t zeros[UNIT_PAGES * PAGE_BYTES];

	for (unsigned int i = 0; i < 2; i++)
		for (unsigned int unit = 0; unit < PAGES / UNIT_PAGES; unit++)
			check(m->mems[i].plugged[unit] ||
				      !memcmp(m->mems[i].host + unit * sizeof(zeros), zeros,
					      sizeof(zeros)),
			      "what is not plugged is not written to");
}

/* ---- what the migration asks of a machine ---- */

size_t vm_nr_ram_blocks(const struct vm *vm)
{
	(void)vm;
	return MACHINE_BLOCKS;
}

const struct vm_ram_block *vm_ram_block(const struct vm *vm, size_t index)
{
	(void)vm;
	return &machine.blocks[index];
}

struct gm *vm_gm(const struct vm *vm)
{
	return vm->gm;
}

void virtio_mem_info(const struct virtio_mem *mem, struct vmem_device_info *ret_info)
{
	(void)mem;
	memset(ret_info, 0, sizeof(*ret_info));
	ret_info->block_size = UNIT_PAGES * PAGE_BYTES;
}

int virtio_mem_load_plug(struct virtio_mem *mem, uint64_t offset, uint64_t size, bool plugged,
			 struct err **err)
{
	uint64_t unit = UNIT_PAGES * PAGE_BYTES;

	check(size && num_is_aligned(offset | size, unit) && offset + size <= PAGES * PAGE_BYTES,
	      "runs of whole device blocks");
	for (uint64_t at = offset; at < offset + size; at += unit)
		if (plugged && mem->plugged[at / unit])
			return err_set(err, EINVAL, "a block is plugged already");
	for (uint64_t at = offset; at < offset + size; at += unit)
		mem->plugged[at / unit] = plugged;
	if (plugged) {
		gm_grant(mem->region, offset, size);
	} else {
		gm_revoke(mem->region, offset, size);
		memset(mem->host + offset, 0, size);
	}
	return 0;
}

int vm_load_section(struct vm *vm, const struct vm_section *section, struct err **err)
{
	uint8_t sum = 0;

	(void)vm;
	check(!machine.ended, "no section after the end");
	for (size_t i = 0; i < section->size; i++)
		sum ^= ((const uint8_t *)section->data)[i];
	machine.sections++;
	return strlen(section->name) + strlen(section->id) + sum == section->version
		       ? err_set(err, EINVAL, "section '%s' of '%s' is not to be had",
				 section->name, section->id)
		       : 0;
}

int vm_load_end(struct vm *vm, struct err **err)
{
	(void)vm;
	machine.ended = true;
	return machine.sections > 3 ? err_set(err, EINVAL, "there are too many sections") : 0;
}

void vm_incoming_end(struct vm *vm)
{
	(void)vm;
	check(machine.ended && !machine.runs, "a guest runs once, when all of it is there");
	machine.runs = true;
}

/* Memory that comes later: all of it is read at once, before the guest runs. */
struct later {
	struct later_config config;
	const struct block *blocks;
	size_t nr_blocks;
	struct lazy_source source;
};

struct later *later_new(const struct later_config *config, struct err **err)
{
	struct later *later = calloc(1, sizeof(*later));

	(void)err;
	later->config = *config;
	return later;
}

void later_free(struct later *later)
{
	free(later);
}

int later_expect(struct later *later, const struct block *blocks, size_t nr_blocks,
		 const struct lazy_source *source, struct err **err)
{
	(void)err;
	later->blocks = blocks;
	later->nr_blocks = nr_blocks;
	later->source = *source;
	return 0;
}

int later_start(struct later *later, struct cancel *cancel, struct err **err)
{
	static uint8_t page[PAGE_BYTES];
	const struct lazy_source *source = &later->source;
	int ret = 0;

	(void)cancel;
	for (size_t i = 0; i < later->nr_blocks && !ret; i++) {
		uint64_t at = 0, nr = 0, end = later->blocks[i].nr_pages;

		while (!ret && (at = source->next(source->opaque, i, at, end, &nr)) < end) {
			check(nr && nr <= end - at, "runs inside of their block");
			ret = source->read(source->opaque, i, at++, 1, page, err);
		}
		check(ret || at == end, "runs inside of their block");
	}
	if (!ret)
		later->config.ended(later->config.opaque);
	return ret;
}

static uint64_t source_next(void *opaque, size_t block, uint64_t page, uint64_t end,
			    uint64_t *ret_nr)
{
	return image_next(opaque, block, page, end, ret_nr);
}

static int source_read(void *opaque, size_t block, uint64_t page, uint64_t nr, void *buf,
		       struct err **err)
{
	return image_read(opaque, block, page, nr, buf, err);
}

struct lazy_source lazy_source_of_image(struct image *image)
{
	return (struct lazy_source){.next = source_next, .read = source_read, .opaque = image};
}

int onmain_call(struct onmain *onmain, void (*fn)(void *opaque), void *opaque)
{
	(void)onmain;
	fn(opaque);
	return 0;
}

/* Of a machine without devices (vm_describe.c). */
struct pci_device *vm_pci_device(const struct vm *vm, const struct vm_device_config *config)
{
	(void)vm;
	(void)config;
	abort();
}

const char *vm_device_name(const struct vm *vm, const struct vm_device *d,
			   char name[VM_DEVICE_NAME_MAX])
{
	(void)vm;
	(void)d;
	(void)name;
	abort();
}

const char *vm_device_type_name(enum vm_device_type type)
{
	(void)type;
	abort();
}
