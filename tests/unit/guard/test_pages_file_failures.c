/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocks of shared memory when the host fails: at every call in turn, at random against a model, and
 * at the start, where a person gets a sentence.
 */
#include "tests/unit/guard/file_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"

#define BLOCKS 24
#define AT     3 /* where the byte is that each block has */

struct model {
	struct rig rig;
	bool fenced;
	struct {
		bool open, dirty;
		unsigned char value;
	} block[BLOCKS];
};

static void model_check(const struct model *m)
{
	uint64_t held = 0;

	for (unsigned int b = 0; b < BLOCKS; b++) {
		bool reach = m->block[b].open || (!m->fenced && m->block[b].dirty);

		assert_int_equal(rig_peek(&m->rig, b, AT), reach ? m->block[b].value : -1);
		held += m->block[b].dirty;
	}
	rig_check_held(&m->rig, held);
}

static void model_open(struct model *m, unsigned int first, unsigned int count)
{
	for (unsigned int b = first; b < first + count; b++) {
		if (!m->block[b].dirty)
			m->block[b].value = 0;
		m->block[b].open = m->block[b].dirty = true;
	}
}

static void model_close(struct model *m, unsigned int first, unsigned int count, bool discard)
{
	for (unsigned int b = first; b < first + count; b++) {
		m->block[b].open = false;
		m->block[b].dirty &= !discard;
	}
}

static bool model_start(struct model *m, const struct rig_kind *kind)
{
	memset(m->block, 0, sizeof(m->block));
	if (kind->block_size > 64 * KIB || !rig_start(&m->rig, kind, BLOCKS, 0))
		return false;
	m->fenced = strcmp(m->rig.pages->mechanism, "mprotect") == 0;
	model_check(m);
	return true;
}

/* Which call fails, how many behind it as well, and how. at 0: none. */
struct failure {
	unsigned int at, times;
	int error;
};

static void failure_arm(const struct failure *failure)
{
	rig_calls.all = 0;
	rig_calls.fail_at = failure->at;
	rig_calls.fail_for = failure->times;
	rig_calls.error = failure->error;
}

/* Did it come to it? Nothing fails from here on. */
static bool failure_end(void)
{
	bool failed = rig_calls.fail_at && rig_calls.all >= rig_calls.fail_at;

	rig_calls.fail_at = 0;
	return failed;
}

/* What was closed and clean cannot be reached, but in [first, end). */
static void check_closed(const struct model *m, unsigned int first, unsigned int end)
{
	for (unsigned int b = 0; b < BLOCKS; b++)
		if (!m->block[b].dirty && (b < first || b >= end))
			assert_int_equal(rig_peek(&m->rig, b, AT), -1);
}

/*
 * Open a run of closed and clean blocks, as an engine does: a failure is undone by the opposite
 * calls. *ret_failed: a call failed. True when the run is open.
 */
static bool open_run(struct model *m, unsigned int first, unsigned int count,
		     const struct failure *failure, bool *ret_failed)
{
	int ret;

	failure_arm(failure);
	ret = rig_open(&m->rig, first, count);
	*ret_failed = failure_end();
	if (!ret) {
		model_open(m, first, count);
		model_check(m);
		return true;
	}
	assert_true(*ret_failed);
	assert_int_equal(ret, -failure->error);
	check_closed(m, first, first + count);
	assert_int_equal(rig_close(&m->rig, first, count), 0);
	assert_int_equal(rig_discard(&m->rig, first, count), 0);
	model_check(m);
	return false;
}

/* Close a run; when that fails it is done again. */
static bool close_run(struct model *m, unsigned int first, unsigned int count,
		      const struct failure *failure)
{
	bool failed;
	int ret;

	failure_arm(failure);
	ret = rig_close(&m->rig, first, count);
	failed = failure_end();
	assert_int_equal(ret, failed ? -failure->error : 0);
	check_closed(m, 0, 0);
	assert_int_equal(rig_close(&m->rig, first, count), 0);
	model_close(m, first, count, false);
	model_check(m);
	return failed;
}

/* The same for discarding what is closed. */
static bool discard_run(struct model *m, unsigned int first, unsigned int count,
			const struct failure *failure)
{
	bool failed;
	int ret;

	failure_arm(failure);
	ret = rig_discard(&m->rig, first, count);
	failed = failure_end();
	assert_int_equal(ret, failed && failure->error != EINTR ? -failure->error : 0);
	check_closed(m, 0, 0);
	if (ret) {
		/* An engine grants it again: it is whole, with its content or without. */
		assert_int_equal(rig_open(&m->rig, first, count), 0);
		for (unsigned int b = first; b < first + count; b++) {
			int value = rig_peek(&m->rig, b, AT);

			assert_true(value == 0 ||
				    (m->block[b].dirty && value == m->block[b].value));
			assert_true(rig_peek(&m->rig, b, m->rig.block - 1) == 0);
		}
		assert_int_equal(rig_close(&m->rig, first, count), 0);
	}
	assert_int_equal(rig_discard(&m->rig, first, count), 0);
	model_close(m, first, count, true);
	model_check(m);
	return failed;
}

