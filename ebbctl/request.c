/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands for programs: see request.h. */
#include "ebbctl/request.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "ebbctl/client.h"
#include "ebbctl/print.h"

static int request_json(char *const *words, size_t nr, json_t **ret_request, struct err **err)
{
	json_error_t where;
	json_t *request;

	if (nr > 1)
		return err_set(err, EINVAL, "qmp: nothing may follow a request: '%s'", words[1]);
	request = json_loads(words[0], 0, &where);
	if (!request)
		return err_set(err, EINVAL, "qmp: the request is no JSON at column %d: %s",
			       where.column, where.text);
	if (!json_is_string(json_object_get(request, "execute")) &&
	    !json_is_string(json_object_get(request, "exec-oob"))) {
		json_decref(request);
		return err_set(
			err, EINVAL,
			"qmp: the request has no command: {\"execute\": NAME, \"arguments\": "
			"{...}} is allowed");
	}
	*ret_request = request;
	return 0;
}

/* One KEY=VALUE into @args. */
static int request_pair(json_t *args, const char *pair, struct err **err)
{
	const char *value = strchr(pair, '=');
	char key[128];
	json_t *json;

	if (!value || value == pair || (size_t)(value - pair) >= sizeof(key))
		return err_set(err, EINVAL, "qmp: '%s' is not KEY=VALUE", pair);
	memcpy(key, pair, (size_t)(value - pair));
	key[value - pair] = '\0';
	if (json_object_get(args, key))
		return err_set(err, EINVAL, "qmp: '%s' is given twice", key);
	value++;
	json = json_loads(value, JSON_DECODE_ANY, NULL);
	if (!json)
		json = json_string(value);
	if (!json || json_object_set_new(args, key, json))
		return err_set(err, EINVAL, "qmp: '%s' is not UTF-8 text", pair);
	return 0;
}

int request_parse(char *const *words, size_t nr, json_t **ret_request, struct err **err)
{
	json_t *args, *request;
	int ret = 0;

	if (words[0][strspn(words[0], " \t\n")] == '{')
		return request_json(words, nr, ret_request, err);
	args = json_object();
	for (size_t i = 1; !ret && i < nr; i++)
		ret = request_pair(args, words[i], err);
	if (ret) {
		json_decref(args);
		return ret;
	}
	request = json_pack("{s:s}", "execute", words[0]);
	if (!request || json_object_set(request, "arguments", args)) {
		json_decref(request);
		json_decref(args);
		return err_set(err, EINVAL, "qmp: '%s' is not UTF-8 text", words[0]);
	}
	json_decref(args);
	*ret_request = request;
	return 0;
}

int request_run(struct client *client, json_t *request)
{
	struct err *err = NULL;
	json_t *value = NULL;
	int status;

	if (client_call_request(client, request, &value, &err))
		return print_err(err);
	status = print_json(value);
	json_decref(value);
	return status;
}
