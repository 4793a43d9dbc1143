/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of a schema, and that they fit together: see schema.h. */
#include "qmp/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/command.h"
#include "qmp/schema_internal.h"

#define JSON_INT_MAX INT64_MAX

static const struct schema_builtin schema_builtins[] = {
	{"str", SCHEMA_STR, 0, 0, NULL},
	{"bool", SCHEMA_BOOL, 0, 0, NULL},
	{"number", SCHEMA_NUMBER, 0, 0, NULL},
	{"null", SCHEMA_NULL, 0, 0, NULL},
	{"any", SCHEMA_ANY, 0, 0, NULL},
	{"int", SCHEMA_INT, INT64_MIN, INT64_MAX, "int64_t"},
	{"size", SCHEMA_INT, 0, JSON_INT_MAX, "a size, which is not negative"},
	{"uint8", SCHEMA_INT, 0, UINT8_MAX, "uint8_t"},
	{"uint16", SCHEMA_INT, 0, UINT16_MAX, "uint16_t"},
	{"uint32", SCHEMA_INT, 0, UINT32_MAX, "uint32_t"},
	{"uint64", SCHEMA_INT, 0, JSON_INT_MAX, "uint64_t"},
	{"int8", SCHEMA_INT, INT8_MIN, INT8_MAX, "int8_t"},
	{"int16", SCHEMA_INT, INT16_MIN, INT16_MAX, "int16_t"},
	{"int32", SCHEMA_INT, INT32_MIN, INT32_MAX, "int32_t"},
	{"int64", SCHEMA_INT, INT64_MIN, INT64_MAX, "int64_t"},
};

const struct schema_builtin *schema_builtin_find(const char *name, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(schema_builtins); i++)
		if (strlen(schema_builtins[i].name) == size &&
		    !memcmp(schema_builtins[i].name, name, size))
			return &schema_builtins[i];
	return NULL;
}

bool schema_list_element(const char **type, size_t *size)
{
	if (*size < 2 || **type != '[' || (*type)[*size - 1] != ']')
		return false;
	*type += 1;
	*size -= 2;
	return true;
}

/* Every row of the sorted tables begins with a pointer to its definition, and that with its name. */
struct schema_name {
	const char *text;
	size_t size;
};

static int schema_name_compare(const struct schema_name *name, const char *other)
{
	int order = strncmp(name->text, other, name->size);

	return order ? order : -(other[name->size] != '\0');
}

static int schema_type_match(const void *key, const void *row)
{
	return schema_name_compare(key, ((const struct schema_type *)row)->def->name);
}

static int schema_command_match(const void *key, const void *row)
{
	return schema_name_compare(key, ((const struct schema_command *)row)->def->name);
}

static int schema_event_match(const void *key, const void *row)
{
	return schema_name_compare(key, ((const struct schema_event *)row)->def->name);
}

static int schema_type_order(const void *a, const void *b)
{
	const struct schema_type *x = a, *y = b;

	return strcmp(x->def->name, y->def->name);
}

static int schema_command_order(const void *a, const void *b)
{
	const struct schema_command *x = a, *y = b;

	return strcmp(x->def->name, y->def->name);
}

static int schema_event_order(const void *a, const void *b)
{
	const struct schema_event *x = a, *y = b;

	return strcmp(x->def->name, y->def->name);
}

const struct schema_type *schema_type_find(const struct schema *schema, const char *name,
					   size_t size)
{
	struct schema_name key = {name, size};

	return bsearch(&key, schema->types, schema->nr_types, sizeof(*schema->types),
		       schema_type_match);
}

const struct schema_command *schema_command_find(const struct schema *schema, const char *name)
{
	struct schema_name key = {name, strlen(name)};

	return bsearch(&key, schema->commands, schema->nr_commands, sizeof(*schema->commands),
		       schema_command_match);
}

