/* SPDX-License-Identifier: BSD-3-Clause */
/* Channels whose bytes are in memory: see fake_channel.h. */
#include "fake_channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel.h"

struct channel {
	struct fake_client left;
	bool duplex;
	const struct cancel *cancel;
};

struct channel_listener {
	struct cancel *cancel;
	size_t next, end;      /* clients */
	struct channel *again; /* channel_unaccept() */
};

struct fake_world fake_world;

int channel_listen(struct address *address, struct cancel *cancel,
		   struct channel_listener **ret_listener, struct err **err)
{
	(void)address;
	(void)err;
	*ret_listener = calloc(1, sizeof(**ret_listener));
	(*ret_listener)->cancel = cancel;
	(*ret_listener)->next = fake_world.nr_taken;
	fake_world.nr_taken = fake_world.one_each ? fake_world.nr_taken + 1 : fake_world.nr_clients;
	(*ret_listener)->end = (size_t)num_min(fake_world.nr_taken, fake_world.nr_clients);
	return 0;
}

void channel_listener_free(struct channel_listener *l)
{
	if (!l)
		return;
	channel_close(l->again);
	free(l);
}

const char *channel_listener_name(const struct channel_listener *l)
{
	(void)l;
	return "fake";
}

size_t channel_nr_sockets(const struct channel_listener *l)
{
	(void)l;
	return 0;
}

int channel_socket(const struct channel_listener *l, size_t i, struct address_socket *ret_socket)
{
	(void)l;
	(void)i;
	(void)ret_socket;
	return -EINVAL;
}

int channel_accept(struct channel_listener *l, size_t first_bytes, int timeout_ms,
		   struct channel **ret_channel, struct err **err)
{
	(void)first_bytes;
	(void)timeout_ms;
	(void)err;
	if (l->next < l->end) {
		*ret_channel = calloc(1, sizeof(**ret_channel));
		(*ret_channel)->left = fake_world.clients[l->next++];
		(*ret_channel)->duplex = fake_world.duplex;
		(*ret_channel)->cancel = l->cancel;
		fake_world.open++;
		return 0;
	}
	*ret_channel = l->again;
	l->again = NULL;
	return *ret_channel ? 0 : -ENODATA;
}

void channel_unaccept(struct channel_listener *l, struct channel *ch)
{
	channel_close(l->again);
	l->again = ch;
}

void channel_close(struct channel *ch)
{
	if (ch)
		fake_world.open--;
	free(ch);
}

const char *channel_name(const struct channel *ch)
{
	(void)ch;
	return "fake";
}

bool channel_is_duplex(const struct channel *ch)
{
	return ch->duplex;
}

bool channel_is_seekable(const struct channel *ch)
{
	(void)ch;
	return fake_world.fd >= 0;
}

int channel_fd(const struct channel *ch)
{
	(void)ch;
	return fake_world.fd;
}

uint64_t channel_base(const struct channel *ch)
{
	(void)ch;
	return 0;
}

bool channel_is_command(const struct channel *ch)
{
	(void)ch;
	return false;
}

int channel_peek(struct channel *ch, void *buf, size_t size, int timeout_ms, size_t *ret_done)
{
	(void)timeout_ms;
	if (fake_world.fd >= 0) {
		ssize_t n = pread(fake_world.fd, buf, size, 0);

		*ret_done = n < 0 ? 0 : (size_t)n;
		return 0;
	}
	*ret_done = (size_t)num_min(size, ch->left.size);
	memcpy(buf, ch->left.bytes, *ret_done);
	return 0;
}

int channel_read(struct channel *ch, void *buf, size_t size, int timeout_ms, size_t *ret_done)
{
	size_t done = (size_t)num_min(size, ch->left.size);

	(void)timeout_ms;
	if (ret_done)
		*ret_done = 0;
	if (cancel_raised(ch->cancel))
		return -ECANCELED;
	if (fake_world.fd >= 0) {
		ssize_t n = pread(fake_world.fd, buf, size, 0);

		return n == (ssize_t)size ? 0 : -ENODATA;
	}
	memcpy(buf, ch->left.bytes, done);
	ch->left.bytes += done;
	ch->left.size -= done;
	if (ret_done)
		*ret_done = done;
	return done == size ? 0 : ch->left.end;
}

int channel_writev(struct channel *ch, struct iovec *iov, size_t nr, int timeout_ms)
{
	(void)iov;
	(void)nr;
	(void)timeout_ms;
	return cancel_raised(ch->cancel) ? -ECANCELED : 0;
}

int channel_fail(struct channel *ch, int ret, const char *what, struct err **err)
{
	(void)ch;
	return err_set(err, -ret, "fake: cannot %s: %s", what, strerror(-ret));
}
