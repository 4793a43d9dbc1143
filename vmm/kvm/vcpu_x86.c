/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The x86 part of a vCPU: its power-on state, CPUID, MSRs. See vcpu.h for the contract.
 *
 * The power-on state is read from KVM right after the vCPU was created, so it is the kernel's own
 * idea of a CPU after power-on for this CPUID, whatever registers a CPU has.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu_internal.h"

#define UD_VECTOR           6 /* undefined opcode */
#define MSR_IA32_TSC        0x10
#define MSR_IA32_TSC_ADJUST 0x3b
#define MSR_KERNEL_GS_BASE  0xc0000102

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp_state;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_xcrs xcrs;
	bool has_xcrs;
	struct kvm_xsave *xsave; /* xsave_size bytes */
	size_t xsave_size;
	struct kvm_msr_entry *msrs;
	size_t nr_msrs;
};

void vcpu_state_free(struct vcpu_state *state)
{
	if (!state)
		return;
	free(state->xsave);
	free(state->msrs);
	free(state);
}

int vcpu_cpuid_set(int vcpu_fd, const struct kvm_cpuid_entry2 *entries, size_t nr_entries,
		   struct err **err)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + nr_entries * sizeof(*entries));
	int ret = 0;

	if (!cpuid)
		return err_set(err, ENOMEM, "out of memory");
	cpuid->nent = (uint32_t)nr_entries;
	memcpy(cpuid->entries, entries, nr_entries * sizeof(*entries));
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid) < 0)
		ret = err_set(err, errno, "KVM refuses the CPUID of a vCPU: %s", strerror(errno));
	free(cpuid);
	return ret;
}

bool vcpu_msr_io(int vcpu_fd, unsigned long request, struct kvm_msr_entry *entry)
{
	/* One header with room for one entry behind it. */
	union {
		struct kvm_msrs msrs;
		char bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} one = {.msrs = {.nmsrs = 1}};

	memcpy(one.bytes + sizeof(one.msrs), entry, sizeof(*entry));
	if (ioctl(vcpu_fd, request, &one) != 1)
		return false;
	memcpy(entry, one.bytes + sizeof(one.msrs), sizeof(*entry));
	return true;
}

void vcpu_msrs_set(int vcpu_fd, const struct kvm_msr_entry *msrs, size_t nr_msrs)
{
	for (size_t i = 0; i < nr_msrs; i++) {
		struct kvm_msr_entry entry = msrs[i];

		vcpu_msr_io(vcpu_fd, KVM_SET_MSRS, &entry);
	}
}

/*
 * All MSRs that the kernel lists and this vCPU has. The time stamp counter is left out: setting it
 * anew at a reset would put the vCPUs' counters out of step.
 */
static int vcpu_msrs_save(struct kvm_vm *kvm, int vcpu_fd, struct vcpu_state *state,
			  struct err **err)
{
	struct kvm_msr_list *list = kvm_msr_indices(kvm, err);

	if (!list)
		return -EIO;
	state->msrs = calloc(list->nmsrs + 1, sizeof(*state->msrs));
	if (!state->msrs) {
		free(list);
		return err_set(err, ENOMEM, "out of memory");
	}
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		struct kvm_msr_entry entry = {.index = list->indices[i]};

		if (entry.index == MSR_IA32_TSC || entry.index == MSR_IA32_TSC_ADJUST)
			continue;
		if (vcpu_msr_io(vcpu_fd, KVM_GET_MSRS, &entry))
			state->msrs[state->nr_msrs++] = entry;
	}
	free(list);
	return 0;
}

size_t vcpu_xsave_size(const struct kvm_vm *kvm, unsigned long *ret_request)
{
	int size2 = kvm_vm_capability(kvm, KVM_CAP_XSAVE2);

	*ret_request = size2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
	return num_max((uint64_t)size2, sizeof(struct kvm_xsave));
}

static int vcpu_xsave_save(struct kvm_vm *kvm, int vcpu_fd, struct vcpu_state *state)
{
	unsigned long request;

	state->xsave_size = vcpu_xsave_size(kvm, &request);
	state->xsave = calloc(1, state->xsave_size);
	if (!state->xsave)
		return -ENOMEM;
	return ioctl(vcpu_fd, request, state->xsave) < 0 ? -errno : 0;
}

struct vcpu_state *vcpu_state_save(struct kvm_vm *kvm, int vcpu_fd, struct err **err)
{
	struct vcpu_state *state = calloc(1, sizeof(*state));
	int ret;

