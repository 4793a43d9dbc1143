/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What sending memory costs, how it ends early, and how it fails (ram_send.h). That it arrives is
 * test_ram_live.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "link.h"
#include "vmm/migration/migration.h"
#include "vmm/migration/pages.h"

#define UNIT (2 * MIB)
#define MEM0 2 /* the first device's block */

/* What the sender's channels carry at least: a few records without content. */
#define NEXT_TO_NOTHING 500u

static void open_machines(struct machine *source, struct machine *target, uint64_t boot_bytes,
			  uint64_t device_bytes)
{
	struct machine_config config = {.boot_bytes = boot_bytes,
					.device_bytes = device_bytes,
					.unit_bytes = UNIT,
					.nr_devices = 1};

	machine_init(source, &config);
	machine_init(target, &config);
}

static void finish(struct link *l)
{
	struct err *err = NULL;

	ram_send_final(l->send, &err);
	rig_check_no_err(&err);
	link_end(l);
	rig_check_no_err(&l->err);
	assert_int_equal(l->ret, 0);
}

static struct migration_ram_info info_of(const struct link *l)
{
	struct migration_ram_info info = {0};

	ram_send_info(l->send, &info);
	return info;
}

static void close_all(struct link *l, struct machine *source, struct machine *target)
{
	link_close(l);
	machine_done(source);
	machine_done(target);
}

/* 64 GiB of which nothing is plugged, and memory that nobody used: no bytes, no host memory. */
static void test_what_is_not_used_costs_nothing(void **state)
{
	struct machine source, target;
	struct err *err = NULL;
	enum ram_send_state how;
	struct link l;

	open_machines(&source, &target, 64 * MIB, 64 * GIB);
	link_open(&l, *state, &source, &target, &(struct link_config){0});
	ram_send_round(l.send, &how, &err);
	rig_check_no_err(&err);
	assert_int_equal(how, RAM_SEND_FITS);
	finish(&l);
	assert_true(info_of(&l).transferred < NEXT_TO_NOTHING);
	assert_int_equal(info_of(&l).total, 128 * MIB);
	assert_int_equal(info_of(&l).duplicate, 128 * MIB / PAGE_BYTES);
	assert_int_equal(info_of(&l).normal, 0);
	for (size_t i = 0; i < MEM0; i++) {
		assert_int_equal(machine_held_pages(&source, i), 0);
		assert_int_equal(machine_held_pages(&target, i), 0);
	}
	close_all(&l, &source, &target);
}

static void test_what_is_plugged_and_empty_costs_its_notes(void **state)
{
	struct machine source, target;
	struct link l;

	open_machines(&source, &target, UNIT, 256 * MIB);
	for (uint64_t u = 0; u < 128; u += 2)
		machine_plug(&source, MEM0, u);
	machine_store(&source, MEM0, 6 * UNIT + 8, 1);
	link_open(&l, *state, &source, &target, &(struct link_config){0});
	finish(&l);
	assert_int_equal(info_of(&l).normal, 1);
	assert_int_equal(info_of(&l).total, 64 * UNIT + 2 * UNIT);
	assert_true(info_of(&l).transferred < 64 * PAGES_NOTE_BYTES + PAGE_BYTES + NEXT_TO_NOTHING);
	assert_int_equal(machine_held_pages(&target, MEM0), 1);
	machine_check_same(&source, &target);
	close_all(&l, &source, &target);
}

/* What becomes smaller goes as it became; what does not goes as it is. */
static void test_compression(void **state)
{
	struct machine source, target;
	struct migration_ram_info info;
	struct link l;

	open_machines(&source, &target, UNIT, UNIT);
	for (uint64_t page = 0; page < 512; page++)
		machine_store(&source, 0, page * PAGE_BYTES, page + 1);
	link_open(&l, *state, &source, &target, &(struct link_config){.zstd = true});
	finish(&l);
	machine_check_same(&source, &target);
	info = info_of(&l);
	assert_int_equal(info.normal, 512);
	assert_true(info.transferred < info.normal_bytes / 20);
	link_close(&l);

	machine_done(&target);
	machine_done(&source);
	open_machines(&source, &target, UNIT, UNIT);
	machine_fill(&source, 1, 512);
	link_open(&l, *state, &source, &target, &(struct link_config){.zstd = true});
	finish(&l);
	machine_check_same(&source, &target);
	info = info_of(&l);
	assert_true(info.transferred > info.normal_bytes);
	assert_true(info.transferred < info.normal_bytes + info.normal_bytes / 500);
	close_all(&l, &source, &target);
}

