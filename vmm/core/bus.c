/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bus behind bus.h: a list of regions, ordered so that the first match is the answer (I4).
 *
 * I5  The list and region->added change only with the lock held for writing.
 * I6  region->users counts the accesses that looked the region up and have not left it; leaving is
 *     the last time that an access touches the region, so its owner may free it after bus_remove().
 * I7  A thread's frames list the handlers that it is inside of on this bus, innermost first.
 *
 * Threads: an access takes the lock for reading, just for the lookup. A remover waits on idle_cond;
 * one who leaves looks at the number of waiters after it gave up its use, and a waiter looks at the
 * uses after it counted itself in, both sequentially consistent: one of them sees the other.
 */
#include "vmm/core/bus.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct bus_frame {
	struct bus_region *region;
	struct bus_frame *outer;
};

struct bus {
	pthread_rwlock_t lock;      /* guards first, the next links and added */
	struct bus_region *first;   /* by size, then by age */
	pthread_key_t frames;       /* this thread's innermost struct bus_frame */
	pthread_mutex_t idle_mutex; /* for idle_cond */
	pthread_cond_t idle_cond;   /* some region lost a user */
	unsigned int waiters;       /* atomic: threads in bus_region_wait() */
};

/* Prefer writers: a stream of guest accesses must not keep a region on the bus for ever. */
static int bus_lock_init(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;
	int rc = pthread_rwlockattr_init(&attr);

	if (rc)
		return rc;
#ifdef __GLIBC__
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
	rc = pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	return rc;
}

struct bus *bus_new(void)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return NULL;
	if (bus_lock_init(&bus->lock))
		goto fail_lock;
	if (pthread_key_create(&bus->frames, NULL))
		goto fail_key;
	if (pthread_mutex_init(&bus->idle_mutex, NULL))
		goto fail_mutex;
	if (pthread_cond_init(&bus->idle_cond, NULL))
		goto fail_cond;
	return bus;

fail_cond:
	pthread_mutex_destroy(&bus->idle_mutex);
fail_mutex:
	pthread_key_delete(bus->frames);
fail_key:
	pthread_rwlock_destroy(&bus->lock);
fail_lock:
	free(bus);
	return NULL;
}

void bus_free(struct bus *bus)
{
	if (!bus)
		return;
	pthread_cond_destroy(&bus->idle_cond);
	pthread_mutex_destroy(&bus->idle_mutex);
	pthread_key_delete(bus->frames);
	pthread_rwlock_destroy(&bus->lock);
	free(bus);
}

void bus_add(struct bus *bus, struct bus_region *region)
{
	struct bus_region **link;

	assert(region->range.size && range_valid(region->range) && region->ops);
	pthread_rwlock_wrlock(&bus->lock);
	assert(!region->added);
	link = &bus->first;
	while (*link && (*link)->range.size <= region->range.size)
		link = &(*link)->next;
	region->next = *link;
	region->added = true;
	*link = region;
	pthread_rwlock_unlock(&bus->lock);
}

/* How many of the handlers that the calling thread is inside of are @region's. */
static unsigned int bus_own_uses(const struct bus *bus, const struct bus_region *region)
{
	const struct bus_frame *frame = pthread_getspecific(bus->frames);
	unsigned int uses = 0;

	for (; frame; frame = frame->outer)
		uses += frame->region == region;
	return uses;
}

static void bus_region_wait(struct bus *bus, struct bus_region *region)
{
	unsigned int own = bus_own_uses(bus, region);

	pthread_mutex_lock(&bus->idle_mutex);
	__atomic_fetch_add(&bus->waiters, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&region->users, __ATOMIC_SEQ_CST) != own)
		pthread_cond_wait(&bus->idle_cond, &bus->idle_mutex);
	__atomic_fetch_sub(&bus->waiters, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&bus->idle_mutex);
}

void bus_remove(struct bus *bus, struct bus_region *region)
{
	struct bus_region **link;
	bool was_added;

	pthread_rwlock_wrlock(&bus->lock);
	was_added = region->added;
	if (was_added) {
		link = &bus->first;
		while (*link != region)
			link = &(*link)->next;
		*link = region->next;
		region->next = NULL;
		region->added = false;
	}
	pthread_rwlock_unlock(&bus->lock);
	if (was_added)
		bus_region_wait(bus, region);
}

/* Give up one use, and wake whoever waits for that. */
static void bus_drop(struct bus *bus, struct bus_region *region)
{
	__atomic_fetch_sub(&region->users, 1, __ATOMIC_SEQ_CST);
	/* The region may be gone from here on (I6). */
	if (!__atomic_load_n(&bus->waiters, __ATOMIC_SEQ_CST))
		return;
	pthread_mutex_lock(&bus->idle_mutex);
	pthread_cond_broadcast(&bus->idle_cond);
	pthread_mutex_unlock(&bus->idle_mutex);
}

/* The region that answers (I4), with a use taken, or NULL. */
static struct bus_region *bus_enter(struct bus *bus, uint64_t addr, unsigned int size,
				    struct bus_frame *frame)
{
	struct range access = {addr, size};
	struct bus_region *region;

	pthread_rwlock_rdlock(&bus->lock);
	for (region = bus->first; region; region = region->next)
		if (range_contains(region->range, access))
			break;
	if (region)
		__atomic_fetch_add(&region->users, 1, __ATOMIC_SEQ_CST);
	pthread_rwlock_unlock(&bus->lock);
	if (!region)
		return NULL;

	frame->region = region;
	frame->outer = pthread_getspecific(bus->frames);
	if (!pthread_setspecific(bus->frames, frame))
		return region;
	/* Memory for the thread's first value is out: without a frame, I3 would deadlock. */
	bus_drop(bus, region);
	return NULL;
}

static void bus_leave(struct bus *bus, struct bus_frame *frame)
{
	pthread_setspecific(bus->frames, frame->outer);
	bus_drop(bus, frame->region);
}

static uint64_t bus_mask(unsigned int size)
{
	return size < 8 ? (UINT64_C(1) << (8 * size)) - 1 : UINT64_MAX;
}

bool bus_read(struct bus *bus, uint64_t addr, unsigned int size, uint64_t *ret_value)
{
	struct bus_frame frame;
	struct bus_region *region = bus_enter(bus, addr, size, &frame);

	if (!region) {
		*ret_value = bus_mask(size);
		return false;
	}
	*ret_value = region->ops->read(region->opaque, addr - region->range.start, size);
	*ret_value &= bus_mask(size);
	bus_leave(bus, &frame);
	return true;
}

bool bus_write(struct bus *bus, uint64_t addr, unsigned int size, uint64_t value)
{
	struct bus_frame frame;
	struct bus_region *region = bus_enter(bus, addr, size, &frame);

	if (!region)
		return false;
	region->ops->write(region->opaque, addr - region->range.start, size,
			   value & bus_mask(size));
	bus_leave(bus, &frame);
	return true;
}
