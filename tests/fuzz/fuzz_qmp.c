/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer target for the monitors: clients, programs and people, that send what they like, in any
 * pieces, read or do not read, and leave; over a made-up machine with commands that wait, that are
 * urgent, that free sessions and send events. It checks that
 *   - what a program gets are lines of JSON, each a greeting, an answer or an event, and nothing
 *     but the greeting and answers before capabilities are negotiated;
 *   - a session takes no more than its room, is dropped once at most, and not written to after;
 *   - a program that takes its answers can always get one: at the end each is brought to a known
 *     state and asked something.
 * Memory errors are left to the sanitizers.
 *
 * Input: operations of one byte each, followed by their operands.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "qmp/command.h"
#include "qmp/qmp.h"
#include "tests/fuzz/input.h"

#define CLIENTS 4
#define PENDING 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct machine;

struct client {
	struct machine *machine;
	struct qmp_session *program;
	struct hmp_session *person;
	size_t limit; /* bytes that it still takes */
	unsigned int fds;
	bool is_person, pretty, negotiated, stalled, dropped, free_on_drop;
	json_int_t last_id; /* of the last answer with an integer for its id */
};

struct machine {
	uv_loop_t uv;
	struct qmp *qmp;
	struct client clients[CLIENTS];
	struct command_call *pending[PENDING];
	unsigned int nr_pending;
	unsigned int leaver; /* the client that "leave" frees */
	bool end_unwanted;
};

/* A broken promise must stop the fuzzer in every build, so this is no assert(). */
static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void client_close(struct client *client)
{
	struct qmp_session *program = client->program;
	struct hmp_session *person = client->person;

	client->program = NULL;
	client->person = NULL;
	qmp_session_free(program);
	hmp_session_free(person);
}

/* Commands of the machine. */

static int run_echo(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	(void)call;
	*ret_value = json_deep_copy(args);
	return *ret_value ? 0 : err_set(err, ENOMEM, "out of memory");
}

static void print_echo(struct command_call *call, const json_t *value)
{
	char *text = json_dumps(value, 0);

	command_printf(call, "%s\n", text ? text : "");
	free(text);
}

static int run_fail(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	(void)ret_value;
	command_printf(call, "it fails\n");
	return err_set(err, ENODEV, "there is no '%s'",
		       json_string_value(json_object_get(args, "id")));
}

static void unwanted(struct command_call *call, void *opaque)
{
	struct machine *m = opaque;
	unsigned int i = 0;

	check(!command_is_wanted(call), "an unwanted call is not wanted");
	if (!m->end_unwanted)
		return;
	while (i < m->nr_pending && m->pending[i] != call)
		i++;
	check(i < m->nr_pending, "an unwanted call is pending");
	m->pending[i] = m->pending[--m->nr_pending];
	command_done(call, json_true(), NULL);
}

static int run_later(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	struct machine *m = command_ctx(call);

	(void)args;
	(void)ret_value;
	if (m->nr_pending == PENDING)
		return err_set(err, EBUSY, "too many are pending");
	m->pending[m->nr_pending++] = call;
	command_on_unwanted(call, unwanted, m);
	return COMMAND_PENDING;
}

static void end(struct machine *m, unsigned int index, bool failed)
{
	struct command_call *call = m->pending[index];
	struct err *err = NULL;

	m->pending[index] = m->pending[--m->nr_pending];
	if (failed)
		err_set(&err, EIO, "it came to nothing");
	command_done(call, json_integer(1), err);
}

static int run_finish(struct command_call *call, const json_t *args, json_t **ret_value,
		      struct err **err)
{
	struct machine *m = command_ctx(call);

	(void)args;
	(void)ret_value;
	if (!m->nr_pending)
		return err_set(err, ENXIO, "nothing is pending");
	end(m, 0, false);
	return 0;
}

static int run_leave(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	struct machine *m = command_ctx(call);

	(void)args;
	(void)ret_value;
	(void)err;
	client_close(&m->clients[m->leaver]);
	return 0;
}

static int run_emit(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	struct machine *m = command_ctx(call);

	(void)ret_value;
	(void)err;
	qmp_emit(m->qmp, "SLOW", json_pack("{s:O}", "id", json_object_get(args, "id")));
	qmp_emit(m->qmp, "PLAIN", NULL);
	return 0;
}

static int run_take(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	int fd = command_take_fd(call);

	(void)args;
	(void)ret_value;
	if (fd < 0)
		return err_set(err, EINVAL, "no descriptor came along");
	close(fd);
	return 0;
}

static int run_human(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	(void)ret_value;
	(void)err;
	return command_run_human(call, json_string_value(json_object_get(args, "line")));
}

static void complete(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	hmp_words_add(words, index ? "second" : "first");
	hmp_words_add(words, "fifth");
}

