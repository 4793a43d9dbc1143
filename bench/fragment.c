/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fragment MIB KEEP FOLDER: what a machine's memory looks like after a while of use. Fills MIB MiB,
 * half of it with pages of its own, half with small files in FOLDER (a RAM disk: page cache, inodes and
 * names), one of each in turn; then frees them in random order until one in KEEP is left. Says
 * "fragmented" then, and keeps the rest until it is killed; the files stay.
 *
 * The order is the same every time.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE       4096u
#define FILE_PAGES 8u   /* the size of a file, and how many pages of its own lie beside it */
#define FOLDER     512u /* files in a folder */

static int fail(const char *what)
{
	fprintf(stderr, "fragment: %s: %s\n", what, strerror(errno));
	return 1;
}

static void file_name(char *name, size_t size, const char *folder, uint32_t number)
{
	snprintf(name, size, "%s/%u/%u", folder, number / FOLDER, number % FOLDER);
}

static int file_write(const char *folder, uint32_t number)
{
	static char content[FILE_PAGES * PAGE];
	char name[256];
	int fd;

	if (number % FOLDER == 0) {
		snprintf(name, sizeof(name), "%s/%u", folder, number / FOLDER);
		if (mkdir(name, 0700))
			return fail(name);
	}
	file_name(name, sizeof(name), folder, number);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(name);
	memset(content, (int)number, sizeof(content));
	if (write(fd, content, sizeof(content)) != (ssize_t)sizeof(content) || close(fd))
		return fail(name);
	return 0;
}

/* A full-period generator whose low bits are not used. */
static uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 32) % limit);
}

static void shuffle(uint32_t *order, uint32_t nr, uint64_t seed)
{
	for (uint32_t i = 0; i < nr; i++)
		order[i] = i;
	for (uint32_t i = nr; i > 1; i--) {
		uint32_t other = random_below(&seed, i), kept = order[other];

		order[other] = order[i - 1];
		order[i - 1] = kept;
	}
}

/* All of [0, nr) of both kinds, but the last KEEP-th of each order. */
static int free_most(char *memory, const char *folder, uint32_t nr_files, uint32_t keep)
{
	uint32_t nr_pages = nr_files * FILE_PAGES, nr = nr_pages;
	uint32_t *order = calloc(nr, sizeof(*order));
	char name[256];

	if (!order)
		return fail("its own memory");
	shuffle(order, nr_files, 1);
	for (uint32_t i = 0; i < nr_files - nr_files / keep; i++) {
		file_name(name, sizeof(name), folder, order[i]);
		if (unlink(name))
			return fail(name);
	}
	shuffle(order, nr_pages, 2);
	for (uint32_t i = 0; i < nr_pages - nr_pages / keep; i++)
		if (madvise(memory + (size_t)order[i] * PAGE, PAGE, MADV_DONTNEED))
			return fail("madvise");
	free(order);
	return 0;
}

int main(int argc, char **argv)
{
	uint32_t mib = argc == 4 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0;
	uint32_t keep = argc == 4 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
	uint32_t nr_files = mib * (1024 * 1024 / PAGE / FILE_PAGES / 2);
	size_t size = (size_t)nr_files * FILE_PAGES * PAGE;
	char *memory;

	if (!mib || !keep) {
		fprintf(stderr, "usage: fragment MIB KEEP FOLDER\n");
		return 2;
	}
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || madvise(memory, size, MADV_NOHUGEPAGE))
		return fail("its pages");
	for (uint32_t i = 0; i < nr_files; i++) {
		if (file_write(argv[3], i))
			return 1;
		for (uint32_t page = 0; page < FILE_PAGES; page++)
			memory[((size_t)i * FILE_PAGES + page) * PAGE] = 1;
	}
	if (free_most(memory, argv[3], nr_files, keep))
		return 1;
	printf("fragmented\n");
	fflush(stdout);
	for (;;)
		pause();
}
