/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem wire format: VIRTIO 1.3, 5.15 "Memory Device" (device type 24).
 *
 * Shared by devices and drivers; plain C11, also valid C++, no dependency but <stdint.h>.
 *
 * I1  Every multi-byte field is little-endian whatever the machine is: readers and writers convert
 *     (le16toh(), htole64() and their like).
 * I2  Every field lies at a multiple of its own size, so that no structure needs packing; sizes and
 *     offsets are asserted below.
 *
 * A device copies a request out of guest memory before it looks at it: the driver may change the
 * original at any time.
 */
#ifndef VMEM_PROTO_H
#define VMEM_PROTO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define VMEM_PROTO_ASSERT(cond, text) static_assert(cond, text)
#else
#define VMEM_PROTO_ASSERT(cond, text) _Static_assert(cond, text)
#endif

#define VMEM_DEVICE_ID 24

/* Virtqueues; the second only with VMEM_F_SIZE_REQUEST. */
#define VMEM_QUEUE_REQUEST 0
#define VMEM_QUEUE_SIZE    1
#define VMEM_QUEUE_COUNT   2

/* Feature bits, as bit numbers (5.15.3). */
#define VMEM_F_ACPI_PXM               0 /* node_id is valid: an ACPI proximity domain */
#define VMEM_F_UNPLUGGED_INACCESSIBLE 1 /* the driver never touches unplugged memory */
/*
 * Not in the standard: the driver may ask for another requested_size (docs/virtio-mem.md). The number is
 * one of those that device types may use, 50 to 127 (2.2).
 */
#define VMEM_F_SIZE_REQUEST 60

/* vmem_req.type */
#define VMEM_REQ_PLUG       0
#define VMEM_REQ_UNPLUG     1
#define VMEM_REQ_UNPLUG_ALL 2
#define VMEM_REQ_STATE      3
#define VMEM_REQ_TYPES      4

/* vmem_resp.type */
#define VMEM_RESP_ACK   0 /* done */
#define VMEM_RESP_NACK  1 /* not allowed now: beyond requested_size, or the host has no memory */
#define VMEM_RESP_BUSY  2 /* cannot be processed now: try again */
#define VMEM_RESP_ERROR 3 /* the request itself is wrong */
#define VMEM_RESP_TYPES 4

/* vmem_resp.state_type, only in the ACK of a STATE request */
#define VMEM_STATE_PLUGGED   0
#define VMEM_STATE_UNPLUGGED 1
#define VMEM_STATE_MIXED     2

/*
 * A request (5.15.6). PLUG, UNPLUG and STATE use addr and nb_blocks; UNPLUG_ALL uses type alone.
 * The standard writes the part after the first padding as a union of three structures of one
 * layout.
 */
struct vmem_req {
	uint16_t type;
	uint16_t padding[3];
	uint64_t addr; /* guest physical address of the first block */
	uint16_t nb_blocks;
	uint16_t data_padding[3];
};

/* A response: always 10 bytes, whatever the request was. */
struct vmem_resp {
	uint16_t type;
	uint16_t padding[3];
	uint16_t state_type;
};

/*
 * Extension VMEM_F_SIZE_REQUEST: a request on virtqueue 1, and its answer. The driver says what
 * plugged_size it would like to have; the device answers at once, and what it grants becomes
 * requested_size, by the ordinary notification.
 */

/* vmem_size_req.type */
#define VMEM_SIZE_REQ_WANT  0 /* size is wanted: more than requested_size asks, less offers */
#define VMEM_SIZE_REQ_TYPES 1

/* vmem_size_req.urgency */
#define VMEM_SIZE_URGENCY_LOW      0 /* it would be of use */
#define VMEM_SIZE_URGENCY_NORMAL   1 /* memory is short */
#define VMEM_SIZE_URGENCY_HIGH     2 /* work is held up */
#define VMEM_SIZE_URGENCY_CRITICAL 3 /* work is about to fail */
#define VMEM_SIZE_URGENCIES        4

/* vmem_size_req.reason */
#define VMEM_SIZE_REASON_NONE       0 /* not told */
#define VMEM_SIZE_REASON_PRESSURE   1 /* the system as a whole is short of memory */
#define VMEM_SIZE_REASON_ALLOCATION 2 /* somebody is about to use that much */
#define VMEM_SIZE_REASON_OOM        3 /* programs would have to be ended */
#define VMEM_SIZE_REASON_IDLE       4 /* memory is left over */
#define VMEM_SIZE_REASONS           5

