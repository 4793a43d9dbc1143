/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A shared mapping of a file, block by block: see pages.h. A closed block is a hole of the file.
 *
 * What the file is made of decides how closed blocks are kept from being touched:
 *
 *     memory (tmpfs, memfd)   userfaultfd, MISSING: whoever touches a page that the file has not
 *     huge pages (hugetlbfs)  gets a SIGBUS, or EFAULT inside a system call. A page that is swapped
 *                             out is not missing. No work per block, and no window: the kernel takes
 *                             a page out of the file and of all page tables in one step.
 *     disk (ext4, xfs ...)    fences: mprotect(PROT_NONE). Also for the others where this process
 *                             may not have a userfaultfd.
 *
 * I1  A block that is dirty may have memory or disk space; one that is not has none, and is closed.
 *     Opening commits: what the block can ever need is in the file before it is open.
 * I2  Fences: closed runs are PROT_NONE, open ones readable and writable; fences counts the closed
 *     runs. Each change of protection is of one run, which the kernel does wholly or not at all.
 * I3  No call touches the mapped memory but populating, which tells errors instead of a signal: a
 *     file that somebody else makes shorter is the guest's loss. Opening makes it long again.
 * I4  Blocks smaller than a huge page of 2 MiB ("fine") in a memory file: a page of the file may be
 *     of several blocks. Huge pages are declined for the mapping; where the file system brings them
 *     regardless, opening fails rather than to commit a closed block, and a hole that the kernel did
 *     not make is found and tried again.
 *
 * Locked memory (mlock(2)) changes nothing: holes are made in it just as well.
 *
 * The guest controls: which blocks come and go, and what it touches meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/num.h"
#include "guard/pages.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif

#define FILE_HUGE  (2 * MIB)   /* the largest page that tmpfs makes */
#define FILE_PIECE (256 * MIB) /* committed between two looks at what the host has left */
#define FILE_TRIES 3           /* to make a hole that the kernel did not make */
#define FILE_NAME  120         /* of a file, in sentences */

enum file_kind { FILE_MEMORY, FILE_HUGETLB, FILE_DISK };

struct pages_file {
	struct pages base;
	struct bitmap *open, *dirty; /* by block */
	int uffd;                    /* -1: fences */
	enum file_kind kind;
	bool fine;     /* I4 */
	uint64_t page; /* bytes of a page of the file */
	uint32_t max_fences;
};

/* The kernel's, from 6.5 on. */
struct file_cachestat_range {
	uint64_t off, len;
};
struct file_cachestat {
	uint64_t nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted;
};

static struct pages_file *file_of(struct pages *pages)
{
	return container_of(pages, struct pages_file, base);
}

/* ---- the file ---- */

/*
 * fallocate(2) of a run of the region. A file that is too short, beyond RLIMIT_FSIZE, is -EFBIG: the
 * signal that comes with it is taken back.
 */
static int file_fallocate(const struct pages_file *f, int mode, uint64_t offset, uint64_t size)
{
	const struct pages_config *c = &f->base.config;
	sigset_t xfsz, before, pending;
	int ret = 0;

	sigemptyset(&xfsz);
	sigaddset(&xfsz, SIGXFSZ);
	sigemptyset(&pending);
	pthread_sigmask(SIG_BLOCK, &xfsz, &before);
	if (sigismember(&before, SIGXFSZ))
		sigpending(&pending);
	if (fallocate(c->fd, mode, (off_t)(c->fd_offset + offset), (off_t)size) < 0)
		ret = -errno;
	if (ret == -EFBIG && !sigismember(&pending, SIGXFSZ))
		sigtimedwait(&xfsz, NULL, &(struct timespec){0, 0});
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}

/* Does the file hold anything in the run? Memory files only. Untouched pages count. */
static bool file_holds(const struct pages_file *f, uint64_t offset, uint64_t size)
{
	const struct pages_config *c = &f->base.config;
	struct file_cachestat_range range = {c->fd_offset + offset, size};
	struct file_cachestat stat = {0};

	return syscall(SYS_cachestat, c->fd, &range, &stat, 0) == 0 &&
	       (stat.nr_cache || stat.nr_evicted);
}

/* Make a hole. After a failure the run may be a hole in parts. */
static int file_punch(const struct pages_file *f, uint64_t offset, uint64_t size)
{
	for (unsigned int tries = 0; tries < FILE_TRIES; tries++) {
		int ret;

		do
			ret = file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
					     size);
		while (ret == -EINTR);
		if (ret)
			return ret;
		/* A huge page that somebody uses this moment cannot be split: it stays. */
		if (!f->fine || !file_holds(f, offset, size))
			return 0;
	}
	return -EBUSY;
}

