/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory: see gm.h for the contract.
 *
 * Regions are kept in an array sorted by address, with a readers-writer lock around it that an
 * access holds for reading while it lasts: no region goes under its hands. A device-memory region
 * has such a lock around its map of granted blocks: an access holds it for reading from the check
 * to the last byte copied, gm_revoke() takes it for writing, and that is all of I3. Writers are
 * preferred, so that a busy device cannot keep an unplug waiting. Order: the array's lock, then
 * regions' in ascending order.
 *
 * Each region has its own marks while writes are marked; they come and go with the array's lock held
 * for writing, so that an access, which holds it for reading, finds them or finds none.
 */
#include "vmm/core/gm.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/bytes.h"
#include "vmm/core/dirty.h"
#include "vmm/core/fault.h"
#include "vmm/core/gm_state.h"

#define GM_PAGE_SIZE 4096

static int gm_lock_init(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;
	int ret;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	ret = -pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	return ret;
}

struct gm *gm_new(void)
{
	struct gm *gm = calloc(1, sizeof(*gm));

	if (gm && gm_lock_init(&gm->lock)) {
		free(gm);
		return NULL;
	}
	return gm;
}

static void gm_region_free(struct gm_region *r)
{
	if (r->is_device) {
		pthread_rwlock_destroy(&r->lock);
		bitmap_free(r->granted);
	}
	dirty_free(r->dirty);
	free(r);
}

void gm_free(struct gm *gm)
{
	if (!gm)
		return;
	for (size_t i = 0; i < gm->nregions; i++)
		gm_region_free(gm->regions[i]);
	free(gm->regions);
	pthread_rwlock_destroy(&gm->lock);
	free(gm);
}

/* gm->lock held for writing. */
static int gm_insert_locked(struct gm *gm, struct gm_region *r)
{
	struct gm_region **regions;
	size_t at = gm->nregions;

	if (!r->gpa.size || !range_valid(r->gpa) ||
	    !num_is_aligned(r->gpa.start | r->gpa.size | (uintptr_t)r->host, GM_PAGE_SIZE))
		return -EINVAL;
	for (size_t i = 0; i < gm->nregions; i++)
		if (range_overlaps(gm->regions[i]->gpa, r->gpa))
			return -EEXIST;
	regions = realloc(gm->regions, (gm->nregions + 1) * sizeof(*regions));
	if (!regions)
		return -ENOMEM;
	gm->regions = regions;
	if (gm_dirty_add_region_locked(gm, r))
		return -ENOMEM;
	for (; at > 0 && regions[at - 1]->gpa.start > r->gpa.start; at--)
		regions[at] = regions[at - 1];
	regions[at] = r;
	gm->nregions++;
	return 0;
}

/* Takes over @r on success. */
static int gm_insert(struct gm *gm, struct gm_region *r)
{
	int ret;

	pthread_rwlock_wrlock(&gm->lock);
	ret = gm_insert_locked(gm, r);
	pthread_rwlock_unlock(&gm->lock);
	return ret;
}

int gm_add_ram(struct gm *gm, struct range gpa, void *host)
{
	struct gm_region *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	r->gpa = gpa;
	r->host = host;
	ret = gm_insert(gm, r);
	if (ret)
		gm_region_free(r);
	return ret;
}

int gm_add_device_memory(struct gm *gm, struct range gpa, void *host, uint64_t block_size,
			 struct gm_region **ret_region)
{
	struct gm_region *r;
	int ret;

	if (!num_is_pow2(block_size) || !num_is_aligned(gpa.size, block_size))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->gpa = gpa;
	r->host = host;
	r->block_size = block_size;
	r->granted = bitmap_new(gpa.size / block_size);
	if (!r->granted) {
		free(r);
		return -ENOMEM;
	}
	ret = gm_lock_init(&r->lock);
	if (ret) {
		bitmap_free(r->granted);
		free(r);
		return ret;
	}
	r->is_device = true;
	ret = gm_insert(gm, r);
	if (ret) {
		gm_region_free(r);
		return ret;
	}
	*ret_region = r;
	return 0;
}

void gm_remove_device_memory(struct gm *gm, struct gm_region *r)
{
	size_t at = 0;

	pthread_rwlock_wrlock(&gm->lock);
	while (gm->regions[at] != r)
		at++;
	gm->nregions--;
	memmove(&gm->regions[at], &gm->regions[at + 1], (gm->nregions - at) * sizeof(*gm->regions));
	pthread_rwlock_unlock(&gm->lock);
	gm_region_free(r);
}

