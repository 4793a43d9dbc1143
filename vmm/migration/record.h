/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine's state as a stream: a header, then records. docs/migration.md tells what is in them.
 *
 *	header	8 bytes "EBBSTATE", le32 format, le32 flags, le64 session, le32 channels,
 *		le32 channel, le32 crc
 *	record	le32 type, le32 flags, le32 size, le32 crc of these, payload, le32 crc of it
 *
 * Checksums are CRC-32C. That of a record's first 12 bytes goes on from that of le64 session,
 * le32 channel | RETURN << 31, le64 number of the record, so that a record which was lost, doubled,
 * moved, or is another migration's is known as well; that of a payload goes on from the former.
 *
 * I1  A record is handed out when both checksums were right, its size is within the bounds of its
 *     type, and its type is one that goes in this direction; else there is one sentence that says
 *     what is wrong, and nothing more can be read.
 * I2  A reader allocates no more than RECORD_CHUNK beyond what has arrived.
 * I3  A record is written whole or the channel is of no further use: a failed writer stays failed.
 *
 * Threads: a writer may be used by any thread, records of several come one after the other. A
 * reader is one thread's. The other side controls every byte. What is checked here is the frame;
 * payloads are hostile still.
 */
#ifndef VMM_MIGRATION_RECORD_H
#define VMM_MIGRATION_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct channel;
struct channel_listener;
struct err;

#define RECORD_FORMAT       1u
#define RECORD_HEADER_BYTES 36u
#define RECORD_CHUNK        (UINT32_C(1) << 20)
/* The largest payload of each type, but for sections. */
#define RECORD_MAX          (UINT32_C(4) << 20)
#define RECORD_SECTION_MAX  (UINT32_C(64) << 20)
#define RECORD_PARTS_MAX    64u
#define RECORD_CHANNELS_MAX 255u

/* ---- the header ---- */

/* Flags. RETURN: from the target to the source. IMAGE: not records but a file with places. */
#define RECORD_FLAG_RETURN  (UINT32_C(1) << 0)
#define RECORD_FLAG_IMAGE   (UINT32_C(1) << 1)
#define RECORD_FLAG_RECOVER (UINT32_C(1) << 2) /* goes on with a session that both sides know */
#define RECORD_FLAGS        7u

struct record_header {
	uint32_t flags;
	uint64_t session;     /* random, never 0 */
	uint32_t nr_channels; /* beside the first one; RECORD_CHANNELS_MAX at most */
	uint32_t channel;     /* which one this is: 0 the first, to nr_channels */
};

/* A new session. */
int record_session(uint64_t *ret_session, struct err **err);
void record_header_encode(const struct record_header *h, uint8_t bytes[RECORD_HEADER_BYTES]);
/*
 * @size: how many bytes there are, which may be too few. @name is the sentence's subject, a
 * channel's name.
 */
int record_header_decode(const uint8_t *bytes, size_t size, const char *name,
			 struct record_header *ret_header, struct err **err);

/*
 * The first channel of whoever connects first with a header: one that is wrong fails, a client that
 * sends nothing is passed over, and further channels that were quicker wait for
 * record_accept_others(). The header is still to be read from the channel. -ECANCELED without a
 * sentence.
 */
int record_accept(struct channel_listener *listener, struct channel **ret_channel,
		  struct record_header *ret_header, struct err **err);
/*
 * The one channel of a source that goes on with session @session (RECORD_FLAG_RECOVER): strangers
 * are passed over. Otherwise as record_accept().
 */
int record_accept_again(struct channel_listener *listener, uint64_t session,
			struct channel **ret_channel, struct err **err);
/*
 * The others of @first: channel i + 1 becomes ret_channels[i]. Strangers are passed over. On
 * failure none is left open; one that did not come in @timeout_ms gets a sentence.
 */
int record_accept_others(struct channel_listener *listener, const struct record_header *first,
			 int timeout_ms, struct channel **ret_channels, struct err **err);