/* Make blocks [first, end) that are not dirty holes; those that stay become dirty. */
static void file_drop_clean(struct pages_file *f, uint64_t first, uint64_t end)
{
	uint64_t block_size = f->base.config.block_size;

	while ((first = bitmap_next_clear(f->dirty, first, end)) < end) {
		uint64_t stop = bitmap_next_set(f->dirty, first, end);

		if (file_punch(f, first * block_size, (stop - first) * block_size))
			bitmap_set(f->dirty, first, stop - first);
		first = stop;
	}
}

/* Commit a run. After a failure a part of it may be there. */
static int file_fill(const struct pages_file *f, uint64_t offset, uint64_t size)
{
	uint64_t step = FILE_PIECE, done = 0;

	while (done < size) {
		uint64_t piece = num_min(step, size - done);
		int ret = done && f->kind == FILE_MEMORY ? headroom_check(piece) : 0;

		if (!ret)
			ret = file_fallocate(f, 0, offset + done, piece);
		if (ret == -EINTR) {
			/* tmpfs gives up all that this call did: signals in a row must not win. */
			step = num_max(num_align_down(piece / 2, f->page), f->page);
			continue;
		}
		if (ret)
			return ret;
		done += piece;
	}
	return 0;
}

/* Did committing blocks [first, end) bring pages into a closed block beside them? */
static bool file_spilled(const struct pages_file *f, uint64_t first, uint64_t end)
{
	uint64_t block_size = f->base.config.block_size;

	if (!f->fine)
		return false;
	return (first && !bitmap_test(f->dirty, first - 1) &&
		file_holds(f, first * block_size - f->page, f->page)) ||
	       (end < bitmap_size(f->dirty) && !bitmap_test(f->dirty, end) &&
		file_holds(f, end * block_size, f->page));
}

/* Commit what is not dirty of blocks [first, end). After a failure the file is as before. */
static int file_commit(struct pages_file *f, uint64_t first, uint64_t end)
{
	uint64_t block_size = f->base.config.block_size;
	uint64_t missing = end - first - bitmap_count(f->dirty, first, end - first);
	uint64_t at = first, stop = first;
	int ret = 0;

	if (missing && f->kind == FILE_MEMORY)
		ret = headroom_check(missing * block_size);
	if (ret)
		return ret;
	while (!ret && (at = bitmap_next_clear(f->dirty, stop, end)) < end) {
		stop = bitmap_next_set(f->dirty, at, end);
		ret = file_fill(f, at * block_size, (stop - at) * block_size);
		if (!ret && file_spilled(f, at, stop))
			ret = -EOPNOTSUPP;
	}
	if (!ret) {
		bitmap_set(f->dirty, first, end - first);
		return 0;
	}
	if (f->fine) {
		/* What came along with the run goes with it. */
		uint64_t around = FILE_HUGE / num_min(block_size, FILE_HUGE);

		first -= num_min(first, around);
		stop = num_min(bitmap_size(f->dirty), stop + around);
	}
	file_drop_clean(f, first, stop);
	return ret;
}

/* ---- fences ---- */

/* What opening or closing blocks [first, end) adds to the number of fences. */
static int64_t file_fences_change(const struct pages_file *f, uint64_t first, uint64_t end,
				  bool opening)
{
	uint64_t from = first ? first - 1 : 0, to = num_min(bitmap_size(f->open), end + 1);
	uint64_t at = from;
	int64_t now = 0, then = 1;

	/* The runs of closed blocks that the run and its neighbours are part of. */
	while ((at = bitmap_next_clear(f->open, at, to)) < to) {
		now++;
		at = bitmap_next_set(f->open, at, to);
	}
	if (opening)
		then = (from < first && !bitmap_test(f->open, from)) +
		       (to > end && !bitmap_test(f->open, end));
	return then - now;
}

/* -ENOMEM when there would be too many fences. */
static int file_fences_check(const struct pages_file *f, uint64_t first, uint64_t end, bool opening)
{
	int64_t change = file_fences_change(f, first, end, opening);

	return change > 0 && f->base.fences + (uint64_t)change > f->max_fences ? -ENOMEM : 0;
}

/* One run, wholly closed or wholly open; its bits change with its protection. */
static int file_protect(struct pages_file *f, uint64_t first, uint64_t end, bool opening)
{
	const struct pages_config *c = &f->base.config;
	int64_t change = file_fences_change(f, first, end, opening);

	if (mprotect(c->memory + first * c->block_size, (end - first) * c->block_size,
		     opening ? PROT_READ | PROT_WRITE : PROT_NONE) < 0)
		return -errno;
	f->base.fences += (uint32_t)change;
	if (opening)
		bitmap_set(f->open, first, end - first);
	else
		bitmap_clear(f->open, first, end - first);
	return 0;
}

