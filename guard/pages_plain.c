/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages without protection: see pages.h. Memory comes when it is touched and goes when it is
 * discarded; a guest that touches a closed block of a present slot has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guard/pages.h"

static void plain_free(struct pages *pages)
{
	free(pages);
}

static int plain_open(struct pages *pages, uint64_t offset, uint64_t size)
{
	(void)pages;
	(void)offset;
	(void)size;
	return 0;
}

static int plain_close(struct pages *pages, uint64_t offset, uint64_t size)
{
	(void)pages;
	(void)offset;
	(void)size;
	return 0;
}

static int plain_discard(struct pages *pages, uint64_t offset, uint64_t size)
{
	const struct pages_config *c = &pages->config;
	int ret;

	do {
		if (c->fd >= 0)
			ret = fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)(c->fd_offset + offset), (off_t)size);
		else
			ret = madvise(c->memory + offset, size, MADV_DONTNEED);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

static const struct pages_ops plain_ops = {
	.free = plain_free,
	.open = plain_open,
	.populate = pages_populate,
	.close = plain_close,
	.discard = plain_discard,
	.reclaim = plain_discard,
};

int pages_plain_new(const struct pages_config *config, struct pages **ret_pages,
		    struct vmem_error *ret_error)
{
	struct pages *pages = calloc(1, sizeof(*pages));
	int ret;

	if (!pages)
		return pages_error(ret_error, ENOMEM, "out of memory");
	pages->ops = &plain_ops;
	pages->config = *config;
	pages->mechanism = "none";
	pages->page = pages_page_size(config->fd);
	ret = config->size ? plain_discard(pages, 0, config->size) : 0;
	if (!ret && mprotect(config->memory, config->size, PROT_READ | PROT_WRITE) < 0)
		ret = -errno;
	if (ret) {
		free(pages);
		return pages_error(ret_error, -ret, "the memory cannot be emptied and opened: %s",
				   strerror(-ret));
	}
	*ret_pages = pages;
	return 0;
}
