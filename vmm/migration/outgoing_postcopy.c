/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An outgoing migration whose guest goes on at the target before its memory is there: what is left is
 * told, then sent, what the guest waits for first.
 *
 *	stop the guest -> the list of what is left -> parts -> END
 *	pages, from here on, whatever else goes on; READY -> GO -> RUNNING in between
 *	all sent -> END -> DONE
 *
 * A connection that breaks after RUNNING is replaced by another one: the guest is the target's, and
 * what is left is here, so both sides keep what they have until then.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "base/err.h"
#include "vmm/migration/address.h"
#include "vmm/migration/back.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/outgoing_internal.h"
#include "vmm/migration/pace.h"
#include "vmm/migration/postcopy.h"
#include "vmm/migration/ram_send.h"
#include "vmm/migration/section.h"

/* Pages between two looks at what is wanted. */
#define OUTGOING_TURN_PAGES 32u

/* What the thread is at; nobody else's. */
struct outgoing_postcopy {
	struct outgoing *o;
	uint64_t go_ms;
	bool go_sent, end_sent;
};

/* ---- the way back ---- */

static void outgoing_back_changed(void *opaque)
{
	struct outgoing *o = opaque;

	pthread_mutex_lock(&o->lock);
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
}

/* Nobody shall wait until more may be sent over a connection that is broken. */
static void outgoing_back_ended(void *opaque)
{
	struct outgoing *o = opaque;
	bool postcopy;

	pthread_mutex_lock(&o->lock);
	postcopy = o->left;
	pthread_mutex_unlock(&o->lock);
	if (postcopy)
		pace_suspend(o->pace, true);
}

static int outgoing_want(void *opaque, const void *bytes, size_t size, struct err **err)
{
	struct outgoing *o = opaque;
	struct postcopy_send *left;
	int ret;

	pthread_mutex_lock(&o->lock);
	left = o->left;
	o->requests++;
	pthread_mutex_unlock(&o->lock);
	if (!left)
		return err_set(err, EINVAL, "%s: the target wants pages before it was told which",
			       channel_name(o->channel));
	ret = postcopy_send_want(left, bytes, size, err);
	outgoing_back_changed(o);
	return ret;
}

static int outgoing_have(void *opaque, const void *bytes, size_t size, struct err **err)
{
	struct outgoing *o = opaque;

	if (!(o->header.flags & RECORD_FLAG_RECOVER))
		return err_set(err, EINVAL, "%s: the target tells what it has, unasked",
			       channel_name(o->channel));
	return postcopy_send_have(o->left, bytes, size, err);
}

const struct back_ops outgoing_back_ops = {
	.want = outgoing_want,
	.have = outgoing_have,
	.changed = outgoing_back_changed,
	.ended = outgoing_back_ended,
};

/* ---- what is left ---- */

static int outgoing_emit_list(void *opaque, const void *bytes, size_t size, struct err **err)
{
	return outgoing_record(opaque, RECORD_POSTCOPY_RUN, 0, bytes, size, err);
}

static void outgoing_add_left(void *opaque, size_t block, uint64_t page, const uint64_t *words,
			      size_t nr_words)
{
	postcopy_send_add(opaque, block, page, words, nr_words);
}

static int outgoing_list(struct outgoing *o, struct err **err)
{
	uint64_t *pages = calloc(o->nr_blocks + 1, sizeof(*pages));
	struct postcopy_send *left = NULL;
	int ret;

	if (!pages)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < o->nr_blocks; i++)
		pages[i] = o->blocks[i].nr_pages;
	ret = postcopy_send_new(pages, o->nr_blocks, &left, err);
	free(pages);
	if (ret)
		return ret;
	ram_send_left(o->send, outgoing_add_left, left);
	pthread_mutex_lock(&o->lock);
	o->left = left;
	pthread_mutex_unlock(&o->lock);
	return postcopy_send_list(left, outgoing_emit_list, o, err);
}

/* ---- turns ---- */

/* The guest runs at the target, which is known here from now on. The lock is held. */
static void outgoing_note_running(struct outgoing *o)
{
	if (o->running || !back_came(o->back, RECORD_RUNNING))
		return;
	o->running = true;
	o->downtime_ms = outgoing_now_ms() - o->halted_ms;
	if (o->cut)
		shutdown(channel_fd(o->channel), SHUT_RDWR);
	o->cut = false;
}

