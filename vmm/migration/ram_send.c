/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sending the memory of a machine that runs: see ram_send.h for the contract.
 *
 * The migration's thread walks over what is told and marked, and takes the marks of a window of
 * pages at a time; the pages are then read, and sent, by the main lane, or by that of a worker.
 *
 * "Sent" bits (pages that may be something else than zeros at the target) are set and cleared where
 * a page is read. A round ends when all its pages were read, so no two lanes look at the same page;
 * and what a worker still holds of a block that was told as gone meanwhile leaves at worst a bit
 * too many, which costs one telling of zeros.
 */
#include "vmm/migration/ram_send.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/migration.h"
#include "vmm/migration/notes.h"
#include "vmm/migration/pages.h"
#include "vmm/migration/ram_send_internal.h"
#include "vmm/migration/ram_send_lane.h"
#include "vmm/migration/record.h"
#include "vmm/migration/workers.h"

#define RAM_SEND_TRIES 3u /* passes over a machine that is stopped */

/* ---- making it ---- */

static int ram_send_workers(struct ram_send *s, struct lane_config *config, struct err **err)
{
	struct lane *lanes[RECORD_CHANNELS_MAX];
	size_t nr = s->config.nr_further;

	assert(nr <= ARRAY_SIZE(lanes));
	for (size_t i = 0; i < nr; i++) {
		config->writer = s->config.further[i];
		lanes[i] = lane_new(config, err);
		if (!lanes[i]) {
			while (i)
				lane_free(lanes[--i]);
			return -ENOMEM;
		}
	}
	s->workers = workers_new(lanes, nr, err);
	return s->workers ? 0 : -ENOMEM;
}

static int ram_send_lanes(struct ram_send *s, struct err **err)
{
	const struct ram_send_config *c = &s->config;
	struct lane_config lane = {
		.writer = c->channel,
		.pace = c->pace,
		.cancel = c->cancel,
		.zstd = c->zstd,
		.zstd_level = c->zstd_level,
		.reader = {.gm = c->gm,
			   .blocks = c->blocks,
			   .nr_blocks = c->nr_blocks,
			   .sent = s->sent,
			   .counts = &s->counts},
	};

	if (c->sink) {
		lane.writer = NULL;
		lane.reader.sink = c->sink->pages;
		lane.reader.opaque = c->opaque;
	}
	s->lane = lane_new(&lane, err);
	if (!s->lane)
		return -ENOMEM;
	return c->nr_further ? ram_send_workers(s, &lane, err) : 0;
}

struct ram_send *ram_send_new(const struct ram_send_config *config, struct err **err)
{
	struct ram_send *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	s->config = *config;
	s->limits = config->limits;
	s->fresh = !config->content_comes_later;
	pthread_mutex_init(&s->lock, NULL);
	s->notes = notes_new(config->blocks, config->nr_blocks, err);
	if (!s->notes)
		goto fail;
	s->sent = pages_map_new(config->blocks, config->nr_blocks, err);
	if (!s->sent || ram_send_first_init(s, err) || ram_send_lanes(s, err))
		goto fail;
	return s;
fail:
	ram_send_free(s);
	return NULL;
}