static const struct command commands[] = {
	{
		.name = "echo",
		.human = "echo|e",
		.args = "*id:str *n:uint8 *size:size *flag:bool *list:[[Node]] *node:Node "
			"*shape:Shape *either:Either *any:any",
		.human_args = "flag:-f,id:s?,size:M?,n:i?",
		.returns = "any",
		.params = "[-f] [id]",
		.help = "echo",
		.run = run_echo,
		.print = print_echo,
		.complete = complete,
	},
	{
		.name = "fail",
		.human = "info fail",
		.args = "id:str",
		.human_args = "id:S",
		.run = run_fail,
	},
	{.name = "later", .human = "info later|l", .run = run_later},
	{.name = "urgent", .args = "Shape", .flags = COMMAND_OOB, .run = run_echo},
	{.name = "finish", .human = "finish", .flags = COMMAND_OOB, .run = run_finish},
	{.name = "leave", .human = "leave", .flags = COMMAND_OOB, .run = run_leave},
	{.name = "emit", .args = "id:any", .flags = COMMAND_OOB, .run = run_emit},
	{.name = "take", .human = "take", .run = run_take},
	{.name = "silent", .flags = COMMAND_NO_REPLY, .args = "*any:any", .run = run_echo},
	{.name = "human", .args = "line:str", .returns = "str", .run = run_human},
	{0},
};

static const struct qmp_type types[] = {
	{.name = "Node", .kind = QMP_STRUCT, .members = "*next:Node *value:int32 *list:[Node]"},
	{
		.name = "Shape",
		.kind = QMP_UNION,
		.members = "kind:Kind",
		.tag = "kind",
		.variants = "node:Node",
	},
	{.name = "Kind", .kind = QMP_ENUM, .members = "node none"},
	{.name = "Either",
	 .kind = QMP_ALTERNATE,
	 .members = "a:str b:Node c:[int] d:number e:null"},
	{0},
};

static const struct qmp_event events[] = {
	{.name = "SLOW", .data = "id:any", .rate_ms = 1, .key = "id"},
	{.name = "PLAIN"},
	{0},
};

/* Clients. */

static void client_message(struct client *client, const json_t *message)
{
	const json_t *id = json_object_get(message, "id");
	bool event = json_object_get(message, "event") != NULL;

	check(json_object_get(message, "QMP") || json_object_get(message, "return") ||
		      json_object_get(message, "error") || event,
	      "a message is of a known kind");
	check(!event || client->negotiated, "no event comes before capabilities are negotiated");
	if (json_object_get(message, "return"))
		client->negotiated = true;
	if (json_is_integer(id))
		client->last_id = json_integer_value(id);
}

static void client_output(struct client *client, const char *buf, size_t size)
{
	json_t *message;

	check(size >= 2 && !memcmp(buf + size - 2, "\r\n", 2), "a message ends in CR LF");
	for (size_t i = 0; i < size; i++)
		check(buf[i] == '\r' || buf[i] == '\n' || buf[i] >= 0x20,
		      "messages are ASCII text");
	check(client->pretty || memchr(buf, '\n', size) == buf + size - 1, "a message is a line");
	message = json_loadb(buf, size, JSON_REJECT_DUPLICATES, NULL);
	check(message != NULL, "a message is JSON");
	client_message(client, message);
	json_decref(message);
}

static size_t client_write(void *opaque, const char *buf, size_t size)
{
	struct client *client = opaque;

	check(!client->dropped, "nothing is written after the drop");
	if (size > client->limit)
		return client->limit;
	client->limit -= size;
	if (!client->is_person)
		client_output(client, buf, size);
	return size;
}

static void client_drop(void *opaque)
{
	struct client *client = opaque;

	check(!client->dropped, "a session is dropped once");
	client->dropped = true;
	if (client->free_on_drop)
		client_close(client);
}

static void client_resume(void *opaque)
{
	const struct client *client = opaque;

	check(!client->program || qmp_session_room(client->program), "there is room again");
}

