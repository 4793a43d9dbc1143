/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The human monitor's engine with a client made of a buffer: what a script sees, editing keys,
 * arguments of every type, help, completion, commands that finish later, clients that send
 * nonsense, do not read, or leave in the middle.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/monitor/hmp.h"

/* What the commands below leave behind. */
struct machine {
	char *args; /* of the last command, as JSON */
	int runs;
	struct hmp_call *pending;
	struct hmp_session *free_me;
};

static int note_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct machine *m = hmp_call_ctx(call);

	(void)err;
	free(m->args);
	m->args = json_dumps(args, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(6));
	m->runs++;
	return 0;
}

static int info_status_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	(void)err;
	hmp_printf(call, "VM status: %s\n", "running");
	return 0;
}

static int fail_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)call;
	(void)args;
	return err_set(err, EINVAL, "it is broken");
}

static int later_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct machine *m = hmp_call_ctx(call);

	(void)args;
	(void)err;
	hmp_printf(call, "wait\n");
	m->pending = call;
	return HMP_PENDING;
}

static int at_once_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	(void)err;
	hmp_done(call, NULL);
	return HMP_PENDING;
}

static int flood_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	int i;

	(void)args;
	(void)err;
	for (i = 0; i < 1000; i++)
		hmp_printf(call, "%0100d\n", i);
	return 0;
}

static int leave_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct machine *m = hmp_call_ctx(call);

	(void)args;
	(void)err;
	hmp_session_free(m->free_me);
	hmp_printf(call, "nobody hears this\n");
	return 0;
}

static void device_complete(void *ctx, unsigned int index, struct hmp_words *words)
{
	(void)ctx;
	if (index)
		return;
	hmp_words_add(words, "reg0");
	hmp_words_add(words, "reg1");
	hmp_words_add(words, "other");
}

static const struct hmp_command info_commands[] = {
	{.name = "numa", .help = "show NUMA", .run = note_run},
	{.name = "status", .help = "show the state", .run = info_status_run},
	{.name = "device",
	 .args = "id:s",
	 .params = "id",
	 .help = "show one",
	 .run = note_run,
	 .complete = device_complete},
	{.name = NULL},
};

static const struct hmp_command commands[] = {
	{.name = "quit|q", .help = "quit it", .run = note_run},
	{.name = "info", .params = "[subcommand]", .help = "show things", .sub = info_commands},
	{.name = "resize",
	 .args = "id:s,size:M",
	 .params = "id size",
	 .help = "resize it",
	 .run = note_run,
	 .complete = device_complete},
	{.name = "types",
	 .run = note_run,
	 .params = "...",
	 .help = "every type",
	 .args = "wait:-w,force:-f,i:i,l:l,o:o,t:T,b:b,s:s?"},
	{.name = "rest", .args = "text:S", .params = "text", .help = "the rest", .run = note_run},
	{.name = "opt",
	 .args = "a:s?,b:i?",
	 .params = "[a [b]]",
	 .help = "optional",
	 .run = note_run},
	{.name = "fail", .help = "fails", .run = fail_run},
	{.name = "later", .help = "finishes later", .run = later_run},
	{.name = "at_once", .help = "finishes at once", .run = at_once_run},
	{.name = "flood", .help = "prints a lot", .run = flood_run},
	{.name = "leave", .help = "ends the session", .run = leave_run},
	{.name = NULL},
};

struct client {
	struct machine machine;
	struct hmp *hmp;
	struct hmp_session *session;
	char out[200000];
	size_t count;
	size_t limit; /* bytes that it takes */
	int drops, resumes;
	bool free_on_drop;
};

static size_t client_write(void *opaque, const char *buf, size_t size)
{
	struct client *c = opaque;

	size = num_min(size, num_min(c->limit, sizeof(c->out) - 1) - c->count);
	memcpy(c->out + c->count, buf, size);
	c->count += size;
	c->out[c->count] = '\0';
	return size;
}

