/* SPDX-License-Identifier: BSD-3-Clause */
/* Records: the bytes of the format, both directions, and channels by their headers. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/num.h"
#include "streams.h"
#include "vmm/migration/crc32c.h"

static const struct record_header header = {.session = UINT64_C(0x1122334455667788)};

static struct record read_one(struct record_reader *r)
{
	struct record record = {0};
	struct err *err = NULL;
	int ret = record_read(r, -1, &record, &err);

	rig_check_no_err(&err);
	assert_int_equal(ret, 1);
	return record;
}

static void check_header(const struct record_header *h, const struct record_header *same)
{
	assert_int_equal(h->flags, same->flags);
	assert_int_equal(h->session, same->session);
	assert_int_equal(h->nr_channels, same->nr_channels);
	assert_int_equal(h->channel, same->channel);
}

static void check_end(struct record_reader *r)
{
	struct record record;
	struct err *err = NULL;

	assert_int_equal(record_read(r, -1, &record, &err), 0);
	assert_null(err);
}

/* docs/migration.md, computed here once more. */
static void test_bytes(void **state)
{
	struct record_header h = {RECORD_FLAG_RECOVER, header.session, 3, 2};
	struct channel *ch;
	struct record_writer *w = stream_writer(*state, &h, &ch);
	struct bytes b;
	uint8_t place[20];
	uint32_t crc;

	assert_int_equal(record_write_bytes(w, RECORD_NOTES, 5, "abc", 3, NULL), 0);
	assert_int_equal(record_write_bytes(w, RECORD_END, 0, NULL, 0, NULL), 0);
	b = stream_take(w, ch);
	assert_int_equal(b.size, 36 + 16 + 3 + 4 + 16 + 4);
	assert_memory_equal(b.at, "EBBSTATE", 8);
	assert_int_equal(bytes_get_le(b.at + 8, 4), 1);
	assert_int_equal(bytes_get_le(b.at + 12, 4), 4);
	assert_int_equal(bytes_get_le(b.at + 16, 8), h.session);
	assert_int_equal(bytes_get_le(b.at + 24, 4), 3);
	assert_int_equal(bytes_get_le(b.at + 28, 4), 2);
	assert_int_equal(bytes_get_le(b.at + 32, 4), crc32c(0, b.at, 32));
	assert_int_equal(bytes_get_le(b.at + 36, 4), 3);
	assert_int_equal(bytes_get_le(b.at + 40, 4), 5);
	assert_int_equal(bytes_get_le(b.at + 44, 4), 3);
	bytes_put_le(place, 8, h.session);
	bytes_put_le(place + 8, 4, 2);
	bytes_put_le(place + 12, 8, 0);
	crc = crc32c(crc32c(0, place, 20), b.at + 36, 12);
	assert_int_equal(bytes_get_le(b.at + 48, 4), crc);
	assert_memory_equal(b.at + 52, "abc", 3);
	assert_int_equal(bytes_get_le(b.at + 55, 4), crc32c(crc, "abc", 3));
	assert_int_equal(bytes_get_le(b.at + 59, 4), 10);
	bytes_put_le(place + 12, 8, 1);
	crc = crc32c(crc32c(0, place, 20), b.at + 59, 12);
	assert_int_equal(bytes_get_le(b.at + 71, 4), crc);
	assert_int_equal(bytes_get_le(b.at + 75, 4), crc);
	free(b.at);
}