void gm_grant(struct gm_region *r, uint64_t offset, uint64_t size)
{
	assert(r->is_device && num_is_aligned(offset | size, r->block_size));
	pthread_rwlock_wrlock(&r->lock);
	bitmap_set(r->granted, offset / r->block_size, size / r->block_size);
	pthread_rwlock_unlock(&r->lock);
}

void gm_revoke(struct gm_region *r, uint64_t offset, uint64_t size)
{
	assert(r->is_device && num_is_aligned(offset | size, r->block_size));
	pthread_rwlock_wrlock(&r->lock);
	bitmap_clear(r->granted, offset / r->block_size, size / r->block_size);
	pthread_rwlock_unlock(&r->lock);
}

size_t gm_find_locked(const struct gm *gm, uint64_t gpa)
{
	size_t low = 0, high = gm->nregions;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (range_has(gm->regions[mid]->gpa, gpa))
			return mid;
		if (gm->regions[mid]->gpa.start > gpa)
			high = mid;
		else
			low = mid + 1;
	}
	return gm->nregions;
}

/* The regions that an access holds: [first, last), all locked. */
struct gm_hold {
	size_t first, last;
};

static void gm_drop(struct gm *gm, struct gm_hold hold)
{
	for (size_t i = hold.first; i < hold.last; i++)
		if (gm->regions[i]->is_device)
			pthread_rwlock_unlock(&gm->regions[i]->lock);
	pthread_rwlock_unlock(&gm->lock);
}

/* Lock the array and the regions of the range, and check it; else -EFAULT, with nothing held. */
static int gm_hold_range(struct gm *gm, uint64_t gpa, uint64_t size, struct gm_hold *ret_hold)
{
	struct gm_hold hold;

	pthread_rwlock_rdlock(&gm->lock);
	hold.first = hold.last = gm_find_locked(gm, gpa);
	while (size) {
		struct gm_region *r;
		uint64_t offset, part;
		bool ok = true;

		if (hold.last == gm->nregions || !range_has(gm->regions[hold.last]->gpa, gpa))
			goto fault;
		r = gm->regions[hold.last];
		offset = gpa - r->gpa.start;
		part = num_min(size, r->gpa.size - offset);
		if (r->is_device) {
			uint64_t block = offset / r->block_size;
			uint64_t end = (offset + part - 1) / r->block_size + 1;

			pthread_rwlock_rdlock(&r->lock);
			ok = bitmap_all_set(r->granted, block, end - block);
		}
		hold.last++;
		if (!ok)
			goto fault;
		gpa += part;
		size -= part;
	}
	*ret_hold = hold;
	return 0;
fault:
	gm_drop(gm, hold);
	return -EFAULT;
}

static int gm_access_pieces(struct gm *gm, uint64_t gpa, uint64_t size, bool write,
			    int (*fn)(void *opaque, void *host, size_t size), void *opaque)
{
	struct gm_hold hold;
	int ret;

	if (!size)
		return 0;
	ret = gm_hold_range(gm, gpa, size, &hold);
	if (ret)
		return ret;
	for (size_t i = hold.first; i < hold.last && !ret; i++) {
		struct gm_region *r = gm->regions[i];
		uint64_t offset = gpa - r->gpa.start;
		uint64_t part = num_min(size, r->gpa.size - offset);

		ret = fault_catch(fn, opaque, r->host + offset, (size_t)part);
		/* Whatever it returned: it may have written. */
		if (write)
			gm_dirty_mark_region_locked(r, offset, part);
		gpa += part;
		size -= part;
	}
	gm_drop(gm, hold);
	return ret;
}

int gm_access(struct gm *gm, uint64_t gpa, uint64_t size,
	      int (*fn)(void *opaque, void *host, size_t size), void *opaque)
{
	return gm_access_pieces(gm, gpa, size, true, fn, opaque);
}

int gm_access_read(struct gm *gm, uint64_t gpa, uint64_t size,
		   int (*fn)(void *opaque, void *host, size_t size), void *opaque)
{
	return gm_access_pieces(gm, gpa, size, false, fn, opaque);
}

bool gm_valid(struct gm *gm, uint64_t gpa, uint64_t size)
{
	struct gm_hold hold;

	if (!size || gm_hold_range(gm, gpa, size, &hold))
		return !size;
	gm_drop(gm, hold);
	return true;
}

