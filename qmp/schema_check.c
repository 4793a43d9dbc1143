/* SPDX-License-Identifier: BSD-3-Clause */
/* Is a value of a type? See schema.h. The sentences are those that clients know. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "qmp/schema_internal.h"

/* Where in the value: "props.list[3]", the innermost part first. */
struct schema_path {
	const struct schema_path *up;
	const char *name; /* NULL: an item of a list */
	size_t index;
};

struct schema_walk {
	const struct schema *schema;
	struct err **err;
};

static size_t schema_path_text(const struct schema_path *path, char *buf, size_t size)
{
	size_t used = path->up ? schema_path_text(path->up, buf, size) : 0;
	int more;

	if (used >= size)
		return used;
	if (path->name)
		more = snprintf(buf + used, size - used, "%s%.200s", used ? "." : "", path->name);
	else
		more = snprintf(buf + used, size - used, "[%zu]", path->index);
	return used + (size_t)more;
}

__attribute__((format(printf, 3, 4))) static int
schema_refuse(struct schema_walk *walk, const struct schema_path *path, const char *fmt, ...)
{
	char where[512] = "", why[512];
	va_list ap;

	if (path)
		schema_path_text(path, where, sizeof(where));
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return err_set(walk->err, EINVAL, "Parameter '%s' %s", path ? where : "null", why);
}

static int schema_refuse_type(struct schema_walk *walk, const struct schema_path *path,
			      const char *expected)
{
	char where[512] = "";

	if (path)
		schema_path_text(path, where, sizeof(where));
	return err_set(walk->err, EINVAL, "Invalid parameter type for '%s', expected: %s",
		       path ? where : "null", expected);
}

static int schema_check_builtin(struct schema_walk *walk, const struct schema_path *path,
				const struct schema_builtin *type, const json_t *value)
{
	json_int_t number;

	switch (type->kind) {
	case SCHEMA_STR:
		return json_is_string(value) ? 0 : schema_refuse_type(walk, path, "string");
	case SCHEMA_BOOL:
		return json_is_boolean(value) ? 0 : schema_refuse_type(walk, path, "boolean");
	case SCHEMA_NUMBER:
		return json_is_number(value) ? 0 : schema_refuse_type(walk, path, "number");
	case SCHEMA_NULL:
		return json_is_null(value) ? 0 : schema_refuse_type(walk, path, "null");
	case SCHEMA_ANY:
		return 0;
	case SCHEMA_INT:
		break;
	}
	if (!json_is_integer(value))
		return schema_refuse_type(walk, path, "integer");
	number = json_integer_value(value);
	if (number < type->min || number > type->max)
		return schema_refuse(walk, path, "expects %s", type->spelled);
	return 0;
}

static int schema_check_value(struct schema_walk *walk, const struct schema_path *path,
			      const char *type, size_t size, const json_t *value,
			      unsigned int depth);

static int schema_check_list(struct schema_walk *walk, const struct schema_path *path,
			     const char *type, size_t size, const json_t *value, unsigned int depth)
{
	struct schema_path item = {.up = path};
	int ret = 0;

	if (!json_is_array(value))
		return schema_refuse_type(walk, path, "array");
	for (; !ret && item.index < json_array_size(value); item.index++)
		ret = schema_check_value(walk, &item, type, size, json_array_get(value, item.index),
					 depth);
	return ret;
}

/* The members that @value has of these; others of it are not looked at. */
static int schema_check_list_of_members(struct schema_walk *walk, const struct schema_path *path,
					const struct schema_members *members, const json_t *value,
					unsigned int depth)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < members->count; i++) {
		const struct schema_member *member = &members->list[i];
		const struct schema_path at = {.up = path, .name = member->name};
		const json_t *part = json_object_get(value, member->name);

		if (part)
			ret = schema_check_value(walk, &at, member->type, strlen(member->type),
						 part, depth);
		else if (!member->optional)
			ret = schema_refuse(walk, &at, "is missing");
	}
	return ret;
}

static int schema_check_unknown(struct schema_walk *walk, const struct schema_path *path,
				const struct schema_members *members,
				const struct schema_members *more, const json_t *value)
{
	const char *key;
	json_t *part;

	json_object_foreach ((json_t *)value, key, part) {
		const struct schema_path at = {.up = path, .name = key};

		if (!schema_members_find(members, key) && !(more && schema_members_find(more, key)))
			return schema_refuse(walk, &at, "is unexpected");
	}
	return 0;
}

static int schema_check_object(struct schema_walk *walk, const struct schema_path *path,
			       const struct schema_type *type, const struct schema_members *members,
			       const json_t *value, unsigned int depth)
{
	const struct schema_type *variant = NULL;
	int ret;

	if (!json_is_object(value))
		return schema_refuse_type(walk, path, "object");
	ret = schema_check_list_of_members(walk, path, members, value, depth);
	if (ret)
		return ret;
	if (type && type->def->kind == QMP_UNION)
		variant = schema_variant(walk->schema, type,
					 json_string_value(json_object_get(value, type->def->tag)));
	if (variant)
		ret = schema_check_list_of_members(walk, path, &variant->members, value, depth);
	if (!ret)
		ret = schema_check_unknown(walk, path, members, variant ? &variant->members : NULL,
					   value);
	return ret;
}

