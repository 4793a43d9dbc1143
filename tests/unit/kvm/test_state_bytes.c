/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved state that is not what it should be, and kernels that lack or refuse things: each is a
 * sentence, or loaded, never more. vcpu.h, vcpu_saved.h, kvm.h. The linker puts __wrap_ioctl() between
 * the code under test and the real KVM. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "tests/unit/kvm/move.h"
#include "vmm/kvm/vcpu_internal.h"
#include "vmm/kvm/vcpu_saved.h"
#include "vmm/machine/cpuid.h"

int __real_ioctl(int fd, unsigned long request, unsigned long arg);
int __wrap_ioctl(int fd, unsigned long request, ...);

/* What the kernel pretends; one at a time, hence at file scope. The test's thread's. */
static struct kernel {
	unsigned long fail_request; /* fails with EINVAL; 0: none */
	int no_capability;          /* KVM_CHECK_EXTENSION of it says 0; 0: none */
	int tsc_khz;                /* KVM_GET_TSC_KHZ; 0: as it is */
	uint32_t refused_msr;       /* KVM_SET_MSRS of it fails; 0: none */
} kernel;

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	if (request == KVM_CHECK_EXTENSION && kernel.no_capability &&
	    kernel.no_capability == (int)arg)
		return 0;
	if (request == KVM_GET_TSC_KHZ && kernel.tsc_khz)
		return kernel.tsc_khz;
	if (request == KVM_SET_MSRS && kernel.refused_msr &&
	    ((struct kvm_msrs *)arg)->entries[0].index == kernel.refused_msr)
		return 0;
	if (request == kernel.fail_request && request) {
		errno = EINVAL;
		return -1;
	}
	return __real_ioctl(fd, request, arg);
}

static int setup(void **state)
{
	struct move *mv = malloc(sizeof(*mv));

	assert_non_null(mv);
	memset(&kernel, 0, sizeof(kernel));
	move_init(mv);
	*state = mv;
	return 0;
}

static int teardown(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	move_done(*state);
	free(*state);
	return 0;
}

static int load(struct machine *m, uint32_t version, const void *bytes, size_t size,
		struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);

	return vcpus_load(m->vcpus, 0, version, &in, err);
}

/* Its sentence has @part in it; *err is ended. */
static void check_refused(int ret, struct err **err, const char *part)
{
	assert_int_equal(ret, -EINVAL);
	assert_non_null(*err);
	if (!strstr(err_message(*err), part))
		fail_msg("'%s' does not say '%s'", err_message(*err), part);
	err_free(*err);
	*err = NULL;
}

/* ---- bytes ---- */

static void test_cut_everywhere(void **state)
{
	struct move *mv = *state;
	struct pack bytes = move_save(mv->from, 0);

	for (size_t size = 0; size < bytes.size; size++) {
		struct err *err = NULL;
		/* Its own block, so that nobody reads behind its end unnoticed. */
		void *cut = malloc(size + 1);
		int ret;

		assert_non_null(cut);
		cut = realloc(cut, size ? size : 1);
		memcpy(cut, bytes.bytes, size);
		ret = load(mv->to, VCPU_STATE_VERSION, cut, size, &err);
		check_refused(ret, &err, "cut off or garbled");
		free(cut);
	}
	/* Nothing of it was told to KVM: it can still be loaded, and more than there should be not. */
	pack_u8(&bytes, 0);
	assert_int_equal(load(mv->to, VCPU_STATE_VERSION, bytes.bytes, bytes.size, NULL), -EINVAL);
	assert_int_equal(load(mv->to, VCPU_STATE_VERSION, bytes.bytes, bytes.size - 1, NULL), 0);
	pack_done(&bytes);
}

