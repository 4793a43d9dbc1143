/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The source's side of postcopy: see postcopy.h for the contract.
 *
 * Three maps for each block: pages that have to be sent at all, those that are left, and of these the
 * ones that somebody waits for. What is wanted is served in the order in which it was: a queue has the
 * places, and the map is what counts. When more is wanted than fits the queue the rest is found in
 * the map, round and round; so a target that wants everything costs no memory.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/migration/postcopy_set.h"

struct send_block {
	uint64_t nr_pages;
	struct bitmap *all, *left, *wanted;
};

struct place {
	size_t block;
	uint64_t page;
};

#define SEND_QUEUE 1024u

struct postcopy_send {
	pthread_mutex_t lock;
	/* guarded by lock */
	struct send_block *blocks;
	uint64_t *pages; /* of each block */
	size_t nr_blocks;
	uint64_t nr_left, nr_wanted;
	struct place stream, want; /* where to go on */
	struct place queue[SEND_QUEUE];
	size_t queue_first, queue_count;
	struct place told; /* in recovery: what the target has yet to tell */
	bool recovering;
};

int postcopy_send_new(const uint64_t *block_pages, size_t nr_blocks,
		      struct postcopy_send **ret_send, struct err **err)
{
	struct postcopy_send *s = calloc(1, sizeof(*s));
	bool failed;

	if (!s)
		return err_set(err, ENOMEM, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	s->blocks = calloc(nr_blocks + 1, sizeof(*s->blocks));
	s->pages = calloc(nr_blocks + 1, sizeof(*s->pages));
	failed = !s->blocks || !s->pages;
	for (; !failed && s->nr_blocks < nr_blocks; s->nr_blocks++) {
		struct send_block *b = &s->blocks[s->nr_blocks];

		b->nr_pages = s->pages[s->nr_blocks] = block_pages[s->nr_blocks];
		b->all = bitmap_new(b->nr_pages);
		b->left = bitmap_new(b->nr_pages);
		b->wanted = bitmap_new(b->nr_pages);
		failed = !b->all || !b->left || !b->wanted;
	}
	if (failed) {
		postcopy_send_free(s);
		return err_set(err, ENOMEM, "out of memory");
	}
	*ret_send = s;
	return 0;
}

void postcopy_send_free(struct postcopy_send *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->nr_blocks; i++) {
		bitmap_free(s->blocks[i].all);
		bitmap_free(s->blocks[i].left);
		bitmap_free(s->blocks[i].wanted);
	}
	free(s->blocks);
	free(s->pages);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void postcopy_send_add(struct postcopy_send *s, size_t block, uint64_t page, const uint64_t *words,
		       size_t nr_words)
{
	struct send_block *b = &s->blocks[block];

	assert(page % 64 == 0);
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < nr_words; i++)
		for (uint64_t word = words[i]; word; word &= word - 1) {
			uint64_t at = page + i * 64 + (uint64_t)__builtin_ctzll(word);

			s->nr_left += !bitmap_test(b->left, at);
			bitmap_set(b->all, at, 1);
			bitmap_set(b->left, at, 1);
		}
	pthread_mutex_unlock(&s->lock);
}

static uint64_t send_next_left(void *opaque, size_t block, uint64_t page, uint64_t end,
			       uint64_t *ret_nr)
{
	const struct postcopy_send *s = opaque;
	const struct bitmap *left = s->blocks[block].left;
	uint64_t first = bitmap_next_set(left, page, end);

	*ret_nr = first < end ? bitmap_next_clear(left, first, end) - first : 0;
	return first;
}

/* Nothing is sent meanwhile: the lock need not be held over @emit. */
int postcopy_send_list(struct postcopy_send *s, postcopy_emit_fn *emit, void *opaque,
		       struct err **err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < s->nr_blocks; i++)
		ret = postcopy_set_emit(i, s->pages[i], i == 0, send_next_left, s, emit, opaque,
					err);
	return ret;
}

static void send_queue(struct postcopy_send *s, struct place at)
{
	if (s->queue_count < SEND_QUEUE)
		s->queue[(s->queue_first + s->queue_count++) % SEND_QUEUE] = at;
}

/* Where what is wanted first is; the lock is held. */
static struct place send_first_wanted(struct postcopy_send *s)
{
	for (; s->queue_count; s->queue_count--) {
		struct place at = s->queue[s->queue_first];

		if (bitmap_test(s->blocks[at.block].wanted, at.page))
			return at;
		s->queue_first = (s->queue_first + 1) % SEND_QUEUE;
	}
	return s->want;
}

