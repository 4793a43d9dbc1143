/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-mem device for tests, between the real engine, guard and guest memory on one side and
 * the driver's side of a real ring on the other. The hypervisor is an array of slots that fails on
 * demand and checks, at each call, that guest memory was taken away before and is given after.
 *
 * Threads: the loop is turned by the test's thread, unless the rig was made with a thread.
 */
#ifndef TESTS_UNIT_VIRTIO_MEM_RIG_H
#define TESTS_UNIT_VIRTIO_MEM_RIG_H

#include <semaphore.h>
#include <stdatomic.h>

#include "tests/unit/virtio/driver.h"
#include "vmm/core/hv.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/virtio_transport.h"

#define RIG_ADDR   UINT64_C(0x140000000)
#define RIG_BLOCK  (64 * KIB)
#define RIG_BLOCKS 16
#define RIG_SIZE   (RIG_BLOCKS * RIG_BLOCK)
#define RIG_SLOT   (4 * RIG_BLOCK)
#define RIG_EXTRA  (2 * RIG_BLOCK) /* usable_region_size beyond requested_size */
#define RIG_MEMORY (16 * RIG_SIZE) /* what there is for a device that a tweak makes larger */

#define RIG_FEATURES \
	(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VMEM_F_UNPLUGGED_INACCESSIBLE))

/* The vCPU whose exit the calling thread handles; -1 at first. */
extern _Thread_local int rig_vcpu;

struct rig {
	struct guest g;
	struct driver d;
	struct loop *loop;
	struct bus *mmio;
	uint8_t *memory;
	struct virtio_mem_config config;
	struct virtio_mem *mem;
	struct virtio_device *vdev;
	uint64_t request_gpa, answer_gpa; /* of rig_request() */
	/* the hypervisor */
	struct hv hv;
	struct range slots[RIG_BLOCKS];
	unsigned int adds, removes;
	unsigned int replaces;
	int add_error, remove_error, replace_error; /* what the next calls return, unless 0 */
	atomic_uint violations;                     /* calls of config.violation */
	atomic_uint changes;                        /* calls of config.changed */
	void (*on_add)(struct rig *r); /* called when a slot is about to be added; or NULL */
	/* A slot came or went while emulated devices reached its blocks; not asserted on the spot,
	 * where the device lock is held. */
	bool order_broken;
	/* the transport */
	sem_t answered; /* a queue interrupt */
	atomic_uint config_irqs;
};

/* 16 blocks, all requested, none plugged. @tweak may change the configuration. */
void rig_init(struct rig *r, void (*tweak)(struct virtio_mem_config *config));
/* The same with a loop that has a thread of its own. */
void rig_init_thread(struct rig *r, void (*tweak)(struct virtio_mem_config *config));
void rig_done(struct rig *r);

/* A clock for config.now_ms that stands still until the test moves it. */
extern _Thread_local uint64_t rig_now_ms;
uint64_t rig_clock_ms(void);

/* For fixtures: *state becomes a rig of its own, the clock stands at 1000 s. */
int rig_setup(void **state, void (*tweak)(struct virtio_mem_config *config));
int rig_teardown(void **state);

/* The driver gets as far as FEATURES_OK, and all the way. */
void rig_negotiate(struct rig *r, uint64_t features);
void rig_start(struct rig *r);
void rig_status(struct rig *r, uint8_t value);
uint8_t rig_get_status(struct rig *r);
/* Let the loop do what there is to do. */
void rig_turn(struct rig *r);

/* A request about whole blocks, there and back; the answer's type. */
uint16_t rig_request(struct rig *r, uint16_t type, uint64_t first, uint16_t count);
/* The state_type of the last answer. */
uint16_t rig_state_type(struct rig *r);
/* Make buffers available, and have them looked at; true when they were given back. */
bool rig_offer(struct rig *r, const struct driver_buffer *buffers, unsigned int n,
	       uint32_t *ret_len);
void rig_put_request(struct rig *r, uint64_t gpa, uint16_t type, uint64_t first, uint16_t count);

/* The configuration space, and the generation in which it was read. */
uint8_t rig_config(struct rig *r, struct vmem_config *ret_config);

/* Which blocks emulated devices can reach: a bit each. */
uint32_t rig_reachable(struct rig *r);
/* Which blocks lie in a slot that the guest has: a bit each. */
uint32_t rig_mapped(const struct rig *r);
/* Which blocks this process, and so the guest in a slot that it has, can write to: a bit each. */
uint32_t rig_writable(const struct rig *r);
/* Host pages held for blocks. */
uint64_t rig_pages(const struct rig *r, uint64_t first, uint64_t count);
/* Make discarding a block fail, and only that; and end it. */
void rig_lock_block(struct rig *r, uint64_t block);
void rig_unlock_block(struct rig *r, uint64_t block);
/* Take host addresses away from under a block, so that host calls fail; and give them back. */
void rig_break_block(struct rig *r, uint64_t block);
void rig_mend_block(struct rig *r, uint64_t block);

uint64_t rig_plugged_bytes(struct rig *r);

#endif
