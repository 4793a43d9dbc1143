/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a saved vCPU consists of, between the file that reads and writes its bytes
 * (vcpu_saved_x86.c) and the one that asks and tells KVM (vcpu_state_x86.c).
 *
 * In the bytes, in this order; numbers are little-endian, what is a struct is one of <linux/kvm.h>
 * for x86-64:
 *
 *   u32 APIC id, which is also KVM's id of the vCPU
 *   u32 number of CPUID entries; for each u32 function, index, flags, eax, ebx, ecx, edx
 *   u32 kHz of the time stamp counter, 0: unknown
 *   bool, u64: the counter's offset from the host's (KVM_VCPU_TSC_OFFSET), if known
 *   u32 mp_state
 *   struct kvm_regs
 *   struct kvm_sregs2; what comes before its flags is struct kvm_sregs
 *   struct kvm_vcpu_events, struct kvm_debugregs
 *   u32 number of extended control registers; for each u32 number, u64 value
 *   u32 size, bytes: struct kvm_xsave, as long as KVM_GET_XSAVE2 has it
 *   struct kvm_lapic_state
 *   u32 number of MSRs; for each u32 index, u64 value
 *   u32 number of registers of KVM_GET_REG_LIST; for each u64 id, u64 value
 *   u32 size, bytes: struct kvm_nested_state, 0: there is none
 */
#ifndef VMM_KVM_VCPU_SAVED_H
#define VMM_KVM_VCPU_SAVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

struct err;
struct pack;
struct unpack;

/* Bounds of what comes from outside; no kernel needs as much. */
#define VCPU_SAVED_CPUID_MAX  256u
#define VCPU_SAVED_XSAVE_MAX  (1u << 20)
#define VCPU_SAVED_MSRS_MAX   4096u
#define VCPU_SAVED_REGS_MAX   256u
#define VCPU_SAVED_NESTED_MAX (1u << 20)

/* A register of KVM_GET_ONE_REG, 8 bytes wide. */
struct vcpu_reg {
	uint64_t id, value;
};

struct vcpu_saved {
	uint32_t apic_id;
	struct kvm_cpuid_entry2 *cpuid;
	uint32_t nr_cpuid;
	uint32_t tsc_khz;
	bool has_tsc_offset;
	uint64_t tsc_offset;
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_xcrs xcrs;
	void *xsave;
	uint32_t xsave_size;
	struct kvm_lapic_state lapic;
	struct kvm_msr_entry *msrs;
	uint32_t nr_msrs;
	struct vcpu_reg *regs_more;
	uint32_t nr_regs_more;
	struct kvm_nested_state *nested;
	uint32_t nested_size;
};

/* Ends what it points to. */
void vcpu_saved_done(struct vcpu_saved *saved);
void vcpu_saved_pack(const struct vcpu_saved *saved, struct pack *out);
/*
 * Fill in @saved, all zeros before, from bytes that may be anything: all of them, or -EINVAL and a
 * sentence. To be ended with vcpu_saved_done() in both cases.
 */
int vcpu_saved_unpack(struct vcpu_saved *saved, struct unpack *in, struct err **err);

#endif
