/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem device: the engine of <vmem/device.h> behind a virtqueue, in front of the guard.
 *
 *     queue --> requests --> engine --> host ops --> guard (slots, pages), guest memory (gm)
 *     second queue --> size requests --> engine (mem_size.h), where that is offered
 *
 * I1  Blocks that are not plugged are unreachable for emulated devices (gm) before the guard takes
 *     them from the guest, and become reachable only after the guard granted them.
 * I2  A read that leaves the guest because its block is not there gives zeros; a write is dropped.
 *     Both are noted (struct virtio_mem_violation) without waiting for anybody.
 * I3  A request that is too short, or whose answer has no room or no accessible place, is the
 *     driver's breach of protocol: DEVICE_NEEDS_RESET; no block changes. So is a request that
 *     unplugs the memory its own answer belongs in, but that is known only afterwards. Bytes beyond
 *     a request's or an answer's size are not looked at.
 * I4  Monitor calls never wait for a request under way: a new size is noted at once and handed to
 *     the device's loop, which looks at the last one only.
 *
 * I5  A stop of the machine does not wait until a plug has found all of its memory, or an unplug
 *     has given back all of it: that is answered BUSY, no block changes (what was to be unplugged
 *     may have lost its content), and the driver tries again when the machine goes on.
 * I6  A driver that asks on and on for memory that the host has not is answered, but slowly: once a
 *     second in the end (mem_pace.h). A new size, or any other answer, ends that.
 * I7  Whoever tracks what is reachable (virtio_mem_track()) is told of a run before the guest or a
 *     device can access it, and of its end after none can any more. Between requests and resets what
 *     was told is what the engine has plugged and not faulted. Blocks that keep their content over a
 *     failed unplug are told as gone and there again, and their pages marked in the gm after that.
 *
 * I8  What the owner asks for is the size from the moment on in which it was asked: what the guest was
 *     granted before is gone, and a request of the guest that is answered later counts from there.
 * I9  Plugged memory may be given back to the host page by page (gm_discard()), which changes nothing of
 *     the device: blocks stay plugged, and no size is another. A block that is not plugged, or is
 *     being unplugged, has no part in it.
 *
 * Ownership: the caller owns the memory, the gm, the loop, and ends the transport first.
 * Threads: requests and the engine run on the loop's thread with the device lock held; the public
 * functions may be called from any thread unless they say otherwise.
 * The guest controls: requests, their pace, and which features it accepts.
 */
#ifndef VMM_VIRTIO_MEM_H
#define VMM_VIRTIO_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmem/device.h>

struct bus;
struct err;
struct gm;
struct hv;
struct loop;
struct virtio_device;
struct virtio_mem;

/*
 * A vCPU touched a block that is not plugged, and it was seen: writes always are; reads are where
 * the slot is absent, or the backing is shared. What is only seen by the guest (a read of zeros) is
 * not a violation, nor is any read while the driver did not accept
 * VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE (VIRTIO 1.3, 5.15.6.2).
 */
struct virtio_mem_violation {
	uint64_t gpa;
	unsigned int size; /* bytes: 1, 2, 4 or 8; a wider access is several */
	bool write;
	int vcpu; /* index; -1 unknown */
};

struct virtio_mem_violations {
	uint64_t writes, reads;           /* since virtio_mem_new() */
	struct virtio_mem_violation last; /* valid unless both are 0 */
};

/* ---- the guest asks for another size (VMEM_F_SIZE_REQUEST) ---- */

enum virtio_mem_size_answer {
	VIRTIO_MEM_SIZE_GRANTED,
	VIRTIO_MEM_SIZE_PARTLY,
	VIRTIO_MEM_SIZE_REFUSED,
	VIRTIO_MEM_SIZE_LATER,
	VIRTIO_MEM_SIZE_ANSWERS, /* to requests that make sense */
};

/* "granted", "partly", "refused", "later"; as the constants of proto.h are called. */
const char *virtio_mem_size_answer_name(unsigned int answer);
const char *virtio_mem_size_urgency_name(unsigned int urgency);
const char *virtio_mem_size_reason_name(unsigned int reason);
const char *virtio_mem_size_cause_name(unsigned int cause);

/* A request that made sense. Sizes in bytes. */
struct virtio_mem_size_request {
	uint64_t wanted_size, min_size;
	uint64_t requested_size; /* after it */
	uint16_t urgency, reason, answer, cause;
	uint64_t at_ms; /* of the clock of struct virtio_mem_stats */
};

