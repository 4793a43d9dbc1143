/* SPDX-License-Identifier: BSD-3-Clause */
/* An outgoing migration: see outgoing.h for the contract. */
#include "vmm/migration/outgoing_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "base/err.h"
#include "vmm/migration/address.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/blocks_wire.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/image.h"
#include "vmm/migration/onmain.h"
#include "vmm/migration/pace.h"
#include "vmm/migration/postcopy.h"
#include "vmm/migration/ram_send.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_ram.h"
#include "vmm/vm/vm_state.h"

/* A target that is about to say why it gave up. */
#define OUTGOING_LAST_WORDS_MS 1000

uint64_t outgoing_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool outgoing_can(const struct outgoing *o, enum migration_capability capability)
{
	return o->config.capabilities >> capability & 1;
}

/* ---- on the main thread, for the thread ---- */

struct outgoing_status {
	struct outgoing *o;
	enum migration_status status;
	const char *error;
	enum vm_migration_outcome outcome; /* of the last one */
};

static void outgoing_tell_status(void *opaque)
{
	const struct outgoing_status *s = opaque;
	const struct outgoing_config *c = &s->o->config;

	c->status(c->opaque, s->status, s->error);
}

int outgoing_set_status_why(struct outgoing *o, enum migration_status status, const char *why)
{
	struct outgoing_status s = {.o = o, .status = status, .error = why};

	return onmain_call(o->config.onmain, outgoing_tell_status, &s);
}

int outgoing_set_status(struct outgoing *o, enum migration_status status)
{
	return outgoing_set_status_why(o, status, NULL);
}

static void outgoing_tell_end(void *opaque)
{
	const struct outgoing_status *s = opaque;
	struct outgoing *o = s->o;

	if (o->logging)
		vm_dirty_stop(o->config.vm);
	o->logging = false;
	vm_migration_end(o->config.vm, s->outcome);
	outgoing_tell_status(opaque);
}

struct outgoing_log {
	struct outgoing *o;
	int ret;
	struct err **err;
};

static void outgoing_log_start(void *opaque)
{
	struct outgoing_log *log = opaque;

	log->ret = vm_dirty_start(log->o->config.vm, log->err);
	log->o->logging = !log->ret;
}

struct outgoing_pass {
	struct outgoing *o;
	uint64_t number;
};

static void outgoing_tell_pass(void *opaque)
{
	const struct outgoing_pass *pass = opaque;
	const struct outgoing_config *c = &pass->o->config;

	c->pass(c->opaque, pass->number);
}

/* ---- for the sender ---- */

static int outgoing_sync(void *opaque)
{
	struct outgoing *o = opaque;

	return vm_dirty_sync(o->config.vm);
}

static void outgoing_throttle(void *opaque, unsigned int percent)
{
	struct outgoing *o = opaque;

	vm_throttle(o->config.vm, percent);
}

static void outgoing_pass(void *opaque, uint64_t number)
{
	struct outgoing_pass pass = {.o = opaque, .number = number};

	/* Whoever ends the machine does not care. */
	onmain_call(pass.o->config.onmain, outgoing_tell_pass, &pass);
}

static void outgoing_looked(void *opaque)
{
	outgoing_hints_stop(opaque);
}

/* ---- steps ---- */

int outgoing_record(struct outgoing *o, enum record_type type, uint32_t flags, const void *bytes,
		    size_t size, struct err **err)
{
	if (o->image)
		return image_write_record(o->image, type, flags, bytes, size, err);
	return record_write_bytes(o->writer, type, flags, bytes, size, err);
}

