/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Event loops: the main loop (monitors, character devices, signals) and I/O threads (virtqueues).
 * A thin layer over libuv that adds calls from other threads.
 *
 * I1  Callbacks of a loop run on its thread, one at a time.
 * I2  loop_call() runs a function on the loop's thread and returns when it is done; called on that
 *     thread it runs at once. loop_post() does not wait.
 * I3  A watch's callback does not run after loop_watch_free() returned, from whichever thread that
 *     was called.
 *
 * A loop never waits for a vCPU thread with a device lock held.
 */
#ifndef VMM_LOOP_H
#define VMM_LOOP_H

#include <stdbool.h>
#include <sys/types.h>

#include <uv.h>

struct err;
struct loop;
struct loop_watch;

/* A loop that the calling thread will run itself with loop_run() (the main loop). */
struct loop *loop_new_main(struct err **err);
/* A loop with a thread of its own, named @name (15 characters at most). */
struct loop *loop_new_thread(const char *name, struct err **err);
/*
 * Stops the thread, runs the posts that it did not come to, also those that these post, and closes
 * what is left. Its watches must be gone, and nobody else may use it any more. NULL is allowed.
 */
void loop_free(struct loop *loop);

/* Main loop only: run until loop_stop(), also one that came before; may be run again then. */
void loop_run(struct loop *loop);
/* From any thread. What was posted before it still runs. */
void loop_stop(struct loop *loop);

bool loop_on_thread(const struct loop *loop);
/* Of a loop with a thread of its own. */
pid_t loop_thread_id(const struct loop *loop);
/* For code on the loop's thread that uses libuv itself (character devices, timers). */
uv_loop_t *loop_uv(struct loop *loop);

void loop_call(struct loop *loop, void (*fn)(void *opaque), void *opaque);
/* 0 or -ENOMEM. */
int loop_post(struct loop *loop, void (*fn)(void *opaque), void *opaque);

/* From another thread: what was posted or signalled to the loop before has been done when it returns. */
void loop_settle(struct loop *loop);

/*
 * Call @fn on the loop's thread whenever eventfd @fd was signalled; its counter is cleared before
 * each call. The fd stays the caller's.
 */
struct loop_watch *loop_watch_new(struct loop *loop, int fd, void (*fn)(void *opaque), void *opaque,
				  struct err **err);
void loop_watch_free(struct loop_watch *watch);

#endif