/* Each byte changed, in two ways. What is only a value of a register may be loaded. */
static void test_garbled_everywhere(void **state)
{
	struct move *mv = *state;
	struct pack bytes = move_save(mv->from, 0);
	unsigned int refused = 0;

	/* The reader alone, for each byte. */
	for (size_t at = 0; at < bytes.size; at++) {
		for (unsigned int how = 0; how < 2; how++) {
			struct vcpu_saved saved = {.nr_msrs = 0};
			struct unpack in = unpack_begin(bytes.bytes, bytes.size);

			bytes.bytes[at] ^= how ? 0xff : 0x01;
			if (vcpu_saved_unpack(&saved, &in, NULL))
				refused++;
			vcpu_saved_done(&saved);
			bytes.bytes[at] ^= how ? 0xff : 0x01;
		}
	}
	assert_true(refused > 0);
	/* And KVM, which has the last word. */
	for (size_t at = 0; at < bytes.size; at += 17) {
		struct err *err = NULL;
		int ret;

		bytes.bytes[at] ^= 0xff;
		ret = load(mv->to, VCPU_STATE_VERSION, bytes.bytes, bytes.size, &err);
		assert_true(ret == 0 || (ret < 0 && err && *err_message(err)));
		err_free(err);
		bytes.bytes[at] ^= 0xff;
	}
	pack_done(&bytes);
}

static void test_other_versions_and_vcpus(void **state)
{
	struct move *mv = *state;
	struct pack bytes = move_save(mv->from, 1);
	struct err *err = NULL;
	int ret;

	ret = load(mv->to, VCPU_STATE_VERSION + 1, bytes.bytes, bytes.size, &err);
	check_refused(ret, &err, "version 2");
	err = NULL;
	ret = load(mv->to, VCPU_STATE_VERSION, bytes.bytes, bytes.size, &err);
	check_refused(ret, &err, "had APIC id 1, here it has 0");
	pack_done(&bytes);
}

typedef int part_save(struct kvm_vm *kvm, struct pack *out, struct err **err);
typedef int part_load(struct kvm_vm *kvm, uint32_t version, struct unpack *in, struct err **err);

static void part_everywhere(struct move *mv, part_save *save, part_load *load_part,
			    uint32_t version)
{
	struct pack bytes = {.failed = false};
	struct err *err = NULL;
	struct unpack in;
	int ret;

	assert_int_equal(save(mv->from->kvm, &bytes, NULL), 0);
	for (size_t size = 0; size < bytes.size; size++) {
		err = NULL;
		in = unpack_begin(bytes.bytes, size);
		check_refused(load_part(mv->to->kvm, version, &in, &err), &err,
			      "cut off or garbled");
	}
	for (size_t at = 0; at < bytes.size; at++) {
		err = NULL;
		bytes.bytes[at] ^= 0xff;
		in = unpack_begin(bytes.bytes, bytes.size);
		ret = load_part(mv->to->kvm, version, &in, &err);
		assert_true(ret == 0 ? !err : ret < 0 && err);
		err_free(err);
		bytes.bytes[at] ^= 0xff;
	}
	err = NULL;
	in = unpack_begin(bytes.bytes, bytes.size);
	check_refused(load_part(mv->to->kvm, version + 1, &in, &err), &err, "is not known here");
	in = unpack_begin(bytes.bytes, bytes.size);
	assert_int_equal(load_part(mv->to->kvm, version, &in, NULL), 0);
	pack_done(&bytes);
}

static void test_controllers_and_clock(void **state)
{
	part_everywhere(*state, kvm_irqchip_save, kvm_irqchip_load, KVM_IRQCHIP_STATE_VERSION);
	part_everywhere(*state, kvm_clock_save, kvm_clock_load, KVM_CLOCK_STATE_VERSION);
}

/* ---- what a vCPU has ---- */

/* The state of vCPU 0 as numbers; the caller ends it. */
static struct vcpu_saved save_numbers(struct machine *m)
{
	struct vcpu_saved saved = {.nr_msrs = 0};
	struct pack bytes = move_save(m, 0);
	struct unpack in = unpack_begin(bytes.bytes, bytes.size);

	assert_int_equal(vcpu_saved_unpack(&saved, &in, NULL), 0);
	pack_done(&bytes);
	return saved;
}

static int load_numbers(struct machine *m, const struct vcpu_saved *saved, struct err **err)
{
	struct pack bytes = {.failed = false};
	int ret;

	vcpu_saved_pack(saved, &bytes);
	ret = load(m, VCPU_STATE_VERSION, bytes.bytes, bytes.size, err);
	pack_done(&bytes);
	return ret;
}