	if (!state) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	if (ioctl(vcpu_fd, KVM_GET_REGS, &state->regs) < 0 ||
	    ioctl(vcpu_fd, KVM_GET_SREGS, &state->sregs) < 0 ||
	    ioctl(vcpu_fd, KVM_GET_LAPIC, &state->lapic) < 0 ||
	    ioctl(vcpu_fd, KVM_GET_MP_STATE, &state->mp_state) < 0 ||
	    ioctl(vcpu_fd, KVM_GET_VCPU_EVENTS, &state->events) < 0 ||
	    ioctl(vcpu_fd, KVM_GET_DEBUGREGS, &state->debugregs) < 0) {
		err_set(err, errno, "KVM does not tell the state of a vCPU: %s", strerror(errno));
		vcpu_state_free(state);
		return NULL;
	}
	/* A host without XSAVE answers with none and takes none back. */
	state->has_xcrs = ioctl(vcpu_fd, KVM_GET_XCRS, &state->xcrs) == 0 && state->xcrs.nr_xcrs;
	ret = vcpu_xsave_save(kvm, vcpu_fd, state);
	if (ret) {
		err_set(err, -ret, "KVM does not tell the floating-point state of a vCPU: %s",
			strerror(-ret));
	} else {
		ret = vcpu_msrs_save(kvm, vcpu_fd, state, err);
	}
	if (ret) {
		vcpu_state_free(state);
		return NULL;
	}
	return state;
}

/* Segment and control registers first: they carry the APIC's mode, which the rest depends on. */
int vcpu_state_restore(const struct vcpu_state *state, int vcpu_fd, struct err **err)
{
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &state->sregs) < 0 ||
	    ioctl(vcpu_fd, KVM_SET_REGS, &state->regs) < 0 ||
	    ioctl(vcpu_fd, KVM_SET_XSAVE, state->xsave) < 0 ||
	    (state->has_xcrs && ioctl(vcpu_fd, KVM_SET_XCRS, &state->xcrs) < 0))
		return err_set(err, errno, "KVM refuses the reset state of a vCPU: %s",
			       strerror(errno));
	vcpu_msrs_set(vcpu_fd, state->msrs, state->nr_msrs);
	if (ioctl(vcpu_fd, KVM_SET_LAPIC, &state->lapic) < 0 ||
	    ioctl(vcpu_fd, KVM_SET_VCPU_EVENTS, &state->events) < 0 ||
	    ioctl(vcpu_fd, KVM_SET_DEBUGREGS, &state->debugregs) < 0 ||
	    ioctl(vcpu_fd, KVM_SET_MP_STATE, &state->mp_state) < 0)
		return err_set(err, errno, "KVM refuses the reset state of a vCPU: %s",
			       strerror(errno));
	return 0;
}

uint64_t vcpu_instruction_gva(int vcpu_fd)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (ioctl(vcpu_fd, KVM_GET_REGS, &regs) < 0 || ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return 0;
	return sregs.cs.base + regs.rip;
}

int vcpu_instruction_retry(int vcpu_fd)
{
	struct kvm_vcpu_events events;

	if (ioctl(vcpu_fd, KVM_GET_VCPU_EVENTS, &events) < 0)
		return -errno;
	if (events.exception.nr != UD_VECTOR)
		return 0;
	events.exception.injected = 0;
	events.exception.pending = 0;
	return ioctl(vcpu_fd, KVM_SET_VCPU_EVENTS, &events) < 0 ? -errno : 0;
}

int vcpus_inject_nmi(struct vcpus *vcpus)
{
	for (unsigned int i = 0; i < vcpus->config.count; i++)
		if (ioctl(vcpus->vcpu[i].fd, KVM_NMI, 0) < 0)
			return -errno;
	return 0;
}

int vcpus_registers(struct vcpus *vcpus, unsigned int index, struct vcpu_registers *ret_registers,
		    struct err **err)
{
	struct kvm_msr_entry gs = {.index = MSR_KERNEL_GS_BASE};
	int fd = vcpus->vcpu[index].fd;

	if (ioctl(fd, KVM_GET_REGS, &ret_registers->regs) < 0 ||
	    ioctl(fd, KVM_GET_SREGS, &ret_registers->sregs) < 0)
		return err_set(err, errno, "KVM does not tell the registers of vCPU %u: %s", index,
			       strerror(errno));
	/* A processor that has no such register never gives one to its guest. */
	ret_registers->kernel_gs_base = vcpu_msr_io(fd, KVM_GET_MSRS, &gs) ? gs.data : 0;
	return 0;
}
