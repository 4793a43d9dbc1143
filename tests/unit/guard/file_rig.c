/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared memory of every kind that this machine has: see file_rig.h. */
#include "tests/unit/guard/file_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/num.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif

#define RIG_PAGE 4096
#define FOREIGN  0x5a
#define OLD      0xa5

/* ---- calls ---- */

struct rig_calls rig_calls;

int __real_fallocate64(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size);
int __real_mprotect(void *memory, size_t size, int protection);
int __wrap_mprotect(void *memory, size_t size, int protection);
long __real_syscall(long number, long a, long b, long c, long d, long e);
long __wrap_syscall(long number, long a, long b, long c, long d);

static bool rig_call_fails(void)
{
	unsigned int n = ++rig_calls.all;

	if (!rig_calls.fail_at || n < rig_calls.fail_at ||
	    n - rig_calls.fail_at >= rig_calls.fail_for)
		return false;
	errno = rig_calls.error;
	return true;
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size)
{
	int error;

	rig_calls.fallocates++;
	if (!rig_call_fails())
		return __real_fallocate64(fd, mode, offset, size);
	/* A part is done. */
	error = errno;
	if (size >= 2 * RIG_PAGE)
		__real_fallocate64(fd, mode, offset, (off_t)num_align_down(size / 2, RIG_PAGE));
	errno = error;
	return -1;
}

int __wrap_mprotect(void *memory, size_t size, int protection)
{
	static void *undo_memory;
	static size_t undo_size;
	int error;

	rig_calls.mprotects++;
	/* What was done in part can be undone: nothing needs to be divided for that. */
	if (memory == undo_memory && size == undo_size) {
		undo_memory = NULL;
		return __real_mprotect(memory, size, protection);
	}
	if (!rig_call_fails())
		return __real_mprotect(memory, size, protection);
	error = errno;
	if (size >= 2 * RIG_PAGE) {
		__real_mprotect(memory, num_align_down(size / 2, RIG_PAGE), protection);
		undo_memory = memory;
		undo_size = size;
	}
	errno = error;
	return -1;
}

long __wrap_syscall(long number, long a, long b, long c, long d)
{
	if ((number == SYS_userfaultfd && rig_calls.no_userfaultfd) ||
	    (number == SYS_cachestat && rig_calls.no_cachestat)) {
		errno = ENOSYS;
		return -1;
	}
	return __real_syscall(number, a, b, c, d, 0);
}

/* ---- files ---- */

static int rig_make_memfd(void)
{
	return memfd_create("rig", MFD_CLOEXEC);
}

static int rig_make_hugetlb(unsigned int shift)
{
	return memfd_create("rig-huge", MFD_CLOEXEC | MFD_HUGETLB | shift << 26);
}

static int rig_make_2m(void)
{
	return rig_make_hugetlb(21);
}

static int rig_make_1g(void)
{
	return rig_make_hugetlb(30);
}

static int rig_make_in(const char *folder)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/guard-rig-XXXXXX", folder);
	fd = mkstemp(path);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static int rig_make_tmpfs(void)
{
	struct statfs fs;

	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return -1;
	return rig_make_in("/dev/shm");
}

/* Where the tests run: a folder of the build. */
static int rig_make_disk(void)
{
	struct statfs fs;

	if (statfs(".", &fs) < 0 || fs.f_type == TMPFS_MAGIC)
		return -1;
	return rig_make_in(".");
}

static int rig_make_tmpfs_of(const char *huge)
{
	int fs = (int)__real_syscall(SYS_fsopen, (long)"tmpfs", FSOPEN_CLOEXEC, 0, 0, 0), folder,
	    fd;

	if (fs < 0)
		return -1;
	if (__real_syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, (long)"huge", (long)huge, 0) <
		    0 ||
	    __real_syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0) < 0) {
		close(fs);
		return -1;
	}
	folder = (int)__real_syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0, 0, 0);
	close(fs);
	if (folder < 0)
		return -1;
	fd = openat(folder, "rig", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	close(folder);
	return fd;
}

int rig_make_huge_tmpfs(void)
{
	return rig_make_tmpfs_of("always");
}

int rig_make_advised_tmpfs(void)
{
	return rig_make_tmpfs_of("advise");
}

