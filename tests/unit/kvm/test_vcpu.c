/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vCPUs on the real KVM: pausing wherever they are, what they ask of the buses, resets, and guests
 * that end themselves. vcpu.h, I1 to I3. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/unit/kvm/fixture.h"

static int setup(void **state)
{
	struct machine *m = malloc(sizeof(*m));

	assert_non_null(m);
	machine_init(m, 1);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	machine_done(*state);
	free(*state);
	return 0;
}

/* Counts as fast as it can. */
GUEST(guest_spin, "1: incl 0x2000\n"
		  "jmp 1b");

static void check_stands_still(struct machine *m)
{
	uint32_t at = machine_peek(m, GUEST_DATA);

	for (unsigned int i = 0; i < 2000; i++) {
		sched_yield();
		assert_int_equal(machine_peek(m, GUEST_DATA), at);
	}
}

/* I2: paused from the start on. */
static void test_starts_paused(void **state)
{
	struct machine *m = *state;

	assert_int_equal(vcpus_count(m->vcpus), 1);
	assert_int_not_equal(vcpus_thread_id(m->vcpus, 0), getpid());
	assert_true(vcpus_thread_id(m->vcpus, 0) > 0);
	machine_boot(m, guest_spin);
	check_stands_still(m);
	assert_int_equal(machine_peek(m, GUEST_DATA), 0);
	vcpus_pause(m->vcpus);
	vcpus_resume(m->vcpus);
	machine_wait_change(m, GUEST_DATA, 0);
	vcpus_pause(m->vcpus);
}

/* I1: a guest that never leaves by itself is paused, and goes on where it was. */
static void test_pause_a_tight_loop(void **state)
{
	struct machine *m = *state;
	uint32_t at = 0;

	machine_boot(m, guest_spin);
	for (unsigned int i = 0; i < 100; i++) {
		vcpus_resume(m->vcpus);
		machine_wait_change(m, GUEST_DATA, at);
		vcpus_pause(m->vcpus);
		if (i % 10 == 0)
			check_stands_still(m);
		vcpus_pause(m->vcpus);
		assert_true(machine_peek(m, GUEST_DATA) - at < UINT32_MAX / 2);
		at = machine_peek(m, GUEST_DATA);
	}
	/* At once, before it got anywhere; and resumed twice. */
	for (unsigned int i = 0; i < 200; i++) {
		vcpus_resume(m->vcpus);
		vcpus_pause(m->vcpus);
	}
	check_stands_still(m);
	at = machine_peek(m, GUEST_DATA);
	vcpus_resume(m->vcpus);
	vcpus_resume(m->vcpus);
	machine_wait_change(m, GUEST_DATA, at);
	vcpus_pause(m->vcpus);
}

static void test_free_while_running(void **state)
{
	struct machine *m = *state;

	machine_boot(m, guest_spin);
	vcpus_resume(m->vcpus);
	machine_wait_change(m, GUEST_DATA, 0);
	/* The teardown ends it. */
}

GUEST(guest_halt, "movl $1, 0x2000\n"
		  "1: hlt\n"
		  "jmp 1b");

/* vCPUs that wait inside the kernel: halted, or for the message that starts them. */
static void test_pause_idle_vcpus(void **state)
{
	struct machine m;

	(void)state;
	machine_init(&m, 3);
	machine_boot(&m, guest_halt);
	for (unsigned int i = 0; i < 50; i++) {
		vcpus_resume(m.vcpus);
		machine_wait_change(&m, GUEST_DATA, 0);
		vcpus_pause(m.vcpus);
	}
	machine_boot(&m, guest_spin);
	vcpus_resume(m.vcpus);
	machine_wait_change(&m, GUEST_DATA, 0);
	machine_done(&m);
}

/* ---- accesses ---- */

