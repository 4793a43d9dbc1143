/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Streams that are wrong: cut at each byte, changed at each bit, records that are lost, doubled or
 * swapped, another migration's, another version's, and what is no state at all.
 */
#include <errno.h>
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

#define NR_RECORDS 3

static const struct record_header header = {.session = UINT64_C(0x1122334455667788)};
static const struct {
	enum record_type type;
	const char *payload;
} records[NR_RECORDS] = {
	{RECORD_MACHINE, "machine"},
	{RECORD_NOTES, ""},
	{RECORD_SECTION, "section"},
};

/* Where record @i begins; of NR_RECORDS the end. */
static size_t record_at(size_t i)
{
	size_t at = RECORD_HEADER_BYTES;

	while (i--)
		at += 16 + strlen(records[i].payload) + 4;
	return at;
}

static struct bytes make(struct rig *rig, const struct record_header *h)
{
	struct channel *ch;
	struct record_writer *w = stream_writer(rig, h, &ch);
	struct bytes b;

	for (size_t i = 0; i < NR_RECORDS; i++)
		assert_int_equal(record_write_bytes(w, records[i].type, 0, records[i].payload,
						    strlen(records[i].payload), NULL),
				 0);
	b = stream_take(w, ch);
	assert_int_equal(b.size, record_at(NR_RECORDS));
	return b;
}

/* Read it all: how many records were good, and what came after them: as record_read(). */
static size_t read_all(struct rig *rig, const uint8_t *bytes, size_t size, int *ret_last,
		       struct err **err)
{
	struct record_header found;
	struct channel *ch;
	struct record_reader *r = stream_reader(rig, bytes, size, &ch);
	struct record record;
	size_t nr = 0;

	*ret_last = record_read_header(r, NULL, -1, &found, err);
	while (!*ret_last && (*ret_last = record_read(r, -1, &record, err)) == 1) {
		assert_int_equal(record.type, records[nr].type);
		assert_int_equal(record.size, strlen(records[nr].payload));
		if (record.size)
			assert_memory_equal(record.bytes, records[nr].payload, record.size);
		nr++;
		*ret_last = 0;
	}
	if (*ret_last && *err) {
		/* and nothing more is to be had */
		struct err *again = NULL;

		if (nr || size > RECORD_HEADER_BYTES)
			assert_true(record_read(r, -1, &record, &again) < 0);
		err_free(again);
	}
	stream_close(r, ch);
	return nr;
}

static void check_sentence(struct err **err, int ret, const char *tail)
{
	assert_true(ret < 0);
	rig_check_err_around(err, -ret, "fd:", tail);
}

static void test_cut(void **state)
{
	struct bytes b = make(*state, &header);
	struct err *err = NULL;
	char tail[80];
	int ret;

	for (size_t size = 0; size <= b.size; size++) {
		size_t nr = read_all(*state, b.at, size, &ret, &err), whole = 0;

		while (whole < NR_RECORDS && record_at(whole + 1) <= size)
			whole++;
		assert_int_equal(nr, whole);
		if (size >= RECORD_HEADER_BYTES && size == record_at(whole)) {
			assert_int_equal(ret, 0);
			assert_null(err);
			continue;
		}
		assert_int_equal(ret, -ENODATA);
		if (!size)
			strcpy(tail, ": there is no state in it, it is empty");
		else if (size < RECORD_HEADER_BYTES)
			snprintf(tail, sizeof(tail), " was cut off: only %zu bytes of it are there",
				 size);
		else
			snprintf(tail, sizeof(tail), " was cut off in record %zu", nr);
		check_sentence(&err, ret, tail);
	}
	free(b.at);
}

