/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of vmm/kvm/ share; nobody else includes this. */
#ifndef VMM_KVM_KVM_INTERNAL_H
#define VMM_KVM_KVM_INTERNAL_H

#include <pthread.h>

#include "vmm/kvm/kvm.h"

struct bitmap;

struct kvm_vm {
	struct hv hv;
	int dev_fd, vm_fd; /* immutable */
	size_t run_size;   /* immutable */
	pthread_mutex_t lock;
	struct bitmap *slots; /* guarded by lock: slot numbers in use */
	/* guarded by lock: the message part of the routing table; index + KVM_WIRED_GSIS is the GSI */
	struct kvm_route *routes;
	unsigned int nroutes;
	/* the main thread's */
	uint64_t clock;
	bool clock_stopped;
};

struct kvm_route {
	bool used;  /* belongs to a struct hv_msi */
	bool valid; /* address and data were set: in the kernel's table */
	bool wired; /* its eventfd is attached (KVM_IRQFD) */
	uint64_t address;
	uint32_t data;
};

extern const struct hv_ops kvm_hv_ops;

/* Room for the wired inputs in the routing table: each goes to two controllers at most. */
#define KVM_WIRED_ROUTES_MAX (2 * KVM_WIRED_GSIS)

/* Hand the whole routing table to the kernel (kvm.h, I1). The lock is held, or the VM is new. */
int kvm_routes_commit(struct kvm_vm *kvm);

#endif
