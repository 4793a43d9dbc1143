/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An incoming migration whose guest runs before its memory is there (lazy.h, a source that sends).
 *
 * Two threads: "incoming" goes on reading, so that pages come whoever waits for them; "incoming/run"
 * does, from the last part on, what brings the guest to its next instruction: it and the main thread
 * may touch memory that is still to come.
 *
 * A connection that breaks before the guest runs is the end here, and the source's guest goes on; one
 * that breaks later is replaced by another one (incoming_recover()), and whoever touches missing
 * memory waits that long.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/incoming_internal.h"
#include "vmm/migration/later.h"
#include "vmm/migration/onmain.h"
#include "vmm/migration/pages.h"
#include "vmm/migration/postcopy.h"
#include "vmm/migration/ram_receive.h"
#include "vmm/migration/section.h"
#include "vmm/vm/vm_migrate.h"

/* Bytes of all parts together. */
#define INCOMING_KEPT_MAX (2 * (uint64_t)RECORD_SECTION_MAX)

/* ---- memory ---- */

static int incoming_put_pages(void *opaque, size_t block, const struct pages_run *runs,
			      size_t nr_runs, const void *bytes, size_t nr_pages, struct err **err)
{
	struct incoming *in = opaque;
	const char *at = bytes;
	int ret = 0;

	(void)nr_pages;
	for (size_t i = 0; i < nr_runs && !ret; i++) {
		ret = lazy_put(later_lazy(in->later), block, runs[i].first, runs[i].count, at, err);
		at += (size_t)runs[i].count * PAGE_BYTES;
	}
	return ret;
}

static int incoming_put_zeros(void *opaque, size_t block, const struct pages_run *runs,
			      size_t nr_runs, struct err **err)
{
	struct incoming *in = opaque;
	int ret = 0;

	for (size_t i = 0; i < nr_runs && !ret; i++)
		ret = lazy_put(later_lazy(in->later), block, runs[i].first, runs[i].count, NULL,
			       err);
	return ret;
}

static const struct pages_sink incoming_sink = {
	.pages = incoming_put_pages,
	.zeros = incoming_put_zeros,
};

/* Without a connection it is wanted again with the next one. */
static void incoming_want(void *opaque, size_t block, uint64_t page, uint64_t nr)
{
	struct incoming *in = opaque;
	uint8_t bytes[POSTCOPY_WANT_BYTES];

	postcopy_want_encode(block, page, nr, bytes);
	incoming_say(in, RECORD_WANT, 0, bytes, sizeof(bytes), NULL);
}

static uint64_t *incoming_block_pages(const struct incoming *in, struct err **err)
{
	uint64_t *pages = calloc(in->nr_blocks + 1, sizeof(*pages));

	if (!pages)
		err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; pages && i < in->nr_blocks; i++)
		pages[i] = in->blocks[i].nr_pages;
	return pages;
}

/* ---- records ---- */

int incoming_advise(struct incoming *in, struct err **err)
{
	if (!(in->capabilities >> MIGRATION_CAP_POSTCOPY_RAM & 1))
		return err_set(
			err, EINVAL,
			"%s: the source may want the guest to run before its memory is there, "
			"which takes the capability 'postcopy-ram' here as well",
			channel_name(in->channel));
	in->advised = true;
	return 0;
}

/* All that is plugged is known: from here on memory is there, or missing. */
static int incoming_begin_list(struct incoming *in, struct err **err)
{
	const struct lazy_source source = {.want = incoming_want, .opaque = in};
	int ret = later_expect(in->later, in->blocks, in->nr_blocks, &source, err);

	if (ret)
		return ret;
	ram_receive_hand_over(in->receive, &incoming_sink, in);
	in->step = INCOMING_LIST;
	return 0;
}

int incoming_list(struct incoming *in, const struct record *record, struct err **err)
{
	int ret = in->step == INCOMING_LIST ? 0 : incoming_begin_list(in, err);
	uint64_t *pages;

	if (ret)
		return ret;
	pages = incoming_block_pages(in, err);
	if (!pages)
		return -ENOMEM;
	ret = postcopy_receive_list(later_lazy(in->later), pages, in->nr_blocks, record->bytes,
				    record->size, err);
	free(pages);
	return incoming_blame(in, ret, err);
}

