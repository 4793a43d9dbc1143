/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer target for what a machine is loaded from: the whole of an incoming migration, from the
 * first byte of a header to the guest's start, over channels in memory (fake_channel.h) or out of
 * an image, into guest memory of a few pages, with parts of a machine that take any state.
 *
 * It checks that each loading ends, in one of two ways: all was there and in order, or there is one
 * sentence fit for a terminal; that nothing was written outside of what is plugged; and that
 * nothing is left open.
 *
 * Input: a byte of flags (enum flags), then either a stream as it is, whose header's checksum is
 * put right where that was asked for; or records, each of which is made one with checksums that are
 * right: u8 type, u8 flags, u8 pages that follow its payload, u8 how (enum how), le16 size, payload
 * (stream_seeds.py). Of an image type 0 changes bytes of its index, and HOW_OWN there of its head,
 * whose checksums are right again: le16 place, u8 value each.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <zstd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "fake_channel.h"
#include "fake_machine.h"
#include "tests/fuzz/input.h"
#include "vmm/migration/address.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/blocks_wire.h"
#include "vmm/migration/crc32c.h"
#include "vmm/migration/image_layout.h"
#include "vmm/migration/incoming_internal.h"
#include "vmm/vm/vm_internal.h"
#include "vmm/vm/vm_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum flags {
	FLAG_STREAM = 1,  /* the input is a stream */
	FLAG_HEADER = 2,  /* put its header's checksum right */
	FLAG_FURTHER = 4, /* two channels */
	FLAG_DUPLEX = 8,
	FLAG_RESET = 16,    /* the connection does not end in order */
	FLAG_IMAGE = 32,    /* the records make an image, in a file */
	FLAG_POSTCOPY = 64, /* which the target allows */
	FLAG_RECOVER = 128, /* the other channel is one that replaces the first */
};

#define SESSION     UINT64_C(0x0123456789abcdef)
#define STREAM_ROOM (UINT32_C(1) << 20)
#define PAGES_ADDED 8u /* to one record */

enum how {
	HOW_FURTHER = 1, /* on the other channel */
	HOW_OWN = 2,     /* what this machine would send itself comes after the payload */
	HOW_ZSTD = 4,    /* the pages that follow are compressed */
	HOW_DAMAGED = 8, /* its checksum is wrong */
};

/* ---- the stream ---- */

struct stream {
	uint8_t bytes[STREAM_ROOM];
	size_t size;
	uint32_t channel;
	uint64_t number;
};

static struct stream streams[FAKE_CHANNELS];

static uint8_t *stream_add(struct stream *s, size_t size)
{
	uint8_t *at = s->bytes + s->size;

	if (size > STREAM_ROOM - s->size)
		return NULL;
	s->size += size;
	return at;
}

static void stream_begin(struct stream *s, uint32_t flags, uint32_t channel, uint32_t nr_channels)
{
	struct record_header header = {
		.flags = flags,
		.session = SESSION,
		.nr_channels = nr_channels,
		.channel = channel,
	};

	s->size = 0;
	s->number = 0;
	s->channel = channel;
	record_header_encode(&header, stream_add(s, RECORD_HEADER_BYTES));
}

/* A record of docs/migration.md. */
static void stream_record(struct stream *s, uint32_t type, uint32_t flags,
			  const struct pack *payload, bool damage)
{
	uint8_t place[20], *at = stream_add(s, 16 + payload->size + 4);
	uint32_t crc;

	if (!at)
		return;
	bytes_put_le(at, 4, type);
	bytes_put_le(at + 4, 4, flags);
	bytes_put_le(at + 8, 4, payload->size);
	bytes_put_le(place, 8, SESSION);
	bytes_put_le(place + 8, 4, s->channel);
	bytes_put_le(place + 12, 8, s->number++);
	crc = crc32c(crc32c(0, place, sizeof(place)), at, 12);
	bytes_put_le(at + 12, 4, crc);
	at += 16;
	if (payload->size)
		memcpy(at, payload->bytes, payload->size);
	crc = crc32c(crc, at, payload->size);
	bytes_put_le(at + payload->size, 4, crc ^ damage);
}

