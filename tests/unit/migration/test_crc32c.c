/* SPDX-License-Identifier: BSD-3-Clause */
/* CRC-32C: known sums, and the same by processor, tables and definition at any size and place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "vmm/migration/crc32c.h"

/* Bit by bit, as the polynomial says. */
static uint32_t defined(uint32_t crc, const uint8_t *bytes, size_t size)
{
	crc = ~crc;
	while (size--) {
		crc ^= *bytes++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
	}
	return ~crc;
}

/* RFC 3720 appendix B.4, and the usual check. */
static void test_known(void **state)
{
	uint8_t bytes[32];

	(void)state;
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c_tables(0, "123456789", 9), 0xe3069283);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
	assert_int_equal(crc32c(0, NULL, 0), 0);
}

static void test_same(void **state)
{
	static const size_t sizes[] = {1023, 1024, 3071, 3072, 3073, 4096, 6143, 6144, 9999, 16384};
	uint8_t *bytes = malloc(16384 + 8);
	uint32_t crc = 0;

	(void)state;
	assert_non_null(bytes);
	srandom(1);
	for (unsigned int i = 0; i < 16384 + 8; i++)
		bytes[i] = (uint8_t)random();
	for (size_t i = 0; i < 300 + ARRAY_SIZE(sizes); i++) {
		size_t size = i < 300 ? i : sizes[i - 300],
		       cut = size ? (size_t)random() % size : 0;

		for (unsigned int at = 0; at < 8; at++) {
			uint32_t sum = defined(crc, bytes + at, size);

			assert_int_equal(crc32c(crc, bytes + at, size), sum);
			assert_int_equal(crc32c_tables(crc, bytes + at, size), sum);
			assert_int_equal(
				crc32c(crc32c(crc, bytes + at, cut), bytes + at + cut, size - cut),
				sum);
		}
		crc = crc32c(crc, bytes, size);
	}
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
