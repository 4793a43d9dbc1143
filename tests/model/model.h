/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver core against the device engine in one process: an operating system, a host and a
 * transport made of arrays, a scheduler that a number seeds, and what must hold after every step.
 *
 *     play.c      what happens next: the storm (anything) and what leads to the calm
 *     calm.c      failures stop: the core must get as far as can be, and rest
 *     geometry.c  random worlds; how they begin and end
 *     units.c     the operating system's memory: add(), remove(), take(), give(), used()
 *     pages.c     what uses it: pages that hold a tag, some of which cannot be moved
 *     link.c      the transport: requests, answers that wait, devices that vanish
 *     liar.c      a device that says anything
 *     host.c      the host below the engine; migration
 *     sizes.c     the size-request extension
 *     check.c     what must hold
 *     main.c      seeds
 *
 * I1  All that happens follows from the seed: no clock, no address and no state of the process takes
 *     part. Time is a number that events move on.
 * I2  Whatever happens is allowed by <vmem/driver.h> and <vmem/device.h>. What the core or the engine
 *     does beyond them ends the program with the seed and the step (model_fail()).
 * I3  A page in use holds a tag of its own in the host's memory. The host loses content exactly where
 *     the engine has it discarded, so a block that is given back too early is found by its tag.
 * I4  Locks as the core's header has them: while add() or remove() of a device runs, people may online
 *     and offline its units; while another op of it runs, nothing is called for that device. The
 *     other device, the host, the programs and a migration may come between any time.
 *
 * Memory of a world is one area of ordinary memory and one for each device; its pages are counted in
 * world.page_bytes, the same everywhere.
 */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include <vmem/device.h>
#include <vmem/driver.h>

#define MODEL_DEVICES_MAX 2
#define MODEL_AREAS_MAX   (MODEL_DEVICES_MAX + 1)

/* What a world is made of; a kind of world is a set of them. */
#define WITH_OS_FAILURES   (1u << 0) /* add(), remove(), take() fail for no visible reason */
#define WITH_HOST_FAILURES (1u << 1)
#define WITH_PENDING       (1u << 2) /* answers wait */
#define WITH_TWO           (1u << 3) /* devices */
#define WITH_ACCOUNTING    (1u << 4) /* unit_bytes 0 */
#define WITH_LIAR          (1u << 5) /* only the safety of memory is looked at */
#define WITH_LARGE         (1u << 6) /* runs beyond what one request can hold */
#define WITH_RESTARTS      (1u << 7) /* device and system resets, reloads */
#define WITH_MIGRATION     (1u << 8)
#define WITH_VANISHING     (1u << 9)
#define WITH_SIZES         (1u << 10) /* the size-request extension */
#define WITH_LIMITS        (1u << 11) /* addresses and offline memory that the system cannot have */

enum page_state {
	PAGE_NOBODYS, /* not the operating system's to use */
	PAGE_FREE,
	PAGE_MOVABLE, /* in use */
	PAGE_IMMOVABLE,
	PAGE_RECORDS, /* what the system notes of the unit, from add() to remove() */
};

enum unit_state { UNIT_ABSENT, UNIT_OFFLINE, UNIT_ONLINE };

struct unit {
	enum unit_state state;
	enum vmem_driver_use use;
	bool untaught; /* add() says NEVER, now and later */
};

/* A stretch of guest physical memory. */
struct area {
	struct dev *dev; /* NULL: ordinary memory */
	uint64_t addr;
	uint64_t nr_pages, nr_free, nr_used;
	uint8_t *pages; /* enum page_state */
	uint64_t *tags; /* of pages in use; 0: the content was lost to a fault of the host */
	bool *taken;    /* by take(), and not given since */
	bool *rooted;   /* pages that can never be taken: take() and remove() say NEVER */
};

/* The host's side of a device; a migration makes another one. */
struct host {
	struct dev *dev;
	bool *granted;     /* by block */
	uint64_t *content; /* by page */
};

enum dev_call { CALL_NONE, CALL_INIT, CALL_RUN, CALL_ANSWERED, CALL_STATE };
enum link_state { LINK_IDLE, LINK_SENT, LINK_PROCESSED };

