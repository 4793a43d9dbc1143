/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard's upper half: memory slots. See <vmem/guard.h> for the contract; what happens to the
 * pages is pages.h's.
 *
 * A slot is in one of three states. Absent: nothing is granted. Whole: one memory slot covers it,
 * with the closed blocks in it. Fine: a vCPU met one of those; memory slots cover just the runs that
 * were granted then. A fine slot becomes whole with the next grant in it, absent with the last
 * revoke, and may be laid anew when blocks were revoked since.
 *
 * Order: pages are open before the guest sees them, and closed before their slot goes: a failure in
 * between leaves closed pages, never open ones that nobody counts.
 */
#include <vmem/guard.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/num.h"
#include "guard/lend.h"
#include "guard/pages.h"

/*
 * A slot in more runs than this is not laid anew: the guest would stand still too long, since the
 * kernel takes its time for each memory slot, 10 us when the host is idle and 1 ms when it is not.
 */
#define GUARD_RUNS_MAX 256

struct guard_slot {
	uint64_t nr_granted; /* blocks */
	uint64_t nr_covered; /* blocks that memory slots cover */
	uint32_t *memslots;  /* the hypervisor's numbers; NULL when there are none */
	size_t nr_memslots;
};

struct vmem_guard {
	struct vmem_guard_config config;
	struct pages *pages;
	struct bitmap *granted; /* by block */
	struct guard_slot *slots;
	uint64_t nr_slots;
	_Atomic uint32_t nr_present, nr_memslots;
	_Atomic uint64_t refinements;
	pthread_mutex_t borrow_lock;
	struct guard_borrower borrower; /* guarded by borrow_lock; drop NULL: there is none */
};

/* A run is done in pieces that end where a slot ends. */
struct guard_piece {
	struct guard_slot *slot;
	uint64_t slot_offset, slot_size; /* of the whole slot, bytes */
	uint64_t block, nr_blocks;       /* of the run inside it */
	uint64_t next;                   /* offset behind the piece */
};

static struct guard_piece guard_piece_at(const struct vmem_guard *guard, uint64_t offset,
					 uint64_t end)
{
	const struct vmem_guard_config *c = &guard->config;
	struct guard_piece p;
	uint64_t index = offset / c->memslot_size;

	p.slot = &guard->slots[index];
	p.slot_offset = index * c->memslot_size;
	p.slot_size = num_min(c->memslot_size, c->size - p.slot_offset);
	p.next = num_min(end, p.slot_offset + p.slot_size);
	p.block = offset / c->block_size;
	p.nr_blocks = (p.next - offset) / c->block_size;
	return p;
}

/*
 * How many blocks of the piece are granted. Slots that are absent, or wholly inside the run, are
 * not looked into, so that the cost of a run over everything grows with the slots, not the blocks.
 */
static uint64_t guard_piece_granted(const struct vmem_guard *guard, const struct guard_piece *p)
{
	if (!p->slot->nr_granted || p->nr_blocks == p->slot_size / guard->config.block_size)
		return p->slot->nr_granted;
	return bitmap_count(guard->granted, p->block, p->nr_blocks);
}

/* ---- life ---- */

static int guard_check(const struct vmem_guard_config *c, struct vmem_error *error)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (!num_is_pow2(c->block_size) || c->block_size < page || !num_is_pow2(c->memslot_size) ||
	    c->memslot_size < c->block_size || !num_is_aligned(c->size, c->block_size) ||
	    !num_is_aligned((uintptr_t)c->memory, page) || !num_is_aligned(c->fd_offset, page))
		return pages_error(error, EINVAL,
				   "the memory device's sizes do not fit each other");
	return 0;
}

/* Only private memory needs it: what a file has is there when it is granted. */
static int guard_check_populate(const struct vmem_guard_config *c, struct vmem_error *error)
{
	struct utsname kernel;

	if (!c->populate_threads || c->fd >= 0 || pages_populate_supported())
		return 0;
	uname(&kernel);
	return pages_error(
		error, EOPNOTSUPP,
		"private memory can be allocated in advance from Linux 5.14 on, and this is "
		"Linux %.32s: do without, or use memory of a file or a memfd",
		kernel.release);
}

