/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Schemas: tables that fit together and tables that do not, values of every type and of none,
 * introspection that tells all of it.
 */
#include "tests/unit/qmp/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/qmp_internal.h"

static json_t *parse(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(value);
	return value;
}

/* What is wrong with a value of echo's arguments; NULL: nothing. */
static void check(const struct rig *rig, const char *args, const char *sentence)
{
	const struct command *echo = schema_command(qmp_schema(rig->qmp), "echo");
	json_t *value = parse(args);
	struct err *err = NULL;
	int ret = schema_check_members(qmp_schema(rig->qmp), NULL, echo->args, value, &err);

	if (!sentence) {
		if (ret)
			fail_msg("%s: %s", args, err_message(err));
	} else {
		assert_int_equal(ret, -EINVAL);
		assert_string_equal(err_message(err), sentence);
	}
	err_free(err);
	json_decref(value);
}

static void values_of_builtin_types(void **state)
{
	const struct rig *rig = *state;

	check(rig, "{}", NULL);
	check(rig, "{\"text\": \"\", \"flag\": false, \"null\": null}", NULL);
	check(rig, "{\"text\": 1}", "Invalid parameter type for 'text', expected: string");
	check(rig, "{\"text\": null}", "Invalid parameter type for 'text', expected: string");
	check(rig, "{\"flag\": 0}", "Invalid parameter type for 'flag', expected: boolean");
	check(rig, "{\"null\": false}", "Invalid parameter type for 'null', expected: null");
	check(rig, "{\"number\": 1}", NULL);
	check(rig, "{\"number\": 1.5}", NULL);
	check(rig, "{\"number\": \"1\"}", "Invalid parameter type for 'number', expected: number");
	check(rig, "{\"int\": 1.0}", "Invalid parameter type for 'int', expected: integer");
	check(rig, "{\"int\": \"1\"}", "Invalid parameter type for 'int', expected: integer");
	check(rig, "{\"size\": 1e3}", "Invalid parameter type for 'size', expected: integer");
	check(rig, "{\"size\": 9223372036854775807}", NULL);
	check(rig, "{\"size\": -1}", "Parameter 'size' expects a size, which is not negative");
	check(rig, "{\"any\": [1, {\"x\": null}]}", NULL);
}

static void integers_have_their_width(void **state)
{
	static const struct {
		const char *name;
		long long min, max;
	} widths[] = {
		{"u8", 0, UINT8_MAX},          {"u16", 0, UINT16_MAX},
		{"u32", 0, UINT32_MAX},        {"i8", INT8_MIN, INT8_MAX},
		{"i16", INT16_MIN, INT16_MAX}, {"i32", INT32_MIN, INT32_MAX},
	};
	const struct rig *rig = *state;
	char text[64], sentence[64];

	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		snprintf(sentence, sizeof(sentence), "Parameter '%s' expects %sint%s_t",
			 widths[i].name, widths[i].name[0] == 'u' ? "u" : "", widths[i].name + 1);
		for (int edge = 0; edge < 2; edge++) {
			long long at = edge ? widths[i].max : widths[i].min;

			snprintf(text, sizeof(text), "{\"%s\": %lld}", widths[i].name, at);
			check(rig, text, NULL);
			snprintf(text, sizeof(text), "{\"%s\": %lld}", widths[i].name,
				 edge ? at + 1 : at - 1);
			check(rig, text, sentence);
		}
	}
	check(rig, "{\"i64\": -9223372036854775808}", NULL);
	check(rig, "{\"u64\": 9223372036854775807}", NULL);
	check(rig, "{\"u64\": -1}", "Parameter 'u64' expects uint64_t");
}