static void client_drop(void *opaque)
{
	struct client *c = opaque;

	c->drops++;
	if (c->free_on_drop) {
		hmp_session_free(c->session);
		c->session = NULL;
	}
}

static void client_resume(void *opaque)
{
	struct client *c = opaque;

	c->resumes++;
}

static const struct hmp_session_ops client_ops = {client_write, client_drop, client_resume};

static void client_clear(struct client *c)
{
	c->count = 0;
	c->out[0] = '\0';
}

static int client_setup(void **state)
{
	struct client *c = calloc(1, sizeof(*c));
	const struct hmp_config config = {commands, "ebb 1.0 monitor", "(qemu) ", &c->machine};

	c->limit = SIZE_MAX;
	c->hmp = hmp_new(&config);
	c->session = hmp_session_new(c->hmp, &client_ops, c);
	assert_non_null(c->session);
	assert_string_equal(c->out, "ebb 1.0 monitor\r\n(qemu) ");
	client_clear(c);
	*state = c;
	return 0;
}

static int client_teardown(void **state)
{
	struct client *c = *state;

	hmp_session_free(c->session);
	hmp_free(c->hmp);
	free(c->machine.args);
	free(c);
	return 0;
}

/* One byte at a time: the hardest way. */
static void type(struct client *c, const char *text)
{
	for (; *text && c->session; text++) {
		assert_true(hmp_session_room(c->session) > 0);
		hmp_session_input(c->session, text, 1);
	}
}

/* Type a command; what it prints between its echo and the prompt. */
static const char *run(struct client *c, const char *line)
{
	char echo[600];
	size_t size;

	client_clear(c);
	type(c, line);
	type(c, "\n");
	snprintf(echo, sizeof(echo), "%s\r\n", line);
	size = strlen(echo);
	assert_memory_equal(c->out, echo, size);
	assert_true(c->count >= size + 7);
	assert_string_equal(c->out + c->count - 7, "(qemu) ");
	c->out[c->count - 7] = '\0';
	return c->out + size;
}

static void plain_lines_are_echoed_and_answered(void **state)
{
	struct client *c = *state;

	assert_string_equal(run(c, "info status"), "VM status: running\r\n");
	assert_string_equal(run(c, ""), "");
	assert_string_equal(run(c, "   "), "");
	assert_string_equal(run(c, "  info   status  "), "VM status: running\r\n");
	assert_string_equal(run(c, "q"), "");
	assert_int_equal(c->machine.runs, 1);
	/* No escape sequence in any of it, and the same in one piece with CR LF. */
	client_clear(c);
	hmp_session_input(c->session, "info status\r\ninfo status\r\n", 26);
	assert_string_equal(c->out, "info status\r\nVM status: running\r\n(qemu) "
				    "info status\r\nVM status: running\r\n(qemu) ");
}

static void unknown_commands_are_named(void **state)
{
	struct client *c = *state;

	assert_string_equal(run(c, "bogus"), "unknown command: 'bogus'\r\n");
	assert_string_equal(run(c, "bogus a b"), "unknown command: 'bogus'\r\n");
	assert_string_equal(run(c, "info bogus"), "unknown command: 'info bogus'\r\n");
	assert_string_equal(run(c, "qu"), "unknown command: 'qu'\r\n");
	assert_string_equal(run(c, "quit|q"), "unknown command: 'quit|q'\r\n");
	assert_string_equal(run(c, "fail"), "Error: it is broken\r\n");
}

