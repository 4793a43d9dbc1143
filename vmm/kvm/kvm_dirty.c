/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which pages the guest wrote: see kvm.h for the contract. Here with a bitmap for each slot; rings
 * are in kvm_ring.c.
 *
 * I1  A slot is noted (KVM_MEM_LOG_DIRTY_PAGES) exactly while written pages are and it is writable.
 * I2  Marks are taken from the kernel, and its pages protected again, before they are merged: what is
 *     written after that is a mark of the next round, and whoever sees the merged one and then
 *     reads the page has all that was written before.
 * I3  A slot goes only with the gate shut and after its marks were taken. Where the kernel does not
 *     tell them, all of the slot counts as written.
 * I4  There is room for the marks of each noted slot from the moment on that it is noted: nothing is
 *     allocated to take them.
 *
 * Where KVM has KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, taking and protecting are two calls, and only runs
 * with marks are protected, piece by piece: the kernel's lock, which vCPUs need for their own faults,
 * is never held for a whole slot. Slots begin clean (not KVM_DIRTY_LOG_INITIALLY_SET): memory that
 * the guest never touched, which is most of a large memory device, then costs nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/kvm/gate.h"
#include "vmm/kvm/kvm_internal.h"

#define PAGES_PER_WORD 64u
#define CLEAR_WORDS    1024u /* protected at a time: 256 MiB */

static uint64_t kvm_slot_pages(const struct kvm_slot *slot)
{
	return slot->gpa.size / GM_DIRTY_PAGE;
}

static size_t kvm_slot_words(const struct kvm_slot *slot)
{
	return (size_t)((kvm_slot_pages(slot) + PAGES_PER_WORD - 1) / PAGES_PER_WORD);
}

static int kvm_dirty_reserve(struct kvm_vm *kvm, size_t nr_words)
{
	uint64_t *words;

	if (nr_words <= kvm->dirty.nr_words)
		return 0;
	words = calloc(nr_words, sizeof(*words));
	if (!words)
		return -ENOMEM;
	free(kvm->dirty.words);
	kvm->dirty.words = words;
	kvm->dirty.nr_words = nr_words;
	return 0;
}

int kvm_dirty_slot_flags(struct kvm_vm *kvm, const struct kvm_slot *slot, uint32_t *ret_flags)
{
	bool noted = kvm->dirty.gm && !(slot->flags & KVM_MEM_READONLY);
	int ret = noted ? kvm_dirty_reserve(kvm, kvm_slot_words(slot)) : 0;

	if (ret)
		return ret;
	*ret_flags = slot->flags & ~(uint32_t)KVM_MEM_LOG_DIRTY_PAGES;
	if (noted)
		*ret_flags |= KVM_MEM_LOG_DIRTY_PAGES;
	return 0;
}

/* The run of words with marks from @from on: its first word, or @end; *ret_end is behind it. */
static size_t dirty_run(const uint64_t *words, size_t from, size_t end, size_t *ret_end)
{
	size_t first = from, last;

	while (first < end && !words[first])
		first++;
	last = first;
	while (last < end && words[last])
		last++;
	*ret_end = last;
	return first;
}

/* Protect the pages of words [first, end) again that have a mark. */
static int kvm_slot_protect(struct kvm_vm *kvm, uint32_t slot, size_t first, size_t end)
{
	uint64_t pages = kvm_slot_pages(&kvm->slots[slot]);
	int ret = 0;

	while (first < end) {
		size_t nr = end - first < CLEAR_WORDS ? end - first : CLEAR_WORDS;
		uint64_t page = (uint64_t)first * PAGES_PER_WORD;
		struct kvm_clear_dirty_log log = {
			.slot = slot,
			.num_pages = (uint32_t)num_min(nr * PAGES_PER_WORD, pages - page),
			.first_page = page,
			.dirty_bitmap = &kvm->dirty.words[first],
		};

		if (ioctl(kvm->vm_fd, KVM_CLEAR_DIRTY_LOG, &log) < 0)
			ret = -errno;
		first += nr;
	}
	return ret;
}

/*
 * Take the marks of a slot; without @protect the next write to its pages may go unnoticed. 0 or
 * -errno: then the kernel's marks are still there, all or some.
 */
static int kvm_slot_harvest(struct kvm_vm *kvm, uint32_t slot, bool protect)
{
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = kvm->dirty.words};
	size_t first, end, nr_words = kvm_slot_words(&kvm->slots[slot]);
	uint64_t gpa = kvm->slots[slot].gpa.start;
	int error, ret = 0;

	if (ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0)
		return -errno;
	for (first = 0; (first = dirty_run(kvm->dirty.words, first, nr_words, &end)) < nr_words;
	     first = end) {
		error = protect && kvm->dirty.manual ? kvm_slot_protect(kvm, slot, first, end) : 0;
		if (error)
			ret = error;
		gm_dirty_merge(kvm->dirty.gm, gpa + first * PAGES_PER_WORD * GM_DIRTY_PAGE,
			       &kvm->dirty.words[first], end - first);
	}
	return ret;
}