/* Whichever bit is another one, what comes before it is good and nothing is after it. */
static void test_bits(void **state)
{
	struct bytes b = make(*state, &header);
	struct err *err = NULL;
	char tail[80];
	int ret;

	for (size_t bit = 0; bit < b.size * 8; bit++) {
		size_t nr, whole = 0;

		b.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
		nr = read_all(*state, b.at, b.size, &ret, &err);
		b.at[bit / 8] ^= (uint8_t)(1u << bit % 8);
		while (record_at(whole + 1) <= bit / 8)
			whole++;
		assert_int_equal(ret, -EINVAL);
		assert_int_equal(nr, bit / 8 < RECORD_HEADER_BYTES ? 0 : whole);
		if (bit / 8 < 8)
			strcpy(tail, " is no state of a machine");
		else if (bit / 8 < RECORD_HEADER_BYTES)
			strcpy(tail, " is damaged: checksum of the header");
		else
			snprintf(tail, sizeof(tail), " is damaged: checksum of record %zu", whole);
		check_sentence(&err, ret, tail);
	}
	free(b.at);
}

/* A stream of records of @from, by their indices, of which the first @good are in order. */
static void check_order(struct rig *rig, const struct bytes *from, const int *order, size_t nr,
			size_t good)
{
	uint8_t bytes[512];
	size_t size = RECORD_HEADER_BYTES;
	struct err *err = NULL;
	char tail[80];
	int ret;

	memcpy(bytes, from->at, size);
	for (size_t i = 0; i < nr; i++) {
		size_t at = record_at((size_t)order[i]), n = record_at((size_t)order[i] + 1) - at;

		memcpy(bytes + size, from->at + at, n);
		size += n;
	}
	assert_int_equal(read_all(rig, bytes, size, &ret, &err), good);
	snprintf(tail, sizeof(tail), " is damaged: checksum of record %zu", good);
	check_sentence(&err, ret, tail);
}

static void test_order(void **state)
{
	struct bytes b = make(*state, &header);

	check_order(*state, &b, (int[]){1, 2}, 2, 0);       /* lost, the first */
	check_order(*state, &b, (int[]){0, 2}, 2, 1);       /* lost */
	check_order(*state, &b, (int[]){0, 0, 1, 2}, 4, 1); /* doubled */
	check_order(*state, &b, (int[]){0, 2, 1}, 3, 1);    /* swapped */
	free(b.at);
}

/* Records under the header of another migration, another channel, another direction. */
static void test_other(void **state)
{
	struct record_header other[3] = {header, header, header};
	struct bytes b = make(*state, &header);
	struct err *err = NULL;
	int ret;

	other[0].session ^= 1;
	other[1].nr_channels = other[1].channel = 1;
	other[2].flags = RECORD_FLAG_RETURN;
	for (int i = 0; i < 3; i++) {
		record_header_encode(&other[i], b.at);
		assert_int_equal(read_all(*state, b.at, b.size, &ret, &err), 0);
		check_sentence(&err, ret, " is damaged: checksum of record 0");
	}
	/* what does not count for their place: how many channels there are */
	other[0] = header;
	other[0].nr_channels = 5;
	record_header_encode(&other[0], b.at);
	assert_int_equal(read_all(*state, b.at, b.size, &ret, &err), NR_RECORDS);
	assert_int_equal(ret, 0);
	free(b.at);
}

/* A frame with right checksums but content that cannot be. */
static void check_frame(struct rig *rig, const struct record_header *h, uint32_t type,
			uint32_t size, const char *tail)
{
	uint8_t bytes[RECORD_HEADER_BYTES + 20], place[20];
	uint32_t direction = h->flags & RECORD_FLAG_RETURN ? UINT32_C(1) << 31 : 0, crc;
	struct err *err = NULL;
	int ret;

	record_header_encode(h, bytes);
	bytes_put_le(bytes + 36, 4, type);
	bytes_put_le(bytes + 40, 4, 0);
	bytes_put_le(bytes + 44, 4, size);
	bytes_put_le(place, 8, h->session);
	bytes_put_le(place + 8, 4, h->channel | direction);
	bytes_put_le(place + 12, 8, 0);
	crc = crc32c(crc32c(0, place, sizeof(place)), bytes + 36, 12);
	bytes_put_le(bytes + 48, 4, crc);
	bytes_put_le(bytes + 52, 4, crc);
	assert_int_equal(read_all(rig, bytes, sizeof(bytes), &ret, &err), 0);
	check_sentence(&err, ret, tail);
}

