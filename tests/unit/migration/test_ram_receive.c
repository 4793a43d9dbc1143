/* SPDX-License-Identifier: BSD-3-Clause */
/* Records of memory that cannot be, and channels that do not keep in step (ram_receive.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/bytes.h"
#include "link.h"
#include "vmm/core/fault.h"
#include "vmm/migration/pages.h"

#define UNIT (64 * KIB)
#define MEM0 2 /* the first device's block */

struct receiver {
	struct machine m;
	struct ram_receive *receive;
	uint8_t payload[RECORD_MAX];
	size_t size;
};

static struct receiver *receiver_new(bool shared)
{
	struct receiver *r = calloc(1, sizeof(*r));
	struct err *err = NULL;

	assert_non_null(r);
	machine_init(&r->m, &(struct machine_config){.boot_bytes = 16 * UNIT,
						     .device_bytes = 16 * UNIT,
						     .unit_bytes = UNIT,
						     .nr_devices = 1,
						     .shared = shared});
	r->receive = ram_receive_new(&(struct ram_receive_config){.gm = r->m.gm,
								  .blocks = r->m.blocks,
								  .nr_blocks = r->m.nr_blocks,
								  .plug = machine_load_plug,
								  .opaque = &r->m},
				     &err);
	rig_check_no_err(&err);
	return r;
}

static int setup(void **state)
{
	*state = receiver_new(false);
	return 0;
}

static int setup_shared(void **state)
{
	*state = receiver_new(true);
	return 0;
}

static int teardown(void **state)
{
	struct receiver *r = *state;

	ram_receive_free(r->receive);
	machine_done(&r->m);
	free(r);
	return 0;
}

/* The payload that was made, as a record. */
static int receive(struct receiver *r, enum record_type type, uint32_t flags, struct err **err)
{
	struct record record = {.type = type, .flags = flags, .size = r->size, .bytes = r->payload};

	return ram_receive_record(r->receive, NULL, &record, err);
}

static void check_ok(struct receiver *r, enum record_type type, uint32_t flags)
{
	struct err *err = NULL;

	receive(r, type, flags, &err);
	rig_check_no_err(&err);
}

static void check_bad(struct receiver *r, enum record_type type, uint32_t flags,
		      const char *sentence)
{
	struct err *err = NULL;

	assert_int_equal(receive(r, type, flags, &err), -EINVAL);
	rig_check_err(&err, EINVAL, sentence);
}

static void make_runs(struct receiver *r, size_t block, uint64_t first, uint32_t count)
{
	r->size = pages_pack_runs(r->payload, block, &(struct pages_run){first, count}, 1);
}

static void add_bytes(struct receiver *r, uint8_t byte, size_t size)
{
	memset(r->payload + r->size, byte, size);
	r->size += size;
}

static void make_note(struct receiver *r, uint64_t block, uint64_t plugged, uint64_t offset,
		      uint64_t size)
{
	bytes_put_le(r->payload, 4, 1);
	bytes_put_le(r->payload + 4, 4, block);
	bytes_put_le(r->payload + 8, 4, plugged);
	bytes_put_le(r->payload + 12, 8, offset);
	bytes_put_le(r->payload + 20, 8, size);
	r->size = 28;
}

static uint8_t byte_at(const struct receiver *r, size_t block, uint64_t page)
{
	return ((const uint8_t *)r->m.blocks[block].ram.host)[page * PAGE_BYTES + 99];
}

static void test_pages_and_zeros(void **state)
{
	struct receiver *r = *state;

	make_runs(r, 1, 5, 2);
	add_bytes(r, 0x11, 2 * PAGE_BYTES);
	check_ok(r, RECORD_PAGES, 0);
	assert_int_equal(byte_at(r, 1, 5), 0x11);
	assert_int_equal(byte_at(r, 1, 6), 0x11);
	assert_int_equal(machine_held_pages(&r->m, 1), 2);
	/* Zeros where something was, and all around it. */
	make_runs(r, 1, 6, 200);
	check_ok(r, RECORD_ZEROS, 0);
	assert_int_equal(byte_at(r, 1, 5), 0x11);
	assert_true(pages_is_zero((char *)r->m.blocks[1].ram.host + 6 * PAGE_BYTES));
	assert_int_equal(machine_held_pages(&r->m, 1), 2);
	assert_true(pages_map_test(ram_receive_written(r->receive), 1, 5));
	assert_false(pages_map_test(ram_receive_written(r->receive), 1, 6));
}