/* clang-format off */
GUEST(guest_ports,
      "movl $0x11223344, %eax\n"
      "outl %eax, $0x10\n"
      "outw %ax, $0x12\n"
      "outb %al, $0x17\n"
      "movl $0xffffffff, %eax\n"
      "inb $0x10, %al\n"
      "outl %eax, $0x10\n"
      "inw $0x10, %ax\n"
      "outl %eax, $0x10\n"
      "inl $0x10, %eax\n"
      "outl %eax, $0x10\n"
      /* strings */
      "movl $0x00c0b0a0, 0x2000\n"
      "cld\n"
      "movl $0x2000, %esi\n"
      "movl $3, %ecx\n"
      "movl $0x11, %edx\n"
      "rep outsb\n"
      "movl $0x2000, %edi\n"
      "movl $2, %ecx\n"
      "movl $0x10, %edx\n"
      "rep insw\n"
      "movl 0x2000, %eax\n"
      "outl %eax, $0x10\n"
      /* nobody is there: all ones */
      "inl $0x80, %eax\n"
      "outl %eax, $0x10\n"
      "outl %eax, $0x80\n"
      "1: hlt\n"
      "jmp 1b");

GUEST(guest_registers,
      "movl $0x11223344, %eax\n"
      "movl %eax, 0xd0000000\n"
      "movw %ax, 0xd0000004\n"
      "movb %al, 0xd0000007\n"
      "movl %eax, 0xd0000009\n"
      "movl 0xd0000010, %eax\n"
      "outl %eax, $0x10\n"
      "movzbl 0xd0000003, %eax\n"
      "outl %eax, $0x10\n"
      "movl 0xd8000000, %eax\n"
      "outl %eax, $0x10\n"
      "1: hlt\n"
      "jmp 1b");
/* clang-format on */

static void check_accesses(const struct recorder *rec, const struct access *want, unsigned int n)
{
	assert_int_equal(atomic_load(&rec->n), n);
	for (unsigned int i = 0; i < n; i++) {
		assert_int_equal(rec->access[i].write, want[i].write);
		assert_int_equal(rec->access[i].offset, want[i].offset);
		assert_int_equal(rec->access[i].size, want[i].size);
		if (want[i].write)
			assert_int_equal(rec->access[i].value, want[i].value);
	}
}

static void test_ports(void **state)
{
	const struct access want[] = {
		{true, 0, 0x11223344, 4}, {true, 2, 0x3344, 2},     {true, 7, 0x44, 1},
		{false, 0, 0, 1},         {true, 0, 0xffffff81, 4}, {false, 0, 0, 2},
		{true, 0, 0xffff8281, 4}, {false, 0, 0, 4},         {true, 0, 0x84838281, 4},
		{true, 1, 0xa0, 1},       {true, 1, 0xb0, 1},       {true, 1, 0xc0, 1},
		{false, 0, 0, 2},         {false, 0, 0, 2},         {true, 0, 0x82818281, 4},
		{true, 0, 0xffffffff, 4},
	};
	struct machine *m = *state;

	machine_boot(m, guest_ports);
	vcpus_resume(m->vcpus);
	for (unsigned int i = 0; i < 16; i++)
		sem_wait(&m->port.seen);
	vcpus_pause(m->vcpus);
	check_accesses(&m->port, want, 16);
	assert_int_equal(atomic_load(&m->failures), 0);
}

static void test_registers(void **state)
{
	const struct access ports[] = {
		{true, 0, 0x84838281, 4},
		{true, 0, 0x81, 4},
		{true, 0, 0xffffffff, 4},
	};
	const struct access registers[] = {
		{true, 0, 0x11223344, 4}, {true, 4, 0x3344, 2}, {true, 7, 0x44, 1},
		{true, 9, 0x11223344, 4}, {false, 0x10, 0, 4},  {false, 3, 0, 1},
	};
	struct machine *m = *state;

	machine_boot(m, guest_registers);
	vcpus_resume(m->vcpus);
	for (unsigned int i = 0; i < 3; i++)
		sem_wait(&m->port.seen);
	vcpus_pause(m->vcpus);
	check_accesses(&m->port, ports, 3);
	check_accesses(&m->reg, registers, 6);
}

/* ---- pausing inside of an access ---- */

GUEST(guest_read_and_keep, "movl $0x01010101, %eax\n"
			   "inl $0x10, %eax\n"
			   "movl %eax, 0x2000\n"
			   "1: jmp 1b");
