/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sending the memory of a machine that runs: rounds over what is dirty, notes of what was plugged
 * and unplugged, and zeros that cost next to nothing.
 *
 *	ram_send_start()	notes are on, everything that is there is dirty
 *	ram_send_round()	again and again, until the rest fits into the downtime
 *	ram_send_final()	with the machine stopped: nothing is dirty afterwards
 *
 * I1  Of device memory only plugged runs are looked at: the rest costs neither bytes nor time.
 * I2  In order, for each piece of memory: its dirty marks are taken; what was noted is told; its
 *     pages are read, where they are told and readable; they are sent. What is written after the
 *     marks were taken is dirty again, what was plugged before it has been told: so no page comes
 *     before the note it needs, and none that belongs to an unplugged block outlasts the note that
 *     it is gone.
 * I3  Between two barriers (ROUND, on all channels) a page is sent once at most, and notes stand
 *     between two barriers alone. Pages of one round may take any channel and any order.
 * I4  The target's memory begins as zeros; a page of zeros is told only where the target got
 *     something else before.
 * I5  What was there at the start is marked apart from what is written afterwards, and only that mark
 *     is taken away by a hint that a page is free (ram_send_hint_free()). So it does not matter how
 *     hints, writes, harvests and rounds follow each other: a page that is written after the start is
 *     sent, whatever was hinted, and a hint that comes late leaves out nothing. A page that was left
 *     out is zeros at the target, until it is written.
 *
 * Ownership: writers, pace, cancel and blocks are the caller's, and outlive it. The dirty log is on
 * (vm_dirty_start()) from before ram_send_start() on.
 * Threads: one, the migration's; ram_send_info(), ram_send_limits(), ram_send_interrupt() and
 * ram_send_hint_free() any. A thread each for the further channels.
 * The guest controls: what is dirty and how fast, what is plugged, what is hinted: a round takes no
 * longer for it than a walk over all that is plugged, and the memory for it is fixed.
 */
#ifndef VMM_MIGRATION_RAM_SEND_H
#define VMM_MIGRATION_RAM_SEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"
#include "vmm/migration/blocks.h"

struct cancel;
struct err;
struct gm;
struct migration_ram_info;
struct notes;
struct pace;
struct pages_map;
struct pages_sink;
struct ram_send;
struct record_writer;

/* What may change on the way (QMP's names). */
struct ram_send_limits {
	uint64_t downtime_limit_ms;
	uint64_t max_bandwidth; /* bytes a second, 0: no limit; what the estimate begins with */
	bool auto_converge;
	uint8_t throttle_trigger_threshold;
	uint8_t cpu_throttle_initial, cpu_throttle_increment, max_cpu_throttle;
	bool cpu_throttle_tailslow;
};

/* What happens to notes and barriers when batches go elsewhere than into a stream. */
struct ram_send_sink {
	const struct pages_sink *pages;
	/* NULL: nothing to do */
	int (*note)(void *opaque, size_t block, struct range run, bool plugged, struct err **err);
	/* All pages of the round were handed over. */
	int (*round)(void *opaque, uint64_t number, struct err **err);
};

struct ram_send_config {
	struct gm *gm;
	const struct block *blocks;
	size_t nr_blocks;
	struct cancel *cancel;
	/* NULL: none. Each write takes its bytes from it first. */
	struct pace *pace;
	/* The stream: notes, barriers, and pages too when there are no further channels. */
	struct record_writer *channel;
	struct record_writer *const *further;
	size_t nr_further;
	/* Instead of all channels, for images: batches are handed over on the calling thread. */
	const struct ram_send_sink *sink;
	bool zstd;
	int zstd_level;
	/*
	 * Memory that the host did not provide yet may have content all the same, which comes when
	 * it is touched (a machine that was restored and is still being read): all of it is looked
	 * at.
	 */
	bool content_comes_later;
	struct ram_send_limits limits;
	/* Harvest what the guest wrote into the gm's marks: vm_dirty_sync(). 0 or -errno. */
	int (*sync)(void *opaque);
	/* Hold the guest back, 0 to 99 percent. NULL: that cannot be. */
	void (*throttle)(void *opaque, unsigned int percent);
	/* Round @number begins. May be NULL. On the migration's thread. */
	void (*pass)(void *opaque, uint64_t number);
	/*
	 * All pages of a round were looked at, and the harvest comes next: hints are of no use any
	 * more. May be NULL. On the migration's thread.
	 */
	void (*looked)(void *opaque);
	void *opaque; /* of sync, throttle, pass, looked, and of the sink */
};

