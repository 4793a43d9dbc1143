/* SPDX-License-Identifier: BSD-3-Clause */
/* A scripted monitor: see server.h. */
#include "tests/unit/ebbctl/server.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct server {
	const struct server_script *script;
	int fd;
	pthread_t thread;
	const json_t *id; /* of the request that is answered */
};

void server_write(struct server *server, const char *text)
{
	size_t size = strlen(text);
	ssize_t put;

	while (size) {
		put = send(server->fd, text, size, MSG_NOSIGNAL);
		if (put <= 0)
			return;
		text += put;
		size -= (size_t)put;
	}
}

static void server_send(struct server *server, json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);

	server_write(server, text);
	server_write(server, "\r\n");
	free(text);
	json_decref(message);
}

void server_event(struct server *server, const char *name, json_t *data)
{
	server_send(server, json_pack("{s:s,s:o,s:{s:i,s:i}}", "event", name, "data", data,
				      "timestamp", "seconds", 1, "microseconds", 2));
}

void server_error(struct server *server, const char *class, const char *desc)
{
	server_send(server, json_pack("{s:{s:s,s:s},s:O}", "error", "class", class, "desc", desc,
				      "id", server->id));
}

void server_hang_up(struct server *server)
{
	shutdown(server->fd, SHUT_RDWR);
}

static void server_request(struct server *server, const char *line)
{
	json_t *request = json_loads(line, 0, NULL), *value;
	const char *command = json_string_value(json_object_get(request, "execute"));

	server->id = json_object_get(request, "id");
	if (!strcmp(command, "qmp_capabilities"))
		value = json_object();
	else
		value = server->script->answer(server->script->opaque, server, command,
					       json_object_get(request, "arguments"));
	if (value)
		server_send(server, json_pack("{s:o,s:O}", "return", value, "id", server->id));
	json_decref(request);
}

static void *server_run(void *opaque)
{
	struct server *server = opaque;
	FILE *in = fdopen(dup(server->fd), "r");
	char *line = NULL;
	size_t room = 0;

	server_write(server, SERVER_GREETING);
	while (getline(&line, &room, in) > 0)
		server_request(server, line);
	free(line);
	fclose(in);
	return NULL;
}

struct server *server_start(const struct server_script *script, int *ret_fd)
{
	struct server *server = calloc(1, sizeof(*server));
	sigset_t all, before;
	int fds[2];

	assert_non_null(server);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	server->script = script;
	server->fd = fds[1];
	*ret_fd = fds[0];
	/* Signals are the test's thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	assert_int_equal(pthread_create(&server->thread, NULL, server_run, server), 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return server;
}

void server_stop(struct server *server)
{
	shutdown(server->fd, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->fd);
	free(server);
}

void capture_begin(struct capture *capture, int fd)
{
	fflush(stdout);
	fflush(stderr);
	capture->fd = fd;
	capture->kept = dup(fd);
	capture->file = tmpfile();
	assert_non_null(capture->file);
	assert_int_equal(dup2(fileno(capture->file), fd), fd);
}

char *capture_end(struct capture *capture)
{
	char *text;
	long size;

	fflush(stdout);
	fflush(stderr);
	dup2(capture->kept, capture->fd);
	close(capture->kept);
	fseek(capture->file, 0, SEEK_END);
	size = ftell(capture->file);
	rewind(capture->file);
	text = calloc(1, (size_t)size + 1);
	assert_non_null(text);
	assert_int_equal(fread(text, 1, (size_t)size, capture->file), size);
	fclose(capture->file);
	return text;
}
