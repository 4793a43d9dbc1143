/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * KVM with a kernel that lacks or refuses things: the linker puts __wrap_ioctl() between the code
 * under test and the real KVM. What was asked of the kernel is looked at as well, where the kernel
 * itself does not tell. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "tests/unit/kvm/fixture.h"

#define CAP_DISABLE_QUIRKS2 213
#define QUIRK_SLOT_ZAP_ALL  (1u << 7)

int __real_ioctl(int fd, unsigned long request, unsigned long arg);
int __wrap_ioctl(int fd, unsigned long request, ...);

/*
 * What the kernel pretends, and what it was asked; one at a time, hence at file scope. Set by the
 * test's thread while no vCPU runs, but for the atomics.
 */
static struct kernel {
	_Atomic unsigned long fail_request; /* fails with fail_errno; 0: none */
	_Atomic int fail_errno;
	atomic_uint failed;               /* how often it did */
	int capability, capability_value; /* KVM_CHECK_EXTENSION of it; -1: none */
	int api_version;
	struct kvm_enable_cap enabled; /* the last KVM_ENABLE_CAP that is about quirks */
	unsigned int enables;
	/* the last routing table, and whether it was accepted */
	struct kvm_irq_routing_entry routes[128];
	unsigned int nroutes, tables;
	struct kvm_irqfd irqfd; /* the last one */
	unsigned int msrs_set,
		clocks_set; /* MSRs written, and those that are time stamp counters */
} kernel;

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	if (request == KVM_CHECK_EXTENSION && kernel.capability == (int)arg)
		return kernel.capability_value;
	if (request == KVM_GET_API_VERSION && kernel.api_version)
		return kernel.api_version;
	if (request == KVM_ENABLE_CAP &&
	    ((struct kvm_enable_cap *)arg)->cap == CAP_DISABLE_QUIRKS2) {
		memcpy(&kernel.enabled, (void *)arg, sizeof(kernel.enabled));
		kernel.enables++;
		if (kernel.capability_value)
			return atomic_load(&kernel.fail_errno) ? (errno = EINVAL, -1) : 0;
	}
	if (request == KVM_SET_GSI_ROUTING) {
		const struct kvm_irq_routing *table = (void *)arg;

		assert_true(table->nr <= ARRAY_SIZE(kernel.routes));
		memcpy(kernel.routes, table->entries, table->nr * sizeof(table->entries[0]));
		kernel.nroutes = table->nr;
		kernel.tables++;
	}
	if (request == KVM_SET_MSRS) {
		const struct kvm_msrs *msrs = (void *)arg;

		for (uint32_t i = 0; i < msrs->nmsrs; i++)
			kernel.clocks_set +=
				msrs->entries[i].index == 0x10 || msrs->entries[i].index == 0x3b;
		kernel.msrs_set += msrs->nmsrs;
	}
	if (request == KVM_IRQFD)
		memcpy(&kernel.irqfd, (void *)arg, sizeof(kernel.irqfd));
	if (request == atomic_load(&kernel.fail_request) && request) {
		errno = atomic_load(&kernel.fail_errno);
		atomic_fetch_add(&kernel.failed, 1);
		return -1;
	}
	return __real_ioctl(fd, request, arg);
}

static int setup(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	kernel.capability = -1;
	return 0;
}

static void expect_no_vm(const char *part)
{
	struct err *err = NULL;

	assert_null(kvm_vm_new(&err));
	assert_non_null(err);
	if (!strstr(err_message(err), part))
		fail_msg("'%s' does not say '%s'", err_message(err), part);
	err_free(err);
}

