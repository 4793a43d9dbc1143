/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The human monitor that a command table makes: rows that do not fit, lines that are run like
 * programs' commands, help, completion, waiting commands and Ctrl-C.
 */
#include "tests/unit/qmp/rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"

#define PROMPT "(rig) "

/* Type a line; what is printed between its echo and the next prompt. */
static const char *line(struct client *c, const char *text)
{
	const char *out;
	char *end;

	client_clear(c);
	client_send(c, text, strlen(text));
	client_send(c, "\n", 1);
	out = strstr(c->out, "\r\n");
	assert_non_null(out);
	end = c->out + c->count - strlen(PROMPT);
	assert_string_equal(end, PROMPT);
	*end = '\0';
	return out + 2;
}

#define LINE(client, text, answer) assert_string_equal(line(client, text), answer)

static void people_and_programs_have_the_same_commands(void **state)
{
	struct client c = {0};

	client_open_human(&c, *state);
	assert_string_equal(c.out, "rig\r\n" PROMPT);
	LINE(&c, "nothing", "");
	LINE(&c, "echo", "{\"flag\": false}\r\n");
	LINE(&c, "e text 2", "{\"flag\": false, \"size\": 2097152, \"text\": \"text\"}\r\n");
	LINE(&c, "echo -f text 1.5G 7",
	     "{\"flag\": true, \"size\": 1610612736, \"text\": \"text\", \"u8\": 7}\r\n");
	LINE(&c, "fail x", "Error: it is broken\r\n");
	LINE(&c, "at_once", "{\"at\": 1}\r\n");
	LINE(&c, "info reverse abc", "cba\r\n");
	LINE(&c, "info r abc", "cba\r\n");
	/* What a program would be told. */
	LINE(&c, "echo a 1 256", "Error: Parameter 'u8' expects uint8_t\r\n");
	LINE(&c, "echo a 1 -1", "Error: Parameter 'u8' expects uint8_t\r\n");
	LINE(&c, "fail",
	     "fail: argument 'how' is missing\r\n"
	     "Try \"help fail\" for more information\r\n");
	/* Programs' names that people do not have. */
	LINE(&c, "silent", "unknown command: 'silent'\r\n");
	LINE(&c, "query-version", "unknown command: 'query-version'\r\n");
	LINE(&c, "info nothing", "unknown command: 'info nothing'\r\n");
	client_close(&c);
}

static void flags_stand_anywhere(void **state)
{
	static const char answer[] =
		"{\"flag\": true, \"size\": 1048576, \"text\": \"a\", \"u8\": 3}\r\n";
	struct client c = {0};

	client_open_human(&c, *state);
	LINE(&c, "echo -f a 1 3", answer);
	LINE(&c, "echo a -f 1 3", answer);
	LINE(&c, "echo a 1 -f 3", answer);
	LINE(&c, "echo a 1 3 -f", answer);
	LINE(&c, "echo -f a -f 1 3 -f", answer);
	LINE(&c, "echo -x",
	     "echo: there is no option -x\r\n"
	     "Try \"help echo\" for more information\r\n");
	/* Words that only look like flags. */
	LINE(&c, "echo \"-f\"", "{\"flag\": false, \"text\": \"-f\"}\r\n");
	LINE(&c, "echo -ff", "{\"flag\": false, \"text\": \"-ff\"}\r\n");
	LINE(&c, "echo -1", "{\"flag\": false, \"text\": \"-1\"}\r\n");
	LINE(&c, "fail -x", "Error: it is broken\r\n");
	client_close(&c);
}

static void help_lists_commands_and_their_parameters(void **state)
{
	struct client c = {0};
	const char *out;

	client_open_human(&c, *state);
	LINE(&c, "help echo", "echo|e [-f] [text [size [u8]]] -- give it back\r\n");
	LINE(&c, "help info", "info later  -- wait\r\ninfo reverse|r word -- turn it round\r\n");
	LINE(&c, "info", "info later  -- wait\r\ninfo reverse|r word -- turn it round\r\n");
	LINE(&c, "help info r", "info reverse|r word -- turn it round\r\n");
	out = line(&c, "?");
	assert_non_null(strstr(out, "echo|e [-f] [text [size [u8]]] -- give it back\r\n"));
	assert_non_null(strstr(out, "info [subcommand] -- show information"));
	assert_non_null(strstr(out, "nothing  -- do nothing\r\n"));
	client_close(&c);
}

static void the_tab_key_completes(void **state)
{
	struct client c = {0};

	client_open_human(&c, *state);
	ASK(&c, "noth\t\n", "nothing \r\n" PROMPT);
	ASK(&c, "info re\t\025", "info reverse \033[13D\033[K");
	ASK(&c, "echo \t\025", "echo first \033[11D\033[K");
	ASK(&c, "echo -f x \t\025", "echo -f x second \033[17D\033[K");
	client_close(&c);
}

static void waiting_commands(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};
	struct err *err = NULL;

	client_open_human(&c, rig);
	ASK(&c, "info later\nnothing\n", "info later\r\nwait\r\n");
	assert_int_equal(rig->runs, 1);
	client_clear(&c);
	command_printf(rig->pending[0], "at %d of %d\n", 1, 2);
	assert_string_equal(c.out, "at 1 of 2\r\n");
	client_clear(&c);
	rig_end(rig, NULL, NULL);
	assert_string_equal(c.out, "done\r\n" PROMPT "nothing\r\n" PROMPT);
	client_ask(&c, "info later\n");
	client_clear(&c);
	err_set(&err, 1, "it came to nothing");
	rig_end(rig, NULL, err);
	assert_string_equal(c.out, "Error: it came to nothing\r\n" PROMPT);
	client_close(&c);
}