GUEST(guest_load_and_keep, "movl $0x01010101, %eax\n"
			   "movl 0xd0000000, %eax\n"
			   "movl %eax, 0x2000\n"
			   "1: jmp 1b");
GUEST(guest_tell_eax, "outl %eax, $0x10\n"
		      "1: hlt\n"
		      "jmp 1b");

struct busy_device {
	sem_t inside;
	atomic_bool left;
};

/* Stays until the pause has begun: until the vCPU's thread is signalled. */
static void busy_device_work(void *opaque)
{
	struct busy_device *d = opaque;
	sigset_t kick;
	int sig;

	sigemptyset(&kick);
	sigaddset(&kick, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &kick, NULL);
	sem_post(&d->inside);
	sigwait(&kick, &sig);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	/* Every chance for the pause to return too early. */
	for (unsigned int i = 0; i < 500; i++)
		sched_yield();
	atomic_store(&d->left, true);
}

static void pause_inside(struct machine *m, struct recorder *rec, const uint8_t *code,
			 const uint8_t *end)
{
	struct busy_device d = {.left = false};

	sem_init(&d.inside, 0, 0);
	rec->opaque = &d;
	rec->inside = busy_device_work;
	machine_load(m, code, end);
	vcpus_resume(m->vcpus);
	sem_wait(&d.inside);
	vcpus_pause(m->vcpus);
	assert_true(atomic_load(&d.left));
	/* The instruction is done, the one after it did not begin. */
	check_stands_still(m);
	assert_int_equal(machine_peek(m, GUEST_DATA), 0);
	rec->inside = NULL;
	sem_destroy(&d.inside);
}

static void test_pause_completes_accesses(void **state)
{
	struct machine *m = *state;

	for (unsigned int i = 0; i < 20; i++) {
		pause_inside(m, &m->port, guest_read_and_keep, guest_read_and_keep_end);
		/* The value is in its register already: a reset cannot be followed by it. */
		machine_boot(m, guest_tell_eax);
		vcpus_resume(m->vcpus);
		assert_int_equal(machine_next_out(m), 0);
		vcpus_pause(m->vcpus);

		pause_inside(m, &m->reg, guest_load_and_keep, guest_load_and_keep_end);
		vcpus_resume(m->vcpus);
		machine_wait_change(m, GUEST_DATA, 0);
		assert_int_equal(machine_peek(m, GUEST_DATA), 0x84838281);
		vcpus_pause(m->vcpus);
		assert_int_equal(atomic_load(&m->reg.n), 1);
	}
}

/* ---- reset ---- */

/* clang-format off */
/* Tells registers of several kinds. */
GUEST(guest_tell,
      "movl %ebx, %eax\n"
      "outl %eax, $0x10\n"
      "movl %dr0, %eax\n"
      "outl %eax, $0x10\n"
      "movl %dr7, %eax\n"
      "outl %eax, $0x10\n"
      "movl %cr2, %eax\n"
      "outl %eax, $0x10\n"
      "movl %cr4, %eax\n"
      "outl %eax, $0x10\n"
      "movl $0x174, %ecx\n" /* IA32_SYSENTER_CS */
      "rdmsr\n"
      "outl %eax, $0x10\n"
      "movl $0x176, %ecx\n" /* IA32_SYSENTER_EIP */
      "rdmsr\n"
      "outl %eax, $0x10\n"
      "movl $0x277, %ecx\n" /* IA32_PAT */
      "rdmsr\n"
      "movl %edx, %eax\n"
      "outl %eax, $0x10\n"
      "movl $0x1b, %ecx\n" /* IA32_APIC_BASE */
      "rdmsr\n"
      "outl %eax, $0x10\n"
      "movl 0xfee000f0, %eax\n" /* spurious vector */
      "outl %eax, $0x10\n"
      "movl 0xfee00080, %eax\n" /* task priority */
      "outl %eax, $0x10\n"
      "movl 0xfee00350, %eax\n" /* LINT0 */
      "outl %eax, $0x10\n"
      "1: hlt\n"
      "jmp 1b");

