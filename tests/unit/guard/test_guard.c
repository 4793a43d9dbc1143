/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard on real anonymous memory: slots and pages come and go as guard.h, I1 to I4, says, also
 * after a failure at each call into the hypervisor in turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/num.h"
#include "guard/pages.h"
#include "tests/unit/guard/guard_rig.h"

/* What the kernel can do. */
static bool old_kernel;
bool __wrap_pages_populate_supported(void);
bool __wrap_pages_populate_supported(void)
{
	return !old_kernel;
}

static void test_slots_are_present_while_granted(void **state)
{
	struct host h;

	(void)state;
	host_start(&h, 8 * MIB, MIB, 4 * MIB);
	check_count(&h, 0);
	assert_int_equal(vmem_guard_grant(h.guard, 2 * MIB, MIB), 0);
	assert_true(host_has(&h, 0, 4 * MIB));
	check_count(&h, 1);
	/* Another block of the same slot, and one that is granted already. */
	assert_int_equal(vmem_guard_grant(h.guard, MIB, 2 * MIB), 0);
	assert_int_equal(h.adds, 1);
	assert_int_equal(vmem_guard_revoke(h.guard, 2 * MIB, MIB), 0);
	assert_int_equal(h.removes, 0);
	/* Never granted, and revoked twice: nothing happens. */
	assert_int_equal(vmem_guard_revoke(h.guard, 3 * MIB, MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, 2 * MIB, MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, 4 * MIB, 4 * MIB), 0);
	assert_int_equal(h.removes, 0);
	assert_true(host_has(&h, 0, 4 * MIB));
	/* The last one. */
	assert_int_equal(vmem_guard_revoke(h.guard, MIB, MIB), 0);
	assert_int_equal(h.removes, 1);
	check_count(&h, 0);
	assert_int_equal(vmem_guard_revoke(h.guard, 0, 8 * MIB), 0);
	assert_int_equal(h.removes, 1);
	host_end(&h);
}

static void test_runs_cross_slots(void **state)
{
	struct host h;

	(void)state;
	/* The last slot is half a slot. */
	host_start(&h, 10 * MIB, MIB, 4 * MIB);
	assert_int_equal(vmem_guard_grant(h.guard, 3 * MIB, 6 * MIB), 0);
	check_count(&h, 3);
	assert_true(host_has(&h, 0, 4 * MIB));
	assert_true(host_has(&h, 4 * MIB, 4 * MIB));
	assert_true(host_has(&h, 8 * MIB, 2 * MIB));
	/* The middle one becomes empty, the others keep a block each. */
	assert_int_equal(vmem_guard_revoke(h.guard, 4 * MIB, 4 * MIB), 0);
	assert_int_equal(host_slots(&h), 2);
	assert_false(host_has(&h, 4 * MIB, 4 * MIB));
	assert_int_equal(vmem_guard_grant(h.guard, 9 * MIB, MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, 8 * MIB, MIB), 0);
	assert_true(host_has(&h, 8 * MIB, 2 * MIB));
	/* All at once, with blocks that never were. */
	assert_int_equal(vmem_guard_revoke(h.guard, 0, 10 * MIB), 0);
	assert_int_equal(host_slots(&h), 0);
	assert_int_equal(h.adds, 3);
	assert_int_equal(h.removes, 3);
	host_end(&h);
}

static void test_free_removes_slots(void **state)
{
	struct host h;

	(void)state;
	host_start(&h, 8 * MIB, MIB, MIB);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 3 * MIB), 0);
	host_end(&h);
	assert_int_equal(h.removes, 3);
	vmem_guard_free(NULL);
}

static void test_sizes(void **state)
{
	const uint64_t blocks[] = {PAGE, 64 * KIB, 2 * MIB, GIB};
	struct host h;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(blocks); i++) {
		for (uint64_t memslot = blocks[i]; memslot <= 4 * blocks[i]; memslot *= 2) {
			uint64_t size = 7 * blocks[i], end = size - blocks[i];
			uint64_t last = num_align_down(end, memslot);

			host_start(&h, size, blocks[i], memslot);
			assert_int_equal(vmem_guard_grant(h.guard, end, blocks[i]), 0);
			assert_int_equal(host_slots(&h), 1);
			assert_true(host_has(&h, last, size - last));
			assert_int_equal(vmem_guard_grant(h.guard, 0, size), 0);
			assert_int_equal(host_slots(&h), (size + memslot - 1) / memslot);
			assert_int_equal(vmem_guard_revoke(h.guard, 0, end), 0);
			assert_int_equal(host_slots(&h), 1);
			assert_int_equal(vmem_guard_discard(h.guard, 0, size), 0);
			host_end(&h);
		}
	}
}

