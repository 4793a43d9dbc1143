/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that runs before its memory is there: see lazy.h for the contract. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "guard/missing.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/image.h"
#include "vmm/migration/lazy_internal.h"

/* ---- life ---- */

/* Does the file hold anything in the block's part of it? */
static bool part_has_content(const struct part *part)
{
	struct stat st;
	off_t data;

	/* Hugetlbfs takes all of a file for data, but counts what it has. */
	if (fstat(part->c.fd, &st) == 0 && !st.st_blocks)
		return false;
	data = lseek(part->c.fd, (off_t)part->c.fd_offset, SEEK_DATA);
	if (data < 0)
		return errno != ENXIO;
	return (uint64_t)data < part->c.fd_offset + part->c.size;
}

static int part_init(struct lazy *lazy, struct part *part)
{
	const struct lazy_block *c = &part->c;
	const struct missing_area area = {
		.memory = c->memory,
		.size = c->size,
		.page_bytes = c->page_bytes,
		.unit_bytes = c->unit_bytes,
		.fd = c->fd,
		.fd_offset = c->fd_offset,
		.guard = c->guard,
	};
	uint64_t units = c->size / c->unit_bytes;
	int ret = -EOPNOTSUPP;

	part->nr_pages = c->size / LAZY_PAGE_BYTES;
	part->unit_pages = c->page_bytes / LAZY_PAGE_BYTES;
	part->area = LAZY_NO_AREA;
	part->missing = bitmap_new(part->nr_pages);
	part->wanted = bitmap_new(part->nr_pages);
	part->given = bitmap_new(units);
	part->at_once = bitmap_new(units);
	if (!part->missing || !part->wanted || !part->given || !part->at_once)
		return -ENOMEM;
	if (lazy->kernel && num_is_aligned(c->size, c->page_bytes))
		ret = missing_add(lazy->kernel, &area, &part->area);
	if (ret == -EOPNOTSUPP) {
		part->area = LAZY_NO_AREA;
		if (lazy->kernel)
			lazy->reason = "memory of a file on a disk, or a private mapping of a file";
		ret = 0;
	}
	/* A guard has emptied its memory; other memory may have been something before. */
	part->private_file = c->fd < 0 && !c->guard && part->area == LAZY_NO_AREA;
	part->every = c->populate || part->private_file ||
		      (c->fd >= 0 && !c->guard && part_has_content(part));
	return ret;
}

int lazy_new(const struct lazy_block *blocks, size_t nr_blocks, const struct lazy_source *source,
	     const struct lazy_hooks *hooks, struct lazy **ret_lazy, struct err **err)
{
	struct lazy *lazy = calloc(1, sizeof(*lazy));
	struct vmem_error error;
	int ret = 0;

	if (!lazy)
		return err_set(err, ENOMEM, "out of memory");
	pthread_mutex_init(&lazy->lock, NULL);
	lazy->source = *source;
	lazy->hooks = *hooks;
	lazy->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lazy->parts = calloc(nr_blocks + 1, sizeof(*lazy->parts));
	if (lazy->event < 0 || !lazy->parts)
		ret = -ENOMEM;
	if (!ret && missing_new(&lazy->kernel, &error)) {
		lazy->kernel = NULL;
		snprintf(lazy->reason_text, sizeof(lazy->reason_text), "%s", error.text);
		lazy->reason = lazy->reason_text;
	}
	for (; !ret && lazy->nr_parts < nr_blocks; lazy->nr_parts++) {
		lazy->parts[lazy->nr_parts].c = blocks[lazy->nr_parts];
		ret = part_init(lazy, &lazy->parts[lazy->nr_parts]);
	}
	if (ret) {
		lazy_free(lazy);
		return err_set(err, -ret, "cannot prepare for memory that comes later: %s",
			       strerror(-ret));
	}
	*ret_lazy = lazy;
	return 0;
}

void lazy_free(struct lazy *lazy)
{
	if (!lazy)
		return;
	lazy_serve_stop(lazy);
	/* Nobody should be left; who is must not take for zeros what has not come. */
	if (lazy->started && !lazy->finished)
		lazy_fail(lazy, NULL);
	missing_free(lazy->kernel);
	for (size_t i = 0; lazy->parts && i <= lazy->nr_parts; i++) {
		bitmap_free(lazy->parts[i].missing);
		bitmap_free(lazy->parts[i].wanted);
		bitmap_free(lazy->parts[i].given);
		bitmap_free(lazy->parts[i].at_once);
	}
	free(lazy->parts);
	if (lazy->event >= 0)
		close(lazy->event);
	pthread_mutex_destroy(&lazy->lock);
	free(lazy);
}

