/* SPDX-License-Identifier: BSD-3-Clause */
/* What hypervisors share: hv.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/core/hv.h"

struct lines {
	struct hv hv;
	uint32_t gsi;
	bool level;
};

static void lines_set(struct hv *hv, uint32_t gsi, bool level)
{
	struct lines *l = container_of(hv, struct lines, hv);

	l->gsi = gsi;
	l->level = level;
}

static void test_line(void **state)
{
	const struct hv_ops ops = {.line_set = lines_set};
	struct lines l = {.hv = {&ops}};

	(void)state;
	hv_line_set(&l.hv, 7, true);
	assert_int_equal(l.gsi, 7);
	assert_true(l.level);
	hv_line_set(&l.hv, 7, false);
	assert_false(l.level);
}

static void test_msi_trigger(void **state)
{
	struct hv_msi msi = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
	uint64_t count = UINT64_MAX - 1;

	(void)state;
	assert_true(msi.fd >= 0);
	hv_msi_trigger(&msi);
	hv_msi_trigger(&msi);
	assert_int_equal(read(msi.fd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 2);
	/* A counter that is full: the signal is pending already, and nobody waits. */
	count = UINT64_MAX - 1;
	assert_int_equal(write(msi.fd, &count, sizeof(count)), sizeof(count));
	hv_msi_trigger(&msi);
	assert_int_equal(read(msi.fd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, UINT64_MAX - 1);
	close(msi.fd);
	/* One that was never made. */
	msi.fd = -1;
	hv_msi_trigger(&msi);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_msi_trigger),
	};

	return cmocka_run_group_tests_name("hv", tests, NULL, NULL);
}
