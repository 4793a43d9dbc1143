/* SPDX-License-Identifier: BSD-3-Clause */
/* Host memory for guests: see memdev.h for the contract. */
#include "vmm/vm/memdev_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "guard/pages.h"
#include "qmp/size.h"
#include "vmm/vm/report.h"

#define PAGE_BYTES (4 * KIB)

/* Allocation goes on in steps of this size; between them there may be something to report. */
#define POPULATE_STEP_BYTES (4 * GIB)
#define REPORT_AFTER_S      3

const char *memdev_what(const struct memdev *m, char buf[MEMDEV_WHAT_MAX])
{
	static const char *const types[] = {
		[VM_MEMDEV_RAM] = "ram", [VM_MEMDEV_MEMFD] = "memfd", [VM_MEMDEV_FILE] = "file"};

	if (m->config)
		snprintf(buf, MEMDEV_WHAT_MAX, "%s memory-backend-%s,id=%s",
			 m->config->live ? "object-add" : "-object", types[m->config->type], m->id);
	else
		snprintf(buf, MEMDEV_WHAT_MAX, "%s", m->id);
	return buf;
}

static bool memdev_is_huge(const struct memdev *m)
{
	return m->page_bytes > PAGE_BYTES;
}

bool memdev_is_device(const struct memdev *m)
{
	return m->config && m->config->user != VM_MEMDEV_BOOT;
}

static uint64_t memdev_align(const struct memdev *m)
{
	uint64_t align = m->size >= GIB ? GIB : 2 * MIB;

	align = num_max(align, m->page_bytes);
	return m->config ? num_max(align, m->config->align_bytes) : align;
}

/*
 * Map with the alignment of I2: take more addresses, map in the middle, give both ends back.
 * MAP_FAILED with errno.
 */
static void *memdev_map_aligned(const struct memdev *m, int prot, int flags)
{
	uint64_t align = memdev_align(m), total;
	char *base, *start;
	void *memory;

	if (!num_add(m->size, align, &total) || total > SIZE_MAX) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	base = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return base;
	start = base + (-(uintptr_t)base & (align - 1));
	memory = mmap(start, m->size, prot, flags | MAP_FIXED, m->fd, (off_t)m->fd_offset);
	if (memory == MAP_FAILED) {
		int code = errno;

		munmap(base, total);
		errno = code;
		return MAP_FAILED;
	}
	if (start > base)
		munmap(base, (size_t)(start - base));
	munmap(start + m->size, (size_t)(base + total - (start + m->size)));
	return memory;
}

static int memdev_map_failed(const struct memdev *m, int code, struct err **err)
{
	char what[MEMDEV_WHAT_MAX];

	if (memdev_is_huge(m))
		return memdev_pool_failed(m, code, err);
	return err_set(err, code, "%s: the host cannot map its %" PRIu64 " bytes: %s",
		       memdev_what(m, what), m->size, strerror(code));
}

static int memdev_map_backing(struct memdev *m, bool private, struct err **err)
{
	int flags = m->fd >= 0 && !private ? MAP_SHARED : MAP_PRIVATE;
	int prot = PROT_READ | PROT_WRITE;

	if (m->fd < 0)
		flags |= MAP_ANONYMOUS;
	if (!m->config || !m->config->reserve || memdev_is_device(m))
		flags |= MAP_NORESERVE;
	m->memory = memdev_map_aligned(m, prot, flags);
	/* A host that accounts for all writable memory does not care for MAP_NORESERVE. */
	if (m->memory == MAP_FAILED && errno == ENOMEM && memdev_is_device(m))
		m->memory = memdev_map_aligned(m, PROT_READ, flags);
	if (m->memory != MAP_FAILED)
		return 0;
	m->memory = NULL;
	return memdev_map_failed(m, errno, err);
}

/* Advice only: a kernel built without the feature refuses it, and nothing is lost. */
static void memdev_advise(const struct memdev *m)
{
	if (!memdev_is_huge(m))
		madvise(m->memory, m->size, MADV_HUGEPAGE);
	madvise(m->memory, m->size, MADV_DONTFORK);
	if (m->merge && m->fd < 0)
		madvise(m->memory, m->size, MADV_MERGEABLE);
	if (!m->dump)
		madvise(m->memory, m->size, MADV_DONTDUMP);
}