/* Since virtio_mem_new(). */
struct virtio_mem_size_stats {
	bool on; /* the feature is offered */
	uint64_t requests[VIRTIO_MEM_SIZE_ANSWERS][VMEM_SIZE_URGENCIES][VMEM_SIZE_REASONS];
	uint64_t total;  /* of them, as the last one was answered */
	uint64_t errors; /* made no sense */
	uint64_t broken; /* stopped the device (I3) */
	uint64_t granted_bytes, offered_bytes;
	struct virtio_mem_size_request last; /* valid if total is not 0 */
};

struct virtio_mem_config {
	const char *id;
	struct gm *gm;
	struct hv *hv;
	struct loop *loop;
	struct bus *mmio;
	/* region_size bytes: private anonymous, or the shared mapping of @fd from @fd_offset on */
	void *memory;
	int fd; /* -1 */
	uint64_t fd_offset;
	uint64_t page_bytes;              /* of the memory; 0: 4096 */
	unsigned int populate_threads;    /* with prealloc: 1 or more */
	struct vmem_device_config device; /* its bounds of size requests are not looked at, but: */
	uint64_t request_limit, request_rate; /* as virtio_mem_set_request_policy() takes them */
	unsigned int nr_guards;               /* memory devices of this process */
	bool guard;                           /* off: blocks of a present slot are not closed */
	bool mergeable;                       /* the memory was given to MADV_MERGEABLE */
	uint64_t memslot_size;
	/*
	 * Once per violation, on the vCPU's thread, which goes on with the guest afterwards unless
	 * hv's vcpu_hold() was called. Must not wait. May be NULL.
	 */
	void (*violation)(void *opaque, struct virtio_mem *mem);
	/*
	 * Something changed that virtio_mem_info(), virtio_mem_progress(), or virtio_mem_stats()
	 * beyond STATE requests and reads of the configuration tell: plugged_size, the driver, a
	 * request that was answered, the size that is asked for. On any thread, the device lock
	 * held: must not wait. May be NULL.
	 */
	void (*changed)(void *opaque, struct virtio_mem *mem);
	void *opaque; /* of violation and changed */
	/* A driver that does not accept VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE is refused. */
	bool require_inaccessible;
	bool packed, event_idx, indirect_desc; /* ring features to offer */
	uint64_t (*now_ms)(void);              /* a clock for tests; NULL: the monotonic one */
	uint64_t step_bytes; /* how much memory is found or freed at a time (I5); 0: 1 GiB */
};

struct virtio_mem *virtio_mem_new(const struct virtio_mem_config *config, struct err **err);
/* No vCPU runs, the transport is gone. NULL is allowed. */
void virtio_mem_free(struct virtio_mem *mem);

/* For the transport. */
struct virtio_device *virtio_mem_device(struct virtio_mem *mem);

/*
 * Ask the guest for another size, in bytes. -EINVAL with a sentence when it is not a multiple of
 * the block size or beyond the device's size; nothing changes then. Returns at once. The driver is
 * told, also when it is the same size again and the guest has not got there.
 */
int virtio_mem_resize(struct virtio_mem *mem, uint64_t requested_size, struct err **err);
/* Would virtio_mem_resize() take it? Its result. */
int virtio_mem_check_size(const struct virtio_mem *mem, uint64_t requested_size, struct err **err);
/*
 * Ask for no more than is: the size becomes what is plugged when the device's thread comes to it,
 * that is after the request under way and before the next one, or to a reset of the machine. Returns
 * at once. A resize that comes before that takes its place.
 */
void virtio_mem_resize_here(struct virtio_mem *mem);
/* Did the device's thread come to the last size that was asked for? Never waits. */
bool virtio_mem_resized(const struct virtio_mem *mem);
/* How often its owner asked for a size till now. Never waits. */
uint64_t virtio_mem_asks(const struct virtio_mem *mem);

/*
 * Other bounds for what the guest is granted from now on, in bytes and bytes a second (0: no limit).
 * What it has stays. -EINVAL with a sentence when the limit is not a multiple of the block size or
 * beyond the device's size, or when guests cannot ask; nothing changes then. Never waits.
 */
int virtio_mem_set_request_policy(struct virtio_mem *mem, uint64_t request_limit,
				  uint64_t request_rate, struct err **err);
/*
 * The owner is about to have the size that it asked for: until the hold is ended the guest is granted
 * no more than that, and told to ask later. Never waits.
 */
