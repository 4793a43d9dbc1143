/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Private anonymous memory, block by block: see pages.h; anon.h has the state and its invariants.
 *
 * A closed run is a fence, mprotect(PROT_READ): a read is served by the shared zero page, a write
 * fails for whoever tries. Fences keep huge pages and cost nothing but two mappings each, so they
 * are limited: a segment that has too many, or that would take one more than the region may have, is
 * armed (armed.c) when the kernel has what that takes. Otherwise one more is refused.
 *
 * I1  A block that is closed is read-only or armed at every instant, whatever fails, until anon_open()
 *     makes it writable as its last step. A discard happens while the run is read-only; so
 *     no page can come back in between.
 * I2  The mapping is never replaced, only its protection is changed: attributes that the owner gave it
 *     (madvise(2), mbind(2)) stay, and neighbours that are alike become one mapping again.
 * I3  A failed change of protection is undone. Blocks for which that fails too are recorded as what
 *     their owner has to repeat: open ones, that a close closes and an open makes whole.
 *
 * A read of closed memory that could be huge pages must be served by the huge zero page, which an
 * administrator can turn off; then there is no protection of this kind.
 *
 * The memory must not be locked (mlock(2)), since locked pages cannot be discarded. With
 * vm.overcommit_memory=2 memory counts from when it is first opened until it is unmapped, and what
 * counts and what does not are different mappings.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/anon.h"

/*
 * Beyond the budget an armed segment in the middle of open or closed ones still needs mappings of
 * its own; so much more than the budget is given to these, and then no more.
 */
#define ANON_ARMED_EXTRA(budget) ((budget) / 2 + 64)
/*
 * A segment is armed when its fences take more memory than that would: a fence is about 640 bytes of
 * the kernel's (two mappings, with their links), an armed segment has a page table of 4096 for
 * each 2 MiB.
 */
#define ANON_SEGMENT_FENCES(segment_size) (8 + (segment_size) / (2 * MIB) * 4096 / 640)

static struct anon *anon_of(struct pages *pages)
{
	return container_of(pages, struct anon, pages);
}

static struct run anon_run(const struct anon *anon, uint64_t offset, uint64_t size)
{
	uint64_t block_size = anon->pages.config.block_size;

	return (struct run){offset / block_size, (offset + size) / block_size};
}

int anon_protect(const struct anon *anon, struct run run, int protection)
{
	return mprotect(anon_at(anon, run.first), anon_bytes(anon, run), protection) < 0 ? -errno
											 : 0;
}

int anon_drop(const struct anon *anon, struct run run)
{
	return madvise(anon_at(anon, run.first), anon_bytes(anon, run), MADV_DONTNEED) < 0 ? -errno
											   : 0;
}

/* ---- room for a fence ---- */

/*
 * Arm the segment of @block if the run has only a part of it, and fences are short or it has more
 * than its share of them. A failure leaves the fences as they are.
 */
static void anon_arm_scattered(struct anon *anon, uint64_t block, struct run run)
{
	uint64_t segment = block / anon->segment_blocks;
	struct run all = anon_segment(anon, segment);
	uint64_t runs = anon->pages.fences + anon->armed_runs;

	if (anon_is_armed(anon, block) || (run.first <= all.first && run.end >= all.end))
		return;
	/* The segment may have a run in it that somebody else has registered. */
	if (anon->pages.lent_bytes)
		return;
	if (++anon->fences_bound[segment] > anon->segment_limit)
		anon->fences_bound[segment] = (uint32_t)anon_count_segment(anon, segment) + 1;
	if (anon->fences_bound[segment] <= anon->segment_limit && runs < anon->soft_limit)
		return;
	/* The segment becomes a run of its own, and may cut another in two. */
	if (runs + 2 <= anon->hard_limit)
		(void)armed_enter(anon, segment);
}

/*
 * Before a fence begins at block @begin because @run is opened or closed: -ENOMEM when there are too
 * many. In armed segments fences are for a moment only, and not refused.
 */
static int anon_make_room(struct anon *anon, struct run run, uint64_t begin)
{
	uint64_t limit = anon->hard_limit;

	if (anon->uffd >= 0) {
		anon_arm_scattered(anon, run.first, run);
		anon_arm_scattered(anon, run.end - 1, run);
	}
	if (anon_is_armed(anon, begin))
		return 0;
	/* As long as no segment can be armed some are left, so that it can be done afterwards. */
	if (anon->pages.lent_bytes)
		limit = anon->soft_limit;
	return anon->pages.fences + anon->armed_runs < limit ? 0 : -ENOMEM;
}

/* ---- open ---- */

/* Fresh memory for what is closed and clean of the run; it stays closed. */
static int anon_refresh(struct anon *anon, struct run run)
{
	struct run clean = anon_next_clear(anon->dirty, run.first, run.end);
	int ret = 0;

	while (!ret && clean.first < run.end) {
		struct run part = anon_stretch(anon, clean.first, clean.end);

		if (anon_is_armed(anon, part.first)) {
			ret = armed_fence(anon, part);
			if (!ret)
				ret = armed_refresh(anon, part);
		} else {
			ret = fresh_run(&anon->fresh, anon_at(anon, part.first),
					anon_bytes(anon, part));
		}
		clean = anon_next_clear(anon->dirty, part.end, run.end);
	}
	return ret;
}