static void help_lists_and_explains(void **state)
{
	struct client *c = *state;
	const char *all = run(c, "help");

	assert_non_null(strstr(all, "help|? [cmd] -- show the help\r\n"));
	assert_non_null(strstr(all, "quit|q  -- quit it\r\n"));
	/* sorted */
	assert_true(strstr(all, "at_once") < strstr(all, "fail  --"));
	assert_true(strstr(all, "help|?") < strstr(all, "info [sub"));
	assert_string_equal(run(c, "help resize"), "resize id size -- resize it\r\n");
	assert_string_equal(run(c, "? q"), "quit|q  -- quit it\r\n");
	assert_string_equal(run(c, "help info numa"), "info numa  -- show NUMA\r\n");
	assert_string_equal(run(c, "help bogus"), "unknown command: 'bogus'\r\n");
	assert_string_equal(run(c, "help info bogus"), "unknown command: 'info bogus'\r\n");
	assert_string_equal(run(c, "help help"), "help|? [cmd] -- show the help\r\n");
	assert_string_equal(run(c, "info"), "info device id -- show one\r\n"
					    "info numa  -- show NUMA\r\n"
					    "info status  -- show the state\r\n");
	assert_string_equal(run(c, "help info"), "info device id -- show one\r\n"
						 "info numa  -- show NUMA\r\n"
						 "info status  -- show the state\r\n");
}

static const char *args_of(struct client *c, const char *line)
{
	int runs = c->machine.runs;

	assert_string_equal(run(c, line), "");
	assert_int_equal(c->machine.runs, runs + 1);
	return c->machine.args;
}

static void arguments_are_read(void **state)
{
	struct client *c = *state;

	assert_string_equal(args_of(c, "resize reg0 2048"),
			    "{\"id\":\"reg0\",\"size\":2147483648}");
	assert_string_equal(args_of(c, "resize reg0 1.5G"),
			    "{\"id\":\"reg0\",\"size\":1610612736}");
	assert_string_equal(args_of(c, "resize \"a \\\"b\\\\\" 0"),
			    "{\"id\":\"a \\\"b\\\\\",\"size\":0}");
	assert_string_equal(args_of(c, "types -1 0x10 4k 1.5 on"),
			    "{\"b\":true,\"force\":false,\"i\":-1,\"l\":16,\"o\":4096,\"t\":1.5,"
			    "\"wait\":false}");
	assert_string_equal(
		args_of(c, "types -w 1 -5 512 20ms off word"),
		"{\"b\":false,\"force\":false,\"i\":1,\"l\":-5,\"o\":512,\"s\":\"word\","
		"\"t\":0.02,\"wait\":true}");
	assert_string_equal(
		args_of(c, "types -f -w 1 2 3 4 on -x"),
		"{\"b\":true,\"force\":true,\"i\":1,\"l\":2,\"o\":3,\"s\":\"-x\",\"t\":4.0,"
		"\"wait\":true}");
	assert_string_equal(args_of(c, "rest  a  \"b\" c  "), "{\"text\":\"a  \\\"b\\\" c\"}");
	assert_string_equal(args_of(c, "opt"), "{}");
	assert_string_equal(args_of(c, "opt x"), "{\"a\":\"x\"}");
	assert_string_equal(args_of(c, "opt -w 5"), "{\"a\":\"-w\",\"b\":5}");
	assert_string_equal(args_of(c, "info device reg1"), "{\"id\":\"reg1\"}");
}

static void wrong_arguments_are_explained(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"resize", "resize: argument 'id' is missing\r\n"},
		{"resize reg0", "resize: argument 'size' is missing\r\n"},
		{"resize reg0 abc", "resize: argument 'size': 'abc' is not a size"},
		{"resize reg0 -1", "resize: argument 'size': '-1' is not a size"},
		{"resize reg0 99999999999999", "is too large"},
		{"resize reg0 1 2", "resize: extraneous characters at the end of line: '2'"},
		{"resize \"reg0 1", "resize: a quoted string has no closing \""},
		{"resize \"\\q\" 1", "resize: in a quoted string"},
		{"types x", "argument 'i': 'x' is not an integer"},
		{"types 5000000000", "argument 'i': 5000000000 does not fit 32 bits"},
		{"types 1 99999999999999999999", "does not fit 64 bits"},
		{"types 1 1 1 1x", "argument 't': '1x' is not a time"},
		{"types 1 1 1 inf", "argument 't': 'inf' is not a time"},
		{"types 1 1 1 1 maybe", "argument 'b': 'maybe' is neither on nor off"},
		{"types -z 1", "types: there is no option -z"},
		{"info device", "info device: argument 'id' is missing"},
		{"info status now", "info status: extraneous characters"},
	};
	struct client *c = *state;
	char hint[100];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *said = run(c, cases[i].line);

		if (!strstr(said, cases[i].says))
			fail_msg("%s: %s", cases[i].line, said);
		snprintf(hint, sizeof(hint), "Try \"help %.*s", 4, cases[i].line);
		assert_non_null(strstr(said, hint));
	}
	assert_int_equal(c->machine.runs, 0);
}

