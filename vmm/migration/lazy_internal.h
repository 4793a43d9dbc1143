/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of lazy.h know of each other: lazy.c has life, runs and the loading at once,
 * lazy_store.c puts pages where they belong, lazy_serve.c has the threads.
 *
 * Of each block four maps, by page of LAZY_PAGE_BYTES or by unit; they cost memory for what is used.
 * The lock guards them and is held over putting pages, which waits for nobody; it comes before the lock
 * of guard/missing.h.
 */
#ifndef VMM_MIGRATION_LAZY_INTERNAL_H
#define VMM_MIGRATION_LAZY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/bitmap.h"
#include "vmm/migration/lazy.h"

#define LAZY_PIECE_PAGES   256u                   /* read or loaded at a time: 1 MiB */
#define LAZY_CHUNK_PAGES   512u                   /* what makes a huge page: 2 MiB */
#define LAZY_CHUNK_CONTENT (LAZY_CHUNK_PAGES / 2) /* so many with content are most of it */
#define LAZY_NO_AREA       ((size_t)-1)

struct missing;

struct part {
	struct lazy_block c;
	uint64_t nr_pages;
	uint64_t unit_pages; /* of a page of the host's memory */
	size_t area;         /* of guard/missing.h; LAZY_NO_AREA: there is none */
	bool every;          /* a source that is asked: pages of zeros are to come as well */
	bool private_file;   /* what it holds before anything came may not be zeros */
	/* guarded by lock */
	struct bitmap *missing; /* by page: its content is to come */
	struct bitmap *wanted;  /* by page: the source was told, and it has not come */
	struct bitmap *given;   /* by unit_bytes: lazy_expect() */
	struct bitmap *at_once; /* by unit_bytes: of these, what cannot be waited for */
};

struct lazy {
	struct lazy_source source;
	struct lazy_hooks hooks;
	struct missing *kernel; /* NULL: nothing can be waited for */
	struct part *parts;
	size_t nr_parts;
	pthread_mutex_t lock;
	/* guarded by lock */
	uint64_t nr_at_once; /* missing pages of what cannot wait */
	bool want_again;
	size_t hint_part; /* where somebody waited last; the filling goes on from there */
	uint64_t hint_page;
	bool hinted;
	/* set once */
	bool threads_started, fill_started;
	pthread_t serve, fill;
	int event; /* for the serving thread, and for lazy_start() */
	atomic_bool stop, failed, stalled, started, finished;
	_Atomic uint64_t nr_missing, nr_total, nr_loaded, faults, fault_ns, fault_ns_max;
	_Atomic uint64_t start_ns, end_ns;
	_Atomic(const char *) reason;
	char reason_text[256];
};

/* ---- lazy_store.c; the lock is held ---- */

/*
 * Pages [page, page + nr), as far as they are missing; @bytes NULL: zeros. 0, or -errno: the host has
 * no memory.
 */
int lazy_store(struct lazy *lazy, size_t index, uint64_t page, uint64_t nr, const void *bytes);
/*
 * A chunk in which nothing came, most of it with content: all of it at once, from @stage, which is empty
 * afterwards.
 */
bool lazy_is_whole_chunk(const struct lazy *lazy, size_t index, uint64_t page);
int lazy_store_chunk(struct lazy *lazy, size_t index, uint64_t page, void *stage);
/* Somebody waits for the host's page at @page, of which nothing is missing: show it. */
int lazy_show(struct lazy *lazy, size_t index, uint64_t page);
/* The first missing page in [page, end), or @end; *ret_nr: how many follow. */
uint64_t lazy_missing_run(const struct part *part, uint64_t page, uint64_t end, uint64_t *ret_nr);
/*
 * Without the lock: pages [page, page + nr) came, and chunks that are whole now become huge pages. Not
 * where most of it is zeros: memory would come of it that the guest did not have.
 */
void lazy_merge(struct lazy *lazy, size_t index, uint64_t page, uint64_t nr);

/* ---- lazy_serve.c ---- */

int lazy_serve_start(struct lazy *lazy, struct err **err);
/* They are gone when it returns. */
void lazy_serve_stop(struct lazy *lazy);
/* Have the serving thread look again. */
void lazy_notify(const struct lazy *lazy);
/* The end of all waiting; @sentence NULL: nobody is told. No lock is held. */
void lazy_fail(struct lazy *lazy, const char *sentence);
uint64_t lazy_now_ns(void);

#endif
