/* SPDX-License-Identifier: BSD-3-Clause */
/* Host memory for guests: see memdev.h for the contract. */
#include "vmm/vm/memdev.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/num.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define MEMDEV_ALIGN (2 * MIB)

/* Map with the alignment of I2: map more, cut off both ends. */
static void *memdev_map_aligned(uint64_t size, bool reserve)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (reserve ? 0 : MAP_NORESERVE);
	uint64_t total;
	char *base, *start;

	if (!num_add(size, MEMDEV_ALIGN, &total) || total > SIZE_MAX) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	base = mmap(NULL, (size_t)total, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (base == MAP_FAILED)
		return base;
	start = base + (-(uintptr_t)base & (MEMDEV_ALIGN - 1));
	if (start > base)
		munmap(base, (size_t)(start - base));
	munmap(start + size, (size_t)(base + total - (start + size)));
	return start;
}

static int memdev_populate(struct memdev *m, struct err **err)
{
	while (madvise(m->memory, m->size, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINTR || errno == EAGAIN)
			continue;
		return err_set(err, ENOMEM,
			       "-object '%s': the host cannot preallocate its %llu bytes: %s",
			       m->id, (unsigned long long)m->size,
			       strerror(errno == EFAULT ? ENOMEM : errno));
	}
	return 0;
}

int memdev_map(struct memdev *m, const char *id, uint64_t size,
	       const struct vm_memdev_config *config, bool merge, bool dump, struct err **err)
{
	int ret = 0;

	m->id = id;
	m->size = config ? config->size_bytes : size;
	m->memory = memdev_map_aligned(m->size, config && config->reserve);
	if (m->memory == MAP_FAILED) {
		m->memory = NULL;
		return err_set(err, errno, "the host cannot map %llu bytes for '%s': %s",
			       (unsigned long long)m->size, id, strerror(errno));
	}
	/* Advice only: a kernel built without the feature refuses it, and nothing is lost. */
	madvise(m->memory, m->size, MADV_HUGEPAGE);
	madvise(m->memory, m->size, MADV_DONTFORK);
	if (merge)
		madvise(m->memory, m->size, MADV_MERGEABLE);
	if (!dump)
		madvise(m->memory, m->size, MADV_DONTDUMP);
	/* A memory device's own memory is populated block by block as it is plugged. */
	if (config && config->prealloc && config->user != VM_MEMDEV_DEVICE)
		ret = memdev_populate(m, err);
	if (ret)
		memdev_unmap(m);
	return ret;
}

void memdev_unmap(struct memdev *m)
{
	if (m->memory)
		munmap(m->memory, m->size);
	m->memory = NULL;
}