void ram_send_free(struct ram_send *s)
{
	if (!s)
		return;
	workers_free(s->workers);
	lane_free(s->lane);
	notes_free(s->notes);
	pages_map_free(s->sent);
	ram_send_first_done(s);
	if (ram_send_throttle(s))
		s->config.throttle(s->config.opaque, 0);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- barriers and notes ---- */

static int ram_send_barrier(struct ram_send *s, struct err **err)
{
	int ret = 0;

	s->barriers++;
	if (s->workers)
		ret = workers_round(s->workers, s->barriers, err);
	return ret ? ret : lane_round(s->lane, s->barriers, err);
}

/* Notes that are being told. */
struct ram_send_news {
	struct ram_send *send;
	bool begun;
	size_t nr; /* in notes_bytes */
	struct err **err;
};

/* Pages that were sent before arrive before the notes. */
static int ram_send_news_begin(struct ram_send_news *n)
{
	n->begun = true;
	return n->send->workers ? ram_send_barrier(n->send, n->err)
				: lane_flush(n->send->lane, n->err);
}

static int ram_send_news_write(struct ram_send_news *n)
{
	struct ram_send *s = n->send;
	size_t nr = n->nr;

	if (!nr)
		return 0;
	n->nr = 0;
	bytes_put_le(s->notes_bytes, 4, nr);
	return lane_record(s->lane, RECORD_NOTES, s->notes_bytes, 4 + nr * PAGES_NOTE_BYTES,
			   n->err);
}

static int ram_send_note(void *opaque, size_t block, struct range run, bool plugged)
{
	struct ram_send_news *n = opaque;
	struct ram_send *s = n->send;
	uint8_t *at;
	int ret = 0;

	if (!n->begun)
		ret = ram_send_news_begin(n);
	if (!ret && !plugged)
		pages_map_clear(s->sent, block, run.start / PAGE_BYTES, run.size / PAGE_BYTES);
	if (!ret && s->config.sink)
		return s->config.sink->note
			       ? s->config.sink->note(s->config.opaque, block, run, plugged, n->err)
			       : 0;
	if (!ret && n->nr == PAGES_NOTES)
		ret = ram_send_news_write(n);
	at = s->notes_bytes + 4 + n->nr++ * PAGES_NOTE_BYTES;
	bytes_put_le(at, 4, block);
	bytes_put_le(at + 4, 4, plugged);
	bytes_put_le(at + 8, 8, run.start);
	bytes_put_le(at + 16, 8, run.size);
	return ret;
}

int ram_send_tell(struct ram_send *s, struct err **err)
{
	struct ram_send_news news = {.send = s, .err = err};
	int ret = notes_take(s->notes, ram_send_note, &news);

	if (!ret)
		ret = ram_send_news_write(&news);
	if (!ret && news.begun && s->workers)
		ret = ram_send_barrier(s, err);
	return ret;
}

/* ---- a pass over what is marked ---- */

uint64_t ram_send_gpa(const struct ram_send *s, size_t block, uint64_t page)
{
	return s->config.blocks[block].ram.gpa.start + page * PAGE_BYTES;
}

void ram_send_sums(const struct ram_send *s, struct rate_sums *ret)
{
	ret->ms = (uint64_t)cancel_now_ms();
	ret->bytes = lane_bytes(s->lane) + (s->workers ? workers_bytes(s->workers) : 0);
	ret->normal = atomic_load(&s->counts.normal);
	ret->zero = atomic_load(&s->counts.zero);
}

/* Marked pages among those that are told. */
static uint64_t ram_send_count(const struct ram_send *s)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < s->config.nr_blocks; i++) {
		struct range run = {0, 0};

		while (notes_told_run(s->notes, i, range_end(run), &run))
			pages += gm_dirty_count(s->config.gm, ram_send_gpa(s, i, run.start),
						run.size * PAGE_BYTES) +
				 ram_send_first_count(s, i, run);
	}
	return pages;
}

uint64_t ram_send_take(struct ram_send *s, size_t block, uint64_t first, uint64_t count,
		       uint64_t *words)
{
	size_t nr_words = (size_t)(count + 63) / 64;
	uint64_t gpa = ram_send_gpa(s, block, first), taken, pages = 0;

	taken = gm_dirty_take(s->config.gm, gpa, words, nr_words);
	/* Others will want what is behind. */
	for (uint64_t i = count; taken && i < nr_words * 64; i++) {
		uint64_t bit = UINT64_C(1) << i % 64;

		if (words[i / 64] & bit) {
			words[i / 64] &= ~bit;
			gm_dirty_mark(s->config.gm, gpa + i * PAGE_BYTES, PAGE_BYTES);
			taken--;
		}
	}
	ram_send_first_take(s, block, first, count, words);
	for (size_t i = 0; i < nr_words; i++)
		pages += (uint64_t)__builtin_popcountll(words[i]);
	return pages;
}

/* Drop what is not told any more: it is gone (notes.h, I2). */
static void ram_send_drop_gone(struct ram_send *s, struct lane_job *job, uint64_t count)
{
	struct range run;
	uint64_t at = 0;

	while (at < count) {
		uint64_t told = count, end = count;

		if (notes_told_run(s->notes, job->block, job->first + at, &run)) {
			told = num_min(run.start - job->first, count);
			end = num_min(range_end(run) - job->first, count);
		}
		for (; at < told; at++)
			job->words[at / 64] &= ~(UINT64_C(1) << at % 64);
		at = end;
	}
}

/*
 * What is marked of @count told pages (PAGES_WINDOW at most) from @first on, in the order of I2.
 * *ret_taken: how many.
 */