/* An interrupted round leaves marked what it did not send; the next ones send it. */
static void test_interrupted(void **state)
{
	struct machine source, target;
	struct err *err = NULL;
	enum ram_send_state how;
	struct link l;

	open_machines(&source, &target, UNIT, UNIT);
	machine_fill(&source, 1, 512);
	link_open(&l, *state, &source, &target, &(struct link_config){.nr_further = 1});
	ram_send_interrupt(l.send);
	ram_send_rounds(l.send, &how, &err);
	rig_check_no_err(&err);
	assert_int_equal(how, RAM_SEND_INTERRUPTED);
	assert_int_equal(info_of(&l).normal, 0);
	assert_int_equal(info_of(&l).remaining, 2 * UNIT);
	ram_send_rounds(l.send, &how, &err);
	rig_check_no_err(&err);
	assert_int_equal(how, RAM_SEND_FITS);
	assert_int_equal(info_of(&l).normal, 512);
	/* The last one is not interrupted. */
	machine_fill(&source, 1, 512);
	source.interrupt = l.send;
	finish(&l);
	assert_int_equal(info_of(&l).normal, 1024);
	machine_check_same(&source, &target);
	close_all(&l, &source, &target);
}

/* ---- postcopy's calls ---- */

struct left {
	struct machine *m;
	bool is[MACHINE_BLOCKS_MAX][1024];
	uint64_t nr;
};

static void note_left(void *opaque, size_t block, uint64_t page, const uint64_t *words,
		      size_t nr_words)
{
	struct left *left = opaque;

	assert_int_equal(page % 64, 0);
	for (uint64_t i = 0; i < nr_words * 64; i++)
		if (words[i / 64] >> i % 64 & 1) {
			assert_true(page + i < left->m->blocks[block].nr_pages);
			left->is[block][page + i] = true;
			left->nr++;
		}
}

/* Whoever has them put where a guest runs. */
struct placed {
	struct machine *m;
	uint64_t pages, zeros;
};

static int place_pages(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		       const void *bytes, size_t nr_pages, struct err **err)
{
	struct placed *placed = opaque;
	const char *at = bytes;

	(void)err;
	for (size_t i = 0; i < nr_runs; at += (uint64_t)runs[i++].count * PAGE_BYTES)
		memcpy((char *)placed->m->blocks[block].ram.host + runs[i].first * PAGE_BYTES, at,
		       (uint64_t)runs[i].count * PAGE_BYTES);
	placed->pages += nr_pages;
	return 0;
}

static int place_zeros(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		       struct err **err)
{
	struct placed *placed = opaque;

	(void)err;
	for (size_t i = 0; i < nr_runs; i++) {
		memset((char *)placed->m->blocks[block].ram.host + runs[i].first * PAGE_BYTES, 0,
		       (uint64_t)runs[i].count * PAGE_BYTES);
		placed->zeros += runs[i].count;
	}
	return 0;
}

static const struct pages_sink place = {.pages = place_pages, .zeros = place_zeros};