/* What was closed before anon_open() failed is made read-only again. */
static void anon_undo_open(struct anon *anon, struct run run)
{
	struct run closed = anon_next_clear(anon->open, run.first, run.end);

	while (closed.first < run.end) {
		if (anon_protect(anon, closed, PROT_READ)) {
			struct anon_count before = anon_change_begin(anon, closed);

			bitmap_set(anon->open, closed.first, closed.end - closed.first);
			bitmap_set(anon->dirty, closed.first, closed.end - closed.first);
			bitmap_clear(anon->fenced, closed.first, closed.end - closed.first);
			anon_change_end(anon, closed, before);
		}
		closed = anon_next_clear(anon->open, closed.end, run.end);
	}
}

static int anon_open(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct anon *anon = anon_of(pages);
	struct run run = anon_run(anon, offset, size);
	struct anon_count before;
	int ret = 0;

	if (run.first == run.end)
		return 0;
	/* All of it in the middle of one fence, which is cut in two. */
	if (run.end < anon->nr_blocks && anon_is_read_only(anon, run.end) &&
	    !anon_count(anon, run.first, run.end).fences)
		ret = anon_make_room(anon, run, run.end);
	if (!ret)
		ret = anon_refresh(anon, run);
	if (ret)
		return ret;
	ret = anon_protect(anon, run, PROT_READ | PROT_WRITE);
	if (ret) {
		anon_undo_open(anon, run);
		return ret;
	}
	before = anon_change_begin(anon, run);
	bitmap_set(anon->open, run.first, run.end - run.first);
	bitmap_set(anon->dirty, run.first, run.end - run.first);
	bitmap_clear(anon->fenced, run.first, run.end - run.first);
	anon_change_end(anon, run, before);
	return 0;
}

/* ---- close ---- */

/*
 * The part of [from, end) that is closed next, in one step: an open run of plain segments. Of an
 * armed segment all that is in the run, or from the first open block to the last: closed blocks
 * in between are fenced as well, so that the step makes one fence and not one for each open run.
 * Empty when nothing is open.
 */
static struct run anon_next_to_close(const struct anon *anon, uint64_t from, uint64_t end)
{
	struct run open = anon_next_set(anon->open, from, end), part, all;

	if (open.first == end)
		return open;
	part = anon_stretch(anon, open.first, open.end);
	if (!anon_is_armed(anon, part.first))
		return part;
	all = anon_segment(anon, part.first / anon->segment_blocks);
	if (from <= all.first && end >= all.end)
		return all;
	end = num_min(end, all.end);
	for (open = part; open.first < end; open = anon_next_set(anon->open, open.end, end))
		part.end = num_min(open.end, end);
	return part;
}

/* One step of a close: all of it is read-only, or all is as it was. */
static int anon_close_part(struct anon *anon, struct run part)
{
	struct anon_count before;
	int ret = anon_protect(anon, part, PROT_READ);

	if (ret) {
		struct run open = anon_next_set(anon->open, part.first, part.end);

		while (open.first < part.end) {
			(void)anon_protect(anon, open, PROT_READ | PROT_WRITE);
			open = anon_next_set(anon->open, open.end, part.end);
		}
		return ret;
	}
	before = anon_change_begin(anon, part);
	bitmap_clear(anon->open, part.first, part.end - part.first);
	if (anon_is_armed(anon, part.first))
		bitmap_set(anon->fenced, part.first, part.end - part.first);
	anon_change_end(anon, part, before);
	return 0;
}

static int anon_close(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct anon *anon = anon_of(pages);
	struct run run = anon_run(anon, offset, size), part;
	int ret = 0;

	if (bitmap_all_clear(anon->open, run.first, run.end - run.first))
		return 0;
	/* No fence is in it or before it that could grow. */
	if (!anon_count(anon, run.first, run.end).fences &&
	    !(run.first && anon_is_read_only(anon, run.first - 1)))
		ret = anon_make_room(anon, run, run.first);
	for (uint64_t at = run.first; !ret && at < run.end; at = part.end) {
		part = anon_next_to_close(anon, at, run.end);
		if (part.first < part.end)
			ret = anon_close_part(anon, part);
	}
	return ret;
}

/* ---- discard ---- */

/* Of plain segments: all that is closed, also where only reads may have left page tables. */
static int anon_discard_plain(struct anon *anon, struct run run)
{
	struct run closed = anon_next_clear(anon->open, run.first, run.end);

	while (closed.first < run.end) {
		int ret = anon_drop(anon, closed);

		if (ret)
			return ret;
		bitmap_clear(anon->dirty, closed.first, closed.end - closed.first);
		closed = anon_next_clear(anon->open, closed.end, run.end);
	}
	return 0;
}