/* Changes all of them. */
GUEST(guest_change,
      "movl $0x12345678, %ebx\n"
      "movl $0x2000, %eax\n"
      "movl %eax, %dr0\n"
      "movl %eax, %cr2\n"
      "movl %cr4, %eax\n"
      "orl $0x10, %eax\n" /* PSE */
      "movl %eax, %cr4\n"
      "movl $0x174, %ecx\n"
      "movl $0x42, %eax\n"
      "xorl %edx, %edx\n"
      "wrmsr\n"
      "movl $0x176, %ecx\n"
      "wrmsr\n"
      "movl $0x277, %ecx\n"
      "movl $0x06060606, %eax\n"
      "movl $0x06060606, %edx\n"
      "wrmsr\n"
      "movl $0x1ff, 0xfee000f0\n"
      "movl $0x20, 0xfee00080\n"
      "movl $0x10041, 0xfee00350\n"
      "outl %eax, $0x10\n"
      "1: hlt\n"
      "jmp 1b");
/* clang-format on */

#define TOLD     12
#define TOLD_MSR 6 /* which of them is the identity's */

static void tell(struct machine *m, uint64_t *ret_values, struct kvm_sregs *ret_sregs)
{
	machine_boot(m, guest_tell);
	*ret_sregs = m->start_sregs;
	vcpus_resume(m->vcpus);
	for (unsigned int i = 0; i < TOLD; i++)
		sem_wait(&m->port.seen);
	vcpus_pause(m->vcpus);
	for (unsigned int i = 0; i < TOLD; i++)
		ret_values[i] = m->port.access[i].value;
}

/* I2: whatever the guest made of its CPU, a reset brings the power-on state back. */
static void test_reset_restores_power_on(void **state)
{
	struct machine *m = *state;
	struct kvm_sregs sregs[2];
	uint64_t values[2][TOLD];

	tell(m, values[0], &sregs[0]);
	machine_boot(m, guest_change);
	vcpus_resume(m->vcpus);
	machine_next_out(m);
	vcpus_pause(m->vcpus);
	tell(m, values[1], &sregs[1]);
	for (unsigned int i = 0; i < TOLD; i++)
		assert_int_equal(values[1][i], values[0][i]);
	assert_int_equal(values[0][TOLD_MSR], GUEST_MSR);
	assert_memory_equal(&sregs[1], &sregs[0], sizeof(sregs[0]));
	assert_int_equal(atomic_load(&m->failures), 0);
}

GUEST(guest_tell_tsc, "rdtsc\n"
		      "movl %eax, 0x2004\n"
		      "movl %edx, 0x2008\n"
		      "outl %eax, $0x10\n"
		      "1: hlt\n"
		      "jmp 1b");

/* The time stamp counter goes on. */
static void test_reset_keeps_the_time(void **state)
{
	struct machine *m = *state;
	uint64_t before = 0;

	for (unsigned int i = 0; i < 3; i++) {
		uint64_t now;

		machine_boot(m, guest_tell_tsc);
		vcpus_resume(m->vcpus);
		machine_next_out(m);
		vcpus_pause(m->vcpus);
		now = machine_peek(m, GUEST_DATA + 4) | (uint64_t)machine_peek(m, GUEST_DATA + 8)
								<< 32;
		assert_true(now > before);
		before = now;
	}
}

/* ---- guests that end themselves ---- */

/* A bad segment's fault, for which there is no table of handlers. */
GUEST(guest_triple_fault, "incl 0x2004\n"
			  "lidt 0x2010\n"
			  "movw $0xfff8, %ax\n"
			  "movw %ax, %es\n"
			  "incl 0x2008\n"
			  "1: jmp 1b");

static void check_no_more_said(struct machine *m)
{
	for (unsigned int i = 0; i < 500; i++) {
		sched_yield();
		assert_int_not_equal(sem_trywait(&m->said), 0);
	}
}