static void test_one_slot_for_a_small_device(void **state)
{
	struct host h;

	(void)state;
	host_start(&h, 2 * MIB, MIB, 128 * MIB);
	assert_int_equal(vmem_guard_grant(h.guard, MIB, MIB), 0);
	assert_true(host_has(&h, 0, 2 * MIB));
	host_end(&h);
}

static void test_wrong_sizes_are_refused(void **state)
{
	char *memory = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct vmem_guard_config good = {
		.memory = memory,
		.size = MIB,
		.block_size = 64 * KIB,
		.memslot_size = 128 * KIB,
		.fd = -1,
		.ops = &host_ops,
	};
	struct vmem_guard_config bad[] = {good, good, good, good, good, good, good, good};
	struct vmem_guard *guard = NULL;
	struct vmem_error error;

	(void)state;
	bad[0].block_size = 0;
	bad[1].block_size = 2048;
	bad[2].block_size = 96 * KIB;
	bad[3].memslot_size = 0;
	bad[4].memslot_size = 32 * KIB;
	bad[5].memslot_size = 192 * KIB;
	bad[6].size = MIB - PAGE;
	bad[7].memory = memory + 8;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		error.text[0] = 0;
		assert_int_equal(vmem_guard_new(&bad[i], &guard, &error), -EINVAL);
		assert_true(error.text[0]);
		assert_null(guard);
	}
	munmap(memory, MIB);
}

/* Populated means there; discarded means gone, exactly the run, and zeros afterwards. */
static void test_pages_come_and_go(void **state)
{
	const uint64_t block = 64 * KIB;
	struct host h;

	(void)state;
	host_start(&h, 16 * block, block, 4 * block);
	/* Page by page, so that no neighbour comes along with a huge page. */
	madvise(h.memory, 16 * block, MADV_NOHUGEPAGE);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 16 * block), 0);
	assert_int_equal(host_pages(&h, 0, 16 * block), 0);
	assert_int_equal(vmem_guard_populate(h.guard, 3 * block, 5 * block), 0);
	assert_int_equal(host_pages(&h, 3 * block, 5 * block), 5 * block / PAGE);
	assert_int_equal(host_pages(&h, 0, 16 * block), 5 * block / PAGE);
	memset(h.memory, 0xa5, 16 * block);

	assert_int_equal(vmem_guard_revoke(h.guard, 5 * block, 2 * block), 0);
	/* Revoking changes no content. */
	assert_int_equal(host_pages(&h, 0, 16 * block), 16 * block / PAGE);
	assert_int_equal(vmem_guard_discard(h.guard, 5 * block, 2 * block), 0);
	assert_int_equal(host_pages(&h, 5 * block, 2 * block), 0);
	assert_int_equal(host_pages(&h, 0, 16 * block), 14 * block / PAGE);
	for (uint64_t i = 0; i < 16 * block; i++)
		assert_int_equal((uint8_t)h.memory[i], i / block == 5 || i / block == 6 ? 0 : 0xa5);
	/* Discarding what holds nothing, and populating what is there: nothing to do. */
	assert_int_equal(vmem_guard_revoke(h.guard, 0, 16 * block), 0);
	assert_int_equal(vmem_guard_discard(h.guard, 0, 16 * block), 0);
	assert_int_equal(vmem_guard_discard(h.guard, 0, 16 * block), 0);
	assert_int_equal(host_pages(&h, 0, 16 * block), 0);
	assert_int_equal(vmem_guard_grant(h.guard, 0, block), 0);
	assert_int_equal(vmem_guard_populate(h.guard, 0, block), 0);
	h.memory[0] = 1;
	assert_int_equal(vmem_guard_populate(h.guard, 0, block), 0);
	assert_int_equal(h.memory[0], 1);
	host_end(&h);
}

/* A grant over blocks that a failed unplug revoked but did not discard keeps their content. */
static void test_grant_keeps_content(void **state)
{
	struct host h;

	(void)state;
	host_start(&h, 4 * MIB, MIB, MIB);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 2 * MIB), 0);
	memset(h.memory, 0x5a, 2 * MIB);
	assert_int_equal(vmem_guard_revoke(h.guard, 0, 2 * MIB), 0);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 2 * MIB), 0);
	assert_int_equal(h.memory[2 * MIB - 1], 0x5a);
	host_end(&h);
}

