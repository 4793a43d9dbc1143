/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Not faster than so many bytes a second: see pace.h.
 *
 * The bucket fills with the limit's bytes, up to those of PACE_BURST_MS. A request passes when
 * there is anything in it, and may take more than that: what is missing then is waited for by the
 * next one.
 */
#include "vmm/migration/pace.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/cancel.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define MS_PER_S  UINT64_C(1000)

struct pace {
	pthread_mutex_t turn; /* held by the one that waits; taken before lock */
	int changed;          /* eventfd: the limit is another one */
	pthread_mutex_t lock;
	atomic_uint_fast64_t limit; /* written with lock held */
	atomic_bool suspended;
	int64_t level;              /* bytes, negative: owed; guarded by lock */
	uint64_t filled_ns;         /* as of when; guarded by lock */
};

static uint64_t pace_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* n * a / b, where the result is known to fit or may be cut to INT64_MAX. */
static uint64_t pace_scale(uint64_t n, uint64_t a, uint64_t b)
{
	unsigned __int128 result = (unsigned __int128)n * a / b;

	return result > INT64_MAX ? INT64_MAX : (uint64_t)result;
}

/* Never nothing, so that a request can pass. */
static int64_t pace_room(uint64_t limit)
{
	return (int64_t)num_max(pace_scale(limit, PACE_BURST_MS, MS_PER_S), 1);
}

struct pace *pace_new(uint64_t bytes_per_s, struct err **err)
{
	struct pace *pace = calloc(1, sizeof(*pace));

	if (!pace) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	pace->changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pace->changed < 0) {
		err_set(err, errno, "cannot make an eventfd: %s", strerror(errno));
		free(pace);
		return NULL;
	}
	pthread_mutex_init(&pace->turn, NULL);
	pthread_mutex_init(&pace->lock, NULL);
	pace->limit = bytes_per_s;
	pace->level = pace_room(bytes_per_s);
	pace->filled_ns = pace_now_ns();
	return pace;
}

void pace_free(struct pace *pace)
{
	if (!pace)
		return;
	close(pace->changed);
	pthread_mutex_destroy(&pace->lock);
	pthread_mutex_destroy(&pace->turn);
	free(pace);
}

uint64_t pace_limit(const struct pace *pace)
{
	return atomic_load(&pace->limit);
}

/* Lock held, and a limit. What is no whole byte yet stays part of the time that has not passed. */
static void pace_fill(struct pace *pace, uint64_t limit)
{
	int64_t room = pace_room(limit);
	uint64_t now = pace_now_ns();
	uint64_t bytes = pace_scale(now - pace->filled_ns, limit, NS_PER_S);

	/* level is at most the room of some limit, so far from both ends of its type */
	if (pace->level >= room || bytes >= (uint64_t)(room - pace->level)) {
		pace->level = room;
		pace->filled_ns = now;
		return;
	}
	pace->level += (int64_t)bytes;
	pace->filled_ns += pace_scale(bytes, NS_PER_S, limit);
}

/* Who waits looks again. */
static void pace_wake(struct pace *pace)
{
	uint64_t one = 1;
	ssize_t done;

	/* A counter that is full wakes as well. */
	do {
		done = write(pace->changed, &one, sizeof(one));
	} while (done < 0 && errno == EINTR);
}

void pace_set(struct pace *pace, uint64_t bytes_per_s)
{
	uint64_t limit;

	pthread_mutex_lock(&pace->lock);
	limit = atomic_load(&pace->limit);
	if (limit) {
		pace_fill(pace, limit);
	} else {
		pace->level = pace_room(bytes_per_s);
		pace->filled_ns = pace_now_ns();
	}
	atomic_store(&pace->limit, bytes_per_s);
	pthread_mutex_unlock(&pace->lock);
	pace_wake(pace);
}

void pace_suspend(struct pace *pace, bool suspended)
{
	atomic_store(&pace->suspended, suspended);
	pace_wake(pace);
}

/* Take @bytes and return 0, or return how many nanoseconds to wait at least. */
static uint64_t pace_try(struct pace *pace, uint64_t bytes)
{
	uint64_t limit, wait_ns = 0;

	if (atomic_load(&pace->suspended))
		return 0;
	pthread_mutex_lock(&pace->lock);
	limit = atomic_load(&pace->limit);
	if (limit) {
		pace_fill(pace, limit);
		if (pace->level > 0)
			pace->level -= (int64_t)num_min(bytes, INT64_MAX / 4);
		else
			wait_ns = num_max(pace_scale((uint64_t)(1 - pace->level), NS_PER_S, limit),
					  1);
	}
	pthread_mutex_unlock(&pace->lock);
	return wait_ns;
}

int pace_take(struct pace *pace, uint64_t bytes, const struct cancel *cancel,
	      uint64_t *ret_waited_ms)
{
	uint64_t wait_ns, events;
	int64_t from = 0;
	int ret = 0;

	if (cancel_raised(cancel))
		return -ECANCELED;
	if (!pace_limit(pace))
		return 0;
	pthread_mutex_lock(&pace->turn);
	while (!ret && (wait_ns = pace_try(pace, bytes))) {
		int64_t now = cancel_now_ms();
		uint64_t wait_ms = num_min((wait_ns - 1) / NS_PER_MS + 1, INT32_MAX);

		from = from ? from : now;
		ret = cancel_poll(cancel, pace->changed, POLLIN, now + (int64_t)wait_ms);
		if (!ret && read(pace->changed, &events, sizeof(events)) < 0 && errno != EAGAIN)
			ret = -errno;
		if (ret == -ETIMEDOUT)
			ret = 0;
	}
	pthread_mutex_unlock(&pace->turn);
	if (from && ret_waited_ms)
		*ret_waited_ms += (uint64_t)(cancel_now_ms() - from);
	return ret;
}