/* ---- what is to come ---- */

/* Note that pages are missing; how many of the run were not before. The lock is held. */
static void part_set_missing(struct lazy *lazy, struct part *part, uint64_t page, uint64_t nr,
			     bool at_once)
{
	uint64_t fresh = nr - bitmap_count(part->missing, page, nr);

	bitmap_set(part->missing, page, nr);
	lazy->nr_missing += fresh;
	lazy->nr_total += fresh;
	if (at_once)
		lazy->nr_at_once += fresh;
}

/* What a source that is asked has for the run. The lock is held. */
static void lazy_note_content(struct lazy *lazy, size_t index, uint64_t page, uint64_t end,
			      bool at_once)
{
	struct part *part = &lazy->parts[index];
	uint64_t nr;

	if (part->every) {
		part_set_missing(lazy, part, page, end - page, at_once);
		return;
	}
	for (; page < end; page += nr) {
		page = lazy->source.next(lazy->source.opaque, index, page, end, &nr);
		if (page < end)
			part_set_missing(lazy, part, page, nr, at_once);
	}
}

int lazy_expect(struct lazy *lazy, size_t index, uint64_t offset, uint64_t size, struct err **err)
{
	struct part *part = &lazy->parts[index];
	uint64_t unit = part->c.unit_bytes, first, nr;
	bool at_once = part->area == LAZY_NO_AREA;
	int ret = 0;

	if (!range_contains((struct range){0, part->c.size}, (struct range){offset, size}) ||
	    !num_is_aligned(offset | size, LAZY_PAGE_BYTES) || offset % unit || size % unit)
		return err_set(err, EINVAL, "memory block %zu has no such part", index);
	first = offset / unit;
	nr = size / unit;
	pthread_mutex_lock(&lazy->lock);
	if (!bitmap_all_clear(part->given, first, nr))
		ret = -EEXIST;
	if (!ret && !at_once) {
		ret = missing_expect(lazy->kernel, part->area, offset, size);
		if (!ret && lazy->source.read)
			/* What was there in advance, or read, is not what is to come. */
			ret = missing_forget(lazy->kernel, part->area, offset, size);
		if (ret == -EOPNOTSUPP || ret == -ENOMEM) {
			at_once = true;
			ret = 0;
			lazy->reason = "memory that is protected page by page";
		}
	}
	if (!ret) {
		bitmap_set(part->given, first, nr);
		if (at_once)
			bitmap_set(part->at_once, first, nr);
		if (lazy->source.read)
			lazy_note_content(lazy, index, offset / LAZY_PAGE_BYTES,
					  (offset + size) / LAZY_PAGE_BYTES, at_once);
	}
	pthread_mutex_unlock(&lazy->lock);
	if (ret)
		return err_set(err, -ret, "memory block %zu cannot be prepared: %s", index,
			       strerror(-ret));
	return 0;
}

/* The part of [page, end) from @page on that is all given, and all at once or not at all. */
static uint64_t lazy_given(const struct part *part, uint64_t page, uint64_t end, bool *ret_at_once)
{
	uint64_t unit = part->c.unit_bytes / LAZY_PAGE_BYTES, first = page / unit;
	uint64_t last = (end + unit - 1) / unit, stop;

	stop = bitmap_next_clear(part->given, first, last);
	*ret_at_once = stop > first && bitmap_test(part->at_once, first);
	if (*ret_at_once)
		stop = bitmap_next_clear(part->at_once, first, stop);
	else
		stop = bitmap_next_set(part->at_once, first, stop);
	return num_min(end, stop * unit);
}