const struct rig_kind rig_kinds[RIG_KINDS] = {
	[RIG_MEMFD] = {"memfd", rig_make_memfd, 4096, 2 * MIB, false, false, "userfaultfd"},
	[RIG_MEMFD_SMALL] = {"memfd, small blocks", rig_make_memfd, 4096, 8192, false, false,
			     "userfaultfd"},
	[RIG_MEMFD_FENCED] = {"memfd, no userfaultfd", rig_make_memfd, 4096, 65536, true, false,
			      "mprotect"},
	[RIG_TMPFS] = {"tmpfs", rig_make_tmpfs, 4096, 4 * MIB, false, false, "userfaultfd"},
	[RIG_2M] = {"2 MiB pages", rig_make_2m, 2 * MIB, 2 * MIB, false, false, "userfaultfd"},
	[RIG_2M_FENCED] = {"2 MiB pages, no userfaultfd", rig_make_2m, 2 * MIB, 2 * MIB, true,
			   false, "mprotect"},
	[RIG_1G] = {"1 GiB pages", rig_make_1g, GIB, GIB, false, false, "userfaultfd"},
	[RIG_TMPFS_HUGE] = {"tmpfs with huge pages", rig_make_huge_tmpfs, 4096, 2 * MIB, false,
			    false, "userfaultfd"},
	[RIG_DISK] = {"disk", rig_make_disk, 4096, 65536, false, false, "mprotect"},
};

/* ---- huge pages ---- */

#define POOLS 2
static struct {
	char path[96];
	int lock; /* of nr_hugepages, while the pool is changed; 0: none */
	long added;
} rig_pool[POOLS];

static long rig_number(const char *path)
{
	FILE *f = fopen(path, "r");
	long number = -1;

	if (f && fscanf(f, "%ld", &number) != 1)
		number = -1;
	if (f)
		fclose(f);
	return number;
}

static void rig_put_number(const char *path, long number)
{
	FILE *f = fopen(path, "w");

	if (f) {
		fprintf(f, "%ld\n", number);
		fclose(f);
	}
}

static long rig_pool_number(uint64_t page, const char *name)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%llukB/%s",
		 (unsigned long long)(page / KIB), name);
	return rig_number(path);
}

uint64_t rig_pool_free(uint64_t page)
{
	long unused = rig_pool_number(page, "free_hugepages");
	long promised = rig_pool_number(page, "resv_hugepages");

	return unused > promised ? (uint64_t)(unused - promised) : 0;
}

bool rig_pool_grow(uint64_t page, unsigned int pages)
{
	unsigned int pool = page == GIB;
	uint64_t unused;
	long total;

	if (!rig_pool[pool].lock) {
		snprintf(rig_pool[pool].path, sizeof(rig_pool[pool].path),
			 "/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
			 (unsigned long long)(page / KIB));
		rig_pool[pool].lock = open(rig_pool[pool].path, O_RDONLY | O_CLOEXEC);
		if (rig_pool[pool].lock < 0) {
			rig_pool[pool].lock = 0;
			return false;
		}
		flock(rig_pool[pool].lock, LOCK_EX);
	}
	unused = rig_pool_free(page);
	total = rig_pool_number(page, "nr_hugepages");
	if (total < 0 || unused >= pages)
		return unused >= pages;
	rig_put_number(rig_pool[pool].path, total + (long)(pages - unused));
	rig_pool[pool].added += rig_pool_number(page, "nr_hugepages") - total;
	return rig_pool_free(page) >= pages;
}

void rig_pool_restore(void)
{
	for (unsigned int i = 0; i < POOLS; i++) {
		if (rig_pool[i].added)
			rig_put_number(rig_pool[i].path,
				       rig_number(rig_pool[i].path) - rig_pool[i].added);
		if (rig_pool[i].lock)
			close(rig_pool[i].lock);
		rig_pool[i].added = 0;
		rig_pool[i].lock = 0;
	}
}

/* ---- the rig ---- */

/* Put one byte into each page of a part of the file, by a mapping: hugetlbfs has no write(). */
static void rig_fill(const struct rig *rig, uint64_t offset, uint64_t size, int value)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, rig->fd,
		       (off_t)offset);

	assert_true(p != MAP_FAILED);
	for (uint64_t at = 0; at < size; at += num_min(rig->kind->page, 2 * MIB))
		memset(p + at, value, 64);
	munmap(p, size);
}

