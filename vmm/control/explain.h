/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why a memory device is not of the size that was asked for, as exactly as a host can know.
 *
 * What a host sees of a guest is: whether it has a driver, whether that read the new size, which
 * requests it sent, when, and what they were answered. It does not see why the guest does not ask:
 * a driver that finds memory in use which it cannot move sends no request for it.
 *
 * Threads: the main loop's only. Nothing here waits.
 */
#ifndef VMM_CONTROL_EXPLAIN_H
#define VMM_CONTROL_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/virtio/mem.h"

struct vm;
struct vm_memory_device;

/* QMP's ResizeReason, in this order. */
enum resize_reason {
	RESIZE_IN_PROGRESS,
	RESIZE_NO_DRIVER,
	RESIZE_GUEST_SILENT,    /* it did nothing at all */
	RESIZE_GUEST_TOOK_PART, /* perhaps nothing, but it looked or tried */
	RESIZE_GUEST_GAVE_PART,
	RESIZE_HOST_OUT_OF_MEMORY,
	RESIZE_HOST_FAILED, /* other failures of the host */
	/* of jobs only */
	RESIZE_TIMEOUT,
	RESIZE_CANCELLED,
	RESIZE_REPLACED, /* another size was asked for */
	RESIZE_DEVICE_REMOVED,
	RESIZE_MACHINE_ENDED,
	RESIZE_REASONS,
};

/* "in-progress", "no-driver", ...; static. */
const char *resize_reason_name(enum resize_reason reason);
/* All of them, for a schema: words. */
#define RESIZE_REASON_NAMES                                                                      \
	"in-progress no-driver guest-silent guest-took-part guest-gave-part host-out-of-memory " \
	"host-failed timeout cancelled replaced device-removed machine-ended"

#define RESIZE_TEXT_MAX 768

struct resize_explanation {
	enum resize_reason reason;
	char text
		[RESIZE_TEXT_MAX]; /* a sentence without a full stop; begins with "the guest" or alike */
};

/* What a host knows of a device, taken at one time. */
struct resize_facts {
	const char *name;
	enum virtio_mem_progress progress;
	struct vmem_device_info info;
	struct virtio_mem_stats stats;
	bool running; /* the machine */
	/* how scattered what is plugged is: parts of the region in which there is something */
	size_t used_parts, parts;
	uint64_t part_bytes;
};

/* False, and nothing is written, when the device is of the size that was asked for. */
bool resize_explain(const struct resize_facts *facts, struct resize_explanation *ret);
/* The same, with what there is to know now. */
bool control_mem_explain(const struct vm *vm, const struct vm_memory_device *device,
			 struct resize_explanation *ret);

#endif