void virtio_mem_hold_size(struct virtio_mem *mem, bool hold);
void virtio_mem_size_stats(struct virtio_mem *mem, struct virtio_mem_size_stats *ret);

/* ---- for those who carry the machine elsewhere ---- */

/*
 * Have @fn called for each run of blocks that is reachable now, and from now on for each that is about
 * to become reachable (@plugged) or is not any more (I7); a run of the latter may hold blocks that
 * never were. The first calls come before this returns, and nothing changes between them and the
 * later ones. NULL ends it; when that returned no call is under way and none will come. @fn is called
 * with the device lock held, on any thread, and must not wait. @offset and @size are in bytes from the
 * start of the region, multiples of its block size. Waits for a request under way.
 */
void virtio_mem_track(struct virtio_mem *mem,
		      void (*fn)(void *opaque, struct virtio_mem *mem, uint64_t offset,
				 uint64_t size, bool plugged),
		      void *opaque);
/*
 * A machine that waits for its state is told what was plugged at the other side, run by run and before
 * the device's own state (virtio_device_load()) and any content comes: plugged, the run reads as zeros,
 * with prealloc from memory that is there; unplugged, it is the host's again. A run to be plugged may
 * hold no block that is plugged already, one to be unplugged may hold any. -EINVAL for a run that
 * cannot be, else -errno of what the host could not do; nothing changed then (<vmem/device.h>, I5),
 * and the sentence is without the device's name. The size that was asked for stays, but the usable
 * region grows to hold what is plugged.
 *
 * The device's state holds its blocks once more, and is refused when it is not what was told here.
 */
int virtio_mem_load_plug(struct virtio_mem *mem, uint64_t offset, uint64_t size, bool plugged,
			 struct err **err);

/* Never waits. */
void virtio_mem_violations(const struct virtio_mem *mem, struct virtio_mem_violations *ret);
/* How blocks are closed: the guard's state. Never waits. */
struct vmem_guard_info;
void virtio_mem_guard_info(const struct virtio_mem *mem, struct vmem_guard_info *ret_info);
/* For memory that comes later (guard/missing.h); as long as the device's requests cannot come. */
struct vmem_guard;
struct vmem_guard *virtio_mem_guard(struct virtio_mem *mem);
/*
 * A vCPU could not reach memory at @gpa (UINT64_MAX: unknown; @size is not used then): make the
 * access, done again, leave the guest (vmem_guard_refine()). Returns how many slots were laid anew,
 * or -errno. On a vCPU's thread, no lock held; takes the device lock, and so waits for a request
 * under way.
 *
 * *ret_changes grows with whatever changes which blocks are closed, and is the same again when
 * nothing did: an access that fails once more between two calls that returned 0 with the same value
 * does not fail because of a closed block of this device.
 *
 * While the machine is about to stop (virtio_mem_stop()) nothing is laid anew, so that the stop
 * need not wait for all vCPUs that want it: they meet the block again when the machine goes on.
 */
int virtio_mem_refine(struct virtio_mem *mem, uint64_t gpa, uint64_t size, uint64_t *ret_changes);

/* ---- what the driver asked for ---- */

enum virtio_mem_kind {
	VIRTIO_MEM_PLUG,
	VIRTIO_MEM_UNPLUG,
	VIRTIO_MEM_UNPLUG_ALL,
	VIRTIO_MEM_STATE,
	VIRTIO_MEM_OTHER, /* of no type there is, or too short to have one */
	VIRTIO_MEM_KINDS,
};

enum virtio_mem_answer {
	VIRTIO_MEM_ACK,
	VIRTIO_MEM_NACK,
	VIRTIO_MEM_BUSY,
	VIRTIO_MEM_ERROR,
	VIRTIO_MEM_BROKEN, /* none was given: the request stopped the device (I3) */
	VIRTIO_MEM_ANSWERS,
};

/* "plug", "unplug", "unplug-all", "state", "other"; "ack", "nack", "busy", "error", "broken". */
const char *virtio_mem_kind_name(enum virtio_mem_kind kind);
const char *virtio_mem_answer_name(enum virtio_mem_answer answer);

/*
 * Bucket i of a histogram counts latencies of more than 2^(i-1) and at most 2^i microseconds, the
 * first one all below, the last one all above.
 */
#define VIRTIO_MEM_BUCKETS 28u