static void rig_check_foreign(const struct rig *rig, uint64_t offset, uint64_t size)
{
	unsigned char *p =
		mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, rig->fd, (off_t)offset);

	assert_true((void *)p != MAP_FAILED);
	for (uint64_t at = 0; at < size; at += num_min(rig->kind->page, 2 * MIB))
		assert_int_equal(p[at], FOREIGN);
	munmap(p, size);
}

/* Pages of 1 GiB are too few for it. */
static bool rig_has_sides(const struct rig *rig)
{
	return rig->kind->page < GIB;
}

static void rig_map(struct rig *rig)
{
	uint64_t align = num_max(rig->kind->page, 2 * MIB), page = 4096;
	char *at;

	/* A page on both sides that the region must not reach. */
	rig->reserved = rig->size + 2 * align;
	rig->mapping = mmap(NULL, rig->reserved, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(rig->mapping != MAP_FAILED);
	at = rig->mapping + page;
	at += align - ((uintptr_t)at & (align - 1));
	rig->memory = mmap(at, rig->size, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED | MAP_NORESERVE, rig->fd, (off_t)rig->offset);
	assert_true(rig->memory == at);
}

bool rig_start(struct rig *rig, const struct rig_kind *kind, uint64_t blocks, uint32_t max_fences)
{
	struct vmem_error error = {""};
	struct pages_config config;
	struct stat st;
	uint64_t side;
	int ret;

	memset(rig, 0, sizeof(*rig));
	memset(&rig_calls, 0, sizeof(rig_calls));
	if (kind->page > 4096 &&
	    !rig_pool_grow(kind->page, (unsigned int)blocks + (kind->page < GIB ? 2 : 0)))
		return false;
	rig->kind = kind;
	rig->block = kind->block_size;
	rig->blocks = blocks;
	rig->size = blocks * rig->block;
	rig->fd = kind->make();
	if (rig->fd < 0)
		return false;
	side = rig->block;
	rig->offset = side;
	assert_int_equal(ftruncate(rig->fd, (off_t)(rig->size + 2 * side)), 0);
	if (rig_has_sides(rig)) {
		rig_fill(rig, 0, side, FOREIGN);
		rig_fill(rig, rig->offset + rig->size, side, FOREIGN);
	}
	assert_int_equal(fdatasync(rig->fd), 0);
	assert_int_equal(fstat(rig->fd, &st), 0);
	rig->beside = (uint64_t)st.st_blocks * 512;
	rig_fill(rig, rig->offset, rig->size, OLD);
	rig_map(rig);
	rig_calls.no_userfaultfd = kind->no_userfaultfd;
	rig_calls.no_cachestat = kind->no_cachestat;
	config = (struct pages_config){
		.memory = rig->memory,
		.size = rig->size,
		.block_size = rig->block,
		.segment_size = rig->block,
		.fd = rig->fd,
		.fd_offset = rig->offset,
		.populate_threads = 2,
		.max_fences = max_fences,
	};
	ret = pages_file_new(&config, &rig->pages, &error);
	if (ret)
		print_error("%s: %s\n", kind->name, error.text);
	assert_int_equal(ret, 0);
	memset(&rig_calls, 0, sizeof(rig_calls));
	return true;
}

void rig_end(struct rig *rig)
{
	memset(&rig_calls, 0, sizeof(rig_calls));
	rig->pages->ops->free(rig->pages);
	if (rig_has_sides(rig)) {
		rig_check_foreign(rig, 0, rig->offset);
		rig_check_foreign(rig, rig->offset + rig->size, rig->block);
	}
	munmap(rig->mapping, rig->reserved);
	close(rig->fd);
}

int rig_open(struct rig *rig, uint64_t first, uint64_t count)
{
	return rig->pages->ops->open(rig->pages, first * rig->block, count * rig->block);
}

int rig_close(struct rig *rig, uint64_t first, uint64_t count)
{
	return rig->pages->ops->close(rig->pages, first * rig->block, count * rig->block);
}

int rig_discard(struct rig *rig, uint64_t first, uint64_t count)
{
	return rig->pages->ops->discard(rig->pages, first * rig->block, count * rig->block);
}

int rig_peek(const struct rig *rig, uint64_t block, uint64_t offset)
{
	unsigned char value;
	struct iovec to = {&value, 1}, from = {rig->memory + block * rig->block + offset, 1};

	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1)
		return value;
	assert_int_equal(errno, EFAULT);
	return -1;
}

