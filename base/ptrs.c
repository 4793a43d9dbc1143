/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of pointers: see ptrs.h for the contract. */
#include "base/ptrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ptrs_add(void *list, size_t *nr, void *item)
{
	void ***base = list;
	void **grown = reallocarray(*base, *nr + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	grown[(*nr)++] = item;
	*base = grown;
	return 0;
}

void ptrs_remove(void *list, size_t *nr, const void *item)
{
	void **items = *(void ***)list;

	for (size_t i = 0; i < *nr; i++) {
		if (items[i] != item)
			continue;
		(*nr)--;
		memmove(items + i, items + i + 1, (*nr - i) * sizeof(*items));
		return;
	}
}
