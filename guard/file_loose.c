/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocks of a file that may have holes while they are open: pages_file.c, I6. Only where
 * userfaultfd keeps holes from being filled there is something to do: elsewhere an open block is an
 * ordinary mapping.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "base/bitmap.h"
#include "guard/file.h"

int file_register(const struct pages_file *f, uint64_t offset, uint64_t size)
{
	struct uffdio_register run = {
		.range = {(uintptr_t)f->base.config.memory + offset, size},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(f->uffd, UFFDIO_REGISTER, &run) < 0 ? -errno : 0;
}

int file_unregister(const struct pages_file *f, uint64_t offset, uint64_t size)
{
	struct uffdio_range run = {(uintptr_t)f->base.config.memory + offset, size};

	return ioctl(f->uffd, UFFDIO_UNREGISTER, &run) < 0 ? -errno : 0;
}

/* How many of the two blocks beside [first, end) are loose. */
static unsigned int file_loose_beside(const struct pages_file *f, uint64_t first, uint64_t end)
{
	return (first && bitmap_test(f->loose, first - 1)) +
	       (end < bitmap_size(f->loose) && bitmap_test(f->loose, end));
}

/* May there be @more runs, with [first, end) changing from loose or to it? */
static bool file_loose_fits(const struct pages_file *f, uint64_t first, uint64_t end, bool more)
{
	if (f->cuts)
		return f->nr_cuts + file_cuts(f, first) + file_cuts(f, end) <=
		       2 * (uint64_t)f->max_fences;
	return !more || f->loose_runs < f->max_fences;
}

int file_loosen(struct pages_file *f, uint64_t first, uint64_t end)
{
	uint64_t block_size = f->base.config.block_size, at, stop = first;

	if (f->uffd < 0)
		return 0;
	while ((at = bitmap_next_clear(f->loose, stop, end)) < end) {
		unsigned int beside;
		int ret;

		stop = bitmap_next_set(f->loose, at, end);
		beside = file_loose_beside(f, at, stop);
		if (!file_loose_fits(f, at, stop, !beside))
			return -ENOMEM;
		ret = file_unregister(f, at * block_size, (stop - at) * block_size);
		if (ret)
			return ret;
		f->loose_runs += 1 - (uint64_t)beside;
		bitmap_set(f->loose, at, stop - at);
		file_cut(f, at);
		file_cut(f, stop);
	}
	return 0;
}

/* Register a part of one run of loose blocks. */
static int file_tighten_part(struct pages_file *f, uint64_t first, uint64_t end)
{
	uint64_t block_size = f->base.config.block_size;
	int ret = file_register(f, first * block_size, (end - first) * block_size);

	if (ret)
		return ret;
	f->loose_runs += (uint64_t)file_loose_beside(f, first, end) - 1;
	bitmap_clear(f->loose, first, end - first);
	file_cut(f, first);
	file_cut(f, end);
	return 0;
}

/*
 * The run of loose blocks that [first, end) is a part of cannot be divided: fill the rest of it,
 * and have all of it registered. Those who use it find no hole at any moment.
 */
static int file_tighten_whole(struct pages_file *f, uint64_t first, uint64_t end)
{
	uint64_t block_size = f->base.config.block_size, from = first;
	uint64_t to = bitmap_next_clear(f->loose, end, bitmap_size(f->loose));
	int ret;

	while (from && bitmap_test(f->loose, from - 1))
		from--;
	ret = file_fill(f, from * block_size, (first - from) * block_size);
	if (!ret)
		ret = file_fill(f, end * block_size, (to - end) * block_size);
	return ret ? ret : file_tighten_part(f, from, to);
}

int file_tighten(struct pages_file *f, uint64_t first, uint64_t end)
{
	uint64_t at, stop = first;
	int ret = 0;

	while (!ret && (at = bitmap_next_set(f->loose, stop, end)) < end) {
		stop = bitmap_next_clear(f->loose, at, end);
		if (file_loose_fits(f, at, stop, file_loose_beside(f, at, stop) == 2))
			ret = file_tighten_part(f, at, stop);
		else
			ret = file_tighten_whole(f, at, stop);
	}
	return ret;
}