const struct command *schema_command(const struct schema *schema, const char *name)
{
	const struct schema_command *row = schema_command_find(schema, name);

	return row ? row->def : NULL;
}

const struct command *schema_command_at(const struct schema *schema, size_t index)
{
	return index < schema->nr_commands ? schema->commands[index].def : NULL;
}

const struct qmp_event *schema_event(const struct schema *schema, const char *name)
{
	struct schema_name key = {name, strlen(name)};
	const struct schema_event *row = bsearch(&key, schema->events, schema->nr_events,
						 sizeof(*schema->events), schema_event_match);

	return row ? row->def : NULL;
}

const struct schema_type *schema_variant(const struct schema *schema,
					 const struct schema_type *type, const char *value)
{
	const struct schema_member *variant = schema_members_find(&type->variants, value);

	return variant ? schema_type_find(schema, variant->type, strlen(variant->type)) : NULL;
}

/* Copy the modules' rows to the tables, which have room for them. */
static void schema_collect(struct schema *schema, const struct qmp_module *module)
{
	for (const struct qmp_type *t = module->types; t && t->name; t++)
		schema->types[schema->nr_types++].def = t;
	for (const struct command *c = module->commands; c && (c->name || c->human); c++)
		if (c->name)
			schema->commands[schema->nr_commands++].def = c;
	for (const struct qmp_event *e = module->events; e && e->name; e++)
		schema->events[schema->nr_events++].def = e;
}

static int schema_tables_make(struct schema *schema, const struct qmp_module *const *modules,
			      struct err **err)
{
	size_t types = 1, commands = 1, events = 1;

	for (size_t i = 0; modules[i]; i++) {
		for (const struct qmp_type *t = modules[i]->types; t && t->name; t++)
			types++;
		for (const struct command *c = modules[i]->commands; c && (c->name || c->human);
		     c++)
			commands++;
		for (const struct qmp_event *e = modules[i]->events; e && e->name; e++)
			events++;
	}
	schema->types = calloc(types, sizeof(*schema->types));
	schema->commands = calloc(commands, sizeof(*schema->commands));
	schema->events = calloc(events, sizeof(*schema->events));
	if (!schema->types || !schema->commands || !schema->events)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; modules[i]; i++)
		schema_collect(schema, modules[i]);
	qsort(schema->types, schema->nr_types, sizeof(*schema->types), schema_type_order);
	qsort(schema->commands, schema->nr_commands, sizeof(*schema->commands),
	      schema_command_order);
	qsort(schema->events, schema->nr_events, sizeof(*schema->events), schema_event_order);
	return 0;
}

static int schema_twice(const struct schema *schema, struct err **err)
{
	for (size_t i = 1; i < schema->nr_types; i++)
		if (!schema_type_order(&schema->types[i - 1], &schema->types[i]))
			return err_set(err, EINVAL, "type %s: there are two of this name",
				       schema->types[i].def->name);
	for (size_t i = 1; i < schema->nr_commands; i++)
		if (!schema_command_order(&schema->commands[i - 1], &schema->commands[i]))
			return err_set(err, EINVAL, "command %s: there are two of this name",
				       schema->commands[i].def->name);
	for (size_t i = 1; i < schema->nr_events; i++)
		if (!schema_event_order(&schema->events[i - 1], &schema->events[i]))
			return err_set(err, EINVAL, "event %s: there are two of this name",
				       schema->events[i].def->name);
	return 0;
}

/* Is there a type that @text spells? */
static int schema_check_reference(const struct schema *schema, const char *text, struct err **err)
{
	const char *type = text;
	size_t size = strlen(text);

	while (schema_list_element(&type, &size))
		;
	if (schema_builtin_find(type, size)) {
		if (schema_type_find(schema, type, size))
			return err_set(err, EINVAL, "'%.*s' is a type of the language", (int)size,
				       type);
		return 0;
	}
	if (!schema_type_find(schema, type, size))
		return err_set(err, EINVAL, "there is no type '%s'", text);
	return 0;
}

