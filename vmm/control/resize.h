/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Resizes as jobs (qmp/job.h): of one memory device, or of the whole machine or a node spread over
 * its devices (resize_plan.h).
 *
 * A resize is a list of devices, each with the size it shall have. It ends
 *
 *	well	when each device is of its size;
 *	badly	when some are not and none of these is in progress any more (virtio_mem_progress(): the
 *		guest did nothing for VIRTIO_MEM_STALL_MS); when another size is asked for; when a device
 *		is removed; at its timeout; when it is cancelled
 *
 * and then says why (explain.h). After a bad end the requested sizes stay, so that the guest may
 * still get there, but for a resize that was cancelled: there they become what is plugged.
 *
 * I1  A device is in one resize at most that is not over. Until it is, the guest's own requests for
 *     another size are granted nothing (virtio_mem_hold_size()): what the owner asks for stands.
 * I2  Time is the machine's: while that is stopped nothing stalls and no timeout comes nearer.
 * I3  A driver that is not there when a resize begins ends it at once. One that goes has
 *     VIRTIO_MEM_STALL_MS to come back, and RESIZE_BOOT_MS after a reset of the machine.
 * I4  A cancelled job is over when each device has taken up its last size: memory of a request
 *     under way stays plugged, and the requested size is what is plugged then.
 * I5  Nothing is polled: devices are looked at when they tell of a change (VM_EVENT_MEMORY_DEVICE),
 *     and by one timer, set to when the next one could have stalled or timed out.
 *
 * Threads: the main loop's only.
 */
#ifndef VMM_CONTROL_RESIZE_H
#define VMM_CONTROL_RESIZE_H

#include <stddef.h>
#include <stdint.h>

struct control;
struct err;
struct job;
struct vm_memory_device;

/* How long a guest may take from a reset of the machine to its driver. */
#define RESIZE_BOOT_MS 120000

/* What a device shall be. */
struct resize_target {
	const struct vm_memory_device *device;
	uint64_t size;
};

/* How a job is to be made. */
struct resize_options {
	const char *job_id;  /* NULL: chosen */
	const char *prefix;  /* then: begins with this */
	const char *type;    /* static */
	uint64_t timeout_ms; /* 0: none */
};

/* Sets up control->jobs and control->resizer. _done() also after a failure. */
int control_resize_init(struct control *control, struct err **err);
/* Ends all jobs; after the sessions of monitors, whose waiting commands end with them. */
void control_resize_done(struct control *control);

/*
 * Ask each of @nr devices for its size and make a job of it; *ret_id is the job's, valid until the
 * next call of anything here. On failure no size was changed.
 */
int control_resize_start(struct control *control, const struct resize_target *targets, size_t nr,
			 const struct resize_options *options, const char **ret_id,
			 struct err **err);

#endif
