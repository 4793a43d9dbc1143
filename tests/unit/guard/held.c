/* SPDX-License-Identifier: BSD-3-Clause */
/* See held.h. */
#include "tests/unit/guard/held.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/num.h"

#define PAGE              4096
#define PAGEMAP_EXCLUSIVE (UINT64_C(1) << 56)
#define PAGEMAP_SWAPPED   (UINT64_C(1) << 62)
#define PAGEMAP_PRESENT   (UINT64_C(1) << 63)

uint64_t held_pages(const void *memory, uint64_t size, bool shared)
{
	uint64_t entry[512], pages = 0, first = (uintptr_t)memory / PAGE;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	for (uint64_t i = 0; i < size / PAGE;) {
		size_t want = num_min(ARRAY_SIZE(entry), size / PAGE - i) * sizeof(entry[0]);

		assert_int_equal(pread(fd, entry, want, (off_t)((first + i) * sizeof(entry[0]))),
				 want);
		for (size_t k = 0; k < want / sizeof(entry[0]); k++, i++)
			pages += (entry[k] & PAGEMAP_SWAPPED) ||
				 ((entry[k] & PAGEMAP_PRESENT) &&
				  (shared || (entry[k] & PAGEMAP_EXCLUSIVE)));
	}
	close(fd);
	return pages;
}
