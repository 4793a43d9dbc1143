/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What host memory stands behind a part of another process's memory, block by block.
 *
 *     hostmem PID find WORD               addresses of all pages whose first 8 bytes are WORD
 *     hostmem PID held ADDR SIZE BLOCK    what [ADDR, ADDR + SIZE) holds, in units of BLOCK bytes
 *
 * "held" prints, for each block that holds anything,
 *
 *     block INDEX mapped N cached N allocated N
 *
 * and then "total mapped N cached N allocated N zero N file BYTES", all in pages of 4096 bytes but
 * for BYTES: what the whole file takes, 0 without a file.
 *
 *     mapped     pages in the process's page tables, or swapped out from there; the pages of zeros
 *                that the whole system shares are not the process's, they are counted as "zero"
 *     cached     pages of the file in memory, mapped or not
 *     allocated  pages of the file that its file system keeps room for
 *
 * I1  Looking changes nothing: no page is faulted in, in the process or in the file.
 * I2  Time grows with what is there, not with SIZE, where the kernel has PAGEMAP_SCAN (6.7).
 * I3  An answer is complete, or the status is 1 and a sentence on standard error tells why.
 *
 * Static, so that it runs in any host as it is. Needs CAP_SYS_ADMIN for frame numbers.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

#define PAGE        4096ull
#define BATCH       4096u /* entries of a table that are read at once */
#define WINDOW      512u
#define MINCORE_MAX (1ull << 30)

#define PM_PFN          ((1ull << 55) - 1)
#define PM_SWAP_TYPE    31ull
#define PM_SWAP         (1ull << 62)
#define PM_PRESENT      (1ull << 63)
#define SWAP_PTE_MARKER 31ull /* the last type: no swapped page, but a note to the kernel itself */
#define KPF_ZERO_PAGE   (1ull << 24)

/* <linux/fs.h> of Linux 6.7 */
struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_PRESENT (1ull << 3)
#define SCAN_SWAPPED (1ull << 4)

enum page_kind { PAGE_NONE, PAGE_HELD, PAGE_ZERO };

struct process {
	const char *pid;
	int pagemap, kpageflags, mem;
	bool no_scan;
	uint64_t window; /* first frame whose flags are in flags[]; UINT64_MAX: none */
	uint64_t flags[WINDOW];
};

struct mapping {
	uint64_t start, end, offset, inode;
	dev_t dev;
	bool readable;
};

struct counts {
	uint64_t mapped, cached, allocated, zero;
};

struct held {
	uint64_t addr, size, block;
	struct counts *blocks; /* one each */
	struct counts total;
	uint64_t file_bytes;
};

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("hostmem: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || end == text || *end != '\0')
		die("%s is not a number", text);
	return value;
}

/* A file of the process. */
static int open_proc(const char *pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s cannot be opened: %s", path, strerror(errno));
	return fd;
}

static enum page_kind page_kind(struct process *p, uint64_t entry)
{
	uint64_t pfn = entry & PM_PFN, first = pfn & ~(uint64_t)(WINDOW - 1);
	ssize_t n;

	if ((entry & PM_SWAP) != 0)
		return (entry & PM_SWAP_TYPE) == SWAP_PTE_MARKER ? PAGE_NONE : PAGE_HELD;
	if ((entry & PM_PRESENT) == 0)
		return PAGE_NONE;
	if (pfn == 0)
		die("the kernel does not tell frame numbers: CAP_SYS_ADMIN is needed");
	if (p->window != first) {
		memset(p->flags, 0, sizeof(p->flags));
		n = pread(p->kpageflags, p->flags, sizeof(p->flags), (off_t)(first * 8));
		if (n < (ssize_t)((pfn - first + 1) * 8))
			die("/proc/kpageflags cannot be read at frame %" PRIu64, pfn);
		p->window = first;
	}
	return (p->flags[pfn - first] & KPF_ZERO_PAGE) != 0 ? PAGE_ZERO : PAGE_HELD;
}

typedef void page_fn(struct process *p, uint64_t addr, enum page_kind kind, void *arg);

/* Call @fn for each page of [start, end) that is there, by its entry in the page map. */
static void walk_entries(struct process *p, uint64_t start, uint64_t end, page_fn *fn, void *arg)
{
	uint64_t entries[BATCH];

	while (start < end) {
		uint64_t want = (end - start) / PAGE < BATCH ? (end - start) / PAGE : BATCH;
		ssize_t n = pread(p->pagemap, entries, want * 8, (off_t)(start / PAGE * 8));

		if (n <= 0 || n % 8 != 0)
			die("the page map of process %s cannot be read: %s", p->pid,
			    n < 0 ? strerror(errno) : "it ends early");
		for (uint64_t i = 0; i < (uint64_t)n / 8; i++, start += PAGE) {
			enum page_kind kind = page_kind(p, entries[i]);

			if (kind != PAGE_NONE)
				fn(p, start, kind, arg);
		}
	}
}

