/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vCPUs that rest, on the real KVM: they get less done, by about what was asked, and nobody waits for
 * their rest. vcpu.h, I5. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "tests/unit/kvm/fixture.h"

#define MS UINT64_C(1000000)

static int setup(void **state)
{
	struct machine *m = malloc(sizeof(*m));

	assert_non_null(m);
	machine_init(m, 2);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	machine_done(*state);
	free(*state);
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

GUEST(guest_spin, "1: incl 0x2000\n"
		  "jmp 1b");

/* Turns in a window of time. */
static uint32_t turns(struct machine *m, uint64_t window_ns)
{
	uint64_t end = now_ns() + window_ns;
	uint32_t at = machine_peek(m, GUEST_DATA);
	const struct timespec left = {.tv_nsec = (long)window_ns};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &left, NULL);
	while (now_ns() < end)
		;
	return machine_peek(m, GUEST_DATA) - at;
}

/*
 * Windows with and without in turn, so that whatever else the host does is in both. True when it got
 * less than half as much done as without: a fifth would be right.
 */
static bool measure(struct machine *m)
{
	uint64_t free_turns = 0, throttled = 0, again = 0;

	for (unsigned int i = 0; i < 5; i++) {
		free_turns += turns(m, 60 * MS);
		vcpus_throttle(m->vcpus, 80);
		throttled += turns(m, 60 * MS);
		vcpus_throttle(m->vcpus, 0);
		again += turns(m, 60 * MS);
	}
	return throttled * 2 < free_turns && throttled * 2 < again;
}

/*
 * Who rests is given a processor sooner than others that want it, so on a host that is busy enough
 * a vCPU may get less without rests; but not each time.
 */
static void test_gets_less_done(void **state)
{
	struct machine *m = *state;

	machine_boot(m, guest_spin);
	vcpus_resume(m->vcpus);
	machine_wait_change(m, GUEST_DATA, 0);
	for (unsigned int tries = 0; !measure(m); tries++)
		assert_true(tries < 20);
	/* It still gets on. */
	vcpus_throttle(m->vcpus, 80);
	machine_wait_change(m, GUEST_DATA, machine_peek(m, GUEST_DATA));
	vcpus_pause(m->vcpus);
}

/* More than there is counts as the most there is: it never stands still. */
static void test_never_stands_still(void **state)
{
	struct machine *m = *state;

	machine_boot(m, guest_spin);
	vcpus_throttle(m->vcpus, 1000);
	vcpus_resume(m->vcpus);
	for (unsigned int i = 0; i < 5; i++)
		machine_wait_change(m, GUEST_DATA, machine_peek(m, GUEST_DATA));
	vcpus_pause(m->vcpus);
	vcpus_throttle(m->vcpus, 0);
}

#define TRIES 41

static int compare_ns(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* With 99 per cent a rest is 10 ms long, and almost whenever one comes it is under way. */
static void test_nobody_waits_for_a_rest(void **state)
{
	uint64_t pauses[TRIES], sections[TRIES];
	struct machine *m = *state;
	struct hv *hv = m->hv;

	machine_boot(m, guest_spin);
	vcpus_throttle(m->vcpus, 99);
	vcpus_resume(m->vcpus);
	for (unsigned int i = 0; i < TRIES; i++) {
		uint64_t begin;

		machine_wait_change(m, GUEST_DATA, machine_peek(m, GUEST_DATA));
		begin = now_ns();
		assert_int_equal(hv->ops->slots_replace(hv, NULL, 0, NULL, 0), 0);
		sections[i] = now_ns() - begin;
		begin = now_ns();
		vcpus_pause(m->vcpus);
		pauses[i] = now_ns() - begin;
		vcpus_resume(m->vcpus);
	}
	vcpus_pause(m->vcpus);
	qsort(pauses, TRIES, sizeof(pauses[0]), compare_ns);
	qsort(sections, TRIES, sizeof(sections[0]), compare_ns);
	assert_true(pauses[TRIES / 2] < 5 * MS);
	assert_true(sections[TRIES / 2] < 5 * MS);
}

/* The end does not wait either. */
static void test_end_while_throttled(void **state)
{
	struct machine *m = *state;

	machine_boot(m, guest_spin);
	vcpus_throttle(m->vcpus, 99);
	vcpus_resume(m->vcpus);
	machine_wait_change(m, GUEST_DATA, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_gets_less_done),
		TEST(test_never_stands_still),
		TEST(test_nobody_waits_for_a_rest),
		TEST(test_end_while_throttled),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: throttle", tests, NULL, NULL);
}