int incoming_keep_part(struct incoming *in, const struct record *record, struct err **err)
{
	/* They are kept, all of them, until it is known what is missing. */
	if (in->sections.size + record->size > INCOMING_KEPT_MAX)
		return record_damaged(in->reader, record, "the parts are too large", err);
	pack_u64(&in->sections, record->size);
	pack_bytes(&in->sections, record->bytes, record->size);
	return pack_failed(&in->sections) ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* ---- the guest ---- */

static void incoming_tell_running(void *opaque)
{
	struct incoming *in = opaque;
	const struct incoming_config *c = &in->config;

	vm_incoming_end(c->vm);
	c->status(c->opaque, MIGRATION_POSTCOPY_ACTIVE, NULL);
}

static int incoming_load_kept(struct incoming *in, struct err **err)
{
	struct unpack parts = unpack_begin(in->sections.bytes, in->sections.size);
	int ret = 0;

	while (parts.left && !ret) {
		struct record record = {.type = RECORD_SECTION};

		record.size = (size_t)unpack_u64(&parts);
		record.bytes = unpack_raw(&parts, record.size);
		ret = incoming_load_part(in, &record, err);
	}
	return ret ? ret : incoming_check_parts(in, err);
}

static int incoming_await_go(struct incoming *in)
{
	bool go;

	pthread_mutex_lock(&in->lock);
	while (!in->go && !in->broken && !in->closing)
		pthread_cond_wait(&in->changed, &in->lock);
	go = in->go;
	pthread_mutex_unlock(&in->lock);
	return go ? 0 : -ECANCELED;
}

static int incoming_bring_up(struct incoming *in, struct err **err)
{
	int ret = later_start(in->later, in->cancel, err);

	if (!ret)
		ret = incoming_load_kept(in, err);
	if (!ret)
		ret = incoming_say(in, RECORD_READY, 0, NULL, 0, err);
	if (!ret)
		ret = incoming_await_go(in);
	/* From here on it is this process's guest, or nobody's. */
	if (!ret)
		ret = incoming_say(in, RECORD_RUNNING, 0, NULL, 0, err);
	return ret;
}

static void *incoming_runner(void *opaque)
{
	struct incoming *in = opaque;
	struct err *err = NULL;
	int ret = incoming_bring_up(in, &err);

	/* Before the other thread may tell that the connection broke. */
	if (!ret)
		onmain_call(in->config.onmain, incoming_tell_running, in);
	/* Before the cancel, after which nothing can be said any more. */
	if (err)
		incoming_last_words(in, err);
	pthread_mutex_lock(&in->lock);
	in->decided = true;
	in->running = !ret;
	in->run_err = err;
	pthread_cond_broadcast(&in->changed);
	pthread_mutex_unlock(&in->lock);
	if (ret)
		cancel_raise(in->cancel);
	return NULL;
}

int incoming_run_early(struct incoming *in, const struct record *record, struct err **err)
{
	int ret;

	if (!in->writer || !(record->flags & SECTION_END_ANSWER))
		return err_set(err, EINVAL, "%s: postcopy takes a way back",
			       channel_name(in->channel));
	ret = pthread_create(&in->runner, NULL, incoming_runner, in);
	if (ret)
		return err_set(err, ret, "cannot start a thread: %s", strerror(ret));
	in->runner_joined = false;
	pthread_setname_np(in->runner, "incoming/run");
	in->step = INCOMING_PAGES;
	return 0;
}

void incoming_go(struct incoming *in)
{
	pthread_mutex_lock(&in->lock);
	in->go = true;
	pthread_cond_broadcast(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

void incoming_end_runner(struct incoming *in)
{
	if (in->runner_joined)
		return;
	pthread_mutex_lock(&in->lock);
	in->broken = true;
	pthread_cond_broadcast(&in->changed);
	pthread_mutex_unlock(&in->lock);
	pthread_join(in->runner, NULL);
	in->runner_joined = true;
}

/* ---- the end, and what may come before it ---- */

/* Does the guest run? When GO came that is waited for. */
static bool incoming_is_running(struct incoming *in)
{
	bool running;

	pthread_mutex_lock(&in->lock);
	while (in->go && !in->decided && !in->closing)
		pthread_cond_wait(&in->changed, &in->lock);
	running = in->running;
	pthread_mutex_unlock(&in->lock);
	return running;
}

int incoming_finish(struct incoming *in, const struct record *record, struct err **err)
{
	struct lazy_stats stats;
	int ret;

	if (!incoming_is_running(in))
		return record_unexpected(in->reader, record, err);
	lazy_stats(later_lazy(in->later), &stats);
	if (stats.missing_bytes)
		return record_damaged(in->reader, record, "pages are still missing", err);
	ret = incoming_say(in, RECORD_DONE, 0, NULL, 0, err);
	if (!ret)
		in->step = INCOMING_ENDED;
	return ret;
}

static void incoming_stall(void *opaque)
{
	struct incoming *in = opaque;

	vm_memory_stalls(in->config.vm, lazy_is_stalled(later_lazy(in->later)));
}

static int incoming_set_stalled(struct incoming *in, bool stalled)
{
	lazy_set_stalled(later_lazy(in->later), stalled);
	return onmain_call(in->config.onmain, incoming_stall, in);
}

static void incoming_disconnect(struct incoming *in)
{
	struct channel *channel;

	/* Whoever is saying something holds the lock. */
	incoming_cut(in);
	pthread_mutex_lock(&in->back_lock);
	record_writer_free(in->writer);
	in->writer = NULL;
	pthread_mutex_unlock(&in->back_lock);
	record_reader_free(in->reader);
	in->reader = NULL;
	pthread_mutex_lock(&in->lock);
	channel = in->channel;
	in->channel = NULL;
	pthread_mutex_unlock(&in->lock);
	channel_close(channel);
}

static int incoming_await_recover(struct incoming *in, struct channel_listener **ret_listener)
{
	int ret = 0;

	pthread_mutex_lock(&in->lock);
	while (!in->recover && !in->closing)
		pthread_cond_wait(&in->changed, &in->lock);
	*ret_listener = in->recover;
	if (in->closing)
		ret = -ECANCELED;
	pthread_mutex_unlock(&in->lock);
	return ret;
}

static int incoming_emit_have(void *opaque, const void *bytes, size_t size, struct err **err)
{
	return incoming_say(opaque, RECORD_HAVE, 0, bytes, size, err);
}

/* A new connection: is it the same source, and what does it have to send? */
static int incoming_reconnect(struct incoming *in, struct channel_listener *listener,
			      struct err **err)
{
	struct record_header header, expect = in->header;
	struct channel *channel;
	uint64_t *pages;
	int ret = record_accept_again(listener, in->header.session, &channel, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&in->lock);
	in->channel = channel;
	pthread_mutex_unlock(&in->lock);
	if (!channel_is_duplex(channel))
		return err_set(err, EINVAL, "%s: there is no way back", channel_name(channel));
	expect.flags |= RECORD_FLAG_RECOVER;
	in->reader = record_reader_new(channel, err);
	ret = in->reader ? record_read_header(in->reader, &expect, -1, &header, err) : -ENOMEM;
	if (ret)
		return ret;
	expect.flags |= RECORD_FLAG_RETURN;
	pthread_mutex_lock(&in->back_lock);
	in->writer = record_writer_new(channel, &expect, err);
	pthread_mutex_unlock(&in->back_lock);
	pages = in->writer ? incoming_block_pages(in, err) : NULL;
	if (!pages)
		return -ENOMEM;
	ret = postcopy_receive_have(later_lazy(in->later), pages, in->nr_blocks, incoming_emit_have,
				    in, err);
	free(pages);
	return ret ? ret : incoming_say(in, RECORD_READY, 0, NULL, 0, err);
}

/* One try with what somebody said. The listener is gone afterwards. */
static int incoming_try_again(struct incoming *in, struct channel_listener *listener,
			      struct err **err)
{
	int ret = incoming_reconnect(in, listener, err);

	pthread_mutex_lock(&in->lock);
	in->recover = NULL;
	pthread_mutex_unlock(&in->lock);
	channel_listener_free(listener);
	return ret;
}

int incoming_broken(struct incoming *in, struct err **err)
{
	struct channel_listener *listener;
	int ret;

	if (!incoming_is_running(in)) {
		/* The main thread, too, may be waiting for memory that will not come. */
		lazy_abort(later_lazy(in->later));
		return -EIO;
	}
	incoming_set_stalled(in, true);
	do {
		incoming_disconnect(in);
		ret = incoming_set_status(in, MIGRATION_POSTCOPY_PAUSED,
					  *err ? err_message(*err) : NULL);
		err_free(*err);
		*err = NULL;
		if (!ret)
			ret = incoming_await_recover(in, &listener);
		if (!ret)
			ret = incoming_set_status(in, MIGRATION_POSTCOPY_RECOVER, NULL);
		if (ret)
			return ret;
	} while (incoming_try_again(in, listener, err));
	ret = incoming_set_stalled(in, false);
	if (!ret)
		ret = incoming_set_status(in, MIGRATION_POSTCOPY_ACTIVE, NULL);
	if (!ret)
		lazy_want_again(later_lazy(in->later));
	return ret;
}
