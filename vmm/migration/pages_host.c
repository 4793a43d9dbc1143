/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages that the host never provided, told without touching them (pages.h, I2): private memory by
 * /proc/self/pagemap, where a page that is neither present nor swapped out is one of zeros; shared
 * memory by the holes of its file, where this process's page tables say nothing. Of a private copy of a
 * file nothing is told: a page that this process does not have is the file's. And what files brought
 * into a machine that waits for its memory.
 */
#include "vmm/migration/pages.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/migration/cancel.h"

#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_AT_ONCE 512u

static void pages_host_clear(uint64_t *words, uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		words[first / 64] &= ~(UINT64_C(1) << first % 64);
}

static void pages_host_skip_private(const struct block *block, uint64_t first, uint64_t count,
				    uint64_t *words, int fd)
{
	uint64_t entries[PAGEMAP_AT_ONCE];
	uint64_t host_page = (uintptr_t)block->ram.host / PAGE_BYTES + first;

	for (uint64_t done = 0; done < count; done += PAGEMAP_AT_ONCE) {
		uint64_t part = num_min(count - done, PAGEMAP_AT_ONCE);
		ssize_t bytes = (ssize_t)(part * sizeof(*entries));

		if (pread(fd, entries, (size_t)bytes,
			  (off_t)((host_page + done) * sizeof(*entries))) != bytes)
			return;
		for (uint64_t i = 0; i < part; i++)
			if (!(entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
				pages_host_clear(words, done + i, done + i + 1);
	}
}

/*
 * Only where the file is memory itself: other file systems may know of what was written through a
 * mapping later than the one who wrote it.
 */
static void pages_host_skip_shared(const struct block *block, uint64_t first, uint64_t count,
				   uint64_t *words)
{
	off_t base = (off_t)(block->ram.fd_offset + first * PAGE_BYTES), at = base;
	off_t end = base + (off_t)(count * PAGE_BYTES);
	struct statfs fs;

	if (fstatfs(block->ram.fd, &fs) || fs.f_type != TMPFS_MAGIC)
		return;
	while (at < end) {
		off_t data = lseek(block->ram.fd, at, SEEK_DATA);

		if (data < 0 && errno != ENXIO)
			return;
		if (data < 0 || data > end)
			data = end;
		pages_host_clear(words, (uint64_t)(at - base + PAGE_BYTES - 1) / PAGE_BYTES,
				 (uint64_t)(data - base) / PAGE_BYTES);
		at = data < end ? lseek(block->ram.fd, data, SEEK_HOLE) : end;
		if (at < 0)
			return;
	}
}

void pages_host_skip(const struct block *block, uint64_t first, uint64_t count, uint64_t *words,
		     int fd)
{
	if (block->ram.fd >= 0)
		pages_host_skip_shared(block, first, count, words);
	else if (fd >= 0 && !block->ram.copy)
		pages_host_skip_private(block, first, count, words, fd);
}

/* May it hold something that nobody of this process wrote? A file without a name was made for it. */
static bool pages_host_is_used(const struct block *block)
{
	struct stat st;

	if (block->ram.mem)
		return false;
	return block->ram.copy ||
	       (block->ram.fd >= 0 && !fstat(block->ram.fd, &st) && st.st_nlink && st.st_blocks);
}

static int pages_host_empty_page(struct gm *gm, uint64_t gpa)
{
	_Alignas(PAGE_BYTES) uint8_t bytes[PAGE_BYTES];
	int ret = gm_read(gm, gpa, bytes, sizeof(bytes));

	return ret || pages_is_zero(bytes) ? ret : gm_fill(gm, gpa, 0, sizeof(bytes));
}

int pages_host_empty(struct gm *gm, const struct block *block, const struct cancel *cancel,
		     struct err **err)
{
	uint64_t words[PAGES_WINDOW / 64];
	int ret = 0;

	if (!pages_host_is_used(block))
		return 0;
	for (uint64_t page = 0; page < block->nr_pages && !ret; page++) {
		uint64_t i = page % PAGES_WINDOW, gpa = block->ram.gpa.start + page * PAGE_BYTES;

		if (!i && cancel_raised(cancel))
			return err_set(err, ECANCELED, "the migration was cancelled");
		if (!i) {
			memset(words, 0xff, sizeof(words));
			pages_host_skip(block, page, num_min(block->nr_pages - page, PAGES_WINDOW),
					words, -1);
		}
		if (words[i / 64] >> i % 64 & 1)
			ret = pages_host_empty_page(gm, gpa);
	}
	return ret ? err_set(err, EIO, "the host does not provide all of memory '%s'",
			     block->ram.name)
		   : 0;
}
