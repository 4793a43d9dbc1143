/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every kind of register that KVM keeps of a vCPU is the same after a move, on the real KVM: each is
 * changed from its power-on value first. vcpu.h, vcpu_saved.h. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tests/unit/kvm/move.h"
#include "vmm/kvm/vcpu_internal.h"

#define MSR_TSC                0x10
#define MSR_HV_VP_RUNTIME      0x40000010
#define MSR_HV_TIME_REF_COUNT  0x40000020
#define MSR_SYSENTER_CS        0x174
#define MSR_PAT                0x277
#define MSR_STAR               0xc0000081
#define MSR_KERNEL_GS_BASE     0xc0000102
#define MSR_KVM_SYSTEM_TIME    0x4b564d01
#define MSR_KVM_WALL_CLOCK     0x4b564d00
#define MSR_KVM_WALL_CLOCK_OLD 0x11

/* Bytes of struct kvm_xsave: the control word, XMM0, and the bits of what is in it. */
#define XSAVE_FCW    0
#define XSAVE_XMM    160
#define XSAVE_XSTATE 512

static int setup(void **state)
{
	struct move *mv = malloc(sizeof(*mv));

	assert_non_null(mv);
	move_init(mv);
	*state = mv;
	return 0;
}

static int teardown(void **state)
{
	move_done(*state);
	free(*state);
	return 0;
}

static int fd_of(const struct machine *m, unsigned int index)
{
	return m->vcpus->vcpu[index].fd;
}

static void move_vcpu(struct move *mv, unsigned int index)
{
	struct pack bytes = move_save(mv->from, index);

	move_load(mv->to, index, &bytes);
	pack_done(&bytes);
}

/* What a request reads differs between the two before vCPU 0 is moved, and not afterwards. */
static void check_moves(struct move *mv, unsigned long request, size_t size)
{
	uint8_t *before = calloc(1, size), *from = calloc(1, size), *to = calloc(1, size);

	assert_true(before && from && to);
	assert_true(ioctl(fd_of(mv->to, 0), request, before) >= 0);
	assert_true(ioctl(fd_of(mv->from, 0), request, from) >= 0);
	assert_memory_not_equal(from, before, size);
	move_vcpu(mv, 0);
	assert_true(ioctl(fd_of(mv->to, 0), request, to) >= 0);
	assert_memory_equal(from, to, size);
	free(before);
	free(from);
	free(to);
}

#define SET(request, value) assert_true(ioctl(fd_of(mv->from, 0), request, value) >= 0)
#define GET(request, value) assert_true(ioctl(fd_of(mv->from, 0), request, value) >= 0)

static void test_registers(void **state)
{
	struct move *mv = *state;
	struct kvm_regs regs = {
		.rax = 0x0102030405060708,
		.rbx = 2,
		.rcx = 3,
		.rdx = 4,
		.rsi = 5,
		.rdi = 6,
		.rsp = 0x7000,
		.rbp = 8,
		.r8 = 9,
		.r9 = 10,
		.r10 = 11,
		.r11 = 12,
		.r12 = 13,
		.r13 = 14,
		.r14 = 15,
		.r15 = 0x8000000000000001,
		.rip = 0x1234,
		.rflags = 0x8d7,
	};

	SET(KVM_SET_REGS, &regs);
	check_moves(mv, KVM_GET_REGS, sizeof(regs));
}

static void test_segment_and_control_registers(void **state)
{
	struct move *mv = *state;
	struct kvm_sregs sregs;

	GET(KVM_GET_SREGS, &sregs);
	sregs.cr2 = 0x1122334455667788;
	sregs.cr4 |= 0x600;
	sregs.cr8 = 5;
	sregs.gdt.base = 0x4000;
	sregs.gdt.limit = 0x17;
	sregs.idt.base = 0x5000;
	sregs.idt.limit = 0x3ff;
	sregs.fs.base = 0x12345000;
	sregs.gs.base = 0x23456000;
	sregs.es.limit = 0xfffff;
	sregs.tr.base = 0x6000;
	SET(KVM_SET_SREGS, &sregs);
	check_moves(mv, KVM_GET_SREGS, sizeof(sregs));
}

static void test_floating_point(void **state)
{
	struct move *mv = *state;
	unsigned long request;
	size_t size = vcpu_xsave_size(mv->from->kvm, &request);
	uint8_t *xsave = calloc(1, size);
	uint64_t present;

	assert_non_null(xsave);
	GET(request, xsave);
	memcpy(&present, xsave + XSAVE_XSTATE, sizeof(present));
	present |= 3;
	memcpy(xsave + XSAVE_XSTATE, &present, sizeof(present));
	xsave[XSAVE_FCW] = 0x7e;
	xsave[XSAVE_FCW + 1] = 0x03;
	for (unsigned int i = 0; i < 64; i++)
		xsave[XSAVE_XMM + i] = (uint8_t)(i * 3 + 1);
	SET(KVM_SET_XSAVE, xsave);
	check_moves(mv, request, size);
	GET(request, xsave);
	assert_int_equal(xsave[XSAVE_XMM + 63], 63 * 3 + 1);
	free(xsave);
}