static void test_missing_capabilities(void **state)
{
	const struct {
		int number;
		const char *name;
	} needed[] = {
		{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
		{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
		{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
		{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
		{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
		{KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH"},
		{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
		{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(needed); i++) {
		kernel.capability = needed[i].number;
		expect_no_vm(needed[i].name);
	}
	kernel.capability = -1;
	kernel.api_version = 11;
	expect_no_vm("API version 11");
}

static void test_refused_steps(void **state)
{
	const struct {
		unsigned long request;
		const char *part;
	} steps[] = {
		{KVM_CREATE_VM, "create a virtual machine"},
		{KVM_GET_VCPU_MMAP_SIZE, "size of a vCPU"},
		{KVM_SET_IDENTITY_MAP_ADDR, "place of its own pages"},
		{KVM_SET_TSS_ADDR, "place of its own pages"},
		{KVM_CREATE_IRQCHIP, "interrupt controllers"},
		{KVM_SET_GSI_ROUTING, "wiring of the interrupts"},
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
		kernel.fail_request = steps[i].request;
		kernel.fail_errno = EPERM;
		expect_no_vm(steps[i].part);
		expect_no_vm(strerror(EPERM));
	}
}

/* Slots are zapped alone where the kernel offers it, nothing else is changed, and it is no must. */
static void test_slot_zap_quirk(void **state)
{
	const struct {
		int offered, error;
		unsigned int enables;
	} cases[] = {
		{0, 0, 0},         {0x7f, 0, 0}, {0xff, 0, 1}, {QUIRK_SLOT_ZAP_ALL, 0, 1},
		{0xff, EINVAL, 1},
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct kvm_vm *kvm;

		memset(&kernel, 0, sizeof(kernel));
		kernel.capability = CAP_DISABLE_QUIRKS2;
		kernel.capability_value = cases[i].offered;
		kernel.fail_errno = cases[i].error;
		kvm = kvm_vm_new(NULL);
		assert_non_null(kvm);
		assert_int_equal(kernel.enables, cases[i].enables);
		if (cases[i].enables) {
			assert_int_equal(kernel.enabled.cap, CAP_DISABLE_QUIRKS2);
			assert_int_equal(kernel.enabled.flags, 0);
			assert_int_equal(kernel.enabled.args[0], QUIRK_SLOT_ZAP_ALL);
		}
		kvm_vm_free(kvm);
	}
}

/* ---- routing ---- */

static unsigned int wired_entries(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < kernel.nroutes; i++)
		n += kernel.routes[i].type == KVM_IRQ_ROUTING_IRQCHIP &&
		     kernel.routes[i].gsi < KVM_WIRED_GSIS;
	return n;
}

/* The data of a message in the last table; 0 when it is not in there. */
static uint32_t routed_data(uint32_t gsi)
{
	for (unsigned int i = 0; i < kernel.nroutes; i++)
		if (kernel.routes[i].gsi == gsi && kernel.routes[i].type == KVM_IRQ_ROUTING_MSI &&
		    kernel.routes[i].u.msi.address_lo == 0xfee00000 &&
		    kernel.routes[i].u.msi.address_hi == 0)
			return kernel.routes[i].u.msi.data;
	return 0;
}

/* kvm.h, I1: every table is complete. 15 inputs go to the PIC too, and input 2 is none. */
static void test_tables_are_complete(void **state)
{
	struct hv_msi msi[3];
	struct machine m;

	(void)state;
	machine_init(&m, 0);
	assert_int_equal(kernel.tables, 1);
	assert_int_equal(wired_entries(), 15 + 23);
	assert_int_equal(kernel.nroutes, 38);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(m.hv->ops->msi_new(m.hv, &msi[i]), 0);
		assert_int_equal(kernel.tables, 1 + i);
		assert_int_equal(m.hv->ops->msi_route(m.hv, &msi[i], true, 0xfee00000, 0x41 + i),
				 0);
		assert_int_equal(kernel.irqfd.fd, msi[i].fd);
		assert_int_equal(kernel.irqfd.gsi, msi[i].gsi);
		assert_int_equal(kernel.irqfd.flags, 0);
	}
	assert_int_equal(wired_entries(), 38);
	assert_int_equal(kernel.nroutes, 41);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(routed_data(msi[i].gsi), 0x41 + i);
	/* The same again, off and on: the kernel need not know. */
	assert_int_equal(m.hv->ops->msi_route(m.hv, &msi[1], false, 0, 0), 0);
	assert_int_equal(m.hv->ops->msi_route(m.hv, &msi[1], true, 0xfee00000, 0x42), 0);
	assert_int_equal(kernel.tables, 4);
	/* A freed one is off its wire, and out of the next table. */
	m.hv->ops->msi_free(m.hv, &msi[1]);
	assert_int_equal(kernel.irqfd.flags, KVM_IRQFD_FLAG_DEASSIGN);
	assert_int_equal(m.hv->ops->msi_route(m.hv, &msi[0], true, 0xfee00000, 0x51), 0);
	assert_int_equal(kernel.nroutes, 40);
	assert_int_equal(routed_data(msi[0].gsi), 0x51);
	assert_int_equal(routed_data(msi[2].gsi), 0x43);
	m.hv->ops->msi_free(m.hv, &msi[0]);
	m.hv->ops->msi_free(m.hv, &msi[2]);
	machine_done(&m);
}

static void test_failed_routes_keep_the_old_message(void **state)
{
	struct hv_msi a, b;
	struct machine m;

	(void)state;
	machine_init(&m, 0);
	assert_int_equal(m.hv->ops->msi_new(m.hv, &a), 0);
	assert_int_equal(m.hv->ops->msi_new(m.hv, &b), 0);
	assert_int_equal(m.hv->ops->msi_route(m.hv, &a, true, 0xfee00000, 0x41), 0);
	kernel.fail_request = KVM_SET_GSI_ROUTING;
	kernel.fail_errno = ENOMEM;
	assert_int_equal(m.hv->ops->msi_route(m.hv, &a, true, 0xfee00000, 0x61), -ENOMEM);
	assert_int_equal(m.hv->ops->msi_route(m.hv, &b, true, 0xfee00000, 0x62), -ENOMEM);
	kernel.fail_request = KVM_IRQFD;
	kernel.fail_errno = EBUSY;
	assert_int_equal(m.hv->ops->msi_route(m.hv, &b, true, 0xfee00000, 0x63), -EBUSY);
	kernel.fail_request = 0;
	assert_int_equal(routed_data(a.gsi), 0x41);
	/* And it can be tried again. */
	assert_int_equal(m.hv->ops->msi_route(m.hv, &b, true, 0xfee00000, 0x63), 0);
	assert_int_equal(kernel.irqfd.fd, b.fd);
	assert_int_equal(routed_data(b.gsi), 0x63);
	m.hv->ops->msi_free(m.hv, &a);
	m.hv->ops->msi_free(m.hv, &b);
	machine_done(&m);
}

/* As many messages as the kernel's table has room for beside the wired inputs. */
static void test_no_more_messages(void **state)
{
	struct hv_msi msi[8];
	struct machine m;
	unsigned int n = 0;

	(void)state;
	machine_init(&m, 0);
	kernel.capability = KVM_CAP_IRQ_ROUTING;
	kernel.capability_value = 2 * KVM_WIRED_GSIS + 4;
	while (n < 8 && m.hv->ops->msi_new(m.hv, &msi[n]) == 0)
		n++;
	assert_int_equal(n, 4);
	assert_int_equal(m.hv->ops->msi_new(m.hv, &msi[7]), -ENOSPC);
	m.hv->ops->msi_free(m.hv, &msi[2]);
	assert_int_equal(m.hv->ops->msi_new(m.hv, &msi[2]), 0);
	while (n)
		m.hv->ops->msi_free(m.hv, &msi[--n]);
	machine_done(&m);
}

/* ---- slots ---- */

static void test_slot_numbers(void **state)
{
	static char page[4][4096] __attribute__((aligned(4096)));
	uint32_t slot[4];
	struct machine m;

	(void)state;
	kernel.capability = KVM_CAP_NR_MEMSLOTS;
	kernel.capability_value = 4;
	machine_init(&m, 0);
	/* The machine's own memory has one of the four. */
	for (unsigned int i = 0; i < 3; i++) {
		const struct range gpa = {GUEST_REMOTE + i * 4096, 4096};

		kernel.fail_request = KVM_SET_USER_MEMORY_REGION;
		kernel.fail_errno = ENOMEM;
		assert_int_equal(m.hv->ops->slot_add(m.hv, gpa, page[i], false, &slot[i]), -ENOMEM);
		kernel.fail_request = 0;
		assert_int_equal(m.hv->ops->slot_add(m.hv, gpa, page[i], false, &slot[i]), 0);
		for (unsigned int j = 0; j < i; j++)
			assert_int_not_equal(slot[i], slot[j]);
	}
	assert_int_equal(m.hv->ops->slot_add(m.hv, (struct range){GUEST_REMOTE + 0x10000, 4096},
					     page[3], false, &slot[3]),
			 -ENOSPC);
	/* One that is not removed keeps its number. */
	kernel.fail_request = KVM_SET_USER_MEMORY_REGION;
	kernel.fail_errno = EINTR;
	assert_int_equal(m.hv->ops->slot_remove(m.hv, slot[1]), -EINTR);
	kernel.fail_request = 0;
	assert_int_equal(m.hv->ops->slot_add(m.hv, (struct range){GUEST_REMOTE + 0x10000, 4096},
					     page[3], false, &slot[3]),
			 -ENOSPC);
	assert_int_equal(m.hv->ops->slot_remove(m.hv, slot[1]), 0);
	assert_int_equal(m.hv->ops->slot_add(m.hv, (struct range){GUEST_REMOTE + 0x10000, 4096},
					     page[3], false, &slot[3]),
			 0);
	assert_int_equal(slot[3], slot[1]);
	machine_done(&m);
}

/* ---- vCPUs ---- */

GUEST(guest_spin, "1: incl 0x2000\n"
		  "jmp 1b");

/* KVM_RUN fails: said once, with the address and the kernel's reason; the next resume tries again. */
static void test_run_fails(void **state)
{
	struct machine m;

	(void)state;
	machine_init(&m, 1);
	machine_boot(&m, guest_spin);
	kernel.fail_errno = EFAULT;
	kernel.fail_request = KVM_RUN;
	vcpus_resume(m.vcpus);
	sem_wait(&m.said);
	vcpus_pause(m.vcpus);
	assert_int_equal(atomic_load(&m.failures), 1);
	assert_non_null(strstr(m.why, "0x1000"));
	assert_non_null(strstr(m.why, strerror(EFAULT)));
	kernel.fail_request = 0;
	vcpus_resume(m.vcpus);
	machine_wait_change(&m, GUEST_DATA, 0);
	vcpus_pause(m.vcpus);
	assert_int_equal(atomic_load(&m.failures), 1);
	machine_done(&m);
}

/* EAGAIN, as after a start-up message, is no failure. */
static void test_run_again(void **state)
{
	struct machine m;

	(void)state;
	machine_init(&m, 1);
	machine_boot(&m, guest_spin);
	kernel.fail_errno = EAGAIN;
	kernel.fail_request = KVM_RUN;
	vcpus_resume(m.vcpus);
	while (atomic_load(&kernel.failed) < 3 && !atomic_load(&m.failures))
		sched_yield();
	assert_int_equal(atomic_load(&m.failures), 0);
	kernel.fail_request = 0;
	machine_wait_change(&m, GUEST_DATA, 0);
	assert_int_equal(atomic_load(&m.failures), 0);
	machine_done(&m);
}

static void test_vcpu_steps_fail(void **state)
{
	const unsigned long steps[] = {KVM_CREATE_VCPU, KVM_SET_CPUID2, KVM_GET_REGS,
				       KVM_GET_LAPIC};
	struct machine m;
	struct vcpus_config config = {.count = 1};
	struct kvm_cpuid2 *cpuid;

	(void)state;
	machine_init(&m, 0);
	cpuid = kvm_supported_cpuid(m.kvm, NULL);
	config.kvm = m.kvm;
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
		const struct vcpu_identity identity = {
			.apic_id = i, .cpuid = cpuid->entries, .nr_cpuid = cpuid->nent};
		struct vcpus *vcpus = vcpus_new(&config, NULL);
		struct err *err = NULL;

		kernel.fail_request = steps[i];
		kernel.fail_errno = EMFILE;
		assert_true(vcpus_create(vcpus, 0, &identity, &err) < 0);
		assert_non_null(strstr(err_message(err), strerror(EMFILE)));
		err_free(err);
		kernel.fail_request = 0;
		vcpus_free(vcpus);
	}
	free(cpuid);
	machine_done(&m);
}

static void no_change(void *opaque, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	(void)opaque;
	(void)regs;
	(void)sregs;
}

static void test_reset_fails(void **state)
{
	const unsigned long steps[] = {KVM_SET_SREGS, KVM_SET_REGS,  KVM_SET_XSAVE,
				       KVM_SET_LAPIC, KVM_GET_SREGS, KVM_SET_MP_STATE};
	struct machine m;

	(void)state;
	machine_init(&m, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
		struct err *err = NULL;

		kernel.fail_request = steps[i];
		kernel.fail_errno = EINVAL;
		assert_int_equal(vcpus_reset(m.vcpus, no_change, NULL, &err), -EINVAL);
		assert_non_null(strstr(err_message(err), strerror(EINVAL)));
		err_free(err);
	}
	for (unsigned int i = 0; i < 2; i++) {
		struct err *err = NULL;

		kernel.fail_request = i ? KVM_GET_IRQCHIP : KVM_SET_IRQCHIP;
		if (i)
			assert_null(kvm_vm_new(&err));
		else
			assert_int_equal(kvm_vm_reset(m.kvm, &err), -EINVAL);
		assert_non_null(strstr(err_message(err), "interrupt controller"));
		err_free(err);
	}
	kernel.fail_request = 0;
	machine_boot(&m, guest_spin);
	vcpus_resume(m.vcpus);
	machine_wait_change(&m, GUEST_DATA, 0);
	machine_done(&m);
}

/* vcpu.h, I2: the counters go on, or those of several vCPUs would get out of step. */
static void test_reset_leaves_the_counters_alone(void **state)
{
	struct machine m;

	(void)state;
	machine_init(&m, 2);
	assert_int_equal(vcpus_reset(m.vcpus, no_change, NULL, NULL), 0);
	assert_true(kernel.msrs_set > 0);
	assert_int_equal(kernel.clocks_set, 0);
	machine_done(&m);
}

#define TEST(fn) cmocka_unit_test_setup(fn, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_missing_capabilities),
		TEST(test_refused_steps),
		TEST(test_slot_zap_quirk),
		TEST(test_tables_are_complete),
		TEST(test_failed_routes_keep_the_old_message),
		TEST(test_no_more_messages),
		TEST(test_slot_numbers),
		TEST(test_run_fails),
		TEST(test_run_again),
		TEST(test_vcpu_steps_fail),
		TEST(test_reset_fails),
		TEST(test_reset_leaves_the_counters_alone),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: failures", tests, NULL, NULL);
}
