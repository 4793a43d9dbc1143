/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem device engine: VIRTIO 1.3, 5.15 "Memory Device" (device type 24), and the
 * size-request extension (docs/virtio-mem.md).
 *
 * It decides requests and keeps the state of memory blocks; it makes no system call, allocates
 * only in vmem_device_new(), starts no thread, and reaches the host through struct vmem_host_ops.
 * Virtqueues and configuration space belong to the caller's transport.
 *
 * I1  The block map changes only in the commit step, after every host call of a request succeeded;
 *     commit cannot fail.
 * I2  A block is plugged in the map only if the host granted it. A block that is unplugged in the
 *     map is revoked in the host and its memory discarded, but for strays (I5).
 * I3  plugged_size is the number of plugged blocks times block_size, and every plugged block lies
 *     below usable_region_size. requested_size <= usable_region_size <= region_size, all multiples
 *     of block_size.
 * I4  Order of a plug: grant, populate (prealloc only), commit; undone by revoke, discard. Order
 *     of an unplug: revoke, discard, commit; undone by grant. The answer is given after commit, so
 *     ACK means done on both sides. UNPLUG_ALL and a system reset make one revoke and one discard
 *     call over the whole usable region: unless the host fails, their number of calls does not
 *     grow with the number of runs.
 * I5  After a failed host call the blocks are as before the request; only the content of blocks
 *     whose discard was tried may be lost (their driver had given it up). When undoing fails too,
 *     host_faults counts it, and the blocks are kept out of use until the host is able again:
 *     - Faulted blocks: plugged, but the guest may not reach them, because an unplug failed and so
 *       did granting them back. They count as plugged (plugged_size, STATE); vmem_device_plugged()
 *       and vmem_device_for_each_plugged() leave them out. A later unplug, UNPLUG_ALL or system
 *       reset ends the state.
 *     - Strays: unplugged, but the guest may still reach them or they still hold memory, because a
 *       plug failed and so did taking them back. There is at most one run of them: every resize,
 *       system reset, import of blocks and every request but STATE that passes its checks first
 *       tries again to take them back, and while that fails PLUG and UNPLUG_ALL are answered BUSY.
 *       So what the guest can hold stays bounded by the requested_size of the failed plug.
 * I6  usable_region_size shrinks only in UNPLUG_ALL, vmem_device_system_reset() and
 *     vmem_device_import_sizes().
 * I7  owner_size <= requested_size. owner_size is what vmem_device_resize(), the configuration or an
 *     import said last; what is above it was granted to the driver's size requests, and nothing is
 *     granted beyond request_limit, nor faster than request_rate. Without size_requests both sizes
 *     are the same, but for what was imported. An owner's word ends what was granted before.
 * I8  Work for a size request is constant: no block is looked at, and the host is asked at most once,
 *     for no more than ten of them a second.
 *
 * Ownership: the caller owns the device and the memory behind it.
 * Threads: the caller serialises all calls but vmem_device_info(), which any thread may call at any
 * time. Host ops run inside the calls that need them and must not call back into the device, except
 * vmem_device_info(); config_changed() and plugged_changed() come after the change and may also
 * call vmem_device_config_read().
 *
 * The guest controls: the bytes of each request, and their pace.
 */
#ifndef VMEM_DEVICE_H
#define VMEM_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmem/proto.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default) /* what a shared libvmem exports */

struct vmem_device;

/* A size request that policy would grant, for vmem_host_ops.size_wanted(). Sizes in bytes. */
struct vmem_size_want {
	uint64_t size;           /* the most that may be granted; above requested_size */
	uint64_t min_size;       /* less is of no use to the driver */
	uint64_t requested_size; /* as it is */
	uint64_t owner_size;
	uint16_t urgency, reason; /* VMEM_SIZE_URGENCY_..., VMEM_SIZE_REASON_... */
};

/*
 * The host's side. @offset and @size (never 0) are in bytes from the start of the region, multiples
 * of block_size, inside the region. Each returns 0 or -errno. -ENOMEM, -ENOSPC and -EDQUOT from
 * grant() or populate() mean that the host has not the memory: the guest gets NACK (translate what
 * else says so, like the -EFAULT of populating a huge page that is not there). Any other failure is
 * BUSY.
 *
 * Each is idempotent: a block that is in the wanted state already stays as it is, and a call may
 * mix such blocks with others. A call that fails may have done a part of its work: the engine
 * undoes it with the opposite call over the same run.
 */
