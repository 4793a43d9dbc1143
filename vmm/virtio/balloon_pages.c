/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages that go into the balloon, come out of it, or are reported free: see balloon.h.
 *
 * Page numbers are taken from a request BALLOON_TURN_PAGES at a time, sorted, and neighbours given
 * back together: a system call for a run costs little more than one for a page. What could not be
 * done because somebody was busy is done again from the same place later; to give back a page
 * twice, of a request that has no answer yet, changes nothing.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/virtio/balloon_state.h"

/* A plug of a memory device is done in less; if not, it is one of much memory, and takes long. */
#define ATTEMPTS_MAX 10
#define ATTEMPT_MS   5

/* Give back whole host pages of one region. 0, or -EAGAIN: again, later. Failures are counted. */
static int balloon_discard(struct balloon *b, unsigned int index, uint64_t gpa, uint64_t size,
			   struct balloon_count *count)
{
	uint64_t bytes;
	int ret = gm_discard(b->gm, gpa, size, &bytes);

	if (ret == -EAGAIN && b->queues[index].attempts < ATTEMPTS_MAX)
		return ret;
	count->discarded += bytes;
	/* Memory that is still on its way is nobody's failure. */
	if (ret && ret != -EBUSY)
		count->failed++;
	return 0;
}

void balloon_count_up(struct balloon *b, const struct balloon_count *count, _Atomic uint64_t *named)
{
	*named += count->named;
	b->discarded_bytes += count->discarded;
	b->discards_failed += count->failed;
	b->ignored_pages += count->ignored;
}

/* Somebody was busy: try the same again soon. */
static void balloon_attempt_later(struct balloon *b, unsigned int index)
{
	b->queues[index].attempts++;
	balloon_wake_in_ms(&b->retry, ATTEMPT_MS);
}

/* ---- page numbers ---- */

/* Memory of large host pages: note what is in, and give back what is whole by it. */
static int balloon_collect(struct balloon *b, uint64_t gpa, uint64_t size,
			   const struct gm_discard_run *run, struct balloon_count *count)
{
	uint64_t first = num_align_down(gpa - run->start, run->page_bytes);
	uint64_t end = gpa - run->start + size;

	if (balloon_map_add(&b->map, gpa / BALLOON_PAGE, size / BALLOON_PAGE)) {
		count->failed++;
		return 0;
	}
	for (; first < end; first += run->page_bytes) {
		uint64_t page = run->start + first;
		int ret;

		if (!balloon_map_has(&b->map, page / BALLOON_PAGE, run->page_bytes / BALLOON_PAGE))
			continue;
		ret = balloon_discard(b, BALLOON_QUEUE_INFLATE, page, run->page_bytes, count);
		if (ret)
			return ret;
	}
	return 0;
}

/* Accessible pages of one region. */
static int balloon_inflate_valid(struct balloon *b, uint64_t gpa, uint64_t size,
				 const struct gm_discard_run *run, struct balloon_count *count)
{
	count->named += size;
	if (run->page_bytes == BALLOON_PAGE)
		return balloon_discard(b, BALLOON_QUEUE_INFLATE, gpa, size, count);
	return run->page_bytes ? balloon_collect(b, gpa, size, run, count) : 0;
}

/* Pages of one region, or of none. */
static int balloon_inflate_piece(struct balloon *b, uint64_t gpa, uint64_t size,
				 const struct gm_discard_run *run, struct balloon_count *count)
{
	int ret = 0;

	if (gm_valid(b->gm, gpa, size))
		return balloon_inflate_valid(b, gpa, size, run, count);
	/* Some of them may be. */
	for (uint64_t done = 0; done < size && !ret; done += BALLOON_PAGE) {
		if (gm_valid(b->gm, gpa + done, BALLOON_PAGE))
			ret = balloon_inflate_valid(b, gpa + done, BALLOON_PAGE, run, count);
		else
			count->ignored++;
	}
	return ret;
}

static int balloon_inflate_run(struct balloon *b, uint64_t gpa, uint64_t size,
			       struct balloon_count *count)
{
	struct gm_discard_run run;
	int ret = 0;

	for (; size && !ret; gpa += run.size, size -= run.size) {
		gm_discard_look(b->gm, gpa, size, &run);
		/* Regions begin and end at pages. */
		ret = balloon_inflate_piece(b, gpa, run.size, &run, count);
	}
	return ret;
}

