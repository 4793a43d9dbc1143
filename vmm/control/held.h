/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much of the host's memory a memory device holds.
 *
 * The kernel knows per page (/proc/self/pagemap), and looking at each takes seconds for terabytes.
 * So a count is done in parts, each of limited time, on a thread that nobody waits for: the region
 * is cut into cells, each cell is counted in its turn, and those in which nothing is plugged hold
 * nothing. A count that was not finished goes on where it stopped.
 *
 * I1  held_count() ends at its deadline, or after the time for one chunk of pages; and when all is
 *     counted.
 * I2  What is told is never more than what was plugged when its cell was counted. Each cell is as
 *     it was then: the oldest is as old as held_age_ms() says.
 *
 * Pages count that this process has in its page tables or has swapped out. The page of zeros does
 * not, nor do pages that were merged with others (KSM), nor those of a file that nobody touched
 * through this process.
 *
 * Ownership: the region need not be there any more when it is counted: it is looked at, not into.
 * Threads: the caller serialises.
 */
#ifndef VMM_CONTROL_HELD_H
#define VMM_CONTROL_HELD_H

#include <stddef.h>
#include <stdint.h>

struct held;

#define HELD_CELLS_MAX 4096u

/* Of the region at @memory in this process. NULL when memory is out. */
struct held *held_new(const void *memory, uint64_t size);
/* NULL is allowed. */
void held_free(struct held *held);

/* Take over how much is plugged, cell by cell; virtio_mem_cells() with HELD_CELLS_MAX gives it. */
void held_set_plugged(struct held *held, const uint64_t *bytes, size_t nr, uint64_t cell_size);
/*
 * Count, starting with what was counted longest ago. @now_ms: of any clock; it may be read often.
 */
void held_count(struct held *held, uint64_t (*now_ms)(void), uint64_t deadline_ms);

uint64_t held_bytes(const struct held *held);
/*
 * How old the oldest part of that is; 0 when all was counted just now. UINT64_MAX: not all was yet.
 */
uint64_t held_age_ms(const struct held *held, uint64_t now_ms);

#endif