int postcopy_send_want(struct postcopy_send *s, const void *bytes, size_t size, struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);
	size_t block = unpack_u32(&in);
	struct range run = {.start = unpack_u64(&in), .size = unpack_u64(&in)};

	if (!unpack_ended(&in) || block >= s->nr_blocks ||
	    !range_contains((struct range){0, s->pages[block]}, run))
		return err_set(err, EINVAL, "the target wants pages that are not there");
	pthread_mutex_lock(&s->lock);
	/* What was sent meanwhile is on its way. */
	for (uint64_t at = run.start, end = range_end(run), nr; at < end; at += nr) {
		at = send_next_left(s, block, at, end, &nr);
		if (nr) {
			struct bitmap *wanted = s->blocks[block].wanted;

			s->nr_wanted += nr - bitmap_count(wanted, at, nr);
			bitmap_set(wanted, at, nr);
			send_queue(s, (struct place){block, at});
		}
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/*
 * The first page of the map from @from on, round and round; there is one. *ret_nr: how many follow, @max
 * at most. The lock is held.
 */
static struct place send_find(const struct postcopy_send *s, struct place from, bool wanted,
			      uint64_t max, uint64_t *ret_nr)
{
	for (;;) {
		const struct send_block *b = &s->blocks[from.block];
		const struct bitmap *map = wanted ? b->wanted : b->left;

		from.page = bitmap_next_set(map, from.page, b->nr_pages);
		if (from.page < b->nr_pages) {
			uint64_t end = from.page + num_min(max, b->nr_pages - from.page);

			*ret_nr = bitmap_next_clear(map, from.page, end) - from.page;
			return from;
		}
		from = (struct place){(from.block + 1) % s->nr_blocks, 0};
	}
}

/* Pages [at, at + nr) are sent, wanted or not; the lock is held. */
static void send_note(struct postcopy_send *s, struct place at, uint64_t nr, bool wanted)
{
	struct send_block *b = &s->blocks[at.block];
	struct place *first = &s->queue[s->queue_first];

	s->nr_left -= nr;
	s->nr_wanted -= bitmap_count(b->wanted, at.page, nr);
	bitmap_clear(b->left, at.page, nr);
	bitmap_clear(b->wanted, at.page, nr);
	/* What follows is what will be wanted next; and the rest of a longer run is its own turn. */
	s->stream = (struct place){at.block, at.page + nr};
	if (wanted)
		s->want = s->stream;
	if (s->queue_count && first->block == at.block && first->page == at.page &&
	    s->stream.page < b->nr_pages && bitmap_test(b->wanted, s->stream.page))
		*first = s->stream;
}

bool postcopy_send_next(struct postcopy_send *s, uint64_t max, size_t *ret_block,
			uint64_t *ret_page, uint64_t *ret_nr, bool *ret_wanted)
{
	struct place at;
	bool found;

	pthread_mutex_lock(&s->lock);
	found = s->nr_left && !s->recovering;
	if (found) {
		*ret_wanted = s->nr_wanted;
		at = *ret_wanted ? send_first_wanted(s) : s->stream;
		at = send_find(s, at, *ret_wanted, max, ret_nr);
		send_note(s, at, *ret_nr, *ret_wanted);
		*ret_block = at.block;
		*ret_page = at.page;
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

bool postcopy_send_is_wanted(struct postcopy_send *s)
{
	bool wanted;

	pthread_mutex_lock(&s->lock);
	wanted = s->nr_wanted;
	pthread_mutex_unlock(&s->lock);
	return wanted;
}

uint64_t postcopy_send_left(struct postcopy_send *s)
{
	uint64_t left;

	pthread_mutex_lock(&s->lock);
	left = s->nr_left;
	pthread_mutex_unlock(&s->lock);
	return left;
}

/* ---- recovery ---- */

void postcopy_send_recover(struct postcopy_send *s)
{
	pthread_mutex_lock(&s->lock);
	s->recovering = true;
	s->told = (struct place){0, 0};
	/* Who waits tells so again. */
	for (size_t i = 0; i < s->nr_blocks; i++)
		bitmap_clear(s->blocks[i].wanted, 0, s->pages[i]);
	s->nr_wanted = 0;
	s->queue_count = 0;
	while (s->told.block < s->nr_blocks && !s->pages[s->told.block])
		s->told.block++;
	pthread_mutex_unlock(&s->lock);
}

/* Of the set's pages, those in it are left. False when one of them is none that was to be sent. */
static bool send_have_locked(struct postcopy_send *s, const struct postcopy_set *set)
{
	struct send_block *b = &s->blocks[set->block];
	uint64_t end = set->first + set->nr, nr;

	for (uint64_t at = set->first; (at = postcopy_set_next(set, at, &nr)) < end; at += nr)
		if (!bitmap_all_set(b->all, at, nr))
			return false;
	s->nr_left -= bitmap_count(b->left, set->first, set->nr);
	bitmap_clear(b->left, set->first, set->nr);
	for (uint64_t at = set->first; (at = postcopy_set_next(set, at, &nr)) < end; at += nr)
		bitmap_set(b->left, at, nr);
	s->nr_left += bitmap_count(b->left, set->first, set->nr);
	s->told.page += set->nr;
	while (s->told.block < s->nr_blocks && s->told.page == s->pages[s->told.block])
		s->told = (struct place){s->told.block + 1, 0};
	return true;
}

int postcopy_send_have(struct postcopy_send *s, const void *bytes, size_t size, struct err **err)
{
	struct postcopy_set set;
	int ret = postcopy_set_decode(bytes, size, s->pages, s->nr_blocks, "what the target has",
				      &set, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&s->lock);
	if (!s->recovering || set.block != s->told.block || set.first != s->told.page)
		ret = err_set(err, EINVAL, "the target told what it has in a wrong order");
	else if (!send_have_locked(s, &set))
		ret = err_set(err, EINVAL, "the target lacks pages that it had before");
	pthread_mutex_unlock(&s->lock);
	return ret;
}

int postcopy_send_recovered(struct postcopy_send *s, struct err **err)
{
	int ret = 0;

	pthread_mutex_lock(&s->lock);
	if (!s->recovering || s->told.block < s->nr_blocks)
		ret = err_set(err, EINVAL, "the target did not tell all that it has");
	else
		s->recovering = false;
	pthread_mutex_unlock(&s->lock);
	return ret;
}