static int schema_check_references(const struct schema *schema,
				   const struct schema_members *members, struct err **err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < members->count; i++) {
		if (!members->list[i].type)
			return err_set(err, EINVAL, "member '%s' has no type",
				       members->list[i].name);
		ret = schema_check_reference(schema, members->list[i].type, err);
		if (ret)
			err_prefix(err, "member '%s'", members->list[i].name);
	}
	return ret;
}

static int schema_check_names(const struct schema_members *members, struct err **err)
{
	for (size_t i = 0; i < members->count; i++)
		if (members->list[i].type || members->list[i].optional)
			return err_set(err, EINVAL, "'%s' is to be a name alone",
				       members->list[i].name);
	return 0;
}

static int schema_check_variant(const struct schema *schema, const struct schema_type *type,
				const struct schema_type *values,
				const struct schema_member *variant, struct err **err)
{
	const struct schema_type *branch;

	if (!variant->type)
		return err_set(err, EINVAL, "variant '%s' has no type", variant->name);
	if (!schema_members_find(&values->members, variant->name))
		return err_set(err, EINVAL, "'%s' is no value of %s", variant->name,
			       values->def->name);
	branch = schema_type_find(schema, variant->type, strlen(variant->type));
	if (!branch || branch->def->kind != QMP_STRUCT)
		return err_set(err, EINVAL, "variant '%s': '%s' is no struct", variant->name,
			       variant->type);
	for (size_t i = 0; i < branch->members.count; i++)
		if (schema_members_find(&type->members, branch->members.list[i].name))
			return err_set(err, EINVAL, "variant '%s': member '%s' is there already",
				       variant->name, branch->members.list[i].name);
	return 0;
}

static int schema_check_union(const struct schema *schema, const struct schema_type *type,
			      struct err **err)
{
	const struct schema_member *tag =
		type->def->tag ? schema_members_find(&type->members, type->def->tag) : NULL;
	const struct schema_type *values;
	int ret = 0;

	if (!tag || tag->optional)
		return err_set(err, EINVAL, "the tag is to be a member that must be given");
	values = schema_type_find(schema, tag->type, strlen(tag->type));
	if (!values || values->def->kind != QMP_ENUM)
		return err_set(err, EINVAL, "the tag '%s' is to be an enum", tag->name);
	for (size_t i = 0; !ret && i < type->variants.count; i++)
		ret = schema_check_variant(schema, type, values, &type->variants.list[i], err);
	return ret;
}

static int schema_check_alternate(const struct schema *schema, const struct schema_type *type,
				  struct err **err)
{
	unsigned int seen = 0, bits;

	for (size_t i = 0; i < type->members.count; i++) {
		bits = schema_json_types(schema, type->members.list[i].type);
		if (seen & bits)
			return err_set(err, EINVAL, "alternative '%s' is like another one",
				       type->members.list[i].name);
		seen |= bits;
	}
	return 0;
}

static int schema_check_type_row(const struct schema *schema, const struct schema_type *type,
				 struct err **err)
{
	int ret;

	if (schema_builtin_find(type->def->name, strlen(type->def->name)))
		return err_set(err, EINVAL, "the name is that of a type of the language");
	if (!type->members.count && type->def->kind != QMP_STRUCT)
		return err_set(err, EINVAL, "there are no members");
	ret = schema_check_names(&type->features, err);
	if (!ret && type->def->kind == QMP_ENUM)
		return schema_check_names(&type->members, err);
	if (!ret)
		ret = schema_check_references(schema, &type->members, err);
	if (!ret && type->def->kind == QMP_UNION)
		ret = schema_check_union(schema, type, err);
	if (!ret && type->def->kind == QMP_ALTERNATE)
		ret = schema_check_alternate(schema, type, err);
	return ret;
}

static int schema_data_make(const struct schema *schema, const char *text, struct schema_data *data,
			    struct err **err)
{
	size_t size;