static void test_triple_fault(void **state)
{
	struct machine *m = *state;

	for (unsigned int i = 1; i <= 3; i++) {
		machine_boot(m, guest_triple_fault);
		vcpus_resume(m->vcpus);
		sem_wait(&m->said);
		check_no_more_said(m);
		assert_int_equal(atomic_load(&m->shutdowns), i);
		assert_int_equal(atomic_load(&m->failures), 0);
		assert_int_equal(machine_peek(m, GUEST_DATA + 4), 1);
		assert_int_equal(machine_peek(m, GUEST_DATA + 8), 0);
		/* It stands, so a pause does not wait for it; after a reset it lives again. */
		vcpus_pause(m->vcpus);
		machine_boot(m, guest_spin);
		vcpus_resume(m->vcpus);
		machine_wait_change(m, GUEST_DATA, 0);
		vcpus_pause(m->vcpus);
	}
}

/* Instructions from where nothing is: no KVM can run them. */
GUEST(guest_lost, "movl $0xd8000000, %eax\n"
		  "jmp *%eax");

static void test_instruction_that_cannot_run(void **state)
{
	struct machine *m = *state;

	machine_boot(m, guest_lost);
	vcpus_resume(m->vcpus);
	sem_wait(&m->said);
	check_no_more_said(m);
	assert_int_equal(atomic_load(&m->failures), 1);
	assert_int_equal(atomic_load(&m->shutdowns), 0);
	assert_non_null(strstr(m->why, "KVM "));
	assert_non_null(strstr(m->why, "0xd8000000"));
	assert_int_not_equal(m->why[strlen(m->why) - 1], '.');
	/*
	 * Goes on after the next resume, and only then (I3): with the instruction again, or with the
	 * exception that KVM made of it, which a guest without handlers cannot take.
	 */
	vcpus_pause(m->vcpus);
	vcpus_resume(m->vcpus);
	sem_wait(&m->said);
	check_no_more_said(m);
	assert_int_equal(atomic_load(&m->failures) + atomic_load(&m->shutdowns), 2);
	vcpus_pause(m->vcpus);
	machine_boot(m, guest_spin);
	vcpus_resume(m->vcpus);
	machine_wait_change(m, GUEST_DATA, 0);
}

static void test_nothing_started(void **state)
{
	struct machine m;
	struct vcpus_config config = {.count = 2};
	struct vcpus *vcpus;

	(void)state;
	machine_init(&m, 0);
	config.kvm = m.kvm;
	vcpus = vcpus_new(&config, NULL);
	assert_non_null(vcpus);
	vcpus_free(vcpus);
	vcpus_free(NULL);
	machine_done(&m);
}

/* A second vCPU of the same number is the kernel's to refuse, with a sentence. */
static void test_create_fails(void **state)
{
	struct machine m;
	struct vcpus_config config = {.count = 2};
	struct vcpu_identity identity = {.apic_id = 1};
	struct err *err = NULL;
	struct kvm_cpuid2 *cpuid;
	struct vcpus *vcpus;

	(void)state;
	machine_init(&m, 0);
	cpuid = kvm_supported_cpuid(m.kvm, NULL);
	config.kvm = m.kvm;
	identity.cpuid = cpuid->entries;
	identity.nr_cpuid = cpuid->nent;
	vcpus = vcpus_new(&config, NULL);
	assert_int_equal(vcpus_create(vcpus, 0, &identity, NULL), 0);
	assert_true(vcpus_create(vcpus, 1, &identity, &err) < 0);
	assert_non_null(strstr(err_message(err), "vCPU 1"));
	err_free(err);
	vcpus_free(vcpus);
	free(cpuid);
	machine_done(&m);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_starts_paused),
		TEST(test_pause_a_tight_loop),
		TEST(test_free_while_running),
		cmocka_unit_test(test_pause_idle_vcpus),
		TEST(test_ports),
		TEST(test_registers),
		TEST(test_pause_completes_accesses),
		TEST(test_reset_restores_power_on),
		TEST(test_reset_keeps_the_time),
		TEST(test_triple_fault),
		TEST(test_instruction_that_cannot_run),
		cmocka_unit_test(test_nothing_started),
		cmocka_unit_test(test_create_fails),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: vcpu", tests, NULL, NULL);
}
