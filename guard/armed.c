/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segments whose closed blocks are write-protected page by page: see anon.h.
 *
 * userfaultfd(2) protects page table entries, so that scattered closed blocks need no mappings of
 * their own. With SIGBUS nobody waits for an answer: a write is a signal, or EFAULT for the kernel
 * (and KVM) on somebody's behalf. That is also why the user-mode-only kind, which needs no
 * privilege, is enough.
 *
 * A closed block is armed by mapping the shared zero page all over it and protecting that. Protecting
 * what is not there would do for the content, but not for the memory: a write gets a page
 * first, and is refused afterwards. Where huge pages are in use it is the huge zero page, one
 * entry for 2 MiB. Linux 6.4 is asked for (by a feature of it): before, protection could get lost when
 * a huge zero page was split.
 *
 * Discarding loses the protection, and protecting first loses it to the discard. So whatever
 * happens to an armed block happens while it is fenced:
 *
 *     armed -> fenced (read-only) -> discard, zero page, protect -> writable again: armed
 *                                 -> fresh memory                -> writable:       open
 *
 * I1  A block becomes writable without being armed in anon_open() alone.
 * I2  Where a block is fenced nothing is taken for granted of its entries.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/anon.h"

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13) /* Linux 6.4 */
#endif

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

#define ARMED_FEATURES \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_SIGBUS)

/* ---- the kernel's calls ---- */

static int armed_ioctl(int uffd, unsigned long request, void *argument)
{
	return ioctl(uffd, request, argument) < 0 ? -errno : 0;
}

