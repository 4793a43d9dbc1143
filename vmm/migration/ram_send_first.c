/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the target has to get once, written to or not: see ram_send.h, I5.
 *
 * A mark for each page that was there at the start, apart from the marks of writes. Whoever takes one
 * has the page: the sender, to send it, or a hint, to leave it out. The end of the first pass leaves
 * none: what an interrupted one did not come to counts as written from then on.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"
#include "vmm/core/dirty.h"
#include "vmm/core/gm.h"
#include "vmm/migration/ram_send_internal.h"

int ram_send_first_init(struct ram_send *s, struct err **err)
{
	s->first = calloc(s->config.nr_blocks + 1, sizeof(struct dirty *));
	if (!s->first)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < s->config.nr_blocks; i++) {
		s->first[i] = dirty_new(s->config.blocks[i].nr_pages);
		if (!s->first[i])
			return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

void ram_send_first_done(struct ram_send *s)
{
	for (size_t i = 0; s->first && i < s->config.nr_blocks; i++)
		dirty_free(s->first[i]);
	free(s->first);
}

void ram_send_first_mark(struct ram_send *s, size_t block, struct range pages)
{
	dirty_mark(s->first[block], pages.start, pages.size);
}

uint64_t ram_send_first_count(const struct ram_send *s, size_t block, struct range pages)
{
	return s->first_over ? 0 : dirty_count(s->first[block], pages.start, pages.size);
}

uint64_t ram_send_first_next(const struct ram_send *s, size_t block, uint64_t page, uint64_t end)
{
	return s->first_over ? end : dirty_next(s->first[block], page, end);
}

void ram_send_first_take(struct ram_send *s, size_t block, uint64_t first, uint64_t count,
			 uint64_t *words)
{
	if (!s->first_over)
		dirty_take(s->first[block], first, count, words, 0);
}

void ram_send_first_end(struct ram_send *s)
{
	for (size_t i = 0; !s->first_over && i < s->config.nr_blocks; i++) {
		uint64_t end = s->config.blocks[i].nr_pages, page = 0;

		while ((page = dirty_next(s->first[i], page, end)) < end) {
			uint64_t words[PAGES_WINDOW / 64] = {0};
			uint64_t count = num_min(end - page, PAGES_WINDOW);

			dirty_take(s->first[i], page, count, words, 0);
			gm_dirty_merge(s->config.gm, ram_send_gpa(s, i, page), words,
				       (size_t)(count + 63) / 64);
			page += count;
		}
	}
	s->first_over = true;
}

/* The pages of the block that lie wholly in [gpa, end). */
static struct range hint_pages(const struct block *b, uint64_t gpa, uint64_t end)
{
	uint64_t start = num_max(gpa, b->ram.gpa.start);
	struct range pages = {0, 0};

	end = num_min(end, range_end(b->ram.gpa));
	if (start >= end)
		return pages;
	start = (start - b->ram.gpa.start + PAGE_BYTES - 1) / PAGE_BYTES;
	end = (end - b->ram.gpa.start) / PAGE_BYTES;
	if (start < end)
		pages = (struct range){start, end - start};
	return pages;
}

uint64_t ram_send_hint_free(struct ram_send *s, uint64_t gpa, uint64_t size)
{
	uint64_t left_out = 0, words[PAGES_WINDOW / 64] = {0};

	size = num_min(size, UINT64_MAX - gpa);
	for (size_t i = 0; i < s->config.nr_blocks; i++) {
		struct range pages = hint_pages(&s->config.blocks[i], gpa, gpa + size);
		uint64_t page = pages.start, end = range_end(pages);

		while ((page = dirty_next(s->first[i], page, end)) < end) {
			uint64_t count = num_min(end - page, PAGES_WINDOW);

			left_out += dirty_take(s->first[i], page, count, words, 0);
			page += count;
		}
	}
	atomic_fetch_add(&s->hinted, left_out);
	return left_out;
}
