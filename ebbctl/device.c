/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory devices: see device.h for the contract. */
#include "ebbctl/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "ebbctl/client.h"
#include "ebbctl/text.h"

/* Of other devices, in a sentence. */
#define DEVICE_NAMED_MAX 16

bool device_number(const json_t *object, const char *name, uint64_t *ret_number)
{
	const json_t *number = json_object_get(object, name);

	if (!json_is_integer(number) || json_integer_value(number) < 0)
		return false;
	*ret_number = (uint64_t)json_integer_value(number);
	return true;
}

bool device_info_read(const json_t *element, struct device_info *ret_info)
{
	const char *type = json_string_value(json_object_get(element, "type"));
	const json_t *data = json_object_get(element, "data");
	const char *id = json_string_value(json_object_get(data, "id"));
	struct device_info info = {.id = id ? id : ""};
	uint64_t node = 0;

	if (!type || strcmp(type, "virtio-mem") ||
	    !device_number(data, "size", &info.plugged_bytes) ||
	    !device_number(data, "requested-size", &info.requested_bytes) ||
	    !device_number(data, "max-size", &info.max_bytes) ||
	    !device_number(data, "block-size", &info.block_bytes) ||
	    !device_number(data, "memaddr", &info.addr))
		return false;
	device_number(data, "node", &node);
	info.node = (int64_t)node;
	*ret_info = info;
	return true;
}

/* "reg0, reg1", a new string. */
static char *device_names(const json_t *list)
{
	struct device_info info;
	char *text = NULL, *clean;
	size_t size, i, named = 0;
	FILE *out = open_memstream(&text, &size);

	for (i = 0; out && i < json_array_size(list); i++) {
		if (!device_info_read(json_array_get(list, i), &info))
			continue;
		if (named == DEVICE_NAMED_MAX) {
			fputs(", ...", out);
			break;
		}
		clean = text_clean(info.id, strlen(info.id), text_locale_utf8(), 0);
		fprintf(out, "%s%s", named++ ? ", " : "", clean ? clean : "");
		free(clean);
	}
	if (out)
		fclose(out);
	return text;
}

int device_find(struct client *client, const char *id, struct device_info *ret_info,
		json_t **ret_list, struct err **err)
{
	json_t *list = NULL;
	char *names;
	int ret;

	ret = client_call(client, "query-memory-devices", NULL, &list, err);
	if (ret)
		return ret;
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (!device_info_read(json_array_get(list, i), ret_info) ||
		    strcmp(ret_info->id, id))
			continue;
		*ret_list = list;
		return 0;
	}
	names = device_names(list);
	json_decref(list);
	if (names && *names)
		ret = err_set(err, ENODEV, "there is no memory device '%s': there are %s", id,
			      names);
	else
		ret = err_set(err, ENODEV,
			      "there is no memory device '%s': this machine has none that can be "
			      "resized",
			      id);
	free(names);
	return ret;
}
