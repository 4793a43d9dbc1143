/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads of lazy.h.
 *
 * One serves those who wait. Of a source that is asked it reads a little around what is wanted, so
 * that it comes soon; another thread reads all the rest, from where somebody waited last. What
 * both read is put under the lock, and whoever comes second finds that nothing is missing.
 * When nothing is, the serving thread makes all of it ordinary memory, and ends.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "guard/missing.h"
#include "vmm/migration/lazy_internal.h"

#define LAZY_NEAR_PAGES 16u  /* read around a page that somebody waits for */
#define LAZY_RETRY_MS   1000 /* what could not be made ordinary is tried again */

uint64_t lazy_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void lazy_notify(const struct lazy *lazy)
{
	/* Full means that it is readable. */
	(void)eventfd_write(lazy->event, 1);
}

void lazy_fail(struct lazy *lazy, const char *sentence)
{
	if (atomic_exchange(&lazy->failed, true))
		return;
	if (sentence && lazy->hooks.failed)
		lazy->hooks.failed(lazy->hooks.opaque, sentence);
	/* Who is left waiting, for want of memory in the kernel, sees nothing wrong either. */
	if (lazy->kernel)
		(void)missing_fail(lazy->kernel);
	lazy_notify(lazy);
}

static int lazy_no_memory(int ret, struct err **err)
{
	return err_set(err, -ret, "the host has no memory for the machine: %s", strerror(-ret));
}

/* Read missing pages from a source that is asked, and put them. */
static int lazy_load(struct lazy *lazy, size_t index, uint64_t page, uint64_t nr, void *buf,
		     struct err **err)
{
	int ret = lazy->source.read(lazy->source.opaque, index, page, nr, buf, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&lazy->lock);
	ret = lazy_store(lazy, index, page, nr, buf);
	pthread_mutex_unlock(&lazy->lock);
	return ret ? lazy_no_memory(ret, err) : 0;
}

/* ---- faults ---- */

/* The first missing pages around @page, those of the host's page first. The lock is held. */
static uint64_t lazy_near(const struct part *part, uint64_t page, uint64_t *ret_nr)
{
	uint64_t unit = part->unit_pages, low, high, first = page;

	if (unit > 1)
		return lazy_missing_run(part, page, num_min(page + unit, part->nr_pages), ret_nr);
	low = page - page % LAZY_NEAR_PAGES;
	high = num_min(low + LAZY_NEAR_PAGES, part->nr_pages);
	while (first > low && bitmap_test(part->missing, first - 1))
		first--;
	*ret_nr = bitmap_next_clear(part->missing, page, high) - first;
	return first;
}

/* All that is missing of the host's page at @page. */
static int lazy_serve_read(struct lazy *lazy, size_t index, uint64_t page, void *buf,
			   struct err **err)
{
	const struct part *part = &lazy->parts[index];
	int ret = 0;

	while (!ret && !lazy->stop && !lazy->failed) {
		uint64_t first = page, nr = 0;

		pthread_mutex_lock(&lazy->lock);
		if (!bitmap_all_clear(part->missing, page, part->unit_pages))
			first = lazy_near(part, page, &nr);
		lazy->hint_part = index;
		lazy->hint_page = page;
		lazy->hinted = true;
		pthread_mutex_unlock(&lazy->lock);
		if (!nr)
			break;
		ret = lazy_load(lazy, index, first, num_min(nr, LAZY_PIECE_PAGES), buf, err);
	}
	return ret;
}

/* Tell a source that sends what is missing of the host's page and was not wanted before. */
static void lazy_serve_want(struct lazy *lazy, size_t index, uint64_t page)
{
	struct part *part = &lazy->parts[index];
	uint64_t at = page, end = page + part->unit_pages, nr;

	for (;;) {
		pthread_mutex_lock(&lazy->lock);
		do {
			at = lazy_missing_run(part, at, end, &nr);
			if (at < end && bitmap_test(part->wanted, at))
				at = bitmap_next_clear(part->wanted, at, end);
			else
				break;
		} while (at < end);
		if (at < end) {
			nr = bitmap_next_set(part->wanted, at, at + nr) - at;
			bitmap_set(part->wanted, at, nr);
		}
		pthread_mutex_unlock(&lazy->lock);
		if (at >= end)
			return;
		lazy->source.want(lazy->source.opaque, index, at, nr);
		at += nr;
	}
}

