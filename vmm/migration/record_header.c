/* SPDX-License-Identifier: BSD-3-Clause */
/* Headers of streams, and channels that are known by them: see record.h. */
#include "vmm/migration/record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"
#include "vmm/migration/crc32c.h"

static const uint8_t record_magic[8] = {'E', 'B', 'B', 'S', 'T', 'A', 'T', 'E'};
/* What a stream of QEMU begins with. */
static const uint8_t record_qemu[4] = {'Q', 'E', 'V', 'M'};

struct record_header_bytes {
	uint8_t magic[8];
	le32 format;
	le32 flags;
	le64 session;
	le32 nr_channels;
	le32 channel;
	le32 crc; /* of all before it */
} __attribute__((packed));

_Static_assert(sizeof(struct record_header_bytes) == RECORD_HEADER_BYTES, "header");
#define RECORD_HEADER_SUMMED __builtin_offsetof(struct record_header_bytes, crc)

int record_session(uint64_t *ret_session, struct err **err)
{
	ssize_t n;

	do {
		n = getrandom(ret_session, sizeof(*ret_session), 0);
	} while ((n < 0 && errno == EINTR) || (n > 0 && !*ret_session));
	if (n < 0)
		return err_set(err, errno, "cannot make a random number: %s", strerror(errno));
	return 0;
}

void record_header_encode(const struct record_header *h, uint8_t bytes[RECORD_HEADER_BYTES])
{
	struct record_header_bytes b = {
		.format = le32_make(RECORD_FORMAT),
		.flags = le32_make(h->flags),
		.session = le64_make(h->session),
		.nr_channels = le32_make(h->nr_channels),
		.channel = le32_make(h->channel),
	};

	memcpy(b.magic, record_magic, sizeof(b.magic));
	b.crc = le32_make(crc32c(0, &b, RECORD_HEADER_SUMMED));
	memcpy(bytes, &b, sizeof(b));
}

/* Bytes that do not begin as a header does; there may be too few for one. */
static int record_header_foreign(const uint8_t *bytes, size_t size, const char *name,
				 struct err **err)
{
	static const uint8_t none[sizeof(record_magic)];

	if (size >= sizeof(record_qemu) && !memcmp(bytes, record_qemu, sizeof(record_qemu)))
		return err_set(err, EINVAL,
			       "%s is a state of QEMU's; allowed: what ebb wrote or sent", name);
	if (size >= sizeof(none) && !memcmp(bytes, none, sizeof(none)))
		return err_set(err, EINVAL, "%s is not complete: it was not written to its end",
			       name);
	return err_set(err, EINVAL, "%s is no state of a machine", name);
}

int record_header_decode(const uint8_t *bytes, size_t size, const char *name,
			 struct record_header *ret_header, struct err **err)
{
	size_t begun = size < sizeof(record_magic) ? size : sizeof(record_magic);
	struct record_header_bytes b;
	struct record_header h;

	if (!size)
		return err_set(err, ENODATA, "%s: there is no state in it, it is empty", name);
	if (memcmp(bytes, record_magic, begun))
		return record_header_foreign(bytes, size, name, err);
	if (size < sizeof(b))
		return err_set(err, ENODATA, "%s was cut off: only %zu bytes of it are there", name,
			       size);
	memcpy(&b, bytes, sizeof(b));
	if (le32_get(b.crc) != crc32c(0, &b, RECORD_HEADER_SUMMED))
		return err_set(err, EINVAL, "%s is damaged: checksum of the header", name);
	if (le32_get(b.format) != RECORD_FORMAT)
		return err_set(err, EINVAL, "%s is of version %" PRIu32 ", this ebb reads %u", name,
			       le32_get(b.format), RECORD_FORMAT);
	h = (struct record_header){
		.flags = le32_get(b.flags),
		.session = le64_get(b.session),
		.nr_channels = le32_get(b.nr_channels),
		.channel = le32_get(b.channel),
	};
	if (h.flags & ~RECORD_FLAGS || !h.session || h.nr_channels > RECORD_CHANNELS_MAX ||
	    h.channel > h.nr_channels)
		return err_set(err, EINVAL,
			       "%s is damaged: a header with flags %#" PRIx32 ", session %" PRIu64
			       ", channel %" PRIu32 " of %" PRIu32 " cannot be",
			       name, h.flags, h.session, h.channel, h.nr_channels);
	*ret_header = h;
	return 0;
}

/* ---- channels known by their headers ---- */