enum outgoing_turn {
	OUTGOING_SEND,  /* this run of pages */
	OUTGOING_GO,    /* the target is ready */
	OUTGOING_END,   /* nothing is left */
	OUTGOING_DONE,  /* nor does the target miss anything */
	OUTGOING_BROKEN /* the way back ended, or RUNNING did not come in time */
};

struct outgoing_run {
	size_t block;
	uint64_t page, nr;
};

/* The lock is held. False: the time is over. */
static bool outgoing_wait(struct outgoing_postcopy *p)
{
	struct timespec at;
	uint64_t deadline_ms = p->go_ms + CHANNEL_DEAD_MS, now_ms = outgoing_now_ms();

	if (!p->go_sent || p->o->running) {
		pthread_cond_wait(&p->o->changed, &p->o->lock);
		return true;
	}
	if (now_ms >= deadline_ms)
		return false;
	at = (struct timespec){
		.tv_sec = (time_t)(deadline_ms / 1000),
		.tv_nsec = (long)(deadline_ms % 1000) * 1000000,
	};
	pthread_cond_timedwait(&p->o->changed, &p->o->lock, &at);
	return true;
}

/* What is to be done now, without waiting for it. False: nothing. The lock is held. */
static bool outgoing_find_turn(struct outgoing_postcopy *p, enum outgoing_turn *ret_turn,
			       struct outgoing_run *run)
{
	struct outgoing *o = p->o;
	bool wanted;

	outgoing_note_running(o);
	if (p->end_sent && back_came(o->back, RECORD_DONE))
		*ret_turn = OUTGOING_DONE;
	else if (o->cancelled || back_wait_end(o->back, 0) != BACK_OPEN)
		*ret_turn = OUTGOING_BROKEN;
	else if (!p->go_sent && back_came(o->back, RECORD_READY))
		*ret_turn = OUTGOING_GO;
	else if (postcopy_send_next(o->left, OUTGOING_TURN_PAGES, &run->block, &run->page, &run->nr,
				    &wanted))
		*ret_turn = OUTGOING_SEND;
	else if (o->running && !p->end_sent)
		*ret_turn = OUTGOING_END;
	else
		return false;
	return true;
}

static enum outgoing_turn outgoing_next_turn(struct outgoing_postcopy *p, struct outgoing_run *run)
{
	enum outgoing_turn turn = OUTGOING_BROKEN;

	pthread_mutex_lock(&p->o->lock);
	while (!outgoing_find_turn(p, &turn, run))
		if (!outgoing_wait(p))
			break;
	pthread_mutex_unlock(&p->o->lock);
	return turn;
}

/* 1: it was the last turn. Else 0, or -errno. */
static int outgoing_take_turn(struct outgoing_postcopy *p, struct err **err)
{
	struct outgoing *o = p->o;
	struct outgoing_run run;
	char *why;
	int ret;

	switch (outgoing_next_turn(p, &run)) {
	case OUTGOING_SEND:
		return ram_send_pages(o->send, run.block, run.page, run.nr, err);
	case OUTGOING_GO:
		ret = outgoing_commit(o);
		if (ret)
			return ret;
		back_expect_running(o->back);
		p->go_ms = outgoing_now_ms();
		p->go_sent = true;
		/* What became of it is told by the way back alone. */
		outgoing_record(o, RECORD_GO, 0, NULL, 0, NULL);
		return 0;
	case OUTGOING_END:
		p->end_sent = true;
		return outgoing_record(o, RECORD_END, 0, NULL, 0, err);
	case OUTGOING_DONE:
		return 1;
	case OUTGOING_BROKEN:
		break;
	}
	why = back_why(o->back);
	ret = why ? err_set(err, EIO, "%s", why)
		  : err_set(err, EIO, "%s: the target closed the connection",
			    channel_name(o->channel));
	free(why);
	return ret;
}

/* ---- another connection ---- */

/* The last one ends; what is read from it comes back. */
static void outgoing_disconnect(struct outgoing *o)
{
	struct channel *channel;

	outgoing_disrupt(o);
	back_free(o->back);
	o->back = NULL;
	record_writer_free(o->writer);
	o->writer = NULL;
	pthread_mutex_lock(&o->lock);
	channel = o->channel;
	o->channel = NULL;
	pthread_mutex_unlock(&o->lock);
	channel_close(channel);
}

