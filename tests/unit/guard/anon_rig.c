/* SPDX-License-Identifier: BSD-3-Clause */
/* See anon_rig.h. */
#include "anon_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/anon.h"
#include "tests/unit/guard/held.h"

/* ---- the guard's system calls ---- */

static struct anon_kernel kernel;
static bool starting; /* the guard finds out what the kernel can do */
static struct anon_faults faults;
static uint64_t moved_bytes;

int __real_mprotect(void *at, size_t size, int protection);
int __real_madvise(void *at, size_t size, int advice);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__real_mremap(void *at, size_t old_size, size_t size, int flags, ...);
int __real_mincore(void *at, size_t size, unsigned char *vec);
int __real_ioctl(int fd, unsigned long request, ...);
long __real_syscall(long number, ...);
int __real_open(const char *path, int flags, ...);
int __wrap_mprotect(void *at, size_t size, int protection);
int __wrap_madvise(void *at, size_t size, int advice);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mremap(void *at, size_t old_size, size_t size, int flags, ...);
int __wrap_mincore(void *at, size_t size, unsigned char *vec);
int __wrap_ioctl(int fd, unsigned long request, ...);
long __wrap_syscall(long number, ...);
int __wrap_open(const char *path, int flags, ...);
/* What the two are called where file offsets have 64 bits. */
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
	__attribute__((alias("__wrap_mmap")));
int __wrap_open64(const char *path, int flags, ...) __attribute__((alias("__wrap_open")));

void anon_kernel_set(struct anon_kernel k)
{
	kernel = k;
}

struct anon_kernel anon_kernel_get(void)
{
	return kernel;
}

void anon_faults_set(const struct anon_faults *f)
{
	faults = *f;
	faults.calls = 0;
}

unsigned int anon_faults_end(void)
{
	unsigned int calls = faults.calls;

	faults = (struct anon_faults){0};
	return calls;
}

uint64_t anon_moved_bytes(void)
{
	uint64_t bytes = moved_bytes;

	moved_bytes = 0;
	return bytes;
}

/* Does this call fail? Then errno is set. */
static bool fault_now(void)
{
	faults.calls++;
	if (!faults.at || faults.calls < faults.at || faults.calls - faults.at >= faults.times)
		return false;
	errno = faults.error;
	return true;
}

/* How much of a range a failing call does. */
static size_t fault_part(size_t size)
{
	return faults.partly ? size / PAGE / 2 * PAGE : 0;
}

int __wrap_mprotect(void *at, size_t size, int protection)
{
	if (!fault_now())
		return __real_mprotect(at, size, protection);
	if (fault_part(size))
		assert_int_equal(__real_mprotect(at, fault_part(size), protection), 0);
	errno = faults.error;
	return -1;
}

int __wrap_madvise(void *at, size_t size, int advice)
{
	/* This is only asked for to find out about page tables. */
	if (advice == MADV_NOHUGEPAGE && starting && kernel.no_table_reclaim) {
		errno = ENOMEM;
		return -1;
	}
	if (!fault_now())
		return __real_madvise(at, size, advice);
	if (fault_part(size))
		assert_int_equal(__real_madvise(at, fault_part(size), advice), 0);
	errno = faults.error;
	return -1;
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	/* The C library's own and the tests' are none of the guard's. */
	if (at || protection == (PROT_READ | PROT_WRITE) || !fault_now())
		return __real_mmap(at, size, protection, flags, fd, offset);
	return MAP_FAILED;
}

void *__wrap_mremap(void *at, size_t old_size, size_t size, int flags, ...)
{
	va_list args;
	void *hint;

	va_start(args, flags);
	hint = va_arg(args, void *);
	va_end(args);
	if (fault_now())
		return MAP_FAILED;
	moved_bytes += size;
	return __real_mremap(at, old_size, size, flags, hint);
}

int __wrap_mincore(void *at, size_t size, unsigned char *vec)
{
	return fault_now() ? -1 : __real_mincore(at, size, vec);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *argument;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	return fault_now() ? -1 : __real_ioctl(fd, request, argument);
}

long __wrap_syscall(long number, ...)
{
	va_list args;
	long argument;

	va_start(args, number);
	argument = va_arg(args, long);
	va_end(args);
	if (number == SYS_userfaultfd && kernel.no_userfaultfd) {
		errno = EPERM;
		return -1;
	}
	return __real_syscall(number, argument);
}

/* Only for files that are there: no mode. */
int __wrap_open(const char *path, int flags, ...)
{
	int fd;

	if (!kernel.no_huge_zero_page || strcmp(path, FRESH_ZERO_PAGE))
		return __real_open(path, flags);
	fd = memfd_create("use_zero_page", MFD_CLOEXEC);
	assert_int_equal(pwrite(fd, "0\n", 2, 0), 2);
	return fd;
}

/* ---- the region ---- */