struct vmem_host_ops {
	/*
	 * Let the guest use the run; called for runs of which every block is to become plugged, or
	 * is plugged and shall be usable again. It changes no content: blocks that were discarded
	 * or never granted read as zeros, blocks that were revoked but not discarded keep theirs.
	 */
	int (*grant)(void *host, uint64_t offset, uint64_t size);
	/* Make the host's memory be there for a granted run. May be NULL without prealloc. */
	int (*populate)(void *host, uint64_t offset, uint64_t size);
	/*
	 * Take the run from the guest: afterwards no access of the guest or of an emulated device
	 * reaches it. The run may hold blocks that were never granted (I4).
	 */
	int (*revoke)(void *host, uint64_t offset, uint64_t size);
	/* Give a revoked run's memory back to the host; content is lost. */
	int (*discard)(void *host, uint64_t offset, uint64_t size);
	/*
	 * usable_region_size or requested_size changed: send a configuration change notification.
	 * Not called in UNPLUG_ALL, nor for plugged_size, as the standard has it; both still change
	 * what vmem_device_config_read() gives, and so the transport's config_generation.
	 */
	void (*config_changed)(void *host);
	/*
	 * plugged_size changed: for events to whoever manages the VM, never for the guest. May be
	 * NULL.
	 */
	void (*plugged_changed)(void *host);
	/*
	 * The driver wants more, and limit and rate allow it: the requested_size that the host can
	 * spare for it. More than want->size counts as that, a part of a block as none, and what is
	 * less than requested_size or min_size as nothing: the driver may ask again after a second.
	 * May be NULL: all of it.
	 */
	uint64_t (*size_wanted)(void *host, const struct vmem_size_want *want);
};

struct vmem_device_config {
	uint64_t addr;               /* guest physical; multiple of block_size */
	uint64_t region_size;        /* bytes; multiple of block_size; may be 0 */
	uint64_t block_size;         /* bytes; power of two, at least 4096 */
	uint64_t requested_size;     /* initial; multiple of block_size, at most region_size */
	uint64_t usable_extra_bytes; /* slack of usable_region_size above a requested_size > 0 */
	uint16_t node_id;            /* valid if has_node: VIRTIO_MEM_F_ACPI_PXM */
	bool has_node;
	bool unplugged_inaccessible; /* offer VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE */
	bool prealloc;               /* populate before a plug is acknowledged */
	bool size_requests;          /* offer VMEM_F_SIZE_REQUEST; the others need it: */
	uint64_t request_limit; /* of requested_size by requests; multiple of block_size, at most
				   region_size; 0: region_size */
	uint64_t request_rate;  /* bytes a second that grants may grow by; 0: no limit */
};

/* A snapshot; each field is current by itself. Sizes in bytes. */
struct vmem_device_info {
	uint64_t addr, region_size, block_size;
	uint64_t usable_region_size, plugged_size, requested_size;
	uint64_t owner_size;                  /* requested_size without what was granted */
	uint64_t request_limit, request_rate; /* 0 without size_requests */
	uint16_t node_id;
	/* since vmem_device_new(): answers by request type and response type */
	uint64_t answers[VMEM_REQ_TYPES][VMEM_RESP_TYPES];
	uint64_t unknown_requests;
	uint64_t size_answers[VMEM_SIZE_RESP_TYPES];
	uint64_t host_failures; /* calls in which the host failed, undone cleanly */
	uint64_t host_faults;   /* those whose undo failed as well (I5) */
	/* at this moment; both 0 but after host_faults */
	uint64_t faulted_size; /* plugged, but out of the guest's reach */
	uint64_t stray_size;   /* unplugged, but not taken back from the guest */
};

/*
 * 0, -EINVAL (the configuration breaks a rule above, the region ends beyond 2^64, or an op that is
 * needed is missing), -ENOMEM; *ret_dev is written on success only. @ops and @host must outlive the
 * device. All blocks are unplugged; nothing is called in the host.
 */
int vmem_device_new(const struct vmem_device_config *config, const struct vmem_host_ops *ops,
		    void *host, struct vmem_device **ret_dev);
/* Revokes nothing: the memory is the caller's. NULL is allowed. */
void vmem_device_free(struct vmem_device *dev);

/* The feature bits to offer (bit numbers of VIRTIO 5.15.3). */
uint64_t vmem_device_features(const struct vmem_device *dev);

/* The configuration space as the guest reads it now (VIRTIO 5.15.4), little-endian. */
void vmem_device_config_read(const struct vmem_device *dev, struct vmem_config *ret_config);

/*
 * Process one request; *ret_resp is filled in completely. @req is the caller's own copy, not guest
 * memory. Any bytes are a valid argument: nonsense gets VMEM_RESP_ERROR. Returns the response's
 * type.
 */
uint16_t vmem_device_request(struct vmem_device *dev, const struct vmem_req *req,
			     struct vmem_resp *ret_resp);

