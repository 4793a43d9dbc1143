/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * query-qmp-schema: the schema as a list of SchemaInfo, in the form that clients look through.
 *
 * Names of types are no part of the interface and are masked by numbers, given in the order in
 * which types are met, beginning from commands and events: a type that nothing refers to is not
 * told. Lists are "[element]", builtin types keep their names, integers of all widths are "int".
 */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "qmp/command.h"
#include "qmp/schema_internal.h"

struct introspect {
	const struct schema *schema;
	json_t *list;  /* of SchemaInfo */
	json_t *masks; /* name of a type -> its mask */
	json_t *queue; /* names of types to be told yet, in order */
	json_t *told;  /* builtins and lists that were told: a set */
	bool failed;
};

static const char *introspect_builtin_name(const struct schema_builtin *builtin)
{
	static const char *const names[] = {
		[SCHEMA_STR] = "str",       [SCHEMA_BOOL] = "bool", [SCHEMA_INT] = "int",
		[SCHEMA_NUMBER] = "number", [SCHEMA_NULL] = "null", [SCHEMA_ANY] = "any",
	};

	return names[builtin->kind];
}

static const char *introspect_json_type(const struct schema_builtin *builtin)
{
	static const char *const names[] = {
		[SCHEMA_STR] = "string",    [SCHEMA_BOOL] = "boolean", [SCHEMA_INT] = "int",
		[SCHEMA_NUMBER] = "number", [SCHEMA_NULL] = "null",    [SCHEMA_ANY] = "value",
	};

	return names[builtin->kind];
}

/*
 * Put @value (taken over, NULL: memory was out) under @key. It is returned, owned by @object (NULL:
 * there was none), or else gone, and NULL is.
 */
static json_t *introspect_set(struct introspect *in, json_t *object, const char *key, json_t *value)
{
	if (!json_object_set_new(object, key, value))
		return value;
	in->failed = true;
	return NULL;
}

/* The same at the end of @array. */
static json_t *introspect_append(struct introspect *in, json_t *array, json_t *value)
{
	if (!json_array_append_new(array, value))
		return value;
	in->failed = true;
	return NULL;
}

/* A new SchemaInfo in the list, owned by that; NULL when memory is out. */
static json_t *introspect_add(struct introspect *in, const char *name, const char *meta)
{
	return introspect_append(in, in->list,
				 json_pack("{s:s, s:s}", "name", name, "meta-type", meta));
}

/* @name's mask. The first time the type is put to the queue. NULL when memory is out. */
static const char *introspect_mask(struct introspect *in, const char *name)
{
	char mask[24];

	if (!json_object_get(in->masks, name)) {
		snprintf(mask, sizeof(mask), "%zu", json_object_size(in->masks));
		introspect_set(in, in->masks, name, json_string(mask));
		introspect_append(in, in->queue, json_string(name));
	}
	return json_string_value(json_object_get(in->masks, name));
}

/* What the type that @size bytes of @type spell is called: a new string. */
static json_t *introspect_type(struct introspect *in, const char *type, size_t size)
{
	const struct schema_builtin *builtin;
	const struct schema_type *row;
	const char *name = NULL;
	json_t *element, *list, *info;

	if (schema_list_element(&type, &size)) {
		element = introspect_type(in, type, size);
		list = json_sprintf("[%s]", element ? json_string_value(element) : "");
		if (list && !json_object_get(in->told, json_string_value(list))) {
			introspect_set(in, in->told, json_string_value(list), json_true());
			info = introspect_add(in, json_string_value(list), "array");
			introspect_set(in, info, "element-type", json_incref(element));
		}
		json_decref(element);
		return list;
	}
	builtin = schema_builtin_find(type, size);
	if (!builtin) {
		row = schema_type_find(in->schema, type, size);
		name = row ? introspect_mask(in, row->def->name) : NULL;
		return name ? json_string(name) : NULL;
	}
	name = introspect_builtin_name(builtin);
	if (!json_object_get(in->told, name)) {
		introspect_set(in, in->told, name, json_true());
		info = introspect_add(in, name, "builtin");
		introspect_set(in, info, "json-type", json_string(introspect_json_type(builtin)));
	}
	return json_string(name);
}

static void introspect_features(struct introspect *in, json_t *info, char *const *features)
{
	json_t *list;

	if (!features)
		return;
	list = json_array();
	for (; *features; features++)
		introspect_append(in, list, json_string(*features));
	introspect_set(in, info, "features", list);
}

static void introspect_feature_words(struct introspect *in, json_t *info,
				     const struct schema_members *features)
{
	json_t *list;

	if (!features->count)
		return;
	list = json_array();
	for (size_t i = 0; i < features->count; i++)
		introspect_append(in, list, json_string(features->list[i].name));
	introspect_set(in, info, "features", list);
}

static void introspect_members(struct introspect *in, json_t *info,
			       const struct schema_members *members)
{
	json_t *list = introspect_set(in, info, "members", json_array());

	for (size_t i = 0; i < members->count; i++) {
		const struct schema_member *m = &members->list[i];
		json_t *one = introspect_append(in, list, json_object());

		introspect_set(in, one, "name", json_string(m->name));
		introspect_set(in, one, "type", introspect_type(in, m->type, strlen(m->type)));
		if (m->optional)
			introspect_set(in, one, "default", json_null());
		introspect_features(in, one, m->features);
	}
}

/* Arguments or data: the name of their type; without any it is that of an empty object. */
static json_t *introspect_data(struct introspect *in, const struct schema_data *data,
			       const char *kind, const char *owner)
{
	char name[256];
	const char *mask;

	if (data->type)
		return introspect_type(in, data->type->def->name, strlen(data->type->def->name));
	/* No name of a type begins with a colon. */
	snprintf(name, sizeof(name), ":%s:%s", data->members.count ? kind : "none",
		 data->members.count ? owner : "");
	mask = introspect_mask(in, name);
	return mask ? json_string(mask) : NULL;
}