/* A request that waits for its answer. */
struct link {
	enum link_state state;
	const struct vmem_req *req;
	struct vmem_req copy; /* of what *req was */
	struct vmem_resp resp;
};

struct size_link {
	enum link_state state;
	const struct vmem_size_req *req;
	struct vmem_size_req copy;
	struct vmem_size_resp resp;
	uint64_t last_ms;
	uint16_t last_urgency;
	bool asked;
};

struct dev {
	struct world *w;
	unsigned int index;
	struct area *area;

	/* the host's side */
	struct vmem_device *engine;
	struct host *host;
	struct vmem_device_config device_config;
	uint8_t *truth; /* by block: 0 unplugged, 1 plugged, 2 plugged and faulted */
	uint64_t nr_blocks;
	bool gone;      /* vanished */
	bool interrupt; /* a configuration change that the driver was not told of yet */
	struct vmem_config lie;
	bool broken_config; /* it said something that ends the work with it */

	/* the transport */
	struct link link;
	struct size_link size_link;
	struct vmem_config seen; /* what the core read last, in the machine's byte order */
	/*
	 * What the core does not know yet: an answer that it was told of and has not dealt with, or
	 * a request that a reset of the device left open. No size: there is none.
	 */
	uint64_t unsure_addr, unsure_size;
	bool unsure_reset;

	/* the operating system's side */
	struct vmem_driver *drv;
	void *arena;
	struct vmem_driver_config config;
	struct vmem_driver_ops ops;
	uint64_t unit_bytes, chunk_bytes, first_unit, nr_units;
	struct unit *units;
	uint64_t record_pages; /* at the beginning of each unit */
	bool add_onlines;      /* units are used as soon as they are added */
	bool started;          /* the core has found out what is plugged */
	bool leaving;          /* it was told to leave */
	bool left_in_calm;
	bool ended; /* its status was ENDED */

	/* what runs now */
	enum dev_call call;
	const char *op; /* NULL: none */
	bool unlocked;  /* within add() or remove() */
	unsigned int heavy, config_reads, gives;

	uint64_t run_ms; /* what the last run() was told */
	uint64_t next_run_ms;
	unsigned int pauses;    /* since the world last moved, in a calm */
	unsigned int fruitless; /* failures in a row, with no time passed and nothing told */
	uint64_t noted[VMEM_DRIVER_NOTE_KINDS];
};

/* Of 1000 calls, how many fail. */
struct rates {
	unsigned int add, remove, take, never, host, undo, pending, within;
};

struct world {
	uint64_t seed, random, step, now_ms;
	uint64_t moved_ms; /* when a core last got ahead, in a calm */
	uint64_t steps_max;
	unsigned int with;
	bool trace, calm;
	uint64_t page_bytes;
	uint64_t last_tag;
	struct rates rates;
	unsigned int depth; /* of events within ops */
	unsigned int nr_areas, nr_devs;
	struct area areas[MODEL_AREAS_MAX];
	struct dev devs[MODEL_DEVICES_MAX];
};

