/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of vmm/kvm/ share; nobody else includes this. */
#ifndef VMM_KVM_KVM_INTERNAL_H
#define VMM_KVM_KVM_INTERNAL_H

#include <pthread.h>

#include "vmm/kvm/kvm.h"

struct bitmap;
struct gate;

/* x86: the pair of 8259s and the I/O APIC. */
#define KVM_IRQCHIPS 3

/* What the kernel was told of a memory slot. */
struct kvm_slot {
	struct range gpa;
	void *host;
	uint32_t flags;
};

/* A vCPU's ring of written pages; all zeros: it has none. */
struct kvm_ring {
	struct kvm_dirty_gfn *entries;
	uint32_t next;         /* guarded by the machine's lock: the entry that is filled in next */
	struct kvm_ring *link; /* guarded by the machine's lock */
};

/* How written pages are noted; guarded by the machine's lock but for what is immutable. */
struct kvm_dirty {
	struct gm *gm;   /* NULL: nothing is noted */
	bool manual;     /* a slot's pages are protected again by KVM_CLEAR_DIRTY_LOG */
	uint64_t *words; /* room for the marks of any slot */
	size_t nr_words;
	uint32_t ring_entries; /* immutable once a vCPU exists; 0: bitmaps only */
	bool bitmaps;          /* the same: bitmaps are there */
	struct kvm_ring *rings;
	struct kvm_dirty_gfn *taken; /* room for what is in one ring */
	bool lost;                   /* the kernel wrote over entries that nobody had read */
};

struct kvm_vm {
	struct hv hv;
	int dev_fd, vm_fd; /* immutable */
	size_t run_size;   /* immutable */
	struct gate *gate; /* immutable; the vCPUs' threads are its members */
	/* immutable: a thread's own struct vcpu, if it has one */
	pthread_key_t vcpu_key;
	bool has_vcpu_key;
	pthread_mutex_t lock;
	struct bitmap *slots_used; /* guarded by lock: slot numbers in use */
	struct kvm_slot *slots;    /* guarded by lock; by number, valid where in use */
	/* guarded by lock: the message part of the routing table; index + KVM_WIRED_GSIS is the GSI */
	struct kvm_route *routes;
	unsigned int nroutes;
	struct kvm_dirty dirty;
	/* immutable: the interrupt controllers, at first */
	struct kvm_irqchip power_on[KVM_IRQCHIPS];
	/* the main thread's */
	uint64_t clock;
	bool clock_stopped;
};

struct kvm_route {
	bool used;  /* belongs to a struct hv_msi */
	bool valid; /* address and data were set: in the kernel's table */
	bool wired; /* its eventfd is attached (KVM_IRQFD) */
	int fd;     /* that one */
	uint64_t address;
	uint32_t data;
};

extern const struct hv_ops kvm_hv_ops;

static inline struct kvm_vm *kvm_of(struct hv *hv)
{
	return container_of(hv, struct kvm_vm, hv);
}

/* kvm_slots.c, which has the ops of struct hv that are about memory slots */
int kvm_slots_init(struct kvm_vm *kvm);
void kvm_slots_done(struct kvm_vm *kvm);
int kvm_slot_add(struct hv *hv, struct range gpa, void *host, bool readonly, uint32_t *ret_slot);
int kvm_slot_remove(struct hv *hv, uint32_t slot);
int kvm_slots_replace(struct hv *hv, const uint32_t *old_slots, size_t nr_old,
		      struct hv_slot *fresh, size_t nr_fresh);

/* kvm_dirty.c; the lock is held but for done */
void kvm_dirty_done(struct kvm_vm *kvm);
/* The flag that a writable slot has while written pages are noted; make room for its marks. */
int kvm_dirty_slot_flags(struct kvm_vm *kvm, const struct kvm_slot *slot, uint32_t *ret_flags);
/* A slot will go, the gate is shut if it is noted: take its marks. */
void kvm_dirty_slot_goes(struct kvm_vm *kvm, uint32_t slot);

/* kvm_ring.c; vcpu_fd's ring, or none where there are none; the lock is not held */
int kvm_ring_open(struct kvm_vm *kvm, struct kvm_ring *ring, int vcpu_fd);
void kvm_ring_close(struct kvm_vm *kvm, struct kvm_ring *ring);
/* A vCPU cannot go on before its ring is emptied: false when that does not help. The same. */
bool kvm_ring_full(struct kvm_vm *kvm);
/*
 * Take what is in the rings, and have the pages noticed again. The lock is held. 0 or -errno, and
 * then they are noticed later.
 */
int kvm_rings_collect(struct kvm_vm *kvm);

/* kvm_state_x86.c */
int kvm_irqchips_get(const struct kvm_vm *kvm, struct kvm_irqchip chips[KVM_IRQCHIPS],
		     struct err **err);
/* @what state: "reset". After a failure some are set. */
int kvm_irqchips_set(const struct kvm_vm *kvm, const struct kvm_irqchip chips[KVM_IRQCHIPS],
		     const char *what, struct err **err);

/*
 * Tell the kernel of a slot: a new one under a number that is free, or the same again for its flags,
 * which get the one that kvm_dirty_slot_flags() says. The lock is held.
 */
int kvm_slot_set(struct kvm_vm *kvm, uint32_t slot, const struct kvm_slot *set);

/* vcpu.c, the ops of struct hv that are about the calling thread's vCPU */
int vcpu_current(struct hv *hv);
void vcpu_hold(struct hv *hv);

/* Room for the wired inputs in the routing table: each goes to two controllers at most. */
#define KVM_WIRED_ROUTES_MAX (2 * KVM_WIRED_GSIS)

/* Hand the whole routing table to the kernel (kvm.h, I1). The lock is held, or the VM is new. */
int kvm_routes_commit(struct kvm_vm *kvm);

/* kvm.c: /dev/kvm, open; or -errno and *err. */
int kvm_open(struct err **err);

#endif
