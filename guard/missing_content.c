/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory whose content comes later, the content: see missing.h for the contract, missing.c for the
 * lock.
 *
 * The kernel's calls end early for reasons of their own, and say how far they came; a page that is there
 * already is passed over, and who waits for it looks again.
 */
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/missing_internal.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define MISSING_HUGE              (2 * MIB)
#define MISSING_NODES             1024 /* of NUMA; as many as any kernel knows */
#define MISSING_POLICY_OF_ADDRESS 2    /* MPOL_F_ADDR */
#define MISSING_AGAIN             1000 /* times that the kernel may ask for patience without any progress */

/* The kernel's, from 6.8 on. */
struct missing_move {
	uint64_t dst, src, len, mode;
	int64_t move;
};
#define MISSING_MOVE _IOWR(0xAA, 0x05, struct missing_move)

enum fill { FILL_COPY, FILL_ZEROS, FILL_SHOW, FILL_MOVE };

void missing_wake(const struct missing *m, const struct area *area, uint64_t offset, uint64_t size)
{
	struct uffdio_range run = {(uintptr_t)area->c.memory + offset, size};

	(void)missing_ioctl(m, UFFDIO_WAKE, &run);
}

/* One call; the bytes that it did, or -errno. */
static int64_t missing_fill_some(const struct missing *m, enum fill fill, char *to, uint64_t size,
				 const char *from)
{
	const struct uffdio_range run = {(uintptr_t)to, size};
	struct uffdio_copy copy = {.dst = run.start, .src = (uintptr_t)from, .len = size};
	struct uffdio_zeropage zeros = {.range = run};
	struct uffdio_continue show = {.range = run};
	struct missing_move move = {.dst = run.start, .src = (uintptr_t)from, .len = size};
	int64_t done;
	int ret;

	switch (fill) {
	case FILL_COPY:
		ret = missing_ioctl(m, UFFDIO_COPY, &copy);
		done = copy.copy;
		break;
	case FILL_ZEROS:
		ret = missing_ioctl(m, UFFDIO_ZEROPAGE, &zeros);
		done = zeros.zeropage;
		break;
	case FILL_MOVE:
		ret = missing_ioctl(m, MISSING_MOVE, &move);
		done = move.move;
		break;
	default:
		ret = missing_ioctl(m, UFFDIO_CONTINUE, &show);
		done = show.mapped;
		break;
	}
	if (!ret)
		return (int64_t)size;
	return done > 0 ? done : ret;
}

/* A run that is expected, from *done on, which grows; the lock is held. */
static int missing_fill(const struct missing *m, const struct area *area, enum fill fill,
			uint64_t offset, uint64_t size, const char *from, uint64_t *done)
{
	unsigned int again = 0;

	while (*done < size) {
		int64_t some = missing_fill_some(m, fill, area->c.memory + offset + *done,
						 size - *done, from ? from + *done : NULL);

		if (some == -EEXIST) {
			missing_wake(m, area, offset + *done, area->c.page_bytes);
			some = (int64_t)area->c.page_bytes;
		}
		if (some == -EAGAIN && again++ < MISSING_AGAIN)
			continue;
		if (some < 0)
			return some == -ENOENT ? -EINVAL : (int)some;
		again = 0;
		*done += (uint64_t)some;
	}
	return 0;
}

/* The same for shared memory: there has to be a page in the file to be shown. The lock is held. */
static int missing_twin(const struct area *area, uint64_t offset, uint64_t size)
{
	uint64_t page = area->c.page_bytes, first = num_align_down(offset, page);
	uint64_t end = num_align_down(offset + size + page - 1, page);

	while (madvise(area->twin + first, end - first, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINTR)
			continue;
		/* A touch would be a signal: the file system, or the pool, is full. */
		return errno == EFAULT ? -ENOMEM : -errno;
	}
	return 0;
}

/* What cannot be moved, for reasons of the kernel's own, is copied: it is where it was. */
static int missing_move_part(const struct missing *m, const struct area *area, uint64_t offset,
			     uint64_t size, const char *content)
{
	uint64_t done = 0;

	if (m->move && !missing_fill(m, area, FILL_MOVE, offset, size, content, &done))
		return 0;
	return missing_fill(m, area, FILL_COPY, offset, size, content, &done);
}

static int missing_put_part(const struct missing *m, const struct area *area, uint64_t offset,
			    uint64_t size, const char *content)
{
	uint64_t done = 0;
	int ret;

	if (!area->twin)
		return missing_fill(m, area, content ? FILL_COPY : FILL_ZEROS, offset, size,
				    content, &done);
	ret = missing_twin(area, offset, size);
	if (ret)
		return ret;
	if (content)
		memcpy(area->twin + offset, content, size);
	else
		memset(area->twin + offset, 0, size);
	return missing_fill(m, area, FILL_SHOW, offset, size, NULL, &done);
}