static void test_plugged_and_unplugged(void **state)
{
	struct receiver *r = *state;

	make_runs(r, MEM0, 16, 1);
	add_bytes(r, 0x22, PAGE_BYTES);
	check_bad(r, RECORD_PAGES, 0, "pages 0x10 to 0x10 of 'mem0' are not all plugged");
	make_note(r, MEM0, 1, UNIT, UNIT);
	check_ok(r, RECORD_NOTES, 0);
	make_runs(r, MEM0, 16, 1);
	add_bytes(r, 0x22, PAGE_BYTES);
	check_ok(r, RECORD_PAGES, 0);
	assert_int_equal(byte_at(r, MEM0, 16), 0x22);
	/* One page too far: nothing of it is done. */
	make_runs(r, MEM0, 31, 2);
	add_bytes(r, 0x33, 2 * PAGE_BYTES);
	check_bad(r, RECORD_PAGES, 0, "pages 0x1f to 0x20 of 'mem0' are not all plugged");
	assert_int_equal(byte_at(r, MEM0, 31), 0);
	check_bad(r, RECORD_ZEROS, 0, "8192 bytes are too many");
	make_runs(r, MEM0, 31, 2);
	check_bad(r, RECORD_ZEROS, 0, "pages 0x1f to 0x20 of 'mem0' are not all plugged");
	/* Gone, and there again: empty, and known to be. */
	make_note(r, MEM0, 0, UNIT, UNIT);
	check_ok(r, RECORD_NOTES, 0);
	assert_false(pages_map_test(ram_receive_written(r->receive), MEM0, 16));
	make_note(r, MEM0, 1, 0, 2 * UNIT);
	check_ok(r, RECORD_NOTES, 0);
	assert_int_equal(machine_held_pages(&r->m, MEM0), 0);
	make_runs(r, MEM0, 0, 32);
	check_ok(r, RECORD_ZEROS, 0);
	assert_int_equal(machine_held_pages(&r->m, MEM0), 0);
	make_note(r, MEM0, 1, UNIT, UNIT);
	check_bad(r, RECORD_NOTES, 0, "memory device 'mem0': block 1 is plugged already");
}

static void test_notes_that_cannot_be(void **state)
{
	static const struct {
		uint64_t block, plugged, offset, size;
		const char *sentence;
	} bad[] = {
		{3, 1, 0, UNIT, "note 0 is about no block of memory"},
		{MEM0, 2, 0, UNIT, "note 0 is about no block of memory"},
		{0, 1, 0, UNIT, "note 0 is about boot memory"},
		{MEM0, 1, 0, 0,
		 "note 0 (0x0 bytes from 0x0 on) is not of whole device blocks of 'mem0'"},
		{MEM0, 1, 4096, UNIT,
		 "note 0 (0x10000 bytes from 0x1000 on) is not of whole device blocks of 'mem0'"},
		{MEM0, 1, 15 * UNIT, 2 * UNIT,
		 "note 0 (0x20000 bytes from 0xf0000 on) is not of whole device blocks of 'mem0'"},
		{MEM0, 0, -UNIT, 2 * UNIT,
		 "note 0 (0x20000 bytes from 0xffffffffffff0000 on) is not of whole device blocks "
		 "of "
		 "'mem0'"},
	};
	struct receiver *r = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		make_note(r, bad[i].block, bad[i].plugged, bad[i].offset, bad[i].size);
		check_bad(r, RECORD_NOTES, 0, bad[i].sentence);
	}
	/* The second is wrong: the first is not done either. */
	make_note(r, MEM0, 1, 0, UNIT);
	bytes_put_le(r->payload, 4, 2);
	memcpy(r->payload + 28, r->payload + 4, 24);
	bytes_put_le(r->payload + 28, 4, 9);
	r->size = 52;
	check_bad(r, RECORD_NOTES, 0, "note 1 is about no block of memory");
	assert_false(r->m.plugged[MEM0][0]);
	r->size = 51;
	check_bad(r, RECORD_NOTES, 0, "51 bytes are not 2 notes");
	r->size = 3;
	check_bad(r, RECORD_NOTES, 0, "3 bytes are not 0 notes");
	bytes_put_le(r->payload, 4, PAGES_NOTES + 1);
	r->size = 4 + (PAGES_NOTES + 1) * PAGES_NOTE_BYTES;
	check_bad(r, RECORD_NOTES, 0, "24604 bytes are not 1025 notes");
	check_bad(r, RECORD_NOTES, 1, "flags 0x1 are not known");
}

