/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Written pages in rings, one for each vCPU (KVM_CAP_DIRTY_LOG_RING): see kvm.h for the contract.
 *
 * The kernel fills entries in and sets their flag; here they are read and given back, and a ring's
 * pages are protected again all at once. What it costs goes by the pages that were written, not by the size of memory, and
 * a vCPU that writes faster than anybody reads waits for its own thread to read.
 *
 * I1  An entry is read after its flag was seen, and given back after it was read; its page is marked
 *     after it was protected again (kvm_dirty.c, I2).
 * I2  A slot that goes leaves no entry behind: the rings are emptied before, with the gate shut
 *     (kvm_dirty.c, I3), so an entry's slot number means what it meant when the entry was made.
 * I3  All is done with the machine's lock held: one reader at a time.
 * I4  A vCPU leaves KVM_RUN some entries before its ring is full. One that is full to the last entry
 *     shows a kernel that went over it, and then marks are lost: from then on a sync fails, and
 *     a vCPU that cannot go on says so.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/kvm/kvm_internal.h"

/* Not in the headers of Linux before 6.1 and 6.4. */
#ifndef KVM_CAP_DIRTY_LOG_RING_ACQ_REL
#define KVM_CAP_DIRTY_LOG_RING_ACQ_REL 223
#endif
#ifndef KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP
#define KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP 225
#endif

#define RING_SLOT_MASK 0xFFFFu /* of an entry's slot; above it the address space, always 0 here */

static size_t kvm_ring_bytes(uint32_t nr_entries)
{
	return nr_entries * sizeof(struct kvm_dirty_gfn);
}

int kvm_dirty_ring_enable(struct kvm_vm *kvm, uint32_t nr_entries, struct err **err)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
				     .args = {kvm_ring_bytes(nr_entries)}};
	struct kvm_enable_cap bitmap = {.cap = KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP};
	int room = kvm_vm_capability(kvm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
	struct kvm_dirty_gfn *taken;
	int ret;

	if (room <= 0) {
		cap.cap = KVM_CAP_DIRTY_LOG_RING;
		room = kvm_vm_capability(kvm, KVM_CAP_DIRTY_LOG_RING);
	}
	if (room <= 0)
		return err_set(
			err, ENOTSUP,
			"-accel: dirty-ring-size=%u needs a kernel whose KVM has dirty rings",
			nr_entries);
	if (cap.args[0] > (uint64_t)room)
		return err_set(
			err, EINVAL,
			"-accel: dirty-ring-size=%u is more than this kernel's KVM takes: %zu",
			nr_entries, (size_t)room / sizeof(struct kvm_dirty_gfn));
	taken = calloc(nr_entries, sizeof(*taken));
	if (!taken)
		return err_set(err, ENOMEM, "out of memory");
	if (ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &cap) < 0) {
		ret = err_set(err, errno,
			      "-accel: dirty-ring-size=%u is refused by this kernel's KVM: %s",
			      nr_entries, strerror(errno));
		free(taken);
		return ret;
	}
	kvm->dirty.taken = taken;
	kvm->dirty.ring_entries = nr_entries;
	/* For what is written by no vCPU, where the kernel has such writes. */
	kvm->dirty.bitmaps = kvm_vm_capability(kvm, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP) > 0 &&
			     ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &bitmap) == 0;
	return 0;
}

int kvm_ring_open(struct kvm_vm *kvm, struct kvm_ring *ring, int vcpu_fd)
{
	void *entries;

	if (!kvm->dirty.ring_entries)
		return 0;
	entries =
		mmap(NULL, kvm_ring_bytes(kvm->dirty.ring_entries), PROT_READ | PROT_WRITE,
		     MAP_SHARED, vcpu_fd, KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)sysconf(_SC_PAGESIZE));
	if (entries == MAP_FAILED)
		return -errno;
	ring->entries = entries;
	pthread_mutex_lock(&kvm->lock);
	ring->link = kvm->dirty.rings;
	kvm->dirty.rings = ring;
	pthread_mutex_unlock(&kvm->lock);
	return 0;
}

void kvm_ring_close(struct kvm_vm *kvm, struct kvm_ring *ring)
{
	struct kvm_ring **link;

	if (!ring->entries)
		return;
	pthread_mutex_lock(&kvm->lock);
	for (link = &kvm->dirty.rings; *link != ring; link = &(*link)->link)
		;
	*link = ring->link;
	pthread_mutex_unlock(&kvm->lock);
	munmap(ring->entries, kvm_ring_bytes(kvm->dirty.ring_entries));
	ring->entries = NULL;
}

static void kvm_ring_mark(struct kvm_vm *kvm, uint32_t slot, uint64_t page)
{
	const struct kvm_slot *s = &kvm->slots[slot & RING_SLOT_MASK];

	if (kvm->dirty.gm && slot < bitmap_size(kvm->slots_used) &&
	    bitmap_test(kvm->slots_used, slot) && page < s->gpa.size / GM_DIRTY_PAGE)
		gm_dirty_mark(kvm->dirty.gm, s->gpa.start + page * GM_DIRTY_PAGE, GM_DIRTY_PAGE);
}

/*
 * Read what is in a ring, not more than a whole turn, since its vCPU may be filling it again: the
 * number of entries, which are in the machine's buffer.
 */
static uint32_t kvm_ring_read(struct kvm_vm *kvm, struct kvm_ring *ring)
{
	uint32_t n;

	for (n = 0; n < kvm->dirty.ring_entries; n++) {
		struct kvm_dirty_gfn *e = &ring->entries[ring->next % kvm->dirty.ring_entries];

		if (!(__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		kvm->dirty.taken[n] = *e;
		__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		ring->next++;
	}
	if (n == kvm->dirty.ring_entries)
		kvm->dirty.lost = true;
	return n;
}

int kvm_rings_collect(struct kvm_vm *kvm)
{
	int ret = 0;

	for (struct kvm_ring *ring = kvm->dirty.rings; ring; ring = ring->link) {
		uint32_t nr = kvm_ring_read(kvm, ring);

		if (nr && ioctl(kvm->vm_fd, KVM_RESET_DIRTY_RINGS, 0) < 0)
			ret = -errno;
		for (uint32_t i = 0; i < nr; i++)
			kvm_ring_mark(kvm, kvm->dirty.taken[i].slot, kvm->dirty.taken[i].offset);
	}
	return kvm->dirty.lost ? -ENOBUFS : ret;
}

bool kvm_ring_full(struct kvm_vm *kvm)
{
	bool lost;

	pthread_mutex_lock(&kvm->lock);
	kvm_rings_collect(kvm);
	lost = kvm->dirty.lost;
	pthread_mutex_unlock(&kvm->lock);
	return !lost;
}
