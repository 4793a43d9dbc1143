/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients of a channel that listens: see channel.h, I5.
 *
 * Clients are in the order in which they came. Each costs a descriptor and a few bytes until its
 * first bytes are there.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "vmm/migration/address.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel_internal.h"

/* How long nobody is accepted when the host has no descriptor or no memory for one more. */
#define CHANNEL_REST_MS 100

struct channel_client {
	struct channel *channel; /* what came so far is in its @first */
	int64_t silent_ms;       /* when it has been silent for too long */
	bool ended;              /* nothing more will come */
};

struct channel_listener {
	char *name;
	const struct cancel *cancel;
	struct channel_sockets sockets;
	struct channel *only; /* where nobody connects: the one client, until it was accepted */
	struct channel_client clients[CHANNEL_CLIENTS_MAX];
	size_t nr_clients;
	int silent_ms;
	int64_t rest_ms; /* nobody is accepted until then; 0: never had to */
};

int channel_listen(struct address *a, struct cancel *cancel, struct channel_listener **ret_listener,
		   struct err **err)
{
	struct channel_listener *l = calloc(1, sizeof(*l));
	int ret;

	if (l)
		l->name = strdup(a->text);
	if (!l || !l->name)
		ret = err_set(err, ENOMEM, "out of memory");
	else if (address_takes_many(a))
		ret = channel_sockets_listen(&l->sockets, a, err);
	else
		ret = channel_open(a, false, cancel, &l->only, err);
	if (ret) {
		channel_listener_free(l);
		return ret;
	}
	l->cancel = cancel;
	l->silent_ms = CHANNEL_SILENT_MS;
	*ret_listener = l;
	return 0;
}

/* Take client @i out of the list. */
static struct channel *channel_client_take(struct channel_listener *l, size_t i)
{
	struct channel *ch = l->clients[i].channel;

	l->nr_clients--;
	memmove(l->clients + i, l->clients + i + 1, (l->nr_clients - i) * sizeof(*l->clients));
	return ch;
}

static void channel_client_drop(struct channel_listener *l, size_t i)
{
	channel_close(channel_client_take(l, i));
}

void channel_listener_free(struct channel_listener *l)
{
	if (!l)
		return;
	while (l->nr_clients)
		channel_client_drop(l, l->nr_clients - 1);
	channel_close(l->only);
	channel_sockets_done(&l->sockets);
	free(l->name);
	free(l);
}

void channel_listener_set_silent_ms(struct channel_listener *l, int silent_ms)
{
	l->silent_ms = silent_ms;
}

const char *channel_listener_name(const struct channel_listener *l)
{
	return l->name;
}

size_t channel_nr_sockets(const struct channel_listener *l)
{
	return l->sockets.nr;
}

int channel_socket(const struct channel_listener *l, size_t i, struct address_socket *ret_socket)
{
	assert(i < l->sockets.nr);
	return address_socket_of(l->sockets.fds[i], ret_socket);
}

/* ---- clients ---- */

/* One that waits on @fd, if there is one: it may be gone again. */
static void channel_client_add(struct channel_listener *l, int fd)
{
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	struct channel *ch;

	if (client < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			l->rest_ms = cancel_deadline(CHANNEL_REST_MS);
		return;
	}
	ch = channel_new(l->name, CHANNEL_SOCKET, client, l->cancel);
	if (ch)
		channel_unaccept(l, ch);
}

void channel_unaccept(struct channel_listener *l, struct channel *ch)
{
	if (l->nr_clients == CHANNEL_CLIENTS_MAX)
		channel_client_drop(l, 0);
	l->clients[l->nr_clients++] = (struct channel_client){
		.channel = ch,
		.silent_ms = cancel_deadline(l->silent_ms),
	};
}

/* Read what there is of the first bytes. False: drop it. */
static bool channel_client_read(struct channel_client *client, size_t first_bytes)
{
	struct channel *ch = client->channel;
	ssize_t n;

	if (client->ended || ch->first_size >= first_bytes)
		return true;
	n = recv(ch->fd, ch->first + ch->first_size, first_bytes - ch->first_size, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	ch->first_size += (size_t)n;
	atomic_fetch_add(&ch->bytes_read, (uint64_t)n);
	client->ended = !n;
	return n || ch->first_size;
}

/* The first client that is ready, or NULL. */
static struct channel *channel_client_ready(struct channel_listener *l, size_t first_bytes)
{
	for (size_t i = 0; i < l->nr_clients;) {
		const struct channel_client *client = &l->clients[i];

		if (!channel_client_read(&l->clients[i], first_bytes)) {
			channel_client_drop(l, i);
			continue;
		}
		if (client->ended || client->channel->first_size >= first_bytes)
			return channel_client_take(l, i);
		if (!cancel_left_ms(client->silent_ms))
			channel_client_drop(l, i);
		else
			i++;
	}
	return NULL;
}

/* Until a client comes, one that there is says something, or was silent for too long. */
static int channel_listener_wait(struct channel_listener *l, int64_t deadline_ms)
{
	struct pollfd fds[1 + CHANNEL_SOCKETS_MAX + CHANNEL_CLIENTS_MAX];
	bool rests = l->rest_ms && cancel_left_ms(l->rest_ms);
	int64_t until_ms = deadline_ms;
	size_t nr = 0;
	int ret;

	if (rests && (until_ms < 0 || l->rest_ms < until_ms))
		until_ms = l->rest_ms;

	fds[nr++] = (struct pollfd){.fd = cancel_fd(l->cancel), .events = POLLIN};
	for (size_t i = 0; i < l->sockets.nr; i++)
		fds[nr++] = (struct pollfd){.fd = rests ? -1 : l->sockets.fds[i], .events = POLLIN};
	for (size_t i = 0; i < l->nr_clients; i++) {
		int64_t silent_ms = l->clients[i].silent_ms;

		fds[nr++] = (struct pollfd){.fd = l->clients[i].channel->fd, .events = POLLIN};
		if (until_ms < 0 || silent_ms < until_ms)
			until_ms = silent_ms;
	}
	ret = poll(fds, nr, cancel_left_ms(until_ms));
	if (ret < 0 && errno != EINTR)
		return -errno;
	for (size_t i = 0; ret > 0 && i < l->sockets.nr; i++)
		if (fds[1 + i].revents)
			channel_client_add(l, l->sockets.fds[i]);
	return 0;
}

int channel_accept(struct channel_listener *l, size_t first_bytes, int timeout_ms,
		   struct channel **ret_channel, struct err **err)
{
	int64_t deadline_ms = cancel_deadline(timeout_ms);
	int ret = 0;

	assert(first_bytes && first_bytes <= CHANNEL_FIRST_MAX);
	if (!l->sockets.nr) {
		*ret_channel = l->only;
		l->only = NULL;
		return *ret_channel ? 0 : -ENODATA;
	}
	while (!ret) {
		if (cancel_raised(l->cancel))
			return -ECANCELED;
		*ret_channel = channel_client_ready(l, first_bytes);
		if (*ret_channel)
			return 0;
		if (deadline_ms >= 0 && !cancel_left_ms(deadline_ms))
			return -ETIMEDOUT;
		ret = channel_listener_wait(l, deadline_ms);
	}
	return err_set(err, -ret, "%s: cannot wait for a connection: %s", l->name, strerror(-ret));
}
