/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots that are laid anew around closed blocks, and all of the guard's slots against a naive count:
 * guard.h, vmem_guard_refine() and I1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <vmem/guard.h>

#include "base/num.h"
#include "tests/unit/guard/guard_rig.h"

/* Refining: closed blocks leave the guest, one memory slot a run; the next grant makes it whole. */
static void test_refine(void **state)
{
	struct vmem_guard_info info;
	struct host h;

	(void)state;
	host_start(&h, 8 * MIB, MIB, 4 * MIB);
	assert_int_equal(vmem_guard_refine(h.guard, 0, 8 * MIB), 0);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 8 * MIB), 0);
	assert_int_equal(vmem_guard_refine(h.guard, 0, 8 * MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, MIB, MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, 7 * MIB, MIB), 0);
	/* Only the slots that the run touches. */
	assert_int_equal(vmem_guard_refine(h.guard, 5 * MIB, 1), 1);
	assert_true(host_has(&h, 0, 4 * MIB));
	assert_true(host_has(&h, 4 * MIB, 3 * MIB));
	assert_int_equal(vmem_guard_refine(h.guard, 0, 8 * MIB), 1);
	assert_true(host_has(&h, 0, MIB));
	assert_true(host_has(&h, 2 * MIB, 2 * MIB));
	check_count(&h, 2);
	assert_int_equal(vmem_guard_refine(h.guard, 0, 8 * MIB), 0);
	/* More is revoked: anew. */
	assert_int_equal(vmem_guard_revoke(h.guard, 3 * MIB, MIB), 0);
	assert_int_equal(vmem_guard_refine(h.guard, 0, 8 * MIB), 1);
	assert_true(host_has(&h, 2 * MIB, MIB));
	/* What is granted again is there again, with all of its slot. */
	assert_int_equal(vmem_guard_grant(h.guard, MIB, MIB), 0);
	assert_true(host_has(&h, 0, 4 * MIB));
	assert_int_equal(vmem_guard_grant(h.guard, 7 * MIB, MIB), 0);
	assert_true(host_has(&h, 4 * MIB, 4 * MIB));
	/* A fine slot goes as any other. */
	assert_int_equal(vmem_guard_revoke(h.guard, MIB, MIB), 0);
	assert_int_equal(vmem_guard_refine(h.guard, 0, 4 * MIB), 1);
	assert_int_equal(vmem_guard_revoke(h.guard, 0, 8 * MIB), 0);
	assert_int_equal(host_slots(&h), 0);
	vmem_guard_info(h.guard, &info);
	assert_int_equal(info.refinements, 4);
	/* And with the guard. */
	assert_int_equal(vmem_guard_grant(h.guard, 0, 8 * MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, MIB, MIB), 0);
	assert_int_equal(vmem_guard_refine(h.guard, 0, 8 * MIB), 1);
	host_end(&h);
}

/* A replacement that fails changes nothing; one that loses the slots is made good by the next. */
static void test_refine_fails(void **state)
{
	struct host h;

	(void)state;
	host_start(&h, 4 * MIB, MIB, 4 * MIB);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 4 * MIB), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, MIB, MIB), 0);
	h.fail_at = h.calls + 1;
	assert_int_equal(vmem_guard_refine(h.guard, 0, 4 * MIB), -ENOSPC);
	check_count(&h, 1);
	assert_true(host_has(&h, 0, 4 * MIB));
	h.fail_at = 0;
	assert_int_equal(vmem_guard_refine(h.guard, 0, 4 * MIB), 1);
	/* Becoming whole again, and leaving, fail. */
	h.fail_at = h.calls + 1;
	assert_int_equal(vmem_guard_grant(h.guard, MIB, MIB), -ENOSPC);
	assert_int_equal(host_slots(&h), 2);
	assert_int_equal(vmem_guard_revoke(h.guard, MIB, MIB), 0);
	h.fail_at = h.calls + 1;
	assert_int_equal(vmem_guard_revoke(h.guard, 0, 4 * MIB), -ENOSPC);
	assert_int_equal(host_slots(&h), 2);
	h.fail_at = 0;
	/* Undone. */
	assert_int_equal(vmem_guard_grant(h.guard, 0, MIB), 0);
	assert_int_equal(vmem_guard_grant(h.guard, 2 * MIB, 2 * MIB), 0);
	assert_true(host_has(&h, 0, 4 * MIB));
	h.lose_slots = true;
	assert_int_equal(vmem_guard_refine(h.guard, 0, 4 * MIB), -ENOTRECOVERABLE);
	check_count(&h, 1);
	h.lose_slots = false;
	assert_int_equal(vmem_guard_refine(h.guard, 0, 4 * MIB), 1);
	assert_true(host_has(&h, 0, MIB));
	assert_true(host_has(&h, 2 * MIB, 2 * MIB));
	host_end(&h);
}

