/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a machine's state goes to or comes from: see address.h. */
#include "vmm/migration/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/vm/fds.h"

#define ADDRESS_SET "/dev/fdset/"

static const struct {
	const char *name;
	enum address_type type;
} address_kinds[] = {
	{"tcp:", ADDRESS_TCP},   {"unix:", ADDRESS_UNIX}, {"fd:", ADDRESS_FD},
	{"exec:", ADDRESS_EXEC}, {"file:", ADDRESS_FILE},
};

/* ---- reading ---- */

/* Decimal digits only, to the end of @text. */
static int address_number(const char *text, uint64_t *ret_number)
{
	uint64_t n = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || !num_mul(n, 10, &n) ||
		    !num_add(n, (uint64_t)(*text - '0'), &n))
			return -EINVAL;
	}
	*ret_number = n;
	return 0;
}

/* "on", "off" or nothing at all behind @name in [option, option + length). */
static bool address_option(const char *option, size_t length, const char *name, bool *ret_on)
{
	size_t n = strlen(name);

	if (length < n || strncmp(option, name, n))
		return false;
	option += n;
	length -= n;
	if (!length || (length == 3 && !strncmp(option, "=on", 3)))
		*ret_on = true;
	else if (length == 4 && !strncmp(option, "=off", 4))
		*ret_on = false;
	else
		return false;
	return true;
}

static int address_tcp_options(struct address *a, const char *options, struct err **err)
{
	bool off = false;

	while (*options) {
		size_t length = strcspn(++options, ",");
		bool on = false;

		if (address_option(options, length, "ipv4", &on))
			a->ipv4 = on;
		else if (address_option(options, length, "ipv6", &on))
			a->ipv6 = on;
		else
			return err_set(err, EINVAL,
				       "%s: '%.*s' is no option of it; allowed: ipv4, ipv6",
				       a->text, (int)length, options);
		off |= !on;
		options += length;
	}
	/* without the one means with the other */
	if (off && !a->ipv4 && !a->ipv6)
		return err_set(err, EINVAL,
			       "%s: ipv4=off and ipv6=off leave nothing; allowed: ipv4 and ipv6, "
			       "to have only these",
			       a->text);
	return 0;
}

/* @rest: HOST:PORT[,options], HOST in brackets when it has colons. */
static int address_parse_tcp(struct address *a, const char *rest, struct err **err)
{
	size_t length = strcspn(rest, ",");
	const char *host = rest, *end, *port;
	uint64_t number;

	if (*rest == '[') {
		host++;
		end = memchr(host, ']', length - 1);
		port = end && end[1] == ':' ? end + 2 : NULL;
	} else {
		end = memchr(rest, ':', length);
		port = end ? end + 1 : NULL;
	}
	if (!port || memchr(port, ':', length - (size_t)(port - rest)))
		return err_set(err, EINVAL,
			       "%s: there is no port in it; allowed: tcp:HOST:PORT, where a HOST "
			       "with colons stands in brackets",
			       a->text);
	a->host = strndup(host, (size_t)(end - host));
	a->port = strndup(port, length - (size_t)(port - rest));
	if (!a->host || !a->port)
		return err_set(err, ENOMEM, "out of memory");
	if (!*a->port || (!address_number(a->port, &number) && number > UINT16_MAX))
		return err_set(err, EINVAL,
			       "%s: port '%s' is not possible; allowed: 0 to %u, or the name of a "
			       "service",
			       a->text, a->port, UINT16_MAX);
	return address_tcp_options(a, rest + length, err);
}

static int address_parse_file(struct address *a, const char *rest, struct err **err)
{
	static const char option[] = ",offset=";
	const char *tail = NULL, *next = rest;

	/* the last one: a path may have commas */
	while ((next = strstr(next, option)))
		tail = next++;
	if (tail && (address_number(tail + strlen(option), &a->offset) || a->offset > INT64_MAX))
		return err_set(err, EINVAL,
			       "%s: offset=%s is not possible; allowed: a number of bytes, 0 to "
			       "%" PRId64,
			       a->text, tail + strlen(option), INT64_MAX);
	a->what = tail ? strndup(rest, (size_t)(tail - rest)) : strdup(rest);
	if (!a->what)
		return err_set(err, ENOMEM, "out of memory");
	if (!*a->what)
		return err_set(err, EINVAL,
			       "%s: there is no path in it; allowed: file:PATH[,offset=BYTES]",
			       a->text);
	return 0;
}

static int address_parse_rest(struct address *a, const char *rest, struct err **err)
{
	struct sockaddr_un un;

	switch (a->type) {
	case ADDRESS_TCP:
		return address_parse_tcp(a, rest, err);
	case ADDRESS_FILE:
		return address_parse_file(a, rest, err);
	default:
		break;
	}
	if (a->type == ADDRESS_EXEC)
		rest += strspn(rest, " ");
	a->what = strdup(rest);
	if (!a->what)
		return err_set(err, ENOMEM, "out of memory");
	if (a->type == ADDRESS_UNIX && (!*rest || strlen(rest) >= sizeof(un.sun_path)))
		return err_set(err, EINVAL,
			       "%s: a socket's path cannot be %s; allowed: 1 to %zu bytes", a->text,
			       *rest ? "that long" : "empty", sizeof(un.sun_path) - 1);
	if (!*rest)
		return err_set(err, EINVAL, "%s: there is no %s in it; allowed: %s", a->text,
			       a->type == ADDRESS_FD ? "descriptor" : "command",
			       a->type == ADDRESS_FD ? "fd:NAME, fd:NUMBER" : "exec:COMMAND");
	return 0;
}