/* What follows the payload in the input. */
static void payload_more(struct pack *payload, uint32_t type, size_t pages, uint8_t how)
{
	static uint8_t content[PAGES_ADDED * PAGE_BYTES], small[sizeof(content)];
	size_t size = pages * PAGE_BYTES;
	struct block *blocks;
	size_t nr;

	if (how & HOW_OWN && type == RECORD_MACHINE)
		check(!vm_state_describe(&machine.vm, false, payload, NULL), "a description");
	if (how & HOW_OWN && type == RECORD_BLOCKS) {
		blocks = blocks_of_vm(&machine.vm, &nr, NULL);
		blocks_pack(blocks, nr, payload);
		free(blocks);
	}
	memset(content, (int)type + 1, size);
	if (how & HOW_ZSTD)
		size = ZSTD_compress(small, sizeof(small), content, size, 1);
	if (!ZSTD_isError(size))
		pack_bytes(payload, how & HOW_ZSTD ? small : content, size);
}

struct record_input {
	uint32_t type, flags;
	uint8_t how;
	struct pack payload;
};

static void take_record(struct input *in, struct record_input *r)
{
	size_t pages, size;

	*r = (struct record_input){.type = (uint32_t)take(in, 1), .flags = (uint32_t)take(in, 1)};
	pages = take(in, 1) % (PAGES_ADDED + 1);
	r->how = (uint8_t)take(in, 1);
	size = (size_t)take(in, 2);
	size = (size_t)num_min(size, in->left);
	pack_bytes(&r->payload, in->data, size);
	in->data += size;
	in->left -= size;
	payload_more(&r->payload, r->type, pages, r->how);
}

static void streams_of_records(struct input *in, bool further, bool recover)
{
	struct record_input r;

	stream_begin(&streams[0], 0, 0, further);
	stream_begin(&streams[1], recover ? RECORD_FLAG_RECOVER : 0, further, further);
	while (in->left) {
		take_record(in, &r);
		stream_record(&streams[(further || recover) && r.how & HOW_FURTHER], r.type,
			      r.flags, &r.payload, r.how & HOW_DAMAGED);
		pack_done(&r.payload);
	}
}

static void stream_of_bytes(struct input *in, bool right)
{
	struct stream *s = &streams[0];

	s->size = (size_t)num_min(in->left, sizeof(s->bytes));
	memcpy(s->bytes, in->data, s->size);
	if (right && s->size >= RECORD_HEADER_BYTES)
		bytes_put_le(s->bytes + RECORD_HEADER_BYTES - 4, 4,
			     crc32c(0, s->bytes, RECORD_HEADER_BYTES - 4));
}

/* ---- the image ---- */

static void change(uint8_t *bytes, size_t size, const struct pack *changes)
{
	for (size_t i = 0; i + 3 <= changes->size && size; i += 3)
		bytes[bytes_get_le(changes->bytes + i, 2) % size] = changes->bytes[i + 2];
}

/* Changes of head and index, whose checksums are right again (image_layout.h). */
static void image_change(int fd, const struct pack *head_changes, const struct pack *index_changes)
{
	static uint8_t index[STREAM_ROOM];
	uint8_t head[IMAGE_HEAD_BYTES];
	uint64_t at, size;

	check(pread(fd, head, sizeof(head), 0) == sizeof(head), "the head");
	at = bytes_get_le(head + RECORD_HEADER_BYTES, 8);
	size = bytes_get_le(head + RECORD_HEADER_BYTES + 8, 8);
	check(size <= sizeof(index) && pread(fd, index, size, (off_t)at) == (ssize_t)size,
	      "the index");
	change(index, size, index_changes);
	check(pwrite(fd, index, size, (off_t)at) == (ssize_t)size, "the index");
	bytes_put_le(head + RECORD_HEADER_BYTES + 16, 4, crc32c(0, index, size));
	change(head, sizeof(head) - 4, head_changes);
	bytes_put_le(head + RECORD_HEADER_BYTES - 4, 4, crc32c(0, head, RECORD_HEADER_BYTES - 4));
	bytes_put_le(head + sizeof(head) - 4, 4,
		     crc32c((uint32_t)bytes_get_le(head + RECORD_HEADER_BYTES - 4, 4),
			    head + RECORD_HEADER_BYTES, IMAGE_HEAD_EXTRA - 4));
	check(pwrite(fd, head, sizeof(head), 0) == sizeof(head), "the head");
}

/* Pages of a record, where it is one: those outside of the block are none. */
static void image_pages(struct image_writer *w, const struct record_input *r)
{
	static const uint8_t page[PAGE_BYTES] = {1};
	size_t block = r->payload.size ? r->payload.bytes[0] % MACHINE_BLOCKS : 0;

	for (size_t i = 1; i < r->payload.size; i++)
		check(!image_write_pages(w, block, r->payload.bytes[i] % PAGES, 1, page, NULL),
		      "a page of an image");
}