/* vmem_size_resp.type */
#define VMEM_SIZE_RESP_GRANTED 0 /* requested_size is what was wanted */
#define VMEM_SIZE_RESP_PARTLY  1 /* it went that way, not as far; vmem_size_resp.cause tells why */
#define VMEM_SIZE_RESP_REFUSED 2 /* requested_size stays: asking again for as much is of no use */
#define VMEM_SIZE_RESP_LATER   3 /* requested_size stays: ask again after retry_ms */
#define VMEM_SIZE_RESP_ERROR   4 /* the request itself is wrong */
#define VMEM_SIZE_RESP_TYPES   5

/* vmem_size_resp.cause */
#define VMEM_SIZE_CAUSE_NONE  0
#define VMEM_SIZE_CAUSE_LIMIT 1 /* the most that the device's owner allows */
#define VMEM_SIZE_CAUSE_RATE  2 /* too much, or too often, in too short a time */
#define VMEM_SIZE_CAUSE_FLOOR 3 /* the least that the device's owner wants the guest to have */
#define VMEM_SIZE_CAUSE_HOST  4 /* the host cannot spare it */
#define VMEM_SIZE_CAUSES      5

struct vmem_size_req {
	uint16_t type;
	uint16_t urgency;
	uint16_t reason;
	uint16_t padding;
	uint64_t size;     /* bytes; multiple of block_size, at most region_size */
	uint64_t min_size; /* less than this would be of no use; 0: anything is */
};

struct vmem_size_resp {
	uint16_t type;
	uint16_t cause;
	uint32_t retry_ms; /* LATER, and PARTLY with CAUSE_RATE; else 0 */
	uint64_t size;     /* requested_size now */
};

VMEM_PROTO_ASSERT(sizeof(struct vmem_size_req) == 24, "a size request is 24 bytes");
VMEM_PROTO_ASSERT(offsetof(struct vmem_size_req, size) == 8, "size request: size");
VMEM_PROTO_ASSERT(offsetof(struct vmem_size_req, min_size) == 16, "size request: min_size");
VMEM_PROTO_ASSERT(sizeof(struct vmem_size_resp) == 16, "a size response is 16 bytes");
VMEM_PROTO_ASSERT(offsetof(struct vmem_size_resp, size) == 8, "size response: size");

/* The device configuration space (5.15.4); read-only for the driver. Sizes in bytes. */
struct vmem_config {
	uint64_t block_size;
	uint16_t node_id;
	uint8_t padding[6];
	uint64_t addr;
	uint64_t region_size;
	uint64_t usable_region_size;
	uint64_t plugged_size;
	uint64_t requested_size;
};

VMEM_PROTO_ASSERT(sizeof(struct vmem_req) == 24, "a request is 24 bytes");
VMEM_PROTO_ASSERT(offsetof(struct vmem_req, addr) == 8, "request: addr");
VMEM_PROTO_ASSERT(offsetof(struct vmem_req, nb_blocks) == 16, "request: nb_blocks");
VMEM_PROTO_ASSERT(sizeof(struct vmem_resp) == 10, "a response is 10 bytes");
VMEM_PROTO_ASSERT(offsetof(struct vmem_resp, state_type) == 8, "response: state_type");
VMEM_PROTO_ASSERT(sizeof(struct vmem_config) == 56, "the configuration is 56 bytes");
VMEM_PROTO_ASSERT(offsetof(struct vmem_config, node_id) == 8, "configuration: node_id");
VMEM_PROTO_ASSERT(offsetof(struct vmem_config, addr) == 16, "configuration: addr");
VMEM_PROTO_ASSERT(offsetof(struct vmem_config, region_size) == 24, "configuration: region_size");
VMEM_PROTO_ASSERT(offsetof(struct vmem_config, usable_region_size) == 32,
		  "configuration: usable_region_size");
VMEM_PROTO_ASSERT(offsetof(struct vmem_config, plugged_size) == 40, "configuration: plugged_size");
VMEM_PROTO_ASSERT(offsetof(struct vmem_config, requested_size) == 48,
		  "configuration: requested_size");

#endif