static struct kvm_cpuid_entry2 *cpuid_entry(struct vcpu_saved *saved, uint32_t function)
{
	for (uint32_t i = 0; i < saved->nr_cpuid; i++)
		if (saved->cpuid[i].function == function)
			return &saved->cpuid[i];
	fail_msg("no leaf %#x", function);
	return NULL;
}

#define CX16 (1u << 13) /* leaf 1, ECX */

GUEST(guest_count, "1: incl 0x2000\n"
		   "jmp 1b");

/* What the vCPU is told, as the kernel has it. */
static uint32_t told_ecx(const struct machine *m)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	uint32_t ecx = 0;

	assert_non_null(cpuid);
	cpuid->nent = CPUID_ENTRIES_MAX;
	assert_int_equal(ioctl(m->vcpus->vcpu[0].fd, KVM_GET_CPUID2, cpuid), 0);
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			ecx = cpuid->entries[i].ecx;
	free(cpuid);
	return ecx;
}

/* A guest with fewer features than this host has keeps what it was told, after a reset as well. */
static void test_fewer_features(void **state)
{
	struct move *mv = *state;
	struct vcpu_saved saved = save_numbers(mv->from);
	uint32_t told = told_ecx(mv->to);

	assert_true(told & CX16);
	cpuid_entry(&saved, 1)->ecx &= ~CX16;
	assert_int_equal(load_numbers(mv->to, &saved, NULL), 0);
	vcpu_saved_done(&saved);
	assert_int_equal(told_ecx(mv->to), told & ~CX16);
	saved = save_numbers(mv->to);
	assert_int_equal(cpuid_entry(&saved, 1)->ecx & CX16, 0);
	vcpu_saved_done(&saved);
	machine_boot(mv->to, guest_count);
	vcpus_resume(mv->to->vcpus);
	machine_wait_change(mv->to, GUEST_DATA, 0);
	vcpus_pause(mv->to->vcpus);
	assert_int_equal(told_ecx(mv->to), told & ~CX16);
}

static void test_more_features(void **state)
{
	struct move *mv = *state;
	struct vcpu_saved saved = save_numbers(mv->from);
	struct err *err = NULL;

	/* Nobody has this bit (leaf 1, EDX bit 10 is reserved). */
	cpuid_entry(&saved, 1)->edx |= 1u << 10;
	check_refused(load_numbers(mv->to, &saved, &err), &err, "leaf 0x1, subleaf 0, EDX bit 10");
	vcpu_saved_done(&saved);
}

#define MSR_SYSENTER_CS 0x174

static void test_refused_msrs(void **state)
{
	struct move *mv = *state;
	struct vcpu_saved saved = save_numbers(mv->from);
	struct err *err = NULL;
	struct kvm_msr_entry *msr = NULL;

	for (uint32_t i = 0; i < saved.nr_msrs; i++)
		if (saved.msrs[i].index == MSR_SYSENTER_CS)
			msr = &saved.msrs[i];
	assert_non_null(msr);
	kernel.refused_msr = MSR_SYSENTER_CS;
	/* Nothing is lost where it is 0 or what it is here already. */
	msr->data = 0;
	assert_int_equal(load_numbers(mv->to, &saved, NULL), 0);
	msr->data = 0x42;
	check_refused(load_numbers(mv->to, &saved, &err), &err, "0x42 of MSR 0x174");
	kernel.refused_msr = 0;
	assert_int_equal(load_numbers(mv->to, &saved, NULL), 0);
	kernel.refused_msr = MSR_SYSENTER_CS;
	assert_int_equal(load_numbers(mv->to, &saved, NULL), 0);
	vcpu_saved_done(&saved);
}

static void test_speed_of_the_counter(void **state)
{
	struct move *mv = *state;
	struct vcpu_saved saved;
	struct err *err = NULL;

	kernel.tsc_khz = 2000000;
	saved = save_numbers(mv->from);
	assert_int_equal(saved.tsc_khz, 2000000);
	/* The kernel scales, or it is no matter, or it is. */
	kernel.tsc_khz = 3000000;
	saved.tsc_khz = 3000700;
	kernel.fail_request = KVM_SET_TSC_KHZ;
	assert_int_equal(load_numbers(mv->to, &saved, NULL), 0);
	saved.tsc_khz = 3001000;
	check_refused(load_numbers(mv->to, &saved, &err), &err,
		      "runs at 3001000 kHz, this host's at 3000000 kHz");
	saved.tsc_khz = 0;
	assert_int_equal(load_numbers(mv->to, &saved, NULL), 0);
	vcpu_saved_done(&saved);
}

