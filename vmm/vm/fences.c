/* SPDX-License-Identifier: BSD-3-Clause */
/* How memory devices share the host's mappings: see fences.h for the contract. */
#include "vmm/vm/fences.h"

#include "base/num.h"

#define FENCES_WHOLE (UINT64_C(1) << 32)

uint32_t fences_at_start(size_t nr, bool more)
{
	return (uint32_t)num_max(more ? 2 * nr : nr, 1);
}

uint32_t fences_later(const uint32_t *parts, size_t nr)
{
	uint64_t left = FENCES_WHOLE;

	for (size_t i = 0; i < nr; i++)
		left -= num_min(left, FENCES_WHOLE / parts[i]);
	left /= 2;
	if (left < FENCES_WHOLE / FENCES_MAX)
		return FENCES_MAX;
	/* Rounded up, so that it is not more than that. */
	return (uint32_t)((FENCES_WHOLE + left - 1) / left);
}
