/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Structures under construction: smbios_tables.c says what is in them, smbios.c how they are laid.
 *
 * I1  Between smbios_open() and smbios_close() exactly the length's bytes are put into `bytes`.
 * I2  When memory is out the packs stay failed; smbios_image_build() looks once, at the end.
 */
#ifndef VMM_MACHINE_SMBIOS_INT_H
#define VMM_MACHINE_SMBIOS_INT_H

#include "base/pack.h"
#include "vmm/machine/smbios.h"

/* All zero is the empty one. */
struct smbios_structures {
	struct pack bytes;
	struct pack texts; /* of the open structure */
	uint8_t nr_texts;
	size_t start;          /* of the open structure */
	size_t count, longest; /* of those that are closed; longest in bytes */
};

void smbios_open(struct smbios_structures *s, uint8_t type, uint8_t length, uint16_t handle);
/* A text behind the structure; returns its number. */
uint8_t smbios_add_text(struct smbios_structures *s, const char *text);
/* The same, and put the number; of NULL and "" that is 0. */
void smbios_put_text(struct smbios_structures *s, const char *text);
void smbios_close(struct smbios_structures *s);

/* All but those out of files and the end. */
void smbios_put_all(struct smbios_structures *s, const struct smbios_config *config);

#endif
