/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Closed memory as if it had never been mapped: see anon.h.
 *
 * A huge page can only be put where there is no page table, and closed memory may have one: from the
 * time when it was open, from reads (each maps the zero page), or because it was armed. Since
 * Linux 6.14 (CONFIG_PT_RECLAIM) MADV_DONTNEED frees page tables of which nothing is left. Before,
 * the only way is to unmap. The mapping itself must not go for that: when mapping anew fails there
 * would be a hole in which something else of the process might land, in reach of the guest. So page
 * tables are moved away (MREMAP_DONTUNMAP, Linux 5.7: the mapping stays, empty and with all its
 * attributes) and unmapped where they came to. A failure leaves all in place.
 *
 * Of memory that may be merged (MADV_MERGEABLE) the kernel looks at each small page before it moves
 * anything, also where there is none: some microseconds for each 2 MiB. Most closed memory has no
 * page table: it was never used, or in huge pages. So in such memory tables are looked for, by what a
 * read maps, and only those that are there are moved.
 *
 * I1  Nothing is mapped at a fixed address: a hint may be taken by another thread at any time.
 * I2  Only what mremap() returned is unmapped.
 * I3  A mapping that is moved as a whole loses its reverse map, so not all of a run is moved at once.
 *     One table's worth may be: its neighbours then share theirs with it; so not in a region that
 *     has no more than that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/anon.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* Linux 5.7 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define FRESH_TABLE  (2 * MIB) /* what one page table maps, and one huge page */
#define FRESH_PIECE  GIB       /* at most this much address space is taken for a move */
#define FRESH_PROBES 32        /* page tables */

/* What a small file says, ended with a 0; false when it cannot be read. */
static bool fresh_read_file(const char *path, char *ret_text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, ret_text, size - 1);
	close(fd);
	if (len < 0)
		return false;
	ret_text[len] = 0;
	return true;
}

bool fresh_reads_are_free(void)
{
	char text[16];

	return !fresh_read_file(FRESH_ZERO_PAGE, text, sizeof(text)) || text[0] != '0';
}

/* The size of the process's page tables, or 0. */
static uint64_t fresh_tables_bytes(void)
{
	char text[4096];
	const char *line;

	if (!fresh_read_file("/proc/self/status", text, sizeof(text)))
		return 0;
	line = strstr(text, "\nVmPTE:");
	return line ? strtoull(line + strlen("\nVmPTE:"), NULL, 10) * KIB : 0;
}

/*
 * Other threads make and free page tables meanwhile, so more than a few have to go. In doubt
 * moving is right on every kernel.
 */
void fresh_probe(uint64_t region_size, bool mergeable, struct fresh *ret_fresh)
{
	const uint64_t size = FRESH_PROBES * FRESH_TABLE;
	uint64_t before, after;
	char *probe =
		mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	*ret_fresh = (struct fresh){.may_move = region_size > FRESH_TABLE, .mergeable = mergeable};
	if (probe == MAP_FAILED)
		return;
	/* Without this the zero page would be a huge one, and need no table. */
	if (madvise(probe, size, MADV_NOHUGEPAGE) == 0 || errno == EINVAL) {
		for (uint64_t at = 0; at < size; at += FRESH_TABLE)
			(void)*(volatile char *)(probe + at);
		before = fresh_tables_bytes();
		if (madvise(probe, size, MADV_DONTNEED) == 0) {
			after = fresh_tables_bytes();
			ret_fresh->discard_frees =
				after && after + FRESH_PROBES * 4 * KIB / 2 < before;
		}
	}
	munmap(probe, size);
}

/* An address where a move can go to, for now: aligned, so that whole page tables move. */
static char *fresh_find_place(uint64_t size)
{
	const uint64_t room = size + FRESH_TABLE;
	char *place =
		mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (place == MAP_FAILED)
		return NULL;
	munmap(place, room);
	return place + (-(uintptr_t)place & (FRESH_TABLE - 1));
}

