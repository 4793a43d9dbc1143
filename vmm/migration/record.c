/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine's state as a stream of records: see record.h. */
#include "vmm/migration/record.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/crc32c.h"

struct record_frame {
	le32 type;
	le32 flags;
	le32 size;
	le32 crc; /* of all before it, and what is not sent: see record_crc_begin() */
} __attribute__((packed));

#define RECORD_FRAME_SUMMED __builtin_offsetof(struct record_frame, crc)

enum record_way { RECORD_NOWHERE, RECORD_TO_TARGET, RECORD_TO_SOURCE };

static const struct record_kind {
	const char *name;
	enum record_way way;
	uint32_t max;
} record_kinds[] = {
	[RECORD_MACHINE] = {"MACHINE", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_BLOCKS] = {"BLOCKS", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_NOTES] = {"NOTES", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_PAGES] = {"PAGES", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_ZEROS] = {"ZEROS", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_ROUND] = {"ROUND", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_SECTION] = {"SECTION", RECORD_TO_TARGET, RECORD_SECTION_MAX},
	[RECORD_POSTCOPY_ADVISE] = {"POSTCOPY_ADVISE", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_POSTCOPY_RUN] = {"POSTCOPY_RUN", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_END] = {"END", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_GO] = {"GO", RECORD_TO_TARGET, RECORD_MAX},
	[RECORD_READY] = {"READY", RECORD_TO_SOURCE, RECORD_MAX},
	[RECORD_RUNNING] = {"RUNNING", RECORD_TO_SOURCE, RECORD_MAX},
	[RECORD_FAILED] = {"FAILED", RECORD_TO_SOURCE, RECORD_MAX},
	[RECORD_WANT] = {"WANT", RECORD_TO_SOURCE, RECORD_MAX},
	[RECORD_HAVE] = {"HAVE", RECORD_TO_SOURCE, RECORD_MAX},
	[RECORD_DONE] = {"DONE", RECORD_TO_SOURCE, RECORD_MAX},
};

/* NULL for one that there is not. */
static const struct record_kind *record_kind(uint32_t type)
{
	return type < ARRAY_SIZE(record_kinds) && record_kinds[type].way ? &record_kinds[type]
									 : NULL;
}

const char *record_type_name(uint32_t type)
{
	const struct record_kind *kind = record_kind(type);

	return kind ? kind->name : "?";
}

static enum record_way record_way(const struct record_header *h)
{
	return h->flags & RECORD_FLAG_RETURN ? RECORD_TO_SOURCE : RECORD_TO_TARGET;
}

/* The sum that record @number of a channel begins with: of where it belongs. */
static uint32_t record_crc_begin(const struct record_header *h, uint64_t number)
{
	struct {
		le64 session;
		le32 channel;
		le64 number;
	} __attribute__((packed)) place = {
		.session = le64_make(h->session),
		.channel = le32_make(h->channel | (h->flags & RECORD_FLAG_RETURN) << 31),
		.number = le64_make(number),
	};

	return crc32c(0, &place, sizeof(place));
}

/* ---- writing ---- */

struct record_writer {
	struct channel *channel;
	struct record_header header;
	pthread_mutex_t lock; /* of all below */
	uint64_t number;      /* of the next record */
	bool header_written;
	int failed; /* -errno, once it did */
	int timeout_ms;
};

struct record_writer *record_writer_new(struct channel *channel, const struct record_header *header,
					struct err **err)
{
	struct record_writer *w = calloc(1, sizeof(*w));

	if (!w) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	w->channel = channel;
	w->header = *header;
	w->timeout_ms = -1;
	pthread_mutex_init(&w->lock, NULL);
	return w;
}