int lazy_expect_pages(struct lazy *lazy, size_t index, uint64_t page, uint64_t nr, struct err **err)
{
	struct part *part = &lazy->parts[index];
	uint64_t end = page + nr, stop;
	int ret = 0;

	pthread_mutex_lock(&lazy->lock);
	for (; !ret && page < end; page = stop) {
		uint64_t unit = part->unit_pages, from = page - page % unit;
		bool at_once;

		stop = lazy_given(part, page, end, &at_once);
		if (stop <= page) {
			ret = -EINVAL;
			break;
		}
		/* Of a large page the other parts stay what they are, behind it. */
		if (!at_once)
			ret = missing_forget(lazy->kernel, part->area, from * LAZY_PAGE_BYTES,
					     (stop - from + unit - 1) / unit * unit *
						     LAZY_PAGE_BYTES);
		if (!ret)
			part_set_missing(lazy, part, page, stop - page, at_once);
	}
	pthread_mutex_unlock(&lazy->lock);
	if (ret)
		return err_set(err, -ret, "page %llu of memory block %zu cannot come later: %s",
			       (unsigned long long)page, index, strerror(-ret));
	return 0;
}

/* ---- the start ---- */

/* The next pages that cannot wait, from *page of part *index on; false: there are none. */
static bool lazy_next_at_once(struct lazy *lazy, size_t *index, uint64_t *page, uint64_t *ret_nr)
{
	for (; *index < lazy->nr_parts; (*index)++, *page = 0) {
		const struct part *part = &lazy->parts[*index];
		uint64_t unit = part->c.unit_bytes / LAZY_PAGE_BYTES;

		while (*page < part->nr_pages) {
			bool at_once;
			uint64_t stop, at;

			*page = num_max(*page, unit * bitmap_next_set(part->at_once, *page / unit,
								      part->nr_pages / unit));
			if (*page >= part->nr_pages)
				break;
			stop = lazy_given(part, *page, part->nr_pages, &at_once);
			at = lazy_missing_run(part, *page, stop, ret_nr);
			*page = at;
			if (at < stop)
				return true;
		}
	}
	return false;
}

/* Of a source that is asked: one piece. */
static int lazy_load_at_once(struct lazy *lazy, size_t index, uint64_t page, uint64_t *nr,
			     void *buf, struct err **err)
{
	uint64_t data, next;
	int ret = 0;

	*nr = num_min(*nr, LAZY_PIECE_PAGES);
	next = lazy->source.next(lazy->source.opaque, index, page, page + *nr, &data);
	*nr = next > page ? next - page : data;
	if (next == page)
		ret = lazy->source.read(lazy->source.opaque, index, page, *nr, buf, err);
	if (ret)
		return ret;
	pthread_mutex_lock(&lazy->lock);
	ret = lazy_store(lazy, index, page, *nr, next == page ? buf : NULL);
	pthread_mutex_unlock(&lazy->lock);
	lazy->nr_loaded += *nr;
	if (ret)
		return err_set(err, -ret, "the host has no memory for the machine: %s",
			       strerror(-ret));
	return 0;
}

static int lazy_load_all_at_once(struct lazy *lazy, struct cancel *cancel, struct err **err)
{
	void *buf = malloc(LAZY_PIECE_PAGES * LAZY_PAGE_BYTES);
	uint64_t page = 0, nr;
	size_t index = 0;
	int ret = 0;

	if (!buf)
		return err_set(err, ENOMEM, "out of memory");
	while (!ret && lazy_next_at_once(lazy, &index, &page, &nr)) {
		if (cancel && cancel_raised(cancel))
			ret = -ECANCELED;
		else
			ret = lazy_load_at_once(lazy, index, page, &nr, buf, err);
		page += nr;
	}
	free(buf);
	return ret;
}

/* Of a source that sends: ask for all of it, and wait. */
static int lazy_await_at_once(struct lazy *lazy, struct cancel *cancel, struct err **err)
{
	struct pollfd fds[2] = {{lazy->event, POLLIN, 0},
				{cancel ? cancel_fd(cancel) : -1, POLLIN, 0}};
	uint64_t page = 0, nr;
	size_t index = 0;
	bool left = true;
	eventfd_t count;

	for (;;) {
		pthread_mutex_lock(&lazy->lock);
		if (left)
			left = lazy_next_at_once(lazy, &index, &page, &nr);
		if (left)
			bitmap_set(lazy->parts[index].wanted, page, nr);
		else if (!lazy->nr_at_once || lazy->failed) {
			pthread_mutex_unlock(&lazy->lock);
			break;
		}
		pthread_mutex_unlock(&lazy->lock);
		if (cancel && cancel_raised(cancel))
			return -ECANCELED;
		if (left) {
			lazy->source.want(lazy->source.opaque, index, page, nr);
			lazy->nr_loaded += nr;
			page += nr;
			continue;
		}
		poll(fds, 2, -1);
		(void)eventfd_read(lazy->event, &count);
	}
	return lazy->failed ? err_set(err, EIO, "memory that cannot wait did not come") : 0;
}