static void introspect_command(struct introspect *in, const struct schema_command *row)
{
	static const struct schema_data none;
	json_t *info = introspect_add(in, row->def->name, "command");
	const char *returns = row->def->returns;

	introspect_set(in, info, "arg-type",
		       introspect_data(in, &row->args, "command", row->def->name));
	introspect_set(in, info, "ret-type",
		       returns ? introspect_type(in, returns, strlen(returns))
			       : introspect_data(in, &none, "", ""));
	if (row->def->flags & COMMAND_OOB)
		introspect_set(in, info, "allow-oob", json_true());
	introspect_feature_words(in, info, &row->features);
}

static void introspect_event(struct introspect *in, const struct schema_event *row)
{
	json_t *info = introspect_add(in, row->def->name, "event");

	introspect_set(in, info, "arg-type",
		       introspect_data(in, &row->data, "event", row->def->name));
}

static void introspect_enum(struct introspect *in, const char *mask, const struct schema_type *type)
{
	json_t *info = introspect_add(in, mask, "enum");
	json_t *members = introspect_set(in, info, "members", json_array());
	json_t *values = introspect_set(in, info, "values", json_array());

	for (size_t i = 0; i < type->members.count; i++) {
		const char *name = type->members.list[i].name;
		json_t *one = introspect_append(in, members, json_pack("{s:s}", "name", name));

		introspect_features(in, one, type->members.list[i].features);
		introspect_append(in, values, json_string(name));
	}
	introspect_feature_words(in, info, &type->features);
}

static void introspect_alternate(struct introspect *in, const char *mask,
				 const struct schema_type *type)
{
	json_t *info = introspect_add(in, mask, "alternate");
	json_t *members = introspect_set(in, info, "members", json_array());

	for (size_t i = 0; i < type->members.count; i++) {
		const char *text = type->members.list[i].type;
		json_t *one = introspect_append(in, members, json_object());

		introspect_set(in, one, "type", introspect_type(in, text, strlen(text)));
	}
	introspect_feature_words(in, info, &type->features);
}

/* Every value of the tag is a case; one without a variant adds an empty object. */
static void introspect_variants(struct introspect *in, json_t *info, const struct schema_type *type)
{
	static const struct schema_data none;
	const struct schema_member *tag = schema_members_find(&type->members, type->def->tag);
	const struct schema_type *values =
		schema_type_find(in->schema, tag->type, strlen(tag->type));
	json_t *variants;

	introspect_set(in, info, "tag", json_string(tag->name));
	variants = introspect_set(in, info, "variants", json_array());
	for (size_t i = 0; i < values->members.count; i++) {
		const char *value = values->members.list[i].name;
		const struct schema_type *variant = schema_variant(in->schema, type, value);
		const char *name = variant ? variant->def->name : NULL;
		json_t *one = introspect_append(in, variants, json_pack("{s:s}", "case", value));

		introspect_set(in, one, "type",
			       name ? introspect_type(in, name, strlen(name))
				    : introspect_data(in, &none, "", ""));
	}
}

static void introspect_object(struct introspect *in, const char *mask,
			      const struct schema_type *type)
{
	json_t *info = introspect_add(in, mask, "object");

	introspect_members(in, info, &type->members);
	if (type->def->kind == QMP_UNION)
		introspect_variants(in, info, type);
	introspect_feature_words(in, info, &type->features);
}

/* Members of a command or event, by the name that introspect_data() made up. */
static const struct schema_members *introspect_owner(struct introspect *in, const char *name)
{
	static const struct schema_members none;
	const struct schema *schema = in->schema;

	if (!strncmp(name, ":command:", 9))
		return &schema_command_find(schema, name + 9)->args.members;
	if (!strncmp(name, ":event:", 7))
		for (size_t i = 0; i < schema->nr_events; i++)
			if (!strcmp(schema->events[i].def->name, name + 7))
				return &schema->events[i].data.members;
	return &none;
}

/* Tell the type of this name. */
static void introspect_tell(struct introspect *in, const char *name)
{
	const char *mask = json_string_value(json_object_get(in->masks, name));
	const struct schema_type *type = schema_type_find(in->schema, name, strlen(name));

	if (!mask)
		return;
	if (!type)
		introspect_members(in, introspect_add(in, mask, "object"),
				   introspect_owner(in, name));
	else if (type->def->kind == QMP_ENUM)
		introspect_enum(in, mask, type);
	else if (type->def->kind == QMP_ALTERNATE)
		introspect_alternate(in, mask, type);
	else
		introspect_object(in, mask, type);
}

json_t *schema_introspect(const struct schema *schema)
{
	struct introspect in = {
		.schema = schema,
		.list = json_array(),
		.masks = json_object(),
		.queue = json_array(),
		.told = json_object(),
	};

	in.failed = !in.list || !in.masks || !in.queue || !in.told;
	for (size_t i = 0; !in.failed && i < schema->nr_commands; i++)
		introspect_command(&in, &schema->commands[i]);
	for (size_t i = 0; !in.failed && i < schema->nr_events; i++)
		introspect_event(&in, &schema->events[i]);
	for (size_t i = 0; !in.failed && i < json_array_size(in.queue); i++)
		introspect_tell(&in, json_string_value(json_array_get(in.queue, i)));
	json_decref(in.masks);
	json_decref(in.queue);
	json_decref(in.told);
	if (!in.failed)
		return in.list;
	json_decref(in.list);
	return NULL;
}
