/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that runs before its memory is there: pages come when they are touched, and meanwhile
 * all the others, until nothing is missing.
 *
 * Two kinds of source. One that is asked (an image) is read by this module's threads: one serves
 * faults, one reads everything else in order. One that sends (postcopy) is told which pages are wanted
 * first, and whoever receives pages hands them in with lazy_put().
 *
 * What cannot wait (guard/missing.h says what: files on disks, memory that is protected page by page,
 * all of it where this process may have no userfaultfd) is loaded "at once": by lazy_start(), before the
 * guest runs.
 *
 * I1  The guest and the devices see a page's content or wait for it; they never see anything else. When
 *     the source fails they go on with an error instead (EFAULT for KVM and system calls, a signal that
 *     fault_catch() catches): lazy_failed() is called first.
 * I2  Blocks of memory devices may come and go meanwhile, without a word to this module: what
 *     is unplugged is forgotten, what is plugged is ordinary.
 * I3  When nothing is missing any more all memory is ordinary again, and lazy_done() is called.
 * I4  The threads here wait for the source and for nobody else: no lock of the machine is taken, and no
 *     memory slot changed.
 *
 * The main thread, while lazy_is_active():
 *   - must not read or write guest memory, nor call anything of gm.h, or wait for a lock under which
 *     others do (gm, devices' queues): those wait for pages. A reset has to wait for lazy_done() with
 *     the vCPUs held, since it writes to memory.
 *   - may pause vCPUs as long as the source answers: a vCPU leaves when its page is there. While
 *     lazy_is_stalled() it may not: kernels before 6.2 do not let a vCPU go that waits for a page.
 *     At the end of the machine lazy_abort() lets everybody go.
 *   - may call everything declared here but lazy_start(). lazy_free() waits for the threads, so at
 *     most for one read of the source.
 *
 * Ownership: blocks' memory, guards and the source are the caller's and outlive it (a guard may go
 * when nothing is plugged).
 * Threads: lazy_new(), lazy_expect(), lazy_start(), lazy_free() serialised by the caller, and with
 * what is done to the guards up to lazy_start(); the rest from any. Hooks: below.
 */
#ifndef VMM_MIGRATION_LAZY_H
#define VMM_MIGRATION_LAZY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cancel;
struct err;
struct image;
struct lazy;
struct vmem_guard;

#define LAZY_PAGE_BYTES 4096u

struct lazy_block {
	void *memory;
	uint64_t size;       /* bytes */
	uint64_t page_bytes; /* of the host's memory */
	int fd;              /* -1: private; as struct vm_ram_block */
	uint64_t fd_offset;
	struct vmem_guard *guard; /* NULL: boot memory */
	uint64_t unit_bytes;      /* a memory device's block size; else page_bytes */
	bool populate;            /* zeros get memory, too (prealloc=on) */
};

struct lazy_source {
	/*
	 * A source that is asked. next(): the first page of [page, end) that has content, or @end;
	 * *ret_nr: how many follow. read(): those pages, zeros where they have none; may block as long
	 * as storage takes. From several threads at once. NULL: a source that sends.
	 */
	uint64_t (*next)(void *opaque, size_t block, uint64_t page, uint64_t end, uint64_t *ret_nr);
	int (*read)(void *opaque, size_t block, uint64_t page, uint64_t nr, void *buf,
		    struct err **err);
	/*
	 * A source that sends: somebody waits for these pages. On the fault thread, no lock held; may
	 * block as long as it takes to send a message; once for each page.
	 */
	void (*want)(void *opaque, size_t block, uint64_t page, uint64_t nr);
	void *opaque;
};

/* An image, which is the caller's and outlives it. Its blocks are those of lazy_new(). */
struct lazy_source lazy_source_of_image(struct image *image);

struct lazy_hooks {
	/* On a thread of this module, or lazy_put()'s; must not wait, nor call lazy_free(). */
	void (*done)(void *opaque);
	/*
	 * Once, before accesses begin to fail. When it returns no vCPU may begin another instruction
	 * (vcpus_stop()): where KVM interprets one, an access that fails is given out as one to
	 * registers. The sentence is valid during the call.
	 */
	void (*failed)(void *opaque, const char *sentence);
	void *opaque;
};

/* Both structures are copied. */
int lazy_new(const struct lazy_block *blocks, size_t nr_blocks, const struct lazy_source *source,
	     const struct lazy_hooks *hooks, struct lazy **ret_lazy, struct err **err);
/*
 * After a start: after done(), or when no vCPU and no device runs any more. NULL is allowed.
 */
void lazy_free(struct lazy *lazy);

/*
 * Bytes [offset, offset + size) of the block are the guest's: boot memory all at once, plugged runs of
 * a device. Of a source that is asked, all pages there come from it. A source that sends: nothing
 * is missing until lazy_expect_pages().
 */
int lazy_expect(struct lazy *lazy, size_t block, uint64_t offset, uint64_t size, struct err **err);
/* A source that sends: these pages, of what is expected, come anew; what they hold is forgotten. */
int lazy_expect_pages(struct lazy *lazy, size_t block, uint64_t page, uint64_t nr,
		      struct err **err);

/*
 * Load what cannot wait, then begin. A source that sends is asked for what cannot wait, and this
 * waits for it to come. When it returns 0 the guest may run. -ECANCELED without a sentence when
 * @cancel (NULL allowed) was raised meanwhile. Not on the main thread.
 */
int lazy_start(struct lazy *lazy, struct cancel *cancel, struct err **err);

/*
 * A source that sends: content of pages [page, page + nr); @bytes NULL: zeros. Pages that are not
 * missing are left alone. A failure was told by failed() as well.
 */
int lazy_put(struct lazy *lazy, size_t block, uint64_t page, uint64_t nr, const void *bytes,
	     struct err **err);
/* The first page in [page, end) that is missing, or @end; *ret_nr: how many follow. */
uint64_t lazy_next_missing(struct lazy *lazy, size_t block, uint64_t page, uint64_t end,
			   uint64_t *ret_nr);
/* want() is called again for what was wanted and has not come: there is a new connection. */
void lazy_want_again(struct lazy *lazy);

/* The source does not answer for now (a connection broke), or answers again. */
void lazy_set_stalled(struct lazy *lazy, bool stalled);
bool lazy_is_stalled(const struct lazy *lazy);
/* Started, and something is missing. */
bool lazy_is_active(const struct lazy *lazy);
/* Have everybody who waits, now or later, go on with an error: the machine ends. vCPUs as for failed(). */
void lazy_abort(struct lazy *lazy);

struct lazy_stats {
	uint64_t total_bytes, missing_bytes; /* to come altogether, and still */
	uint64_t at_once_bytes;              /* loaded before the start */
	uint64_t faults;                     /* times that somebody waited */
	uint64_t fault_ns, fault_ns_max; /* served by a source that is asked: how long that took */
	uint64_t start_ns;               /* since lazy_start(); stands still at the end */
	const char *at_once_reason;      /* why anything was loaded at once, or NULL */
};

/* Never waits. */
void lazy_stats(const struct lazy *lazy, struct lazy_stats *ret_stats);

#endif
