/* SPDX-License-Identifier: BSD-3-Clause */
/* What devices need from the hypervisor: the parts that every implementation shares. See hv.h. */
#include "vmm/core/hv.h"

#include <unistd.h>

void hv_msi_trigger(const struct hv_msi *msi)
{
	uint64_t one = 1;
	ssize_t n;

	/* An eventfd refuses only when its counter is full: the interrupt is pending anyway. */
	n = write(msi->fd, &one, sizeof(one));
	(void)n;
}
