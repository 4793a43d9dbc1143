/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Properties of the object tree's classes and nodes: see qom.h.
 *
 * A class has the rows of its ancestors, its own, and what else is in its table. A row over a table's
 * line replaces it in listings, and where it has a get() in reading.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/cmdline/object.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/control/qom.h"

/* ---- of a class ---- */

/* How listings call the type of a table's line. Devices have had another word for text than others. */
static const char *prop_type_name(const struct qom_class *class, const struct prop *prop)
{
	switch (prop->type) {
	case PROP_BOOL:
		return "bool";
	case PROP_ON_OFF_AUTO:
		return "OnOffAuto";
	case PROP_ENUM:
		return "str";
	case PROP_SIZE:
		return "size";
	case PROP_UINT16_LIST:
		return "int";
	case PROP_UINT:
		switch (prop->width) {
		case 1:
			return "uint8";
		case 2:
			return "uint16";
		case 4:
			return "uint32";
		default:
			return "uint64";
		}
	default:
		return qom_class_is(class, "device") ? "str" : "string";
	}
}

/* Is @prop nothing that can be said? */
static bool prop_is_void(const struct qom_class *class, const struct prop *prop)
{
	return qom_class_hides(class, prop->name) || (prop->refused && !strcmp(prop->refused, "*"));
}

static const struct qom_row *row_find(const struct qom_class *class, const char *name)
{
	for (; class; class = qom_class_parent(class)) {
		for (const struct qom_row *row = class->rows; row && row->name; row++) {
			if (!strcmp(row->name, name))
				return row;
		}
	}
	return NULL;
}

void qom_props_start(struct qom_props *props, const struct qom_class *class)
{
	*props = (struct qom_props){.class = class};
	for (; class; class = qom_class_parent(class))
		props->chain[props->depth++] = class;
	props->table = qom_class_table(props->class);
}

/* The next row, from object's on; NULL behind the last. */
static const struct qom_row *props_next_row(struct qom_props *props)
{
	while (props->depth) {
		const struct qom_row *rows = props->chain[props->depth - 1]->rows;

		if (rows && rows[props->index].name)
			return &rows[props->index++];
		props->depth--;
		props->index = 0;
	}
	return NULL;
}

/* The next line of the table that no row replaces. */
static const struct prop *props_next_line(struct qom_props *props)
{
	while (props->table) {
		while (props->index < props->table->count) {
			const struct prop *prop = &props->table->list[props->index++];

			if (!prop_is_void(props->class, prop) &&
			    !row_find(props->class, prop->name))
				return prop;
		}
		props->table = props->class->like ? NULL : props->table->base;
		props->index = 0;
	}
	return NULL;
}

static struct qom_prop prop_of(const struct qom_class *class, const struct qom_row *row,
			       const struct prop *line)
{
	return (struct qom_prop){
		.name = row ? row->name : line->name,
		.type = row ? row->type : prop_type_name(class, line),
		.help = row && row->help ? row->help
			: line           ? line->help
					 : NULL,
		.line = line,
		.row = row,
	};
}

bool qom_props_next(struct qom_props *props, struct qom_prop *ret_prop)
{
	const struct qom_row *row = props_next_row(props);
	const struct prop *line;

	line = row ? props_find(qom_class_table(props->class), row->name) : props_next_line(props);
	if (!row && !line)
		return false;
	*ret_prop = prop_of(props->class, row, line);
	return true;
}

bool qom_prop_find(const struct qom_class *class, const char *name, struct qom_prop *ret_prop)
{
	const struct qom_row *row = row_find(class, name);
	const struct props *table = qom_class_table(class);
	/* Without a row a line counts only where qom_props_next() comes by. */
	const struct props own = {NULL, table ? table->list : NULL, table ? table->count : 0};
	const struct prop *line = props_find(!row && class->like ? &own : table, name);

	if (!row && (!line || prop_is_void(class, line)))
		return false;
	*ret_prop = prop_of(class, row, line);
	return true;
}

json_t *qom_prop_info(const char *name, const char *type, const char *help, json_t *defval)
{
	json_t *info = json_pack("{s:s, s:s}", "name", name, "type", type);

	if (help)
		control_set(&info, "description", json_string(help));
	if (defval)
		control_set(&info, "default-value", defval);
	return info;
}

/* ---- values ---- */

/* Room for any one property by itself. */
union slot {
	bool flag;
	uint64_t number;
	void *memory;
	uint8_t bytes[24];
};

