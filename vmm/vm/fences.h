/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How memory devices share the mappings that the host allows a process (<vmem/guard.h>, nr_guards):
 * each gets one part in so many, for life, so those that may come later must be left something.
 *
 * I1  The parts of all devices together are at most the whole, as long as there are fewer than some
 *     ten that came later; each of those has less than the one before, and a FENCES_MAXth at least.
 *
 * Threads: none.
 */
#ifndef VMM_VM_FENCES_H
#define VMM_VM_FENCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FENCES_MAX 1024u

/* Of each of @nr devices that are there from the start. @more: others may come. */
uint32_t fences_at_start(size_t nr, bool more);
/* Of one more beside those with @parts: half of what is left. */
uint32_t fences_later(const uint32_t *parts, size_t nr);

#endif