/* Move the page tables of whole tables' worth of memory away. -errno, and nothing was done. */
static int fresh_move(struct fresh *fresh, char *memory, uint64_t size)
{
	for (unsigned int attempt = 0; attempt < 2; attempt++) {
		char *to;

		if (!fresh->hint)
			fresh->hint = fresh_find_place(size);
		if (!fresh->hint)
			return -ENOMEM;
		to = mremap(memory, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, fresh->hint);
		if (to == MAP_FAILED)
			return -errno;
		munmap(to, size);
		if (num_is_aligned((uintptr_t)to, FRESH_TABLE)) {
			fresh->hint = to;
			return 0;
		}
		/* The place was taken. Entries moved one by one: the tables are still there. */
		fresh->hint = NULL;
	}
	return -EAGAIN;
}

/*
 * May there be a page table for one table's worth of memory, in which nothing is mapped? Reading the
 * first page maps the huge zero page, and so the last one as well; but not where there is a table.
 */
static bool fresh_has_table(char *memory)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	unsigned char last = 0;

	return madvise(memory, page, MADV_POPULATE_READ) < 0 ||
	       mincore(memory + FRESH_TABLE - page, page, &last) < 0 || !(last & 1);
}

/*
 * Free the page tables of @size bytes, whole tables' worth, as far as that can be done; all of it is
 * discarded. @whole: it may be a mapping as a whole.
 */
static int fresh_free_tables(struct fresh *fresh, char *memory, uint64_t size, bool whole)
{
	uint64_t next = fresh->mergeable ? FRESH_TABLE : size;

	/* What is mapped already would look like what a read maps. */
	if (fresh->mergeable && madvise(memory, size, MADV_DONTNEED) < 0)
		return -errno;
	for (uint64_t done = 0; done < size;) {
		char *at = memory + done;
		uint64_t piece = num_min(next, size - done);

		if (fresh->mergeable && !fresh_has_table(at)) {
			next = FRESH_TABLE;
			done += FRESH_TABLE;
			continue;
		}
		/* I3 */
		if (whole && piece == size && piece > FRESH_TABLE)
			piece -= FRESH_TABLE;
		/* Without a place to move to, or on an old kernel, the memory is fresh but for the
		 * page tables. */
		if (fresh_move(fresh, at, piece) < 0 && madvise(at, piece, MADV_DONTNEED) < 0)
			return -errno;
		done += piece;
		/* Where one is there are more: not all of them are looked for. */
		next = 2 * piece;
	}
	return fresh->mergeable && madvise(memory, size, MADV_DONTNEED) < 0 ? -errno : 0;
}

int fresh_run(struct fresh *fresh, char *memory, uint64_t size)
{
	uint64_t head = -(uintptr_t)memory & (FRESH_TABLE - 1), done;

	if (fresh->discard_frees || !fresh->may_move || size < head + FRESH_TABLE)
		return madvise(memory, size, MADV_DONTNEED) < 0 ? -errno : 0;
	if (head && madvise(memory, head, MADV_DONTNEED) < 0)
		return -errno;
	for (done = head; size - done >= FRESH_TABLE;) {
		uint64_t piece = num_min(FRESH_PIECE, num_align_down(size - done, FRESH_TABLE));
		int ret = fresh_free_tables(fresh, memory + done, piece, piece == size);

		if (ret)
			return ret;
		done += piece;
	}
	return done < size && madvise(memory + done, size - done, MADV_DONTNEED) < 0 ? -errno : 0;
}

void fresh_prime(char *memory, uint64_t size)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	/* A mapping without a reverse map joins one that has one; the other way round only on newer
	 * kernels. So the first page gets its map and its last protection before the rest does. */
	if ((size > page && mprotect(memory + page, size - page, PROT_NONE) < 0) ||
	    mprotect(memory, page, PROT_READ | PROT_WRITE) < 0)
		return;
	/* Where this is not known, a touch does it: it ends the process when the host has not one
	 * page. */
	if (madvise(memory, page, MADV_POPULATE_WRITE) < 0 && errno == EINVAL)
		*(volatile char *)memory = 0;
}