/* A table of one line: @line, but that it is kept in a union slot and takes every value. */
struct single {
	struct prop line;
	struct props table;
};

static void single_init(struct single *single, const struct prop *line)
{
	static const size_t widths[] = {
		[PROP_BOOL] = sizeof(bool),          [PROP_ON_OFF_AUTO] = sizeof(uint32_t),
		[PROP_ENUM] = sizeof(uint32_t),      [PROP_UINT] = sizeof(uint64_t),
		[PROP_SIZE] = sizeof(uint64_t),      [PROP_STRING] = sizeof(char *),
		[PROP_ID] = sizeof(char *),          [PROP_PCI_ADDR] = sizeof(uint8_t),
		[PROP_UINT16_LIST] = sizeof(void *), [PROP_UUID] = 16,
	};

	single->line = *line;
	single->line.offset = 0;
	single->line.second = 8;
	single->line.given = 0;
	single->line.width = line->width ? line->width : widths[line->type];
	single->line.refused = NULL;
	single->table = (struct props){NULL, &single->line, 1};
}

/* Numbers that a JSON integer of most clients cannot hold stand for "no limit" and "chosen". */
static json_t *value_finish(const struct prop *line, json_t *value)
{
	bool number = line->type == PROP_UINT || line->type == PROP_SIZE;
	json_t *text;

	if (number && json_integer_value(value) < 0)
		json_integer_set(value, INT64_MAX);
	if (line->type != PROP_STRING && line->type != PROP_ID)
		return value;
	text = value ? qom_text(json_string_value(value)) : NULL;
	json_decref(value);
	return text;
}

/* @text as JSON; NULL when memory is out, or the text is wrong: with *err then. */
static json_t *value_parse(const struct prop *line, const char *what, const char *text,
			   struct err **err)
{
	union slot slot = {.bytes = {0}};
	json_t *given = json_string(text), *value = NULL;
	struct single single;

	single_init(&single, line);
	if (given && !props_set(&single.table, what, line->name, given, &slot, err))
		value = value_finish(line, props_get(&single.line, &slot));
	props_done(&single.table, &slot);
	json_decref(given);
	return value;
}

/*
 * The spelling of the one value that a line without a place in its target can have: the default,
 * or what is left where the other one is refused. NULL: there is no saying.
 */
static const char *line_only_value(const struct prop *line)
{
	bool flag = line->type == PROP_BOOL || line->type == PROP_ON_OFF_AUTO;

	if (line->defval)
		return line->defval;
	if (!flag || !line->refused)
		return NULL;
	return strcmp(line->refused, "on") ? "on" : "off";
}

json_t *qom_prop_default(const struct qom_prop *prop)
{
	if (prop->row && prop->row->defval)
		return json_loads(prop->row->defval, JSON_DECODE_ANY, NULL);
	if (!prop->line || !prop->line->defval)
		return NULL;
	return value_parse(prop->line, "default", prop->line->defval, NULL);
}

int qom_prop_parse(const struct qom_prop *prop, const char *text, json_t **ret_value,
		   struct err **err)
{
	struct err *why = NULL;
	json_t *value;
	int code;

	value = prop->line ? value_parse(prop->line, "qom-set", text, &why) : json_string(text);
	if (value) {
		*ret_value = value;
		return 0;
	}
	code = why ? err_code(why) : ENOMEM;
	err_set(err, code, "%s", why ? err_message(why) : "out of memory");
	err_free(why);
	return -code;
}

/* ---- of a node ---- */

/* Parts of the configuration in the form that their tables know. */
struct scratch {
	struct object_config object;
	uint16_t host_nodes[VM_HOST_NODES_MAX];
};

/* Borrows the memory of the backend; nothing in it is to be ended. */
static const void *target_memdev(const struct vm_memdev_config *memdev, struct scratch *scratch)
{
	struct memdev_options *options = &scratch->object.memdev;

	options->config = *memdev;
	options->host_nodes = scratch->host_nodes;
	for (uint16_t node = 0; node < VM_HOST_NODES_MAX; node++) {
		if (memdev->host_nodes[node / 64] >> (node % 64) & 1)
			options->host_nodes[options->nr_host_nodes++] = node;
	}
	return &scratch->object;
}