static void values_of_made_up_types(void **state)
{
	const struct rig *rig = *state;

	check(rig, "{\"mode\": \"auto\"}", NULL);
	check(rig, "{\"mode\": \"\"}", "Parameter 'mode' does not accept value ''");
	check(rig, "{\"mode\": \"on \"}", "Parameter 'mode' does not accept value 'on '");
	check(rig, "{\"mode\": true}", "Invalid parameter type for 'mode', expected: string");
	check(rig, "{\"points\": []}", NULL);
	check(rig, "{\"points\": [{\"x\": 1, \"y\": 2}, {\"x\": 1, \"y\": 2, \"label\": \"\"}]}",
	      NULL);
	check(rig, "{\"points\": {}}", "Invalid parameter type for 'points', expected: array");
	check(rig, "{\"points\": [{\"x\": 1, \"y\": 2}, {\"x\": 1}]}",
	      "Parameter 'points[1].y' is missing");
	check(rig, "{\"points\": [{\"x\": 1, \"y\": 2, \"z\": 3}]}",
	      "Parameter 'points[0].z' is unexpected");
	check(rig, "{\"points\": [[]]}",
	      "Invalid parameter type for 'points[0]', expected: object");
	check(rig, "{\"grid\": [[1, 2], [], [3]]}", NULL);
	check(rig, "{\"grid\": [[1, 2], [null]]}",
	      "Invalid parameter type for 'grid[1][0]', expected: integer");
	check(rig, "{\"grid\": [1]}", "Invalid parameter type for 'grid[0]', expected: array");
	check(rig, "{\"either\": \"x\"}", NULL);
	check(rig, "{\"either\": null}", NULL);
	check(rig, "{\"either\": {\"x\": 0, \"y\": 0}}", NULL);
	check(rig, "{\"either\": {\"x\": 0}}", "Parameter 'either.y' is missing");
	check(rig, "{\"either\": 1}", "Invalid parameter type for 'either', expected: Either");
	check(rig, "{\"shape\": {\"kind\": \"nothing\"}}", NULL);
	check(rig, "{\"shape\": {\"kind\": \"polygon\", \"points\": [], \"mode\": \"on\"}}", NULL);
	check(rig, "{\"shape\": {\"points\": []}}", "Parameter 'shape.kind' is missing");
	check(rig, "{\"shape\": {\"kind\": \"square\"}}",
	      "Parameter 'shape.kind' does not accept value 'square'");
	check(rig, "{\"shape\": {\"kind\": \"polygon\"}}", "Parameter 'shape.points' is missing");
	check(rig, "{\"shape\": {\"kind\": \"nothing\", \"points\": []}}",
	      "Parameter 'shape.points' is unexpected");
	check(rig,
	      "{\"shape\": {\"kind\": \"circle\", \"centre\": {\"x\": 1, \"y\": 1}, \"radius\": "
	      "-1}}",
	      "Parameter 'shape.radius' expects uint32_t");
	check(rig, "[]", "Invalid parameter type for 'null', expected: object");
	check(rig, "{\"nothing\": 1}", "Parameter 'nothing' is unexpected");
	check(rig, "{\"\": 1}", "Parameter '' is unexpected");
}

/* A tree of @depth trees inside each other. */
static json_t *tree(unsigned int depth)
{
	json_t *value = json_object();

	while (depth--)
		value = json_pack("{s:[o]}", "children", value);
	return value;
}

static void depth_is_bounded(void **state)
{
	const struct rig *rig = *state;
	struct err *err = NULL;
	json_t *value = tree(SCHEMA_DEPTH_MAX / 2 - 1);

	assert_int_equal(schema_check(qmp_schema(rig->qmp), "x", "Tree", value, NULL), 0);
	json_decref(value);
	value = tree(900);
	assert_int_equal(schema_check(qmp_schema(rig->qmp), "x", "Tree", value, &err), -EINVAL);
	assert_non_null(strstr(err_message(err), "nested more than 64 deep"));
	assert_memory_equal(err_message(err), "x: Parameter 'children[0].children[0]", 37);
	err_free(err);
	json_decref(value);
}

static void names_may_be_long_and_odd(void **state)
{
	const struct rig *rig = *state;
	size_t size = 100000;
	char *key = malloc(size + 1);
	json_t *value = json_object();
	struct err *err = NULL;

	memset(key, 'k', size);
	key[size] = '\0';
	json_object_set_new(value, key, json_null());
	assert_int_equal(schema_check(qmp_schema(rig->qmp), NULL, "Tree", value, &err), -EINVAL);
	assert_true(strlen(err_message(err)) < 1000);
	err_free(err);
	free(key);
	json_decref(value);
	/* No such type: a programmer's error that is told, not followed. */
	value = json_null();
	assert_int_equal(schema_check(qmp_schema(rig->qmp), "x", "Nowhere", value, &err), -EINVAL);
	assert_string_equal(err_message(err),
			    "x: Parameter 'null' is of no type: there is no 'Nowhere'");
	err_free(err);
	assert_int_equal(schema_check(qmp_schema(rig->qmp), "x", "", value, NULL), -EINVAL);
	assert_int_equal(schema_check(qmp_schema(rig->qmp), "x", "[", value, NULL), -EINVAL);
	assert_int_equal(schema_check(qmp_schema(rig->qmp), "x", "[]", value, NULL), -EINVAL);
}

