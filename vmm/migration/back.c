/* SPDX-License-Identifier: BSD-3-Clause */
/* The way back of a migration: see back.h for the contract. */
#include "vmm/migration/back.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"

/* Of a target's sentence, what is kept. */
#define BACK_SENTENCE_MAX 1000u

struct back {
	struct channel *channel;
	struct record_header expect;
	struct cancel *cancel;
	struct back_ops ops;
	void *opaque;
	pthread_t thread;
	pthread_mutex_t lock; /* guards the following */
	pthread_cond_t changed;
	bool ready, may_run, running, held, done;
	enum back_end end;
	char *why;
};

static void back_change(struct back *back, bool *flag)
{
	pthread_mutex_lock(&back->lock);
	*flag = true;
	pthread_cond_broadcast(&back->changed);
	pthread_mutex_unlock(&back->lock);
	if (back->ops.changed)
		back->ops.changed(back->opaque);
}

static bool back_is(struct back *back, const bool *flag)
{
	bool is;

	pthread_mutex_lock(&back->lock);
	is = *flag;
	pthread_mutex_unlock(&back->lock);
	return is;
}

/* Its words go to a person's terminal. */
static int back_failed(const struct record *record, struct err **err)
{
	char text[BACK_SENTENCE_MAX + 1];
	size_t size = record->size < BACK_SENTENCE_MAX ? record->size : BACK_SENTENCE_MAX;

	for (size_t i = 0; i < size; i++)
		text[i] = record->bytes[i] < ' ' || record->bytes[i] == 0x7f
				  ? '?'
				  : (char)record->bytes[i];
	text[size] = 0;
	return err_set(err, EREMOTEIO, "the target gave up: %s", text);
}

static uint32_t back_flags(enum record_type type)
{
	return type == RECORD_RUNNING ? RECORD_RUNNING_HELD : 0;
}

static int back_take(struct back *back, const struct record_reader *reader,
		     const struct record *record, struct err **err)
{
	if (record->flags & ~back_flags(record->type))
		return record_damaged(reader, record, "unknown flags", err);
	switch ((int)record->type) {
	case RECORD_READY:
		if (back_is(back, &back->ready))
			return record_unexpected(reader, record, err);
		back_change(back, &back->ready);
		return 0;
	case RECORD_RUNNING:
		if (!back_is(back, &back->may_run) || back_is(back, &back->running))
			return record_unexpected(reader, record, err);
		pthread_mutex_lock(&back->lock);
		back->held = record->flags & RECORD_RUNNING_HELD;
		pthread_mutex_unlock(&back->lock);
		back_change(back, &back->running);
		return 0;
	case RECORD_DONE:
		back_change(back, &back->done);
		return 0;
	case RECORD_FAILED:
		return back_failed(record, err);
	case RECORD_WANT:
		if (back->ops.want)
			return back->ops.want(back->opaque, record->bytes, record->size, err);
		break;
	case RECORD_HAVE:
		if (back->ops.have)
			return back->ops.have(back->opaque, record->bytes, record->size, err);
		break;
	default:
		break;
	}
	return record_unexpected(reader, record, err);
}

/* Until it ends: what ended it; 0 in order. */
static int back_read(struct back *back, struct err **err)
{
	struct record_reader *reader = record_reader_new(back->channel, err);
	struct record_header header;
	struct record record;
	int ret;

	if (!reader)
		return -ENOMEM;
	ret = record_read_header(reader, &back->expect, -1, &header, err);
	while (!ret) {
		ret = record_read(reader, -1, &record, err);
		if (ret <= 0)
			break;
		ret = back_take(back, reader, &record, err);
	}
	record_reader_free(reader);
	return ret;
}

static enum back_end back_end_of(int ret)
{
	switch (ret) {
	case 0:
	case -ENODATA:
		return BACK_CLOSED;
	case -ECONNRESET:
		return BACK_RESET;
	case -EREMOTEIO:
		return BACK_FAILED;
	default:
		return BACK_BROKEN;
	}
}

static void *back_main(void *opaque)
{
	struct back *back = opaque;
	struct err *err = NULL;
	int ret = back_read(back, &err);

	pthread_mutex_lock(&back->lock);
	back->end = back_end_of(ret);
	if (err)
		back->why = strdup(err_message(err));
	pthread_cond_broadcast(&back->changed);
	pthread_mutex_unlock(&back->lock);
	err_free(err);
	/*
	 * The sender may wait for a target that takes nothing any more. One that said RUNNING has the
	 * guest, whatever it says now.
	 */
	if (ret == -EREMOTEIO && !back_is(back, &back->running))
		cancel_raise(back->cancel);
	if (back->ops.ended)
		back->ops.ended(back->opaque);
	if (back->ops.changed)
		back->ops.changed(back->opaque);
	return NULL;
}

