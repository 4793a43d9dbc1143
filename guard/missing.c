/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory whose content comes later, areas and runs: see missing.h for the contract.
 *
 * One lock is held from looking whether a run is expected to the end of what is done with it, for
 * reading by those who put pages, for writing by those who take the run back: so nothing is put where a
 * discard has been (I2). It is never held over anything that could wait for a page: the calls below look at page tables and mappings, not at what is behind them.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/lend.h"
#include "guard/missing_internal.h"
#include "guard/pages.h"

#define MISSING_DEVICE "/dev/userfaultfd"
#define MISSING_SYSCTL "vm.unprivileged_userfaultfd"
#define MISSING_HUGE   "/sys/kernel/mm/transparent_hugepage/enabled"
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

#define MISSING_MOVE_FEATURE (1 << 16) /* Linux 6.8; but see missing_may_move() */
#define MISSING_SHARED_FEATURES                                                                   \
	(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_SHMEM | \
	 UFFD_FEATURE_MINOR_HUGETLBFS)

/* ---- life ---- */

/* A userfaultfd for which the kernel waits as well, or -errno. */
static int missing_open(void)
{
	const int flags = O_CLOEXEC | O_NONBLOCK;
	int fd = (int)syscall(SYS_userfaultfd, flags), device;

	if (fd >= 0)
		return fd;
	if (errno != EPERM)
		return -errno;
	device = open(MISSING_DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0)
		return -EPERM;
	fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
	if (fd < 0)
		fd = -errno;
	close(device);
	return fd;
}

/*
 * Before Linux 6.17 moving a page that is being swapped out could end the host's kernel (a race with the
 * swap cache).
 */
static bool missing_may_move(void)
{
	unsigned int major, minor;
	struct utsname kernel;

	uname(&kernel);
	return sscanf(kernel.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 17));
}

/* Greet the kernel: with all that is wanted, or else with less, down to what every kernel has. */
static int missing_greet(struct missing *m)
{
	static const uint64_t wishes[] = {
		MISSING_SHARED_FEATURES | MISSING_MOVE_FEATURE,
		MISSING_SHARED_FEATURES,
		0,
	};
	int ret = -EINVAL;

	for (size_t i = missing_may_move() ? 0 : 1; ret == -EINVAL && i < ARRAY_SIZE(wishes); i++) {
		struct uffdio_api api = {.api = UFFD_API, .features = wishes[i]};

		ret = missing_ioctl(m, UFFDIO_API, &api);
		m->shared = wishes[i] && pages_populate_supported();
		m->move = wishes[i] & MISSING_MOVE_FEATURE;
	}
	return ret;
}

/* Whoever wants to have a run back comes before those who put pages. */
static void missing_lock_init(struct missing *m)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&m->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

/* Did the host's administrator leave huge pages to those who ask for them? */
static bool missing_may_merge(void)
{
	char text[64] = "";
	int fd = open(MISSING_HUGE, O_RDONLY | O_CLOEXEC);
	ssize_t size;

	if (fd < 0)
		return false;
	size = read(fd, text, sizeof(text) - 1);
	close(fd);
	return size > 0 && !strstr(text, "[never]");
}

int missing_new(struct missing **ret_missing, struct vmem_error *ret_error)
{
	struct missing *m = calloc(1, sizeof(*m));
	struct utsname kernel;
	int ret;

	if (!m)
		return pages_error(ret_error, ENOMEM, "out of memory");
	missing_lock_init(m);
	ret = m->uffd = missing_open();
	if (ret >= 0)
		ret = missing_greet(m);
	if (!ret) {
		m->merge = missing_may_merge();
		*ret_missing = m;
		return 0;
	}
	missing_free(m);
	if (ret == -EPERM || ret == -EACCES)
		return pages_error(
			ret_error, EPERM,
			"this process may not have memory whose content comes later: give "
			"it " MISSING_DEVICE ", or set the host's " MISSING_SYSCTL " to 1");
	uname(&kernel);
	return pages_error(ret_error, EOPNOTSUPP,
			   "this kernel (Linux %.32s) cannot have memory whose content comes "
			   "later: %s",
			   kernel.release, strerror(-ret));
}

static void area_free(struct area *area)
{
	if (area->twin)
		munmap(area->twin, area->c.size);
	bitmap_free(area->expected);
	free(area);
}

/* ---- areas ---- */

/* Is there nothing but memory behind these addresses: no file that a private mapping would read? */
static bool area_is_anonymous(const struct missing_area *c)
{
	uint64_t from = (uintptr_t)c->memory, to = from + c->size;
	FILE *maps = fopen("/proc/self/maps", "re");
	bool anonymous = maps;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long long start, end, inode;

		/* "start-end rwxp offset major:minor inode path": what a path adds is not looked at. */
		if (sscanf(line, "%llx-%llx %*s %*s %*s %llu", &start, &end, &inode) == 3 &&
		    start < to && end > from && inode)
			anonymous = false;
	}
	if (maps)
		fclose(maps);
	return anonymous;
}

