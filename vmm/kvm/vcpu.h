/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtual CPUs of one KVM machine: a thread each, run and paused together.
 *
 * I1  After vcpus_pause() no vCPU executes guest code or is inside a device's handler, and every
 *     access that caused an exit is complete; registers may be read and written.
 * I2  vCPUs start paused, in their power-on state; vcpus_reset() brings that state back exactly,
 *     but for the time stamp counter, which goes on.
 * I3  A vCPU that cannot go on (KVM reports an error) stops by itself, says so once, and tries
 *     again only after the next vcpus_resume(). So does one whose instruction fails to reach its
 *     memory again and again, though something was done about it each time (memory_fault).
 * I4  A vCPU is inside KVM_RUN only while the gate of the machine is open to it (gate.h), and holds
 *     no lock there. Pausing does not wait for sections to come, nor they for parked vCPUs.
 * I5  A throttled vCPU rests outside of the gate; whoever pauses, kicks or shuts the gate never
 *     waits for the end of a rest.
 *
 * A vCPU that needs memory whose content comes later (guard/missing.h) waits for it in the kernel:
 *   - since Linux 6.2 a kick makes it leave KVM_RUN, so it is paused without the page;
 *   - before, it leaves where KVM can have the page fetched behind its back (asynchronous page
 *     faults, which is the rule); where KVM cannot, only the page ends the wait, and so does an
 *     access that KVM makes for the guest's instruction by itself, on every kernel.
 * vcpus_pause() may therefore wait for pages: whoever brings them may not wait for whoever pauses.
 *
 * Threads: everything from the main thread but where said otherwise. The ops are called on vCPU
 * threads with no lock held; they may not wait for the main thread, which may be waiting for that
 * vCPU.
 * The guest controls: when and with what it leaves KVM; port and MMIO accesses go to the buses.
 */
#ifndef VMM_KVM_VCPU_H
#define VMM_KVM_VCPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/kvm.h>

struct bus;
struct err;
struct kvm_vm;
struct pack;
struct unpack;
struct vcpus;

struct vcpu_ops {
	/* The guest made the CPU shut down (a triple fault): a PC resets then. */
	void (*shutdown)(void *opaque, unsigned int index);
	/* @why: a sentence without a full stop; valid during the call only. */
	void (*failed)(void *opaque, unsigned int index, const char *why);
	/*
	 * The kernel could not reach the memory behind a guest address for this vCPU (KVM_RUN failed
	 * with EFAULT): it is closed. @gpa is UINT64_MAX where the kernel does not tell it. True:
	 * the instruction shall be tried again, something was done about it. False with a sentence
	 * in @why: the vCPU fails with it. Also asked, without address, when KVM's interpreter gives
	 * an instruction up, since that may be the reason; the vCPU's sentence is another then. May be
	 * NULL: such a vCPU fails.
	 */
	bool (*memory_fault)(void *opaque, unsigned int index, uint64_t gpa, uint64_t size,
			     char *why, size_t why_size);
};

struct vcpus_config {
	struct kvm_vm *kvm;
	struct bus *mmio, *pio;
	const struct vcpu_ops *ops;
	void *opaque;
	unsigned int count;
};

/* What one vCPU is; copied. */
struct vcpu_identity {
	uint32_t apic_id; /* also KVM's id of it */
	const struct kvm_cpuid_entry2 *cpuid;
	size_t nr_cpuid;
	const struct kvm_msr_entry *msrs; /* set after power-on and each reset */
	size_t nr_msrs;
};

struct vcpus *vcpus_new(const struct vcpus_config *config, struct err **err);
/* Create vCPU @index, once for each index below count, ascending; index 0 boots. */
int vcpus_create(struct vcpus *vcpus, unsigned int index, const struct vcpu_identity *identity,
		 struct err **err);
/* Start the threads, paused. */
int vcpus_start(struct vcpus *vcpus, struct err **err);
/* Ends the threads. NULL is allowed. */
void vcpus_free(struct vcpus *vcpus);

