/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver core's own structures: see <vmem/driver.h> for what it does and its invariants, which
 * are meant wherever a file of this folder names I1 to I7.
 *
 *     driver.c   its life: configuration, run(), pauses, what people are told
 *     map.c      units and chunks, and the counters over them
 *     request.c  one request to the device, and where its answer goes
 *     start.c    UNPLUG_ALL; finding out what is plugged, after a start or an error
 *     grow.c     choosing what to plug, and adding it
 *     shrink.c   choosing what to give back, and taking it
 *     size.c     asking for memory and offering it
 *     query.c    what the operating system tells and asks
 *
 * Chunks and units are numbered from 0, at drv->base; there are at most DRIVER_CHUNKS_MAX.
 *
 * M1  map.c alone writes unit.class, unit.nr_plugged and the counters; the map's bits are
 *     written together with it. The counters are sums over all units at any time.
 * M2  class_low[c] is at most the lowest unit of class c, class_high[c] beyond the highest: a search
 *     starts there, and takes no longer when it is repeated.
 * M3  held is a range of chunks; the plugged ones in it are held (I4). They belong to units that are
 *     absent, or to one unit that was online when they were taken.
 * M4  Nothing is remembered of what to do next with held chunks: it follows from requested_size, the
 *     units' states and add_failed, anew at each step. So a pause, a new size or an answer that comes
 *     late needs no undoing.
 * M5  What was tried in vain is marked (unit.flags) until the next round; a round ends with a pause,
 *     another requested_size or vmem_driver_retry(). Every step marks something, or moves memory, or
 *     pauses: each round ends.
 */
#ifndef DRIVER_INTERNAL_H
#define DRIVER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmem/driver.h>

#define DRIVER_CHUNKS_MAX (UINT32_C(1) << 30)
/* Of one request, and the largest power of two among them. */
#define DRIVER_BLOCKS_MAX UINT32_C(65535)
#define DRIVER_BLOCKS_POW UINT32_C(32768)
/* No more units are looked at by used() in a step (I6). */
#define DRIVER_SAMPLES_MAX 32u
/* A device that does not let go is asked that often by vmem_driver_leave(). */
#define DRIVER_LEAVE_TRIES 5u

#define DRIVER_WORD_BITS    64u
#define DRIVER_RETRY_MIN_MS 1000u
#define DRIVER_RETRY_MAX_MS 300000u
#define DRIVER_INTERVAL_MS  1000u

/* State, use and fill of a unit in one number; "some" is anything but none. */
enum unit_class {
	UNIT_ABSENT_EMPTY,
	UNIT_ABSENT_SOME,
	UNIT_OFFLINE_EMPTY,
	UNIT_OFFLINE_SOME,
	UNIT_MOVABLE_EMPTY,
	UNIT_MOVABLE_PARTLY,
	UNIT_MOVABLE_FULL,
	UNIT_IMMOVABLE_EMPTY,
	UNIT_IMMOVABLE_PARTLY,
	UNIT_IMMOVABLE_FULL,
	UNIT_CLASSES,
};

enum unit_state { UNIT_ABSENT, UNIT_OFFLINE, UNIT_MOVABLE, UNIT_IMMOVABLE, UNIT_STATES };

/* unit.flags */
#define UNIT_NEVER        0x01u /* add() said so; until vmem_driver_retry() */
#define UNIT_KEPT         0x02u /* there before the first run; until the start is over */
#define UNIT_TRIED_REMOVE 0x04u /* in this round: remove() failed */
#define UNIT_TRIED_WHOLE  0x08u /* in this round: taking all of it at once failed */
#define UNIT_TRIED_ALL    0x10u /* in this round: each of its chunks was tried */
#define UNIT_ADDING       0x20u /* within add(), and not told to be there yet */
#define UNIT_ROUND_FLAGS  (UNIT_TRIED_REMOVE | UNIT_TRIED_WHOLE | UNIT_TRIED_ALL)
#define UNIT_USED_UNKNOWN UINT32_MAX
#define UNIT_USED_SHIFT   12 /* unit.used is in 4 KiB */

struct unit {
	uint32_t nr_plugged; /* chunks */
	uint32_t used;       /* as used() said in this round */
	uint8_t class;       /* enum unit_class */
	uint8_t flags;
};

/* nr chunks, or units, from first. */
struct run {
	uint32_t first, nr;
};

/* What the request under way is for. */
enum purpose {
	PURPOSE_NONE,
	PURPOSE_UNPLUG_ALL,
	PURPOSE_LEARN,       /* STATE */
	PURPOSE_LEARN_PIECE, /* UNPLUG of the plugged part of a chunk */
	PURPOSE_PLUG,
	PURPOSE_UNPLUG,
};

struct request {
	enum purpose purpose;
	bool lost;      /* the device went away with it: vmem_driver_restarted() looks into it */
	uint16_t type;  /* VMEM_REQ_... */
	struct run run; /* PLUG, UNPLUG */
	uint64_t addr;
	uint32_t nr_blocks;
	struct vmem_req wire;
};

