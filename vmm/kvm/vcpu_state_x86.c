/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vCPU saved on one host and loaded on another: see vcpu.h for the contract, vcpu_saved.h for the
 * bytes.
 *
 * Nothing of a vCPU is anywhere else when it is paused: its accesses are complete (vcpu.h, I1), and
 * with the interrupt controllers in the kernel the shared run structure has no state of its own (task
 * priority and APIC base are the local APIC's).
 *
 * I1  Asking: the multiprocessing state first, since asking for it makes the vCPU take start-up
 *     messages that wait for it, which changes registers.
 * I2  Telling, each step before those that depend on it: CPUID, which says what the vCPU has; the
 *     speed of the time stamp counter; segment and control registers with the APIC's mode; the
 *     MSRs that say what nested guests may have, and the nested state; registers; all other MSRs;
 *     the counter; the local APIC, which needs its mode; the deadline, which needs counter and APIC;
 *     the multiprocessing state; what is about to be injected last, since the others cancel it.
 * I3  An MSR that the kernel refuses is no loss if it is 0, or if the vCPU has that value already.
 * I4  The offsets of the vCPUs' time stamp counters keep their distances where both kernels tell
 *     offsets; else the kernel puts counters in step that are set shortly after one another.
 *
 * Not saved: the address of kvmclock's wall clock. Telling it to KVM makes it write the time there,
 * where the guest may have put other things since; guests tell it each time before they read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/kvm/vcpu_internal.h"
#include "vmm/kvm/vcpu_saved.h"
#include "vmm/machine/cpuid.h"

#define MSR_IA32_TSC             0x10
#define MSR_KVM_WALL_CLOCK_OLD   0x11
#define MSR_IA32_FEATURE_CONTROL 0x3a
#define MSR_IA32_VMX_FIRST       0x480
#define MSR_IA32_VMX_LAST        0x4ff
#define MSR_IA32_TSC_DEADLINE    0x6e0
#define MSR_KVM_WALL_CLOCK       0x4b564d00

/* Clocks of one kind of host differ by so much as they were measured; guests correct it. */
#define TSC_TOLERANCE_PPM 250

_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) == offsetof(struct kvm_sregs2, flags),
	       "kvm_sregs2 begins as kvm_sregs");

/* ---- asking ---- */

static int vcpu_refuse(struct err **err, const char *what)
{
	return err_set(err, errno, "KVM does not tell %s of the vCPU: %s", what, strerror(errno));
}

static int vcpu_ask_sregs(const struct vcpu *v, struct kvm_sregs2 *sregs)
{
	struct kvm_sregs old;

	if (kvm_vm_capability(v->vcpus->config.kvm, KVM_CAP_SREGS2))
		return ioctl(v->fd, KVM_GET_SREGS2, sregs);
	if (ioctl(v->fd, KVM_GET_SREGS, &old) < 0)
		return -1;
	memcpy(sregs, &old, offsetof(struct kvm_sregs, interrupt_bitmap));
	return 0;
}

static int vcpu_ask_registers(const struct vcpu *v, struct vcpu_saved *s, struct err **err)
{
	if (ioctl(v->fd, KVM_GET_MP_STATE, &s->mp_state) < 0)
		return vcpu_refuse(err, "the multiprocessing state");
	if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &s->events) < 0)
		return vcpu_refuse(err, "pending events");
	if (ioctl(v->fd, KVM_GET_REGS, &s->regs) < 0)
		return vcpu_refuse(err, "registers");
	if (vcpu_ask_sregs(v, &s->sregs) < 0)
		return vcpu_refuse(err, "segment and control registers");
	if (ioctl(v->fd, KVM_GET_DEBUGREGS, &s->debugregs) < 0)
		return vcpu_refuse(err, "debug registers");
	if (ioctl(v->fd, KVM_GET_LAPIC, &s->lapic) < 0)
		return vcpu_refuse(err, "the local APIC");
	return 0;
}

static int vcpu_ask_fpu(const struct vcpu *v, struct vcpu_saved *s, struct err **err)
{
	unsigned long request;
	size_t size = vcpu_xsave_size(v->vcpus->config.kvm, &request);

	s->xsave = calloc(1, size);
	if (!s->xsave)
		return err_set(err, ENOMEM, "out of memory");
	s->xsave_size = (uint32_t)size;
	if (ioctl(v->fd, request, s->xsave) < 0)
		return vcpu_refuse(err, "the floating-point state");
	/* A host without XSAVE has none. */
	if (ioctl(v->fd, KVM_GET_XCRS, &s->xcrs) < 0 || s->xcrs.nr_xcrs > KVM_MAX_XCRS)
		s->xcrs.nr_xcrs = 0;
	return 0;
}

