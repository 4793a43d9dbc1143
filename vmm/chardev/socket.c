/* SPDX-License-Identifier: BSD-3-Clause */
/* Sockets of chardevs: see open.h for the contract. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/chardev/open.h"

/* Clients that come at once, as programs of a monitor may; the host has a limit of its own. */
#define CHR_BACKLOG CHR_CLIENTS_MAX

static int chr_socket_flags(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
		return -errno;
	return 0;
}

static void chr_socket_set_nodelay(const struct chr_socket *sock, int fd)
{
	int one = 1;

	if (sock->nodelay)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static char *chr_socket_name(const struct chr_socket *sock)
{
	const char *tail = sock->server ? ",server=on" : "";
	char host[NI_MAXHOST], port[NI_MAXSERV];
	char *name = NULL;
	int ret;

	if (sock->addr.ss_family == AF_UNIX) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)&sock->addr;

		ret = asprintf(&name, "unix:%.*s%s", (int)sizeof(un->sun_path), un->sun_path, tail);
	} else if (getnameinfo((const struct sockaddr *)&sock->addr, sock->addr_size, host,
			       sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV)) {
		ret = asprintf(&name, "socket%s", tail);
	} else if (sock->addr.ss_family == AF_INET6) {
		ret = asprintf(&name, "tcp:[%s]:%s%s", host, port, tail);
	} else {
		ret = asprintf(&name, "tcp:%s:%s%s", host, port, tail);
	}
	return ret < 0 ? NULL : name;
}

/* A socket that was made by whoever started us. */
static int chr_socket_adopt(struct chr_socket *sock, const struct chr_config *config,
			    struct err **err)
{
	int listening = 0, type = 0, fd = config->fd;
	socklen_t size = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM)
		return err_set(err, EINVAL, "chardev '%s': fd %d is not a stream socket",
			       config->id, fd);
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
	if (listening && !config->server)
		return err_set(err, EINVAL,
			       "chardev '%s': fd %d is a listening socket; it needs server=on",
			       config->id, fd);
	sock->addr_size = sizeof(sock->addr);
	/* A connected socket is used as it is, also where server=on was said of it. */
	if (config->server && !listening &&
	    getpeername(fd, (struct sockaddr *)&sock->addr, &sock->addr_size)) {
		if (listen(fd, CHR_BACKLOG))
			return err_set(err, errno, "chardev '%s': cannot listen on fd %d: %s",
				       config->id, fd, strerror(errno));
		listening = 1;
	}
	if (chr_socket_flags(fd))
		return err_set(err, errno, "chardev '%s': cannot use fd %d: %s", config->id, fd,
			       strerror(errno));
	sock->server = listening;
	sock->fd = fd;
	memset(&sock->addr, 0, sizeof(sock->addr));
	sock->addr_size = sizeof(sock->addr);
	getsockname(fd, (struct sockaddr *)&sock->addr, &sock->addr_size);
	return 0;
}

/* An old socket of that name is replaced; anything else is not ours to remove. */
static int chr_socket_bind_unix(struct chr_socket *sock, int fd, const struct chr_config *config,
				struct err **err)
{
	struct stat st;

	if (!lstat(config->path, &st)) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(err, EEXIST, "chardev '%s': '%s' exists and is not a socket",
				       config->id, config->path);
		unlink(config->path);
	}
	if (bind(fd, (struct sockaddr *)&sock->addr, sock->addr_size))
		return err_set(err, errno, "chardev '%s': cannot make the socket '%s': %s",
			       config->id, config->path, strerror(errno));
	if (!lstat(config->path, &st)) {
		/* Absolute: the process may be in another folder when the path is removed. */
		sock->unlink = realpath(config->path, NULL);
		sock->dev = st.st_dev;
		sock->ino = st.st_ino;
	}
	return 0;
}

static int chr_socket_open_unix(struct chr_socket *sock, const struct chr_config *config,
				struct err **err)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&sock->addr;
	int fd, ret;

	if (strlen(config->path) >= sizeof(un->sun_path))
		return err_set(err, ENAMETOOLONG,
			       "chardev '%s': the socket path '%s' is too long; at most %zu bytes "
			       "are allowed",
			       config->id, config->path, sizeof(un->sun_path) - 1);
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, config->path);
	sock->addr_size = sizeof(*un);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "chardev '%s': cannot make a socket: %s", config->id,
			       strerror(errno));
	if (config->server) {
		ret = chr_socket_bind_unix(sock, fd, config, err);
		if (!ret && listen(fd, CHR_BACKLOG))
			ret = err_set(err, errno, "chardev '%s': cannot listen on '%s': %s",
				      config->id, config->path, strerror(errno));
	} else {
		ret = connect(fd, (struct sockaddr *)un, sock->addr_size) ? -errno : 0;
		if (ret && !config->reconnect_s)
			err_set(err, -ret, "chardev '%s': cannot connect to '%s': %s", config->id,
				config->path, strerror(-ret));
	}
	if (ret) {
		close(fd);
		return config->server || !config->reconnect_s ? ret : 0;
	}
	sock->fd = fd;
	return 0;
}

/* One resolved address: a socket that listens or is connected (live: or will be), or -errno. */
static int chr_socket_try(const struct addrinfo *ai, const struct chr_config *config)
{
	int type = SOCK_STREAM | SOCK_CLOEXEC | (config->live ? SOCK_NONBLOCK : 0);
	int fd = socket(ai->ai_family, type, 0), value = 1, ret;

	if (fd < 0)
		return -errno;
	if (config->server) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof(value));
		/* "any address" means those of both families. */
		value = 0;
		if (ai->ai_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof(value));
		ret = bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, CHR_BACKLOG);
	} else {
		ret = connect(fd, ai->ai_addr, ai->ai_addrlen);
		/* Whoever reads finds out what became of it. */
		if (ret && config->live && errno == EINPROGRESS)
			ret = 0;
	}
	if (!ret && !chr_socket_flags(fd))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

