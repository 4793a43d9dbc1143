/* SPDX-License-Identifier: BSD-3-Clause */
/* Host memory of a region: see held.h for the contract. */
#include "vmm/control/held.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/num.h"

#define HELD_PAGE_BYTES 4096u

/* An entry of /proc/self/pagemap. */
#define PAGEMAP_PRESENT   (UINT64_C(1) << 63)
#define PAGEMAP_SWAP      (UINT64_C(1) << 62)
#define PAGEMAP_FILE      (UINT64_C(1) << 61)
#define PAGEMAP_CLOSED    (UINT64_C(1) << 57) /* write-protected by userfaultfd */
#define PAGEMAP_EXCLUSIVE (UINT64_C(1) << 56)

/* Pages that are looked at by one call: 64 MiB. */
#define HELD_CHUNK_PAGES 16384u

struct held_cell {
	uint64_t plugged, held; /* bytes */
	uint64_t counted_ms;    /* 0: never */
};

struct held {
	uint64_t address, size;
	uint64_t cell_size;
	size_t nr;
	size_t next; /* to be counted */
	/* of that: how far it got */
	uint64_t done_bytes, found_bytes;
	struct held_cell cells[HELD_CELLS_MAX];
	uint64_t chunk[HELD_CHUNK_PAGES];
};

struct held *held_new(const void *memory, uint64_t size)
{
	struct held *held = calloc(1, sizeof(*held));

	if (held) {
		held->address = (uintptr_t)memory;
		held->size = size;
	}
	return held;
}

void held_free(struct held *held)
{
	free(held);
}

void held_set_plugged(struct held *held, const uint64_t *bytes, size_t nr, uint64_t cell_size)
{
	if (held->nr != nr || held->cell_size != cell_size) {
		for (size_t i = 0; i < nr; i++)
			held->cells[i] = (struct held_cell){.plugged = bytes[i]};
		held->nr = nr;
		held->cell_size = cell_size;
		held->next = 0;
		held->done_bytes = held->found_bytes = 0;
		return;
	}
	for (size_t i = 0; i < nr; i++)
		held->cells[i].plugged = bytes[i];
}

/* What is neither a file's nor ours alone is the page of zeros, or merged with others. */
static bool held_page(uint64_t entry)
{
	if (entry & PAGEMAP_CLOSED)
		return false;
	if (entry & PAGEMAP_PRESENT)
		return entry & (PAGEMAP_FILE | PAGEMAP_EXCLUSIVE);
	return entry & PAGEMAP_SWAP;
}

/* Bytes held in [@at, @at + @pages * page); 0 where that cannot be known. */
static uint64_t held_look(struct held *held, int fd, uint64_t at, uint64_t pages)
{
	off_t offset = (off_t)(at / HELD_PAGE_BYTES * sizeof(held->chunk[0]));
	ssize_t n = pread(fd, held->chunk, pages * sizeof(held->chunk[0]), offset);
	uint64_t held_pages = 0;

	for (size_t i = 0; n > 0 && i < (size_t)n / sizeof(held->chunk[0]); i++)
		held_pages += held_page(held->chunk[i]);
	return held_pages * HELD_PAGE_BYTES;
}

/* A chunk of the next cell, or the whole cell where nothing is plugged. */
static void held_step(struct held *held, int fd, uint64_t now_ms)
{
	struct held_cell *cell = &held->cells[held->next];
	uint64_t start = held->next * held->cell_size;
	uint64_t size = num_min(held->cell_size, held->size - start);
	uint64_t pages = num_min((size - held->done_bytes) / HELD_PAGE_BYTES, HELD_CHUNK_PAGES);

	if (cell->plugged && pages) {
		held->found_bytes +=
			held_look(held, fd, held->address + start + held->done_bytes, pages);
		held->done_bytes += pages * HELD_PAGE_BYTES;
		if (held->done_bytes < size)
			return;
	}
	cell->held = num_min(held->found_bytes, cell->plugged);
	cell->counted_ms = now_ms;
	held->done_bytes = held->found_bytes = 0;
	held->next = (held->next + 1) % held->nr;
}

void held_count(struct held *held, uint64_t (*now_ms)(void), uint64_t deadline_ms)
{
	size_t first = held->next;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	/* Once around, or until time is up; but always one step. */
	while (fd >= 0 && held->nr) {
		size_t before = held->next;
		uint64_t at_ms = now_ms();

		held_step(held, fd, at_ms);
		if (at_ms >= deadline_ms || (held->next == first && !held->done_bytes &&
					     (before != first || held->nr == 1)))
			break;
	}
	if (fd >= 0)
		close(fd);
}

uint64_t held_bytes(const struct held *held)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < held->nr; i++)
		bytes += num_min(held->cells[i].held, held->cells[i].plugged);
	return bytes;
}

uint64_t held_age_ms(const struct held *held, uint64_t now_ms)
{
	uint64_t age_ms = 0;

	for (size_t i = 0; i < held->nr; i++) {
		if (!held->cells[i].counted_ms)
			return UINT64_MAX;
		age_ms = num_max(age_ms, now_ms - num_min(now_ms, held->cells[i].counted_ms));
	}
	return age_ms;
}
