/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How often a driver may ask for memory that the host has not.
 *
 * A driver may take a refusal for a size that changed meanwhile, and ask again at once: stock Linux
 * does, for as long as it is refused. Each round would cost the host a search for memory, and the
 * guest a processor. So every answer is given at once, but after some refusals in a row the next
 * request is taken up later: at first a millisecond, at last a second. When the host has memory
 * again the guest has it within that second.
 *
 * I1  Nothing waits after an answer that is no refusal, or after mem_pace_clear().
 *
 * Threads: the caller serialises, but for @go_on: it is called on the loop's thread, with no lock.
 */
#ifndef VMM_VIRTIO_MEM_PACE_H
#define VMM_VIRTIO_MEM_PACE_H

#include <stdbool.h>

struct err;
struct loop;
struct loop_watch;

struct mem_pace {
	int fd; /* of a timer; -1: none */
	struct loop_watch *watch;
	unsigned int refusals; /* in a row */
	bool waiting;          /* the timer runs */
};

/* @go_on is called when the time is over: it has to call mem_pace_over(), and take up requests. */
int mem_pace_init(struct mem_pace *pace, struct loop *loop, void (*go_on)(void *opaque),
		  void *opaque, struct err **err);
/* No-op where the fd is -1. */
void mem_pace_done(struct mem_pace *pace);

/* A request was answered; after refusals there may be something to wait for. */
void mem_pace_answered(struct mem_pace *pace, bool refused);
void mem_pace_over(struct mem_pace *pace);
/* Forget all refusals; true when that ends a wait, and requests are to be taken up. */
bool mem_pace_clear(struct mem_pace *pace);

#endif
