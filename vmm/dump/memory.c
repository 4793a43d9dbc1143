/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory of a guest for a dump: see memory.h. */
#include "vmm/dump/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/pages.h"
#include "vmm/virtio/mem.h"

#define PIECE_PAGES (DUMP_MEMORY_PIECE / PAGE_BYTES)

/* A part of a run, of one block. */
struct memory_part {
	struct range gpa;
	size_t block;
};

struct dump_memory {
	struct gm *gm;
	struct block *blocks;
	size_t nr_blocks;
	struct range filter;
	struct memory_part *parts;
	size_t nr_parts, room;
	struct range *runs;
	size_t nr_runs;
	uint64_t bytes;
	bool failed;  /* there was no memory for parts */
	size_t block; /* the one that is looked at */
	int pagemap;  /* -1: there is none */
	uint8_t *buffer;
};

/* ---- what there is ---- */

static void memory_add(struct dump_memory *m, uint64_t start, uint64_t size)
{
	uint64_t end = num_min(start + size, range_end(m->filter));

	start = num_max(start, m->filter.start);
	if (start >= end || m->failed)
		return;
	if (m->nr_parts == m->room) {
		size_t room = m->room ? 2 * m->room : 16;
		struct memory_part *parts = reallocarray(m->parts, room, sizeof(*parts));

		m->failed = !parts;
		if (!parts)
			return;
		m->parts = parts;
		m->room = room;
	}
	m->parts[m->nr_parts++] = (struct memory_part){{start, end - start}, m->block};
}

static void memory_on_plugged(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size,
			      bool plugged)
{
	struct dump_memory *m = opaque;

	(void)mem;
	if (plugged)
		memory_add(m, m->blocks[m->block].ram.gpa.start + offset, size);
}

static int memory_part_compare(const void *a, const void *b)
{
	const struct memory_part *x = a, *y = b;

	return (x->gpa.start > y->gpa.start) - (x->gpa.start < y->gpa.start);
}

static void memory_find(struct dump_memory *m)
{
	for (m->block = 0; m->block < m->nr_blocks; m->block++) {
		const struct vm_ram_block *ram = &m->blocks[m->block].ram;

		if (!ram->mem) {
			memory_add(m, ram->gpa.start, ram->gpa.size);
			continue;
		}
		/* The guest stands still, so what is told at once is all. */
		virtio_mem_track(ram->mem, memory_on_plugged, m);
		virtio_mem_track(ram->mem, NULL, NULL);
	}
	if (m->nr_parts)
		qsort(m->parts, m->nr_parts, sizeof(*m->parts), memory_part_compare);
}

static void memory_join(struct dump_memory *m)
{
	for (size_t i = 0; i < m->nr_parts; i++) {
		const struct range gpa = m->parts[i].gpa;
		struct range *last = m->nr_runs ? &m->runs[m->nr_runs - 1] : NULL;

		m->bytes += gpa.size;
		if (last && range_end(*last) == gpa.start)
			last->size += gpa.size;
		else
			m->runs[m->nr_runs++] = gpa;
	}
}

struct dump_memory *dump_memory_new(struct vm *vm, const struct range *filter, struct err **err)
{
	struct dump_memory *m = calloc(1, sizeof(*m));

	if (!m) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	m->gm = vm_gm(vm);
	m->filter = filter ? *filter : (struct range){0, UINT64_MAX};
	m->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	m->buffer = aligned_alloc(PAGE_BYTES, DUMP_MEMORY_PIECE);
	m->blocks = blocks_of_vm(vm, &m->nr_blocks, NULL);
	if (m->blocks)
		memory_find(m);
	m->runs = calloc(m->nr_parts + 1, sizeof(*m->runs));
	if (!m->buffer || !m->blocks || !m->runs || m->failed) {
		dump_memory_free(m);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	memory_join(m);
	return m;
}

void dump_memory_free(struct dump_memory *m)
{
	if (!m)
		return;
	if (m->pagemap >= 0)
		close(m->pagemap);
	free(m->buffer);
	free(m->runs);
	free(m->parts);
	free(m->blocks);
	free(m);
}

const struct range *dump_memory_runs(const struct dump_memory *m, size_t *ret_nr)
{
	*ret_nr = m->nr_runs;
	return m->runs;
}

uint64_t dump_memory_bytes(const struct dump_memory *m)
{
	return m->bytes;
}

/* ---- reading ---- */

/* What is read at a time: whole pages but for the first and the last one of the filter. */
struct memory_piece {
	const struct block *block;
	struct range gpa;
	uint64_t page; /* of the block, that its first byte is in */
	uint64_t nr_pages;
	uint64_t there[PIECE_PAGES / 64 + 1];
};

static struct range memory_page(const struct memory_piece *p, uint64_t i)
{
	uint64_t start = p->block->ram.gpa.start + (p->page + i) * PAGE_BYTES;
	uint64_t end = num_min(start + PAGE_BYTES, range_end(p->gpa));

