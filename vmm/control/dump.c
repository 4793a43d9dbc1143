/* SPDX-License-Identifier: BSD-3-Clause */
/* dump-guest-memory, query-dump, and what people type: see dump.h. */
#include "vmm/control/dump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/job.h"
#include "vmm/control/answer.h"
#include "vmm/control/internal.h"
#include "vmm/dump/dump.h"

#define DUMP_JOB_TYPE "dump-guest-memory"
#define DUMP_JOB_ID   "dump"

struct control_dump {
	struct control *control;
	struct dump *dump;
	struct job *job;              /* NULL: none is under way, or it has none */
	struct command_call *waiting; /* who asked for it, and was not answered yet */
	bool detach;                  /* he is answered when it has begun */
	bool begun;
};

static const char *const dump_statuses[] = {
	[DUMP_NONE] = "none",
	[DUMP_ACTIVE] = "active",
	[DUMP_COMPLETED] = "completed",
	[DUMP_FAILED] = "failed",
};

static struct control_dump *dump_of(struct command_call *call)
{
	const struct control *control = command_ctx(call);

	return control->dump;
}

static json_t *dump_result(const struct control_dump *d)
{
	struct dump_info info;

	dump_info(d->dump, &info);
	return json_pack("{s:s, s:I, s:I}", "status", dump_statuses[info.status], "completed",
			 (json_int_t)info.completed, "total", (json_int_t)info.total);
}

/* Whatever is wrong with a file is no class of its own for programs (qmp/qmp.h). NULL: nothing is. */
static struct err *dump_why(const struct control_dump *d)
{
	struct dump_info info;
	struct err *err = NULL;

	dump_info(d->dump, &info);
	if (info.status == DUMP_FAILED)
		err_set(&err, EIO, "%s", info.error ? info.error : "out of memory");
	return err;
}

/* ---- the job ---- */

static void dump_job_cancel(void *opaque)
{
	struct control_dump *d = opaque;

	dump_cancel(d->dump);
}

static void dump_job_look(void *opaque)
{
	struct control_dump *d = opaque;
	struct dump_info info;

	dump_info(d->dump, &info);
	if (info.total)
		job_set_remaining(d->job, info.total - num_min(info.completed, info.total));
}

static const struct job_ops dump_job_ops = {
	.cancel = dump_job_cancel,
	.look = dump_job_look,
};

/* The job of the one before; there is one at most. */
static bool dump_job_find_old(void *opaque, const struct job_info *info)
{
	char *id = opaque;

	if (strcmp(info->type, DUMP_JOB_TYPE) != 0 || info->status != JOB_CONCLUDED)
		return true;
	snprintf(id, JOB_ID_MAX + 1, "%s", info->id);
	return false;
}

static void dump_job_start(struct control_dump *d)
{
	struct jobs *jobs = d->control->jobs;
	char old[JOB_ID_MAX + 1] = "";

	jobs_for_each(jobs, dump_job_find_old, old);
	if (*old)
		jobs_dismiss(jobs, old, NULL);
	d->job = job_new(jobs, NULL, DUMP_JOB_ID, DUMP_JOB_TYPE, &dump_job_ops, d, NULL);
	if (d->job)
		job_start(d->job);
}

static void dump_job_conclude(struct control_dump *d, struct err *err)
{
	struct job *job = d->job;

	d->job = NULL;
	if (job)
		job_conclude(job, NULL, err);
	else
		err_free(err);
}

/* ---- what becomes of it ---- */

static void dump_answer(struct control_dump *d, struct err *err)
{
	struct command_call *call = d->waiting;

	d->waiting = NULL;
	if (call)
		command_done(call, NULL, err);
	else
		err_free(err);
}

static void dump_on_begun(void *opaque)
{
	struct control_dump *d = opaque;

	d->begun = true;
	if (d->job)
		dump_job_look(d);
	if (d->detach)
		dump_answer(d, NULL);
}

