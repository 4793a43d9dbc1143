/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections: see stream.h for the contract.
 *
 * I4  in_events and out_events say what each poll handle is armed for; chr_stream_arm() alone
 *     changes them.
 * I5  A stream that was freed inside one of its callbacks (`freed`) does nothing more; its memory
 *     goes when libuv has closed its handles, which is never inside a callback.
 *
 * The file thread: `held` bytes of wbuf belong to it from the moment output() gave them. `lock`
 * guards work, stop, busy; the bytes themselves are that thread's alone.
 */
#include "vmm/chardev/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/loop.h"

#define CHR_READ_BYTES  4096
#define CHR_WRITE_BYTES 16384
/* Descriptors accepted with one message. */
#define CHR_MESSAGE_FDS 16
/* Reads, and writes, in one go, before the loop's other work gets its turn. */
#define CHR_READS_MAX  8
#define CHR_WRITES_MAX 8

enum chr_kind { CHR_KIND_NONE, CHR_KIND_SOCKET, CHR_KIND_POLL, CHR_KIND_PLAIN };

struct chr_stream {
	struct chr_stream_config config;
	enum chr_kind in_kind, out_kind;
	bool shared;         /* one descriptor, one poll handle, for both directions */
	bool in_ended;       /* end of input was read */
	bool out_failed;     /* nobody takes output any more: it is dropped */
	bool attended, told; /* hang_up: somebody is there; what attended() last said */
	bool freed;
	bool ended; /* closed() was called */
	uv_poll_t in_poll, out_poll;
	uv_idle_t in_idle; /* plain input: always ready */
	int in_events, out_events;
	bool in_idling;
	int handles;
	uint8_t wbuf[CHR_WRITE_BYTES];
	size_t held, written; /* bytes of wbuf filled, and sent */

	bool threaded;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool work, stop, busy; /* guarded by lock */
};

static enum chr_kind chr_kind_of(int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return CHR_KIND_NONE;
	if (S_ISSOCK(st.st_mode))
		return CHR_KIND_SOCKET;
	if (S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && !isatty(fd)))
		return CHR_KIND_PLAIN;
	return CHR_KIND_POLL;
}

static ssize_t chr_stream_send(struct chr_stream *stream, const uint8_t *buf, size_t size)
{
	ssize_t n;

	do {
		n = stream->out_kind == CHR_KIND_SOCKET
			    ? send(stream->config.out_fd, buf, size, MSG_DONTWAIT | MSG_NOSIGNAL)
			    : write(stream->config.out_fd, buf, size);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void chr_stream_take_fds(struct chr_stream *stream, struct msghdr *msg)
{
	struct cmsghdr *cmsg;
	size_t i, count;
	int fd;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(fd);
		for (i = 0; i < count; i++) {
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(fd), sizeof(fd));
			if (stream->config.ops->descriptor)
				stream->config.ops->descriptor(stream->config.opaque, fd);
			else
				close(fd);
		}
	}
}

