/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which pages the guest wrote, on the real KVM: exactly those that it wrote, whatever happens to
 * memory slots meanwhile, by bitmaps and by rings. kvm.h, kvm_dirty.c, kvm_ring.c. Skipped where
 * /dev/kvm cannot be opened; rings where the kernel has none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "tests/unit/kvm/fixture.h"
#include "vmm/core/gm.h"

#define PAGE         4096
#define PAGES        2048 /* more than a small ring takes */
#define REMOTE_SIZE  ((uint64_t)PAGES * PAGE)
#define RING_ENTRIES 1024
#define WORDS        (PAGES / 64)

/* The machine, and memory at GUEST_REMOTE that has one slot, or two, or none. */
struct written {
	struct machine m;
	struct gm *gm;
	uint8_t *memory;
	uint32_t slots[2];
	size_t nr_slots;
	bool rings;
};

static void written_init(struct written *w, bool rings)
{
	w->rings = rings;
	w->gm = gm_new();
	w->memory =
		mmap(NULL, REMOTE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(w->gm && w->memory != MAP_FAILED);
	assert_int_equal(gm_add_ram(w->gm, (struct range){0, GUEST_RAM}, w->m.ram), 0);
	assert_int_equal(gm_add_ram(w->gm, (struct range){GUEST_REMOTE, REMOTE_SIZE}, w->memory),
			 0);
	assert_int_equal(gm_dirty_start(w->gm), 0);
}

static void written_done(struct written *w)
{
	machine_done(&w->m);
	gm_free(w->gm);
	munmap(w->memory, REMOTE_SIZE);
}

static int setup_bitmaps(void **state)
{
	struct written *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	machine_init(&w->m, 1);
	written_init(w, false);
	*state = w;
	return 0;
}

static int setup_rings(void **state)
{
	struct written *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	*state = NULL;
	if (machine_init_rings(&w->m, 1, RING_ENTRIES)) {
		written_init(w, true);
		*state = w;
	} else {
		free(w);
	}
	return 0;
}

static int teardown(void **state)
{
	if (*state)
		written_done(*state);
	free(*state);
	return 0;
}

static void written_add(struct written *w)
{
	struct hv *hv = w->m.hv;

	assert_int_equal(hv->ops->slot_add(hv, (struct range){GUEST_REMOTE, REMOTE_SIZE}, w->memory,
					   false, &w->slots[0]),
			 0);
	w->nr_slots = 1;
}

static void written_remove(struct written *w)
{
	struct hv *hv = w->m.hv;

	while (w->nr_slots)
		assert_int_equal(hv->ops->slot_remove(hv, w->slots[--w->nr_slots]), 0);
}

/* One slot becomes two, two become one. */
static void written_lay(struct written *w)
{
	struct hv_slot fresh[2] = {{{GUEST_REMOTE, REMOTE_SIZE}, w->memory, 0}};
	struct hv *hv = w->m.hv;
	size_t nr = w->nr_slots == 1 ? 2 : 1;

	if (nr == 2) {
		fresh[0].gpa.size = REMOTE_SIZE / 2 + PAGE;
		fresh[1] = (struct hv_slot){
			{GUEST_REMOTE + fresh[0].gpa.size, REMOTE_SIZE - fresh[0].gpa.size},
			w->memory + fresh[0].gpa.size,
			0};
	}
	assert_int_equal(hv->ops->slots_replace(hv, w->slots, w->nr_slots, fresh, nr), 0);
	for (size_t i = 0; i < nr; i++)
		w->slots[i] = fresh[i].slot;
	w->nr_slots = nr;
}

/* ---- one page at a time ---- */

#define ORDER 0x3000 /* where the guest reads what to do */

/* Writes to the address that it is told, and says that it did. */
/* clang-format off */
GUEST(guest_obey,
      "1: movl 0x3000, %ebx\n"
      "testl %ebx, %ebx\n"
      "jz 1b\n"
      "movl $1, (%ebx)\n"
      "movl %ebx, %eax\n"
      "outl %eax, $0x10\n"
      "2: cmpl %ebx, 0x3000\n"
      "je 2b\n"
      "jmp 1b");
/* clang-format on */

static void written_order(struct written *w, unsigned int page)
{
	uint32_t gpa = GUEST_REMOTE + page * PAGE;

	machine_poke(&w->m, ORDER, gpa);
	assert_int_equal(machine_next_out(&w->m), gpa);
	machine_poke(&w->m, ORDER, 0);
}

/* Pages of the guest's code, and where it reads: KVM may count them when it maps them anew. */
#define READ_PAGES (1u << GUEST_CODE / PAGE | 1u << ORDER / PAGE)

/* These pages of the remote memory are marked, no other page is anywhere. */
static void check_marks(struct written *w, const unsigned int *pages, size_t nr)
{
	uint64_t words[WORDS];

	gm_dirty_take(w->gm, 0, words, 1);
	assert_int_equal(words[0] & ~(uint64_t)READ_PAGES, 0);
	assert_int_equal(gm_dirty_take(w->gm, GUEST_REMOTE, words, WORDS), nr);
	for (size_t i = 0; i < nr; i++)
		assert_true(words[pages[i] / 64] >> pages[i] % 64 & 1);
}

static void test_exactly_what_was_written(void **state)
{
	static const unsigned int first[] = {0, 3, 63, 64, 700, PAGES - 1}, second[] = {3, 1030};
	struct written *w = *state;

	if (!w)
		skip();
	written_add(w);
	machine_boot(&w->m, guest_obey);
	vcpus_resume(w->m.vcpus);
	/* Not noted. */
	written_order(w, 5);
	assert_int_equal(kvm_dirty_start(w->m.kvm, w->gm, NULL), 0);
	assert_int_equal(kvm_dirty_sync(w->m.kvm), 0);
	check_marks(w, NULL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(first); i++)
		written_order(w, first[i]);
	written_order(w, first[0]);
	assert_int_equal(kvm_dirty_sync(w->m.kvm), 0);
	check_marks(w, first, ARRAY_SIZE(first));
	/* Each write is noticed again, and only once. */
	for (unsigned int i = 0; i < 3; i++) {
		for (size_t j = 0; j < ARRAY_SIZE(second); j++)
			written_order(w, second[j]);
		assert_int_equal(kvm_dirty_sync(w->m.kvm), 0);
		check_marks(w, second, ARRAY_SIZE(second));
	}
	assert_int_equal(kvm_dirty_sync(w->m.kvm), 0);
	check_marks(w, NULL, 0);
	kvm_dirty_stop(w->m.kvm);
	written_order(w, 9);
	vcpus_pause(w->m.vcpus);
	check_marks(w, NULL, 0);
	/* Started again, it begins clean. */
	assert_int_equal(kvm_dirty_start(w->m.kvm, w->gm, NULL), 0);
	assert_int_equal(kvm_dirty_sync(w->m.kvm), 0);
	check_marks(w, NULL, 0);
	kvm_dirty_stop(w->m.kvm);
}

/* Slots that come are noted, those that go leave their marks behind, without a sync. */
static void test_slots_come_and_go(void **state)
{
	static const unsigned int pages[] = {7, PAGES / 2, PAGES - 2};
	struct written *w = *state;

	if (!w)
		skip();
	machine_boot(&w->m, guest_obey);
	vcpus_resume(w->m.vcpus);
	assert_int_equal(kvm_dirty_start(w->m.kvm, w->gm, NULL), 0);
	for (unsigned int i = 0; i < 3; i++) {
		written_add(w);
		for (size_t j = 0; j < ARRAY_SIZE(pages); j++)
			written_order(w, pages[j]);
		written_remove(w);
		check_marks(w, pages, ARRAY_SIZE(pages));
	}
	written_add(w);
	for (unsigned int i = 0; i < 4; i++) {
		for (size_t j = 0; j < ARRAY_SIZE(pages); j++)
			written_order(w, pages[j]);
		written_lay(w);
		check_marks(w, pages, ARRAY_SIZE(pages));
	}
	written_order(w, pages[0]);
	written_lay(w);
	written_order(w, pages[1]);
	written_lay(w);
	written_order(w, pages[2]);
	assert_int_equal(kvm_dirty_sync(w->m.kvm), 0);
	check_marks(w, pages, ARRAY_SIZE(pages));
	vcpus_pause(w->m.vcpus);
	kvm_dirty_stop(w->m.kvm);
	written_remove(w);
}

/* ---- all the time ---- */

/*
 * Sweeps over the memory, with a count that never comes twice, and leaves the guest now and then: a KVM
 * that interprets its guests looks only then whether a ring is full.
 */
/* clang-format off */
GUEST(guest_sweep,
      "xorl %eax, %eax\n"
      "1: movl $0x100000, %ebx\n"
      "2: incl %eax\n"
      "movl %eax, (%ebx)\n"
      "movl %eax, 8(%ebx)\n"
      "testl $15, %eax\n"
      "jnz 3f\n"
      "outl %eax, $0x80\n"
      "3: addl $0x1000, %ebx\n"
      "cmpl $0x900000, %ebx\n"
      "jb 2b\n"
      "movl %eax, 0x2000\n"
      "jmp 1b");
/* clang-format on */

/* As who carries memory elsewhere: what is marked is copied. */
static void written_copy(struct written *w, uint8_t *copy)
{
	uint64_t words[WORDS];

	assert_int_equal(kvm_dirty_sync(w->m.kvm), 0);
	gm_dirty_take(w->gm, GUEST_REMOTE, words, WORDS);
	for (unsigned int page = 0; page < PAGES; page++)
		if (words[page / 64] >> page % 64 & 1)
			assert_int_equal(gm_read(w->gm, GUEST_REMOTE + (uint64_t)page * PAGE,
						 copy + (size_t)page * PAGE, PAGE),
					 0);
}

struct layer {
	struct written *w;
	atomic_bool stop;
	atomic_uint times;
};

static void *layer_main(void *opaque)
{
	struct layer *layer = opaque;

	while (!atomic_load(&layer->stop)) {
		written_lay(layer->w);
		atomic_fetch_add(&layer->times, 1);
	}
	return NULL;
}

#define ROUNDS 96

/* No write is ever missed, also while another thread lays the slots anew and vCPUs are throttled. */
static void test_nothing_is_missed(void **state)
{
	uint8_t *copy = malloc(REMOTE_SIZE);
	struct written *w = *state;
	struct layer layer = {.w = w};
	pthread_t thread;

	if (!w) {
		free(copy);
		skip();
	}
	assert_non_null(copy);
	written_add(w);
	machine_boot(&w->m, guest_sweep);
	assert_int_equal(kvm_dirty_start(w->m.kvm, w->gm, NULL), 0);
	memcpy(copy, w->memory, REMOTE_SIZE);
	vcpus_resume(w->m.vcpus);
	machine_wait_change(&w->m, GUEST_DATA, 0);
	assert_int_equal(pthread_create(&thread, NULL, layer_main, &layer), 0);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		vcpus_throttle(w->m.vcpus, i % 4 * 30);
		written_copy(w, copy);
		if (i % 8)
			continue;
		vcpus_pause(w->m.vcpus);
		written_copy(w, copy);
		assert_memory_equal(copy, w->memory, REMOTE_SIZE);
		vcpus_resume(w->m.vcpus);
	}
	atomic_store(&layer.stop, true);
	pthread_join(thread, NULL);
	assert_true(atomic_load(&layer.times) > 0);
	vcpus_throttle(w->m.vcpus, 0);
	machine_wait_change(&w->m, GUEST_DATA, machine_peek(&w->m, GUEST_DATA));
	vcpus_pause(w->m.vcpus);
	written_copy(w, copy);
	assert_memory_equal(copy, w->memory, REMOTE_SIZE);
	assert_int_equal(atomic_load(&w->m.failures), 0);
	kvm_dirty_stop(w->m.kvm);
	free(copy);
}