/* Memory that cannot be had: a hole in the mapping, and pages that may not be written. */
static void test_populate_and_discard_fail(void **state)
{
	struct host h;

	(void)state;
	host_start(&h, 4 * MIB, MIB, MIB);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 4 * MIB), 0);
	assert_int_equal(munmap(h.memory + 2 * MIB, MIB), 0);
	assert_int_equal(vmem_guard_populate(h.guard, MIB, 2 * MIB), -ENOMEM);
	assert_int_equal(vmem_guard_revoke(h.guard, MIB, 2 * MIB), -ENOMEM);
	assert_int_equal(vmem_guard_populate(h.guard, 0, MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, 3 * MIB, MIB), 0);
	assert_int_equal(munmap(h.memory + 3 * MIB, MIB), 0);
	assert_int_equal(vmem_guard_discard(h.guard, 3 * MIB, MIB), -ENOMEM);
	assert_int_equal(mprotect(h.memory, MIB, PROT_READ), 0);
	assert_true(vmem_guard_populate(h.guard, 0, MIB) < 0);
	host_end(&h);
}

/* The pages of a mapping behind the end of its file are a SIGBUS: the host has not the memory. */
static void test_populate_beyond_what_is_there(void **state)
{
	int fd = memfd_create("guard", 0);
	struct host h;

	(void)state;
	host_start(&h, 2 * MIB, MIB, MIB);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)MIB), 0);
	assert_true(mmap(h.memory, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			 0) != MAP_FAILED);
	assert_int_equal(vmem_guard_populate(h.guard, 0, MIB), 0);
	assert_int_equal(vmem_guard_populate(h.guard, 0, 2 * MIB), -ENOMEM);
	close(fd);
	host_end(&h);
}

/*
 * Each call into the hypervisor fails in turn, in a grant and in a revoke over four slots of which
 * one is granted already. What was granted before stays granted; the opposite call over the same
 * run brings all back.
 */
static void test_every_slot_call_fails(void **state)
{
	struct host h;

	(void)state;
	for (unsigned int fail = 1; fail <= 3; fail++) {
		host_start(&h, 4 * MIB, MIB / 2, MIB);
		assert_int_equal(vmem_guard_grant(h.guard, 0, MIB / 2), 0);
		h.calls = 0;
		h.fail_at = fail;
		assert_int_equal(vmem_guard_grant(h.guard, 0, 4 * MIB), -ENOSPC);
		assert_int_equal(h.calls, fail);
		check_memslots(&h);
		assert_true(host_has(&h, 0, MIB));
		/* Once more, and it goes on from there. */
		h.fail_at = 0;
		assert_int_equal(vmem_guard_grant(h.guard, 0, 4 * MIB), 0);
		assert_int_equal(h.adds, 4);
		assert_int_equal(host_slots(&h), 4);
		host_end(&h);
	}
	for (unsigned int fail = 1; fail <= 4; fail++) {
		host_start(&h, 4 * MIB, MIB / 2, MIB);
		assert_int_equal(vmem_guard_grant(h.guard, 0, 4 * MIB), 0);
		h.calls = 0;
		h.fail_at = fail;
		h.error = -EIO;
		assert_int_equal(vmem_guard_revoke(h.guard, 0, 4 * MIB), -EIO);
		assert_int_equal(h.calls, fail);
		check_memslots(&h);
		assert_int_equal(host_slots(&h), 5 - fail);
		h.fail_at = 0;
		if (fail & 1) {
			/* Undone. */
			assert_int_equal(vmem_guard_grant(h.guard, 0, 4 * MIB), 0);
			assert_int_equal(host_slots(&h), 4);
		} else {
			/* Tried again. */
			assert_int_equal(vmem_guard_revoke(h.guard, 0, 4 * MIB), 0);
			assert_int_equal(host_slots(&h), 0);
		}
		check_memslots(&h);
		host_end(&h);
	}
}

/* A revoke that failed in one slot lost nothing of it: its blocks still count. */
static void test_failed_revoke_keeps_the_slot(void **state)
{
	struct host h;

	(void)state;
	host_start(&h, 2 * MIB, MIB / 2, MIB);
	assert_int_equal(vmem_guard_grant(h.guard, 0, MIB), 0);
	h.fail_at = h.calls + 1;
	assert_int_equal(vmem_guard_revoke(h.guard, 0, MIB), -ENOSPC);
	h.fail_at = 0;
	assert_int_equal(vmem_guard_revoke(h.guard, 0, MIB / 2), 0);
	assert_true(host_has(&h, 0, MIB));
	assert_int_equal(vmem_guard_revoke(h.guard, MIB / 2, MIB / 2), 0);
	assert_int_equal(host_slots(&h), 0);
	host_end(&h);
}

