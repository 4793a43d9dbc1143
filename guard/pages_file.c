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
 * I1  A block that is dirty has all the memory or disk space that it can ever need, but for what was
 *     reclaimed of it: opening commits it. One that is not is closed, and has none, unless it is a
 *     stray: a hole that failed.
 * I2  Fences: closed runs are PROT_NONE, open ones readable and writable; fences counts the closed
 *     runs. Each change of protection is of one run, and is done wholly or not at all. The kernel
 *     never joins mappings of huge pages again: there every place that was once divided counts half.
 * I3  No call touches the mapped memory but populating, which tells errors instead of a signal: a
 *     file that somebody else makes shorter is the guest's loss. Opening makes it long again.
 * I4  Blocks smaller than a huge page of 2 MiB ("fine") in a memory file: a page of the file may be
 *     of several blocks. Huge pages are declined for the mapping; where the file system brings them
 *     regardless, opening fails rather than to commit a closed block, and a hole that the kernel did
 *     not make is found and tried again.
 * I5  Where the file system makes huge pages only for mappings that were advised to have them, what is
 *     opened is touched first, through a second mapping: committing alone would make small pages.
 * I6  What is reclaimed of an open block is a hole that may be filled again: such a block is "loose",
 *     not registered with userfaultfd any more, until it is made a hole as a whole, for which it is
 *     registered first. Runs of loose blocks are as many as there may be fences, and no more (I2
 *     says how they count): where one would be cut in two beyond that, the whole of it is filled and
 *     registered again.
 *
 * Locked memory (mlock(2)) changes nothing: holes are made in it just as well.
 *
 * Only this mapping is closed. Whoever else maps the file or writes to it is trusted.
 *
 * The guest controls: which blocks come and go, and what it touches meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "guard/file.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif

#define FILE_NAME 80 /* of a file, in sentences */

static struct pages_file *file_of(struct pages *pages)
{
	return container_of(pages, struct pages_file, base);
}

/* ---- fences ---- */

bool file_cuts(const struct pages_file *f, uint64_t block)
{
	return block && block < bitmap_size(f->cuts) && !bitmap_test(f->cuts, block);
}

void file_cut(struct pages_file *f, uint64_t block)
{
	if (!f->cuts || !file_cuts(f, block))
		return;
	bitmap_set(f->cuts, block, 1);
	f->nr_cuts++;
}

/* What opening or closing blocks [first, end) adds to the number of fences. */
static int64_t file_fences_change(const struct pages_file *f, uint64_t first, uint64_t end,
				  bool opening)
{
	uint64_t from = first ? first - 1 : 0, to = num_min(bitmap_size(f->open), end + 1);
	uint64_t at = from;
	int64_t now = 0, then = 1;

	if (f->cuts) {
		uint64_t cuts = f->nr_cuts + file_cuts(f, first) + file_cuts(f, end);

		return (int64_t)(cuts / 2) - (int64_t)(f->nr_cuts / 2);
	}
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
	const int none = PROT_NONE, all = PROT_READ | PROT_WRITE;
	char *memory = c->memory + first * c->block_size;
	uint64_t size = (end - first) * c->block_size;
	int64_t change = file_fences_change(f, first, end, opening);

	if (mprotect(memory, size, opening ? all : none) < 0) {
		int ret = -errno;

		/* What the kernel did of several mappings is not to be divided to go back. */
		mprotect(memory, size, opening ? none : all);
		return ret;
	}
	f->base.fences += (uint32_t)change;
	file_cut(f, first);
	file_cut(f, end);
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
	if (ret || f->uffd >= 0)
		return ret;
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

	/* Without fences, it is making the hole that closes the block. */
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
	uint64_t end = first + size / block_size;
	int ret;

	first = num_min(bitmap_next_set(f->dirty, first, end),
			bitmap_next_set(f->stray, first, end));
	if (first == end)
		return 0;
	ret = file_tighten(f, first, end);
	/* One hole to the end: what is one already costs the kernel nothing. */
	if (!ret)
		ret = file_punch(f, first * block_size, (end - first) * block_size);
	if (!ret)
		bitmap_clear(f->stray, first, end - first);
	/* After a failure nobody knows which of them are whole: opening commits them again. */
	while (ret && (first = bitmap_next_set(f->dirty, first, end)) < end) {
		uint64_t stop = bitmap_next_clear(f->dirty, first, end);

		bitmap_set(f->stray, first, stop - first);
		bitmap_clear(f->dirty, first, stop - first);
	}
	bitmap_clear(f->dirty, first, end - first);
	return ret;
}

/* Whoever touches it next gets a page, as with any file. */
static int file_reclaim(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct pages_file *f = file_of(pages);
	uint64_t block_size = pages->config.block_size;
	int ret = file_loosen(f, offset / block_size, (offset + size - 1) / block_size + 1);

	return ret ? ret : file_punch(f, offset, size);
}