static int outgoing_connect_further(struct outgoing *o, struct err **err)
{
	size_t nr = o->header.nr_channels;

	o->further = calloc(nr + 1, sizeof(*o->further));
	o->further_writers = calloc(nr + 1, sizeof(struct record_writer *));
	if (!o->further || !o->further_writers)
		return err_set(err, ENOMEM, "out of memory");
	for (; o->nr_further < nr; o->nr_further++) {
		size_t i = o->nr_further;
		struct record_header header = o->header;
		int ret = channel_connect(o->address, o->cancel, &o->further[i], err);

		if (ret)
			return ret;
		header.channel = (uint32_t)i + 1;
		o->further_writers[i] = record_writer_new(o->further[i], &header, err);
		ret = o->further_writers[i] ? record_flush(o->further_writers[i], err) : -ENOMEM;
		if (ret) {
			o->nr_further++;
			return ret;
		}
	}
	return 0;
}

static int outgoing_connect(struct outgoing *o, struct err **err)
{
	int ret = record_session(&o->header.session, err);

	if (!ret)
		ret = channel_connect(o->address, o->cancel, &o->channel, err);
	if (ret)
		return ret;
	if (channel_is_seekable(o->channel))
		return outgoing_image_begin(o, err);
	if (outgoing_can(o, MIGRATION_CAP_MULTIFD) && address_takes_many(o->address))
		o->header.nr_channels = o->config.params.multifd_channels;
	o->writer = record_writer_new(o->channel, &o->header, err);
	ret = o->writer ? record_flush(o->writer, err) : -ENOMEM;
	if (!ret)
		ret = outgoing_connect_further(o, err);
	if (!ret && channel_is_duplex(o->channel)) {
		o->back = back_new(o->channel, &o->header, o->cancel, &outgoing_back_ops, o, err);
		ret = o->back ? 0 : -EIO;
	}
	return ret;
}

static int outgoing_describe(struct outgoing *o, struct err **err)
{
	struct pack blocks = {0};
	int ret = outgoing_record(o, RECORD_MACHINE, 0, o->description.bytes, o->description.size,
				  err);

	if (ret)
		return ret;
	blocks_pack(o->blocks, o->nr_blocks, &blocks);
	ret = pack_failed(&blocks)
		      ? err_set(err, ENOMEM, "out of memory")
		      : outgoing_record(o, RECORD_BLOCKS, 0, blocks.bytes, blocks.size, err);
	pack_done(&blocks);
	if (!ret && outgoing_can(o, MIGRATION_CAP_POSTCOPY_RAM) && o->back)
		ret = outgoing_record(o, RECORD_POSTCOPY_ADVISE, 0, NULL, 0, err);
	return ret;
}

static int outgoing_send_new(struct outgoing *o, struct err **err)
{
	struct ram_send_config config = {
		.gm = vm_gm(o->config.vm),
		.blocks = o->blocks,
		.nr_blocks = o->nr_blocks,
		.cancel = o->cancel,
		.pace = o->pace,
		.channel = o->writer,
		.further = o->further_writers,
		.nr_further = o->nr_further,
		.sink = o->image ? &outgoing_image_sink : NULL,
		.zstd = !o->image &&
			o->config.params.multifd_compression == MIGRATION_COMPRESSION_ZSTD,
		.zstd_level = o->config.params.multifd_zstd_level,
		.content_comes_later = vm_memory_is_arriving(o->config.vm),
		.sync = outgoing_sync,
		.throttle = outgoing_throttle,
		.pass = outgoing_pass,
		.looked = outgoing_looked,
		.opaque = o,
	};
	struct ram_send *send;

	pthread_mutex_lock(&o->lock);
	config.limits = outgoing_limits(o, &o->params);
	pthread_mutex_unlock(&o->lock);
	send = ram_send_new(&config, err);
	if (!send)
		return -ENOMEM;
	pthread_mutex_lock(&o->lock);
	o->send = send;
	o->has_ram = true;
	o->setup_ms = outgoing_now_ms() - o->begun_ms;
	/* They may have changed between. */
	config.limits = outgoing_limits(o, &o->params);
	ram_send_limits(send, &config.limits);
	outgoing_hurry(o);
	pthread_mutex_unlock(&o->lock);
	return 0;
}

