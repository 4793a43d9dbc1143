/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A byte queue that grows as needed up to a limit.
 *
 * I1  It never holds more than its limit; a push takes what fits.
 * I2  When memory is out, a push takes what fits without growing.
 *
 * Threads: none; the owner locks.
 */
#ifndef VMM_CHARDEV_RING_H
#define VMM_CHARDEV_RING_H

#include <stddef.h>
#include <stdint.h>

struct chr_ring {
	uint8_t *data;
	size_t size, limit; /* allocated, allowed */
	size_t first, count;
};

void chr_ring_init(struct chr_ring *ring, size_t limit);
void chr_ring_done(struct chr_ring *ring);
/* Empty it and give its memory back. */
void chr_ring_clear(struct chr_ring *ring);
/* Return how many bytes were taken (given). */
size_t chr_ring_push(struct chr_ring *ring, const uint8_t *buf, size_t size);
size_t chr_ring_pull(struct chr_ring *ring, uint8_t *buf, size_t size);

#endif
