/* SPDX-License-Identifier: BSD-3-Clause */
/* Little-endian fields: the bytes in memory are what counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/bytes.h"

static void wrappers_store_little_endian(void **state)
{
	const le16 a = le16_make(0x0102);
	const le32 b = le32_make(0x01020304);
	const le64 c = le64_make(UINT64_C(0x0102030405060708));

	(void)state;
	assert_memory_equal(&a, "\x02\x01", 2);
	assert_memory_equal(&b, "\x04\x03\x02\x01", 4);
	assert_memory_equal(&c, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	assert_int_equal(le16_get(a), 0x0102);
	assert_int_equal(le32_get(b), 0x01020304);
	assert_int_equal(le64_get(c), UINT64_C(0x0102030405060708));
}

/* Each size at each alignment: only its own bytes are read or written. */
static void any_size_and_alignment(void **state)
{
	static const uint8_t source[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

	(void)state;
	for (unsigned int at = 0; at < 8; at++)
		for (unsigned int size = 1; size <= 8; size++) {
			uint8_t copy[16];
			uint64_t v = bytes_get_le(source + at, size), expected = 0;

			for (unsigned int i = size; i-- > 0;)
				expected = expected << 8 | source[at + i];
			assert_int_equal(v, expected);
			memset(copy, 0xee, sizeof(copy));
			bytes_put_le(copy + at, size, v);
			for (unsigned int i = 0; i < sizeof(copy); i++)
				assert_int_equal(copy[i],
						 i >= at && i < at + size ? source[i] : 0xee);
		}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrappers_store_little_endian),
		cmocka_unit_test(any_size_and_alignment),
	};

	return cmocka_run_group_tests_name("base: bytes", tests, NULL, NULL);
}