static int balloon_compare_pages(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* 0 or -EAGAIN. Sorts @pages. */
static int balloon_inflate(struct balloon *b, uint32_t *pages, size_t nr,
			   struct balloon_count *count)
{
	int ret = 0;

	qsort(pages, nr, sizeof(*pages), balloon_compare_pages);
	for (size_t i = 0, next; i < nr && !ret; i = next) {
		uint64_t first = pages[i], last = first;

		/* A page that comes twice is one. */
		for (next = i + 1; next < nr && pages[next] <= last + 1; next++)
			last = pages[next];
		ret = balloon_inflate_run(b, first * BALLOON_PAGE,
					  (last - first + 1) * BALLOON_PAGE, count);
	}
	return ret;
}

static void balloon_deflate(struct balloon *b, const uint32_t *pages, size_t nr,
			    struct balloon_count *count)
{
	for (size_t i = 0; i < nr; i++) {
		balloon_map_remove(&b->map, pages[i], 1);
		if (gm_valid(b->gm, pages[i] * BALLOON_PAGE, BALLOON_PAGE))
			count->named += BALLOON_PAGE;
		else
			count->ignored++;
	}
}

/* The next page numbers of the chain in hand; how many, or -errno. */
static int balloon_read_pages(struct balloon *b, unsigned int index,
			      uint32_t pages[BALLOON_TURN_PAGES], unsigned int most)
{
	const struct balloon_queue *q = &b->queues[index];
	uint64_t left = q->chain->readable_bytes / sizeof(*pages) - q->page;
	unsigned int nr = (unsigned int)num_min(left, most);
	int ret = vq_chain_read(virtio_queue(b->vdev, index), q->chain, q->page * sizeof(*pages),
				pages, nr * sizeof(*pages));

	for (unsigned int i = 0; i < nr && !ret; i++)
		pages[i] = le32toh(pages[i]);
	return ret ? ret : (int)nr;
}

/*
 * A part of the chain in hand. False: not done, since the turn is over, somebody is busy, or it is
 * bad.
 */
static bool balloon_do_pages(struct balloon *b, unsigned int index, struct balloon_turn *turn)
{
	struct balloon_queue *q = &b->queues[index];
	struct balloon_count count = {0};
	uint32_t pages[BALLOON_TURN_PAGES];
	int nr = balloon_read_pages(b, index, pages, turn->pages);

	if (nr < 0) {
		virtio_set_needs_reset(b->vdev, "a balloon's page numbers are not in guest memory");
		turn->pages = 0;
		return false;
	}
	if (index == BALLOON_QUEUE_DEFLATE) {
		balloon_deflate(b, pages, (size_t)nr, &count);
	} else if (balloon_inflate(b, pages, (size_t)nr, &count)) {
		balloon_attempt_later(b, index);
		return false;
	}
	balloon_count_up(b, &count,
			 index == BALLOON_QUEUE_DEFLATE ? &b->deflated_bytes : &b->inflated_bytes);
	q->attempts = 0;
	q->page += (unsigned int)nr;
	turn->pages -= (unsigned int)nr;
	turn->bytes -= num_min(turn->bytes, count.discarded);
	return q->page == q->chain->readable_bytes / sizeof(*pages);
}

/*
 * Without a word before pages are used again, what is in the balloon is known of one request only.
 */
static void balloon_forget_pages(struct balloon *b, unsigned int index)
{
	if (index == BALLOON_QUEUE_INFLATE &&
	    !virtio_has_feature(b->vdev, BALLOON_F_MUST_TELL_HOST))
		balloon_map_clear_all(&b->map);
}

void balloon_kick_pages(struct balloon *b, unsigned int index)
{
	struct balloon_turn turn = {BALLOON_TURN_BYTES, BALLOON_TURN_PAGES};

	while (turn.pages && turn.bytes) {
		if (!balloon_take(b, index))
			return;
		if (balloon_do_pages(b, index, &turn)) {
			balloon_answer(b, index);
			balloon_forget_pages(b, index);
		} else if (b->queues[index].attempts) {
			return;
		}
	}
	balloon_again(b, index);
}

/* ---- segments ---- */

bool balloon_walk(struct balloon *b, unsigned int index, struct balloon_turn *turn,
		  balloon_step_fn *fn, struct balloon_count *count)
{
	struct balloon_queue *q = &b->queues[index];

	while (q->segment < q->chain->nr_writable) {
		const struct vq_segment *s =
			&q->chain->segments[q->chain->nr_readable + q->segment];
		uint64_t gpa = s->gpa + q->offset, left = s->len - q->offset;
		int64_t done;

		if (!turn->pages || !turn->bytes)
			return false;
		done = fn(b, index, gpa, left, turn->bytes, count);
		if (done < 0) {
			balloon_attempt_later(b, index);
			return false;
		}
		q->attempts = 0;
		turn->pages--;
		turn->bytes -= num_min(turn->bytes, (uint64_t)done);
		q->offset += (uint64_t)done;
		if (q->offset < s->len)
			continue;
		q->offset = 0;
		q->segment++;
	}
	return true;
}

/* Do the pages keep what is in them (balloon.h, I2)? */
static bool balloon_keeps_reports(const struct balloon *b)
{
	return b->poison_val && virtio_has_feature(b->vdev, BALLOON_F_PAGE_POISON);
}

/* Whole host pages of what is of one region are given back. */
static int64_t balloon_report(struct balloon *b, unsigned int index, uint64_t gpa, uint64_t size,
			      uint64_t most, struct balloon_count *count)
{
	struct gm_discard_run run;
	uint64_t part, skip;
	int ret = 0;

	gm_discard_look(b->gm, gpa, size, &run);
	part = run.size;
	/* To the first whole page. */
	skip = run.page_bytes ? -(gpa - run.start) & (run.page_bytes - 1) : 0;
	if (run.page_bytes && skip < run.size && run.size - skip >= run.page_bytes) {
		part = num_min(run.size - skip, num_max(most, run.page_bytes));
		part = num_align_down(part, run.page_bytes);
		if (!balloon_keeps_reports(b))
			ret = balloon_discard(b, index, gpa + skip, part, count);
		part += skip;
	}
	if (ret)
		return ret;
	if (gm_valid(b->gm, gpa, part))
		count->named += part;
	else
		count->ignored++;
	return (int64_t)part;
}

void balloon_kick_reports(struct balloon *b, unsigned int index)
{
	struct balloon_turn turn = {BALLOON_TURN_BYTES, BALLOON_TURN_PAGES};

	while (turn.pages && turn.bytes) {
		struct balloon_count count = {0};
		bool done;

		if (!balloon_take(b, index))
			return;
		done = balloon_walk(b, index, &turn, balloon_report, &count);
		balloon_count_up(b, &count, &b->reported_bytes);
		if (done)
			balloon_answer(b, index);
		else if (b->queues[index].attempts)
			return;
	}
	balloon_again(b, index);
}
