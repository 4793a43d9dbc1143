/* SPDX-License-Identifier: BSD-3-Clause */
/* Property tables: every type set, refused, read back and listed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "qmp/props.h"

enum colour { RED, GREEN, BLUE };

struct target {
	bool flag, size_given;
	uint32_t tri;
	enum colour colour;
	uint8_t small;
	uint16_t medium;
	uint64_t large, size, block;
	char *text, *id;
	uint8_t slot, function;
	uint16_t *list;
	size_t nr_list;
	uint8_t uuid[16];
};

static const char *const colours[] = {"red", "green", "blue", NULL};

#define FIELD(field) PROP_FIELD(struct target, field)

static const struct prop base_list[] = {
	{.name = "id", .type = PROP_ID, FIELD(id), .help = "name"},
	{.name = "old", .type = PROP_BOOL, .flags = PROP_SILENT, .help = "ignored"},
};
static const struct props base_props = {NULL, base_list, ARRAY_SIZE(base_list)};

static const struct prop list[] = {
	{.name = "flag", .type = PROP_BOOL, FIELD(flag), .defval = "on", .help = "a flag"},
	{.name = "fixed", .type = PROP_BOOL, .refused = "on", .why = "no", .defval = "off"},
	{.name = "tri", .type = PROP_ON_OFF_AUTO, FIELD(tri), .refused = "off", .why = "never"},
	{.name = "colour",
	 .type = PROP_ENUM,
	 FIELD(colour),
	 .names = colours,
	 .refused = "blue",
	 .why = "out of paint",
	 .defval = "green"},
	{.name = "small", .type = PROP_UINT, FIELD(small)},
	{.name = "medium",
	 .type = PROP_UINT,
	 FIELD(medium),
	 .min = 10,
	 .max = 1000,
	 .defval = "20"},
	{.name = "large", .type = PROP_UINT, FIELD(large)},
	{.name = "size",
	 .type = PROP_SIZE,
	 FIELD(size),
	 PROP_GIVEN(struct target, size_given),
	 .max = GIB,
	 .align = 4096,
	 .unit = MIB,
	 .defval = "8M"},
	{.name = "block-size", .type = PROP_SIZE, .flags = PROP_POW2, FIELD(block), .min = 4096},
	{.name = "text", .type = PROP_STRING, FIELD(text), .defval = "hello"},
	{.name = "any", .type = PROP_STRING, .flags = PROP_EMPTY},
	{.name = "never", .type = PROP_STRING, .refused = "*", .why = "not here"},
	{.name = "addr", .type = PROP_PCI_ADDR, FIELD(slot), PROP_SECOND(struct target, function)},
	{.name = "list",
	 .type = PROP_UINT16_LIST,
	 FIELD(list),
	 PROP_SECOND(struct target, nr_list),
	 .max = 100},
	{.name = "uuid", .type = PROP_UUID, FIELD(uuid)},
	{.name = "state",
	 .type = PROP_UINT,
	 .flags = PROP_READONLY,
	 FIELD(small),
	 .help = "it is read"},
};
static const struct props table = {&base_props, list, ARRAY_SIZE(list)};

/* Every good value, and how it reads back. */
static void test_values(void **state)
{
	static const struct {
		const char *name, *value, *back;
	} rows[] = {
		{"flag", "true", "true"},
		{"flag", "false", "false"},
		{"flag", "\"on\"", "true"},
		{"flag", "\"off\"", "false"},
		{"flag", "\"yes\"", "true"},
		{"flag", "\"no\"", "false"},
		{"flag", "\"true\"", "true"},
		{"flag", "\"false\"", "false"},
		{"flag", "\"y\"", "true"},
		{"flag", "\"n\"", "false"},
		{"tri", "\"auto\"", "\"auto\""},
		{"tri", "\"on\"", "\"on\""},
		{"tri", "true", "\"on\""},
		{"colour", "\"red\"", "\"red\""},
		{"small", "255", "255"},
		{"small", "\"0xff\"", "255"},
		{"small", "\"0\"", "0"},
		{"medium", "10", "10"},
		{"medium", "\"1000\"", "1000"},
		{"large", "9223372036854775807", "9223372036854775807"},
		{"size", "4096", "4096"},
		{"size", "\"1\"", "1048576"},
		{"size", "\"4K\"", "4096"},
		{"size", "\"0.5\"", "524288"},
		{"size", "\"1G\"", "1073741824"},
		{"block-size", "\"2M\"", "2097152"},
		{"text", "\"a b\"", "\"a b\""},
		{"id", "\"a-1._b\"", "\"a-1._b\""},
		{"addr", "\"2\"", "\"02.0\""},
		{"addr", "\"0x2\"", "\"02.0\""},
		{"addr", "\"1f.7\"", "\"1f.7\""},
		{"addr", "\"0x1f.0x7\"", "\"1f.7\""},
		{"addr", "\"00.0\"", "\"00.0\""},
		{"addr", "9", "\"01.1\""},
		{"addr", "255", "\"1f.7\""},
		{"list", "\"3\"", "[3]"},
		{"list", "3", "[3]"},
		{"list", "\"1-3\"", "[1,2,3]"},
		{"list", "[5,\"1-2\",5,\"0\"]", "[0,1,2,5]"},
		{"list", "[]", "[]"},
		{"uuid", "\"00112233-4455-6677-8899-AABBCCDDEEFF\"",
		 "\"00112233-4455-6677-8899-aabbccddeeff\""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct target target = {0};
		struct err *err = NULL;
		json_t *value = json_loads(rows[i].value, JSON_DECODE_ANY, NULL);
		json_t *back;
		char *text;

		print_message("%s=%s\n", rows[i].name, rows[i].value);
		assert_int_equal(props_init(&table, &target), 0);
		assert_int_equal(props_set(&table, "t", rows[i].name, value, &target, &err), 0);
		back = props_get(props_find(&table, rows[i].name), &target);
		text = json_dumps(back, JSON_COMPACT | JSON_ENCODE_ANY);
		assert_string_equal(text, rows[i].back);
		free(text);
		json_decref(back);
		json_decref(value);
		props_done(&table, &target);
	}
}

static void test_wrong_values(void **state)
{
	static const struct {
		const char *name, *value;
		int code;
		const char *sentence;
	} rows[] = {
		{"flag", "\"maybe\"", EINVAL,
		 "t: flag=maybe is neither yes nor no; allowed: on, off"},
		{"flag", "1", EINVAL, "t: flag takes a boolean"},
		{"flag", "[true]", EINVAL, "t: flag takes a boolean, and only one"},
		{"flag", "null", EINVAL, "t: flag takes a boolean"},
		{"fixed", "true", ENOTSUP, "t: fixed=on is not possible: no"},
		{"tri", "\"off\"", ENOTSUP, "t: tri=off is not possible: never"},
		{"tri", "false", ENOTSUP, "t: tri=off is not possible: never"},
		{"tri", "\"yes\"", EINVAL, "t: tri=yes is unknown; allowed: auto, on"},
		{"colour", "\"blue\"", ENOTSUP, "t: colour=blue is not possible: out of paint"},
		{"colour", "\"RED\"", EINVAL, "t: colour=RED is unknown; allowed: red, green"},
		{"colour", "0", EINVAL, "t: colour takes a string"},
		{"small", "256", ERANGE, "t: small=256 is out of range; allowed: 0 to 255"},
		{"small", "-1", EINVAL, "t: small=-1 is not a number; allowed: 0 to 255"},
		{"small", "1.5", EINVAL, "t: small takes a number"},
		{"small", "\"1K\"", EINVAL, "t: small=1K is not a number; allowed: 0 to 255"},
		{"small", "true", EINVAL, "t: small takes a number"},
		{"medium", "9", ERANGE, "t: medium=9 is out of range; allowed: 10 to 1000"},
		{"medium", "1001", ERANGE, "t: medium=1001 is out of range; allowed: 10 to 1000"},
		{"large", "\"18446744073709551616\"", ERANGE,
		 "t: large=18446744073709551616 is out of range; allowed: 0 to "
		 "18446744073709551615"},
		{"size", "\"2G\"", ERANGE, "t: size=2G is out of range; allowed: 0 bytes to 1 GiB"},
		{"size", "\"1X\"", EINVAL,
		 "t: size=1X is not a size; allowed: a number, then B, K, M, G, T or P for its "
		 "unit "
		 "(MiB without)"},
		{"size", "4097", EINVAL, "t: size=4097 is not a multiple of 4 KiB"},
		{"size", "\"99999999999P\"", ERANGE, "t: size=99999999999P does not fit 64 bits"},
		{"block-size", "\"3M\"", EINVAL, "t: block-size=3M is not a power of two"},
		{"block-size", "\"1024\"", ERANGE,
		 "t: block-size=1024 is too small (without a unit it counts bytes); allowed: at "
		 "least 4 KiB"},
		{"text", "\"\"", EINVAL, "t: text= is empty"},
		{"text", "7", EINVAL, "t: text takes a string"},
		{"id", "\"1a\"", EINVAL,
		 "t: id=1a is not an id; allowed: a letter, then letters, digits, '-', '.', '_'"},
		{"never", "\"x\"", ENOTSUP, "t: never=x is not possible: not here"},
		{"addr", "\"20\"", EINVAL,
		 "t: addr=20 is not a PCI address; allowed: SLOT or SLOT.FUNCTION in hexadecimal, "
		 "0 "
		 "to 1f and 0 to 7"},
		{"addr", "256", EINVAL,
		 "t: addr=256 is not a PCI address; allowed: SLOT or SLOT.FUNCTION in hexadecimal, "
		 "0 to 1f and 0 to 7"},
		{"list", "\"101\"", ERANGE, "t: list=101 is out of range; allowed: 0 to 100"},
		{"list", "\"0-101\"", ERANGE, "t: list=0-101 is out of range; allowed: 0 to 100"},
		{"list", "\"3-1\"", EINVAL,
		 "t: list=3-1 is not a range; allowed: N or FIRST-LAST, from 0 to 100"},
		{"list", "[1,[2]]", EINVAL, "t: list takes numbers or ranges, and only one"},
		{"list", "[1,\"x\"]", EINVAL,
		 "t: list=x is not a range; allowed: N or FIRST-LAST, from 0 to 100"},
		{"uuid", "\"00112233\"", EINVAL,
		 "t: uuid=00112233 is not a UUID; allowed: hexadecimal digits in groups of "
		 "8-4-4-4-12"},
		{"uuid", "\"0x112233-4455-6677-8899-AABBCCDDEEFF\"", EINVAL,
		 "t: uuid=0x112233-4455-6677-8899-AABBCCDDEEFF is not a UUID; allowed: hexadecimal "
		 "digits in groups of 8-4-4-4-12"},
		{"state", "1", EINVAL, "t: state cannot be set: it is read"},
		{"block_size", "1", EINVAL, "t: block_size is unknown; did you mean block-size?"},
		{"foo", "1", EINVAL,
		 "t: foo is unknown; allowed: flag, fixed, tri, colour, small, medium, large, "
		 "size, "
		 "block-size, text, any, never, addr, list, uuid, id"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct target target = {0}, before;
		struct err *err = NULL;
		json_t *value = json_loads(rows[i].value, JSON_DECODE_ANY, NULL);

		print_message("%s=%s\n", rows[i].name, rows[i].value);
		assert_int_equal(props_init(&table, &target), 0);
		before = target;
		assert_int_equal(props_set(&table, "t", rows[i].name, value, &target, &err),
				 -rows[i].code);
		assert_string_equal(err_message(err), rows[i].sentence);
		assert_memory_equal(&target, &before, sizeof(target));
		err_free(err);
		json_decref(value);
		props_done(&table, &target);
	}
}

static void test_defaults(void **state)
{
	struct target target = {0};

	(void)state;
	assert_int_equal(props_init(&table, &target), 0);
	assert_true(target.flag);
	assert_int_equal(target.colour, GREEN);
	assert_int_equal(target.medium, 20);
	assert_int_equal(target.size, 8 * MIB);
	assert_false(target.size_given);
	assert_string_equal(target.text, "hello");
	assert_null(target.id);
	props_done(&table, &target);
	assert_null(target.text);
	props_done(&table, &target);
}

static void test_apply(void **state)
{
	static const struct prop need_list[] = {
		{.name = "must", .type = PROP_STRING, .flags = PROP_REQUIRED, .help = "is needed"},
	};
	const struct props need = {&table, need_list, 1};
	struct target target = {0};
	struct err *err = NULL;
	json_t *values = json_pack("{s:s,s:s,s:i,s:s}", "id", "x", "text", "again", "size", 8192,
				   "old", "off");

	(void)state;
	assert_int_equal(props_init(&table, &target), 0);
	assert_int_equal(props_apply(&table, "t", values, &target, &err), 0);
	assert_string_equal(target.id, "x");
	assert_string_equal(target.text, "again");
	assert_int_equal(target.size, 8192);
	assert_true(target.size_given);
	assert_int_equal(props_apply(&need, "t", values, &target, &err), -EINVAL);
	assert_string_equal(err_message(err), "t: needs must= (is needed)");
	err_free(err);
	json_object_set_new(values, "must", json_string("y"));
	assert_int_equal(props_apply(&need, "t", values, &target, NULL), 0);
	json_decref(values);
	props_done(&table, &target);
}

static void test_help(void **state)
{
	char *text = props_help(&table);

	(void)state;
	assert_non_null(strstr(text, "  flag=<on|off>  a flag (default: on)\n"));
	assert_non_null(strstr(text, "  fixed=<on|off>; not on: no (default: off)\n"));
	assert_non_null(strstr(text, "  tri=<auto|on|off>; not off: never\n"));
	assert_non_null(strstr(text, "  colour=<red|green|blue>; not blue: out of paint "));
	assert_non_null(strstr(text, "  small=<0-255>\n"));
	assert_non_null(strstr(text, "  large=<number>\n"));
	assert_non_null(strstr(text, "  size=<size> (default: 8M)\n"));
	assert_non_null(strstr(text, "  never=<string>; not possible: not here\n"));
	assert_non_null(strstr(text, "  state=<0-255>  it is read (read-only)\n"));
	assert_non_null(strstr(text, "  id=<id>  name\n"));
	free(text);
}

static void test_ids(void **state)
{
	static const char *const good[] = {"a", "Z9", "a-b.c_d", "mem0"};
	static const char *const bad[] = {"", "9a", "-a", "a b", "a/b", "a,b", ".a", "_a", "a\xff"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(props_id_valid(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(props_id_valid(bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),   cmocka_unit_test(test_wrong_values),
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_apply),
		cmocka_unit_test(test_help),     cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
