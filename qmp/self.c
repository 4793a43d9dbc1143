/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands that answer for the monitor itself: what it is, what it understands. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "qmp/qmp_internal.h"

static int self_out_of_memory(struct err **err)
{
	return err_set(err, ENOMEM, "out of memory");
}

static int self_capabilities(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	const json_t *enable = json_object_get(args, "enable");
	bool oob = false;
	const json_t *name;
	size_t i;

	(void)ret_value;
	(void)err;
	json_array_foreach ((json_t *)enable, i, name)
		oob |= !strcmp(json_string_value(name), "oob");
	if (call->session)
		qmp_session_negotiate(call->session, oob);
	return 0;
}

static int self_query_commands(struct command_call *call, const json_t *args, json_t **ret_value,
			       struct err **err)
{
	json_t *list = json_array();
	const struct command *def;
	bool failed = !list;

	(void)args;
	for (size_t i = 0; !failed && (def = schema_command_at(call->qmp->schema, i)); i++)
		failed = json_array_append_new(list, json_pack("{s:s}", "name", def->name)) != 0;
	if (failed) {
		json_decref(list);
		return self_out_of_memory(err);
	}
	*ret_value = list;
	return 0;
}

static int self_query_schema(struct command_call *call, const json_t *args, json_t **ret_value,
			     struct err **err)
{
	(void)args;
	*ret_value = schema_introspect(call->qmp->schema);
	return *ret_value ? 0 : self_out_of_memory(err);
}

json_t *qmp_version(const struct qmp *qmp)
{
	return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "micro", qmp->micro, "minor",
			 qmp->minor, "major", qmp->major, "package", qmp->package);
}

static int self_query_version(struct command_call *call, const json_t *args, json_t **ret_value,
			      struct err **err)
{
	(void)args;
	*ret_value = qmp_version(call->qmp);
	return *ret_value ? 0 : self_out_of_memory(err);
}

static const struct command self_commands[] = {
	{
		.name = "qmp_capabilities",
		.args = "*enable:[QMPCapability]",
		.flags = COMMAND_BARE,
		.run = self_capabilities,
	},
	{
		.name = "query-commands",
		.returns = "[CommandInfo]",
		.flags = COMMAND_BARE,
		.run = self_query_commands,
	},
	{
		.name = "query-qmp-schema",
		.returns = "[SchemaInfo]",
		.flags = COMMAND_BARE,
		.run = self_query_schema,
	},
	{
		.name = "query-version",
		.returns = "VersionInfo",
		.flags = COMMAND_BARE,
		.run = self_query_version,
	},
	{0},
};

static const struct qmp_type self_types[] = {
	{.name = "QMPCapability", .kind = QMP_ENUM, .members = "oob"},
	{.name = "CommandInfo", .kind = QMP_STRUCT, .members = "name:str"},
	{.name = "VersionTriple", .kind = QMP_STRUCT, .members = "major:int minor:int micro:int"},
	{.name = "VersionInfo", .kind = QMP_STRUCT, .members = "qemu:VersionTriple package:str"},
	{
		.name = "SchemaMetaType",
		.kind = QMP_ENUM,
		.members = "builtin enum array object alternate command event",
	},
	{
		.name = "SchemaInfo",
		.kind = QMP_UNION,
		.members = "name:str meta-type:SchemaMetaType *features:[str]",
		.tag = "meta-type",
		.variants = "builtin:SchemaInfoBuiltin enum:SchemaInfoEnum array:SchemaInfoArray "
			    "object:SchemaInfoObject alternate:SchemaInfoAlternate "
			    "command:SchemaInfoCommand event:SchemaInfoEvent",
	},
	{
		.name = "JSONType",
		.kind = QMP_ENUM,
		.members = "string number int boolean null object array value",
	},
	{.name = "SchemaInfoBuiltin", .kind = QMP_STRUCT, .members = "json-type:JSONType"},
	{
		.name = "SchemaInfoEnum",
		.kind = QMP_STRUCT,
		.members = "members:[SchemaInfoEnumMember] values:[str]!deprecated",
	},
	{
		.name = "SchemaInfoEnumMember",
		.kind = QMP_STRUCT,
		.members = "name:str *features:[str]",
	},
	{.name = "SchemaInfoArray", .kind = QMP_STRUCT, .members = "element-type:str"},
	{
		.name = "SchemaInfoObject",
		.kind = QMP_STRUCT,
		.members = "members:[SchemaInfoObjectMember] *tag:str "
			   "*variants:[SchemaInfoObjectVariant]",
	},
	{
		.name = "SchemaInfoObjectMember",
		.kind = QMP_STRUCT,
		.members = "name:str type:str *default:any *features:[str]",
	},
	{.name = "SchemaInfoObjectVariant", .kind = QMP_STRUCT, .members = "case:str type:str"},
	{
		.name = "SchemaInfoAlternate",
		.kind = QMP_STRUCT,
		.members = "members:[SchemaInfoAlternateMember]",
	},
	{.name = "SchemaInfoAlternateMember", .kind = QMP_STRUCT, .members = "type:str"},
	{
		.name = "SchemaInfoCommand",
		.kind = QMP_STRUCT,
		.members = "arg-type:str ret-type:str *allow-oob:bool",
	},
	{.name = "SchemaInfoEvent", .kind = QMP_STRUCT, .members = "arg-type:str"},
	{0},
};

const struct qmp_module qmp_self_module = {.commands = self_commands, .types = self_types};
