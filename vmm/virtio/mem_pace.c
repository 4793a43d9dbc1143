/* SPDX-License-Identifier: BSD-3-Clause */
/* The pace of refused requests: see mem_pace.h for the contract. */
#include "vmm/virtio/mem_pace.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/loop.h"

#define PACE_FREE 4u  /* refusals that cost no time */
#define PACE_MAX  10u /* doublings of a millisecond; then it is about a second */

int mem_pace_init(struct mem_pace *pace, struct loop *loop, void (*go_on)(void *opaque),
		  void *opaque, struct err **err)
{
	pace->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (pace->fd < 0)
		return err_set(err, errno, "cannot create a timer: %s", strerror(errno));
	pace->watch = loop_watch_new(loop, pace->fd, go_on, opaque, err);
	return pace->watch ? 0 : -EIO;
}

void mem_pace_done(struct mem_pace *pace)
{
	loop_watch_free(pace->watch);
	if (pace->fd >= 0)
		close(pace->fd);
	*pace = (struct mem_pace){.fd = -1};
}

/* 0 stops the timer. Cannot fail: the time is valid, and so is the descriptor. */
static void pace_set(struct mem_pace *pace, uint64_t ms)
{
	const struct itimerspec when = {
		.it_value = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000},
	};

	timerfd_settime(pace->fd, 0, &when, NULL);
	pace->waiting = ms > 0;
}

void mem_pace_over(struct mem_pace *pace)
{
	pace->waiting = false;
}

bool mem_pace_clear(struct mem_pace *pace)
{
	bool waited = pace->waiting;

	if (waited)
		pace_set(pace, 0);
	pace->refusals = 0;
	return waited;
}

void mem_pace_answered(struct mem_pace *pace, bool refused)
{
	if (!refused) {
		mem_pace_clear(pace);
		return;
	}
	if (pace->refusals < PACE_FREE + PACE_MAX)
		pace->refusals++;
	if (pace->refusals > PACE_FREE)
		pace_set(pace, UINT64_C(1) << (pace->refusals - PACE_FREE));
}
