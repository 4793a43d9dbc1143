/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem device engine: VIRTIO 1.3, 5.15 "Memory Device" (device type 24).
 *
 * It decides requests and keeps the state of memory blocks; it makes no system call, allocates
 * only in vmem_device_new(), starts no thread, and reaches the host through struct vmem_host_ops.
 * Virtqueues and configuration space belong to the caller's transport.
 *
 * I1  The block map changes only in the commit step, after every host call of a request succeeded;
 *     commit cannot fail.
 * I2  A block is plugged in the map only if the host granted it. A block that is unplugged in the
 *     map is revoked in the host and its memory discarded, but after a failed undo (I5).
 * I3  plugged_size is the number of plugged blocks times block_size, and every plugged block lies
 *     below usable_region_size. requested_size <= usable_region_size <= region_size, all multiples
 *     of block_size.
 * I4  Order of a plug: grant, populate (prealloc only), commit. Order of an unplug: revoke, discard,
 *     commit. The answer is given after commit, so ACK means done on both sides.
 * I5  After a failed host call the blocks are as before the request. When undoing fails too, the
 *     blocks stay revoked (safe, but not usable), host_faults counts it, and the next successful
 *     unplug of these blocks or system reset ends that state.
 * I6  usable_region_size shrinks only in UNPLUG_ALL and in vmem_device_system_reset().
 *
 * Ownership: the caller owns the device and the memory behind it.
 * Threads: the caller serialises all calls but vmem_device_info(), which any thread may call at any
 * time. Host ops run inside the calls that need them and must not call back into the device, except
 * vmem_device_info().
 * The guest controls: the bytes of each request.
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

struct vmem_device;

/*
 * The host's side. @offset and @size are in bytes from the start of the region, multiples of
 * block_size, inside the region; a call covers one run of blocks. Each returns 0 or -errno.
 */
struct vmem_host_ops {
	/* Let the guest use the run. It reads as zeros afterwards. */
	int (*grant)(void *host, uint64_t offset, uint64_t size);
	/* Make the host's memory be there for a granted run; only called with prealloc. May be NULL. */
	int (*populate)(void *host, uint64_t offset, uint64_t size);
	/* Take the run from the guest: afterwards no access of the guest or of an emulated device reaches it. */
	int (*revoke)(void *host, uint64_t offset, uint64_t size);
	/* Give a revoked run's memory back to the host; content is lost. */
	int (*discard)(void *host, uint64_t offset, uint64_t size);
	/* usable_region_size or requested_size changed: send a configuration change notification. */
	void (*config_changed)(void *host);
	/* plugged_size changed (for events to whoever manages the VM, never for the guest). May be NULL. */
	void (*plugged_changed)(void *host);
};

struct vmem_device_config {
	uint64_t addr;		     /* guest physical; multiple of block_size */
	uint64_t region_size;	     /* bytes; multiple of block_size; may be 0 */
	uint64_t block_size;	     /* bytes; power of two, at least 4096 */
	uint64_t requested_size;     /* initial; multiple of block_size, at most region_size */
	uint64_t usable_extra_bytes; /* slack that usable_region_size keeps above requested_size */
	uint16_t node_id;	     /* valid if has_node: VIRTIO_MEM_F_ACPI_PXM */
	bool has_node;
	bool unplugged_inaccessible; /* offer VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE */
	bool prealloc;		     /* populate before a plug is acknowledged */
};

/* A snapshot; each field is current by itself. Sizes in bytes. */
struct vmem_device_info {
	uint64_t addr, region_size, block_size;
	uint64_t usable_region_size, plugged_size, requested_size;
	uint16_t node_id;
	/* since vmem_device_new(): answers by request type and response type */
	uint64_t answers[VMEM_REQ_TYPES][VMEM_RESP_TYPES];
	uint64_t unknown_requests;
	uint64_t host_failures; /* host ops that failed, undone cleanly */
	uint64_t host_faults;	/* failures whose undo failed as well (I5) */
};

/*
 * 0, -EINVAL (the configuration breaks a rule above), -ENOMEM. @ops and @host must outlive the
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
 * Process one request; *ret_resp is filled in completely. Any bytes are a valid argument: nonsense
 * gets VMEM_RESP_ERROR. Returns the response's type.
 */
uint16_t vmem_device_request(struct vmem_device *dev, const struct vmem_req *req,
			     struct vmem_resp *ret_resp);

/*
 * Ask the guest for another size. 0, -EINVAL when not a multiple of block_size, -ERANGE when
 * beyond region_size; nothing changes then. May grow usable_region_size; calls config_changed()
 * when anything changed.
 */
int vmem_device_resize(struct vmem_device *dev, uint64_t requested_size);

/*
 * System reset (not device reset, which changes no block): unplugs everything, recomputes
 * usable_region_size, keeps requested_size. The first error of the host, if any; blocks whose host
 * calls failed stay plugged.
 */
int vmem_device_system_reset(struct vmem_device *dev);

/* Is every block that [gpa, gpa + size) touches plugged? False for anything outside the region. */
bool vmem_device_plugged(const struct vmem_device *dev, uint64_t gpa, uint64_t size);

/* Call @fn for each maximal run of plugged blocks, ascending, until it returns non-zero; that result. */
int vmem_device_for_each_plugged(const struct vmem_device *dev,
				 int (*fn)(void *opaque, uint64_t offset, uint64_t size),
				 void *opaque);

void vmem_device_info(const struct vmem_device *dev, struct vmem_device_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
