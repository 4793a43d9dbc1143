/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small device and a small operating system around one driver core, in arrays.
 *
 * Each op is written down as a word, addresses in chunks and units, so that a test is a table of what is
 * done and of the words that must follow: "plug 0+8", "add 0+2", "take 5+1", "give 5+1", "remove 3+1",
 * "unplug 5+1", "state 0+8", "unplug-all", "size SIZE"; a "!" behind a word: it failed. A result can be
 * put in place of any call's own. After every step the invariants of <vmem/driver.h> are checked.
 */
#ifndef TESTS_DRIVER_RIG_H
#define TESTS_DRIVER_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include <vmem/driver.h>

#define RIG_ADDR       UINT64_C(0x100000000)
#define RIG_BLOCK      (UINT64_C(2) << 20)
#define RIG_CHUNKS_MAX 4096
#define RIG_BLOCKS_MAX (1u << 18)
#define RIG_NOTES_MAX  256
#define RIG_FOREVER    1000000u

enum rig_op {
	RIG_CONFIG,
	RIG_PLUG, /* the four requests in their order */
	RIG_UNPLUG,
	RIG_UNPLUG_ALL,
	RIG_STATE,
	RIG_SIZE,
	RIG_ADD,
	RIG_REMOVE,
	RIG_TAKE,
	RIG_OPS,
};

/* What is in a chunk that the operating system has. */
enum rig_content { RIG_FREE, RIG_MOVABLE, RIG_PINNED };

enum rig_unit { RIG_ABSENT, RIG_OFFLINE, RIG_ONLINE };

/* After @after more calls, @times calls give @result (requests: VMEM_RESP_..., or negative: GONE). */
struct rig_fault {
	unsigned int after, times;
	int result;
};

struct rig {
	struct vmem_driver_config config;
	struct vmem_driver_ops ops;
	struct vmem_driver *drv;
	void *arena;
	uint64_t now_ms;

	/* the device: sizes as numbers, blocks from RIG_ADDR on */
	struct vmem_config device;
	bool plugged[RIG_BLOCKS_MAX]; /* blocks */
	bool asynchronous;            /* answers are PENDING until rig_answer() */
	bool disagrees;               /* a test plugged or unplugged blocks by itself */
	bool lost_but_done;           /* a request that is lost (GONE) was done */
	bool waiting, size_waiting;
	struct vmem_req req;
	struct vmem_size_req size_req, last_size_req;
	struct vmem_size_resp size_resp; /* what every size request gets; numbers */
	struct rig_fault fault[RIG_OPS];

	/* the operating system: chunks and units from info.first_unit on */
	struct vmem_driver_info info;
	enum rig_unit unit[RIG_CHUNKS_MAX];
	enum vmem_driver_use use[RIG_CHUNKS_MAX]; /* of a unit that is online, or goes online */
	bool has[RIG_CHUNKS_MAX];                 /* chunks in use, or free in its lists */
	bool taken[RIG_CHUNKS_MAX];               /* and neither given nor onlined since */
	enum rig_content content[RIG_CHUNKS_MAX];
	bool stay_offline;      /* units are not used as soon as they are added */
	unsigned int head;      /* chunks of a unit's beginning that take() never gives */
	unsigned int add_parts; /* of a failing add(): units that are added nevertheless */
	uint64_t samples;       /* calls of used() */
	uint64_t samples_step_max;

	char words[65536];
	struct vmem_driver_note notes[RIG_NOTES_MAX];
	unsigned int nr_notes;
};

/* A region of @chunks chunks of RIG_BLOCK, in units of @chunks_per_unit (0: accounting only). */
void rig_init(struct rig *rig, unsigned int chunks, unsigned int chunks_per_unit);
/* The core, with the configuration as it is now. */
void rig_start(struct rig *rig);
void rig_done(struct rig *rig);

/* Ask for so many chunks; the device says that its configuration changed. */
void rig_request(struct rig *rig, unsigned int chunks);
/* One call of vmem_driver_run(), and all checks. */
uint64_t rig_step(struct rig *rig);
/* Until there is nothing to do, or a pause: 0, or its length. An answer that is PENDING is given. */
uint64_t rig_run(struct rig *rig);
/* The same, through all pauses: nothing is left to do. */
void rig_settle(struct rig *rig);
void rig_answer(struct rig *rig);
void rig_online(struct rig *rig, unsigned int unit, unsigned int nr);
void rig_offline(struct rig *rig, unsigned int unit, unsigned int nr);
void rig_fault(struct rig *rig, enum rig_op op, unsigned int after, unsigned int times, int result);
/* The words since the last call were @expected. */
void rig_expect(struct rig *rig, const char *expected);
void rig_forget(struct rig *rig);
void rig_check(struct rig *rig);
unsigned int rig_plugged(const struct rig *rig); /* chunks, as the device counts */
unsigned int rig_noted(const struct rig *rig, enum vmem_driver_note_kind kind);
enum vmem_driver_status rig_status(struct rig *rig);

#endif