static int some_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	(void)call;
	(void)args;
	(void)ret_value;
	(void)err;
	return 0;
}

/* Why a schema of these is refused. */
static void refuse(const struct command *commands, const struct qmp_type *types,
		   const struct qmp_event *events, const char *sentence)
{
	const struct qmp_module module = {commands, types, events};
	const struct qmp_module *const modules[] = {&rig_module, &module, NULL};
	struct err *err = NULL;

	assert_null(schema_new(modules, &err));
	assert_string_equal(err_message(err), sentence);
	err_free(err);
}

static void refuse_type(struct qmp_type type, const char *sentence)
{
	const struct qmp_type types[] = {type, {0}};

	refuse(NULL, types, NULL, sentence);
}

static void refuse_command(struct command command, const char *sentence)
{
	const struct command commands[] = {command, {0}};

	refuse(commands, NULL, NULL, sentence);
}

static void refuse_event(struct qmp_event event, const char *sentence)
{
	const struct qmp_event events[] = {event, {0}};

	refuse(NULL, NULL, events, sentence);
}

static void tables_that_do_not_fit(void **state)
{
	(void)state;
	refuse_type((struct qmp_type){"Mode", QMP_ENUM, "a", NULL, NULL, NULL},
		    "type Mode: there are two of this name");
	refuse_type((struct qmp_type){"size", QMP_ENUM, "a", NULL, NULL, NULL},
		    "type size: the name is that of a type of the language");
	refuse_type((struct qmp_type){"New", QMP_ENUM, "", NULL, NULL, NULL},
		    "type New: there are no members");
	refuse_type((struct qmp_type){"New", QMP_ENUM, "a b a", NULL, NULL, NULL},
		    "type New: 'a' is there twice");
	refuse_type((struct qmp_type){"New", QMP_ENUM, "a:int", NULL, NULL, NULL},
		    "type New: 'a' is to be a name alone");
	refuse_type((struct qmp_type){"New", QMP_STRUCT, "a", NULL, NULL, NULL},
		    "type New: member 'a' has no type");
	refuse_type((struct qmp_type){"New", QMP_STRUCT, "a:", NULL, NULL, NULL},
		    "type New: 'a:' has no type after its colon");
	refuse_type((struct qmp_type){"New", QMP_STRUCT, "*:int", NULL, NULL, NULL},
		    "type New: ':int' has no name");
	refuse_type((struct qmp_type){"New", QMP_STRUCT, "a:Nowhere", NULL, NULL, NULL},
		    "type New: member 'a': there is no type 'Nowhere'");
	refuse_type((struct qmp_type){"New", QMP_STRUCT, "a:[[Nowhere]]", NULL, NULL, NULL},
		    "type New: member 'a': there is no type '[[Nowhere]]'");
	refuse_type((struct qmp_type){"New", QMP_UNION, "a:Mode", NULL, NULL, NULL},
		    "type New: the tag is to be a member that must be given");
	refuse_type((struct qmp_type){"New", QMP_UNION, "*a:Mode", "a", NULL, NULL},
		    "type New: the tag is to be a member that must be given");
	refuse_type((struct qmp_type){"New", QMP_UNION, "a:Point", "a", NULL, NULL},
		    "type New: the tag 'a' is to be an enum");
	refuse_type((struct qmp_type){"New", QMP_UNION, "a:Mode", "a", "on", NULL},
		    "type New: variant 'on' has no type");
	refuse_type((struct qmp_type){"New", QMP_UNION, "a:Mode", "a", "up:Point", NULL},
		    "type New: 'up' is no value of Mode");
	refuse_type((struct qmp_type){"New", QMP_UNION, "a:Mode", "a", "on:Mode", NULL},
		    "type New: variant 'on': 'Mode' is no struct");
	refuse_type((struct qmp_type){"New", QMP_UNION, "a:Mode x:int", "a", "on:Point", NULL},
		    "type New: variant 'on': member 'x' is there already");
	refuse_type((struct qmp_type){"New", QMP_ALTERNATE, "a:str b:Mode", NULL, NULL, NULL},
		    "type New: alternative 'b' is like another one");
	refuse_type((struct qmp_type){"New", QMP_ALTERNATE, "a:int b:number", NULL, NULL, NULL},
		    "type New: alternative 'b' is like another one");
	refuse_type((struct qmp_type){"New", QMP_STRUCT, "", NULL, NULL, "a:int"},
		    "type New: 'a' is to be a name alone");

	refuse_command((struct command){.name = "echo", .run = some_run},
		       "command echo: there are two of this name");
	refuse_command((struct command){.name = "new"}, "command new: nothing runs it");
	refuse_command((struct command){.name = "new", .run = some_run, .args = "Nowhere"},
		       "command new: 'Nowhere' is no struct or union");
	refuse_command((struct command){.name = "new", .run = some_run, .args = "Mode"},
		       "command new: 'Mode' is no struct or union");
	refuse_command((struct command){.name = "new", .run = some_run, .args = "a:int b:Nowhere"},
		       "command new: member 'b': there is no type 'Nowhere'");
	refuse_command((struct command){.name = "new", .run = some_run, .returns = "[Nowhere]"},
		       "command new: there is no type '[Nowhere]'");
	refuse_command((struct command){.name = "new", .run = some_run, .features = "a *b"},
		       "command new: 'b' is to be a name alone");

	refuse_event((struct qmp_event){.name = "PLAIN"},
		     "event PLAIN: there are two of this name");
	refuse_event((struct qmp_event){.name = "NEW", .data = "Nowhere"},
		     "event NEW: 'Nowhere' is no struct or union");
	refuse_event((struct qmp_event){.name = "NEW", .data = "a:int", .rate_ms = 1, .key = "b"},
		     "event NEW: the key 'b' is no member of its data");
}