void record_writer_free(struct record_writer *w)
{
	if (!w)
		return;
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void record_writer_set_timeout(struct record_writer *w, int timeout_ms)
{
	pthread_mutex_lock(&w->lock);
	w->timeout_ms = timeout_ms;
	pthread_mutex_unlock(&w->lock);
}

/* Lock held. */
static int record_send(struct record_writer *w, struct iovec *iov, size_t nr, const char *what,
		       struct err **err)
{
	if (!w->failed)
		w->failed = channel_writev(w->channel, iov, nr, w->timeout_ms);
	return w->failed ? channel_fail(w->channel, w->failed, what, err) : 0;
}

/* Lock held. */
static int record_send_header(struct record_writer *w, struct err **err)
{
	uint8_t bytes[RECORD_HEADER_BYTES];
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	int ret;

	if (w->header_written)
		return 0;
	record_header_encode(&w->header, bytes);
	ret = record_send(w, &iov, 1, "send the header", err);
	w->header_written = !ret;
	return ret;
}

int record_flush(struct record_writer *w, struct err **err)
{
	int ret;

	pthread_mutex_lock(&w->lock);
	ret = record_send_header(w, err);
	pthread_mutex_unlock(&w->lock);
	return ret;
}

int record_write(struct record_writer *w, enum record_type type, uint32_t flags,
		 const struct iovec *parts, size_t nr_parts, struct err **err)
{
	const struct record_kind *kind = record_kind(type);
	struct iovec iov[RECORD_PARTS_MAX + 2];
	struct record_frame frame;
	uint64_t size = 0;
	char what[64];
	uint32_t crc;
	le32 end;
	int ret;

	assert(kind && kind->way == record_way(&w->header) && nr_parts <= RECORD_PARTS_MAX);
	for (size_t i = 0; i < nr_parts; i++) {
		iov[i + 1] = parts[i];
		size += parts[i].iov_len;
	}
	assert(size <= kind->max);
	snprintf(what, sizeof(what), "send a record %s", kind->name);
	frame.type = le32_make(type);
	frame.flags = le32_make(flags);
	frame.size = le32_make((uint32_t)size);
	iov[0] = (struct iovec){.iov_base = &frame, .iov_len = sizeof(frame)};
	iov[nr_parts + 1] = (struct iovec){.iov_base = &end, .iov_len = sizeof(end)};
	pthread_mutex_lock(&w->lock);
	crc = crc32c(record_crc_begin(&w->header, w->number), &frame, RECORD_FRAME_SUMMED);
	frame.crc = le32_make(crc);
	for (size_t i = 0; i < nr_parts; i++)
		crc = crc32c(crc, parts[i].iov_base, parts[i].iov_len);
	end = le32_make(crc);
	ret = record_send_header(w, err);
	if (!ret)
		ret = record_send(w, iov, nr_parts + 2, what, err);
	w->number++;
	pthread_mutex_unlock(&w->lock);
	return ret;
}

int record_write_bytes(struct record_writer *w, enum record_type type, uint32_t flags,
		       const void *bytes, size_t size, struct err **err)
{
	struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};

	return record_write(w, type, flags, &part, size ? 1 : 0, err);
}

/* ---- reading ---- */

struct record_reader {
	struct channel *channel;
	struct record_header header;
	uint64_t number; /* of the next record */
	bool failed;     /* nothing more can be read */
	uint8_t *bytes;
	size_t room;
};

struct record_reader *record_reader_new(struct channel *channel, struct err **err)
{
	struct record_reader *r = calloc(1, sizeof(*r));

	if (!r)
		err_set(err, ENOMEM, "out of memory");
	else
		r->channel = channel;
	return r;
}

void record_reader_free(struct record_reader *r)
{
	if (!r)
		return;
	free(r->bytes);
	free(r);
}

int record_damaged(const struct record_reader *r, const struct record *record, const char *what,
		   struct err **err)
{
	return err_set(err, EINVAL, "%s is damaged: %s in record %" PRIu64 " (%s)",
		       channel_name(r->channel), what, record->number,
		       record_type_name(record->type));
}

int record_unexpected(const struct record_reader *r, const struct record *record, struct err **err)
{
	return err_set(err, EINVAL, "%s is damaged: record %" PRIu64 " (%s) does not belong there",
		       channel_name(r->channel), record->number, record_type_name(record->type));
}

int record_cut_off(const struct record_reader *r, struct err **err)
{
	return err_set(err, ENODATA, "%s was cut off: it ends after %" PRIu64 " records",
		       channel_name(r->channel), r->number);
}

int record_read_header(struct record_reader *r, const struct record_header *expect, int timeout_ms,
		       struct record_header *ret_header, struct err **err)
{
	uint8_t bytes[RECORD_HEADER_BYTES];
	size_t done = 0;
	int ret = channel_read(r->channel, bytes, sizeof(bytes), timeout_ms, &done);

	if (ret && (ret != -ENODATA || (!done && expect)))
		return channel_fail(r->channel, ret, "read the header", err);
	ret = record_header_decode(bytes, done, channel_name(r->channel), &r->header, err);
	if (ret)
		return ret;
	if (expect && (r->header.session != expect->session ||
		       (r->header.flags ^ expect->flags) & RECORD_FLAG_RETURN ||
		       r->header.channel != expect->channel))
		return err_set(err, EINVAL, "%s belongs to another migration",
			       channel_name(r->channel));
	*ret_header = r->header;
	return 0;
}

