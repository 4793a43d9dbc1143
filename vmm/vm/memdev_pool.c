/* SPDX-License-Identifier: BSD-3-Clause */
/* The host's pools of huge pages, as /sys tells of them. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/size.h"
#include "vmm/vm/memdev_internal.h"

#define POOLS         "/sys/kernel/mm/hugepages"
#define POOL_PATH_MAX 96

static const char *pool_path(uint64_t page_bytes, char buf[POOL_PATH_MAX])
{
	snprintf(buf, POOL_PATH_MAX, POOLS "/hugepages-%" PRIu64 "kB", page_bytes / KIB);
	return buf;
}

/* A number of the pool; 0 when it cannot be read. */
static uint64_t pool_number(uint64_t page_bytes, const char *name)
{
	char folder[POOL_PATH_MAX], path[2 * POOL_PATH_MAX];
	uint64_t number = 0;
	FILE *in;

	snprintf(path, sizeof(path), "%s/%s", pool_path(page_bytes, folder), name);
	in = fopen(path, "re");
	if (!in)
		return 0;
	if (fscanf(in, "%" SCNu64, &number) != 1)
		number = 0;
	fclose(in);
	return number;
}

/* Pages that nobody has been promised, and those that the pool may still grow by. */
static uint64_t pool_free_pages(uint64_t page_bytes)
{
	uint64_t free_pages = pool_number(page_bytes, "free_hugepages");
	uint64_t promised = pool_number(page_bytes, "resv_hugepages");
	uint64_t more = pool_number(page_bytes, "nr_overcommit_hugepages");
	uint64_t grown = pool_number(page_bytes, "surplus_hugepages");

	return (free_pages > promised ? free_pages - promised : 0) +
	       (more > grown ? more - grown : 0);
}

/* "2 MiB, 1 GiB": the sizes that there are pools of. */
static void pool_sizes(char *buf, size_t size)
{
	struct dirent **names;
	char text[SIZE_TEXT_MAX];
	uint64_t kib;
	size_t len = 0;
	int count = scandir(POOLS, &names, NULL, versionsort);

	buf[0] = '\0';
	for (int i = 0; i < count; i++) {
		if (sscanf(names[i]->d_name, "hugepages-%" SCNu64 "kB", &kib) == 1 && len < size)
			len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
						size_format(kib * KIB, text));
		free(names[i]);
	}
	if (count >= 0)
		free(names);
	if (!len)
		snprintf(buf, size, "none");
}

int memdev_pool_check(const struct memdev *m, struct err **err)
{
	char what[MEMDEV_WHAT_MAX], folder[POOL_PATH_MAX], page[SIZE_TEXT_MAX], sizes[256];
	DIR *dir = opendir(pool_path(m->page_bytes, folder));

	if (dir) {
		closedir(dir);
		return 0;
	}
	pool_sizes(sizes, sizeof(sizes));
	return err_set(err, ENOENT, "%s: the host has no huge pages of %s; allowed: %s",
		       memdev_what(m, what), size_format(m->page_bytes, page), sizes);
}

int memdev_pool_failed(const struct memdev *m, int code, struct err **err)
{
	char what[MEMDEV_WHAT_MAX], folder[POOL_PATH_MAX], page[SIZE_TEXT_MAX];
	uint64_t wanted = m->size / m->page_bytes, there = pool_free_pages(m->page_bytes);

	memdev_what(m, what);
	size_format(m->page_bytes, page);
	pool_path(m->page_bytes, folder);
	if (there >= wanted)
		return err_set(err, code,
			       "%s: its %" PRIu64 " huge pages of %s cannot be had: %s; the pool "
			       "has enough, a limit of the control group, of the mounted hugetlbfs "
			       "or of the nodes does not",
			       what, wanted, page, strerror(code));
	return err_set(err, code,
		       "%s: needs %" PRIu64 " huge pages of %s, but the host has %" PRIu64
		       " that are free; it gets more by writing their number to %s/nr_hugepages",
		       what, wanted, page, there, folder);
}
