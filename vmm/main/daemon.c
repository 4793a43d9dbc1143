/* SPDX-License-Identifier: BSD-3-Clause */
/* Going into the background, and the file with the process id: see daemon.h. */
#include "vmm/main/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

/* The parent's part: what the child says decides. */
__attribute__((noreturn)) static void daemon_wait(int fd)
{
	char ready = 0;
	ssize_t n;

	do {
		n = read(fd, &ready, 1);
	} while (n < 0 && errno == EINTR);
	_exit(n == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

int daemon_start(int *ret_fd, struct err **err)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, errno, "-daemonize: cannot create a pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return err_set(err, errno, "-daemonize: cannot fork: %s", strerror(errno));
	}
	if (pid > 0) {
		close(fds[1]);
		daemon_wait(fds[0]);
	}
	close(fds[0]);
	setsid();
	*ret_fd = fds[1];
	return 0;
}

int daemon_ready(int fd, struct err **err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	ssize_t n;

	if (null < 0)
		return err_set(err, errno, "-daemonize: /dev/null: %s", strerror(errno));
	if (chdir("/") < 0)
		return err_set(err, errno, "-daemonize: /: %s", strerror(errno));
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
	do {
		n = write(fd, "r", 1);
	} while (n < 0 && errno == EINTR);
	close(fd);
	return 0;
}

int daemon_pidfile(const char *path, struct err **err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char text[32];
	int len;

	if (fd < 0)
		return err_set(err, errno, "-pidfile '%s': %s", path, strerror(errno));
	if (fcntl(fd, F_SETLK, &lock) < 0) {
		close(fd);
		return err_set(err, EBUSY, "-pidfile '%s': another running process holds it", path);
	}
	len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len) {
		int code = errno;

		close(fd);
		unlink(path);
		return err_set(err, code, "-pidfile '%s': %s", path, strerror(code));
	}
	/* The descriptor stays open: it carries the lock. */
	return 0;
}
