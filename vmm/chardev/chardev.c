/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening, attaching and closing chardevs: see chardev.h and internal.h for the contract. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/chardev/internal.h"
#include "vmm/core/loop.h"

void chr_config_init(struct chr_config *config)
{
	*config = (struct chr_config){.signal = true, .wait = true, .fd = -1, .log_fd = -1};
}

static void chr_note(struct chardev *chr, const char *line)
{
	if (chr->note)
		chr->note(chr->opaque, line);
}

static void chr_destroy(struct chardev *chr)
{
	chr_socket_done(&chr->socket);
	chr_term_free(chr->term);
	if (chr->in_fd >= 0)
		close(chr->in_fd);
	if (chr->out_fd >= 0 && chr->out_fd != chr->in_fd)
		close(chr->out_fd);
	if (chr->watch_fd >= 0)
		close(chr->watch_fd);
	pthread_mutex_destroy(&chr->ports_lock);
	free(chr->pty_path);
	free(chr->id);
	free(chr);
}

void chr_handle_closed(struct chardev *chr)
{
	if (!--chr->handles)
		chr_destroy(chr);
}

static void chr_on_closed(uv_handle_t *handle)
{
	chr_handle_closed(handle->data);
}

static void chr_close_handle(uv_handle_t *handle)
{
	if (handle->data && !uv_is_closing(handle))
		uv_close(handle, chr_on_closed);
}

/* Ctrl-Z and its return; only for a terminal of ours. */
static int chr_init_signals(struct chardev *chr)
{
	uv_loop_t *uv = loop_uv(chr->loop);
	int ret = uv_signal_init(uv, &chr->stop_signal);

	if (ret)
		return ret;
	chr->stop_signal.data = chr;
	chr->handles++;
	ret = uv_signal_init(uv, &chr->cont_signal);
	if (ret)
		return ret;
	chr->cont_signal.data = chr;
	chr->handles++;
	ret = uv_signal_start(&chr->stop_signal, chr_stop_signal, SIGTSTP);
	return ret ? ret : uv_signal_start(&chr->cont_signal, chr_cont_signal, SIGCONT);
}

static int chr_watch(struct chardev *chr, uv_poll_t *poll, int fd)
{
	int ret = uv_poll_init(loop_uv(chr->loop), poll, fd);

	if (ret)
		return ret;
	poll->data = chr;
	chr->handles++;
	return 0;
}

static int chr_open_terminal(struct chardev *chr, struct err **err)
{
	int ret;

	/* First of all, so that whatever changes can be changed back. */
	chr->term = chr_term_new(STDIN_FILENO, STDOUT_FILENO, chr->signal);
	if (!chr->term)
		return err_set(err, ENOMEM, "out of memory");
	ret = chr_open_stdio(chr->id, &chr->in_fd, &chr->out_fd, err);
	if (ret)
		return ret;
	chr_term_keep_flags(chr->term);
	if (!isatty(STDIN_FILENO))
		return 0;
	ret = chr_init_signals(chr);
	if (ret)
		return err_set(err, -ret, "chardev '%s': cannot watch for Ctrl-Z: %s", chr->id,
			       uv_strerror(ret));
	chr->raw = chr_term_raw(chr->term);
	return 0;
}

static int chr_open_slave(struct chardev *chr, struct err **err)
{
	char line[256];
	int ret = chr_open_pty(chr->id, &chr->in_fd, &chr->pty_path, &chr->watch_fd, err);

	if (ret)
		return ret;
	chr->out_fd = chr->in_fd;
	ret = chr_watch(chr, &chr->watch_poll, chr->watch_fd);
	if (!ret)
		ret = uv_poll_start(&chr->watch_poll, UV_READABLE, chr_watch_ready);
	if (ret)
		return err_set(err, -ret, "chardev '%s': cannot watch the pseudo-terminal: %s",
			       chr->id, uv_strerror(ret));
	snprintf(line, sizeof(line), "char device redirected to %s (label %s)", chr->pty_path,
		 chr->id);
	chr_note(chr, line);
	return 0;
}

static int chr_open_connection(struct chardev *chr, const struct chr_config *config,
			       struct err **err)
{
	char line[256];
	int ret = chr_socket_open(&chr->socket, config, err);

