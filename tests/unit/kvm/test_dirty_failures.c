/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Noting written pages with a kernel that lacks or refuses things: nothing is half done, and no mark
 * is lost. kvm_dirty.c, kvm_ring.c. The linker puts __wrap_ioctl() between the code under test and
 * the real KVM. Skipped where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/err.h"
#include "tests/unit/kvm/fixture.h"
#include "vmm/core/gm.h"

#define PAGE        4096
#define REMOTE_SIZE (256 * PAGE)

int __real_ioctl(int fd, unsigned long request, unsigned long arg);
int __wrap_ioctl(int fd, unsigned long request, ...);

/* What the kernel pretends; one at a time, hence at file scope. Set while no vCPU leaves the guest. */
static struct kernel {
	unsigned long fail_request; /* fails with EIO; 0: none */
	unsigned int fail_after;    /* but not so many first */
	bool fail_once;
	bool no_manual, no_rings; /* KVM_CHECK_EXTENSION says so */
	unsigned int noted;       /* times that a slot was told to be noted */
	unsigned int clears;      /* KVM_CLEAR_DIRTY_LOG */
} kernel;

static bool kernel_lacks(unsigned long capability)
{
	switch (capability) {
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return kernel.no_manual;
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return kernel.no_rings;
	default:
		return false;
	}
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;
	int ret;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	if (request == KVM_CHECK_EXTENSION && kernel_lacks(arg))
		return 0;
	if (request == kernel.fail_request && request && kernel.fail_after) {
		kernel.fail_after--;
	} else if (request == kernel.fail_request && request) {
		if (kernel.fail_once)
			kernel.fail_request = 0;
		errno = EIO;
		return -1;
	}
	ret = __real_ioctl(fd, request, arg);
	if (request == KVM_SET_USER_MEMORY_REGION && ret == 0) {
		const struct kvm_userspace_memory_region *region = (void *)arg;

		kernel.noted += region->flags & KVM_MEM_LOG_DIRTY_PAGES ? 1 : 0;
	}
	kernel.clears += request == KVM_CLEAR_DIRTY_LOG;
	return ret;
}

struct noted {
	struct machine m;
	struct gm *gm;
	uint8_t *memory;
	uint32_t slot;
};

