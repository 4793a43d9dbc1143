/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory slots of a KVM machine: see hv.h for the contract, kvm.h for I2 and I3.
 *
 * The kernel changes one slot at a time, and a slot's place only by taking it away first. So what
 * shall look like one change is done while no vCPU can look.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/bitmap.h"
#include "vmm/kvm/gate.h"
#include "vmm/kvm/kvm_internal.h"

/* Every kernel that has KVM_CAP_USER_MEMORY takes as many. */
#define KVM_SLOTS_MIN 32

int kvm_slots_init(struct kvm_vm *kvm)
{
	int told = kvm_vm_capability(kvm, KVM_CAP_NR_MEMSLOTS);
	uint64_t count = told > 0 ? (uint64_t)told : KVM_SLOTS_MIN;

	kvm->slots_used = bitmap_new(count);
	kvm->slots = calloc(count, sizeof(*kvm->slots));
	return kvm->slots_used && kvm->slots ? 0 : -ENOMEM;
}

void kvm_slots_done(struct kvm_vm *kvm)
{
	bitmap_free(kvm->slots_used);
	free(kvm->slots);
}

int kvm_slot_set(struct kvm_vm *kvm, uint32_t slot, const struct kvm_slot *set)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = set->flags,
		.guest_phys_addr = set->gpa.start,
		.memory_size = set->gpa.size,
		.userspace_addr = (uintptr_t)set->host,
	};
	int ret = kvm_dirty_slot_flags(kvm, set, &region.flags);

	if (ret)
		return ret;
	if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	bitmap_set(kvm->slots_used, slot, 1);
	kvm->slots[slot] = *set;
	kvm->slots[slot].flags = region.flags;
	return 0;
}

/*
 * Take a slot from the kernel; what is noted of it stays readable. The lock is held, and the gate is
 * shut if its written pages are noted: a vCPU inside could write to it once more.
 */
static int kvm_slot_drop(struct kvm_vm *kvm, uint32_t slot)
{
	struct kvm_userspace_memory_region region = {.slot = slot};

	kvm_dirty_slot_goes(kvm, slot);
	if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	bitmap_clear(kvm->slots_used, slot, 1);
	return 0;
}

/* The first free number from @from on, or -ENOSPC. The lock is held. */
static int64_t kvm_slot_free_number(const struct kvm_vm *kvm, uint64_t from)
{
	uint64_t count = bitmap_size(kvm->slots_used);
	uint64_t slot = bitmap_next_clear(kvm->slots_used, from, count);

	return slot < count ? (int64_t)slot : -ENOSPC;
}

int kvm_slot_add(struct hv *hv, struct range gpa, void *host, bool readonly, uint32_t *ret_slot)
{
	const struct kvm_slot set = {gpa, host, readonly ? KVM_MEM_READONLY : 0};
	struct kvm_vm *kvm = kvm_of(hv);
	int64_t slot;
	int ret;

	pthread_mutex_lock(&kvm->lock);
	slot = kvm_slot_free_number(kvm, 0);
	ret = slot < 0 ? (int)slot : kvm_slot_set(kvm, (uint32_t)slot, &set);
	pthread_mutex_unlock(&kvm->lock);
	if (!ret)
		*ret_slot = (uint32_t)slot;
	return ret;
}

int kvm_slot_remove(struct hv *hv, uint32_t slot)
{
	struct kvm_vm *kvm = kvm_of(hv);
	int ret;

	pthread_mutex_lock(&kvm->lock);
	if (kvm->dirty.gm)
		gate_shut(kvm->gate);
	ret = kvm_slot_drop(kvm, slot);
	if (kvm->dirty.gm)
		gate_open(kvm->gate);
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}

/*
 * The change itself; @old is what the old slots were. On failure the old slots are there again, or,
 * with -ENOTRECOVERABLE, none of both. The lock is held, the gate shut, numbers are enough.
 */
static int kvm_slots_swap(struct kvm_vm *kvm, const uint32_t *old_slots, const struct kvm_slot *old,
			  size_t nr_old, struct hv_slot *fresh, size_t nr_fresh)
{
	size_t nr_gone = 0, nr_put = 0;
	int64_t slot = -1;
	int ret = 0;

	while (!ret && nr_gone < nr_old) {
		ret = kvm_slot_drop(kvm, old_slots[nr_gone]);
		if (!ret)
			nr_gone++;
	}
	while (!ret && nr_put < nr_fresh) {
		const struct kvm_slot set = {fresh[nr_put].gpa, fresh[nr_put].host, 0};

		slot = kvm_slot_free_number(kvm, (uint64_t)(slot + 1));
		ret = slot < 0 ? (int)slot : kvm_slot_set(kvm, (uint32_t)slot, &set);
		if (!ret)
			fresh[nr_put++].slot = (uint32_t)slot;
	}
	if (!ret)
		return 0;
	while (nr_put)
		kvm_slot_drop(kvm, fresh[--nr_put].slot);
	while (nr_gone && !kvm_slot_set(kvm, old_slots[nr_gone - 1], &old[nr_gone - 1]))
		nr_gone--;
	if (!nr_gone)
		return ret;
	for (size_t i = nr_gone; i < nr_old; i++)
		kvm_slot_drop(kvm, old_slots[i]);
	return -ENOTRECOVERABLE;
}

/* 0 when there are numbers enough, once those of the old slots are free. The lock is held. */
static int kvm_slots_check(const struct kvm_vm *kvm, const uint32_t *old_slots, size_t nr_old,
			   size_t nr_fresh)
{
	uint64_t count = bitmap_size(kvm->slots_used);

	for (size_t i = 0; i < nr_old; i++)
		if (old_slots[i] >= count || !bitmap_test(kvm->slots_used, old_slots[i]))
			return -EINVAL;
	if (nr_fresh > count - bitmap_count(kvm->slots_used, 0, count) + nr_old)
		return -ENOSPC;
	return 0;
}

int kvm_slots_replace(struct hv *hv, const uint32_t *old_slots, size_t nr_old,
		      struct hv_slot *fresh, size_t nr_fresh)
{
	struct kvm_slot *old = calloc(nr_old + 1, sizeof(*old));
	struct kvm_vm *kvm = kvm_of(hv);
	int ret;

	if (!old)
		return -ENOMEM;
	pthread_mutex_lock(&kvm->lock);
	ret = kvm_slots_check(kvm, old_slots, nr_old, nr_fresh);
	if (!ret) {
		for (size_t i = 0; i < nr_old; i++)
			old[i] = kvm->slots[old_slots[i]];
		gate_shut(kvm->gate);
		ret = kvm_slots_swap(kvm, old_slots, old, nr_old, fresh, nr_fresh);
		gate_open(kvm->gate);
	}
	pthread_mutex_unlock(&kvm->lock);
	free(old);
	return ret;
}
