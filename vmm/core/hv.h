/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What devices need from the hypervisor underneath: interrupts, doorbells, memory slots.
 *
 * vmm/kvm/ implements it with KVM; tests implement it with arrays. Devices, PCI and virtio know
 * nothing but this table, so that they run on any architecture and without a VM.
 *
 * Threads: every op from any thread.
 */
#ifndef VMM_HV_H
#define VMM_HV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct err;
struct hv;

/* One message-signalled interrupt: an eventfd wired to the irqchip (KVM_IRQFD). */
struct hv_msi {
	int fd;       /* writing 8 bytes delivers the message; -1 before msi_new() */
	uint32_t gsi; /* routing table entry; the hypervisor's own */
};

/* A range of host memory in the guest's physical address space. */
struct hv_slot {
	struct range gpa;
	void *host;
	uint32_t slot; /* the hypervisor's number; an output of slots_replace */
};

struct hv_ops {
	/* Drive a wired interrupt. Edge-triggered sources pulse: true, then false. */
	void (*line_set)(struct hv *hv, uint32_t gsi, bool level);

	/*
	 * msi_new makes a message source that delivers nothing until msi_route gave it an address
	 * and data; -EINVAL for an address that is no interrupt controller's, and the old message
	 * stays after any failure. msi_route(enable=false) says that the owner will not signal the
	 * source until it is routed again: a masked vector is kept pending by its owner, and a
	 * signal sent here meanwhile may be delivered or lost.
	 */
	int (*msi_new)(struct hv *hv, struct hv_msi *ret_msi);
	int (*msi_route)(struct hv *hv, struct hv_msi *msi, bool enable, uint64_t address,
			 uint32_t data);
	void (*msi_free)(struct hv *hv, struct hv_msi *msi);

	/* A write of @size bytes (0 = any size) at @gpa signals @fd instead of leaving the guest. */
	int (*doorbell_add)(struct hv *hv, uint64_t gpa, unsigned int size, int fd);
	int (*doorbell_remove)(struct hv *hv, uint64_t gpa, unsigned int size, int fd);

	/*
	 * Map host memory into the guest's physical address space. The slot number is chosen by the
	 * hypervisor. Adding is seen by the guest at once; after slot_remove() returns no vCPU can
	 * reach the memory.
	 */
	int (*slot_add)(struct hv *hv, struct range gpa, void *host, bool readonly,
			uint32_t *ret_slot);
	int (*slot_remove)(struct hv *hv, uint32_t slot);
	/*
	 * Replace slots by others, all writable, while no vCPU is inside the guest or completes an
	 * instruction: no vCPU ever sees a state between. vCPUs that are handling an exit are not
	 * waited for; they cannot go back into the guest meanwhile. So it may be called with a lock
	 * held that exit handlers take, and by an exit handler. Either all is done, or on failure
	 * the old slots are there again under their old numbers, or -ENOTRECOVERABLE: none of either
	 * is there. -ENOSPC when there are not slots enough.
	 */
	int (*slots_replace)(struct hv *hv, const uint32_t *old_slots, size_t nr_old,
			     struct hv_slot *fresh, size_t nr_fresh);

	/* The vCPU whose exit the calling thread is handling; -1 on any other thread. */
	int (*vcpu_current)(struct hv *hv);
	/*
	 * Keep the vCPU whose exit the calling thread is handling out of the guest, once it has
	 * completed this access, until all vCPUs are resumed. No-op on any other thread.
	 */
	void (*vcpu_hold)(struct hv *hv);
};

struct hv {
	const struct hv_ops *ops;
};

static inline void hv_line_set(struct hv *hv, uint32_t gsi, bool level)
{
	hv->ops->line_set(hv, gsi, level);
}

/* A write to hv_msi.fd; never blocks. */
void hv_msi_trigger(const struct hv_msi *msi);

#endif