/*
 * What is being found out by STATE requests: blocks [addr, end). A request is for step blocks, halved
 * while the answer is MIXED and doubled otherwise. A chunk of which only a part is plugged is unplugged,
 * piece by piece: the map has no word for it.
 */
struct learn {
	uint64_t addr, end;
	uint32_t step;  /* blocks */
	uint32_t piece; /* blocks at addr that are to be unplugged first */
	bool start;     /* the whole region, at the start; else what a request left open */
};

/* Taking chunks out of a unit in use, from its end down. */
struct taking {
	bool on;
	bool whole; /* all at once, or not at all */
	uint32_t unit;
	uint32_t end;      /* chunks from here on were tried, or are not plugged */
	uint32_t head;     /* chunks at the beginning that are left out while whole */
	uint32_t limit;    /* chunks to try at once */
	uint32_t wins;     /* that succeeded in a row */
	uint32_t nr_never; /* chunks that take() will never give */
};

enum shrink_stage { SHRINK_MOVABLE_FREE, SHRINK_IMMOVABLE_FREE, SHRINK_USED };

enum pause { PAUSE_NONE, PAUSE_WANTED, PAUSE_ON };

struct size_ask {
	struct vmem_driver_size_policy policy;
	struct vmem_size_req wire;
	bool wanted;  /* wire is to be sent */
	bool pending; /* wire was sent */
	bool asked;   /* last_ms and last_urgency hold */
	bool more;    /* wire asks for more than requested_size; else it offers */
	bool idling;  /* more than high_bytes since idle_since_ms */
	uint16_t last_urgency;
	uint64_t last_ms, idle_since_ms;
	uint64_t later_until_ms;      /* the device said LATER */
	uint64_t refused_until_ms[2]; /* by more: until then, so much as refused_size is not ... */
	uint64_t refused_size[2];     /* ... asked for, or offered */
};

struct vmem_driver {
	const struct vmem_driver_ops *ops;
	void *os;
	struct vmem_driver_config config;

	/* what never changes */
	uint64_t addr, region_size, block_size;
	uint64_t base;                                /* address of chunk 0 */
	uint8_t block_shift, chunk_shift, unit_shift; /* unit_shift: chunks a unit */
	bool accounting;                              /* one unit, online for good */
	uint32_t chunks_per_unit, blocks_per_chunk;
	uint32_t nr_units, nr_chunks;

	/* the configuration as last read */
	uint32_t config_changed; /* atomic: written in any context */
	uint32_t config_told;    /* the same: the device told of it */
	uint64_t usable_region_size, requested_size, device_plugged_size;
	uint64_t foreign_size; /* plugged outside of the units, since before the start */
	uint32_t limit;        /* chunks from here on lie outside of usable_region_size */

	/* the map */
	uint64_t *plugged; /* a bit a chunk */
	struct unit *units;
	uint32_t nr_class[UNIT_CLASSES], class_low[UNIT_CLASSES], class_high[UNIT_CLASSES];
	uint32_t plugged_in[UNIT_STATES]; /* chunks */
	uint32_t nr_plugged;              /* chunks in all */
	struct run held;
	uint32_t nr_held; /* plugged chunks in it */

	/* work under way */
	bool begun, started, leaving, left, gone, broken;
	bool reached_told, stuck_told;
	struct request request;
	struct learn learn;
	struct taking taking;
	enum shrink_stage stage;
	uint32_t stage_unit;   /* units below are still to be looked at */
	uint32_t plug_cap;     /* chunks to plug at once: halved on NACK */
	uint32_t run_max;      /* units to add or remove at once */
	uint32_t add_cap;      /* the same after failures: halved */
	uint32_t remove_above; /* units from here on are removed one by one, after a failure */
	uint32_t head;     /* chunks at a unit's beginning that take() never gives, as last seen */
	bool add_failed;   /* in this round: held chunks of absent units are to be unplugged */
	bool offline_wait; /* pausing until offline units are used */
	int add_result;

	/* pauses */
	enum pause pause;
	bool woken;
	bool moved;     /* something was plugged or unplugged since the last pause */
	bool exhausted; /* all was tried since round_since_ms, and it was not enough */
	uint32_t pause_ms, leave_tries;
	uint64_t pause_until_ms, round_since_ms;

	struct size_ask size;
	struct vmem_driver_info stats; /* its counters */
};

