/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Private anonymous memory, block by block: see pages.h. Closed runs are read-only mappings, so
 * that a read is served by the shared zero page and a write fails.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guard/pages.h"

static void anon_free(struct pages *pages)
{
	free(pages);
}

static int anon_protect(struct pages *pages, uint64_t offset, uint64_t size, int protection)
{
	return mprotect(pages->config.memory + offset, size, protection) < 0 ? -errno : 0;
}

static int anon_open(struct pages *pages, uint64_t offset, uint64_t size)
{
	return anon_protect(pages, offset, size, PROT_READ | PROT_WRITE);
}

static int anon_populate(struct pages *pages, uint64_t offset, uint64_t size)
{
	return pages_populate_run(pages->config.memory + offset, size,
				  pages->config.populate_threads);
}

static int anon_close(struct pages *pages, uint64_t offset, uint64_t size)
{
	return anon_protect(pages, offset, size, PROT_READ);
}

static int anon_discard(struct pages *pages, uint64_t offset, uint64_t size)
{
	while (madvise(pages->config.memory + offset, size, MADV_DONTNEED) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static const struct pages_ops anon_ops = {
	.free = anon_free,
	.open = anon_open,
	.populate = anon_populate,
	.close = anon_close,
	.discard = anon_discard,
};

int pages_anon_new(const struct pages_config *config, struct pages **ret_pages,
		   struct vmem_error *ret_error)
{
	struct pages *pages = calloc(1, sizeof(*pages));
	int ret = 0;

	if (!pages)
		return pages_error(ret_error, ENOMEM, "out of memory");
	pages->ops = &anon_ops;
	pages->config = *config;
	pages->mechanism = "mprotect";
	if (config->size) {
		ret = anon_close(pages, 0, config->size);
		if (!ret)
			ret = anon_discard(pages, 0, config->size);
	}
	if (ret) {
		free(pages);
		return pages_error(ret_error, -ret, "the memory cannot be closed: %s",
				   strerror(-ret));
	}
	*ret_pages = pages;
	return 0;
}
