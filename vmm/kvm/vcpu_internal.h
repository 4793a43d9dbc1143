/* SPDX-License-Identifier: BSD-3-Clause */
/* What vcpu.c (threads, pausing) and vcpu_exit.c (what a vCPU left the guest for) share. */
#ifndef VMM_KVM_VCPU_INTERNAL_H
#define VMM_KVM_VCPU_INTERNAL_H

#include <pthread.h>

#include "vmm/kvm/gate.h"
#include "vmm/kvm/kvm_internal.h"
#include "vmm/kvm/vcpu.h"

struct vcpu {
	struct vcpus *vcpus;
	unsigned int index;
	int fd;
	int stats_fd; /* kvm_stats.h; -1: none */
	struct kvm_run *run;
	struct vcpu_state *power_on;
	struct kvm_msr_entry *msrs;
	size_t nr_msrs;
	pthread_t thread; /* the main thread's */
	bool started;     /* the main thread's */
	bool halted;      /* guarded by vcpus->lock: stopped by itself (I3), or held */
	pid_t tid;        /* guarded by vcpus->lock */
	/* the vCPU's own thread's */
	pthread_t self; /* also the gate's kick's, which comes while it is a member only */
	struct gate_member member;
	uint64_t fault_gva;     /* the instruction that faulted last */
	unsigned int nr_faults; /* of it in a row, with no access to a bus between */
};

struct vcpus {
	struct vcpus_config config;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool paused, quit;    /* guarded by lock */
	unsigned int nparked; /* guarded by lock */
	unsigned int nstarted;
	struct vcpu vcpu[];
};

/* ---- vcpu.c ---- */

/* The vCPU will not enter the guest again before the next resume. */
void vcpu_halt(struct vcpu *v);

/* ---- vcpu_exit.c: on the vCPU's thread, outside the gate; false when the vCPU halted ---- */

/* KVM_RUN returned 0. */
bool vcpu_handle_exit(struct vcpu *v);
/* KVM_RUN failed with EFAULT. */
bool vcpu_handle_fault(struct vcpu *v);
/* KVM_RUN failed with EHWPOISON: the guest needs memory that the host lost. */
bool vcpu_fail_poisoned(struct vcpu *v);
/* KVM_RUN failed with another error, a positive one. */
bool vcpu_fail_run(struct vcpu *v, int code);

#endif
