/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Seeds: a number of worlds of each kind with the same seeds every time, and one of each with a seed
 * that nobody has tried. Reports in TAP, one test a kind. It needs the C library alone, so that it runs
 * on an emulated processor as it does on this one.
 *
 *     model [WORLDS [KIND]]   how many of each kind, or of one; 0: only the fresh ones
 *     EBB_SEED=NUMBER         only the world of this seed, as a failure prints it
 *     EBB_TRACE=1             tell all that happens
 */
#include "tests/model/model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* A sanitizer for threads makes it slow, and has nothing to look at. */
#ifdef __SANITIZE_THREAD__
#define WORLDS_DEFAULT 5
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WORLDS_DEFAULT 5
#endif
#endif
#ifndef WORLDS_DEFAULT
#define WORLDS_DEFAULT 60
#endif
#define FAILURES (WITH_OS_FAILURES | WITH_HOST_FAILURES)
#define EVERYTHING \
	(FAILURES | WITH_PENDING | WITH_TWO | WITH_RESTARTS | WITH_MIGRATION | WITH_LIMITS)

struct kind {
	const char *name;
	unsigned int with;
	unsigned int divisor; /* one world where others have so many */
};

/* A seed's remainder is its kind, so that a seed tells all. */
static const struct kind kinds[] = {
	{"a host and a system that do not fail", 0, 1},
	{"answers that wait", WITH_PENDING, 1},
	{"a system that fails", WITH_OS_FAILURES | WITH_LIMITS, 1},
	{"a host that fails, and migrations", WITH_HOST_FAILURES | WITH_MIGRATION | WITH_PENDING,
	 1},
	{"resets, reloads and new systems", WITH_RESTARTS | WITH_PENDING | WITH_HOST_FAILURES, 1},
	{"two devices and everything", EVERYTHING, 1},
	{"a system that cannot add memory", EVERYTHING | WITH_ACCOUNTING, 1},
	{"devices that vanish", EVERYTHING | WITH_VANISHING, 2},
	{"size requests", EVERYTHING | WITH_SIZES | WITH_VANISHING, 1},
	{"runs longer than a request", WITH_LARGE | WITH_PENDING | WITH_RESTARTS, 30},
	{"a device that lies", WITH_LIAR | WITH_OS_FAILURES | WITH_PENDING | WITH_TWO, 1},
	{"a device that lies about sizes", WITH_LIAR | WITH_SIZES | WITH_PENDING | WITH_RESTARTS,
	 2},
	{"a device that lies to a system that cannot add memory",
	 WITH_LIAR | WITH_ACCOUNTING | WITH_PENDING | WITH_RESTARTS, 2},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

void model_fail(const struct world *w, const char *format, ...)
{
	unsigned int kind = (unsigned int)(w->seed % KINDS);
	va_list args;

	printf("not ok %u - %s: EBB_SEED=%" PRIu64 ", step %" PRIu64 ": ", kind + 1,
	       kinds[kind].name, w->seed, w->step);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

void model_trace(const struct world *w, const char *format, ...)
{
	va_list args;

	if (!w->trace)
		return;
	printf("# %" PRIu64 " %" PRIu64 " ms: ", w->step, w->now_ms);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

static void play(uint64_t seed, bool trace)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	w->trace = trace;
	world_begin(w, seed, kinds[seed % KINDS].with);
	world_play(w);
	world_end(w);
	free(w);
}

static uint64_t fresh_number(void)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		abort();
	return number >> 16;
}

static void play_kind(unsigned int kind, uint64_t worlds)
{
	uint64_t fresh = fresh_number() / KINDS * KINDS + kind;

	for (uint64_t i = 0; i < (worlds + kinds[kind].divisor - 1) / kinds[kind].divisor; i++)
		play(i * KINDS + kind, false);
	printf("# a fresh one: EBB_SEED=%" PRIu64 "\n", fresh);
	fflush(stdout);
	play(fresh, false);
	printf("ok %u - %s\n", kind + 1, kinds[kind].name);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	uint64_t worlds = argc > 1 ? strtoull(argv[1], NULL, 0) : WORLDS_DEFAULT;
	const char *seed = getenv("EBB_SEED"), *trace = getenv("EBB_TRACE");

	if (seed) {
		play(strtoull(seed, NULL, 0), trace && strcmp(trace, "0"));
		printf("1..1\nok 1 - EBB_SEED=%s\n", seed);
		return 0;
	}
	if (argc > 2) {
		play_kind((unsigned int)strtoul(argv[2], NULL, 0) % KINDS, worlds);
		return 0;
	}
	printf("1..%zu\n", KINDS);
	for (unsigned int kind = 0; kind < KINDS; kind++)
		play_kind(kind, worlds);
	return 0;
}