static inline uint32_t vd_min32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* map.c */
uint64_t vd_chunk_addr(const struct vmem_driver *drv, uint32_t chunk);
uint32_t vd_chunk_unit(const struct vmem_driver *drv, uint32_t chunk);
uint32_t vd_unit_first(const struct vmem_driver *drv, uint32_t unit);
uint32_t vd_unit_end(const struct vmem_driver *drv, uint32_t unit);
uint64_t vd_chunks_bytes(const struct vmem_driver *drv, uint32_t nr);
enum unit_state vd_unit_state(const struct unit *unit);
bool vd_unit_is_online(const struct unit *unit);
void vd_map_init(struct vmem_driver *drv);
/* Chunks of @run become plugged or unplugged; those that were so already stay. */
void vd_map_set_plugged(struct vmem_driver *drv, struct run run, bool plugged);
void vd_unit_set_state(struct vmem_driver *drv, uint32_t unit, enum unit_state state);
/* The first bit of [from, end) that is @value; @end if none. */
uint32_t vd_bits_next(const uint64_t *words, uint32_t from, uint32_t end, bool value);
/* One beyond the last bit of [from, end) that is @value; @from if none. */
uint32_t vd_bits_last(const uint64_t *words, uint32_t from, uint32_t end, bool value);
void vd_bits_set(uint64_t *words, uint32_t first, uint32_t nr, bool value);
/* The last run of plugged chunks in [from, end): .nr is 0 if there is none. */
struct run vd_map_last_plugged(const struct vmem_driver *drv, uint32_t from, uint32_t end);
/* Plugged chunks of [first, first + nr). */
uint32_t vd_map_count_plugged(const struct vmem_driver *drv, struct run run);
/* All plugged chunks of @run are held from now on; nothing was held before, or a part of @run. */
void vd_map_hold(struct vmem_driver *drv, struct run run);
/* Chunks below @to are held no more. */
void vd_map_unhold(struct vmem_driver *drv, uint32_t to);
bool vd_run_has(struct run run, uint32_t chunk);
/* The lowest unit of @class at or above @from, and below @end; @end if none. */
uint32_t vd_class_next(struct vmem_driver *drv, enum unit_class class, uint32_t from, uint32_t end);
/* One beyond the highest unit of @class below @end; 0 if none. */
uint32_t vd_class_last(struct vmem_driver *drv, enum unit_class class, uint32_t end);

/* driver.c */
void vd_driver_note(struct vmem_driver *drv, enum vmem_driver_note_kind kind, uint64_t addr,
		    uint64_t size, int result);
/* The next step comes after a pause; it begins a round. */
void vd_driver_pause(struct vmem_driver *drv, int why);
/* The device does not answer any more. */
void vd_driver_gone(struct vmem_driver *drv);
void vd_driver_config_stale(struct vmem_driver *drv);
void vd_driver_round_begin(struct vmem_driver *drv);
/* Chunks to be plugged if all goes well. */
uint32_t vd_driver_want(const struct vmem_driver *drv);
/* Begin to use plugged chunks of @run in those of its units that are online. */
void vd_driver_give(struct vmem_driver *drv, struct run run);

/* request.c */
/* Sends a request; its answer was dealt with when this returns, unless it is PENDING. */
void vd_request_send_run(struct vmem_driver *drv, enum purpose purpose, uint16_t type,
			 struct run run);
void vd_request_send_blocks(struct vmem_driver *drv, enum purpose purpose, uint16_t type,
			    uint64_t addr, uint32_t nr_blocks);
uint32_t vd_request_chunks_max(const struct vmem_driver *drv);
/* Little-endian, whatever the machine is. */
uint16_t vd_le16_get(const uint16_t *field);
uint32_t vd_le32_get(const uint32_t *field);
uint64_t vd_le64_get(const uint64_t *field);
void vd_le16_put(uint16_t *field, uint16_t value);
void vd_le64_put(uint64_t *field, uint64_t value);

/* start.c: the answers are given by request.c; @type is VMEM_RESP_..., 0 to 3 */
void vd_start_step(struct vmem_driver *drv);
void vd_start_answer(struct vmem_driver *drv, uint16_t type);
void vd_learn_begin(struct vmem_driver *drv, struct run run, bool start);
bool vd_learn_is_on(const struct vmem_driver *drv);
void vd_learn_step(struct vmem_driver *drv);
void vd_learn_answer(struct vmem_driver *drv, uint16_t type, uint16_t state);
void vd_learn_piece_answer(struct vmem_driver *drv, uint16_t type);

/* grow.c */
/* False: there is nothing (more) to be plugged or added. */
bool vd_grow_step(struct vmem_driver *drv);
void vd_grow_answer(struct vmem_driver *drv, uint16_t type);
/* Deal with held chunks, of which there are some. */
void vd_held_step(struct vmem_driver *drv);
void vd_held_answer(struct vmem_driver *drv, uint16_t type);

/* shrink.c */
/* Chunks that are plugged beyond what is wanted, held ones included. */
uint32_t vd_shrink_to_go(const struct vmem_driver *drv);
/* Held chunks are to wait: more can be taken that belongs to the same request. */
bool vd_shrink_collects(const struct vmem_driver *drv);
bool vd_shrink_step(struct vmem_driver *drv);
/* Remove a unit in which nothing is plugged. */
bool vd_shrink_tidy(struct vmem_driver *drv);

/* size.c */
/* True: a size request was sent. */
bool vd_size_step(struct vmem_driver *drv, uint64_t now_ms);
void vd_size_reset(struct vmem_driver *drv);

#endif
