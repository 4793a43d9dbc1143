/* SPDX-License-Identifier: BSD-3-Clause */
/* Making and reading the values that commands answer with: see answer.h. */
#include "vmm/control/answer.h"

#include <errno.h>

#include "base/err.h"

int control_answer(json_t *value, json_t **ret_value, struct err **err)
{
	if (!value)
		return err_set(err, ENOMEM, "out of memory");
	*ret_value = value;
	return 0;
}

void control_list_init(struct control_list *list)
{
	list->values = json_array();
	list->failed = !list->values;
}

void control_list_add(struct control_list *list, json_t *value)
{
	if (list->failed) {
		json_decref(value);
		return;
	}
	/* Takes @value over also when it fails, and fails for NULL. */
	if (json_array_append_new(list->values, value))
		list->failed = true;
}

json_t *control_list_end(struct control_list *list)
{
	json_t *values = list->values;

	if (list->failed) {
		json_decref(values);
		values = NULL;
	}
	list->values = NULL;
	return values;
}

void control_set(json_t **object, const char *name, json_t *value)
{
	if (!*object) {
		json_decref(value);
		return;
	}
	if (json_object_set_new(*object, name, value)) {
		json_decref(*object);
		*object = NULL;
	}
}

const char *control_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

uint64_t control_number(const json_t *object, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(object, name));
}

bool control_flag(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}