static const struct failure no_failure;
static const int errors[] = {ENOMEM, ENOSPC, EIO, EINTR};

/* Each call in turn, while [8, 12) is opened, closed and discarded between other blocks. */
static void each_call(struct model *m, unsigned int times, int error)
{
	struct failure failure = {.at = 1, .times = times, .error = error};
	bool failed = true;

	for (; failed; failure.at++)
		if (open_run(m, 8, 4, &failure, &failed)) {
			close_run(m, 8, 4, &no_failure);
			discard_run(m, 8, 4, &no_failure);
		}
	assert_true(failure.at > 2);
	/* Closing all makes a call for each open run with fences, none without. */
	for (failed = true, failure.at = 1; failed; failure.at++) {
		bool ignored;

		assert_true(open_run(m, 8, 4, &no_failure, &ignored));
		failed = close_run(m, 0, BLOCKS, &failure);
		discard_run(m, 8, 4, &no_failure);
		assert_int_equal(rig_open(&m->rig, 4, 2), 0);
		model_open(m, 4, 2);
	}
	assert_int_equal(failure.at, m->fenced ? 4 : 2);
	for (failed = true, failure.at = 1; failed; failure.at++) {
		bool ignored;

		assert_true(open_run(m, 8, 4, &no_failure, &ignored));
		close_run(m, 7, 6, &no_failure);
		failed = discard_run(m, 7, 6, &failure);
	}
	assert_true(failure.at > 2);
}

static void test_each_call(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < RIG_KINDS; i++) {
		struct model m;

		if (!model_start(&m, &rig_kinds[i]))
			continue;
		assert_int_equal(rig_open(&m.rig, 4, 2), 0);
		model_open(&m, 4, 2);
		assert_true(rig_poke(&m.rig, 4, AT, 44));
		m.block[4].value = 44;
		for (unsigned int e = 0; e < ARRAY_SIZE(errors); e++) {
			/* Nobody interrupts for ever; protection is not interrupted at all. */
			if (errors[e] == EINTR && m.fenced)
				continue;
			each_call(&m, 1, errors[e]);
			if (errors[e] != EINTR)
				each_call(&m, 1000, errors[e]);
		}
		rig_end(&m.rig);
	}
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void random_runs(const struct rig_kind *kind, uint64_t seed, unsigned int steps)
{
	struct model m;

	if (!model_start(&m, kind))
		return;
	for (unsigned int i = 0; i < steps; i++) {
		unsigned int first = (unsigned int)(next_random(&seed) % BLOCKS);
		unsigned int count = 1 + (unsigned int)(next_random(&seed) % (BLOCKS - first));
		struct failure failure = {
			.at = (unsigned int)(next_random(&seed) % 5),
			.times = 1 + (unsigned int)(next_random(&seed) % 3),
			.error = errors[next_random(&seed) % (ARRAY_SIZE(errors) - m.fenced)],
		};
		bool clean = true, ignored;

		for (unsigned int b = first; b < first + count; b++)
			clean = clean && !m.block[b].dirty;
		switch (next_random(&seed) % 4) {
		case 0:
			open_run(&m, first, count, clean ? &failure : &no_failure, &ignored);
			break;
		case 1:
			for (unsigned int b = first; b < first + count; b++) {
				bool reach = m.block[b].open || (!m.fenced && m.block[b].dirty);

				assert_int_equal(rig_poke(&m.rig, b, AT, (unsigned char)seed),
						 reach);
				if (reach)
					m.block[b].value = (unsigned char)seed;
			}
			break;
		case 2:
			close_run(&m, first, count, &failure);
			break;
		case 3:
			close_run(&m, first, count, &no_failure);
			discard_run(&m, first, count, &failure);
		}
		model_check(&m);
	}
	rig_end(&m.rig);
}

static void test_random_runs(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < RIG_KINDS; i++)
		random_runs(&rig_kinds[i], 0x9e3779b97f4a7c15 + i, 600);
}

/* ---- at the start ---- */

/* What a guard of @size bytes from @offset of @fd, mapped at @memory, is refused with. */
static int refusal(int fd, char *memory, uint64_t offset, uint64_t size, const char *word)
{
	struct vmem_error error = {""};
	struct pages *pages = NULL;
	struct pages_config c = {
		.memory = memory,
		.size = size,
		.block_size = 64 * KIB,
		.segment_size = MIB,
		.fd = fd,
		.fd_offset = offset,
	};
	int ret = pages_file_new(&c, &pages, &error);

	assert_null(pages);
	assert_non_null(strstr(error.text, word));
	assert_int_equal(pages_file_new(&c, &pages, NULL), ret);
	return ret;
}

