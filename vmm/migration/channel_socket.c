/* SPDX-License-Identifier: BSD-3-Clause */
/* Sockets of channels: see channel.h. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/address.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel_internal.h"

/* How often a port that is free for one address may be taken for the next. */
#define CHANNEL_PORT_TRIES 16

/* Unanswered in a row: one of them may just be under way. */
#define CHANNEL_DEAD_TRIES 2

/* How long a connect to a UNIX socket whose queue is full may not look at the cancel. */
#define CHANNEL_QUEUE_MS 100

/* ---- the network's state ---- */

bool channel_socket_is_tcp(int fd)
{
	int protocol = 0;
	socklen_t size = sizeof(protocol);

	return !getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) &&
	       protocol == IPPROTO_TCP;
}

/*
 * With nothing to send the kernel asks whether the other side is still there. While something is
 * to be sent it tries again and again, for far too long: channel_socket_dead() looks at that.
 */
void channel_socket_tune(int fd, int dead_ms)
{
	int one = 1, idle_s = dead_ms / 3000 + 1, interval_s = dead_ms / 6000 + 1, count = 4;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

bool channel_socket_dead(int fd, int dead_ms)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size))
		return false;
	/* a side that is there confirms each try, also one that has no room for more */
	return (info.tcpi_retransmits >= CHANNEL_DEAD_TRIES ||
		info.tcpi_probes >= CHANNEL_DEAD_TRIES) &&
	       info.tcpi_last_ack_recv >= (uint32_t)dead_ms;
}

/* ---- connecting ---- */

/* A TCP socket that is connected to one address, or -errno. */
static int channel_tcp_connect(const struct addrinfo *ai, const struct cancel *cancel)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret, error = 0;
	socklen_t size = sizeof(error);

	if (fd < 0)
		return -errno;
	ret = connect(fd, ai->ai_addr, ai->ai_addrlen) ? -errno : 0;
	if (ret == -EINPROGRESS || ret == -EINTR) {
		ret = cancel_poll(cancel, fd, POLLOUT, cancel_deadline(CHANNEL_DEAD_MS));
		if (!ret && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size))
			ret = -errno;
		if (!ret)
			ret = -error;
	}
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

static int channel_connect_tcp(const struct address *a, const struct cancel *cancel, int *ret_fd,
			       struct err **err)
{
	struct addrinfo *list;
	int ret = channel_lookup(a, false, cancel, &list, err);

	if (ret)
		return ret;
	ret = -EHOSTUNREACH;
	for (const struct addrinfo *ai = list; ai && ret < 0 && ret != -ECANCELED; ai = ai->ai_next)
		ret = channel_tcp_connect(ai, cancel);
	freeaddrinfo(list);
	if (ret < 0)
		return err_set(err, -ret, "%s: cannot connect: %s", a->text,
			       ret == -ECANCELED ? "it was cancelled" : strerror(-ret));
	*ret_fd = ret;
	return 0;
}

static void channel_unix_name(const struct address *a, struct sockaddr_un *un)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	/* its length was checked by the address */
	memcpy(un->sun_path, a->what, strnlen(a->what, sizeof(un->sun_path) - 1));
}

static int channel_connect_unix(const struct address *a, const struct cancel *cancel, int *ret_fd,
				struct err **err)
{
	const struct timeval queue = {.tv_usec = CHANNEL_QUEUE_MS * 1000};
	int64_t deadline_ms = cancel_deadline(CHANNEL_DEAD_MS);
	struct sockaddr_un un;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return err_set(err, errno, "%s: cannot make a socket: %s", a->text,
			       strerror(errno));
	channel_unix_name(a, &un);
	/* only for connect(): a full queue is waited for, in turns */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &queue, sizeof(queue));
	do {
		ret = connect(fd, (const struct sockaddr *)&un, sizeof(un)) ? -errno : 0;
		if (cancel_raised(cancel))
			ret = -ECANCELED;
	} while ((ret == -EAGAIN || ret == -EINTR) && cancel_left_ms(deadline_ms));
	if (!ret) {
		*ret_fd = fd;
		return 0;
	}
	close(fd);
	return err_set(err, -ret, "%s: cannot connect: %s", a->text,
		       ret == -ECANCELED ? "it was cancelled"
		       : ret == -EAGAIN  ? "nobody accepts the connection"
					 : strerror(-ret));
}

int channel_socket_connect(const struct address *a, const struct cancel *cancel, int *ret_fd,
			   struct err **err)
{
	return a->type == ADDRESS_TCP ? channel_connect_tcp(a, cancel, ret_fd, err)
				      : channel_connect_unix(a, cancel, ret_fd, err);
}

/* ---- listening ---- */

static in_port_t *channel_port(struct sockaddr *name)
{
	return name->sa_family == AF_INET6 ? &((struct sockaddr_in6 *)name)->sin6_port
					   : &((struct sockaddr_in *)name)->sin_port;
}