int lazy_start(struct lazy *lazy, struct cancel *cancel, struct err **err)
{
	int ret = 0;

	lazy->start_ns = lazy_now_ns();
	if (lazy->nr_at_once)
		ret = lazy->source.read ? lazy_load_all_at_once(lazy, cancel, err)
					: lazy_await_at_once(lazy, cancel, err);
	if (!ret)
		ret = lazy_serve_start(lazy, err);
	if (!ret)
		lazy->started = true;
	return ret;
}

/* ---- while it lasts ---- */

int lazy_put(struct lazy *lazy, size_t index, uint64_t page, uint64_t nr, const void *bytes,
	     struct err **err)
{
	bool waited;
	int ret;

	if (index >= lazy->nr_parts ||
	    !range_contains((struct range){0, lazy->parts[index].nr_pages},
			    (struct range){page, nr}))
		return err_set(err, EINVAL, "memory block %zu has no such pages", index);
	pthread_mutex_lock(&lazy->lock);
	waited = lazy->nr_at_once;
	ret = lazy_store(lazy, index, page, nr, bytes);
	if (!lazy->nr_missing || (waited && !lazy->nr_at_once))
		lazy_notify(lazy);
	pthread_mutex_unlock(&lazy->lock);
	if (!ret)
		lazy_merge(lazy, index, page, nr);
	if (ret) {
		struct err *own = NULL;

		err_set(&own, -ret, "the host has no memory for the machine: %s", strerror(-ret));
		lazy_fail(lazy, err_message(own));
		ret = err_set(err, -ret, "%s", err_message(own));
		err_free(own);
	}
	return ret;
}

uint64_t lazy_next_missing(struct lazy *lazy, size_t index, uint64_t page, uint64_t end,
			   uint64_t *ret_nr)
{
	uint64_t first;

	pthread_mutex_lock(&lazy->lock);
	first = lazy_missing_run(&lazy->parts[index], page, end, ret_nr);
	pthread_mutex_unlock(&lazy->lock);
	return first;
}

void lazy_want_again(struct lazy *lazy)
{
	pthread_mutex_lock(&lazy->lock);
	lazy->want_again = true;
	pthread_mutex_unlock(&lazy->lock);
	lazy_notify(lazy);
}

void lazy_set_stalled(struct lazy *lazy, bool stalled)
{
	lazy->stalled = stalled;
}

bool lazy_is_stalled(const struct lazy *lazy)
{
	return lazy->stalled && lazy_is_active(lazy);
}

bool lazy_is_active(const struct lazy *lazy)
{
	return lazy->started && !lazy->finished && !lazy->failed;
}

void lazy_abort(struct lazy *lazy)
{
	lazy_fail(lazy, NULL);
}

void lazy_stats(const struct lazy *lazy, struct lazy_stats *ret_stats)
{
	uint64_t start = lazy->start_ns, end = lazy->end_ns;

	*ret_stats = (struct lazy_stats){
		.total_bytes = lazy->nr_total * LAZY_PAGE_BYTES,
		.missing_bytes = lazy->nr_missing * LAZY_PAGE_BYTES,
		.at_once_bytes = lazy->nr_loaded * LAZY_PAGE_BYTES,
		.faults = lazy->faults,
		.fault_ns = lazy->fault_ns,
		.fault_ns_max = lazy->fault_ns_max,
		.start_ns = start ? (end ? end : lazy_now_ns()) - start : 0,
		.at_once_reason = lazy->nr_loaded ? lazy->reason : NULL,
	};
}

/* ---- an image as a source ---- */

static uint64_t image_source_next(void *opaque, size_t block, uint64_t page, uint64_t end,
				  uint64_t *ret_nr)
{
	return image_next(opaque, block, page, end, ret_nr);
}

static int image_source_read(void *opaque, size_t block, uint64_t page, uint64_t nr, void *buf,
			     struct err **err)
{
	return image_read(opaque, block, page, nr, buf, err);
}

struct lazy_source lazy_source_of_image(struct image *image)
{
	return (struct lazy_source){
		.next = image_source_next, .read = image_source_read, .opaque = image};
}
