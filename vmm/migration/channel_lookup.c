/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Names of hosts: getaddrinfo() on a thread of its own where it may ask the network, so that
 * whoever waits can give up. The thread goes on then, and frees what it found.
 *
 * Threads: struct lookup is shared by both under its lock; who comes last frees it.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/migration/address.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel_internal.h"

struct lookup {
	pthread_mutex_t lock;
	bool abandoned, over; /* by the one, or the other; guarded by lock */
	int done;             /* eventfd: @ret and @list are there */
	char *host, *port;
	struct addrinfo hints;
	int ret; /* getaddrinfo()'s; an EAI_ value */
	struct addrinfo *list;
};

static void lookup_free(struct lookup *l)
{
	if (l->list)
		freeaddrinfo(l->list);
	if (l->done >= 0)
		close(l->done);
	pthread_mutex_destroy(&l->lock);
	free(l->host);
	free(l->port);
	free(l);
}

static struct lookup *lookup_new(const struct address *a, const struct addrinfo *hints)
{
	struct lookup *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	pthread_mutex_init(&l->lock, NULL);
	l->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->host = strdup(a->host);
	l->port = strdup(a->port);
	l->hints = *hints;
	if (l->done >= 0 && l->host && l->port)
		return l;
	lookup_free(l);
	return NULL;
}

static void *lookup_run(void *opaque)
{
	struct lookup *l = opaque;
	uint64_t one = 1;
	bool abandoned;

	l->ret = getaddrinfo(l->host, l->port, &l->hints, &l->list);
	pthread_mutex_lock(&l->lock);
	l->over = true;
	abandoned = l->abandoned;
	if (!abandoned && write(l->done, &one, sizeof(one)) < 0)
		l->ret = EAI_SYSTEM;
	pthread_mutex_unlock(&l->lock);
	if (abandoned)
		lookup_free(l);
	return NULL;
}

/* 0, an EAI_ value, or -ECANCELED in *ret_canceled. */
static int lookup_wait(const struct address *a, const struct addrinfo *hints,
		       const struct cancel *cancel, struct addrinfo **ret_list, bool *ret_canceled)
{
	struct lookup *l = lookup_new(a, hints);
	pthread_attr_t attr;
	pthread_t thread;
	bool over;
	int ret;

	if (!l)
		return EAI_MEMORY;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	ret = pthread_create(&thread, &attr, lookup_run, l);
	pthread_attr_destroy(&attr);
	if (ret) {
		lookup_free(l);
		return EAI_MEMORY;
	}
	ret = cancel_poll(cancel, l->done, POLLIN, -1);
	pthread_mutex_lock(&l->lock);
	over = l->over;
	l->abandoned = true;
	pthread_mutex_unlock(&l->lock);
	*ret_canceled = ret != 0;
	if (!over)
		return 0;
	ret = l->ret;
	if (!ret && !*ret_canceled) {
		*ret_list = l->list;
		l->list = NULL;
	}
	lookup_free(l);
	return ret;
}

int channel_lookup(const struct address *a, bool passive, const struct cancel *cancel,
		   struct addrinfo **ret_list, struct err **err)
{
	const char *host = *a->host ? a->host : NULL;
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = (passive ? AI_PASSIVE : 0) | AI_NUMERICHOST,
		.ai_family = AF_UNSPEC,
	};
	bool canceled = false;
	int ret;

	if (a->ipv4 != a->ipv6)
		hints.ai_family = a->ipv4 ? AF_INET : AF_INET6;
	ret = getaddrinfo(host, a->port, &hints, ret_list);
	hints.ai_flags &= ~AI_NUMERICHOST;
	if (ret == EAI_NONAME && host && cancel)
		ret = lookup_wait(a, &hints, cancel, ret_list, &canceled);
	else if (ret == EAI_NONAME && host)
		ret = getaddrinfo(host, a->port, &hints, ret_list);
	if (canceled)
		return err_set(err, ECANCELED, "%s: cannot look up the host: it was cancelled",
			       a->text);
	if (!ret)
		return 0;
	if (ret == EAI_SERVICE)
		return err_set(err, EINVAL, "%s: there is no service '%s'; allowed: a number",
			       a->text, a->port);
	return err_set(err, ret == EAI_MEMORY ? ENOMEM : EHOSTUNREACH,
		       "%s: cannot look up the host: %s", a->text, gai_strerror(ret));
}