/* Tell the seed, the step and what is wrong, and end the program. */
void model_fail(const struct world *w, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));
void model_trace(const struct world *w, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define must(w, cond, ...)                          \
	do {                                        \
		if (!(cond))                        \
			model_fail(w, __VA_ARGS__); \
	} while (0)

/* Random numbers: splitmix64. */
static inline uint64_t model_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* In [0, n); 0 for 0. */
static inline uint64_t below(struct world *w, uint64_t n)
{
	return n ? model_random(&w->random) % n : 0;
}

static inline bool chance(struct world *w, unsigned int permille)
{
	return below(w, 1000) < permille;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void *model_alloc(const struct world *w, uint64_t count, uint64_t size);

/* geometry.c */
void world_begin(struct world *w, uint64_t seed, unsigned int with);
void world_end(struct world *w);
/* Make a core for the device. False when it must not be one: the device vanished meanwhile. */
bool dev_start(struct dev *dev, bool resume);
/* Forget the core, as if the operating system were not there any more. */
void dev_stop(struct dev *dev);
/* A new device in place of one that vanished, with nothing plugged. */
void dev_replace(struct dev *dev);
/* The operating system starts anew: nothing is in use and no unit is there. */
void world_forget(struct world *w);
/* Block, page and unit of an address in the device's region. */
uint64_t dev_block(const struct dev *dev, uint64_t addr);
uint64_t dev_page(const struct dev *dev, uint64_t addr);
struct unit *dev_unit(struct dev *dev, uint64_t addr);
uint64_t dev_region_end(const struct dev *dev);

/* play.c */
void world_play(struct world *w);
/* Time passes. */
void world_pass(struct world *w, uint64_t ms);
uint64_t dev_run(struct dev *dev);
void dev_deliver_interrupt(struct dev *dev);
/* What may happen while an op of @dev runs. */
void play_within(struct dev *dev);
void op_begin(struct dev *dev, const char *op, bool unlocks);
void op_end(struct dev *dev);
/* Load the driver again if it has left. */
void dev_reload(struct dev *dev);
/* Something new happened: what failed may be tried again. */
void dev_news(struct dev *dev);

/* calm.c */
void world_calm(struct world *w);

/* units.c */
void units_set_ops(struct dev *dev);
bool units_online(struct dev *dev, uint64_t index, enum vmem_driver_use use);
enum vmem_driver_use units_random_use(const struct dev *dev);
bool units_offline(struct dev *dev, uint64_t index);
/* Pages of the unit that an op for it as a whole is about. */
uint64_t units_page(const struct dev *dev, uint64_t index);
uint64_t units_pages(const struct dev *dev);
uint64_t units_offline_bytes(const struct dev *dev);
/* Is anything plugged in the unit, as the device has it? */
bool units_has_plugged(const struct dev *dev, uint64_t index);

/* pages.c */
bool pages_use(struct world *w, uint64_t count, bool movable);
void pages_drop(struct world *w, uint64_t count);
/*
 * Move what is used of pages [first, first + count) elsewhere and make them nobody's, but records. A result of
 * enum vmem_driver_result; after a failure some may have moved, and all of them are still the
 * operating system's.
 */
int pages_take(struct world *w, struct area *area, uint64_t first, uint64_t count);
/* Records begin, or end where they are. */
void pages_record(struct world *w, struct area *area, uint64_t first, uint64_t count);
void pages_unrecord(struct world *w, struct area *area, uint64_t first, uint64_t count);
/* Begin to use the pages, but for records. */
void pages_give(struct world *w, struct area *area, uint64_t first, uint64_t count);
/* Would pages_take() succeed? */
bool pages_can_take(const struct world *w, const struct area *area, uint64_t first, uint64_t count);
void pages_forget(struct area *area);
void pages_check(const struct world *w);
uint64_t pages_free(const struct world *w);
/* Pages of the range in @state. */
uint64_t pages_count(const struct area *area, uint64_t first, uint64_t count,
		     enum page_state state);

/* host.c */
void host_begin(struct dev *dev, uint64_t requested_size);
void host_end(struct dev *dev);
void host_learn(struct dev *dev); /* refresh dev->truth */
bool host_migrate(struct dev *dev);
void host_resize(struct dev *dev, uint64_t size);
uint64_t *host_content(struct dev *dev, uint64_t page, bool *ret_lost);
uint64_t host_plugged_size(const struct dev *dev);

/* link.c */
void link_set_ops(struct dev *dev);
bool link_process(struct dev *dev);
bool link_deliver(struct dev *dev);
/* The device is reset; the request under way may have been done. */
void link_reset(struct dev *dev);
void link_vanish(struct dev *dev);
/* The range of the request that is under way; false: none. */
bool link_range(const struct dev *dev, uint64_t *ret_addr, uint64_t *ret_size);

/* liar.c */
void liar_config(struct dev *dev, struct vmem_config *ret_config);
void liar_answer(struct dev *dev, const struct vmem_req *req, struct vmem_resp *ret_resp);

/* sizes.c */
int sizes_submit(void *os, const struct vmem_size_req *req, struct vmem_size_resp *ret_resp);
void sizes_random_policy(struct world *w, const struct dev *dev,
			 struct vmem_driver_size_policy *ret_policy);
bool sizes_process(struct dev *dev);
bool sizes_deliver(struct dev *dev);
void sizes_tell(struct dev *dev);

/* check.c */
void world_check(struct world *w);
/* The request obeys the rules for what the core knows. */
void check_request(struct dev *dev, const struct vmem_req *req);

#endif
