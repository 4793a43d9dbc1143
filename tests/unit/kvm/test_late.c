/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A vCPU that needs memory whose content comes later, on the real KVM: it waits, is paused and kicked
 * where the kernel allows that, and goes on when the page is there. vcpu.h. Skipped where /dev/kvm
 * cannot be opened or there is no userfaultfd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "tests/unit/kvm/fixture.h"

#define PAGE 4096

/* How long a page lets itself be waited for by who cannot be paused without it. */
#define LATE_MS 1000

struct late {
	struct machine m;
	int fd; /* userfaultfd */
	uint8_t *page;
	int paused[2]; /* a pipe: closed at the writing end when the vCPU is paused */
	atomic_bool brought;
};

static bool late_possible(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		printf("skipped: no userfaultfd: %s\n", strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

static int setup(void **state)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct late *l = calloc(1, sizeof(*l));
	struct uffdio_register reg;
	uint32_t slot;

	assert_non_null(l);
	machine_init(&l->m, 1);
	l->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(l->page != MAP_FAILED);
	l->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	assert_true(l->fd >= 0 && pipe(l->paused) == 0);
	assert_int_equal(ioctl(l->fd, UFFDIO_API, &api), 0);
	reg = (struct uffdio_register){.range = {(uintptr_t)l->page, PAGE},
				       .mode = UFFDIO_REGISTER_MODE_MISSING};
	assert_int_equal(ioctl(l->fd, UFFDIO_REGISTER, &reg), 0);
	assert_int_equal(l->m.hv->ops->slot_add(l->m.hv, (struct range){GUEST_REMOTE, PAGE},
						l->page, false, &slot),
			 0);
	*state = l;
	return 0;
}

static int teardown(void **state)
{
	struct late *l = *state;

	machine_done(&l->m);
	close(l->fd);
	close(l->paused[0]);
	munmap(l->page, PAGE);
	free(l);
	return 0;
}

static void late_bring(struct late *l)
{
	static uint8_t content[PAGE] __attribute__((aligned(PAGE))) = {0x44, 0x33, 0x22, 0x11};
	struct uffdio_copy copy = {
		.dst = (uintptr_t)l->page, .src = (uintptr_t)content, .len = PAGE};

	atomic_store(&l->brought, true);
	assert_int_equal(ioctl(l->fd, UFFDIO_COPY, &copy), 0);
}

/* Brings the page when the vCPU is paused, or when that takes too long. */
static void *late_main(void *opaque)
{
	struct late *l = opaque;
	struct pollfd paused = {.fd = l->paused[0]};

	poll(&paused, 1, LATE_MS);
	late_bring(l);
	return NULL;
}

static void late_wait_for_fault(const struct late *l)
{
	struct pollfd fault = {.fd = l->fd, .events = POLLIN};

	assert_int_equal(poll(&fault, 1, -1), 1);
}

/* vcpu.h names the kernel; a KVM that interprets its guests makes all accesses for them by itself. */
static bool kernel_lets_go(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname name;

	if (!kvm_host_has_virtualization())
		return false;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%u.%u", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 2);
}

/* clang-format off */
GUEST(guest_need,
      "movl $1, 0x2000\n"
      "movl 0x100000, %eax\n"
      "outl %eax, $0x10\n"
      "1: hlt\n"
      "jmp 1b");
/* clang-format on */

/* Paused without the page, or, by an older kernel, with it; the instruction is done with it. */
static void test_pause_while_it_waits(void **state)
{
	struct late *l = *state;
	pthread_t thread;

	machine_boot(&l->m, guest_need);
	vcpus_resume(l->m.vcpus);
	late_wait_for_fault(l);
	assert_int_equal(pthread_create(&thread, NULL, late_main, l), 0);
	vcpus_pause(l->m.vcpus);
	if (kernel_lets_go())
		assert_false(atomic_load(&l->brought));
	assert_int_equal(atomic_load(&l->m.port.n), 0);
	close(l->paused[1]);
	pthread_join(thread, NULL);
	vcpus_resume(l->m.vcpus);
	assert_int_equal(machine_next_out(&l->m), 0x11223344);
	vcpus_pause(l->m.vcpus);
	assert_int_equal(atomic_load(&l->m.port.n), 1);
	assert_int_equal(atomic_load(&l->m.failures), 0);
}

/* Kicked for another reason, it goes back to wait. */
static void test_gate_while_it_waits(void **state)
{
	struct late *l = *state;
	pthread_t thread;

	machine_boot(&l->m, guest_need);
	vcpus_resume(l->m.vcpus);
	late_wait_for_fault(l);
	assert_int_equal(pthread_create(&thread, NULL, late_main, l), 0);
	for (unsigned int i = 0; i < 20; i++)
		assert_int_equal(l->m.hv->ops->slots_replace(l->m.hv, NULL, 0, NULL, 0), 0);
	if (kernel_lets_go())
		assert_false(atomic_load(&l->brought));
	close(l->paused[1]);
	pthread_join(thread, NULL);
	assert_int_equal(machine_next_out(&l->m), 0x11223344);
	vcpus_pause(l->m.vcpus);
	assert_int_equal(atomic_load(&l->m.failures), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pause_while_it_waits),
		TEST(test_gate_while_it_waits),
	};

	if (!machine_possible() || !late_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: late", tests, NULL, NULL);
}
