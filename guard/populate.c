/* SPDX-License-Identifier: BSD-3-Clause */
/* Faulting memory in ahead of its use: see pages.h. */
#include <errno.h>
#include <sys/mman.h>

#include "guard/pages.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

int pages_populate_run(char *memory, uint64_t size, unsigned int threads)
{
	(void)threads;
	while (madvise(memory, size, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINTR)
			continue;
		/* A touch would be a SIGBUS: there is no page to be had, of huge pages above all. */
		return errno == EFAULT ? -ENOMEM : -errno;
	}
	return 0;
}