static int image_of_records(struct input *in)
{
	static const uint64_t bytes[3] = {PAGES * PAGE_BYTES, PAGES * PAGE_BYTES,
					  PAGES * PAGE_BYTES};
	struct pack changes[2] = {{0}, {0}};
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct image_writer *w;
	struct record_input r;

	check(!image_writer_new(fd, 0, "image", SESSION, bytes, ARRAY_SIZE(bytes), &w, NULL),
	      "an image");
	while (in->left) {
		take_record(in, &r);
		if (!r.type)
			pack_bytes(&changes[r.how & HOW_OWN ? 0 : 1], r.payload.bytes,
				   r.payload.size);
		else if (r.type == RECORD_PAGES)
			image_pages(w, &r);
		else
			check(!image_write_record(w, r.type, r.flags, r.payload.bytes,
						  r.payload.size, NULL),
			      "a record of an image");
		pack_done(&r.payload);
	}
	check(!image_writer_finish(w, NULL), "an image");
	image_writer_free(w);
	image_change(fd, &changes[0], &changes[1]);
	pack_done(&changes[0]);
	pack_done(&changes[1]);
	return fd;
}

/* ---- the end ---- */

struct result {
	sem_t over; /* for now: it has ended, or its connection broke */
	enum migration_status status;
};

static void told(void *opaque, enum migration_status status, const char *error)
{
	struct result *result = opaque;

	check(status != MIGRATION_FAILED || error, "a sentence for each failure");
	for (const char *at = error; at && *at; at++)
		check((unsigned char)*at >= ' ' && *at != 0x7f, "sentences fit for a terminal");
	result->status = status;
	if (status == MIGRATION_COMPLETED || status == MIGRATION_FAILED ||
	    status == MIGRATION_POSTCOPY_PAUSED)
		sem_post(&result->over);
}

static struct address *fake_address(void)
{
	struct address *address;

	check(!address_parse("fd:fake", &address, NULL), "an address");
	return address;
}

/* Until it has ended, or waits for a connection that does not come. */
static void load(struct incoming_config *config, struct result *result, bool recover)
{
	struct incoming *incoming;
	bool goes;

	check(!incoming_start(config, fake_address(), &incoming, NULL), "to begin");
	sem_wait(&result->over);
	pthread_mutex_lock(&machine.lock);
	if (recover && result->status == MIGRATION_POSTCOPY_PAUSED) {
		pthread_mutex_unlock(&machine.lock);
		check(!incoming_recover(incoming, fake_address(), NULL), "to recover");
		sem_wait(&result->over);
		pthread_mutex_lock(&machine.lock);
	}
	goes = result->status == MIGRATION_COMPLETED || result->status == MIGRATION_POSTCOPY_PAUSED;
	check(machine.runs == goes, "a guest runs when it may");
	pthread_mutex_unlock(&machine.lock);
	machine_close(&machine);
	incoming_free(incoming);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t flags = (uint8_t)take(&in, 1);
	bool records = !(flags & (FLAG_STREAM | FLAG_IMAGE));
	bool further = flags & FLAG_FURTHER && records;
	bool recover = flags & FLAG_RECOVER && records && !further;
	struct result result = {.status = MIGRATION_NONE};
	struct incoming_config config = {.vm = &machine.vm, .status = told, .opaque = &result};

	if (flags & FLAG_POSTCOPY)
		config.capabilities = 1u << MIGRATION_CAP_POSTCOPY_RAM;
	machine_init(&machine);
	fake_world = (struct fake_world){
		.nr_clients = 1u + (further || recover),
		.one_each = recover,
		.duplex = flags & FLAG_DUPLEX,
		.fd = -1,
	};
	if (flags & FLAG_STREAM)
		stream_of_bytes(&in, flags & FLAG_HEADER);
	else if (flags & FLAG_IMAGE)
		fake_world.fd = image_of_records(&in);
	else
		streams_of_records(&in, further, recover);
	for (unsigned int i = 0; i < FAKE_CHANNELS; i++)
		fake_world.clients[i] = (struct fake_client){
			streams[i].bytes,
			streams[i].size,
			flags & FLAG_RESET ? -ECONNRESET : -ENODATA,
		};
	sem_init(&result.over, 0, 0);
	load(&config, &result, recover);
	check(!fake_world.open, "all channels are closed");
	machine_check(&machine);
	if (fake_world.fd >= 0)
		close(fake_world.fd);
	sem_destroy(&result.over);
	machine_done(&machine);
	return 0;
}