struct back *back_new(struct channel *channel, const struct record_header *expect,
		      struct cancel *cancel, const struct back_ops *ops, void *opaque,
		      struct err **err)
{
	struct back *back = calloc(1, sizeof(*back));
	pthread_condattr_t attr;
	int ret;

	if (!back) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	back->channel = channel;
	back->expect = *expect;
	back->expect.flags |= RECORD_FLAG_RETURN;
	back->cancel = cancel;
	if (ops)
		back->ops = *ops;
	back->opaque = opaque;
	pthread_mutex_init(&back->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&back->changed, &attr);
	pthread_condattr_destroy(&attr);
	ret = pthread_create(&back->thread, NULL, back_main, back);
	if (ret) {
		err_set(err, ret, "cannot start a thread: %s", strerror(ret));
		pthread_cond_destroy(&back->changed);
		pthread_mutex_destroy(&back->lock);
		free(back);
		return NULL;
	}
	pthread_setname_np(back->thread, "migration/back");
	return back;
}

void back_free(struct back *back)
{
	if (!back)
		return;
	pthread_join(back->thread, NULL);
	pthread_cond_destroy(&back->changed);
	pthread_mutex_destroy(&back->lock);
	free(back->why);
	free(back);
}

void back_expect_running(struct back *back)
{
	pthread_mutex_lock(&back->lock);
	back->may_run = true;
	pthread_mutex_unlock(&back->lock);
}

static bool *back_flag(struct back *back, enum record_type type)
{
	switch ((int)type) {
	case RECORD_READY:
		return &back->ready;
	case RECORD_RUNNING:
		return &back->running;
	default:
		return &back->done;
	}
}

bool back_came(struct back *back, enum record_type type)
{
	return back_is(back, back_flag(back, type));
}

bool back_held(struct back *back)
{
	return back_is(back, &back->held);
}

static struct timespec back_deadline(int timeout_ms)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += timeout_ms / 1000;
	at.tv_nsec += timeout_ms % 1000 * 1000000L;
	if (at.tv_nsec >= 1000000000L) {
		at.tv_nsec -= 1000000000L;
		at.tv_sec++;
	}
	return at;
}

/* Until @flag is set or it has ended; false when the time is over. Lock held. */
static bool back_wait_for(struct back *back, const bool *flag, int timeout_ms)
{
	struct timespec at = back_deadline(timeout_ms < 0 ? 0 : timeout_ms);
	int ret = 0;

	while (!(flag && *flag) && back->end == BACK_OPEN && ret != ETIMEDOUT) {
		if (timeout_ms < 0)
			pthread_cond_wait(&back->changed, &back->lock);
		else
			ret = pthread_cond_timedwait(&back->changed, &back->lock, &at);
	}
	return (flag && *flag) || back->end != BACK_OPEN;
}

int back_wait(struct back *back, enum record_type type, int timeout_ms, struct err **err)
{
	const bool *flag = back_flag(back, type);
	int ret = 0;

	pthread_mutex_lock(&back->lock);
	if (!back_wait_for(back, flag, timeout_ms))
		ret = -ETIMEDOUT;
	else if (*flag)
		ret = 0;
	else if (cancel_raised(back->cancel) && back->end != BACK_FAILED)
		ret = -ECANCELED;
	else if (back->why)
		ret = err_set(err, EIO, "%s", back->why);
	else
		ret = err_set(err, EIO, "%s: the target closed the connection",
			      channel_name(back->channel));
	pthread_mutex_unlock(&back->lock);
	return ret;
}

enum back_end back_wait_end(struct back *back, int timeout_ms)
{
	enum back_end end;

	pthread_mutex_lock(&back->lock);
	back_wait_for(back, NULL, timeout_ms);
	end = back->end;
	pthread_mutex_unlock(&back->lock);
	return end;
}

char *back_why(struct back *back)
{
	char *why;

	pthread_mutex_lock(&back->lock);
	why = back->why ? strdup(back->why) : NULL;
	pthread_mutex_unlock(&back->lock);
	return why;
}