/* The header at a channel's beginning, which stays there. */
static int record_peek(struct channel *channel, struct record_header *ret_header, struct err **err)
{
	uint8_t bytes[RECORD_HEADER_BYTES];
	size_t done = 0;
	int ret = channel_peek(channel, bytes, sizeof(bytes), -1, &done);

	/* a command that could not be run, or failed, says more than that nothing came from it */
	if (!ret && !done && channel_is_command(channel))
		ret = -ENODATA;
	if (ret == -ECANCELED)
		return ret;
	if (ret)
		return channel_fail(channel, ret, "read a state", err);
	return record_header_decode(bytes, done, channel_name(channel), ret_header, err);
}

/* 0; 1: a further channel that was quicker than the first; or -errno. */
static int record_accept_first(struct channel *channel, struct record_header *ret_header,
			       struct err **err)
{
	const char *name = channel_name(channel);
	int ret = record_peek(channel, ret_header, err);

	if (ret)
		return ret;
	if (ret_header->flags & RECORD_FLAG_IMAGE && !channel_is_seekable(channel))
		return err_set(err, EINVAL,
			       "%s is an image, which is read where it lies; allowed: file:PATH",
			       name);
	if (ret_header->flags & RECORD_FLAG_RETURN)
		return err_set(err, EINVAL, "%s is no state but the answer to one", name);
	if (!ret_header->channel)
		return 0;
	if (channel_is_duplex(channel))
		return 1;
	return err_set(err, EINVAL, "%s is only a part of a state: channel %" PRIu32 " of %" PRIu32,
		       name, ret_header->channel, ret_header->nr_channels);
}

int record_accept(struct channel_listener *listener, struct channel **ret_channel,
		  struct record_header *ret_header, struct err **err)
{
	struct channel *quick[CHANNEL_CLIENTS_MAX], *channel;
	size_t nr = 0;
	int ret;

	do {
		channel = NULL;
		ret = channel_accept(listener, RECORD_HEADER_BYTES, -1, &channel, err);
		if (!ret)
			ret = record_accept_first(channel, ret_header, err);
		if (ret < 0)
			break;
		if (ret && nr == CHANNEL_CLIENTS_MAX)
			channel_close(quick[--nr]);
		if (ret)
			quick[nr++] = channel;
	} while (ret);
	if (ret)
		channel_close(channel);
	else
		*ret_channel = channel;
	for (size_t i = 0; i < nr; i++)
		channel_unaccept(listener, quick[i]);
	return ret;
}

int record_accept_again(struct channel_listener *listener, uint64_t session,
			struct channel **ret_channel, struct err **err)
{
	struct record_header h;
	struct channel *channel;
	int ret;

	for (;;) {
		ret = channel_accept(listener, RECORD_HEADER_BYTES, -1, &channel, err);
		if (ret == -ENODATA)
			return err_set(err, ENODATA,
				       "%s: it does not go on with the migration that broke",
				       channel_listener_name(listener));
		if (ret)
			return ret;
		ret = record_peek(channel, &h, NULL);
		if (!ret && h.session == session && h.flags == RECORD_FLAG_RECOVER && !h.channel)
			break;
		channel_close(channel);
		if (ret == -ECANCELED)
			return ret;
	}
	*ret_channel = channel;
	return 0;
}

/* Put a channel where it belongs, or close it. */
static void record_place(struct channel *channel, const struct record_header *first,
			 struct channel **channels, uint32_t *nr)
{
	struct record_header h;

	if (!record_peek(channel, &h, NULL) && h.session == first->session &&
	    h.flags == first->flags && h.nr_channels == first->nr_channels && h.channel &&
	    !channels[h.channel - 1]) {
		channels[h.channel - 1] = channel;
		++*nr;
	} else {
		channel_close(channel);
	}
}

int record_accept_others(struct channel_listener *listener, const struct record_header *first,
			 int timeout_ms, struct channel **ret_channels, struct err **err)
{
	int64_t deadline_ms = cancel_deadline(timeout_ms);
	struct channel *channel;
	uint32_t nr = 0;
	int ret = 0;

	memset(ret_channels, 0, first->nr_channels * sizeof(*ret_channels));
	while (nr < first->nr_channels) {
		ret = channel_accept(listener, RECORD_HEADER_BYTES, cancel_left_ms(deadline_ms),
				     &channel, err);
		if (ret)
			break;
		record_place(channel, first, ret_channels, &nr);
	}
	if (!ret)
		return 0;
	for (uint32_t i = 0; i < first->nr_channels; i++) {
		channel_close(ret_channels[i]);
		ret_channels[i] = NULL;
	}
	if (ret == -ETIMEDOUT || ret == -ENODATA)
		return err_set(err, -ret,
			       "%s: only %" PRIu32 " of the other %" PRIu32
			       " channels of the migration came",
			       channel_listener_name(listener), nr, first->nr_channels);
	return ret;
}
