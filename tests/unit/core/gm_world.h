/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory for the tests of gm: two pages of RAM that touch, device memory of four blocks that
 * touches them, a hole, and a page of RAM.
 */
#ifndef TESTS_UNIT_CORE_GM_WORLD_H
#define TESTS_UNIT_CORE_GM_WORLD_H

#include <stdint.h>

#include "vmm/core/gm.h"

#define PAGE 4096

#define LOW    UINT64_C(0x10000)
#define NEXT   (LOW + PAGE)
#define DEVICE (NEXT + PAGE)
#define BLOCK  (2 * PAGE)
#define HOLE   (DEVICE + 4 * BLOCK)
#define HIGH   (HOLE + PAGE)
#define END    (HIGH + PAGE)

struct world {
	struct gm *gm;
	uint8_t *low, *next, *device, *high;
	struct gm_region *region;
};

/* Zeroed and page-aligned; fails the test when memory is out. */
uint8_t *gm_world_pages(uint64_t bytes);

/* For cmocka: *state is a struct world, in which nothing is granted. */
int gm_world_setup(void **state);
int gm_world_teardown(void **state);

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, gm_world_setup, gm_world_teardown)

#endif
