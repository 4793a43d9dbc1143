/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that comes later under a guest, on the real KVM (vmm/migration/lazy.h): vCPUs wait for
 * pages, memory slots change meanwhile, and what cannot come is the guest's error. Skipped where
 * /dev/kvm cannot be opened, or this process may not have a userfaultfd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "guard/missing.h"
#include "tests/unit/kvm/fixture.h"
#include "vmm/migration/lazy.h"

#define PAGE  4096u
#define PAGES 64u
#define OTHER 0x400000u /* a slot that comes and goes */

/* clang-format off */
/* The sum of a word of each page; the word behind it is written. */
GUEST(guest_sum,
      "movl $0x100000, %esi\n"
      "xorl %eax, %eax\n"
      "movl $64, %ecx\n"
      "1: addl (%esi), %eax\n"
      "movl %ecx, 4(%esi)\n"
      "addl $0x1000, %esi\n"
      "loop 1b\n"
      "outl %eax, $0x10\n"
      "9: hlt\n"
      "jmp 9b");
GUEST(guest_load,
      "movl 0x101000, %eax\n"
      "outl %eax, $0x10\n"
      "9: hlt\n"
      "jmp 9b");
/* clang-format on */

struct world {
	struct machine m;
	char *memory, *other;
	struct lazy *lazy;
	sem_t asked, done, failed;
	bool fails; /* the source */
};

static uint32_t content_of(uint64_t page)
{
	return (uint32_t)(page + 1) * 0x01234567;
}

static uint64_t source_next(void *opaque, size_t block, uint64_t page, uint64_t end,
			    uint64_t *ret_nr)
{
	(void)opaque;
	(void)block;
	*ret_nr = end - page;
	return page;
}

static int source_read(void *opaque, size_t block, uint64_t page, uint64_t nr, void *buf,
		       struct err **err)
{
	const struct world *w = opaque;

	(void)block;
	if (w->fails)
		return err_set(err, EIO, "nothing to be read");
	memset(buf, 0, nr * PAGE);
	for (uint64_t i = 0; i < nr; i++) {
		uint32_t value = content_of(page + i);

		memcpy((char *)buf + i * PAGE, &value, sizeof(value));
	}
	return 0;
}

static void source_want(void *opaque, size_t block, uint64_t page, uint64_t nr)
{
	struct world *w = opaque;

	assert_true(!block && page == 1 && nr == 1);
	sem_post(&w->asked);
}

static void hook_done(void *opaque)
{
	sem_post(&((struct world *)opaque)->done);
}

static void hook_failed(void *opaque, const char *sentence)
{
	struct world *w = opaque;

	(void)sentence;
	vcpus_stop(w->m.vcpus);
	sem_post(&w->failed);
}