static void control_c_ends_the_waiting(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};

	client_open_human(&c, rig);
	ASK(&c, "info later\nnothing\n", "info later\r\nwait\r\n");
	/* What was typed before it is forgotten, what comes after it is not. */
	ASK(&c, "fail x\n\003nothing\n", "^C\r\n" PROMPT "nothing\r\n" PROMPT);
	assert_int_equal(rig->unwanted, 1);
	assert_int_equal(rig->nr_pending, 1);
	assert_false(command_is_wanted(rig->pending[0]));
	/* The call goes on, to nobody. */
	client_clear(&c);
	command_printf(rig->pending[0], "still here\n");
	rig_end(rig, NULL, NULL);
	assert_int_equal(c.count, 0);
	/* Or ends at once. */
	rig->end_unwanted = true;
	ASK(&c, "info later\n", "info later\r\nwait\r\n");
	ASK(&c, "\003", "^C\r\n" PROMPT);
	assert_int_equal(rig->nr_pending, 0);
	/* Without a waiting command it clears the line, as ever. */
	ASK(&c, "noth\003", "noth^C\r\n" PROMPT);
	assert_int_equal(rig->unwanted, 2);
	client_close(&c);
}

static void client_leaves_while_its_command_waits(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};

	client_open_human(&c, rig);
	client_ask(&c, "info later\nnothing\n");
	client_close(&c);
	assert_int_equal(rig->unwanted, 1);
	command_printf(rig->pending[0], "to nobody\n");
	rig_end(rig, NULL, NULL);
	assert_int_equal(rig->runs, 1);

	rig->end_unwanted = true;
	client_open_human(&c, rig);
	client_ask(&c, "info later\n");
	client_close(&c);
	assert_int_equal(rig->nr_pending, 0);

	/* A session that its own command frees. */
	client_open_human(&c, rig);
	rig->leaver = &c;
	client_ask(&c, "leave\nnothing\n");
	assert_null(c.human);
	assert_int_equal(rig->runs, 2);

	/* A client that does not read progress any more. */
	client_open_human(&c, rig);
	client_ask(&c, "info later\n");
	c.limit = c.count + 3;
	c.free_on_drop = true;
	command_printf(rig->pending[0], "progress\n");
	assert_int_equal(c.drops, 1);
	assert_null(c.human);
	assert_int_equal(rig->nr_pending, 0);
	client_close(&c);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void descriptors(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};
	int fd;

	client_open_human(&c, rig);
	c.fds[c.nr_fds++] = fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	LINE(&c, "take 1", "1\r\n");
	assert_false(is_open(fd));
	c.fds[c.nr_fds++] = fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	LINE(&c, "nothing", "");
	assert_false(is_open(fd));
	LINE(&c, "take 1", "0\r\n");
	client_close(&c);
}

static int some_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	(void)call;
	(void)args;
	(void)ret_value;
	(void)err;
	return 0;
}

static void refuse(struct command command, const char *sentence)
{
	const struct command commands[] = {command, {0}};
	const struct qmp_module module = {.commands = commands};
	const struct qmp_module *const modules[] = {&rig_module, &module, NULL};
	struct qmp_config config = {
		.modules = modules,
		.package = "",
		.prompt = "",
	};
	struct err *err = NULL;

	assert_null(qmp_new(&config, &err));
	assert_string_equal(err_message(err), sentence);
	err_free(err);
}

static void rows_that_do_not_fit(void **state)
{
	(void)state;
	refuse((struct command){.human = "echo", .human_run = some_run},
	       "human command 'echo': the name is there already");
	refuse((struct command){.human = "new|e", .human_run = some_run},
	       "human command 'new|e': the name is there already");
	refuse((struct command){.human = "info", .human_run = some_run},
	       "human command 'info': the name is there already");
	refuse((struct command){.human = "info later", .human_run = some_run},
	       "human command 'info later': the name is there already");
	refuse((struct command){.human = "info ", .human_run = some_run},
	       "human command 'info ': the name is not one word");
	refuse((struct command){.human = "new thing", .human_run = some_run},
	       "human command 'new thing': the name is not one word");
	refuse((struct command){.human = "new"}, "human command 'new': nothing runs it");
	refuse((struct command){.name = "new",
				.human = "new",
				.args = "a:int",
				.human_args = "b:i",
				.run = some_run},
	       "human command 'new': people's argument 'b' is no member of args");
	refuse((struct command){.name = "new",
				.human = "new",
				.args = "a:int *b:int",
				.human_args = "b:i?",
				.run = some_run},
	       "human command 'new': people cannot give the argument 'a'");
	refuse((struct command){.name = "new",
				.human = "new",
				.args = "a:int",
				.human_args = "a:i?",
				.run = some_run},
	       "human command 'new': people cannot give the argument 'a'");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(people_and_programs_have_the_same_commands),
		T(flags_stand_anywhere),
		T(help_lists_commands_and_their_parameters),
		T(the_tab_key_completes),
		T(waiting_commands),
		T(control_c_ends_the_waiting),
		T(client_leaves_while_its_command_waits),
		T(descriptors),
		cmocka_unit_test(rows_that_do_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