static void test_bytes_that_are_not_the_pages(void **state)
{
	struct receiver *r = *state;

	make_runs(r, 0, 0, 2);
	add_bytes(r, 1, 2 * PAGE_BYTES - 1);
	check_bad(r, RECORD_PAGES, 0, "8191 bytes are not 2 pages");
	add_bytes(r, 1, 2);
	check_bad(r, RECORD_PAGES, 0, "8193 bytes are not 2 pages");
	check_bad(r, RECORD_PAGES, 6, "flags 0x6 are not known");
	check_bad(r, RECORD_ZEROS, PAGES_ZSTD, "flags 0x1 are not known");
	check_bad(r, RECORD_PAGES, PAGES_ZSTD, "compressed bytes do not make 2 pages");
	make_runs(r, 0, 0, 256);
	check_bad(r, RECORD_PAGES, 0, "0 bytes are not 256 pages");
	check_bad(r, RECORD_PAGES, PAGES_ZSTD, "compressed bytes do not make 256 pages");
	check_bad(r, RECORD_SECTION, 0, "it does not belong here");
	assert_int_equal(machine_held_pages(&r->m, 0), 0);
}

/* A frame of @pages pages behind a head for @told of them. */
static void make_frame(struct receiver *r, uint32_t told, size_t pages)
{
	uint8_t *plain = calloc(pages + 1, PAGE_BYTES);
	size_t size;

	assert_non_null(plain);
	memset(plain, 0x44, pages * PAGE_BYTES);
	make_runs(r, 0, 0, told);
	size = ZSTD_compress(r->payload + r->size, sizeof(r->payload) - r->size, plain,
			     pages * PAGE_BYTES, 1);
	assert_false(ZSTD_isError(size));
	r->size += size;
	free(plain);
}

static void test_frames(void **state)
{
	struct receiver *r = *state;
	size_t whole;

	make_frame(r, 3, 3);
	check_ok(r, RECORD_PAGES, PAGES_ZSTD);
	assert_int_equal(byte_at(r, 0, 2), 0x44);
	assert_int_equal(byte_at(r, 0, 3), 0);
	make_frame(r, 4, 3);
	check_bad(r, RECORD_PAGES, PAGES_ZSTD, "compressed bytes do not make 4 pages");
	make_frame(r, 2, 3);
	check_bad(r, RECORD_PAGES, PAGES_ZSTD, "compressed bytes do not make 2 pages");
	/* A gigabyte out of a few bytes. */
	make_frame(r, 256, 1 * GIB / PAGE_BYTES / 8);
	check_bad(r, RECORD_PAGES, PAGES_ZSTD, "compressed bytes do not make 256 pages");
	make_frame(r, 16, 16);
	for (whole = r->size; r->size > 20;) {
		r->size--;
		check_bad(r, RECORD_PAGES, PAGES_ZSTD, "compressed bytes do not make 16 pages");
	}
	r->size = whole;
	check_ok(r, RECORD_PAGES, PAGES_ZSTD);
}

