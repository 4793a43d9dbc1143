/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's half of virtio-mem: a portable driver core. VIRTIO 1.3, 5.15 "Memory Device" (device
 * type 24), and the size-request extension (docs/virtio-mem.md).
 *
 * The core owns protocol and policy: what to do about plugged memory at the start, which blocks to
 * plug and to unplug when the device asks for another size, how requests are made of runs of blocks,
 * what follows on each answer, when to try again, and when to ask for memory or offer it. It needs no
 * C library (memcpy, memmove, memset and memcmp, which compilers call by themselves), allocates
 * nothing beyond the arena that it is given, uses no floating point and no recursion, starts no thread
 * and reads no clock. What it needs of the operating system is struct vmem_driver_ops.
 *
 *     unit    what the operating system adds and removes at a time: Linux calls it a memory block
 *     chunk   what is plugged and unplugged at a time: one device block, or more where the operating
 *             system cannot take back less; a unit is one chunk or a power of two of them
 *
 *         absent --add()--> offline --vmem_driver_onlined()--> online
 *         absent <-----------remove()--------------------------/
 *
 * I1  A chunk is plugged in the core's map exactly if the device acknowledged that, or said so in a
 *     STATE answer. What an answer left open (the device did not answer any more) counts as plugged,
 *     and is never given to the operating system.
 * I2  The operating system uses only plugged chunks of online units: vmem_driver_usable() is true for
 *     them alone. A chunk is unplugged only while its unit is absent, or after take() returned it: an
 *     offline unit is removed first, for the system may keep records of the unit in its own chunks.
 * I3  Nothing is plugged beyond requested_size as last read, nor anything that the operating system
 *     cannot use: outside usable_region_size, or the addresses it can add.
 * I4  One request is under way at a time on each virtqueue. Between two calls of the core at most one
 *     run of chunks is "held": plugged, and neither given to the operating system nor unplugged yet.
 *     (What resume, or a STATE request after an error, found plugged in absent units waits besides.)
 * I5  A failure of any op leaves all other memory in use as it is. The core tries again after a pause
 *     that grows from retry_min_ms to retry_max_ms, and at once when the device tells of a change of
 *     its configuration or vmem_driver_retry() is called.
 * I6  vmem_driver_run() does a bounded piece of work: one request, or one call of add(), remove() or
 *     take(), and what belongs to it.
 * I7  What the device says is not trusted: a configuration that breaks a rule of the standard, or
 *     changes what never changes, is told (vmem_driver_note) and ends the work with the device, with
 *     all memory in use left as it is.
 *
 * Threads: the caller serialises all calls by one lock, but vmem_driver_config_changed(), which may be
 * called anywhere, in interrupts too. Ops are called by vmem_driver_run(), vmem_driver_answered(),
 * vmem_driver_state() and vmem_driver_init(), with that lock held; add() and remove() may give it up
 * meanwhile: vmem_driver_onlined(), vmem_driver_offlined() and the readers may be called then, inside
 * the op or by others. No other function may be called from within an op.
 */
#ifndef VMEM_DRIVER_H
#define VMEM_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmem/proto.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmem_driver;
struct vmem_driver_note;

/* Results of ops and of the core; the core has no errno. */
enum vmem_driver_result {
	VMEM_DRIVER_OK = 0,
	VMEM_DRIVER_PENDING =
		1,              /* submit(), submit_size(): vmem_driver_answered() will be called */
	VMEM_DRIVER_BUSY = -1,  /* in use, or cannot be done now */
	VMEM_DRIVER_NOMEM = -2, /* the operating system lacks the memory to do it */
	VMEM_DRIVER_NEVER = -3, /* cannot be done with this range at all */
	VMEM_DRIVER_GONE = -4,  /* the device does not answer any more */
	VMEM_DRIVER_INVALID = -5, /* an argument, or what the device says, breaks a rule */
};

/* How the operating system uses a unit that is online. */
enum vmem_driver_use {
	VMEM_DRIVER_MOVABLE,   /* all of it can be moved elsewhere: given back first */
	VMEM_DRIVER_IMMOVABLE, /* what is in it may stay for good */
};

