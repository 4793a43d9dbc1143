/* SPDX-License-Identifier: BSD-3-Clause */
/* A copy of what a chardev's front-ends write: see log.h. */
#include "vmm/chardev/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/chardev/internal.h"

struct chr_log {
	struct chardev *chr;
	struct chr_stream *stream;
	pthread_mutex_t lock;
	struct chr_ring out; /* guarded by lock, as the rest */
	bool broken;         /* everything is taken, and dropped */
	bool full;           /* a write was cut short */
};

static size_t log_no_room(void *opaque)
{
	(void)opaque;
	return 0;
}

static void log_no_input(void *opaque, const uint8_t *buf, size_t size)
{
	(void)opaque;
	(void)buf;
	(void)size;
}

/* On the writing thread of a file. */
static size_t log_output(void *opaque, uint8_t *buf, size_t size)
{
	struct chr_log *log = opaque;
	bool wake;
	size_t n;

	pthread_mutex_lock(&log->lock);
	n = chr_ring_pull(&log->out, buf, size);
	wake = n && log->full;
	if (n)
		log->full = false;
	pthread_mutex_unlock(&log->lock);
	if (wake)
		chr_wake(log->chr);
	return n;
}

/* Nothing is written any more. */
static void log_closed(void *opaque)
{
	struct chr_log *log = opaque;

	pthread_mutex_lock(&log->lock);
	log->broken = true;
	log->full = false;
	chr_ring_clear(&log->out);
	pthread_mutex_unlock(&log->lock);
	chr_wake(log->chr);
}

static const struct chr_stream_ops log_ops = {
	.room = log_no_room,
	.input = log_no_input,
	.output = log_output,
	.closed = log_closed,
};

int chr_log_new(struct chardev *chr, int fd, struct chr_log **ret_log, struct err **err)
{
	struct chr_log *log = calloc(1, sizeof(*log));
	struct chr_stream_config config = {
		.in_fd = -1, .out_fd = fd, .half_close = true, .ops = &log_ops, .opaque = log};
	struct stat st;
	int ret = 0;

	if (!log)
		ret = err_set(err, ENOMEM, "out of memory");
	else if (fstat(fd, &st) ||
		 (!S_ISREG(st.st_mode) && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)))
		ret = err_set(err, errno, "chardev '%s': its log's descriptor cannot be used",
			      chr->id);
	if (ret) {
		close(fd);
		free(log);
		return ret;
	}
	log->chr = chr;
	pthread_mutex_init(&log->lock, NULL);
	chr_ring_init(&log->out, CHR_OUT_LIMIT_BYTES);
	log->stream = chr_stream_new(chr->loop, &config, err);
	if (!log->stream) {
		chr_log_free(log, 0);
		return -EIO;
	}
	*ret_log = log;
	return 0;
}

void chr_log_free(struct chr_log *log, uint64_t deadline_ms)
{
	if (!log)
		return;
	if (log->stream)
		chr_stream_drain(log->stream, deadline_ms);
	chr_stream_free(log->stream);
	chr_ring_done(&log->out);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

size_t chr_log_put(struct chr_log *log, const void *buf, size_t size)
{
	size_t taken = size;

	if (!log)
		return size;
	pthread_mutex_lock(&log->lock);
	if (!log->broken) {
		taken = chr_ring_push(&log->out, buf, size);
		log->full |= taken < size;
	}
	pthread_mutex_unlock(&log->lock);
	return taken;
}

bool chr_log_is_full(struct chr_log *log)
{
	bool full;

	if (!log)
		return false;
	pthread_mutex_lock(&log->lock);
	full = log->full;
	pthread_mutex_unlock(&log->lock);
	return full;
}

void chr_log_service(struct chr_log *log)
{
	if (log)
		chr_stream_kick(log->stream);
}
