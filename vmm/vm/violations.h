/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the violations of a memory device's guest, which come as fast as vCPUs can, to events, of
 * which there is at most one in a second, each with the number since the one before.
 *
 * I1  The first violation after a second's peace is told at once; none is left untold for longer
 *     than a second, the last ones included.
 * I2  A vCPU wakes the main thread once for each event, however many violations that covers; all
 *     others cost it the load of a flag.
 *
 * Threads: violations_note() on any; the others on the main thread. The counts that they are about
 * are kept elsewhere, and grow before violations_note() is called.
 * The guest controls: when and how often.
 */
#ifndef VMM_VM_VIOLATIONS_H
#define VMM_VM_VIOLATIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define VIOLATIONS_PERIOD_MS 1000

/* Of one device; starts as all zeros. */
struct violations {
	_Atomic bool noted; /* the main thread was woken, and has not looked since */
	/* the main thread's */
	bool any;               /* there was an event */
	uint64_t event_ms;      /* when the last one was */
	uint64_t writes, reads; /* told until then */
};

/* There is one more. True: wake the main thread, which calls violations_wait_ms(). */
bool violations_note(struct violations *v);

/* How long the next event has to wait; 0: no longer. UINT64_MAX: there is none. */
uint64_t violations_wait_ms(const struct violations *v, uint64_t now_ms);

/*
 * The main thread is about to read the counts for an event: what is noted from now on is for the
 * next one.
 */
void violations_begin(struct violations *v);
/* It read these. False when all of them were told before: no event. Else *ret_* is what is new. */
bool violations_end(struct violations *v, uint64_t now_ms, uint64_t writes, uint64_t reads,
		    uint64_t *ret_writes, uint64_t *ret_reads);

#endif
