/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of pages_file.c know of each other: pages_file.c has the protection and the life,
 * file_space.c the contents of the file, file_loose.c what may be a hole and open. See pages_file.c
 * for all of it.
 */
#ifndef GUARD_FILE_H
#define GUARD_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/num.h"
#include "guard/pages.h"

struct bitmap;

#define FILE_HUGE (2 * MIB) /* the largest page that tmpfs makes */
/* What can be done about a file system that cannot do something. */
#define FILE_CURE ": take a memfd, or a file on tmpfs, hugetlbfs, ext4 or xfs"

enum file_kind { FILE_MEMORY, FILE_HUGETLB, FILE_DISK };

struct pages_file {
	struct pages base;
	struct bitmap *dirty, *stray; /* by block */
	struct bitmap *loose;         /* by block: I6; with userfaultfd only */
	uint64_t loose_runs;
	struct bitmap *open; /* with fences: what is not fenced */
	struct bitmap *cuts; /* huge pages with fences (I2): divided before this block */
	uint64_t nr_cuts;
	int uffd; /* -1: fences */
	enum file_kind kind;
	bool fine;           /* I4 */
	bool warm;           /* huge pages come of touching, not of committing */
	uint64_t page;       /* bytes of a page of the file */
	uint32_t max_fences; /* and runs of loose blocks */
};

/* Blocks and bytes are of the region; 0 or -errno. */

/*
 * Commit what is not dirty of blocks [first, end), which are dirty then. After a failure the file
 * is as before.
 */
int file_commit(struct pages_file *f, uint64_t first, uint64_t end);
/* Commit a run as it is. After a failure a part of it may be there. */
int file_fill(const struct pages_file *f, uint64_t offset, uint64_t size);
/* Make a hole. After a failure the run may be a hole in parts. */
int file_punch(const struct pages_file *f, uint64_t offset, uint64_t size);
/*
 * Commit a page and make it a hole again, and all else of the region too; *ret_what says what could
 * not be done, and the cure. Huge pages are not tried: that takes long, and they can.
 */
int file_probe(struct pages_file *f, const char **ret_what);
/* Is there a way to see all pages that a memory file has (Linux 6.5)? */
bool file_can_see(const struct pages_file *f);

/* Is there a place to divide at the start of the block that was none before? Huge pages only. */
bool file_cuts(const struct pages_file *f, uint64_t block);
/* Note one that there is now. */
void file_cut(struct pages_file *f, uint64_t block);

/* ---- file_loose.c: blocks that may have holes, while they are open (I6) ---- */

/* Whoever touches a hole there is refused; or gets a page. */
int file_register(const struct pages_file *f, uint64_t offset, uint64_t size);
int file_unregister(const struct pages_file *f, uint64_t offset, uint64_t size);
/*
 * Blocks [first, end), all open, may have holes from now on. -ENOMEM: that would be too many runs.
 */
int file_loosen(struct pages_file *f, uint64_t first, uint64_t end);
/*
 * Nobody fills a hole in blocks [first, end) any more: they are about to be one. After a failure
 * each of them may have holes, of either sort.
 */
int file_tighten(struct pages_file *f, uint64_t first, uint64_t end);

#endif