/* Every type of a direction, with payloads of all kinds of sizes, gathered from parts. */
static void check_types(struct rig *rig, uint32_t flags, uint32_t first, uint32_t last)
{
	static const size_t sizes[] = {0, 1, 63, 4096, RECORD_CHUNK, RECORD_CHUNK + 1, RECORD_MAX};
	struct record_header h = header, found;
	uint8_t *payload = malloc(RECORD_MAX);
	struct record_reader *r;
	struct record_writer *w;
	struct channel *ch;
	struct bytes b;

	for (size_t i = 0; i < RECORD_MAX; i++)
		payload[i] = (uint8_t)(i * 7 >> 2);
	h.flags = flags;
	w = stream_writer(rig, &h, &ch);
	for (uint32_t type = first; type <= last; type++) {
		size_t size = sizes[type % ARRAY_SIZE(sizes)];
		struct iovec parts[3] = {
			{payload, size / 3}, {payload, 0}, {payload + size / 3, size - size / 3}};

		assert_string_not_equal(record_type_name(type), "?");
		assert_int_equal(record_write(w, type, type * 3, parts, 3, NULL), 0);
	}
	b = stream_take(w, ch);
	r = stream_reader(rig, b.at, b.size, &ch);
	assert_int_equal(record_read_header(r, NULL, -1, &found, NULL), 0);
	check_header(&found, &h);
	for (uint32_t type = first; type <= last; type++) {
		struct record record = read_one(r);

		assert_int_equal(record.type, type);
		assert_int_equal(record.flags, type * 3);
		assert_int_equal(record.number, type - first);
		assert_int_equal(record.size, sizes[type % ARRAY_SIZE(sizes)]);
		if (record.size)
			assert_memory_equal(record.bytes, payload, record.size);
	}
	check_end(r);
	check_end(r);
	stream_close(r, ch);
	free(b.at);
	free(payload);
}

static void test_types(void **state)
{
	check_types(*state, 0, RECORD_MACHINE, RECORD_GO);
	check_types(*state, RECORD_FLAG_RETURN, RECORD_READY, RECORD_DONE);
	assert_string_equal(record_type_name(0), "?");
	assert_string_equal(record_type_name(RECORD_READY - 1), "?");
	assert_string_equal(record_type_name(UINT32_MAX), "?");
	assert_string_equal(record_type_name(RECORD_PAGES), "PAGES");
}

/* The largest section, and small ones after it. */
static void test_section(void **state)
{
	uint8_t *payload = calloc(1, RECORD_SECTION_MAX);
	struct record_header found;
	struct record_reader *r;
	struct record_writer *w;
	struct record record;
	struct channel *ch;
	struct bytes b;

	w = stream_writer(*state, &header, &ch);
	payload[RECORD_SECTION_MAX - 1] = 1;
	assert_int_equal(
		record_write_bytes(w, RECORD_SECTION, 0, payload, RECORD_SECTION_MAX, NULL), 0);
	assert_int_equal(record_write_bytes(w, RECORD_END, 0, "x", 1, NULL), 0);
	b = stream_take(w, ch);
	r = stream_reader(*state, b.at, b.size, &ch);
	assert_int_equal(record_read_header(r, NULL, -1, &found, NULL), 0);
	record = read_one(r);
	assert_int_equal(record.size, RECORD_SECTION_MAX);
	assert_memory_equal(record.bytes, payload, RECORD_SECTION_MAX);
	record = read_one(r);
	assert_memory_equal(record.bytes, "x", 1);
	stream_close(r, ch);
	free(b.at);
	free(payload);
}

/* Both ways over one socket; what was expected is checked. */
static void test_return(void **state)
{
	struct record_header back = {RECORD_FLAG_RETURN, header.session, 0, 0}, other = back, found;
	struct record_writer *there, *here;
	struct record_reader *r;
	struct channel *ends[2];
	struct record record;
	struct err *err = NULL;

	rig_pair(*state, ends);
	there = record_writer_new(ends[1], &back, NULL);
	assert_int_equal(record_flush(there, NULL), 0);
	assert_int_equal(record_flush(there, NULL), 0);
	assert_int_equal(channel_bytes_written(ends[1]), RECORD_HEADER_BYTES);
	assert_int_equal(record_write_bytes(there, RECORD_READY, 0, NULL, 0, NULL), 0);
	here = record_writer_new(ends[0], &header, NULL);
	assert_int_equal(record_write_bytes(here, RECORD_GO, 0, NULL, 0, NULL), 0);
	r = record_reader_new(ends[0], NULL);
	assert_int_equal(record_read_header(r, &back, -1, &found, NULL), 0);
	assert_int_equal(read_one(r).type, RECORD_READY);
	/* nothing yet: the time goes by, and reading goes on */
	assert_int_equal(record_read(r, 10, &record, &err), -ETIMEDOUT);
	assert_null(err);
	assert_int_equal(record_write_bytes(there, RECORD_RUNNING, 0, NULL, 0, NULL), 0);
	assert_int_equal(read_one(r).type, RECORD_RUNNING);
	assert_int_equal(channel_finish(ends[1], -1, NULL), 0);
	check_end(r);
	record_reader_free(r);
	r = record_reader_new(ends[1], NULL);
	other.session++;
	assert_int_equal(record_read_header(r, &other, -1, &found, &err), -EINVAL);
	rig_check_err_around(&err, EINVAL, "fd:", " belongs to another migration");
	record_reader_free(r);
	record_writer_free(here);
	record_writer_free(there);
	channel_close(ends[0]);
	channel_close(ends[1]);
}