static void dump_tell_end(struct control_dump *d)
{
	json_t *data = json_pack("{s:o}", "result", dump_result(d));
	struct err *why = dump_why(d);

	if (why)
		control_set(&data, "error", json_string(err_message(why)));
	err_free(why);
	control_emit(d->control, "DUMP_COMPLETED", data);
}

static void dump_on_ended(void *opaque)
{
	struct control_dump *d = opaque;

	if (d->begun)
		dump_tell_end(d);
	if (d->job)
		dump_job_look(d);
	dump_job_conclude(d, dump_why(d));
	dump_answer(d, dump_why(d));
}

int control_dump_init(struct control *control, struct err **err)
{
	static const struct dump_hooks hooks = {
		.begun = dump_on_begun,
		.ended = dump_on_ended,
	};
	struct control_dump *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(err, ENOMEM, "out of memory");
	d->control = control;
	d->dump = dump_new(control->vm, control->main, &hooks, d, err);
	if (!d->dump) {
		free(d);
		return -EIO;
	}
	control->dump = d;
	return 0;
}

void control_dump_done(struct control *control)
{
	struct control_dump *d = control->dump;
	struct err *err = NULL;

	if (!d)
		return;
	dump_free(d->dump);
	if (d->job) {
		err_set(&err, ESHUTDOWN, "the machine ended");
		dump_job_conclude(d, err);
	}
	if (d->waiting) {
		err = NULL;
		err_set(&err, ESHUTDOWN, "the machine ended");
		dump_answer(d, err);
	}
	control->dump = NULL;
	free(d);
}

/* ---- commands ---- */

/* The dump goes on; there is nobody to be answered. */
static void dump_unwanted(struct command_call *call, void *opaque)
{
	(void)call;
	dump_answer(opaque, NULL);
}

static int dump_check_filter(const json_t *args, struct dump_request *request, struct err **err)
{
	const json_t *begin = json_object_get(args, "begin");
	const json_t *length = json_object_get(args, "length");
	json_int_t start = json_integer_value(begin), size = json_integer_value(length);

	request->has_filter = begin || length;
	if (!request->has_filter)
		return 0;
	if (!begin || !length)
		return err_set(err, EINVAL,
			       "Parameter '%s' is missing: 'begin' and 'length' come together",
			       begin ? "length" : "begin");
	if (start < 0)
		return err_set(err, EINVAL, "Parameter 'begin' expects an address from 0 on");
	if (size <= 0)
		return err_set(err, EINVAL, "Parameter 'length' expects a number of bytes, from 1");
	/* Neither is more than INT64_MAX. */
	request->filter = (struct range){(uint64_t)start, (uint64_t)size};
	return 0;
}

static int dump_begin(struct command_call *call, const json_t *args, const char *protocol,
		      struct err **err)
{
	struct control_dump *d = dump_of(call);
	struct dump_request request = {.protocol = protocol};
	int ret = dump_check_filter(args, &request, err);

	if (!ret)
		ret = dump_start(d->dump, &request, err);
	if (ret) {
		struct err *why = NULL;

		if (*err)
			err_set(&why, EIO, "%s", err_message(*err));
		err_free(*err);
		*err = why;
		return -EIO;
	}
	d->begun = false;
	d->detach = control_flag(args, "detach");
	d->waiting = call;
	dump_job_start(d);
	command_on_unwanted(call, dump_unwanted, d);
	return COMMAND_PENDING;
}

static int dump_refuse_paging(struct err **err)
{
	return err_set(err, ENOTSUP,
		       "Parameter 'paging' cannot be true: a dump holds physical addresses only; "
		       "crash(8) and others find the guest's page tables in it");
}

static int dump_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	const char *format = control_text(args, "format");

	(void)ret_value;
	if (*format && strcmp(format, "elf") != 0)
		return err_set(err, ENOTSUP,
			       "Parameter 'format' cannot be '%s' in this version; allowed: elf",
			       format);
	if (control_flag(args, "paging"))
		return dump_refuse_paging(err);
	return dump_begin(call, args, control_text(args, "protocol"), err);
}

