/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands about the object tree: see qom.h. */
#include "vmm/control/qom.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"

#define VALUE_INDENT 4

static struct vm *qom_vm(struct command_call *call)
{
	struct control *control = command_ctx(call);

	return control->vm;
}

/* ---- listing ---- */

static json_t *list_child(const struct qom_child *child)
{
	json_t *type = json_sprintf("child<%s>", child->node.class->name);
	json_t *info = NULL;

	if (type)
		info = qom_prop_info(qom_child_name(child), json_string_value(type), NULL, NULL);
	json_decref(type);
	return info;
}

static int list_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	const char *path = control_text(args, "path");
	struct control_list list;
	struct qom_node node;
	struct qom_props props;
	struct qom_prop prop;
	struct qom_child child;

	switch (qom_resolve(qom_vm(call), path, &node)) {
	case QOM_NOT_FOUND:
		return err_set(err, ENODEV, "Device '%s' not found", path);
	case QOM_AMBIGUOUS:
		return err_set(err, EINVAL, "Path '%s' is ambiguous", path);
	case QOM_FOUND:
		break;
	}
	control_list_init(&list);
	qom_props_start(&props, node.class);
	while (qom_props_next(&props, &prop)) {
		if (qom_prop_is_readable(&node, &prop))
			control_list_add(&list, qom_prop_info(prop.name, prop.type, NULL, NULL));
	}
	for (size_t i = 0; qom_child_at(&node, i, &child); i++)
		control_list_add(&list, list_child(&child));
	return control_answer(control_list_end(&list), ret_value, err);
}

/* People who name no path learn where to start. */
static int list_run_human(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	if (json_object_get(args, "path"))
		return list_run(call, args, ret_value, err);
	command_printf(call, "/\n");
	return 0;
}

static void list_print(struct command_call *call, const json_t *value)
{
	const json_t *info;
	size_t i;

	json_array_foreach (value, i, info)
		command_printf(call, "%s (%s)\n", control_text(info, "name"),
			       control_text(info, "type"));
}

/* ---- reading and setting ---- */

static int get_run(struct command_call *call, const json_t *args, json_t **ret_value,
		   struct err **err)
{
	return qom_get(qom_vm(call), control_text(args, "path"), control_text(args, "property"),
		       ret_value, err);
}

static void get_print(struct command_call *call, const json_t *value)
{
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_INDENT(VALUE_INDENT));

	command_printf(call, "%s\n", text ? text : "");
	free(text);
}

static int set_run(struct command_call *call, const json_t *args, json_t **ret_value,
		   struct err **err)
{
	(void)ret_value;
	return qom_set(qom_vm(call), control_text(args, "path"), control_text(args, "property"),
		       json_object_get(args, "value"), err);
}

/* What a person typed: JSON with -j, else in the spelling of the command line. */
static int set_run_human(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err)
{
	const char *path = control_text(args, "path"), *name = control_text(args, "property");
	const char *text = control_text(args, "value");
	struct qom_node node;
	struct qom_prop prop;
	json_error_t why;
	json_t *value;
	int ret;

	(void)ret_value;
	if (control_flag(args, "json")) {
		value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
		if (!value)
			return err_set(err, EINVAL, "Invalid JSON: %s", why.text);
	} else {
		ret = qom_find(qom_vm(call), path, &node, err);
		/* What cannot be set needs no right value to be refused. */
		if (!ret && qom_prop_find(node.class, name, &prop) && prop.row && prop.row->set)
			ret = qom_prop_parse(&prop, text, &value, err);
		else if (!ret)
			value = json_null();
		if (ret < 0)
			return ret;
	}
	ret = qom_set(qom_vm(call), path, name, value, err);
	json_decref(value);
	return ret;
}

/* ---- completion ---- */

/* Offer @child, which is in the folder that begins @typed; what has children twice, to go on. */
static void complete_child(struct hmp_words *words, const char *typed, int folder_size,
			   const struct qom_child *child)
{
	struct qom_child below;
	char *word;

	if (asprintf(&word, "%.*s%s/", folder_size, typed, qom_child_name(child)) < 0)
		return;
	if (qom_child_at(&child->node, 0, &below))
		hmp_words_add(words, word);
	word[strlen(word) - 1] = '\0';
	hmp_words_add(words, word);
	free(word);
}

/* One level at a time: what is in the folder of which a path was typed. */
static void complete_path(void *ctx, unsigned int index, struct hmp_words *words)
{
	const struct control *control = ctx;
	const char *asked = hmp_words_typed(words), *typed = *asked ? asked : "/";
	const char *slash = strrchr(typed, '/');
	struct qom_node node = qom_root(control->vm);
	struct qom_child child;
	char *folder;

	if (index || !slash)
		return;
	folder = strndup(typed, (size_t)(slash - typed));
	if (folder && (!*folder || qom_resolve(control->vm, folder, &node) == QOM_FOUND)) {
		for (size_t i = 0; qom_child_at(&node, i, &child); i++)
			complete_child(words, typed, (int)(slash + 1 - typed), &child);
	}
	free(folder);
}

