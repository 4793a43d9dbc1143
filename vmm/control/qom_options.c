/* SPDX-License-Identifier: BSD-3-Clause */
/* query-command-line-options: what the command line takes, from its own tables. See qom.h. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "vmm/cmdline/params.h"
#include "vmm/control/answer.h"
#include "vmm/control/qom.h"

static const char *param_type(const struct prop *prop)
{
	switch (prop->type) {
	case PROP_BOOL:
		return "boolean";
	case PROP_UINT:
		return "number";
	case PROP_SIZE:
		return "size";
	default:
		return "string";
	}
}

static json_t *param_info(const struct prop *prop)
{
	json_t *info = json_pack("{s:s, s:s}", "name", prop->name, "type", param_type(prop));

	if (prop->help)
		control_set(&info, "help", json_string(prop->help));
	if (prop->defval)
		control_set(&info, "default", json_string(prop->defval));
	return info;
}

/* Is the line's name among those of the @count tables already? */
static bool param_is_known(const struct props *const *tables, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (props_find(tables[i], name))
			return true;
	}
	return false;
}

/* The id is how others call what is made, not a parameter; some lines take no value at all. */
static bool param_is_listed(const struct prop *prop)
{
	return strcmp(prop->name, "id") && !(prop->refused && !strcmp(prop->refused, "*"));
}

static json_t *option_params(const struct cmdline_params *option)
{
	struct control_list list;

	control_list_init(&list);
	for (size_t t = 0; option->tables[t]; t++) {
		for (const struct props *table = option->tables[t]; table; table = table->base) {
			for (size_t i = 0; i < table->count; i++) {
				const struct prop *prop = &table->list[i];

				if (param_is_listed(prop) &&
				    !param_is_known(option->tables, t, prop->name))
					control_list_add(&list, param_info(prop));
			}
		}
	}
	return control_list_end(&list);
}

int qom_run_options(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	const char *only = json_string_value(json_object_get(args, "option"));
	struct control_list list;
	bool found = !only;

	(void)call;
	control_list_init(&list);
	for (const struct cmdline_params *option = cmdline_params; option->option; option++) {
		if (only && strcmp(option->option, only))
			continue;
		found = true;
		control_list_add(&list, json_pack("{s:s, s:o}", "option", option->option,
						  "parameters", option_params(option)));
	}
	if (!found) {
		json_decref(control_list_end(&list));
		return err_set(err, EINVAL, "invalid option name: %s", only);
	}
	return control_answer(control_list_end(&list), ret_value, err);
}
