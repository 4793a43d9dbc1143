/* SPDX-License-Identifier: BSD-3-Clause */
/* The bytes of a saved vCPU: see vcpu_saved.h. */
#include "vmm/kvm/vcpu_saved.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pack.h"

void vcpu_saved_done(struct vcpu_saved *saved)
{
	free(saved->cpuid);
	free(saved->xsave);
	free(saved->msrs);
	free(saved->regs_more);
	free(saved->nested);
}

/* ---- writing ---- */

static void pack_cpuid(struct pack *out, const struct vcpu_saved *s)
{
	pack_u32(out, s->nr_cpuid);
	for (uint32_t i = 0; i < s->nr_cpuid; i++) {
		const struct kvm_cpuid_entry2 *e = &s->cpuid[i];

		pack_u32(out, e->function);
		pack_u32(out, e->index);
		pack_u32(out, e->flags);
		pack_u32(out, e->eax);
		pack_u32(out, e->ebx);
		pack_u32(out, e->ecx);
		pack_u32(out, e->edx);
	}
}

static void pack_xcrs(struct pack *out, const struct kvm_xcrs *xcrs)
{
	pack_u32(out, xcrs->nr_xcrs);
	for (uint32_t i = 0; i < xcrs->nr_xcrs; i++) {
		pack_u32(out, xcrs->xcrs[i].xcr);
		pack_u64(out, xcrs->xcrs[i].value);
	}
}

static void pack_sized(struct pack *out, const void *bytes, uint32_t size)
{
	pack_u32(out, size);
	pack_bytes(out, bytes, size);
}

void vcpu_saved_pack(const struct vcpu_saved *s, struct pack *out)
{
	pack_u32(out, s->apic_id);
	pack_cpuid(out, s);
	pack_u32(out, s->tsc_khz);
	pack_bool(out, s->has_tsc_offset);
	pack_u64(out, s->tsc_offset);
	pack_u32(out, s->mp_state.mp_state);
	pack_bytes(out, &s->regs, sizeof(s->regs));
	pack_bytes(out, &s->sregs, sizeof(s->sregs));
	pack_bytes(out, &s->events, sizeof(s->events));
	pack_bytes(out, &s->debugregs, sizeof(s->debugregs));
	pack_xcrs(out, &s->xcrs);
	pack_sized(out, s->xsave, s->xsave_size);
	pack_bytes(out, &s->lapic, sizeof(s->lapic));
	pack_u32(out, s->nr_msrs);
	for (uint32_t i = 0; i < s->nr_msrs; i++) {
		pack_u32(out, s->msrs[i].index);
		pack_u64(out, s->msrs[i].data);
	}
	pack_u32(out, s->nr_regs_more);
	for (uint32_t i = 0; i < s->nr_regs_more; i++) {
		pack_u64(out, s->regs_more[i].id);
		pack_u64(out, s->regs_more[i].value);
	}
	pack_sized(out, s->nested, s->nested_size);
}

/* ---- reading; what is missing fails the reader ---- */

/* Room for @nr elements, at least one; a reader that is short of so many bytes has failed before. */
static void *unpack_room(struct unpack *in, uint32_t nr, size_t size)
{
	void *room = calloc((size_t)nr + 1, size);

	if (!room)
		unpack_fail(in);
	return room;
}

static bool unpack_cpuid(struct unpack *in, struct vcpu_saved *s)
{
	uint32_t nr = unpack_u32_max(in, VCPU_SAVED_CPUID_MAX);

	s->cpuid = unpack_room(in, nr, sizeof(*s->cpuid));
	if (!s->cpuid)
		return false;
	for (uint32_t i = 0; i < nr; i++) {
		struct kvm_cpuid_entry2 *e = &s->cpuid[i];

		e->function = unpack_u32(in);
		e->index = unpack_u32(in);
		e->flags = unpack_u32(in);
		e->eax = unpack_u32(in);
		e->ebx = unpack_u32(in);
		e->ecx = unpack_u32(in);
		e->edx = unpack_u32(in);
	}
	s->nr_cpuid = nr;
	return true;
}

