/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sending memory when the guest runs at the target already (ram_send.h): what is left is asked for
 * once, and from then on pages go where they are wanted, whether they were sent before or not.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/gm.h"
#include "vmm/migration/notes.h"
#include "vmm/migration/ram_send_internal.h"
#include "vmm/migration/ram_send_lane.h"

int ram_send_settle(struct ram_send *s, struct err **err)
{
	uint64_t pages;
	int ret = ram_send_sync(s, &pages, err);

	if (!ret)
		ret = ram_send_end_further(s, err);
	/* No page is told from one of zeros by what was sent any more. */
	lane_tell_zeros(s->lane, true);
	return ret;
}

/* Sets bits [from, to) of @words. */
static void ram_send_bits(uint64_t *words, uint64_t from, uint64_t to)
{
	for (; from < to; from++)
		words[from / 64] |= UINT64_C(1) << from % 64;
}

/* Clear the bits of what is not told; bit 0 is page @first, a page of the block. */
static void ram_send_only_told(const struct ram_send *s, size_t block, uint64_t first,
			       uint64_t *words)
{
	uint64_t told[PAGES_WINDOW / 64] = {0}, end = first + PAGES_WINDOW;
	struct range run = {first, 0};

	while (notes_told_run(s->notes, block, range_end(run), &run) && run.start < end)
		ram_send_bits(told, run.start - first, num_min(range_end(run), end) - first);
	for (size_t i = 0; i < PAGES_WINDOW / 64; i++)
		words[i] &= told[i];
}

/* Clear the bits of what is zeros here, as the host knows, and at the target. */
static void ram_send_not_absent(struct ram_send *s, size_t block, uint64_t first, uint64_t *words,
				int pagemap)
{
	const _Atomic uint64_t *sent = pages_map_words(s->sent, block) + first / 64;
	const struct block *b = &s->config.blocks[block];
	uint64_t count = num_min(PAGES_WINDOW, b->nr_pages - first), there[PAGES_WINDOW / 64];

	memcpy(there, words, sizeof(there));
	pages_host_skip(b, first, count, there, pagemap);
	for (size_t i = 0; i < (count + 63) / 64; i++) {
		uint64_t absent = words[i] & ~there[i] & ~sent[i];

		words[i] &= ~absent;
		s->counts.zero += (unsigned int)__builtin_popcountll(absent);
	}
}

uint64_t ram_send_left(struct ram_send *s,
		       void (*fn)(void *opaque, size_t block, uint64_t page, const uint64_t *words,
				  size_t nr_words),
		       void *opaque)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t pages = 0;

	for (size_t i = 0; i < s->config.nr_blocks; i++) {
		const struct block *b = &s->config.blocks[i];
		uint64_t start = b->ram.gpa.start, end = range_end(b->ram.gpa), gpa = start;

		while ((gpa = gm_dirty_next(s->config.gm, gpa, end)) < end) {
			uint64_t words[PAGES_WINDOW / 64] = {0};
			uint64_t page = num_align_down((gpa - start) / PAGE_BYTES, 64);
			uint64_t count = num_min(PAGES_WINDOW, b->nr_pages - page);

			ram_send_take(s, i, page, count, words);
			ram_send_only_told(s, i, page, words);
			if (!s->config.content_comes_later)
				ram_send_not_absent(s, i, page, words, pagemap);
			for (size_t w = 0; w < ARRAY_SIZE(words); w++)
				pages += (unsigned int)__builtin_popcountll(words[w]);
			fn(opaque, i, page, words, (size_t)(count + 63) / 64);
			gpa = start + (page + count) * PAGE_BYTES;
		}
	}
	if (pagemap >= 0)
		close(pagemap);
	atomic_store(&s->rate.remaining_pages, pages);
	return pages;
}

int ram_send_pages(struct ram_send *s, size_t block, uint64_t first, uint64_t count,
		   struct err **err)
{
	struct rate_sums sums;
	int ret = 0;

	for (uint64_t done = 0; done < count && !ret; done += PAGES_WINDOW) {
		uint64_t part = num_min(count - done, PAGES_WINDOW);
		struct lane_job job = {
			.block = block,
			.first = first + done,
			.nr_words = (size_t)(part + 63) / 64,
			.fresh = !s->config.content_comes_later,
		};

		ram_send_bits(job.words, 0, part);
		ret = lane_send(s->lane, &job, err);
		rate_taken(&s->rate, part);
	}
	if (!ret)
		ret = lane_flush(s->lane, err);
	ram_send_sums(s, &sums);
	rate_tick(&s->rate, &sums);
	return ret;
}

void ram_send_channel(struct ram_send *s, struct record_writer *channel)
{
	lane_set_writer(s->lane, channel);
}
