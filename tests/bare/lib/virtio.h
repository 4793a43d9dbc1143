/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio over PCI, modern: VIRTIO 1.3, 3.1 (initialization) and 4.1 (PCI).
 *
 * How completions are learnt of is chosen on the command line: irq=msix (the default), irq=intx or
 * irq=poll. With interrupts, a wait ends only when the interrupt came as well as the answer, so a
 * lost one is a failed test.
 *
 * I1  A device is driven by the boot processor only.
 */
#ifndef BARE_VIRTIO_H
#define BARE_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "pci.h"
#include "vring.h"

#define VIRTIO_VENDOR     0x1af4u
#define VIRTIO_DEVICE_0   0x1040u
#define VIRTIO_ID_ENTROPY 4u

#define VIRTIO_ACKNOWLEDGE 1u
#define VIRTIO_DRIVER      2u
#define VIRTIO_DRIVER_OK   4u
#define VIRTIO_FEATURES_OK 8u
#define VIRTIO_NEEDS_RESET 64u
#define VIRTIO_FAILED      128u

#define VIRTIO_F_INDIRECT  (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_PACKED    (1ull << 34)
#define VIRTIO_NO_VECTOR   0xffffu

#define VIRTIO_TICK_MS 20u /* how long a sleep takes at most, without tick=MS (at most 4000) */

/* struct virtio_pci_common_cfg, by offset */
#define VIRTIO_C_DEVICE_FEATURE_SELECT 0x00u
#define VIRTIO_C_DEVICE_FEATURE        0x04u
#define VIRTIO_C_DRIVER_FEATURE_SELECT 0x08u
#define VIRTIO_C_DRIVER_FEATURE        0x0cu
#define VIRTIO_C_CONFIG_VECTOR         0x10u
#define VIRTIO_C_NUM_QUEUES            0x12u
#define VIRTIO_C_STATUS                0x14u
#define VIRTIO_C_GENERATION            0x15u
#define VIRTIO_C_QUEUE_SELECT          0x16u
#define VIRTIO_C_QUEUE_SIZE            0x18u
#define VIRTIO_C_QUEUE_VECTOR          0x1au
#define VIRTIO_C_QUEUE_ENABLE          0x1cu
#define VIRTIO_C_QUEUE_NOTIFY          0x1eu
#define VIRTIO_C_QUEUE_DESC            0x20u
#define VIRTIO_C_QUEUE_DRIVER          0x28u
#define VIRTIO_C_QUEUE_DEVICE          0x30u

enum virtio_irq { VIRTIO_MSIX, VIRTIO_INTX, VIRTIO_POLL };

struct virtio {
	struct pci_dev pci;
	struct pci_msix msix;
	enum virtio_irq irq;
	unsigned int vector;                  /* configuration changes; the queue's is the next */
	uint64_t common, isr, config, notify; /* gpa */
	uint32_t notify_multiplier;
	uint64_t notify_gpa; /* of queue 0 */
	uint64_t features;
	struct vring queue; /* queue 0 */
	/* set before virtio_start(): there is a queue 1, which shares queue 0's interrupt */
	bool second;
	struct vring queue1;
	uint64_t notify1_gpa;
	/* changed by interrupt handlers */
	volatile uint64_t queue_interrupts, config_interrupts;
	uint64_t queue_seen;
};

/* Find the @nth device of this type and its registers. */
bool virtio_open(struct virtio *v, unsigned int type, unsigned int nth);
/* The same for the virtio device that @dev is. */
bool virtio_open_at(struct virtio *v, struct pci_dev dev);
uint64_t virtio_offered(struct virtio *v);
void virtio_reset(struct virtio *v);
uint8_t virtio_status(const struct virtio *v);
/*
 * Reset and initialise with queue 0, and queue 1 if @second: @features and what the command line
 * chooses (ring=packed, event_idx=1, indirect=1). False when the device does not offer one of them or
 * refuses.
 */
bool virtio_start(struct virtio *v, uint64_t features);
/* Steps of it, for tests that leave the path. */
bool virtio_negotiate(struct virtio *v, uint64_t features);
void virtio_queue_setup(struct virtio *v, uint16_t size);
/*
 * Lay out and enable any one queue, which shares queue 0's interrupt, for drivers of many; where its
 * doorbell is.
 */
uint64_t virtio_queue_enable(struct virtio *v, struct vring *queue, uint16_t index, uint16_t size);
void virtio_driver_ok(struct virtio *v);

uint64_t virtio_config64(const struct virtio *v, unsigned int offset);
/* The first @size bytes, a multiple of 4, as they were at one time. */
void virtio_config_copy(const struct virtio *v, void *to, unsigned int size);

/* A clock that goes on while interrupts are taken: a tick after the other. */
uint64_t virtio_now_ms(void);

void virtio_notify(struct virtio *v);
void virtio_notify1(struct virtio *v); /* queue 1 */
/* Wait for one used chain. False when it does not come, or not its interrupt. */
bool virtio_wait(struct virtio *v, uint32_t *ret_len);
/* Add, notify, wait. */
bool virtio_do(struct virtio *v, const struct vring_segment *segments, unsigned int count,
	       uint32_t *ret_len);
/* Wait until status has a bit of @mask. */
bool virtio_wait_status(const struct virtio *v, uint8_t mask);
/* Sleep (or spin, in polling mode) until something may have happened; interrupts are off. */
void virtio_idle(const struct virtio *v);

#endif