static void test_extended_control_registers(void **state)
{
	struct move *mv = *state;
	struct kvm_xcrs xcrs;

	memset(&xcrs, 0, sizeof(xcrs));
	if (ioctl(fd_of(mv->from, 0), KVM_GET_XCRS, &xcrs) < 0 || !xcrs.nr_xcrs)
		skip();
	xcrs.xcrs[0].value ^= 2;
	SET(KVM_SET_XCRS, &xcrs);
	check_moves(mv, KVM_GET_XCRS, sizeof(xcrs));
}

static void test_debug_registers(void **state)
{
	struct kvm_debugregs debugregs;
	struct move *mv = *state;

	GET(KVM_GET_DEBUGREGS, &debugregs);
	for (unsigned int i = 0; i < 4; i++)
		debugregs.db[i] = 0x1000 + i;
	debugregs.dr7 |= 0x2;
	SET(KVM_SET_DEBUGREGS, &debugregs);
	check_moves(mv, KVM_GET_DEBUGREGS, sizeof(debugregs));
}

static void test_pending_events(void **state)
{
	struct kvm_vcpu_events events;
	struct move *mv = *state;

	GET(KVM_GET_VCPU_EVENTS, &events);
	events.nmi.pending = 1;
	events.nmi.masked = 1;
	events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	SET(KVM_SET_VCPU_EVENTS, &events);
	check_moves(mv, KVM_GET_VCPU_EVENTS, sizeof(events));
}