/* Rounds over memory until what is left is little enough to stop the guest, or need not be. */
static int outgoing_rounds(struct outgoing *o, enum ram_send_state *ret_state, struct err **err)
{
	struct outgoing_log log = {.o = o, .err = err};
	int ret = onmain_call(o->config.onmain, outgoing_log_start, &log);

	if (!ret)
		ret = log.ret;
	if (!ret)
		ret = outgoing_send_new(o, err);
	if (!ret)
		ret = ram_send_start(o->send, err);
	if (!ret)
		ret = outgoing_set_status(o, MIGRATION_ACTIVE);
	if (!ret)
		outgoing_hints_begin(o);
	while (!ret) {
		ret = ram_send_rounds(o->send, ret_state, err);
		/* Without a way back there is no postcopy. */
		if (*ret_state != RAM_SEND_INTERRUPTED || o->back)
			break;
	}
	return ret;
}

int outgoing_commit(struct outgoing *o)
{
	int ret = 0;

	pthread_mutex_lock(&o->lock);
	if (o->cancelled)
		ret = -ECANCELED;
	else
		o->committed = true;
	pthread_mutex_unlock(&o->lock);
	return ret;
}

static int outgoing_run(struct outgoing *o, enum vm_migration_outcome *ret_outcome,
			struct err **err)
{
	enum ram_send_state state = RAM_SEND_FITS;
	int ret = outgoing_connect(o, err);

	*ret_outcome = VM_MIGRATION_UNDONE;
	if (!ret)
		ret = outgoing_describe(o, err);
	if (!ret)
		ret = outgoing_rounds(o, &state, err);
	if (ret)
		return ret;
	return state == RAM_SEND_INTERRUPTED ? outgoing_postcopy(o, ret_outcome, err)
					     : outgoing_switch(o, ret_outcome, err);
}

/* ---- the end ---- */

/* The target's own words say more than what became of the connection. */
static void outgoing_last_words(struct outgoing *o, struct err **err)
{
	char *why = NULL;

	if (o->back && back_wait_end(o->back, OUTGOING_LAST_WORDS_MS) == BACK_FAILED)
		why = back_why(o->back);
	if (!why)
		return;
	err_free(*err);
	*err = NULL;
	err_set(err, EREMOTEIO, "%s", why);
	free(why);
}

/* I3; the cancel makes everybody come back who still waits for the other side. */
static void outgoing_close(struct outgoing *o)
{
	struct image_writer *image;
	struct postcopy_send *left;
	struct ram_send *send;
	struct channel *channel;

	cancel_raise(o->cancel);
	outgoing_hints_end(o);
	pthread_mutex_lock(&o->lock);
	outgoing_ram_info(o, &o->ram);
	send = o->send;
	o->send = NULL;
	image = o->image;
	o->image = NULL;
	left = o->left;
	o->left = NULL;
	pthread_mutex_unlock(&o->lock);
	ram_send_free(send);
	back_free(o->back);
	o->back = NULL;
	image_writer_free(image);
	postcopy_send_free(left);
	record_writer_free(o->writer);
	for (size_t i = 0; i < o->nr_further; i++) {
		record_writer_free(o->further_writers[i]);
		channel_close(o->further[i]);
	}
	free(o->further_writers);
	free(o->further);
	pthread_mutex_lock(&o->lock);
	channel = o->channel;
	o->channel = NULL;
	pthread_mutex_unlock(&o->lock);
	channel_close(channel);
	pack_done(&o->sections);
}

static enum migration_status outgoing_end_status(struct outgoing *o, int ret, const struct err *err)
{
	bool cancelled;

	if (!ret)
		return MIGRATION_COMPLETED;
	pthread_mutex_lock(&o->lock);
	cancelled = (o->cancelled && !o->committed) || !err;
	pthread_mutex_unlock(&o->lock);
	if (!cancelled)
		return MIGRATION_FAILED;
	outgoing_set_status(o, MIGRATION_CANCELLING);
	return MIGRATION_CANCELLED;
}

/*
 * The guest never needs its memory here again. Memory that others may see (a file) is left alone. Advice
 * only: whatever the host keeps goes with the process.
 */
