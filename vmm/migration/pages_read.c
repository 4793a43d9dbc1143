/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading pages of a running machine into batches: see pages.h for the contract.
 *
 * Others write while a page is copied: it is loaded by relaxed atomic words. One pass finds out
 * whether it is zeros and copies it, and a page that is zeros is not copied at all.
 */
#include "vmm/migration/pages.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/core/gm.h"

#define PAGE_WORDS    (PAGE_BYTES / 8)
#define PAGE_STEP     8u /* words that are looked at at a time */
#define PAGES_TRIES   3u
#define PAGES_NOTHING SIZE_MAX

struct pages_reader {
	struct pages_reader_config config;
	int pagemap; /* -1: there is none */
	uint8_t *bytes;
	/* of one block; PAGES_NOTHING while nothing is gathered */
	size_t block;
	struct pages_run runs[PAGES_BATCH];
	size_t nr_runs, nr_pages;
	struct pages_run zeros[PAGES_ZERO_RUNS];
	size_t nr_zeros;
};

struct pages_reader *pages_reader_new(const struct pages_reader_config *config, struct err **err)
{
	struct pages_reader *r = calloc(1, sizeof(*r));

	if (r)
		r->bytes = aligned_alloc(PAGE_BYTES, PAGES_BATCH * PAGE_BYTES);
	if (!r || !r->bytes) {
		free(r);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	r->config = *config;
	r->block = PAGES_NOTHING;
	r->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return r;
}

void pages_reader_free(struct pages_reader *r)
{
	if (!r)
		return;
	if (r->pagemap >= 0)
		close(r->pagemap);
	free(r->bytes);
	free(r);
}

void pages_reader_tell_zeros(struct pages_reader *r, bool tell)
{
	r->config.tell_zeros = tell;
}

/* ---- batches ---- */

static int pages_flush_normal(struct pages_reader *r, struct err **err)
{
	size_t nr_runs = r->nr_runs, nr_pages = r->nr_pages;

	if (!nr_pages)
		return 0;
	r->nr_runs = r->nr_pages = 0;
	for (size_t i = 0; i < nr_runs; i++)
		pages_map_set(r->config.sent, r->block, r->runs[i].first, r->runs[i].count);
	atomic_fetch_add(&r->config.counts->normal, nr_pages);
	return r->config.sink->pages(r->config.opaque, r->block, r->runs, nr_runs, r->bytes,
				     nr_pages, err);
}

static int pages_flush_zeros(struct pages_reader *r, struct err **err)
{
	size_t nr = r->nr_zeros;

	if (!nr)
		return 0;
	r->nr_zeros = 0;
	for (size_t i = 0; i < nr; i++)
		pages_map_clear(r->config.sent, r->block, r->zeros[i].first, r->zeros[i].count);
	return r->config.sink->zeros(r->config.opaque, r->block, r->zeros, nr, err);
}

int pages_reader_flush(struct pages_reader *r, struct err **err)
{
	int ret = pages_flush_normal(r, err);

	return ret ? ret : pages_flush_zeros(r, err);
}

void pages_reader_drop(struct pages_reader *r)
{
	r->nr_runs = r->nr_pages = r->nr_zeros = 0;
	r->block = PAGES_NOTHING;
}

/* Makes the last run longer, or begins one. */
static void pages_run_add(struct pages_run *runs, size_t *nr, uint64_t page, uint32_t count)
{
	struct pages_run *last = *nr ? &runs[*nr - 1] : NULL;

	if (last && last->first + last->count == page && last->count <= UINT32_MAX - count)
		last->count += count;
	else
		runs[(*nr)++] = (struct pages_run){page, count};
}

/* At most PAGES_WINDOW pages. */
static int pages_add_zeros(struct pages_reader *r, uint64_t page, uint64_t count, struct err **err)
{
	int ret = 0;

	atomic_fetch_add_explicit(&r->config.counts->zero, count, memory_order_relaxed);
	for (uint64_t end = page + count; page < end && !ret; page += count) {
		count = end - page;
		if (!r->config.tell_zeros) {
			count = pages_map_same(r->config.sent, r->block, page, end);
			if (!pages_map_test(r->config.sent, r->block, page))
				continue;
		}
		if (r->nr_zeros == PAGES_ZERO_RUNS)
			ret = pages_flush_zeros(r, err);
		pages_run_add(r->zeros, &r->nr_zeros, page, (uint32_t)count);
	}
	return ret;
}

/* ---- copying ---- */

/* To @to, unless it is zeros: false then. */
static bool page_copy(uint64_t *to, const uint64_t *from)
{
	size_t zeros = 0;

	for (; zeros < PAGE_WORDS; zeros += PAGE_STEP) {
		uint64_t any = 0;

		for (size_t i = zeros; i < zeros + PAGE_STEP; i++)
			any |= __atomic_load_n(&from[i], __ATOMIC_RELAXED);
		if (any)
			break;
	}
	if (zeros == PAGE_WORDS)
		return false;
	memset(to, 0, zeros * sizeof(*to));
	for (size_t i = zeros; i < PAGE_WORDS; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	return true;
}

bool pages_is_zero(const void *host)
{
	const uint64_t *words = host;
	uint64_t any = 0;

	for (size_t at = 0; at < PAGE_WORDS && !any; at += PAGE_STEP)
		for (size_t i = at; i < at + PAGE_STEP; i++)
			any |= words[i];
	return !any;
}

/* What gm_access_read() is to do; looked at also after it was left in the middle. */
struct pages_copy {
	uint8_t *to; /* room for all pages */
	size_t done; /* pages */
	size_t used; /* pages of @to */
	uint64_t zero[PAGES_BATCH / 64];
};

static int pages_copy_piece(void *opaque, void *host, size_t size)
{
	struct pages_copy *c = opaque;

	for (size_t at = 0; at < size; at += PAGE_BYTES) {
		uint64_t *to = (uint64_t *)(c->to + c->used * PAGE_BYTES);

		if (page_copy(to, (const uint64_t *)((char *)host + at)))
			c->used++;
		else
			c->zero[c->done / 64] |= UINT64_C(1) << c->done % 64;
		/* The page counts when all of it is there. */
		__atomic_store_n(&c->done, c->done + 1, __ATOMIC_RELEASE);
	}
	return 0;
}

/*
 * Copy as many of the @count pages (1 to what has room) from @page on as can be read, and add them
 * to the batches. Returns -EFAULT when that was not all, *ret_done (always set) being their number.
 */
static int pages_copy_run(struct pages_reader *r, uint64_t page, size_t count, size_t *ret_done,
			  struct err **err)
{
	const struct block *b = &r->config.blocks[r->block];
	struct pages_copy c = {.to = r->bytes + r->nr_pages * PAGE_BYTES};
	int fault, ret = 0;

	fault = gm_access_read(r->config.gm, b->ram.gpa.start + page * PAGE_BYTES,
			       (uint64_t)count * PAGE_BYTES, pages_copy_piece, &c);
	for (size_t i = 0; i < c.done && !ret; i++) {
		if (c.zero[i / 64] >> i % 64 & 1) {
			ret = pages_add_zeros(r, page + i, 1, err);
		} else {
			pages_run_add(r->runs, &r->nr_runs, page + i, 1);
			r->nr_pages++;
		}
	}
	*ret_done = c.done;
	return ret ? ret : fault;
}

/* A page that gave -EFAULT: is it gone, or is the host to blame? (I1) */
static int pages_read_again(struct pages_reader *r, uint64_t page, struct err **err)
{
	const struct block *b = &r->config.blocks[r->block];
	uint64_t gpa = b->ram.gpa.start + page * PAGE_BYTES;
	size_t done;

	for (unsigned int try = 0; try < PAGES_TRIES; try++) {
		int ret;

		if (!gm_valid(r->config.gm, gpa, PAGE_BYTES)) {
			gm_dirty_mark(r->config.gm, gpa, PAGE_BYTES);
			return 0;
		}
		/* It came back between the two. */
		ret = pages_copy_run(r, page, 1, &done, err);
		if (ret != -EFAULT)
			return ret;
	}
	return err_set(err, EIO, "the host does not provide page 0x%llx of memory '%s'",
		       (unsigned long long)gpa, b->ram.name);
}

static int pages_read_run(struct pages_reader *r, uint64_t page, uint64_t count, struct err **err)
{
	bool single = false;

	for (uint64_t end = page + count; page < end;) {
		uint64_t part = num_min(end - page, PAGES_BATCH - r->nr_pages);
		size_t done;
		int ret;

		if (!part) {
			ret = pages_flush_normal(r, err);
			if (ret)
				return ret;
			continue;
		}
		if (single)
			part = 1;
		ret = pages_copy_run(r, page, (size_t)part, &done, err);
		page += done;
		if (ret && ret != -EFAULT)
			return ret;
		/* Find the page that it is, one by one; and go on like this, there may be more. */
		if (ret && single) {
			ret = pages_read_again(r, page++, err);
			if (ret)
				return ret;
		}
		single = single || ret;
	}
	return 0;
}

static bool pages_bit(const uint64_t *words, uint64_t at)
{
	return words[at / 64] >> at % 64 & 1;
}

/* The first bit at or after @at that is @set, or @end. */
static uint64_t pages_find(const uint64_t *words, uint64_t at, uint64_t end, bool set)
{
	while (at < end) {
		uint64_t word = (set ? words[at / 64] : ~words[at / 64]) >> at % 64;

		if (word)
			return num_min(at + (unsigned int)__builtin_ctzll(word), end);
		at = (at | 63) + 1;
	}
	return end;
}

int pages_reader_read(struct pages_reader *r, size_t block, uint64_t first, const uint64_t *words,
		      size_t nr_words, bool fresh, struct err **err)
{
	const struct block *b = &r->config.blocks[block];
	uint64_t there[PAGES_WINDOW / 64], at, stop,
		end = num_min(nr_words * 64, b->nr_pages - first);
	int ret = 0;

	assert(nr_words <= ARRAY_SIZE(there));
	if (block != r->block)
		ret = pages_reader_flush(r, err);
	if (ret)
		return ret;
	r->block = block;
	memcpy(there, words, nr_words * sizeof(*words));
	if (fresh)
		pages_host_skip(b, first, end, there, r->pagemap);
	for (at = pages_find(words, 0, end, true); at < end && !ret;
	     at = pages_find(words, stop, end, true)) {
		bool is_there = pages_bit(there, at);

		stop = pages_find(words, at, end, false);
		stop = num_min(stop, pages_find(there, at, end, !is_there));
		ret = is_there ? pages_read_run(r, first + at, stop - at, err)
			       : pages_add_zeros(r, first + at, stop - at, err);
	}
	return ret;
}