/* What the node's table is over; NULL: nothing. */
static const void *node_target(const struct qom_node *node, struct scratch *scratch)
{
	memset(scratch, 0, sizeof(*scratch));
	switch (node->kind) {
	case QOM_DEVICE_NODE:
	case QOM_BACKEND:
		return node->part;
	case QOM_CPU:
		return &vm_config(node->vm)->cpu;
	case QOM_MEMDEV:
		return target_memdev(node->part, scratch);
	case QOM_RNG:
		scratch->object.rng = *(const struct vm_rng_backend_config *)node->part;
		return &scratch->object;
	default:
		return NULL;
	}
}

bool qom_prop_is_readable(const struct qom_node *node, const struct qom_prop *prop)
{
	struct scratch scratch;

	if (prop->row && prop->row->get)
		return true;
	if (!prop->line)
		return false;
	return (prop->line->width && node_target(node, &scratch)) || line_only_value(prop->line);
}

json_t *qom_prop_get(const struct qom_node *node, const struct qom_prop *prop)
{
	struct scratch scratch;
	const void *target;

	if (prop->row && prop->row->get)
		return prop->row->get(node);
	target = node_target(node, &scratch);
	if (prop->line->width && target)
		return value_finish(prop->line, props_get(prop->line, target));
	return value_parse(prop->line, "default", line_only_value(prop->line), NULL);
}

/* ---- by name ---- */

int qom_find(struct vm *vm, const char *path, struct qom_node *ret_node, struct err **err)
{
	if (qom_resolve(vm, path, ret_node) == QOM_FOUND)
		return 0;
	return err_set(err, ENODEV, "Device '%s' not found", path);
}

static bool node_child_named(const struct qom_node *node, const char *name,
			     struct qom_node *ret_child)
{
	struct qom_child child;

	for (size_t i = 0; qom_child_at(node, i, &child); i++) {
		if (!strcmp(qom_child_name(&child), name)) {
			*ret_child = child.node;
			return true;
		}
	}
	return false;
}

static int prop_missing(const struct qom_node *node, const char *name, struct err **err)
{
	return err_set(err, ENOENT, "Property '%s.%s' not found", node->class->name, name);
}

int qom_get(struct vm *vm, const char *path, const char *name, json_t **ret_value, struct err **err)
{
	struct qom_node node, child;
	struct qom_prop prop;
	int ret = qom_find(vm, path, &node, err);

	if (ret < 0)
		return ret;
	if (node_child_named(&node, name, &child))
		return control_answer(qom_path_json(&child), ret_value, err);
	if (!qom_prop_find(node.class, name, &prop))
		return prop_missing(&node, name, err);
	if (!qom_prop_is_readable(&node, &prop))
		return err_set(err, EACCES, "Property '%s.%s' is not readable", node.class->name,
			       name);
	return control_answer(qom_prop_get(&node, &prop), ret_value, err);
}

/* Why a property that is there cannot be set. */
static int prop_refuse(const struct qom_node *node, const struct qom_prop *prop, struct err **err)
{
	const struct vm_device_config *device = node->part;

	if (!prop->line || (prop->line->flags & PROP_READONLY))
		return err_set(err, EACCES, "Property '%s.%s' is not writable", node->class->name,
			       prop->name);
	if (!qom_class_is(node->class, "device"))
		return err_set(err, EBUSY, "Property '%s.%s' can no longer be set",
			       node->class->name, prop->name);
	if (node->kind == QOM_DEVICE_NODE && device->id)
		return err_set(err, EBUSY,
			       "Attempt to set property '%s' on device '%s' (type '%s') after it "
			       "was realized",
			       prop->name, device->id, node->class->name);
	return err_set(err, EBUSY,
		       "Attempt to set property '%s' on anonymous device (type '%s') after it was "
		       "realized",
		       prop->name, node->class->name);
}

int qom_set(struct vm *vm, const char *path, const char *name, const json_t *value,
	    struct err **err)
{
	struct qom_node node, child;
	struct qom_prop prop;
	int ret = qom_find(vm, path, &node, err);

	if (ret < 0)
		return ret;
	if (node_child_named(&node, name, &child))
		return err_set(err, EACCES, "Property '%s.%s' is not writable", node.class->name,
			       name);
	if (!qom_prop_find(node.class, name, &prop))
		return prop_missing(&node, name, err);
	if (!prop.row || !prop.row->set)
		return prop_refuse(&node, &prop, err);
	return prop.row->set(&node, value, err);
}