static void test_what_is_left_for_later(void **state)
{
	struct machine source, target;
	struct placed placed = {.m = &target};
	struct left left = {.m = &source};
	enum ram_send_state how;
	struct err *err = NULL;
	struct link l;

	open_machines(&source, &target, UNIT, UNIT);
	machine_plug(&source, MEM0, 0);
	for (uint64_t page = 0; page < 100; page++)
		machine_store(&source, 0, page * PAGE_BYTES, 5);
	link_open(&l, *state, &source, &target,
		  &(struct link_config){.nr_further = 2, .later = &place, .later_opaque = &placed});
	ram_send_round(l.send, &how, &err);
	rig_check_no_err(&err);
	/* Then: pages that changed, that are zeros now, that were none before. */
	machine_store(&source, 0, 7 * PAGE_BYTES, 6);
	machine_clear_page(&source, 0, 8);
	machine_store(&source, 1, 511 * PAGE_BYTES, 1);
	machine_store(&source, MEM0, 300 * PAGE_BYTES, 9);
	ram_send_settle(l.send, &err);
	rig_check_no_err(&err);
	assert_int_equal(ram_send_left(l.send, note_left, &left), 4);
	assert_int_equal(left.nr, 4);
	assert_true(left.is[0][7] && left.is[0][8] && left.is[1][511] && left.is[MEM0][300]);
	assert_int_equal(info_of(&l).remaining, 4 * PAGE_BYTES);
	assert_int_equal(ram_send_left(l.send, note_left, &left), 0);

	record_write_bytes(l.writers[0], RECORD_POSTCOPY_RUN, 0, NULL, 0, &err);
	rig_check_no_err(&err);
	ram_send_pages(l.send, MEM0, 300, 1, &err);
	ram_send_pages(l.send, 0, 7, 2, &err);
	ram_send_pages(l.send, 1, 500, 12, &err);
	rig_check_no_err(&err);
	link_end(&l);
	rig_check_no_err(&l.err);
	assert_int_equal(placed.pages, 3);
	assert_int_equal(placed.zeros, 12);
	machine_check_same(&source, &target);
	close_all(&l, &source, &target);
}

/* ---- elsewhere than into a stream ---- */

struct image {
	struct machine *m;
	struct placed placed;
	struct ram_send *interrupt; /* with the first pages of a round; NULL: none */
	unsigned int rounds, notes;
};

static int image_pages(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		       const void *bytes, size_t nr_pages, struct err **err)
{
	struct image *image = opaque;

	if (image->interrupt)
		ram_send_interrupt(image->interrupt);
	return place_pages(&image->placed, block, runs, nr_runs, bytes, nr_pages, err);
}

static int image_zeros(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		       struct err **err)
{
	struct image *image = opaque;

	return place_zeros(&image->placed, block, runs, nr_runs, err);
}

static int image_note(void *opaque, size_t block, struct range run, bool plugged, struct err **err)
{
	struct image *image = opaque;

	image->notes++;
	return machine_load_plug(image->placed.m, block, run.start, run.size, plugged, err);
}

static int image_round(void *opaque, uint64_t number, struct err **err)
{
	struct image *image = opaque;

	(void)err;
	assert_int_equal(number, ++image->rounds);
	return 0;
}

static int image_sync(void *opaque)
{
	struct image *image = opaque;

	return machine_sync(image->m);
}

