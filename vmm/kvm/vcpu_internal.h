/* SPDX-License-Identifier: BSD-3-Clause */
/* What vcpu.c (threads, pausing) and vcpu_exit.c (what a vCPU left the guest for) share. */
#ifndef VMM_KVM_VCPU_INTERNAL_H
#define VMM_KVM_VCPU_INTERNAL_H

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "vmm/kvm/gate.h"
#include "vmm/kvm/kvm_internal.h"
#include "vmm/kvm/vcpu.h"

struct vcpu {
	struct vcpus *vcpus;
	unsigned int index;
	int fd;
	int stats_fd; /* kvm_stats.h; -1: none */
	struct kvm_run *run;
	struct kvm_ring ring;
	struct vcpu_state *power_on;
	/* the identity; the CPUID is another one after a load */
	uint32_t apic_id;
	struct kvm_cpuid_entry2 *cpuid;
	size_t nr_cpuid;
	struct kvm_msr_entry *msrs;
	size_t nr_msrs;
	pthread_t thread; /* the main thread's */
	bool started;     /* the main thread's */
	bool halted;      /* guarded by vcpus->lock: stopped by itself (I3), or held */
	pid_t tid;        /* guarded by vcpus->lock */
	/* the vCPU's own thread's */
	pthread_t self; /* also the gate's kick's, which comes while it is a member only */
	struct gate_member member;
	/* how it rests (vcpu_throttle.c); in nanoseconds of the monotonic clock */
	timer_t timer; /* ends a turn; valid with has_timer */
	bool has_timer;
	uint64_t turn_begin_ns;
	uint64_t turn_end_ns;   /* 0: it is not throttled */
	uint64_t rest_end_ns;   /* 0: it does not rest */
	uint64_t fault_gva;     /* the instruction that faulted last */
	unsigned int nr_faults; /* of it in a row, with no access to a bus between */
};

struct vcpus {
	struct vcpus_config config;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool paused, stopped, quit; /* guarded by lock */
	unsigned int throttle;      /* guarded by lock: per cent of the time that vCPUs rest */
	unsigned int nparked;       /* guarded by lock */
	unsigned int nstarted;
	/* the loading thread's: how far the time stamp counters' offsets are from where they were */
	bool has_tsc_shift;
	uint64_t tsc_shift;
	struct vcpu vcpu[];
};

/* ---- vcpu.c ---- */

/* The vCPU will not enter the guest again before the next resume. */
void vcpu_halt(struct vcpu *v);

/* Make all that run leave the guest and look whether they may go on. The lock is held. */
void vcpus_kick(struct vcpus *vcpus);
/* Interrupts KVM_RUN; one that a vCPU's timer sent makes the next KVM_RUN return as well. */
#define VCPU_KICK_SIGNAL SIGUSR1

/* ---- vcpu_throttle.c: on the vCPU's thread ---- */

/*
 * The vCPU may run but for its rest. True: it rested, and the lock was dropped meanwhile. False: it
 * shall run now. The lock is held.
 */
bool vcpu_rest(struct vcpu *v);
/* The thread ends. */
void vcpu_rest_done(struct vcpu *v);

/* ---- vcpu_x86.c ---- */

/* One MSR by @request, KVM_GET_MSRS or KVM_SET_MSRS; false when the kernel refuses it. */
bool vcpu_msr_io(int vcpu_fd, unsigned long request, struct kvm_msr_entry *entry);
/* How the kernel tells the floating-point state, and in how many bytes. */
size_t vcpu_xsave_size(const struct kvm_vm *kvm, unsigned long *ret_request);

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