/* The properties of the object that the word before names: of qom-set, those that can be set. */
static void complete_property(const struct control *control, bool set, struct hmp_words *words)
{
	struct qom_props props;
	struct qom_node node;
	struct qom_prop prop;

	if (qom_resolve(control->vm, hmp_words_previous(words), &node) != QOM_FOUND)
		return;
	qom_props_start(&props, node.class);
	while (qom_props_next(&props, &prop)) {
		if (set ? prop.row && prop.row->set : qom_prop_is_readable(&node, &prop))
			hmp_words_add(words, prop.name);
	}
}

static void complete_get(void *ctx, unsigned int index, struct hmp_words *words)
{
	if (index == 1)
		complete_property(ctx, false, words);
	else
		complete_path(ctx, index, words);
}

static void complete_set(void *ctx, unsigned int index, struct hmp_words *words)
{
	if (index == 1)
		complete_property(ctx, true, words);
	else
		complete_path(ctx, index, words);
}

static const struct command qom_commands[] = {
	{
		.name = "qom-list",
		.human = "qom-list",
		.args = "path:str",
		.returns = "[ObjectPropertyInfo]",
		.human_args = "path:s?",
		.params = "[path]",
		.help = "list the properties of an object, and what is below it",
		.run = list_run,
		.print = list_print,
		.human_run = list_run_human,
		.complete = complete_path,
	},
	{
		.name = "qom-get",
		.human = "qom-get",
		.args = "path:str property:str",
		.returns = "any",
		.human_args = "path:s,property:s",
		.params = "path property",
		.help = "show a property of an object",
		.run = get_run,
		.print = get_print,
		.complete = complete_get,
	},
	{
		.name = "qom-set",
		.human = "qom-set",
		.args = "path:str property:str value:any",
		.human_args = "json:-j,path:s,property:s,value:S",
		.params = "[-j] path property value",
		.help = "set a property of an object (-j: the value is JSON)",
		.run = set_run,
		.human_run = set_run_human,
		.complete = complete_set,
	},
	{
		.name = "qom-list-types",
		.args = "*implements:str *abstract:bool",
		.returns = "[ObjectTypeInfo]",
		.help = "list the classes of objects",
		.flags = COMMAND_BARE,
		.run = qom_run_list_types,
	},
	{
		.name = "qom-list-properties",
		.args = "typename:str",
		.returns = "[ObjectPropertyInfo]",
		.help = "list the properties that objects of a class have",
		.flags = COMMAND_BARE,
		.run = qom_run_list_properties,
	},
	{
		.name = "device-list-properties",
		.args = "typename:str",
		.returns = "[ObjectPropertyInfo]",
		.help = "list what can be said of a device",
		.flags = COMMAND_BARE,
		.run = qom_run_device_list_properties,
	},
	{
		.name = "query-command-line-options",
		.args = "*option:str",
		.returns = "[CommandLineOptionInfo]",
		.help = "list what options of the command line take",
		.flags = COMMAND_BARE,
		.run = qom_run_options,
	},
	{
		.human = "info qom-tree",
		.human_args = "path:s?",
		.params = "[path]",
		.help = "show the tree of objects",
		.human_run = qom_show_tree,
		.complete = complete_path,
	},
	{
		.human = "info qtree",
		.help = "show the tree of devices and buses",
		.human_run = qom_show_qtree,
	},
	{.name = NULL},
};

static const struct qmp_type qom_types[] = {
	{
		.name = "ObjectPropertyInfo",
		.kind = QMP_STRUCT,
		.members = "name:str type:str *description:str *default-value:any",
	},
	{
		.name = "ObjectTypeInfo",
		.kind = QMP_STRUCT,
		.members = "name:str *abstract:bool *parent:str",
	},
	{
		.name = "CommandLineParameterType",
		.kind = QMP_ENUM,
		.members = "string boolean number size",
	},
	{
		.name = "CommandLineParameterInfo",
		.kind = QMP_STRUCT,
		.members = "name:str type:CommandLineParameterType *help:str *default:str",
	},
	{
		.name = "CommandLineOptionInfo",
		.kind = QMP_STRUCT,
		.members = "option:str parameters:[CommandLineParameterInfo]",
	},
	{.name = NULL},
};

const struct qmp_module control_qom_module = {qom_commands, qom_types, NULL};
