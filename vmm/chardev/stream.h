/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One connection of a chardev to the outside: a pair of descriptors, watched by the loop.
 *
 * Descriptors come in three kinds, told apart here: sockets (read and written with MSG_DONTWAIT),
 * those that can be polled (pipes, terminals: must be O_NONBLOCK), and plain ones (regular files,
 * /dev/null), which are always ready: input is read from the loop, output by a thread of the
 * stream's own, so that a slow disk holds up nobody.
 *
 * I1  input() gets no more bytes than room() just allowed.
 * I2  Bytes given by output() are written in order, all of them, unless the other end fails.
 * I3  After closed() no other callback comes. At the end of input what output() still has is sent
 *     first, and while busy() says so the stream stays, unless nobody is at the other end any more.
 *     A stream made with half_close never ends at the end of input; it just reads no more.
 *
 * Threads: all calls and callbacks on the loop's thread, except output(), which is called on the
 * writing thread when out_fd is plain.
 */
#ifndef VMM_CHARDEV_STREAM_H
#define VMM_CHARDEV_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chr_stream;
struct err;
struct loop;

struct chr_stream_ops {
	size_t (*room)(void *opaque);
	void (*input)(void *opaque, const uint8_t *buf, size_t size);
	/* Give up to @size bytes of output. */
	size_t (*output)(void *opaque, uint8_t *buf, size_t size);
	void (*closed)(void *opaque);
	/* At the end of input: is there output to come? chr_stream_kick() asks again. May be NULL. */
	bool (*busy)(void *opaque);
	/* hang_up: somebody came or went. A new stream counts as attended. */
	void (*attended)(void *opaque, bool attended);
	/* A descriptor came with the bytes; owned by the callee. NULL: closed. */
	void (*descriptor)(void *opaque, int fd);
};

struct chr_stream_config {
	int in_fd,
		out_fd; /* may be the same; -1 is none. Owned, also when chr_stream_new() fails */
	bool half_close;
	bool hang_up; /* a pty's master: a hang-up ends nothing, see attended() */
	const struct chr_stream_ops *ops;
	void *opaque;
};

struct chr_stream *chr_stream_new(struct loop *loop, const struct chr_stream_config *config,
				  struct err **err);
/* Something changed: room, output, or a hang-up's end. */
void chr_stream_kick(struct chr_stream *stream);
/* Whether everything that output() gave has been written. */
bool chr_stream_idle(struct chr_stream *stream);
/* Write what there is until @deadline_ms (CLOCK_MONOTONIC); waits. */
void chr_stream_drain(struct chr_stream *stream, uint64_t deadline_ms);
/* NULL is allowed. */
void chr_stream_free(struct chr_stream *stream);

#endif
