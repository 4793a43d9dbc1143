/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory slots that are laid anew under running vCPUs, and a vCPU that is held: hv.h (slots_replace,
 * vcpu_current, vcpu_hold) on the real KVM. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "tests/unit/kvm/region.h"

/* ---- under way ---- */

#define AP_DATA (GUEST_DATA + 4)

/*
 * Each counts in a register and in two open pages, which must stay the same, tells it in its word of
 * RAM, and touches a closed page now and then.
 */
/* clang-format off */
GUEST(guest_count,
      GUEST_START_APS
      "xorl %ebx, %ebx\n"
      "1: incl 0x100000\n"
      "incl %ebx\n"
      "cmpl 0x100000, %ebx\n"
      "jne 2f\n"
      "incl 0x102000\n"
      "cmpl 0x102000, %ebx\n"
      "jne 2f\n"
      "movl %ebx, 0x2000\n"
      "testl $7, %ebx\n"
      "jnz 1b\n"
      "incl 0x101000\n"
      "jmp 1b\n"
      "2: movl %ebx, %eax\n"
      "outl %eax, $0x10\n"
      "hlt\n"
      "jmp 2b");
GUEST16(guest_count_ap,
      "movw $0xffff, %ax\n"
      "movw %ax, %ds\n"
      "xorw %ax, %ax\n"
      "movw %ax, %es\n"
      "xorl %ebx, %ebx\n"
      "1: incl 0x4010\n"
      "incl %ebx\n"
      "cmpl 0x4010, %ebx\n"
      "jne 2f\n"
      "incl 0x6010\n"
      "cmpl 0x6010, %ebx\n"
      "jne 2f\n"
      "movl %ebx, %es:0x2004\n"
      "testl $7, %ebx\n"
      "jnz 1b\n"
      "incl 0x5010\n"
      "jmp 1b\n"
      "2: movl %ebx, %eax\n"
      "outl %eax, $0x10\n"
      "hlt\n"
      "jmp 2b");
/* clang-format on */

static void region_boot_counters(struct region *r)
{
	machine_boot(&r->m, guest_count);
	machine_boot_ap(&r->m, guest_count_ap);
}

#define REPLACEMENTS 1000
#define SOME         5

struct replacer {
	struct region *r;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint failed;
	sem_t some;   /* after each few replacements, and at the end */
	bool endless; /* until stop; does not look at the guest */
};

/* As the thread of a device's queues: lays the region anew under its lock, again and again. */
static void *replacer_main(void *opaque)
{
	static const uint32_t progress[] = {GUEST_DATA, AP_DATA};
	struct replacer *p = opaque;
	struct region *r = p->r;

	for (unsigned int i = 0; p->endless ? !atomic_load(&p->stop) : i < REPLACEMENTS; i++) {
		uint32_t word = progress[i / SOME % 2], at = machine_peek(&r->m, word);

		pthread_mutex_lock(&r->lock);
		if (region_lay(r, !region_is_whole(r)))
			atomic_fetch_add(&p->failed, 1);
		pthread_mutex_unlock(&r->lock);
		/* Right after each other, and with the guest getting on between. */
		if (i % SOME || p->endless)
			continue;
		sem_post(&p->some);
		machine_wait_change(&r->m, word, at);
	}
	return NULL;
}

static void replacer_start(struct replacer *p, struct region *r)
{
	p->r = r;
	sem_init(&p->some, 0, 0);
	assert_int_equal(pthread_create(&p->thread, NULL, replacer_main, p), 0);
}

static void replacer_end(struct replacer *p)
{
	atomic_store(&p->stop, true);
	pthread_join(p->thread, NULL);
	sem_destroy(&p->some);
	assert_int_equal(atomic_load(&p->failed), 0);
}