static void test_frames(void **state)
{
	struct record_header back = header;

	back.flags = RECORD_FLAG_RETURN;
	check_frame(*state, &header, 0, 0,
		    " is of a newer kind: record 0 is of type 0, which this ebb does not know");
	check_frame(*state, &header, RECORD_GO + 1, 0,
		    " is of a newer kind: record 0 is of type 12, which this ebb does not know");
	check_frame(*state, &back, UINT32_MAX, 0,
		    " is of a newer kind: record 0 is of type 4294967295, which this ebb does not "
		    "know");
	check_frame(*state, &header, RECORD_READY, 0,
		    " is damaged: record 0 (READY) goes the other way");
	check_frame(*state, &back, RECORD_END, 0, " is damaged: record 0 (END) goes the other way");
	check_frame(*state, &header, RECORD_PAGES, RECORD_MAX + 1,
		    " is damaged: record 0 (PAGES) has 4194305 bytes; allowed: 4194304");
	check_frame(*state, &header, RECORD_SECTION, UINT32_MAX,
		    " is damaged: record 0 (SECTION) has 4294967295 bytes; allowed: 67108864");
	check_frame(*state, &header, RECORD_SECTION, RECORD_SECTION_MAX,
		    " was cut off in record 0");
}

/* ---- headers ---- */

static void check_header(const uint8_t *bytes, size_t size, const char *sentence)
{
	struct record_header found;
	struct err *err = NULL;
	int ret = record_header_decode(bytes, size, "x", &found, &err);

	assert_true(ret < 0);
	rig_check_err(&err, -ret, sentence);
}

/* Change a field, and make the checksum right again. */
static void check_field(size_t at, unsigned int size, uint64_t value, const char *sentence)
{
	uint8_t bytes[RECORD_HEADER_BYTES];

	record_header_encode(&header, bytes);
	bytes_put_le(bytes + at, size, value);
	bytes_put_le(bytes + 32, 4, crc32c(0, bytes, 32));
	check_header(bytes, sizeof(bytes), sentence);
}

static void test_headers(void **state)
{
	static const uint8_t zeros[RECORD_HEADER_BYTES];

	(void)state;
	check_header((const uint8_t *)"", 0, "x: there is no state in it, it is empty");
	check_header((const uint8_t *)"GET / HTTP/1.1", 14, "x is no state of a machine");
	check_header((const uint8_t *)"QEVM\0\0\0\3", 8,
		     "x is a state of QEMU's; allowed: what ebb wrote or sent");
	check_header(zeros, sizeof(zeros), "x is not complete: it was not written to its end");
	check_header(zeros, 4, "x is no state of a machine");
	check_field(8, 4, 2, "x is of version 2, this ebb reads 1");
	check_field(8, 4, 0, "x is of version 0, this ebb reads 1");
	check_field(12, 4, 8,
		    "x is damaged: a header with flags 0x8, session 1234605616436508552, channel 0 "
		    "of 0 cannot be");
	check_field(16, 8, 0,
		    "x is damaged: a header with flags 0, session 0, channel 0 of 0 cannot be");
	check_field(
		24, 4, 256,
		"x is damaged: a header with flags 0, session 1234605616436508552, channel 0 of "
		"256 cannot be");
	check_field(
		28, 4, 1,
		"x is damaged: a header with flags 0, session 1234605616436508552, channel 1 of "
		"0 cannot be");
}

/* ---- what readers say of payloads, and of ends over sockets ---- */