/* ---- the ops ---- */

static int file_open(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct pages_file *f = file_of(pages);
	uint64_t first = offset / pages->config.block_size;
	uint64_t end = first + size / pages->config.block_size, at, stop = first;
	int ret = f->uffd < 0 ? file_fences_check(f, first, end, true) : 0;

	if (!ret)
		ret = file_commit(f, first, end);
	if (ret)
		return ret;
	if (f->uffd >= 0) {
		bitmap_set(f->open, first, end - first);
		return 0;
	}
	while (!ret && (at = bitmap_next_clear(f->open, stop, end)) < end) {
		stop = bitmap_next_set(f->open, at, end);
		ret = file_protect(f, at, stop, true);
	}
	return ret;
}

/* The memory is there since it was open, but clearing and mapping it is the larger part. */
static int file_populate(struct pages *pages, uint64_t offset, uint64_t size)
{
	const struct pages_config *c = &pages->config;

	if (!pages_populate_supported())
		return 0;
	return pages_map_run(c->memory + offset, size, c->populate_threads);
}

static int file_close(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct pages_file *f = file_of(pages);
	uint64_t first = offset / pages->config.block_size;
	uint64_t end = first + size / pages->config.block_size, at, stop = first;
	int ret;

	if (f->uffd >= 0) {
		/* Making the hole closes the block. */
		bitmap_clear(f->open, first, end - first);
		return 0;
	}
	if (bitmap_all_clear(f->open, first, end - first))
		return 0;
	ret = file_fences_check(f, first, end, false);
	while (!ret && (at = bitmap_next_set(f->open, stop, end)) < end) {
		stop = bitmap_next_clear(f->open, at, end);
		ret = file_protect(f, at, stop, false);
	}
	return ret;
}

static int file_discard(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct pages_file *f = file_of(pages);
	uint64_t block_size = pages->config.block_size, first = offset / block_size;
	uint64_t end = first + size / block_size, at = bitmap_next_set(f->dirty, first, end);
	int ret;

	if (at == end)
		return 0;
	/* One hole to the end: what is one already costs the kernel nothing. */
	ret = file_punch(f, at * block_size, (end - at) * block_size);
	if (!ret)
		bitmap_clear(f->dirty, at, end - at);
	return ret;
}

static void file_free(struct pages *pages)
{
	struct pages_file *f = file_of(pages);

	if (f->uffd >= 0)
		close(f->uffd);
	bitmap_free(f->open);
	bitmap_free(f->dirty);
	free(f);
}

static const struct pages_ops file_ops = {
	.free = file_free,
	.open = file_open,
	.populate = file_populate,
	.close = file_close,
	.discard = file_discard,
};

/* ---- life ---- */

/* What the file is called, for a person. */
static const char *file_name(const struct pages_file *f, char *name)
{
	char link[32];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", f->base.config.fd);
	length = readlink(link, name, FILE_NAME - 1);
	if (length < 0)
		length = snprintf(name, FILE_NAME, "file descriptor %d", f->base.config.fd);
	name[length] = '\0';
	return name;
}

/* Find out what the file is, and whether everything fits it. */
static int file_look(struct pages_file *f, struct vmem_error *error)
{
	const struct pages_config *c = &f->base.config;
	char name[FILE_NAME];
	struct statfs fs;
	struct stat st;
	uint64_t end;

	if (fstat(c->fd, &st) < 0 || fstatfs(c->fd, &fs) < 0) {
		int code = errno;

		return pages_error(error, code, "%s cannot be examined: %s", file_name(f, name),
				   strerror(code));
	}
	f->page = (uint64_t)sysconf(_SC_PAGESIZE);
	f->kind = FILE_DISK;
	if (fs.f_type == TMPFS_MAGIC)
		f->kind = FILE_MEMORY;
	if (fs.f_type == HUGETLBFS_MAGIC) {
		f->kind = FILE_HUGETLB;
		f->page = (uint64_t)fs.f_bsize;
	}
	if (!S_ISREG(st.st_mode))
		return pages_error(error, EINVAL, "%s is no regular file", file_name(f, name));
	if (!num_add(c->fd_offset, c->size, &end) || end > (uint64_t)st.st_size)
		return pages_error(error, EINVAL,
				   "%s has %llu bytes, too few for %llu from %llu on",
				   file_name(f, name), (unsigned long long)st.st_size,
				   (unsigned long long)c->size, (unsigned long long)c->fd_offset);
	if (!num_is_aligned(c->block_size | c->fd_offset | (uintptr_t)c->memory, f->page))
		return pages_error(
			error, EINVAL,
			"%s has pages of %llu bytes: block size, offset and address must be "
			"multiples of that",
			file_name(f, name), (unsigned long long)f->page);
	f->fine =
		f->kind == FILE_MEMORY && !num_is_aligned(c->block_size | c->fd_offset, FILE_HUGE);
	return 0;
}

