/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine's way to another process, or to a file and back: the face of the room for monitors and
 * for the program. QMP's names and meanings (migrate, migrate-incoming, query-migrate ...).
 *
 * I1  There is one migration at a time, in one direction. Each migration_start() begins a new one when
 *     the last one is over; what migration_info() tells is about the last one.
 * I2  A migration that fails, or is cancelled, leaves the machine as it was, running if it ran. The one
 *     exception is said in the sentence: the other side was told to go on, and it cannot be known
 *     whether it did (docs/migration.md). The machine stays stopped then.
 * I3  Calls return at once. Nothing on the main thread waits for another process, but
 *     migration_free(), which ends all transfers first.
 * I4  Hooks are called on the main thread, once for each change of the status, in order, and from no
 *     call of this face but those that begin a migration: MIGRATION_SETUP is told before they return, so
 *     that whoever began it never sees a machine without one.
 * I5  A machine that is started for an incoming migration runs when it was loaded whole, not before.
 *     When loading fails the program ends with status 1 and one sentence on standard error.
 *
 * Threads: everything on the main thread.
 */
#ifndef VMM_MIGRATION_MIGRATION_H
#define VMM_MIGRATION_MIGRATION_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/migration/dirty_rate.h"

struct err;
struct loop;
struct migration;
struct vm;

/* QMP's MigrationStatus. */
enum migration_status {
	MIGRATION_NONE,
	MIGRATION_SETUP,
	MIGRATION_CANCELLING,
	MIGRATION_CANCELLED,
	MIGRATION_ACTIVE,
	MIGRATION_POSTCOPY_ACTIVE,
	MIGRATION_POSTCOPY_PAUSED,
	MIGRATION_POSTCOPY_RECOVER,
	MIGRATION_COMPLETED,
	MIGRATION_FAILED,
	MIGRATION_PRE_SWITCHOVER,
	MIGRATION_DEVICE,
};

/* "none", "setup", ... ; static. */
const char *migration_status_name(enum migration_status status);
/* Is a migration of this status under way? */
bool migration_status_is_active(enum migration_status status);

/* QMP's MigrationCapability, as far as there is one; bits of a set are 1 << it. */
enum migration_capability {
	MIGRATION_CAP_AUTO_CONVERGE,
	MIGRATION_CAP_ZERO_BLOCKS,
	MIGRATION_CAP_EVENTS, /* of the monitors' interest only */
	MIGRATION_CAP_POSTCOPY_RAM,
	MIGRATION_CAP_RELEASE_RAM,
	MIGRATION_CAP_RETURN_PATH,
	MIGRATION_CAP_PAUSE_BEFORE_SWITCHOVER,
	MIGRATION_CAP_MULTIFD,
	MIGRATION_CAP_LATE_BLOCK_ACTIVATE,
	MIGRATION_CAP_VALIDATE_UUID,
	MIGRATION_CAPS,
};

/* "auto-converge", ...; static. */
const char *migration_capability_name(enum migration_capability capability);

enum migration_compression { MIGRATION_COMPRESSION_NONE, MIGRATION_COMPRESSION_ZSTD };

/* QMP's MigrationParameters, as far as there is something behind them, or they are kept and shown. */
struct migration_params {
	/* when auto-converge holds the guest back, and how much, in percent */
	uint8_t throttle_trigger_threshold;
	uint8_t cpu_throttle_initial, cpu_throttle_increment, max_cpu_throttle;
	bool cpu_throttle_tailslow;
	uint64_t max_bandwidth;          /* bytes a second; 0: no limit */
	uint64_t max_postcopy_bandwidth; /* the same, once the guest runs on the other side */
	uint64_t downtime_limit_ms;
	uint8_t multifd_channels;
	enum migration_compression multifd_compression; /* also of the only channel */
	uint8_t multifd_zstd_level;                     /* 1 to 20 */
	/* kept and shown: nothing here has a place in a network that would have to be announced */
	uint64_t announce_initial_ms, announce_max_ms, announce_rounds, announce_step_ms;
};

