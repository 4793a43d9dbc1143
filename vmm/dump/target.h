/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a dump is written to: a channel (vmm/migration/channel.h) of a file or of a descriptor.
 *
 * I1  A file that was empty from the dump's start on has holes where there are zeros. What is at a
 *     place that is no file, or was there before, is overwritten by zeros.
 * I2  Of a dump that was not finished such a file keeps nothing.
 *
 * Threads: one at a time. The other side controls how fast it takes what is written.
 */
#ifndef VMM_DUMP_TARGET_H
#define VMM_DUMP_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct address;
struct cancel;
struct dump_target;
struct err;

/* Blocks as channel_connect() does; @cancel ends this and each wait. */
int dump_target_open(struct address *address, struct cancel *cancel,
		     struct dump_target **ret_target, struct err **err);
/* NULL is allowed. */
void dump_target_close(struct dump_target *target);

/* Must it be written from its first byte to its last one? */
bool dump_target_is_stream(const struct dump_target *target);
/* @bytes NULL: zeros. */
int dump_target_write(struct dump_target *target, uint64_t position, const void *bytes, size_t size,
		      struct err **err);
/* All @size bytes of it were written. They are where they belong when this returns 0. */
int dump_target_finish(struct dump_target *target, uint64_t size, struct err **err);

#endif