static bool vcpu_msr_is_left_out(uint32_t index)
{
	return index == MSR_KVM_WALL_CLOCK_OLD || index == MSR_KVM_WALL_CLOCK;
}

static int vcpu_ask_msrs(const struct vcpu *v, struct vcpu_saved *s, struct err **err)
{
	struct kvm_msr_list *list = kvm_msr_indices(v->vcpus->config.kvm, err);

	if (!list)
		return -EIO;
	s->msrs = calloc((size_t)list->nmsrs + 1, sizeof(*s->msrs));
	for (uint32_t i = 0; s->msrs && i < list->nmsrs && s->nr_msrs < VCPU_SAVED_MSRS_MAX; i++) {
		struct kvm_msr_entry entry = {.index = list->indices[i]};

		if (!vcpu_msr_is_left_out(entry.index) && vcpu_msr_io(v->fd, KVM_GET_MSRS, &entry))
			s->msrs[s->nr_msrs++] = entry;
	}
	free(list);
	return s->msrs ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int vcpu_ask_reg(const struct vcpu *v, struct vcpu_reg *reg)
{
	struct kvm_one_reg one = {.id = reg->id, .addr = (uintptr_t)&reg->value};

	return ioctl(v->fd, KVM_GET_ONE_REG, &one);
}

/* Registers that newer kernels have beside all others; older ones have no list of them. */
static int vcpu_ask_more(const struct vcpu *v, struct vcpu_saved *s, struct err **err)
{
	struct kvm_reg_list probe = {.n = 0}, *list;

	/* With no room the call is there to fail and to tell the number. */
	if (ioctl(v->fd, KVM_GET_REG_LIST, &probe) == 0 || errno != E2BIG || !probe.n)
		return 0;
	if (probe.n > VCPU_SAVED_REGS_MAX)
		return err_set(err, E2BIG, "KVM has %llu more registers of the vCPU",
			       (unsigned long long)probe.n);
	list = calloc(1, sizeof(*list) + probe.n * sizeof(list->reg[0]));
	s->regs_more = calloc(probe.n, sizeof(*s->regs_more));
	if (!list || !s->regs_more) {
		free(list);
		return err_set(err, ENOMEM, "out of memory");
	}
	list->n = probe.n;
	if (ioctl(v->fd, KVM_GET_REG_LIST, list) < 0)
		list->n = 0;
	for (uint64_t i = 0; i < list->n && i < probe.n; i++) {
		struct vcpu_reg *reg = &s->regs_more[s->nr_regs_more];

		reg->id = list->reg[i];
		if ((reg->id & KVM_REG_SIZE_MASK) == KVM_REG_SIZE_U64 && !vcpu_ask_reg(v, reg))
			s->nr_regs_more++;
	}
	free(list);
	return 0;
}

/* Only what a vCPU needs that has nested guests, or may have some at once. */
static int vcpu_ask_nested(const struct vcpu *v, struct vcpu_saved *s, struct err **err)
{
	int size = kvm_vm_capability(v->vcpus->config.kvm, KVM_CAP_NESTED_STATE);

	if (size < (int)sizeof(*s->nested))
		return 0;
	s->nested = calloc(1, (size_t)size);
	if (!s->nested)
		return err_set(err, ENOMEM, "out of memory");
	s->nested->size = (uint32_t)size;
	if (ioctl(v->fd, KVM_GET_NESTED_STATE, s->nested) < 0) {
		/* This vCPU has no virtualization. */
		if (errno == EINVAL)
			return 0;
		return vcpu_refuse(err, "the state of nested guests");
	}
	if (s->nested->size > (uint32_t)size || s->nested->size > VCPU_SAVED_NESTED_MAX)
		return err_set(err, E2BIG, "KVM has too much state of nested guests");
	s->nested_size = s->nested->size;
	return 0;
}

static struct kvm_device_attr vcpu_tsc_offset_attr(uint64_t *offset)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};
}

