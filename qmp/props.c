/* SPDX-License-Identifier: BSD-3-Clause */
/* Property tables: setting and reading a target through its table. See props.h for the contract. */
#include "qmp/props_internal.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "qmp/size.h"

bool props_id_valid(const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t first = strspn(text, letters);

	if (!first)
		return false;
	for (text += first; *text; text++) {
		if (!strchr(letters, *text) && !strchr("0123456789-._", *text))
			return false;
	}
	return true;
}

const struct prop *props_find(const struct props *table, const char *name)
{
	for (; table; table = table->base) {
		for (size_t i = 0; i < table->count; i++) {
			if (!strcmp(table->list[i].name, name))
				return &table->list[i];
		}
	}
	return NULL;
}

static bool prop_owns_memory(const struct prop *prop)
{
	return prop->type == PROP_STRING || prop->type == PROP_ID || prop->type == PROP_UINT16_LIST;
}

static void prop_store_number(void *field, size_t width, uint64_t number)
{
	uint8_t n8 = (uint8_t)number;
	uint16_t n16 = (uint16_t)number;
	uint32_t n32 = (uint32_t)number;

	switch (width) {
	case 1:
		memcpy(field, &n8, 1);
		break;
	case 2:
		memcpy(field, &n16, 2);
		break;
	case 4:
		memcpy(field, &n32, 4);
		break;
	default:
		assert(width == 8);
		memcpy(field, &number, 8);
	}
}

static uint64_t prop_load_number(const void *field, size_t width)
{
	uint8_t n8;
	uint16_t n16;
	uint32_t n32;
	uint64_t n64;

	switch (width) {
	case 1:
		memcpy(&n8, field, 1);
		return n8;
	case 2:
		memcpy(&n16, field, 2);
		return n16;
	case 4:
		memcpy(&n32, field, 4);
		return n32;
	default:
		assert(width == 8);
		memcpy(&n64, field, 8);
		return n64;
	}
}

/* Move @value into the target; its memory is the target's from now on, or freed. Cannot fail. */
static void prop_store(const struct prop *prop, struct prop_value *value, void *target)
{
	char *base = target;
	void *field = base + prop->offset;
	void *old;

	if (!prop->width) {
		free(value->memory);
		return;
	}
	if (prop_owns_memory(prop)) {
		memcpy(&old, field, sizeof(old));
		free(old);
		memcpy(field, &value->memory, sizeof(value->memory));
	} else if (prop->type == PROP_UUID) {
		memcpy(field, value->uuid, sizeof(value->uuid));
	} else if (prop->type == PROP_BOOL) {
		*(bool *)field = value->number;
	} else {
		prop_store_number(field, prop->width, value->number);
	}
	if (prop->type == PROP_UINT16_LIST)
		prop_store_number(base + prop->second, sizeof(size_t), value->second);
	else if (prop->type == PROP_PCI_ADDR)
		prop_store_number(base + prop->second, 1, value->second);
}

/* A default is parsed as if it had been given, but is neither refused nor marked as given. */
static int prop_store_default(const struct prop *prop, void *target)
{
	struct prop plain = *prop;
	struct prop_value value;
	json_t *text;
	int ret;

	if (!prop->defval || !prop->width)
		return 0;
	text = json_string(prop->defval);
	if (!text)
		return -ENOMEM;
	plain.refused = NULL;
	ret = prop_parse(&plain, "default", text, &value, NULL);
	json_decref(text);
	assert(!ret || ret == -ENOMEM);
	if (!ret)
		prop_store(prop, &value, target);
	return ret;
}

int props_init(const struct props *table, void *target)
{
	int ret = 0;

	for (; table && !ret; table = table->base) {
		for (size_t i = 0; i < table->count && !ret; i++)
			ret = prop_store_default(&table->list[i], target);
	}
	return ret;
}

static bool name_equal_but_dashes(const char *a, const char *b)
{
	while (*a && (*a == '_' ? '-' : *a) == (*b == '_' ? '-' : *b)) {
		a++;
		b++;
	}
	return !*a && !*b;
}

static int props_fail_unknown(const struct props *table, const char *what, const char *name,
			      struct err **err)
{
	char *names;
	int ret;