void vcpus_pause(struct vcpus *vcpus);
/* Waits for @ms at most. False: the others park as soon as they can; ask again, or resume. */
bool vcpus_pause_within(struct vcpus *vcpus, unsigned int ms);
void vcpus_resume(struct vcpus *vcpus);
/*
 * For good, from any thread: when it returns no vCPU begins another instruction of the guest any more.
 * Does not wait: one that is at an instruction comes to its end, whatever that gives.
 */
void vcpus_stop(struct vcpus *vcpus);

/*
 * Paused (or not started): power-on state for all, then @boot fills in how the first one starts.
 */
int vcpus_reset(struct vcpus *vcpus,
		void (*boot)(void *opaque, struct kvm_regs *regs, struct kvm_sregs *sregs),
		void *opaque, struct err **err);

/* Paused: a non-maskable interrupt for each. 0 or -errno, when some may have got it. */
int vcpus_inject_nmi(struct vcpus *vcpus);

/*
 * Have each vCPU rest @percent (0 to 99) of the time, in short turns, from now on. From any thread.
 */
void vcpus_throttle(struct vcpus *vcpus, unsigned int percent);

/*
 * Saved state of one vCPU: all that its instructions and those of the next vCPU can tell, and what
 * CPUID says to it. vcpu_state_x86.c says what is in it and in which order it goes back.
 *
 * Save: paused; kvm_vm_settle() came before the first. Changes nothing that the guest could see, so
 * that it can go on here as well.
 *
 * Load: on a machine that never ran, all vCPUs created, index after index from 0 on, before wired
 * devices and the interrupt controllers are loaded (kvm.h). -EINVAL with a sentence for content that
 * cannot be, and for what this host cannot do: a CPU feature, a register, a speed of the time stamp
 * counter. Afterwards the vCPU is as it was, or the machine is not to be used. A later reset
 * gives the power-on state for the CPUID that was loaded.
 *
 * Loading has KVM look at guest memory here and there (the page of the guest's clock), which may
 * be a page whose content comes later: the thread that brings it must be another one.
 */
#define VCPU_STATE_VERSION 1u
int vcpus_save(struct vcpus *vcpus, unsigned int index, struct pack *out, struct err **err);
int vcpus_load(struct vcpus *vcpus, unsigned int index, uint32_t version, struct unpack *in,
	       struct err **err);

/* What somebody who looks at a guest from outside finds in a vCPU. */
struct vcpu_registers {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint64_t kernel_gs_base; /* what SWAPGS would give */
};

/* Paused; changes nothing. 0 or -errno. */
int vcpus_registers(struct vcpus *vcpus, unsigned int index, struct vcpu_registers *ret_registers,
		    struct err **err);

unsigned int vcpus_count(const struct vcpus *vcpus);
/* What it is told of itself; the vcpus' own, until vcpus_load(). */
const struct kvm_cpuid_entry2 *vcpus_cpuid(const struct vcpus *vcpus, unsigned int index,
					   size_t *ret_nr);
/* What KVM counts of it (kvm_stats.h); the vcpus' own. -1: the kernel does not tell. */
int vcpus_stats_fd(const struct vcpus *vcpus, unsigned int index);
/* The host's thread id of a started vCPU. */
pid_t vcpus_thread_id(const struct vcpus *vcpus, unsigned int index);

/* ---- the architecture's part, vcpu_x86.c ---- */

struct vcpu_state;

/* Read the power-on state of a fresh vCPU; NULL and *err on failure. */
struct vcpu_state *vcpu_state_save(struct kvm_vm *kvm, int vcpu_fd, struct err **err);
int vcpu_state_restore(const struct vcpu_state *state, int vcpu_fd, struct err **err);
void vcpu_state_free(struct vcpu_state *state);
int vcpu_cpuid_set(int vcpu_fd, const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		   struct err **err);
/* Set each MSR, leaving out those that the kernel refuses. */
void vcpu_msrs_set(int vcpu_fd, const struct kvm_msr_entry *msrs, size_t nr_msrs);
/*
 * KVM's interpreter gave an instruction up and made an exception of it: let the vCPU do the
 * instruction again instead. 0 or -errno.
 */
int vcpu_instruction_retry(int vcpu_fd);
/* The address of the instruction at which the vCPU stands, for messages. */
uint64_t vcpu_instruction_gva(int vcpu_fd);

#endif
