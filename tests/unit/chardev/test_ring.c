/* SPDX-License-Identifier: BSD-3-Clause */
/* The byte queue against a model: order kept across growth and wrap-around, limit kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "vmm/chardev/ring.h"

static void takes_up_to_its_limit(void **state)
{
	struct chr_ring ring;
	uint8_t buf[4000] = {0};

	(void)state;
	chr_ring_init(&ring, 3000);
	assert_int_equal(chr_ring_push(&ring, buf, sizeof(buf)), 3000);
	assert_int_equal(chr_ring_push(&ring, buf, 1), 0);
	assert_int_equal(chr_ring_pull(&ring, buf, 1), 1);
	assert_int_equal(chr_ring_push(&ring, buf, 10), 1);
	chr_ring_clear(&ring);
	assert_int_equal(chr_ring_pull(&ring, buf, sizeof(buf)), 0);
	assert_int_equal(chr_ring_push(&ring, buf, 10), 10);
	chr_ring_done(&ring);
}

static void keeps_order_over_random_use(void **state)
{
	struct chr_ring ring;
	uint8_t buf[700], next_in = 0, next_out = 0;
	size_t size, taken, count = 0, i;
	unsigned int seed = 1;
	int round;

	(void)state;
	chr_ring_init(&ring, 10000);
	for (round = 0; round < 20000; round++) {
		size = (size_t)rand_r(&seed) % sizeof(buf);
		if (rand_r(&seed) % 100 < (round / 1000 % 2 ? 70 : 40)) {
			for (i = 0; i < size; i++)
				buf[i] = (uint8_t)(next_in + i);
			taken = chr_ring_push(&ring, buf, size);
			assert_int_equal(taken, num_min(size, 10000 - count));
			next_in = (uint8_t)(next_in + taken);
			count += taken;
		} else {
			taken = chr_ring_pull(&ring, buf, size);
			assert_int_equal(taken, num_min(size, count));
			for (i = 0; i < taken; i++)
				assert_int_equal(buf[i], next_out++);
			count -= taken;
		}
	}
	chr_ring_done(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_up_to_its_limit),
		cmocka_unit_test(keeps_order_over_random_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