	for (const struct props *t = table; t; t = t->base) {
		for (size_t i = 0; i < t->count; i++) {
			if (name_equal_but_dashes(name, t->list[i].name))
				return err_set(err, EINVAL, "%s: %s is unknown; did you mean %s?",
					       what, name, t->list[i].name);
		}
	}
	names = props_names(table);
	if (!names)
		return err_set(err, ENOMEM, "out of memory");
	ret = err_set(err, EINVAL, "%s: %s is unknown; allowed: %s", what, name,
		      *names ? names : "nothing");
	free(names);
	return ret;
}

int props_set(const struct props *table, const char *what, const char *name, const json_t *value,
	      void *target, struct err **err)
{
	const struct prop *prop = props_find(table, name);
	struct prop_value parsed;
	int ret;

	if (!prop)
		return props_fail_unknown(table, what, name, err);
	if (prop->flags & PROP_READONLY)
		return err_set(err, EINVAL, "%s: %s cannot be set: %s", what, name, prop->help);
	ret = prop_parse(prop, what, value, &parsed, err);
	if (ret < 0)
		return ret;
	prop_store(prop, &parsed, target);
	if (prop->given)
		*((bool *)target + (prop->given - 1)) = true;
	return 0;
}

int props_apply(const struct props *table, const char *what, const json_t *values, void *target,
		struct err **err)
{
	/* jansson's iteration takes a pointer to a changeable object and changes nothing in it. */
	json_t *object = (json_t *)values;
	const char *name;
	json_t *value;
	int ret;

	json_object_foreach (object, name, value) {
		ret = props_set(table, what, name, value, target, err);
		if (ret < 0)
			return ret;
	}
	for (; table; table = table->base) {
		for (size_t i = 0; i < table->count; i++) {
			const struct prop *prop = &table->list[i];

			if ((prop->flags & PROP_REQUIRED) && !json_object_get(object, prop->name))
				return err_set(err, EINVAL, "%s: needs %s= (%s)", what, prop->name,
					       prop->help);
		}
	}
	return 0;
}

static json_t *prop_get_list(const struct prop *prop, const char *base)
{
	json_t *array = json_array();
	uint64_t count = prop_load_number(base + prop->second, sizeof(size_t));
	const uint16_t *list;

	memcpy(&list, base + prop->offset, sizeof(list));
	for (uint64_t i = 0; array && i < count; i++) {
		if (json_array_append_new(array, json_integer(list[i]))) {
			json_decref(array);
			array = NULL;
		}
	}
	return array;
}

static json_t *prop_get_uuid(const uint8_t *uuid)
{
	char text[37];
	size_t len = 0;

	for (size_t i = 0; i < 16; i++) {
		const char *dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";

		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%02x", dash, uuid[i]);
	}
	return json_string(text);
}

json_t *props_get(const struct prop *prop, const void *target)
{
	const char *base = target;
	const void *field = base + prop->offset;
	const char *text;

	if (!prop->width)
		return NULL;
	switch (prop->type) {
	case PROP_BOOL:
		return json_boolean(*(const bool *)field);
	case PROP_ON_OFF_AUTO:
	case PROP_ENUM:
		return json_string(prop_enum_names(prop)[prop_load_number(field, prop->width)]);
	case PROP_UINT:
	case PROP_SIZE:
		return json_integer((json_int_t)prop_load_number(field, prop->width));
	case PROP_PCI_ADDR:
		return json_sprintf("%02x.%x", *(const uint8_t *)field,
				    *(const uint8_t *)(base + prop->second));
	case PROP_UINT16_LIST:
		return prop_get_list(prop, base);
	case PROP_UUID:
		return prop_get_uuid(field);
	default:
		memcpy(&text, field, sizeof(text));
		return text ? json_stringn_nocheck(text, strlen(text)) : json_null();
	}
}

void props_done(const struct props *table, void *target)
{
	struct prop_value nothing = {0};

	for (; table; table = table->base) {
		for (size_t i = 0; i < table->count; i++) {
			if (prop_owns_memory(&table->list[i]))
				prop_store(&table->list[i], &nothing, target);
		}
	}
}