/* Bytes at random, and right records with a few wrong bytes: refused or done, and nothing else. */
static void test_damage(void **state)
{
	static const enum record_type types[] = {RECORD_PAGES, RECORD_ZEROS, RECORD_NOTES,
						 RECORD_ROUND};
	struct receiver *r = *state;
	unsigned int random = 3;
	const int tries = MACHINE_WITH_TSAN ? 2000 : 20000;
	int refused = 0;

	make_note(r, MEM0, 1, 0, 4 * UNIT);
	check_ok(r, RECORD_NOTES, 0);
	for (int i = 0; i < tries; i++) {
		enum record_type type = types[rand_r(&random) % ARRAY_SIZE(types)];

		if (type == RECORD_NOTES)
			make_note(r, MEM0, (uint64_t)rand_r(&random) % 2,
				  (uint64_t)rand_r(&random) % 16 * UNIT, UNIT);
		else if (rand_r(&random) % 2)
			make_frame(r, 3, 3);
		else
			make_runs(r, (size_t)rand_r(&random) % 3, (uint64_t)rand_r(&random) % 256,
				  (uint32_t)rand_r(&random) % 64);
		for (int n = rand_r(&random) % 4; n; n--)
			r->payload[(size_t)rand_r(&random) % r->size] = (uint8_t)rand_r(&random);
		refused += receive(r, type, (uint32_t)rand_r(&random) % 2, NULL) != 0;
	}
	assert_true(refused > tries / 20 && refused < tries - tries / 20);
}

/* The file behind it is full, or was made shorter: the host's failure, not the stream's. */
static void test_memory_that_the_host_does_not_provide(void **state)
{
	struct receiver *r = *state;
	struct err *err = NULL;

	if (MACHINE_WITH_TSAN)
		skip(); /* its signal handlers cannot be left by a jump (test_fault.c) */
	fault_init();
	assert_int_equal(ftruncate(r->m.blocks[0].ram.fd, 0), 0);
	make_runs(r, 0, 3, 1);
	add_bytes(r, 1, PAGE_BYTES);
	assert_int_equal(receive(r, RECORD_PAGES, 0, &err), -ENOMEM);
	rig_check_err(&err, ENOMEM, "the host does not provide the memory of 'ram.0' at page 0x3");
}

static void test_barriers_count(void **state)
{
	struct receiver *r = *state;

	r->size = 8;
	bytes_put_le(r->payload, 8, 2);
	check_bad(r, RECORD_ROUND, 0, "it should be barrier 1");
	bytes_put_le(r->payload, 8, 1);
	check_ok(r, RECORD_ROUND, 0);
	check_bad(r, RECORD_ROUND, 0, "it should be barrier 2");
	bytes_put_le(r->payload, 8, 2);
	r->size = 7;
	check_bad(r, RECORD_ROUND, 0, "it should be barrier 2");
	r->size = 8;
	check_ok(r, RECORD_ROUND, 0);
}

/* ---- channels that do not keep in step ---- */

static void write_round(struct link *l, size_t channel, uint64_t number)
{
	uint8_t bytes[8];

	bytes_put_le(bytes, 8, number);
	assert_int_equal(record_write_bytes(l->writers[channel], RECORD_ROUND, 0, bytes, 8, NULL),
			 0);
}

static void write_end(struct link *l, size_t channel)
{
	assert_int_equal(record_write_bytes(l->writers[channel], RECORD_END, 0, NULL, 0, NULL), 0);
}

/* A link whose sender is not used; 2 further channels. */
static void open_link(struct link *l, struct rig *rig, struct machine *source,
		      struct machine *target)
{
	struct machine_config config = {
		.boot_bytes = UNIT, .device_bytes = UNIT, .unit_bytes = UNIT};

	machine_init(source, &config);
	machine_init(target, &config);
	link_open(l, rig, source, target, &(struct link_config){.nr_further = 2});
}

static void close_link(struct link *l, struct machine *source, struct machine *target)
{
	link_close(l);
	machine_done(source);
	machine_done(target);
}