/* Starts the threads of further channels. NULL and *err on failure. */
struct ram_send *ram_send_new(const struct ram_send_config *config, struct err **err);
/*
 * Ends threads, notes and throttle. After a failure, or with work left to do, the cancel must have
 * been raised before. NULL is allowed.
 */
void ram_send_free(struct ram_send *send);

/* Notes are on when it returns; boot memory and all that is plugged is dirty. */
int ram_send_start(struct ram_send *send, struct err **err);

enum ram_send_state {
	RAM_SEND_MORE,        /* another round is needed */
	RAM_SEND_FITS,        /* what is dirty now can be sent within the downtime */
	RAM_SEND_INTERRUPTED, /* ram_send_interrupt() was called; what is still dirty is marked */
};

/*
 * Send what is dirty; harvest, and say in *ret_state how things stand. 0 or -errno with a sentence
 * (-ECANCELED without one): nothing more can be sent then.
 */
int ram_send_round(struct ram_send *send, enum ram_send_state *ret_state, struct err **err);
/* Rounds until one ends with something else than RAM_SEND_MORE. */
int ram_send_rounds(struct ram_send *send, enum ram_send_state *ret_state, struct err **err);
/*
 * The guest does not need the content of the pages that lie wholly in [gpa, gpa + size), any range:
 * those that were there at the start, and were not looked at since, are left out. It must have said so
 * after ram_send_start() returned. Returns how many pages that were. Any thread, from then to
 * ram_send_free().
 */
uint64_t ram_send_hint_free(struct ram_send *send, uint64_t gpa, uint64_t size);
/*
 * Has the round under way, or the next one, end early: each channel reads a batch of pages more at most,
 * and what was not read stays marked. Cleared by its end. Any thread.
 */
void ram_send_interrupt(struct ram_send *send);

/*
 * The machine is stopped, with devices quiet and their state saved: all that is dirty, on all
 * channels; each further one gets its END. Afterwards nothing is dirty, which is checked, and
 * threads are idle.
 */
int ram_send_final(struct ram_send *send, struct err **err);

/*
 * ---- for postcopy: the machine is stopped, and stays so here ----
 *
 * Notes are told, and what was written last is harvested, but no page is sent; each further channel
 * gets its END. From then on zeros are told as well.
 */
int ram_send_settle(struct ram_send *send, struct err **err);
/*
 * Have @fn called for all marked pages, whose marks are cleared: those that the target has not, or
 * has with other content. What is zeros on both sides is none of them. @page is a multiple of 64,
 * and bit 0 of the first word stands for it. Returns how many pages there are.
 */
uint64_t ram_send_left(struct ram_send *send,
		       void (*fn)(void *opaque, size_t block, uint64_t page, const uint64_t *words,
				  size_t nr_words),
		       void *opaque);
/* Send @count pages of the block from @first on, on the main channel. */
int ram_send_pages(struct ram_send *send, size_t block, uint64_t first, uint64_t count,
		   struct err **err);
/* Use another main channel: the connection broke, and nothing is under way. */
void ram_send_channel(struct ram_send *send, struct record_writer *channel);

/* The map of what is plugged as the target knows it, and the pages that it may have got. */
const struct notes *ram_send_notes(const struct ram_send *send);
struct pages_map *ram_send_sent(const struct ram_send *send);

void ram_send_limits(struct ram_send *send, const struct ram_send_limits *limits);

/*
 * Fills in what is known here: transferred, remaining, total, duplicate, normal, normal_bytes,
 * dirty_pages_rate, mbps, dirty_sync_count, page_size, multifd_bytes, pages_per_second, hinted.
 * Never waits.
 */
void ram_send_info(const struct ram_send *send, struct migration_ram_info *ret_info);
/* How long the rest would take now, in milliseconds. Never waits. */
uint64_t ram_send_expected_downtime_ms(const struct ram_send *send);
/* 0: the guest is not held back. */
unsigned int ram_send_throttle(const struct ram_send *send);

#endif