static void test_more_floating_point(void **state)
{
	struct move *mv = *state;
	struct vcpu_saved saved = save_numbers(mv->from);
	struct err *err = NULL;
	uint8_t *xsave = calloc(1, saved.xsave_size + 64);

	assert_non_null(xsave);
	memcpy(xsave, saved.xsave, saved.xsave_size);
	free(saved.xsave);
	saved.xsave = xsave;
	saved.xsave_size += 64;
	assert_int_equal(load_numbers(mv->to, &saved, NULL), 0);
	xsave[saved.xsave_size - 1] = 1;
	check_refused(load_numbers(mv->to, &saved, &err), &err, "floating-point registers");
	vcpu_saved_done(&saved);
}

/* ---- kernels ---- */

static void test_refused_steps(void **state)
{
	static const struct {
		unsigned long request;
		const char *part;
	} saves[] =
		{
			{KVM_GET_MP_STATE, "multiprocessing state"},
			{KVM_GET_VCPU_EVENTS, "pending events"},
			{KVM_GET_REGS, "registers"},
			{KVM_GET_SREGS2, "segment and control"},
			{KVM_GET_DEBUGREGS, "debug registers"},
			{KVM_GET_LAPIC, "local APIC"},
			{KVM_GET_XSAVE2, "floating-point"},
		},
	  loads[] = {
		  {KVM_SET_MP_STATE, "multiprocessing state"},
		  {KVM_SET_VCPU_EVENTS, "pending events"},
		  {KVM_SET_REGS, "registers"},
		  {KVM_SET_SREGS2, "segment and control"},
		  {KVM_SET_DEBUGREGS, "debug registers"},
		  {KVM_SET_LAPIC, "local APIC"},
		  {KVM_SET_XSAVE, "floating-point"},
	  };
	struct move *mv = *state;
	struct pack bytes = move_save(mv->from, 0), none = {.failed = false};
	struct err *err = NULL;

	if (!kvm_vm_capability(mv->from->kvm, KVM_CAP_SREGS2) ||
	    !kvm_vm_capability(mv->from->kvm, KVM_CAP_XSAVE2))
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(saves); i++) {
		err = NULL;
		kernel.fail_request = saves[i].request;
		check_refused(vcpus_save(mv->from->vcpus, 0, &none, &err), &err, saves[i].part);
		assert_int_equal(none.size, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(loads); i++) {
		err = NULL;
		kernel.fail_request = loads[i].request;
		check_refused(load(mv->to, VCPU_STATE_VERSION, bytes.bytes, bytes.size, &err), &err,
			      loads[i].part);
	}
	kernel.fail_request = 0;
	assert_int_equal(load(mv->to, VCPU_STATE_VERSION, bytes.bytes, bytes.size, NULL), 0);
	pack_done(&bytes);
}

/* From a kernel with more ways to tell to one with fewer, and back. */
static void test_older_kernels(void **state)
{
	static const int capabilities[] = {KVM_CAP_SREGS2, KVM_CAP_XSAVE2, KVM_CAP_NESTED_STATE};
	struct move *mv = *state;

	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		struct pack bytes = move_save(mv->from, 0), again;

		kernel.no_capability = capabilities[i];
		move_load(mv->to, 0, &bytes);
		again = move_save(mv->to, 0);
		kernel.no_capability = 0;
		move_load(mv->from, 0, &again);
		pack_done(&bytes);
		pack_done(&again);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cut_everywhere),
		TEST(test_garbled_everywhere),
		TEST(test_other_versions_and_vcpus),
		TEST(test_controllers_and_clock),
		TEST(test_fewer_features),
		TEST(test_more_features),
		TEST(test_refused_msrs),
		TEST(test_speed_of_the_counter),
		TEST(test_more_floating_point),
		TEST(test_refused_steps),
		TEST(test_older_kernels),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: state_bytes", tests, NULL, NULL);
}
