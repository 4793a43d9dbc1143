/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One virtual machine of Linux KVM (Documentation/virt/kvm/api.rst): the implementation of
 * struct hv, with the in-kernel interrupt controllers.
 *
 * I1  The GSI routing table in the kernel is always complete: the wired inputs 0..23 and every
 *     message that was ever routed; an update replaces the whole table at once.
 * I2  A memory slot number is in use by one range at a time; slots never overlap (the caller's duty,
 *     and the kernel's check). What is noted of a slot is what the kernel has.
 * I3  slots_replace() changes slots while the gate (gate.h) is shut: no vCPU is inside KVM_RUN. If
 *     the new slots are refused, and then the old ones too, none of both is there, but for those
 *     that the kernel refuses to take away as well: their numbers stay in use.
 *
 * Architecture-specific parts are in files named *_x86.c.
 * Threads: everything from any thread, under one lock of its own, which is taken before the gate's;
 * nobody waits for a vCPU's thread with it held but slots_replace() and, while written pages are
 * noted, slot_remove() and kvm_dirty_sync(), and they only for vCPUs that are inside KVM_RUN, where
 * no lock is held. ioctls that wait for vCPUs in the kernel (slot_remove) need no vCPU to stop.
 */
#ifndef VMM_KVM_KVM_H
#define VMM_KVM_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "vmm/core/hv.h"

struct err;
struct gm;
struct kvm_vm;
struct pack;
struct unpack;

/*
 * Opens /dev/kvm, checks that it has all that ebb needs, creates the VM and its interrupt
 * controllers. Errors are sentences that name the device file or the missing capability.
 */
struct kvm_vm *kvm_vm_new(struct err **err);
void kvm_vm_free(struct kvm_vm *kvm);

struct hv *kvm_vm_hv(struct kvm_vm *kvm);
int kvm_vm_fd(const struct kvm_vm *kvm);
/* Bytes of a vCPU's shared run structure. */
size_t kvm_vm_run_size(const struct kvm_vm *kvm);
/* 0 when the kernel does not know the capability, else its value (KVM_CHECK_EXTENSION). */
int kvm_vm_capability(const struct kvm_vm *kvm, int capability);

/* kvm_vm_capability() without a VM: opens /dev/kvm for the moment; 0 where that fails. */
int kvm_host_capability(int capability);

/* May this process run virtual machines: would kvm_vm_new() find all that it looks for? */
bool kvm_host_is_usable(void);

/*
 * False where KVM interprets guest code instead of running it on a CPU with virtualization: such a
 * host runs small guests only, no stock kernel.
 */
bool kvm_host_has_virtualization(void);

/* The guest's clock (kvmclock) stands still between the two. Both are harmless without kvmclock. */
void kvm_vm_clock_stop(struct kvm_vm *kvm);
void kvm_vm_clock_start(struct kvm_vm *kvm);

/*
 * x86: what CPUID the kernel can give to guests (KVM_GET_SUPPORTED_CPUID) and the indices of the MSRs
 * that it can save. Malloced; the caller frees. NULL and *err on failure.
 */
struct kvm_cpuid2 *kvm_supported_cpuid(const struct kvm_vm *kvm, struct err **err);
/* The same without a VM: opens /dev/kvm for the moment. */
struct kvm_cpuid2 *kvm_host_cpuid(struct err **err);
/*
 * An MSR that tells of features, as KVM can give it to guests; 0 where it does not. Without a VM
 * (NULL) as above.
 */
uint64_t kvm_feature_msr(const struct kvm_vm *kvm, uint32_t index);
struct kvm_msr_list *kvm_msr_indices(const struct kvm_vm *kvm, struct err **err);

/*
 * The interrupt controllers of the machine (those of the vCPUs are vcpus_reset()'s) as after
 * kvm_vm_new(): nothing is requested, nothing unmasked. All vCPUs are paused, and no wired input is
 * raised. After a failure some are reset.
 */
int kvm_vm_reset(struct kvm_vm *kvm, struct err **err);

/*
 * Saved state of what belongs to no vCPU: the interrupt controllers, and the guest's clock
 * (kvmclock). vCPUs are paused. Load is on a machine that never ran; -EINVAL with a sentence for
 * content that cannot be or that KVM refuses, and the machine is not to be used then.
 *
 * Order of loading: the vCPUs; then all devices that drive wired inputs, each of which sets its
 * level again; then the interrupt controllers, which overwrite what those edges requested, and
 * send what was waiting to the vCPUs. Messages (hv_msi) need nothing but their devices' routes.
 *
 * The clock stands still while the machine is stopped: the guest does not see how long it was on its
 * way, and it never goes backwards. It is set by the next kvm_vm_clock_start().
 */
#define KVM_IRQCHIP_STATE_VERSION 1u
int kvm_irqchip_save(struct kvm_vm *kvm, struct pack *out, struct err **err);
int kvm_irqchip_load(struct kvm_vm *kvm, uint32_t version, struct unpack *in, struct err **err);

#define KVM_CLOCK_STATE_VERSION 1u
int kvm_clock_save(struct kvm_vm *kvm, struct pack *out, struct err **err);
int kvm_clock_load(struct kvm_vm *kvm, uint32_t version, struct unpack *in, struct err **err);

/*
 * When it returns, every message that devices sent before has reached the vCPUs' interrupt
 * controllers: before the first of them is saved, with all senders stopped. It may leave a message
 * delivered twice, never less than once.
 */
void kvm_vm_settle(struct kvm_vm *kvm);

/*
 * Which pages the guest wrote (kvm_dirty.c). From start to stop every write of a vCPU to writable
 * slots, present and future, ends up in gm_dirty_merge() of @gm: with the next sync, or at the
 * latest when its slot goes. Sync returns when all that was written before it began is merged and
 * the next write to each of these pages will be noticed again. A page that was not written may be
 * marked too: KVM counts one that it maps anew for a read and that may be written, and all of a slot
 * counts where the kernel fails to tell; nothing is lost then.
 *
 * start: -errno and a sentence, and nothing is logged. sync: 0, or -errno when the kernel fails:
 * then marks may come once more with the next one. -ENOBUFS: a ring was too small for this kernel,
 * and marks are lost for good. Threads: any, also while slots come and go;
 * start and stop exclude each other, and stop excludes sync (the caller's duty).
 */
int kvm_dirty_start(struct kvm_vm *kvm, struct gm *gm, struct err **err);
/*
 * Switch on in KVM what kvm_dirty_start() would, after kvm_dirty_ring_enable(): for a process that is
 * about to give up the right to it. Optional, and nothing is noted by it.
 */
void kvm_dirty_prepare(struct kvm_vm *kvm);
int kvm_dirty_sync(struct kvm_vm *kvm);
void kvm_dirty_stop(struct kvm_vm *kvm);

/*
 * Have KVM note the pages in a ring for each vCPU, of @nr_entries (a power of two up to
 * KVM_DIRTY_RING_ENTRIES_MAX), instead of a bitmap for each slot: once, before the first vCPU is
 * created. -ENOTSUP with a sentence where the kernel has no such rings, -EINVAL where it takes none
 * of that size.
 */
#define KVM_DIRTY_RING_ENTRIES_MAX 65536u
int kvm_dirty_ring_enable(struct kvm_vm *kvm, uint32_t nr_entries, struct err **err);

/* The architecture's part of kvm_vm_new(). */
int kvm_vm_init_arch(struct kvm_vm *kvm, struct err **err);
/* Fill @entries with the wired part of the routing table; returns how many (at most @max). */
unsigned int kvm_wired_routes(struct kvm_irq_routing_entry *entries, unsigned int max);

/* Is this an address that interrupt messages go to? Elsewhere they would be writes to memory. */
bool kvm_message_valid(uint64_t address);

/* The number of wired inputs: message routes get GSIs from here up. */
#define KVM_WIRED_GSIS 24

#endif