/* The same, without looking at each entry of what is empty if the kernel knows where that is. */
static void walk_pages(struct process *p, uint64_t start, uint64_t end, page_fn *fn, void *arg)
{
	struct scan_region regions[64];

	while (start < end && !p->no_scan) {
		struct scan_arg scan = {
			.size = sizeof(scan),
			.start = start,
			.end = end,
			.vec = (uintptr_t)regions,
			.vec_len = sizeof(regions) / sizeof(regions[0]),
			.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
			.return_mask = SCAN_PRESENT | SCAN_SWAPPED,
		};
		int n = ioctl(p->pagemap, SCAN_IOCTL, &scan);

		if (n < 0 && (errno == ENOTTY || errno == EINVAL)) {
			p->no_scan = true;
			break;
		}
		if (n < 0)
			die("the page map of process %s cannot be scanned: %s", p->pid,
			    strerror(errno));
		for (int i = 0; i < n; i++)
			walk_entries(p, regions[i].start, regions[i].end, fn, arg);
		start = scan.walk_end;
	}
	if (start < end)
		walk_entries(p, start, end, fn, arg);
}

/* Calls @fn for each mapping until it returns true; whether it did. */
static bool walk_mappings(struct process *p,
			  bool (*fn)(struct process *p, const struct mapping *m, void *arg),
			  void *arg)
{
	char path[64], line[512];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/maps", p->pid);
	file = fopen(path, "re");
	if (file == NULL)
		die("%s cannot be opened: %s", path, strerror(errno));
	while (!found && fgets(line, sizeof(line), file) != NULL) {
		struct mapping m;
		unsigned int major, minor;
		char mode[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &m.start,
			   &m.end, mode, &m.offset, &major, &minor, &m.inode) != 7)
			continue; /* the rest of a line that was too long */
		m.dev = makedev(major, minor);
		m.readable = mode[0] == 'r';
		found = m.start < (1ull << 63) && fn(p, &m, arg);
	}
	fclose(file);
	return found;
}

/* ---- find ---- */

static void find_in_page(struct process *p, uint64_t addr, enum page_kind kind, void *arg)
{
	const uint64_t *wanted = arg;
	uint64_t word;

	if (kind == PAGE_HELD &&
	    pread(p->mem, &word, sizeof(word), (off_t)addr) == (ssize_t)sizeof(word) &&
	    word == *wanted)
		printf("0x%" PRIx64 "\n", addr);
}

static bool find_in_mapping(struct process *p, const struct mapping *m, void *arg)
{
	if (m->readable)
		walk_pages(p, m->start, m->end, find_in_page, arg);
	return false;
}

/* ---- held ---- */

static struct counts *held_block(struct held *held, uint64_t offset)
{
	return &held->blocks[offset / held->block];
}

static void held_page(struct process *p, uint64_t addr, enum page_kind kind, void *arg)
{
	struct held *held = arg;

	(void)p;
	if (kind == PAGE_HELD)
		held_block(held, addr - held->addr)->mapped++;
	else
		held_block(held, addr - held->addr)->zero++;
}

struct file_place {
	uint64_t addr; /* in: of the process */
	uint64_t offset, inode;
	dev_t dev;
};

static bool place_in_mapping(struct process *p, const struct mapping *m, void *arg)
{
	struct file_place *place = arg;

	(void)p;
	if (place->addr < m->start || place->addr >= m->end)
		return false;
	place->offset = m->offset + (place->addr - m->start);
	place->inode = m->inode;
	place->dev = m->dev;
	return true;
}

/* The process's own descriptor of the file, opened again for reading; -1 when it has none. */
static int file_open(struct process *p, const struct file_place *place)
{
	char path[64];

	for (int i = 0; i < 4096; i++) {
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%s/fd/%d", p->pid, i);
		if (stat(path, &st) == 0 && st.st_ino == place->inode && S_ISREG(st.st_mode) &&
		    (st.st_dev == place->dev || place->dev == 0 || major(st.st_dev) == 0))
			return open(path, O_RDONLY | O_CLOEXEC);
	}
	return -1;
}

/* Pages of the file that are in memory, asked through a mapping of our own that is not touched. */
static void held_cached(struct held *held, int fd, uint64_t offset)
{
	static unsigned char resident[MINCORE_MAX / PAGE];

	for (uint64_t at = 0; at < held->size; at += MINCORE_MAX) {
		uint64_t size = held->size - at < MINCORE_MAX ? held->size - at : MINCORE_MAX;
		void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)(offset + at));

		if (map == MAP_FAILED || mincore(map, size, resident) != 0)
			die("the file cannot be looked at: %s", strerror(errno));
		for (uint64_t i = 0; i < size / PAGE; i++)
			if ((resident[i] & 1) != 0)
				held_block(held, at + i * PAGE)->cached++;
		munmap(map, size);
	}
}

static void held_add_extent(struct held *held, uint64_t offset, uint64_t start, uint64_t end)
{
	start = start > offset ? start : offset;
	end = end < offset + held->size ? end : offset + held->size;
	for (start &= ~(PAGE - 1); start < end; start += PAGE)
		held_block(held, start - offset)->allocated++;
}