/* An exception whose address is not in CR2 yet, where the kernel tells so much. */
static void test_pending_exception(void **state)
{
	struct kvm_vcpu_events events;
	struct move *mv = *state;

	if (!kvm_vm_capability(mv->from->kvm, KVM_CAP_EXCEPTION_PAYLOAD))
		skip();
	GET(KVM_GET_VCPU_EVENTS, &events);
	assert_true(events.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
	events.exception.pending = 1;
	events.exception.nr = 14;
	events.exception.has_error_code = 1;
	events.exception.error_code = 2;
	events.exception_has_payload = 1;
	events.exception_payload = 0xdeadbeef;
	SET(KVM_SET_VCPU_EVENTS, &events);
	check_moves(mv, KVM_GET_VCPU_EVENTS, sizeof(events));
}

static void test_end_by_triple_fault(void **state)
{
	struct kvm_vcpu_events events;
	struct move *mv = *state;

	if (!kvm_vm_capability(mv->from->kvm, KVM_CAP_X86_TRIPLE_FAULT_EVENT))
		skip();
	GET(KVM_GET_VCPU_EVENTS, &events);
	assert_true(events.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	events.triple_fault.pending = 1;
	SET(KVM_SET_VCPU_EVENTS, &events);
	check_moves(mv, KVM_GET_VCPU_EVENTS, sizeof(events));
	/* It ends there, too. */
	vcpus_resume(mv->to->vcpus);
	sem_wait(&mv->to->said);
	vcpus_pause(mv->to->vcpus);
	assert_int_equal(atomic_load(&mv->to->shutdowns), 1);
}

static void test_multiprocessing_state(void **state)
{
	struct kvm_mp_state mp_state = {.mp_state = KVM_MP_STATE_HALTED};
	struct move *mv = *state;

	SET(KVM_SET_MP_STATE, &mp_state);
	check_moves(mv, KVM_GET_MP_STATE, sizeof(mp_state));
}

static void lapic_set(struct kvm_lapic_state *lapic, unsigned int reg, uint32_t value)
{
	memcpy(lapic->regs + reg, &value, sizeof(value));
}

static void test_local_apic(void **state)
{
	struct kvm_lapic_state lapic;
	struct move *mv = *state;

	GET(KVM_GET_LAPIC, &lapic);
	lapic_set(&lapic, 0x80, 0x30);    /* task priority */
	lapic_set(&lapic, 0xf0, 0x1ff);   /* on */
	lapic_set(&lapic, 0x110, 1 << 1); /* in service: 0x21 */
	lapic_set(&lapic, 0x210, 1 << 4); /* requested: 0x24 */
	lapic_set(&lapic, 0x320, 0x10031);
	lapic_set(&lapic, 0x350, 0x10700);
	SET(KVM_SET_LAPIC, &lapic);
	check_moves(mv, KVM_GET_LAPIC, sizeof(lapic));
	/* The same to a guest that asks by another way. */
	assert_true(ioctl(fd_of(mv->to, 0), KVM_GET_LAPIC, &lapic) >= 0);
	assert_int_equal(lapic.regs[0x210], 1 << 4);
}

static uint64_t msr_get(const struct machine *m, uint32_t index)
{
	struct kvm_msr_entry msr = {.index = index};

	assert_true(vcpu_msr_io(fd_of(m, 0), KVM_GET_MSRS, &msr));
	return msr.data;
}

/* False where this KVM does not have it. */
static bool msr_set(const struct machine *m, uint32_t index, uint64_t value)
{
	struct kvm_msr_entry msr = {.index = index, .data = value};

	return vcpu_msr_io(fd_of(m, 0), KVM_SET_MSRS, &msr);
}

/* All that KVM lists, but for what counts on. */
static void test_msrs(void **state)
{
	static const struct kvm_msr_entry changed[] = {
		{.index = MSR_SYSENTER_CS, .data = 0x42},
		{.index = MSR_PAT, .data = 0x0606060606060600},
		{.index = MSR_STAR, .data = 0x0023001000000000},
		{.index = MSR_KERNEL_GS_BASE, .data = 0x7fff12345678},
		{.index = MSR_KVM_SYSTEM_TIME, .data = 0x6001},
	};
	struct move *mv = *state;
	struct kvm_msr_list *list = kvm_msr_indices(mv->from->kvm, NULL);
	unsigned int same = 0;

	assert_non_null(list);
	for (size_t i = 0; i < ARRAY_SIZE(changed); i++) {
		assert_true(msr_set(mv->from, changed[i].index, changed[i].data));
		assert_int_not_equal(msr_get(mv->to, changed[i].index), changed[i].data);
	}
	move_vcpu(mv, 0);
	for (size_t i = 0; i < ARRAY_SIZE(changed); i++)
		assert_int_equal(msr_get(mv->to, changed[i].index), changed[i].data);
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		struct kvm_msr_entry from = {.index = list->indices[i]}, to = from;

		if (from.index == MSR_TSC || from.index == MSR_HV_VP_RUNTIME ||
		    from.index == MSR_HV_TIME_REF_COUNT ||
		    !vcpu_msr_io(fd_of(mv->from, 0), KVM_GET_MSRS, &from))
			continue;
		assert_true(vcpu_msr_io(fd_of(mv->to, 0), KVM_GET_MSRS, &to));
		assert_int_equal(from.data, to.data);
		same++;
	}
	assert_true(same > ARRAY_SIZE(changed));
	free(list);
}

/* The page of the wall clock is the guest's; loading does not have KVM write there. */
static void test_wall_clock_is_left_alone(void **state)
{
	struct move *mv = *state;

	if (!msr_set(mv->from, MSR_KVM_WALL_CLOCK, 0x7000))
		skip();
	assert_int_equal(msr_get(mv->from, MSR_KVM_WALL_CLOCK_OLD), 0x7000);
	assert_int_not_equal(machine_peek(mv->from, 0x7000), 0);
	move_vcpu(mv, 0);
	for (unsigned int i = 0; i < 16; i += 4)
		assert_int_equal(machine_peek(mv->to, 0x7000 + i), 0);
}

static bool tsc_offset(const struct machine *m, unsigned int index, unsigned long request,
		       uint64_t *offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return ioctl(fd_of(m, index), request, &attr) == 0;
}

/* Counters that are apart stay so. */
static void test_distance_of_counters(void **state)
{
	struct move *mv = *state;
	uint64_t offset, set, from[MOVE_VCPUS], to[MOVE_VCPUS];

	/* There are KVMs that know it and have only one. */
	if (!tsc_offset(mv->from, 1, KVM_GET_DEVICE_ATTR, &offset))
		skip();
	offset += 123456789;
	if (!tsc_offset(mv->from, 1, KVM_SET_DEVICE_ATTR, &offset) ||
	    !tsc_offset(mv->from, 1, KVM_GET_DEVICE_ATTR, &set) || set != offset)
		skip();
	for (unsigned int i = 0; i < MOVE_VCPUS; i++) {
		move_vcpu(mv, i);
		assert_true(tsc_offset(mv->from, i, KVM_GET_DEVICE_ATTR, &from[i]));
		assert_true(tsc_offset(mv->to, i, KVM_GET_DEVICE_ATTR, &to[i]));
	}
	assert_int_equal(to[1] - to[0], from[1] - from[0]);
	assert_int_not_equal(to[1], to[0]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_registers),
		TEST(test_segment_and_control_registers),
		TEST(test_floating_point),
		TEST(test_extended_control_registers),
		TEST(test_debug_registers),
		TEST(test_pending_events),
		TEST(test_pending_exception),
		TEST(test_end_by_triple_fault),
		TEST(test_multiprocessing_state),
		TEST(test_local_apic),
		TEST(test_msrs),
		TEST(test_wall_clock_is_left_alone),
		TEST(test_distance_of_counters),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: registers", tests, NULL, NULL);
}