/* Copies of 2, 4 and 8 aligned bytes are one access each (I4); both pointers share alignment. */
static void gm_copy(void *to, const void *from, const void *guest, size_t size)
{
	if (size == 8 && num_is_aligned((uintptr_t)guest, 8)) {
		uint64_t v;

		if (guest == from) {
			v = __atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED);
			memcpy(to, &v, 8);
		} else {
			memcpy(&v, from, 8);
			__atomic_store_n((uint64_t *)to, v, __ATOMIC_RELAXED);
		}
	} else if (size == 4 && num_is_aligned((uintptr_t)guest, 4)) {
		uint32_t v;

		if (guest == from) {
			v = __atomic_load_n((const uint32_t *)from, __ATOMIC_RELAXED);
			memcpy(to, &v, 4);
		} else {
			memcpy(&v, from, 4);
			__atomic_store_n((uint32_t *)to, v, __ATOMIC_RELAXED);
		}
	} else if (size == 2 && num_is_aligned((uintptr_t)guest, 2)) {
		uint16_t v;

		if (guest == from) {
			v = __atomic_load_n((const uint16_t *)from, __ATOMIC_RELAXED);
			memcpy(to, &v, 2);
		} else {
			memcpy(&v, from, 2);
			__atomic_store_n((uint16_t *)to, v, __ATOMIC_RELAXED);
		}
	} else {
		memcpy(to, from, size);
	}
}

static int gm_read_piece(void *opaque, void *host, size_t size)
{
	char **buf = opaque;

	gm_copy(*buf, host, host, size);
	*buf += size;
	return 0;
}

int gm_read(struct gm *gm, uint64_t gpa, void *buf, size_t size)
{
	char *to = buf;

	return gm_access_pieces(gm, gpa, size, false, gm_read_piece, &to);
}

static int gm_write_piece(void *opaque, void *host, size_t size)
{
	const char **buf = opaque;

	gm_copy(host, *buf, host, size);
	*buf += size;
	return 0;
}

int gm_write(struct gm *gm, uint64_t gpa, const void *buf, size_t size)
{
	const char *from = buf;

	return gm_access(gm, gpa, size, gm_write_piece, &from);
}

static int gm_fill_piece(void *opaque, void *host, size_t size)
{
	memset(host, *(uint8_t *)opaque, size);
	return 0;
}

int gm_fill(struct gm *gm, uint64_t gpa, uint8_t byte, size_t size)
{
	return gm_access(gm, gpa, size, gm_fill_piece, &byte);
}

static int gm_load_piece(void *opaque, void *host, size_t size)
{
	uint64_t *ret_value = opaque;

	if (size == 2)
		*ret_value = le16toh(__atomic_load_n((uint16_t *)host, __ATOMIC_ACQUIRE));
	else if (size == 4)
		*ret_value = le32toh(__atomic_load_n((uint32_t *)host, __ATOMIC_ACQUIRE));
	else
		*ret_value = le64toh(__atomic_load_n((uint64_t *)host, __ATOMIC_ACQUIRE));
	return 0;
}

static bool gm_atomic_ok(uint64_t gpa, unsigned int size)
{
	return (size == 2 || size == 4 || size == 8) && num_is_aligned(gpa, size);
}

int gm_load_acquire(struct gm *gm, uint64_t gpa, unsigned int size, uint64_t *ret_value)
{
	uint64_t value = 0;
	int ret;

	if (!gm_atomic_ok(gpa, size))
		return -EFAULT;
	ret = gm_access_pieces(gm, gpa, size, false, gm_load_piece, &value);
	if (!ret)
		*ret_value = value;
	return ret;
}

static int gm_store_piece(void *opaque, void *host, size_t size)
{
	uint64_t value = *(uint64_t *)opaque;

	if (size == 2)
		__atomic_store_n((uint16_t *)host, htole16((uint16_t)value), __ATOMIC_RELEASE);
	else if (size == 4)
		__atomic_store_n((uint32_t *)host, htole32((uint32_t)value), __ATOMIC_RELEASE);
	else
		__atomic_store_n((uint64_t *)host, htole64(value), __ATOMIC_RELEASE);
	return 0;
}

int gm_store_release(struct gm *gm, uint64_t gpa, unsigned int size, uint64_t value)
{
	if (!gm_atomic_ok(gpa, size))
		return -EFAULT;
	return gm_access(gm, gpa, size, gm_store_piece, &value);
}
