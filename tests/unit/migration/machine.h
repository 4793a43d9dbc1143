/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine for tests that is nothing but memory: boot memory in two blocks, and memory devices
 * whose blocks come and go; a log of what its CPUs wrote, as a hypervisor keeps it, and the dirty
 * marks of the gm for what was written through that. What cannot fail here fails the test.
 */
#ifndef TESTS_MIGRATION_MACHINE_H
#define TESTS_MIGRATION_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/gm.h"
#include "vmm/migration/blocks.h"

struct notes;
struct ram_send;

#if defined(__SANITIZE_THREAD__)
#define MACHINE_WITH_TSAN true
#elif defined(__has_feature)
#define MACHINE_WITH_TSAN __has_feature(thread_sanitizer)
#else
#define MACHINE_WITH_TSAN false
#endif

#define MACHINE_BOOT_BLOCKS 2u
#define MACHINE_BLOCKS_MAX  4u

struct machine {
	struct gm *gm;
	struct block blocks[MACHINE_BLOCKS_MAX];
	size_t nr_blocks;
	struct gm_region *regions[MACHINE_BLOCKS_MAX]; /* of devices */
	_Atomic uint64_t *log[MACHINE_BLOCKS_MAX];     /* a bit for each page */
	bool *plugged[MACHINE_BLOCKS_MAX];             /* each unit; guarded by gate */
	pthread_mutex_t device;                        /* held for each change of a device */
	/*
	 * A CPU's write holds it for reading; what CPUs must not see half done (a harvest, a block
	 * that goes) holds it for writing.
	 */
	pthread_rwlock_t gate;
	struct notes *notes; /* told of changes; guarded by device; NULL: nobody is */
	atomic_uint syncs, passes, throttle;
	struct ram_send *interrupt; /* at the begin of each pass; NULL: none */
};

struct machine_config {
	uint64_t boot_bytes; /* of each boot block */
	uint64_t device_bytes, unit_bytes;
	size_t nr_devices;
	bool shared; /* memory is that of memfds */
};

void machine_init(struct machine *m, const struct machine_config *config);
void machine_done(struct machine *m);

/* ---- what happens to it; any thread ---- */

/* A unit comes, is gone, or is gone and there again with its content (an unplug that failed). */
void machine_plug(struct machine *m, size_t block, uint64_t unit);
void machine_unplug(struct machine *m, size_t block, uint64_t unit);
void machine_unplug_fails(struct machine *m, size_t block, uint64_t unit);
/* Notes what is plugged, and from now on each change. NULL ends it. */
void machine_track(struct machine *m, struct notes *notes);
/* A CPU stores to memory; false: nothing is plugged there. */
bool machine_store(struct machine *m, size_t block, uint64_t offset, uint64_t value);
/* Fills the first pages of boot memory with what looks random; the same each time. */
void machine_fill(struct machine *m, size_t block, uint64_t pages);
/* A CPU makes a page zeros. */
bool machine_clear_page(struct machine *m, size_t block, uint64_t page);

/* ---- hooks of sender and receiver; @opaque is the machine ---- */

int machine_sync(void *opaque);
void machine_throttle(void *opaque, unsigned int percent);
void machine_pass(void *opaque, uint64_t number);
struct err;
int machine_load_plug(void *opaque, size_t block, uint64_t offset, uint64_t size, bool plugged,
		      struct err **err);

/* ---- what it came to ---- */

/* Both hold the same, and have the same plugged; nobody works on either. */
void machine_check_same(const struct machine *a, const struct machine *b);
/* Pages that the host holds for the block. */
uint64_t machine_held_pages(const struct machine *m, size_t block);

#endif
