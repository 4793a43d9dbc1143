/* SPDX-License-Identifier: BSD-3-Clause */
/* Growing: which chunks and units come first, in what runs, and what follows on failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/driver/rig.h"

static struct rig rig;

static void runs_from_the_lowest_address(void **state)
{
	(void)state;
	rig_init(&rig, 64, 8);
	rig_start(&rig);
	rig_settle(&rig);
	rig_expect(&rig, "");
	rig_request(&rig, 20);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+20, add 0+3");
	rig_request(&rig, 64);
	rig_settle(&rig);
	rig_expect(&rig, "plug 20+4, give 20+4, plug 24+32, add 3+4, plug 56+8, add 7+1");
	rig_request(&rig, 0);
	rig_settle(&rig);
	rig_expect(&rig, "remove 4+4, unplug 32+32, remove 0+4, unplug 0+32");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	rig_done(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_from_the_lowest_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