static void test_sentences(void **state)
{
	struct bytes b = make(*state, &header);
	struct record_header found;
	struct channel *ch;
	struct record_reader *r = stream_reader(*state, b.at, b.size, &ch);
	struct record record;
	struct err *err = NULL;

	assert_int_equal(record_read_header(r, NULL, -1, &found, &err), 0);
	assert_int_equal(record_read(r, -1, &record, &err), 1);
	assert_int_equal(record_damaged(r, &record, "a page that is in no block", &err), -EINVAL);
	rig_check_err_around(&err, EINVAL, "fd:",
			     " is damaged: a page that is in no block in record 0 (MACHINE)");
	assert_int_equal(record_unexpected(r, &record, &err), -EINVAL);
	rig_check_err_around(&err, EINVAL,
			     "fd:", " is damaged: record 0 (MACHINE) does not belong there");
	assert_int_equal(record_cut_off(r, &err), -ENODATA);
	rig_check_err_around(&err, ENODATA, "fd:", " was cut off: it ends after 1 records");
	stream_close(r, ch);
	free(b.at);
}

/* The same ends over a connection: in order, cut, silent in the midst, cancelled. */
static void check_live(struct rig *rig, const struct bytes *b, size_t size, int how, int code,
		       const char *tail)
{
	struct record_header found;
	struct channel *ends[2];
	struct record_reader *r;
	struct record record;
	struct err *err = NULL;
	int ret;

	rig_pair(rig, ends);
	r = record_reader_new(ends[1], NULL);
	assert_int_equal(channel_write(ends[0], b->at, size, -1), 0);
	if (how == 'r')
		assert_int_equal(channel_write(ends[1], "x", 1, -1), 0);
	if (how != 's') {
		channel_close(ends[0]);
		ends[0] = NULL;
	}
	assert_int_equal(record_read_header(r, NULL, -1, &found, &err), 0);
	ret = record_read(r, 20, &record, &err);
	assert_int_equal(ret, code);
	if (tail)
		check_sentence(&err, ret, tail);
	else
		assert_null(err);
	record_reader_free(r);
	channel_close(ends[0]);
	channel_close(ends[1]);
}

static void test_live(void **state)
{
	struct bytes b = make(*state, &header);
	size_t midst = RECORD_HEADER_BYTES + 18;

	check_live(*state, &b, RECORD_HEADER_BYTES, 'c', 0, NULL);
	check_live(*state, &b, midst, 'c', -ENODATA, " was cut off in record 0");
	check_live(*state, &b, RECORD_HEADER_BYTES, 'r', -ECONNRESET,
		   ": cannot read a record: the connection was cut");
	check_live(*state, &b, midst, 'r', -ECONNRESET,
		   ": cannot read a record: the connection was cut");
	check_live(*state, &b, RECORD_HEADER_BYTES, 's', -ETIMEDOUT, NULL);
	check_live(*state, &b, midst, 's', -ETIMEDOUT,
		   ": cannot read a record: the other side does not answer");
	free(b.at);
}

static void test_cancelled(void **state)
{
	struct rig *rig = *state;
	struct record_header found;
	struct channel *ends[2];
	struct record_reader *r;
	struct record record;
	struct err *err = NULL;
	pthread_t thread;

	rig_pair(rig, ends);
	r = record_reader_new(ends[1], NULL);
	rig_cancel_sleeper(rig, &thread);
	assert_int_equal(record_read_header(r, NULL, -1, &found, &err), -ECANCELED);
	rig_check_err_around(&err, ECANCELED, "fd:", ": cannot read the header: it was cancelled");
	assert_int_equal(record_read(r, -1, &record, &err), -ECANCELED);
	rig_check_err_around(&err, ECANCELED, "fd:", ": cannot read a record: it was cancelled");
	pthread_join(thread, NULL);
	record_reader_free(r);
	channel_close(ends[0]);
	channel_close(ends[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cut),       TEST(test_bits),   TEST(test_order),
		TEST(test_other),     TEST(test_frames), TEST(test_headers),
		TEST(test_sentences), TEST(test_live),   TEST(test_cancelled),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
