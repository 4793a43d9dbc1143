/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening of terminals, files and pseudo-terminals: see open.h for the contract. */
#include "vmm/chardev/open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/err.h"

/*
 * A descriptor for what @fd is open on. Terminals and pipes are opened anew, so that non-blocking
 * mode stays ours; others (and those we may not open) are duplicated.
 */
static int chr_reopen(int fd, int mode)
{
	char path[32];
	struct stat st;
	int ret;

	if (fstat(fd, &st))
		return -errno;
	if (isatty(fd) || S_ISFIFO(st.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ret = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (ret >= 0)
			return ret;
		ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (ret >= 0)
			fcntl(ret, F_SETFL, fcntl(ret, F_GETFL) | O_NONBLOCK);
	} else {
		ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	}
	return ret < 0 ? -errno : ret;
}

int chr_open_stdio(const char *id, int *ret_in, int *ret_out, struct err **err)
{
	int in = chr_reopen(STDIN_FILENO, O_RDONLY), out;

	if (in < 0)
		return err_set(err, -in, "chardev '%s': cannot use standard input: %s", id,
			       strerror(-in));
	out = chr_reopen(STDOUT_FILENO, O_WRONLY);
	if (out < 0) {
		close(in);
		return err_set(err, -out, "chardev '%s': cannot use standard output: %s", id,
			       strerror(-out));
	}
	*ret_in = in;
	*ret_out = out;
	return 0;
}

int chr_open_file(const struct chr_config *config, int *ret_fd, struct err **err)
{
	int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY;
	int fd = config->fd;

	if (fd >= 0) {
		if (fcntl(fd, F_SETFD, FD_CLOEXEC))
			return err_set(err, errno, "chardev '%s': fd %d is not open", config->id,
				       fd);
		*ret_fd = fd;
		return 0;
	}
	if (!config->path || !*config->path)
		return err_set(err, EINVAL,
			       "chardev '%s': the file back-end needs path=", config->id);
	/* Not O_NONBLOCK: opening a pipe waits for its reader, and files know no such mode. Where
	 * nothing may wait, it is for the opening only. */
	flags |= (config->append ? O_APPEND : O_TRUNC) | (config->live ? O_NONBLOCK : 0);
	fd = open(config->path, flags, 0666);
	if (fd >= 0 && config->live)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	if (fd < 0)
		return err_set(err, errno, "chardev '%s': cannot open '%s' for writing: %s",
			       config->id, config->path, strerror(errno));
	*ret_fd = fd;
	return 0;
}

/*
 * Open and close the slave once: from then on the master sees a hang-up while nobody has it open.
 */
static int chr_pty_prepare(const char *path)
{
	struct termios mode;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (!tcgetattr(fd, &mode)) {
		cfmakeraw(&mode);
		tcsetattr(fd, TCSANOW, &mode);
	}
	close(fd);
	return 0;
}

int chr_open_pty(const char *id, int *ret_master, char **ret_path, int *ret_watch, struct err **err)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), watch = -1, ret;
	char path[64];

	if (master < 0)
		return err_set(err, errno, "chardev '%s': cannot make a pseudo-terminal: %s", id,
			       strerror(errno));
	if (grantpt(master) || unlockpt(master))
		goto fail_errno;
	ret = ptsname_r(master, path, sizeof(path));
	if (ret)
		goto fail;
	ret = chr_pty_prepare(path);
	if (ret) {
		ret = -ret;
		goto fail;
	}
	watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch < 0 || inotify_add_watch(watch, path, IN_OPEN | IN_CLOSE) < 0)
		goto fail_errno;
	*ret_path = strdup(path);
	if (!*ret_path)
		goto fail_errno;
	*ret_master = master;
	*ret_watch = watch;
	return 0;

fail_errno:
	ret = errno;
fail:
	if (watch >= 0)
		close(watch);
	close(master);
	return err_set(err, ret, "chardev '%s': cannot set up the pseudo-terminal: %s", id,
		       strerror(ret));
}