static bool vcpu_tsc_offset_get(const struct vcpu *v, uint64_t *ret_offset)
{
	struct kvm_device_attr attr = vcpu_tsc_offset_attr(ret_offset);

	return ioctl(v->fd, KVM_GET_DEVICE_ATTR, &attr) == 0;
}

static uint32_t vcpu_tsc_khz(const struct vcpu *v)
{
	int khz = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);

	return khz > 0 ? (uint32_t)khz : 0;
}

int vcpus_save(struct vcpus *vcpus, unsigned int index, struct pack *out, struct err **err)
{
	const struct vcpu *v = &vcpus->vcpu[index];
	struct vcpu_saved s;
	int ret;

	memset(&s, 0, sizeof(s));
	s.apic_id = v->apic_id;
	s.cpuid = v->cpuid;
	s.nr_cpuid = (uint32_t)v->nr_cpuid;
	s.tsc_khz = vcpu_tsc_khz(v);
	s.has_tsc_offset = vcpu_tsc_offset_get(v, &s.tsc_offset);
	ret = vcpu_ask_registers(v, &s, err);
	if (!ret)
		ret = vcpu_ask_fpu(v, &s, err);
	if (!ret)
		ret = vcpu_ask_msrs(v, &s, err);
	if (!ret)
		ret = vcpu_ask_more(v, &s, err);
	if (!ret)
		ret = vcpu_ask_nested(v, &s, err);
	if (!ret)
		vcpu_saved_pack(&s, out);
	s.cpuid = NULL; /* the vCPU's own */
	vcpu_saved_done(&s);
	return ret;
}

/* ---- telling ---- */

static int vcpu_refused(struct err **err, const char *what)
{
	return err_set(err, EINVAL, "KVM refuses %s: %s", what, strerror(errno));
}

static bool vcpu_cpuid_equal(const struct vcpu *v, const struct vcpu_saved *s)
{
	return v->nr_cpuid == s->nr_cpuid &&
	       !memcmp(v->cpuid, s->cpuid, s->nr_cpuid * sizeof(*s->cpuid));
}

/*
 * From now on the vCPU, which never ran, is told the CPUID that was saved. Its power-on state is
 * that of a CPU of this kind.
 */
static int vcpu_tell_cpuid(struct vcpu *v, struct vcpu_saved *s, struct err **err)
{
	struct kvm_vm *kvm = v->vcpus->config.kvm;
	struct vcpu_state *power_on;
	struct kvm_cpuid2 *supported;
	int ret;

	if (vcpu_cpuid_equal(v, s))
		return 0;
	supported = kvm_supported_cpuid(kvm, err);
	if (!supported)
		return -EIO;
	ret = cpuid_check(s->cpuid, s->nr_cpuid, supported->entries, supported->nent, v->cpuid,
			  v->nr_cpuid, err);
	free(supported);
	if (!ret)
		ret = vcpu_state_restore(v->power_on, v->fd, err);
	if (!ret)
		ret = vcpu_cpuid_set(v->fd, s->cpuid, s->nr_cpuid, err);
	if (ret)
		return ret;
	power_on = vcpu_state_save(kvm, v->fd, err);
	if (!power_on)
		return -EIO;
	vcpu_state_free(v->power_on);
	v->power_on = power_on;
	vcpu_msrs_set(v->fd, v->msrs, v->nr_msrs);
	free(v->cpuid);
	v->cpuid = s->cpuid;
	v->nr_cpuid = s->nr_cpuid;
	s->cpuid = NULL;
	return 0;
}

static int vcpu_tell_tsc_speed(const struct vcpu *v, const struct vcpu_saved *s, struct err **err)
{
	uint32_t here = vcpu_tsc_khz(v);
	uint64_t difference = here > s->tsc_khz ? here - s->tsc_khz : s->tsc_khz - here;

	if (!s->tsc_khz || here == s->tsc_khz ||
	    ioctl(v->fd, KVM_SET_TSC_KHZ, (unsigned long)s->tsc_khz) == 0)
		return 0;
	if (difference * 1000000 <= (uint64_t)here * TSC_TOLERANCE_PPM)
		return 0;
	return err_set(err, EINVAL,
		       "the guest's time stamp counter runs at %u kHz, this host's at %u kHz, and "
		       "this host cannot scale it",
		       s->tsc_khz, here);
}