static void unpack_xcrs(struct unpack *in, struct kvm_xcrs *xcrs)
{
	xcrs->nr_xcrs = unpack_u32_max(in, KVM_MAX_XCRS);
	for (uint32_t i = 0; i < xcrs->nr_xcrs; i++) {
		xcrs->xcrs[i].xcr = unpack_u32(in);
		xcrs->xcrs[i].value = unpack_u64(in);
	}
}

static bool unpack_msrs(struct unpack *in, struct vcpu_saved *s)
{
	uint32_t nr = unpack_u32_max(in, VCPU_SAVED_MSRS_MAX);

	s->msrs = unpack_room(in, nr, sizeof(*s->msrs));
	if (!s->msrs)
		return false;
	for (uint32_t i = 0; i < nr; i++) {
		s->msrs[i].index = unpack_u32(in);
		s->msrs[i].data = unpack_u64(in);
	}
	s->nr_msrs = nr;
	return true;
}

static bool unpack_regs_more(struct unpack *in, struct vcpu_saved *s)
{
	uint32_t nr = unpack_u32_max(in, VCPU_SAVED_REGS_MAX);

	s->regs_more = unpack_room(in, nr, sizeof(*s->regs_more));
	if (!s->regs_more)
		return false;
	for (uint32_t i = 0; i < nr; i++) {
		s->regs_more[i].id = unpack_u64(in);
		s->regs_more[i].value = unpack_u64(in);
		/* KVM takes as many bytes as the id says. */
		if ((s->regs_more[i].id & KVM_REG_SIZE_MASK) != KVM_REG_SIZE_U64)
			unpack_fail(in);
	}
	s->nr_regs_more = nr;
	return true;
}

/* Bytes with their size in front, at least @min of them, zeros behind; NULL after a failure. */
static void *unpack_sized(struct unpack *in, uint32_t min, uint32_t max, uint32_t *ret_size)
{
	uint32_t size = unpack_u32_max(in, max);
	const void *raw;
	void *bytes;

	if (size < min)
		unpack_fail(in);
	raw = unpack_raw(in, size);
	if (unpack_failed(in))
		return NULL;
	bytes = unpack_room(in, size, 1);
	if (!bytes)
		return NULL;
	if (size)
		memcpy(bytes, raw, size);
	*ret_size = size;
	return bytes;
}

/* The nested state says its own size again. */
static bool unpack_nested(struct unpack *in, struct vcpu_saved *s)
{
	uint32_t size = 0;

	s->nested = unpack_sized(in, 0, VCPU_SAVED_NESTED_MAX, &size);
	if (!s->nested)
		return false;
	if (size && (size < sizeof(*s->nested) || s->nested->size != size))
		unpack_fail(in);
	s->nested_size = size;
	return true;
}

int vcpu_saved_unpack(struct vcpu_saved *s, struct unpack *in, struct err **err)
{
	s->apic_id = unpack_u32(in);
	if (!unpack_cpuid(in, s))
		goto out;
	s->tsc_khz = unpack_u32(in);
	s->has_tsc_offset = unpack_bool(in);
	s->tsc_offset = unpack_u64(in);
	s->mp_state.mp_state = unpack_u32(in);
	unpack_bytes(in, &s->regs, sizeof(s->regs));
	unpack_bytes(in, &s->sregs, sizeof(s->sregs));
	unpack_bytes(in, &s->events, sizeof(s->events));
	unpack_bytes(in, &s->debugregs, sizeof(s->debugregs));
	unpack_xcrs(in, &s->xcrs);
	s->xsave = unpack_sized(in, sizeof(struct kvm_xsave), VCPU_SAVED_XSAVE_MAX, &s->xsave_size);
	unpack_bytes(in, &s->lapic, sizeof(s->lapic));
	if (unpack_msrs(in, s) && unpack_regs_more(in, s))
		unpack_nested(in, s);
out:
	if (unpack_ended(in))
		return 0;
	unpack_fail(in);
	return err_set(err, EINVAL, "the state of the vCPU is cut off or garbled");
}
