/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kinds of pages share: see pages.h. */
#include "guard/pages.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/num.h"

#define PAGES_MAP_COUNT 65530 /* vm.max_map_count where it cannot be read: the kernel's default */

int pages_error(struct vmem_error *error, int code, const char *format, ...)
{
	va_list args;

	if (error) {
		va_start(args, format);
		vsnprintf(error->text, sizeof(error->text), format, args);
		va_end(args);
	}
	return -code;
}

uint64_t pages_page_size(int fd)
{
	struct statfs fs;

	if (fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC)
		return (uint64_t)fs.f_bsize;
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

uint32_t pages_fence_budget(const struct pages_config *config)
{
	char text[32] = "";
	unsigned long count = 0;
	int fd;

	if (config->max_fences)
		return config->max_fences;
	fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, text, sizeof(text) - 1) > 0)
			count = strtoul(text, NULL, 10);
		close(fd);
	}
	if (!count)
		count = PAGES_MAP_COUNT;
	return (uint32_t)num_min(count / 4 / num_max(config->nr_guards, 1), UINT32_MAX);
}
