/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stall FILE: how long a program does not get to run. Reads the monotonic clock all the time; what lies
 * between two readings and is longer than a reading takes was somebody else's. At SIGTERM, FILE says
 *
 *     seconds S lost S longest MS over10ms N
 *
 * lost: the sum of the gaps of more than GAP_NS. Give it a processor for itself, or the one that all
 * share: then "lost" is what the others took.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define GAP_NS  200000
#define LONG_NS 10000000

static volatile sig_atomic_t over;

static void on_term(int signal)
{
	(void)signal;
	over = 1;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	int64_t begin, last, lost = 0, longest = 0;
	unsigned int nr_long = 0;
	FILE *f;

	if (argc != 2) {
		fprintf(stderr, "usage: stall FILE\n");
		return 2;
	}
	signal(SIGTERM, on_term);
	begin = last = now_ns();
	while (!over) {
		int64_t now = now_ns(), gap = now - last;

		last = now;
		if (gap <= GAP_NS)
			continue;
		lost += gap;
		longest = gap > longest ? gap : longest;
		nr_long += gap > LONG_NS;
	}
	f = fopen(argv[1], "w");
	if (!f ||
	    fprintf(f, "seconds %.3f lost %.3f longest %.1f over10ms %u\n",
		    (double)(last - begin) / 1e9, (double)lost / 1e9, (double)longest / 1e6,
		    nr_long) < 0 ||
	    fclose(f)) {
		perror("stall");
		return 1;
	}
	return 0;
}
