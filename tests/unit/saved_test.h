/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of saved state share: numbers from a seed that is printed, so that a failure can
 * be had again (EBB_TEST_SEED), and every kind of damage that bytes on their way can take.
 */
#ifndef TESTS_UNIT_SAVED_TEST_H
#define TESTS_UNIT_SAVED_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/err.h"
#include "base/pack.h"

struct dice {
	uint64_t state;
};

static inline struct dice dice_new(void)
{
	const char *seed = getenv("EBB_TEST_SEED");
	struct dice dice = {0};

	if (seed)
		dice.state = strtoull(seed, NULL, 0);
	else
		assert_int_equal(getrandom(&dice.state, sizeof(dice.state), 0), sizeof(dice.state));
	dice.state |= 1;
	print_message("EBB_TEST_SEED=%#llx\n", (unsigned long long)dice.state);
	return dice;
}

/* xorshift64* */
static inline uint64_t dice_u64(struct dice *dice)
{
	dice->state ^= dice->state >> 12;
	dice->state ^= dice->state << 25;
	dice->state ^= dice->state >> 27;
	return dice->state * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 to @n - 1. */
static inline unsigned int dice_below(struct dice *dice, unsigned int n)
{
	return (unsigned int)(dice_u64(dice) >> 33) % n;
}

/* A load that must succeed. */
static inline void assert_loaded(int ret, struct err *err)
{
	if (ret)
		fail_msg("not loaded: %s", err ? err_message(err) : "no sentence");
	assert_null(err);
}

/* One that must fail, with a sentence that has @words in it; frees it. */
static inline void assert_refused(int ret, struct err *err, const char *words)
{
	assert_true(ret < 0);
	assert_non_null(err);
	if (!strstr(err_message(err), words))
		fail_msg("'%s' does not say '%s'", err_message(err), words);
	err_free(err);
}

static inline void assert_same_bytes(const struct pack *a, const struct pack *b)
{
	assert_false(pack_failed(a));
	assert_false(pack_failed(b));
	assert_int_equal(a->size, b->size);
	assert_memory_equal(a->bytes, b->bytes, a->size);
}

/* The thread sanitizer has nothing to see in one thread, and is slow: one bit at a time is enough. */
#if defined(__SANITIZE_THREAD__)
#define SAVED_ALL_CHANGES false
#elif defined(__has_feature)
#define SAVED_ALL_CHANGES !__has_feature(thread_sanitizer)
#else
#define SAVED_ALL_CHANGES true
#endif

/*
 * @load, which is to survive it, with each shorter beginning of @state and with each byte changed
 * to every other value. The bytes lie in an allocation of just their size.
 */
static inline void each_damage(const struct pack *state,
			       void (*load)(void *opaque, const void *bytes, size_t size),
			       void *opaque)
{
	uint8_t *bytes;

	for (size_t size = 0; size < state->size; size++) {
		bytes = malloc(size ? size : 1);
		assert_non_null(bytes);
		memcpy(bytes, state->bytes, size);
		load(opaque, bytes, size);
		free(bytes);
	}
	bytes = malloc(state->size);
	assert_non_null(bytes);
	for (size_t at = 0; at < state->size; at++) {
		for (unsigned int change = 1; change < 256;
		     change = SAVED_ALL_CHANGES ? change + 1 : change << 1) {
			memcpy(bytes, state->bytes, state->size);
			bytes[at] ^= (uint8_t)change;
			load(opaque, bytes, state->size);
		}
	}
	free(bytes);
}

#endif
