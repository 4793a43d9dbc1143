/* SPDX-License-Identifier: BSD-3-Clause */
/* A monitor over a made-up machine: see rig.h. */
#include "tests/unit/qmp/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"

/* Gives its arguments back. */
static int echo_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	struct rig *rig = command_ctx(call);

	rig->runs++;
	*ret_value = json_deep_copy(args);
	return *ret_value ? 0 : err_set(err, ENOMEM, "out of memory");
}

static void echo_print(struct command_call *call, const json_t *value)
{
	char *text = json_dumps(value, JSON_SORT_KEYS | JSON_ENCODE_ANY);

	command_printf(call, "%s\n", text ? text : "?");
	free(text);
}

/* Gives nothing. */
static int nothing_run(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	struct rig *rig = command_ctx(call);

	(void)args;
	(void)ret_value;
	(void)err;
	rig->runs++;
	return 0;
}

/* Fails as it is told. */
static int fail_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	const char *how = json_string_value(json_object_get(args, "how"));

	(void)call;
	(void)ret_value;
	if (!strcmp(how, "device"))
		return err_set(err, ENODEV, "Device 'x' not found");
	if (!strcmp(how, "inactive"))
		return err_set(err, ENXIO, "it is not active");
	if (!strcmp(how, "command"))
		return err_set(err, ENOSYS, "not here");
	if (!strcmp(how, "code"))
		return -EBUSY;
	if (!strcmp(how, "binary"))
		return err_set(err, EINVAL, "half \xc3 a character");
	return err_set(err, EINVAL, "it is broken");
}

static void later_unwanted(struct command_call *call, void *opaque)
{
	struct rig *rig = opaque;
	unsigned int i;

	assert_false(command_is_wanted(call));
	rig->unwanted++;
	if (!rig->end_unwanted)
		return;
	for (i = 0; rig->pending[i] != call; i++)
		;
	rig->nr_pending--;
	memmove(rig->pending + i, rig->pending + i + 1,
		(rig->nr_pending - i) * sizeof(*rig->pending));
	command_done(call, NULL, NULL);
}

/* Stays pending. */
static int later_run(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	struct rig *rig = command_ctx(call);

	(void)args;
	(void)ret_value;
	rig->runs++;
	if (rig->nr_pending == RIG_PENDING_MAX)
		return err_set(err, EBUSY, "too many calls are pending");
	assert_true(command_is_wanted(call));
	rig->pending[rig->nr_pending++] = call;
	command_on_unwanted(call, later_unwanted, rig);
	command_printf(call, "wait\n");
	return COMMAND_PENDING;
}

static void later_print(struct command_call *call, const json_t *value)
{
	(void)value;
	command_printf(call, "done\n");
}

/* Pending, and ended before it returns. */
static int at_once_run(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	(void)args;
	(void)ret_value;
	(void)err;
	command_done(call, json_pack("{s:i}", "at", 1), NULL);
	return COMMAND_PENDING;
}

/* Ends the oldest pending call of anyone. */
static int finish_run(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	struct rig *rig = command_ctx(call);

	(void)args;
	(void)ret_value;
	if (!rig->nr_pending)
		return err_set(err, ENXIO, "nothing is pending");
	rig_end(rig, NULL, NULL);
	return 0;
}

/* Frees a session from inside. */
static int leave_run(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	struct rig *rig = command_ctx(call);

	(void)args;
	(void)ret_value;
	(void)err;
	if (rig->leaver)
		client_close(rig->leaver);
	rig->leaver = NULL;
	return 0;
}

/* Takes a number of descriptors, tells how many there were. */
static int take_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	json_int_t want = json_integer_value(json_object_get(args, "count")), got = 0;
	int fd;

	(void)err;
	while (got < want && (fd = command_take_fd(call)) >= 0) {
		close(fd);
		got++;
	}
	*ret_value = json_integer(got);
	return 0;
}

static int emit_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	struct rig *rig = command_ctx(call);

	(void)ret_value;
	(void)err;
	qmp_emit(rig->qmp, json_string_value(json_object_get(args, "name")),
		 json_incref(json_object_get(args, "data")));
	return 0;
}

static int human_line_run(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	(void)ret_value;
	(void)err;
	return command_run_human(call, json_string_value(json_object_get(args, "command-line")));
}

/* People's own way to echo: the word reversed. */
static int reverse_run(struct command_call *call, const json_t *args, json_t **ret_value,
		       struct err **err)
{
	const char *word = json_string_value(json_object_get(args, "word"));
	size_t size = strlen(word);

	(void)ret_value;
	(void)err;
	assert_true(command_is_human(call));
	while (size)
		command_printf(call, "%c", word[--size]);
	command_printf(call, "\n");
	return 0;
}

static void names_complete(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	hmp_words_add(words, index ? "second" : "first");
}

