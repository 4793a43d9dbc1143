/* SPDX-License-Identifier: BSD-3-Clause */
/* What is in the file behind a region: memory is committed, and holes are made. See pages_file.c. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "guard/file.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif

#define FILE_PIECE (256 * MIB) /* committed between two looks at what the host has left */
#define FILE_TRIES 3           /* to make a hole that the kernel did not make */

/* The kernel's, from 6.5 on. */
struct file_cachestat_range {
	uint64_t off, len;
};
struct file_cachestat {
	uint64_t nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted;
};

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

int file_punch(const struct pages_file *f, uint64_t offset, uint64_t size)
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

/* Make blocks [first, end) that are not dirty holes; those that may not be one become strays. */
static void file_drop_clean(struct pages_file *f, uint64_t first, uint64_t end)
{
	uint64_t block_size = f->base.config.block_size;

	while ((first = bitmap_next_clear(f->dirty, first, end)) < end) {
		uint64_t stop = bitmap_next_set(f->dirty, first, end);

		if (file_punch(f, first * block_size, (stop - first) * block_size))
			bitmap_set(f->stray, first, stop - first);
		first = stop;
	}
}

/*
 * Fault the first @touch bytes of a run of whole huge pages in, through a mapping of its own that nobody else knows. Nothing is
 * promised: what is missing afterwards comes with file_fallocate(), in small pages.
 */
static void file_warm(const struct pages_file *f, uint64_t offset, uint64_t size, uint64_t touch)
{
	char *memory = f->base.config.memory + offset, *room, *twin;
	uint64_t total = size + FILE_HUGE;

	room = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return;
	/* A twin has the advice that the memory was given, but not its userfaultfd. */
	twin = room + (-(uintptr_t)room & (FILE_HUGE - 1));
	if (mremap(memory, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, twin) == twin &&
	    (f->uffd >= 0 || mprotect(twin, size, PROT_READ | PROT_WRITE) == 0))
		madvise(twin, touch, MADV_POPULATE_WRITE);
	munmap(room, total);
}

int file_fill(const struct pages_file *f, uint64_t offset, uint64_t size)
{
	uint64_t step = FILE_PIECE, done = 0;

	while (done < size) {
		uint64_t piece = num_min(step, size - done);
		int ret = done && f->kind == FILE_MEMORY ? headroom_check(piece) : 0;

		if (!ret && f->warm && piece >= FILE_HUGE)
			file_warm(f, offset + done, piece, piece);
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

int file_commit(struct pages_file *f, uint64_t first, uint64_t end)
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
		bitmap_clear(f->stray, first, end - first);
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

/* A page of the region whose neighbour is of another block, but of the same huge page. */
static uint64_t file_probe_at(const struct pages_file *f)
{
	const struct pages_config *c = &f->base.config;

	for (uint64_t at = c->block_size; f->fine && at < c->size; at += c->block_size)
		if (!num_is_aligned(c->fd_offset + at, FILE_HUGE))
			return at - f->page;
	return 0;
}

/* What the file has of the file system. */
static uint64_t file_bytes(const struct pages_file *f)
{
	struct stat st;

	return fstat(f->base.config.fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/*
 * Does the memory get huge pages when it is touched, but not when it is committed (tmpfs with
 * huge=advise)? The region begins with a hole, and does not any more.
 */
static bool file_probe_warm(const struct pages_file *f)
{
	uint64_t before = file_bytes(f);

	if (f->kind != FILE_MEMORY || f->fine || file_fill(f, 0, f->page) ||
	    file_bytes(f) > before + f->page || file_punch(f, 0, f->page))
		return false;
	before = file_bytes(f);
	file_warm(f, 0, FILE_HUGE, f->page);
	return file_bytes(f) > before + f->page;
}

int file_probe(struct pages_file *f, const char **ret_what)
{
	uint64_t at = file_probe_at(f), before = file_bytes(f);
	bool spilled;
	int ret;

	*ret_what = "reserve space" FILE_CURE;
	ret = f->kind == FILE_HUGETLB ? 0 : file_fill(f, at, f->page);
	if (ret) {
		/* That there is none now says nothing of later. */
		return ret == -ENOSPC || ret == -ENOMEM || ret == -EDQUOT ? 0 : ret;
	}
	spilled = f->fine && file_bytes(f) > before + f->page;
	*ret_what = "make holes in a file" FILE_CURE;
	ret = file_punch(f, at, f->page);
	if (!ret)
		f->warm = file_probe_warm(f);
	if (!ret)
		ret = file_punch(f, 0, f->base.config.size);
	if (ret || !spilled)
		return ret;
	*ret_what = "keep to pages smaller than the blocks: mount it with huge=never, or take "
		    "blocks of 2 MiB";
	return -EOPNOTSUPP;
}

bool file_can_see(const struct pages_file *f)
{
	struct file_cachestat_range range = {0, f->page};
	struct file_cachestat stat;

	return syscall(SYS_cachestat, f->base.config.fd, &range, &stat, 0) == 0;
}
