/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receiving memory: see ram_receive.h for the contract. Here are the channels: their threads, the
 * barriers at which they meet, and their failures; what a record does is in ram_receive_apply.c.
 */
#include "vmm/migration/ram_receive.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/migration/ram_receive_internal.h"
#include "vmm/migration/record.h"

struct ram_receive *ram_receive_new(const struct ram_receive_config *config, struct err **err)
{
	struct ram_receive *r = calloc(1, sizeof(*r));

	assert(config->nr_further <= RAM_RECEIVE_CHANNELS_MAX);
	if (!r)
		goto no_memory;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->moved, NULL);
	r->config = *config;
	r->written = pages_map_new(config->blocks, config->nr_blocks, NULL);
	r->lanes = calloc(config->nr_further + 1, sizeof(*r->lanes));
	if (!r->written || !r->lanes)
		goto no_memory;
	for (size_t i = 0; i <= config->nr_further; i++) {
		r->lanes[i].receive = r;
		r->lanes[i].index = i;
	}
	return r;
no_memory:
	ram_receive_free(r);
	err_set(err, ENOMEM, "out of memory");
	return NULL;
}

void ram_receive_free(struct ram_receive *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->leave = true;
	pthread_cond_broadcast(&r->moved);
	pthread_mutex_unlock(&r->lock);
	for (size_t i = 0; r->lanes && i <= r->config.nr_further; i++) {
		if (r->lanes[i].reader)
			pthread_join(r->lanes[i].thread, NULL);
		receive_lane_done(&r->lanes[i]);
	}
	free(r->lanes);
	pages_map_free(r->written);
	err_free(r->err);
	pthread_cond_destroy(&r->moved);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- what channels have in common ---- */

/* Takes over *err. Only the first failure is told. */
static void receive_fail(struct ram_receive *r, int ret, struct err *err)
{
	bool first;

	pthread_mutex_lock(&r->lock);
	first = !r->failed;
	if (first) {
		r->failed = ret;
		r->err = err;
		pthread_cond_broadcast(&r->moved);
	}
	pthread_mutex_unlock(&r->lock);
	if (!first)
		err_free(err);
	else if (r->config.failed)
		r->config.failed(r->config.opaque);
}

/* Those who wait for the others wait in vain. The lock is held. */
static bool receive_is_over(const struct ram_receive *r)
{
	return r->leave || r->failed;
}

/*
 * Wait until all channels came to the barrier (I4). Numbers need not be compared: each channel
 * counts for itself.
 */
static int receive_meet(struct receive_lane *lane, struct err **err)
{
	struct ram_receive *r = lane->receive;
	size_t nr = r->config.nr_further + 1;
	int ret = 0;

	pthread_mutex_lock(&r->lock);
	if (++r->nr_waiting == nr) {
		r->nr_waiting = 0;
		r->passed++;
		pthread_cond_broadcast(&r->moved);
	}
	while (r->passed < lane->round && !receive_is_over(r) && !r->nr_ended)
		pthread_cond_wait(&r->moved, &r->lock);
	if (r->passed < lane->round)
		ret = receive_is_over(r)
			      ? -ECANCELED
			      : err_set(err, EPROTO,
					"a channel ended before barrier %llu, which others reached",
					(unsigned long long)lane->round);
	pthread_mutex_unlock(&r->lock);
	return ret;
}

static int receive_round(struct receive_lane *lane, const struct record *record, struct err **err)
{
	uint64_t number = record->size == 8 ? bytes_get_le(record->bytes, 8) : 0;

	if (number != lane->round + 1 || record->flags)
		return err_set(err, EINVAL, "it should be barrier %llu",
			       (unsigned long long)lane->round + 1);
	lane->round = number;
	return receive_meet(lane, err);
}

static void receive_ended(struct ram_receive *r)
{
	pthread_mutex_lock(&r->lock);
	r->nr_ended++;
	pthread_cond_broadcast(&r->moved);
	pthread_mutex_unlock(&r->lock);
}

/* Any record; -EINVAL has a sentence that is about the channel, if that is known. */
static int receive_record(struct receive_lane *lane, const struct record_reader *reader,
			  const struct record *record, struct err **err)
{
	struct err *why = NULL;
	int ret;

	if (!ram_receive_takes(record->type) || (record->type == RECORD_NOTES && lane->index))
		return reader ? record_unexpected(reader, record, err)
			      : err_set(err, EINVAL, "it does not belong here");
	ret = record->type == RECORD_ROUND ? receive_round(lane, record, &why)
					   : receive_apply(lane, record, &why);
	if (ret == -EINVAL && why && reader) {
		record_damaged(reader, record, err_message(why), err);
		err_free(why);
	} else if (why && err) {
		*err = why;
	} else {
		err_free(why);
	}
	return ret;
}

/* ---- further channels ---- */

/* Until its END, or a failure. */
static int receive_lane_read(struct receive_lane *lane, struct err **err)
{
	for (;;) {
		struct record record;
		int ret = record_read(lane->reader, -1, &record, err);

		if (!ret)
			return record_cut_off(lane->reader, err);
		if (ret < 0)
			return ret;
		if (record.type == RECORD_END)
			return 0;
		ret = receive_record(lane, lane->reader, &record, err);
		if (ret)
			return ret;
	}
}

static void *receive_lane_run(void *opaque)
{
	struct receive_lane *lane = opaque;
	struct err *err = NULL;
	int ret = receive_lane_read(lane, &err);

	if (ret)
		receive_fail(lane->receive, ret, err);
	else
		receive_ended(lane->receive);
	return NULL;
}

int ram_receive_channel(struct ram_receive *r, size_t index, struct record_reader *reader,
			struct err **err)
{
	struct receive_lane *lane = &r->lanes[index];
	char name[16];
	int ret;

	assert(index && index <= r->config.nr_further && !lane->reader);
	lane->reader = reader;
	ret = pthread_create(&lane->thread, NULL, receive_lane_run, lane);
	if (ret) {
		lane->reader = NULL;
		return err_set(err, ret, "cannot start a thread for channel %zu: %s", index,
			       strerror(ret));
	}
	snprintf(name, sizeof(name), "incoming/%u", (unsigned int)index % 256);
	pthread_setname_np(lane->thread, name);
	return 0;
}

/* ---- the main channel ---- */

bool ram_receive_takes(uint32_t type)
{
	return type == RECORD_PAGES || type == RECORD_ZEROS || type == RECORD_NOTES ||
	       type == RECORD_ROUND;
}

int ram_receive_record(struct ram_receive *r, const struct record_reader *reader,
		       const struct record *record, struct err **err)
{
	return receive_record(&r->lanes[0], reader, record, err);
}

int ram_receive_end(struct ram_receive *r, struct err **err)
{
	size_t nr = r->config.nr_further + 1;
	bool all;

	receive_ended(r);
	pthread_mutex_lock(&r->lock);
	while (r->nr_ended < nr && !receive_is_over(r))
		pthread_cond_wait(&r->moved, &r->lock);
	all = r->nr_ended == nr;
	pthread_mutex_unlock(&r->lock);
	return all ? 0 : ram_receive_error(r, err);
}

int ram_receive_error(struct ram_receive *r, struct err **err)
{
	int ret;

	pthread_mutex_lock(&r->lock);
	ret = r->failed;
	if (err && r->err) {
		*err = r->err;
		r->err = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	return ret;
}

void ram_receive_hand_over(struct ram_receive *r, const struct pages_sink *sink, void *opaque)
{
	r->lanes[0].sink = sink;
	r->lanes[0].sink_opaque = opaque;
}

struct pages_map *ram_receive_written(const struct ram_receive *r)
{
	return r->written;
}
