/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of an outgoing migration: the guest is stopped, the rest is sent, and it becomes the other
 * side's (outgoing.h, I1).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/err.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/image.h"
#include "vmm/migration/onmain.h"
#include "vmm/migration/outgoing_internal.h"
#include "vmm/migration/pace.h"
#include "vmm/migration/ram_send.h"
#include "vmm/migration/section.h"
#include "vmm/vm/vm_state.h"

/* ---- on the main thread ---- */

static void outgoing_halt(void *opaque)
{
	struct migration_ram_info ram;
	struct outgoing *o = opaque;

	pthread_mutex_lock(&o->lock);
	outgoing_ram_info(o, &ram);
	o->precopy_bytes = ram.transferred;
	o->halted_ms = outgoing_now_ms();
	pthread_mutex_unlock(&o->lock);
	vm_migration_halt(o->config.vm);
}

struct outgoing_save {
	struct outgoing *o;
	int ret;
	struct err **err;
};

/* Its record's payload, behind its size. */
static int outgoing_save_section(void *opaque, const struct vm_section *section, struct err **err)
{
	struct outgoing_save *save = opaque;
	struct pack *out = &save->o->sections;
	struct pack payload = {0};
	int ret = section_pack(section, &payload, err);

	if (!ret) {
		pack_u64(out, payload.size);
		pack_bytes(out, payload.bytes, payload.size);
		if (pack_failed(out))
			ret = err_set(err, ENOMEM, "out of memory");
	}
	pack_done(&payload);
	return ret;
}

static void outgoing_save(void *opaque)
{
	struct outgoing_save *save = opaque;

	save->ret = vm_save_sections(save->o->config.vm, outgoing_save_section, save, save->err);
}

/* ---- steps ---- */

/* Whoever asked for it looks around while the guest stands still, and lets this go on. */
static int outgoing_pause(struct outgoing *o)
{
	int ret = outgoing_set_status(o, MIGRATION_PRE_SWITCHOVER);

	if (ret)
		return ret;
	pthread_mutex_lock(&o->lock);
	while (!o->go_on && !o->cancelled)
		pthread_cond_wait(&o->changed, &o->lock);
	if (o->cancelled)
		ret = -ECANCELED;
	pthread_mutex_unlock(&o->lock);
	return ret ? ret : outgoing_set_status(o, MIGRATION_DEVICE);
}

int outgoing_stop(struct outgoing *o, struct err **err)
{
	struct outgoing_save save = {.o = o, .err = err};
	int ret = onmain_call(o->config.onmain, outgoing_halt, o);

	if (!ret && o->config.capabilities >> MIGRATION_CAP_PAUSE_BEFORE_SWITCHOVER & 1)
		ret = outgoing_pause(o);
	if (!ret)
		ret = onmain_call(o->config.onmain, outgoing_save, &save);
	return ret ? ret : save.ret;
}

int outgoing_send_sections(struct outgoing *o, struct err **err)
{
	struct unpack in = unpack_begin(o->sections.bytes, o->sections.size);
	int ret = 0;

	while (in.left && !ret) {
		size_t size = (size_t)unpack_u64(&in);
		const void *bytes = unpack_raw(&in, size);

		ret = outgoing_record(o, RECORD_SECTION, 0, bytes, size, err);
	}
	return ret;
}

static int outgoing_send_rest(struct outgoing *o, struct err **err)
{
	int ret = ram_send_final(o->send, err);

	if (!ret && o->image)
		ret = outgoing_image_notes(o, err);
	if (!ret)
		ret = outgoing_send_sections(o, err);
	if (!ret)
		ret = outgoing_record(o, RECORD_END, o->back ? SECTION_END_ANSWER : 0, NULL, 0,
				      err);
	return ret;
}

static void outgoing_downtime(struct outgoing *o)
{
	pthread_mutex_lock(&o->lock);
	o->downtime_ms = outgoing_now_ms() - o->halted_ms;
	pthread_mutex_unlock(&o->lock);
}

/* ---- whose guest it is ---- */

/* A connection within this host is reset by nobody but the process at its other end. */
static bool outgoing_is_local(const struct outgoing *o)
{
	int domain = 0;
	socklen_t size = sizeof(domain);

	return !getsockopt(channel_fd(o->channel), SOL_SOCKET, SO_DOMAIN, &domain, &size) &&
	       domain == AF_UNIX;
}

enum vm_migration_outcome outgoing_in_doubt(struct outgoing *o, struct err **err)
{
	enum back_end end = back_wait_end(o->back, 0);
	char *why = back_why(o->back);
	enum vm_migration_outcome outcome = VM_MIGRATION_UNKNOWN;

	err_free(*err);
	*err = NULL;
	if (end == BACK_CLOSED || end == BACK_FAILED ||
	    (end == BACK_RESET && outgoing_is_local(o))) {
		outcome = VM_MIGRATION_UNDONE;
		err_set(err, EIO, "the target ended before the guest went on there%s%s",
			why ? ": " : "", why ? why : "");
	} else {
		err_set(err, EIO,
			"the target was told to let the guest go on, and did not say that it "
			"does%s%s; "
			"the guest is kept here, stopped: let it go on only where it does not run "
			"already",
			why ? ": " : "", why ? why : "");
	}
	free(why);
	return outcome;
}

static int outgoing_hand_over(struct outgoing *o, enum vm_migration_outcome *ret_outcome,
			      struct err **err)
{
	int ret = back_wait(o->back, RECORD_READY, -1, err);

	if (!ret)
		ret = outgoing_commit(o);
	if (ret)
		return ret;
	back_expect_running(o->back);
	/* What became of GO is told by the way back alone. */
	record_write_bytes(o->writer, RECORD_GO, 0, NULL, 0, NULL);
	ret = back_wait(o->back, RECORD_RUNNING, CHANNEL_DEAD_MS, err);
	if (ret) {
		*ret_outcome = outgoing_in_doubt(o, err);
		return ret;
	}
	outgoing_downtime(o);
	*ret_outcome = back_held(o->back) ? VM_MIGRATION_SAVED : VM_MIGRATION_HANDED_OVER;
	return 0;
}

static int outgoing_finish(struct outgoing *o, enum vm_migration_outcome *ret_outcome,
			   struct err **err)
{
	int ret = o->image ? image_writer_finish(o->image, err) : 0;

	if (!ret)
		ret = channel_finish(o->channel, -1, err);
	if (!ret)
		ret = outgoing_commit(o);
	if (ret)
		return ret;
	outgoing_downtime(o);
	*ret_outcome = VM_MIGRATION_SAVED;
	return 0;
}

int outgoing_switch(struct outgoing *o, enum vm_migration_outcome *ret_outcome, struct err **err)
{
	int ret = outgoing_stop(o, err);

	if (ret)
		return ret;
	/* The guest stands still: no limit but what the way can carry. */
	pace_set(o->pace, 0);
	ret = outgoing_send_rest(o, err);
	if (ret)
		return ret;
	return o->back ? outgoing_hand_over(o, ret_outcome, err)
		       : outgoing_finish(o, ret_outcome, err);
}
