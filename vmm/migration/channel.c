/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes to and from the other side of a migration: see channel.h. */
#include "vmm/migration/channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/channel_internal.h"

/* How long a command that has closed its end may take to end, for a sentence's sake. */
#define CHANNEL_LAST_WORDS_MS 1000

/* A connection is looked at so often in the time after which it is dead. */
#define CHANNEL_LOOKS 4

struct channel *channel_new(const char *name, enum channel_kind kind, int fd,
			    const struct cancel *cancel)
{
	struct channel *ch = calloc(1, sizeof(*ch));

	if (ch)
		ch->name = strdup(name);
	if (!ch || !ch->name) {
		free(ch);
		close(fd);
		return NULL;
	}
	ch->kind = kind;
	ch->fd = fd;
	ch->flags_before = -1;
	ch->cancel = cancel;
	ch->command.pidfd = -1;
	ch->dead_ms = CHANNEL_DEAD_MS;
	if (kind == CHANNEL_SOCKET && channel_socket_is_tcp(fd)) {
		ch->tcp = true;
		channel_socket_tune(fd, CHANNEL_DEAD_MS);
	}
	return ch;
}

void channel_close(struct channel *ch)
{
	if (!ch)
		return;
	if (ch->flags_before >= 0)
		fcntl(ch->fd, F_SETFL, ch->flags_before);
	if (ch->fd >= 0)
		close(ch->fd);
	channel_command_done(&ch->command);
	free(ch->name);
	free(ch);
}

const char *channel_name(const struct channel *ch)
{
	return ch->name;
}

bool channel_is_duplex(const struct channel *ch)
{
	return ch->kind == CHANNEL_SOCKET;
}

bool channel_is_seekable(const struct channel *ch)
{
	return ch->kind == CHANNEL_FILE;
}

bool channel_is_command(const struct channel *ch)
{
	return ch->command.pid || ch->command.ended;
}

int channel_fd(const struct channel *ch)
{
	return ch->fd;
}

uint64_t channel_base(const struct channel *ch)
{
	return ch->base;
}

int channel_size(const struct channel *ch, uint64_t *ret_bytes)
{
	uint64_t size;
	struct stat st;

	if (ch->kind != CHANNEL_FILE)
		return -ESPIPE;
	if (fstat(ch->fd, &st))
		return -errno;
	if (!S_ISBLK(st.st_mode))
		size = (uint64_t)st.st_size;
	else if (ioctl(ch->fd, BLKGETSIZE64, &size))
		return -errno;
	*ret_bytes = size > ch->base ? size - ch->base : 0;
	return 0;
}

uint64_t channel_bytes_read(const struct channel *ch)
{
	return atomic_load_explicit(&ch->bytes_read, memory_order_relaxed);
}

uint64_t channel_bytes_written(const struct channel *ch)
{
	return atomic_load_explicit(&ch->bytes_written, memory_order_relaxed);
}

void channel_set_dead_ms(struct channel *ch, int dead_ms)
{
	atomic_store(&ch->dead_ms, dead_ms);
	if (ch->tcp)
		channel_socket_tune(ch->fd, dead_ms);
}

/* ---- waiting ---- */

static int channel_wait(const struct channel *ch, short events, int64_t deadline_ms)
{
	int dead_ms = atomic_load(&ch->dead_ms), ret;

	if (!ch->tcp)
		return cancel_poll(ch->cancel, ch->fd, events, deadline_ms);
	do {
		int64_t look_ms = cancel_deadline(dead_ms / CHANNEL_LOOKS);

		if (deadline_ms >= 0 && deadline_ms <= look_ms)
			return cancel_poll(ch->cancel, ch->fd, events, deadline_ms);
		ret = cancel_poll(ch->cancel, ch->fd, events, look_ms);
	} while (ret == -ETIMEDOUT && !channel_socket_dead(ch->fd, dead_ms));
	return ret;
}

/*
 * What to do about a call that moved nothing and left @error: 0 when it is to be done again, which
 * may be after a wait.
 */
static int channel_retry(const struct channel *ch, int error, short events, int64_t deadline_ms)
{
	if (error == EINTR)
		return 0;
	if (error == EAGAIN)
		return channel_wait(ch, events, deadline_ms);
	/* whoever reads is gone: the other side's end in both cases */
	return error == EPIPE ? -ECONNRESET : -error;
}

/* Only a file, which goes one way, has a position. */
static void channel_moved(struct channel *ch, atomic_uint_fast64_t *count, size_t n)
{
	atomic_fetch_add_explicit(count, n, memory_order_relaxed);
	if (ch->kind == CHANNEL_FILE)
		ch->position += n;
}

/* ---- reading ---- */

