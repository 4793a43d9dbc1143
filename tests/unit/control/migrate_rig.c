/* SPDX-License-Identifier: BSD-3-Clause */
/* See migrate_rig.h. */
#include "tests/unit/control/migrate_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/job.h"
#include "vmm/core/loop.h"

const struct migration_info rig_half = {
	.status = MIGRATION_ACTIVE,
	.has_ram = true,
	.ram = {.transferred = 5000000,
		.remaining = 64 << 20,
		.total = 128 << 20,
		.duplicate = 10,
		.normal = 1200,
		.normal_bytes = 1200 * 4096,
		.dirty_pages_rate = 7,
		.mbps = 33.5,
		.dirty_sync_count = 2,
		.page_size = 4096,
		.pages_per_second = 60,
		.precopy_bytes = 5000000},
	.total_time_ms = 1500,
	.setup_time_ms = 3,
	.has_expected_downtime = true,
	.expected_downtime_ms = 300,
	.cpu_throttle_percentage = 20,
};

struct migration {
	struct migration_hooks hooks;
	void *opaque;
	struct migration_info info;
	struct migration_params params;
	uint32_t capabilities;
	int code;
	const char *sentence;
	char called[512];
};

struct vm {
	struct vm_config config;
};

/* What a session wrote. */
struct output {
	char *text;
	size_t size;
};

struct rig {
	struct migration migration;
	struct vm vm;
	struct control control;
	uv_loop_t uv;
	struct qmp_session *session;
	struct hmp_session *person;
	struct output program_output, person_output;
	json_t *events;
};

/* ---- the migration ---- */

const char *migration_status_name(enum migration_status status)
{
	static const char *const names[] = {
		"none",      "setup",           "cancelling",      "cancelled",
		"active",    "postcopy-active", "postcopy-paused", "postcopy-recover",
		"completed", "failed",          "pre-switchover",  "device"};

	return names[status];
}

bool migration_status_is_active(enum migration_status status)
{
	return status != MIGRATION_NONE && status != MIGRATION_CANCELLED &&
	       status != MIGRATION_COMPLETED && status != MIGRATION_FAILED;
}

const char *migration_capability_name(enum migration_capability capability)
{
	static const char *const names[] = {"auto-converge",
					    "zero-blocks",
					    "events",
					    "postcopy-ram",
					    "release-ram",
					    "return-path",
					    "pause-before-switchover",
					    "multifd",
					    "late-block-activate",
					    "validate-uuid"};

	return names[capability];
}

__attribute__((format(printf, 3, 4))) static int call(struct migration *m, struct err **err,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->called, sizeof(m->called), fmt, ap);
	va_end(ap);
	return m->code ? err_set(err, m->code, "%s", m->sentence) : 0;
}

void migration_set_hooks(struct migration *m, const struct migration_hooks *hooks, void *opaque)
{
	m->hooks = hooks ? *hooks : (struct migration_hooks){0};
	m->opaque = opaque;
}

uint32_t migration_capabilities(const struct migration *m)
{
	return m->capabilities;
}

int migration_set_capabilities(struct migration *m, uint32_t capabilities, struct err **err)
{
	int ret = call(m, err, "set-capabilities");

	if (!ret)
		m->capabilities = capabilities;
	return ret;
}

const struct migration_params *migration_params(const struct migration *m)
{
	return &m->params;
}

int migration_set_params(struct migration *m, const struct migration_params *params,
			 struct err **err)
{
	int ret = call(m, err, "set-params");

	if (!ret)
		m->params = *params;
	return ret;
}

int migration_start(struct migration *m, const char *uri, bool resume, struct err **err)
{
	return call(m, err, "start %s%s", uri, resume ? " resume" : "");
}

void migration_cancel(struct migration *m)
{
	snprintf(m->called, sizeof(m->called), "cancel");
}