static int armed_register(int uffd, const char *memory, uint64_t size)
{
	struct uffdio_register arg = {
		.range = {.start = (uintptr_t)memory, .len = size},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return armed_ioctl(uffd, UFFDIO_REGISTER, &arg);
}

/* Protection goes with it. Memory that is not registered may be among it. */
static int armed_unregister(int uffd, const char *memory, uint64_t size)
{
	struct uffdio_range arg = {.start = (uintptr_t)memory, .len = size};

	return armed_ioctl(uffd, UFFDIO_UNREGISTER, &arg);
}

/* Only for memory that nobody can write to meanwhile. A part may be armed after a failure. */
static int armed_arm(int uffd, char *memory, uint64_t size)
{
	struct uffdio_writeprotect arg = {
		.range = {.start = (uintptr_t)memory, .len = size},
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (madvise(memory, size, MADV_POPULATE_READ) < 0)
		return -errno;
	return armed_ioctl(uffd, UFFDIO_WRITEPROTECT, &arg);
}

/* All that is done with segments, once, on a page of its own. */
static bool armed_works(int uffd)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct uffdio_api api = {.api = UFFD_API, .features = ARMED_FEATURES};
	char *probe;
	bool works;

	if (armed_ioctl(uffd, UFFDIO_API, &api))
		return false;
	probe = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (probe == MAP_FAILED)
		return false;
	works = !armed_register(uffd, probe, page) && !armed_arm(uffd, probe, page) &&
		!armed_unregister(uffd, probe, page);
	munmap(probe, page);
	return works;
}

int armed_probe(void)
{
	/* The flag is older than the features. */
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (uffd >= 0 && !armed_works(uffd)) {
		close(uffd);
		uffd = -1;
	}
	return uffd;
}

/* ---- plain to armed ---- */

/* Arm what is closed and clean of a plain segment that is registered already. */
static int armed_arm_closed(struct anon *anon, struct run segment)
{
	struct run run = anon_next_clear(anon->dirty, segment.first, segment.end);

	/* dirty contains open: the rest is closed and clean. */
	while (run.first < segment.end) {
		int ret = armed_arm(anon->uffd, anon_at(anon, run.first), anon_bytes(anon, run));

		if (ret)
			return ret;
		run = anon_next_clear(anon->dirty, run.end, segment.end);
	}
	return 0;
}

/* Blocks that are closed and dirty, the only ones that stay fences when a segment is armed. */
static struct run armed_next_closed_dirty(const struct anon *anon, uint64_t from, uint64_t end)
{
	struct run run = {from, end};

	do {
		run.first = bitmap_next_set(anon->dirty, run.first, end);
		run = anon_next_clear(anon->open, run.first, end);
	} while (run.first < end && !bitmap_test(anon->dirty, run.first));
	run.end = bitmap_next_clear(anon->dirty, run.first, run.end);
	return run;
}

int armed_enter(struct anon *anon, uint64_t segment)
{
	const struct run all = anon_segment(anon, segment);
	struct anon_count before;
	struct run gap = {all.first, all.first}, fence;
	int ret = armed_register(anon->uffd, anon_at(anon, all.first), anon_bytes(anon, all));

	if (!ret)
		ret = armed_arm_closed(anon, all);
	if (ret) {
		/* Fences are where they were: registered or not makes no difference. */
		armed_unregister(anon->uffd, anon_at(anon, all.first), anon_bytes(anon, all));
		return ret;
	}
	before = anon_change_begin(anon, all);
	bitmap_set(anon->armed, segment, 1);
	do {
		fence = armed_next_closed_dirty(anon, gap.first, all.end);
		bitmap_set(anon->fenced, fence.first, fence.end - fence.first);
		gap.end = fence.first;
		if (!ret && gap.first < gap.end)
			ret = anon_protect(anon, gap, PROT_READ | PROT_WRITE);
		gap.first = fence.end;
	} while (gap.first < all.end);
	anon_change_end(anon, all, before);
	anon->pages.armed_segments++;
	return ret;
}

int armed_fence(struct anon *anon, struct run run)
{
	struct anon_count before;
	int ret = anon_protect(anon, run, PROT_READ);

	if (ret)
		return ret;
	before = anon_change_begin(anon, run);
	bitmap_set(anon->fenced, run.first, run.end - run.first);
	anon_change_end(anon, run, before);
	return 0;
}

int armed_refresh(struct anon *anon, struct run run)
{
	char *memory = anon_at(anon, run.first);
	uint64_t size = anon_bytes(anon, run);
	int ret;

	if (anon->fresh.discard_frees)
		return anon_drop(anon, run);
	/*
	 * Registered memory would move entry by entry, and leave its tables. Nobody may even read
	 * until it is registered again: a read now would give it a reverse map of its own, with which
	 * it would never merge with its neighbours.
	 */
	ret = anon_protect(anon, run, PROT_NONE);
	if (!ret)
		ret = armed_unregister(anon->uffd, memory, size);
	if (!ret)
		ret = fresh_run(&anon->fresh, memory, size);
	if (!ret)
		ret = armed_register(anon->uffd, memory, size);
	(void)anon_protect(anon, run, PROT_READ);
	return ret;
}

/* ---- armed to plain ---- */

/* Is nothing of the segment open, and nothing dirty that is not in the run? */
static bool armed_would_be_clean(const struct anon *anon, struct run all, struct run run)
{
	return bitmap_all_clear(anon->open, all.first, all.end - all.first) &&
	       bitmap_all_clear(anon->dirty, all.first, run.first - all.first) &&
	       bitmap_all_clear(anon->dirty, run.end, all.end - run.end);
}

/*
 * Discard a whole segment in which nothing is open, and make it plain. When the last step fails it
 * stays armed with all fenced, and the next discard tries again.
 */
static int armed_leave(struct anon *anon, uint64_t segment)
{
	const struct run all = anon_segment(anon, segment);
	char *memory = anon_at(anon, all.first);
	struct anon_count before;
	int ret = armed_fence(anon, all);

	if (!ret)
		ret = anon_drop(anon, all);
	if (ret)
		return ret;
	bitmap_clear(anon->dirty, all.first, all.end - all.first);
	if (armed_unregister(anon->uffd, memory, anon_bytes(anon, all)))
		return 0;
	/* The tables of what was armed; where this cannot be done opening will. */
	if (!anon->fresh.discard_frees)
		(void)fresh_run(&anon->fresh, memory, anon_bytes(anon, all));
	before = anon_change_begin(anon, all);
	bitmap_clear(anon->armed, segment, 1);
	bitmap_clear(anon->fenced, all.first, all.end - all.first);
	anon_change_end(anon, all, before);
	anon->fences_bound[segment] = 0;
	anon->pages.armed_segments--;
	return 0;
}

/* Discard fenced blocks, and arm them again if that can be done. */
static int armed_renew(struct anon *anon, struct run run)
{
	char *memory = anon_at(anon, run.first);
	uint64_t size = anon_bytes(anon, run);
	struct anon_count before;
	int ret = anon_drop(anon, run);

	if (ret)
		return ret;
	bitmap_clear(anon->dirty, run.first, run.end - run.first);
	ret = armed_arm(anon->uffd, memory, size);
	if (ret == -ENOENT) {
		ret = armed_register(anon->uffd, memory, size);
		if (!ret)
			ret = armed_arm(anon->uffd, memory, size);
	}
	if (ret)
		return 0;
	/* In doubt it is called armed: that is what it is, whether or not it is writable. */
	if (anon_protect(anon, run, PROT_READ | PROT_WRITE) && !anon_protect(anon, run, PROT_READ))
		return 0;
	before = anon_change_begin(anon, run);
	bitmap_clear(anon->fenced, run.first, run.end - run.first);
	anon_change_end(anon, run, before);
	return 0;
}

int armed_discard(struct anon *anon, struct run run)
{
	uint64_t segment = run.first / anon->segment_blocks;
	struct run fenced;
	int ret = 0;

	if (armed_would_be_clean(anon, anon_segment(anon, segment), run))
		return armed_leave(anon, segment);
	for (uint64_t at = run.first; !ret && at < run.end; at = fenced.end) {
		fenced = anon_next_set(anon->fenced, at, run.end);
		if (fenced.first < fenced.end)
			ret = armed_renew(anon, fenced);
	}
	return ret;
}