static int anon_discard(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct anon *anon = anon_of(pages);
	struct run run = anon_run(anon, offset, size), part;
	int ret = 0;

	for (uint64_t at = run.first; !ret && at < run.end; at = part.end) {
		part = anon_stretch(anon, at, run.end);
		if (anon_is_armed(anon, at)) {
			part.end = num_min(part.end,
					   anon_segment(anon, at / anon->segment_blocks).end);
			ret = armed_discard(anon, part);
		} else {
			ret = anon_discard_plain(anon, part);
		}
	}
	return ret;
}

/* Open memory is writable, armed segment or not: what is dropped of it comes back when it is touched. */
static int anon_reclaim(struct pages *pages, uint64_t offset, uint64_t size)
{
	return madvise(pages->config.memory + offset, size, MADV_DONTNEED) < 0 ? -errno : 0;
}

/* ---- what is lent ---- */

/* Open blocks of plain segments are mappings of their own, of which nobody wants anything. */
static int anon_lend(struct pages *pages, uint64_t offset, uint64_t size)
{
	struct anon *anon = anon_of(pages);
	struct run run = anon_run(anon, offset, size);

	for (struct run part = run; run.first < run.end; run.first = part.end) {
		part = anon_stretch(anon, run.first, run.end);
		if (anon_is_armed(anon, part.first))
			return -EOPNOTSUPP;
	}
	return 0;
}

/* ---- life ---- */

static void anon_free(struct pages *pages)
{
	struct anon *anon = anon_of(pages);

	/* What is registered is not any more then. */
	if (anon->uffd >= 0)
		close(anon->uffd);
	free(anon->fences_bound);
	bitmap_free(anon->armed);
	bitmap_free(anon->fenced);
	bitmap_free(anon->dirty);
	bitmap_free(anon->open);
	free(anon);
}

static const struct pages_ops anon_ops = {
	.free = anon_free,
	.open = anon_open,
	.populate = pages_populate,
	.close = anon_close,
	.discard = anon_discard,
	.reclaim = anon_reclaim,
	.lend = anon_lend,
};

/* Sizes, limits and maps, which are empty: all is closed. -ENOMEM leaves what anon_free() frees. */
static int anon_init(struct anon *anon, const struct pages_config *config)
{
	uint32_t budget = pages_fence_budget(config);

	anon->pages.ops = &anon_ops;
	anon->pages.config = *config;
	anon->pages.page = pages_page_size(-1);
	anon->nr_blocks = config->size / config->block_size;
	anon->segment_blocks = config->segment_size / config->block_size;
	anon->nr_segments = anon->nr_blocks / anon->segment_blocks +
			    (anon->nr_blocks % anon->segment_blocks != 0);
	anon->segment_limit = ANON_SEGMENT_FENCES(config->segment_size);
	anon->uffd = armed_probe();
	anon->pages.mechanism = anon->uffd < 0 ? "mprotect" : "mprotect+userfaultfd";
	anon->soft_limit = budget;
	anon->hard_limit = budget + (anon->uffd < 0 ? 0 : ANON_ARMED_EXTRA((uint64_t)budget));
	anon->open = bitmap_new(anon->nr_blocks);
	anon->dirty = bitmap_new(anon->nr_blocks);
	anon->fenced = bitmap_new(anon->nr_blocks);
	anon->armed = bitmap_new(anon->nr_segments);
	anon->fences_bound = calloc(anon->nr_segments + 1, sizeof(*anon->fences_bound));
	if (!anon->open || !anon->dirty || !anon->fenced || !anon->armed || !anon->fences_bound)
		return -ENOMEM;
	return 0;
}

/* Close and empty the region, as one mapping with one reverse map. */
static int anon_close_all(struct anon *anon)
{
	struct run all = {0, anon->nr_blocks};
	int ret;

	if (!anon->nr_blocks)
		return 0;
	fresh_probe(anon->pages.config.size, anon->pages.config.mergeable, &anon->fresh);
	fresh_prime(anon_at(anon, 0), anon->pages.config.size);
	ret = anon_protect(anon, all, PROT_READ);
	if (!ret)
		ret = anon_drop(anon, all);
	anon->pages.fences = (uint32_t)anon_count(anon, 0, anon->nr_blocks).fences;
	return ret;
}

int pages_anon_new(const struct pages_config *config, struct pages **ret_pages,
		   struct vmem_error *ret_error)
{
	struct anon *anon;
	int ret;

	if (!fresh_reads_are_free())
		return pages_error(ret_error, EOPNOTSUPP,
				   "a guest could take huge pages by reading unplugged memory as "
				   "long as the kernel has no zero page for these: write 1 "
				   "to " FRESH_ZERO_PAGE);
	anon = calloc(1, sizeof(*anon));
	if (!anon)
		return pages_error(ret_error, ENOMEM, "out of memory");
	ret = anon_init(anon, config);
	if (ret) {
		pages_error(ret_error, ENOMEM, "out of memory");
	} else {
		ret = anon_close_all(anon);
		if (ret)
			pages_error(ret_error, -ret, "the memory cannot be closed: %s",
				    strerror(-ret));
	}
	if (ret) {
		anon_free(&anon->pages);
		return ret;
	}
	*ret_pages = &anon->pages;
	return 0;
}