static void counters_under_way(bool handlers)
{
	struct replacer p = {.endless = false};
	struct region r;

	region_init(&r, 2);
	r.relay_in_handlers = handlers;
	region_boot_counters(&r);
	replacer_start(&p, &r);
	for (unsigned int i = 0; i < REPLACEMENTS / SOME; i++) {
		vcpus_pause(r.m.vcpus);
		vcpus_resume(r.m.vcpus);
		sem_wait(&p.some);
	}
	replacer_end(&p);
	/* Both still run. */
	machine_wait_change(&r.m, GUEST_DATA, machine_peek(&r.m, GUEST_DATA));
	machine_wait_change(&r.m, AP_DATA, machine_peek(&r.m, AP_DATA));
	vcpus_pause(r.m.vcpus);
	assert_true(atomic_load(&r.seen.n) > 0);
	assert_int_equal(atomic_load(&r.handler_replaced), handlers ? atomic_load(&r.seen.n) : 0);
	assert_int_equal(r.replaced, REPLACEMENTS + atomic_load(&r.handler_replaced));
	assert_int_equal(atomic_load(&r.m.port.n), 0);
	region_check(&r);
	region_done(&r);
}

/* Thousands of times under two vCPUs, with pauses beside it: no one sees anything between. */
static void test_replace_under_use(void **state)
{
	(void)state;
	counters_under_way(false);
}

/* The same, and the vCPUs do it too, in exits, waiting for the lock that the other holds. */
static void test_replace_in_handlers(void **state)
{
	(void)state;
	counters_under_way(true);
}

/* vCPUs that are parked need not be there, nor come, nor exist. */
static void test_replace_beside_the_end(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 10; i++) {
		struct replacer p = {.endless = true};
		struct region r;

		region_init(&r, 2);
		region_boot_counters(&r);
		replacer_start(&p, &r);
		if (i % 2) {
			vcpus_resume(r.m.vcpus);
			machine_wait_change(&r.m, GUEST_DATA, 0);
		}
		vcpus_free(r.m.vcpus);
		r.m.vcpus = NULL;
		replacer_end(&p);
		region_check(&r);
		region_done(&r);
	}
}

/* ---- holding one vCPU ---- */

/* clang-format off */
GUEST(guest_write_and_count,
      GUEST_START_APS
      "1: movl %eax, 0xd0000000\n"
      "incl 0x2000\n"
      "jmp 1b");
GUEST16(guest_spin_ap,
      "1: incl 0x2004\n"
      "jmp 1b");
/* clang-format on */

static void hold_inside(void *opaque)
{
	struct machine *m = opaque;

	if (m->hv->ops->vcpu_current(m->hv) == 0)
		m->hv->ops->vcpu_hold(m->hv);
}

/* Held after each of its accesses, while the other one goes on; a resume lets it do one more. */
static void test_hold(void **state)
{
	struct machine m;
	uint32_t at;

	(void)state;
	machine_init(&m, 2);
	m.reg.inside = hold_inside;
	m.reg.opaque = &m;
	assert_int_equal(m.hv->ops->vcpu_current(m.hv), -1);
	m.hv->ops->vcpu_hold(m.hv);
	machine_boot(&m, guest_write_and_count);
	machine_boot_ap(&m, guest_spin_ap);
	for (unsigned int i = 0; i < 100; i++) {
		vcpus_resume(m.vcpus);
		sem_wait(&m.reg.seen);
		for (unsigned int j = 0; j < 3; j++) {
			at = machine_peek(&m, AP_DATA);
			machine_wait_change(&m, AP_DATA, at);
		}
		assert_int_equal(machine_peek(&m, GUEST_DATA), i);
		if (i % 3 == 0)
			vcpus_pause(m.vcpus);
	}
	assert_int_equal(atomic_load(&m.reg.n), 100);
	/* Let go again, it runs as before. */
	vcpus_pause(m.vcpus);
	m.reg.inside = NULL;
	vcpus_resume(m.vcpus);
	machine_wait_change(&m, GUEST_DATA, 99);
	machine_wait_change(&m, GUEST_DATA, 100);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace_under_use),
		cmocka_unit_test(test_replace_in_handlers),
		cmocka_unit_test(test_replace_beside_the_end),
		cmocka_unit_test(test_hold),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: replace", tests, NULL, NULL);
}