static int setup(void **state)
{
	struct noted *n = calloc(1, sizeof(*n));
	struct hv *hv;

	assert_non_null(n);
	memset(&kernel, 0, sizeof(kernel));
	machine_init(&n->m, 1);
	hv = n->m.hv;
	n->gm = gm_new();
	n->memory =
		mmap(NULL, REMOTE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(n->gm && n->memory != MAP_FAILED);
	assert_int_equal(gm_add_ram(n->gm, (struct range){0, GUEST_RAM}, n->m.ram), 0);
	assert_int_equal(gm_add_ram(n->gm, (struct range){GUEST_REMOTE, REMOTE_SIZE}, n->memory),
			 0);
	assert_int_equal(gm_dirty_start(n->gm), 0);
	assert_int_equal(hv->ops->slot_add(hv, (struct range){GUEST_REMOTE, REMOTE_SIZE}, n->memory,
					   false, &n->slot),
			 0);
	*state = n;
	return 0;
}

static int teardown(void **state)
{
	struct noted *n = *state;

	memset(&kernel, 0, sizeof(kernel));
	machine_done(&n->m);
	gm_free(n->gm);
	munmap(n->memory, REMOTE_SIZE);
	free(n);
	return 0;
}

/* Writes one page, and says so. */
GUEST(guest_write, "incl 0x103000\n"
		   "movl $1, %eax\n"
		   "outl %eax, $0x10\n"
		   "1: hlt\n"
		   "jmp 1b");

static void noted_write(struct noted *n)
{
	machine_boot(&n->m, guest_write);
	vcpus_resume(n->m.vcpus);
	machine_next_out(&n->m);
	vcpus_pause(n->m.vcpus);
}

/* One page of the remote memory is marked: the one that is written. Takes the mark. */
static void check_one_mark(struct noted *n)
{
	uint64_t words[REMOTE_SIZE / PAGE / 64];

	assert_int_equal(gm_dirty_take(n->gm, GUEST_REMOTE, words, ARRAY_SIZE(words)), 1);
	assert_int_equal(words[0], 1 << 3);
}

/* Either slot refused: none is noted, and a later start works. */
static void test_start_fails(void **state)
{
	struct noted *n = *state;
	struct err *err = NULL;

	for (unsigned int i = 0; i < 2; i++) {
		kernel.fail_request = KVM_SET_USER_MEMORY_REGION;
		kernel.fail_after = i;
		kernel.fail_once = true;
		assert_int_equal(kvm_dirty_start(n->m.kvm, n->gm, &err), -EIO);
		assert_non_null(strstr(err_message(err), "which pages the guest writes"));
		err_free(err);
		err = NULL;
		noted_write(n);
		assert_int_equal(kvm_dirty_sync(n->m.kvm), 0);
		assert_int_equal(gm_dirty_count(n->gm, GUEST_REMOTE, REMOTE_SIZE), 0);
	}
	assert_int_equal(kvm_dirty_start(n->m.kvm, n->gm, NULL), 0);
	noted_write(n);
	assert_int_equal(kvm_dirty_sync(n->m.kvm), 0);
	check_one_mark(n);
	kvm_dirty_stop(n->m.kvm);
}

static void test_without_manual_protection(void **state)
{
	struct noted *n = *state;

	kernel.no_manual = true;
	assert_int_equal(kvm_dirty_start(n->m.kvm, n->gm, NULL), 0);
	for (unsigned int i = 0; i < 3; i++) {
		noted_write(n);
		assert_int_equal(kvm_dirty_sync(n->m.kvm), 0);
		check_one_mark(n);
	}
	assert_int_equal(kernel.clears, 0);
	kvm_dirty_stop(n->m.kvm);
	assert_true(kernel.noted >= 2);
}

/* A sync that fails loses nothing; marks may come once more. */
static void test_sync_fails(void **state)
{
	static const unsigned long requests[] = {KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG};
	struct noted *n = *state;
	uint64_t word;

	if (!kvm_vm_capability(n->m.kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2))
		skip();
	assert_int_equal(kvm_dirty_start(n->m.kvm, n->gm, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		noted_write(n);
		kernel.fail_request = requests[i];
		assert_int_equal(kvm_dirty_sync(n->m.kvm), -EIO);
		kernel.fail_request = 0;
		assert_int_equal(kvm_dirty_sync(n->m.kvm), 0);
		gm_dirty_take(n->gm, GUEST_REMOTE, &word, 1);
		assert_int_equal(word, 1 << 3);
	}
	kvm_dirty_stop(n->m.kvm);
}

/* The kernel does not tell what was written before a slot goes: all of it. */
static void test_a_slot_goes_untold(void **state)
{
	struct noted *n = *state;
	struct hv *hv = n->m.hv;

	assert_int_equal(kvm_dirty_start(n->m.kvm, n->gm, NULL), 0);
	noted_write(n);
	kernel.fail_request = KVM_GET_DIRTY_LOG;
	assert_int_equal(hv->ops->slot_remove(hv, n->slot), 0);
	kernel.fail_request = 0;
	assert_int_equal(gm_dirty_count(n->gm, GUEST_REMOTE, REMOTE_SIZE), REMOTE_SIZE / PAGE);
	kvm_dirty_stop(n->m.kvm);
}

/* Slots that the guest cannot write to are not noted, and nobody asks for their marks. */
static void test_readonly_slots(void **state)
{
	struct noted *n = *state;
	struct hv *hv = n->m.hv;
	uint32_t slot;

	if (!kvm_vm_capability(n->m.kvm, KVM_CAP_READONLY_MEM))
		skip();
	assert_int_equal(hv->ops->slot_remove(hv, n->slot), 0);
	assert_int_equal(kvm_dirty_start(n->m.kvm, n->gm, NULL), 0);
	kernel.noted = 0;
	assert_int_equal(hv->ops->slot_add(hv, (struct range){GUEST_REMOTE, REMOTE_SIZE}, n->memory,
					   true, &slot),
			 0);
	assert_int_equal(kernel.noted, 0);
	assert_int_equal(kvm_dirty_sync(n->m.kvm), 0);
	assert_int_equal(hv->ops->slot_remove(hv, slot), 0);
	kvm_dirty_stop(n->m.kvm);
	assert_int_equal(gm_dirty_count(n->gm, GUEST_REMOTE, REMOTE_SIZE), 0);
}

static void test_no_rings(void **state)
{
	struct err *err = NULL;
	struct kvm_vm *kvm;

	(void)state;
	kernel.no_rings = true;
	kvm = kvm_vm_new(NULL);
	assert_non_null(kvm);
	assert_int_equal(kvm_dirty_ring_enable(kvm, 4096, &err), -ENOTSUP);
	assert_non_null(strstr(err_message(err), "dirty-ring-size=4096 needs a kernel"));
	err_free(err);
	kvm_vm_free(kvm);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_start_fails),    TEST(test_without_manual_protection),
		TEST(test_sync_fails),     TEST(test_a_slot_goes_untold),
		TEST(test_readonly_slots), TEST(test_no_rings),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: dirty_failures", tests, NULL, NULL);
}
