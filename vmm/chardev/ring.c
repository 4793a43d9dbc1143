/* SPDX-License-Identifier: BSD-3-Clause */
/* A byte queue: see ring.h for the contract. */
#include "vmm/chardev/ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define CHR_RING_MIN_BYTES 1024
/* A larger buffer is given back when it is empty. */
#define CHR_RING_KEEP_BYTES 65536

void chr_ring_init(struct chr_ring *ring, size_t limit)
{
	*ring = (struct chr_ring){.limit = limit};
}

void chr_ring_done(struct chr_ring *ring)
{
	free(ring->data);
	ring->data = NULL;
}

void chr_ring_clear(struct chr_ring *ring)
{
	chr_ring_done(ring);
	chr_ring_init(ring, ring->limit);
}

/* Make room for @wanted bytes in all if that is allowed; unchanged when memory is out. */
static void chr_ring_grow(struct chr_ring *ring, size_t wanted)
{
	size_t size = ring->size ? ring->size : CHR_RING_MIN_BYTES;
	uint8_t *data;
	size_t head;

	wanted = num_min(wanted, ring->limit);
	if (wanted <= ring->size)
		return;
	while (size < wanted)
		size *= 2;
	size = num_min(size, ring->limit);
	data = malloc(size);
	if (!data)
		return;
	head = num_min(ring->count, ring->size - ring->first);
	if (ring->count) {
		memcpy(data, ring->data + ring->first, head);
		memcpy(data + head, ring->data, ring->count - head);
	}
	free(ring->data);
	ring->data = data;
	ring->size = size;
	ring->first = 0;
}

size_t chr_ring_push(struct chr_ring *ring, const uint8_t *buf, size_t size)
{
	size_t at, head;

	size = num_min(size, ring->limit - ring->count);
	chr_ring_grow(ring, ring->count + size);
	size = num_min(size, ring->size - ring->count);
	if (!size)
		return 0;
	at = (ring->first + ring->count) % ring->size;
	head = num_min(size, ring->size - at);
	memcpy(ring->data + at, buf, head);
	memcpy(ring->data, buf + head, size - head);
	ring->count += size;
	return size;
}

size_t chr_ring_pull(struct chr_ring *ring, uint8_t *buf, size_t size)
{
	size_t head;

	size = num_min(size, ring->count);
	if (!size)
		return 0;
	head = num_min(size, ring->size - ring->first);
	memcpy(buf, ring->data + ring->first, head);
	memcpy(buf + head, ring->data, size - head);
	ring->first = (ring->first + size) % ring->size;
	ring->count -= size;
	if (!ring->count && ring->size > CHR_RING_KEEP_BYTES)
		chr_ring_clear(ring);
	return size;
}