/* One that listens on one address, or -errno. Port 0 becomes the one that was found. */
static int channel_tcp_listen(struct sockaddr *name, socklen_t size, bool both)
{
	int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1, only = !both, ret;
	struct sockaddr_storage found;
	socklen_t found_size = sizeof(found);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (name->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
	if (!bind(fd, name, size) && !listen(fd, SOMAXCONN) &&
	    !getsockname(fd, (struct sockaddr *)&found, &found_size)) {
		*channel_port(name) = *channel_port((struct sockaddr *)&found);
		return fd;
	}
	ret = -errno;
	close(fd);
	return ret;
}

static bool channel_is_any6(const struct sockaddr *name)
{
	return name->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)name)->sin6_addr);
}

/* All of @list on one port; addresses that this host does not have are passed over. */
static int channel_tcp_listen_all(struct channel_sockets *s, const struct address *a,
				  struct addrinfo *list)
{
	in_port_t port = *channel_port(list->ai_addr);
	bool both = false;
	int ret = -EADDRNOTAVAIL;

	for (const struct addrinfo *ai = list; ai && s->nr < CHANNEL_SOCKETS_MAX;
	     ai = ai->ai_next) {
		bool any6 = channel_is_any6(ai->ai_addr) && a->ipv4 == a->ipv6;

		*channel_port(ai->ai_addr) = port;
		/* one socket of the newer family serves both */
		if (both && ai->ai_family == AF_INET)
			continue;
		ret = channel_tcp_listen(ai->ai_addr, ai->ai_addrlen, any6);
		if (ret >= 0) {
			s->fds[s->nr++] = ret;
			port = *channel_port(ai->ai_addr);
			both |= any6;
		} else if (ret != -EAFNOSUPPORT && ret != -EADDRNOTAVAIL) {
			return ret;
		}
	}
	return s->nr ? 0 : ret;
}

/* Of the addresses for "any", the one that serves both families comes first. */
static struct addrinfo *channel_any6_first(struct addrinfo *list)
{
	for (struct addrinfo **at = &list; *at; at = &(*at)->ai_next) {
		struct addrinfo *ai = *at;

		if (!channel_is_any6(ai->ai_addr))
			continue;
		*at = ai->ai_next;
		ai->ai_next = list;
		return ai;
	}
	return list;
}

static int channel_listen_tcp(struct channel_sockets *s, const struct address *a, struct err **err)
{
	struct addrinfo *list;
	in_port_t port;
	int tries = 0, ret = channel_lookup(a, true, NULL, &list, err);

	if (ret)
		return ret;
	list = channel_any6_first(list);
	port = *channel_port(list->ai_addr);
	do {
		channel_sockets_done(s);
		*channel_port(list->ai_addr) = port;
		ret = channel_tcp_listen_all(s, a, list);
	} while (ret == -EADDRINUSE && !port && ++tries < CHANNEL_PORT_TRIES);
	freeaddrinfo(list);
	if (ret)
		return err_set(err, -ret, "%s: cannot listen: %s", a->text, strerror(-ret));
	return 0;
}

static int channel_listen_unix(struct channel_sockets *s, const struct address *a, struct err **err)
{
	struct sockaddr_un un;
	struct stat st;
	int fd;

	/* an old socket of that name is replaced; anything else is not ours to remove */
	if (!lstat(a->what, &st)) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(err, EEXIST, "%s: there is something that is no socket",
				       a->text);
		unlink(a->what);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "%s: cannot make a socket: %s", a->text,
			       strerror(errno));
	s->fds[s->nr++] = fd;
	channel_unix_name(a, &un);
	if (bind(fd, (const struct sockaddr *)&un, sizeof(un)))
		return err_set(err, errno, "%s: cannot make the socket: %s", a->text,
			       strerror(errno));
	if (!lstat(a->what, &st)) {
		/* absolute: the process may be in another folder when it is removed */
		s->path = realpath(a->what, NULL);
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
	if (listen(fd, SOMAXCONN))
		return err_set(err, errno, "%s: cannot listen: %s", a->text, strerror(errno));
	return 0;
}

int channel_sockets_listen(struct channel_sockets *s, const struct address *a, struct err **err)
{
	int ret;

	memset(s, 0, sizeof(*s));
	ret = a->type == ADDRESS_TCP ? channel_listen_tcp(s, a, err)
				     : channel_listen_unix(s, a, err);
	if (ret)
		channel_sockets_done(s);
	return ret;
}

void channel_sockets_done(struct channel_sockets *s)
{
	struct stat st;

	if (s->path && !lstat(s->path, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
	free(s->path);
	s->path = NULL;
	while (s->nr)
		close(s->fds[--s->nr]);
}
