/* SPDX-License-Identifier: BSD-3-Clause */
/* An incoming migration: see incoming.h for the contract. */
#include "vmm/migration/incoming_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "vmm/migration/address.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/image.h"
#include "vmm/migration/later.h"
#include "vmm/migration/onmain.h"
#include "vmm/migration/ram_receive.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_migrate.h"

/* What the source is told last must not wait for a source that takes nothing. */
#define INCOMING_LAST_WORDS_MS 1000
/* Between the first connection of a source and its others. */
#define INCOMING_FURTHER_MS 30000

int incoming_blame(const struct incoming *in, int ret, struct err **err)
{
	if (ret && err && *err)
		err_prefix(err, "%s", channel_name(in->channel));
	return ret;
}

/* ---- on the main thread, for the thread ---- */

static void incoming_close_memory(struct incoming *in)
{
	later_free(in->later);
	in->later = NULL;
	if (!(in->header.flags & RECORD_FLAG_IMAGE))
		return;
	image_close(in->image);
	in->image = NULL;
	channel_close(in->channel);
	in->channel = NULL;
}

/* All memory was read: the file is let go when the thread has no use for it any more either. */
static void incoming_memory_ended(void *opaque)
{
	struct incoming *in = opaque;

	in->memory_ended = true;
	if (in->completed)
		incoming_close_memory(in);
}

struct incoming_status {
	struct incoming *in;
	enum migration_status status;
	const char *error;
};

static void incoming_tell(void *opaque)
{
	const struct incoming_status *s = opaque;
	const struct incoming_config *c = &s->in->config;

	if (s->status == MIGRATION_COMPLETED && vm_state(c->vm) == VM_INMIGRATE)
		vm_incoming_end(c->vm);
	c->status(c->opaque, s->status, s->error);
	s->in->completed = s->status == MIGRATION_COMPLETED;
	if (s->in->completed && s->in->memory_ended)
		incoming_close_memory(s->in);
}

int incoming_set_status(struct incoming *in, enum migration_status status, const char *error)
{
	struct incoming_status s = {.in = in, .status = status, .error = error};

	return onmain_call(in->config.onmain, incoming_tell, &s);
}

/* ---- connections ---- */

static int incoming_accept_further(struct incoming *in, struct err **err)
{
	size_t nr = in->header.nr_channels;
	int ret;

	if (!nr)
		return 0;
	in->further = calloc(nr, sizeof(*in->further));
	in->further_readers = calloc(nr, sizeof(struct record_reader *));
	if (!in->further || !in->further_readers)
		return err_set(err, ENOMEM, "out of memory");
	ret = record_accept_others(in->listener, &in->header, INCOMING_FURTHER_MS, in->further,
				   err);
	if (ret)
		return ret;
	in->nr_further = nr;
	for (size_t i = 0; i < nr && !ret; i++) {
		struct record_header expect = in->header, header;

		expect.channel = (uint32_t)i + 1;
		in->further_readers[i] = record_reader_new(in->further[i], err);
		ret = in->further_readers[i] ? record_read_header(in->further_readers[i], &expect,
								  INCOMING_FURTHER_MS, &header, err)
					     : -ENOMEM;
	}
	return ret;
}

static int incoming_open_back(struct incoming *in, struct err **err)
{
	struct record_header header = in->header;

	if (!channel_is_duplex(in->channel))
		return 0;
	header.flags |= RECORD_FLAG_RETURN;
	in->writer = record_writer_new(in->channel, &header, err);
	return in->writer ? 0 : -ENOMEM;
}

static int incoming_accept(struct incoming *in, struct err **err)
{
	int ret = record_accept(in->listener, &in->channel, &in->header, err);

	if (!ret)
		ret = incoming_set_status(in, MIGRATION_ACTIVE, NULL);
	if (ret || in->header.flags & RECORD_FLAG_IMAGE)
		return ret;
	in->reader = record_reader_new(in->channel, err);
	if (!in->reader)
		return -ENOMEM;
	ret = record_read_header(in->reader, NULL, -1, &in->header, err);
	if (!ret)
		ret = incoming_open_back(in, err);
	if (!ret)
		ret = incoming_accept_further(in, err);
	/* Nobody else is waited for. */
	channel_listener_free(in->listener);
	in->listener = NULL;
	return ret;
}

/* ---- loading ---- */

static int incoming_read(struct incoming *in, struct record *ret_record, struct err **err)
{
	int ret = record_read(in->reader, -1, ret_record, err);

	if (!ret)
		return record_cut_off(in->reader, err);
	return ret < 0 ? ret : 0;
}

