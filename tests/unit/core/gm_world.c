/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory for the tests of gm: see gm_world.h. */
#include "tests/unit/core/gm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

uint8_t *gm_world_pages(uint64_t bytes)
{
	uint8_t *p = aligned_alloc(PAGE, bytes);

	assert_non_null(p);
	memset(p, 0, bytes);
	return p;
}

int gm_world_setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	assert_non_null(w);
	w->gm = gm_new();
	assert_non_null(w->gm);
	w->low = gm_world_pages(PAGE);
	w->next = gm_world_pages(PAGE);
	w->device = gm_world_pages(4 * BLOCK);
	w->high = gm_world_pages(PAGE);
	/* Not in the order of their addresses. */
	assert_int_equal(gm_add_ram(w->gm, (struct range){HIGH, PAGE}, w->high), 0);
	assert_int_equal(gm_add_ram(w->gm, (struct range){LOW, PAGE}, w->low), 0);
	assert_int_equal(gm_add_device_memory(w->gm, (struct range){DEVICE, 4 * BLOCK}, w->device,
					      BLOCK, &w->region),
			 0);
	assert_int_equal(gm_add_ram(w->gm, (struct range){NEXT, PAGE}, w->next), 0);
	*state = w;
	return 0;
}

int gm_world_teardown(void **state)
{
	struct world *w = *state;

	gm_free(w->gm);
	free(w->low);
	free(w->next);
	free(w->device);
	free(w->high);
	free(w);
	return 0;
}