int migration_continue(struct migration *m, enum migration_status status, struct err **err)
{
	return call(m, err, "continue %s", migration_status_name(status));
}

int migration_start_postcopy(struct migration *m, struct err **err)
{
	return call(m, err, "start-postcopy");
}

int migration_pause(struct migration *m, struct err **err)
{
	return call(m, err, "pause");
}

int migration_incoming(struct migration *m, const char *uri, struct err **err)
{
	return call(m, err, "incoming %s", uri);
}

int migration_recover(struct migration *m, const char *uri, struct err **err)
{
	return call(m, err, "recover %s", uri);
}

void migration_info(const struct migration *m, struct migration_info *ret_info)
{
	*ret_info = m->info;
}

void rig_fail(struct rig *rig, int code, const char *sentence)
{
	rig->migration.code = code;
	rig->migration.sentence = sentence;
}

const char *rig_called(const struct rig *rig)
{
	return rig->migration.called;
}

void rig_set(struct rig *rig, const struct migration_info *info)
{
	bool changed = info->status != rig->migration.info.status;

	rig->migration.info = *info;
	if (changed && rig->migration.hooks.status)
		rig->migration.hooks.status(rig->migration.opaque, info->status);
}

void rig_set_status(struct rig *rig, enum migration_status status, const char *error)
{
	const struct migration_info info = {.status = status, .error = error};

	rig_set(rig, &info);
}

void rig_pass(struct rig *rig, uint64_t pass)
{
	rig->migration.hooks.pass(rig->migration.opaque, pass);
}

struct migration_params *rig_params(struct rig *rig)
{
	return &rig->migration.params;
}

uint32_t *rig_capabilities(struct rig *rig)
{
	return &rig->migration.capabilities;
}

/* ---- the rest of the machine ---- */

const struct vm_config *vm_config(const struct vm *vm)
{
	return &vm->config;
}

struct vm_config *rig_config(struct rig *rig)
{
	return &rig->vm.config;
}

void control_emit(struct control *control, const char *name, json_t *data)
{
	qmp_emit(control->qmp, name, data);
}

uv_loop_t *loop_uv(struct loop *loop)
{
	return (uv_loop_t *)loop;
}

static void rig_job_changed(void *opaque, const char *id, enum job_status status)
{
	struct control *control = opaque;

	qmp_emit(control->qmp, "JOB_STATUS_CHANGE",
		 json_pack("{s:s, s:s}", "id", id, "status", job_status_name(status)));
}

/* ---- sessions ---- */

static size_t output_add(struct output *output, const char *buf, size_t size)
{
	output->text = realloc(output->text, output->size + size + 1);
	assert_non_null(output->text);
	memcpy(output->text + output->size, buf, size);
	output->size += size;
	output->text[output->size] = '\0';
	return size;
}

static void output_clear(struct output *output)
{
	free(output->text);
	*output = (struct output){0};
}

static size_t rig_write(void *opaque, const char *buf, size_t size)
{
	struct rig *rig = opaque;

	return output_add(&rig->program_output, buf, size);
}

static size_t rig_write_person(void *opaque, const char *buf, size_t size)
{
	struct rig *rig = opaque;

	return output_add(&rig->person_output, buf, size);
}

static void rig_drop(void *opaque)
{
	(void)opaque;
	fail_msg("a session was dropped");
}

static void rig_resume(void *opaque)
{
	(void)opaque;
}

static const struct qmp_session_ops rig_ops = {
	.write = rig_write, .drop = rig_drop, .resume = rig_resume};
static const struct hmp_session_ops rig_person_ops = {
	.write = rig_write_person, .drop = rig_drop, .resume = rig_resume};