/*
 * The operating system. @addr and @size are in bytes, guest physical.
 */
struct vmem_driver_ops {
	/*
	 * Read the device's configuration space as one (config_generation did not change), in the
	 * device's byte order: little-endian. OK or GONE.
	 */
	int (*config_read)(void *os, struct vmem_config *ret_config);
	/*
	 * Put a request into virtqueue 0 and wait for the answer: OK with *ret_resp, or GONE; or
	 * return PENDING without waiting, and call vmem_driver_answered() when it came. @req stays
	 * valid until then.
	 */
	int (*submit)(void *os, const struct vmem_req *req, struct vmem_resp *ret_resp);
	/* The same for virtqueue 1; NULL without VMEM_F_SIZE_REQUEST. Answered by
	 * vmem_driver_size_answered(). */
	int (*submit_size)(void *os, const struct vmem_size_req *req,
			   struct vmem_size_resp *ret_resp);
	/*
	 * Make units known to the operating system; all were absent, and in each something is
	 * plugged. It calls vmem_driver_onlined() for each when it begins to use it, now or later. A
	 * failure (BUSY, NOMEM, NEVER) leaves all of them absent but those for which
	 * vmem_driver_onlined() or vmem_driver_offlined() was called meanwhile: they are there. NULL
	 * if unit_bytes is 0.
	 */
	int (*add)(void *os, uint64_t addr, uint64_t size);
	/*
	 * Make units unknown again, whether they are online or offline: nothing of them is used
	 * afterwards. May move what is in use elsewhere. A failure leaves all of them there, in the
	 * states that the operating system told: BUSY, NOMEM, NEVER. NULL if unit_bytes is 0.
	 */
	int (*remove)(void *os, uint64_t addr, uint64_t size);
	/*
	 * Take plugged chunks of one online unit out of use; may move what is in use elsewhere. All or
	 * nothing: BUSY, NOMEM, NEVER. NEVER where the system keeps its records of the unit itself (at
	 * the unit's beginning, plugged before add()): such chunks go with remove() alone, which is
	 * possible once all others of the unit are free, taken or unplugged.
	 */
	int (*take)(void *os, uint64_t addr, uint64_t size);
	/* Begin to use plugged chunks of one online unit: just plugged, or taken before. */
	void (*give)(void *os, uint64_t addr, uint64_t size);
	/*
	 * How many bytes of a unit that is online are in use, an estimate made in no more time than it
	 * takes to look at the unit; 0 only if remove() would have nothing to move. NULL: unknown.
	 */
	uint64_t (*used)(void *os, uint64_t addr, uint64_t size);
	/* Something to tell people. May be NULL. */
	void (*note)(void *os, const struct vmem_driver_note *note);
};

/* vmem_driver_note.kind */
enum vmem_driver_note_kind {
	VMEM_DRIVER_NOTE_STARTED,    /* size: what is plugged already and was kept */
	VMEM_DRIVER_NOTE_UNPLUG_ALL, /* what an earlier driver had plugged was unplugged: size */
	VMEM_DRIVER_NOTE_REQUESTED,  /* the device asks for another size: size */
	VMEM_DRIVER_NOTE_REACHED,    /* and it is there: size */
	VMEM_DRIVER_NOTE_STUCK,      /* it cannot be reached for now: size plugged, result why */
	VMEM_DRIVER_NOTE_UNUSABLE,   /* a part of the region can never be used: addr, size */
	VMEM_DRIVER_NOTE_ADD_FAILED, /* addr, size, result */
	VMEM_DRIVER_NOTE_REFUSED,    /* the device answered ERROR: addr, size, request */
	VMEM_DRIVER_NOTE_BAD_CONFIG, /* I7 */
	VMEM_DRIVER_NOTE_GONE,       /* the device does not answer any more */
	VMEM_DRIVER_NOTE_SIZE_ASKED, /* the device was asked for another size: size, result the answer's type */
	VMEM_DRIVER_NOTE_KINDS,
};

struct vmem_driver_note {
	enum vmem_driver_note_kind kind;
	uint64_t addr, size;
	int result;       /* enum vmem_driver_result */
	uint16_t request; /* VMEM_REQ_... */
};