static int guard_make_pages(struct vmem_guard *guard, struct vmem_error *error)
{
	const struct vmem_guard_config *c = &guard->config;
	const struct pages_config config = {
		.memory = c->memory,
		.size = c->size,
		.block_size = c->block_size,
		.segment_size = c->memslot_size,
		.fd = c->fd,
		.fd_offset = c->fd_offset,
		.populate_threads = c->populate_threads ? c->populate_threads : 1,
		.max_fences = c->max_fences,
		.nr_guards = c->nr_guards,
		.mergeable = c->mergeable,
	};

	if (c->unprotected)
		return pages_plain_new(&config, &guard->pages, error);
	if (c->fd >= 0)
		return pages_file_new(&config, &guard->pages, error);
	return pages_anon_new(&config, &guard->pages, error);
}

int vmem_guard_new(const struct vmem_guard_config *config, struct vmem_guard **ret_guard,
		   struct vmem_error *ret_error)
{
	struct vmem_guard *guard;
	int ret = guard_check(config, ret_error);

	if (!ret)
		ret = guard_check_populate(config, ret_error);
	if (ret)
		return ret;
	guard = calloc(1, sizeof(*guard));
	if (!guard)
		return pages_error(ret_error, ENOMEM, "out of memory");
	pthread_mutex_init(&guard->borrow_lock, NULL);
	guard->config = *config;
	guard->nr_slots =
		config->size / config->memslot_size + (config->size % config->memslot_size != 0);
	guard->granted = bitmap_new(config->size / config->block_size);
	guard->slots = calloc(guard->nr_slots + 1, sizeof(*guard->slots));
	if (!guard->granted || !guard->slots)
		ret = pages_error(ret_error, ENOMEM, "out of memory");
	if (!ret)
		ret = guard_make_pages(guard, ret_error);
	if (ret) {
		vmem_guard_free(guard);
		return ret;
	}
	*ret_guard = guard;
	return 0;
}

void vmem_guard_free(struct vmem_guard *guard)
{
	if (!guard)
		return;
	if (guard->borrower.gone)
		guard->borrower.gone(guard->borrower.opaque);
	for (uint64_t i = 0; guard->slots && i < guard->nr_slots; i++) {
		struct guard_slot *s = &guard->slots[i];

		for (size_t k = 0; k < s->nr_memslots; k++)
			guard->config.ops->slot_remove(guard->config.opaque, s->memslots[k]);
		free(s->memslots);
	}
	free(guard->slots);
	bitmap_free(guard->granted);
	if (guard->pages)
		guard->pages->ops->free(guard->pages);
	pthread_mutex_destroy(&guard->borrow_lock);
	free(guard);
}

/* ---- memory slots ---- */

/* Take over the result of a replacement; @memslots are numbers, malloced, or NULL for none. */
static void guard_slot_commit(struct vmem_guard *guard, struct guard_slot *s, uint32_t *memslots,
			      size_t nr_memslots, uint64_t nr_covered)
{
	guard->nr_memslots += (uint32_t)nr_memslots - (uint32_t)s->nr_memslots;
	free(s->memslots);
	s->memslots = memslots;
	s->nr_memslots = nr_memslots;
	s->nr_covered = nr_covered;
}

/*
 * Lay a slot by @fresh, of which none may be needed, all at once for the guest. After
 * -ENOTRECOVERABLE no memory slot is left; after another failure it is as before.
 */
static int guard_slot_replace(struct vmem_guard *guard, struct guard_slot *s,
			      struct vmem_guard_slot *fresh, size_t nr_fresh)
{
	const struct vmem_guard_config *c = &guard->config;
	uint32_t *memslots = NULL;
	uint64_t covered = 0;
	int ret;

	if (!c->ops->slots_replace)
		return -EOPNOTSUPP;
	if (nr_fresh) {
		memslots = calloc(nr_fresh, sizeof(*memslots));
		if (!memslots)
			return -ENOMEM;
	}
	ret = c->ops->slots_replace(c->opaque, s->memslots, s->nr_memslots, fresh, nr_fresh);
	if (ret) {
		free(memslots);
		if (ret == -ENOTRECOVERABLE)
			guard_slot_commit(guard, s, NULL, 0, 0);
		return ret;
	}
	for (size_t i = 0; i < nr_fresh; i++) {
		memslots[i] = fresh[i].slot;
		covered += fresh[i].size / c->block_size;
	}
	guard_slot_commit(guard, s, memslots, nr_fresh, covered);
	return 0;
}