bool rig_poke(const struct rig *rig, uint64_t block, uint64_t offset, unsigned char value)
{
	struct iovec from = {&value, 1}, to = {rig->memory + block * rig->block + offset, 1};

	if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 1)
		return true;
	assert_int_equal(errno, EFAULT);
	return false;
}

uint64_t rig_held(const struct rig *rig)
{
	struct stat st;

	assert_int_equal(fstat(rig->fd, &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 >= rig->beside);
	return (uint64_t)st.st_blocks * 512 - rig->beside;
}

void rig_check_held(const struct rig *rig, uint64_t blocks)
{
	uint64_t held = rig_held(rig), own = rig->kind->make == rig_make_disk ? 4096 : 0;

	assert_in_range(held, blocks * rig->block, blocks * rig->block + own);
}

long rig_cached(const struct rig *rig, uint64_t first, uint64_t count)
{
	uint64_t range[2] = {rig->offset + first * rig->block, count * rig->block}, stat[5];

	if (__real_syscall(SYS_cachestat, rig->fd, (long)range, (long)stat, 0, 0) < 0)
		return -1;
	return (long)stat[0]; /* nr_cache */
}

unsigned int rig_ranges(const struct rig *rig)
{
	unsigned long start, end, first = (uintptr_t)rig->memory;
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned int ranges = 0;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2)
			ranges += start >= first && end <= first + rig->size;
	fclose(f);
	return ranges;
}

uint64_t rig_mapped(const struct rig *rig, uint64_t first, uint64_t count)
{
	uint64_t entry, mapped = 0, pages = count * rig->block / 4096;
	uint64_t at = ((uintptr_t)rig->memory + first * rig->block) / 4096;
	FILE *f = fopen("/proc/self/pagemap", "rb");

	assert_non_null(f);
	assert_int_equal(fseek(f, (long)(at * sizeof(entry)), SEEK_SET), 0);
	for (uint64_t i = 0; i < pages; i++) {
		assert_int_equal(fread(&entry, sizeof(entry), 1, f), 1);
		mapped += entry >> 63;
	}
	fclose(f);
	return mapped;
}

/* Small blocks of memory are fenced where untouched pages cannot be seen (before Linux 6.5). */
static const char *rig_mechanism(const struct rig *rig)
{
	uint64_t range[2] = {0, RIG_PAGE}, stat[5];

	if (rig->kind->page == RIG_PAGE && rig->kind->block_size < 2 * MIB &&
	    __real_syscall(SYS_cachestat, rig->fd, (long)range, (long)stat, 0, 0) < 0)
		return "mprotect";
	return rig->kind->mechanism;
}

void rig_each(uint64_t blocks, uint32_t max_fences, void (*test)(struct rig *rig))
{
	for (unsigned int i = 0; i < RIG_KINDS; i++) {
		const struct rig_kind *kind = &rig_kinds[i];
		struct rig rig;

		if (kind->page == GIB)
			continue;
		if (!rig_start(&rig, kind, blocks, max_fences)) {
			print_message("no %s here\n", kind->name);
			continue;
		}
		assert_string_equal(rig.pages->mechanism, rig_mechanism(&rig));
		test(&rig);
		rig_end(&rig);
	}
}

bool rig_fenced(const struct rig *rig)
{
	return strcmp(rig->pages->mechanism, "mprotect") == 0;
}

void rig_check_closed(const struct rig *rig, uint64_t first, uint64_t count)
{
	for (uint64_t b = first; b < first + count; b++) {
		assert_int_equal(rig_peek(rig, b, 0), -1);
		assert_int_equal(rig_peek(rig, b, rig->block - 1), -1);
		assert_false(rig_poke(rig, b, 0, 1));
		assert_false(rig_poke(rig, b, rig->block - 1, 1));
	}
}
