/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The entropy device: VIRTIO 1.3, 5.4 "Entropy Device" (device type 4). Random bytes come from
 * getrandom(2).
 *
 * I1  A buffer is answered with at least one random byte, unless it has none to write (answered
 *     with 0), and with RNG_REQUEST_BYTES_MAX at most: the standard lets a device give less.
 * I2  With a limit, no more than max_bytes are given in any period; a device reset does not refill
 *     it. Requests beyond it wait for the next period and cost no processor time meanwhile.
 * I3  Loading keeps to I2 with the limit that is set here: what is left of the quota and of the
 *     period goes on, cut to it. A request that waited is taken from the ring again.
 *
 * Ownership: the caller owns the struct rng; gm and loop outlive it.
 * Threads: the device lock (virtio.h) guards everything.
 * The guest controls: the number, place and size of the buffers.
 */
#ifndef VMM_VIRTIO_RNG_H
#define VMM_VIRTIO_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct gm;
struct loop;
struct rng;
struct virtio_device;

#define RNG_REQUEST_BYTES_MAX 65536

/* Not limited: at most 2^63 - 1 bytes in 65.536 s. */
#define RNG_MAX_BYTES_DEFAULT INT64_MAX
#define RNG_PERIOD_MS_DEFAULT 65536

struct rng_config {
	const char *id;
	uint64_t max_bytes;                                 /* in each period; 1 to 2^63 - 1 */
	uint32_t period_ms;                                 /* at least 1 */
	bool packed, event_idx, indirect_desc, queue_reset; /* virtio.h */
	struct gm *gm;
	struct loop *loop;
};

/* NULL and *err, also for a limit that is out of range. */
struct rng *rng_new(const struct rng_config *config, struct err **err);
/* Its transport must be gone. NULL is allowed. */
void rng_free(struct rng *rng);

/* For the transport; lives as long as the rng. */
struct virtio_device *rng_device(struct rng *rng);

#endif