	if (ret)
		return ret;
	chr->reconnect_s = chr->socket.server ? 0 : config->reconnect_s;
	if (!chr->socket.server) {
		chr->in_fd = chr->out_fd = chr->socket.fd;
		chr->socket.fd = -1;
		return 0;
	}
	ret = chr_watch(chr, &chr->listen_poll, chr->socket.fd);
	if (ret)
		return err_set(err, -ret, "chardev '%s': cannot watch the socket: %s", chr->id,
			       uv_strerror(ret));
	if (!config->wait || config->live)
		return 0;
	snprintf(line, sizeof(line), "waiting for connection on: %s", chr->socket.name);
	chr_note(chr, line);
	ret = chr_socket_wait(&chr->socket);
	if (ret)
		return err_set(err, -ret, "chardev '%s': waiting for a client was interrupted",
			       chr->id);
	return 0;
}

static int chr_open(struct chardev *chr, const struct chr_config *config, struct err **err)
{
	int ret;

	if (chr->mux && (chr->backend == CHR_FILE || chr->backend == CHR_NULL)) {
		if (config->fd >= 0)
			close(config->fd);
		return err_set(err, EINVAL,
			       "chardev '%s': mux=on needs a back-end with a keyboard: stdio, "
			       "socket or pty",
			       chr->id);
	}
	switch (chr->backend) {
	case CHR_NULL:
		return 0;
	case CHR_STDIO:
		return chr_open_terminal(chr, err);
	case CHR_SOCKET:
		return chr_open_connection(chr, config, err);
	case CHR_FILE:
		ret = chr_open_file(config, &chr->out_fd, err);
		return ret;
	case CHR_PTY:
		return chr_open_slave(chr, err);
	}
	return err_set(err, EINVAL, "chardev '%s': unknown back-end", chr->id);
}

/* The handles that every chardev has. Nothing is left behind on failure. */
static struct chardev *chr_alloc(struct loop *loop, const struct chr_config *config,
				 struct err **err)
{
	struct chardev *chr = calloc(1, sizeof(*chr));
	int ret = -ENOMEM;

	if (chr)
		chr->id = strdup(config->id);
	if (chr && chr->id)
		ret = uv_async_init(loop_uv(loop), &chr->wake, chr_woken);
	if (ret) {
		err_set(err, -ret, "chardev '%s': cannot be made: %s", config->id, strerror(-ret));
		if (config->fd >= 0)
			close(config->fd);
		if (config->log_fd >= 0)
			close(config->log_fd);
		if (chr)
			free(chr->id);
		free(chr);
		return NULL;
	}
	chr->wake.data = chr;
	uv_timer_init(loop_uv(loop), &chr->timer);
	chr->timer.data = chr;
	chr->handles = 2;
	chr->in_fd = chr->out_fd = chr->connect_fd = chr->watch_fd = -1;
	chr->socket.fd = -1;
	pthread_mutex_init(&chr->ports_lock, NULL);
	return chr;
}

struct chardev *chardev_new(struct loop *loop, const struct chr_config *config, struct err **err)
{
	struct chardev *chr = chr_alloc(loop, config, err);

	if (!chr)
		return NULL;
	signal(SIGPIPE, SIG_IGN);
	chr->loop = loop;
	chr->backend = config->backend;
	chr->mux = config->mux;
	chr->signal = config->signal;
	chr->note = config->note;
	chr->quit = config->quit;
	chr->opaque = config->opaque;
	if (chr_open(chr, config, err)) {
		if (config->log_fd >= 0)
			close(config->log_fd);
		chardev_free(chr);
		return NULL;
	}
	if (config->log_fd >= 0 && chr_log_new(chr, config->log_fd, &chr->log, err)) {
		chardev_free(chr);
		return NULL;
	}
	return chr;
}

void chardev_free(struct chardev *chr)
{
	uint64_t deadline_ms = chr_now_ms() + CHR_FREE_DRAIN_MS;
	struct chr_port *port;

	if (!chr)
		return;
	for (port = chr->ports; port; port = port->next) {
		port->given_up = true;
		if (port->stream)
			chr_stream_drain(port->stream, deadline_ms);
	}
	if (chr->stream)
		chr_stream_drain(chr->stream, deadline_ms);
	chr_stream_free(chr->stream);
	chr->stream = NULL;
	chr_ports_sweep(chr, true);
	chr_log_free(chr->log, deadline_ms);
	chr->log = NULL;
	chr_term_restore(chr->term);
	chr->freed = true;
	chr_close_handle((uv_handle_t *)&chr->listen_poll);
	chr_close_handle((uv_handle_t *)&chr->watch_poll);
	chr_close_handle((uv_handle_t *)&chr->stop_signal);
	chr_close_handle((uv_handle_t *)&chr->cont_signal);
	chr_close_connect(chr);
	chr_socket_done(&chr->socket);
	chr_close_handle((uv_handle_t *)&chr->timer);
	chr_close_handle((uv_handle_t *)&chr->wake);
}

