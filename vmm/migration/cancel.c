/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of a wait, from another thread: see cancel.h. */
#include "vmm/migration/cancel.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

struct cancel {
	int fd; /* an eventfd */
	atomic_bool raised;
};

struct cancel *cancel_new(struct err **err)
{
	struct cancel *cancel = calloc(1, sizeof(*cancel));

	if (!cancel) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	cancel->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (cancel->fd < 0) {
		err_set(err, errno, "cannot make an eventfd: %s", strerror(errno));
		free(cancel);
		return NULL;
	}
	return cancel;
}

void cancel_free(struct cancel *cancel)
{
	if (!cancel)
		return;
	close(cancel->fd);
	free(cancel);
}

void cancel_raise(struct cancel *cancel)
{
	uint64_t one = 1;
	ssize_t done;

	if (atomic_exchange(&cancel->raised, true))
		return;
	/* The counter is 0, and nobody reads it: it takes one. */
	do {
		done = write(cancel->fd, &one, sizeof(one));
	} while (done < 0 && errno == EINTR);
}

bool cancel_raised(const struct cancel *cancel)
{
	return atomic_load(&cancel->raised);
}

int cancel_fd(const struct cancel *cancel)
{
	return cancel->fd;
}

int64_t cancel_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t cancel_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : cancel_now_ms() + timeout_ms;
}

int cancel_left_ms(int64_t deadline_ms)
{
	int64_t left;

	if (deadline_ms < 0)
		return -1;
	left = deadline_ms - cancel_now_ms();
	return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

int cancel_poll(const struct cancel *cancel, int fd, short events, int64_t deadline_ms)
{
	struct pollfd fds[2] = {{.fd = cancel->fd, .events = POLLIN}, {.fd = fd, .events = events}};
	int ret;

	do {
		ret = poll(fds, 2, cancel_left_ms(deadline_ms));
	} while (ret < 0 && errno == EINTR);
	if (cancel_raised(cancel))
		return -ECANCELED;
	if (ret < 0)
		return -errno;
	return ret ? 0 : -ETIMEDOUT;
}