static int ram_send_window(struct ram_send *s, size_t block, uint64_t first, uint64_t count,
			   uint64_t *ret_taken, struct err **err)
{
	struct lane_job job = {
		.block = block,
		.first = first,
		.fresh = s->fresh,
		.interrupted = s->final ? NULL : &s->interrupted,
	};
	int ret;

	job.nr_words = (size_t)(count + 63) / 64;
	*ret_taken = ram_send_take(s, block, first, count, job.words);
	if (!*ret_taken)
		return 0;
	ret = notes_pending(s->notes) ? ram_send_tell(s, err) : 0;
	if (ret)
		return ret;
	ram_send_drop_gone(s, &job, count);
	return s->workers ? workers_put(s->workers, &job, err) : lane_send(s->lane, &job, err);
}

/* The first marked page of the run, or its end. */
static uint64_t ram_send_next(const struct ram_send *s, size_t block, struct range run)
{
	uint64_t end = range_end(run), next;

	next = gm_dirty_next(s->config.gm, ram_send_gpa(s, block, run.start),
			     ram_send_gpa(s, block, end));
	next = (next - ram_send_gpa(s, block, 0)) / PAGE_BYTES;
	return ram_send_first_next(s, block, run.start, next);
}

/* Pages that hints made fewer are taken, too. */
static uint64_t ram_send_left_out(struct ram_send *s)
{
	uint64_t known = s->hinted_known;

	s->hinted_known = atomic_load(&s->hinted);
	return s->hinted_known - known;
}

/*
 * The first PAGES_WINDOW pages of the told run from the first marked one on; *page becomes the page
 * behind what was looked at. What is told may be something else after each step.
 */
static int ram_send_step(struct ram_send *s, size_t block, struct range run, uint64_t *page,
			 struct err **err)
{
	uint64_t end = range_end(run), next = ram_send_next(s, block, run), first, count, taken;
	struct rate_sums sums;
	int ret;

	*page = end;
	if (next == end)
		return 0;
	if (cancel_raised(s->config.cancel))
		return -ECANCELED;
	first = num_max(run.start, num_align_down(next, 64));
	count = num_min(end - first, PAGES_WINDOW);
	*page = first + count;
	ret = ram_send_window(s, block, first, count, &taken, err);
	rate_taken(&s->rate, taken + ram_send_left_out(s));
	ram_send_sums(s, &sums);
	rate_tick(&s->rate, &sums);
	return ret;
}

static bool ram_send_is_interrupted(const struct ram_send *s)
{
	return !s->final && atomic_load(&s->interrupted);
}

/* All that is marked of the block, or until ram_send_interrupt(). */
static int ram_send_block(struct ram_send *s, size_t block, struct err **err)
{
	struct range run;
	uint64_t page = 0;
	int ret = 0;

	while (!ret && !ram_send_is_interrupted(s) && notes_told_run(s->notes, block, page, &run))
		ret = ram_send_step(s, block, run, &page, err);
	return ret;
}

/* All that is marked, and the barrier after it; nothing is under way any more. */
static int ram_send_pass(struct ram_send *s, struct err **err)
{
	struct rate_sums sums;
	int ret = 0;

	ram_send_sums(s, &sums);
	rate_begin(&s->rate, &sums, ram_send_count(s));
	if (s->config.pass)
		s->config.pass(s->config.opaque, s->rate.syncs);
	for (size_t i = 0; i < s->config.nr_blocks && !ret; i++)
		ret = ram_send_block(s, i, err);
	if (!ret && s->config.sink)
		ret = lane_flush(s->lane, err);
	else if (!ret)
		ret = ram_send_barrier(s, err);
	if (!ret && s->workers)
		ret = workers_wait(s->workers, err);
	if (!ret && s->config.sink && s->config.sink->round)
		ret = s->config.sink->round(s->config.opaque, s->rate.syncs, err);
	if (ret)
		return ret;
	if (!ram_send_is_interrupted(s))
		s->fresh = false;
	if (s->config.looked)
		s->config.looked(s->config.opaque);
	ram_send_first_end(s);
	ram_send_sums(s, &sums);
	rate_end(&s->rate, &sums);
	return 0;
}

int ram_send_sync(struct ram_send *s, uint64_t *ret_pages, struct err **err)
{
	int ret = s->config.sync(s->config.opaque);

	if (ret)
		return err_set(err, -ret, "cannot get to know what the guest wrote: %s",
			       strerror(-ret));
	ret = ram_send_tell(s, err);
	if (ret)
		return ret;
	*ret_pages = ram_send_count(s);
	rate_synced(&s->rate, (uint64_t)cancel_now_ms(), *ret_pages);
	return 0;
}

/* ---- the face ---- */

