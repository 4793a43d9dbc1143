/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A balloon for tests, between guest memory of several kinds on one side and the driver's side of
 * real rings on the other. What it gives back is noted, and really becomes zeros.
 *
 * Threads: the loop is turned by the test's thread.
 */
#ifndef TESTS_UNIT_VIRTIO_BALLOON_RIG_H
#define TESTS_UNIT_VIRTIO_BALLOON_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/virtio/driver.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/virtio_transport.h"

#define RIG_PAGE  BALLOON_PAGE
#define RIG_LARGE (UINT64_C(16) * RIG_PAGE) /* a large host page here */

/*
 * Where memory is: of small pages, of large ones, blocks that come and go, what stays in any case.
 */
#define RIG_RAM         UINT64_C(0x10000000)
#define RIG_RAM_SIZE    (UINT64_C(128) << 20)
#define RIG_HUGE        UINT64_C(0x20008000) /* at no multiple of its pages */
#define RIG_HUGE_SIZE   (16 * RIG_LARGE)
#define RIG_DEVICE      UINT64_C(0x30000000)
#define RIG_BLOCK       (16 * RIG_PAGE)
#define RIG_DEVICE_SIZE (16 * RIG_BLOCK)
#define RIG_FIXED       UINT64_C(0x40000000)
#define RIG_FIXED_SIZE  (16 * RIG_PAGE)

#define RIG_BOOT (UINT64_C(1) << 30) /* the balloon's idea of boot memory */

enum { INFLATE, DEFLATE, STATS, HINTS, REPORTS, QUEUES };

#define RIG_CALLS 64

struct rig_memory {
	struct rig *rig;
	uint64_t gpa, size;
	uint8_t *host;
};

struct rig {
	struct guest g;
	struct loop *loop;
	struct balloon_config config;
	struct balloon *balloon;
	struct virtio_device *vdev;
	struct driver d[QUEUES];
	struct rig_memory ram, huge, device, fixed;
	struct gm_region *region; /* of the blocks that come and go */
	bool packed;
	unsigned int irqs[QUEUES], config_irqs, changes;
	/* discards: all of them, and where the first ones were */
	unsigned int calls;
	struct range call[RIG_CALLS];
	uint64_t bytes;
	int ret;           /* what the next ones say */
	unsigned int busy; /* so many of the next ones find somebody busy */
};

/* The driver's features; VERSION_1 and the rings' come by themselves. */
#define RIG_ALL                                                                             \
	(VIRTIO_FEATURE(BALLOON_F_MUST_TELL_HOST) | VIRTIO_FEATURE(BALLOON_F_STATS_VQ) |    \
	 VIRTIO_FEATURE(BALLOON_F_FREE_PAGE_HINT) | VIRTIO_FEATURE(BALLOON_F_PAGE_POISON) | \
	 VIRTIO_FEATURE(BALLOON_F_REPORTING))

/* Everything is offered; @tweak may change that. No driver yet. */
void rig_init(struct rig *r, void (*tweak)(struct balloon_config *config));
void rig_done(struct rig *r);
/* For fixtures: a driver that accepted RIG_ALL works with it. */
int rig_setup(void **state);
int rig_setup_packed(void **state);
int rig_teardown(void **state);

/* Reset, negotiate, set all queues up that are there, DRIVER_OK. */
void rig_start(struct rig *r, uint64_t features);
void rig_reset(struct rig *r);
/* Let the loop do what there is to do. */
void rig_turn(struct rig *r);
/* The same until @queue gave something back; its length. */
uint32_t rig_wait(struct rig *r, unsigned int queue);

/* Make a buffer available and kick. */
void rig_add(struct rig *r, unsigned int queue, const struct driver_buffer *buffers,
	     unsigned int n);
/* How many buffers came back since the last time. */
unsigned int rig_used(struct rig *r, unsigned int queue);
/* Page numbers in guest memory: where they are. */
uint64_t rig_put(struct rig *r, const uint32_t *pages, unsigned int nr);
/* A whole request: page numbers, there and back. */
void rig_pages(struct rig *r, unsigned int queue, const uint32_t *pages, unsigned int nr);
/* The pages of [gpa, gpa + size), in order. */
void rig_range(struct rig *r, unsigned int queue, uint64_t gpa, uint64_t size);
/* A report of one range, there and back. */
void rig_report(struct rig *r, uint64_t gpa, uint32_t size);

struct rig_layout {
	uint32_t num_pages, actual, free_page_hint_cmd_id, poison_val;
};
struct rig_layout rig_config(struct rig *r);
void rig_set_config(struct rig *r, uint32_t offset, uint32_t value);
struct balloon_info rig_info(struct rig *r);

/* Does the driver have to reset the device? */
bool rig_broken(struct rig *r);
/* Is every byte @value? */
bool rig_holds(struct rig *r, uint64_t gpa, uint64_t size, uint8_t value);
/* All memory is full of @value, and nothing is noted. */
void rig_fill(struct rig *r, uint8_t value);

#endif
