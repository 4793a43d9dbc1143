/* SPDX-License-Identifier: BSD-3-Clause */
/* Packed numbers: what was written is read, and nothing beyond it ever is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/pack.h"

static void written_is_read(void **state)
{
	struct pack p = {.failed = false};
	struct unpack u;
	char text[16];
	uint8_t bytes[3];

	(void)state;
	pack_u8(&p, 0xfe);
	pack_u16(&p, 0xfedc);
	pack_u32(&p, 0xfedcba98);
	pack_u64(&p, UINT64_C(0xfedcba9876543210));
	pack_bool(&p, true);
	pack_text(&p, "a text");
	pack_text(&p, NULL);
	pack_bytes(&p, "\1\2\3", 3);
	assert_false(pack_failed(&p));
	assert_int_equal(p.size, 1 + 2 + 4 + 8 + 1 + 2 + 6 + 2 + 3);
	assert_memory_equal(p.bytes, "\xfe\xdc\xfe\x98\xba\xdc\xfe\x10\x32", 9);
	u = unpack_begin(p.bytes, p.size);
	assert_int_equal(unpack_u8(&u), 0xfe);
	assert_int_equal(unpack_u16(&u), 0xfedc);
	assert_int_equal(unpack_u32(&u), 0xfedcba98);
	assert_int_equal(unpack_u64(&u), UINT64_C(0xfedcba9876543210));
	assert_true(unpack_bool(&u));
	unpack_text(&u, text, sizeof(text));
	assert_string_equal(text, "a text");
	unpack_text(&u, text, sizeof(text));
	assert_string_equal(text, "");
	assert_false(unpack_ended(&u));
	unpack_bytes(&u, bytes, 3);
	assert_memory_equal(bytes, "\1\2\3", 3);
	assert_true(unpack_ended(&u));
	pack_done(&p);
	assert_null(p.bytes);
}

/* Each prefix of a state fails, and reads as zeros from where it ends. */
static void cut_short(void **state)
{
	struct pack p = {.failed = false};

	(void)state;
	pack_u32(&p, 1);
	pack_text(&p, "xyz");
	pack_u64(&p, 2);
	for (size_t size = 0; size < p.size; size++) {
		uint8_t *copy = malloc(size + !size), full[8];
		struct unpack u;
		char text[8];

		memcpy(copy, p.bytes, size);
		u = unpack_begin(copy, size);
		unpack_u32(&u);
		unpack_text(&u, text, sizeof(text));
		memset(full, 0xff, sizeof(full));
		unpack_bytes(&u, full, sizeof(full));
		assert_memory_equal(full, "\0\0\0\0\0\0\0\0", 8);
		assert_true(unpack_failed(&u));
		assert_int_equal(unpack_u8(&u), 0);
		assert_null(unpack_raw(&u, 0));
		assert_false(unpack_ended(&u));
		free(copy);
	}
	pack_done(&p);
}

static void bounds(void **state)
{
	static const uint8_t seven[] = {7, 0, 7, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0};
	struct unpack u = unpack_begin(seven, sizeof(seven));

	(void)state;
	assert_int_equal(unpack_u16_max(&u, 7), 7);
	assert_int_equal(unpack_u32_max(&u, 8), 7);
	assert_false(unpack_failed(&u));
	assert_int_equal(unpack_u64_max(&u, 6), 0);
	assert_true(unpack_failed(&u));
	u = unpack_begin(seven, sizeof(seven));
	assert_false(unpack_bool(&u));
	assert_true(unpack_failed(&u));
	u = unpack_begin(seven, sizeof(seven));
	assert_int_equal(unpack_u8_max(&u, 6), 0);
	assert_int_equal(unpack_u8(&u), 0);
	u = unpack_begin(seven, sizeof(seven));
	unpack_fail(&u);
	assert_int_equal(unpack_u8(&u), 0);
}

static void texts(void **state)
{
	struct pack p = {.failed = false};
	char big[PACK_TEXT_MAX + 2], small[4];
	struct unpack u;

	(void)state;
	memset(big, 'x', sizeof(big));
	big[PACK_TEXT_MAX] = 0;
	pack_text(&p, big);
	assert_false(pack_failed(&p));
	u = unpack_begin(p.bytes, p.size);
	unpack_text(&u, small, sizeof(small));
	assert_true(unpack_failed(&u));
	assert_string_equal(small, "");
	u = unpack_begin("\2\0x\0", 4);
	unpack_text(&u, small, sizeof(small));
	assert_true(unpack_failed(&u));
	big[PACK_TEXT_MAX] = 'x';
	big[PACK_TEXT_MAX + 1] = 0;
	pack_text(&p, big);
	assert_true(pack_failed(&p));
	pack_u8(&p, 1);
	assert_true(pack_failed(&p));
	pack_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(written_is_read),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(bounds),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
