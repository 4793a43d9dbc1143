/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Putting pages where they belong: see lazy_internal.h.
 *
 * A page of the host's memory is seen as a whole. Where it is larger than LAZY_PAGE_BYTES its parts are
 * written unseen, and shown with the last one.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "guard/missing.h"
#include "vmm/core/fault.h"
#include "vmm/migration/lazy_internal.h"

uint64_t lazy_missing_run(const struct part *part, uint64_t page, uint64_t end, uint64_t *ret_nr)
{
	uint64_t first = bitmap_next_set(part->missing, page, end);

	*ret_nr = first < end ? bitmap_next_clear(part->missing, first, end) - first : 0;
	return first;
}

/* ---- memory that nobody waits for ---- */

struct direct {
	const char *bytes; /* NULL: zeros */
};

static int lazy_copy(void *opaque, void *memory, size_t size)
{
	const struct direct *d = opaque;
	const uint64_t *words = memory;

	if (d->bytes) {
		memcpy(memory, d->bytes, size);
		return 0;
	}
	/* Zeros stay untouched, so that they take no memory. */
	for (size_t i = 0; i < size / sizeof(*words); i++)
		if (words[i]) {
			memset(memory, 0, size);
			break;
		}
	return 0;
}

static int lazy_store_direct(const struct part *part, uint64_t page, uint64_t nr, const char *bytes)
{
	char *memory = (char *)part->c.memory + page * LAZY_PAGE_BYTES;
	int ret = 0;

	/* What is fresh is zeros. */
	if (!bytes && !part->every && !part->private_file)
		return 0;
	for (uint64_t i = 0; !ret && i < nr; i++) {
		struct direct d = {bytes ? bytes + i * LAZY_PAGE_BYTES : NULL};

		ret = fault_catch(lazy_copy, &d, memory + i * LAZY_PAGE_BYTES, LAZY_PAGE_BYTES);
	}
	return ret == -EFAULT ? -ENOMEM : ret;
}

/* ---- memory that is waited for ---- */

/* Does the page have to be there before the start? */
static bool lazy_is_at_once(const struct part *part, uint64_t page)
{
	return part->area == LAZY_NO_AREA ||
	       bitmap_test(part->at_once, page * LAZY_PAGE_BYTES / part->c.unit_bytes);
}

/* Parts of the host's large pages. */
static int lazy_store_parts(struct lazy *lazy, struct part *part, uint64_t page, uint64_t nr,
			    const char *bytes)
{
	static const char zeros[LAZY_PAGE_BYTES];
	uint64_t step = bytes ? nr : 1, end = page + nr;
	int ret = 0;

	for (uint64_t at = page; !ret && at < end; at += step)
		ret = missing_write(lazy->kernel, part->area, at * LAZY_PAGE_BYTES,
				    step * LAZY_PAGE_BYTES, bytes ? bytes : zeros);
	bitmap_clear(part->missing, page, nr);
	for (uint64_t unit = page - page % part->unit_pages; !ret && unit < end;
	     unit += part->unit_pages)
		if (bitmap_all_clear(part->missing, unit, part->unit_pages))
			ret = missing_show(lazy->kernel, part->area, unit * LAZY_PAGE_BYTES,
					   part->unit_pages * LAZY_PAGE_BYTES);
	return ret;
}

/* A run that is missing as a whole, all of it waited for or none. */
static int lazy_store_run(struct lazy *lazy, struct part *part, uint64_t page, uint64_t nr,
			  const char *bytes)
{
	uint64_t offset = page * LAZY_PAGE_BYTES, size = nr * LAZY_PAGE_BYTES;
	int ret;

	if (lazy_is_at_once(part, page)) {
		ret = lazy_store_direct(part, page, nr, bytes);
		lazy->nr_at_once -= nr;
	} else if (part->unit_pages > 1) {
		ret = lazy_store_parts(lazy, part, page, nr, bytes);
	} else if (bytes || !part->c.populate) {
		ret = bytes ? missing_put(lazy->kernel, part->area, offset, size, bytes)
			    : missing_put_zeros(lazy->kernel, part->area, offset, size);
	} else {
		static const char zeros[LAZY_PAGE_BYTES];

		ret = 0;
		for (uint64_t i = 0; !ret && i < nr; i++)
			ret = missing_put(lazy->kernel, part->area, offset + i * LAZY_PAGE_BYTES,
					  LAZY_PAGE_BYTES, zeros);
	}
	/* It was unplugged, or everything has failed already. */
	if (ret == -ENOENT)
		ret = 0;
	bitmap_clear(part->missing, page, nr);
	bitmap_clear(part->wanted, page, nr);
	lazy->nr_missing -= nr;
	return ret;
}