static void world_init(struct world *w, bool asked)
{
	const struct lazy_source source = {
		.next = asked ? source_next : NULL,
		.read = asked ? source_read : NULL,
		.want = source_want,
		.opaque = w,
	};
	const struct lazy_hooks hooks = {hook_done, hook_failed, w};
	struct lazy_block block = {
		.size = PAGES * PAGE, .page_bytes = PAGE, .unit_bytes = PAGE, .fd = -1};
	uint32_t slot;

	memset(w, 0, sizeof(*w));
	sem_init(&w->asked, 0, 0);
	sem_init(&w->done, 0, 0);
	sem_init(&w->failed, 0, 0);
	machine_init(&w->m, 1);
	w->memory = mmap(NULL, 2 * block.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	assert_true(w->memory != MAP_FAILED);
	w->other = w->memory + block.size;
	block.memory = w->memory;
	assert_int_equal(w->m.hv->ops->slot_add(w->m.hv, (struct range){GUEST_REMOTE, block.size},
						w->memory, false, &slot),
			 0);
	assert_int_equal(lazy_new(&block, 1, &source, &hooks, &w->lazy, NULL), 0);
	assert_int_equal(lazy_expect(w->lazy, 0, 0, block.size, NULL), 0);
}

static void world_done(struct world *w)
{
	machine_done(&w->m);
	lazy_free(w->lazy);
	munmap(w->memory, 2 * PAGES * PAGE);
	sem_destroy(&w->asked);
	sem_destroy(&w->done);
	sem_destroy(&w->failed);
}

static void test_guest_reads(void **state)
{
	uint32_t sum = 0, word;
	struct world w;

	(void)state;
	world_init(&w, true);
	machine_boot(&w.m, guest_sum);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	vcpus_resume(w.m.vcpus);
	for (uint64_t i = 0; i < PAGES; i++)
		sum += content_of(i);
	assert_int_equal(machine_next_out(&w.m), sum);
	sem_wait(&w.done);
	vcpus_pause(w.m.vcpus);
	for (uint64_t i = 0; i < PAGES; i++) {
		memcpy(&word, w.memory + i * PAGE, sizeof(word));
		assert_int_equal(word, content_of(i));
		memcpy(&word, w.memory + i * PAGE + 4, sizeof(word));
		assert_int_equal(word, PAGES - i);
	}
	world_done(&w);
}

/* Slots come and go while a vCPU waits: they may have to wait too, for a page and no longer. */
static void *change_slots(void *opaque)
{
	struct world *w = opaque;
	uint32_t slot;

	for (unsigned int i = 0; i < 10; i++)
		if (w->m.hv->ops->slot_add(w->m.hv, (struct range){OTHER, PAGES * PAGE}, w->other,
					   false, &slot) ||
		    w->m.hv->ops->slot_remove(w->m.hv, slot))
			abort();
	return NULL;
}

static void test_guest_waits(void **state)
{
	char page[PAGE] = {0x78, 0x56, 0x34, 0x12};
	pthread_t thread;
	struct world w;

	(void)state;
	world_init(&w, false);
	assert_int_equal(lazy_expect_pages(w.lazy, 0, 0, PAGES, NULL), 0);
	machine_boot(&w.m, guest_load);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	vcpus_resume(w.m.vcpus);
	sem_wait(&w.asked);
	pthread_create(&thread, NULL, change_slots, &w);
	assert_int_equal(atomic_load(&w.m.port.n), 0);
	assert_int_equal(lazy_put(w.lazy, 0, 1, 1, page, NULL), 0);
	assert_int_equal(machine_next_out(&w.m), 0x12345678);
	pthread_join(thread, NULL);
	assert_int_equal(lazy_put(w.lazy, 0, 0, PAGES, NULL, NULL), 0);
	sem_wait(&w.done);
	vcpus_pause(w.m.vcpus);
	world_done(&w);
}

/* The machine ends while its vCPU waits: that comes back, and has seen nothing. */
static void test_guest_let_go(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, false);
	assert_int_equal(lazy_expect_pages(w.lazy, 0, 0, PAGES, NULL), 0);
	machine_boot(&w.m, guest_load);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	vcpus_resume(w.m.vcpus);
	sem_wait(&w.asked);
	vcpus_stop(w.m.vcpus);
	lazy_abort(w.lazy);
	vcpus_pause(w.m.vcpus);
	assert_int_equal(atomic_load(&w.m.port.n), 0);
	world_done(&w);
}

static void test_source_fails(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, true);
	w.fails = true;
	machine_boot(&w.m, guest_load);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	vcpus_resume(w.m.vcpus);
	sem_wait(&w.failed);
	vcpus_pause(w.m.vcpus);
	/* For good: the next instruction would tell what was loaded. */
	vcpus_resume(w.m.vcpus);
	vcpus_pause(w.m.vcpus);
	assert_int_equal(atomic_load(&w.m.port.n), 0);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_reads),
		cmocka_unit_test(test_guest_waits),
		cmocka_unit_test(test_guest_let_go),
		cmocka_unit_test(test_source_fails),
	};
	struct missing *missing;
	struct vmem_error error;

	if (missing_new(&missing, &error)) {
		print_message("%s\n", error.text);
		return 77;
	}
	missing_free(missing);
	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