/* Type keys and Enter; the text that the `rest` command then got. */
static void edits_to(struct client *c, const char *keys, const char *want)
{
	json_t *args;

	client_clear(c);
	free(c->machine.args);
	c->machine.args = NULL;
	type(c, keys);
	type(c, "\r");
	assert_non_null(c->machine.args);
	args = json_loads(c->machine.args, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(args, "text")), want);
	json_decref(args);
}

static void keys_edit_the_line(void **state)
{
	struct client *c = *state;

	edits_to(c, "rest abd\002c", "abcd");                    /* Ctrl-B */
	edits_to(c, "est abc\001r", "abc");                      /* Ctrl-A */
	edits_to(c, "rest abx\177c", "abc");                     /* backspace */
	edits_to(c, "rest axc\033[D\033[D\004b", "abc");         /* arrows, Ctrl-D */
	edits_to(c, "rest one two\027three", "one three");       /* Ctrl-W */
	edits_to(c, "junk\025rest x", "x");                      /* Ctrl-U */
	edits_to(c, "rest a\001\006\006\006\006\006\013b", "b"); /* Ctrl-F, Ctrl-K */
	edits_to(c, "rest ab\001\013\031\031\010", "abrest a");  /* Ctrl-Y twice */
	edits_to(c, "xrest b\033[1~\033[3~\033[4~c", "bc");      /* Home, Delete, End */
	edits_to(c, "rest bc\033[H\033[1;5C\033[C\033[3~", "c");
	edits_to(c, "rest one two\033b\033d2", "one 2");        /* Alt-B, Alt-D */
	edits_to(c, "junk\003rest y", "y");                     /* Ctrl-C */
	edits_to(c, "rest \303\244\303\266\177!", "\303\244!"); /* one character, two bytes */
	edits_to(c, "rest \303\244\303\244\033[D\033[D\033[3~o", "o\303\244");
}

static void history_is_kept(void **state)
{
	struct client *c = *state;
	int i;

	edits_to(c, "rest one", "one");
	edits_to(c, "rest two", "two");
	edits_to(c, "\033[A\033[A", "one");
	edits_to(c, "\020\020\020", "one"); /* not one: one is the latest, too */
	edits_to(c, "\033OArest\033[A\033[A\033[B\033[B\025rest typed", "typed");
	edits_to(c, "rest kept\033[A\033[B", "kept");
	for (i = 0; i < 200; i++) {
		char line[32], want[16];

		snprintf(line, sizeof(line), "rest %d", i);
		snprintf(want, sizeof(want), "%d", i);
		edits_to(c, line, want);
	}
	for (i = 0; i < 300; i++)
		type(c, "\020");
	edits_to(c, "", "136"); /* 64 lines are kept */
}

static void drawing_shows_what_is_edited(void **state)
{
	struct client *c = *state;

	type(c, "abd\002");
	client_clear(c);
	type(c, "c");
	assert_string_equal(c->out, "cd\033[1D");
	client_clear(c);
	type(c, "\177");
	assert_string_equal(c->out, "\033[1Dd\033[K\033[1D");
	client_clear(c);
	type(c, "\014");
	assert_string_equal(c->out, "\033[2J\033[H(qemu) abd\033[1D");
	client_clear(c);
	hmp_session_refresh(c->session);
	assert_string_equal(c->out, "\r\n(qemu) abd\033[1D");
}