/* Records of several threads come whole, in whatever order. */
#define WRITERS     4
#define PER_WRITER  200
#define THREAD_SIZE 3000

struct writing {
	struct record_writer *writer;
	uint8_t mark;
};

static void *writing_run(void *opaque)
{
	const struct writing *writing = opaque;
	uint8_t payload[THREAD_SIZE];

	memset(payload, writing->mark, sizeof(payload));
	for (int i = 0; i < PER_WRITER; i++)
		assert_int_equal(record_write_bytes(writing->writer, RECORD_PAGES, 0, payload,
						    sizeof(payload), NULL),
				 0);
	return NULL;
}

static void test_threads(void **state)
{
	struct writing writing[WRITERS];
	pthread_t threads[WRITERS];
	struct channel *ends[2];
	struct record_header found;
	struct record_reader *r;
	unsigned int seen[WRITERS] = {0};

	rig_pair(*state, ends);
	for (uint8_t i = 0; i < WRITERS; i++) {
		writing[i] = (struct writing){
			i ? writing[0].writer : record_writer_new(ends[0], &header, NULL), i};
		assert_int_equal(pthread_create(&threads[i], NULL, writing_run, &writing[i]), 0);
	}
	r = record_reader_new(ends[1], NULL);
	assert_int_equal(record_read_header(r, NULL, -1, &found, NULL), 0);
	for (int i = 0; i < WRITERS * PER_WRITER; i++) {
		struct record record = read_one(r);

		assert_int_equal(record.size, THREAD_SIZE);
		assert_true(record.bytes[0] < WRITERS);
		for (size_t at = 0; at < THREAD_SIZE; at++)
			assert_int_equal(record.bytes[at], record.bytes[0]);
		seen[record.bytes[0]]++;
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(seen[i], PER_WRITER);
	}
	record_writer_free(writing[0].writer);
	record_reader_free(r);
	channel_close(ends[0]);
	channel_close(ends[1]);
}

/* A writer that failed once takes nothing more: the stream would have a hole. */
static void test_writer_failed(void **state)
{
	static const char cannot[] = ": cannot send a record PAGES: the other side does not answer";
	uint8_t *payload = calloc(1, RECORD_MAX);
	struct record_writer *w;
	struct channel *ends[2];
	struct err *err = NULL;
	char buf[4096];

	rig_pair(*state, ends);
	w = record_writer_new(ends[0], &header, NULL);
	record_writer_set_timeout(w, 10);
	assert_int_equal(record_write_bytes(w, RECORD_PAGES, 0, payload, RECORD_MAX, &err),
			 -ETIMEDOUT);
	rig_check_err_around(&err, ETIMEDOUT, "fd:", cannot);
	while (!channel_read(ends[1], buf, sizeof(buf), 0, NULL))
		;
	assert_int_equal(record_write_bytes(w, RECORD_PAGES, 0, "x", 1, &err), -ETIMEDOUT);
	rig_check_err_around(&err, ETIMEDOUT, "fd:", cannot);
	record_writer_free(w);
	channel_close(ends[0]);
	channel_close(ends[1]);
	free(payload);
}

static void test_session(void **state)
{
	uint64_t one = 0, other = 0;

	(void)state;
	assert_int_equal(record_session(&one, NULL), 0);
	assert_int_equal(record_session(&other, NULL), 0);
	assert_true(one && other && one != other);
}

