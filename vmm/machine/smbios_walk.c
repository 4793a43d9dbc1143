/* SPDX-License-Identifier: BSD-3-Clause */
/* The size of a structure: see smbios.h. */
#include "vmm/machine/smbios.h"

size_t smbios_structure_size(const uint8_t *bytes, size_t size)
{
	size_t at;

	if (size < SMBIOS_HEADER_SIZE || bytes[SMBIOS_LENGTH] < SMBIOS_HEADER_SIZE)
		return 0;
	/* Texts end with one zero each, and all of them with one more; without any there are two. */
	for (at = bytes[SMBIOS_LENGTH]; at < size && size - at >= 2; at++) {
		if (!bytes[at] && !bytes[at + 1])
			return at + 2;
	}
	return 0;
}