static ssize_t channel_read_some(struct channel *ch, void *buf, size_t size)
{
	if (ch->kind == CHANNEL_SOCKET)
		return recv(ch->fd, buf, size, MSG_DONTWAIT);
	if (ch->kind == CHANNEL_FILE)
		return pread(ch->fd, buf, size, (off_t)(ch->base + ch->position));
	return read(ch->fd, buf, size);
}

/* As channel_read(), past what was peeked. */
static int channel_read_on(struct channel *ch, uint8_t *buf, size_t size, int64_t deadline_ms,
			   size_t *done)
{
	int ret = 0;

	while (*done < size && !ret) {
		ssize_t n;

		if (cancel_raised(ch->cancel))
			return -ECANCELED;
		if (ch->named_pipe) {
			ret = channel_wait(ch, POLLIN, deadline_ms);
			if (ret)
				break;
		}
		n = channel_read_some(ch, buf + *done, size - *done);
		if (n > 0) {
			*done += (size_t)n;
			channel_moved(ch, &ch->bytes_read, (size_t)n);
		} else {
			ret = n ? channel_retry(ch, errno, POLLIN, deadline_ms) : -ENODATA;
		}
	}
	return ret;
}

int channel_read(struct channel *ch, void *buf, size_t size, int timeout_ms, size_t *ret_done)
{
	size_t done = (size_t)num_min(size, ch->first_size - ch->first_at);
	int ret;

	if (done)
		memcpy(buf, ch->first + ch->first_at, done);
	ch->first_at += done;
	ret = channel_read_on(ch, buf, size, cancel_deadline(timeout_ms), &done);
	if (ret_done)
		*ret_done = done;
	return ret;
}

int channel_peek(struct channel *ch, void *buf, size_t size, int timeout_ms, size_t *ret_done)
{
	int ret;

	assert(size <= sizeof(ch->first) && !ch->first_at);
	ret = channel_read_on(ch, ch->first, size, cancel_deadline(timeout_ms), &ch->first_size);
	*ret_done = (size_t)num_min(size, ch->first_size);
	memcpy(buf, ch->first, *ret_done);
	return ret == -ENODATA ? 0 : ret;
}

/* ---- writing ---- */

/* Take @n bytes off the front; with none left, all are used up. */
static void channel_advance(struct iovec **iov, size_t *nr, size_t n)
{
	while (*nr && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		(*iov)++;
		(*nr)--;
	}
	if (*nr) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

static ssize_t channel_write_some(struct channel *ch, struct iovec *iov, size_t nr)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = num_min(nr, IOV_MAX)};

	if (ch->kind == CHANNEL_SOCKET)
		return sendmsg(ch->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (ch->kind == CHANNEL_FILE)
		return pwritev(ch->fd, iov, (int)msg.msg_iovlen, (off_t)(ch->base + ch->position));
	return writev(ch->fd, iov, (int)msg.msg_iovlen);
}

int channel_writev(struct channel *ch, struct iovec *iov, size_t nr, int timeout_ms)
{
	int64_t deadline_ms = cancel_deadline(timeout_ms);
	int ret = 0;

	channel_advance(&iov, &nr, 0);
	while (nr && !ret) {
		ssize_t n;

		if (cancel_raised(ch->cancel))
			return -ECANCELED;
		n = channel_write_some(ch, iov, nr);
		if (n >= 0) {
			channel_advance(&iov, &nr, (size_t)n);
			channel_moved(ch, &ch->bytes_written, (size_t)n);
		} else {
			ret = channel_retry(ch, errno, POLLOUT, deadline_ms);
		}
	}
	return ret;
}

int channel_write(struct channel *ch, const void *buf, size_t size, int timeout_ms)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = size};

	return channel_writev(ch, &iov, 1, timeout_ms);
}

/* ---- at a position ---- */

/* Where @position is in the file; @size bytes from there must exist as numbers. */
static int channel_place(const struct channel *ch, uint64_t position, uint64_t size,
			 uint64_t *ret_place)
{
	uint64_t end;

	if (ch->kind != CHANNEL_FILE)
		return -ESPIPE;
	if (!num_add(ch->base, position, ret_place) || !num_add(*ret_place, size, &end) ||
	    end > INT64_MAX)
		return -EFBIG;
	return 0;
}

int channel_pread(struct channel *ch, void *buf, size_t size, uint64_t position)
{
	size_t done = 0;
	uint64_t place;
	int ret = channel_place(ch, position, size, &place);

	while (!ret && done < size) {
		ssize_t n;

		if (cancel_raised(ch->cancel))
			return -ECANCELED;
		n = pread(ch->fd, (uint8_t *)buf + done, size - done, (off_t)(place + done));
		if (n > 0)
			done += (size_t)n;
		else if (!n)
			ret = -ENODATA;
		else if (errno != EINTR)
			ret = -errno;
	}
	atomic_fetch_add_explicit(&ch->bytes_read, done, memory_order_relaxed);
	return ret;
}