static void test_into_an_image(void **state)
{
	static const struct pages_sink pages = {.pages = image_pages, .zeros = image_zeros};
	static const struct ram_send_sink sink = {
		.pages = &pages, .note = image_note, .round = image_round};
	struct rig *rig = *state;
	struct machine source, target;
	struct image image = {.m = &source, .placed = {.m = &target}};
	struct err *err = NULL;
	enum ram_send_state how;
	struct ram_send *send;

	open_machines(&source, &target, 2 * UNIT, 4 * UNIT);
	machine_plug(&source, MEM0, 1);
	machine_fill(&source, 0, PAGES_WINDOW);
	machine_store(&source, MEM0, UNIT + 8, 7);
	machine_sync(&source);
	assert_int_equal(gm_dirty_start(source.gm), 0);
	send = ram_send_new(&(struct ram_send_config){.gm = source.gm,
						      .blocks = source.blocks,
						      .nr_blocks = source.nr_blocks,
						      .cancel = rig->cancel,
						      .sink = &sink,
						      .sync = image_sync,
						      .opaque = &image},
			    &err);
	rig_check_no_err(&err);
	machine_track(&source, (struct notes *)ram_send_notes(send));
	ram_send_start(send, &err);
	rig_check_no_err(&err);
	/* The batch that is written, and the one that is read then; the rest is as if written now. */
	image.interrupt = send;
	ram_send_round(send, &how, &err);
	rig_check_no_err(&err);
	assert_int_equal(how, RAM_SEND_INTERRUPTED);
	assert_int_equal(image.placed.pages, 2 * PAGES_BATCH);
	image.interrupt = NULL;
	ram_send_round(send, &how, &err);
	rig_check_no_err(&err);
	assert_int_equal(image.placed.pages, PAGES_WINDOW + 1);
	/* The last one is not interrupted. */
	machine_fill(&source, 0, PAGES_WINDOW);
	image.interrupt = send;
	machine_unplug(&source, MEM0, 1);
	machine_plug(&source, MEM0, 1);
	machine_clear_page(&source, 0, 5);
	ram_send_final(send, &err);
	rig_check_no_err(&err);
	assert_int_equal(image.notes, 3);
	assert_int_equal(image.rounds, 3);
	machine_check_same(&source, &target);
	machine_track(&source, NULL);
	ram_send_free(send);
	machine_done(&source);
	machine_done(&target);
}

/* ---- failures ---- */

static int sync_fails(void *opaque)
{
	(void)opaque;
	return -EIO;
}

/* Somebody who cannot keep still. */
static int sync_finds(void *opaque)
{
	struct machine *m = opaque;

	machine_store(m, 0, 0, atomic_load(&m->syncs) + 1);
	return machine_sync(m);
}

static void check_sync(void **state, int (*sync)(void *opaque), int code, const char *sentence)
{
	struct machine source, target;
	struct err *err = NULL;
	struct ram_send *send;
	struct link l;

	open_machines(&source, &target, UNIT, UNIT);
	link_open(&l, *state, &source, &target, &(struct link_config){0});
	send = ram_send_new(&(struct ram_send_config){.gm = source.gm,
						      .blocks = source.blocks,
						      .nr_blocks = source.nr_blocks,
						      .cancel = l.rig->cancel,
						      .channel = l.writers[0],
						      .sync = sync,
						      .opaque = &source},
			    &err);
	rig_check_no_err(&err);
	assert_int_equal(ram_send_final(send, &err), -code);
	rig_check_err(&err, code, sentence);
	ram_send_free(send);
	close_all(&l, &source, &target);
}

static void test_a_log_that_cannot_be_had(void **state)
{
	check_sync(state, sync_fails, EIO,
		   "cannot get to know what the guest wrote: Input/output error");
}

static void test_a_machine_that_is_not_stopped(void **state)
{
	check_sync(state, sync_finds, EBUSY, "memory is written to while the machine is stopped");
}

/* The other side is gone, on the main channel or on a further one: the rounds end soon. */
static void check_cut(struct rig *rig, size_t nr_further, size_t which)
{
	struct machine source, target;
	struct err *err = NULL;
	enum ram_send_state how;
	struct link l;
	int ret;

	open_machines(&source, &target, 4 * UNIT, UNIT);
	machine_fill(&source, 0, 2048);
	link_open(&l, rig, &source, &target, &(struct link_config){.nr_further = nr_further});
	shutdown(channel_fd(l.ends[which][1]), SHUT_RDWR);
	do {
		machine_fill(&source, 0, 512);
		ret = ram_send_round(l.send, &how, &err);
	} while (!ret);
	assert_int_equal(ret, -ECONNRESET);
	assert_non_null(err);
	err_free(err);
	/* The receiver's other channels are told by its owner. */
	cancel_raise(rig->cancel);
	link_join(&l);
	assert_true(l.ret < 0);
	close_all(&l, &source, &target);
}

static void test_cut_main_channel(void **state)
{
	check_cut(*state, 0, 0);
}

static void test_cut_further_channel(void **state)
{
	check_cut(*state, 3, 2);
}