static int incoming_load_all(struct incoming *in, struct err **err)
{
	struct record record;
	int ret = 0;

	while (!ret && in->step != INCOMING_ENDED) {
		ret = incoming_read(in, &record, err);
		if (!ret)
			ret = incoming_load(in, &record, err);
		if (ret && in->step == INCOMING_PAGES)
			ret = incoming_broken(in, err);
	}
	return ret;
}

/* ---- whose guest it is (I1) ---- */

int incoming_say(struct incoming *in, enum record_type type, uint32_t flags, const void *bytes,
		 size_t size, struct err **err)
{
	int ret = -ENOTCONN;

	pthread_mutex_lock(&in->back_lock);
	if (in->writer)
		ret = record_write_bytes(in->writer, type, flags, bytes, size, err);
	pthread_mutex_unlock(&in->back_lock);
	return ret;
}

struct incoming_held {
	const struct vm *vm;
	bool held;
};

static void incoming_ask_held(void *opaque)
{
	struct incoming_held *ask = opaque;

	ask->held = vm_incoming_is_held(ask->vm);
}

/* RUNNING, as whoever started the machine wants it. */
static int incoming_say_running(struct incoming *in)
{
	struct incoming_held ask = {.vm = in->config.vm};
	int ret = onmain_call(in->config.onmain, incoming_ask_held, &ask);

	return ret ? ret
		   : incoming_say(in, RECORD_RUNNING, ask.held ? RECORD_RUNNING_HELD : 0, NULL, 0,
				  NULL);
}

static int incoming_take_over(struct incoming *in, struct err **err)
{
	struct record record;
	int ret;

	if (!in->answer)
		return 0;
	if (!in->writer)
		return err_set(err, EINVAL,
			       "%s: the source waits for answers, and there is no way back",
			       channel_name(in->channel));
	ret = incoming_say(in, RECORD_READY, 0, NULL, 0, err);
	if (ret)
		return ret;
	ret = record_read(in->reader, -1, &record, err);
	if (!ret)
		return err_set(err, EIO, "%s: the source ended before it let the guest go",
			       channel_name(in->channel));
	if (ret < 0)
		return ret;
	if (record.type != RECORD_GO)
		return record_unexpected(in->reader, &record, err);
	ret = incoming_say_running(in);
	if (!ret || ret == -ECANCELED)
		return ret;
	/* A source that has ended cannot go on with the guest; one that cannot be reached could. */
	if (!record_read(in->reader, 0, &record, NULL))
		return 0;
	return err_set(err, EIO,
		       "%s: the source cannot be told that the guest goes on here, so it does not",
		       channel_name(in->channel));
}

static int incoming_run(struct incoming *in, struct err **err)
{
	int ret = incoming_accept(in, err);

	if (!ret && in->header.flags & RECORD_FLAG_IMAGE)
		return incoming_image(in, err);
	if (!ret)
		ret = incoming_load_all(in, err);
	return ret ? ret : incoming_take_over(in, err);
}

/* ---- the end ---- */

void incoming_last_words(struct incoming *in, const struct err *err)
{
	const char *words = err_message(err);

	pthread_mutex_lock(&in->back_lock);
	if (in->writer)
		record_writer_set_timeout(in->writer, INCOMING_LAST_WORDS_MS);
	pthread_mutex_unlock(&in->back_lock);
	incoming_say(in, RECORD_FAILED, 0, words, strlen(words), NULL);
}

/*
 * The cancel makes everybody come back who still waits for the other side. What an image needs belongs
 * to the main thread from the last status on.
 */
static void incoming_close(struct incoming *in)
{
	bool image = in->header.flags & RECORD_FLAG_IMAGE;

	if (!image)
		cancel_raise(in->cancel);
	ram_receive_free(in->receive);
	for (size_t i = 0; i < in->nr_further; i++) {
		record_reader_free(in->further_readers[i]);
		channel_close(in->further[i]);
	}
	free(in->further_readers);
	free(in->further);
	pthread_mutex_lock(&in->back_lock);
	record_writer_free(in->writer);
	in->writer = NULL;
	pthread_mutex_unlock(&in->back_lock);
	record_reader_free(in->reader);
	pack_done(&in->sections);
	if (image)
		return;
	pthread_mutex_lock(&in->lock);
	channel_close(in->channel);
	in->channel = NULL;
	pthread_mutex_unlock(&in->lock);
}

/* Somebody else's failure may have been what this thread came back for. */
static void incoming_find_reason(struct incoming *in, struct err **err)
{
	struct err *why = NULL;

	if (in->run_err) {
		why = in->run_err;
		in->run_err = NULL;
	} else if (in->receive) {
		ram_receive_error(in->receive, &why);
	}
	if (!why)
		return;
	err_free(*err);
	*err = why;
}