/* "started", "requested", ... */
const char *vmem_driver_note_name(enum vmem_driver_note_kind kind);

/*
 * Asking for memory and offering it (docs/virtio-mem.md). The core asks when less than low_bytes is
 * available, for as much as makes it target_bytes; it offers what is beyond target_bytes when more than
 * high_bytes was available for idle_ms. low_bytes <= target_bytes <= high_bytes.
 */
struct vmem_driver_size_policy {
	bool on;
	uint64_t low_bytes, target_bytes, high_bytes;
	uint32_t idle_ms;
	uint32_t interval_ms; /* between two requests, unless the second is more urgent; 0: 1000 */
	uint64_t max_bytes;   /* of plugged_size to ask for; 0: region_size */
};

struct vmem_driver_config {
	/*
	 * What the operating system adds and removes at a time, a power of two; a chunk, if that is
	 * more. 0: it cannot add memory at run time; the whole region is one unit that is online from
	 * the start, and only give() and take() are used.
	 */
	uint64_t unit_bytes;
	/*
	 * The least that take() can take, naturally aligned: a power of two, at most 32768 blocks. A
	 * block, if that is more.
	 */
	uint64_t chunk_bytes;
	/* The most that one call of add() or remove() is for, of whole units. 0: one unit. */
	uint64_t run_max_bytes;
	/* The operating system can use memory in [addr_min, addr_max]. */
	uint64_t addr_min, addr_max;
	/* Nothing is added while so much is offline and waits to be used. 0: no limit. */
	uint64_t offline_max_bytes;
	/*
	 * What an earlier driver left plugged is found out by STATE requests and kept; else it is
	 * unplugged. Units that the operating system has from then are told by vmem_driver_onlined()
	 * and vmem_driver_offlined() before the first vmem_driver_run(); all others are absent. What
	 * is plugged in those is not given: they have it. Of a chunk that is plugged in part, that
	 * part is unplugged.
	 */
	bool resume;
	/* Only vmem_driver_state() is used: nothing is plugged or unplugged (crash dumps). */
	bool query_only;
	uint32_t retry_min_ms, retry_max_ms; /* 0: 1000 and 300000 */
	struct vmem_driver_size_policy size_policy;
};

enum vmem_driver_status {
	VMEM_DRIVER_STARTING, /* the plugged memory of an earlier driver is dealt with */
	VMEM_DRIVER_WORKING,  /* on the way to requested_size */
	/* plugged_size is requested_size, as far as chunks allow. A pause then means that units in
	 * which nothing is plugged could not be removed yet. */
	VMEM_DRIVER_THERE,
	VMEM_DRIVER_WAITING, /* it could not be reached, and will be tried again */
	VMEM_DRIVER_LEAVING, /* vmem_driver_leave() */
	VMEM_DRIVER_LEFT,    /* that is over */
	VMEM_DRIVER_ENDED,   /* I7 for good; or the device is gone, until vmem_driver_restarted() */
};

/* Sizes in bytes; as the core knows them. */
struct vmem_driver_info {
	enum vmem_driver_status status;
	uint64_t addr, region_size, block_size, usable_region_size, requested_size;
	uint64_t plugged_size; /* the core's own sum */
	uint64_t online_size;  /* plugged and in use by the operating system */
	uint64_t offline_size; /* plugged, in units that are offline */
	uint64_t held_size;    /* I4, and what I1 left open */
	uint64_t unit_bytes, chunk_bytes;
	uint64_t first_unit, nr_units; /* first_unit: address of the first that can be used */
	uint32_t retry_ms;             /* the present pause; 0: none */
	/* since vmem_driver_init() */
	uint64_t answers[VMEM_REQ_TYPES][VMEM_RESP_TYPES];
	uint64_t size_answers[VMEM_SIZE_RESP_TYPES];
	uint64_t adds, add_failures, removes, remove_failures, takes, take_failures;
	uint64_t plugged_bytes, unplugged_bytes; /* moved in all */
};

#define VMEM_DRIVER_NOW  0u         /* vmem_driver_run(): call again at once */
#define VMEM_DRIVER_IDLE UINT64_MAX /* call again after another function that changes the core */