static int missing_write_part(const struct missing *m, const struct area *area, uint64_t offset,
			      uint64_t size, const char *content)
{
	int ret = missing_twin(area, offset, size);

	(void)m;
	if (!ret)
		memcpy(area->twin + offset, content, size);
	return ret;
}

static int missing_show_part(const struct missing *m, const struct area *area, uint64_t offset,
			     uint64_t size, const char *content)
{
	uint64_t done = 0;
	int ret = missing_twin(area, offset, size);

	(void)content;
	return ret ? ret : missing_fill(m, area, FILL_SHOW, offset, size, NULL, &done);
}

/* @fn for each part of the run that is expected, with its share of @content. */
static int missing_each(struct missing *m, size_t index, uint64_t offset, uint64_t size,
			const char *content,
			int (*fn)(const struct missing *m, const struct area *area, uint64_t offset,
				  uint64_t size, const char *content))
{
	uint64_t from = offset, end = offset + size, done = 0, stop;
	const struct area *area;
	int ret = 0;

	pthread_rwlock_rdlock(&m->lock);
	area = m->areas[index];
	for (; !ret && !m->failed && (stop = missing_part(area, &offset, end)) > offset;
	     offset = stop) {
		ret = fn(m, area, offset, stop - offset, content ? content + offset - from : NULL);
		done += stop - offset;
	}
	pthread_rwlock_unlock(&m->lock);
	if (!ret && done < size)
		ret = -ENOENT;
	return ret;
}

int missing_put(struct missing *m, size_t index, uint64_t offset, uint64_t size,
		const void *content)
{
	return missing_each(m, index, offset, size, content, missing_put_part);
}

int missing_move(struct missing *m, size_t index, uint64_t offset, uint64_t size, void *stage)
{
	int ret = missing_each(m, index, offset, size, stage,
			       m->areas[index]->twin ? missing_put_part : missing_move_part);

	/* What is left of it must not be taken for something that is to come. */
	if (madvise(stage, size, MADV_DONTNEED) < 0 && !ret)
		ret = -errno;
	return ret;
}

void *missing_stage_new(const struct missing *m, size_t size)
{
	char *room = mmap(NULL, size + MISSING_HUGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *stage;

	if (room == MAP_FAILED)
		return NULL;
	stage = room + (-(uintptr_t)room & (MISSING_HUGE - 1));
	if (stage > room)
		munmap(room, (size_t)(stage - room));
	munmap(stage + size, (size_t)(room + MISSING_HUGE - stage));
	if (m->merge)
		madvise(stage, size, MADV_HUGEPAGE);
	madvise(stage, size, MADV_DONTFORK);
	return stage;
}

void missing_stage_place(const struct missing *m, size_t index, uint64_t offset, void *stage,
			 size_t size)
{
	unsigned long nodes[MISSING_NODES / (8 * sizeof(unsigned long))];
	int policy;

	/* A host without such policies has nothing to be placed. */
	if (syscall(SYS_get_mempolicy, &policy, nodes, MISSING_NODES,
		    m->areas[index]->c.memory + offset, MISSING_POLICY_OF_ADDRESS) == 0)
		syscall(SYS_mbind, stage, size, policy, nodes, MISSING_NODES + 1, 0);
}

int missing_put_zeros(struct missing *m, size_t index, uint64_t offset, uint64_t size)
{
	return missing_each(m, index, offset, size, NULL, missing_put_part);
}

int missing_write(struct missing *m, size_t index, uint64_t offset, uint64_t size,
		  const void *content)
{
	return missing_each(m, index, offset, size, content, missing_write_part);
}

int missing_show(struct missing *m, size_t index, uint64_t offset, uint64_t size)
{
	return missing_each(m, index, offset, size, NULL, missing_show_part);
}

void missing_merge(struct missing *m, size_t index, uint64_t offset)
{
	const struct area *area;
	uint64_t end = offset + MISSING_HUGE, at = offset;

	if (!m->merge)
		return;
	pthread_rwlock_rdlock(&m->lock);
	area = m->areas[index];
	/* All of it expected, and so open: closed memory must not get pages by this. */
	if (!area->twin && !m->failed && end <= area->c.size &&
	    num_is_aligned((uintptr_t)area->c.memory + offset, MISSING_HUGE) &&
	    missing_part(area, &at, end) == end && at == offset)
		madvise(area->c.memory + offset, MISSING_HUGE, MADV_COLLAPSE);
	pthread_rwlock_unlock(&m->lock);
}