/* The area of a fault is that of a part. */
static size_t lazy_part_of(const struct lazy *lazy, size_t area)
{
	size_t index = 0;

	while (lazy->parts[index].area != area)
		index++;
	return index;
}

static int lazy_serve_fault(struct lazy *lazy, const struct missing_fault *fault, void *buf,
			    struct err **err)
{
	size_t index = lazy_part_of(lazy, fault->area);
	const struct part *part = &lazy->parts[index];
	uint64_t page = fault->offset / LAZY_PAGE_BYTES, start = lazy_now_ns(), took;
	bool there;
	int ret = 0;

	lazy->faults++;
	pthread_mutex_lock(&lazy->lock);
	there = bitmap_all_clear(part->missing, page, part->unit_pages);
	if (there)
		ret = lazy_show(lazy, index, page);
	pthread_mutex_unlock(&lazy->lock);
	if (ret)
		return lazy_no_memory(ret, err);
	if (there)
		return 0;
	if (!lazy->source.read) {
		lazy_serve_want(lazy, index, page);
		return 0;
	}
	ret = lazy_serve_read(lazy, index, page, buf, err);
	took = lazy_now_ns() - start;
	lazy->fault_ns += took;
	if (took > lazy->fault_ns_max)
		lazy->fault_ns_max = took;
	return ret;
}

/* Everything that was wanted and has not come, once more. */
static void lazy_serve_again(struct lazy *lazy)
{
	for (size_t i = 0; i < lazy->nr_parts; i++) {
		struct part *part = &lazy->parts[i];

		for (uint64_t at = 0, nr; at < part->nr_pages; at += nr) {
			pthread_mutex_lock(&lazy->lock);
			at = bitmap_next_set(part->wanted, at, part->nr_pages);
			nr = bitmap_next_clear(part->wanted, at, part->nr_pages) - at;
			pthread_mutex_unlock(&lazy->lock);
			if (nr)
				lazy->source.want(lazy->source.opaque, i, at, nr);
		}
	}
}

/* All of it is ordinary memory; false when some could not be made that. */
static bool lazy_settle(struct lazy *lazy)
{
	bool settled = true;

	for (size_t i = 0; i < lazy->nr_parts; i++)
		if (lazy->parts[i].area != LAZY_NO_AREA &&
		    missing_settle(lazy->kernel, lazy->parts[i].area, 0, lazy->parts[i].c.size))
			settled = false;
	return settled;
}

/* One turn of the serving thread; false: it is over. */
static bool lazy_serve_turn(struct lazy *lazy, void *buf, int *timeout_ms)
{
	struct missing_fault fault;
	struct err *err = NULL;
	bool again;

	while (lazy->kernel && !lazy->stop && !lazy->failed &&
	       !missing_next(lazy->kernel, &fault)) {
		if (lazy_serve_fault(lazy, &fault, buf, &err)) {
			lazy_fail(lazy, err_message(err));
			err_free(err);
			return false;
		}
	}
	pthread_mutex_lock(&lazy->lock);
	again = lazy->want_again;
	lazy->want_again = false;
	pthread_mutex_unlock(&lazy->lock);
	if (again)
		lazy_serve_again(lazy);
	if (lazy->stop || lazy->failed)
		return false;
	if (lazy->nr_missing)
		return true;
	if (!lazy_settle(lazy)) {
		*timeout_ms = LAZY_RETRY_MS;
		return true;
	}
	return false;
}

static void *lazy_serve(void *opaque)
{
	struct lazy *lazy = opaque;
	struct pollfd fds[2] = {{lazy->event, POLLIN, 0},
				{lazy->kernel ? missing_fd(lazy->kernel) : -1, POLLIN, 0}};
	void *buf = malloc(LAZY_PIECE_PAGES * LAZY_PAGE_BYTES);
	int timeout_ms = -1;
	eventfd_t count;

	if (!buf)
		lazy_fail(lazy, "out of memory");
	while (buf && lazy_serve_turn(lazy, buf, &timeout_ms)) {
		poll(fds, 2, timeout_ms);
		if (fds[0].revents)
			(void)eventfd_read(lazy->event, &count);
	}
	free(buf);
	lazy->end_ns = lazy_now_ns();
	if (!lazy->stop && !lazy->failed) {
		lazy->finished = true;
		if (lazy->hooks.done)
			lazy->hooks.done(lazy->hooks.opaque);
	}
	return NULL;
}

/* ---- everything else ---- */

/* What is read next. */
struct fill {
	size_t part;
	uint64_t page, nr;
	bool whole; /* lazy_is_whole_chunk() */
};