struct migration_ram_info {
	uint64_t transferred; /* bytes sent so far */
	uint64_t remaining;   /* bytes of memory */
	uint64_t total;       /* boot memory and what is plugged */
	uint64_t duplicate;   /* pages of one byte over and over (zero pages) */
	uint64_t normal, normal_bytes;
	uint64_t dirty_pages_rate; /* a second */
	double mbps;
	uint64_t dirty_sync_count; /* passes over memory */
	uint64_t page_size;
	uint64_t multifd_bytes;
	uint64_t pages_per_second;
	uint64_t postcopy_requests;
	uint64_t precopy_bytes, downtime_bytes, postcopy_bytes;
	uint64_t hinted; /* pages that were left out: the guest said that they are free */
};

#define MIGRATION_LISTENING_MAX 272u

struct migration_info {
	enum migration_status status;
	bool incoming;
	/* A sentence, or NULL; with MIGRATION_FAILED and MIGRATION_POSTCOPY_PAUSED. Valid until the
	 * next turn of the main loop. */
	const char *error;
	bool has_ram; /* has begun to move memory */
	struct migration_ram_info ram;
	uint64_t total_time_ms;
	uint64_t setup_time_ms;
	bool has_downtime; /* it is over */
	uint64_t downtime_ms;
	bool has_expected_downtime;
	uint64_t expected_downtime_ms;
	uint8_t cpu_throttle_percentage; /* 0: none */
	/* where somebody can connect to: "tcp:127.0.0.1:4444"; "" where there is none */
	char listening[MIGRATION_LISTENING_MAX];
};

/* May be NULL, each of them. */
struct migration_hooks {
	void (*status)(void *opaque, enum migration_status status);
	/* One more pass over memory begins: dirty_sync_count. */
	void (*pass)(void *opaque, uint64_t pass);
};

/*
 * For the life of a machine; @main is its loop. The machine must not be freed before. NULL and *err
 * on failure.
 */
struct migration *migration_new(struct vm *vm, struct loop *main, struct err **err);
/* Cancels what is under way and waits until it has ended. NULL is allowed. */
void migration_free(struct migration *m);
/* One at a time; @hooks is copied, NULL ends it. */
void migration_set_hooks(struct migration *m, const struct migration_hooks *hooks, void *opaque);

/* As bits 1 << enum migration_capability. */
uint32_t migration_capabilities(const struct migration *m);
/* -EBUSY while a migration is under way, -EINVAL for a set that cannot be. */
int migration_set_capabilities(struct migration *m, uint32_t capabilities, struct err **err);

const struct migration_params *migration_params(const struct migration *m);
/*
 * All at once: nothing changes when one is out of its range (the sentence names it and what is
 * allowed). Limits take effect at once, also on what is under way.
 */
int migration_set_params(struct migration *m, const struct migration_params *params,
			 struct err **err);

/*
 * Begin to move the machine to @uri (docs/migration.md). @resume: go on with the one that is
 * MIGRATION_POSTCOPY_PAUSED.
 */
int migration_start(struct migration *m, const char *uri, bool resume, struct err **err);
/*
 * Up to the moment in which the other side is told to go on the machine is here again when it was
 * cancelled; later, and with nothing under way, nothing happens.
 */
void migration_cancel(struct migration *m);
/* Go on from MIGRATION_PRE_SWITCHOVER. -EINVAL when that is not the status. */
int migration_continue(struct migration *m, enum migration_status status, struct err **err);
/* Let the guest go on at the other side, and send what is missing afterwards. */
int migration_start_postcopy(struct migration *m, struct err **err);
/* Cut the connection of a migration in postcopy: both sides are MIGRATION_POSTCOPY_PAUSED then. */
int migration_pause(struct migration *m, struct err **err);

/*
 * Load the machine from @uri: of -incoming, and of migrate-incoming when that said "defer", which
 * does nothing but wait for it. Whoever is to connect can when it returns.
 */
int migration_incoming(struct migration *m, const char *uri, struct err **err);
/* Wait for the other side once more: of an incoming one that is MIGRATION_POSTCOPY_PAUSED. */
int migration_recover(struct migration *m, const char *uri, struct err **err);

void migration_info(const struct migration *m, struct migration_info *ret_info);

/*
 * dirty_rate.h's, of this machine; -EBUSY also where the log of writes is a migration's. One that is
 * under way by that log ends without a result when a migration begins.
 */
int migration_dirty_rate_start(struct migration *m, enum dirty_rate_mode mode, int64_t calc_time_s,
			       int64_t sample_pages, struct err **err);
void migration_dirty_rate_info(const struct migration *m, struct dirty_rate_info *ret_info);

#endif