/* The region is a hole, and one page can be committed and made a hole again. */
static int file_empty(struct pages_file *f, struct vmem_error *error)
{
	const struct pages_config *c = &f->base.config;
	const char *what = "make holes in";
	struct utsname kernel;
	char name[FILE_NAME];
	int ret = file_punch(f, 0, c->size);

	/* Huge pages are not tried: that takes long, and they can. */
	if (!ret && f->kind != FILE_HUGETLB) {
		what = "reserve space in";
		ret = file_fill(f, 0, f->page);
		/* That there is none now says nothing of later. */
		if (ret == -ENOSPC || ret == -ENOMEM || ret == -EDQUOT)
			ret = 0;
		if (!ret)
			ret = file_punch(f, 0, f->page);
	}
	if (ret == -EOPNOTSUPP || ret == -ENODEV || ret == -ENOSYS) {
		uname(&kernel);
		return pages_error(
			error, EOPNOTSUPP,
			"the file system of %s (Linux %.32s) cannot %s a file: use a memfd "
			"or a file on tmpfs, hugetlbfs, ext4, xfs or btrfs",
			file_name(f, name), kernel.release, what);
	}
	if (ret)
		return pages_error(error, -ret, "%s cannot be emptied: %s", file_name(f, name),
				   strerror(-ret));
	return 0;
}

/* Is there a way to see all pages that a file has (I4)? */
static bool file_can_see(const struct pages_file *f)
{
	struct file_cachestat_range range = {0, f->page};
	struct file_cachestat stat;

	return syscall(SYS_cachestat, f->base.config.fd, &range, &stat, 0) == 0;
}

/* A fault in a hole becomes SIGBUS or EFAULT. False when userfaultfd is not to be had for this. */
static bool file_register(struct pages_file *f)
{
	const struct pages_config *c = &f->base.config;
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM |
			    UFFD_FEATURE_MISSING_HUGETLBFS,
	};
	struct uffdio_register all = {
		.range = {(uintptr_t)c->memory, c->size},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	/* SIGBUS and no handler: no fault ever waits, so those of the kernel need no right. */
	f->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (f->uffd < 0)
		return false;
	if (ioctl(f->uffd, UFFDIO_API, &api) == 0 && ioctl(f->uffd, UFFDIO_REGISTER, &all) == 0)
		return true;
	close(f->uffd);
	f->uffd = -1;
	return false;
}

/* Nobody reaches the region any more when this returns 0. */
static int file_seal(struct pages_file *f, struct vmem_error *error)
{
	const struct pages_config *c = &f->base.config;
	bool registered = false;
	int protection;

	if (f->fine)
		madvise(c->memory, c->size, MADV_NOHUGEPAGE); /* a kernel without any says no */
	if (f->kind != FILE_DISK && (!f->fine || file_can_see(f)))
		registered = file_register(f);
	f->base.mechanism = registered ? "userfaultfd" : "mprotect";
	protection = registered ? PROT_READ | PROT_WRITE : PROT_NONE;
	if (mprotect(c->memory, c->size, protection) < 0) {
		char name[FILE_NAME];
		int code = errno;

		return pages_error(error, code, "the mapping of %s cannot be protected: %s",
				   file_name(f, name), strerror(code));
	}
	if (!registered) {
		f->max_fences = pages_fence_budget(c);
		f->base.fences = 1;
	}
	return 0;
}

int pages_file_new(const struct pages_config *config, struct pages **ret_pages,
		   struct vmem_error *ret_error)
{
	struct pages_file *f = calloc(1, sizeof(*f));
	int ret = 0;

	if (!f)
		return pages_error(ret_error, ENOMEM, "out of memory");
	f->base.ops = &file_ops;
	f->base.config = *config;
	f->base.mechanism = "mprotect";
	f->uffd = -1;
	f->open = bitmap_new(config->size / config->block_size);
	f->dirty = bitmap_new(config->size / config->block_size);
	if (!f->open || !f->dirty)
		ret = pages_error(ret_error, ENOMEM, "out of memory");
	if (!ret)
		ret = file_look(f, ret_error);
	if (!ret && config->size) {
		ret = file_seal(f, ret_error);
		if (!ret)
			ret = file_empty(f, ret_error);
		if (ret)
			mprotect(config->memory, config->size, PROT_READ | PROT_WRITE);
	}
	if (ret) {
		file_free(&f->base);
		return ret;
	}
	*ret_pages = &f->base;
	return 0;
}
