/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What it costs the host to take memory into the balloon: requests of 256 page numbers, as Linux makes
 * them, eight at a time, for memory that was written to. The device and its rings are the real ones;
 * there is no guest whose page tables would have to change. Prints, for pages that are neighbours and
 * for every second one, the time for 1 GiB of the best of some rounds of 128 MiB, in milliseconds.
 * bench/balloon.py has QEMU's beside it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/num.h"
#include "tests/unit/virtio/balloon_rig.h"

#define NUMBERS 256u /* in a request */
#define BATCH   8u   /* requests at a time */
#define ROUNDS  10

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Pages of the memory from @page on, each @stride-th; the time that the device takes. */
static uint64_t take_batch(struct rig *r, uint64_t gpa, uint64_t page, unsigned int stride)
{
	unsigned int done = 0;
	uint64_t begin;

	for (unsigned int i = 0; i < BATCH * NUMBERS; i++)
		bytes_put_le(guest_ptr(&r->g, gpa + i * 4), 4,
			     RIG_RAM / RIG_PAGE + page + (uint64_t)i * stride);
	for (unsigned int i = 0; i < BATCH; i++) {
		struct driver_buffer b = {gpa + i * NUMBERS * 4, NUMBERS * 4, false};

		rig_add(r, INFLATE, &b, 1);
	}
	begin = now_ns();
	while (done < BATCH) {
		uv_run(loop_uv(r->loop), UV_RUN_NOWAIT);
		done += rig_used(r, INFLATE);
	}
	return now_ns() - begin;
}

static uint64_t take_all(struct rig *r, uint64_t gpa, unsigned int stride)
{
	const uint64_t pages = RIG_RAM_SIZE / RIG_PAGE, step = (uint64_t)BATCH * NUMBERS * stride;
	uint64_t best = UINT64_MAX;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		uint64_t ns = 0;

		memset(r->ram.host, 1, RIG_RAM_SIZE);
		for (uint64_t page = 0; page < pages; page += step)
			ns += take_batch(r, gpa, page, stride);
		best = num_min(best, ns * stride);
	}
	return best * (GIB / RIG_RAM_SIZE);
}

static void test_cost(void **state)
{
	struct rig *r = *state;
	uint64_t gpa = guest_alloc(&r->g, BATCH * NUMBERS * 4, 4);

	printf("neighbours %.1f\n", (double)take_all(r, gpa, 1) / 1e6);
	printf("scattered %.1f\n", (double)take_all(r, gpa, 2) / 1e6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cost, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("balloon", tests, NULL, NULL);
}
