/* SPDX-License-Identifier: BSD-3-Clause */
/* Resizing: see resize.h. */
#include "ebbctl/resize.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/args.h"
#include "ebbctl/client.h"
#include "ebbctl/device.h"
#include "ebbctl/watch.h"
#include "ebbctl/print.h"
#include "ebbctl/text.h"

#define RESIZE_JOB_BYTES 128
#define RESIZE_ID_BYTES  64

/* A job's name that nobody else uses; a device's id that cannot be in one is left out. */
static void resize_job_name(char name[RESIZE_JOB_BYTES], const char *kind, const char *id)
{
	bool fits = strlen(id) <= RESIZE_ID_BYTES;

	for (size_t i = 0; id[i]; i++)
		fits = fits && (isalnum((unsigned char)id[i]) || strchr("-._", id[i]));
	snprintf(name, RESIZE_JOB_BYTES, "%s%s%s-%ld", kind, fits && *id ? "-" : "", fits ? id : "",
		 (long)getpid());
}

/* Add what both kinds take. 0 or -ENOMEM. */
static int resize_add_options(json_t *request, const struct args *args, const char *job)
{
	int ret = json_object_set_new(request, "job-id", json_string(job));

	if (!ret && args->timeout_ms)
		ret = json_object_set_new(request, "timeout",
					  json_integer((json_int_t)(args->timeout_ms / 1000)));
	return ret ? -ENOMEM : 0;
}

/* Start the job and, if that is asked for, watch it. @request is taken over. */
static int resize_start(struct client *client, const struct args *args, const char *command,
			json_t *request, const char *job, const char *what, const char *device,
			uint64_t bytes)
{
	char target[TEXT_SIZE_MAX];
	struct err *err = NULL;

	if (!request || resize_add_options(request, args, job)) {
		json_decref(request);
		err_set(&err, ENOMEM, "out of memory");
		return print_err(err);
	}
	if (client_call(client, command, request, NULL, &err))
		return print_err(err);
	if (args->wait)
		return watch_job(client, job, what, device, bytes);
	printf("%s: %s asked for, job %s\n", what, text_size(bytes, target), job);
	return print_flush();
}

int resize_device(struct client *client, const struct args *args)
{
	const char *id = args->words[0];
	char job[RESIZE_JOB_BYTES], *what;
	struct device_info info;
	struct err *err = NULL;
	json_t *list = NULL, *request;
	uint64_t bytes = 0;
	int status;

	if (device_find(client, id, &info, &list, &err))
		return print_err(err);
	status = args_size_apply(&args->size, id, info.requested_bytes, info.max_bytes, &bytes,
				 &err);
	json_decref(list);
	if (status)
		return print_err(err);
	what = text_clean(id, strlen(id), text_locale_utf8(), 0);
	resize_job_name(job, "resize", id);
	request = json_pack("{s:s,s:I}", "device", id, "size", (json_int_t)bytes);
	status = resize_start(client, args, "virtio-mem-resize", request, job, what ? what : "", id,
			      bytes);
	free(what);
	return status;
}

/* What the machine shall have by its devices' requests, boot memory included. */
static int resize_total_now(struct client *client, uint64_t *ret_bytes, struct err **err)
{
	json_t *list = NULL, *summary = NULL;
	struct device_info info;
	uint64_t total = 0;
	int ret;

	ret = client_call(client, "query-memory-size-summary", NULL, &summary, err);
	if (!ret)
		ret = client_call(client, "query-memory-devices", NULL, &list, err);
	if (!ret && !device_number(summary, "base-memory", &total))
		ret = err_set(err, EPROTO, "the monitor does not tell how much memory there is");
	for (size_t i = 0; !ret && i < json_array_size(list); i++)
		if (device_info_read(json_array_get(list, i), &info) &&
		    !num_add(total, info.requested_bytes, &total))
			ret = err_set(err, EPROTO,
				      "the monitor's sizes are more than there can be");
	json_decref(summary);
	json_decref(list);
	*ret_bytes = total;
	return ret;
}

int resize_all(struct client *client, const struct args *args)
{
	char job[RESIZE_JOB_BYTES], what[64] = "memory";
	uint64_t bytes = 0, now = 0;
	struct err *err = NULL;
	json_t *request;
	int ret = 0;

	if (args->node >= 0)
		snprintf(what, sizeof(what), "memory of node %lld", (long long)args->node);
	if (args->size.change != ARGS_TO)
		ret = resize_total_now(client, &now, &err);
	if (!ret)
		ret = args_size_apply(&args->size, what, now, INT64_MAX, &bytes, &err);
	if (ret)
		return print_err(err);
	resize_job_name(job, "memory-resize", "");
	request = json_pack("{s:I}", "total", (json_int_t)bytes);
	if (request && args->node >= 0 &&
	    json_object_set_new(request, "node", json_integer(args->node))) {
		json_decref(request);
		request = NULL;
	}
	return resize_start(client, args, "memory-resize", request, job, what, NULL, bytes);
}