int channel_pwritev(struct channel *ch, struct iovec *iov, size_t nr, uint64_t position)
{
	uint64_t place, size = 0, done = 0;
	int ret;

	for (size_t i = 0; i < nr; i++)
		size += iov[i].iov_len;
	ret = channel_place(ch, position, size, &place);
	channel_advance(&iov, &nr, 0);
	while (!ret && nr) {
		ssize_t n;

		if (cancel_raised(ch->cancel))
			return -ECANCELED;
		n = pwritev(ch->fd, iov, (int)num_min(nr, IOV_MAX), (off_t)(place + done));
		if (n >= 0) {
			channel_advance(&iov, &nr, (size_t)n);
			done += (uint64_t)n;
		} else if (errno != EINTR) {
			ret = -errno;
		}
	}
	atomic_fetch_add_explicit(&ch->bytes_written, done, memory_order_relaxed);
	return ret;
}

/* ---- ends ---- */

/* The file's name is as lasting as its content, where a folder can be flushed. */
static void channel_flush_folder(const struct channel *ch)
{
	char *path = strdup(strchr(ch->name, ':') + 1), *slash = path ? strrchr(path, '/') : NULL;
	int fd;

	if (slash)
		slash[slash == path] = 0;
	fd = path ? open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(path);
}

static int channel_finish_file(struct channel *ch, struct err **err)
{
	/* EINVAL: nothing that could be flushed, such as /dev/full */
	if (fsync(ch->fd) && errno != EINVAL && errno != EROFS)
		return err_set(err, errno, "%s: cannot flush it: %s", ch->name, strerror(errno));
	if (ch->by_path)
		channel_flush_folder(ch);
	/* whoever shares the descriptor goes on behind what was written */
	lseek(ch->fd, (off_t)(ch->base + ch->position), SEEK_SET);
	return 0;
}

static int channel_finish_command(struct channel *ch, int timeout_ms, struct err **err)
{
	char how[64];
	int ret;

	/* it ends when it has read all */
	close(ch->fd);
	ch->fd = -1;
	ret = channel_command_wait(&ch->command, ch->cancel, cancel_deadline(timeout_ms));
	if (ret == -ETIMEDOUT)
		return err_set(err, ETIMEDOUT, "%s: the command does not end", ch->name);
	if (ret)
		return channel_fail(ch, ret, "wait for the command's end", err);
	if (ch->command.si_code == CLD_EXITED && !ch->command.status)
		return 0;
	channel_command_tell(&ch->command, how, sizeof(how));
	return err_set(err, EIO, "%s: the command %s", ch->name, how);
}

int channel_finish(struct channel *ch, int timeout_ms, struct err **err)
{
	if (ch->command.pid)
		return channel_finish_command(ch, timeout_ms, err);
	if (ch->kind == CHANNEL_FILE)
		return channel_finish_file(ch, err);
	if (ch->kind == CHANNEL_SOCKET && shutdown(ch->fd, SHUT_WR))
		return channel_fail(ch, errno == ENOTCONN ? -ECONNRESET : -errno, "end it", err);
	return 0;
}

/* ---- sentences ---- */

static const char *channel_reason(const struct channel *ch, int ret)
{
	bool socket = ch->kind == CHANNEL_SOCKET;

	switch (ret) {
	case -ECANCELED:
		return "it was cancelled";
	case -ENODATA:
		return socket ? "the other side closed the connection" : "there is no more";
	case -ECONNRESET:
		return socket ? "the connection was cut" : "nobody reads it any more";
	case -ETIMEDOUT:
		return "the other side does not answer";
	default:
		return strerror(-ret);
	}
}

int channel_fail(struct channel *ch, int ret, const char *what, struct err **err)
{
	char how[64];

	if (!err)
		return ret;
	/* a command's end comes with its exit, or a moment before it */
	if (ch->command.pid && (ret == -ENODATA || ret == -ECONNRESET))
		channel_command_wait(&ch->command, ch->cancel,
				     cancel_deadline(CHANNEL_LAST_WORDS_MS));
	if (ch->command.ended && (ret == -ENODATA || ret == -ECONNRESET)) {
		channel_command_tell(&ch->command, how, sizeof(how));
		return err_set(err, -ret, "%s: cannot %s: the command %s", ch->name, what, how);
	}
	return err_set(err, -ret, "%s: cannot %s: %s", ch->name, what, channel_reason(ch, ret));
}