/* ---- records ---- */

enum record_type {
	/* from the source */
	RECORD_MACHINE = 1, /* what both machines must agree on */
	RECORD_BLOCKS,      /* blocks of memory: names and places */
	RECORD_NOTES,       /* runs of device memory that came or went */
	RECORD_PAGES,
	RECORD_ZEROS,
	RECORD_ROUND, /* a barrier of all channels */
	RECORD_SECTION,
	RECORD_POSTCOPY_ADVISE,
	RECORD_POSTCOPY_RUN,
	RECORD_END,
	RECORD_GO,
	/* from the target */
	RECORD_READY = 32,
	RECORD_RUNNING,
	RECORD_FAILED, /* a sentence */
	RECORD_WANT,
	RECORD_HAVE,
	RECORD_DONE,
};

/* Flag of RUNNING: the guest waits at the target until somebody there lets it go on. */
#define RECORD_RUNNING_HELD 1u

/* "PAGES"; "?" for one that there is not. Static. */
const char *record_type_name(uint32_t type);

struct record_writer;

/*
 * On a new channel; @header is written with the first record, or by record_flush(). The channel
 * stays the caller's, and must outlive the writer.
 */
struct record_writer *record_writer_new(struct channel *channel, const struct record_header *header,
					struct err **err);
void record_writer_free(struct record_writer *w);
/*
 * One record of @parts one after the other, RECORD_PARTS_MAX at most, of which none is copied: they
 * must not change until it returns. A type that takes no such size or direction is the caller's
 * error (assertion).
 */
int record_write(struct record_writer *w, enum record_type type, uint32_t flags,
		 const struct iovec *parts, size_t nr_parts, struct err **err);
/* The same with one part; @size 0: none. */
int record_write_bytes(struct record_writer *w, enum record_type type, uint32_t flags,
		       const void *bytes, size_t size, struct err **err);
int record_flush(struct record_writer *w, struct err **err);
/* Limit of one record's time to be written, -1: none (the default). A peer that takes nothing. */
void record_writer_set_timeout(struct record_writer *w, int timeout_ms);

struct record_reader;

struct record {
	enum record_type type;
	uint32_t flags;
	size_t size;
	const uint8_t *bytes; /* valid until the next call of the reader */
	uint64_t number;      /* in the channel, the first is 0 */
};

/* The channel stays the caller's, and must outlive the reader. NULL when memory is out. */
struct record_reader *record_reader_new(struct channel *channel, struct err **err);
void record_reader_free(struct record_reader *r);
/*
 * The header, before anything else. @expect NULL: any source's; else the session must be the same,
 * and so must direction (RECORD_FLAG_RETURN) and channel.
 */
int record_read_header(struct record_reader *r, const struct record_header *expect, int timeout_ms,
		       struct record_header *ret_header, struct err **err);
/*
 * 1: a record. 0: the other side ended in order between two of them, which is for the caller to
 * judge. -ETIMEDOUT before the first byte of a record: no sentence, and reading may go on. Else
 * there is a sentence:
 *	-ENODATA	the other side ended in order, in the midst of a record
 *	-ECONNRESET	the connection broke
 *	-ETIMEDOUT	in the midst of a record, or the network is dead
 *	-ECANCELED
 *	-EINVAL		it is damaged
 */
int record_read(struct record_reader *r, int timeout_ms, struct record *ret_record,
		struct err **err);

/*
 * Sentences, which return -EINVAL: the payload is wrong (@what: "a page that is in no block"); this
 * type of record does not belong where it came.
 */
int record_damaged(const struct record_reader *r, const struct record *record, const char *what,
		   struct err **err);
int record_unexpected(const struct record_reader *r, const struct record *record, struct err **err);
/* The state ended where more must come; returns -ENODATA. */
int record_cut_off(const struct record_reader *r, struct err **err);

#endif