/* What is open, and not loose, is all in the file: nobody need be kept from filling a hole there. */
static int file_lend(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct pages_file *f = file_of(pages);
	uint64_t block_size = pages->config.block_size;

	if (f->kind == FILE_DISK ||
	    !bitmap_all_clear(f->loose, offset / block_size, size / block_size))
		return -EOPNOTSUPP;
	return f->uffd < 0 ? 0 : file_unregister(f, offset, size);
}

static int file_take_back(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct pages_file *f = file_of(pages);

	return f->uffd < 0 ? 0 : file_register(f, offset, size);
}

static void file_free(struct pages *pages)
{
	struct pages_file *f = file_of(pages);

	if (f->uffd >= 0)
		close(f->uffd);
	bitmap_free(f->open);
	bitmap_free(f->dirty);
	bitmap_free(f->stray);
	bitmap_free(f->loose);
	bitmap_free(f->cuts);
	free(f);
}

static const struct pages_ops file_ops = {
	.free = file_free,
	.open = file_open,
	.populate = file_populate,
	.close = file_close,
	.discard = file_discard,
	.reclaim = file_reclaim,
	.lend = file_lend,
	.take_back = file_take_back,
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
	f->page = f->base.page = pages_page_size(c->fd);
	f->kind = FILE_DISK;
	if (fs.f_type == TMPFS_MAGIC)
		f->kind = FILE_MEMORY;
	if (fs.f_type == HUGETLBFS_MAGIC)
		f->kind = FILE_HUGETLB;
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

/* Make the region a hole, and find out whether the file system can do what is needed later. */
static int file_empty(struct pages_file *f, struct vmem_error *error)
{
	const char *what = "make holes in a file" FILE_CURE;
	struct utsname kernel;
	char name[FILE_NAME];
	int ret = file_punch(f, 0, f->base.config.size);

	if (!ret)
		ret = file_probe(f, &what);
	if (ret == -EOPNOTSUPP || ret == -ENODEV || ret == -ENOSYS) {
		uname(&kernel);
		return pages_error(error, EOPNOTSUPP,
				   "the file system of %s (Linux %.24s) cannot %s",
				   file_name(f, name), kernel.release, what);
	}
	if (ret)
		return pages_error(error, -ret, "%s cannot be emptied: %s", file_name(f, name),
				   strerror(-ret));
	return 0;
}

/* A fault in a hole becomes SIGBUS or EFAULT. False when userfaultfd is not to be had for this. */
static bool file_watch(struct pages_file *f)
{
	const struct pages_config *c = &f->base.config;
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM |
			    UFFD_FEATURE_MISSING_HUGETLBFS,
	};

	/* SIGBUS and no handler: no fault ever waits, so those of the kernel need no right. */
	f->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (f->uffd < 0)
		return false;
	if (ioctl(f->uffd, UFFDIO_API, &api) == 0 && file_register(f, 0, c->size) == 0)
		return true;
	close(f->uffd);
	f->uffd = -1;
	return false;
}

/*
 * Keep the kernel from filling holes by itself: a fault in an open block reads ahead into the closed
 * ones behind it, and as much as a huge page around it where those are advised. A kernel that knows
 * neither says no.
 */
static void file_advise(const struct pages_file *f)
{
	const struct pages_config *c = &f->base.config;

	if (f->kind == FILE_DISK)
		madvise(c->memory, c->size, MADV_RANDOM);
	if (f->fine ||
	    (f->kind == FILE_DISK && !num_is_aligned(c->block_size | c->fd_offset, FILE_HUGE)))
		madvise(c->memory, c->size, MADV_NOHUGEPAGE);
}

/* Nobody reaches the region any more when this returns 0. */
static int file_seal(struct pages_file *f, struct vmem_error *error)
{
	const struct pages_config *c = &f->base.config;
	bool registered = false;
	int protection;

	file_advise(f);
	if (f->kind != FILE_DISK && (!f->fine || file_can_see(f)))
		registered = file_watch(f);
	f->base.mechanism = registered ? "userfaultfd" : "mprotect";
	protection = registered ? PROT_READ | PROT_WRITE : PROT_NONE;
	if (mprotect(c->memory, c->size, protection) < 0) {
		char name[FILE_NAME];
		int code = errno;

		return pages_error(error, code, "the mapping of %s cannot be protected: %s",
				   file_name(f, name), strerror(code));
	}
	f->max_fences = pages_fence_budget(c);
	if (f->kind == FILE_HUGETLB) {
		f->cuts = bitmap_new(c->size / c->block_size);
		if (!f->cuts)
			return pages_error(error, ENOMEM, "out of memory");
	}
	f->base.fences = !registered;
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
	f->stray = bitmap_new(config->size / config->block_size);
	f->loose = bitmap_new(config->size / config->block_size);
	if (!f->open || !f->dirty || !f->stray || !f->loose)
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