static int vcpu_tell_sregs(const struct vcpu *v, const struct vcpu_saved *s, struct err **err)
{
	struct kvm_sregs old = {.cr0 = 0};
	int ret;

	if (kvm_vm_capability(v->vcpus->config.kvm, KVM_CAP_SREGS2)) {
		ret = ioctl(v->fd, KVM_SET_SREGS2, &s->sregs);
	} else {
		memcpy(&old, &s->sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
		ret = ioctl(v->fd, KVM_SET_SREGS, &old);
	}
	return ret < 0 ? vcpu_refused(err, "the segment and control registers") : 0;
}

enum vcpu_msr_step {
	VCPU_MSR_NESTED,
	VCPU_MSR_PLAIN,
	VCPU_MSR_TSC,
	VCPU_MSR_DEADLINE,
	VCPU_MSR_NEVER,
};

static enum vcpu_msr_step vcpu_msr_step(uint32_t index)
{
	if (vcpu_msr_is_left_out(index))
		return VCPU_MSR_NEVER;
	if (index == MSR_IA32_FEATURE_CONTROL ||
	    (index >= MSR_IA32_VMX_FIRST && index <= MSR_IA32_VMX_LAST))
		return VCPU_MSR_NESTED;
	if (index == MSR_IA32_TSC)
		return VCPU_MSR_TSC;
	return index == MSR_IA32_TSC_DEADLINE ? VCPU_MSR_DEADLINE : VCPU_MSR_PLAIN;
}

/* I3 */
static int vcpu_tell_msr(const struct vcpu *v, const struct kvm_msr_entry *msr, struct err **err)
{
	struct kvm_msr_entry entry = *msr;

	if (vcpu_msr_io(v->fd, KVM_SET_MSRS, &entry) || !msr->data)
		return 0;
	if (vcpu_msr_io(v->fd, KVM_GET_MSRS, &entry) && entry.data == msr->data)
		return 0;
	return err_set(err, EINVAL, "this host's KVM refuses the value %#llx of MSR %#x",
		       (unsigned long long)msr->data, msr->index);
}

static int vcpu_tell_msrs(const struct vcpu *v, const struct vcpu_saved *s, enum vcpu_msr_step step,
			  struct err **err)
{
	int ret = 0;

	for (uint32_t i = 0; i < s->nr_msrs && !ret; i++)
		if (vcpu_msr_step(s->msrs[i].index) == step)
			ret = vcpu_tell_msr(v, &s->msrs[i], err);
	return ret;
}

/* I4: the first vCPU's counter goes on from its value, the others keep their distance from it. */
static int vcpu_tell_tsc(const struct vcpu *v, const struct vcpu_saved *s, struct err **err)
{
	struct vcpus *vcpus = v->vcpus;
	uint64_t here = s->tsc_offset + vcpus->tsc_shift;
	struct kvm_device_attr attr = vcpu_tsc_offset_attr(&here);
	int ret;

	if (v->index && s->has_tsc_offset && vcpus->has_tsc_shift &&
	    ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attr) == 0)
		return 0;
	ret = vcpu_tell_msrs(v, s, VCPU_MSR_TSC, err);
	if (!ret && !v->index) {
		vcpus->has_tsc_shift = s->has_tsc_offset && vcpu_tsc_offset_get(v, &here);
		vcpus->tsc_shift = here - s->tsc_offset;
	}
	return ret;
}

static int vcpu_tell_nested(const struct vcpu *v, const struct vcpu_saved *s, struct err **err)
{
	if (!s->nested_size || ioctl(v->fd, KVM_SET_NESTED_STATE, s->nested) == 0)
		return 0;
	/* A host without nested guests; the vCPU had none. */
	if (!s->nested->flags)
		return 0;
	return vcpu_refused(err, "the state of nested guests");
}

static int vcpu_tell_xsave(const struct vcpu *v, const struct vcpu_saved *s, struct err **err)
{
	unsigned long request;
	size_t size = vcpu_xsave_size(v->vcpus->config.kvm, &request);
	const uint8_t *bytes = s->xsave;
	void *here;
	int ret;

	for (size_t i = size; i < s->xsave_size; i++)
		if (bytes[i])
			return err_set(err, EINVAL,
				       "the vCPU has floating-point registers that this host's KVM "
				       "does not");
	here = calloc(1, size);
	if (!here)
		return err_set(err, ENOMEM, "out of memory");
	memcpy(here, s->xsave, num_min(size, s->xsave_size));
	ret = ioctl(v->fd, KVM_SET_XSAVE, here);
	free(here);
	return ret < 0 ? vcpu_refused(err, "the floating-point state") : 0;
}