struct virtio_mem_requests {
	uint64_t answers[VIRTIO_MEM_ANSWERS];
	uint64_t resize_answers[VIRTIO_MEM_ANSWERS]; /* since the last size was asked for */
	/* from when it was taken from the queue until the answer was in it */
	uint64_t latency[VIRTIO_MEM_BUCKETS];
	uint64_t latency_ns; /* their sum */
	uint64_t last_ms;    /* when the last one was answered; 0: there was none */
};

/* What the host could not do for a request. */
enum virtio_mem_step {
	VIRTIO_MEM_NO_STEP, /* memory of an earlier request could not be taken back (engine, I5) */
	VIRTIO_MEM_GRANT,
	VIRTIO_MEM_POPULATE,
	VIRTIO_MEM_REVOKE,
	VIRTIO_MEM_DISCARD,
};

struct virtio_mem_refusal {
	enum virtio_mem_kind kind;
	enum virtio_mem_answer answer;
	enum virtio_mem_step step;
	int error; /* positive; EINTR: the machine was about to stop */
	uint64_t at_ms;
};

/*
 * Since virtio_mem_new(). Times are in milliseconds of a clock that stands still while the machine
 * is stopped.
 */
struct virtio_mem_stats {
	struct virtio_mem_requests requests[VIRTIO_MEM_KINDS];
	/* by requests, and by resets of the machine; with what was loaded they make plugged_size */
	uint64_t plugged_bytes, unplugged_bytes, reset_bytes;
	uint64_t size_reads; /* how often the driver read requested_size */
	uint64_t refusals;   /* requests that the host could not do; the last one: */
	struct virtio_mem_refusal refusal;
	/* the last size that was asked for: when, what was plugged then, what came since */
	uint64_t resize_ms, resize_plugged_size, resize_size_reads, resize_refusals;
	uint64_t now_ms;
	uint64_t idle_ms; /* since guest or monitor did something about the size */
};

/* Never waits. On the thread of virtio_mem_stop(). */
void virtio_mem_stats(const struct virtio_mem *mem, struct virtio_mem_stats *ret);

/*
 * Where memory is plugged: cuts the region into @max cells at most (1 or more), whose size is a
 * power of two and the same for all; returns how many, 0 for a region of no bytes. *ret_bytes:
 * plugged bytes of each, as far as the guest can reach them. Never waits, and takes no longer for a
 * larger region.
 */
size_t virtio_mem_cells(const struct virtio_mem *mem, uint64_t *ret_bytes, size_t max,
			uint64_t *ret_cell_size);

/* The region in this process; the address is for looking up what the host holds for it. */
void virtio_mem_memory(const struct virtio_mem *mem, const void **ret_memory, uint64_t *ret_size);

/* How far the last resize got, as far as a host can know. */
enum virtio_mem_progress {
	VIRTIO_MEM_DONE,        /* plugged_size is requested_size */
	VIRTIO_MEM_IN_PROGRESS, /* the guest is working on it */
	VIRTIO_MEM_VM_OOM,      /* the guest stopped giving or taking before it was done */
	VIRTIO_MEM_HOST_OOM,    /* the host had no memory for the guest's last plug request */
	VIRTIO_MEM_NO_DRIVER,   /* no driver is there, or the device needs a reset */
};

/* A guest that asks for nothing for so long has stopped; it may start again any time. */
#define VIRTIO_MEM_STALL_MS 5000

enum virtio_mem_progress virtio_mem_progress(struct virtio_mem *mem);
/*
 * The machine is about to stop, and goes on: a guest that cannot run has not given up, and what
 * waits for a request need not wait longer (I5). On one thread, where virtio_mem_progress() is
 * called too. No-ops when it is already so. Never wait.
 */
void virtio_mem_stop(struct virtio_mem *mem);
void virtio_mem_cont(struct virtio_mem *mem);
/* Does a driver work with the device? Never waits. */
bool virtio_mem_driven(const struct virtio_mem *mem);
/* The spelling of monitors: "done", "in-progress", "vm-oom", "host-oom", "no-driver". */
const char *virtio_mem_progress_name(enum virtio_mem_progress progress);

/*
 * requested_size in it is the last one that the owner asked for, with virtio_mem_resize_here() what is
 * plugged, or what the guest was granted since. The bounds of requests are those last said. Never
 * waits.
 */
void virtio_mem_info(const struct virtio_mem *mem, struct vmem_device_info *ret_info);

#endif