static char *map(int fd, uint64_t size, int protection)
{
	char *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

static void test_refusals(void **state)
{
	int fd = memfd_create("small", MFD_CLOEXEC), pipes[2], again;
	char path[64], *memory;

	(void)state;
	memset(&rig_calls, 0, sizeof(rig_calls));
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB), 0);
	memory = map(fd, MIB, PROT_READ | PROT_WRITE);
	assert_int_equal(refusal(fd, memory, 64 * KIB, MIB, "small"), -EINVAL);
	assert_int_equal(refusal(fd, memory, UINT64_MAX - 64 * KIB + 1, MIB, "too few"), -EINVAL);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(refusal(pipes[0], memory, 0, MIB, "regular file"), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(refusal(-1, memory, 0, MIB, "file descriptor -1"), -EBADF);
	munmap(memory, MIB);
	/* For reading only: it can neither be emptied nor opened. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(again >= 0);
	memory = map(again, MIB, PROT_READ);
	assert_true(refusal(again, memory, 0, MIB, "small") < 0);
	munmap(memory, MIB);
	close(again);
	/* Sealed. */
	close(fd);
	fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, MIB), 0);
	memory = map(fd, MIB, PROT_READ | PROT_WRITE);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(refusal(fd, memory, 0, MIB, "cannot be emptied"), -EPERM);
	munmap(memory, MIB);
	close(fd);
}

/* File systems that cannot; each call of the start fails in turn. */
static void test_failures_at_the_start(void **state)
{
	static const struct {
		int error, result;
		const char *word;
	} cases[] = {
		{EOPNOTSUPP, -EOPNOTSUPP, "Linux"},
		{ENODEV, -EOPNOTSUPP, "hugetlbfs"},
		{EIO, -EIO, ""},
		{EINTR, 0, ""},
		{ENOSPC, -ENOSPC, ""},
	};
	int fd = memfd_create("failing", MFD_CLOEXEC);
	char *memory;

	(void)state;
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	memory = map(fd, 4 * MIB, PROT_READ | PROT_WRITE);
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pages_config c = {
			.memory = memory,
			.size = 4 * MIB,
			.block_size = 2 * MIB,
			.segment_size = 4 * MIB,
			.fd = fd,
		};
		unsigned int failures = 0, at = 1;

		for (bool more = true; more; at++) {
			struct vmem_error error = {""};
			struct pages *pages = NULL;
			int ret;

			memset(&rig_calls, 0, sizeof(rig_calls));
			failure_arm(&(struct failure){at, 1, cases[i].error});
			ret = pages_file_new(&c, &pages, &error);
			more = failure_end();
			failures += ret < 0;
			if (!ret) {
				pages->ops->free(pages);
				continue;
			}
			assert_null(pages);
			assert_non_null(strstr(error.text, "failing"));
			/* mprotect() first, which cannot do without anything. */
			assert_int_equal(ret, at == 1 ? -cases[i].error : cases[i].result);
			if (at > 1)
				assert_non_null(strstr(error.text, cases[i].word));
			/* The memory is as it was: whoever has it may use it. */
			memory[0] = 1;
			memory[3 * MIB] = 1;
		}
		assert_int_equal(at, 9);
		assert_true(failures >= 1);
	}
	munmap(memory, 4 * MIB);
	close(fd);
}

/* A file system that makes huge pages whatever one asks for, and blocks that are smaller. */
static void test_pages_larger_than_blocks(void **state)
{
	int fd = rig_make_huge_tmpfs();
	char *memory;

	(void)state;
	if (fd < 0)
		skip();
	memset(&rig_calls, 0, sizeof(rig_calls));
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	memory = map(fd, 4 * MIB, PROT_READ | PROT_WRITE);
	assert_int_equal(refusal(fd, memory, 0, 4 * MIB, "huge="), -EOPNOTSUPP);
	munmap(memory, 4 * MIB);
	close(fd);
}

/* Without a way to see untouched pages, small blocks of memory are fenced. */
static void test_fences_where_pages_cannot_be_seen(void **state)
{
	struct rig_kind kind = rig_kinds[RIG_MEMFD_SMALL];
	struct rig rig;

	(void)state;
	kind.no_cachestat = true;
	kind.mechanism = "mprotect";
	assert_true(rig_start(&rig, &kind, 4, 0));
	assert_string_equal(rig.pages->mechanism, kind.mechanism);
	rig_end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_call),
		cmocka_unit_test(test_random_runs),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_failures_at_the_start),
		cmocka_unit_test(test_pages_larger_than_blocks),
		cmocka_unit_test(test_fences_where_pages_cannot_be_seen),
	};
	int failed_tests = cmocka_run_group_tests(tests, NULL, NULL);

	rig_pool_restore();
	return failed_tests;
}