/* Too many runs, and an embedder that cannot replace slots. */
static void test_refine_is_not_to_be_had(void **state)
{
	const uint64_t blocks = 4096;
	struct host h;

	(void)state;
	host_start(&h, blocks * PAGE, PAGE, blocks * PAGE);
	assert_int_equal(vmem_guard_grant(h.guard, 0, blocks * PAGE), 0);
	for (uint64_t i = 0; i < blocks; i += 2)
		assert_int_equal(vmem_guard_revoke(h.guard, i * PAGE, PAGE), 0);
	assert_int_equal(vmem_guard_refine(h.guard, 0, blocks * PAGE), -ENOSPC);
	assert_int_equal(h.replaces, 0);
	vmem_guard_free(h.guard);
	h.config.ops = &host_ops_without_replace;
	assert_int_equal(vmem_guard_new(&h.config, &h.guard, NULL), 0);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 2 * PAGE), 0);
	assert_int_equal(vmem_guard_refine(h.guard, 0, blocks * PAGE), -EOPNOTSUPP);
	host_end(&h);
}

/* The memory slots are exactly the runs of granted blocks in [first, end). */
static void check_exact(const struct host *h, const bool *granted, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end;) {
		uint64_t run = i;

		while (run < end && granted[run])
			run++;
		if (run > i)
			assert_true(host_has(h, i * PAGE, (run - i) * PAGE));
		i = run + 1;
	}
}

/*
 * Against a naive count of granted blocks, by random runs; now and then a slot is refined, and stays
 * so until something in it is granted.
 */
static void test_random_runs(void **state)
{
	enum { BLOCKS = 64, PER_SLOT = 8 };
	bool granted[BLOCKS] = {false}, fine[BLOCKS / PER_SLOT] = {false};
	uint64_t seed = 0x9e3779b97f4a7c15;
	struct host h;

	(void)state;
	host_start(&h, (uint64_t)BLOCKS * PAGE - 3 * PAGE, PAGE, PER_SLOT * PAGE);
	for (unsigned int step = 0; step < 20000; step++) {
		uint64_t first, count;
		bool grant;

		seed = seed * 6364136223846793005 + 1442695040888963407;
		first = (seed >> 33) % (BLOCKS - 3);
		count = 1 + (seed >> 40) % (BLOCKS - 3 - first);
		grant = seed >> 63;
		assert_int_equal((grant ? vmem_guard_grant
					: vmem_guard_revoke)(h.guard, first * PAGE, count * PAGE),
				 0);
		memset(granted + first, grant, count);
		for (unsigned int s = 0; s < BLOCKS / PER_SLOT; s++) {
			uint64_t start = (uint64_t)s * PER_SLOT, end = start + PER_SLOT;
			bool any, refine = (seed >> 20 & 63) == s;

			end = num_min(end, BLOCKS - 3);
			any = memchr(granted + start, true, end - start) != NULL;
			if (!any || (grant && first < end && first + count > start))
				fine[s] = false;
			if (refine) {
				bool all = !memchr(granted + start, false, end - start);

				assert_true(vmem_guard_refine(h.guard, start * PAGE, PAGE) >= 0);
				fine[s] = any && (fine[s] || !all);
				if (fine[s])
					check_exact(&h, granted, start, end);
			}
			if (!fine[s])
				assert_int_equal(host_has(&h, start * PAGE, (end - start) * PAGE),
						 any);
		}
		check_memslots(&h);
	}
	host_end(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refine),
		cmocka_unit_test(test_refine_fails),
		cmocka_unit_test(test_refine_is_not_to_be_had),
		cmocka_unit_test(test_random_runs),
	};

	return cmocka_run_group_tests_name("guard: slots laid anew", tests, NULL, NULL);
}