/* Nobody reads: all buffers are full, and the cancel gets everybody out. */
static void check_cancel(struct rig *rig, size_t nr_further)
{
	struct machine source;
	enum ram_send_state how;
	struct err *err = NULL;
	struct link l = {.rig = rig};
	struct ram_send *send;
	pthread_t canceller;

	machine_init(&source, &(struct machine_config){.boot_bytes = 4 * UNIT,
						       .device_bytes = UNIT,
						       .unit_bytes = UNIT});
	machine_fill(&source, 0, source.blocks[0].nr_pages);
	link_channels(&l, nr_further);
	assert_int_equal(gm_dirty_start(source.gm), 0);
	send = ram_send_new(&(struct ram_send_config){.gm = source.gm,
						      .blocks = source.blocks,
						      .nr_blocks = source.nr_blocks,
						      .cancel = rig->cancel,
						      .channel = l.writers[0],
						      .further = l.writers + 1,
						      .nr_further = nr_further,
						      .sync = machine_sync,
						      .opaque = &source},
			    &err);
	rig_check_no_err(&err);
	ram_send_start(send, &err);
	rig_check_no_err(&err);
	rig_cancel_sleeper(rig, &canceller);
	assert_int_equal(ram_send_round(send, &how, &err), -ECANCELED);
	pthread_join(canceller, NULL);
	err_free(err);
	ram_send_free(send);
	for (size_t i = 0; i <= nr_further; i++) {
		record_writer_free(l.writers[i]);
		record_reader_free(l.readers[i]);
		channel_close(l.ends[i][0]);
		channel_close(l.ends[i][1]);
	}
	machine_done(&source);
}

static void test_cancel(void **state)
{
	check_cancel(*state, 0);
}

static void test_cancel_further(void **state)
{
	check_cancel(*state, 2);
}

/* Held back while it does not fit, and let go at the end. */
static void test_throttle_is_lifted(void **state)
{
	struct machine source, target;
	struct err *err = NULL;
	enum ram_send_state how;
	struct link l;

	open_machines(&source, &target, UNIT, UNIT);
	link_open(&l, *state, &source, &target, &(struct link_config){.auto_converge = true});
	for (int i = 0; i < 3; i++) {
		/* A round's worth, and all of it dirty again when it is over. */
		machine_fill(&source, 0, 512);
		machine_sync(&source);
		ram_send_round(l.send, &how, &err);
		rig_check_no_err(&err);
		assert_int_equal(how, RAM_SEND_FITS);
	}
	assert_int_equal(source.throttle, 0);
	ram_send_limits(l.send, &(struct ram_send_limits){.auto_converge = true,
							  .throttle_trigger_threshold = 50,
							  .cpu_throttle_initial = 20,
							  .cpu_throttle_increment = 10,
							  .max_cpu_throttle = 99});
	for (int i = 0; i < 4; i++) {
		machine_sync(&source);
		/* After the harvest that begins the round, before the one that ends it. */
		machine_fill(&source, 0, 512);
		ram_send_round(l.send, &how, &err);
		rig_check_no_err(&err);
	}
	assert_int_equal(how, RAM_SEND_MORE);
	assert_true(source.throttle >= 20);
	assert_int_equal(ram_send_throttle(l.send), source.throttle);
	finish(&l);
	link_close(&l);
	assert_int_equal(source.throttle, 0);
	machine_done(&source);
	machine_done(&target);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_not_used_costs_nothing),
		TEST(test_what_is_plugged_and_empty_costs_its_notes),
		TEST(test_compression),
		TEST(test_interrupted),
		TEST(test_what_is_left_for_later),
		TEST(test_into_an_image),
		TEST(test_a_log_that_cannot_be_had),
		TEST(test_a_machine_that_is_not_stopped),
		TEST(test_cut_main_channel),
		TEST(test_cut_further_channel),
		TEST(test_cancel),
		TEST(test_cancel_further),
		TEST(test_throttle_is_lifted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
