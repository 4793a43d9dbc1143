/* SPDX-License-Identifier: BSD-3-Clause */
/* Streams in memory for tests: see streams.h. */
#include "streams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

struct record_writer *stream_writer(const struct rig *rig, const struct record_header *header,
				    struct channel **ret_channel)
{
	struct err *err = NULL;
	struct record_writer *w;

	*ret_channel = rig_writer(rig, memfd_create("stream", MFD_CLOEXEC));
	w = record_writer_new(*ret_channel, header, &err);
	rig_check_no_err(&err);
	return w;
}

struct bytes stream_take(struct record_writer *writer, struct channel *channel)
{
	struct bytes bytes;
	uint64_t size;

	assert_int_equal(channel_size(channel, &size), 0);
	bytes = (struct bytes){malloc(size + 1), size};
	assert_non_null(bytes.at);
	assert_int_equal(channel_pread(channel, bytes.at, size, 0), 0);
	record_writer_free(writer);
	channel_close(channel);
	return bytes;
}

struct record_reader *stream_reader(const struct rig *rig, const uint8_t *bytes, size_t size,
				    struct channel **ret_channel)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct err *err = NULL;
	struct record_reader *r;

	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	*ret_channel = rig_reader(rig, fd);
	r = record_reader_new(*ret_channel, &err);
	rig_check_no_err(&err);
	return r;
}

void stream_close(struct record_reader *reader, struct channel *channel)
{
	record_reader_free(reader);
	channel_close(channel);
}