static void commands_and_events_are_found(void **state)
{
	const struct schema *schema = qmp_schema(((struct rig *)*state)->qmp);
	const struct command *command, *before = NULL;
	size_t count = 0;

	for (; (command = schema_command_at(schema, count)); before = command, count++) {
		assert_ptr_equal(schema_command(schema, command->name), command);
		if (before)
			assert_true(strcmp(before->name, command->name) < 0);
	}
	assert_true(count > 10);
	assert_null(schema_command(schema, "ech"));
	assert_null(schema_command(schema, "echoo"));
	assert_null(schema_command(schema, ""));
	assert_non_null(schema_event(schema, "SLOW"));
	assert_null(schema_event(schema, "SLOWER"));
	schema_free(NULL);
}

/* The entry of this name. */
static const json_t *info(const json_t *list, const char *name)
{
	const json_t *entry;
	size_t i;

	json_array_foreach ((json_t *)list, i, entry)
		if (!strcmp(json_string_value(json_object_get(entry, "name")), name))
			return entry;
	return NULL;
}

static const json_t *at(const json_t *list, const json_t *object, const char *key)
{
	const json_t *entry = info(list, json_string_value(json_object_get(object, key)));

	assert_non_null(entry);
	return entry;
}

static const json_t *member(const json_t *object, const char *list, const char *key,
			    const char *name)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (json_object_get(object, list), i, entry)
		if (!strcmp(json_string_value(json_object_get(entry, key)), name))
			return entry;
	fail_msg("there is no %s '%s'", key, name);
	return NULL;
}

static void assert_json(const json_t *value, const char *text)
{
	json_t *expected = parse(text);

	if (!json_equal(value, expected))
		fail_msg("%s != %s", json_dumps(value, JSON_ENCODE_ANY), text);
	json_decref(expected);
}