/* A vCPU that wrote more than its ring takes gets on by itself, and loses nothing. */
static void test_more_than_a_ring_takes(void **state)
{
	struct written *w = *state;
	uint64_t words[WORDS];

	if (!w)
		skip();
	written_add(w);
	machine_boot(&w->m, guest_sweep);
	assert_int_equal(kvm_dirty_start(w->m.kvm, w->gm, NULL), 0);
	vcpus_resume(w->m.vcpus);
	machine_wait_change(&w->m, GUEST_DATA, 0);
	vcpus_pause(w->m.vcpus);
	assert_int_equal(kvm_dirty_sync(w->m.kvm), 0);
	assert_int_equal(gm_dirty_take(w->gm, GUEST_REMOTE, words, WORDS), PAGES);
	/* Nobody asks any more, and it still runs. */
	kvm_dirty_stop(w->m.kvm);
	vcpus_resume(w->m.vcpus);
	machine_wait_change(&w->m, GUEST_DATA, machine_peek(&w->m, GUEST_DATA));
	vcpus_pause(w->m.vcpus);
	assert_int_equal(atomic_load(&w->m.failures), 0);
}

/* Sizes that no kernel takes, and rings that come too late. */
static void test_rings_refused(void **state)
{
	struct written *w = *state;
	struct err *err = NULL;

	if (!w)
		skip();
	assert_int_equal(kvm_dirty_ring_enable(w->m.kvm, 1u << 24, &err), -EINVAL);
	assert_non_null(strstr(err_message(err), "dirty-ring-size=16777216"));
	err_free(err);
	err = NULL;
	assert_true(kvm_dirty_ring_enable(w->m.kvm, RING_ENTRIES / 2, &err) < 0);
	assert_non_null(strstr(err_message(err), "dirty-ring-size=512"));
	err_free(err);
}

#define TEST(fn, how)                                              \
	{                                                          \
#fn " (" #how ")", fn, setup_##how, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_exactly_what_was_written, bitmaps),
		TEST(test_slots_come_and_go, bitmaps),
		TEST(test_nothing_is_missed, bitmaps),
		TEST(test_more_than_a_ring_takes, bitmaps),
		TEST(test_exactly_what_was_written, rings),
		TEST(test_slots_come_and_go, rings),
		TEST(test_nothing_is_missed, rings),
		TEST(test_more_than_a_ring_takes, rings),
		TEST(test_rings_refused, rings),
	};

	if (!machine_possible())
		return 77;
	return cmocka_run_group_tests_name("kvm: dirty", tests, NULL, NULL);
}