/* The next missing pages, from where @fill is on; false when nothing is missing. */
static bool lazy_fill_next(struct lazy *lazy, struct fill *fill)
{
	bool found = false;

	pthread_mutex_lock(&lazy->lock);
	if (lazy->hinted) {
		fill->part = lazy->hint_part;
		fill->page = lazy->hint_page - lazy->hint_page % LAZY_CHUNK_PAGES;
		lazy->hinted = false;
	}
	for (size_t tries = 0; !found && tries <= lazy->nr_parts; tries++) {
		const struct part *p = &lazy->parts[fill->part];
		uint64_t at = lazy_missing_run(p, fill->page, p->nr_pages, &fill->nr), chunk;

		if (at < p->nr_pages) {
			chunk = at - at % LAZY_CHUNK_PAGES;
			fill->whole = lazy_is_whole_chunk(lazy, fill->part, chunk);
			fill->page = fill->whole ? chunk : at;
			fill->nr = fill->whole ? LAZY_CHUNK_PAGES
					       : num_min(fill->nr,
							 LAZY_PIECE_PAGES - at % LAZY_PIECE_PAGES);
			found = true;
		} else {
			fill->part = (fill->part + 1) % lazy->nr_parts;
			fill->page = 0;
		}
	}
	pthread_mutex_unlock(&lazy->lock);
	return found;
}

/* A chunk as a whole; or what is missing of it, when something came meanwhile. */
static int lazy_fill_chunk(struct lazy *lazy, const struct fill *fill, void *stage,
			   struct err **err)
{
	int ret;

	missing_stage_place(lazy->kernel, lazy->parts[fill->part].area,
			    fill->page * LAZY_PAGE_BYTES, stage,
			    LAZY_CHUNK_PAGES * LAZY_PAGE_BYTES);
	ret = lazy->source.read(lazy->source.opaque, fill->part, fill->page, fill->nr, stage, err);
	if (ret)
		return ret;
	pthread_mutex_lock(&lazy->lock);
	if (lazy_is_whole_chunk(lazy, fill->part, fill->page))
		ret = lazy_store_chunk(lazy, fill->part, fill->page, stage);
	else
		ret = lazy_store(lazy, fill->part, fill->page, fill->nr, stage);
	pthread_mutex_unlock(&lazy->lock);
	return ret ? lazy_no_memory(ret, err) : 0;
}

static int lazy_fill_all(struct lazy *lazy, void *stage, struct err **err)
{
	struct fill fill = {0};
	int ret = 0;

	while (!ret && !lazy->stop && !lazy->failed && lazy_fill_next(lazy, &fill)) {
		ret = fill.whole ? lazy_fill_chunk(lazy, &fill, stage, err)
				 : lazy_load(lazy, fill.part, fill.page, fill.nr, stage, err);
		if (!ret)
			lazy_merge(lazy, fill.part, fill.page, fill.nr);
		fill.page += fill.nr;
	}
	return ret;
}

static void *lazy_fill(void *opaque)
{
	const size_t size = LAZY_CHUNK_PAGES * LAZY_PAGE_BYTES;
	struct lazy *lazy = opaque;
	void *stage = missing_stage_new(lazy->kernel, size);
	struct err *err = NULL;

	if (!stage) {
		lazy_fail(lazy, "out of memory");
	} else if (lazy_fill_all(lazy, stage, &err)) {
		lazy_fail(lazy, err_message(err));
		err_free(err);
	}
	if (stage)
		munmap(stage, size);
	lazy_notify(lazy);
	return NULL;
}

int lazy_serve_start(struct lazy *lazy, struct err **err)
{
	sigset_t all, before;
	int ret;

	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* a filter of system calls ends the process */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&lazy->serve, NULL, lazy_serve, lazy);
	lazy->threads_started = !ret;
	if (!ret && lazy->source.read && lazy->nr_missing) {
		ret = pthread_create(&lazy->fill, NULL, lazy_fill, lazy);
		lazy->fill_started = !ret;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!ret)
		return 0;
	lazy_serve_stop(lazy);
	return err_set(err, ret, "cannot start a thread: %s", strerror(ret));
}

void lazy_serve_stop(struct lazy *lazy)
{
	lazy->stop = true;
	lazy_notify(lazy);
	if (lazy->fill_started)
		pthread_join(lazy->fill, NULL);
	if (lazy->threads_started)
		pthread_join(lazy->serve, NULL);
	lazy->threads_started = lazy->fill_started = false;
}