static int memdev_set_attributes(const struct memdev *m, struct err **err)
{
	char what[MEMDEV_WHAT_MAX];
	int ret = memdev_nodes_apply(m, m->memory, m->size);

	if (!ret) {
		memdev_advise(m);
		return 0;
	}
	return err_set(err, -ret, "%s: the host does not take policy=%s for this memory: %s",
		       memdev_what(m, what), vm_mem_policy_name(m->config->policy), strerror(-ret));
}

static int memdev_populate_failed(const struct memdev *m, int code, struct err **err)
{
	char what[MEMDEV_WHAT_MAX];

	if (memdev_is_huge(m))
		return memdev_pool_failed(m, code, err);
	return err_set(err, code, "%s: the host cannot preallocate its %" PRIu64 " bytes: %s",
		       memdev_what(m, what), m->size, strerror(code));
}

/* Before anything is touched: is there memory for what is not in the file yet? */
static int memdev_check_headroom(const struct memdev *m, struct err **err)
{
	char what[MEMDEV_WHAT_MAX], left[SIZE_TEXT_MAX];
	uint64_t size = m->size, has;
	struct stat st;

	if (memdev_is_huge(m))
		return 0; /* they are set aside already, or the pool says no in time */
	if (m->config->policy == VM_POLICY_BIND) {
		int ret = memdev_nodes_check_room(m, err);

		if (ret < 0)
			return ret;
	}
	if (m->fd >= 0 && !fstat(m->fd, &st)) {
		has = (uint64_t)st.st_blocks * 512;
		size -= num_min(size, has);
	}
	if (!headroom_check(size))
		return 0;
	return err_set(err, ENOMEM,
		       "%s: the host cannot preallocate its %" PRIu64
		       " bytes: it has %s left for this process",
		       memdev_what(m, what), m->size,
		       size_format(num_align_down(headroom_bytes(), MIB), left));
}

static int memdev_populate(const struct memdev *m, struct err **err)
{
	time_t said = time(NULL);
	char what[MEMDEV_WHAT_MAX];
	int ret = memdev_check_headroom(m, err);

	if (ret < 0)
		return ret;
	for (uint64_t done = 0, step; done < m->size; done += step) {
		char *piece = (char *)m->memory + done;

		step = num_min(POPULATE_STEP_BYTES, m->size - done);
		if (memdev_is_huge(m))
			ret = pages_map_run(piece, step, m->config->prealloc_threads);
		else
			ret = pages_populate_run(piece, step, m->config->prealloc_threads);
		if (ret < 0)
			return memdev_populate_failed(m, -ret, err);
		if (time(NULL) - said < REPORT_AFTER_S)
			continue;
		said = time(NULL);
		report(NULL, "%s: %" PRIu64 " of %" PRIu64 " GiB are preallocated",
		       memdev_what(m, what), (done + step) / GIB, m->size / GIB);
	}
	return 0;
}

static int memdev_make(struct memdev *m, struct err **err)
{
	bool private = false;
	int ret = 0;

	if (m->config) {
		ret = memdev_is_huge(m) ? memdev_pool_check(m, err) : 0;
		if (!ret)
			ret = memdev_nodes_check(m, err);
		if (!ret)
			ret = memdev_open(m, &private, err);
		if (!ret && !private)
			ret = memdev_nodes_check_file(m, err);
	}
	if (!ret)
		ret = memdev_map_backing(m, private, err);
	/* The mapping holds the file; whoever looks at fd wants to see the memory change with it. */
	if (private) {
		close(m->fd);
		m->fd = -1;
		m->copy = true;
	}
	if (!ret)
		ret = memdev_set_attributes(m, err);
	/* A memory device's own memory is populated block by block as it is plugged. */
	if (!ret && m->config && m->config->prealloc && !memdev_is_device(m))
		ret = memdev_populate(m, err);
	return ret;
}

int memdev_map(struct memdev *m, const char *id, uint64_t size,
	       const struct vm_memdev_config *config, bool merge, bool dump, struct err **err)
{
	int ret;

	*m = (struct memdev){
		.id = id,
		.config = config,
		.size = config ? config->size_bytes : size,
		.page_bytes = config ? config->page_bytes : PAGE_BYTES,
		.fd = -1,
		.merge = merge,
		.dump = dump,
	};
	ret = memdev_make(m, err);
	if (ret < 0)
		memdev_unmap(m);
	return ret;
}

void memdev_unmap(struct memdev *m)
{
	if (!m->size)
		return;
	if (m->memory && m->fd >= 0 && m->config->discard_data)
		madvise(m->memory, m->size, MADV_REMOVE);
	if (m->memory)
		munmap(m->memory, m->size);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct memdev){.fd = -1};
}