static int client_take_fd(void *opaque)
{
	struct client *client = opaque;

	if (!client->fds)
		return -1;
	client->fds--;
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool client_ready(void *opaque)
{
	const struct client *client = opaque;

	return !client->stalled;
}

static const struct qmp_session_ops program_ops = {
	.write = client_write,
	.drop = client_drop,
	.resume = client_resume,
	.take_fd = client_take_fd,
	.ready = client_ready,
};

static const struct hmp_session_ops person_ops = {
	.write = client_write,
	.drop = client_drop,
	.resume = client_resume,
	.take_fd = client_take_fd,
};

static size_t client_room(const struct client *client)
{
	if (client->program)
		return qmp_session_room(client->program);
	return client->person ? hmp_session_room(client->person) : 0;
}

/* As much as is taken, in pieces of @piece bytes. Returns how much it was. */
static size_t client_send(struct client *client, const void *buf, size_t size, size_t piece)
{
	size_t sent = 0, part;

	while (sent < size && (part = num_min(num_min(piece, size - sent), client_room(client)))) {
		if (client->program)
			qmp_session_input(client->program, (const char *)buf + sent, part);
		else
			hmp_session_input(client->person, (const char *)buf + sent, part);
		sent += part;
	}
	return sent;
}

static void client_open(struct client *client, struct machine *m, uint8_t how)
{
	client_close(client);
	*client = (struct client){
		.machine = m,
		.limit = how & 8 ? (size_t)how * 16 : SIZE_MAX,
		.is_person = how & 1,
		.pretty = how & 2,
		.free_on_drop = how & 4,
	};
	if (client->is_person)
		client->person = hmp_session_new(qmp_human(m->qmp), &person_ops, client);
	else
		client->program = qmp_session_new(m->qmp, &program_ops, client, client->pretty);
	if (client->program && how & 16)
		client_send(client, "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}",
			    61, SIZE_MAX);
}

/* A well-formed message (or line) with arguments that the input chose. */
static void client_command(struct client *client, struct input *in)
{
	uint8_t which = (uint8_t)take(in, 1);
	const struct command *command = &commands[which % (ARRAY_SIZE(commands) - 1)];
	size_t args = (size_t)num_min(take(in, 1), in->left);
	char text[512];
	int size;

	if (client->person)
		size = snprintf(text, sizeof(text), "%s %.*s\n",
				command->human ? command->human : "help", (int)args, in->data);
	else
		size = snprintf(text, sizeof(text), "{\"%s\": \"%s\", \"id\": %u%s%.*s}",
				which & 128 ? "exec-oob" : "execute", command->name, which,
				args ? ", \"arguments\": " : "", (int)args, in->data);
	in->data += args;
	in->left -= args;
	client_send(client, text, (size_t)num_min((size_t)size, sizeof(text) - 1), SIZE_MAX);
}

static void step(struct machine *m, struct input *in)
{
	uint8_t op = (uint8_t)take(in, 1);
	struct client *client = &m->clients[op / 16 % CLIENTS];
	size_t size;

	switch (op % 16) {
	case 0:
	case 1:
		size = (size_t)num_min(take(in, op % 16 ? 2 : 1), in->left);
		client_send(client, in->data, size, op & 128 ? 1 : SIZE_MAX);
		in->data += size;
		in->left -= size;
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		client_command(client, in);
		break;
	case 6:
		client_open(client, m, (uint8_t)take(in, 1));
		break;
	case 7:
		client_close(client);
		break;
	case 8:
		if (m->nr_pending)
			end(m, (unsigned int)take(in, 1) % m->nr_pending, op & 128);
		break;
	case 9:
		client->stalled = !client->stalled;
		if (client->program && !client->stalled)
			qmp_session_writable(client->program);
		break;
	case 10:
		client->limit = (size_t)take(in, 2);
		break;
	case 11:
		client->fds += 1 + op / 128;
		break;
	case 12:
		qmp_emit(m->qmp, "SLOW", json_pack("{s:i}", "id", (int)take(in, 1)));
		break;
	case 13:
		uv_run(&m->uv, UV_RUN_NOWAIT);
		break;
	case 14:
		m->leaver = op / 16 % CLIENTS;
		m->end_unwanted = op & 128;
		break;
	default:
		if (client->person)
			hmp_session_refresh(client->person);
		if (m->nr_pending)
			command_printf(m->pending[0], "progress %u\n", op);
		break;
	}
}

/* Bring the session to a known state, and ask. */
static void client_probe(struct machine *m, struct client *client)
{
	static const char probe[] =
		"\xff\n{'execute':'qmp_capabilities'}{'execute':'query-commands','id':1000}"
		"{'execute':'query-version','id':1001}";
	size_t sent = 0;

	client->stalled = false;
	client->limit = SIZE_MAX;
	if (!client->program || client->dropped)
		return;
	qmp_session_writable(client->program);
	while (client->program && (sent < sizeof(probe) - 1 || qmp_session_busy(client->program))) {
		while (m->nr_pending)
			end(m, 0, false);
		uv_run(&m->uv, UV_RUN_NOWAIT);
		sent += client_send(client, probe + sent, sizeof(probe) - 1 - sent, SIZE_MAX);
	}
	check(!client->program || client->last_id == 1001, "a session can be asked something");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct qmp_module module = {commands, types, events};
	static const struct qmp_module *const modules[] = {&module, NULL};
	struct machine *m = calloc(1, sizeof(*m));
	struct qmp_config config = {
		.modules = modules,
		.uv = &m->uv,
		.ctx = m,
		.major = 7,
		.minor = 2,
		.package = "fuzz",
		.banner = "banner",
		.prompt = "(fuzz) ",
	};
	struct input in = {data, size};

	uv_loop_init(&m->uv);
	m->qmp = qmp_new(&config, NULL);
	check(m->qmp != NULL, "the tables fit");
	client_open(&m->clients[0], m, 16);
	client_open(&m->clients[1], m, 1);
	while (in.left)
		step(m, &in);
	m->leaver = 0;
	m->end_unwanted = false;
	for (unsigned int i = 0; i < CLIENTS; i++)
		client_probe(m, &m->clients[i]);
	for (unsigned int i = 0; i < CLIENTS; i++)
		client_close(&m->clients[i]);
	while (m->nr_pending)
		end(m, 0, false);
	qmp_free(m->qmp);
	uv_run(&m->uv, UV_RUN_DEFAULT);
	check(!uv_loop_close(&m->uv), "no handle is left behind");
	free(m);
	return 0;
}