/*
 * How many bytes of memory a core for this device needs, aligned to 16; 0 when config or device break
 * a rule. @device as config_read() gives it.
 */
size_t vmem_driver_arena_bytes(const struct vmem_driver_config *config,
			       const struct vmem_config *device);
/*
 * A core in @arena, which stays the caller's and must outlive it; reads the configuration, sends no
 * request. OK, INVALID, NOMEM (the arena is too small), GONE; *ret_drv is written on OK only. @ops and
 * @os must outlive the core.
 */
int vmem_driver_init(void *arena, size_t arena_bytes, const struct vmem_driver_config *config,
		     const struct vmem_driver_ops *ops, void *os, struct vmem_driver **ret_drv);

/*
 * Do the next piece of work. Returns in how many milliseconds of @now_ms (any monotonic clock) to call
 * again: VMEM_DRIVER_NOW, VMEM_DRIVER_IDLE, or a pause. Calls that come earlier do no harm.
 */
uint64_t vmem_driver_run(struct vmem_driver *drv, uint64_t now_ms);
/*
 * The device's configuration changed: the next vmem_driver_run() reads it, and does not wait for the end
 * of a pause, even if nothing changed: a device may ask for the same size once more. Any context.
 */
void vmem_driver_config_changed(struct vmem_driver *drv);
/* The answer to a request that is PENDING; NULL: the device is gone. Then call vmem_driver_run(). */
void vmem_driver_answered(struct vmem_driver *drv, const struct vmem_resp *resp);
void vmem_driver_size_answered(struct vmem_driver *drv, const struct vmem_size_resp *resp);
/* Something may be possible now that was not: the next vmem_driver_run() tries again. */
void vmem_driver_retry(struct vmem_driver *drv);

/*
 * The operating system begins, or has ended, to use units which were added. At onlined() the caller
 * uses of each chunk exactly what vmem_driver_usable() says. Unknown ranges are ignored.
 */
void vmem_driver_onlined(struct vmem_driver *drv, uint64_t addr, uint64_t size,
			 enum vmem_driver_use use);
void vmem_driver_offlined(struct vmem_driver *drv, uint64_t addr, uint64_t size);

/*
 * May the operating system use all of [addr, addr + size), if the units are or go online? False
 * outside the region. vmem_driver_plugged(): is all of it plugged, held or not?
 */
bool vmem_driver_usable(const struct vmem_driver *drv, uint64_t addr, uint64_t size);
bool vmem_driver_plugged(const struct vmem_driver *drv, uint64_t addr, uint64_t size);

/*
 * Ask the device about blocks (STATE request, synchronous submit() only): VMEM_STATE_PLUGGED,
 * VMEM_STATE_UNPLUGGED, VMEM_STATE_MIXED, or a negative result. For crash dumps.
 */
int vmem_driver_state(struct vmem_driver *drv, uint64_t addr, uint64_t size);

/*
 * Give back whatever can be given back, and grow no more: run() until the status is LEFT, or ENDED. All
 * is tried once; a device that is busy is asked a few times. What is plugged then
 * (vmem_driver_info.plugged_size) stays so, and what was in use stays in use.
 */
void vmem_driver_leave(struct vmem_driver *drv);
/*
 * The device was reset and works again, with its blocks as they were (VIRTIO 1.3, 5.15.5.2): a request
 * that was under way is sent again if STATE says that it was not done. The configuration is read anew.
 */
void vmem_driver_restarted(struct vmem_driver *drv);

/*
 * How much memory the operating system could still use without this device's help, and how badly it
 * wants more (VMEM_SIZE_URGENCY_...): for the size policy. Call it when it changes much, and about once
 * a second. Then call vmem_driver_run() if it returns true.
 */
bool vmem_driver_available(struct vmem_driver *drv, uint64_t now_ms, uint64_t available_bytes,
			   uint16_t urgency, uint16_t reason);
/* INVALID when the watermarks are out of order. */
int vmem_driver_set_size_policy(struct vmem_driver *drv,
				const struct vmem_driver_size_policy *policy);

void vmem_driver_info(const struct vmem_driver *drv, struct vmem_driver_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