/* The part of [page, end) from @page on of which all has to be there before the start, or nothing. */
static uint64_t lazy_same(const struct part *part, uint64_t page, uint64_t end)
{
	uint64_t unit = part->c.unit_bytes / LAZY_PAGE_BYTES, first = page / unit;
	uint64_t last = (end + unit - 1) / unit;

	if (part->area == LAZY_NO_AREA)
		return end;
	last = bitmap_test(part->at_once, first) ? bitmap_next_clear(part->at_once, first, last)
						 : bitmap_next_set(part->at_once, first, last);
	return num_min(end, last * unit);
}

int lazy_store(struct lazy *lazy, size_t index, uint64_t page, uint64_t nr, const void *bytes)
{
	struct part *part = &lazy->parts[index];
	uint64_t end = page + nr, at = page, some;
	int ret = 0;

	while (!ret && !lazy->failed && (at = lazy_missing_run(part, at, end, &some)) < end) {
		some = lazy_same(part, at, at + some) - at;
		ret = lazy_store_run(lazy, part, at, some,
				     bytes ? (const char *)bytes + (at - page) * LAZY_PAGE_BYTES
					   : NULL);
		at += some;
	}
	return ret;
}

/* ---- huge pages ---- */

/* Pages of the chunk that have content, as far as is known. */
static uint64_t lazy_count_content(const struct lazy *lazy, size_t index, uint64_t page,
				   uint64_t end)
{
	uint64_t count = 0, nr;

	if (!lazy->source.next || lazy->parts[index].every)
		return end - page;
	for (;; page += nr) {
		page = lazy->source.next(lazy->source.opaque, index, page, end, &nr);
		if (page >= end)
			return count;
		count += nr;
	}
}

void lazy_merge(struct lazy *lazy, size_t index, uint64_t page, uint64_t nr)
{
	const struct part *part = &lazy->parts[index];
	uint64_t end = page + nr;

	if (part->c.fd >= 0 || part->area == LAZY_NO_AREA)
		return;
	for (page -= page % LAZY_CHUNK_PAGES; page < end; page += LAZY_CHUNK_PAGES) {
		uint64_t stop = num_min(page + LAZY_CHUNK_PAGES, part->nr_pages);
		bool whole;

		pthread_mutex_lock(&lazy->lock);
		whole = bitmap_all_clear(part->missing, page, stop - page);
		pthread_mutex_unlock(&lazy->lock);
		if (whole && lazy_count_content(lazy, index, page, stop) >= LAZY_CHUNK_CONTENT)
			missing_merge(lazy->kernel, part->area, page * LAZY_PAGE_BYTES);
	}
}

bool lazy_is_whole_chunk(const struct lazy *lazy, size_t index, uint64_t page)
{
	const struct part *part = &lazy->parts[index];
	uint64_t end = page + LAZY_CHUNK_PAGES, count;

	if (part->c.fd >= 0 || part->area == LAZY_NO_AREA || page % LAZY_CHUNK_PAGES ||
	    end > part->nr_pages ||
	    !num_is_aligned((uintptr_t)part->c.memory, LAZY_CHUNK_PAGES * LAZY_PAGE_BYTES))
		return false;
	for (uint64_t at = page; at < end; at += part->c.unit_bytes / LAZY_PAGE_BYTES)
		if (lazy_is_at_once(part, at))
			return false;
	count = bitmap_count(part->missing, page, LAZY_CHUNK_PAGES);
	return count >= LAZY_CHUNK_CONTENT && count == lazy_count_content(lazy, index, page, end);
}

int lazy_store_chunk(struct lazy *lazy, size_t index, uint64_t page, void *stage)
{
	struct part *part = &lazy->parts[index];
	uint64_t nr = bitmap_count(part->missing, page, LAZY_CHUNK_PAGES);
	int ret = missing_move(lazy->kernel, part->area, page * LAZY_PAGE_BYTES,
			       LAZY_CHUNK_PAGES * LAZY_PAGE_BYTES, stage);

	/* It was unplugged, or everything has failed already. */
	if (ret == -ENOENT)
		ret = 0;
	bitmap_clear(part->missing, page, LAZY_CHUNK_PAGES);
	lazy->nr_missing -= nr;
	return ret;
}

int lazy_show(struct lazy *lazy, size_t index, uint64_t page)
{
	const struct part *part = &lazy->parts[index];
	uint64_t first = page, end = page + part->unit_pages;
	int ret;

	if (part->c.fd < 0) {
		ret = missing_put_zeros(lazy->kernel, part->area, page * LAZY_PAGE_BYTES,
					LAZY_PAGE_BYTES);
		return ret == -ENOENT ? 0 : ret;
	}
	/* What came before the guest ran is there, and not seen yet: more of that at a time. */
	while (!lazy->source.next && end < part->nr_pages && end % LAZY_CHUNK_PAGES &&
	       bitmap_all_clear(part->missing, end, part->unit_pages))
		end += part->unit_pages;
	ret = missing_show(lazy->kernel, part->area, first * LAZY_PAGE_BYTES,
			   (end - first) * LAZY_PAGE_BYTES);
	return ret == -ENOENT ? 0 : ret;
}
