/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random calls on random runs, now and then with a failing system call, against a list of what each
 * block is: after each call all blocks are looked at, in content, protection and memory held.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "anon_rig.h"
#include "base/num.h"

enum { BLOCKS = 96, PAGES = 2 };
#define BLOCK ((uint64_t)PAGES * PAGE)

struct model {
	struct anon_rig rig;
	uint64_t seed;
	bool faults; /* calls fail now and then */
	bool open[BLOCKS], dirty[BLOCKS];
	uint8_t content[BLOCKS]; /* in the first byte of each page; 0 as well where there is none */
};

static uint64_t model_random(struct model *m, uint64_t below)
{
	m->seed = m->seed * 6364136223846793005 + 1442695040888963407;
	return (m->seed >> 33) % below;
}

static void model_check(const struct model *m)
{
	for (uint64_t i = 0; i < BLOCKS; i++) {
		for (uint64_t k = 0; k < PAGES; k++) {
			uint64_t at = i * BLOCK + k * PAGE;

			assert_int_equal(rig_poke(&m->rig, at, m->content[i]),
					 m->open[i] ? 0 : -EFAULT);
			assert_int_equal((uint8_t)m->rig.memory[at], m->content[i]);
		}
		if (!m->dirty[i])
			assert_int_equal(rig_pages(&m->rig, i * BLOCK, BLOCK), 0);
	}
}

/*
 * Without armed segments fences and mappings are known exactly; with them there is a bound, if no
 * call failed half-way while they were armed.
 */
static void model_check_mappings(const struct model *m)
{
	const struct pages *pages = m->rig.pages;
	unsigned int fences = !m->open[0], mappings = 1;

	for (uint64_t i = 1; i < BLOCKS; i++) {
		fences += m->open[i - 1] && !m->open[i];
		mappings += m->open[i - 1] != m->open[i];
	}
	if (pages->armed_segments) {
		assert_true(m->faults || rig_mappings(&m->rig) <=
						 2 * (pages->fences + pages->armed_segments) + 1);
	} else {
		assert_int_equal(pages->fences, fences);
		assert_int_equal(rig_mappings(&m->rig), mappings);
	}
}

static void model_open(struct model *m, uint64_t first, uint64_t count)
{
	int ret = rig_open(&m->rig, first * BLOCK, count * BLOCK);

	anon_faults_end();
	/* Refused or failed: as it was. */
	assert_true(ret == 0 || ret == -ENOMEM);
	for (uint64_t i = first; !ret && i < first + count; i++) {
		m->open[i] = m->dirty[i] = true;
		if (!m->content[i] && model_random(m, 2))
			m->content[i] = (uint8_t)(1 + model_random(m, 255));
		for (uint64_t k = 0; k < PAGES && m->content[i]; k++)
			m->rig.memory[i * BLOCK + k * PAGE] = (char)m->content[i];
	}
}

static void model_close(struct model *m, uint64_t first, uint64_t count)
{
	int ret = rig_close(&m->rig, first * BLOCK, count * BLOCK);

	anon_faults_end();
	assert_true(ret == 0 || ret == -ENOMEM);
	/* After a failure each is open or closed. */
	for (uint64_t i = first; i < first + count; i++)
		if (!ret || rig_poke(&m->rig, i * BLOCK, m->content[i]) == -EFAULT)
			m->open[i] = false;
}

static void model_discard(struct model *m, uint64_t first, uint64_t count)
{
	/* Failed: content is or is not there. So it is done again. */
	if (rig_discard(&m->rig, first * BLOCK, count * BLOCK)) {
		anon_faults_end();
		assert_int_equal(rig_discard(&m->rig, first * BLOCK, count * BLOCK), 0);
	}
	anon_faults_end();
	for (uint64_t i = first; i < first + count; i++)
		if (!m->open[i])
			m->content[i] = m->dirty[i] = 0;
}

static void model_step(struct model *m)
{
	uint64_t first = model_random(m, BLOCKS), most = BLOCKS - first;
	uint64_t count = 1 + model_random(m, model_random(m, 4) ? num_min(most, 6) : most);

	if (m->faults && !model_random(m, 4))
		anon_faults_set(&(struct anon_faults){.at = 1 + (unsigned int)model_random(m, 8),
						      .times = 1,
						      .error = ENOMEM,
						      .partly = model_random(m, 2)});
	switch (model_random(m, 5)) {
	case 0:
	case 1:
		model_open(m, first, count);
		break;
	case 2:
		model_close(m, first, count);
		break;
	case 3:
		model_close(m, first, count);
		model_discard(m, first, count);
		break;
	default:
		model_discard(m, first, count);
	}
}

static void check_random(uint32_t max_fences, uint64_t segment_blocks, bool faults)
{
	struct model m = {.seed = max_fences + segment_blocks, .faults = faults};
	unsigned int armed = 0;

	rig_start(&m.rig, BLOCKS * BLOCK, BLOCK, segment_blocks * BLOCK, max_fences);
	for (unsigned int step = 0; step < 1000; step++) {
		model_step(&m);
		model_check(&m);
		model_check_mappings(&m);
		armed += m.rig.pages->armed_segments;
	}
	if (max_fences < 8 && segment_blocks > 1 && rig_can_arm())
		assert_true(armed > 0);
	rig_end(&m.rig);
}

static void check_kernel(struct anon_kernel kernel)
{
	anon_kernel_set(kernel);
	for (unsigned int faults = 0; faults < 2; faults++) {
		check_random(10000, 32, faults);
		check_random(4, 32, faults);
		check_random(4, 8, faults);
		check_random(12, 16, faults);
		check_random(2, 1, faults);
	}
	anon_kernel_set((struct anon_kernel){0});
}

static void test_random(void **state)
{
	(void)state;
	check_kernel((struct anon_kernel){0});
}

static void test_random_tables_moved(void **state)
{
	(void)state;
	check_kernel((struct anon_kernel){.no_table_reclaim = true});
}

static void test_random_mergeable(void **state)
{
	(void)state;
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true, .mergeable = true});
	check_random(12, 16, true);
	anon_kernel_set((struct anon_kernel){0});
}

static void test_random_without_userfaultfd(void **state)
{
	(void)state;
	anon_kernel_set((struct anon_kernel){.no_userfaultfd = true});
	check_random(10000, 32, true);
	anon_kernel_set((struct anon_kernel){0});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_random_tables_moved),
		cmocka_unit_test(test_random_mergeable),
		cmocka_unit_test(test_random_without_userfaultfd),
	};

	if (!rig_can_count())
		return 77;
	return cmocka_run_group_tests_name("pages_anon_random", tests, NULL, NULL);
}