static void test_all_end(void **state)
{
	struct machine source, target;
	struct link l;

	open_link(&l, *state, &source, &target);
	write_round(&l, 2, 1);
	write_end(&l, 2);
	write_round(&l, 0, 1);
	write_end(&l, 0);
	write_round(&l, 1, 1);
	write_end(&l, 1);
	link_join(&l);
	rig_check_no_err(&l.err);
	assert_int_equal(l.ret, 0);
	close_link(&l, &source, &target);
}

static void test_one_ends_before_a_barrier(void **state)
{
	struct machine source, target;
	struct link l;

	open_link(&l, *state, &source, &target);
	write_end(&l, 1);
	write_round(&l, 0, 1);
	link_join(&l);
	assert_int_equal(l.ret, -EPROTO);
	rig_check_err(&l.err, EPROTO, "a channel ended before barrier 1, which others reached");
	cancel_raise(l.rig->cancel);
	close_link(&l, &source, &target);
}

/* The main channel waits at a barrier, or for the others' end, and one of these fails. */
static void check_further_fails(void **state, bool at_end, bool cut, int code, const char *start,
				const char *end)
{
	struct machine source, target;
	struct err *err = NULL;
	struct link l;

	open_link(&l, *state, &source, &target);
	if (at_end)
		write_end(&l, 0);
	else
		write_round(&l, 0, 1);
	if (cut) {
		assert_int_equal(channel_finish(l.ends[2][0], -1, NULL), 0);
	} else {
		uint8_t bytes[PAGES_HEAD_BYTES + PAGES_RUN_BYTES];
		size_t size = pages_pack_runs(bytes, 7, &(struct pages_run){0, 1}, 1);

		assert_int_equal(
			record_write_bytes(l.writers[2], RECORD_ZEROS, 0, bytes, size, NULL), 0);
	}
	link_join(&l);
	assert_true(l.ret < 0);
	if (!l.err)
		assert_true(ram_receive_error(l.receive, &l.err) < 0);
	rig_check_err_around(&l.err, code, start, end);
	assert_true(ram_receive_error(l.receive, &err) < 0);
	assert_null(err);
	cancel_raise(l.rig->cancel);
	close_link(&l, &source, &target);
}

static void test_further_damaged(void **state)
{
	check_further_fails(state, false, false, EINVAL,
			    "fd:", "there is no block 7 of memory in record 0 (ZEROS)");
}

static void test_further_damaged_at_end(void **state)
{
	check_further_fails(state, true, false, EINVAL,
			    "fd:", "there is no block 7 of memory in record 0 (ZEROS)");
}

static void test_further_cut(void **state)
{
	check_further_fails(state, false, true, ENODATA, "fd:", "");
}

static void test_notes_belong_on_the_main_channel(void **state)
{
	struct machine source, target;
	struct link l;
	uint8_t bytes[28] = {1};

	open_link(&l, *state, &source, &target);
	assert_int_equal(
		record_write_bytes(l.writers[1], RECORD_NOTES, 0, bytes, sizeof(bytes), NULL), 0);
	write_end(&l, 0);
	link_join(&l);
	assert_int_equal(l.ret, -EINVAL);
	rig_check_err_around(&l.err, EINVAL, "fd:", "record 0 (NOTES) does not belong there");
	cancel_raise(l.rig->cancel);
	close_link(&l, &source, &target);
}

#define TEST(name)    cmocka_unit_test_setup_teardown(name, setup, teardown)
#define CHANNEL(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pages_and_zeros),
		TEST(test_plugged_and_unplugged),
		TEST(test_notes_that_cannot_be),
		TEST(test_bytes_that_are_not_the_pages),
		TEST(test_frames),
		TEST(test_damage),
		cmocka_unit_test_setup_teardown(test_memory_that_the_host_does_not_provide,
						setup_shared, teardown),
		TEST(test_barriers_count),
		CHANNEL(test_all_end),
		CHANNEL(test_one_ends_before_a_barrier),
		CHANNEL(test_further_damaged),
		CHANNEL(test_further_damaged_at_end),
		CHANNEL(test_further_cut),
		CHANNEL(test_notes_belong_on_the_main_channel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