static void tab_completes(void **state)
{
	struct client *c = *state;

	client_clear(c);
	type(c, "inf\t");
	assert_string_equal(c->out, "info ");
	client_clear(c);
	type(c, "st\t");
	assert_string_equal(c->out, "status ");
	type(c, "\025");
	client_clear(c);
	type(c, "resize r\t");
	assert_string_equal(c->out, "resize reg");
	client_clear(c);
	type(c, "\t");
	assert_string_equal(c->out, "\r\nreg0  reg1\r\n(qemu) resize reg");
	client_clear(c);
	type(c, "0 \t");
	assert_string_equal(c->out, "0 ");
	type(c, "\025");
	client_clear(c);
	type(c, "help inf\t");
	assert_string_equal(c->out, "help info ");
	client_clear(c);
	type(c, "num\t");
	assert_string_equal(c->out, "numa ");
	type(c, "\025");
	client_clear(c);
	type(c, "zzz\t");
	assert_string_equal(c->out, "zzz");
	type(c, " x\t\025\t");
	assert_non_null(strstr(c->out, "quit"));
}

static void long_lines_are_refused(void **state)
{
	struct client *c = *state;
	char line[HMP_LINE_BYTES + 100];

	memset(line, 'x', sizeof(line));
	memcpy(line, "rest ", 5);
	line[HMP_LINE_BYTES - 1] = '\0';
	type(c, line);
	type(c, "\n");
	assert_int_equal(c->machine.runs, 1);
	line[HMP_LINE_BYTES - 1] = 'x';
	line[HMP_LINE_BYTES] = '\0';
	type(c, line);
	client_clear(c);
	type(c, "\n");
	assert_int_equal(c->machine.runs, 1);
	assert_string_equal(c->out, "\r\nthe line is too long; at most 4095 bytes are allowed\r\n"
				    "(qemu) ");
	assert_string_equal(run(c, "info status"), "VM status: running\r\n");
}

static void nonsense_does_no_harm(void **state)
{
	struct client *c = *state;
	unsigned int seed = 7;
	char byte;
	int i;

	/* Not UTF-8, though each byte could be. */
	type(c, "rest \303\050\n");
	assert_int_equal(c->machine.runs, 0);
	assert_non_null(strstr(c->out, "the line is not UTF-8 text"));
	for (i = 0; i < 300000; i++) {
		byte = (char)rand_r(&seed);
		if (c->machine.pending) {
			hmp_done(c->machine.pending, NULL);
			c->machine.pending = NULL;
		}
		hmp_session_input(c->session, &byte, 1);
		if (c->count > sizeof(c->out) / 2)
			client_clear(c);
	}
	type(c, "\n");
	assert_string_equal(run(c, "info status"), "VM status: running\r\n");
	/* Half an escape sequence does not swallow the line's end. */
	type(c, "\033[\n");
	type(c, "\033\n");
	assert_string_equal(run(c, "info status"), "VM status: running\r\n");
}

static void pending_command_suspends_the_session(void **state)
{
	struct client *c = *state;
	struct err *err = NULL;

	client_clear(c);
	hmp_session_input(c->session, "later\ninfo status\n", 18);
	assert_string_equal(c->out, "later\r\nwait\r\n");
	assert_true(hmp_session_room(c->session) > 0);
	hmp_printf(c->machine.pending, "still\n");
	hmp_done(c->machine.pending, NULL);
	assert_string_equal(c->out, "later\r\nwait\r\nstill\r\n(qemu) info status\r\n"
				    "VM status: running\r\n(qemu) ");
	assert_int_equal(c->resumes, 1);

	client_clear(c);
	type(c, "later\n");
	err_set(&err, EIO, "it came to nothing");
	hmp_done(c->machine.pending, err);
	assert_string_equal(c->out, "later\r\nwait\r\nError: it came to nothing\r\n(qemu) ");
	assert_string_equal(run(c, "at_once"), "");
}

static void session_ends_before_its_command(void **state)
{
	struct client *c = *state;

	type(c, "later\n");
	hmp_session_free(c->session);
	c->session = NULL;
	client_clear(c);
	hmp_printf(c->machine.pending, "to nobody\n");
	hmp_done(c->machine.pending, NULL);
	assert_int_equal(c->count, 0);
}

