/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memload MIB [ROUNDS]: what memory is like for a program in a guest. Takes MIB MiB, touches all,
 * and prints one line a figure: the first touch, streaming writes and reads in MB/s, random reads
 * and writes of 8 bytes in million a second; the best of ROUNDS (3), since a disturbance only ever
 * slows down.
 *
 * Static and free-standing of anything but libc, so that it runs in a guest of a kernel and a shell.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* A full-period generator whose low bits are not used. */
#define STEP(x) ((x) * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407))

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void stream_write(uint64_t *words, size_t nr_words, uint64_t value)
{
	__asm__ volatile("rep stosq" : "+D"(words), "+c"(nr_words) : "a"(value) : "memory");
}

static uint64_t stream_read(const uint64_t *words, size_t nr_words)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < nr_words; i += 4)
		sum += words[i] + words[i + 1] + words[i + 2] + words[i + 3];
	return sum;
}

static uint64_t random_read(const uint64_t *words, size_t nr_words, size_t count)
{
	uint64_t x = 1, sum = 0;

	for (size_t i = 0; i < count; i++) {
		x = STEP(x);
		sum += words[(x >> 16) % nr_words];
	}
	return sum;
}

static void random_write(uint64_t *words, size_t nr_words, size_t count)
{
	uint64_t x = 1;

	for (size_t i = 0; i < count; i++) {
		x = STEP(x);
		words[(x >> 16) % nr_words] = x;
	}
}

static double best(double old, double fresh)
{
	return fresh > old ? fresh : old;
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 3;
	size_t size = mib << 20, nr_words = size / 8, count = 2000000;
	double mb = (double)size / 1e6, begin;
	double rate[4] = {0};
	volatile uint64_t sink = 0;
	uint64_t *words;

	if (!mib || !rounds) {
		fprintf(stderr, "usage: memload MIB [ROUNDS]\n");
		return 2;
	}
	words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (words == MAP_FAILED) {
		perror("memload");
		return 1;
	}
	madvise(words, size, MADV_HUGEPAGE);
	begin = now_s();
	stream_write(words, nr_words, 1);
	printf("touch %.1f\n", mb / (now_s() - begin));
	for (unsigned long i = 0; i < rounds; i++) {
		begin = now_s();
		stream_write(words, nr_words, i);
		rate[0] = best(rate[0], mb / (now_s() - begin));
		begin = now_s();
		sink += stream_read(words, nr_words);
		rate[1] = best(rate[1], mb / (now_s() - begin));
		begin = now_s();
		random_write(words, nr_words, count);
		rate[2] = best(rate[2], (double)count / 1e6 / (now_s() - begin));
		begin = now_s();
		sink += random_read(words, nr_words, count);
		rate[3] = best(rate[3], (double)count / 1e6 / (now_s() - begin));
	}
	printf("stream-write %.1f\nstream-read %.1f\nrandom-write %.3f\nrandom-read %.3f\n", rate[0],
	       rate[1], rate[2], rate[3]);
	return 0;
}