/*
 * The owner's word: ask the guest for another size, and take back what was granted. 0, -EINVAL when
 * not a multiple of block_size, -ERANGE when beyond region_size; nothing changes then. May grow
 * usable_region_size; calls config_changed() when anything changed.
 */
int vmem_device_resize(struct vmem_device *dev, uint64_t requested_size);

/*
 * Process one size request (virtqueue 1); *ret_resp is filled in completely. @req is the caller's
 * own copy, any bytes are valid; without size_requests the answer is VMEM_SIZE_RESP_ERROR. @now_ms
 * is any monotonic clock's. Returns the response's type. What is granted may grow
 * usable_region_size; config_changed() is called when requested_size changed.
 *
 * Above requested_size: as much as request_limit, request_rate and size_wanted() allow, whole blocks,
 * at least min_size, else nothing. Grants grow by request_rate in a second, at least by a block, and
 * what was not used does not add up beyond that. Below: down to owner_size, at any rate.
 */
uint16_t vmem_device_size_request(struct vmem_device *dev, const struct vmem_size_req *req,
				  uint64_t now_ms, struct vmem_size_resp *ret_resp);

/*
 * Other bounds for size requests from now on; what was granted stays. Here 0 as @request_limit grants
 * nothing; @request_rate as in the configuration. 0, -EINVAL when the limit is not a multiple of
 * block_size or the device was made without size_requests, -ERANGE when it is beyond region_size;
 * nothing changes then.
 */
int vmem_device_set_request_policy(struct vmem_device *dev, uint64_t request_limit,
				   uint64_t request_rate);

/*
 * System reset (not device reset, which changes no block): unplugs everything, recomputes
 * usable_region_size, keeps requested_size but for what was granted. 0 when every block is unplugged now and no stray is
 * left; else the first error of the host that prevented it: runs that the host could not take back
 * stay plugged, the others are unplugged, and usable_region_size covers what is plugged. Calls
 * config_changed() when usable_region_size or requested_size changed.
 */
int vmem_device_system_reset(struct vmem_device *dev);

/*
 * Put a device into the state of another one, whose guest goes on with this one: a saved, or migrated,
 * virtual machine. First its blocks, run by run and in any order, then its sizes; requests are answered
 * at once, so a device has no other state. Its faulted blocks come as plugged. The driver is told
 * nothing: config_changed() is not called, for it knows the device as it was there. Where something
 * fails the device stays usable: what was imported so far is there.
 *
 * vmem_device_import_plug() grants the run, with prealloc populates it, and usable_region_size grows to
 * hold it; requested_size is no limit. 0, -EINVAL when it is no run of blocks, -ERANGE when it does
 * not lie in the region, -EEXIST when a block of it is plugged already; else the host's error, undone
 * as for a request (I5), or -EBUSY with a stray that cannot be taken back.
 *
 * vmem_device_import_unplug() revokes and discards the run, which may hold any blocks: what changed at
 * the other device since. 0, -EINVAL, -ERANGE, or the host's error, undone as for a request.
 *
 * vmem_device_import_sizes(): 0, -EINVAL when one of them is not a multiple of block_size, -ERANGE
 * unless owner_size <= requested_size <= usable_region_size <= region_size, -EEXIST when a block
 * beyond @usable_region_size is plugged; nothing changes then. What was granted stays granted, also
 * beyond this device's own request_limit.
 */
int vmem_device_import_plug(struct vmem_device *dev, uint64_t offset, uint64_t size);
int vmem_device_import_unplug(struct vmem_device *dev, uint64_t offset, uint64_t size);
int vmem_device_import_sizes(struct vmem_device *dev, uint64_t owner_size, uint64_t requested_size,
			     uint64_t usable_region_size);

/*
 * May the guest use every block that [gpa, gpa + size) touches: plugged and not faulted? False when
 * @size is 0 and for anything outside the region.
 */
bool vmem_device_plugged(const struct vmem_device *dev, uint64_t gpa, uint64_t size);

/*
 * Call @fn for each maximal run of plugged blocks that are not faulted, ascending, until it returns
 * non-zero; that result, else 0. @offset and @size are in bytes from the start of the region. @fn
 * must not change the device.
 */
int vmem_device_for_each_plugged(const struct vmem_device *dev,
				 int (*fn)(void *opaque, uint64_t offset, uint64_t size),
				 void *opaque);
/* The same for each maximal run of faulted blocks: the two tell of all that is plugged. */
int vmem_device_for_each_faulted(const struct vmem_device *dev,
				 int (*fn)(void *opaque, uint64_t offset, uint64_t size),
				 void *opaque);

void vmem_device_info(const struct vmem_device *dev, struct vmem_device_info *ret_info);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