/* A kernel that cannot allocate private memory in advance: known at the start, if it is wanted. */
static void test_populate_on_an_old_kernel(void **state)
{
	struct vmem_guard *guard = NULL;
	struct vmem_error error;
	struct host h;

	(void)state;
	host_start(&h, 2 * MIB, MIB, MIB);
	vmem_guard_free(h.guard);
	old_kernel = true;
	h.config.populate_threads = 1;
	assert_int_equal(vmem_guard_new(&h.config, &guard, &error), -EOPNOTSUPP);
	assert_non_null(strstr(error.text, "Linux 5.14"));
	assert_null(guard);
	h.config.populate_threads = 0;
	assert_int_equal(vmem_guard_new(&h.config, &h.guard, &error), 0);
	old_kernel = false;
	host_end(&h);
}

/* Guards of one process share what mappings there are: a checkerboard meets its limit earlier. */
static void test_guards_share_mappings(void **state)
{
	uint32_t fences[2];

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct pages_config c = {.nr_guards = i ? 16 : 0};

		fences[i] = pages_fence_budget(&c);
		c.max_fences = 7;
		assert_int_equal(pages_fence_budget(&c), 7);
	}
	assert_int_equal(fences[1], fences[0] / 16);
}

/* Without protection the pages are the guest's own business; slots come and go all the same. */
static void test_unprotected(void **state)
{
	struct vmem_guard_info info;
	struct host h;

	(void)state;
	host_start(&h, 4 * MIB, MIB, 4 * MIB);
	vmem_guard_free(h.guard);
	h.config.unprotected = true;
	assert_int_equal(vmem_guard_new(&h.config, &h.guard, NULL), 0);
	vmem_guard_info(h.guard, &info);
	assert_string_equal(info.mechanism, "none");
	assert_int_equal(vmem_guard_grant(h.guard, 0, 2 * MIB), 0);
	memset(h.memory, 1, 4 * MIB);
	assert_int_equal(vmem_guard_populate(h.guard, 0, 2 * MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, 0, MIB), 0);
	assert_int_equal(vmem_guard_discard(h.guard, 0, MIB), 0);
	assert_int_equal(host_pages(&h, 0, MIB), 0);
	assert_int_equal(h.memory[MIB], 1);
	assert_int_equal(vmem_guard_refine(h.guard, 0, 4 * MIB), 0);
	assert_true(host_has(&h, 0, 4 * MIB));
	host_end(&h);
}

/*
 * 16 TiB of 4 KiB blocks, of which hardly any is granted, revoked and discarded as a whole again
 * and again, as UNPLUG_ALL does it (I4): block by block this would take hours.
 */
static void test_a_huge_device(void **state)
{
	const uint64_t size = 16 * TIB;
	const struct vmem_guard_config config = {
		.memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
		.size = size,
		.block_size = PAGE,
		.memslot_size = GIB,
		.fd = -1,
	};
	struct host h;

	(void)state;
	if (config.memory == MAP_FAILED || host_start_on(&h, &config)) {
		print_message("this process may not have 16 TiB of addresses\n");
		skip();
	}
	for (unsigned int i = 0; i < 200; i++) {
		assert_int_equal(vmem_guard_grant(h.guard, 0, PAGE), 0);
		assert_int_equal(vmem_guard_grant(h.guard, size - PAGE, PAGE), 0);
		h.memory[0] = h.memory[size - 1] = 1;
		assert_int_equal(host_slots(&h), 2);
		assert_int_equal(vmem_guard_revoke(h.guard, 0, size), 0);
		assert_int_equal(host_slots(&h), 0);
		assert_int_equal(vmem_guard_discard(h.guard, 0, size), 0);
		assert_int_equal(h.memory[0] | h.memory[size - 1], 0);
	}
	host_end(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots_are_present_while_granted),
		cmocka_unit_test(test_runs_cross_slots),
		cmocka_unit_test(test_free_removes_slots),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_one_slot_for_a_small_device),
		cmocka_unit_test(test_wrong_sizes_are_refused),
		cmocka_unit_test(test_pages_come_and_go),
		cmocka_unit_test(test_grant_keeps_content),
		cmocka_unit_test(test_populate_and_discard_fail),
		cmocka_unit_test(test_populate_beyond_what_is_there),
		cmocka_unit_test(test_every_slot_call_fails),
		cmocka_unit_test(test_failed_revoke_keeps_the_slot),
		cmocka_unit_test(test_populate_on_an_old_kernel),
		cmocka_unit_test(test_guards_share_mappings),
		cmocka_unit_test(test_unprotected),
		cmocka_unit_test(test_a_huge_device),
	};

	return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
