/* SPDX-License-Identifier: BSD-3-Clause */
/* Streams in memory for tests: what a writer made, as bytes, and readers of bytes. */
#ifndef TESTS_MIGRATION_STREAMS_H
#define TESTS_MIGRATION_STREAMS_H

#include "channels.h"
#include "vmm/migration/record.h"

struct bytes {
	uint8_t *at;
	size_t size;
};

/* A writer into memory, and what it wrote: ends the writer. */
struct record_writer *stream_writer(const struct rig *rig, const struct record_header *header,
				    struct channel **ret_channel);
struct bytes stream_take(struct record_writer *writer, struct channel *channel);
/* A reader of bytes; stream_close() ends both. */
struct record_reader *stream_reader(const struct rig *rig, const uint8_t *bytes, size_t size,
				    struct channel **ret_channel);
void stream_close(struct record_reader *reader, struct channel *channel);

#endif
