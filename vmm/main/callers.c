/* SPDX-License-Identifier: BSD-3-Clause */
/* Those who wait for the process at sockets that it was given: see callers.h. */
#include "vmm/main/callers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CALLERS_FD_MAX  1023 /* what is looked at: the limit that processes start with */
#define CALLERS_FD_OURS 512  /* our own are above: the numbers below are for others to name */
#define CALLERS_WAIT_MS 1000

static bool callers_listens(int fd)
{
	int flags = fcntl(fd, F_GETFD), listens = 0;
	socklen_t size = sizeof(listens);

	return flags >= 0 && !(flags & FD_CLOEXEC) &&
	       !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) && listens;
}

void callers_find(struct callers *callers)
{
	callers->nr = 0;
	for (int fd = STDERR_FILENO + 1; fd <= CALLERS_FD_MAX && callers->nr < CALLERS_MAX; fd++) {
		int ours;

		if (!callers_listens(fd))
			continue;
		ours = fcntl(fd, F_DUPFD_CLOEXEC, CALLERS_FD_OURS);
		if (ours >= 0)
			callers->fds[callers->nr++] = ours;
	}
}

static int64_t callers_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void callers_wait(struct callers *callers)
{
	int64_t deadline_ms = callers_now_ms() + CALLERS_WAIT_MS;

	for (size_t i = 0; i < callers->nr; i++) {
		struct pollfd pfd = {.fd = callers->fds[i], .events = POLLIN};
		int64_t left_ms;

		do {
			left_ms = deadline_ms - callers_now_ms();
		} while (poll(&pfd, 1, left_ms > 0 ? (int)left_ms : 0) < 0 && errno == EINTR);
	}
	callers_forget(callers);
}

void callers_forget(struct callers *callers)
{
	for (size_t i = 0; i < callers->nr; i++)
		close(callers->fds[i]);
	callers->nr = 0;
}
