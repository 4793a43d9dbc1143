/* SPDX-License-Identifier: BSD-3-Clause */
/* QEMU's option grammar: see opts.h for the contract. */
#include "qmp/opts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* No list of an option is longer; it bounds the index of "key.N". */
#define LIST_MAX 1024u

struct opts_item {
	const char *what;
	const char *key; /* inside the text, key_len bytes */
	size_t key_len;
	char *value; /* own memory */
};

/* The value that starts at *text, up to a single comma; moves *text to that comma or the end. */
static char *opts_scan_value(const char **text)
{
	const char *p = *text;
	char *value = malloc(strlen(p) + 1);
	size_t len = 0;

	if (!value)
		return NULL;
	while (*p && (*p != ',' || p[1] == ',')) {
		if (*p == ',')
			p++;
		value[len++] = *p++;
	}
	value[len] = '\0';
	*text = p;
	return value;
}

/* "key.12": the length of "key" and the index; false when it has no such end. */
static bool opts_split_index(const char *key, size_t len, size_t *ret_len, size_t *ret_index)
{
	size_t pos = len, index = 0;

	while (pos && key[pos - 1] >= '0' && key[pos - 1] <= '9')
		pos--;
	if (pos == len || pos < 2 || key[pos - 1] != '.')
		return false;
	for (size_t i = pos; i < len && index <= LIST_MAX; i++)
		index = index * 10 + (size_t)(key[i] - '0');
	*ret_len = pos - 1;
	*ret_index = index;
	return true;
}

/* Append @value to what @key has; the first value stays a string unless @list. */
static int opts_append(json_t *values, const char *key, json_t *value, bool list)
{
	json_t *old = json_object_get(values, key);
	json_t *array;

	if (!old && !list)
		return json_object_set_new_nocheck(values, key, value);
	if (json_is_array(old))
		return json_array_append_new(old, value);
	array = json_array();
	if (!array || (old && json_array_append(array, old)) || json_array_append(array, value)) {
		json_decref(array);
		json_decref(value);
		return -1;
	}
	json_decref(value);
	return json_object_set_new_nocheck(values, key, array);
}

/* Add one item to @values; the item stays the caller's. */
static int opts_add(json_t *values, const struct opts_item *item, unsigned int flags,
		    struct err **err)
{
	size_t len = item->key_len, index;
	bool list;
	json_t *value;
	char *key;
	int ret;

	if (!len)
		return err_set(err, EINVAL,
			       "%s: an item before '=' or ',' is empty; "
			       "allowed: key=value,key=value,...",
			       item->what);
	list = (flags & OPTS_LISTS) && opts_split_index(item->key, len, &len, &index);
	key = strndup(item->key, len);
	if (!key)
		return err_set(err, ENOMEM, "out of memory");
	if (list && index != json_array_size(json_object_get(values, key))) {
		ret = err_set(err, EINVAL, "%s: %s.N has to count up from 0 without holes",
			      item->what, key);
		free(key);
		return ret;
	}
	value = json_stringn_nocheck(item->value, strlen(item->value));
	ret = value ? opts_append(values, key, value, list) : -1;
	free(key);
	return ret ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* Read one item from *text on, up to its comma or the end. */
static int opts_scan_item(const char **text, const char *implied_key, unsigned int flags,
			  struct opts_item *ret_item)
{
	const char *p = *text;
	size_t len = strcspn(p, "=,");
	const char *flag_value = "on";

	ret_item->key = p;
	ret_item->key_len = len;
	if (p[len] == '=' || implied_key) {
		if (p[len] == '=') {
			p += len + 1;
		} else {
			ret_item->key = implied_key;
			ret_item->key_len = strlen(implied_key);
		}
		ret_item->value = opts_scan_value(&p);
		*text = p;
		return ret_item->value ? 0 : -ENOMEM;
	}
	if (!(flags & OPTS_PLAIN) && len > 2 && !strncmp(p, "no", 2)) {
		flag_value = "off";
		ret_item->key += 2;
		ret_item->key_len -= 2;
	}
	*text = p + len;
	ret_item->value = strdup(flag_value);
	return ret_item->value ? 0 : -ENOMEM;
}

static int opts_parse_text(const char *what, const char *text, const char *implied_key,
			   unsigned int flags, json_t *values, struct err **err)
{
	struct opts_item item = {.what = what};
	int ret = 0;

	while (*text && !ret) {
		if (opts_scan_item(&text, implied_key, flags, &item) < 0)
			return err_set(err, ENOMEM, "out of memory");
		implied_key = NULL;
		ret = opts_add(values, &item, flags, err);
		free(item.value);
		if (*text == ',')
			text++;
	}
	return ret;
}

static int opts_parse_json(const char *what, const char *text, json_t **ret_values,
			   struct err **err)
{
	json_error_t error;
	json_t *values = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	if (!values)
		return err_set(err, EINVAL, "%s: wrong JSON at character %d: %s", what,
			       error.position, error.text);
	*ret_values = values;
	return 0;
}

int opts_parse(const char *what, const char *text, const char *implied_key, unsigned int flags,
	       json_t **ret_values, struct err **err)
{
	json_t *values;
	int ret;

	if ((flags & OPTS_JSON) && *text == '{')
		return opts_parse_json(what, text, ret_values, err);
	if (!*text)
		return err_set(err, EINVAL, "%s: the argument is empty", what);
	values = json_object();
	if (!values)
		return err_set(err, ENOMEM, "out of memory");
	ret = opts_parse_text(what, text, implied_key, flags, values, err);
	if (ret < 0)
		json_decref(values);
	else
		*ret_values = values;
	return ret;
}

const char *opts_string(const json_t *values, const char *key)
{
	return json_string_value(json_object_get(values, key));
}

bool opts_wants_help(const json_t *values, const char *implied_key)
{
	const char *first = implied_key ? opts_string(values, implied_key) : NULL;

	return json_object_get(values, "help") || json_object_get(values, "?") ||
	       (first && (!strcmp(first, "help") || !strcmp(first, "?")));
}
