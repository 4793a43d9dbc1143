/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the chardev tests share: a front-end that records, and a loop that runs until a condition
 * holds (or ten seconds went by, which fails the test).
 */
#ifndef TESTS_CHARDEV_TEST_H
#define TESTS_CHARDEV_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <string.h>
#include <uv.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/chardev/chardev.h"
#include "vmm/core/loop.h"

struct front {
	struct chr_port *port;
	size_t room; /* what can_receive() gives; SIZE_MAX: always more */
	uint8_t in[65536];
	size_t in_count;
	int opened, closed, breaks, focus_in, focus_out, writable;
};

static inline size_t front_can_receive(void *opaque)
{
	struct front *f = opaque;

	return num_min(f->room, sizeof(f->in) - f->in_count);
}

static inline void front_receive(void *opaque, const uint8_t *buf, size_t size)
{
	struct front *f = opaque;

	assert_true(size <= front_can_receive(f));
	memcpy(f->in + f->in_count, buf, size);
	f->in_count += size;
	if (f->room != SIZE_MAX)
		f->room -= size;
}

static inline void front_event(void *opaque, enum chr_event event)
{
	struct front *f = opaque;

	f->opened += event == CHR_OPENED;
	f->closed += event == CHR_CLOSED;
	f->breaks += event == CHR_BREAK;
	f->focus_in += event == CHR_FOCUS_IN;
	f->focus_out += event == CHR_FOCUS_OUT;
}

static inline void front_writable(void *opaque)
{
	struct front *f = opaque;

	f->writable++;
}

static const struct chr_ops front_ops = {
	.can_receive = front_can_receive,
	.receive = front_receive,
	.event = front_event,
	.writable = front_writable,
};

static inline void pump_expired(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

/* Run the loop until COND. */
#define PUMP(loop, COND)                                         \
	do {                                                     \
		bool expired_ = false, met_;                     \
		uv_timer_t timer_;                               \
		uv_timer_init(loop_uv(loop), &timer_);           \
		timer_.data = &expired_;                         \
		uv_update_time(loop_uv(loop));                   \
		uv_timer_start(&timer_, pump_expired, 10000, 0); \
		while (!(met_ = (COND)) && !expired_)            \
			uv_run(loop_uv(loop), UV_RUN_ONCE);      \
		uv_close((uv_handle_t *)&timer_, NULL);          \
		while (uv_is_active((uv_handle_t *)&timer_))     \
			uv_run(loop_uv(loop), UV_RUN_NOWAIT);    \
		uv_run(loop_uv(loop), UV_RUN_NOWAIT);            \
		if (!met_)                                       \
			fail_msg("did not happen: %s", #COND);   \
	} while (0)

static inline bool front_has(const struct front *f, const char *text)
{
	return f->in_count == strlen(text) && !memcmp(f->in, text, f->in_count);
}

static inline struct chardev *must_open(struct loop *loop, const struct chr_config *config)
{
	struct err *err = NULL;
	struct chardev *chr = chardev_new(loop, config, &err);

	if (!chr)
		print_error("%s\n", err_message(err));
	assert_non_null(chr);
	return chr;
}

static inline void must_attach(struct chardev *chr, struct front *f, const struct chr_ops *ops)
{
	struct err *err = NULL;

	if (chardev_attach(chr, ops, f, &f->port, &err))
		fail_msg("%s", err_message(err));
}

#endif