static int vcpu_tell_registers(const struct vcpu *v, const struct vcpu_saved *s, struct err **err)
{
	int ret;

	if (ioctl(v->fd, KVM_SET_REGS, &s->regs) < 0)
		return vcpu_refused(err, "the registers");
	ret = vcpu_tell_xsave(v, s, err);
	if (ret)
		return ret;
	if (s->xcrs.nr_xcrs && ioctl(v->fd, KVM_SET_XCRS, &s->xcrs) < 0)
		return vcpu_refused(err, "the extended control registers");
	return vcpu_tell_msrs(v, s, VCPU_MSR_PLAIN, err);
}

static int vcpu_tell_more(const struct vcpu *v, const struct vcpu_saved *s, struct err **err)
{
	for (uint32_t i = 0; i < s->nr_regs_more; i++) {
		const struct vcpu_reg *reg = &s->regs_more[i];
		struct kvm_one_reg one = {.id = reg->id, .addr = (uintptr_t)&reg->value};

		if (ioctl(v->fd, KVM_SET_ONE_REG, &one) < 0 && reg->value)
			return err_set(err, EINVAL,
				       "this host's KVM refuses the value %#llx of register %#llx",
				       (unsigned long long)reg->value, (unsigned long long)reg->id);
	}
	return 0;
}

static int vcpu_tell_events(const struct vcpu *v, const struct vcpu_saved *s, struct err **err)
{
	struct kvm_vcpu_events events = s->events;

	/* What did not happen needs no kernel that knows of it. */
	if (!events.triple_fault.pending)
		events.flags &= ~(uint32_t)KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	if (ioctl(v->fd, KVM_SET_MP_STATE, &s->mp_state) < 0)
		return vcpu_refused(err, "the multiprocessing state");
	if (ioctl(v->fd, KVM_SET_DEBUGREGS, &s->debugregs) < 0)
		return vcpu_refused(err, "the debug registers");
	if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events) < 0)
		return vcpu_refused(err, "the pending events");
	return 0;
}

/* I2 */
static int vcpu_tell(struct vcpu *v, struct vcpu_saved *s, struct err **err)
{
	int ret = vcpu_tell_cpuid(v, s, err);

	if (!ret)
		ret = vcpu_tell_tsc_speed(v, s, err);
	if (!ret)
		ret = vcpu_tell_sregs(v, s, err);
	if (!ret)
		ret = vcpu_tell_msrs(v, s, VCPU_MSR_NESTED, err);
	if (!ret)
		ret = vcpu_tell_nested(v, s, err);
	if (!ret)
		ret = vcpu_tell_registers(v, s, err);
	if (!ret)
		ret = vcpu_tell_more(v, s, err);
	if (!ret)
		ret = vcpu_tell_tsc(v, s, err);
	if (ret)
		return ret;
	if (ioctl(v->fd, KVM_SET_LAPIC, &s->lapic) < 0)
		return vcpu_refused(err, "the local APIC");
	ret = vcpu_tell_msrs(v, s, VCPU_MSR_DEADLINE, err);
	return ret ? ret : vcpu_tell_events(v, s, err);
}

int vcpus_load(struct vcpus *vcpus, unsigned int index, uint32_t version, struct unpack *in,
	       struct err **err)
{
	struct vcpu *v = &vcpus->vcpu[index];
	struct vcpu_saved s;
	int ret;

	if (version != VCPU_STATE_VERSION)
		return err_set(err, EINVAL,
			       "version %u of a vCPU's state is not known here; known is %u",
			       version, VCPU_STATE_VERSION);
	memset(&s, 0, sizeof(s));
	ret = vcpu_saved_unpack(&s, in, err);
	if (!ret && s.apic_id != v->apic_id)
		ret = err_set(err, EINVAL, "the vCPU had APIC id %u, here it has %u", s.apic_id,
			      v->apic_id);
	if (!ret)
		ret = vcpu_tell(v, &s, err);
	vcpu_saved_done(&s);
	return ret;
}