static int outgoing_reconnect(struct outgoing *o, struct err **err)
{
	struct channel *channel;
	int ret = channel_connect(o->address, o->cancel, &channel, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&o->lock);
	o->channel = channel;
	pthread_mutex_unlock(&o->lock);
	pace_suspend(o->pace, false);
	if (!channel_is_duplex(channel))
		return err_set(err, EINVAL, "%s: there is no way back", channel_name(channel));
	o->header.flags |= RECORD_FLAG_RECOVER;
	o->writer = record_writer_new(channel, &o->header, err);
	ret = o->writer ? record_flush(o->writer, err) : -ENOMEM;
	if (ret)
		return ret;
	/* Everything is in doubt until the target has told what it has, and that it has told all. */
	postcopy_send_recover(o->left);
	o->back = back_new(channel, &o->header, o->cancel, &outgoing_back_ops, o, err);
	ret = o->back ? back_wait(o->back, RECORD_READY, -1, err) : -EIO;
	if (!ret)
		ret = postcopy_send_recovered(o->left, err);
	if (!ret)
		ram_send_channel(o->send, o->writer);
	return ret;
}

/* Wait for somebody who says where to connect to. */
static int outgoing_await_resume(struct outgoing *o)
{
	int ret = 0;

	pthread_mutex_lock(&o->lock);
	while (!o->resume && !o->cancelled)
		pthread_cond_wait(&o->changed, &o->lock);
	if (o->cancelled) {
		ret = -ECANCELED;
	} else {
		address_free(o->address);
		o->address = o->resume;
		o->resume = NULL;
	}
	pthread_mutex_unlock(&o->lock);
	return ret;
}

/* The connection broke, as *@err says, which is ended. */
static int outgoing_recover(struct outgoing_postcopy *p, struct err **err)
{
	struct outgoing *o = p->o;
	int ret;

	do {
		if (o->back || o->channel)
			outgoing_disconnect(o);
		ret = outgoing_set_status_why(o, MIGRATION_POSTCOPY_PAUSED,
					      *err ? err_message(*err) : NULL);
		err_free(*err);
		*err = NULL;
		if (!ret)
			ret = outgoing_await_resume(o);
		if (!ret)
			ret = outgoing_set_status(o, MIGRATION_POSTCOPY_RECOVER);
		if (ret)
			return ret;
	} while (outgoing_reconnect(o, err));
	p->end_sent = false;
	return outgoing_set_status(o, MIGRATION_POSTCOPY_ACTIVE);
}

/* ---- all of it ---- */

/* The connection failed: has the guest gone on there? All that still comes back is heard first. */
static bool outgoing_is_running(struct outgoing_postcopy *p)
{
	struct outgoing *o = p->o;

	if (!o->running && p->go_sent)
		back_wait_end(o->back, CHANNEL_DEAD_MS);
	pthread_mutex_lock(&o->lock);
	outgoing_note_running(o);
	pthread_mutex_unlock(&o->lock);
	return o->running;
}

static int outgoing_serve(struct outgoing_postcopy *p, enum vm_migration_outcome *ret_outcome,
			  struct err **err)
{
	int ret;

	do {
		ret = outgoing_take_turn(p, err);
		if (ret < 0 && outgoing_is_running(p))
			ret = outgoing_recover(p, err);
	} while (!ret);
	if (ret > 0 || p->o->running)
		*ret_outcome = VM_MIGRATION_HANDED_OVER;
	else if (p->go_sent)
		*ret_outcome = outgoing_in_doubt(p->o, err);
	return ret < 0 ? ret : 0;
}

int outgoing_postcopy(struct outgoing *o, enum vm_migration_outcome *ret_outcome, struct err **err)
{
	struct outgoing_postcopy p = {.o = o};
	int ret = outgoing_stop(o, err);

	if (!ret)
		ret = outgoing_set_status(o, MIGRATION_POSTCOPY_ACTIVE);
	if (ret)
		return ret;
	outgoing_begin_postcopy_pace(o);
	ret = ram_send_settle(o->send, err);
	if (!ret)
		ret = outgoing_list(o, err);
	if (!ret)
		ret = outgoing_send_sections(o, err);
	if (!ret)
		ret = outgoing_record(o, RECORD_END, SECTION_END_ANSWER, NULL, 0, err);
	return ret ? ret : outgoing_serve(&p, ret_outcome, err);
}
