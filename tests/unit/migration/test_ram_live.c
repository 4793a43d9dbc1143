/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that is sent while CPUs and devices write to it and blocks come and go: whatever happens,
 * the target has in the end what the source has (ram_send.h). Built with ThreadSanitizer, these
 * tests also prove that sender, receiver and machine take turns where they must.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "link.h"
#include "vmm/migration/migration.h"

#define UNIT (64 * KIB)
/* Rounds of each migration; the thread sanitizer makes them slow. */
#define ROUNDS (MACHINE_WITH_TSAN ? 40u : 200u)

static const struct machine_config config = {
	.boot_bytes = 33 * 5 * PAGE_BYTES, /* blocks that do not end with a word of marks */
	.device_bytes = 32 * UNIT,
	.unit_bytes = UNIT,
	.nr_devices = 2,
};

/* What goes on in the machine: each thread with random numbers of its own. */
struct life {
	struct machine *m;
	atomic_bool stop;
	atomic_ulong stores, changes;
	uint64_t seed;
};

struct player {
	struct life *life;
	pthread_t thread;
	uint64_t random;
};

static uint64_t draw(struct player *p, uint64_t below)
{
	p->random ^= p->random << 13;
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return (p->random >> 11) % below;
}

static void *play_cpu(void *opaque)
{
	struct player *p = opaque;
	struct machine *m = p->life->m;

	while (!atomic_load(&p->life->stop)) {
		size_t block = (size_t)draw(p, m->nr_blocks);
		uint64_t page = draw(p, m->blocks[block].nr_pages);

		/* Now and then a page becomes zeros again; most have the same few bits in them. */
		if (draw(p, 8) == 0)
			machine_clear_page(m, block, page);
		else
			machine_store(m, block, page * PAGE_BYTES + draw(p, 512) * 8,
				      draw(p, 4) ? p->random : 0);
		atomic_fetch_add(&p->life->stores, 1);
		if (draw(p, 16) == 0)
			sched_yield();
	}
	return NULL;
}

/* A device stores through the gm, whose marks are its own. */
static void *play_device(void *opaque)
{
	struct player *p = opaque;
	struct machine *m = p->life->m;

	while (!atomic_load(&p->life->stop)) {
		size_t block = (size_t)draw(p, m->nr_blocks);
		uint64_t offset = draw(p, m->blocks[block].ram.gpa.size / 8) * 8;

		gm_store_release(m->gm, m->blocks[block].ram.gpa.start + offset, 8, p->random);
		atomic_fetch_add(&p->life->stores, 1);
		if (draw(p, 16) == 0)
			sched_yield();
	}
	return NULL;
}

static void *play_resize(void *opaque)
{
	struct player *p = opaque;
	struct machine *m = p->life->m;

	while (!atomic_load(&p->life->stop)) {
		size_t block =
			MACHINE_BOOT_BLOCKS + (size_t)draw(p, m->nr_blocks - MACHINE_BOOT_BLOCKS);
		uint64_t unit = draw(p, config.device_bytes / UNIT);

		switch (draw(p, 5)) {
		case 0:
			machine_unplug(m, block, unit);
			break;
		case 1: /* both within one look of the sender */
			machine_unplug(m, block, unit);
			machine_plug(m, block, unit);
			break;
		case 2:
			machine_unplug_fails(m, block, unit);
			break;
		default:
			machine_plug(m, block, unit);
			break;
		}
		atomic_fetch_add(&p->life->changes, 1);
		sched_yield();
	}
	return NULL;
}

static void *(*const plays[])(void *opaque) = {play_cpu, play_cpu, play_device, play_resize};

static void life_begin(struct life *life, struct player *players, struct machine *m, uint64_t seed)
{
	life->m = m;
	atomic_store(&life->stop, false);
	atomic_store(&life->stores, 0);
	atomic_store(&life->changes, 0);
	for (size_t i = 0; i < ARRAY_SIZE(plays); i++) {
		players[i] = (struct player){.life = life, .random = seed * 77 + i + 1};
		assert_int_equal(pthread_create(&players[i].thread, NULL, plays[i], &players[i]),
				 0);
	}
}

/* Until something was written and something changed, and all know it. */
static void life_goes_on(struct life *life)
{
	unsigned long stores = atomic_load(&life->stores), changes = atomic_load(&life->changes);

	while (atomic_load(&life->stores) == stores || atomic_load(&life->changes) == changes)
		sched_yield();
}

static void life_end(struct life *life, struct player *players)
{
	atomic_store(&life->stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(plays); i++)
		pthread_join(players[i].thread, NULL);
}

/* One migration of many rounds. */
static void migrate(struct rig *rig, size_t nr_further, bool zstd, bool shared, unsigned int rounds)
{
	struct machine_config with = config;
	struct machine source, target;
	struct player players[ARRAY_SIZE(plays)];
	struct migration_ram_info info = {0};
	enum ram_send_state state;
	struct err *err = NULL;
	struct life life;
	struct link link;

	with.shared = shared;
	machine_init(&source, &with);
	machine_init(&target, &with);
	life_begin(&life, players, &source, nr_further * 4 + zstd * 2 + shared);
	link_open(&link, rig, &source, &target,
		  &(struct link_config){.nr_further = nr_further, .zstd = zstd});
	for (unsigned int i = 0; i < rounds; i++) {
		life_goes_on(&life);
		ram_send_round(link.send, &state, &err);
		rig_check_no_err(&err);
	}
	life_goes_on(&life);
	life_end(&life, players);
	ram_send_final(link.send, &err);
	rig_check_no_err(&err);
	link_end(&link);
	rig_check_no_err(&link.err);
	assert_int_equal(link.ret, 0);
	machine_check_same(&source, &target);
	ram_send_info(link.send, &info);
	assert_true(info.dirty_sync_count >= rounds);
	assert_int_equal(info.remaining, 0);
	/* A short one may have seen no page of zeros, or none but these. */
	if (rounds == ROUNDS)
		assert_true(info.normal && info.duplicate);
	if (nr_further)
		assert_true(info.multifd_bytes > info.normal_bytes / 1000);
	link_close(&link);
	machine_done(&source);
	machine_done(&target);
}

static void test_one_channel(void **state)
{
	migrate(*state, 0, false, false, ROUNDS);
	migrate(*state, 0, true, false, ROUNDS);
}

static void test_further_channels(void **state)
{
	migrate(*state, 1, false, false, ROUNDS);
	migrate(*state, 3, true, false, ROUNDS);
	migrate(*state, 4, false, false, ROUNDS);
}

static void test_shared_memory(void **state)
{
	migrate(*state, 0, false, true, ROUNDS);
	migrate(*state, 2, true, true, ROUNDS);
}

/* Short ones: everything comes close to the begin and the end. */
static void test_many_short_ones(void **state)
{
	for (unsigned int i = 0; i < 20; i++)
		migrate(*state, i % 3, i % 2, i % 5 == 4, i % 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_channel, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_further_channels, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_shared_memory, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_many_short_ones, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
