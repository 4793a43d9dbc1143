/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dumps of guest memory as monitors see them (vmm/dump/dump.h writes them).
 *
 * I1  A dump is a job (qmp/job.h) of type "dump-guest-memory" from its command to its end; its progress
 *     counts bytes of memory. Where no more jobs can be had it is one without. The job of the last one
 *     stays until it is dismissed or the next begins.
 * I2  Whoever asked is answered when all is over, or with "detach" when the target is open and the
 *     guest stands still: what is wrong with the target is told to him in both cases. All programs are
 *     told the end of a dump that got so far (DUMP_COMPLETED).
 *
 * Threads: the main loop's only.
 */
#ifndef VMM_CONTROL_DUMP_H
#define VMM_CONTROL_DUMP_H

struct control;
struct err;

/* After the jobs are there. _done() also after a failure. */
int control_dump_init(struct control *control, struct err **err);
void control_dump_done(struct control *control);

#endif