/* Map the file once more. */
static int area_map_twin(const struct missing *m, struct area *area)
{
	const struct missing_area *c = &area->c;
	struct statfs fs;
	void *twin;

	if (!m->shared || fstatfs(c->fd, &fs) < 0 ||
	    (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC))
		return -EOPNOTSUPP;
	twin = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, c->fd,
		    (off_t)c->fd_offset);
	if (twin == MAP_FAILED)
		return -errno;
	area->twin = twin;
	madvise(twin, c->size, MADV_DONTFORK);
	madvise(twin, c->size, MADV_DONTDUMP);
	/* Pages that a guard has committed are as large as they are. */
	if (!c->guard && fs.f_type == TMPFS_MAGIC)
		madvise(twin, c->size, MADV_HUGEPAGE);
	return 0;
}

/*
 * Nobody waits there any more. The kernel wakes those who wait before it lets the run go, and whoever
 * looks at it by the lock of its mapping alone can begin to wait in between: nobody would ever wake
 * them. Once it is gone no more can begin.
 */
static int missing_unregister(const struct missing *m, const struct area *area, uint64_t offset,
			      uint64_t size)
{
	struct uffdio_range run = {(uintptr_t)area->c.memory + offset, size};
	int ret = missing_ioctl(m, UFFDIO_UNREGISTER, &run);

	missing_wake(m, area, offset, size);
	return ret;
}

/* Give back what is lent of the run; the lock is held. */
static int missing_settle_locked(struct missing *m, struct area *area, uint64_t offset,
				 uint64_t size)
{
	uint64_t end = offset + size, stop, unit = area->c.unit_bytes;
	int ret = 0;

	for (; (stop = missing_part(area, &offset, end)) > offset; offset = stop) {
		int failed = missing_unregister(m, area, offset, stop - offset);

		if (!failed && area->c.guard)
			failed = guard_take_back(area->c.guard, offset, stop - offset);
		if (!failed)
			bitmap_clear(area->expected, offset / unit, (stop - offset) / unit);
		else if (!ret)
			ret = failed;
	}
	return ret;
}

static int area_drop(void *opaque, uint64_t offset, uint64_t size)
{
	struct area *area = opaque;
	int ret;

	pthread_rwlock_wrlock(&area->missing->lock);
	ret = missing_settle_locked(area->missing, area, offset, size);
	pthread_rwlock_unlock(&area->missing->lock);
	return ret;
}

static void area_gone(void *opaque)
{
	struct area *area = opaque;

	pthread_rwlock_wrlock(&area->missing->lock);
	area->c.guard = NULL;
	pthread_rwlock_unlock(&area->missing->lock);
}

int missing_add(struct missing *m, const struct missing_area *c, size_t *ret_index)
{
	struct area *area = calloc(1, sizeof(*area)), **areas;
	const struct guard_borrower borrower = {area_drop, area_gone, area};
	int ret = -ENOMEM;

	if (!area)
		return ret;
	area->missing = m;
	area->c = *c;
	area->expected = bitmap_new(c->size / c->unit_bytes);
	areas = realloc(m->areas, (m->nr_areas + 1) * sizeof(*areas));
	if (areas)
		m->areas = areas;
	if (areas && area->expected)
		ret = c->fd >= 0 ? area_map_twin(m, area) : area_is_anonymous(c) ? 0 : -EOPNOTSUPP;
	if (!ret && c->guard)
		ret = guard_borrow(c->guard, &borrower);
	if (ret) {
		area_free(area);
		return ret;
	}
	*ret_index = m->nr_areas;
	m->areas[m->nr_areas++] = area;
	return 0;
}

void missing_free(struct missing *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->nr_areas; i++) {
		struct area *area = m->areas[i];

		/* What cannot be given back to the guard stays open memory as long as it is open. */
		pthread_rwlock_wrlock(&m->lock);
		(void)missing_settle_locked(m, area, 0, area->c.size);
		pthread_rwlock_unlock(&m->lock);
		if (area->c.guard)
			guard_borrow(area->c.guard, NULL);
		area_free(area);
	}
	free(m->areas);
	/* Whatever is registered is not any more. */
	if (m->uffd >= 0)
		close(m->uffd);
	pthread_rwlock_destroy(&m->lock);
	free(m);
}

/* ---- runs ---- */

uint64_t missing_part(const struct area *area, uint64_t *offset, uint64_t end)
{
	uint64_t unit = area->c.unit_bytes, last = (end + unit - 1) / unit;
	uint64_t first = bitmap_next_set(area->expected, *offset / unit, last);

	if (first == last) {
		*offset = end;
		return end;
	}
	*offset = num_max(*offset, first * unit);
	return num_min(end, bitmap_next_clear(area->expected, first, last) * unit);
}