	start = num_max(start, p->gpa.start);
	return (struct range){start, end - start};
}

static bool memory_is_there(const struct memory_piece *p, uint64_t i)
{
	return p->there[i / 64] >> i % 64 & 1;
}

static bool memory_is_zero(const uint8_t *bytes, size_t size)
{
	return !*bytes && !memcmp(bytes, bytes + 1, size - 1);
}

/* Those that the host provides into the buffer; those of zeros are not there any more. */
static int memory_load(const struct dump_memory *m, struct memory_piece *p, struct err **err)
{
	for (uint64_t i = 0; i < p->nr_pages; i++) {
		const struct range page = memory_page(p, i);
		uint8_t *to = m->buffer + (page.start - p->gpa.start);

		if (!memory_is_there(p, i))
			continue;
		if (gm_read(m->gm, page.start, to, page.size))
			return err_set(err, EIO,
				       "the host does not provide page 0x%llx of memory '%s'",
				       (unsigned long long)page.start, p->block->ram.name);
		if (memory_is_zero(to, page.size))
			p->there[i / 64] &= ~(UINT64_C(1) << i % 64);
	}
	return 0;
}

/* Its stretches of zeros and of something else. */
static int memory_tell(const struct dump_memory *m, const struct memory_piece *p, uint64_t position,
		       int (*fn)(void *opaque, uint64_t position, const void *bytes, size_t size,
				 struct err **err),
		       void *opaque, struct err **err)
{
	int ret = 0;

	for (uint64_t i = 0, next; i < p->nr_pages && !ret; i = next) {
		uint64_t at = memory_page(p, i).start - p->gpa.start;
		bool there = memory_is_there(p, i);

		for (next = i + 1; next < p->nr_pages; next++)
			if (memory_is_there(p, next) != there)
				break;
		ret = fn(opaque, position + at, there ? m->buffer + at : NULL,
			 range_end(memory_page(p, next - 1)) - p->gpa.start - at, err);
	}
	return ret;
}

static void memory_piece_begin(const struct dump_memory *m, const struct memory_part *part,
			       uint64_t start, struct memory_piece *ret_piece)
{
	const struct block *block = &m->blocks[part->block];
	/* The next one begins with a page. */
	uint64_t end = num_min(num_align_down(start, PAGE_BYTES) + DUMP_MEMORY_PIECE,
			       range_end(part->gpa));

	ret_piece->block = block;
	ret_piece->gpa = (struct range){start, end - start};
	ret_piece->page = (start - block->ram.gpa.start) / PAGE_BYTES;
	ret_piece->nr_pages = (end - 1 - block->ram.gpa.start) / PAGE_BYTES - ret_piece->page + 1;
	memset(ret_piece->there, 0xff, sizeof(ret_piece->there));
	pages_host_skip(block, ret_piece->page, ret_piece->nr_pages, ret_piece->there, m->pagemap);
}

int dump_memory_read(const struct dump_memory *m,
		     int (*fn)(void *opaque, uint64_t position, const void *bytes, size_t size,
			       struct err **err),
		     void *opaque, struct err **err)
{
	uint64_t position = 0;

	for (size_t i = 0; i < m->nr_parts; i++) {
		const struct memory_part *part = &m->parts[i];
		uint64_t at = part->gpa.start;

		while (at < range_end(part->gpa)) {
			struct memory_piece piece;
			int ret;

			memory_piece_begin(m, part, at, &piece);
			ret = memory_load(m, &piece, err);
			if (!ret)
				ret = memory_tell(m, &piece, position, fn, opaque, err);
			if (ret)
				return ret;
			at += piece.gpa.size;
			position += piece.gpa.size;
		}
	}
	return 0;
}
