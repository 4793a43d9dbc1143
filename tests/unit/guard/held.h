/* SPDX-License-Identifier: BSD-3-Clause */
/* What a mapping of this process holds of the host's memory, as the kernel says. */
#ifndef TESTS_UNIT_GUARD_HELD_H
#define TESTS_UNIT_GUARD_HELD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Pages of the host's that [memory, memory + size) maps, present or swapped out. Of private memory
 * the zero page is none; @shared: the memory is a file's, whose pages count whoever else has them.
 */
uint64_t held_pages(const void *memory, uint64_t size, bool shared);

#endif