static void command_ends_its_session(void **state)
{
	struct client *c = *state;

	c->machine.free_me = c->session;
	client_clear(c);
	hmp_session_input(c->session, "leave\nquit\n", 11);
	c->session = NULL;
	assert_string_equal(c->out, "leave\r\n");
	assert_int_equal(c->machine.runs, 0);
}

static void client_that_does_not_read_is_dropped(void **state)
{
	struct client *c = *state;

	c->limit = 5000;
	type(c, "flood\n");
	assert_int_equal(c->drops, 1);
	assert_int_equal(c->count, 5000);
	assert_int_equal(hmp_session_room(c->session), 0);
	hmp_session_free(c->session);

	/* The owner frees the session from the drop itself; also while a command prints later. */
	client_clear(c);
	c->limit = SIZE_MAX;
	c->free_on_drop = true;
	c->session = hmp_session_new(c->hmp, &client_ops, c);
	type(c, "later\n");
	c->limit = c->count;
	hmp_printf(c->machine.pending, "too much\n");
	assert_null(c->session);
	hmp_done(c->machine.pending, NULL);
	assert_int_equal(c->drops, 2);

	/* Not even the greeting is taken: there is no session, and nothing to drop. */
	assert_null(hmp_session_new(c->hmp, &client_ops, c));
	assert_int_equal(c->drops, 2);
}

struct executed {
	char text[300];
	size_t size;
	int count;
};

static void executed_done(void *opaque, const char *output, size_t size)
{
	struct executed *e = opaque;

	e->count++;
	e->size = size;
	snprintf(e->text, sizeof(e->text), "%s", output);
}

static void lines_are_executed_without_a_session(void **state)
{
	struct client *c = *state;
	struct executed e = {0};

	hmp_execute(c->hmp, "info status", executed_done, &e);
	assert_string_equal(e.text, "VM status: running\n");
	hmp_execute(c->hmp, "bogus", executed_done, &e);
	assert_string_equal(e.text, "unknown command: 'bogus'\n");
	hmp_execute(c->hmp, "", executed_done, &e);
	assert_string_equal(e.text, "");
	hmp_execute(c->hmp, "flood", executed_done, &e);
	assert_int_equal(e.size, 101000);
	assert_int_equal(e.count, 4);
	hmp_execute(c->hmp, "later", executed_done, &e);
	assert_int_equal(e.count, 4);
	hmp_done(c->machine.pending, NULL);
	assert_int_equal(e.count, 5);
	assert_string_equal(e.text, "wait\n");
}

static void sessions_do_not_meet(void **state)
{
	struct client *a = *state, *b = calloc(1, sizeof(*b));

	b->limit = SIZE_MAX;
	b->session = hmp_session_new(a->hmp, &client_ops, b);
	client_clear(b);
	type(a, "later\n");
	type(a, "");
	assert_string_equal(run(b, "info status"), "VM status: running\r\n");
	type(b, "half");
	hmp_done(a->machine.pending, NULL);
	assert_string_equal(a->out + a->count - 7, "(qemu) ");
	type(b, "\025");
	assert_string_equal(run(b, "info status"), "VM status: running\r\n");
	hmp_session_free(b->session);
	free(b);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, client_setup, client_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(plain_lines_are_echoed_and_answered),
		T(unknown_commands_are_named),
		T(help_lists_and_explains),
		T(arguments_are_read),
		T(wrong_arguments_are_explained),
		T(keys_edit_the_line),
		T(history_is_kept),
		T(drawing_shows_what_is_edited),
		T(tab_completes),
		T(long_lines_are_refused),
		T(nonsense_does_no_harm),
		T(pending_command_suspends_the_session),
		T(session_ends_before_its_command),
		T(command_ends_its_session),
		T(client_that_does_not_read_is_dropped),
		T(lines_are_executed_without_a_session),
		T(sessions_do_not_meet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