static int schema_check_enum(struct schema_walk *walk, const struct schema_path *path,
			     const struct schema_type *type, const json_t *value)
{
	const char *text = json_string_value(value);

	if (!text)
		return schema_refuse_type(walk, path, "string");
	if (strlen(text) == json_string_length(value) && schema_members_find(&type->members, text))
		return 0;
	return schema_refuse(walk, path, "does not accept value '%.200s'", text);
}

static int schema_check_alternatives(struct schema_walk *walk, const struct schema_path *path,
				     const struct schema_type *type, const json_t *value,
				     unsigned int depth)
{
	for (size_t i = 0; i < type->members.count; i++) {
		const char *text = type->members.list[i].type;

		if (schema_json_types(walk->schema, text) >> json_typeof(value) & 1)
			return schema_check_value(walk, path, text, strlen(text), value, depth);
	}
	return schema_refuse_type(walk, path, type->def->name);
}

static int schema_check_value(struct schema_walk *walk, const struct schema_path *path,
			      const char *type, size_t size, const json_t *value,
			      unsigned int depth)
{
	const struct schema_builtin *builtin = schema_builtin_find(type, size);
	const struct schema_type *row;

	if (builtin)
		return schema_check_builtin(walk, path, builtin, value);
	if (depth == SCHEMA_DEPTH_MAX)
		return schema_refuse(walk, path, "is nested more than %d deep", SCHEMA_DEPTH_MAX);
	if (schema_list_element(&type, &size))
		return schema_check_list(walk, path, type, size, value, depth + 1);
	row = schema_type_find(walk->schema, type, size);
	if (!row)
		return schema_refuse(walk, path, "is of no type: there is no '%.*s'", (int)size,
				     type);
	switch (row->def->kind) {
	case QMP_ENUM:
		return schema_check_enum(walk, path, row, value);
	case QMP_ALTERNATE:
		return schema_check_alternatives(walk, path, row, value, depth + 1);
	case QMP_STRUCT:
	case QMP_UNION:
		break;
	}
	return schema_check_object(walk, path, row, &row->members, value, depth + 1);
}

unsigned int schema_json_types(const struct schema *schema, const char *type)
{
	const struct schema_builtin *builtin = schema_builtin_find(type, strlen(type));
	const struct schema_type *row = schema_type_find(schema, type, strlen(type));

	if (builtin) {
		switch (builtin->kind) {
		case SCHEMA_STR:
			return 1u << JSON_STRING;
		case SCHEMA_BOOL:
			return 1u << JSON_TRUE | 1u << JSON_FALSE;
		case SCHEMA_INT:
			return 1u << JSON_INTEGER;
		case SCHEMA_NUMBER:
			return 1u << JSON_INTEGER | 1u << JSON_REAL;
		case SCHEMA_NULL:
			return 1u << JSON_NULL;
		case SCHEMA_ANY:
			return ~0u;
		}
	}
	if (!row)
		return 1u << JSON_ARRAY;
	if (row->def->kind == QMP_ENUM)
		return 1u << JSON_STRING;
	/* An alternate inside another one is like anything. */
	return row->def->kind == QMP_ALTERNATE ? ~0u : 1u << JSON_OBJECT;
}

static int schema_prefix(const char *what, int ret, struct err **err)
{
	if (ret && what)
		err_prefix(err, "%s", what);
	return ret;
}

int schema_check(const struct schema *schema, const char *what, const char *type,
		 const json_t *value, struct err **err)
{
	struct schema_walk walk = {schema, err};

	return schema_prefix(what, schema_check_value(&walk, NULL, type, strlen(type), value, 0),
			     err);
}

int schema_check_data(const struct schema *schema, const char *what, const struct schema_data *data,
		      const json_t *value, struct err **err)
{
	struct schema_walk walk = {schema, err};
	const struct schema_members *members = data->type ? &data->type->members : &data->members;

	if (data->open && json_is_object(value))
		return schema_prefix(
			what, schema_check_list_of_members(&walk, NULL, members, value, 0), err);
	return schema_prefix(what, schema_check_object(&walk, NULL, data->type, members, value, 0),
			     err);
}

int schema_check_members(const struct schema *schema, const char *what, const char *members,
			 const json_t *value, struct err **err)
{
	struct schema_data data = {0};
	int ret = schema_members_parse(members, &data.members, err);

	if (ret)
		return schema_prefix(what, ret, err);
	ret = schema_check_data(schema, what, &data, value, err);
	schema_members_done(&data.members);
	return ret;
}