static const struct command rig_commands[] = {
	{
		.name = "echo",
		.human = "echo|e",
		.args = "*text:str *flag:bool *int:int *number:number *size:size *u8:uint8 "
			"*u16:uint16 *u32:uint32 *u64:uint64 *i8:int8 *i16:int16 *i32:int32 "
			"*i64:int64 *null:null *any:any *mode:Mode *points:[Point] *shape:Shape "
			"*either:Either *tree:Tree *grid:[[int]]",
		.returns = "any",
		.human_args = "flag:-f,text:s?,size:M?,u8:i?",
		.params = "[-f] [text [size [u8]]]",
		.help = "give it back",
		.flags = COMMAND_BARE,
		.run = echo_run,
		.print = echo_print,
		.complete = names_complete,
	},
	{
		.name = "point",
		.args = "Point",
		.returns = "Point",
		.features = "shiny new",
		.run = echo_run,
	},
	{.name = "shape", .args = "Shape", .returns = "Shape", .run = echo_run},
	{.name = "nothing", .human = "nothing", .help = "do nothing", .run = nothing_run},
	{.name = "silent", .flags = COMMAND_NO_REPLY, .run = nothing_run},
	{.name = "fail",
	 .human = "fail",
	 .args = "how:str",
	 .human_args = "how:s",
	 .run = fail_run},
	{
		.name = "later",
		.human = "info later",
		.help = "wait",
		.run = later_run,
		.print = later_print,
	},
	{.name = "at-once", .human = "at_once", .run = at_once_run, .print = echo_print},
	{.name = "urgent", .args = "*n:int", .flags = COMMAND_OOB, .run = echo_run},
	{.name = "finish", .human = "finish", .flags = COMMAND_OOB, .run = finish_run},
	{.name = "leave", .human = "leave", .flags = COMMAND_OOB, .run = leave_run},
	{
		.name = "take",
		.human = "take",
		.args = "count:int",
		.returns = "int",
		.human_args = "count:i",
		.run = take_run,
		.print = echo_print,
	},
	{.name = "emit", .args = "name:str *data:any", .run = emit_run},
	{
		.name = "human-monitor-command",
		.args = "command-line:str",
		.returns = "str",
		.run = human_line_run,
	},
	{
		.human = "info reverse|r",
		.human_args = "word:s",
		.params = "word",
		.help = "turn it round",
		.run = NULL,
		.human_run = reverse_run,
	},
	{0},
};

static const struct qmp_type rig_types[] = {
	{.name = "Mode", .kind = QMP_ENUM, .members = "on off!unstable auto"},
	{.name = "Point", .kind = QMP_STRUCT, .members = "x:int y:int *label:str!unstable"},
	{
		.name = "Shape",
		.kind = QMP_UNION,
		.members = "kind:ShapeKind *mode:Mode",
		.tag = "kind",
		.variants = "circle:Circle polygon:Polygon",
		.features = "drawn",
	},
	{.name = "ShapeKind", .kind = QMP_ENUM, .members = "circle polygon nothing"},
	{.name = "Circle", .kind = QMP_STRUCT, .members = "centre:Point radius:uint32"},
	{.name = "Polygon", .kind = QMP_STRUCT, .members = "points:[Point]"},
	{.name = "Either", .kind = QMP_ALTERNATE, .members = "name:str point:Point none:null"},
	{.name = "Tree", .kind = QMP_STRUCT, .members = "*children:[Tree]"},
	{0},
};

static const struct qmp_event rig_events[] = {
	{.name = "PLAIN", .data = "*n:int *text:str"},
	{.name = "EMPTY"},
	{.name = "SLOW", .data = "*n:int", .rate_ms = 50},
	{.name = "KEYED", .data = "id:any *n:int", .rate_ms = 50, .key = "id"},
	{0},
};

const struct qmp_module rig_module = {rig_commands, rig_types, rig_events};

static const char *rig_missing(const char *name)
{
	return !strncmp(name, "disk-", 5) ? "there are no disks" : NULL;
}

static int rig_make(void **state, const char *bare)
{
	static const struct qmp_module *const modules[] = {&rig_module, NULL};
	struct rig *rig = calloc(1, sizeof(*rig));
	struct qmp_config config = {
		.modules = modules,
		.uv = &rig->uv,
		.ctx = rig,
		.major = 7,
		.minor = 2,
		.micro = 1,
		.package = "rig 1.0",
		.banner = "rig",
		.prompt = "(rig) ",
		.bare = bare,
		.missing = rig_missing,
	};
	struct err *err = NULL;

	assert_int_equal(uv_loop_init(&rig->uv), 0);
	rig->qmp = qmp_new(&config, &err);
	if (!rig->qmp)
		fail_msg("%s", err_message(err));
	*state = rig;
	return 0;
}

int rig_setup(void **state)
{
	return rig_make(state, NULL);
}