/* By the file system's own list of extents; false when it has none to show. */
static bool held_extents(struct held *held, int fd, uint64_t offset)
{
	union {
		struct fiemap map;
		char room[sizeof(struct fiemap) + 256 * sizeof(struct fiemap_extent)];
	} ask;
	uint64_t at = offset, end = offset + held->size;

	for (;;) {
		const struct fiemap_extent *e = NULL;

		memset(&ask, 0, sizeof(ask));
		ask.map.fm_start = at;
		ask.map.fm_length = end - at;
		ask.map.fm_flags = FIEMAP_FLAG_SYNC;
		ask.map.fm_extent_count = 256;
		if (ioctl(fd, FS_IOC_FIEMAP, &ask.map) != 0)
			return false;
		for (unsigned int i = 0; i < ask.map.fm_mapped_extents; i++) {
			e = &ask.map.fm_extents[i];
			held_add_extent(held, offset, e->fe_logical, e->fe_logical + e->fe_length);
		}
		if (e == NULL || (e->fe_flags & FIEMAP_EXTENT_LAST) != 0 ||
		    e->fe_logical + e->fe_length >= end)
			return true;
		at = e->fe_logical + e->fe_length;
	}
}

static void held_data(struct held *held, int fd, uint64_t offset)
{
	off_t end = (off_t)(offset + held->size), start = lseek(fd, (off_t)offset, SEEK_DATA);

	while (start >= 0 && start < end) {
		off_t hole = lseek(fd, start, SEEK_HOLE);

		if (hole < 0)
			die("the file's holes cannot be found: %s", strerror(errno));
		held_add_extent(held, offset, (uint64_t)start, (uint64_t)hole);
		start = lseek(fd, hole, SEEK_DATA);
	}
	if (start < 0 && errno != ENXIO)
		die("the file's data cannot be found: %s", strerror(errno));
}

static void held_file(struct process *p, struct held *held)
{
	struct file_place place = {.addr = held->addr};
	struct stat st;
	int fd;

	if (!walk_mappings(p, place_in_mapping, &place) || place.inode == 0)
		return;
	fd = file_open(p, &place);
	if (fd < 0 || fstat(fd, &st) != 0)
		die("the file behind 0x%" PRIx64 " is not among the process's descriptors",
		    held->addr);
	held->file_bytes = (uint64_t)st.st_blocks * 512;
	/* huge pages have neither extents nor holes to show; what is mapped and the sum must do */
	if ((uint64_t)st.st_blksize <= PAGE) {
		held_cached(held, fd, place.offset);
		if (!held_extents(held, fd, place.offset))
			held_data(held, fd, place.offset);
	}
	close(fd);
}

static void held_print(struct held *held)
{
	for (uint64_t i = 0; i < (held->size + held->block - 1) / held->block; i++) {
		const struct counts *b = &held->blocks[i];

		held->total.mapped += b->mapped;
		held->total.cached += b->cached;
		held->total.allocated += b->allocated;
		held->total.zero += b->zero;
		if ((b->mapped | b->cached | b->allocated) != 0)
			printf("block %" PRIu64 " mapped %" PRIu64 " cached %" PRIu64
			       " allocated %" PRIu64 "\n",
			       i, b->mapped, b->cached, b->allocated);
	}
	printf("total mapped %" PRIu64 " cached %" PRIu64 " allocated %" PRIu64 " zero %" PRIu64
	       " file %" PRIu64 "\n",
	       held->total.mapped, held->total.cached, held->total.allocated, held->total.zero,
	       held->file_bytes);
}

static void held_run(struct process *p, uint64_t addr, uint64_t size, uint64_t block)
{
	struct held held = {.addr = addr, .size = size, .block = block};

	if (block == 0 || ((addr | size | block) & (PAGE - 1)) != 0)
		die("address, size and block must be multiples of 4096");
	held.blocks = calloc((size + block - 1) / block, sizeof(*held.blocks));
	if (held.blocks == NULL)
		die("no memory for so many blocks");
	walk_pages(p, addr, addr + size, held_page, &held);
	held_file(p, &held);
	held_print(&held);
	free(held.blocks);
}

int main(int argc, char **argv)
{
	struct process p = {.window = UINT64_MAX};

	if (argc < 2)
		die("usage: hostmem PID find WORD | hostmem PID held ADDR SIZE BLOCK");
	p.pid = argv[1];
	p.pagemap = open_proc(p.pid, "pagemap");
	p.mem = open_proc(p.pid, "mem");
	p.kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (p.kpageflags < 0)
		die("/proc/kpageflags cannot be opened: %s", strerror(errno));
	if (argc == 4 && strcmp(argv[2], "find") == 0) {
		uint64_t word = number(argv[3]);

		walk_mappings(&p, find_in_mapping, &word);
	} else if (argc == 6 && strcmp(argv[2], "held") == 0) {
		held_run(&p, number(argv[3]), number(argv[4]), number(argv[5]));
	} else {
		die("usage: hostmem PID find WORD | hostmem PID held ADDR SIZE BLOCK");
	}
	return 0;
}