static int dump_run_human(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	static const char *const formats[] = {"zlib", "lzo", "snappy", "windmp"};
	char *protocol;
	int ret;

	(void)ret_value;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (control_flag(args, formats[i]))
			return err_set(
				err, ENOTSUP,
				"the only format of this version is ELF: it needs no option");
	if (control_flag(args, "paging"))
		return dump_refuse_paging(err);
	if (asprintf(&protocol, "file:%s", control_text(args, "filename")) < 0)
		return err_set(err, ENOMEM, "out of memory");
	ret = dump_begin(call, args, protocol, err);
	free(protocol);
	return ret;
}

static int dump_query(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	(void)args;
	return control_answer(dump_result(dump_of(call)), ret_value, err);
}

static void dump_print(struct command_call *call, const json_t *value)
{
	const char *status = control_text(value, "status");
	uint64_t total = control_number(value, "total");
	struct err *why = dump_why(dump_of(call));

	command_printf(call, "Status: %s\n", status);
	if (!strcmp(status, dump_statuses[DUMP_ACTIVE]) && total)
		command_printf(call, "Finished: %.2f %%\n",
			       100.0 * (double)control_number(value, "completed") / (double)total);
	if (why)
		command_printf(call, "Error: %s\n", err_message(why));
	err_free(why);
}

static int dump_query_capability(struct command_call *call, const json_t *args, json_t **ret_value,
				 struct err **err)
{
	(void)call;
	(void)args;
	return control_answer(json_pack("{s:[s]}", "formats", "elf"), ret_value, err);
}

/* ---- the module ---- */

static const struct command dump_commands[] = {
	{
		.name = "dump-guest-memory",
		.args = "paging:bool protocol:str *detach:bool *begin:int *length:int "
			"*format:DumpGuestMemoryFormat",
		.help = "write the guest's memory to a file that debuggers read",
		.run = dump_run,
	},
	{
		.human = "dump-guest-memory",
		.human_args = "paging:-p,detach:-d,windmp:-w,zlib:-z,lzo:-l,snappy:-s,filename:F,"
			      "begin:l?,length:l?",
		.params = "[-d] filename [begin length]",
		.help = "write the guest's memory to a file that debuggers read; with -d do not "
			"wait",
		.human_run = dump_run_human,
	},
	{
		.name = "query-dump",
		.human = "info dump",
		.returns = "DumpQueryResult",
		.help = "show how a dump of guest memory gets on, or how the last one went",
		.run = dump_query,
		.print = dump_print,
	},
	{
		.name = "query-dump-guest-memory-capability",
		.returns = "DumpGuestMemoryCapability",
		.help = "show the formats that a dump of guest memory can have",
		.flags = COMMAND_BARE,
		.run = dump_query_capability,
	},
	{.name = NULL},
};

static const struct qmp_type dump_types[] = {
	{
		.name = "DumpGuestMemoryFormat",
		.kind = QMP_ENUM,
		.members = "elf kdump-zlib kdump-lzo kdump-snappy win-dmp",
	},
	{
		.name = "DumpGuestMemoryCapability",
		.kind = QMP_STRUCT,
		.members = "formats:[DumpGuestMemoryFormat]",
	},
	{.name = "DumpStatus", .kind = QMP_ENUM, .members = "none active completed failed"},
	{
		.name = "DumpQueryResult",
		.kind = QMP_STRUCT,
		.members = "status:DumpStatus completed:int total:int",
	},
	{.name = NULL},
};

static const struct qmp_event dump_events[] = {
	{.name = "DUMP_COMPLETED", .data = "result:DumpQueryResult *error:str"},
	{.name = NULL},
};

const struct qmp_module control_dump_module = {dump_commands, dump_types, dump_events};
