/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ebbctl: a client for the monitors of ebb, and of others that speak their protocols.
 *
 * Exit status: 0; 1 after an error, which is one sentence on stderr; 130 when what was waited for
 * was interrupted.
 */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "ebbctl/args.h"
#include "ebbctl/client.h"
#include "ebbctl/follow.h"
#include "ebbctl/human.h"
#include "ebbctl/migrate.h"
#include "ebbctl/print.h"
#include "ebbctl/prompt.h"
#include "ebbctl/request.h"
#include "ebbctl/resize.h"
#include "ebbctl/top.h"
#include "ebbctl/watch.h"

static const char main_help[] =
	"Usage: ebbctl SOCKET [COMMAND...]\n"
	"       ebbctl top SOCKET|FOLDER... [--interval TIME] [--count N]\n"
	"\n"
	"SOCKET is where a machine's monitor listens (ebb -qmp unix:SOCKET,server=on,wait=off):\n"
	"a path, or HOST:PORT.\n"
	"\n"
	"  (nothing)                  a prompt: people's commands, Tab completes, Ctrl-D leaves\n"
	"  info memory-devices        any command as people type it; 'help' lists them\n"
	"  resize ID SIZE             resize a memory device: 2G, +1G, -512M\n"
	"  resize-all SIZE            resize the machine's memory (--node N: of one node)\n"
	"      --wait                   show how it gets on, until it is done; Ctrl-C cancels it\n"
	"      --timeout TIME           give up after 30s, 5m, ...\n"
	"  migrate URI                move the machine: tcp:HOST:PORT, unix:PATH, ...\n"
	"  save FILE                  save it; ebb -incoming file:FILE loads it\n"
	"      --detach                 do not wait; else Ctrl-C cancels it\n"
	"  jobs                       what is under way, and what became of others\n"
	"  cancel JOB                 stop one where it is\n"
	"  top                        a live view of the memory devices\n"
	"  events                     what happens, a line each\n"
	"  wait EVENT                 until that happens (--timeout TIME)\n"
	"  qmp COMMAND [KEY=VALUE...] a command as programs send it; or a request as JSON\n"
	"\n"
	"Exit status: 0, 1 after an error, 130 after an interrupt. See ebbctl(1).\n";

static int main_prompt(struct client *client)
{
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return human_script(client);
	if (client_state(client) == CLIENT_HUMAN)
		return human_terminal(client);
	return prompt_run(client);
}

static int main_human(struct client *client, const struct args *args)
{
	char *line = human_line(args->words, args->nr_words);
	struct err *err = NULL;
	int status;

	if (!line) {
		err_set(&err, ENOMEM, "out of memory");
		return print_err(err);
	}
	status = human_run(client, line);
	free(line);
	return status;
}

/* What needs the monitor for programs. */
static int main_qmp(struct client *client, const struct args *args)
{
	switch (args->command) {
	case ARGS_RESIZE:
		return resize_device(client, args);
	case ARGS_RESIZE_ALL:
		return resize_all(client, args);
	case ARGS_MIGRATE:
		return migrate_run(client, args);
	case ARGS_SAVE:
		return migrate_save(client, args);
	case ARGS_JOBS:
		return watch_print_jobs(client);
	case ARGS_CANCEL:
		return watch_cancel_job(client, args->words[0]);
	case ARGS_EVENTS:
		return follow_events(client);
	default:
		return follow_wait(client, args->words[0], args->timeout_ms);
	}
}

static int main_request(const struct args *args)
{
	struct client *client;
	struct err *err = NULL;
	json_t *request;
	int status;

	if (request_parse(args->words, args->nr_words, &request, &err))
		return print_err(err);
	if (client_open_qmp(args->sockets[0], "qmp", &client, &err)) {
		json_decref(request);
		return print_err(err);
	}
	status = request_run(client, request);
	client_free(client);
	return status;
}

static int main_client(const struct args *args)
{
	bool human = args->command == ARGS_PROMPT || args->command == ARGS_HUMAN;
	struct client *client;
	struct err *err = NULL;
	int status;

	if (human ? client_open(args->sockets[0], &client, &err)
		  : client_open_qmp(args->sockets[0], "this command", &client, &err))
		return print_err(err);
	if (args->command == ARGS_PROMPT)
		status = main_prompt(client);
	else if (args->command == ARGS_HUMAN)
		status = main_human(client, args);
	else
		status = main_qmp(client, args);
	client_free(client);
	return status;
}

int main(int argc, char **argv)
{
	struct err *err = NULL;
	struct args args;

	setlocale(LC_CTYPE, "");
	if (args_parse(argc, argv, &args, &err))
		return print_err(err);
	switch (args.command) {
	case ARGS_HELP:
		fputs(main_help, stdout);
		return print_flush();
	case ARGS_VERSION:
		printf("ebbctl %s\n", EBB_VERSION);
		return print_flush();
	case ARGS_TOP:
		return top_run(&args);
	case ARGS_QMP:
		return main_request(&args);
	default:
		return main_client(&args);
	}
}