/* Types of objects.c that answers here are made of. */
static const struct qmp_type rig_types[] = {
	{.name = "SocketAddressType", .kind = QMP_ENUM, .members = "inet unix fd"},
	{
		.name = "InetSocketAddress",
		.kind = QMP_STRUCT,
		.members = "host:str port:str *ipv4:bool *ipv6:bool",
	},
	{.name = "UnixSocketAddress", .kind = QMP_STRUCT, .members = "path:str"},
	{.name = "String", .kind = QMP_STRUCT, .members = "str:str"},
	{.name = NULL},
};
static const struct qmp_module rig_module = {NULL, rig_types, NULL};

int rig_setup(void **state)
{
	static const struct qmp_module *const modules[] = {&control_migrate_module,
							   &control_migrate_info_module,
							   &control_migrate_params_module,
							   &control_jobs_module,
							   &rig_module,
							   NULL};
	struct rig *rig = calloc(1, sizeof(*rig));
	struct qmp_config config = {.modules = modules, .prompt = "> ", .package = ""};
	struct jobs_config jobs = {.changed = rig_job_changed};
	struct err *err = NULL;

	assert_non_null(rig);
	*state = rig;
	assert_int_equal(uv_loop_init(&rig->uv), 0);
	rig->control.vm = &rig->vm;
	rig->control.main = (struct loop *)&rig->uv;
	config.uv = &rig->uv;
	config.ctx = jobs.opaque = &rig->control;
	rig->control.qmp = qmp_new(&config, &err);
	if (!rig->control.qmp)
		fail_msg("%s", err_message(err));
	rig->control.jobs = jobs_new(&jobs);
	rig->events = json_array();
	rig->migration.params = (struct migration_params){
		.throttle_trigger_threshold = 50,
		.cpu_throttle_initial = 20,
		.cpu_throttle_increment = 10,
		.max_cpu_throttle = 99,
		.max_bandwidth = 128 * MIB,
		.downtime_limit_ms = 300,
		.multifd_channels = 2,
		.multifd_zstd_level = 1,
		.announce_initial_ms = 50,
		.announce_max_ms = 550,
		.announce_rounds = 5,
		.announce_step_ms = 100,
	};
	assert_int_equal(control_migrate_init(&rig->control, &rig->migration, &err), 0);
	rig->session = qmp_session_new(rig->control.qmp, &rig_ops, rig, false);
	rig->person = hmp_session_new(qmp_human(rig->control.qmp), &rig_person_ops, rig);
	assert_non_null(rig->session);
	assert_non_null(rig->person);
	output_clear(&rig->program_output);
	rig_ask(rig, "qmp_capabilities", "{}", "{}");
	rig_sees(rig, "> ");
	return 0;
}

void rig_leave(struct rig *rig)
{
	hmp_session_free(rig->person);
	rig->person = NULL;
}

/* In the order of control_free(). */
void rig_end(struct rig *rig)
{
	rig_leave(rig);
	control_migrate_done(&rig->control);
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	rig_end(rig);
	qmp_session_free(rig->session);
	jobs_free(rig->control.jobs);
	qmp_free(rig->control.qmp);
	uv_run(&rig->uv, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->uv), 0);
	output_clear(&rig->program_output);
	output_clear(&rig->person_output);
	json_decref(rig->events);
	free(rig);
	return 0;
}

static json_t *rig_json(const char *text)
{
	char *copy = strdup(text);
	json_t *value;

	assert_non_null(copy);
	for (char *at = copy; (at = strchr(at, '\'')); at++)
		*at = '"';
	value = json_loads(copy, JSON_DECODE_ANY, NULL);
	if (!value)
		fail_msg("no JSON: %s", copy);
	free(copy);
	return value;
}

/* Sort what the program was told into events and the last answer, a new reference or NULL. */
static json_t *rig_read(struct rig *rig)
{
	json_t *answer = NULL;
	char *at = NULL;

	for (char *line =
		     strtok_r(rig->program_output.text ? rig->program_output.text : (char[]){0},
			      "\r\n", &at);
	     line; line = strtok_r(NULL, "\r\n", &at)) {
		json_t *message = json_loads(line, 0, NULL);

		assert_non_null(message);
		if (json_object_get(message, "event")) {
			json_array_append_new(rig->events, message);
			continue;
		}
		assert_null(answer);
		answer = message;
	}
	output_clear(&rig->program_output);
	return answer;
}