void rig_start(struct anon_rig *r, uint64_t size, uint64_t block, uint64_t segment,
	       uint32_t max_fences)
{
	const uint64_t align = 2 * MIB;
	char *room = mmap(NULL, size + align, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head;

	memset(r, 0, sizeof(*r));
	assert_true(room != MAP_FAILED);
	head = -(uintptr_t)room & (align - 1);
	/* What is beside it is unmapped, so that nothing of it can merge with the region. */
	if (head)
		munmap(room, head);
	munmap(room + head + size, align - head);
	r->memory = room + head;
	assert_int_equal(mprotect(r->memory, size, PROT_READ), 0);
	r->config = (struct pages_config){
		.memory = r->memory,
		.size = size,
		.block_size = block,
		.segment_size = segment,
		.fd = -1,
		.populate_threads = 1,
		.max_fences = max_fences,
		.mergeable = kernel.mergeable,
	};
	/* Whether this kernel merges pages or not: the guard does as if it did. */
	if (kernel.mergeable)
		(void)__real_madvise(r->memory, size, MADV_MERGEABLE);
	starting = true;
	assert_int_equal(pages_anon_new(&r->config, &r->pages, NULL), 0);
	starting = false;
	r->mappings = rig_mappings(r);
}

void rig_end(struct anon_rig *r)
{
	assert_int_equal(rig_close(r, 0, r->config.size), 0);
	assert_int_equal(rig_discard(r, 0, r->config.size), 0);
	assert_int_equal(rig_mappings(r), 1);
	assert_int_equal(r->pages->fences, 1);
	assert_int_equal(r->pages->armed_segments, 0);
	if (r->config.size < TIB)
		assert_int_equal(rig_pages(r, 0, r->config.size), 0);
	r->pages->ops->free(r->pages);
	munmap(r->memory, r->config.size);
}

bool rig_can_count(void)
{
	FILE *f = fopen("/proc/sys/vm/overcommit_memory", "r");
	bool strict = f && fgetc(f) == '2';

	if (f)
		fclose(f);
	if (strict)
		printf("with vm.overcommit_memory=2 mappings cannot be counted\n");
	return !strict;
}

bool rig_can_arm(void)
{
	int uffd = armed_probe();

	if (uffd < 0) {
		print_message("without userfaultfd (Linux 6.4) no segment is armed\n");
		return false;
	}
	close(uffd);
	return true;
}

int rig_open(struct anon_rig *r, uint64_t offset, uint64_t size)
{
	return r->pages->ops->open(r->pages, offset, size);
}

int rig_close(struct anon_rig *r, uint64_t offset, uint64_t size)
{
	return r->pages->ops->close(r->pages, offset, size);
}

int rig_discard(struct anon_rig *r, uint64_t offset, uint64_t size)
{
	return r->pages->ops->discard(r->pages, offset, size);
}

void rig_checkerboard(struct anon_rig *r, uint64_t first, uint64_t nr)
{
	const uint64_t block = r->config.block_size;

	assert_int_equal(rig_open(r, first * block, nr * block), 0);
	for (uint64_t i = first; i < first + nr; i += 2) {
		assert_int_equal(rig_close(r, i * block, block), 0);
		assert_int_equal(rig_discard(r, i * block, block), 0);
	}
}

int rig_poke(const struct anon_rig *r, uint64_t offset, uint8_t value)
{
	struct iovec local = {&value, 1}, remote = {r->memory + offset, 1};

	return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 1 ? 0 : -errno;
}

bool rig_is_zero(const struct anon_rig *r, uint64_t offset, uint64_t size)
{
	static const char zeros[PAGE];

	for (uint64_t at = offset; at < offset + size; at += PAGE)
		if (memcmp(r->memory + at, zeros, PAGE))
			return false;
	return true;
}

bool rig_is_closed(const struct anon_rig *r, uint64_t offset, uint64_t size)
{
	for (uint64_t at = offset; at < offset + size; at += PAGE)
		if (rig_poke(r, at + at / PAGE % PAGE, 0xee) != -EFAULT)
			return false;
	return true;
}

/* ---- what the kernel says ---- */

uint64_t rig_pages(const struct anon_rig *r, uint64_t offset, uint64_t size)
{
	return held_pages(r->memory + offset, size, false);
}

/* Call for each line of the region in /proc/self/@file, with how much of the region it is about. */
static uint64_t rig_each_mapping(const struct anon_rig *r, const char *file, const char *field,
				 unsigned int *ret_mappings)
{
	uintptr_t begin = (uintptr_t)r->memory, end = begin + r->config.size;
	unsigned long first = 0, last = 0;
	unsigned int mappings = 0;
	uint64_t sum = 0;
	char line[512];
	FILE *f = fopen(file, "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;
		char c;

		if (sscanf(line, "%lx-%lx %c", &from, &to, &c) == 3) {
			first = from;
			last = to;
			mappings += last > begin && first < end;
		} else if (field && last > begin && first < end &&
			   !strncmp(line, field, strlen(field))) {
			sum += strtoull(line + strlen(field), NULL, 10) * KIB;
		}
	}
	fclose(f);
	if (ret_mappings)
		*ret_mappings = mappings;
	return sum;
}

unsigned int rig_mappings(const struct anon_rig *r)
{
	unsigned int mappings;

	rig_each_mapping(r, "/proc/self/maps", NULL, &mappings);
	return mappings;
}

uint64_t rig_huge_bytes(const struct anon_rig *r)
{
	return rig_each_mapping(r, "/proc/self/smaps", "AnonHugePages:", NULL);
}

uint64_t rig_status_bytes(const char *name)
{
	char line[256];
	uint64_t bytes = 0;
	FILE *f = fopen("/proc/self/status", "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			bytes = strtoull(line + strlen(name) + 1, NULL, 10) * KIB;
	fclose(f);
	return bytes;
}
