/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For the tests of lazy.h: a machine of boot memory and a guarded memory device, whose content follows
 * from the place; a source of both kinds; and those who touch memory, threads and system calls.
 */
#ifndef TESTS_UNIT_MIGRATION_LAZY_RIG_H
#define TESTS_UNIT_MIGRATION_LAZY_RIG_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"
#include "tests/unit/guard/guard_rig.h"
#include "vmm/migration/lazy.h"

#define BLOCK    (2 * MIB) /* of the device */
#define BOOT     (8 * MIB)
#define DEVICE   (16 * MIB)
#define BOOT_AT  0u
#define DEV_AT   1u
#define TOUCHERS 4

/* A machine: boot memory, and a device of which blocks 0 to 3 and 5 are plugged. */
struct world {
	struct host host;
	char *boot;
	int boot_fd, device_fd;
	struct lazy *lazy;
	struct lazy_source source;
	sem_t done, failed;
	char sentence[200];
	/* the source */
	pthread_mutex_t lock;
	sem_t asked;       /* somebody reads ... */
	sem_t *gate;       /* ... and waits for this, if it is there */
	uint64_t bad_page; /* of boot memory: reading it fails, + 1 */
	_Atomic uint64_t reads;
	/* a source that sends */
	struct {
		size_t block;
		uint64_t page, nr;
	} wants[4096];
	size_t nr_wants;
};

/* Every 8th run of 16 pages is zeros, and the 2 MiB from 4 MiB on. */
bool has_content(uint64_t page);
uint64_t content_of(size_t block, uint64_t page);
void content_fill(size_t block, uint64_t page, uint64_t nr, void *buf);

/* The source that is asked. */
uint64_t source_next(void *opaque, size_t block, uint64_t page, uint64_t end, uint64_t *ret_nr);
int source_read(void *opaque, size_t block, uint64_t page, uint64_t nr, void *buf,
		struct err **err);

/* Of struct lazy_hooks: done and failed of the world. */
void hook_done(void *opaque);
void hook_failed(void *opaque, const char *sentence);

enum memory { ANON, MEMFD, DISK };

/* A file of that size; -1 for ANON. */
int memory_fd(enum memory memory, uint64_t size);
/* @asked: which kind of source. */
void world_new(struct world *w, enum memory boot, enum memory device, bool asked);
/* What is plugged is expected. */
void world_expect(struct world *w);
void world_end(struct world *w);
char *world_at(const struct world *w, size_t block, uint64_t page);
void check_pages(const struct world *w, size_t block, uint64_t page, uint64_t nr);
/* All that is plugged; the rest is closed. */
void check_all(const struct world *w);

/* A thread that touches all of it at random; wrong counts what it should not have seen. */
struct toucher {
	struct world *w;
	pthread_t thread;
	unsigned int seed, wrong;
};

void *touch(void *opaque);

struct waiter {
	char *at;
	pthread_t thread;
	_Atomic int result; /* of a system call that reads there: the byte or -errno */
};

void waiter_start(struct waiter *waiter, char *at);
/* Its result, when it comes. */
int waiter_end(struct waiter *waiter);

#endif