int ram_send_start(struct ram_send *s, struct err **err)
{
	int ret;

	notes_track(s->notes);
	ret = ram_send_tell(s, err);
	for (size_t i = 0; i < s->config.nr_blocks && !ret; i++) {
		struct range run = {0, 0};

		while (notes_told_run(s->notes, i, range_end(run), &run))
			ram_send_first_mark(s, i, run);
	}
	atomic_store(&s->rate.remaining_pages, notes_told_pages(s->notes));
	return ret;
}

static struct ram_send_limits ram_send_get_limits(const struct ram_send *s)
{
	struct ram_send *locked = (struct ram_send *)s;
	struct ram_send_limits limits;

	pthread_mutex_lock(&locked->lock);
	limits = s->limits;
	pthread_mutex_unlock(&locked->lock);
	return limits;
}

static void ram_send_converge(struct ram_send *s, const struct ram_send_limits *limits,
			      uint64_t dirty_pages)
{
	unsigned int before = s->rate.throttle, now;

	if (!s->config.throttle)
		return;
	now = rate_throttle(&s->rate, limits, dirty_pages);
	if (now != before)
		s->config.throttle(s->config.opaque, now);
}

int ram_send_round(struct ram_send *s, enum ram_send_state *ret_state, struct err **err)
{
	struct ram_send_limits limits;
	uint64_t pages;
	int ret = ram_send_pass(s, err);

	if (!ret)
		ret = ram_send_sync(s, &pages, err);
	if (ret)
		return ret;
	limits = ram_send_get_limits(s);
	if (atomic_exchange(&s->interrupted, false)) {
		*ret_state = RAM_SEND_INTERRUPTED;
	} else if (rate_fits(&s->rate, &limits)) {
		*ret_state = RAM_SEND_FITS;
	} else {
		*ret_state = RAM_SEND_MORE;
		ram_send_converge(s, &limits, pages);
	}
	return 0;
}

int ram_send_rounds(struct ram_send *s, enum ram_send_state *ret_state, struct err **err)
{
	int ret;

	do
		ret = ram_send_round(s, ret_state, err);
	while (!ret && *ret_state == RAM_SEND_MORE);
	return ret;
}

void ram_send_interrupt(struct ram_send *s)
{
	atomic_store(&s->interrupted, true);
}

int ram_send_end_further(struct ram_send *s, struct err **err)
{
	int ret = 0;

	if (s->workers)
		ret = workers_end(s->workers, err);
	return ret || !s->workers ? ret : workers_wait(s->workers, err);
}

int ram_send_final(struct ram_send *s, struct err **err)
{
	uint64_t pages;
	int ret;

	s->final = true;
	for (unsigned int try = 0; try <= RAM_SEND_TRIES; try++) {
		ret = ram_send_sync(s, &pages, err);
		if (ret)
			return ret;
		if (!pages)
			return ram_send_end_further(s, err);
		ret = try < RAM_SEND_TRIES ? ram_send_pass(s, err) : 0;
		if (ret)
			return ret;
	}
	return err_set(err, EBUSY, "memory is written to while the machine is stopped");
}

const struct notes *ram_send_notes(const struct ram_send *s)
{
	return s->notes;
}

struct pages_map *ram_send_sent(const struct ram_send *s)
{
	return s->sent;
}

/* ---- figures ---- */

void ram_send_limits(struct ram_send *s, const struct ram_send_limits *limits)
{
	pthread_mutex_lock(&s->lock);
	s->limits = *limits;
	pthread_mutex_unlock(&s->lock);
}

void ram_send_info(const struct ram_send *s, struct migration_ram_info *ret)
{
	struct rate_sums sums;

	ram_send_sums(s, &sums);
	ret->transferred = sums.bytes;
	ret->multifd_bytes = s->workers ? workers_bytes(s->workers) : 0;
	ret->remaining = s->rate.remaining_pages * PAGE_BYTES;
	ret->total = notes_told_pages(s->notes) * PAGE_BYTES;
	ret->duplicate = sums.zero;
	ret->normal = sums.normal;
	ret->normal_bytes = sums.normal * PAGE_BYTES;
	ret->dirty_pages_rate = s->rate.dirty_per_s;
	ret->mbps = (double)s->rate.bytes_per_s * 8 / 1e6;
	ret->dirty_sync_count = s->rate.syncs;
	ret->page_size = PAGE_BYTES;
	ret->pages_per_second = s->rate.pages_per_s;
	ret->hinted = s->hinted;
}

uint64_t ram_send_expected_downtime_ms(const struct ram_send *s)
{
	struct ram_send_limits limits = ram_send_get_limits(s);

	return rate_expected_ms(&s->rate, &limits);
}

unsigned int ram_send_throttle(const struct ram_send *s)
{
	return s->rate.throttle;
}