/* ---- channels by their headers ---- */

static struct channel *connect_as(struct rig *rig, const struct channel_listener *l,
				  const struct record_header *h)
{
	uint8_t bytes[RECORD_HEADER_BYTES];
	struct err *err = NULL;
	struct channel *ch;
	char uri[64];

	snprintf(uri, sizeof(uri), "tcp:127.0.0.1:%d", rig_port(l, 0));
	ch = rig_connect(rig, uri, &err);
	rig_check_no_err(&err);
	if (h) {
		record_header_encode(h, bytes);
		assert_int_equal(channel_write(ch, bytes, sizeof(bytes), -1), 0);
	}
	return ch;
}

static struct channel_listener *listen_here(struct rig *rig)
{
	struct err *err = NULL;
	struct channel_listener *l = rig_listen(rig, "tcp:127.0.0.1:0", &err);

	rig_check_no_err(&err);
	return l;
}

/* Strangers between the channels of a migration take no place of theirs. */
static void test_accept(void **state)
{
	struct record_header h = header, stranger, found;
	struct channel_listener *l = listen_here(*state);
	struct channel *out[12], *first, *others[3];
	struct record_reader *r;
	struct err *err = NULL;
	size_t nr = 0;

	h.nr_channels = 3;
	stranger = h;
	stranger.session++;
	out[nr++] = connect_as(*state, l, NULL);
	h.channel = 2;
	out[nr++] = connect_as(*state, l, &h); /* before its first */
	stranger.channel = 1;
	out[nr++] = connect_as(*state, l, &stranger);
	h.channel = 0;
	out[nr++] = connect_as(*state, l, &h);
	assert_int_equal(record_accept(l, &first, &found, &err), 0);
	check_header(&found, &h);
	r = record_reader_new(first, NULL);
	assert_int_equal(record_read_header(r, &h, -1, &found, NULL), 0);
	record_reader_free(r);
	for (uint32_t i = 1; i <= 3; i += 2) {
		h.channel = stranger.channel = i;
		out[nr++] = connect_as(*state, l, &stranger);
		out[nr++] = connect_as(*state, l, &h);
	}
	out[nr++] = connect_as(*state, l, &h); /* twice */
	assert_int_equal(record_accept_others(l, &found, -1, others, &err), 0);
	for (uint32_t i = 0; i < 3; i++) {
		h.channel = i + 1;
		r = record_reader_new(others[i], NULL);
		assert_int_equal(record_read_header(r, &h, -1, &found, NULL), 0);
		record_reader_free(r);
		channel_close(others[i]);
	}
	channel_close(first);
	while (nr)
		channel_close(out[--nr]);
	channel_listener_free(l);
}

