/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages that a guest has no use for become the host's: gm.h, I7 and the functions that follow
 * there.
 *
 * A discard holds the array's lock for reading, as an access does, so the region and its owner stay
 * while it lasts. It does not hold the lock of device memory: what is granted is known to the
 * owner, who serialises that with his own grants and revokes, and says no rather than to wait.
 */
#include <assert.h>
#include <errno.h>

#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/core/gm_state.h"

#define GM_DISCARD_PAGE_MIN 4096

static int gm_set_discard_locked(struct gm *gm, uint64_t gpa, const struct gm_discard *discard)
{
	size_t i = gm_find_locked(gm, gpa);
	struct gm_region *r;

	if (i == gm->nregions)
		return -ENOENT;
	r = gm->regions[i];
	if (discard &&
	    (!num_is_pow2(discard->page_bytes) || discard->page_bytes < GM_DISCARD_PAGE_MIN ||
	     !num_is_aligned((uintptr_t)r->host, discard->page_bytes)))
		return -EINVAL;
	r->discard = discard ? *discard : (struct gm_discard){0};
	return 0;
}

int gm_set_discard(struct gm *gm, uint64_t gpa, const struct gm_discard *discard)
{
	int ret;

	pthread_rwlock_wrlock(&gm->lock);
	ret = gm_set_discard_locked(gm, gpa, discard);
	pthread_rwlock_unlock(&gm->lock);
	return ret;
}

/* The first region that starts behind @gpa, which is in none; UINT64_MAX: there is none. */
static uint64_t gm_next_start_locked(const struct gm *gm, uint64_t gpa)
{
	for (size_t i = 0; i < gm->nregions; i++)
		if (gm->regions[i]->gpa.start > gpa)
			return gm->regions[i]->gpa.start;
	return UINT64_MAX;
}

void gm_discard_look(struct gm *gm, uint64_t gpa, uint64_t size, struct gm_discard_run *ret_run)
{
	size_t i;

	assert(size && gpa <= UINT64_MAX - size);
	pthread_rwlock_rdlock(&gm->lock);
	i = gm_find_locked(gm, gpa);
	if (i == gm->nregions) {
		*ret_run = (struct gm_discard_run){
			.size = num_min(size, gm_next_start_locked(gm, gpa) - gpa),
			.start = gpa,
		};
	} else {
		const struct gm_region *r = gm->regions[i];

		*ret_run = (struct gm_discard_run){
			.size = num_min(size, r->gpa.size - (gpa - r->gpa.start)),
			.start = r->gpa.start,
			.page_bytes = r->discard.fn ? r->discard.page_bytes : 0,
		};
	}
	pthread_rwlock_unlock(&gm->lock);
}

static int gm_discard_locked(struct gm *gm, uint64_t gpa, uint64_t size, uint64_t *ret_bytes)
{
	size_t i = gm_find_locked(gm, gpa);
	struct gm_region *r;
	uint64_t offset;
	int ret;

	if (i == gm->nregions)
		return -EFAULT;
	r = gm->regions[i];
	offset = gpa - r->gpa.start;
	if (!r->discard.fn || size > r->gpa.size - offset ||
	    !num_is_aligned(offset | size, r->discard.page_bytes))
		return -EFAULT;
	if (gm->discard_holds)
		return -EBUSY;
	if (!size)
		return 0;
	ret = r->discard.fn(r->discard.opaque, offset, size, ret_bytes);
	/* Whatever it returned: a part may be zeros now. */
	if (ret != -EAGAIN)
		gm_dirty_mark_region_locked(r, offset, size);
	return ret;
}

int gm_discard(struct gm *gm, uint64_t gpa, uint64_t size, uint64_t *ret_bytes)
{
	int ret;

	*ret_bytes = 0;
	pthread_rwlock_rdlock(&gm->lock);
	ret = gm_discard_locked(gm, gpa, size, ret_bytes);
	pthread_rwlock_unlock(&gm->lock);
	return ret;
}

void gm_discard_hold(struct gm *gm)
{
	gm->discard_holds++;
	/* Whoever did not see it has the lock. */
	pthread_rwlock_wrlock(&gm->lock);
	pthread_rwlock_unlock(&gm->lock);
}

void gm_discard_release(struct gm *gm)
{
	assert(gm->discard_holds);
	gm->discard_holds--;
}