int address_parse(const char *uri, struct address **ret_address, struct err **err)
{
	struct address *a = calloc(1, sizeof(*a));
	int ret = 0;

	if (a) {
		a->fd = -1;
		a->text = strdup(uri);
	}
	if (!a || !a->text) {
		ret = err_set(err, ENOMEM, "out of memory");
	} else if (!strcmp(uri, "defer")) {
		a->type = ADDRESS_DEFER;
	} else {
		size_t i = 0, n = 0;

		for (; i < ARRAY_SIZE(address_kinds); i++) {
			n = strlen(address_kinds[i].name);
			if (!strncmp(uri, address_kinds[i].name, n))
				break;
		}
		if (i == ARRAY_SIZE(address_kinds)) {
			ret = err_set(err, EINVAL,
				      "'%s' is no place to migrate to or from; allowed: "
				      "tcp:HOST:PORT, unix:PATH, fd:NAME, exec:COMMAND, "
				      "file:PATH[,offset=BYTES]",
				      uri);
		} else {
			a->type = address_kinds[i].type;
			ret = address_parse_rest(a, uri + n, err);
		}
	}
	if (ret)
		address_free(a);
	else
		*ret_address = a;
	return ret;
}

void address_free(struct address *a)
{
	if (!a)
		return;
	if (a->fd >= 0)
		close(a->fd);
	free(a->text);
	free(a->host);
	free(a->port);
	free(a->what);
	free(a);
}

/* ---- descriptors ---- */

/*
 * What the process was started with is open over exec, what it opened itself is not: only the
 * former can be meant, and is ours from now on.
 */
static int address_claim_number(struct address *a, uint64_t number, struct err **err)
{
	int flags = number <= INT32_MAX ? fcntl((int)number, F_GETFD) : -1, null, ret = 0;

	if (flags < 0 || flags & FD_CLOEXEC)
		return err_set(err, EBADF,
			       "%s: no descriptor of this number was handed over at the start",
			       a->text);
	if (number > STDERR_FILENO) {
		fcntl((int)number, F_SETFD, flags | FD_CLOEXEC);
		a->fd = (int)number;
		return 0;
	}
	/* The numbers of the standard ones are not to be anything else's. */
	a->fd = fcntl((int)number, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (a->fd < 0 || null < 0 || dup2(null, (int)number) < 0)
		ret = err_set(err, errno, "%s: the descriptor cannot be taken: %s", a->text,
			      strerror(errno));
	if (null >= 0)
		close(null);
	return ret;
}

int address_claim(struct address *a, struct fds *fds, struct err **err)
{
	uint64_t number;

	if (a->type == ADDRESS_FILE && !strncmp(a->what, ADDRESS_SET, strlen(ADDRESS_SET))) {
		if (address_number(a->what + strlen(ADDRESS_SET), &number) || number > INT64_MAX)
			return err_set(err, EINVAL, "%s: allowed: file:" ADDRESS_SET "NUMBER",
				       a->text);
		if (fds)
			return fds_set_open(fds, a->text, (int64_t)number, &a->fd, err);
		return err_set(err, ENOENT, "%s: there are no sets of descriptors", a->text);
	}
	if (a->type != ADDRESS_FD)
		return 0;
	if (!address_number(a->what, &number))
		return address_claim_number(a, number, err);
	if (fds)
		return fds_take(fds, a->text, a->what, &a->fd, err);
	return err_set(err, ENOENT, "%s: there is no descriptor of that name", a->text);
}

bool address_takes_many(const struct address *a)
{
	return a->type == ADDRESS_TCP || a->type == ADDRESS_UNIX;
}

bool address_is_socket(const struct address *a)
{
	int type;
	socklen_t size = sizeof(type);

	if (a->type == ADDRESS_FD && a->fd >= 0)
		return !getsockopt(a->fd, SOL_SOCKET, SO_TYPE, &type, &size);
	return address_takes_many(a);
}

/* ---- sockets ---- */

static int address_of_inet(int fd, const struct sockaddr_storage *name, socklen_t size,
			   struct address_socket *s)
{
	bool six = name->ss_family == AF_INET6;
	int only = 0, ret;
	socklen_t only_size = sizeof(only);

	if (six && getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &only_size))
		return -errno;
	s->type = ADDRESS_SOCKET_INET;
	s->ipv6 = six;
	s->ipv4 = !six ||
		  (!only && IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)name)->sin6_addr));
	ret = getnameinfo((const struct sockaddr *)name, size, s->host, sizeof(s->host), s->port,
			  sizeof(s->port), NI_NUMERICHOST | NI_NUMERICSERV);
	return ret ? -EINVAL : 0;
}

int address_socket_of(int fd, struct address_socket *ret_socket)
{
	struct sockaddr_storage name;
	socklen_t size = sizeof(name);

	memset(ret_socket, 0, sizeof(*ret_socket));
	memset(&name, 0, sizeof(name));
	if (getsockname(fd, (struct sockaddr *)&name, &size))
		return -errno;
	if (name.ss_family == AF_INET || name.ss_family == AF_INET6)
		return address_of_inet(fd, &name, size, ret_socket);
	if (name.ss_family == AF_UNIX) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)&name;

		ret_socket->type = ADDRESS_SOCKET_UNIX;
		snprintf(ret_socket->text, sizeof(ret_socket->text), "%.*s",
			 (int)sizeof(un->sun_path), un->sun_path);
		return 0;
	}
	return -EAFNOSUPPORT;
}
