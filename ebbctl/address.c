/* SPDX-License-Identifier: BSD-3-Clause */
/* Places of monitors: see address.h for the contract. */
#include "ebbctl/address.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/size.h"

struct address {
	char *name;
	struct sockaddr_un path; /* family 0: the list below */
	struct addrinfo *list;
	unsigned int nr;
};

/* HOST:PORT of something that is no path. @host has room for all of @where. */
static bool address_split(const char *where, char *host, const char **ret_port)
{
	const char *colon = strrchr(where, ':');
	uint64_t port;
	size_t size;

	if (!colon || strchr(where, '/'))
		return false;
	if (size_parse_number(colon + 1, &port) || !port || port > 65535)
		return false;
	size = (size_t)(colon - where);
	if (size >= 2 && where[0] == '[' && where[size - 1] == ']') {
		where++;
		size -= 2;
	} else if (memchr(where, ':', size)) {
		return false;
	}
	memcpy(host, where, size);
	host[size] = '\0';
	*ret_port = colon + 1;
	return true;
}

static int address_look_up(struct address *address, const char *host, const char *port,
			   struct err **err)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	int ret = getaddrinfo(*host ? host : "localhost", port, &hints, &address->list);

	if (ret)
		return err_set(err, EINVAL, "%s: host '%s' is not known: %s", address->name, host,
			       ret == EAI_SYSTEM ? strerror(errno) : gai_strerror(ret));
	for (const struct addrinfo *i = address->list; i; i = i->ai_next)
		address->nr++;
	return 0;
}

static int address_set(struct address *address, const char *where, struct err **err)
{
	char host[256];
	const char *port;
	struct stat st;

	if (!*where)
		return err_set(err, EINVAL,
			       "'' is no place: the path of a monitor's socket is needed, or "
			       "HOST:PORT");
	if (stat(where, &st) && strlen(where) < sizeof(host) && address_split(where, host, &port))
		return address_look_up(address, host, port, err);
	if (strlen(where) >= sizeof(address->path.sun_path))
		return err_set(err, ENAMETOOLONG,
			       "%s: the path of a socket has at most %zu bytes, not %zu", where,
			       sizeof(address->path.sun_path) - 1, strlen(where));
	address->path.sun_family = AF_UNIX;
	memcpy(address->path.sun_path, where, strlen(where) + 1);
	address->nr = 1;
	return 0;
}

int address_new(const char *where, struct address **ret_address, struct err **err)
{
	struct address *address = calloc(1, sizeof(*address));
	int ret;

	if (address)
		address->name = strdup(where);
	if (!address || !address->name) {
		address_free(address);
		return err_set(err, ENOMEM, "out of memory");
	}
	ret = address_set(address, where, err);
	if (ret) {
		address_free(address);
		return ret;
	}
	*ret_address = address;
	return 0;
}

void address_free(struct address *address)
{
	if (!address)
		return;
	if (address->list)
		freeaddrinfo(address->list);
	free(address->name);
	free(address);
}

const char *address_name(const struct address *address)
{
	return address->name;
}

unsigned int address_nr(const struct address *address)
{
	return address->nr;
}

/* What is wrong with a path to which no connection was made. */
static int address_path_refused(const char *path, int code, struct err **err)
{
	struct stat st;

	if (stat(path, &st))
		return err_set(err, errno, "%s: %s", path,
			       errno == ENOENT ? "there is no such file" : strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR,
			       "%s is a folder: name a socket in it, or use 'ebbctl top %s'", path,
			       path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, ENOTSOCK, "%s is a file, but no socket", path);
	if (code == ECONNREFUSED)
		return err_set(err, code, "%s: nobody listens there (the machine has ended?)",
			       path);
	if (code == EAGAIN)
		return err_set(err, code, "%s: too many others wait there to be served", path);
	return err_set(err, code, "%s: %s", path, strerror(code));
}

int address_refused(const struct address *address, int code, struct err **err)
{
	if (address->path.sun_family)
		return address_path_refused(address->path.sun_path, code, err);
	if (code == ECONNREFUSED)
		return err_set(err, code, "%s: nobody listens there", address->name);
	if (code == EINPROGRESS || code == ETIMEDOUT || code == EAGAIN)
		return err_set(err, ETIMEDOUT, "%s: no answer", address->name);
	return err_set(err, code, "%s: %s", address->name, strerror(code));
}

/* @timeout_ms as above. A socket or -errno. */
static int address_try(int family, const struct sockaddr *addr, socklen_t size, int timeout_ms)
{
	struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	int type = SOCK_STREAM | SOCK_CLOEXEC | (timeout_ms ? 0 : SOCK_NONBLOCK);
	int fd = socket(family, type, 0), ret;

	if (fd < 0)
		return -errno;
	if (timeout_ms)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	ret = connect(fd, addr, size) ? -errno : 0;
	if (!timeout_ms && ret == -EINPROGRESS)
		ret = 0;
	if (!ret && timeout_ms && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		ret = -errno;
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

int address_connect(const struct address *address, int timeout_ms, unsigned int attempt,
		    struct err **err)
{
	const struct addrinfo *at = address->list;
	unsigned int i;
	int ret = 0;

	if (address->path.sun_family) {
		ret = address_try(AF_UNIX, (const struct sockaddr *)&address->path,
				  sizeof(address->path), timeout_ms);
		return ret < 0 ? address_refused(address, -ret, err) : ret;
	}
	for (i = 0; at; at = at->ai_next, i++) {
		if (!timeout_ms && i != attempt % address->nr)
			continue;
		ret = address_try(at->ai_family, at->ai_addr, at->ai_addrlen, timeout_ms);
		if (ret >= 0)
			return ret;
	}
	return address_refused(address, -ret, err);
}
