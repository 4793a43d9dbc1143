/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio device for tests that copies what it reads to where it may write, behind a transport
 * that counts, on a loop that the test turns by hand; so every interleaving is the test's choice.
 */
#ifndef TESTS_UNIT_VIRTIO_ECHO_H
#define TESTS_UNIT_VIRTIO_ECHO_H

#include "tests/unit/virtio/driver.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/virtio_transport.h"

#define ECHO_QUEUES     2
#define ECHO_QUEUE_SIZE 16
#define ECHO_CONFIG     12
#define ECHO_F_TASTE    0 /* a feature of its own */
#define ECHO_F_VETO     1 /* one that it offers and then refuses */

struct echo {
	struct guest g;
	struct loop *loop;
	struct virtio_device *vdev;
	struct vq_chain *chain;
	struct driver d;
	uint8_t config[ECHO_CONFIG];
	/* what the device saw */
	unsigned int handled, kicks, resets, system_resets, queue_resets, driver_oks;
	unsigned int stop_after; /* chains after which queue_kick() stops by itself; 0: never */
	void (*in_kick)(struct echo *e);
	/* what the transport saw */
	unsigned int queue_irqs, config_irqs, transport_resets;
	bool dma;
};

void echo_init(struct echo *e, bool packed);
void echo_done(struct echo *e);

/* All features that the device offers but ECHO_F_VETO. */
uint64_t echo_features(const struct echo *e);
/* Up to FEATURES_OK with @features. */
void echo_negotiate(struct echo *e, uint64_t features);
/* Tell the device where e->d's ring is, and enable it as queue 0. */
void echo_set_queue(struct echo *e);
/* All of it: negotiate, a fresh ring of ECHO_QUEUE_SIZE, DRIVER_OK. */
void echo_start(struct echo *e, uint64_t features);

void echo_status(struct echo *e, uint8_t value);
uint8_t echo_get_status(struct echo *e);
void echo_kick(struct echo *e);
/* Turn the loop until it has nothing to do, at most @rounds times. */
void echo_turn(struct echo *e, unsigned int rounds);

/* One request there and back; fails the test when the device does not answer. */
void echo_check_works(struct echo *e);

#endif