/* The descriptors opened at the start become the first connection. */
static int chr_start(struct chardev *chr, struct err **err)
{
	int in_fd = chr->in_fd, out_fd = chr->out_fd;

	chr->started = true;
	chr->in_fd = chr->out_fd = -1;
	chr_wake(chr);
	if (in_fd < 0 && out_fd < 0)
		return 0;
	if (!chr->server)
		return chr_stream_add(chr, in_fd, out_fd, err);
	chr_client_add(chr, in_fd, out_fd);
	return 0;
}

static unsigned int chr_front_ends(const struct chardev *chr)
{
	const struct chr_port *port;
	unsigned int count = 0;

	for (port = chr->ports; port; port = port->next)
		count += !port->given_up && !port->served;
	return count;
}

bool chardev_listens(const struct chardev *chr)
{
	return chr->backend == CHR_SOCKET && chr->socket.server && !chr->mux;
}

bool chardev_in_use(const struct chardev *chr)
{
	return chr->server || chr_front_ends(chr);
}

int chardev_attach(struct chardev *chr, const struct chr_ops *ops, void *opaque,
		   struct chr_port **ret_port, struct err **err)
{
	unsigned int count = chr_front_ends(chr);
	struct chr_port *port;
	int ret;

	if (chr->server || (count && !chr->mux))
		return err_set(err, EBUSY,
			       "chardev '%s' is in use already; mux=on lets several devices share "
			       "it",
			       chr->id);
	if (count >= CHR_MUX_MAX)
		return err_set(err, EBUSY,
			       "chardev '%s' is in use by %d devices; more cannot share it",
			       chr->id, CHR_MUX_MAX);
	port = chr_port_new(chr, ops, opaque);
	if (!port)
		return err_set(err, ENOMEM, "out of memory");
	if (chr->mux && !chr->focus)
		chr_mux_set_focus(chr, port);
	if (chr->open)
		chr_port_connect(port);
	if (!chr->started) {
		ret = chr_start(chr, err);
		if (ret) {
			chr_port_close(port);
			return ret;
		}
	}
	chr_wake(chr);
	*ret_port = port;
	return 0;
}

int chardev_serve(struct chardev *chr, const struct chr_server_ops *ops, void *opaque,
		  struct err **err)
{
	if (chardev_in_use(chr) || chr->mux)
		return err_set(err, EBUSY, "chardev '%s' is in use already", chr->id);
	chr->server = ops;
	chr->server_opaque = opaque;
	return chr->started ? 0 : chr_start(chr, err);
}

void chardev_unserve(struct chardev *chr)
{
	chr->server = NULL;
	chr->started = false;
	chr_wake(chr);
}

const char *chardev_id(const struct chardev *chr)
{
	return chr->id;
}

const char *chardev_pty_path(const struct chardev *chr)
{
	return chr->pty_path;
}

struct chr_term *chardev_terminal(struct chardev *chr)
{
	return chr->term;
}

static bool chr_connected(const struct chardev *chr)
{
	const struct chr_port *port;

	if (chr->stream || chr->in_fd >= 0)
		return true;
	for (port = chr->ports; port; port = port->next)
		if (port->served && port->stream)
			return true;
	return false;
}

char *chardev_filename(const struct chardev *chr)
{
	static const char *const names[] = {
		[CHR_NULL] = "null", [CHR_STDIO] = "stdio", [CHR_FILE] = "file"};
	const char *prefix = "";
	char *name = NULL;
	int ret;

	if (chr->backend == CHR_SOCKET) {
		if (!chr_connected(chr))
			prefix = "disconnected:";
		ret = asprintf(&name, "%s%s", prefix, chr->socket.name);
	} else if (chr->backend == CHR_PTY) {
		ret = asprintf(&name, "pty:%s", chr->pty_path);
	} else {
		ret = asprintf(&name, "%s", names[chr->backend]);
	}
	return ret < 0 ? NULL : name;
}
