/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of test=attack share. A block of the first memory device is open (plugged) or
 * closed; attacks on closed ones must leave nothing behind in the host, give zeros, and leave the
 * open ones alone. Whether host memory is held only the host can tell: it looks between two orders.
 */
#ifndef BARE_ATTACK_H
#define BARE_ATTACK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/lines.h"
#include "lib/vmem.h"

#define ATTACK_BLOCKS 65536u                /* of the region that are used at most */
#define ATTACK_EDGE   32u                   /* bytes at both ends of a block that are all content */
#define ATTACK_SECRET 0x5ec2e7c0de0ff1ceull /* what attacks write; never seen otherwise */

struct attack {
	struct vmem *vmem;
	struct virtio *rng;  /* NULL: none */
	unsigned int blocks; /* that are used */
	uint64_t stride;     /* between the words of a block's content */
	bool open[ATTACK_BLOCKS];
};

/* One order's words: numbers after the first, which may be a name. */
struct attack_order {
	const char *verb, *name;
	uint64_t value[4];
	unsigned int nr_values;
};

static inline uint64_t attack_gpa(const struct attack *a, unsigned int block)
{
	return a->vmem->addr + block * a->vmem->block_size;
}

/* A closed block's bytes; false for what is outside the region as well. */
bool attack_is_closed(const struct attack *a, uint64_t gpa);
/* What fills an open block, as written by "lay" and "fill". */
void attack_fill(const struct attack *a, unsigned int block);
/* Words of it that are not as they were filled. */
unsigned int attack_check(const struct attack *a, unsigned int block);
/* Only at the two ends. */
void attack_fill_edges(const struct attack *a, unsigned int block);
/* The same, and noted in @a->open. The answer. */
uint16_t attack_plug(struct attack *a, unsigned int first, unsigned int count);
uint16_t attack_unplug(struct attack *a, unsigned int first, unsigned int count);
/* Wait for a line from the host. */
void attack_wait_line(char line[LINES_MAX]);

/* Each true when the verb is one of its own. */
bool attack_cpu_order(struct attack *a, const struct attack_order *order);
bool attack_walk_order(struct attack *a, const struct attack_order *order);
bool attack_device_order(struct attack *a, const struct attack_order *order);
bool attack_race_order(struct attack *a, const struct attack_order *order);

#endif
