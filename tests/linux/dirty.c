/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that changes all the time and is looked at all the time, for tests of moves:
 *
 *	dirty MIB FILE
 *
 * writes a number made of place and round to each page, again and again, and checks what was there
 * before; that no clock ever goes back, too. SIGTERM ends it: FILE says "rounds=N wrong=N back=N"
 * then.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE        4096u
#define CLOCK_PAGES 64u /* between two looks at the clocks */

static volatile sig_atomic_t over;

static void on_term(int signal)
{
	(void)signal;
	over = 1;
}

static uint64_t dirty_number(uint64_t place, uint64_t round)
{
	return round == 0 ? 0 : (place + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ round << 7;
}

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME};
#define NR_CLOCKS (sizeof(clocks) / sizeof(clocks[0]))

/* How many clocks show less than they did. */
static uint64_t clocks_went_back(void)
{
	static int64_t seen[NR_CLOCKS];
	uint64_t back = 0;

	for (size_t i = 0; i < NR_CLOCKS; i++) {
		struct timespec t;
		int64_t now;

		clock_gettime(clocks[i], &t);
		now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
		back += now < seen[i];
		seen[i] = now;
	}
	return back;
}

int main(int argc, char **argv)
{
	uint64_t pages = argc == 3 ? strtoull(argv[1], NULL, 10) * (1024 * 1024 / PAGE) : 0;
	uint64_t round = 0, wrong = 0, back = 0;
	char *memory;
	FILE *f;

	if (!pages) {
		fprintf(stderr, "usage: dirty MIB FILE\n");
		return 1;
	}
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED) {
		perror("dirty: mmap");
		return 1;
	}
	signal(SIGTERM, on_term);
	for (; !over; round++) {
		for (uint64_t i = 0; i < pages; i++) {
			volatile uint64_t *first = (uint64_t *)(memory + i * PAGE);
			volatile uint64_t *last = first + PAGE / 8 - 1;

			wrong += *first != dirty_number(i, round);
			wrong += *last != dirty_number(i, round);
			*first = *last = dirty_number(i, round + 1);
			if (i % CLOCK_PAGES == 0)
				back += clocks_went_back();
		}
	}
	f = fopen(argv[2], "w");
	if (!f || fprintf(f, "rounds=%lu wrong=%lu back=%lu\n", round, wrong, back) < 0 ||
	    fclose(f)) {
		perror("dirty");
		return 1;
	}
	return wrong || back;
}