static void introspection_tells_all(void **state)
{
	const struct rig *rig = *state;
	json_t *list = schema_introspect(qmp_schema(rig->qmp));
	const json_t *echo, *args, *point, *shape, *one;

	/* It is of the type that it says itself. */
	assert_int_equal(schema_check(qmp_schema(rig->qmp), "x", "[SchemaInfo]", list, NULL), 0);
	echo = info(list, "echo");
	assert_string_equal(json_string_value(json_object_get(echo, "meta-type")), "command");
	assert_string_equal(json_string_value(json_object_get(echo, "ret-type")), "any");
	assert_null(json_object_get(echo, "allow-oob"));
	assert_true(json_is_true(json_object_get(info(list, "urgent"), "allow-oob")));
	args = at(list, echo, "arg-type");
	assert_string_equal(json_string_value(json_object_get(args, "meta-type")), "object");
	one = member(args, "members", "name", "u8");
	assert_string_equal(json_string_value(json_object_get(one, "type")), "int");
	assert_true(json_is_null(json_object_get(one, "default")));
	assert_json(json_object_get(at(list, one, "type"), "json-type"), "\"int\"");
	one = member(args, "members", "name", "grid");
	assert_string_equal(json_string_value(json_object_get(one, "type")), "[[int]]");
	assert_json(json_object_get(at(list, one, "type"), "element-type"), "\"[int]\"");
	assert_json(json_object_get(info(list, "[int]"), "meta-type"), "\"array\"");
	one = at(list, member(args, "members", "name", "mode"), "type");
	assert_json(json_object_get(one, "values"), "[\"on\", \"off\", \"auto\"]");
	assert_json(json_object_get(one, "members"),
		    "[{\"name\": \"on\"}, {\"name\": \"off\", \"features\": [\"unstable\"]}, "
		    "{\"name\": \"auto\"}]");
	one = at(list, member(args, "members", "name", "either"), "type");
	assert_json(json_object_get(one, "meta-type"), "\"alternate\"");
	assert_int_equal(json_array_size(json_object_get(one, "members")), 3);

	point = info(list, "point");
	assert_json(json_object_get(point, "features"), "[\"shiny\", \"new\"]");
	assert_true(
		json_equal(json_object_get(point, "arg-type"), json_object_get(point, "ret-type")));
	one = member(at(list, point, "arg-type"), "members", "name", "label");
	assert_json(json_object_get(one, "features"), "[\"unstable\"]");
	assert_null(json_object_get(member(at(list, point, "arg-type"), "members", "name", "x"),
				    "default"));

	shape = at(list, info(list, "shape"), "arg-type");
	assert_json(json_object_get(shape, "tag"), "\"kind\"");
	assert_json(json_object_get(shape, "features"), "[\"drawn\"]");
	assert_int_equal(json_array_size(json_object_get(shape, "variants")), 3);
	one = at(list, member(shape, "variants", "case", "circle"), "type");
	member(one, "members", "name", "radius");
	one = at(list, member(shape, "variants", "case", "nothing"), "type");
	assert_json(json_object_get(one, "members"), "[]");
	/* Nothing taken, nothing given: the same empty object. */
	one = at(list, info(list, "nothing"), "arg-type");
	assert_json(json_object_get(one, "members"), "[]");
	assert_ptr_equal(one, at(list, info(list, "nothing"), "ret-type"));
	assert_ptr_equal(one, at(list, info(list, "EMPTY"), "arg-type"));
	one = info(list, "KEYED");
	assert_json(json_object_get(one, "meta-type"), "\"event\"");
	member(at(list, one, "arg-type"), "members", "name", "id");
	/* Commands of people, and the names of types, are not told. */
	assert_null(info(list, "info reverse|r"));
	assert_null(info(list, "Point"));
	json_decref(list);
}

/* Each name is told once, and each that is spoken of is told. */
static void introspection_is_closed(void **state)
{
	const struct rig *rig = *state;
	json_t *list = schema_introspect(qmp_schema(rig->qmp)), *names = json_object(), *entry,
	       *part;
	static const char *const refs[] = {"arg-type", "ret-type", "element-type"};
	static const char *const lists[] = {"members", "variants"};
	const char *text;
	size_t i, j, k;

	json_array_foreach (list, i, entry) {
		text = json_string_value(json_object_get(entry, "name"));
		assert_null(json_object_get(names, text));
		json_object_set(names, text, entry);
	}
	json_array_foreach (list, i, entry) {
		for (j = 0; j < ARRAY_SIZE(refs); j++) {
			text = json_string_value(json_object_get(entry, refs[j]));
			assert_true(!text || json_object_get(names, text));
		}
		for (j = 0; j < ARRAY_SIZE(lists); j++) {
			json_array_foreach (json_object_get(entry, lists[j]), k, part) {
				text = json_string_value(json_object_get(part, "type"));
				assert_true(!text || json_object_get(names, text));
			}
		}
	}
	json_decref(names);
	json_decref(list);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(values_of_builtin_types),       T(integers_have_their_width),
		T(values_of_made_up_types),       T(depth_is_bounded),
		T(names_may_be_long_and_odd),     cmocka_unit_test(tables_that_do_not_fit),
		T(commands_and_events_are_found), T(introspection_tells_all),
		T(introspection_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
