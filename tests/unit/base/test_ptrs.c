/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of pointers: order kept while they grow and shrink, addresses of items untouched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/num.h"
#include "base/ptrs.h"

static void list_keeps_order(void **state)
{
	int items[100], **list = NULL;
	size_t nr = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(items); i++)
		assert_int_equal(ptrs_add(&list, &nr, &items[i]), 0);
	assert_int_equal(nr, ARRAY_SIZE(items));
	for (size_t i = 0; i < nr; i++)
		assert_ptr_equal(list[i], &items[i]);
	/* every other one, so the odd ones stay */
	for (size_t i = 0; i < ARRAY_SIZE(items); i += 2)
		ptrs_remove(&list, &nr, &items[i]);
	assert_int_equal(nr, ARRAY_SIZE(items) / 2);
	for (size_t i = 0; i < nr; i++)
		assert_ptr_equal(list[i], &items[2 * i + 1]);
	ptrs_remove(&list, &nr, &items[0]);
	assert_int_equal(nr, ARRAY_SIZE(items) / 2);
	assert_int_equal(ptrs_add(&list, &nr, &items[0]), 0);
	assert_ptr_equal(list[nr - 1], &items[0]);
	while (nr)
		ptrs_remove(&list, &nr, list[0]);
	assert_int_equal(ptrs_add(&list, &nr, &items[7]), 0);
	assert_ptr_equal(list[0], &items[7]);
	free(list);
}

static void empty_list(void **state)
{
	int item = 0, **list = NULL;
	size_t nr = 0;

	(void)state;
	ptrs_remove(&list, &nr, &item);
	assert_int_equal(nr, 0);
	assert_null(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_keeps_order),
		cmocka_unit_test(empty_list),
	};

	return cmocka_run_group_tests_name("ptrs", tests, NULL, NULL);
}