/* Register what the guard, if there is one, has lent. */
static int missing_register(struct missing *m, struct area *area, uint64_t offset, uint64_t size)
{
	struct uffdio_register run = {
		.range = {(uintptr_t)area->c.memory + offset, size},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int ret;

	if (area->twin) {
		run.mode |= UFFDIO_REGISTER_MODE_MINOR;
		/* What is in page tables would not be waited for. Hugetlb: from Linux 5.18 on. */
		if (madvise(area->c.memory + offset, size, MADV_DONTNEED) < 0)
			return errno == ENOMEM ? -ENOMEM : -EOPNOTSUPP;
	}
	ret = missing_ioctl(m, UFFDIO_REGISTER, &run);
	return ret == -EINVAL || ret == -EBUSY || ret == -EPERM ? -EOPNOTSUPP : ret;
}

int missing_expect(struct missing *m, size_t index, uint64_t offset, uint64_t size)
{
	struct area *area = m->areas[index];
	uint64_t unit = area->c.unit_bytes;
	int ret = 0;

	pthread_rwlock_wrlock(&m->lock);
	if (!bitmap_all_clear(area->expected, offset / unit, size / unit))
		ret = -EEXIST;
	if (!ret && area->c.guard)
		ret = guard_lend(area->c.guard, offset, size);
	if (!ret) {
		ret = missing_register(m, area, offset, size);
		if (!ret)
			bitmap_set(area->expected, offset / unit, size / unit);
		else if (area->c.guard)
			/* It was the guard's a moment ago, and nothing has been changed. */
			(void)guard_take_back(area->c.guard, offset, size);
	}
	pthread_rwlock_unlock(&m->lock);
	return ret;
}

bool missing_is_expected(struct missing *m, size_t index, uint64_t offset, uint64_t size)
{
	const struct area *area = m->areas[index];
	uint64_t end = offset + size;
	bool expected;

	pthread_rwlock_rdlock(&m->lock);
	expected = missing_part(area, &offset, end) == end && offset == end - size;
	pthread_rwlock_unlock(&m->lock);
	return expected;
}

int missing_forget(struct missing *m, size_t index, uint64_t offset, uint64_t size)
{
	const struct area *area = m->areas[index];
	uint64_t end = offset + size;
	int ret = 0;

	pthread_rwlock_rdlock(&m->lock);
	if (missing_part(area, &offset, end) != end || offset != end - size)
		ret = -ENOENT;
	if (!ret && madvise(area->c.memory + offset, size, MADV_DONTNEED) < 0)
		ret = -errno;
	pthread_rwlock_unlock(&m->lock);
	return ret;
}

int missing_settle(struct missing *m, size_t index, uint64_t offset, uint64_t size)
{
	int ret = 0;

	pthread_rwlock_wrlock(&m->lock);
	if (!m->failed)
		ret = missing_settle_locked(m, m->areas[index], offset, size);
	pthread_rwlock_unlock(&m->lock);
	return ret;
}

/*
 * What is not reachable at all need not be registered; in this order nobody can come in between. What
 * was expected stays noted, for the guard.
 */
static int missing_fail_area(struct missing *m, const struct area *area)
{
	uint64_t offset = 0, stop;
	int ret = 0;

	for (; (stop = missing_part(area, &offset, area->c.size)) > offset; offset = stop) {
		int failed = mprotect(area->c.memory + offset, stop - offset, PROT_NONE)
				     ? -errno
				     : missing_unregister(m, area, offset, stop - offset);

		ret = failed ? failed : ret;
	}
	return ret;
}

int missing_fail(struct missing *m)
{
	int ret = 0;

	pthread_rwlock_wrlock(&m->lock);
	m->failed = true;
	for (size_t i = 0; i < m->nr_areas; i++) {
		int failed = missing_fail_area(m, m->areas[i]);

		ret = ret ? ret : failed;
	}
	pthread_rwlock_unlock(&m->lock);
	return ret;
}

/* ---- faults ---- */

int missing_fd(const struct missing *m)
{
	return m->uffd;
}

/* Which page an address is in; false for one of no area. The lock is held. */
static bool missing_find(const struct missing *m, uint64_t address, struct missing_fault *ret_fault)
{
	for (size_t i = 0; i < m->nr_areas; i++) {
		const struct missing_area *c = &m->areas[i]->c;
		uint64_t offset = address - (uintptr_t)c->memory;

		if (offset < c->size) {
			*ret_fault =
				(struct missing_fault){i, num_align_down(offset, c->page_bytes)};
			return true;
		}
	}
	return false;
}

int missing_next(struct missing *m, struct missing_fault *ret_fault)
{
	struct uffd_msg message;

	for (;;) {
		ssize_t got = read(m->uffd, &message, sizeof(message));
		bool found;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		if (got != sizeof(message) || message.event != UFFD_EVENT_PAGEFAULT)
			continue;
		pthread_rwlock_rdlock(&m->lock);
		found = missing_find(m, message.arg.pagefault.address, ret_fault);
		pthread_rwlock_unlock(&m->lock);
		if (found)
			return 0;
	}
}