	if (!text)
		return 0;
	size = strcspn(text, ": \t\n");
	if (text[size]) {
		int ret = schema_members_parse(text, &data->members, err);

		return ret ? ret : schema_check_references(schema, &data->members, err);
	}
	data->type = schema_type_find(schema, text, size);
	if (!data->type ||
	    (data->type->def->kind != QMP_STRUCT && data->type->def->kind != QMP_UNION))
		return err_set(err, EINVAL, "'%s' is no struct or union", text);
	return 0;
}

static int schema_command_make(const struct schema *schema, struct schema_command *row,
			       struct err **err)
{
	const struct command *def = row->def;
	int ret = schema_data_make(schema, def->args, &row->args, err);

	row->args.open = def->flags & COMMAND_ANY_ARGS;
	if (!ret)
		ret = schema_members_parse(def->features, &row->features, err);
	if (!ret)
		ret = schema_check_names(&row->features, err);
	if (!ret && def->returns)
		ret = schema_check_reference(schema, def->returns, err);
	if (!ret && !def->run)
		ret = err_set(err, EINVAL, "nothing runs it");
	return ret;
}

static int schema_event_make(const struct schema *schema, struct schema_event *row,
			     struct err **err)
{
	const struct schema_members *members = &row->data.members;
	int ret = schema_data_make(schema, row->def->data, &row->data, err);

	if (row->data.type)
		members = &row->data.type->members;
	if (!ret && row->def->key && !schema_members_find(members, row->def->key))
		ret = err_set(err, EINVAL, "the key '%s' is no member of its data", row->def->key);
	return ret;
}

static int schema_types_make(struct schema *schema, struct err **err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < schema->nr_types; i++) {
		struct schema_type *type = &schema->types[i];

		ret = schema_members_parse(type->def->members, &type->members, err);
		if (!ret)
			ret = schema_members_parse(type->def->variants, &type->variants, err);
		if (!ret)
			ret = schema_members_parse(type->def->features, &type->features, err);
		if (ret)
			err_prefix(err, "type %s", type->def->name);
	}
	for (size_t i = 0; !ret && i < schema->nr_types; i++) {
		ret = schema_check_type_row(schema, &schema->types[i], err);
		if (ret)
			err_prefix(err, "type %s", schema->types[i].def->name);
	}
	return ret;
}

struct schema *schema_new(const struct qmp_module *const *modules, struct err **err)
{
	struct schema *schema = calloc(1, sizeof(*schema));
	int ret;

	if (!schema) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	ret = schema_tables_make(schema, modules, err);
	if (!ret)
		ret = schema_twice(schema, err);
	if (!ret)
		ret = schema_types_make(schema, err);
	for (size_t i = 0; !ret && i < schema->nr_commands; i++) {
		ret = schema_command_make(schema, &schema->commands[i], err);
		if (ret)
			err_prefix(err, "command %s", schema->commands[i].def->name);
	}
	for (size_t i = 0; !ret && i < schema->nr_events; i++) {
		ret = schema_event_make(schema, &schema->events[i], err);
		if (ret)
			err_prefix(err, "event %s", schema->events[i].def->name);
	}
	if (!ret)
		return schema;
	schema_free(schema);
	return NULL;
}

void schema_free(struct schema *schema)
{
	if (!schema)
		return;
	for (size_t i = 0; i < schema->nr_types; i++) {
		schema_members_done(&schema->types[i].members);
		schema_members_done(&schema->types[i].variants);
		schema_members_done(&schema->types[i].features);
	}
	for (size_t i = 0; i < schema->nr_commands; i++) {
		schema_members_done(&schema->commands[i].args.members);
		schema_members_done(&schema->commands[i].features);
	}
	for (size_t i = 0; i < schema->nr_events; i++)
		schema_members_done(&schema->events[i].data.members);
	free(schema->types);
	free(schema->commands);
	free(schema->events);
	free(schema);
}
