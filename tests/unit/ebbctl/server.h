/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A monitor for tests: a thread that greets, reads requests and answers them as a script says.
 *
 * Threads: the script runs on the server's; what it shares with the test is read after
 * server_stop(), which ends the connection.
 */
#ifndef TESTS_UNIT_EBBCTL_SERVER_H
#define TESTS_UNIT_EBBCTL_SERVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#define SERVER_GREETING                                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, " \
	"\"package\": \"test\"}, \"capabilities\": [\"oob\"]}}\r\n"

struct server;

struct server_script {
	/* What to return, a new reference; or NULL: the script has written, or ended, by itself. */
	json_t *(*answer)(void *opaque, struct server *server, const char *command,
			  const json_t *args);
	void *opaque;
};

/* *ret_fd is the client's end, non-blocking. @script is kept. Never fails. */
struct server *server_start(const struct server_script *script, int *ret_fd);
void server_stop(struct server *server);

/* For scripts. */
void server_write(struct server *server, const char *text);
void server_event(struct server *server, const char *name, json_t *data);
void server_error(struct server *server, const char *class, const char *desc);
void server_hang_up(struct server *server);

/* What is printed to stdout (1) or stderr (2) until capture_end(), which gives it: free() it. */
struct capture {
	int fd, kept;
	FILE *file;
};
void capture_begin(struct capture *capture, int fd);
char *capture_end(struct capture *capture);

#endif
