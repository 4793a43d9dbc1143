/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migrations as monitors see them (vmm/migration/migration.h does them).
 *
 *	migrate.c		the commands that begin, change and end one, and the events
 *	migrate_info.c		query-migrate, info migrate
 *	migrate_params.c	capabilities and parameters
 *	dirty_rate.c		how fast the guest writes to its memory
 *	migrate_job.c		the job of an outgoing one, and people who wait for it
 *
 * I1  An outgoing migration is a job (qmp/job.h) of type "migrate" from its command to its end, also
 *     while it is paused in postcopy. Its progress counts bytes of memory. Where no more jobs can be
 *     had it is one without. The job of the last one stays until it is dismissed or the next begins.
 * I2  Who waits is told on a turn of the loop of its own: what follows may be any command.
 * I3  Capabilities of other monitors can be switched off, but not on; parameters that nothing here
 *     uses are checked, kept and shown.
 *
 * Threads: the main loop's only.
 */
#ifndef VMM_CONTROL_MIGRATE_H
#define VMM_CONTROL_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "vmm/control/internal.h"
#include "vmm/migration/migration.h"

struct err;
struct job;

/* Parameters that are kept and shown. */
struct migrate_kept {
	uint8_t compress_level, compress_threads, decompress_threads, multifd_zlib_level;
	bool compress_wait_thread, block_incremental;
	uint32_t x_checkpoint_delay_ms;
	uint64_t xbzrle_cache_bytes;
};

/* All that parameters set. */
struct migrate_params {
	struct migration_params run; /* has an effect */
	struct migrate_kept kept;
};

struct migrate {
	struct control *control;
	struct migration *migration;
	struct migrate_kept kept;
	struct job *job;              /* NULL: none is under way, or it has none */
	bool counted;                 /* the job knows how much there is altogether */
	bool cancelled;               /* the job was */
	uv_timer_t timer;             /* runs while somebody waits */
	struct command_call *waiting; /* who does; or NULL */
	bool shown;                   /* to whom something was shown */
	bool ended;                   /* what is waited for, with these: */
	enum migration_status end_status;
	struct err *end_err;
};

/* migrate_info.c */

/*
 * Why it failed, or NULL: fit for JSON and for a terminal, though the other side's words may be in
 * it. The caller's.
 */
struct err *migrate_why(const struct migration_info *info);

/* migrate_params.c */
void migrate_kept_init(struct migrate_kept *kept);

/* migrate_job.c */

/* A migration has begun, or (@resume) goes on. */
void migrate_job_start(struct migrate *m, bool resume);
/* Its status is another one: the job may be over. */
void migrate_job_follow(struct migrate *m);
void migrate_job_end(struct migrate *m);
/* For a handler that has begun a migration: wait for its end. What the handler is to return. */
int migrate_wait(struct migrate *m, struct command_call *call);
/* Its status is another one: who waits is told soon. */
void migrate_wait_follow(struct migrate *m);

#endif