static void outgoing_release(const struct outgoing *o)
{
	for (size_t i = 0; i < o->nr_blocks; i++) {
		const struct vm_ram_block *ram = &o->blocks[i].ram;

		if (ram->fd < 0)
			madvise(ram->host, ram->gpa.size, MADV_DONTNEED);
	}
}

static void *outgoing_main(void *opaque)
{
	struct outgoing *o = opaque;
	struct outgoing_status end = {.o = o};
	struct err *err = NULL;
	int ret = outgoing_run(o, &end.outcome, &err);

	if (ret)
		outgoing_last_words(o, &err);
	end.status = outgoing_end_status(o, ret, err);
	outgoing_close(o);
	if (!ret && end.outcome == VM_MIGRATION_HANDED_OVER &&
	    outgoing_can(o, MIGRATION_CAP_RELEASE_RAM))
		outgoing_release(o);
	if (end.status == MIGRATION_FAILED)
		end.error = err_message(err);
	pthread_mutex_lock(&o->lock);
	o->ended_ms = outgoing_now_ms();
	o->over = true;
	pthread_mutex_unlock(&o->lock);
	onmain_call(o->config.onmain, outgoing_tell_end, &end);
	err_free(err);
	return NULL;
}

/* ---- from the main thread ---- */

static struct outgoing *outgoing_new(const struct outgoing_config *config, struct address *address)
{
	struct outgoing *o = calloc(1, sizeof(*o));
	pthread_condattr_t attr;

	if (!o)
		return NULL;
	o->config = *config;
	o->params = config->params;
	o->address = address;
	o->joined = true; /* no thread yet */
	o->begun_ms = outgoing_now_ms();
	pthread_mutex_init(&o->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&o->changed, &attr);
	pthread_condattr_destroy(&attr);
	return o;
}

static int outgoing_prepare(struct outgoing *o, struct err **err)
{
	bool uuid = outgoing_can(o, MIGRATION_CAP_VALIDATE_UUID);
	int ret = vm_state_describe(o->config.vm, uuid, &o->description, err);

	if (ret)
		return ret;
	o->blocks = blocks_of_vm(o->config.vm, &o->nr_blocks, err);
	o->cancel = o->blocks ? cancel_new(err) : NULL;
	o->pace = o->cancel ? pace_new(o->params.max_bandwidth, err) : NULL;
	return o->pace ? 0 : -ENOMEM;
}

int outgoing_start(const struct outgoing_config *config, struct address *address,
		   struct outgoing **ret_outgoing, struct err **err)
{
	struct outgoing *o = outgoing_new(config, address);
	int ret;

	if (!o) {
		address_free(address);
		return err_set(err, ENOMEM, "out of memory");
	}
	ret = vm_migration_begin(config->vm, err);
	if (!ret) {
		ret = outgoing_prepare(o, err);
		if (!ret)
			ret = pthread_create(&o->thread, NULL, outgoing_main, o);
		if (ret > 0)
			ret = err_set(err, ret, "cannot start a thread: %s", strerror(ret));
		if (ret)
			vm_migration_end(config->vm, VM_MIGRATION_UNDONE);
	}
	if (ret) {
		outgoing_free(o);
		return ret;
	}
	o->joined = false;
	pthread_setname_np(o->thread, "migration");
	*ret_outgoing = o;
	return 0;
}

void outgoing_free(struct outgoing *o)
{
	if (!o)
		return;
	if (!o->joined) {
		pthread_mutex_lock(&o->lock);
		o->cancelled = true;
		pthread_cond_broadcast(&o->changed);
		pthread_mutex_unlock(&o->lock);
		cancel_raise(o->cancel);
		pthread_join(o->thread, NULL);
	}
	if (o->logging)
		vm_dirty_stop(o->config.vm);
	pace_free(o->pace);
	cancel_free(o->cancel);
	free(o->blocks);
	pack_done(&o->description);
	address_free(o->address);
	address_free(o->resume);
	pthread_cond_destroy(&o->changed);
	pthread_mutex_destroy(&o->lock);
	free(o);
}
