/* SPDX-License-Identifier: BSD-3-Clause */
/* Channels of addresses: see channel.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/migration/address.h"
#include "vmm/migration/channel_internal.h"

static int channel_out_of_memory(struct err **err)
{
	return err_set(err, ENOMEM, "out of memory");
}

/* ---- descriptors ---- */

static bool channel_fd_allows(int flags, bool to_write)
{
	int mode = flags & O_ACCMODE;

	return mode == O_RDWR || mode == (to_write ? O_WRONLY : O_RDONLY);
}

static int channel_check_socket(const struct address *a, int fd, struct err **err)
{
	int type = 0, listens = 0;
	socklen_t size = sizeof(int);

	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
	if (type == SOCK_STREAM && !listens)
		return 0;
	return err_set(
		err, EINVAL,
		"%s: the descriptor is %s; allowed: a connected stream socket, a pipe, a file",
		a->text, listens ? "a socket that listens" : "another kind of socket");
}

/* A channel of any descriptor, which is the channel's, or closed. */
static int channel_adopt(const struct address *a, int fd, bool to_write,
			 const struct cancel *cancel, struct channel **ret_channel,
			 struct err **err)
{
	enum channel_kind kind = CHANNEL_STREAM;
	int flags = fcntl(fd, F_GETFL), ret = 0;
	struct stat st;
	struct channel *ch;
	off_t stands = 0;

	if (flags < 0 || fstat(fd, &st))
		ret = err_set(err, errno, "%s: cannot use the descriptor: %s", a->text,
			      strerror(errno));
	else if (S_ISDIR(st.st_mode))
		ret = err_set(err, EISDIR, "%s: that is a folder; allowed: a file", a->text);
	else if (S_ISSOCK(st.st_mode))
		ret = channel_check_socket(a, fd, err);
	else if (!channel_fd_allows(flags, to_write))
		ret = err_set(err, EBADF, "%s: the descriptor cannot be %s", a->text,
			      to_write ? "written to" : "read from");
	if (ret) {
		close(fd);
		return ret;
	}
	if (S_ISSOCK(st.st_mode))
		kind = CHANNEL_SOCKET;
	/* one that appends goes to the end, whatever position is asked for */
	else if ((S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) && !(to_write && flags & O_APPEND))
		kind = CHANNEL_FILE;
	ch = channel_new(a->text, kind, fd, cancel);
	if (!ch)
		return channel_out_of_memory(err);
	if (kind == CHANNEL_FILE && a->type == ADDRESS_FD)
		stands = lseek(fd, 0, SEEK_CUR);
	ch->base = stands > 0 ? (uint64_t)stands : a->offset;
	ch->named_pipe = S_ISFIFO(st.st_mode) && a->type == ADDRESS_FILE && !to_write;
	if (kind == CHANNEL_STREAM && !(flags & O_NONBLOCK)) {
		ch->flags_before = flags;
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	}
	*ret_channel = ch;
	return 0;
}

static int channel_take_fd(struct address *a, int *ret_fd, struct err **err)
{
	if (a->fd < 0)
		return err_set(err, EBUSY, "%s: the descriptor was used already", a->text);
	*ret_fd = a->fd;
	a->fd = -1;
	return 0;
}

/* ---- files ---- */

/* Nobody else's at the same time, where the file system can tell; nothing behind the offset. */
static int channel_file_begin(const struct address *a, int fd, bool to_write, struct err **err)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_set(err, errno, "%s: cannot use the file: %s", a->text, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return 0;
	if (flock(fd, (to_write ? LOCK_EX : LOCK_SH) | LOCK_NB) && errno == EWOULDBLOCK)
		return err_set(err, EBUSY, "%s: the file is in use%s", a->text,
			       to_write ? "" : ": it is being written");
	if (to_write && S_ISREG(st.st_mode) && ftruncate(fd, (off_t)a->offset))
		return err_set(err, errno, "%s: cannot make the file empty: %s", a->text,
			       strerror(errno));
	return 0;
}

static int channel_open_file(struct address *a, bool to_write, const struct cancel *cancel,
			     struct channel **ret_channel, struct err **err)
{
	bool by_path = a->fd < 0;
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = a->fd, ret;

	flags |= to_write ? O_WRONLY | O_CREAT : O_RDONLY;
	a->fd = -1;
	if (by_path)
		fd = open(a->what, flags, 0600);
	if (fd < 0)
		return err_set(err, errno, "%s: cannot open it: %s", a->text,
			       errno == ENXIO ? "nobody reads from it" : strerror(errno));
	ret = channel_file_begin(a, fd, to_write, err);
	if (ret) {
		close(fd);
		return ret;
	}
	ret = channel_adopt(a, fd, to_write, cancel, ret_channel, err);
	if (!ret)
		(*ret_channel)->by_path = by_path && to_write;
	return ret;
}

/* ---- all kinds ---- */

static int channel_open_command(const struct address *a, bool to_write, const struct cancel *cancel,
				struct channel **ret_channel, struct err **err)
{
	struct channel_command command;
	int fd, ret = channel_command_start(&command, a->text, a->what, to_write, &fd, err);
	struct channel *ch;

	if (ret)
		return ret;
	ch = channel_new(a->text, CHANNEL_STREAM, fd, cancel);
	if (!ch) {
		channel_command_done(&command);
		return channel_out_of_memory(err);
	}
	ch->command = command;
	*ret_channel = ch;
	return 0;
}

int channel_open(struct address *a, bool to_write, const struct cancel *cancel,
		 struct channel **ret_channel, struct err **err)
{
	int fd = -1, ret;

	switch (a->type) {
	case ADDRESS_EXEC:
		return channel_open_command(a, to_write, cancel, ret_channel, err);
	case ADDRESS_FILE:
		return channel_open_file(a, to_write, cancel, ret_channel, err);
	case ADDRESS_FD:
		ret = channel_take_fd(a, &fd, err);
		return ret ? ret : channel_adopt(a, fd, to_write, cancel, ret_channel, err);
	default:
		return err_set(err, EINVAL, "%s: there is no place in it to migrate to or from",
			       a->text);
	}
}

int channel_connect(struct address *a, struct cancel *cancel, struct channel **ret_channel,
		    struct err **err)
{
	int fd, ret;

	if (!address_takes_many(a))
		return channel_open(a, true, cancel, ret_channel, err);
	ret = channel_socket_connect(a, cancel, &fd, err);
	if (ret)
		return ret;
	*ret_channel = channel_new(a->text, CHANNEL_SOCKET, fd, cancel);
	return *ret_channel ? 0 : channel_out_of_memory(err);
}