static ssize_t chr_stream_receive(struct chr_stream *stream, uint8_t *buf, size_t size)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CHR_MESSAGE_FDS * sizeof(int))];
	} control;
	struct iovec iov = {buf, size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	do {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		n = stream->in_kind == CHR_KIND_SOCKET
			    ? recvmsg(stream->config.in_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
			    : read(stream->config.in_fd, buf, size);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (stream->in_kind == CHR_KIND_SOCKET)
		chr_stream_take_fds(stream, &msg);
	return n;
}

static bool chr_stream_done(const struct chr_stream *stream)
{
	return stream->freed || stream->ended;
}

static void chr_stream_end(struct chr_stream *stream)
{
	if (chr_stream_done(stream))
		return;
	stream->ended = true;
	stream->config.ops->closed(stream->config.opaque);
}

/* Fill wbuf when it is empty. Returns whether there is anything to write. */
static bool chr_stream_fill(struct chr_stream *stream)
{
	if (stream->written == stream->held) {
		stream->written = 0;
		stream->held = stream->config.ops->output(stream->config.opaque, stream->wbuf,
							  sizeof(stream->wbuf));
	}
	return stream->written < stream->held;
}

/*
 * Write until there is no more, no room, or time for others: a guest may fill as fast as this
 * writes. Returns whether something is left.
 */
static bool chr_stream_flush(struct chr_stream *stream)
{
	int turn = 0;
	ssize_t n;

	while (chr_stream_fill(stream)) {
		if (stream->out_failed || stream->out_kind == CHR_KIND_NONE || !stream->attended) {
			stream->written = stream->held;
			continue;
		}
		if (!stream->threaded && turn++ == CHR_WRITES_MAX)
			return true;
		n = chr_stream_send(stream, stream->wbuf + stream->written,
				    stream->held - stream->written);
		if (n == -EAGAIN)
			return true;
		if (n >= 0)
			stream->written += (size_t)n;
		else if (stream->out_kind == CHR_KIND_PLAIN)
			/* A full disk may have room again later: only this piece is lost. */
			stream->written = stream->held;
		else if (stream->config.hang_up)
			stream->attended = false;
		else
			stream->out_failed = true;
	}
	return false;
}

static void *chr_stream_file_thread(void *arg)
{
	struct chr_stream *stream = arg;
	bool stop;

	pthread_setname_np(pthread_self(), "chardev-file");
	do {
		pthread_mutex_lock(&stream->lock);
		stream->busy = false;
		while (!stream->work && !stream->stop)
			pthread_cond_wait(&stream->cond, &stream->lock);
		stream->work = false;
		stream->busy = true;
		stop = stream->stop;
		pthread_mutex_unlock(&stream->lock);
		chr_stream_flush(stream);
	} while (!stop);
	return NULL;
}

static void chr_stream_signal(struct chr_stream *stream, bool stop)
{
	pthread_mutex_lock(&stream->lock);
	stream->work = true;
	stream->stop |= stop;
	pthread_cond_signal(&stream->cond);
	pthread_mutex_unlock(&stream->lock);
}

static void chr_stream_ready(uv_poll_t *poll, int status, int events);
static void chr_stream_idle_read(uv_idle_t *idle);

static void chr_stream_arm_one(uv_poll_t *poll, int *armed, int wanted)
{
	if (*armed == wanted)
		return;
	*armed = wanted;
	if (wanted)
		uv_poll_start(poll, wanted, chr_stream_ready);
	else
		uv_poll_stop(poll);
}

/* @want_end: tell when the other end is gone; priority data is never sent, but that is told too. */
static void chr_stream_arm(struct chr_stream *stream, bool want_read, bool want_write,
			   bool want_end)
{
	int in = (want_read ? UV_READABLE : 0) | (want_end ? UV_PRIORITIZED : 0);
	int out = want_write ? UV_WRITABLE : 0;

	if (stream->shared) {
		chr_stream_arm_one(&stream->in_poll, &stream->in_events, in | out);
		return;
	}
	if (stream->in_kind == CHR_KIND_PLAIN) {
		if (want_read != stream->in_idling) {
			stream->in_idling = want_read;
			if (want_read)
				uv_idle_start(&stream->in_idle, chr_stream_idle_read);
			else
				uv_idle_stop(&stream->in_idle);
		}
	} else if (stream->in_kind != CHR_KIND_NONE) {
		chr_stream_arm_one(&stream->in_poll, &stream->in_events, in);
	}
	if (stream->out_kind == CHR_KIND_POLL || stream->out_kind == CHR_KIND_SOCKET)
		chr_stream_arm_one(&stream->out_poll, &stream->out_events, out);
}

/* hang_up: ask the descriptor itself whether somebody holds the other end. */
static void chr_stream_check_hang_up(struct chr_stream *stream)
{
	struct pollfd pfd = {.fd = stream->config.in_fd, .events = POLLIN};

	if (stream->config.hang_up && poll(&pfd, 1, 0) >= 0)
		stream->attended = !(pfd.revents & POLLHUP) || (pfd.revents & POLLIN);
}

static void chr_stream_tell_attended(struct chr_stream *stream)
{
	if (stream->attended == stream->told)
		return;
	stream->told = stream->attended;
	stream->config.ops->attended(stream->config.opaque, stream->attended);
}

/* Nothing more is read, but somebody waits for output that is to come. */
static bool chr_stream_waits(struct chr_stream *stream)
{
	struct pollfd pfd = {.fd = stream->config.in_fd};

	if (!stream->in_ended || !stream->config.ops->busy || stream->out_failed ||
	    !stream->config.ops->busy(stream->config.opaque))
		return false;
	return poll(&pfd, 1, 0) == 0;
}

void chr_stream_kick(struct chr_stream *stream)
{
	bool left = false, waits, want_read;

	if (chr_stream_done(stream))
		return;
	chr_stream_check_hang_up(stream);
	if (stream->threaded)
		chr_stream_signal(stream, false);
	else
		left = chr_stream_flush(stream);
	chr_stream_tell_attended(stream);
	if (chr_stream_done(stream))
		return;
	waits = chr_stream_waits(stream);
	if ((stream->in_ended && !stream->config.half_close && !left && !waits) ||
	    (!stream->threaded && !stream->config.half_close && stream->out_failed)) {
		chr_stream_arm(stream, false, false, false);
		chr_stream_end(stream);
		return;
	}
	want_read = !stream->in_ended && stream->attended &&
		    stream->config.ops->room(stream->config.opaque) > 0;
	if (chr_stream_done(stream))
		return;
	chr_stream_arm(stream, want_read, left, waits);
}

static void chr_stream_read(struct chr_stream *stream)
{
	uint8_t buf[CHR_READ_BYTES];
	size_t room;
	ssize_t n;
	int turn;

	for (turn = 0; turn < CHR_READS_MAX && !chr_stream_done(stream); turn++) {
		room = stream->config.ops->room(stream->config.opaque);
		if (!room || chr_stream_done(stream))
			return;
		n = chr_stream_receive(stream, buf, num_min(room, sizeof(buf)));
		if (n == -EAGAIN || chr_stream_done(stream))
			return;
		if (n <= 0) {
			if (stream->config.hang_up)
				stream->attended = false;
			else
				stream->in_ended = true;
			return;
		}
		stream->config.ops->input(stream->config.opaque, buf, (size_t)n);
	}
}

/* A poll error (a pipe whose reader left) shows in the read or write that follows. */
static void chr_stream_ready(uv_poll_t *poll, int status, int events)
{
	struct chr_stream *stream = poll->data;

	if (status < 0) {
		/* libuv stopped the handle. */
		if (poll == &stream->in_poll)
			stream->in_events = 0;
		else
			stream->out_events = 0;
		events = poll == &stream->in_poll ? UV_READABLE : UV_WRITABLE;
	}
	if (events & UV_READABLE)
		chr_stream_read(stream);
	chr_stream_kick(stream);
}

static void chr_stream_idle_read(uv_idle_t *idle)
{
	struct chr_stream *stream = idle->data;

	chr_stream_read(stream);
	chr_stream_kick(stream);
}

static int chr_stream_init_handles(struct chr_stream *stream, uv_loop_t *uv)
{
	int ret;

	stream->in_poll.data = stream;
	stream->out_poll.data = stream;
	stream->in_idle.data = stream;
	uv_idle_init(uv, &stream->in_idle);
	stream->handles = 1;
	if (stream->in_kind == CHR_KIND_POLL || stream->in_kind == CHR_KIND_SOCKET) {
		ret = uv_poll_init(uv, &stream->in_poll, stream->config.in_fd);
		if (ret)
			return ret;
		stream->handles++;
	}
	if (!stream->shared &&
	    (stream->out_kind == CHR_KIND_POLL || stream->out_kind == CHR_KIND_SOCKET)) {
		ret = uv_poll_init(uv, &stream->out_poll, stream->config.out_fd);
		if (ret)
			return ret;
		stream->handles++;
	}
	if (stream->out_kind == CHR_KIND_PLAIN && !stream->shared) {
		ret = pthread_create(&stream->thread, NULL, chr_stream_file_thread, stream);
		if (ret)
			return -ret;
		stream->threaded = true;
	}
	return 0;
}

struct chr_stream *chr_stream_new(struct loop *loop, const struct chr_stream_config *config,
				  struct err **err)
{
	struct chr_stream *stream = calloc(1, sizeof(*stream));
	int ret;

	if (!stream) {
		err_set(err, ENOMEM, "out of memory");
		if (config->in_fd >= 0)
			close(config->in_fd);
		if (config->out_fd >= 0 && config->out_fd != config->in_fd)
			close(config->out_fd);
		return NULL;
	}
	stream->config = *config;
	stream->in_kind = chr_kind_of(config->in_fd);
	stream->out_kind = chr_kind_of(config->out_fd);
	stream->shared = config->in_fd == config->out_fd;
	stream->attended = true;
	stream->told = true;
	pthread_mutex_init(&stream->lock, NULL);
	pthread_cond_init(&stream->cond, NULL);
	ret = chr_stream_init_handles(stream, loop_uv(loop));
	if (ret) {
		err_set(err, -ret, "cannot watch the descriptor: %s", strerror(-ret));
		chr_stream_free(stream);
		return NULL;
	}
	return stream;
}

bool chr_stream_idle(struct chr_stream *stream)
{
	bool idle;

	if (!stream->threaded)
		return stream->written == stream->held || stream->out_failed || stream->ended;
	pthread_mutex_lock(&stream->lock);
	idle = !stream->work && !stream->busy;
	pthread_mutex_unlock(&stream->lock);
	return idle;
}

static uint64_t chr_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A file's thread is waited for by chr_stream_free(). */
void chr_stream_drain(struct chr_stream *stream, uint64_t deadline_ms)
{
	struct pollfd pfd = {.fd = stream->config.out_fd, .events = POLLOUT};
	uint64_t now;

	if (stream->threaded || chr_stream_done(stream))
		return;
	while (chr_stream_flush(stream)) {
		now = chr_now_ms();
		if (now >= deadline_ms)
			return;
		poll(&pfd, 1, (int)num_min(deadline_ms - now, 1000));
	}
}

static void chr_stream_handle_closed(uv_handle_t *handle)
{
	struct chr_stream *stream = handle->data;

	if (--stream->handles)
		return;
	pthread_cond_destroy(&stream->cond);
	pthread_mutex_destroy(&stream->lock);
	free(stream);
}

void chr_stream_free(struct chr_stream *stream)
{
	if (!stream || stream->freed)
		return;
	if (stream->threaded) {
		chr_stream_signal(stream, true);
		pthread_join(stream->thread, NULL);
	}
	stream->freed = true;
	uv_close((uv_handle_t *)&stream->in_idle, chr_stream_handle_closed);
	if (stream->in_poll.type == UV_POLL)
		uv_close((uv_handle_t *)&stream->in_poll, chr_stream_handle_closed);
	if (stream->out_poll.type == UV_POLL)
		uv_close((uv_handle_t *)&stream->out_poll, chr_stream_handle_closed);
	/* The descriptors are off the poll set already. */
	if (stream->config.in_fd >= 0)
		close(stream->config.in_fd);
	if (stream->config.out_fd >= 0 && !stream->shared)
		close(stream->config.out_fd);
}