static json_t *rig_command(struct rig *rig, const char *command, json_t *args)
{
	json_t *message = json_pack("{s:s, s:o}", "execute", command, "arguments", args);
	char *line = json_dumps(message, 0);
	json_t *answer;

	json_decref(rig_read(rig));
	for (size_t at = 0, size = strlen(line), room; at < size; at += room) {
		room = num_min(qmp_session_room(rig->session), size - at);
		assert_true(room > 0);
		qmp_session_input(rig->session, line + at, room);
	}
	json_decref(message);
	free(line);
	answer = rig_read(rig);
	assert_non_null(answer);
	return answer;
}

/* ' stands for " in what is wanted: names of a sentence are wanted without. */
static void rig_unquote(const json_t *error)
{
	char text[512], *to = text;

	for (const char *at = json_string_value(json_object_get(error, "desc")); at && *at; at++)
		if (*at != '\'')
			*to++ = *at;
	*to = '\0';
	json_string_set(json_object_get(error, "desc"), text);
}

void rig_ask(struct rig *rig, const char *command, const char *args, const char *want)
{
	json_t *answer = rig_command(rig, command, rig_json(args)), *wanted = rig_json(want);
	const json_t *value = json_object_get(answer, "return");

	if (!value) {
		value = json_object_get(answer, "error");
		rig_unquote(value);
	}
	if (!json_equal(value, wanted))
		fail_msg("%s %s: %s instead of %s", command, args,
			 json_dumps(value, JSON_ENCODE_ANY), want);
	json_decref(answer);
	json_decref(wanted);
}

void rig_events(struct rig *rig, const char *want)
{
	char *text = NULL;
	const json_t *event;
	size_t size, i;
	FILE *out = open_memstream(&text, &size);

	json_decref(rig_read(rig));
	json_array_foreach (rig->events, i, event) {
		char *data = json_dumps(json_object_get(event, "data"), JSON_SORT_KEYS);

		for (char *at = data; at && (at = strchr(at, '"')); at++)
			*at = '\'';
		fprintf(out, "%s %s\n", json_string_value(json_object_get(event, "event")),
			data ? data : "");
		free(data);
	}
	fclose(out);
	json_array_clear(rig->events);
	assert_string_equal(text, want);
	free(text);
}

static void rig_printed(void *opaque, const char *output, size_t size)
{
	output_add(opaque, output, size);
}

/* Lines end with a newline alone. */
static void output_plain(struct output *output)
{
	char *to = output->text;

	for (char *at = output->text; at && *at; at++)
		if (*at != '\r' || at[1] != '\n')
			*to++ = *at;
	if (to)
		*to = '\0';
}

void rig_prints(struct rig *rig, const char *line, const char *want)
{
	struct output output = {0};

	assert_null(hmp_execute(qmp_human(rig->control.qmp), line, rig_printed, &output));
	output_plain(&output);
	assert_string_equal(output.text ? output.text : "", want);
	output_clear(&output);
}

void rig_type(struct rig *rig, const char *keys)
{
	for (; *keys; keys++) {
		assert_true(hmp_session_room(rig->person) > 0);
		hmp_session_input(rig->person, keys, 1);
	}
}

/* Escape sequences are the line editor's. */
void rig_sees(struct rig *rig, const char *want)
{
	output_plain(&rig->person_output);
	if (!rig->person_output.text || !strstr(rig->person_output.text, want))
		fail_msg("the person sees '%s', not '%s'",
			 rig->person_output.text ? rig->person_output.text : "", want);
	output_clear(&rig->person_output);
}

void rig_turn(struct rig *rig)
{
	uv_run(&rig->uv, UV_RUN_NOWAIT);
}
