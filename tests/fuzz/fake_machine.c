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
#include "vmm/vm/vm.h"
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
	pthread_mutex_init(&m->lock, NULL);
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
	pthread_mutex_destroy(&m->lock);
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

enum vm_state vm_state(const struct vm *vm)
{
	(void)vm;
	return machine.runs ? VM_RUNNING : VM_INMIGRATE;
}

void vm_memory_stalls(struct vm *vm, bool stalled)
{
	(void)vm;
	(void)stalled;
	check(machine.runs, "only who runs waits for memory");
}

void vm_incoming_end(struct vm *vm)
{
	(void)vm;
	check(machine.ended && !machine.runs, "a guest runs once, when all of it is there");
	machine.runs = true;
}

bool vm_incoming_is_held(const struct vm *vm)
{
	(void)vm;
	check(machine.ended && !machine.runs, "who is asked how to begin has not begun");
	return machine.config.start_paused;
}

/* ---- memory that comes later ---- */

/* Read at once from a source that is asked; else as far as it comes. */
struct lazy {
	bool expected[MACHINE_BLOCKS][PAGES], missing[MACHINE_BLOCKS][PAGES];
	_Atomic unsigned int nr_missing;
	bool stalled;
};

/* The blocks of the source may be in another order. */
struct later {
	struct later_config config;
	const struct block *blocks;
	size_t nr_blocks;
	struct lazy_source source;
	struct lazy lazy;
	bool is_expected;
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

struct lazy *later_lazy(struct later *later)
{
	return later->is_expected ? &later->lazy : NULL;
}

int later_expect(struct later *later, const struct block *blocks, size_t nr_blocks,
		 const struct lazy_source *source, struct err **err)
{
	(void)err;
	check(!later->is_expected, "memory is expected once");
	later->is_expected = true;
	later->blocks = blocks;
	later->nr_blocks = nr_blocks;
	later->source = *source;
	for (size_t i = 0; i < nr_blocks; i++)
		for (unsigned int page = 0; page < PAGES; page++)
			later->lazy.expected[i][page] =
				!blocks[i].ram.mem || blocks[i].ram.mem->plugged[page / UNIT_PAGES];
	return 0;
}

static int later_read_all(struct later *later, struct err **err)
{
	static uint8_t page[PAGE_BYTES];
	const struct lazy_source *source = &later->source;
	int ret = 0;

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

int later_start(struct later *later, struct cancel *cancel, struct err **err)
{
	(void)cancel;
	if (later->source.next)
		return later_read_all(later, err);
	if (later->lazy.nr_missing)
		later->source.want(later->source.opaque, 0, 0, 1);
	return 0;
}

int lazy_expect_pages(struct lazy *lazy, size_t block, uint64_t page, uint64_t nr, struct err **err)
{
	check(block < MACHINE_BLOCKS && page < PAGES && nr <= PAGES - page, "pages of a block");
	for (uint64_t at = page; at < page + nr; at++)
		if (!lazy->expected[block][at])
			return err_set(err, EINVAL, "a page is expected where there is no memory");
	for (uint64_t at = page; at < page + nr; at++) {
		lazy->nr_missing += !lazy->missing[block][at];
		lazy->missing[block][at] = true;
	}
	return 0;
}

int lazy_put(struct lazy *lazy, size_t block, uint64_t page, uint64_t nr, const void *bytes,
	     struct err **err)
{
	uint8_t sum = 0;

	(void)err;
	check(block < MACHINE_BLOCKS && page < PAGES && nr <= PAGES - page, "pages of a block");
	for (size_t i = 0; bytes && i < nr * PAGE_BYTES; i++)
		sum ^= ((const uint8_t *)bytes)[i];
	machine.sum ^= sum;
	for (uint64_t at = page; at < page + nr; at++) {
		lazy->nr_missing -= lazy->missing[block][at];
		lazy->missing[block][at] = false;
	}
	return 0;
}

uint64_t lazy_next_missing(struct lazy *lazy, size_t block, uint64_t page, uint64_t end,
			   uint64_t *ret_nr)
{
	check(block < MACHINE_BLOCKS && page <= end && end <= PAGES, "pages of a block");
	while (page < end && !lazy->missing[block][page])
		page++;
	for (*ret_nr = 0; page + *ret_nr < end && lazy->missing[block][page + *ret_nr];)
		++*ret_nr;
	return page;
}

bool lazy_is_active(const struct lazy *lazy)
{
	return lazy->nr_missing;
}

void lazy_stats(const struct lazy *lazy, struct lazy_stats *ret_stats)
{
	*ret_stats = (struct lazy_stats){.missing_bytes = lazy->nr_missing * PAGE_BYTES};
}

void lazy_want_again(struct lazy *lazy)
{
	check(!lazy->stalled, "nobody wants anything without a connection");
}

void lazy_set_stalled(struct lazy *lazy, bool stalled)
{
	lazy->stalled = stalled;
}

bool lazy_is_stalled(const struct lazy *lazy)
{
	return lazy->stalled;
}

void lazy_abort(struct lazy *lazy)
{
	(void)lazy;
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

/* ---- the main thread ---- */

/* Calls are done one at a time, by whoever wants them. */
int onmain_call(struct onmain *onmain, void (*fn)(void *opaque), void *opaque)
{
	int ret = -ECANCELED;

	(void)onmain;
	pthread_mutex_lock(&machine.lock);
	if (!machine.closed) {
		fn(opaque);
		ret = 0;
	}
	pthread_mutex_unlock(&machine.lock);
	return ret;
}

void machine_close(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	m->closed = true;
	pthread_mutex_unlock(&m->lock);
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
