/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What top shows, made from what monitors answer: machines, their memory devices, figures and
 * rates. No terminal, no connection, no clock.
 *
 * I1  Answers may be anything: what has not the shape that it should have changes nothing.
 * I2  A machine has at most TOP_DEVICES_MAX devices, a device at most TOP_CELLS_MAX cells.
 * I3  Names and texts for people are clean (text.h); a device's id is as the monitor gave it.
 *
 * Ownership: a machine owns its devices. Their order is the monitor's; a device stays where it is
 * in memory as long as lists have its id.
 * Threads: none; the owner's.
 */
#ifndef EBBCTL_TOP_MODEL_H
#define EBBCTL_TOP_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ebbctl/progress.h"
#include "ebbctl/told.h"

#define TOP_DEVICES_MAX 256
#define TOP_CELLS_MAX   4096

/* How full a part of the map is. */
#define TOP_FILL_FULL 255
/* Shades of a map: empty, three between, full. */
#define TOP_SHADES 5

struct top_device {
	char *id, *label;
	int64_t node;
	uint64_t plugged_bytes, requested_bytes, max_bytes, block_bytes;
	uint64_t from_bytes; /* plugged when the size was asked for */
	bool from_known;     /* somebody was looking then; what grows is taken to begin at 0 */
	struct progress_rate plugged_rate, requests_rate;
	uint8_t *cells; /* how full; NULL: not known */
	size_t nr_cells;
	bool requests_known, violations_known;
	uint64_t requests, violations;
	uint64_t granted_bytes; /* of what is asked for: the guest asked for it by itself */
	char *reason;           /* why it is not where it shall be; NULL: nobody said */
};

struct top_machine {
	char *label;
	char *status;  /* "running"; NULL: not known */
	char *problem; /* why there are no figures; NULL: there are */
	uint64_t base_bytes;
	bool base_known;
	bool moving; /* a migration is under way: */
	struct told move;
	struct progress_rate move_rate;
	struct top_device **devices;
	size_t nr_devices;
};

/* @label is cleaned. 0 or -ENOMEM. */
int top_machine_init(struct top_machine *machine, const char *label);
void top_machine_done(struct top_machine *machine);
/* @text is cleaned; NULL: there is none. The devices are forgotten with a problem. */
void top_machine_set_problem(struct top_machine *machine, const char *text);

/* Answers to query-memory-devices, query-status, query-memory-size-summary. */
void top_machine_take_devices(struct top_machine *machine, const json_t *list, uint64_t now_ms);
void top_machine_take_status(struct top_machine *machine, const json_t *status);
void top_machine_take_summary(struct top_machine *machine, const json_t *summary);
/* To query-migrate; NULL: there was none. top_move.c */
void top_machine_take_migration(struct top_machine *machine, const json_t *value, uint64_t now_ms);
/* To query-virtio-mem-blocks of the device @id. */
void top_machine_take_blocks(struct top_machine *machine, const char *id, const json_t *blocks);
/* To query-virtio-mem and query-stats. */
void top_machine_take_virtio_mem(struct top_machine *machine, const json_t *list);
void top_machine_take_stats(struct top_machine *machine, const json_t *list, uint64_t now_ms);

/* NULL when there is none. */
struct top_device *top_machine_device(const struct top_machine *machine, const char *id);

enum top_state { TOP_STEADY, TOP_GROWING, TOP_SHRINKING, TOP_STUCK };

/* What it does; stuck: it shall be of another size, and nothing moved lately. */
enum top_state top_device_state(const struct top_device *device, uint64_t now_ms);
/* How much of the way to the requested size is done; -1: not known. */
int top_device_percent(const struct top_device *device);
/* Bytes in a second. */
int64_t top_device_rate(const struct top_device *device, uint64_t now_ms);
/* How much one key press changes the size. */
uint64_t top_device_step(const struct top_device *device);
/* The size after a key press. */
uint64_t top_device_stepped(const struct top_device *device, bool more);

/* It was asked for @bytes; a list that says otherwise is right. */
void top_device_ask(struct top_device *device, uint64_t bytes);

/* How full part @at of @parts is, 0 to TOP_FILL_FULL; parts of an unknown map are filled evenly. */
unsigned int top_device_fill(const struct top_device *device, size_t at, size_t parts);
/* 0 only when empty, TOP_SHADES - 1 only when full. */
unsigned int top_shade(unsigned int fill);

#endif