static bool kvm_slot_noted(const struct kvm_vm *kvm, uint32_t slot)
{
	return kvm->dirty.gm && bitmap_test(kvm->slots_used, slot) &&
	       kvm->slots[slot].flags & KVM_MEM_LOG_DIRTY_PAGES;
}

void kvm_dirty_slot_goes(struct kvm_vm *kvm, uint32_t slot)
{
	int ret = 0;

	if (!kvm_slot_noted(kvm, slot))
		return;
	if (kvm->dirty.ring_entries)
		kvm_rings_collect(kvm);
	if (kvm->dirty.bitmaps)
		ret = kvm_slot_harvest(kvm, slot, false);
	if (ret)
		gm_dirty_mark(kvm->dirty.gm, kvm->slots[slot].gpa.start, kvm->slots[slot].gpa.size);
}

/* Have the kernel note all slots, or none, as kvm->dirty.gm says; the first failure. */
static int kvm_slots_note(struct kvm_vm *kvm)
{
	uint64_t count = bitmap_size(kvm->slots_used), slot;
	int error, ret = 0;

	for (slot = bitmap_next_set(kvm->slots_used, 0, count); slot < count;
	     slot = bitmap_next_set(kvm->slots_used, slot + 1, count)) {
		const struct kvm_slot set = kvm->slots[slot];

		error = set.flags & KVM_MEM_READONLY ? 0 : kvm_slot_set(kvm, (uint32_t)slot, &set);
		ret = ret ? ret : error;
	}
	return ret;
}

/* The kernel keeps this for the machine's life; it changes nothing while nothing is noted. */
static void kvm_dirty_choose(struct kvm_vm *kvm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE},
	};

	if (!kvm->dirty.ring_entries)
		kvm->dirty.bitmaps = true;
	if (!kvm->dirty.manual && kvm->dirty.bitmaps &&
	    kvm_vm_capability(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
		    KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		kvm->dirty.manual = ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap) == 0;
}

static void kvm_dirty_end(struct kvm_vm *kvm)
{
	kvm->dirty.gm = NULL;
	kvm_slots_note(kvm);
	if (kvm->dirty.ring_entries)
		kvm_rings_collect(kvm);
	free(kvm->dirty.words);
	kvm->dirty.words = NULL;
	kvm->dirty.nr_words = 0;
}

void kvm_dirty_prepare(struct kvm_vm *kvm)
{
	pthread_mutex_lock(&kvm->lock);
	kvm_dirty_choose(kvm);
	pthread_mutex_unlock(&kvm->lock);
}

int kvm_dirty_start(struct kvm_vm *kvm, struct gm *gm, struct err **err)
{
	int ret;

	pthread_mutex_lock(&kvm->lock);
	kvm_dirty_choose(kvm);
	kvm->dirty.gm = gm;
	ret = kvm_slots_note(kvm);
	if (ret)
		kvm_dirty_end(kvm);
	pthread_mutex_unlock(&kvm->lock);
	if (ret)
		return err_set(err, -ret, "KVM cannot note which pages the guest writes: %s",
			       strerror(-ret));
	return 0;
}

/* Hardware may keep written pages to itself until its vCPU leaves the guest. */
static int kvm_dirty_sync_rings(struct kvm_vm *kvm)
{
	int ret;

	pthread_mutex_lock(&kvm->lock);
	gate_shut(kvm->gate);
	gate_open(kvm->gate);
	ret = kvm_rings_collect(kvm);
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}

static int kvm_dirty_sync_bitmaps(struct kvm_vm *kvm)
{
	uint64_t count = bitmap_size(kvm->slots_used), slot = 0;
	int error, ret = 0;

	/* The lock is there for others between two slots; one that goes meanwhile was harvested. */
	for (;;) {
		pthread_mutex_lock(&kvm->lock);
		slot = bitmap_next_set(kvm->slots_used, slot, count);
		error = slot < count && kvm_slot_noted(kvm, (uint32_t)slot)
				? kvm_slot_harvest(kvm, (uint32_t)slot, true)
				: 0;
		pthread_mutex_unlock(&kvm->lock);
		if (error)
			ret = error;
		if (slot++ >= count)
			return ret;
	}
}

int kvm_dirty_sync(struct kvm_vm *kvm)
{
	int ret = 0, error;

	if (kvm->dirty.ring_entries)
		ret = kvm_dirty_sync_rings(kvm);
	if (kvm->dirty.bitmaps) {
		error = kvm_dirty_sync_bitmaps(kvm);
		ret = ret ? ret : error;
	}
	return ret;
}

void kvm_dirty_stop(struct kvm_vm *kvm)
{
	pthread_mutex_lock(&kvm->lock);
	kvm_dirty_end(kvm);
	pthread_mutex_unlock(&kvm->lock);
}

void kvm_dirty_done(struct kvm_vm *kvm)
{
	free(kvm->dirty.words);
	free(kvm->dirty.taken);
}
