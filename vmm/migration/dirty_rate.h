/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How fast a guest writes to its memory, measured for a while on demand: what a migration would be up
 * against. QMP's calc-dirty-rate and query-dirty-rate.
 *
 * I1  One measurement at a time, by a thread "dirty-rate" that nobody waits for.
 * I2  By samples: pages spread over all memory are read at the beginning and at the end, and those
 *     that differ stand for their surroundings. The guest does not notice, and memory that the host
 *     never provided is not provided for this. By the log of writes: exact, and each first write to a
 *     page costs the guest an exit; such a measurement ends without a result when a migration begins,
 *     which needs the log itself.
 * I3  Device memory that is not plugged does not change. What comes or goes meanwhile counts as
 *     written where its content is something else than zeros.
 *
 * Threads: all calls on the main one.
 */
#ifndef VMM_MIGRATION_DIRTY_RATE_H
#define VMM_MIGRATION_DIRTY_RATE_H

#include <stdint.h>

struct dirty_rate;
struct err;
struct onmain;
struct vm;

#define DIRTY_RATE_CALC_TIME_MIN_S  1
#define DIRTY_RATE_CALC_TIME_MAX_S  60
#define DIRTY_RATE_SAMPLE_PAGES_MIN 128
#define DIRTY_RATE_SAMPLE_PAGES_MAX 16384
#define DIRTY_RATE_SAMPLE_PAGES     512

enum dirty_rate_mode { DIRTY_RATE_PAGE_SAMPLING, DIRTY_RATE_DIRTY_BITMAP };

enum dirty_rate_status { DIRTY_RATE_UNSTARTED, DIRTY_RATE_MEASURING, DIRTY_RATE_MEASURED };

/* Of the last one. */
struct dirty_rate_info {
	enum dirty_rate_status status;
	enum dirty_rate_mode mode;
	int64_t start_time_s; /* of the monotonic clock */
	int64_t calc_time_s;
	uint64_t sample_pages; /* of each GiB, by samples; else 0 */
	uint64_t rate_bytes;   /* a second; of DIRTY_RATE_MEASURED */
};

/* For the life of a machine; both must outlive it. NULL when memory is out. */
struct dirty_rate *dirty_rate_new(struct vm *vm, struct onmain *onmain, struct err **err);
/* Ends what is under way; onmain_close() came before. NULL is allowed. */
void dirty_rate_free(struct dirty_rate *d);

/*
 * Measure for @calc_time_s, with @sample_pages of each GiB where it is by samples. -EBUSY while one is
 * under way, and while memory itself is; -EINVAL for what is out of range.
 */
int dirty_rate_start(struct dirty_rate *d, enum dirty_rate_mode mode, int64_t calc_time_s,
		     int64_t sample_pages, struct err **err);
/* The log of writes is somebody else's from now on (I2). */
void dirty_rate_give_way(struct dirty_rate *d);
void dirty_rate_info(const struct dirty_rate *d, struct dirty_rate_info *ret_info);

#endif