static int record_read_failed(struct record_reader *r, int ret, struct err **err)
{
	r->failed = true;
	if (ret == -ENODATA)
		return err_set(err, ENODATA, "%s was cut off in record %" PRIu64,
			       channel_name(r->channel), r->number);
	return channel_fail(r->channel, ret, "read a record", err);
}

/* Check what is known before the payload. */
static int record_check_frame(struct record_reader *r, const struct record_frame *frame,
			      uint32_t crc, struct err **err)
{
	const struct record_kind *kind = record_kind(le32_get(frame->type));
	const char *name = channel_name(r->channel);

	if (le32_get(frame->crc) != crc)
		return err_set(err, EINVAL, "%s is damaged: checksum of record %" PRIu64, name,
			       r->number);
	if (!kind)
		return err_set(err, EINVAL,
			       "%s is of a newer kind: record %" PRIu64 " is of type %" PRIu32
			       ", which this ebb does not know",
			       name, r->number, le32_get(frame->type));
	if (kind->way != record_way(&r->header))
		return err_set(err, EINVAL,
			       "%s is damaged: record %" PRIu64 " (%s) goes the other way", name,
			       r->number, kind->name);
	if (le32_get(frame->size) > kind->max)
		return err_set(err, EINVAL,
			       "%s is damaged: record %" PRIu64 " (%s) has %" PRIu32
			       " bytes; allowed: %" PRIu32,
			       name, r->number, kind->name, le32_get(frame->size), kind->max);
	return 0;
}

/* Room for @size bytes; what is there stays. */
static int record_room(struct record_reader *r, size_t size)
{
	uint8_t *bytes;

	if (size <= r->room)
		return 0;
	bytes = realloc(r->bytes, size);
	if (!bytes)
		return -ENOMEM;
	r->bytes = bytes;
	r->room = size;
	return 0;
}

/* Read @size bytes of payload and the sum behind them, which goes on from @crc. */
static int record_read_payload(struct record_reader *r, size_t size, uint32_t crc,
			       int64_t deadline_ms, struct err **err)
{
	size_t done = 0;
	le32 end;
	int ret;

	while (done < size) {
		size_t n = (size_t)num_min(size - done, RECORD_CHUNK);

		ret = record_room(r, done + n);
		if (!ret)
			ret = channel_read(r->channel, r->bytes + done, n,
					   cancel_left_ms(deadline_ms), NULL);
		if (ret)
			return record_read_failed(r, ret, err);
		crc = crc32c(crc, r->bytes + done, n);
		done += n;
	}
	ret = channel_read(r->channel, &end, sizeof(end), cancel_left_ms(deadline_ms), NULL);
	if (ret)
		return record_read_failed(r, ret, err);
	if (le32_get(end) == crc)
		return 0;
	r->failed = true;
	return err_set(err, EINVAL, "%s is damaged: checksum of record %" PRIu64,
		       channel_name(r->channel), r->number);
}

/* A section's room is given back when it has been loaded. */
static void record_shrink(struct record_reader *r)
{
	if (r->room <= RECORD_MAX)
		return;
	free(r->bytes);
	r->bytes = NULL;
	r->room = 0;
}

int record_read(struct record_reader *r, int timeout_ms, struct record *ret_record,
		struct err **err)
{
	int64_t deadline_ms = cancel_deadline(timeout_ms);
	struct record_frame frame;
	size_t done = 0;
	uint32_t crc;
	int ret;

	if (r->failed)
		return err_set(err, EINVAL, "%s cannot be read any further",
			       channel_name(r->channel));
	record_shrink(r);
	ret = channel_read(r->channel, &frame, sizeof(frame), timeout_ms, &done);
	if (!done && ret == -ENODATA)
		return 0;
	if (!done && ret == -ETIMEDOUT && deadline_ms >= 0 && !cancel_left_ms(deadline_ms))
		return ret;
	if (ret)
		return record_read_failed(r, ret, err);
	crc = crc32c(record_crc_begin(&r->header, r->number), &frame, RECORD_FRAME_SUMMED);
	ret = record_check_frame(r, &frame, crc, err);
	if (ret)
		r->failed = true;
	else
		ret = record_read_payload(r, le32_get(frame.size), crc, deadline_ms, err);
	if (ret)
		return ret;
	*ret_record = (struct record){
		.type = le32_get(frame.type),
		.flags = le32_get(frame.flags),
		.size = le32_get(frame.size),
		.bytes = r->bytes,
		.number = r->number++,
	};
	return 1;
}