/* Make the slot present as a whole. */
static int guard_slot_cover(struct vmem_guard *guard, struct guard_piece *p)
{
	const struct vmem_guard_config *c = &guard->config;
	uint64_t nr_blocks = p->slot_size / c->block_size;
	struct vmem_guard_slot whole = {p->slot_offset, p->slot_size, 0};
	uint32_t *memslot;
	int ret;

	if (p->slot->nr_covered == nr_blocks && p->slot->nr_memslots == 1)
		return 0;
	if (p->slot->nr_memslots)
		return guard_slot_replace(guard, p->slot, &whole, 1);
	memslot = malloc(sizeof(*memslot));
	if (!memslot)
		return -ENOMEM;
	ret = c->ops->slot_add(c->opaque, whole.offset, whole.size, memslot);
	if (ret)
		free(memslot);
	else
		guard_slot_commit(guard, p->slot, memslot, 1, nr_blocks);
	return ret;
}

/* Make the slot absent. */
static int guard_slot_uncover(struct vmem_guard *guard, struct guard_slot *s)
{
	int ret;

	if (!s->nr_memslots)
		return 0;
	if (s->nr_memslots > 1)
		return guard_slot_replace(guard, s, NULL, 0);
	ret = guard->config.ops->slot_remove(guard->config.opaque, s->memslots[0]);
	if (!ret)
		guard_slot_commit(guard, s, NULL, 0, 0);
	return ret;
}

/* ---- the engine's host ops ---- */

int vmem_guard_grant(struct vmem_guard *guard, uint64_t offset, uint64_t size)
{
	uint64_t end = offset + size;
	int ret = guard->pages->ops->open(guard->pages, offset, size);

	while (!ret && offset < end) {
		struct guard_piece p = guard_piece_at(guard, offset, end);
		uint64_t granted = guard_piece_granted(guard, &p);

		ret = guard_slot_cover(guard, &p);
		if (ret)
			break;
		if (!p.slot->nr_granted)
			guard->nr_present++;
		p.slot->nr_granted += p.nr_blocks - granted;
		bitmap_set(guard->granted, p.block, p.nr_blocks);
		offset = p.next;
	}
	return ret;
}

int vmem_guard_populate(struct vmem_guard *guard, uint64_t offset, uint64_t size)
{
	return guard->pages->ops->populate(guard->pages, offset, size);
}

int vmem_guard_revoke(struct vmem_guard *guard, uint64_t offset, uint64_t size)
{
	uint64_t end = offset + size;
	int ret = guard->pages->ops->close(guard->pages, offset, size);

	while (!ret && offset < end) {
		struct guard_piece p = guard_piece_at(guard, offset, end);
		uint64_t granted = guard_piece_granted(guard, &p);

		offset = p.next;
		if (!granted)
			continue;
		if (p.slot->nr_granted == granted) {
			ret = guard_slot_uncover(guard, p.slot);
			if (ret)
				break;
			guard->nr_present--;
		}
		p.slot->nr_granted -= granted;
		bitmap_clear(guard->granted, p.block, p.nr_blocks);
	}
	return ret;
}

int vmem_guard_discard(struct vmem_guard *guard, uint64_t offset, uint64_t size)
{
	int ret = 0;

	pthread_mutex_lock(&guard->borrow_lock);
	if (guard->borrower.drop)
		ret = guard->borrower.drop(guard->borrower.opaque, offset, size);
	pthread_mutex_unlock(&guard->borrow_lock);
	return ret ? ret : guard->pages->ops->discard(guard->pages, offset, size);
}

int vmem_guard_reclaim(struct vmem_guard *guard, uint64_t offset, uint64_t size,
		       uint64_t *ret_bytes)
{
	uint64_t block_size = guard->config.block_size, at, stop, end;
	struct pages *pages = guard->pages;
	int ret = 0;

	*ret_bytes = 0;
	if (!size ||
	    !range_contains((struct range){0, guard->config.size}, (struct range){offset, size}) ||
	    !num_is_aligned(offset | size, pages->page))
		return -EINVAL;
	pthread_mutex_lock(&guard->borrow_lock);
	if (guard->borrower.drop)
		ret = -EBUSY;
	pthread_mutex_unlock(&guard->borrow_lock);
	end = (offset + size + block_size - 1) / block_size;
	at = bitmap_next_set(guard->granted, offset / block_size, end);
	for (; !ret && at < end; at = bitmap_next_set(guard->granted, stop, end)) {
		uint64_t from = num_max(offset, at * block_size), to;

		stop = bitmap_next_clear(guard->granted, at, end);
		to = num_min(offset + size, stop * block_size);
		ret = pages->ops->reclaim(pages, from, to - from);
		if (!ret)
			*ret_bytes += to - from;
	}
	return ret;
}