static void *incoming_main(void *opaque)
{
	struct incoming *in = opaque;
	struct err *err = NULL;
	int ret = incoming_run(in, &err);

	incoming_end_runner(in);
	if (ret)
		incoming_find_reason(in, &err);
	if (!ret) {
		incoming_set_status(in, MIGRATION_COMPLETED, NULL);
	} else if (err) {
		incoming_last_words(in, err);
		incoming_set_status(in, MIGRATION_FAILED, err_message(err));
	}
	incoming_close(in);
	err_free(err);
	return NULL;
}

/* ---- from the main thread ---- */

static void incoming_name_socket(struct incoming *in, const struct channel_listener *listener)
{
	const size_t size = sizeof(in->listening);
	struct address_socket s;

	in->listening[0] = '\0';
	if (!channel_nr_sockets(listener) || channel_socket(listener, 0, &s))
		return;
	switch (s.type) {
	case ADDRESS_SOCKET_INET:
		if (strchr(s.host, ':'))
			snprintf(in->listening, size, "tcp:[%s]:%s", s.host, s.port);
		else
			snprintf(in->listening, size, "tcp:%s:%s", s.host, s.port);
		break;
	case ADDRESS_SOCKET_UNIX:
		snprintf(in->listening, size, "unix:%s", s.text);
		break;
	case ADDRESS_SOCKET_FD:
		snprintf(in->listening, size, "fd:%s", s.text);
		break;
	}
}

static struct later *incoming_later(struct incoming *in, struct err **err)
{
	const struct later_config config = {
		.vm = in->config.vm,
		.main = in->config.main,
		.onmain = in->config.onmain,
		.ended = incoming_memory_ended,
		.opaque = in,
	};

	return later_new(&config, err);
}

int incoming_start(const struct incoming_config *config, struct address *address,
		   struct incoming **ret_incoming, struct err **err)
{
	struct incoming *in = calloc(1, sizeof(*in));
	int ret;

	if (!in) {
		address_free(address);
		return err_set(err, ENOMEM, "out of memory");
	}
	in->config = *config;
	in->capabilities = config->capabilities;
	in->address = address;
	in->joined = in->runner_joined = true; /* no threads yet */
	pthread_mutex_init(&in->back_lock, NULL);
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->changed, NULL);
	in->cancel = cancel_new(err);
	in->later = in->cancel ? incoming_later(in, err) : NULL;
	ret = in->later ? channel_listen(address, in->cancel, &in->listener, err) : -ENOMEM;
	if (!ret) {
		incoming_name_socket(in, in->listener);
		ret = pthread_create(&in->thread, NULL, incoming_main, in);
		if (ret)
			ret = err_set(err, ret, "cannot start a thread: %s", strerror(ret));
	}
	if (ret) {
		incoming_free(in);
		return ret;
	}
	in->joined = false;
	pthread_setname_np(in->thread, "incoming");
	*ret_incoming = in;
	return 0;
}

void incoming_free(struct incoming *in)
{
	if (!in)
		return;
	if (!in->joined) {
		pthread_mutex_lock(&in->lock);
		in->closing = true;
		pthread_cond_broadcast(&in->changed);
		pthread_mutex_unlock(&in->lock);
		cancel_raise(in->cancel);
		pthread_join(in->thread, NULL);
	}
	incoming_close_memory(in);
	channel_listener_free(in->listener);
	channel_listener_free(in->recover);
	err_free(in->run_err);
	pthread_cond_destroy(&in->changed);
	pthread_mutex_destroy(&in->lock);
	pthread_mutex_destroy(&in->back_lock);
	free(in->blocks);
	cancel_free(in->cancel);
	address_free(in->address);
	free(in);
}

void incoming_connected(struct incoming *in)
{
	in->listening[0] = '\0';
}

const char *incoming_listening(const struct incoming *in)
{
	return in->listening;
}

void incoming_set_capabilities(struct incoming *in, uint32_t capabilities)
{
	in->capabilities = capabilities;
}

void incoming_cut(struct incoming *in)
{
	pthread_mutex_lock(&in->lock);
	if (in->channel)
		shutdown(channel_fd(in->channel), SHUT_RDWR);
	pthread_mutex_unlock(&in->lock);
}

int incoming_recover(struct incoming *in, struct address *address, struct err **err)
{
	struct channel_listener *listener;
	int ret = channel_listen(address, in->cancel, &listener, err);

	if (ret) {
		address_free(address);
		return ret;
	}
	pthread_mutex_lock(&in->lock);
	if (in->recover) {
		ret = err_set(err, EBUSY, "the source is waited for already");
		channel_listener_free(listener);
		address_free(address);
	} else {
		address_free(in->address);
		in->address = address;
		in->recover = listener;
		incoming_name_socket(in, listener);
		pthread_cond_broadcast(&in->changed);
	}
	pthread_mutex_unlock(&in->lock);
	return ret;
}