/* Strangers, and a source that begins anew, do not take the place of one that goes on. */
static void test_accept_again(void **state)
{
	static const char stray[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
	struct record_header wrong[3], h = {RECORD_FLAG_RECOVER, header.session, 0, 0}, found;
	struct channel_listener *l = listen_here(*state);
	struct channel *out[5], *again;
	struct record_reader *r;
	struct err *err = NULL;

	wrong[0] = (struct record_header){RECORD_FLAG_RECOVER, header.session + 1, 0, 0};
	wrong[1] = (struct record_header){0, header.session, 0, 0};
	wrong[2] = (struct record_header){RECORD_FLAG_RECOVER, header.session, 1, 1};
	for (size_t i = 0; i < 3; i++)
		out[i] = connect_as(*state, l, &wrong[i]);
	out[3] = connect_as(*state, l, NULL);
	assert_int_equal(channel_write(out[3], stray, sizeof(stray), -1), 0);
	out[4] = connect_as(*state, l, &h);
	assert_int_equal(record_accept_again(l, h.session, &again, &err), 0);
	r = record_reader_new(again, NULL);
	assert_int_equal(record_read_header(r, &h, -1, &found, NULL), 0);
	check_header(&found, &h);
	record_reader_free(r);
	channel_close(again);
	for (size_t i = 0; i < 5; i++)
		channel_close(out[i]);
	channel_listener_free(l);
	l = rig_listen(*state, "exec:printf no", &err);
	assert_int_equal(record_accept_again(l, h.session, &again, &err), -ENODATA);
	rig_check_err(&err, ENODATA,
		      "exec:printf no: it does not go on with the migration that broke");
	channel_listener_free(l);
}

static void test_accept_too_few(void **state)
{
	struct record_header h = {0, header.session, 2, 1};
	struct channel_listener *l = listen_here(*state);
	struct channel *out = connect_as(*state, l, &h), *others[2];
	struct err *err = NULL;

	assert_int_equal(record_accept_others(l, &h, 50, others, &err), -ETIMEDOUT);
	rig_check_err(&err, ETIMEDOUT,
		      "tcp:127.0.0.1:0: only 1 of the other 2 channels of the migration came");
	channel_close(out);
	channel_listener_free(l);
}

/* From one that is no socket: what @command gives is no first channel. */
static void check_refused(struct rig *rig, const char *command, int code, const char *sentence)
{
	struct record_header found;
	struct channel_listener *l;
	struct channel *ch;
	struct err *err = NULL;
	char uri[256], full[512];

	snprintf(uri, sizeof(uri), "exec:%s", command);
	l = rig_listen(rig, uri, &err);
	rig_check_no_err(&err);
	assert_int_equal(record_accept(l, &ch, &found, &err), -code);
	snprintf(full, sizeof(full), "%s%s", uri, sentence);
	rig_check_err(&err, code, full);
	channel_listener_free(l);
}

static void check_header_refused(struct rig *rig, const struct record_header *h,
				 const char *sentence)
{
	const char *path = rig_path(rig, "state");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint8_t bytes[RECORD_HEADER_BYTES];
	char command[160];

	record_header_encode(h, bytes);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	close(fd);
	snprintf(command, sizeof(command), "cat %s", path);
	check_refused(rig, command, EINVAL, sentence);
}

static void test_accept_refused(void **state)
{
	struct record_header h = header;

	check_refused(*state, "exit 3", ENODATA,
		      ": cannot read a state: the command ended with status 3");
	check_refused(*state, "true", ENODATA,
		      ": cannot read a state: the command ended with status 0");
	check_refused(*state, "printf EBBST", ENODATA,
		      " was cut off: only 5 bytes of it are there");
	check_refused(*state, "printf EBBSX", EINVAL, " is no state of a machine");
	h.flags = RECORD_FLAG_IMAGE;
	check_header_refused(*state, &h,
			     " is an image, which is read where it lies; allowed: file:PATH");
	h.flags = RECORD_FLAG_RETURN;
	check_header_refused(*state, &h, " is no state but the answer to one");
	h = (struct record_header){0, header.session, 4, 2};
	check_header_refused(*state, &h, " is only a part of a state: channel 2 of 4");
}

/* An image is accepted where it lies. */
static void test_accept_image(void **state)
{
	struct record_header h = header, found;
	const char *path = rig_path(*state, "image");
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	uint8_t bytes[RECORD_HEADER_BYTES];
	struct channel_listener *l;
	struct channel *ch, *others[1];
	struct err *err = NULL;
	char uri[160];

	h.flags = RECORD_FLAG_IMAGE;
	record_header_encode(&h, bytes);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	close(fd);
	snprintf(uri, sizeof(uri), "file:%s", path);
	l = rig_listen(*state, uri, &err);
	assert_int_equal(record_accept(l, &ch, &found, &err), 0);
	assert_int_equal(found.flags, RECORD_FLAG_IMAGE);
	channel_close(ch);
	/* there can be no more */
	found.nr_channels = 1;
	assert_int_equal(record_accept_others(l, &found, -1, others, &err), -ENODATA);
	rig_check_err_around(&err, ENODATA, uri,
			     ": only 0 of the other 1 channels of the migration came");
	channel_listener_free(l);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bytes),          TEST(test_types),        TEST(test_section),
		TEST(test_return),         TEST(test_threads),      TEST(test_writer_failed),
		TEST(test_session),        TEST(test_accept),       TEST(test_accept_too_few),
		TEST(test_accept_refused), TEST(test_accept_image), TEST(test_accept_again),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