/* ---- what is lent: lend.h ---- */

int guard_borrow(struct vmem_guard *guard, const struct guard_borrower *borrower)
{
	int ret = 0;

	pthread_mutex_lock(&guard->borrow_lock);
	if (borrower && guard->borrower.drop)
		ret = -EBUSY;
	else
		guard->borrower = borrower ? *borrower : (struct guard_borrower){0};
	pthread_mutex_unlock(&guard->borrow_lock);
	return ret;
}

int guard_lend(struct vmem_guard *guard, uint64_t offset, uint64_t size)
{
	uint64_t block_size = guard->config.block_size;
	struct pages *pages = guard->pages;
	int ret = 0;

	if (!bitmap_all_set(guard->granted, offset / block_size, size / block_size))
		return -EOPNOTSUPP;
	if (pages->ops->lend)
		ret = pages->ops->lend(pages, offset, size);
	if (!ret)
		pages->lent_bytes += size;
	return ret;
}

int guard_take_back(struct vmem_guard *guard, uint64_t offset, uint64_t size)
{
	struct pages *pages = guard->pages;
	int ret = pages->ops->take_back ? pages->ops->take_back(pages, offset, size) : 0;

	if (!ret)
		pages->lent_bytes -= size;
	return ret;
}

/* ---- after a violation ---- */

/*
 * The runs of granted blocks of a slot, malloced; their number in *ret_nr. NULL with -ENOMEM or
 * -ENOSPC (more than GUARD_RUNS_MAX) in *ret_error.
 */
static struct vmem_guard_slot *guard_slot_runs(const struct vmem_guard *guard,
					       const struct guard_piece *p, size_t *ret_nr,
					       int *ret_error)
{
	uint64_t block_size = guard->config.block_size;
	uint64_t first = p->slot_offset / block_size, end = first + p->slot_size / block_size;
	struct vmem_guard_slot *runs = NULL;
	size_t nr = 0, room = 0;

	for (uint64_t at = bitmap_next_set(guard->granted, first, end); at < end;) {
		uint64_t run_end = bitmap_next_clear(guard->granted, at, end);

		if (nr == room) {
			struct vmem_guard_slot *more = NULL;

			room = room ? 2 * room : 16;
			*ret_error = nr == GUARD_RUNS_MAX ? -ENOSPC : -ENOMEM;
			if (nr < GUARD_RUNS_MAX)
				more = realloc(runs, room * sizeof(*runs));
			if (!more) {
				free(runs);
				return NULL;
			}
			runs = more;
		}
		runs[nr++] =
			(struct vmem_guard_slot){at * block_size, (run_end - at) * block_size, 0};
		at = bitmap_next_set(guard->granted, run_end, end);
	}
	*ret_nr = nr;
	return runs;
}

int vmem_guard_refine(struct vmem_guard *guard, uint64_t offset, uint64_t size)
{
	const struct vmem_guard_config *c = &guard->config;
	uint64_t end = offset + size;
	int refined = 0;

	if (c->unprotected)
		return 0;
	while (offset < end) {
		struct guard_piece p = guard_piece_at(guard, offset, end);
		struct vmem_guard_slot *runs;
		size_t nr_runs;
		int ret;

		offset = p.next;
		if (!p.slot->nr_granted || p.slot->nr_covered == p.slot->nr_granted)
			continue;
		runs = guard_slot_runs(guard, &p, &nr_runs, &ret);
		if (!runs)
			return ret;
		ret = guard_slot_replace(guard, p.slot, runs, nr_runs);
		free(runs);
		if (ret)
			return ret;
		guard->refinements++;
		refined++;
	}
	return refined;
}

void vmem_guard_info(const struct vmem_guard *guard, struct vmem_guard_info *ret_info)
{
	const struct pages *pages = guard->pages;

	*ret_info = (struct vmem_guard_info){
		.mechanism = pages->mechanism,
		.slots_present = guard->nr_present,
		.memslots = guard->nr_memslots,
		.fences = pages->fences,
		.armed_segments = pages->armed_segments,
		.refinements = guard->refinements,
	};
}