int rig_setup_bare(void **state)
{
	return rig_make(state, "there is no machine");
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < RIG_SESSIONS_MAX; i++)
		qmp_session_free(rig->sessions[i]);
	while (rig->nr_pending)
		rig_end(rig, NULL, NULL);
	qmp_free(rig->qmp);
	uv_run(&rig->uv, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->uv), 0);
	free(rig);
	return 0;
}

void rig_end(struct rig *rig, json_t *value, struct err *err)
{
	struct command_call *call = rig->pending[0];

	assert_true(rig->nr_pending > 0);
	rig->nr_pending--;
	memmove(rig->pending, rig->pending + 1, rig->nr_pending * sizeof(*rig->pending));
	command_done(call, value, err);
}

static size_t client_write(void *opaque, const char *buf, size_t size)
{
	struct client *client = opaque;
	size_t taken = num_min(size, client->limit - client->count);

	assert_int_equal(client->drops, 0);
	client->out = realloc(client->out, client->count + taken + 1);
	memcpy(client->out + client->count, buf, taken);
	client->count += taken;
	client->out[client->count] = '\0';
	return taken;
}

static void client_drop(void *opaque)
{
	struct client *client = opaque;

	client->drops++;
	if (client->free_on_drop)
		client_close(client);
}

static void client_resume(void *opaque)
{
	struct client *client = opaque;

	client->resumes++;
}

static int client_take_fd(void *opaque)
{
	struct client *client = opaque;
	int fd = client->fds[0];

	if (!client->nr_fds)
		return -1;
	client->nr_fds--;
	memmove(client->fds, client->fds + 1, client->nr_fds * sizeof(fd));
	return fd;
}

static bool client_ready(void *opaque)
{
	const struct client *client = opaque;

	return !client->stalled;
}

static const struct qmp_session_ops client_ops = {
	.write = client_write,
	.drop = client_drop,
	.resume = client_resume,
	.take_fd = client_take_fd,
	.ready = client_ready,
};

static const struct hmp_session_ops client_human_ops = {
	.write = client_write,
	.drop = client_drop,
	.resume = client_resume,
	.take_fd = client_take_fd,
};

static void rig_exchange(struct rig *rig, struct qmp_session *from, struct qmp_session *to)
{
	for (int i = 0; i < RIG_SESSIONS_MAX; i++) {
		if (rig->sessions[i] == from) {
			rig->sessions[i] = to;
			return;
		}
	}
}

void client_open(struct client *client, struct rig *rig, bool pretty)
{
	client->rig = rig;
	if (!client->limit)
		client->limit = SIZE_MAX;
	client->session = qmp_session_new(rig->qmp, &client_ops, client, pretty);
	rig_exchange(rig, NULL, client->session);
}

void client_open_ready(struct client *client, struct rig *rig, bool oob)
{
	client_open(client, rig, false);
	assert_non_null(client->session);
	client_clear(client);
	ASK(client,
	    oob ? "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}"
		: "{\"execute\": \"qmp_capabilities\"}",
	    "{\"return\": {}}\r\n");
	client_clear(client);
}

void client_open_human(struct client *client, struct rig *rig)
{
	client->rig = rig;
	if (!client->limit)
		client->limit = SIZE_MAX;
	client->human = hmp_session_new(qmp_human(rig->qmp), &client_human_ops, client);
}

void client_close(struct client *client)
{
	struct qmp_session *session = client->session;
	struct hmp_session *human = client->human;

	client->session = NULL;
	client->human = NULL;
	if (session)
		rig_exchange(client->rig, session, NULL);
	qmp_session_free(session);
	hmp_session_free(human);
	client_clear(client);
}

void client_clear(struct client *client)
{
	free(client->out);
	client->out = NULL;
	if (client->limit != SIZE_MAX)
		client->limit -= client->count;
	client->count = 0;
}

static size_t client_room(const struct client *client)
{
	if (client->session)
		return qmp_session_room(client->session);
	return client->human ? hmp_session_room(client->human) : 0;
}

/* A session that was given much does it in several rounds of the loop. */
static void client_settle(const struct client *client)
{
	size_t before;

	do {
		before = client->count;
		if (client->session && qmp_session_busy(client->session))
			uv_run(&client->rig->uv, UV_RUN_NOWAIT);
	} while (client->count != before);
}

size_t client_send(struct client *client, const void *buf, size_t size)
{
	size_t sent = 0, part;

	while (sent < size) {
		client_settle(client);
		part = num_min(size - sent, client_room(client));
		if (!part)
			break;
		if (client->session)
			qmp_session_input(client->session, (const char *)buf + sent, part);
		else
			hmp_session_input(client->human, (const char *)buf + sent, part);
		sent += part;
	}
	client_settle(client);
	return sent;
}

const char *client_ask(struct client *client, const char *text)
{
	client_clear(client);
	client_send(client, text, strlen(text));
	return client->out ? client->out : "";
}