static int chr_socket_resolve(const struct chr_config *config, struct addrinfo **ret_list,
			      struct err **err)
{
	bool any = !config->host || !*config->host;
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = config->server ? AI_PASSIVE : 0,
		.ai_family = AF_UNSPEC,
	};
	int ret;

	if (config->ipv4 && !config->ipv6)
		hints.ai_family = AF_INET;
	/* For any address, a socket of the newer family serves both. */
	else if (config->ipv6 || (any && config->server && !config->ipv4))
		hints.ai_family = AF_INET6;
	if (config->ipv4 && config->ipv6)
		hints.ai_family = AF_UNSPEC;
	if (config->live) {
		hints.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
		if (!any && !strcmp(config->host, "localhost")) {
			/* without a host, that is who does not listen */
			hints.ai_flags &= ~AI_PASSIVE;
			any = true;
		}
	}
	ret = getaddrinfo(any ? NULL : config->host, config->port, &hints, ret_list);
	if (ret == EAI_NONAME && config->live)
		return err_set(
			err, EINVAL,
			"chardev '%s': host '%s' port '%s': names are not looked up while the "
			"machine runs; allowed: numbers, and localhost",
			config->id, config->host ? config->host : "", config->port);
	if (ret)
		return err_set(err, EINVAL, "chardev '%s': cannot resolve host '%s' port '%s': %s",
			       config->id, any ? "" : config->host, config->port,
			       gai_strerror(ret));
	return 0;
}

static int chr_socket_open_tcp(struct chr_socket *sock, const struct chr_config *config,
			       struct err **err)
{
	struct chr_config v4 = *config;
	struct addrinfo *list, *ai;
	int ret = chr_socket_resolve(config, &list, err);

	if (ret)
		return ret;
	for (ai = list; ai; ai = ai->ai_next) {
		ret = chr_socket_try(ai, config);
		memcpy(&sock->addr, ai->ai_addr, ai->ai_addrlen);
		sock->addr_size = ai->ai_addrlen;
		if (ret >= 0)
			break;
	}
	freeaddrinfo(list);
	/* A host without IPv6 still has its other addresses. */
	if (ret == -EAFNOSUPPORT && !config->ipv6 && !config->ipv4) {
		v4.ipv4 = true;
		return chr_socket_open_tcp(sock, &v4, err);
	}
	if (ret < 0) {
		if (!config->server && config->reconnect_s)
			return 0;
		return err_set(err, -ret, "chardev '%s': cannot %s host '%s' port '%s': %s",
			       config->id, config->server ? "listen on" : "connect to",
			       config->host ? config->host : "", config->port, strerror(-ret));
	}
	sock->fd = ret;
	/* Port 0 became a real one. */
	if (config->server) {
		sock->addr_size = sizeof(sock->addr);
		getsockname(ret, (struct sockaddr *)&sock->addr, &sock->addr_size);
	} else {
		chr_socket_set_nodelay(sock, ret);
	}
	return 0;
}

int chr_socket_open(struct chr_socket *sock, const struct chr_config *config, struct err **err)
{
	int ret;

	memset(sock, 0, sizeof(*sock));
	sock->fd = -1;
	sock->server = config->server;
	sock->nodelay = config->nodelay;
	if (config->fd >= 0) {
		ret = chr_socket_adopt(sock, config, err);
		if (ret)
			close(config->fd);
	} else if (config->path && *config->path) {
		ret = chr_socket_open_unix(sock, config, err);
	} else if (config->port && *config->port) {
		ret = chr_socket_open_tcp(sock, config, err);
	} else {
		ret = err_set(
			err, EINVAL,
			"chardev '%s': the socket back-end needs path=, port= or fd=", config->id);
	}
	if (!ret) {
		sock->name = chr_socket_name(sock);
		if (!sock->name)
			ret = err_set(err, ENOMEM, "out of memory");
	}
	if (ret)
		chr_socket_done(sock);
	return ret;
}

int chr_socket_accept(const struct chr_socket *sock)
{
	int fd;

	do {
		fd = accept4(sock->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	} while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0)
		return -errno;
	chr_socket_set_nodelay(sock, fd);
	return fd;
}

int chr_socket_connect(const struct chr_socket *sock)
{
	int fd = socket(sock->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&sock->addr, sock->addr_size) &&
	    errno != EINPROGRESS) {
		ret = -errno;
		close(fd);
		return ret;
	}
	chr_socket_set_nodelay(sock, fd);
	return fd;
}

int chr_socket_wait(const struct chr_socket *sock)
{
	struct pollfd pfd = {.fd = sock->fd, .events = POLLIN};

	return poll(&pfd, 1, -1) < 0 ? -errno : 0;
}

void chr_socket_done(struct chr_socket *sock)
{
	struct stat st;

	if (sock->fd >= 0)
		close(sock->fd);
	sock->fd = -1;
	if (sock->unlink && !lstat(sock->unlink, &st) && st.st_dev == sock->dev &&
	    st.st_ino == sock->ino)
		unlink(sock->unlink);
	free(sock->unlink);
	sock->unlink = NULL;
	free(sock->name);
	sock->name = NULL;
}
